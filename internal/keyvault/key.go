package keyvault

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keywrap"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/store"
)

// MaxTransferBlob is the size of a BYOK transfer file. One with an RSA-4096 key has about four kilobytes.
const MaxTransferBlob = 32 << 10

// hsmSuffix marks the types of keys that an HSM keeps: "RSA-HSM".
const hsmSuffix = "-HSM"

// keyOperation names an operation, its permission in access policies, and the data actions of roles in vaults and in managed HSMs.
func keyOperation(name, verb, action, hsmAction string) Operation {
	return Operation{Name: name, Permission: authz.Permission{
		Object: "keys", Verb: verb, DataAction: "Microsoft.KeyVault/vaults/" + action,
		HSMAction: "Microsoft.KeyVault/managedHsm/" + hsmAction,
	}}
}

// publicKeyOperation is one for which the public part of a key suffices, which whoever reads the key has.
func publicKeyOperation(name, verb, action, hsmAction string) Operation {
	op := keyOperation(name, verb, action, hsmAction)
	op.Permission.AsymmetricAction = "Microsoft.KeyVault/vaults/keys/read"
	return op
}

// hsmOperation is one that a managed HSM has and a vault has not.
func hsmOperation(name, object, verb, hsmAction string) Operation {
	return Operation{Name: name, Permission: authz.Permission{
		Object: object, Verb: verb, HSMAction: "Microsoft.KeyVault/managedHsm/" + hsmAction,
	}}
}

// The operations on keys, with the permission that each needs (contract §16 and §10.1).
var (
	KeyCreate            = keyOperation("KeyCreate", "create", "keys/create/action", "keys/create")
	KeyImport            = keyOperation("KeyImport", "import", "keys/import/action", "keys/import/action")
	KeyGet               = keyOperation("KeyGet", "get", "keys/read", "keys/read/action")
	KeyUpdate            = keyOperation("KeyUpdate", "update", "keys/update/action", "keys/write/action")
	KeyDelete            = keyOperation("KeyDelete", "delete", "keys/delete", "keys/delete")
	KeyList              = keyOperation("KeyList", "list", "keys/read", "keys/read/action")
	KeyListVersions      = keyOperation("KeyListVersions", "list", "keys/read", "keys/read/action")
	KeyGetDeleted        = keyOperation("KeyGetDeleted", "get", "keys/read", "keys/deletedKeys/read/action")
	KeyListDeleted       = keyOperation("KeyListDeleted", "list", "keys/read", "keys/deletedKeys/read/action")
	KeyPurge             = keyOperation("KeyPurge", "purge", "keys/purge/action", "keys/deletedKeys/delete")
	KeyRecover           = keyOperation("KeyRecover", "recover", "keys/recover/action", "keys/deletedKeys/recover/action")
	KeyBackup            = keyOperation("KeyBackup", "backup", "keys/backup/action", "keys/backup/action")
	KeyRestore           = keyOperation("KeyRestore", "restore", "keys/restore/action", "keys/restore/action")
	KeyRotate            = keyOperation("KeyRotate", "rotate", "keys/rotate/action", "keys/rotate/action")
	KeyRotationPolicyGet = keyOperation("KeyRotationPolicyGet", "getrotationpolicy", "keyrotationpolicies/read", "keys/read/action")
	KeyRotationPolicySet = keyOperation("KeyRotationPolicySet", "setrotationpolicy", "keyrotationpolicies/write", "keys/write/action")
	KeyRelease           = keyOperation("KeyRelease", "release", "keys/release/action", "keys/release/action")
	KeyEncrypt           = publicKeyOperation("KeyEncrypt", "encrypt", "keys/encrypt/action", "keys/encrypt/action")
	KeyDecrypt           = keyOperation("KeyDecrypt", "decrypt", "keys/decrypt/action", "keys/decrypt/action")
	KeyWrap              = publicKeyOperation("KeyWrap", "wrapKey", "keys/wrap/action", "keys/wrap/action")
	KeyUnwrap            = keyOperation("KeyUnwrap", "unwrapKey", "keys/unwrap/action", "keys/unwrap/action")
	KeySign              = keyOperation("KeySign", "sign", "keys/sign/action", "keys/sign/action")
	KeyVerify            = publicKeyOperation("KeyVerify", "verify", "keys/verify/action", "keys/verify/action")

	KeyAttestationGet = hsmOperation("KeyAttestationGet", "keys", "get", "keys/read/action")
	RandomBytes       = hsmOperation("RandomBytesGet", "", "rng", "rng/action")
)

// What a caller of this package needs of the keys' package.
type (
	// A PrivateKey is a key that somebody imports.
	PrivateKey = hsm.PrivateKey
	// A PublicKey is the public part of a key.
	PublicKey = hsm.PublicKey
	// A Message is the input or output of encryption.
	Message = hsm.Message
)

// CreateKeyParams says what kind of key to make.
type CreateKeyParams struct {
	Type          string // "RSA", "EC", "oct", or one of them with "-HSM"
	Bits          int64  // of RSA and oct; 0 means 2048 and 256
	Curve         string // of EC; "" means P-256
	Exponent      int64  // of RSA; 0 means 65537
	Operations    []string
	Attributes    Attributes
	Exportable    bool
	Tags          map[string]string
	ReleasePolicy *ReleasePolicy
}

// ImportKeyParams holds a key to take in: as it is, or wrapped in a BYOK transfer file.
type ImportKeyParams struct {
	Type       string // as CreateKeyParams.Type
	HSM        bool   // an HSM is to keep it, whatever Type says
	Private    PrivateKey
	Curve      string // of an EC key
	Transfer   []byte // a BYOK transfer file in place of Private
	Operations []string
	Attributes Attributes
	Exportable bool
	Tags       map[string]string

	ReleasePolicy *ReleasePolicy

	// ParseKeyID finds the key of this vault that a key id names, for the key that a transfer file is wrapped with.
	ParseKeyID func(id string) (name, version string, err error)
}

// UpdateKeyParams is what changes about a version. Nil members stay as they are; Tags replaces all tags.
type UpdateKeyParams struct {
	Operations    []string
	Attributes    Attributes
	Exportable    *bool // can only be what it is
	Tags          map[string]string
	ReleasePolicy *ReleasePolicy
}

// A Key is one version of a key, without what is secret about it.
type Key struct {
	Properties
	Type          string // with "-HSM" if an HSM keeps it
	Bits          int    // of RSA and oct
	Curve         string // of EC
	Public        PublicKey
	Operations    []string
	Exportable    bool
	Platform      string // hsmPlatform: "0" is software
	ReleasePolicy *ReleasePolicy
}

// A DeletedKey is a soft-deleted key, shown as its current version.
type DeletedKey struct {
	Key
	Deleted        int64
	ScheduledPurge int64
}

type keyRecord struct {
	Type       hsm.KeyType `json:"kty"`
	HSM        bool        `json:"hsm,omitempty"` // the type has the suffix
	Bits       int         `json:"bits,omitempty"`
	Curve      hsm.Curve   `json:"crv,omitempty"`
	N          []byte      `json:"n,omitempty"`
	E          []byte      `json:"e,omitempty"`
	X          []byte      `json:"x,omitempty"`
	Y          []byte      `json:"y,omitempty"`
	Operations []string    `json:"ops"`
	Exportable bool        `json:"exportable,omitempty"`
	Platform   string      `json:"platform"`
}

func (k *keyRecord) spec() hsm.Spec { return hsm.Spec{Type: k.Type, Bits: k.Bits, Curve: k.Curve} }

func (k *keyRecord) wireType() string {
	if k.HSM {
		return string(k.Type) + hsmSuffix
	}
	return string(k.Type)
}

func (f found) key() Key {
	k := f.rec.Key
	out := Key{
		Properties: f.rec.properties(f.v, f.o),
		Type:       k.wireType(),
		Bits:       k.Bits,
		Curve:      string(k.Curve),
		Public:     PublicKey{N: k.N, E: k.E, X: k.X, Y: k.Y},
		Operations: k.Operations,
		Exportable: k.Exportable,
		Platform:   k.Platform,
	}
	if k.Exportable {
		out.ReleasePolicy = f.o.Release.policy()
	}
	return out
}

func (f found) deletedKey() DeletedKey {
	return DeletedKey{Key: f.key(), Deleted: f.o.Deleted, ScheduledPurge: f.o.PurgeAt}
}

// operationsOf lists the key_ops that a type of key can have, the default ones first (contract §3.2).
var operationsOf = map[hsm.KeyType]struct{ usual, more []string }{
	hsm.RSA: {[]string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}, []string{"import", "export"}},
	hsm.EC:  {[]string{"sign", "verify"}, []string{"deriveKey", "export"}},
	hsm.Oct: {[]string{"encrypt", "decrypt", "wrapKey", "unwrapKey"},
		[]string{"sign", "verify", "deriveKey", "export", "secureWrapKey", "secureUnwrapKey"}},
}

// importOnly is what the key has that BYOK transfer files are wrapped with.
const importOnly = "import"

// checkOperations returns the operations in their spelling, each once.
func (k *keyRecord) checkOperations(operations []string) ([]string, error) {
	known := operationsOf[k.Type]
	out := make([]string, 0, len(operations))
	for _, op := range operations {
		if !slices.Contains(known.usual, op) && !slices.Contains(known.more, op) {
			return nil, badParameter("The key operation %q is none of a key of the type %s, which has %s.", bounded(op),
				k.wireType(), strings.Join(slices.Concat(known.usual, known.more), ", "))
		}
		if !slices.Contains(out, op) {
			out = append(out, op)
		}
	}
	if slices.Contains(out, importOnly) && (len(out) > 1 || !k.HSM) {
		return nil, badParameter("The key operation import is for a key of the type RSA-HSM that has no other operation.")
	}
	return out, nil
}

// newOperations returns the operations of a new key: those asked for, or the usual ones. The usual ones of an EC key of a managed HSM
// are more (recorded).
func newOperations(v *resource.Vault, kty hsm.KeyType, inHSM bool, asked []string) ([]string, error) {
	switch {
	case len(asked) > 0:
	case kty == hsm.EC && v.Tier == resource.ManagedHSM:
		asked = []string{"sign", "verify", "deriveKey"}
	default:
		asked = operationsOf[kty].usual
	}
	return (&keyRecord{Type: kty, HSM: inHSM}).checkOperations(asked)
}

// changeOperations returns what is to replace a key's operations. Who wraps a key for a key-exchange key relies on it that
// nobody ever decrypts with that one by hand, so import neither comes nor goes.
func (k *keyRecord) changeOperations(operations []string) ([]string, error) {
	next, err := k.checkOperations(operations)
	if err == nil && slices.Contains(next, importOnly) != slices.Contains(k.Operations, importOnly) {
		return nil, badParameter("The key operation import can be given to a new version only, and stays its only one.")
	}
	return next, err
}

// parseType splits a type into family and keeper. A vault that keeps all keys in an HSM says so itself.
func parseType(v *resource.Vault, name string, inHSM bool) (hsm.KeyType, bool, error) {
	family, suffixed := strings.CutSuffix(name, hsmSuffix)
	kty := hsm.KeyType(family)
	if _, known := operationsOf[kty]; !known {
		return "", false, badParameter("The key type %q is not known. Use RSA, EC or oct, or one of them with -HSM.", bounded(name))
	}
	inHSM = inHSM || suffixed || v.Tier == resource.ManagedHSM
	if !v.MayHold(inHSM) {
		return "", false, badParameter("A key of the type %s%s cannot be kept in a vault of the tier %s; it needs the tier premium.",
			family, hsmSuffix, v.Tier)
	}
	if kty == hsm.Oct && !inHSM {
		return "", false, badParameter("A key of the type oct cannot be kept in a vault; use oct-HSM.")
	}
	return kty, inHSM, nil
}

// Sizes of keys that are made.
const (
	defaultRSABits = 2048
	defaultOctBits = 256
)

func (p *CreateKeyParams) spec(kty hsm.KeyType) (hsm.Spec, error) {
	spec := hsm.Spec{Type: kty}
	const maxBits, maxExponent = 1 << 16, 1<<31 - 1
	if kty != hsm.EC && (p.Bits < 0 || p.Bits > maxBits || p.Exponent < 0 || p.Exponent > maxExponent) {
		return spec, badParameter("The key size or the public exponent is out of range.")
	}
	switch kty {
	case hsm.RSA:
		spec.Bits, spec.Exponent = int(p.Bits), int(p.Exponent)
		if spec.Bits == 0 {
			spec.Bits = defaultRSABits
		}
	case hsm.Oct:
		if spec.Bits = int(p.Bits); spec.Bits == 0 {
			spec.Bits = defaultOctBits
		}
	case hsm.EC:
		if spec.Curve = hsm.Curve(p.Curve); p.Curve == "" {
			spec.Curve = hsm.P256
		}
	}
	if kty != hsm.EC && p.Curve != "" {
		return spec, badParameter("A key of the type %s has no curve.", kty)
	}
	return spec, nil
}

// newKeyRecord describes a key that the provider has made or taken in.
func (s *Service) newKeyRecord(key hsm.New, inHSM, exportable bool) *keyRecord {
	return &keyRecord{
		Type: key.Spec.Type, HSM: inHSM, Bits: key.Spec.Bits, Curve: key.Spec.Curve,
		N: key.Public.N, E: key.Public.E, X: key.Public.X, Y: key.Public.Y,
		Exportable: exportable, Platform: s.hsm.Platform(),
	}
}

// refusedKey turns a provider's refusal into one of this package.
func refusedKey(err error) error {
	var bad *hsm.Error
	switch {
	case errors.As(err, &bad):
		return &Error{Kind: BadParameter, Object: KeyKind, Message: bad.Message}
	case errors.Is(err, hsm.ErrBusy):
		return &Error{Kind: Busy, Object: KeyKind, Message: "Request was not processed because too many keys are being made at " +
			"this time. Try again later."}
	}
	return err
}

// CreateKey makes a new version of a key, which becomes the current one, and the key if the name is new. Making an RSA key
// takes up to some seconds and is done before anything is announced or stored.
func (s *Service) CreateKey(ctx context.Context, caller *identity.Caller, vault, name string, p CreateKeyParams) (Key, error) {
	if err := errors.Join(checkName(name), checkTags(p.Tags), p.Attributes.check()); err != nil {
		return Key{}, err
	}
	var (
		spec  hsm.Spec
		inHSM bool
	)
	err := s.read(ctx, caller, vault, KeyCreate, name, func(r store.Reader, v *resource.Vault) error {
		kty, keeper, err := parseType(v, p.Type, false)
		if err != nil {
			return err
		}
		if spec, err = p.spec(kty); err != nil {
			return err
		}
		inHSM = keeper
		if p.Operations, err = newOperations(v, kty, inHSM, p.Operations); err != nil {
			return err
		}
		return s.checkNewKey(r, v, name, "create", inHSM, p.Exportable, p.ReleasePolicy)
	})
	if err != nil {
		return Key{}, err
	}
	made, err := s.generate(ctx, caller, spec)
	if err != nil {
		return Key{}, err
	}
	key := s.newKeyRecord(made, inHSM, p.Exportable)
	key.Operations = p.Operations
	return s.addKey(ctx, caller, vault, KeyCreate, name, "create", p.Attributes, p.Tags, key, made.Blob, p.ReleasePolicy)
}

// checkNewKey refuses what can be refused before a key is made or taken in.
func (s *Service) checkNewKey(r store.Reader, v *resource.Vault, name, verb string, inHSM, exportable bool,
	policy *ReleasePolicy) error {
	o, err := s.forNewVersion(r, v, KeyKind, name, "", verb)
	if err != nil {
		return err
	}
	_, err = releaseOf(v, o, inHSM, exportable, policy)
	return err
}

// addKey stores a new version of a key.
func (s *Service) addKey(ctx context.Context, caller *identity.Caller, vault string, op Operation, name, verb string,
	a Attributes, tags map[string]string, key *keyRecord, blob []byte, policy *ReleasePolicy) (Key, error) {
	rec := s.newVersion(a, tags)
	rec.Key = key
	fresh := record.NewID()
	var out Key
	err := s.write(ctx, caller, vault, op, name, func(tx store.Tx, v *resource.Vault) error {
		if !v.MayHold(key.HSM) {
			return &Error{Kind: Conflict, Object: KeyKind, Message: "The vault's tier was changed meanwhile. Try again."}
		}
		o, err := s.forNewVersion(tx, v, KeyKind, name, fresh, verb)
		if err != nil {
			return err
		}
		next, err := releaseOf(v, o, key.HSM, key.Exportable, policy)
		if err != nil {
			return err
		}
		// The policy is that of all versions. Who may make one may not thereby release the others.
		if o.Release != nil && !o.Release.same(next) {
			if _, err := s.authorize(tx, caller, vault, KeyUpdate, name); err != nil {
				return err
			}
		}
		o.Release = next
		err = s.putVersion(tx, v, KeyKind, o, &rec, blob)
		out = found{v, o, &rec}.key()
		return err
	})
	return out, err
}

// ImportKey takes a key in as a new version, as CreateKey makes one.
func (s *Service) ImportKey(ctx context.Context, caller *identity.Caller, vault, name string, p ImportKeyParams) (Key, error) {
	if err := errors.Join(checkName(name), checkTags(p.Tags), p.Attributes.check()); err != nil {
		return Key{}, err
	}
	var (
		kty   hsm.KeyType
		inHSM bool
		kek   hsm.Key
		blob  keywrap.TransferBlob
	)
	err := s.read(ctx, caller, vault, KeyImport, name, func(r store.Reader, v *resource.Vault) error {
		var err error
		if kty, inHSM, err = parseType(v, p.Type, p.HSM); err != nil {
			return err
		}
		if p.Operations, err = newOperations(v, kty, inHSM, p.Operations); err != nil {
			return err
		}
		if err := s.checkNewKey(r, v, name, "import", inHSM, p.Exportable, p.ReleasePolicy); err != nil {
			return err
		}
		if p.Transfer != nil {
			if !inHSM {
				return badParameter("A transfer file (key_hsm) is for a key of a type with -HSM.")
			}
			kek, blob, err = s.transferKey(ctx, r, v, p.Transfer, p.ParseKeyID)
		}
		return err
	})
	if err != nil {
		return Key{}, err
	}
	taken, err := s.make(caller, kty, func() (hsm.New, error) {
		if p.Transfer != nil {
			return s.hsm.ImportWrapped(ctx, kek, kty, blob.Ciphertext)
		}
		private := p.Private
		private.Type, private.Curve = kty, hsm.Curve(p.Curve)
		return s.hsm.Import(ctx, private)
	})
	if err != nil {
		return Key{}, err
	}
	if p.Curve != "" && string(taken.Spec.Curve) != p.Curve {
		return Key{}, badParameter("The imported key is of another curve than the request says.")
	}
	key := s.newKeyRecord(taken, inHSM, p.Exportable)
	key.Operations = p.Operations
	return s.addKey(ctx, caller, vault, KeyImport, name, "import", p.Attributes, p.Tags, key, taken.Blob, p.ReleasePolicy)
}

// transferKey reads a BYOK transfer file and opens the key that it names, which must be there for nothing else.
func (s *Service) transferKey(ctx context.Context, r store.Reader, v *resource.Vault, file []byte,
	parseKeyID func(string) (string, string, error)) (hsm.Key, keywrap.TransferBlob, error) {
	if len(file) > MaxTransferBlob {
		return nil, keywrap.TransferBlob{}, badParameter("The transfer file (key_hsm) has %d bytes; %d are allowed.",
			len(file), MaxTransferBlob)
	}
	blob, err := keywrap.ParseTransferBlob(file)
	if err != nil {
		return nil, blob, badParameter("The transfer file (key_hsm) cannot be read: %v.", err)
	}
	name, version, err := parseKeyID(blob.KeyID)
	if err != nil {
		return nil, blob, badParameter("The transfer file (key_hsm) names a key-exchange key that is none of this vault: %s.",
			bounded(blob.KeyID))
	}
	f, err := s.find(r, v, KeyKind, name, version)
	if err != nil {
		return nil, blob, err
	}
	if !f.rec.Key.HSM || !slices.Equal(f.rec.Key.Operations, []string{importOnly}) {
		return nil, blob, badParameter("The key that the transfer file (key_hsm) names is no key-exchange key: that is a key of "+
			"the type RSA-HSM whose only operation is %s.", importOnly)
	}
	if err := s.mayUse(f.rec, cryptoUse{keyOp: importOnly, old: true}); err != nil { // to unwrap, whenever that is
		return nil, blob, err
	}
	kek, err := s.openKey(ctx, r, f)
	return kek, blob, err
}

// openKey returns the key of a version, opened; it stays open in a bounded cache.
func (s *Service) openKey(ctx context.Context, r store.Reader, f found) (hsm.Key, error) {
	var (
		refused *hsm.Error
		closed  error
	)
	key, err := s.keys.Load(r, valueKey(f.o.ID, f.rec.Version), func(stored []byte) (*hsm.Key, error) {
		blob, err := s.unwrap(r, f.v, f.o, f.rec.Version, stored)
		if err != nil {
			closed = err
			return nil, err
		}
		key, err := s.hsm.Open(ctx, f.rec.Key.spec(), blob)
		errors.As(err, &refused)
		return &key, err
	})
	if refused != nil { // the record is good, but the provider, as it runs, has no such keys
		return nil, refusedKey(refused)
	}
	if closed != nil { // it is about what the key is wrapped with
		return nil, closed
	}
	if err != nil {
		return nil, err
	}
	return *key, nil
}

// GetKey returns a version; an empty version means the current one.
func (s *Service) GetKey(ctx context.Context, caller *identity.Caller, vault, name, version string) (Key, error) {
	if err := checkName(name); err != nil {
		return Key{}, err
	}
	var out Key
	err := s.read(ctx, caller, vault, KeyGet, name, func(r store.Reader, v *resource.Vault) error {
		f, err := s.find(r, v, KeyKind, name, version)
		if err == nil {
			out = f.key()
		}
		return err
	})
	return out, err
}

// UpdateKey changes what is known about a version; an empty version means the current one. The release policy belongs to
// the whole key and is changed without a version.
func (s *Service) UpdateKey(ctx context.Context, caller *identity.Caller, vault, name, version string, p UpdateKeyParams) (Key, error) {
	if err := errors.Join(checkName(name), checkTags(p.Tags), p.Attributes.check()); err != nil {
		return Key{}, err
	}
	var out Key
	err := s.write(ctx, caller, vault, KeyUpdate, name, func(tx store.Tx, v *resource.Vault) error {
		f, err := s.find(tx, v, KeyKind, name, version)
		if err != nil {
			return err
		}
		if f.o.Managed {
			return managed(KeyKind, "update")
		}
		rec, key, o := *f.rec, *f.rec.Key, *f.o
		rec.Key = &key
		if p.Operations != nil {
			if key.Operations, err = key.changeOperations(p.Operations); err != nil {
				return err
			}
		}
		if p.Exportable != nil && *p.Exportable != key.Exportable {
			return badParameter("AKV.SKR.1003: The exportable attribute of an existing key cannot be changed.")
		}
		if p.ReleasePolicy != nil {
			if version != "" {
				return badParameter("AKV.SKR.1016: Key Release Policy can only be set on versionless key.")
			}
			some := key.Exportable || o.Release != nil // there are versions that it is for, if not this one
			if o.Release, err = releaseOf(v, &o, key.HSM || o.Release != nil, some, p.ReleasePolicy); err != nil {
				return err
			}
		}
		if p.Tags != nil {
			rec.Tags = maps.Clone(p.Tags)
		}
		rec.merge(p.Attributes)
		rec.Updated = s.now().Unix()
		out = found{v, &o, &rec}.key()
		if rec.Version == o.Current {
			err = s.reschedule(tx, v, &o, &rec)
		}
		return errors.Join(err, record.Put(tx, versionKey(o.ID, rec.Version), rec), record.Put(tx, objectKey(v, KeyKind, name), o))
	})
	return out, err
}

// DeleteKey soft-deletes a key with all its versions.
func (s *Service) DeleteKey(ctx context.Context, caller *identity.Caller, vault, name string) (DeletedKey, error) {
	f, err := s.deleteObject(ctx, caller, vault, KeyDelete, KeyKind, name)
	if err != nil {
		return DeletedKey{}, err
	}
	return f.deletedKey(), nil
}

// GetDeletedKey returns a soft-deleted key.
func (s *Service) GetDeletedKey(ctx context.Context, caller *identity.Caller, vault, name string) (DeletedKey, error) {
	if err := checkName(name); err != nil {
		return DeletedKey{}, err
	}
	var out DeletedKey
	err := s.read(ctx, caller, vault, KeyGetDeleted, name, func(r store.Reader, v *resource.Vault) error {
		f, err := s.findDeleted(r, v, KeyKind, name)
		if err == nil {
			out = f.deletedKey()
		}
		return err
	})
	return out, err
}

// RecoverKey brings a soft-deleted key back with all its versions.
func (s *Service) RecoverKey(ctx context.Context, caller *identity.Caller, vault, name string) (Key, error) {
	f, err := s.recoverObject(ctx, caller, vault, KeyRecover, KeyKind, name)
	if err != nil {
		return Key{}, err
	}
	return f.key(), nil
}

// PurgeKey removes a soft-deleted key for ever. Its name is free at once.
func (s *Service) PurgeKey(ctx context.Context, caller *identity.Caller, vault, name string) error {
	return s.purgeDeleted(ctx, caller, vault, KeyPurge, KeyKind, name)
}

// ListKeys returns the live keys in the order of their names, shown as their current versions, from the name `from` on,
// max of them at most (1 to MaxPage).
func (s *Service) ListKeys(ctx context.Context, caller *identity.Caller, vault, from string, max int) (Page[Key], error) {
	return listObjects(ctx, s, caller, vault, KeyList,
		func(v *resource.Vault) string { return objectPrefix(v, KeyKind) }, from, max, found.key)
}

// ListDeletedKeys is ListKeys for the soft-deleted ones.
func (s *Service) ListDeletedKeys(ctx context.Context, caller *identity.Caller, vault, from string, max int) (Page[DeletedKey], error) {
	return listObjects(ctx, s, caller, vault, KeyListDeleted,
		func(v *resource.Vault) string { return deletedPrefix(v, KeyKind) }, from, max, found.deletedKey)
}

// ListKeyVersions returns the versions of a live key in the order of their ids, from the version `from` on.
func (s *Service) ListKeyVersions(ctx context.Context, caller *identity.Caller, vault, name, from string, max int) (Page[Key], error) {
	return listVersions(ctx, s, caller, vault, KeyListVersions, KeyKind, name, from, max, found.key)
}

// GetKeyAttestation would return what vouches that a hardware module keeps a version of a key of a managed HSM. No provider has that.
func (s *Service) GetKeyAttestation(ctx context.Context, caller *identity.Caller, vault, name, version string) (Key, error) {
	if err := checkName(name); err != nil {
		return Key{}, err
	}
	err := s.read(ctx, caller, vault, KeyAttestationGet, name, func(r store.Reader, v *resource.Vault) error {
		f, err := s.find(r, v, KeyKind, name, version)
		if err != nil {
			return err
		}
		return badParameter("The key %s cannot be attested: this server keeps its keys in software, and no hardware module vouches for "+
			"them. Ask for the key without its attestation.", f.o.Name)
	})
	return Key{}, err
}

// MaxRandomBytes is how many random bytes one request can have.
const MaxRandomBytes = 128

// GetRandomBytes returns count random bytes of a managed HSM, and the HSM's ARM resource id.
func (s *Service) GetRandomBytes(ctx context.Context, caller *identity.Caller, vault string, count int64) ([]byte, string, error) {
	var id string
	err := s.read(ctx, caller, vault, RandomBytes, "", func(_ store.Reader, v *resource.Vault) error {
		id = v.Resource()
		if !s.hsms {
			return badParameter("Random bytes are given by a managed HSM only, and %s is a vault.", v.Name)
		}
		return nil
	})
	if err != nil {
		return nil, id, err
	}
	if count < 1 || count > MaxRandomBytes {
		return nil, id, badParameter("GetRandomBytesRequest: count cannot be greater than %d or less than 1", MaxRandomBytes)
	}
	out, err := s.hsm.Random(ctx, int(count))
	if err != nil {
		return nil, id, fmt.Errorf("keyvault: random bytes: %w", err)
	}
	return out, id, nil
}
