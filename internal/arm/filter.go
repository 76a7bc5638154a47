package arm

import (
	"strings"
)

// Bounds of a $filter. The longest that a client sends is one function of a name.
const (
	maxFilter  = 2 << 10
	maxClauses = 8
)

// A clause is one test of a $filter: "field eq 'value'", or "function(field, 'value')", of which field and value may be
// missing.
type clause struct {
	function string // "" for eq
	field    string
	value    string
}

// is tells whether the clause has that form; names are compared without case.
func (c clause) is(function, field string) bool {
	return equalFold(c.function, function) && equalFold(c.field, field)
}

// parseFilter reads the part of OData's filters that clients of this plane use: tests joined by and. A test is one of
//
//	field eq 'value'
//	function()    function('value')    function(field, 'value')
//	field/any(x:x eq 'value')          which is read as any(field, 'value')
//
// A quote in a value is written twice. An empty text is no filter.
func parseFilter(text string) ([]clause, error) {
	if len(text) > maxFilter {
		return nil, badFilter("it is longer than %d bytes.", maxFilter)
	}
	p := filterParser{rest: text}
	p.space()
	if p.rest == "" {
		return nil, nil
	}
	var clauses []clause
	for {
		c, ok := p.clause()
		if !ok {
			return nil, badFilter("it cannot be read near byte %d.", len(text)-len(p.rest))
		}
		if clauses = append(clauses, c); len(clauses) > maxClauses {
			return nil, badFilter("it has more than %d tests.", maxClauses)
		}
		spaced := p.space()
		if p.rest == "" {
			return clauses, nil
		}
		if !spaced || !p.word("and") || !p.space() {
			return nil, badFilter("tests can only be joined by 'and'.")
		}
	}
}

func badFilter(format string, args ...any) error {
	return &wireError{status: 400, code: "InvalidFilterInQueryString",
		message: "The query parameter $filter is not understood: " + sprintf(format, args...)}
}

type filterParser struct{ rest string }

func (p *filterParser) clause() (c clause, ok bool) {
	name := p.name()
	if name == "" {
		return c, false
	}
	if p.space() {
		return p.comparison(name)
	}
	if field, found := cutSuffixFold(name, "/any"); found {
		return p.any(field)
	}
	if !p.symbol('(') {
		return c, false
	}
	c.function = name
	if p.symbol(')') {
		return c, true
	}
	if field := p.name(); field != "" {
		c.field = field
		if !p.symbol(',') {
			return c, false
		}
	}
	c.value, ok = p.literal()
	return c, ok && p.symbol(')')
}

// comparison reads what follows "name ".
func (p *filterParser) comparison(name string) (c clause, ok bool) {
	if !p.word("eq") || !p.space() {
		return c, false
	}
	c.field = name
	c.value, ok = p.literal()
	return c, ok
}

// any reads what follows "field/any".
func (p *filterParser) any(field string) (c clause, ok bool) {
	if !p.symbol('(') {
		return c, false
	}
	variable := p.name()
	if variable == "" || strings.Contains(variable, "/") || !p.symbol(':') || p.name() != variable || !p.space() {
		return c, false
	}
	c, ok = p.comparison(field)
	c.function = "any"
	return c, ok && p.symbol(')')
}

// name reads letters and slashes.
func (p *filterParser) name() string {
	n := 0
	for n < len(p.rest) {
		if c := lower(p.rest[n]); c != '/' && (c < 'a' || c > 'z') {
			break
		}
		n++
	}
	name := p.rest[:n]
	p.rest = p.rest[n:]
	return name
}

func (p *filterParser) word(w string) bool { return equalFold(p.name(), w) }

// space skips spaces, and tells whether there were any.
func (p *filterParser) space() bool {
	before := len(p.rest)
	p.rest = strings.TrimLeft(p.rest, " ")
	return len(p.rest) < before
}

// symbol reads one character, with spaces around it.
func (p *filterParser) symbol(c byte) bool {
	p.space()
	if p.rest == "" || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	if c != ')' { // behind which a space separates
		p.space()
	}
	return true
}

// literal reads a text in quotes.
func (p *filterParser) literal() (string, bool) {
	if !strings.HasPrefix(p.rest, "'") {
		return "", false
	}
	var b strings.Builder
	for rest := p.rest[1:]; ; {
		end := strings.IndexByte(rest, '\'')
		if end < 0 {
			return "", false
		}
		b.WriteString(rest[:end])
		rest = rest[end+1:]
		if !strings.HasPrefix(rest, "'") {
			p.rest = rest
			return b.String(), true
		}
		b.WriteByte('\'')
		rest = rest[1:]
	}
}

func cutSuffixFold(s, suffix string) (string, bool) {
	if n := len(s) - len(suffix); n > 0 && equalFold(s[n:], suffix) {
		return s[:n], true
	}
	return s, false
}
