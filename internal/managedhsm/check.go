package managedhsm

import (
	"context"
	"errors"
	"strings"

	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// CheckRecord reads a record of this package with the code that would use it. ok is false for records of others.
func CheckRecord(key string, value []byte) (ok bool, err error) {
	switch {
	case strings.HasPrefix(key, transferPrefix):
		_, err = decodeTransferKey(value)
	case strings.HasPrefix(key, jobPrefix):
		err = checkJobRecord(key, value)
	default:
		return false, nil
	}
	return true, err
}

// CheckReferences reports what does not fit together: a transfer key of no HSM that waits for a domain, an HSM that waits for a job
// that does not run. An HSM without its domain is
// reported by package resource.
func (s *Service) CheckReferences(ctx context.Context, report func(key, problem string)) error {
	var keys []string // read first: an HSM is there before its key, and the key goes before the HSM
	err := s.db.View(ctx, func(r store.Reader) error {
		keys = nil
		for key, err := range seal.Keys(r, transferPrefix, store.PrefixEnd(transferPrefix)) {
			if err != nil {
				return err
			}
			keys = append(keys, key)
		}
		return nil
	})
	if err != nil {
		return err
	}
	vaults, err := s.resources.AllVaults(ctx)
	if err != nil {
		return err
	}
	if err := s.checkJobs(ctx, vaults, report); err != nil {
		return err
	}
	waiting := make(map[string]bool) // by the transfer key's place
	for _, v := range vaults {
		if v.Tier == resource.ManagedHSM && v.Activation != resource.Active {
			waiting[transferKey(v.ID)] = true
		}
	}
	return s.db.View(ctx, func(r store.Reader) error {
		for _, key := range keys {
			if waiting[key] {
				continue
			}
			there, err := record.Exists(r, key)
			var spoiled *seal.RecordError
			if err != nil && !errors.As(err, &spoiled) {
				return err
			}
			if there || err != nil {
				report(key, "belongs to no managed HSM that waits for a security domain")
			}
		}
		return nil
	})
}

// checkJobs reports HSMs whose job nobody will do.
func (s *Service) checkJobs(ctx context.Context, vaults []*resource.Vault, report func(key, problem string)) error {
	return s.db.View(ctx, func(r store.Reader) error {
		for _, known := range vaults {
			if known.Tier != resource.ManagedHSM {
				continue
			}
			v, err := s.resources.LoadAnyHSM(r, known.Name) // as it is in this snapshot
			if errors.Is(err, resource.ErrVaultNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if err := s.checkJob(r, v, report); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Service) checkJob(r store.Reader, v *resource.Vault, report func(key, problem string)) error {
	at := runningKey(v.ID)
	running, err := record.Get[runningRecord](r, at)
	var spoiled *seal.RecordError
	switch {
	case errors.Is(err, store.ErrNotFound):
		if v.Restoring != "" {
			report(at, "is missing: the managed HSM "+v.Name+" waits for a restore that nobody does")
		}
		return nil
	case errors.As(err, &spoiled):
		return nil // CheckRecord reports it
	case err != nil:
		return err
	}
	rec, err := record.Get[jobRecord](r, jobKey(v.ID, running.Job))
	switch {
	case errors.Is(err, store.ErrNotFound) || err == nil && rec.Work == nil:
		report(at, "names a job that is not there, or has ended: the managed HSM "+v.Name+" waits for it")
	case err == nil && v.Restoring != "" && v.Restoring != rec.ID:
		report(at, "names another job than the one that restores the managed HSM "+v.Name)
	case errors.As(err, &spoiled):
		return nil
	}
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}
