package seal

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
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
		_, rec, err := readRing(r)
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
	err = d.updateRing(ctx, func(raw []byte, rec *ringRecord) error {
		if len(rec.Keys) >= maxDataKeys {
			return fmt.Errorf("seal: there are %d data keys already: let the re-sealing finish first", len(rec.Keys))
		}
		// The new key was wrapped outside of the transaction. If the root key was changed meanwhile, perhaps by another
		// server, the ring would then need two root keys, and nobody could open it.
		if _, err := openRing(raw, root); err != nil {
			return fmt.Errorf("the root key was changed meanwhile; if another server did it, restart this one with the new one: %w", err)
		}
		rec.Keys = append(rec.Keys, member)
		rec.Primary = member.ID
		return nil
	})
	return member.ID, err
}

// ChangeRoot wraps all data keys with root instead of the present root key. The old root key opens the store no more. It
// still opens copies made before, and a driver's file may hold the old key ring in space that it has not used again: who has
// the old root key and the file may find the data keys, until Rotate and Reseal have replaced them. Other servers on the same store go on with the data keys they have, and need
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

	err := d.updateRing(ctx, func(_ []byte, rec *ringRecord) error {
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

func readRing(r store.Reader) (raw []byte, rec ringRecord, err error) {
	raw, err = r.Get(ringKey)
	if errors.Is(err, store.ErrNotFound) {
		err = ErrNotInitialized
	}
	if err == nil {
		rec, err = decodeRing(raw)
	}
	return raw, rec, err
}

// updateRing changes the stored key ring; change also gets the bytes as they are stored.
func (d *DB) updateRing(ctx context.Context, change func(raw []byte, rec *ringRecord) error) error {
	return d.store.Update(ctx, func(tx store.Tx) error {
		raw, rec, err := readRing(tx)
		if err != nil {
			return err
		}
		if err := change(raw, &rec); err != nil {
			return err
		}
		raw, err = json.Marshal(rec)
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
// A record that does not open stays as it is, with its data key, and is named in the error; the others are moved.
func (d *DB) Reseal(ctx context.Context, progress func(records int)) error {
	status, err := d.Status(ctx)
	if err != nil || len(status.Keys) < 2 {
		return err
	}
	p := resealPass{db: d, primary: status.Primary, needed: map[string]bool{status.Primary: true}}
	for done := false; !done; {
		var keys []string
		if keys, done, err = p.look(ctx); err != nil {
			return err
		}
		if err := p.move(ctx, keys); err != nil {
			return err
		}
		if progress != nil {
			progress(p.seen)
		}
	}
	// Every transaction that committed after Rotate wrote under the new primary, because each reads the ring; so the pass
	// above saw every record that was left under an older key. If somebody rotated meanwhile, the next pass cleans up.
	err = d.updateRing(ctx, func(_ []byte, rec *ringRecord) error {
		if rec.Primary == status.Primary {
			rec.Keys = slices.DeleteFunc(rec.Keys, func(m ringMember) bool { return !p.needed[m.ID] })
		}
		return nil
	})
	return errors.Join(append(p.bad, err)...)
}

// A resealPass is one walk over the store.
type resealPass struct {
	db      *DB
	primary string
	next    string // where to go on
	seen    int
	needed  map[string]bool // ids of data keys that must be kept
	bad     []error         // records that do not open; the first of them
}

// maxBad bounds the records that a pass names.
const maxBad = 20

// spoiled notes a record that does not open.
func (p *resealPass) spoiled(err error) {
	if len(p.bad) < maxBad {
		p.bad = append(p.bad, err)
	}
}

// look returns some keys whose records are not under the primary data key, and whether that was the end. One call looks at
// a bounded number of records, so that no snapshot is held for long.
func (p *resealPass) look(ctx context.Context) (keys []string, done bool, err error) {
	const records = 2000
	var size, looked int
	done = true
	err = p.db.store.View(ctx, func(r store.Reader) error {
		for e, err := range r.Scan(p.next, "") {
			if err != nil {
				return err
			}
			if len(keys) == resealBatch || size > store.MaxBytes/2 || looked == records {
				p.next, done = e.Key, false
				return ctx.Err()
			}
			looked++
			if isOwn(e.Key) {
				continue
			}
			p.seen++
			id, err := header(e.Key, e.Value)
			switch {
			case err != nil:
				p.spoiled(err)
			case hex.EncodeToString(id[:]) != p.primary:
				keys = append(keys, e.Key)
				size += len(e.Key) + len(e.Value)
			}
		}
		return nil
	})
	return keys, done, err
}

// move seals records anew under the primary data key.
func (p *resealPass) move(ctx context.Context, keys []string) error {
	if len(keys) == 0 {
		return ctx.Err()
	}
	var bad []*RecordError
	err := p.db.Update(ctx, func(tx store.Tx) error {
		bad = nil
		for _, key := range keys {
			value, err := tx.Get(key)
			var record *RecordError
			switch {
			case errors.Is(err, store.ErrNotFound):
				continue // deleted meanwhile
			case errors.As(err, &record):
				bad = append(bad, record)
				continue
			case err != nil:
				return err
			}
			if err := tx.Put(key, value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil || len(bad) == 0 {
		return err
	}
	return p.db.store.View(ctx, func(r store.Reader) error {
		for _, record := range bad {
			p.spoiled(record)
			value, err := r.Get(record.Key)
			if err != nil {
				continue // deleted meanwhile
			}
			if id, err := header(record.Key, value); err == nil {
				p.needed[hex.EncodeToString(id[:])] = true
			}
		}
		return nil
	})
}

func isOwn(key string) bool { return len(key) >= len(prefix) && key[:len(prefix)] == prefix }

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
