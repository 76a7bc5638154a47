package administration

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/google/uuid"
)

// A Scope is where in a managed HSM a role is granted: everywhere, on all keys, or on one key.
type Scope string

// The scopes besides those of single keys.
const (
	ScopeGlobal Scope = "/"
	ScopeKeys   Scope = "/keys"
)

// KeyScope is the scope of one key with all its versions.
func KeyScope(name string) Scope { return ScopeKeys + "/" + Scope(name) }

// scopeForm lets through scopes that a newer service may have, and nothing that could become another path.
var scopeForm = regexp.MustCompile(`^(/|(/[0-9A-Za-z-]{1,127}){1,4})$`)

// path is the path of the role definitions or assignments of a scope.
func (s Scope) path(collection string) (string, error) {
	if !scopeForm.MatchString(string(s)) {
		return "", fmt.Errorf(`administration: %q is not a scope: there are "/", "/keys" and "/keys/<name>"`, string(s))
	}
	if s == ScopeGlobal {
		s = ""
	}
	return string(s) + "/providers/Microsoft.Authorization/" + collection, nil
}

// The collections below a scope.
const (
	definitions = "roleDefinitions"
	assignments = "roleAssignments"
)

// element is the path of one definition or assignment.
func (s Scope) element(collection, name string) (string, error) {
	path, err := s.path(collection)
	if err != nil {
		return "", err
	}
	if err := checkName("role definition or assignment", name); err != nil {
		return "", err
	}
	return path + "/" + name, nil
}

// A RoleType tells the service's own roles from others.
type RoleType string

// The types of roles.
const (
	RoleTypeBuiltIn RoleType = "AKVBuiltInRole"
	RoleTypeCustom  RoleType = "CustomRole"
)

// A Permission is what a role allows. Managed HSMs have no Actions yet, only DataActions.
type Permission struct {
	Actions        []string     `json:"actions,omitempty"`
	NotActions     []string     `json:"notActions,omitempty"`
	DataActions    []DataAction `json:"dataActions,omitempty"`
	NotDataActions []DataAction `json:"notDataActions,omitempty"` // of those in DataActions, what is not allowed after all
}

// A RoleDefinition is a role: a name for what its holders may do.
type RoleDefinition struct {
	ID               string // what CreateRoleAssignment takes: "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/<Name>"
	Name             string // a GUID
	RoleName         string // as people say it, such as "Managed HSM Crypto User"
	Type             RoleType
	Description      string
	Permissions      []Permission
	AssignableScopes []Scope
}

// A RoleAssignment says that a principal has a role at a scope.
type RoleAssignment struct {
	ID               string
	Name             string // a GUID
	RoleDefinitionID string // RoleDefinition.ID
	PrincipalID      string // the object id of a user, group or service principal
	Scope            Scope
}

// What the wire has of roles.
type (
	wireDefinition struct {
		ID         string                   `json:"id,omitempty"`
		Name       string                   `json:"name,omitempty"`
		Properties wireDefinitionProperties `json:"properties"`
	}
	wireDefinitionProperties struct {
		RoleName         string       `json:"roleName"`
		Type             RoleType     `json:"type"`
		Description      string       `json:"description,omitempty"`
		Permissions      []Permission `json:"permissions,omitempty"`
		AssignableScopes []Scope      `json:"assignableScopes,omitempty"`
	}
	wireAssignment struct {
		ID         string                   `json:"id,omitempty"`
		Name       string                   `json:"name,omitempty"`
		Properties wireAssignmentProperties `json:"properties"`
	}
	wireAssignmentProperties struct {
		RoleDefinitionID string `json:"roleDefinitionId"`
		PrincipalID      string `json:"principalId"`
		Scope            Scope  `json:"scope,omitempty"`
	}
	wireList[T any] struct {
		Value    []T    `json:"value"`
		NextLink string `json:"nextLink"`
	}
)

func (w wireDefinition) model() RoleDefinition {
	p := w.Properties
	return RoleDefinition{w.ID, w.Name, p.RoleName, p.Type, p.Description, p.Permissions, p.AssignableScopes}
}

func (w wireAssignment) model() RoleAssignment {
	return RoleAssignment{w.ID, w.Name, w.Properties.RoleDefinitionID, w.Properties.PrincipalID, w.Properties.Scope}
}

// models turns a page of the wire into what a pager hands out.
func models[W interface{ model() M }, M any](page []W) []M {
	out := make([]M, len(page))
	for i, w := range page {
		out[i] = w.model()
	}
	return out
}

// An AccessControlClient manages who may do what in a managed HSM.
type AccessControlClient struct{ client *client }

// NewAccessControlClient makes a client for the managed HSM at vaultURL, such as https://name.managedhsm.azure.net.
func NewAccessControlClient(vaultURL string, cred azcore.TokenCredential, options *ClientOptions) (*AccessControlClient, error) {
	c, err := newClient(vaultURL, cred, options)
	if err != nil {
		return nil, err
	}
	return &AccessControlClient{c}, nil
}

// ListRoleDefinitionsOptions are the options of NewListRoleDefinitionsPager.
type ListRoleDefinitionsOptions struct {
	Filter string // OData, such as atScope()
}

// A ListRoleDefinitionsResponse is one page of role definitions.
type ListRoleDefinitionsResponse struct {
	Value    []RoleDefinition
	NextLink string // where the next page is; empty on the last
}

// NewListRoleDefinitionsPager lists the roles that can be assigned at a scope, in no particular order.
func (c *AccessControlClient) NewListRoleDefinitionsPager(scope Scope, options *ListRoleDefinitionsOptions) *runtime.Pager[ListRoleDefinitionsResponse] {
	if options == nil {
		options = &ListRoleDefinitionsOptions{}
	}
	return newPager(c.list(scope, definitions, options.Filter),
		func(w wireList[wireDefinition]) ListRoleDefinitionsResponse {
			return ListRoleDefinitionsResponse{models(w.Value), w.NextLink}
		},
		func(p ListRoleDefinitionsResponse) string { return p.NextLink })
}

func (c *AccessControlClient) list(scope Scope, collection, filter string) *list {
	query := make(url.Values)
	if filter != "" {
		query.Set("$filter", filter)
	}
	return &list{c.client, func() (string, error) { return scope.path(collection) }, query}
}

// GetRoleDefinitionOptions are the options of GetRoleDefinition. There are none yet.
type GetRoleDefinitionOptions struct{}

// A GetRoleDefinitionResponse is the role.
type GetRoleDefinitionResponse struct{ RoleDefinition }

// GetRoleDefinition returns the role with a name, which is a GUID. Where there is none it fails with RoleDefinitionNotFound.
func (c *AccessControlClient) GetRoleDefinition(ctx context.Context, scope Scope, name string, _ *GetRoleDefinitionOptions) (GetRoleDefinitionResponse, error) {
	path, err := scope.element(definitions, name)
	if err != nil {
		return GetRoleDefinitionResponse{}, err
	}
	w, err := call[wireDefinition](ctx, c.client, "AccessControlClient.GetRoleDefinition", http.MethodGet, path, nil)
	return GetRoleDefinitionResponse{w.model()}, err
}

// SetRoleDefinitionOptions are the options of SetRoleDefinition. There are none yet.
type SetRoleDefinitionOptions struct{}

// A SetRoleDefinitionResponse is the role as it is now.
type SetRoleDefinitionResponse struct{ RoleDefinition }

// SetRoleDefinition makes a role, or replaces all of one that has the same name. An empty Name becomes a random GUID and an empty
// Type RoleTypeCustom; the ID is the service's. Definitions belong to ScopeGlobal. A name of a built-in role and a name that is
// no GUID fail with BadParameter.
func (c *AccessControlClient) SetRoleDefinition(ctx context.Context, scope Scope, def RoleDefinition, _ *SetRoleDefinitionOptions) (SetRoleDefinitionResponse, error) {
	if def.Name == "" {
		def.Name = uuid.NewString()
	}
	if def.Type == "" {
		def.Type = RoleTypeCustom
	}
	path, err := scope.element(definitions, def.Name)
	if err != nil {
		return SetRoleDefinitionResponse{}, err
	}
	body := wireDefinition{Properties: wireDefinitionProperties{
		def.RoleName, def.Type, def.Description, def.Permissions, def.AssignableScopes,
	}}
	w, err := call[wireDefinition](ctx, c.client, "AccessControlClient.SetRoleDefinition", http.MethodPut, path, body)
	return SetRoleDefinitionResponse{w.model()}, err
}

// DeleteRoleDefinitionOptions are the options of DeleteRoleDefinition. There are none yet.
type DeleteRoleDefinitionOptions struct{}

// A DeleteRoleDefinitionResponse is the role that was deleted.
type DeleteRoleDefinitionResponse struct{ RoleDefinition }

// DeleteRoleDefinition deletes a custom role. That there is none is an error too, RoleDefinitionNotFound with status 404.
func (c *AccessControlClient) DeleteRoleDefinition(ctx context.Context, scope Scope, name string, _ *DeleteRoleDefinitionOptions) (DeleteRoleDefinitionResponse, error) {
	path, err := scope.element(definitions, name)
	if err != nil {
		return DeleteRoleDefinitionResponse{}, err
	}
	w, err := call[wireDefinition](ctx, c.client, "AccessControlClient.DeleteRoleDefinition", http.MethodDelete, path, nil)
	return DeleteRoleDefinitionResponse{w.model()}, err
}

// ListRoleAssignmentsOptions are the options of NewListRoleAssignmentsPager.
type ListRoleAssignmentsOptions struct {
	Filter string // OData: principalId eq '<object id>', or atScope()
}

// A ListRoleAssignmentsResponse is one page of role assignments.
type ListRoleAssignmentsResponse struct {
	Value    []RoleAssignment
	NextLink string // where the next page is; empty on the last
}

// NewListRoleAssignmentsPager lists assignments, in no particular order. Without a filter the service lists those of all scopes,
// whichever scope it is asked for: look at RoleAssignment.Scope.
func (c *AccessControlClient) NewListRoleAssignmentsPager(scope Scope, options *ListRoleAssignmentsOptions) *runtime.Pager[ListRoleAssignmentsResponse] {
	if options == nil {
		options = &ListRoleAssignmentsOptions{}
	}
	return newPager(c.list(scope, assignments, options.Filter),
		func(w wireList[wireAssignment]) ListRoleAssignmentsResponse {
			return ListRoleAssignmentsResponse{models(w.Value), w.NextLink}
		},
		func(p ListRoleAssignmentsResponse) string { return p.NextLink })
}

// GetRoleAssignmentOptions are the options of GetRoleAssignment. There are none yet.
type GetRoleAssignmentOptions struct{}

// A GetRoleAssignmentResponse is the assignment.
type GetRoleAssignmentResponse struct{ RoleAssignment }

// GetRoleAssignment returns the assignment with a name. Where there is none it fails with RoleAssignmentNotFound.
func (c *AccessControlClient) GetRoleAssignment(ctx context.Context, scope Scope, name string, _ *GetRoleAssignmentOptions) (GetRoleAssignmentResponse, error) {
	path, err := scope.element(assignments, name)
	if err != nil {
		return GetRoleAssignmentResponse{}, err
	}
	w, err := call[wireAssignment](ctx, c.client, "AccessControlClient.GetRoleAssignment", http.MethodGet, path, nil)
	return GetRoleAssignmentResponse{w.model()}, err
}

// CreateRoleAssignmentOptions are the options of CreateRoleAssignment.
type CreateRoleAssignmentOptions struct {
	Name string // a GUID; default a random one
}

// A CreateRoleAssignmentResponse is the new assignment.
type CreateRoleAssignmentResponse struct{ RoleAssignment }

// CreateRoleAssignment gives a principal, named by its object id, a role at a scope. The definitionID is RoleDefinition.ID. If the
// principal has that role there already, it fails with RoleAssignmentExists.
func (c *AccessControlClient) CreateRoleAssignment(
	ctx context.Context, scope Scope, definitionID, principalID string, options *CreateRoleAssignmentOptions,
) (CreateRoleAssignmentResponse, error) {
	name := uuid.NewString()
	if options != nil && options.Name != "" {
		name = options.Name
	}
	path, err := scope.element(assignments, name)
	if err != nil {
		return CreateRoleAssignmentResponse{}, err
	}
	body := wireAssignment{Properties: wireAssignmentProperties{RoleDefinitionID: definitionID, PrincipalID: principalID}}
	w, err := call[wireAssignment](ctx, c.client, "AccessControlClient.CreateRoleAssignment", http.MethodPut, path, body)
	return CreateRoleAssignmentResponse{w.model()}, err
}

// DeleteRoleAssignmentOptions are the options of DeleteRoleAssignment. There are none yet.
type DeleteRoleAssignmentOptions struct{}

// A DeleteRoleAssignmentResponse is the assignment that was deleted.
type DeleteRoleAssignmentResponse struct{ RoleAssignment }

// DeleteRoleAssignment takes a role away. The service finds an assignment by its name, whatever the scope. That there is none is
// an error too, RoleAssignmentNotFound with status 404.
func (c *AccessControlClient) DeleteRoleAssignment(ctx context.Context, scope Scope, name string, _ *DeleteRoleAssignmentOptions) (DeleteRoleAssignmentResponse, error) {
	path, err := scope.element(assignments, name)
	if err != nil {
		return DeleteRoleAssignmentResponse{}, err
	}
	w, err := call[wireAssignment](ctx, c.client, "AccessControlClient.DeleteRoleAssignment", http.MethodDelete, path, nil)
	return DeleteRoleAssignmentResponse{w.model()}, err
}
