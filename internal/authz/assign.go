package authz

// Actions of the management plane that decide who may change what others may do.
const (
	writeAssignments  = "Microsoft.Authorization/roleAssignments/write"
	deleteAssignments = "Microsoft.Authorization/roleAssignments/delete"
	writeDefinitions  = "Microsoft.Authorization/roleDefinitions/write"
	deleteDefinitions = "Microsoft.Authorization/roleDefinitions/delete"
	elevateAccess     = "Microsoft.Authorization/elevateAccess/action"
	writeVault        = "Microsoft.KeyVault/vaults/write"
	writePolicies     = "Microsoft.KeyVault/vaults/accessPolicies/write"
)

// CanAssign says whether s may make the assignment: whether it is well-formed, and whether s has the right to write
// assignments at its scope, by an assignment of its own whose conditions allow this one. The error is an *InvalidError or a
// *DeniedError.
//
// To replace an assignment is to remove the old one and to make the new one, so it needs CanUnassign as well. The caller
// vouches for the principal's type, of which conditions may speak: he says AnyPrincipal, which no condition lists, if he only has
// it by hearsay.
func (r *Roles) CanAssign(s Subject, a Assignment) error {
	if r == nil {
		return &DeniedError{Action: writeAssignments, Scope: a.Scope, Reason: "there are no role assignments"}
	}
	g, principal, err := r.compile(&a)
	if err != nil {
		return err
	}
	return r.require(s, query{name: writeAssignments, scope: a.Scope, change: &change{
		role:          g.role.id,
		principal:     principal,
		principalType: a.PrincipalType,
		handsOnAccess: g.role.handsOnAccess(),
	}})
}

// CanUnassign says whether s may remove the assignment. The error is a *DeniedError.
func (r *Roles) CanUnassign(s Subject, a Assignment) error {
	ch := &change{principalType: a.PrincipalType}
	ch.role, _ = parseID(a.RoleID)
	ch.principal, _ = parseID(a.PrincipalID)
	return r.require(s, query{name: deleteAssignments, scope: a.Scope, change: ch})
}

// CanDefine says whether s may write the custom role, which Validate has found well-formed: at each of its assignable scopes
// it needs the right to write definitions and the unlimited right to assign roles, because whoever writes the definition of
// a role that is in use hands on rights. To change a role, s must be able to define both what it was and what it will be.
func (r *Roles) CanDefine(s Subject, d RoleDefinition) error {
	return r.requireAll(s, d.AssignableScopes, writeDefinitions, writeAssignments)
}

// CanUndefine says whether s may delete the custom role.
func (r *Roles) CanUndefine(s Subject, d RoleDefinition) error {
	return r.requireAll(s, d.AssignableScopes, deleteDefinitions)
}

// CanChangeModel says whether s may turn a vault from one permission model to the other. That decides who has access, so it
// needs the unlimited right to assign roles at the vault, beside that to write the vault. Creating a vault changes nothing.
func (r *Roles) CanChangeModel(s Subject, vault Scope) error {
	if err := r.require(s, query{name: writeVault, scope: vault}); err != nil {
		return err
	}
	return r.require(s, query{name: writeAssignments, scope: vault})
}

// CanWriteAccessPolicies says whether s may change the access policies of a vault, which who may write the vault may too.
func (r *Roles) CanWriteAccessPolicies(s Subject, vault Scope) error {
	if r.require(s, query{name: writeVault, scope: vault}) == nil {
		return nil
	}
	return r.require(s, query{name: writePolicies, scope: vault})
}

func (r *Roles) requireAll(s Subject, scopes []string, actions ...string) error {
	if len(scopes) == 0 {
		return invalid("role definition", "it has no assignable scopes")
	}
	for _, text := range scopes {
		scope, err := ParseScope(text)
		if err != nil {
			return err
		}
		for _, action := range actions {
			if err := r.require(s, query{name: action, scope: scope}); err != nil {
				return err
			}
		}
	}
	return nil
}

// require asks a question about the control plane.
func (r *Roles) require(s Subject, q query) error {
	q.plane = Control
	if g, reason := r.find(&s, &q); g == nil {
		return &DeniedError{Action: q.name, Scope: q.scope, Reason: reason}
	}
	return nil
}
