package api

import (
	"errors"
	"strings"

	"github.com/strongroom/strongroom/internal/identity"
)

// authenticate checks the bearer token, before anything else of the request is looked at.
func (q *request) authenticate() (*identity.Caller, error) {
	headers := q.r.Header["Authorization"]
	if len(headers) != 1 {
		return nil, errUnauthorized
	}
	scheme, token, ok := strings.Cut(headers[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, errUnauthorized
	}
	caller, err := q.h.cfg.Verifier.Verify(q.ctx, token)
	var refused *identity.TokenError
	if err != nil && !errors.As(err, &refused) {
		return nil, &unjudgedError{err}
	}
	return caller, err
}

// An unjudgedError is a failure to find out whether a token is good: its issuer or the store cannot be reached.
type unjudgedError struct{ err error }

func (e *unjudgedError) Error() string { return "the token could not be judged: " + e.err.Error() }
func (e *unjudgedError) Unwrap() error { return e.err }

// challenge tells the client where to get a token and for what (contract §15.2). Every client parses it by its own rules:
// one scheme, every value quoted, pairs separated by a comma and one space, no trailing slashes, and the port in
// the resource exactly when it is in the caller's URL.
func (q *request) challenge() string {
	resource := "https://" + q.suffix
	if q.suffix == "" { // the host named no vault
		resource = "https://" + q.h.cfg.Suffixes[0]
	}
	if q.port != "" {
		resource += ":" + q.port
	}
	return `Bearer authorization="` + q.h.cfg.Authority(q.port) + `", resource="` + resource + `"`
}
