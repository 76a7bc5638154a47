package api_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/resource"
)

// attempt sends a request that may be refused, but not break anything, and returns the answer if it is a success.
func (h *testHandler) attempt(t *testing.T, method, path, body string) (answer string, ok bool) {
	t.Helper()
	status, answer := h.do(t, method, path, body)
	var doc struct {
		Error *struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(answer), &doc); err != nil {
		t.Fatalf("the answer is no JSON: %s", answer)
	}
	if status == http.StatusOK {
		return answer, true
	}
	if status >= 500 || doc.Error == nil || doc.Error.Code == "" || doc.Error.Message == "" {
		t.Fatalf("%s %s %q: %d %s", method, path, body, status, answer)
	}
	return answer, false
}

// FuzzImportKey sends a body to be imported. What was private in it must not be in the answer.
func FuzzImportKey(f *testing.F) {
	for name, kty := range map[string]string{"rsa2048": "RSA", "rsa1024": "RSA", "P-256": "EC", "P-256K": "EC-HSM", "P-521": "EC"} {
		f.Add(fmt.Sprintf(`{"key":{"kty":%q,%s}}`, kty, testKeys()[name].members()))
	}
	f.Add(`{"Hsm":true,"key":{"kty":"oct-HSM","k":"AAECAwQFBgcICQoLDA0ODw==","key_ops":["sign"]},"attributes":{"enabled":false,"nbf":1},"tags":{"a":"b"}}`)
	f.Add(`{"key":{"kty":"oct-HSM","K":"AAECAwQFBgcICQoLDA0ODx","key_hsm":null}}`)
	h := newHandler(f, resource.Premium)
	f.Fuzz(func(t *testing.T, body string) {
		answer, _ := h.attempt(t, "PUT", "/keys/k", body)
		var doc struct{ Key map[string]any }
		if json.Unmarshal([]byte(body), &doc) != nil {
			return
		}
		for name, value := range doc.Key {
			switch strings.ToLower(name) {
			case "d", "dp", "dq", "qi", "p", "q", "k":
				const long = 20 // shorter ones are there by chance
				text, _ := value.(string)
				if len(text) >= long && strings.Count(body, text) == 1 && strings.Contains(answer, text) {
					t.Fatalf("%q is in the answer %s", name, answer)
				}
			}
		}
	})
}

// FuzzKeyHSM sends a transfer file to be imported. The corpus has one for each type of key that is right.
func FuzzKeyHSM(f *testing.F) {
	h := newHandler(f, resource.Premium)
	kek := testKeys()["rsa2048"]
	if _, answer := h.do(f, "PUT", "/keys/kek", `{"key":{"kty":"RSA-HSM","key_ops":["import"],`+kek.members()+`}}`); !strings.Contains(answer, `"kid"`) {
		f.Fatal(answer)
	}
	f.Add("oct-HSM", []byte(`{"schema_version":"1.0.0","header":{"kid":"https://test.vault.example.org/keys/kek","alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP"},"ciphertext":"AAAA"}`))
	f.Fuzz(func(t *testing.T, kty string, file []byte) {
		body, err := json.Marshal(map[string]any{"key": map[string]any{"kty": kty, "key_hsm": encode(file)}})
		if err != nil {
			t.Fatal(err)
		}
		h.attempt(t, "PUT", "/keys/k", string(body))
	})
}

// FuzzReleasePolicy sends a policy for a new key. One that is accepted comes back in a form that stays what it is.
func FuzzReleasePolicy(f *testing.F) {
	f.Add("", []byte(`{"version":"1.0.0","anyOf":[{"authority":"https://a.example","allOf":[{"claim":"x","equals":"y"}]}]}`))
	f.Add("application/json; charset=utf-8", []byte(`{"anyOf":[{"anyOf":[{"claim":"a.b","equals":1.50},{"allOf":[{"claim":"c","equals":false}]}],`+
		`"authority":"https://b.example:8443/x/"}],"version":"1.0.0"}`))
	f.Add("text/plain", []byte(`[]`))
	h := newHandler(f, resource.Premium)
	f.Fuzz(func(t *testing.T, contentType string, policy []byte) {
		shape := map[string]any{"data": encode(policy), "contentType": contentType}
		body, err := json.Marshal(map[string]any{"kty": "EC-HSM", "attributes": map[string]any{"exportable": true}, "release_policy": shape})
		if err != nil {
			t.Fatal(err)
		}
		answer, ok := h.attempt(t, "POST", "/keys/k/create", string(body))
		if !ok {
			return
		}
		first := releasePolicyIn(t, answer)
		again, ok := h.attempt(t, "PATCH", "/keys/k", `{"release_policy":`+first+`}`)
		if !ok || releasePolicyIn(t, again) != first {
			t.Fatalf("%s came back, and was then answered with %s", first, again)
		}
	})
}

func releasePolicyIn(t *testing.T, answer string) string {
	t.Helper()
	var doc struct {
		Policy json.RawMessage `json:"release_policy"`
	}
	if err := json.Unmarshal([]byte(answer), &doc); err != nil || len(doc.Policy) == 0 {
		t.Fatalf("no policy in %s: %v", answer, err)
	}
	return string(doc.Policy)
}

// FuzzRotationPolicy sends a policy. One that is accepted comes back in a form that stays what it is.
func FuzzRotationPolicy(f *testing.F) {
	f.Add(`{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P15D"},"action":{"type":"Rotate"}}],"attributes":{"expiryTime":"P30D"}}`)
	f.Add(`{"lifetimeActions":[{"trigger":{"timeBeforeExpiry":"P1Y2M3W4D"},"action":{"type":"notify"}}],"attributes":{"expiryTime":"P99Y"}}`)
	f.Add(`{"lifetimeActions":[{"trigger":null}],"attributes":null}`)
	h := newHandler(f, resource.Standard)
	h.importKey(f, "P-256", "EC")
	const path = "/keys/P-256/rotationpolicy"
	f.Fuzz(func(t *testing.T, body string) {
		if _, ok := h.attempt(t, "PUT", path, body); !ok {
			return
		}
		shown, ok := h.attempt(t, "GET", path, "")
		if !ok {
			t.Fatalf("after %s: %s", body, shown)
		}
		again, ok := h.attempt(t, "PUT", path, shown)
		if !ok || withoutTimes(t, again) != withoutTimes(t, shown) {
			t.Fatalf("%s came back, and was then answered with %s", shown, again)
		}
	})
}

func withoutTimes(t *testing.T, answer string) string {
	t.Helper()
	var doc map[string]any
	if err := json.Unmarshal([]byte(answer), &doc); err != nil {
		t.Fatal(err)
	}
	attributes := doc["attributes"].(map[string]any)
	delete(attributes, "created")
	delete(attributes, "updated")
	out, err := json.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
