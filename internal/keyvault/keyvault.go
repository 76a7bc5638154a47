// Package keyvault is what a vault means: its objects, their versions, soft deletion, and who may touch them. Service
// is the only door to an object: each of its methods authorises the caller, writes down what it is about to do, and only
// then acts, in one transaction.
//
// The package knows the semantics of Azure Key Vault and nothing of its wire: no route, no JSON member of the API, no
// HTTP status. What it cannot do it says with an *Error, whose Kind the edge maps to an answer.
//
// # What is stored
//
//	vault/<name>                            a vault; also while it is soft-deleted
//	object/<vault id>/<kind>/<name>         a live object: which version is current
//	deleted/<vault id>/<kind>/<name>        a soft-deleted object
//	version/<object id>/<version>           what is known about one version of an object, live or deleted
//	value/<object id>/<version>             the value of a secret's version, or the provider's blob of a key's
//	due/<time>/purge/<vault id>/<kind>/<name>   when a deleted object is to be purged
//	due/<time>/purgevault/<name>            the same for a vault
//	due/<time>/rotate/<vault id>/key/<name>     when a key's policy rotates it
//	due/<time>/notify/<vault id>/key/<name>     when notice is given that a key expires
//	event/<time>/<id>                       an event that waits to be delivered
//	release/signer                          what signs the answers to key releases
//	garbage/<object id>                     versions that belong to no object and will be removed
//	install                                 what belongs to the installation as a whole
//
// A value lies apart from what is known about it, so that lists open no value and nothing but the value is opened on the
// way to it: the rest is cached, decoded.
//
// Names stand in lower case, because Azure compares them so; the record keeps the spelling that was used first. An
// object gets a random id when its name is first used, so a purged name is free at once while its versions are removed
// in the background, and a restore becomes visible in one step however many versions it has.
package keyvault

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/release"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// Config is what a Service needs.
type Config struct {
	DB    *seal.DB
	Audit *audit.Log
	HSM   hsm.Provider     // makes keys and uses them
	Now   func() time.Time // nil means time.Now

	Release ReleaseConfig
}

// A Service gives access to vaults and their objects. Its methods may be called concurrently, and several servers may
// run one on the same store.
type Service struct {
	db    *seal.DB
	audit *audit.Log
	hsm   hsm.Provider
	now   func() time.Time

	making   making
	release  ReleaseConfig
	releaser atomic.Pointer[release.Signer] // nil until it is needed

	vaults   *seal.Cache[vaultRecord]
	objects  *seal.Cache[objectRecord]
	versions *seal.Cache[versionRecord]
	keys     *seal.Cache[hsm.Key] // opened

	backup       backupKey // never changes
	subscription string    // never changes
}

// SubscriptionID returns the subscription under which the installation's vaults have their ARM ids.
func (s *Service) SubscriptionID() string { return s.subscription }

// Open returns a Service on cfg.DB, whose installation record it makes if there is none yet.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	s := &Service{
		db:       cfg.DB,
		audit:    cfg.Audit,
		hsm:      cfg.HSM,
		release:  cfg.Release,
		making:   making{inFlight: make(map[string]int)},
		now:      cfg.Now,
		vaults:   seal.NewCache[vaultRecord](1 << 20),
		objects:  seal.NewCache[objectRecord](8 << 20),
		versions: seal.NewCache[versionRecord](8 << 20),
		keys:     seal.NewCache[hsm.Key](4 << 20),
	}
	if s.now == nil {
		s.now = time.Now
	}
	err := s.db.Update(ctx, func(tx store.Tx) error {
		rec, err := loadInstallation(tx)
		if err != nil {
			return err
		}
		s.backup, s.subscription = rec.BackupKey, rec.SubscriptionID
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("keyvault: %w", err)
	}
	return s, nil
}

// An Operation is one thing that a caller can ask for.
type Operation struct {
	Name       string // as in Azure's audit log: "SecretGet"
	Permission authz.Permission
}

// String returns the operation's name.
func (o Operation) String() string { return o.Name }

// authorize returns the vault if it exists and the caller may perform op in it.
func (s *Service) authorize(r store.Reader, caller *identity.Caller, vault string, op Operation) (*vaultRecord, error) {
	v, err := s.liveVault(r, vault)
	if err != nil {
		return nil, err
	}
	subject := authz.Subject{TenantID: caller.TenantID, ObjectID: caller.ObjectID, Groups: caller.Groups}
	policy := authz.Policy{TenantID: v.TenantID, Administrators: v.Administrators}
	if d := authz.Decide(policy, subject, op.Permission); !d.Allowed {
		return nil, &Error{
			Kind: AccessDenied,
			Message: fmt.Sprintf("The user, group or application 'appid=%s;oid=%s;iss=%s' does not have %s permission on "+
				"key vault '%s;location=%s'. For help resolving this issue, please see "+
				"https://go.microsoft.com/fwlink/?linkid=2125287",
				caller.AppID, caller.ObjectID, caller.Issuer, op.Permission, v.Name, v.Location),
			Reason: d.Reason,
		}
	}
	return v, nil
}

// Authorize tells whether the caller may perform op in the vault, for callers that must know before they take in more of
// the request. The operation itself asks again.
func (s *Service) Authorize(ctx context.Context, caller *identity.Caller, vault string, op Operation) error {
	return s.read(ctx, caller, vault, op, func(store.Reader, *vaultRecord) error { return nil })
}

// read runs fn in the snapshot in which the caller was authorised.
func (s *Service) read(ctx context.Context, caller *identity.Caller, vault string, op Operation,
	fn func(r store.Reader, v *vaultRecord) error) error {
	return s.db.View(ctx, func(r store.Reader) error {
		v, err := s.authorize(r, caller, vault, op)
		if err != nil {
			return err
		}
		return fn(r, v)
	})
}

// write runs fn in a transaction in which the caller is authorised once more, after the intent is on record. object
// names what is about to change, for the record.
func (s *Service) write(ctx context.Context, caller *identity.Caller, vault string, op Operation, object string,
	fn func(tx store.Tx, v *vaultRecord) error) error {
	if err := s.announce(ctx, caller, vault, op, object); err != nil {
		return err
	}
	return s.commit(ctx, caller, vault, op, fn)
}

// announce authorises the caller and puts the intent on record. Nothing takes effect before.
func (s *Service) announce(ctx context.Context, caller *identity.Caller, vault string, op Operation, object string) error {
	var resource string
	err := s.read(ctx, caller, vault, op, func(_ store.Reader, v *vaultRecord) error {
		resource = v.resource
		return nil
	})
	if err != nil {
		return err
	}
	return s.audit.Write(ctx, &audit.Record{
		Time:          s.now(),
		Category:      audit.Intent,
		ResourceID:    resource,
		Operation:     op.Name,
		ObjectID:      caller.ObjectID,
		UPN:           caller.UPN,
		AppID:         caller.AppID,
		CorrelationID: audit.CorrelationID(ctx),
		ID:            object,
	})
}

func (s *Service) commit(ctx context.Context, caller *identity.Caller, vault string, op Operation,
	fn func(tx store.Tx, v *vaultRecord) error) error {
	return s.db.Update(ctx, func(tx store.Tx) error {
		v, err := s.authorize(tx, caller, vault, op)
		if err != nil {
			return err
		}
		return fn(tx, v)
	})
}
