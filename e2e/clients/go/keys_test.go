//go:build client

package goclient

import (
	"bytes"
	"crypto"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/go-cmp/cmp"
)

// TestKeys goes through every operation.
func TestKeys(t *testing.T) {
	k := &keys{
		vault: os.Getenv("E2E_VAULT"), otherVault: os.Getenv("E2E_OTHER_VAULT"), credential: newCredential(t),
	}
	k.client, k.other = k.open(t, k.vault, nil), k.open(t, k.otherVault, nil)
	for name, test := range map[string]func(*testing.T){
		"RSA":            k.rsa,
		"EC":             k.ec,
		"Oct":            k.oct,
		"HMAC":           k.hmac,
		"Envelope":       k.envelope,
		"Create":         k.createWithAll,
		"CreateRefused":  k.createRefused,
		"ImportRefused":  k.importRefused,
		"Versions":       k.versions,
		"Update":         k.update,
		"Use":            k.use,
		"Paging":         k.paging,
		"Recover":        k.recover,
		"Purge":          k.purge,
		"Backup":         k.backup,
		"Rotate":         k.rotate,
		"RotationPolicy": k.rotationPolicy,
		"ReleasePolicy":  k.releasePolicy,
		"ManagedHSMOnly": k.managedHSMOnly,
		"Missing":        k.missing,
		"UnknownVault":   k.unknownVault,
		"WithoutRights":  k.withoutRights,
		"APIVersions":    k.apiVersions,
	} {
		t.Run(name, test)
	}
}

// keys is a vault of this program's own that holds keys of all types, and a second one that holds no types with -HSM.
type keys struct {
	vault, otherVault string
	credential        azcore.TokenCredential
	client, other     *azkeys.Client
}

func (k *keys) open(t *testing.T, vault string, options *azkeys.ClientOptions) *azkeys.Client {
	t.Helper()
	return must(azkeys.NewClient(vault, k.credential, options))(t)
}

func (k *keys) create(t *testing.T, name string, p azkeys.CreateKeyParameters) azkeys.KeyBundle {
	t.Helper()
	return must(k.client.CreateKey(t.Context(), name, p, nil))(t).KeyBundle
}

// createEC makes the cheapest key there is.
func (k *keys) createEC(t *testing.T, name string) azkeys.KeyBundle {
	t.Helper()
	return k.create(t, name, azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeEC)})
}

func (k *keys) get(t *testing.T, name, version string) azkeys.KeyBundle {
	t.Helper()
	return must(k.client.GetKey(t.Context(), name, version, nil))(t).KeyBundle
}

func (k *keys) remove(t *testing.T, name string) azkeys.DeletedKey {
	t.Helper()
	return must(k.client.DeleteKey(t.Context(), name, nil))(t).DeletedKey
}

func pointers[T any](all []T) (out []*T) {
	for _, v := range all {
		out = append(out, &v)
	}
	return out
}

func values[T any](all []*T) (out []T) {
	for _, v := range all {
		out = append(out, *v)
	}
	return out
}

// onlyPublic wants nothing secret in a key.
func onlyPublic(t *testing.T, key *azkeys.JSONWebKey) {
	t.Helper()
	if n := len(key.D) + len(key.DP) + len(key.DQ) + len(key.QI) + len(key.P) + len(key.Q) + len(key.K) + len(key.T); n != 0 {
		t.Errorf("%s was answered with %d bytes of its private part", *key.KID, n)
	}
}

// releasePolicyText is what an attestation authority has to say about a program that gets a key.
const releasePolicyText = `{"version":"1.0.0","anyOf":[{"authority":"https://attest.example",` +
	`"allOf":[{"claim":"x-ms-sgx-is-debuggable","equals":"false"}]}]}`

// canonicalReleasePolicy is how the service writes it.
const canonicalReleasePolicy = `{"anyOf":[{"allOf":[{"claim":"x-ms-sgx-is-debuggable","equals":"false"}],` +
	`"authority":"https://attest.example/"}],"version":"1.0.0"}`

func (k *keys) createWithAll(t *testing.T) {
	notBefore, expires := time.Date(2021, 2, 3, 4, 5, 6, 0, time.UTC), time.Date(2041, 2, 3, 4, 5, 6, 0, time.UTC)
	want := azkeys.CreateKeyParameters{
		Kty:           ptr(azkeys.KeyTypeECHSM),
		Curve:         ptr(azkeys.CurveNameP384),
		KeyOps:        pointers([]azkeys.KeyOperation{azkeys.KeyOperationSign}),
		Tags:          map[string]*string{"owner": ptr("someone"), "Größe": ptr("naïve"), "empty": ptr("")},
		ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: []byte(releasePolicyText)},
		KeyAttributes: &azkeys.KeyAttributes{Enabled: ptr(true), NotBefore: &notBefore, Expires: &expires, Exportable: ptr(true)},
	}
	made := k.create(t, "All-Options", want)
	got := k.get(t, "all-options", "")
	if diff := cmp.Diff(made, got); diff != "" {
		t.Errorf("create and get differ (-create +get):\n%s", diff)
	}
	if !regexp.MustCompile(`^` + regexp.QuoteMeta(k.vault) + `/keys/All-Options/[0-9a-f]{32}$`).MatchString(string(*got.Key.KID)) {
		t.Errorf("id is %s", *got.Key.KID)
	}
	a := got.Attributes
	if !a.Expires.Equal(expires) || !a.NotBefore.Equal(notBefore) || !*a.Enabled || !*a.Exportable {
		t.Errorf("attributes are %v %v %v %v", a.NotBefore, a.Expires, *a.Enabled, *a.Exportable)
	}
	if *a.RecoveryLevel != "CustomizedRecoverable+Purgeable" || *a.RecoverableDays != 7 || *a.HSMPlatform != "0" {
		t.Errorf("attributes are %v %v %v", *a.RecoveryLevel, *a.RecoverableDays, *a.HSMPlatform)
	}
	if diff := cmp.Diff(want.Tags, got.Tags); diff != "" || !slices.Equal(values(got.Key.KeyOps), values(want.KeyOps)) {
		t.Errorf("operations %v, tags (-want +got):\n%s", values(got.Key.KeyOps), diff)
	}

	plain := k.createEC(t, "plain")
	if a := plain.Attributes; *a.Exportable || a.Expires != nil || a.NotBefore != nil || plain.ReleasePolicy != nil ||
		plain.Managed != nil || len(plain.Tags) != 0 {
		t.Errorf("a plain key is %+v", plain)
	}
}

func (k *keys) createRefused(t *testing.T) {
	of := func(kty azkeys.KeyType) azkeys.CreateKeyParameters { return azkeys.CreateKeyParameters{Kty: &kty} }
	small, curve, encrypts := of(azkeys.KeyTypeRSA), of(azkeys.KeyTypeEC), of(azkeys.KeyTypeEC)
	small.KeySize, curve.Curve = ptr[int32](1024), ptr(azkeys.CurveName("P-224"))
	encrypts.KeyOps = pointers([]azkeys.KeyOperation{azkeys.KeyOperationEncrypt})
	anybody, nobody := of(azkeys.KeyTypeECHSM), of(azkeys.KeyTypeECHSM)
	anybody.KeyAttributes = &azkeys.KeyAttributes{Exportable: ptr(true)}
	nobody.ReleasePolicy = &azkeys.KeyReleasePolicy{EncodedPolicy: []byte(releasePolicyText)}
	for name, test := range map[string]struct {
		client *azkeys.Client
		p      azkeys.CreateKeyParameters
		text   string // in the message
	}{
		"no type":                {k.client, azkeys.CreateKeyParameters{}, "kty"},
		"unknown type":           {k.client, of("OKP"), "OKP"},
		"small":                  {k.client, small, "1024"},
		"unknown curve":          {k.client, curve, "P-224"},
		"software oct":           {k.client, of(azkeys.KeyTypeOct), "oct-HSM"},
		"EC that encrypts":       {k.client, encrypts, "encrypt"},
		"RSA-HSM, standard":      {k.other, of(azkeys.KeyTypeRSAHSM), "premium"},
		"oct-HSM, standard":      {k.other, of(azkeys.KeyTypeOctHSM), "premium"},
		"exportable, no policy":  {k.client, anybody, "AKV.SKR.1004: Exportable keys must have release policy."},
		"policy, not exportable": {k.client, nobody, "AKV.SKR.1005: Non-exportable keys must not have release policy."},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.client.CreateKey(t.Context(), "never", test.p, nil)
			if body := refused(t, err, http.StatusBadRequest, "BadParameter", ""); !strings.Contains(body.Error.Message, test.text) {
				t.Errorf("message is %q, want one with %q", body.Error.Message, test.text)
			}
		})
	}
	_, err := k.client.GetKey(t.Context(), "never", "", nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound", "")
}

// importRefused: keys whose members contradict each other, or that have none.
func (k *keys) importRefused(t *testing.T) {
	ours := must(ecKinds()[0].oracle.generate())(t)
	ec := func(curve azkeys.CurveName, d, x, y []byte) azkeys.JSONWebKey {
		return azkeys.JSONWebKey{Kty: ptr(azkeys.KeyTypeEC), Crv: &curve, D: d, X: x, Y: y}
	}
	x, y := ours.point[1:33], ours.point[33:]
	for name, key := range map[string]azkeys.JSONWebKey{
		"no private part": ec(azkeys.CurveNameP256, nil, x, y),
		"another point":   ec(azkeys.CurveNameP256, ours.d, y, x),
		"another curve":   ec(azkeys.CurveNameP384, ours.d, x, y),
		"no oct key":      {Kty: ptr(azkeys.KeyTypeOctHSM)},
		"odd oct key":     {Kty: ptr(azkeys.KeyTypeOctHSM), K: []byte("17 bytes, not 16!")},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := k.client.ImportKey(t.Context(), "never-imported", azkeys.ImportKeyParameters{Key: &key}, nil)
			refused(t, err, http.StatusBadRequest, "BadParameter", "")
		})
	}
}

func (k *keys) versionIDs(t *testing.T, name string) (ids []azkeys.ID) {
	t.Helper()
	for pager := k.client.NewListKeyPropertiesVersionsPager(name, nil); pager.More(); {
		for _, p := range must(pager.NextPage(t.Context()))(t).Value {
			ids = append(ids, *p.KID)
		}
	}
	slices.Sort(ids)
	return ids
}

func (k *keys) versions(t *testing.T) {
	var made []azkeys.KeyBundle
	var want []azkeys.ID
	for range 27 {
		made = append(made, k.createEC(t, "versions"))
		want = append(want, *made[len(made)-1].Key.KID)
	}
	for _, version := range made {
		if diff := cmp.Diff(version, k.get(t, "versions", version.Key.KID.Version())); diff != "" {
			t.Errorf("a version (-made +got):\n%s", diff)
		}
	}
	if got := k.get(t, "versions", ""); *got.Key.KID != want[26] {
		t.Errorf("latest is %s, want %s", *got.Key.KID, want[26])
	}
	slices.Sort(want)
	if diff := cmp.Diff(want, k.versionIDs(t, "versions")); diff != "" {
		t.Errorf("listed versions (-want +got):\n%s", diff)
	}
}

func (k *keys) update(t *testing.T) {
	expires := time.Date(2042, 1, 1, 0, 0, 0, 0, time.UTC)
	first := k.create(t, "update", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeEC), Tags: map[string]*string{"a": ptr("1")}})
	second := k.createEC(t, "update")
	changed := must(k.client.UpdateKey(t.Context(), "update", first.Key.KID.Version(), azkeys.UpdateKeyParameters{
		KeyAttributes: &azkeys.KeyAttributes{Enabled: ptr(false), Expires: &expires},
		KeyOps:        pointers([]azkeys.KeyOperation{azkeys.KeyOperationVerify}),
		Tags:          map[string]*string{"b": ptr("2")},
	}, nil))(t).KeyBundle
	ops := values(changed.Key.KeyOps)
	if *changed.Attributes.Enabled || !changed.Attributes.Expires.Equal(expires) || !slices.Equal(ops, []azkeys.KeyOperation{"verify"}) ||
		len(changed.Tags) != 1 || *changed.Tags["b"] != "2" {
		t.Errorf("update answered %+v, %v, %v", changed.Attributes, ops, changed.Tags)
	}
	if diff := cmp.Diff(changed, k.get(t, "update", first.Key.KID.Version())); diff != "" {
		t.Errorf("update and get differ (-update +get):\n%s", diff)
	}
	if diff := cmp.Diff(second, k.get(t, "update", "")); diff != "" {
		t.Errorf("the other version changed:\n%s", diff)
	}
	// Without a version it is the latest.
	must(k.client.UpdateKey(t.Context(), "update", "", azkeys.UpdateKeyParameters{Tags: map[string]*string{"c": ptr("3")}}, nil))(t)
	if got := k.get(t, "update", second.Key.KID.Version()); *got.Tags["c"] != "3" {
		t.Errorf("tags of the latest version are %v", got.Tags)
	}
}

// use: what a key may not do, or not now.
func (k *keys) use(t *testing.T) {
	day := 24 * time.Hour
	for name, test := range map[string]struct {
		attributes azkeys.KeyAttributes
		ops        []azkeys.KeyOperation
		inner      string
		verifies   bool // what it signed once, it still verifies
	}{
		"disabled":  {azkeys.KeyAttributes{Enabled: ptr(false)}, nil, "KeyDisabled", false},
		"expired":   {azkeys.KeyAttributes{Expires: ptr(time.Now().Add(-day))}, nil, "KeyExpired", true},
		"not-yet":   {azkeys.KeyAttributes{NotBefore: ptr(time.Now().Add(day))}, nil, "KeyNotYetValid", true},
		"forbidden": {azkeys.KeyAttributes{}, []azkeys.KeyOperation{"verify"}, "KeyOperationForbidden", true},
	} {
		t.Run(name, func(t *testing.T) {
			k.create(t, "use-"+name, azkeys.CreateKeyParameters{
				Kty: ptr(azkeys.KeyTypeEC), KeyAttributes: &test.attributes, KeyOps: pointers(test.ops),
			})
			alg, digest := azkeys.SignatureAlgorithmES256, digest(crypto.SHA256)
			_, err := k.client.Sign(t.Context(), "use-"+name, "", azkeys.SignParameters{Algorithm: &alg, Value: digest}, nil)
			body := refused(t, err, http.StatusForbidden, "Forbidden", test.inner)
			if !strings.HasPrefix(body.Error.Message, "Operation sign is not ") {
				t.Errorf("message is %q", body.Error.Message)
			}
			p := azkeys.VerifyParameters{Algorithm: &alg, Digest: digest, Signature: random(64)}
			_, err = k.client.Verify(t.Context(), "use-"+name, "", p, nil)
			if test.verifies && err != nil {
				t.Errorf("verify: %v", err)
			}
			if !test.verifies {
				refused(t, err, http.StatusForbidden, "Forbidden", test.inner)
			}
		})
	}
}

func (k *keys) paging(t *testing.T) {
	want := make(map[string]bool)
	for n := range 30 {
		name := fmt.Sprintf("page-%02d", n)
		k.create(t, name, azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeEC), Tags: map[string]*string{"n": &name}})
		want[name] = true
	}
	seen := make(map[string]bool)
	pages := 0
	for pager := k.client.NewListKeyPropertiesPager(nil); pager.More(); pages++ {
		page := must(pager.NextPage(t.Context()))(t)
		if len(page.Value) > 25 {
			t.Errorf("a page has %d entries", len(page.Value))
		}
		for _, p := range page.Value {
			name := p.KID.Name()
			if seen[name] || p.KID.Version() != "" {
				t.Errorf("%s is listed twice, or with a version", *p.KID)
			}
			if want[name] && (*p.Tags["n"] != name || !*p.Attributes.Enabled) {
				t.Errorf("%s is listed with the tags %v", name, p.Tags)
			}
			seen[name] = true
		}
	}
	if pages < 2 {
		t.Errorf("%d pages", pages)
	}
	for name := range want {
		if !seen[name] {
			t.Errorf("%s is not listed", name)
		}
	}
}

func (k *keys) deletedNames(t *testing.T) (names []string) {
	t.Helper()
	for pager := k.client.NewListDeletedKeyPropertiesPager(nil); pager.More(); {
		for _, p := range must(pager.NextPage(t.Context()))(t).Value {
			names = append(names, p.KID.Name())
		}
	}
	return names
}

func (k *keys) recover(t *testing.T) {
	first, second := k.createEC(t, "recover"), k.createEC(t, "recover")
	deleted := k.remove(t, "recover")
	if got := *deleted.RecoveryID; got != k.vault+"/deletedkeys/recover" || *deleted.Key.KID != *second.Key.KID {
		t.Errorf("deleted %s, to be recovered at %s", *deleted.Key.KID, got)
	}
	if got := deleted.ScheduledPurgeDate.Sub(*deleted.DeletedDate); got != 7*24*time.Hour {
		t.Errorf("kept for %v, want seven days", got)
	}
	_, err := k.client.GetKey(t.Context(), "recover", "", nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound", "")
	_, err = k.client.CreateKey(t.Context(), "recover", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeEC)}, nil)
	refused(t, err, http.StatusConflict, "Conflict", "ObjectIsDeletedButRecoverable")
	got := must(k.client.GetDeletedKey(t.Context(), "recover", nil))(t).DeletedKey
	if diff := cmp.Diff(deleted, got); diff != "" {
		t.Errorf("deleted key (-delete +get):\n%s", diff)
	}
	if names := k.deletedNames(t); !slices.Contains(names, "recover") {
		t.Errorf("deleted are %v", names)
	}
	recovered := must(k.client.RecoverDeletedKey(t.Context(), "recover", nil))(t).KeyBundle
	if diff := cmp.Diff(second, recovered); diff != "" {
		t.Errorf("recovered (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(first, k.get(t, "recover", first.Key.KID.Version())); diff != "" {
		t.Errorf("recovered first version (-before +after):\n%s", diff)
	}
	k.ecSignature(t, ecKinds()[0], azkeys.KeyTypeEC, recovered.Key, nil)
	_, err = k.client.RecoverDeletedKey(t.Context(), "recover", nil)
	refused(t, err, http.StatusBadRequest, "MethodNotAllowed", "RequestNotAllowedOnNonDeletedObject")
}

func (k *keys) purge(t *testing.T) {
	k.createEC(t, "purge")
	k.remove(t, "purge")
	must(k.client.PurgeDeletedKey(t.Context(), "purge", nil))(t)
	_, err := k.client.GetDeletedKey(t.Context(), "purge", nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound", "")
	_, err = k.client.RecoverDeletedKey(t.Context(), "purge", nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound", "")
	again := k.createEC(t, "purge")
	if diff := cmp.Diff([]azkeys.ID{*again.Key.KID}, k.versionIDs(t, "purge")); diff != "" {
		t.Errorf("versions after the purge (-want +got):\n%s", diff)
	}
}

func (k *keys) restore(t *testing.T, c *azkeys.Client, blob []byte) (azkeys.KeyBundle, error) {
	r, err := c.RestoreKey(t.Context(), azkeys.RestoreKeyParameters{KeyBackup: blob}, nil)
	return r.KeyBundle, err
}

func (k *keys) backup(t *testing.T) {
	first, second := k.createEC(t, "backup"), k.createEC(t, "backup")
	blob := must(k.client.BackupKey(t.Context(), "backup", nil))(t).Value
	_, err := k.restore(t, k.client, blob)
	refused(t, err, http.StatusConflict, "Conflict", "")
	k.remove(t, "backup")
	_, err = k.restore(t, k.client, blob)
	refused(t, err, http.StatusConflict, "Conflict", "")
	must(k.client.PurgeDeletedKey(t.Context(), "backup", nil))(t)
	for _, at := range []int{0, len(blob) / 2, len(blob) - 1} {
		altered := bytes.Clone(blob)
		altered[at] ^= 1
		_, err := k.restore(t, k.client, altered)
		refused(t, err, http.StatusBadRequest, "BadParameter", "")
	}
	restored := must(k.restore(t, k.client, blob))(t)
	if diff := cmp.Diff(second, restored); diff != "" {
		t.Errorf("restored (-before +after):\n%s", diff)
	}
	if diff := cmp.Diff(first, k.get(t, "backup", first.Key.KID.Version())); diff != "" {
		t.Errorf("restored first version (-before +after):\n%s", diff)
	}
	k.ecSignature(t, ecKinds()[0], azkeys.KeyTypeEC, restored.Key, nil)

	want := azkeys.ID(k.otherVault + "/keys/backup/" + second.Key.KID.Version())
	elsewhere := must(k.restore(t, k.other, blob))(t)
	if *elsewhere.Key.KID != want || !bytes.Equal(elsewhere.Key.X, second.Key.X) {
		t.Errorf("restored %s, want %s", *elsewhere.Key.KID, want)
	}
	hsm := k.create(t, "backup-hsm", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)})
	blob = must(k.client.BackupKey(t.Context(), hsm.Key.KID.Name(), nil))(t).Value
	_, err = k.restore(t, k.other, blob)
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
}

func (k *keys) rotate(t *testing.T) {
	p := azkeys.CreateKeyParameters{
		Kty: ptr(azkeys.KeyTypeECHSM), Curve: ptr(azkeys.CurveNameP521), KeyOps: pointers([]azkeys.KeyOperation{"sign"}),
		Tags: map[string]*string{"a": ptr("1")},
	}
	old := k.create(t, "rotate", p)
	rotated := must(k.client.RotateKey(t.Context(), "rotate", nil))(t).KeyBundle
	if *rotated.Key.KID == *old.Key.KID || bytes.Equal(rotated.Key.X, old.Key.X) {
		t.Errorf("rotation made %s of %s", *rotated.Key.KID, *old.Key.KID)
	}
	if *rotated.Key.Kty != *p.Kty || *rotated.Key.Crv != *p.Curve || !slices.Equal(values(rotated.Key.KeyOps), values(p.KeyOps)) {
		t.Errorf("rotation made a %s key on %s for %v", *rotated.Key.Kty, *rotated.Key.Crv, values(rotated.Key.KeyOps))
	}
	if diff := cmp.Diff(p.Tags, rotated.Tags); diff != "" || rotated.Attributes.Expires != nil {
		t.Errorf("the new version expires %v, tags (-want +got):\n%s", rotated.Attributes.Expires, diff)
	}
	if diff := cmp.Diff(rotated, k.get(t, "rotate", "")); diff != "" {
		t.Errorf("rotated (-rotate +get):\n%s", diff)
	}
	if diff := cmp.Diff(old, k.get(t, "rotate", old.Key.KID.Version())); diff != "" {
		t.Errorf("the old version (-before +after):\n%s", diff)
	}
}

// A lifetimeAction is one of a rotation policy, without its pointers.
type lifetimeAction struct{ action, afterCreate, beforeExpiry string }

func actions(p azkeys.KeyRotationPolicy) (out []lifetimeAction) {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	for _, a := range p.LifetimeActions {
		out = append(out, lifetimeAction{string(*a.Action.Type), text(a.Trigger.TimeAfterCreate), text(a.Trigger.TimeBeforeExpiry)})
	}
	return out
}

func (k *keys) rotationPolicy(t *testing.T) {
	k.createEC(t, "policy")
	none := must(k.client.GetKeyRotationPolicy(t.Context(), "policy", nil))(t).KeyRotationPolicy
	want := []lifetimeAction{{"Notify", "", "P30D"}}
	if got := actions(none); !slices.Equal(got, want) || *none.ID != k.vault+"/keys/policy/rotationpolicy" {
		t.Errorf("the policy of a new key is %s %v", *none.ID, got)
	}
	rotate := &azkeys.LifetimeAction{
		Action:  &azkeys.LifetimeActionType{Type: ptr(azkeys.KeyRotationPolicyActionRotate)},
		Trigger: &azkeys.LifetimeActionTrigger{TimeAfterCreate: ptr("P30D")},
	}
	stored := must(k.client.UpdateKeyRotationPolicy(t.Context(), "policy", azkeys.KeyRotationPolicy{
		LifetimeActions: []*azkeys.LifetimeAction{rotate}, Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: ptr("P90D")},
	}, nil))(t).KeyRotationPolicy
	// The service has a Notify in every policy.
	want = []lifetimeAction{{"Rotate", "P30D", ""}, {"Notify", "", "P30D"}}
	if got := actions(stored); !slices.Equal(got, want) || *stored.Attributes.ExpiryTime != "P90D" {
		t.Errorf("stored %v for %s", got, *stored.Attributes.ExpiryTime)
	}
	got := must(k.client.GetKeyRotationPolicy(t.Context(), "policy", nil))(t).KeyRotationPolicy
	if diff := cmp.Diff(stored, got); diff != "" {
		t.Errorf("the policy (-put +get):\n%s", diff)
	}
	rotated := must(k.client.RotateKey(t.Context(), "policy", nil))(t).KeyBundle
	if a := rotated.Attributes; a.Expires == nil || a.Expires.Sub(*a.Created) != 90*24*time.Hour {
		t.Errorf("the new version was made %v and expires %v", a.Created, a.Expires)
	}
	for name, p := range map[string]azkeys.KeyRotationPolicy{
		"a short life":   {Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: ptr("P27D")}},
		"no duration":    {Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: ptr("90 days")}},
		"rotation twice": {LifetimeActions: []*azkeys.LifetimeAction{rotate, rotate}},
	} {
		_, err := k.client.UpdateKeyRotationPolicy(t.Context(), "policy", p, nil)
		t.Run(name, func(t *testing.T) { refused(t, err, http.StatusBadRequest, "BadParameter", "") })
	}
}

func (k *keys) releasePolicy(t *testing.T) {
	p := azkeys.CreateKeyParameters{
		Kty:           ptr(azkeys.KeyTypeRSAHSM),
		KeyAttributes: &azkeys.KeyAttributes{Exportable: ptr(true)},
		ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: []byte(releasePolicyText)},
	}
	want := azkeys.KeyReleasePolicy{
		EncodedPolicy: []byte(canonicalReleasePolicy), ContentType: ptr("application/json; charset=utf-8"), Immutable: ptr(false),
	}
	made := k.create(t, "exportable", p)
	if diff := cmp.Diff(want, *made.ReleasePolicy); diff != "" || !*made.Attributes.Exportable {
		t.Errorf("release policy (-want +got):\n%s", diff)
	}
	want.Immutable = ptr(true)
	changed := must(k.client.UpdateKey(t.Context(), "exportable", "", azkeys.UpdateKeyParameters{
		ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: []byte(releasePolicyText), Immutable: ptr(true)},
	}, nil))(t)
	if diff := cmp.Diff(want, *changed.ReleasePolicy); diff != "" {
		t.Errorf("changed release policy (-want +got):\n%s", diff)
	}
	other := strings.Replace(releasePolicyText, "attest.example", "attest.test", 1)
	_, err := k.client.UpdateKey(t.Context(), "exportable", "", azkeys.UpdateKeyParameters{
		ReleasePolicy: &azkeys.KeyReleasePolicy{EncodedPolicy: []byte(other)},
	}, nil)
	body := refused(t, err, http.StatusBadRequest, "BadParameter", "")
	if want := "AKV.SKR.1020: Immutable Key Release Policy cannot be modified."; body.Error.Message != want {
		t.Errorf("message is %q, want %q", body.Error.Message, want)
	}
	// No authority is trusted with the keys of this server.
	_, err = k.client.Release(t.Context(), "exportable", "", azkeys.ReleaseParameters{TargetAttestationToken: ptr("a.b.c")}, nil)
	refused(t, err, http.StatusForbidden, "Forbidden", "KeyOperationForbidden")
}

// managedHSMOnly: what the client has and a vault has not.
func (k *keys) managedHSMOnly(t *testing.T) {
	_, err := k.client.GetRandomBytes(t.Context(), azkeys.GetRandomBytesParameters{Count: ptr[int32](16)}, nil)
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
	k.createEC(t, "no-attestation")
	_, err = k.client.GetKeyAttestation(t.Context(), "no-attestation", "", nil)
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
}

func (k *keys) missing(t *testing.T) {
	known := *k.createEC(t, "known").Key.KID
	ctx := t.Context()
	rsa := azkeys.KeyOperationParameters{Algorithm: ptr(azkeys.EncryptionAlgorithmRSAOAEP256), Value: []byte(plaintext)}
	for name, call := range map[string]func() error{
		"get":       func() error { _, err := k.client.GetKey(ctx, "never-made", "", nil); return err },
		"version":   func() error { _, err := k.client.GetKey(ctx, "known", strings.Repeat("0", 32), nil); return err },
		"delete":    func() error { _, err := k.client.DeleteKey(ctx, "never-made", nil); return err },
		"backup":    func() error { _, err := k.client.BackupKey(ctx, "never-made", nil); return err },
		"purge":     func() error { _, err := k.client.PurgeDeletedKey(ctx, "never-made", nil); return err },
		"rotate":    func() error { _, err := k.client.RotateKey(ctx, "never-made", nil); return err },
		"policy":    func() error { _, err := k.client.GetKeyRotationPolicy(ctx, "never-made", nil); return err },
		"encrypt":   func() error { _, err := k.client.Encrypt(ctx, "never-made", "", rsa, nil); return err },
		"elsewhere": func() error { _, err := k.other.GetKey(ctx, "known", known.Version(), nil); return err },
		"update": func() error {
			_, err := k.client.UpdateKey(ctx, "never-made", "", azkeys.UpdateKeyParameters{}, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, call(), http.StatusNotFound, "KeyNotFound", "")
		})
	}
	_, err := k.client.GetKey(ctx, "never-made", "", nil)
	body := refused(t, err, http.StatusNotFound, "KeyNotFound", "")
	if want := "A key with (name/id) never-made was not found in this key vault."; !strings.HasPrefix(body.Error.Message, want) {
		t.Errorf("message is %q", body.Error.Message)
	}
}

func (k *keys) unknownVault(t *testing.T) {
	_, err := k.open(t, os.Getenv("E2E_UNKNOWN_VAULT"), nil).GetKey(t.Context(), "any", "", nil)
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.StatusCode != http.StatusNotFound {
		t.Errorf("error is %v, want 404", err)
	}
}

func (k *keys) withoutRights(t *testing.T) {
	id, secret := os.Getenv("E2E_STRANGER_ID"), os.Getenv("E2E_STRANGER_SECRET")
	credential := must(azidentity.NewClientSecretCredential(os.Getenv("AZURE_TENANT_ID"), id, secret, nil))(t)
	k.createEC(t, "not-yours")
	stranger := must(azkeys.NewClient(k.vault, credential, nil))(t)
	sign := azkeys.SignParameters{Algorithm: ptr(azkeys.SignatureAlgorithmES256), Value: digest(crypto.SHA256)}
	for name, call := range map[string]func() error{
		"get":    func() error { _, err := stranger.GetKey(t.Context(), "not-yours", "", nil); return err },
		"sign":   func() error { _, err := stranger.Sign(t.Context(), "not-yours", "", sign, nil); return err },
		"rotate": func() error { _, err := stranger.RotateKey(t.Context(), "not-yours", nil); return err },
		"list":   func() error { _, err := stranger.NewListKeyPropertiesPager(nil).NextPage(t.Context()); return err },
		"create": func() error {
			_, err := stranger.CreateKey(t.Context(), "not-yours", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeEC)}, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			body := refused(t, call(), http.StatusForbidden, "Forbidden", "ForbiddenByRbac")
			if !strings.Contains(body.Error.Message, id) {
				t.Errorf("the message does not name the caller %s: %s", id, body.Error.Message)
			}
		})
	}
	if got := k.versionIDs(t, "not-yours"); len(got) != 1 {
		t.Errorf("the key has the versions %v", got)
	}
}

// apiVersions: programs from before are served as well, and see only what their version had.
func (k *keys) apiVersions(t *testing.T) {
	since := map[string]string{"exportable": "7.3", "hsmPlatform": "7.5"}
	for _, version := range []string{"2016-10-01", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6"} {
		t.Run(version, func(t *testing.T) {
			options := &azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{APIVersion: version}}
			c, name := k.open(t, k.vault, options), "at-"+strings.ReplaceAll(version, ".", "-")
			made := must(c.CreateKey(t.Context(), name, azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeEC)}, nil))(t)
			got := map[string]bool{"exportable": made.Attributes.Exportable != nil, "hsmPlatform": made.Attributes.HSMPlatform != nil}
			want := make(map[string]bool)
			for member, first := range since {
				want[member] = version >= first // as text: none of these is later than 7.9
			}
			if !maps.Equal(got, want) {
				t.Errorf("has %v, want %v", got, want)
			}
			alg, digest := azkeys.SignatureAlgorithmES256, digest(crypto.SHA256)
			signed := must(c.Sign(t.Context(), name, "", azkeys.SignParameters{Algorithm: &alg, Value: digest}, nil))(t)
			p := azkeys.VerifyParameters{Algorithm: &alg, Digest: digest, Signature: signed.Result}
			if verified := must(c.Verify(t.Context(), name, made.Key.KID.Version(), p, nil))(t); !*verified.Value {
				t.Error("the signature is wrong")
			}
			must(c.NewListKeyPropertiesPager(nil).NextPage(t.Context()))(t)
			must(c.DeleteKey(t.Context(), name, nil))(t)
			must(c.RecoverDeletedKey(t.Context(), name, nil))(t)
		})
	}
	c := k.open(t, k.vault, &azkeys.ClientOptions{ClientOptions: azcore.ClientOptions{APIVersion: "1999-01-01"}})
	_, err := c.GetKey(t.Context(), "any", "", nil)
	body := refused(t, err, http.StatusBadRequest, "BadParameter", "")
	if !strings.HasPrefix(body.Error.Message, "The specified version (1999-01-01) is not recognized.") {
		t.Errorf("message is %q", body.Error.Message)
	}
}
