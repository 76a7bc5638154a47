package arm_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/wire/wiretest"
)

// TestRecordedShapes compares the members of our answers, and their order, with those that the real service was seen to
// send.
func TestRecordedShapes(t *testing.T) {
	t.Parallel()
	samples := wiretest.Samples(t)
	if samples == nil {
		return
	}
	ours := ownAnswers(t)
	compared := make(map[string]bool)
	for _, s := range samples {
		key := shapeKey(s.Request.Method, s.Request.Path, s.Response.Status)
		mine, ok := ours[key]
		if s.Service != "arm" || !ok {
			continue
		}
		compared[key] = true
		if diff := cmp.Diff(wiretest.Members(t, s.Response.Body, optional), wiretest.Members(t, mine, optional)); diff != "" {
			t.Errorf("%s: members differ (-recorded +ours):\n%s", key, diff)
		}
	}
	for key := range ours {
		if !compared[key] {
			t.Errorf("no recorded exchange is of the kind %s", key)
		}
	}
}

// optional are members that depend on what was stored, and those that the recorder cut.
var optional = []string{
	"nextLink", "tags", "properties.tags", "properties.networkAcls", "properties.enableRbacAuthorization", "properties.enablePurgeProtection",
	"properties.enabledForDiskEncryption", "properties.enabledForTemplateDeployment", "properties.privateEndpointConnections",
	"properties.accessPolicies", "properties.purgeProtectionEnabled", "properties.initialAdminObjectIds", "properties.regions",
	"properties.publicNetworkAccess",
}

// names are what stands in paths behind these words.
var names = regexp.MustCompile(`(?i)/(subscriptions|resourcegroups|vaults|managedhsms|locations|deletedvaults|deletedmanagedhsms|operationresults|managedhsmoperationresults)/[^/]+`)

// shapeKey names a kind of exchange, whatever the names in it.
func shapeKey(method, path string, status int) string {
	return fmt.Sprintf("%s %s %d", method, names.ReplaceAllString(path, "/$1/n"), status)
}

// ownAnswers makes one exchange with our server of each kind that was recorded.
func ownAnswers(t *testing.T) map[string][]byte {
	p := newPlayer(t)
	out := make(map[string][]byte)
	do := func(method, path, body string) {
		t.Helper()
		answer := p.exchange([]string{method + " " + path, body}, nil)
		raw := []byte(`""`) // as the recorder writes an empty body
		if len(answer) > 1 {
			raw = []byte(answer[1])
		}
		var status int
		if _, err := fmt.Sscan(answer[0], &status); err != nil {
			t.Fatal(err)
		}
		out[shapeKey(method, strings.Split(path, "?")[0], status)] = raw
	}
	const (
		version = "?api-version=2023-07-01"
		sub     = "/subscriptions/<sub>"
		group   = sub + "/resourceGroups/g"
		kv      = "/providers/Microsoft.KeyVault"
		vault   = `{"location":"local","properties":{"tenantId":"<tenant>","sku":{"family":"A","name":"standard"}}}`
		hsm     = `{"location":"local","sku":{"family":"B","name":"Standard_B1"},"properties":{"tenantId":"<tenant>","initialAdminObjectIds":["<admin oid>"]}}`
	)
	do("PUT", group+"?api-version=2022-09-01", `{"location":"local"}`)
	delete(out, shapeKey("PUT", group, http.StatusCreated)) // not recorded
	do("GET", group+kv+"/vaults/vt1"+version, "{}")
	do("PUT", group+kv+"/vaults/vt1"+version, vault)
	do("GET", group+kv+"/vaults/vt1"+version, "{}")
	do("GET", group+kv+"/vaults/vt1/privateLinkResources"+version, "{}")
	do("GET", sub+"/resources?api-version=2015-11-01&$filter=resourceType%20eq%20'Microsoft.KeyVault/vaults'", "{}")
	do("DELETE", group+kv+"/vaults/vt1"+version, "{}")
	do("GET", sub+kv+"/deletedVaults"+version, "{}")
	do("GET", sub+kv+"/locations/local/deletedVaults/vt1"+version, "{}")
	do("POST", sub+kv+"/locations/local/deletedVaults/vt1/purge"+version, "{}")
	do("GET", "<location>", "{}")
	delete(out, "GET <location> 200")
	do("POST", sub+kv+"/checkMhsmNameAvailability"+version, `{"name":"hsm1"}`)
	do("PUT", group+kv+"/managedHSMs/hsm1"+version, hsm)
	do("GET", group+kv+"/managedHSMs/hsm1"+version, "{}")
	do("GET", group+kv+"/managedHSMs"+version, "{}")
	do("GET", sub+kv+"/managedHSMs"+version, "{}")
	do("GET", group+kv+"/managedHSMs/hsm1/regions"+version, "{}")
	do("GET", group+kv+"/managedHSMs/hsm1/privateLinkResources"+version, "{}")
	do("PATCH", group+kv+"/managedHSMs/hsm1"+version, hsm)
	do("DELETE", group+kv+"/managedHSMs/hsm1"+version, "{}")
	do("GET", sub+kv+"/deletedManagedHSMs"+version, "{}")
	do("GET", sub+kv+"/locations/local/deletedManagedHSMs/hsm1"+version, "{}")
	do("POST", sub+kv+"/locations/local/deletedManagedHSMs/hsm1/purge"+version, "{}")
	return out
}
