package identity

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

// Bounds of one JSON object in a token.
const (
	maxMembers = 128
	maxDepth   = 8
	minRSABits = 2048
	maxRSABits = 8192
	maxKeyID   = 256
)

// errMalformed is what a caller learns about a token that is not a well-formed JWT; the detail would only help to forge.
var errMalformed = errors.New("identity: not a well-formed signed token")

// members is a JSON object whose names are unique. Values keep their JSON text, so that a wrong type is seen as wrong.
type members map[string]json.RawMessage

// A signedToken is a parsed JWS whose signature was not checked yet.
type signedToken struct {
	compact string
	asSent  string // of an assertion: header and claims with the padding that the client left on them
	header  members
	claims  members
	alg     string
	kid     string
}

// parseToken takes a compact JWS apart. go-jose would do the signature's part, but it decodes base64 leniently (line
// breaks, stray trailing bits), honours b64, and has no bound on members; so the form is checked here first.
func parseToken(compact string) (*signedToken, error) {
	if len(compact) == 0 || len(compact) > maxBearer {
		return nil, errMalformed
	}
	parts := strings.SplitN(compact, ".", maxJWTSegments+1)
	if len(parts) != maxJWTSegments || parts[2] == "" {
		return nil, errMalformed
	}
	t := &signedToken{compact: compact}
	var err error
	if t.header, err = decodeSegment(parts[0]); err != nil {
		return nil, err
	}
	if t.claims, err = decodeSegment(parts[1]); err != nil {
		return nil, err
	}
	if _, err = decodeBase64(parts[2]); err != nil {
		return nil, err
	}
	return t, t.readHeader()
}

// readHeader takes alg and kid and refuses what would change the meaning of the signature.
func (t *signedToken) readHeader() error {
	for _, name := range []string{"crit", "b64", "enc", "zip", "cty"} {
		if _, found := t.header[name]; found {
			return errMalformed
		}
	}
	var err error
	if t.alg, err = t.header.text("alg"); err != nil || t.alg == "" {
		return errMalformed
	}
	if t.kid, err = t.header.text("kid"); err != nil || len(t.kid) > maxKeyID {
		return errMalformed
	}
	typ, err := t.header.text("typ")
	if err != nil || !acceptedType(typ) {
		return errMalformed
	}
	return nil
}

// acceptedType refuses tokens that say that they are something else, such as a DPoP proof or a security event.
func acceptedType(typ string) bool {
	return typ == "" || strings.EqualFold(typ, "JWT") || strings.EqualFold(typ, "at+jwt")
}

// verify checks the signature with one key whose kind fits the algorithm; both come from configuration.
func (t *signedToken) verify(key crypto.PublicKey, algorithms []jose.SignatureAlgorithm) error {
	alg := jose.SignatureAlgorithm(t.alg)
	if !slices.Contains(algorithms, alg) {
		return fmt.Errorf("identity: algorithm %s is not accepted", echo(t.alg))
	}
	if !keyFits(key, alg) {
		return errors.New("identity: key does not fit the algorithm")
	}
	// Only the one algorithm that was checked above is offered, so that go-jose cannot choose another.
	parsed, err := jose.ParseSignedCompact(t.compact, []jose.SignatureAlgorithm{alg})
	if err != nil {
		return errMalformed
	}
	if _, err := parsed.Verify(key); err != nil {
		return errors.New("identity: signature is not valid")
	}
	return nil
}

// keyFits pins the kind of key to the algorithm. HMAC and "none" fit nothing.
func keyFits(key crypto.PublicKey, alg jose.SignatureAlgorithm) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return usableRSA(k) && slices.Contains(rsaAlgorithms(), alg)
	case *ecdsa.PublicKey:
		return alg == jose.ES256 && k.Curve == elliptic.P256() || alg == jose.ES384 && k.Curve == elliptic.P384()
	}
	return false
}

func rsaAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
}

func usableRSA(k *rsa.PublicKey) bool {
	bits := k.N.BitLen()
	return bits >= minRSABits && bits <= maxRSABits && k.E >= 3 && k.E%2 == 1
}

func decodeSegment(segment string) (members, error) {
	raw, err := decodeBase64(segment)
	if err != nil {
		return nil, err
	}
	return decodeObject(raw)
}

// decodeBase64 accepts the one canonical spelling of base64url without padding. The standard decoder skips line breaks
// even when strict, hence the look for them.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errMalformed
	}
	raw, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return nil, errMalformed
	}
	return raw, nil
}

// decodeObject reads one JSON object, bounded in depth and members, and refuses a repeated name at any depth: two
// readers of {"aud":1,"aud":2} may disagree about what was signed.
func decodeObject(raw []byte) (members, error) {
	if !utf8.Valid(raw) {
		return nil, errMalformed
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	first, err := d.Token()
	if err != nil || first != json.Delim('{') {
		return nil, errMalformed
	}
	left := maxMembers
	if err := walkObject(d, 1, &left); err != nil {
		return nil, err
	}
	var m members
	// Unmarshal also refuses whatever follows the object.
	if err := json.Unmarshal(raw, &m); err != nil {
		return nil, errMalformed
	}
	return m, nil
}

func walkObject(d *json.Decoder, depth int, left *int) error {
	seen := make(map[string]bool)
	for {
		tok, err := d.Token()
		if err != nil {
			return errMalformed
		}
		if tok == json.Delim('}') {
			return nil
		}
		name, ok := tok.(string)
		if *left--; !ok || seen[name] || *left < 0 {
			return errMalformed
		}
		seen[name] = true
		if err := walkValue(d, depth, left); err != nil {
			return err
		}
	}
}

func walkValue(d *json.Decoder, depth int, left *int) error {
	tok, err := d.Token()
	if err != nil {
		return errMalformed
	}
	return walkToken(d, tok, depth, left)
}

func walkToken(d *json.Decoder, tok json.Token, depth int, left *int) error {
	if _, nested := tok.(json.Delim); nested && depth >= maxDepth {
		return errMalformed
	}
	switch tok {
	case json.Delim('{'):
		return walkObject(d, depth+1, left)
	case json.Delim('['):
		return walkArray(d, depth+1, left)
	}
	return nil
}

func walkArray(d *json.Decoder, depth int, left *int) error {
	// Elements do not count as members: a token may list more groups than it has claims. Its size bounds them.
	for {
		tok, err := d.Token()
		if err != nil {
			return errMalformed
		}
		if tok == json.Delim(']') {
			return nil
		}
		if err := walkToken(d, tok, depth, left); err != nil {
			return err
		}
	}
}

// text returns a string member, "" if it is absent, and an error if it is anything but a string.
func (m members) text(name string) (string, error) {
	raw, found := m[name]
	if !found {
		return "", nil
	}
	var s string
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", fmt.Errorf("identity: %s is not a string", name)
	}
	return s, nil
}

// texts returns a member that is a string or a list of strings.
func (m members) texts(name string, limit int) ([]string, error) {
	raw, found := m[name]
	if !found {
		return nil, nil
	}
	if len(raw) > 0 && raw[0] == '"' {
		s, err := m.text(name)
		return []string{s}, err
	}
	var items []json.RawMessage
	if json.Unmarshal(raw, &items) != nil || items == nil || len(items) > limit {
		return nil, fmt.Errorf("identity: %s is not a list of at most %d strings", name, limit)
	}
	list := make([]string, 0, len(items))
	for _, item := range items {
		s, err := members{name: item}.text(name)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, nil
}

// moment returns a NumericDate (RFC 7519 section 2), which may have a fraction; the zero time if it is absent.
func (m members) moment(name string) (time.Time, error) {
	raw, found := m[name]
	if !found {
		return time.Time{}, nil
	}
	var f float64
	if len(raw) == 0 || raw[0] < '0' || raw[0] > '9' || json.Unmarshal(raw, &f) != nil || !(f >= 1 && f < 1e11) {
		return time.Time{}, fmt.Errorf("identity: %s is not a date", name)
	}
	whole, part := math.Modf(f)
	return time.Unix(int64(whole), int64(part*1e9)), nil
}

// validity is the time in which a token may be used.
type validity struct{ issued, notBefore, expires time.Time }

func (m members) validity() (v validity, err error) {
	if v.issued, err = m.moment("iat"); err != nil {
		return v, err
	}
	if v.notBefore, err = m.moment("nbf"); err != nil {
		return v, err
	}
	if v.expires, err = m.moment("exp"); err != nil {
		return v, err
	}
	if v.expires.IsZero() {
		return v, errors.New("identity: exp is missing")
	}
	return v, nil
}

// check reports why the token cannot be used at now. longest bounds the distance from issue to expiry, and from now to
// expiry if the token does not say when it was issued.
func (v validity) check(now time.Time, longest time.Duration) error {
	start := v.issued
	if start.IsZero() {
		start = v.notBefore
	}
	if start.IsZero() {
		start = now
	}
	switch {
	case !now.Before(v.expires.Add(clockLeeway)):
		return errors.New("the token has expired")
	case v.notBefore.After(now.Add(clockLeeway)), v.issued.After(now.Add(clockLeeway)):
		return errors.New("the token is not yet valid")
	case !v.expires.After(start), v.expires.Sub(start) > longest, v.expires.Sub(now) > longest+clockLeeway:
		return errors.New("the lifetime of the token is out of bounds")
	}
	return nil
}
