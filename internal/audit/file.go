package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// maxTorn bounds how far from the end of a file the last whole line is looked for. A power loss can leave as much as was
// written between two fsyncs in any state.
const maxTorn = 64 << 20

// maxBad bounds how many damaged lines are stepped over on the way.
const maxBad = 1 << 12

// errNotLog refuses a file that does not end like a log: a mistaken path must not cost somebody a file.
var errNotLog = errors.New("the file is no audit log, or its last lines are damaged; move it away")

// A sink is where lines go: a file of ours or somebody's io.Writer. Only the log's writer goroutine uses it, except that
// the syncer calls dataSync on file.
type sink struct {
	w       io.Writer
	file    *os.File // nil for an io.Writer
	regular bool     // file can be truncated and synced
	torn    int64    // bytes after the last good line that must go before the next write
}

// write appends p, which holds whole lines, and returns how many bytes were taken. A partial write leaves the caller to
// say what is torn.
func (s *sink) write(p []byte) (int, error) {
	if err := s.repair(); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	n = min(max(n, 0), len(p))
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

// repair takes away what a failed write left behind. A stream cannot take it back; there it ends the fragment's line.
func (s *sink) repair() error {
	if s.torn == 0 {
		return nil
	}
	if !s.regular {
		if n, err := s.w.Write([]byte{'\n'}); err != nil || n != 1 {
			return errors.Join(errors.New("a torn line could not be ended"), err)
		}
		s.torn = 0
		return nil
	}
	// Counted from the end and not from a remembered size: the file may have been shortened by copy-and-truncate rotation.
	info, err := s.file.Stat()
	if err != nil {
		return fmt.Errorf("cut off a torn line: %w", err)
	}
	if err := s.file.Truncate(max(info.Size()-s.torn, 0)); err != nil {
		return fmt.Errorf("cut off a torn line: %w", err)
	}
	s.torn = 0
	return nil
}

// openSink opens or creates the log's file for appending. It is ours alone: mode 0600, locked.
func openSink(path string) (*sink, error) {
	created := false
	if _, err := os.Lstat(path); errors.Is(err, os.ErrNotExist) {
		created = true
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND|openFlags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("audit: %w", err)
	}
	s := &sink{w: f, file: f}
	if err := s.secure(); err != nil {
		f.Close()
		return nil, fmt.Errorf("audit: %s: %w", path, err)
	}
	if created && s.regular {
		if err := syncDir(path); err != nil {
			f.Close()
			return nil, fmt.Errorf("audit: %w", err)
		}
	}
	return s, nil
}

// close gives the file back. What it holds was synced before, or its sync is not asked for.
func (s *sink) close() {
	_ = unlock(s.file) // a device has no lock
	s.file.Close()
}

// secure takes the lock and closes the file to others. A device or named pipe is used as it is.
func (s *sink) secure() error {
	info, err := s.file.Stat()
	if err != nil {
		return err
	}
	if s.regular = info.Mode().IsRegular(); !s.regular {
		return nil
	}
	if err := lock(s.file); err != nil {
		return err
	}
	if info.Mode().Perm() != 0o600 {
		return s.file.Chmod(0o600)
	}
	return nil
}

// syncDir makes the creation or renaming of path durable.
func syncDir(path string) error {
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// A tail is what the end of a file says.
type tail struct {
	head position // of the last whole line
	end  int64    // where that line ends, newline included
	size int64    // of the file; more than end when the rest is torn
}

// A position is a Head in the form that the writer counts in.
type position struct {
	seq uint64
	sum sum
}

// head gives the position to others.
func (p position) head() Head {
	if p.seq == 0 {
		return Head{}
	}
	return Head{Seq: p.seq, Hash: base64.RawURLEncoding.EncodeToString(p.sum[:])}
}

// readTail finds the last whole line of f.
func readTail(f *os.File) (tail, error) {
	info, err := f.Stat()
	if err != nil {
		return tail{}, err
	}
	t := tail{size: info.Size()}
	// upTo is the end of what may still hold the line: always just after a newline, except at first.
	for upTo, bad := t.size, 0; upTo > 0; bad++ {
		if t.size-upTo > maxTorn || bad == maxBad {
			return tail{}, errNotLog
		}
		start, end, line, err := lastLine(f, upTo)
		if err != nil {
			return tail{}, err
		}
		if seq, _, ok := parseLine(line); ok {
			t.head, t.end = position{seq, sha256.Sum256(line)}, end
			return t, nil
		}
		upTo = start
	}
	return t, t.checkFirst(f)
}

// checkFirst refuses a file in which no whole line was found, unless it can be the torn first write of a log: one that
// begins as our lines do, or all zeros there, and with no end of a line.
func (t tail) checkFirst(f *os.File) error {
	begin := make([]byte, min(t.size, 2*MaxLine))
	if _, err := f.ReadAt(begin, 0); err != nil {
		return err
	}
	if bytes.IndexByte(begin, '\n') >= 0 {
		return errNotLog
	}
	begin = begin[:min(len(begin), len(linePrefix))]
	if len(bytes.Trim(begin, "\x00")) != 0 && !bytes.HasPrefix([]byte(linePrefix), begin) {
		return errNotLog
	}
	return nil
}

// lastLine returns the last line that ends with a newline before upTo, its offsets, newline included in end. It returns
// a start without line when the bytes before upTo cannot be a line; what is before start is still to be looked at.
func lastLine(f *os.File, upTo int64) (start, end int64, line []byte, err error) {
	from := max(upTo-2*(MaxLine+1), 0)
	window := make([]byte, upTo-from)
	if _, err := f.ReadAt(window, from); err != nil {
		return 0, 0, nil, err
	}
	stop := bytes.LastIndexByte(window, '\n')
	if stop < 0 {
		return from, 0, nil, nil
	}
	begin := bytes.LastIndexByte(window[:stop], '\n') + 1
	if begin == 0 && from > 0 { // the line began before the window
		if stop <= MaxLine { // it may still be short enough: look again with the window moved
			return from + int64(stop) + 1, 0, nil, nil
		}
		return from + int64(stop), 0, nil, nil
	}
	return from + int64(begin), from + int64(stop) + 1, window[begin:stop], nil
}

// parseLine reports a line's place in the chain if the line is whole: JSON, ours, not too long.
func parseLine(line []byte) (seq uint64, prev []byte, ok bool) {
	if len(line) > MaxLine || !bytes.HasPrefix(line, []byte(linePrefix)) || !json.Valid(line) {
		return 0, nil, false
	}
	return parseChain(line)
}

// cutTorn moves what follows the last whole line to a file beside the log and returns that file's name.
func cutTorn(s *sink, path string, t tail, now time.Time) (string, error) {
	saved, out, err := createBeside(path, now)
	if err != nil {
		return "", err
	}
	_, err = io.Copy(out, io.NewSectionReader(s.file, t.end, t.size-t.end))
	if err = errors.Join(err, out.Sync(), out.Close()); err != nil {
		return "", fmt.Errorf("save the torn end of the log: %w", err)
	}
	if err := syncDir(path); err != nil {
		return "", err
	}
	// Only now, when it is safe elsewhere.
	if err := s.file.Truncate(t.end); err != nil {
		return "", err
	}
	return filepath.Base(saved), dataSync(s.file)
}

// createBeside makes a new file beside path for a torn end.
func createBeside(path string, now time.Time) (string, *os.File, error) {
	base := path + ".torn-" + now.UTC().Format("20060102T150405Z")
	for i := range 100 {
		name := base
		if i > 0 {
			name = fmt.Sprintf("%s-%d", base, i)
		}
		f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if !errors.Is(err, os.ErrExist) {
			return name, f, err
		}
	}
	return "", nil, fmt.Errorf("%s exists a hundred times", base)
}

// reaches reports whether the log of which f holds the last lines contains the line that anchor names: in f, or right
// before f's first line.
func reaches(f *os.File, end int64, anchor position) (bool, error) {
	_, first, err := lineAt(f, 0, end)
	if err != nil || len(first) == 0 {
		return false, err
	}
	if seq, prev, ok := parseChain(first); ok && seq == anchor.seq+1 {
		return string(prev) == anchor.head().Hash, nil
	}
	line, err := findSeq(f, end, anchor.seq)
	return line != nil && sha256.Sum256(line) == anchor.sum, err
}

// beyond says what lies after the line that anchor names, of the file whose last whole line is t's.
func beyond(f *os.File, t tail, anchor position) (Beyond, error) {
	if t.head.seq <= anchor.seq {
		return Beyond{}, nil
	}
	_, first, err := lineAt(f, 0, t.end)
	if err != nil {
		return Beyond{}, err
	}
	if seq, _, ok := parseChain(first); !ok || seq <= anchor.seq {
		if first, err = findSeq(f, t.end, anchor.seq+1); err != nil {
			return Beyond{}, err
		}
	}
	_, _, last, err := lastLine(f, t.end)
	if err != nil {
		return Beyond{}, err
	}
	return Beyond{Lines: t.head.seq - anchor.seq, Span: spanOf(first, last)}, nil
}

// spanOf returns about how much later the second line was written; 0 if one of them does not tell.
func spanOf(first, last []byte) time.Duration {
	from, ok := writtenAt(first)
	to, known := writtenAt(last)
	if !ok || !known {
		return 0
	}
	return max(to.Sub(from), 0)
}

// writtenAt returns about when a line was written: it tells when its request came and how long that took.
func writtenAt(line []byte) (time.Time, bool) {
	var told struct {
		DurationMs int64 `json:"durationMs,string"`
	}
	at, ok := parseTime(line)
	if !ok || json.Unmarshal(line, &told) != nil {
		return time.Time{}, false
	}
	const most = int64(24 * time.Hour / time.Millisecond) // what is more is not believed, and does not overflow
	return at.Add(time.Duration(min(max(told.DurationMs, 0), most)) * time.Millisecond), true
}

// findSeq returns the line with the given number, or nil, by bisection: numbers rise from line to line. Where they do
// not, somebody had a hand in the file, and not to find the line is the right answer.
func findSeq(f *os.File, end int64, seq uint64) ([]byte, error) {
	for low, high := int64(0), end; low < high; { // the line begins in [low, high)
		middle := low + (high-low)/2
		start, line, err := lineAt(f, middle, end)
		if err != nil {
			return nil, err
		}
		got, _, ok := parseChain(line)
		switch {
		case start >= high:
			high = middle
		case !ok:
			return nil, nil
		case got == seq:
			return line, nil
		case got < seq:
			low = start + int64(len(line)) + 1
		default:
			high = middle
		}
	}
	return nil, nil
}

// lineAt returns the first line that begins at or after off, without its newline, and where it begins. Without such a
// line, start is end. A line that is too long comes back empty.
func lineAt(f *os.File, off, end int64) (start int64, line []byte, err error) {
	from := max(off-1, 0) // the newline before off, if off is where a line begins
	window := make([]byte, min(end-from, 2*(MaxLine+1)))
	if _, err := f.ReadAt(window, from); err != nil {
		return 0, nil, err
	}
	skip := 0
	if off > 0 {
		if skip = bytes.IndexByte(window, '\n') + 1; skip == 0 {
			return end, nil, nil
		}
	}
	start = from + int64(skip)
	stop := bytes.IndexByte(window[skip:], '\n')
	if stop < 0 {
		return start, nil, nil
	}
	return start, window[skip : skip+stop], nil
}
