package identity

import (
	"slices"
	"strings"
)

// Audiences is the set of resources for which an issuer's tokens are accepted here. It does not change once made.
type Audiences struct {
	hosts    []string
	literals []string
}

// NewAudiences makes a set of resource hosts (such as vault.example.org: https, any port, with or without a trailing
// slash) and of literal audiences, compared exactly. Hosts are compared in lower case.
func NewAudiences(hosts, literals []string) *Audiences {
	a := &Audiences{literals: slices.Clone(literals)}
	for _, h := range hosts {
		a.hosts = append(a.hosts, strings.ToLower(h))
	}
	return a
}

// Contains reports whether aud names a resource of the set.
func (a *Audiences) Contains(aud string) bool {
	if a == nil {
		return false
	}
	if slices.Contains(a.literals, aud) {
		return true
	}
	host, ok := resourceHost(aud)
	return ok && slices.ContainsFunc(a.hosts, func(h string) bool { return strings.EqualFold(h, host) })
}

// expected is what a refusal names as the audience that would have been right.
func (a *Audiences) expected() string {
	switch {
	case a == nil:
		return "no audience"
	case len(a.hosts) > 0:
		return "https://" + a.hosts[0]
	case len(a.literals) > 0:
		return a.literals[0]
	}
	return "no audience"
}

// resourceHost takes https://host[:port][/] apart by hand: url.Parse would also let through user names, queries and
// escapes, none of which an audience may have.
func resourceHost(aud string) (host string, ok bool) {
	rest, ok := strings.CutPrefix(aud, "https://")
	if !ok {
		return "", false
	}
	return SplitHostPort(strings.TrimSuffix(rest, "/"))
}

// SplitHostPort returns the host of an authority that is a DNS name with an optional decimal port, and whether it is
// well formed.
func SplitHostPort(authority string) (host string, ok bool) {
	host, port, hasPort := strings.Cut(authority, ":")
	if hasPort && !validPort(port) {
		return "", false
	}
	return host, validHost(host)
}

func validPort(p string) bool {
	if len(p) == 0 || len(p) > 5 || p[0] == '0' {
		return false
	}
	n := 0
	for _, c := range []byte(p) {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

func validHost(h string) bool {
	if h == "" || len(h) > 253 {
		return false
	}
	for _, c := range []byte(h) {
		ok := c == '.' || c == '-' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !ok {
			return false
		}
	}
	return true
}
