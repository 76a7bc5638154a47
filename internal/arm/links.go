package arm

import (
	"net/http"

	"github.com/strongroom/strongroom/internal/resource"
)

// Private endpoints. There are none: a network of one's own is what an installation stands in anyway. So the lists are empty,
// nothing can be found or approved, and what could be linked is said as the real service says it.

type privateLink struct {
	ID         string                `json:"id"`
	Name       string                `json:"name"`
	Type       string                `json:"type"`
	Properties privateLinkProperties `json:"properties"`
}

type privateLinkProperties struct {
	GroupID string   `json:"groupId"`
	Members []string `json:"requiredMembers"`
	Zones   []string `json:"requiredZoneNames"`
}

// A finder looks for the vault or HSM in the path.
type finder = func(*request) (*resource.Vault, error)

func findVault(q *request) (*resource.Vault, error) {
	return q.resources().GetVault(q.ctx, q.actor(), q.params.group, q.params.name)
}

func findHSM(q *request) (*resource.Vault, error) {
	return q.resources().GetHSM(q.ctx, q.actor(), q.params.group, q.params.name)
}

var (
	listVaultConnections  = connections(findVault)
	listHSMConnections    = connections(findHSM)
	noVaultConnection     = noConnection(findVault)
	noHSMConnection       = noConnection(findHSM)
	deleteVaultConnection = deleteConnection(findVault)
	deleteHSMConnection   = deleteConnection(findHSM)
	listVaultLinks        = links(findVault, vaultResourceType, "vault", "privatelink.vaultcore.azure.net")
	listHSMLinks          = links(findHSM, hsmResourceType, "managedhsm", "privatelink.managedhsm.azure.net")
)

func connections(find finder) handler {
	return func(q *request) (response, error) {
		if _, err := find(q); err != nil {
			return response{}, err
		}
		return reply(http.StatusOK, list[any]{Value: []any{}})
	}
}

func noConnection(find finder) handler {
	return func(q *request) (response, error) {
		if _, err := find(q); err != nil {
			return response{}, err
		}
		return response{}, &wireError{status: http.StatusNotFound, code: "PrivateEndpointConnectionNotFound",
			message: sprintf("There is no private endpoint connection '%s': this service has none.", clip(q.params.object))}
	}
}

func deleteConnection(find finder) handler {
	return func(q *request) (response, error) {
		if _, err := find(q); err != nil {
			return response{}, err
		}
		return deleted(false)
	}
}

func links(find finder, kind, group, zone string) handler {
	return func(q *request) (response, error) {
		v, err := find(q)
		if err != nil {
			return response{}, err
		}
		return reply(http.StatusOK, list[privateLink]{Value: []privateLink{{
			ID: v.ARMID() + "/privateLinkResources/" + group, Name: group, Type: kind + "/privateLinkResources",
			Properties: privateLinkProperties{group, []string{"default"}, []string{zone}},
		}}})
	}
}
