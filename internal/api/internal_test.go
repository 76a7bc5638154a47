package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strongroom/strongroom/internal/admission"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/wire"
)

func TestBulk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBulk()
		enter := func(principal string) func() {
			t.Helper()
			release, err := b.enter(t.Context(), principal)
			if err != nil {
				t.Fatal(err)
			}
			return release
		}
		first := enter("a")
		enter("a")
		if _, err := b.enter(t.Context(), "a"); !errors.Is(err, admission.ErrThrottled) {
			t.Errorf("a third place for one principal: %v", err)
		}
		enter("b")
		enter("b")
		began := time.Now()
		if _, err := b.enter(t.Context(), "c"); !errors.Is(err, admission.ErrThrottled) || time.Since(began) != bulkWait {
			t.Errorf("a fifth place: %v after %v", err, time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.enter(ctx, "c"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a wait that the client gave up: %v", err)
		}
		time.AfterFunc(time.Second, first)
		enter("c")
		if time.Since(began) != bulkWait+2*time.Second {
			t.Errorf("the place came after %v", time.Since(began))
		}
		synctest.Wait()
		// Who waited in vain twice and then got a place has one more left, and no two.
		first, err1 := b.principals.Enter("c")
		if _, err2 := b.principals.Enter("c"); err1 != nil || !errors.Is(err2, admission.ErrThrottled) {
			t.Errorf("after two waits in vain: %v, then %v", err1, err2)
		}
		first()
	})
}

// TestPanic: a panic in the middle of a request is an unclassified error, which is a bare 500.
func TestPanic(t *testing.T) {
	t.Parallel()
	q := &request{host: host{vault: "v"}} // has no handler to serve with
	_, err := q.serveSafely()
	if err == nil || onWire(err) != errInternal {
		t.Errorf("got %v", err)
	}
}

// TestOutcomeNotRecorded lets the audit log fail after the work was done.
func TestOutcomeNotRecorded(t *testing.T) {
	t.Parallel()
	h := New(Config{
		Service: new(keyvault.Service),
		Observe: func(context.Context, *wire.Outcome) error { return errors.New("no") },
		Logger:  slog.New(slog.DiscardHandler),
	})
	for _, c := range []struct {
		method, path string
		err          error
		want         string
	}{
		{http.MethodPut, "/secrets/n", nil, "The change was made"},
		{http.MethodGet, "/secrets/n", nil, "nothing is done without a record"},
		{http.MethodPost, "/secrets/n/backup", nil, "nothing is done without a record"},
		{http.MethodPost, "/keys/n/create", nil, "The change was made"},
		{http.MethodPost, "/keys/n/rotate", nil, "The change was made"},
		{http.MethodPost, "/deletedkeys/n/recover", nil, "The change was made"},
		{http.MethodPost, "/keys/n/backup", nil, "nothing is done without a record"},
		{http.MethodPost, "/keys/n/sign", nil, "nothing is done without a record"},
		{http.MethodPost, "/keys/n//decrypt", nil, "nothing is done without a record"},
		{http.MethodPost, "/keys/n/v/release", nil, "nothing is done without a record"},
		{http.MethodPost, "/rng", nil, "nothing is done without a record"},
		{http.MethodPut, "/secrets/n", admission.ErrThrottled, "nothing is done without a record"},
	} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(c.method, "/", nil)
		rt, _, err := match(c.method, c.path)
		if err != nil {
			t.Fatal(err)
		}
		q := &request{h: h, w: w, r: r, ctx: r.Context(), route: rt}
		q.answer(response{status: http.StatusOK, body: []byte(`{"value":"secret"}`)}, c.err)
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), c.want) || strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s, %v: %d %s", c.method, c.err, w.Code, w.Body)
		}
	}
}

// TestKinds: each kind of refusal of internal/keyvault has its answer.
func TestKinds(t *testing.T) {
	t.Parallel()
	for kind := keyvault.BadParameter; kind <= keyvault.HSMRestoring; kind++ {
		e := onWire(&keyvault.Error{Kind: kind, Object: keyvault.KeyKind, Message: "why"})
		if e == errInternal || e.message != "why" || e.status < 400 {
			t.Errorf("kind %d is answered with %+v", kind, e)
		}
	}
	if e := onWire(&keyvault.Error{Kind: keyvault.HSMRestoring + 1}); e != errInternal {
		t.Errorf("a kind without an answer is answered with %+v", e)
	}
	// Who is to come later must be told when.
	w := httptest.NewRecorder()
	q := &request{h: &Handler{cfg: Config{Logger: slog.New(slog.DiscardHandler)}}, w: w}
	if resp := q.refusal(&keyvault.Error{Kind: keyvault.Busy}); resp.status != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
		t.Errorf("busy is answered with %d and %v", resp.status, w.Header())
	}
}

func TestParseKeyID(t *testing.T) {
	t.Parallel()
	q := &request{host: host{vault: "contoso"}}
	const version = "0123456789abcdef0123456789ABCDEF"
	for id, want := range map[string][2]string{
		"https://contoso.vault.azure.net/keys/kek/" + version:    {"kek", version},
		"https://contoso.vault.azure.net/keys/KEK-1":             {"KEK-1", ""},
		"HTTPS://Contoso.vault.localhost:8443/keys/k":            {"k", ""},
		"https://contoso.managedhsm.example.org/keys/" + version: {version, ""},
	} {
		if name, v, err := q.parseKeyID(id); err != nil || name != want[0] || v != want[1] {
			t.Errorf("%s: %q, %q, %v", id, name, v, err)
		}
	}
	for _, id := range []string{
		"", "kek", "/keys/kek", "http://contoso.vault.azure.net/keys/kek", "https://contoso/keys/kek", "https://contoso:8443/keys/kek",
		"https://fabrikam.vault.azure.net/keys/kek", "https://contoso.vault.azure.net/keys/", "https://contoso.vault.azure.net/keys/kek/",
		"https://contoso.vault.azure.net/keys/kek/1", "https://contoso.vault.azure.net/secrets/kek", "https://contoso.vault.azure.net/keys/kek?x",
		"https://contoso.vault.azure.net/keys/kek#x", "https://contoso.vault.azure.net/keys/../kek", "https://contoso.vault.azure.net/keys/a%2Fb",
		"https://u@contoso.vault.azure.net/keys/kek", "https://contoso.vault.azure.net//keys/kek", "https://contoso.vault.azure.net/keys/kek\n",
		"https://contoso.vault.azure.net/keys/" + strings.Repeat("k", 128), "https://contoso.vault.azure.net/keys/kek/" + version + "/sign",
	} {
		if name, v, err := q.parseKeyID(id); err == nil {
			t.Errorf("%s was read as %q, %q", id, name, v)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	for _, c := range []struct{ method, path string }{
		{"GET", "/secrets/name"}, {"GET", "/secrets/name/0123456789abcdef0123456789abcdef"}, {"POST", "/keys/name/0123456789abcdef0123456789abcdef/sign"},
		{"POST", "/keys/name/verify"}, {"GET", "/keys/name/"},
	} {
		b.Run(c.method+c.path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := match(c.method, c.path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
