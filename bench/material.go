package main

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// material are the private keys of a run. All vaults import the same ones, and what computes without a server has them, too,
// since keys of the same size need not take the same time.
type material struct {
	rsa   map[int]*rsa.PrivateKey      // by length
	ec    map[string]*ecdsa.PrivateKey // by curve
	p256k *secp256k1.PrivateKey
	oct   []byte
}

func newMaterial() (*material, error) {
	m := &material{rsa: make(map[int]*rsa.PrivateKey), ec: make(map[string]*ecdsa.PrivateKey), oct: make([]byte, 32)}
	for _, bits := range rsaSizes() {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		if err != nil {
			return nil, err
		}
		m.rsa[bits] = key
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			return nil, err
		}
		m.ec[curve.Params().Name] = key
	}
	rand.Read(m.oct)
	var err error
	m.p256k, err = secp256k1.GeneratePrivateKey()
	return m, err
}

func rsaSizes() []int { return []int{2048, 3072, 4096} }

// The names of the keys in a vault. Those on the other curves are called as these.
const (
	p256kKey = "P-256K"
	octKey   = "oct-256"
)

func rsaKey(bits int) string { return fmt.Sprintf("RSA-%d", bits) }

// jwk is a private key as a vault imports it.
type jwk map[string]string

// all are the keys by their names in a vault.
func (m *material) all() (map[string]jwk, error) {
	keys := map[string]jwk{
		octKey: {"kty": "oct-HSM", "k": encode(m.oct)},
		p256kKey: {
			"kty": "EC", "crv": "P-256K", "d": encode(m.p256k.Serialize()),
			"x": padded(m.p256k.PubKey().X(), 32), "y": padded(m.p256k.PubKey().Y(), 32),
		},
	}
	for bits, key := range m.rsa {
		keys[rsaKey(bits)] = rsaJWK(key)
	}
	for curve, key := range m.ec {
		k, err := ecJWK(curve, key)
		if err != nil {
			return nil, err
		}
		keys[curve] = k
	}
	return keys, nil
}

func rsaJWK(key *rsa.PrivateKey) jwk {
	k := jwk{"kty": "RSA"}
	for name, n := range map[string]*big.Int{
		"n": key.N, "e": big.NewInt(int64(key.E)), "d": key.D, "p": key.Primes[0], "q": key.Primes[1],
		"dp": key.Precomputed.Dp, "dq": key.Precomputed.Dq, "qi": key.Precomputed.Qinv,
	} {
		k[name] = encode(n.Bytes())
	}
	return k
}

func ecJWK(curve string, key *ecdsa.PrivateKey) (jwk, error) {
	d, err := key.Bytes()
	if err != nil {
		return nil, err
	}
	point, err := key.PublicKey.Bytes() // 4, x and y
	if err != nil {
		return nil, err
	}
	size := len(point) / 2
	return jwk{"kty": "EC", "crv": curve, "d": encode(d), "x": encode(point[1 : 1+size]), "y": encode(point[1+size:])}, nil
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

func padded(n *big.Int, size int) string { return encode(n.FillBytes(make([]byte, size))) }

// gcm opens what the key encrypts.
func (m *material) gcm() (cipher.AEAD, error) {
	block, err := aes.NewCipher(m.oct)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// An octets is base64url in JSON.
type octets []byte

func (o octets) MarshalJSON() ([]byte, error) { return json.Marshal(encode(o)) }

func (o *octets) UnmarshalJSON(b []byte) error {
	var s string
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	decoded, err := base64.RawURLEncoding.DecodeString(s)
	*o = decoded
	return err
}
