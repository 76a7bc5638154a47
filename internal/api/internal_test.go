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
		if _, err := b.enter(t.Context(), "a"); !errors.Is(err, errThrottled) {
			t.Errorf("a third place for one principal: %v", err)
		}
		enter("b")
		enter("b")
		began := time.Now()
		if _, err := b.enter(t.Context(), "c"); !errors.Is(err, errThrottled) || time.Since(began) != bulkWait {
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
		b.principals.mu.Lock()
		defer b.principals.mu.Unlock()
		if n := b.principals.inFlight["c"]; n != 1 {
			t.Errorf("%d places are counted for who waited in vain twice and then got one", n)
		}
	})
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	a := admission{limit: 2, inFlight: make(map[string]int)}
	one, err1 := a.enter("x")
	two, err2 := a.enter("x")
	if _, err := a.enter("x"); err1 != nil || err2 != nil || !errors.Is(err, errThrottled) {
		t.Errorf("%v, %v, %v", err1, err2, err)
	}
	if _, err := a.enter("y"); err != nil {
		t.Errorf("another principal: %v", err)
	}
	one()
	two()
	if _, there := a.inFlight["x"]; there {
		t.Error("a principal without requests is remembered")
	}
}

// TestPanic: a panic in the middle of a request is an unclassified error, which is a bare 500.
func TestPanic(t *testing.T) {
	t.Parallel()
	q := &request{} // has no handler to serve with
	_, err := q.serveSafely()
	if err == nil || onWire(err) != errInternal {
		t.Errorf("got %v", err)
	}
}

// TestOutcomeNotRecorded lets the audit log fail after the work was done.
func TestOutcomeNotRecorded(t *testing.T) {
	t.Parallel()
	h := New(Config{
		Observe: func(context.Context, *Outcome) error { return errors.New("no") },
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
		{http.MethodPut, "/secrets/n", errThrottled, "nothing is done without a record"},
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
