// Package authz decides who may do what. It consists of pure functions over values that the caller has read in the same
// snapshot as the object, so that a decision is never older than the data it protects. It knows nothing of how those
// values are kept or how they look on the wire.
//
// There are two planes. The data plane is what is in a vault: Decide answers for it by the vault's own list
// of administrators and then by one of Azure's two models, access policies or role assignments. The management plane is
// vaults themselves, and access to them: Roles answers for it, and says who may hand on which rights.
//
// Everything that is not granted is denied, and so is everything that is not understood: a scope that does not parse, a
// role with an action of a form that Azure does not have, an assignment with a condition that cannot be evaluated. None
// of them grants anything.
package authz

import (
	"slices"
	"strings"
)

// A Permission is one right, under the name that an access policy gives it and under that of its Azure RBAC data action.
type Permission struct {
	Object     string // "secrets", "keys", "certificates"
	Verb       string // "get", "list", …
	DataAction string // "Microsoft.KeyVault/vaults/secrets/getSecret/action"

	// AsymmetricAction is a data action that suffices as well where the operation needs no more than the public part of
	// an asymmetric key, which whoever may read the key has anyway: Azure documents it for encrypt, verify and wrap,
	// which keys/read allows. It is "" for all other operations.
	AsymmetricAction string

	// HSMAction is the data action in a managed HSM, whose roles are its own: "Microsoft.KeyVault/managedHsm/keys/sign/action".
	// An operation without one is not for managed HSMs.
	HSMAction string
}

// String returns the permission as Azure's messages write it: "secrets get".
func (p Permission) String() string { return p.Object + " " + p.Verb }

// A Subject is who asks, as far as it matters for the decision.
type Subject struct {
	TenantID string
	ObjectID string
	Groups   []string // object ids
	AppID    string   // the client id of the application through which the subject asks, if the token names one
}

// GroupPrefix marks an entry of a vault's administrator list as the object id of a group. Ids of groups and of principals
// come from different claims of a token, so an entry says which of them it means and is compared with that one only.
const GroupPrefix = "group:"

// A Model is one of Azure's ways of saying who may do what in a vault, or in a managed HSM.
type Model int

// The models. The first is what vaults without a model have.
const (
	AccessPolicyModel Model = iota
	RoleModel
	LocalRoleModel // of a managed HSM: its own roles
)

// A Policy is what is known about access to a vault.
type Policy struct {
	TenantID string

	// Administrators holds object ids of principals, and of groups after GroupPrefix. They may do everything in the vault
	// whatever its model, as a Key Vault Administrator of it may.
	Administrators []string

	Model          Model
	AccessPolicies *AccessPolicies // looked at in AccessPolicyModel only; nil grants nothing
	Roles          *Roles          // looked at in RoleModel and LocalRoleModel only; nil grants nothing
	Scope          Scope           // of the vault or the managed HSM, for models with roles
}

// A Decision is the answer, with the reason for the log.
type Decision struct {
	Allowed bool
	Reason  string

	// IfAsymmetric is set if the operation is denied in general, but allowed with an asymmetric key. Whether a key is one
	// is known only after its record has been read, so a caller may go on that far and no further.
	IfAsymmetric bool

	AssignmentID string // of the role assignment that granted it, if one did
	Role         string // the name of its role
}

// Decide says whether s may use permission p in the vault that has the policy, at a scope in it: that of one object, such as
// policy.Scope.Object("secrets", name), or policy.Scope for what concerns the vault as a whole, which are lists, and objects that
// do not exist yet and whose name is not known. Only role assignments tell objects apart.
func Decide(policy Policy, s Subject, p Permission, scope Scope) Decision {
	if s.ObjectID == "" || !sameTenant(s.TenantID, policy.TenantID) {
		return Decision{Reason: "the caller is not of the vault's tenant"}
	}
	if reason := policy.administeredBy(s); reason != "" {
		return Decision{Allowed: true, Reason: reason}
	}
	switch policy.Model {
	case AccessPolicyModel:
		return policy.AccessPolicies.decide(s, p)
	case RoleModel:
		return policy.byRole(s, p, scope)
	case LocalRoleModel:
		return policy.byLocalRole(s, p, scope)
	}
	return Decision{Reason: "the vault's permission model is unknown to this release"}
}

func (p *Policy) byRole(s Subject, perm Permission, scope Scope) Decision {
	if !p.Scope.Contains(scope) {
		return Decision{Reason: "the scope is not in the vault"}
	}
	d := p.Roles.Allowed(s, Data, perm.DataAction, scope)
	if !d.Allowed && perm.AsymmetricAction != "" && p.Roles.Allowed(s, Data, perm.AsymmetricAction, scope).Allowed {
		d.IfAsymmetric = true
	}
	return d
}

// byLocalRole leaves out what whoever may read an asymmetric key may do with it in a vault: nothing says so of managed HSMs.
func (p *Policy) byLocalRole(s Subject, perm Permission, scope Scope) Decision {
	if !p.Scope.Contains(scope) {
		return Decision{Reason: "the scope is not in the managed HSM"}
	}
	return p.Roles.Allowed(s, Data, perm.HSMAction, scope)
}

// administeredBy returns how it comes that s administers the vault, or "".
func (p *Policy) administeredBy(s Subject) string {
	for _, admin := range p.Administrators {
		if group, found := cutGroupPrefix(admin); found {
			if s.memberOf(group) {
				return "member of a group that administers the vault"
			}
			continue
		}
		if equalFold(admin, s.ObjectID) {
			return "administrator of the vault"
		}
	}
	return ""
}

// cutGroupPrefix takes the prefix in any case, as ids are compared: else "Group:x" would be the id of a principal.
func cutGroupPrefix(entry string) (id string, found bool) {
	if len(entry) < len(GroupPrefix) || !equalFold(entry[:len(GroupPrefix)], GroupPrefix) {
		return "", false
	}
	return entry[len(GroupPrefix):], true
}

func (s *Subject) memberOf(group string) bool {
	return group != "" && slices.ContainsFunc(s.Groups, func(g string) bool { return equalFold(g, group) })
}

func sameTenant(a, b string) bool { return a != "" && equalFold(a, b) }

// lower folds one byte. Names of Azure are compared without regard to the case of ASCII letters; Unicode's rules would
// make "ſecrets" and the Kelvin sign equal to something else.
func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// equalFold is strings.EqualFold for ASCII: all other bytes must be the same.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	if a == b {
		return true
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// onlyHas tells whether s has no other characters than ASCII letters, digits and those of more.
func onlyHas(s, more string) bool {
	for i := range len(s) {
		c := lower(s[i])
		if ('a' > c || c > 'z') && ('0' > c || c > '9') && strings.IndexByte(more, c) < 0 {
			return false
		}
	}
	return true
}
