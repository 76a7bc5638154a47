package arm

import (
	"net/http"
	"strings"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire"
)

// Shapes of contract §19.2. A managed HSM is made and changed by long operations: the answer is 202 with a Location, which
// answers 200 when it is done (operations.go).

type hsmResource struct {
	Identity   *hsmIdentity      `json:"identity,omitempty"`
	SKU        sku               `json:"sku"`
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags"`
	SystemData systemData        `json:"systemData"`
	Properties hsmProperties     `json:"properties"`
}

type hsmProperties struct {
	TenantID                string         `json:"tenantId"`
	HSMURI                  string         `json:"hsmUri"`
	Administrators          []string       `json:"initialAdminObjectIds"`
	SoftDelete              bool           `json:"enableSoftDelete"`
	SoftDeleteRetentionDays int            `json:"softDeleteRetentionInDays"`
	PurgeProtection         bool           `json:"enablePurgeProtection"`
	ProvisioningState       string         `json:"provisioningState"`
	StatusMessage           string         `json:"statusMessage"`
	Network                 networkACLs    `json:"networkAcls"`
	PublicNetworkAccess     string         `json:"publicNetworkAccess"`
	Regions                 []hsmRegion    `json:"regions"`
	SecurityDomain          securityDomain `json:"securityDomainProperties"`
}

type hsmIdentity struct {
	Type         string              `json:"type"`
	UserAssigned map[string]struct{} `json:"userAssignedIdentities"`
}

type hsmRegion struct {
	Name              string `json:"name"`
	ProvisioningState string `json:"provisioningState"`
	IsPrimary         bool   `json:"isPrimary"`
}

type securityDomain struct {
	Status  string `json:"activationStatus"`
	Message string `json:"activationStatusMessage"`
}

// activations are what the states of activation say.
var activations = map[string]string{
	"NotActivated": "Your HSM has been provisioned, but cannot be used for cryptographic operations until it is activated. " +
		"To activate the HSM, download the security domain.",
	"Active": "Your HSM has been activated and can be used for cryptographic operations.",
}

func (q *request) hsmResource(v *resource.Vault) hsmResource {
	network := networkOf(v.Network)
	if network == nil {
		network = networkOf(&authz.NetworkRules{Bypass: authz.BypassAzureServices, DefaultAction: authz.AllowAddresses})
	}
	administrators := v.Administrators
	if administrators == nil {
		administrators = []string{}
	}
	state := "Succeeded"
	if v.Restoring != "" {
		state = "Restoring"
	}
	return hsmResource{
		Identity: identityOf(v.Identities),
		SKU:      sku{hsmFamily(v.SKUName), v.SKUName}, ID: v.ARMID(), Name: v.Name, Type: hsmResourceType, Location: v.Location, Tags: tagsOf(v.Tags),
		SystemData: systemDataOf(v),
		Properties: hsmProperties{
			TenantID:                v.TenantID,
			HSMURI:                  q.vaultURL("managedhsm", v.Name),
			Administrators:          administrators,
			SoftDelete:              true,
			SoftDeleteRetentionDays: v.RetentionDays,
			PurgeProtection:         v.PurgeProtection,
			ProvisioningState:       state,
			StatusMessage:           "The Managed HSM is provisioned and ready to use.",
			Network:                 *network,
			PublicNetworkAccess:     orEnabled(v.PublicNetworkAccess),
			Regions:                 []hsmRegion{},
			SecurityDomain:          securityDomain{v.Activation, activations[v.Activation]},
		},
	}
}

func identityOf(ids []string) *hsmIdentity {
	if len(ids) == 0 {
		return nil
	}
	out := &hsmIdentity{Type: userAssigned, UserAssigned: make(map[string]struct{})}
	for _, id := range ids {
		out.UserAssigned[id] = struct{}{}
	}
	return out
}

const userAssigned = "UserAssigned"

// readIdentity reads which identities a managed HSM has; nil if nothing is said, empty for none.
func readIdentity(body wire.Object) ([]string, error) {
	o, ok, err := body.Object("identity")
	if !ok || err != nil {
		return nil, err
	}
	kind, err := o.Required("type")
	if err != nil {
		return nil, err
	}
	ids, err := o.Names("userAssignedIdentities")
	switch {
	case err != nil:
		return nil, err
	case equalFold(kind, "None"):
		return []string{}, nil
	case !equalFold(kind, userAssigned):
		return nil, o.WrongType("type", "None or "+userAssigned)
	case len(ids) == 0:
		return nil, o.Missing("userAssignedIdentities")
	}
	return ids, nil
}

func getHSM(q *request) (response, error) {
	v, err := q.resources().GetHSM(q.ctx, q.actor(), q.params.group, q.params.name)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.hsmResource(v))
}

func listHSMs(q *request) (response, error) {
	all, err := q.resources().ListHSMs(q.ctx, q.actor(), q.params.group)
	if err != nil {
		return response{}, err
	}
	return page(q, all, vaultKey, q.hsmResource)
}

func putHSM(q *request) (response, error) {
	body, properties, err := q.properties()
	if err != nil {
		return response{}, err
	}
	p, err := readPutHSM(body, properties)
	if err != nil {
		return response{}, err
	}
	q.keepUnprotected(&p.PurgeProtection)
	v, _, err := q.resources().PutHSM(q.ctx, q.actor(), q.params.group, q.params.name, p)
	if err != nil {
		return response{}, err
	}
	return q.accepted(hsmOperations, operation{Kind: opPut, Group: v.ResourceGroup, Name: v.Name}, v.Location)
}

func readPutHSM(body, properties wire.Object) (p resource.PutHSMParams, err error) {
	if p.Location, err = body.TextOrNone("location"); err != nil {
		return p, err
	}
	if p.Tags, err = body.Texts("tags"); err != nil {
		return p, err
	}
	if p.Recover, err = recovers(properties); err != nil || p.Recover {
		return p, err // nothing else of a recovery counts
	}
	if p.SKUName, err = readHSMSKU(body); err != nil {
		return p, err
	}
	if p.TenantID, err = properties.TextOrNone("tenantId"); err != nil {
		return p, err
	}
	if p.Administrators, err = properties.Strings("initialAdminObjectIds"); err != nil {
		return p, err
	}
	if p.Identities, err = readIdentity(body); err != nil {
		return p, err
	}
	if err := refuseRegions(properties); err != nil {
		return p, err
	}
	s, err := readSettings(properties)
	if err != nil {
		return p, err
	}
	p.SoftDelete, p.RetentionDays, p.PurgeProtection = s.softDelete, s.retention, s.purgeProtection
	p.Network, p.PublicNetworkAccess = s.network, s.publicAccess
	return p, nil
}

// keepUnprotected takes back a false that changes nothing. A managed HSM shows one, unlike a vault, and clients send back what
// they were shown. What is protected stays so: then the false is left to be refused.
func (q *request) keepUnprotected(protection **bool) {
	if *protection == nil || **protection {
		return
	}
	if v, err := findHSM(q); err != nil || !v.PurgeProtection {
		*protection = nil
	}
}

// hsmFamily is the family of a managed HSM's SKU: the letter in its name.
func hsmFamily(name string) string {
	_, rest, _ := strings.Cut(name, "_")
	if strings.HasPrefix(rest, "C") {
		return "C"
	}
	return "B"
}

// readHSMSKU reads the name of the SKU, which stands outside of the properties here; "" if there is none. The name says the family, and
// clients send "B" with every name.
func readHSMSKU(body wire.Object) (string, error) {
	s, ok, err := body.Object("sku")
	if !ok || err != nil {
		return "", err
	}
	return s.Required("name")
}

// refuseRegions refuses more regions than the one in which the HSM is: an installation is in one place.
func refuseRegions(properties wire.Object) error {
	regions, err := properties.Objects("regions")
	if err != nil || len(regions) == 0 {
		return err
	}
	name, err := regions[0].TextOrNone("name")
	if err != nil {
		return err
	}
	return &wireError{status: http.StatusBadRequest, code: "400", target: "regions",
		message: sprintf("Invalid region name: %s passed. Managed HSMs of this service cannot be extended to other regions.", clip(name))}
}

func patchHSM(q *request) (response, error) {
	body, properties, err := q.properties()
	if err != nil {
		return response{}, err
	}
	var p resource.PatchHSMParams
	if p.Tags, err = body.Texts("tags"); err != nil {
		return response{}, err
	}
	if p.Identities, err = readIdentity(body); err != nil {
		return response{}, err
	}
	if err := refuseRegions(properties); err != nil {
		return response{}, err
	}
	s, err := readSettings(properties)
	if err != nil {
		return response{}, err
	}
	p.PurgeProtection, p.Network, p.PublicNetworkAccess = s.purgeProtection, s.network, s.publicAccess
	q.keepUnprotected(&p.PurgeProtection)
	v, err := q.resources().PatchHSM(q.ctx, q.actor(), q.params.group, q.params.name, p)
	if err != nil {
		return response{}, err
	}
	return q.accepted(hsmOperations, operation{Kind: opPut, Group: v.ResourceGroup, Name: v.Name}, v.Location)
}

func deleteHSM(q *request) (response, error) {
	// Where it was is in the answer, so it is looked at before it is gone. The deletion itself decides who may.
	v, err := q.resources().GetHSM(q.ctx, q.actor(), q.params.group, q.params.name)
	if resource.IsKind(err, resource.ResourceNotFound) || resource.IsKind(err, resource.ResourceGroupNotFound) {
		return deleted(false)
	}
	if err != nil {
		return response{}, err
	}
	existed, err := q.resources().DeleteHSM(q.ctx, q.actor(), q.params.group, q.params.name)
	if err != nil || !existed {
		return response{status: http.StatusNoContent}, err
	}
	return q.accepted(hsmOperations, operation{Kind: opDelete, Group: v.ResourceGroup, Name: v.Name}, v.Location)
}

// listHSMRegions answers with the one place where the HSM is.
func listHSMRegions(q *request) (response, error) {
	v, err := q.resources().GetHSM(q.ctx, q.actor(), q.params.group, q.params.name)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, list[hsmRegion]{Value: []hsmRegion{{locationName(v.Location), "Succeeded", true}}})
}
