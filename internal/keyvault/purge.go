package keyvault

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

func duePurgeKey(at int64, v *resource.Vault, kind ObjectKind, name string) string {
	return record.DueTime(at) + duePurge + "/" + v.ContentID() + "/" + string(kind) + "/" + strings.ToLower(name)
}

func garbageKey(id string) string { return "garbage/" + id }

// The value of a due entry is the ARM resource id of the vault, for the audit log.

// A garbageRecord marks the versions of an object, or everything in a vault, as nobody's. A restore marks its versions
// so before it writes them and unmarks them in the step that makes them visible; if it dies, they are collected.
type garbageRecord struct {
	record.Format
	Vault      bool  `json:"vault,omitempty"`      // the id is a vault's
	After      int64 `json:"after"`                // not before this time
	Collecting bool  `json:"collecting,omitempty"` // removal has begun; the restore that made it is too late
}

// restoreTime is how long a restore may take before what it wrote counts as abandoned.
const restoreTime = time.Hour

// purgeObject removes a deleted object in one step, given the keys of its record and of its due entry, and leaves its versions
// to the collector.
func (s *Service) purgeObject(tx store.Tx, deleted, due string, o *objectRecord) error {
	return errors.Join(tx.Delete(deleted), tx.Delete(due), s.discard(tx, o.ID))
}

// discard leaves the versions of an object, which nothing names any more, to the collector.
func (s *Service) discard(tx store.Tx, objectID string) error {
	return record.Put(tx, garbageKey(objectID), garbageRecord{Format: record.Current(), After: s.now().Unix()})
}

// What can be due.
const (
	duePurge  = "purge"
	dueRotate = "rotate" // of a key
	dueNotify = "notify" // that a key expires
)

// What is due for vaults themselves. It is theirs, and done with the rest.
var dueVaults = resource.DueKinds()

// DueRotations and DueOthers are the kinds of due entries. Making keys takes its time, so rotations have a job of their own
// that others need not wait for.
func DueRotations(what string) bool { return what == dueRotate }

// DueOthers is everything else.
func DueOthers(what string) bool { return what != dueRotate }

// dueHorizon is how far NextDue looks.
const dueHorizon = time.Hour

// NextDue returns when something of a kind is next due; ok is false if nothing is within an hour.
func (s *Service) NextDue(ctx context.Context, kind func(what string) bool) (at time.Time, ok bool, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		for key, err := range seal.Keys(r, "due/", record.DueTime(s.now().Add(dueHorizon).Unix()+1)) {
			if err != nil {
				return err
			}
			unix, rest, err := parseDue(key)
			if err != nil {
				return err
			}
			if kind(rest[0]) {
				at, ok = time.Unix(unix, 0), true
				return nil
			}
		}
		return nil
	})
	return at, ok, err
}

func parseDue(key string) (unix int64, rest []string, err error) {
	parts := strings.Split(key, "/")
	if len(parts) < 4 {
		return 0, nil, &seal.RecordError{Key: key, Reason: "is not a due entry"}
	}
	unix, err = strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return 0, nil, &seal.RecordError{Key: key, Reason: "is not a due entry"}
	}
	return unix, parts[2:], nil
}

// ActOnDue does what is due of a kind: it purges everything whose retention has passed, rotates the keys whose policy says so
// and records the notices that are due. It returns how much it did. What cannot be done is named in the error and does not
// keep the rest from it. Several servers may do it at once: each act re-checks in its own transaction.
func (s *Service) ActOnDue(ctx context.Context, kind func(what string) bool) (int, error) {
	ctx = audit.WithCorrelationID(ctx, record.NewID())
	acted := 0
	var failed errorList
	// The end is exclusive, and an entry of this very second is due.
	err := s.forEach(ctx, "due/", record.DueTime(s.now().Unix()+1), failed.add, func(e store.Entry) {
		if _, rest, err := parseDue(e.Key); err == nil && !kind(rest[0]) {
			return
		}
		did, err := s.actOnOne(ctx, e.Key, string(e.Value))
		failed.add(err)
		if did {
			acted++
		}
	})
	failed.add(err)
	if kind(dueNotify) {
		failed.add(s.dropOldEvents(ctx))
	}
	return acted, failed.join()
}

// forEach is record.Each on the service's store.
func (s *Service) forEach(ctx context.Context, start, end string, bad func(error), visit func(store.Entry)) error {
	return record.Each(ctx, s.db, start, end, bad, visit)
}

// An errorList collects the failures of a job that goes on; the first of them are told.
type errorList struct{ errs []error }

func (l *errorList) add(err error) {
	const told = 20
	if err != nil && len(l.errs) < told {
		l.errs = append(l.errs, err)
	}
}

func (l *errorList) join() error { return errors.Join(l.errs...) }

// actOnOne carries out one due entry. It reports false if there was nothing to do: somebody else was first, or the object
// was recovered or purged with its vault.
func (s *Service) actOnOne(ctx context.Context, due, resource string) (bool, error) {
	at, what, err := parseDue(due)
	if err != nil {
		return false, err
	}
	rec := audit.Record{
		Time: s.now(), Category: audit.Intent, ResourceID: resource, UPN: "retention", CorrelationID: audit.CorrelationID(ctx),
		ID: what[len(what)-1],
	}
	var act func(tx store.Tx) (bool, error)
	switch {
	case (what[0] == dueRotate || what[0] == dueNotify) && len(what) == 4:
		return s.keyDue(ctx, due, resource, at, what[0], what[1:])
	case what[0] == duePurge && len(what) == 4:
		rec.Operation = map[ObjectKind]Operation{SecretKind: SecretPurge, KeyKind: KeyPurge}[ObjectKind(what[2])].Name
		deleted := "deleted/" + strings.Join(what[1:], "/")
		act = func(tx store.Tx) (bool, error) { return s.purgeDueObject(tx, at, due, deleted) }
	case dueVaults[what[0]] != "" && len(what) == 2:
		rec.Operation = dueVaults[what[0]]
		act = func(tx store.Tx) (bool, error) { return s.resources.PurgeDue(tx, what[0], due, what[1], at) }
	default:
		return false, &seal.RecordError{Key: due, Reason: "is not a due entry of this release"}
	}
	// A dry run first, so that nothing is announced that will not happen. If it is true, the run that counts re-checks.
	var did bool
	stale := errors.New("stale")
	err = s.db.Update(ctx, func(tx store.Tx) error {
		var err error
		if did, err = act(tx); err == nil && did {
			return stale // undo; it is not on record yet
		}
		return err
	})
	if !errors.Is(err, stale) {
		return false, err
	}
	err = s.resources.Recorded(ctx, rec, func() error {
		err := s.db.Update(ctx, func(tx store.Tx) error {
			var err error
			did, err = act(tx)
			return err
		})
		if err == nil && !did {
			return errNotDue // somebody else was first
		}
		return err
	})
	if errors.Is(err, errNotDue) {
		return false, nil
	}
	return err == nil, err
}

// purgeDueObject purges the object of a due entry, or removes an entry that has outlived its reason.
func (s *Service) purgeDueObject(tx store.Tx, at int64, due, deleted string) (bool, error) {
	if still, err := record.Exists(tx, due); err != nil || !still {
		return false, err
	}
	o, err := record.Get[objectRecord](tx, deleted)
	if errors.Is(err, store.ErrNotFound) || err == nil && o.PurgeAt != at {
		return false, tx.Delete(due)
	}
	if err != nil {
		return false, err
	}
	return true, s.purgeObject(tx, deleted, due, o)
}

// Purged leaves everything in a vault that is being purged, and everything that stands under the id of a managed HSM's content, to
// the collector. It is for resource.Config.
func Purged(tx store.Tx, contentID string) error {
	return record.Put(tx, garbageKey(contentID), garbageRecord{Format: record.Current(), Vault: true})
}

// CollectGarbage removes the versions that purges and dead restores left. What cannot be removed is named in the error
// and does not keep the rest from it. It may run on several servers at once and be stopped at any time.
func (s *Service) CollectGarbage(ctx context.Context) error {
	var failed errorList
	err := s.forEach(ctx, "garbage/", store.PrefixEnd("garbage/"), failed.add, func(e store.Entry) {
		rec, err := record.Decode[garbageRecord](e.Value)
		switch {
		case err != nil:
			failed.add(&seal.RecordError{Key: e.Key, Reason: err.Error()})
		case rec.After <= s.now().Unix():
			failed.add(s.collect(ctx, e.Key))
		}
	})
	failed.add(err)
	return failed.join()
}

// collect claims one garbage record, so that a late restore cannot bring it back, and removes what it marks.
func (s *Service) collect(ctx context.Context, key string) error {
	id := strings.TrimPrefix(key, "garbage/")
	var rec *garbageRecord
	err := s.db.Update(ctx, func(tx store.Tx) error {
		var err error
		if rec, err = record.Get[garbageRecord](tx, key); err != nil || rec.Collecting {
			return err
		}
		rec.Collecting = true
		return record.Put(tx, key, rec)
	})
	if errors.Is(err, store.ErrNotFound) {
		return nil // collected, or made visible, by somebody else
	}
	if err != nil {
		return err
	}
	s.keys.Forget(valuePrefix(id)) // a purged key is not to stay opened in memory
	if !rec.Vault {
		err = errors.Join(s.removeAll(ctx, valuePrefix(id), nil), s.removeAll(ctx, versionPrefix(id), nil))
	} else {
		// The objects of a vault become garbage of their own, which the next round removes. Nothing is due for them any more.
		for _, prefix := range []string{"object/", "deleted/"} {
			err = errors.Join(err, s.removeAll(ctx, prefix+id+"/", func(tx store.Tx, e store.Entry) error {
				o, err := record.Decode[objectRecord](e.Value)
				if err != nil {
					return &seal.RecordError{Key: e.Key, Reason: err.Error()}
				}
				where := strings.TrimPrefix(e.Key, prefix)
				if o.PurgeAt != 0 {
					err = tx.Delete(record.DueTime(o.PurgeAt) + "purge/" + where)
				}
				gone := o.forDue(func(at int64, what string) error { return tx.Delete(record.DueTime(at) + what + "/" + where) })
				return errors.Join(err, gone, s.discard(tx, o.ID))
			}))
		}
		err = errors.Join(err, s.removeAll(ctx, resource.LocalPrefix(id), nil))
	}
	if err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx store.Tx) error { return tx.Delete(key) })
}

// removeAll deletes everything below prefix in small transactions, also what does not open. also, if not nil, runs beside
// each deletion of what does, in its transaction.
func (s *Service) removeAll(ctx context.Context, prefix string, also func(store.Tx, store.Entry) error) error {
	const batch = 20 // up to five writes each
	for more := true; more; {
		err := s.db.Update(ctx, func(tx store.Tx) error {
			var keys []string
			more = false
			for key, err := range seal.Keys(tx, prefix, store.PrefixEnd(prefix)) {
				if err != nil {
					return err
				}
				if len(keys) == batch {
					more = true
					break
				}
				keys = append(keys, key)
			}
			for _, key := range keys {
				if also != nil {
					if err := withRecord(tx, key, also); err != nil {
						return err
					}
				}
				if err := tx.Delete(key); err != nil {
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

// withRecord runs do with the record at key, unless it does not open.
func withRecord(tx store.Tx, key string, do func(store.Tx, store.Entry) error) error {
	value, err := tx.Get(key)
	if err == nil {
		err = do(tx, store.Entry{Key: key, Value: value})
	}
	var spoiled *seal.RecordError
	if errors.As(err, &spoiled) {
		return nil
	}
	return err
}
