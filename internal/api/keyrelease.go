package api

import (
	"encoding/json"

	"github.com/strongroom/strongroom/internal/keyvault"
)

// Shapes of contract §6.

// A releaseResult holds a JWS, which is no base64 of anything.
type releaseResult struct {
	Value string `json:"value"`
}

func releaseKey(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	p := keyvault.ReleaseParams{Host: q.vault + "." + q.suffix, Describe: q.releaseAnswer}
	if p.Target, err = body.Required("target"); err != nil {
		return response{}, err
	}
	if p.Nonce, err = body.TextOrNone("nonce"); err != nil {
		return response{}, err
	}
	if p.Enc, err = body.TextOrNone("enc"); err != nil {
		return response{}, err
	}
	signed, used, err := q.service.ReleaseKey(q.ctx, q.caller, q.vault, q.params.name, q.params.version, p)
	q.used(used)
	return reply(q, signed, err, func(_ *request, signed string) releaseResult { return releaseResult{signed} })
}

// releaseAnswer gives what the signed answer says in the words of the wire.
func (q *request) releaseAnswer(k keyvault.Key) (keyvault.ReleaseAnswer, error) {
	attributes, err := json.Marshal(q.keyAttributes(k))
	return keyvault.ReleaseAnswer{
		APIVersion: q.outcome.APIVersion,
		KeyAsked:   q.url("keys", q.params.name, q.params.version),
		KeyID:      q.url("keys", k.Name, k.Version),
		Attributes: attributes,
	}, err
}
