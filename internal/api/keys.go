package api

import (
	"errors"
	"regexp"
	"strings"

	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/wire"
)

// Shapes of contract §3, with the members in the order in which the real service writes them.

type keyBundle struct {
	Key           jsonWebKey        `json:"key"`
	Attributes    keyAttributes     `json:"attributes"`
	Tags          map[string]string `json:"tags,omitempty"`
	Managed       bool              `json:"managed,omitempty"`
	ReleasePolicy *releasePolicy    `json:"release_policy,omitempty"`
}

// A jsonWebKey is what an answer tells about a key. It has no member for anything secret.
type jsonWebKey struct {
	KeyID      string    `json:"kid"`
	Type       string    `json:"kty"`
	Operations []string  `json:"key_ops"`
	N          base64url `json:"n,omitempty"`
	E          base64url `json:"e,omitempty"`
	Curve      string    `json:"crv,omitempty"`
	X          base64url `json:"x,omitempty"`
	Y          base64url `json:"y,omitempty"`
}

type keyAttributes struct {
	objectAttributes
	Exportable *bool  `json:"exportable,omitempty"`
	Platform   string `json:"hsmPlatform,omitempty"`
	Size       int    `json:"key_size,omitempty"`
}

type releasePolicy struct {
	ContentType string    `json:"contentType"`
	Data        base64url `json:"data"`
	Immutable   bool      `json:"immutable"`
}

type keyItem struct {
	KeyID      string            `json:"kid"`
	Attributes keyAttributes     `json:"attributes"`
	Tags       map[string]string `json:"tags,omitempty"`
	Managed    bool              `json:"managed,omitempty"`
}

type deletedKeyBundle struct {
	deletion
	keyBundle
}

type deletedKeyItem struct {
	deletion
	keyItem
}

// keyBundle shows a version under its own id, which also goes on record.
func (q *request) keyBundle(k keyvault.Key) keyBundle {
	id := q.used(keyvault.Used{Name: k.Name, Version: k.Version, Vault: k.Vault})
	b := keyBundle{
		Key: jsonWebKey{
			KeyID: id, Type: k.Type, Operations: k.Operations,
			N: k.Public.N, E: k.Public.E, Curve: k.Curve, X: k.Public.X, Y: k.Public.Y,
		},
		Attributes: q.keyAttributes(k),
		Tags:       k.Tags,
		Managed:    k.Managed,
	}
	if p := k.ReleasePolicy; p != nil && q.atLeast("7.3-preview") {
		b.ReleasePolicy = &releasePolicy{p.ContentType, p.Data, p.Immutable}
	}
	return b
}

func (q *request) keyAttributes(k keyvault.Key) keyAttributes {
	a := keyAttributes{objectAttributes: attributesOf(k.Properties)}
	if q.atLeast("7.3-preview") && !k.Managed { // recorded: that of a certificate's key does not say
		a.Exportable = &k.Exportable
	}
	if q.atLeast("7.5-preview.1") && !q.hsm { // recorded: a managed HSM does not say
		a.Platform = k.Platform
	}
	if q.atLeast("2026-04-01") && strings.HasPrefix(k.Type, "oct") {
		a.Size = k.Bits
	}
	return a
}

// keyItem and keyVersion show a version as lists do, under the id of the key or its own.
func (q *request) keyItem(k keyvault.Key) keyItem { return q.keyAt(k, "") }

func (q *request) keyVersion(k keyvault.Key) keyItem { return q.keyAt(k, k.Version) }

func (q *request) keyAt(k keyvault.Key, version string) keyItem {
	return keyItem{q.url("keys", k.Name, version), q.keyAttributes(k), k.Tags, k.Managed}
}

func (q *request) deletedKeyBundle(k keyvault.DeletedKey) deletedKeyBundle {
	return deletedKeyBundle{q.keyDeletion(k), q.keyBundle(k.Key)}
}

func (q *request) deletedKeyItem(k keyvault.DeletedKey) deletedKeyItem {
	return deletedKeyItem{q.keyDeletion(k), q.keyItem(k.Key)}
}

func (q *request) keyDeletion(k keyvault.DeletedKey) deletion {
	return deletion{q.url("deletedkeys", k.Name, ""), k.Deleted, k.ScheduledPurge}
}

// used puts on record which version of a key a request came to, whether it was refused or not, and returns its id.
func (q *request) used(u keyvault.Used) string {
	if u.Name == "" {
		return "" // no such key, or the caller may not know of it
	}
	id := q.url("keys", u.Name, u.Version)
	q.outcome.Object, q.outcome.Resource = id, u.Vault
	return id
}

var (
	getKey = versioned((*keyvault.Service).GetKey, (*request).keyBundle)

	getKeyAttestation = versioned((*keyvault.Service).GetKeyAttestation, (*request).keyBundle)

	deleteKey       = named((*keyvault.Service).DeleteKey, (*request).deletedKeyBundle)
	getDeletedKey   = named((*keyvault.Service).GetDeletedKey, (*request).deletedKeyBundle)
	recoverKey      = named((*keyvault.Service).RecoverKey, (*request).keyBundle)
	purgeKey        = purged((*keyvault.Service).PurgeKey)
	listKeys        = listed((*keyvault.Service).ListKeys, (*request).keyItem)
	listKeyVersions = versionsListed((*keyvault.Service).ListKeyVersions, (*request).keyVersion)
	listDeletedKeys = listed((*keyvault.Service).ListDeletedKeys, (*request).deletedKeyItem)
	backupKey       = backedUp((*keyvault.Service).BackupKey)
	restoreKey      = restored((*keyvault.Service).RestoreKey,
		func(k keyvault.Key) keyvault.Properties { return k.Properties }, (*request).keyBundle)
)

// oldNames are spellings that the first versions of the API had (contract §4).
var oldNames = map[string]string{"SECP256K1": "P-256K", "ECDSA256": "ES256K"}

func currentName(name string) string {
	if current, old := oldNames[name]; old {
		return current
	}
	return name
}

// exportable reads the attribute that keys have beside those of all objects.
func exportable(body wire.Object) (*bool, error) {
	o, ok, err := body.Object("attributes")
	if !ok || err != nil {
		return nil, err
	}
	return o.Boolean("exportable")
}

// readReleasePolicy reads a release policy, nil if there is none.
func readReleasePolicy(body wire.Object) (*keyvault.ReleasePolicy, error) {
	o, ok, err := body.Object("release_policy")
	if !ok || err != nil {
		return nil, err
	}
	var p keyvault.ReleasePolicy
	if p.ContentType, err = o.TextOrNone("contentType"); err != nil {
		return nil, err
	}
	if p.Data, err = o.RequiredBytes("data"); err != nil {
		return nil, err
	}
	immutable, err := o.Boolean("immutable")
	p.Immutable = immutable != nil && *immutable
	return &p, err
}

// keyProperties are what the bodies of create, import and update have in common.
type keyProperties struct {
	Attributes    keyvault.Attributes
	Exportable    *bool
	Tags          map[string]string
	ReleasePolicy *keyvault.ReleasePolicy
}

func readKeyProperties(body wire.Object) (p keyProperties, err error) {
	if p.Attributes, err = attributes(body); err != nil {
		return p, err
	}
	if p.Exportable, err = exportable(body); err != nil {
		return p, err
	}
	if p.Tags, err = body.Texts("tags"); err != nil {
		return p, err
	}
	p.ReleasePolicy, err = readReleasePolicy(body)
	return p, err
}

func (p keyProperties) exportable() bool { return p.Exportable != nil && *p.Exportable }

func createKey(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	p, err := readCreateKey(body)
	if err != nil {
		return response{}, err
	}
	k, err := q.service.CreateKey(q.ctx, q.caller, q.vault, q.params.name, p)
	return reply(q, k, err, (*request).keyBundle)
}

func readCreateKey(body wire.Object) (p keyvault.CreateKeyParams, err error) {
	if p.Type, err = body.Required("kty"); err != nil {
		return p, err
	}
	if p.Bits, err = body.Number("key_size"); err != nil {
		return p, err
	}
	if p.Exponent, err = body.Number("public_exponent"); err != nil {
		return p, err
	}
	curve, err := body.TextOrNone("crv")
	if err != nil {
		return p, err
	}
	p.Curve = currentName(curve)
	if p.Operations, err = body.Strings("key_ops"); err != nil {
		return p, err
	}
	more, err := readKeyProperties(body)
	p.Attributes, p.Exportable, p.Tags, p.ReleasePolicy = more.Attributes, more.exportable(), more.Tags, more.ReleasePolicy
	return p, err
}

func importKey(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	p, err := readImportKey(body)
	if err != nil {
		return response{}, err
	}
	p.ParseKeyID = q.parseKeyID
	k, err := q.service.ImportKey(q.ctx, q.caller, q.vault, q.params.name, p)
	return reply(q, k, err, (*request).keyBundle)
}

// readImportKey reads the body of an import. The operations of the key stand in the key: that is where all of Azure's
// clients put them, and its API knows no other place.
func readImportKey(body wire.Object) (p keyvault.ImportKeyParams, err error) {
	inHSM, err := body.Boolean("Hsm")
	if err != nil {
		return p, err
	}
	p.HSM = inHSM != nil && *inHSM
	key, ok, err := body.Object("key")
	if err != nil {
		return p, err
	}
	if !ok {
		return p, body.Missing("key")
	}
	if p.Type, err = key.Required("kty"); err != nil {
		return p, err
	}
	curve, err := key.TextOrNone("crv")
	if err != nil {
		return p, err
	}
	p.Curve = currentName(curve)
	if p.Operations, err = key.Strings("key_ops"); err != nil {
		return p, err
	}
	if err = readPrivateKey(key, &p); err != nil {
		return p, err
	}
	more, err := readKeyProperties(body)
	p.Attributes, p.Exportable, p.Tags, p.ReleasePolicy = more.Attributes, more.exportable(), more.Tags, more.ReleasePolicy
	return p, err
}

// readPrivateKey reads the numbers of a JWK, or the transfer file that holds the key in place of what is secret of them.
func readPrivateKey(key wire.Object, p *keyvault.ImportKeyParams) (err error) {
	if p.Transfer, err = key.Bytes("key_hsm"); err != nil {
		return err
	}
	k := &p.Private
	for _, m := range []struct {
		name   string
		value  *[]byte
		secret bool
	}{
		{"n", &k.N, false}, {"e", &k.E, false}, {"x", &k.X, false}, {"y", &k.Y, false},
		{"d", &k.D, true}, {"dp", &k.DP, true}, {"dq", &k.DQ, true}, {"qi", &k.QI, true}, {"p", &k.P, true}, {"q", &k.Q, true},
		{"k", &k.K, true},
	} {
		if *m.value, err = key.Bytes(m.name); err != nil {
			return err
		}
		if m.secret && p.Transfer != nil && *m.value != nil {
			return badParameter("The member %q cannot stand beside %q, which holds the whole key.", key.Path(m.name), key.Path("key_hsm"))
		}
	}
	return nil
}

// keyID is the form of a key's id, with the vault, the key and its version as groups.
var keyID = regexp.MustCompile(`^(?i:https)://([0-9A-Za-z-]+)\.[0-9A-Za-z.-]+(?::[0-9]{1,5})?/keys/([0-9A-Za-z-]{1,127})(?:/([0-9A-Fa-f]{32}))?$`)

// parseKeyID finds out which key of this vault an id names. The host behind the vault's name does not matter: whoever
// wrote the id may know this server by another name.
func (q *request) parseKeyID(id string) (name, version string, err error) {
	m := keyID.FindStringSubmatch(id)
	if m == nil || !strings.EqualFold(m[1], q.vault) {
		return "", "", errors.New("it is no id of a key of this vault")
	}
	return m[2], m[3], nil
}

func updateKey(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	var p keyvault.UpdateKeyParams
	if p.Operations, err = body.Strings("key_ops"); err != nil {
		return response{}, err
	}
	more, err := readKeyProperties(body)
	if err != nil {
		return response{}, err
	}
	p.Attributes, p.Exportable, p.Tags, p.ReleasePolicy = more.Attributes, more.Exportable, more.Tags, more.ReleasePolicy
	k, err := q.service.UpdateKey(q.ctx, q.caller, q.vault, q.params.name, q.params.version, p)
	return reply(q, k, err, (*request).keyBundle)
}
