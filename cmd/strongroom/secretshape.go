package main

import (
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
)

// The shapes in which `az keyvault secret` prints its results. Members without a value are null.

type attributesOut struct {
	Created         *string `json:"created"`
	Enabled         *bool   `json:"enabled"`
	Expires         *string `json:"expires"`
	NotBefore       *string `json:"notBefore"`
	RecoverableDays *int32  `json:"recoverableDays"`
	RecoveryLevel   *string `json:"recoveryLevel"`
	Updated         *string `json:"updated"`
}

// propertiesOut is a line of a list.
type propertiesOut struct {
	Attributes  *attributesOut    `json:"attributes"`
	ContentType *string           `json:"contentType"`
	ID          *string           `json:"id"`
	Managed     *bool             `json:"managed"`
	Name        *string           `json:"name"`
	Tags        map[string]string `json:"tags"`
}

type deletedPropertiesOut struct {
	propertiesOut
	deletionOut
}

type deletionOut struct {
	DeletedDate        *string `json:"deletedDate"`
	RecoveryID         *string `json:"recoveryId"`
	ScheduledPurgeDate *string `json:"scheduledPurgeDate"`
}

// secretOut is a secret. az prints the value of set and show only.
type secretOut struct {
	propertiesOut
	KeyID *string `json:"kid"`
	Value *string `json:"value"`
}

type deletedSecretOut struct {
	secretOut
	deletionOut
}

func newAttributesOut(a *azsecrets.SecretAttributes) *attributesOut {
	if a == nil {
		return nil
	}
	return &attributesOut{
		Created: isoTime(a.Created), Enabled: a.Enabled, Expires: isoTime(a.Expires), NotBefore: isoTime(a.NotBefore),
		RecoverableDays: a.RecoverableDays, RecoveryLevel: a.RecoveryLevel, Updated: isoTime(a.Updated),
	}
}

// isoTime writes a time as Python's isoformat does.
func isoTime(t *time.Time) *string {
	if t == nil {
		return nil
	}
	s := t.UTC().Format("2006-01-02T15:04:05+00:00")
	return &s
}

func newPropertiesOut(p *azsecrets.SecretProperties) propertiesOut {
	return propertiesOut{
		Attributes: newAttributesOut(p.Attributes), ContentType: p.ContentType, ID: idOut(p.ID), Managed: p.Managed,
		Name: nameOut(p.ID), Tags: tagsOut(p.Tags),
	}
}

func newSecretOut(s *azsecrets.Secret) secretOut {
	return secretOut{
		propertiesOut: propertiesOut{
			Attributes: newAttributesOut(s.Attributes), ContentType: s.ContentType, ID: idOut(s.ID), Managed: s.Managed,
			Name: nameOut(s.ID), Tags: tagsOut(s.Tags),
		},
		KeyID: idOut(s.KID), Value: s.Value,
	}
}

func newDeletedOut(d *azsecrets.DeletedSecret) deletedSecretOut {
	return deletedSecretOut{
		secretOut: newSecretOut(&azsecrets.Secret{
			Attributes: d.Attributes, ContentType: d.ContentType, ID: d.ID, Managed: d.Managed, Tags: d.Tags, KID: d.KID,
		}),
		deletionOut: deletionOut{
			DeletedDate: isoTime(d.DeletedDate), RecoveryID: d.RecoveryID, ScheduledPurgeDate: isoTime(d.ScheduledPurgeDate),
		},
	}
}

func newDeletedPropertiesOut(d *azsecrets.DeletedSecretProperties) deletedPropertiesOut {
	return deletedPropertiesOut{
		propertiesOut: propertiesOut{
			Attributes: newAttributesOut(d.Attributes), ContentType: d.ContentType, ID: idOut(d.ID), Managed: d.Managed,
			Name: nameOut(d.ID), Tags: tagsOut(d.Tags),
		},
		deletionOut: deletionOut{
			DeletedDate: isoTime(d.DeletedDate), RecoveryID: d.RecoveryID, ScheduledPurgeDate: isoTime(d.ScheduledPurgeDate),
		},
	}
}

func idOut[ID ~string](id *ID) *string {
	if id == nil {
		return nil
	}
	s := string(*id)
	return &s
}

// nameOut is the name in https://<vault>/secrets/<name>/<version>.
func nameOut[ID ~string](id *ID) *string {
	if id == nil {
		return nil
	}
	parts := strings.Split(string(*id), "/")
	if len(parts) < 5 {
		return nil
	}
	return &parts[4]
}

func tagsOut(tags map[string]*string) map[string]string {
	if len(tags) == 0 {
		return nil
	}
	out := make(map[string]string, len(tags))
	for k, v := range tags {
		if v != nil {
			out[k] = *v
		}
	}
	return out
}
