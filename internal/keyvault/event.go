package keyvault

import (
	"context"
	"fmt"

	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// eventLife is how long an event waits for delivery, in seconds, before it is dropped.
const eventLife = 30 * secondsPerDay

// An eventRecord is something that happened to an object and that somebody may want to be told (contract §18.2). It
// waits in the store, in the order of time, until it is delivered.
type eventRecord struct {
	record.Format
	Type    string     `json:"type"` // "Microsoft.KeyVault.KeyNearExpiry"
	Time    int64      `json:"time"`
	VaultID string     `json:"vaultId"` // ARM resource id
	Vault   string     `json:"vault"`   // name
	Kind    ObjectKind `json:"kind"`    // of the object
	Name    string     `json:"name"`    // of the object
	Version string     `json:"version"` // of the object
	NBF     *int64     `json:"nbf,omitempty"`
	EXP     *int64     `json:"exp,omitempty"`
}

func eventKey(at int64, id string) string { return fmt.Sprintf("event/%012d/%s", at, id) }

// putEvent records an event in the transaction of what caused it.
func (s *Service) putEvent(tx store.Tx, kind string, object ObjectKind, f found) error {
	now := s.now().Unix()
	return record.Put(tx, eventKey(now, record.NewID()), eventRecord{
		Format: record.Current(), Type: kind, Time: now,
		VaultID: f.v.Resource(), Vault: f.v.Name, Kind: object, Name: f.o.Name, Version: f.rec.Version,
		NBF: f.rec.NotBefore, EXP: f.rec.Expires,
	})
}

// dropOldEvents removes the events that nobody took in time.
func (s *Service) dropOldEvents(ctx context.Context) error {
	end := eventKey(max(0, s.now().Unix()-eventLife), "")
	for more := true; more; {
		err := s.db.Update(ctx, func(tx store.Tx) error {
			const batch = 100
			var old []string
			more = false
			for key, err := range seal.Keys(tx, "event/", end) {
				if err != nil {
					return err
				}
				if more = len(old) == batch; more {
					break
				}
				old = append(old, key)
			}
			for _, key := range old {
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
