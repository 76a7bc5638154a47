// Package managedhsm is what a managed HSM has beside its keys and its roles: its security domain, and its full backups and restores. Which HSMs there are, what state
// they are in and who may do what in them it asks package resource in the snapshot of each operation; what a security domain looks
// like is package sdomain's affair.
//
// The package knows the semantics of a managed HSM and nothing of its wire. What it cannot do it says with a *keyvault.Error, as
// package keyvault does.
//
// # How an HSM becomes active
//
//	not activated --download--> active, with a domain that is made for it
//	not activated --transfer key--> not activated; the key is kept until the HSM is active
//	not activated --upload--> active, with the domain that was uploaded
//	active --download--> active; the same domain for other certificates
//
// Each arrow is one transaction, and a file leaves only after the HSM is active with the domain that is in it. A download whose
// answer was lost is therefore made again: it gives the same domain, in a file of its own.
//
// # Jobs
//
// A full backup, a restore and the checks whether there could be one are jobs. A request only stores a job; Run, which each server has,
// takes a lease on it and does it. A server that dies loses its lease, and the next one goes on from what the job has stored. Each
// transaction of a job looks whether the lease still is its own, so of two servers one has an effect.
//
// A full restore takes the HSM, writes a new content beside the one that the HSM has, exchanges them in one transaction, and gives the
// HSM back when all that is due for its keys is in place. Whatever happens before the exchange leaves the HSM as it was;
// nothing leads back after it, so the job goes on until it is done.
//
// # What is stored
//
//	transfer/<vault id>          the transfer key of an HSM that is not activated
//	job/record/<vault id>/<job>  a job; what opens its storage is gone from it when it has ended
//	job/running/<vault id>       the job that the HSM has at the time
//	job/backup/<vault id>        when the last full backup ended
//
// The domain itself is stored by package resource, with the HSM's state.
package managedhsm

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// Config is what a Service needs.
type Config struct {
	DB        *seal.DB
	Audit     *audit.Log
	Resources *resource.Service
	Keys      *keyvault.Service // of managed HSMs
	Now       func() time.Time  // nil means time.Now

	// Storage is where backups go. Credential, if not nil, is what the server itself has to get into it.
	Storage    *backup.Storage
	Credential azcore.TokenCredential
}

// A Service gives access to what managed HSMs have beside keys and roles. Its methods may be called concurrently, and several
// servers may run one on the same store.
type Service struct {
	db        *seal.DB
	audit     *audit.Log
	resources *resource.Service
	keys      *keyvault.Service
	now       func() time.Time

	storage    *backup.Storage
	credential azcore.TokenCredential
	woken      chan struct{} // tells Run to look for jobs
	saveEvery  int           // after how many keys of a restore its progress is stored; those after it are written again if the server dies

	making         chan struct{} // holds one while a transfer key is made
	newTransferKey func(host string, now time.Time) (*sdomain.TransferKey, error)
}

// New returns a Service on cfg.DB.
func New(cfg Config) *Service {
	s := &Service{
		db:             cfg.DB,
		audit:          cfg.Audit,
		resources:      cfg.Resources,
		keys:           cfg.Keys,
		now:            cfg.Now,
		storage:        cfg.Storage,
		credential:     cfg.Credential,
		woken:          make(chan struct{}, 1),
		saveEvery:      50,
		making:         make(chan struct{}, 1),
		newTransferKey: sdomain.NewTransferKey,
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// Authorize tells whether the caller may perform op in the HSM, for callers that must know before they take in more of the request.
// The operation itself asks again.
func (s *Service) Authorize(ctx context.Context, caller *identity.Caller, hsm string, op keyvault.Operation) error {
	return s.db.View(ctx, func(r store.Reader) error {
		_, err := s.authorize(r, caller, hsm, op)
		return err
	})
}

// authorize returns the HSM if it exists and the caller may perform op in it. Until it is active its initial administrators may do
// what makes it so, and nobody else anything; afterwards its roles say who may.
func (s *Service) authorize(r store.Reader, caller *identity.Caller, hsm string, op keyvault.Operation) (*resource.Vault, error) {
	v, err := s.resources.LoadHSM(r, hsm)
	if errors.Is(err, resource.ErrVaultNotFound) {
		return nil, &keyvault.Error{Kind: keyvault.VaultNotFound, Message: fmt.Sprintf("There is no managed HSM named %.64q on this server.", hsm)}
	}
	if err != nil {
		return nil, err
	}
	who := resource.SubjectOf(caller)
	if v.Activation != resource.Active {
		if !v.IsInitialAdministrator(who) {
			return nil, denied(op, fmt.Sprintf(". The managed HSM '%s' is not activated yet, and until it is, only the initial administrators "+
				"that were named when it was made have access", v.Name), "the caller is no initial administrator of the managed HSM")
		}
		return v, nil
	}
	d, err := s.resources.Decide(r, v, who, op.Permission, "", "")
	if err == nil && !d.Allowed {
		err = denied(op, "", d.Reason)
	}
	if err != nil {
		return nil, err
	}
	return v, nil
}

func denied(op keyvault.Operation, more, reason string) error {
	return &keyvault.Error{
		Kind:    keyvault.AccessDeniedInHSM,
		Message: fmt.Sprintf("Not authorized to access %s on /%s", op.Permission.HSMAction, more),
		Reason:  reason,
	}
}

// announce puts the intent on record. Nothing takes effect before.
func (s *Service) announce(ctx context.Context, caller *identity.Caller, v *resource.Vault, op keyvault.Operation, detail string) error {
	return s.audit.Write(ctx, &audit.Record{
		Time:          s.now(),
		Category:      audit.Intent,
		ResourceID:    v.Resource(),
		Operation:     op.Name,
		ObjectID:      caller.ObjectID,
		UPN:           caller.UPN,
		AppID:         caller.AppID,
		CorrelationID: audit.CorrelationID(ctx),
		Detail:        detail,
	})
}
