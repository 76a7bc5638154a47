package authz

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// ConditionVersion is that of the conditions that ParseCondition reads, the only one that Azure has.
const ConditionVersion = "2.0"

// Bounds of a condition. The length is Azure's.
const (
	maxCondition = 8 << 10
	maxClauses   = 8
	maxTests     = 8
)

// A Condition limits which role assignments may be made and removed by way of the assignment or the role that it belongs
// to. It limits nothing else: conditions about data do not exist here.
type Condition struct {
	clauses []clause // all of which must hold
}

// A clause limits one action: for all others it holds.
type clause struct {
	action string
	tests  []test // all of which must hold
}

// A test compares an attribute of the role assignment that is to be made or removed.
type test struct {
	attribute string
	except    bool            // the attribute must be none of those below, instead of one
	ids       []uuid.UUID     // for roleAttribute and principalAttribute
	types     []PrincipalType // for typeAttribute
}

// What a test can look at, under Azure's names.
const (
	roleAttribute      = "RoleDefinitionId"
	principalAttribute = "PrincipalId"
	typeAttribute      = "PrincipalType"
)

// A change is a role assignment that is to be made or removed, as conditions see it.
type change struct {
	role          uuid.UUID
	principal     uuid.UUID
	principalType PrincipalType
	handsOnAccess bool // its holder could hand on rights in turn; only for one that is to be made
}

// mayUse tells whether the conditions of an assignment and of its role let it be used for what is asked. Of a role that
// can hand on rights a limited caller may dispose only if a condition names that role. Without this rule, "all roles except
// Owner" would be no limit where somebody has written a custom role that is as good as Owner.
func mayUse(q *query, conditions ...*Condition) bool {
	limited, named := false, false
	for _, c := range conditions {
		if q.plane != Control || !c.limits(q.name) {
			continue
		}
		if q.change == nil || !c.holds(q.name, q.change) {
			return false
		}
		limited, named = true, named || c.names(q.name)
	}
	return !limited || named || !q.change.handsOnAccess
}

// limits tells whether the condition says anything about the action.
func (c *Condition) limits(action string) bool {
	return c != nil && slices.ContainsFunc(c.clauses, func(cl clause) bool { return equalFold(cl.action, action) })
}

// holds tells whether the action may be performed to make or remove the assignment.
func (c *Condition) holds(action string, ch *change) bool {
	for _, cl := range c.clauses {
		if equalFold(cl.action, action) && !cl.holds(ch) {
			return false
		}
	}
	return true
}

// names tells whether the condition lists the roles that may be assigned, rather than those that may not.
func (c *Condition) names(action string) bool {
	return slices.ContainsFunc(c.clauses, func(cl clause) bool {
		return equalFold(cl.action, action) && slices.ContainsFunc(cl.tests, func(t test) bool {
			return t.attribute == roleAttribute && !t.except
		})
	})
}

func (cl *clause) holds(ch *change) bool {
	return !slices.ContainsFunc(cl.tests, func(t test) bool { return !t.holds(ch) })
}

func (t *test) holds(ch *change) bool {
	switch t.attribute {
	case roleAttribute:
		return slices.Contains(t.ids, ch.role) != t.except
	case principalAttribute:
		return slices.Contains(t.ids, ch.principal) != t.except
	case typeAttribute: // what does not say what it is, is none of them
		return slices.Contains(t.types, ch.principalType)
	}
	return false
}

// ParseCondition reads the conditions that Azure's portal and its built-in roles have for handing on the right to assign
// roles, and nothing else of the language: clauses of the form
//
//	((!(ActionMatches{'Microsoft.Authorization/roleAssignments/write'}))
//	 OR (@Request[Microsoft.Authorization/roleAssignments:RoleDefinitionId] ForAnyOfAnyValues:GuidEquals{<id>, …}))
//
// joined by AND, for write with @Request and for delete with @Resource. Tests joined by AND stand in place of the one
// that is shown: of RoleDefinitionId and PrincipalId, with ForAnyOfAnyValues:GuidEquals or ForAnyOfAllValues:GuidNotEquals,
// and of PrincipalType, with ForAnyOfAnyValues:StringEqualsIgnoreCase{'User', …}. Space does not matter. An empty text
// is no condition, which is nil.
//
// What it refuses cannot be evaluated, so an assignment with such a condition cannot be stored, and grants nothing if it is.
func ParseCondition(version, text string) (*Condition, error) {
	switch {
	case text == "":
		return nil, nil
	case version != ConditionVersion:
		return nil, invalid("condition", "its version must be %s, not %s", ConditionVersion, quoted(version))
	case len(text) > maxCondition:
		return nil, invalid("condition", "it has more than %d characters", maxCondition)
	}
	p := conditionParser{rest: text}
	c := p.condition()
	if p.expected != "" {
		return nil, invalid("condition", "it is of no form that this release evaluates: %s expected at %s", p.expected, quoted(p.rest))
	}
	return c, nil
}

// A conditionParser stops for good at the first thing that is not as it must be.
type conditionParser struct {
	rest     string
	expected string // what is missing at rest; "" as long as all is well
}

// accept skips space and takes token if it is what follows.
func (p *conditionParser) accept(token string) bool {
	if p.expected != "" {
		return false
	}
	rest, found := strings.CutPrefix(strings.TrimLeft(p.rest, " \t\r\n"), token)
	if found {
		p.rest = rest
	}
	return found
}

func (p *conditionParser) expect(tokens ...string) {
	for _, token := range tokens {
		if !p.accept(token) {
			p.fail(token)
		}
	}
}

func (p *conditionParser) fail(expected string) {
	if p.expected == "" {
		p.expected = expected
	}
}

// one takes one of the tokens, none of which begins with another.
func (p *conditionParser) one(tokens ...string) string {
	for _, token := range tokens {
		if p.accept(token) {
			return token
		}
	}
	p.fail(strings.Join(tokens, " or "))
	return ""
}

func (p *conditionParser) condition() *Condition {
	c := new(Condition)
	for more := true; more; more = p.accept("AND") {
		if len(c.clauses) == maxClauses {
			p.fail(fmt.Sprintf("the end after %d clauses", maxClauses))
		}
		c.clauses = append(c.clauses, p.clause())
	}
	if strings.TrimLeft(p.rest, " \t\r\n") != "" {
		p.fail("AND or the end")
	}
	return c
}

func (p *conditionParser) clause() clause {
	p.expect("(", "(", "!", "(", "ActionMatches", "{")
	cl := clause{action: strings.Trim(p.one("'"+writeAssignments+"'", "'"+deleteAssignments+"'"), "'")}
	source := "@Request"
	if cl.action == deleteAssignments {
		source = "@Resource"
	}
	p.expect("}", ")", ")", "OR", "(")
	for more := true; more; more = p.accept("AND") {
		if len(cl.tests) == maxTests {
			p.fail(fmt.Sprintf("the end of the clause after %d tests", maxTests))
		}
		cl.tests = append(cl.tests, p.test(source))
	}
	p.expect(")", ")")
	return cl
}

const (
	equalsOne   = "ForAnyOfAnyValues:GuidEquals"
	equalsNone  = "ForAnyOfAllValues:GuidNotEquals"
	isOneOfText = "ForAnyOfAnyValues:StringEqualsIgnoreCase"
)

func (p *conditionParser) test(source string) test {
	p.expect(source, "[", "Microsoft.Authorization/roleAssignments:")
	t := test{attribute: p.one(roleAttribute, principalAttribute, typeAttribute)}
	p.expect("]")
	if t.attribute == typeAttribute {
		p.expect(isOneOfText, "{")
		for more := true; more; more = p.accept(",") {
			t.types = append(t.types, p.principalType())
		}
	} else {
		t.except = p.one(equalsOne, equalsNone) == equalsNone
		p.expect("{")
		for more := true; more; more = p.accept(",") {
			t.ids = append(t.ids, p.id())
		}
	}
	p.expect("}")
	return t
}

func (p *conditionParser) id() uuid.UUID {
	p.accept("") // skips space
	id, ok := parseID(p.rest[:min(len(p.rest), guidLength)])
	if !ok || p.expected != "" {
		p.fail("a GUID")
		return uuid.Nil
	}
	p.rest = p.rest[guidLength:]
	return id
}

func (p *conditionParser) principalType() PrincipalType {
	p.expect("'")
	for _, t := range []PrincipalType{UserPrincipal, GroupPrincipal, ServicePrincipal} {
		if n := len(t); p.expected == "" && len(p.rest) > n && equalFold(p.rest[:n], string(t)) && p.rest[n] == '\'' {
			p.rest = p.rest[n+1:]
			return t
		}
	}
	p.fail("User, Group or ServicePrincipal")
	return ""
}

// String returns the condition in the form that ParseCondition reads, or "" for none.
func (c *Condition) String() string {
	if c == nil {
		return ""
	}
	clauses := make([]string, 0, len(c.clauses))
	for _, cl := range c.clauses {
		source := "@Request"
		if cl.action == deleteAssignments {
			source = "@Resource"
		}
		tests := make([]string, 0, len(cl.tests))
		for _, t := range cl.tests {
			tests = append(tests, source+"[Microsoft.Authorization/roleAssignments:"+t.attribute+"] "+t.String())
		}
		clauses = append(clauses, "((!(ActionMatches{'"+cl.action+"'})) OR ("+strings.Join(tests, " AND ")+"))")
	}
	return strings.Join(clauses, " AND ")
}

// String returns the test without what it looks at.
func (t test) String() string {
	operator, values := equalsOne, make([]string, 0, len(t.ids)+len(t.types))
	for _, id := range t.ids {
		values = append(values, id.String())
	}
	for _, text := range t.types {
		values = append(values, "'"+string(text)+"'")
	}
	switch {
	case t.attribute == typeAttribute:
		operator = isOneOfText
	case t.except:
		operator = equalsNone
	}
	return operator + "{" + strings.Join(values, ", ") + "}"
}
