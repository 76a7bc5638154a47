package authz

import (
	"bytes"
	"strings"
)

// Bounds of an action and of its pattern. The longest action that Azure lists has about 200 characters. The number of
// wildcards bounds what a comparison costs.
const (
	maxAction    = 256
	maxWildcards = 8
)

// A pattern is an action, or several by way of wildcards, in lower case. A * stands for any characters, slashes too.
type pattern struct {
	text    []byte
	literal int // how many characters come before the first wildcard
}

// parsePattern reads an entry of a role: "Microsoft.KeyVault/vaults/*/read", "*/read", "*".
func parsePattern(s string) (pattern, error) {
	switch {
	case s == "" || len(s) > maxAction:
		return pattern{}, invalid("action", "it must have 1 to %d characters", maxAction)
	case !onlyHas(s, "*"+actionMarks):
		return pattern{}, invalid("action", "%s has characters that no action has", quoted(s))
	case strings.Contains("/"+s+"/", "//"):
		return pattern{}, invalid("action", "%s has an empty part", quoted(s))
	case strings.Contains(s, "**") || strings.Count(s, "*") > maxWildcards:
		return pattern{}, invalid("action", "%s has too many wildcards; %d are possible, and one suffices for any text",
			quoted(s), maxWildcards)
	case s != "*" && !strings.Contains(s, "/"):
		return pattern{}, invalid("action", "%s is not of the form Provider/type/verb", quoted(s))
	}
	literal := strings.IndexByte(s, '*')
	if literal < 0 {
		literal = len(s)
	}
	return pattern{text: []byte(strings.ToLower(s)), literal: literal}, nil
}

const actionMarks = "/._-"

// An action is one that is asked for, in lower case. It keeps its bytes in itself, so that it costs no memory.
type action struct {
	buf [maxAction]byte
	n   int
}

// parseAction reads what can be asked for: one action, without wildcards.
func parseAction(s string) (a action, ok bool) {
	if s == "" || len(s) > maxAction || !onlyHas(s, actionMarks) {
		return action{}, false
	}
	for i := range len(s) {
		a.buf[i] = lower(s[i])
	}
	a.n = len(s)
	return a, true
}

// matches compares in steps of at most the product of both lengths. Most patterns differ before their first wildcard.
func (p *pattern) matches(a *action) bool {
	text := a.buf[:a.n]
	if !bytes.HasPrefix(text, p.text[:p.literal]) {
		return false
	}
	i, j := p.literal, p.literal // in the pattern, in the action
	star, resume := -1, 0        // the last wildcard that was seen, and up to where it stands for the action
	for j < len(text) {
		switch {
		case i < len(p.text) && p.text[i] == '*':
			star, resume = i, j
			i++
		case i < len(p.text) && p.text[i] == text[j]:
			i++
			j++
		case star >= 0:
			resume++
			i, j = star+1, resume
		default:
			return false
		}
	}
	return i == len(p.text) || i == len(p.text)-1 && p.text[i] == '*'
}

// anyMatches tells whether one of the patterns does.
func anyMatches(list []pattern, a *action) bool {
	for i := range list {
		if list[i].matches(a) {
			return true
		}
	}
	return false
}
