package keyvault

import (
	"errors"
	"testing"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/store"
)

// of returns the service of the family that a vault of the bench belongs to.
func (b *bench) of(vault string) *Service {
	if b.pools[vault] {
		return b.ManagedHSMs()
	}
	return b.Service
}

// newDomain makes a security domain.
func newDomain(t testing.TB) *sdomain.DomainKeys {
	t.Helper()
	domain, err := sdomain.NewDomainKeys()
	if err != nil {
		t.Fatal(err)
	}
	return domain
}

// pool makes a managed HSM. Without a domain it is not activated; with one the administrator may do everything with its keys.
func (b *bench) pool(t testing.TB, name string, domain *sdomain.DomainKeys) {
	t.Helper()
	_, _, err := b.resources.PutHSM(t.Context(), someone, "g", name, resource.PutHSMParams{
		Location: "here", SKUName: "Standard_B1", TenantID: "t", RetentionDays: new(7), Administrators: []string{adminID},
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.pools == nil {
		b.pools = make(map[string]bool)
	}
	b.pools[name] = true
	if domain == nil {
		return
	}
	err = b.db.Update(t.Context(), func(tx store.Tx) error {
		v, err := b.resources.LoadHSM(tx, name)
		if err != nil {
			return err
		}
		return b.resources.Activate(tx, v, domain)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.grant(t, name, "/", authz.RoleHSMCryptoUser, adminID)
	b.grant(t, name, "/", authz.RoleHSMCryptoOfficer, adminID)
}

// grant gives a principal a role of a managed HSM, at a scope.
func (b *bench) grant(t testing.TB, name, scope, role, principal string) {
	t.Helper()
	err := b.db.Update(t.Context(), func(tx store.Tx) error {
		v, err := b.resources.LoadHSM(tx, name)
		if err != nil {
			return err
		}
		id := uuid.NewString()
		local := resource.LocalPrefix(v.ContentID())
		return errors.Join(
			record.Put(tx, local+"assignment/"+id, map[string]any{
				"v": 1, "id": id, "scope": scope, "principalId": principal, "roleId": role, "created": 1,
			}),
			record.Put(tx, local+"generation", map[string]any{"v": 1, "value": id}))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// domainOf returns the security domain of a managed HSM.
func (b *bench) domainOf(t testing.TB, name string) (domain *sdomain.DomainKeys) {
	t.Helper()
	err := b.db.View(t.Context(), func(r store.Reader) error {
		v, err := b.resources.LoadHSM(r, name)
		if err == nil {
			domain, err = b.resources.Domain(r, v)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return domain
}

// changePool alters the record of a managed HSM, as nobody but a test may.
func (b *bench) changePool(t testing.TB, name, member string, value any) {
	t.Helper()
	changeRecord(t, b, "hsm/"+name, member, value)
}
