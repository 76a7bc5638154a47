package arm

import (
	"net/http"
	"slices"
	"strings"
)

// A handler answers the requests of a route.
type handler = func(*request) (response, error)

// A route is one row of the table.
type route struct {
	Operation string   // for the record and the metrics
	Provider  provider // whose api-versions it has
	Method    string
	Pattern   string // literals in Azure's spelling; {words} take a segment, {scope} in front takes all that stand there
	Success   int
	MaxBody   int64  // 0: the body is not read
	Type      string // of the resource in {name}, if it is one of Microsoft.KeyVault's
	Public    bool   // needs no token
	Asks      bool   // changes nothing, although its method is POST
	handle    handler

	segments []string // Pattern split, without {scope}; filled by newTable
	scoped   bool
}

// changes tells whether a success of the route has changed something.
func (rt *route) changes() bool {
	return rt != nil && rt.Method != http.MethodGet && rt.Method != http.MethodHead && !rt.Asks
}

// graph tells whether the route answers questions about the directory.
func (rt *route) graph() bool { return rt != nil && rt.segments[0] == "v1.0" }

// Beginnings of patterns.
const (
	sub    = "/subscriptions/{subscription}"
	group  = sub + "/resourceGroups/{group}"
	subKV  = sub + "/providers/Microsoft.KeyVault"
	atLoc  = subKV + "/locations/{location}"
	vaults = group + "/providers/Microsoft.KeyVault/vaults"
	hsms   = group + "/providers/Microsoft.KeyVault/managedHSMs"
	vault  = vaults + "/{name}"
	hsm    = hsms + "/{name}"
	access = "{scope}/providers/Microsoft.Authorization"
)

// Types of Microsoft.KeyVault.
const (
	vaultType = "vaults"
	hsmType   = "managedHSMs"
)

// table is the management plane. docs/arm.md is generated from it.
var table = newTable([]route{
	{Operation: "VaultPut", Provider: keyVault, Method: "PUT", Pattern: vault, Success: 200, MaxBody: maxBody, Type: vaultType, handle: putVault},
	{Operation: "VaultPatch", Provider: keyVault, Method: "PATCH", Pattern: vault, Success: 200, MaxBody: maxBody, Type: vaultType, handle: patchVault},
	{Operation: "VaultGet", Provider: keyVault, Method: "GET", Pattern: vault, Success: 200, Type: vaultType, handle: getVault},
	{Operation: "VaultDelete", Provider: keyVault, Method: "DELETE", Pattern: vault, Success: 200, Type: vaultType, handle: deleteVault},
	{Operation: "VaultList", Provider: keyVault, Method: "GET", Pattern: vaults, Success: 200, handle: listVaults},
	{Operation: "VaultList", Provider: keyVault, Method: "GET", Pattern: subKV + "/vaults", Success: 200, handle: listVaults},
	{Operation: "VaultAccessPolicyPut", Provider: keyVault, Method: "PUT", Pattern: vault + "/accessPolicies/{kind}", Success: 200, MaxBody: maxBody, Type: vaultType, handle: changeAccessPolicies},
	{Operation: "VaultListDeleted", Provider: keyVault, Method: "GET", Pattern: subKV + "/deletedVaults", Success: 200, handle: listDeletedVaults},
	{Operation: "VaultGetDeleted", Provider: keyVault, Method: "GET", Pattern: atLoc + "/deletedVaults/{name}", Success: 200, handle: getDeletedVault},
	{Operation: "VaultPurge", Provider: keyVault, Method: "POST", Pattern: atLoc + "/deletedVaults/{name}/purge", Success: 202, handle: purgeVault},
	{Operation: "VaultOperationResult", Provider: keyVault, Method: "GET", Pattern: atLoc + "/operationResults/{id}", Success: 200, handle: vaultOperationResult},
	{Operation: "VaultCheckName", Provider: keyVault, Method: "POST", Pattern: subKV + "/checkNameAvailability", Success: 200, MaxBody: smallBody, Asks: true, handle: checkVaultName},
	{Operation: "VaultPrivateEndpointList", Provider: keyVault, Method: "GET", Pattern: vault + "/privateEndpointConnections", Success: 200, Type: vaultType, handle: listVaultConnections},
	{Operation: "VaultPrivateEndpointGet", Provider: keyVault, Method: "GET", Pattern: vault + "/privateEndpointConnections/{object}", Success: 200, Type: vaultType, handle: noVaultConnection},
	{Operation: "VaultPrivateEndpointPut", Provider: keyVault, Method: "PUT", Pattern: vault + "/privateEndpointConnections/{object}", Success: 200, Type: vaultType, handle: noVaultConnection},
	{Operation: "VaultPrivateEndpointDelete", Provider: keyVault, Method: "DELETE", Pattern: vault + "/privateEndpointConnections/{object}", Success: 204, Type: vaultType, handle: deleteVaultConnection},
	{Operation: "VaultPrivateLinkList", Provider: keyVault, Method: "GET", Pattern: vault + "/privateLinkResources", Success: 200, Type: vaultType, handle: listVaultLinks},

	{Operation: "VaultSecretPut", Provider: keyVault, Method: "PUT", Pattern: vault + "/secrets/{object}", Success: 200, MaxBody: maxSecret, Type: vaultType, handle: inVault("secrets/write", putSecret)},
	{Operation: "VaultSecretPatch", Provider: keyVault, Method: "PATCH", Pattern: vault + "/secrets/{object}", Success: 200, MaxBody: maxSecret, Type: vaultType, handle: inVault("secrets/write", patchSecret)},
	{Operation: "VaultSecretGet", Provider: keyVault, Method: "GET", Pattern: vault + "/secrets/{object}", Success: 200, Type: vaultType, handle: inVault("secrets/read", getSecret)},
	{Operation: "VaultSecretList", Provider: keyVault, Method: "GET", Pattern: vault + "/secrets", Success: 200, Type: vaultType, handle: inVault("secrets/read", listSecrets)},
	{Operation: "VaultKeyPut", Provider: keyVault, Method: "PUT", Pattern: vault + "/keys/{object}", Success: 200, MaxBody: smallBody, Type: vaultType, handle: inVault("keys/write", putKey)},
	{Operation: "VaultKeyGet", Provider: keyVault, Method: "GET", Pattern: vault + "/keys/{object}", Success: 200, Type: vaultType, handle: inVault("keys/read", getKey)},
	{Operation: "VaultKeyList", Provider: keyVault, Method: "GET", Pattern: vault + "/keys", Success: 200, Type: vaultType, handle: inVault("keys/read", listKeys)},
	{Operation: "VaultKeyVersionGet", Provider: keyVault, Method: "GET", Pattern: vault + "/keys/{object}/versions/{version}", Success: 200, Type: vaultType, handle: inVault("keys/read", getKey)},
	{Operation: "VaultKeyVersionList", Provider: keyVault, Method: "GET", Pattern: vault + "/keys/{object}/versions", Success: 200, Type: vaultType, handle: inVault("keys/versions/read", listKeyVersions)},

	{Operation: "ManagedHsmPut", Provider: keyVault, Method: "PUT", Pattern: hsm, Success: 202, MaxBody: maxBody, Type: hsmType, handle: putHSM},
	{Operation: "ManagedHsmPatch", Provider: keyVault, Method: "PATCH", Pattern: hsm, Success: 202, MaxBody: maxBody, Type: hsmType, handle: patchHSM},
	{Operation: "ManagedHsmGet", Provider: keyVault, Method: "GET", Pattern: hsm, Success: 200, Type: hsmType, handle: getHSM},
	{Operation: "ManagedHsmDelete", Provider: keyVault, Method: "DELETE", Pattern: hsm, Success: 202, Type: hsmType, handle: deleteHSM},
	{Operation: "ManagedHsmList", Provider: keyVault, Method: "GET", Pattern: hsms, Success: 200, handle: listHSMs},
	{Operation: "ManagedHsmList", Provider: keyVault, Method: "GET", Pattern: subKV + "/managedHSMs", Success: 200, handle: listHSMs},
	{Operation: "ManagedHsmListDeleted", Provider: keyVault, Method: "GET", Pattern: subKV + "/deletedManagedHSMs", Success: 200, handle: listDeletedHSMs},
	{Operation: "ManagedHsmGetDeleted", Provider: keyVault, Method: "GET", Pattern: atLoc + "/deletedManagedHSMs/{name}", Success: 200, handle: getDeletedHSM},
	{Operation: "ManagedHsmPurge", Provider: keyVault, Method: "POST", Pattern: atLoc + "/deletedManagedHSMs/{name}/purge", Success: 202, handle: purgeHSM},
	{Operation: "ManagedHsmOperationResult", Provider: keyVault, Method: "GET", Pattern: atLoc + "/managedHsmOperationResults/{id}", Success: 200, handle: hsmOperationResult},
	{Operation: "ManagedHsmCheckName", Provider: keyVault, Method: "POST", Pattern: subKV + "/checkMhsmNameAvailability", Success: 200, MaxBody: smallBody, Asks: true, handle: checkHSMName},
	{Operation: "ManagedHsmRegionList", Provider: keyVault, Method: "GET", Pattern: hsm + "/regions", Success: 200, Type: hsmType, handle: listHSMRegions},
	{Operation: "ManagedHsmPrivateEndpointList", Provider: keyVault, Method: "GET", Pattern: hsm + "/privateEndpointConnections", Success: 200, Type: hsmType, handle: listHSMConnections},
	{Operation: "ManagedHsmPrivateEndpointGet", Provider: keyVault, Method: "GET", Pattern: hsm + "/privateEndpointConnections/{object}", Success: 200, Type: hsmType, handle: noHSMConnection},
	{Operation: "ManagedHsmPrivateEndpointPut", Provider: keyVault, Method: "PUT", Pattern: hsm + "/privateEndpointConnections/{object}", Success: 200, Type: hsmType, handle: noHSMConnection},
	{Operation: "ManagedHsmPrivateEndpointDelete", Provider: keyVault, Method: "DELETE", Pattern: hsm + "/privateEndpointConnections/{object}", Success: 204, Type: hsmType, handle: deleteHSMConnection},
	{Operation: "ManagedHsmPrivateLinkList", Provider: keyVault, Method: "GET", Pattern: hsm + "/privateLinkResources", Success: 200, Type: hsmType, handle: listHSMLinks},

	{Operation: "RoleDefinitionList", Provider: authorization, Method: "GET", Pattern: access + "/roleDefinitions", Success: 200, handle: atScope(listRoleDefinitions)},
	{Operation: "RoleDefinitionGet", Provider: authorization, Method: "GET", Pattern: access + "/roleDefinitions/{id}", Success: 200, handle: atScope(getRoleDefinition)},
	{Operation: "RoleDefinitionPut", Provider: authorization, Method: "PUT", Pattern: access + "/roleDefinitions/{id}", Success: 201, MaxBody: maxBody, handle: atScope(putRoleDefinition)},
	{Operation: "RoleDefinitionDelete", Provider: authorization, Method: "DELETE", Pattern: access + "/roleDefinitions/{id}", Success: 200, handle: atScope(deleteRoleDefinition)},
	{Operation: "RoleAssignmentList", Provider: authorization, Method: "GET", Pattern: access + "/roleAssignments", Success: 200, handle: atScope(listRoleAssignments)},
	{Operation: "RoleAssignmentGet", Provider: authorization, Method: "GET", Pattern: access + "/roleAssignments/{id}", Success: 200, handle: atScope(getRoleAssignment)},
	{Operation: "RoleAssignmentPut", Provider: authorization, Method: "PUT", Pattern: access + "/roleAssignments/{id}", Success: 201, MaxBody: smallBody, handle: atScope(putRoleAssignment)},
	{Operation: "RoleAssignmentDelete", Provider: authorization, Method: "DELETE", Pattern: access + "/roleAssignments/{id}", Success: 200, handle: atScope(deleteRoleAssignment)},

	{Operation: "SubscriptionList", Provider: resourcesAPI, Method: "GET", Pattern: "/subscriptions", Success: 200, handle: listSubscriptions},
	{Operation: "SubscriptionGet", Provider: resourcesAPI, Method: "GET", Pattern: sub, Success: 200, handle: getSubscription},
	{Operation: "TenantList", Provider: resourcesAPI, Method: "GET", Pattern: "/tenants", Success: 200, handle: listTenants},
	{Operation: "LocationList", Provider: resourcesAPI, Method: "GET", Pattern: sub + "/locations", Success: 200, handle: listLocations},
	{Operation: "GroupList", Provider: resourcesAPI, Method: "GET", Pattern: sub + "/resourceGroups", Success: 200, handle: listGroups},
	{Operation: "GroupGet", Provider: resourcesAPI, Method: "GET", Pattern: group, Success: 200, handle: getGroup},
	{Operation: "GroupExists", Provider: resourcesAPI, Method: "HEAD", Pattern: group, Success: 204, handle: groupExists},
	{Operation: "GroupPut", Provider: resourcesAPI, Method: "PUT", Pattern: group, Success: 200, MaxBody: smallBody, handle: putGroup},
	{Operation: "GroupPatch", Provider: resourcesAPI, Method: "PATCH", Pattern: group, Success: 200, MaxBody: smallBody, handle: patchGroup},
	{Operation: "GroupDelete", Provider: resourcesAPI, Method: "DELETE", Pattern: group, Success: 200, handle: deleteGroup},
	{Operation: "ResourceList", Provider: resourcesAPI, Method: "GET", Pattern: sub + "/resources", Success: 200, handle: listResources},
	{Operation: "ResourceList", Provider: resourcesAPI, Method: "GET", Pattern: group + "/resources", Success: 200, handle: listResources},
	{Operation: "ProviderList", Provider: resourcesAPI, Method: "GET", Pattern: sub + "/providers", Success: 200, handle: listProviders},
	{Operation: "ProviderGet", Provider: resourcesAPI, Method: "GET", Pattern: sub + "/providers/{name}", Success: 200, handle: getProvider},
	{Operation: "ProviderRegister", Provider: resourcesAPI, Method: "POST", Pattern: sub + "/providers/{name}/register", Success: 200, Asks: true, handle: getProvider},
	{Operation: "OperationList", Provider: keyVault, Method: "GET", Pattern: "/providers/Microsoft.KeyVault/operations", Success: 200, handle: listOperations},

	{Operation: "MetadataEndpoints", Method: "GET", Pattern: "/metadata/endpoints", Success: 200, Public: true, handle: metadataEndpoints},

	{Operation: "GraphMe", Method: "GET", Pattern: "/v1.0/me", Success: 200, handle: graphMe},
	{Operation: "GraphUserList", Method: "GET", Pattern: "/v1.0/users", Success: 200, handle: graphUsers},
	{Operation: "GraphUserGet", Method: "GET", Pattern: "/v1.0/users/{id}", Success: 200, handle: graphNothing},
	{Operation: "GraphGroupList", Method: "GET", Pattern: "/v1.0/groups", Success: 200, handle: graphUsers},
	{Operation: "GraphServicePrincipalList", Method: "GET", Pattern: "/v1.0/servicePrincipals", Success: 200, handle: graphServicePrincipals},
	{Operation: "GraphServicePrincipalGet", Method: "GET", Pattern: "/v1.0/servicePrincipals/{id}", Success: 200, handle: graphServicePrincipal},
	{Operation: "GraphGetByIds", Method: "POST", Pattern: "/v1.0/directoryObjects/getByIds", Success: 200, MaxBody: smallBody, Asks: true, handle: graphGetByIDs},
})

func newTable(rows []route) []route {
	for i := range rows {
		pattern, scoped := strings.CutPrefix(rows[i].Pattern, "{scope}")
		rows[i].segments, rows[i].scoped = strings.Split(pattern[1:], "/"), scoped
	}
	return rows
}

// Routes returns the table for the documentation.
func Routes() []RouteDoc {
	var out []RouteDoc
	for _, rt := range table {
		out = append(out, RouteDoc{rt.Operation, rt.Method, rt.Pattern, rt.Success, rt.MaxBody, rt.Public})
	}
	return out
}

// A RouteDoc is a row of the table as the documentation shows it.
type RouteDoc struct {
	Operation, Method, Pattern string
	Success                    int
	MaxBody                    int64
	Public                     bool
}

// params are the variable segments of a path, percent-decoded.
type params struct {
	scope                                     string // with a slash in front; "/" for the root
	subscription, group, location, name, kind string
	object, version, id                       string
}

// place returns where the segment of a variable goes.
func (p *params) place(variable string) *string {
	switch variable {
	case "{subscription}":
		return &p.subscription
	case "{group}":
		return &p.group
	case "{location}":
		return &p.location
	case "{name}":
		return &p.name
	case "{kind}":
		return &p.kind
	case "{object}":
		return &p.object
	case "{version}":
		return &p.version
	case "{id}":
		return &p.id
	}
	return nil
}

// match finds the route of a raw path. No two rows of the same method match one path.
func match(method, escapedPath string) (*route, params, error) {
	segments, err := split(escapedPath)
	if err != nil {
		return nil, params{}, err
	}
	var allowed []string
	for i := range table {
		rt := &table[i]
		p, ok := rt.matches(segments)
		if !ok {
			continue
		}
		if rt.Method == method {
			return rt, p, nil
		}
		if !slices.Contains(allowed, rt.Method) {
			allowed = append(allowed, rt.Method)
		}
	}
	if allowed != nil {
		return nil, params{}, &methodError{method: method, allowed: allowed}
	}
	return nil, params{}, &wireError{status: http.StatusNotFound, code: "InvalidResourceType",
		message: "The path of the request does not name anything that this service has."}
}

func (rt *route) matches(segments []string) (params, bool) {
	var p params
	extra := len(segments) - len(rt.segments)
	if extra < 0 || extra > 0 && !rt.scoped {
		return p, false
	}
	if rt.scoped {
		p.scope = "/" + strings.Join(segments[:extra], "/")
	}
	for i, want := range rt.segments {
		got := segments[extra+i]
		if place := p.place(want); place != nil {
			*place = got
		} else if !equalFold(want, got) {
			return p, false
		}
	}
	return p, true
}

// A methodError is a request to an existing path with a method that it does not have.
type methodError struct {
	method  string
	allowed []string
}

func (e *methodError) Error() string {
	return sprintf("The method %.16q is not allowed here; use %s.", e.method, strings.Join(e.allowed, " or "))
}
