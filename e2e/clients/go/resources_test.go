//go:build client

package goclient

import (
	"os"
	"slices"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/keyvault/armkeyvault"
	"github.com/google/go-cmp/cmp"
)

// TestResources makes, changes and removes vaults through the management plane.
func TestResources(t *testing.T) {
	management := os.Getenv("E2E_MANAGEMENT")
	place := cloud.Configuration{
		ActiveDirectoryAuthorityHost: os.Getenv("AZURE_AUTHORITY_HOST"),
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: management, Audience: management},
		},
	}
	options := &arm.ClientOptions{ClientOptions: azcore.ClientOptions{Cloud: place}}
	client, err := armkeyvault.NewVaultsClient(os.Getenv("E2E_SUBSCRIPTION"), newCredential(t), options)
	if err != nil {
		t.Fatal(err)
	}
	r := &resources{
		client: client, group: os.Getenv("E2E_GROUP"), tenant: os.Getenv("E2E_TENANT"), object: os.Getenv("E2E_OBJECT"),
	}
	t.Run("Life", r.life)
	t.Run("Policies", r.policies)
	t.Run("Missing", r.missing)
}

// resources is a resource group in which this program may do everything.
type resources struct {
	client                *armkeyvault.VaultsClient
	group, tenant, object string
}

// create makes or recovers a vault and waits for it as the client does.
func (r *resources) create(t *testing.T, name string, change func(*armkeyvault.VaultProperties)) armkeyvault.Vault {
	t.Helper()
	properties := &armkeyvault.VaultProperties{
		TenantID:                  &r.tenant,
		SKU:                       &armkeyvault.SKU{Family: ptr(armkeyvault.SKUFamilyA), Name: ptr(armkeyvault.SKUNameStandard)},
		AccessPolicies:            []*armkeyvault.AccessPolicyEntry{},
		SoftDeleteRetentionInDays: ptr(int32(7)),
	}
	change(properties)
	parameters := armkeyvault.VaultCreateOrUpdateParameters{Location: ptr("local"), Properties: properties}
	poller, err := r.client.BeginCreateOrUpdate(t.Context(), r.group, name, parameters, nil)
	if err != nil {
		t.Fatal(err)
	}
	return must(poller.PollUntilDone(t.Context(), nil))(t).Vault
}

func (r *resources) life(t *testing.T) {
	const name = "go-life"
	made := r.create(t, name, func(p *armkeyvault.VaultProperties) { p.EnableRbacAuthorization = ptr(true) })
	if *made.Properties.ProvisioningState != armkeyvault.VaultProvisioningStateSucceeded || *made.Name != name {
		t.Errorf("made %s in state %s", *made.Name, *made.Properties.ProvisioningState)
	}
	if got := must(r.client.Get(t.Context(), r.group, name, nil))(t); *got.ID != *made.ID {
		t.Errorf("got %s, want %s", *got.ID, *made.ID)
	}
	free := must(r.client.CheckNameAvailability(t.Context(), armkeyvault.VaultCheckNameAvailabilityParameters{Name: ptr(name)}, nil))(t)
	if *free.NameAvailable || *free.Reason != armkeyvault.ReasonAlreadyExists {
		t.Errorf("the name is free: %v", free)
	}
	pages := r.client.NewListByResourceGroupPager(r.group, &armkeyvault.VaultsClientListByResourceGroupOptions{Top: ptr(int32(1))})
	if names := r.names(t, pages); !slices.Contains(names, name) {
		t.Errorf("the group has %v", names)
	}

	must(r.client.Delete(t.Context(), r.group, name, nil))(t)
	_, err := r.client.Get(t.Context(), r.group, name, nil)
	refused(t, err, 404, "ResourceNotFound", "")
	deleted := must(r.client.GetDeleted(t.Context(), name, "local", nil))(t)
	if *deleted.Properties.VaultID != *made.ID || !deleted.Properties.ScheduledPurgeDate.After(*deleted.Properties.DeletionDate) {
		t.Errorf("deleted: %v", deleted.Properties)
	}
	back := r.create(t, name, func(p *armkeyvault.VaultProperties) { p.CreateMode = ptr(armkeyvault.CreateModeRecover) })
	if *back.ID != *made.ID {
		t.Errorf("recovered %s, want %s", *back.ID, *made.ID)
	}
	must(r.client.Delete(t.Context(), r.group, name, nil))(t)
	poller, err := r.client.BeginPurgeDeleted(t.Context(), name, "local", nil)
	if err != nil {
		t.Fatal(err)
	}
	must(poller.PollUntilDone(t.Context(), nil))(t)
	_, err = r.client.GetDeleted(t.Context(), name, "local", nil)
	refused(t, err, 404, "DeletedVaultNotFound", "")
}

func (r *resources) names(t *testing.T, pages *runtime.Pager[armkeyvault.VaultsClientListByResourceGroupResponse]) (names []string) {
	t.Helper()
	for pages.More() {
		for _, vault := range must(pages.NextPage(t.Context()))(t).Value {
			names = append(names, *vault.Name)
		}
	}
	return names
}

func (r *resources) policies(t *testing.T) {
	const name = "go-policies"
	r.create(t, name, func(p *armkeyvault.VaultProperties) { p.EnableRbacAuthorization = ptr(false) })
	both := []*armkeyvault.SecretPermissions{ptr(armkeyvault.SecretPermissionsGet), ptr(armkeyvault.SecretPermissionsList)}
	for _, step := range []struct {
		kind    armkeyvault.AccessPolicyUpdateKind
		secrets []*armkeyvault.SecretPermissions
		want    []armkeyvault.SecretPermissions
	}{
		{armkeyvault.AccessPolicyUpdateKindAdd, both, []armkeyvault.SecretPermissions{"get", "list"}},
		{armkeyvault.AccessPolicyUpdateKindReplace, both[:1], []armkeyvault.SecretPermissions{"get"}},
		{armkeyvault.AccessPolicyUpdateKindRemove, both[:1], nil},
	} {
		entry := &armkeyvault.AccessPolicyEntry{
			TenantID: &r.tenant, ObjectID: &r.object, Permissions: &armkeyvault.Permissions{Secrets: step.secrets},
		}
		parameters := armkeyvault.VaultAccessPolicyParameters{
			Properties: &armkeyvault.VaultAccessPolicyProperties{AccessPolicies: []*armkeyvault.AccessPolicyEntry{entry}},
		}
		must(r.client.UpdateAccessPolicy(t.Context(), r.group, name, step.kind, parameters, nil))(t)
		var got []armkeyvault.SecretPermissions
		for _, entry := range must(r.client.Get(t.Context(), r.group, name, nil))(t).Properties.AccessPolicies {
			for _, permission := range entry.Permissions.Secrets {
				got = append(got, *permission)
			}
		}
		if diff := cmp.Diff(step.want, got); diff != "" {
			t.Errorf("after %s (-want +got):\n%s", step.kind, diff)
		}
	}
}

func (r *resources) missing(t *testing.T) {
	_, err := r.client.Get(t.Context(), r.group, "go-nowhere", nil)
	refused(t, err, 404, "ResourceNotFound", "")
}
