package main

import (
	"context"

	"github.com/spf13/cobra"
)

func newHSMCommand() *cobra.Command {
	f := &hsmFamily
	c := group("hsm", "Manage managed HSMs, with the flags and the output of az keyvault",
		newHSMCreate(), newHSMUpdate(), newResourceList(f), newResourceShow(f), newResourceDelete(f), newResourceRecover(f), newResourcePurge(f),
		newResourceListDeleted(f), newResourceShowDeleted(f), newResourceCheckName(f))
	c.Long = "Hsm manages managed HSMs, with the flags and the output of az keyvault.\n\n" + manageText
	return c
}

// defaultHSMSKU is that of az.
const defaultHSMSKU = "Standard_B1"

func newHSMCreate() *cobra.Command {
	var (
		n              = named{family: &hsmFamily}
		s              settings
		sku            string
		administrators []string
	)
	cmd := &cobra.Command{
		Use:   "create --hsm-name NAME --administrators ID…",
		Short: "Create a managed HSM, which waits to be activated",
		Long: `Create makes a managed HSM and waits until it is there. It can be used once one of its administrators has activated it by downloading
its security domain.`,
		Example: `  strongroom hsm create --hsm-name hsm-a --administrators 7e0c… --retention-days 7
  strongroom app list --output table   # the object ids`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := n.checkName(); err != nil {
				return err
			}
			if len(words(administrators)) == 0 {
				return usagef("--administrators is missing: the object ids of those who administer it (strongroom app list shows them)")
			}
			tags, err := parseTags(s.tags)
			if err != nil {
				return err
			}
			properties := s.properties(cmd)
			properties["initialAdminObjectIds"] = words(administrators)
			properties["softDeleteRetentionInDays"] = s.retention
			if rules := s.network(nil); rules != nil {
				properties["networkAcls"] = rules
			}
			in := document{"tags": tags, "sku": document{"family": "B", "name": sku}, "properties": properties}
			return n.do(cmd, func(ctx context.Context, m *manager) error {
				_, tenant, err := m.itself(ctx)
				if err != nil {
					return err
				}
				properties["tenantId"] = tenant
				a, err := n.create(ctx, m, in)
				if err != nil || n.noWait {
					return err
				}
				d, err := m.await(ctx, a, "creating the managed HSM "+n.name)
				if err != nil {
					return err
				}
				return n.out.print(cmd.OutOrStdout(), withGroup(d), n.columns()...)
			})
		},
	}
	registerCreate(cmd, &n)
	n.registerNoWait(cmd)
	s.register(cmd, &hsmFamily)
	s.registerRetention(cmd)
	f := cmd.Flags()
	f.StringVar(&sku, "sku", defaultHSMSKU, "name of the SKU")
	f.StringArrayVar(&administrators, "administrators", nil, "object ids of those who administer it first")
	azWords(cmd, "administrators")
	return cmd
}

func newHSMUpdate() *cobra.Command {
	n, s := named{family: &hsmFamily}, settings{}
	cmd := &cobra.Command{
		Use:     "update --hsm-name NAME",
		Short:   "Change the settings of a managed HSM",
		Example: "  strongroom hsm update --hsm-name hsm-a --enable-purge-protection",
		RunE:    func(cmd *cobra.Command, _ []string) error { return n.update(cmd, &s, updateFlags(&hsmFamily)) },
	}
	n.register(cmd, "id or name")
	s.register(cmd, &hsmFamily)
	return cmd
}
