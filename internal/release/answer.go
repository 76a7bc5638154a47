package release

import (
	"encoding/json"
	"fmt"
)

// An Answer is what a release tells. The members that are empty are left out.
type Answer struct {
	// The request.
	APIVersion string
	KeyAsked   string // the key's address as the request has it, with or without a version
	Enc        string // as Wrapping returns it
	Nonce      string // as it came

	// The key.
	KeyID      string // its address, with the version
	KeyType    string
	Operations []string // not left out
	Curve      string
	N, E, X, Y []byte          // the public numbers
	Attributes json.RawMessage // an object

	// Its policy.
	Policy    *Policy
	Immutable bool

	// What is released.
	Recipient string // kid of the key that it is wrapped for
	Wrapped   []byte
}

// The JSON of an answer, of which the real service's, and the parsers of those who use it, are the model.

type answerJSON struct {
	Request  requestJSON  `json:"request"`
	Response responseJSON `json:"response"`
}

type requestJSON struct {
	APIVersion string `json:"api-version"`
	Enc        string `json:"enc"`
	Kid        string `json:"kid"`
	Nonce      string `json:"nonce,omitempty"`
}

type responseJSON struct {
	Key bundleJSON `json:"key"`
}

type bundleJSON struct {
	Key           keyJSON         `json:"key"`
	Attributes    json.RawMessage `json:"attributes"`
	ReleasePolicy policyJSON      `json:"release_policy"`
}

type keyJSON struct {
	Kid        string    `json:"kid"`
	Kty        string    `json:"kty"`
	Operations []string  `json:"key_ops"`
	Curve      string    `json:"crv,omitempty"`
	N          base64URL `json:"n,omitempty"`
	E          base64URL `json:"e,omitempty"`
	X          base64URL `json:"x,omitempty"`
	Y          base64URL `json:"y,omitempty"`
	KeyHSM     base64URL `json:"key_hsm"`
}

type policyJSON struct {
	ContentType string    `json:"contentType"`
	Data        base64URL `json:"data"`
	Immutable   bool      `json:"immutable"`
}

// wrappedJSON is the content of key_hsm, the form in which wrapped keys are imported, too.
type wrappedJSON struct {
	SchemaVersion string            `json:"schema_version"`
	Header        wrappedHeaderJSON `json:"header"`
	Ciphertext    base64URL         `json:"ciphertext"`
}

type wrappedHeaderJSON struct {
	Kid string `json:"kid"`
	Alg string `json:"alg"`
	Enc string `json:"enc"`
}

type base64URL []byte

// MarshalText encodes without padding.
func (b base64URL) MarshalText() ([]byte, error) { return []byte(encodeBase64(b)), nil }

// Sign returns the answer as a compact JWS. Its length is that of the wrapped key, the policy and the certificates, in
// base64 up to three times over.
func (s *Signer) Sign(a Answer) (string, error) {
	wrapped, err := json.Marshal(wrappedJSON{
		SchemaVersion: "1.0",
		Header:        wrappedHeaderJSON{Kid: a.Recipient, Alg: "dir", Enc: a.Enc},
		Ciphertext:    a.Wrapped,
	})
	if err != nil {
		return "", err
	}
	payload, err := json.Marshal(answerJSON{
		Request: requestJSON{APIVersion: a.APIVersion, Enc: a.Enc, Kid: a.KeyAsked, Nonce: a.Nonce},
		Response: responseJSON{Key: bundleJSON{
			Key: keyJSON{
				Kid: a.KeyID, Kty: a.KeyType, Operations: append([]string{}, a.Operations...), Curve: a.Curve, N: a.N, E: a.E, X: a.X, Y: a.Y,
				KeyHSM: wrapped,
			},
			Attributes:    a.Attributes,
			ReleasePolicy: policyJSON{ContentType: ContentType, Data: a.Policy.Canonical(), Immutable: a.Immutable},
		}},
	})
	if err != nil {
		return "", fmt.Errorf("release: answer: %w", err)
	}
	signed, err := s.jose.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("release: answer: %w", err)
	}
	return signed.CompactSerialize()
}
