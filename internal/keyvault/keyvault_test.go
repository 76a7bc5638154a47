package keyvault

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/bolt"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

const (
	adminID = "0a11ce00-0000-4000-8000-00000000000a"
	crewID  = "c4e30000-0000-4000-8000-00000000000c"
)

var (
	admin    = &identity.Caller{TenantID: "t", ObjectID: adminID, AppID: "app", Issuer: "iss"}
	stranger = &identity.Caller{TenantID: "t", ObjectID: "stranger", AppID: "app2", Issuer: "iss"}
	someone  = resource.Actor{Operator: "tester"}
)

// bench is a service over a real store with a clock of its own.
type bench struct {
	*Service
	faulty    *storetest.Faulty
	auditPath string
	root      seal.RootKey
	pools     map[string]bool // which of its vaults are managed HSMs

	mu  sync.Mutex // guards now
	now time.Time
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func newBench(t testing.TB) *bench {
	t.Helper()
	dir := t.TempDir()
	file, err := bolt.Open(filepath.Join(dir, "store.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{now: time.Unix(1_700_000_000, 0), auditPath: filepath.Join(dir, "audit.jsonl"), faulty: storetest.NewFaulty(file, 1)}
	root, err := seal.ParseRootKey(seal.GenerateRootKey())
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.Init(t.Context(), file, root); err != nil {
		t.Fatal(err)
	}
	b.root = root
	db, err := seal.Open(t.Context(), b.faulty, root)
	if err != nil {
		t.Fatal(err)
	}
	log, err := audit.Open(audit.Config{Path: b.auditPath, SyncEvery: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(log.Close(), db.Close()); err != nil {
			t.Error(err)
		}
	})
	b.Service = b.serve(t, db, log, hsm.NewSoftware(hsm.SoftwareConfig{}))
	b.vault(t, "vault", 7, false)
	return b
}

// serve returns a service on a store, as one server runs it.
func (b *bench) serve(t testing.TB, db *seal.DB, log *audit.Log, provider hsm.Provider) *Service {
	t.Helper()
	resources, err := resource.Open(t.Context(), resource.Config{DB: db, Audit: log, Now: b.clock, TenantID: "t", Purged: Purged})
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{DB: db, Audit: log, Resources: resources, HSM: provider, Now: b.clock})
}

// another returns another service on the same store, as another server would run it.
func (b *bench) another(t testing.TB, provider hsm.Provider) *Service {
	return b.serve(t, b.db, b.audit, provider)
}

func (b *bench) vault(t testing.TB, name string, days int, protected bool) {
	t.Helper()
	p := resource.PutVaultParams{
		Location: "here", RetentionDays: &days, Administrators: []string{strings.ToUpper(adminID), "group:" + strings.ToUpper(crewID)},
	}
	if protected {
		p.PurgeProtection = &protected
	}
	if _, _, err := b.resources.PutVault(t.Context(), someone, "g", name, p); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) deleteVault(t testing.TB, name string) {
	t.Helper()
	if existed, err := b.resources.DeleteVault(t.Context(), someone, "g", name); err != nil || !existed {
		t.Fatalf("delete the vault %s: %v, %v", name, existed, err)
	}
}

func (b *bench) recoverVault(t testing.TB, name string) {
	t.Helper()
	if _, _, err := b.resources.PutVault(t.Context(), someone, "g", name, resource.PutVaultParams{Recover: true}); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) purgeVault(t testing.TB, name string) {
	t.Helper()
	if err := b.resources.PurgeVault(t.Context(), someone, "here", name); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) set(t testing.TB, vault, name, value string) Secret {
	t.Helper()
	s, err := b.SetSecret(t.Context(), admin, vault, name, SetSecretParams{Value: NewSecretValue(value)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func wantKind(t testing.TB, err error, kind Kind) {
	t.Helper()
	var refused *Error
	if !errors.As(err, &refused) || refused.Kind != kind {
		t.Errorf("error %v, want kind %d", err, kind)
	}
}

// records counts the records of the store below a prefix.
func (b *bench) records(t testing.TB, prefix string) (n int) {
	t.Helper()
	err := b.db.View(t.Context(), func(r store.Reader) error {
		n = 0
		for _, err := range r.Scan(prefix, store.PrefixEnd(prefix)) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestVaultLife(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.set(t, "vault", "s", "v")
	b.deleteVault(t, "vault")
	_, err := b.GetSecret(ctx, admin, "vault", "s", "")
	wantKind(t, err, VaultNotFound)
	b.recoverVault(t, "vault")
	if s, err := b.GetSecret(ctx, admin, "vault", "s", ""); err != nil || s.Value.Reveal() != "v" {
		t.Errorf("after recovery: %v", err)
	}
	if _, ok, err := b.NextDue(ctx, everything); ok || err != nil {
		t.Errorf("something is due after the recovery: %v", err)
	}
	b.deleteVault(t, "vault")
	b.purgeVault(t, "vault")
	b.vault(t, "vault", 7, false)
	_, err = b.GetSecret(ctx, admin, "vault", "s", "")
	wantKind(t, err, NotFound)
	for range 2 { // the vault's objects, then their versions
		if err := b.CollectGarbage(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, prefix := range []string{"object/", "deleted/", "version/", "value/", "garbage/"} {
		if n := b.records(t, prefix); n != 0 {
			t.Errorf("%d records are left below %s", n, prefix)
		}
	}
}

func TestVaultPurgedOnTime(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.vault(t, "guarded", 90, true)
	b.deleteVault(t, "guarded")
	if err := b.resources.PurgeVault(ctx, someone, "here", "guarded"); !resource.IsKind(err, resource.PurgeProtected) {
		t.Errorf("purged before its time: %v", err)
	}
	b.advance(90*24*time.Hour - time.Second)
	if n, err := b.ActOnDue(ctx, everything); n != 0 || err != nil {
		t.Errorf("a second early: %d, %v", n, err)
	}
	b.advance(time.Second)
	if n, err := b.ActOnDue(ctx, everything); n != 1 || err != nil {
		t.Errorf("on time: %d, %v", n, err)
	}
	if _, err := b.resources.FindVault(ctx, someone, "guarded"); !resource.IsKind(err, resource.ResourceNotFound) {
		t.Errorf("it is still there: %v", err)
	}
}

func TestAdministrators(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	const other = "0b0b0000-0000-4000-8000-00000000000b"
	newcomer := &identity.Caller{TenantID: "t", ObjectID: other}
	_, err := b.GetSecret(ctx, newcomer, "vault", "s", "")
	wantKind(t, err, AccessDenied)
	if _, err := b.resources.ChangeAdministrators(ctx, someone, "vault", []string{other}, []string{adminID}); err != nil {
		t.Fatal(err)
	}
	_, err = b.GetSecret(ctx, newcomer, "vault", "s", "")
	wantKind(t, err, NotFound)
	_, err = b.GetSecret(ctx, admin, "vault", "s", "")
	wantKind(t, err, AccessDenied)
}

func TestActOnDue(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.vault(t, "guarded", 30, true)
	for i := range 3 {
		b.set(t, "vault", fmt.Sprint("s", i), "v")
		b.set(t, "guarded", fmt.Sprint("s", i), "v")
	}
	for i := range 3 {
		for _, vault := range []string{"vault", "guarded"} {
			if _, err := b.DeleteSecret(ctx, admin, vault, fmt.Sprint("s", i)); err != nil {
				t.Fatal(err)
			}
		}
		b.advance(time.Hour)
	}
	wantKind(t, b.PurgeSecret(ctx, admin, "guarded", "s0"), PurgeProtected)
	if _, err := b.RecoverSecret(ctx, admin, "vault", "s1"); err != nil {
		t.Fatal(err)
	}
	b.advance(7*24*time.Hour - 4*time.Hour)
	at, ok, err := b.NextDue(ctx, DueOthers)
	if want := time.Unix(1_700_000_000, 0).Add(7 * 24 * time.Hour); !ok || err != nil || !at.Equal(want) {
		t.Errorf("due at %v, %v, %v; want %v", at, ok, err, want)
	}
	b.advance(time.Hour) // s0's time
	if n, err := b.ActOnDue(ctx, everything); n != 1 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	_, err = b.GetDeletedSecret(ctx, admin, "vault", "s0")
	wantKind(t, err, NotFound)
	if _, err := b.GetDeletedSecret(ctx, admin, "vault", "s2"); err != nil {
		t.Error(err)
	}
	b.advance(100 * 24 * time.Hour)
	if n, err := b.ActOnDue(ctx, everything); n != 4 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	if err := b.CollectGarbage(ctx); err != nil {
		t.Fatal(err)
	}
	if n := b.records(t, "version/"); n != 1 {
		t.Errorf("%d versions are left, want that of the recovered secret", n)
	}
	if n := b.records(t, "due/") + b.records(t, "garbage/") + b.records(t, "deleted/"); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

// TestActOnDueTwice lets two servers on one store purge at once.
func TestActOnDueTwice(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	for i := range 20 {
		b.set(t, "vault", fmt.Sprint("s", i), "v")
		if _, err := b.DeleteSecret(ctx, admin, "vault", fmt.Sprint("s", i)); err != nil {
			t.Fatal(err)
		}
	}
	b.advance(8 * 24 * time.Hour)
	other := b.another(t, nil)
	var wg sync.WaitGroup
	counts := make([]int, 2)
	for i, s := range []*Service{b.Service, other} {
		wg.Go(func() {
			n, err := s.ActOnDue(ctx, everything)
			if err == nil {
				err = s.CollectGarbage(ctx)
			}
			if err != nil {
				t.Error(err)
			}
			counts[i] = n
		})
	}
	wg.Wait()
	if counts[0]+counts[1] != 20 {
		t.Errorf("purged %v, want 20 together", counts)
	}
	if n := b.records(t, "version/"); n != 0 {
		t.Errorf("%d versions are left", n)
	}
}

// TestManaged marks a secret as a certificate's, as the certificates' own code will.
func TestManaged(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.set(t, "vault", "cert", "pfx")
	mark := func(prefix string) {
		t.Helper()
		err := b.db.Update(ctx, func(tx store.Tx) error {
			v, err := b.liveVault(tx, "vault")
			if err != nil {
				return err
			}
			key := strings.Replace(objectKey(v, SecretKind, "cert"), "object/", prefix, 1)
			o, err := record.Get[objectRecord](tx, key)
			if err != nil {
				return err
			}
			o.Managed = true
			return record.Put(tx, key, o)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	mark("object/")
	_, err := b.DeleteSecret(ctx, admin, "vault", "cert")
	wantKind(t, err, Managed)
	_, err = b.SetSecret(ctx, admin, "vault", "cert", SetSecretParams{Value: NewSecretValue("x")})
	wantKind(t, err, Managed)
	_, err = b.UpdateSecret(ctx, admin, "vault", "cert", "", UpdateSecretParams{})
	wantKind(t, err, Managed)
	_, err = b.BackupSecret(ctx, admin, "vault", "cert")
	wantKind(t, err, Managed)
	if s, err := b.GetSecret(ctx, admin, "vault", "cert", ""); err != nil || !s.Managed {
		t.Errorf("reading: managed %v, %v", s.Managed, err)
	}
	b.set(t, "vault", "gone", "v")
	err = b.db.Update(ctx, func(tx store.Tx) error {
		v, err := b.liveVault(tx, "vault")
		if err != nil {
			return err
		}
		o, err := record.Get[objectRecord](tx, objectKey(v, SecretKind, "gone"))
		if err != nil {
			return err
		}
		o.Managed, o.Deleted, o.PurgeAt = true, 1, 2
		return errors.Join(tx.Delete(objectKey(v, SecretKind, "gone")), record.Put(tx, deletedKey(v, SecretKind, "gone"), o))
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.RecoverSecret(ctx, admin, "vault", "gone")
	wantKind(t, err, Managed)
	wantKind(t, b.PurgeSecret(ctx, admin, "vault", "gone"), Managed)
}

// TestRestoreInterrupted kills a restore between its steps: nothing of it is seen, and the collector removes it.
func TestRestoreInterrupted(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	for i := range 130 { // several transactions
		b.set(t, "vault", "many", fmt.Sprint(i))
	}
	blob, err := b.BackupSecret(ctx, admin, "vault", "many")
	if err != nil {
		t.Fatal(err)
	}
	b.vault(t, "target", 7, false)
	before := b.records(t, "version/")
	for step := range 5 {
		faults := slices.Repeat([]storetest.Fault{storetest.None}, step)
		b.faulty.Schedule(append(faults, storetest.Fail)...)
		if _, err := b.RestoreSecret(ctx, admin, "target", blob); !errors.Is(err, storetest.ErrInjected) {
			t.Fatalf("step %d: %v", step, err)
		}
		_, err := b.GetSecret(ctx, admin, "target", "many", "")
		wantKind(t, err, NotFound)
	}
	if n := b.records(t, "version/"); n == before {
		t.Fatal("the interrupted restores left nothing, so the test is about nothing")
	}
	if err := b.CollectGarbage(ctx); err != nil {
		t.Fatal(err)
	}
	if n := b.records(t, "garbage/"); n == 0 {
		t.Error("a restore that may still be running was collected")
	}
	b.advance(restoreTime)
	if err := b.CollectGarbage(ctx); err != nil {
		t.Fatal(err)
	}
	if n, values := b.records(t, "version/"), b.records(t, "value/"); n != before || values != before {
		t.Errorf("%d versions and %d values are stored, want %d", n, values, before)
	}
	if _, err := b.RestoreSecret(ctx, admin, "target", blob); err != nil {
		t.Fatal(err)
	}
	page, err := b.ListSecretVersions(ctx, admin, "target", "many", "", 200)
	if err != nil || len(page.Items) != 130 {
		t.Errorf("%d versions, %v", len(page.Items), err)
	}
}

// change alters the record at key, as nobody but a test may.
func change[T any, P record.Record[T]](t testing.TB, b *bench, key func(v *resource.Vault) string, alter func(P)) {
	t.Helper()
	err := b.db.Update(t.Context(), func(tx store.Tx) error {
		v, err := b.resources.LoadAny(tx, "vault")
		if err != nil {
			return err
		}
		rec, err := record.Get[T, P](tx, key(v))
		if err != nil {
			return err
		}
		alter(P(rec))
		return record.Put(tx, key(v), rec)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// changeVault alters the record of the vault, as nobody but a test may.
func changeVault(t testing.TB, b *bench, member string, value any) {
	t.Helper()
	changeRecord(t, b, "vault/vault", member, value)
}

func changeRecord(t testing.TB, b *bench, key, member string, value any) {
	t.Helper()
	err := b.db.Update(t.Context(), func(tx store.Tx) error {
		raw, err := tx.Get(key)
		if err != nil {
			return err
		}
		var rec map[string]any
		if err := json.Unmarshal(raw, &rec); err != nil {
			return err
		}
		rec[member] = value
		return record.Put(tx, key, rec)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRightsTakenAway takes the caller's rights, or the vault, away between the intent and the transaction.
func TestRightsTakenAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		take func(t *testing.T, b *bench)
		want Kind
	}{
		"rights": {func(t *testing.T, b *bench) {
			changeVault(t, b, "administrators", nil)
		}, AccessDenied},
		"vault": {func(t *testing.T, b *bench) {
			b.deleteVault(t, "vault")
		}, VaultNotFound},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.set(t, "vault", "s", "v")
			taken := false
			hooked := b.hooked(t, func() {
				if !taken {
					taken = true
					c.take(t, b)
				}
			})
			_, err := hooked.SetSecret(t.Context(), admin, "vault", "s", SetSecretParams{Value: NewSecretValue("w")})
			wantKind(t, err, c.want)
			if !taken || b.records(t, "version/") != 1 {
				t.Error("the write took place")
			}
		})
	}
}

// spoil makes the n-th record below a prefix, counted from 0, one that does not open.
func (b *bench) spoil(t testing.TB, prefix string, n int) {
	t.Helper()
	err := b.faulty.Update(t.Context(), func(tx store.Tx) error { // below the seal
		left := n
		for e, err := range tx.Scan(prefix, store.PrefixEnd(prefix)) {
			if err != nil {
				return err
			}
			if left--; left < 0 {
				return tx.Put(e.Key, []byte("spoiled"))
			}
		}
		return errors.New("there is nothing to spoil")
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestPoison spoils records of each kind that the jobs read: they do the rest of their work all the same.
func TestPoison(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	for i := range 5 {
		b.set(t, "vault", fmt.Sprint("s", i), "v")
		if _, err := b.DeleteSecret(ctx, admin, "vault", fmt.Sprint("s", i)); err != nil {
			t.Fatal(err)
		}
	}
	b.spoil(t, "deleted/", 1)
	b.spoil(t, "due/", 2)
	b.advance(8 * 24 * time.Hour)
	n, err := b.ActOnDue(ctx, everything)
	if n != 3 || err == nil || !strings.Contains(err.Error(), "due/") || !strings.Contains(err.Error(), "deleted/") {
		t.Errorf("purged %d, %v", n, err)
	}
	b.spoil(t, "garbage/", 0)
	if err := b.CollectGarbage(ctx); err == nil || !strings.Contains(err.Error(), "garbage/") {
		t.Errorf("collected: %v", err)
	}
	if n := b.records(t, "version/"); n != 3 { // of the two deleted secrets that could not be purged, and of the bad mark
		t.Errorf("%d versions are left", n)
	}
}

// TestStaleDue leaves due entries whose reason has gone. They vanish without a word in the audit log.
func TestStaleDue(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.set(t, "vault", "moved", "v")
	b.set(t, "vault", "gone", "v")
	for _, name := range []string{"moved", "gone"} {
		if _, err := b.DeleteSecret(ctx, admin, "vault", name); err != nil {
			t.Fatal(err)
		}
	}
	b.deleteVault(t, "vault")
	change(t, b, func(v *resource.Vault) string { return deletedKey(v, SecretKind, "moved") }, func(o *objectRecord) { o.PurgeAt++ })
	changeVault(t, b, "purgeAt", 1)
	err := b.db.Update(ctx, func(tx store.Tx) error {
		v, err := b.resources.LoadAny(tx, "vault")
		if err != nil {
			return err
		}
		return tx.Delete(deletedKey(v, SecretKind, "gone"))
	})
	if err != nil {
		t.Fatal(err)
	}
	before := b.audit.Head().Seq
	b.advance(8 * 24 * time.Hour)
	if n, err := b.ActOnDue(ctx, everything); n != 0 || err != nil {
		t.Errorf("purged %d, %v", n, err)
	}
	if n := b.records(t, "due/"); n != 0 {
		t.Errorf("%d stale entries are left", n)
	}
	if n := b.audit.Head().Seq - before; n != 0 {
		t.Errorf("%d records say that something was purged", n)
	}
	if b.records(t, "deleted/") != 1 || b.records(t, "vault/") != 1 {
		t.Error("something was purged before its time")
	}
}

func TestPurgedVaultLeavesNothingDue(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	for i := range 100 {
		b.set(t, "vault", fmt.Sprint("s", i), "v")
		if i%2 == 0 {
			if _, err := b.DeleteSecret(ctx, admin, "vault", fmt.Sprint("s", i)); err != nil {
				t.Fatal(err)
			}
		}
	}
	b.deleteVault(t, "vault")
	b.purgeVault(t, "vault")
	for range 2 {
		if err := b.CollectGarbage(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, prefix := range []string{"due/", "object/", "deleted/", "version/", "value/", "garbage/"} {
		if n := b.records(t, prefix); n != 0 {
			t.Errorf("%d records are left below %s", n, prefix)
		}
	}
}

// TestRestoreRace lets the name be taken, or the restore's mark be claimed, before the last step of a restore.
func TestRestoreRace(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(t *testing.T, b *bench){
		"name taken": func(t *testing.T, b *bench) { b.set(t, "target", "s", "other") },
		"collected": func(t *testing.T, b *bench) {
			b.advance(restoreTime)
			if err := b.CollectGarbage(t.Context()); err != nil {
				t.Error(err)
			}
		},
		"mark claimed": func(t *testing.T, b *bench) {
			err := b.db.Update(t.Context(), func(tx store.Tx) error {
				for e, err := range tx.Scan("garbage/", store.PrefixEnd("garbage/")) {
					if err != nil {
						return err
					}
					rec, err := record.Decode[garbageRecord](e.Value)
					if err != nil {
						return err
					}
					rec.Collecting = true
					return record.Put(tx, e.Key, rec)
				}
				return errors.New("there is no mark")
			})
			if err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.set(t, "vault", "s", "v")
			blob, err := b.BackupSecret(t.Context(), admin, "vault", "s")
			if err != nil {
				t.Fatal(err)
			}
			b.vault(t, "target", 7, false)
			updates := 0
			hooked := b.hooked(t, func() {
				if updates++; updates == 3 { // mark, versions, then the last step
					meanwhile(t, b)
				}
			})
			_, err = hooked.RestoreSecret(t.Context(), admin, "target", blob)
			wantKind(t, err, Conflict)
		})
	}
}

// TestRestoreForeignTenant restores into a vault of another tenant.
func TestRestoreForeignTenant(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.set(t, "vault", "s", "v")
	blob, err := b.BackupSecret(ctx, admin, "vault", "s")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PurgeSecretNow(t, "s"); err != nil {
		t.Fatal(err)
	}
	changeVault(t, b, "tenantId", "other")
	_, err = b.RestoreSecret(ctx, &identity.Caller{TenantID: "other", ObjectID: adminID}, "vault", blob)
	wantKind(t, err, BadParameter)
}

// PurgeSecretNow deletes and purges.
func (b *bench) PurgeSecretNow(t testing.TB, name string) error {
	if _, err := b.DeleteSecret(t.Context(), admin, "vault", name); err != nil {
		return err
	}
	return b.PurgeSecret(t.Context(), admin, "vault", name)
}

// TestReferences removes one record of each kind that others refer to.
func TestReferences(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	for i := range 5 {
		b.set(t, "vault", fmt.Sprint("s", i), "v")
	}
	if _, err := b.DeleteSecret(ctx, admin, "vault", "s4"); err != nil {
		t.Fatal(err)
	}
	problems := func() (out []string) {
		if err := b.CheckReferences(ctx, func(key, problem string) { out = append(out, problem) }); err != nil {
			t.Fatal(err)
		}
		slices.Sort(out)
		return out
	}
	if got := problems(); len(got) != 0 {
		t.Fatalf("a good store: %q", got)
	}
	err := b.db.Update(ctx, func(tx store.Tx) error {
		v, err := b.resources.LoadAny(tx, "vault")
		if err != nil {
			return err
		}
		for i, prefix := range []func(string) string{valuePrefix, versionPrefix} {
			o, err := b.loadObject(tx, v, SecretKind, fmt.Sprint("s", i))
			if err != nil {
				return err
			}
			if err := tx.Delete(prefix(o.ID) + o.Current); err != nil {
				return err
			}
		}
		for e, err := range tx.Scan("due/", store.PrefixEnd("due/")) {
			if err != nil {
				return err
			}
			return tx.Delete(e.Key)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"has no current version", "has no value", "is deleted, and nothing will purge it", "should have 1 versions and has 0"}
	if got := problems(); !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestVaultReferences removes a vault under its objects, and the due entry of a deleted one.
func TestVaultReferences(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.set(t, "vault", "s", "v")
	b.vault(t, "other", 7, false)
	b.deleteVault(t, "other")
	err := b.db.Update(ctx, func(tx store.Tx) error {
		other, err := b.resources.LoadAny(tx, "other")
		if err != nil {
			return err
		}
		return errors.Join(tx.Delete("vault/vault"), tx.Delete(record.DueTime(other.PurgeAt)+"purgevault/other"))
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := b.CheckReferences(ctx, func(_, problem string) { got = append(got, problem) }); err != nil {
		t.Fatal(err)
	}
	if want := []string{"is deleted, and nothing will purge it", "belongs to no vault"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestCollectBadRecords purges a secret of which one value does not open: all of it goes.
func TestCollectBadRecords(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	for i := range 3 {
		b.set(t, "vault", "s", fmt.Sprint(i))
	}
	b.spoil(t, "value/", 0)
	if err := b.PurgeSecretNow(t, "s"); err != nil {
		t.Fatal(err)
	}
	if err := b.CollectGarbage(ctx); err != nil {
		t.Error(err)
	}
	if n := b.records(t, "value/") + b.records(t, "version/") + b.records(t, "garbage/"); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

func TestLocate(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	live := b.set(t, "vault", "Live", "v")
	gone := b.set(t, "vault", "gone", "v")
	if _, err := b.DeleteSecret(ctx, admin, "vault", "gone"); err != nil {
		t.Fatal(err)
	}
	var keys []string
	err := b.db.Walk(ctx, func(key string, _ []byte, err error) error {
		keys = append(keys, key)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	places, err := b.Locate(ctx, append(keys, "value/nobody/x", "version/x", "x"))
	if err != nil {
		t.Fatal(err)
	}
	count := make(map[string]int)
	for _, place := range places {
		count[place]++
	}
	for place, n := range map[string]int{
		"secret Live of the vault vault, version " + live.Version: 2,
		"secret gone of the vault vault, version " + gone.Version: 2,
		"secret live of the vault vault":                          1,
		"secret gone of the vault vault":                          1,
	} {
		if count[place] != n {
			t.Errorf("%q is given for %d records, want %d; all: %v", place, count[place], n, count)
		}
	}
	if len(count) != 4 {
		t.Errorf("places: %v", count)
	}
}

func TestBackupLimits(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.set(t, "vault", "s", "v")
	err := b.db.Update(ctx, func(tx store.Tx) error {
		v, err := b.liveVault(tx, "vault")
		if err != nil {
			return err
		}
		o, err := record.Get[objectRecord](tx, objectKey(v, SecretKind, "s"))
		if err != nil {
			return err
		}
		o.Versions = MaxBackupVersions + 1
		return record.Put(tx, objectKey(v, SecretKind, "s"), o)
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.BackupSecret(ctx, admin, "vault", "s")
	wantKind(t, err, BadParameter)

	other := newBench(t)
	blob, err := other.BackupSecret(ctx, admin, "vault", other.set(t, "vault", "x", "v").Name)
	if err != nil {
		t.Fatal(err)
	}
	_, err = b.RestoreSecret(ctx, admin, "vault", blob)
	wantKind(t, err, BadParameter)
	_, err = b.RestoreSecret(ctx, admin, "vault", make([]byte, MaxBackup+1))
	wantKind(t, err, BadParameter)
}

// TestSameNameAtOnce sets, deletes, recovers, purges and restores one name from many goroutines.
func TestSameNameAtOnce(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.set(t, "vault", "s", "v")
	blob, err := b.BackupSecret(ctx, admin, "vault", "s")
	if err != nil {
		t.Fatal(err)
	}
	acts := []func() error{
		func() error { _, err := b.DeleteSecret(ctx, admin, "vault", "s"); return err },
		func() error { _, err := b.RecoverSecret(ctx, admin, "vault", "s"); return err },
		func() error { return b.PurgeSecret(ctx, admin, "vault", "s") },
		func() error { _, err := b.RestoreSecret(ctx, admin, "vault", blob); return err },
		func() error {
			_, err := b.SetSecret(ctx, admin, "vault", "s", SetSecretParams{Value: NewSecretValue("w")})
			return err
		},
		func() error { return b.CollectGarbage(ctx) },
	}
	var wg sync.WaitGroup
	for _, act := range acts {
		wg.Go(func() {
			for range 40 {
				var refused *Error
				if err := act(); err != nil && !errors.As(err, &refused) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	live, deleted := b.records(t, "object/"), b.records(t, "deleted/")
	if live+deleted > 1 || deleted != b.records(t, "due/") {
		t.Errorf("%d live, %d deleted, %d due", live, deleted, b.records(t, "due/"))
	}
	err = b.db.Walk(ctx, func(key string, value []byte, err error) error {
		if err == nil {
			err = CheckRecord(key, value)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}

// TestIntentBeforeEffect makes the audit log fail: nothing may change.
func TestIntentBeforeEffect(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.set(t, "vault", "s", "v")
	if err := b.audit.Close(); err != nil {
		t.Fatal(err)
	}
	_, err := b.SetSecret(ctx, admin, "vault", "s", SetSecretParams{Value: NewSecretValue("w")})
	if !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("set: %v", err)
	}
	_, err = b.DeleteSecret(ctx, admin, "vault", "s")
	if !errors.Is(err, audit.ErrUnavailable) {
		t.Errorf("delete: %v", err)
	}
	if s, err := b.GetSecret(ctx, admin, "vault", "s", ""); err != nil || s.Value.Reveal() != "v" {
		t.Errorf("the secret has changed: %v, %v", s.Value.Reveal(), err)
	}
}

func TestStrangerIsRefused(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.set(t, "vault", "s", "v")
	foreign := &identity.Caller{TenantID: "other", ObjectID: adminID}
	for _, caller := range []*identity.Caller{stranger, foreign, {TenantID: "t"}, {TenantID: "t", Groups: []string{""}}, {TenantID: "t", ObjectID: "x", Groups: []string{adminID}}} {
		_, err := b.GetSecret(ctx, caller, "vault", "s", "")
		wantKind(t, err, AccessDenied)
		_, err = b.SetSecret(ctx, caller, "vault", "s", SetSecretParams{})
		wantKind(t, err, AccessDenied)
	}
	member := &identity.Caller{TenantID: "T", ObjectID: "x", Groups: []string{"other", crewID}}
	if _, err := b.GetSecret(ctx, member, "vault", "s", ""); err != nil {
		t.Errorf("a member of the administrators' group: %v", err)
	}
}

func TestSecretValueIsRedacted(t *testing.T) {
	t.Parallel()
	v := NewSecretValue("hunter2")
	raw, err := json.Marshal(map[string]any{"v": v, "s": Secret{Value: v}})
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "hunter2") {
		t.Errorf("encoded as %s", raw)
	}
	secrets := []secret{newSecret("value", []byte("hunter2 hunter2 hunter2"))}
	v = NewSecretValue("hunter2 hunter2 hunter2")
	s, p := Secret{Value: v}, SetSecretParams{Value: v}
	for _, x := range []any{v, &v, s, &s, p, &p, DeletedSecret{Secret: s}, &DeletedSecret{Secret: s}} {
		for _, x := range []any{x, []any{x}, map[string]any{"x": x}} {
			wantNone(t, fmt.Sprintf("%T", x), printed(t, x), secrets)
		}
	}
}

// hooked returns another service on the same store that calls before ahead of every Update.
func (b *bench) hooked(t testing.TB, before func()) *Service {
	t.Helper()
	ready := false
	db, err := seal.Open(t.Context(), hookedStore{DB: b.faulty, before: func() {
		if ready {
			before()
		}
	}}, b.root)
	if err != nil {
		t.Fatal(err)
	}
	s := b.serve(t, db, b.audit, b.hsm)
	ready = true
	return s
}

// hookedStore calls before ahead of every Update.
type hookedStore struct {
	store.DB
	before func()
}

func (h hookedStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	h.before()
	return h.DB.Update(ctx, fn)
}

// everything is every kind of due entry.
func everything(string) bool { return true }

func isKind(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}
