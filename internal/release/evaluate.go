package release

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Evaluate returns nil if the policy allows a release to a target about which authority makes these claims, whose numbers
// are of type json.Number. Otherwise it returns an error of kind NotMet, which does not tell the claims.
//
// A claim's name is always a path: its dots lead from object to object, so a member whose own name has a dot cannot be
// addressed, and no claim can be found in two ways. What is missing, null, an object or an array equals nothing.
//
// Values are equal if they are of the same type and value; numbers are compared by value, whatever their spelling.
// Moreover a policy's string equals a boolean or a number that is spelled like it, because that is how policies are
// written and how the real service compares: its own examples have "false" for a boolean claim. The reverse does not
// hold: a policy's boolean or number equals no string.
func (p *Policy) Evaluate(authority string, claims map[string]any) error {
	authority, err := canonicalURL(authority)
	for _, r := range p.rules {
		if err == nil && r.Authority == authority && met(r.AllOf, r.AnyOf, claims) {
			return nil
		}
	}
	return errorf(NotMet, "Target environment attestation does not meet key release policy requirements.")
}

// met evaluates the one of the lists that is not empty.
func met(every, some []condition, claims map[string]any) bool {
	for _, c := range every {
		if !c.holds(claims) {
			return false
		}
	}
	for _, c := range some {
		if c.holds(claims) {
			return true
		}
	}
	return len(every) > 0
}

func (c *condition) holds(claims map[string]any) bool {
	if c.Claim == "" {
		return met(c.AllOf, c.AnyOf, claims)
	}
	value, found := lookUp(claims, c.Claim)
	return found && equal(c.Equals, value)
}

func lookUp(claims map[string]any, path string) (any, bool) {
	name, rest, nested := strings.Cut(path, ".")
	value, found := claims[name]
	if !nested || !found {
		return value, found
	}
	inner, ok := value.(map[string]any)
	if !ok {
		return nil, false
	}
	return lookUp(inner, rest)
}

func equal(want, claim any) bool {
	switch want := want.(type) {
	case bool:
		got, ok := claim.(bool)
		return ok && got == want
	case json.Number:
		got, ok := claim.(json.Number)
		return ok && sameNumber(want.String(), got.String())
	case string:
		switch got := claim.(type) {
		case string:
			return got == want
		case bool:
			return strconv.FormatBool(got) == want
		case json.Number:
			return sameNumber(want, got.String())
		}
	}
	return false
}

func sameNumber(a, b string) bool {
	x, ok := parseDecimal(a)
	y, ok2 := parseDecimal(b)
	return ok && ok2 && x == y
}

// A decimal is the value of a JSON number, exactly: digits × 10^exponent. Digits neither begin nor end with a zero, so
// that equal numbers are equal decimals; those of zero are empty. (A big.Rat of 1e999999999 would fill the memory.)
type decimal struct {
	negative bool
	digits   string
	exponent int64
}

// parseDecimal reads a number as RFC 8259 section 6 spells it. It refuses exponents of more than nine digits.
func parseDecimal(s string) (d decimal, ok bool) {
	s, d.negative = strings.CutPrefix(s, "-")
	mantissa, exponent := s, ""
	if i := strings.IndexAny(s, "eE"); i >= 0 {
		mantissa, exponent = s[:i], s[i+1:]
		digits, negative := strings.CutPrefix(exponent, "-")
		if !negative {
			digits = strings.TrimPrefix(exponent, "+")
		}
		n, err := strconv.ParseInt(digits, 10, 64)
		if !isDigits(digits) || len(digits) > 9 || err != nil {
			return d, false
		}
		if d.exponent = n; negative {
			d.exponent = -n
		}
	}
	whole, fraction, hasFraction := strings.Cut(mantissa, ".")
	if !isDigits(whole) || len(whole) > 1 && whole[0] == '0' || hasFraction && !isDigits(fraction) {
		return decimal{}, false
	}
	digits := strings.TrimLeft(whole+fraction, "0")
	d.exponent -= int64(len(fraction))
	d.digits = strings.TrimRight(digits, "0")
	d.exponent += int64(len(digits) - len(d.digits))
	if d.digits == "" {
		return decimal{}, true
	}
	return d, true
}

func isDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}
