package resource

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

// AssignmentFilter limits a list of role assignments.
type AssignmentFilter struct {
	AtScope     bool   // only those that hold at the scope itself: there and above
	PrincipalID string // only those to that principal or group
	AssignedTo  string // only those that count for that principal: also by a group, if it is the caller, whose groups are known
}

// AssignmentParams is what an assignment shall be.
type AssignmentParams struct {
	RoleDefinitionID string // a GUID
	PrincipalID      string
	PrincipalType    authz.PrincipalType
	Condition        string
	ConditionVersion string
	Description      string
}

const maxAssignmentDescription = 1024

// ListRoleAssignments returns the assignments at, above and below a scope, by id. Nobody may modify them.
func (s *Service) ListRoleAssignments(ctx context.Context, a Actor, scope authz.Scope, filter AssignmentFilter) (out []*RoleAssignment, err error) {
	var asked authz.Subject
	if filter.AssignedTo != "" {
		asked = authz.Subject{ObjectID: filter.AssignedTo}
		if who := a.subject(); strings.EqualFold(who.ObjectID, filter.AssignedTo) {
			asked = who
		}
	}
	err = s.db.View(ctx, func(r store.Reader) error {
		out = nil
		if err := s.authorize(r, a, readAssignments, scope); err != nil {
			return err
		}
		state, err := s.rolesIn(r)
		if err != nil {
			return err
		}
		for _, as := range state.assignments {
			switch {
			case !as.Scope.Contains(scope) && (filter.AtScope || !scope.Contains(as.Scope)):
			case filter.PrincipalID != "" && !strings.EqualFold(filter.PrincipalID, as.PrincipalID):
			case filter.AssignedTo != "" && !as.concerns(asked):
			default:
				out = append(out, as)
			}
		}
		return nil
	})
	return out, err
}

// GetRoleAssignment returns the assignment with that id at exactly that scope. Nobody may modify it.
func (s *Service) GetRoleAssignment(ctx context.Context, a Actor, scope authz.Scope, id string) (out *RoleAssignment, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		if err := s.authorize(r, a, readAssignments, scope); err != nil {
			return err
		}
		state, err := s.rolesIn(r)
		if err != nil {
			return err
		}
		if out = state.assignment(id); out == nil || out.Scope != scope {
			return noRoleAssignment(id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// PutRoleAssignment makes the assignment with that id at a scope. One that is there can only get another condition or description.
func (s *Service) PutRoleAssignment(ctx context.Context, a Actor, scope authz.Scope, id string, p AssignmentParams) (
	out *RoleAssignment, created bool, err error) {
	next, err := newAssignment(scope, id, p)
	if err != nil {
		return nil, false, err
	}
	known, err := s.typeOf(ctx, next.PrincipalID)
	if err != nil {
		return nil, false, err
	}
	if err := next.setType(known); err != nil {
		return nil, false, err
	}
	may := func(r store.Reader) error {
		state, err := s.rolesIn(r)
		if err != nil {
			return err
		}
		if state.definition(next.RoleID) == nil {
			return noRoleDefinition(next.RoleID)
		}
		old := state.assignment(next.ID)
		return s.asks(r, a, func(roles *authz.Roles, by authz.Subject) error {
			if err := roles.CanAssign(by, next.seen(known)); err != nil || old == nil {
				return err
			}
			if old.PrincipalID != next.PrincipalID { // which will be refused
				return roles.CanUnassign(by, old.seen(authz.AnyPrincipal))
			}
			return roles.CanUnassign(by, old.seen(known))
		})
	}
	d := deed{"RoleAssignmentPut", scope.String(), next.ID, next.detail()}
	err = s.change(ctx, a, d, may, func(tx store.Tx) error {
		state, err := s.rolesIn(tx)
		if err != nil {
			return err
		}
		if err := s.checkScope(tx, scope); err != nil {
			return err
		}
		old := state.assignment(next.ID)
		created = old == nil
		if err := state.checkAssignment(next, old); err != nil {
			return err
		}
		as := *next
		as.Created, as.Modified = s.now().Unix(), s.now().Unix()
		as.CreatedBy, _ = a.name()
		as.ModifiedBy = as.CreatedBy
		if old != nil {
			as.Created, as.CreatedBy = old.Created, old.CreatedBy
		}
		out = &as
		return errors.Join(record.Put(tx, assignmentKey(as.ID), as.record()), newGeneration(tx))
	})
	if err != nil {
		return nil, false, err
	}
	return out, created, nil
}

// newAssignment checks what can be checked of an assignment by itself.
func newAssignment(scope authz.Scope, id string, p AssignmentParams) (*RoleAssignment, error) {
	name, ok := parseGUID(id)
	if !ok {
		return nil, invalidProperty("roleAssignmentName", "The role assignment id '%s' is no GUID.", bounded(id))
	}
	principal, ok := parseGUID(p.PrincipalID)
	if !ok {
		return nil, invalidProperty("principalId", "The principal id '%s' is no object id, which is a GUID.", bounded(p.PrincipalID))
	}
	role, ok := parseGUID(p.RoleDefinitionID)
	if !ok {
		return nil, noRoleDefinition(bounded(p.RoleDefinitionID))
	}
	if !utf8.ValidString(p.Description) || utf8.RuneCountInString(p.Description) > maxAssignmentDescription {
		return nil, invalidProperty("description", "The description has more than %d characters.", maxAssignmentDescription)
	}
	return &RoleAssignment{
		Assignment: authz.Assignment{
			ID: name, Scope: scope, PrincipalID: principal, PrincipalType: p.PrincipalType, RoleID: role,
			Condition: p.Condition, ConditionVersion: p.ConditionVersion,
		},
		Description: p.Description,
	}, nil
}

// typeOf returns what a principal is, AnyPrincipal for one that the directory does not know: one of another issuer, or a group.
func (s *Service) typeOf(ctx context.Context, principal string) (authz.PrincipalType, error) {
	if s.cfg.Principals == nil {
		return authz.AnyPrincipal, nil
	}
	return s.cfg.Principals.PrincipalType(ctx, principal)
}

// setType sets the type of a principal that the directory knows, and refuses another one. Of others, what is said is kept.
func (a *RoleAssignment) setType(known authz.PrincipalType) error {
	if known == authz.AnyPrincipal {
		return nil
	}
	if a.PrincipalType != authz.AnyPrincipal && a.PrincipalType != known {
		return invalidProperty("principalType", "The principal '%s' has the type '%s', which is different from the specified type '%s'.",
			a.PrincipalID, known, bounded(string(a.PrincipalType)))
	}
	a.PrincipalType = known
	return nil
}

// seen is the assignment as conditions see it, of which one may speak of the principal's type. Whoever is limited by it could
// say of a principal that the directory does not know whatever suits him. So of such a one the type is none, which no
// condition lists.
func (a *RoleAssignment) seen(known authz.PrincipalType) authz.Assignment {
	out := a.Assignment
	out.PrincipalType = known
	return out
}

// checkAssignment refuses an assignment that does not fit to what is there. old is nil for a new one.
func (st *roleState) checkAssignment(next, old *RoleAssignment) error {
	d := st.definition(next.RoleID)
	if d == nil {
		return noRoleDefinition(next.RoleID)
	}
	if !d.assignableAt(next.Scope) {
		return invalidProperty("roleDefinitionId", "The role '%s' is not assignable at %s.", d.Name, next.Scope)
	}
	// An operator's assignment was not looked at by CanAssign.
	if _, err := authz.ParseCondition(next.ConditionVersion, next.Condition); err != nil {
		return invalidText("condition", err)
	}
	switch next.PrincipalType {
	case authz.AnyPrincipal, authz.UserPrincipal, authz.GroupPrincipal, authz.ServicePrincipal:
	default:
		return invalidProperty("principalType", "The principal type '%s' is not known.", bounded(string(next.PrincipalType)))
	}
	if old != nil {
		if old.Scope != next.Scope || !strings.EqualFold(old.RoleID, next.RoleID) || !strings.EqualFold(old.PrincipalID, next.PrincipalID) ||
			old.PrincipalType != next.PrincipalType {
			return &Error{Kind: RoleAssignmentUpdateNotPermitted, Message: "Tenant ID, application ID, principal ID, role, and scope of a role " +
				"assignment are not allowed to be updated."}
		}
		return nil
	}
	if len(st.assignments) >= maxAssignments {
		return &Error{Kind: LimitExceeded, Message: fmt.Sprintf("There are %d role assignments, and there cannot be more.", maxAssignments)}
	}
	for _, a := range st.assignments {
		if a.Scope == next.Scope && strings.EqualFold(a.RoleID, next.RoleID) && strings.EqualFold(a.PrincipalID, next.PrincipalID) {
			return &Error{Kind: RoleAssignmentExists, Target: a.ID, Message: fmt.Sprintf("The role assignment already exists. The ID of the "+
				"existing role assignment is %s.", strings.ReplaceAll(a.ID, "-", ""))}
		}
	}
	return nil
}

// DeleteRoleAssignment removes the assignment with that id at exactly that scope. It returns what it removed, nil if there was
// none.
func (s *Service) DeleteRoleAssignment(ctx context.Context, a Actor, scope authz.Scope, id string) (gone *RoleAssignment, err error) {
	find := func(r store.Reader) (*RoleAssignment, error) {
		state, err := s.rolesIn(r)
		if err != nil {
			return nil, err
		}
		if as := state.assignment(id); as != nil && as.Scope == scope {
			return as, nil
		}
		return nil, nil
	}
	var before *RoleAssignment
	err = s.db.View(ctx, func(r store.Reader) error {
		before, err = find(r)
		return err
	})
	known := authz.AnyPrincipal
	if err == nil && before != nil {
		known, err = s.typeOf(ctx, before.PrincipalID)
	}
	if err != nil {
		return nil, err
	}
	may := func(r store.Reader) error {
		as, err := find(r)
		if err != nil {
			return err
		}
		if as == nil {
			return s.authorize(r, a, readAssignments, scope)
		}
		return s.asks(r, a, func(roles *authz.Roles, by authz.Subject) error { return roles.CanUnassign(by, as.seen(known)) })
	}
	d := deed{"RoleAssignmentDelete", scope.String(), bounded(id), before.detail()}
	err = s.change(ctx, a, d, may, func(tx store.Tx) error {
		gone, err = find(tx)
		switch {
		case err != nil:
			return err
		case gone.detail() != d.detail:
			return changedMeanwhile("role assignment")
		case gone == nil:
			return nil
		}
		return errors.Join(tx.Delete(assignmentKey(gone.ID)), newGeneration(tx))
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}
