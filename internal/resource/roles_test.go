package resource

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

// acts are all things that a caller can do in the management plane, each so that it would succeed for the owner. Those that change
// something are made so that they can be done again.
func (b *bench) acts(ctx context.Context, who Actor) map[string]func() error {
	sub, v := b.SubscriptionScope(), authz.Scope{}
	v, _ = authz.ParseScope(sub.String() + vaultPath + "vault")
	get := func(_ any, err error) error { return err }
	custom := authz.RoleDefinition{
		Name: "Custom", AssignableScopes: []string{sub.String()}, Permissions: []authz.PermissionSet{{Actions: []string{"*/read"}}},
	}
	id, role := "a5516e00-0000-4000-8000-ffffffffffff", "c0510000-0000-4000-8000-000000000001"
	return map[string]func() error{
		"vault read":    func() error { return get(b.GetVault(ctx, who, "g", "vault")) },
		"vault write":   func() error { _, _, err := b.PutVault(ctx, who, "g", "vault", PutVaultParams{}); return err },
		"vault patch":   func() error { return get(b.PatchVault(ctx, who, "g", "vault", PatchVaultParams{})) },
		"vault delete":  func() error { return get(b.DeleteVault(ctx, who, "g", "none")) },
		"vault model":   func() error { return b.turn(ctx, who) },
		"vault access":  func() error { return get(b.ChangeAccessPolicies(ctx, who, "g", "vault", AddPolicies, nil)) },
		"deleted list":  func() error { return get(b.ListDeletedVaults(ctx, who)) },
		"deleted read":  func() error { return get(b.GetDeletedVault(ctx, who, "local", "gone")) },
		"deleted purge": func() error { return notProtected(b.PurgeVault(ctx, who, "local", "gone")) },
		"group read":    func() error { return get(b.GetGroup(ctx, who, "g")) },
		"group write":   func() error { return get(b.UpdateGroupTags(ctx, who, "g", nil)) },
		"group delete":  func() error { return b.undone(func() error { return b.DeleteGroup(ctx, who, "g") }) },
		"hsm read":      func() error { return missing(get(b.GetHSM(ctx, who, "g", "pool"))) },
		"hsm write":     func() error { return missing(get(b.PatchHSM(ctx, who, "g", "pool", PatchHSMParams{}))) },
		"roles read":    func() error { return get(b.ListRoleDefinitions(ctx, who, v, RoleFilter{})) },
		"roles write": func() error {
			if _, _, err := b.PutRoleDefinition(ctx, who, sub, role, custom); err != nil {
				return err
			}
			return get(b.DeleteRoleDefinition(ctx, who, sub, role))
		},
		"assign read": func() error { return get(b.ListRoleAssignments(ctx, who, v, AssignmentFilter{})) },
		"assign data": func() error { return b.assignAndBack(ctx, who, v, id, authz.RoleVaultSecretsUser) },
		"assign Owner": func() error {
			return b.assignAndBack(ctx, who, v, id, authz.RoleOwner)
		},
		"name": func() error { return get(b.CheckName(ctx, who, "free", false)) },
	}
}

// undone puts everything back as it was before an act.
func (b *bench) undone(act func() error) error {
	before := make(map[string][]byte)
	collect := func(r store.Reader) error {
		clear(before)
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			before[e.Key] = e.Value
		}
		return nil
	}
	if err := errors.Join(b.db.View(context.Background(), collect), act()); err != nil {
		return err
	}
	return b.db.Update(context.Background(), func(tx store.Tx) error {
		for e, err := range tx.Scan("", "") {
			if _, there := before[e.Key]; err == nil && !there {
				err = tx.Delete(e.Key)
			}
			if err != nil {
				return err
			}
		}
		for key, value := range before {
			if err := tx.Put(key, value); err != nil {
				return err
			}
		}
		return nil
	})
}

// turn changes the model of the vault and changes it back.
func (b *bench) turn(ctx context.Context, who Actor) error {
	if _, err := b.PatchVault(ctx, who, "g", "vault", PatchVaultParams{RBAC: new(false)}); err != nil {
		return err
	}
	_, err := b.PatchVault(ctx, who, "g", "vault", PatchVaultParams{RBAC: new(true)})
	return err
}

func (b *bench) assignAndBack(ctx context.Context, who Actor, scope authz.Scope, id, role string) error {
	_, _, err := b.PutRoleAssignment(ctx, who, scope, id, AssignmentParams{
		RoleDefinitionID: role, PrincipalID: thirdID, PrincipalType: authz.ServicePrincipal,
	})
	if err != nil {
		return err
	}
	_, err = b.DeleteRoleAssignment(ctx, who, scope, id)
	return err
}

func but(err error, kind Kind) error {
	if IsKind(err, kind) {
		return nil
	}
	return err
}

func notProtected(err error) error { return but(err, PurgeProtected) }
func missing(err error) error      { return but(err, ResourceNotFound) }

// newFullBench has what acts needs.
func newFullBench(t testing.TB) *bench {
	t.Helper()
	b := newBench(t)
	b.vault(t, "vault", func(p *PutVaultParams) { p.RBAC = new(true) })
	b.vault(t, "gone", func(p *PutVaultParams) { p.PurgeProtection = new(true) })
	_, err := b.DeleteVault(t.Context(), owner, "g", "gone")
	must(t, err)
	return b
}

// TestWhoMayManage holds what each role allows at each kind of scope.
func TestWhoMayManage(t *testing.T) {
	t.Parallel()
	const (
		sub    = ""
		group  = "/resourceGroups/g"
		vault  = vaultPath + "vault"
		secret = vaultPath + "vault/secrets/s"
	)
	inVault := []string{"vault read", "vault write", "vault patch", "vault access"}
	readRoles := []string{"roles read", "assign read"}
	readGroup := []string{"group read"}
	all := []string{}
	for what := range (&bench{Service: &Service{}}).acts(t.Context(), Actor{}) {
		all = append(all, what)
	}
	without := func(list []string, gone ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(gone, s) })
	}
	subscriptionWide := []string{"deleted list", "deleted read", "deleted purge", "name", "roles write"}
	granting := []string{"vault model", "roles write", "assign data", "assign Owner"}
	groupWide := []string{"group read", "group write", "group delete", "hsm read", "hsm write", "vault delete"}
	for _, c := range []struct {
		role, at string
		want     []string
	}{
		{authz.RoleOwner, sub, all},
		{authz.RoleOwner, group, without(all, subscriptionWide...)},
		{authz.RoleOwner, vault, without(all, append(subscriptionWide, groupWide...)...)},
		{authz.RoleOwner, secret, nil},
		{authz.RoleContributor, sub, without(all, granting...)},
		{authz.RoleContributor, group, without(all, append(granting, subscriptionWide...)...)},
		{authz.RoleContributor, vault, append(inVault, readRoles...)},
		{authz.RoleReader, sub, slices.Concat([]string{"vault read", "deleted list", "deleted read", "hsm read", "name"}, readRoles, readGroup)},
		{authz.RoleReader, vault, append([]string{"vault read"}, readRoles...)},
		{authz.RoleUserAccessAdministrator, sub, slices.Concat([]string{"vault read", "deleted list", "deleted read", "hsm read", "name",
			"assign data", "assign Owner", "roles write"}, readRoles, readGroup)},
		{authz.RoleUserAccessAdministrator, vault, append([]string{"vault read", "assign data", "assign Owner"}, readRoles...)},
		{authz.RoleVaultContributor, sub, slices.Concat(inVault, readRoles, readGroup, []string{"vault delete", "deleted list", "deleted read", "name"})},
		{authz.RoleVaultContributor, vault, append(inVault, readRoles...)},
		{authz.RoleHSMContributor, sub, []string{"hsm read", "hsm write"}},
		{authz.RoleVaultPurgeOperator, sub, slices.Concat(readRoles, readGroup, []string{"deleted list", "deleted read", "deleted purge"})},
		{authz.RoleVaultPurgeOperator, vault, readRoles},
		{authz.RoleVaultDataAccessAdministrator, vault, append([]string{"assign data"}, readRoles...)},
		{authz.RoleVaultAdministrator, sub, slices.Concat(readRoles, readGroup, []string{"deleted list", "deleted read", "name"})},
		{authz.RoleVaultSecretsUser, sub, nil},
	} {
		name := "nobody"
		for _, d := range authz.BuiltInRoles() {
			if d.ID == c.role {
				name = d.Name
			}
		}
		t.Run(name+" at "+c.at, func(t *testing.T) {
			t.Parallel()
			b := newFullBench(t)
			b.assign(t, b.scope(t, c.at), c.role, otherID)
			var got []string
			for what, act := range b.acts(t.Context(), nobody) {
				switch err := act(); {
				case err == nil:
					got = append(got, what)
				case !IsKind(err, AuthorizationFailed):
					t.Errorf("%s: %v", what, err)
				}
			}
			slices.Sort(got)
			slices.Sort(c.want)
			if !slices.Equal(got, c.want) {
				t.Errorf("may %q\nwant  %q", got, c.want)
			}
			b.consistent(t)
		})
	}
}

// TestStrangersManageNothing has callers without a role, of another tenant, and none at all.
func TestStrangersManageNothing(t *testing.T) {
	t.Parallel()
	b := newFullBench(t)
	foreign := person(ownerID)
	foreign.Caller.TenantID = otherID
	for _, who := range []Actor{{}, nobody, foreign, person("x"), person(otherID, ownerID), person("")} {
		before, seq := b.keys(t, ""), b.log.Head().Seq
		for what, act := range b.acts(t.Context(), who) {
			if err := act(); !IsKind(err, AuthorizationFailed) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if list, err := b.ListVaults(t.Context(), who, ""); len(list) != 0 || err != nil {
			t.Errorf("sees %d vaults, %v", len(list), err)
		}
		if sees, err := b.SeesSubscription(t.Context(), who); sees || err != nil {
			t.Errorf("sees the subscription: %v", err)
		}
		if after := b.keys(t, ""); !slices.Equal(before, after) || b.log.Head().Seq != seq {
			t.Error("something was changed, or announced")
		}
	}
	operatorMay := b.acts(t.Context(), operator)
	for what, act := range operatorMay {
		if err := act(); err != nil {
			t.Errorf("an operator, %s: %v", what, err)
		}
	}
}

// TestSpelling asks for the same things in other spellings: they are the same, or refused.
func TestSpelling(t *testing.T) {
	t.Parallel()
	b, ctx := newFullBench(t), t.Context()
	b.assign(t, b.scope(t, vaultPath+"vault"), authz.RoleReader, otherID)
	for _, c := range []struct {
		group, name string
		ok          bool
	}{
		{"g", "vault", true}, {"G", "VAULT", true}, {"g", "Vault", true}, {"g", "vault%32", false}, {"g", "vault/", false}, {"g/", "vault", false},
		{".", "vault", false}, {"g", "../vault", false}, {"g", "vault ", false}, {"g", "vаult", false}, {"ｇ", "vault", false}, {"g%2f", "vault", false},
		{"", "vault", false}, {"g", "", false}, {"g", "vault\x00", false},
	} {
		_, err := b.GetVault(ctx, nobody, c.group, c.name)
		var refused bool
		for _, kind := range []Kind{InvalidName, ResourceGroupNotFound, AuthorizationFailed} {
			refused = refused || IsKind(err, kind)
		}
		if c.ok != (err == nil) || err != nil && !refused {
			t.Errorf("%q, %q: %v", c.group, c.name, err)
		}
	}
}

func TestRoleAssignments(t *testing.T) {
	t.Parallel()
	b, ctx := newFullBench(t), t.Context()
	at := b.scope(t, vaultPath+"vault")
	first := b.assign(t, at, authz.RoleVaultSecretsUser, otherID)
	p := AssignmentParams{RoleDefinitionID: authz.RoleVaultSecretsUser, PrincipalID: strings.ToUpper(otherID), PrincipalType: authz.ServicePrincipal}
	_, _, err := b.PutRoleAssignment(ctx, owner, at, guid(), p)
	wantKind(t, err, RoleAssignmentExists)
	p.Description = "for the tests"
	again, created, err := b.PutRoleAssignment(ctx, owner, at, strings.ToUpper(first.ID), p)
	if err != nil || created || again.Description != p.Description || again.ID != first.ID {
		t.Errorf("described: %+v, %v, %v", again, created, err)
	}
	for name, c := range map[string]struct {
		id   string
		at   string
		p    AssignmentParams
		want Kind
	}{
		"other principal": {first.ID, vaultPath + "vault", AssignmentParams{RoleDefinitionID: authz.RoleVaultSecretsUser, PrincipalID: thirdID, PrincipalType: authz.ServicePrincipal}, RoleAssignmentUpdateNotPermitted},
		"other scope":     {first.ID, "/resourceGroups/g", p, RoleAssignmentUpdateNotPermitted},
		"no id":           {"first", vaultPath + "vault", p, InvalidProperty},
		"no principal":    {guid(), vaultPath + "vault", AssignmentParams{RoleDefinitionID: authz.RoleReader, PrincipalID: "me"}, InvalidProperty},
		"no role":         {guid(), vaultPath + "vault", AssignmentParams{RoleDefinitionID: thirdID, PrincipalID: thirdID}, RoleDefinitionDoesNotExist},
		"no type":         {guid(), vaultPath + "vault", AssignmentParams{RoleDefinitionID: authz.RoleReader, PrincipalID: thirdID, PrincipalType: "Robot"}, InvalidProperty},
		"no vault":        {guid(), vaultPath + "none", AssignmentParams{RoleDefinitionID: authz.RoleReader, PrincipalID: thirdID}, ResourceNotFound},
		"deleted vault":   {guid(), vaultPath + "gone", AssignmentParams{RoleDefinitionID: authz.RoleReader, PrincipalID: thirdID}, ResourceNotFound},
		"no group":        {guid(), "/resourceGroups/none", AssignmentParams{RoleDefinitionID: authz.RoleReader, PrincipalID: thirdID}, ResourceGroupNotFound},
		"condition":       {guid(), vaultPath + "vault", AssignmentParams{RoleDefinitionID: authz.RoleReader, PrincipalID: thirdID, Condition: "true", ConditionVersion: "2.0"}, InvalidProperty},
	} {
		for _, who := range []Actor{owner, operator} {
			_, _, err := b.PutRoleAssignment(ctx, who, b.scope(t, c.at), c.id, c.p)
			if !IsKind(err, c.want) {
				t.Errorf("%s: %v, want kind %d", name, err, c.want)
			}
		}
	}
	_, _, err = b.PutRoleAssignment(ctx, operator, authz.Root, guid(), AssignmentParams{RoleDefinitionID: authz.RoleReader, PrincipalID: thirdID})
	wantKind(t, err, SubscriptionNotFound)

	_, err = b.GetRoleAssignment(ctx, owner, b.SubscriptionScope(), first.ID)
	wantKind(t, err, RoleAssignmentNotFound)
	if gone, err := b.DeleteRoleAssignment(ctx, owner, b.SubscriptionScope(), first.ID); gone != nil || err != nil {
		t.Errorf("deleted at another scope: %v, %v", gone, err)
	}
	count := func(scope authz.Scope, f AssignmentFilter) int {
		list, err := b.ListRoleAssignments(ctx, owner, scope, f)
		must(t, err)
		return len(list)
	}
	if n := count(at, AssignmentFilter{}); n != 2 { // the owner's too
		t.Errorf("%d at the vault", n)
	}
	if n := count(b.SubscriptionScope(), AssignmentFilter{AtScope: true}); n != 1 {
		t.Errorf("%d at the subscription", n)
	}
	if n := count(b.SubscriptionScope(), AssignmentFilter{PrincipalID: otherID}); n != 1 {
		t.Errorf("%d of the principal", n)
	}
	if gone, err := b.DeleteRoleAssignment(ctx, owner, at, first.ID); gone == nil || err != nil {
		t.Errorf("deleted: %v, %v", gone, err)
	}
	if gone, err := b.DeleteRoleAssignment(ctx, owner, at, first.ID); gone != nil || err != nil {
		t.Errorf("deleted again: %v, %v", gone, err)
	}
	b.consistent(t)
}

func TestCustomRoles(t *testing.T) {
	t.Parallel()
	b, ctx := newFullBench(t), t.Context()
	sub := b.SubscriptionScope()
	def := authz.RoleDefinition{
		Name: "Getter", AssignableScopes: []string{sub.String()}, Permissions: []authz.PermissionSet{{
			DataActions: []string{"Microsoft.KeyVault/vaults/secrets/*"}, NotDataActions: []string{"Microsoft.KeyVault/vaults/secrets/delete"},
		}},
	}
	id := "c0510000-0000-4000-8000-000000000001"
	if _, created, err := b.PutRoleDefinition(ctx, owner, sub, strings.ToUpper(id), def); !created || err != nil {
		t.Fatalf("%v, %v", created, err)
	}
	b.assign(t, b.scope(t, vaultPath+"vault"), id, otherID)
	if ok, err := b.mayGet(ctx, "vault", "s", nobody); !ok || err != nil {
		t.Errorf("%v, %v", ok, err)
	}
	_, _, err := b.PutRoleDefinition(ctx, owner, sub, "c0510000-0000-4000-8000-000000000002", def)
	wantKind(t, err, RoleDefinitionWithSameNameExists)
	def.Name = "owner"
	_, _, err = b.PutRoleDefinition(ctx, owner, sub, id, def)
	wantKind(t, err, RoleDefinitionWithSameNameExists)
	_, _, err = b.PutRoleDefinition(ctx, owner, sub, authz.RoleReader, def)
	wantKind(t, err, BuiltInRole)
	_, err = b.DeleteRoleDefinition(ctx, owner, sub, authz.RoleReader)
	wantKind(t, err, BuiltInRole)
	def.Name, def.AssignableScopes = "Getter", []string{"/"}
	_, _, err = b.PutRoleDefinition(ctx, owner, sub, id, def)
	wantKind(t, err, InvalidProperty)
	def.AssignableScopes = []string{sub.String() + "/resourcegroups/h"}
	_, _, err = b.PutRoleDefinition(ctx, owner, sub, id, def)
	wantKind(t, err, RoleDefinitionHasAssignments)
	_, err = b.DeleteRoleDefinition(ctx, owner, sub, id)
	wantKind(t, err, RoleDefinitionHasAssignments)
	def.AssignableScopes = []string{sub.String()}
	def.Permissions[0].NotDataActions = []string{"Microsoft.KeyVault/vaults/secrets/getSecret/action"}
	if _, created, err := b.PutRoleDefinition(ctx, owner, sub, id, def); created || err != nil {
		t.Errorf("changed: %v, %v", created, err)
	}
	if ok, err := b.mayGet(ctx, "vault", "s", nobody); ok || err != nil {
		t.Errorf("after the change: %v, %v", ok, err)
	}
	custom, err := b.ListRoleDefinitions(ctx, owner, sub, RoleFilter{Custom: true})
	if err != nil || len(custom) != 1 || custom[0].CreatedBy != "app-0a11" {
		t.Errorf("custom roles: %v, %v", custom, err)
	}
	b.consistent(t)
}

// TestSeenAtOnce lets two servers decide: what one changes holds at once on the other, and decisions compile nothing in between.
func TestSeenAtOnce(t *testing.T) {
	t.Parallel()
	b, ctx := newFullBench(t), t.Context()
	other := b.serve(t)
	for range 3 {
		for _, s := range []*Service{b.Service, other} {
			if ok, err := s.mayGet(ctx, "vault", "s", nobody); ok || err != nil {
				t.Fatalf("without a role: %v, %v", ok, err)
			}
		}
		a := b.assign(t, b.scope(t, vaultPath+"vault/secrets/s"), authz.RoleVaultSecretsUser, otherID)
		for _, s := range []*Service{b.Service, other} {
			if ok, err := s.mayGet(ctx, "vault", "s", nobody); !ok || err != nil {
				t.Errorf("with a role: %v, %v", ok, err)
			}
			compiled := s.compiled.Load()
			for _, name := range []string{"t", "s"} {
				if ok, err := s.mayGet(ctx, "vault", name, nobody); ok != (name == "s") || err != nil {
					t.Errorf("%s: %v, %v", name, ok, err)
				}
			}
			if s.compiled.Load() != compiled {
				t.Error("a decision compiled the roles anew")
			}
		}
		_, err := other.DeleteRoleAssignment(ctx, owner, a.Scope, a.ID)
		must(t, err)
	}
}

// TestRightsTakenAway takes a right away between the intent and the transaction.
func TestRightsTakenAway(t *testing.T) {
	t.Parallel()
	for what := range (&bench{Service: &Service{}}).acts(t.Context(), Actor{}) {
		if strings.HasSuffix(what, "read") || strings.HasSuffix(what, "list") || what == "name" || strings.HasPrefix(what, "hsm") {
			continue // they change nothing; there is no managed HSM
		}
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			b, ctx := newFullBench(t), t.Context()
			a := b.assign(t, b.SubscriptionScope(), authz.RoleOwner, otherID)
			var before []string
			taken := false
			other := &bench{now: b.now}
			other.Service = b.hooked(t, func() {
				_, err := b.DeleteRoleAssignment(ctx, owner, a.Scope, a.ID)
				must(t, err)
				before, taken = b.keys(t, ""), true
			})
			wantKind(t, other.acts(ctx, nobody)[what](), AuthorizationFailed)
			if !taken || !slices.Equal(before, b.keys(t, "")) {
				t.Error("the change took place")
			}
		})
	}
}

// TestAnotherVaultByThen purges a vault that is purged, made anew and deleted meanwhile: that one stays.
func TestAnotherVaultByThen(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.vault(t, "vault")
	_, err := b.DeleteVault(ctx, owner, "g", "vault")
	must(t, err)
	hooked := b.hooked(t, func() {
		must(t, b.PurgeVault(ctx, owner, "local", "vault"))
		b.vault(t, "vault")
		_, err := b.DeleteVault(ctx, owner, "g", "vault")
		must(t, err)
	})
	wantKind(t, hooked.PurgeVault(ctx, owner, "local", "vault"), ConflictError)
	if _, err := b.GetDeletedVault(ctx, owner, "local", "vault"); err != nil {
		t.Error(err)
	}
}

// TestRolesAndFaults changes assignments on a store that fails in every way it may. Whatever was answered, what the servers that made
// the changes decide is what a server decides that reads everything anew.
func TestRolesAndFaults(t *testing.T) {
	t.Parallel()
	b, ctx := newFullBench(t), t.Context()
	servers := []*Service{b.Service, b.serve(t)}
	rng := rand.New(rand.NewPCG(5, 5))
	scopes := []authz.Scope{b.SubscriptionScope(), b.scope(t, vaultPath+"vault"), b.scope(t, vaultPath+"vault/secrets/s")}
	ids := []string{guid(), guid(), guid()}
	failed, changed := 0, 0
	for range 300 {
		i := rng.IntN(len(ids))
		s := servers[rng.IntN(len(servers))]
		b.faulty.SetPlan(storetest.Plan{Fail: 0.1, Unknown: 0.1, Lost: 0.1, Twice: 0.2})
		var err error
		if rng.IntN(2) == 0 {
			_, _, err = s.PutRoleAssignment(ctx, owner, scopes[i], ids[i], AssignmentParams{
				RoleDefinitionID: authz.RoleVaultSecretsUser, PrincipalID: otherID, PrincipalType: authz.ServicePrincipal,
			})
		} else {
			_, err = s.DeleteRoleAssignment(ctx, owner, scopes[i], ids[i])
		}
		b.faulty.SetPlan(storetest.Plan{})
		switch {
		case errors.Is(err, storetest.ErrInjected):
			failed++
		case err != nil:
			t.Fatal(err)
		default:
			changed++
		}
		fresh := b.serve(t)
		for _, secret := range []string{"s", "t"} {
			want, err := fresh.mayGet(ctx, "vault", secret, nobody)
			must(t, err)
			for _, s := range servers {
				if got, err := s.mayGet(ctx, "vault", secret, nobody); got != want || err != nil {
					t.Fatalf("%s: %v, %v, want %v", secret, got, err, want)
				}
			}
		}
	}
	if failed < 20 || changed < 100 {
		t.Errorf("%d failed and %d did not: the test tests little", failed, changed)
	}
	b.consistent(t)
}

// TestVaultWithoutScope: a vault in a group whose name no scope can have, from a release that allowed it, is open to its
// administrators and to nobody else, whatever roles there are.
func TestVaultWithoutScope(t *testing.T) {
	t.Parallel()
	b, ctx := newFullBench(t), t.Context()
	b.assign(t, b.SubscriptionScope(), authz.RoleVaultAdministrator, otherID)
	must(t, b.db.Update(ctx, func(tx store.Tx) error {
		v := *must2(b.Service.load(tx, &vaultFamily, "vault"))
		v.Name, v.ResourceGroup, v.Administrators = "odd", "gruppe ä", []string{thirdID}
		return v.store(tx)
	}))
	for who, want := range map[string]bool{ownerID: false, otherID: false, thirdID: true} {
		if ok, err := b.mayGet(ctx, "odd", "s", person(who)); ok != want || err != nil {
			t.Errorf("%s: %v, %v", who, ok, err)
		}
	}
	b.bootstrap(t, "init")
	if list, err := b.ListVaults(ctx, owner, ""); err != nil || len(list) != 1 {
		t.Errorf("the owner sees %d vaults, %v", len(list), err)
	}
	b.consistent(t)
}

func must2[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// TestSpoiledRoles makes a role and an assignment unreadable: they grant nothing, and all others hold.
func TestSpoiledRoles(t *testing.T) {
	t.Parallel()
	b, ctx := newFullBench(t), t.Context()
	bad := b.assign(t, b.scope(t, vaultPath+"vault"), authz.RoleVaultSecretsUser, otherID)
	b.assign(t, b.scope(t, vaultPath+"vault"), authz.RoleVaultSecretsUser, thirdID)
	must(t, b.faulty.Update(ctx, func(tx store.Tx) error { return tx.Put(assignmentKey(bad.ID), []byte("spoiled")) }))
	fresh := b.serve(t)
	for who, want := range map[string]bool{otherID: false, thirdID: true} {
		if ok, err := fresh.mayGet(ctx, "vault", "s", person(who)); ok != want || err != nil {
			t.Errorf("%s: %v, %v", who, ok, err)
		}
	}
}

// TestRemovalNeverWidens makes random assignments and takes them away one by one, in a random order: nobody ever gets a right by that,
// and in the end nobody has one.
func TestRemovalNeverWidens(t *testing.T) {
	t.Parallel()
	b, ctx := newFullBench(t), t.Context()
	b.vault(t, "second", func(p *PutVaultParams) { p.RBAC = new(true) })
	_, _, err := b.PutRoleDefinition(ctx, owner, b.SubscriptionScope(), "c0510000-0000-4000-8000-000000000001", authz.RoleDefinition{
		Name: "All but get", AssignableScopes: []string{b.SubscriptionScope().String()}, Permissions: []authz.PermissionSet{{
			DataActions: []string{"*"}, NotDataActions: []string{getSecret.DataAction},
		}},
	})
	must(t, err)
	rng := rand.New(rand.NewPCG(7, 7))
	roles := []string{"c0510000-0000-4000-8000-000000000001", authz.RoleVaultAdministrator, authz.RoleVaultReader, authz.RoleVaultSecretsUser,
		authz.RoleVaultCryptoUser, authz.RoleOwner}
	scopes := []string{"", "/resourceGroups/g", vaultPath + "vault", vaultPath + "second", vaultPath + "vault/secrets/s", vaultPath + "vault/keys/s"}
	groups := []string{"6e000000-0000-4000-8000-000000000001", "6e000000-0000-4000-8000-000000000002"}
	people := []Actor{nobody, third, person("0d000000-0000-4000-8000-000000000001", groups...)}
	var made []*RoleAssignment
	for range 60 {
		principal := []string{otherID, thirdID, groups[0], groups[1]}[rng.IntN(4)]
		a, _, err := b.PutRoleAssignment(ctx, owner, b.scope(t, scopes[rng.IntN(len(scopes))]), guid(), AssignmentParams{
			RoleDefinitionID: roles[rng.IntN(len(roles))], PrincipalID: principal,
			PrincipalType: []authz.PrincipalType{authz.AnyPrincipal, authz.GroupPrincipal, authz.ServicePrincipal}[rng.IntN(3)],
		})
		if err == nil {
			made = append(made, a)
		} else if !IsKind(err, RoleAssignmentExists) {
			t.Fatal(err)
		}
	}
	permissions := []authz.Permission{
		getSecret,
		{Object: "secrets", Verb: "list", DataAction: "Microsoft.KeyVault/vaults/secrets/readMetadata/action"},
		{Object: "keys", Verb: "encrypt", DataAction: "Microsoft.KeyVault/vaults/keys/encrypt/action", AsymmetricAction: "Microsoft.KeyVault/vaults/keys/read"},
	}
	rights := func() map[string]bool {
		out := make(map[string]bool)
		must(t, b.db.View(ctx, func(r store.Reader) error {
			for _, vault := range []string{"vault", "second"} {
				v, err := b.Load(r, vault)
				if err != nil {
					return err
				}
				for i, who := range people {
					for _, p := range permissions {
						for _, name := range []string{"", "s", "t"} {
							d, err := b.Decide(r, v, who.subject(), p, p.Object, name)
							if err != nil {
								return err
							}
							where := fmt.Sprint(vault, i, p, name)
							out[where], out[where+" asymmetric"] = d.Allowed, d.Allowed || d.IfAsymmetric
						}
					}
				}
			}
			return nil
		}))
		return out
	}
	before := rights()
	lost := 0
	rng.Shuffle(len(made), func(i, j int) { made[i], made[j] = made[j], made[i] })
	for _, a := range made {
		_, err := b.DeleteRoleAssignment(ctx, owner, a.Scope, a.ID)
		must(t, err)
		after := rights()
		for right, has := range after {
			if has && !before[right] {
				t.Fatalf("removing %+v gives %s", a.Assignment, right)
			}
			if !has && before[right] {
				lost++
			}
		}
		before = after
	}
	for right, has := range before {
		if has {
			t.Errorf("without any assignment: %s", right)
		}
	}
	if lost < 20 {
		t.Errorf("only %d rights were lost: the test tests little", lost)
	}
}

// TestOnRecord checks that what is changed is announced, and that an operator's outcome is recorded, which no request stands behind.
func TestOnRecord(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	v := b.vault(t, "vault")
	_, err := b.ChangeAdministrators(ctx, operator, "vault", []string{otherID}, nil)
	must(t, err)
	if l := b.lines(t, "VaultPut"); len(l) != 1 || l[0].Category != "AuditIntent" || l[0].ResourceID != v.Resource() {
		t.Errorf("of the creation: %+v", l)
	}
	if l := b.lines(t, "VaultPatch"); len(l) != 2 || l[1].ResultType != "Success" {
		t.Errorf("of the change: %+v", l)
	}
	if l := b.lines(t, "RoleAssignmentPut"); len(l) != 2 {
		t.Errorf("of the first assignment: %+v", l)
	}
	_, err = b.ChangeAdministrators(ctx, owner, "vault", []string{otherID}, nil)
	wantKind(t, err, AuthorizationFailed)
}

// TestDecisionsAreCheap: a decision opens and decodes no record that it has seen.
func TestDecisionsAreCheap(t *testing.T) {
	b := newFullBench(t)
	b.assign(t, b.scope(t, vaultPath+"vault"), authz.RoleVaultSecretsUser, otherID)
	must(t, b.db.View(t.Context(), func(r store.Reader) error {
		decide := func() {
			v, err := b.Load(r, "vault")
			must(t, err)
			d, err := b.Decide(r, v, nobody.subject(), getSecret, "secrets", "s")
			must(t, err)
			if !d.Allowed {
				t.Error(d.Reason)
			}
		}
		decide()
		const most = 10 // keys, and what the store's driver needs to look one up; to open a record takes twenty
		if n := testing.AllocsPerRun(100, decide); n > most {
			t.Errorf("%g allocations", n)
		}
		return nil
	}))
}

func BenchmarkDecide(b *testing.B) {
	bn := newFullBench(b)
	for i := range 500 {
		bn.assign(b, bn.scope(b, vaultPath+"vault"), authz.RoleVaultSecretsUser, "0ddba110-0000-4000-8000-"+leftPad(i))
	}
	who := person("0ddba110-0000-4000-8000-" + leftPad(400)).subject()
	err := bn.db.View(b.Context(), func(r store.Reader) error {
		b.ReportAllocs()
		for b.Loop() {
			v, err := bn.Load(r, "vault")
			if err != nil {
				return err
			}
			if d, err := bn.Decide(r, v, who, getSecret, "secrets", "s"); err != nil || !d.Allowed {
				b.Fatal(d, err)
			}
		}
		return nil
	})
	must(b, err)
}

// A directory knows some principals.
type directory map[string]authz.PrincipalType

func (d directory) PrincipalType(_ context.Context, id string) (authz.PrincipalType, error) {
	return d[id], nil
}

// TestTypesByHearsay: who is limited to a type of principals cannot say of a principal that nobody here knows that it is one.
func TestTypesByHearsay(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.cfg.Principals = directory{thirdID: authz.ServicePrincipal}
	sub := b.SubscriptionScope()
	const id, stranger = "a5516e00-0000-4000-8000-00000000000a", "0e0e0000-0000-4000-8000-00000000000e"
	clause := func(action, source, types string) string {
		return `((!(ActionMatches{'Microsoft.Authorization/roleAssignments/` + action + `'})) OR (` +
			`@` + source + `[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals {` + authz.RoleReader + `} AND ` +
			`@` + source + `[Microsoft.Authorization/roleAssignments:PrincipalType] ForAnyOfAnyValues:StringEqualsIgnoreCase {` + types + `}))`
	}
	params := func(principal string, kind authz.PrincipalType) AssignmentParams {
		return AssignmentParams{RoleDefinitionID: authz.RoleReader, PrincipalID: principal, PrincipalType: kind}
	}
	for name, c := range map[string]struct {
		types, principal string
		said             authz.PrincipalType
		allowed          bool
	}{
		"of the directory":                  {`'ServicePrincipal'`, thirdID, authz.ServicePrincipal, true},
		"of the directory, type not said":   {`'ServicePrincipal'`, thirdID, authz.AnyPrincipal, true},
		"of the directory, other type":      {`'User', 'Group'`, thirdID, authz.AnyPrincipal, false},
		"stranger said to be a user":        {`'User'`, stranger, authz.UserPrincipal, false},
		"stranger said to be a group":       {`'Group'`, stranger, authz.GroupPrincipal, false},
		"stranger said to be what may be":   {`'ServicePrincipal'`, stranger, authz.ServicePrincipal, false},
		"stranger, type not said":           {`'User', 'Group', 'ServicePrincipal'`, stranger, authz.AnyPrincipal, false},
		"stranger, whatever is said of him": {`'User', 'Group', 'ServicePrincipal'`, stranger, authz.UserPrincipal, false},
	} {
		p := params(otherID, authz.ServicePrincipal)
		p.RoleDefinitionID, p.ConditionVersion = authz.RoleOwner, authz.ConditionVersion
		p.Condition = clause("write", "Request", c.types) + " AND " + clause("delete", "Resource", c.types)
		limit, _, err := b.PutRoleAssignment(ctx, owner, sub, guid(), p)
		must(t, err)
		check := func(what string, err error) {
			t.Helper()
			if (err == nil) != c.allowed || err != nil && !IsKind(err, AuthorizationFailed) {
				t.Errorf("%s: %s: %v", name, what, err)
			}
		}
		_, _, err = b.PutRoleAssignment(ctx, nobody, sub, id, params(c.principal, c.said))
		check("make", err)
		_, _, err = b.PutRoleAssignment(ctx, owner, sub, id, params(c.principal, c.said)) // it is there now
		must(t, err)
		_, _, err = b.PutRoleAssignment(ctx, nobody, sub, id, params(c.principal, c.said))
		check("change", err)
		_, err = b.DeleteRoleAssignment(ctx, nobody, sub, id)
		check("remove", err)
		for _, a := range []string{id, limit.ID} {
			_, err = b.DeleteRoleAssignment(ctx, owner, sub, a)
			must(t, err)
		}
	}
}

// TestIgnoredIsTold: what grants nothing is logged at the start and when it changes, and never more of it than a few lines.
func TestIgnoredIsTold(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	breakSome := func(from, to int) {
		t.Helper()
		must(t, b.db.Update(ctx, func(tx store.Tx) error {
			for i := from; i < to; i++ {
				a := RoleAssignment{Assignment: authz.Assignment{
					ID: fmt.Sprintf("a5516e00-0000-4000-8000-%012d", i), Scope: b.SubscriptionScope(), PrincipalID: otherID, RoleID: guid(),
				}}
				if err := record.Put(tx, assignmentKey(a.ID), a.record()); err != nil {
					return err
				}
			}
			return newGeneration(tx)
		}))
	}
	breakSome(0, 2)
	var log bytes.Buffer
	s := b.serve(t)
	s.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	lines := func(want int) {
		t.Helper()
		if sees, err := s.SeesSubscription(ctx, owner); !sees || err != nil {
			t.Error(sees, err)
		}
		if got := strings.Count(log.String(), "\n"); got != want {
			t.Errorf("%d lines, want %d: %s", got, want, &log)
		}
		log.Reset()
	}
	_, err := s.Bootstrap(ctx, "tester", ownerID)
	must(t, err)
	if !strings.Contains(log.String(), "there is no role definition") {
		t.Errorf("the reason is not told: %s", &log)
	}
	lines(2)
	_, _, err = b.PutGroup(ctx, owner, Group{Name: "h", Location: "local"})
	must(t, err)
	b.assign(t, b.SubscriptionScope(), authz.RoleReader, thirdID) // compiled again, and nothing new to tell
	lines(0)
	breakSome(2, 100)
	lines(11)
	lines(0)
}
