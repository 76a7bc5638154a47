package sts

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/store/bolt"
)

const (
	tenant    = "0a1b2c3d-0000-4000-8000-000000000001"
	loginHost = "login.example.org"
	vault     = "https://vault.example.org:8443"
)

// An observer keeps the events of a server and can fail.
type observer struct {
	mu     sync.Mutex // guards both
	events []Event
	fail   error
}

func (o *observer) observe(_ context.Context, e Event) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
	return o.fail
}

func (o *observer) last(t testing.TB) Event {
	t.Helper()
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.events) == 0 {
		t.Fatal("no event was recorded")
	}
	return o.events[len(o.events)-1]
}

func (o *observer) setFailure(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fail = err
}

type clock struct {
	mu  sync.Mutex // guards now
	now time.Time
}

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

// A service is a token service on a store of its own.
type service struct {
	*Server
	observer *observer
	clock    *clock
	dir      *identity.Directory
	verifier *identity.Verifier
}

// newService starts on the machine's time, since real clients look at it; the clock only moves when the test says so.
func newService(t testing.TB, change ...func(*Config)) *service {
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
	s := &service{observer: &observer{}, clock: &clock{now: time.Now()}}
	resources := identity.NewAudiences([]string{"vault.example.org", "management.example.org"}, []string{"https://vault.azure.net"})
	cfg := Config{
		LoginAuthority: loginHost + ":8443", Resources: resources, Observe: s.observer.observe, Now: s.clock.Now,
		TenantDomains: []string{"shop.example.org"}, AliasHosts: []string{"login.microsoftonline.com"},
	}
	for _, c := range change {
		c(&cfg)
	}
	names := make([]string, 0, len(cfg.Issuers))
	for _, e := range cfg.Issuers {
		names = append(names, e.Issuer())
	}
	s.dir, err = identity.Open(t.Context(), identity.Config{DB: db, TenantID: tenant, Now: s.clock.Now, FederationIssuers: names})
	if err != nil {
		t.Fatal(err)
	}
	authority, err := identity.NewAuthority(t.Context(), s.dir, identity.AuthorityConfig{LoginHost: loginHost})
	if err != nil {
		t.Fatal(err)
	}
	s.verifier, err = identity.NewVerifier(identity.VerifierConfig{Authority: authority, Audiences: resources})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Directory, cfg.Authority = s.dir, authority
	if s.Server, err = New(cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *service) app(t testing.TB, kind identity.ApplicationKind) *identity.Application {
	t.Helper()
	app, err := s.dir.CreateApplication(t.Context(), identity.NewApplication{DisplayName: "shop", Kind: kind})
	if err != nil {
		t.Fatal(err)
	}
	return app
}

func (s *service) appWithSecret(t testing.TB) (*identity.Application, string) {
	t.Helper()
	app := s.app(t, identity.KindApplication)
	_, secret, err := s.dir.AddClientSecret(t.Context(), app.ClientID, "", 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return app, secret.Reveal()
}

func (s *service) appWithCertificate(t testing.TB) (*identity.Application, *x509.Certificate, *rsa.PrivateKey) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	app := s.app(t, identity.KindApplication)
	if _, err := s.dir.AddCertificate(t.Context(), app.ClientID, "", der); err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return app, certificate, key
}

// do sends a request straight to the handler.
func do(h http.Handler, r *http.Request) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

func (s *service) get(path string) *httptest.ResponseRecorder {
	return do(s, httptest.NewRequest(http.MethodGet, "https://login.example.org:8443"+path, nil))
}

func (s *service) post(path string, form url.Values) *httptest.ResponseRecorder {
	return do(s, tokenRequest(path, form.Encode()))
}

func tokenRequest(path, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "https://login.example.org:8443"+path, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	return r
}

// secretForm is a good request of version 2.
func secretForm(app *identity.Application, secret string) url.Values {
	return url.Values{
		"grant_type": {"client_credentials"}, "client_id": {app.ClientID}, "client_secret": {secret},
		"scope": {vault + "/.default"},
	}
}

func decode[T any](t testing.TB, w *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
		t.Fatalf("status %d, body %q: %v", w.Code, w.Body, err)
	}
	return v
}

type oauthError struct {
	Error         string `json:"error"`
	Description   string `json:"error_description"`
	Codes         []int  `json:"error_codes"`
	Timestamp     string `json:"timestamp"`
	TraceID       string `json:"trace_id"`
	CorrelationID string `json:"correlation_id"`
}

func wantRefusal(t testing.TB, w *httptest.ResponseRecorder, status int, code string, number int) {
	t.Helper()
	got := decode[oauthError](t, w)
	if w.Code != status || got.Error != code || len(got.Codes) != 1 || got.Codes[0] != number {
		t.Errorf("got %d %s %v (%s), want %d %s %d", w.Code, got.Error, got.Codes, got.Description, status, code, number)
	}
	if strings.Contains(w.Body.String(), "access_token") {
		t.Error("a refusal carries a token")
	}
}

// serveTLS serves h over TLS on loopback under the names of the token service and of everything below it, and returns a
// client that resolves every name to it.
func serveTLS(t testing.TB, h http.Handler) *http.Client {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{loginHost, "*." + loginHost, "login.microsoftonline.com"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(h)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(root)
	address := server.Listener.Addr().String()
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool},
		ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, address)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}
