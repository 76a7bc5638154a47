package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/api"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/wire/wiretest"
	"github.com/strongroom/strongroom/strongroomtest"
)

// hsmClient sends requests to managed HSMs.
type hsmClient struct {
	t      *testing.T
	server *strongroomtest.Server
	token  string
}

func newHSMClient(t *testing.T) *hsmClient {
	s := strongroomtest.Start(t, nil)
	return &hsmClient{t, s, tokenFor(t, s, "managedhsm", s.ClientID, s.Secret)}
}

// send returns the answer and its body.
func (c *hsmClient) send(method, target, body, token string) (*http.Response, string) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, target, strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := c.server.HTTPClient().Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return resp, string(raw)
}

// downloadRequest names three owners, of whom two open the domain.
func downloadRequest(t testing.TB) string {
	return fmt.Sprintf(`{"certificates":[%s,%s,%s],"required":2}`, ownerJWK(t, "1"), ownerJWK(t, "2"), ownerJWK(t, "3"))
}

// restoreRequest carries a domain to the HSM that gave out a transfer key, as the answers to a download and for the key have them.
func restoreRequest(t testing.TB, download, transferKey string) string {
	t.Helper()
	to, err := sdomain.ParseTransferKey("jwk", textIn(t, transferKey, "transfer_key"))
	if err != nil {
		t.Fatal(err)
	}
	blob, err := sdomain.Rewrap(openDomain(t, textIn(t, download, "value")), to)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]string{"value": string(blob)})
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// textIn returns a member of a JSON object, which is a text.
func textIn(t testing.TB, body, member string) string {
	t.Helper()
	var all map[string]string
	if err := json.Unmarshal([]byte(body), &all); err != nil || all[member] == "" {
		t.Fatalf("%.100s: %v", body, err)
	}
	return all[member]
}

// TestRecordedSecurityDomain plays what a client did with the real service, and compares the answers' shapes.
func TestRecordedSecurityDomain(t *testing.T) {
	t.Parallel()
	const folder = "../../../shared/vectors/security-domain/"
	raw, err := os.ReadFile(folder + "rest/recorded-security-domain-2023-11.json")
	if os.IsNotExist(err) {
		t.Log("left out: the recorded exchanges are not on this machine")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var recorded struct {
		Exchanges []struct {
			Method, Path, Query string
			Host                string
			Status              int
			Headers             map[string]string `json:"response_headers"`
			Body                string            `json:"response_body"`
		}
	}
	if err := json.Unmarshal(raw, &recorded); err != nil || len(recorded.Exchanges) == 0 {
		t.Fatal(err)
	}
	c := newHSMClient(t)
	hosts := make(map[string]string) // by recorded host
	var download, key string
	for _, e := range recorded.Exchanges {
		if hosts[e.Host] == "" {
			hosts[e.Host] = createHSM(t, c.server, fmt.Sprintf("hsm-%d", len(hosts)))
		}
		what := fmt.Sprintf("%s %s %d", e.Method, e.Path, e.Status)
		if strings.Contains(e.Body, `"InProgress"`) && e.Method == http.MethodGet {
			continue // here it is done by the first answer
		}
		token, body := c.token, ""
		switch {
		case e.Status == http.StatusUnauthorized:
			token = ""
		case e.Path == "/securitydomain/download":
			body = downloadRequest(t)
		case e.Method == http.MethodPost:
			body = restoreRequest(t, download, key)
		}
		resp, got := c.send(e.Method, hosts[e.Host]+e.Path+"?"+e.Query, body, token)
		if resp.StatusCode != e.Status {
			t.Fatalf("%s: got %d %s", what, resp.StatusCode, got)
		}
		for _, name := range []string{"azure-asyncoperation", "location", "content-type", "x-frame-options", "x-content-type-options"} {
			want := strings.ReplaceAll(e.Headers[name], "https://"+e.Host, hosts[e.Host])
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, and was recorded as %q", what, name, got, want)
			}
		}
		switch {
		case e.Path == "/securitydomain/download" && e.Status == http.StatusAccepted:
			download = got
			sameShape(t, folder+"recorded/2023-11/download-response.json", got, "value")
		case e.Path == "/securitydomain/upload" && e.Status == http.StatusOK:
			key = got
			sameShape(t, folder+"recorded/2023-11/transfer-key-response.json", got, "transfer_key")
		case e.Status < http.StatusBadRequest && got != e.Body:
			t.Errorf("%s: got %s, and %s was recorded", what, got, e.Body)
		}
	}
	if download == "" || key == "" {
		t.Error("the recording has no download or no transfer key")
	}
}

// sameShape compares an answer with a recorded one, and the JSON in a text of it.
func sameShape(t *testing.T, path, got, member string) {
	t.Helper()
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wiretest.Members(t, want, nil), wiretest.Members(t, []byte(got), nil)); diff != "" {
		t.Errorf("%s (-recorded +ours):\n%s", path, diff)
	}
	inner := func(body string) []string { return wiretest.Members(t, []byte(textIn(t, body, member)), nil) }
	if diff := cmp.Diff(inner(string(want)), inner(got)); diff != "" {
		t.Errorf("%s in %s (-recorded +ours):\n%s", member, path, diff)
	}
}

// A polling is what az 2.45 did on answers that were given to it.
type polling struct {
	Name      string
	Operation string
	NoWait    bool                `json:"no_wait"`
	First     []json.RawMessage   `json:"first_response"`
	Polled    [][]json.RawMessage `json:"poll_responses"`
	Polls     int
	Paths     []string `json:"poll_paths"`
	Written   bool     `json:"file_written"`
}

// pollAsAz plays az: after an answer of 200 or 202 it asks the same path, whatever the operation, for a status until it knows one that is
// the end. It says how often it asked, and whether az takes the operation for done.
func pollAsAz(first int, noWait bool, ask func(n int) (status int, body string)) (polls int, done bool) {
	const most = 30
	if first != http.StatusOK && first != http.StatusAccepted {
		return 0, false
	}
	if noWait {
		return 0, true
	}
	for n := range most {
		var body struct{ Status string }
		if status, raw := ask(n); status == http.StatusOK && json.Unmarshal([]byte(raw), &body) == nil {
			switch strings.ToLower(body.Status) {
			case "success", "succeeded":
				return n + 1, true
			case "failed":
				return n + 1, false
			}
		}
	}
	return most, false
}

// TestAzPolling: az 2.45, which asks for the status of an upload after a download too, is done with the first answer.
func TestAzPolling(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("testdata/azure-cli-2.45-polling.json")
	if err != nil {
		t.Fatal(err)
	}
	var known struct{ Cases []polling }
	if err := json.Unmarshal(raw, &known); err != nil {
		t.Fatal(err)
	}
	var path string
	for _, k := range known.Cases {
		polls, done := pollAsAz(number32(t, k.First[0]), k.NoWait, func(n int) (int, string) {
			answer := k.Polled[min(n, len(k.Polled)-1)]
			return number32(t, answer[0]), string(answer[1])
		})
		if polls != k.Polls || k.Operation == "download" && done != k.Written {
			t.Errorf("%s: %d polls and %t, want %d and %t: az is not played right", k.Name, polls, done, k.Polls, k.Written)
		}
		if len(k.Paths) > 0 {
			path = k.Paths[0]
		}
	}
	c := newHSMClient(t)
	one, other := createHSM(t, c.server, "one"), createHSM(t, c.server, "other")
	const query = "?api-version=7.2"
	play := func(hsm, operation, request string) (answer string) {
		resp, answer := c.send("POST", hsm+"/securitydomain/"+operation+query, request, c.token)
		polls, done := pollAsAz(resp.StatusCode, false, func(int) (int, string) {
			resp, body := c.send("GET", hsm+path+query, "", c.token)
			return resp.StatusCode, body
		})
		if polls != 1 || !done {
			t.Errorf("%s: %s, %d polls, done: %t", operation, resp.Status, polls, done)
		}
		return answer
	}
	download := play(one, "download", downloadRequest(t))
	_, key := c.send("GET", other+"/securitydomain/upload"+query, "", c.token)
	play(other, "upload", restoreRequest(t, download, key))
}

func number32(t testing.TB, raw json.RawMessage) (n int) {
	t.Helper()
	if err := json.Unmarshal(raw, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestSecurityDomainVersions: all versions of the interface are alike, and the header has that of the request.
func TestSecurityDomainVersions(t *testing.T) {
	t.Parallel()
	c := newHSMClient(t)
	hsm := createHSM(t, c.server, "one")
	for _, version := range api.APIVersions() {
		for _, request := range []struct {
			method, path, body, pending string
			status                      int
		}{
			{"POST", "download", downloadRequest(t), "download/pending", http.StatusAccepted},
			{"GET", "download/pending", "", "download/pending", http.StatusOK},
			{"GET", "upload/pending", "", "upload/pending", http.StatusOK},
			{"GET", "upload", "", "", http.StatusConflict},
		} {
			resp, body := c.send(request.method, hsm+"/securitydomain/"+request.path+"?api-version="+version, request.body, c.token)
			want := ""
			if request.pending != "" {
				want = hsm + "/securitydomain/" + request.pending + "?api-version=" + version
			}
			if got := resp.Header.Get("Azure-AsyncOperation"); resp.StatusCode != request.status || got != want {
				t.Errorf("%s %s %s: %d, %q, %.200s", version, request.method, request.path, resp.StatusCode, got, body)
			}
		}
	}
}

// TestSecurityDomainAudit: the log says who downloaded for whom and which domain was brought, and nothing of what is in it.
func TestSecurityDomainAudit(t *testing.T) {
	t.Parallel()
	c := newHSMClient(t)
	one, other := createHSM(t, c.server, "one"), createHSM(t, c.server, "other")
	const query = "?api-version=2025-07-01"
	_, download := c.send("POST", one+"/securitydomain/download"+query, downloadRequest(t), c.token)
	_, key := c.send("GET", other+"/securitydomain/upload"+query, "", c.token)
	c.send("POST", other+"/securitydomain/upload"+query, restoreRequest(t, download, key), c.token)
	keys, err := sdomain.ParseDomainKeys(openDomain(t, textIn(t, download, "value")))
	if err != nil {
		t.Fatal(err)
	}
	first, err := sdomain.ParseCertificate(ownerFile(t, "1", "cer"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"SecurityDomainDownload": {"quorum: 2 of 3", first.Thumbprint(), "/MANAGEDHSMS/ONE"},
		"SecurityDomainUpload":   {"security domain: " + keys.ID(), "/MANAGEDHSMS/OTHER"},
	}
	seen := make(map[string][]string)
	for _, line := range c.server.AuditLog(t) {
		raw, err := json.Marshal(line)
		if err != nil {
			t.Fatal(err)
		}
		operation, _ := line["operationName"].(string)
		for _, text := range want[operation] {
			if !strings.Contains(string(raw), text) {
				t.Errorf("%q is not in %s", text, raw)
			}
		}
		category, _ := line["category"].(string)
		seen[operation] = append(seen[operation], category)
	}
	for operation := range want {
		if !slices.Equal(seen[operation], []string{"AuditIntent", "AuditEvent"}) {
			t.Errorf("%s: %v is on record", operation, seen[operation])
		}
	}
}

// FuzzSecurityDomain sends anything to the routes with a body: it is refused, and never a fault of the server.
func FuzzSecurityDomain(f *testing.F) {
	h := newHandler(f, "managedhsm")
	f.Add("download", downloadRequest(f))
	f.Add("download", `{"certificates":[{"x5c":["AAAA"]},{},{}],"required":11}`)
	f.Add("upload", `{"value":"{}"}`)
	f.Add("upload", `{"value":null}`)
	f.Fuzz(func(t *testing.T, operation, body string) {
		if operation != "upload" {
			operation = "download"
		}
		w := h.send(t, "POST", "/securitydomain/"+url.PathEscape(operation), h.token, body)
		if w.Code >= http.StatusInternalServerError {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}
