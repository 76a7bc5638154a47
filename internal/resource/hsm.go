package resource

import (
	"context"
	"strings"

	"github.com/strongroom/strongroom/internal/authz"
)

// PutHSMParams is what a managed HSM shall be, as PutVaultParams.
type PutHSMParams struct {
	Location            string
	Tags                map[string]string
	SKUName             string // "Standard_B1"
	TenantID            string
	Administrators      []string // object ids; fixed when it is made
	RetentionDays       *int
	PurgeProtection     *bool
	SoftDelete          *bool
	Network             *authz.NetworkRules
	PublicNetworkAccess *string
	Identities          []string // ids of user-assigned identities
	Recover             bool
}

// PatchHSMParams is what changes about a managed HSM.
type PatchHSMParams struct {
	Tags                map[string]string
	PurgeProtection     *bool
	Network             *authz.NetworkRules
	PublicNetworkAccess *string
	Identities          []string // ids of user-assigned identities
}

// hsmSKUs are the names that a managed HSM's SKU can have, those of Azure's newest hardware last. All of them are the same here.
var hsmSKUs = []string{
	"Standard_B1", "Custom_B32", "Custom_B6", "Custom_C42", "Custom_C10",
	"Standard_B1v2", "Standard_B5v2", "Standard_B10v2", "Standard_B15v2", "Standard_B20v2",
}

// PutHSM is PutVault for a managed HSM. A new one is not activated.
func (s *Service) PutHSM(ctx context.Context, a Actor, group, name string, p PutHSMParams) (v *Vault, created bool, err error) {
	in := settings{
		PatchVaultParams: PatchVaultParams{
			Tags: p.Tags, TenantID: p.TenantID, RetentionDays: p.RetentionDays, PurgeProtection: p.PurgeProtection, SoftDelete: p.SoftDelete,
			Network: p.Network, PublicNetworkAccess: p.PublicNetworkAccess,
		},
		location: p.Location, recover: p.Recover, administrators: p.Administrators, identities: p.Identities,
	}
	if in.Tags == nil {
		in.Tags = map[string]string{}
	}
	for _, known := range hsmSKUs {
		if strings.EqualFold(known, p.SKUName) {
			in.skuName = known
		}
	}
	if in.skuName == "" && !p.Recover {
		return nil, false, &Error{Kind: SkuNotSupported, Target: "sku", Message: "The SKU of a managed HSM must be one of " +
			strings.Join(hsmSKUs, ", ") + "."}
	}
	return s.put(ctx, a, &hsmFamily, group, name, in)
}

// PatchHSM is PatchVault for a managed HSM.
func (s *Service) PatchHSM(ctx context.Context, a Actor, group, name string, p PatchHSMParams) (*Vault, error) {
	return s.patch(ctx, a, &hsmFamily, group, name, settings{PatchVaultParams: PatchVaultParams{
		Tags: p.Tags, PurgeProtection: p.PurgeProtection, Network: p.Network, PublicNetworkAccess: p.PublicNetworkAccess,
	}, identities: p.Identities})
}

// GetHSM is GetVault for a managed HSM.
func (s *Service) GetHSM(ctx context.Context, a Actor, group, name string) (*Vault, error) {
	return s.getOne(ctx, a, &hsmFamily, group, name)
}

// ListHSMs is ListVaults for managed HSMs.
func (s *Service) ListHSMs(ctx context.Context, a Actor, group string) ([]*Vault, error) {
	return s.list(ctx, a, &hsmFamily, group)
}

// DeleteHSM is DeleteVault for a managed HSM.
func (s *Service) DeleteHSM(ctx context.Context, a Actor, group, name string) (existed bool, err error) {
	return s.remove(ctx, a, &hsmFamily, group, name)
}

// ListDeletedHSMs is ListDeletedVaults for managed HSMs.
func (s *Service) ListDeletedHSMs(ctx context.Context, a Actor) ([]*Vault, error) {
	return s.listDeleted(ctx, a, &hsmFamily)
}

// GetDeletedHSM is GetDeletedVault for a managed HSM.
func (s *Service) GetDeletedHSM(ctx context.Context, a Actor, location, name string) (*Vault, error) {
	return s.getDeleted(ctx, a, &hsmFamily, location, name)
}

// PurgeHSM is PurgeVault for a managed HSM.
func (s *Service) PurgeHSM(ctx context.Context, a Actor, location, name string) error {
	return s.purgeOne(ctx, a, &hsmFamily, location, name)
}
