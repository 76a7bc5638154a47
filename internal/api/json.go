package api

import (
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/strongroom/strongroom/internal/wire"
)

// maxMembers bounds the members and elements of a request's JSON.
const maxMembers = 1024

// A response is an answer ready to be sent; a nil body is none.
type response struct {
	status int
	body   []byte
}

func jsonResponse(status int, v any) (response, error) {
	body, err := wire.Marshal(v)
	return response{status, body}, err
}

// body reads and parses the request's body, which must be one JSON object.
func (q *request) body() (wire.Object, error) {
	// Nothing is read of who may not ask. The operation itself decides again.
	if err := q.service.Authorize(q.ctx, q.caller, q.vault, q.route.Operation, q.params.name); err != nil {
		return wire.Object{}, err
	}
	return q.readBody()
}

// readBody is body for who has asked already whether the caller may.
func (q *request) readBody() (wire.Object, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, q.route.MaxBody))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return wire.Object{}, &wireError{http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "",
			fmt.Sprintf("The request's body is longer than the %d bytes that are allowed here.", q.route.MaxBody)}
	}
	if err != nil {
		return wire.Object{}, &wireError{http.StatusBadRequest, "BadParameter", "", "The request's body did not arrive completely."}
	}
	return wire.ParseObject(raw, maxMembers)
}
