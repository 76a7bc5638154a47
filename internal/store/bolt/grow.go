package bolt

import (
	"errors"
	"fmt"
	"os"

	"github.com/strongroom/strongroom/internal/store"
)

// The file grows by a quarter of its size within these bounds, so that the syncs which that takes are rare and a small
// store stays small.
const (
	minGrow = 1 << 20
	maxGrow = 64 << 20
)

// setSize tells bbolt that the file has size bytes and that it may use no more. The caller holds the turn, and there is no
// write transaction.
func (d *DB) setSize(size int64) {
	d.bolt.MaxSize = int(size)
	d.fileBytes.Store(size)
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
