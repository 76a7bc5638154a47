package release

import (
	"strings"
	"testing"
)

func TestCanonicalURL(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://a.example.org":           "https://a.example.org/",
		"https://a.example.org/":          "https://a.example.org/",
		"HTTPS://A.Example.ORG:443/":      "https://a.example.org/",
		"https://a.example.org:8443/Ab/c": "https://a.example.org:8443/Ab/c/",
		"https://127.0.0.1:8443":          "https://127.0.0.1:8443/",
		"https://[::1]:8443/":             "https://[::1]:8443/",
		"https://localhost":               "https://localhost/",
	} {
		got, err := canonicalURL(in)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v", in, got, err)
		}
		if again, err := canonicalURL(got); err != nil || again != got {
			t.Errorf("%s: a second time %q, %v", in, again, err)
		}
	}
	for _, bad := range []string{
		"", "a.example.org", "http://a.example.org", "ftp://a.example.org", "//a.example.org", "https:a.example.org", "https://",
		"https:///x", "https://u@a.example.org", "https://u:p@a.example.org", "https://a.example.org?", "https://a.example.org/?x",
		"https://a.example.org/#", "https://a.example.org/#x", "https://a.example.org/%41", "https://a%2eexample.org/",
		"https://a.example.org//", "https://a.example.org/./", "https://a.example.org/../", "https://a.example.org/..",
		"https://a.example.org/a b", "https://a.example.org/é", "https://é.example.org", "https://a..example.org",
		"https://.example.org", "https://a.example.org.", "https://a.example.org:", "https://a.example.org:0443",
		"https://a.example.org:x", "https://*.example.org", "https://a_b.example.org", "https://[fe80::1%25eth0]/",
		"https://a.example.org\\@b.example.org/", "https://a.example.org\n/", " https://a.example.org",
		"https://a.example.org/" + strings.Repeat("a", maxURL),
		"https://\u212Aey.example.org/", "https://a.example.org/\u212A", "http\u017F://a.example.org/", // signs that fold to k and s
		filled(maxURL),
	} {
		if got, err := canonicalURL(bad); err == nil {
			t.Errorf("%q is accepted as %q", bad, got)
		}
	}
}

// filled is an address of n bytes without a slash at the end.
func filled(n int) string {
	const host = "https://a.example.org/"
	return host + strings.Repeat("a", n-len(host))
}

func TestLongestURL(t *testing.T) {
	t.Parallel()
	for _, in := range []string{filled(maxURL - 1), filled(maxURL-1) + "/", strings.Replace(filled(maxURL-4), ".org/", ".org:443/", 1)} {
		got, err := canonicalURL(in)
		if err != nil {
			t.Errorf("%d bytes: %v", len(in), err)
			continue
		}
		if again, err := canonicalURL(got); err != nil || again != got {
			t.Errorf("%d bytes: a second time %q, %v", len(in), again, err)
		}
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		entry, authority string
		want             bool
	}{
		{"https://a.example.org", "https://a.example.org/", true},
		{"https://A.example.org:443/", "https://a.example.org/", true},
		{"https://a.example.org", "https://b.example.org/", false},
		{"https://a.example.org", "https://a.example.org:8443/", false},
		{"https://a.example.org/x", "https://a.example.org/x/", true},
		{"https://a.example.org/x", "https://a.example.org/", false},
		{"https://a.example.org", "https://a.example.org/x/", false},
		{"https://a.example.org", "https://a.example.org.evil.org/", false},
		{"https://*.attest.azure.net/", "https://sharedeus.eus.attest.azure.net/", true},
		{"https://*.attest.azure.net", "https://x.attest.azure.net/", true},
		{"https://*.attest.azure.net", "https://attest.azure.net/", false},
		{"https://*.attest.azure.net", "https://evilattest.azure.net/", false},
		{"https://*.attest.azure.net", "https://x.attest.azure.net.evil.org/", false},
		{"https://*.attest.azure.net", "https://x.attest.azure.net:8443/", false},
		{"https://*.attest.azure.net", "https://x.attest.azure.net/tenant/", false},
		{"https://*.attest.azure.net:8443", "https://x.attest.azure.net:8443/", true},
		{"https://*.attest.azure.net", "https://127.0.0.1/", false},
		{"https://*.0.1:1", "https://127.0.0.1:1/", false},
	} {
		p, err := parsePattern(c.entry)
		if err != nil {
			t.Errorf("%s: %v", c.entry, err)
			continue
		}
		if got := p.matches(c.authority); got != c.want {
			t.Errorf("%s matches %s: %v", c.entry, c.authority, got)
		}
	}
	for _, bad := range []string{
		"", "*", "https://*", "https://*.", "https://*.net", "https://*.attest.azure.net/x", "https://a.*.azure.net",
		"https://*a.azure.net", "http://*.attest.azure.net", "https://*.*.azure.net", "https://*.127.0.0.1", "attest.azure.net",
	} {
		if _, err := NewVerifier(Config{Authorities: []string{bad}}); err == nil || !strings.Contains(err.Error(), "authority '") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
}
