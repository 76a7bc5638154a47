package release

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

const maxURL = 512 // bytes, in the canonical form too

// canonicalURL returns the one spelling of an authority's address: https, the host in lower case, no default port, a
// slash at the end. Its errors continue "'authority' ...".
func canonicalURL(s string) (string, error) {
	u, err := parseAuthority(s)
	if err != nil {
		return "", err
	}
	return "https://" + u.Host + u.Path, nil
}

// parseAuthority accepts plain addresses only: whatever a URL may have beyond host, port and path could make two readers
// disagree about who is meant.
func parseAuthority(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	if err != nil || len(s) > maxURL || !isASCII(s) || !strings.EqualFold(u.Scheme, "https") || u.Host == "" || u.Opaque != "" {
		return nil, errors.New("must be an https URL such as https://attest.example.org/")
	}
	if u.User != nil || strings.ContainsAny(s, "?#%") {
		return nil, errors.New("must be a URL without user, query, fragment and percent signs")
	}
	if u.Host = strings.ToLower(u.Host); !validHost(u) {
		return nil, errors.New("must be a URL with a plain host name")
	}
	if u.Port() == "443" {
		u.Host = strings.TrimSuffix(u.Host, ":443")
	}
	if !strings.HasSuffix(u.Path, "/") {
		u.Path += "/"
	}
	if !validPath(u.Path) {
		return nil, errors.New("must be a URL with a plain path")
	}
	if len("https://"+u.Host+u.Path) > maxURL { // its own canonical form must be accepted, too
		return nil, fmt.Errorf("must be a URL of at most %d characters", maxURL)
	}
	return u, nil
}

// isASCII: beyond it, what looks like two names can become one when capitals are folded.
func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r > unicode.MaxASCII })
}

func validHost(u *url.URL) bool {
	host := u.Hostname()
	if strings.HasSuffix(u.Host, ":") || u.Port() != "" && strings.HasPrefix(u.Port(), "0") {
		return false
	}
	if net.ParseIP(host) != nil {
		return true
	}
	return strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" &&
		!slices.Contains(strings.Split(host, "."), "")
}

func validPath(path string) bool {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~/"
	if strings.Trim(path, plain) != "" || path[0] != '/' {
		return false
	}
	segments := strings.Split(path[1:], "/")
	segments = segments[:len(segments)-1] // behind the last slash
	return !slices.ContainsFunc(segments, func(s string) bool { return s == "" || s == "." || s == ".." })
}

// A pattern is an entry of the list of authorities: an address, or all hosts below a domain.
type pattern struct {
	url    string // if it is an address
	suffix string // if not: the end of the host, from the dot on
	port   string // of a suffix
}

func parsePattern(s string) (p pattern, err error) {
	const wildcard = "https://*."
	rest, isWildcard := strings.CutPrefix(s, wildcard)
	if !isWildcard {
		p.url, err = canonicalURL(s)
		if err != nil {
			return p, fmt.Errorf("release: authority '%s' %w", echo(s), err)
		}
		return p, nil
	}
	u, err := parseAuthority("https://" + rest)
	if err != nil {
		return p, fmt.Errorf("release: authority '%s' %w", echo(s), err)
	}
	host := u.Hostname()
	if u.Path != "/" || net.ParseIP(host) != nil || !strings.Contains(host, ".") {
		return p, fmt.Errorf("release: authority '%s' must be of the form https://*.attest.example.org/", echo(s))
	}
	return pattern{suffix: "." + host, port: u.Port()}, nil
}

// matches compares with an address in the form of canonicalURL.
func (p pattern) matches(authority string) bool {
	if p.url != "" {
		return p.url == authority
	}
	u, err := url.Parse(authority)
	return err == nil && u.Path == "/" && u.Port() == p.port && strings.HasSuffix(u.Hostname(), p.suffix) &&
		net.ParseIP(u.Hostname()) == nil
}
