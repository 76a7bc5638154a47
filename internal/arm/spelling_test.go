package arm_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestSpellings: however a path is spelled, it leads to the decision about what it names, or to 400 or 404; never round it.
// A principal may read vt1 and nothing else.
func TestSpellings(t *testing.T) {
	t.Parallel()
	p := newPlayer(t)
	const (
		version = "?api-version=2023-07-01"
		group   = "/subscriptions/<sub>/resourceGroups/g"
		vaults  = group + "/providers/Microsoft.KeyVault/vaults/"
		reader  = "acdd72a7-3385-48ef-bd42-f606fba81ae7"
	)
	ask := func(method, path string, lines ...string) (status, body string) {
		t.Helper()
		answer := p.exchange(append([]string{method + " " + path + version}, lines...), nil)
		return answer[0], strings.Join(answer[1:], "")
	}
	ask("PUT", group, `{"location":"local"}`)
	for _, name := range []string{"vt1", "vt2"} {
		if status, body := ask("PUT", vaults+name, `{"location":"local","properties":{"tenantId":"<tenant>","sku":{"name":"standard"}}}`); status != "200" {
			t.Fatal(status, body)
		}
	}
	if status, body := ask("PUT", vaults+"vt1/providers/Microsoft.Authorization/roleAssignments/3f0c1a52-7a43-4d27-9f5d-0f4b3c0b7f11",
		`{"properties":{"roleDefinitionId":"/providers/Microsoft.Authorization/roleDefinitions/`+reader+`","principalId":"<nobody oid>"}}`); status != "201" {
		t.Fatal(status, body)
	}

	for _, tail := range []string{
		"vt2", "VT2", "vt2/", "v%742", "v%25742", "vt2%20", "%20vt2", "vt2%00", "vt2.", "vt2%2e", "vt2/.", "vt2/%2e", "vt2//", "./vt2", "%2e/vt2",
		"vt1/../vt2", "vt1/%2e%2e/vt2", "vt1%2f..%2fvt2", "vt1%2F%2E%2E%2Fvt2", "vt1%5c..%5cvt2", "vt1;/vt2", "vt1%3f/vt2", "vt1%23/vt2",
		"vt1/vaults/vt2", "vt1/providers/Microsoft.KeyVault/vaults/vt2", "v\u1d572", "%EF%BD%96t2", "vt\u00b2", "vt2\u200b", "vt1%0avt2", "vt1,vt2",
		"vt2/secrets", "vt1/../vt2/secrets", "vt2/accessPolicies/add", "VT2/privateEndpointConnections", "vt2/keys",
		"vt2/providers/Microsoft.Authorization/roleAssignments", "vt1/../vt2/providers/Microsoft.Authorization/roleAssignments",
		"vt1/providers/Microsoft.KeyVault/vaults/vt2/providers/Microsoft.Authorization/roleAssignments",
		"vt1%2f..%2fvt2/providers/Microsoft.Authorization/roleAssignments",
	} {
		if status, body := ask("GET", vaults+tail, "@nobody"); status < "400" || strings.Contains(body, `"name":"vt2"`) {
			t.Errorf("GET …/%s is answered with %s %s", tail, status, body)
		}
	}

	// Spelled with other cases and escapes, vt1 is still vt1, for whoever may read it.
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		path := p.known(vaults + "vt1")
		var b strings.Builder
		for _, c := range []byte(path) {
			switch {
			case c == '/':
				b.WriteByte(c)
			case rng.IntN(8) == 0:
				fmt.Fprintf(&b, "%%%02x", c)
			case rng.IntN(2) == 0:
				b.WriteString(strings.ToUpper(string(c)))
			default:
				b.WriteString(strings.ToLower(string(c)))
			}
		}
		if status, body := ask("GET", b.String(), "@nobody"); status != "200" || !strings.Contains(body, `"name":"vt1"`) {
			t.Errorf("%s: %s %s", b.String(), status, body)
		}
	}
}
