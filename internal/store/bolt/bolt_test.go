package bolt

import (
	"path/filepath"
	"testing"

	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

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
