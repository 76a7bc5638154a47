// Package storetest is the contract of package store as a test suite, which every driver must pass, and a store.DB that
// fails on purpose, for the tests of everything that uses one.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/store"
)

// Test checks that the driver behind open keeps the contract. open opens the store that lives in dir, or creates it; it is
// called again on the same dir after Close. It is called from several tests at once.
//
// The whole suite runs twice: on the store as it is, and with half of the functions run twice by Faulty, which finds tests
// and drivers that rely on one run only.
func Test(t *testing.T, open func(t *testing.T, dir string) store.DB) {
	t.Run("Plain", func(t *testing.T) {
		t.Parallel()
		testAll(t, open)
	})
	t.Run("Twice", func(t *testing.T) {
		t.Parallel()
		testAll(t, func(t *testing.T, dir string) store.DB {
			f := NewFaulty(open(t, dir), 1)
			f.SetPlan(Plan{Twice: 0.5})
			return f
		})
	})
}

func testAll(t *testing.T, open func(t *testing.T, dir string) store.DB) {
	onEmpty := map[string]func(*testing.T, suite){
		"ReadYourWrites":     testReadYourWrites,
		"Values":             testValues,
		"Aliasing":           testAliasing,
		"Keys":               testKeys,
		"KeyErrorIsSticky":   testKeyErrorIsSticky,
		"Limits":             testLimits,
		"ScanBounds":         testScanBounds,
		"ScanMerge":          testScanMerge,
		"ScanTwiceAndBreak":  testScanTwiceAndBreak,
		"FailureLeavesNone":  testFailureLeavesNothing,
		"FailureAmongOthers": testFailureAmongOthers,
		"Ended":              testEnded,
		"Panic":              testPanic,
		"Goexit":             testGoexit,
		"CancelBefore":       testCancelBefore,
		"CancelInside":       testCancelInside,
		"CancelQueued":       testCancelQueued,
		"CancelScan":         testCancelScan,
		"Snapshot":           testSnapshot,
		"SeesAcknowledged":   testSeesAcknowledged,
		"LostUpdate":         testLostUpdate,
		"WriteSkew":          testWriteSkew,
		"PhantomInsert":      testPhantomInsert,
		"PhantomDelete":      testPhantomDelete,
		"Serialisable":       testSerialisable,
	}
	for name, test := range onEmpty {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := open(t, filepath.Clean(t.TempDir()))
			t.Cleanup(func() {
				if err := db.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			test(t, suite{db})
		})
	}
	onDir := map[string]func(*testing.T, func() store.DB){
		"Closed":        testClosed,
		"CloseWaits":    testCloseWaits,
		"Reopen":        testReopen,
		"RandomHistory": testRandomHistory,
	}
	for name, test := range onDir {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			test(t, func() store.DB { return open(t, dir) })
		})
	}
}

// A suite has the short forms in which the tests speak to a store.
type suite struct {
	db store.DB
}

// update runs fn, which must succeed.
func (s suite) update(t *testing.T, fn func(store.Tx) error) {
	t.Helper()
	if err := s.db.Update(t.Context(), fn); err != nil {
		t.Fatalf("Update: %v", err)
	}
}

// put writes pairs of keys and values in one transaction.
func (s suite) put(t *testing.T, pairs ...string) {
	t.Helper()
	s.update(t, func(tx store.Tx) error { return putPairs(tx, pairs...) })
}

func putPairs(tx store.Tx, pairs ...string) error {
	for i := 0; i < len(pairs); i += 2 {
		if err := tx.Put(pairs[i], []byte(pairs[i+1])); err != nil {
			return err
		}
	}
	return nil
}

// view runs fn, which must succeed.
func (s suite) view(t *testing.T, fn func(store.Reader) error) {
	t.Helper()
	if err := s.db.View(t.Context(), fn); err != nil {
		t.Fatalf("View: %v", err)
	}
}

// want checks that the store holds exactly these pairs of keys and values.
func (s suite) want(t *testing.T, pairs ...string) {
	t.Helper()
	s.view(t, func(r store.Reader) error {
		wantScan(t, r, "", "", pairs...)
		return nil
	})
}

// wantScan checks what r yields between start and end, and that Get agrees.
func wantScan(t *testing.T, r store.Reader, start, end string, pairs ...string) {
	t.Helper()
	got, err := collect(r, start, end)
	if err != nil {
		t.Errorf("Scan(%q, %q): %v", start, end, err)
	}
	if diff := cmp.Diff(append([]string{}, pairs...), append([]string{}, got...)); diff != "" {
		t.Errorf("Scan(%q, %q) (-want +got):\n%s", start, end, diff)
	}
	for i := 0; i+1 < len(got) && i < 40; i += 2 {
		if v, err := r.Get(got[i]); err != nil || string(v) != got[i+1] {
			t.Errorf("Get(%q) = %q, %v; Scan has %q", got[i], v, err, got[i+1])
		}
	}
}

// collect returns the keys and values between start and end.
func collect(r store.Reader, start, end string) ([]string, error) {
	var pairs []string
	for e, err := range r.Scan(start, end) {
		if err != nil {
			if e.Key != "" || e.Value != nil {
				return nil, fmt.Errorf("an entry beside the error %w", err)
			}
			return pairs, err
		}
		pairs = append(pairs, e.Key, string(e.Value))
	}
	return pairs, nil
}

// getInt reads a number, 0 if there is none.
func getInt(r store.Reader, key string) (int, error) {
	v, err := r.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var n int
	_, err = fmt.Sscan(string(v), &n)
	return n, err
}

func putInt(tx store.Tx, key string, n int) error {
	return tx.Put(key, fmt.Append(nil, n))
}

func canceled(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancel(ctx)
	cancel()
	return ctx
}
