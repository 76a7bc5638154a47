package api_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
)

// What Observe does is measured in internal/audit and, with the network, by the command bench.

func (h *testHandler) set(b *testing.B, name string) {
	b.Helper()
	p := keyvault.SetSecretParams{Value: keyvault.NewSecretValue(strings.Repeat("v", 64))}
	if _, err := h.service.SetSecret(b.Context(), h.caller, "test", name, p); err != nil {
		b.Fatal(err)
	}
}

// measure sends the same request again and again.
func (h *testHandler) measure(b *testing.B, method, path, token, body string, want int) {
	b.ReportAllocs()
	for b.Loop() {
		if w := h.send(b, method, path, token, body); w.Code != want {
			b.Fatalf("status %d, want %d: %s", w.Code, want, w.Body)
		}
	}
}

func BenchmarkGetSecret(b *testing.B) {
	h := newHandler(b, resource.Standard)
	h.set(b, "s")
	h.measure(b, "GET", "/secrets/s", h.token, "", http.StatusOK)
}

func BenchmarkListSecrets(b *testing.B) {
	h := newHandler(b, resource.Standard)
	for n := range 30 {
		h.set(b, "s"+string(rune('a'+n%26))+strings.Repeat("x", n/26))
	}
	h.measure(b, "GET", "/secrets", h.token, "", http.StatusOK)
}

func BenchmarkGetKey(b *testing.B) {
	h := newHandler(b, resource.Standard)
	h.importKey(b, "rsa2048", "RSA")
	h.measure(b, "GET", "/keys/rsa2048", h.token, "", http.StatusOK)
}

func BenchmarkSignES256(b *testing.B) {
	h := newHandler(b, resource.Standard)
	h.importKey(b, "P-256", "EC")
	h.measure(b, "POST", "/keys/P-256/sign", h.token, `{"alg":"ES256","value":"`+encode(make([]byte, 32))+`"}`, http.StatusOK)
}

func BenchmarkSignRS256(b *testing.B) {
	h := newHandler(b, resource.Standard)
	h.importKey(b, "rsa2048", "RSA")
	h.measure(b, "POST", "/keys/rsa2048/sign", h.token, `{"alg":"RS256","value":"`+encode(make([]byte, 32))+`"}`, http.StatusOK)
}

// importKey takes in a key of testdata/keys.json under its own name.
func (h *testHandler) importKey(tb testing.TB, name, kty string) {
	tb.Helper()
	if status, answer := h.do(tb, "PUT", "/keys/"+name, `{"key":{"kty":"`+kty+`",`+testKeys()[name].members()+`}}`); status != http.StatusOK {
		tb.Fatalf("importing %s: %d %s", name, status, answer)
	}
}

// BenchmarkForgedToken is what a token with a wrong signature costs; such tokens are not remembered.
func BenchmarkForgedToken(b *testing.B) {
	h := newHandler(b, resource.Standard)
	last := strings.LastIndexByte(h.token, '.')
	forged := h.token[:last+1] + strings.Repeat("A", len(h.token)-last-1)
	h.measure(b, "GET", "/secrets/s", forged, "", http.StatusUnauthorized)
}
