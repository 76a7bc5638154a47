package fetch_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/fetch"
)

func TestGet(t *testing.T) {
	t.Parallel()
	const limit = 1 << 10
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/good":
			if r.Header.Get("Accept") != "application/json" {
				w.WriteHeader(http.StatusNotAcceptable)
			}
			_, _ = w.Write([]byte("{}"))
		case "/full":
			_, _ = w.Write([]byte(strings.Repeat("a", limit)))
		case "/long":
			_, _ = w.Write([]byte(strings.Repeat("a", limit+1)))
		case "/header":
			w.Header().Set("X-Filler", strings.Repeat("a", 2*fetch.MaxHeader))
		case "/elsewhere":
			http.Redirect(w, r, "/good", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(server.Close)
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	refuse := func(*http.Request, []*http.Request) error { return errors.New("not followed") }
	client := fetch.NewClient(pool, time.Minute, refuse)
	get := func(client *http.Client, path string) (string, error) {
		raw, err := fetch.Get(t.Context(), client, server.URL+path, limit)
		return string(raw), err
	}
	for path, want := range map[string]string{"/good": "{}", "/full": strings.Repeat("a", limit)} {
		if got, err := get(client, path); err != nil || got != want {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	for path, want := range map[string]string{
		"/long": "more than 1024 bytes", "/missing": "status 404", "/elsewhere": "not followed", "/header": "header",
	} {
		if got, err := get(client, path); err == nil || got != "" || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %d bytes, %v", path, len(got), err)
		}
	}
	if _, err := get(fetch.NewClient(x509.NewCertPool(), time.Minute, refuse), "/good"); err == nil {
		t.Error("a certificate that nobody vouches for is accepted")
	}
	if _, err := get(fetch.NewClient(pool, time.Millisecond, refuse), "/slow"); err == nil {
		t.Error("an answer that does not come has no end")
	}
}

// a value counts what was fetched.
type value int

// number gives an n-th value.
func number(n value) func(context.Context) (*value, error) {
	return func(context.Context) (*value, error) { return &n, nil }
}

func refresh(t *testing.T, l *fetch.Latest[value], now time.Time, get func(context.Context) (*value, error)) {
	t.Helper()
	done, err := l.Refresh(now, nil, get)
	if done == nil || err != nil {
		t.Fatal("no fetch has begun", err)
	}
	<-done
}

func TestLatest(t *testing.T) {
	t.Parallel()
	l := &fetch.Latest[value]{Every: time.Minute, Timeout: time.Hour}
	now := time.Unix(1_800_000_000, 0)
	check := func(want *value, since time.Time, failure error) {
		t.Helper()
		got, fetched := l.Value()
		if diff := cmp.Diff(want, got); diff != "" || !fetched.Equal(since) || !errors.Is(l.Failure(), failure) || l.Busy() {
			t.Errorf("value (-want +got):\n%s of %v, failure %v, busy %v", diff, fetched, l.Failure(), l.Busy())
		}
	}
	one, two := value(1), value(2)
	check(nil, time.Time{}, nil)
	refresh(t, l, now, number(one))
	check(&one, now, nil)

	// Too early, and just in time. What fails leaves what was there, and counts as an attempt.
	first := now
	for _, early := range []time.Time{now, now.Add(time.Minute - 1)} {
		if done, err := l.Refresh(early, nil, number(two)); done != nil || err != nil {
			t.Errorf("a fetch %v after the last one: %v", early.Sub(now), err)
		}
	}
	now = now.Add(time.Minute)
	broken := errors.New("broken")
	refresh(t, l, now, func(context.Context) (*value, error) { return &two, broken })
	check(&one, first, broken)
	if done, _ := l.Refresh(now.Add(time.Second), nil, number(two)); done != nil {
		t.Error("a fetch right after one that failed")
	}
	now = now.Add(time.Minute)
	refresh(t, l, now, number(two))
	check(&two, now, nil)

	// A clock that was set back does not hold up the next fetch.
	now = now.Add(-time.Hour)
	refresh(t, l, now, number(one))
	check(&one, now, nil)
}

// However many ask at once, one fetch is under way, and all wait for it.
func TestSingleFlight(t *testing.T) {
	t.Parallel()
	l := &fetch.Latest[value]{Every: time.Hour, Timeout: time.Hour}
	now := time.Unix(1_800_000_000, 0)
	entered, end := make(chan struct{}), make(chan struct{})
	fetches := value(0) // written by the only fetch
	get := func(context.Context) (*value, error) {
		fetches++
		close(entered)
		<-end
		return &fetches, nil
	}
	var joining, all sync.WaitGroup
	for range 20 {
		joining.Add(1)
		all.Go(func() {
			done, err := l.Refresh(now, nil, get)
			joining.Done()
			if done == nil || err != nil {
				t.Error("not joined", err)
				return
			}
			<-done
			if got, _ := l.Value(); got == nil || *got != 1 {
				t.Error("ended without the value")
			}
		})
	}
	<-entered
	if !l.Busy() {
		t.Error("a fetch is under way, and Busy says no")
	}
	joining.Wait()
	close(end)
	all.Wait()
	if fetches != 1 || l.Busy() {
		t.Errorf("%d fetches, busy %v", fetches, l.Busy())
	}
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	l := &fetch.Latest[value]{Every: time.Minute, Timeout: time.Hour}
	now := time.Unix(1_800_000_000, 0)
	full := errors.New("full")
	if done, err := l.Refresh(now, func() (func(), error) { return nil, full }, number(1)); done != nil || !errors.Is(err, full) {
		t.Errorf("not refused: %v", err)
	}
	// A refusal is no attempt. What is to be done after a fetch has been done when it ends.
	left := false
	done, err := l.Refresh(now, func() (func(), error) { return func() { left = true }, nil }, number(1))
	if done == nil || err != nil {
		t.Fatal("no fetch has begun", err)
	}
	if <-done; !left {
		t.Error("what follows a fetch was not done")
	}
	// Nobody is asked where nothing would begin.
	asked := func() (func(), error) { t.Error("asked"); return nil, full }
	if done, err := l.Refresh(now, asked, number(1)); done != nil || err != nil {
		t.Errorf("refused by somebody who need not be asked: %v", err)
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	l := &fetch.Latest[value]{Timeout: time.Millisecond}
	refresh(t, l, time.Unix(1_800_000_000, 0), func(ctx context.Context) (*value, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	if err := l.Failure(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
