package api_test

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/hsm/hsmtest"
	"github.com/strongroom/strongroom/internal/resource"
)

// TestWycheproof runs Project Wycheproof's vectors through the API of a vault: each key is imported, and used, by requests.
//
// These are the vectors that have a secret or private key: AES-GCM, AES-CBC, AES key wrap with and without padding, HMAC,
// decryption with RSA, RSA signatures that can be made again. The other ones for signatures have public keys only, which no
// vault takes in; the tests of internal/hsm run them.
func TestWycheproof(t *testing.T) {
	t.Parallel()
	hsmtest.Wycheproof(t, &wireProvider{t: t, h: newHandler(t, resource.Premium)})
}

// wireProvider is a vault as a provider of keys. It has what the vectors need.
type wireProvider struct {
	t    testing.TB
	h    *testHandler
	keys atomic.Int64 // imported so far
}

var _ hsm.Provider = (*wireProvider)(nil)

var errNotOnWire = errors.New("the API does not have it")

func (*wireProvider) Platform() string { return "0" }

func (*wireProvider) Generate(context.Context, hsm.Spec) (hsm.New, error) {
	return hsm.New{}, errNotOnWire
}

func (*wireProvider) ImportWrapped(context.Context, hsm.Key, hsm.KeyType, []byte) (hsm.New, error) {
	return hsm.New{}, errNotOnWire
}

func (*wireProvider) Random(context.Context, int) ([]byte, error) { return nil, errNotOnWire }

// call sends a request, and makes its refusal one of a provider.
func (p *wireProvider) call(method, path string, body, answer any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	status, text := p.h.do(p.t, method, path, string(raw))
	switch {
	case status == http.StatusOK:
		return json.Unmarshal([]byte(text), answer)
	case status == http.StatusBadRequest && strings.Contains(text, `"The parameter is incorrect.\r\n"`):
		return &hsm.Error{Kind: hsm.Undecryptable, Message: text}
	case status == http.StatusBadRequest && strings.Contains(text, `"BadParameter"`):
		return &hsm.Error{Kind: hsm.BadInput, Message: text}
	}
	return fmt.Errorf("%s %s: %d %s", method, path, status, text)
}

// Import returns the path of the key as its blob.
func (p *wireProvider) Import(_ context.Context, key hsm.PrivateKey) (hsm.New, error) {
	members := map[string]any{"kty": string(key.Type) + "-HSM", "crv": key.Curve}
	for name, value := range map[string][]byte{
		"n": key.N, "e": key.E, "d": key.D, "dp": key.DP, "dq": key.DQ, "qi": key.QI, "p": key.P, "q": key.Q, "k": key.K,
	} {
		if value != nil {
			members[name] = encode(value)
		}
	}
	if key.Type == hsm.Oct {
		members["key_ops"] = []string{"encrypt", "decrypt", "wrapKey", "unwrapKey", "sign", "verify"}
	}
	path := fmt.Sprintf("/keys/k%d", p.keys.Add(1))
	var answer struct{ Key struct{ Kid string } }
	if err := p.call("PUT", path, map[string]any{"key": members}, &answer); err != nil {
		return hsm.New{}, err
	}
	_, blob, ok := strings.Cut(answer.Key.Kid, "localhost")
	if !ok || !strings.HasPrefix(blob, path+"/") {
		return hsm.New{}, fmt.Errorf("%s was imported as %s", path, answer.Key.Kid)
	}
	return hsm.New{Blob: []byte(blob)}, nil
}

func (p *wireProvider) Open(_ context.Context, _ hsm.Spec, blob []byte) (hsm.Key, error) {
	return &wireKey{p, string(blob)}, nil
}

// wireKey is a key in a vault.
type wireKey struct {
	*wireProvider
	path string
}

// message is the body and the answer of operations on bytes.
type message struct {
	Alg   hsm.Algorithm `json:"alg,omitempty"`
	Value encoded       `json:"value"`
	IV    encoded       `json:"iv,omitempty"`
	AAD   encoded       `json:"aad,omitempty"`
	Tag   encoded       `json:"tag,omitempty"`
}

// encoded is bytes in base64url.
type encoded []byte

func (e encoded) MarshalText() ([]byte, error) { return []byte(encode(e)), nil }

func (e *encoded) UnmarshalText(text []byte) (err error) {
	*e, err = base64.RawURLEncoding.Strict().DecodeString(string(text))
	return err
}

func (k *wireKey) Encrypt(_ context.Context, alg hsm.Algorithm, m hsm.Message) (hsm.Message, error) {
	out, err := k.use(alg, "encrypt", "wrapkey", m)
	return hsm.Message{Value: out.Value, IV: out.IV, AAD: out.AAD, Tag: out.Tag}, err
}

func (k *wireKey) Decrypt(_ context.Context, alg hsm.Algorithm, m hsm.Message) ([]byte, error) {
	out, err := k.use(alg, "decrypt", "unwrapkey", m)
	return out.Value, err
}

// use asks for the operation on values or that on keys, whichever has the algorithm.
func (k *wireKey) use(alg hsm.Algorithm, onValue, onKey string, m hsm.Message) (out message, err error) {
	verb := onValue
	if strings.Contains(string(alg), "KW") || strings.Contains(string(alg), "WRAP") {
		verb = onKey
	}
	err = k.call("POST", k.path+"/"+verb, message{alg, m.Value, m.IV, m.AAD, m.Tag}, &out)
	return out, err
}

func (k *wireKey) Sign(_ context.Context, alg hsm.Algorithm, digest []byte) ([]byte, error) {
	var out message
	err := k.call("POST", k.path+"/sign", message{Alg: alg, Value: digest}, &out)
	return out.Value, err
}

func (k *wireKey) Verify(_ context.Context, alg hsm.Algorithm, digest, signature []byte) (bool, error) {
	var out struct{ Value bool }
	err := k.call("POST", k.path+"/verify", map[string]any{"alg": alg, "digest": encode(digest), "value": encode(signature)}, &out)
	return out.Value, err
}

func (*wireKey) Export(context.Context, *rsa.PublicKey, crypto.Hash) ([]byte, error) {
	return nil, errNotOnWire
}
