package server_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/server"
	"github.com/strongroom/strongroom/strongroomtest"
)

// copyDatabase copies the database of a data folder as it is at one moment: it reads until it reads the same twice.
func copyDatabase(t *testing.T, from, to string) {
	t.Helper()
	var raw []byte
	until(t, "a quiet moment", func() bool {
		last := raw
		var err error
		if raw, err = os.ReadFile(from); err != nil {
			t.Fatal(err)
		}
		return bytes.Equal(last, raw)
	})
	if err := os.WriteFile(to, raw, 0o600); err != nil {
		t.Fatal(err)
	}
}

// hand is a clock that a test moves.
type hand struct {
	mu sync.Mutex // guards at
	at time.Time
}

func (h *hand) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at
}

func (h *hand) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at = h.at.Add(d)
}

// TestRolledBackStore brings copies of the database back: one of a server that was stopped, one of a server that ran and
// is hours old, and one that is so young that a killed server could have left it.
func TestRolledBackStore(t *testing.T) { // not parallel: see reopens
	for _, c := range []struct {
		name  string
		clean bool          // the copy is of a server that was stopped
		later time.Duration // from the first change after the copy to the last
		told  bool
	}{
		{"stopped", true, 0, true},
		{"running, old", false, time.Hour, true},
		{"running, young", false, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			clock := &hand{at: time.Now()}
			opts := &strongroomtest.Options{Dir: filepath.Join(t.TempDir(), "data"), Now: clock.now}
			saved := filepath.Join(t.TempDir(), "copy")
			s := strongroomtest.Start(t, opts)
			database := filepath.Join(s.Dir, "strongroom.db")
			change := func(value string) {
				t.Helper()
				if status, body := call(t, s, adminToken(t, s), "PUT", "/secrets/a", fmt.Sprintf(`{"value":%q}`, value)); status != 200 {
					t.Fatal(status, body)
				}
			}
			again := func(before func()) {
				t.Helper()
				if err := s.Stop(); err != nil {
					t.Fatal(err)
				}
				before()
				s = strongroomtest.Start(t, opts)
			}
			warned := func() bool {
				t.Helper()
				status, body := ready(t, s)
				if status != 200 {
					t.Fatal(status, body)
				}
				return strings.Contains(body, "the store is older than the audit log")
			}
			change("old")
			if c.clean {
				again(func() { copyDatabase(t, database, saved) })
			} else {
				copyDatabase(t, database, saved)
			}
			change("new")
			clock.advance(c.later)
			change("newest")
			again(func() {})
			if warned() {
				t.Error("a store that is as it was is said to be rolled back")
			}
			again(func() { copyDatabase(t, saved, database) })
			if warned() != c.told {
				t.Errorf("told: %v, want %v", !c.told, c.told)
			}
			records := 0
			for _, rec := range s.AuditLog(t) {
				if rec["operationName"] == "StoreRolledBack" {
					records++
				}
			}
			if (records == 1) != c.told || records > 1 {
				t.Errorf("%d records", records)
			}
			change("after") // it goes on
			again(func() {})
			if warned() {
				t.Error("it is said again although the log has gone on since")
			}
		})
	}
}

// lines is a place for a log that a test reads while it is written.
type lines struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestAuditFileIsRenamed rotates the audit log's file and forgets the signal, then sends it.
func TestAuditFileIsRenamed(t *testing.T) { // not parallel: see reopens
	cfg := initConfig(t, filepath.Join(t.TempDir(), "data"))
	cfg.Operations.Listen, cfg.ManagedIdentity.Listen = "127.0.0.1:0", ""
	if _, err := server.Init(t.Context(), cfg, server.Options{}, ""); err != nil {
		t.Fatal(err)
	}
	var log lines
	s, err := server.Open(t.Context(), cfg, server.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	warned := func() bool {
		t.Helper()
		resp, err := http.Get(s.Status().Operations + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var body bytes.Buffer
		if _, err := body.ReadFrom(resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v: %s", resp.Status, err, &body)
		}
		return strings.Contains(body.String(), "send SIGHUP after rotation")
	}
	if warned() {
		t.Error("a warning before anything was done")
	}
	if err := os.Rename(cfg.Audit.File, cfg.Audit.File+".1"); err != nil {
		t.Fatal(err)
	}
	until(t, "a warning", warned)
	until(t, "a line in the log", func() bool { return strings.Contains(log.String(), "send SIGHUP after rotation") })
	if err := s.ReopenAudit(); err != nil {
		t.Fatal(err)
	}
	if warned() {
		t.Error("the warning stays after the log was reopened")
	}
	if want := "audit log reopened"; !strings.Contains(log.String(), want) {
		t.Errorf("the log does not say %q:\n%s", want, &log)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
