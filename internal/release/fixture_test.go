package release

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

type object = map[string]any

// A clock that a test moves.
type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

func newClock() *clock { return &clock{now: time.Unix(1_800_000_000, 0)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Keys are slow to make, so the tests share them.
var (
	signKey   = sync.OnceValue(func() *rsa.PrivateKey { return makeRSA(2048) })
	otherKey  = sync.OnceValue(func() *rsa.PrivateKey { return makeRSA(2048) })
	targetKey = sync.OnceValue(func() *rsa.PrivateKey { return makeRSA(2048) })
	ecKey     = sync.OnceValue(func() *ecdsa.PrivateKey { return makeEC(elliptic.P256()) })
	ec384Key  = sync.OnceValue(func() *ecdsa.PrivateKey { return makeEC(elliptic.P384()) })
)

func makeRSA(bits int) *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		panic(err)
	}
	return key
}

func makeEC(curve elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		panic(err)
	}
	return key
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

func mustJSON(t testing.TB, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// mint signs a token as an authority would.
func mint(t testing.TB, key crypto.Signer, alg jose.SignatureAlgorithm, header, claims object) string {
	t.Helper()
	opts := new(jose.SignerOptions)
	for name, v := range header {
		opts.WithHeader(jose.HeaderKey(name), v)
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, opts)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := s.Sign(mustJSON(t, claims))
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func with(base object, changes object) object {
	out := make(object)
	for _, m := range []object{base, changes} {
		for name, v := range m {
			if out[name] = v; v == nil {
				delete(out, name)
			}
		}
	}
	return out
}

func targetJWK(key *rsa.PublicKey, kid string) object {
	return object{
		"kty": "RSA", "kid": kid, "key_ops": []string{"encrypt"},
		"n": base64.RawURLEncoding.EncodeToString(key.N.Bytes()), "e": "AQAB",
	}
}

// claimsOf are like those of a confidential VM.
func claimsOf(issuer string, now time.Time) object {
	return object{
		"iss": issuer, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(8 * time.Hour).Unix(), "jti": "1",
		"secureboot": true, "x-ms-attestation-type": "azurevm", "x-ms-ver": "1.0",
		"x-ms-isolation-tee": object{
			"x-ms-attestation-type": "sevsnpvm", "x-ms-compliance-status": "azure-compliant-cvm",
			"x-ms-sevsnpvm-is-debuggable": false, "x-ms-sevsnpvm-vmpl": 0,
			"x-ms-runtime": object{"keys": []object{targetJWK(&otherKey().PublicKey, "HCLAkPub")}},
		},
		"x-ms-runtime": object{"keys": []object{targetJWK(&targetKey().PublicKey, "TpmEphemeralEncryptionKey")}},
	}
}

// An authorityServer is a real attestation authority's OpenID endpoint on loopback with TLS.
type authorityServer struct {
	*httptest.Server
	pool        *x509.CertPool
	connections atomic.Int64
	fetches     atomic.Int64 // of the key set

	mu       sync.Mutex // guards the rest
	metadata object
	keys     []any
	answer   map[string]http.HandlerFunc // by path, in place of the usual
}

func newAuthority(t testing.TB) *authorityServer {
	t.Helper()
	s := &authorityServer{pool: x509.NewCertPool(), answer: make(map[string]http.HandlerFunc)}
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			s.connections.Add(1)
		}
	}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // clients break off here
	s.StartTLS()
	s.pool.AddCert(s.Certificate())
	t.Cleanup(s.Close)
	s.metadata = object{"jwks_uri": s.URL + "/certs"}
	s.keys = []any{jose.JSONWebKey{Key: signKey().Public(), KeyID: "k1", Use: "sig"}}
	return s
}

func (s *authorityServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	metadata, keys, answer := s.metadata, s.keys, s.answer[r.URL.Path]
	s.mu.Unlock()
	if r.URL.Path == "/certs" {
		s.fetches.Add(1)
	}
	switch {
	case answer != nil:
		answer(w, r)
	case r.URL.Path == "/.well-known/openid-configuration":
		_ = json.NewEncoder(w).Encode(metadata)
	case r.URL.Path == "/certs":
		_ = json.NewEncoder(w).Encode(object{"keys": keys})
	default:
		http.NotFound(w, r)
	}
}

func (s *authorityServer) set(change func(*authorityServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *authorityServer) verifier(t testing.TB, c *clock, changes ...func(*Config)) *Verifier {
	t.Helper()
	cfg := Config{Authorities: []string{s.URL}, RootCAs: s.pool, Now: c.Now}
	for _, change := range changes {
		change(&cfg)
	}
	v, err := NewVerifier(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// name is the authority as a policy has it.
func (s *authorityServer) name() string { return s.URL + "/" }

func wantKind(t testing.TB, err error, want Kind) *Error {
	t.Helper()
	var refusal *Error
	if !errors.As(err, &refusal) || refusal.Kind != want {
		t.Fatalf("got %v, want an error of kind %d", err, want)
	}
	if !strings.HasSuffix(refusal.Message, ".") && want != BadPolicy {
		t.Errorf("the message is no sentence: %q", refusal.Message)
	}
	return refusal
}

// certificate makes one for key, signed by parent, or by itself if that is nil.
func certificate(t testing.TB, template *x509.Certificate, public crypto.PublicKey, parent *x509.Certificate, key crypto.Signer) []byte {
	t.Helper()
	template.SerialNumber = big.NewInt(1)
	if template.Subject.CommonName == "" {
		template.Subject = pkix.Name{CommonName: "test"}
	}
	if template.NotAfter.IsZero() {
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	}
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}
