package server

import (
	"io"
	"log/slog"
	"sync"
	"time"
)

// NewLogger returns the operational log: JSON lines on w. Lines are handed on in groups, because one system call a
// request would cost as much as the request; close writes what is left. Unlike the audit log, the last tenth of a second may
// be lost with the process.
func NewLogger(w io.Writer, level slog.Level) (log *slog.Logger, close func()) {
	b := &logBuffer{w: w}
	return slog.New(slog.NewJSONHandler(b, &slog.HandlerOptions{Level: level})), b.flush
}

type logBuffer struct {
	w io.Writer

	mu        sync.Mutex // guards what follows, and the order of writes
	buf       []byte
	scheduled bool
}

const (
	logDelay = 100 * time.Millisecond
	logGroup = 32 << 10
)

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.buf = append(b.buf, p...)
	if len(b.buf) >= logGroup {
		b.flushLocked()
	} else if !b.scheduled {
		b.scheduled = true
		time.AfterFunc(logDelay, b.flush)
	}
	return len(p), nil
}

func (b *logBuffer) flush() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.scheduled = false
	b.flushLocked()
}

func (b *logBuffer) flushLocked() {
	// There is nobody to tell when the log itself fails.
	_, _ = b.w.Write(b.buf)
	b.buf = b.buf[:0]
}

// Level reads a level's name as the configuration spells it.
func Level(name string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return l
}
