package api_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"github.com/strongroom/strongroom/internal/backup/backuptest"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"

	"github.com/strongroom/strongroom/internal/keywrap"
)

// A jwk is the members of a key, without kty.
type jwk map[string]string

// testKeys are keys for tests alone, by name. Making them anew would take seconds.
var testKeys = sync.OnceValue(func() map[string]jwk {
	raw, err := os.ReadFile("testdata/keys.json")
	if err != nil {
		panic(err)
	}
	var keys map[string]jwk
	if err := json.Unmarshal(raw, &keys); err != nil {
		panic(err)
	}
	return keys
})

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// bytes returns the value of a member.
func (k jwk) bytes(member string) []byte {
	b, err := base64.RawURLEncoding.DecodeString(k[member])
	if err != nil {
		panic(err)
	}
	return b
}

func (k jwk) number(member string) *big.Int { return new(big.Int).SetBytes(k.bytes(member)) }

// members returns the members as they stand in a JSON object, with some changed ("e=AQ") or left out ("-d").
func (k jwk) members(changes ...string) string {
	k = maps.Clone(k)
	for _, c := range changes {
		if name, value, ok := strings.Cut(c, "="); ok {
			k[name] = value
		} else {
			delete(k, strings.TrimPrefix(c, "-"))
		}
	}
	var out []string
	for _, name := range slices.Sorted(maps.Keys(k)) {
		out = append(out, `"`+name+`":"`+k[name]+`"`)
	}
	return strings.Join(out, ",")
}

// rsa returns an RSA key.
func (k jwk) rsa() *rsa.PrivateKey {
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: k.number("n"), E: int(k.number("e").Int64())},
		D:         k.number("d"),
		Primes:    []*big.Int{k.number("p"), k.number("q")},
	}
	key.Precompute()
	return key
}

// pkcs8 returns the encoding of an RSA key, or of an EC key of a curve that crypto/x509 knows.
func (k jwk) pkcs8(t testing.TB) []byte {
	t.Helper()
	var key any
	if k["n"] != "" {
		key = k.rsa()
	} else {
		curve := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()}[k["crv"]]
		ec, err := ecdsa.ParseRawPrivateKey(curve, k.bytes("d"))
		if err != nil {
			t.Fatal(err)
		}
		key = ec
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// transferFile returns a BYOK file that carries content under an RSA key that a vault knows as kekID.
func transferFile(t testing.TB, kekID string, kek *rsa.PublicKey, content []byte) []byte {
	t.Helper()
	wrapped, err := keywrap.WrapRSAAES(kek, crypto.SHA1, content)
	if err != nil {
		t.Fatal(err)
	}
	file, err := keywrap.TransferBlob{KeyID: kekID, Generator: "test", Ciphertext: wrapped}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// authority is an attestation authority: it says of a target that it is good, or not, and which key the target has.
type authority struct {
	url    string
	caFile string
	signer jose.Signer
	target jwk
}

func startAuthority(t testing.TB) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{target: testKeys()["rsa2048b"]}
	a.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	answer := func(document func() any) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if err := json.NewEncoder(w).Encode(document()); err != nil {
				t.Error(err)
			}
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/.well-known/openid-configuration", answer(func() any {
		return map[string]any{"issuer": a.url, "jwks_uri": a.url + "/certs"}
	}))
	mux.Handle("/certs", answer(func() any {
		return jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Algorithm: "ES256", Use: "sig"}}}
	}))
	server := httptest.NewTLSServer(mux)
	t.Cleanup(server.Close)
	a.url = server.URL
	a.caFile = filepath.Join(t.TempDir(), "authority.pem")
	var buf bytes.Buffer
	if err := pem.Encode(&buf, &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.caFile, buf.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// config is the configuration of a server that believes the authority.
func (a *authority) config() string {
	return "releaseAuthorities: [" + a.url + "/]\nreleaseCA: " + a.caFile + "\n"
}

// policy is a release policy for targets of which the authority says that they are good.
func (a *authority) policy() string {
	return `{"version":"1.0.0","anyOf":[{"authority":"` + a.url + `","allOf":[{"claim":"good","equals":true}]}]}`
}

// token is what the authority says about the target.
func (a *authority) token(t testing.TB, now time.Time, good bool) string {
	t.Helper()
	claims := map[string]any{
		"iss": a.url, "iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(), "good": good,
		"x-ms-runtime": map[string]any{"keys": []any{map[string]any{
			"kty": "RSA", "kid": "target", "key_ops": []string{"encrypt"}, "n": a.target["n"], "e": a.target["e"],
		}}},
	}
	token, err := jwt.Signed(a.signer).Claims(claims).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// storageConfig has a server trust the storage of a test. Its address is of loopback, and so allowed.
func storageConfig(t testing.TB, f *backuptest.Storage) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "storage-ca.pem")
	if err := os.WriteFile(file, f.Authority(), 0o600); err != nil {
		t.Fatal(err)
	}
	return "backup: {ca: " + file + "}\n"
}
