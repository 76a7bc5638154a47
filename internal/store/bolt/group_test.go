package bolt

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/strongroom/strongroom/internal/store"
)

var errMine = errors.New("the function's own error")

// A crowd is Updates that wait behind one whose function does not return, so that they will share its commit.
type crowd struct {
	db   *DB
	wg   sync.WaitGroup
	goOn chan struct{}
}

// newCrowd starts the first one, which writes key "first". It must be called in a synctest bubble.
func newCrowd(t *testing.T, db *DB) *crowd {
	c := &crowd{db: db, goOn: make(chan struct{})}
	c.wg.Go(func() {
		err := db.Update(t.Context(), func(tx store.Tx) error {
			<-c.goOn
			return tx.Put("first", []byte("1"))
		})
		if err != nil {
			t.Errorf("the first: %v", err)
		}
	})
	synctest.Wait()
	return c
}

// add queues an Update and hands its outcome to check.
func (c *crowd) add(t *testing.T, fn func(store.Tx) error, check func(error)) {
	c.wg.Go(func() { check(c.db.Update(t.Context(), fn)) })
	synctest.Wait() // so that they are queued in the order of the calls
}

// run lets all go.
func (c *crowd) run() {
	close(c.goOn)
	c.wg.Wait()
}

func wantErr(t *testing.T, want error) func(error) {
	return func(err error) {
		if !errors.Is(err, want) {
			t.Errorf("Update: %v, want %v", err, want)
		}
	}
}

func putFn(key, value string) func(store.Tx) error {
	return func(tx store.Tx) error { return tx.Put(key, []byte(value)) }
}

// inBubble runs fn on a new store in a synctest bubble.
func inBubble(t *testing.T, opts *Options, fn func(*testing.T, *DB)) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	synctest.Test(t, func(t *testing.T) {
		db, err := Open(path, opts)
		if err != nil {
			t.Fatal(err)
		}
		fn(t, db)
		wantSound(t, db)
		mustClose(t, db)
	})
}

func TestGroupSharesOneCommit(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, db *DB) {
		c := newCrowd(t, db)
		for i := range 50 {
			c.add(t, func(tx store.Tx) error {
				if i > 0 { // each sees the one before
					if _, err := tx.Get(fmt.Sprint("k", i-1)); err != nil {
						return err
					}
				}
				return tx.Put(fmt.Sprint("k", i), []byte("v"))
			}, wantErr(t, nil))
		}
		c.run()
		if s := db.Stats(); s.Commits != 1 || s.Updates != 51 {
			t.Errorf("%d updates in %d commits, want 51 in 1", s.Updates, s.Commits)
		}
		for i := range 50 {
			wantValue(t, db, fmt.Sprint("k", i), "v")
		}
	})
}

func TestGroupIsBounded(t *testing.T) {
	t.Run("runs", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, db *DB) {
			c := newCrowd(t, db)
			for i := range 2 * maxGroup {
				c.add(t, putFn(fmt.Sprint("k", i), "v"), wantErr(t, nil))
			}
			c.run()
			if s := db.Stats(); s.Commits != 3 || s.Updates != 2*maxGroup+1 {
				t.Errorf("%d updates in %d commits, want %d in 3", s.Updates, s.Commits, 2*maxGroup+1)
			}
		})
	})
	t.Run("bytes", func(t *testing.T) {
		inBubble(t, nil, func(t *testing.T, db *DB) {
			c := newCrowd(t, db)
			big := strings.Repeat("x", store.MaxValue)
			for i := range 17 { // eight fill a group, the keys make up for the difference
				c.add(t, putFn(fmt.Sprint("k", i), big), wantErr(t, nil))
			}
			c.run()
			if s := db.Stats(); s.Commits != 3 || s.Updates != 18 {
				t.Errorf("%d updates in %d commits, want 18 in 3", s.Updates, s.Commits)
			}
		})
	})
}

func TestReadOnlyUpdateDoesNotCommit(t *testing.T) {
	t.Parallel()
	db := mustOpen(t, filepath.Join(t.TempDir(), "db"))
	defer mustClose(t, db)
	for _, want := range []error{nil, errMine} {
		err := db.Update(t.Context(), func(tx store.Tx) error {
			if _, err := tx.Get("k"); !errors.Is(err, store.ErrNotFound) {
				return err
			}
			return want
		})
		if !errors.Is(err, want) {
			t.Errorf("Update: %v, want %v", err, want)
		}
	}
	if s := db.Stats(); s.Commits != 0 || s.Updates != 0 {
		t.Errorf("%d updates, %d commits, want none", s.Updates, s.Commits)
	}
}

func TestGroupMembersFailAlone(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, db *DB) {
		c := newCrowd(t, db)
		c.add(t, putFn("a", "1"), wantErr(t, nil))
		c.add(t, func(tx store.Tx) error { return errors.Join(tx.Put("a", []byte("bad")), tx.Delete("first"), errMine) }, wantErr(t, errMine))
		c.wg.Go(func() {
			defer func() {
				if p := recover(); p != errMine {
					t.Errorf("the panic reaches the caller as %v", p)
				}
			}()
			_ = db.Update(t.Context(), func(tx store.Tx) error { _ = tx.Put("a", []byte("bad")); panic(errMine) })
		})
		synctest.Wait()
		c.add(t, func(tx store.Tx) error { _ = tx.Put("", nil); return tx.Put("a", []byte("bad")) }, wantErr(t, store.ErrKey))
		c.add(t, func(tx store.Tx) error {
			v, err := tx.Get("a")
			return errors.Join(err, tx.Put("b", append(v, '2')))
		}, wantErr(t, nil))
		c.run()
		if s := db.Stats(); s.Commits != 1 || s.Updates != 3 {
			t.Errorf("%d updates in %d commits, want 3 in 1", s.Updates, s.Commits)
		}
		wantValue(t, db, "first", "1")
		wantValue(t, db, "a", "1")
		wantValue(t, db, "b", "12")
	})
}

// TestQueuedUpdateGivesUp ends the contexts of Updates that wait while the first runs on.
func TestQueuedUpdateGivesUp(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, db *DB) {
		c := newCrowd(t, db)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 10)
		for range cap(ended) {
			go func() {
				ended <- db.Update(ctx, func(store.Tx) error { t.Error("it ran"); return nil })
			}()
		}
		synctest.Wait()
		if n := db.turn.waiting.Len(); n != cap(ended) {
			t.Errorf("%d wait, want %d", n, cap(ended))
		}
		cancel()
		for range cap(ended) {
			wantErr(t, context.Canceled)(<-ended)
		}
		if n := db.turn.waiting.Len(); n != 0 {
			t.Errorf("%d still wait", n)
		}
		c.run()
		wantValue(t, db, "first", "1")
	})
}

// TestCanceledAtTheHandover ends the context of the one who waits just before the turn, and with it the duty to commit the
// group, comes to him.
func TestCanceledAtTheHandover(t *testing.T) {
	t.Parallel()
	db := mustOpen(t, filepath.Join(t.TempDir(), "db"))
	defer mustClose(t, db)
	for i := range 100 {
		ctx, cancel := context.WithCancel(t.Context())
		inside, queued := make(chan struct{}), make(chan struct{})
		var wg sync.WaitGroup
		wg.Go(func() {
			err := db.Update(t.Context(), func(tx store.Tx) error {
				close(inside)
				<-queued
				cancel()
				return tx.Put(fmt.Sprint("k", i), []byte("v"))
			})
			if err != nil {
				t.Errorf("the one that ran: %v", err)
			}
		})
		<-inside
		wg.Go(func() {
			close(queued)
			if err := put1(ctx, db, "canceled", "x"); !errors.Is(err, context.Canceled) {
				t.Errorf("the one that was canceled: %v", err)
			}
		})
		wg.Wait()
		wantValue(t, db, fmt.Sprint("k", i), "v")
	}
	wantValue(t, db, "canceled", "")
}

// TestFullGroupIsTriedOneByOne puts one Update that does not fit among small ones. The last of them fails in the group
// because of what it sees of the big one; that never was, so its error may not come out.
func TestFullGroupIsTriedOneByOne(t *testing.T) {
	inBubble(t, &Options{MaxSize: 1 << 20}, func(t *testing.T, db *DB) {
		c := newCrowd(t, db)
		c.add(t, putFn("a", "1"), wantErr(t, nil))
		c.add(t, putFn("big", strings.Repeat("x", store.MaxValue)), wantErr(t, store.ErrFull))
		c.add(t, putFn("b", "2"), wantErr(t, nil))
		runs := 0
		c.add(t, func(tx store.Tx) error {
			runs++
			if _, err := tx.Get("big"); err == nil {
				return errMine
			}
			return tx.Put("c", []byte("3"))
		}, wantErr(t, nil))
		c.run()
		if runs != 2 {
			t.Errorf("the last ran %d times, want 2", runs)
		}
		for key, want := range map[string]string{"first": "1", "a": "1", "big": "", "b": "2", "c": "3"} {
			wantValue(t, db, key, want)
		}
		if s := db.Stats(); s.Updates != 4 {
			t.Errorf("%d updates counted, want 4", s.Updates)
		}
	})
}

// TestAloneTakesNoOther lets an Update that is tried alone come between others.
func TestAloneTakesNoOther(t *testing.T) {
	inBubble(t, nil, func(t *testing.T, db *DB) {
		c := newCrowd(t, db)
		c.add(t, putFn("a", "1"), wantErr(t, nil))
		c.wg.Go(func() {
			g, err := db.run(t.Context(), putFn("b", "2"), true)
			if g == nil || err != nil {
				t.Errorf("run: %v, %v", g, err)
				return
			}
			<-g.done
			if len(g.applied) != 1 || g.err != nil {
				t.Errorf("%d wrote to the group, %v; want one", len(g.applied), g.err)
			}
		})
		synctest.Wait()
		c.add(t, putFn("c", "3"), wantErr(t, nil))
		c.run()
		if s := db.Stats(); s.Commits != 3 || s.Updates != 4 {
			t.Errorf("%d updates in %d commits, want 4 in 3", s.Updates, s.Commits)
		}
	})
}

// TestCloseLetsTheGroupCommit closes the store while one Update runs and others wait: it is committed, they are refused.
func TestCloseLetsTheGroupCommit(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	synctest.Test(t, func(t *testing.T) {
		db := mustOpen(t, path)
		c := newCrowd(t, db)
		for i := range 10 {
			c.add(t, putFn(fmt.Sprint("k", i), "v"), wantErr(t, store.ErrClosed))
		}
		c.wg.Go(func() { mustClose(t, db) })
		synctest.Wait()
		c.run()
	})
	db := mustOpen(t, path)
	defer mustClose(t, db)
	wantValue(t, db, "first", "1")
	for i := range 10 {
		wantValue(t, db, fmt.Sprint("k", i), "")
	}
}

// TestTornGroupIsNotCommitted applies writes of which the second is refused by bbolt, to a group that has others' writes.
func TestTornGroupIsNotCommitted(t *testing.T) {
	t.Parallel()
	db := mustOpen(t, filepath.Join(t.TempDir(), "db"))
	defer mustClose(t, db)
	if err := errors.Join(db.turn.take(t.Context()), db.ready(t.Context(), false)); err != nil {
		t.Fatal(err)
	}
	g := db.group
	if err := g.apply([]store.Entry{{Key: "other", Value: []byte("v")}}); err != nil {
		t.Fatal(err)
	}
	if err := g.apply([]store.Entry{{Key: "half", Value: []byte("v")}, {Key: "", Value: []byte("v")}}); err == nil {
		t.Error("bbolt takes an empty key")
	}
	db.leave()
	if <-g.done; g.err == nil || errors.Is(g.err, store.ErrUnknown) {
		t.Errorf("the group ended with %v", g.err)
	}
	wantValue(t, db, "half", "")
	wantValue(t, db, "other", "")
	mustPut(t, db, "k", "v")
	wantSound(t, db)
}
