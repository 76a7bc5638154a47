package arm

import (
	"net/http"
	"strings"

	"github.com/strongroom/strongroom/internal/resource"
)

// Soft-deleted vaults and managed HSMs. They stand in the subscription and a location, no longer in a group.

type deletedResource[P any] struct {
	ID         string `json:"id"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	Properties P      `json:"properties"`
}

type deletedVaultProperties struct {
	VaultID         string            `json:"vaultId"`
	Location        string            `json:"location"`
	Tags            map[string]string `json:"tags"`
	Deleted         string            `json:"deletionDate"`
	Purge           string            `json:"scheduledPurgeDate"`
	PurgeProtection bool              `json:"purgeProtectionEnabled,omitempty"`
}

type deletedHSMProperties struct {
	HSMID           string            `json:"mhsmId"`
	Location        string            `json:"location"`
	Deleted         string            `json:"deletionDate"`
	Purge           string            `json:"scheduledPurgeDate"`
	PurgeProtection bool              `json:"purgeProtectionEnabled"`
	Tags            map[string]string `json:"tags"`
}

func (q *request) deletedID(v *resource.Vault, collection string) string {
	return q.subscriptionID() + "/providers/Microsoft.KeyVault/locations/" + locationName(v.Location) + "/" + collection + "/" + v.Name
}

func (q *request) deletedVault(v *resource.Vault) deletedResource[deletedVaultProperties] {
	return deletedResource[deletedVaultProperties]{
		q.deletedID(v, "deletedVaults"), v.Name, "Microsoft.KeyVault/deletedVaults",
		deletedVaultProperties{v.ARMID(), v.Location, tagsOf(v.Tags), date(v.Deleted), date(v.PurgeAt), v.PurgeProtection},
	}
}

// deletedHSM has the spelling of the real service in its type.
func (q *request) deletedHSM(v *resource.Vault) deletedResource[deletedHSMProperties] {
	return deletedResource[deletedHSMProperties]{
		q.deletedID(v, "deletedManagedHSMs"), v.Name, "Microsoft.Keyvault/deletedManagedHSMs",
		deletedHSMProperties{v.ARMID(), v.Location, date(v.Deleted), date(v.PurgeAt), v.PurgeProtection, tagsOf(v.Tags)},
	}
}

// deletedKey is the order of lists.
func deletedKey(v *resource.Vault) string { return strings.ToLower(v.Name) }

func listDeletedVaults(q *request) (response, error) {
	all, err := q.resources().ListDeletedVaults(q.ctx, q.actor())
	if err != nil {
		return response{}, err
	}
	return page(q, all, deletedKey, q.deletedVault)
}

func getDeletedVault(q *request) (response, error) {
	v, err := q.resources().GetDeletedVault(q.ctx, q.actor(), q.params.location, q.params.name)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.deletedVault(v))
}

func purgeVault(q *request) (response, error) {
	if err := q.resources().PurgeVault(q.ctx, q.actor(), q.params.location, q.params.name); err != nil {
		return response{}, err
	}
	return q.accepted(vaultOperations, operation{Kind: opPurge, Name: q.params.name}, q.params.location)
}

func listDeletedHSMs(q *request) (response, error) {
	all, err := q.resources().ListDeletedHSMs(q.ctx, q.actor())
	if err != nil {
		return response{}, err
	}
	return page(q, all, deletedKey, q.deletedHSM)
}

func getDeletedHSM(q *request) (response, error) {
	v, err := q.resources().GetDeletedHSM(q.ctx, q.actor(), q.params.location, q.params.name)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.deletedHSM(v))
}

func purgeHSM(q *request) (response, error) {
	if err := q.resources().PurgeHSM(q.ctx, q.actor(), q.params.location, q.params.name); err != nil {
		return response{}, err
	}
	return q.accepted(hsmOperations, operation{Kind: opPurge, Name: q.params.name}, q.params.location)
}
