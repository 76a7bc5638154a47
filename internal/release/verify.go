package release

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/strongroom/strongroom/internal/keywrap"
)

// Bounds of a token and of the keys in it.
const (
	MaxToken      = 64 << 10 // bytes; those of Azure's attestation service have some 10 KiB
	maxKeyID      = 256
	maxTargetKeys = 16
	clockLeeway   = 60 * time.Second
)

// Defaults of a Config.
const (
	defaultKeysTTL = time.Hour
	defaultRefresh = 30 * time.Second
	defaultTimeout = 10 * time.Second
)

// Config says which attestation authorities a Verifier trusts.
type Config struct {
	// Authorities are the only ones that a policy can choose from; with none, nothing is ever released. An entry is an
	// address, such as https://attest.example.org/, or stands for all hosts below a domain at any depth, such as
	// https://*.attest.azure.net/. The latter admits everybody who can get a host there; what such a host claims still
	// counts only for keys whose policy names it.
	Authorities []string

	RootCAs      *x509.CertPool // nil means those of the system
	KeysTTL      time.Duration  // how long an authority's keys are used; 0 means an hour
	RefreshEvery time.Duration  // least time between fetches from one authority, whatever tokens ask for; 0 means 30 s
	Timeout      time.Duration  // of a fetch; 0 means 10 s

	Now func() time.Time // nil means time.Now
}

// A Verifier checks the tokens of attestation authorities. It owns the memory of their keys. Its methods may be called
// concurrently.
type Verifier struct {
	cfg     Config
	allowed []pattern
	client  *http.Client
	fetches chan struct{} // see keySource

	mu      sync.Mutex            // guards sources, and used of each
	sources map[string]*keySource // by authority
}

// NewVerifier checks the configuration. It contacts nobody; the first token does.
func NewVerifier(cfg Config) (*Verifier, error) {
	if min(cfg.KeysTTL, cfg.RefreshEvery, cfg.Timeout) < 0 {
		return nil, errors.New("release: times must not be negative")
	}
	cfg.KeysTTL = cmp.Or(cfg.KeysTTL, defaultKeysTTL)
	cfg.RefreshEvery = cmp.Or(cfg.RefreshEvery, defaultRefresh)
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	v := &Verifier{cfg: cfg, client: newClient(cfg), fetches: make(chan struct{}, maxFetches), sources: make(map[string]*keySource)}
	for _, entry := range cfg.Authorities {
		p, err := parsePattern(entry)
		if err != nil {
			return nil, err
		}
		v.allowed = append(v.allowed, p)
	}
	return v, nil
}

// An Attestation is what a verified token says. Nobody may modify it.
type Attestation struct {
	Authority string         // as the policy spells it
	Claims    map[string]any // numbers are json.Number
	Expires   time.Time
}

// Verify checks a token that must be of one of the authorities, which are those of the key's policy (Policy.Authorities).
// An authority that the configuration does not list is not contacted.
func (v *Verifier) Verify(ctx context.Context, token string, authorities []string) (*Attestation, error) {
	t, err := parseToken(token)
	if err != nil {
		return nil, badToken("It is not a well-formed signed JWT.")
	}
	issuer, err := t.issuer()
	if err != nil || !slices.Contains(authorities, issuer) {
		return nil, badToken("Its issuer is not an authority of the key's release policy.")
	}
	exact, err := v.checkListed(issuer)
	if err != nil {
		return nil, err
	}
	expires, err := t.checkTime(v.cfg.Now())
	if err != nil {
		return nil, err
	}
	if err := v.checkSignature(ctx, t, issuer, exact); err != nil {
		return nil, err
	}
	return &Attestation{Authority: issuer, Claims: t.claims, Expires: expires}, nil
}

// badToken begins with the words of the real service.
func badToken(reason string) *Error {
	return errorf(BadToken, "Target environment attestation statement cannot be verified. %s", reason)
}

// checkListed tells whether an authority is listed itself, rather than by a wildcard.
func (v *Verifier) checkListed(authority string) (exact bool, err error) {
	if len(v.allowed) == 0 {
		return false, errorf(NotListed, "No key can be released here: the server's configuration lists no attestation authority "+
			"under releaseAuthorities.")
	}
	listed := false
	for _, p := range v.allowed {
		if p.matches(authority) {
			listed, exact = true, exact || p.url != ""
		}
	}
	if !listed {
		return false, errorf(NotListed, "The attestation authority '%s' is not listed under releaseAuthorities in the server's "+
			"configuration.", echo(authority))
	}
	return exact, nil
}

func (v *Verifier) checkSignature(ctx context.Context, t *signedToken, issuer string, exact bool) error {
	source, err := v.source(issuer, exact)
	if err != nil {
		return err
	}
	key, err := source.key(ctx, t.kid)
	if err != nil {
		return err
	}
	if key.alg != "" && key.alg != t.alg || !keyFits(key.public, t.alg) {
		return badToken("Its algorithm does not fit its authority's key.")
	}
	// Only the one algorithm that was checked above is offered, so that go-jose cannot choose another.
	parsed, err := jose.ParseSignedCompact(t.compact, []jose.SignatureAlgorithm{t.alg})
	if err != nil {
		return badToken("It is not a well-formed signed JWT.")
	}
	if _, err := parsed.Verify(key.public); err != nil {
		return badToken("Its signature is not valid.")
	}
	return nil
}

// algorithms are those that a token may be signed with. HMAC and "none" are no signatures.
func algorithms() []jose.SignatureAlgorithm {
	return append(rsaAlgorithms(), jose.ES256, jose.ES384)
}

func rsaAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512}
}

// keyFits pins the kind of key to the algorithm.
func keyFits(key crypto.PublicKey, alg jose.SignatureAlgorithm) bool {
	const least, most = 2048, 8192
	switch k := key.(type) {
	case *rsa.PublicKey:
		bits := k.N.BitLen()
		return bits >= least && bits <= most && slices.Contains(rsaAlgorithms(), alg)
	case *ecdsa.PublicKey:
		return alg == jose.ES256 && k.Curve == elliptic.P256() || alg == jose.ES384 && k.Curve == elliptic.P384()
	}
	return false
}

// A signedToken is a parsed JWS whose signature was not checked yet.
type signedToken struct {
	compact string
	alg     jose.SignatureAlgorithm
	kid     string
	claims  map[string]any
}

var errMalformed = errors.New("release: not a well-formed signed token")

// parseToken takes a compact JWS apart. go-jose would do it too, but it decodes base64 leniently and does not bound or
// check the JSON.
func parseToken(compact string) (*signedToken, error) {
	if len(compact) > MaxToken {
		return nil, errMalformed
	}
	parts := strings.SplitN(compact, ".", 4)
	if len(parts) != 3 || parts[2] == "" {
		return nil, errMalformed
	}
	header, err := decodeSegment(parts[0])
	if err != nil {
		return nil, err
	}
	t := &signedToken{compact: compact}
	if t.claims, err = decodeSegment(parts[1]); err != nil {
		return nil, err
	}
	if _, err = decodeBase64(parts[2]); err != nil {
		return nil, err
	}
	return t, t.readHeader(header)
}

func decodeSegment(segment string) (map[string]any, error) {
	raw, err := decodeBase64(segment)
	if err != nil {
		return nil, err
	}
	return decodeObject(raw)
}

// readHeader takes alg and kid and refuses what would change the meaning of the signature. Where the header says that
// keys are to be found (jku, jwk, x5c, x5u) is not looked at.
func (t *signedToken) readHeader(header map[string]any) error {
	for _, name := range []string{"crit", "b64", "enc", "zip", "cty"} {
		if _, found := header[name]; found {
			return errMalformed
		}
	}
	alg, _ := header["alg"].(string)
	t.alg = jose.SignatureAlgorithm(alg)
	if !slices.Contains(algorithms(), t.alg) {
		return errMalformed
	}
	if t.kid, _ = header["kid"].(string); t.kid == "" || len(t.kid) > maxKeyID {
		return errMalformed
	}
	if typ, found := header["typ"]; found {
		if s, ok := typ.(string); !ok || !strings.EqualFold(s, "JWT") {
			return errMalformed
		}
	}
	return nil
}

func (t *signedToken) issuer() (string, error) {
	iss, _ := t.claims["iss"].(string)
	return canonicalURL(iss)
}

// checkTime returns when the token expires, which it must. There is no bound on its life: what is released can be
// unwrapped only where the token was made.
func (t *signedToken) checkTime(now time.Time) (time.Time, error) {
	expires, found, ok := t.moment("exp")
	if !found || !ok {
		return expires, badToken("It does not say when it expires.")
	}
	if !now.Before(expires.Add(clockLeeway)) {
		return expires, badToken("It has expired.")
	}
	for _, name := range []string{"nbf", "iat"} {
		start, found, ok := t.moment(name)
		if found && (!ok || start.After(now.Add(clockLeeway)) || !start.Before(expires)) {
			return expires, badToken("It is not valid yet.")
		}
	}
	return expires, nil
}

// moment returns a NumericDate (RFC 7519 section 2) to the second.
func (t *signedToken) moment(name string) (at time.Time, found, ok bool) {
	v, found := t.claims[name]
	number, _ := v.(json.Number)
	seconds, err := number.Float64()
	const farAway = 1e11 // the year 5138
	return time.Unix(int64(min(max(seconds, 0), farAway)), 0), found, err == nil && seconds >= 1 && seconds < farAway
}

// EncryptionKey returns the key that whatever is released to the target is wrapped for, and its kid, which may be empty.
//
// It is, as the real service documents, the first RSA key in the list x-ms-runtime.keys that is for encryption: whose use
// is "enc" or, if it has none, whose key_ops have encrypt or wrapKey. Should that one be weak or malformed there is no
// release, rather than one for another key. Keys elsewhere in the token, such as that of a confidential VM's own
// attestation below x-ms-isolation-tee, are not meant for this.
func (a *Attestation) EncryptionKey() (*rsa.PublicKey, string, error) {
	list, _ := lookUp(a.Claims, "x-ms-runtime.keys")
	keys, _ := list.([]any)
	if len(keys) > maxTargetKeys {
		return nil, "", errorf(BadKey, "The attestation token lists more than %d keys.", maxTargetKeys)
	}
	for _, item := range keys {
		jwk, _ := item.(map[string]any)
		if !forEncryption(jwk) {
			continue
		}
		key, ok := publicRSA(jwk)
		kid, isText := jwk["kid"].(string)
		_, hasKid := jwk["kid"]
		if !ok || hasKid && !isText || len(kid) > maxKeyID {
			return nil, "", errorf(BadKey, "The first encryption key of the attestation token must be %s.", keywrap.RecipientRule())
		}
		return key, kid, nil
	}
	return nil, "", errorf(BadKey, "The attestation token has no RSA key for encryption in its claim x-ms-runtime.keys.")
}

func forEncryption(jwk map[string]any) bool {
	if jwk["kty"] != "RSA" {
		return false
	}
	if use, found := jwk["use"]; found {
		return use == "enc"
	}
	ops, _ := jwk["key_ops"].([]any)
	return slices.Contains(ops, any("encrypt")) || slices.Contains(ops, any("wrapKey"))
}

func publicRSA(jwk map[string]any) (*rsa.PublicKey, bool) {
	n, ok := number(jwk["n"])
	e, ok2 := number(jwk["e"])
	if !ok || !ok2 || e.BitLen() > 31 {
		return nil, false
	}
	key := &rsa.PublicKey{N: n, E: int(e.Int64())}
	return key, keywrap.IsRecipient(key)
}

// number reads a Base64urlUInt. Some make it with padding.
func number(v any) (*big.Int, bool) {
	s, _ := v.(string)
	if len(s) > 2*keywrap.MaxRSABits/8 {
		return nil, false
	}
	raw, err := decodeBase64(strings.TrimRight(s, "="))
	return new(big.Int).SetBytes(raw), err == nil && len(raw) > 0
}
