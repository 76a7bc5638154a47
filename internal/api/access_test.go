package api_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/resource"
)

// TestRefusedByVault has the vault's network rules, and roles in place of access policies, refuse a request.
func TestRefusedByVault(t *testing.T) {
	t.Parallel()
	h := newHandler(t, resource.Standard)
	who := resource.Actor{Operator: "test"}
	patch := func(p resource.PatchVaultParams) {
		t.Helper()
		if _, err := h.resources.PatchVault(t.Context(), who, "g", "test", p); err != nil {
			t.Fatal(err)
		}
	}
	want := func(status int, inner string) {
		t.Helper()
		got, answer := h.do(t, http.MethodPut, "/secrets/s", `{"value":"v"}`)
		if got != status || !strings.Contains(answer, inner) {
			t.Errorf("%d %s, want %d %s", got, answer, status, inner)
		}
	}
	want(http.StatusOK, `"value":"v"`)
	rules := func(allowed string) *authz.NetworkRules {
		return &authz.NetworkRules{
			Bypass: authz.BypassNone, DefaultAction: authz.DenyAddresses, IPRules: []netip.Prefix{netip.MustParsePrefix(allowed)},
		}
	}
	patch(resource.PatchVaultParams{Network: rules("192.0.2.0/24")})
	want(http.StatusForbidden, `"innererror":{"code":"ForbiddenByFirewall"}`)
	patch(resource.PatchVaultParams{Network: rules("127.0.0.0/8")})
	want(http.StatusOK, `"value":"v"`)
	patch(resource.PatchVaultParams{PublicNetworkAccess: new("Disabled")})
	want(http.StatusForbidden, `"innererror":{"code":"ForbiddenByConnection"}`)
	patch(resource.PatchVaultParams{PublicNetworkAccess: new("Enabled"), RBAC: new(true)})
	want(http.StatusOK, `"value":"v"`) // its administrator
	if _, err := h.resources.ChangeAdministrators(t.Context(), who, "test", nil, []string{h.caller.ObjectID}); err != nil {
		t.Fatal(err)
	}
	want(http.StatusForbidden, `"innererror":{"code":"ForbiddenByRbac"}`)
	scope, err := authz.ParseScope("/subscriptions/" + h.resources.SubscriptionID() + "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/test/secrets/s")
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = h.resources.PutRoleAssignment(t.Context(), who, scope, "0d0d0000-0000-4000-8000-00000000000d", resource.AssignmentParams{
		RoleDefinitionID: authz.RoleVaultSecretsOfficer, PrincipalID: h.caller.ObjectID, PrincipalType: authz.ServicePrincipal,
	})
	if err != nil {
		t.Fatal(err)
	}
	want(http.StatusOK, `"value":"v"`) // before the body is read, it is asked about this very secret
}
