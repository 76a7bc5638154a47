package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/seal"
)

// Files with the credentials that Init makes, below the data folder, with mode 0600.
const (
	AdministratorFile   = "credentials/administrator.json"
	ManagedIdentityFile = "credentials/managed-identity.json"
)

// Credentials are a principal and its secret, as Init leaves them in a file.
type Credentials struct {
	TenantID string `json:"tenantId"`
	ClientID string `json:"clientId"`
	ObjectID string `json:"objectId"`
	Secret   string `json:"secret"` // client secret, or the value of IDENTITY_HEADER
}

// Init makes a new installation in cfg.Data: root key (if it is to be a file and there is none), database, tenant, an
// administrator with a client secret, a managed identity, and a vault if vault is not empty, which both may administer.
// It can be called again after a crash and carries on. It reports whether anything was new.
func Init(ctx context.Context, cfg *Config, opts Options, vault string) (fresh bool, err error) {
	if err := makeFolder(cfg.Data); err != nil {
		return false, err
	}
	done := filepath.Join(cfg.Data, ManagedIdentityFile)
	if _, err := os.Stat(done); err == nil {
		return false, nil // the last file that Init writes
	}
	if cfg.RootKey.File != "" {
		if _, err := os.Stat(cfg.RootKey.File); errors.Is(err, fs.ErrNotExist) {
			if err := newRootKey(cfg); err != nil {
				return false, err
			}
		}
	}
	st, err := openState(ctx, cfg, opts, true)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, st.close()) }()
	if err := os.MkdirAll(filepath.Join(cfg.Data, "credentials"), 0o700); err != nil {
		return false, err
	}
	if err := st.openCA(ctx); err != nil {
		return false, err
	}
	administrator, err := st.initPrincipal(ctx, AdministratorFile, "administrator", identity.KindApplication, identity.CredentialSecret)
	if err != nil {
		return false, err
	}
	machine, err := st.prepare(ctx, "managed identity", identity.KindManagedIdentity, identity.CredentialHeader)
	if err != nil {
		return false, err
	}
	if vault != "" {
		v := st.newVault(admin.Vault{Name: vault, Administrators: []string{administrator.ObjectID, machine.ObjectID}})
		if _, err := st.vaults.CreateVault(ctx, operator, v); err != nil && adminStatus(err) != 409 {
			return false, err
		}
	}
	return true, st.writeCredentials(ManagedIdentityFile, machine)
}

// newRootKey makes the root key's file, unless there is a database that another root key protects.
func newRootKey(cfg *Config) error {
	if _, err := os.Stat(filepath.Join(cfg.Data, databaseFile)); err == nil {
		return fmt.Errorf("the root key %s is missing and the database in %s is not new: bring the key back", cfg.RootKey.File, cfg.Data)
	}
	if err := os.MkdirAll(filepath.Dir(cfg.RootKey.File), 0o700); err != nil {
		return err
	}
	return seal.WriteRootKeyFile(cfg.RootKey.File)
}

// initPrincipal makes a principal and its file, or reads the file of an earlier attempt.
func (s *state) initPrincipal(ctx context.Context, file, name string, kind identity.ApplicationKind, credential identity.CredentialType) (*Credentials, error) {
	known, err := ReadCredentials(filepath.Join(s.cfg.Data, file))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return known, err
	}
	c, err := s.prepare(ctx, name, kind, credential)
	if err != nil {
		return nil, err
	}
	return c, s.writeCredentials(file, c)
}

func (s *state) prepare(ctx context.Context, name string, kind identity.ApplicationKind, credential identity.CredentialType) (*Credentials, error) {
	app, err := s.directory.CreateApplication(ctx, identity.NewApplication{DisplayName: name, Kind: kind})
	if err != nil {
		return nil, err
	}
	added, err := s.newCredential(ctx, app.ClientID, admin.NewCredential{Type: string(credential), DisplayName: "made by init"})
	if err != nil {
		return nil, err
	}
	return &Credentials{
		TenantID: s.directory.TenantID(), ClientID: app.ClientID, ObjectID: app.ObjectID, Secret: added.Secret,
	}, nil
}

func (s *state) writeCredentials(file string, c *Credentials) error {
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	return replaceFile(filepath.Join(s.cfg.Data, file), append(raw, '\n'), 0o600)
}

// ReadCredentials reads a file that Init wrote.
func ReadCredentials(path string) (*Credentials, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c Credentials
	if err := json.Unmarshal(raw, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &c, nil
}

// DevConfig is the configuration of dev mode: everything on loopback, with the root key beside the data, which protects
// nothing against whoever gets the folder.
func DevConfig(data string, listen []string) (*Config, error) {
	data, err := filepath.Abs(data)
	if err != nil {
		return nil, err
	}
	cfg := &Config{
		Domain:          "localhost",
		Data:            data,
		Listen:          listen,
		RootKey:         RootKeyConfig{File: filepath.Join(data, "root.key")},
		ManagedIdentity: ManagedIdentityConfig{Listen: "127.0.0.1:8442"},
		Operations:      OperationsConfig{Pprof: true},
	}
	cfg.resolve(data)
	return cfg, cfg.Check()
}

// Verify opens the store in the data folder, walks all of it and closes it again. It makes and changes nothing. It needs the
// folder for itself; while a server runs, ask the server.
func Verify(ctx context.Context, cfg *Config) (_ admin.Verification, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catchDamage(&err)
	st := &state{cfg: cfg, log: slog.New(slog.DiscardHandler), now: time.Now}
	defer func() { err = errors.Join(err, st.close()) }()
	if err := st.openStore(ctx, false); err != nil {
		return admin.Verification{}, err
	}
	// Without the audit log, whose opening may mend it: nothing here is put on record.
	if st.vaults, err = keyvault.Open(ctx, keyvault.Config{DB: st.db, Now: st.now}); err != nil {
		return admin.Verification{}, err
	}
	return st.verifyStore(ctx)
}

// AuditHead returns the newest record of the audit log that the store of a data folder remembers, without touching the
// log. It needs the folder for itself; while a server runs, ask the server. Seq is 0 if nothing is remembered.
func AuditHead(ctx context.Context, cfg *Config) (_ admin.Head, err error) {
	s := &state{cfg: cfg, log: slog.New(slog.DiscardHandler), now: time.Now}
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openStore(ctx, false); err != nil {
		return admin.Head{}, err
	}
	head := admin.Head{File: cfg.Audit.File}
	anchor, err := s.anchor(ctx)
	if err != nil || anchor == nil {
		return head, err
	}
	head.Seq, head.Hash = anchor.Seq, anchor.Hash
	return head, nil
}

// NewRootKeyFile makes a new root key in a new file of mode 0600. It never overwrites.
func NewRootKeyFile(path string) error { return seal.WriteRootKeyFile(path) }

// NewRootKey makes the text of a new root key, for sites that keep it elsewhere than in a file.
func NewRootKey() string { return seal.GenerateRootKey() }
