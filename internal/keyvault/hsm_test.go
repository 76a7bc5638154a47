package keyvault

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// of returns the service of the family that a vault of the bench belongs to.
func (b *bench) of(vault string) *Service {
	if b.pools[vault] {
		return b.ManagedHSMs()
	}
	return b.Service
}

// newDomain makes a security domain.
func newDomain(t testing.TB) *sdomain.DomainKeys {
	t.Helper()
	domain, err := sdomain.NewDomainKeys()
	if err != nil {
		t.Fatal(err)
	}
	return domain
}

// pool makes a managed HSM. Without a domain it is not activated; with one the administrator may do everything with its keys.
func (b *bench) pool(t testing.TB, name string, domain *sdomain.DomainKeys) {
	t.Helper()
	_, _, err := b.resources.PutHSM(t.Context(), someone, "g", name, resource.PutHSMParams{
		Location: "here", SKUName: "Standard_B1", TenantID: "t", RetentionDays: new(7), Administrators: []string{adminID},
	})
	if err != nil {
		t.Fatal(err)
	}
	if b.pools == nil {
		b.pools = make(map[string]bool)
	}
	b.pools[name] = true
	if domain == nil {
		return
	}
	err = b.db.Update(t.Context(), func(tx store.Tx) error {
		v, err := b.resources.LoadHSM(tx, name)
		if err != nil {
			return err
		}
		return b.resources.Activate(tx, v, domain)
	})
	if err != nil {
		t.Fatal(err)
	}
	b.grant(t, name, "/", authz.RoleHSMCryptoUser, adminID)
	b.grant(t, name, "/", authz.RoleHSMCryptoOfficer, adminID)
}

// grant gives a principal a role of a managed HSM, at a scope.
func (b *bench) grant(t testing.TB, name, scope, role, principal string) {
	t.Helper()
	_, err := b.resources.CreateLocalAssignment(t.Context(), resource.Actor{Caller: admin}, name, scope, uuid.NewString(), principal, role)
	if err != nil {
		t.Fatal(err)
	}
}

// custom makes a role of a managed HSM that allows some data actions, and returns its id.
func (b *bench) custom(t testing.TB, name string, actions ...string) string {
	t.Helper()
	id := uuid.NewString()
	_, err := b.resources.PutLocalDefinition(t.Context(), resource.Actor{Caller: admin}, name, id, authz.RoleDefinition{
		Name: id, AssignableScopes: []string{"/"}, Permissions: []authz.PermissionSet{{DataActions: actions}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// domainOf returns the security domain of a managed HSM.
func (b *bench) domainOf(t testing.TB, name string) (domain *sdomain.DomainKeys) {
	t.Helper()
	err := b.db.View(t.Context(), func(r store.Reader) error {
		v, err := b.resources.LoadHSM(r, name)
		if err == nil {
			domain, err = b.resources.Domain(r, v)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return domain
}

// changePool alters the record of a managed HSM, as nobody but a test may.
func (b *bench) changePool(t testing.TB, name, member string, value any) {
	t.Helper()
	changeRecord(t, b, "hsm/"+name, member, value)
}

// actionsOfKeys says which data action of a managed HSM each of keyActs needs (contract §10.1).
var actionsOfKeys = map[string]string{
	"create": "keys/create", "import": "keys/import/action", "get": "keys/read/action", "update": "keys/write/action",
	"delete": "keys/delete", "get deleted": "keys/deletedKeys/read/action", "recover": "keys/deletedKeys/recover/action",
	"purge": "keys/deletedKeys/delete", "list": "keys/read/action", "list deleted": "keys/deletedKeys/read/action",
	"list versions": "keys/read/action", "backup": "keys/backup/action", "restore": "keys/restore/action",
	"restore of trash": "keys/restore/action", "rotate": "keys/rotate/action", "get policy": "keys/read/action",
	"set policy": "keys/write/action", "sign": "keys/sign/action", "verify": "keys/verify/action", "encrypt": "keys/encrypt/action",
	"decrypt": "keys/decrypt/action", "wrap": "keys/wrap/action", "unwrap": "keys/unwrap/action", "random": "rng/action",
	"release": "keys/release/action", "attestation": "keys/read/action",
}

// hsmActs are keyActs and what managed HSMs alone have.
func hsmActs(ctx context.Context, s *Service, caller *identity.Caller, name string) map[string]func() error {
	acts := keyActs(ctx, s, caller, name, nil)
	acts["attestation"] = func() error { _, err := s.GetKeyAttestation(ctx, caller, name, "k", ""); return err }
	return acts
}

// TestHSMActions: each data action allows what it is for and nothing else, at every scope. What an access policy or a role of
// Azure's own would allow is of no use, nor is it to be an initial administrator.
func TestHSMActions(t *testing.T) {
	t.Parallel()
	whole := []string{"list", "list deleted", "restore", "restore of trash"} // not about one key
	byAction := make(map[string][]string)
	for act, action := range actionsOfKeys {
		byAction[action] = append(byAction[action], act)
	}
	for action, acts := range byAction {
		for _, scope := range []string{"/", "/keys", "/keys/K", "/keys/other"} {
			t.Run(action+" at "+scope, func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				b.pool(t, "pool", newDomain(t))
				b.create(t, "pool", "k", CreateKeyParams{Type: "EC"})
				b.grant(t, "pool", scope, b.custom(t, "pool", "Microsoft.KeyVault/managedHsm/"+action), memberID)
				var want []string
				for _, act := range acts {
					switch {
					case scope == "/", scope == "/keys" && act != "random", scope == "/keys/K" && act != "random" && !slices.Contains(whole, act):
						want = append(want, act)
					}
				}
				got := hsmAllowed(t, hsmActs(t.Context(), b.of("pool"), member, "pool"))
				slices.Sort(want)
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}

// hsmAllowed returns which acts are not denied, as allowed does for vaults.
func hsmAllowed(t testing.TB, acts map[string]func() error) (out []string) {
	t.Helper()
	for name, act := range acts {
		var refused *Error
		switch err := act(); {
		case isKind(err, AccessDeniedInHSM):
			continue
		case err != nil && !errors.As(err, &refused):
			t.Errorf("%s: %v", name, err)
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// TestInitialAdministrator may do nothing with keys: that is for roles which he gives.
func TestInitialAdministrator(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.pool(t, "pool", newDomain(t))
	other := "00000000-0000-4000-8000-0000000000aa"
	b.grant(t, "pool", "/", authz.RoleHSMAdministrator, other)
	caller := &identity.Caller{TenantID: "t", ObjectID: other}
	if got := hsmAllowed(t, hsmActs(t.Context(), b.of("pool"), caller, "pool")); got != nil {
		t.Errorf("an administrator may %v", got)
	}
	for _, act := range secretActs(t.Context(), b.of("pool"), admin, "pool", nil) { // whatever his roles, there are no secrets
		b.refused(t, AccessDeniedInHSM, act)
	}
}

// TestHSMGate: nothing can be done with the keys of a managed HSM that is not activated, is being restored or is deleted, whoever
// asks; and then it can.
func TestHSMGate(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.pool(t, "fresh", nil)
	b.pool(t, "pool", newDomain(t))
	b.create(t, "pool", "k", CreateKeyParams{Type: "EC"})
	b.changePool(t, "pool", "restoring", "job-1")
	b.pool(t, "gone", newDomain(t))
	if _, err := b.resources.DeleteHSM(t.Context(), someone, "g", "gone"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]Kind{"fresh": HSMNotActivated, "pool": HSMRestoring, "gone": VaultNotFound} {
		for _, caller := range []*identity.Caller{admin, stranger} {
			for act, do := range hsmActs(t.Context(), b.of(name), caller, name) {
				t.Run(name+" "+act, func(t *testing.T) { b.refused(t, want, do) })
			}
			b.refused(t, want, func() error { return b.of(name).Authorize(t.Context(), caller, name, KeySign, "k") })
		}
	}
	_, err := b.of("pool").GetKey(t.Context(), admin, "pool", "k", "")
	if err == nil || !strings.Contains(err.Error(), "job-1") {
		t.Errorf("who waits does not learn for what: %v", err)
	}
	b.changePool(t, "pool", "restoring", "")
	if _, err := b.of("pool").GetKey(t.Context(), admin, "pool", "k", ""); err != nil {
		t.Error(err)
	}
}

// TestNothingDueWhileRestored: a key's rotation waits until the content of the managed HSM is replaced or not.
func TestNothingDueWhileRestored(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.pool(t, "pool", newDomain(t))
	first := b.create(t, "pool", "k", CreateKeyParams{Type: "EC", Attributes: Attributes{Expires: new(b.clock().Add(100 * day).Unix())}})
	b.setPolicy(t, "pool", "k", rotateAfter("P10D"))
	b.changePool(t, "pool", "restoring", "job-1")
	b.advance(90 * day)
	if n := b.act(t); n != 0 {
		t.Errorf("%d things were done in a managed HSM that is being restored", n)
	}
	if at, ok, err := b.NextDue(t.Context(), everything); err != nil || !ok || !at.After(b.clock()) {
		t.Errorf("what waits is looked at again at %v, %v, %v", at, ok, err)
	}
	b.changePool(t, "pool", "restoring", "")
	b.advance(time.Hour)
	b.act(t)
	if k, err := b.of("pool").GetKey(t.Context(), admin, "pool", "k", ""); err != nil || k.Version == first.Version {
		t.Errorf("the key was not rotated: %v, %v", k.Version, err)
	}
	b.consistent(t)
}

// TestSameName: a vault and a managed HSM of one name have nothing to do with each other.
func TestSameName(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.tiered(t, "both", resource.Premium)
	inVault := b.create(t, "both", "k", CreateKeyParams{Type: "EC"})
	b.setPolicy(t, "both", "k", rotateAfter("P10D"))
	vaults := b.Service
	b.pool(t, "both", newDomain(t))
	hsms := b.of("both")
	inHSM := b.create(t, "both", "k", CreateKeyParams{Type: "EC"})
	b.create(t, "both", "only", CreateKeyParams{Type: "EC"})
	if inVault.Type != "EC" || inHSM.Type != "EC-HSM" || inVault.Vault == inHSM.Vault {
		t.Fatalf("%s in %s, %s in %s", inVault.Type, inVault.Vault, inHSM.Type, inHSM.Vault)
	}
	if _, err := vaults.GetKey(ctx, admin, "both", "only", ""); !isKind(err, NotFound) {
		t.Errorf("the vault has the managed HSM's key: %v", err)
	}
	digest := make([]byte, 32)
	signature, _, err := vaults.Sign(ctx, admin, "both", "k", "", "ES256", digest)
	if err != nil {
		t.Fatal(err)
	}
	if ok, _, err := hsms.Verify(ctx, admin, "both", "k", "", "ES256", digest, signature); ok || err != nil {
		t.Errorf("the managed HSM has the vault's key: %v, %v", ok, err)
	}
	// What is due for the vault's key changes that one.
	b.advance(11 * day)
	b.act(t)
	now, err := vaults.GetKey(ctx, admin, "both", "k", "")
	same, err2 := hsms.GetKey(ctx, admin, "both", "k", "")
	if err != nil || err2 != nil || now.Version == inVault.Version || same.Version != inHSM.Version {
		t.Errorf("rotated: %s and %s, %v, %v", now.Version, same.Version, err, err2)
	}
	b.deleteVault(t, "both")
	b.purgeVault(t, "both")
	if err := errors.Join(b.CollectGarbage(ctx), b.CollectGarbage(ctx)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := hsms.Sign(ctx, admin, "both", "k", "", "ES256", digest); err != nil {
		t.Errorf("the key went with the vault: %v", err)
	}
	b.consistent(t)
}

// TestHSMContent: what is in a managed HSM stands under its content's id, and another content is seen at once.
func TestHSMContent(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.pool(t, "pool", newDomain(t))
	role := func() {
		for _, r := range []string{authz.RoleHSMCryptoUser, authz.RoleHSMCryptoOfficer} {
			b.grant(t, "pool", "/", r, memberID)
		}
	}
	role()
	hsms := b.of("pool")
	old := b.create(t, "pool", "k", CreateKeyParams{Type: "EC"})
	b.setPolicy(t, "pool", "k", rotateAfter("P10D"))
	if _, err := hsms.DeleteKey(ctx, admin, "pool", b.create(t, "pool", "gone", CreateKeyParams{Type: "EC"}).Name); err != nil {
		t.Fatal(err)
	}
	content := record.NewID()
	copyRecords(t, b, resource.LocalPrefix(b.idOf(t, "pool")), resource.LocalPrefix(content))
	b.changePool(t, "pool", "content", content)
	for act, err := range map[string]error{
		"get":         second(hsms.GetKey(ctx, admin, "pool", "k", "")),
		"get deleted": second(hsms.GetDeletedKey(ctx, admin, "pool", "gone")),
	} {
		if !isKind(err, NotFound) {
			t.Errorf("%s: %v", act, err)
		}
	}
	k, err := hsms.CreateKey(ctx, member, "pool", "k", CreateKeyParams{Type: "EC"})
	if err != nil || k.Version == old.Version {
		t.Fatalf("%v, %v", k.Version, err)
	}
	b.advance(11 * day)
	b.act(t) // what was due in the old content is not
	if now, err := hsms.GetKey(ctx, member, "pool", "k", ""); err != nil || now.Version != k.Version {
		t.Errorf("%v, %v", now.Version, err)
	}
}

func second[T any](_ T, err error) error { return err }

// idOf returns the id of a managed HSM.
func (b *bench) idOf(t testing.TB, name string) (id string) {
	t.Helper()
	err := b.db.View(t.Context(), func(r store.Reader) error {
		v, err := b.resources.LoadHSM(r, name)
		if err == nil {
			id = v.ID
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func copyRecords(t testing.TB, b *bench, from, to string) {
	t.Helper()
	err := b.db.Update(t.Context(), func(tx store.Tx) error {
		for e, err := range tx.Scan(from, store.PrefixEnd(from)) {
			if err != nil {
				return err
			}
			if err := tx.Put(to+strings.TrimPrefix(e.Key, from), e.Value); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestHSMKeysAreWrapped: however a key gets into a managed HSM, its material stands in the store under the security domain.
func TestHSMKeysAreWrapped(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	domain := newDomain(t)
	b.pool(t, "pool", domain)
	b.pool(t, "twin", domain)
	hsms := b.of("pool")
	oct := bytes.Repeat([]byte("0123456789abcdef"), 2)
	b.create(t, "pool", "Made", CreateKeyParams{Type: "EC"})
	b.take(t, "pool", "taken", ImportKeyParams{Type: "oct", Private: PrivateKey{K: oct}})
	if _, err := hsms.RotateKey(ctx, admin, "pool", "made"); err != nil {
		t.Fatal(err)
	}
	b.setPolicy(t, "pool", "made", rotateAfter("P10D"))
	b.advance(11 * day)
	if b.act(t) != 1 {
		t.Error("nothing was rotated")
	}
	for _, name := range []string{"made", "taken"} {
		blob, err := hsms.BackupKey(ctx, admin, "pool", name)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := hsms.RestoreKey(ctx, admin, "twin", blob); err != nil {
			t.Fatal(err)
		}
	}
	all := b.dump(t)
	wrapped := 0
	for key, value := range all {
		if strings.Contains(value, string(oct)) {
			t.Errorf("%s holds a key in the clear", key)
		}
		if !strings.HasPrefix(key, "object/") {
			continue
		}
		o, err := record.Decode[objectRecord]([]byte(value))
		if err != nil {
			t.Fatal(err)
		}
		for at := range all {
			version, found := strings.CutPrefix(at, valuePrefix(o.ID))
			if !found {
				continue
			}
			rec, err := record.Decode[versionRecord]([]byte(all[versionKey(o.ID, version)]))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.hsm.Open(ctx, rec.Key.spec(), []byte(all[at])); err == nil {
				t.Errorf("%s opens without the domain", at)
			}
			blob, err := domain.UnwrapKey(o.Name, version, []byte(all[at]))
			if err != nil {
				t.Errorf("%s: %v", at, err)
				continue
			}
			if _, err := b.hsm.Open(ctx, rec.Key.spec(), blob); err != nil {
				t.Errorf("%s: %v", at, err)
			}
			wrapped++
		}
	}
	if wrapped != 8 {
		t.Errorf("%d keys are wrapped, want 8", wrapped)
	}
	b.consistent(t)
}

// TestSpoiltMaterial puts something else where a key's material should be: it is not used, and the check finds it.
func TestSpoiltMaterial(t *testing.T) {
	t.Parallel()
	for name, spoil := range map[string]func(b *bench, old, other []byte) []byte{
		"altered":            func(_ *bench, old, _ []byte) []byte { old[len(old)-1] ^= 1; return old },
		"cut":                func(_ *bench, old, _ []byte) []byte { return old[:len(old)/2] },
		"empty":              func(*bench, []byte, []byte) []byte { return nil },
		"of another version": func(_ *bench, _, other []byte) []byte { return other },
		"in the clear": func(b *bench, _, _ []byte) []byte {
			made, err := b.hsm.Generate(t.Context(), hsm.Spec{Type: hsm.EC, Curve: hsm.P256})
			if err != nil {
				t.Error(err)
			}
			return made.Blob
		},
		"of another domain": func(*bench, []byte, []byte) []byte {
			wrapped, err := newDomain(t).WrapKey("k", "0123", []byte("blob"))
			if err != nil {
				t.Error(err)
			}
			return wrapped
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b, ctx := newBench(t), t.Context()
			b.pool(t, "pool", newDomain(t))
			first, current := b.create(t, "pool", "k", CreateKeyParams{Type: "EC"}), b.create(t, "pool", "k", CreateKeyParams{Type: "EC"})
			sign := func() error { return third(b.of("pool").Sign(ctx, admin, "pool", "k", "", "ES256", make([]byte, 32))) }
			if err := sign(); err != nil { // so that it is in the cache
				t.Fatal(err)
			}
			var at string
			err := b.db.Update(ctx, func(tx store.Tx) error {
				v, err := b.resources.LoadHSM(tx, "pool")
				if err != nil {
					return err
				}
				o, err := record.Get[objectRecord](tx, objectKey(v, KeyKind, "k"))
				if err != nil {
					return err
				}
				at = valueKey(o.ID, current.Version)
				old, err := tx.Get(at)
				if err != nil {
					return err
				}
				other, err := tx.Get(valueKey(o.ID, first.Version))
				if err != nil {
					return err
				}
				return tx.Put(at, spoil(b, bytes.Clone(old), bytes.Clone(other)))
			})
			if err != nil {
				t.Fatal(err)
			}
			var spoilt *seal.RecordError
			if err := sign(); !errors.As(err, &spoilt) || spoilt.Key != at {
				t.Errorf("signed: %v", err)
			}
			reported := 0
			err = b.CheckReferences(ctx, func(key, problem string) {
				reported++
				if key != at || !strings.Contains(problem, "does not open") {
					t.Errorf("%s %s", key, problem)
				}
			})
			if err != nil || reported != 1 {
				t.Errorf("%d problems are reported, %v", reported, err)
			}
		})
	}
}

func third[A, B any](_ A, _ B, err error) error { return err }

// TestHSMBackupsOfOthers: a backup goes nowhere but where the same security domain is, and says so.
func TestHSMBackupsOfOthers(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.tiered(t, "premium", resource.Premium)
	b.tiered(t, "second", resource.Premium)
	domain := newDomain(t)
	b.pool(t, "pool", domain)
	b.pool(t, "other", newDomain(t))
	b.pool(t, "twin", domain)
	b.create(t, "premium", "k", CreateKeyParams{Type: "EC-HSM"})
	b.create(t, "pool", "k", CreateKeyParams{Type: "EC-HSM"})
	b.create(t, "pool", "taken", CreateKeyParams{Type: "EC-HSM"})
	b.create(t, "twin", "taken", CreateKeyParams{Type: "oct-HSM"})
	fromVault, fromHSM := b.backupOf(t, "premium", "k"), b.backupOf(t, "pool", "k")
	if bytes.Count(fromHSM, []byte(".")) != 4 || !bytes.HasPrefix(fromHSM, []byte("eyJ")) {
		t.Errorf("the backup is no compact JWE: %.40s", fromHSM)
	}
	altered := bytes.Clone(fromHSM)
	if middle := &altered[len(altered)/2]; *middle == 'A' { // another letter of base64
		*middle = 'B'
	} else {
		*middle = 'A'
	}
	secret := b.set(t, "premium", "s", "v")
	ofSecret, err := b.BackupSecret(ctx, admin, "premium", secret.Name)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		into string
		blob []byte
		want Kind
		text string
	}{
		"another domain":           {"other", fromHSM, BadParameter, "another security domain"},
		"altered":                  {"twin", altered, BadParameter, "altered"},
		"into a vault":             {"second", fromHSM, BadParameter, "not into a vault"},
		"from a vault":             {"twin", fromVault, BadParameter, "into a vault only"},
		"a secret":                 {"twin", ofSecret, BadParameter, "The backup"},
		"trash":                    {"twin", []byte("trash"), BadParameter, "The backup"},
		"five empty parts":         {"twin", []byte("...."), BadParameter, "The backup"},
		"nothing":                  {"twin", nil, BadParameter, "The backup"},
		"the name is taken":        {"twin", b.backupOf(t, "pool", "taken"), Conflict, "exists in the managed HSM"},
		"the key is there already": {"pool", fromHSM, Conflict, "exists in the managed HSM"},
	} {
		t.Run(name, func(t *testing.T) {
			b.without(t, func() {
				_, err := b.of(c.into).RestoreKey(ctx, admin, c.into, c.blob)
				wantKind(t, err, c.want)
				if err != nil && !strings.Contains(err.Error(), c.text) {
					t.Errorf("the refusal says: %v", err)
				}
			})
		})
	}
	if k, err := b.of("twin").RestoreKey(ctx, admin, "twin", fromHSM); err != nil || !strings.HasSuffix(k.Vault, "/MANAGEDHSMS/TWIN") {
		t.Errorf("%+v, %v", k, err)
	}
	// Another installation, of another tenant, may have the domain too.
	elsewhere := newBench(t)
	elsewhere.pool(t, "pool", domain)
	if _, err := elsewhere.of("pool").RestoreKey(ctx, admin, "pool", fromHSM); err != nil {
		t.Error(err)
	}
}

// TestHSMBackupsMadeUp: who has a security domain can make up backups, and gets no policy in by them that nobody can set.
func TestHSMBackupsMadeUp(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	domain := newDomain(t)
	b.pool(t, "pool", domain)
	b.pool(t, "twin", domain)
	b.create(t, "pool", "k", CreateKeyParams{Type: "EC-HSM"})
	plaintext, err := domain.OpenKeyBackup(string(b.backupOf(t, "pool", "k")))
	if err != nil {
		t.Fatal(err)
	}
	made, err := record.Decode[objectBackup](plaintext)
	if err != nil {
		t.Fatal(err)
	}
	content := b.contents(t, b.hsmOf(t, "pool"))[0]
	for after, refused := range map[string]bool{"P30D": false, "P0D": true, "x": true} {
		rotation := &rotationRecord{Actions: []LifetimeAction{{Action: ActionRotate, AfterCreate: after}}}
		made.Rotation = rotation
		raw, err := json.Marshal(made)
		if err != nil {
			t.Fatal(err)
		}
		blob, err := domain.SealKeyBackup(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, one := b.openBackup(domain, KeyKind, []byte(blob))

		o, err := record.Decode[objectRecord](content.Records[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		o.Rotation = rotation
		if raw, err = json.Marshal(o); err != nil {
			t.Fatal(err)
		}
		records := append([]ContentRecord{{contentKey, raw}}, content.Records[1:]...)
		_, _, full := b.decode(t.Context(), b.hsmOf(t, "pool"), &KeyContent{content.Name, records})
		for _, err := range []error{one, full} {
			if !refused && err != nil || refused && (err == nil || !strings.Contains(err.Error(), "rotation policy")) {
				t.Errorf("rotation after %s: %v", after, err)
			}
		}
	}
}

// A counter counts what is read of a store.
type counter struct {
	store.DB
	reads atomic.Int64
}

type countedReader struct {
	store.Reader
	c *counter
}

func (c *counter) View(ctx context.Context, fn func(store.Reader) error) error {
	return c.DB.View(ctx, func(r store.Reader) error { return fn(countedReader{r, c}) })
}

func (r countedReader) Get(key string) ([]byte, error) {
	r.c.reads.Add(1)
	return r.Reader.Get(key)
}

// TestHSMReadsNoMore: to use a key of a managed HSM takes as many reads as in a vault that is governed by roles.
func TestHSMReadsNoMore(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.roled(t, "roled")
	b.assign(t, "", authz.RoleVaultCryptoOfficer, memberID)
	b.pool(t, "pool", newDomain(t))
	b.grant(t, "pool", "/", authz.RoleHSMCryptoUser, memberID)
	counted := &counter{DB: b.faulty}
	db, err := seal.Open(ctx, counted, b.root)
	if err != nil {
		t.Fatal(err)
	}
	vaults := b.serve(t, db, b.audit, b.hsm)
	reads := make(map[string]int64)
	for vault, s := range map[string]*Service{"roled": vaults, "pool": vaults.ManagedHSMs()} {
		if _, err := s.CreateKey(ctx, member, vault, "k", CreateKeyParams{Type: "EC"}); err != nil {
			t.Fatal(err)
		}
		for range 2 { // the first fills the caches
			before := counted.reads.Load()
			if err := third(s.Sign(ctx, member, vault, "k", "", "ES256", make([]byte, 32))); err != nil {
				t.Fatal(err)
			}
			reads[vault] = counted.reads.Load() - before
		}
	}
	if reads["roled"] != reads["pool"] || reads["pool"] == 0 {
		t.Errorf("reads: %v", reads)
	}
}

// BenchmarkSign uses a key of a vault and one of a managed HSM.
func BenchmarkSign(b *testing.B) {
	s := newBench(b)
	s.pool(b, "pool", newDomain(b))
	for _, vault := range []string{"vault", "pool"} {
		s.create(b, vault, "k", CreateKeyParams{Type: "EC"})
		b.Run(vault, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := third(s.of(vault).Sign(b.Context(), admin, vault, "k", "", "ES256", make([]byte, 32))); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestHSMReachable: network rules are those of the managed HSM, not of the vault of that name.
func TestHSMReachable(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.pool(t, "vault", newDomain(t)) // beside the vault of that name
	hsms, inside, outside := b.of("vault"), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.1")
	reach := func(s *Service, from netip.Addr) error { return s.Reachable(ctx, "Vault", from) }
	if err := errors.Join(reach(hsms, outside), hsms.Reachable(ctx, "nowhere", outside)); err != nil {
		t.Error(err)
	}
	_, err := b.resources.PatchHSM(ctx, someone, "g", "vault", resource.PatchHSMParams{Network: &authz.NetworkRules{
		Bypass: authz.BypassNone, DefaultAction: authz.DenyAddresses, IPRules: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(reach(hsms, inside), reach(b.Service, outside)); err != nil {
		t.Error(err)
	}
	wantKind(t, reach(hsms, outside), ForbiddenByFirewall)
	if _, err := b.resources.PatchHSM(ctx, someone, "g", "vault", resource.PatchHSMParams{PublicNetworkAccess: new("Disabled")}); err != nil {
		t.Fatal(err)
	}
	wantKind(t, reach(hsms, inside), ForbiddenByConnection)
	if err := reach(b.Service, inside); err != nil {
		t.Error(err)
	}
}

// TestHSMTransfer brings keys into a managed HSM by transfer files, whose key-exchange key is in it.
func TestHSMTransfer(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.pool(t, "pool", newDomain(t))
	kek := b.take(t, "pool", "kek", ImportKeyParams{Type: "RSA", Private: rsaMembers(rsaKey()), Operations: []string{"import"}})
	b.take(t, "pool", "moved", ImportKeyParams{Type: "EC", Transfer: transferFile(t, kek, pkcs8(t, makeEC(t, elliptic.P256()))), ParseKeyID: parseTestID})
	if err := third(b.of("pool").Sign(ctx, admin, "pool", "moved", "", "ES256", make([]byte, 32))); err != nil {
		t.Error(err)
	}
	b.consistent(t)
}

// TestMadeUpBackups: whoever has the domain can seal anything. What makes no sense is refused.
func TestMadeUpBackups(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	domain := newDomain(t)
	b.pool(t, "pool", domain)
	b.create(t, "pool", "k", CreateKeyParams{Type: "EC"})
	good, err := domain.OpenKeyBackup(string(b.backupOf(t, "pool", "k")))
	if err != nil {
		t.Fatal(err)
	}
	b.drop(t, "pool", "k")
	restore := func(plaintext []byte) error {
		blob, err := domain.SealKeyBackup(plaintext)
		if err != nil {
			t.Fatal(err)
		}
		return second(b.of("pool").RestoreKey(ctx, admin, "pool", []byte(blob)))
	}
	for name, change := range map[string]func(o map[string]any, version map[string]any){
		"no name":       func(o, _ map[string]any) { o["name"] = "" },
		"a path":        func(o, _ map[string]any) { o["name"] = "../k" },
		"no versions":   func(o, _ map[string]any) { o["versions"] = nil },
		"one twice":     func(o, v map[string]any) { o["versions"] = []any{v, v} },
		"too many":      func(o, v map[string]any) { o["versions"] = slices.Repeat([]any{v}, MaxBackupVersions+1) },
		"a secret":      func(_, v map[string]any) { delete(v, "key") },
		"odd version":   func(o, v map[string]any) { v["version"], o["current"] = "x/y", "x/y" },
		"upper case":    func(o, v map[string]any) { u := strings.Repeat("A", 32); v["version"], o["current"] = u, u },
		"other current": func(o, _ map[string]any) { o["current"] = strings.Repeat("0", 32) },
		"newer":         func(o, _ map[string]any) { o["v"] = 99 },
		"more members":  func(o, _ map[string]any) { o["more"] = true },
	} {
		var o map[string]any
		if err := json.Unmarshal(good, &o); err != nil {
			t.Fatal(err)
		}
		change(o, o["versions"].([]any)[0].(map[string]any))
		plaintext, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		b.without(t, func() {
			if err := restore(plaintext); !isKind(err, BadParameter) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	if err := restore(good); err != nil {
		t.Error(err)
	}
}
