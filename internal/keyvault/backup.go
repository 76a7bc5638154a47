package keyvault

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/store"
)

// Limits of a backup blob.
const (
	MaxBackupVersions = 500      // as Azure (contract §9)
	MaxBackup         = 24 << 20 // bytes of a blob: 500 values of full size, as JSON, with room for tags
)

// backupMagic begins every backup blob of an object of that kind and is authenticated with it. Its last digit is the
// format.
func backupMagic(kind ObjectKind) string {
	name := "Strongroom" + kind.word() + "Backup-v1"
	return string(rune(len(name))) + name
}

// A backupKey seals the backups of single objects, which leave the store as files. It does not change when data keys
// rotate: a backup must open as long as the installation lives.
type backupKey []byte

func (k backupKey) aead(magic string) (cipher.AEAD, error) {
	key, err := hkdf.Expand(sha256.New, k, "strongroom object backup v1\x00"+magic, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func (k backupKey) seal(magic string, plaintext []byte) ([]byte, error) {
	aead, err := k.aead(magic)
	if err != nil {
		return nil, err
	}
	return aead.Seal([]byte(magic), nil, plaintext, []byte(magic)), nil
}

// open returns the plaintext of a blob; ok is false if it does not begin with the magic.
func (k backupKey) open(magic string, blob []byte) (plaintext []byte, ok bool, err error) {
	sealed, ok := bytes.CutPrefix(blob, []byte(magic))
	if !ok {
		return nil, false, nil
	}
	aead, err := k.aead(magic)
	if err != nil {
		return nil, true, err
	}
	if plaintext, err = aead.Open(nil, nil, sealed, []byte(magic)); err != nil {
		return nil, true, badParameter("The backup is damaged, was altered, or was made by another installation.")
	}
	return plaintext, true, nil
}

// objectBackup is the plaintext of a backup blob.
type objectBackup struct {
	record.Format
	TenantID string          `json:"tenantId"`
	Name     string          `json:"name"`
	Current  string          `json:"current"`
	Versions []backupVersion `json:"versions"`
	Rotation *rotationRecord `json:"rotation,omitempty"` // of a key
	Release  *releaseRecord  `json:"release,omitempty"`  // of a key
}

type backupVersion struct {
	versionRecord
	Value []byte `json:"value"` // as it is stored; in base64, whose length does not depend on what it is
}

// BackupSecret returns a blob that holds all versions of a secret, with their values, encrypted so that only this
// installation opens it.
func (s *Service) BackupSecret(ctx context.Context, caller *identity.Caller, vault, name string) ([]byte, error) {
	return s.backupObject(ctx, caller, vault, SecretBackup, SecretKind, name)
}

// RestoreSecret brings a backed-up secret back under its name, with all versions, their ids and times. The name must be
// free, also among deleted secrets. However many versions there are, they become visible in one step. With an error the
// result names the secret if the blob could be opened.
func (s *Service) RestoreSecret(ctx context.Context, caller *identity.Caller, vault string, blob []byte) (Secret, error) {
	f, err := s.restoreObject(ctx, caller, vault, SecretRestore, SecretKind, blob)
	if f.v == nil {
		return Secret{Properties: f.restored()}, err
	}
	return f.secret(), err
}

// BackupKey is BackupSecret for a key, with its policies.
func (s *Service) BackupKey(ctx context.Context, caller *identity.Caller, vault, name string) ([]byte, error) {
	return s.backupObject(ctx, caller, vault, KeyBackup, KeyKind, name)
}

// RestoreKey is RestoreSecret for a key. The vault must be of a tier that may hold its versions. What comes from a managed HSM goes
// into those with the same security domain only, and into no vault; what comes from a vault goes into no managed HSM.
func (s *Service) RestoreKey(ctx context.Context, caller *identity.Caller, vault string, blob []byte) (Key, error) {
	f, err := s.restoreObject(ctx, caller, vault, KeyRestore, KeyKind, blob)
	if f.v == nil {
		return Key{Properties: f.restored()}, err
	}
	return f.key(), err
}

// restored is what a failed restore knows of its object.
func (f found) restored() Properties {
	if f.o == nil {
		return Properties{}
	}
	return Properties{Name: f.o.Name, Version: f.o.Current}
}

func (s *Service) backupObject(ctx context.Context, caller *identity.Caller, vault string, op Operation, kind ObjectKind,
	name string) ([]byte, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	b := objectBackup{Format: record.Current()}
	var domain *sdomain.DomainKeys
	err := s.read(ctx, caller, vault, op, name, func(r store.Reader, v *resource.Vault) error {
		var err error
		if domain, err = s.domainOf(r, v); err != nil {
			return err
		}
		o, err := s.liveObject(r, v, kind, name, missing(kind, name))
		if err != nil {
			return err
		}
		if o.Managed {
			return managed(kind, "backup")
		}
		if o.Versions > MaxBackupVersions {
			return badParameter("The %s %s has %d versions; a backup holds %d at most.", kind, name, o.Versions, MaxBackupVersions)
		}
		b.TenantID, b.Name, b.Current = v.TenantID, o.Name, o.Current
		b.Rotation, b.Release = o.Rotation, o.Release
		b.Versions, err = versionsOf(r, o.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	plaintext, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	blob, err := s.sealBackup(domain, kind, plaintext)
	if err == nil && len(blob) > MaxBackup {
		return nil, badParameter("The backup of the %s %s would have %d bytes; %d are allowed.", kind, name, len(blob), MaxBackup)
	}
	return blob, err
}

// sealBackup makes a blob; domain is that of the managed HSM whose key is in it, nil for a vault.
func (s *Service) sealBackup(domain *sdomain.DomainKeys, kind ObjectKind, plaintext []byte) ([]byte, error) {
	if domain == nil {
		return s.backup.seal(backupMagic(kind), plaintext)
	}
	text, err := domain.SealKeyBackup(plaintext) // that of a vault's key would be as long in bytes as this in characters
	return []byte(text), err
}

// versionsOf reads all versions of an object with their values.
func versionsOf(r store.Reader, objectID string) ([]backupVersion, error) {
	var out []backupVersion
	for e, err := range r.Scan(versionPrefix(objectID), store.PrefixEnd(versionPrefix(objectID))) {
		if err != nil {
			return nil, err
		}
		rec, err := record.Decode[versionRecord](e.Value)
		if err != nil {
			return nil, err
		}
		value, err := r.Get(valueKey(objectID, rec.Version))
		if err != nil {
			return nil, err
		}
		out = append(out, backupVersion{*rec, value})
	}
	return out, nil
}

// openBackup reads a blob for a vault, or for a managed HSM with that domain.
func (s *Service) openBackup(domain *sdomain.DomainKeys, kind ObjectKind, blob []byte) (*objectBackup, error) {
	if len(blob) > MaxBackup {
		return nil, badParameter("The backup has %d bytes; %d are allowed.", len(blob), MaxBackup)
	}
	var (
		plaintext []byte
		err       error
	)
	if domain == nil {
		plaintext, err = s.openVaultBackup(kind, blob)
	} else {
		plaintext, err = openDomainBackup(domain, kind, blob)
	}
	if err != nil {
		return nil, err
	}
	b, err := record.Decode[objectBackup](plaintext)
	if err != nil {
		// It is authentic, so an installation made it, as it says: one of a newer release.
		return nil, badParameter("The backup cannot be read: it %v.", err)
	}
	current := func(r backupVersion) bool { return r.Version == b.Current }
	seen := make(map[string]bool)
	wrong := func(r backupVersion) bool {
		again := seen[r.Version]
		seen[r.Version] = true
		return again || (r.Key != nil) != (kind == KeyKind) || !isVersion(r.Version)
	}
	if checkName(b.Name) != nil || len(b.Versions) > MaxBackupVersions || !slices.ContainsFunc(b.Versions, current) ||
		slices.ContainsFunc(b.Versions, wrong) {
		return nil, badParameter("The backup is incomplete.")
	}
	return b, b.Rotation.check()
}

func (s *Service) openVaultBackup(kind ObjectKind, blob []byte) ([]byte, error) {
	plaintext, ok, err := s.backup.open(backupMagic(kind), blob)
	switch {
	case !ok && bytes.HasPrefix(blob, []byte("eyJ")): // a JWE
		return nil, badParameter("The backup is one of a managed HSM's key. It can be restored into a managed HSM with the same security " +
			"domain only, not into a vault.")
	case !ok:
		return nil, badParameter("The backup is not one of a %s made by this product.", kind)
	}
	return plaintext, err
}

func openDomainBackup(domain *sdomain.DomainKeys, kind ObjectKind, blob []byte) ([]byte, error) {
	if bytes.HasPrefix(blob, []byte(backupMagic(kind))) {
		return nil, badParameter("The backup is one of a vault's %s. It can be restored into a vault only, not into a managed HSM.", kind)
	}
	plaintext, err := domain.OpenKeyBackup(string(blob))
	switch {
	case errors.Is(err, sdomain.ErrWrongDomain):
		return nil, badParameter("The backup was made in a managed HSM with another security domain, or was altered. It can be restored " +
			"into a managed HSM with the same security domain only.")
	case err != nil:
		return nil, badParameter("The backup %v.", err)
	}
	return plaintext, nil
}

// restoreObject returns what it restored. With an error only the object's record is known, and it only if the blob could
// be opened.
func (s *Service) restoreObject(ctx context.Context, caller *identity.Caller, vault string, op Operation, kind ObjectKind,
	blob []byte) (found, error) {
	// Who may not restore learns nothing about the blob.
	var domain *sdomain.DomainKeys
	err := s.read(ctx, caller, vault, op, "", func(r store.Reader, v *resource.Vault) (err error) {
		domain, err = s.domainOf(r, v)
		return err
	})
	if err != nil {
		return found{}, err
	}
	b, err := s.openBackup(domain, kind, blob)
	if err != nil {
		return found{}, err
	}
	o := objectRecord{
		Format: record.Current(), ID: record.NewID(), Name: b.Name, Current: b.Current, Versions: len(b.Versions),
		Rotation: b.Rotation, Release: b.Release,
	}
	named := found{o: &o}
	if err := s.announce(ctx, caller, vault, op, "", b.Name); err != nil {
		return named, err
	}
	err = s.commit(ctx, caller, vault, op, "", func(tx store.Tx, v *resource.Vault) error {
		if err := s.checkRestorable(tx, v, kind, b); err != nil {
			return err
		}
		return s.expect(tx, o.ID)
	})
	if err != nil {
		return named, err
	}
	if err := s.writeVersions(ctx, o.ID, b.Versions); err != nil {
		return named, err
	}
	var out found
	err = s.commit(ctx, caller, vault, op, "", func(tx store.Tx, v *resource.Vault) error {
		if err := s.checkRestorable(tx, v, kind, b); err != nil {
			return err
		}
		if err := arrived(tx, kind, o.ID); err != nil {
			return err
		}
		rec, err := s.current(tx, &o)
		if err != nil {
			return err
		}
		live := o
		s.plan(&live, rec)
		out = found{v, &live, rec}
		return errors.Join(record.Put(tx, objectKey(v, kind, o.Name), live), schedule(tx, v, &live))
	})
	if err != nil {
		return named, err
	}
	return out, nil
}

// expect marks versions that will be written under an object id which nothing names yet, so that they are collected if they never
// become visible.
func (s *Service) expect(tx store.Tx, objectID string) error {
	return record.Put(tx, garbageKey(objectID), garbageRecord{Format: record.Current(), After: s.now().Add(restoreTime).Unix()})
}

// arrived takes the mark away in the transaction that makes the versions visible, unless they are being collected already.
func arrived(tx store.Tx, kind ObjectKind, id string) error {
	mark, err := record.Get[garbageRecord](tx, garbageKey(id))
	if errors.Is(err, store.ErrNotFound) || err == nil && mark.Collecting {
		return &Error{Kind: Conflict, Object: kind, Message: "The restore took too long and was given up. Try again."}
	}
	if err != nil {
		return err
	}
	return tx.Delete(garbageKey(id))
}

// checkRestorable refuses a restore into a vault that may not hold the object, or over a name that is in use, live or
// deleted.
func (s *Service) checkRestorable(tx store.Tx, v *resource.Vault, kind ObjectKind, b *objectBackup) error {
	if v.TenantID != b.TenantID && v.Tier != resource.ManagedHSM { // there the domain counts, and nothing else
		return badParameter("The backup is of a vault in another tenant.")
	}
	for _, version := range b.Versions {
		if version.Key != nil && !v.MayHold(version.Key.HSM) {
			return badParameter("The backup holds a version of the type %s, which a vault of the tier %s cannot have.",
				version.Key.wireType(), v.Tier)
		}
	}
	live, err := record.Exists(tx, objectKey(v, kind, b.Name))
	if err != nil {
		return err
	}
	deleted, err := record.Exists(tx, deletedKey(v, kind, b.Name))
	if err != nil {
		return err
	}
	if live || deleted {
		return &Error{Kind: Conflict, Object: kind, Message: fmt.Sprintf("There was a conflict restoring the %[1]s "+
			"'%[2]s/%[3]s'. A %[1]s with this name exists in the %[4]s, or is deleted and recoverable: delete and purge it "+
			"first, or restore into another %[4]s.", kind, b.Name, b.Current, familyWord(s.hsms))}
	}
	return nil
}

// writeVersions stores the versions of an object that nothing names yet, in as few transactions as their size allows.
func (s *Service) writeVersions(ctx context.Context, objectID string, versions []backupVersion) error {
	for len(versions) > 0 {
		batch, rest, err := versionEntries(objectID, versions)
		if err != nil {
			return err
		}
		if err := s.db.Update(ctx, func(tx store.Tx) error { return putAll(tx, batch) }); err != nil {
			return err
		}
		versions = rest
	}
	return nil
}

// versionEntries is what to store of the first versions, as many as fit into one transaction that does little else, and the rest.
func versionEntries(objectID string, versions []backupVersion) (batch []store.Entry, rest []backupVersion, err error) {
	const maxBytes, maxCount = store.MaxBytes / 2, 100
	for size := 0; len(versions) > 0 && len(batch) < maxCount && size < maxBytes; versions = versions[1:] {
		v := versions[0]
		raw, err := json.Marshal(v.versionRecord)
		if err != nil {
			return nil, nil, err
		}
		batch = append(batch,
			store.Entry{Key: versionKey(objectID, v.Version), Value: raw},
			store.Entry{Key: valueKey(objectID, v.Version), Value: v.Value})
		size += len(raw) + len(v.Value)
	}
	return batch, versions, nil
}

func putAll(tx store.Tx, entries []store.Entry) error {
	for _, e := range entries {
		if err := tx.Put(e.Key, e.Value); err != nil {
			return err
		}
	}
	return nil
}
