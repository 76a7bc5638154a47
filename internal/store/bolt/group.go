package bolt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"syscall"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/strongroom/strongroom/internal/store"
)

const (
	// A group is closed once it has run this many functions or holds this many bytes, which bounds how long the first
	// waits for the last, and the memory that a commit needs (some times maxGroupBytes).
	maxGroup      = 256
	maxGroupBytes = 8 << 20

	// maxYields is how often a writer lets others run before it commits, if the last commit served several. Those have
	// just been woken and are about to write again; without it groups of everybody and of one would alternate. It is a
	// matter of microseconds, and a lone writer does not do it.
	maxYields = 4
)

// A group is the Updates that share one commit. Until done is closed it belongs to whoever holds the turn.
type group struct {
	tx      *bbolt.Tx
	data    *bbolt.Bucket   // of tx
	applied [][]store.Entry // what the functions wrote, in order, for doing it again in another tx; a nil Value deletes
	bytes   int             // size of applied
	runs    int             // functions run, whether or not they wrote
	full    bool            // takes no more functions
	torn    bool            // a write was begun and did not end, so tx must not be committed

	done chan struct{} // closed when the group has been committed or has failed
	err  error         // of the commit; may be read once done is closed
}

// Update implements store.DB. A commit "has begun", as store.DB has it, when fn has returned nil to a group that will be
// committed as soon as the functions that are queued behind it have run.
//
// fn runs in the caller's goroutine, so a panic unwinds the caller and nobody else. fn must not call the DB's methods: an
// Update inside an Update would wait for itself.
func (d *DB) Update(ctx context.Context, fn func(store.Tx) error) error {
	for alone := false; ; alone = true {
		g, err := d.run(ctx, fn, alone)
		if g == nil {
			return err
		}
		<-g.done
		switch {
		case g.err == nil:
			return err
		case errors.Is(g.err, store.ErrFull) && len(g.applied) > 1:
			// It was too much together, and what fn has seen of the others never was. g.applied of a group that ran alone
			// has one entry, so this happens once.
		default:
			return g.err
		}
	}
}

// run waits for the turn, runs fn, adds what it wrote to the open group and hands the turn on. If the outcome, success or
// fn's error, depends on a commit, it returns the group to wait for. A function that is to be alone gets a new group
// that takes no other.
func (d *DB) run(ctx context.Context, fn func(store.Tx) error, alone bool) (*group, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if d.closed.Load() {
		return nil, store.ErrClosed
	}
	if err := d.turn.take(ctx); err != nil {
		return nil, err
	}
	defer d.leave() // also when fn panics
	if err := d.ready(ctx, alone); err != nil {
		return nil, err
	}
	g := d.group
	g.runs++
	g.full = alone

	before := len(g.applied)
	writes, err := runTx(ctx, g.data, fn)
	if err == nil {
		err = g.apply(writes)
	}
	if before == 0 && len(g.applied) == 0 {
		return nil, err // read only what is durable, wrote nothing
	}
	if before == 0 && err != nil {
		return nil, err
	}
	return g, err
}

// ready sees to it that there is an open group. The caller holds the turn.
func (d *DB) ready(ctx context.Context, alone bool) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if alone && d.group != nil {
		d.commit()
	}
	switch {
	case d.closed.Load():
		return store.ErrClosed
	case d.broken != nil:
		return fmt.Errorf("%w: %w", ErrBroken, d.broken)
	case d.group != nil:
		return nil
	}
	g := &group{done: make(chan struct{})}
	if err := g.begin(d.bolt); err != nil {
		return err
	}
	d.group = g
	return nil
}

// leave hands the turn to the next writer, who continues the open group; the last one commits it. The caller holds the turn.
func (d *DB) leave() {
	if d.group != nil && !d.group.isFull() && d.passOn() {
		return
	}
	defer d.turn.release() // also if bbolt panics in the commit
	if d.group != nil {
		d.commit()
	}
}

func (d *DB) passOn() bool {
	if d.turn.pass() {
		return true
	}
	if d.crowd <= 1 {
		return false
	}
	for range maxYields {
		runtime.Gosched()
		if d.turn.pass() {
			return true
		}
	}
	return false
}

// commit commits the open group and tells its members. The caller holds the turn. If bbolt panics, which it does when it
// finds the file damaged, the members learn that the outcome is unknown and the panic goes on.
func (d *DB) commit() {
	g := d.group
	d.group = nil
	if len(g.applied) == 0 && !g.torn {
		_ = g.tx.Rollback() // of an open transaction, which cannot fail
		return
	}
	ended := false
	defer func() {
		if !ended {
			g.err = d.breakDown(errors.New("panic in a commit"))
			abandon(g.tx)
		}
		close(g.done)
	}()
	g.err = d.commitGroup(g, nil)
	ended = true
	d.crowd = len(g.applied)
	if g.err == nil {
		d.updates.Add(uint64(len(g.applied)))
		d.commits.Add(1) // last; Stats reads it first
	}
}

// abandon gives bbolt's writer lock back after a panic, so that Close does not wait for ever.
func abandon(tx *bbolt.Tx) {
	defer func() { _ = recover() }() // the first panic is the one that counts
	_ = tx.Rollback()
}

// commitGroup commits what g holds; if setup is given that comes first, in a new transaction. bbolt may use what the file
// has. If it needs more, it rolls back; then the file is grown and the same writes, on the same state, are done again.
func (d *DB) commitGroup(g *group, setup func(*bbolt.Tx) error) error {
	lastResort := false
	for attempt := 0; ; attempt++ {
		if g.tx == nil {
			if err := g.replay(d.bolt, setup); err != nil {
				return err
			}
		}
		if g.torn {
			return errors.Join(errors.New("bolt: a write in the same commit failed"), g.tx.Rollback())
		}
		id := g.tx.ID()
		err := g.tx.Commit()
		if err == nil {
			return nil
		}
		if !errors.Is(err, berrors.ErrMaxSizeReached) {
			return d.failed(id, err)
		}
		g.tx = nil
		err = d.grow(attempt)
		if errors.Is(err, store.ErrFull) && !lastResort {
			shrinks, readErr := d.shrinks(g)
			if !shrinks || readErr != nil {
				return errors.Join(err, readErr)
			}
			lastResort, err = true, nil
			d.useSpare()
			defer func() { d.setSize(d.fileBytes.Load()) }()
		}
		if err != nil {
			return err
		}
	}
}

// failed says what an error of Commit means; see the package comment.
func (d *DB) failed(id int, err error) error {
	// Only an error of writing names the file; fdatasync's does not.
	var writing *fs.PathError
	if errors.As(err, &writing) && isFull(err) && !d.visible(id) {
		return fmt.Errorf("bolt: %w: %w", store.ErrFull, err)
	}
	return d.breakDown(err)
}

// breakDown refuses further writing and returns the error for those whose commit failed.
func (d *DB) breakDown(err error) error {
	d.broken = err
	return fmt.Errorf("bolt: commit: %w: %w", store.ErrUnknown, err)
}

// visible reports whether readers can see the transaction id.
func (d *DB) visible(id int) bool {
	tx, err := d.bolt.Begin(false)
	if err != nil {
		return true // as bad as it can be
	}
	seen := tx.ID() >= id
	_ = tx.Rollback() // of a read transaction, which cannot fail
	return seen
}

// isFull reports whether err says that there is no room, in the file system, the owner's quota or the process's limit.
func isFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

func (g *group) isFull() bool {
	return g.full || g.torn || g.runs >= maxGroup || g.bytes >= maxGroupBytes
}

func (g *group) begin(db *bbolt.DB) error {
	tx, err := db.Begin(true)
	if err != nil {
		return fmt.Errorf("bolt: beginning to write: %w", err)
	}
	g.tx, g.data = tx, tx.Bucket(dataBucket)
	return nil
}

// apply makes writes part of the group. It may not happen in part.
func (g *group) apply(writes []store.Entry) error {
	if len(writes) == 0 {
		return nil
	}
	g.torn = true
	if err := put(g.data, writes); err != nil {
		return err
	}
	g.torn = false
	g.applied = append(g.applied, writes)
	for _, w := range writes {
		g.bytes += len(w.Key) + len(w.Value)
	}
	return nil
}

// replay does setup, if any, and all that was applied to g in a new transaction.
func (g *group) replay(db *bbolt.DB, setup func(*bbolt.Tx) error) error {
	if err := g.begin(db); err != nil {
		return err
	}
	if setup != nil {
		if err := setup(g.tx); err != nil {
			return errors.Join(err, g.tx.Rollback())
		}
	}
	for _, writes := range g.applied {
		if err := put(g.data, writes); err != nil {
			return errors.Join(err, g.tx.Rollback())
		}
	}
	return nil
}

// put writes to b, which keeps references to the values until it is committed.
func put(b *bbolt.Bucket, writes []store.Entry) error {
	for _, w := range writes {
		var err error
		if w.Value == nil {
			err = b.Delete([]byte(w.Key))
		} else {
			err = b.Put([]byte(w.Key), w.Value)
		}
		if err != nil {
			return fmt.Errorf("bolt: writing: %w", err)
		}
	}
	return nil
}
