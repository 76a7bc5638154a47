package resource

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

const (
	readDefinitions = "Microsoft.Authorization/roleDefinitions/read"
	readAssignments = "Microsoft.Authorization/roleAssignments/read"
)

// RoleFilter limits a list of role definitions. Empty members limit nothing.
type RoleFilter struct {
	Name    string // of the role, in any case
	Custom  bool   // only custom ones
	BuiltIn bool   // only built-in ones
}

func (f RoleFilter) passes(d *RoleDefinition) bool {
	return (f.Name == "" || strings.EqualFold(f.Name, d.Name)) && (!f.Custom || !d.BuiltIn) && (!f.BuiltIn || d.BuiltIn)
}

// assignableIn tells whether the role can be assigned at the scope, somewhere in it or above it.
func (d *RoleDefinition) assignableIn(scope authz.Scope) bool {
	for _, text := range d.AssignableScopes {
		if at, err := authz.ParseScope(text); err == nil && (at.Contains(scope) || scope.Contains(at)) {
			return true
		}
	}
	return false
}

// ListRoleDefinitions returns the roles that can be assigned at a scope or in it. Nobody may modify them.
func (s *Service) ListRoleDefinitions(ctx context.Context, a Actor, scope authz.Scope, filter RoleFilter) (out []*RoleDefinition, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		out = nil
		if err := s.authorize(r, a, readDefinitions, scope); err != nil {
			return err
		}
		state, err := s.rolesIn(r)
		if err != nil {
			return err
		}
		for _, d := range state.definitions {
			if filter.passes(d) && d.assignableIn(scope) {
				out = append(out, d)
			}
		}
		return nil
	})
	return out, err
}

// GetRoleDefinition returns a role by its id, a GUID. Nobody may modify it.
func (s *Service) GetRoleDefinition(ctx context.Context, a Actor, scope authz.Scope, id string) (d *RoleDefinition, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		if err := s.authorize(r, a, readDefinitions, scope); err != nil {
			return err
		}
		state, err := s.rolesIn(r)
		if err != nil {
			return err
		}
		if d = state.definition(id); d == nil || !d.assignableIn(scope) {
			return noRoleDefinition(id)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// PutRoleDefinition makes or changes the custom role with that id. Who may is decided at its assignable scopes; the scope is
// where it was asked for.
func (s *Service) PutRoleDefinition(ctx context.Context, a Actor, scope authz.Scope, id string, def authz.RoleDefinition) (
	out *RoleDefinition, created bool, err error) {
	guid, ok := parseGUID(id)
	if !ok {
		return nil, false, invalidProperty("roleDefinitionId", "The role definition id '%s' is no GUID.", bounded(id))
	}
	def.ID, def.BuiltIn = guid, false
	if err := s.validateDefinition(def); err != nil {
		return nil, false, err
	}
	may := func(r store.Reader) error {
		state, err := s.rolesIn(r)
		if err != nil {
			return err
		}
		old := state.definition(guid)
		return s.asks(r, a, func(roles *authz.Roles, by authz.Subject) error {
			if err := roles.CanDefine(by, def); err != nil || old == nil {
				return err
			}
			return roles.CanDefine(by, old.RoleDefinition)
		})
	}
	d := deed{"RoleDefinitionPut", s.subscription(), guid, definitionDetail(def)}
	err = s.change(ctx, a, d, may, func(tx store.Tx) error {
		state, err := s.rolesIn(tx)
		if err != nil {
			return err
		}
		old := state.definition(guid)
		created = old == nil
		if err := state.checkDefinition(def, old); err != nil {
			return err
		}
		now, name := s.now().Unix(), ""
		name, _ = a.name()
		out = &RoleDefinition{RoleDefinition: def, Created: now, CreatedBy: name, Modified: now, ModifiedBy: name}
		if old != nil {
			out.Created, out.CreatedBy = old.Created, old.CreatedBy
		}
		return errors.Join(record.Put(tx, definitionKey(guid), out.record()), newGeneration(tx))
	})
	if err != nil {
		return nil, false, err
	}
	return out, created, nil
}

func (s *Service) validateDefinition(def authz.RoleDefinition) error {
	var taken error
	for _, b := range authz.BuiltInRoles() {
		if strings.EqualFold(b.ID, def.ID) {
			return builtIn(b.Name)
		}
		if strings.EqualFold(strings.TrimSpace(def.Name), b.Name) {
			taken = sameName(def.Name)
		}
	}
	if taken != nil {
		return taken
	}
	return invalidText("roleDefinition", def.Validate(s.install.SubscriptionID))
}

func builtIn(name string) error {
	return &Error{Kind: BuiltInRole, Message: fmt.Sprintf("The role '%s' is built in and cannot be changed.", name)}
}

func sameName(name string) error {
	return &Error{Kind: RoleDefinitionWithSameNameExists, Message: fmt.Sprintf("A custom role with the name '%s' already exists. Use a "+
		"different name.", bounded(name))}
}

// checkDefinition refuses a role that does not fit to what is there. old is nil for a new one.
func (st *roleState) checkDefinition(def authz.RoleDefinition, old *RoleDefinition) error {
	custom := 0
	for _, d := range st.definitions {
		if !d.BuiltIn {
			custom++
		}
		if d != old && strings.EqualFold(strings.TrimSpace(d.Name), strings.TrimSpace(def.Name)) {
			return sameName(def.Name)
		}
	}
	if old == nil {
		if custom >= maxDefinitions {
			return &Error{Kind: LimitExceeded, Message: fmt.Sprintf("There are %d custom roles, and there cannot be more.", maxDefinitions)}
		}
		return nil
	}
	next := &RoleDefinition{RoleDefinition: def}
	for _, a := range st.assignments {
		if strings.EqualFold(a.RoleID, old.ID) && !next.assignableAt(a.Scope) {
			return &Error{Kind: RoleDefinitionHasAssignments, Message: fmt.Sprintf("The role is assigned at %s, which would no longer be "+
				"one of its assignable scopes. Remove that assignment first.", a.Scope)}
		}
	}
	return nil
}

// assignableAt tells whether the role may be assigned there.
func (d *RoleDefinition) assignableAt(scope authz.Scope) bool {
	for _, text := range d.AssignableScopes {
		if at, err := authz.ParseScope(text); err == nil && at.Contains(scope) {
			return true
		}
	}
	return false
}

// DeleteRoleDefinition removes a custom role that nobody has. It returns what it removed, nil if there was no such role.
func (s *Service) DeleteRoleDefinition(ctx context.Context, a Actor, scope authz.Scope, id string) (gone *RoleDefinition, err error) {
	find := func(r store.Reader) (*roleState, *RoleDefinition, error) {
		state, err := s.rolesIn(r)
		if err != nil {
			return nil, nil, err
		}
		return state, state.definition(id), nil
	}
	may := func(r store.Reader) error {
		_, old, err := find(r)
		switch {
		case err != nil:
			return err
		case old == nil:
			return s.authorize(r, a, readDefinitions, scope)
		case old.BuiltIn:
			return builtIn(old.Name)
		}
		return s.asks(r, a, func(roles *authz.Roles, by authz.Subject) error { return roles.CanUndefine(by, old.RoleDefinition) })
	}
	d := deed{"RoleDefinitionDelete", s.subscription(), bounded(id), ""}
	tell := func(old *RoleDefinition) string {
		if old == nil {
			return ""
		}
		return definitionDetail(old.RoleDefinition)
	}
	err = s.db.View(ctx, func(r store.Reader) error {
		_, old, err := find(r)
		d.detail = tell(old)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = s.change(ctx, a, d, may, func(tx store.Tx) error {
		state, old, err := find(tx)
		gone = old
		switch {
		case err != nil:
			return err
		case tell(old) != d.detail:
			return changedMeanwhile("role definition")
		case old == nil:
			return nil
		}
		for _, as := range state.assignments {
			if strings.EqualFold(as.RoleID, old.ID) {
				return &Error{Kind: RoleDefinitionHasAssignments, Message: fmt.Sprintf("There are existing role assignments referencing role "+
					"'%s'. Remove them first.", old.Name)}
			}
		}
		return errors.Join(tx.Delete(definitionKey(old.ID)), newGeneration(tx))
	})
	if err != nil {
		return nil, err
	}
	return gone, nil
}
