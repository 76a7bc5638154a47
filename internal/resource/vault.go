package resource

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"

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

const (
	secondsPerDay     = 24 * 60 * 60
	maxAdministrators = 1024
)

// A Tier is what kinds of keys a vault can have, Azure's SKU.
type Tier string

// The tiers.
const (
	Standard   Tier = "standard"
	Premium    Tier = "premium"    // also keys that an HSM keeps
	ManagedHSM Tier = "managedhsm" // only those
)

// Whether a vault can be reached by way of the public network.
const (
	NetworkEnabled  = "Enabled"
	NetworkDisabled = "Disabled"
)

// What a managed HSM is before its security domain has been taken from it or brought to it, and afterwards.
const (
	NotActivated = "NotActivated"
	Active       = "Active"
)

// A Vault is a vault or a managed HSM. It is shared: nobody may modify it.
type Vault struct {
	ID              string // random; stands in the keys of its objects
	Name            string
	TenantID        string
	SubscriptionID  string
	ResourceGroup   string
	Location        string
	Tags            map[string]string
	Tier            Tier
	SKUName         string   // of a managed HSM: "Standard_B1"
	Activation      string   // of a managed HSM: NotActivated or Active
	Content         string   // of a managed HSM: see ContentID
	Identities      []string // of a managed HSM: the ids of its user-assigned identities, which are kept for who reads them
	Restoring       string   // of a managed HSM: the id of the job that restores all that is in it, "" if none does
	RetentionDays   int
	PurgeProtection bool

	RBAC           bool // roles say who may do what in it, not its access policies
	AccessPolicies []authz.AccessPolicy

	// Administrators may do everything in it in both models: object ids of principals, and of groups after authz.GroupPrefix.
	// Operators name those of a vault. Those of a managed HSM are named when it is made, and activate it: then they get roles, and
	// the list counts no longer.
	Administrators []string

	EnabledForDeployment         bool
	EnabledForDiskEncryption     bool
	EnabledForTemplateDeployment bool

	Network             *authz.NetworkRules // nil: none
	PublicNetworkAccess string

	Created, Modified                                    int64
	CreatedBy, CreatedByType, ModifiedBy, ModifiedByType string

	Deleted, PurgeAt int64 // 0 for a live one

	// Made when the record is read.
	family   *family
	resource string
	policy   authz.Policy // without roles
}

// ARMID returns its id as Azure Resource Manager spells it.
func (v *Vault) ARMID() string {
	return "/subscriptions/" + v.SubscriptionID + "/resourceGroups/" + v.ResourceGroup + "/providers/Microsoft.KeyVault/" +
		v.family.collection + "/" + v.Name
}

// ContentID stands in the keys of what is in it. It is the vault's id, until all that is in a managed HSM is replaced.
func (v *Vault) ContentID() string {
	if v.Content != "" {
		return v.Content
	}
	return v.ID
}

// WithContent returns the managed HSM as it would be with another content.
func (v *Vault) WithContent(id string) *Vault {
	other := *v
	other.Content = id
	return &other
}

// InUse refuses what cannot be done in a managed HSM that is not activated, or whose content is being replaced.
func (v *Vault) InUse() error {
	switch {
	case v.family != &hsmFamily:
		return nil
	case v.Activation != Active:
		return &Error{Kind: HSMNotActivated, Message: fmt.Sprintf("The managed HSM '%s' is not activated. Download its security domain, or "+
			"upload one, to activate it.", v.Name)}
	case v.Restoring != "":
		return &Error{Kind: HSMRestoring, Message: fmt.Sprintf("The managed HSM '%s' is being restored by the job %s. Wait until that has "+
			"ended.", v.Name, v.Restoring)}
	}
	return nil
}

// IsInitialAdministrator tells whether a subject is one of those who may activate the managed HSM, by itself or by a group.
func (v *Vault) IsInitialAdministrator(s authz.Subject) bool {
	if v.family != &hsmFamily || !strings.EqualFold(s.TenantID, v.TenantID) {
		return false
	}
	return slices.ContainsFunc(v.Administrators, func(entry string) bool {
		id, kind := administratorOf(entry)
		a := RoleAssignment{Assignment: authz.Assignment{PrincipalID: id, PrincipalType: kind}}
		return a.concerns(s)
	})
}

// administratorOf reads an entry of a managed HSM's administrators. An id without a prefix may be a group's too, since Azure's
// clients write both so.
func administratorOf(entry string) (id string, kind authz.PrincipalType) {
	id = strings.ToLower(entry)
	if group, found := strings.CutPrefix(id, authz.GroupPrefix); found {
		return group, authz.GroupPrincipal
	}
	return id, authz.AnyPrincipal
}

// Resource returns its id in upper case, as the audit log has it.
func (v *Vault) Resource() string { return v.resource }

// Scope returns where assignments hold for it. A vault that was made when any group was allowed may have none: then no role
// is of use in it.
func (v *Vault) Scope() authz.Scope { return v.policy.Scope }

// MayHold tells whether the vault can have keys that an HSM keeps, or that none keeps.
func (v *Vault) MayHold(inHSM bool) bool {
	if inHSM {
		return v.Tier != Standard
	}
	return v.Tier != ManagedHSM
}

// RecoveryLevel is how deletion works in it, in Azure's words.
func (v *Vault) RecoveryLevel() string {
	level := "Recoverable"
	if v.RetentionDays < MaxRetentionDays {
		level = "CustomizedRecoverable"
	}
	if !v.PurgeProtection {
		level += "+Purgeable"
	}
	return level
}

// prepare makes what is not stored.
func (v *Vault) prepare(f *family) error {
	v.family = f
	v.resource = strings.ToUpper(v.ARMID())
	scope, _ := authz.ParseScope(v.ARMID())
	compiled, err := authz.CompileAccessPolicies(v.TenantID, v.AccessPolicies)
	if err != nil {
		return err
	}
	v.policy = authz.Policy{TenantID: v.TenantID, Administrators: v.Administrators, AccessPolicies: compiled, Scope: scope}
	if v.RBAC {
		v.policy.Model = authz.RoleModel
	}
	if f == &hsmFamily {
		v.policy.Model, v.policy.Administrators = authz.LocalRoleModel, nil
	}
	return nil
}

// A family is what vaults and managed HSMs do not have in common.
type family struct {
	prefix     string // of records
	due        string // in the keys of due entries
	collection string // in ids
	word       string // in messages

	read, write, delete              string // actions on one
	listDeleted, readDeleted, purge  string // actions on deleted ones, asked at the subscription
	checkName                        string
	put, patch, remove, recover, end string // operations, in the audit log
}

var (
	vaultFamily = family{
		prefix: "vault/", due: "purgevault", collection: "vaults", word: "vault",
		read:        "Microsoft.KeyVault/vaults/read",
		write:       "Microsoft.KeyVault/vaults/write",
		delete:      "Microsoft.KeyVault/vaults/delete",
		listDeleted: "Microsoft.KeyVault/deletedVaults/read",
		readDeleted: "Microsoft.KeyVault/locations/deletedVaults/read",
		purge:       "Microsoft.KeyVault/locations/deletedVaults/purge/action",
		checkName:   "Microsoft.KeyVault/checkNameAvailability/read",
		put:         "VaultPut", patch: "VaultPatch", remove: "VaultDelete", recover: "VaultRecover", end: "VaultPurge",
	}
	hsmFamily = family{
		prefix: "hsm/", due: "purgehsm", collection: "managedHSMs", word: "managed HSM",
		read:        "Microsoft.KeyVault/managedHSMs/read",
		write:       "Microsoft.KeyVault/managedHSMs/write",
		delete:      "Microsoft.KeyVault/managedHSMs/delete",
		listDeleted: "Microsoft.KeyVault/deletedManagedHsms/read",
		readDeleted: "Microsoft.KeyVault/locations/deletedManagedHsms/read",
		purge:       "Microsoft.KeyVault/locations/deletedManagedHsms/purge/action",
		checkName:   "Microsoft.KeyVault/checkMhsmNameAvailability/read",
		put:         "ManagedHsmPut", patch: "ManagedHsmPatch", remove: "ManagedHsmDelete", recover: "ManagedHsmRecover", end: "ManagedHsmPurge",
	}
)

func (f *family) key(name string) string { return f.prefix + strings.ToLower(name) }

func (f *family) dueKey(at int64, name string) string {
	return record.DueTime(at) + f.due + "/" + strings.ToLower(name)
}

// vaultRecord is how a vault or a managed HSM is stored.
type vaultRecord struct {
	record.Format
	ID              string            `json:"id"`
	Name            string            `json:"name"`
	TenantID        string            `json:"tenantId"`
	SubscriptionID  string            `json:"subscriptionId"`
	ResourceGroup   string            `json:"resourceGroup"`
	Location        string            `json:"location"`
	Tags            map[string]string `json:"tags,omitempty"`
	Tier            Tier              `json:"tier,omitempty"`
	SKUName         string            `json:"sku,omitempty"`
	Activation      string            `json:"activation,omitempty"`
	Content         string            `json:"content,omitempty"`
	Restoring       string            `json:"restoring,omitempty"`
	Identities      []string          `json:"identities,omitempty"`
	RetentionDays   int               `json:"retentionDays"`
	PurgeProtection bool              `json:"purgeProtection,omitempty"`
	RBAC            bool              `json:"rbac,omitempty"`
	AccessPolicies  []policyRecord    `json:"accessPolicies,omitempty"`
	Administrators  []string          `json:"administrators"`
	Deployment      bool              `json:"enabledForDeployment,omitempty"`
	DiskEncryption  bool              `json:"enabledForDiskEncryption,omitempty"`
	Templates       bool              `json:"enabledForTemplateDeployment,omitempty"`
	Network         *networkRecord    `json:"network,omitempty"`
	PublicNetwork   string            `json:"publicNetworkAccess,omitempty"`
	Created         int64             `json:"created"`
	CreatedBy       string            `json:"createdBy,omitempty"`
	CreatedByType   string            `json:"createdByType,omitempty"`
	Modified        int64             `json:"modified,omitempty"`
	ModifiedBy      string            `json:"modifiedBy,omitempty"`
	ModifiedByType  string            `json:"modifiedByType,omitempty"`
	Deleted         int64             `json:"deleted,omitempty"`
	PurgeAt         int64             `json:"purgeAt,omitempty"`
}

type policyRecord struct {
	ObjectID      string   `json:"objectId"`
	ApplicationID string   `json:"applicationId,omitempty"`
	Keys          []string `json:"keys,omitempty"`
	Secrets       []string `json:"secrets,omitempty"`
	Certificates  []string `json:"certificates,omitempty"`
	Storage       []string `json:"storage,omitempty"`
}

type networkRecord struct {
	Bypass          authz.NetworkBypass `json:"bypass"`
	DefaultAction   authz.NetworkAction `json:"defaultAction"`
	IPRules         []netip.Prefix      `json:"ipRules,omitempty"`
	VirtualNetworks []string            `json:"virtualNetworks,omitempty"`
}

// decode reads the record of a family.
func (f *family) decode(plaintext []byte) (*Vault, error) {
	rec, err := record.Decode[vaultRecord](plaintext)
	if err != nil {
		return nil, err
	}
	v := rec.vault()
	if err := v.prepare(f); err != nil {
		return nil, err
	}
	return v, nil
}

func (r *vaultRecord) vault() *Vault {
	v := &Vault{
		ID: r.ID, Name: r.Name, TenantID: r.TenantID, SubscriptionID: r.SubscriptionID, ResourceGroup: r.ResourceGroup,
		Location: r.Location, Tags: r.Tags, Tier: r.Tier, SKUName: r.SKUName, Activation: r.Activation, Content: r.Content, Restoring: r.Restoring, Identities: r.Identities,
		RetentionDays: r.RetentionDays, PurgeProtection: r.PurgeProtection, RBAC: r.RBAC, Administrators: r.Administrators,
		EnabledForDeployment: r.Deployment, EnabledForDiskEncryption: r.DiskEncryption, EnabledForTemplateDeployment: r.Templates,
		PublicNetworkAccess: r.PublicNetwork, Created: r.Created, CreatedBy: r.CreatedBy, CreatedByType: r.CreatedByType,
		Modified: r.Modified, ModifiedBy: r.ModifiedBy, ModifiedByType: r.ModifiedByType, Deleted: r.Deleted, PurgeAt: r.PurgeAt,
	}
	if v.Tier == "" { // made by a release that knew no other
		v.Tier = Standard
	}
	if v.PublicNetworkAccess == "" {
		v.PublicNetworkAccess = NetworkEnabled
	}
	if v.Modified == 0 {
		v.Modified = v.Created
	}
	for _, p := range r.AccessPolicies {
		v.AccessPolicies = append(v.AccessPolicies, authz.AccessPolicy{
			TenantID: r.TenantID, ObjectID: p.ObjectID, ApplicationID: p.ApplicationID,
			Keys: p.Keys, Secrets: p.Secrets, Certificates: p.Certificates, Storage: p.Storage,
		})
	}
	if n := r.Network; n != nil {
		v.Network = &authz.NetworkRules{
			Bypass: n.Bypass, DefaultAction: n.DefaultAction, IPRules: n.IPRules, VirtualNetworks: n.VirtualNetworks,
		}
	}
	return v
}

func (v *Vault) record() *vaultRecord {
	r := &vaultRecord{
		Format: record.Current(),
		ID:     v.ID, Name: v.Name, TenantID: v.TenantID, SubscriptionID: v.SubscriptionID, ResourceGroup: v.ResourceGroup,
		Location: v.Location, Tags: v.Tags, Tier: v.Tier, SKUName: v.SKUName, Activation: v.Activation, Content: v.Content, Restoring: v.Restoring, Identities: v.Identities,
		RetentionDays: v.RetentionDays, PurgeProtection: v.PurgeProtection, RBAC: v.RBAC, Administrators: v.Administrators,
		Deployment: v.EnabledForDeployment, DiskEncryption: v.EnabledForDiskEncryption, Templates: v.EnabledForTemplateDeployment,
		PublicNetwork: v.PublicNetworkAccess, Created: v.Created, CreatedBy: v.CreatedBy, CreatedByType: v.CreatedByType,
		Modified: v.Modified, ModifiedBy: v.ModifiedBy, ModifiedByType: v.ModifiedByType, Deleted: v.Deleted, PurgeAt: v.PurgeAt,
	}
	for _, p := range v.AccessPolicies {
		r.AccessPolicies = append(r.AccessPolicies, policyRecord{
			ObjectID: p.ObjectID, ApplicationID: p.ApplicationID,
			Keys: p.Keys, Secrets: p.Secrets, Certificates: p.Certificates, Storage: p.Storage,
		})
	}
	if n := v.Network; n != nil {
		r.Network = &networkRecord{
			Bypass: n.Bypass, DefaultAction: n.DefaultAction, IPRules: n.IPRules, VirtualNetworks: n.VirtualNetworks,
		}
	}
	return r
}

// Azure's rule: 3 to 24 letters, digits and single hyphens, starting with a letter, ending with a letter or digit.
var vaultName = regexp.MustCompile(`^[a-zA-Z](?:-?[a-zA-Z0-9])+$`)

const (
	minName = 3
	maxName = 24
)

func validName(name string) bool {
	return len(name) >= minName && len(name) <= maxName && vaultName.MatchString(name)
}

func (f *family) checkVaultName(name string) error {
	if validName(name) {
		return nil
	}
	return &Error{Kind: InvalidName, Target: "name", Message: fmt.Sprintf("The %s name '%s' is invalid. Its name must be between %d-%d "+
		"alphanumeric characters. The name must begin with a letter, end with a letter or digit, and not contain consecutive hyphens.",
		f.word, bounded(name), minName, maxName)}
}

// scope returns where a vault is that need not exist.
func (s *Service) scope(f *family, group, name string) (authz.Scope, error) {
	if err := f.checkVaultName(name); err != nil {
		return authz.Scope{}, err
	}
	if _, err := s.groupScope(group); err != nil {
		return authz.Scope{}, err
	}
	return authz.ParseScope(s.armID(f, group, name))
}

func (s *Service) armID(f *family, group, name string) string {
	return s.subscription() + "/resourceGroups/" + group + "/providers/Microsoft.KeyVault/" + f.collection + "/" + name
}

// load returns the vault of that name, deleted or not, or ErrVaultNotFound.
func (s *Service) load(r store.Reader, f *family, name string) (*Vault, error) {
	if len(name) > maxName {
		return nil, ErrVaultNotFound
	}
	v, err := s.vaults.Load(r, f.key(name), f.decode)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrVaultNotFound
	}
	return v, err
}

// Load returns the live vault of that name, or ErrVaultNotFound.
func (s *Service) Load(r store.Reader, name string) (*Vault, error) {
	return s.loadLive(r, &vaultFamily, name)
}

// LoadHSM is Load for a managed HSM. Names of vaults and of managed HSMs have nothing to do with each other.
func (s *Service) LoadHSM(r store.Reader, name string) (*Vault, error) {
	return s.loadLive(r, &hsmFamily, name)
}

func (s *Service) loadLive(r store.Reader, f *family, name string) (*Vault, error) {
	v, err := s.load(r, f, name)
	if err == nil && v.Deleted != 0 {
		return nil, ErrVaultNotFound
	}
	return v, err
}

// LoadAny is Load for a vault that may be deleted.
func (s *Service) LoadAny(r store.Reader, name string) (*Vault, error) {
	return s.load(r, &vaultFamily, name)
}

// LoadAnyHSM is LoadHSM for a managed HSM that may be deleted.
func (s *Service) LoadAnyHSM(r store.Reader, name string) (*Vault, error) {
	return s.load(r, &hsmFamily, name)
}

// Decide says whether a subject may use permission p in a vault: on the object of that collection ("secrets") and name, or for
// the vault as a whole if the name is empty. In a managed HSM its own roles say so, by p.HSMAction, for that key or for all keys.
func (s *Service) Decide(r store.Reader, v *Vault, subject authz.Subject, p authz.Permission, collection, name string) (authz.Decision, error) {
	policy, scope := v.policy, v.policy.Scope
	switch policy.Model {
	case authz.RoleModel:
		state, err := s.rolesIn(r)
		if err != nil {
			return authz.Decision{}, err
		}
		policy.Roles = state.roles
		if name != "" {
			scope = scope.Object(collection, name)
		}
	case authz.LocalRoleModel:
		state, err := s.localIn(r, v)
		if err != nil {
			return authz.Decision{}, err
		}
		policy.Roles, scope = state.roles, scope.LocalScope(p.HSMAction, name)
	}
	return authz.Decide(policy, subject, p, scope), nil
}

// AllowsAddress tells whether the vault can be reached from an address.
func (s *Service) AllowsAddress(v *Vault, addr netip.Addr) bool {
	return v.PublicNetworkAccess != NetworkDisabled && v.Network.Allows(addr)
}

// store writes a vault whose properties were changed.
func (v *Vault) store(tx store.Tx) error { return record.Put(tx, v.family.key(v.Name), v.record()) }

// touch notes who changed it.
func (v *Vault) touch(now int64, a Actor) {
	v.Modified = now
	v.ModifiedBy, v.ModifiedByType = a.name()
}

func checkAdministrators(list []string) error {
	if len(list) > maxAdministrators {
		return &Error{Kind: BadRequest, Message: fmt.Sprintf("A vault can have %d administrators at most.", maxAdministrators)}
	}
	for _, id := range list {
		const length = 36 // of the only form of a GUID that Azure's wire has
		guid := strings.TrimPrefix(strings.ToLower(id), authz.GroupPrefix)
		if len(guid) != length || uuid.Validate(guid) != nil {
			return &Error{Kind: BadRequest, Message: fmt.Sprintf("%.64q is no administrator: give the object id of a principal, which is "+
				"a GUID, or %s and that of a group.", id, authz.GroupPrefix)}
		}
	}
	return nil
}

// maxInitialAdministrators is bounded because all get their roles in one step.
const maxInitialAdministrators = 50

func checkInitialAdministrators(list []string) error {
	const target = "initialAdminObjectIds"
	switch {
	case len(list) == 0:
		return invalidProperty(target, "A managed HSM needs at least one initial administrator.")
	case len(list) > maxInitialAdministrators:
		return invalidProperty(target, "A managed HSM can have %d initial administrators at most.", maxInitialAdministrators)
	}
	for _, id := range list {
		if _, ok := parseGUID(id); !ok {
			return invalidProperty(target, "%.64q is no initial administrator: give the object id of a principal or of a group, which is a GUID.", id)
		}
	}
	return nil
}

const maxIdentities = 50

// checkIdentities refuses what is no id of a managed identity. Whether there is one of that id, nobody here knows.
func checkIdentities(list []string) error {
	const target, collection, limit = "identity.userAssignedIdentities", "/providers/microsoft.managedidentity/userassignedidentities/", 512
	if len(list) > maxIdentities {
		return invalidProperty(target, "A managed HSM can have %d user-assigned identities at most.", maxIdentities)
	}
	for _, id := range list {
		_, name, found := strings.Cut(strings.ToLower(id), collection)
		if len(id) > limit || !strings.HasPrefix(strings.ToLower(id), "/subscriptions/") || !found || name == "" || strings.Contains(name, "/") {
			return invalidProperty(target, "'%s' is no id of a user-assigned identity, which is of the form "+
				"/subscriptions/…/resourceGroups/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/<name>.", bounded(id))
		}
	}
	return nil
}

// uniqueVerbs drops repeated verbs, so that what is stored is no longer than what it says.
func uniqueVerbs(list []string) []string {
	var out []string
	for _, verb := range list {
		if !slices.ContainsFunc(out, func(v string) bool { return strings.EqualFold(v, verb) }) {
			out = append(out, verb)
		}
	}
	return out
}
