package arm

import (
	"net/http"
	"net/netip"
	"strconv"
	"strings"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire"
)

// Shapes of contract §19.1, with the members in the order in which the real service writes them.

type sku struct {
	Family string `json:"family"`
	Name   string `json:"name"`
}

type vaultResource struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags"`
	SystemData systemData        `json:"systemData"`
	Properties vaultProperties   `json:"properties"`
}

type vaultProperties struct {
	SKU                     sku            `json:"sku"`
	TenantID                string         `json:"tenantId"`
	Network                 *networkACLs   `json:"networkAcls,omitempty"`
	AccessPolicies          []accessPolicy `json:"accessPolicies"`
	ForDeployment           bool           `json:"enabledForDeployment"`
	ForDiskEncryption       bool           `json:"enabledForDiskEncryption,omitempty"`
	ForTemplateDeployment   bool           `json:"enabledForTemplateDeployment,omitempty"`
	SoftDelete              bool           `json:"enableSoftDelete"`
	SoftDeleteRetentionDays int            `json:"softDeleteRetentionInDays"`
	RBAC                    *bool          `json:"enableRbacAuthorization,omitempty"`
	PurgeProtection         bool           `json:"enablePurgeProtection,omitempty"`
	VaultURI                string         `json:"vaultUri"`
	ProvisioningState       string         `json:"provisioningState"`
	PublicNetworkAccess     string         `json:"publicNetworkAccess"`
}

type networkACLs struct {
	Bypass          string    `json:"bypass"`
	DefaultAction   string    `json:"defaultAction"`
	IPRules         []ipRule  `json:"ipRules"`
	VirtualNetworks []vnetRef `json:"virtualNetworkRules"`
}

type ipRule struct {
	Value string `json:"value"`
}

type vnetRef struct {
	ID string `json:"id"`
}

// vaultURL is where a vault answers: the host that the caller would use, with a slash at the end.
func (q *request) vaultURL(kind, name string) string {
	host := strings.ToLower(name) + "." + kind + "." + q.h.cfg.Domain
	if q.port != "" {
		host += ":" + q.port
	}
	return "https://" + host + "/"
}

func (q *request) vaultResource(v *resource.Vault) vaultResource {
	p := vaultProperties{
		SKU:                     sku{"A", string(v.Tier)},
		TenantID:                v.TenantID,
		Network:                 networkOf(v.Network),
		AccessPolicies:          accessPoliciesOf(v.AccessPolicies),
		ForDeployment:           v.EnabledForDeployment,
		ForDiskEncryption:       v.EnabledForDiskEncryption,
		ForTemplateDeployment:   v.EnabledForTemplateDeployment,
		SoftDelete:              true,
		SoftDeleteRetentionDays: v.RetentionDays,
		PurgeProtection:         v.PurgeProtection,
		VaultURI:                q.vaultURL("vault", v.Name),
		ProvisioningState:       "Succeeded",
		PublicNetworkAccess:     orEnabled(v.PublicNetworkAccess),
	}
	if v.RBAC || q.atLeast(rolesByDefault) {
		p.RBAC = &v.RBAC
	}
	return vaultResource{
		ID: v.ARMID(), Name: v.Name, Type: vaultResourceType, Location: v.Location, Tags: tagsOf(v.Tags), SystemData: systemDataOf(v), Properties: p,
	}
}

func systemDataOf(v *resource.Vault) systemData {
	return systemData{v.CreatedBy, v.CreatedByType, precise(v.Created), v.ModifiedBy, v.ModifiedByType, precise(v.Modified)}
}

func orEnabled(access string) string {
	if access == "" {
		return "Enabled"
	}
	return access
}

func networkOf(n *authz.NetworkRules) *networkACLs {
	if n == nil {
		return nil
	}
	out := &networkACLs{string(n.Bypass), string(n.DefaultAction), []ipRule{}, []vnetRef{}}
	for _, p := range n.IPRules {
		out.IPRules = append(out.IPRules, ipRule{p.String()})
	}
	for _, id := range n.VirtualNetworks {
		out.VirtualNetworks = append(out.VirtualNetworks, vnetRef{id})
	}
	return out
}

func getVault(q *request) (response, error) {
	v, err := q.resources().GetVault(q.ctx, q.actor(), q.params.group, q.params.name)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.vaultResource(v))
}

func listVaults(q *request) (response, error) {
	all, err := q.resources().ListVaults(q.ctx, q.actor(), q.params.group)
	if err != nil {
		return response{}, err
	}
	return page(q, all, vaultKey, q.vaultResource)
}

// vaultKey is the order of lists: names are unique in the installation, but for those of deleted ones and live ones, which do
// not stand in the same list.
func vaultKey(v *resource.Vault) string { return strings.ToLower(v.Name) }

func putVault(q *request) (response, error) {
	body, properties, err := q.properties()
	if err != nil {
		return response{}, err
	}
	p, err := q.readPutVault(body, properties)
	if err != nil {
		return response{}, err
	}
	v, _, err := q.resources().PutVault(q.ctx, q.actor(), q.params.group, q.params.name, p)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.vaultResource(v)) // as the real service, also for one that is new
}

func (q *request) readPutVault(body, properties wire.Object) (p resource.PutVaultParams, err error) {
	if p.Location, err = body.TextOrNone("location"); err != nil {
		return p, err
	}
	if p.Tags, err = body.Texts("tags"); err != nil {
		return p, err
	}
	if p.Recover, err = recovers(properties); err != nil || p.Recover {
		return p, err // nothing else of a recovery counts
	}
	if p.TenantID, err = properties.TextOrNone("tenantId"); err != nil {
		return p, err
	}
	if p.Tier, err = readTier(properties); err != nil {
		return p, err
	}
	if p.AccessPolicies, err = readAccessPolicies(properties); err != nil {
		return p, err
	}
	p.DefaultRBAC = q.atLeast(rolesByDefault)
	s, err := readSettings(properties)
	if err != nil {
		return p, err
	}
	p.RBAC, p.SoftDelete, p.RetentionDays, p.PurgeProtection = s.rbac, s.softDelete, s.retention, s.purgeProtection
	p.EnabledForDeployment, p.EnabledForDiskEncryption = s.deployment, s.diskEncryption
	p.EnabledForTemplateDeployment = s.templateDeployment
	p.Network, p.PublicNetworkAccess = s.network, s.publicAccess
	return p, nil
}

func patchVault(q *request) (response, error) {
	body, properties, err := q.properties()
	if err != nil {
		return response{}, err
	}
	p, err := readPatchVault(body, properties)
	if err != nil {
		return response{}, err
	}
	v, err := q.resources().PatchVault(q.ctx, q.actor(), q.params.group, q.params.name, p)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.vaultResource(v))
}

func readPatchVault(body, properties wire.Object) (p resource.PatchVaultParams, err error) {
	if p.Tags, err = body.Texts("tags"); err != nil {
		return p, err
	}
	if p.TenantID, err = properties.TextOrNone("tenantId"); err != nil {
		return p, err
	}
	if p.Tier, err = readTier(properties); err != nil {
		return p, err
	}
	if p.AccessPolicies, err = readAccessPolicies(properties); err != nil {
		return p, err
	}
	s, err := readSettings(properties)
	if err != nil {
		return p, err
	}
	p.RBAC, p.SoftDelete, p.RetentionDays, p.PurgeProtection = s.rbac, s.softDelete, s.retention, s.purgeProtection
	p.EnabledForDeployment, p.EnabledForDiskEncryption = s.deployment, s.diskEncryption
	p.EnabledForTemplateDeployment = s.templateDeployment
	p.Network, p.PublicNetworkAccess = s.network, s.publicAccess
	return p, nil
}

// settings are the properties that creating and changing a vault have in common; nil is one that is not said.
type settings struct {
	rbac, softDelete, purgeProtection              *bool
	deployment, diskEncryption, templateDeployment *bool
	retention                                      *int
	network                                        *authz.NetworkRules
	publicAccess                                   *string
}

func readSettings(o wire.Object) (s settings, err error) {
	for _, m := range []struct {
		name  string
		value **bool
	}{
		{"enableRbacAuthorization", &s.rbac}, {"enableSoftDelete", &s.softDelete}, {"enablePurgeProtection", &s.purgeProtection},
		{"enabledForDeployment", &s.deployment}, {"enabledForDiskEncryption", &s.diskEncryption},
		{"enabledForTemplateDeployment", &s.templateDeployment},
	} {
		if *m.value, err = o.Boolean(m.name); err != nil {
			return s, err
		}
	}
	if s.retention, err = readDays(o); err != nil {
		return s, err
	}
	if s.publicAccess, err = readPublicAccess(o); err != nil {
		return s, err
	}
	s.network, err = readNetwork(o)
	return s, err
}

// readDays reads a number that az sends as a text when it makes a managed HSM, and that the real service takes so.
func readDays(o wire.Object) (*int, error) {
	const name = "softDeleteRetentionInDays"
	text, err := o.Text(name)
	if err == nil && text == nil {
		return nil, nil
	}
	var days int
	if err == nil {
		days, err = strconv.Atoi(*text)
	} else {
		var n int64
		n, err = o.Number(name)
		days = int(n)
	}
	const most = 1 << 20 // fits everywhere; which are allowed is not decided here
	if err != nil || days < 0 || days > most {
		return nil, o.WrongType(name, "a number of days from 7 to 90")
	}
	return &days, nil
}

// readPublicAccess reads a member that Azure compares without case.
func readPublicAccess(o wire.Object) (*string, error) {
	const name = "publicNetworkAccess"
	text, err := o.Text(name)
	if text == nil || err != nil {
		return nil, err
	}
	for _, known := range []string{"Enabled", "Disabled"} {
		if equalFold(*text, known) {
			return &known, nil
		}
	}
	return nil, o.WrongType(name, `"Enabled" or "Disabled"`)
}

// recovers tells whether createMode asks for what is soft-deleted.
func recovers(o wire.Object) (bool, error) {
	mode, err := o.TextOrNone("createMode")
	switch {
	case err != nil:
		return false, err
	case equalFold(mode, "recover"):
		return true, nil
	case mode == "" || equalFold(mode, "default"):
		return false, nil
	}
	return false, o.WrongType("createMode", `"default" or "recover"`)
}

// readTier reads the SKU of a vault; "" if there is none.
func readTier(o wire.Object) (resource.Tier, error) {
	s, ok, err := o.Object("sku")
	if !ok || err != nil {
		return "", err
	}
	family, err := s.TextOrNone("family")
	if err != nil {
		return "", err
	}
	name, err := s.Required("name")
	if err != nil {
		return "", err
	}
	for _, tier := range []resource.Tier{resource.Standard, resource.Premium} {
		if (family == "" || equalFold(family, "A")) && equalFold(name, string(tier)) {
			return tier, nil
		}
	}
	return "", &wireError{status: http.StatusBadRequest, code: "SkuNotSupported", target: "sku",
		message: sprintf("The SKU '%s' of family '%s' is not supported: vaults are of family A, 'standard' or 'premium'.", clip(name), clip(family))}
}

// readNetwork reads what the network rules shall be; nil if nothing is said. What is left out is zero.
func readNetwork(o wire.Object) (*authz.NetworkRules, error) {
	acls, ok, err := o.Object("networkAcls")
	if !ok || err != nil {
		return nil, err
	}
	bypass, err := choice(acls, "bypass", string(authz.BypassAzureServices), string(authz.BypassNone))
	if err != nil {
		return nil, err
	}
	action, err := choice(acls, "defaultAction", string(authz.AllowAddresses), string(authz.DenyAddresses))
	if err != nil {
		return nil, err
	}
	n := &authz.NetworkRules{Bypass: authz.NetworkBypass(bypass), DefaultAction: authz.NetworkAction(action)}
	if err := readIPRules(acls, n); err != nil {
		return nil, err
	}
	networks, err := acls.Objects("virtualNetworkRules")
	if err != nil {
		return nil, err
	}
	if networks != nil {
		n.VirtualNetworks = []string{}
	}
	for _, rule := range networks {
		id, err := rule.Required("id")
		if err != nil {
			return nil, err
		}
		n.VirtualNetworks = append(n.VirtualNetworks, id)
	}
	return n, nil
}

func readIPRules(acls wire.Object, n *authz.NetworkRules) error {
	rules, err := acls.Objects("ipRules")
	if err != nil {
		return err
	}
	if len(rules) > authz.MaxIPRules {
		return acls.WrongType("ipRules", sprintf("a list of %d rules at most", authz.MaxIPRules))
	}
	if rules != nil {
		n.IPRules = []netip.Prefix{}
	}
	for _, rule := range rules {
		value, err := rule.Required("value")
		if err != nil {
			return err
		}
		prefix, err := authz.ParseIPRule(value)
		if err != nil {
			return rule.WrongType("value", "an address, or a range of addresses in CIDR notation")
		}
		n.IPRules = append(n.IPRules, prefix)
	}
	return nil
}

// choice reads a text that is one of a few, in any case, and returns it in theirs; "" if it is absent.
func choice(o wire.Object, name string, known ...string) (string, error) {
	text, err := o.TextOrNone(name)
	if text == "" || err != nil {
		return "", err
	}
	for _, k := range known {
		if equalFold(text, k) {
			return k, nil
		}
	}
	return "", o.WrongType(name, "one of "+strings.Join(known, ", "))
}

func deleteVault(q *request) (response, error) {
	existed, err := q.resources().DeleteVault(q.ctx, q.actor(), q.params.group, q.params.name)
	if err != nil {
		return response{}, err
	}
	return deleted(existed)
}

type nameAvailability struct {
	Available bool   `json:"nameAvailable"`
	Reason    string `json:"reason,omitempty"`
	Message   string `json:"message,omitempty"`
}

func checkVaultName(q *request) (response, error) { return q.checkName(false) }

func checkHSMName(q *request) (response, error) { return q.checkName(true) }

func (q *request) checkName(hsm bool) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	name, err := body.Required("name")
	if err != nil {
		return response{}, err
	}
	kind, err := body.TextOrNone("type")
	if err != nil {
		return response{}, err
	}
	if !hsm && !equalFold(kind, vaultResourceType) {
		return response{}, body.WrongType("type", vaultResourceType)
	}
	a, err := q.resources().CheckName(q.ctx, q.actor(), name, hsm)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, nameAvailability(a))
}
