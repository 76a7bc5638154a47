package authz

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestValidateRole(t *testing.T) {
	t.Parallel()
	subscriptionID := strings.TrimPrefix(sub, "/subscriptions/")
	good := func() RoleDefinition {
		return RoleDefinition{
			ID: testID(1), Name: "Secrets: nur lesen (äöü)", Description: "…", AssignableScopes: []string{sub, groupA, vaultA},
			Permissions: []PermissionSet{{DataActions: []string{"Microsoft.KeyVault/vaults/secrets/*/action"}}},
		}
	}
	for name, change := range map[string]func(d *RoleDefinition){
		"":                             func(*RoleDefinition) {},
		" control actions only":        func(d *RoleDefinition) { d.Permissions = []PermissionSet{{Actions: []string{"*"}}} },
		" longest name":                func(d *RoleDefinition) { d.Name = strings.Repeat("ä", MaxRoleName) },
		" longest description":         func(d *RoleDefinition) { d.Description = strings.Repeat("ä\n", MaxRoleDescription/2) },
		"no id":                        func(d *RoleDefinition) { d.ID = "" },
		"id in braces":                 func(d *RoleDefinition) { d.ID = "{" + d.ID + "}" },
		"id of nobody":                 func(d *RoleDefinition) { d.ID = "00000000-0000-0000-0000-000000000000" },
		"built in":                     func(d *RoleDefinition) { d.BuiltIn = true },
		"id of a built-in role":        func(d *RoleDefinition) { d.ID = strings.ToUpper(RoleOwner) },
		"name of a built-in role":      func(d *RoleDefinition) { d.Name = " key vault READER" },
		"look-alike of a built-in one": func(d *RoleDefinition) { d.Name = "\u212aey Vault Reader" },
		"no name":                      func(d *RoleDefinition) { d.Name = "" },
		"name of space":                func(d *RoleDefinition) { d.Name = "  " },
		"name of two lines":            func(d *RoleDefinition) { d.Name = "a\nb" },
		"name of a hidden direction":   func(d *RoleDefinition) { d.Name = "a\u202eb" },
		"name that is no text":         func(d *RoleDefinition) { d.Name = "a\xff" },
		"name too long":                func(d *RoleDefinition) { d.Name = strings.Repeat("a", MaxRoleName+1) },
		"description too long":         func(d *RoleDefinition) { d.Description = strings.Repeat("a", MaxRoleDescription+1) },
		"description that is no text":  func(d *RoleDefinition) { d.Description = "\xff" },
		"no scopes":                    func(d *RoleDefinition) { d.AssignableScopes = nil },
		"root":                         func(d *RoleDefinition) { d.AssignableScopes = []string{sub, "/"} },
		"another subscription":         func(d *RoleDefinition) { d.AssignableScopes = []string{otherSub} },
		"malformed scope":              func(d *RoleDefinition) { d.AssignableScopes[1] += "/" },
		"too many scopes":              func(d *RoleDefinition) { d.AssignableScopes = slices.Repeat([]string{sub}, MaxAssignableScopes+1) },
		"no permissions":               func(d *RoleDefinition) { d.Permissions = nil },
		"empty permissions":            func(d *RoleDefinition) { d.Permissions = []PermissionSet{{}} },
		"nothing but exceptions": func(d *RoleDefinition) {
			d.Permissions = []PermissionSet{{NotActions: []string{"*"}, NotDataActions: []string{"*"}}}
		},
		"too many permissions":        func(d *RoleDefinition) { d.Permissions = slices.Repeat(d.Permissions, maxPermissionSets+1) },
		"too many actions":            func(d *RoleDefinition) { d.Permissions[0].Actions = slices.Repeat([]string{"*"}, maxPatterns+1) },
		"malformed action":            func(d *RoleDefinition) { d.Permissions[0].Actions = []string{"read"} },
		"malformed exception":         func(d *RoleDefinition) { d.Permissions[0].NotActions = []string{"a//b"} },
		"malformed data action":       func(d *RoleDefinition) { d.Permissions[0].DataActions = []string{"\u212aeys/read"} },
		"malformed exception of data": func(d *RoleDefinition) { d.Permissions[0].NotDataActions = []string{"**"} },
		"condition": func(d *RoleDefinition) {
			d.Permissions[0].Condition, d.Permissions[0].ConditionVersion = dataAccessCondition(), ConditionVersion
		},
	} {
		d := good()
		change(&d)
		valid := name == "" || name[0] == ' '
		if err := d.Validate(subscriptionID); (err == nil) != valid || err != nil && !isInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	d := good()
	if err := d.Validate("x"); err == nil {
		t.Error("valid in a subscription that is none")
	}
}

// TestCompileIgnores: what is malformed grants nothing, is reported, and takes nothing else with it.
func TestCompileIgnores(t *testing.T) {
	t.Parallel()
	s := Subject{TenantID: tenant, ObjectID: principal}
	const read = "Microsoft.KeyVault/vaults/read"
	owner := assignment(t, 1, give(RoleOwner, principal, sub))
	narrow := customRole(7, PermissionSet{Actions: []string{"*"}})
	narrow.AssignableScopes = []string{groupA}
	for name, change := range map[string]func(a *Assignment){
		"id":                         func(a *Assignment) { a.ID = "x" },
		"principal":                  func(a *Assignment) { a.PrincipalID = "x" },
		"nobody":                     func(a *Assignment) { a.PrincipalID = "00000000-0000-0000-0000-000000000000" },
		"principal type":             func(a *Assignment) { a.PrincipalType = "Device" },
		"role":                       func(a *Assignment) { a.RoleID = "x" },
		"role that there is not":     func(a *Assignment) { a.RoleID = testID(99) },
		"no scope":                   func(a *Assignment) { a.Scope = Scope{} },
		"scope outside of the role":  func(a *Assignment) { a.RoleID = narrow.ID },
		"condition":                  func(a *Assignment) { a.Condition, a.ConditionVersion = "true", ConditionVersion },
		"condition of another level": func(a *Assignment) { a.Condition, a.ConditionVersion = dataAccessCondition(), "1.0" },
		"condition without a level":  func(a *Assignment) { a.Condition = dataAccessCondition() },
	} {
		a := owner
		change(&a)
		r := Compile(tenant, append(BuiltInRoles(), narrow), []Assignment{a})
		if r.Allowed(s, Control, read, mustParseScope(t, sub)).Allowed || len(r.Ignored()) != 1 || !isInvalid(r.Ignored()[0]) {
			t.Errorf("%s: %v", name, r.Ignored())
		}
		if err := compile(t, []RoleDefinition{narrow}, give(RoleOwner, principal, "/")).CanAssign(s, a); !isInvalid(err) {
			t.Errorf("%s: an owner can assign it: %v", name, err)
		}
		r = Compile(tenant, append(BuiltInRoles(), narrow), []Assignment{a, owner})
		if !r.Allowed(s, Control, read, mustParseScope(t, sub)).Allowed {
			t.Errorf("%s: takes away a good assignment", name)
		}
	}
	usurper := customRole(8, PermissionSet{DataActions: []string{"*"}})
	usurper.ID, usurper.AssignableScopes = RoleReader, []string{"/"}
	r := Compile(tenant, append(BuiltInRoles(), usurper), []Assignment{assignment(t, 1, give(RoleReader, principal, sub))})
	if r.Allowed(s, Data, read, mustParseScope(t, sub)).Allowed || len(r.Ignored()) != 1 {
		t.Errorf("a second definition counts: %v", r.Ignored())
	}
	broken := customRole(9, PermissionSet{Actions: []string{"*", "\u212a"}})
	r = Compile(tenant, []RoleDefinition{broken}, []Assignment{assignment(t, 1, give(broken.ID, principal, sub))})
	if r.Allowed(s, Control, read, mustParseScope(t, sub)).Allowed || len(r.Ignored()) != 2 {
		t.Errorf("a broken definition counts: %v", r.Ignored())
	}
	if d := (*Roles)(nil).Allowed(s, Control, read, Root); d.Allowed || d.Reason == "" {
		t.Errorf("no roles: %+v", d)
	}
}

func TestErrorsAreBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("\u212a", 100000)
	_, scope := ParseScope(long[:500])
	_, pattern := parsePattern(long[:250])
	_, condition := ParseCondition(long, long)
	_, text := ParseCondition(ConditionVersion, long[:8000])
	_, rule := ParseIPRule(long)
	_, policies := CompileAccessPolicies(tenant, []AccessPolicy{{TenantID: long}})
	d := RoleDefinition{ID: long}
	r := Compile(tenant, nil, []Assignment{{ID: long, PrincipalID: long}})
	for i, err := range append([]error{scope, pattern, condition, text, rule, policies, d.Validate(long)}, r.Ignored()...) {
		if err == nil || len(err.Error()) > 1000 {
			t.Error(i, fmt.Sprintf("%.100v", err))
		}
	}
}
