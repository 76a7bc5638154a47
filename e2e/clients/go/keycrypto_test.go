//go:build client

package goclient

import (
	"bytes"
	"context"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	dcrecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
	josecipher "github.com/go-jose/go-jose/v4/cipher"
	tinkkwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

// Go's client leaves all cryptography to the server. What it is compared with here is Go's own.

// Known to the suite, which looks for them in what the server leaves behind.
const (
	importedKey = "strongroom-e2e-imported-oct-key!"
	plaintext   = "32 bytes of nobody else's affair"
)

// An operation is one of the four on bytes.
type operation func(ctx context.Context, key azkeys.ID, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error)

func (k *keys) encrypt(ctx context.Context, key azkeys.ID, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
	r, err := k.client.Encrypt(ctx, key.Name(), key.Version(), p, nil)
	return r.KeyOperationResult, err
}

func (k *keys) decrypt(ctx context.Context, key azkeys.ID, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
	r, err := k.client.Decrypt(ctx, key.Name(), key.Version(), p, nil)
	return r.KeyOperationResult, err
}

func (k *keys) wrap(ctx context.Context, key azkeys.ID, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
	r, err := k.client.WrapKey(ctx, key.Name(), key.Version(), p, nil)
	return r.KeyOperationResult, err
}

func (k *keys) unwrap(ctx context.Context, key azkeys.ID, p azkeys.KeyOperationParameters) (azkeys.KeyOperationResult, error) {
	r, err := k.client.UnwrapKey(ctx, key.Name(), key.Version(), p, nil)
	return r.KeyOperationResult, err
}

// A pair is an operation and the one that undoes it.
type pair struct {
	name string
	seal operation
	open operation
}

func (k *keys) encryption() pair { return pair{"encrypt", k.encrypt, k.decrypt} }
func (k *keys) wrapping() pair   { return pair{"wrap", k.wrap, k.unwrap} }

// do lets the server do an operation, which has to name the version of the key that did it.
func do(t *testing.T, op operation, key azkeys.ID, p azkeys.KeyOperationParameters) azkeys.KeyOperationResult {
	t.Helper()
	r := must(op(t.Context(), key, p))(t)
	if *r.KID != key {
		t.Errorf("%s did it, not %s", *r.KID, key)
	}
	return r
}

// opens wants the server to find the plaintext in a ciphertext.
func opens(t *testing.T, op operation, key azkeys.ID, p azkeys.KeyOperationParameters) {
	t.Helper()
	if got := do(t, op, key, p).Result; string(got) != plaintext {
		t.Errorf("opened %q", got)
	}
}

// refuses wants the server to refuse what has been altered.
func refuses(t *testing.T, op operation, key azkeys.ID, p azkeys.KeyOperationParameters) {
	t.Helper()
	_, err := op(t.Context(), key, p)
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)-1] ^= 1
	return b
}

// sign lets the server sign.
func (k *keys) sign(t *testing.T, key azkeys.ID, alg azkeys.SignatureAlgorithm, digest []byte) []byte {
	t.Helper()
	r := must(k.client.Sign(t.Context(), key.Name(), key.Version(), azkeys.SignParameters{Algorithm: &alg, Value: digest}, nil))(t)
	if *r.KID != key {
		t.Errorf("%s signed, not %s", *r.KID, key)
	}
	return r.Result
}

// verifies asks the server about a signature, and about two that are wrong.
func (k *keys) verifies(t *testing.T, key azkeys.ID, alg azkeys.SignatureAlgorithm, digest, signature []byte) {
	t.Helper()
	for _, test := range []struct {
		name              string
		digest, signature []byte
		want              bool
	}{
		{"the signature", digest, signature, true},
		{"another digest", flipped(digest), signature, false},
		{"an altered signature", digest, flipped(signature), false},
	} {
		r := must(k.client.Verify(t.Context(), key.Name(), key.Version(), azkeys.VerifyParameters{
			Algorithm: &alg, Digest: test.digest, Signature: test.signature,
		}, nil))(t)
		if *r.Value != test.want {
			t.Errorf("verify %s: %v", test.name, *r.Value)
		}
	}
}

// wrongDigest wants the server to refuse a digest that is too long.
func (k *keys) wrongDigest(t *testing.T, key azkeys.ID, alg azkeys.SignatureAlgorithm, digest []byte) {
	t.Helper()
	p := azkeys.SignParameters{Algorithm: &alg, Value: append(digest, 0)}
	_, err := k.client.Sign(t.Context(), key.Name(), key.Version(), p, nil)
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
}

func digest(hash crypto.Hash) []byte {
	h := hash.New()
	h.Write([]byte(plaintext))
	return h.Sum(nil)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// An rsaKey is a key in the vault, and its private part if it came from here.
type rsaKey struct {
	id      azkeys.ID
	public  *rsa.PublicKey
	private *rsa.PrivateKey
}

func rsaOf(t *testing.T, key *azkeys.JSONWebKey) rsaKey {
	t.Helper()
	e := new(big.Int).SetBytes(key.E)
	if !e.IsInt64() {
		t.Fatalf("the public exponent is %v", e)
	}
	return rsaKey{id: *key.KID, public: &rsa.PublicKey{N: new(big.Int).SetBytes(key.N), E: int(e.Int64())}}
}

// rsa goes through all algorithms with a key of each size and of both types, and with one that was imported.
func (k *keys) rsa(t *testing.T) {
	for name, p := range map[string]azkeys.CreateKeyParameters{
		"rsa-default": {Kty: ptr(azkeys.KeyTypeRSA)},
		"rsa-3072":    {Kty: ptr(azkeys.KeyTypeRSAHSM), KeySize: ptr[int32](3072)},
		"rsa-4096":    {Kty: ptr(azkeys.KeyTypeRSA), KeySize: ptr[int32](4096), PublicExponent: ptr[int32](65537)},
	} {
		t.Run(name, func(t *testing.T) {
			made := k.create(t, name, p)
			key := rsaOf(t, made.Key)
			want := 2048
			if p.KeySize != nil {
				want = int(*p.KeySize)
			}
			if got := key.public.N.BitLen(); got != want || key.public.E != 65537 || *made.Key.Kty != *p.Kty {
				t.Errorf("made a %s key of %d bits with the exponent %d", *made.Key.Kty, got, key.public.E)
			}
			k.allRSA(t, key)
		})
	}
	t.Run("imported", func(t *testing.T) {
		private := must(rsa.GenerateKey(rand.Reader, 2048))(t)
		imported := must(k.client.ImportKey(t.Context(), "rsa-imported", azkeys.ImportKeyParameters{
			Key: &azkeys.JSONWebKey{
				Kty: ptr(azkeys.KeyTypeRSA), N: private.N.Bytes(), E: big.NewInt(int64(private.E)).Bytes(), D: private.D.Bytes(),
				P: private.Primes[0].Bytes(), Q: private.Primes[1].Bytes(),
				DP: private.Precomputed.Dp.Bytes(), DQ: private.Precomputed.Dq.Bytes(), QI: private.Precomputed.Qinv.Bytes(),
			},
		}, nil))(t)
		key := rsaOf(t, imported.Key)
		if !key.public.Equal(private.Public()) {
			t.Fatal("another key came out than went in")
		}
		onlyPublic(t, imported.Key)
		key.private = private
		k.allRSA(t, key)
	})
}

func (k *keys) allRSA(t *testing.T, key rsaKey) {
	for _, c := range rsaCiphers() {
		for _, pair := range []pair{k.encryption(), k.wrapping()} {
			t.Run(string(c.alg)+"/"+pair.name, func(t *testing.T) { rsaEncryption(t, key, c, pair) })
		}
	}
	for _, s := range rsaSigners() {
		t.Run(string(s.alg), func(t *testing.T) { k.rsaSignature(t, key, s) })
	}
}

type rsaCipher struct {
	alg     azkeys.EncryptionAlgorithm
	encrypt func(*rsa.PublicKey, []byte) ([]byte, error)
	options crypto.DecrypterOpts
}

func rsaCiphers() []rsaCipher {
	oaep := func(alg azkeys.EncryptionAlgorithm, hash crypto.Hash) rsaCipher {
		return rsaCipher{alg, func(key *rsa.PublicKey, b []byte) ([]byte, error) {
			return rsa.EncryptOAEP(hash.New(), rand.Reader, key, b, nil)
		}, &rsa.OAEPOptions{Hash: hash}}
	}
	return []rsaCipher{
		{azkeys.EncryptionAlgorithmRSA15, func(key *rsa.PublicKey, b []byte) ([]byte, error) {
			return rsa.EncryptPKCS1v15(rand.Reader, key, b) //lint:ignore SA1019 the wire has RSA1_5
		}, nil},
		oaep(azkeys.EncryptionAlgorithmRSAOAEP, crypto.SHA1),
		oaep(azkeys.EncryptionAlgorithmRSAOAEP256, crypto.SHA256),
	}
}

func rsaEncryption(t *testing.T, key rsaKey, c rsaCipher, pair pair) {
	params := func(value []byte) azkeys.KeyOperationParameters {
		return azkeys.KeyOperationParameters{Algorithm: &c.alg, Value: value}
	}
	theirs := do(t, pair.seal, key.id, params([]byte(plaintext))).Result
	opens(t, pair.open, key.id, params(theirs))
	opens(t, pair.open, key.id, params(must(c.encrypt(key.public, []byte(plaintext)))(t)))
	refuses(t, pair.open, key.id, params(theirs[1:]))
	if c.alg != azkeys.EncryptionAlgorithmRSA15 { // of whose altered ciphertexts one in a hundred thousand opens
		refuses(t, pair.open, key.id, params(flipped(theirs)))
	}
	if key.private != nil {
		if got := must(key.private.Decrypt(rand.Reader, theirs, c.options))(t); string(got) != plaintext {
			t.Errorf("the server's ciphertext opens as %q", got)
		}
	}
}

type rsaSigner struct {
	alg  azkeys.SignatureAlgorithm
	hash crypto.Hash
	pss  bool
}

func rsaSigners() []rsaSigner {
	return []rsaSigner{
		{azkeys.SignatureAlgorithmRS256, crypto.SHA256, false},
		{azkeys.SignatureAlgorithmRS384, crypto.SHA384, false},
		{azkeys.SignatureAlgorithmRS512, crypto.SHA512, false},
		{azkeys.SignatureAlgorithmPS256, crypto.SHA256, true},
		{azkeys.SignatureAlgorithmPS384, crypto.SHA384, true},
		{azkeys.SignatureAlgorithmPS512, crypto.SHA512, true},
	}
}

// pssOptions: the salt is as long as the hash (RFC 7518, 3.5).
func (s rsaSigner) pssOptions() *rsa.PSSOptions {
	return &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: s.hash}
}

func (s rsaSigner) verify(key *rsa.PublicKey, digest, signature []byte) error {
	if s.pss {
		return rsa.VerifyPSS(key, s.hash, digest, signature, s.pssOptions())
	}
	return rsa.VerifyPKCS1v15(key, s.hash, digest, signature)
}

func (s rsaSigner) sign(key *rsa.PrivateKey, digest []byte) ([]byte, error) {
	if s.pss {
		return key.Sign(rand.Reader, digest, s.pssOptions())
	}
	return key.Sign(nil, digest, s.hash)
}

func (k *keys) rsaSignature(t *testing.T, key rsaKey, s rsaSigner) {
	digest := digest(s.hash)
	theirs := k.sign(t, key.id, s.alg, digest)
	if err := s.verify(key.public, digest, theirs); err != nil {
		t.Errorf("the server's signature: %v", err)
	}
	k.verifies(t, key.id, s.alg, digest, theirs)
	k.wrongDigest(t, key.id, s.alg, digest)
	if key.private == nil {
		return
	}
	ours := must(s.sign(key.private, digest))(t)
	k.verifies(t, key.id, s.alg, digest, ours)
	if !s.pss && !bytes.Equal(ours, theirs) {
		t.Error("the server's signature is not the one that there is")
	}
}

// An ecKind is a curve with its one algorithm.
type ecKind struct {
	curve    azkeys.CurveName
	alg      azkeys.SignatureAlgorithm
	hash     crypto.Hash
	size     int // of a coordinate
	oracle   ecOracle
	kty      azkeys.KeyType
	standard bool // the curve of a key about which nothing is said
}

func ecKinds() []ecKind {
	return []ecKind{
		{azkeys.CurveNameP256, azkeys.SignatureAlgorithmES256, crypto.SHA256, 32, nist{elliptic.P256()}, azkeys.KeyTypeEC, true},
		{azkeys.CurveNameP256K, azkeys.SignatureAlgorithmES256K, crypto.SHA256, 32, koblitz{}, azkeys.KeyTypeECHSM, false},
		{azkeys.CurveNameP384, azkeys.SignatureAlgorithmES384, crypto.SHA384, 48, nist{elliptic.P384()}, azkeys.KeyTypeEC, false},
		{azkeys.CurveNameP521, azkeys.SignatureAlgorithmES512, crypto.SHA512, 66, nist{elliptic.P521()}, azkeys.KeyTypeECHSM, false},
	}
}

// An ecOracle is an implementation of ECDSA on a curve. Points are uncompressed, signatures DER.
type ecOracle interface {
	generate() (ecKey, error)
	verify(point, digest, signature []byte) (bool, error)
}

type ecKey struct {
	d, point []byte
	sign     func(digest []byte) ([]byte, error)
}

type nist struct{ elliptic.Curve }

func (c nist) generate() (ecKey, error) {
	key, err := ecdsa.GenerateKey(c.Curve, rand.Reader)
	if err != nil {
		return ecKey{}, err
	}
	d, err := key.Bytes()
	if err != nil {
		return ecKey{}, err
	}
	point, err := key.PublicKey.Bytes()
	return ecKey{d, point, func(digest []byte) ([]byte, error) { return ecdsa.SignASN1(rand.Reader, key, digest) }}, err
}

func (c nist) verify(point, digest, signature []byte) (bool, error) {
	key, err := ecdsa.ParseUncompressedPublicKey(c.Curve, point)
	return err == nil && ecdsa.VerifyASN1(key, digest, signature), err
}

// koblitz is P-256K. It is the implementation that the server has, too; the Python and JavaScript clients have another.
type koblitz struct{}

func (koblitz) generate() (ecKey, error) {
	key, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		return ecKey{}, err
	}
	return ecKey{key.Serialize(), key.PubKey().SerializeUncompressed(), func(digest []byte) ([]byte, error) {
		return dcrecdsa.Sign(key, digest).Serialize(), nil
	}}, nil
}

func (koblitz) verify(point, digest, signature []byte) (bool, error) {
	key, err := secp256k1.ParsePubKey(point)
	if err != nil {
		return false, err
	}
	s, err := dcrecdsa.ParseDERSignature(signature)
	return err == nil && s.Verify(digest, key), err
}

type dssSignature struct{ R, S *big.Int }

// raw turns a DER signature into the wire's, r and s side by side.
func (c ecKind) raw(t *testing.T, der []byte) []byte {
	t.Helper()
	var s dssSignature
	if rest, err := asn1.Unmarshal(der, &s); err != nil || len(rest) != 0 {
		t.Fatalf("a signature: %v, and %d bytes follow", err, len(rest))
	}
	out := make([]byte, 2*c.size)
	s.R.FillBytes(out[:c.size])
	s.S.FillBytes(out[c.size:])
	return out
}

func (c ecKind) der(t *testing.T, raw []byte) []byte {
	t.Helper()
	if len(raw) != 2*c.size {
		t.Fatalf("the signature has %d bytes, want %d", len(raw), 2*c.size)
	}
	return must(asn1.Marshal(dssSignature{new(big.Int).SetBytes(raw[:c.size]), new(big.Int).SetBytes(raw[c.size:])}))(t)
}

func (k *keys) ec(t *testing.T) {
	for _, c := range ecKinds() {
		t.Run(string(c.curve), func(t *testing.T) {
			p := azkeys.CreateKeyParameters{Kty: &c.kty}
			if !c.standard {
				p.Curve = &c.curve
			}
			made := k.create(t, "ec-"+string(c.curve), p)
			k.ecSignature(t, c, c.kty, made.Key, nil)
		})
		t.Run(string(c.curve)+"/imported", func(t *testing.T) {
			ours := must(c.oracle.generate())(t)
			imported := must(k.client.ImportKey(t.Context(), "ec-imported-"+string(c.curve), azkeys.ImportKeyParameters{
				Key: &azkeys.JSONWebKey{
					Kty: ptr(azkeys.KeyTypeEC), Crv: &c.curve, D: ours.d, X: ours.point[1 : 1+c.size], Y: ours.point[1+c.size:],
				},
				HSM: ptr(c.kty == azkeys.KeyTypeECHSM),
			}, nil))(t)
			if !bytes.Equal(slices.Concat([]byte{4}, imported.Key.X, imported.Key.Y), ours.point) {
				t.Fatal("another key came out than went in")
			}
			onlyPublic(t, imported.Key)
			k.ecSignature(t, c, c.kty, imported.Key, ours.sign)
		})
	}
}

func (k *keys) ecSignature(t *testing.T, c ecKind, kty azkeys.KeyType, key *azkeys.JSONWebKey, sign func([]byte) ([]byte, error)) {
	if *key.Crv != c.curve || *key.Kty != kty || len(key.X) != c.size || len(key.Y) != c.size {
		t.Fatalf("the key is %s on %s with coordinates of %d and %d bytes", *key.Kty, *key.Crv, len(key.X), len(key.Y))
	}
	digest := digest(c.hash)
	theirs := k.sign(t, *key.KID, c.alg, digest)
	point := slices.Concat([]byte{4}, key.X, key.Y)
	if ok := must(c.oracle.verify(point, digest, c.der(t, theirs)))(t); !ok {
		t.Error("the server's signature is wrong")
	}
	k.verifies(t, *key.KID, c.alg, digest, theirs)
	k.wrongDigest(t, *key.KID, c.alg, digest)
	if sign != nil {
		k.verifies(t, *key.KID, c.alg, digest, c.raw(t, must(sign(digest))(t)))
	}
	other := azkeys.SignParameters{Algorithm: ptr(azkeys.SignatureAlgorithmES256), Value: digest}
	if *other.Algorithm == c.alg {
		other.Algorithm = ptr(azkeys.SignatureAlgorithmES384)
	}
	_, err := k.client.Sign(t.Context(), key.KID.Name(), key.KID.Version(), other, nil)
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
}

func (k *keys) oct(t *testing.T) {
	for _, bits := range []int{128, 192, 256} {
		alg := func(format string) azkeys.EncryptionAlgorithm {
			return azkeys.EncryptionAlgorithm(fmt.Sprintf(format, bits))
		}
		t.Run(fmt.Sprint(bits), func(t *testing.T) {
			raw := []byte(importedKey[:bits/8])
			name := fmt.Sprintf("oct-%d", bits)
			id := k.importOct(t, name, raw, "encrypt", "decrypt", "wrapKey", "unwrapKey")
			block := must(aes.NewCipher(raw))(t)
			k.gcm(t, id, alg("A%dGCM"), block)
			k.cbc(t, id, alg("A%dCBC"), block, false)
			k.cbc(t, id, alg("A%dCBCPAD"), block, true)
			k.keyWrap(t, id, alg("A%dKW"), block)
			k.keyWrap(t, id, azkeys.EncryptionAlgorithmCKMAESKEYWRAP, block)
			k.keyWrapPadded(t, id, raw)

			p := azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeOctHSM), KeySize: ptr(int32(bits))}
			made := k.create(t, name+"-made", p)
			onlyPublic(t, made.Key)
			k.gcm(t, *made.Key.KID, alg("A%dGCM"), nil)
			k.keyWrapPadded(t, *made.Key.KID, nil)
		})
	}
}

func (k *keys) importOct(t *testing.T, name string, raw []byte, ops ...azkeys.KeyOperation) azkeys.ID {
	t.Helper()
	imported := must(k.client.ImportKey(t.Context(), name, azkeys.ImportKeyParameters{
		Key: &azkeys.JSONWebKey{Kty: ptr(azkeys.KeyTypeOctHSM), K: raw, KeyOps: pointers(ops)},
		HSM: ptr(true),
	}, nil))(t)
	onlyPublic(t, imported.Key)
	if *imported.Key.Kty != azkeys.KeyTypeOctHSM || !slices.Equal(values(imported.Key.KeyOps), ops) {
		t.Errorf("imported a %s key for %v", *imported.Key.Kty, values(imported.Key.KeyOps))
	}
	return *imported.Key.KID
}

// gcm compares with block, if the key is known here.
func (k *keys) gcm(t *testing.T, id azkeys.ID, alg azkeys.EncryptionAlgorithm, block cipher.Block) {
	aad := []byte("additional data")
	theirs := do(t, k.encrypt, id, azkeys.KeyOperationParameters{
		Algorithm: &alg, Value: []byte(plaintext), AdditionalAuthenticatedData: aad,
	})
	if len(theirs.IV) != 12 || len(theirs.AuthenticationTag) != 16 || !bytes.Equal(theirs.AdditionalAuthenticatedData, aad) {
		t.Fatalf("%s answered with an iv of %d bytes, a tag of %d and the additional data %q", alg, len(theirs.IV),
			len(theirs.AuthenticationTag), theirs.AdditionalAuthenticatedData)
	}
	p := azkeys.KeyOperationParameters{
		Algorithm: &alg, Value: theirs.Result, IV: theirs.IV, AuthenticationTag: theirs.AuthenticationTag,
		AdditionalAuthenticatedData: aad,
	}
	opens(t, k.decrypt, id, p)
	for _, alter := range []func(*azkeys.KeyOperationParameters){
		func(p *azkeys.KeyOperationParameters) { p.Value = flipped(p.Value) },
		func(p *azkeys.KeyOperationParameters) { p.IV = flipped(p.IV) },
		func(p *azkeys.KeyOperationParameters) { p.AuthenticationTag = flipped(p.AuthenticationTag) },
		func(p *azkeys.KeyOperationParameters) { p.AuthenticationTag = p.AuthenticationTag[:12] },
		func(p *azkeys.KeyOperationParameters) { p.AdditionalAuthenticatedData = nil },
	} {
		altered := p
		alter(&altered)
		refuses(t, k.decrypt, id, altered)
	}
	if block == nil {
		return
	}
	aead := must(cipher.NewGCM(block))(t)
	got, err := aead.Open(nil, theirs.IV, slices.Concat(theirs.Result, theirs.AuthenticationTag), aad)
	if err != nil || string(got) != plaintext {
		t.Errorf("%s: the server's ciphertext opens as %q, %v", alg, got, err)
	}
	iv := random(12)
	sealed := aead.Seal(nil, iv, []byte(plaintext), nil)
	opens(t, k.decrypt, id, azkeys.KeyOperationParameters{
		Algorithm: &alg, Value: sealed[:len(plaintext)], IV: iv, AuthenticationTag: sealed[len(plaintext):],
	})
}

func (k *keys) cbc(t *testing.T, id azkeys.ID, alg azkeys.EncryptionAlgorithm, block cipher.Block, padded bool) {
	message := []byte(plaintext)
	if padded {
		message = append(message, bytes.Repeat([]byte{aes.BlockSize}, aes.BlockSize)...)
	}
	iv := random(aes.BlockSize)
	want := make([]byte, len(message))
	cipher.NewCBCEncrypter(block, iv).CryptBlocks(want, message)
	theirs := do(t, k.encrypt, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: []byte(plaintext), IV: iv}).Result
	if !bytes.Equal(theirs, want) {
		t.Errorf("%s: the server's ciphertext is %x, want %x", alg, theirs, want)
	}
	opens(t, k.decrypt, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: want, IV: iv})
	refuses(t, k.decrypt, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: want[1:], IV: iv})
	refuses(t, k.decrypt, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: want, IV: iv[1:]})
	if !padded {
		refuses(t, k.encrypt, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: []byte(plaintext[1:]), IV: iv})
	}
}

func (k *keys) keyWrap(t *testing.T, id azkeys.ID, alg azkeys.EncryptionAlgorithm, block cipher.Block) {
	want := must(josecipher.KeyWrap(block, []byte(plaintext)))(t)
	theirs := do(t, k.wrap, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: []byte(plaintext)}).Result
	if !bytes.Equal(theirs, want) {
		t.Errorf("%s: the server wraps as %x, want %x", alg, theirs, want)
	}
	opens(t, k.unwrap, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: want})
	refuses(t, k.unwrap, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: flipped(want)})
	refuses(t, k.wrap, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: []byte(plaintext[1:])})
}

// keyWrapPadded compares with Tink, if the key is known here and of a size that Tink has.
func (k *keys) keyWrapPadded(t *testing.T, id azkeys.ID, raw []byte) {
	alg := azkeys.EncryptionAlgorithmCKMAESKEYWRAPPAD
	theirs := do(t, k.wrap, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: []byte(plaintext)}).Result
	opens(t, k.unwrap, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: theirs})
	refuses(t, k.unwrap, id, azkeys.KeyOperationParameters{Algorithm: &alg, Value: flipped(theirs)})
	if len(raw) != 16 && len(raw) != 32 {
		return
	}
	if want := must(must(tinkkwp.NewKWP(raw))(t).Wrap([]byte(plaintext)))(t); !bytes.Equal(theirs, want) {
		t.Errorf("%s: the server wraps as %x, want %x", alg, theirs, want)
	}
}

func (k *keys) hmac(t *testing.T) {
	for _, s := range []struct {
		alg  azkeys.SignatureAlgorithm
		hash crypto.Hash
	}{
		{azkeys.SignatureAlgorithmHS256, crypto.SHA256},
		{azkeys.SignatureAlgorithmHS384, crypto.SHA384},
		{azkeys.SignatureAlgorithmHS512, crypto.SHA512},
	} {
		t.Run(string(s.alg), func(t *testing.T) {
			raw := random(s.hash.Size())
			id := k.importOct(t, "hmac-"+string(s.alg), raw, "sign", "verify")
			digest := digest(s.hash)
			mac := hmac.New(s.hash.New, raw)
			mac.Write(digest)
			want := mac.Sum(nil)
			if got := k.sign(t, id, s.alg, digest); !bytes.Equal(got, want) {
				t.Errorf("the server's code is %x, want %x", got, want)
			}
			k.verifies(t, id, s.alg, digest, want)
		})
	}
}

// envelope is what sops does: a data key under RSA-OAEP-256, kept with the id of the version that encrypted it.
func (k *keys) envelope(t *testing.T) {
	p := azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeRSA), KeyOps: pointers([]azkeys.KeyOperation{"encrypt", "decrypt"})}
	alg := azkeys.EncryptionAlgorithmRSAOAEP256
	first := *k.create(t, "envelope", p).Key.KID
	dataKey := azkeys.KeyOperationParameters{Algorithm: &alg, Value: []byte(plaintext)}
	sealed := must(k.client.Encrypt(t.Context(), first.Name(), first.Version(), dataKey, nil))(t)
	second := *must(k.client.RotateKey(t.Context(), "envelope", nil))(t).Key.KID

	// Without a version it is the new one, which the answer names.
	latest := must(k.client.Encrypt(t.Context(), "envelope", "", dataKey, nil))(t)
	if *latest.KID != second || second == first {
		t.Errorf("%s encrypted, want %s", *latest.KID, second)
	}
	opens(t, k.decrypt, *sealed.KID, azkeys.KeyOperationParameters{Algorithm: &alg, Value: sealed.Result})
	opens(t, k.decrypt, *latest.KID, azkeys.KeyOperationParameters{Algorithm: &alg, Value: latest.Result})
	refuses(t, k.decrypt, second, azkeys.KeyOperationParameters{Algorithm: &alg, Value: sealed.Result})
}
