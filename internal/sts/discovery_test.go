package sts

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// With -update the golden files are written anew; a change in them is a change of the wire.
var update = flag.Bool("update", false, "write the golden files")

func TestGoldenDocuments(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const instance, asked = "/common/discovery/instance?", "authorization_endpoint="
	for name, target := range map[string]string{
		"openid-v2":        "https://login.example.org:8443/" + tenant + "/v2.0/.well-known/openid-configuration?",
		"openid-v1":        "https://login.example.org/" + tenant + "/.well-known/openid-configuration",
		"openid-common":    "https://login.example.org:443/common/v2.0/.well-known/openid-configuration",
		"openid-regional":  "https://west.login.example.org:8443/" + strings.ToUpper(tenant) + "/v2.0/.well-known/openid-configuration",
		"openid-alias":     "https://login.microsoftonline.com/organizations/v2.0/.well-known/openid-configuration",
		"openid-adfs":      "https://login.example.org:8443/adfs/.well-known/openid-configuration",
		"openid-dsts":      "https://login.example.org:8443/dstsv2/" + tenantDSTS + "/v2.0/.well-known/openid-configuration",
		"instance":         "https://login.microsoftonline.com" + instance + "api-version=1.1&" + asked + "https%3A%2F%2Flogin.example.org%2F" + tenant + "%2Foauth2",
		"instance-adfs":    "https://login.example.org:8443" + instance + "api-version=1.0&" + asked + "https://login.example.org/adfs/oauth2/authorize",
		"webfinger":        "https://login.example.org:8443/.well-known/webfinger?rel=" + trustedRealm + "&resource=https://login.example.org",
		"instance-foreign": "https://login.example.org:8443" + instance + asked + "https://evil.example/x/",
	} {
		w := do(s, httptest.NewRequest(http.MethodGet, target, nil))
		if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json; charset=utf-8" ||
			!strings.Contains(w.Header().Get("Cache-Control"), "no-store") {
			t.Errorf("%s: status %d, header %v", name, w.Code, w.Header())
			continue
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, w.Body.Bytes(), "", "  "); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		file := filepath.Join("testdata", name+".json")
		if *update {
			if err := os.WriteFile(file, append(pretty.Bytes(), '\n'), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), pretty.String()+"\n"); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// TestWebFinger: the service speaks for the host that was asked only.
func TestWebFinger(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, question := range []string{"", "?resource=https://evil.example", "?resource=login.example.org", "?resource=https://login.example.org/adfs"} {
		w := do(s, httptest.NewRequest(http.MethodGet, "https://login.example.org/.well-known/webfinger"+question, nil))
		if w.Code != http.StatusNotFound {
			t.Errorf("%q: status %d, want 404", question, w.Code)
		}
	}
}

func TestKeysInAllSpellings(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, path := range []string{
		"/" + tenant + "/discovery/v2.0/keys", "/" + tenant + "/discovery/keys", "/common/discovery/v2.0/keys",
		"/adfs/discovery/keys", "/adfs/discovery/keys/", "/dstsv2/" + tenantDSTS + "/discovery/v2.0/keys", "/shop.example.org/discovery/keys",
	} {
		set := decode[struct{ Keys []map[string]string }](t, s.get(path))
		if len(set.Keys) != 1 || set.Keys[0]["kty"] != "RSA" || set.Keys[0]["kid"] == "" || set.Keys[0]["n"] == "" || set.Keys[0]["e"] != "AQAB" {
			t.Errorf("%s: %v", path, set)
		}
		for _, member := range []string{"d", "p", "q", "dp", "dq", "qi"} {
			if _, found := set.Keys[0][member]; found {
				t.Errorf("%s publishes %s", path, member)
			}
		}
	}
}

func TestHostsAndPaths(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const doc = "/" + tenant + "/v2.0/.well-known/openid-configuration"
	for host, want := range map[string]int{
		"login.example.org": 200, "LOGIN.example.org:8443": 200, "eu-west.login.example.org": 200, "login.microsoftonline.com": 200,
		"a.b.login.example.org": 421, ".login.example.org": 421, "xlogin.example.org": 421, "login.example.org.evil.org": 421,
		"vault.example.org": 421, "127.0.0.1": 421, "login.example.org:99999": 421, "": 421, "[::1]:8443": 421, "login.example.org:8443@evil.org": 421,
	} {
		r := httptest.NewRequest(http.MethodGet, "https://x"+doc, nil)
		r.Host = host
		if w := do(s, r); w.Code != want {
			t.Errorf("host %q: status %d, want %d", host, w.Code, want)
		}
	}
	for path, want := range map[string]int{
		"//" + tenant + "/v2.0/.well-known/openid-configuration": 404, "/": 404, "/" + tenant: 404, "/x/../" + tenant + "/discovery/keys": 404,
		"/11111111-2222-4333-8444-555555555555/v2.0/.well-known/openid-configuration": 400,
		"/consumers/discovery/keys": 400, "/%61dfs/discovery/keys": 400, "/dstsv2/11111111-2222-4333-8444-555555555555/discovery/keys": 400,
		"/" + tenant + "/oauth2/v2.0/authorize": 404, "/" + tenant + "/" + strings.Repeat("x", maxPath): 404,
		"/SHOP.example.org/v2.0/.well-known/openid-configuration": 200,
	} {
		w := s.get(path)
		if w.Code != want {
			t.Errorf("%s: status %d, want %d", path, w.Code, want)
		}
		if want == 400 {
			wantRefusal(t, w, 400, "invalid_request", 90002)
		}
	}
	r := httptest.NewRequest(http.MethodPost, "https://login.example.org"+doc, nil)
	if w := do(s, r); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") == "" {
		t.Errorf("POST of a document: status %d", w.Code)
	}
}
