package audit

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// child is the test binary started again as a process of its own, to be killed or starved.
func child(mode string, args []string) int {
	var err error
	switch mode {
	case "write":
		err = childWrite(args[0])
	case "full":
		err = childFull(args[0])
	default:
		err = errors.New("unknown mode")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// childWrite writes records until it is killed, and prints the correlation id of each that was acknowledged.
func childWrite(path string) error {
	l, err := Open(Config{Path: path, SyncEvery: time.Second})
	if err != nil {
		return err
	}
	var mu sync.Mutex // guards os.Stdout
	errs := make(chan error)
	for worker := range 4 {
		go func() {
			for i := 0; ; i++ {
				id := fmt.Sprintf("%d-%d-%d", os.Getpid(), worker, i)
				if err := l.Write(bg, &Record{Operation: "SecretGet", CorrelationID: id}); err != nil {
					errs <- err
					return
				}
				mu.Lock()
				fmt.Println(id)
				mu.Unlock()
			}
		}()
	}
	return <-errs
}

// TestKilledProcessLosesNothing kills a writing process again and again on one file.
func TestKilledProcessLosesNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "audit.log")
	acked := make(map[string]bool)
	for range 5 {
		cmd := exec.Command(os.Args[0], path)
		cmd.Env = append(os.Environ(), "AUDIT_TEST_CHILD=write")
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		r, die := bufio.NewReader(out), 50+rand.IntN(500)
		for n := 0; ; n++ {
			id, err := r.ReadString('\n')
			if err != nil {
				break
			}
			acked[strings.TrimSpace(id)] = true
			if n == die {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := cmd.Wait(); err == nil {
			t.Fatal("the child ended by itself")
		}
	}
	l := open(t, Config{Path: path})
	closeLog(t, l)
	report, lines := readLog(t, path, Options{Anchor: ptr(l.Head())})
	if len(acked) < 250 {
		t.Fatalf("only %d records were acknowledged", len(acked))
	}
	for _, one := range lines {
		delete(acked, one.CorrelationID)
	}
	if len(acked) > 0 {
		t.Errorf("%d acknowledged records are not among %d lines", len(acked), report.Lines)
	}
}

// childFull fills the file up to the size that the process may write, then is given more room.
func childFull(path string) error {
	signal.Ignore(syscall.SIGXFSZ) // so that write(2) answers EFBIG
	const room = 100_000
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
		return err
	}
	small := limit
	small.Cur = room
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
		return err
	}
	for _, every := range []time.Duration{0, time.Minute} {
		file := fmt.Sprintf("%s.%d", path, every)
		if err := fillUp(file, room, every, func() error { return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit) }); err != nil {
			return fmt.Errorf("sync every %v: %w", every, err)
		}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &small); err != nil {
			return err
		}
	}
	return nil
}

// fillUp does childFull's work on one file. Several callers write at once, so that a write takes some of its lines.
func fillUp(path string, room int64, every time.Duration, makeRoom func() error) error {
	l, err := Open(Config{Path: path, SyncEvery: every})
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	var mu sync.Mutex // guards acked and last
	var last error
	acked := 0
	for range 8 {
		wg.Go(func() {
			for range 60 {
				err := l.Write(bg, &Record{Operation: "KeySign", ResultDescription: strings.Repeat("x", 300)})
				mu.Lock()
				if err == nil {
					acked++
				} else {
					last = err
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if !errors.Is(last, ErrUnavailable) || !errors.Is(last, syscall.EFBIG) || !errors.Is(l.Err(), ErrUnavailable) {
		return fmt.Errorf("writing beyond the limit: %v, health %v", last, l.Err())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if bytes.Count(b, []byte("\n")) != acked || b[len(b)-1] != '\n' || int64(len(b)) > room || len(b) < int(room)-2000 {
		return fmt.Errorf("%d acknowledged, %d lines in %d bytes", acked, bytes.Count(b, []byte("\n")), len(b))
	}
	if err := makeRoom(); err != nil {
		return err
	}
	if err := l.Write(bg, &Record{Operation: "KeySign"}); err != nil || l.Err() != nil {
		return fmt.Errorf("with room again: %v, health %v", err, l.Err())
	}
	if err := l.Close(); err != nil {
		return err
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	report, err := Verify(Options{Anchor: ptr(l.Head())}, f)
	if err != nil || report.Lines != int64(acked)+2 { // and the one that tells of the refused
		return fmt.Errorf("%d acknowledged, %d lines: %w", acked, report.Lines, err)
	}
	return nil
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	cmd := exec.Command(os.Args[0], filepath.Join(t.TempDir(), "audit.log"))
	cmd.Env = append(os.Environ(), "AUDIT_TEST_CHILD=full")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}
