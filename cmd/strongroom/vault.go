package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

func newVaultCommand() *cobra.Command {
	return group("vault", "Manage the vaults of the server on this machine", newVaultCreate(), newVaultUpdate(), newVaultList(),
		newVaultAction("show", "Show a vault", http.MethodGet, ""),
		newVaultAction("delete", "Delete a vault; it can be recovered until it is purged", http.MethodDelete, ""),
		newVaultAction("recover", "Recover a deleted vault", http.MethodPost, "/recover"),
		newVaultAction("purge", "Remove a deleted vault and all that it holds for ever", http.MethodPost, "/purge"))
}

func vaultColumns() []string {
	return []string{"name", "vaultUri", "sku", "softDeleteRetentionInDays", "enablePurgeProtection", "deletionDate"}
}

func newVaultCreate() *cobra.Command {
	var (
		o      operation
		v      admin.Vault
		admins []string
	)
	cmd := &cobra.Command{
		Use:   "create --name NAME",
		Short: "Create a vault",
		Example: `  strongroom vault create --name team-a
  strongroom vault create --name prod --retention-days 30 --enable-purge-protection --administrator 7e0c…`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if v.Name == "" {
				return usagef("--name is missing: 3 to 24 letters, digits and hyphens")
			}
			v.Administrators = admins
			if len(admins) == 0 {
				var err error
				if v.Administrators, err = o.where.administrators(); err != nil {
					return err
				}
			}
			if err := o.checkAdministrators(cmd, admins); err != nil {
				return err
			}
			return o.ask(cmd, http.MethodPost, "/vaults", v, new(admin.Vault), vaultColumns()...)
		},
	}
	o.register(cmd)
	f := cmd.Flags()
	f.StringVarP(&v.Name, "name", "n", "", "name of the vault")
	f.StringVar(&v.SKU, "sku", "standard", "standard, or premium: a vault that can also have keys of the types with -HSM, oct-HSM among them")
	f.IntVar(&v.RetentionDays, "retention-days", 90, "days for which what is deleted can be recovered, 7 to 90")
	f.BoolVar(&v.PurgeProtection, "enable-purge-protection", false, "nobody can purge before those days are over; cannot be undone")
	f.StringArrayVar(&admins, "administrator", nil, "object id of a principal that may do everything in the vault, or group: and the "+
		"object id of a group, without a space; may be given more than once (default the administrator and the managed identity that "+
		"init made; for principals of other issuers see app outside-id)")
	return cmd
}

func newVaultUpdate() *cobra.Command {
	var (
		o      operation
		name   string
		change admin.VaultChange
	)
	cmd := &cobra.Command{
		Use:   "update --name NAME",
		Short: "Change who administers a vault",
		Example: `  strongroom vault update --name team-a --add-administrator 7e0c… --remove-administrator group:41b9…
  strongroom app list --output table   # the object ids`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return usagef("--name is missing: which vault?")
			}
			if len(change.AddAdministrators)+len(change.RemoveAdministrators) == 0 {
				return usagef("nothing is to be changed: give --add-administrator or --remove-administrator")
			}
			if err := o.checkAdministrators(cmd, change.AddAdministrators); err != nil {
				return err
			}
			v := new(admin.Vault)
			if err := o.ask(cmd, http.MethodPatch, "/vaults/"+url.PathEscape(name), change, v, vaultColumns()...); err != nil {
				return err
			}
			if len(v.Administrators) == 0 {
				fmt.Fprintf(cmd.ErrOrStderr(), "strongroom: nobody administers the vault %s now\n", v.Name)
			}
			return nil
		},
	}
	o.register(cmd)
	f := cmd.Flags()
	f.StringVarP(&name, "name", "n", "", "name of the vault")
	f.StringArrayVar(&change.AddAdministrators, "add-administrator", nil, "object id of a principal, or group: and that of a group, as "+
		"vault create takes it; may be given more than once")
	f.StringArrayVar(&change.RemoveAdministrators, "remove-administrator", nil, "one who administers it no longer; may be given more than once")
	return cmd
}

// checkAdministrators refuses a client id in the place of an object id, and tells of ids that no principal here has: they
// may be those of another issuer, or mistakes.
func (o *operation) checkAdministrators(cmd *cobra.Command, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	socket, err := o.where.socket()
	if err != nil {
		return err
	}
	var apps []admin.App
	if err := socket.Do(cmd.Context(), http.MethodGet, "/apps", nil, &apps); err != nil {
		return err
	}
	for _, id := range ids {
		if len(id) > len(groupPrefix) && strings.EqualFold(id[:len(groupPrefix)], groupPrefix) {
			continue // groups are known to their issuers alone
		}
		if slices.ContainsFunc(apps, func(a admin.App) bool { return strings.EqualFold(a.ObjectID, id) }) {
			continue
		}
		if i := slices.IndexFunc(apps, func(a admin.App) bool { return strings.EqualFold(a.ClientID, id) }); i >= 0 {
			return usagef("%s is the client id of %s: give its object id, %s", id, apps[i].DisplayName, apps[i].ObjectID)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "strongroom: note: no principal here has the object id %s; it may be one of another issuer\n", id)
	}
	return nil
}

// groupPrefix stands before the object id of a group.
const groupPrefix = "group:"

// administrators are the object ids of the principals that init made.
func (p *place) administrators() (ids []string, err error) {
	dir, err := p.folder()
	if err != nil {
		return nil, err
	}
	for _, file := range []string{server.AdministratorFile, server.ManagedIdentityFile} {
		c, err := server.ReadCredentials(filepath.Join(dir, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		ids = append(ids, c.ObjectID)
	}
	if len(ids) == 0 {
		return nil, usagef("the credentials that init made were moved away: name with --administrator who shall administer the vault " +
			"(strongroom app list shows the object ids)")
	}
	return ids, nil
}

func newVaultList() *cobra.Command {
	var o operation
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the vaults, deleted ones included",
		Example: "  strongroom vault list --output table",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.ask(cmd, http.MethodGet, "/vaults", nil, &[]admin.Vault{}, vaultColumns()...)
		},
	}
	o.register(cmd)
	return cmd
}

func newVaultAction(use, short, method, suffix string) *cobra.Command {
	var (
		o    operation
		name string
	)
	cmd := &cobra.Command{
		Use: use + " --name NAME", Short: short, Example: "  strongroom vault " + use + " --name team-a",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				return usagef("--name is missing: which vault?")
			}
			var answer any = new(admin.Vault)
			if suffix == "/purge" {
				answer = nil
			}
			return o.ask(cmd, method, "/vaults/"+url.PathEscape(name)+suffix, nil, answer, vaultColumns()...)
		},
	}
	o.register(cmd)
	cmd.Flags().StringVarP(&name, "name", "n", "", "name of the vault")
	return cmd
}
