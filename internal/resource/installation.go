package resource

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

const installKey = "install"

// installRecord is what belongs to the installation as a whole and lives as long as it.
type installRecord struct {
	record.Format
	SubscriptionID string `json:"subscriptionId"` // stands in the ids of everything
	BackupKey      []byte `json:"backupKey"`
}

func newInstallation() *installRecord {
	rec := &installRecord{Format: record.Current(), SubscriptionID: uuid.NewString(), BackupKey: make([]byte, 32)}
	rand.Read(rec.BackupKey)
	return rec
}

// Bootstrap gives an installation what the management plane needs to begin with, as far as it is missing: the resource groups of
// its vaults, which releases without groups did not make, and, if there has never been a role assignment, Owner of the
// subscription for the principal with that object id, which it reports. Once there has been one, it stays gone if it is removed.
func (s *Service) Bootstrap(ctx context.Context, operator, owner string) (made bool, err error) {
	vaults, err := s.all(ctx, &vaultFamily)
	if err != nil {
		return false, err
	}
	ensured := make(map[string]bool)
	for _, v := range vaults {
		if v.Deleted != 0 || ensured[strings.ToLower(v.ResourceGroup)] {
			continue
		}
		ensured[strings.ToLower(v.ResourceGroup)] = true
		if err := s.ensureGroup(ctx, operator, v); err != nil {
			return false, err
		}
	}
	if owner != "" {
		if made, err = s.firstOwner(ctx, operator, owner); err != nil {
			return false, err
		}
	}
	// Compiled now, the roles are ready for the first request, and what is wrong with them is told at the start.
	return made, s.db.View(ctx, func(r store.Reader) error {
		_, err := s.rolesIn(r)
		return err
	})
}

// firstOwner makes a principal Owner of the subscription, if there has never been a role assignment.
func (s *Service) firstOwner(ctx context.Context, operator, owner string) (made bool, err error) {
	a := RoleAssignment{Assignment: authz.Assignment{
		ID: uuid.NewString(), Scope: s.SubscriptionScope(), PrincipalID: strings.ToLower(owner), PrincipalType: authz.ServicePrincipal,
		RoleID: authz.RoleOwner,
	}}
	a.Created, a.CreatedBy = s.now().Unix(), operator
	a.Modified, a.ModifiedBy = a.Created, a.CreatedBy
	var never bool
	look := func(r store.Reader) error {
		there, err := record.Exists(r, generationKey)
		never = !there
		return err
	}
	if err := s.db.View(ctx, look); err != nil || !never {
		return false, err
	}
	err = s.change(ctx, Actor{Operator: operator}, deed{"RoleAssignmentPut", s.subscription(), a.ID, a.detail()}, look, func(tx store.Tx) error {
		if made = never; !made {
			return nil // another server was first
		}
		return errors.Join(record.Put(tx, assignmentKey(a.ID), a.record()), newGeneration(tx))
	})
	return made && err == nil, err
}

// ensureGroup makes the group of a vault if there is none.
func (s *Service) ensureGroup(ctx context.Context, operator string, v *Vault) error {
	var there bool
	look := func(r store.Reader) (err error) {
		there, err = record.Exists(r, groupKey(v.ResourceGroup))
		return err
	}
	if err := s.db.View(ctx, look); err != nil || there {
		return err
	}
	if _, err := s.groupScope(v.ResourceGroup); err != nil {
		return nil // made by a release that allowed any name: its administrators alone get in
	}
	d := deed{"GroupPut", s.subscription() + "/resourceGroups/" + v.ResourceGroup, v.ResourceGroup, ""}
	return s.change(ctx, Actor{Operator: operator}, d, look, func(tx store.Tx) error {
		if there {
			return nil
		}
		return record.Put(tx, groupKey(v.ResourceGroup), groupRecord{
			Format: record.Current(), Name: v.ResourceGroup, Location: v.Location, Created: s.now().Unix(),
		})
	})
}
