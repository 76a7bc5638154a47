package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// This file moves the keys of a managed HSM out into a full backup and back in. Nobody is authorised here: who asks does it for a job
// that somebody was authorised to start. The material of a key stays under the keys of the security domain on the way, so it
// is of use in managed HSMs with the same domain only.
//
// A full restore replaces all keys at once. It writes them into a content of its own, which nothing names yet, and then the managed
// HSM gets that for its content, in one step. Until then the new content is marked as garbage; afterwards the old one is.

// A KeyContent is a key of a managed HSM, live or deleted, with all its versions. It is secret, and prints without what is in it.
type KeyContent struct {
	Name    string // in lower case
	Records []ContentRecord
}

// A ContentRecord is a part of a key: first the key itself, then its versions.
type ContentRecord struct {
	Kind string
	Data []byte
}

// The kinds of parts.
const (
	contentKey     = "key"
	contentVersion = "version"
)

// Format keeps the material out of whatever prints it.
func (k KeyContent) Format(f fmt.State, _ rune)    { fmt.Fprintf(f, "the key %s", k.Name) }
func (r ContentRecord) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "a %s", r.Kind) }

// contentOf returns the managed HSM as it is now, if it still is the one with the content that v has.
func (s *Service) contentOf(r store.Reader, v *resource.Vault) (*resource.Vault, error) {
	now, err := s.resources.LoadHSM(r, v.Name)
	if errors.Is(err, resource.ErrVaultNotFound) || err == nil && (now.ID != v.ID || now.ContentID() != v.ContentID()) {
		return nil, &Error{Kind: VaultNotFound, Message: fmt.Sprintf("The managed HSM %s was deleted, or restored, in the meantime.", v.Name)}
	}
	return now, err
}

// NextKey returns the first key of a managed HSM whose name comes after another in lower case, with all its versions as of one moment, or nil if
// there is none.
func (s *Service) NextKey(ctx context.Context, v *resource.Vault, after string) (*KeyContent, error) {
	var k *KeyContent
	err := s.db.View(ctx, func(r store.Reader) error {
		k = nil
		if _, err := s.contentOf(r, v); err != nil {
			return err
		}
		name, key, err := firstAfter(r, after, objectPrefix(v, KeyKind), deletedPrefix(v, KeyKind))
		if err != nil || name == "" {
			return err
		}
		o, err := record.Get[objectRecord](r, key)
		if err != nil {
			return err
		}
		k, err = keyContent(r, name, o)
		return err
	})
	return k, err
}

// firstAfter returns the first name after another that there is below one of the prefixes, and its key. A name is below one of them only.
func firstAfter(r store.Reader, after string, prefixes ...string) (name, key string, err error) {
	for _, prefix := range prefixes {
		for k, err := range seal.Keys(r, prefix+after+"\x00", store.PrefixEnd(prefix)) {
			if err != nil {
				return "", "", err
			}
			if n := strings.TrimPrefix(k, prefix); name == "" || n < name {
				name, key = n, k
			}
			break
		}
	}
	return name, key, nil
}

func keyContent(r store.Reader, name string, o *objectRecord) (*KeyContent, error) {
	versions, err := versionsOf(r, o.ID)
	if err != nil {
		return nil, err
	}
	k := &KeyContent{Name: name}
	add := func(kind string, v any) error {
		raw, err := json.Marshal(v)
		k.Records = append(k.Records, ContentRecord{kind, raw})
		return err
	}
	err = add(contentKey, o)
	for _, v := range versions {
		err = errors.Join(err, add(contentVersion, v))
	}
	return k, err
}

// decode reads a key that comes back into a managed HSM. All of it is of use there, or it is refused.
func (s *Service) decode(ctx context.Context, v *resource.Vault, k *KeyContent) (*objectRecord, []backupVersion, error) {
	spoiled := func(reason string) error {
		return &Error{Kind: BadParameter, Object: KeyKind, Message: fmt.Sprintf("The key %s cannot be restored: %s.", bounded(k.Name), reason)}
	}
	var (
		o        *objectRecord
		versions []backupVersion
		current  bool
	)
	for i, r := range k.Records {
		if want := i == 0; (r.Kind == contentKey) != want || !want && r.Kind != contentVersion {
			return nil, nil, spoiled("the backup is of a form that this release does not know")
		}
		var err error
		if i == 0 {
			o, err = record.Decode[objectRecord](r.Data)
		} else {
			var version *backupVersion
			if version, err = record.Decode[backupVersion](r.Data); err == nil {
				versions = append(versions, *version)
				current = current || version.Version == o.Current
			}
		}
		if err != nil {
			return nil, nil, spoiled("its record " + err.Error())
		}
	}
	if o == nil || !current || strings.ToLower(o.Name) != k.Name || checkName(o.Name) != nil {
		return nil, nil, spoiled("it is incomplete")
	}
	if o.Managed || o.Deleted < 0 || o.PurgeAt < o.Deleted || o.PurgeAt > maxTime {
		return nil, nil, spoiled("nobody could remove it") // not even time
	}
	if err := o.Rotation.check(); err != nil {
		return nil, nil, err
	}
	o.Versions = len(versions)
	err := s.db.View(ctx, func(r store.Reader) error {
		domain, err := s.resources.Domain(r, v)
		if err != nil {
			return err
		}
		seen := make(map[string]bool)
		for _, version := range versions {
			if version.Key == nil || !v.MayHold(version.Key.HSM) {
				return spoiled("it is none of a managed HSM")
			}
			if seen[version.Version] || !isVersion(version.Version) {
				return spoiled("it has a version twice, or one that is none")
			}
			seen[version.Version] = true
			if _, err := domain.UnwrapKey(o.Name, version.Version, version.Value); err != nil {
				return spoiled("its material " + err.Error())
			}
		}
		return nil
	})
	return o, versions, err
}

// StageKey writes a key into a content that is being made: v is the managed HSM with that content. Nothing is due for the key
// before ScheduleKeys. also runs in the transaction that makes the key visible: who finds there that the content is not his to make
// any more keeps it from that.
func (s *Service) StageKey(ctx context.Context, v *resource.Vault, k *KeyContent, also func(store.Tx) error) error {
	o, versions, err := s.decode(ctx, v, k)
	if err != nil {
		return err
	}
	return s.bringIn(ctx, o, versions, func(tx store.Tx) error {
		if err := also(tx); err != nil {
			return err
		}
		key := objectKey(v, KeyKind, o.Name)
		if o.Deleted != 0 {
			key = deletedKey(v, KeyKind, o.Name)
		}
		// A job that was interrupted may write a key again.
		if before, err := record.Get[objectRecord](tx, key); err == nil {
			if err := s.discard(tx, before.ID); err != nil {
				return err
			}
		} else if !errors.Is(err, store.ErrNotFound) {
			return err
		}
		return record.Put(tx, key, o)
	})
}

// RestoreKeyContent brings one key back into a managed HSM that is in use, live even if it was deleted when it was backed up. Its name
// must be free, also among deleted keys. also runs in the transaction that makes the key visible.
func (s *Service) RestoreKeyContent(ctx context.Context, v *resource.Vault, k *KeyContent, also func(store.Tx) error) error {
	o, versions, err := s.decode(ctx, v, k)
	if err != nil {
		return err
	}
	o.Deleted, o.PurgeAt = 0, 0
	if err := s.db.View(ctx, func(r store.Reader) error { return s.checkKeyFree(r, v, o) }); err != nil {
		return err
	}
	return s.bringIn(ctx, o, versions, func(tx store.Tx) error {
		now, err := s.contentOf(tx, v)
		if err == nil {
			err = errors.Join(now.InUse(), s.checkKeyFree(tx, now, o))
		}
		if err != nil {
			return err
		}
		rec, err := s.current(tx, o)
		if err != nil {
			return err
		}
		live := *o
		s.plan(&live, rec)
		return errors.Join(record.Put(tx, objectKey(now, KeyKind, live.Name), live), schedule(tx, now, &live), also(tx))
	})
}

// checkKeyFree refuses a name that is in use, live or deleted.
func (s *Service) checkKeyFree(r store.Reader, v *resource.Vault, o *objectRecord) error {
	for _, key := range []string{objectKey(v, KeyKind, o.Name), deletedKey(v, KeyKind, o.Name)} {
		taken, err := record.Exists(r, key)
		if err != nil {
			return err
		}
		if taken {
			return &Error{Kind: Conflict, Object: KeyKind, Message: fmt.Sprintf("The key %s exists in the managed HSM, or is deleted and "+
				"recoverable: delete and purge it first.", o.Name)}
		}
	}
	return nil
}

// bringIn writes the versions of a key under an object id of their own, and then makes them visible; in one go if they are few.
func (s *Service) bringIn(ctx context.Context, o *objectRecord, versions []backupVersion, visible func(store.Tx) error) error {
	o.ID = record.NewID()
	batch, rest, err := versionEntries(o.ID, versions)
	if err != nil {
		return err
	}
	if len(rest) == 0 {
		return s.db.Update(ctx, func(tx store.Tx) error {
			if err := putAll(tx, batch); err != nil {
				return err
			}
			return visible(tx)
		})
	}
	if err := s.db.Update(ctx, func(tx store.Tx) error { return s.expect(tx, o.ID) }); err != nil {
		return err
	}
	if err := s.writeVersions(ctx, o.ID, versions); err != nil {
		return err
	}
	return s.db.Update(ctx, func(tx store.Tx) error {
		if err := arrived(tx, KeyKind, o.ID); err != nil {
			return err
		}
		return visible(tx)
	})
}

// CheckKeyName refuses what no key can be named.
func CheckKeyName(name string) error { return checkName(name) }

// ScheduleKeys puts in place what is due for the keys of a content that was brought in, for as many as fit into one transaction, those
// after a name in lower case. It returns the name to go on after, "" when all are done.
func (s *Service) ScheduleKeys(ctx context.Context, v *resource.Vault, after string) (next string, err error) {
	const batch = 20 // up to four writes each
	err = s.db.Update(ctx, func(tx store.Tx) error {
		now, err := s.contentOf(tx, v)
		if err != nil {
			return err
		}
		next = after
		for range batch {
			name, key, err := firstAfter(tx, next, objectPrefix(now, KeyKind), deletedPrefix(now, KeyKind))
			if err != nil {
				return err
			}
			if name == "" {
				next = ""
				return nil
			}
			if err := s.scheduleKey(tx, now, key); err != nil {
				return err
			}
			next = name
		}
		return nil
	})
	return next, err
}

func (s *Service) scheduleKey(tx store.Tx, v *resource.Vault, key string) error {
	known, err := record.Get[objectRecord](tx, key)
	if err != nil {
		return err
	}
	o := *known
	if o.Deleted != 0 {
		return tx.Put(duePurgeKey(o.PurgeAt, v, KeyKind, o.Name), []byte(v.Resource()))
	}
	rec, err := s.current(tx, &o)
	if err != nil {
		return err
	}
	return errors.Join(s.reschedule(tx, v, &o, rec), record.Put(tx, key, o))
}

// StageContent marks a content that is about to be made as garbage from a time on.
func StageContent(tx store.Tx, contentID string, until time.Time) error {
	return record.Put(tx, garbageKey(contentID), garbageRecord{Format: record.Current(), Vault: true, After: until.Unix()})
}

// KeepContent moves the time of StageContent, as long as the content is being made.
func KeepContent(tx store.Tx, contentID string, until time.Time) error {
	if err := arrived(tx, KeyKind, contentID); err != nil {
		return err
	}
	return StageContent(tx, contentID, until)
}

// TakeContent takes the mark away, in the transaction that makes the content that of a managed HSM.
func TakeContent(tx store.Tx, contentID string) error { return arrived(tx, KeyKind, contentID) }
