package bolt

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/strongroom/strongroom/internal/store"
)

// childVar makes the test binary run as the child of a test: "<what> <path>".
const childVar = "STRONGROOM_BOLT_CHILD"

// bg is for the children, which end with their process.
var bg = context.Background()

func TestMain(m *testing.M) {
	what, path, ok := strings.Cut(os.Getenv(childVar), " ")
	if !ok {
		os.Exit(m.Run())
	}
	children := map[string]func(string) error{"kill": childKill, "limit": childLimit}
	if err := children[what](path); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func child(t *testing.T, what, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), childVar+"="+what+" "+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// TestFullDisk fills a store until the kernel refuses to make its file longer; see childLimit.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	out, err := child(t, "limit", filepath.Join(t.TempDir(), "db")).Output()
	var acked int
	if _, scanErr := fmt.Sscanf(string(out), "acknowledged %d", &acked); err != nil || scanErr != nil || acked < 100 {
		t.Errorf("the child ended with %v and wrote %q", err, out)
	}
}

// fillConcurrently writes until there is no more room, and returns the keys that were acknowledged. Keys "extra…" come
// first, to be deleted.
func fillConcurrently(db *DB) ([]string, error) {
	for i := range 5 {
		if err := put1(bg, db, fmt.Sprint("extra", i), "x"); err != nil {
			return nil, err
		}
	}
	var mu sync.Mutex
	var acked []string
	var failed []error
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d-%d", w, i)
				err := put1(bg, db, key, strings.Repeat(key, 1000))
				mu.Lock()
				if err == nil {
					acked = append(acked, key)
				} else if !errors.Is(err, store.ErrFull) || errors.Is(err, store.ErrUnknown) {
					failed = append(failed, err)
				}
				mu.Unlock()
				if err != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return acked, errors.Join(failed...)
}

// holds checks what fillConcurrently wrote.
func holds(db *DB, keys []string) error {
	return db.View(bg, func(r store.Reader) error {
		for _, key := range keys {
			v, err := r.Get(key)
			if err != nil || string(v) != strings.Repeat(key, 1000) {
				return fmt.Errorf("%s was acknowledged and is now %.20q, %w", key, v, err)
			}
		}
		return nil
	})
}

const (
	killWriters = 8
	killRounds  = 20
)

// childKill writes until it is killed. Each Update sets left/<w>/<n> and right/<w>/<n> to the same value, counts itself in
// "total", and deletes what it wrote some rounds before; after it has returned a line "<w> <n>" says so.
func childKill(path string) error {
	db, err := Open(path, nil)
	if err != nil {
		return err
	}
	var out sync.Mutex // lines must not mix
	errs := make(chan error)
	for w := range killWriters {
		go func() {
			for {
				n, err := writePair(db, w)
				if err != nil {
					errs <- err
					return
				}
				out.Lock()
				fmt.Println(w, n)
				out.Unlock()
			}
		}()
	}
	return <-errs
}

const keepPairs = 20

func writePair(db *DB, w int) (n int, err error) {
	err = db.Update(bg, func(tx store.Tx) error {
		last, errN := number(tx, fmt.Sprint("last/", w))
		total, errT := number(tx, "total")
		n = last + 1
		value := pairValue(w, n)
		return errors.Join(errN, errT,
			tx.Put(pairKey("left", w, n), value),
			tx.Put(fmt.Sprint("last/", w), fmt.Append(nil, n)),
			tx.Put("total", fmt.Append(nil, total+1)),
			tx.Put(pairKey("right", w, n), value),
			tx.Delete(pairKey("left", w, n-keepPairs)),
			tx.Delete(pairKey("right", w, n-keepPairs)))
	})
	return n, err
}

func pairKey(side string, w, n int) string { return fmt.Sprintf("%s/%d/%08d", side, w, n) }

// pairValue is between a few bytes and several pages long.
func pairValue(w, n int) []byte {
	return []byte(strings.Repeat(fmt.Sprintf("%d/%d ", w, n), 1+n*n%2000))
}

func number(r store.Reader, key string) (n int, err error) {
	v, err := r.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err == nil {
		_, err = fmt.Sscan(string(v), &n)
	}
	return n, err
}

// TestKill kills a process that writes, again and again, and checks that what it had acknowledged is there and that nothing
// is there by half.
func TestKill(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	mustClose(t, mustOpen(t, path)) // creating it is not what is tested
	seed := rand.Uint64()
	t.Logf("seed %#x", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	var acked [killWriters]int
	acks := 0
	for round := range killRounds {
		n := killAfter(t, path, 1+rng.IntN(1+rng.IntN(300)), &acked)
		acks += n
		db := mustOpen(t, path)
		checkPairs(t, db, acked)
		wantSound(t, db)
		mustClose(t, db)
		if t.Failed() {
			t.Fatalf("in round %d, after %d acknowledgements", round, n)
		}
	}
	if acks < killRounds {
		t.Errorf("only %d acknowledgements in %d rounds", acks, killRounds)
	}
}

// killAfter runs a child, kills it once it has acknowledged n writes, and notes in acked all that it said until then.
func killAfter(t *testing.T, path string, n int, acked *[killWriters]int) int {
	t.Helper()
	cmd := child(t, "kill", path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := 0
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var w, i int
		if _, err := fmt.Sscan(lines.Text(), &w, &i); err != nil || w >= killWriters {
			continue // the last line may be cut off
		}
		acked[w] = max(acked[w], i)
		if said++; said == n {
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		}
	}
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.ExitCode() != -1 {
		t.Errorf("the child was not killed but ended with %v", err)
	}
	return said
}

func checkPairs(t *testing.T, db *DB, acked [killWriters]int) {
	t.Helper()
	err := db.View(t.Context(), func(r store.Reader) error {
		sum := 0
		for w, want := range acked {
			last, err := number(r, fmt.Sprint("last/", w))
			if err != nil {
				return err
			}
			if last < want {
				t.Errorf("writer %d: %d was acknowledged, the store has %d", w, want, last)
			}
			sum += last
			for _, side := range []string{"left", "right"} {
				if err := checkSide(t, r, side, w, last); err != nil {
					return err
				}
			}
		}
		total, err := number(r, "total")
		if total != sum {
			t.Errorf("%d transactions counted, %d found", total, sum)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// checkSide checks that a side holds exactly the last pairs up to last.
func checkSide(t *testing.T, r store.Reader, side string, w, last int) error {
	t.Helper()
	n := max(0, last-keepPairs)
	prefix := fmt.Sprintf("%s/%d/", side, w)
	for e, err := range r.Scan(prefix, store.PrefixEnd(prefix)) {
		if err != nil {
			return err
		}
		if n++; e.Key != pairKey(side, w, n) || string(e.Value) != string(pairValue(w, n)) {
			t.Errorf("%s is there instead of %s, or by half", e.Key, pairKey(side, w, n))
		}
	}
	if n != last {
		t.Errorf("%s ends at %d, want %d", prefix, n, last)
	}
	return nil
}
