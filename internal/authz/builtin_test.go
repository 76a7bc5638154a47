package authz

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// dataOperations says which built-in roles allow which data actions of a vault, by the letters of dataRoles. No other
// built-in role allows any.
//
// The actions are those that Azure lists for Key Vault, without managed storage accounts.
var dataOperations = map[string]string{
	"keys/read":                    "A R K E U . . C",
	"keys/create/action":           "A K",
	"keys/import/action":           "A K",
	"keys/update/action":           "A K U",
	"keys/delete":                  "A K",
	"keys/backup/action":           "A K U",
	"keys/restore/action":          "A K",
	"keys/recover/action":          "A K",
	"keys/purge/action":            "A K",
	"keys/rotate/action":           "A K",
	"keys/release/action":          "A K L",
	"keys/encrypt/action":          "A K U",
	"keys/decrypt/action":          "A K U",
	"keys/wrap/action":             "A K E U",
	"keys/unwrap/action":           "A K E U",
	"keys/sign/action":             "A K U",
	"keys/verify/action":           "A K U",
	"keyrotationpolicies/read":     "A R K",
	"keyrotationpolicies/write":    "A K",
	"secrets/getSecret/action":     "A S G C",
	"secrets/readMetadata/action":  "A R S G C",
	"secrets/setSecret/action":     "A S",
	"secrets/update/action":        "A S",
	"secrets/delete":               "A S",
	"secrets/backup/action":        "A S",
	"secrets/restore/action":       "A S",
	"secrets/recover/action":       "A S",
	"secrets/purge/action":         "A S",
	"certificates/read":            "A R O C",
	"certificates/create/action":   "A O",
	"certificates/import/action":   "A O",
	"certificates/update/action":   "A O",
	"certificates/delete":          "A O",
	"certificates/backup/action":   "A O",
	"certificates/restore/action":  "A O",
	"certificates/recover/action":  "A O",
	"certificates/purge/action":    "A O",
	"certificatecas/read":          "A R O",
	"certificatecas/write":         "A O",
	"certificatecas/delete":        "A O",
	"certificatecontacts/write":    "A O",
	"something/that/there/is/not":  "A",
	"something/new/read":           "A R",
	"secrets/readMetadata/actions": "A S", // not the one above
}

var dataRoles = map[string]string{
	"A": RoleVaultAdministrator, "R": RoleVaultReader, "K": RoleVaultCryptoOfficer, "E": RoleVaultCryptoServiceEncryption,
	"L": RoleVaultCryptoServiceRelease, "U": RoleVaultCryptoUser, "S": RoleVaultSecretsOfficer, "G": RoleVaultSecretsUser,
	"O": RoleVaultCertificatesOfficer, "C": RoleVaultCertificateUser,
}

// controlOperations is the same for the management plane, by the letters of controlRoles. An f stands for all that read as
// officers do: the administrator, the reader and the officers of a vault's content.
var controlOperations = map[string]string{
	"Microsoft.KeyVault/vaults/read":                               "O C R U B v", // which vaults/*/read does not match
	"Microsoft.KeyVault/vaults/write":                              "O C v",
	"Microsoft.KeyVault/vaults/delete":                             "O C v",
	"Microsoft.KeyVault/vaults/deploy/action":                      "O C v",
	"Microsoft.KeyVault/vaults/accessPolicies/write":               "O C v",
	"Microsoft.KeyVault/vaults/secrets/read":                       "O C R U B v d f",
	"Microsoft.KeyVault/vaults/secrets/write":                      "O C v",
	"Microsoft.KeyVault/vaults/keys/write":                         "O C v",
	"Microsoft.KeyVault/vaults/privateEndpointConnections/read":    "O C R U B v d f",
	"Microsoft.KeyVault/vaults/privateEndpointConnections/write":   "O C v",
	"Microsoft.KeyVault/deletedVaults/read":                        "O C R U B v f p",
	"Microsoft.KeyVault/locations/deletedVaults/read":              "O C R U B v f p",
	"Microsoft.KeyVault/locations/deletedVaults/purge/action":      "O C p",
	"Microsoft.KeyVault/locations/operationResults/read":           "O C R U B v f p",
	"Microsoft.KeyVault/checkNameAvailability/read":                "O C R U B v f",
	"Microsoft.KeyVault/operations/read":                           "O C R U B v f",
	"Microsoft.KeyVault/register/action":                           "O C v",
	"Microsoft.KeyVault/managedHSMs/read":                          "O C R U B h",
	"Microsoft.KeyVault/managedHSMs/write":                         "O C h",
	"Microsoft.KeyVault/managedHSMs/delete":                        "O C h",
	"Microsoft.KeyVault/deletedManagedHsms/read":                   "O C R U B v h",
	"Microsoft.KeyVault/locations/deletedManagedHsms/purge/action": "O C v h",
	"Microsoft.KeyVault/locations/managedHsmOperationResults/read": "O C R U B v h f",
	"Microsoft.Resources/subscriptions/read":                       "O C R U B d",
	"Microsoft.Resources/subscriptions/resourceGroups/read":        "O C R U B v d f p",
	"Microsoft.Resources/subscriptions/resourceGroups/write":       "O C",
	"Microsoft.Resources/deployments/write":                        "O C v d f p",
	"Microsoft.Authorization/roleAssignments/read":                 "O C R U B v d f p",
	"Microsoft.Authorization/roleAssignments/write":                "O U B", // and d, with a condition
	"Microsoft.Authorization/roleAssignments/delete":               "O U B",
	"Microsoft.Authorization/roleDefinitions/read":                 "O C R U B v d f p",
	"Microsoft.Authorization/roleDefinitions/write":                "O U",
	"Microsoft.Authorization/roleDefinitions/delete":               "O U",
	"Microsoft.Authorization/elevateAccess/action":                 "O U",
	"Microsoft.EventGrid/eventSubscriptions/write":                 "O C E",
}

var controlRoles = map[string]string{
	"O": RoleOwner, "C": RoleContributor, "R": RoleReader, "U": RoleUserAccessAdministrator, "B": RoleAccessControlAdministrator,
	"v": RoleVaultContributor, "d": RoleVaultDataAccessAdministrator, "p": RoleVaultPurgeOperator, "h": RoleHSMContributor,
	"E": RoleVaultCryptoServiceEncryption,
}

var officers = []string{
	RoleVaultAdministrator, RoleVaultReader, RoleVaultCertificatesOfficer, RoleVaultCryptoOfficer, RoleVaultSecretsOfficer,
}

// allowedBy returns the ids of the roles that an entry of a table names.
func allowedBy(t *testing.T, letters string, roles map[string]string) []string {
	t.Helper()
	var out []string
	for _, letter := range strings.Fields(letters) {
		switch id := roles[letter]; {
		case letter == "f":
			out = append(out, officers...)
		case letter == ".":
		case id == "":
			t.Fatalf("no role is called %s", letter)
		default:
			out = append(out, id)
		}
	}
	return out
}

// TestBuiltInRoles asks each operation of each role, at each scope of a tree of which one part was assigned.
func TestBuiltInRoles(t *testing.T) {
	t.Parallel()
	object := vaultA + "/secrets/a"
	tree := []string{"/", sub, groupA, vaultA, object, otherSub, groupB, vaultB, vaultA + "/secrets/ab", vaultA + "/keys/a", pool}
	type operation struct {
		plane   Plane
		action  string
		granted []string
	}
	var operations []operation
	for action, letters := range dataOperations {
		operations = append(operations, operation{Data, "Microsoft.KeyVault/vaults/" + action, allowedBy(t, letters, dataRoles)})
	}
	for action, letters := range controlOperations {
		operations = append(operations, operation{Control, action, allowedBy(t, letters, controlRoles)})
	}
	s := Subject{TenantID: tenant, ObjectID: principal}
	for _, d := range BuiltInRoles() {
		for _, assigned := range tree {
			r := compile(t, nil, give(d.ID, principal, assigned))
			for _, asked := range tree {
				within := mustParseScope(t, assigned).Contains(mustParseScope(t, asked))
				for _, op := range operations {
					want := within && slices.Contains(op.granted, d.ID)
					if got := r.Allowed(s, op.plane, op.action, mustParseScope(t, asked)); got.Allowed != want {
						t.Errorf("%s at %s: %s at %s: %+v", d.Name, assigned, op.action, asked, got)
					}
					if r.Allowed(s, 1-op.plane, op.action, Root).Allowed && assigned != "/" {
						t.Errorf("%s reaches the root", d.Name)
					}
				}
			}
		}
	}
}

// TestPlanesAreApart: what manages vaults reads nothing in them, and the other way round.
func TestPlanesAreApart(t *testing.T) {
	t.Parallel()
	s := Subject{TenantID: tenant, ObjectID: principal}
	owner := compile(t, nil, give(RoleOwner, principal, "/"))
	for action := range dataOperations {
		if owner.Allowed(s, Data, "Microsoft.KeyVault/vaults/"+action, mustParseScope(t, vaultA)).Allowed {
			t.Errorf("an owner may use the data action %s", action)
		}
	}
	administrator := compile(t, nil, give(RoleVaultAdministrator, principal, "/"))
	for _, action := range []string{writeVault, writePolicies, writeAssignments, "Microsoft.KeyVault/vaults/secrets/write"} {
		if administrator.Allowed(s, Control, action, mustParseScope(t, vaultA)).Allowed {
			t.Errorf("an administrator of what is in the vault may use the control action %s", action)
		}
	}
}

// TestBuiltInRolesAreCopies: nobody who changes what he got changes what others get.
func TestBuiltInRolesAreCopies(t *testing.T) {
	t.Parallel()
	for _, d := range BuiltInRoles() {
		d.AssignableScopes[0] = "x"
		for i := range d.Permissions {
			clear(d.Permissions[i].Actions)
			clear(d.Permissions[i].NotActions)
			clear(d.Permissions[i].DataActions)
		}
	}
	compile(t, nil) // reports what is malformed
	seen := make(map[string]bool)
	for _, d := range BuiltInRoles() {
		if seen[d.ID] || seen[d.Name] || !d.BuiltIn || d.Description == "" {
			t.Errorf("%+v", d)
		}
		seen[d.ID], seen[d.Name] = true, true
	}
}

// TestRecordedRoles compares the built-in roles with Azure's, as far as those are at hand.
func TestRecordedRoles(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../../../shared/contract/keyvault-azure-rbac-roles.json")
	if os.IsNotExist(err) {
		t.Log("left out: Azure's definitions are not on this machine")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var recorded struct {
		Roles []struct {
			Name       string
			Note       string `json:"_note"`
			Properties struct {
				RoleName         string
				AssignableScopes []string
				Permissions      []PermissionSet
			}
		}
	}
	if err := json.Unmarshal(raw, &recorded); err != nil {
		t.Fatal(err)
	}
	compared := 0
	for _, want := range recorded.Roles {
		all := BuiltInRoles()
		i := slices.IndexFunc(all, func(d RoleDefinition) bool { return d.ID == want.Name })
		if i < 0 {
			t.Errorf("%s is missing", want.Properties.RoleName)
			continue
		}
		got := all[i]
		if got.Name != want.Properties.RoleName || !slices.Equal(got.AssignableScopes, want.Properties.AssignableScopes) {
			t.Errorf("%s: %+v", want.Properties.RoleName, got)
		}
		if strings.Contains(want.Note, "inferred") {
			continue
		}
		for i := range want.Properties.Permissions {
			theirs, ours := &want.Properties.Permissions[i], &got.Permissions[i]
			if !strings.HasPrefix(ours.Condition, theirs.Condition) { // theirs is from before it spoke of removing
				t.Errorf("%s: condition %s", got.Name, ours.Condition)
			}
			theirs.Condition = ours.Condition
			for _, list := range []*[]string{&theirs.Actions, &theirs.NotActions, &theirs.DataActions, &theirs.NotDataActions} {
				if len(*list) == 0 {
					*list = nil
				}
			}
		}
		if diff := cmp.Diff(want.Properties.Permissions, got.Permissions); diff != "" {
			t.Errorf("%s (-Azure's +ours):\n%s", got.Name, diff)
		}
		compared++
	}
	if compared < 10 {
		t.Errorf("only %d roles were compared", compared)
	}
}
