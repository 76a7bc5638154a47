package seal_test

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/strongroom/strongroom/internal/seal"
)

// TestWriteRootKeyFile lets many write the same file: one wins, what it wrote stays, and no draft is left behind.
func TestWriteRootKeyFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "root.key")
	var wins atomic.Int32
	var busy sync.WaitGroup
	for range 8 {
		busy.Go(func() {
			err := seal.WriteRootKeyFile(path)
			if err == nil {
				wins.Add(1)
			} else if !strings.Contains(err.Error(), "exists already and is kept") {
				t.Error(err)
			}
		})
	}
	busy.Wait()
	if n := wins.Load(); n != 1 {
		t.Errorf("%d wrote the file", n)
	}
	if _, err := seal.ReadRootKeyFile(path); err != nil {
		t.Error(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("the folder holds %v", entries)
	}
	// A link that leads nowhere is something, and is not followed.
	link := filepath.Join(dir, "link")
	if err := os.Symlink(filepath.Join(dir, "elsewhere"), link); err != nil {
		t.Fatal(err)
	}
	if err := seal.WriteRootKeyFile(link); err == nil {
		t.Error("a link was followed")
	}
	if err := seal.WriteRootKeyFile(filepath.Join(dir, "missing", "root.key")); err == nil {
		t.Error("a key in a folder that does not exist")
	}
}
