package api_test

import (
	"bytes"
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
		if s.Service != "vault" || !ok {
			continue
		}
		compared[key] = true
		left := optional
		if strings.Contains(key, "secrets") {
			left = append(left, "kid")
		}
		if bytes.Contains(s.Response.Body, []byte(`"managed": true`)) || bytes.Contains(s.Response.Body, []byte(`"managed":true`)) {
			left = append(left, "attributes.exportable") // a certificate's key, of which ours has none
		}
		if diff := cmp.Diff(wiretest.Members(t, s.Response.Body, left), wiretest.Members(t, mine, left)); diff != "" {
			t.Errorf("%s: members differ (-recorded +ours):\n%s", key, diff)
		}
	}
	for key := range ours {
		if !compared[key] {
			t.Errorf("no recorded exchange is of the kind %s", key)
		}
	}
}

// shapeKey names a kind of exchange, whatever the names and versions in it.
func shapeKey(method, path string, status int) string {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for i := 1; i < len(segments); i++ {
		switch segments[i] {
		case "versions", "backup", "restore", "recover", "create", "rotate", "rotationpolicy", "decrypt", "sign":
		default:
			if len(segments[i]) == 32 {
				segments = slices.Delete(segments, i, i+1)
				i--
			} else {
				segments[i] = "n"
			}
		}
	}
	return fmt.Sprintf("%s /%s %d", method, strings.Join(segments, "/"), status)
}

// optional are members that depend on what was stored.
var optional = []string{"contentType", "tags", "managed", "attributes.nbf", "attributes.exp"}

// ownAnswers makes one exchange with our server of each kind that was recorded.
func ownAnswers(t *testing.T) map[string][]byte {
	s := strongroomtest.Start(t, nil)
	out := make(map[string][]byte)
	bearer := "Bearer " + s.Token(t, s.ClientID, s.Secret)
	do := func(method, path, body, authorization string) (value string) {
		version := "7.4"
		if strings.Contains(path, "keys") {
			version = "7.5-preview.1"
		}
		req, err := http.NewRequest(method, s.VaultURL+path+"?api-version="+version, strings.NewReader(body))
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
		out[shapeKey(method, path, resp.StatusCode)] = raw
		var doc struct{ Value any }
		if err := json.Unmarshal(raw, &doc); err == nil {
			value, _ = doc.Value.(string)
		}
		return value
	}
	do("PUT", "/secrets/n", "", "")
	do("GET", "/secrets/n", "", "")
	do("GET", "/deletedsecrets", "", bearer)
	do("PUT", "/secrets/n", `{"value":"v"}`, bearer)
	do("GET", "/secrets/n/", "", bearer)
	do("PATCH", "/secrets/n", `{"attributes":{"enabled":true}}`, bearer)
	do("GET", "/secrets/n/versions", "", bearer)
	do("GET", "/secrets", "", bearer)
	backup := do("POST", "/secrets/n/backup", "", bearer)
	do("DELETE", "/secrets/n", "", bearer)
	do("PUT", "/secrets/n", `{"value":"v"}`, bearer)
	do("POST", "/deletedsecrets/n/recover", "", bearer)
	do("DELETE", "/secrets/n", "", bearer)
	do("DELETE", "/deletedsecrets/n", "", bearer)
	do("POST", "/secrets/restore", fmt.Sprintf(`{"value":%q}`, backup), bearer)

	const rotation = `{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P15D"},"action":{"type":"Rotate"}},` +
		`{"trigger":{"timeBeforeExpiry":"P7D"},"action":{"type":"Notify"}}],"attributes":{"expiryTime":"P30D"}}`
	do("GET", "/keys", "", "")
	do("POST", "/keys/n/create", "", "")
	do("PUT", "/keys/n", "", "")
	do("POST", "/keys/n/create", `{"kty":"RSA"}`, bearer)
	do("PUT", "/keys/n", `{"key":{"kty":"RSA",`+testKeys()["rsa2048"].members()+`}}`, bearer)
	do("GET", "/keys/n", "", bearer)
	do("PATCH", "/keys/n/", `{"attributes":{"enabled":true}}`, bearer)
	do("GET", "/keys/n/versions", "", bearer)
	do("GET", "/keys", "", bearer)
	do("POST", "/keys/n/sign", `{"alg":"RS256","value":"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI"}`, bearer)
	cipher := do("POST", "/keys/n/encrypt", `{"alg":"RSA-OAEP","value":"YWJjZGVm"}`, bearer)
	delete(out, shapeKey("POST", "/keys/n/encrypt", http.StatusOK)) // not recorded: clients encrypt by themselves
	do("POST", "/keys/n/decrypt", fmt.Sprintf(`{"alg":"RSA-OAEP","value":%q}`, cipher), bearer)
	do("PUT", "/keys/n/rotationpolicy", rotation, bearer)
	do("GET", "/keys/n/rotationpolicy", "", bearer)
	do("POST", "/keys/n/rotate", "", bearer)
	backup = do("POST", "/keys/n/backup", "", bearer)
	do("DELETE", "/keys/n", "", bearer)
	do("POST", "/deletedkeys/n/recover", "", bearer)
	do("DELETE", "/keys/n", "", bearer)
	do("DELETE", "/deletedkeys/n", "", bearer)
	do("POST", "/keys/restore", fmt.Sprintf(`{"value":%q}`, backup), bearer)
	return out
}
