package arm

import (
	"net/http"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/resource"
)

// Subscriptions, tenants, locations, resource groups and resources in general: the part of Microsoft.Resources that clients
// of Key Vault need. There is one tenant and one subscription.

// subscriptionID returns the ARM id of the subscription.
func (q *request) subscriptionID() string { return "/subscriptions/" + q.resources().SubscriptionID() }

func (q *request) groupID(name string) string { return q.subscriptionID() + "/resourceGroups/" + name }

type subscription struct {
	ID                  string `json:"id"`
	AuthorizationSource string `json:"authorizationSource"`
	ManagedByTenants    []any  `json:"managedByTenants"`
	SubscriptionID      string `json:"subscriptionId"`
	TenantID            string `json:"tenantId"`
	DisplayName         string `json:"displayName"`
	State               string `json:"state"`
	Policies            struct {
		LocationPlacementID string `json:"locationPlacementId"`
		QuotaID             string `json:"quotaId"`
		SpendingLimit       string `json:"spendingLimit"`
	} `json:"subscriptionPolicies"`
}

func (q *request) subscription() subscription {
	s := subscription{
		ID:                  q.subscriptionID(),
		AuthorizationSource: "RoleBased",
		ManagedByTenants:    []any{},
		SubscriptionID:      q.resources().SubscriptionID(),
		TenantID:            q.resources().TenantID(),
		DisplayName:         "Strongroom",
		State:               "Enabled",
	}
	s.Policies.LocationPlacementID, s.Policies.QuotaID, s.Policies.SpendingLimit = "Public_2014-09-01", "PayAsYouGo_2014-09-01", "Off"
	return s
}

// sees tells whether the caller has any role. Who has none does not see the subscription.
func (q *request) sees() (bool, error) { return q.resources().SeesSubscription(q.ctx, q.actor()) }

func listSubscriptions(q *request) (response, error) {
	sees, err := q.sees()
	if err != nil {
		return response{}, err
	}
	out := list[subscription]{Value: []subscription{}}
	if sees {
		out.Value = append(out.Value, q.subscription())
	}
	return reply(http.StatusOK, out)
}

func getSubscription(q *request) (response, error) {
	if err := q.mustSee(); err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.subscription())
}

// mustSee refuses who does not see the subscription.
func (q *request) mustSee() error {
	sees, err := q.sees()
	if err == nil && !sees {
		err = q.resources().Authorize(q.ctx, q.actor(), "Microsoft.Resources/subscriptions/read", q.resources().SubscriptionScope())
	}
	return err
}

type tenant struct {
	ID            string   `json:"id"`
	TenantID      string   `json:"tenantId"`
	CountryCode   string   `json:"countryCode"`
	DisplayName   string   `json:"displayName"`
	Domains       []string `json:"domains"`
	DefaultDomain string   `json:"defaultDomain"`
	Category      string   `json:"tenantCategory"`
	Type          string   `json:"tenantType"`
}

// listTenants answers with the caller's tenant, which is no secret from him: his token names it.
func listTenants(q *request) (response, error) {
	id := q.resources().TenantID()
	return reply(http.StatusOK, list[tenant]{Value: []tenant{{
		ID: "/tenants/" + id, TenantID: id, DisplayName: "Strongroom", Domains: []string{q.h.cfg.Domain},
		DefaultDomain: q.h.cfg.Domain, Category: "Home", Type: "AAD",
	}}})
}

type location struct {
	ID                  string `json:"id"`
	Name                string `json:"name"`
	Type                string `json:"type"`
	DisplayName         string `json:"displayName"`
	RegionalDisplayName string `json:"regionalDisplayName"`
	Metadata            struct {
		RegionType     string `json:"regionType"`
		RegionCategory string `json:"regionCategory"`
	} `json:"metadata"`
}

func listLocations(q *request) (response, error) {
	if err := q.mustSee(); err != nil {
		return response{}, err
	}
	out := list[location]{Value: []location{}}
	for _, name := range q.resources().Locations() {
		l := location{
			ID: q.subscriptionID() + "/locations/" + locationName(name), Name: locationName(name), Type: "Region", DisplayName: name,
			RegionalDisplayName: name,
		}
		l.Metadata.RegionType, l.Metadata.RegionCategory = "Physical", "Recommended"
		out.Value = append(out.Value, l)
	}
	return reply(http.StatusOK, out)
}

// locationName is a location as it stands in ids: "West Europe" is westeurope.
func locationName(name string) string { return strings.ToLower(strings.ReplaceAll(name, " ", "")) }

type resourceGroup struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags"`
	Properties struct {
		ProvisioningState string `json:"provisioningState"`
	} `json:"properties"`
}

func (q *request) resourceGroup(g resource.Group) resourceGroup {
	out := resourceGroup{
		ID: q.groupID(g.Name), Name: g.Name, Type: "Microsoft.Resources/resourceGroups", Location: g.Location, Tags: tagsOf(g.Tags),
	}
	out.Properties.ProvisioningState = "Succeeded"
	return out
}

func listGroups(q *request) (response, error) {
	if q.query.Get("$filter") != "" {
		return response{}, badFilter("resource groups are listed without one.")
	}
	groups, err := q.resources().ListGroups(q.ctx, q.actor())
	if err != nil {
		return response{}, err
	}
	return page(q, groups, func(g resource.Group) string { return strings.ToLower(g.Name) }, q.resourceGroup)
}

func getGroup(q *request) (response, error) {
	g, err := q.resources().GetGroup(q.ctx, q.actor(), q.params.group)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.resourceGroup(g))
}

func groupExists(q *request) (response, error) {
	there, err := q.resources().GroupExists(q.ctx, q.actor(), q.params.group)
	if err != nil {
		return response{}, err
	}
	if there {
		return response{status: http.StatusNoContent}, nil
	}
	return response{status: http.StatusNotFound}, nil
}

func putGroup(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	g := resource.Group{Name: q.params.group}
	if g.Location, err = body.Required("location"); err != nil {
		return response{}, err
	}
	if g.Tags, err = body.Texts("tags"); err != nil {
		return response{}, err
	}
	g, created, err := q.resources().PutGroup(q.ctx, q.actor(), g)
	if err != nil {
		return response{}, err
	}
	return saved(created, q.resourceGroup(g))
}

func patchGroup(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	tags, err := body.Texts("tags")
	if err != nil {
		return response{}, err
	}
	if tags == nil {
		return getGroup(q)
	}
	g, err := q.resources().UpdateGroupTags(q.ctx, q.actor(), q.params.group, tags)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.resourceGroup(g))
}

func deleteGroup(q *request) (response, error) {
	if err := q.resources().DeleteGroup(q.ctx, q.actor(), q.params.group); err != nil {
		return response{}, err
	}
	return response{status: http.StatusOK}, nil
}

// genericResource is a vault or a managed HSM as lists of resources of all types show it.
type genericResource struct {
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Type     string            `json:"type"`
	Location string            `json:"location"`
	Tags     map[string]string `json:"tags"`
}

const (
	vaultResourceType = "Microsoft.KeyVault/vaults"
	hsmResourceType   = "Microsoft.KeyVault/managedHSMs"
)

// listResources lists vaults and managed HSMs, those of a type, a name or a group if the filter says so. Clients find a vault by it
// whose group they do not know.
func listResources(q *request) (response, error) {
	f, err := resourceFilter(q.query.Get("$filter"))
	if err != nil {
		return response{}, err
	}
	group := q.params.group
	if group == "" {
		group = f.group
	} else if f.group != "" {
		return response{}, badFilter("the path names the resource group already.")
	}
	var found []genericResource
	for _, kind := range []struct {
		name string
		list func() ([]*resource.Vault, error)
	}{
		{vaultResourceType, func() ([]*resource.Vault, error) { return q.resources().ListVaults(q.ctx, q.actor(), group) }},
		{hsmResourceType, func() ([]*resource.Vault, error) { return q.resources().ListHSMs(q.ctx, q.actor(), group) }},
	} {
		if f.kind != "" && !equalFold(f.kind, kind.name) {
			continue
		}
		all, err := kind.list()
		if err != nil {
			return response{}, err
		}
		for _, v := range all {
			if f.name == "" || equalFold(f.name, v.Name) {
				found = append(found, genericResource{v.ARMID(), v.Name, kind.name, v.Location, tagsOf(v.Tags)})
			}
		}
	}
	return page(q, found, func(g genericResource) string { return strings.ToLower(g.ID) }, func(g genericResource) genericResource { return g })
}

// resourceQuery is what resources are asked for by; "" is any.
type resourceQuery struct{ kind, name, group string }

// resourceFilter reads "resourceType eq '…'", "name eq '…'" and "resourceGroup eq '…'".
func resourceFilter(text string) (f resourceQuery, err error) {
	clauses, err := parseFilter(text)
	if err != nil {
		return f, err
	}
	for _, c := range clauses {
		switch {
		case c.is("", "resourceType") && f.kind == "" && c.value != "":
			f.kind = c.value
		case c.is("", "name") && f.name == "" && c.value != "":
			f.name = c.value
		case c.is("", "resourceGroup") && f.group == "" && c.value != "":
			f.group = c.value
		default:
			return f, badFilter("resources can be listed by resourceType eq '…', name eq '…' and resourceGroup eq '…' only, each once.")
		}
	}
	return f, nil
}

// A providerDoc is a resource provider as clients look it up.
type providerDoc struct {
	ID                 string         `json:"id"`
	Namespace          string         `json:"namespace"`
	ResourceTypes      []resourceType `json:"resourceTypes"`
	RegistrationState  string         `json:"registrationState"`
	RegistrationPolicy string         `json:"registrationPolicy"`
}

type resourceType struct {
	Name        string   `json:"resourceType"`
	Locations   []string `json:"locations"`
	APIVersions []string `json:"apiVersions"`
}

// namespaces are the providers that there are, with the types of each.
var namespaces = []struct {
	name     string
	versions []string // newest last
	types    []string
}{
	{"Microsoft.Authorization", []string{"2015-07-01", "2022-04-01"}, []string{"roleAssignments", "roleDefinitions"}},
	{"Microsoft.KeyVault", apiVersions, []string{
		"vaults", "vaults/secrets", "vaults/keys", "vaults/keys/versions", "vaults/accessPolicies", "operations", "checkNameAvailability",
		"deletedVaults", "locations", "locations/deletedVaults", "locations/operationResults", "managedHSMs", "deletedManagedHSMs",
		"locations/deletedManagedHSMs", "locations/managedHsmOperationResults", "checkMhsmNameAvailability",
	}},
	{"Microsoft.Resources", []string{"2015-11-01", "2022-09-01", "2022-12-01"}, []string{
		"tenants", "locations", "providers", "resources", "subscriptions", "subscriptions/locations", "subscriptions/providers",
		"subscriptions/resourceGroups", "subscriptions/resources", "resourceGroups",
	}},
}

func (q *request) providers() (out []providerDoc) {
	for _, n := range namespaces {
		versions := slices.Clone(n.versions)
		slices.Reverse(versions)
		p := providerDoc{
			ID: q.subscriptionID() + "/providers/" + n.name, Namespace: n.name, RegistrationState: "Registered",
			RegistrationPolicy: "RegistrationFree",
		}
		for _, t := range n.types {
			p.ResourceTypes = append(p.ResourceTypes, resourceType{t, q.resources().Locations(), versions})
		}
		out = append(out, p)
	}
	return out
}

func listProviders(q *request) (response, error) {
	if err := q.mustSee(); err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, list[providerDoc]{Value: q.providers()})
}

// getProvider answers a registration, too: what there is, is registered for good.
func getProvider(q *request) (response, error) {
	if err := q.mustSee(); err != nil {
		return response{}, err
	}
	for _, p := range q.providers() {
		if equalFold(p.Namespace, q.params.name) {
			return reply(http.StatusOK, p)
		}
	}
	return response{}, &wireError{status: http.StatusNotFound, code: "InvalidResourceNamespace",
		message: sprintf("The resource namespace '%s' is invalid.", clip(q.params.name))}
}
