package api

import (
	"context"
	"net/http"

	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/wire"
)

// Shapes of contract §4.

type keyOperationResult struct {
	KeyID string    `json:"kid"`
	Alg   string    `json:"alg,omitempty"` // of managed HSMs only
	Value base64url `json:"value"`
	IV    base64url `json:"iv,omitempty"`
	Tag   base64url `json:"tag,omitempty"`
	AAD   base64url `json:"aad,omitempty"`
}

type keyVerifyResult struct {
	Value bool `json:"value"`
}

// algorithm reads the body of an operation on bytes, and which algorithm it asks for.
func (q *request) algorithm() (body wire.Object, alg string, err error) {
	if body, err = q.body(); err != nil {
		return body, "", err
	}
	alg, err = body.Required("alg")
	return body, currentName(alg), err
}

// message reads the body of an encryption or a decryption.
func (q *request) message() (alg string, m keyvault.Message, err error) {
	body, alg, err := q.algorithm()
	if err != nil {
		return "", m, err
	}
	if m.Value, err = body.RequiredBytes("value"); err != nil {
		return "", m, err
	}
	if m.IV, err = body.Bytes("iv"); err != nil {
		return "", m, err
	}
	if m.AAD, err = body.Bytes("aad"); err != nil {
		return "", m, err
	}
	m.Tag, err = body.Bytes("tag")
	return alg, m, err
}

// operated answers with what a version of a key made of the caller's bytes.
func (q *request) operated(alg string, out keyvault.Message, used keyvault.Used, err error) (response, error) {
	id := q.used(used)
	if err != nil {
		return response{}, err
	}
	result := keyOperationResult{KeyID: id, Value: out.Value, IV: out.IV, Tag: out.Tag, AAD: out.AAD}
	if q.hsm { // recorded
		result.Alg = alg
	}
	return jsonResponse(http.StatusOK, result)
}

// byMessage is the form of keyvault.Service's methods that encrypt and decrypt.
type byMessage[T any] = func(s *keyvault.Service, ctx context.Context, caller *identity.Caller, vault, name, version, alg string, m keyvault.Message) (T, keyvault.Used, error)

func encrypted(do byMessage[keyvault.Message]) handler {
	return func(q *request) (response, error) {
		alg, m, err := q.message()
		if err != nil {
			return response{}, err
		}
		out, used, err := do(q.service, q.ctx, q.caller, q.vault, q.params.name, q.params.version, alg, m)
		if out.IV == nil {
			out.IV = m.IV // recorded: what the client has chosen comes back, for clients that only keep the answer
		}
		return q.operated(alg, out, used, err)
	}
}

func decrypted(do byMessage[[]byte]) handler {
	return func(q *request) (response, error) {
		alg, m, err := q.message()
		if err != nil {
			return response{}, err
		}
		plaintext, used, err := do(q.service, q.ctx, q.caller, q.vault, q.params.name, q.params.version, alg, m)
		return q.operated(alg, keyvault.Message{Value: plaintext}, used, err)
	}
}

var (
	encryptKey = encrypted((*keyvault.Service).Encrypt)
	wrapKey    = encrypted((*keyvault.Service).Wrap)
	decryptKey = decrypted((*keyvault.Service).Decrypt)
	unwrapKey  = decrypted((*keyvault.Service).Unwrap)
)

func signWithKey(q *request) (response, error) {
	body, alg, err := q.algorithm()
	if err != nil {
		return response{}, err
	}
	digest, err := body.RequiredBytes("value")
	if err != nil {
		return response{}, err
	}
	signature, used, err := q.service.Sign(q.ctx, q.caller, q.vault, q.params.name, q.params.version, alg, digest)
	return q.operated(alg, keyvault.Message{Value: signature}, used, err)
}

func verifyWithKey(q *request) (response, error) {
	body, alg, err := q.algorithm()
	if err != nil {
		return response{}, err
	}
	digest, err := body.RequiredBytes("digest")
	if err != nil {
		return response{}, err
	}
	signature, err := body.RequiredBytes("value")
	if err != nil {
		return response{}, err
	}
	right, used, err := q.service.Verify(q.ctx, q.caller, q.vault, q.params.name, q.params.version, alg, digest, signature)
	q.used(used)
	return reply(q, right, err, func(_ *request, right bool) keyVerifyResult { return keyVerifyResult{right} })
}

func getRandomBytes(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	count, err := body.Integer("count")
	if err != nil {
		return response{}, err
	}
	if count == nil {
		return response{}, body.Missing("count")
	}
	random, resource, err := q.service.GetRandomBytes(q.ctx, q.caller, q.vault, *count)
	q.outcome.Resource = resource
	return reply(q, random, err, func(_ *request, b []byte) blob { return blob{b} })
}
