package audit

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// half is a disk that takes so many bytes of a write.
type half struct {
	f    *os.File
	room int
}

var errFull = errors.New("full")

func (h *half) Write(p []byte) (int, error) {
	if h.room >= len(p) {
		return h.f.Write(p)
	}
	n, err := h.f.Write(p[:h.room])
	return n, errors.Join(err, errFull)
}

// create makes an empty file to append to, and a second handle on it that cannot truncate.
func create(t *testing.T) (f, readOnly *os.File) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	readOnly, err = os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close(); readOnly.Close() })
	return f, readOnly
}

func checkContent(t *testing.T, f *os.File, want string) {
	t.Helper()
	if b, err := os.ReadFile(f.Name()); err != nil || string(b) != want {
		t.Errorf("the file holds %q, want %q, %v", b, want, err)
	}
}

// newChunk puts n lines after head into l's chunk and returns them.
func newChunk(l *Log, n int) []string {
	l.out = chunk{}
	var ends []string
	head := l.head
	for range n {
		start := len(l.out.buf)
		head = l.out.add([]byte(`{"time":""`), head)
		ends = append(ends, string(l.out.buf[start:]))
	}
	return ends
}

func TestTornLineGoesBeforeAnythingElseIsWritten(t *testing.T) {
	t.Parallel()
	f, readOnly := create(t)
	disk := &half{f: f}
	l := &Log{cfg: Config{SyncEvery: time.Minute}, sink: &sink{w: disk, file: readOnly, regular: true}}
	lines := newChunk(l, 2)
	disk.room = len(lines[0]) + 7
	if n, err := l.flush(); n != 1 || !errors.Is(err, errFull) {
		t.Fatalf("%d lines, %v", n, err)
	}
	disk.room = 1 << 20
	for range 2 { // the file cannot be cut, so nothing may be added
		if n, err := l.flush(); n != 0 || err == nil {
			t.Fatalf("%d lines after a torn one, %v", n, err)
		}
		checkContent(t, f, lines[0]+lines[1][:7])
	}
	l.sink.file = f
	if n, err := l.flush(); n != 2 || err != nil {
		t.Fatalf("%d lines, %v", n, err)
	}
	checkContent(t, f, lines[0]+lines[0]+lines[1])
}

func TestLinesThatCannotBeSyncedAreTakenBack(t *testing.T) {
	t.Parallel()
	f, other := create(t)
	other.Close() // so that fdatasync fails
	l := &Log{sink: &sink{w: f, file: other, regular: true}}
	lines := newChunk(l, 3)
	if n, err := l.flush(); n != 0 || !errors.Is(err, os.ErrClosed) {
		t.Fatalf("%d lines, %v", n, err)
	}
	l.sink.file = f
	if n, err := l.flush(); n != 3 || err != nil {
		t.Fatalf("%d lines, %v", n, err)
	}
	checkContent(t, f, lines[0]+lines[1]+lines[2])
}

// TestSettleAnswersByWhatIsThere: the chain moves only past lines that are in the file, notes included.
func TestSettleAnswersByWhatIsThere(t *testing.T) {
	t.Parallel()
	for lines := range 6 { // of two notes, one of them about refusals, and three records
		l := &Log{cfg: Config{Now: time.Now}, sink: &sink{}, refused: 4}
		l.note(OpGap, Failure, "")
		notes, told := l.pending()
		sent := make([]*entry, 3)
		for i := range sent {
			sent[i] = &entry{done: make(chan error, 1)}
		}
		l.inflight = sent
		l.fill(sent)
		var cause error
		if lines < 5 {
			cause = errFull
		}
		if !l.settle(sent, lines, notes, told, cause) || len(l.inflight) != 0 {
			t.Error("gave up")
		}
		acked := 0
		for _, e := range sent {
			if err := <-e.done; err == nil {
				acked++
			} else if !errors.Is(err, errFull) || !errors.Is(err, ErrUnavailable) {
				t.Error(err)
			}
		}
		want := position{}
		if lines > 0 {
			want = position{uint64(lines), l.out.sums[lines-1]}
		}
		left := uint64(3 - acked)
		if lines < 2 {
			left += 4
		}
		if acked != max(lines-2, 0) || l.head != want || len(l.notes) != max(1-lines, 0) || l.refused != left {
			t.Errorf("%d lines: %d acknowledged, head %v, %d notes, %d refused", lines, acked, l.head, len(l.notes), l.refused)
		}
	}
}
