// Package identity says who is calling. It turns a bearer token into a Caller, keeps the directory of principals
// (applications and managed identities) and their credentials, and owns the signing keys of the embedded issuer.
//
// It implements the receiving side of JWT (RFC 7519) over JWS compact serialisation (RFC 7515) under the rules of
// RFC 8725: algorithm and key are pinned by the issuer that was configured, never taken from the token; keys of outside
// issuers come from OpenID Connect Discovery 1.0 and JWK sets (RFC 7517). Client assertions follow RFC 7523.
//
// Trust: the store is trusted to be whole and secret (its driver seals values). A configured outside issuer is trusted
// for its own principals only. If it is Entra, these are the principals of the tenant that it was configured for, except
// those that the directory here holds or held. The principals of any other issuer get object ids that are derived from
// issuer and subject, whatever its tokens say. Nothing in a token is trusted before its signature was checked, apart from
// the issuer name, which selects the keys.
package identity

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A Caller is a principal whose token was verified. It holds no token. A Caller is shared by all requests that carry
// the same token, so nobody may modify it.
type Caller struct {
	TenantID     string    // the tenant that the issuer was configured for
	ObjectID     string    // the principal that role assignments and access policies name
	AppID        string    // client id of the application, if the token names one
	Issuer       string    // exactly as in the token
	Subject      string    // the token's sub
	UPN          string    // user principal name, only from outside issuers
	Groups       []string  // object ids of groups, at most MaxGroups; never to be compared with those of principals
	IdentityType string    // "app" or "user"
	Audience     string    // the accepted audience of the token, so that a plane can refuse another plane's tokens
	TokenID      string    // uti or jti, for the audit record
	ResourceID   string    // xms_mirid of a managed identity
	IssuedAt     time.Time // zero if the token does not say
	Expires      time.Time
}

// Principal names the principal among those of all tenants.
func (c *Caller) Principal() string { return c.TenantID + "/" + c.ObjectID }

// MaxGroups bounds the groups taken from a token; a token with more is refused, since dropping some would change what
// its bearer may do.
const MaxGroups = 256

// A TokenError says why a bearer token was refused. Its message is meant for the caller: it holds a bounded part of the
// token's claims at most, never the token.
type TokenError struct {
	Code    string // such as AKV10022
	Message string // starts with a capital letter and ends with a full stop
}

// Error returns code and message in the form that the service puts on the wire.
func (e *TokenError) Error() string { return e.Code + ": " + e.Message }

// Codes of a TokenError.
const (
	CodeMalformed  = "AKV10001" // not a JWT of the accepted form
	CodeSignature  = "AKV10002" // unknown key, forbidden algorithm or wrong signature
	CodeExpired    = "AKV10003" // expired, not yet valid, or a lifetime beyond reason
	CodeTenant     = "AKV10004" // tenant is not the one configured for the issuer
	CodeClaims     = "AKV10005" // a claim is missing or has the wrong type
	CodePrincipal  = "AKV10006" // the principal no longer exists
	CodeAudience   = "AKV10022"
	CodeIssuer     = "AKV10032"
	maxEcho        = 128 // bytes of a claim that a message may repeat
	maxIdentifier  = 256 // bytes of an identifier taken from a token
	clockLeeway    = 60 * time.Second
	maxBearer      = 16 << 10
	maxJWTSegments = 3
)

func tokenErrorf(code, format string, args ...any) *TokenError {
	return &TokenError{Code: code, Message: fmt.Sprintf(format, args...)}
}

// echo returns a bounded, printable form of text that an attacker may have chosen.
func echo(s string) string {
	if !utf8.ValidString(s) {
		return "(not text)"
	}
	cut := false
	if len(s) > maxEcho {
		s, cut = s[:maxEcho], true
		for !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	s = strings.Map(func(r rune) rune {
		if r == '"' || r == '\\' || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	if cut {
		s += "..."
	}
	return s
}

// Kind classifies an Error of the directory.
type Kind int

// Kinds of an Error.
const (
	NotFound Kind = iota + 1
	Invalid
	Conflict
)

func (k Kind) String() string {
	switch k {
	case NotFound:
		return "not found"
	case Invalid:
		return "invalid"
	case Conflict:
		return "conflict"
	}
	return "unknown"
}

// An Error is a refusal by the directory or the key set that the caller can do something about. Failures of the store
// are not of this type.
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return "identity: " + e.Message }

func errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// IsNotFound reports whether err is an Error of kind NotFound.
func IsNotFound(err error) bool { return isKind(err, NotFound) }

func isKind(err error, kind Kind) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Kind == kind
}

// A Secret is text that must not reach a log or an error. It prints as REDACTED through fmt, slog and JSON.
type Secret struct{ text string }

// NewSecret wraps text.
func NewSecret(text string) Secret { return Secret{text} }

// Reveal returns the text. Whoever calls it is responsible for where it goes.
func (s Secret) Reveal() string { return s.text }

const redacted = "REDACTED"

func (Secret) String() string               { return redacted }
func (Secret) GoString() string             { return redacted }
func (Secret) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (Secret) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

var (
	_ fmt.Formatter  = Secret{}
	_ slog.LogValuer = Secret{}
	_ error          = (*TokenError)(nil)
	_ error          = (*Error)(nil)
)
