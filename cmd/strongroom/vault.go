package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/spf13/cobra"
)

func newVaultCommand() *cobra.Command {
	f := &vaultFamily
	c := group("vault", "Manage vaults, with the flags and the output of az keyvault",
		newVaultCreate(), newVaultUpdate(), newResourceList(f), newResourceShow(f), newResourceDelete(f), newResourceRecover(f), newResourcePurge(f),
		newResourceListDeleted(f), newResourceShowDeleted(f), newResourceCheckName(f), newVaultSetPolicy(), newVaultDeletePolicy(),
		group("network-rule", "Manage from which addresses a vault is reached", newNetworkRuleAdd(), newNetworkRuleRemove(), newNetworkRuleList()))
	c.Long = "Vault manages vaults, with the flags and the output of az keyvault.\n\n" + manageText
	return c
}

// defaultGroup is the resource group of who names none: that in which init makes the first vault. It is made when it is needed.
const defaultGroup = "strongroom"

// settings are the flags that creating and changing have in common. What was not said is left out.
type settings struct {
	purgeProtection, rbac                 bool
	deployment, diskEncryption, templates bool
	retention                             int
	bypass, defaultAction, publicAccess   string
	tags                                  []string
}

// register adds those of a vault, or those that a managed HSM has too.
func (s *settings) register(cmd *cobra.Command, f *family) {
	flags := cmd.Flags()
	flags.BoolVar(&s.purgeProtection, "enable-purge-protection", false, "nobody can purge before the days of retention are over; cannot be undone")
	flags.StringVar(&s.defaultAction, "default-action", "", "what happens to addresses without a rule: Allow or Deny")
	flags.StringVar(&s.bypass, "bypass", "", "AzureServices or None; kept, and without an effect here")
	flags.StringVar(&s.publicAccess, "public-network-access", "", "Enabled, or Disabled: nobody reaches it")
	registerTags(cmd, &s.tags, "tags, each key=value; '' for none")
	azWords(cmd, "enable-purge-protection")
	if f == &hsmFamily {
		return
	}
	flags.BoolVar(&s.rbac, "enable-rbac-authorization", true, "roles decide who may use it; false: its access policies (set-policy)")
	flags.BoolVar(&s.deployment, "enabled-for-deployment", false, "kept, and without an effect here")
	flags.BoolVar(&s.diskEncryption, "enabled-for-disk-encryption", false, "kept, and without an effect here")
	flags.BoolVar(&s.templates, "enabled-for-template-deployment", false, "kept, and without an effect here")
	azWords(cmd, "enable-rbac-authorization", "enabled-for-deployment", "enabled-for-disk-encryption", "enabled-for-template-deployment")
}

// registerRetention is for when it is made: later it does not change.
func (s *settings) registerRetention(cmd *cobra.Command) {
	cmd.Flags().IntVar(&s.retention, "retention-days", 90, "days for which what is deleted can be recovered, 7 to 90")
}

// properties are what was said of them, as the management plane has it.
func (s *settings) properties(cmd *cobra.Command) document {
	out := document{}
	for flag, m := range map[string]struct {
		name  string
		value any
	}{
		"enable-purge-protection":         {"enablePurgeProtection", s.purgeProtection},
		"enable-rbac-authorization":       {"enableRbacAuthorization", s.rbac},
		"enabled-for-deployment":          {"enabledForDeployment", s.deployment},
		"enabled-for-disk-encryption":     {"enabledForDiskEncryption", s.diskEncryption},
		"enabled-for-template-deployment": {"enabledForTemplateDeployment", s.templates},
		"retention-days":                  {"softDeleteRetentionInDays", s.retention},
		"public-network-access":           {"publicNetworkAccess", s.publicAccess},
	} {
		if cmd.Flags().Changed(flag) {
			out[m.name] = m.value
		}
	}
	return out
}

// network changes the rules that are there (nil for none) by what was said, and is nil if nothing was.
func (s *settings) network(old document) document {
	if s.bypass == "" && s.defaultAction == "" {
		return nil
	}
	rules := networkRules(old)
	if s.bypass != "" {
		rules["bypass"] = s.bypass
	}
	if s.defaultAction != "" {
		rules["defaultAction"] = s.defaultAction
	}
	return rules
}

// networkRules are those of a vault, or what a vault without any has.
func networkRules(vault document) document {
	rules, ok := inner(vault, []string{"properties", "networkAcls"}).(document)
	if !ok {
		return document{"bypass": "AzureServices", "defaultAction": "Allow", "ipRules": []any{}, "virtualNetworkRules": []any{}}
	}
	return rules
}

func newVaultCreate() *cobra.Command {
	var (
		n         = named{family: &vaultFamily}
		s         settings
		sku       string
		addresses []string
		noSelf    bool
	)
	cmd := &cobra.Command{
		Use:   "create --name NAME",
		Short: "Create a vault",
		Long: `Create makes a vault. As in Azure roles decide who may use it, and nobody has one there yet, not even who made it: give some with
"strongroom role assignment create --vault-name". With --enable-rbac-authorization false its access policies decide, of which who made it
gets one for everything, unless there is --no-self-perms.`,
		Example: `  strongroom vault create --name team-a
  strongroom vault create --name prod --sku premium --retention-days 30 --enable-purge-protection
  strongroom vault create --name old-style --enable-rbac-authorization false`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := n.checkName(); err != nil {
				return err
			}
			tags, err := parseTags(s.tags)
			if err != nil {
				return err
			}
			properties := s.properties(cmd)
			properties["sku"] = document{"family": "A", "name": sku}
			properties["enableRbacAuthorization"] = s.rbac
			rules := s.network(nil)
			if rules == nil && len(addresses) > 0 {
				rules = networkRules(nil)
			}
			if rules != nil {
				if properties["networkAcls"], err = addAddresses(rules, addresses); err != nil {
					return err
				}
			}
			in := document{"location": n.location, "tags": tags, "properties": properties}
			return n.do(cmd, func(ctx context.Context, m *manager) error {
				d, err := n.createVault(ctx, m, in, !noSelf)
				if err != nil {
					return err
				}
				if s.rbac {
					fmt.Fprintf(cmd.ErrOrStderr(), "strongroom: note: roles decide who may use the vault; nobody has one at it yet. To give one:\n"+
						"  strongroom role assignment create --vault-name %s --role \"Key Vault Administrator\"%s --assignee …\n", n.name, n.where.args())
				}
				return n.out.print(cmd.OutOrStdout(), withGroup(d), n.columns()...)
			})
		},
	}
	registerCreate(cmd, &n)
	s.register(cmd, &vaultFamily)
	s.registerRetention(cmd)
	f := cmd.Flags()
	f.StringVar(&sku, "sku", "standard", "standard, or premium: a vault that can also have keys of the types with -HSM, oct-HSM among them")
	f.StringArrayVar(&addresses, "network-acls-ips", nil, "addresses and ranges that reach it, with --default-action Deny no others")
	f.BoolVar(&noSelf, "no-self-perms", false, "with access policies: none for who makes the vault")
	azWords(cmd, "network-acls-ips", "no-self-perms")
	return cmd
}

// registerCreate adds the flags that say where something is made.
func registerCreate(cmd *cobra.Command, n *named) {
	n.register(cmd, "id or name")
	f := cmd.Flags()
	f.Lookup("resource-group").Usage = "resource group (default " + defaultGroup + ", which is made if it is not there)"
	f.StringVarP(&n.location, "location", "l", "", "location (default that of the server)")
}

// createVault makes a vault that is not there yet. In one without roles, self gets an access policy for everything.
func (n *named) createVault(ctx context.Context, m *manager, in document, self bool) (document, error) {
	properties := in["properties"].(document)
	objectID, tenantID, err := m.itself(ctx)
	if err != nil {
		return nil, err
	}
	properties["tenantId"], properties["accessPolicies"] = tenantID, []any{}
	if self && properties["enableRbacAuthorization"] == false {
		properties["accessPolicies"] = []any{document{"tenantId": tenantID, "objectId": objectID, "permissions": document{
			"keys": []string{"all"}, "secrets": []string{"all"}, "certificates": []string{"all"}, "storage": []string{"all"},
		}}}
	}
	a, err := n.create(ctx, m, in)
	if err != nil {
		return nil, err
	}
	return a.document, nil
}

// create makes what is not there yet. PUT would change one that is.
func (n *named) create(ctx context.Context, m *manager, in document) (*answer, error) {
	var err error
	if n.location == "" {
		if n.location, err = m.location(ctx); err != nil {
			return nil, err
		}
	}
	in["location"] = n.location
	if n.group == "" {
		n.group = defaultGroup
		if err := m.ensureGroup(ctx, n.group, n.location); err != nil {
			return nil, err
		}
	}
	id := m.resourceID(n.family, n.group, n.name)
	_, err = m.get(ctx, id, vaultsVersion)
	if err == nil {
		return nil, fmt.Errorf("the %s %s is there already; strongroom %s update changes it", n.noun, n.name, n.command)
	}
	if !isStatus(err, http.StatusNotFound) {
		return nil, err
	}
	return m.send(ctx, http.MethodPut, id, vaultsVersion, "", in)
}

func isStatus(err error, status int) bool {
	refused, ok := errors.AsType[*azcore.ResponseError](err)
	return ok && refused.StatusCode == status
}

// location is the one of the installation.
func (m *manager) location(ctx context.Context) (string, error) {
	all, err := m.list(ctx, m.subscription+"/locations", groupsVersion, "")
	if err != nil {
		return "", err
	}
	if len(all) != 1 {
		return "", usagef("--location is needed: the server has %d", len(all))
	}
	return text(all[0], "name"), nil
}

func newVaultUpdate() *cobra.Command {
	n, s := named{family: &vaultFamily}, settings{}
	cmd := &cobra.Command{
		Use:   "update --name NAME",
		Short: "Change the settings of a vault",
		Example: `  strongroom vault update --name team-a --enable-purge-protection
  strongroom vault update --name team-a --default-action Deny
  strongroom vault update --name team-a --enable-rbac-authorization false   # its access policies decide again`,
		RunE: func(cmd *cobra.Command, _ []string) error { return n.update(cmd, &s, updateFlags(&vaultFamily)) },
	}
	n.register(cmd, "id or name")
	s.register(cmd, &vaultFamily)
	return cmd
}

// updateFlags are those of which an update needs one.
func updateFlags(f *family) []string {
	flags := []string{"enable-purge-protection", "default-action", "bypass", "public-network-access", "tags"}
	if f == &vaultFamily {
		flags = append(flags, "enable-rbac-authorization", "enabled-for-deployment", "enabled-for-disk-encryption", "enabled-for-template-deployment")
	}
	return flags
}

func (n *named) update(cmd *cobra.Command, s *settings, flags []string) error {
	if err := anyChanged(cmd, flags...); err != nil {
		return err
	}
	tags, err := parseTags(s.tags)
	if err != nil {
		return err
	}
	return n.changed(cmd, func(ctx context.Context, m *manager, id string) (document, error) {
		in := document{"properties": s.properties(cmd)}
		if cmd.Flags().Changed("tags") {
			in["tags"] = tags
		}
		if s.bypass != "" || s.defaultAction != "" {
			old, err := m.get(ctx, id, vaultsVersion)
			if err != nil {
				return nil, err
			}
			in["properties"].(document)["networkAcls"] = s.network(old)
		}
		return n.patch(ctx, m, id, in)
	})
}

func (n *named) patch(ctx context.Context, m *manager, id string, in document) (document, error) {
	a, err := m.send(ctx, http.MethodPatch, id, vaultsVersion, "", in)
	if err != nil {
		return nil, err
	}
	return m.await(ctx, a, "changing the "+n.noun+" "+n.name)
}

// A policy is an access policy as flags say it.
type policyFlags struct {
	objectID, spn, application string
	granted                    map[string]*[]string // by kind of object
}

func (p *policyFlags) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&p.objectID, "object-id", "", "object id of the principal or group")
	f.StringVar(&p.spn, "spn", "", "client id or name of an application, instead of --object-id")
	f.StringVar(&p.application, "application-id", "", "client id of an application that must act for the principal")
	cmd.MarkFlagsMutuallyExclusive("object-id", "spn")
}

func (p *policyFlags) registerPermissions(cmd *cobra.Command) {
	p.granted = make(map[string]*[]string)
	for _, kind := range []string{"key", "secret", "certificate", "storage"} {
		list := new([]string)
		p.granted[kind] = list
		cmd.Flags().StringArrayVar(list, kind+"-permissions", nil, "permissions for "+kind+"s, such as get list; all; '' for none. They replace those that were there")
		azWords(cmd, kind+"-permissions")
	}
}

func (p *policyFlags) check() error {
	if (p.objectID == "") == (p.spn == "") {
		return usagef("whose policy? --object-id or --spn is needed")
	}
	return nil
}

// entry finds the policy that is meant among those of the vault. If there is none, it is made, without permissions.
func (p *policyFlags) entry(ctx context.Context, m *manager, vault document) (entry document, there bool, err error) {
	id := p.objectID
	if p.spn != "" {
		found, err := m.principal(ctx, p.spn)
		if err != nil {
			return nil, false, err
		}
		id = found.id
	}
	policies, _ := inner(vault, []string{"properties", "accessPolicies"}).([]any)
	for _, e := range policies {
		d, _ := e.(document)
		if strings.EqualFold(text(d, "objectId"), id) && strings.EqualFold(text(d, "applicationId"), p.application) {
			return d, true, nil
		}
	}
	entry = document{"tenantId": text(vault, "properties.tenantId"), "objectId": id, "permissions": document{}}
	if p.application != "" {
		entry["applicationId"] = p.application
	}
	return entry, false, nil
}

func newVaultSetPolicy() *cobra.Command {
	n, p := named{family: &vaultFamily}, policyFlags{}
	cmd := &cobra.Command{
		Use:   "set-policy --name NAME {--object-id ID | --spn CLIENT-ID}",
		Short: "Say what somebody may do in a vault that goes by access policies",
		Example: `  strongroom vault set-policy --name old-style --spn build-server --secret-permissions get list
  strongroom vault set-policy --name old-style --object-id 7e0c… --key-permissions all --secret-permissions ''`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.check(); err != nil {
				return err
			}
			if err := anyChanged(cmd, "key-permissions", "secret-permissions", "certificate-permissions", "storage-permissions"); err != nil {
				return err
			}
			return n.changed(cmd, func(ctx context.Context, m *manager, id string) (document, error) {
				vault, err := m.policyVault(ctx, id)
				if err != nil {
					return nil, err
				}
				entry, _, err := p.entry(ctx, m, vault)
				if err != nil {
					return nil, err
				}
				permissions, _ := entry["permissions"].(document)
				for kind, list := range p.granted {
					if cmd.Flags().Changed(kind + "-permissions") {
						permissions[policyMember(kind)] = words(*list)
					}
				}
				return m.changePolicies(ctx, id, "replace", entry)
			})
		},
	}
	n.register(cmd, "id or name")
	p.register(cmd)
	p.registerPermissions(cmd)
	return cmd
}

// policyMember is the member of an access policy for a kind of object.
func policyMember(kind string) string {
	if kind == "storage" {
		return kind
	}
	return kind + "s"
}

// words leaves out the empty word, which az takes for none.
func words(list []string) []string {
	return slices.DeleteFunc(append([]string{}, list...), func(w string) bool { return w == "" })
}

// policyVault is a vault whose access policies decide.
func (m *manager) policyVault(ctx context.Context, id string) (document, error) {
	vault, err := m.get(ctx, id, vaultsVersion)
	if err == nil && inner(vault, []string{"properties", "enableRbacAuthorization"}) == true {
		return nil, fmt.Errorf("roles decide who may use the vault %s, not access policies: use strongroom role assignment create, or "+
			"strongroom vault update --enable-rbac-authorization false first", text(vault, "name"))
	}
	return vault, err
}

// changePolicies replaces or removes one policy, whatever happens to the others meanwhile, and returns the vault.
func (m *manager) changePolicies(ctx context.Context, id, how string, entry document) (document, error) {
	in := document{"properties": document{"accessPolicies": []any{entry}}}
	if _, err := m.send(ctx, http.MethodPut, id+"/accessPolicies/"+how, vaultsVersion, "", in); err != nil {
		return nil, err
	}
	return m.get(ctx, id, vaultsVersion)
}

func newVaultDeletePolicy() *cobra.Command {
	n, p := named{family: &vaultFamily}, policyFlags{}
	cmd := &cobra.Command{
		Use:     "delete-policy --name NAME {--object-id ID | --spn CLIENT-ID}",
		Short:   "Take somebody's access policy away",
		Example: "  strongroom vault delete-policy --name old-style --spn build-server",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := p.check(); err != nil {
				return err
			}
			return n.changed(cmd, func(ctx context.Context, m *manager, id string) (document, error) {
				vault, err := m.get(ctx, id, vaultsVersion)
				if err != nil {
					return nil, err
				}
				entry, there, err := p.entry(ctx, m, vault)
				if err != nil {
					return nil, err
				}
				if !there {
					return nil, &notFoundError{fmt.Sprintf("the vault %s has no access policy for %s", n.name, text(entry, "objectId"))}
				}
				return m.changePolicies(ctx, id, "remove", entry)
			})
		},
	}
	n.register(cmd, "id or name")
	p.register(cmd)
	return cmd
}

// addAddresses adds rules for addresses and ranges that have none yet.
func addAddresses(rules document, addresses []string) (document, error) {
	list, _ := rules["ipRules"].([]any)
	for _, a := range addresses {
		prefix, err := parseAddress(a)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(list, matches(prefix)) {
			list = append(list, document{"value": a})
		}
	}
	rules["ipRules"] = list
	return rules, nil
}

// parseAddress reads an address, or a range in CIDR notation.
func parseAddress(text string) (netip.Prefix, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Masked(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Prefix{}, usagef("%q is neither an address nor a range such as 10.0.0.0/24", text)
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}

// matches tells whether a rule is for exactly those addresses.
func matches(prefix netip.Prefix) func(any) bool {
	return func(rule any) bool {
		d, _ := rule.(document)
		p, err := parseAddress(text(d, "value"))
		return err == nil && p == prefix
	}
}

func newNetworkRuleAdd() *cobra.Command {
	return networkRule("add", "Let addresses reach a vault", func(n *named, rules document, addresses []string) error {
		_, err := addAddresses(rules, addresses)
		return err
	})
}

func newNetworkRuleRemove() *cobra.Command {
	return networkRule("remove", "Take rules for addresses away", func(n *named, rules document, addresses []string) error {
		list, _ := rules["ipRules"].([]any)
		for _, a := range addresses {
			prefix, err := parseAddress(a)
			if err != nil {
				return err
			}
			if !slices.ContainsFunc(list, matches(prefix)) {
				return &notFoundError{fmt.Sprintf("the vault %s has no rule for %s", n.name, a)}
			}
			list = slices.DeleteFunc(list, matches(prefix))
		}
		rules["ipRules"] = list
		return nil
	})
}

func networkRule(use, short string, change func(n *named, rules document, addresses []string) error) *cobra.Command {
	var addresses []string
	n := named{family: &vaultFamily}
	cmd := &cobra.Command{
		Use:     use + " --name NAME --ip-address ADDRESS",
		Short:   short,
		Long:    short + ". Rules count with --default-action Deny of the vault only: without it every address reaches the vault.",
		Example: "  strongroom vault network-rule " + use + " --name team-a --ip-address 10.0.0.0/24 192.0.2.7",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(addresses) == 0 {
				return usagef("--ip-address is missing: which addresses?")
			}
			return n.changed(cmd, func(ctx context.Context, m *manager, id string) (document, error) {
				vault, err := m.get(ctx, id, vaultsVersion)
				if err != nil {
					return nil, err
				}
				rules := networkRules(vault)
				if err := change(&n, rules, addresses); err != nil {
					return nil, err
				}
				return n.patch(ctx, m, id, document{"properties": document{"networkAcls": rules}})
			})
		},
	}
	n.register(cmd, "id or properties.networkAcls")
	cmd.Flags().StringArrayVar(&addresses, "ip-address", nil, "addresses, and ranges in CIDR notation")
	azWords(cmd, "ip-address")
	return cmd
}

func newNetworkRuleList() *cobra.Command {
	n := named{family: &vaultFamily}
	cmd := &cobra.Command{
		Use: "list --name NAME", Short: "List from which addresses a vault is reached",
		Example: "  strongroom vault network-rule list --name team-a",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return n.about(cmd, func(ctx context.Context, m *manager, id string) error {
				vault, err := m.get(ctx, id, vaultsVersion)
				if err != nil {
					return err
				}
				return n.out.print(cmd.OutOrStdout(), networkRules(vault), "defaultAction", "bypass", "ipRules")
			})
		},
	}
	n.register(cmd, "defaultAction or ipRules")
	return cmd
}
