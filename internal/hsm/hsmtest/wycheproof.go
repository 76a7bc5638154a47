package hsmtest

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	_ "crypto/sha1"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"testing"

	"github.com/strongroom/strongroom/internal/hsm"
)

// Wycheproof runs Project Wycheproof's vectors for AES, HMAC and RSA's private key through p, which imports each key. Vectors
// for unsupported algorithms are left out. How many there are of each sort is known, so that none is left out unnoticed.
func Wycheproof(t *testing.T, p hsm.Provider, unsupported ...string) {
	for _, f := range vectorFiles() {
		t.Run(f.name(), func(t *testing.T) {
			t.Parallel()
			v := &vectors{provider: p, unsupported: unsupported, file: f}
			for _, g := range Vectors(t, f.file) {
				v.group(t, g)
			}
			if v.got != f.want && !v.leftOut {
				t.Errorf("%s: %+v; want %+v", f.file, v.got, f.want)
			}
		})
	}
}

// tally counts vectors by what happened, which is what had to happen.
type tally struct {
	Done    int // decrypted, verified or computed
	Failed  int // did not decrypt or verify
	Refused int // a key or a length that the wire does not have: BadInput
	Others  int // for an algorithm that the wire does not have
}

type vectorFile struct {
	file string
	alg  func(Group) (hsm.Algorithm, bool) // false: the wire has none
	run  func(*vectors, *testing.T, hsm.Algorithm, Group, Case)
	want tally
}

func (f vectorFile) name() string {
	alg, _ := f.alg(Group{KeySize: 256, Hash: "SHA-256", MGFHash: "SHA-256"})
	return f.file + "/" + string(alg)
}

// bySize names an algorithm for each size of AES keys. A key of another size gets the first, which does not fit.
func bySize(a128, a192, a256 hsm.Algorithm) func(Group) (hsm.Algorithm, bool) {
	return func(g Group) (hsm.Algorithm, bool) {
		switch g.KeySize {
		case 192:
			return a192, true
		case 256:
			return a256, true
		default:
			return a128, true
		}
	}
}

func always(alg hsm.Algorithm) func(Group) (hsm.Algorithm, bool) {
	return func(Group) (hsm.Algorithm, bool) { return alg, true }
}

func oaep(g Group) (hsm.Algorithm, bool) {
	switch {
	case g.Hash == "SHA-1" && g.MGFHash == "SHA-1":
		return hsm.RSAOAEP, true
	case g.Hash == "SHA-256" && g.MGFHash == "SHA-256":
		return hsm.RSAOAEP256, true
	default:
		return "", false
	}
}

func pkcs1(g Group) (hsm.Algorithm, bool) {
	alg, ok := map[string]hsm.Algorithm{"SHA-256": hsm.RS256, "SHA-384": hsm.RS384, "SHA-512": hsm.RS512}[g.Hash]
	return alg, ok
}

func vectorFiles() []vectorFile {
	return []vectorFile{
		{"aes_gcm_test.json", bySize(hsm.A128GCM, hsm.A192GCM, hsm.A256GCM), (*vectors).gcm, tally{116, 81, 119, 0}},
		{"aes_cbc_pkcs5_test.json", bySize(hsm.A128CBCPAD, hsm.A192CBCPAD, hsm.A256CBCPAD), (*vectors).deterministic, tally{72, 141, 3, 0}},
		{"aes_wrap_test.json", bySize(hsm.A128KW, hsm.A192KW, hsm.A256KW), (*vectors).deterministic, tally{36, 81, 48, 0}},
		{"aes_wrap_test.json", always(hsm.CKMAESKeyWrap), (*vectors).deterministic, tally{36, 81, 48, 0}},
		{"aes_kwp_test.json", bySize(hsm.A128KWPAD, hsm.A192KWPAD, hsm.A256KWPAD), (*vectors).deterministic, tally{77, 177, 0, 0}},
		{"aes_kwp_test.json", always(hsm.CKMAESKeyWrapPad), (*vectors).deterministic, tally{77, 177, 0, 0}},
		{"hmac_sha256_test.json", always(hsm.HS256), (*vectors).hmac, tally{26, 80, 68, 0}},
		{"hmac_sha384_test.json", always(hsm.HS384), (*vectors).hmac, tally{26, 80, 68, 0}},
		{"hmac_sha512_test.json", always(hsm.HS512), (*vectors).hmac, tally{26, 80, 68, 0}},
		{"rsa_oaep_2048_sha1_mgf1sha1_test.json", oaep, (*vectors).decrypt, tally{10, 26, 0, 0}},
		{"rsa_oaep_2048_sha256_mgf1sha256_test.json", oaep, (*vectors).decrypt, tally{10, 27, 0, 0}},
		{"rsa_oaep_3072_sha256_mgf1sha256_test.json", oaep, (*vectors).decrypt, tally{10, 27, 0, 0}},
		{"rsa_oaep_4096_sha256_mgf1sha256_test.json", oaep, (*vectors).decrypt, tally{10, 27, 0, 0}},
		{"rsa_oaep_misc_test.json", oaep, (*vectors).decrypt, tally{18, 0, 28, 349}},
		{"rsa_three_primes_oaep_2048_sha1_mgf1sha1_test.json", oaep, (*vectors).decrypt, tally{0, 0, 36, 0}},
		{"rsa_three_primes_oaep_4096_sha256_mgf1sha256_test.json", oaep, (*vectors).decrypt, tally{0, 0, 36, 0}},
		{"rsa_pkcs1_2048_test.json", always(hsm.RSA15), (*vectors).decrypt, tally{42, 25, 0, 0}},
		{"rsa_pkcs1_3072_test.json", always(hsm.RSA15), (*vectors).decrypt, tally{41, 26, 0, 0}},
		{"rsa_pkcs1_4096_test.json", always(hsm.RSA15), (*vectors).decrypt, tally{41, 26, 0, 0}},
		{"rsa_pkcs1_1024_sig_gen_test.json", pkcs1, (*vectors).sign, tally{0, 0, 17, 16}},
		{"rsa_pkcs1_1536_sig_gen_test.json", pkcs1, (*vectors).sign, tally{0, 0, 24, 8}},
		{"rsa_pkcs1_2048_sig_gen_test.json", pkcs1, (*vectors).sign, tally{24, 0, 3, 16}},
		{"rsa_pkcs1_3072_sig_gen_test.json", pkcs1, (*vectors).sign, tally{24, 0, 2, 0}},
		{"rsa_pkcs1_4096_sig_gen_test.json", pkcs1, (*vectors).sign, tally{24, 0, 0, 0}},
	}
}

type vectors struct {
	provider    hsm.Provider
	unsupported []string
	file        vectorFile

	key     hsm.Key // of the group, if it has one
	refused bool    // that key
	got     tally
	leftOut bool // something is not supported
}

func (v *vectors) group(t *testing.T, g Group) {
	alg, ok := v.file.alg(g)
	switch {
	case !ok:
		v.got.Others += len(g.Tests)
		return
	case slices.Contains(v.unsupported, string(alg)):
		v.leftOut = true
		return
	}
	v.key, v.refused = nil, false
	if g.PrivateKey.Modulus != nil {
		private := v.privateKey(t, g)
		v.key, v.refused = v.open(t, private, rsaAllowed(private))
	}
	for _, c := range g.Tests {
		v.file.run(v, t, alg, g, c)
	}
}

// rsaAllowed tells whether the wire has such keys: of a size of Azure's, without a tiny exponent, of two primes.
func rsaAllowed(k hsm.PrivateKey) bool {
	n, pq := new(big.Int).SetBytes(k.N), new(big.Int).SetBytes(k.P)
	pq.Mul(pq, new(big.Int).SetBytes(k.Q))
	return slices.Contains([]int{2048, 3072, 4096}, n.BitLen()) && new(big.Int).SetBytes(k.E).Int64() >= 65537 && pq.Cmp(n) == 0
}

// privateKey is a group's RSA key. Some give its primes in PKCS#8 only.
func (v *vectors) privateKey(t *testing.T, g Group) hsm.PrivateKey {
	t.Helper()
	if g.PrivateKey.Prime1 != nil {
		return g.PrivateKey.Import()
	}
	parsed, err := x509.ParsePKCS8PrivateKey(g.PrivateKeyPKCS8)
	if err != nil {
		t.Fatal(err)
	}
	return RSAMembers(parsed.(*rsa.PrivateKey))
}

// open imports a key. One that is not allowed must be refused.
func (v *vectors) open(t *testing.T, private hsm.PrivateKey, allowed bool) (key hsm.Key, refused bool) {
	t.Helper()
	taken, err := v.provider.Import(t.Context(), private)
	if !allowed {
		wantKind(t, "a key that the wire does not have", err, hsm.BadInput)
		return nil, true
	}
	if err != nil {
		t.Fatal(err)
	}
	if key, err = v.provider.Open(t.Context(), taken.Spec, taken.Blob); err != nil {
		t.Fatal(err)
	}
	return key, false
}

func (v *vectors) openOct(t *testing.T, c Case) (hsm.Key, bool) {
	t.Helper()
	return v.open(t, hsm.PrivateKey{Type: hsm.Oct, K: c.Key}, slices.Contains([]int{16, 24, 32, 48, 64}, len(c.Key)))
}

// describe names a vector in a failure.
func (v *vectors) describe(c Case) string {
	return fmt.Sprintf("%s %d (%s, %s)", v.file.file, c.ID, c.Comment, c.Result)
}

// decrypted judges what came of a ciphertext that must decrypt, or must not.
func (v *vectors) decrypted(t *testing.T, c Case, must bool, got []byte, err error) {
	t.Helper()
	switch {
	case must && (err != nil || !bytes.Equal(got, c.Msg)):
		t.Errorf("%s: %x, %v", v.describe(c), got, err)
	case must:
		v.got.Done++
	case err == nil || !errors.As(err, new(*hsm.Error)):
		t.Errorf("%s: decrypts to %x, %v", v.describe(c), got, err)
	default:
		v.got.Failed++
	}
}

func (v *vectors) refuse(t *testing.T, c Case, err error) {
	t.Helper()
	wantKind(t, v.describe(c), err, hsm.BadInput)
	v.got.Refused++
}

func (v *vectors) gcm(t *testing.T, alg hsm.Algorithm, g Group, c Case) {
	key, refused := v.openOct(t, c)
	if refused {
		t.Fatal(v.describe(c))
	}
	got, err := key.Decrypt(t.Context(), alg, hsm.Message{Value: c.CT, IV: c.IV, AAD: c.AAD, Tag: c.Tag})
	if g.IVSize != 96 || g.TagSize != 128 {
		v.refuse(t, c, err)
		return
	}
	v.decrypted(t, c, c.Valid(), got, err)
}

// deterministic encryption gives the vector's ciphertext, too.
func (v *vectors) deterministic(t *testing.T, alg hsm.Algorithm, _ Group, c Case) {
	key, refused := v.openOct(t, c)
	if refused {
		t.Fatal(v.describe(c))
	}
	got, err := key.Decrypt(t.Context(), alg, hsm.Message{Value: c.CT, IV: c.IV})
	if len(c.CT)%8 != 0 || len(c.CT) == 0 || c.Acceptable() {
		v.refuse(t, c, err) // acceptable are RFC 3394's keys of 8 bytes
		return
	}
	v.decrypted(t, c, c.Valid(), got, err)
	if !c.Valid() {
		return
	}
	out, err := key.Encrypt(t.Context(), alg, hsm.Message{Value: c.Msg, IV: c.IV})
	if err != nil || !bytes.Equal(out.Value, c.CT) {
		t.Errorf("%s: encrypts to %x, %v", v.describe(c), out.Value, err)
	}
}

// hmac has no short tags, no empty input and, by RFC 7518, no key shorter than the hash.
func (v *vectors) hmac(t *testing.T, alg hsm.Algorithm, g Group, c Case) {
	key, refused := v.openOct(t, c)
	if refused {
		v.got.Refused++
		return
	}
	full := map[hsm.Algorithm]int{hsm.HS256: 256, hsm.HS384: 384, hsm.HS512: 512}[alg]
	ok, err := key.Verify(t.Context(), alg, c.Msg, c.Tag)
	if len(c.Msg) == 0 || len(c.Key)*8 < full {
		v.refuse(t, c, err)
		return
	}
	if must := c.Valid() && g.TagSize == full; err != nil || ok != must {
		t.Errorf("%s: %v, %v", v.describe(c), ok, err)
	} else if must {
		v.got.Done++
	} else {
		v.got.Failed++
	}
}

func (v *vectors) decrypt(t *testing.T, alg hsm.Algorithm, _ Group, c Case) {
	if v.refused {
		v.got.Refused++
		return
	}
	got, err := v.key.Decrypt(t.Context(), alg, hsm.Message{Value: c.CT})
	must := c.Valid() || c.Acceptable() && err == nil
	v.decrypted(t, c, must && len(c.Label) == 0, got, err) // the wire has no labels
}

func (v *vectors) sign(t *testing.T, alg hsm.Algorithm, g Group, c Case) {
	if v.refused {
		v.got.Refused++
		return
	}
	hash := map[string]crypto.Hash{"SHA-256": crypto.SHA256, "SHA-384": crypto.SHA384, "SHA-512": crypto.SHA512}[g.Hash].New()
	hash.Write(c.Msg)
	got, err := v.key.Sign(t.Context(), alg, hash.Sum(nil))
	if err != nil || !bytes.Equal(got, c.Sig) {
		t.Errorf("%s: %x, %v", v.describe(c), got, err)
		return
	}
	v.got.Done++
}
