package managedhsm

import (
	"context"
	"errors"
	"time"

	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// makingWait is how long a request waits while other HSMs' transfer keys are made. Making one takes seconds.
const makingWait = 20 * time.Second

const transferPrefix = "transfer/"

func transferKey(vaultID string) string { return transferPrefix + vaultID }

// A transferRecord is a transfer key as it is stored.
type transferRecord struct {
	record.Format
	Key []byte `json:"key"` // both halves, in the form of package sdomain
}

func decodeTransferKey(plaintext []byte) (*sdomain.TransferKey, error) {
	rec, err := record.Decode[transferRecord](plaintext)
	if err != nil {
		return nil, err
	}
	key := new(sdomain.TransferKey)
	return key, key.UnmarshalBinary(rec.Key)
}

// loadTransferKey returns the HSM's transfer key, or nil if there is none.
func loadTransferKey(r store.Reader, v *resource.Vault) (*sdomain.TransferKey, error) {
	at := transferKey(v.ID)
	plaintext, err := r.Get(at)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	key, err := decodeTransferKey(plaintext)
	if err != nil {
		return nil, &seal.RecordError{Key: at, Reason: err.Error()}
	}
	return key, nil
}

// Purged removes what belongs to an HSM that is being purged. It is for resource.Config.
func Purged(tx store.Tx, vaultID string) error {
	return errors.Join(tx.Delete(transferKey(vaultID)), purgedJobs(tx, vaultID))
}

// TransferKey returns the public half, a JWK in JSON, for which a restore blob has to be made. The HSM keeps the key until it is
// active. host, under which the HSM is known, stands in the certificate for those who see it.
func (s *Service) TransferKey(ctx context.Context, caller *identity.Caller, hsm, host string) (jwk string, err error) {
	v, key, err := s.storedTransferKey(ctx, caller, hsm)
	if err != nil {
		return "", err
	}
	if key == nil {
		key, err = s.makeTransferKey(ctx, caller, v, host)
	}
	if err != nil {
		return "", err
	}
	return key.JWK()
}

func (s *Service) storedTransferKey(ctx context.Context, caller *identity.Caller, hsm string) (v *resource.Vault, key *sdomain.TransferKey, err error) {
	err = s.db.View(ctx, func(r store.Reader) (err error) {
		if v, err = s.openInactive(r, caller, hsm, GetTransferKey); err == nil {
			key, err = loadTransferKey(r, v)
		}
		return err
	})
	return v, key, err
}

// makeTransferKey makes a key before the transaction that keeps it, because that takes its time. One at a time is made: whoever
// waited looks whether there is one by now. Two servers may make one each; the first to store its own decides.
func (s *Service) makeTransferKey(ctx context.Context, caller *identity.Caller, v *resource.Vault, host string) (*sdomain.TransferKey, error) {
	leave, err := s.enterMaking(ctx)
	if err != nil {
		return nil, err
	}
	defer leave()
	v, kept, err := s.storedTransferKey(ctx, caller, v.Name)
	if err != nil || kept != nil {
		return kept, err
	}
	if err := s.announce(ctx, caller, v, GetTransferKey, "transfer key"); err != nil {
		return nil, err
	}
	made, err := s.newTransferKey(host, s.now())
	if err != nil {
		return nil, err
	}
	raw, err := made.MarshalBinary()
	if err != nil {
		return nil, err
	}
	err = s.db.Update(ctx, func(tx store.Tx) error {
		v, err := s.openInactive(tx, caller, v.Name, GetTransferKey)
		if err != nil {
			return err
		}
		if kept, err = loadTransferKey(tx, v); err != nil || kept != nil {
			return err
		}
		kept = made
		return record.Put(tx, transferKey(v.ID), transferRecord{record.Current(), raw})
	})
	return kept, err
}

// enterMaking waits for the place, but not for long.
func (s *Service) enterMaking(ctx context.Context) (leave func(), err error) {
	timer := time.NewTimer(makingWait)
	defer timer.Stop()
	select {
	case s.making <- struct{}{}:
		return func() { <-s.making }, nil
	case <-timer.C:
		return nil, &keyvault.Error{Kind: keyvault.Busy, Message: "Too many transfer keys are being made at this time. Try again in a few seconds."}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
