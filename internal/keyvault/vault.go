package keyvault

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

// Retention of soft-deleted objects and vaults, in days.
const (
	MinRetentionDays     = 7
	MaxRetentionDays     = 90
	DefaultRetentionDays = 90
)

const maxAdministrators = 1024

// A Tier is what kinds of keys a vault can have, Azure's SKU.
type Tier string

// The tiers.
const (
	Standard   Tier = "standard"
	Premium    Tier = "premium"    // also keys that an HSM keeps
	ManagedHSM Tier = "managedhsm" // only those
)

// An Operator is the person at the machine: whoever can reach the local administration socket. The file system decides
// who that is, so no token and no role is involved.
type Operator struct {
	Name string // for the audit log: the operating system's user
}

// A Vault is a vault as its operators see it.
type Vault struct {
	Name            string
	TenantID        string
	SubscriptionID  string
	ResourceGroup   string
	Location        string
	Tier            Tier // "" means Standard
	RetentionDays   int
	PurgeProtection bool
	Administrators  []string // object ids that may do everything in it
	Created         time.Time
	Deleted         time.Time // zero for a live vault
	ScheduledPurge  time.Time
}

type vaultRecord struct {
	record.Format
	ID              string   `json:"id"`
	Name            string   `json:"name"`
	TenantID        string   `json:"tenantId"`
	SubscriptionID  string   `json:"subscriptionId"`
	ResourceGroup   string   `json:"resourceGroup"`
	Location        string   `json:"location"`
	Tier            Tier     `json:"tier,omitempty"`
	RetentionDays   int      `json:"retentionDays"`
	PurgeProtection bool     `json:"purgeProtection,omitempty"`
	Administrators  []string `json:"administrators"`
	Created         int64    `json:"created"`
	Deleted         int64    `json:"deleted,omitempty"`
	PurgeAt         int64    `json:"purgeAt,omitempty"`

	resource string // resourceID, made when the record is read
}

func decodeVault(plaintext []byte) (*vaultRecord, error) {
	v, err := record.Decode[vaultRecord](plaintext)
	if err == nil {
		v.resource = v.resourceID()
	}
	return v, err
}

func vaultKey(name string) string { return "vault/" + strings.ToLower(name) }

func (v *vaultRecord) resourceID() string {
	return strings.ToUpper("/subscriptions/" + v.SubscriptionID + "/resourceGroups/" + v.ResourceGroup +
		"/providers/Microsoft.KeyVault/vaults/" + v.Name)
}

func (v *vaultRecord) tier() Tier {
	if v.Tier == "" { // made by a release that knew no other
		return Standard
	}
	return v.Tier
}

// mayHold tells whether the vault can have keys that an HSM keeps, or that none keeps.
func (v *vaultRecord) mayHold(inHSM bool) bool {
	if inHSM {
		return v.tier() != Standard
	}
	return v.tier() != ManagedHSM
}

// recoveryLevel is how deletion works in the vault, in Azure's words (contract §3.2).
func (v *vaultRecord) recoveryLevel() string {
	level := "Recoverable"
	if v.RetentionDays < MaxRetentionDays {
		level = "CustomizedRecoverable"
	}
	if !v.PurgeProtection {
		level += "+Purgeable"
	}
	return level
}

func (v *vaultRecord) vault() Vault {
	out := Vault{
		Name:            v.Name,
		TenantID:        v.TenantID,
		SubscriptionID:  v.SubscriptionID,
		ResourceGroup:   v.ResourceGroup,
		Location:        v.Location,
		Tier:            v.tier(),
		RetentionDays:   v.RetentionDays,
		PurgeProtection: v.PurgeProtection,
		Administrators:  slices.Clone(v.Administrators),
		Created:         time.Unix(v.Created, 0).UTC(),
	}
	if v.Deleted != 0 {
		out.Deleted = time.Unix(v.Deleted, 0).UTC()
		out.ScheduledPurge = time.Unix(v.PurgeAt, 0).UTC()
	}
	return out
}

func noVault(name string) error {
	return &Error{Kind: VaultNotFound, Message: fmt.Sprintf("There is no vault named %.64q on this server.", name)}
}

// loadVault returns the vault of that name, deleted or not.
func (s *Service) loadVault(r store.Reader, name string) (*vaultRecord, error) {
	if len(name) > 24 {
		return nil, noVault(name)
	}
	v, err := s.vaults.Load(r, vaultKey(name), decodeVault)
	if errors.Is(err, store.ErrNotFound) {
		return nil, noVault(name)
	}
	return v, err
}

// liveVault is loadVault for a vault that is not deleted.
func (s *Service) liveVault(r store.Reader, name string) (*vaultRecord, error) {
	v, err := s.loadVault(r, name)
	if err == nil && v.Deleted != 0 {
		return nil, noVault(name)
	}
	return v, err
}

// VaultResource returns the ARM resource id of a vault in upper case, for the audit log, or "" if there is none.
func (s *Service) VaultResource(ctx context.Context, name string) (string, error) {
	var id string
	err := s.db.View(ctx, func(r store.Reader) error {
		v, err := s.loadVault(r, name)
		if err == nil {
			id = v.resource
		}
		return err
	})
	var refused *Error
	if errors.As(err, &refused) {
		return "", nil
	}
	return id, err
}

// Azure's rule: 3 to 24 letters, digits and single hyphens, starting with a letter, ending with a letter or digit.
var vaultName = regexp.MustCompile(`^[a-zA-Z](?:-?[a-zA-Z0-9])+$`)

func (v *Vault) validate() error {
	bad := func(format string, args ...any) error {
		return &Error{Kind: BadParameter, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case len(v.Name) < 3 || len(v.Name) > 24 || !vaultName.MatchString(v.Name):
		return bad("The vault name %.64q is invalid. A vault's name must be between 3-24 alphanumeric characters. The name "+
			"must begin with a letter, end with a letter or digit, and not contain consecutive hyphens.", v.Name)
	case v.RetentionDays < MinRetentionDays || v.RetentionDays > MaxRetentionDays:
		return bad("The retention of deleted objects must be between %d and %d days, not %d.",
			MinRetentionDays, MaxRetentionDays, v.RetentionDays)
	case v.TenantID == "":
		return bad("The vault needs a tenant.")
	case v.Tier != "" && v.Tier != Standard && v.Tier != Premium && v.Tier != ManagedHSM:
		return bad("The vault's tier (SKU) must be %s or %s, not %.64q.", Standard, Premium, v.Tier)
	case len(v.Administrators) > maxAdministrators:
		return bad("A vault can have %d administrators at most.", maxAdministrators)
	}
	for _, id := range v.Administrators {
		const length = 36 // of the only form of a GUID that Azure's wire has
		guid := strings.TrimPrefix(strings.ToLower(id), authz.GroupPrefix)
		if len(guid) != length || uuid.Validate(guid) != nil {
			return bad("%.64q is no administrator: give the object id of a principal, which is a GUID, or %s and that of a group.",
				id, authz.GroupPrefix)
		}
	}
	return nil
}

// CreateVault makes an empty vault. Zero RetentionDays means the default; the name must be free, also among deleted
// vaults.
func (s *Service) CreateVault(ctx context.Context, op Operator, v Vault) (Vault, error) {
	if v.RetentionDays == 0 {
		v.RetentionDays = DefaultRetentionDays
	}
	if err := v.validate(); err != nil {
		return Vault{}, err
	}
	rec := vaultRecord{
		Format:          record.Current(),
		ID:              record.NewID(),
		Name:            v.Name,
		TenantID:        v.TenantID,
		SubscriptionID:  v.SubscriptionID,
		ResourceGroup:   v.ResourceGroup,
		Location:        v.Location,
		Tier:            v.Tier,
		RetentionDays:   v.RetentionDays,
		PurgeProtection: v.PurgeProtection,
		Administrators:  slices.Clone(v.Administrators),
		Created:         s.now().Unix(),
	}
	err := s.operate(ctx, op, "VaultPut", v.Name, rec.resourceID(), func(tx store.Tx) error {
		switch old, err := s.loadVault(tx, v.Name); {
		case err == nil && old.Deleted != 0:
			return &Error{Kind: Conflict, Message: fmt.Sprintf("A vault with the name '%s' exists in the deleted state. "+
				"Recover it, purge it, or choose another name.", old.Name)}
		case err == nil:
			return &Error{Kind: Conflict, Message: fmt.Sprintf("The vault name '%s' is already in use.", old.Name)}
		case !isKind(err, VaultNotFound):
			return err
		}
		return record.Put(tx, vaultKey(v.Name), rec)
	})
	if err != nil {
		return Vault{}, err
	}
	return rec.vault(), nil
}

// GetVault returns a vault, deleted or not.
func (s *Service) GetVault(ctx context.Context, name string) (Vault, error) {
	var out Vault
	err := s.db.View(ctx, func(r store.Reader) error {
		v, err := s.loadVault(r, name)
		if err == nil {
			out = v.vault()
		}
		return err
	})
	return out, err
}

// ListVaults returns all vaults by name, deleted ones too.
func (s *Service) ListVaults(ctx context.Context) ([]Vault, error) {
	var out []Vault
	err := s.db.View(ctx, func(r store.Reader) error {
		out = nil
		for e, err := range r.Scan("vault/", store.PrefixEnd("vault/")) {
			if err != nil {
				return err
			}
			v, err := record.Decode[vaultRecord](e.Value)
			if err != nil {
				return err
			}
			out = append(out, v.vault())
		}
		return nil
	})
	return out, err
}

// ChangeAdministrators adds and removes administrators of a vault. Adding one that is there, or removing one that is not, is
// no error.
func (s *Service) ChangeAdministrators(ctx context.Context, op Operator, name string, add, remove []string) (Vault, error) {
	return s.changeVault(ctx, op, "VaultPatch", name, func(_ store.Tx, v *vaultRecord) error {
		if v.Deleted != 0 {
			return noVault(name)
		}
		same := func(a string) func(string) bool { return func(b string) bool { return strings.EqualFold(a, b) } }
		list := slices.DeleteFunc(slices.Clone(v.Administrators), func(id string) bool {
			return slices.ContainsFunc(remove, same(id))
		})
		for _, id := range add {
			if !slices.ContainsFunc(list, same(id)) {
				list = append(list, id)
			}
		}
		v.Administrators = list
		changed := v.vault()
		return changed.validate()
	})
}

// DeleteVault soft-deletes a vault: it answers no longer, and can be recovered until its retention has passed.
func (s *Service) DeleteVault(ctx context.Context, op Operator, name string) (Vault, error) {
	return s.changeVault(ctx, op, "VaultDelete", name, func(tx store.Tx, v *vaultRecord) error {
		if v.Deleted != 0 {
			return noVault(name)
		}
		v.Deleted = s.now().Unix()
		v.PurgeAt = v.Deleted + int64(v.RetentionDays)*secondsPerDay
		return tx.Put(dueVaultKey(v.PurgeAt, v.Name), []byte(v.resourceID()))
	})
}

// RecoverVault brings a soft-deleted vault back as it was.
func (s *Service) RecoverVault(ctx context.Context, op Operator, name string) (Vault, error) {
	return s.changeVault(ctx, op, "VaultRecover", name, func(tx store.Tx, v *vaultRecord) error {
		if v.Deleted == 0 {
			return &Error{Kind: Conflict, Message: fmt.Sprintf("The vault '%s' is not deleted.", v.Name)}
		}
		due := dueVaultKey(v.PurgeAt, v.Name)
		v.Deleted, v.PurgeAt = 0, 0
		return tx.Delete(due)
	})
}

// PurgeVault destroys a soft-deleted vault and everything in it, for ever.
func (s *Service) PurgeVault(ctx context.Context, op Operator, name string) error {
	v, err := s.GetVault(ctx, name)
	if err != nil {
		return err
	}
	return s.operate(ctx, op, "VaultPurge", name, vaultResource(v), func(tx store.Tx) error {
		v, err := s.loadVault(tx, name)
		switch {
		case err != nil:
			return err
		case v.Deleted == 0:
			return &Error{Kind: Conflict, Message: fmt.Sprintf("The vault '%s' is not deleted. Delete it first.", v.Name)}
		case v.PurgeProtection:
			return &Error{Kind: PurgeProtected, Message: fmt.Sprintf("Purge protection is enabled for the vault '%s'. It will "+
				"be purged automatically on %s.", v.Name, time.Unix(v.PurgeAt, 0).UTC().Format(time.RFC3339))}
		}
		return s.purgeVault(tx, v)
	})
}

// purgeVault removes the vault in one step and leaves its objects to the collector.
func (s *Service) purgeVault(tx store.Tx, v *vaultRecord) error {
	if err := tx.Delete(vaultKey(v.Name)); err != nil {
		return err
	}
	if err := tx.Delete(dueVaultKey(v.PurgeAt, v.Name)); err != nil {
		return err
	}
	return record.Put(tx, garbageKey(v.ID), garbageRecord{Format: record.Current(), Vault: true, After: s.now().Unix()})
}

func vaultResource(v Vault) string {
	return (&vaultRecord{Name: v.Name, SubscriptionID: v.SubscriptionID, ResourceGroup: v.ResourceGroup}).resourceID()
}

func (s *Service) changeVault(ctx context.Context, op Operator, name, vault string,
	change func(tx store.Tx, v *vaultRecord) error) (Vault, error) {
	before, err := s.GetVault(ctx, vault)
	if err != nil {
		return Vault{}, err
	}
	var out Vault
	err = s.operate(ctx, op, name, vault, vaultResource(before), func(tx store.Tx) error {
		shared, err := s.loadVault(tx, vault)
		if err != nil {
			return err
		}
		v := *shared
		if err := change(tx, &v); err != nil {
			return err
		}
		out = v.vault()
		return record.Put(tx, vaultKey(v.Name), v)
	})
	return out, err
}

// operate is write for an operator: intent, transaction, outcome.
func (s *Service) operate(ctx context.Context, op Operator, name, vault, resource string, fn func(store.Tx) error) error {
	rec := audit.Record{
		Time:          s.now(),
		Category:      audit.Intent,
		ResourceID:    resource,
		Operation:     name,
		UPN:           op.Name,
		CorrelationID: audit.CorrelationID(ctx),
		ID:            vault,
	}
	return s.Recorded(ctx, rec, func() error { return s.db.Update(ctx, fn) })
}

// Recorded runs act between an intent and an outcome record, for work that no request stands behind.
func (s *Service) Recorded(ctx context.Context, rec audit.Record, act func() error) error {
	if err := s.audit.Write(ctx, &rec); err != nil {
		return err
	}
	err := act()
	rec.Category, rec.Time = audit.Event, s.now()
	rec.ResultType, rec.ResultSignature = "Success", "OK"
	if err != nil {
		rec.ResultType, rec.ResultSignature, rec.ResultDescription = "Failure", "Failed", err.Error()
	}
	// The outcome is recorded even if whoever asked has gone.
	return errors.Join(err, s.audit.Write(context.WithoutCancel(ctx), &rec))
}

func isKind(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}
