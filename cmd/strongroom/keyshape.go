package main

import (
	"encoding/hex"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
)

// The shapes in which `az keyvault key` prints its results. Members without a value are null; bytes are base64, but
// those of IV, AAD and tag hexadecimal.

type keyAttributesOut struct {
	attributesOut
	Exportable  *bool   `json:"exportable"`
	HSMPlatform *string `json:"hsmPlatform"`
}

type keyOut struct {
	Attributes    *keyAttributesOut `json:"attributes"`
	Key           *jwkOut           `json:"key"`
	Managed       *bool             `json:"managed"`
	ReleasePolicy *releasePolicyOut `json:"releasePolicy"`
	Tags          map[string]string `json:"tags"`
}

type deletedKeyOut struct {
	keyOut
	deletionOut
}

// jwkOut has members for the private parts too, which no service returns, because az's has.
type jwkOut struct {
	Crv    *azkeys.CurveName      `json:"crv"`
	D      []byte                 `json:"d"`
	DP     []byte                 `json:"dp"`
	DQ     []byte                 `json:"dq"`
	E      []byte                 `json:"e"`
	K      []byte                 `json:"k"`
	KeyOps []*azkeys.KeyOperation `json:"keyOps"`
	KeyID  *string                `json:"kid"`
	Kty    *azkeys.KeyType        `json:"kty"`
	N      []byte                 `json:"n"`
	P      []byte                 `json:"p"`
	Q      []byte                 `json:"q"`
	QI     []byte                 `json:"qi"`
	T      []byte                 `json:"t"`
	X      []byte                 `json:"x"`
	Y      []byte                 `json:"y"`
}

type releasePolicyOut struct {
	ContentType   *string `json:"contentType"`
	EncodedPolicy string  `json:"encodedPolicy"`
	Immutable     *bool   `json:"immutable"`
}

// keyItemOut is a line of a list.
type keyItemOut struct {
	Attributes    *keyAttributesOut `json:"attributes"`
	KeyID         *string           `json:"kid"`
	Managed       *bool             `json:"managed"`
	Name          *string           `json:"name"`
	ReleasePolicy *releasePolicyOut `json:"releasePolicy"`
	Tags          map[string]string `json:"tags"`
}

type deletedKeyItemOut struct {
	keyItemOut
	deletionOut
}

func newKeyAttributesOut(a *azkeys.KeyAttributes) *keyAttributesOut {
	if a == nil {
		return nil
	}
	return &keyAttributesOut{
		attributesOut: attributesOut{
			Created: isoTime(a.Created), Enabled: a.Enabled, Expires: isoTime(a.Expires), NotBefore: isoTime(a.NotBefore),
			RecoverableDays: a.RecoverableDays, RecoveryLevel: a.RecoveryLevel, Updated: isoTime(a.Updated),
		},
		Exportable: a.Exportable, HSMPlatform: a.HSMPlatform,
	}
}

func newKeyOut(b *azkeys.KeyBundle) keyOut {
	return keyOut{
		Attributes: newKeyAttributesOut(b.Attributes), Key: newJWKOut(b.Key), Managed: b.Managed,
		ReleasePolicy: newReleasePolicyOut(b.ReleasePolicy), Tags: tagsOut(b.Tags),
	}
}

func newDeletedKeyOut(d *azkeys.DeletedKey) deletedKeyOut {
	return deletedKeyOut{
		keyOut: newKeyOut(&azkeys.KeyBundle{
			Attributes: d.Attributes, Key: d.Key, Managed: d.Managed, ReleasePolicy: d.ReleasePolicy, Tags: d.Tags,
		}),
		deletionOut: deletionOut{
			DeletedDate: isoTime(d.DeletedDate), RecoveryID: d.RecoveryID, ScheduledPurgeDate: isoTime(d.ScheduledPurgeDate),
		},
	}
}

func newJWKOut(k *azkeys.JSONWebKey) *jwkOut {
	if k == nil {
		return nil
	}
	return &jwkOut{
		Crv: k.Crv, D: k.D, DP: k.DP, DQ: k.DQ, E: k.E, K: k.K, KeyOps: k.KeyOps, KeyID: idOut(k.KID), Kty: k.Kty,
		N: k.N, P: k.P, Q: k.Q, QI: k.QI, T: k.T, X: k.X, Y: k.Y,
	}
}

func newReleasePolicyOut(p *azkeys.KeyReleasePolicy) *releasePolicyOut {
	if p == nil {
		return nil
	}
	return &releasePolicyOut{ContentType: p.ContentType, EncodedPolicy: string(p.EncodedPolicy), Immutable: p.Immutable}
}

func newKeyItemOut(p *azkeys.KeyProperties) keyItemOut {
	return keyItemOut{
		Attributes: newKeyAttributesOut(p.Attributes), KeyID: idOut(p.KID), Managed: p.Managed, Name: nameOut(p.KID),
		Tags: tagsOut(p.Tags),
	}
}

func newDeletedKeyItemOut(d *azkeys.DeletedKeyProperties) deletedKeyItemOut {
	return deletedKeyItemOut{
		keyItemOut: newKeyItemOut(&azkeys.KeyProperties{Attributes: d.Attributes, KID: d.KID, Managed: d.Managed, Tags: d.Tags}),
		deletionOut: deletionOut{
			DeletedDate: isoTime(d.DeletedDate), RecoveryID: d.RecoveryID, ScheduledPurgeDate: isoTime(d.ScheduledPurgeDate),
		},
	}
}

type encryptionOut struct {
	AAD       *string                    `json:"aad"`
	Algorithm azkeys.EncryptionAlgorithm `json:"algorithm"`
	IV        *string                    `json:"iv"`
	KeyID     *string                    `json:"kid"`
	Result    []byte                     `json:"result"`
	Tag       *string                    `json:"tag"`
}

func newEncryptionOut(alg azkeys.EncryptionAlgorithm, r *azkeys.KeyOperationResult) encryptionOut {
	return encryptionOut{
		AAD: hexOut(r.AdditionalAuthenticatedData), Algorithm: alg, IV: hexOut(r.IV), KeyID: idOut(r.KID), Result: r.Result,
		Tag: hexOut(r.AuthenticationTag),
	}
}

func hexOut(b []byte) *string {
	if len(b) == 0 {
		return nil
	}
	return new(hex.EncodeToString(b))
}

// decryptionOut has the plaintext as text, or in base64.
type decryptionOut struct {
	Algorithm azkeys.EncryptionAlgorithm `json:"algorithm"`
	KeyID     *string                    `json:"kid"`
	Result    string                     `json:"result"`
}

type signatureOut struct {
	Algorithm azkeys.SignatureAlgorithm `json:"algorithm"`
	KeyID     *string                   `json:"keyId"`
	Signature []byte                    `json:"signature"`
}

type verificationOut struct {
	Algorithm azkeys.SignatureAlgorithm `json:"algorithm"`
	IsValid   *bool                     `json:"isValid"`
	KeyID     *string                   `json:"keyId"`
}

type randomOut struct {
	Value []byte `json:"value"`
}

type rotationPolicyOut struct {
	CreatedOn       *string             `json:"createdOn"`
	ExpiresIn       *string             `json:"expiresIn"`
	ID              *string             `json:"id"`
	LifetimeActions []lifetimeActionOut `json:"lifetimeActions"`
	UpdatedOn       *string             `json:"updatedOn"`
}

type lifetimeActionOut struct {
	Action           *azkeys.KeyRotationPolicyAction `json:"action"`
	TimeAfterCreate  *string                         `json:"timeAfterCreate"`
	TimeBeforeExpiry *string                         `json:"timeBeforeExpiry"`
}

func newRotationPolicyOut(p *azkeys.KeyRotationPolicy) rotationPolicyOut {
	out := rotationPolicyOut{ID: p.ID, LifetimeActions: []lifetimeActionOut{}}
	if a := p.Attributes; a != nil {
		out.CreatedOn, out.ExpiresIn, out.UpdatedOn = isoTime(a.Created), a.ExpiryTime, isoTime(a.Updated)
	}
	for _, action := range p.LifetimeActions {
		var line lifetimeActionOut
		if action.Action != nil {
			line.Action = action.Action.Type
		}
		if t := action.Trigger; t != nil {
			line.TimeAfterCreate, line.TimeBeforeExpiry = t.TimeAfterCreate, t.TimeBeforeExpiry
		}
		out.LifetimeActions = append(out.LifetimeActions, line)
	}
	return out
}
