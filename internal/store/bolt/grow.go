package bolt

import (
	"errors"
	"fmt"
	"os"

	"go.etcd.io/bbolt"

	"github.com/strongroom/strongroom/internal/store"
)

const (
	// The file grows by a quarter of its size within these bounds, so that the syncs which that takes are rare and a small
	// store stays small.
	minGrow = 1 << 20
	maxGrow = 64 << 20

	// spare is how much at the end of the file is kept for commits that make the store smaller. Copy on write needs some
	// pages before it gives any back: the path to each key that is deleted, and the list of free pages.
	spare = 64 * pageSize
)

// setSize tells bbolt that the file has size bytes and that it may use all but the spare ones. The caller holds the turn,
// and there is no write transaction.
func (d *DB) setSize(size int64) {
	d.bolt.MaxSize = int(max(size-spare, 1)) // zero would be no limit
	d.fileBytes.Store(size)
}

// useSpare lets bbolt use the spare bytes as well, until setSize is called.
func (d *DB) useSpare() {
	d.bolt.MaxSize = int(d.fileBytes.Load())
}

// shrinks reports whether g leaves fewer bytes in the store than there are.
func (d *DB) shrinks(g *group) (bool, error) {
	change := 0
	err := d.bolt.View(func(tx *bbolt.Tx) error {
		data := tx.Bucket(dataBucket)
		last := map[string]store.Entry{}
		for _, writes := range g.applied {
			for _, w := range writes {
				last[w.Key] = w
			}
		}
		for key, w := range last {
			if old := data.Get([]byte(key)); old != nil {
				change -= len(key) + len(old)
			}
			if w.Value != nil {
				change += len(key) + len(w.Value)
			}
		}
		return nil
	})
	return change < 0, err
}

// grow makes the file larger; attempt counts the calls for one commit, each of which adds more than the one before. The new
// blocks are reserved, not a hole, and the new size is on the disk before bbolt may use it: a page that has been written
// cannot get lost for want of room, and no root ever speaks of pages beyond the end of the file.
//
// If even a page does not fit it returns an error that wraps store.ErrFull. The caller holds the turn, and there is no write
// transaction.
func (d *DB) grow(attempt int) error {
	info, err := d.file.Stat()
	if err != nil {
		return fmt.Errorf("bolt: growing: %w", err)
	}
	size := info.Size()
	// A number of pages, or bbolt's arithmetic with pages would be off by one at the end.
	step := min(max(size/4, minGrow)<<min(attempt, 10), maxGrow<<min(attempt, 4)) / pageSize * pageSize
	if d.maxSize > 0 {
		step = min(step, (d.maxSize-size)/pageSize*pageSize)
	}
	for ; step >= pageSize; step = step / 2 / pageSize * pageSize {
		err = reserve(d.file, size, step)
		if err == nil {
			return d.grown(size + step)
		}
		if !isFull(err) {
			return fmt.Errorf("bolt: growing: %w", errors.Join(err, d.file.Truncate(size)))
		}
	}
	if err == nil {
		return fmt.Errorf("bolt: %w: the file has reached its limit of %d bytes", store.ErrFull, d.maxSize)
	}
	// A reservation that failed half-way must not keep what it got.
	return fmt.Errorf("bolt: %w: %w", store.ErrFull, errors.Join(err, d.file.Truncate(size)))
}

// grown makes the new size durable. If that fails nothing has been committed, but what the disk holds is anybody's guess.
func (d *DB) grown(size int64) error {
	if err := d.file.Sync(); err != nil {
		return d.breakDown(err)
	}
	d.setSize(size)
	return nil
}

// fill is reserve where the system or the file system has no call for it: it writes zeros.
func fill(f *os.File, off, n int64) error {
	zeros := make([]byte, min(n, 1<<20))
	for n > 0 {
		w, err := f.WriteAt(zeros[:min(n, int64(len(zeros)))], off)
		if err != nil {
			return err
		}
		off, n = off+int64(w), n-int64(w)
	}
	return nil
}
