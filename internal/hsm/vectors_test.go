package hsm_test

import (
	"crypto"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/hsm/hsmtest"
)

// These vectors have public keys only, so no provider can import them. The software provider's verification is called
// directly.

// verified counts vectors by what happened, which is what had to happen.
type verified struct {
	right, wrong int
	acceptable   int // right or wrong
	refused      int // the key is none that a provider takes
	others       int // of a hash that no algorithm has
}

// hashOf is 0 for a hash that no algorithm has.
func hashOf(name string) crypto.Hash {
	return map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}[name]
}

// verify runs a case. Right says whether its signature is, in the scheme of alg.
func (v *verified) verify(t *testing.T, file string, spec hsm.Spec, key hsm.PublicKey, alg hsm.Algorithm, hash crypto.Hash, c hsmtest.Case, right bool) {
	t.Helper()
	h := hash.New()
	h.Write(c.Msg)
	got, err := hsm.VerifyPublic(spec, key, alg, h.Sum(nil), c.Sig)
	switch {
	case err != nil:
		t.Errorf("%s %d (%s): %v", file, c.ID, c.Comment, err)
	case c.Acceptable():
		v.acceptable++
	case got != right:
		t.Errorf("%s %d (%s): right: %v", file, c.ID, c.Comment, got)
	case right:
		v.right++
	default:
		v.wrong++
	}
}

func TestVectorsECDSA(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		file  string
		curve hsm.Curve
		alg   hsm.Algorithm
		size  int
		want  verified
	}{
		{"ecdsa_secp256r1_sha256_p1363_test.json", hsm.P256, hsm.ES256, 32, verified{right: 173, wrong: 89}},
		{"ecdsa_secp256k1_sha256_p1363_test.json", hsm.P256K, hsm.ES256K, 32, verified{right: 167, wrong: 85}},
		{"ecdsa_secp384r1_sha384_p1363_test.json", hsm.P384, hsm.ES384, 48, verified{right: 193, wrong: 87}},
		{"ecdsa_secp521r1_sha512_p1363_test.json", hsm.P521, hsm.ES512, 66, verified{right: 231, wrong: 87}},
	} {
		var got verified
		for _, g := range hsmtest.Vectors(t, f.file) {
			key := hsm.PublicKey{X: padded(g.PublicKey.X, f.size), Y: padded(g.PublicKey.Y, f.size)}
			for _, c := range g.Tests {
				got.verify(t, f.file, hsm.Spec{Type: hsm.EC, Curve: f.curve}, key, f.alg, hashOf(g.Hash), c, c.Valid())
			}
		}
		if got != f.want {
			t.Errorf("%s: %+v; want %+v", f.file, got, f.want)
		}
	}
}

func padded(number []byte, n int) []byte {
	return new(big.Int).SetBytes(number).FillBytes(make([]byte, n))
}

func TestVectorsRSA(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]verified{
		"rsa_signature_2048_sha256_test.json":   {right: 7, wrong: 249, acceptable: 1, refused: 2},
		"rsa_signature_2048_sha384_test.json":   {right: 7, wrong: 250, acceptable: 1},
		"rsa_signature_2048_sha512_test.json":   {right: 7, wrong: 250, acceptable: 1, refused: 1},
		"rsa_signature_3072_sha256_test.json":   {right: 7, wrong: 250, acceptable: 1, refused: 1},
		"rsa_signature_3072_sha384_test.json":   {right: 7, wrong: 251, acceptable: 1},
		"rsa_signature_3072_sha512_test.json":   {right: 7, wrong: 251, acceptable: 1, refused: 1},
		"rsa_signature_4096_sha256_test.json":   {right: 7, wrong: 250, acceptable: 1},
		"rsa_signature_4096_sha384_test.json":   {right: 7, wrong: 251, acceptable: 1},
		"rsa_signature_4096_sha512_test.json":   {right: 7, wrong: 251, acceptable: 1},
		"rsa_signature_8192_sha256_test.json":   {refused: 258}, // a key of that size is refused
		"rsa_pss_2048_sha256_mgf1_32_test.json": {right: 63, wrong: 45},
		"rsa_pss_3072_sha256_mgf1_32_test.json": {right: 63, wrong: 45},
		"rsa_pss_4096_sha256_mgf1_32_test.json": {right: 63, wrong: 45},
		"rsa_pss_2048_sha384_mgf1_48_test.json": {right: 95, wrong: 46},
		"rsa_pss_4096_sha384_mgf1_48_test.json": {right: 95, wrong: 46},
		"rsa_pss_4096_sha512_mgf1_64_test.json": {right: 132, wrong: 47},
		"rsa_pss_misc_test.json":                {right: 3, wrong: 87, others: 60},
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			var got verified
			for _, g := range hsmtest.Vectors(t, file) {
				hash := hashOf(g.Hash)
				if hash == 0 {
					got.others += len(g.Tests)
					continue
				}
				key, allowed := publicRSA(t, g)
				if !allowed {
					got.refused += len(g.Tests)
					continue
				}
				family, same := "RS", true
				if strings.HasPrefix(file, "rsa_pss") {
					// A signature with other parameters than ours is right somewhere else, but not here.
					family, same = "PS", g.MGFHash == g.Hash && g.SaltLen == hash.Size()
				}
				alg := hsm.Algorithm(fmt.Sprintf("%s%d", family, hash.Size()*8))
				for _, c := range g.Tests {
					got.verify(t, file, hsm.Spec{Type: hsm.RSA, Bits: g.KeySize}, key, alg, hash, c, c.Valid() && same)
				}
			}
			if got != want {
				t.Errorf("%s: %+v; want %+v", file, got, want)
			}
		})
	}
}

// publicRSA tells whether the provider would take a key with the public half: all that it then misses is the private one.
func publicRSA(t *testing.T, g hsmtest.Group) (hsm.PublicKey, bool) {
	t.Helper()
	n, e := []byte(g.PublicKey.Modulus), []byte(g.PublicKey.PublicExponent)
	_, err := hsm.NewSoftware(hsm.SoftwareConfig{}).Import(t.Context(), hsm.PrivateKey{Type: hsm.RSA, N: n, E: e})
	allowed := slices.Contains([]int{2048, 3072, 4096}, g.KeySize) && new(big.Int).SetBytes(e).Int64() >= 65537
	want := "has 2048, 3072 or 4096 bits"
	switch {
	case allowed:
		want = `"d" is missing`
	case new(big.Int).SetBytes(n).BitLen() > 4096:
		want = `"n" has more than 4096 bits`
	case slices.Contains([]int{2048, 3072, 4096}, g.KeySize):
		want = `"e" is even or less than 65537`
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("a key of %d bits: %v; want: %s", g.KeySize, err, want)
	}
	return hsm.PublicKey{N: n, E: e}, allowed
}
