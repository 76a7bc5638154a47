package main

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// What vaults and managed HSMs have in common in the management plane.

// A family is one of the two.
type family struct {
	noun, command, flag string // as people say it, the command for it, and the flag that names one
	collection          string // in paths
	deleted, check      string
	example             string
	life                time.Duration // how long a command about it may take
}

var (
	vaultFamily = family{
		noun: "vault", command: "vault", flag: "name", collection: "vaults", deleted: "deletedVaults",
		check: "checkNameAvailability", example: "team-a", life: usual,
	}
	hsmFamily = family{
		noun: "managed HSM", command: "hsm", flag: "hsm-name", collection: "managedHSMs", deleted: "deletedManagedHSMs",
		check: "checkMhsmNameAvailability", example: "hsm-a", life: time.Hour,
	}
)

const provider = "/providers/Microsoft.KeyVault/"

// columns are those of a table.
func (f *family) columns() []string {
	if f == &hsmFamily {
		return []string{"name", "resourceGroup", "properties.hsmUri", "properties.softDeleteRetentionInDays", "properties.enablePurgeProtection",
			"properties.securityDomainProperties.activationStatus"}
	}
	return []string{"name", "resourceGroup", "properties.vaultUri", "properties.softDeleteRetentionInDays",
		"properties.enablePurgeProtection", "properties.enableRbacAuthorization"}
}

func deletedResourceColumns() []string {
	return []string{"name", "properties.location", "properties.deletionDate", "properties.scheduledPurgeDate"}
}

// A named is a vault or a managed HSM as a command line names it.
type named struct {
	*family
	plane
	name, group, location string
	noWait                bool
}

// register adds the flags that name one. Those that are deleted have a location, the others a group.
func (n *named) register(cmd *cobra.Command, members string) {
	n.plane.register(cmd, members, n.life)
	short := ""
	if n.flag == "name" {
		short = "n"
	}
	f := cmd.Flags()
	f.StringVarP(&n.name, n.flag, short, "", "name of the "+n.noun)
	f.StringVarP(&n.group, "resource-group", "g", "", "resource group (default the one where the "+n.noun+" is found)")
}

func (n *named) registerDeleted(cmd *cobra.Command, members string) {
	n.register(cmd, members)
	cmd.Flags().StringVarP(&n.location, "location", "l", "", "location (default the one where the "+n.noun+" is found)")
}

func (n *named) registerNoWait(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&n.noWait, "no-wait", false, "do not wait until it is done")
}

// groupName is what a resource group can be called, in a path.
var groupName = regexp.MustCompile(`^[\pL\pN_().-]{1,90}$`)

func (n *named) checkName() error {
	if n.name == "" {
		return usagef("--%s is missing: which %s?", n.flag, n.noun)
	}
	if !vaultLabel.MatchString(n.name) {
		return usagef("--%s %q is not the name of a %s: 3 to 24 letters, digits and hyphens", n.flag, n.name, n.noun)
	}
	return checkGroup(n.group)
}

func checkGroup(name string) error {
	if name != "" && (!groupName.MatchString(name) || strings.HasSuffix(name, ".")) {
		return usagef("--resource-group %q is not the name of a resource group", name)
	}
	return nil
}

// about is do for a command about one that is there. Id is its path.
func (n *named) about(cmd *cobra.Command, work func(ctx context.Context, m *manager, id string) error) error {
	if err := n.checkName(); err != nil {
		return err
	}
	return n.do(cmd, func(ctx context.Context, m *manager) error {
		id, err := n.id(ctx, m)
		if err != nil {
			return err
		}
		return work(ctx, m, id)
	})
}

// changed is about for a command that prints what there is afterwards.
func (n *named) changed(cmd *cobra.Command, change func(ctx context.Context, m *manager, id string) (document, error)) error {
	return n.about(cmd, func(ctx context.Context, m *manager, id string) error {
		d, err := change(ctx, m, id)
		if err != nil {
			return err
		}
		return n.out.print(cmd.OutOrStdout(), withGroup(d), n.columns()...)
	})
}

// id is the path of the one that is named. Without a group it is looked for in all that the caller may see.
func (n *named) id(ctx context.Context, m *manager) (string, error) {
	if n.group != "" {
		return m.resourceID(n.family, n.group, n.name), nil
	}
	return m.findResource(ctx, n.family, n.name)
}

func (m *manager) resourceID(f *family, group, name string) string {
	return m.subscription + "/resourceGroups/" + url.PathEscape(group) + provider + f.collection + "/" + url.PathEscape(name)
}

// findResource is the path of the vault or HSM with that name.
func (m *manager) findResource(ctx context.Context, f *family, name string) (string, error) {
	filter := fmt.Sprintf("resourceType eq 'Microsoft.KeyVault/%s' and name eq '%s'", f.collection, name)
	found, err := m.list(ctx, m.subscription+"/resources", groupsVersion, filter)
	if err != nil {
		return "", err
	}
	for _, d := range found {
		if strings.EqualFold(text(d, "name"), name) && strings.HasPrefix(text(d, "id"), "/") {
			return text(d, "id"), nil
		}
	}
	return "", &notFoundError{fmt.Sprintf("there is no %s %q, or you may not see it; strongroom %s list shows those that you may", f.noun, name, f.command)}
}

// findDeleted is the deleted one with that name, in any location or in one.
func (n *named) findDeleted(ctx context.Context, m *manager) (document, error) {
	if n.location != "" {
		return m.get(ctx, m.subscription+provider+"locations/"+url.PathEscape(n.location)+"/"+n.deleted+"/"+url.PathEscape(n.name), vaultsVersion)
	}
	all, err := m.list(ctx, m.subscription+provider+n.deleted, vaultsVersion, "")
	if err != nil {
		return nil, err
	}
	for _, d := range all {
		if strings.EqualFold(text(d, "name"), n.name) {
			return d, nil
		}
	}
	return nil, &notFoundError{fmt.Sprintf("there is no deleted %s %q, or you may not see it; strongroom %s list-deleted shows those that you may",
		n.noun, n.name, n.command)}
}

func newResourceShow(f *family) *cobra.Command {
	n := named{family: f}
	cmd := &cobra.Command{
		Use: "show --" + f.flag + " NAME", Short: "Show a " + f.noun,
		Example: fmt.Sprintf("  strongroom %s show --%s %s\n  strongroom %[1]s show --%[2]s %[3]s --query id --output tsv", f.command, f.flag, f.example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return n.changed(cmd, func(ctx context.Context, m *manager, id string) (document, error) {
				return m.get(ctx, id, vaultsVersion)
			})
		},
	}
	n.register(cmd, "id or properties.vaultUri")
	return cmd
}

func newResourceList(f *family) *cobra.Command {
	n := named{family: f}
	cmd := &cobra.Command{
		Use: "list", Short: "List the " + f.noun + "s that you may see",
		Example: "  strongroom " + f.command + " list --output table",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkGroup(n.group); err != nil {
				return err
			}
			return n.show(cmd, func(ctx context.Context, m *manager) (any, error) {
				path := m.subscription
				if n.group != "" {
					path += "/resourceGroups/" + url.PathEscape(n.group)
				}
				all, err := m.list(ctx, path+provider+f.collection, vaultsVersion, "")
				for _, d := range all {
					withGroup(d)
				}
				return all, err
			}, f.columns()...)
		},
	}
	n.plane.register(cmd, "[].name", usual)
	cmd.Flags().StringVarP(&n.group, "resource-group", "g", "", "only those of this resource group")
	return cmd
}

func newResourceDelete(f *family) *cobra.Command {
	n := named{family: f}
	cmd := &cobra.Command{
		Use: "delete --" + f.flag + " NAME", Short: "Delete a " + f.noun + "; it can be recovered until it is purged",
		Example: fmt.Sprintf("  strongroom %s delete --%s %s", f.command, f.flag, f.example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return n.about(cmd, func(ctx context.Context, m *manager, id string) error {
				a, err := m.send(ctx, http.MethodDelete, id, vaultsVersion, "", nil)
				if err != nil {
					return err
				}
				if a.status == http.StatusNoContent {
					return &notFoundError{fmt.Sprintf("there is no %s %q in the group %s", n.noun, n.name, n.group)}
				}
				return n.wait(ctx, m, a, "deleting")
			})
		},
	}
	n.register(cmd, "")
	if f == &hsmFamily {
		n.registerNoWait(cmd)
	}
	return cmd
}

// wait is for operations that leave nothing to print.
func (n *named) wait(ctx context.Context, m *manager, a *answer, doing string) error {
	if n.noWait {
		return nil
	}
	_, err := m.await(ctx, a, doing+" the "+n.noun+" "+n.name)
	return err
}

func newResourceRecover(f *family) *cobra.Command {
	n := named{family: f}
	cmd := &cobra.Command{
		Use: "recover --" + f.flag + " NAME", Short: "Recover a deleted " + f.noun,
		Example: fmt.Sprintf("  strongroom %s recover --%s %s", f.command, f.flag, f.example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := n.checkName(); err != nil {
				return err
			}
			return n.do(cmd, func(ctx context.Context, m *manager) error {
				d, err := n.recover(ctx, m)
				if err != nil || n.noWait {
					return err
				}
				return n.out.print(cmd.OutOrStdout(), withGroup(d), f.columns()...)
			})
		},
	}
	n.registerDeleted(cmd, "id or name")
	if f == &hsmFamily {
		n.registerNoWait(cmd)
	}
	return cmd
}

// recover puts a deleted one back to where it was. What else is in the message does not count, but Azure wants it.
func (n *named) recover(ctx context.Context, m *manager) (document, error) {
	gone, err := n.findDeleted(ctx, m)
	if err != nil {
		return nil, err
	}
	id, properties, in := text(gone, "properties.vaultId"), document{"createMode": "recover"}, document{"location": text(gone, "properties.location")}
	if n.family == &hsmFamily {
		id = text(gone, "properties.mhsmId")
		in["sku"] = document{"family": "B", "name": defaultHSMSKU}
	} else {
		_, tenant, err := m.itself(ctx)
		if err != nil {
			return nil, err
		}
		properties["tenantId"], properties["sku"] = tenant, document{"family": "A", "name": "standard"}
	}
	if n.group != "" {
		id = m.resourceID(n.family, n.group, n.name)
	}
	in["properties"] = properties
	a, err := m.send(ctx, http.MethodPut, id, vaultsVersion, "", in)
	if err != nil || n.noWait {
		return nil, err
	}
	return m.await(ctx, a, "recovering the "+n.noun+" "+n.name)
}

func newResourcePurge(f *family) *cobra.Command {
	n := named{family: f}
	cmd := &cobra.Command{
		Use: "purge --" + f.flag + " NAME", Short: "Remove a deleted " + f.noun + " and all that it holds for ever",
		Example: fmt.Sprintf("  strongroom %s purge --%s %s", f.command, f.flag, f.example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := n.checkName(); err != nil {
				return err
			}
			return n.do(cmd, func(ctx context.Context, m *manager) error {
				gone, err := n.findDeleted(ctx, m)
				if err != nil {
					return err
				}
				a, err := m.send(ctx, http.MethodPost, text(gone, "id")+"/purge", vaultsVersion, "", nil)
				if err != nil {
					return err
				}
				return n.wait(ctx, m, a, "purging")
			})
		},
	}
	n.registerDeleted(cmd, "")
	n.registerNoWait(cmd)
	return cmd
}

func newResourceListDeleted(f *family) *cobra.Command {
	n := named{family: f}
	cmd := &cobra.Command{
		Use: "list-deleted", Short: "List the deleted " + f.noun + "s, with the time at which they are purged",
		Example: "  strongroom " + f.command + " list-deleted --output table",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return n.show(cmd, func(ctx context.Context, m *manager) (any, error) {
				return m.list(ctx, m.subscription+provider+f.deleted, vaultsVersion, "")
			}, deletedResourceColumns()...)
		},
	}
	n.plane.register(cmd, "[].name", usual)
	return cmd
}

func newResourceShowDeleted(f *family) *cobra.Command {
	n := named{family: f}
	cmd := &cobra.Command{
		Use: "show-deleted --" + f.flag + " NAME", Short: "Show a deleted " + f.noun,
		Example: fmt.Sprintf("  strongroom %s show-deleted --%s %s", f.command, f.flag, f.example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := n.checkName(); err != nil {
				return err
			}
			return n.show(cmd, func(ctx context.Context, m *manager) (any, error) { return n.findDeleted(ctx, m) }, deletedResourceColumns()...)
		},
	}
	n.registerDeleted(cmd, "id or properties.scheduledPurgeDate")
	return cmd
}

func newResourceCheckName(f *family) *cobra.Command {
	n := named{family: f}
	cmd := &cobra.Command{
		Use: "check-name --" + f.flag + " NAME", Short: "Tell whether a " + f.noun + " could have a name",
		Example: fmt.Sprintf("  strongroom %s check-name --%s %s --query nameAvailable --output tsv", f.command, f.flag, f.example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if n.name == "" {
				return usagef("--%s is missing: which name?", f.flag)
			}
			in := document{"name": n.name}
			if f == &vaultFamily {
				in["type"] = "Microsoft.KeyVault/vaults"
			}
			return n.show(cmd, func(ctx context.Context, m *manager) (any, error) {
				a, err := m.send(ctx, http.MethodPost, m.subscription+provider+f.check, vaultsVersion, "", in)
				if err != nil {
					return nil, err
				}
				return a.document, nil
			}, "nameAvailable", "reason", "message")
		},
	}
	n.plane.register(cmd, "nameAvailable or reason", usual)
	cmd.Flags().StringVarP(&n.name, f.flag, "n", "", "name")
	return cmd
}
