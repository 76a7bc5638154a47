package bolt

import (
	"bytes"
	"context"
	"iter"
	"maps"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/strongroom/strongroom/internal/store"
)

// checkEvery is how many entries a Scan yields between two looks at its context.
const checkEvery = 256

// A reader reads what one bbolt transaction sees. Values are copied, since bbolt's point into a mapping that changes.
type reader struct {
	ctx  context.Context
	data *bbolt.Bucket // nil once the transaction has ended
}

func checkKey(key string) error {
	if key == "" || len(key) > store.MaxKey {
		return store.ErrKey
	}
	return nil
}

var _ store.Peeker = (*reader)(nil)

// Get implements store.Reader.
func (r *reader) Get(key string) ([]byte, error) {
	v, err := r.Peek(key)
	return bytes.Clone(v), err
}

// Peek implements store.Peeker: the slice lies in bbolt's memory map.
func (r *reader) Peek(key string) ([]byte, error) {
	if r.data == nil {
		return nil, errEnded
	}
	if err := checkKey(key); err != nil {
		return nil, err
	}
	v := r.data.Get([]byte(key)) // an empty value is not nil: put makes it so
	if v == nil {
		return nil, store.ErrNotFound
	}
	return v, nil
}

// Scan implements store.Reader.
func (r *reader) Scan(start, end string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if r.data == nil {
			yield(store.Entry{}, errEnded)
			return
		}
		c := r.data.Cursor()
		k, v := c.Seek([]byte(start))
		for n := 1; k != nil && (end == "" || string(k) < end); n++ {
			if n%checkEvery == 0 && r.ctx.Err() != nil {
				yield(store.Entry{}, r.ctx.Err())
				return
			}
			if !yield(store.Entry{Key: string(k), Value: bytes.Clone(v)}, nil) || r.data == nil {
				return
			}
			k, v = c.Next()
		}
	}
}

// A tx is a reader with an overlay of what its function has written. bbolt sees the writes only after the function has
// succeeded, so a function that fails leaves nothing for the others of its group.
type tx struct {
	reader
	writes map[string][]byte // a nil value deletes
	size   int               // bytes of the keys and values in writes
	reads  int               // calls of Get and Scan
	err    error             // the first limit that was exceeded; no call succeeds after it, nor does the transaction
}

// runTx runs fn on data and returns what it wrote, in the order of the keys.
func runTx(ctx context.Context, data *bbolt.Bucket, fn func(store.Tx) error) ([]store.Entry, error) {
	t := &tx{reader: reader{ctx: ctx, data: data}}
	defer func() { t.data = nil }()
	if err := fn(t); err != nil {
		return nil, err
	}
	if t.err != nil {
		return nil, t.err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return t.written("", ""), nil
}

// Get implements store.Reader.
func (t *tx) Get(key string) ([]byte, error) {
	v, err := t.Peek(key)
	return bytes.Clone(v), err
}

// Peek implements store.Peeker: it sees the transaction's own writes, as Get does.
func (t *tx) Peek(key string) ([]byte, error) {
	if err := t.read(); err != nil {
		return nil, err
	}
	if err := checkKey(key); err != nil {
		return nil, t.fail(err)
	}
	v, ok := t.writes[key]
	switch {
	case !ok:
		return t.reader.Peek(key)
	case v == nil:
		return nil, store.ErrNotFound
	}
	return v, nil
}

// Scan implements store.Reader.
func (t *tx) Scan(start, end string) iter.Seq2[store.Entry, error] {
	if err := t.read(); err != nil {
		return func(yield func(store.Entry, error) bool) { yield(store.Entry{}, err) }
	}
	return t.merge(t.reader.Scan(start, end), t.written(start, end))
}

// merge yields base with own laid over it; both are in order.
func (t *tx) merge(base iter.Seq2[store.Entry, error], own []store.Entry) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		rest := own
		// upTo yields the entries of rest before key, or all if there is no key.
		upTo := func(key string) bool {
			for len(rest) > 0 && (key == "" || rest[0].Key < key) {
				e := rest[0]
				rest = rest[1:]
				if e.Value != nil && !yield(store.Entry{Key: e.Key, Value: bytes.Clone(e.Value)}, nil) {
					return false
				}
			}
			return true
		}
		for e, err := range base {
			if err != nil {
				yield(store.Entry{}, t.fail(err))
				return
			}
			if !upTo(e.Key) {
				return
			}
			if len(rest) > 0 && rest[0].Key == e.Key {
				continue // replaced or deleted; upTo yields it next if it has a value
			}
			if !yield(e, nil) {
				return
			}
		}
		upTo("")
	}
}

// Put implements store.Tx.
func (t *tx) Put(key string, value []byte) error {
	if len(value) > store.MaxValue {
		return t.fail(store.ErrTooLarge)
	}
	return t.write(key, append([]byte{}, value...)) // never nil
}

// Delete implements store.Tx.
func (t *tx) Delete(key string) error {
	return t.write(key, nil)
}

func (t *tx) write(key string, value []byte) error {
	if t.data == nil {
		return errEnded
	}
	if t.err != nil {
		return t.err
	}
	if err := checkKey(key); err != nil {
		return t.fail(err)
	}
	size := t.size + len(key) + len(value)
	old, again := t.writes[key]
	if again {
		size -= len(key) + len(old)
	}
	if size > store.MaxBytes || !again && len(t.writes) == store.MaxWrites {
		return t.fail(store.ErrTooLarge)
	}
	if t.writes == nil {
		t.writes = make(map[string][]byte)
	}
	t.writes[key], t.size = value, size
	return nil
}

// read counts a Get or a Scan.
func (t *tx) read() error {
	if t.data == nil {
		return errEnded
	}
	if t.err != nil {
		return t.err
	}
	t.reads++
	if t.reads > store.MaxReads {
		return t.fail(store.ErrTooLarge)
	}
	return nil
}

func (t *tx) fail(err error) error {
	if t.err == nil {
		t.err = err
	}
	return t.err
}

// written returns the writes to keys in [start, end) in order; an empty end is no bound.
func (t *tx) written(start, end string) []store.Entry {
	var own []store.Entry
	for _, key := range slices.Sorted(maps.Keys(t.writes)) {
		if key >= start && (end == "" || key < end) {
			own = append(own, store.Entry{Key: key, Value: t.writes[key]})
		}
	}
	return own
}
