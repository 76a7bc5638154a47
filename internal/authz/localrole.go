package authz

import (
	"slices"
	"strings"
)

// Ids of the built-in roles of a managed HSM, the same in every one.
const (
	RoleHSMAdministrator           = "a290e904-7015-4bba-90c8-60543313cdb4"
	RoleHSMCryptoOfficer           = "515eb02d-2335-4d2d-92f2-b1cbdf9c3778"
	RoleHSMCryptoUser              = "21dbd100-6940-42c2-9190-5d6cb909625b"
	RoleHSMPolicyAdministrator     = "4bd23610-cdcf-4971-bdee-bdc562cc28e4"
	RoleHSMCryptoAuditor           = "2c18b078-7c48-4d3a-af88-5a3a1b3f82b3"
	RoleHSMCryptoServiceEncryption = "33413926-3206-4cdd-b39a-83574fe37a17"
	RoleHSMCryptoServiceRelease    = "21dbd100-6940-42c2-9190-5d6cb909625c"
	RoleHSMBackup                  = "7b127d3c-77bd-4e3e-bbe0-dbb8971fa7f8"
	RoleHSMRestore                 = "6efe6056-5259-49d2-8b3d-d3d73544b20b"
)

// hsmActions is what all data actions of a managed HSM begin with.
const hsmActions = "Microsoft.KeyVault/managedHsm/"

// What the roles that hand out roles may do.
var (
	readLocal   = []string{"roleDefinitions/read/action", "roleAssignments/read/action"}
	manageLocal = []string{
		"roleAssignments/delete/action", "roleAssignments/read/action", "roleAssignments/write/action",
		"roleDefinitions/read/action", "roleDefinitions/write/action", "roleDefinitions/delete/action",
	}
)

// localDataActions are all that a role of a managed HSM can name, without what all begin with. Some have no "/action" at their
// end; that is how they are.
var localDataActions = slices.Concat(manageLocal, []string{
	"keys/read/action", "keys/write/action", "keys/create", "keys/delete", "keys/rotate/action", "keys/import/action",
	"keys/export/action", "keys/release/action", "keys/backup/action", "keys/restore/action",
	"keys/encrypt/action", "keys/decrypt/action", "keys/wrap/action", "keys/unwrap/action", "keys/sign/action", "keys/verify/action",
	"keys/derive/action",
	"keys/deletedKeys/read/action", "keys/deletedKeys/recover/action", "keys/deletedKeys/delete",
	"rng/action",
	"securitydomain/download/action", "securitydomain/download/read", "securitydomain/upload/action", "securitydomain/upload/read",
	"securitydomain/transferkey/read",
	"backup/start/action", "backup/status/action", "restore/start/action", "restore/status/action",
	"settings/read/action", "settings/write/action",
})

// LocalRoles returns the built-in roles of managed HSMs, with the names and actions that the service answers today.
func LocalRoles() []RoleDefinition {
	return []RoleDefinition{
		localRole(RoleHSMAdministrator, "Managed HSM Administrator", slices.Concat(manageLocal, []string{
			"securitydomain/download/action", "securitydomain/download/read", "securitydomain/upload/action", "securitydomain/upload/read",
			"securitydomain/transferkey/read",
			"backup/start/action", "restore/start/action", "backup/status/action", "restore/status/action",
			"settings/read/action", "settings/write/action",
		})...),
		localRole(RoleHSMCryptoOfficer, "Managed HSM Crypto Officer", slices.Concat(manageLocal, []string{
			"keys/deletedKeys/read/action", "keys/deletedKeys/delete", "keys/deletedKeys/recover/action", "keys/export/action",
		})...),
		localRole(RoleHSMCryptoUser, "Managed HSM Crypto User", slices.Concat(readLocal, []string{
			"keys/read/action", "keys/write/action", "keys/delete", "keys/create", "keys/rotate/action", "keys/import/action",
			"keys/release/action", "keys/backup/action", "keys/restore/action",
			"keys/encrypt/action", "keys/decrypt/action", "keys/wrap/action", "keys/unwrap/action", "keys/sign/action", "keys/verify/action",
			"keys/derive/action", "rng/action",
		})...),
		localRole(RoleHSMPolicyAdministrator, "Managed HSM Policy Administrator",
			"roleDefinitions/read/action", "roleDefinitions/write/action", "roleDefinitions/delete/action",
			"roleAssignments/read/action", "roleAssignments/write/action", "roleAssignments/delete/action"),
		localRole(RoleHSMCryptoAuditor, "Managed HSM Crypto Auditor",
			"roleAssignments/read/action", "roleDefinitions/read/action", "keys/read/action", "keys/deletedKeys/read/action"),
		localRole(RoleHSMCryptoServiceEncryption, "Managed HSM Crypto Service Encryption User",
			"keys/read/action", "keys/wrap/action", "keys/unwrap/action"),
		localRole(RoleHSMCryptoServiceRelease, "Managed HSM Crypto Service Release User", "keys/release/action"),
		localRole(RoleHSMBackup, "Managed HSM Backup User", "backup/start/action", "backup/status/action", "keys/backup/action"),
		localRole(RoleHSMRestore, "Managed HSM Restore User", "keys/restore/action", "restore/start/action", "restore/status/action"),
	}
}

func localRole(id, name string, actions ...string) RoleDefinition {
	set := PermissionSet{DataActions: make([]string, len(actions))}
	for i, a := range actions {
		set.DataActions[i] = hsmActions + a
	}
	return RoleDefinition{ID: id, Name: name, BuiltIn: true, AssignableScopes: []string{"/"}, Permissions: []PermissionSet{set}}
}

// IsLocalRole tells whether a built-in role of managed HSMs has that id or name.
func IsLocalRole(id, name string) bool {
	return slices.ContainsFunc(LocalRoles(), func(d RoleDefinition) bool {
		return equalFold(d.ID, id) || strings.EqualFold(d.Name, strings.TrimSpace(name))
	})
}

// LocalDataAction returns a data action of managed HSMs in its usual spelling. ok is false if there is none of that name; there
// are no wildcards.
func LocalDataAction(text string) (action string, ok bool) {
	if len(text) < len(hsmActions) || !equalFold(text[:len(hsmActions)], hsmActions) {
		return "", false
	}
	i := slices.IndexFunc(localDataActions, func(a string) bool { return equalFold(a, text[len(hsmActions):]) })
	if i < 0 {
		return "", false
	}
	return hsmActions + localDataActions[i], true
}

// LocalScope returns the scope at which an action of a managed HSM is asked for: an action on keys at the key of that name, or at
// all keys if the name is empty, and everything else at the HSM as a whole.
func (s Scope) LocalScope(action, key string) Scope {
	if !strings.HasPrefix(action, hsmActions+"keys/") {
		return s
	}
	if key == "" {
		return s.Collection("keys")
	}
	return s.Object("keys", key)
}

// CheckLocalRole returns a custom role of a managed HSM as it is to be stored: its actions in their usual spelling and each once.
// A role without a name, or that allows nothing, is one too: Microsoft's clients make such. The error is an *InvalidError. What its
// assignable scopes are is for the caller to check.
func CheckLocalRole(d RoleDefinition) (RoleDefinition, error) {
	fail := func(format string, args ...any) (RoleDefinition, error) {
		return RoleDefinition{}, invalid("role definition", format, args...)
	}
	scopes := slices.Clone(d.AssignableScopes)
	if len(scopes) == 0 {
		scopes = []string{"/"}
	}
	if len(scopes) > maxLocalScopes {
		return fail("it has more than %d assignable scopes", maxLocalScopes)
	}
	if slices.ContainsFunc(d.Permissions, func(p PermissionSet) bool { return p.Condition != "" }) {
		return fail("a role of a managed HSM has no condition")
	}
	if _, err := d.elsewhere().compile(); err != nil {
		return RoleDefinition{}, err
	}
	d.AssignableScopes = scopes
	sets := d.Permissions
	d.Permissions = make([]PermissionSet, len(sets))
	for i, set := range sets {
		if len(set.Actions)+len(set.NotActions) > 0 {
			return fail("a role of a managed HSM has data actions, and neither actions nor notActions")
		}
		var err error
		if d.Permissions[i].DataActions, err = knownActions(set.DataActions); err != nil {
			return RoleDefinition{}, err
		}
		if d.Permissions[i].NotDataActions, err = knownActions(set.NotDataActions); err != nil {
			return RoleDefinition{}, err
		}
	}
	return d, nil
}

const maxLocalScopes = 50

// elsewhere is the role with what it may lack in a managed HSM and not elsewhere, and without scopes that there are only there.
func (d RoleDefinition) elsewhere() *RoleDefinition {
	d.AssignableScopes = []string{"/"}
	if d.Name == "" {
		d.Name = "unnamed"
	}
	if len(d.Permissions) == 0 {
		d.Permissions = []PermissionSet{{}}
	}
	return &d
}

func knownActions(list []string) ([]string, error) {
	var out []string
	for _, text := range list {
		a, ok := LocalDataAction(text)
		if !ok {
			return nil, invalid("role definition", "%s is no data action of a managed HSM, which are named in full, without wildcards",
				quoted(text))
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, nil
}

// LocalRoleAllows tells whether a role of a managed HSM allows a data action.
func LocalRoleAllows(d RoleDefinition, action string) bool {
	is := func(a string) bool { return equalFold(a, action) }
	return slices.ContainsFunc(d.Permissions, func(p PermissionSet) bool {
		return slices.ContainsFunc(p.DataActions, is) && !slices.ContainsFunc(p.NotDataActions, is)
	})
}
