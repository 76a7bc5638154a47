package authz

import (
	"github.com/google/uuid"
)

// A PrincipalType is what an assignment says its principal is.
type PrincipalType string

// The types of principals. An assignment to a user or an application is compared with the object id of whoever asks, one to
// a group with his groups, and one that does not say with both.
const (
	AnyPrincipal     PrincipalType = ""
	UserPrincipal    PrincipalType = "User"
	GroupPrincipal   PrincipalType = "Group"
	ServicePrincipal PrincipalType = "ServicePrincipal"
)

// An Assignment gives a principal a role at a scope and everywhere below it.
type Assignment struct {
	ID            string // a GUID
	Scope         Scope
	PrincipalID   string // the object id of a principal or of a group
	PrincipalType PrincipalType
	RoleID        string // of the role's definition

	// Condition limits what of the role holds, as ParseCondition reads it; "" limits nothing.
	Condition        string
	ConditionVersion string
}

// Roles answers what role assignments allow. It does not change, and any number of goroutines may ask it. What a question
// costs does not depend on how many assignments there are, and it allocates nothing. A nil *Roles allows nothing.
type Roles struct {
	tenant      string
	definitions map[uuid.UUID]*role
	holders     map[uuid.UUID]*holder
	ignored     []error
}

// A holder is what was assigned to one id, which is that of a principal or of a group.
type holder struct {
	grants map[Scope][]grant
	kinds  [ObjectScope + 1]bool // of the scopes in grants, so that others are not looked up
}

// A grant is an assignment made ready.
type grant struct {
	assignment string
	role       *role
	condition  *Condition // nil if there is none
	direct     bool       // counts for the principal of that id
	member     bool       // counts for the members of the group of that id
}

// Compile makes the role assignments of a tenant ready to be asked. Definitions must hold the built-in roles too
// (BuiltInRoles); if two have the same id, the first one counts. What is malformed grants nothing and is listed by Ignored.
func Compile(tenantID string, definitions []RoleDefinition, assignments []Assignment) *Roles {
	r := &Roles{
		tenant:      tenantID,
		definitions: make(map[uuid.UUID]*role, len(definitions)),
		holders:     make(map[uuid.UUID]*holder, len(assignments)),
	}
	for i := range definitions {
		if err := r.define(&definitions[i]); err != nil {
			r.ignored = append(r.ignored, err)
		}
	}
	for i := range assignments {
		if err := r.assign(&assignments[i]); err != nil {
			r.ignored = append(r.ignored, err)
		}
	}
	return r
}

// Ignored returns why some of the definitions and assignments grant nothing. They should not have been stored.
func (r *Roles) Ignored() []error { return r.ignored }

func (r *Roles) define(d *RoleDefinition) error {
	compiled, err := d.compile()
	if err != nil {
		return err
	}
	if r.definitions[compiled.id] != nil {
		return invalid("role definition", "there is one with the id %s already", compiled.id)
	}
	r.definitions[compiled.id] = compiled
	return nil
}

func (r *Roles) assign(a *Assignment) error {
	g, principal, err := r.compile(a)
	if err != nil {
		return err
	}
	h := r.holders[principal]
	if h == nil {
		h = &holder{grants: make(map[Scope][]grant)}
		r.holders[principal] = h
	}
	h.grants[a.Scope] = append(h.grants[a.Scope], g)
	h.kinds[a.Scope.kind] = true
	return nil
}

// compile checks everything about an assignment but who makes it.
func (r *Roles) compile(a *Assignment) (g grant, principal uuid.UUID, err error) {
	fail := func(format string, args ...any) (grant, uuid.UUID, error) {
		return grant{}, uuid.Nil, invalid("role assignment", format, args...)
	}
	if _, ok := parseID(a.ID); !ok {
		return fail("its id %s is no GUID", quoted(a.ID))
	}
	principal, ok := parseID(a.PrincipalID)
	if !ok {
		return fail("its principal %s is no object id, which is a GUID", quoted(a.PrincipalID))
	}
	id, _ := parseID(a.RoleID)
	g = grant{assignment: a.ID, role: r.definitions[id]}
	switch {
	case g.role == nil:
		return fail("there is no role definition %s", quoted(a.RoleID))
	case a.Scope.kind == NoScope:
		return fail("it has no scope")
	case !g.role.assignableAt(a.Scope):
		return fail("the role %s is not assignable at %s", g.role, a.Scope)
	}
	switch a.PrincipalType {
	case AnyPrincipal:
		g.direct, g.member = true, true
	case UserPrincipal, ServicePrincipal:
		g.direct = true
	case GroupPrincipal:
		g.member = true
	default:
		return fail("its principal type %s is none of %s, %s and %s", quoted(string(a.PrincipalType)),
			UserPrincipal, GroupPrincipal, ServicePrincipal)
	}
	g.condition, err = ParseCondition(a.ConditionVersion, a.Condition)
	return g, principal, err
}

// A query is a question to Roles.
type query struct {
	plane  Plane
	name   string // of the action
	action action // made of name by find
	scope  Scope
	change *change // what is to be assigned or removed, if the question is that
}

// Allowed says whether the assignments let s perform the action at the scope. An assignment whose condition limits the
// action does not: CanAssign and CanUnassign ask for those, with what the condition speaks of.
func (r *Roles) Allowed(s Subject, plane Plane, action string, scope Scope) Decision {
	g, reason := r.find(&s, &query{plane: plane, name: action, scope: scope})
	if g == nil {
		return Decision{Reason: reason}
	}
	return Decision{Allowed: true, Reason: "granted by a role assignment", AssignmentID: g.assignment, Role: g.role.name}
}

// find returns an assignment that allows what is asked for, or why there is none.
func (r *Roles) find(s *Subject, q *query) (*grant, string) {
	switch {
	case r == nil:
		return nil, "there are no role assignments"
	case !sameTenant(s.TenantID, r.tenant):
		return nil, "the caller is not of the tenant of the role assignments"
	case q.plane >= planes:
		return nil, "there is no such plane"
	}
	var ok bool
	if q.action, ok = parseAction(q.name); !ok {
		return nil, "there is no such action"
	}
	if g := r.held(s.ObjectID, q, false); g != nil {
		return g, ""
	}
	for _, group := range s.Groups {
		if g := r.held(group, q, true); g != nil {
			return g, ""
		}
	}
	return nil, "no role assignment grants the action"
}

// held looks through what is assigned to an id, at the scope and at all scopes in which it lies.
func (r *Roles) held(id string, q *query, asGroup bool) *grant {
	key, ok := parseID(id)
	if !ok {
		return nil
	}
	h := r.holders[key]
	if h == nil {
		return nil
	}
	for kind := RootScope; kind <= q.scope.kind; kind++ {
		if !h.kinds[kind] {
			continue
		}
		grants := h.grants[q.scope.In(kind)]
		for i := range grants {
			if g := &grants[i]; g.countsFor(asGroup) && g.permits(q) {
				return g
			}
		}
	}
	return nil
}

func (g *grant) countsFor(asGroup bool) bool {
	if asGroup {
		return g.member
	}
	return g.direct
}

func (g *grant) permits(q *query) bool {
	for i := range g.role.sets {
		if set := &g.role.sets[i]; set.matches(q.plane, &q.action) && mayUse(q, g.condition, set.condition) {
			return true
		}
	}
	return false
}
