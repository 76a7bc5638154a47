package resource

import (
	"errors"
	"strings"
	"sync"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

// A LocalAssignment gives a principal or a group one of a managed HSM's own roles.
type LocalAssignment struct {
	ID          string // a GUID
	Scope       string // "/", "/keys", "/keys/<name>"; the name in the spelling that was used first
	PrincipalID string
	RoleID      string // of the role's definition
	Created     int64
	CreatedBy   string
}

// localAssignmentRecord is how a local assignment is stored. It does not say in which managed HSM it holds: that is said by its
// key, so that the content of one can be restored into another.
type localAssignmentRecord struct {
	record.Format
	ID            string              `json:"id"`
	Scope         string              `json:"scope"`
	PrincipalID   string              `json:"principalId"`
	PrincipalType authz.PrincipalType `json:"principalType,omitempty"`
	RoleID        string              `json:"roleId"`
	Created       int64               `json:"created"`
	CreatedBy     string              `json:"createdBy,omitempty"`
}

// LocalPrefix is where the roles, assignments and settings of a managed HSM's content are kept. What is left of a content that no
// managed HSM has any more is for the collector.
func LocalPrefix(contentID string) string { return "local/" + contentID + "/" }

func localDefinitionKey(contentID, id string) string {
	return LocalPrefix(contentID) + "definition/" + strings.ToLower(id)
}

func localAssignmentKey(contentID, id string) string {
	return LocalPrefix(contentID) + "assignment/" + strings.ToLower(id)
}

func localGenerationKey(contentID string) string { return LocalPrefix(contentID) + "generation" }

// newLocalGeneration makes a change of local roles known, as newGeneration does.
func newLocalGeneration(tx store.Tx, contentID string) error {
	return record.Put(tx, localGenerationKey(contentID), generationRecord{Format: record.Current(), Value: record.NewID()})
}

// A localState is the roles and assignments of one content in one generation. Nobody may modify it.
type localState struct {
	generation  string
	roles       *authz.Roles
	definitions []*RoleDefinition  // the built-in ones, then the others by id
	assignments []*LocalAssignment // by id
}

// localStates keeps what is compiled, by content.
type localStates struct {
	mu     sync.RWMutex
	states map[string]*localState
}

// maxLocalStates is for how many managed HSMs roles are kept compiled.
const maxLocalStates = 1024

func (l *localStates) get(contentID, generation string) *localState {
	l.mu.RLock()
	defer l.mu.RUnlock()
	if known := l.states[contentID]; known != nil && known.generation == generation {
		return known
	}
	return nil
}

func (l *localStates) put(contentID string, state *localState) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.states == nil {
		l.states = make(map[string]*localState)
	}
	for other := range l.states {
		if len(l.states) < maxLocalStates {
			break
		}
		delete(l.states, other)
	}
	l.states[contentID] = state
}

// localIn returns the local roles of a managed HSM in a snapshot.
func (s *Service) localIn(r store.Reader, v *Vault) (*localState, error) {
	generation := ""
	rec, err := s.generations.Load(r, localGenerationKey(v.ContentID()), record.Decode[generationRecord])
	switch {
	case err == nil:
		generation = rec.Value
	case !errors.Is(err, store.ErrNotFound): // nothing was ever assigned in it
		return nil, err
	}
	if known := s.local.get(v.ContentID(), generation); known != nil {
		return known, nil
	}
	s.compiling.Lock()
	defer s.compiling.Unlock()
	if known := s.local.get(v.ContentID(), generation); known != nil {
		return known, nil
	}
	state, err := s.compileLocal(r, v, generation)
	if err != nil {
		return nil, err
	}
	s.local.put(v.ContentID(), state)
	return state, nil
}

// compileLocal reads all local roles, as compile does.
func (s *Service) compileLocal(r store.Reader, v *Vault, generation string) (*localState, error) {
	state := &localState{generation: generation}
	for _, d := range authz.LocalRoles() {
		state.definitions = append(state.definitions, &RoleDefinition{RoleDefinition: d})
	}
	prefix := localDefinitionKey(v.ContentID(), "")
	err := record.Good(r, prefix, store.PrefixEnd(prefix), func(e store.Entry) error {
		if rec, err := record.Decode[definitionRecord](e.Value); err == nil {
			state.definitions = append(state.definitions, rec.definition())
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	var assignments []authz.Assignment
	prefix = localAssignmentKey(v.ContentID(), "")
	err = record.Good(r, prefix, store.PrefixEnd(prefix), func(e store.Entry) error {
		if rec, err := record.Decode[localAssignmentRecord](e.Value); err == nil {
			state.assignments = append(state.assignments, rec.assignment())
			assignments = append(assignments, rec.compiled(v))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	definitions := make([]authz.RoleDefinition, len(state.definitions))
	for i, d := range state.definitions {
		definitions[i] = d.RoleDefinition
		definitions[i].AssignableScopes = v.outside(d.AssignableScopes)
	}
	state.roles = authz.Compile(v.TenantID, definitions, assignments)
	return state, nil
}

func (r *localAssignmentRecord) assignment() *LocalAssignment {
	return &LocalAssignment{
		ID: r.ID, Scope: r.Scope, PrincipalID: r.PrincipalID, RoleID: r.RoleID, Created: r.Created, CreatedBy: r.CreatedBy,
	}
}

// compiled reads a scope that makes no sense as none, which grants nothing.
func (r *localAssignmentRecord) compiled(v *Vault) authz.Assignment {
	return authz.Assignment{
		ID: r.ID, Scope: v.localScope(r.Scope), PrincipalID: r.PrincipalID, PrincipalType: r.PrincipalType, RoleID: r.RoleID,
	}
}

// outside writes local scopes as they are outside of the managed HSM. One that makes no sense is none there either.
func (v *Vault) outside(scopes []string) []string {
	out := make([]string, len(scopes))
	for i, text := range scopes {
		out[i] = v.localScope(text).String()
	}
	return out
}

// localScope returns the scope that has the name text in the managed HSM.
func (v *Vault) localScope(text string) authz.Scope {
	keys, name, named := strings.Cut(strings.TrimPrefix(text, "/"), "/")
	switch {
	case text == "/":
		return v.Scope()
	case !strings.HasPrefix(text, "/"):
		return authz.Scope{}
	case named:
		return v.Scope().Object(keys, name)
	}
	return v.Scope().Collection(keys)
}
