package server_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/strongroomtest"
)

// TestHSMAliases reaches a managed HSM by another name, as the challenge there says.
func TestHSMAliases(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, &strongroomtest.Options{HSMs: []string{"pool"}, Config: "aliases: [vaults.test]\nhsmAliases: [hsms.test]"})
	u, err := url.Parse(s.HSMURL("pool"))
	if err != nil {
		t.Fatal(err)
	}
	do := func(host, path, authorization string) (*http.Response, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+":"+u.Port()+path+"?api-version=7.6", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", authorization)
		resp, err := s.HTTPClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(raw)
	}
	token := func(resource string) string {
		t.Helper()
		resp, err := s.HTTPClient().PostForm(s.Authority+"/"+s.TenantID+"/oauth2/v2.0/token", url.Values{
			"grant_type": {"client_credentials"}, "client_id": {s.ClientID}, "client_secret": {s.Secret}, "scope": {resource + "/.default"},
		})
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var out struct {
			AccessToken string `json:"access_token"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.AccessToken == "" {
			t.Fatalf("no token for %s: %s, %v", resource, resp.Status, err)
		}
		return "Bearer " + out.AccessToken
	}
	resp, _ := do("pool.hsms.test", "/keys", "")
	want := fmt.Sprintf(`resource="https://hsms.test:%s"`, u.Port())
	if challenge := resp.Header.Get("WWW-Authenticate"); resp.StatusCode != http.StatusUnauthorized || !strings.Contains(challenge, want) {
		t.Errorf("%d, %s", resp.StatusCode, challenge)
	}
	// Every name that a family has opens all hosts of the family, and none of the other.
	hsms := []string{"https://hsms.test:" + u.Port(), "https://managedhsm.localhost:" + u.Port(), "https://managedhsm.azure.net"}
	vaults := []string{"https://vaults.test:" + u.Port(), "https://vault.localhost:" + u.Port(), "https://vault.azure.net"}
	hosts := map[string][]string{
		"pool.hsms.test": hsms, "pool.managedhsm.localhost": hsms, "test.vaults.test": vaults, "test.vault.localhost": vaults,
	}
	for host, right := range hosts {
		for _, resource := range append(hsms[:3:3], vaults...) {
			want := http.StatusUnauthorized
			for _, r := range right {
				if r == resource {
					want = http.StatusOK
				}
			}
			if resp, body := do(host, "/keys", token(resource)); resp.StatusCode != want {
				t.Errorf("%s with a token for %s: %d, want %d: %s", host, resource, resp.StatusCode, want, body)
			}
		}
	}
}
