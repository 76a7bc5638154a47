package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A pipe is a writer that can be stopped, as a pipe that nobody reads is.
type pipe struct {
	gate sync.Mutex // held: stopped

	mu  sync.Mutex // guards what follows
	buf bytes.Buffer
	err error
}

// errGone is what a pipe answers whose reader has gone.
var errGone = errors.New("gone")

func (p *pipe) Write(b []byte) (int, error) {
	p.gate.Lock()
	defer p.gate.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return 0, p.err
	}
	return p.buf.Write(b)
}

func (p *pipe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
}

// lines are the messages that have come through, and the number of lines that they say were lost.
func (p *pipe) lines(t *testing.T) (messages []string, lost uint64) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	for line := range bytes.Lines(p.buf.Bytes()) {
		var rec struct {
			Message string `json:"msg"`
			Lines   uint64 `json:"lines"`
		}
		if err := json.Unmarshal(line, &rec); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if strings.Contains(rec.Message, "dropped") {
			lost += rec.Lines
		} else {
			messages = append(messages, rec.Message)
		}
	}
	return messages, lost
}

func TestLogGroups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := new(pipe)
		log, flush := NewLogger(w, slog.LevelInfo)
		log.With("a", 1).WithGroup("g").Info("one")
		log.Debug("none")
		if got, _ := w.lines(t); len(got) != 0 {
			t.Errorf("at once: %q", got)
		}
		<-time.After(logDelay) // by the clock of the bubble
		synctest.Wait()
		if got, _ := w.lines(t); len(got) != 1 || got[0] != "one" {
			t.Errorf("after the delay: %q", got)
		}
		log.Info("two")
		flush()
		flush()
		if got, lost := w.lines(t); len(got) != 2 || lost != 0 {
			t.Errorf("after closing: %q, %d lost", got, lost)
		}
		log.Info("three")
		if total, _ := droppedLines(log.With("b", 2)); total != 1 {
			t.Errorf("a line after the end: %d dropped", total)
		}
	})
}

// TestLogStalled logs more than the buffer holds while nobody reads: nobody waits, nothing is lost in silence.
func TestLogStalled(t *testing.T) {
	t.Parallel()
	w := new(pipe)
	w.gate.Lock()
	log, flush := NewLogger(w, slog.LevelInfo)
	const n = 3 * logLimit / 1000
	for i := range n {
		log.Info(fmt.Sprint(i), "filler", strings.Repeat("x", 1000))
	}
	total, untold := droppedLines(log)
	if total == 0 || untold != total || total >= n {
		t.Errorf("%d of %d lines dropped, %d untold", total, n, untold)
	}
	w.gate.Unlock()
	flush()
	got, lost := w.lines(t)
	total, untold = droppedLines(log)
	if lost != total || untold != 0 || uint64(len(got))+lost != n {
		t.Errorf("%d lines came through, %d are said to be lost; %d of %d were, %d untold", len(got), lost, total, n, untold)
	}
}

// TestLogCloseStalled closes a log that nobody reads, which must not keep the process alive.
func TestLogCloseStalled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stop := make(chan struct{})
		log, flush := NewLogger(stalled{stop}, slog.LevelInfo)
		log.Info("one")
		start := time.Now()
		flush()
		if d := time.Since(start); d != logClose {
			t.Errorf("closing took %v", d)
		}
		close(stop)
	})
}

type stalled struct{ until <-chan struct{} }

func (s stalled) Write(p []byte) (int, error) {
	<-s.until
	return len(p), nil
}

// TestLogFails counts what a writer that fails did not take, and tells it once it takes lines again.
func TestLogFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := new(pipe)
		w.fail(errGone)
		log, flush := NewLogger(w, slog.LevelInfo)
		log.Info("one")
		log.Info("two")
		<-time.After(logDelay) // by the clock of the bubble
		synctest.Wait()
		if total, untold := droppedLines(log); total != 2 || untold != 2 {
			t.Errorf("%d dropped, %d untold", total, untold)
		}
		w.fail(nil)
		log.Info("three")
		flush()
		if got, lost := w.lines(t); len(got) != 1 || lost != 2 {
			t.Errorf("%q came through, %d are said to be lost", got, lost)
		}
	})
}

func BenchmarkLog(b *testing.B) {
	log, flush := NewLogger(io.Discard, slog.LevelInfo)
	defer flush()
	for b.Loop() {
		log.Info("request", "operation", "SecretGet", "status", 200, "duration_ms", 1.5)
	}
}
