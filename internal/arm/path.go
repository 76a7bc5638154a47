package arm

import (
	"net/url"
	"strings"
)

// Bounds of a path. The longest that means something has some 700 bytes and 16 segments: an assignment of a role on an object.
const (
	maxPath     = 4 << 10
	maxSegments = 24
)

// split returns the segments of a raw path, each decoded once. Several slashes in front count as one, and one at the end
// as none.
//
// What is behind a segment must be plain to whoever decides about it and to whoever reads the record. So a segment that is
// empty or consists of dots, one that holds a slash, a backslash or an escape after decoding, and letters outside of ASCII,
// some of which look like others, are refused before any route is looked for.
func split(escaped string) ([]string, error) {
	if len(escaped) > maxPath {
		return nil, badRequest("The path of the request is longer than %d bytes.", maxPath)
	}
	path := strings.TrimLeft(escaped, "/")
	path = strings.TrimSuffix(path, "/")
	if path == "" {
		return nil, nil
	}
	segments := strings.Split(path, "/")
	if len(segments) > maxSegments {
		return nil, badRequest("The path of the request has more than %d segments.", maxSegments)
	}
	for i, raw := range segments {
		s, err := url.PathUnescape(raw)
		if err != nil {
			return nil, badRequest("The path of the request is not encoded correctly.")
		}
		if !plain(s) {
			return nil, badRequest("The path of the request has a segment that names nothing: %q.", clip(raw))
		}
		segments[i] = s
	}
	return segments, nil
}

// plain tells whether a segment can be taken for one thing only.
func plain(s string) bool {
	if strings.Trim(s, ".") == "" {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || strings.IndexByte(`/\%?#`, c) >= 0 {
			return false
		}
	}
	return s[0] != ' ' && s[len(s)-1] != ' '
}

// clip shortens what somebody sent, for a message.
func clip(s string) string {
	const most = 64
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// equalFold compares without regard to case, as Resource Manager does, but only within ASCII: the Kelvin sign is no k.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// asciiLower lowers the letters of ASCII.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		b[i] = lower(c)
	}
	return string(b)
}
