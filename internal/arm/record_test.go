package arm_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/strongroomtest"
)

// TestSecretsStaySecret writes secrets through this plane, well and badly, and looks for them wherever something is written.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	p := newPlayer(t)
	const (
		value   = "correct-horse-battery-staple"
		version = "?api-version=2023-07-01"
		group   = "/subscriptions/<sub>/resourceGroups/g"
		vault   = group + "/providers/Microsoft.KeyVault/vaults/vt1"
	)
	var answers []string
	do := func(want, method, path, body string) {
		t.Helper()
		answer := p.exchange([]string{method + " " + path + version, body}, nil)
		if answer[0] != want {
			t.Errorf("%s %s: %s, want %s", method, path, answer, want)
		}
		answers = append(answers, answer...)
	}
	do("201", "PUT", group, `{"location":"local"}`)
	do("200", "PUT", vault, `{"location":"local","properties":{"tenantId":"<tenant>","sku":{"name":"standard"},
		"accessPolicies":[{"tenantId":"<tenant>","objectId":"<admin oid>","permissions":{"secrets":["all"]}}]}}`)
	do("200", "PUT", vault+"/secrets/s", `{"properties":{"value":"`+value+`"}}`)
	do("200", "PATCH", vault+"/secrets/s", `{"properties":{"value":"`+value+`"}}`)
	do("200", "GET", vault+"/secrets/s", `{}`)
	do("200", "GET", vault+"/secrets", `{}`)
	do("400", "PUT", vault+"/secrets/s", `{"properties":{"value":["`+value+`"]}}`)
	do("400", "PUT", vault+"/secrets/s", `{"properties":{"value":"`+value+`"}`)
	do("400", "PUT", vault+"/secrets/s", `{"properties":{"value":"`+value+`","value":"`+value+`"}}`)
	do("400", "PUT", vault+"/secrets/s_", `{"properties":{"value":"`+value+`"}}`)
	log, err := json.Marshal(p.server.AuditLog(t))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"the answers": strings.Join(answers, "\n"), "the audit log": string(log), "the log": p.server.Log(),
	} {
		if strings.Contains(text, value) {
			t.Errorf("%s show the secret", name)
		}
	}
}

// checkRecords compares what was announced with what became of it: one request, one name, one detail, and likewise for each part of
// something larger, whose outcome is recorded by itself. What is done to keys and secrets through this plane is announced under
// the data plane's names.
func (p *player) checkRecords() {
	p.t.Helper()
	type told struct{ request, operation, detail any }
	announced, ended := make(map[told]bool), make(map[told]bool)
	answered := make(map[any]any) // operations by request
	for _, rec := range p.server.AuditLog(p.t) {
		properties, _ := rec["properties"].(map[string]any)
		at := told{rec["correlationId"], rec["operationName"], properties["detail"]}
		if rec["category"] == "AuditIntent" {
			announced[at] = true
			continue
		}
		ended[at] = true
		if properties["httpStatusCode"] != nil {
			answered[at.request] = at.operation
		}
	}
	for at := range announced {
		operation, _ := answered[at.request].(string)
		if !ended[at] && !strings.HasPrefix(operation, "VaultSecret") && !strings.HasPrefix(operation, "VaultKey") {
			p.t.Errorf("%q with the detail %q was announced for %s and has no outcome", at.operation, at.detail, operation)
		}
	}
}

// TestRecords: what is asked of this plane is on record, with who asked, about what, and how it ended.
func TestRecords(t *testing.T) {
	t.Parallel()
	p := newPlayer(t)
	const vault = "/subscriptions/<sub>/resourceGroups/g/providers/Microsoft.KeyVault/vaults/vt1?api-version=2023-07-01"
	p.exchange([]string{"PUT /subscriptions/<sub>/resourceGroups/g?api-version=2022-09-01", `{"location":"local"}`}, nil)
	p.exchange([]string{"PUT " + vault, `{"location":"local","properties":{"tenantId":"<tenant>","sku":{"name":"standard"}}}`}, nil)
	p.exchange([]string{"GET " + vault, "@nobody"}, nil)
	p.exchange([]string{"GET " + vault, "@none"}, nil)
	p.exchange([]string{"GET /nothing"}, nil)
	resource := p.known("/SUBSCRIPTIONS/<SUB>/RESOURCEGROUPS/G/PROVIDERS/MICROSOFT.KEYVAULT/VAULTS/VT1")
	for _, want := range []struct {
		operation, resource, category string
		status                        float64
		objectID                      string
	}{
		{"VaultPut", resource, "AuditEvent", 200, p.server.ObjectID},
		{"VaultGet", resource, "AuditEvent", 403, p.nobody.ObjectID},
		{"Authentication", "/TENANTS/" + strings.ToUpper(p.server.TenantID), "AuditEvent", 401, ""},
		{"Unrecognized", "/TENANTS/" + strings.ToUpper(p.server.TenantID), "AuditEvent", 404, p.server.ObjectID},
	} {
		found := false
		for _, rec := range p.server.AuditLog(t) {
			text := fmt.Sprint(rec)
			properties, _ := rec["properties"].(map[string]any)
			found = found || rec["operationName"] == want.operation && rec["resourceId"] == want.resource && rec["category"] == want.category &&
				properties["httpStatusCode"] == want.status && strings.Contains(text, want.objectID) &&
				strings.Contains(text, "https://management.localhost:"+p.base.Port())
		}
		if !found {
			t.Errorf("there is no record like %+v", want)
		}
	}
}

// TestActivationIsShown: a managed HSM says whether it is activated.
func TestActivationIsShown(t *testing.T) {
	t.Parallel()
	p := newPlayer(t)
	p.server.CreateHSM(t, "active", strongroomtest.HSMOptions{})
	p.server.CreateHSM(t, "fresh", strongroomtest.HSMOptions{NotActivated: true})
	answer := p.exchange([]string{"GET /subscriptions/<sub>/providers/Microsoft.KeyVault/managedHSMs?api-version=2023-07-01"}, nil)
	var list struct {
		Value []struct {
			Name       string
			Properties struct {
				ProvisioningState        string
				SecurityDomainProperties struct{ ActivationStatus, ActivationStatusMessage string }
			}
		}
	}
	if err := json.Unmarshal([]byte(answer[1]), &list); err != nil || len(list.Value) != 2 {
		t.Fatalf("%v, %v", answer, err)
	}
	for _, hsm := range list.Value {
		domain := hsm.Properties.SecurityDomainProperties
		if active := hsm.Name == "active"; hsm.Properties.ProvisioningState != "Succeeded" || active != (domain.ActivationStatus == "Active") ||
			active != (domain.ActivationStatusMessage == "Your HSM has been activated and can be used for cryptographic operations.") {
			t.Errorf("%+v", hsm)
		}
	}
}
