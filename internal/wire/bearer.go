package wire

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/strongroom/strongroom/internal/identity"
)

// ErrNoToken is a request without exactly one bearer token.
var ErrNoToken = errors.New("the request has no bearer token")

// Authenticate checks the bearer token of a request, which a plane does before it looks at anything else of it. The error is
// ErrNoToken, an *identity.TokenError or an *UnjudgedError.
func Authenticate(ctx context.Context, verifier *identity.Verifier, r *http.Request) (*identity.Caller, error) {
	headers := r.Header["Authorization"]
	if len(headers) != 1 {
		return nil, ErrNoToken
	}
	scheme, token, ok := strings.Cut(headers[0], " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || token == "" {
		return nil, ErrNoToken
	}
	caller, err := verifier.Verify(ctx, token)
	var refused *identity.TokenError
	if err != nil && !errors.As(err, &refused) {
		return nil, &UnjudgedError{err}
	}
	return caller, err
}

// An UnjudgedError is a failure to find out whether a token is good: its issuer or the store cannot be reached.
type UnjudgedError struct{ err error }

func (e *UnjudgedError) Error() string { return "the token could not be judged: " + e.err.Error() }
func (e *UnjudgedError) Unwrap() error { return e.err }
