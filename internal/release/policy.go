package release

import (
	"bytes"
	"encoding/json"
	"fmt"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"
)

// Bounds of a policy. Azure's default policy for confidential VMs is a file of 23 KiB with some 45
// authorities.
const (
	MaxPolicy      = 64 << 10 // bytes of its JSON
	maxAuthorities = 256
	maxConditions  = 2048
	maxClaimName   = 512
	policyVersion  = "1.0.0"
)

// ContentType is that of every policy, whatever spelling of it a client sent.
const ContentType = "application/json; charset=utf-8"

// A Policy says what an attestation authority must claim about a target before the key is released to it: the grammar of
// Azure Key Vault's secure key release, version 1.0.0. It does not change.
type Policy struct {
	rules []rule
}

// The JSON of a policy. The members stand in the order of their names, as a managed HSM returns them.

type document struct {
	AnyOf   []rule `json:"anyOf"`
	Version string `json:"version"`
}

// A rule is one authority and what it must claim: AllOf or AnyOf.
type rule struct {
	AllOf     []condition `json:"allOf,omitempty"`
	AnyOf     []condition `json:"anyOf,omitempty"`
	Authority string      `json:"authority"` // as canonicalURL returns it
}

// A condition is a comparison, AllOf or AnyOf.
type condition struct {
	AllOf  []condition `json:"allOf,omitempty"`
	AnyOf  []condition `json:"anyOf,omitempty"`
	Claim  string      `json:"claim,omitempty"`
	Equals any         `json:"equals,omitempty"` // string, bool or json.Number
}

// ParsePolicy reads a policy. An empty content type is the one that there is. What is not understood is refused, since a
// policy that cannot be evaluated protects nothing.
func ParsePolicy(contentType string, data []byte) (*Policy, error) {
	if err := checkContentType(contentType); err != nil {
		return nil, err
	}
	if len(data) > MaxPolicy {
		return nil, policyError("", "longer than the %d bytes that are allowed", MaxPolicy)
	}
	m, err := decodeObject(data)
	if err != nil {
		return nil, policyError("", "%v", err)
	}
	var p policyParser
	rules, err := p.document(m)
	if err != nil {
		return nil, err
	}
	policy := &Policy{rules: rules}
	if len(policy.Canonical()) > MaxPolicy { // a line separator, for one, takes more bytes there
		return nil, policyError("", "longer than the %d bytes that are allowed, once it is written as it is kept", MaxPolicy)
	}
	return policy, nil
}

func checkContentType(s string) error {
	if s == "" {
		return nil
	}
	kind, params, err := mime.ParseMediaType(s)
	charset, hasCharset := params["charset"]
	if err != nil || kind != "application/json" || hasCharset && !strings.EqualFold(charset, "utf-8") ||
		len(params) > 1 || len(params) == 1 && !hasCharset {
		return policyError("", "the content type must be '%s'", ContentType)
	}
	return nil
}

// Authorities returns the addresses of the policy's authorities, each once.
func (p *Policy) Authorities() []string {
	var list []string
	for _, r := range p.rules {
		if !slices.Contains(list, r.Authority) {
			list = append(list, r.Authority)
		}
	}
	return list
}

// Canonical returns the policy as it is shown and kept: sorted members, no white space, authorities with a slash at the
// end. Parsing it gives the same policy.
func (p *Policy) Canonical() []byte {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // as the real service
	if err := enc.Encode(document{AnyOf: p.rules, Version: policyVersion}); err != nil {
		panic("release: a parsed policy does not encode: " + err.Error()) // it is made of strings, bools and JSON numbers
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// policyError says what is wrong and where, in the form of the real service.
func policyError(path, format string, args ...any) *Error {
	message := fmt.Sprintf(format, args...)
	if path != "" {
		message = path + ": " + message
	}
	return errorf(BadPolicy, "Key Release Policy: %s", message)
}

// A policyParser counts what it has met.
type policyParser struct {
	rules, conditions int
}

func (p *policyParser) document(m map[string]any) ([]rule, error) {
	if err := onlyMembers(m, "", "version", "anyOf"); err != nil {
		return nil, err
	}
	version, found := m["version"]
	if !found {
		return nil, policyError("", "missing 'version' property") // the words of the real service
	}
	if version != policyVersion {
		return nil, policyError("", "'version' must be \"%s\"", policyVersion)
	}
	list, err := items(m, "anyOf", "")
	if err != nil {
		return nil, err
	}
	rules := make([]rule, 0, len(list))
	for i, item := range list {
		r, err := p.rule(item, fmt.Sprintf("anyOf[%d]", i))
		if err != nil {
			return nil, err
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func (p *policyParser) rule(v any, path string) (r rule, err error) {
	if p.rules++; p.rules > maxAuthorities {
		return r, policyError("", "more than %d authorities", maxAuthorities)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return r, policyError(path, "must be an object with 'authority' and 'allOf' or 'anyOf'")
	}
	if err := onlyMembers(m, path, "authority", "allOf", "anyOf"); err != nil {
		return r, err
	}
	address, ok := m["authority"].(string)
	if !ok {
		return r, policyError(path, "missing 'authority', the https URL of an attestation service")
	}
	if r.Authority, err = canonicalURL(address); err != nil {
		return r, policyError(path, "'authority' %v", err)
	}
	r.AllOf, r.AnyOf, err = p.lists(m, path)
	return r, err
}

// lists reads the one of allOf and anyOf that there must be.
func (p *policyParser) lists(m map[string]any, path string) (every, some []condition, err error) {
	_, hasAll := m["allOf"]
	_, hasAny := m["anyOf"]
	switch {
	case hasAll && hasAny:
		return nil, nil, policyError(path, "'allOf' and 'anyOf' are not allowed together; nest one in the other")
	case hasAll:
		every, err = p.list(m, "allOf", path)
	default:
		some, err = p.list(m, "anyOf", path)
	}
	return every, some, err
}

func (p *policyParser) list(m map[string]any, name, path string) ([]condition, error) {
	list, err := items(m, name, path)
	if err != nil {
		return nil, err
	}
	conditions := make([]condition, 0, len(list))
	for i, item := range list {
		c, err := p.condition(item, fmt.Sprintf("%s.%s[%d]", path, name, i))
		if err != nil {
			return nil, err
		}
		conditions = append(conditions, c)
	}
	return conditions, nil
}

func (p *policyParser) condition(v any, path string) (c condition, err error) {
	if p.conditions++; p.conditions > maxConditions {
		return c, policyError("", "more than %d conditions", maxConditions)
	}
	m, ok := v.(map[string]any)
	if !ok {
		return c, policyError(path, "must be an object with 'claim' and 'equals', 'allOf' or 'anyOf'")
	}
	if _, isClaim := m["claim"]; isClaim {
		return comparison(m, path)
	}
	if err := onlyMembers(m, path, "allOf", "anyOf"); err != nil {
		return c, err
	}
	c.AllOf, c.AnyOf, err = p.lists(m, path)
	return c, err
}

func comparison(m map[string]any, path string) (c condition, err error) {
	if err := onlyMembers(m, path, "claim", "equals"); err != nil {
		return c, err
	}
	name, ok := m["claim"].(string)
	if !ok || !validClaimName(name) {
		return c, policyError(path, "'claim' must be the name of a claim, with dots between the names of nested objects; "+
			"arrays cannot be looked into")
	}
	value, found := m["equals"]
	if !found {
		return c, policyError(path, "missing 'equals'")
	}
	switch v := value.(type) {
	case bool:
	case string:
		if strings.ContainsRune(v, utf8.RuneError) {
			return c, policyError(path, "'equals' has a character that is none")
		}
	case json.Number:
		if _, ok := parseDecimal(v.String()); !ok {
			return c, policyError(path, "'equals' is a number beyond reason")
		}
	default:
		return c, policyError(path, "'equals' must be a string, a number, true or false")
	}
	return condition{Claim: name, Equals: value}, nil
}

// validClaimName refuses names that could never be found, or that promise more than they do: brackets look like a way
// into an array.
func validClaimName(name string) bool {
	if len(name) > maxClaimName || strings.ContainsAny(name, "[]") || strings.ContainsRune(name, utf8.RuneError) {
		return false
	}
	return !slices.Contains(strings.Split(name, "."), "")
}

// items returns a list that must not be empty: one of nothing would hold for everybody, or for nobody.
func items(m map[string]any, name, path string) ([]any, error) {
	list, ok := m[name].([]any)
	if !ok || len(list) == 0 {
		return nil, policyError(path, "'%s' must be a list that is not empty", name)
	}
	return list, nil
}

func onlyMembers(m map[string]any, path string, names ...string) error {
	operators := []string{"notEquals", "less", "lessOrEquals", "greater", "greaterOrEquals", "exists"}
	var unknown []string
	for name := range m {
		if slices.Contains(names, name) {
			continue
		}
		unknown = append(unknown, name)
	}
	if len(unknown) == 0 {
		return nil
	}
	name := slices.Min(unknown) // the same message each time
	if slices.Contains(operators, name) {
		return policyError(path, "the operator '%s' is not supported; the only one is 'equals'", name)
	}
	return policyError(path, "'%s' has no meaning here; known are '%s'", echo(name), strings.Join(names, "', '"))
}
