package authz

import (
	"errors"
	"strings"
	"testing"
)

// TestCanAssign has one caller who got one role at one scope, and assigns another.
func TestCanAssign(t *testing.T) {
	t.Parallel()
	maker := customRole(1, PermissionSet{Actions: []string{"Microsoft.Authorization/roleAssignments/*"}})
	for name, c := range map[string]struct {
		holds, at, condition string
		assigns, scope       string
		make, remove         bool
	}{
		"owner":                              {RoleOwner, groupA, "", RoleOwner, groupA, true, true},
		"owner, below":                       {RoleOwner, groupA, "", RoleVaultAdministrator, vaultA + "/secrets/s", true, true},
		"owner, above":                       {RoleOwner, groupA, "", RoleReader, sub, false, false},
		"owner, beside":                      {RoleOwner, groupA, "", RoleReader, groupB, false, false},
		"owner, at the root":                 {RoleOwner, sub, "", RoleReader, "/", false, false},
		"contributor":                        {RoleContributor, "/", "", RoleReader, vaultA, false, false},
		"reader":                             {RoleReader, "/", "", RoleReader, vaultA, false, false},
		"vault administrator":                {RoleVaultAdministrator, "/", "", RoleVaultReader, vaultA, false, false},
		"vault contributor":                  {RoleVaultContributor, "/", "", RoleVaultReader, vaultA, false, false},
		"user access administrator":          {RoleUserAccessAdministrator, sub, "", RoleOwner, groupA, true, true},
		"access control administrator":       {RoleAccessControlAdministrator, sub, "", RoleOwner, groupA, true, true},
		"data access administrator":          {RoleVaultDataAccessAdministrator, sub, "", RoleVaultAdministrator, vaultA, true, true},
		"data access, above":                 {RoleVaultDataAccessAdministrator, groupA, "", RoleVaultAdministrator, sub, false, false},
		"data access, owner":                 {RoleVaultDataAccessAdministrator, sub, "", RoleOwner, vaultA, false, false},
		"data access, itself":                {RoleVaultDataAccessAdministrator, sub, "", RoleVaultDataAccessAdministrator, vaultA, false, false},
		"data access, role left out":         {RoleVaultDataAccessAdministrator, sub, "", RoleVaultCertificateUser, vaultA, false, false},
		"data access, contributor":           {RoleVaultDataAccessAdministrator, sub, "", RoleVaultContributor, vaultA, false, false},
		"limited owner":                      {RoleOwner, sub, onlyRoles, RoleReader, vaultA, true, true},
		"limited owner, other role":          {RoleOwner, sub, onlyRoles, RoleOwner, vaultA, false, false},
		"limited when making only":           {RoleOwner, sub, allButRoles, RoleOwner, vaultA, false, true},
		"limited, custom role as good":       {RoleOwner, sub, allButRoles, maker.ID, vaultA, false, true},
		"limited, data access administrator": {RoleOwner, sub, allButRoles, RoleVaultDataAccessAdministrator, vaultA, false, true},
		"limited, harmless role":             {RoleOwner, sub, allButRoles, RoleVaultAdministrator, vaultA, true, true},
		"twice limited":                      {RoleVaultDataAccessAdministrator, sub, onlyRoles, RoleVaultReader, vaultA, true, true},
		"twice limited, one lets":            {RoleVaultDataAccessAdministrator, sub, onlyRoles, RoleReader, vaultA, false, false},
		"twice limited, the other lets":      {RoleVaultDataAccessAdministrator, sub, onlyRoles, RoleVaultAdministrator, vaultA, false, false},
		"custom role":                        {maker.ID, groupA, "", RoleReader, vaultA, true, true},
	} {
		held := assignment(t, 1, give(c.holds, principal, c.at))
		held.Condition, held.ConditionVersion = c.condition, ConditionVersion
		r := compileAll(t, []RoleDefinition{maker}, []Assignment{held})
		s := Subject{TenantID: tenant, ObjectID: principal}
		a := assignment(t, 2, give(c.assigns, someone, c.scope))
		if err := r.CanAssign(s, a); (err == nil) != c.make || err != nil && !isDenied(err) {
			t.Errorf("%s: make: %v", name, err)
		}
		if err := r.CanUnassign(s, a); (err == nil) != c.remove || err != nil && !isDenied(err) {
			t.Errorf("%s: remove: %v", name, err)
		}
		for what, s := range map[string]Subject{
			"somebody else": {TenantID: tenant, ObjectID: someone}, "somebody of another tenant": {TenantID: otherTenant, ObjectID: principal},
		} {
			if r.CanAssign(s, a) == nil || r.CanUnassign(s, a) == nil {
				t.Errorf("%s: %s may", name, what)
			}
		}
		if c.condition == "" && c.holds != RoleVaultDataAccessAdministrator {
			if got := r.Allowed(s, Control, writeAssignments, a.Scope).Allowed; got != c.make {
				t.Errorf("%s: Allowed says %v", name, got)
			}
		} else if r.Allowed(s, Control, writeAssignments, a.Scope).Allowed {
			t.Errorf("%s: the right is unlimited", name)
		}
	}
}

// TestCanAssignFindsTheOneThatLets: of several assignments, one that is limited does not hide another.
func TestCanAssignFindsTheOneThatLets(t *testing.T) {
	t.Parallel()
	r := compile(t, nil, give(RoleVaultDataAccessAdministrator, principal, sub), give(RoleUserAccessAdministrator, group, vaultA))
	s := Subject{TenantID: tenant, ObjectID: principal, Groups: []string{someone, group}}
	if err := r.CanAssign(s, assignment(t, 9, give(RoleOwner, someone, vaultA))); err != nil {
		t.Error(err)
	}
	if err := r.CanAssign(s, assignment(t, 9, give(RoleOwner, someone, vaultB))); !isDenied(err) {
		t.Error(err)
	}
}

// TestCanAssignToWhom: conditions see the principal and its type, of what is made and of what is removed.
func TestCanAssignToWhom(t *testing.T) {
	t.Parallel()
	types := onlyRolesToTypes + " AND " + strings.NewReplacer("/write", "/delete", "@Request", "@Resource").Replace(onlyRolesToTypes)
	people := onlyRolesToPrincipals + " AND " + strings.NewReplacer("/write", "/delete", "@Request", "@Resource").Replace(onlyRolesToPrincipals)
	s := Subject{TenantID: tenant, ObjectID: principal}
	for name, c := range map[string]struct {
		condition, to string
		kind          PrincipalType
		allowed       bool
	}{
		"listed type":      {types, application, UserPrincipal, true},
		"other type":       {types, application, ServicePrincipal, false},
		"type not said":    {types, application, AnyPrincipal, false},
		"listed principal": {people, someone, AnyPrincipal, true},
		"other principal":  {people, application, AnyPrincipal, false},
	} {
		held := assignment(t, 1, give(RoleOwner, principal, sub))
		held.Condition, held.ConditionVersion = c.condition, ConditionVersion
		r := compileAll(t, nil, []Assignment{held})
		a := assignment(t, 2, give(RoleReader, c.to, vaultA))
		a.PrincipalType = c.kind
		if err := r.CanAssign(s, a); (err == nil) != c.allowed || err != nil && !isDenied(err) {
			t.Errorf("%s: make: %v", name, err)
		}
		if err := r.CanUnassign(s, a); (err == nil) != c.allowed || err != nil && !isDenied(err) {
			t.Errorf("%s: remove: %v", name, err)
		}
	}
}

// TestCanUnassignWhatIsBroken: an assignment that grants nothing can be removed, by who is not limited.
func TestCanUnassignWhatIsBroken(t *testing.T) {
	t.Parallel()
	s := Subject{TenantID: tenant, ObjectID: principal}
	broken := assignment(t, 9, give("x", "x", vaultA))
	if err := compile(t, nil, give(RoleOwner, principal, sub)).CanUnassign(s, broken); err != nil {
		t.Error(err)
	}
	if err := compile(t, nil, give(RoleVaultDataAccessAdministrator, principal, sub)).CanUnassign(s, broken); !isDenied(err) {
		t.Error(err)
	}
	broken.Scope = Scope{}
	if err := compile(t, nil, give(RoleOwner, principal, "/")).CanUnassign(s, broken); !isDenied(err) {
		t.Error(err)
	}
}

func TestOtherManagement(t *testing.T) {
	t.Parallel()
	role := customRole(1, PermissionSet{Actions: []string{"*/read"}})
	role.AssignableScopes = []string{groupA, groupB}
	writer := customRole(2, PermissionSet{Actions: []string{writePolicies}})
	definer := customRole(3, PermissionSet{Actions: []string{"Microsoft.Authorization/roleDefinitions/*"}})
	vault := mustParseScope(t, vaultA)
	s := Subject{TenantID: tenant, ObjectID: principal}
	for name, c := range map[string]struct {
		holds, at, condition              string
		define, undefine, model, policies bool
	}{
		"owner":                        {RoleOwner, sub, "", true, true, true, true},
		"owner of one group":           {RoleOwner, groupA, "", false, false, true, true},
		"owner of another vault":       {RoleOwner, vaultB, "", false, false, false, false},
		"limited owner":                {RoleOwner, sub, onlyRoles, false, true, false, true},
		"user access administrator":    {RoleUserAccessAdministrator, sub, "", true, true, false, false},
		"access control administrator": {RoleAccessControlAdministrator, sub, "", false, false, false, false},
		"contributor":                  {RoleContributor, sub, "", false, false, false, true},
		"vault contributor":            {RoleVaultContributor, sub, "", false, false, false, true},
		"data access administrator":    {RoleVaultDataAccessAdministrator, sub, "", false, false, false, false},
		"vault administrator":          {RoleVaultAdministrator, sub, "", false, false, false, false},
		"writer of access policies":    {writer.ID, sub, "", false, false, false, true},
		"definer of roles":             {definer.ID, sub, "", false, true, false, false},
		"reader":                       {RoleReader, sub, "", false, false, false, false},
	} {
		held := assignment(t, 1, give(c.holds, principal, c.at))
		held.Condition, held.ConditionVersion = c.condition, ConditionVersion
		r := compileAll(t, []RoleDefinition{writer, definer}, []Assignment{held})
		for what, got := range map[string]struct {
			err  error
			want bool
		}{
			"define":          {r.CanDefine(s, role), c.define},
			"undefine":        {r.CanUndefine(s, role), c.undefine},
			"change model":    {r.CanChangeModel(s, vault), c.model},
			"access policies": {r.CanWriteAccessPolicies(s, vault), c.policies},
		} {
			if (got.err == nil) != got.want || got.err != nil && !isDenied(got.err) {
				t.Errorf("%s: %s: %v", name, what, got.err)
			}
		}
	}
}

func TestManagementWithoutRoles(t *testing.T) {
	t.Parallel()
	var none *Roles
	s := Subject{TenantID: tenant, ObjectID: principal}
	role := customRole(1, PermissionSet{Actions: []string{"*"}})
	owner := compile(t, nil, give(RoleOwner, principal, "/"))
	for name, err := range map[string]error{
		"assign": none.CanAssign(s, assignment(t, 1, give(RoleReader, someone, sub))),
		"remove": none.CanUnassign(s, assignment(t, 1, give(RoleReader, someone, sub))),
		"define": none.CanDefine(s, role), "model": none.CanChangeModel(s, mustParseScope(t, vaultA)),
		"policies": none.CanWriteAccessPolicies(s, mustParseScope(t, vaultA)), "no scope": owner.CanChangeModel(s, Scope{}),
	} {
		if !isDenied(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	role.AssignableScopes = nil
	if err := owner.CanDefine(s, role); !isInvalid(err) {
		t.Error(err)
	}
	role.AssignableScopes = []string{"x"}
	if err := owner.CanUndefine(s, role); !isInvalid(err) {
		t.Error(err)
	}
	var denied *DeniedError
	err := compile(t, nil).CanChangeModel(s, mustParseScope(t, vaultA))
	if !errors.As(err, &denied) || denied.Action != writeVault || !strings.Contains(err.Error(), "vaults/web") {
		t.Error(err)
	}
}
