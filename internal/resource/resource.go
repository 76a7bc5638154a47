// Package resource is what the management plane means: the resource groups, vaults, managed HSMs, role definitions and role
// assignments of the one subscription that an installation has. It owns their records and says who may do what with them,
// and what the data plane asks: which vault has that name, and may this caller do that in it.
//
// The package knows the semantics of Azure Resource Manager and nothing of its wire: no route, no JSON member, no HTTP status.
// What it cannot do it says with an *Error, whose Kind the edge maps to an answer.
//
// # What is stored
//
//	install                        what belongs to the installation as a whole
//	group/<name>                   a resource group
//	vault/<name>                   a vault; also while it is soft-deleted
//	hsm/<name>                     the same for a managed HSM
//	due/<time>/purgevault/<name>   when a deleted vault is to be purged
//	due/<time>/purgehsm/<name>     the same for a managed HSM
//	role/definition/<id>           a custom role
//	role/assignment/<id>           a role assignment
//	role/generation                a random value, new after every change of a role or an assignment
//	domain/<hsm id>                the security domain of a managed HSM
//	local/<content>/definition/<id>   a custom role of a managed HSM itself
//	local/<content>/assignment/<id>   an assignment of one of its roles
//	local/<content>/generation     as role/generation
//	local/<content>/settings       its settings
//
// Names and ids stand in lower case, because Azure compares them so; the record keeps the spelling that was used first.
//
// # What a decision costs
//
// A vault is cached, decoded, with its access policies made ready. All roles and assignments are compiled into one value that is
// kept for as long as role/generation in the caller's snapshot is what it was made from. So a decision reads nothing that it
// does not have, and a change by any server holds from the next operation on.
package resource

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// Config is what a Service needs. DB and Audit are required; without a tenant nobody but operators may do anything.
type Config struct {
	DB       *seal.DB
	Audit    *audit.Log
	Now      func() time.Time // nil means time.Now
	TenantID string

	// Locations are where vaults can be, the default one first. Without any, a location is whatever is asked for.
	Locations []string

	// Logger, if not nil, is told of roles and assignments that grant nothing because they make no sense.
	Logger *slog.Logger

	// Principals, if not nil, knows some of the principals.
	Principals PrincipalDirectory

	// Purged marks what is in a content as nobody's, in the transaction that purges its vault, or that gives its managed HSM another
	// content. A vault has one content, under its own id. Without it nothing can be purged.
	Purged func(tx store.Tx, contentID string) error

	// PurgedHSM, if not nil, removes what belongs to a managed HSM whatever its content is, in the transaction that purges it.
	PurgedHSM func(tx store.Tx, vaultID string) error
}

// A PrincipalDirectory knows principals.
type PrincipalDirectory interface {
	// PrincipalType returns what the principal with that object id is, or AnyPrincipal for one that is not known here.
	PrincipalType(ctx context.Context, objectID string) (authz.PrincipalType, error)
}

// A Service manages the resources of an installation. Its methods may be called concurrently, and several servers may run one on
// the same store.
type Service struct {
	cfg     Config
	db      *seal.DB
	now     func() time.Time
	install installRecord // never changes

	vaults      *seal.Cache[Vault]
	generations *seal.Cache[generationRecord]

	domains *seal.Cache[sdomain.DomainKeys]

	compiling sync.Mutex                // held while roles are compiled, so that one goroutine does it; guards told
	told      string                    // what was logged last about roles that grant nothing
	compiled  atomic.Pointer[roleState] // nil until it is needed
	local     localStates               // of managed HSMs
}

// Open returns a Service on cfg.DB, whose installation record it makes if there is none yet.
func Open(ctx context.Context, cfg Config) (*Service, error) {
	s := &Service{
		cfg:         cfg,
		db:          cfg.DB,
		now:         cfg.Now,
		vaults:      seal.NewCache[Vault](16 << 20),           // a vault with as many access policies as Azure allows has a megabyte
		generations: seal.NewCache[generationRecord](1 << 18), // one of the installation and one of each managed HSM
		domains:     seal.NewCache[sdomain.DomainKeys](4 << 20),
	}
	if s.now == nil {
		s.now = time.Now
	}
	err := s.db.Update(ctx, func(tx store.Tx) error {
		rec, err := loadInstallation(tx)
		if err == nil {
			s.install = *rec
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("resource: %w", err)
	}
	return s, nil
}

// Format keeps the key of backups out of whatever prints the service.
func (s *Service) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, "resource.Service") }

// SubscriptionID returns the subscription under which everything has its id.
func (s *Service) SubscriptionID() string { return s.install.SubscriptionID }

// TenantID returns the tenant of the installation.
func (s *Service) TenantID() string { return s.cfg.TenantID }

// Locations returns where vaults can be, the default first. Nobody may modify it.
func (s *Service) Locations() []string { return s.cfg.Locations }

// BackupKey returns the key that seals backups of single objects. It lives as long as the installation.
func (s *Service) BackupKey() []byte { return s.install.BackupKey }

// An Actor is who manages something. The zero Actor may do nothing.
type Actor struct {
	// Caller is who sent a request. Role assignments say what he may do.
	Caller *identity.Caller

	// Operator, if not empty, is the operating system's name of the person at the machine: whoever can reach the local
	// administration socket, or runs init. The file system decides who that is, so no role is asked.
	Operator string

	// Note, if not nil, is told under which operation, and with which detail, a change is put on record, so that whoever
	// answers a request can give its outcome the same. It is called before the change is authorised.
	Note func(operation, detail string)

	// part says that what is done is a part of something larger, which is what the outcome of the request tells of.
	part bool
}

// asPart is the actor in what is recorded by itself, because the outcome of the request is that of something larger.
func (a Actor) asPart() Actor {
	a.Note, a.part = nil, true
	return a
}

func (a Actor) subject() authz.Subject {
	if a.Caller == nil {
		return authz.Subject{}
	}
	return SubjectOf(a.Caller)
}

// SubjectOf is what decisions need of a caller.
func SubjectOf(c *identity.Caller) authz.Subject {
	return authz.Subject{TenantID: c.TenantID, ObjectID: c.ObjectID, Groups: c.Groups, AppID: c.AppID}
}

// name and kind are what a resource remembers of who changed it, in the words of Azure's systemData.
func (a Actor) name() (name, kind string) {
	switch {
	case a.Operator != "":
		return a.Operator, "User"
	case a.Caller == nil:
		return "", ""
	case a.Caller.IdentityType == "user":
		if a.Caller.UPN != "" {
			return a.Caller.UPN, "User"
		}
		return a.Caller.ObjectID, "User"
	case a.Caller.ResourceID != "":
		return a.Caller.AppID, "ManagedIdentity"
	}
	return a.Caller.AppID, "Application"
}

// Authorize says whether the actor may perform an action of the management plane at a scope.
func (s *Service) Authorize(ctx context.Context, a Actor, action string, scope authz.Scope) error {
	return s.db.View(ctx, func(r store.Reader) error { return s.authorize(r, a, action, scope) })
}

// authorize is Authorize in a snapshot.
func (s *Service) authorize(r store.Reader, a Actor, action string, scope authz.Scope) error {
	if a.Operator != "" {
		return nil
	}
	state, err := s.rolesIn(r)
	if err != nil {
		return err
	}
	if d := state.roles.Allowed(a.subject(), authz.Control, action, scope); !d.Allowed {
		return unauthorized(a, action, scope, d.Reason)
	}
	return nil
}

// asks runs one of authz's questions about who may change rights. An operator may.
func (s *Service) asks(r store.Reader, a Actor, question func(*authz.Roles, authz.Subject) error) error {
	if a.Operator != "" {
		return nil
	}
	state, err := s.rolesIn(r)
	if err != nil {
		return err
	}
	return refusedBy(a, question(state.roles, a.subject()))
}

// refusedBy turns a refusal of package authz into one of this package.
func refusedBy(a Actor, err error) error {
	var (
		denied  *authz.DeniedError
		invalid *authz.InvalidError
	)
	switch {
	case errors.As(err, &denied):
		return unauthorized(a, denied.Action, denied.Scope, denied.Reason)
	case errors.As(err, &invalid):
		return &Error{Kind: InvalidProperty, Message: sentence(invalid.Error())}
	}
	return err
}

func unauthorized(a Actor, action string, scope authz.Scope, reason string) error {
	name, objectID := "", ""
	if a.Caller != nil {
		name, objectID = a.Caller.AppID, a.Caller.ObjectID
		if a.Caller.UPN != "" {
			name = a.Caller.UPN
		}
	}
	return &Error{
		Kind: AuthorizationFailed,
		Message: fmt.Sprintf("The client '%.128s' with object id '%.128s' does not have authorization to perform action '%s' over scope '%s' "+
			"or the scope is invalid. If access was recently granted, please refresh your credentials.", name, objectID, action, scope),
		Reason: reason,
	}
}

// A deed is a change that is about to be made, for the record.
type deed struct {
	operation string // as in Azure's log: "VaultPut"
	resource  string // ARM id
	id        string // what it is about
	detail    string // who gets or loses which rights by it
}

// change authorises the actor, puts the intent on record, and runs fn in a transaction in which the actor is authorised once more.
// The outcome of a request is recorded by whoever answers it; behind an operator's act stands no request, so its outcome is
// recorded here.
func (s *Service) change(ctx context.Context, a Actor, d deed, may func(store.Reader) error, fn func(store.Tx) error) error {
	if a.Note != nil {
		a.Note(d.operation, d.detail)
	}
	if err := s.db.View(ctx, may); err != nil {
		return err
	}
	act := func() error {
		err := s.db.Update(ctx, func(tx store.Tx) error {
			if err := may(tx); err != nil {
				return err
			}
			return fn(tx)
		})
		if errors.Is(err, store.ErrTooLarge) {
			return &Error{Kind: InvalidProperty, Message: "The resource would be larger than can be stored."}
		}
		return err
	}
	rec := audit.Record{
		Time:          s.now(),
		Category:      audit.Intent,
		ResourceID:    d.resource,
		Operation:     d.operation,
		CorrelationID: audit.CorrelationID(ctx),
		ID:            d.id,
		Detail:        d.detail,
	}
	if a.Caller != nil {
		rec.ObjectID, rec.UPN, rec.AppID = a.Caller.ObjectID, a.Caller.UPN, a.Caller.AppID
	}
	if a.Operator != "" {
		rec.UPN = a.Operator
	}
	if a.Operator != "" || a.part {
		return s.Recorded(ctx, rec, act)
	}
	if err := s.cfg.Audit.Write(ctx, &rec); err != nil {
		return err
	}
	return act()
}

// Recorded runs act between an intent and an outcome record, for work that no request stands behind.
func (s *Service) Recorded(ctx context.Context, rec audit.Record, act func() error) error {
	if err := s.cfg.Audit.Write(ctx, &rec); err != nil {
		return err
	}
	err := act()
	rec.Category, rec.Time = audit.Event, s.now()
	rec.ResultType, rec.ResultSignature = audit.Success, "OK"
	if err != nil {
		rec.ResultType, rec.ResultSignature, rec.ResultDescription = audit.Failure, "Failed", err.Error()
	}
	// The outcome is recorded even if whoever asked has gone.
	return errors.Join(err, s.cfg.Audit.Write(context.WithoutCancel(ctx), &rec))
}

// subscription is the id of the subscription as a resource.
func (s *Service) subscription() string { return "/subscriptions/" + s.install.SubscriptionID }

// SubscriptionScope is where assignments hold for everything.
func (s *Service) SubscriptionScope() authz.Scope {
	scope, _ := authz.ParseScope(s.subscription()) // none if the record's id is no GUID: then nobody but operators may do anything
	return scope
}

// SeesSubscription tells whether the actor has any role in the subscription. Who has none does not see that it is there.
func (s *Service) SeesSubscription(ctx context.Context, a Actor) (sees bool, err error) {
	if a.Operator != "" {
		return true, nil
	}
	subject := a.subject()
	if !strings.EqualFold(subject.TenantID, s.cfg.TenantID) {
		return false, nil
	}
	err = s.db.View(ctx, func(r store.Reader) error {
		state, err := s.rolesIn(r)
		if err != nil {
			return err
		}
		sees = false
		for _, as := range state.assignments {
			sees = sees || as.concerns(subject)
		}
		return nil
	})
	return sees, err
}

// loadInstallation returns the installation's record, made anew in a new store. Where there are vaults it must be there:
// another one in its place would quietly make every backup worthless.
func loadInstallation(tx store.Tx) (*installRecord, error) {
	rec, err := record.Get[installRecord](tx, installKey)
	if !errors.Is(err, store.ErrNotFound) {
		return rec, err
	}
	for _, err := range tx.Scan("vault/", store.PrefixEnd("vault/")) {
		if err != nil {
			return nil, err
		}
		return nil, &seal.RecordError{Key: installKey, Reason: "is missing"}
	}
	rec = newInstallation()
	return rec, record.Put(tx, installKey, rec)
}
