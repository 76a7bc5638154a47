package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/managedhsm"
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
// Called again after a crash it carries on. Once the installation is complete it changes nothing, whatever files are
// missing. It reports whether it has completed one.
func Init(ctx context.Context, cfg *Config, opts Options, vault string) (fresh bool, err error) {
	if err := makeFolder(cfg.Data); err != nil {
		return false, err
	}
	if cfg.RootKey.File != "" {
		if _, err := os.Stat(cfg.RootKey.File); errors.Is(err, fs.ErrNotExist) {
			if err := newRootKey(cfg); err != nil {
				return false, err
			}
		}
	}
	st := newState(cfg, opts)
	defer func() { err = errors.Join(err, st.close()) }()
	if err := st.openStore(ctx, true); err != nil {
		return false, err
	}
	rec, err := st.setup(ctx)
	if err != nil {
		return false, err
	}
	if rec != nil && rec.Done {
		st.tellMissing()
		return false, nil
	}
	if err := st.openServices(ctx, opts.TenantID); err != nil {
		return false, err
	}
	if rec == nil {
		// Principals without a record of a setup were made by a release that kept none. A new administrator would be nobody's.
		apps, _, err := st.directory.Applications(ctx, "", 1)
		if err != nil || len(apps) > 0 {
			return false, err
		}
	}
	if err := st.openCA(ctx); err != nil {
		return false, err
	}
	i := &installer{state: st, rec: &setupRecord{Vault: vault}, sku: opts.SKU, step: opts.step}
	if err := i.install(ctx); err != nil {
		return false, err
	}
	return true, nil
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
		dev:             true,
	}
	cfg.resolve(data)
	return cfg, cfg.Check()
}

// Verify opens the store in the data folder, walks all of it and closes it again. It makes and changes nothing. It needs the
// folder for itself; while a server runs, ask the server.
func Verify(ctx context.Context, cfg *Config) (_ admin.Verification, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catchDamage(&err)
	st := newState(cfg, Options{})
	defer func() { err = errors.Join(err, st.close()) }()
	if err := st.openStore(ctx, false); err != nil {
		return admin.Verification{}, err
	}
	// Without the audit log, whose opening may mend it: nothing here is put on record.
	if err := st.openResources(ctx); err != nil {
		return admin.Verification{}, err
	}
	st.openVaults(keyvault.ReleaseConfig{}, managedhsm.Config{})
	return st.verifyStore(ctx)
}

// AuditHead returns the newest record of the audit log that the store of a data folder remembers, without touching the
// log. It needs the folder for itself; while a server runs, ask the server. Seq is 0 if nothing is remembered.
func AuditHead(ctx context.Context, cfg *Config) (admin.Head, error) {
	m, err := AuditMemory(ctx, cfg)
	if err != nil {
		return admin.Head{}, err
	}
	return admin.Head{Seq: m.Head.Seq, Hash: m.Head.Hash, File: cfg.Audit.File}, nil
}

// NewRootKeyFile makes a new root key in a new file of mode 0600. It never overwrites.
func NewRootKeyFile(path string) error { return seal.WriteRootKeyFile(path) }

// NewRootKey makes the text of a new root key, for sites that keep it elsewhere than in a file.
func NewRootKey() string { return seal.GenerateRootKey() }
