package authz

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// localOperations says which built-in roles of a managed HSM allow which data actions:
// Administrator, crypto Officer, crypto User, Policy administrator, auDitor, service Encryption, service reLease, Backup, Restore.
var localOperations = map[string]string{
	"roleAssignments/read/action":      "A O U P D",
	"roleAssignments/write/action":     "A O P",
	"roleAssignments/delete/action":    "A O P",
	"roleDefinitions/read/action":      "A O U P D",
	"roleDefinitions/write/action":     "A O P",
	"roleDefinitions/delete/action":    "A O P",
	"keys/read/action":                 "U D E",
	"keys/write/action":                "U",
	"keys/create":                      "U",
	"keys/delete":                      "U",
	"keys/rotate/action":               "U",
	"keys/import/action":               "U",
	"keys/export/action":               "O",
	"keys/release/action":              "U L",
	"keys/backup/action":               "U B",
	"keys/restore/action":              "U R",
	"keys/encrypt/action":              "U",
	"keys/decrypt/action":              "U",
	"keys/wrap/action":                 "U E",
	"keys/unwrap/action":               "U E",
	"keys/sign/action":                 "U",
	"keys/verify/action":               "U",
	"keys/derive/action":               "U",
	"keys/deletedKeys/read/action":     "O D",
	"keys/deletedKeys/recover/action":  "O",
	"keys/deletedKeys/delete":          "O",
	"rng/action":                       "U",
	"securitydomain/download/action":   "A",
	"securitydomain/download/read":     "A",
	"securitydomain/upload/action":     "A",
	"securitydomain/upload/read":       "A",
	"securitydomain/transferkey/read":  "A",
	"backup/start/action":              "A B",
	"backup/status/action":             "A B",
	"restore/start/action":             "A R",
	"restore/status/action":            "A R",
	"settings/read/action":             "A",
	"settings/write/action":            "A",
	"keys/something/action":            "",
	"keys/delete/action":               "", // the real one has no such end
	"keys/create/action":               "",
	"securitydomain/download":          "",
	"":                                 "",
	"keys/*":                           "",
	"backup/start/action/backup/start": "",
}

var localLetters = map[string]string{
	RoleHSMAdministrator: "A", RoleHSMCryptoOfficer: "O", RoleHSMCryptoUser: "U", RoleHSMPolicyAdministrator: "P", RoleHSMCryptoAuditor: "D",
	RoleHSMCryptoServiceEncryption: "E", RoleHSMCryptoServiceRelease: "L", RoleHSMBackup: "B", RoleHSMRestore: "R",
}

const hsmPool = sub + "/resourceGroups/g/providers/Microsoft.KeyVault/managedHSMs/pool"

// TestLocalRoles assigns each built-in role at each scope, and asks for everything everywhere.
func TestLocalRoles(t *testing.T) {
	t.Parallel()
	hsm := mustParseScope(t, hsmPool)
	scopes := map[string]Scope{"/": hsm, "/keys": hsm.Collection("keys"), "/keys/one": hsm.Object("keys", "one")}
	within := map[string]string{"/": "/ /keys /keys/one", "/keys": "/keys /keys/one", "/keys/one": "/keys/one"} // which scopes lie in which
	if len(LocalRoles()) != len(localLetters) {
		t.Errorf("%d roles, want %d", len(LocalRoles()), len(localLetters))
	}
	for _, role := range LocalRoles() {
		for at, where := range scopes {
			roles := Compile(tenant, LocalRoles(), []Assignment{{
				ID: "a5516e00-0000-4000-8000-000000000001", Scope: where, PrincipalID: principal, RoleID: role.ID,
			}})
			if ignored := roles.Ignored(); len(ignored) > 0 {
				t.Fatal(ignored)
			}
			policy := Policy{TenantID: tenant, Model: LocalRoleModel, Roles: roles, Scope: hsm}
			for action, letters := range localOperations {
				for asked, scope := range scopes {
					want := slices.Contains(strings.Fields(within[at]), asked) && slices.Contains(strings.Fields(letters), localLetters[role.ID])
					p := Permission{DataAction: hsmActions + "keys/sign/action", HSMAction: hsmActions + action}
					if got := Decide(policy, Subject{TenantID: tenant, ObjectID: principal}, p, scope).Allowed; got != want {
						t.Errorf("%s at %s: %q at %s: %v, want %v", role.Name, at, action, asked, got, want)
					}
				}
			}
		}
	}
}

// TestLocalModel asks in a managed HSM for what only the other models give.
func TestLocalModel(t *testing.T) {
	t.Parallel()
	hsm := mustParseScope(t, hsmPool)
	other := mustParseScope(t, hsmPool+"2")
	roles := Compile(tenant, LocalRoles(), []Assignment{{
		ID: "a5516e00-0000-4000-8000-000000000001", Scope: hsm, PrincipalID: principal, RoleID: RoleHSMCryptoUser,
	}})
	policy := Policy{TenantID: tenant, Model: LocalRoleModel, Roles: roles, Scope: hsm}
	sign := Permission{HSMAction: hsmActions + "keys/sign/action"}
	who := Subject{TenantID: tenant, ObjectID: principal}
	if !Decide(policy, who, sign, hsm).Allowed {
		t.Error("a user may not sign")
	}
	for name, d := range map[string]Decision{
		"no action":       Decide(policy, who, Permission{DataAction: sign.HSMAction, AsymmetricAction: sign.HSMAction}, hsm),
		"another HSM":     Decide(policy, who, sign, other),
		"no scope":        Decide(policy, who, sign, Scope{}),
		"above":           Decide(policy, who, sign, Root),
		"another tenant":  Decide(policy, Subject{TenantID: "7f2c5d0e-1b7a-4c38-9d0f-3a6c1e5b9d43", ObjectID: principal}, sign, hsm),
		"nobody":          Decide(policy, Subject{TenantID: tenant}, sign, hsm),
		"no roles at all": Decide(Policy{TenantID: tenant, Model: LocalRoleModel, Scope: hsm}, who, sign, hsm),
	} {
		if d.Allowed || d.IfAsymmetric || d.Reason == "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
}

// TestLocalRolesRecorded compares the built-in roles with what a live managed HSM answered.
func TestLocalRolesRecorded(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../../shared/contract/mhsm-builtin-roles.json")
	if os.IsNotExist(err) {
		t.Log("left out: the recorded roles of managed HSMs are not on this machine")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var recorded struct {
		Roles []struct {
			Name             string   `json:"name"`
			AssignableScopes []string `json:"assignableScopes"`
			Variants         []struct {
				RoleName, Description string
				Permissions           []PermissionSet
			} `json:"variants"`
		} `json:"roles"`
	}
	if err := json.Unmarshal(raw, &recorded); err != nil {
		t.Fatal(err)
	}
	ours := make(map[string]RoleDefinition)
	for _, d := range LocalRoles() {
		ours[d.ID] = d
	}
	if len(recorded.Roles) < 8 {
		t.Fatalf("%d recorded roles", len(recorded.Roles))
	}
	for _, r := range recorded.Roles {
		newest := r.Variants[0]
		want := RoleDefinition{ID: r.Name, Name: newest.RoleName, BuiltIn: true, AssignableScopes: r.AssignableScopes,
			Description: newest.Description, Permissions: newest.Permissions}
		got := ours[r.Name]
		for i := range want.Permissions { // a list without entries is recorded as one
			p := &want.Permissions[i]
			p.Actions, p.NotActions, p.NotDataActions = none(p.Actions), none(p.NotActions), none(p.NotDataActions)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s differs (-recorded +ours):\n%s", r.Name, diff)
		}
	}
}

func none(list []string) []string {
	if len(list) == 0 {
		return nil
	}
	return list
}

func TestCheckLocalRole(t *testing.T) {
	t.Parallel()
	role := func(change func(*RoleDefinition)) RoleDefinition {
		d := RoleDefinition{
			ID: "c0570000-0000-4000-8000-000000000001", Name: "Signer",
			Permissions: []PermissionSet{{DataActions: []string{"microsoft.keyvault/MANAGEDHSM/keys/SIGN/action", hsmActions + "keys/sign/action"}}},
		}
		change(&d)
		return d
	}
	got, err := CheckLocalRole(role(func(*RoleDefinition) {}))
	if err != nil {
		t.Fatal(err)
	}
	want := role(func(d *RoleDefinition) {
		d.AssignableScopes = []string{"/"}
		d.Permissions[0].DataActions = []string{hsmActions + "keys/sign/action"}
	})
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the role as it is to be stored (-want +got):\n%s", diff)
	}
	for _, action := range []string{"keys/rotate/action", "keys/derive/action", "settings/read/action", "settings/write/action", "keys/create"} {
		if _, err := CheckLocalRole(role(func(d *RoleDefinition) { d.Permissions[0].DataActions = []string{hsmActions + action} })); err != nil {
			t.Errorf("%s: %v", action, err)
		}
	}
	for name, change := range map[string]func(*RoleDefinition){
		"only not": func(d *RoleDefinition) {
			d.Permissions[0].NotDataActions, d.Permissions[0].DataActions = d.Permissions[0].DataActions, nil
		},
		"no actions":     func(d *RoleDefinition) { d.Permissions[0].DataActions = nil },
		"no permissions": func(d *RoleDefinition) { d.Permissions = nil },
		"no name":        func(d *RoleDefinition) { d.Name = "" },
	} {
		got, err := CheckLocalRole(role(change))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name != "no name" && LocalRoleAllows(got, hsmActions+"keys/sign/action") {
			t.Errorf("%s: the role allows to sign", name)
		}
	}
	for name, tt := range map[string]struct {
		change func(*RoleDefinition)
		want   string
	}{
		"unknown action": {func(d *RoleDefinition) { d.Permissions[0].DataActions[0] = hsmActions + "keys/paint/action" }, "keys/paint/action"},
		"a vault's":      {func(d *RoleDefinition) { d.Permissions[0].DataActions[0] = "Microsoft.KeyVault/vaults/keys/read" }, "vaults/keys/read"},
		"wildcard":       {func(d *RoleDefinition) { d.Permissions[0].DataActions[0] = hsmActions + "keys/*" }, "wildcards"},
		"all":            {func(d *RoleDefinition) { d.Permissions[0].DataActions[0] = "*" }, "wildcards"},
		"unknown not":    {func(d *RoleDefinition) { d.Permissions[0].NotDataActions = []string{hsmActions + "x/y"} }, "x/y"},
		"actions":        {func(d *RoleDefinition) { d.Permissions[0].Actions = []string{"*"} }, "neither actions"},
		"not actions":    {func(d *RoleDefinition) { d.Permissions[0].NotActions = []string{"*"} }, "neither actions"},
		"condition":      {func(d *RoleDefinition) { d.Permissions[0].Condition = "x" }, "condition"},
		"blank name":     {func(d *RoleDefinition) { d.Name = " " }, "name"},
		"many scopes":    {func(d *RoleDefinition) { d.AssignableScopes = make([]string, maxLocalScopes+1) }, "assignable scopes"},
	} {
		if _, err := CheckLocalRole(role(tt.change)); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want something about %q", name, err, tt.want)
		}
	}
}
