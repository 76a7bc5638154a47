package api

import (
	"net/url"
	"strings"
	"testing"
)

// FuzzMatch checks that no path panics, that a route is found only for a path whose segments are its own, and that it is
// the one that a search through the whole table finds.
func FuzzMatch(f *testing.F) {
	for _, p := range []string{
		"/secrets/n", "//secrets/n/", "/secrets/n/versions", "/secrets/%2e%2e/x", "/secrets//", "/%", "/deletedsecrets/n/recover",
		"/secrets/restore", "/SECRETS/a%2Fb", "", "/", "////////////////", "/secrets/a/b/c/d/e/f/g/h",
		"/keys/n//sign", "/keys/n/sign/", "/keys//sign", "/keys/restore/", "/keys/restore/create", "/keys/n/rotationpolicy",
		"/keys/n/v/wrapkey", "/rng", "/rng/", "/Keys/n/VERSIONS/", "/deletedkeys//recover",
	} {
		f.Add("GET", p)
		f.Add("POST", p)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		rt, p, err := match(method, path)
		if want := search(method, path); rt != want {
			t.Fatalf("%s %q went to %v, should go to %v", method, path, rt, want)
		}
		if err != nil {
			return
		}
		if rt.Method != method {
			t.Fatalf("%s %q went to %s %s", method, path, rt.Method, rt.Pattern)
		}
		if strings.Contains(rt.Pattern, "{version}") != (strings.Count(rt.Pattern, "{") == 2) {
			t.Fatal("the table has an unexpected pattern")
		}
		if !strings.Contains(rt.Pattern, "{name}") && p.name != "" {
			t.Fatalf("%s %q has a name without a place for it", method, path)
		}
	})
}

// search finds a route by looking at all of them: the first of those with the fewest variable segments.
func search(method, path string) (best *route) {
	segments := strings.Split(strings.TrimLeft(path, "/"), "/")
	for i, s := range segments {
		var err error
		if segments[i], err = url.PathUnescape(s); err != nil {
			return nil
		}
	}
	for i := range table {
		rt := &table[i]
		if _, ok := rt.matches(segments); ok && rt.Method == method && (best == nil || rt.variables < best.variables) {
			best = rt
		}
	}
	return best
}

func FuzzHost(f *testing.F) {
	for _, h := range []string{"v.vault.localhost:8443", "V.VAULT.LOCALHOST", "vault.localhost", ".vault.localhost", "a.b.vault.localhost", "v.vault.localhost:", "v.vault.localhost:0", "v.vault.localhost:99999", "[::1]:8443", ""} {
		f.Add(h)
	}
	suffixes := []string{"vault.localhost"}
	f.Fuzz(func(t *testing.T, host string) {
		vault, suffix, _, ok := splitHost(host, suffixes)
		if !ok {
			return
		}
		if vault == "" || strings.Contains(vault, ".") || vault != strings.ToLower(vault) || suffix != suffixes[0] {
			t.Fatalf("%q gave the vault %q under %q", host, vault, suffix)
		}
	})
}
