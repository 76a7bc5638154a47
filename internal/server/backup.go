package server

import (
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/strongroom/strongroom/internal/backup"
)

// openStorage is the door to the storage that full backups go to.
func (s *state) openStorage() (*backup.Storage, error) {
	roots, err := authoritiesOf(s.cfg.Backup.CA)
	if err != nil {
		return nil, err
	}
	return backup.NewStorage(backup.Config{Hosts: s.cfg.Backup.Hosts, Loopback: s.cfg.dev, RootCAs: roots, Now: s.now})
}

// credential is the server's own identity at the storage, nil for none. Nothing is asked for before it is used, and no program of this
// machine, as Azure's default would.
func (c BackupConfig) credential() (azcore.TokenCredential, error) {
	if !c.ManagedIdentity {
		return nil, nil
	}
	var chain []azcore.TokenCredential
	if e, err := azidentity.NewEnvironmentCredential(nil); err == nil { // else its variables are not set
		chain = append(chain, e)
	}
	if w, err := azidentity.NewWorkloadIdentityCredential(nil); err == nil { // as above
		chain = append(chain, w)
	}
	machine, err := azidentity.NewManagedIdentityCredential(nil)
	if err != nil {
		return nil, errors.Join(errors.New("the identity of this machine cannot be used"), err)
	}
	return azidentity.NewChainedTokenCredential(append(chain, machine), nil)
}
