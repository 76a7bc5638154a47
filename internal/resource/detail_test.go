package resource

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/store"
)

// TestDetails: who gets or loses which rights is on record before it happens, and told to who records the outcome, also of
// somebody who may not.
func TestDetails(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.vault(t, "vault")
	b.vault(t, "gone")
	_, err := b.DeleteVault(ctx, owner, "g", "gone")
	must(t, err)
	sub := b.SubscriptionScope()
	const assignment, role = "a5516e00-0000-4000-8000-00000000000a", "c0510000-0000-4000-8000-000000000001"
	policy := authz.AccessPolicy{TenantID: tenant, ObjectID: otherID, ApplicationID: thirdID, Keys: []string{"get"}, Secrets: []string{"all", "purge"}}
	assigned := "principal " + otherID + " (ServicePrincipal) role " + authz.RoleReader + " scope " + sub.String()
	defined := `role "Custom" at ` + sub.String() + ` actions */read notActions Microsoft.Authorization/*`
	granted := "1 access policies; principal " + otherID + " application " + thirdID + " keys get secrets all purge"
	get := func(_ any, err error) error { return err }
	for _, c := range []struct {
		operation, detail string
		act               func(Actor) error
	}{
		{"RoleAssignmentPut", assigned, func(a Actor) error {
			_, _, err := b.PutRoleAssignment(ctx, a, sub, assignment, AssignmentParams{
				RoleDefinitionID: authz.RoleReader, PrincipalID: otherID, PrincipalType: authz.ServicePrincipal,
			})
			return err
		}},
		{"RoleAssignmentDelete", assigned, func(a Actor) error { return get(b.DeleteRoleAssignment(ctx, a, sub, assignment)) }},
		{"RoleDefinitionPut", defined, func(a Actor) error {
			_, _, err := b.PutRoleDefinition(ctx, a, sub, role, authz.RoleDefinition{
				Name: "Custom", AssignableScopes: []string{sub.String()},
				Permissions: []authz.PermissionSet{{Actions: []string{"*/read"}, NotActions: []string{"Microsoft.Authorization/*"}}},
			})
			return err
		}},
		{"RoleDefinitionDelete", defined, func(a Actor) error { return get(b.DeleteRoleDefinition(ctx, a, sub, role)) }},
		{"VaultAccessPolicyPut", "add " + granted, func(a Actor) error {
			return get(b.ChangeAccessPolicies(ctx, a, "g", "vault", AddPolicies, []authz.AccessPolicy{policy}))
		}},
		{"VaultPatch", granted, func(a Actor) error {
			return get(b.PatchVault(ctx, a, "g", "vault", PatchVaultParams{AccessPolicies: []authz.AccessPolicy{policy}}))
		}},
		{"VaultPut", "roles decide: false, public network access: Disabled, " + granted, func(a Actor) error {
			_, _, err := b.PutVault(ctx, a, "g", "vault", PutVaultParams{
				RBAC: new(false), PublicNetworkAccess: new("Disabled"), AccessPolicies: []authz.AccessPolicy{policy},
			})
			return err
		}},
		{"VaultRecover", "", func(a Actor) error {
			_, _, err := b.PutVault(ctx, a, "g", "gone", PutVaultParams{Recover: true})
			return err
		}},
		{"GroupPut", "", func(a Actor) error { _, _, err := b.PutGroup(ctx, a, Group{Name: "h", Location: "local"}); return err }},
		{"GroupPatch", "", func(a Actor) error { return get(b.UpdateGroupTags(ctx, a, "h", map[string]string{"a": "b"})) }},
		{"GroupDelete", "", func(a Actor) error { return b.DeleteGroup(ctx, a, "h") }},
	} {
		for _, who := range []Actor{nobody, owner} {
			before, told := len(b.lines(t, c.operation)), [2]string{}
			who.Note = func(operation, detail string) { told = [2]string{operation, detail} }
			err := c.act(who)
			want := [2]string{c.operation, c.detail}
			if err != nil && c.operation == "GroupDelete" { // refused before it is known what is in the group
				want = [2]string{}
			}
			if diff := cmp.Diff(want, told); diff != "" {
				t.Errorf("%s: told (-want +got):\n%s", c.operation, diff)
			}
			l := b.lines(t, c.operation)[before:]
			if who.Caller == nobody.Caller {
				wantKind(t, err, AuthorizationFailed)
				if len(l) != 0 {
					t.Errorf("%s: announced by somebody who may not: %+v", c.operation, l)
				}
				continue
			}
			must(t, err)
			if len(l) != 1 || l[0].Category != "AuditIntent" || l[0].Properties.Detail != c.detail {
				t.Errorf("%s: on record: %+v", c.operation, l)
			}
		}
	}
}

// TestDetailsAreBounded: as much as a request can hold is not written down.
func TestDetailsAreBounded(t *testing.T) {
	t.Parallel()
	in := settings{PatchVaultParams: PatchVaultParams{AccessPolicies: make([]authz.AccessPolicy, authz.MaxAccessPolicies)}}
	def := authz.RoleDefinition{Name: strings.Repeat("n", 1<<20), AssignableScopes: []string{strings.Repeat("s", 1<<20)}}
	for i := range in.AccessPolicies {
		in.AccessPolicies[i] = authz.AccessPolicy{ObjectID: fmt.Sprint(i), Secrets: []string{"get", "set"}}
		def.Permissions = append(def.Permissions, authz.PermissionSet{Actions: []string{strings.Repeat("a", 1000)}})
	}
	long := &RoleAssignment{Assignment: authz.Assignment{Condition: strings.Repeat("\x00", 1<<20)}}
	for _, text := range []string{in.detail(), definitionDetail(def), long.detail(), administratorsDetail(def.AssignableScopes, nil)} {
		if len(text) > 3*maxDetail {
			t.Errorf("%d bytes: %.100s", len(text), text)
		}
	}
	if text := in.detail(); !strings.HasPrefix(text, "1024 access policies; principal 0 secrets get set;") || !strings.HasSuffix(text, " …") {
		t.Error(text)
	}
}

// TestAnotherMeanwhile: what was put on record for one assignment is not done to another that has its id by now.
func TestAnotherMeanwhile(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	sub := b.SubscriptionScope()
	const id = "a5516e00-0000-4000-8000-00000000000a"
	put := func(principal string) {
		_, _, err := b.PutRoleAssignment(ctx, owner, sub, id, AssignmentParams{
			RoleDefinitionID: authz.RoleReader, PrincipalID: principal, PrincipalType: authz.ServicePrincipal,
		})
		must(t, err)
	}
	put(otherID)
	slow := b.hooked(t, func() {
		_, err := b.DeleteRoleAssignment(ctx, owner, sub, id)
		must(t, err)
		put(thirdID)
	})
	_, err := slow.DeleteRoleAssignment(ctx, owner, sub, id)
	wantKind(t, err, ConflictError)
	must(t, b.db.View(ctx, func(r store.Reader) error {
		state, err := b.rolesIn(r)
		if err == nil && (state.assignment(id) == nil || state.assignment(id).PrincipalID != thirdID) {
			t.Error("the other one is gone")
		}
		return err
	}))
}
