//go:build client

package goclient

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	tinkkwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// TestRelease plays a program for which an attestation authority vouches. E2E_AUTHORITY is that authority, E2E_ATTESTATION
// what it says of the program, and E2E_DEBUGGABLE_ATTESTATION what it says when somebody can look into it. E2E_TARGET_KEY is the
// file with the key that the program made.
func TestRelease(t *testing.T) {
	k := &keys{vault: os.Getenv("E2E_VAULT"), credential: newCredential(t)}
	k.client = k.open(t, k.vault, nil)
	r := &release{keys: k, attestation: os.Getenv("E2E_ATTESTATION"), policy: policyFor(os.Getenv("E2E_AUTHORITY"))}
	block, _ := pem.Decode(must(os.ReadFile(os.Getenv("E2E_TARGET_KEY")))(t))
	r.target = must(x509.ParsePKCS8PrivateKey(block.Bytes))(t).(*rsa.PrivateKey)
	for enc := range keyWrapHashes() {
		t.Run(string(enc), func(t *testing.T) { r.everyType(t, enc) })
	}
	t.Run("Refused", r.refused)
}

// keyWrapHashes are those of the algorithms' OAEP.
func keyWrapHashes() map[azkeys.KeyEncryptionAlgorithm]crypto.Hash {
	return map[azkeys.KeyEncryptionAlgorithm]crypto.Hash{
		azkeys.KeyEncryptionAlgorithmCKMRSAAESKEYWRAP: crypto.SHA1,
		azkeys.KeyEncryptionAlgorithmRSAAESKEYWRAP256: crypto.SHA256,
		azkeys.KeyEncryptionAlgorithmRSAAESKEYWRAP384: crypto.SHA384,
	}
}

type release struct {
	*keys
	attestation string
	policy      *azkeys.KeyReleasePolicy
	target      *rsa.PrivateKey
}

func policyFor(authority string) *azkeys.KeyReleasePolicy {
	const rules = `{"version":"1.0.0","anyOf":[{"authority":%q,"allOf":[{"claim":"x-ms-sgx-is-debuggable","equals":"false"}]}]}`
	return &azkeys.KeyReleasePolicy{EncodedPolicy: fmt.Appendf(nil, rules, authority)}
}

func (r *release) everyType(t *testing.T, enc azkeys.KeyEncryptionAlgorithm) {
	p := azkeys.CreateKeyParameters{
		Kty: ptr(azkeys.KeyTypeECHSM), KeyAttributes: &azkeys.KeyAttributes{Exportable: ptr(true)}, ReleasePolicy: r.policy,
	}
	made := r.create(t, "ec", p)
	ec := must(x509.ParsePKCS8PrivateKey(r.released(t, made, enc)))(t).(*ecdsa.PrivateKey)
	point := must(ec.PublicKey.Bytes())(t)
	if !bytes.Equal(point, slices.Concat([]byte{4}, made.Key.X, made.Key.Y)) {
		t.Error("another EC key was released")
	}
	p.Kty = ptr(azkeys.KeyTypeRSAHSM)
	made = r.create(t, "rsa", p)
	rsa := must(x509.ParsePKCS8PrivateKey(r.released(t, made, enc)))(t).(*rsa.PrivateKey)
	if !rsa.PublicKey.Equal(rsaOf(t, made.Key).public) {
		t.Error("another RSA key was released")
	}
	imported := must(r.client.ImportKey(t.Context(), "oct", azkeys.ImportKeyParameters{
		Key:           &azkeys.JSONWebKey{Kty: ptr(azkeys.KeyTypeOctHSM), K: []byte(importedKey)},
		KeyAttributes: p.KeyAttributes, ReleasePolicy: p.ReleasePolicy,
	}, nil))(t)
	if got := r.released(t, imported.KeyBundle, enc); string(got) != importedKey {
		t.Error("another oct key was released")
	}
}

// An answer is what a release says, as far as it is needed here.
type answer struct {
	Request  struct{ Enc, Nonce string }
	Response struct {
		Key struct {
			Key struct {
				KeyID   string `json:"kid"`
				Type    string `json:"kty"`
				Wrapped string `json:"key_hsm"`
			}
		}
	}
}

type wrappedKey struct {
	Header     struct{ Kid, Alg, Enc string }
	Ciphertext string
}

// released is the key that the program finds in the answer, after it has checked who gave it and for what.
func (r *release) released(t *testing.T, key azkeys.KeyBundle, enc azkeys.KeyEncryptionAlgorithm) []byte {
	t.Helper()
	response := must(r.client.Release(t.Context(), key.Key.KID.Name(), key.Key.KID.Version(), azkeys.ReleaseParameters{
		TargetAttestationToken: &r.attestation, Algorithm: &enc, Nonce: ptr("a nonce"),
	}, nil))(t)
	signed := must(jose.ParseSignedCompact(*response.Value, []jose.SignatureAlgorithm{jose.RS256}))(t)
	// The certificates lead from this vault to the authority that this machine trusts.
	vault := must(url.Parse(r.vault))(t)
	chains := must(signed.Signatures[0].Protected.Certificates(x509.VerifyOptions{
		DNSName: vault.Hostname(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}))(t)
	payload := must(signed.Verify(chains[0][0].PublicKey))(t)

	var a answer
	var wrapped wrappedKey
	if err := json.Unmarshal(payload, &a); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(decode(t, a.Response.Key.Key.Wrapped), &wrapped); err != nil {
		t.Fatal(err)
	}
	h, theirs := wrapped.Header, a.Response.Key.Key
	got := []string{a.Request.Enc, a.Request.Nonce, theirs.KeyID, theirs.Type, h.Kid, h.Alg, h.Enc}
	want := []string{string(enc), "a nonce", string(*key.Key.KID), string(*key.Key.Kty), "target", "dir", string(enc)}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the answer (-want +got):\n%s", diff)
	}
	return r.unwrap(t, decode(t, wrapped.Ciphertext), enc)
}

// unwrap undoes PKCS#11's CKM_RSA_AES_KEY_WRAP.
func (r *release) unwrap(t *testing.T, ciphertext []byte, enc azkeys.KeyEncryptionAlgorithm) []byte {
	t.Helper()
	size := r.target.Size()
	key := must(r.target.Decrypt(rand.Reader, ciphertext[:size], &rsa.OAEPOptions{Hash: keyWrapHashes()[enc]}))(t)
	return must(must(tinkkwp.NewKWP(key))(t).Unwrap(ciphertext[size:]))(t)
}

func decode(t *testing.T, text string) []byte {
	t.Helper()
	return must(base64.RawURLEncoding.DecodeString(text))(t)
}

func (r *release) refused(t *testing.T) {
	exportable := azkeys.CreateKeyParameters{
		Kty: ptr(azkeys.KeyTypeECHSM), KeyAttributes: &azkeys.KeyAttributes{Exportable: ptr(true)}, ReleasePolicy: r.policy,
	}
	r.create(t, "strict", exportable)
	exportable.ReleasePolicy = policyFor("https://attest.example")
	r.create(t, "elsewhere", exportable)
	r.createEC(t, "stays")
	for name, test := range map[string]struct {
		key, attestation string
		inner            string
	}{
		"debuggable":        {"strict", os.Getenv("E2E_DEBUGGABLE_ATTESTATION"), "AccessDenied"},
		"another authority": {"elsewhere", r.attestation, "AccessDenied"},
		"wrong signature":   {"strict", r.attestation[:len(r.attestation)-8] + "AAAAAAAA", "AccessDenied"},
		"no token":          {"strict", "no token", "AccessDenied"},
		"not exportable":    {"stays", r.attestation, "KeyOperationForbidden"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := r.client.Release(t.Context(), test.key, "", azkeys.ReleaseParameters{TargetAttestationToken: &test.attestation}, nil)
			refused(t, err, http.StatusForbidden, "Forbidden", test.inner)
		})
	}
	_, err := r.client.Release(t.Context(), "never-made", "", azkeys.ReleaseParameters{TargetAttestationToken: &r.attestation}, nil)
	refused(t, err, http.StatusNotFound, "KeyNotFound", "")
}
