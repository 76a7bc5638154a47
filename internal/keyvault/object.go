package keyvault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// Limits of what all objects have (contract §17). For tags the contract names both 256 and 512; the larger is accepted.
const (
	MaxTags    = 15
	MaxTagText = 512 // characters in a tag's name or value
	MaxName    = 127
	MaxPage    = 25 // objects in a page of a list
)

const secondsPerDay = 24 * 60 * 60

// maxTime is the last second of the year 9999, the end of what clients' date types can hold.
const maxTime = 253402300799

// An ObjectKind is the kind of an object in a vault.
type ObjectKind string

// The kinds of objects.
const (
	SecretKind ObjectKind = "secret"
	KeyKind    ObjectKind = "key"
)

// word is the kind as Azure's messages begin with it.
func (k ObjectKind) word() string { return strings.ToUpper(string(k[:1])) + string(k[1:]) }

// Attributes are what a caller sets about a version. A nil member means "as it is", and on a new version the default.
type Attributes struct {
	Enabled   *bool
	NotBefore *int64 // Unix seconds
	Expires   *int64 // Unix seconds
}

// Properties are what is known about a version of an object of any kind.
type Properties struct {
	Name            string // in the spelling that was used first
	Version         string
	Enabled         bool
	NotBefore       *int64
	Expires         *int64
	Created         int64
	Updated         int64
	Tags            map[string]string
	Managed         bool // belongs to a certificate
	RecoveryLevel   string
	RecoverableDays int
	Vault           string // ARM resource id of its vault, in upper case
}

// objectRecord is a name in a vault, of any kind of object.
type objectRecord struct {
	record.Format
	ID       string `json:"id"`
	Name     string `json:"name"`
	Current  string `json:"current"`
	Versions int    `json:"versions"`
	Managed  bool   `json:"managed,omitempty"` // its life is a certificate's
	Deleted  int64  `json:"deleted,omitempty"`
	PurgeAt  int64  `json:"purgeAt,omitempty"`

	// Of keys only.
	Rotation *rotationRecord `json:"rotation,omitempty"`
	RotateAt int64           `json:"rotateAt,omitempty"` // when the policy rotates it; a due entry stands at this time while it is live
	NotifyAt int64           `json:"notifyAt,omitempty"` // the same for the notice that it expires
	Notified *notice         `json:"notified,omitempty"` // the last one that was given
	Release  *releaseRecord  `json:"release,omitempty"`
}

// A notice is which expiry of which version was told.
type notice struct {
	Version string `json:"version"`
	Expires int64  `json:"exp"`
}

// versionRecord is what is known about one version of an object of any kind.
type versionRecord struct {
	record.Format
	Version     string            `json:"version"`
	ContentType string            `json:"contentType,omitempty"` // of a secret
	Disabled    bool              `json:"disabled,omitempty"`
	NotBefore   *int64            `json:"nbf,omitempty"`
	Expires     *int64            `json:"exp,omitempty"`
	Created     int64             `json:"created"`
	Updated     int64             `json:"updated"`
	Tags        map[string]string `json:"tags,omitempty"`
	Previous    string            `json:"previous,omitempty"`
	Key         *keyRecord        `json:"key,omitempty"` // of a key
}

// newVersion is the record of a version made now.
func (s *Service) newVersion(a Attributes, tags map[string]string) versionRecord {
	now := s.now().Unix()
	rec := versionRecord{Format: record.Current(), Version: record.NewID(), Created: now, Updated: now, Tags: maps.Clone(tags)}
	rec.merge(a)
	return rec
}

func (r *versionRecord) merge(a Attributes) {
	if a.Enabled != nil {
		r.Disabled = !*a.Enabled
	}
	if a.NotBefore != nil {
		r.NotBefore = a.NotBefore
	}
	if a.Expires != nil {
		r.Expires = a.Expires
	}
}

func (r *versionRecord) properties(v *resource.Vault, o *objectRecord) Properties {
	return Properties{
		Name:            o.Name,
		Version:         r.Version,
		Enabled:         !r.Disabled,
		NotBefore:       r.NotBefore,
		Expires:         r.Expires,
		Created:         r.Created,
		Updated:         r.Updated,
		Tags:            r.Tags,
		Managed:         o.Managed,
		RecoveryLevel:   v.RecoveryLevel(),
		RecoverableDays: v.RetentionDays,
		Vault:           v.Resource(),
	}
}

func objectPrefix(v *resource.Vault, kind ObjectKind) string {
	return "object/" + v.ContentID() + "/" + string(kind) + "/"
}

func deletedPrefix(v *resource.Vault, kind ObjectKind) string {
	return "deleted/" + v.ContentID() + "/" + string(kind) + "/"
}

func objectKey(v *resource.Vault, kind ObjectKind, name string) string {
	return objectPrefix(v, kind) + strings.ToLower(name)
}

func deletedKey(v *resource.Vault, kind ObjectKind, name string) string {
	return deletedPrefix(v, kind) + strings.ToLower(name)
}

func versionPrefix(objectID string) string       { return "version/" + objectID + "/" }
func versionKey(objectID, version string) string { return versionPrefix(objectID) + version }
func valuePrefix(objectID string) string         { return "value/" + objectID + "/" }
func valueKey(objectID, version string) string   { return valuePrefix(objectID) + version }
func (o *objectRecord) currentKey() string       { return versionKey(o.ID, o.Current) }

var (
	objectName    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	objectVersion = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)
)

// isVersion tells whether text is a version id as it is stored.
func isVersion(text string) bool {
	return objectVersion.MatchString(text) && text == strings.ToLower(text)
}

func badParameter(format string, args ...any) error {
	return &Error{Kind: BadParameter, Message: fmt.Sprintf(format, args...)}
}

func checkName(name string) error {
	if !objectName.MatchString(name) {
		return badParameter("The request URI contains an invalid name: %s", bounded(name))
	}
	return nil
}

// bounded cuts a caller's text down to what an error message may repeat.
func bounded(s string) string {
	const limit = 128
	if len(s) <= limit {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	return strings.ToValidUTF8(s[:limit], "\uFFFD") + "…"
}

// checkVersion accepts no version (the current one) or a version id, and returns it as stored. Something else names a
// version that cannot exist.
func checkVersion(kind ObjectKind, name, version string) (string, error) {
	if version == "" || objectVersion.MatchString(version) {
		return strings.ToLower(version), nil
	}
	return "", notFound(kind, name, version)
}

func checkTags(tags map[string]string) error {
	if len(tags) > MaxTags {
		return badParameter("There are %d tags: %d are allowed.", len(tags), MaxTags)
	}
	for name, value := range tags {
		if utf8.RuneCountInString(name) > MaxTagText || utf8.RuneCountInString(value) > MaxTagText {
			return badParameter("The tag %q is too long: its name and its value can have %d characters each.",
				bounded(name), MaxTagText)
		}
	}
	return nil
}

func (a Attributes) check() error {
	for name, t := range map[string]*int64{"nbf": a.NotBefore, "exp": a.Expires} {
		if t != nil && (*t < 0 || *t > maxTime) {
			return badParameter("The attribute %q must be a number of seconds since 1970-01-01 UTC, before the year 10000.", name)
		}
	}
	return nil
}

// notFound is Azure's answer for a name or version that a reader asks for (contract §14).
func notFound(kind ObjectKind, name, version string) error {
	id := name
	if version != "" {
		id += "/" + bounded(version)
	}
	return &Error{Kind: NotFound, Object: kind, Message: fmt.Sprintf("A %[1]s with (name/id) %[2]s was not found in this "+
		"key vault. If you recently deleted this %[1]s you may be able to recover it using the correct recovery command. For "+
		"help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182", kind, id)}
}

// missing is Azure's answer when what is to be changed does not exist.
func missing(kind ObjectKind, name string) error {
	return &Error{Kind: NotFound, Object: kind, Message: kind.word() + " not found: " + name}
}

func missingDeleted(kind ObjectKind, name string) error {
	return &Error{Kind: NotFound, Object: kind, Message: "Deleted " + kind.word() + " not found: " + name}
}

func managed(kind ObjectKind, verb string) error {
	return &Error{Kind: Managed, Object: kind, Message: fmt.Sprintf("Operation %q is not allowed as this object's "+
		"lifetime is managed by Key Vault.", verb)}
}

func disabled(kind ObjectKind, verb string) error {
	return &Error{Kind: Disabled, Object: kind, Message: fmt.Sprintf("Operation %s is not allowed on a disabled %s.", verb, kind)}
}

// A found is a version together with what it belongs to. Its records are shared: nobody may modify them.
type found struct {
	v   *resource.Vault
	o   *objectRecord
	rec *versionRecord
}

// loadObject returns the live object of that name, or store.ErrNotFound.
func (s *Service) loadObject(r store.Reader, v *resource.Vault, kind ObjectKind, name string) (*objectRecord, error) {
	return s.objects.Load(r, objectKey(v, kind, name), record.Decode[objectRecord])
}

// loadVersion returns what is known about a version, or store.ErrNotFound.
func (s *Service) loadVersion(r store.Reader, objectID, version string) (*versionRecord, error) {
	return s.versions.Load(r, versionKey(objectID, version), record.Decode[versionRecord])
}

// current returns the current version of an object, which must be there.
func (s *Service) current(r store.Reader, o *objectRecord) (*versionRecord, error) {
	rec, err := s.loadVersion(r, o.ID, o.Current)
	if errors.Is(err, store.ErrNotFound) {
		err = &seal.RecordError{Key: o.currentKey(), Reason: "is missing"}
	}
	return rec, err
}

// liveObject is loadObject with the answer to be given if there is none.
func (s *Service) liveObject(r store.Reader, v *resource.Vault, kind ObjectKind, name string, none error) (*objectRecord, error) {
	o, err := s.loadObject(r, v, kind, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, none
	}
	return o, err
}

// deletedObject is liveObject for a soft-deleted one.
func deletedObject(r store.Reader, v *resource.Vault, kind ObjectKind, name string, none error) (*objectRecord, error) {
	o, err := record.Get[objectRecord](r, deletedKey(v, kind, name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, none
	}
	return o, err
}

// find returns a version of a live object; an empty version means the current one.
func (s *Service) find(r store.Reader, v *resource.Vault, kind ObjectKind, name, version string) (found, error) {
	stored, err := checkVersion(kind, name, version)
	if err != nil {
		return found{}, err
	}
	o, err := s.loadObject(r, v, kind, name)
	if err == nil {
		if stored == "" {
			stored = o.Current
		}
		var rec *versionRecord
		if rec, err = s.loadVersion(r, o.ID, stored); err == nil {
			return found{v, o, rec}, nil
		}
	}
	if errors.Is(err, store.ErrNotFound) {
		err = notFound(kind, name, version)
	}
	return found{}, err
}

// checkNameFree refuses a name that a soft-deleted object holds.
func checkNameFree(r store.Reader, v *resource.Vault, kind ObjectKind, name string) error {
	taken, err := record.Exists(r, deletedKey(v, kind, name))
	if err == nil && taken {
		err = &Error{Kind: DeletedButRecoverable, Object: kind, Message: fmt.Sprintf("%s %s is currently in a deleted but "+
			"recoverable state, and its name cannot be reused; in this state, the %s can only be recovered or purged.",
			kind.word(), name, kind)}
	}
	return err
}

// forNewVersion returns the object of that name, or a fresh one with the given id, as a copy that may be changed. verb
// is what the caller does, for the refusal.
func (s *Service) forNewVersion(r store.Reader, v *resource.Vault, kind ObjectKind, name, fresh, verb string) (*objectRecord, error) {
	if err := checkNameFree(r, v, kind, name); err != nil {
		return nil, err
	}
	known, err := s.loadObject(r, v, kind, name)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return &objectRecord{Format: record.Current(), ID: fresh, Name: name}, nil
	case err != nil:
		return nil, err
	case known.Managed:
		return nil, managed(kind, verb)
	}
	o := *known
	return &o, nil
}

// putVersion stores a new version, which becomes the current one.
func (s *Service) putVersion(tx store.Tx, v *resource.Vault, kind ObjectKind, o *objectRecord, rec *versionRecord, value []byte) error {
	if kind == KeyKind {
		var err error
		if value, err = s.wrap(tx, v, o, rec.Version, value); err != nil {
			return err
		}
	}
	rec.Previous = o.Current
	o.Current = rec.Version
	o.Versions++
	if err := s.reschedule(tx, v, o, rec); err != nil {
		return err
	}
	return errors.Join(
		record.Put(tx, o.currentKey(), rec),
		tx.Put(valueKey(o.ID, rec.Version), value),
		record.Put(tx, objectKey(v, kind, o.Name), o),
	)
}

// deleteObject soft-deletes an object with all its versions and returns it as it then is.
func (s *Service) deleteObject(ctx context.Context, caller *identity.Caller, vault string, op Operation, kind ObjectKind,
	name string) (found, error) {
	if err := checkName(name); err != nil {
		return found{}, err
	}
	var out found
	err := s.write(ctx, caller, vault, op, name, func(tx store.Tx, v *resource.Vault) error {
		known, err := s.liveObject(tx, v, kind, name, missing(kind, name))
		if err != nil {
			return err
		}
		if known.Managed {
			return managed(kind, "delete")
		}
		o := *known
		o.Deleted = s.now().Unix()
		o.PurgeAt = o.Deleted + int64(v.RetentionDays)*secondsPerDay
		rec, err := s.current(tx, &o)
		if err != nil {
			return err
		}
		out = found{v, &o, rec}
		return errors.Join(
			unschedule(tx, v, &o),
			tx.Delete(objectKey(v, kind, name)),
			record.Put(tx, deletedKey(v, kind, name), o),
			tx.Put(duePurgeKey(o.PurgeAt, v, kind, name), []byte(v.Resource())),
		)
	})
	return out, err
}

// findDeleted returns the current version of a soft-deleted object.
func (s *Service) findDeleted(r store.Reader, v *resource.Vault, kind ObjectKind, name string) (found, error) {
	o, err := deletedObject(r, v, kind, name, missingDeleted(kind, name))
	if err != nil {
		return found{}, err
	}
	rec, err := s.current(r, o)
	return found{v, o, rec}, err
}

// recoverObject brings a soft-deleted object back with all its versions.
func (s *Service) recoverObject(ctx context.Context, caller *identity.Caller, vault string, op Operation, kind ObjectKind,
	name string) (found, error) {
	if err := checkName(name); err != nil {
		return found{}, err
	}
	var out found
	err := s.write(ctx, caller, vault, op, name, func(tx store.Tx, v *resource.Vault) error {
		none := missing(kind, name)
		live, err := record.Exists(tx, objectKey(v, kind, name))
		if err != nil {
			return err
		}
		if live {
			none = &Error{Kind: NotDeleted, Object: kind, Message: kind.word() + " exists already: " + name}
		}
		known, err := deletedObject(tx, v, kind, name, none)
		if err != nil {
			return err
		}
		if known.Managed {
			return managed(kind, "recover")
		}
		o := *known
		due := duePurgeKey(o.PurgeAt, v, kind, name)
		o.Deleted, o.PurgeAt = 0, 0
		rec, err := s.current(tx, &o)
		if err != nil {
			return err
		}
		out = found{v, &o, rec}
		return errors.Join(
			tx.Delete(deletedKey(v, kind, name)),
			tx.Delete(due),
			record.Put(tx, objectKey(v, kind, name), o),
			schedule(tx, v, &o),
		)
	})
	return out, err
}

// purgeDeleted removes a soft-deleted object for ever. Its name is free at once. The bytes of its records, sealed, may
// stay in unused space of the store's file until that is written again.
func (s *Service) purgeDeleted(ctx context.Context, caller *identity.Caller, vault string, op Operation, kind ObjectKind,
	name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return s.write(ctx, caller, vault, op, name, func(tx store.Tx, v *resource.Vault) error {
		o, err := deletedObject(tx, v, kind, name, missingDeleted(kind, name))
		if err != nil {
			return err
		}
		if o.Managed {
			return managed(kind, "purge")
		}
		if v.PurgeProtection {
			return &Error{Kind: PurgeProtected, Object: kind, Message: fmt.Sprintf("Operation \"purge\" is not allowed "+
				"because purge protection is enabled for this vault. Key Vault service will automatically purge it after the "+
				"retention period has passed. Vault: %s;location=%s", v.Name, v.Location)}
		}
		return s.purgeObject(tx, deletedKey(v, kind, name), duePurgeKey(o.PurgeAt, v, kind, name), o)
	})
}

// A Page is a part of a list. Next is where the following part begins, "" at the end.
type Page[T any] struct {
	Items []T
	Next  string
}

// listObjects shows the objects below the prefix, each as its current version, in the order of their names, from the
// name `from` on, max of them at most (1 to MaxPage).
func listObjects[T any](ctx context.Context, s *Service, caller *identity.Caller, vault string, op Operation,
	prefix func(*resource.Vault) string, from string, max int, show func(found) T) (Page[T], error) {
	var page Page[T]
	err := s.read(ctx, caller, vault, op, "", func(r store.Reader, v *resource.Vault) error {
		var err error
		page, err = listRange(r, prefix(v), from, max, func(key string) (found, error) {
			o, err := s.objects.Load(r, key, record.Decode[objectRecord])
			if err != nil {
				return found{}, err
			}
			rec, err := s.current(r, o)
			return found{v, o, rec}, err
		}, show)
		return err
	})
	return page, err
}

// listVersions shows the versions of a live object in the order of their ids, from the version `from` on.
func listVersions[T any](ctx context.Context, s *Service, caller *identity.Caller, vault string, op Operation,
	kind ObjectKind, name, from string, max int, show func(found) T) (Page[T], error) {
	if err := checkName(name); err != nil {
		return Page[T]{}, err
	}
	var page Page[T]
	err := s.read(ctx, caller, vault, op, name, func(r store.Reader, v *resource.Vault) error {
		o, err := s.liveObject(r, v, kind, name, notFound(kind, name, ""))
		if err != nil {
			return err
		}
		page, err = listRange(r, versionPrefix(o.ID), from, max, func(key string) (found, error) {
			rec, err := s.versions.Load(r, key, record.Decode[versionRecord])
			return found{v, o, rec}, err
		}, show)
		return err
	})
	return page, err
}

// listRange shows what is at the keys below prefix from `from` on, at most max, and says where to go on.
func listRange[T any](r store.Reader, prefix, from string, max int, load func(key string) (found, error),
	show func(found) T) (Page[T], error) {
	page := Page[T]{}
	for key, err := range seal.Keys(r, prefix+strings.ToLower(from), store.PrefixEnd(prefix)) {
		if err != nil {
			return page, err
		}
		if len(page.Items) == max {
			page.Next = strings.TrimPrefix(key, prefix)
			return page, nil
		}
		f, err := load(key)
		if err != nil {
			return page, err
		}
		page.Items = append(page.Items, show(f))
	}
	return page, nil
}
