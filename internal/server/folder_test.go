package server_test

import (
	"bytes"
	"crypto/sha256"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/server"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/bolt"
	"github.com/strongroom/strongroom/strongroomtest"
)

// TestFolderIsPrivate checks the modes of what lies in the data folder, and that an open folder is not served.
func TestFolderIsPrivate(t *testing.T) { // not parallel: see reopens
	s := strongroomtest.Start(t, nil)
	public := map[string]bool{"ca.pem": true} // within a folder that only its owner can enter
	sockets := 0
	err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSocket != 0 {
			sockets++
		}
		if info.Mode().Perm()&0o077 != 0 && !public[filepath.Base(path)] {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if sockets != 1 {
		t.Errorf("%d sockets", sockets)
	}
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	cfg, err := server.DevConfig(s.Dir, []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Operations.Listen, cfg.ManagedIdentity.Listen = "-", ""
	for _, mode := range []os.FileMode{0o755, 0o710, 0o701} {
		if err := os.Chmod(s.Dir, mode); err != nil {
			t.Fatal(err)
		}
		if _, err := server.Open(t.Context(), cfg, server.Options{}); err == nil || !strings.Contains(err.Error(), "chmod 700") {
			t.Errorf("opening a folder of mode %o: %v", mode, err)
		}
		if _, err := server.Verify(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "chmod 700") {
			t.Errorf("verifying a folder of mode %o: %v", mode, err)
		}
	}
	if err := os.Chmod(s.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	srv, err := server.Open(t.Context(), cfg, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := srv.Close(); err != nil {
		t.Error(err)
	}
}

// TestAliases changes the aliases of an installation: clients that trust ca.pem are not locked out without need.
func TestAliases(t *testing.T) { // not parallel: see reopens
	dir := filepath.Join(t.TempDir(), "data")
	start := func(config string) (ca []byte) {
		t.Helper()
		s := strongroomtest.Start(t, &strongroomtest.Options{Dir: dir, Config: config})
		call(t, s, adminToken(t, s), "GET", "/secrets", "")
		ca, err := os.ReadFile(s.CAFile())
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		return ca
	}
	first := start("aliases: [vault.a.test, vault.b.test]")
	for _, config := range []string{"aliases: [vault.b.test, vault.a.test]", "aliases: [vault.b.test]", ""} {
		if !bytes.Equal(start(config), first) {
			t.Errorf("%q: another authority", config)
		}
	}
	second := start("aliases: [vault.c.test]")
	if bytes.HasPrefix(second, first) || !bytes.HasSuffix(second, first) {
		t.Error("a new domain: the file does not hold the new authority and then the old one")
	}
	back := start("aliases: [vault.a.test]")
	if !bytes.HasPrefix(back, first) || len(back) != len(second) {
		t.Error("going back does not bring the authority back")
	}

	// A check of the store with a configuration that would need another authority changes nothing.
	cfg, err := server.DevConfig(dir, []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Aliases = []string{"vault.d.test"}
	before := sums(t, dir)
	if found, err := server.Verify(t.Context(), cfg); err != nil || found.Bad != 0 || found.Records == 0 {
		t.Errorf("verify: %+v, %v", found, err)
	}
	if diff := cmp.Diff(before, sums(t, dir)); diff != "" {
		t.Errorf("verifying changed (-before +after):\n%s", diff)
	}
}

// sums are the hashes of all files in a data folder, and of the sealed records in its database.
func sums(t *testing.T, dir string) map[string][sha256.Size]byte {
	t.Helper()
	out := make(map[string][sha256.Size]byte)
	database := filepath.Join(dir, "strongroom.db")
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() || path == database { // opening it marks its first page
			return err
		}
		raw, err := os.ReadFile(path)
		out[path] = sha256.Sum256(raw)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(database, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	err = db.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			out["record "+e.Key] = sha256.Sum256(e.Value)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}
