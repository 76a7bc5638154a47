package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"
)

func newRoleCommand() *cobra.Command {
	c := group("role", "Manage who may do what, with the flags and the output of az role",
		group("definition", "Manage roles: what somebody may do",
			either(newRoleDefinitionList(), newHSMRoleDefinitionList()), either(newRoleDefinitionShow(), newHSMRoleDefinitionShow()),
			either(newRoleDefinitionCreate(), newHSMRoleDefinitionCreate()), either(newRoleDefinitionUpdate(), newHSMRoleDefinitionUpdate()),
			either(newRoleDefinitionDelete(), newHSMRoleDefinitionDelete())),
		group("assignment", "Manage role assignments: who has which role where",
			either(newRoleAssignmentList(), newHSMRoleAssignmentList()), either(newRoleAssignmentCreate(), newHSMRoleAssignmentCreate()),
			either(newRoleAssignmentDelete(), newHSMRoleAssignmentDelete())))
	c.Long = "Role manages who may do what, with the flags and the output of az role, or of az keyvault role for the roles that a managed HSM\n" +
		"has of its own.\n\n" + manageText + "\n\n" + hsmText
	return c
}

// A scoped is a command at a scope.
type scoped struct {
	plane
	scope, group, vault string
}

func (s *scoped) register(cmd *cobra.Command, members string) {
	s.plane.register(cmd, members, usual)
	f := cmd.Flags()
	f.StringVar(&s.scope, "scope", "", "the path of a subscription, a resource group, a vault, a managed HSM or one object of it")
	f.StringVarP(&s.group, "resource-group", "g", "", "the scope is this resource group; with --vault-name, where the vault is")
	f.StringVar(&s.vault, "vault-name", "", "the scope is this vault")
	cmd.MarkFlagsMutuallyExclusive("scope", "resource-group")
	cmd.MarkFlagsMutuallyExclusive("scope", "vault-name")
}

// check refuses what cannot be a scope.
func (s *scoped) check() error {
	if s.scope != "" && (s.scope[0] != '/' || strings.ContainsAny(s.scope, "%?#")) {
		return usagef("--scope %q is not a path such as /subscriptions/…/resourceGroups/… (strongroom vault show --query id --output tsv prints a vault's)", s.scope)
	}
	if s.vault != "" && !vaultLabel.MatchString(s.vault) {
		return usagef("--vault-name %q is not the name of a vault: 3 to 24 letters, digits and hyphens", s.vault)
	}
	return checkGroup(s.group)
}

// given tells whether a scope was named.
func (s *scoped) given() bool { return s.scope != "" || s.group != "" || s.vault != "" }

// path is the scope in the form in which it stands in front of the provider, without a slash at the end. It is the subscription if
// none is named.
func (s *scoped) path(ctx context.Context, m *manager) (string, error) {
	switch {
	case s.scope != "":
		return scopePath(s.scope), nil
	case s.vault != "" && s.group != "":
		return m.resourceID(&vaultFamily, s.group, s.vault), nil
	case s.vault != "":
		return m.findResource(ctx, &vaultFamily, s.vault)
	case s.group != "":
		return m.groupID(s.group), nil
	}
	return m.subscription, nil
}

// scopePath escapes what stands between the slashes.
func scopePath(scope string) string {
	segments := strings.Split(strings.TrimRight(scope, "/"), "/")
	for i := range segments {
		segments[i] = url.PathEscape(segments[i])
	}
	return strings.Join(segments, "/")
}

const (
	definitionsPath = "/providers/Microsoft.Authorization/roleDefinitions"
	assignmentsPath = "/providers/Microsoft.Authorization/roleAssignments"
)

// flat puts the properties beside the rest, as az shows roles.
func flat(d document) document {
	properties, ok := d["properties"].(document)
	if !ok {
		return d
	}
	delete(d, "properties")
	for name, value := range properties {
		if name == "type" {
			name = "roleType"
		}
		d[name] = value
	}
	return d
}

// quote writes a text into a filter.
func quote(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// roles lists the role definitions that can be assigned at a scope. Filter is one of the service's.
func (m *manager) roles(ctx context.Context, scope, filter string) ([]document, error) {
	all, err := m.list(ctx, scope+definitionsPath, rolesVersion, filter)
	for _, d := range all {
		flat(d)
	}
	return all, err
}

// role finds a role by its name, or by its id as a GUID or a path.
func (m *manager) role(ctx context.Context, scope, what string) (document, error) {
	if id := lastSegment(what); uuid.Validate(id) == nil {
		d, err := m.get(ctx, scope+definitionsPath+"/"+id, rolesVersion)
		if err != nil {
			return nil, err
		}
		return flat(d), nil
	}
	found, err := m.roles(ctx, scope, "roleName eq "+quote(what))
	if err != nil {
		return nil, err
	}
	if len(found) != 1 {
		return nil, &notFoundError{fmt.Sprintf("there is no role %q that can be assigned there; strongroom role definition list shows them", what)}
	}
	return found[0], nil
}

func lastSegment(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func definitionColumns() []string { return []string{"roleName", "roleType", "name", "description"} }

func newRoleDefinitionList() *cobra.Command {
	var (
		s      scoped
		name   string
		custom bool
	)
	cmd := &cobra.Command{
		Use: "list", Short: "List the roles",
		Example: "  strongroom role definition list --output table\n  strongroom role definition list --name 'Key Vault Secrets User'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.check(); err != nil {
				return err
			}
			return s.show(cmd, func(ctx context.Context, m *manager) (any, error) {
				scope, err := s.path(ctx, m)
				if err != nil {
					return nil, err
				}
				filter := ""
				if custom {
					filter = "type eq 'CustomRole'"
				}
				all, err := m.roles(ctx, scope, filter)
				return slices.DeleteFunc(all, func(d document) bool {
					return name != "" && !strings.EqualFold(text(d, "roleName"), name) && !strings.EqualFold(text(d, "name"), name)
				}), err
			}, definitionColumns()...)
		},
	}
	s.register(cmd, "[].roleName")
	f := cmd.Flags()
	f.StringVarP(&name, "name", "n", "", "only the role with this name or GUID")
	f.BoolVar(&custom, "custom-role-only", false, "only roles that somebody made here")
	azWords(cmd, "custom-role-only")
	return cmd
}

func newRoleDefinitionShow() *cobra.Command {
	var (
		s        scoped
		name, id string
	)
	cmd := &cobra.Command{
		Use: "show --name NAME", Short: "Show a role with what it permits",
		Example: "  strongroom role definition show --name 'Key Vault Crypto User'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				name = id
			}
			if name == "" {
				return usagef("--name is missing: which role?")
			}
			if err := s.check(); err != nil {
				return err
			}
			return s.show(cmd, func(ctx context.Context, m *manager) (any, error) {
				scope, err := s.path(ctx, m)
				if err != nil {
					return nil, err
				}
				return m.role(ctx, scope, name)
			}, definitionColumns()...)
		},
	}
	s.register(cmd, "id or permissions")
	f := cmd.Flags()
	f.StringVarP(&name, "name", "n", "", "name, GUID or id of the role")
	f.StringVar(&id, "id", "", "id of the role, instead of --name")
	return cmd
}

// maxRoleFile bounds a role that is read.
const maxRoleFile = 1 << 20

// A customRole is a role as az takes it: names with a capital letter, permissions in one set; or as az and we show it.
type customRole struct {
	ID                                         string // of one that is there: a GUID or a path
	Name                                       string // for people; beside RoleName the GUID
	RoleName                                   string
	Description                                string
	AssignableScopes                           []string
	Actions                                    []string
	NotActions                                 []string
	DataActions                                []string
	NotDataActions                             []string
	Permissions                                []document
	IsCustom                                   *bool
	Type, RoleType                             string
	CreatedBy, CreatedOn, UpdatedBy, UpdatedOn any
	SystemData                                 any
}

// decodeRole reads what stands behind --role-definition: JSON, @FILE or a file. Members are compared without case. example is told to
// who gave something else.
func decodeRole(cmd *cobra.Command, text string, into any, example string) error {
	raw := []byte(text)
	path, isFile := strings.CutPrefix(text, "@")
	if _, err := os.Stat(text); err == nil {
		path, isFile = text, true
	}
	if isFile {
		var err error
		if raw, err = readInput(cmd, path, maxRoleFile); err != nil {
			return err
		}
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return usagef("--role-definition: %v; it is JSON such as %s, or @FILE", err, example)
	}
	return nil
}

// readRole reads a role of the management plane.
func readRole(cmd *cobra.Command, text string) (*customRole, error) {
	var r customRole
	if err := decodeRole(cmd, text, &r, `{"Name": "…", "DataActions": ["Microsoft.KeyVault/vaults/secrets/getSecret/action"], `+
		`"AssignableScopes": ["/subscriptions/…"]}`); err != nil {
		return nil, err
	}
	if r.RoleName == "" {
		r.RoleName = r.Name
	} else if r.ID == "" {
		r.ID = r.Name
	}
	if r.RoleName == "" {
		return nil, usagef("--role-definition: the role has no Name")
	}
	for _, scope := range r.AssignableScopes {
		if !strings.HasPrefix(scope, "/") || strings.ContainsAny(scope, "%?#") {
			return nil, usagef("--role-definition: %q among its AssignableScopes is not a path such as /subscriptions/…", scope)
		}
	}
	return &r, nil
}

// scope is where the role is managed: with the rights of whoever manages the first scope at which it can be assigned.
func (r *customRole) scope(m *manager) string {
	if len(r.AssignableScopes) == 0 {
		return m.subscription
	}
	return scopePath(r.AssignableScopes[0])
}

// body is the role as the management plane takes it. Without scopes it is assignable everywhere in the subscription.
func (r *customRole) body(m *manager) document {
	scopes := r.AssignableScopes
	if len(scopes) == 0 {
		scopes = []string{m.subscription}
	}
	permissions := r.Permissions
	if len(permissions) == 0 {
		permissions = []document{{
			"actions": words(r.Actions), "notActions": words(r.NotActions), "dataActions": words(r.DataActions), "notDataActions": words(r.NotDataActions),
		}}
	}
	return document{"properties": document{
		"roleName": r.RoleName, "description": r.Description, "type": "CustomRole", "assignableScopes": scopes, "permissions": permissions,
	}}
}

func newRoleDefinitionCreate() *cobra.Command {
	return newRoleDefinitionPut("create", "Create a role", "Without AssignableScopes it can be assigned everywhere.",
		func(context.Context, *manager, *customRole) (string, error) { return uuid.NewString(), nil })
}

func newRoleDefinitionUpdate() *cobra.Command {
	return newRoleDefinitionPut("update", "Replace what a role permits", "Without AssignableScopes these stay.",
		func(ctx context.Context, m *manager, r *customRole) (string, error) {
			name := r.RoleName
			if r.ID != "" {
				name = r.ID
			}
			d, err := m.role(ctx, r.scope(m), name)
			if len(r.AssignableScopes) == 0 {
				scopes, _ := d["assignableScopes"].([]any)
				for _, s := range scopes {
					r.AssignableScopes = append(r.AssignableScopes, fmt.Sprint(s))
				}
			}
			return text(d, "name"), err
		})
}

func newRoleDefinitionPut(use, short, long string, id func(ctx context.Context, m *manager, r *customRole) (string, error)) *cobra.Command {
	var (
		p    plane
		role string
	)
	cmd := &cobra.Command{
		Use: use + " --role-definition JSON|@FILE", Short: short,
		Long: short + ". The role is JSON as az takes it, or as \"role definition show\" prints it. " + long,
		Example: "  strongroom role definition " + use + ` --role-definition '{"Name": "Signer", "DataActions": ["Microsoft.KeyVault/vaults/keys/sign/action"]}'` +
			"\n  strongroom role definition " + use + " --role-definition @signer.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if role == "" {
				return usagef("--role-definition is missing: JSON, or @FILE")
			}
			r, err := readRole(cmd, role)
			if err != nil {
				return err
			}
			return p.show(cmd, func(ctx context.Context, m *manager) (any, error) {
				guid, err := id(ctx, m, r)
				if err != nil {
					return nil, err
				}
				a, err := m.send(ctx, http.MethodPut, r.scope(m)+definitionsPath+"/"+url.PathEscape(guid), rolesVersion, "", r.body(m))
				if err != nil {
					return nil, err
				}
				return flat(a.document), nil
			}, definitionColumns()...)
		},
	}
	p.register(cmd, "id or name", usual)
	cmd.Flags().StringVar(&role, "role-definition", "", "the role")
	return cmd
}

func newRoleDefinitionDelete() *cobra.Command {
	var (
		s    scoped
		name string
	)
	cmd := &cobra.Command{
		Use: "delete --name NAME", Short: "Delete a role that somebody made here and nobody has",
		Example: "  strongroom role definition delete --name Signer",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return usagef("--name is missing: which role?")
			}
			if err := s.check(); err != nil {
				return err
			}
			return s.do(cmd, func(ctx context.Context, m *manager) error {
				scope, err := s.path(ctx, m)
				if err != nil {
					return err
				}
				d, err := m.role(ctx, scope, name)
				if err != nil {
					return err
				}
				_, err = m.send(ctx, http.MethodDelete, scope+definitionsPath+"/"+text(d, "name"), rolesVersion, "", nil)
				return err
			})
		},
	}
	s.register(cmd, "")
	cmd.Flags().StringVarP(&name, "name", "n", "", "name, GUID or id of the role")
	return cmd
}

// A principal is whom a role is for.
type principal struct {
	id   string // object id
	kind string // "" if the directory does not know him
}

// principal finds somebody by his client id, his object id or his name.
func (m *manager) principal(ctx context.Context, who string) (*principal, error) {
	filter := "displayName eq " + quote(who)
	isID := uuid.Validate(who) == nil
	if isID {
		filter = "servicePrincipalNames/any(c:c eq " + quote(who) + ")"
	}
	found, err := m.list(ctx, "/v1.0/servicePrincipals", groupsVersion, filter)
	if err != nil {
		return nil, err
	}
	switch {
	case len(found) == 1:
		return &principal{text(found[0], "id"), "ServicePrincipal"}, nil
	case len(found) > 1:
		return nil, usagef("%d applications have the name %q: give the object id of the one that you mean (strongroom app list)", len(found), who)
	case !isID:
		return nil, &notFoundError{fmt.Sprintf("there is no application %q; strongroom app list shows them; groups and people of outside issuers "+
			"are named by their object id", who)}
	}
	names, err := m.names(ctx, []string{who})
	if err != nil {
		return nil, err
	}
	if _, known := names[strings.ToLower(who)]; known {
		return &principal{who, "ServicePrincipal"}, nil
	}
	return &principal{id: who}, nil
}

// names are those of principals that the directory knows, by their object ids in lower case. As az shows them: applications by their client id.
func (m *manager) names(ctx context.Context, ids []string) (map[string]string, error) {
	out := make(map[string]string)
	const most = 1000 // at a time
	for chunk := range slices.Chunk(ids, most) {
		a, err := m.send(ctx, http.MethodPost, "/v1.0/directoryObjects/getByIds", groupsVersion, "", document{"ids": chunk})
		if err != nil {
			return nil, err
		}
		items, _ := a.document["value"].([]any)
		for _, item := range items {
			d, _ := item.(document)
			out[strings.ToLower(text(d, "id"))] = text(d, "appId")
		}
	}
	return out, nil
}

// An assignee is a principal as flags name it.
type assignee struct {
	who, objectID, kind string
}

func (a *assignee) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&a.who, "assignee", "", "client id, object id or name of an application; the object id of a group or of somebody of an outside issuer")
	f.StringVar(&a.objectID, "assignee-object-id", "", "object id, instead of --assignee: nothing is looked up")
	cmd.MarkFlagsMutuallyExclusive("assignee", "assignee-object-id")
}

// find is the principal, nil if none was named.
func (a *assignee) find(ctx context.Context, m *manager) (*principal, error) {
	switch {
	case a.objectID != "":
		return &principal{a.objectID, a.kind}, nil
	case a.who == "":
		return nil, nil
	}
	p, err := m.principal(ctx, a.who)
	if err == nil && p.kind == "" {
		p.kind = a.kind
		fmt.Fprintf(m.notes, "strongroom: note: no principal here has the id %s; it may be a group, or one of another issuer\n", a.who)
	}
	return p, err
}

func assignmentColumns() []string {
	return []string{"principalName", "principalId", "roleDefinitionName", "scope"}
}

// An assignmentQuery is for assignments at a scope, or also below or above it, of a role and a principal if these are named.
type assignmentQuery struct {
	scoped
	assignee
	role      string
	all       bool // below the scope too
	inherited bool // above it too
}

func (q *assignmentQuery) register(cmd *cobra.Command, members string) {
	q.scoped.register(cmd, members)
	q.assignee.register(cmd)
	f := cmd.Flags()
	f.StringVar(&q.role, "role", "", "only those of this role: its name, GUID or id")
	f.BoolVar(&q.inherited, "include-inherited", false, "also those that were made at wider scopes and hold here")
	azWords(cmd, "include-inherited")
}

func (q *assignmentQuery) find(ctx context.Context, m *manager, scope string) ([]document, error) {
	roleID := ""
	if q.role != "" {
		d, err := m.role(ctx, scope, q.role)
		if err != nil {
			return nil, err
		}
		roleID = text(d, "name")
	}
	who, err := q.assignee.find(ctx, m)
	if err != nil {
		return nil, err
	}
	var tests []string
	if !q.all {
		tests = append(tests, "atScope()")
	}
	if who != nil {
		tests = append(tests, "principalId eq "+quote(who.id))
	}
	all, err := m.list(ctx, scope+assignmentsPath, rolesVersion, strings.Join(tests, " and "))
	for _, d := range all {
		flat(d)
	}
	return slices.DeleteFunc(all, func(d document) bool {
		return roleID != "" && !strings.EqualFold(lastSegment(text(d, "roleDefinitionId")), roleID) || !q.wanted(scope, text(d, "scope"))
	}), err
}

// wanted tells whether an assignment at a scope belongs to the list: the service's holds all above and below.
func (q *assignmentQuery) wanted(asked, scope string) bool {
	asked, scope = strings.ToLower(asked)+"/", strings.ToLower(strings.TrimRight(scope, "/"))+"/"
	switch {
	case scope == asked:
		return true
	case strings.HasPrefix(scope, asked):
		return q.all
	}
	return q.inherited
}

// describe adds the names that az adds.
func (m *manager) describe(ctx context.Context, scope string, all []document) error {
	var ids []string
	for _, d := range all {
		ids = append(ids, text(d, "principalId"))
	}
	names, err := m.names(ctx, ids)
	if err != nil {
		return err
	}
	roles, err := m.roles(ctx, scope, "")
	if err != nil {
		return err
	}
	for _, d := range all {
		d["principalName"] = names[strings.ToLower(text(d, "principalId"))]
		for _, r := range roles {
			if strings.EqualFold(text(r, "name"), lastSegment(text(d, "roleDefinitionId"))) {
				d["roleDefinitionName"] = text(r, "roleName")
			}
		}
	}
	return nil
}

func newRoleAssignmentList() *cobra.Command {
	var q assignmentQuery
	cmd := &cobra.Command{
		Use: "list", Short: "List who has which role",
		Long: "List lists who has which role at a scope: the subscription, if none is named. With --all also those at everything within it.",
		Example: "  strongroom role assignment list --all --output table\n  strongroom role assignment list --vault-name team-a --include-inherited\n" +
			"  strongroom role assignment list --assignee build-server --all",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.check(); err != nil {
				return err
			}
			return q.show(cmd, func(ctx context.Context, m *manager) (any, error) {
				scope, err := q.path(ctx, m)
				if err != nil {
					return nil, err
				}
				all, err := q.find(ctx, m, scope)
				if err != nil {
					return nil, err
				}
				return all, m.describe(ctx, scope, all)
			}, assignmentColumns()...)
		},
	}
	q.register(cmd, "[].id")
	cmd.Flags().BoolVar(&q.all, "all", false, "also those at everything within the scope")
	azWords(cmd, "all")
	return cmd
}

func newRoleAssignmentCreate() *cobra.Command {
	var (
		s                                              scoped
		who                                            assignee
		role, name, description, condition, conditions string
	)
	cmd := &cobra.Command{
		Use:   "create --role ROLE --assignee WHO {--vault-name NAME | --scope PATH | --resource-group NAME}",
		Short: "Give somebody a role",
		Example: `  strongroom role assignment create --vault-name team-a --role "Key Vault Secrets User" --assignee build-server
  strongroom role assignment create --role "Key Vault Secrets User" --assignee build-server \
    --scope "$(strongroom vault show --name team-a --query id --output tsv)/secrets/db-password"
  strongroom role assignment create --resource-group team-a --role Reader --assignee-object-id 3f2a… --assignee-principal-type Group`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case role == "":
				return usagef("--role is missing: which role? (strongroom role definition list)")
			case who.who == "" && who.objectID == "":
				return usagef("--assignee is missing: who gets the role?")
			case !s.given():
				return usagef("where does the role hold? Give --vault-name, --resource-group, or --scope")
			case name != "" && uuid.Validate(name) != nil:
				return usagef("--name %s is not a GUID", name)
			}
			if err := s.check(); err != nil {
				return err
			}
			return s.show(cmd, func(ctx context.Context, m *manager) (any, error) {
				in := document{"description": description, "condition": condition, "conditionVersion": conditions}
				if condition != "" && conditions == "" {
					in["conditionVersion"] = "2.0"
				}
				return m.assign(ctx, &s, &who, role, name, in)
			}, assignmentColumns()...)
		},
	}
	s.register(cmd, "id or name")
	who.register(cmd)
	f := cmd.Flags()
	f.StringVar(&who.kind, "assignee-principal-type", "", "User, Group or ServicePrincipal: of one that is not known here")
	f.StringVar(&role, "role", "", "name, GUID or id of the role")
	f.StringVar(&name, "name", "", "GUID of the assignment (default a new one)")
	f.StringVar(&description, "description", "", "text for people")
	f.StringVar(&condition, "condition", "", "condition under which it holds")
	f.StringVar(&conditions, "condition-version", "", "version of the condition's language (default 2.0)")
	return cmd
}

// assign makes an assignment. In holds its properties so far, those without a value left out by the service.
func (m *manager) assign(ctx context.Context, s *scoped, a *assignee, role, name string, in document) (document, error) {
	scope, err := s.path(ctx, m)
	if err != nil {
		return nil, err
	}
	d, err := m.role(ctx, scope, role)
	if err != nil {
		return nil, err
	}
	who, err := a.find(ctx, m)
	if err != nil {
		return nil, err
	}
	for member, value := range in {
		if value == "" {
			delete(in, member)
		}
	}
	in["roleDefinitionId"], in["principalId"] = text(d, "id"), who.id
	if who.kind != "" {
		in["principalType"] = who.kind
	}
	if name == "" {
		name = uuid.NewString()
	}
	made, err := m.send(ctx, http.MethodPut, scope+assignmentsPath+"/"+name, rolesVersion, "", document{"properties": in})
	if err != nil {
		return nil, err
	}
	out := flat(made.document)
	return out, m.describe(ctx, scope, []document{out})
}

func newRoleAssignmentDelete() *cobra.Command {
	var (
		q   assignmentQuery
		ids []string
	)
	cmd := &cobra.Command{
		Use:   "delete {--ids ID… | --assignee WHO [--role ROLE] [--vault-name NAME | --scope PATH | --resource-group NAME]}",
		Short: "Take roles away",
		Long: `Delete takes away the assignments with these ids, or those of a principal or of a role at a scope: the subscription, if none is named. What
was assigned within the scope stays, and so does what holds there because of a wider one, unless there is --include-inherited.`,
		Example: `  strongroom role assignment delete --vault-name team-a --role "Key Vault Secrets User" --assignee build-server
  strongroom role assignment delete --ids /subscriptions/…/roleAssignments/0f4c…`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.check(); err != nil {
				return err
			}
			named := q.who != "" || q.objectID != "" || q.role != ""
			switch {
			case len(ids) > 0 && (named || q.given()):
				return usagef("--ids names assignments already: nothing else goes with it")
			case len(ids) == 0 && !named:
				return usagef("which assignments? Give --assignee, --role or --ids")
			}
			for _, id := range ids {
				if !strings.HasPrefix(id, "/") || strings.ContainsAny(id, "%?#") {
					return usagef("--ids %q is not the id of an assignment (strongroom role assignment list --query [].id --output tsv)", id)
				}
			}
			return q.do(cmd, func(ctx context.Context, m *manager) error {
				if len(ids) == 0 {
					found, err := q.scopedIDs(ctx, m)
					if err != nil {
						return err
					}
					ids = found
				}
				var errs []error
				for _, id := range ids {
					errs = append(errs, m.unassign(ctx, id))
				}
				return errors.Join(errs...)
			})
		},
	}
	q.register(cmd, "")
	f := cmd.Flags()
	f.StringArrayVar(&ids, "ids", nil, "ids of assignments")
	f.BoolP("yes", "y", false, "accepted as az has it; nothing is asked")
	azWords(cmd, "ids")
	return cmd
}

// scopedIDs are the ids of the assignments that the flags mean, of which there must be one.
func (q *assignmentQuery) scopedIDs(ctx context.Context, m *manager) (ids []string, err error) {
	scope, err := q.path(ctx, m)
	if err != nil {
		return nil, err
	}
	found, err := q.find(ctx, m, scope)
	if err != nil {
		return nil, err
	}
	for _, d := range found {
		ids = append(ids, text(d, "id"))
	}
	if len(ids) == 0 {
		return nil, &notFoundError{"there is no such role assignment at that scope; strongroom role assignment list --all shows them"}
	}
	return ids, nil
}

func (m *manager) unassign(ctx context.Context, id string) error {
	a, err := m.send(ctx, http.MethodDelete, scopePath(id), rolesVersion, "", nil)
	if err == nil && a.status == http.StatusNoContent {
		return &notFoundError{fmt.Sprintf("there is no role assignment %s", id)}
	}
	return err
}
