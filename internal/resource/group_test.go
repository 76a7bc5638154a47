package resource

import (
	"slices"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

func TestGroups(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	for _, name := range []string{"", ".", "a/b", "a b", "é", "a.", "%61", strings.Repeat("a", 91)} {
		_, _, err := b.PutGroup(ctx, owner, Group{Name: name, Location: "local"})
		wantKind(t, err, InvalidProperty)
	}
	_, _, err := b.PutGroup(ctx, owner, Group{Name: "h", Location: "moon"})
	wantKind(t, err, LocationNotAvailable)
	g, created, err := b.PutGroup(ctx, owner, Group{Name: "Team.A_(1)", Location: "westeurope", Tags: map[string]string{"a": "b"}})
	if err != nil || !created || g.Location != "West Europe" {
		t.Errorf("%+v, %v, %v", g, created, err)
	}
	g, created, err = b.PutGroup(ctx, owner, Group{Name: "TEAM.A_(1)", Location: "West Europe"})
	if err != nil || created || g.Name != "Team.A_(1)" || len(g.Tags) != 0 {
		t.Errorf("again: %+v, %v, %v", g, created, err)
	}
	_, _, err = b.PutGroup(ctx, owner, Group{Name: "team.a_(1)", Location: "local"})
	wantKind(t, err, ConflictError)
	names := func(who Actor) (out []string) {
		list, err := b.ListGroups(ctx, who)
		must(t, err)
		for _, g := range list {
			out = append(out, g.Name)
		}
		return out
	}
	if got := names(owner); !slices.Equal(got, []string{"g", "Team.A_(1)"}) {
		t.Errorf("groups %q", got)
	}
	b.assign(t, b.scope(t, "/resourceGroups/g"), authz.RoleReader, otherID)
	if got := names(nobody); !slices.Equal(got, []string{"g"}) {
		t.Errorf("a reader of one sees %q", got)
	}
	_, err = b.GetGroup(ctx, owner, "none")
	wantKind(t, err, ResourceGroupNotFound)
	_, err = b.UpdateGroupTags(ctx, owner, "none", nil)
	wantKind(t, err, ResourceGroupNotFound)
	wantKind(t, b.DeleteGroup(ctx, owner, "none"), ResourceGroupNotFound)
	_, err = b.ListVaults(ctx, owner, "none")
	wantKind(t, err, ResourceGroupNotFound)
	_, err = b.ListVaults(ctx, nobody, "none")
	wantKind(t, err, AuthorizationFailed)
	if there, err := b.GroupExists(ctx, owner, "none"); there || err != nil {
		t.Errorf("%v, %v", there, err)
	}
	// Who had a role in a group has none in another one of that name.
	must(t, b.DeleteGroup(ctx, owner, "G"))
	_, _, err = b.PutGroup(ctx, owner, Group{Name: "g", Location: "local"})
	must(t, err)
	if got := names(nobody); len(got) != 0 {
		t.Errorf("the role came back with the name: %q", got)
	}
	b.consistent(t)
}

// TestDeleteGroup deletes a group with what is in it, and recovers that.
func TestDeleteGroup(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	scope := b.scope(t, "/resourceGroups/g")
	b.vault(t, "plain")
	kept := b.vault(t, "kept", func(p *PutVaultParams) { p.PurgeProtection = new(true) })
	_, _, err := b.PutHSM(ctx, owner, "g", "pool", PutHSMParams{Location: "local", SKUName: "Standard_B1", Administrators: []string{ownerID}})
	must(t, err)
	_, _, err = b.PutGroup(ctx, owner, Group{Name: "h", Location: "local"})
	must(t, err)
	_, _, err = b.PutVault(ctx, owner, "h", "other", PutVaultParams{Location: "local"})
	must(t, err)

	// Whoever may not delete all that is in it deletes nothing of it.
	role, _, err := b.PutRoleDefinition(ctx, owner, b.SubscriptionScope(), guid(), authz.RoleDefinition{
		Name: "Groups and vaults", AssignableScopes: []string{b.SubscriptionScope().String()},
		Permissions: []authz.PermissionSet{{Actions: []string{"Microsoft.Resources/*", "Microsoft.KeyVault/vaults/*"}}},
	})
	must(t, err)
	b.assign(t, scope, role.ID, otherID)
	before := b.keys(t, "")
	wantKind(t, b.DeleteGroup(ctx, nobody, "g"), AuthorizationFailed)
	if !slices.Equal(before, b.keys(t, "")) || len(b.lines(t, "VaultDelete")) != 0 {
		t.Error("something was deleted")
	}

	must(t, b.DeleteGroup(ctx, owner, "g"))
	if _, err := b.GetVault(ctx, owner, "h", "other"); err != nil {
		t.Errorf("the vault of another group: %v", err)
	}
	for _, name := range []string{"plain", "kept"} {
		if _, err := b.GetDeletedVault(ctx, owner, "local", name); err != nil {
			t.Error(err)
		}
	}
	if _, err := b.GetDeletedHSM(ctx, owner, "local", "pool"); err != nil {
		t.Error(err)
	}
	if got := b.keys(t, assignmentPrefix); len(got) != 1 {
		t.Errorf("assignments left: %q", got)
	}
	// Each is on record by itself, before and after; the outcome of the group is its request's.
	for operation, want := range map[string]int{"VaultDelete": 4, "ManagedHsmDelete": 2, "GroupDelete": 1} {
		lines := b.lines(t, operation)
		if len(lines) != want || want > 1 && lines[1].ResultType != "Success" {
			t.Errorf("%s: %+v", operation, lines)
		}
	}
	if last := b.lines(t, "VaultDelete")[0]; last.ResourceID != kept.Resource() {
		t.Errorf("on record is %s", last.ResourceID)
	}

	wantKind(t, b.DeleteGroup(ctx, owner, "g"), ResourceGroupNotFound)
	_, _, err = b.PutGroup(ctx, owner, Group{Name: "g", Location: "local"})
	must(t, err)
	back, _, err := b.PutVault(ctx, owner, "g", "kept", PutVaultParams{Recover: true})
	if err != nil || back.ID != kept.ID {
		t.Errorf("recovered: %+v, %v", back, err)
	}
	b.consistent(t)
}

// TestDeleteGroupMeanwhile makes a vault in a group that is being deleted: the group stays, and the vault.
func TestDeleteGroupMeanwhile(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	slow := b.hooked(t, func() { b.vault(t, "late") })
	wantKind(t, slow.DeleteGroup(ctx, owner, "g"), GroupNotEmpty)
	if _, err := b.GetVault(ctx, owner, "g", "late"); err != nil {
		t.Error(err)
	}
	must(t, slow.DeleteGroup(ctx, owner, "g"))
	b.consistent(t)
}

func TestHSMs(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.vault(t, "pool") // names of vaults are another world
	good := PutHSMParams{Location: "local", SKUName: "standard_b1", Administrators: []string{ownerID}, RetentionDays: new(7)}
	for _, c := range []struct {
		change func(*PutHSMParams)
		want   Kind
	}{
		{func(p *PutHSMParams) { p.SKUName = "premium" }, SkuNotSupported},
		{func(p *PutHSMParams) { p.SKUName = "" }, SkuNotSupported},
		{func(p *PutHSMParams) { p.Administrators = nil }, InvalidProperty},
		{func(p *PutHSMParams) { p.Administrators = []string{"me"} }, BadRequest},
	} {
		p := good
		c.change(&p)
		_, _, err := b.PutHSM(ctx, owner, "g", "pool", p)
		wantKind(t, err, c.want)
	}
	v, created, err := b.PutHSM(ctx, owner, "g", "Pool", good)
	must(t, err)
	if !created || v.Tier != ManagedHSM || v.SKUName != "Standard_B1" || v.Activation != NotActivated || !v.MayHold(true) || v.MayHold(false) ||
		!strings.HasSuffix(v.ARMID(), "/providers/Microsoft.KeyVault/managedHSMs/Pool") {
		t.Errorf("made: %+v", v)
	}
	next := good
	next.SKUName, next.Administrators = "Custom_B32", nil
	_, _, err = b.PutHSM(ctx, owner, "g", "pool", next)
	wantKind(t, err, SkuNotSupported)
	next.SKUName, next.Administrators = "Standard_B1", []string{otherID}
	again, _, err := b.PutHSM(ctx, owner, "g", "pool", next)
	if err != nil || !slices.Equal(again.Administrators, good.Administrators) {
		t.Errorf("its administrators are now %v, %v", again, err)
	}
	b.assign(t, v.Scope(), authz.RoleReader, otherID)
	if list, err := b.ListHSMs(ctx, nobody, ""); err != nil || len(list) != 1 {
		t.Errorf("a reader sees %d, %v", len(list), err)
	}
	if list, err := b.ListVaults(ctx, nobody, ""); err != nil || len(list) != 0 {
		t.Errorf("a reader of the HSM sees %d vaults, %v", len(list), err)
	}
	_, err = b.DeleteHSM(ctx, owner, "g", "pool")
	must(t, err)
	_, err = b.GetDeletedVault(ctx, owner, "local", "pool")
	wantKind(t, err, SoftDeletedVaultDoesNotExist)
	must(t, b.PurgeHSM(ctx, owner, "local", "pool"))
	if _, err := b.GetVault(ctx, owner, "g", "pool"); err != nil {
		t.Errorf("the vault of that name: %v", err)
	}
	name, err := b.CheckName(ctx, operator, "POOL", false)
	if err != nil || name.Available || name.Reason != "AlreadyExists" {
		t.Errorf("%+v, %v", name, err)
	}
	if name, err = b.CheckName(ctx, operator, "pool", true); err != nil || !name.Available {
		t.Errorf("%+v, %v", name, err)
	}
	if name, err = b.CheckName(ctx, operator, "a", true); err != nil || name.Reason != "AccountNameInvalid" {
		t.Errorf("%+v, %v", name, err)
	}
	b.consistent(t)
}

// TestCheck removes and alters what others refer to.
func TestCheck(t *testing.T) {
	t.Parallel()
	b, ctx := newFullBench(t), t.Context()
	a := b.assign(t, b.scope(t, vaultPath+"vault"), authz.RoleReader, otherID)
	due := b.keys(t, "due/")
	must(t, b.db.Update(ctx, func(tx store.Tx) error {
		for _, key := range due {
			if err := tx.Delete(key); err != nil {
				return err
			}
		}
		a.RoleID = thirdID
		if err := record.Put(tx, assignmentKey(a.ID), a.record()); err != nil {
			return err
		}
		return newGeneration(tx)
	}))
	var got []string
	must(t, b.CheckReferences(ctx, func(key, problem string) { got = append(got, key+" "+problem) }))
	want := []string{"vault/gone is deleted, and nothing will purge it", assignmentKey(a.ID) + " assigns a role that is not there"}
	if !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}
