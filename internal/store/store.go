// Package store is the ordered key-value store in which Strongroom keeps everything.
//
// It states one contract, serialisable transactions over byte-ordered keys, and leaves it to each driver (store/bolt for
// one server, etcd for a cluster) to meet it natively. Drivers share no code, only the test suite in store/storetest.
//
// The limits of a transaction (MaxReads, MaxWrites, MaxBytes) are those that etcd has by default. Every driver enforces
// them, so that code written against the embedded store also runs on a cluster.
package store

import (
	"context"
	"errors"
	"iter"
)

// Limits that every driver enforces on one Update. A View may read without bound.
const (
	MaxKey    = 1 << 10   // bytes in a key
	MaxValue  = 1 << 20   // bytes in a value
	MaxReads  = 120       // Get and Scan calls in one Update
	MaxWrites = 120       // distinct keys put or deleted in one Update
	MaxBytes  = 1_200_000 // bytes of those keys and of their last values
)

var (
	// ErrNotFound is returned by Get for a key that holds no value.
	ErrNotFound = errors.New("store: key not found")

	// ErrTooLarge is returned by Get, Scan, Put, Delete and Update when a limit above is exceeded. Nothing was written.
	// The first call that exceeds a limit decides: Update fails even if fn ignores the error.
	ErrTooLarge = errors.New("store: transaction too large")

	// ErrKey is returned for a key that is empty or longer than MaxKey. Inside an Update it decides like ErrTooLarge. The
	// bounds of a Scan are not keys, any string will do.
	ErrKey = errors.New("store: invalid key")

	// ErrUnknown is wrapped by Update's error when the driver cannot say whether the transaction was committed (a lost
	// connection, a failed fsync). The caller must not tell anybody that it succeeded, nor that it failed for certain.
	ErrUnknown = errors.New("store: outcome of the transaction is unknown")

	// ErrFull is wrapped by Update's error when the medium has no room left. Nothing was written.
	ErrFull = errors.New("store: no space left")

	// ErrBroken is wrapped by Update's error when an earlier commit failed in a way that forbids writing until the store is
	// opened again. Nothing was written by the Update that returns it.
	ErrBroken = errors.New("store: writing is refused until the store is opened again")

	// ErrClosed is returned by every method once Close has been called, by Close too.
	ErrClosed = errors.New("store: closed")
)

// A DB is an ordered key-value store. Its methods may be called concurrently, but not from inside a function that is passed
// to one of them: an Update may have to wait until other transactions end.
type DB interface {
	// View runs fn, once, on one consistent snapshot. It returns fn's error unchanged. The Reader is valid only until fn returns
	// and must not be used by several goroutines at once. A View that begins after an Update has returned sees it.
	View(ctx context.Context, fn func(Reader) error) error

	// Update runs fn in a serialisable transaction and commits what it wrote if fn returns nil; then the writes are
	// durable when Update returns. If fn returns an error nothing is written and Update returns that error unchanged.
	//
	// fn may run more than once, so it must have no effect outside tx, and it must set anything that it hands out anew
	// on every run. A run that is not the last may have read a state that never was; its error is not returned.
	//
	// If ctx ends before the commit has begun, Update returns ctx's error and nothing is written. Once a commit has begun
	// it is waited for. A long Scan looks at ctx as well, in a View too, and yields its error.
	//
	// If fn panics nothing is written, the panic reaches the caller of Update, and the store goes on.
	Update(ctx context.Context, fn func(Tx) error) error

	// Close waits for running transactions and closes the store. An Update that waits for others may run or get ErrClosed.
	Close() error
}

// A Reader reads one snapshot.
type Reader interface {
	// Get returns the value of key, or ErrNotFound. The caller may keep the slice and must not modify it. An empty value is
	// a value; it is never nil.
	Get(key string) ([]byte, error)

	// Scan yields the entries with start <= key < end in byte order; an empty end means no upper bound. The sequence stops
	// after the first error, which comes with a zero Entry. The snapshot inside an Update includes the
	// transaction's own writes made before Scan was called; it must not write while it ranges over a Scan.
	Scan(start, end string) iter.Seq2[Entry, error]
}

// A Peeker is a Reader that can show a value without copying it. A driver that has values in memory anyway offers it to
// package seal, which opens each value once and keeps no other copy.
type Peeker interface {
	Reader
	// Peek is Get, but the slice is valid only until the View ends.
	Peek(key string) ([]byte, error)
}

// A Tx reads and writes inside Update.
type Tx interface {
	Reader
	// Put sets key to value; nil is the empty value. It keeps no reference to value.
	Put(key string, value []byte) error
	// Delete removes key. Deleting a key that does not exist is no error.
	Delete(key string) error
}

// An Entry is a key and its value. The caller may keep Value and must not modify it.
type Entry struct {
	Key   string
	Value []byte
}

// PrefixEnd returns the end of the range of keys that start with prefix, for use with Scan: the smallest key greater
// than all of them, or "" (no bound) if there is none.
func PrefixEnd(prefix string) string {
	b := []byte(prefix)
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0xff {
			b[i]++
			return string(b[:i+1])
		}
	}
	return ""
}
