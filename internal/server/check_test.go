package server

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/strongroom/strongroom/internal/seal"
)

// startable is a configuration with all its files, with which a server could start.
func startable(t *testing.T) *Config {
	t.Helper()
	dir := t.TempDir()
	cfg := &Config{
		Domain:  "example.org",
		Data:    filepath.Join(dir, "data"),
		RootKey: RootKeyConfig{File: filepath.Join(dir, "data-keys")},
		Audit:   AuditConfig{File: filepath.Join(dir, "audit.jsonl")},
		Issuers: []IssuerConfig{{Issuer: "https://issuer.example", Audiences: []string{"a"}}},
	}
	cfg.TLS.Certificate, cfg.TLS.Key = pairFiles(t, "login.example.org")
	cfg.Issuers[0].CA = cfg.TLS.Certificate
	cfg.resolve(dir)
	if err := errors.Join(cfg.Check(), os.Mkdir(cfg.Data, 0o700), seal.WriteRootKeyFile(cfg.RootKey.File)); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func TestCheckStart(t *testing.T) {
	t.Parallel()
	file := func(content string, mode os.FileMode) func(t *testing.T) string {
		return func(t *testing.T) string {
			t.Helper()
			path := filepath.Join(t.TempDir(), "file")
			if err := errors.Join(os.WriteFile(path, []byte(content), 0o600), os.Chmod(path, mode)); err != nil {
				t.Fatal(err)
			}
			return path
		}
	}
	for name, test := range map[string]struct {
		change func(t *testing.T, c *Config) error
		want   string // "": all is well
	}{
		"all well":                 {func(*testing.T, *Config) error { return nil }, ""},
		"default audit":            {func(_ *testing.T, c *Config) error { c.Audit.File = c.defaultAuditFile(); return nil }, ""},
		"audit to standard output": {func(_ *testing.T, c *Config) error { c.Audit.File = "-"; return nil }, ""},
		"no audit folder": {func(_ *testing.T, c *Config) error {
			c.Audit.File = filepath.Join(c.Data, "no", "audit.jsonl")
			return nil
		}, "audit.file: the folder "},
		"audit below a file": {func(_ *testing.T, c *Config) error {
			c.Audit.File = filepath.Join(c.RootKey.File, "audit.jsonl")
			return nil
		}, "audit.file: "},
		"no data":        {func(_ *testing.T, c *Config) error { return os.Remove(c.Data) }, "no such file"},
		"open data":      {func(_ *testing.T, c *Config) error { return os.Chmod(c.Data, 0o755) }, "chmod 700"},
		"no root key":    {func(_ *testing.T, c *Config) error { return os.Remove(c.RootKey.File) }, "root key"},
		"open root key":  {func(_ *testing.T, c *Config) error { return os.Chmod(c.RootKey.File, 0o644) }, "chmod 600"},
		"other root key": {func(_ *testing.T, c *Config) error { return os.WriteFile(c.RootKey.File, []byte("x"), 0o600) }, "a root key starts with"},
		"root key by a link": {func(_ *testing.T, c *Config) error {
			link := c.Data + "-link"
			c.RootKey.File = filepath.Join(link, "root.key")
			return errors.Join(os.Symlink(c.Data, link), seal.WriteRootKeyFile(c.RootKey.File), c.Check())
		}, "lies in the data folder"},
		"passphrase": {func(t *testing.T, c *Config) error {
			c.RootKey = RootKeyConfig{PassphraseFile: file("correct horse battery staple\n", 0o600)(t)}
			return nil
		}, ""},
		"open passphrase": {func(t *testing.T, c *Config) error {
			c.RootKey = RootKeyConfig{PassphraseFile: file("correct horse battery staple\n", 0o640)(t)}
			return nil
		}, "chmod 600"},
		"no passphrase": {func(_ *testing.T, c *Config) error {
			c.RootKey = RootKeyConfig{PassphraseFile: c.Data + "-no"}
			return nil
		}, "root key"},
		"passphrase from a pipe": {func(_ *testing.T, c *Config) error { // to read it would wait for somebody who writes
			c.RootKey = RootKeyConfig{PassphraseFile: c.Data + "-pipe"}
			return syscall.Mkfifo(c.RootKey.PassphraseFile, 0o600)
		}, ""},
		"no variable": {func(_ *testing.T, c *Config) error {
			c.RootKey = RootKeyConfig{Environment: "STRONGROOM_TEST_NOT_SET"}
			return nil
		}, "STRONGROOM_TEST_NOT_SET is not set"},
		"no certificate": {func(_ *testing.T, c *Config) error { return os.Remove(c.TLS.Certificate) }, "tls: "},
		"another key": {func(t *testing.T, c *Config) error {
			_, c.TLS.Key = pairFiles(t, "login.example.org")
			return nil
		}, "tls: "},
		"no authorities": {func(t *testing.T, c *Config) error {
			c.Issuers[0].CA = file("nothing", 0o600)(t)
			return nil
		}, "issuers[0]: ca: "},
		"no authorities of the storage": {func(t *testing.T, c *Config) error {
			c.Backup.CA = file("nothing", 0o600)(t)
			return nil
		}, "backup.ca: "},
		"a managed identity": {func(_ *testing.T, c *Config) error { c.Backup.ManagedIdentity = true; return nil }, ""}, // nobody is asked yet
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := startable(t)
			if err := test.change(t, cfg); err != nil {
				t.Fatal(err)
			}
			err := cfg.CheckStart()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestCheckStartTellsAll: one run names everything.
func TestCheckStartTellsAll(t *testing.T) {
	t.Parallel()
	cfg := startable(t)
	if err := errors.Join(os.Chmod(cfg.Data, 0o755), os.Remove(cfg.RootKey.File), os.Remove(cfg.TLS.Key)); err != nil {
		t.Fatal(err)
	}
	err := cfg.CheckStart()
	for _, want := range []string{"chmod 700", "root key", "tls: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
}

// TestCheckStartLeavesTheVariable: the server that starts afterwards needs it.
func TestCheckStartLeavesTheVariable(t *testing.T) { // not parallel: it changes the environment
	const name = "STRONGROOM_TEST_ROOT_KEY"
	cfg := startable(t)
	raw, err := os.ReadFile(cfg.RootKey.File)
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(name, string(raw))
	cfg.RootKey = RootKeyConfig{Environment: name}
	if err := cfg.CheckStart(); err != nil {
		t.Fatal(err)
	}
	if os.Getenv(name) != string(raw) {
		t.Error("the variable was taken away")
	}
	if _, err := cfg.RootKey.open(); err != nil {
		t.Fatal(err)
	}
	if _, there := os.LookupEnv(name); there {
		t.Error("the variable is still there after the key was taken")
	}
}

// TestAuditFolderIsNotMade: a configured folder may be a volume that is not mounted.
func TestAuditFolderIsNotMade(t *testing.T) {
	t.Parallel()
	cfg := startable(t)
	if _, err := Init(t.Context(), cfg, Options{}, ""); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(t.TempDir(), "not", "there")
	cfg.Audit.File = filepath.Join(folder, "audit.jsonl")
	st, err := openState(t.Context(), cfg, Options{})
	if err == nil {
		st.close()
	}
	if err == nil || !strings.Contains(err.Error(), folder+" does not exist") {
		t.Errorf("opened with %v", err)
	}
	if _, err := os.Stat(filepath.Dir(folder)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was made: %v", err)
	}
}
