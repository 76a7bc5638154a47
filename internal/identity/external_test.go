package identity

import (
	"context"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
)

const foreignTenant = "0a1b2c3d-0000-4000-8000-00000000000f"

// An issuerServer is a real OpenID issuer on loopback with TLS.
type issuerServer struct {
	*httptest.Server
	pool    *x509.CertPool
	fetches atomic.Int64 // of the key set

	mu      sync.Mutex // guards the rest
	issuer  string     // what the discovery document says; "" means the truth
	keys    []jose.JSONWebKey
	answer  http.HandlerFunc // in place of the key set
	jwksURI string
}

func newIssuerServer(t testing.TB) *issuerServer {
	t.Helper()
	s := &issuerServer{pool: x509.NewCertPool()}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(s.serve))
	s.pool.AddCert(s.Certificate())
	t.Cleanup(s.Close)
	return s
}

func (s *issuerServer) serve(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	issuer, keys, answer, jwksURI := s.issuer, s.keys, s.answer, s.jwksURI
	s.mu.Unlock()
	switch r.URL.Path {
	case "/.well-known/openid-configuration":
		if issuer == "" {
			issuer = s.URL
		}
		if jwksURI == "" {
			jwksURI = s.URL + "/keys"
		}
		_ = json.NewEncoder(w).Encode(object{"issuer": issuer, "jwks_uri": jwksURI})
	case "/keys":
		s.fetches.Add(1)
		if answer != nil {
			answer(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: keys})
	default:
		http.NotFound(w, r)
	}
}

func (s *issuerServer) publish(keys ...jose.JSONWebKey) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = keys
}

func (s *issuerServer) set(change func(*issuerServer)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(s)
}

func (s *issuerServer) config(c *clock) ExternalIssuerConfig {
	return ExternalIssuerConfig{
		Issuer: s.URL, TenantID: foreignTenant, Audiences: NewAudiences([]string{"vault.example.org"}, nil),
		RootCAs: s.pool, Now: c.Now, Timeout: 5 * time.Second,
	}
}

func newExternal(t testing.TB, cfg ExternalIssuerConfig) *ExternalIssuer {
	t.Helper()
	e, err := NewExternalIssuer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func publicKey(key crypto.Signer, kid string) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig"}
}

func foreignClaims(issuer string, now time.Time) object {
	return object{
		"iss": issuer, "aud": "https://vault.example.org", "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		"tid": foreignTenant, "oid": "22222222-0000-4000-8000-000000000001", "sub": "someone", "appid": "app",
		"upn": "someone@example.org", "groups": []string{"g1", "g2"}, "uti": "u1",
	}
}

func TestExternalIssuer(t *testing.T) {
	t.Parallel()
	server, c := newIssuerServer(t), newClock()
	key := newRSA(t, 2048)
	server.publish(publicKey(key, "k1"))
	in := join(t, openStore(t), c, newExternal(t, server.config(c)))
	header := object{"alg": "RS256", "kid": "k1", "typ": "JWT"}
	claims := foreignClaims(server.URL, c.Now())

	got, err := in.verifier.Verify(t.Context(), mint(t, key, "RS256", header, claims))
	if err != nil {
		t.Fatal(err)
	}
	want := &Caller{
		TenantID: foreignTenant, ObjectID: "22222222-0000-4000-8000-000000000001", AppID: "app", Issuer: server.URL,
		Subject: "someone", UPN: "someone@example.org", Groups: []string{"g1", "g2"}, IdentityType: "user",
		Audience: "https://vault.example.org", TokenID: "u1", IssuedAt: c.Now(), Expires: c.Now().Add(time.Hour),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("caller (-want +got):\n%s", diff)
	}
	ec := newEC(t, elliptic.P256())
	for _, f := range []forgery{
		{"algorithm outside the list", mint(t, key, "RS384", with(header, object{"alg": "RS384"}), claims), CodeSignature},
		{"PS256", mint(t, key, "PS256", with(header, object{"alg": "PS256"}), claims), CodeSignature},
		{"EC key", mint(t, ec, "ES256", with(header, object{"alg": "ES256"}), claims), CodeSignature},
		{"no kid", mint(t, key, "RS256", with(header, object{"kid": nil}), claims), CodeSignature},
		{"audience of the public cloud", mint(t, key, "RS256", header, with(claims, object{"aud": "https://vault.azure.net"})), CodeAudience},
		{"tenant of the embedded issuer", mint(t, key, "RS256", header, with(claims, object{"tid": in.dir.TenantID()})), CodeTenant},
		{"no tid", mint(t, key, "RS256", header, with(claims, object{"tid": nil})), CodeTenant},
		{"no oid", mint(t, key, "RS256", header, with(claims, object{"oid": nil})), CodeClaims},
		{"idtyp", mint(t, key, "RS256", header, with(claims, object{"idtyp": "root"})), CodeClaims},
		{"issuer with slash", mint(t, key, "RS256", header, with(claims, object{"iss": server.URL + "/"})), CodeIssuer},
		{"key of the embedded issuer", newForger(t, in, in.app(t)).sign(t, header, claims), CodeSignature},
		{"embedded issuer's name", mint(t, key, "RS256", header, newForger(t, in, in.app(t)).claims), CodeSignature},
	} {
		_, err := in.verifier.Verify(t.Context(), f.token)
		refusal, ok := errors.AsType[*TokenError](err)
		if !ok || refusal.Code != f.code {
			t.Errorf("%s: got %v, want %s", f.name, err, f.code)
		}
	}
}

func TestExternalAlgorithms(t *testing.T) {
	t.Parallel()
	server, c := newIssuerServer(t), newClock()
	rsaKey, p256, p384 := newRSA(t, 2048), newEC(t, elliptic.P256()), newEC(t, elliptic.P384())
	server.publish(publicKey(rsaKey, "rsa"), publicKey(p256, "p256"), publicKey(p384, "p384"))
	cfg := server.config(c)
	cfg.Algorithms = []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384"}
	in := join(t, openStore(t), c, newExternal(t, cfg))
	claims := foreignClaims(server.URL, c.Now())
	for _, alg := range cfg.Algorithms {
		for kid, key := range map[string]crypto.Signer{"rsa": rsaKey, "p256": p256, "p384": p384} {
			fits := alg[0] != 'E' && kid == "rsa" || alg == "ES256" && kid == "p256" || alg == "ES384" && kid == "p384"
			token := mint(t, key, alg, object{"alg": alg, "kid": kid}, claims)
			if _, err := in.verifier.Verify(t.Context(), token); (err == nil) != fits {
				t.Errorf("%s with key %s: %v", alg, kid, err)
			}
		}
	}
	for _, alg := range []string{"none", "HS256", "ES512", "EdDSA", ""} {
		cfg.Algorithms = []string{alg}
		if _, err := NewExternalIssuer(cfg); !isKind(err, Invalid) {
			t.Errorf("algorithm %q may be configured: %v", alg, err)
		}
	}
}

func TestExternalSubjectAsObjectID(t *testing.T) {
	t.Parallel()
	server, c := newIssuerServer(t), newClock()
	key := newRSA(t, 2048)
	server.publish(publicKey(key, "k1"))
	db := openStore(t)
	ours := join(t, db, c)
	app := ours.app(t)
	cfg := server.config(c)
	cfg.TenantID, cfg.ObjectIDFromSubject = ours.dir.TenantID(), true
	in := join(t, db, c, newExternal(t, cfg))

	claims := object{
		"iss": server.URL, "sub": "system:serviceaccount:shop:web", "aud": []string{"https://vault.example.org"},
		"exp": c.Now().Add(time.Hour).Unix(), "kubernetes.io": object{"namespace": "shop"},
	}
	got, err := in.verifier.Verify(t.Context(), mint(t, key, "RS256", object{"alg": "RS256", "kid": "k1"}, claims))
	if err != nil {
		t.Fatal(err)
	}
	if got.ObjectID != OutsideObjectID(server.URL, "system:serviceaccount:shop:web") || got.TenantID != ours.dir.TenantID() || got.IdentityType != "app" {
		t.Errorf("caller %+v", got)
	}
	for _, change := range []object{{"oid": app.ObjectID}, {"sub": strings.ToUpper(app.ObjectID)}} {
		_, err := in.verifier.Verify(t.Context(), mint(t, key, "RS256", object{"alg": "RS256", "kid": "k1"}, with(claims, change)))
		wantCode(t, err, CodePrincipal)
	}
}

// What an issuer publishes is bounded and filtered; until a good set was fetched nothing can be judged.
func TestExternalKeySets(t *testing.T) {
	t.Parallel()
	key, weak := newRSA(t, 2048), newRSA(t, 1024)
	redirect := httptest.NewTLSServer(http.NotFoundHandler())
	t.Cleanup(redirect.Close)
	for name, c := range map[string]struct {
		prepare func(*issuerServer)
		kid     string
		signer  crypto.Signer
		refused bool // as a TokenError, else as a failure
	}{
		"weak key": {func(s *issuerServer) { s.keys = []jose.JSONWebKey{publicKey(weak, "w"), publicKey(key, "k")} }, "w", weak, true},
		"two of one kid": {func(s *issuerServer) {
			s.keys = append(s.keys, publicKey(newRSA(t, 2048), "k"), publicKey(key, "other"))
		}, "k", key, true},
		"encryption key":   {func(s *issuerServer) { s.keys[0].Use = "enc"; s.keys = append(s.keys, publicKey(key, "o")) }, "k", key, true},
		"key of other alg": {func(s *issuerServer) { s.keys[0].Algorithm = "PS256" }, "k", key, true},
		"private key":      {func(s *issuerServer) { s.keys[0].Key = key; s.keys = append(s.keys, publicKey(key, "o")) }, "k", key, true},
		"no keys":          {func(s *issuerServer) { s.keys = nil }, "k", key, false},
		"other issuer":     {func(s *issuerServer) { s.issuer = s.URL + "/" }, "k", key, false},
		"plain http":       {func(s *issuerServer) { s.jwksURI = "http://127.0.0.1:1/keys" }, "k", key, false},
		"huge":             {func(s *issuerServer) { s.answer = huge }, "k", key, false},
		"not JSON": {func(s *issuerServer) {
			s.answer = func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }
		}, "k", key, false},
		"error": {func(s *issuerServer) { s.answer = http.NotFound }, "k", key, false},
		"redirected": {func(s *issuerServer) {
			s.answer = func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, redirect.URL, http.StatusFound) }
		}, "k", key, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server, clock := newIssuerServer(t), newClock()
			server.publish(publicKey(key, "k"))
			server.set(c.prepare)
			e := newExternal(t, server.config(clock))
			token, err := parseToken(mint(t, c.signer, "RS256", object{"alg": "RS256", "kid": c.kid}, foreignClaims(server.URL, clock.Now())))
			if err != nil {
				t.Fatal(err)
			}
			err = e.checkSignature(t.Context(), token)
			if err == nil {
				t.Fatal("accepted")
			}
			if _, refused := errors.AsType[*TokenError](err); refused != c.refused {
				t.Errorf("got %v", err)
			}
		})
	}
}

func huge(w http.ResponseWriter, _ *http.Request) {
	chunk := []byte(strings.Repeat(" ", 64<<10))
	for range 2 * maxKeySet / len(chunk) {
		if _, err := w.Write(chunk); err != nil {
			return
		}
	}
}

func TestExternalRefreshIsRateLimitedAndShared(t *testing.T) {
	t.Parallel()
	server, c := newIssuerServer(t), newClock()
	key, next := newRSA(t, 2048), newRSA(t, 2048)
	server.publish(publicKey(key, "k1"))
	e := newExternal(t, server.config(c))
	parse := func(signer crypto.Signer, kid string) *signedToken {
		token, err := parseToken(mint(t, signer, "RS256", object{"alg": "RS256", "kid": kid}, foreignClaims(server.URL, c.Now())))
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	token := parse(key, "k1")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if err := e.checkSignature(t.Context(), token); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := server.fetches.Load(); n != 1 {
		t.Errorf("%d fetches for the first tokens, want 1", n)
	}
	for range 50 {
		wantCode(t, e.checkSignature(t.Context(), parse(next, "k2")), CodeSignature)
	}
	if n := server.fetches.Load(); n != 1 {
		t.Errorf("%d fetches after forged key ids, want 1", n)
	}
	server.publish(publicKey(key, "k1"), publicKey(next, "k2"))
	c.Advance(defaultRefresh)
	if err := e.checkSignature(t.Context(), parse(next, "k2")); err != nil {
		t.Errorf("a new key: %v", err)
	}
	if n := server.fetches.Load(); n != 2 {
		t.Errorf("%d fetches, want 2", n)
	}
}

func TestExternalIssuerDown(t *testing.T) {
	t.Parallel()
	server, c := newIssuerServer(t), newClock()
	key := newRSA(t, 2048)
	server.publish(publicKey(key, "k1"))
	e := newExternal(t, server.config(c))
	check := func() error {
		token, err := parseToken(mint(t, key, "RS256", object{"alg": "RS256", "kid": "k1"}, foreignClaims(server.URL, c.Now())))
		if err != nil {
			t.Fatal(err)
		}
		return e.checkSignature(t.Context(), token)
	}
	if err := check(); err != nil {
		t.Fatal(err)
	}
	down := make(chan struct{}, 1)
	server.set(func(s *issuerServer) {
		s.answer = func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusBadGateway)
			select {
			case down <- struct{}{}:
			default:
			}
		}
	})
	c.Advance(2 * defaultKeysTTL)
	if err := check(); err != nil {
		t.Errorf("while the issuer is down: %v", err)
	}
	<-down // the refresh in the background did try
	c.Advance(defaultMaxStale)
	err := check()
	if _, refused := errors.AsType[*TokenError](err); err == nil || refused {
		t.Errorf("after the last good set became too old: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c.Advance(defaultRefresh)
	if _, err := e.key(ctx, "k1"); err == nil {
		t.Error("a caller that has gone got a key")
	}
}

func TestFederatedAssertion(t *testing.T) {
	t.Parallel()
	server, c := newIssuerServer(t), newClock()
	key := newRSA(t, 2048)
	server.publish(publicKey(key, "k1"))
	cfg := server.config(c)
	cfg.Audiences = nil
	e := newExternal(t, cfg)
	in := join(t, openStore(t), c, e)
	app := in.app(t)
	const subject = "system:serviceaccount:shop:web"
	credential, err := in.dir.AddFederatedCredential(t.Context(), app.ClientID, "", server.URL, subject, "")
	if err != nil {
		t.Fatal(err)
	}
	claims := object{
		"iss": server.URL, "sub": subject, "aud": []string{DefaultFederatedAudience},
		"iat": c.Now().Unix(), "exp": c.Now().Add(time.Hour).Unix(),
	}
	verify := func(client string, claims object) error {
		token := mint(t, key, "RS256", object{"alg": "RS256", "kid": "k1"}, claims)
		got, id, err := in.dir.VerifyFederatedAssertion(t.Context(), client, token, e)
		if err == nil && (got.ClientID != app.ClientID || id != credential.ID) {
			t.Errorf("got %v and %s", got, id)
		}
		return err
	}
	if err := verify(app.ClientID, claims); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		client string
		claims object
		want   error
	}{
		"subject":     {app.ClientID, with(claims, object{"sub": subject + "x"}), ErrNoFederatedCredential},
		"audience":    {app.ClientID, with(claims, object{"aud": "https://vault.example.org"}), ErrNoFederatedCredential},
		"application": {in.app(t).ClientID, claims, ErrNoFederatedCredential},
		"unknown":     {foreignTenant, claims, ErrUnknownApplication},
		"expired":     {app.ClientID, with(claims, object{"exp": c.Now().Add(-2 * time.Minute).Unix()}), ErrBadAssertion},
		"issuer":      {app.ClientID, with(claims, object{"iss": "https://other.example.org"}), ErrBadAssertion},
		"no aud":      {app.ClientID, with(claims, object{"aud": nil}), ErrBadAssertion},
	} {
		if err := verify(c.client, c.claims); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	// An issuer for federation only opens nothing by itself.
	bearer := with(foreignClaims(server.URL, c.Now()), nil)
	_, err = in.verifier.Verify(t.Context(), mint(t, key, "RS256", object{"alg": "RS256", "kid": "k1"}, bearer))
	wantCode(t, err, CodeAudience)
}
