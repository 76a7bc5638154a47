package resource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

// A LocalOperation is one thing that can be asked about a managed HSM itself.
type LocalOperation struct {
	Name       string // as in the audit log
	Permission authz.Permission
}

func localOperation(name, verb, action string) LocalOperation {
	return LocalOperation{name, authz.Permission{Object: "managedHsm", Verb: verb, HSMAction: "Microsoft.KeyVault/managedHsm/" + action}}
}

// The operations on a managed HSM's own roles and on its settings.
var (
	LocalDefinitionList   = localOperation("RoleDefinitionList", "roleDefinitions read", "roleDefinitions/read/action")
	LocalDefinitionGet    = localOperation("RoleDefinitionGet", "roleDefinitions read", "roleDefinitions/read/action")
	LocalDefinitionPut    = localOperation("RoleDefinitionPut", "roleDefinitions write", "roleDefinitions/write/action")
	LocalDefinitionDelete = localOperation("RoleDefinitionDelete", "roleDefinitions delete", "roleDefinitions/delete/action")
	LocalAssignmentList   = localOperation("RoleAssignmentList", "roleAssignments read", "roleAssignments/read/action")
	LocalAssignmentGet    = localOperation("RoleAssignmentGet", "roleAssignments read", "roleAssignments/read/action")
	LocalAssignmentPut    = localOperation("RoleAssignmentPut", "roleAssignments write", "roleAssignments/write/action")
	LocalAssignmentDelete = localOperation("RoleAssignmentDelete", "roleAssignments delete", "roleAssignments/delete/action")
	SettingList           = localOperation("SettingList", "settings read", "settings/read/action")
	SettingGet            = localOperation("SettingGet", "settings read", "settings/read/action")
	SettingUpdate         = localOperation("SettingUpdate", "settings write", "settings/write/action")
)

// Limits of a managed HSM. Azure's are 50 custom roles too; of assignments it has 50 at "/" and 10 at each key.
const (
	maxLocalDefinitions = 50
	maxLocalAssignments = 2000
)

// wholeHSM is the scope of what concerns the managed HSM as a whole.
const wholeHSM = "/"

// A hsmView is a managed HSM in a snapshot, with who asks.
type hsmView struct {
	v     *Vault
	state *localState
	by    authz.Subject
	all   bool // an operator asks, who may do everything
}

// viewHSM returns the managed HSM of that name, if it is in use.
func (s *Service) viewHSM(r store.Reader, a Actor, name string) (*hsmView, error) {
	v, err := s.LoadHSM(r, name)
	if errors.Is(err, ErrVaultNotFound) {
		return nil, &Error{Kind: HSMNotFound, Message: fmt.Sprintf("There is no managed HSM named %.64q on this server.", name)}
	}
	if err != nil {
		return nil, err
	}
	if err := v.InUse(); err != nil {
		return nil, err
	}
	state, err := s.localIn(r, v)
	if err != nil {
		return nil, err
	}
	return &hsmView{v: v, state: state, by: a.subject(), all: a.Operator != ""}, nil
}

// may tells whether the operation is allowed at a scope.
func (h *hsmView) may(op LocalOperation, scope string) bool {
	return h.ask(op, scope) == nil
}

// ask is may with the refusal.
func (h *hsmView) ask(op LocalOperation, scope string) error {
	if h.all {
		return nil
	}
	policy := h.v.policy
	policy.Roles = h.state.roles
	d := authz.Decide(policy, h.by, op.Permission, h.v.localScope(scope))
	if d.Allowed {
		return nil
	}
	return &Error{
		Kind:    LocalAccessDenied,
		Message: fmt.Sprintf("Not authorized to access %s on %s", op.Permission.HSMAction, bounded(scope)),
		Reason:  d.Reason,
	}
}

// AuthorizeLocal tells whether the actor may perform an operation at a scope of a managed HSM, for callers that must know before
// they take in more of a request. The operation itself asks again.
func (s *Service) AuthorizeLocal(ctx context.Context, a Actor, hsm string, op LocalOperation, scope string) error {
	return s.askLocal(ctx, a, hsm, op, scope, func(*hsmView) error { return nil })
}

// askLocal runs fn in the snapshot in which the actor was authorised.
func (s *Service) askLocal(ctx context.Context, a Actor, hsm string, op LocalOperation, scope string, fn func(*hsmView) error) error {
	return s.db.View(ctx, func(r store.Reader) error {
		h, err := s.viewHSM(r, a, hsm)
		if err == nil {
			err = h.ask(op, scope)
		}
		if err != nil {
			return err
		}
		return fn(h)
	})
}

// changeLocal is change for something about a managed HSM's own roles or settings. about tells in the audit log what it is; it
// must still be so when it is done.
func (s *Service) changeLocal(ctx context.Context, a Actor, hsm string, op LocalOperation, id string, check func(*hsmView) (about string, err error),
	fn func(tx store.Tx, h *hsmView) error) error {
	d := deed{operation: op.Name, id: bounded(id)}
	look := func(r store.Reader) (*hsmView, string, error) {
		h, err := s.viewHSM(r, a, hsm)
		if err != nil {
			return nil, "", err
		}
		about, err := check(h)
		return h, about, err
	}
	err := s.db.View(ctx, func(r store.Reader) error {
		h, about, err := look(r)
		if err == nil {
			d.resource, d.detail = h.v.Resource(), about
		}
		return err
	})
	if err != nil {
		return err
	}
	may := func(r store.Reader) error {
		_, about, err := look(r)
		if err == nil && about != d.detail {
			err = changedMeanwhile("managed HSM's roles")
		}
		return err
	}
	return s.change(ctx, a, d, may, func(tx store.Tx) error {
		h, err := s.viewHSM(tx, a, hsm)
		if err != nil {
			return err
		}
		return fn(tx, h)
	})
}

// ListLocalDefinitions returns the roles of a managed HSM: the built-in ones, then the others. Nobody may modify them.
func (s *Service) ListLocalDefinitions(ctx context.Context, a Actor, hsm, scope string) (out []*RoleDefinition, err error) {
	err = s.askLocal(ctx, a, hsm, LocalDefinitionList, scope, func(h *hsmView) error {
		out = h.state.definitions
		return nil
	})
	return out, err
}

// GetLocalDefinition returns a role of a managed HSM. Nobody may modify it.
func (s *Service) GetLocalDefinition(ctx context.Context, a Actor, hsm, scope, id string) (out *RoleDefinition, err error) {
	err = s.askLocal(ctx, a, hsm, LocalDefinitionGet, scope, func(h *hsmView) error {
		if out = h.state.definition(id); out == nil {
			return noLocalDefinition()
		}
		return nil
	})
	return out, err
}

// PutLocalDefinition makes or changes the custom role with that id. Roles belong to the managed HSM as a whole, and so does the
// right to write them. It needs the right to assign roles beside, because whoever changes a role that is in use hands on rights.
func (s *Service) PutLocalDefinition(ctx context.Context, a Actor, hsm, id string, def authz.RoleDefinition) (out *RoleDefinition, err error) {
	guid, ok := someGUID(id)
	if !ok {
		return nil, &Error{Kind: BadRequest, Message: "Role definition name must be a GUID"}
	}
	def.ID, def.BuiltIn = guid, false
	check := func(h *hsmView) (string, error) {
		for _, op := range []LocalOperation{LocalDefinitionPut, LocalAssignmentPut} {
			if err := h.ask(op, wholeHSM); err != nil {
				return "", err
			}
		}
		if authz.IsLocalRole(def.ID, def.Name) {
			return "", &Error{Kind: BadRequest, Message: "Cannot re-use the name/GUID matching that of a built-in role. Please use a unique role ID."}
		}
		clean, err := authz.CheckLocalRole(def)
		if err != nil {
			return "", invalidText("properties", err)
		}
		def = clean
		for i, text := range def.AssignableScopes {
			def.AssignableScopes[i] = spelledScope(text)
		}
		if !h.v.localScopes(def.AssignableScopes) {
			return "", invalidProperty("assignableScopes", "The assignable scopes of a role are of the form /, /keys or /keys/<name>.")
		}
		return definitionDetail(def), nil
	}
	err = s.changeLocal(ctx, a, hsm, LocalDefinitionPut, guid, check, func(tx store.Tx, h *hsmView) error {
		old := h.state.definition(guid)
		if err := h.checkDefinition(def, old); err != nil {
			return err
		}
		now := s.now().Unix()
		by, _ := a.name()
		out = &RoleDefinition{RoleDefinition: def, Created: now, CreatedBy: by, Modified: now, ModifiedBy: by}
		if old != nil {
			out.Created, out.CreatedBy = old.Created, old.CreatedBy
		}
		content := h.v.ContentID()
		return errors.Join(record.Put(tx, localDefinitionKey(content, guid), out.record()), newLocalGeneration(tx, content))
	})
	return out, err
}

// checkDefinition refuses a role that does not fit to what is there. old is nil for a new one.
func (h *hsmView) checkDefinition(def authz.RoleDefinition, old *RoleDefinition) error {
	custom := 0
	for _, d := range h.state.definitions {
		if !d.BuiltIn {
			custom++
		}
		if d != old && def.Name != "" && strings.EqualFold(strings.TrimSpace(d.Name), strings.TrimSpace(def.Name)) {
			return sameName(def.Name)
		}
	}
	if old == nil {
		if custom >= maxLocalDefinitions {
			return &Error{Kind: LimitExceeded, Message: fmt.Sprintf("There are %d custom roles, and there cannot be more. Delete one first.",
				maxLocalDefinitions)}
		}
		return nil
	}
	for _, as := range h.state.assignments {
		if strings.EqualFold(as.RoleID, def.ID) && !h.v.assignableAt(def, as.Scope) {
			return &Error{Kind: RoleDefinitionHasAssignments, Message: fmt.Sprintf("The role is assigned at %s, which would no longer be one of "+
				"its assignable scopes. Remove that assignment first.", bounded(as.Scope))}
		}
	}
	grants := func(id string) bool {
		if strings.EqualFold(id, def.ID) {
			return authz.LocalRoleAllows(def, LocalAssignmentPut.Permission.HSMAction)
		}
		return h.state.grantsWriting(id)
	}
	return h.keepsWriter(h.state.assignments, grants)
}

// DeleteLocalDefinition removes a custom role that nobody has, and returns it.
func (s *Service) DeleteLocalDefinition(ctx context.Context, a Actor, hsm, id string) (gone *RoleDefinition, err error) {
	check := func(h *hsmView) (string, error) {
		if err := h.ask(LocalDefinitionDelete, wholeHSM); err != nil {
			return "", err
		}
		d := h.state.definition(id)
		switch {
		case d == nil:
			return "", noLocalDefinition()
		case d.BuiltIn:
			return "", builtIn(d.Name)
		}
		return definitionDetail(d.RoleDefinition), nil
	}
	err = s.changeLocal(ctx, a, hsm, LocalDefinitionDelete, id, check, func(tx store.Tx, h *hsmView) error {
		gone = h.state.definition(id)
		for _, as := range h.state.assignments {
			if strings.EqualFold(as.RoleID, gone.ID) {
				return &Error{Kind: RoleDefinitionHasAssignments, Message: fmt.Sprintf("The role '%s' is assigned at %s. Remove its assignments "+
					"first.", bounded(gone.Name), bounded(as.Scope))}
			}
		}
		content := h.v.ContentID()
		return errors.Join(tx.Delete(localDefinitionKey(content, gone.ID)), newLocalGeneration(tx, content))
	})
	return gone, err
}

// LocalAssignmentFilter limits a list of local role assignments.
type LocalAssignmentFilter struct {
	AtScope     bool   // only those at the scope itself and above
	PrincipalID string // only those to that principal or group
}

// ListLocalAssignments returns the assignments of a managed HSM, whatever the scope at which they are asked for, as the service
// does. Those at scopes where the actor may not read assignments are left out. Nobody may modify them.
func (s *Service) ListLocalAssignments(ctx context.Context, a Actor, hsm, scope string, f LocalAssignmentFilter) (out []*LocalAssignment, err error) {
	err = s.askLocal(ctx, a, hsm, LocalAssignmentList, scope, func(h *hsmView) error {
		at := h.v.localScope(scope)
		for _, as := range h.state.assignments {
			switch {
			case f.PrincipalID != "" && !strings.EqualFold(f.PrincipalID, as.PrincipalID):
			case f.AtScope && !h.v.localScope(as.Scope).Contains(at):
			case h.may(LocalAssignmentList, as.Scope):
				out = append(out, as)
			}
		}
		return nil
	})
	return out, err
}

// GetLocalAssignment returns an assignment of a managed HSM. It is found by its name, whatever the scope at which it is asked for.
func (s *Service) GetLocalAssignment(ctx context.Context, a Actor, hsm, scope, id string) (out *LocalAssignment, err error) {
	err = s.askLocal(ctx, a, hsm, LocalAssignmentGet, scope, func(h *hsmView) error {
		out, err = h.findAssignment(LocalAssignmentGet, id)
		return err
	})
	return out, err
}

// findAssignment returns the assignment with that id, if the operation is allowed where it holds. Who may not read it there does
// not learn that it is there.
func (h *hsmView) findAssignment(op LocalOperation, id string) (*LocalAssignment, error) {
	as := h.state.assignment(id)
	if as == nil || !h.may(LocalAssignmentGet, as.Scope) && !h.may(op, as.Scope) {
		return nil, &Error{Kind: RoleAssignmentNotFound, Message: "Requested role assignment not found"}
	}
	return as, h.ask(op, as.Scope)
}

// CreateLocalAssignment gives a role to a principal or a group, at a scope. Who may do that may give any role, also one whose
// rights he does not have: so it is in Azure, where a Policy Administrator does nothing else.
func (s *Service) CreateLocalAssignment(ctx context.Context, a Actor, hsm, scope, id, principal, role string) (out *LocalAssignment, err error) {
	guid, ok := someGUID(id)
	if !ok {
		return nil, &Error{Kind: BadRequest, Message: "Role assignment name must be a GUID"}
	}
	next := LocalAssignment{ID: guid, Scope: spelledScope(scope)}
	if next.PrincipalID, ok = someGUID(principal); !ok {
		return nil, invalidProperty("principalId", "The principal id '%s' is no object id, which is a GUID.", bounded(principal))
	}
	if next.RoleID, ok = someGUID(role); !ok {
		return nil, invalidProperty("roleDefinitionId", "The role definition id '%s' is no GUID.", bounded(role))
	}
	check := func(h *hsmView) (string, error) {
		if h.v.localScope(scope).Kind() == authz.NoScope {
			return "", invalidProperty("scope", "The scope '%s' is none of /, /keys and /keys/<name>.", bounded(scope))
		}
		if err := h.ask(LocalAssignmentPut, scope); err != nil {
			return "", err
		}
		if h.state.definition(next.RoleID) == nil {
			return "", noLocalDefinition()
		}
		return next.detail(), nil
	}
	err = s.changeLocal(ctx, a, hsm, LocalAssignmentPut, guid, check, func(tx store.Tx, h *hsmView) error {
		if err := h.checkAssignment(&next); err != nil {
			return err
		}
		created := next
		created.Created = s.now().Unix()
		created.CreatedBy, _ = a.name()
		out = &created
		content := h.v.ContentID()
		return errors.Join(record.Put(tx, localAssignmentKey(content, guid), created.record()), newLocalGeneration(tx, content))
	})
	return out, err
}

// checkAssignment refuses an assignment that does not fit to what is there.
func (h *hsmView) checkAssignment(next *LocalAssignment) error {
	for _, as := range h.state.assignments {
		same := strings.EqualFold(as.PrincipalID, next.PrincipalID) && strings.EqualFold(as.RoleID, next.RoleID) &&
			strings.EqualFold(as.Scope, next.Scope)
		switch {
		case same:
			return &Error{Kind: RoleAssignmentExists, Message: "The role assignment already exists."}
		case strings.EqualFold(as.ID, next.ID):
			return &Error{Kind: ConflictError, Message: "There is another role assignment of that name. An assignment does not change: delete " +
				"it, or use another name."}
		}
	}
	d := h.state.definition(next.RoleID)
	switch {
	case !h.v.assignableAt(d.RoleDefinition, next.Scope):
		return invalidProperty("scope", "The role '%s' cannot be assigned at %s: its assignable scopes are %s.", bounded(d.Name), bounded(next.Scope),
			bounded(strings.Join(d.AssignableScopes, ", ")))
	case len(h.state.assignments) >= maxLocalAssignments:
		return &Error{Kind: LimitExceeded, Message: fmt.Sprintf("There are %d role assignments, and there cannot be more. Delete one, or assign "+
			"a role to a group.", maxLocalAssignments)}
	}
	return nil
}

// DeleteLocalAssignment takes a role away, and returns the assignment that was.
func (s *Service) DeleteLocalAssignment(ctx context.Context, a Actor, hsm, scope, id string) (gone *LocalAssignment, err error) {
	check := func(h *hsmView) (string, error) {
		if err := h.ask(LocalAssignmentDelete, scope); err != nil {
			return "", err
		}
		as, err := h.findAssignment(LocalAssignmentDelete, id)
		if err != nil {
			return "", err
		}
		return as.detail(), nil
	}
	err = s.changeLocal(ctx, a, hsm, LocalAssignmentDelete, id, check, func(tx store.Tx, h *hsmView) error {
		gone = h.state.assignment(id)
		rest := slices.DeleteFunc(slices.Clone(h.state.assignments), func(as *LocalAssignment) bool { return as == gone })
		if err := h.keepsWriter(rest, h.state.grantsWriting); err != nil {
			return err
		}
		content := h.v.ContentID()
		return errors.Join(tx.Delete(localAssignmentKey(content, gone.ID)), newLocalGeneration(tx, content))
	})
	return gone, err
}

// keepsWriter refuses a change after which nobody could assign roles at "/" any more: there is no other door, so the managed HSM
// would be lost with the first role that is missing. A managed HSM that has nobody is not hindered.
func (h *hsmView) keepsWriter(assignments []*LocalAssignment, grants func(roleID string) bool) error {
	writes := func(grants func(string) bool) func(*LocalAssignment) bool {
		return func(as *LocalAssignment) bool { return as.Scope == wholeHSM && grants(as.RoleID) }
	}
	if slices.ContainsFunc(assignments, writes(grants)) || !slices.ContainsFunc(h.state.assignments, writes(h.state.grantsWriting)) {
		return nil
	}
	return &Error{Kind: ConflictError, Message: "Nobody could assign roles in this managed HSM any more. First assign Managed HSM " +
		"Administrator, or another role with Microsoft.KeyVault/managedHsm/roleAssignments/write/action, to somebody else at the scope /."}
}

// grantsWriting tells whether a role lets its holders assign roles.
func (st *localState) grantsWriting(roleID string) bool {
	d := st.definition(roleID)
	return d != nil && authz.LocalRoleAllows(d.RoleDefinition, LocalAssignmentPut.Permission.HSMAction)
}

func (st *localState) definition(id string) *RoleDefinition {
	i := slices.IndexFunc(st.definitions, func(d *RoleDefinition) bool { return strings.EqualFold(d.ID, id) })
	if i < 0 {
		return nil
	}
	return st.definitions[i]
}

func (st *localState) assignment(id string) *LocalAssignment {
	i := slices.IndexFunc(st.assignments, func(a *LocalAssignment) bool { return strings.EqualFold(a.ID, id) })
	if i < 0 {
		return nil
	}
	return st.assignments[i]
}

// spelledScope writes a local scope in its usual spelling. The name of a key stays as it is.
func spelledScope(text string) string {
	const keys = "/keys"
	if len(text) >= len(keys) && strings.EqualFold(text[:len(keys)], keys) {
		return keys + text[len(keys):]
	}
	return text
}

// localScopes tells whether all texts are scopes of the managed HSM.
func (v *Vault) localScopes(texts []string) bool {
	return !slices.ContainsFunc(texts, func(text string) bool { return v.localScope(text).Kind() == authz.NoScope })
}

// assignableAt tells whether a local role may be assigned at a local scope.
func (v *Vault) assignableAt(d authz.RoleDefinition, scope string) bool {
	at := v.localScope(scope)
	return slices.ContainsFunc(d.AssignableScopes, func(text string) bool { return v.localScope(text).Contains(at) })
}

func (a *LocalAssignment) record() localAssignmentRecord {
	return localAssignmentRecord{
		Format: record.Current(), ID: a.ID, Scope: a.Scope, PrincipalID: a.PrincipalID, RoleID: a.RoleID, Created: a.Created,
		CreatedBy: a.CreatedBy,
	}
}

// detail tells whom the assignment gives what.
func (a *LocalAssignment) detail() string {
	return fmt.Sprintf("principal %s role %s scope %s", a.PrincipalID, a.RoleID, bounded(a.Scope))
}

// someGUID is parseGUID without the id of nobody, which stands for nothing in a decision.
func someGUID(text string) (string, bool) {
	guid, ok := parseGUID(text)
	return guid, ok && guid != uuid.Nil.String()
}

func noLocalDefinition() error {
	return &Error{Kind: RoleDefinitionDoesNotExist, Message: "Requested role definition not found"}
}
