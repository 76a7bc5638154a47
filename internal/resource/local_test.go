package resource

import (
	"context"
	"testing"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/store"
)

// pool makes a managed HSM whose initial administrator is ownerID.
func (b *bench) pool(t testing.TB, name string) *Vault {
	t.Helper()
	v, _, err := b.PutHSM(t.Context(), owner, "g", name, PutHSMParams{
		Location: "local", SKUName: "Standard_B1", Administrators: []string{ownerID}, RetentionDays: new(7),
	})
	must(t, err)
	return v
}

// mayLocally tells whether somebody may perform an action in a managed HSM, on the key of that name.
func (s *Service) mayLocally(ctx context.Context, hsm string, who Actor, action, key string) (ok bool, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		v, err := s.LoadHSM(r, hsm)
		if err != nil {
			return err
		}
		d, err := s.Decide(r, v, who.subject(), authz.Permission{HSMAction: hsmAction + action}, "keys", key)
		ok = d.Allowed
		return err
	})
	return ok, err
}

const hsmAction = "Microsoft.KeyVault/managedHsm/"

func TestLocalRolesDecide(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	v := b.pool(t, "pool")
	give := func(who, role, scope string) {
		t.Helper()
		id := guid()
		must(t, b.db.Update(t.Context(), func(tx store.Tx) error {
			rec := localAssignmentRecord{Format: record.Current(), ID: id, Scope: scope, PrincipalID: who, RoleID: role}
			if err := record.Put(tx, localAssignmentKey(v.ContentID(), id), rec); err != nil {
				return err
			}
			return newLocalGeneration(tx, v.ContentID())
		}))
	}
	group := "60000000-0000-4000-8000-000000000001"
	ask := func(who Actor, action, key string, want bool) {
		t.Helper()
		got, err := b.mayLocally(t.Context(), "POOL", who, action, key)
		must(t, err)
		if got != want {
			t.Errorf("%s may %s %q: %v, want %v", who.Caller.ObjectID, action, key, got, want)
		}
	}
	ask(owner, "keys/read/action", "k", false) // neither the subscription's owner nor an initial administrator
	give(otherID, authz.RoleHSMCryptoUser, "/keys/One")
	give(thirdID, authz.RoleHSMCryptoAuditor, "/keys")
	give(group, authz.RoleHSMCryptoUser, "/")
	ask(nobody, "keys/sign/action", "one", true)
	ask(nobody, "keys/sign/action", "ONE", true)
	ask(nobody, "keys/sign/action", "two", false)
	ask(nobody, "keys/read/action", "", false)
	ask(nobody, "rng/action", "", false)
	ask(third, "keys/read/action", "", true)
	ask(third, "keys/read/action", "one", true)
	ask(third, "keys/sign/action", "one", false)
	ask(third, "roleAssignments/read/action", "", false) // that is at the HSM
	ask(person("0dd00000-0000-4000-8000-000000000001", group), "rng/action", "", true)
	ask(owner, "keys/read/action", "k", false)
}

// activate gives a managed HSM a security domain of its own.
func (b *bench) activate(t testing.TB, name string) *Vault {
	t.Helper()
	keys, err := sdomain.NewDomainKeys()
	must(t, err)
	var v *Vault
	must(t, b.db.Update(t.Context(), func(tx store.Tx) error {
		before, err := b.LoadHSM(tx, name)
		if err != nil {
			return err
		}
		return b.Activate(tx, before, keys)
	}))
	must(t, b.db.View(t.Context(), func(r store.Reader) (err error) {
		v, err = b.LoadHSM(r, name)
		return err
	}))
	return v
}

func TestActivate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	group := "60000000-0000-4000-8000-000000000001"
	_, _, err := b.PutHSM(t.Context(), owner, "g", "pool", PutHSMParams{
		Location: "local", SKUName: "Standard_B1", RetentionDays: new(7), Administrators: []string{ownerID, group, ownerID},
	})
	must(t, err)
	domain := func() (keys *sdomain.DomainKeys, err error) {
		err = b.db.View(t.Context(), func(r store.Reader) error {
			v, err := b.LoadHSM(r, "pool")
			if err == nil {
				keys, err = b.Domain(r, v)
			}
			return err
		})
		return keys, err
	}
	_, err = domain()
	wantKind(t, err, HSMNotActivated)
	v := b.activate(t, "pool")
	must(t, v.InUse())
	keys, err := domain()
	must(t, err)
	if again, err := domain(); err != nil || again != keys {
		t.Errorf("the domain is not remembered: %v", err)
	}
	member := person(otherID, group)
	for who, want := range map[*Actor]bool{&owner: true, &member: true, &third: false} {
		if got := v.IsInitialAdministrator(who.subject()); got != want {
			t.Errorf("%s is an initial administrator: %v", who.Caller.ObjectID, got)
		}
		got, err := b.mayLocally(t.Context(), "pool", *who, "securitydomain/download/action", "")
		must(t, err)
		if got != want {
			t.Errorf("%s may download the domain: %v", who.Caller.ObjectID, got)
		}
	}
	if list := b.keys(t, localAssignmentKey(v.ContentID(), "")); len(list) != 2 {
		t.Errorf("%d assignments at the beginning", len(list))
	}
	err = b.db.Update(t.Context(), func(tx store.Tx) error { return b.Activate(tx, v, keys) })
	wantKind(t, err, ConflictError)
	b.consistent(t)

	_, err = b.DeleteHSM(t.Context(), owner, "g", "pool")
	must(t, err)
	must(t, b.PurgeHSM(t.Context(), owner, "local", "pool"))
	if list := b.keys(t, domainPrefix); len(list) != 0 {
		t.Errorf("these have outlived their managed HSM: %v", list)
	}
}
