package resource

import (
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/store"
)

// domainRecord is the security domain of a managed HSM.
type domainRecord struct {
	record.Format
	Keys []byte `json:"keys"` // as sdomain.DomainKeys.MarshalBinary makes them
}

const domainPrefix = "domain/"

// It stands under the id of the managed HSM, not of its content: a restore replaces what is in it and not its domain.
func (v *Vault) domainKey() string { return domainPrefix + v.ID }

func decodeDomain(plaintext []byte) (*sdomain.DomainKeys, error) {
	rec, err := record.Decode[domainRecord](plaintext)
	if err != nil {
		return nil, err
	}
	keys := new(sdomain.DomainKeys)
	if err := keys.UnmarshalBinary(rec.Keys); err != nil {
		return nil, err
	}
	return keys, nil
}

// Domain returns the keys of the security domain of a managed HSM, which has them from its activation on. They are shared.
func (s *Service) Domain(r store.Reader, v *Vault) (*sdomain.DomainKeys, error) {
	keys, err := s.domains.Load(r, v.domainKey(), decodeDomain)
	if errors.Is(err, store.ErrNotFound) {
		if err := v.InUse(); err != nil {
			return nil, err
		}
		return nil, fmt.Errorf("resource: the managed HSM %s has no security domain", v.Name)
	}
	return keys, err
}

// PutDomain stores the security domain of a managed HSM.
func (s *Service) PutDomain(tx store.Tx, v *Vault, keys *sdomain.DomainKeys) error {
	raw, err := keys.MarshalBinary()
	if err != nil {
		return err
	}
	return record.Put(tx, v.domainKey(), domainRecord{Format: record.Current(), Keys: raw})
}

// Activate gives a managed HSM its security domain, and its initial administrators the role Managed HSM Administrator. Whether the
// caller may is for who runs the transaction to say; v must be what the transaction has read.
func (s *Service) Activate(tx store.Tx, v *Vault, keys *sdomain.DomainKeys) error {
	if v.family != &hsmFamily || v.Activation != NotActivated {
		return &Error{Kind: ConflictError, Message: fmt.Sprintf("The %s '%s' cannot be activated: it is in use.", v.family.word, v.Name)}
	}
	if len(v.Administrators) > maxInitialAdministrators { // made by a release that allowed more
		return &Error{Kind: ConflictError, Message: fmt.Sprintf("The managed HSM '%s' has more than %d initial administrators, and cannot be "+
			"activated. Delete it, and make another one with fewer.", v.Name, maxInitialAdministrators)}
	}
	active := *v
	active.Activation = Active
	if err := errors.Join(s.PutDomain(tx, v, keys), active.store(tx), newLocalGeneration(tx, v.ContentID())); err != nil {
		return err
	}
	known := make(map[string]bool)
	for _, entry := range v.Administrators {
		id, kind := administratorOf(entry)
		if known[id] {
			continue
		}
		known[id] = true
		rec := localAssignmentRecord{
			Format: record.Current(), ID: uuid.NewString(), Scope: "/", PrincipalID: id, PrincipalType: kind,
			RoleID: authz.RoleHSMAdministrator, Created: s.now().Unix(),
		}
		if err := record.Put(tx, localAssignmentKey(v.ContentID(), rec.ID), rec); err != nil {
			return err
		}
	}
	return nil
}
