// Package keyvault is what a vault or a managed HSM holds: its objects, their versions, soft deletion. Which vaults there are, and who may do
// what in them, it asks package resource in the snapshot of each operation. Service
// is the only door to an object: each of its methods authorises the caller, writes down what it is about to do, and only
// then acts, in one transaction.
//
// The package knows the semantics of Azure Key Vault and nothing of its wire: no route, no JSON member of the API, no
// HTTP status. What it cannot do it says with an *Error, whose Kind the edge maps to an answer.
//
// # What is stored
//
//	object/<content id>/<kind>/<name>       a live object: which version is current
//	deleted/<content id>/<kind>/<name>      a soft-deleted object
//	version/<object id>/<version>           what is known about one version of an object, live or deleted
//	value/<object id>/<version>             the value of a secret's version, or the provider's blob of a key's
//	due/<time>/purge/<content id>/<kind>/<name> when a deleted object is to be purged
//	due/<time>/rotate/<content id>/key/<name>   when a key's policy rotates it
//	due/<time>/notify/<content id>/key/<name>   when notice is given that a key expires
//	event/<time>/<id>                       an event that waits to be delivered
//	release/signer                          what signs the answers to key releases
//	garbage/<object id>                     versions that belong to no object and will be removed
//	garbage/<content id>                    the same for everything in a vault
//
// A content id is that of a vault, as long as the whole content of it has never been replaced. A managed HSM is a vault whose key
// blobs are wrapped by the keys of its security domain, so that they are of use in that domain only.
//
// The records of vaults themselves are resource's, and what is due for them is carried out here with the rest.
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
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/internal/admission"
	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/release"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// Config is what a Service needs.
type Config struct {
	DB        *seal.DB
	Audit     *audit.Log
	Resources *resource.Service // knows the vaults; opened with Purged
	HSM       hsm.Provider      // makes keys and uses them
	Now       func() time.Time  // nil means time.Now

	Release ReleaseConfig
}

// A Service gives access to vaults and their objects, or to managed HSMs and theirs: the names of the one have nothing to do with
// those of the other. Its methods may be called concurrently, and several servers may run one on the same store.
//
// What nobody asked for, such as what is due, is done for both by either.
type Service struct {
	*installation
	hsms bool // the names are those of managed HSMs
}

// installation is what both families of vaults share.
type installation struct {
	db        *seal.DB
	audit     *audit.Log
	resources *resource.Service
	hsm       hsm.Provider
	now       func() time.Time

	making   *admission.Bound
	release  ReleaseConfig
	releaser atomic.Pointer[release.Signer] // nil until it is needed

	objects  *seal.Cache[objectRecord]
	versions *seal.Cache[versionRecord]
	keys     *seal.Cache[hsm.Key] // opened

	backup backupKey // never changes
}

// New returns the Service of the vaults on cfg.DB.
func New(cfg Config) *Service {
	s := &installation{
		db:        cfg.DB,
		audit:     cfg.Audit,
		resources: cfg.Resources,
		backup:    cfg.Resources.BackupKey(),
		hsm:       cfg.HSM,
		release:   cfg.Release,
		making:    admission.New(makingPerPrincipal),
		now:       cfg.Now,
		objects:   seal.NewCache[objectRecord](8 << 20),
		versions:  seal.NewCache[versionRecord](8 << 20),
		keys:      seal.NewCache[hsm.Key](4 << 20),
	}
	if s.now == nil {
		s.now = time.Now
	}
	return &Service{installation: s}
}

// ManagedHSMs returns the Service of the managed HSMs of the same installation.
func (s *Service) ManagedHSMs() *Service { return &Service{s.installation, true} }

// An Operation is one thing that a caller can ask for.
type Operation struct {
	Name       string // as in Azure's audit log: "SecretGet"
	Permission authz.Permission
}

// String returns the operation's name.
func (o Operation) String() string { return o.Name }

// decide returns the vault and whether the caller may perform op on the object of that name in it. Without a name it is about the
// vault as a whole: lists, and objects whose names are not known yet.
func (s *Service) decide(r store.Reader, caller *identity.Caller, vault string, op Operation, name string) (*resource.Vault, authz.Decision, error) {
	v, err := s.liveVault(r, vault)
	if err != nil {
		return nil, authz.Decision{}, err
	}
	d, err := s.resources.Decide(r, v, resource.SubjectOf(caller), op.Permission, op.Permission.Object, name)
	return v, d, err
}

// authorize returns the vault if it exists and the caller may perform op on the object of that name in it, or on the vault as a
// whole if the name is empty.
func (s *Service) authorize(r store.Reader, caller *identity.Caller, vault string, op Operation, name string) (*resource.Vault, error) {
	v, d, err := s.decide(r, caller, vault, op, name)
	if err != nil {
		return nil, err
	}
	if !d.Allowed {
		return nil, denied(v, caller, op, name, d.Reason)
	}
	return v, nil
}

// denied is the refusal in the words of the vault's permission model.
func denied(v *resource.Vault, caller *identity.Caller, op Operation, name, reason string) error {
	if v.Tier == resource.ManagedHSM {
		scope := "/" + op.Permission.Object
		if name != "" {
			scope += "/" + bounded(name)
		}
		return &Error{
			Kind:    AccessDeniedInHSM,
			Message: fmt.Sprintf("Not authorized to access %s on %s", op.Permission.HSMAction, scope),
			Reason:  reason,
		}
	}
	if !v.RBAC {
		return &Error{
			Kind: AccessDenied,
			Message: fmt.Sprintf("The user, group or application 'appid=%s;oid=%s;iss=%s' does not have %s permission on "+
				"key vault '%s;location=%s'. For help resolving this issue, please see "+
				"https://go.microsoft.com/fwlink/?linkid=2125287",
				caller.AppID, caller.ObjectID, caller.Issuer, op.Permission, v.Name, v.Location),
			Reason: reason,
		}
	}
	where := strings.ToLower(v.ARMID())
	if name != "" {
		where += "/" + op.Permission.Object + "/" + strings.ToLower(name)
	}
	return &Error{
		Kind: AccessDeniedByRole,
		Message: fmt.Sprintf("Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role "+
			"definitions were changed recently, please observe propagation time.\r\nCaller: appid=%s;oid=%s;iss=%s\r\nAction: '%s'\r\n"+
			"Resource: '%s'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\nDecisionReason: 'DeniedWithNoValidRBAC' \r\n"+
			"Vault: %s;location=%s\r\n",
			caller.AppID, caller.ObjectID, caller.Issuer, op.Permission.DataAction, where, v.Name, v.Location),
		Reason: reason,
	}
}

// load returns the vault of that name in the service's family, or resource.ErrVaultNotFound.
func (s *Service) load(r store.Reader, name string) (*resource.Vault, error) {
	if s.hsms {
		return s.resources.LoadHSM(r, name)
	}
	return s.resources.Load(r, name)
}

// loadAny is load for a vault that may be deleted.
func (s *Service) loadAny(r store.Reader, name string) (*resource.Vault, error) {
	if s.hsms {
		return s.resources.LoadAnyHSM(r, name)
	}
	return s.resources.LoadAny(r, name)
}

// liveVault returns the vault of that name, if anything can be done in it at this time.
func (s *Service) liveVault(r store.Reader, name string) (*resource.Vault, error) {
	v, err := s.load(r, name)
	if errors.Is(err, resource.ErrVaultNotFound) {
		return nil, &Error{Kind: VaultNotFound, Message: fmt.Sprintf("There is no %s named %.64q on this server.", familyWord(s.hsms), name)}
	}
	if err != nil {
		return nil, err
	}
	return v, inUse(v)
}

// familyWord is what a vault of a family is called in messages.
func familyWord(hsm bool) string {
	if hsm {
		return "managed HSM"
	}
	return "vault"
}

// inUse refuses what is asked of a managed HSM that has no security domain yet, or whose content is being replaced.
func inUse(v *resource.Vault) error {
	err := v.InUse()
	var refused *resource.Error
	if !errors.As(err, &refused) {
		return err
	}
	kind := HSMNotActivated
	if refused.Kind == resource.HSMRestoring {
		kind = HSMRestoring
	}
	return &Error{Kind: kind, Message: refused.Message}
}

// VaultResource returns the ARM resource id of a vault in upper case, for the audit log, or "" if there is none.
func (s *Service) VaultResource(ctx context.Context, name string) (id string, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		v, err := s.loadAny(r, name)
		if err == nil {
			id = v.Resource()
		}
		return err
	})
	if errors.Is(err, resource.ErrVaultNotFound) {
		return "", nil
	}
	return id, err
}

// Reachable says whether a request from an address may go on to the vault, as far as its network rules say. Of a vault that is
// not there it says nothing.
func (s *Service) Reachable(ctx context.Context, vault string, from netip.Addr) error {
	return s.db.View(ctx, func(r store.Reader) error {
		v, err := s.load(r, vault)
		switch {
		case errors.Is(err, resource.ErrVaultNotFound):
			return nil
		case err != nil:
			return err
		case s.resources.AllowsAddress(v, from):
			return nil
		case v.PublicNetworkAccess == resource.NetworkDisabled:
			return &Error{Kind: ForbiddenByConnection, Message: "Connection is not an approved private link and caller was ignored because " +
				"bypass is not set to 'AzureServices' and PublicNetworkAccess is set to 'Disabled'."}
		}
		return &Error{Kind: ForbiddenByFirewall, Message: fmt.Sprintf("Client address (%s) is not authorized and caller is not a trusted "+
			"service", from)}
	})
}

// Authorize tells whether the caller may perform op on an object of the vault, for callers that must know before they take in
// more of the request. The operation itself asks again.
func (s *Service) Authorize(ctx context.Context, caller *identity.Caller, vault string, op Operation, name string) error {
	if checkName(name) != nil {
		name = "" // nobody has rights on what cannot be; who has them on the vault will be told what is wrong with the name
	}
	err := s.db.View(ctx, func(r store.Reader) error {
		v, d, err := s.decide(r, caller, vault, op, name)
		if err == nil && !d.Allowed && !d.IfAsymmetric { // which it will be, once the key is known
			err = denied(v, caller, op, name, d.Reason)
		}
		return err
	})
	return err
}

// read runs fn in the snapshot in which the caller was authorised for the object of that name, or for the vault as a whole.
func (s *Service) read(ctx context.Context, caller *identity.Caller, vault string, op Operation, name string,
	fn func(r store.Reader, v *resource.Vault) error) error {
	return s.db.View(ctx, func(r store.Reader) error {
		v, err := s.authorize(r, caller, vault, op, name)
		if err != nil {
			return err
		}
		return fn(r, v)
	})
}

// write runs fn in a transaction in which the caller is authorised once more, after the intent is on record. name is that of
// the object that is about to change.
func (s *Service) write(ctx context.Context, caller *identity.Caller, vault string, op Operation, name string,
	fn func(tx store.Tx, v *resource.Vault) error) error {
	if err := s.announce(ctx, caller, vault, op, name, name); err != nil {
		return err
	}
	return s.commit(ctx, caller, vault, op, name, fn)
}

// announce authorises the caller and puts the intent on record, with what it is about. Nothing takes effect before.
func (s *Service) announce(ctx context.Context, caller *identity.Caller, vault string, op Operation, name, about string) error {
	var id string
	err := s.read(ctx, caller, vault, op, name, func(_ store.Reader, v *resource.Vault) error {
		id = v.Resource()
		return nil
	})
	if err != nil {
		return err
	}
	return s.audit.Write(ctx, &audit.Record{
		Time:          s.now(),
		Category:      audit.Intent,
		ResourceID:    id,
		Operation:     op.Name,
		ObjectID:      caller.ObjectID,
		UPN:           caller.UPN,
		AppID:         caller.AppID,
		CorrelationID: audit.CorrelationID(ctx),
		ID:            about,
	})
}

func (s *Service) commit(ctx context.Context, caller *identity.Caller, vault string, op Operation, name string,
	fn func(tx store.Tx, v *resource.Vault) error) error {
	return s.db.Update(ctx, func(tx store.Tx) error {
		v, err := s.authorize(tx, caller, vault, op, name)
		if err != nil {
			return err
		}
		return fn(tx, v)
	})
}
