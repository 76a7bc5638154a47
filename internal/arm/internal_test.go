package arm

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/admission"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire"
)

// TestKinds: each kind of refusal of internal/resource has its answer.
func TestKinds(t *testing.T) {
	t.Parallel()
	for kind := resource.BadRequest; kind <= resource.LocationNotAvailable; kind++ {
		e := onWire(&resource.Error{Kind: kind, Message: "why", Target: "what"})
		if e == errInternal || e.message != "why" || e.target != "what" || e.status < 400 || e.status >= 500 {
			t.Errorf("kind %d is answered with %+v", kind, e)
		}
	}
	if e := onWire(&resource.Error{Kind: resource.LocationNotAvailable + 1}); e != errInternal {
		t.Errorf("a kind without an answer is answered with %+v", e)
	}
	if e := onWire(&keyvault.Error{Kind: keyvault.NotFound, Message: "why"}); e.status != http.StatusNotFound || e.message != "why" {
		t.Errorf("an object that is not there is answered with %+v", e)
	}
}

// TestTable: no two rows of the same method take one path, and each row has what it needs.
func TestTable(t *testing.T) {
	t.Parallel()
	for i := range table {
		rt := &table[i]
		path := strings.NewReplacer("{scope}", "/subscriptions/s", "{", "", "}", "").Replace(rt.Pattern)
		if got, _, err := match(rt.Method, path); err != nil || got != rt {
			t.Errorf("%s %s goes to %+v, %v", rt.Method, path, got, err)
		}
		for j := range table[:i] {
			if _, ok := table[j].matches(mustSplit(t, path)); ok && table[j].Method == rt.Method {
				t.Errorf("%s %s is taken by %s, too", rt.Method, path, table[j].Pattern)
			}
		}
		if rt.changes() && rt.Method != http.MethodDelete && rt.Method != http.MethodPost && rt.MaxBody == 0 &&
			!strings.HasSuffix(rt.Operation, "EndpointPut") {
			t.Errorf("%s has no body", rt.Operation)
		}
		if rt.handle == nil || rt.Success == 0 || rt.Operation == "" {
			t.Errorf("%s is incomplete", rt.Pattern)
		}
	}
}

func mustSplit(t testing.TB, path string) []string {
	segments, err := split(path)
	if err != nil {
		t.Fatal(err)
	}
	return segments
}

func TestSplit(t *testing.T) {
	t.Parallel()
	for path, want := range map[string][]string{
		"": nil, "/": nil, "//": nil, "/a": {"a"}, "//a/b/": {"a", "b"}, "/A%20b/c": {"A b", "c"}, "/a.b/c..d": {"a.b", "c..d"},
		"/%6detadata": {"metadata"},
	} {
		if got, err := split(path); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %q, %v", path, got, err)
		}
	}
	for _, path := range []string{
		"/a//b", "/a//", "/.", "/..", "/a/../b", "/a/./b", "/%2e%2e/b", "/%2E", "/...", "/a%2fb", "/a%5cb", "/a%252fb", "/a%00", "/a%0ab", "/a%7f",
		"/vault%73/%E2%84%AA", "/\u212a", "/a%3fb", "/a%23b", "/%20a", "/a%20", "/%", "/%zz", "/" + strings.Repeat("a/", maxSegments) + "a",
		"/" + strings.Repeat("a", maxPath),
	} {
		if got, err := split(path); err == nil {
			t.Errorf("%q was read as %q", path, got)
		}
	}
}

func TestParseFilter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]clause{
		"": nil, "  ": nil,
		"resourceType eq 'Microsoft.KeyVault/vaults'": {{"", "resourceType", "Microsoft.KeyVault/vaults"}},
		"resourceType eq 'a/b' and name eq 'it''s'":   {{"", "resourceType", "a/b"}, {"", "name", "it's"}},
		" name  EQ  'x' ":                              {{"", "name", "x"}},
		"atScope()":                                    {{"atScope", "", ""}},
		"atScope() and assignedTo('o')":                {{"atScope", "", ""}, {"assignedTo", "", "o"}},
		"assignedTo( 'o' )":                            {{"assignedTo", "", "o"}},
		"startswith(displayName,'x')":                  {{"startswith", "displayName", "x"}},
		"startswith(displayName, '')":                  {{"startswith", "displayName", ""}},
		"servicePrincipalNames/any(c:c eq 'http://x')": {{"any", "servicePrincipalNames", "http://x"}},
		"servicePrincipalNames/any(x: x eq 'y') and displayName eq 'z'": {{"any", "servicePrincipalNames", "y"}, {"", "displayName", "z"}},
	} {
		if got, err := parseFilter(text); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{
		"name", "name eq", "name eq x", "name eq 'x", "name ne 'x'", "name eq 'x' or name eq 'y'", "name eq 'x'and name eq 'y'", "name eq 'x' and",
		"(name eq 'x')", "not name eq 'x'", "f(", "f('x'", "f(a 'x')", "f(a,)", "x/any(c:d eq 'y')", "x/any(c:c eq 'y'", "x/any(c c eq 'y')", "eq 'x'",
		"atScope)(", "name eq 'x' name eq 'y'", "n\u00e4me eq 'x'", strings.Repeat("a", maxFilter+1), strings.Repeat("f() and ", maxClauses) + "f()",
	} {
		if got, err := parseFilter(text); err == nil {
			t.Errorf("%q was read as %+v", text, got)
		}
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"name eq 'a' and name eq 'b'", "tagName eq 'x'", "name eq ''", "name('x')"} {
		if f, err := resourceFilter(text); err == nil {
			t.Errorf("resources %q: %+v", text, f)
		}
	}
	for _, text := range []string{"principalId eq ''", "atScope('x')", "assignedTo()", "roleName eq 'x'"} {
		if f, err := assignmentFilter(text); err == nil {
			t.Errorf("assignments %q: %+v", text, f)
		}
	}
	for _, text := range []string{"type eq 'x'", "roleName eq ''", "atScope()"} {
		if f, err := roleFilter(text); err == nil {
			t.Errorf("roles %q: %+v", text, f)
		}
	}
	a, err := assignmentFilter("atScope() and assignedTo('o')")
	if want := (resource.AssignmentFilter{AtScope: true, AssignedTo: "o"}); err != nil || a != want {
		t.Errorf("%+v, %v", a, err)
	}
	r, err := roleFilter("roleName eq 'Owner' and type eq 'BuiltInRole' and atScopeAndBelow()")
	if want := (resource.RoleFilter{Name: "Owner", BuiltIn: true}); err != nil || r != want {
		t.Errorf("%+v, %v", r, err)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		provider provider
		query    string
		code     string
	}{
		{keyVault, "api-version=2023-07-01", ""}, {keyVault, "api-version=2026-02-01", ""}, {keyVault, "api-version=2018-02-14-preview", ""},
		{keyVault, "", "MissingApiVersionParameter"}, {keyVault, "api-version=", "MissingApiVersionParameter"},
		{keyVault, "api-version=x", "InvalidApiVersionParameter"}, {keyVault, "api-version=2023-13-01", "InvalidApiVersionParameter"},
		{keyVault, "api-version=2023-07-02", "NoRegisteredProviderFound"}, {resourcesAPI, "api-version=2015-11-01", ""},
		{resourcesAPI, "", "MissingApiVersionParameter"}, {authorization, "api-version=2018-01-01-preview", ""}, {none, "", ""}, {none, "api-version=x", ""},
	} {
		q, err := url.ParseQuery(c.query)
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.provider.version(q)
		code := ""
		if e := (*wireError)(nil); errors.As(err, &e) {
			code = e.code
		}
		if code != c.code || (err == nil) != (c.code == "") {
			t.Errorf("%d, %q: %v", c.provider, c.query, err)
		}
	}
}

func TestReadDays(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]int{`7`: 7, `"7"`: 7, `90`: 90, `0`: 0, `"x"`: -1, `-1`: -1, `true`: -1, `7.5`: -1, `"9999999999"`: -1, `[]`: -1, `99999999999999999999`: -1} {
		o, err := wire.ParseObject([]byte(`{"softDeleteRetentionInDays":`+in+`}`), maxMembers)
		if err != nil {
			t.Fatal(err)
		}
		days, err := readDays(o)
		if (err == nil) != (want >= 0) || err == nil && *days != want {
			t.Errorf("%s: %v, %v", in, days, err)
		}
	}
	if days, err := readDays(wire.Object{}); days != nil || err != nil {
		t.Errorf("none: %v, %v", days, err)
	}
}

func TestReadNetwork(t *testing.T) {
	t.Parallel()
	ranges := []netip.Prefix{netip.MustParsePrefix("10.0.0.1/32")}
	for in, want := range map[string]*authz.NetworkRules{ // what is left out is zero, which is not the same as empty
		`{}`:                       {},
		`{"defaultAction":"deny"}`: {DefaultAction: authz.DenyAddresses},
		`{"bypass":"none"}`:        {Bypass: authz.BypassNone},
		`{"ipRules":[],"virtualNetworkRules":[]}`:                    {IPRules: []netip.Prefix{}, VirtualNetworks: []string{}},
		`{"ipRules":[{"value":"10.0.0.1"}],"defaultAction":"ALLOW"}`: {IPRules: ranges, DefaultAction: authz.AllowAddresses},
		`{"virtualNetworkRules":[{"id":"/x"}]}`:                      {VirtualNetworks: []string{"/x"}},
		`{"defaultAction":"maybe"}`:                                  nil, `{"bypass":"All"}`: nil, `{"ipRules":[{}]}`: nil, `{"ipRules":[{"value":"x"}]}`: nil,
		`{"ipRules":[` + strings.Repeat(`{"value":"10.0.0.1"},`, authz.MaxIPRules) + `{"value":"10.0.0.1"}]}`: nil,
	} {
		o, err := wire.ParseObject([]byte(`{"networkAcls":`+in+`}`), maxMembers)
		if err != nil {
			t.Fatal(err)
		}
		n, err := readNetwork(o)
		if (err == nil) != (want != nil) || err == nil && !reflect.DeepEqual(n, want) {
			t.Errorf("%.100s: %+v, %v", in, n, err)
		}
	}
}

func TestSpelled(t *testing.T) {
	t.Parallel()
	const sub = "/subscriptions/3f0c1a52-7a43-4d27-9f5d-0f4b3c0b7f11"
	for _, want := range []string{
		"/", sub, sub + "/resourceGroups/providers", sub + "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/providers",
		sub + "/resourceGroups/g/providers/Microsoft.KeyVault/managedHSMs/hsm1", sub + "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/vt1/secrets/s",
	} {
		scope, err := authz.ParseScope(want)
		if got := spelled(scope); err != nil || got != want {
			t.Errorf("%s is written as %s, %v", want, got, err)
		}
		if again, err := authz.ParseScope(spelled(scope)); err != nil || again != scope {
			t.Errorf("%s is another scope: %v", want, err)
		}
	}
}

// TestOutcomeNotRecorded lets the audit log fail after the work was done, or when there was none.
func TestOutcomeNotRecorded(t *testing.T) {
	t.Parallel()
	h := &Handler{cfg: Config{
		Observe: func(context.Context, *wire.Outcome) error { return errors.New("no") },
		Logger:  slog.New(slog.DiscardHandler),
	}}
	for _, c := range []struct {
		method, path string
		err          error
		want         string
	}{
		{"PUT", "/subscriptions/s/resourceGroups/g", nil, wire.OutcomeNotRecorded},
		{"PUT", "/subscriptions/s/resourceGroups/g", admission.ErrThrottled, wire.NotRecorded},
		{"GET", "/subscriptions/s/resourceGroups/g", nil, wire.NotRecorded},
		{"POST", "/subscriptions/s/providers/Microsoft.KeyVault/checkNameAvailability", nil, wire.NotRecorded},
		{"POST", "/subscriptions/s/providers/Microsoft.KeyVault/locations/l/deletedVaults/v/purge", nil, wire.OutcomeNotRecorded},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest(c.method, "/", nil)
		rt, _, err := match(c.method, c.path)
		if err != nil {
			t.Fatal(err)
		}
		q := &request{h: h, w: w, r: r, ctx: r.Context(), route: rt}
		q.answer(response{status: http.StatusOK, body: []byte(`{"value":"secret"}`), location: "https://x"}, c.err)
		if w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), c.want) || strings.Contains(w.Body.String(), "secret") ||
			w.Header().Get("Location") != "" {
			t.Errorf("%s %s, %v: %d %s", c.method, c.path, c.err, w.Code, w.Body)
		}
	}
}

// TestPanic: a panic in the middle of a request is an unclassified error, which is a bare 500.
func TestPanic(t *testing.T) {
	t.Parallel()
	q := &request{} // has no handler to serve with
	_, err := q.serveSafely(nil)
	if err == nil || onWire(err) != errInternal {
		t.Errorf("got %v", err)
	}
}

func TestCutRoleID(t *testing.T) {
	t.Parallel()
	const sub = "/subscriptions/3f0c1a52-7a43-4d27-9f5d-0f4b3c0b7f11"
	for id, want := range map[string][2]string{
		"/providers/Microsoft.Authorization/roleDefinitions/x":                        {"/", "x"},
		"/providers/microsoft.authorization/ROLEDEFINITIONS/x":                        {"/", "x"},
		sub + "/providers/Microsoft.Authorization/roleDefinitions/x":                  {sub, "x"},
		sub + "/resourceGroups/g/providers/Microsoft.Authorization/roleDefinitions/y": {sub + "/resourcegroups/g", "y"},
		"providers/Microsoft.Authorization/roleDefinitions/x":                         {},
		"/providers/Microsoft.Authorization/roleDefinitions/":                         {},
		"//providers/Microsoft.Authorization/roleDefinitions/x":                       {"/", "x"}, // "/" and "/providers/…"
		"/a/../providers/Microsoft.Authorization/roleDefinitions/x":                   {},
		"/subscriptions/x/providers/Microsoft.Authorization/roleDefinitions/x":        {},
		"/providers/Microsoft.Authorization/roleAssignments/x":                        {},
		"x": {}, "": {}, "/": {}, sub: {},
	} {
		scope, guid, ok := cutRoleID(id)
		if ok != (want[1] != "") || ok && (scope.String() != want[0] || guid != want[1]) {
			t.Errorf("%q: %s, %q, %v", id, scope, guid, ok)
		}
	}
}

// FuzzPath: no path panics, whatever is found is found again when it is written plainly, and no segment is more than one thing.
func FuzzPath(f *testing.F) {
	for i := range table {
		f.Add(table[i].Method, strings.ReplaceAll(table[i].Pattern, "{scope}", "/subscriptions/s"))
	}
	for _, p := range []string{"", "/", "//metadata/endpoints", "/a/../b", "/%2e%2e", "/a%2Fb", "/SUBSCRIPTIONS/x/", "/providers/microsoft.authorization/roledefinitions"} {
		f.Add("GET", p)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		rt, p, err := match(method, path)
		if err != nil {
			return
		}
		if rt.Method != method {
			t.Fatalf("%s %q went to %s", method, path, rt.Operation)
		}
		segments := mustSplit(t, path)
		for _, s := range segments {
			if strings.ContainsAny(s, "/\\%") || s == "." || s == ".." || s == "" {
				t.Fatalf("%q has the segment %q", path, s)
			}
		}
		plain := make([]string, len(segments))
		for i, s := range segments {
			plain[i] = url.PathEscape(s)
		}
		again, p2, err := match(method, "/"+strings.Join(plain, "/"))
		if err != nil || again != rt || p2 != p {
			t.Fatalf("%q went to %s with %+v, written plainly to %v with %+v: %v", path, rt.Operation, p, again, p2, err)
		}
	})
}

// FuzzFilter: no filter panics, and what is read can be written and read again.
func FuzzFilter(f *testing.F) {
	for _, s := range []string{
		"resourceType eq 'Microsoft.KeyVault/vaults' and name eq 'x'", "atScope()", "assignedTo('x')", "startswith(a,'b')", "a/any(c:c eq 'd')",
		"name eq 'it''s'", "and and and", "a eq 'b' and",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		clauses, err := parseFilter(text)
		if err != nil {
			return
		}
		var again []string
		for _, c := range clauses {
			quoted := "'" + strings.ReplaceAll(c.value, "'", "''") + "'"
			switch {
			case c.function == "":
				again = append(again, c.field+" eq "+quoted)
			case c.field != "" && c.function == "any":
				again = append(again, c.field+"/any(c:c eq "+quoted+")")
			case c.field != "":
				again = append(again, c.function+"("+c.field+","+quoted+")")
			default:
				again = append(again, c.function+"("+quoted+")")
			}
		}
		written := strings.Join(again, " and ")
		if got, err := parseFilter(written); len(written) <= maxFilter && (err != nil || !slices.Equal(got, clauses)) {
			t.Fatalf("%q was read as %+v; written as %q, as %+v, %v", text, clauses, written, got, err)
		}
	})
}

// FuzzBodies: no body panics any of the readers.
func FuzzBodies(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"location":"l","tags":{"a":"b"},"sku":{"name":"Standard_B1"},"properties":{"tenantId":"t","sku":{"family":"A","name":"premium"},
		"accessPolicies":[{"tenantId":"t","objectId":"o","permissions":{"keys":["get"]}}],"softDeleteRetentionInDays":7,
		"networkAcls":{"bypass":"none","defaultAction":"deny","ipRules":[{"value":"10.0.0.0/8"}],"virtualNetworkRules":[{"id":"x"}]},
		"publicNetworkAccess":"disabled","createMode":"Recover","regions":[{"name":"x"}],"kty":"RSA","keySize":2048}}`,
		`{"properties":{"roleName":"r","assignableScopes":["/"],"permissions":[{"actions":["*"]}],"roleDefinitionId":"x","principalId":"y"}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		body, err := wire.ParseObject(raw, maxMembers)
		if err != nil {
			return
		}
		properties, _, err := body.Object("properties")
		if err != nil {
			return
		}
		q := &request{outcome: wire.Outcome{APIVersion: "2023-07-01"}}
		if p, err := q.readPutVault(body, properties); err == nil && p.Network != nil && len(p.Network.IPRules) > authz.MaxIPRules {
			t.Fatal("too many rules")
		}
		_, _ = readPatchVault(body, properties)
		_, _ = readPutHSM(body, properties)
		_, _ = properties.RoleDefinition()
		_, _ = readCreateKey(body, properties)
	})
}
