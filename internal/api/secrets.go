package api

import (
	"github.com/strongroom/strongroom/internal/keyvault"
)

// Shapes of contract §7, with the members in the order in which the real service writes them.

type secretBundle struct {
	Value           *string           `json:"value,omitempty"`
	ContentType     string            `json:"contentType,omitempty"`
	ID              string            `json:"id"`
	Managed         bool              `json:"managed,omitempty"`
	Attributes      objectAttributes  `json:"attributes"`
	Tags            map[string]string `json:"tags,omitempty"`
	KeyID           string            `json:"kid,omitempty"`
	PreviousVersion string            `json:"previousVersion,omitempty"`
}

type deletedSecretBundle struct {
	deletion
	secretBundle
}

// secretBundle shows a version under its own id.
func (q *request) secretBundle(s keyvault.Secret) secretBundle {
	q.outcome.Resource = s.Vault
	b := q.secretVersion(s)
	if q.atLeast("2025-07-01") {
		b.PreviousVersion = s.PreviousVersion
	}
	if s.Managed {
		b.KeyID = q.url("keys", s.Name, s.Version)
	}
	return b
}

// secretWithValue is secretBundle for the two operations that give the value out.
func (q *request) secretWithValue(s keyvault.Secret) secretBundle {
	b := q.secretBundle(s)
	value := s.Value.Reveal()
	b.Value = &value
	return b
}

// secretItem and secretVersion show a version as lists do: without the members that belong to one version only. A list
// of secrets has the ids of secrets, one of versions those of versions.
func (q *request) secretItem(s keyvault.Secret) secretBundle { return q.secretAt(s, "") }

func (q *request) secretVersion(s keyvault.Secret) secretBundle { return q.secretAt(s, s.Version) }

func (q *request) secretAt(s keyvault.Secret, version string) secretBundle {
	return secretBundle{
		ContentType: s.ContentType,
		ID:          q.url("secrets", s.Name, version),
		Managed:     s.Managed,
		Attributes:  attributesOf(s.Properties),
		Tags:        s.Tags,
	}
}

func (q *request) deletedSecretBundle(s keyvault.DeletedSecret) deletedSecretBundle {
	return deletedSecretBundle{q.secretDeletion(s), q.secretBundle(s.Secret)}
}

func (q *request) deletedSecretItem(s keyvault.DeletedSecret) deletedSecretBundle {
	return deletedSecretBundle{q.secretDeletion(s), q.secretItem(s.Secret)}
}

func (q *request) secretDeletion(s keyvault.DeletedSecret) deletion {
	return deletion{q.url("deletedsecrets", s.Name, ""), s.Deleted, s.ScheduledPurge}
}

var (
	deleteSecret       = named((*keyvault.Service).DeleteSecret, (*request).deletedSecretBundle)
	getDeletedSecret   = named((*keyvault.Service).GetDeletedSecret, (*request).deletedSecretBundle)
	recoverSecret      = named((*keyvault.Service).RecoverSecret, (*request).secretBundle)
	purgeSecret        = purged((*keyvault.Service).PurgeSecret)
	listSecrets        = listed((*keyvault.Service).ListSecrets, (*request).secretItem)
	listSecretVersions = versionsListed((*keyvault.Service).ListSecretVersions, (*request).secretVersion)
	listDeletedSecrets = listed((*keyvault.Service).ListDeletedSecrets, (*request).deletedSecretItem)
	backupSecret       = backedUp((*keyvault.Service).BackupSecret)
	restoreSecret      = restored((*keyvault.Service).RestoreSecret,
		func(s keyvault.Secret) keyvault.Properties { return s.Properties }, (*request).secretBundle)
)

func setSecret(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	var p keyvault.SetSecretParams
	value, err := body.Required("value")
	if err != nil {
		return response{}, err
	}
	p.Value = keyvault.NewSecretValue(value)
	if p.ContentType, err = body.TextOrNone("contentType"); err != nil {
		return response{}, err
	}
	if p.Tags, err = body.Texts("tags"); err != nil {
		return response{}, err
	}
	if p.Attributes, err = attributes(body); err != nil {
		return response{}, err
	}
	s, err := q.service.SetSecret(q.ctx, q.caller, q.vault, q.params.name, p)
	return reply(q, s, err, (*request).secretWithValue)
}

func getSecret(q *request) (response, error) {
	// Conversion between PKCS#12 and PEM concerns secrets that belong to a certificate.
	if format := q.query.Get("outContentType"); format != "" {
		return response{}, badParameter("The secret cannot be converted to %.64q: only the secret of a certificate can.", format)
	}
	s, err := q.service.GetSecret(q.ctx, q.caller, q.vault, q.params.name, q.params.version)
	return reply(q, s, err, (*request).secretWithValue)
}

func updateSecret(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	var p keyvault.UpdateSecretParams
	if p.ContentType, err = body.Text("contentType"); err != nil {
		return response{}, err
	}
	if p.Tags, err = body.Texts("tags"); err != nil {
		return response{}, err
	}
	if p.Attributes, err = attributes(body); err != nil {
		return response{}, err
	}
	s, err := q.service.UpdateSecret(q.ctx, q.caller, q.vault, q.params.name, q.params.version, p)
	return reply(q, s, err, (*request).secretBundle)
}
