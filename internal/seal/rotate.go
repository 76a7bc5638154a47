package seal

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/strongroom/strongroom/internal/store"
)

// maxDataKeys bounds the key ring. Rotate refuses beyond it: Reseal must first finish and forget the older keys.
const maxDataKeys = 64

// resealBatch is how many records one transaction of Reseal moves; each is at most MaxValue, and the batch is cut short
// at half of what a transaction may write.
const resealBatch = 40

// Status describes the key ring.
type Status struct {
	Root    string // id of the root key that wraps the data keys
	Primary string // id of the data key that seals what is written now
	Keys    []KeyStatus
}

// KeyStatus describes one data key.
type KeyStatus struct {
	ID      string
	Created time.Time
}

// Status returns the key ring's state.
func (d *DB) Status(ctx context.Context) (Status, error) {
	var out Status
	err := d.store.View(ctx, func(r store.Reader) error {
		rec, err := readRing(r)
		if err != nil {
			return err
		}
		out = Status{Root: rec.Root, Primary: rec.Primary}
		for _, m := range rec.Keys {
			out.Keys = append(out.Keys, KeyStatus{ID: m.ID, Created: m.Created})
		}
		return nil
	})
	return out, err
}

// Rotate makes a new data key, which seals everything written from now on, by every server. Records that exist keep
// their data key until they are next written or Reseal reaches them. It returns the new key's id.
func (d *DB) Rotate(ctx context.Context) (string, error) {
	root := d.rootKeys()[0]
	member, _, err := newDataKey(root, d.now())
	if err != nil {
		return "", err
	}
	err = d.updateRing(ctx, func(rec *ringRecord) error {
		if len(rec.Keys) >= maxDataKeys {
			return fmt.Errorf("seal: there are %d data keys already: let the re-sealing finish first", len(rec.Keys))
		}
		if rec.Root != root.ID() {
			return fmt.Errorf("%w: it was changed to %s by another server; restart this one with the new root key",
				ErrRootKey, rec.Root)
		}
		rec.Keys = append(rec.Keys, member)
		rec.Primary = member.ID
		return nil
	})
	return member.ID, err
}

// ChangeRoot wraps all data keys with root instead of the present root key. The old root key opens nothing afterwards,
// except copies of the store made before. Other servers on the same store go on with the data keys they have, and need
// the new root key before they see the next Rotate or restart.
func (d *DB) ChangeRoot(ctx context.Context, root RootKey) error {
	// A passphrase is derived here and not in the transaction, which would make other writers wait for it.
	if _, err := root.Wrap(nil, nil); err != nil {
		return err
	}
	// From the commit on, other transactions of this process need the new key, so it is known before.
	d.mu.Lock()
	if len(d.roots) > 1 {
		d.mu.Unlock()
		return errors.New("seal: another change of the root key is under way")
	}
	old := d.roots[0]
	d.roots = []RootKey{old, root}
	d.mu.Unlock()

	err := d.updateRing(ctx, func(rec *ringRecord) error {
		for i, m := range rec.Keys {
			secret, err := old.Unwrap(m.Wrapped, wrapContext(m.ID))
			if err != nil {
				return fmt.Errorf("%w: data key %s: %w", ErrRootKey, m.ID, err)
			}
			if rec.Keys[i].Wrapped, err = root.Wrap(secret, wrapContext(m.ID)); err != nil {
				return err
			}
		}
		rec.Root = root.ID()
		return nil
	})

	// After an unknown outcome the ring in the store is the judge: only one of the two keys opens it.
	changed := err == nil || errors.Is(err, store.ErrUnknown) && d.rootFits(ctx, root)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.roots = []RootKey{old}
	if changed {
		d.roots = []RootKey{root}
	}
	return err
}

func (d *DB) rootFits(ctx context.Context, root RootKey) bool {
	return d.store.View(ctx, func(r store.Reader) error {
		raw, err := r.Get(ringKey)
		if err != nil {
			return err
		}
		_, err = openRing(raw, root)
		return err
	}) == nil
}

func readRing(r store.Reader) (ringRecord, error) {
	raw, err := r.Get(ringKey)
	if errors.Is(err, store.ErrNotFound) {
		return ringRecord{}, ErrNotInitialized
	}
	if err != nil {
		return ringRecord{}, err
	}
	return decodeRing(raw)
}

func (d *DB) updateRing(ctx context.Context, change func(*ringRecord) error) error {
	return d.store.Update(ctx, func(tx store.Tx) error {
		rec, err := readRing(tx)
		if err != nil {
			return err
		}
		if err := change(&rec); err != nil {
			return err
		}
		raw, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		return tx.Put(ringKey, raw)
	})
}

// Reseal moves every record that is under an older data key to the primary one and then forgets the older keys. It
// works in small transactions beside the normal traffic, may be stopped at any time through ctx and run again, and may
// run on several servers at once. progress, if not nil, is called with the number of records looked at so far.
//
// It changes nothing when a record does not open: that record's error is returned and all data keys are kept.
func (d *DB) Reseal(ctx context.Context, progress func(records int)) error {
	status, err := d.Status(ctx)
	if err != nil || len(status.Keys) < 2 {
		return err
	}
	var (
		next string
		seen int
	)
	for done := false; !done; {
		var keys []string
		keys, next, done, err = d.oldRecords(ctx, next, status.Primary, &seen)
		if err != nil {
			return err
		}
		if err := d.resealRecords(ctx, keys); err != nil {
			return err
		}
		if progress != nil {
			progress(seen)
		}
	}
	// Every transaction that committed after Rotate wrote under the new primary, because each reads the ring; so the pass
	// above saw every record that was left under an older key. If somebody rotated meanwhile, the next pass cleans up.
	return d.updateRing(ctx, func(rec *ringRecord) error {
		if rec.Primary != status.Primary {
			return nil
		}
		for _, m := range rec.Keys {
			if m.ID == rec.Primary {
				rec.Keys = []ringMember{m}
				return nil
			}
		}
		return errors.New("seal: the key ring lacks its primary data key")
	})
}

// oldRecords returns some keys from start on whose records are not under the primary data key, where to go on, and
// whether that was the end. One call looks at a bounded number of records, so that no snapshot is held for long.
func (d *DB) oldRecords(ctx context.Context, start, primary string, seen *int) (keys []string, next string, done bool, err error) {
	const look = 2000
	var size, looked int
	done = true
	err = d.store.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan(start, "") {
			if err != nil {
				return err
			}
			if len(keys) == resealBatch || size > store.MaxBytes/2 || looked == look {
				next, done = e.Key, false
				return ctx.Err()
			}
			looked++
			if isOwn(e.Key) {
				continue
			}
			*seen++
			id, err := header(e.Key, e.Value)
			if err != nil {
				return err
			}
			if hex.EncodeToString(id[:]) != primary {
				keys = append(keys, e.Key)
				size += len(e.Key) + len(e.Value)
			}
		}
		return nil
	})
	return keys, next, done, err
}

func isOwn(key string) bool { return len(key) >= len(prefix) && key[:len(prefix)] == prefix }

func (d *DB) resealRecords(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return ctx.Err()
	}
	return d.Update(ctx, func(tx store.Tx) error {
		for _, key := range keys {
			value, err := tx.Get(key)
			if errors.Is(err, store.ErrNotFound) {
				continue // deleted meanwhile
			}
			if err != nil {
				return err
			}
			if err := tx.Put(key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

// Walk opens every record in order and calls fn with its plaintext, or with a *RecordError if it does not open. It stops
// when fn returns an error. It reads in bounded snapshots, so a record changed meanwhile is seen in either state.
func (d *DB) Walk(ctx context.Context, fn func(key string, value []byte, err error) error) error {
	const chunk = 1000
	next := ""
	for done := false; !done; {
		done = true
		err := d.store.View(ctx, func(r store.Reader) error {
			opened := &reader{db: d, r: r, ring: d.ring.Load()}
			n := 0
			for e, err := range r.Scan(next, "") {
				if err != nil {
					return err
				}
				if n == chunk {
					next, done = e.Key, false
					return ctx.Err()
				}
				n++
				if isOwn(e.Key) {
					continue
				}
				value, err := opened.open(e.Key, e.Value)
				if err := fn(e.Key, value, err); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
