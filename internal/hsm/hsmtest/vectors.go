package hsmtest

import (
	"encoding/hex"
	"encoding/json"
	"io/fs"
	"slices"
	"testing"

	"github.com/c2sp/wycheproof"

	"github.com/strongroom/strongroom/internal/hsm"
)

// A Group is a part of a file of Project Wycheproof's vectors: cases that share a key or its size. Which fields are set
// depends on the file.
type Group struct {
	KeySize int    `json:"keySize"` // bits
	IVSize  int    `json:"ivSize"`  // bits
	TagSize int    `json:"tagSize"` // bits
	Hash    string `json:"sha"`
	MGFHash string `json:"mgfSha"`
	SaltLen int    `json:"sLen"` // bytes

	PublicKey       PublicKey  `json:"publicKey"`
	PrivateKey      PrivateKey `json:"privateKey"`
	PrivateKeyPKCS8 Hex        `json:"privateKeyPkcs8"`

	Tests []Case `json:"tests"`
}

// A Case is one vector.
type Case struct {
	ID      int      `json:"tcId"`
	Comment string   `json:"comment"`
	Flags   []string `json:"flags"`
	Result  string   `json:"result"` // valid, invalid or acceptable

	Key, Msg, CT, IV, AAD, Tag, Sig, Label Hex
}

// Valid tells whether the case must succeed. It is false for those that may: they are about sizes or forms that only old
// standards allow.
func (c Case) Valid() bool { return c.Result == "valid" }

// Acceptable tells whether the case may succeed or fail.
func (c Case) Acceptable() bool { return c.Result == "acceptable" }

// Has tells whether the case has a flag.
func (c Case) Has(flag string) bool { return slices.Contains(c.Flags, flag) }

// PublicKey has numbers as they are written: some with zeros in front.
type PublicKey struct {
	Modulus        Hex `json:"modulus"`
	PublicExponent Hex `json:"publicExponent"`
	X              Hex `json:"wx"`
	Y              Hex `json:"wy"`
}

// PrivateKey is an RSA key.
type PrivateKey struct {
	Modulus         Hex `json:"modulus"`
	PublicExponent  Hex `json:"publicExponent"`
	PrivateExponent Hex `json:"privateExponent"`
	Prime1          Hex `json:"prime1"`
	Prime2          Hex `json:"prime2"`
	Exponent1       Hex `json:"exponent1"`
	Exponent2       Hex `json:"exponent2"`
	Coefficient     Hex `json:"coefficient"`
}

// Import returns the key in the form for a Provider.
func (k PrivateKey) Import() hsm.PrivateKey {
	return hsm.PrivateKey{
		Type: hsm.RSA,
		N:    k.Modulus, E: k.PublicExponent, D: k.PrivateExponent,
		P: k.Prime1, Q: k.Prime2, DP: k.Exponent1, DQ: k.Exponent2, QI: k.Coefficient,
	}
}

// Hex is bytes, written in hexadecimal.
type Hex []byte

// UnmarshalJSON implements json.Unmarshaler.
func (h *Hex) UnmarshalJSON(raw []byte) error {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return err
	}
	b, err := hex.DecodeString(text)
	*h = b
	return err
}

// Vectors returns the groups of a file, such as "aes_gcm_test.json".
func Vectors(t testing.TB, file string) []Group {
	t.Helper()
	raw, err := fs.ReadFile(wycheproof.TestVectors, file)
	if err != nil {
		t.Fatal(err)
	}
	var content struct {
		Count  int     `json:"numberOfTests"`
		Groups []Group `json:"testGroups"`
	}
	if err := json.Unmarshal(raw, &content); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	count := 0
	for _, g := range content.Groups {
		count += len(g.Tests)
	}
	if count == 0 || count != content.Count {
		t.Fatalf("%s has %d vectors and says that it has %d", file, count, content.Count)
	}
	return content.Groups
}
