package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var bg = context.Background()

func ptr[T any](v T) *T { return &v }

// open opens a log and closes it at the end of the test.
func open(t *testing.T, cfg Config) *Log {
	t.Helper()
	l, err := Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func closeLog(t *testing.T, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// write writes a record with the given correlation id.
func write(t *testing.T, l *Log, id string) {
	t.Helper()
	if err := l.Write(bg, &Record{Operation: "SecretGet", CorrelationID: id}); err != nil {
		t.Fatal(err)
	}
}

// readLog verifies one file and decodes its lines.
func readLog(t *testing.T, path string, opts Options) (Report, []line) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	report, err := Verify(opts, bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%v: %+v", err, report.Problems)
	}
	return report, decodeAll(t, b)
}

func decodeAll(t *testing.T, b []byte) (lines []line) {
	t.Helper()
	for one := range bytes.Lines(b) {
		lines = append(lines, decode(t, one))
	}
	return lines
}

func operations(lines []line) (ops []string) {
	for _, l := range lines {
		ops = append(ops, l.OperationName)
	}
	return ops
}

func TestChainGoesOnAfterReopening(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	for i := range 4 {
		l := open(t, Config{Path: path, SyncEvery: time.Duration(i%2) * time.Minute})
		write(t, l, fmt.Sprint(i, "a"))
		write(t, l, fmt.Sprint(i, "b"))
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
		closeLog(t, l)
		report, lines := readLog(t, path, Options{Anchor: ptr(l.Head())})
		if report.Lines != int64(2*i+2) || lines[2*i+1].CorrelationID != fmt.Sprint(i, "b") || l.Warning() != "" {
			t.Errorf("after %d rounds: %+v, warning %q", i+1, report, l.Warning())
		}
		if report.Last != l.Head() {
			t.Errorf("Head is %v, the file ends at %v", l.Head(), report.Last)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	b, _ := os.ReadFile(path)
	first, second, _ := bytes.Cut(b, []byte("\n"))
	h := sha256.Sum256(first)
	if prev := `"prev":"` + base64.RawURLEncoding.EncodeToString(h[:]) + `"}}`; !strings.Contains(string(second), prev) {
		t.Errorf("the second line does not carry %s", prev)
	}
}

// TestConcurrentWritersKeepTheirBytes checks that a record holds what its caller gave and nothing of another's.
func TestConcurrentWritersKeepTheirBytes(t *testing.T) {
	t.Parallel()
	const workers, each = 16, 40
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Config{Path: path, SyncEvery: time.Minute, QueueBytes: MaxLine})
	text := func(w, i int) string { return strings.Repeat(string(rune('a'+w)), 1+(w*131+i*517)%5000) }
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				s := text(w, i)
				r := Record{Operation: fmt.Sprint(w), CorrelationID: fmt.Sprint(i), RequestURI: s, UPN: s, ID: s}
				if err := l.Write(bg, &r); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	closeLog(t, l)
	report, lines := readLog(t, path, Options{Anchor: ptr(l.Head())})
	if report.Lines != workers*each {
		t.Fatalf("%d lines", report.Lines)
	}
	next := make([]int, workers)
	for _, got := range lines {
		var w int
		fmt.Sscan(got.OperationName, &w)
		s := text(w, next[w])
		if got.CorrelationID != fmt.Sprint(next[w]) {
			t.Fatalf("worker %d: record %s at the place of %d", w, got.CorrelationID, next[w])
		}
		next[w]++
		r := Record{Time: report.Start, Operation: got.OperationName, CorrelationID: got.CorrelationID,
			RequestURI: s, UPN: s, ID: s}
		want := decode(t, []byte(encode(r)))
		want.Time, want.Chain = got.Time, got.Chain
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	}
}

func TestTornEndIsCutOffSavedAndTold(t *testing.T) {
	t.Parallel()
	lines, heads := chainOf(3)
	whole := strings.Join(lines, "")
	for name, torn := range map[string]string{
		"half a line":       lines[2][:100],
		"no newline":        strings.TrimSuffix(lines[2], "\n"),
		"zeros":             strings.Repeat("\x00", 100_000),
		"zeros in a window": strings.Repeat("\x00", 2*(MaxLine+1)-100),
		"zeros and lines":   strings.Repeat("\x00", 3000) + "\n" + strings.Repeat("\x00", 3000) + "\nx\n\n",
		"long line":         strings.Repeat("y", 5*MaxLine) + "\n",
		"line and zeros":    strings.Repeat("y", MaxLine+5) + "\n" + strings.Repeat("\x00", MaxLine+7),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "audit.log")
			if err := os.WriteFile(path, []byte(whole+torn), 0o644); err != nil {
				t.Fatal(err)
			}
			l := open(t, Config{Path: path, Anchor: &heads[3]})
			write(t, l, "next")
			closeLog(t, l)
			report, got := readLog(t, path, Options{Anchor: ptr(l.Head())})
			if diff := cmp.Diff([]string{"SecretGet", "SecretGet", "SecretGet", OpRecovered, "SecretGet"}, operations(got)); diff != "" {
				t.Error(diff)
			}
			if want := fmt.Sprintf("%d bytes after line %s", len(torn), heads[3]); !strings.Contains(got[3].ResultDescription, want) {
				t.Errorf("told %q", got[3].ResultDescription)
			}
			saved, _ := filepath.Glob(path + ".torn-*")
			if len(saved) != 1 || report.NProblems != 0 || l.Warning() != "" {
				t.Fatalf("saved %v, warning %q", saved, l.Warning())
			}
			if b, err := os.ReadFile(saved[0]); err != nil || string(b) != torn {
				t.Errorf("saved %q, %v", b, err)
			}
			for _, file := range append(saved, path) {
				if info, err := os.Stat(file); err != nil || info.Mode() != 0o600 {
					t.Errorf("%s: mode %v, %v", file, info.Mode(), err)
				}
			}
		})
	}
}

func TestTornFirstLine(t *testing.T) {
	t.Parallel()
	lines, _ := chainOf(1)
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(lines[0][:50]), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, Config{Path: path})
	closeLog(t, l)
	if r, got := readLog(t, path, Options{After: &Head{}}); r.Lines != 1 || got[0].OperationName != OpRecovered {
		t.Errorf("%+v", got)
	}
}

func TestOtherFilesAreLeftAlone(t *testing.T) {
	t.Parallel()
	for _, content := range []string{
		"root:x:0:0\n", "x", `{"time":"2026-01-02T03:04:05Z","level":"INFO"}` + "\n", strings.Repeat("line\n", 5_000),
	} {
		path := filepath.Join(t.TempDir(), "other")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if l, err := Open(Config{Path: path}); err == nil {
			l.Close()
			t.Errorf("%.20q was taken for a log", content)
		}
		if b, _ := os.ReadFile(path); string(b) != content {
			t.Errorf("%.20q was changed", content)
		}
	}
	folder := t.TempDir()
	link := filepath.Join(folder, "link")
	if err := os.Symlink(filepath.Join(folder, "target"), link); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Config{Path: link}); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a symbolic link: %v", err)
	}
}

func TestOneWriterForAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Config{Path: path})
	if _, err := Open(Config{Path: path}); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("a second log on the file: %v", err)
	}
	closeLog(t, l)
	closeLog(t, open(t, Config{Path: path}))
}

func TestBadConfigIsRefused(t *testing.T) {
	t.Parallel()
	for i, cfg := range []Config{
		{}, {Path: "x", Writer: io.Discard}, {Writer: io.Discard, SyncEvery: -1}, {Writer: io.Discard, SyncEvery: time.Hour},
		{Writer: io.Discard, Timeout: -1}, {Writer: io.Discard, QueueBytes: 1},
		{Writer: io.Discard, Anchor: &Head{Seq: 1}}, {Path: filepath.Join(t.TempDir(), "no", "such", "folder")},
	} {
		if _, err := Open(cfg); err == nil {
			t.Errorf("configuration %d was accepted", i)
		}
	}
}

func TestAnchorShowsRemovedLines(t *testing.T) {
	t.Parallel()
	lines, heads := chainOf(40)
	for name, test := range map[string]struct {
		file   []string
		anchor Head
		gap    bool
		next   uint64 // number of the first line that is written then
	}{
		"all there":         {lines, heads[40], false, 41},
		"grown since":       {lines, heads[17], false, 41},
		"first line":        {lines, heads[1], false, 41},
		"nothing yet":       {lines, Head{}, false, 41},
		"rotated":           {lines[20:], heads[20], false, 41},
		"last removed":      {lines[:39], heads[40], true, 41},
		"many removed":      {lines[:3], heads[40], true, 41},
		"file gone":         {nil, heads[40], true, 41},
		"rewritten":         {lines, Head{Seq: 20, Hash: heads[21].Hash}, true, 41},
		"rewritten rotated": {lines[20:], Head{Seq: 20, Hash: heads[21].Hash}, true, 41},
		"before the file":   {lines[20:], heads[10], true, 41},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "audit.log")
			if test.file != nil {
				if err := os.WriteFile(path, []byte(strings.Join(test.file, "")), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			l := open(t, Config{Path: path, Anchor: &test.anchor, ResourceID: "/vault"})
			write(t, l, "next")
			closeLog(t, l)
			b, _ := os.ReadFile(path)
			got := decodeAll(t, b)[len(test.file):]
			told := got[0].OperationName == OpGap
			if told != test.gap || (l.Warning() != "") != test.gap || got[0].Chain.Seq != test.next {
				t.Fatalf("first new line %+v, warning %q", got[0], l.Warning())
			}
			if told && (!strings.Contains(got[0].ResultDescription, test.anchor.String()) ||
				len(test.file) > 0 && !strings.Contains(got[0].ResultDescription, heads[len(test.file)].Hash) && len(test.file) != 20 ||
				got[0].ResourceID != "/VAULT") {
				t.Errorf("told %+v", got[0])
			}
			again := open(t, Config{Path: path, Anchor: ptr(l.Head())})
			if again.Warning() != "" {
				t.Errorf("warned again: %s", again.Warning())
			}
		})
	}
}

func TestRemovedLinesFitAgainWhenFound(t *testing.T) {
	t.Parallel()
	lines, heads := chainOf(6)
	path := filepath.Join(t.TempDir(), "audit.log")
	if err := os.WriteFile(path, []byte(strings.Join(lines[:4], "")), 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, Config{Path: path, Anchor: &heads[6]})
	closeLog(t, l)
	b, _ := os.ReadFile(path)
	report, err := Verify(Options{}, bytes.NewReader(b))
	if !errors.Is(err, ErrBroken) || len(report.Problems) != 1 || report.Problems[0].Kind != Missing {
		t.Errorf("with the gap: %+v", report)
	}
	whole := strings.Join(lines, "") + strings.SplitAfter(string(b), "\n")[4]
	verify(t, Options{Anchor: ptr(l.Head())}, whole)
}

func TestReopenContinuesInTheNewFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	var newest atomic.Pointer[Head]
	l := open(t, Config{Path: path, SyncEvery: time.Minute, OnSync: func(h Head) { newest.Store(&h) }})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 300 {
				if err := l.Write(bg, &Record{Operation: "KeyGet"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 3 {
		if err := l.Reopen(); err != nil { // nothing was moved
			t.Fatal(err)
		}
		if err := os.Rename(path, fmt.Sprintf("%s.%d", path, i)); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() == 0 || info.Mode() != 0o600 {
			t.Errorf("the new file: %v, %v", info, err)
		}
	}
	wg.Wait()
	closeLog(t, l)
	if err := l.Reopen(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("reopening a closed log: %v", err)
	}
	open(t, Config{Path: path + ".0"}) // it would be locked had it stayed open
	var readers []io.Reader
	for _, name := range []string{path + ".0", path + ".1", path + ".2", path} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if ops := operations(decodeAll(t, b)); name != path+".0" && (len(ops) == 0 || ops[0] != OpContinued) {
			t.Errorf("%s holds %v", name, ops)
		}
		readers = append(readers, bytes.NewReader(b))
	}
	report, err := Verify(Options{Anchor: newest.Load(), After: &Head{}}, readers...)
	if err != nil || report.Lines != 1203 || report.Last != l.Head() || *newest.Load() != l.Head() {
		t.Errorf("%v: %+v", err, report)
	}
}

func TestReopenKeepsTheOldFileWhenTheNewOneIsNoGood(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Config{Path: path})
	write(t, l, "1")
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("something"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err == nil {
		t.Error("a file with content was accepted")
	}
	write(t, l, "2")
	closeLog(t, l)
	if r, _ := readLog(t, path+".1", Options{Anchor: ptr(l.Head())}); r.Lines != 2 {
		t.Errorf("%+v", r)
	}
	if b, _ := os.ReadFile(path); string(b) != "something" {
		t.Errorf("the other file became %q", b)
	}
}

// TestBlockedPipe writes into a pipe that nobody reads.
func TestBlockedPipe(t *testing.T) {
	t.Parallel()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	const timeout = 300 * time.Millisecond
	l := open(t, Config{Writer: w, Timeout: timeout})
	var (
		acked int
		began time.Time
	)
	for {
		began = time.Now()
		if err := l.Write(bg, &Record{ClientInfo: strings.Repeat("x", 1000)}); err != nil {
			if !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
			break
		}
		acked++
	}
	if took := time.Since(began); took < timeout || took > timeout+10*time.Second {
		t.Errorf("the blocked write took %v", took)
	}
	began = time.Now()
	for range 1000 {
		if err := l.Write(bg, &Record{}); !errors.Is(err, ErrUnavailable) {
			t.Fatalf("wrote to a blocked pipe: %v", err)
		}
	}
	if took := time.Since(began); took > timeout {
		t.Errorf("1000 refusals took %v", took)
	}
	if !errors.Is(l.Err(), ErrUnavailable) {
		t.Errorf("health is %v", l.Err())
	}
	var got bytes.Buffer
	read := make(chan error, 1)
	lines := make(chan struct{})
	go func() {
		_, err := io.Copy(io.MultiWriter(&got, writerFunc(func(p []byte) {
			if bytes.Contains(p, []byte(OpResumed)) {
				close(lines)
			}
		})), r)
		read <- err
	}()
	<-lines // told without another request
	write(t, l, "after")
	if l.Err() != nil {
		t.Errorf("health after draining is %v", l.Err())
	}
	closeLog(t, l)
	w.Close()
	if err := <-read; err != nil {
		t.Fatal(err)
	}
	report, err := Verify(Options{Anchor: ptr(l.Head())}, &got)
	if err != nil || report.Lines < int64(acked)+2 {
		t.Errorf("%v: %+v with %d acknowledged", err, report, acked)
	}
}

// writerFunc looks at what is written.
type writerFunc func(p []byte)

func (f writerFunc) Write(p []byte) (int, error) { f(p); return len(p), nil }

// gate is a sink that does what the test says: each call of Write waits for a number of bytes to take and an error.
type gate struct {
	entered chan int // length of each write
	answer  chan func(p []byte) (int, error)
	bytes.Buffer
}

func newGate() *gate {
	return &gate{entered: make(chan int, 100), answer: make(chan func([]byte) (int, error))}
}

func (g *gate) Write(p []byte) (int, error) {
	g.entered <- len(p)
	n, err := (<-g.answer)(p)
	g.Buffer.Write(p[:n])
	return n, err
}

func takeAll(p []byte) (int, error) { return len(p), nil }

// TestTimeout uses a clock of its own: nobody waits longer than the timeout, wherever his record is.
func TestTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const timeout = 5 * time.Second
		g := newGate()
		l, err := Open(Config{Writer: g, QueueBytes: MaxLine})
		if err != nil {
			t.Fatal(err)
		}
		big := &Record{RequestURI: strings.Repeat("x", 4000), ID: strings.Repeat("y", 2000)}
		var wg sync.WaitGroup
		var refused atomic.Int32
		for i := range 8 { // one in the sink, two in the queue, five before it
			wg.Go(func() {
				began := time.Now()
				if err := l.Write(bg, big); !errors.Is(err, ErrUnavailable) {
					t.Errorf("wrote to a blocked sink: %v", err)
				}
				refused.Add(1)
				if took := time.Since(began); took > timeout {
					t.Errorf("writer %d waited %v", i, took)
				}
			})
			synctest.Wait()
			l.mu.Lock()
			if l.queueBytes > l.cfg.QueueBytes || len(l.queue) > 2 {
				t.Errorf("%d records of %d bytes are queued", len(l.queue), l.queueBytes)
			}
			l.mu.Unlock()
			<-time.After(200 * time.Millisecond) // by the bubble's clock
		}
		wg.Wait()
		began := time.Now()
		if err := l.Write(bg, big); !errors.Is(err, ErrUnavailable) || time.Since(began) != 0 {
			t.Errorf("not refused at once: %v after %v", err, time.Since(began))
		}
		g.answer <- takeAll // the stuck write ends well
		g.answer <- takeAll // and the refusals are told
		synctest.Wait()
		if l.Err() != nil {
			t.Errorf("health is %v", l.Err())
		}
		go func() { g.answer <- takeAll }()
		if err := l.Write(bg, &Record{CorrelationID: "last"}); err != nil {
			t.Error(err)
		}
		closeLog(t, l)
		report, err := Verify(Options{Anchor: ptr(l.Head()), After: &Head{}}, bytes.NewReader(g.Bytes()))
		got := decodeAll(t, g.Bytes())
		if err != nil || report.Lines != 3 || got[1].OperationName != OpResumed || got[2].CorrelationID != "last" {
			t.Fatalf("%v: %v", err, operations(got))
		}
		if want := fmt.Sprintf("%d records were refused", refused.Load()+1); !strings.HasPrefix(got[1].ResultDescription, want) {
			t.Errorf("told %q, want %q", got[1].ResultDescription, want)
		}
	})
}

// TestSlowSink: the time in the queue counts too, while another write is slow.
func TestSlowSink(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l, err := Open(Config{Writer: g, Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		first := make(chan error)
		go func() { first <- l.Write(bg, &Record{}) }()
		synctest.Wait()
		time.AfterFunc(3*time.Second, func() { g.answer <- takeAll })
		second := make(chan error)
		began := time.Now()
		go func() { second <- l.Write(bg, &Record{}) }()
		if err := <-first; err != nil {
			t.Error(err)
		}
		if err := <-second; !errors.Is(err, ErrUnavailable) || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		g.answer <- takeAll
		g.answer <- takeAll
		closeLog(t, l)
	})
}

// TestSlowQueue: so does the time before there was room in the queue.
func TestSlowQueue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l, err := Open(Config{Writer: g, Timeout: 5 * time.Second, QueueBytes: MaxLine})
		if err != nil {
			t.Fatal(err)
		}
		big := &Record{RequestURI: strings.Repeat("x", 4000), ID: strings.Repeat("y", 2000)}
		done := make(chan error, 4)
		began := time.Now()
		for range 4 { // one in the sink, two in the queue, one before it
			go func() { done <- l.Write(bg, big) }()
			synctest.Wait()
		}
		time.AfterFunc(3*time.Second, func() { g.answer <- takeAll })
		time.AfterFunc(4*time.Second, func() { g.answer <- takeAll })
		for range 3 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
		if err := <-done; !errors.Is(err, ErrUnavailable) || time.Since(began) != 5*time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
		g.answer <- takeAll
		g.answer <- takeAll
		closeLog(t, l)
	})
}

func TestCancelledCallerLeavesHisRecord(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l, err := Open(Config{Writer: g})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(bg)
		failed := make(chan error)
		go func() { failed <- l.Write(ctx, &Record{CorrelationID: "hung up"}) }()
		<-g.entered
		cancel()
		if err := <-failed; !errors.Is(err, ErrUnavailable) || !errors.Is(err, context.Canceled) {
			t.Errorf("a cancelled wait: %v", err)
		}
		// The answer to him must not reach the next caller.
		go func() { failed <- l.Write(bg, &Record{CorrelationID: "next"}) }()
		synctest.Wait()
		g.answer <- takeAll
		g.answer <- func([]byte) (int, error) { return 0, io.ErrNoProgress }
		if err := <-failed; !errors.Is(err, io.ErrNoProgress) {
			t.Errorf("the next caller: %v", err)
		}
		go func() { g.answer <- takeAll }()
		closeLog(t, l)
		if got := decodeAll(t, g.Bytes()); len(got) != 2 || got[0].CorrelationID != "hung up" {
			t.Errorf("%+v", got)
		}
	})
}

// TestStreamThatBreaks: of a batch of which a part was taken, whole lines count, and the rest is told to have failed.
func TestStreamThatBreaks(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate()
		l, err := Open(Config{Writer: g})
		if err != nil {
			t.Fatal(err)
		}
		results := make([]error, 5)
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() { results[i] = l.Write(bg, &Record{CorrelationID: fmt.Sprint(i)}) })
			synctest.Wait() // the first is in the sink, the others wait in their order
		}
		g.answer <- takeAll
		broken := errors.New("broken")
		g.answer <- func(p []byte) (int, error) { // two lines and a half of four
			second := bytes.IndexByte(p[bytes.IndexByte(p, '\n')+1:], '\n') + bytes.IndexByte(p, '\n') + 2
			return second + 50, broken
		}
		wg.Wait()
		for i, err := range results {
			if failed := i >= 3; failed != errors.Is(err, broken) || failed != errors.Is(err, ErrUnavailable) {
				t.Errorf("record %d: %v", i, err)
			}
		}
		if !errors.Is(l.Err(), broken) {
			t.Errorf("health is %v", l.Err())
		}
		// The log tries again by itself, for its health may keep all callers away.
		g.answer <- takeAll // the newline after the fragment
		g.answer <- takeAll
		synctest.Wait()
		if l.Err() != nil {
			t.Errorf("health is %v", l.Err())
		}
		closeLog(t, l)
		report, err := Verify(Options{Anchor: ptr(l.Head()), After: &Head{}}, bytes.NewReader(g.Bytes()))
		if !errors.Is(err, ErrBroken) || report.NProblems != 1 || report.Problems[0].Kind != Malformed ||
			report.Problems[0].Line != 4 || report.Events != 4 {
			t.Errorf("only the fragment is wrong: %+v", report)
		}
	})
}

func TestClosedLogRefuses(t *testing.T) {
	t.Parallel()
	l := open(t, Config{Writer: io.Discard})
	closeLog(t, l)
	closeLog(t, l)
	if err := l.Write(bg, &Record{}); !errors.Is(err, ErrUnavailable) {
		t.Errorf("wrote to a closed log: %v", err)
	}
}

func TestCloseOfABlockedLogEnds(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	l := open(t, Config{Path: path, Timeout: 200 * time.Millisecond})
	for l.Write(bg, &Record{RequestURI: strings.Repeat("x", 4000)}) == nil {
	}
	if err := l.Close(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("closing a blocked log: %v", err)
	}
	<-l.finished // closing the file freed the writer
}

// TestOnSync: the heads rise, calls do not overlap, and the last one is the last line.
func TestOnSync(t *testing.T) {
	t.Parallel()
	for _, every := range []time.Duration{0, 5 * time.Millisecond} {
		path := filepath.Join(t.TempDir(), "audit.log")
		var running, calls atomic.Int32
		var last Head // written by OnSync only, read after Close
		twice := make(chan struct{})
		l := open(t, Config{Path: path, SyncEvery: every, OnSync: func(h Head) {
			if running.Add(1) != 1 || h.Seq <= last.Seq {
				t.Errorf("told %v after %v", h, last)
			}
			last = h
			if calls.Add(1) == 2 {
				close(twice)
			}
			running.Add(-1)
		}})
		for more := true; more; {
			write(t, l, "x")
			select {
			case <-twice:
				more = false
			default:
			}
		}
		closeLog(t, l)
		if last != l.Head() {
			t.Errorf("the last head told is %v, the log ends at %v", last, l.Head())
		}
		readLog(t, path, Options{Anchor: &last})
	}
}

// TestFailedSync takes the file away under the log, so that fdatasync and write fail.
func TestFailedSync(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	l := open(t, Config{Path: path, SyncEvery: time.Millisecond, OnSync: func(Head) {}})
	write(t, l, "1")
	l.sink.file.Close()
	var err error
	for err == nil {
		err = l.Write(bg, &Record{})
	}
	if !errors.Is(err, ErrUnavailable) || !errors.Is(l.Err(), ErrUnavailable) {
		t.Errorf("%v, health %v", err, l.Err())
	}
	if err := l.Close(); !errors.Is(err, ErrUnavailable) {
		t.Errorf("closed well: %v", err)
	}
}
