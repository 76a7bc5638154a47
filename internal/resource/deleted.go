package resource

import (
	"context"
	"errors"
	"fmt"

	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

// ListDeletedVaults returns the soft-deleted vaults by name.
func (s *Service) ListDeletedVaults(ctx context.Context, a Actor) ([]*Vault, error) {
	return s.listDeleted(ctx, a, &vaultFamily)
}

func (s *Service) listDeleted(ctx context.Context, a Actor, f *family) ([]*Vault, error) {
	if err := s.Authorize(ctx, a, f.listDeleted, s.SubscriptionScope()); err != nil {
		return nil, err
	}
	return s.scan(ctx, f, func(_ store.Reader, v *Vault) (bool, error) { return v.Deleted != 0, nil })
}

// GetDeletedVault returns a soft-deleted vault.
func (s *Service) GetDeletedVault(ctx context.Context, a Actor, location, name string) (*Vault, error) {
	return s.getDeleted(ctx, a, &vaultFamily, location, name)
}

func (s *Service) getDeleted(ctx context.Context, a Actor, f *family, location, name string) (v *Vault, err error) {
	err = s.db.View(ctx, func(r store.Reader) (err error) {
		if err = s.authorize(r, a, f.readDeleted, s.SubscriptionScope()); err == nil {
			v, err = s.deletedAt(r, f, location, name)
		}
		return err
	})
	return v, err
}

// deletedAt returns the soft-deleted vault of that name in a location, or the refusal.
func (s *Service) deletedAt(r store.Reader, f *family, location, name string) (*Vault, error) {
	v, err := s.load(r, f, name)
	if errors.Is(err, ErrVaultNotFound) || err == nil && (v.Deleted == 0 || !sameLocation(location, v.Location)) {
		return nil, &Error{Kind: SoftDeletedVaultDoesNotExist, Message: fmt.Sprintf("There is no deleted %s named '%s' in the location '%s'.",
			f.word, bounded(name), bounded(location))}
	}
	return v, err
}

// PurgeVault destroys a soft-deleted vault and everything in it, for ever.
func (s *Service) PurgeVault(ctx context.Context, a Actor, location, name string) error {
	return s.purgeOne(ctx, a, &vaultFamily, location, name)
}

func (s *Service) purgeOne(ctx context.Context, a Actor, f *family, location, name string) error {
	may := func(r store.Reader) error { return s.authorize(r, a, f.purge, s.SubscriptionScope()) }
	var before *Vault
	err := s.db.View(ctx, func(r store.Reader) (err error) {
		if err = may(r); err == nil {
			before, err = s.deletedAt(r, f, location, name)
		}
		return err
	})
	if err != nil {
		return err
	}
	for more := true; more; {
		err := s.change(ctx, a, deed{f.end, before.ARMID(), before.Name, ""}, may, func(tx store.Tx) error {
			v, err := s.deletedAt(tx, f, location, name)
			switch {
			case err != nil:
				return err
			case v.ID != before.ID:
				return &Error{Kind: ConflictError, Message: fmt.Sprintf("The %s '%s' is another one by now.", f.word, v.Name)}
			case v.PurgeProtection:
				return &Error{Kind: PurgeProtected, Message: fmt.Sprintf("Purge protection is enabled for the %s '%s'. It will be purged "+
					"automatically on %s.", f.word, v.Name, at(v.PurgeAt))}
			}
			more, err = s.purge(tx, v)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// purge removes a deleted vault in one step, with what was assigned at it or in it: a vault that has its name later must not be
// open to whom it was open. If that was more than fits into a transaction, a part of it is gone and there is more to do.
func (s *Service) purge(tx store.Tx, v *Vault) (more bool, err error) {
	if s.cfg.Purged == nil {
		return false, errors.New("resource: nothing can be purged: there is nobody to take what is in it")
	}
	if more, err = s.dropAssignments(tx, v.Scope()); err != nil || more {
		return more, err
	}
	if v.family == &hsmFamily {
		s.domains.Forget(v.domainKey()) // nor are its keys to stay in memory
		err := tx.Delete(v.domainKey())
		if s.cfg.PurgedHSM != nil {
			err = errors.Join(err, s.cfg.PurgedHSM(tx, v.ID))
		}
		if err != nil {
			return false, err
		}
	}
	return false, errors.Join(tx.Delete(v.family.key(v.Name)), tx.Delete(v.family.dueKey(v.PurgeAt, v.Name)), s.cfg.Purged(tx, v.ContentID()))
}

// DueKinds are what stands in the keys of due entries for deleted vaults and managed HSMs, with the operation that is due.
func DueKinds() map[string]string {
	return map[string]string{vaultFamily.due: vaultFamily.end, hsmFamily.due: hsmFamily.end}
}

// PurgeDue purges what the due entry at key is about: a vault or a managed HSM of that name whose time has come. An entry that
// has outlived its reason is removed, and false returned. An entry that is left has more to be done.
func (s *Service) PurgeDue(tx store.Tx, kind, key, name string, at int64) (bool, error) {
	f := &vaultFamily
	if kind == hsmFamily.due {
		f = &hsmFamily
	}
	if still, err := record.Exists(tx, key); err != nil || !still {
		return false, err
	}
	v, err := s.load(tx, f, name)
	if errors.Is(err, ErrVaultNotFound) || err == nil && v.PurgeAt != at {
		return false, tx.Delete(key)
	}
	if err != nil {
		return false, err
	}
	_, err = s.purge(tx, v)
	return true, err
}
