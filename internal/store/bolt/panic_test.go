package bolt

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"

	"github.com/strongroom/strongroom/internal/store"
)

// TestCommitPanics spoils the order of keys in the file, below bbolt, and lets bbolt check all of it in each commit, where it
// panics. Whoever happens to commit gets the panic, and nobody waits for ever.
func TestCommitPanics(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "db")
	fillStore(t, path)
	synctest.Test(t, func(t *testing.T) {
		db := mustOpen(t, path)
		db.bolt.StrictMode = true
		spoil(t, path, "fill/3/50", "zill/3/50")

		c := &crowd{db: db, goOn: make(chan struct{})}
		c.wg.Go(func() {
			err := db.Update(t.Context(), func(tx store.Tx) error { <-c.goOn; return tx.Put("first", nil) })
			wantErr(t, store.ErrUnknown)(err)
		})
		synctest.Wait()
		c.add(t, putFn("second", ""), wantErr(t, store.ErrUnknown))
		var panicked any
		c.wg.Go(func() {
			defer func() { panicked = recover() }()
			_ = put1(t.Context(), db, "last", "")
		})
		synctest.Wait()
		c.run()
		if panicked == nil {
			t.Error("the panic was swallowed")
		}
		if err := put1(t.Context(), db, "k", "v"); !errors.Is(err, ErrBroken) {
			t.Errorf("afterwards: %v", err)
		}
		mustClose(t, db)
	})
}

// spoil replaces a text wherever it occurs in the file.
func spoil(t *testing.T, path, from, to string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	content, n := readFile(t, path), 0
	for at := 0; ; n++ {
		i := bytes.Index(content[at:], []byte(from))
		if i < 0 {
			break
		}
		at += i
		if _, err := f.WriteAt([]byte(to), int64(at)); err != nil {
			t.Fatal(err)
		}
		at += len(from)
	}
	if n == 0 {
		t.Fatalf("%q is not in the file", from)
	}
}
