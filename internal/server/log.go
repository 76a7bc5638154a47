package server

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"sync"
	"time"
)

// NewLogger returns the operational log: JSON lines on w. Lines are handed on in groups, because one system call a
// request would cost as much as the request, and by a goroutine of their own, so that nobody ever waits for w: if w takes
// nothing for so long that the buffer is full (a pipe that nobody reads), lines are dropped and counted. Unlike the audit
// log, the last tenth of a second may be lost with the process.
//
// close writes what is left, waits for that a bounded time, and ends the goroutine. It may be called more than once.
func NewLogger(w io.Writer, level slog.Level) (log *slog.Logger, close func()) {
	opts := &slog.HandlerOptions{Level: level}
	b := &logBuffer{
		w:       w,
		notices: slog.NewJSONHandler(w, nil),
		wake:    make(chan struct{}, 1),
		full:    make(chan struct{}, 1),
		ending:  make(chan struct{}),
		ended:   make(chan struct{}),
	}
	go b.run()
	return slog.New(&logHandler{slog.NewJSONHandler(b, opts), b}), b.close
}

// A logHandler is the JSON handler, and knows how many of its lines were lost.
type logHandler struct {
	slog.Handler
	buffer *logBuffer
}

func (h *logHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &logHandler{h.Handler.WithAttrs(attrs), h.buffer}
}

func (h *logHandler) WithGroup(name string) slog.Handler {
	return &logHandler{h.Handler.WithGroup(name), h.buffer}
}

// droppedLines tells how many lines of log were lost in all, and how many of them the log itself does not tell yet because
// it takes no lines. Both are 0 for a log that NewLogger did not make.
func droppedLines(log *slog.Logger) (total, untold uint64) {
	h, ok := log.Handler().(*logHandler)
	if !ok {
		return 0, 0
	}
	h.buffer.mu.Lock()
	defer h.buffer.mu.Unlock()
	return h.buffer.dropped, h.buffer.dropped - h.buffer.told
}

type logBuffer struct {
	w       io.Writer     // only run writes to it
	notices slog.Handler  // on w, past the buffer
	wake    chan struct{} // there is something to write
	full    chan struct{} // and so much that it should not wait for more
	ending  chan struct{}
	ended   chan struct{}
	once    sync.Once // closes ending

	mu      sync.Mutex // guards what follows; nobody holds it while w is written to
	buf     []byte
	dropped uint64
	told    uint64 // of dropped, how many w has been told of
	closed  bool
}

const (
	logDelay = 100 * time.Millisecond
	logGroup = 32 << 10
	logLimit = 1 << 20         // some three thousand requests
	logClose = 2 * time.Second // a service manager that kills after seconds must not have to
)

// Write takes one line. It never waits for the log and never fails: there is nobody to tell.
func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	if b.closed || len(b.buf)+len(p) > logLimit {
		b.dropped++
		b.mu.Unlock()
		return len(p), nil
	}
	before := len(b.buf)
	b.buf = append(b.buf, p...)
	after := len(b.buf)
	b.mu.Unlock()
	if before == 0 {
		signal(b.wake)
	}
	if before < logGroup && after >= logGroup {
		signal(b.full)
	}
	return len(p), nil
}

// signal leaves a message in a channel with room for one.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (b *logBuffer) run() {
	defer close(b.ended)
	delay := time.NewTimer(logDelay)
	defer delay.Stop()
	var group []byte
	for last := false; !last; {
		select {
		case <-b.wake:
			delay.Reset(logDelay)
			select {
			case <-delay.C:
			case <-b.full:
			case <-b.ending:
				last = true
			}
		case <-b.ending:
			last = true
		}
		group = b.writeGroup(group, last)
	}
}

// writeGroup hands on what is in the buffer, and then says what was lost. It returns group's memory for the next time.
func (b *logBuffer) writeGroup(group []byte, last bool) []byte {
	b.mu.Lock()
	group, b.buf = b.buf, group[:0]
	b.closed = last
	b.mu.Unlock()
	lost := 0
	if len(group) > 0 {
		if n, err := b.w.Write(group); err != nil {
			lost = bytes.Count(group[min(max(n, 0), len(group)):], []byte("\n"))
		}
	}
	b.mu.Lock()
	b.dropped += uint64(lost)
	dropped, untold := b.dropped, b.dropped-b.told
	b.mu.Unlock()
	if untold == 0 {
		return group
	}
	record := slog.NewRecord(time.Now(), slog.LevelError, "lines of this log were dropped because it took none", 0)
	record.AddAttrs(slog.Uint64("lines", untold))
	if b.notices.Handle(context.Background(), record) == nil {
		b.mu.Lock()
		b.told = dropped
		b.mu.Unlock()
	}
	return group
}

func (b *logBuffer) close() {
	b.once.Do(func() { close(b.ending) })
	limit := time.NewTimer(logClose)
	defer limit.Stop()
	select {
	case <-b.ended:
	case <-limit.C:
	}
}

// Level reads a level's name as the configuration spells it.
func Level(name string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return l
}
