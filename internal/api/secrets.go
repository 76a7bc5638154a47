package api

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/strongroom/strongroom/internal/keyvault"
)

// Shapes of contract §7, with the members in the order in which the real service writes them.

type secretBundle struct {
	Value           *string           `json:"value,omitempty"`
	ContentType     string            `json:"contentType,omitempty"`
	ID              string            `json:"id"`
	Managed         bool              `json:"managed,omitempty"`
	Attributes      secretAttributes  `json:"attributes"`
	Tags            map[string]string `json:"tags,omitempty"`
	KeyID           string            `json:"kid,omitempty"`
	PreviousVersion string            `json:"previousVersion,omitempty"`
}

type secretAttributes struct {
	Enabled         bool   `json:"enabled"`
	NotBefore       *int64 `json:"nbf,omitempty"`
	Expires         *int64 `json:"exp,omitempty"`
	Created         int64  `json:"created"`
	Updated         int64  `json:"updated"`
	RecoveryLevel   string `json:"recoveryLevel"`
	RecoverableDays int    `json:"recoverableDays"`
}

type deletedSecretBundle struct {
	RecoveryID     string `json:"recoveryId"`
	Deleted        int64  `json:"deletedDate"`
	ScheduledPurge int64  `json:"scheduledPurgeDate"`
	secretBundle
}

type list[T any] struct {
	Value    []T     `json:"value"`
	NextLink *string `json:"nextLink"`
}

type blob struct {
	Value string `json:"value"`
}

func (q *request) secretURL(name, version string) string {
	id := q.base + "/secrets/" + name
	if version != "" {
		id += "/" + version
	}
	return id
}

// bundle shows a version under its own id.
func (q *request) bundle(s keyvault.Secret) secretBundle {
	b := q.item(s, s.Version)
	if q.atLeast("2025-07-01") {
		b.PreviousVersion = s.PreviousVersion
	}
	if s.Managed {
		b.KeyID = q.base + "/keys/" + s.Name + "/" + s.Version
	}
	return b
}

// item shows a version as lists do: without the members that belong to one version only, under the given id.
func (q *request) item(s keyvault.Secret, version string) secretBundle {
	return secretBundle{
		ContentType: s.ContentType,
		ID:          q.secretURL(s.Name, version),
		Managed:     s.Managed,
		Attributes: secretAttributes{
			Enabled:         s.Enabled,
			NotBefore:       s.NotBefore,
			Expires:         s.Expires,
			Created:         s.Created,
			Updated:         s.Updated,
			RecoveryLevel:   s.RecoveryLevel,
			RecoverableDays: s.RecoverableDays,
		},
		Tags: s.Tags,
	}
}

func (q *request) deleted(s keyvault.DeletedSecret, shown secretBundle) deletedSecretBundle {
	return deletedSecretBundle{
		RecoveryID:     q.base + "/deletedsecrets/" + s.Name,
		Deleted:        s.Deleted,
		ScheduledPurge: s.ScheduledPurge,
		secretBundle:   shown,
	}
}

// withValue is bundle for the two operations that give the value out.
func (q *request) withValue(s keyvault.Secret) secretBundle {
	b := q.bundle(s)
	value := s.Value.Reveal()
	b.Value = &value
	return b
}

func attributes(body object) (a keyvault.Attributes, err error) {
	o, ok, err := body.object("attributes")
	if !ok || err != nil {
		return a, err
	}
	if a.Enabled, err = o.boolean("enabled"); err != nil {
		return a, err
	}
	if a.NotBefore, err = o.integer("nbf"); err != nil {
		return a, err
	}
	a.Expires, err = o.integer("exp")
	return a, err
}

func setSecret(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	var p keyvault.SetSecretParams
	value, err := body.text("value")
	if err != nil {
		return response{}, err
	}
	if value == nil {
		return response{}, badParameter("The member \"value\" is missing.")
	}
	p.Value = keyvault.NewSecretValue(*value)
	contentType, err := body.text("contentType")
	if err != nil {
		return response{}, err
	}
	if contentType != nil {
		p.ContentType = *contentType
	}
	if p.Tags, err = body.texts("tags"); err != nil {
		return response{}, err
	}
	if p.Attributes, err = attributes(body); err != nil {
		return response{}, err
	}
	s, err := q.h.cfg.Service.SetSecret(q.ctx, q.caller, q.vault, q.params.name, p)
	if err != nil {
		return response{}, err
	}
	q.outcome.Resource = s.Vault
	return jsonResponse(http.StatusOK, q.withValue(s))
}

func getSecret(q *request) (response, error) {
	// Conversion between PKCS#12 and PEM concerns secrets that belong to a certificate.
	if format := q.query.Get("outContentType"); format != "" {
		return response{}, badParameter("The secret cannot be converted to %.64q: only the secret of a certificate can.", format)
	}
	s, err := q.h.cfg.Service.GetSecret(q.ctx, q.caller, q.vault, q.params.name, q.params.version)
	if err != nil {
		return response{}, err
	}
	q.outcome.Resource = s.Vault
	return jsonResponse(http.StatusOK, q.withValue(s))
}

func updateSecret(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	var p keyvault.UpdateSecretParams
	if p.ContentType, err = body.text("contentType"); err != nil {
		return response{}, err
	}
	if p.Tags, err = body.texts("tags"); err != nil {
		return response{}, err
	}
	if p.Attributes, err = attributes(body); err != nil {
		return response{}, err
	}
	s, err := q.h.cfg.Service.UpdateSecret(q.ctx, q.caller, q.vault, q.params.name, q.params.version, p)
	if err != nil {
		return response{}, err
	}
	return jsonResponse(http.StatusOK, q.bundle(s))
}

func deleteSecret(q *request) (response, error) {
	s, err := q.h.cfg.Service.DeleteSecret(q.ctx, q.caller, q.vault, q.params.name)
	if err != nil {
		return response{}, err
	}
	return jsonResponse(http.StatusOK, q.deleted(s, q.bundle(s.Secret)))
}

func getDeletedSecret(q *request) (response, error) {
	s, err := q.h.cfg.Service.GetDeletedSecret(q.ctx, q.caller, q.vault, q.params.name)
	if err != nil {
		return response{}, err
	}
	return jsonResponse(http.StatusOK, q.deleted(s, q.bundle(s.Secret)))
}

func recoverSecret(q *request) (response, error) {
	s, err := q.h.cfg.Service.RecoverSecret(q.ctx, q.caller, q.vault, q.params.name)
	if err != nil {
		return response{}, err
	}
	return jsonResponse(http.StatusOK, q.bundle(s))
}

func purgeSecret(q *request) (response, error) {
	err := q.h.cfg.Service.PurgeSecret(q.ctx, q.caller, q.vault, q.params.name)
	return response{status: http.StatusNoContent}, err
}

// listPage answers with a page of a list, each item shown by show.
func listPage[T, W any](q *request, fetch func(from string, max int) (keyvault.Page[T], error), show func(T) W) (response, error) {
	from, max, err := q.page()
	if err != nil {
		return response{}, err
	}
	page, err := fetch(from, max)
	if err != nil {
		return response{}, err
	}
	out := list[W]{Value: make([]W, 0, len(page.Items)), NextLink: q.nextLink(page.Next, max)}
	for _, item := range page.Items {
		out.Value = append(out.Value, show(item))
	}
	return jsonResponse(http.StatusOK, out)
}

func listSecrets(q *request) (response, error) {
	return listPage(q, func(from string, max int) (keyvault.Page[keyvault.Secret], error) {
		return q.h.cfg.Service.ListSecrets(q.ctx, q.caller, q.vault, from, max)
	}, func(s keyvault.Secret) secretBundle { return q.item(s, "") })
}

func listSecretVersions(q *request) (response, error) {
	return listPage(q, func(from string, max int) (keyvault.Page[keyvault.Secret], error) {
		return q.h.cfg.Service.ListSecretVersions(q.ctx, q.caller, q.vault, q.params.name, from, max)
	}, func(s keyvault.Secret) secretBundle { return q.item(s, s.Version) })
}

func listDeletedSecrets(q *request) (response, error) {
	return listPage(q, func(from string, max int) (keyvault.Page[keyvault.DeletedSecret], error) {
		return q.h.cfg.Service.ListDeletedSecrets(q.ctx, q.caller, q.vault, from, max)
	}, func(s keyvault.DeletedSecret) deletedSecretBundle { return q.deleted(s, q.item(s.Secret, "")) })
}

// enterBulk takes a place for an operation that holds a whole backup in memory; only who may perform it gets one.
func (q *request) enterBulk() error {
	if err := q.h.cfg.Service.Authorize(q.ctx, q.caller, q.vault, q.route.Operation); err != nil {
		return err
	}
	return q.hold(q.h.bulk.enter(q.ctx, q.principal()))
}

func backupSecret(q *request) (response, error) {
	if err := q.enterBulk(); err != nil {
		return response{}, err
	}
	b, err := q.h.cfg.Service.BackupSecret(q.ctx, q.caller, q.vault, q.params.name)
	if err != nil {
		return response{}, err
	}
	return jsonResponse(http.StatusOK, blob{base64.RawURLEncoding.EncodeToString(b)})
}

func restoreSecret(q *request) (response, error) {
	if err := q.enterBulk(); err != nil {
		return response{}, err
	}
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	value, err := body.text("value")
	if err != nil {
		return response{}, err
	}
	if value == nil {
		return response{}, badParameter("The member \"value\" is missing.")
	}
	raw, err := decodeBase64(*value)
	if err != nil {
		return response{}, badParameter("The member \"value\" is not base64url.")
	}
	s, err := q.h.cfg.Service.RestoreSecret(q.ctx, q.caller, q.vault, raw)
	if s.Name != "" {
		q.outcome.Object = q.secretURL(s.Name, s.Version)
	}
	if err != nil {
		return response{}, err
	}
	return jsonResponse(http.StatusOK, q.bundle(s))
}

// decodeBase64 accepts base64url with or without padding, and standard base64, which some clients send.
func decodeBase64(s string) ([]byte, error) {
	s = strings.TrimRight(s, "=")
	if strings.ContainsAny(s, "+/") {
		return base64.RawStdEncoding.DecodeString(s)
	}
	return base64.RawURLEncoding.DecodeString(s)
}
