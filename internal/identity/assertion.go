package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/sha1" // x5t is a SHA-1 name of a registered certificate; nothing rests on its strength
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// maxAssertionLife is how far ahead the expiry of a client assertion may lie. The clients' own is ten minutes.
const maxAssertionLife = 24 * time.Hour

// ErrBadAssertion is wrapped by the refusal of a client assertion.
var ErrBadAssertion = errors.New("identity: client assertion refused")

// ErrNoFederatedCredential means that the assertion is in order but the application does not trust its subject.
var ErrNoFederatedCredential = errors.New("identity: no matching federated credential")

// PeekAssertion returns iss and sub of a client assertion without verifying anything, so that the token service can tell
// an assertion that the application signed itself (both are its client id) from a federated one.
func PeekAssertion(assertion string) (issuer, subject string, err error) {
	t, err := parseAssertion(assertion)
	if err != nil {
		return "", "", badAssertion("not a well-formed signed JWT")
	}
	if issuer, err = t.claims.text("iss"); err != nil {
		return "", "", badAssertion("iss is not a string")
	}
	if subject, err = t.claims.text("sub"); err != nil {
		return "", "", badAssertion("sub is not a string")
	}
	return issuer, subject, nil
}

func badAssertion(why string) error { return fmt.Errorf("%w: %s", ErrBadAssertion, why) }

// VerifyCertificateAssertion verifies an assertion that an application signed with the key of a registered certificate
// (RFC 7523 section 3, in the spellings of the MSAL libraries) and returns the application and the credential's id.
// acceptsAudience says whether aud names the token service.
//
// A repeated jti is not refused: the clients' HTTP layers send the very same request again after a timeout or a 5xx, so
// a memory of jti would break honest retries and stop nobody who can read TLS traffic.
func (d *Directory) VerifyCertificateAssertion(
	ctx context.Context, clientID, assertion string, acceptsAudience func(string) bool,
) (app *Application, credentialID string, err error) {
	t, err := parseAssertion(assertion)
	if err != nil {
		return nil, "", badAssertion("not a well-formed signed JWT")
	}
	record, err := d.find(ctx, clientID)
	if isKind(err, NotFound) || isKind(err, Invalid) {
		return nil, "", ErrUnknownApplication
	}
	if err != nil {
		return nil, "", err
	}
	credential, err := d.verifyAssertion(t, record)
	if err != nil {
		return nil, "", err
	}
	if err := d.checkAssertionClaims(t, record.ClientID, acceptsAudience); err != nil {
		return nil, "", err
	}
	return record.public(), credential.ID, nil
}

// parseAssertion is parseToken for an assertion that an application signed. Python's asynchronous clients leave the padding
// on each segment and sign it with the rest, so the signature is checked over the text as it was sent.
func parseAssertion(assertion string) (*signedToken, error) {
	parts := strings.Split(assertion, ".")
	if len(parts) != maxJWTSegments {
		return nil, errMalformed
	}
	asSent := parts[0] + "." + parts[1]
	for i, part := range parts {
		trimmed := strings.TrimRight(part, "=")
		if n := len(part) - len(trimmed); n > 2 || n > 0 && len(part)%4 != 0 {
			return nil, errMalformed
		}
		parts[i] = trimmed
	}
	t, err := parseToken(strings.Join(parts, "."))
	if err != nil {
		return nil, err
	}
	t.asSent = asSent
	return t, nil
}

// verifyAsSent checks an RS256 or PS256 signature (RFC 7518 sections 3.3 and 3.5).
func (t *signedToken) verifyAsSent(key crypto.PublicKey) error {
	public, ok := key.(*rsa.PublicKey)
	if !ok || !usableRSA(public) {
		return errors.New("identity: key does not fit the algorithm")
	}
	signature, err := decodeBase64(t.compact[strings.LastIndexByte(t.compact, '.')+1:])
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(t.asSent))
	switch jose.SignatureAlgorithm(t.alg) {
	case jose.RS256:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature)
	case jose.PS256:
		return rsa.VerifyPSS(public, crypto.SHA256, sum[:], signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	}
	return fmt.Errorf("identity: algorithm %s is not accepted", echo(t.alg))
}

// verifyAssertion finds the certificate that the header names and checks the signature with it.
func (d *Directory) verifyAssertion(t *signedToken, record *appRecord) (*credentialRecord, error) {
	names, err := t.certificateNames()
	if err != nil {
		return nil, err
	}
	for i := range record.Credentials {
		c := &record.Credentials[i]
		if c.Type != CredentialCertificate || !names.match(c.Certificate) {
			continue
		}
		parsed, err := x509.ParseCertificate(c.Certificate)
		if err != nil {
			return nil, fmt.Errorf("identity: a certificate in the store is damaged: %w", err)
		}
		if now := d.now(); now.Before(parsed.NotBefore.Add(-clockLeeway)) || !now.Before(parsed.NotAfter) {
			return nil, badAssertion("the certificate is outside its validity")
		}
		if err := t.verifyAsSent(parsed.PublicKey); err != nil {
			return nil, badAssertion("the signature is not valid")
		}
		return c, nil
	}
	return nil, badAssertion("the application has no certificate of this thumbprint")
}

// certificateNames are the ways in which a header may say which registered certificate signed. All that are present
// must agree. They only select; the key is always the registered one.
type certificateNames struct {
	sha256 []byte
	sha1   []byte
	leaf   []byte
	kid    string
}

func (t *signedToken) certificateNames() (n certificateNames, err error) {
	if n.sha256, err = t.thumbprint("x5t#S256", sha256.Size); err != nil {
		return n, err
	}
	if n.sha1, err = t.thumbprint("x5t", sha1.Size); err != nil {
		return n, err
	}
	if n.leaf, err = t.leaf(); err != nil {
		return n, err
	}
	n.kid = t.kid
	if n.sha256 == nil && n.sha1 == nil && n.leaf == nil && n.kid == "" {
		return n, badAssertion("the header names no certificate")
	}
	return n, nil
}

func (n *certificateNames) match(der []byte) bool {
	long := sha256.Sum256(der)
	var short [sha1.Size]byte
	fips140.WithoutEnforcement(func() { short = sha1.Sum(der) }) // a name, as above
	if n.sha256 == nil && n.sha1 == nil && n.leaf == nil {
		return kidNames(n.kid, long[:]) || kidNames(n.kid, short[:])
	}
	return (n.sha256 == nil || bytes.Equal(n.sha256, long[:])) &&
		(n.sha1 == nil || bytes.Equal(n.sha1, short[:])) &&
		(n.leaf == nil || bytes.Equal(n.leaf, der))
}

// kidNames reports whether kid is the thumbprint in hexadecimal or base64.
func kidNames(kid string, sum []byte) bool {
	if raw, err := hex.DecodeString(kid); err == nil && bytes.Equal(raw, sum) {
		return true
	}
	raw, ok := anyBase64(kid)
	return ok && bytes.Equal(raw, sum)
}

func (t *signedToken) thumbprint(name string, size int) ([]byte, error) {
	s, err := t.header.text(name)
	if err != nil {
		return nil, badAssertion(name + " is not a string")
	}
	if s == "" {
		return nil, nil
	}
	raw, ok := anyBase64(s)
	if !ok || len(raw) != size {
		return nil, badAssertion(name + " is not a thumbprint")
	}
	return raw, nil
}

// anyBase64 accepts both alphabets with and without padding: MSAL for Go writes x5t#S256 in the standard alphabet,
// MSAL for JavaScript in the URL's, MSAL for Python pads x5t.
func anyBase64(s string) ([]byte, bool) {
	if len(s) > maxKeyID || strings.ContainsAny(s, "\r\n") {
		return nil, false
	}
	s = strings.NewReplacer("-", "+", "_", "/").Replace(strings.TrimRight(s, "="))
	raw, err := base64.RawStdEncoding.Strict().DecodeString(s)
	return raw, err == nil
}

// leaf returns the end-entity certificate of x5c, a list in standard base64 (RFC 7515 section 4.1.6).
func (t *signedToken) leaf() ([]byte, error) {
	const most = 10
	chain, err := t.header.texts("x5c", most)
	if err != nil || chain != nil && len(chain) == 0 {
		return nil, badAssertion("x5c is not a chain of certificates")
	}
	if chain == nil {
		return nil, nil
	}
	der, err := base64.StdEncoding.DecodeString(chain[0])
	if err != nil || len(der) == 0 {
		return nil, badAssertion("x5c is not a chain of certificates")
	}
	return der, nil
}

func (d *Directory) checkAssertionClaims(t *signedToken, clientID string, acceptsAudience func(string) bool) error {
	for _, name := range []string{"iss", "sub"} {
		if s, err := t.claims.text(name); err != nil || !strings.EqualFold(s, clientID) {
			return badAssertion(name + " is not the client id")
		}
	}
	const most = 8
	list, err := t.claims.texts("aud", most)
	if err != nil || !slices.ContainsFunc(list, acceptsAudience) {
		return badAssertion("aud is not this token service")
	}
	life, err := t.claims.readDates().validity()
	if err != nil {
		return badAssertion("exp is missing, or one of exp, nbf and iat is not a date")
	}
	if err := life.check(d.now(), maxAssertionLife); err != nil {
		return badAssertion(err.Error())
	}
	return nil
}

// readDates returns the claims with dates as numbers that stand there as texts: MSAL.NET writes those of its assertions so.
func (m members) readDates() members {
	m = maps.Clone(m)
	for _, name := range []string{"iat", "nbf", "exp"} {
		if text, err := m.text(name); err == nil && text != "" {
			m[name] = json.RawMessage(text)
		}
	}
	return m
}

// VerifyFederatedAssertion verifies an assertion of an outside issuer and returns the application and the credential
// that trust its issuer, subject and audience, each compared exactly. Which issuers are asked at all is configuration of
// the token service; that an application names one does not make it trusted.
func (d *Directory) VerifyFederatedAssertion(
	ctx context.Context, clientID, assertion string, issuer *ExternalIssuer,
) (app *Application, credentialID string, err error) {
	record, err := d.find(ctx, clientID)
	if isKind(err, NotFound) || isKind(err, Invalid) {
		return nil, "", ErrUnknownApplication
	}
	if err != nil {
		return nil, "", err
	}
	a, err := issuer.verifyAssertion(ctx, assertion)
	if err != nil {
		if refusal, ok := errors.AsType[*TokenError](err); ok {
			return nil, "", badAssertion(refusal.Message)
		}
		return nil, "", err
	}
	for _, c := range record.Credentials {
		if c.Type == CredentialFederated && c.Issuer == a.issuer && c.Subject == a.subject &&
			slices.Contains(a.audiences, c.Audience) {
			return record.public(), c.ID, nil
		}
	}
	return nil, "", ErrNoFederatedCredential
}
