package arm

import (
	"net/http"
	"strings"

	"github.com/strongroom/strongroom/internal/keyvault"
)

// listedOperation is an action as /providers/Microsoft.KeyVault/operations lists it.
type listedOperation struct {
	Name         string           `json:"name"`
	Display      operationDisplay `json:"display"`
	Origin       string           `json:"origin"`
	IsDataAction bool             `json:"isDataAction"`
}

type operationDisplay struct {
	Provider    string `json:"provider"`
	Resource    string `json:"resource"`
	Operation   string `json:"operation"`
	Description string `json:"description"`
}

// controlActions are those of this plane that Microsoft.KeyVault's roles speak of.
var controlActions = []string{
	"vaults/read", "vaults/write", "vaults/delete", "vaults/accessPolicies/write", "vaults/secrets/read", "vaults/secrets/write",
	"vaults/keys/read", "vaults/keys/write", "vaults/keys/versions/read", "deletedVaults/read", "locations/deletedVaults/read",
	"locations/deletedVaults/purge/action", "locations/operationResults/read", "checkNameAvailability/read", "operations/read",
	"register/action", "managedHSMs/read", "managedHSMs/write", "managedHSMs/delete", "deletedManagedHSMs/read",
	"locations/deletedManagedHSMs/read", "locations/deletedManagedHSMs/purge/action", "locations/managedHsmOperationResults/read",
	"checkMhsmNameAvailability/read",
}

// dataOperations are what is done in vaults.
var dataOperations = []keyvault.Operation{
	keyvault.SecretSet, keyvault.SecretGet, keyvault.SecretUpdate, keyvault.SecretDelete, keyvault.SecretList, keyvault.SecretBackup,
	keyvault.SecretRestore, keyvault.SecretPurge, keyvault.SecretRecover, keyvault.KeyCreate, keyvault.KeyImport, keyvault.KeyGet,
	keyvault.KeyUpdate, keyvault.KeyDelete, keyvault.KeyBackup, keyvault.KeyRestore, keyvault.KeyRotate, keyvault.KeyRotationPolicyGet,
	keyvault.KeyRotationPolicySet, keyvault.KeyPurge, keyvault.KeyRecover, keyvault.KeyEncrypt, keyvault.KeyDecrypt, keyvault.KeyWrap,
	keyvault.KeyUnwrap, keyvault.KeySign, keyvault.KeyVerify, keyvault.KeyRelease,
}

func listOperations(q *request) (response, error) {
	if err := q.mustSee(); err != nil {
		return response{}, err
	}
	out := list[listedOperation]{}
	for _, a := range controlActions {
		out.Value = append(out.Value, listed("Microsoft.KeyVault/"+a, "user,system", false))
	}
	seen := make(map[string]bool)
	for _, op := range dataOperations {
		if a := op.Permission.DataAction; a != "" && !seen[a] {
			seen[a] = true
			out.Value = append(out.Value, listed(a, "user,system", true))
		}
	}
	return reply(http.StatusOK, out)
}

func listed(action, origin string, data bool) listedOperation {
	segments := strings.Split(action, "/")
	verb := segments[len(segments)-1]
	if verb == "action" {
		verb = segments[len(segments)-2]
	}
	return listedOperation{
		Name: action, Origin: origin, IsDataAction: data,
		Display: operationDisplay{"Microsoft Key Vault", segments[1], verb, strings.Join(segments[1:], " ")},
	}
}
