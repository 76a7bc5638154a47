package sts

import (
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzParseForm: a form that is accepted is read as net/url reads it, no parameter that counts occurs twice, and what
// it asks for is bounded.
func FuzzParseForm(f *testing.F) {
	f.Add([]byte("grant_type=client_credentials&client_id=a&client_secret=b&scope=https%3A%2F%2Fvault.example.org%2F.default"))
	f.Add([]byte("client_id=a&client_id=b"))
	f.Fuzz(func(t *testing.T, body []byte) {
		form, refused := parseForm(body)
		if refused != nil {
			if form.secret != "" {
				t.Fatal("a refused form keeps a secret")
			}
			return
		}
		values, err := url.ParseQuery(string(body))
		if err != nil {
			t.Fatalf("accepted what is no form: %v", err)
		}
		if len(values["client_id"]) > 1 || len(values["client_secret"]) > 1 || form.clientID != values.Get("client_id") {
			t.Fatal("a repeated parameter was accepted")
		}
		for version := 1; version <= 2; version++ {
			audience, refused := form.audience(version)
			if refused == nil && (audience == "" || len(audience) > maxResource || !utf8.ValidString(audience)) {
				t.Fatalf("audience %q", audience)
			}
			if refused != nil && len(refused.Error()) > 1000 {
				t.Fatalf("a refusal of %d bytes", len(refused.Error()))
			}
		}
	})
}

// FuzzRoute: a path that is routed is one of the known pages under one or two segments, with nothing decoded or cleaned.
func FuzzRoute(f *testing.F) {
	f.Add("/" + tenant + "/oauth2/v2.0/token/")
	f.Add("/dstsv2/" + tenantDSTS + "/v2.0/.well-known/openid-configuration")
	f.Add("//adfs/oauth2/token")
	f.Fuzz(func(t *testing.T, path string) {
		rt, ok := parseRoute(path)
		if !ok {
			return
		}
		if !strings.HasPrefix(path, rt.base+"/") || strings.Count(rt.base, "/") > 2 || len(path) > maxPath {
			t.Fatalf("path %q has base %q", path, rt.base)
		}
		if rt.page != pageKeys && rt.page != pageInstance && rt.version != 1 && rt.version != 2 {
			t.Fatalf("path %q has version %d", path, rt.version)
		}
	})
}
