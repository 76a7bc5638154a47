package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/api"
	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store/bolt"
)

// benchHandler is a handler over a real store, with a token that its vault accepts. What Observe does is measured in
// internal/audit and, with the network, by the command bench.
type benchHandler struct {
	*api.Handler
	service *keyvault.Service
	token   string
	caller  *identity.Caller
}

func newBenchHandler(b *testing.B) *benchHandler {
	b.Helper()
	ctx, dir := b.Context(), b.TempDir()
	must := func(err error) {
		b.Helper()
		if err != nil {
			b.Fatal(err)
		}
	}
	file, err := bolt.Open(filepath.Join(dir, "store.db"), nil)
	must(err)
	root, err := seal.ParseRootKey(seal.GenerateRootKey())
	must(err)
	must(seal.Init(ctx, file, root))
	db, err := seal.Open(ctx, file, root)
	must(err)
	log, err := audit.Open(audit.Config{Writer: io.Discard, SyncEvery: time.Second})
	must(err)
	b.Cleanup(func() {
		if err := errors.Join(log.Close(), db.Close()); err != nil {
			b.Error(err)
		}
	})
	h := &benchHandler{}
	h.service, err = keyvault.Open(ctx, keyvault.Config{DB: db, Audit: log})
	must(err)
	directory, err := identity.Open(ctx, identity.Config{DB: db})
	must(err)
	authority, err := identity.NewAuthority(ctx, directory, identity.AuthorityConfig{LoginHost: "login.localhost"})
	must(err)
	app, err := directory.CreateApplication(ctx, identity.NewApplication{DisplayName: "bench", Kind: identity.KindApplication})
	must(err)
	token, err := authority.IssueToken(ctx, identity.TokenRequest{
		Application: app, Audience: "https://vault.localhost", Host: "login.localhost", Version: 2, Proof: identity.ProofSecret,
	})
	must(err)
	verifier, err := identity.NewVerifier(identity.VerifierConfig{
		Authority: authority, Audiences: identity.NewAudiences([]string{"vault.localhost"}, nil),
	})
	must(err)
	h.token = token.Text.Reveal()
	h.caller, err = verifier.Verify(ctx, h.token)
	must(err)
	_, err = h.service.CreateVault(ctx, keyvault.Operator{Name: "bench"}, keyvault.Vault{
		Name: "bench", TenantID: directory.TenantID(), SubscriptionID: h.service.SubscriptionID(), ResourceGroup: "g",
		Location: "here", RetentionDays: 7, Administrators: []string{app.ObjectID},
	})
	must(err)
	h.Handler = api.New(api.Config{
		Service: h.service, Verifier: verifier, Suffixes: []string{"vault.localhost"},
		Authority: func(string) string { return "https://login.localhost/tenant" }, Region: "here",
		Observe:     func(context.Context, *api.Outcome) error { return nil },
		MaxInFlight: 100, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	return h
}

func (h *benchHandler) set(b *testing.B, name string) {
	b.Helper()
	p := keyvault.SetSecretParams{Value: keyvault.NewSecretValue(strings.Repeat("v", 64))}
	if _, err := h.service.SetSecret(b.Context(), h.caller, "bench", name, p); err != nil {
		b.Fatal(err)
	}
}

// get sends one request past the network.
func (h *benchHandler) get(b *testing.B, path, token string, want int) {
	url := "https://bench.vault.localhost" + path + "?api-version=7.6"
	r, err := http.NewRequestWithContext(b.Context(), http.MethodGet, url, nil)
	if err != nil {
		b.Fatal(err)
	}
	r.RemoteAddr = "127.0.0.1:40000"
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != want {
		b.Fatalf("status %d, want %d", w.Code, want)
	}
}

func BenchmarkGetSecret(b *testing.B) {
	h := newBenchHandler(b)
	h.set(b, "s")
	b.ReportAllocs()
	for b.Loop() {
		h.get(b, "/secrets/s", h.token, http.StatusOK)
	}
}

func BenchmarkListSecrets(b *testing.B) {
	h := newBenchHandler(b)
	for n := range 30 {
		h.set(b, "s"+string(rune('a'+n%26))+strings.Repeat("x", n/26))
	}
	b.ReportAllocs()
	for b.Loop() {
		h.get(b, "/secrets", h.token, http.StatusOK)
	}
}

// BenchmarkForgedToken is what a token with a wrong signature costs; such tokens are not remembered.
func BenchmarkForgedToken(b *testing.B) {
	h := newBenchHandler(b)
	last := strings.LastIndexByte(h.token, '.')
	forged := h.token[:last+1] + strings.Repeat("A", len(h.token)-last-1)
	b.ReportAllocs()
	for b.Loop() {
		h.get(b, "/secrets/s", forged, http.StatusUnauthorized)
	}
}
