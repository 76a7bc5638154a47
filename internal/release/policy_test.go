package release

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func mustParse(t testing.TB, policy string) *Policy {
	t.Helper()
	p, err := ParsePolicy("", []byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// one is a policy with one authority and this condition.
func one(condition string) string {
	return `{"version":"1.0.0","anyOf":[{"authority":"https://a.example.org/","allOf":[` + condition + `]}]}`
}

func TestCanonical(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want string }{
		{
			"as a managed HSM returns it",
			`{"anyOf": [{"authority": "https://sharedeus.eus.attest.azure.net/", "allOf": [{"claim": "x-ms-sgx-is-debuggable",
				"equals": "false"}]}], "version": "1.0.0"}`,
			`{"anyOf":[{"allOf":[{"claim":"x-ms-sgx-is-debuggable","equals":"false"}],` +
				`"authority":"https://sharedeus.eus.attest.azure.net/"}],"version":"1.0.0"}`,
		},
		{
			"slash, case and default port of the authority",
			`{"version":"1.0.0","anyOf":[{"authority":"HTTPS://Attest.Example.org:443","anyOf":[{"equals":true,"claim":"sdk-test"}]}]}`,
			`{"anyOf":[{"anyOf":[{"claim":"sdk-test","equals":true}],"authority":"https://attest.example.org/"}],"version":"1.0.0"}`,
		},
		{
			"path of the authority",
			`{"version":"1.0.0","anyOf":[{"authority":"https://a.example.org:8443/Tenant/v2.0","anyOf":[{"claim":"c","equals":1.50e1}]}]}`,
			`{"anyOf":[{"anyOf":[{"claim":"c","equals":1.50e1}],"authority":"https://a.example.org:8443/Tenant/v2.0/"}],"version":"1.0.0"}`,
		},
		{
			"nesting, and characters that are not escaped",
			one(`{"anyOf":[{"claim":"a.b","equals":"<&>\u00e9"},{"allOf":[{"claim":"c","equals":""},{"claim":"d","equals":false}]}]}`),
			`{"anyOf":[{"allOf":[{"anyOf":[{"claim":"a.b","equals":"<&>é"},{"allOf":[{"claim":"c","equals":""},` +
				`{"claim":"d","equals":false}]}]}],"authority":"https://a.example.org/"}],"version":"1.0.0"}`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := mustParse(t, c.in)
			if diff := cmp.Diff(c.want, string(p.Canonical())); diff != "" {
				t.Errorf("canonical form (-want +got):\n%s", diff)
			}
			if again := mustParse(t, string(p.Canonical())); !bytes.Equal(again.Canonical(), p.Canonical()) {
				t.Errorf("parsed again: %s", again.Canonical())
			}
		})
	}
}

// The policies of the documentation and of tools of the real service.
func TestDocumentedPolicies(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/policies/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no policies", err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePolicy(ContentType, raw); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

func TestAuthorities(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `{"version":"1.0.0","anyOf":[
		{"authority":"https://b.example.org","allOf":[{"claim":"c","equals":1}]},
		{"authority":"https://a.example.org","allOf":[{"claim":"c","equals":2}]},
		{"authority":"https://B.example.org/","anyOf":[{"claim":"c","equals":3}]}]}`)
	want := []string{"https://b.example.org/", "https://a.example.org/"}
	if diff := cmp.Diff(want, p.Authorities()); diff != "" {
		t.Errorf("authorities (-want +got):\n%s", diff)
	}
}

func TestContentType(t *testing.T) {
	t.Parallel()
	policy := []byte(one(`{"claim":"c","equals":1}`))
	for _, good := range []string{"", ContentType, "application/json", "application/json;", `Application/JSON;charset="UTF-8"`} {
		if _, err := ParsePolicy(good, policy); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"text/plain", "application/json; charset=utf-16", "application/json; version=1.0", ";", "json",
		"application/json; charset=utf-8; x=y", "application/json; charset=utf-8; charset=utf-16", "application/*",
	} {
		_, err := ParsePolicy(bad, policy)
		wantKind(t, err, BadPolicy)
	}
}

func TestRefusedPolicies(t *testing.T) {
	t.Parallel()
	authority := func(address string) string {
		return `{"version":"1.0.0","anyOf":[{"authority":` + address + `,"allOf":[{"claim":"c","equals":1}]}]}`
	}
	for _, c := range []struct{ name, policy, want string }{
		{"nothing", ``, "not valid JSON"},
		{"a list", `[]`, "not a JSON object"},
		{"something behind", one(`{"claim":"c","equals":1}`) + `{}`, "something follows"},
		{"broken", `{"version":"1.0.0","anyOf":[}`, "not valid JSON near byte"},
		{"not UTF-8", one("{\"claim\":\"c\",\"equals\":\"\xff\"}"), "not UTF-8"},
		{"half a surrogate pair", one(`{"claim":"c","equals":"\ud800"}`), "a character that is none"},
		{"half a surrogate pair in a name", one(`{"claim":"\udc00","equals":1}`), "name of a claim"},
		{"duplicate member", `{"version":"1.0.0","version":"1.0.0","anyOf":[]}`, "'version' is given twice"},
		{"duplicate member inside", one(`{"claim":"c","equals":1,"equals":2}`), "'equals' is given twice"},
		{"no version", `{"anyOf":[]}`, "missing 'version' property"},
		{"version of the preview", `{"version":"1.0","anyOf":[]}`, `'version' must be "1.0.0"`},
		{"version as a number", `{"version":1,"anyOf":[]}`, `'version' must be "1.0.0"`},
		{"no authorities", `{"version":"1.0.0"}`, "'anyOf' must be a list that is not empty"},
		{"empty list of authorities", `{"version":"1.0.0","anyOf":[]}`, "'anyOf' must be a list that is not empty"},
		{"allOf of authorities", `{"version":"1.0.0","allOf":[]}`, "'allOf' has no meaning here"},
		{"authority that is none", `{"version":"1.0.0","anyOf":["https://a"]}`, "anyOf[0]: must be an object"},
		{"no authority", `{"version":"1.0.0","anyOf":[{"allOf":[{"claim":"c","equals":1}]}]}`, "missing 'authority'"},
		{"no conditions", `{"version":"1.0.0","anyOf":[{"authority":"https://a.example.org"}]}`, "anyOf[0]: 'anyOf' must be a list"},
		{"both", `{"version":"1.0.0","anyOf":[{"authority":"https://a.example.org","allOf":[],"anyOf":[]}]}`, "not allowed together"},
		{"empty allOf", one(``), "'allOf' must be a list that is not empty"},
		{"empty nested allOf", one(`{"allOf":[]}`), "anyOf[0].allOf[0]: 'allOf' must be a list that is not empty"},
		{"condition that is none", one(`true`), "anyOf[0].allOf[0]: must be an object"},
		{"empty condition", one(`{}`), "'anyOf' must be a list that is not empty"},
		{"claim and list", one(`{"claim":"c","equals":1,"anyOf":[]}`), "'anyOf' has no meaning here"},
		{"operator without claim", one(`{"equals":1}`), "'equals' has no meaning here"},
		{"no operator", one(`{"claim":"c"}`), "missing 'equals'"},
		{"greater", one(`{"claim":"x-ms-sgx-svn","greater":1}`), "the operator 'greater' is not supported"},
		{"exists", one(`{"claim":"c","exists":true}`), "the operator 'exists' is not supported"},
		{"notEquals beside equals", one(`{"claim":"c","equals":1,"notEquals":2}`), "the operator 'notEquals' is not supported"},
		{"syntax of the preview", one(`{"claim":"c","condition":"equals","value":"true"}`), "'condition' has no meaning here"},
		{"other case", one(`{"Claim":"c","Equals":1}`), "'Claim' has no meaning here"},
		{"null", one(`{"claim":"c","equals":null}`), "must be a string, a number, true or false"},
		{"object", one(`{"claim":"c","equals":{}}`), "must be a string, a number, true or false"},
		{"array", one(`{"claim":"c","equals":["a"]}`), "must be a string, a number, true or false"},
		{"huge exponent", one(`{"claim":"c","equals":1e99999999999}`), "beyond reason"},
		{"empty name", one(`{"claim":"","equals":1}`), "name of a claim"},
		{"empty step", one(`{"claim":"a..b","equals":1}`), "name of a claim"},
		{"into an array", one(`{"claim":"a[0]","equals":1}`), "arrays cannot be looked into"},
		{"name of another type", one(`{"claim":1,"equals":1}`), "name of a claim"},
		{"long name", one(`{"claim":"` + strings.Repeat("a", maxClaimName+1) + `","equals":1}`), "name of a claim"},
		{"http", authority(`"http://a.example.org/"`), "must be an https URL"},
		{"bare host", authority(`"my.attestation.com"`), "must be an https URL"},
		{"no host", authority(`"https:///path"`), "must be an https URL"},
		{"user", authority(`"https://user@a.example.org/"`), "without user"},
		{"query", authority(`"https://a.example.org/?x=y"`), "without user, query"},
		{"fragment", authority(`"https://a.example.org/#"`), "without user, query, fragment"},
		{"percent", authority(`"https://a.example.org/%2e%2e/"`), "percent"},
		{"dots", authority(`"https://a.example.org/../x"`), "plain path"},
		{"wildcard", authority(`"https://*.example.org/"`), "plain host"},
		{"authority of another type", authority(`1`), "missing 'authority'"},
		{"long authority", authority(`"https://a.example.org/` + strings.Repeat("a", maxURL) + `"`), "must be an https URL"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParsePolicy("", []byte(c.policy))
			refusal := wantKind(t, err, BadPolicy)
			if !strings.HasPrefix(refusal.Message, "Key Release Policy: ") || !strings.Contains(refusal.Message, c.want) {
				t.Errorf("got %q, want it to say %q", refusal.Message, c.want)
			}
			if len(refusal.Message) > 600 {
				t.Errorf("the message has %d bytes", len(refusal.Message))
			}
		})
	}
}

// separators is a policy with n line separators, of three bytes each as they come and of six as encoding/json writes them.
func separators(n int) string {
	return one(`{"claim":"c","equals":"` + strings.Repeat("\u2028", n) + `"}`)
}

func TestPolicyBombs(t *testing.T) {
	t.Parallel()
	condition := `{"claim":"c","equals":1}`
	nested := func(depth int) string {
		return one(strings.Repeat(`{"anyOf":[`, depth) + condition + strings.Repeat(`]}`, depth))
	}
	authorities := func(n int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`{"authority":"https://a%d.example.org","allOf":[%s]}`, i, condition))
		}
		return `{"version":"1.0.0","anyOf":[` + strings.Join(list, ",") + `]}`
	}
	conditions := func(n int) string { return one(strings.TrimSuffix(strings.Repeat(condition+",", n), ",")) }
	const deepest = (maxDepth - 5) / 2
	for _, good := range []string{nested(deepest), authorities(maxAuthorities), conditions(maxConditions), separators(MaxPolicy/6 - 100)} {
		if p := mustParse(t, good); mustParse(t, string(p.Canonical())) == nil {
			t.Error("not parsed again")
		}
	}
	for _, c := range []struct{ name, policy, want string }{
		{"deep", nested(deepest + 1), "nested deeper"},
		{"very deep", strings.Repeat("[", MaxPolicy), "nested deeper"},
		{"very deep objects", strings.Repeat(`{"a":`, MaxPolicy/5), "nested deeper"},
		{"many authorities", authorities(maxAuthorities + 1), "more than 256 authorities"},
		{"many conditions", conditions(maxConditions + 1), "more than 2048 conditions"},
		{"many values", `{"version":[` + strings.TrimSuffix(strings.Repeat("0,", maxValues), ",") + `]}`, "more than 8192 values"},
		{"long", one(condition) + strings.Repeat(" ", MaxPolicy), "longer than"},
		{"long when it is kept", separators(MaxPolicy / 4), "once it is written as it is kept"},
		{"a long number", one(`{"claim":"c","equals":1` + strings.Repeat("0", maxNumber) + `}`), "a number of more than 128 characters"},
	} {
		_, err := ParsePolicy("", []byte(c.policy))
		if refusal := wantKind(t, err, BadPolicy); !strings.Contains(refusal.Message, c.want) {
			t.Errorf("%s: got %q, want it to say %q", c.name, refusal.Message, c.want)
		}
	}
}
