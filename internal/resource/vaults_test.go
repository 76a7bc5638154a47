package resource

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// TestUpgrade opens a store that a release without roles and groups has written.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	b, ctx := newStore(t), t.Context()
	b.load(t, "testdata/before-roles.json")
	b.Service = b.serve(t)
	before, err := b.FindVault(ctx, operator, "DEMO")
	must(t, err)
	want := &vaultRecord{
		Format: record.Current(), ID: "517629f050c30c38c2365f4c3ecbfea8", Name: "Demo", TenantID: tenant,
		SubscriptionID: "4cdc6fdf-a148-4bc1-8e50-7f1dcec04cdf", ResourceGroup: "strongroom", Location: "local", Tier: Premium,
		RetentionDays: 90, PurgeProtection: true, Created: 1_700_000_000, Modified: 1_700_000_000, PublicNetwork: NetworkEnabled,
		Administrators: []string{"0a11ce00-0000-4000-8000-00000000000a", "group:c4e30000-0000-4000-8000-00000000000c"},
	}
	if diff := gocmp.Diff(want, before.record()); diff != "" {
		t.Errorf("the vault (-want +got):\n%s", diff)
	}
	if ok, err := b.mayGet(ctx, "demo", "s", owner); !ok || err != nil {
		t.Errorf("its administrator may not: %v", err)
	}
	_, err = b.GetVault(ctx, owner, "strongroom", "demo")
	wantKind(t, err, AuthorizationFailed)
	for _, want := range []bool{true, false} {
		if made := b.bootstrap(t, "init"); made != want {
			t.Errorf("becomes Owner: %v, want %v", made, want)
		}
	}
	if _, err = b.GetVault(ctx, owner, "strongroom", "demo"); err != nil {
		t.Error(err)
	}
	if got := b.keys(t, "role/assignment/"); len(got) != 1 {
		t.Errorf("assignments: %q", got)
	}
	b.consistent(t)
	_, _, err = b.PutVault(ctx, owner, "strongroom", "gone", PutVaultParams{Recover: true})
	must(t, err)
	if due := b.keys(t, "due/"); len(due) != 0 {
		t.Errorf("after the recovery is due: %q", due)
	}
	// Who takes the owner's role away means it: the next start does not bring it back.
	list, err := b.ListRoleAssignments(ctx, owner, b.SubscriptionScope(), AssignmentFilter{})
	must(t, err)
	_, err = b.DeleteRoleAssignment(ctx, owner, b.SubscriptionScope(), list[0].ID)
	must(t, err)
	b.bootstrap(t, "init")
	_, err = b.GetVault(ctx, owner, "strongroom", "demo")
	wantKind(t, err, AuthorizationFailed)
	b.consistent(t)
}

func TestLostInstallation(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.vault(t, "vault")
	must(t, b.db.Update(t.Context(), func(tx store.Tx) error { return tx.Delete(installKey) }))
	var spoiled *seal.RecordError
	if _, err := Open(t.Context(), Config{DB: b.db, Audit: b.log}); !errors.As(err, &spoiled) || spoiled.Key != installKey {
		t.Errorf("opened: %v", err)
	}
}

func TestVaultLife(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	v := b.vault(t, "Vault")
	if v.ARMID() != "/subscriptions/"+b.SubscriptionID()+"/resourceGroups/g/providers/Microsoft.KeyVault/vaults/Vault" ||
		v.Resource() != strings.ToUpper(v.ARMID()) || v.Tier != Standard || v.CreatedBy != "app-0a11" || v.CreatedByType != "Application" {
		t.Errorf("made: %+v", v)
	}
	_, created, err := b.PutVault(ctx, owner, "G", "VAULT", PutVaultParams{Tags: map[string]string{"a": "b"}})
	if err != nil || created {
		t.Errorf("replaced: %v, %v", created, err)
	}
	_, _, err = b.PutGroup(ctx, owner, Group{Name: "h", Location: "local"})
	must(t, err)
	_, _, err = b.PutVault(ctx, owner, "h", "vault", PutVaultParams{Location: "local"})
	wantKind(t, err, VaultAlreadyExists)
	_, err = b.GetVault(ctx, owner, "h", "vault")
	wantKind(t, err, ResourceNotFound)
	existed, err := b.DeleteVault(ctx, owner, "h", "vault")
	if existed || err != nil {
		t.Errorf("deleted by way of another group: %v, %v", existed, err)
	}
	_, _, err = b.PutVault(ctx, owner, "g", "vault", PutVaultParams{Recover: true})
	wantKind(t, err, ConflictError)
	wantKind(t, b.PurgeVault(ctx, owner, "local", "vault"), SoftDeletedVaultDoesNotExist)

	existed, err = b.DeleteVault(ctx, owner, "g", "vaulT")
	if !existed || err != nil {
		t.Errorf("deleted: %v, %v", existed, err)
	}
	existed, err = b.DeleteVault(ctx, owner, "g", "vault")
	if existed || err != nil {
		t.Errorf("deleted again: %v, %v", existed, err)
	}
	_, err = b.GetVault(ctx, owner, "g", "vault")
	wantKind(t, err, ResourceNotFound)
	_, _, err = b.PutVault(ctx, owner, "g", "vault", PutVaultParams{Location: "local"})
	wantKind(t, err, ConflictError)
	_, _, err = b.PutVault(ctx, owner, "h", "vault", PutVaultParams{Location: "local"})
	wantKind(t, err, VaultAlreadyExists)
	_, _, err = b.PutVault(ctx, owner, "h", "vault", PutVaultParams{Recover: true})
	wantKind(t, err, SoftDeletedVaultDoesNotExist)
	_, err = b.GetDeletedVault(ctx, owner, "westeurope", "vault")
	wantKind(t, err, SoftDeletedVaultDoesNotExist)
	gone, err := b.GetDeletedVault(ctx, owner, "LOCAL", "vault")
	if err != nil || gone.PurgeAt-gone.Deleted != 7*secondsPerDay {
		t.Errorf("deleted: %+v, %v", gone, err)
	}
	must(t, b.DeleteGroup(ctx, owner, "g"))
	_, _, err = b.PutVault(ctx, owner, "g", "vault", PutVaultParams{Recover: true})
	wantKind(t, err, ResourceGroupNotFound)
	_, err = b.GetVault(ctx, owner, "g", "vault")
	wantKind(t, err, ResourceGroupNotFound)
	_, err = b.PatchVault(ctx, owner, "g", "vault", PatchVaultParams{})
	wantKind(t, err, ResourceGroupNotFound)
	if existed, err := b.DeleteVault(ctx, owner, "g", "vault"); existed || err != nil {
		t.Errorf("deleted in a group that is not there: %v, %v", existed, err)
	}
	_, _, err = b.PutGroup(ctx, owner, Group{Name: "G", Location: "local"})
	must(t, err)
	back, created, err := b.PutVault(ctx, owner, "g", "vault", PutVaultParams{Recover: true})
	if err != nil || created || back.ID != v.ID || back.Tags["a"] != "b" || back.Deleted != 0 {
		t.Errorf("recovered: %+v, %v, %v", back, created, err)
	}
	if _, err := b.DeleteVault(ctx, owner, "g", "vault"); err != nil {
		t.Fatal(err)
	}
	must(t, b.PurgeVault(ctx, owner, "local", "vault"))
	if left := append(b.keys(t, "vault/"), b.keys(t, "due/")...); len(left) != 0 || len(b.keys(t, "garbage/"+v.ID)) != 1 {
		t.Errorf("after the purge is left: %q", left)
	}
	if again := b.vault(t, "vault"); again.ID == v.ID {
		t.Error("a new vault has the objects of the old one")
	}
	b.consistent(t)
}

func TestPurgedOnTime(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	v := b.vault(t, "guarded", func(p *PutVaultParams) { p.PurgeProtection, p.RetentionDays = new(true), new(90) })
	_, err := b.DeleteVault(ctx, owner, "g", "guarded")
	must(t, err)
	wantKind(t, b.PurgeVault(ctx, owner, "local", "guarded"), PurgeProtected)
	due := b.keys(t, "due/")
	if len(due) != 1 {
		t.Fatalf("due: %q", due)
	}
	at := b.clock().Unix() + 90*secondsPerDay
	purge := func(at int64) (did bool) {
		must(t, b.db.Update(ctx, func(tx store.Tx) (err error) {
			did, err = b.PurgeDue(tx, "purgevault", due[0], "guarded", at)
			return err
		}))
		return did
	}
	if !purge(at) || purge(at) || len(b.keys(t, "garbage/"+v.ID)) != 1 || len(b.keys(t, "vault/")) != 0 {
		t.Error("it was not purged once")
	}
}

// TestPurgeTakesAssignments purges a vault at which more was assigned than fits into a transaction. A vault that has its name later
// is not open to whom it was open.
func TestPurgeTakesAssignments(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	rbac := func(p *PutVaultParams) { p.RBAC = new(true) }
	b.vault(t, "vault", rbac)
	b.vault(t, "vault2", rbac)
	for i := range 2*dropBatch + 5 {
		id := "0ddba110-0000-4000-8000-" + leftPad(i)
		b.assign(t, b.scope(t, vaultPath+"vault"), authz.RoleVaultSecretsUser, id)
	}
	b.assign(t, b.scope(t, vaultPath+"vault/secrets/s"), authz.RoleVaultSecretsUser, otherID)
	b.assign(t, b.scope(t, vaultPath+"vault2"), authz.RoleVaultSecretsUser, otherID)
	if ok, err := b.mayGet(ctx, "vault", "S", nobody); !ok || err != nil {
		t.Errorf("before: %v, %v", ok, err)
	}
	_, err := b.DeleteVault(ctx, owner, "g", "vault")
	must(t, err)
	must(t, b.PurgeVault(ctx, owner, "local", "vault"))
	b.vault(t, "vault", rbac)
	if ok, err := b.mayGet(ctx, "vault", "s", nobody); ok || err != nil {
		t.Errorf("after: %v, %v", ok, err)
	}
	if ok, err := b.mayGet(ctx, "vault2", "s", nobody); !ok || err != nil {
		t.Errorf("in the other vault: %v, %v", ok, err)
	}
	if n := len(b.keys(t, "role/assignment/")); n != 2 {
		t.Errorf("%d assignments are left, want the owner's and one", n)
	}
}

func TestPutVaultRefuses(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.vault(t, "there", func(p *PutVaultParams) { p.PurgeProtection = new(true) })
	policy := func(n int) (list []authz.AccessPolicy) {
		for i := range n {
			list = append(list, authz.AccessPolicy{TenantID: tenant, ObjectID: "0ddba110-0000-4000-8000-" + leftPad(i), Secrets: []string{"get"}})
		}
		return list
	}
	for name, c := range map[string]struct {
		group, vault string
		p            PutVaultParams
		want         Kind
	}{
		"no location":         {"g", "new", PutVaultParams{}, LocationNotAvailable},
		"unknown location":    {"g", "new", PutVaultParams{Location: "moon"}, LocationNotAvailable},
		"no group":            {"none", "new", PutVaultParams{Location: "local"}, ResourceGroupNotFound},
		"group is a path":     {"g/providers/Microsoft.KeyVault/vaults/there", "new", PutVaultParams{Location: "local"}, ResourceGroupNotFound},
		"group is dots":       {"..", "new", PutVaultParams{Location: "local"}, ResourceGroupNotFound},
		"group is escaped":    {"%67", "new", PutVaultParams{Location: "local"}, ResourceGroupNotFound},
		"short name":          {"g", "ab", PutVaultParams{Location: "local"}, InvalidName},
		"long name":           {"g", strings.Repeat("a", 25), PutVaultParams{Location: "local"}, InvalidName},
		"digit first":         {"g", "1abc", PutVaultParams{Location: "local"}, InvalidName},
		"hyphens":             {"g", "a--b", PutVaultParams{Location: "local"}, InvalidName},
		"hyphen at the end":   {"g", "abc-", PutVaultParams{Location: "local"}, InvalidName},
		"newline":             {"g", "abc\n", PutVaultParams{Location: "local"}, InvalidName},
		"look-alike":          {"g", "vаult", PutVaultParams{Location: "local"}, InvalidName},
		"slash":               {"g", "a/b", PutVaultParams{Location: "local"}, InvalidName},
		"few days":            {"g", "new", PutVaultParams{Location: "local", RetentionDays: new(6)}, InvalidProperty},
		"many days":           {"g", "new", PutVaultParams{Location: "local", RetentionDays: new(91)}, InvalidProperty},
		"no soft delete":      {"g", "new", PutVaultParams{Location: "local", SoftDelete: new(false)}, InvalidProperty},
		"not protected":       {"g", "new", PutVaultParams{Location: "local", PurgeProtection: new(false)}, InvalidProperty},
		"other tenant":        {"g", "new", PutVaultParams{Location: "local", TenantID: otherID}, InvalidProperty},
		"unknown tier":        {"g", "new", PutVaultParams{Location: "local", Tier: "gold"}, SkuNotSupported},
		"tier of HSMs":        {"g", "new", PutVaultParams{Location: "local", Tier: ManagedHSM}, SkuNotSupported},
		"administrators":      {"g", "new", PutVaultParams{Location: "local", Administrators: []string{ownerID}}, SkuNotSupported},
		"public":              {"g", "new", PutVaultParams{Location: "local", PublicNetworkAccess: new("maybe")}, InvalidProperty},
		"network":             {"g", "new", PutVaultParams{Location: "local", Network: &authz.NetworkRules{DefaultAction: "maybe"}}, InvalidProperty},
		"policy, unknown":     {"g", "new", PutVaultParams{Location: "local", AccessPolicies: []authz.AccessPolicy{{TenantID: tenant, ObjectID: otherID, Keys: []string{"fly"}}}}, InvalidProperty},
		"policy, twice":       {"g", "new", PutVaultParams{Location: "local", AccessPolicies: append(policy(1), policy(1)...)}, InvalidProperty},
		"policy, tenant":      {"g", "new", PutVaultParams{Location: "local", AccessPolicies: []authz.AccessPolicy{{TenantID: otherID, ObjectID: otherID}}}, InvalidProperty},
		"policies":            {"g", "new", PutVaultParams{Location: "local", AccessPolicies: policy(1025)}, InvalidProperty},
		"tag":                 {"g", "new", PutVaultParams{Location: "local", Tags: map[string]string{"a": strings.Repeat("b", 257)}}, InvalidProperty},
		"recover nothing":     {"g", "new", PutVaultParams{Recover: true}, SoftDeletedVaultDoesNotExist},
		"move":                {"g", "there", PutVaultParams{Location: "West Europe"}, ConflictError},
		"other retention":     {"g", "there", PutVaultParams{RetentionDays: new(8)}, InvalidProperty},
		"take the protection": {"g", "there", PutVaultParams{PurgeProtection: new(false)}, InvalidProperty},
	} {
		before := len(b.keys(t, ""))
		_, _, err := b.PutVault(ctx, owner, c.group, c.vault, c.p)
		if !IsKind(err, c.want) {
			t.Errorf("%s: %v, want kind %d", name, err, c.want)
		}
		if n := len(b.keys(t, "")) - before; n != 0 {
			t.Errorf("%s: %d records came", name, n)
		}
	}
	_, err := b.CreateVault(ctx, operator, "g", "new", PutVaultParams{Location: "local", Tier: ManagedHSM})
	wantKind(t, err, SkuNotSupported) // not by the operator either
	b.vault(t, "full", func(p *PutVaultParams) { p.AccessPolicies = policy(1024) })
	if ok, err := b.mayGet(ctx, "full", "s", person("0ddba110-0000-4000-8000-"+leftPad(1023))); !ok || err != nil {
		t.Errorf("by the last of many policies: %v, %v", ok, err)
	}
}

// TestPutKeepsAccess replaces a vault without a word about what access depends on.
func TestPutKeepsAccess(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	rules := &authz.NetworkRules{
		Bypass: authz.BypassNone, DefaultAction: authz.DenyAddresses, IPRules: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}
	v := b.vault(t, "vault", func(p *PutVaultParams) {
		p.RBAC, p.Network, p.PublicNetworkAccess = new(true), rules, new("disabled")
		p.AccessPolicies = []authz.AccessPolicy{{TenantID: tenant, ObjectID: otherID, Secrets: []string{"Get", "get", "LIST"}}}
		p.Tags = map[string]string{"a": "b"}
	})
	next, _, err := b.PutVault(ctx, owner, "g", "vault", PutVaultParams{DefaultRBAC: false})
	must(t, err)
	if !next.RBAC || next.PublicNetworkAccess != NetworkDisabled || len(next.Tags) != 0 {
		t.Errorf("replaced: %+v", next)
	}
	if diff := gocmp.Diff(v.record().AccessPolicies, next.record().AccessPolicies); diff != "" {
		t.Error(diff)
	}
	if diff := gocmp.Diff(v.record().Network.DefaultAction, next.record().Network.DefaultAction); diff != "" {
		t.Error(diff)
	}
	if got := next.AccessPolicies[0].Secrets; !slices.Equal(got, []string{"Get", "LIST"}) {
		t.Errorf("verbs %q", got)
	}
}

// TestPartOfRules changes a part of the network rules of a vault and of a managed HSM: what is left out stays as it was.
func TestPartOfRules(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	ranges := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	networks := []string{"/subscriptions/s/subnets/a"}
	full := authz.NetworkRules{
		Bypass: authz.BypassNone, DefaultAction: authz.DenyAddresses, IPRules: ranges, VirtualNetworks: networks,
	}
	open := authz.NetworkRules{Bypass: authz.BypassAzureServices, DefaultAction: authz.AllowAddresses}
	with := func(n authz.NetworkRules, change func(*authz.NetworkRules)) authz.NetworkRules { change(&n); return n }
	for i, c := range []struct {
		before     *authz.NetworkRules
		said, want authz.NetworkRules
	}{
		{&full, authz.NetworkRules{}, full},
		{&full, authz.NetworkRules{Bypass: authz.BypassAzureServices}, with(full, func(n *authz.NetworkRules) { n.Bypass = authz.BypassAzureServices })},
		{&full, authz.NetworkRules{DefaultAction: authz.AllowAddresses}, with(full, func(n *authz.NetworkRules) { n.DefaultAction = authz.AllowAddresses })},
		{&full, authz.NetworkRules{IPRules: []netip.Prefix{}}, with(full, func(n *authz.NetworkRules) { n.IPRules = nil })},
		{&full, authz.NetworkRules{VirtualNetworks: []string{}}, with(full, func(n *authz.NetworkRules) { n.VirtualNetworks = nil })},
		{&open, authz.NetworkRules{IPRules: ranges}, with(open, func(n *authz.NetworkRules) { n.IPRules = ranges })},
		{nil, authz.NetworkRules{}, open},
		{nil, authz.NetworkRules{IPRules: []netip.Prefix{}}, open},
		{nil, authz.NetworkRules{IPRules: ranges}, with(open, func(n *authz.NetworkRules) { n.IPRules, n.DefaultAction = ranges, authz.DenyAddresses })},
		{nil, authz.NetworkRules{VirtualNetworks: networks}, with(open, func(n *authz.NetworkRules) {
			n.VirtualNetworks, n.DefaultAction = networks, authz.DenyAddresses
		})},
	} {
		name := fmt.Sprintf("rules-%d", i)
		b.vault(t, name, func(p *PutVaultParams) { p.Network = c.before })
		_, _, err := b.PutHSM(ctx, owner, "g", name, PutHSMParams{
			Location: "local", SKUName: "Standard_B1", Administrators: []string{ownerID}, Network: c.before,
		})
		must(t, err)
		check := func(what string, err error, v *Vault) {
			t.Helper()
			must(t, err)
			same := gocmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
			if diff := gocmp.Diff(c.want, *v.Network, same, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%d, %s (-want +got):\n%s", i, what, diff)
			}
		}
		v, _, err := b.PutVault(ctx, owner, "g", name, PutVaultParams{Network: &c.said})
		check("put", err, v)
		v, err = b.PatchVault(ctx, owner, "g", name, PatchVaultParams{Network: &c.said})
		check("patched once more", err, v)
		v, err = b.PatchHSM(ctx, owner, "g", name, PatchHSMParams{Network: &c.said})
		check("HSM", err, v)
	}
}

func TestAllowsAddress(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	inside, outside := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.1")
	open := b.vault(t, "open")
	ruled := b.vault(t, "ruled", func(p *PutVaultParams) {
		p.Network = &authz.NetworkRules{
			Bypass: authz.BypassAzureServices, DefaultAction: authz.DenyAddresses, IPRules: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		}
	})
	closed := b.vault(t, "closed", func(p *PutVaultParams) { p.PublicNetworkAccess = new("Disabled") })
	for _, c := range []struct {
		v    *Vault
		a    netip.Addr
		want bool
	}{
		{open, outside, true}, {open, netip.Addr{}, true}, {ruled, inside, true}, {ruled, outside, false}, {ruled, netip.Addr{}, false},
		{closed, inside, false}, {closed, netip.Addr{}, false},
	} {
		if got := b.AllowsAddress(c.v, c.a); got != c.want {
			t.Errorf("%s from %s: %v", c.v.Name, c.a, got)
		}
	}
}

func TestChangeAccessPolicies(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.vault(t, "vault")
	entry := func(id string, secrets ...string) authz.AccessPolicy {
		return authz.AccessPolicy{TenantID: tenant, ObjectID: id, Secrets: secrets}
	}
	step := func(op AccessPolicyChange, p authz.AccessPolicy, want ...string) {
		t.Helper()
		v, err := b.ChangeAccessPolicies(ctx, owner, "g", "vault", op, []authz.AccessPolicy{p})
		must(t, err)
		var got []string
		for _, p := range v.AccessPolicies {
			got = append(got, p.ObjectID[:4]+":"+strings.Join(p.Secrets, "+"))
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	step(AddPolicies, entry(otherID, "get"), "0b0b:get")
	step(AddPolicies, entry(strings.ToUpper(otherID), "GET", "list"), "0b0b:get+list")
	step(AddPolicies, entry(thirdID, "all", "purge"), "0b0b:get+list", "0ca7:all+purge")
	step(ReplacePolicies, entry(otherID, "set"), "0b0b:set", "0ca7:all+purge")
	step(RemovePolicies, entry(otherID, "get"), "0b0b:set", "0ca7:all+purge")
	step(RemovePolicies, entry(otherID, "set"), "0ca7:all+purge")
	step(RemovePolicies, entry(otherID, "set"), "0ca7:all+purge")
	step(RemovePolicies, entry(thirdID, "all"), "0ca7:purge")
	step(AddPolicies, entry(thirdID, "all"), "0ca7:purge+all")
	step(RemovePolicies, entry(thirdID, "get"), "0ca7:purge")
	_, err := b.ChangeAccessPolicies(ctx, owner, "g", "vault", AddPolicies, []authz.AccessPolicy{entry(otherID, "fly")})
	wantKind(t, err, InvalidProperty)
	_, err = b.ChangeAccessPolicies(ctx, nobody, "g", "vault", AddPolicies, []authz.AccessPolicy{entry(otherID, "get")})
	wantKind(t, err, AuthorizationFailed)
}

// TestAtOnce lets many make the same vault, and delete, recover and purge it: one of those who cannot both succeed does.
func TestAtOnce(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	servers := []*Service{b.Service, b.serve(t)}
	race := func(n int, act func(s *Service, i int) error) (won int) {
		var (
			wg sync.WaitGroup
			mu sync.Mutex
		)
		for i := range n {
			wg.Go(func() {
				err := act(servers[i%2], i)
				var refused *Error
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					won++
				} else if !errors.As(err, &refused) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		return won
	}
	for range 5 {
		if n := race(8, func(s *Service, _ int) error {
			_, err := s.CreateVault(ctx, operator, "g", "vault", PutVaultParams{Location: "local"})
			return err
		}); n != 1 {
			t.Errorf("%d creations succeeded", n)
		}
		if n := race(8, func(s *Service, _ int) error {
			existed, err := s.DeleteVault(ctx, owner, "g", "vault")
			if err == nil && !existed {
				err = &Error{}
			}
			return err
		}); n != 1 {
			t.Errorf("%d deletions succeeded", n)
		}
		if n := race(8, func(s *Service, i int) error {
			if i%4 < 2 {
				return s.PurgeVault(ctx, owner, "local", "vault")
			}
			_, _, err := s.PutVault(ctx, owner, "g", "vault", PutVaultParams{Recover: true})
			return err
		}); n != 1 {
			t.Errorf("%d of recovery and purge succeeded", n)
		}
		b.consistent(t)
		if v, err := b.FindVault(ctx, operator, "vault"); err == nil {
			if v.Deleted != 0 {
				t.Error("it is deleted still")
			}
			_, err := b.DeleteVault(ctx, owner, "g", "vault")
			must(t, err)
			must(t, b.PurgeVault(ctx, owner, "local", "vault"))
		}
	}
}

// TestPoliciesBeforeTransaction: a list that is too long is refused before anything waits for it, since only one can write at
// a time.
func TestPoliciesBeforeTransaction(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.vault(t, "vault")
	verbs := make([]string, 100_000)
	for i := range verbs {
		verbs[i] = strconv.Itoa(i)
	}
	before := len(b.lines(t, "VaultPatch")) + len(b.lines(t, "VaultPut"))
	long := []authz.AccessPolicy{{TenantID: tenant, ObjectID: otherID, Keys: verbs}}
	_, err := b.PatchVault(ctx, owner, "g", "vault", PatchVaultParams{AccessPolicies: long})
	wantKind(t, err, InvalidProperty)
	_, _, err = b.PutVault(ctx, owner, "g", "vault", PutVaultParams{Location: "here", AccessPolicies: long})
	wantKind(t, err, InvalidProperty)
	if n := len(b.lines(t, "VaultPatch")) + len(b.lines(t, "VaultPut")); n != before {
		t.Error("something was announced")
	}
}
