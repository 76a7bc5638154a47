package audit

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestMovedFileIsTold renames the file, then removes it, and expects to be told each time until the log is reopened.
func TestMovedFileIsTold(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	told := make(chan string, 1)
	l := open(t, Config{Path: path, OnWarning: func(text string) { told <- text }})
	write(t, l, "1")
	rename := func(from, to string) {
		t.Helper()
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	want := func(what, text string) {
		t.Helper()
		select {
		case got := <-told:
			if got != text || l.Warning() != text {
				t.Errorf("%s: told %q, the warning is %q", what, got, l.Warning())
			}
		case <-t.Context().Done():
			t.Fatal(what + " was not told")
		case <-time.After(20 * time.Second):
			t.Fatal(what + " was not told")
		}
	}
	rename(path, path+".1")
	want("the renaming", movedWarning)
	rename(path+".1", path)
	want("its undoing", "")
	rename(path, path+".1")
	want("the renaming", movedWarning)
	if err := l.Reopen(); err != nil || l.Warning() != "" {
		t.Errorf("after reopening: %v, the warning is %q", err, l.Warning())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want("the removal", movedWarning)
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.checkPlace()
	if l.Warning() != movedWarning {
		t.Error("another file at the path was taken for the log's")
	}
	closeLog(t, l)
}

// TestBeyond remembers lines of a log and counts what comes after them.
func TestBeyond(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	began := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	l := open(t, Config{Path: path})
	heads := []*Head{nil}
	for i := range 10 {
		// Requests that began at the same time, and took a minute longer each.
		if err := l.Write(bg, &Record{Time: began, Duration: time.Duration(i) * time.Minute}); err != nil {
			t.Fatal(err)
		}
		heads = append(heads, ptr(l.Head()))
	}
	closeLog(t, l)
	for i, head := range heads {
		want := Beyond{Lines: uint64(10 - i), Span: time.Duration(max(9-i, 0)) * time.Minute}
		again := open(t, Config{Path: path, Anchor: head})
		if got := again.Beyond(); got != want {
			t.Errorf("after %v the log holds %+v, want %+v", head, got, want)
		}
		closeLog(t, again)
		if head == nil {
			continue
		}
		if report, _ := readLog(t, path, Options{Anchor: head}); report.Beyond != want {
			t.Errorf("after %v the report counts %+v, want %+v", head, report.Beyond, want)
		}
	}
}

// TestBeyondAfterRotation: the remembered line lies in a file that was rotated away.
func TestBeyondAfterRotation(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	began := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	now := began
	l := open(t, Config{Path: path, Now: func() time.Time { return now }})
	write(t, l, "1")
	head := l.Head()
	write(t, l, "2")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	if err := l.Write(bg, &Record{Time: began.Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	closeLog(t, l)
	if got, want := open(t, Config{Path: path, Anchor: &head}).Beyond(), (Beyond{Lines: 3, Span: time.Hour}); got != want {
		t.Errorf("the log holds %+v beyond the head, want %+v", got, want)
	}
}
