// Package bolt keeps a store.DB in one file, for a server that runs alone. It is the embedded driver of the contract that
// package store states, on go.etcd.io/bbolt: a copy-on-write B+ tree with one writer and any number of snapshot readers.
//
// # Writing
//
// A commit costs two fdatasyncs, and bbolt has one writer. Concurrent Updates therefore share commits: they take turns in
// one bbolt transaction, each in its caller's own goroutine, and whoever finds nobody waiting behind him commits for all.
// While that commit runs the next callers queue up and become the next group. A lone writer never waits for company.
//
// # What a failure leaves
//
// bbolt writes a commit in four steps: data pages to free places, fdatasync, the new root into one of two checksummed
// meta pages, fdatasync. Until the third step the transaction does not exist, and nothing that the old root reaches has
// been touched. From this follows what DB does:
//
//   - No room: the file grows only here (see grow), with its blocks reserved and synced before bbolt may use them, so a
//     full disk is noticed before anything is written. The group is dropped, each of its Updates is tried once more by
//     itself, and those that still do not fit get store.ErrFull. A file system that cannot reserve (copy-on-write) may
//     refuse a data page in the first step; as long as the new root is not visible that is the same case. Reads go on, and
//     so do writes once there is room. A deletion too needs free pages while it runs; the last few are kept for Updates
//     that make the store smaller, so that a full store can be emptied.
//   - Anything else that fails inside a commit, above all fdatasync: the whole group gets store.ErrUnknown and from then on
//     Update returns ErrBroken until the file is opened again. After a failed fdatasync Linux marks the lost pages clean, so
//     trying again would report a success that did not happen; and if the new root did reach the page cache, the list of
//     free pages in memory no longer protects the old root, the one that may be on the disk. With no more writes both roots
//     stay whole, so View and Snapshot go on; which of the two they see is what "unknown" means.
//
// Open commits once before it returns. A root that a killed process left in the page cache, or that a failed fdatasync
// left there only, is thereby on the disk before anybody reads it.
//
// A View that begins while the last fdatasync of a commit runs already sees that commit. It can be lost only if the
// machine loses power within that moment, and then nobody was told that the Update succeeded.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/bits"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/strongroom/strongroom/internal/store"
)

// Format is the version of the file's layout that this package writes. It opens all older ones.
const Format = 1

const (
	fileMode = 0o600

	// pageSize is fixed rather than taken from the machine, so that a file behaves alike wherever it is opened. Small pages
	// suit small records: a commit rewrites every page on the path to each changed key.
	pageSize = 4096

	// mapSize is the address space that is mapped at first, not memory: 4 GiB where pointers have 64 bits, else 1 GiB.
	// Growing beyond the map means remapping, which waits for every running View and holds back new ones meanwhile.
	mapSize = 1 << (30 + 2*(bits.UintSize/64))

	// lockWait is how long Open waits for another process to let go of the file, enough for one that is just ending.
	lockWait = 500 * time.Millisecond
)

var (
	// ErrLocked is wrapped by Open's error when another process has the file open.
	ErrLocked = errors.New("bolt: the file is in use by another process")

	// ErrFormat is wrapped by Open's error when the file is whole but not a store that this version can open: written by a
	// newer version, or by another program.
	ErrFormat = errors.New("bolt: not a store that this version can open")

	// ErrDamaged is wrapped by Open's error when the file cannot be read as a database.
	ErrDamaged = errors.New("bolt: the file is damaged")

	// ErrBroken is wrapped by Update's error after a commit failed in a way that forbids writing until the file is opened
	// again; see the package comment. Nothing was written by the Update that returns it.
	ErrBroken = fmt.Errorf("bolt: an earlier commit failed: %w", store.ErrBroken)

	errEnded = errors.New("bolt: the transaction has ended")
)

// A DB is a store in one file. It must be closed.
type DB struct {
	bolt    *bbolt.DB
	maxSize int64 // see Options.MaxSize
	closed  atomic.Bool

	fileBytes atomic.Int64
	commits   atomic.Uint64
	updates   atomic.Uint64

	turn turn

	// The fields below belong to whoever holds the turn.

	file   *os.File // bbolt's own handle, by which the file is grown; bbolt closes it
	group  *group   // the open group, nil if there is none
	crowd  int      // how many Updates the last commit served
	broken error    // why writing is refused, nil if it is not
}

var _ store.DB = (*DB)(nil)

// Options changes how a store is opened. A nil Options is the default.
type Options struct {
	// MaxSize is the size in bytes beyond which the file does not grow: an Update that would need more gets
	// store.ErrFull. Zero means that only the medium sets a limit. A file that is larger already is not made smaller.
	MaxSize int64
}

// Open opens the store in the file at path, or creates it with mode 0600. The folder must exist.
func Open(path string, opts *Options) (*DB, error) {
	d := &DB{}
	if opts != nil {
		d.maxSize = opts.MaxSize
	}
	if err := d.openPath(path); err != nil {
		return nil, fmt.Errorf("opening %s: %w", path, err)
	}
	return d, nil
}

// openPath opens and checks the file. Beyond the two meta pages bbolt believes what it reads, and panics or runs past the
// end of the file if that is wrong; both become ErrDamaged here, so that a bad file does not look like a bad program.
func (d *DB) openPath(path string) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			// bbolt may be unable to close itself now. Its mapping stays, and would keep the lock, so that is undone by hand.
			err = errors.Join(fmt.Errorf("%w: %v", ErrDamaged, p), unlock(d.file), d.file.Close())
		}
	}()
	_, statErr := os.Lstat(path)
	if err := d.openBolt(path); err != nil {
		return err
	}
	err = d.adoptFile()
	if err == nil {
		err = d.prepare()
	}
	if err == nil && errors.Is(statErr, fs.ErrNotExist) {
		err = syncDir(filepath.Dir(path)) // or the new file's name could be lost with the power
	}
	if err != nil {
		return errors.Join(err, d.bolt.Close())
	}
	return nil
}

func (d *DB) openBolt(path string) (err error) {
	d.bolt, err = bbolt.Open(path, fileMode, d.boltOptions())
	switch {
	case errors.Is(err, berrors.ErrTimeout):
		return ErrLocked
	case errors.Is(err, berrors.ErrInvalid), errors.Is(err, berrors.ErrChecksum), errors.Is(err, berrors.ErrVersionMismatch):
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

func (d *DB) boltOptions() *bbolt.Options {
	return &bbolt.Options{
		Timeout:         lockWait,
		PageSize:        pageSize,
		InitialMmapSize: mapSize,

		// Finding a run of free pages must not cost a walk over all of them; the array, bbolt's default, does that.
		FreelistType: bbolt.FreelistMapType,

		// Writing the list of free pages with each commit costs eight bytes a free page. Without it every start would read
		// the whole tree to find out what is free (seconds for a million keys), and so would every commit that fails.
		NoFreelistSync: false,

		// bbolt counts each transaction under one more lock, for numbers that nobody here reads.
		NoStatistics: true,

		OpenFile: d.open,
	}
}

// open is how bbolt gets its file. Whoever may read the file may read the names of all objects, so an existing file loses
// rights that are too wide.
func (d *DB) open(path string, flag int, mode os.FileMode) (*os.File, error) {
	f, err := os.OpenFile(path, flag, mode)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	switch {
	case err != nil:
	case !info.Mode().IsRegular():
		err = errors.New("not a regular file")
	case info.Mode().Perm()&^fileMode != 0:
		err = f.Chmod(fileMode)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	d.file = f
	return f, nil
}

// adoptFile checks that the file holds all pages that its root speaks of (reading past the end would kill the process)
// and takes its growth away from bbolt.
func (d *DB) adoptFile() error {
	var need int64
	err := d.bolt.View(func(tx *bbolt.Tx) error {
		need = tx.Size()
		return nil
	})
	if err != nil {
		return err
	}
	info, err := d.file.Stat()
	if err != nil {
		return err
	}
	if need > info.Size() {
		return fmt.Errorf("%w: it has %d bytes and should have %d", ErrDamaged, info.Size(), need)
	}
	d.bolt.AllocSize = 0 // bbolt then compares MaxSize with exactly what it needs
	d.setSize(info.Size())
	return nil
}

var (
	metaBucket = []byte("meta")
	dataBucket = []byte("data")
	formatKey  = []byte("format")
)

// prepare checks the format, creates the buckets of a new file and commits once; see the package comment. A full disk must
// not keep a store from being read, so it is no reason to fail if the store existed.
func (d *DB) prepare() error {
	isNew, err := d.checkFormat()
	if err != nil {
		return err
	}
	err = d.commitGroup(&group{}, func(tx *bbolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if _, err := tx.CreateBucketIfNotExists(dataBucket); err != nil {
			return err
		}
		return meta.Put(formatKey, strconv.AppendInt(nil, Format, 10))
	})
	if errors.Is(err, store.ErrFull) && !isNew {
		return nil
	}
	return err
}

// checkFormat reports whether the file is new, and refuses what another program or a newer version wrote.
func (d *DB) checkFormat() (isNew bool, err error) {
	err = d.bolt.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta == nil {
			if name, _ := tx.Cursor().First(); name != nil {
				return fmt.Errorf("%w: another program's database", ErrFormat)
			}
			isNew = true
			return nil
		}
		version, err := strconv.ParseUint(string(meta.Get(formatKey)), 10, 32)
		if err != nil || version == 0 || tx.Bucket(dataBucket) == nil {
			return fmt.Errorf("%w: another program's database", ErrFormat)
		}
		if version > Format {
			return fmt.Errorf("%w: the file has format %d, this version knows formats up to %d", ErrFormat, version, Format)
		}
		return nil
	})
	return isNew, err
}

// View implements store.DB. A View that runs for long keeps the pages that it can see from being used again, so the file
// grows meanwhile.
func (d *DB) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	tx, err := d.beginRead()
	if err != nil {
		return err
	}
	r := &reader{ctx: ctx, data: tx.Bucket(dataBucket)}
	defer func() {
		r.data = nil
		_ = tx.Rollback() // of a read transaction, which cannot fail
	}()
	return fn(r)
}

func (d *DB) beginRead() (*bbolt.Tx, error) {
	if d.closed.Load() {
		return nil, store.ErrClosed
	}
	tx, err := d.bolt.Begin(false)
	if errors.Is(err, berrors.ErrDatabaseNotOpen) {
		return nil, store.ErrClosed
	}
	if err != nil {
		return nil, fmt.Errorf("bolt: beginning to read: %w", err)
	}
	return tx, nil
}

// Snapshot writes the whole store as it is now to w while work goes on, and returns the number of bytes. What was written
// is a file that Open opens. It lasts as long as w takes, and is a long View (see there) for that time. It ends early with
// ctx's error if ctx ends; then, and after any other error, what was written is useless.
func (d *DB) Snapshot(ctx context.Context, w io.Writer) (int64, error) {
	tx, err := d.beginRead()
	if err != nil {
		return 0, err
	}
	n, err := tx.WriteTo(&ctxWriter{ctx, w})
	_ = tx.Rollback() // of a read transaction, which cannot fail
	if ctx.Err() != nil {
		return n, ctx.Err()
	}
	if err != nil {
		return n, fmt.Errorf("bolt: snapshot: %w", err)
	}
	return n, nil
}

// A ctxWriter is w until ctx ends.
type ctxWriter struct {
	ctx context.Context
	w   io.Writer
}

func (c *ctxWriter) Write(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.w.Write(p)
}

// Stats are numbers for metrics. Counters start at zero when the store is opened.
type Stats struct {
	FileBytes int64  // size of the file
	Updates   uint64 // Updates that wrote something and were committed
	Commits   uint64 // commits that they needed; Updates/Commits is the mean size of a group
}

// Stats returns the current numbers. It may be called at any time, also after Close.
func (d *DB) Stats() Stats {
	// Commits first: a commit in between must not show as one without updates.
	commits := d.commits.Load()
	return Stats{FileBytes: d.fileBytes.Load(), Updates: d.updates.Load(), Commits: commits}
}

// Close implements store.DB. Updates that have not had their turn get store.ErrClosed.
func (d *DB) Close() error {
	if d.closed.Swap(true) {
		return store.ErrClosed
	}
	if err := d.turn.take(context.Background()); err != nil {
		return err
	}
	defer d.turn.release()
	if d.group != nil {
		d.commit()
	}
	return d.bolt.Close() // waits for running Views
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
