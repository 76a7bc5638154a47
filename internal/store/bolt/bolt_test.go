package bolt

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

var writeGolden = flag.Bool("golden", false, "write testdata/format-N.db for the current format")

func TestContract(t *testing.T) {
	t.Parallel()
	storetest.Test(t, func(t *testing.T, dir string) store.DB { return mustOpen(t, filepath.Join(dir, "db")) })
}

func mustOpen(t testing.TB, path string) *DB {
	t.Helper()
	db, err := Open(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func mustClose(t testing.TB, db *DB) {
	t.Helper()
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

func mustPut(t testing.TB, db *DB, key, value string) {
	t.Helper()
	if err := put1(t.Context(), db, key, value); err != nil {
		t.Fatalf("writing %s: %v", key, err)
	}
}

func put1(ctx context.Context, db *DB, key, value string) error {
	return db.Update(ctx, func(tx store.Tx) error { return tx.Put(key, []byte(value)) })
}

// wantValue checks what key holds; "" means that it is absent.
func wantValue(t testing.TB, db *DB, key, want string) {
	t.Helper()
	err := db.View(context.Background(), func(r store.Reader) error {
		v, err := r.Get(key)
		if errors.Is(err, store.ErrNotFound) {
			err = nil
		}
		if string(v) != want {
			t.Errorf("%s holds %.40q, want %.40q", key, v, want)
		}
		return err
	})
	if err != nil {
		t.Errorf("reading %s: %v", key, err)
	}
}

// wantSound lets bbolt check every page of the file.
func wantSound(t testing.TB, db *DB) {
	t.Helper()
	if err := sound(db); err != nil {
		t.Error(err)
	}
}

func sound(db *DB) error {
	return db.bolt.View(func(tx *bbolt.Tx) error {
		var all []error
		for err := range tx.Check() {
			all = append(all, err)
		}
		return errors.Join(all...)
	})
}

func TestOpenCreates(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	mustClose(t, mustOpen(t, path))
	info, err := os.Stat(path)
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	mustClose(t, mustOpen(t, path))
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("after opening a file that all may read: mode %v, %v", info.Mode(), err)
	}
	if _, err := Open(filepath.Join(path+"-absent", "db"), nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a folder that does not exist: %v", err)
	}
	if _, err := Open(t.TempDir(), nil); err == nil {
		t.Error("a folder can be opened")
	}
}

func TestOpenLocked(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	db := mustOpen(t, path)
	_, err := Open(path, nil)
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), "in use by another process") {
		t.Errorf("opened twice: %v", err)
	}
	mustPut(t, db, "k", "v")
	mustClose(t, db)
	mustClose(t, mustOpen(t, path))
}

func TestOpenRefuses(t *testing.T) {
	t.Parallel()
	raw := func(fn func(*bbolt.Tx) error) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			db, err := bbolt.Open(path, 0o600, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.Update(fn), db.Close()); err != nil {
				t.Fatal(err)
			}
		}
	}
	format := func(value string) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			mustClose(t, mustOpen(t, path))
			raw(func(tx *bbolt.Tx) error { return tx.Bucket(metaBucket).Put(formatKey, []byte(value)) })(t, path)
		}
	}
	overwrite := func(page int64, with byte) func(*testing.T, string) {
		return func(t *testing.T, path string) {
			fillStore(t, path)
			pages := int64(len(readFile(t, path))) / pageSize
			f, err := os.OpenFile(path, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			for p := page; p < pages; p++ {
				if _, err := f.WriteAt(bytes.Repeat([]byte{with}, pageSize), p*pageSize); err != nil {
					t.Fatal(err)
				}
			}
			if err := f.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
	tests := []struct {
		name string
		make func(*testing.T, string)
		want error
	}{
		{"newer format", format("2"), ErrFormat},
		{"much newer format", format("4294967295"), ErrFormat},
		{"format zero", format("0"), ErrFormat},
		{"format of another program", format("x"), ErrFormat},
		{"another program's", raw(func(tx *bbolt.Tx) error { _, err := tx.CreateBucket([]byte("jobs")); return err }), ErrFormat},
		{"text", func(t *testing.T, path string) {
			if err := os.WriteFile(path, bytes.Repeat([]byte("text "), 9000), 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrDamaged},
		{"short", func(t *testing.T, path string) {
			if err := os.WriteFile(path, make([]byte, 100), 0o600); err != nil {
				t.Fatal(err)
			}
		}, ErrDamaged},
		{"cut off", func(t *testing.T, path string) {
			fillStore(t, path)
			if err := os.Truncate(path, 20*pageSize); err != nil {
				t.Fatal(err)
			}
		}, ErrDamaged},
		{"zeros", overwrite(0, 0), ErrDamaged},
		{"zeros behind the root", overwrite(2, 0), ErrDamaged},
		{"ones behind the root", overwrite(2, 0xff), ErrDamaged},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "db")
			tc.make(t, path)
			before := readFile(t, path)
			for range 2 { // the second shows that the first has unlocked the file
				if _, err := Open(path, nil); !errors.Is(err, tc.want) {
					t.Errorf("Open: %v, want %v", err, tc.want)
				}
			}
			if !bytes.Equal(before, readFile(t, path)) {
				t.Error("what was refused has been changed")
			}
		})
	}
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fillStore makes a store of some hundred pages.
func fillStore(t *testing.T, path string) {
	t.Helper()
	db := mustOpen(t, path)
	for i := range 10 {
		err := db.Update(t.Context(), func(tx store.Tx) error {
			for j := range 100 {
				if err := tx.Put(fmt.Sprintf("fill/%d/%d", i, j), make([]byte, 1000)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, db)
}

// TestGolden opens the files that earlier versions have written.
func TestGolden(t *testing.T) {
	t.Parallel()
	if *writeGolden {
		goldenFile(t)
	}
	paths, err := filepath.Glob("testdata/format-*.db")
	if err != nil || len(paths) != Format {
		t.Fatalf("%d golden files, %v; want one for each format up to %d", len(paths), err, Format)
	}
	for _, golden := range paths {
		path := filepath.Join(t.TempDir(), "db")
		if err := os.WriteFile(path, readFile(t, golden), 0o600); err != nil {
			t.Fatal(err)
		}
		db := mustOpen(t, path)
		wantValue(t, db, "vault/demo/secret/a", "alpha")
		wantValue(t, db, "vault/demo/secret/b", strings.Repeat("beta", 2000))
		mustPut(t, db, "new", "value")
		wantSound(t, db)
		mustClose(t, db)
	}
}

func goldenFile(t *testing.T) {
	db := mustOpen(t, filepath.Join(t.TempDir(), "db"))
	mustPut(t, db, "vault/demo/secret/a", "alpha")
	mustPut(t, db, "vault/demo/secret/b", strings.Repeat("beta", 2000))
	var b bytes.Buffer
	_, err := db.Snapshot(t.Context(), &b)
	if err = errors.Join(err, db.Close(), os.WriteFile(fmt.Sprintf("testdata/format-%d.db", Format), b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// TestSnapshot copies a store in which two keys are always written together.
func TestSnapshot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	db := mustOpen(t, filepath.Join(dir, "db"))
	defer mustClose(t, db)
	mustPut(t, db, "big", strings.Repeat("x", 1_000_000))
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			err := db.Update(ctx, func(tx store.Tx) error {
				v := fmt.Append(nil, i)
				return errors.Join(tx.Put("left", v), tx.Put("right", v), tx.Put(fmt.Sprint("k", i%50), make([]byte, 3000)))
			})
			if err != nil && ctx.Err() == nil {
				t.Errorf("Update: %v", err)
			}
		}
	})
	for i := range 5 {
		path := filepath.Join(dir, fmt.Sprint("copy", i))
		f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		n, err := db.Snapshot(t.Context(), f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(path); err != nil || info.Size() != n {
			t.Errorf("Snapshot says %d bytes, the file has %d, %v", n, info.Size(), err)
		}
		wantCopy(t, path)
	}
	stop()
	wg.Wait()
}

func wantCopy(t *testing.T, path string) {
	t.Helper()
	db := mustOpen(t, path)
	defer mustClose(t, db)
	wantSound(t, db)
	err := db.View(t.Context(), func(r store.Reader) error {
		left, errL := r.Get("left")
		right, errR := r.Get("right")
		if !bytes.Equal(left, right) || !errors.Is(errL, errR) {
			t.Errorf("the copy holds half a transaction: %q, %q", left, right)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	wantValue(t, db, "big", strings.Repeat("x", 1_000_000))
	mustPut(t, db, "k", "written to the copy")
}

func TestSnapshotEndsEarly(t *testing.T) {
	t.Parallel()
	db := mustOpen(t, filepath.Join(t.TempDir(), "db"))
	mustPut(t, db, "big", strings.Repeat("x", 1_000_000))
	ctx, cancel := context.WithCancel(t.Context())
	n, err := db.Snapshot(ctx, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }))
	if !errors.Is(err, context.Canceled) || n > 1_000_000 {
		t.Errorf("a canceled Snapshot: %d bytes, %v", n, err)
	}
	mine := errors.New("mine")
	if _, err := db.Snapshot(t.Context(), writerFunc(func([]byte) (int, error) { return 0, mine })); err == nil {
		t.Error("Snapshot ignores its writer's error")
	}
	mustPut(t, db, "k", "v")
	mustClose(t, db)
	if _, err := db.Snapshot(t.Context(), new(bytes.Buffer)); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Snapshot of a closed store: %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// TestMaxSize fills a store to its limit, again with concurrent writers, and checks that it goes on within it.
func TestMaxSize(t *testing.T) {
	t.Parallel()
	const limit = 2 << 20
	path := filepath.Join(t.TempDir(), "db")
	db, err := Open(path, &Options{MaxSize: limit})
	if err != nil {
		t.Fatal(err)
	}
	acked := fillUp(t, db, 4)
	if size := db.Stats().FileBytes; size > limit || size < limit-pageSize {
		t.Errorf("the file has %d bytes, limit %d", size, limit)
	}
	for _, key := range acked {
		wantValue(t, db, key, strings.Repeat(key, 1000))
	}
	for i := 0; ; i++ { // small ones must not eat up what is kept for deletions
		if err := put1(t.Context(), db, fmt.Sprint("small", i), "x"); errors.Is(err, store.ErrFull) {
			break
		} else if err != nil || i > 10_000 {
			t.Fatalf("small write %d: %v", i, err)
		}
	}
	if used := usedBytes(t, db); used > limit-spare {
		t.Errorf("%d bytes are in use, want the last %d of %d kept", used, spare, limit)
	}
	// What has been freed can be used again, without the file growing.
	for _, key := range acked[:len(acked)/2] {
		if err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Delete(key) }); err != nil {
			t.Fatalf("deleting: %v", err)
		}
	}
	for i := range 10 {
		mustPut(t, db, fmt.Sprint("again", i), strings.Repeat("x", 3000))
	}
	wantSound(t, db)
	mustClose(t, db)

	db = mustOpen(t, path) // without the limit
	defer mustClose(t, db)
	mustPut(t, db, "big", strings.Repeat("x", 1_000_000))
	mustPut(t, db, "bigger", strings.Repeat("x", 1_000_000))
	if size := db.Stats().FileBytes; size <= limit {
		t.Errorf("the file has %d bytes, want more than %d", size, limit)
	}
}

// usedBytes returns where the pages that were ever used end.
func usedBytes(t *testing.T, db *DB) (n int64) {
	t.Helper()
	if err := db.bolt.View(func(tx *bbolt.Tx) error { n = tx.Size(); return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// fillUp writes from several goroutines until each has met store.ErrFull, and returns the keys that were acknowledged.
func fillUp(t testing.TB, db *DB, writers int) []string {
	t.Helper()
	var mu sync.Mutex
	var acked []string
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := 0; ; i++ {
				key := fmt.Sprintf("%d-%d", w, i)
				err := put1(context.Background(), db, key, strings.Repeat(key, 1000))
				if errors.Is(err, store.ErrFull) && !errors.Is(err, store.ErrUnknown) {
					return
				}
				if err != nil {
					t.Errorf("Update: %v", err)
					return
				}
				mu.Lock()
				acked = append(acked, key)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return acked
}

// A byteSource draws numbers from data, then from a generator.
type byteSource struct {
	data []byte
	then rand.Source
}

func (s *byteSource) Uint64() uint64 {
	if len(s.data) == 0 {
		return s.then.Uint64()
	}
	b := uint64(s.data[0])
	s.data = s.data[1:]
	return b * 0x0101010101010101 // whichever bits are looked at
}

func FuzzHistory(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 256 {
			return
		}
		path := filepath.Join(t.TempDir(), "db")
		src := &byteSource{data, rand.NewPCG(uint64(len(data)), 0)}
		storetest.RandomHistory(t, func() store.DB { return mustOpen(t, path) }, src, 10)
	})
}

// FuzzMerge lays an overlay over a store, both drawn from data, and compares a Scan with a map. Each byte is an entry: a
// bit for where it goes, a bit for a deletion, the rest is the key.
func FuzzMerge(f *testing.F) {
	f.Fuzz(func(t *testing.T, data []byte, start, end string) {
		if len(data) > 200 {
			return
		}
		want, base, own := map[string]string{}, map[string]string{}, map[string][]byte{}
		for _, b := range data {
			key := string([]byte{b >> 2})
			switch {
			case b&1 == 0:
				base[key] = "base"
			case b&2 == 0:
				own[key] = []byte("own")
			default:
				own[key] = nil
			}
		}
		inRange := func(key string) bool { return key >= start && (end == "" || key < end) }
		var under []store.Entry
		for key := range 64 {
			k := string([]byte{byte(key)})
			v, inBase := base[k]
			if inBase && inRange(k) {
				under = append(under, store.Entry{Key: k, Value: []byte(v)})
				want[k] = v
			}
			if o, ok := own[k]; ok && inRange(k) {
				delete(want, k)
				if o != nil {
					want[k] = string(o)
				}
			}
		}
		tx := &tx{writes: own}
		last := ""
		for e, err := range tx.merge(func(yield func(store.Entry, error) bool) {
			for _, e := range under {
				if !yield(e, nil) {
					return
				}
			}
		}, tx.written(start, end)) {
			if err != nil || e.Key <= last && last != "" || want[e.Key] != string(e.Value) {
				t.Fatalf("%q = %q, %v after %q, want %q", e.Key, e.Value, err, last, want[e.Key])
			}
			last = e.Key
			delete(want, e.Key)
		}
		if len(want) > 0 {
			t.Fatalf("missing: %q", want)
		}
	})
}

// TestPeekInUpdate: what a transaction peeks at is what it gets, also after it has written.
func TestPeekInUpdate(t *testing.T) {
	t.Parallel()
	db := mustOpen(t, filepath.Join(t.TempDir(), "db"))
	t.Cleanup(func() { _ = db.Close() })
	peek := func(tx store.Tx, want string) {
		t.Helper()
		v, err := tx.(store.Peeker).Peek("key")
		if want == "" && !errors.Is(err, store.ErrNotFound) || want != "" && (err != nil || string(v) != want) {
			t.Errorf("peeked %q, %v, want %q", v, err, want)
		}
	}
	for _, before := range []string{"", "one"} {
		err := db.Update(t.Context(), func(tx store.Tx) error {
			peek(tx, before)
			if err := tx.Put("key", []byte("two")); err != nil {
				return err
			}
			peek(tx, "two")
			if err := tx.Delete("key"); err != nil {
				return err
			}
			peek(tx, "")
			return tx.Put("key", []byte("one"))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
