package arm

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/wire"
)

// Bounds of bodies. A vault has 1024 access policies of up to some 70 members and elements, or 1000 IP rules.
const (
	maxBody    = 1 << 20
	maxMembers = 100_000
	smallBody  = 64 << 10
)

func sprintf(format string, args ...any) string { return fmt.Sprintf(format, args...) }

// A response is an answer ready to be sent; a nil body is none.
type response struct {
	status   int
	body     []byte
	location string // of what becomes of a long operation
}

func reply(status int, v any) (response, error) {
	body, err := wire.Marshal(v)
	return response{status: status, body: body}, err
}

// saved answers a PUT with what it has made or changed.
func saved(created bool, v any) (response, error) {
	if created {
		return reply(http.StatusCreated, v)
	}
	return reply(http.StatusOK, v)
}

// deleted answers a DELETE, without a body.
func deleted(existed bool) (response, error) {
	if existed {
		return response{status: http.StatusOK}, nil
	}
	return response{status: http.StatusNoContent}, nil
}

// body reads and parses the request's body, which must be one JSON object.
func (q *request) body() (wire.Object, error) {
	raw, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, q.route.MaxBody))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return wire.Object{}, &wireError{status: http.StatusRequestEntityTooLarge, code: "RequestEntityTooLarge",
			message: sprintf("The request's body is longer than the %d bytes that are allowed here.", q.route.MaxBody)}
	}
	if err != nil {
		return wire.Object{}, badRequest("The request's body did not arrive completely.")
	}
	return wire.ParseObject(raw, maxMembers)
}

// properties reads the body and, of it, the member in which resources keep what is their own. It may be missing.
func (q *request) properties() (body, properties wire.Object, err error) {
	if body, err = q.body(); err != nil {
		return body, properties, err
	}
	properties, _, err = body.Object("properties")
	return body, properties, err
}

type list[T any] struct {
	Value    []T     `json:"value"`
	NextLink *string `json:"nextLink,omitempty"`
}

// Pages are as large as Resource Manager's are at most.
const maxPage = 1000

// page answers with the part of a list that the request asks for: $top elements, from $skiptoken on. The token is the key of
// the last element that was shown, so that none is left out if others come or go meanwhile. Keys are unique.
func page[T, W any](q *request, all []T, key func(T) string, show func(T) W) (response, error) {
	top, err := q.top()
	if err != nil {
		return response{}, err
	}
	after, err := q.skipToken()
	if err != nil {
		return response{}, err
	}
	byKey := func(a, b T) int { return strings.Compare(key(a), key(b)) }
	all = slices.SortedFunc(slices.Values(all), byKey)
	from := 0
	for from < len(all) && key(all[from]) <= after {
		from++
	}
	all = all[from:]
	out := list[W]{Value: make([]W, 0, min(top, len(all)))}
	for _, v := range all[:min(top, len(all))] {
		out.Value = append(out.Value, show(v))
	}
	if top < len(all) {
		link := q.next(key(all[top-1]))
		out.NextLink = &link
	}
	return reply(http.StatusOK, out)
}

func (q *request) top() (int, error) {
	if !q.query.Has("$top") {
		return maxPage, nil
	}
	n, err := strconv.Atoi(q.query.Get("$top"))
	if err != nil || n < 1 {
		return 0, badRequest("The query parameter $top must be a whole number from 1 on.")
	}
	return min(n, maxPage), nil
}

func (q *request) skipToken() (string, error) {
	key, err := base64.RawURLEncoding.DecodeString(q.query.Get("$skiptoken"))
	if err != nil {
		return "", badRequest("The query parameter $skiptoken was not made by this service.")
	}
	return string(key), nil
}

// next is the URL of the page that begins after a key.
func (q *request) next(after string) string {
	query := maps.Clone(q.query)
	query.Set("$skiptoken", base64.RawURLEncoding.EncodeToString([]byte(after)))
	return q.base + q.r.URL.EscapedPath() + "?" + query.Encode()
}

// date writes a time as Key Vault's resources do, precise as those of everything else.
func date(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02T15:04:05Z") }

func precise(unix int64) string { return time.Unix(unix, 0).UTC().Format("2006-01-02T15:04:05.000Z") }

// systemData says who made a resource and who changed it.
type systemData struct {
	CreatedBy          string `json:"createdBy,omitempty"`
	CreatedByType      string `json:"createdByType,omitempty"`
	CreatedAt          string `json:"createdAt"`
	LastModifiedBy     string `json:"lastModifiedBy,omitempty"`
	LastModifiedByType string `json:"lastModifiedByType,omitempty"`
	LastModifiedAt     string `json:"lastModifiedAt"`
}

// tagsOf keeps an empty map from becoming null.
func tagsOf(tags map[string]string) map[string]string {
	if tags == nil {
		return map[string]string{}
	}
	return tags
}
