package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/wire/wiretest"
	"github.com/strongroom/strongroom/strongroomtest"
)

// TestRecordedHSMKeys compares what we answer about keys of a managed HSM with what the real service was seen to send: headers and
// members, not their order, which the real one changes.
func TestRecordedHSMKeys(t *testing.T) {
	t.Parallel()
	samples := wiretest.Samples(t)
	if samples == nil {
		return
	}
	left := append([]string{"x", "y", "n", "e", "crv", "key.crv", "key.x", "key.y", "key.n", "key.e", "release_policy"}, optional...)
	members := func(body []byte) []string {
		all := wiretest.Members(t, body, left)
		all = slices.DeleteFunc(all, func(m string) bool { return strings.HasPrefix(m, "release_policy") })
		slices.Sort(all)
		return slices.Compact(all)
	}
	ours := hsmAnswers(t)
	compared := make(map[string]bool)
	for _, s := range samples {
		key := shapeKey(s.Request.Method, s.Request.Path, s.Response.Status)
		mine, ok := ours[key]
		if s.Service != "mhsm" || !ok {
			continue
		}
		compared[key] = true
		for name, value := range s.Response.Headers {
			switch {
			case strings.HasPrefix(name, "x-ms-keyvault-network-info"), name == "x-ms-keyvault-region":
				value = mine.header.Get(name) // whatever it is
			case name == "x-ms-server-latency", name == "x-ms-build-version", name == "www-authenticate":
				continue // what is measured and built elsewhere, and the challenge, which has a test of its own
			case name == "content-type" && s.Response.Status == http.StatusNoContent:
				continue
			}
			if got := mine.header.Get(name); got != value || got == "" {
				t.Errorf("%s: the header %s is %q, recorded %q", key, name, got, value)
			}
		}
		if s.Response.Status == http.StatusUnauthorized {
			continue // without a body, or with one that says OK
		}
		if diff := cmp.Diff(members(s.Response.Body), members(mine.body)); diff != "" {
			t.Errorf("%s: members differ (-recorded +ours):\n%s", key, diff)
		}
	}
	for key := range ours {
		if !compared[key] {
			t.Errorf("no recorded exchange is of the kind %s", key)
		}
	}
}

type hsmAnswer struct {
	header http.Header
	body   []byte
}

// hsmAnswers makes one exchange with a managed HSM of ours of each kind that was recorded.
func hsmAnswers(t *testing.T) map[string]hsmAnswer {
	s := strongroomtest.Start(t, &strongroomtest.Options{HSMs: []string{"pool"}})
	out := make(map[string]hsmAnswer)
	bearer := "Bearer " + s.HSMToken(t, s.ClientID, s.Secret)
	do := func(method, path, body, authorization string) map[string]any {
		req, err := http.NewRequest(method, s.HSMURL("pool")+path+"?api-version=7.5-preview.1", strings.NewReader(body))
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
		if len(raw) == 0 {
			raw = []byte(`""`) // as the recorder writes an empty body
		}
		out[shapeKey(method, path, resp.StatusCode)] = hsmAnswer{resp.Header, raw}
		doc := make(map[string]any)
		_ = json.Unmarshal(raw, &doc)
		return doc
	}
	do("POST", "/keys/n/create", "", "")
	do("POST", "/keys/restore", "", "")
	do("POST", "/rng", "", "")
	do("POST", "/rng", `{"count":4}`, bearer)
	do("PUT", "/keys/n", `{"Hsm":true,"key":{"kty":"RSA",`+testKeys()["rsa2048"].members()+`},"attributes":{"enabled":true}}`, bearer)
	do("PATCH", "/keys/n/", `{"attributes":{"enabled":true}}`, bearer)
	backup := do("POST", "/keys/n/backup", "", bearer)["value"]
	do("GET", "/keys/n/versions", "", bearer)
	do("DELETE", "/keys/n", "", bearer)
	do("GET", "/deletedkeys", "", bearer)
	do("POST", "/deletedkeys/n/recover", "", bearer)
	do("DELETE", "/keys/n", "", bearer)
	do("DELETE", "/deletedkeys/n", "", bearer)
	do("POST", "/keys/restore", fmt.Sprintf(`{"value":%q}`, backup), bearer)
	do("GET", "/keys", "", bearer)
	do("POST", "/keys/n/create", `{"kty":"oct-HSM","key_size":256,"key_ops":["encrypt","decrypt"],"attributes":{"enabled":true}}`, bearer)
	do("GET", "/keys/n/", "", bearer)
	m := do("POST", "/keys/n/encrypt", `{"alg":"A256GCM","value":"dGhpcyBpcyBwbGFpbnRleHQ","aad":"EBESExQVFhcYGRobHB0eHw"}`, bearer)
	do("POST", "/keys/n/decrypt", fmt.Sprintf(`{"alg":"A256GCM","value":%q,"iv":%q,"tag":%q,"aad":%q}`, m["value"], m["iv"], m["tag"], m["aad"]), bearer)
	return out
}
