package seal_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/bolt"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

func newRoot(t testing.TB) seal.RootKey {
	t.Helper()
	root, err := seal.ParseRootKey(seal.GenerateRootKey())
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func openBolt(t testing.TB, dir string) *bolt.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(dir, "store.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

// open returns a sealed store, the store below it, and its root key.
func open(t testing.TB) (*seal.DB, store.DB, seal.RootKey) {
	t.Helper()
	root := newRoot(t)
	below := openBolt(t, t.TempDir())
	t.Cleanup(func() { below.Close() })
	if err := seal.Init(t.Context(), below, root); err != nil {
		t.Fatal(err)
	}
	db, err := seal.Open(t.Context(), below, root)
	if err != nil {
		t.Fatal(err)
	}
	return db, below, root
}

func put(t testing.TB, db store.DB, key, value string) {
	t.Helper()
	err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Put(key, []byte(value)) })
	if err != nil {
		t.Fatal(err)
	}
}

func get(t testing.TB, db store.DB, key string) (string, error) {
	t.Helper()
	var out []byte
	err := db.View(t.Context(), func(r store.Reader) (err error) {
		out, err = r.Get(key)
		return err
	})
	return string(out), err
}

func mustGet(t testing.TB, db store.DB, key string) string {
	t.Helper()
	v, err := get(t, db, key)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestContents(t *testing.T) {
	t.Parallel()
	db, below, _ := open(t)
	put(t, db, "a/1", "one")
	put(t, db, "a/2", "")
	put(t, db, "z/1", "last")
	if got := mustGet(t, db, "a/1"); got != "one" {
		t.Errorf("got %q", got)
	}
	if _, err := get(t, db, "a/3"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a missing key: %v", err)
	}
	var seen []string
	err := db.View(t.Context(), func(r store.Reader) error {
		seen = nil
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			seen = append(seen, e.Key+"="+string(e.Value))
		}
		return nil
	})
	if err != nil || strings.Join(seen, " ") != "a/1=one a/2= z/1=last" {
		t.Errorf("scan: %v %v", seen, err)
	}
	if raw := mustGet(t, below, "a/1"); strings.Contains(raw, "one") || len(raw) != 3+seal.Overhead {
		t.Errorf("stored as %q", raw)
	}
	for _, key := range []string{"seal/keyring", "seal/x"} {
		if _, err := get(t, db, key); !errors.Is(err, store.ErrKey) {
			t.Errorf("Get(%q): %v", key, err)
		}
		err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Put(key, nil) })
		if !errors.Is(err, store.ErrKey) {
			t.Errorf("Put(%q): %v", key, err)
		}
		err = db.Update(t.Context(), func(tx store.Tx) error { return tx.Delete(key) })
		if !errors.Is(err, store.ErrKey) {
			t.Errorf("Delete(%q): %v", key, err)
		}
	}
}

// TestTampering flips every bit of a sealed value, cuts it, and moves it.
func TestTampering(t *testing.T) {
	t.Parallel()
	db, below, _ := open(t)
	put(t, db, "vault/a", "the value")
	put(t, db, "vault/b", "another")
	original := mustGet(t, below, "vault/a")

	refused := func(what, stored string) {
		t.Helper()
		put(t, below, "vault/a", stored)
		got, err := get(t, db, "vault/a")
		var record *seal.RecordError
		if !errors.As(err, &record) || record.Key != "vault/a" {
			t.Fatalf("%s: got %q, %v; want a RecordError for vault/a", what, got, err)
		}
	}
	for i := range len(original) * 8 {
		b := []byte(original)
		b[i/8] ^= 1 << (i % 8)
		refused(fmt.Sprintf("bit %d flipped", i), string(b))
	}
	for i := range len(original) {
		refused(fmt.Sprintf("cut to %d", i), original[:i])
	}
	refused("extended", original+"x")
	refused("another record's value", mustGet(t, below, "vault/b"))

	other, otherBelow, _ := open(t)
	put(t, other, "vault/a", "the value")
	refused("another installation's value", mustGet(t, otherBelow, "vault/a"))

	put(t, below, "vault/a", original)
	if got := mustGet(t, db, "vault/a"); got != "the value" {
		t.Errorf("the original gives %q", got)
	}
}

func TestSealIsRandomized(t *testing.T) {
	t.Parallel()
	db, below, _ := open(t)
	seen := make(map[string]bool)
	for range 20 {
		put(t, db, "k", "same")
		raw := mustGet(t, below, "k")
		if seen[raw] {
			t.Fatal("the same value was sealed to the same bytes twice")
		}
		seen[raw] = true
	}
}

func TestOpenRefusals(t *testing.T) {
	t.Parallel()
	_, below, root := open(t)
	if _, err := seal.Open(t.Context(), below, newRoot(t)); !errors.Is(err, seal.ErrRootKey) {
		t.Errorf("another root key: %v", err)
	}
	passphrase, err := seal.NewPassphraseRootKey("correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Open(t.Context(), below, passphrase); !errors.Is(err, seal.ErrRootKey) {
		t.Errorf("a passphrase instead of a key: %v", err)
	}
	if err := seal.Init(t.Context(), below, root); err == nil {
		t.Error("Init of a store in use succeeded")
	}
	empty := openBolt(t, t.TempDir())
	defer empty.Close()
	if _, err := seal.Open(t.Context(), empty, root); !errors.Is(err, seal.ErrNotInitialized) {
		t.Errorf("an empty store: %v", err)
	}
	put(t, empty, "something", "x")
	if err := seal.Init(t.Context(), empty, root); err == nil {
		t.Error("Init over something succeeded")
	}
}

func TestPassphrase(t *testing.T) {
	t.Parallel()
	if _, err := seal.NewPassphraseRootKey("short"); err == nil {
		t.Error("a short passphrase was accepted")
	}
	below := openBolt(t, t.TempDir())
	defer below.Close()
	right, err := seal.NewPassphraseRootKey("correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	if err := seal.Init(t.Context(), below, right); err != nil {
		t.Fatal(err)
	}
	again, err := seal.NewPassphraseRootKey("correct horse battery")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Open(t.Context(), below, again); err != nil {
		t.Errorf("the same passphrase: %v", err)
	}
	wrong, err := seal.NewPassphraseRootKey("correct horse batterx")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := seal.Open(t.Context(), below, wrong); !errors.Is(err, seal.ErrRootKey) {
		t.Errorf("another passphrase: %v", err)
	}
	// Whoever can write the store cannot make the server derive for ever.
	for _, wrapped := range [][]byte{
		nil, {2}, bytes.Repeat([]byte{0xff}, 100), append([]byte{2}, bytes.Repeat([]byte{0xff}, 100)...),
		append([]byte{2}, make([]byte, 100)...),
	} {
		if _, err := right.Unwrap(wrapped, nil); err == nil {
			t.Errorf("%x was unwrapped", wrapped)
		}
	}
}

func TestRootKeyText(t *testing.T) {
	t.Parallel()
	text := seal.GenerateRootKey()
	a, err := seal.ParseRootKey("\n " + text + " \n")
	if err != nil {
		t.Fatal(err)
	}
	b, err := seal.ParseRootKey(text)
	if err != nil || a.ID() != b.ID() {
		t.Errorf("ids %s and %s, %v", a.ID(), b.ID(), err)
	}
	for _, bad := range []string{"", "x", text[:len(text)-1], text + "A", "strongroom-root-key-v1:", strings.ToUpper(text)} {
		_, err := seal.ParseRootKey(bad)
		if err == nil {
			t.Errorf("%q was accepted", bad)
		} else if len(bad) > 30 && strings.Contains(err.Error(), bad[25:]) {
			t.Errorf("the error shows the key: %v", err)
		}
	}
}

func TestRootKeyFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "root.key")
	if err := seal.WriteRootKeyFile(path); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.ReadRootKeyFile(path); err != nil {
		t.Error(err)
	}
	if err := seal.WriteRootKeyFile(path); err == nil {
		t.Error("an existing key was overwritten")
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := seal.ReadRootKeyFile(path); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that the group can read: %v", err)
	}
	if _, err := seal.ReadRootKeyFile(t.TempDir()); err == nil {
		t.Error("a folder was read as a key")
	}
}

// TestRotation rotates data keys and the root key while readers and writers are busy, and reopens with the new key.
func TestRotation(t *testing.T) {
	t.Parallel()
	db, below, old := open(t)
	for i := range 300 {
		put(t, db, fmt.Sprintf("k/%03d", i), fmt.Sprint("v", i))
	}
	ctx, stop := context.WithCancel(t.Context())
	var busy sync.WaitGroup
	for w := range 4 {
		busy.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				key := fmt.Sprintf("k/%03d", (n*7+w)%300)
				if v, err := get(t, db, key); err != nil || v == "" {
					t.Errorf("reading %s: %q, %v", key, v, err)
					return
				}
				if err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Put(key, []byte("w")) }); err != nil {
					t.Errorf("writing: %v", err)
					return
				}
			}
		})
	}
	root := old
	for range 5 {
		if _, err := db.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
		root = newRoot(t)
		if err := db.ChangeRoot(t.Context(), root); err != nil {
			t.Fatal(err)
		}
		if err := db.Reseal(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	busy.Wait()
	st, err := db.Status(t.Context())
	if err != nil || len(st.Keys) != 1 || st.Keys[0].ID != st.Primary || st.Root != root.ID() {
		t.Errorf("after re-sealing: %+v, %v", st, err)
	}
	if _, err := seal.Open(t.Context(), below, old); !errors.Is(err, seal.ErrRootKey) {
		t.Errorf("the first root key: %v", err)
	}
	again, err := seal.Open(t.Context(), below, root)
	if err != nil {
		t.Fatal(err)
	}
	records := 0
	err = again.Walk(t.Context(), func(key string, value []byte, err error) error {
		records++
		return err
	})
	if err != nil || records != 300 {
		t.Errorf("walked %d records, %v", records, err)
	}
}

// TestTwoServers rotates on one of two servers on a store; the other one reads and writes on.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	one, below, root := open(t)
	two, err := seal.Open(t.Context(), below, root)
	if err != nil {
		t.Fatal(err)
	}
	put(t, one, "a", "1")
	if _, err := one.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, one, "b", "2")
	if got := mustGet(t, two, "b"); got != "2" {
		t.Errorf("the other server reads %q", got)
	}
	put(t, two, "c", "3")
	if err := one.Reseal(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{"a": "1", "b": "2", "c": "3"} {
		if got := mustGet(t, two, key); got != want {
			t.Errorf("%s: %q", key, got)
		}
	}
}

// TestFaults rotates, re-seals and changes the root key on a store whose transactions fail, with and without effect. At
// every moment one of the two root keys must open everything.
func TestFaults(t *testing.T) {
	t.Parallel()
	below := openBolt(t, t.TempDir())
	defer below.Close()
	faulty := storetest.NewFaulty(below, 1)
	root := newRoot(t)
	if err := seal.Init(t.Context(), below, root); err != nil {
		t.Fatal(err)
	}
	db, err := seal.Open(t.Context(), faulty, root)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 100 {
		put(t, db, fmt.Sprintf("k/%03d", i), "v")
	}
	faulty.SetPlan(storetest.Plan{Fail: 0.2, Unknown: 0.2, Lost: 0.2, Twice: 0.2})
	for range 40 {
		next := newRoot(t)
		_, _ = db.Rotate(t.Context())
		_ = db.Reseal(t.Context(), nil)
		err := db.ChangeRoot(t.Context(), next)
		if _, openErr := seal.Open(t.Context(), below, next); openErr == nil {
			root = next
		} else if err == nil {
			t.Fatalf("ChangeRoot succeeded and the new key does not open: %v", openErr)
		}
		check, err := seal.Open(t.Context(), below, root)
		if err != nil {
			t.Fatalf("neither root key opens the store: %v", err)
		}
		err = check.Walk(t.Context(), func(_ string, _ []byte, err error) error { return err })
		if err != nil {
			t.Fatal(err)
		}
		if got := mustGet(t, db, "k/050"); got != "v" {
			t.Fatalf("got %q", got)
		}
	}
}

// TestRotateAfterChange lets another server change the root key, to another passphrase, and rotates on the first one. The key
// ring must stay one that a single root key opens.
func TestRotateAfterChange(t *testing.T) {
	t.Parallel()
	for name, roots := range map[string][2]seal.RootKey{
		"keys":        {newRoot(t), newRoot(t)},
		"passphrases": {newPassphrase(t, "the first passphrase"), newPassphrase(t, "the second passphrase")},
	} {
		below := openBolt(t, t.TempDir())
		defer below.Close()
		if err := seal.Init(t.Context(), below, roots[0]); err != nil {
			t.Fatal(err)
		}
		one, err := seal.Open(t.Context(), below, roots[0])
		if err != nil {
			t.Fatal(err)
		}
		two, err := seal.Open(t.Context(), below, roots[0])
		if err != nil {
			t.Fatal(err)
		}
		put(t, one, "k", "v")
		if err := two.ChangeRoot(t.Context(), roots[1]); err != nil {
			t.Fatal(err)
		}
		if _, err := one.Rotate(t.Context()); !errors.Is(err, seal.ErrRootKey) {
			t.Errorf("%s: rotation under the old root key: %v", name, err)
		}
		if err := one.ChangeRoot(t.Context(), newRoot(t)); !errors.Is(err, seal.ErrRootKey) {
			t.Errorf("%s: change from the old root key: %v", name, err)
		}
		again, err := seal.Open(t.Context(), below, roots[1])
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got := mustGet(t, again, "k"); got != "v" {
			t.Errorf("%s: %q", name, got)
		}
	}
}

func newPassphrase(t testing.TB, text string) seal.RootKey {
	t.Helper()
	root, err := seal.NewPassphraseRootKey(text)
	if err != nil {
		t.Fatal(err)
	}
	return root
}

// TestResealBadRecord re-seals a store in which one record does not open: the others move, its data key is kept, and
// the error names it.
func TestResealBadRecord(t *testing.T) {
	t.Parallel()
	db, below, root := open(t)
	for i := range 100 {
		put(t, db, fmt.Sprintf("k/%03d", i), "v")
	}
	good := mustGet(t, below, "k/050")
	put(t, below, "k/050", good[:len(good)-1]+string(good[len(good)-1]^1))
	put(t, below, "k/060", "short")
	first, err := db.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := db.Rotate(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	err = db.Reseal(t.Context(), nil)
	if err == nil || !strings.Contains(err.Error(), "k/050") || !strings.Contains(err.Error(), "k/060") {
		t.Errorf("the error is %v", err)
	}
	st, err := db.Status(t.Context())
	if err != nil || len(st.Keys) != 2 || st.Keys[0].ID != first.Primary {
		t.Errorf("data keys %+v, %v; want the first and the last", st, err)
	}
	put(t, below, "k/050", good)
	again, err := seal.Open(t.Context(), below, root)
	if err != nil {
		t.Fatal(err)
	}
	if got := mustGet(t, again, "k/050"); got != "v" {
		t.Errorf("the repaired record is %q", got)
	}
}

// TestResealWhileRotating rotates in the middle of a pass: the pass must not forget keys that it has not accounted for.
func TestResealWhileRotating(t *testing.T) {
	t.Parallel()
	db, below, root := open(t)
	for i := range 200 {
		put(t, db, fmt.Sprintf("k/%03d", i), "v")
	}
	if _, err := db.Rotate(t.Context()); err != nil {
		t.Fatal(err)
	}
	rotated := false
	err := db.Reseal(t.Context(), func(int) {
		if !rotated {
			rotated = true
			if _, err := db.Rotate(t.Context()); err != nil {
				t.Error(err)
			}
			put(t, db, "k/000", "w")
		}
	})
	if err != nil || !rotated {
		t.Fatal(err)
	}
	again, err := seal.Open(t.Context(), below, root)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Walk(t.Context(), func(_ string, _ []byte, err error) error { return err }); err != nil {
		t.Error(err)
	}
}

// TestChangeRootUnknown changes the root key in a transaction of which nobody knows whether it was committed.
func TestChangeRootUnknown(t *testing.T) {
	t.Parallel()
	for _, fault := range []storetest.Fault{storetest.Unknown, storetest.Lost} {
		below := openBolt(t, t.TempDir())
		defer below.Close()
		faulty := storetest.NewFaulty(below, 1)
		old, next := newRoot(t), newRoot(t)
		if err := seal.Init(t.Context(), below, old); err != nil {
			t.Fatal(err)
		}
		db, err := seal.Open(t.Context(), faulty, old)
		if err != nil {
			t.Fatal(err)
		}
		faulty.Schedule(fault)
		if err := db.ChangeRoot(t.Context(), next); !errors.Is(err, store.ErrUnknown) {
			t.Fatal(err)
		}
		// Whichever it was, the server goes on with the root key that fits.
		if _, err := db.Rotate(t.Context()); err != nil {
			t.Errorf("fault %v: %v", fault, err)
		}
		put(t, db, "k", "v")
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	db, below, root := open(t)
	other, err := seal.Open(t.Context(), below, root)
	if err != nil {
		t.Fatal(err)
	}
	cache := seal.NewCache[string](1000) // some ten of these records
	decoded := 0
	load := func(key string) (string, error) {
		var out string
		err := db.View(t.Context(), func(r store.Reader) error {
			v, err := cache.Load(r, key, func(b []byte) (*string, error) {
				decoded++
				s := string(b)
				return &s, nil
			})
			if err == nil {
				out = *v
			}
			return err
		})
		return out, err
	}
	put(t, db, "a", "1")
	for range 3 {
		if v, err := load("a"); v != "1" || err != nil {
			t.Fatalf("%q, %v", v, err)
		}
	}
	if decoded != 1 {
		t.Errorf("decoded %d times", decoded)
	}
	put(t, other, "a", "2") // another server's write
	if v, err := load("a"); v != "2" || err != nil {
		t.Errorf("%q, %v", v, err)
	}
	for i := range 100 {
		put(t, db, fmt.Sprint("x", i), "x")
		if _, err := load(fmt.Sprint("x", i)); err != nil {
			t.Fatal(err)
		}
	}
	decoded = 0
	for i := range 100 {
		if _, err := load(fmt.Sprint("x", i)); err != nil {
			t.Fatal(err)
		}
	}
	if decoded < 80 {
		t.Errorf("%d of 100 records were remembered in a cache for ten", 100-decoded)
	}
	put(t, db, "big", strings.Repeat("x", 500))
	decoded = 0
	for range 2 {
		if _, err := load("big"); err != nil || decoded == 0 {
			t.Fatal(err)
		}
	}
	if decoded != 2 {
		t.Error("a record was remembered that takes half of the cache")
	}
	if err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Delete("a") }); err != nil {
		t.Fatal(err)
	}
	if _, err := load("a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a deleted record: %v", err)
	}
	// A cached record that was altered in the store is not served from the cache.
	put(t, db, "b", "good")
	if _, err := load("b"); err != nil {
		t.Fatal(err)
	}
	raw := []byte(mustGet(t, below, "b"))
	raw[len(raw)-1] ^= 1
	put(t, below, "b", string(raw))
	var record *seal.RecordError
	if _, err := load("b"); !errors.As(err, &record) {
		t.Errorf("an altered record: %v", err)
	}
}

func FuzzSealedRecord(f *testing.F) {
	db, below, _ := open(f)
	put(f, db, "k", "value")
	good := mustGet(f, below, "k")
	f.Add([]byte(good))
	f.Add([]byte(good[:len(good)-1]))
	f.Add([]byte{})
	f.Add(append([]byte{2}, good[1:]...))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		put(t, below, "k", string(sealed))
		got, err := get(t, db, "k")
		if err == nil && (string(sealed) != good || got != "value") {
			t.Fatalf("%x opened as %q", sealed, got)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	db, _, _ := open(b)
	put(b, db, "secret/record", strings.Repeat("v", 200))
	b.Run("Get", func(b *testing.B) {
		for b.Loop() {
			if _, err := get(b, db, "secret/record"); err != nil {
				b.Fatal(err)
			}
		}
	})
}
