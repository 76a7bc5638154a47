package api

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire"
)

// A managed HSM's own roles (contract §10). Their paths begin with the scope, which is the whole HSM, all keys or one key.

const (
	maxDefinition = 64 << 10
	maxAssignment = 8 << 10
)

// localScopes are the scopes as a path has them.
var localScopes = []string{"", "/keys", "/keys/{name}"}

// localRoutes are the rows of the table for roles, once for each kind of scope.
func localRoutes() []route {
	const definitions, assignments = "/providers/microsoft.authorization/roledefinitions", "/providers/microsoft.authorization/roleassignments"
	var out []route
	for _, scope := range localScopes {
		out = append(out,
			local(resource.LocalDefinitionList, "GET", scope+definitions, 200, 0, listLocalDefinitions),
			local(resource.LocalDefinitionGet, "GET", scope+definitions+"/{id}", 200, 0, getLocalDefinition),
			local(resource.LocalDefinitionPut, "PUT", scope+definitions+"/{id}", 201, maxDefinition, putLocalDefinition),
			local(resource.LocalDefinitionDelete, "DELETE", scope+definitions+"/{id}", 200, 0, deleteLocalDefinition),
			local(resource.LocalAssignmentList, "GET", scope+assignments, 200, 0, listLocalAssignments),
			local(resource.LocalAssignmentGet, "GET", scope+assignments+"/{id}", 200, 0, getLocalAssignment),
			local(resource.LocalAssignmentPut, "PUT", scope+assignments+"/{id}", 201, maxAssignment, putLocalAssignment),
			local(resource.LocalAssignmentDelete, "DELETE", scope+assignments+"/{id}", 200, 0, deleteLocalAssignment),
		)
	}
	return out
}

func local(op resource.LocalOperation, method, pattern string, success int, maxBody int64, handle handler) route {
	return route{Operation: keyvault.Operation(op), Method: method, Pattern: pattern, Success: success, MaxBody: maxBody, Family: hsms, handle: handle}
}

const authorization = "microsoft.authorization"

// inScope makes one path of all spellings that clients have for a scope in front of providers/Microsoft.Authorization: with slashes too
// many, or with escaped ones ("//keys//providers/…", "/%2Fkeys/providers/…"). It is done once, before the path is compared with the
// table, so what is decided is about what is answered.
func inScope(segments []string) []string {
	at := slices.IndexFunc(segments, func(s string) bool { return len(s) == len(authorization) && strings.EqualFold(s, authorization) })
	if at < 2 || !strings.EqualFold(segments[at-1], "providers") {
		return segments
	}
	scope := strings.Split(strings.Join(segments[:at-1], "/"), "/")
	scope = slices.DeleteFunc(scope, func(s string) bool { return s == "" })
	return append(scope, segments[at-1:]...)
}

// localScope returns the scope that the path begins with.
func (q *request) localScope() string {
	switch {
	case q.params.name != "":
		return "/keys/" + q.params.name
	case q.route.segments[0] == "keys":
		return "/keys"
	}
	return "/"
}

// actor is who asks. What is put on record of a change before is put on record of its outcome, too.
func (q *request) actor() resource.Actor {
	return resource.Actor{Caller: q.caller, Note: func(_, detail string) { q.outcome.Detail = detail }}
}

// localBody reads the body of who may ask.
func (q *request) localBody(op resource.LocalOperation, scope string) (wire.Object, error) {
	if err := q.h.cfg.Resources.AuthorizeLocal(q.ctx, q.actor(), q.vault, op, scope); err != nil {
		return wire.Object{}, err
	}
	return q.readBody()
}

type localDefinition struct {
	ID         string                    `json:"id"`
	Name       string                    `json:"name"`
	Properties localDefinitionProperties `json:"properties"`
	Type       string                    `json:"type"`
}

type localDefinitionProperties struct {
	AssignableScopes []string          `json:"assignableScopes"`
	Description      string            `json:"description"`
	Permissions      []localPermission `json:"permissions"`
	RoleName         string            `json:"roleName"`
	Type             string            `json:"type"`
}

type localPermission struct {
	Actions        []string `json:"actions"`
	DataActions    []string `json:"dataActions"`
	NotActions     []string `json:"notActions"`
	NotDataActions []string `json:"notDataActions"`
}

type localAssignment struct {
	ID         string                    `json:"id"`
	Name       string                    `json:"name"`
	Properties localAssignmentProperties `json:"properties"`
	Type       string                    `json:"type"`
}

type localAssignmentProperties struct {
	PrincipalID      string `json:"principalId"`
	RoleDefinitionID string `json:"roleDefinitionId"`
	Scope            string `json:"scope"`
}

// listOfAll is a list without pages.
type listOfAll[T any] struct {
	Value []T `json:"value"`
}

// definitionIDs is what the ids of roles begin with. They have no slash in front (recorded), unlike those of assignments.
const definitionIDs = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/"

func showLocalDefinition(d *resource.RoleDefinition) localDefinition {
	kind := "CustomRole"
	if d.BuiltIn {
		kind = "AKVBuiltInRole"
	}
	out := localDefinition{
		ID: definitionIDs + d.ID, Name: d.ID, Type: "Microsoft.Authorization/roleDefinitions",
		Properties: localDefinitionProperties{
			AssignableScopes: d.AssignableScopes, Description: d.Description, Permissions: []localPermission{}, RoleName: d.Name, Type: kind,
		},
	}
	for _, p := range d.Permissions {
		out.Properties.Permissions = append(out.Properties.Permissions, localPermission{
			orEmpty(p.Actions), orEmpty(p.DataActions), orEmpty(p.NotActions), orEmpty(p.NotDataActions),
		})
	}
	return out
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func showLocalAssignment(a *resource.LocalAssignment) localAssignment {
	return localAssignment{
		// Without the scope, which is a property (recorded).
		ID: "/providers/Microsoft.Authorization/roleAssignments/" + a.ID, Name: a.ID, Type: "Microsoft.Authorization/roleAssignments",
		Properties: localAssignmentProperties{PrincipalID: a.PrincipalID, RoleDefinitionID: definitionIDs + a.RoleID, Scope: a.Scope},
	}
}

// answered makes an answer of one thing, or the refusal.
func answered[T, W any](status int, found T, err error, show func(T) W) (response, error) {
	if err != nil {
		return response{}, err
	}
	return jsonResponse(status, show(found))
}

func listAnswered[T, W any](found []T, err error, show func(T) W) (response, error) {
	if err != nil {
		return response{}, err
	}
	out := listOfAll[W]{Value: make([]W, len(found))}
	for i, item := range found {
		out.Value[i] = show(item)
	}
	return jsonResponse(http.StatusOK, out)
}

func listLocalDefinitions(q *request) (response, error) {
	if text := q.query.Get("$filter"); text != "" && !strings.EqualFold(strings.TrimSpace(text), "atScopeAndBelow()") {
		return response{}, badParameter("The filter is not understood. Role definitions can be listed without one, or with atScopeAndBelow().")
	}
	found, err := q.h.cfg.Resources.ListLocalDefinitions(q.ctx, q.actor(), q.vault, q.localScope())
	return listAnswered(found, err, showLocalDefinition)
}

func getLocalDefinition(q *request) (response, error) {
	d, err := q.h.cfg.Resources.GetLocalDefinition(q.ctx, q.actor(), q.vault, q.localScope(), q.params.id)
	return answered(http.StatusOK, d, err, showLocalDefinition)
}

func putLocalDefinition(q *request) (response, error) {
	body, err := q.localBody(resource.LocalDefinitionPut, "/")
	if err != nil {
		return response{}, err
	}
	properties, err := requiredObject(body, "properties")
	if err != nil {
		return response{}, err
	}
	def, err := properties.RoleDefinition()
	if err != nil {
		return response{}, err
	}
	d, err := q.h.cfg.Resources.PutLocalDefinition(q.ctx, q.actor(), q.vault, q.params.id, def)
	return answered(http.StatusCreated, d, err, showLocalDefinition) // also for one that is changed
}

func requiredObject(o wire.Object, name string) (wire.Object, error) {
	inner, ok, err := o.Object(name)
	if err == nil && !ok {
		err = o.Missing(name)
	}
	return inner, err
}

func deleteLocalDefinition(q *request) (response, error) {
	d, err := q.h.cfg.Resources.DeleteLocalDefinition(q.ctx, q.actor(), q.vault, q.params.id)
	return answered(http.StatusOK, d, err, showLocalDefinition)
}

func listLocalAssignments(q *request) (response, error) {
	filter, err := localFilter(q.query.Get("$filter"))
	if err != nil {
		return response{}, err
	}
	found, err := q.h.cfg.Resources.ListLocalAssignments(q.ctx, q.actor(), q.vault, q.localScope(), filter)
	return listAnswered(found, err, showLocalAssignment)
}

// A filter is atScope(), principalId eq '<guid>', or both.
var (
	filterAnd      = regexp.MustCompile(`(?i)\s+and\s+`)
	filterAtScope  = regexp.MustCompile(`(?i)^atScope\(\s*\)$`)
	filterOfOne    = regexp.MustCompile(`(?i)^principalId\s+eq\s+'([0-9a-f-]{36})'$`)
	maxFilterParts = 2
)

func localFilter(text string) (f resource.LocalAssignmentFilter, err error) {
	const understood = "The filter is not understood. Role assignments can be listed by atScope() and by principalId eq '<object id>'."
	if text == "" {
		return f, nil
	}
	parts := filterAnd.Split(strings.TrimSpace(text), maxFilterParts+1)
	for _, part := range parts {
		one := filterOfOne.FindStringSubmatch(part)
		switch {
		case filterAtScope.MatchString(part) && !f.AtScope:
			f.AtScope = true
		case one != nil && f.PrincipalID == "":
			f.PrincipalID = one[1]
		default:
			return f, badParameter(understood)
		}
	}
	return f, nil
}

func getLocalAssignment(q *request) (response, error) {
	a, err := q.h.cfg.Resources.GetLocalAssignment(q.ctx, q.actor(), q.vault, q.localScope(), q.params.id)
	return answered(http.StatusOK, a, err, showLocalAssignment)
}

func putLocalAssignment(q *request) (response, error) {
	scope := q.localScope()
	body, err := q.localBody(resource.LocalAssignmentPut, scope)
	if err != nil {
		return response{}, err
	}
	properties, err := requiredObject(body, "properties")
	if err != nil {
		return response{}, err
	}
	principal, err := properties.Required("principalId")
	if err != nil {
		return response{}, err
	}
	role, err := properties.Required("roleDefinitionId")
	if err != nil {
		return response{}, err
	}
	a, err := q.h.cfg.Resources.CreateLocalAssignment(q.ctx, q.actor(), q.vault, scope, q.params.id, principal, roleIn(role))
	return answered(http.StatusCreated, a, err, showLocalAssignment)
}

// roleIn returns the id of the role that an id of a definition names, or the text as it is. Clients write different things in front.
func roleIn(definitionID string) string {
	const collection = "/roledefinitions/"
	lower := strings.ToLower(definitionID)
	if i := strings.LastIndex(lower, collection); i >= 0 {
		return lower[i+len(collection):]
	}
	return lower
}

func deleteLocalAssignment(q *request) (response, error) {
	a, err := q.h.cfg.Resources.DeleteLocalAssignment(q.ctx, q.actor(), q.vault, q.localScope(), q.params.id)
	return answered(http.StatusOK, a, err, showLocalAssignment)
}

// localURL is the URL of the role or the assignment that the path names, for the record.
func (q *request) localURL() string {
	segments := q.route.segments
	collection := map[string]string{"roledefinitions": "roleDefinitions", "roleassignments": "roleAssignments"}[segments[len(segments)-2]]
	return q.base + "/providers/Microsoft.Authorization/" + collection + "/" + url.PathEscape(q.params.id)
}
