package main

import (
	"context"
	"net/http"
	"net/url"

	"github.com/spf13/cobra"
)

func newGroupCommand() *cobra.Command {
	c := group("group", "Manage resource groups, in which vaults stand together, with the flags and the output of az group",
		newGroupCreate(), newGroupList(), newGroupDelete())
	c.Long = "Group manages resource groups. A role that is given at a group holds for all vaults in it.\n\n" + manageText
	return c
}

func (m *manager) groupID(name string) string {
	return m.subscription + "/resourceGroups/" + url.PathEscape(name)
}

// ensureGroup makes a group if it is not there.
func (m *manager) ensureGroup(ctx context.Context, name, location string) error {
	_, err := m.get(ctx, m.groupID(name), groupsVersion)
	if !isStatus(err, http.StatusNotFound) {
		return err
	}
	_, err = m.send(ctx, http.MethodPut, m.groupID(name), groupsVersion, "", document{"location": location})
	return err
}

// A groupCommand is about one resource group.
type groupCommand struct {
	plane
	name, location string
}

func (g *groupCommand) register(cmd *cobra.Command) {
	g.plane.register(cmd, "id or name", usual)
	cmd.Flags().StringVarP(&g.name, "name", "n", "", "name of the group")
}

func (g *groupCommand) check() error {
	if g.name == "" {
		return usagef("--name is missing: which group?")
	}
	return checkGroup(g.name)
}

func newGroupCreate() *cobra.Command {
	var (
		g    groupCommand
		tags []string
	)
	cmd := &cobra.Command{
		Use: "create --name NAME", Short: "Create a resource group",
		Example: "  strongroom group create --name team-a",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := g.check(); err != nil {
				return err
			}
			parsed, err := parseTags(tags)
			if err != nil {
				return err
			}
			return g.show(cmd, func(ctx context.Context, m *manager) (any, error) {
				if g.location == "" {
					if g.location, err = m.location(ctx); err != nil {
						return nil, err
					}
				}
				a, err := m.send(ctx, http.MethodPut, m.groupID(g.name), groupsVersion, "", document{"location": g.location, "tags": parsed})
				if err != nil {
					return nil, err
				}
				return a.document, nil
			}, "name", "location", "id")
		},
	}
	g.register(cmd)
	cmd.Flags().StringVarP(&g.location, "location", "l", "", "location (default that of the server)")
	registerTags(cmd, &tags, "tags, each key=value")
	return cmd
}

func newGroupList() *cobra.Command {
	var p plane
	cmd := &cobra.Command{
		Use: "list", Short: "List the resource groups that you may see",
		Example: "  strongroom group list --output table",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return p.show(cmd, func(ctx context.Context, m *manager) (any, error) {
				return m.list(ctx, m.subscription+"/resourcegroups", groupsVersion, "")
			}, "name", "location", "id")
		},
	}
	p.register(cmd, "[].name", usual)
	return cmd
}

func newGroupDelete() *cobra.Command {
	var (
		g   groupCommand
		yes bool
	)
	cmd := &cobra.Command{
		Use: "delete --name NAME --yes", Short: "Delete a resource group",
		Example: "  strongroom group delete --name team-a --yes",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := g.check(); err != nil {
				return err
			}
			if !yes {
				return usagef("the group %s goes, with every right that was given at it, and the vaults and managed HSMs in it are soft-deleted: give --yes if "+
					"you want that", g.name)
			}
			return g.do(cmd, func(ctx context.Context, m *manager) error {
				a, err := m.send(ctx, http.MethodDelete, m.groupID(g.name), groupsVersion, "", nil)
				if err != nil {
					return err
				}
				_, err = m.await(ctx, a, "deleting the group "+g.name)
				return err
			})
		},
	}
	g.register(cmd)
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "really")
	return cmd
}
