// Package fetch asks servers that somebody else runs for small documents, within bounds, and remembers the last good one, so
// that whoever makes up requests cannot make this server ask more often.
package fetch

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

// MaxHeader is how long the header of an answer may be.
const MaxHeader = 64 << 10

// NewClient returns a client for documents over HTTPS. roots nil are those of the system; redirect decides about redirects as
// http.Client's CheckRedirect does.
func NewClient(roots *x509.CertPool, timeout time.Duration, redirect func(*http.Request, []*http.Request) error) *http.Client {
	return &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			ForceAttemptHTTP2:      true,
			MaxIdleConns:           2,
			IdleConnTimeout:        30 * time.Second,
			MaxResponseHeaderBytes: MaxHeader,
		},
		CheckRedirect: redirect,
	}
}

// Get returns the JSON document at an address, which has at most limit bytes.
func Get(ctx context.Context, client *http.Client, address string, limit int64) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answered with status %d", resp.StatusCode)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("it answered with more than %d bytes", limit)
	}
	return raw, nil
}

// Latest is the memory of something that is fetched now and then. Its methods may be called concurrently.
type Latest[T any] struct {
	// Every is the least time between fetches, whatever is asked for, Timeout how long one may take.
	Every, Timeout time.Duration

	mu        sync.Mutex // guards the rest
	value     *T         // the last good one
	fetched   time.Time  // when its fetch began
	attempted time.Time  // start of the last fetch, whatever came of it
	running   chan struct{}
	failed    error // of the last fetch
}

// Value returns the last good value, nil if there is none, and when its fetch began. Nobody may modify it.
func (l *Latest[T]) Value() (value *T, fetched time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.value, l.fetched
}

// Failure returns why the last fetch failed, nil if it did not.
func (l *Latest[T]) Failure() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.failed
}

// Busy tells whether a fetch is under way.
func (l *Latest[T]) Busy() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.running != nil
}

// Refresh joins the running fetch or starts one by get, and returns what is closed when it has ended; nil means that the last
// one is too recent. admit, if not nil, is asked before one starts, and refuses it or says what to do after it. The fetch
// outlives the request that asked for it, since others may wait for it too; Timeout ends it.
func (l *Latest[T]) Refresh(now time.Time, admit func() (after func(), err error), get func(context.Context) (*T, error)) (<-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.running != nil {
		return l.running, nil
	}
	since := now.Sub(l.attempted)
	if !l.attempted.IsZero() && since >= 0 && since < l.Every {
		return nil, nil
	}
	after := func() {}
	if admit != nil {
		var err error
		if after, err = admit(); err != nil {
			return nil, err
		}
	}
	done := make(chan struct{})
	l.attempted, l.running = now, done
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), l.Timeout)
		defer cancel()
		value, err := get(ctx)
		l.mu.Lock()
		if err == nil {
			l.value, l.fetched = value, now
		}
		l.failed, l.running = err, nil
		l.mu.Unlock()
		after()
		close(done)
	}()
	return done, nil
}
