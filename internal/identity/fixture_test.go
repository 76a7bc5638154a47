package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/bolt"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

const (
	loginHost = "login.example.org"
	vaultAud  = "https://vault.example.org:8443"
)

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

// openStore opens a real store that runs half of the transactions twice, as the contract of store.DB allows.
func openStore(t testing.TB) *storetest.Faulty {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "store"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	faulty := storetest.NewFaulty(db, 1)
	faulty.SetPlan(storetest.Plan{Twice: 0.5})
	return faulty
}

// An installation is one server's view of a store.
type installation struct {
	db        store.DB
	clock     *clock
	dir       *Directory
	authority *Authority
	verifier  *Verifier
}

func audiences() *Audiences {
	return NewAudiences([]string{"vault.example.org", "managedhsm.example.org"}, []string{"https://vault.azure.net"})
}

// join starts a server on db.
func join(t testing.TB, db store.DB, c *clock, external ...*ExternalIssuer) *installation {
	t.Helper()
	names := make([]string, 0, len(external))
	for _, e := range external {
		names = append(names, e.Issuer())
	}
	dir, err := Open(t.Context(), Config{DB: db, Now: c.Now, FederationIssuers: names})
	if err != nil {
		t.Fatal(err)
	}
	authority, err := NewAuthority(t.Context(), dir, AuthorityConfig{LoginHost: loginHost})
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := NewVerifier(VerifierConfig{Authority: authority, Audiences: audiences(), External: external})
	if err != nil {
		t.Fatal(err)
	}
	return &installation{db, c, dir, authority, verifier}
}

func install(t testing.TB, external ...*ExternalIssuer) *installation {
	t.Helper()
	return join(t, openStore(t), newClock(), external...)
}

func (in *installation) app(t testing.TB) *Application {
	t.Helper()
	app, err := in.dir.CreateApplication(t.Context(), NewApplication{DisplayName: "web shop"})
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func (in *installation) token(t testing.TB, app *Application, audience string, version int) string {
	t.Helper()
	token, err := in.authority.IssueToken(t.Context(), TokenRequest{
		Application: app, Audience: audience, Host: loginHost + ":8443", Version: version, Proof: ProofSecret,
	})
	if err != nil {
		t.Fatal(err)
	}
	return token.Text.Reveal()
}

// signingKey takes the active key out of the store, as somebody would who wants to forge with the right key.
func (in *installation) signingKey(t testing.TB) (string, *rsa.PrivateKey) {
	t.Helper()
	keys, err := in.authority.keys(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	record := active(keys, in.clock.Now())
	parsed, err := x509.ParsePKCS8PrivateKey(record.Private)
	if err != nil {
		t.Fatal(err)
	}
	return record.KeyID, parsed.(*rsa.PrivateKey)
}

type object = map[string]any

func encodeJSON(t testing.TB, v any) string {
	t.Helper()
	if s, ok := v.(string); ok {
		return s // raw JSON
	}
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func b64(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// mint signs header and claims, given as objects or as raw JSON, with the standard library alone.
func mint(t testing.TB, key crypto.Signer, alg string, header, claims any) string {
	t.Helper()
	input := b64(encodeJSON(t, header)) + "." + b64(encodeJSON(t, claims))
	return input + "." + b64(string(signInput(t, key, alg, input)))
}

func signInput(t testing.TB, key crypto.Signer, alg, input string) []byte {
	t.Helper()
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	var digest []byte
	switch hash {
	case crypto.SHA256:
		d := sha256.Sum256([]byte(input))
		digest = d[:]
	case crypto.SHA384:
		d := sha512.Sum384([]byte(input))
		digest = d[:]
	default:
		d := sha512.Sum512([]byte(input))
		digest = d[:]
	}
	signature, err := signDigest(key, alg, hash, digest)
	if err != nil {
		t.Fatal(err)
	}
	return signature
}

func signDigest(key crypto.Signer, alg string, hash crypto.Hash, digest []byte) ([]byte, error) {
	switch k := key.(type) {
	case *rsa.PrivateKey:
		if alg[:2] == "PS" {
			return rsa.SignPSS(rand.Reader, k, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
		}
		return rsa.SignPKCS1v15(rand.Reader, k, hash, digest)
	case *ecdsa.PrivateKey:
		r, s, err := ecdsa.Sign(rand.Reader, k, digest)
		if err != nil {
			return nil, err
		}
		size := (k.Curve.Params().BitSize + 7) / 8
		return append(r.FillBytes(make([]byte, size)), s.FillBytes(make([]byte, size))...), nil
	}
	return nil, errors.New("no such kind of key")
}

func newRSA(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newEC(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func selfSigned(t testing.TB, key crypto.Signer, from, to time.Time) []byte {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "web shop"}, NotBefore: from, NotAfter: to,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	refusal, ok := errors.AsType[*TokenError](err)
	if !ok || refusal.Code != code {
		t.Errorf("got %v, want a refusal with code %s", err, code)
	}
}

func wantKind(t testing.TB, err error, kind Kind) {
	t.Helper()
	if !isKind(err, kind) {
		t.Errorf("got %v, want an error of kind %q", err, kind)
	}
}
