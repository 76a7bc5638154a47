package resource

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

// A RoleDefinition is a role, built in or custom, with who wrote it.
type RoleDefinition struct {
	authz.RoleDefinition
	Created, Modified     int64 // 0 for a built-in one
	CreatedBy, ModifiedBy string
}

// A RoleAssignment gives a principal a role at a scope and everywhere below it.
type RoleAssignment struct {
	authz.Assignment
	Description           string
	Created, Modified     int64
	CreatedBy, ModifiedBy string
}

// concerns tells whether the assignment is one to the subject or to one of its groups.
func (a *RoleAssignment) concerns(s authz.Subject) bool {
	direct := a.PrincipalType != authz.GroupPrincipal && strings.EqualFold(a.PrincipalID, s.ObjectID)
	member := a.PrincipalType == authz.GroupPrincipal || a.PrincipalType == authz.AnyPrincipal
	return direct || member && slices.ContainsFunc(s.Groups, func(g string) bool { return strings.EqualFold(g, a.PrincipalID) })
}

type definitionRecord struct {
	record.Format
	ID               string             `json:"id"`
	Name             string             `json:"name"`
	Description      string             `json:"description,omitempty"`
	AssignableScopes []string           `json:"assignableScopes"`
	Permissions      []permissionRecord `json:"permissions"`
	Created          int64              `json:"created"`
	CreatedBy        string             `json:"createdBy,omitempty"`
	Modified         int64              `json:"modified"`
	ModifiedBy       string             `json:"modifiedBy,omitempty"`
}

type permissionRecord struct {
	Actions        []string `json:"actions,omitempty"`
	NotActions     []string `json:"notActions,omitempty"`
	DataActions    []string `json:"dataActions,omitempty"`
	NotDataActions []string `json:"notDataActions,omitempty"`
}

type assignmentRecord struct {
	record.Format
	ID               string              `json:"id"`
	Scope            string              `json:"scope"`
	PrincipalID      string              `json:"principalId"`
	PrincipalType    authz.PrincipalType `json:"principalType,omitempty"`
	RoleID           string              `json:"roleId"`
	Condition        string              `json:"condition,omitempty"`
	ConditionVersion string              `json:"conditionVersion,omitempty"`
	Description      string              `json:"description,omitempty"`
	Created          int64               `json:"created"`
	CreatedBy        string              `json:"createdBy,omitempty"`
	Modified         int64               `json:"modified"`
	ModifiedBy       string              `json:"modifiedBy,omitempty"`
}

// A generationRecord changes with every role and assignment. Its value is random, so that a transaction which did not commit,
// and was compiled all the same, is not taken for one that did.
type generationRecord struct {
	record.Format
	Value string `json:"value"`
}

const (
	definitionPrefix = "role/definition/"
	assignmentPrefix = "role/assignment/"
	generationKey    = "role/generation"
)

func definitionKey(id string) string { return definitionPrefix + strings.ToLower(id) }
func assignmentKey(id string) string { return assignmentPrefix + strings.ToLower(id) }

// newGeneration makes a change of roles known. It belongs into every transaction that makes one.
func newGeneration(tx store.Tx) error {
	return record.Put(tx, generationKey, generationRecord{Format: record.Current(), Value: record.NewID()})
}

func (d *RoleDefinition) record() definitionRecord {
	r := definitionRecord{
		Format: record.Current(), ID: d.ID, Name: d.Name, Description: d.Description, AssignableScopes: d.AssignableScopes,
		Created: d.Created, CreatedBy: d.CreatedBy, Modified: d.Modified, ModifiedBy: d.ModifiedBy,
	}
	for _, p := range d.Permissions {
		r.Permissions = append(r.Permissions, permissionRecord{p.Actions, p.NotActions, p.DataActions, p.NotDataActions})
	}
	return r
}

func (r *definitionRecord) definition() *RoleDefinition {
	d := &RoleDefinition{
		RoleDefinition: authz.RoleDefinition{
			ID: r.ID, Name: r.Name, Description: r.Description, AssignableScopes: r.AssignableScopes,
		},
		Created: r.Created, CreatedBy: r.CreatedBy, Modified: r.Modified, ModifiedBy: r.ModifiedBy,
	}
	for _, p := range r.Permissions {
		d.Permissions = append(d.Permissions, authz.PermissionSet{
			Actions: p.Actions, NotActions: p.NotActions, DataActions: p.DataActions, NotDataActions: p.NotDataActions,
		})
	}
	return d
}

func (a *RoleAssignment) record() assignmentRecord {
	return assignmentRecord{
		Format: record.Current(), ID: a.ID, Scope: a.Scope.String(), PrincipalID: a.PrincipalID, PrincipalType: a.PrincipalType,
		RoleID: a.RoleID, Condition: a.Condition, ConditionVersion: a.ConditionVersion, Description: a.Description,
		Created: a.Created, CreatedBy: a.CreatedBy, Modified: a.Modified, ModifiedBy: a.ModifiedBy,
	}
}

// assignment reads a scope that does not parse as none, which grants nothing.
func (r *assignmentRecord) assignment() *RoleAssignment {
	scope, _ := authz.ParseScope(r.Scope)
	return &RoleAssignment{
		Assignment: authz.Assignment{
			ID: r.ID, Scope: scope, PrincipalID: r.PrincipalID, PrincipalType: r.PrincipalType, RoleID: r.RoleID,
			Condition: r.Condition, ConditionVersion: r.ConditionVersion,
		},
		Description: r.Description,
		Created:     r.Created, CreatedBy: r.CreatedBy, Modified: r.Modified, ModifiedBy: r.ModifiedBy,
	}
}

// A roleState is all roles and assignments of one generation. Nobody may modify it.
type roleState struct {
	generation  string
	roles       *authz.Roles
	definitions []*RoleDefinition // the built-in ones, then the others by id
	assignments []*RoleAssignment // by id
}

// rolesIn returns the roles of a snapshot.
func (s *Service) rolesIn(r store.Reader) (*roleState, error) {
	generation := ""
	rec, err := s.generations.Load(r, generationKey, record.Decode[generationRecord])
	switch {
	case err == nil:
		generation = rec.Value
	case !errors.Is(err, store.ErrNotFound): // there never was a role or an assignment
		return nil, err
	}
	if known := s.compiled.Load(); known != nil && known.generation == generation {
		return known, nil
	}
	s.compiling.Lock()
	defer s.compiling.Unlock()
	if known := s.compiled.Load(); known != nil && known.generation == generation {
		return known, nil
	}
	state, err := s.compile(r, generation)
	if err != nil {
		return nil, err
	}
	s.compiled.Store(state)
	s.tellIgnored(state.roles.Ignored())
	return state, nil
}

// tellIgnored logs what grants nothing although somebody meant it to, once for as long as it is the same. None of it should have
// been stored.
func (s *Service) tellIgnored(ignored []error) {
	const most = 10
	text := fmt.Sprint(len(ignored), ignored[:min(most, len(ignored))])
	if s.cfg.Logger == nil || text == s.told {
		return
	}
	s.told = text
	for i, err := range ignored {
		if i == most {
			s.cfg.Logger.Warn("more roles and role assignments grant nothing: strongroom verify tells of all", "count", len(ignored)-most)
			break
		}
		s.cfg.Logger.Warn("a role or a role assignment grants nothing", "error", err)
	}
}

// compile reads all roles. What does not open grants nothing and hinders nothing; a verification of the store finds it.
func (s *Service) compile(r store.Reader, generation string) (*roleState, error) {
	state := &roleState{generation: generation}
	for _, d := range authz.BuiltInRoles() {
		state.definitions = append(state.definitions, &RoleDefinition{RoleDefinition: d})
	}
	err := record.Good(r, definitionPrefix, store.PrefixEnd(definitionPrefix), func(e store.Entry) error {
		if rec, err := record.Decode[definitionRecord](e.Value); err == nil {
			state.definitions = append(state.definitions, rec.definition())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	err = record.Good(r, assignmentPrefix, store.PrefixEnd(assignmentPrefix), func(e store.Entry) error {
		if rec, err := record.Decode[assignmentRecord](e.Value); err == nil {
			state.assignments = append(state.assignments, rec.assignment())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	definitions := make([]authz.RoleDefinition, len(state.definitions))
	for i, d := range state.definitions {
		definitions[i] = d.RoleDefinition
	}
	assignments := make([]authz.Assignment, len(state.assignments))
	for i, a := range state.assignments {
		assignments[i] = a.Assignment
	}
	state.roles = authz.Compile(s.cfg.TenantID, definitions, assignments)
	return state, nil
}

func (st *roleState) definition(id string) *RoleDefinition {
	for _, d := range st.definitions {
		if strings.EqualFold(d.ID, id) {
			return d
		}
	}
	return nil
}

func (st *roleState) assignment(id string) *RoleAssignment {
	i, found := slices.BinarySearchFunc(st.assignments, strings.ToLower(id), func(a *RoleAssignment, id string) int {
		return cmp.Compare(strings.ToLower(a.ID), id)
	})
	if !found {
		return nil
	}
	return st.assignments[i]
}

// Limits of the subscription, Azure's for custom roles; of assignments Azure has 4000.
const (
	maxDefinitions = 5000
	maxAssignments = 10000
)

// parseGUID reads an id in the only form that Azure's wire has, and returns it in lower case.
func parseGUID(text string) (string, bool) {
	const length = 36
	if len(text) != length || uuid.Validate(text) != nil {
		return "", false
	}
	return strings.ToLower(text), true
}

// dropBatch is how many assignments one transaction removes beside the rest of its work.
const dropBatch = 60

// dropAssignments removes what was assigned at a scope or below it. It reports whether there is more, which the next transaction
// has to remove.
func (s *Service) dropAssignments(tx store.Tx, scope authz.Scope) (more bool, err error) {
	if scope.Kind() == authz.NoScope {
		return false, nil
	}
	state, err := s.rolesIn(tx)
	if err != nil {
		return false, err
	}
	dropped := 0
	for _, a := range state.assignments {
		if !scope.Contains(a.Scope) {
			continue
		}
		if dropped == dropBatch {
			more = true
			break
		}
		dropped++
		if err := tx.Delete(assignmentKey(a.ID)); err != nil {
			return false, err
		}
	}
	if dropped == 0 {
		return false, nil
	}
	return more, newGeneration(tx)
}

// checkScope refuses a scope at which nothing can be assigned because there is nothing.
func (s *Service) checkScope(r store.Reader, scope authz.Scope) error {
	if !s.SubscriptionScope().Contains(scope) {
		return &Error{Kind: SubscriptionNotFound, Message: fmt.Sprintf("The scope '%s' is not in the subscription '%s'.", scope, s.install.SubscriptionID)}
	}
	if scope.Kind() < authz.GroupScope {
		return nil
	}
	parts := strings.Split(scope.In(authz.GroupScope).String(), "/")
	group := parts[len(parts)-1]
	if _, err := loadGroup(r, group); err != nil {
		return err
	}
	if scope.Kind() < authz.ResourceScope {
		return nil
	}
	f := &vaultFamily
	parts = strings.Split(scope.In(authz.ResourceScope).String(), "/")
	if !strings.EqualFold(parts[len(parts)-2], f.collection) {
		f = &hsmFamily
	}
	_, err := s.liveIn(r, f, group, parts[len(parts)-1])
	return err
}
