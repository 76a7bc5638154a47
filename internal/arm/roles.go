package arm

import (
	"net/http"
	"strings"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire"
)

// Microsoft.Authorization: role definitions and role assignments, at every scope.

type roleDefinition struct {
	Properties roleDefinitionProperties `json:"properties"`
	ID         string                   `json:"id"`
	Type       string                   `json:"type"`
	Name       string                   `json:"name"`
}

type roleDefinitionProperties struct {
	RoleName         string           `json:"roleName"`
	Type             string           `json:"type"`
	Description      string           `json:"description"`
	AssignableScopes []string         `json:"assignableScopes"`
	Permissions      []rolePermission `json:"permissions"`
	CreatedOn        string           `json:"createdOn,omitempty"`
	UpdatedOn        string           `json:"updatedOn,omitempty"`
	CreatedBy        string           `json:"createdBy,omitempty"`
	UpdatedBy        string           `json:"updatedBy,omitempty"`
}

type rolePermission struct {
	Actions          []string `json:"actions"`
	NotActions       []string `json:"notActions"`
	DataActions      []string `json:"dataActions"`
	NotDataActions   []string `json:"notDataActions"`
	Condition        string   `json:"condition,omitempty"`
	ConditionVersion string   `json:"conditionVersion,omitempty"`
}

type roleAssignment struct {
	Properties roleAssignmentProperties `json:"properties"`
	ID         string                   `json:"id"`
	Type       string                   `json:"type"`
	Name       string                   `json:"name"`
}

type roleAssignmentProperties struct {
	RoleDefinitionID string  `json:"roleDefinitionId"`
	PrincipalID      string  `json:"principalId"`
	PrincipalType    string  `json:"principalType,omitempty"`
	Scope            string  `json:"scope"`
	Condition        *string `json:"condition"`
	ConditionVersion *string `json:"conditionVersion"`
	CreatedOn        string  `json:"createdOn"`
	UpdatedOn        string  `json:"updatedOn"`
	CreatedBy        string  `json:"createdBy"`
	UpdatedBy        string  `json:"updatedBy"`
	Delegated        *string `json:"delegatedManagedIdentityResourceId"`
	Description      *string `json:"description"`
}

const (
	definitions = "/providers/Microsoft.Authorization/roleDefinitions/"
	assignments = "/providers/Microsoft.Authorization/roleAssignments/"
)

// atScope is what a route does at the scope in the path.
func atScope(do func(q *request, scope authz.Scope) (response, error)) handler {
	return func(q *request) (response, error) {
		scope, err := q.scope()
		if err != nil {
			return response{}, err
		}
		return do(q, scope)
	}
}

// scope reads the part of the path in front of the provider.
func (q *request) scope() (authz.Scope, error) {
	scope, err := authz.ParseScope(q.params.scope)
	if err != nil {
		return scope, &wireError{status: http.StatusBadRequest, code: "InvalidScope", message: sprintf("The scope in the path is none: %v.", err)}
	}
	q.outcome.Resource = strings.ToUpper(scope.String())
	if !q.ours(scope) {
		return scope, &wireError{status: http.StatusNotFound, code: "SubscriptionNotFound", message: "The subscription of the scope could not be found."}
	}
	return scope, nil
}

// ours tells whether a scope lies in the installation's subscription, or above.
func (q *request) ours(scope authz.Scope) bool {
	subscription := q.resources().SubscriptionScope()
	return subscription.Contains(scope) || scope == authz.Root
}

// definitionID is the id of a role as it stands in assignments: within the subscription.
func (q *request) definitionID(id string) string { return q.subscriptionID() + definitions + id }

func (q *request) roleDefinition(d *resource.RoleDefinition) roleDefinition {
	out := roleDefinition{ID: q.definitionID(d.ID), Type: "Microsoft.Authorization/roleDefinitions", Name: d.ID}
	out.Properties = roleDefinitionProperties{
		RoleName: d.Name, Type: "CustomRole", Description: d.Description, AssignableScopes: orNone(d.AssignableScopes),
		CreatedBy: d.CreatedBy, UpdatedBy: d.ModifiedBy, Permissions: []rolePermission{},
	}
	if d.BuiltIn {
		out.Properties.Type = "BuiltInRole"
	} else {
		out.Properties.CreatedOn, out.Properties.UpdatedOn = precise(d.Created), precise(d.Modified)
	}
	for _, p := range d.Permissions {
		out.Properties.Permissions = append(out.Properties.Permissions, rolePermission{
			orNone(p.Actions), orNone(p.NotActions), orNone(p.DataActions), orNone(p.NotDataActions), p.Condition, p.ConditionVersion,
		})
	}
	return out
}

// orNone keeps an empty list from becoming null.
func orNone(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func listRoleDefinitions(q *request, scope authz.Scope) (response, error) {
	filter, err := roleFilter(q.query.Get("$filter"))
	if err != nil {
		return response{}, err
	}
	found, err := q.resources().ListRoleDefinitions(q.ctx, q.actor(), scope, filter)
	if err != nil {
		return response{}, err
	}
	return page(q, found, func(d *resource.RoleDefinition) string { return d.ID }, q.roleDefinition)
}

// roleFilter reads "roleName eq '…'", "type eq 'BuiltInRole'" or 'CustomRole', and atScopeAndBelow(), which is what a list
// holds anyway.
func roleFilter(text string) (f resource.RoleFilter, err error) {
	clauses, err := parseFilter(text)
	if err != nil {
		return f, err
	}
	for _, c := range clauses {
		switch {
		case c.is("", "roleName") && f.Name == "" && c.value != "":
			f.Name = c.value
		case c.is("", "type") && equalFold(c.value, "BuiltInRole"):
			f.BuiltIn = true
		case c.is("", "type") && equalFold(c.value, "CustomRole"):
			f.Custom = true
		case c == clause{function: c.function} && equalFold(c.function, "atScopeAndBelow"):
		default:
			return f, badFilter("role definitions can be listed by roleName eq '…', type eq 'BuiltInRole', type eq 'CustomRole' and " +
				"atScopeAndBelow() only.")
		}
	}
	return f, nil
}

func getRoleDefinition(q *request, scope authz.Scope) (response, error) {
	d, err := q.resources().GetRoleDefinition(q.ctx, q.actor(), scope, asciiLower(q.params.id))
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.roleDefinition(d))
}

func putRoleDefinition(q *request, scope authz.Scope) (response, error) {
	_, properties, err := q.properties()
	if err != nil {
		return response{}, err
	}
	def, err := properties.RoleDefinition()
	if err == nil && def.Name == "" {
		err = properties.Missing("roleName")
	}
	if err != nil {
		return response{}, err
	}
	d, _, err := q.resources().PutRoleDefinition(q.ctx, q.actor(), scope, q.params.id, def)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusCreated, q.roleDefinition(d)) // also for one that is changed
}

func deleteRoleDefinition(q *request, scope authz.Scope) (response, error) {
	d, err := q.resources().DeleteRoleDefinition(q.ctx, q.actor(), scope, asciiLower(q.params.id))
	if err != nil {
		return response{}, err
	}
	if d == nil {
		return deleted(false)
	}
	return reply(http.StatusOK, q.roleDefinition(d))
}

func (q *request) roleAssignment(a *resource.RoleAssignment) roleAssignment {
	scope := spelled(a.Scope)
	return roleAssignment{
		ID: strings.TrimSuffix(scope, "/") + assignments + a.ID, Type: "Microsoft.Authorization/roleAssignments", Name: a.ID,
		Properties: roleAssignmentProperties{
			RoleDefinitionID: q.definitionID(a.RoleID), PrincipalID: a.PrincipalID, PrincipalType: string(a.PrincipalType), Scope: scope,
			Condition: orNull(a.Condition), ConditionVersion: orNull(a.ConditionVersion), CreatedOn: precise(a.Created),
			UpdatedOn: precise(a.Modified), CreatedBy: a.CreatedBy, UpdatedBy: a.ModifiedBy, Description: orNull(a.Description),
		},
	}
}

// spelled writes a scope with its literals as Azure spells them. Names stay in lower case, in which scopes are kept.
func spelled(scope authz.Scope) string {
	segments := strings.Split(scope.String(), "/")
	for i, literal := range map[int]string{3: "resourceGroups", 5: "providers", 6: "Microsoft.KeyVault", 7: hsmType} {
		if i < len(segments) && equalFold(segments[i], literal) {
			segments[i] = literal
		}
	}
	return strings.Join(segments, "/")
}

func orNull(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

func listRoleAssignments(q *request, scope authz.Scope) (response, error) {
	filter, err := assignmentFilter(q.query.Get("$filter"))
	if err != nil {
		return response{}, err
	}
	found, err := q.resources().ListRoleAssignments(q.ctx, q.actor(), scope, filter)
	if err != nil {
		return response{}, err
	}
	return page(q, found, func(a *resource.RoleAssignment) string { return a.ID }, q.roleAssignment)
}

// assignmentFilter reads atScope(), "principalId eq '…'" and assignedTo('…').
func assignmentFilter(text string) (f resource.AssignmentFilter, err error) {
	clauses, err := parseFilter(text)
	if err != nil {
		return f, err
	}
	for _, c := range clauses {
		switch {
		case c == clause{function: c.function} && equalFold(c.function, "atScope"):
			f.AtScope = true
		case c.is("", "principalId") && f.PrincipalID == "" && c.value != "":
			f.PrincipalID = c.value
		case c.is("assignedTo", "") && f.AssignedTo == "" && c.value != "":
			f.AssignedTo = c.value
		default:
			return f, badFilter("role assignments can be listed by atScope(), principalId eq '…' and assignedTo('…') only.")
		}
	}
	return f, nil
}

func getRoleAssignment(q *request, scope authz.Scope) (response, error) {
	a, err := q.resources().GetRoleAssignment(q.ctx, q.actor(), scope, asciiLower(q.params.id))
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.roleAssignment(a))
}

func putRoleAssignment(q *request, scope authz.Scope) (response, error) {
	_, properties, err := q.properties()
	if err != nil {
		return response{}, err
	}
	p, err := q.readAssignment(properties)
	if err != nil {
		return response{}, err
	}
	a, created, err := q.resources().PutRoleAssignment(q.ctx, q.actor(), scope, q.params.id, p)
	if err != nil {
		return response{}, err
	}
	return saved(created, q.roleAssignment(a))
}

func (q *request) readAssignment(o wire.Object) (p resource.AssignmentParams, err error) {
	role, err := o.Required("roleDefinitionId")
	if err != nil {
		return p, err
	}
	var ok bool
	if p.RoleDefinitionID, ok = q.roleID(role); !ok {
		return p, o.WrongType("roleDefinitionId", "the id of a role definition: "+q.definitionID("<GUID>"))
	}
	if p.PrincipalID, err = o.Required("principalId"); err != nil {
		return p, err
	}
	kind, err := choice(o, "principalType", string(authz.UserPrincipal), string(authz.GroupPrincipal), string(authz.ServicePrincipal))
	if err != nil {
		return p, err
	}
	p.PrincipalType = authz.PrincipalType(kind)
	if p.Condition, err = o.TextOrNone("condition"); err != nil {
		return p, err
	}
	if p.ConditionVersion, err = o.TextOrNone("conditionVersion"); err != nil {
		return p, err
	}
	p.Description, err = o.TextOrNone("description")
	return p, err
}

// roleID returns the GUID in the id of a role definition, which names the role at the root, or at some scope of the
// installation's: it is the same role.
func (q *request) roleID(id string) (string, bool) {
	scope, guid, ok := cutRoleID(id)
	return guid, ok && q.ours(scope)
}

// cutRoleID cuts the id of a role definition into its scope and the role.
func cutRoleID(id string) (scope authz.Scope, guid string, ok bool) {
	at := strings.LastIndexByte(id, '/') + 1
	path, found := cutSuffixFold(id[:at], definitions[1:])
	if !found || id[at:] == "" {
		return authz.Scope{}, "", false
	}
	if path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	scope, err := authz.ParseScope(path)
	return scope, id[at:], err == nil
}

func deleteRoleAssignment(q *request, scope authz.Scope) (response, error) {
	a, err := q.resources().DeleteRoleAssignment(q.ctx, q.actor(), scope, asciiLower(q.params.id))
	if err != nil {
		return response{}, err
	}
	if a == nil {
		return deleted(false)
	}
	return reply(http.StatusOK, q.roleAssignment(a))
}
