package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
)

// What the management plane cannot do: let somebody in when nobody with rights is left, and say who stands above roles and policies of a
// vault. Only the operator of this machine can.

func newAdministratorCommand() *cobra.Command {
	c := group("administrator", "Let somebody in as the operator of this machine, whatever roles and access policies say", newAdministratorList(),
		newAdministratorAdd(), newAdministratorRemove())
	c.Long = `Administrator is for the operator of this machine, who needs the data folder and no credentials. It makes somebody an Owner of the
subscription, who can then give every role to everybody, himself included; so it is the way back when nobody with rights is left.

With --vault-name it is about the list of those who may do everything in one vault, whatever its roles and access policies say. The vault that
init makes has the administrator and the managed identity on it; other vaults have nobody.

With --hsm-name it gives the role Managed HSM Administrator in a managed HSM that is activated, whose holders give all roles in it.`
	return c
}

func newAdministratorList() *cobra.Command {
	var (
		o     operation
		vault string
	)
	cmd := &cobra.Command{
		Use: "list", Short: "List the owners of the subscription, or who may do everything in a vault",
		Example: "  strongroom administrator list\n  strongroom administrator list --vault-name demo",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if vault == "" {
				return o.ask(cmd, http.MethodGet, "/owners", nil, &[]admin.Owner{}, "principalId", "principalType", "createdOn")
			}
			if err := o.out.check(); err != nil {
				return err
			}
			socket, err := o.where.socket()
			if err != nil {
				return err
			}
			vaults, err := liveVaults(cmd.Context(), socket)
			if err != nil {
				return err
			}
			for _, v := range vaults {
				if strings.EqualFold(v.Name, vault) {
					return o.out.print(cmd.OutOrStdout(), v, "name", "administrators")
				}
			}
			return &notFoundError{fmt.Sprintf("there is no vault %q", vault)}
		},
	}
	o.register(cmd)
	cmd.Flags().StringVar(&vault, "vault-name", "", "of this vault")
	return cmd
}

func newAdministratorAdd() *cobra.Command {
	var (
		o               operation
		vault, hsm, who string
	)
	cmd := &cobra.Command{
		Use: "add --assignee WHO", Short: "Make somebody an owner of the subscription, let him do everything in a vault, or give roles in a managed HSM",
		Example: `  strongroom app create --display-name rescue     # then app credential add --credentials-file
  strongroom administrator add --assignee rescue
  strongroom administrator add --assignee group:41b9… --vault-name demo
  strongroom administrator add --assignee rescue --hsm-name pool`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if vault != "" && hsm != "" {
				return usagef("--vault-name and --hsm-name: give one of them")
			}
			id, err := o.assignee(cmd, who)
			if err != nil {
				return err
			}
			if vault != "" {
				return o.ask(cmd, http.MethodPatch, "/vaults/"+url.PathEscape(vault)+"/administrators",
					admin.VaultChange{AddAdministrators: []string{id}}, new(admin.Vault), "name", "administrators")
			}
			owner := admin.Owner{PrincipalID: id}
			if group, ok := cutGroup(id); ok {
				owner = admin.Owner{PrincipalID: group, PrincipalType: "Group"}
			}
			if hsm != "" {
				return o.ask(cmd, http.MethodPost, "/hsms/"+url.PathEscape(hsm)+"/administrators", owner, new(admin.Owner), "principalId", "principalType")
			}
			return o.ask(cmd, http.MethodPost, "/owners", owner, new(admin.Owner), "principalId", "principalType", "createdOn")
		},
	}
	o.register(cmd)
	registerAdministrator(cmd, &vault, &who)
	cmd.Flags().StringVar(&hsm, "hsm-name", "", "a managed HSM that is activated, instead of the subscription")
	return cmd
}

func newAdministratorRemove() *cobra.Command {
	var (
		o          operation
		vault, who string
	)
	cmd := &cobra.Command{
		Use: "remove --assignee WHO --vault-name NAME", Short: "Take somebody from the list of who may do everything in a vault",
		Example: "  strongroom administrator remove --assignee administrator --vault-name demo",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if vault == "" {
				return usagef("--vault-name is missing: which vault? (an owner is removed with strongroom role assignment delete --role Owner)")
			}
			id, err := o.assignee(cmd, who)
			if err != nil {
				return err
			}
			return o.ask(cmd, http.MethodPatch, "/vaults/"+url.PathEscape(vault)+"/administrators",
				admin.VaultChange{RemoveAdministrators: []string{id}}, new(admin.Vault), "name", "administrators")
		},
	}
	o.register(cmd)
	registerAdministrator(cmd, &vault, &who)
	return cmd
}

func registerAdministrator(cmd *cobra.Command, vault, who *string) {
	cmd.Flags().StringVar(vault, "vault-name", "", "a vault, instead of the subscription")
	cmd.Flags().StringVar(who, "assignee", "", "object id, client id or name of an application; the object id of somebody of an outside issuer; "+
		"group: and the object id of a group, without a space (app outside-id tells these ids)")
}

// groupPrefix stands before the object id of a group.
const groupPrefix = "group:"

func cutGroup(id string) (group string, ok bool) {
	if len(id) > len(groupPrefix) && strings.EqualFold(id[:len(groupPrefix)], groupPrefix) {
		return id[len(groupPrefix):], true
	}
	return "", false
}

// assignee is the object id of who is meant. One that is nobody's here may be from elsewhere, or a mistake, so that is told.
func (o *operation) assignee(cmd *cobra.Command, who string) (string, error) {
	if who == "" {
		return "", usagef("--assignee is missing: who?")
	}
	if _, ok := cutGroup(who); ok {
		return who, nil // groups are known to their issuers alone
	}
	socket, err := o.where.socket()
	if err != nil {
		return "", err
	}
	found, err := findApps(cmd.Context(), socket, who)
	switch {
	case err != nil:
		return "", err
	case len(found) == 1:
		return found[0].ObjectID, nil
	case len(found) > 1:
		return "", usagef("%d applications have the name %q: give the object id of the one that you mean (strongroom app list)", len(found), who)
	case uuid.Validate(who) != nil:
		return "", &notFoundError{fmt.Sprintf("there is no application %q; strongroom app list shows them", who)}
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "strongroom: note: no principal here has the object id %s; it may be one of another issuer\n", who)
	return who, nil
}

// findApps are the applications with that object id or client id, or if there are none those with that name.
func findApps(ctx context.Context, socket *admin.Client, who string) (named []admin.App, err error) {
	var apps []admin.App
	if err := socket.Do(ctx, http.MethodGet, "/apps", nil, &apps); err != nil {
		return nil, err
	}
	for _, a := range apps {
		if strings.EqualFold(a.ObjectID, who) || strings.EqualFold(a.ClientID, who) {
			return []admin.App{a}, nil
		}
		if a.DisplayName == who {
			named = append(named, a)
		}
	}
	return named, nil
}
