package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/google/uuid"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/strongroom/strongroom/administration"
)

// The role commands for the roles that a managed HSM has of its own, with the flags of az keyvault role.

// either makes one command of one that asks the management plane and one that asks a managed HSM: --hsm-name, or --id with a URL,
// asks for the latter.
func either(plane, hsm *cobra.Command) *cobra.Command {
	shared := make(map[string]*pflag.Flag) // those of the managed HSM's command that have the name of another
	only := make(map[string]bool)          // those that the management plane's does not have
	hsm.Flags().VisitAll(func(f *pflag.Flag) {
		if plane.Flags().Lookup(f.Name) != nil {
			shared[f.Name] = f
			return
		}
		only[f.Name] = true
		plane.Flags().AddFlag(f)
	})
	work := plane.RunE
	plane.RunE = func(cmd *cobra.Command, args []string) error {
		if !namesHSM(cmd) {
			if err := refuseFlags(cmd, func(name string) bool { return only[name] }, "--%s goes with --hsm-name, or --id with the URL of a managed HSM"); err != nil {
				return err
			}
			return work(cmd, args)
		}
		if err := refuseFlags(cmd, func(name string) bool { return !only[name] && shared[name] == nil }, "--%s does not go with a managed HSM"); err != nil {
			return err
		}
		if err := copyFlags(cmd, shared); err != nil {
			return err
		}
		return hsm.RunE(cmd, args)
	}
	plane.Example += "\n" + hsm.Example
	return plane
}

func namesHSM(cmd *cobra.Command) bool {
	id := cmd.Flags().Lookup("id")
	return cmd.Flags().Changed("hsm-name") || strings.HasPrefix(id.Value.String(), "https://")
}

func refuseFlags(cmd *cobra.Command, wrong func(name string) bool, text string) (err error) {
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if err == nil && wrong(f.Name) {
			err = usagef(text, f.Name)
		}
	})
	return err
}

// copyFlags gives flags the values of those with the same names.
func copyFlags(cmd *cobra.Command, to map[string]*pflag.Flag) error {
	var errs []error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if t := to[f.Name]; t != nil {
			if list, ok := f.Value.(pflag.SliceValue); ok {
				errs = append(errs, t.Value.(pflag.SliceValue).Replace(list.GetSlice()))
				return
			}
			errs = append(errs, t.Value.Set(f.Value.String()))
		}
	})
	return errors.Join(errs...)
}

// accessControl is a client for the roles of a managed HSM.
type accessControl = *administration.AccessControlClient

// An hsmRole is a role of a managed HSM as az shows it.
type hsmRole struct {
	ID               string                  `json:"id"`
	Name             string                  `json:"name"`
	RoleName         string                  `json:"roleName"`
	RoleType         administration.RoleType `json:"roleType"`
	Type             string                  `json:"type"`
	Description      string                  `json:"description"`
	AssignableScopes []administration.Scope  `json:"assignableScopes"`
	Permissions      []hsmPermission         `json:"permissions"`
}

type hsmPermission struct {
	Actions        []string                    `json:"actions"`
	NotActions     []string                    `json:"notActions"`
	DataActions    []administration.DataAction `json:"dataActions"`
	NotDataActions []administration.DataAction `json:"notDataActions"`
}

func newHSMRole(d administration.RoleDefinition) hsmRole {
	out := hsmRole{
		d.ID, d.Name, d.RoleName, d.Type, "Microsoft.Authorization/roleDefinitions", d.Description, d.AssignableScopes, []hsmPermission{},
	}
	for _, p := range d.Permissions {
		out.Permissions = append(out.Permissions, hsmPermission{p.Actions, p.NotActions, p.DataActions, p.NotDataActions})
	}
	return out
}

func hsmRoleColumns() []string { return []string{"roleName", "roleType", "name", "description"} }

// allHSMRoles lists the roles that can be assigned at a scope.
func allHSMRoles(ctx context.Context, c accessControl, scope administration.Scope) ([]administration.RoleDefinition, error) {
	var all []administration.RoleDefinition
	pager := c.NewListRoleDefinitionsPager(scope, nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Value...)
	}
	return all, nil
}

// findHSMRole finds a role by its name for people, or by its id as a GUID or a path. Who may read roles at one scope alone asks there.
func findHSMRole(ctx context.Context, c accessControl, at administration.Scope, what string) (administration.RoleDefinition, error) {
	if id := lastSegment(what); uuid.Validate(id) == nil {
		got, err := c.GetRoleDefinition(ctx, at, id, nil)
		return got.RoleDefinition, err
	}
	all, err := allHSMRoles(ctx, c, at)
	if err != nil {
		return administration.RoleDefinition{}, err
	}
	for _, d := range all {
		if strings.EqualFold(d.RoleName, what) {
			return d, nil
		}
	}
	return administration.RoleDefinition{}, &notFoundError{
		fmt.Sprintf("the managed HSM has no role %q; strongroom role definition list --hsm-name shows those that it has", what),
	}
}

// hsmScope reads --scope, of which az takes the first slash off and puts it back.
func hsmScope(text string) (administration.Scope, error) {
	if !strings.HasPrefix(text, "/") {
		text = "/" + text
	}
	key, isKey := strings.CutPrefix(text, string(administration.ScopeKeys)+"/")
	if scope := administration.Scope(text); scope == administration.ScopeGlobal || scope == administration.ScopeKeys || isKey && vaultLabel.MatchString(key) {
		return scope, nil
	}
	return "", usagef("--scope %s: in a managed HSM there are /, /keys and /keys/NAME", text)
}

func newHSMRoleDefinitionList() *cobra.Command {
	var (
		h      hsmTarget
		scope  string
		custom bool
	)
	cmd := &cobra.Command{
		Use: "list --hsm-name NAME", Short: "List the roles of a managed HSM",
		Example: "  strongroom role definition list --hsm-name hsm-a --output table",
		RunE: func(cmd *cobra.Command, _ []string) error {
			at, err := hsmScope(scope)
			if err != nil {
				return err
			}
			return showHSM(cmd, &h, openAccess, func(ctx context.Context, c accessControl) (any, error) {
				found, err := allHSMRoles(ctx, c, at)
				out := []hsmRole{}
				for _, d := range found {
					if !custom || d.Type == administration.RoleTypeCustom {
						out = append(out, newHSMRole(d))
					}
				}
				return out, err
			}, hsmRoleColumns()...)
		},
	}
	h.register(cmd, "[].roleName", usual)
	f := cmd.Flags()
	f.StringVar(&scope, "scope", "/", "where the roles can be assigned: /, /keys or /keys/NAME")
	f.BoolVar(&custom, "custom-role-only", false, "only roles that somebody made here")
	azWords(cmd, "custom-role-only")
	return cmd
}

// A roleFlag names a role, as az does for managed HSMs.
type roleFlag struct{ name, id string }

func (r *roleFlag) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVarP(&r.name, "name", "n", "", "GUID of the role, or its name")
	f.StringVar(&r.id, "role-id", "", "id of the role, instead of --name")
	cmd.MarkFlagsMutuallyExclusive("name", "role-id")
}

func (r *roleFlag) what() (string, error) {
	if r.name+r.id == "" {
		return "", usagef("--name is missing: which role? (or --role-id)")
	}
	return r.name + r.id, nil
}

func newHSMRoleDefinitionShow() *cobra.Command {
	var (
		h    hsmTarget
		role roleFlag
	)
	cmd := &cobra.Command{
		Use: "show --name NAME --hsm-name NAME", Short: "Show a role of a managed HSM with what it permits",
		Example: "  strongroom role definition show --hsm-name hsm-a --name 'Managed HSM Crypto User'",
		RunE: func(cmd *cobra.Command, _ []string) error {
			what, err := role.what()
			if err != nil {
				return err
			}
			return showHSM(cmd, &h, openAccess, func(ctx context.Context, c accessControl) (any, error) {
				d, err := findHSMRole(ctx, c, administration.ScopeGlobal, what)
				return newHSMRole(d), err
			}, hsmRoleColumns()...)
		},
	}
	h.register(cmd, "id or permissions", usual)
	role.register(cmd)
	return cmd
}

func newHSMRoleDefinitionDelete() *cobra.Command {
	var (
		h    hsmTarget
		role roleFlag
	)
	cmd := &cobra.Command{
		Use: "delete --name NAME --hsm-name NAME", Short: "Delete a role that somebody made in a managed HSM and nobody has",
		Example: "  strongroom role definition delete --hsm-name hsm-a --name Signer",
		RunE: func(cmd *cobra.Command, _ []string) error {
			what, err := role.what()
			if err != nil {
				return err
			}
			return onHSM(cmd, &h, openAccess, func(ctx context.Context, c accessControl) error {
				d, err := findHSMRole(ctx, c, administration.ScopeGlobal, what)
				if err != nil {
					return err
				}
				_, err = c.DeleteRoleDefinition(ctx, administration.ScopeGlobal, d.Name, nil)
				return err
			})
		},
	}
	h.register(cmd, "", usual)
	role.register(cmd)
	return cmd
}

// An hsmRoleInput is a role as az takes it, or as "role definition show" prints it. Members are compared without case.
type hsmRoleInput struct {
	hsmRole
	hsmPermission
}

// readHSMRole reads a role of a managed HSM.
func readHSMRole(cmd *cobra.Command, text string) (administration.RoleDefinition, error) {
	none := administration.RoleDefinition{}
	if text == "" {
		return none, usagef("--role-definition is missing: JSON, or @FILE")
	}
	var in hsmRoleInput
	if err := decodeRole(cmd, text, &in, fmt.Sprintf(`{"roleName": "Signer", "dataActions": [%q]}`, administration.DataActionSign)); err != nil {
		return none, err
	}
	if in.RoleName == "" {
		return none, usagef("--role-definition: the role has no roleName")
	}
	permissions := in.Permissions
	if len(permissions) == 0 {
		permissions = []hsmPermission{in.hsmPermission}
	}
	d := administration.RoleDefinition{ID: in.ID, Name: in.Name, RoleName: in.RoleName, Description: in.Description, AssignableScopes: in.AssignableScopes}
	for _, p := range permissions {
		d.Permissions = append(d.Permissions, administration.Permission(p))
	}
	return d, nil
}

func newHSMRoleDefinitionCreate() *cobra.Command {
	return newHSMRoleDefinitionSet("create", "Create a role in a managed HSM",
		"A name and an id in the JSON have no meaning: the role gets new ones.",
		func(_ context.Context, _ accessControl, d administration.RoleDefinition) (string, error) {
			return uuid.NewString(), nil
		})
}

func newHSMRoleDefinitionUpdate() *cobra.Command {
	return newHSMRoleDefinitionSet("update", "Replace a role of a managed HSM",
		"Which role it is say its name, a GUID, or its id, or else its roleName.",
		func(ctx context.Context, c accessControl, d administration.RoleDefinition) (string, error) {
			what := d.Name
			if what == "" {
				what = d.ID
			}
			if what == "" {
				what = d.RoleName
			}
			present, err := findHSMRole(ctx, c, administration.ScopeGlobal, what)
			return present.Name, err
		})
}

func newHSMRoleDefinitionSet(
	use, short, long string, name func(context.Context, accessControl, administration.RoleDefinition) (string, error),
) *cobra.Command {
	var (
		h    hsmTarget
		role string
	)
	cmd := &cobra.Command{
		Use: use + " --role-definition JSON|@FILE --hsm-name NAME", Short: short,
		Long: short + ". The role is JSON as az takes it, or as \"role definition show\" prints it. " + long,
		Example: fmt.Sprintf("  strongroom role definition %s --hsm-name hsm-a --role-definition '{\"roleName\": \"Signer\", \"dataActions\": [%q]}'",
			use, administration.DataActionSign),
		RunE: func(cmd *cobra.Command, _ []string) error {
			d, err := readHSMRole(cmd, role)
			if err != nil {
				return err
			}
			return showHSM(cmd, &h, openAccess, func(ctx context.Context, c accessControl) (any, error) {
				guid, err := name(ctx, c, d)
				if err != nil {
					return nil, err
				}
				d.Name = guid
				got, err := c.SetRoleDefinition(ctx, administration.ScopeGlobal, d, nil)
				return newHSMRole(got.RoleDefinition), err
			}, hsmRoleColumns()...)
		},
	}
	h.register(cmd, "id or name", usual)
	cmd.Flags().StringVar(&role, "role-definition", "", "the role")
	return cmd
}

// An hsmAssignment is an assignment in a managed HSM as az shows it.
type hsmAssignment struct {
	ID               string               `json:"id"`
	Name             string               `json:"name"`
	Type             string               `json:"type"`
	Scope            administration.Scope `json:"scope"`
	RoleDefinitionID string               `json:"roleDefinitionId"`
	RoleName         string               `json:"roleName"`
	PrincipalID      string               `json:"principalId"`
	PrincipalName    string               `json:"principalName"`
}

func hsmAssignmentColumns() []string {
	return []string{"principalName", "principalId", "roleName", "scope"}
}

// isForbidden is for what only some may see, and others can do without.
func isForbidden(err error) bool {
	refused, ok := errors.AsType[*azcore.ResponseError](err)
	return ok && refused.StatusCode == http.StatusForbidden
}

// An hsmQuery is for assignments in a managed HSM: of a scope, a role and a principal, as far as these are named.
type hsmQuery struct {
	scope, assignee, objectID, role string
}

func (q *hsmQuery) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&q.scope, "scope", "", "where: /, /keys or /keys/NAME")
	f.StringVar(&q.assignee, "assignee", "", "object id of a principal or group; with --hsm-name also client id or name of an application")
	f.StringVar(&q.objectID, "assignee-object-id", "", "object id, instead of --assignee: nothing is looked up")
	f.StringVar(&q.role, "role", "", "name, GUID or id of the role")
	cmd.MarkFlagsMutuallyExclusive("assignee", "assignee-object-id")
}

func (q *hsmQuery) check() error {
	if q.objectID != "" && uuid.Validate(q.objectID) != nil {
		return usagef("--assignee-object-id %q is not an object id (strongroom app list shows them)", q.objectID)
	}
	if q.scope == "" {
		return nil
	}
	scope, err := hsmScope(q.scope)
	q.scope = string(scope)
	return err
}

// at is the scope to ask at.
func (q *hsmQuery) at() administration.Scope {
	if q.scope == "" {
		return administration.ScopeGlobal
	}
	return administration.Scope(q.scope)
}

// roleID is the id of the role. As with az nothing is looked up for one that is named by its id: not everybody may read roles.
func (q *hsmQuery) roleID(ctx context.Context, c accessControl) (string, error) {
	if id := lastSegment(q.role); uuid.Validate(id) == nil {
		return "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/" + id, nil
	}
	d, err := findHSMRole(ctx, c, q.at(), q.role)
	return d.ID, err
}

// principal turns --assignee into an object id.
func (q *hsmQuery) principal(ctx context.Context, m *manager) error {
	switch isID := uuid.Validate(q.assignee) == nil; {
	case q.assignee == "":
	case m == nil && !isID:
		return usagef("--assignee %q is not an object id, and names are known of the server on this machine alone", q.assignee)
	case m == nil:
		q.objectID = q.assignee
	default:
		p, err := (&assignee{who: q.assignee}).find(ctx, m)
		if isID && isForbidden(err) {
			p, err = &principal{id: q.assignee}, nil
		}
		if err != nil {
			return err
		}
		q.objectID = p.id
	}
	return nil
}

// find lists the assignments that are meant. The service's list is that of all scopes, whatever it is asked for.
func (q *hsmQuery) find(ctx context.Context, c accessControl, m *manager) ([]administration.RoleAssignment, error) {
	if err := q.principal(ctx, m); err != nil {
		return nil, err
	}
	role := ""
	if q.role != "" {
		id, err := q.roleID(ctx, c)
		if err != nil {
			return nil, err
		}
		role = id
	}
	var found []administration.RoleAssignment
	pager := c.NewListRoleAssignmentsPager(q.at(), nil)
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, a := range page.Value {
			if (q.scope == "" || strings.EqualFold(string(a.Scope), q.scope)) && (q.objectID == "" || strings.EqualFold(a.PrincipalID, q.objectID)) &&
				(role == "" || strings.EqualFold(a.RoleDefinitionID, role)) {
				found = append(found, a)
			}
		}
	}
	return found, nil
}

// describe adds the names of the roles, and those of the principals if there is a directory.
func (q *hsmQuery) describe(ctx context.Context, c accessControl, m *manager, all ...administration.RoleAssignment) ([]hsmAssignment, error) {
	definitions, err := allHSMRoles(ctx, c, q.at())
	if err != nil && !isForbidden(err) {
		return nil, err
	}
	roles, ids := make(map[string]string), make([]string, len(all))
	for _, d := range definitions {
		roles[strings.ToLower(d.ID)] = d.RoleName
	}
	for i, a := range all {
		ids[i] = a.PrincipalID
	}
	var names map[string]string
	if m != nil {
		if names, err = m.names(ctx, ids); err != nil && !isForbidden(err) {
			return nil, err
		}
	}
	out := make([]hsmAssignment, len(all))
	for i, a := range all {
		out[i] = hsmAssignment{
			a.ID, a.Name, "Microsoft.Authorization/roleAssignments", a.Scope, a.RoleDefinitionID, roles[strings.ToLower(a.RoleDefinitionID)],
			a.PrincipalID, names[strings.ToLower(a.PrincipalID)],
		}
	}
	return out, nil
}

func newHSMRoleAssignmentList() *cobra.Command {
	var (
		h hsmTarget
		q hsmQuery
	)
	cmd := &cobra.Command{
		Use: "list --hsm-name NAME", Short: "List who has which role in a managed HSM",
		Example: "  strongroom role assignment list --hsm-name hsm-a --output table\n  strongroom role assignment list --hsm-name hsm-a --scope /keys",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := q.check(); err != nil {
				return err
			}
			return showHSM(cmd, &h, openAccess, func(ctx context.Context, c accessControl) (any, error) {
				m, err := h.directory(cmd)
				if err != nil {
					return nil, err
				}
				found, err := q.find(ctx, c, m)
				if err != nil {
					return nil, err
				}
				return q.describe(ctx, c, m, found...)
			}, hsmAssignmentColumns()...)
		},
	}
	h.register(cmd, "[].name", usual)
	q.register(cmd)
	return cmd
}

func newHSMRoleAssignmentCreate() *cobra.Command {
	var (
		h    hsmTarget
		q    hsmQuery
		name string
		kind string
	)
	cmd := &cobra.Command{
		Use:   "create --role ROLE --assignee ID --scope SCOPE --hsm-name NAME",
		Short: "Give somebody a role in a managed HSM",
		Example: `  strongroom role assignment create --hsm-name hsm-a --role "Managed HSM Crypto User" --assignee 7e0c… --scope /keys
  strongroom role assignment create --hsm-name hsm-a --role Signer --assignee 7e0c… --scope /keys/signing`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case q.role == "":
				return usagef("--role is missing: which role? (strongroom role definition list --hsm-name)")
			case q.assignee+q.objectID == "":
				return usagef("--assignee is missing: who gets the role?")
			case q.scope == "":
				return usagef("--scope is missing: where does the role hold? /, /keys or /keys/NAME")
			case name != "" && uuid.Validate(name) != nil:
				return usagef("--name %s is not a GUID", name)
			}
			if err := q.check(); err != nil {
				return err
			}
			return showHSM(cmd, &h, openAccess, func(ctx context.Context, c accessControl) (any, error) {
				m, err := h.directory(cmd)
				if err != nil {
					return nil, err
				}
				return q.create(ctx, c, m, name)
			}, hsmAssignmentColumns()...)
		},
	}
	h.register(cmd, "id or name", usual)
	q.register(cmd)
	f := cmd.Flags()
	f.StringVarP(&name, "name", "n", "", "GUID of the assignment (default a new one)")
	f.StringVar(&kind, "assignee-principal-type", "", "accepted as az has it; managed HSMs do not keep it")
	return cmd
}

func (q *hsmQuery) create(ctx context.Context, c accessControl, m *manager, name string) (any, error) {
	role, err := q.roleID(ctx, c)
	if err != nil {
		return nil, err
	}
	if err := q.principal(ctx, m); err != nil {
		return nil, err
	}
	made, err := c.CreateRoleAssignment(ctx, q.at(), role, q.objectID, &administration.CreateRoleAssignmentOptions{Name: name})
	if err != nil {
		return nil, err
	}
	out, err := q.describe(ctx, c, m, made.RoleAssignment)
	if err != nil {
		return nil, err
	}
	return out[0], nil
}

func newHSMRoleAssignmentDelete() *cobra.Command {
	var (
		h    hsmTarget
		q    hsmQuery
		name string
		ids  []string
	)
	cmd := &cobra.Command{
		Use:   "delete {--name NAME | --ids ID… | [--role ROLE] [--assignee ID] [--scope SCOPE]} --hsm-name NAME",
		Short: "Take roles in a managed HSM away",
		Long: `Delete takes away the assignment with a name, those with these ids, or all those of a principal, of a role or at a scope: at that scope
alone, not within it.`,
		Example: `  strongroom role assignment delete --hsm-name hsm-a --role "Managed HSM Crypto User" --assignee 7e0c… --scope /keys`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			named := name != "" || len(ids) > 0
			queried := q.scope+q.assignee+q.objectID+q.role != ""
			switch {
			case name != "" && len(ids) > 0 || named && queried:
				return usagef("--name and --ids name assignments already: nothing else goes with them")
			case !named && !queried:
				return usagef("which assignments? Give --name, --ids, or some of --assignee, --role and --scope")
			}
			if err := q.check(); err != nil {
				return err
			}
			return onHSM(cmd, &h, openAccess, func(ctx context.Context, c accessControl) error {
				if !named {
					m, err := h.directory(cmd)
					if err != nil {
						return err
					}
					return q.deleteAll(ctx, c, m)
				}
				if name != "" {
					ids = []string{name}
				}
				return q.delete(ctx, c, ids)
			})
		},
	}
	h.register(cmd, "", usual)
	q.register(cmd)
	f := cmd.Flags()
	f.StringVarP(&name, "name", "n", "", "GUID of the assignment")
	f.StringArrayVar(&ids, "ids", nil, "ids of assignments")
	azWords(cmd, "ids")
	return cmd
}

func (q *hsmQuery) deleteAll(ctx context.Context, c accessControl, m *manager) error {
	found, err := q.find(ctx, c, m)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return &notFoundError{"the managed HSM has no such role assignment; strongroom role assignment list --hsm-name shows those that it has"}
	}
	var ids []string
	for _, a := range found {
		ids = append(ids, a.Name)
	}
	return q.delete(ctx, c, ids)
}

// delete deletes what it can.
func (q *hsmQuery) delete(ctx context.Context, c accessControl, ids []string) error {
	var errs []error
	for _, id := range ids {
		_, err := c.DeleteRoleAssignment(ctx, q.at(), lastSegment(id), nil)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
