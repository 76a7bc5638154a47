package api_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/api"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire/wiretest"
	"github.com/strongroom/strongroom/strongroomtest"
)

// hsmPlayer plays a script against the managed HSM of a handler. Its administrator asks if nobody else is named, by "@nobody", who
// has no role at first.
type hsmPlayer struct {
	*testHandler
	t        *testing.T
	script   string
	tokens   map[string]string
	known    *strings.Replacer
	names    *strings.Replacer
	guids    []string
	outcomes map[outcome]bool
}

func playHSM(t *testing.T, path string) map[outcome]bool {
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := newHSMPlayer(t)
	p.script = string(script)
	wiretest.Play(t, path, p.exchange)
	return p.outcomes
}

func newHSMPlayer(t *testing.T) *hsmPlayer {
	p := &hsmPlayer{testHandler: newHandler(t, resource.ManagedHSM), t: t, outcomes: make(map[outcome]bool)}
	p.renameFirst()
	token, nobody := p.principal("nobody")
	p.tokens = map[string]string{"@admin": p.token, "@nobody": token, "@none": ""}
	p.known = strings.NewReplacer("<admin oid>", p.caller.ObjectID, "<nobody oid>", nobody)
	p.names = strings.NewReplacer(p.caller.ObjectID, "<admin oid>", nobody, "<nobody oid>")
	return p
}

// renameFirst gives the administrator's first assignment a name that is the same in every run, so that lists have one order.
func (p *hsmPlayer) renameFirst() {
	p.t.Helper()
	ctx, operator := p.t.Context(), resource.Actor{Operator: "test"}
	list, err := p.resources.ListLocalAssignments(ctx, operator, "test", "/", resource.LocalAssignmentFilter{})
	if err != nil {
		p.t.Fatal(err)
	}
	for _, a := range list {
		if a.RoleID != authz.RoleHSMAdministrator {
			continue
		}
		_, err := p.resources.DeleteLocalAssignment(ctx, operator, "test", "/", a.ID)
		if err == nil {
			_, err = p.resources.CreateLocalAssignment(ctx, operator, "test", "/", a.RoleID, a.PrincipalID, a.RoleID)
		}
		if err != nil {
			p.t.Fatal(err)
		}
	}
}

var guidIn = regexp.MustCompile(`\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b`)

func (p *hsmPlayer) exchange(request, said []string) []string {
	method, target, _ := strings.Cut(request[0], " ")
	who, body, host := "@admin", "", p.host
	for _, l := range request[1:] {
		switch {
		case strings.HasPrefix(l, "@"):
			who = l
		case strings.HasPrefix(l, "Host: "):
			host = strings.TrimPrefix(l, "Host: ")
		default:
			body = p.known.Replace(l)
		}
	}
	r, err := http.NewRequestWithContext(p.t.Context(), method, "https://"+host+p.known.Replace(target), strings.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	r.RemoteAddr = "127.0.0.1:1"
	if p.tokens[who] != "" {
		r.Header.Set("Authorization", "Bearer "+p.tokens[who])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	p.outcomes[outcome{method + " " + api.PatternOf(method, r.URL.EscapedPath()), w.Code < 300}] = true
	answer := []string{strconv.Itoa(w.Code)}
	for _, l := range said {
		if name, _, ok := strings.Cut(l, ": "); ok && !strings.HasPrefix(l, "{") {
			answer = append(answer, name+": "+strings.Join(w.Result().Header.Values(name), " | "))
		}
	}
	if w.Body.Len() > 0 {
		answer = append(answer, p.masked(w.Body.String()))
	}
	return answer
}

// masked replaces what differs from run to run: ids that the script does not have.
func (p *hsmPlayer) masked(s string) string {
	roles := fmt.Sprint(p.builtIn())
	return guidIn.ReplaceAllStringFunc(p.names.Replace(s), func(id string) string {
		if strings.Contains(p.script, id) || strings.Contains(roles, id) {
			return id
		}
		return "<guid" + number(&p.guids, id) + ">"
	})
}

func (p *hsmPlayer) builtIn() (ids []string) {
	list, err := p.resources.ListLocalDefinitions(p.t.Context(), resource.Actor{Operator: "test"}, "test", "/")
	if err != nil {
		p.t.Fatal(err)
	}
	for _, d := range list {
		ids = append(ids, d.ID)
	}
	return ids
}

// do makes one exchange and returns status and body.
func (p *hsmPlayer) do(who, method, path, body string) (int, string) {
	p.t.Helper()
	answer := p.exchange([]string{method + " " + path, who, body}, nil)
	status, err := strconv.Atoi(answer[0])
	if err != nil {
		p.t.Fatal(err)
	}
	return status, strings.Join(answer[1:], "")
}

// TestLocalScopeSpellings sends each spelling of a scope that clients have, and some that they should not, and compares both what
// was answered and who may do it with the plain spelling.
func TestLocalScopeSpellings(t *testing.T) {
	t.Parallel()
	p := newHSMPlayer(t)
	const (
		tail     = "/providers/Microsoft.Authorization/roleAssignments"
		version  = "?api-version=7.6"
		user     = `{"properties":{"roleDefinitionId":"21dbd100-6940-42c2-9190-5d6cb909625b","principalId":"<nobody oid>"}}`
		onesKeys = "/keys/one"
	)
	count := 0
	put := func(who, path string) (status int, scope string) {
		t.Helper()
		count++
		status, body := p.do(who, "PUT", path+fmt.Sprintf("/c0570000-0000-4000-8000-%012d", count)+version, user)
		var made struct{ Properties struct{ Scope string } }
		if err := json.Unmarshal([]byte(body), &made); err != nil {
			t.Fatalf("%s: %v", body, err)
		}
		if status == http.StatusCreated { // so that the next one is none of what exists
			id := fmt.Sprintf("/c0570000-0000-4000-8000-%012d", count)
			if status, body := p.do("@admin", "DELETE", tail+id+version, ""); status != http.StatusOK {
				t.Fatalf("DELETE: %d %s", status, body)
			}
		}
		return status, made.Properties.Scope
	}
	for scope, spellings := range map[string][]string{
		"/": {"" + tail, "//" + tail, "///" + tail[1:], "/%2F" + tail, "/%2f" + tail, "/PROVIDERS/microsoft.authorization/ROLEASSIGNMENTS",
			"/%70roviders/Microsoft.Authorization/roleAssignments"},
		"/keys": {"/keys" + tail, "//keys" + tail, "//keys/" + tail, "/%2Fkeys" + tail, "/%2fKEYS%2f" + tail, "/keys%2F" + tail, "/Keys/PROVIDERS/Microsoft.authorization/roleassignments"},
		onesKeys: {"/keys/one" + tail, "//keys//one/" + tail, "/keys%2Fone" + tail, "/%2Fkeys%2Fone" + tail, "/%2Fkeys/one" + tail,
			"/keys/%6Fne" + tail},
	} {
		for _, path := range spellings {
			if status, at := put("@admin", path); status != http.StatusCreated || at != scope {
				t.Errorf("PUT %s: %d at %q, want %q", path, status, at, scope)
			}
			if status, _ := put("@nobody", path); status != http.StatusForbidden {
				t.Errorf("PUT %s without a role: %d", path, status)
			}
		}
	}
	for _, path := range []string{"/secrets" + tail, "/keys/one/two" + tail, "/keys/one/versions/x" + tail, "/%252Fkeys" + tail, "/.." + tail, "/keys/one%2Ftwo" + tail,
		"/keys" + tail + "/x/y", "/keys/providers" + "/Microsoft.KeyVault/roleAssignments"} {
		if status, _ := put("@admin", path); status < 400 || status >= 500 {
			t.Errorf("PUT %s: %d", path, status)
		}
	}
	// A role at one key is one at that key in each spelling, and nowhere else.
	if status, body := p.do("@admin", "PUT", onesKeys+tail+"/c0570000-0000-4000-8000-00000000ffff"+version,
		strings.Replace(user, "21dbd100-6940-42c2-9190-5d6cb909625b", "4bd23610-cdcf-4971-bdee-bdc562cc28e4", 1)); status != http.StatusCreated {
		t.Fatal(body)
	}
	for path, want := range map[string]int{
		"/keys/one" + tail: http.StatusCreated, "/keys%2fONE" + tail: http.StatusCreated, "//keys/one" + tail: http.StatusCreated,
		"/keys/two" + tail: http.StatusForbidden, "/keys" + tail: http.StatusForbidden, tail: http.StatusForbidden,
		"/keys/one%2F" + tail: http.StatusCreated, "/%2F/%2Fkeys" + tail: http.StatusForbidden,
	} {
		if status, _ := put("@nobody", path); status != want {
			t.Errorf("PUT %s with a role at one key: %d, want %d", path, status, want)
		}
	}
}

// TestLocalRecordedShapes compares the members of our answers, and their order, with those of the exchanges that were recorded.
func TestLocalRecordedShapes(t *testing.T) {
	t.Parallel()
	const folder = "../../../shared/vectors/security-domain/admin"
	if _, err := os.Stat(folder); os.IsNotExist(err) {
		t.Log("left out: the recorded exchanges are not on this machine")
		return
	}
	p := newHSMPlayer(t)
	compared := make(map[string]bool)
	for _, file := range []string{"recorded-role-assignments.json", "recorded-role-definitions.json", "recorded-settings.json"} {
		raw, err := os.ReadFile(filepath.Join(folder, file))
		if err != nil {
			t.Fatal(err)
		}
		var recorded struct {
			Exchanges []struct {
				Method, Path string
				Query        string
				RequestBody  string `json:"request_body"`
				Status       int
				ResponseBody string `json:"response_body"`
			}
		}
		if err := json.Unmarshal(raw, &recorded); err != nil {
			t.Fatal(err)
		}
		for _, e := range recorded.Exchanges {
			// The recorder has replaced a role's id by that of nobody, which is none.
			e.Path = strings.Replace(e.Path, "00000000-0000-0000-0000-000000000000", "e5192147-b082-4abb-ae7a-1101a8d144ce", 1)
			if e.Status == http.StatusUnauthorized {
				continue
			}
			status, body := p.do("@admin", e.Method, e.Path+"?api-version=7.4", e.RequestBody)
			if status != e.Status {
				t.Errorf("%s %s: %d %s, recorded %d", e.Method, e.Path, status, body, e.Status)
				continue
			}
			want, got := wiretest.Members(t, []byte(e.ResponseBody), nil), wiretest.Members(t, []byte(body), nil)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("%s %s: members differ (-recorded +ours):\n%s", e.Method, e.Path, diff)
			}
			compared[e.Method+" "+api.PatternOf(e.Method, e.Path)] = true
		}
	}
	if len(compared) < 9 {
		t.Errorf("compared only %v", slices.Sorted(maps.Keys(compared)))
	}
}

// TestLocalRolesOnRecord: what changes rights is announced and recorded under one name with one detail, and who may not is told
// under which id the operator finds his request.
func TestLocalRolesOnRecord(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, &strongroomtest.Options{HSMs: []string{"pool"}})
	nobody := s.CreatePrincipal(t, "nobody")
	do := func(client, secret, method, path, body string) (status int, id, answer string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.HSMURL("pool")+path+"?api-version=7.6", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+s.HSMToken(t, client, secret))
		resp, err := s.HTTPClient().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header.Get("X-Ms-Request-Id"), string(raw)
	}
	const (
		assignment = "/providers/Microsoft.Authorization/roleAssignments/a5510000-0000-4000-8000-000000000001"
		definition = "/providers/Microsoft.Authorization/roleDefinitions/c0570000-0000-4000-8000-000000000001"
	)
	give := `{"properties":{"roleDefinitionId":"21dbd100-6940-42c2-9190-5d6cb909625b","principalId":"` + nobody.ObjectID + `"}}`
	role := `{"properties":{"roleName":"Signer","permissions":[{"dataActions":["Microsoft.KeyVault/managedHsm/keys/sign/action"]}]}}`
	given := "principal " + nobody.ObjectID + " role 21dbd100-6940-42c2-9190-5d6cb909625b scope /keys"
	made := `role "Signer" at / dataActions Microsoft.KeyVault/managedHsm/keys/sign/action`
	type entry struct{ operation, detail string }
	var want []entry
	for _, c := range []struct {
		method, path, body string
		status             int
		entry
	}{
		{"PUT", definition, role, 201, entry{"RoleDefinitionPut", made}},
		{"DELETE", definition, "", 200, entry{"RoleDefinitionDelete", made}},
		{"PUT", "/keys" + assignment, give, 201, entry{"RoleAssignmentPut", given}},
		{"DELETE", assignment, "", 200, entry{"RoleAssignmentDelete", given}},
		{"PATCH", "/settings/AllowKeyManagementOperationsThroughARM", `{"value":"true"}`, 200, entry{"SettingUpdate", "value true"}},
	} {
		if status, _, answer := do(s.ClientID, s.Secret, c.method, c.path, c.body); status != c.status {
			t.Fatalf("%s %s: %d %s", c.method, c.path, status, answer)
		}
		want = append(want, c.entry)
	}
	status, id, answer := do(nobody.ClientID, nobody.Secret, "PUT", assignment, give)
	if status != http.StatusForbidden || !strings.Contains(answer, "(Activity ID: "+id+")") {
		t.Errorf("without a role: %d, %s for the request %s", status, answer, id)
	}
	got := make(map[string][]entry)
	for _, rec := range s.AuditLog(t) {
		properties, _ := rec["properties"].(map[string]any)
		resource, _ := rec["resourceId"].(string)
		operation, _ := rec["operationName"].(string)
		detail, _ := properties["detail"].(string)
		succeeded := rec["category"] == "AuditIntent" || rec["resultType"] == "Success"
		if strings.Contains(resource, "/MANAGEDHSMS/POOL") && !strings.Contains(detail, s.ObjectID) && succeeded && slices.ContainsFunc(want, func(e entry) bool { return e.operation == operation }) {
			category, _ := rec["category"].(string)
			got[category] = append(got[category], entry{operation, detail})
		}
	}
	for _, category := range []string{"AuditIntent", "AuditEvent"} {
		if !slices.Equal(got[category], want) {
			t.Errorf("%s: %v, want %v", category, got[category], want)
		}
	}
}
