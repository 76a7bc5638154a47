// Package release decides whether a key may leave the vault, for whom it is wrapped, and what the signed answer says:
// Azure's secure key release. It knows no vault, no storage and no route.
//
// A release needs three things to agree. A Policy, which belongs to the key, names attestation authorities and what each
// must claim about a target. A token, which the target brings, is such an authority's signed statement (JWT, RFC 7519, in
// a compact JWS, RFC 7515); a Verifier checks it with keys from the authority's OpenID metadata (OpenID Connect
// Discovery 1.0, RFC 7517). And the token carries the public key that the released key is wrapped for, so that whoever
// else sees the answer learns nothing. A Signer makes the answer, a JWS that names the request and holds the wrapped key.
//
// Trust: whoever may write a policy chooses its authorities, so their word alone must not make the server connect
// anywhere. A Verifier therefore has a list, which the operator keeps, and contacts nothing outside of it. A listed
// authority is trusted for the claims of the tokens that it signs and for the keys that it serves over TLS. Nothing in a
// token is believed before its signature was checked, except the issuer's name, which selects the keys, and the times,
// which can only refuse it.
package release

import (
	"crypto"
	"fmt"
	"strings"
	"unicode"
)

// A Kind is why there is no release.
type Kind int

// The kinds of refusal.
const (
	BadPolicy   Kind = iota + 1 // the policy is not one that can be kept
	BadToken                    // the token is malformed, expired, of another issuer, or not signed as it must be
	NotListed                   // the token's authority is not on the operator's list
	Unreachable                 // the authority's keys could not be had; the same token may do later
	NotMet                      // the token is good, but not what the policy demands
	BadKey                      // the token has no key that the released one could be wrapped for
	BadInput                    // the request asks for a wrapping that does not exist
)

// An Error is a refusal. Message is for the caller: it holds a bounded part of the policy or of the token's issuer at
// most, never a claim's value. The cause, if there is one, is for the log.
type Error struct {
	Kind    Kind
	Message string
	cause   error
}

func (e *Error) Error() string {
	if e.cause != nil {
		return "release: " + e.Message + " (" + e.cause.Error() + ")"
	}
	return "release: " + e.Message
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.cause }

func errorf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Message: fmt.Sprintf(format, args...)}
}

// The ways to wrap a released key, as in the request's "enc". All are PKCS #11's CKM_RSA_AES_KEY_WRAP and differ in the
// hash of RSA-OAEP.
const (
	WrapSHA1   = "CKM_RSA_AES_KEY_WRAP" // where the request does not say
	WrapSHA256 = "RSA_AES_KEY_WRAP_256"
	WrapSHA384 = "RSA_AES_KEY_WRAP_384"
)

// Wrapping returns the way to wrap that the request's enc names and the hash for its RSA-OAEP. An empty enc is WrapSHA1.
func Wrapping(enc string) (name string, hash crypto.Hash, err error) {
	switch enc {
	case "", WrapSHA1:
		return WrapSHA1, crypto.SHA1, nil
	case WrapSHA256:
		return enc, crypto.SHA256, nil
	case WrapSHA384:
		return enc, crypto.SHA384, nil
	}
	return "", 0, errorf(BadInput, "The encryption algorithm must be %s, %s or %s.", WrapSHA1, WrapSHA256, WrapSHA384)
}

// echo returns a bounded, printable form of text that somebody else chose.
func echo(s string) string {
	const most = 80
	r := []rune(strings.ToValidUTF8(s[:min(len(s), 4*most)], "?"))
	cut := len(r) > most || len(s) > 4*most
	r = r[:min(len(r), most)]
	for i, c := range r {
		if c == '\'' || !unicode.IsPrint(c) {
			r[i] = '?'
		}
	}
	if cut {
		return string(r) + "..."
	}
	return string(r)
}
