package main

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"
)

// A cuttingWriter ends something as soon as a text is written.
type cuttingWriter struct {
	bytes.Buffer
	at  string
	cut func()
}

func (w *cuttingWriter) Write(p []byte) (int, error) {
	if bytes.Contains(p, []byte(w.at)) {
		w.cut()
	}
	return w.Buffer.Write(p)
}

// Who interrupts a rehearsal in the middle finds nothing of it.
func TestRehearsalInterrupted(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	for _, at := range []string{"5. ", "8. "} {
		ctx, cancel := context.WithCancel(t.Context())
		out := &cuttingWriter{at: at, cut: cancel}
		var notes bytes.Buffer
		code := run(ctx, []string{"security-domain", "rehearse"}, strings.NewReader(""), out, &notes)
		if code != exitFailed || !strings.Contains(notes.String(), "the rehearsal failed at step "+at[:1]+": it was interrupted") {
			t.Errorf("interrupted at %s: %d\n%s\n%s", at, code, out, &notes)
		}
		left, err := os.ReadDir(os.TempDir())
		if err != nil || len(left) > 0 {
			t.Errorf("interrupted at %s: %v is left, %v", at, left, err)
		}
		cancel()
	}
}
