package keyvault

import (
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// domainOf returns the keys of a managed HSM's security domain, nil for a vault.
func (s *Service) domainOf(r store.Reader, v *resource.Vault) (*sdomain.DomainKeys, error) {
	if v.Tier != resource.ManagedHSM {
		return nil, nil
	}
	return s.resources.Domain(r, v)
}

// wrap returns what is stored of a provider's blob. In a managed HSM that is the blob under the keys of the security domain, bound to
// the key's name and version: the store and its root key alone do not give the key, and no other domain does.
func (s *Service) wrap(r store.Reader, v *resource.Vault, o *objectRecord, version string, blob []byte) ([]byte, error) {
	domain, err := s.domainOf(r, v)
	if domain == nil || err != nil {
		return blob, err
	}
	return domain.WrapKey(o.Name, version, blob)
}

// unwrap reverses wrap.
func (s *Service) unwrap(r store.Reader, v *resource.Vault, o *objectRecord, version string, stored []byte) ([]byte, error) {
	domain, err := s.domainOf(r, v)
	if domain == nil || err != nil {
		return stored, err
	}
	blob, err := domain.UnwrapKey(o.Name, version, stored)
	if err != nil {
		return nil, &seal.RecordError{Key: valueKey(o.ID, version), Reason: err.Error()}
	}
	return blob, nil
}
