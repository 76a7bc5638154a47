package authz

import (
	"regexp"
	"strings"
	"testing"
)

func TestMatches(t *testing.T) {
	t.Parallel()
	const get = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
	for _, c := range []struct {
		pattern, action string
		matches         bool
	}{
		{"*", get, true},
		{"*/action", get, true},
		{"*/read", get, false},
		{get, get, true},
		{strings.ToUpper(get), get, true},
		{get, strings.ToUpper(get), true},
		{"Microsoft.KeyVault/*", get, true},
		{"Microsoft.KeyVault/vaults/secrets/*", get, true},
		{"Microsoft.KeyVault/vaults/*/action", get, true},
		{"Microsoft.KeyVault/*/getSecret/action", get, true},
		{"Microsoft.KeyVault/vaults/*/*/action", get, true},
		{"Microsoft.KeyVault/vaults/secrets/get*/action", get, true},
		{"*KeyVault*Secret*", "Microsoft.KeyVault/vaults/secrets/setSecret/action", false}, // no slash: refused
		{"*/KeyVault*Secret*", get, false},
		{"Microsoft.KeyVault/vaults/secrets", get, false},
		{"Microsoft.KeyVault/vaults/secrets/getSecret/action/*", get, false},
		{"Microsoft.KeyVault/vaults/secrets/getSecret/actio", get, false},
		{"icrosoft.KeyVault/*", get, false},
		{"Microsoft.KeyVault/vaults/*/read", "Microsoft.KeyVault/vaults/read", false}, // two slashes at least
		{"*/write", "Microsoft.KeyVault/vaults/read/write", true},
		{"*/ab*/abc", "x/abab/abc", true},
		{"*/a*/b", "x/a/b/c", false},
	} {
		p, err := parsePattern(c.pattern)
		a, ok := parseAction(c.action)
		if got := err == nil && ok && p.matches(&a); got != c.matches {
			t.Errorf("%s matches %s: %v (%v)", c.pattern, c.action, got, err)
		}
	}
}

func TestParsePattern(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{
		"", "/", "a", "read", "**", "a/**", "a//b", "/a/b", "a/b/", "a/b c", "a/\u212a", "a/%2a", "a/b?", "a/b\x00", "a/{b}",
		"a/" + strings.Repeat("b", maxAction), "*/" + strings.Repeat("a*", maxWildcards),
	} {
		if p, err := parsePattern(bad); err == nil || !isInvalid(err) {
			t.Errorf("%q was read as %q, %v", bad, p.text, err)
		}
	}
}

// TestActionsAreSingle: a wildcard in a question is no way to ask for everything.
func TestActionsAreSingle(t *testing.T) {
	t.Parallel()
	r := compile(t, nil, give(RoleOwner, principal, "/"), give(RoleVaultAdministrator, principal, "/"))
	s := Subject{TenantID: tenant, ObjectID: principal}
	for _, action := range []string{
		"", "*", "Microsoft.KeyVault/*", "Microsoft.KeyVault/vaults/\u212aeys/read", "a/" + strings.Repeat("b", maxAction), "a b",
	} {
		for _, plane := range []Plane{Control, Data, planes, 200} {
			if r.Allowed(s, plane, action, Root).Allowed {
				t.Errorf("%q is allowed", action)
			}
		}
	}
	if r.Allowed(s, planes, "Microsoft.KeyVault/vaults/read", Root).Allowed {
		t.Error("a plane that there is not is allowed")
	}
}

// matchesRegexp is the oracle of pattern.matches.
func matchesRegexp(pattern, action string) bool {
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(strings.ToLower(parts[i]))
	}
	return regexp.MustCompile("(?s)^" + strings.Join(parts, ".*") + "$").MatchString(strings.ToLower(action))
}

func FuzzMatches(f *testing.F) {
	f.Add("*", "a/b")
	f.Add("Microsoft.KeyVault/vaults/*/read", "microsoft.keyvault/vaults/keys/read")
	f.Add("*/a*/b", "x/a/b/c")
	f.Add("*/ab*ab", "x/abab")
	f.Add("a/*", "a/")
	f.Add("*/\u212a", "a/k")
	f.Fuzz(func(t *testing.T, text, name string) {
		p, err := parsePattern(text)
		a, ok := parseAction(name)
		if err != nil || !ok {
			return
		}
		if got, want := p.matches(&a), matchesRegexp(text, name); got != want {
			t.Fatalf("%q matches %q: %v", text, name, got)
		}
		for _, part := range []string{"", "x/y"} {
			if a, ok := parseAction(strings.ReplaceAll(text, "*", part)); ok && !p.matches(&a) {
				t.Fatalf("%q does not match itself with %q", text, part)
			}
		}
	})
}

func TestMatchesAsRegexp(t *testing.T) {
	t.Parallel()
	w := newWorld(3)
	hits := 0
	for range 5000 {
		text, name := w.pattern(), w.spelling(w.action())
		p, err := parsePattern(text)
		a, ok := parseAction(name)
		if err != nil || !ok {
			t.Fatal(text, name, err)
		}
		want := matchesRegexp(text, name)
		if p.matches(&a) != want {
			t.Fatalf("%q matches %q: %v", text, name, !want)
		}
		if want {
			hits++
		}
	}
	if hits < 250 {
		t.Fatalf("only %d matches", hits)
	}
}
