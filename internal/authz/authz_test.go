package authz

import (
	"strings"
	"testing"
)

const (
	tenant    = "0a1b2c3d-0000-4000-8000-000000000001"
	principal = "22222222-0000-4000-8000-00000000000a"
	group     = "33333333-0000-4000-8000-00000000000b"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	get := Permission{Object: "secrets", Verb: "get"}
	for name, c := range map[string]struct {
		administrators []string
		subject        Subject
		allowed        bool
	}{
		"principal":                 {[]string{group, principal}, Subject{TenantID: tenant, ObjectID: principal, Groups: nil}, true},
		"principal in capitals":     {[]string{principal}, Subject{TenantID: strings.ToUpper(tenant), ObjectID: strings.ToUpper(principal), Groups: nil}, true},
		"group":                     {[]string{"x", "group:" + group}, Subject{TenantID: tenant, ObjectID: "y", Groups: []string{"z", group}}, true},
		"group in capitals":         {[]string{"GROUP:" + group}, Subject{TenantID: tenant, ObjectID: "y", Groups: []string{strings.ToUpper(group)}}, true},
		"nobody is listed":          {nil, Subject{TenantID: tenant, ObjectID: principal, Groups: []string{group}}, false},
		"somebody else":             {[]string{principal + "0", group}, Subject{TenantID: tenant, ObjectID: principal, Groups: nil}, false},
		"other tenant":              {[]string{principal}, Subject{TenantID: "t", ObjectID: principal, Groups: nil}, false},
		"group of another tenant":   {[]string{"group:" + group}, Subject{TenantID: "t", ObjectID: "y", Groups: []string{group}}, false},
		"principal's id as a group": {[]string{principal}, Subject{TenantID: tenant, ObjectID: "y", Groups: []string{principal}}, false},
		"group's id as a principal": {[]string{"group:" + group}, Subject{TenantID: tenant, ObjectID: group, Groups: nil}, false},
		"whole entry as principal":  {[]string{"group:" + group}, Subject{TenantID: tenant, ObjectID: "group:" + group, Groups: nil}, false},
		"same with a capital":       {[]string{"Group:" + group}, Subject{TenantID: tenant, ObjectID: "Group:" + group, Groups: nil}, false},
		"whole entry as group":      {[]string{"group:" + group}, Subject{TenantID: tenant, ObjectID: "y", Groups: []string{"group:" + group}}, false},
		"empty entry":               {[]string{""}, Subject{TenantID: tenant, ObjectID: "", Groups: []string{""}}, false},
		"empty group":               {[]string{"group:"}, Subject{TenantID: tenant, ObjectID: "y", Groups: []string{""}}, false},
		"nobody":                    {[]string{"group:" + group}, Subject{TenantID: tenant, ObjectID: "", Groups: []string{group}}, false},
	} {
		d := decideAll(Policy{TenantID: tenant, Administrators: c.administrators}, c.subject, get)
		if d.Allowed != c.allowed || d.Reason == "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if d := decideAll(Policy{TenantID: tenant}, Subject{TenantID: tenant, ObjectID: principal}, get); !strings.Contains(d.Reason, "secrets get") {
		t.Errorf("the reason %q does not name the permission", d.Reason)
	}
	if decideAll(Policy{Administrators: []string{principal}}, Subject{TenantID: tenant, ObjectID: principal}, get).Allowed {
		t.Error("allowed in a vault without tenant")
	}
}

// TestModels puts the same principal into both models of one vault, and sees that each is asked alone.
func TestModels(t *testing.T) {
	t.Parallel()
	get := Permission{Object: "secrets", Verb: "get", DataAction: "Microsoft.KeyVault/vaults/secrets/getSecret/action"}
	caller := Subject{TenantID: tenant, ObjectID: principal}
	policies, err := CompileAccessPolicies(tenant, []AccessPolicy{{TenantID: tenant, ObjectID: principal, Secrets: []string{"get"}}})
	if err != nil {
		t.Fatal(err)
	}
	vault := mustParseScope(t, vaultA)
	roles := compile(t, nil, give(RoleVaultSecretsUser, principal, vaultA))
	for name, c := range map[string]struct {
		policy  Policy
		allowed bool
	}{
		"nothing":                           {Policy{}, false},
		"policy":                            {Policy{AccessPolicies: policies}, true},
		"policy in the other model":         {Policy{Model: RoleModel, AccessPolicies: policies, Scope: vault}, false},
		"role":                              {Policy{Model: RoleModel, Roles: roles, Scope: vault}, true},
		"role in the other model":           {Policy{Roles: roles, Scope: vault}, false},
		"role without the vault's scope":    {Policy{Model: RoleModel, Roles: roles}, false},
		"both in a model that is unknown":   {Policy{Model: 7, AccessPolicies: policies, Roles: roles, Scope: vault}, false},
		"administrator in neither":          {Policy{Administrators: []string{principal}}, true},
		"administrator in the role model":   {Policy{Model: RoleModel, Administrators: []string{principal}}, true},
		"administrator by a group in roles": {Policy{Model: RoleModel, Administrators: []string{"group:" + principal}}, false},
	} {
		c.policy.TenantID = tenant
		if d := decideAll(c.policy, caller, get); d.Allowed != c.allowed || d.Reason == "" {
			t.Errorf("%s: %+v", name, d)
		}
		c.policy.TenantID = otherTenant
		if d := decideAll(c.policy, caller, get); d.Allowed {
			t.Errorf("%s, in another tenant: %+v", name, d)
		}
	}
}

func TestDecideAtScopes(t *testing.T) {
	t.Parallel()
	get := Permission{Object: "secrets", Verb: "get", DataAction: "Microsoft.KeyVault/vaults/secrets/getSecret/action"}
	caller := Subject{TenantID: tenant, ObjectID: principal}
	a, b := mustParseScope(t, vaultA), mustParseScope(t, vaultB)
	roles := compile(t, nil, give(RoleVaultSecretsUser, principal, vaultA+"/secrets/mine"), give(RoleVaultSecretsUser, principal, vaultB))
	policy := Policy{TenantID: tenant, Model: RoleModel, Roles: roles, Scope: a}
	for name, c := range map[string]struct {
		scope   Scope
		allowed bool
	}{
		"the secret":                  {a.Object("secrets", "MINE"), true},
		"another one":                 {a.Object("secrets", "mine2"), false},
		"a key of that name":          {a.Object("keys", "mine"), false},
		"the vault":                   {a, false},
		"another vault, where it may": {b, false},
		"no scope":                    {Scope{}, false},
		"the group":                   {a.In(GroupScope), false},
	} {
		d := Decide(policy, caller, get, c.scope)
		if d.Allowed != c.allowed || d.Reason == "" || c.allowed != (d.Role == "Key Vault Secrets User") || c.allowed != (d.AssignmentID != "") {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestAsymmetric is about what a reader of a key may do with its public part.
func TestAsymmetric(t *testing.T) {
	t.Parallel()
	const keys = "Microsoft.KeyVault/vaults/keys/"
	encrypt := Permission{Object: "keys", Verb: "encrypt", DataAction: keys + "encrypt/action", AsymmetricAction: keys + "read"}
	decrypt := Permission{Object: "keys", Verb: "decrypt", DataAction: keys + "decrypt/action"}
	caller := Subject{TenantID: tenant, ObjectID: principal}
	for name, c := range map[string]struct {
		role                           string
		permission                     Permission
		allowed, allowedWithAsymmetric bool
	}{
		"user":                       {RoleVaultCryptoUser, encrypt, true, false},
		"reader":                     {RoleVaultReader, encrypt, false, true},
		"reader, private part":       {RoleVaultReader, decrypt, false, false},
		"certificate user":           {RoleVaultCertificateUser, encrypt, false, true},
		"somebody who reads no keys": {RoleVaultSecretsOfficer, encrypt, false, false},
		"owner":                      {RoleOwner, encrypt, false, false},
	} {
		policy := Policy{
			TenantID: tenant, Model: RoleModel, Scope: mustParseScope(t, vaultA),
			Roles: compile(t, nil, give(c.role, principal, vaultA)),
		}
		d := Decide(policy, caller, c.permission, policy.Scope.Object("keys", "k"))
		if d.Allowed != c.allowed || d.IfAsymmetric != c.allowedWithAsymmetric {
			t.Errorf("%s: %+v", name, d)
		}
	}
	policies, err := CompileAccessPolicies(tenant, []AccessPolicy{{TenantID: tenant, ObjectID: principal, Keys: []string{"get"}}})
	if err != nil {
		t.Fatal(err)
	}
	if d := decideAll(Policy{TenantID: tenant, AccessPolicies: policies}, caller, encrypt); d.Allowed || d.IfAsymmetric {
		t.Errorf("an access policy for get allows encrypt: %+v", d)
	}
}

func TestEqualFold(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{"", "", true}, {"aZ09-", "Az09-", true}, {"a", "b", false}, {"a", "", false},
		{"k", "\u212a", false},                                            // Kelvin sign
		{"s", "\u017f", false},                                            // long s
		{"\u00e4", "\u00c4", false}, {"[", "{", false}, {"@", "`", false}, // neighbours of the letters
	} {
		if equalFold(c.a, c.b) != c.same || equalFold(c.b, c.a) != c.same {
			t.Errorf("%q and %q: %v", c.a, c.b, !c.same)
		}
	}
}
