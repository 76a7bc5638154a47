package keyvault

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/store"
)

// What a rotation policy does at its times.
const (
	ActionRotate = "Rotate"
	ActionNotify = "Notify"
)

// Bounds of a rotation policy (contract §5), in days.
const (
	minKeyLife        = 28
	minRotationMargin = 7 // after creation and before expiry
)

// defaultNotify is what every policy has if it says nothing else, also that of a key that never got one.
var defaultNotify = LifetimeAction{Action: ActionNotify, BeforeExpiry: "P30D"}

// A LifetimeAction is something that is done at a time in the life of a key's current version. Exactly one of the times
// is set; both are durations of ISO 8601.
type LifetimeAction struct {
	Action       string `json:"action"` // ActionRotate or ActionNotify
	AfterCreate  string `json:"afterCreate,omitempty"`
	BeforeExpiry string `json:"beforeExpiry,omitempty"`
}

// A RotationPolicy says when a key gets a new version by itself, when notice of its expiry is given, and how long the
// versions that rotation makes are valid. Created and Updated are zero if nobody has set one.
type RotationPolicy struct {
	Name       string // of the key
	Vault      string // ARM resource id
	ExpiryTime string // a duration of ISO 8601, or ""
	Actions    []LifetimeAction
	Created    int64
	Updated    int64
}

type rotationRecord struct {
	ExpiryTime string           `json:"expiryTime,omitempty"`
	Actions    []LifetimeAction `json:"actions"`
	Created    int64            `json:"created"`
	Updated    int64            `json:"updated"`
}

func (r *rotationRecord) policy(v *resource.Vault, o *objectRecord) RotationPolicy {
	out := RotationPolicy{Name: o.Name, Vault: v.Resource(), Actions: []LifetimeAction{defaultNotify}}
	if r != nil {
		out.ExpiryTime, out.Actions, out.Created, out.Updated = r.ExpiryTime, slices.Clone(r.Actions), r.Created, r.Updated
	}
	return out
}

// check refuses what SetRotationPolicy would. A backup that was made in a managed HSM proves only that whoever made it has the security
// domain, and a policy that is due at once would rotate without end.
func (r *rotationRecord) check() error {
	if r == nil {
		return nil
	}
	p := RotationPolicy{ExpiryTime: r.ExpiryTime, Actions: r.Actions}
	return p.normalize()
}

// action returns the action of that kind. A policy always has a notice.
func (r *rotationRecord) action(kind string) (LifetimeAction, bool) {
	actions := []LifetimeAction{defaultNotify}
	if r != nil {
		actions = r.Actions
	}
	i := slices.IndexFunc(actions, func(a LifetimeAction) bool { return a.Action == kind })
	if i < 0 {
		return LifetimeAction{}, false
	}
	return actions[i], true
}

// normalize checks a policy and completes it: its actions get Azure's spelling and a notice if there is none.
func (p *RotationPolicy) normalize() error {
	life := 0
	if p.ExpiryTime != "" {
		expiry, err := parsePeriod(p.ExpiryTime)
		if err != nil {
			return badParameter("The rotation policy's expiryTime is wrong: %v.", err)
		}
		if life = expiry.nominalDays(); life < minKeyLife {
			return badParameter("The rotation policy's expiryTime must be at least %d days.", minKeyLife)
		}
	}
	actions := make([]LifetimeAction, 0, 2)
	for _, a := range p.Actions {
		switch {
		case strings.EqualFold(a.Action, ActionRotate):
			a.Action = ActionRotate
		case strings.EqualFold(a.Action, ActionNotify):
			a.Action = ActionNotify
		default:
			return badParameter("The rotation policy has the action %q: Rotate and Notify are known.", bounded(a.Action))
		}
		if slices.ContainsFunc(actions, func(b LifetimeAction) bool { return a.Action == b.Action }) {
			return badParameter("The rotation policy has the action %s more than once.", a.Action)
		}
		if err := a.check(p.ExpiryTime != "", life); err != nil {
			return err
		}
		actions = append(actions, a)
	}
	p.Actions = actions
	if !slices.ContainsFunc(actions, func(a LifetimeAction) bool { return a.Action == ActionNotify }) {
		p.Actions = append(p.Actions, defaultNotify)
	}
	return nil
}

// check checks one action against the life, in days, that the policy gives new versions.
func (a LifetimeAction) check(expires bool, life int) error {
	if (a.AfterCreate == "") == (a.BeforeExpiry == "") {
		return badParameter("Each action of the rotation policy needs one trigger: timeAfterCreate or timeBeforeExpiry.")
	}
	after, err := parsePeriod(a.AfterCreate + a.BeforeExpiry)
	if err != nil {
		return badParameter("A trigger of the rotation policy is wrong: %v.", err)
	}
	days := after.nominalDays()
	switch {
	case a.Action == ActionNotify && a.BeforeExpiry == "":
		return badParameter("The rotation policy's action Notify needs the trigger timeBeforeExpiry.")
	case a.Action == ActionNotify:
		return nil
	case a.BeforeExpiry != "" && !expires:
		return badParameter("The rotation policy's trigger timeBeforeExpiry needs an expiryTime.")
	case a.BeforeExpiry != "" && (days < minRotationMargin || days > life-minRotationMargin),
		a.AfterCreate != "" && (days < minRotationMargin || expires && days > life-minRotationMargin):
		return badParameter("The rotation policy must rotate at least %[1]d days after creation and at least %[1]d days before "+
			"expiry.", minRotationMargin)
	}
	return nil
}

// GetRotationPolicy returns a key's policy, or the one that holds for keys without.
func (s *Service) GetRotationPolicy(ctx context.Context, caller *identity.Caller, vault, name string) (RotationPolicy, error) {
	if err := checkName(name); err != nil {
		return RotationPolicy{}, err
	}
	var out RotationPolicy
	err := s.read(ctx, caller, vault, KeyRotationPolicyGet, name, func(r store.Reader, v *resource.Vault) error {
		o, err := s.liveObject(r, v, KeyKind, name, notFound(KeyKind, name, ""))
		if err == nil {
			out = o.Rotation.policy(v, o)
		}
		return err
	})
	return out, err
}

// SetRotationPolicy replaces a key's policy. What is overdue under it happens at once.
func (s *Service) SetRotationPolicy(ctx context.Context, caller *identity.Caller, vault, name string, p RotationPolicy) (RotationPolicy, error) {
	if err := errors.Join(checkName(name), p.normalize()); err != nil {
		return RotationPolicy{}, err
	}
	var out RotationPolicy
	err := s.write(ctx, caller, vault, KeyRotationPolicySet, name, func(tx store.Tx, v *resource.Vault) error {
		f, err := s.find(tx, v, KeyKind, name, "")
		if err != nil {
			return err
		}
		if f.o.Managed {
			return managed(KeyKind, "setrotationpolicy")
		}
		o, now := *f.o, s.now().Unix()
		o.Rotation = &rotationRecord{ExpiryTime: p.ExpiryTime, Actions: p.Actions, Created: now, Updated: now}
		if f.o.Rotation != nil {
			o.Rotation.Created = f.o.Rotation.Created
		}
		out = o.Rotation.policy(v, &o)
		return errors.Join(s.reschedule(tx, v, &o, f.rec), record.Put(tx, objectKey(v, KeyKind, name), o))
	})
	return out, err
}

// RotateKey makes a new version like the current one, with the expiry that the policy gives.
func (s *Service) RotateKey(ctx context.Context, caller *identity.Caller, vault, name string) (Key, error) {
	if err := checkName(name); err != nil {
		return Key{}, err
	}
	var old *versionRecord
	err := s.read(ctx, caller, vault, KeyRotate, name, func(r store.Reader, v *resource.Vault) error {
		f, err := s.find(r, v, KeyKind, name, "")
		if err != nil {
			return err
		}
		if f.o.Managed {
			return managed(KeyKind, "rotate")
		}
		old = f.rec
		return nil
	})
	if err != nil {
		return Key{}, err
	}
	made, err := s.generate(ctx, caller, old.Key.generation())
	if err != nil {
		return Key{}, err
	}
	var out Key
	err = s.write(ctx, caller, vault, KeyRotate, name, func(tx store.Tx, v *resource.Vault) error {
		f, err := s.find(tx, v, KeyKind, name, "")
		if err != nil {
			return err
		}
		if f.o.Managed {
			return managed(KeyKind, "rotate")
		}
		if f.rec.Key.generation() != old.Key.generation() {
			return &Error{Kind: Conflict, Object: KeyKind, Message: "The key was changed meanwhile. Try again."}
		}
		next, err := s.rotate(tx, f, record.NewID(), made)
		out = next.key()
		return err
	})
	return out, err
}

// generation is what a new version of the same kind is made from.
func (k *keyRecord) generation() hsm.Spec {
	spec := k.spec()
	for _, b := range k.E {
		spec.Exponent = spec.Exponent<<8 | int(b)
	}
	return spec
}

// rotate stores a key that was just made as the version after f. What the owner has set about that one holds for it too:
// operations, tags, and that it is disabled; the times are those of the policy.
func (s *Service) rotate(tx store.Tx, f found, version string, made hsm.New) (found, error) {
	rec := s.newVersion(Attributes{}, f.rec.Tags)
	rec.Version = version
	rec.Disabled = f.rec.Disabled
	rec.Key = s.newKeyRecord(made, f.rec.Key.HSM, f.rec.Key.Exportable)
	rec.Key.Operations = f.rec.Key.Operations
	if f.o.Rotation != nil && f.o.Rotation.ExpiryTime != "" {
		life, err := parsePeriod(f.o.Rotation.ExpiryTime)
		if err != nil {
			return found{}, err
		}
		expires := life.after(rec.Created)
		rec.Expires = &expires
	}
	o := *f.o
	next := found{f.v, &o, &rec}
	return next, s.putVersion(tx, f.v, KeyKind, &o, &rec, made.Blob)
}

// plan computes when a live key is to be rotated and when notice of its expiry is to be given, from its policy and its
// current version. Zero means never.
func (s *Service) plan(o *objectRecord, current *versionRecord) {
	o.RotateAt, o.NotifyAt = 0, 0
	if current.Key == nil || o.Managed {
		return
	}
	if a, ok := o.Rotation.action(ActionRotate); ok {
		o.RotateAt = a.at(current)
	}
	if current.Expires == nil || *current.Expires <= s.now().Unix() {
		return
	}
	given := o.Notified != nil && *o.Notified == notice{current.Version, *current.Expires}
	if a, ok := o.Rotation.action(ActionNotify); ok && !given {
		o.NotifyAt = a.at(current)
	}
}

// at is when the action happens to a version; 0 means never, because it does not expire.
func (a LifetimeAction) at(current *versionRecord) int64 {
	trigger, err := parsePeriod(a.AfterCreate + a.BeforeExpiry)
	switch {
	case err != nil:
		return 0 // it was checked when it was set
	case a.AfterCreate != "":
		return trigger.after(current.Created)
	case current.Expires == nil:
		return 0
	}
	return trigger.before(*current.Expires)
}

func dueKeyKey(at int64, what string, v *resource.Vault, name string) string {
	return record.DueTime(at) + what + "/" + v.ContentID() + "/" + string(KeyKind) + "/" + strings.ToLower(name)
}

// schedule puts a live object's due entries in place; unschedule takes them away.
func schedule(tx store.Tx, v *resource.Vault, o *objectRecord) error {
	return o.forDue(func(at int64, what string) error {
		return tx.Put(dueKeyKey(at, what, v, o.Name), []byte(v.Resource()))
	})
}

func unschedule(tx store.Tx, v *resource.Vault, o *objectRecord) error {
	return o.forDue(func(at int64, what string) error { return tx.Delete(dueKeyKey(at, what, v, o.Name)) })
}

func (o *objectRecord) forDue(do func(at int64, what string) error) error {
	var rotate, notify error
	if o.RotateAt != 0 {
		rotate = do(o.RotateAt, dueRotate)
	}
	if o.NotifyAt != 0 {
		notify = do(o.NotifyAt, dueNotify)
	}
	return errors.Join(rotate, notify)
}

// reschedule moves a live object's due entries to where its policy and its current version put them. The caller stores o.
func (s *Service) reschedule(tx store.Tx, v *resource.Vault, o *objectRecord, current *versionRecord) error {
	err := unschedule(tx, v, o)
	s.plan(o, current)
	return errors.Join(err, schedule(tx, v, o))
}

// errNotDue undoes an attempt that turns out to be somebody else's, or nobody's any more.
var errNotDue = errors.New("keyvault: nothing is due")

// dueObject returns the live key that a due entry is about and its current version. An entry that has outlived its
// reason is removed and reported as errNotDue; one in a deleted vault waits.
func (s *Service) dueObject(tx store.Tx, due, vaultID, what string, at int64, where []string) (found, error) {
	still, err := record.Exists(tx, due)
	if err == nil && !still {
		err = errNotDue
	}
	if err != nil {
		return found{}, err
	}
	o, err := record.Get[objectRecord](tx, "object/"+strings.Join(where, "/"))
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return found{}, err
	}
	planned := err == nil && (what == dueRotate && o.RotateAt == at || what == dueNotify && o.NotifyAt == at)
	if !planned {
		return found{}, tx.Delete(due)
	}
	v, err := s.loadResource(tx, vaultID)
	if errors.Is(err, resource.ErrVaultNotFound) || err == nil && v.ContentID() != where[0] {
		return found{}, errNotDue // purged with everything in it
	}
	if err != nil {
		return found{}, err
	}
	rec, err := s.current(tx, o)
	return found{v, o, rec}, err
}

// loadResource returns the vault or managed HSM of a resource id in upper case, deleted or not, or resource.ErrVaultNotFound.
func (s *Service) loadResource(r store.Reader, id string) (*resource.Vault, error) {
	at := strings.LastIndexByte(id, '/') + 1
	family := &Service{s.installation, strings.HasSuffix(id[:at], "/MANAGEDHSMS/")}
	return family.loadAny(r, id[at:])
}

// holdOff is for how many seconds nothing happens to the keys of a deleted vault, or of a managed HSM whose content is being
// replaced, after it was looked at. It is 0 if what is due can be done.
func holdOff(v *resource.Vault) int64 {
	switch {
	case v.Deleted != 0:
		return secondsPerDay // it may be recovered
	case v.Restoring != "":
		return 10 * 60
	}
	return 0
}

// keyDue carries out what is due for a key. Several servers may try at once: one commits.
func (s *Service) keyDue(ctx context.Context, due, vaultID string, at int64, what string, where []string) (bool, error) {
	var f found
	err := s.db.Update(ctx, func(tx store.Tx) error {
		var err error
		if f, err = s.dueObject(tx, due, vaultID, what, at, where); err != nil || f.v == nil {
			return err
		}
		wait := holdOff(f.v)
		if wait == 0 {
			return nil
		}
		o := *f.o
		err = unschedule(tx, f.v, &o)
		if what == dueRotate {
			o.RotateAt = s.now().Unix() + wait
		} else {
			o.NotifyAt = s.now().Unix() + wait
		}
		f.o = nil
		return errors.Join(err, schedule(tx, f.v, &o), record.Put(tx, objectKey(f.v, KeyKind, o.Name), o))
	})
	if errors.Is(err, errNotDue) || err == nil && f.o == nil {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	rec := audit.Record{
		Time: s.now(), Category: audit.Intent, ResourceID: vaultID, UPN: "rotation policy",
		CorrelationID: audit.CorrelationID(ctx), ID: f.o.Name + "/" + f.rec.Version,
	}
	if what == dueNotify {
		rec.Operation = "KeyNearExpiryEventGridNotification"
		return s.actOnDue(ctx, rec, due, at, what, where, s.notifyKey)
	}
	version := record.NewID()
	rec.Operation, rec.ID = "KeyRotateIfDue", f.o.Name+"/"+version
	made, err := s.hsm.Generate(ctx, f.rec.Key.generation())
	if err != nil {
		return false, fmt.Errorf("rotate the key %s of %s: %w", f.o.Name, vaultID, err)
	}
	return s.actOnDue(ctx, rec, due, at, what, where, func(tx store.Tx, now found) error {
		if now.rec.Version != f.rec.Version {
			return errNotDue
		}
		_, err := s.rotate(tx, now, version, made)
		return err
	})
}

// actOnDue runs act in the transaction that re-checks, between an intent and an outcome on record.
func (s *Service) actOnDue(ctx context.Context, rec audit.Record, due string, at int64, what string, where []string,
	act func(store.Tx, found) error) (bool, error) {
	err := s.resources.Recorded(ctx, rec, func() error {
		return s.db.Update(ctx, func(tx store.Tx) error {
			f, err := s.dueObject(tx, due, rec.ResourceID, what, at, where)
			if err == nil && (f.v == nil || holdOff(f.v) != 0) {
				err = errNotDue
			}
			if err != nil {
				return err
			}
			return act(tx, f)
		})
	})
	if errors.Is(err, errNotDue) {
		return false, nil
	}
	return err == nil, err
}

// notifyKey records the event that a key's current version is near its expiry, once for each expiry of each version. What
// has expired meanwhile is near it no longer.
func (s *Service) notifyKey(tx store.Tx, f found) error {
	o := *f.o
	if err := unschedule(tx, f.v, &o); err != nil {
		return err
	}
	o.Notified = &notice{f.rec.Version, *f.rec.Expires} // without an expiry nothing is due
	s.plan(&o, f.rec)
	var told error
	if *f.rec.Expires > s.now().Unix() {
		told = s.putEvent(tx, "Microsoft.KeyVault.KeyNearExpiry", KeyKind, f)
	}
	return errors.Join(told, schedule(tx, f.v, &o), record.Put(tx, objectKey(f.v, KeyKind, o.Name), o))
}
