package keyvault

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

// backup returns a key's backup.
func (b *bench) backupOf(t testing.TB, vault, name string) []byte {
	t.Helper()
	blob, err := b.of(vault).BackupKey(t.Context(), admin, vault, name)
	if err != nil {
		t.Fatal(err)
	}
	return blob
}

// drop deletes and purges a key.
func (b *bench) drop(t testing.TB, vault, name string) {
	t.Helper()
	if _, err := b.of(vault).DeleteKey(t.Context(), admin, vault, name); err != nil {
		t.Fatal(err)
	}
	if err := b.of(vault).PurgeKey(t.Context(), admin, vault, name); err != nil {
		t.Fatal(err)
	}
	if err := b.CollectGarbage(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// TestKeyBackup brings a key back whose last trace was purged: all versions, their attributes and policies, and what each of
// them can do. The second place has the same security domain, if it has one.
func TestKeyBackup(t *testing.T) {
	t.Parallel()
	for from, to := range map[string]string{"premium": "second", "pool": "twin"} {
		t.Run(from, func(t *testing.T) {
			t.Parallel()
			testKeyBackup(t, from, to)
		})
	}
}

func testKeyBackup(t *testing.T, from, to string) {
	b, ctx := newKeyBench(t), t.Context()
	b.tiered(t, "second", resource.Premium)
	b.pool(t, "twin", b.domainOf(t, "pool"))
	s := b.of(from)
	text, digest := []byte("what was encrypted long ago"), sha256.Sum256([]byte("m"))
	rsaVersion := b.take(t, from, "Key", ImportKeyParams{Type: "RSA-HSM", Private: rsaMembers(rsaKey()), Tags: map[string]string{"v": "1"}})
	sealed, _, err := s.Encrypt(ctx, admin, from, "key", "", "RSA-OAEP-256", Message{Value: text})
	if err != nil {
		t.Fatal(err)
	}
	b.advance(time.Second)
	octVersion := b.create(t, from, "key", CreateKeyParams{Type: "oct-HSM", Attributes: Attributes{Expires: new(b.clock().Unix() + 5)}})
	wrapped, _, err := s.Wrap(ctx, admin, from, "key", "", "A256GCM", Message{Value: text, AAD: text})
	if err != nil {
		t.Fatal(err)
	}
	b.advance(time.Second)
	ecVersion := b.create(t, from, "key", CreateKeyParams{
		Type: "EC-HSM", Curve: "P-256K", Exportable: true, ReleasePolicy: &ReleasePolicy{Data: []byte(anyPolicy), Immutable: true},
		Attributes: Attributes{NotBefore: new(int64(7)), Expires: new(b.clock().Add(200 * day).Unix())},
	})
	signature, _, err := s.Sign(ctx, admin, from, "key", "", "ES256K", digest[:])
	if err != nil {
		t.Fatal(err)
	}
	if rsaVersion, err = s.UpdateKey(ctx, admin, from, "key", rsaVersion.Version, UpdateKeyParams{Operations: []string{"decrypt"}}); err != nil {
		t.Fatal(err)
	}
	policy := b.setPolicy(t, from, "key", rotateBefore("P20D", "P90D"))
	versions, err := s.ListKeyVersions(ctx, admin, from, "key", "", 25)
	if err != nil {
		t.Fatal(err)
	}
	blob := b.backupOf(t, from, "KEY")
	b.without(t, func() {
		_, err := s.RestoreKey(ctx, admin, from, blob)
		wantKind(t, err, Conflict)
	})
	b.drop(t, from, "key")
	for name := range b.dump(t) {
		if kind, _, _ := bytes.Cut([]byte(name), []byte("/")); string(kind) == "value" || string(kind) == "version" {
			t.Fatalf("%s is left of a purged key", name)
		}
	}

	for _, vault := range []string{from, to} {
		got, err := s.RestoreKey(ctx, admin, vault, blob)
		if err != nil {
			t.Fatal(err)
		}
		same := func(what string, want, got any) {
			t.Helper()
			place := gocmp.FilterPath(func(p gocmp.Path) bool { return p.Last().String() == ".Vault" }, gocmp.Ignore())
			if diff := gocmp.Diff(want, got, place); diff != "" {
				t.Errorf("%s in %s (-want +got):\n%s", what, vault, diff)
			}
		}
		same("restored key", ecVersion, got)
		restored, err := s.ListKeyVersions(ctx, admin, vault, "key", "", 25)
		if err != nil {
			t.Fatal(err)
		}
		same("versions", versions, restored)
		if p, err := s.GetRotationPolicy(ctx, admin, vault, "key"); err != nil {
			t.Error(err)
		} else {
			same("policy", policy, p)
		}
		if out, _, err := s.Decrypt(ctx, admin, vault, "key", rsaVersion.Version, "RSA-OAEP-256", sealed); err != nil || !bytes.Equal(out, text) {
			t.Errorf("decrypted %q, %v", out, err)
		}
		if out, _, err := s.Unwrap(ctx, admin, vault, "key", octVersion.Version, "A256GCM", wrapped); err != nil || !bytes.Equal(out, text) {
			t.Errorf("unwrapped %q, %v", out, err)
		}
		if ok, _, err := s.Verify(ctx, admin, vault, "key", "", "ES256K", digest[:], signature); !ok || err != nil {
			t.Errorf("verified %v, %v", ok, err)
		}
		_, err = s.UpdateKey(ctx, admin, vault, "key", "", UpdateKeyParams{ReleasePolicy: &ReleasePolicy{
			Data: bytes.Replace([]byte(anyPolicy), []byte(`"x"`), []byte(`"y"`), 1)}})
		wantKind(t, err, BadParameter) // immutable for ever
		b.consistent(t)
		if vault == to {
			break
		}
		b.drop(t, vault, "key")
	}
	// It is scheduled anew, in its new place.
	b.advance(200 * day)
	b.act(t)
	if k, err := s.GetKey(ctx, admin, to, "key", ""); err != nil || k.Version == ecVersion.Version || k.Curve != "P-256K" {
		t.Errorf("rotated: %+v, %v", k, err)
	}
}

// TestKeyRestoreTier: a vault gets no versions by a restore that it could not get otherwise, whichever of them it is.
func TestKeyRestoreTier(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	b.tiered(t, "second", resource.Premium)
	for name, types := range map[string][]string{"old": {"EC-HSM", "EC"}, "new": {"EC", "EC-HSM"}, "none": {"EC", "EC"}, "all": {"EC-HSM", "EC-HSM"}} {
		for _, typ := range types {
			b.create(t, "premium", name, CreateKeyParams{Type: typ})
		}
		blob := b.backupOf(t, "premium", name)
		for vault, ok := range map[string]bool{"vault": name == "none", "second": true, "pool": false} {
			before := b.records(t, "version/") + b.records(t, "garbage/")
			_, err := b.of(vault).RestoreKey(ctx, admin, vault, blob)
			if ok && err == nil {
				continue
			}
			wantKind(t, err, BadParameter)
			if n := b.records(t, "version/") + b.records(t, "garbage/"); n != before {
				t.Errorf("%s into %s left %d records", name, vault, n-before)
			}
		}
	}
	b.consistent(t)
}

// TestBackupsOfOtherKinds feeds each restore what is not its own.
func TestBackupsOfOtherKinds(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.set(t, "vault", "x", "v")
	b.create(t, "vault", "x", CreateKeyParams{Type: "EC"})
	secret, err := b.BackupSecret(ctx, admin, "vault", "x")
	if err != nil {
		t.Fatal(err)
	}
	key := b.backupOf(t, "vault", "x")
	b.vault(t, "target", 7, false)
	relabelled := func(blob []byte, from, to ObjectKind) []byte {
		return append([]byte(backupMagic(to)), blob[len(backupMagic(from)):]...)
	}
	// What an installation of ours could seal under the wrong label only by a mistake.
	mislabelled := func(kind ObjectKind, blob []byte) []byte {
		plaintext, ok, err := b.backup.open(backupMagic(kind), blob)
		other := map[ObjectKind]ObjectKind{KeyKind: SecretKind, SecretKind: KeyKind}[kind]
		out, sealing := b.backup.seal(backupMagic(other), plaintext)
		if !ok || err != nil || sealing != nil {
			t.Fatal(ok, err, sealing)
		}
		return out
	}
	for name, blob := range map[string][]byte{
		"secret": secret, "relabelled": relabelled(secret, SecretKind, KeyKind), "mislabelled": mislabelled(SecretKind, secret),
	} {
		b.refused(t, BadParameter, func() error {
			k, err := b.RestoreKey(ctx, admin, "target", blob)
			if err == nil {
				t.Errorf("%s was restored as %+v", name, k)
			}
			return err
		})
	}
	for name, blob := range map[string][]byte{
		"key": key, "relabelled": relabelled(key, KeyKind, SecretKind), "mislabelled": mislabelled(KeyKind, key),
	} {
		b.refused(t, BadParameter, func() error {
			_, err := b.RestoreSecret(ctx, admin, "target", blob)
			if err == nil {
				t.Errorf("the %s was restored: a private key would be a secret's value", name)
			}
			return err
		})
	}
}

// TestKeyBackupTampered changes a blob at many places, and cuts it at many.
func TestKeyBackupTampered(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
	blob := b.backupOf(t, "vault", "k")
	if bytes.Equal(blob, b.backupOf(t, "vault", "k")) {
		t.Error("two backups are the same bytes: their sealing is not randomised")
	}
	b.vault(t, "target", 7, false)
	before, head := b.dump(t), b.audit.Head().Seq
	restore := func(blob []byte) {
		t.Helper()
		_, err := b.RestoreKey(ctx, admin, "target", blob)
		wantKind(t, err, BadParameter)
	}
	for i := range blob {
		garbled := bytes.Clone(blob)
		garbled[i] ^= 1 << (i % 8)
		restore(garbled)
		if i%16 == 0 {
			restore(blob[:i])
		}
	}
	restore(append(bytes.Clone(blob), 0))
	restore(nil)
	restore(make([]byte, MaxBackup+1))
	other := newBench(t)
	other.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
	restore(other.backupOf(t, "vault", "k"))
	if b.audit.Head().Seq != head || len(b.dump(t)) != len(before) {
		t.Error("a bad blob left something")
	}
	if _, err := b.RestoreKey(ctx, admin, "target", blob); err != nil {
		t.Error(err)
	}
}

// TestKeyRestoreInterrupted fails each step of a restore in each way: the whole key is there, with what is due, or nothing.
func TestKeyRestoreInterrupted(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	for range 3 {
		b.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
	}
	b.setPolicy(t, "vault", "k", rotateAfter("P10D"))
	blob := b.backupOf(t, "vault", "k")
	b.drop(t, "vault", "k")
	for _, fault := range []storetest.Fault{storetest.Fail, storetest.Lost, storetest.Unknown, storetest.Twice} {
		for step := range 3 {
			b.faulty.Schedule(append(slices.Repeat([]storetest.Fault{storetest.None}, step), fault)...)
			_, err := b.RestoreKey(ctx, admin, "vault", blob)
			if fault != storetest.Twice && !failed(err) || fault == storetest.Twice && err != nil {
				t.Fatalf("fault %d at %d: %v", fault, step, err)
			}
			b.consistent(t)
			_, err = b.GetKey(ctx, admin, "vault", "k", "")
			there := fault == storetest.Twice || fault == storetest.Unknown && step == 2
			switch {
			case there && err != nil:
				t.Errorf("fault %d at %d: %v", fault, step, err)
			case there:
				b.wantDue(t, map[string]float64{"rotate": 10})
				b.drop(t, "vault", "k")
			default:
				wantKind(t, err, NotFound)
				b.wantDue(t, map[string]float64{})
			}
		}
	}
	b.advance(restoreTime)
	if err := b.CollectGarbage(ctx); err != nil {
		t.Fatal(err)
	}
	if n := b.records(t, "version/") + b.records(t, "value/") + b.records(t, "garbage/"); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

// TestKeyBackupHoldsTheKey: the blob's plaintext has what a restore needs, and the blob shows none of it.
func TestKeyBackupHoldsTheKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.take(t, "vault", "visible-name", ImportKeyParams{Type: "RSA", Private: rsaMembers(rsaKey())})
	blob := b.backupOf(t, "vault", "visible-name")
	plaintext, _, err := b.backup.open(backupMagic(KeyKind), blob)
	if err != nil {
		t.Fatal(err)
	}
	var backup struct{ Versions []struct{ Value []byte } }
	if err := json.Unmarshal(plaintext, &backup); err != nil || !bytes.Contains(backup.Versions[0].Value, rsaKey().D.Bytes()) {
		t.Errorf("the backup does not hold the key: %v", err)
	}
	if bytes.Contains(blob, []byte("visible-name")) || bytes.Contains(blob, rsaKey().D.Bytes()) {
		t.Error("the backup is readable")
	}
	var refused *Error
	if _, err := b.BackupKey(context.Background(), admin, "vault", "none"); !errors.As(err, &refused) || refused.Message != "Key not found: none" {
		t.Errorf("%v", err)
	}
}
