package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// setupKey is where Init notes how far it has come. What it is about to make has its id there before it is made, so that
// Init finds it again after a crash and makes nothing twice.
const setupKey = "server/setup"

type setupRecord struct {
	Format          int    `json:"v"`
	Done            bool   `json:"done"`
	Administrator   string `json:"administrator"`   // client id
	ManagedIdentity string `json:"managedIdentity"` // client id
	Vault           string `json:"vault,omitempty"`
}

// madeByInit is the display name by which Init knows the credentials that it made.
const madeByInit = "made by init"

// setup reads the record, nil if there is none.
func (s *state) setup(ctx context.Context) (rec *setupRecord, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		rec = nil
		raw, err := r.Get(setupKey)
		if errors.Is(err, store.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		rec = new(setupRecord)
		if err := json.Unmarshal(raw, rec); err != nil {
			return &seal.RecordError{Key: setupKey, Reason: err.Error()}
		}
		if rec.Format != 1 {
			return &seal.RecordError{Key: setupKey, Reason: "was written by a newer release"}
		}
		return nil
	})
	return rec, err
}

func (s *state) putSetup(ctx context.Context, operation string, rec *setupRecord) error {
	return s.operated(ctx, operation, rec.Vault, func() error {
		raw, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		return s.db.Update(ctx, func(tx store.Tx) error { return tx.Put(setupKey, raw) })
	})
}

// An installer is one run of Init over an installation that is not complete.
type installer struct {
	*state
	rec *setupRecord
	sku string // of the vault
	// step is called after each thing that lasts; an error ends the run there. Tests break off so.
	step func() error
}

// install does what is not done yet. Each step finds out by itself whether an earlier run has done it.
func (i *installer) install(ctx context.Context) error {
	ctx = audit.WithCorrelationID(ctx, newRequestID())
	if err := i.begin(ctx); err != nil {
		return err
	}
	administrator, err := i.principal(ctx, i.rec.Administrator, "administrator", identity.KindApplication)
	if err != nil {
		return err
	}
	machine, err := i.principal(ctx, i.rec.ManagedIdentity, "managed identity", identity.KindManagedIdentity)
	if err != nil {
		return err
	}
	_, err = i.resources.Bootstrap(ctx, operator.Operator, administrator.ObjectID)
	if err := i.did(err); err != nil {
		return err
	}
	if err := i.vault(ctx, administrator.ObjectID, machine.ObjectID); err != nil {
		return err
	}
	if err := i.credentials(ctx, AdministratorFile, administrator, identity.CredentialSecret); err != nil {
		return err
	}
	if err := i.credentials(ctx, ManagedIdentityFile, machine, identity.CredentialHeader); err != nil {
		return err
	}
	i.rec.Done = true
	return i.did(i.putSetup(ctx, "SetupComplete", i.rec))
}

// did ends a step.
func (i *installer) did(err error) error {
	if err != nil || i.step == nil {
		return err
	}
	return i.step()
}

func (i *installer) begin(ctx context.Context) error {
	wanted := i.rec.Vault
	rec, err := i.setup(ctx)
	if err != nil {
		return err
	}
	if rec == nil {
		rec = &setupRecord{Format: 1, Administrator: uuid.NewString(), ManagedIdentity: uuid.NewString()}
	} else if rec.Vault == wanted {
		i.rec = rec
		return nil
	}
	rec.Vault = wanted
	i.rec = rec
	return i.did(i.putSetup(ctx, "SetupBegin", rec))
}

// principal returns the application with this client id, and makes it if it is not there.
func (i *installer) principal(ctx context.Context, clientID, name string, kind identity.ApplicationKind) (*identity.Application, error) {
	app, err := i.directory.Application(ctx, clientID)
	if err == nil || !identity.IsNotFound(err) {
		return app, err
	}
	err = i.operated(ctx, "AppCreate", name, func() (err error) {
		app, err = i.directory.CreateApplication(ctx, identity.NewApplication{ClientID: clientID, DisplayName: name, Kind: kind})
		return err
	})
	return app, i.did(err)
}

// vault makes the first vault, if one is wanted.
func (i *installer) vault(ctx context.Context, administrators ...string) error {
	if i.rec.Vault == "" {
		return nil
	}
	there, err := i.resources.FindVault(ctx, operator, i.rec.Vault)
	if err == nil && there.Deleted == 0 && slices.Equal(there.Administrators, administrators) {
		return nil // of an earlier run
	}
	if err != nil && !resource.IsKind(err, resource.ResourceNotFound) {
		return err
	}
	_, err = i.newVault(ctx, NewVault{Name: i.rec.Vault, SKU: i.sku, Administrators: administrators})
	return i.did(err)
}

// credentials sees to it that a file holds a credential of app. One whose file was never written is known to nobody, so
// it is taken away and another one made.
func (i *installer) credentials(ctx context.Context, file string, app *identity.Application, kind identity.CredentialType) error {
	path := filepath.Join(i.cfg.Data, file)
	known, err := ReadCredentials(path)
	if err == nil && known.ClientID != app.ClientID {
		err = fmt.Errorf("%s belongs to another installation: move it away", path)
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, lost := range app.Credentials {
		if lost.DisplayName != madeByInit {
			continue
		}
		err := i.operated(ctx, "AppCredentialDelete", app.ClientID, func() error {
			return i.directory.RemoveCredential(ctx, app.ClientID, lost.ID)
		})
		if err := i.did(err); err != nil {
			return err
		}
	}
	var added admin.Credential
	err = i.operated(ctx, "AppCredentialAdd", app.ClientID, func() (err error) {
		added, err = i.newCredential(ctx, app.ClientID, admin.NewCredential{Type: string(kind), DisplayName: madeByInit})
		return err
	})
	if err := i.did(err); err != nil {
		return err
	}
	return i.did(i.writeCredentials(path, &Credentials{
		TenantID: i.directory.TenantID(), ClientID: app.ClientID, ObjectID: app.ObjectID, Secret: added.Secret,
	}))
}

func (i *installer) writeCredentials(path string, c *Credentials) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return err
	}
	if err := ReplaceFile(path, append(raw, '\n'), 0o600); err != nil {
		return err
	}
	return syncFolder(i.cfg.Data) // the credentials' folder may be new
}

// tellMissing says which credentials are not where Init left them. They are made once.
func (s *state) tellMissing() {
	for _, file := range []string{AdministratorFile, ManagedIdentityFile} {
		path := filepath.Join(s.cfg.Data, file)
		if _, err := os.Stat(path); err != nil {
			s.log.Warn("the installation is complete and nothing is made again; a credentials file is not there: to add another "+
				"credential, use strongroom app credential add", "file", path)
		}
	}
}
