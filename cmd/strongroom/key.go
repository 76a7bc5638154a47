package main

import (
	"context"
	"encoding/pem"
	"errors"
	"io"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"
)

func newKeyCommand() *cobra.Command {
	c := group("key", "Manage and use keys, with the flags and the output of az keyvault key",
		newKeyCreate(), newKeyImport(), newKeyShow(), newKeyList(), newKeyListVersions(), newKeyListDeleted(), newKeyShowDeleted(),
		newKeySetAttributes(), newKeyDelete(), newKeyRecover(), newKeyPurge(), newKeyBackup(), newKeyRestore(), newKeyDownload(),
		newKeyEncrypt(), newKeyDecrypt(), newKeySign(), newKeyVerify(), newKeyRotate(),
		group("rotation-policy", "Say when a key is rotated by itself", newRotationPolicyShow(), newRotationPolicyUpdate()),
		newKeyRandom(), newKeyPolicyTemplate(), newKeyBYOKWrap())
	c.Long = reachText("key") + "\n\nWith --hsm-name they work on a managed HSM of the server on this machine."
	return c
}

// keys is a client for a vault's keys.
type keys = *azkeys.Client

func newKeyRef() *ref[keys] {
	return &ref[keys]{kind: kind[keys]{
		noun: "key", path: "keys", inHSMs: true, example: "signing",
		open: func(c *connection) (keys, error) {
			return azkeys.NewClient(c.vaultURL, c.credential, &azkeys.ClientOptions{ClientOptions: c.options})
		},
	}}
}

func keyColumns() []string {
	return []string{"key.kid", "key.kty", "attributes.enabled", "attributes.expires"}
}

func keyItemColumns() []string {
	return []string{"name", "kid", "attributes.enabled", "attributes.expires"}
}

// choice finds a value among those that there are, in any case, as az does.
func choice[T ~string](flag, value string, among []T) (T, error) {
	var all []string
	for _, c := range among {
		if strings.EqualFold(value, string(c)) {
			return c, nil
		}
		all = append(all, string(c))
	}
	return "", usagef("--%s %s: there are %s", flag, value, strings.Join(all, ", "))
}

// keyOperations are those that az knows.
func keyOperations() []azkeys.KeyOperation {
	return []azkeys.KeyOperation{
		azkeys.KeyOperationEncrypt, azkeys.KeyOperationDecrypt, azkeys.KeyOperationSign, azkeys.KeyOperationVerify,
		azkeys.KeyOperationWrapKey, azkeys.KeyOperationUnwrapKey, azkeys.KeyOperationImport, "export",
	}
}

// keyProperties are what create, import and set-attributes say of a key besides the key itself.
type keyProperties struct {
	when      period
	ops, tags []string
	policy    string
	immutable bool
}

func (k *keyProperties) register(cmd *cobra.Command, instead string) {
	k.when.register(cmd, "key")
	registerTags(cmd, &k.tags, "tags, each key=value"+instead+"; '' for none")
	f := cmd.Flags()
	f.StringArrayVar(&k.ops, "ops", nil, "what the key may be used for"+instead+": encrypt, decrypt, sign, verify, wrapKey, unwrapKey, import, export")
	f.StringVar(&k.policy, "policy", "", `rules under which the key may be released: a file, or JSON; see "strongroom key get-policy-template"`)
	f.BoolVar(&k.immutable, "immutable", false, "the policy can never be changed again")
	azWords(cmd, "ops", "immutable")
}

func (k *keyProperties) operations() ([]*azkeys.KeyOperation, error) {
	var all []*azkeys.KeyOperation
	for _, word := range k.ops {
		if word == "" {
			continue
		}
		op, err := choice("ops", word, keyOperations())
		if err != nil {
			return nil, err
		}
		all = append(all, &op)
	}
	return all, nil
}

// releasePolicy is nil if there is none.
func (k *keyProperties) releasePolicy(cmd *cobra.Command) (*azkeys.KeyReleasePolicy, error) {
	if !cmd.Flags().Changed("policy") {
		if cmd.Flags().Changed("immutable") {
			return nil, usagef("--immutable says something about a policy: give --policy too")
		}
		return nil, nil
	}
	policy, err := readPolicy(cmd, "policy", k.policy)
	if err != nil {
		return nil, err
	}
	out := &azkeys.KeyReleasePolicy{EncodedPolicy: policy, ContentType: new(releasePolicyType)}
	if cmd.Flags().Changed("immutable") {
		out.Immutable = &k.immutable
	}
	return out, nil
}

// A newKey is what create and import have in common.
type newKey struct {
	keyProperties
	protection           string
	disabled, exportable bool
}

func (k *newKey) register(cmd *cobra.Command) {
	k.keyProperties.register(cmd, "")
	f := cmd.Flags()
	f.StringVarP(&k.protection, "protection", "p", "", "software or hsm")
	f.BoolVar(&k.disabled, "disabled", false, "create the key disabled")
	f.BoolVar(&k.exportable, "exportable", false, "the key may be released to whom --policy allows")
	azWords(cmd, "disabled", "exportable")
}

// parse reads the flags into what CreateKeyParameters and ImportKeyParameters share.
func (k *newKey) parse(cmd *cobra.Command) (p azkeys.CreateKeyParameters, err error) {
	if k.protection != "" {
		if k.protection, err = choice("protection", k.protection, []string{"software", "hsm"}); err != nil {
			return p, err
		}
	}
	p.KeyAttributes = new(azkeys.KeyAttributes)
	if p.KeyAttributes.Expires, p.KeyAttributes.NotBefore, err = k.when.parse(); err != nil {
		return p, err
	}
	if cmd.Flags().Changed("disabled") {
		p.KeyAttributes.Enabled = new(!k.disabled)
	}
	if cmd.Flags().Changed("exportable") {
		p.KeyAttributes.Exportable = &k.exportable
	}
	if p.KeyOps, err = k.operations(); err != nil {
		return p, err
	}
	if p.ReleasePolicy, err = k.releasePolicy(cmd); err != nil {
		return p, err
	}
	p.Tags, err = parseTags(k.tags)
	return p, err
}

// hsmSuffix marks the types of keys that a hardware module keeps.
const hsmSuffix = "-HSM"

// createdType is the type of key that create's flags mean.
func createdType(kty, curve, protection string) (azkeys.KeyType, error) {
	switch {
	case kty == "" && curve != "":
		kty = string(azkeys.KeyTypeEC)
	case kty == "":
		kty = string(azkeys.KeyTypeRSA)
	}
	typ, err := choice("kty", kty, azkeys.PossibleKeyTypeValues())
	inHSM := strings.HasSuffix(string(typ), hsmSuffix)
	switch {
	case err != nil:
		return "", err
	case protection == "software" && inHSM:
		return "", usagef("--protection software: a key of type %s is the hardware's", typ)
	case protection == "hsm" && !inHSM:
		typ += hsmSuffix
	}
	return typ, nil
}

func newKeyCreate() *cobra.Command {
	var (
		k          newKey
		kty, curve string
		size       int32
	)
	r := newKeyRef()
	r.out.members = "key.kid"
	cmd := &cobra.Command{
		Use:   "create --name NAME",
		Short: "Create a key, or a new version of one",
		Example: `  strongroom key create --name signing --kty EC --curve P-256 --ops sign verify
  strongroom key create --name box --size 3072 --expires 2030-01-01T00:00:00Z --tags owner=team-a`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := k.parse(cmd)
			if err != nil {
				return err
			}
			typ, err := createdType(kty, curve, k.protection)
			if err != nil {
				return err
			}
			p.Kty = &typ
			if curve != "" {
				name, err := choice("curve", curve, azkeys.PossibleCurveNameValues())
				if err != nil {
					return err
				}
				p.Curve = &name
			}
			if cmd.Flags().Changed("size") {
				p.KeySize = &size
			}
			return r.named(cmd, r.printed(func(ctx context.Context, c keys) (any, error) {
				got, err := c.CreateKey(ctx, r.name, p, nil)
				return newKeyOut(&got.KeyBundle), err
			}, keyColumns()...))
		},
	}
	r.registerNamed(cmd, false)
	r.out.register(cmd)
	k.register(cmd)
	f := cmd.Flags()
	f.StringVar(&kty, "kty", "", "type: RSA, EC or oct, or with -HSM (default RSA, or EC with --curve)")
	f.StringVar(&curve, "curve", "", "curve of an EC key: P-256 (the default), P-256K, P-384 or P-521")
	f.Int32Var(&size, "size", 0, "bits: 2048 (the default), 3072 or 4096 of an RSA key; 128, 192 or 256 of an oct key")
	return cmd
}

// A keySource is where an imported key comes from: PEM, or a file that was wrapped for an HSM (bring your own key).
type keySource struct {
	pemFile, pemString, pemPassword string
	byokFile, byokString            string
	kty, curve                      string
}

func (s *keySource) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.pemFile, "pem-file", "", "file with the private key in PEM: PKCS#8, PKCS#1 or SEC 1; - is standard input")
	f.StringVar(&s.pemString, "pem-string", "", "the PEM itself"+visibleHelp)
	registerPassword(cmd, &s.pemPassword)
	f.StringVar(&s.byokFile, "byok-file", "", `file with a key that was wrapped for the vault, as "strongroom key byok-wrap" makes it; - is standard input`)
	f.StringVar(&s.byokString, "byok-string", "", "the content of such a file"+elsewhereHelp)
	f.StringVar(&s.kty, "kty", "", "type of a wrapped key: RSA (the default), EC or oct")
	f.StringVar(&s.curve, "curve", "", "curve of a wrapped EC key: P-256, P-256K, P-384 or P-521")
}

func registerPassword(cmd *cobra.Command, password *string) {
	cmd.Flags().StringVar(password, "pem-password", "", "password of encrypted PEM"+visibleHelp)
}

func (s *keySource) wrapped() bool { return s.byokFile != "" || s.byokString != "" }

// key reads the one source.
func (s *keySource) key(cmd *cobra.Command, protection string) (*azkeys.JSONWebKey, error) {
	sources := 0
	for _, given := range []string{s.pemFile, s.pemString, s.byokFile, s.byokString} {
		if given != "" {
			sources++
		}
	}
	switch {
	case sources != 1:
		return nil, usagef("give the key with exactly one of --pem-file, --pem-string, --byok-file and --byok-string")
	case s.wrapped() && s.pemPassword != "":
		return nil, usagef("--pem-password goes with PEM")
	case s.wrapped() && protection == "software":
		return nil, usagef("--protection software: a key that was wrapped for an HSM is the hardware's")
	case s.wrapped():
		return s.wrappedKey(cmd)
	}
	return s.pemKey(cmd)
}

func (s *keySource) wrappedKey(cmd *cobra.Command) (*azkeys.JSONWebKey, error) {
	kty := s.kty
	if kty == "" {
		kty = string(azkeys.KeyTypeRSA)
	}
	typ, err := choice("kty", kty, []azkeys.KeyType{azkeys.KeyTypeRSA, azkeys.KeyTypeEC, azkeys.KeyTypeOct})
	if err != nil {
		return nil, err
	}
	if (typ == azkeys.KeyTypeEC) != (s.curve != "") {
		return nil, usagef("--curve is for --kty EC, which needs it")
	}
	out := &azkeys.JSONWebKey{Kty: new(typ + hsmSuffix)}
	if s.curve != "" {
		curve, err := choice("curve", s.curve, azkeys.PossibleCurveNameValues())
		if err != nil {
			return nil, err
		}
		out.Crv = &curve
	}
	in := inputs{cmd: cmd}
	if s.byokFile != "" {
		out.T, err = in.file("byok-file", s.byokFile)
	} else {
		out.T, err = in.read("byok-string", s.byokString)
	}
	return out, err
}

func (s *keySource) pemKey(cmd *cobra.Command) (*azkeys.JSONWebKey, error) {
	var content []byte
	var err error
	in := inputs{cmd: cmd}
	if s.pemFile != "" {
		content, err = in.privateFile("pem-file", s.pemFile)
	} else {
		content, err = in.private("pem-string", s.pemString)
	}
	if err != nil {
		return nil, err
	}
	key, err := in.privatePEM(content, s.pemPassword)
	if err != nil {
		return nil, err
	}
	out, err := privateJWK(key)
	if err != nil {
		return nil, err
	}
	if s.kty != "" && !strings.EqualFold(s.kty, string(*out.Kty)) {
		return nil, usagef("--kty %s: the PEM holds a key of type %s", s.kty, *out.Kty)
	}
	if s.curve != "" && (out.Crv == nil || !strings.EqualFold(s.curve, string(*out.Crv))) {
		return nil, usagef("--curve %s: the PEM holds another key", s.curve)
	}
	return out, nil
}

func newKeyImport() *cobra.Command {
	var (
		k newKey
		s keySource
	)
	r := newKeyRef()
	r.out.members = "key.kid"
	cmd := &cobra.Command{
		Use:   "import --name NAME --pem-file FILE",
		Short: "Import a private key, as a new key or as a new version of one",
		Example: `  strongroom key import --name signing --pem-file signing.pem
  openssl pkey -in old.pem | strongroom key import --name signing --pem-file -
  strongroom key import --name signing --byok-file signing.byok --kty EC --curve P-256`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			given, err := k.parse(cmd)
			if err != nil {
				return err
			}
			key, err := s.key(cmd, k.protection)
			if err != nil {
				return err
			}
			key.KeyOps = given.KeyOps
			p := azkeys.ImportKeyParameters{Key: key, KeyAttributes: given.KeyAttributes, ReleasePolicy: given.ReleasePolicy, Tags: given.Tags}
			if k.protection != "" {
				p.HSM = new(k.protection == "hsm")
			}
			return r.named(cmd, r.printed(func(ctx context.Context, c keys) (any, error) {
				got, err := c.ImportKey(ctx, r.name, p, nil)
				return newKeyOut(&got.KeyBundle), err
			}, keyColumns()...))
		},
	}
	r.registerNamed(cmd, false)
	r.out.register(cmd)
	k.register(cmd)
	s.register(cmd)
	return cmd
}

func newKeyShow() *cobra.Command {
	r := newKeyRef()
	r.out.members = "key.kid or attributes.enabled"
	return r.showing(&cobra.Command{
		Use:   "show --name NAME",
		Short: "Show a key's public part and attributes",
		Example: `  strongroom key show --name signing
  strongroom key show --id https://demo.vault.localhost:8443/keys/signing --query key.kid --output tsv`,
	}, true, func(ctx context.Context, c keys) (any, error) {
		got, err := c.GetKey(ctx, r.name, r.version, nil)
		return newKeyOut(&got.KeyBundle), err
	}, keyColumns()...)
}

func newKeyList() *cobra.Command {
	var l listing
	r := newKeyRef()
	r.out.members = "[].name"
	return r.listing(&cobra.Command{
		Use:     "list",
		Short:   "List the keys of a vault",
		Example: "  strongroom key list --output table\n  strongroom key list --vault-name demo --maxresults 5",
	}, &l, func(ctx context.Context, c keys) (any, error) {
		return collect(ctx, &l, c.NewListKeyPropertiesPager(nil),
			func(p azkeys.ListKeyPropertiesResponse) []*azkeys.KeyProperties { return p.Value },
			func(p *azkeys.KeyProperties) *bool { return p.Managed }, newKeyItemOut)
	}, keyItemColumns()...)
}

func newKeyListVersions() *cobra.Command {
	l := listing{managed: true}
	r := newKeyRef()
	r.out.members = "[].kid"
	return r.listingVersions(&cobra.Command{
		Use:     "list-versions --name NAME",
		Short:   "List the versions of a key",
		Example: "  strongroom key list-versions --name signing --output table",
	}, &l, func(ctx context.Context, c keys) (any, error) {
		return collect(ctx, &l, c.NewListKeyPropertiesVersionsPager(r.name, nil),
			func(p azkeys.ListKeyPropertiesVersionsResponse) []*azkeys.KeyProperties { return p.Value },
			func(p *azkeys.KeyProperties) *bool { return p.Managed }, newKeyItemOut)
	}, keyItemColumns()...)
}

func newKeyListDeleted() *cobra.Command {
	l := listing{managed: true}
	r := newKeyRef()
	r.out.members = "[].name"
	return r.listing(&cobra.Command{
		Use:     "list-deleted",
		Short:   "List the deleted keys of a vault",
		Example: "  strongroom key list-deleted --output table",
	}, &l, func(ctx context.Context, c keys) (any, error) {
		return collect(ctx, &l, c.NewListDeletedKeyPropertiesPager(nil),
			func(p azkeys.ListDeletedKeyPropertiesResponse) []*azkeys.DeletedKeyProperties { return p.Value },
			func(p *azkeys.DeletedKeyProperties) *bool { return p.Managed }, newDeletedKeyItemOut)
	}, deletedColumns("name")...)
}

func newKeyShowDeleted() *cobra.Command {
	r := newKeyRef()
	return r.showing(&cobra.Command{
		Use:     "show-deleted --name NAME",
		Short:   "Show a deleted key",
		Example: "  strongroom key show-deleted --name signing",
	}, false, func(ctx context.Context, c keys) (any, error) {
		got, err := c.GetDeletedKey(ctx, r.name, nil)
		return newDeletedKeyOut(&got.DeletedKey), err
	}, deletedColumns("key.kid")...)
}

func newKeySetAttributes() *cobra.Command {
	var (
		k       keyProperties
		enabled bool
	)
	r := newKeyRef()
	cmd := &cobra.Command{
		Use:   "set-attributes --name NAME",
		Short: "Change the attributes of a key",
		Example: `  strongroom key set-attributes --name signing --enabled false
  strongroom key set-attributes --name signing --ops sign verify --expires 2030-01-01T00:00:00Z --tags owner=team-b`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := k.update(cmd)
			if err != nil {
				return err
			}
			if err := anyChanged(cmd, "enabled", "expires", "not-before", "ops", "policy", "tags"); err != nil {
				return err
			}
			if cmd.Flags().Changed("enabled") {
				p.KeyAttributes.Enabled = &enabled
			}
			return r.named(cmd, r.printed(func(ctx context.Context, c keys) (any, error) {
				got, err := c.UpdateKey(ctx, r.name, r.version, p, nil)
				return newKeyOut(&got.KeyBundle), err
			}, keyColumns()...))
		},
	}
	r.registerNamed(cmd, true)
	r.out.register(cmd)
	k.register(cmd, ", instead of the present ones")
	cmd.Flags().BoolVar(&enabled, "enabled", true, "true or false")
	azWords(cmd, "enabled")
	return cmd
}

// update holds what was given and nothing else: that stays as it is.
func (k *keyProperties) update(cmd *cobra.Command) (p azkeys.UpdateKeyParameters, err error) {
	p.KeyAttributes = new(azkeys.KeyAttributes)
	if p.KeyAttributes.Expires, p.KeyAttributes.NotBefore, err = k.when.parse(); err != nil {
		return p, err
	}
	if cmd.Flags().Changed("ops") {
		if p.KeyOps, err = k.operations(); err != nil {
			return p, err
		}
		if p.KeyOps == nil {
			p.KeyOps = []*azkeys.KeyOperation{} // none, and not as they are
		}
	}
	if cmd.Flags().Changed("tags") {
		if p.Tags, err = parseTags(k.tags); err != nil {
			return p, err
		}
	}
	p.ReleasePolicy, err = k.releasePolicy(cmd)
	return p, err
}

func newKeyDelete() *cobra.Command {
	r := newKeyRef()
	return r.showing(&cobra.Command{
		Use:     "delete --name NAME",
		Short:   "Delete a key; it can be recovered until it is purged",
		Example: "  strongroom key delete --name signing",
	}, false, func(ctx context.Context, c keys) (any, error) {
		got, err := c.DeleteKey(ctx, r.name, nil)
		if err != nil {
			return nil, err
		}
		return newDeletedKeyOut(&got.DeletedKey), settle(ctx, func() error {
			_, err := c.GetDeletedKey(ctx, r.name, nil)
			return err
		})
	}, deletedColumns("key.kid")...)
}

func newKeyRecover() *cobra.Command {
	r := newKeyRef()
	return r.showing(&cobra.Command{
		Use:     "recover --name NAME",
		Short:   "Recover a deleted key with all its versions",
		Example: "  strongroom key recover --name signing",
	}, false, func(ctx context.Context, c keys) (any, error) {
		got, err := c.RecoverDeletedKey(ctx, r.name, nil)
		if err != nil {
			return nil, err
		}
		return newKeyOut(&got.KeyBundle), settle(ctx, func() error {
			_, err := c.GetKey(ctx, r.name, "", nil)
			return err
		})
	}, keyColumns()...)
}

func newKeyPurge() *cobra.Command {
	r := newKeyRef()
	return r.purging(func(ctx context.Context, c keys) error {
		_, err := c.PurgeDeletedKey(ctx, r.name, nil)
		return err
	})
}

func newKeyBackup() *cobra.Command {
	r := newKeyRef()
	return r.backing(func(ctx context.Context, c keys) ([]byte, error) {
		got, err := c.BackupKey(ctx, r.name, nil)
		return got.Value, err
	})
}

func newKeyRestore() *cobra.Command {
	r := newKeyRef()
	return r.restoring(func(ctx context.Context, c keys, blob []byte) (any, error) {
		got, err := c.RestoreKey(ctx, azkeys.RestoreKeyParameters{KeyBackup: blob}, nil)
		return newKeyOut(&got.KeyBundle), err
	}, keyColumns()...)
}

func newKeyDownload() *cobra.Command {
	var file, encoding string
	r := newKeyRef()
	cmd := &cobra.Command{
		Use:   "download --name NAME --file FILE",
		Short: "Save a key's public part to a new file",
		Long: `Download saves the public part of an RSA or EC key as X.509's SubjectPublicKeyInfo to a new file and never overwrites one; --file -
is standard output.`,
		Example: `  strongroom key download --name signing --file signing.pub.pem
  strongroom key download --name signing --encoding DER --file - | openssl pkey -pubin -inform DER -text`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("--file is missing: where to?")
			}
			form, err := choice("encoding", encoding, []string{"PEM", "DER"})
			if err != nil {
				return err
			}
			return r.named(cmd, func(ctx context.Context, c keys, w io.Writer) error {
				got, err := c.GetKey(ctx, r.name, r.version, nil)
				if err != nil {
					return err
				}
				content, err := marshalPublic(got.Key)
				if err != nil {
					return err
				}
				if form == "PEM" {
					content = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: content})
				}
				if file == "-" {
					_, err := w.Write(content)
					return err
				}
				return writeNewFile(file, content)
			})
		},
	}
	r.registerNamed(cmd, true)
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "new file; - is standard output")
	f.StringVarP(&encoding, "encoding", "e", "PEM", "PEM or DER")
	return cmd
}

func newKeyRotate() *cobra.Command {
	r := newKeyRef()
	r.out.members = "key.kid"
	return r.showing(&cobra.Command{
		Use:     "rotate --name NAME",
		Short:   "Make a new version of a key, of the same kind as the latest",
		Example: "  strongroom key rotate --name signing",
	}, false, func(ctx context.Context, c keys) (any, error) {
		got, err := c.RotateKey(ctx, r.name, nil)
		return newKeyOut(&got.KeyBundle), err
	}, keyColumns()...)
}

func newRotationPolicyShow() *cobra.Command {
	r := newKeyRef()
	return r.showing(&cobra.Command{
		Use:     "show --name NAME",
		Short:   "Show a key's rotation policy",
		Example: "  strongroom key rotation-policy show --name signing",
	}, false, func(ctx context.Context, c keys) (any, error) {
		got, err := c.GetKeyRotationPolicy(ctx, r.name, nil)
		return newRotationPolicyOut(&got.KeyRotationPolicy), err
	}, "id", "expiresIn", "createdOn", "updatedOn")
}

func newRotationPolicyUpdate() *cobra.Command {
	var value string
	r := newKeyRef()
	cmd := &cobra.Command{
		Use:   "update --name NAME --value POLICY",
		Short: "Set a key's rotation policy",
		Long: `Update sets a key's rotation policy, which is JSON such as

  {
    "lifetimeActions": [
      {"trigger": {"timeAfterCreate": "P90D"}, "action": {"type": "Rotate"}},
      {"trigger": {"timeBeforeExpiry": "P30D"}, "action": {"type": "Notify"}}
    ],
    "attributes": {"expiryTime": "P2Y"}
  }

Durations are those of ISO 8601. What "rotation-policy show" prints is understood too.`,
		Example: "  strongroom key rotation-policy update --name signing --value policy.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needed(cmd, "value"); err != nil {
				return err
			}
			raw, err := readPolicy(cmd, "value", value)
			if err != nil {
				return err
			}
			policy, err := parseRotationPolicy(raw)
			if err != nil {
				return err
			}
			return r.named(cmd, r.printed(func(ctx context.Context, c keys) (any, error) {
				got, err := c.UpdateKeyRotationPolicy(ctx, r.name, policy, nil)
				return newRotationPolicyOut(&got.KeyRotationPolicy), err
			}, "id", "expiresIn", "createdOn", "updatedOn"))
		},
	}
	r.registerNamed(cmd, false)
	r.out.register(cmd)
	cmd.Flags().StringVar(&value, "value", "", "the policy: a file, or JSON")
	return cmd
}

func newKeyRandom() *cobra.Command {
	var count int32
	r := newKeyRef()
	r.out.members = "value"
	cmd := &cobra.Command{
		Use:     "random --count NUMBER",
		Short:   "Get random bytes of a managed HSM, in base64; vaults give none",
		Example: "  strongroom key random --vault-url https://hsm.managedhsm.example.org --count 32 --query value --output tsv",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(needed(cmd, "count"), r.out.check(), r.parseVault()); err != nil {
				return err
			}
			return r.do(cmd, r.printed(func(ctx context.Context, c keys) (any, error) {
				got, err := c.GetRandomBytes(ctx, azkeys.GetRandomBytesParameters{Count: &count}, nil)
				return randomOut{Value: got.Value}, err
			}, "value"))
		},
	}
	r.registerVault(cmd)
	r.out.register(cmd)
	cmd.Flags().Int32Var(&count, "count", 0, "how many bytes, at most 128")
	return cmd
}

func newKeyPolicyTemplate() *cobra.Command {
	return &cobra.Command{
		Use:     "get-policy-template",
		Short:   "Print what a release policy looks like",
		Example: "  strongroom key get-policy-template",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printJSON(cmd.OutOrStdout(), releasePolicyTemplate())
		},
	}
}
