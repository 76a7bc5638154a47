package keyvault

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/resource"
)

const memberID = "0d0d0000-0000-4000-8000-00000000000d"

var member = &identity.Caller{TenantID: "t", ObjectID: memberID, AppID: "app3", Issuer: "iss"}

// roled makes a vault in which roles say who may do what.
func (b *bench) roled(t testing.TB, name string) {
	t.Helper()
	_, err := b.resources.CreateVault(t.Context(), someone, "g", name, resource.PutVaultParams{
		Location: "here", Tier: resource.Premium, RetentionDays: new(7), RBAC: new(true), Administrators: []string{adminID},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// assign gives a principal a role; where is below the subscription.
func (b *bench) assign(t testing.TB, where, role, principal string) *resource.RoleAssignment {
	t.Helper()
	scope, err := authz.ParseScope("/subscriptions/" + b.resources.SubscriptionID() + where)
	if err != nil {
		t.Fatal(err)
	}
	a, _, err := b.resources.PutRoleAssignment(t.Context(), someone, scope, uuid.NewString(), resource.AssignmentParams{
		RoleDefinitionID: role, PrincipalID: principal,
	})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func secretActs(ctx context.Context, b *Service, caller *identity.Caller, vault string, blob []byte) map[string]func() error {
	p := SetSecretParams{Value: NewSecretValue("v")}
	return map[string]func() error{
		"set":           func() error { _, err := b.SetSecret(ctx, caller, vault, "s", p); return err },
		"get":           func() error { _, err := b.GetSecret(ctx, caller, vault, "S", ""); return err },
		"update":        func() error { _, err := b.UpdateSecret(ctx, caller, vault, "s", "", UpdateSecretParams{}); return err },
		"delete":        func() error { _, err := b.DeleteSecret(ctx, caller, vault, "s"); return err },
		"get deleted":   func() error { _, err := b.GetDeletedSecret(ctx, caller, vault, "s"); return err },
		"recover":       func() error { _, err := b.RecoverSecret(ctx, caller, vault, "s"); return err },
		"purge":         func() error { return b.PurgeSecret(ctx, caller, vault, "s") },
		"list":          func() error { _, err := b.ListSecrets(ctx, caller, vault, "", 25); return err },
		"list deleted":  func() error { _, err := b.ListDeletedSecrets(ctx, caller, vault, "", 25); return err },
		"list versions": func() error { _, err := b.ListSecretVersions(ctx, caller, vault, "s", "", 25); return err },
		"backup":        func() error { _, err := b.BackupSecret(ctx, caller, vault, "s"); return err },
		"restore":       func() error { _, err := b.RestoreSecret(ctx, caller, vault, blob); return err },
	}
}

// allActs are the operations on a secret s and a key k, by kind and name, without those that only managed HSMs have.
func allActs(ctx context.Context, s *Service, caller *identity.Caller, vault string) map[string]func() error {
	out := make(map[string]func() error)
	for name, act := range secretActs(ctx, s, caller, vault, nil) {
		out["secret "+name] = act
	}
	for name, act := range keyActs(ctx, s, caller, vault, nil) {
		out["key "+name] = act
	}
	delete(out, "key restore of trash")
	return out
}

// allowed returns which acts are not denied by role. What else they fail of does not matter.
func allowed(t testing.TB, acts map[string]func() error) (out []string) {
	t.Helper()
	for name, act := range acts {
		if err := act(); !isKind(err, AccessDeniedByRole) {
			var refused *Error
			if err != nil && !errors.As(err, &refused) {
				t.Errorf("%s: %v", name, err)
			}
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// TestRoles holds what each role allows at each kind of scope, through the operations themselves.
func TestRoles(t *testing.T) {
	t.Parallel()
	const (
		vault     = "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/roled"
		anObject  = vault + "/secrets/s"
		otherOne  = vault + "/secrets/other"
		aKey      = vault + "/keys/k"
		elsewhere = "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/vault"
	)
	of := func(kind string, names ...string) (out []string) {
		for _, n := range names {
			out = append(out, kind+" "+n)
		}
		return out
	}
	without := func(list []string, gone ...string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(gone, s) })
	}
	var secrets, keys []string
	for name := range allActs(t.Context(), nil, nil, "") {
		switch {
		case name == "key random": // of managed HSMs
		case strings.HasPrefix(name, "secret "):
			secrets = append(secrets, name)
		default:
			keys = append(keys, name)
		}
	}
	lists := []string{"list", "list deleted"}
	whole := append(of("secret", "list", "list deleted", "restore"), of("key", "list", "list deleted", "restore")...)
	seeSecrets := of("secret", append(lists, "get deleted", "list versions")...)
	useSecrets := append(of("secret", "get"), seeSecrets...)
	seeKeys := of("key", append(lists, "get", "get deleted", "list versions", "encrypt", "verify", "wrap")...) // the key is asymmetric
	for _, c := range []struct {
		role, at string
		want     []string
	}{
		{authz.RoleVaultAdministrator, vault, append(secrets, keys...)},
		{authz.RoleVaultAdministrator, "", append(secrets, keys...)},
		{authz.RoleVaultAdministrator, elsewhere, nil},
		{authz.RoleVaultReader, vault, slices.Concat(seeSecrets, seeKeys, of("key", "get policy"))},
		{authz.RoleVaultSecretsOfficer, vault, secrets},
		{authz.RoleVaultSecretsOfficer, "/resourceGroups/g", secrets},
		{authz.RoleVaultSecretsOfficer, anObject, without(secrets, whole...)},
		{authz.RoleVaultSecretsOfficer, otherOne, nil},
		{authz.RoleVaultSecretsOfficer, aKey, nil},
		{authz.RoleVaultSecretsUser, vault, useSecrets},
		{authz.RoleVaultSecretsUser, anObject, without(useSecrets, whole...)},
		{authz.RoleVaultCryptoOfficer, vault, keys},
		{authz.RoleVaultCryptoOfficer, aKey, without(keys, whole...)},
		{authz.RoleVaultCryptoUser, vault, slices.Concat(seeKeys, of("key", "update", "backup", "decrypt", "unwrap", "sign"))},
		{authz.RoleVaultCryptoServiceEncryption, vault, slices.Concat(seeKeys, of("key", "unwrap"))},
		{authz.RoleVaultCryptoServiceRelease, vault, of("key", "release")},
		{authz.RoleVaultCryptoServiceRelease, aKey, of("key", "release")},
		{authz.RoleVaultCertificateUser, vault, append(useSecrets, seeKeys...)},
		{authz.RoleVaultCertificatesOfficer, vault, nil},
		{authz.RoleOwner, "", nil},
		{authz.RoleContributor, vault, nil},
		{authz.RoleUserAccessAdministrator, vault, nil},
	} {
		name := c.role
		for _, d := range authz.BuiltInRoles() {
			if d.ID == c.role {
				name = d.Name
			}
		}
		t.Run(name+" at "+c.at, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.roled(t, "roled")
			b.assign(t, c.at, c.role, memberID)
			b.set(t, "roled", "s", "v")
			b.create(t, "roled", "k", CreateKeyParams{Type: "EC"})
			acts := allActs(t.Context(), b.Service, member, "roled")
			// What is asked first is what needs the key to be there and asymmetric.
			first := make(map[string]func() error)
			for _, n := range of("key", "encrypt", "verify", "wrap") {
				first[n] = acts[n]
				delete(acts, n)
			}
			got := append(allowed(t, first), allowed(t, acts)...)
			want := slices.Clone(c.want)
			slices.Sort(got)
			slices.Sort(want)
			if !slices.Equal(got, want) {
				t.Errorf("may %q\nwant  %q", got, want)
			}
			b.consistent(t)
		})
	}
}

// TestReaderOfSymmetricKey: what the reader of a key may do because its public part is known does not hold for keys that have none.
func TestReaderOfSymmetricKey(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.roled(t, "roled")
	b.assign(t, "", authz.RoleVaultReader, memberID)
	k := b.create(t, "roled", "aes", CreateKeyParams{Type: "oct-HSM"})
	_, _, err := b.Encrypt(ctx, member, "roled", "aes", "", "A256GCM", Message{Value: []byte("text")})
	wantKind(t, err, AccessDeniedByRole)
	_, _, err = b.Wrap(ctx, member, "roled", "aes", k.Version, "A256KW", Message{Value: make([]byte, 32)})
	wantKind(t, err, AccessDeniedByRole)
	rsa := b.take(t, "roled", "rsa", ImportKeyParams{Type: "RSA", Private: rsaMembers(makeRSA())})
	c, used, err := b.Encrypt(ctx, member, "roled", "rsa", "", "RSA-OAEP-256", Message{Value: []byte("text")})
	if err != nil || used.Version != rsa.Version {
		t.Fatal(err)
	}
	_, _, err = b.Decrypt(ctx, member, "roled", "rsa", "", "RSA-OAEP-256", c)
	wantKind(t, err, AccessDeniedByRole)
	_, _, err = b.Sign(ctx, member, "roled", "rsa", "", "RS256", make([]byte, 32))
	wantKind(t, err, AccessDeniedByRole)
}

// TestAccessPolicies decides by the vault's own list, and not by roles.
func TestAccessPolicies(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.set(t, "vault", "s", "v")
	b.assign(t, "", authz.RoleVaultAdministrator, memberID)
	_, err := b.GetSecret(ctx, member, "vault", "s", "")
	wantKind(t, err, AccessDenied)
	for _, c := range []struct {
		policy authz.AccessPolicy
		caller *identity.Caller
		get    bool
	}{
		{authz.AccessPolicy{ObjectID: strings.ToUpper(memberID), Secrets: []string{"GET"}}, member, true},
		{authz.AccessPolicy{ObjectID: memberID, Secrets: []string{"list"}, Keys: []string{"all"}}, member, false},
		{authz.AccessPolicy{ObjectID: crewID, Secrets: []string{"all"}}, &identity.Caller{TenantID: "t", ObjectID: memberID, Groups: []string{crewID}}, true},
		{authz.AccessPolicy{ObjectID: memberID, ApplicationID: crewID, Secrets: []string{"get"}}, member, false},
		{authz.AccessPolicy{ObjectID: memberID, ApplicationID: crewID, Secrets: []string{"get"}}, &identity.Caller{TenantID: "t", ObjectID: memberID, AppID: crewID}, true},
		{authz.AccessPolicy{ObjectID: memberID, Secrets: []string{"get"}}, &identity.Caller{TenantID: "other", ObjectID: memberID}, false},
	} {
		c.policy.TenantID = "t"
		_, err := b.resources.PatchVault(ctx, someone, "g", "vault", resource.PatchVaultParams{AccessPolicies: []authz.AccessPolicy{c.policy}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.GetSecret(ctx, c.caller, "vault", "s", ""); c.get != (err == nil) {
			t.Errorf("%+v: %v", c.policy, err)
		}
		_, err = b.SetSecret(ctx, member, "vault", "s", SetSecretParams{})
		wantKind(t, err, AccessDenied)
	}
	// Roles begin to count with the model.
	if _, err := b.resources.PatchVault(ctx, someone, "g", "vault", resource.PatchVaultParams{RBAC: new(true)}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.SetSecret(ctx, member, "vault", "s", SetSecretParams{}); err != nil {
		t.Error(err)
	}
}

// TestDenials holds the texts that people and programs read.
func TestDenials(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.roled(t, "Roled")
	id := "/subscriptions/" + b.resources.SubscriptionID() + "/resourcegroups/g/providers/microsoft.keyvault/vaults/roled"
	text := func(action, where string) string {
		return "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role definitions were " +
			"changed recently, please observe propagation time.\r\nCaller: appid=app3;oid=" + memberID + ";iss=iss\r\nAction: '" + action +
			"'\r\nResource: '" + where + "'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\n" +
			"Vault: Roled;location=here\r\n"
	}
	_, err := b.GetSecret(ctx, member, "roled", "Name", "")
	if want := text("Microsoft.KeyVault/vaults/secrets/getSecret/action", id+"/secrets/name"); err == nil || err.Error() != want {
		t.Errorf("got  %q\nwant %q", err, want)
	}
	_, err = b.ListKeys(ctx, member, "roled", "", 1)
	if want := text("Microsoft.KeyVault/vaults/keys/read", id); err == nil || err.Error() != want {
		t.Errorf("got  %q\nwant %q", err, want)
	}
}

// TestRoleTakenAway takes the role away between the intent and the transaction, as another server would.
func TestRoleTakenAway(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.roled(t, "roled")
	a := b.assign(t, "", authz.RoleVaultSecretsOfficer, memberID)
	other := b.another(t, b.hsm)
	if _, err := other.SetSecret(ctx, member, "roled", "s", SetSecretParams{}); err != nil {
		t.Fatal(err)
	}
	taken := false
	hooked := b.hooked(t, func() {
		if !taken {
			taken = true
			if _, err := b.resources.DeleteRoleAssignment(ctx, someone, a.Scope, a.ID); err != nil {
				t.Error(err)
			}
		}
	})
	_, err := hooked.SetSecret(ctx, member, "roled", "s", SetSecretParams{})
	wantKind(t, err, AccessDeniedByRole)
	_, err = other.GetSecret(ctx, member, "roled", "s", "")
	wantKind(t, err, AccessDeniedByRole)
	if !taken || b.records(t, "version/") != 1 {
		t.Error("the write took place")
	}
}

// TestRemovalNeverWidens takes random assignments away one by one: no operation becomes possible by that.
func TestRemovalNeverWidens(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.roled(t, "roled")
	const vault = "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/roled"
	rng := rand.New(rand.NewPCG(3, 3))
	var made []*resource.RoleAssignment
	for i, role := range []string{authz.RoleVaultReader, authz.RoleVaultSecretsUser, authz.RoleVaultCryptoUser, authz.RoleVaultCryptoOfficer,
		authz.RoleVaultSecretsOfficer, authz.RoleVaultAdministrator, authz.RoleVaultCryptoServiceRelease, authz.RoleOwner} {
		for _, at := range []string{"", vault, vault + "/secrets/s", vault + "/keys/k"} {
			if rng.IntN(2) == 0 {
				made = append(made, b.assign(t, at, role, []string{memberID, crewID}[i%2]))
			}
		}
	}
	caller := &identity.Caller{TenantID: "t", ObjectID: memberID, Groups: []string{crewID}}
	// The vault is empty: who may do something is told that there is nothing.
	acts := allActs(ctx, b.Service, caller, "roled")
	for _, makes := range []string{"secret set", "key create", "key import", "key random"} {
		delete(acts, makes)
	}
	before, lost := allowed(t, acts), 0
	rng.Shuffle(len(made), func(i, j int) { made[i], made[j] = made[j], made[i] })
	for _, a := range made {
		if _, err := b.resources.DeleteRoleAssignment(ctx, someone, a.Scope, a.ID); err != nil {
			t.Fatal(err)
		}
		after := allowed(t, acts)
		for _, act := range after {
			if !slices.Contains(before, act) {
				t.Fatalf("removing %+v allows %s", a.Assignment, act)
			}
		}
		lost += len(before) - len(after)
		before = after
	}
	if len(before) != 0 || lost < 20 {
		t.Errorf("%q are allowed without any role; %d were lost on the way", before, lost)
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	inside, outside := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::1")
	if err := errors.Join(b.Reachable(ctx, "vault", outside), b.Reachable(ctx, "nowhere", outside)); err != nil {
		t.Error(err)
	}
	_, err := b.resources.PatchVault(ctx, someone, "g", "vault", resource.PatchVaultParams{Network: &authz.NetworkRules{
		Bypass: authz.BypassNone, DefaultAction: authz.DenyAddresses, IPRules: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Reachable(ctx, "VAULT", inside); err != nil {
		t.Error(err)
	}
	err = b.Reachable(ctx, "Vault", outside)
	wantKind(t, err, ForbiddenByFirewall)
	if want := fmt.Sprintf("Client address (%s) is not authorized and caller is not a trusted service", outside); err.Error() != want {
		t.Errorf("got %q", err)
	}
	wantKind(t, b.Reachable(ctx, "vault", netip.Addr{}), ForbiddenByFirewall)
	if _, err := b.resources.PatchVault(ctx, someone, "g", "vault", resource.PatchVaultParams{PublicNetworkAccess: new("Disabled")}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, b.Reachable(ctx, "vault", inside), ForbiddenByConnection)
}

// TestBadNameByRole: rights are at scopes, and a name that is none makes no scope. Who may act in the whole vault is told that the name
// is wrong, and nobody else.
func TestBadNameByRole(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.roled(t, "roled")
	vault := "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/roled"
	b.assign(t, vault, authz.RoleVaultAdministrator, memberID)
	stranger := &identity.Caller{TenantID: "t", ObjectID: "0e0e0000-0000-4000-8000-00000000000e", AppID: "app4", Issuer: "iss"}
	for _, name := range []string{"under_score", "a/b", "..", strings.Repeat("n", MaxName+1)} {
		if err := b.Authorize(t.Context(), member, "roled", SecretSet, name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		wantKind(t, b.Authorize(t.Context(), stranger, "roled", SecretSet, name), AccessDeniedByRole)
		_, err := b.SetSecret(t.Context(), member, "roled", name, SetSecretParams{Value: NewSecretValue("v")})
		wantKind(t, err, BadParameter)
	}
}

// TestReleasePolicyNeedsUpdate: the release policy is that of all versions of a key. Whoever may make versions and not change the
// key makes them under the policy that it has, in both models.
func TestReleasePolicyNeedsUpdate(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	const keys = "Microsoft.KeyVault/vaults/keys/"
	grantRole := func(name string, actions ...string) {
		t.Helper()
		sub := b.resources.SubscriptionScope()
		role, _, err := b.resources.PutRoleDefinition(ctx, someone, sub, uuid.NewString(), authz.RoleDefinition{
			Name: name, AssignableScopes: []string{sub.String()}, Permissions: []authz.PermissionSet{{DataActions: actions}},
		})
		if err != nil {
			t.Fatal(err)
		}
		b.assign(t, "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/roled", role.ID, memberID)
	}
	grantPolicy := func(verbs ...string) {
		t.Helper()
		_, err := b.resources.ChangeAccessPolicies(ctx, someone, "g", "listed", resource.AddPolicies, []authz.AccessPolicy{
			{TenantID: "t", ObjectID: memberID, Keys: verbs},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	b.roled(t, "roled")
	_, err := b.resources.CreateVault(ctx, someone, "g", "listed", resource.PutVaultParams{
		Location: "here", Tier: resource.Premium, RetentionDays: new(7), Administrators: []string{adminID},
	})
	if err != nil {
		t.Fatal(err)
	}
	grantRole("Maker", keys+"create/action", keys+"import/action")
	grantPolicy("create", "import")
	for vault, c := range map[string]struct {
		denied Kind
		grant  func()
	}{
		"roled":  {AccessDeniedByRole, func() { grantRole("Changer", keys+"update/action") }},
		"listed": {AccessDenied, func() { grantPolicy("update") }},
	} {
		own := &ReleasePolicy{Data: []byte(anyPolicy)}
		other := &ReleasePolicy{Data: []byte(strings.Replace(anyPolicy, `"x"`, `"y"`, 1))}
		first := b.create(t, vault, "k", CreateKeyParams{Type: "oct-HSM", Exportable: true, ReleasePolicy: own})
		acts := func(policy *ReleasePolicy) map[string]error {
			_, create := b.CreateKey(ctx, member, vault, "k", CreateKeyParams{Type: "oct-HSM", Exportable: true, ReleasePolicy: policy})
			_, take := b.ImportKey(ctx, member, vault, "k", ImportKeyParams{
				Type: "oct-HSM", Private: PrivateKey{K: make([]byte, 32)}, Exportable: true, ReleasePolicy: policy,
			})
			return map[string]error{"create": create, "import": take}
		}
		check := func(what string, policy *ReleasePolicy, want Kind) {
			t.Helper()
			for act, err := range acts(policy) {
				if want == 0 && err != nil || want != 0 && !isKind(err, want) {
					t.Errorf("%s: %s with %s policy: %v", vault, act, what, err)
				}
			}
		}
		versions := func(want int, policy string) {
			t.Helper()
			page, err := b.ListKeyVersions(ctx, admin, vault, "k", "", MaxPage)
			got, getErr := b.GetKey(ctx, admin, vault, "k", first.Version)
			if err := errors.Join(err, getErr); err != nil || len(page.Items) != want || !strings.Contains(string(got.ReleasePolicy.Data), policy) {
				t.Errorf("%s: %d versions, want %d, policy %s, %v", vault, len(page.Items), want, got.ReleasePolicy.Data, err)
			}
		}
		check("its own", own, 0)
		versions(3, `"x"`)
		check("another", other, c.denied)
		versions(3, `"x"`)
		c.grant()
		check("another", other, 0)
		versions(5, `"y"`)
	}
}
