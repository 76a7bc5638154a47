package main

import (
	"errors"
	"io/fs"
	"net/http"
	"net/url"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

func newVaultCommand() *cobra.Command {
	return group("vault", "Manage the vaults of the server on this machine", newVaultCreate(), newVaultList(),
		newVaultAction("show", "Show a vault", http.MethodGet, ""),
		newVaultAction("delete", "Delete a vault; it can be recovered until it is purged", http.MethodDelete, ""),
		newVaultAction("recover", "Recover a deleted vault", http.MethodPost, "/recover"),
		newVaultAction("purge", "Remove a deleted vault and all that it holds for ever", http.MethodPost, "/purge"))
}

func vaultColumns() []string {
	return []string{"name", "vaultUri", "softDeleteRetentionInDays", "enablePurgeProtection", "deletionDate"}
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
			return o.ask(cmd, http.MethodPost, "/vaults", v, new(admin.Vault), vaultColumns()...)
		},
	}
	o.register(cmd)
	f := cmd.Flags()
	f.StringVarP(&v.Name, "name", "n", "", "name of the vault")
	f.IntVar(&v.RetentionDays, "retention-days", 90, "days for which what is deleted can be recovered, 7 to 90")
	f.BoolVar(&v.PurgeProtection, "enable-purge-protection", false, "nobody can purge before those days are over; cannot be undone")
	f.StringArrayVar(&admins, "administrator", nil, "object id of a principal that may do everything in the vault, or group: and the "+
		"object id of a group, without a space; may be given more than once (default the administrator and the managed identity that "+
		"init made; for principals of other issuers see app outside-id)")
	return cmd
}

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
