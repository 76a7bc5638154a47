package keyvault

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// Limits of a secret (contract §7, §17). For tags the contract names both 256 and 512; the larger is accepted.
const (
	MaxSecretValue = 25 * 1024 // bytes of UTF-8
	MaxContentType = 255       // characters
	MaxTags        = 15
	MaxTagText     = 512 // characters in a tag's name or value
	MaxName        = 127
	MaxPage        = 25 // objects in a page of a list
)

const secondsPerDay = 24 * 60 * 60

// maxTime is the last second of the year 9999, the end of what clients' date types can hold.
const maxTime = 253402300799

func secretOperation(name, verb, action string) Operation {
	return Operation{Name: name, Permission: authz.Permission{
		Object: "secrets", Verb: verb, DataAction: "Microsoft.KeyVault/vaults/secrets/" + action,
	}}
}

// The operations on secrets, with the permission that each needs (contract §16).
var (
	SecretSet          = secretOperation("SecretSet", "set", "setSecret/action")
	SecretGet          = secretOperation("SecretGet", "get", "getSecret/action")
	SecretUpdate       = secretOperation("SecretUpdate", "set", "update/action")
	SecretDelete       = secretOperation("SecretDelete", "delete", "delete")
	SecretList         = secretOperation("SecretList", "list", "readMetadata/action")
	SecretListVersions = secretOperation("SecretListVersions", "list", "readMetadata/action")
	SecretGetDeleted   = secretOperation("SecretGetDeleted", "get", "readMetadata/action")
	SecretListDeleted  = secretOperation("SecretListDeleted", "list", "readMetadata/action")
	SecretPurge        = secretOperation("SecretPurge", "purge", "purge/action")
	SecretRecover      = secretOperation("SecretRecover", "recover", "recover/action")
	SecretBackup       = secretOperation("SecretBackup", "backup", "backup/action")
	SecretRestore      = secretOperation("SecretRestore", "restore", "restore/action")
)

// A SecretValue is the value of a secret. It prints as REDACTED; only Reveal gives the text.
type SecretValue struct{ text string }

// NewSecretValue wraps a text.
func NewSecretValue(text string) SecretValue { return SecretValue{text} }

// Reveal returns the text.
func (v SecretValue) Reveal() string { return v.text }

const redacted = "REDACTED"

// String, GoString, LogValue and MarshalText keep the text out of whatever prints or encodes the value.
func (SecretValue) String() string               { return redacted }
func (SecretValue) GoString() string             { return redacted }
func (SecretValue) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (SecretValue) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// Attributes are what a caller sets about a version. A nil member means "as it is", and on a new version the default.
type Attributes struct {
	Enabled   *bool
	NotBefore *int64 // Unix seconds
	Expires   *int64 // Unix seconds
}

// SetSecretParams is the content of a new version.
type SetSecretParams struct {
	Value       SecretValue
	ContentType string
	Attributes  Attributes
	Tags        map[string]string
}

// UpdateSecretParams is what changes about a version. Nil members stay as they are; Tags replaces all tags.
type UpdateSecretParams struct {
	ContentType *string
	Attributes  Attributes
	Tags        map[string]string
}

// A Secret is one version of a secret. Value is empty wherever the operation does not give it out.
type Secret struct {
	Name            string // in the spelling that was used first
	Version         string
	Value           SecretValue
	ContentType     string
	Enabled         bool
	NotBefore       *int64
	Expires         *int64
	Created         int64
	Updated         int64
	Tags            map[string]string
	PreviousVersion string // the version that was current before this one
	Managed         bool   // belongs to a certificate
	RecoveryLevel   string
	RecoverableDays int
	Vault           string // ARM resource id of its vault, in upper case
}

// A DeletedSecret is a soft-deleted secret, shown as its current version.
type DeletedSecret struct {
	Secret
	Deleted        int64
	ScheduledPurge int64
}

// objectRecord is a name in a vault, of any kind of object.
type objectRecord struct {
	format
	ID       string `json:"id"`
	Name     string `json:"name"`
	Current  string `json:"current"`
	Versions int    `json:"versions"`
	Managed  bool   `json:"managed,omitempty"` // its life is a certificate's
	Deleted  int64  `json:"deleted,omitempty"`
	PurgeAt  int64  `json:"purgeAt,omitempty"`
}

type secretRecord struct {
	format
	Version     string            `json:"version"`
	ContentType string            `json:"contentType,omitempty"`
	Disabled    bool              `json:"disabled,omitempty"`
	NotBefore   *int64            `json:"nbf,omitempty"`
	Expires     *int64            `json:"exp,omitempty"`
	Created     int64             `json:"created"`
	Updated     int64             `json:"updated"`
	Tags        map[string]string `json:"tags,omitempty"`
	Previous    string            `json:"previous,omitempty"`
}

func objectPrefix(v *vaultRecord, kind ObjectKind) string {
	return "object/" + v.ID + "/" + string(kind) + "/"
}

func deletedPrefix(v *vaultRecord, kind ObjectKind) string {
	return "deleted/" + v.ID + "/" + string(kind) + "/"
}

func objectKey(v *vaultRecord, kind ObjectKind, name string) string {
	return objectPrefix(v, kind) + strings.ToLower(name)
}

func deletedKey(v *vaultRecord, kind ObjectKind, name string) string {
	return deletedPrefix(v, kind) + strings.ToLower(name)
}

func versionPrefix(objectID string) string       { return "version/" + objectID + "/" }
func versionKey(objectID, version string) string { return versionPrefix(objectID) + version }
func valuePrefix(objectID string) string         { return "value/" + objectID + "/" }
func valueKey(objectID, version string) string   { return valuePrefix(objectID) + version }
func (o *objectRecord) currentKey() string       { return versionKey(o.ID, o.Current) }

func (r *secretRecord) merge(a Attributes) {
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

func (r *secretRecord) secret(v *vaultRecord, o *objectRecord) Secret {
	return Secret{
		Name:            o.Name,
		Version:         r.Version,
		ContentType:     r.ContentType,
		Enabled:         !r.Disabled,
		NotBefore:       r.NotBefore,
		Expires:         r.Expires,
		Created:         r.Created,
		Updated:         r.Updated,
		Tags:            r.Tags,
		PreviousVersion: r.Previous,
		Managed:         o.Managed,
		RecoveryLevel:   v.recoveryLevel(),
		RecoverableDays: v.RetentionDays,
		Vault:           v.resource,
	}
}

func (r *secretRecord) deletedSecret(v *vaultRecord, o *objectRecord) DeletedSecret {
	return DeletedSecret{Secret: r.secret(v, o), Deleted: o.Deleted, ScheduledPurge: o.PurgeAt}
}

var (
	objectName    = regexp.MustCompile(`^[0-9a-zA-Z-]{1,127}$`)
	objectVersion = regexp.MustCompile(`^[0-9a-fA-F]{32}$`)
)

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
func checkVersion(name, version string) (string, error) {
	if version == "" || objectVersion.MatchString(version) {
		return strings.ToLower(version), nil
	}
	return "", secretNotFound(name, version)
}

// secretNotFound is Azure's answer for a name or version that a reader asks for (contract §14).
func secretNotFound(name, version string) error {
	id := name
	if version != "" {
		id += "/" + bounded(version)
	}
	return &Error{Kind: NotFound, Object: SecretKind, Message: "A secret with (name/id) " + id +
		" was not found in this key vault. If you recently deleted this secret you may be able to recover it using the " +
		"correct recovery command. For help resolving this issue, please see https://go.microsoft.com/fwlink/?linkid=2125182"}
}

func noSuchSecret(name string) error { return secretNotFound(name, "") }

// noSecret is Azure's answer when what is to be changed does not exist.
func noSecret(name string) error {
	return &Error{Kind: NotFound, Object: SecretKind, Message: "Secret not found: " + name}
}

func noDeletedSecret(name string) error {
	return &Error{Kind: NotFound, Object: SecretKind, Message: "Deleted Secret not found: " + name}
}

func managedSecret(verb string) error {
	return &Error{Kind: Managed, Object: SecretKind, Message: fmt.Sprintf("Operation %q is not allowed as this object's "+
		"lifetime is managed by Key Vault.", verb)}
}

func disabledSecret() error {
	return &Error{Kind: Disabled, Object: SecretKind, Message: "Operation get is not allowed on a disabled secret."}
}

func checkContentType(s string) error {
	if utf8.RuneCountInString(s) > MaxContentType {
		return badParameter("The contentType is too long: %d characters are allowed.", MaxContentType)
	}
	return nil
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

func (p *SetSecretParams) check() error {
	if len(p.Value.text) > MaxSecretValue {
		return badParameter("The secret's value is too long: it has %d bytes, and %d are allowed.",
			len(p.Value.text), MaxSecretValue)
	}
	return errors.Join(checkContentType(p.ContentType), checkTags(p.Tags), p.Attributes.check())
}

// loadObject returns the live object of that name, or store.ErrNotFound.
func (s *Service) loadObject(r store.Reader, v *vaultRecord, kind ObjectKind, name string) (*objectRecord, error) {
	return s.objects.Load(r, objectKey(v, kind, name), decode[objectRecord])
}

func (s *Service) objectLoader(r store.Reader) func(key string) (*objectRecord, error) {
	return func(key string) (*objectRecord, error) { return s.objects.Load(r, key, decode[objectRecord]) }
}

// liveSecret returns the secret of that name; missing makes the answer if there is none.
func (s *Service) liveSecret(r store.Reader, v *vaultRecord, name string, missing func(name string) error) (*objectRecord, error) {
	o, err := s.loadObject(r, v, SecretKind, name)
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing(name)
	}
	return o, err
}

// deletedSecretRecord is liveSecret for a soft-deleted secret.
func (s *Service) deletedSecretRecord(r store.Reader, v *vaultRecord, name string, missing error) (*objectRecord, error) {
	o, err := get[objectRecord](r, deletedKey(v, SecretKind, name))
	if errors.Is(err, store.ErrNotFound) {
		return nil, missing
	}
	return o, err
}

// checkNameFree refuses a name that a soft-deleted secret holds.
func checkNameFree(r store.Reader, v *vaultRecord, name string) error {
	taken, err := exists(r, deletedKey(v, SecretKind, name))
	if err == nil && taken {
		err = &Error{Kind: DeletedButRecoverable, Object: SecretKind, Message: fmt.Sprintf("Secret %s is currently in a "+
			"deleted but recoverable state, and its name cannot be reused; in this state, the secret can only be recovered "+
			"or purged.", name)}
	}
	return err
}

// SetSecret makes a new version, which becomes the current one, and the secret if the name is new.
func (s *Service) SetSecret(ctx context.Context, caller *identity.Caller, vault, name string, p SetSecretParams) (Secret, error) {
	if err := errors.Join(checkName(name), p.check()); err != nil {
		return Secret{}, err
	}
	now := s.now().Unix()
	rec := secretRecord{
		format:      format{recordFormat},
		Version:     newID(),
		ContentType: p.ContentType,
		Created:     now,
		Updated:     now,
		Tags:        maps.Clone(p.Tags),
	}
	rec.merge(p.Attributes)
	fresh := newID()
	var out Secret
	err := s.write(ctx, caller, vault, SecretSet, name, func(tx store.Tx, v *vaultRecord) error {
		if err := checkNameFree(tx, v, name); err != nil {
			return err
		}
		o := objectRecord{format: format{recordFormat}, ID: fresh, Name: name}
		switch known, err := s.loadObject(tx, v, SecretKind, name); {
		case err == nil:
			o = *known
		case !errors.Is(err, store.ErrNotFound):
			return err
		}
		if o.Managed {
			return managedSecret("set")
		}
		rec.Previous = o.Current
		o.Current = rec.Version
		o.Versions++
		out = rec.secret(v, &o)
		return errors.Join(
			put(tx, o.currentKey(), rec),
			tx.Put(valueKey(o.ID, rec.Version), []byte(p.Value.text)),
			put(tx, objectKey(v, SecretKind, name), o),
		)
	})
	out.Value = p.Value
	return out, err
}

// GetSecret returns a version with its value; an empty version means the current one. Not-before and expiry times are
// for information and hinder nobody (contract §7); a disabled version is refused.
func (s *Service) GetSecret(ctx context.Context, caller *identity.Caller, vault, name, version string) (Secret, error) {
	if err := checkName(name); err != nil {
		return Secret{}, err
	}
	var out Secret
	err := s.read(ctx, caller, vault, SecretGet, func(r store.Reader, v *vaultRecord) error {
		o, rec, err := s.secretVersion(r, v, name, version)
		if err != nil {
			return err
		}
		if rec.Disabled {
			return disabledSecret()
		}
		value, err := r.Get(valueKey(o.ID, rec.Version))
		if err != nil {
			return err
		}
		out = rec.secret(v, o)
		out.Value = SecretValue{string(value)}
		return nil
	})
	return out, err
}

// loadVersion returns what is known about a version. It is shared: nobody may modify it.
func (s *Service) loadVersion(r store.Reader, objectID, version string) (*secretRecord, error) {
	return s.versions.Load(r, versionKey(objectID, version), decode[secretRecord])
}

func (s *Service) secretVersion(r store.Reader, v *vaultRecord, name, version string) (*objectRecord, *secretRecord, error) {
	stored, err := checkVersion(name, version)
	if err != nil {
		return nil, nil, err
	}
	o, err := s.liveSecret(r, v, name, func(name string) error { return secretNotFound(name, version) })
	if err != nil {
		return nil, nil, err
	}
	if stored == "" {
		stored = o.Current
	}
	rec, err := s.loadVersion(r, o.ID, stored)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil, secretNotFound(name, version)
	}
	return o, rec, err
}

// UpdateSecret changes what is known about a version, not its value; an empty version means the current one.
func (s *Service) UpdateSecret(ctx context.Context, caller *identity.Caller, vault, name, version string,
	p UpdateSecretParams) (Secret, error) {
	if err := errors.Join(checkName(name), checkTags(p.Tags), p.Attributes.check()); err != nil {
		return Secret{}, err
	}
	if p.ContentType != nil {
		if err := checkContentType(*p.ContentType); err != nil {
			return Secret{}, err
		}
	}
	var out Secret
	err := s.write(ctx, caller, vault, SecretUpdate, name, func(tx store.Tx, v *vaultRecord) error {
		o, known, err := s.secretVersion(tx, v, name, version)
		if err != nil {
			return err
		}
		if o.Managed {
			return managedSecret("update")
		}
		rec := *known
		if p.ContentType != nil {
			rec.ContentType = *p.ContentType
		}
		if p.Tags != nil {
			rec.Tags = maps.Clone(p.Tags)
		}
		rec.merge(p.Attributes)
		rec.Updated = s.now().Unix()
		out = rec.secret(v, o)
		return put(tx, versionKey(o.ID, rec.Version), rec)
	})
	return out, err
}

// DeleteSecret soft-deletes a secret with all its versions.
func (s *Service) DeleteSecret(ctx context.Context, caller *identity.Caller, vault, name string) (DeletedSecret, error) {
	if err := checkName(name); err != nil {
		return DeletedSecret{}, err
	}
	var out DeletedSecret
	err := s.write(ctx, caller, vault, SecretDelete, name, func(tx store.Tx, v *vaultRecord) error {
		known, err := s.liveSecret(tx, v, name, noSecret)
		if err != nil {
			return err
		}
		if known.Managed {
			return managedSecret("delete")
		}
		o := *known
		o.Deleted = s.now().Unix()
		o.PurgeAt = o.Deleted + int64(v.RetentionDays)*secondsPerDay
		rec, err := s.loadVersion(tx, o.ID, o.Current)
		if err != nil {
			return err
		}
		out = rec.deletedSecret(v, &o)
		return errors.Join(
			tx.Delete(objectKey(v, SecretKind, name)),
			put(tx, deletedKey(v, SecretKind, name), o),
			tx.Put(duePurgeKey(o.PurgeAt, v, SecretKind, name), []byte(v.resourceID())),
		)
	})
	return out, err
}

// GetDeletedSecret returns a soft-deleted secret.
func (s *Service) GetDeletedSecret(ctx context.Context, caller *identity.Caller, vault, name string) (DeletedSecret, error) {
	if err := checkName(name); err != nil {
		return DeletedSecret{}, err
	}
	var out DeletedSecret
	err := s.read(ctx, caller, vault, SecretGetDeleted, func(r store.Reader, v *vaultRecord) error {
		o, err := s.deletedSecretRecord(r, v, name, noDeletedSecret(name))
		if err != nil {
			return err
		}
		rec, err := s.loadVersion(r, o.ID, o.Current)
		if err != nil {
			return err
		}
		if rec.Disabled { // recorded: the real service refuses this too
			return disabledSecret()
		}
		out = rec.deletedSecret(v, o)
		return nil
	})
	return out, err
}

// RecoverSecret brings a soft-deleted secret back with all its versions.
func (s *Service) RecoverSecret(ctx context.Context, caller *identity.Caller, vault, name string) (Secret, error) {
	if err := checkName(name); err != nil {
		return Secret{}, err
	}
	var out Secret
	err := s.write(ctx, caller, vault, SecretRecover, name, func(tx store.Tx, v *vaultRecord) error {
		missing := noSecret(name)
		live, err := exists(tx, objectKey(v, SecretKind, name))
		if err != nil {
			return err
		}
		if live {
			missing = &Error{Kind: NotDeleted, Object: SecretKind, Message: "Secret exists already: " + name}
		}
		known, err := s.deletedSecretRecord(tx, v, name, missing)
		if err != nil {
			return err
		}
		if known.Managed {
			return managedSecret("recover")
		}
		o := *known
		due := duePurgeKey(o.PurgeAt, v, SecretKind, name)
		o.Deleted, o.PurgeAt = 0, 0
		rec, err := s.loadVersion(tx, o.ID, o.Current)
		if err != nil {
			return err
		}
		out = rec.secret(v, &o)
		return errors.Join(
			tx.Delete(deletedKey(v, SecretKind, name)),
			tx.Delete(due),
			put(tx, objectKey(v, SecretKind, name), o),
		)
	})
	return out, err
}

// PurgeSecret removes a soft-deleted secret for ever. Its name is free at once. The bytes of its records, sealed, may stay in
// unused space of the store's file until that is written again.
func (s *Service) PurgeSecret(ctx context.Context, caller *identity.Caller, vault, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return s.write(ctx, caller, vault, SecretPurge, name, func(tx store.Tx, v *vaultRecord) error {
		o, err := s.deletedSecretRecord(tx, v, name, noDeletedSecret(name))
		if err != nil {
			return err
		}
		if o.Managed {
			return managedSecret("purge")
		}
		if v.PurgeProtection {
			return &Error{Kind: PurgeProtected, Object: SecretKind, Message: fmt.Sprintf("Operation \"purge\" is not allowed "+
				"because purge protection is enabled for this vault. Key Vault service will automatically purge it after the "+
				"retention period has passed. Vault: %s;location=%s", v.Name, v.Location)}
		}
		return s.purgeObject(tx, deletedKey(v, SecretKind, name), duePurgeKey(o.PurgeAt, v, SecretKind, name), o)
	})
}

// A Page is a part of a list. Next is where the following part begins, "" at the end.
type Page[T any] struct {
	Items []T
	Next  string
}

// ListSecrets returns the live secrets in the order of their names, shown as their current versions without values, from
// the name `from` on, max of them at most (1 to MaxPage).
func (s *Service) ListSecrets(ctx context.Context, caller *identity.Caller, vault, from string, max int) (Page[Secret], error) {
	var page Page[Secret]
	err := s.read(ctx, caller, vault, SecretList, func(r store.Reader, v *vaultRecord) error {
		var err error
		page, err = listRange(r, objectPrefix(v, SecretKind), from, max, s.objectLoader(r),
			func(o *objectRecord) (Secret, error) {
				rec, err := s.loadVersion(r, o.ID, o.Current)
				if err != nil {
					return Secret{}, err
				}
				return rec.secret(v, o), nil
			})
		return err
	})
	return page, err
}

// ListDeletedSecrets is ListSecrets for the soft-deleted ones.
func (s *Service) ListDeletedSecrets(ctx context.Context, caller *identity.Caller, vault, from string, max int) (Page[DeletedSecret], error) {
	var page Page[DeletedSecret]
	err := s.read(ctx, caller, vault, SecretListDeleted, func(r store.Reader, v *vaultRecord) error {
		var err error
		page, err = listRange(r, deletedPrefix(v, SecretKind), from, max, s.objectLoader(r),
			func(o *objectRecord) (DeletedSecret, error) {
				rec, err := s.loadVersion(r, o.ID, o.Current)
				if err != nil {
					return DeletedSecret{}, err
				}
				return rec.deletedSecret(v, o), nil
			})
		return err
	})
	return page, err
}

// ListSecretVersions returns the versions of a live secret in the order of their ids, from the version `from` on.
func (s *Service) ListSecretVersions(ctx context.Context, caller *identity.Caller, vault, name, from string, max int) (Page[Secret], error) {
	if err := checkName(name); err != nil {
		return Page[Secret]{}, err
	}
	var page Page[Secret]
	err := s.read(ctx, caller, vault, SecretListVersions, func(r store.Reader, v *vaultRecord) error {
		o, err := s.liveSecret(r, v, name, noSuchSecret)
		if err != nil {
			return err
		}
		page, err = listRange(r, versionPrefix(o.ID), from, max, func(key string) (*secretRecord, error) {
			return s.versions.Load(r, key, decode[secretRecord])
		}, func(rec *secretRecord) (Secret, error) {
			return rec.secret(v, o), nil
		})
		return err
	})
	return page, err
}

// listRange shows the records below prefix from `from` on, at most max, and says where to go on.
func listRange[T, R any](r store.Reader, prefix, from string, max int, load func(key string) (*R, error),
	show func(*R) (T, error)) (Page[T], error) {
	page := Page[T]{}
	for key, err := range seal.Keys(r, prefix+strings.ToLower(from), store.PrefixEnd(prefix)) {
		if err != nil {
			return page, err
		}
		if len(page.Items) == max {
			page.Next = strings.TrimPrefix(key, prefix)
			return page, nil
		}
		rec, err := load(key)
		if err != nil {
			return page, err
		}
		item, err := show(rec)
		if err != nil {
			return page, err
		}
		page.Items = append(page.Items, item)
	}
	return page, nil
}
