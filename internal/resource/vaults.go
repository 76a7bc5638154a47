package resource

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

// PutVaultParams is what a vault shall be. A nil member means the default in a new vault and, in one that is there, as it is;
// what access depends on never changes by being left out, which holds for each member of Network by itself.
type PutVaultParams struct {
	Location                     string // may be empty for a vault that is there
	Tags                         map[string]string
	Tier                         Tier   // "" is Standard in a new vault
	TenantID                     string // "" is that of the installation
	AccessPolicies               []authz.AccessPolicy
	RBAC                         *bool
	DefaultRBAC                  bool // what a nil RBAC means for a new vault
	RetentionDays                *int
	PurgeProtection              *bool
	SoftDelete                   *bool // can only be true
	EnabledForDeployment         *bool
	EnabledForDiskEncryption     *bool
	EnabledForTemplateDeployment *bool
	Network                      *authz.NetworkRules
	PublicNetworkAccess          *string

	// Recover brings a soft-deleted vault back as it was; nothing else of the parameters counts then.
	Recover bool

	Administrators []string // from operators only
}

// PatchVaultParams is what changes about a vault. A nil member stays as it is, and so does one of Network; Tags replaces all
// tags.
type PatchVaultParams struct {
	Tags                         map[string]string
	Tier                         Tier
	TenantID                     string // can only be what it is
	AccessPolicies               []authz.AccessPolicy
	RBAC                         *bool
	RetentionDays                *int // can only be what it is
	PurgeProtection              *bool
	SoftDelete                   *bool // can only be true
	EnabledForDeployment         *bool
	EnabledForDiskEncryption     *bool
	EnabledForTemplateDeployment *bool
	Network                      *authz.NetworkRules
	PublicNetworkAccess          *string
}

// settings are what can be asked for about a vault or a managed HSM.
type settings struct {
	PatchVaultParams
	location       string
	skuName        string
	administrators []string
	identities     []string // nil: as they are
	defaultRBAC    bool
	recover        bool
	fresh          bool // the name must be free
}

// PutVault makes a vault, replaces what can be replaced about one that is there, or recovers a deleted one.
func (s *Service) PutVault(ctx context.Context, a Actor, group, name string, p PutVaultParams) (v *Vault, created bool, err error) {
	if err := p.check(a); err != nil {
		return nil, false, err
	}
	return s.put(ctx, a, &vaultFamily, group, name, p.settings())
}

// CreateVault is PutVault for a vault that must not be there yet.
func (s *Service) CreateVault(ctx context.Context, a Actor, group, name string, p PutVaultParams) (*Vault, error) {
	in := p.settings()
	in.fresh, in.recover = true, false
	if err := p.check(a); err != nil {
		return nil, err
	}
	v, _, err := s.put(ctx, a, &vaultFamily, group, name, in)
	return v, err
}

// check refuses what is for operators alone.
func (p *PutVaultParams) check(a Actor) error {
	if a.Operator == "" && p.Administrators != nil {
		return &Error{Kind: SkuNotSupported, Target: "sku", Message: "Only the operator of the installation makes such a vault."}
	}
	return nil
}

func (p *PutVaultParams) settings() settings {
	in := settings{
		PatchVaultParams: PatchVaultParams{
			Tags: p.Tags, Tier: p.Tier, TenantID: p.TenantID, AccessPolicies: p.AccessPolicies, RBAC: p.RBAC,
			RetentionDays: p.RetentionDays, PurgeProtection: p.PurgeProtection, SoftDelete: p.SoftDelete,
			EnabledForDeployment: p.EnabledForDeployment, EnabledForDiskEncryption: p.EnabledForDiskEncryption,
			EnabledForTemplateDeployment: p.EnabledForTemplateDeployment, Network: p.Network, PublicNetworkAccess: p.PublicNetworkAccess,
		},
		location: p.Location, defaultRBAC: p.DefaultRBAC, recover: p.Recover, administrators: p.Administrators,
	}
	if in.Tags == nil { // to replace a resource is to replace its tags
		in.Tags = map[string]string{}
	}
	return in
}

func (s *Service) put(ctx context.Context, a Actor, f *family, group, name string, in settings) (v *Vault, created bool, err error) {
	scope, err := s.scope(f, group, name)
	if err == nil {
		err = s.checkPolicies(in.AccessPolicies)
	}
	if err != nil {
		return nil, false, err
	}
	operation := f.put
	if in.recover {
		operation = f.recover
	}
	err = s.changeVault(ctx, a, f, operation, f.write, scope, group, name, in.detail(), func(tx store.Tx) error {
		old, err := s.load(tx, f, name)
		created = false
		switch {
		case errors.Is(err, ErrVaultNotFound) && in.recover:
			return neverDeleted(f, name)
		case errors.Is(err, ErrVaultNotFound):
			created = true
			v, err = s.create(tx, a, f, group, name, in)
		case err != nil:
		case !strings.EqualFold(old.ResourceGroup, group), in.fresh && old.Deleted == 0:
			return taken(f, old, in.recover)
		case old.Deleted != 0 && !in.recover:
			return &Error{Kind: ConflictError, Message: fmt.Sprintf("A %s with the name '%s' exists in the deleted state. Recover it, purge "+
				"it, or choose another name.", f.word, old.Name)}
		case in.recover:
			v, err = s.bringBack(tx, a, old)
		default:
			v, err = s.alter(tx, a, old, in)
		}
		return err
	})
	if err != nil {
		return nil, false, err
	}
	return v, created, nil
}

// taken is the answer to who asks for a name that a vault in another group has. He may know no more about it.
func taken(f *family, old *Vault, recovering bool) error {
	if recovering {
		return neverDeleted(f, old.Name)
	}
	return &Error{Kind: VaultAlreadyExists, Message: fmt.Sprintf("The %s name '%s' is already in use. Names are unique in the whole "+
		"installation, also among deleted ones.", f.word, old.Name)}
}

func neverDeleted(f *family, name string) error {
	return &Error{Kind: SoftDeletedVaultDoesNotExist, Message: fmt.Sprintf("There is no deleted %s named '%s' that could be recovered "+
		"there.", f.word, bounded(name))}
}

// changeVault is change for something about one vault.
func (s *Service) changeVault(ctx context.Context, a Actor, f *family, operation, action string, scope authz.Scope,
	group, name, detail string, fn func(store.Tx) error) error {
	may := func(r store.Reader) error { return s.authorize(r, a, action, scope) }
	return s.change(ctx, a, deed{operation, s.armID(f, group, name), name, detail}, may, fn)
}

// create makes a vault in a group that is there. An operator's group is made with it.
func (s *Service) create(tx store.Tx, a Actor, f *family, group, name string, in settings) (*Vault, error) {
	location, err := s.location(in.location)
	if err != nil {
		return nil, err
	}
	g, err := loadGroup(tx, group)
	if IsKind(err, ResourceGroupNotFound) && a.Operator != "" {
		g = &groupRecord{Format: record.Current(), Name: group, Location: location, Created: s.now().Unix()}
		err = record.Put(tx, groupKey(group), g)
	}
	if err != nil {
		return nil, err
	}
	v := &Vault{
		ID: record.NewID(), Name: name, TenantID: s.cfg.TenantID, SubscriptionID: s.install.SubscriptionID, ResourceGroup: g.Name,
		Location: location, Tier: Standard, RetentionDays: DefaultRetentionDays, RBAC: in.defaultRBAC, Administrators: in.administrators,
		PublicNetworkAccess: NetworkEnabled, Created: s.now().Unix(),
	}
	if err := checkAdministrators(v.Administrators); err != nil {
		return nil, err
	}
	if in.RetentionDays != nil {
		v.RetentionDays = *in.RetentionDays
	}
	if v.RetentionDays < MinRetentionDays || v.RetentionDays > MaxRetentionDays {
		return nil, invalidProperty("softDeleteRetentionInDays", "The retention of deleted objects must be between %d and %d days, not %d.",
			MinRetentionDays, MaxRetentionDays, v.RetentionDays)
	}
	if in.RBAC != nil {
		v.RBAC = *in.RBAC
	}
	if f == &hsmFamily {
		if err := checkInitialAdministrators(v.Administrators); err != nil {
			return nil, err
		}
		v.Tier, v.SKUName, v.Activation = ManagedHSM, in.skuName, NotActivated
	}
	v.CreatedBy, v.CreatedByType = a.name()
	return s.finish(tx, a, f, v, in)
}

// alter changes a vault that is there, within what can be changed.
func (s *Service) alter(tx store.Tx, a Actor, old *Vault, in settings) (*Vault, error) {
	v := *old
	switch {
	case in.location != "" && !sameLocation(in.location, old.Location):
		return nil, &Error{Kind: ConflictError, Target: "location", Message: fmt.Sprintf("The resource '%s' already exists in location '%s' "+
			"in resource group '%s'. A resource with the same name cannot be created in location '%s'. Please select a new resource name.",
			old.Name, old.Location, old.ResourceGroup, bounded(in.location))}
	case in.RetentionDays != nil && *in.RetentionDays != old.RetentionDays:
		return nil, invalidProperty("softDeleteRetentionInDays", `The property "softDeleteRetentionInDays" has been set already and it can't be `+
			`modified.`)
	case in.skuName != "" && !strings.EqualFold(in.skuName, old.SKUName):
		return nil, &Error{Kind: SkuNotSupported, Target: "sku", Message: "The SKU of a managed HSM cannot be changed."}
	}
	if in.RBAC != nil && *in.RBAC != old.RBAC {
		err := s.asks(tx, a, func(r *authz.Roles, by authz.Subject) error { return r.CanChangeModel(by, old.Scope()) })
		if err != nil {
			return nil, err
		}
		v.RBAC = *in.RBAC
	}
	return s.finish(tx, a, old.family, &v, in)
}

// finish sets what can be set at any time, and stores the vault.
func (s *Service) finish(tx store.Tx, a Actor, f *family, v *Vault, in settings) (*Vault, error) {
	switch {
	case in.TenantID != "" && !strings.EqualFold(in.TenantID, v.TenantID):
		return nil, invalidProperty("tenantId", "The tenant of a %s is that of this installation, %s.", f.word, v.TenantID)
	case in.SoftDelete != nil && !*in.SoftDelete:
		return nil, invalidProperty("enableSoftDelete", `The property "enableSoftDelete" cannot be set to false: soft delete is always on.`)
	case in.PurgeProtection != nil && !*in.PurgeProtection:
		return nil, invalidProperty("enablePurgeProtection", `The property "enablePurgeProtection" cannot be set to false. Enabling the purge `+
			`protection for a vault is an irreversible action.`)
	}
	if f == &vaultFamily && in.Tier != "" {
		if in.Tier != Standard && in.Tier != Premium { // a managed HSM is no vault: its keys need a security domain
			return nil, &Error{Kind: SkuNotSupported, Target: "sku", Message: fmt.Sprintf("The vault's SKU must be %s or %s, not '%s'.",
				Standard, Premium, bounded(string(in.Tier)))}
		}
		v.Tier = in.Tier
	}
	v.PurgeProtection = v.PurgeProtection || in.PurgeProtection != nil
	for _, b := range []struct {
		to   *bool
		from *bool
	}{
		{&v.EnabledForDeployment, in.EnabledForDeployment},
		{&v.EnabledForDiskEncryption, in.EnabledForDiskEncryption},
		{&v.EnabledForTemplateDeployment, in.EnabledForTemplateDeployment},
	} {
		if b.from != nil {
			*b.to = *b.from
		}
	}
	if in.Tags != nil {
		if err := checkTags(in.Tags); err != nil {
			return nil, err
		}
		v.Tags = in.Tags
	}
	if in.identities != nil {
		if err := checkIdentities(in.identities); err != nil {
			return nil, err
		}
		v.Identities = in.identities
	}
	if in.AccessPolicies != nil {
		v.setPolicies(in.AccessPolicies)
	}
	if err := v.setNetwork(in.Network, in.PublicNetworkAccess); err != nil {
		return nil, err
	}
	return v, s.save(tx, a, f, v)
}

// save prepares and stores a vault that was changed.
func (s *Service) save(tx store.Tx, a Actor, f *family, v *Vault) error {
	v.touch(s.now().Unix(), a)
	if err := v.prepare(f); err != nil {
		return invalidText("accessPolicies", err)
	}
	return v.store(tx)
}

func (v *Vault) setPolicies(list []authz.AccessPolicy) {
	v.AccessPolicies = make([]authz.AccessPolicy, len(list))
	for i, p := range list {
		p.Keys, p.Secrets, p.Certificates, p.Storage = uniqueVerbs(p.Keys), uniqueVerbs(p.Secrets), uniqueVerbs(p.Certificates), uniqueVerbs(p.Storage)
		v.AccessPolicies[i] = p
	}
}

// overRules returns the rules with what is left out of them as it was in the old ones, if there are any.
func overRules(old *authz.NetworkRules, next authz.NetworkRules) authz.NetworkRules {
	if old == nil {
		old = &authz.NetworkRules{Bypass: authz.BypassAzureServices, DefaultAction: authz.AllowAddresses}
		if len(next.IPRules)+len(next.VirtualNetworks) > 0 {
			old.DefaultAction = authz.DenyAddresses // rules are for letting in: whoever sends some means that nobody else gets in
		}
	}
	next.Bypass = cmp.Or(next.Bypass, old.Bypass)
	next.DefaultAction = cmp.Or(next.DefaultAction, old.DefaultAction)
	if next.IPRules == nil {
		next.IPRules = old.IPRules
	}
	if next.VirtualNetworks == nil {
		next.VirtualNetworks = old.VirtualNetworks
	}
	return next
}

func (v *Vault) setNetwork(rules *authz.NetworkRules, public *string) error {
	if rules != nil {
		next := overRules(v.Network, *rules)
		if err := next.Validate(); err != nil {
			return invalidText("networkAcls", err)
		}
		v.Network = &next
	}
	if public == nil {
		return nil
	}
	for _, value := range []string{NetworkEnabled, NetworkDisabled} {
		if strings.EqualFold(*public, value) {
			v.PublicNetworkAccess = value
			return nil
		}
	}
	return invalidProperty("publicNetworkAccess", "The public network access must be %s or %s, not '%s'.", NetworkEnabled, NetworkDisabled,
		bounded(*public))
}

// bringBack recovers a soft-deleted vault.
func (s *Service) bringBack(tx store.Tx, a Actor, old *Vault) (*Vault, error) {
	if old.Deleted == 0 {
		return nil, &Error{Kind: ConflictError, Message: fmt.Sprintf("The %s '%s' is not deleted.", old.family.word, old.Name)}
	}
	if _, err := loadGroup(tx, old.ResourceGroup); err != nil && (a.Operator == "" || !IsKind(err, ResourceGroupNotFound)) {
		return nil, err
	} else if err != nil {
		g := groupRecord{Format: record.Current(), Name: old.ResourceGroup, Location: old.Location, Created: s.now().Unix()}
		if err := record.Put(tx, groupKey(g.Name), g); err != nil {
			return nil, err
		}
	}
	v := *old
	v.Deleted, v.PurgeAt = 0, 0
	return &v, errors.Join(tx.Delete(v.family.dueKey(old.PurgeAt, old.Name)), s.save(tx, a, v.family, &v))
}

// PatchVault changes what is named about a live vault.
func (s *Service) PatchVault(ctx context.Context, a Actor, group, name string, p PatchVaultParams) (*Vault, error) {
	return s.patch(ctx, a, &vaultFamily, group, name, settings{PatchVaultParams: p})
}

// checkPolicies bounds access policies before a transaction is held for them: nobody else can write meanwhile.
func (s *Service) checkPolicies(list []authz.AccessPolicy) error {
	if _, err := authz.CompileAccessPolicies(s.TenantID(), list); err != nil {
		return invalidText("accessPolicies", err)
	}
	return nil
}

func (s *Service) patch(ctx context.Context, a Actor, f *family, group, name string, in settings) (v *Vault, err error) {
	scope, err := s.scope(f, group, name)
	if err == nil {
		err = s.checkPolicies(in.AccessPolicies)
	}
	if err != nil {
		return nil, err
	}
	err = s.changeVault(ctx, a, f, f.patch, f.write, scope, group, name, in.detail(), func(tx store.Tx) error {
		old, err := s.liveIn(tx, f, group, name)
		if err == nil {
			v, err = s.alter(tx, a, old, in)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// liveIn returns the live vault of that name in a group, or the refusal.
func (s *Service) liveIn(r store.Reader, f *family, group, name string) (*Vault, error) {
	v, err := s.load(r, f, name)
	if errors.Is(err, ErrVaultNotFound) || err == nil && (v.Deleted != 0 || !strings.EqualFold(v.ResourceGroup, group)) {
		if _, err := loadGroup(r, group); err != nil {
			return nil, err
		}
		return nil, noResource(f, group, name)
	}
	return v, err
}

// GetVault returns a live vault.
func (s *Service) GetVault(ctx context.Context, a Actor, group, name string) (*Vault, error) {
	return s.getOne(ctx, a, &vaultFamily, group, name)
}

func (s *Service) getOne(ctx context.Context, a Actor, f *family, group, name string) (v *Vault, err error) {
	scope, err := s.scope(f, group, name)
	if err != nil {
		return nil, err
	}
	err = s.db.View(ctx, func(r store.Reader) (err error) {
		if err = s.authorize(r, a, f.read, scope); err == nil {
			v, err = s.liveIn(r, f, group, name)
		}
		return err
	})
	return v, err
}

// ListVaults returns the live vaults in a group, or in all groups if that is empty, that the actor may read, by name.
func (s *Service) ListVaults(ctx context.Context, a Actor, group string) ([]*Vault, error) {
	return s.list(ctx, a, &vaultFamily, group)
}

func (s *Service) list(ctx context.Context, a Actor, f *family, group string) ([]*Vault, error) {
	if group != "" {
		scope, err := s.groupScope(group)
		if err != nil {
			return nil, err
		}
		err = s.db.View(ctx, func(r store.Reader) error {
			_, err := loadGroup(r, group)
			if IsKind(err, ResourceGroupNotFound) { // who may not see groups does not learn which there are
				err = errors.Join(s.authorize(r, a, readGroup, scope), err)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return s.scan(ctx, f, func(r store.Reader, v *Vault) (bool, error) {
		if v.Deleted != 0 || group != "" && !strings.EqualFold(v.ResourceGroup, group) {
			return false, nil
		}
		err := s.authorize(r, a, f.read, v.Scope())
		if IsKind(err, AuthorizationFailed) {
			return false, nil
		}
		return err == nil, err
	})
}

// scan returns the vaults that are wanted, in one snapshot.
func (s *Service) scan(ctx context.Context, f *family, want func(store.Reader, *Vault) (bool, error)) (out []*Vault, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		out = nil
		for e, err := range r.Scan(f.prefix, store.PrefixEnd(f.prefix)) {
			if err != nil {
				return err
			}
			v, err := f.decode(e.Value)
			if err != nil {
				return err
			}
			wanted, err := want(r, v)
			if err != nil {
				return err
			}
			if wanted {
				out = append(out, v)
			}
		}
		return nil
	})
	return out, err
}

// DeleteVault soft-deletes a vault: it answers no longer, and can be recovered until its retention has passed. It reports whether
// there was one.
func (s *Service) DeleteVault(ctx context.Context, a Actor, group, name string) (existed bool, err error) {
	return s.remove(ctx, a, &vaultFamily, group, name)
}

func (s *Service) remove(ctx context.Context, a Actor, f *family, group, name string) (existed bool, err error) {
	scope, err := s.scope(f, group, name)
	if err != nil {
		return false, err
	}
	err = s.changeVault(ctx, a, f, f.remove, f.delete, scope, group, name, "", func(tx store.Tx) error {
		old, err := s.liveIn(tx, f, group, name)
		if existed = err == nil; !existed {
			if IsKind(err, ResourceNotFound) || IsKind(err, ResourceGroupNotFound) {
				return nil
			}
			return err
		}
		v := *old
		v.Deleted = s.now().Unix()
		v.PurgeAt = v.Deleted + int64(v.RetentionDays)*secondsPerDay
		return errors.Join(tx.Put(f.dueKey(v.PurgeAt, v.Name), []byte(v.Resource())), s.save(tx, a, f, &v))
	})
	return existed && err == nil, err
}

// An AccessPolicyChange is what to do with entries of a vault's access policies.
type AccessPolicyChange int

// The changes. An entry is found by its object and application id.
const (
	AddPolicies     AccessPolicyChange = iota // adds permissions, and entries that are not there
	ReplacePolicies                           // replaces the permissions of entries, and adds those that are not there
	RemovePolicies                            // takes permissions away, and entries that have none left
)

// ChangeAccessPolicies changes some of the access policies of a vault.
func (s *Service) ChangeAccessPolicies(ctx context.Context, a Actor, group, name string, op AccessPolicyChange,
	list []authz.AccessPolicy) (v *Vault, err error) {
	scope, err := s.scope(&vaultFamily, group, name)
	if err == nil {
		err = s.checkPolicies(list) // also what is to be taken away must make sense by itself
	}
	if err != nil {
		return nil, err
	}
	may := func(r store.Reader) error {
		return s.asks(r, a, func(roles *authz.Roles, by authz.Subject) error { return roles.CanWriteAccessPolicies(by, scope) })
	}
	d := deed{"VaultAccessPolicyPut", s.armID(&vaultFamily, group, name), name, op.String() + " " + policiesDetail(list)}
	err = s.change(ctx, a, d, may, func(tx store.Tx) error {
		old, err := s.liveIn(tx, &vaultFamily, group, name)
		if err != nil {
			return err
		}
		changed := *old
		changed.setPolicies(op.apply(old.AccessPolicies, list))
		v = &changed
		return s.save(tx, a, &vaultFamily, v)
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

func (op AccessPolicyChange) String() string { return [...]string{"add", "replace", "remove"}[op] }

func (op AccessPolicyChange) apply(old, list []authz.AccessPolicy) []authz.AccessPolicy {
	out := slices.Clone(old)
	for _, p := range list {
		i := slices.IndexFunc(out, func(q authz.AccessPolicy) bool {
			return strings.EqualFold(p.ObjectID, q.ObjectID) && strings.EqualFold(p.ApplicationID, q.ApplicationID)
		})
		switch {
		case i < 0 && op == RemovePolicies:
		case i < 0:
			out = append(out, p)
		case op == ReplacePolicies:
			out[i] = p
		case op == AddPolicies:
			q := out[i]
			q.Keys, q.Secrets = slices.Concat(q.Keys, p.Keys), slices.Concat(q.Secrets, p.Secrets)
			q.Certificates, q.Storage = slices.Concat(q.Certificates, p.Certificates), slices.Concat(q.Storage, p.Storage)
			out[i] = q
		default:
			q := out[i]
			q.Keys, q.Secrets = without(q.Keys, p.Keys), without(q.Secrets, p.Secrets)
			q.Certificates, q.Storage = without(q.Certificates, p.Certificates), without(q.Storage, p.Storage)
			out[i] = q
			if len(q.Keys)+len(q.Secrets)+len(q.Certificates)+len(q.Storage) == 0 {
				out = slices.Delete(out, i, i+1)
			}
		}
	}
	return out
}

// without takes verbs away. To take all away is to leave none; to take one away from all leaves no list that says so, and what
// cannot be said is not left.
func without(list, gone []string) []string {
	is := func(a string) func(string) bool { return func(b string) bool { return strings.EqualFold(a, b) } }
	if slices.ContainsFunc(gone, is("all")) {
		return slices.DeleteFunc(slices.Clone(list), func(v string) bool {
			return !strings.EqualFold(v, "purge") || slices.ContainsFunc(gone, is(v))
		})
	}
	return slices.DeleteFunc(slices.Clone(list), func(v string) bool {
		return slices.ContainsFunc(gone, is(v)) || len(gone) > 0 && strings.EqualFold(v, "all")
	})
}

// A NameAvailability says whether a name can be had.
type NameAvailability struct {
	Available bool
	Reason    string // "AccountNameInvalid" or "AlreadyExists"
	Message   string
}

// CheckName tells whether a vault, or a managed HSM, of that name could be made.
func (s *Service) CheckName(ctx context.Context, a Actor, name string, hsm bool) (out NameAvailability, err error) {
	f := &vaultFamily
	if hsm {
		f = &hsmFamily
	}
	err = s.db.View(ctx, func(r store.Reader) error {
		if err := s.authorize(r, a, f.checkName, s.SubscriptionScope()); err != nil {
			return err
		}
		if err := f.checkVaultName(name); err != nil {
			out = NameAvailability{Reason: "AccountNameInvalid", Message: err.Error()}
			return nil
		}
		_, err := s.load(r, f, name)
		switch {
		case err == nil:
			out = NameAvailability{Reason: "AlreadyExists", Message: fmt.Sprintf("The name '%s' is already in use.", name)}
		case errors.Is(err, ErrVaultNotFound):
			out, err = NameAvailability{Available: true}, nil
		}
		return err
	})
	return out, err
}

// ChangeAdministrators adds and removes administrators of a vault. Adding one that is there, or removing one that is not, is no
// error. It is for operators alone.
func (s *Service) ChangeAdministrators(ctx context.Context, a Actor, name string, add, remove []string) (v *Vault, err error) {
	before, err := s.FindVault(ctx, a, name)
	if err != nil {
		return nil, err
	}
	may := func(store.Reader) error {
		if a.Operator == "" {
			return unauthorized(a, vaultFamily.write, before.Scope(), "only operators name administrators")
		}
		return nil
	}
	d := deed{"VaultPatch", before.ARMID(), before.Name, administratorsDetail(add, remove)}
	err = s.change(ctx, a, d, may, func(tx store.Tx) error {
		old, err := s.liveIn(tx, &vaultFamily, before.ResourceGroup, name)
		if err != nil {
			return err
		}
		changed := *old
		same := func(a string) func(string) bool { return func(b string) bool { return strings.EqualFold(a, b) } }
		changed.Administrators = slices.DeleteFunc(slices.Clone(old.Administrators), func(id string) bool {
			return slices.ContainsFunc(remove, same(id))
		})
		for _, id := range add {
			if !slices.ContainsFunc(changed.Administrators, same(id)) {
				changed.Administrators = append(changed.Administrators, id)
			}
		}
		if err := checkAdministrators(changed.Administrators); err != nil {
			return err
		}
		v = &changed
		return s.save(tx, a, &vaultFamily, v)
	})
	if err != nil {
		return nil, err
	}
	return v, nil
}

// FindVault returns a vault by its name alone, deleted or not.
func (s *Service) FindVault(ctx context.Context, a Actor, name string) (v *Vault, err error) {
	err = s.db.View(ctx, func(r store.Reader) (err error) {
		v, err = s.load(r, &vaultFamily, name)
		if errors.Is(err, ErrVaultNotFound) {
			return &Error{Kind: ResourceNotFound, Message: fmt.Sprintf("There is no vault named %.64q on this server.", name)}
		}
		if err != nil {
			return err
		}
		return s.authorize(r, a, vaultFamily.read, v.Scope())
	})
	return v, err
}

// AllVaults returns all vaults and managed HSMs, deleted ones too, without those whose records do not open: for a check of the
// store.
func (s *Service) AllVaults(ctx context.Context) ([]*Vault, error) {
	vaults, err := s.all(ctx, &vaultFamily)
	if err != nil {
		return nil, err
	}
	hsms, err := s.all(ctx, &hsmFamily)
	return append(vaults, hsms...), err
}

func (s *Service) all(ctx context.Context, f *family) (out []*Vault, err error) {
	err = record.Each(ctx, s.db, f.prefix, store.PrefixEnd(f.prefix), func(error) {}, func(e store.Entry) {
		if v, err := f.decode(e.Value); err == nil {
			out = append(out, v)
		}
	})
	return out, err
}

func at(unix int64) string { return time.Unix(unix, 0).UTC().Format(time.RFC3339) }
