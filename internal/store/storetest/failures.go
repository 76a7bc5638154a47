package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/strongroom/strongroom/internal/store"
)

var errMine = errors.New("storetest: the function's own error")

func testFailureLeavesNothing(t *testing.T, s suite) {
	s.put(t, "k", "v")
	err := s.db.Update(t.Context(), func(tx store.Tx) error {
		return errors.Join(putPairs(tx, "k", "x", "new", "y"), tx.Delete("k"), errMine)
	})
	if !errors.Is(err, errMine) {
		t.Errorf("Update: %v", err)
	}
	if err := s.db.Update(t.Context(), func(tx store.Tx) error { return errMine }); err != errMine {
		t.Errorf("Update changes the error to %v", err)
	}
	if err := s.db.View(t.Context(), func(store.Reader) error { return errMine }); err != errMine {
		t.Errorf("View changes the error to %v", err)
	}
	s.want(t, "k", "v")
}

// testFailureAmongOthers mixes functions that fail with others that succeed, all on the same keys.
func testFailureAmongOthers(t *testing.T, s suite) {
	const workers, each = 8, 30
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				fails := (w+i)%2 == 0
				err := s.db.Update(t.Context(), func(tx store.Tx) error {
					n, err := getInt(tx, "n")
					if err != nil {
						return err
					}
					if !fails {
						return putInt(tx, "n", n+1)
					}
					return errors.Join(putInt(tx, "n", n+1000), putInt(tx, fmt.Sprint("bad", w), 1), errMine)
				})
				if errors.Is(err, errMine) != fails || !fails && err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	s.want(t, "n", fmt.Sprint(workers*each/2))
}

func testPanic(t *testing.T, s suite) {
	s.put(t, "k", "v")
	for _, call := range []func() error{
		func() error {
			return s.db.Update(t.Context(), func(tx store.Tx) error {
				_ = tx.Put("k", []byte("x"))
				panic(errMine)
			})
		},
		func() error { return s.db.View(t.Context(), func(store.Reader) error { panic(errMine) }) },
	} {
		var wg sync.WaitGroup
		for i := range 8 { // others go on beside it
			wg.Go(func() {
				if err := s.db.Update(t.Context(), func(tx store.Tx) error { return putInt(tx, fmt.Sprint("k", i), i) }); err != nil {
					t.Errorf("beside a panic: %v", err)
				}
			})
		}
		if p := recovered(call); p != errMine {
			t.Errorf("the panic reaches the caller as %v", p)
		}
		wg.Wait()
	}
	s.want(t, "k", "v", "k0", "0", "k1", "1", "k2", "2", "k3", "3", "k4", "4", "k5", "5", "k6", "6", "k7", "7")
}

func recovered(call func() error) (p any) {
	defer func() { p = recover() }()
	_ = call()
	return nil
}

// testGoexit is about t.FailNow, which ends the goroutine that calls it.
func testGoexit(t *testing.T, s suite) {
	var wg sync.WaitGroup
	wg.Go(func() {
		_ = s.db.Update(t.Context(), func(tx store.Tx) error {
			_ = tx.Put("k", []byte("x"))
			runtime.Goexit()
			return nil
		})
		t.Error("Update returned")
	})
	wg.Go(func() {
		_ = s.db.View(t.Context(), func(store.Reader) error { runtime.Goexit(); return nil })
		t.Error("View returned")
	})
	wg.Wait()
	s.put(t, "l", "v")
	s.want(t, "l", "v")
}

func testCancelBefore(t *testing.T, s suite) {
	ran := false
	ctx := canceled(t.Context())
	err := s.db.Update(ctx, func(tx store.Tx) error { ran = true; return tx.Put("k", nil) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update: %v", err)
	}
	if err := s.db.View(ctx, func(store.Reader) error { ran = true; return nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("View: %v", err)
	}
	if ran {
		t.Error("a function ran although its context had ended")
	}
	s.want(t)
}

func testCancelInside(t *testing.T, s suite) {
	ctx, cancel := context.WithCancel(t.Context())
	err := s.db.Update(ctx, func(tx store.Tx) error {
		cancel()
		return tx.Put("k", nil)
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update: %v", err)
	}
	s.want(t)
}

// testCancelQueued ends the context of Updates while another one runs, behind which an embedded store lets them wait.
func testCancelQueued(t *testing.T, s suite) {
	ctx, cancel := context.WithCancel(t.Context())
	inside, others := make(chan struct{}, 2), make(chan struct{})
	var first sync.WaitGroup
	first.Go(func() {
		s.put(t, "before", "1")
		err := s.db.Update(t.Context(), func(tx store.Tx) error {
			inside <- struct{}{}
			<-others
			return tx.Put("k", nil)
		})
		if err != nil {
			t.Errorf("the one that runs: %v", err)
		}
	})
	<-inside
	var queued sync.WaitGroup
	for i := range 4 {
		queued.Go(func() {
			err := s.db.Update(ctx, func(tx store.Tx) error {
				<-ctx.Done() // where they do not wait, they get as far as this
				return putInt(tx, fmt.Sprint("queued", i), 1)
			})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("one that waits: %v", err)
			}
		})
	}
	cancel()
	queued.Wait() // they must not need the first to end
	close(others)
	first.Wait()
	s.put(t, "after", "2")
	s.want(t, "after", "2", "before", "1", "k", "")
}

func testCancelScan(t *testing.T, s suite) {
	for i := range 50 {
		s.update(t, func(tx store.Tx) error {
			for j := range 100 {
				if err := tx.Put(fmt.Sprintf("k%02d%02d", i, j), nil); err != nil {
					return err
				}
			}
			return nil
		})
	}
	scan := func(r store.Reader, cancel func()) {
		n := 0
		for _, err := range r.Scan("", "") {
			if cancel(); err == nil {
				n++
			} else if !errors.Is(err, context.Canceled) {
				t.Errorf("Scan: %v", err)
			}
		}
		if n == 5000 {
			t.Error("Scan does not look at its context")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := s.db.View(ctx, func(r store.Reader) error { scan(r, cancel); return nil }); err != nil {
		t.Errorf("View: %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	err := s.db.Update(ctx, func(tx store.Tx) error { scan(tx, cancel); return tx.Put("k", nil) })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Update: %v", err)
	}
}

func testCloseWaits(t *testing.T, open func() store.DB) {
	db := open()
	suite{db}.put(t, "k", "v")
	inside, goOn := make(chan struct{}, 4), make(chan struct{})
	var running, closing sync.WaitGroup
	running.Go(func() {
		err := db.View(t.Context(), func(r store.Reader) error {
			inside <- struct{}{}
			<-goOn
			wantScan(t, r, "", "", "k", "v")
			return nil
		})
		if err != nil {
			t.Errorf("the View that runs: %v", err)
		}
	})
	running.Go(func() {
		err := db.Update(t.Context(), func(tx store.Tx) error {
			inside <- struct{}{}
			<-goOn
			return tx.Put("l", []byte("w"))
		})
		// Between two runs of its function Close may come first.
		if err != nil && !errors.Is(err, store.ErrClosed) {
			t.Errorf("the Update that runs: %v", err)
		}
		if err == nil {
			inside <- struct{}{}
		}
	})
	<-inside
	<-inside
	closing.Go(func() {
		if err := db.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	for range 10 {
		runtime.Gosched()
	}
	close(goOn)
	running.Wait()
	closing.Wait()
	written := len(inside) > 0

	db = open()
	defer db.Close()
	suite{db}.view(t, func(r store.Reader) error {
		if _, err := r.Get("l"); written && err != nil {
			t.Errorf("an acknowledged write is gone: %v", err)
		}
		return nil
	})
}
