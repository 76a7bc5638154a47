package authz

import (
	"slices"
	"strings"
	"testing"
)

func TestPrincipals(t *testing.T) {
	t.Parallel()
	const read = "Microsoft.KeyVault/vaults/read"
	person := Subject{TenantID: tenant, ObjectID: principal}
	member := Subject{TenantID: tenant, ObjectID: someone, Groups: []string{testID(50), principal}}
	for name, c := range map[string]struct {
		kind           PrincipalType
		person, member bool
	}{
		"user": {UserPrincipal, true, false}, "application": {ServicePrincipal, true, false}, "group": {GroupPrincipal, false, true},
		"not said": {AnyPrincipal, true, true},
	} {
		a := assignment(t, 1, give(RoleReader, strings.ToUpper(principal), sub))
		a.PrincipalType = c.kind
		r := compileAll(t, nil, []Assignment{a})
		if got := r.Allowed(person, Control, read, mustParseScope(t, vaultA)); got.Allowed != c.person {
			t.Errorf("%s: the one himself: %+v", name, got)
		}
		if got := r.Allowed(member, Control, read, mustParseScope(t, vaultA)); got.Allowed != c.member {
			t.Errorf("%s: a member: %+v", name, got)
		}
		for what, s := range map[string]Subject{
			"somebody else":       {TenantID: tenant, ObjectID: someone, Groups: []string{group}},
			"nobody":              {TenantID: tenant},
			"another tenant":      {TenantID: otherTenant, ObjectID: principal, Groups: []string{principal}},
			"no tenant":           {ObjectID: principal, Groups: []string{principal}},
			"an id in braces":     {TenantID: tenant, ObjectID: "{" + principal + "}"},
			"an id as a URN":      {TenantID: tenant, ObjectID: "urn:uuid:" + principal},
			"an id with no marks": {TenantID: tenant, ObjectID: strings.ReplaceAll(principal, "-", "")},
		} {
			if got := r.Allowed(s, Control, read, mustParseScope(t, vaultA)); got.Allowed || got.Reason == "" {
				t.Errorf("%s: %s: %+v", name, what, got)
			}
		}
	}
	if Compile("", BuiltInRoles(), []Assignment{assignment(t, 1, give(RoleReader, principal, sub))}).
		Allowed(Subject{ObjectID: principal}, Control, read, mustParseScope(t, sub)).Allowed {
		t.Error("allowed without a tenant")
	}
}

// TestNotActions: an exception takes away what its own set allows, and nothing of any other.
func TestNotActions(t *testing.T) {
	t.Parallel()
	const secrets = "Microsoft.KeyVault/vaults/secrets/"
	set := PermissionSet{DataActions: []string{secrets + "*"}, NotDataActions: []string{secrets + "purge/*"}}
	most, purge := customRole(1, set), customRole(2, PermissionSet{DataActions: []string{secrets + "purge/action"}})
	both := customRole(3, set)
	both.Permissions = append(both.Permissions, purge.Permissions...)
	s, at := Subject{TenantID: tenant, ObjectID: principal}, mustParseScope(t, vaultA)
	all := []RoleDefinition{most, purge, both}
	for name, c := range map[string]struct {
		roles       []string
		read, purge bool
	}{
		"with the exception":      {[]string{most.ID}, true, false},
		"and another role":        {[]string{most.ID, purge.ID}, true, true},
		"and another role before": {[]string{purge.ID, most.ID}, true, true},
		"the other role alone":    {[]string{purge.ID}, false, true},
		"two sets of one role":    {[]string{both.ID}, true, true},
	} {
		var list []given
		for _, id := range c.roles {
			list = append(list, give(id, principal, groupA))
		}
		r := compile(t, all, list...)
		if r.Allowed(s, Data, secrets+"getSecret/action", at).Allowed != c.read ||
			r.Allowed(s, Data, secrets+"purge/action", at).Allowed != c.purge {
			t.Errorf("%s", name)
		}
	}
}

// TestManagedHSM puts local roles of a managed HSM through the same engine.
func TestManagedHSM(t *testing.T) {
	t.Parallel()
	const keys = "Microsoft.KeyVault/managedHsm/keys/"
	user := customRole(1, PermissionSet{DataActions: []string{keys + "read/action", keys + "sign/action", keys + "create"}})
	hsm := mustParseScope(t, pool)
	s := Subject{TenantID: tenant, ObjectID: principal}
	for assigned, allowed := range map[string][]bool{ // of the pool, its keys, one, another
		pool: {true, true, true, true}, pool + "/keys": {false, true, true, true}, pool + "/keys/a": {false, false, true, false},
	} {
		r := compile(t, []RoleDefinition{user}, give(user.ID, principal, assigned))
		for i, at := range []Scope{hsm, hsm.Collection("keys"), hsm.Object("keys", "a"), hsm.Object("keys", "ab")} {
			if got := r.Allowed(s, Data, keys+"sign/action", at); got.Allowed != allowed[i] {
				t.Errorf("assigned at %s, asked at %s: %+v", assigned, at, got)
			}
			if r.Allowed(s, Data, keys+"delete", at).Allowed || r.Allowed(s, Data, "Microsoft.KeyVault/vaults/keys/sign/action", at).Allowed {
				t.Errorf("assigned at %s, asked at %s: another action", assigned, at)
			}
		}
	}
}

// allowedByDefinition is the oracle of Roles.Allowed: it goes through all assignments, compares scopes part by part and
// actions by regular expressions.
func allowedByDefinition(s Subject, plane Plane, action string, scope Scope, roles []RoleDefinition, list []Assignment) bool {
	return slices.ContainsFunc(list, func(a Assignment) bool {
		same := func(id string) bool { return strings.EqualFold(id, a.PrincipalID) }
		held := a.PrincipalType != GroupPrincipal && same(s.ObjectID) ||
			(a.PrincipalType == GroupPrincipal || a.PrincipalType == AnyPrincipal) && slices.ContainsFunc(s.Groups, same)
		within := a.Scope == Root || a.Scope == scope || strings.HasPrefix(scope.String(), a.Scope.String()+"/")
		i := slices.IndexFunc(roles, func(d RoleDefinition) bool { return d.ID == a.RoleID })
		return held && within && slices.ContainsFunc(roles[i].Permissions, func(p PermissionSet) bool {
			allowed, excepted := p.Actions, p.NotActions
			if plane == Data {
				allowed, excepted = p.DataActions, p.NotDataActions
			}
			matches := func(q string) bool { return matchesRegexp(q, action) }
			return slices.ContainsFunc(allowed, matches) && !slices.ContainsFunc(excepted, matches)
		})
	})
}

// TestAllowedByDefinition asks random questions about random roles and assignments.
func TestAllowedByDefinition(t *testing.T) {
	t.Parallel()
	w := newWorld(4)
	yes, no := 0, 0
	for range 300 {
		var roles []RoleDefinition
		for i := range 6 {
			roles = append(roles, w.role(i))
		}
		list := w.assignments(t, roles, w.IntN(30))
		r := Compile(tenant, roles, list)
		if len(r.Ignored()) > 0 {
			t.Fatal(r.Ignored())
		}
		for range 50 {
			s, plane, action, scope := w.question(t)
			want := allowedByDefinition(s, plane, action, scope, roles, list)
			got := r.Allowed(s, plane, action, scope)
			if got.Allowed != want || got.Reason == "" || want != (got.AssignmentID != "") {
				t.Fatalf("%+v: %s at %s: %+v\n%+v\n%+v", s, action, scope, got, roles, list)
			}
			if want {
				yes++
			} else {
				no++
			}
		}
	}
	if yes < 1000 || no < 1000 {
		t.Fatalf("%d allowed, %d denied: the questions are not worth asking", yes, no)
	}
}

// TestNothingWidens: with one assignment less, or one more exception in a role, nothing more is allowed; the order of the
// assignments does not matter.
func TestNothingWidens(t *testing.T) {
	t.Parallel()
	w := newWorld(5)
	narrowed := make(map[string]int)
	for range 400 {
		var roles []RoleDefinition
		for i := range 4 {
			roles = append(roles, w.role(i))
		}
		list := w.assignments(t, roles, 1+w.IntN(12))
		before := Compile(tenant, roles, list)

		gone := w.IntN(len(list))
		shuffled := slices.Clone(list)
		w.Shuffle(len(list), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		stricter := slices.Clone(roles)
		d := &stricter[w.IntN(len(roles))]
		d.Permissions = slices.Clone(d.Permissions)
		set := &d.Permissions[w.IntN(len(d.Permissions))]
		set.NotDataActions = append(slices.Clone(set.NotDataActions), w.pattern())
		set.NotActions = append(slices.Clone(set.NotActions), w.pattern())
		for name, after := range map[string]*Roles{
			"one assignment less": Compile(tenant, roles, slices.Delete(slices.Clone(list), gone, gone+1)),
			"one more exception":  Compile(tenant, stricter, list),
			"another order":       Compile(tenant, roles, shuffled),
		} {
			for range 40 {
				s, plane, action, scope := w.question(t)
				was, is := before.Allowed(s, plane, action, scope).Allowed, after.Allowed(s, plane, action, scope).Allowed
				if is && !was || was != is && name == "another order" {
					t.Fatalf("%s: %s at %s was %v and is %v", name, action, scope, was, is)
				}
				if was && !is {
					narrowed[name]++
				}
			}
		}
	}
	if narrowed["one assignment less"] < 100 || narrowed["one more exception"] < 50 {
		t.Fatalf("changes made a difference too seldom: %v", narrowed)
	}
}

// TestRolesDoNotChange: what Compile was given may be changed afterwards.
func TestRolesDoNotChange(t *testing.T) {
	t.Parallel()
	roles := BuiltInRoles()
	list := []Assignment{assignment(t, 1, give(RoleReader, principal, sub))}
	r := Compile(tenant, roles, list)
	list[0].PrincipalID = someone
	for _, d := range roles {
		d.AssignableScopes[0] = sub
		clear(d.Permissions[0].Actions)
	}
	s := Subject{TenantID: tenant, ObjectID: principal}
	if !r.Allowed(s, Control, "Microsoft.KeyVault/vaults/read", mustParseScope(t, sub)).Allowed {
		t.Error("denied")
	}
	s.ObjectID = someone
	if r.Allowed(s, Control, "Microsoft.KeyVault/vaults/read", mustParseScope(t, sub)).Allowed {
		t.Error("allowed to somebody else")
	}
}
