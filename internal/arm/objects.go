package arm

import (
	"cmp"
	"errors"
	"net/http"
	"net/netip"
	"strings"

	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire"
)

// Keys and secrets that are made together with a vault, by templates. A secret's value can be written and never read.
//
// Azure lets whoever may write a vault's resources write secrets into it that way, past what the vault says about who may.
// Here it takes both: the action of this plane and the permission in the vault. From where the vault can be reached, and that is
// Azure's rule for the data plane alone, holds here too: a network that is kept out of a vault does not get in by way of this
// plane.

// maxSecret has room for a value of full size with each byte escaped as six, and for as many tags as there can be.
const maxSecret = 256 << 10

type object[P any] struct {
	ID         string            `json:"id"`
	Name       string            `json:"name"`
	Type       string            `json:"type"`
	Location   string            `json:"location"`
	Tags       map[string]string `json:"tags"`
	Properties P                 `json:"properties"`
}

type attributes struct {
	Enabled   bool   `json:"enabled"`
	NotBefore *int64 `json:"nbf,omitempty"`
	Expires   *int64 `json:"exp,omitempty"`
	Created   int64  `json:"created"`
	Updated   int64  `json:"updated"`
}

type keyAttributes struct {
	attributes
	RecoveryLevel string `json:"recoveryLevel"`
	Exportable    bool   `json:"exportable"`
}

type secretProperties struct {
	ContentType string     `json:"contentType,omitempty"`
	Attributes  attributes `json:"attributes"`
	URI         string     `json:"secretUri"`
	Version     string     `json:"secretUriWithVersion"`
}

type keyProperties struct {
	Attributes keyAttributes `json:"attributes"`
	Type       string        `json:"kty,omitempty"`
	Operations []string      `json:"keyOps,omitempty"`
	Bits       int           `json:"keySize,omitempty"`
	Curve      string        `json:"curveName,omitempty"`
	URI        string        `json:"keyUri"`
	Version    string        `json:"keyUriWithVersion,omitempty"`
}

func attributesOf(p keyvault.Properties) attributes {
	return attributes{p.Enabled, p.NotBefore, p.Expires, p.Created, p.Updated}
}

// inVault is what a route does with the vault in the path, for whoever may perform an action at it, from where he asks.
func inVault(action string, do func(q *request, v *resource.Vault) (response, error)) handler {
	return func(q *request) (response, error) {
		v, err := q.vaultFor(action)
		if err != nil {
			return response{}, err
		}
		return do(q, v)
	}
}

func (q *request) vaultFor(action string) (*resource.Vault, error) {
	v, err := findVault(q)
	if err == nil {
		err = q.resources().Authorize(q.ctx, q.actor(), "Microsoft.KeyVault/vaults/"+action, v.Scope())
	}
	if err == nil {
		from, _ := netip.ParseAddr(q.outcome.Address) // an address that is none is in no rule
		err = q.h.cfg.Vaults.Reachable(q.ctx, v.Name, from)
	}
	return v, err
}

func (q *request) secret(v *resource.Vault) func(keyvault.Secret) object[secretProperties] {
	return func(s keyvault.Secret) object[secretProperties] {
		uri := q.vaultURL("vault", v.Name) + "secrets/" + s.Name
		return object[secretProperties]{
			v.ARMID() + "/secrets/" + s.Name, s.Name, "Microsoft.KeyVault/vaults/secrets", v.Location, tagsOf(s.Tags),
			secretProperties{s.ContentType, attributesOf(s.Properties), uri, uri + "/" + s.Version},
		}
	}
}

func getSecret(q *request, v *resource.Vault) (response, error) {
	s, err := q.findSecret(v)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.secret(v)(s))
}

// findSecret looks the secret up in the list of all, which is how it can be seen without its value.
func (q *request) findSecret(v *resource.Vault) (keyvault.Secret, error) {
	found, err := q.h.cfg.Vaults.ListSecrets(q.ctx, q.caller, v.Name, strings.ToLower(q.params.object), 1)
	if err != nil {
		return keyvault.Secret{}, err
	}
	if len(found.Items) == 0 || !equalFold(found.Items[0].Name, q.params.object) {
		return keyvault.Secret{}, &keyvault.Error{Kind: keyvault.NotFound, Object: keyvault.SecretKind,
			Message: sprintf("The secret '%s' was not found in the vault '%s'.", clip(q.params.object), v.Name)}
	}
	return found.Items[0], nil
}

func listSecrets(q *request, v *resource.Vault) (response, error) {
	from, max, err := q.objectPage()
	if err != nil {
		return response{}, err
	}
	p, err := q.h.cfg.Vaults.ListSecrets(q.ctx, q.caller, v.Name, from, max)
	return objectPage(q, p, err, q.secret(v))
}

// objectPage reads the paging parameters of a list of objects, whose pages are those of the data plane.
func (q *request) objectPage() (from string, max int, err error) {
	if max, err = q.top(); err != nil {
		return "", 0, err
	}
	from, err = q.skipToken()
	if err == nil && from != "" && !objectName(from) {
		err = badRequest("The query parameter $skiptoken was not made by this service.")
	}
	return from, min(max, keyvault.MaxPage), err
}

// objectName tells whether a text can be an object's name or version.
func objectName(s string) bool {
	const most = 127
	return s != "" && len(s) <= most && strings.Trim(asciiLower(s), "0123456789abcdefghijklmnopqrstuvwxyz-") == ""
}

func objectPage[T, W any](q *request, p keyvault.Page[T], err error, show func(T) W) (response, error) {
	if err != nil {
		return response{}, err
	}
	out := list[W]{Value: []W{}}
	for _, item := range p.Items {
		out.Value = append(out.Value, show(item))
	}
	if p.Next != "" {
		link := q.next(p.Next)
		out.NextLink = &link
	}
	return reply(http.StatusOK, out)
}

func putSecret(q *request, v *resource.Vault) (response, error) {
	body, properties, err := q.properties()
	if err != nil {
		return response{}, err
	}
	value, err := properties.Required("value")
	if err != nil {
		return response{}, err
	}
	p := keyvault.SetSecretParams{Value: keyvault.NewSecretValue(value)}
	if p.Tags, err = body.Texts("tags"); err != nil {
		return response{}, err
	}
	if p.ContentType, err = properties.TextOrNone("contentType"); err != nil {
		return response{}, err
	}
	if p.Attributes, err = readAttributes(properties); err != nil {
		return response{}, err
	}
	s, err := q.h.cfg.Vaults.SetSecret(q.ctx, q.caller, v.Name, q.params.object, p)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.secret(v)(s))
}

// patchSecret changes what is known about the current version; with a value, it makes a new one that is otherwise as the
// current one was.
func patchSecret(q *request, v *resource.Vault) (response, error) {
	body, properties, err := q.properties()
	if err != nil {
		return response{}, err
	}
	var p keyvault.UpdateSecretParams
	if p.Tags, err = body.Texts("tags"); err != nil {
		return response{}, err
	}
	if p.ContentType, err = properties.Text("contentType"); err != nil {
		return response{}, err
	}
	if p.Attributes, err = readAttributes(properties); err != nil {
		return response{}, err
	}
	value, err := properties.Text("value")
	if err != nil {
		return response{}, err
	}
	var s keyvault.Secret
	if value == nil {
		s, err = q.h.cfg.Vaults.UpdateSecret(q.ctx, q.caller, v.Name, q.params.object, "", p)
	} else {
		s, err = q.newVersion(v, *value, p)
	}
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.secret(v)(s))
}

func (q *request) newVersion(v *resource.Vault, value string, change keyvault.UpdateSecretParams) (keyvault.Secret, error) {
	old, err := q.findSecret(v)
	if err != nil {
		return keyvault.Secret{}, err
	}
	asked := change.Attributes
	p := keyvault.SetSecretParams{
		Value: keyvault.NewSecretValue(value), ContentType: *cmp.Or(change.ContentType, &old.ContentType), Tags: old.Tags,
		Attributes: keyvault.Attributes{
			Enabled:   cmp.Or(asked.Enabled, &old.Enabled),
			NotBefore: cmp.Or(asked.NotBefore, old.NotBefore),
			Expires:   cmp.Or(asked.Expires, old.Expires),
		},
	}
	if change.Tags != nil {
		p.Tags = change.Tags
	}
	return q.h.cfg.Vaults.SetSecret(q.ctx, q.caller, v.Name, q.params.object, p)
}

func readAttributes(properties wire.Object) (keyvault.Attributes, error) {
	a, err := properties.Attributes()
	return keyvault.Attributes(a), err
}

// key shows a version under the id of its key, or under its own.
func (q *request) key(v *resource.Vault, versioned bool) func(keyvault.Key) object[keyProperties] {
	return func(k keyvault.Key) object[keyProperties] {
		uri := q.vaultURL("vault", v.Name) + "keys/" + k.Name
		out := object[keyProperties]{
			v.ARMID() + "/keys/" + k.Name, k.Name, "Microsoft.KeyVault/vaults/keys", v.Location, tagsOf(k.Tags),
			keyProperties{
				keyAttributes{attributesOf(k.Properties), k.RecoveryLevel, k.Exportable}, k.Type, k.Operations, k.Bits, k.Curve, uri, "",
			},
		}
		if k.Version != "" {
			out.Properties.Version = uri + "/" + k.Version
		}
		if versioned {
			out.ID, out.Name, out.Type = out.ID+"/versions/"+k.Version, k.Version, out.Type+"/versions"
		}
		return out
	}
}

func getKey(q *request, v *resource.Vault) (response, error) {
	k, err := q.h.cfg.Vaults.GetKey(q.ctx, q.caller, v.Name, q.params.object, q.params.version)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.key(v, q.params.version != "")(k))
}

func listKeys(q *request, v *resource.Vault) (response, error) {
	from, max, err := q.objectPage()
	if err != nil {
		return response{}, err
	}
	p, err := q.h.cfg.Vaults.ListKeys(q.ctx, q.caller, v.Name, from, max)
	return objectPage(q, p, err, q.key(v, false))
}

func listKeyVersions(q *request, v *resource.Vault) (response, error) {
	from, max, err := q.objectPage()
	if err != nil {
		return response{}, err
	}
	p, err := q.h.cfg.Vaults.ListKeyVersions(q.ctx, q.caller, v.Name, q.params.object, from, max)
	return objectPage(q, p, err, q.key(v, true))
}

// putKey makes a key if there is none of that name. One that is there stays as it is.
func putKey(q *request, v *resource.Vault) (response, error) {
	body, properties, err := q.properties()
	if err != nil {
		return response{}, err
	}
	p, err := readCreateKey(body, properties)
	if err != nil {
		return response{}, err
	}
	k, err := q.h.cfg.Vaults.GetKey(q.ctx, q.caller, v.Name, q.params.object, "")
	if isNotFound(err) {
		k, err = q.h.cfg.Vaults.CreateKey(q.ctx, q.caller, v.Name, q.params.object, p)
	}
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, q.key(v, false)(k))
}

func isNotFound(err error) bool {
	var refused *keyvault.Error
	return errors.As(err, &refused) && refused.Kind == keyvault.NotFound
}

func readCreateKey(body, properties wire.Object) (p keyvault.CreateKeyParams, err error) {
	for _, name := range []string{"rotationPolicy", "release_policy"} {
		if _, there, err := properties.Object(name); err != nil || there {
			return p, properties.WrongType(name, "absent: it can be set in the vault itself, once the key has been made")
		}
	}
	if p.Tags, err = body.Texts("tags"); err != nil {
		return p, err
	}
	if p.Type, err = properties.Required("kty"); err != nil {
		return p, err
	}
	if p.Operations, err = properties.Strings("keyOps"); err != nil {
		return p, err
	}
	if p.Bits, err = properties.Number("keySize"); err != nil {
		return p, err
	}
	if p.Curve, err = properties.TextOrNone("curveName"); err != nil {
		return p, err
	}
	p.Attributes, err = readAttributes(properties)
	return p, err
}
