package authz

import (
	"fmt"
	"testing"
)

// benchRoles has as many assignments as two full subscriptions of Azure and some, spread over people and scopes, and three
// of one person.
func benchRoles(tb testing.TB) *Roles {
	tb.Helper()
	w := newWorld(8)
	roles := BuiltInRoles()
	var list []Assignment
	for i := range 10_000 {
		scope := fmt.Sprintf("%s/providers/Microsoft.KeyVault/vaults/vault-%d", groupA, i%500)
		if i%2 == 0 {
			scope += fmt.Sprintf("/secrets/secret-%d", i)
		}
		list = append(list, assignment(tb, i, give(roles[i%len(roles)].ID, w.newID(), scope)))
	}
	for i, g := range []given{
		give(RoleReader, principal, sub), give(RoleVaultCryptoUser, principal, groupA), give(RoleVaultSecretsUser, principal, vaultA),
	} {
		list = append(list, assignment(tb, 20_000+i, g))
	}
	return compileAll(tb, nil, list)
}

func benchGroups(n int) []string {
	w := newWorld(9)
	groups := make([]string, n)
	for i := range groups {
		groups[i] = w.newID()
	}
	return groups
}

// benchPermissions are for somebody who may read secrets in the vault and use its keys.
var benchPermissions = []struct {
	name       string
	permission Permission
	collection string
	allowed    bool
}{
	{"read a secret", Permission{Object: "secrets", Verb: "get", DataAction: "Microsoft.KeyVault/vaults/secrets/getSecret/action"}, "secrets", true},
	{"sign", Permission{Object: "keys", Verb: "sign", DataAction: "Microsoft.KeyVault/vaults/keys/sign/action"}, "keys", true},
	{"set a secret", Permission{Object: "secrets", Verb: "set", DataAction: "Microsoft.KeyVault/vaults/secrets/setSecret/action"}, "secrets", false},
}

func BenchmarkDecideByRole(b *testing.B) {
	policy := Policy{TenantID: tenant, Model: RoleModel, Roles: benchRoles(b), Scope: mustParseScope(b, vaultA)}
	for _, groups := range []int{0, 10, 256} {
		caller := Subject{TenantID: tenant, ObjectID: principal, Groups: benchGroups(groups)}
		for _, c := range benchPermissions {
			b.Run(fmt.Sprintf("%s/groups=%d", c.name, groups), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if Decide(policy, caller, c.permission, policy.Scope.Object(c.collection, "name")).Allowed != c.allowed {
						b.Fatal("wrong")
					}
				}
			})
		}
	}
}

func BenchmarkDecideByAccessPolicy(b *testing.B) {
	var list []AccessPolicy
	for _, id := range benchGroups(MaxAccessPolicies - 1) {
		list = append(list, AccessPolicy{ObjectID: id, Keys: []string{"all"}})
	}
	policy := compilePolicies(b, append(list, AccessPolicy{ObjectID: principal, Secrets: []string{"get"}})...)
	caller := Subject{TenantID: tenant, ObjectID: principal}
	b.ReportAllocs()
	for b.Loop() {
		if !decideAll(policy, caller, benchPermissions[0].permission).Allowed {
			b.Fatal("denied")
		}
	}
}

func BenchmarkDecideByAdministrator(b *testing.B) {
	policy := Policy{TenantID: tenant, Administrators: []string{principal}}
	caller := Subject{TenantID: tenant, ObjectID: principal}
	b.ReportAllocs()
	for b.Loop() {
		if !decideAll(policy, caller, benchPermissions[0].permission).Allowed {
			b.Fatal("denied")
		}
	}
}

func BenchmarkCompile(b *testing.B) {
	r := BuiltInRoles()
	var list []Assignment
	for i, id := range benchGroups(10_000) {
		list = append(list, assignment(b, i, give(r[i%len(r)].ID, id, vaultA)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if len(Compile(tenant, r, list).Ignored()) > 0 {
			b.Fatal("ignored")
		}
	}
}

func BenchmarkParseScope(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseScope(vaultA + "/secrets/name"); err != nil {
			b.Fatal(err)
		}
	}
}

// TestDecisionsDoNotAllocate: what is asked for each request leaves nothing to collect.
func TestDecisionsDoNotAllocate(t *testing.T) { // not in parallel: it counts what the process allocates
	policy := Policy{TenantID: tenant, Model: RoleModel, Roles: benchRoles(t), Scope: mustParseScope(t, vaultA)}
	caller := Subject{TenantID: tenant, ObjectID: principal, Groups: benchGroups(10)}
	for _, c := range benchPermissions {
		n := testing.AllocsPerRun(100, func() {
			if Decide(policy, caller, c.permission, policy.Scope.Object(c.collection, "name")).Allowed != c.allowed {
				t.Fatal("wrong")
			}
		})
		if n != 0 {
			t.Errorf("%s allocates %v times", c.name, n)
		}
	}
}
