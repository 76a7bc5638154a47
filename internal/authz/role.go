package authz

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// Bounds of a role definition. Those of name, description and scopes are Azure's.
const (
	MaxRoleName         = 512  // characters
	MaxRoleDescription  = 2048 // characters
	MaxAssignableScopes = 2000
	maxPermissionSets   = 16
	maxPatterns         = 512 // of all lists together
)

// A Plane is one of the two kinds of actions. A wildcard never reaches from one into the other.
type Plane uint8

// The planes.
const (
	Control Plane = iota // what is done with vaults
	Data                 // what is done in them
	planes
)

// A RoleDefinition says what the holders of a role may do. It does not say where.
type RoleDefinition struct {
	ID               string // a GUID
	Name             string // as people call it: "Key Vault Reader"
	Description      string
	BuiltIn          bool
	AssignableScopes []string // at or below which it may be assigned
	Permissions      []PermissionSet
}

// A PermissionSet allows what an entry of Actions matches and none of NotActions does, and the same for data actions. What
// NotActions takes away, another set or another role may still allow.
type PermissionSet struct {
	Actions        []string
	NotActions     []string
	DataActions    []string
	NotDataActions []string

	// Condition limits how the actions may be used, as ParseCondition reads it; "" does not. Only built-in roles have one.
	Condition        string
	ConditionVersion string
}

// A role is a RoleDefinition made ready.
type role struct {
	id     uuid.UUID
	name   string
	scopes map[Scope]bool // at or below which it may be assigned
	sets   []permissionSet
}

type permissionSet struct {
	allowed, excepted [planes][]pattern
	condition         *Condition // nil if there is none
}

func (p *permissionSet) matches(plane Plane, a *action) bool {
	return anyMatches(p.allowed[plane], a) && !anyMatches(p.excepted[plane], a)
}

// assignableAt tells whether the role may be assigned there.
func (r *role) assignableAt(scope Scope) bool {
	for kind := RootScope; kind <= scope.kind; kind++ {
		if r.scopes[scope.In(kind)] {
			return true
		}
	}
	return false
}

// handsOnAccess tells whether the role's holders could give rights to others, or change what other roles give.
func (r *role) handsOnAccess() bool {
	return slices.ContainsFunc([]string{writeAssignments, writeDefinitions, elevateAccess}, func(name string) bool {
		a, _ := parseAction(name)
		return slices.ContainsFunc(r.sets, func(p permissionSet) bool { return p.matches(Control, &a) })
	})
}

// Validate says whether a custom role can be stored: who it is, that it allows something, and that it can be assigned only
// within the subscription.
func (d *RoleDefinition) Validate(subscriptionID string) error {
	r, err := d.compile()
	if err != nil {
		return err
	}
	within, err := ParseScope(subscription + subscriptionID)
	switch {
	case err != nil:
		return err
	case d.BuiltIn:
		return invalid("role definition", "only custom roles can be written")
	case isBuiltIn(r.id, d.Name):
		return invalid("role definition", "a built-in role has the same id or name; choose others")
	case !r.allowsSomething():
		return invalid("role definition", "it has neither actions nor data actions")
	}
	for s := range r.scopes {
		if !within.Contains(s) {
			return invalid("role definition", "the assignable scope %s is not in the subscription %s", s, subscriptionID)
		}
	}
	for _, p := range d.Permissions {
		if p.Condition != "" {
			return invalid("role definition", "a custom role has no condition; its assignments can have one")
		}
	}
	return nil
}

func (r *role) allowsSomething() bool {
	return slices.ContainsFunc(r.sets, func(p permissionSet) bool {
		return len(p.allowed[Control])+len(p.allowed[Data]) > 0
	})
}

// compile checks everything about a definition that holds for built-in ones too.
func (d *RoleDefinition) compile() (*role, error) {
	id, ok := parseID(d.ID)
	switch {
	case !ok:
		return nil, invalid("role definition", "its id %s is no GUID", quoted(d.ID))
	case !isLabel(d.Name, MaxRoleName) || strings.TrimSpace(d.Name) == "":
		return nil, invalid("role definition", "its name must have 1 to %d printable characters", MaxRoleName)
	case !utf8.ValidString(d.Description) || utf8.RuneCountInString(d.Description) > MaxRoleDescription:
		return nil, invalid("role definition", "its description has more than %d characters", MaxRoleDescription)
	case len(d.AssignableScopes) == 0 || len(d.AssignableScopes) > MaxAssignableScopes:
		return nil, invalid("role definition", "it must have 1 to %d assignable scopes", MaxAssignableScopes)
	case len(d.Permissions) == 0 || len(d.Permissions) > maxPermissionSets:
		return nil, invalid("role definition", "it must have 1 to %d sets of permissions", maxPermissionSets)
	}
	r := &role{id: id, name: d.Name, scopes: make(map[Scope]bool)}
	for _, text := range d.AssignableScopes {
		s, err := ParseScope(text)
		if err != nil {
			return nil, err
		}
		r.scopes[s] = true
	}
	entries := 0
	for _, p := range d.Permissions {
		entries += len(p.Actions) + len(p.NotActions) + len(p.DataActions) + len(p.NotDataActions)
		if entries > maxPatterns {
			return nil, invalid("role definition", "it has more than %d actions", maxPatterns)
		}
		set, err := p.compile()
		if err != nil {
			return nil, err
		}
		r.sets = append(r.sets, set)
	}
	return r, nil
}

func (p *PermissionSet) compile() (permissionSet, error) {
	var out permissionSet
	for _, list := range []struct {
		from []string
		to   *[]pattern
	}{
		{p.Actions, &out.allowed[Control]},
		{p.NotActions, &out.excepted[Control]},
		{p.DataActions, &out.allowed[Data]},
		{p.NotDataActions, &out.excepted[Data]},
	} {
		for _, s := range list.from {
			q, err := parsePattern(s)
			if err != nil {
				return permissionSet{}, err
			}
			*list.to = append(*list.to, q)
		}
	}
	var err error
	out.condition, err = ParseCondition(p.ConditionVersion, p.Condition)
	return out, err
}

// isLabel tells whether s is valid text of at most max characters, all of which can be seen.
func isLabel(s string, max int) bool {
	return utf8.ValidString(s) && utf8.RuneCountInString(s) <= max &&
		!strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

// String returns name and id, for the log.
func (r *role) String() string { return fmt.Sprintf("%s (%s)", r.name, r.id) }
