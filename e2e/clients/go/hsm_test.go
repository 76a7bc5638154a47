//go:build client

package goclient

import (
	"crypto"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azadmin/rbac"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azadmin/settings"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/administration"
)

// hsm is an active managed HSM of this program's own, and a second one with the same security domain.
type hsm struct {
	keys
	object string // of the administrator
	digest []byte // of the text that all clients sign
}

// The built-in roles that are given here.
const (
	roleDefinitions = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/"
	cryptoOfficer   = roleDefinitions + "515eb02d-2335-4d2d-92f2-b1cbdf9c3778"
	cryptoUser      = roleDefinitions + "21dbd100-6940-42c2-9190-5d6cb909625b"
)

// openHSM gives the administrator of both HSMs the roles with which keys can be made, used and purged.
func openHSM(t *testing.T, vault, other string) *hsm {
	t.Helper()
	sum := sha256.Sum256([]byte(plaintext))
	h := &hsm{keys: keys{vault: vault, otherVault: other, credential: newCredential(t)}, object: os.Getenv("E2E_OBJECT"), digest: sum[:]}
	h.client, h.other = h.open(t, vault, nil), h.open(t, other, nil)
	for _, url := range []string{vault, other} {
		for _, role := range []string{cryptoUser, cryptoOfficer} {
			h.grant(t, url, role)
		}
	}
	return h
}

func (h *hsm) grant(t *testing.T, url, role string) {
	t.Helper()
	access := must(administration.NewAccessControlClient(url, h.credential, nil))(t)
	_, err := access.CreateRoleAssignment(t.Context(), administration.ScopeGlobal, role, h.object, nil)
	var response *azcore.ResponseError
	if err != nil && (!errors.As(err, &response) || response.ErrorCode != "RoleAssignmentExists") {
		t.Fatal(err)
	}
}

// TestHSM goes through what is particular to managed HSMs: their keys, their roles and their settings, by Microsoft's
// clients and by strongroom's packages.
func TestHSM(t *testing.T) {
	vault, other := os.Getenv("E2E_HSM"), os.Getenv("E2E_OTHER_HSM")
	t.Run("NoRoles", func(t *testing.T) {
		c := must(azkeys.NewClient(vault, newCredential(t), nil))(t)
		_, err := c.CreateKey(t.Context(), "never", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)}, nil)
		refused(t, err, http.StatusForbidden, "AccessDenied", "")
	})
	h := openHSM(t, vault, other)
	for name, test := range map[string]func(*testing.T){
		"Signatures":      h.signatures,
		"Encryption":      h.encryptions,
		"Random":          h.random,
		"Lifetime":        h.lifetime,
		"BackupOfKey":     h.backupOfKey,
		"NoSecrets":       h.noSecrets,
		"Attestation":     h.attestation,
		"Roles":           h.roles,
		"RolesByPackage":  h.rolesByPackage,
		"BuiltInRoles":    h.builtInRoles,
		"RolesRefused":    h.rolesRefused,
		"Scopes":          h.scopes,
		"OrdinaryVault":   h.ordinaryVault,
		"Settings":        h.settings,
		"SettingsPackage": h.settingsByPackage,
	} {
		t.Run(name, test)
	}
}

func (h *hsm) signatures(t *testing.T) {
	for alg, p := range map[azkeys.SignatureAlgorithm]azkeys.CreateKeyParameters{
		azkeys.SignatureAlgorithmRS256:  {Kty: ptr(azkeys.KeyTypeRSAHSM), KeySize: ptr[int32](2048)},
		azkeys.SignatureAlgorithmPS256:  {Kty: ptr(azkeys.KeyTypeRSA), KeySize: ptr[int32](2048)}, // becomes one in hardware
		azkeys.SignatureAlgorithmES256:  {Kty: ptr(azkeys.KeyTypeECHSM), Curve: ptr(azkeys.CurveNameP256)},
		azkeys.SignatureAlgorithmES256K: {Kty: ptr(azkeys.KeyTypeEC), Curve: ptr(azkeys.CurveNameP256K)},
	} {
		key := h.create(t, "sign-"+string(alg), p).Key
		if !strings.HasSuffix(string(*key.Kty), "-HSM") {
			t.Errorf("%s was made with a key of type %s", alg, *key.Kty)
		}
		onlyPublic(t, key)
		h.verifies(t, *key.KID, alg, h.digest, h.sign(t, *key.KID, alg, h.digest))
	}
	for alg, p := range map[azkeys.SignatureAlgorithm]azkeys.CreateKeyParameters{
		azkeys.SignatureAlgorithmES384: {Kty: ptr(azkeys.KeyTypeECHSM), Curve: ptr(azkeys.CurveNameP384)},
		azkeys.SignatureAlgorithmES512: {Kty: ptr(azkeys.KeyTypeECHSM), Curve: ptr(azkeys.CurveNameP521)},
	} {
		key := h.create(t, "sign-"+string(alg), p).Key
		sum := digest(map[azkeys.SignatureAlgorithm]crypto.Hash{
			azkeys.SignatureAlgorithmES384: crypto.SHA384, azkeys.SignatureAlgorithmES512: crypto.SHA512,
		}[alg])
		h.verifies(t, *key.KID, alg, sum, h.sign(t, *key.KID, alg, sum))
	}
}

func (h *hsm) encryptions(t *testing.T) {
	for name, test := range map[string]struct {
		key  azkeys.CreateKeyParameters
		alg  azkeys.EncryptionAlgorithm
		pair pair
	}{
		"rsa-encrypt": {
			azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeRSAHSM), KeySize: ptr[int32](2048)}, azkeys.EncryptionAlgorithmRSAOAEP256, h.encryption(),
		},
		"rsa-wrap": {
			azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeRSAHSM), KeySize: ptr[int32](2048)}, azkeys.EncryptionAlgorithmRSAOAEP256, h.wrapping(),
		},
		"gcm": {
			azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeOctHSM), KeySize: ptr[int32](256)}, azkeys.EncryptionAlgorithmA256GCM, h.encryption(),
		},
		"key-wrap": {
			azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeOct), KeySize: ptr[int32](192)}, azkeys.EncryptionAlgorithmA192KW, h.wrapping(),
		},
	} {
		t.Run(name, func(t *testing.T) {
			key := *h.create(t, name, test.key).Key.KID
			sealed := do(t, test.pair.seal, key, azkeys.KeyOperationParameters{Algorithm: &test.alg, Value: []byte(plaintext)})
			opens(t, test.pair.open, key, azkeys.KeyOperationParameters{
				Algorithm: &test.alg, Value: sealed.Result, IV: sealed.IV, AuthenticationTag: sealed.AuthenticationTag,
			})
			refuses(t, test.pair.open, key, azkeys.KeyOperationParameters{
				Algorithm: &test.alg, Value: flipped(sealed.Result), IV: sealed.IV, AuthenticationTag: sealed.AuthenticationTag,
			})
		})
	}
}

func (h *hsm) random(t *testing.T) {
	var last []byte
	for _, count := range []int32{1, 32, 128} {
		got := must(h.client.GetRandomBytes(t.Context(), azkeys.GetRandomBytesParameters{Count: &count}, nil))(t).Value
		if len(got) != int(count) || count > 1 && slices.Equal(got, last) {
			t.Errorf("%d random bytes are %x", count, got)
		}
		last = got
	}
	for _, count := range []int32{0, 129} {
		_, err := h.client.GetRandomBytes(t.Context(), azkeys.GetRandomBytesParameters{Count: &count}, nil)
		refused(t, err, http.StatusBadRequest, "BadParameter", "")
	}
}

func (h *hsm) lifetime(t *testing.T) {
	h.create(t, "lifetime", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)})
	second := h.create(t, "lifetime", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)})
	rotated := must(h.client.RotateKey(t.Context(), "lifetime", nil))(t)
	if *rotated.Key.KID == *second.Key.KID || len(h.versionIDs(t, "lifetime")) != 3 {
		t.Errorf("versions are %v", h.versionIDs(t, "lifetime"))
	}
	deleted := h.remove(t, "lifetime")
	if *deleted.RecoveryID != h.vault+"/deletedkeys/lifetime" {
		t.Errorf("recovery id is %s", *deleted.RecoveryID)
	}
	if !slices.Contains(h.deletedNames(t), "lifetime") {
		t.Errorf("deleted are %v", h.deletedNames(t))
	}
	must(h.client.RecoverDeletedKey(t.Context(), "lifetime", nil))(t)
	if got := h.get(t, "lifetime", ""); *got.Key.KID != *rotated.Key.KID {
		t.Errorf("recovered %s", *got.Key.KID)
	}
	h.remove(t, "lifetime")
	must(h.client.PurgeDeletedKey(t.Context(), "lifetime", nil))(t)
	_, err := h.client.GetDeletedKey(t.Context(), "lifetime", nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound", "")
}

// backupOfKey restores a key in the HSM of the same security domain.
func (h *hsm) backupOfKey(t *testing.T) {
	keyGoesFromTo(t, h.vault, h.otherVault)
	_, err := restoreKey(t, h.vault, h.otherVault)
	refused(t, err, http.StatusConflict, "Conflict", "")
}

func (h *hsm) noSecrets(t *testing.T) {
	_, err := newClient(t, h.vault, h.credential).GetSecret(t.Context(), "any", "", nil)
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
}

// attestation: software cannot vouch for a key, and does not say that it can.
func (h *hsm) attestation(t *testing.T) {
	h.create(t, "attestation", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)})
	_, err := h.client.GetKeyAttestation(t.Context(), "attestation", "", nil)
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.StatusCode >= http.StatusInternalServerError {
		t.Errorf("error is %v", err)
	}
}

// pages collects what a pager lists.
func pages[R, T any](t *testing.T, pager *runtime.Pager[R], of func(R) []T) (all []T) {
	t.Helper()
	for pager.More() {
		all = append(all, of(must(pager.NextPage(t.Context()))(t))...)
	}
	return all
}

func definitionsOf(r rbac.ListRoleDefinitionsResponse) []*rbac.RoleDefinition { return r.Value }
func assignmentsOf(r rbac.ListRoleAssignmentsResponse) []*rbac.RoleAssignment { return r.Value }

func (h *hsm) rbac(t *testing.T) *rbac.Client {
	t.Helper()
	return must(rbac.NewClient(h.vault, h.credential, nil))(t)
}

// Names of a role and of its assignments, which are the clients' to choose.
const (
	ownRole       = "7f9a3c52-0f3e-4a6c-9a55-0c7f6a1b2d01"
	ownAssignment = "7f9a3c52-0f3e-4a6c-9a55-0c7f6a1b2d02"
)

func (h *hsm) roles(t *testing.T) {
	c, ctx := h.rbac(t), t.Context()
	parameters := rbac.RoleDefinitionCreateParameters{Properties: &rbac.RoleDefinitionProperties{
		RoleName: ptr("Signs with Go"), Description: ptr("by azadmin"), RoleType: ptr(rbac.RoleTypeCustomRole),
		AssignableScopes: []*rbac.RoleScope{ptr(rbac.RoleScopeGlobal)},
		Permissions: []*rbac.Permission{{
			DataActions: []*rbac.DataAction{ptr(rbac.DataActionReadHsmKey), ptr(rbac.DataActionSignHsmKey)},
		}},
	}}
	made := must(c.CreateOrUpdateRoleDefinition(ctx, rbac.RoleScopeGlobal, ownRole, parameters, nil))(t).RoleDefinition
	got := must(c.GetRoleDefinition(ctx, rbac.RoleScopeGlobal, ownRole, nil))(t).RoleDefinition
	if diff := cmp.Diff(made, got); diff != "" || *got.ID != roleDefinitions+ownRole || *got.Properties.RoleName != "Signs with Go" {
		t.Errorf("got %s %s, (-made +got):\n%s", *got.ID, *got.Properties.RoleName, diff)
	}
	parameters.Properties.Description = ptr("changed")
	if got := must(c.CreateOrUpdateRoleDefinition(ctx, rbac.RoleScopeGlobal, ownRole, parameters, nil))(t); *got.Properties.Description != "changed" {
		t.Errorf("after the change: %s", *got.Properties.Description)
	}

	for _, scope := range []rbac.RoleScope{rbac.RoleScopeGlobal, rbac.RoleScopeKeys, "/keys/signed-by-go"} {
		assigned := must(c.CreateRoleAssignment(ctx, scope, ownAssignment, rbac.RoleAssignmentCreateParameters{
			Properties: &rbac.RoleAssignmentProperties{PrincipalID: &h.object, RoleDefinitionID: made.ID},
		}, nil))(t).RoleAssignment
		if p := assigned.Properties; *p.Scope != scope || *p.PrincipalID != h.object || *p.RoleDefinitionID != *made.ID {
			t.Errorf("assigned %v %v %v", *p.Scope, *p.PrincipalID, *p.RoleDefinitionID)
		}
		found := must(c.GetRoleAssignment(ctx, scope, ownAssignment, nil))(t).RoleAssignment
		listed := pages(t, c.NewListRoleAssignmentsPager(scope, &rbac.ListRoleAssignmentsOptions{
			Filter: ptr("principalId eq '" + h.object + "'"),
		}), assignmentsOf)
		if diff := cmp.Diff(assigned, found); diff != "" || !slices.ContainsFunc(listed, func(a *rbac.RoleAssignment) bool { return *a.ID == *assigned.ID }) {
			t.Errorf("found (-made +found):\n%s\nor not listed", diff)
		}
		must(c.DeleteRoleAssignment(ctx, scope, ownAssignment, nil))(t)
		_, err := c.GetRoleAssignment(ctx, scope, ownAssignment, nil)
		refused(t, err, http.StatusNotFound, "RoleAssignmentNotFound", "")
	}
	must(c.DeleteRoleDefinition(ctx, rbac.RoleScopeGlobal, ownRole, nil))(t)
	_, err := c.GetRoleDefinition(ctx, rbac.RoleScopeGlobal, ownRole, nil)
	refused(t, err, http.StatusNotFound, "RoleDefinitionNotFound", "")
}

func (h *hsm) builtInRoles(t *testing.T) {
	c := h.rbac(t)
	names := make(map[string]string)
	for _, d := range pages(t, c.NewListRoleDefinitionsPager(rbac.RoleScopeGlobal, nil), definitionsOf) {
		if *d.Properties.RoleType == rbac.RoleTypeBuiltInRole {
			names[*d.Name] = *d.Properties.RoleName
		}
	}
	if len(names) != 9 || names["21dbd100-6940-42c2-9190-5d6cb909625b"] != "Managed HSM Crypto User" {
		t.Errorf("built-in roles are %v", names)
	}
}

func (h *hsm) rolesRefused(t *testing.T) {
	c, ctx := h.rbac(t), t.Context()
	parameters := rbac.RoleDefinitionCreateParameters{Properties: &rbac.RoleDefinitionProperties{RoleName: ptr("x")}}
	for _, name := range []string{"no-guid", "21dbd100-6940-42c2-9190-5d6cb909625b"} {
		_, err := c.CreateOrUpdateRoleDefinition(ctx, rbac.RoleScopeGlobal, name, parameters, nil)
		refused(t, err, http.StatusBadRequest, "BadParameter", "")
	}
	_, err := c.CreateRoleAssignment(ctx, rbac.RoleScopeGlobal, "9d1c9c1e-0a55-4b35-8e3c-6a0f7c1f2a03", rbac.RoleAssignmentCreateParameters{
		Properties: &rbac.RoleAssignmentProperties{PrincipalID: &h.object, RoleDefinitionID: ptr(cryptoUser)},
	}, nil)
	refused(t, err, http.StatusBadRequest, "RoleAssignmentExists", "")
	_, err = must(rbac.NewClient(h.vault, h.stranger(t), nil))(t).NewListRoleAssignmentsPager(rbac.RoleScopeGlobal, nil).NextPage(ctx)
	refused(t, err, http.StatusForbidden, "AccessDenied", "")
}

func (h *hsm) stranger(t *testing.T) azcore.TokenCredential {
	t.Helper()
	return must(azidentity.NewClientSecretCredential(
		os.Getenv("AZURE_TENANT_ID"), os.Getenv("E2E_STRANGER_ID"), os.Getenv("E2E_STRANGER_SECRET"), nil))(t)
}

// ordinaryVault has neither roles of its own nor settings.
func (h *hsm) ordinaryVault(t *testing.T) {
	vault := os.Getenv("E2E_VAULT")
	_, err := must(rbac.NewClient(vault, h.credential, nil))(t).NewListRoleDefinitionsPager(rbac.RoleScopeGlobal, nil).NextPage(t.Context())
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
	_, err = must(settings.NewClient(vault, h.credential, nil))(t).GetSettings(t.Context(), nil)
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
}

// scopes: a role at one key opens that key and no other, from its assignment on and until it is taken away.
func (h *hsm) scopes(t *testing.T) {
	ctx, strangers := t.Context(), os.Getenv("E2E_STRANGER_OBJECT")
	theirs := must(azkeys.NewClient(h.vault, h.stranger(t), nil))(t)
	for _, name := range []string{"for-stranger", "not-for-stranger"} {
		h.create(t, name, azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)})
	}
	sign := func(name string) error {
		_, err := theirs.Sign(ctx, name, "", azkeys.SignParameters{Algorithm: ptr(azkeys.SignatureAlgorithmES256), Value: h.digest}, nil)
		return err
	}
	refused(t, sign("for-stranger"), http.StatusForbidden, "AccessDenied", "")
	access := must(administration.NewAccessControlClient(h.vault, h.credential, nil))(t)
	scope := administration.KeyScope("for-stranger")
	assigned := must(access.CreateRoleAssignment(ctx, scope, cryptoUser, strangers, nil))(t)
	if err := sign("for-stranger"); err != nil {
		t.Errorf("with the role: %v", err)
	}
	refused(t, sign("not-for-stranger"), http.StatusForbidden, "AccessDenied", "")
	must(access.DeleteRoleAssignment(ctx, scope, assigned.Name, nil))(t)
	refused(t, sign("for-stranger"), http.StatusForbidden, "AccessDenied", "")
}

func (h *hsm) rolesByPackage(t *testing.T) {
	c, ctx := must(administration.NewAccessControlClient(h.vault, h.credential, nil))(t), t.Context()
	made := must(c.SetRoleDefinition(ctx, administration.ScopeGlobal, administration.RoleDefinition{
		RoleName: "Signs with strongroom's package", AssignableScopes: []administration.Scope{administration.ScopeGlobal},
		Permissions: []administration.Permission{{DataActions: []administration.DataAction{administration.DataActionSign}}},
	}, nil))(t)
	// Microsoft's client sees what this one has made.
	if got := must(h.rbac(t).GetRoleDefinition(ctx, rbac.RoleScopeGlobal, made.Name, nil))(t); *got.Properties.RoleName != made.RoleName {
		t.Errorf("azadmin got %s", *got.Properties.RoleName)
	}
	for _, scope := range []administration.Scope{administration.ScopeGlobal, administration.ScopeKeys, administration.KeyScope("k")} {
		assigned := must(c.CreateRoleAssignment(ctx, scope, made.ID, h.object, nil))(t)
		found := must(c.GetRoleAssignment(ctx, scope, assigned.Name, nil))(t)
		if diff := cmp.Diff(assigned.RoleAssignment, found.RoleAssignment); diff != "" {
			t.Errorf("at %s (-made +found):\n%s", scope, diff)
		}
		must(c.DeleteRoleAssignment(ctx, scope, assigned.Name, nil))(t)
	}
	must(c.DeleteRoleDefinition(ctx, administration.ScopeGlobal, made.Name, nil))(t)
}

// onlySetting is the one that managed HSMs have.
const onlySetting = "AllowKeyManagementOperationsThroughARM"

func (h *hsm) settings(t *testing.T) {
	c, ctx := must(settings.NewClient(h.vault, h.credential, nil))(t), t.Context()
	all := must(c.GetSettings(ctx, nil))(t).Settings
	if len(all) != 1 || *all[0].Name != onlySetting || *all[0].Type != settings.SettingTypeBoolean || *all[0].Value != "false" {
		t.Fatalf("settings are %v", all)
	}
	for _, value := range []string{"true", "false"} {
		must(c.UpdateSetting(ctx, onlySetting, settings.UpdateSettingRequest{Value: &value}, nil))(t)
		if got := must(c.GetSetting(ctx, onlySetting, nil))(t); *got.Value != value {
			t.Errorf("it is %s, want %s", *got.Value, value)
		}
	}
	_, err := c.UpdateSetting(ctx, onlySetting, settings.UpdateSettingRequest{Value: ptr("perhaps")}, nil)
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
	_, err = c.GetSetting(ctx, "nothing", nil)
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.StatusCode != http.StatusNotFound {
		t.Errorf("a setting that there is not: %v", err)
	}
}

func (h *hsm) settingsByPackage(t *testing.T) {
	c, ctx := must(administration.NewSettingsClient(h.otherVault, h.credential, nil))(t), t.Context()
	for _, value := range []bool{true, false} {
		must(c.UpdateSetting(ctx, onlySetting, fmt.Sprint(value), nil))(t)
		if got, err := must(c.GetSetting(ctx, onlySetting, nil))(t).Bool(); got != value || err != nil {
			t.Errorf("it is %v, %v, want %v", got, err, value)
		}
	}
}
