package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/strongroomtest"
)

// tokenFor gets a token for a service: "managedhsm", "management".
func tokenFor(t testing.TB, s *strongroomtest.Server, service, id, secret string) string {
	t.Helper()
	resp, err := s.HTTPClient().PostForm(s.Authority+"/"+s.TenantID+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}, "scope": {siblingURL(t, s, service) + "/.default"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.AccessToken == "" {
		t.Fatalf("no token for %s: %s, %v", service, resp.Status, err)
	}
	return out.AccessToken
}

// siblingURL is where a service of the server's domain answers.
func siblingURL(t testing.TB, s *strongroomtest.Server, service string) string {
	t.Helper()
	_, domain, found := strings.Cut(s.Authority, "://login.")
	if !found {
		t.Fatalf("the authority is at %s", s.Authority)
	}
	return "https://" + service + "." + domain
}

// createHSM makes a managed HSM, which its administrator has to activate, and returns its URL.
func createHSM(t testing.TB, s *strongroomtest.Server, name string) string {
	t.Helper()
	token := tokenFor(t, s, "management", s.ClientID, s.Secret)
	do := func(method, path, body string) []byte {
		req, err := http.NewRequestWithContext(t.Context(), method, siblingURL(t, s, "management")+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+token)
		req.Header.Set("Content-Type", "application/json")
		resp, err := s.HTTPClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode >= http.StatusBadRequest {
			t.Fatalf("%s %s: %s %s %v", method, path, resp.Status, raw, err)
		}
		return raw
	}
	var list struct {
		Value []struct {
			SubscriptionID string `json:"subscriptionId"`
		}
	}
	if err := json.Unmarshal(do("GET", "/subscriptions?api-version=2022-12-01", ""), &list); err != nil || len(list.Value) != 1 {
		t.Fatalf("%d subscriptions, %v", len(list.Value), err)
	}
	group := "/subscriptions/" + list.Value[0].SubscriptionID + "/resourceGroups/hsms"
	do("PUT", group+"?api-version=2021-04-01", `{"location":"local"}`)
	do("PUT", group+"/providers/Microsoft.KeyVault/managedHSMs/"+name+"?api-version=2023-07-01", fmt.Sprintf(
		`{"location":"local","sku":{"family":"B","name":"Standard_B1"},"properties":{"tenantId":%q,"initialAdminObjectIds":[%q]}}`,
		s.TenantID, s.ObjectID))
	return siblingURL(t, s, strings.ToLower(name)+".managedhsm")
}

// ownerFile reads a file of one of those who own security domains in tests; they have numbers from 1 to 10.
func ownerFile(t testing.TB, owner, extension string) []byte {
	t.Helper()
	n, err := strconv.Atoi(owner)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(fmt.Sprintf("../sdomain/testdata/vectors/certs/wk-%02d.%s", n, extension))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// ownerJWK is an owner's certificate as clients send it.
func ownerJWK(t testing.TB, owner string) string {
	t.Helper()
	c, err := sdomain.ParseCertificate(ownerFile(t, owner, "cer"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(c.JWK())
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// openDomain opens a security domain as the first two owners do.
func openDomain(t testing.TB, file string) []sdomain.Datum {
	t.Helper()
	f, err := sdomain.Parse([]byte(file))
	if err != nil {
		t.Fatal(err)
	}
	var holders []sdomain.Holder
	for _, owner := range []string{"1", "2"} {
		key, err := sdomain.ParsePrivateKey(ownerFile(t, owner, "pem"), "")
		if err != nil {
			t.Fatal(err)
		}
		holders = append(holders, sdomain.Holder{Key: key})
	}
	data, err := f.Open(holders)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// maskedDomain names a security domain or a transfer key that came.
func (p *player) maskedDomain(body string) (masked string, ok bool) {
	var out struct {
		Value    string `json:"value"`
		Transfer string `json:"transfer_key"`
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil {
		return "", false
	}
	quoted := func(text string) string {
		raw, err := json.Marshal(text)
		if err != nil {
			p.t.Fatal(err)
		}
		return string(bytes.Trim(raw, `"`))
	}
	switch {
	case strings.HasPrefix(out.Value, `{"EncData"`):
		return strings.Replace(body, quoted(out.Value), "<domain"+number(&p.domains, out.Value)+">", 1), true
	case out.Transfer != "":
		return strings.Replace(body, quoted(out.Transfer), "<transfer"+number(&p.keys, out.Transfer)+">", 1), true
	}
	return "", false
}

// restore makes the blob that takes a security domain to the HSM with a transfer key, as it stands in a JSON string.
func (p *player) restore(domain, transfer string) string {
	at := func(name, prefix string, list []string) string {
		n, err := strconv.Atoi(strings.TrimPrefix(name, prefix))
		if err != nil || n < 1 || n > len(list) {
			p.t.Fatalf("there is no %s yet", name)
		}
		return list[n-1]
	}
	to, err := sdomain.ParseTransferKey("jwk", at(transfer, "transfer", p.keys))
	if err != nil {
		p.t.Fatal(err)
	}
	blob, err := sdomain.Rewrap(openDomain(p.t, at(domain, "domain", p.domains)), to)
	if err != nil {
		p.t.Fatal(err)
	}
	raw, err := json.Marshal(string(blob))
	if err != nil {
		p.t.Fatal(err)
	}
	return string(bytes.Trim(raw, `"`))
}
