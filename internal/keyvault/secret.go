package keyvault

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"unicode/utf8"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/store"
)

// Limits of a secret (contract §7, §17).
const (
	MaxSecretValue = 25 * 1024 // bytes of UTF-8
	MaxContentType = 255       // characters
)

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
	Properties
	Value           SecretValue
	ContentType     string
	PreviousVersion string // the version that was current before this one
}

// A DeletedSecret is a soft-deleted secret, shown as its current version.
type DeletedSecret struct {
	Secret
	Deleted        int64
	ScheduledPurge int64
}

func (f found) secret() Secret {
	return Secret{
		Properties:      f.rec.properties(f.v, f.o),
		ContentType:     f.rec.ContentType,
		PreviousVersion: f.rec.Previous,
	}
}

func (f found) deletedSecret() DeletedSecret {
	return DeletedSecret{Secret: f.secret(), Deleted: f.o.Deleted, ScheduledPurge: f.o.PurgeAt}
}

func checkContentType(s string) error {
	if utf8.RuneCountInString(s) > MaxContentType {
		return badParameter("The contentType is too long: %d characters are allowed.", MaxContentType)
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

// SetSecret makes a new version, which becomes the current one, and the secret if the name is new.
func (s *Service) SetSecret(ctx context.Context, caller *identity.Caller, vault, name string, p SetSecretParams) (Secret, error) {
	if err := errors.Join(checkName(name), p.check()); err != nil {
		return Secret{}, err
	}
	rec := s.newVersion(p.Attributes, p.Tags)
	rec.ContentType = p.ContentType
	fresh := record.NewID()
	var out Secret
	err := s.write(ctx, caller, vault, SecretSet, name, func(tx store.Tx, v *resource.Vault) error {
		o, err := s.forNewVersion(tx, v, SecretKind, name, fresh, "set")
		if err != nil {
			return err
		}
		err = s.putVersion(tx, v, SecretKind, o, &rec, []byte(p.Value.text))
		out = found{v, o, &rec}.secret()
		return err
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
	err := s.read(ctx, caller, vault, SecretGet, name, func(r store.Reader, v *resource.Vault) error {
		f, err := s.find(r, v, SecretKind, name, version)
		if err != nil {
			return err
		}
		if f.rec.Disabled {
			return disabled(SecretKind, "get")
		}
		value, err := r.Get(valueKey(f.o.ID, f.rec.Version))
		if err != nil {
			return err
		}
		out = f.secret()
		out.Value = SecretValue{string(value)}
		return nil
	})
	return out, err
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
	err := s.write(ctx, caller, vault, SecretUpdate, name, func(tx store.Tx, v *resource.Vault) error {
		f, err := s.find(tx, v, SecretKind, name, version)
		if err != nil {
			return err
		}
		if f.o.Managed {
			return managed(SecretKind, "update")
		}
		rec := *f.rec
		if p.ContentType != nil {
			rec.ContentType = *p.ContentType
		}
		if p.Tags != nil {
			rec.Tags = maps.Clone(p.Tags)
		}
		rec.merge(p.Attributes)
		rec.Updated = s.now().Unix()
		out = found{v, f.o, &rec}.secret()
		return record.Put(tx, versionKey(f.o.ID, rec.Version), rec)
	})
	return out, err
}

// DeleteSecret soft-deletes a secret with all its versions.
func (s *Service) DeleteSecret(ctx context.Context, caller *identity.Caller, vault, name string) (DeletedSecret, error) {
	f, err := s.deleteObject(ctx, caller, vault, SecretDelete, SecretKind, name)
	if err != nil {
		return DeletedSecret{}, err
	}
	return f.deletedSecret(), nil
}

// GetDeletedSecret returns a soft-deleted secret.
func (s *Service) GetDeletedSecret(ctx context.Context, caller *identity.Caller, vault, name string) (DeletedSecret, error) {
	if err := checkName(name); err != nil {
		return DeletedSecret{}, err
	}
	var out DeletedSecret
	err := s.read(ctx, caller, vault, SecretGetDeleted, name, func(r store.Reader, v *resource.Vault) error {
		f, err := s.findDeleted(r, v, SecretKind, name)
		if err != nil {
			return err
		}
		if f.rec.Disabled { // recorded: the real service refuses this too
			return disabled(SecretKind, "get")
		}
		out = f.deletedSecret()
		return nil
	})
	return out, err
}

// RecoverSecret brings a soft-deleted secret back with all its versions.
func (s *Service) RecoverSecret(ctx context.Context, caller *identity.Caller, vault, name string) (Secret, error) {
	f, err := s.recoverObject(ctx, caller, vault, SecretRecover, SecretKind, name)
	if err != nil {
		return Secret{}, err
	}
	return f.secret(), nil
}

// PurgeSecret removes a soft-deleted secret for ever. Its name is free at once.
func (s *Service) PurgeSecret(ctx context.Context, caller *identity.Caller, vault, name string) error {
	return s.purgeDeleted(ctx, caller, vault, SecretPurge, SecretKind, name)
}

// ListSecrets returns the live secrets in the order of their names, shown as their current versions without values, from
// the name `from` on, max of them at most (1 to MaxPage).
func (s *Service) ListSecrets(ctx context.Context, caller *identity.Caller, vault, from string, max int) (Page[Secret], error) {
	return listObjects(ctx, s, caller, vault, SecretList,
		func(v *resource.Vault) string { return objectPrefix(v, SecretKind) }, from, max, found.secret)
}

// ListDeletedSecrets is ListSecrets for the soft-deleted ones.
func (s *Service) ListDeletedSecrets(ctx context.Context, caller *identity.Caller, vault, from string, max int) (Page[DeletedSecret], error) {
	return listObjects(ctx, s, caller, vault, SecretListDeleted,
		func(v *resource.Vault) string { return deletedPrefix(v, SecretKind) }, from, max, found.deletedSecret)
}

// ListSecretVersions returns the versions of a live secret in the order of their ids, from the version `from` on.
func (s *Service) ListSecretVersions(ctx context.Context, caller *identity.Caller, vault, name, from string, max int) (Page[Secret], error) {
	return listVersions(ctx, s, caller, vault, SecretListVersions, SecretKind, name, from, max, found.secret)
}
