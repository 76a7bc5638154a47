package keyvault

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
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/record"
)

// openGCM opens what a vault has encrypted, with the key itself and without the vault.
func openGCM(t testing.TB, key []byte, m Message) []byte {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := aead.Open(nil, m.IV, append(bytes.Clone(m.Value), m.Tag...), m.AAD)
	if err != nil {
		t.Error(err)
	}
	return opened
}

// octKey is a key with which a vault can do everything, and the test too.
var octKey = bytes.Repeat([]byte("key "), 8)

// sealGCM encrypts as a vault does with octKey.
func sealGCM(t testing.TB, text []byte) Message {
	t.Helper()
	block, err := aes.NewCipher(octKey)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	iv := make([]byte, aead.NonceSize())
	sealed := aead.Seal(nil, iv, text, nil)
	return Message{Value: sealed[:len(text)], Tag: sealed[len(text):], IV: iv}
}

// use does one thing with the key k of a vault, which is octKey.
func (b *bench) use(t testing.TB, vault, version, operation string) (used Used, err error) {
	t.Helper()
	ctx, text := t.Context(), make([]byte, 32)
	switch operation {
	case "sign":
		_, used, err = b.Sign(ctx, admin, vault, "k", version, "HS256", text)
	case "verify":
		_, used, err = b.Verify(ctx, admin, vault, "k", version, "HS256", text, text)
	case "encrypt":
		_, used, err = b.Encrypt(ctx, admin, vault, "k", version, "A256GCM", Message{Value: text})
	case "wrapKey":
		_, used, err = b.Wrap(ctx, admin, vault, "k", version, "A256GCM", Message{Value: text})
	case "decrypt":
		_, used, err = b.Decrypt(ctx, admin, vault, "k", version, "A256GCM", sealGCM(t, text))
	case "unwrapKey":
		_, used, err = b.Unwrap(ctx, admin, vault, "k", version, "A256GCM", sealGCM(t, text))
	default:
		t.Fatalf("nobody can %s", operation)
	}
	return used, err
}

// TestUseRules has each rule alone, for each use, at the edges of its times.
func TestUseRules(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	now := b.clock().Unix()
	leeway := int64(clockLeeway / time.Second)
	all := []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
	old := []string{"decrypt", "verify", "unwrapKey"}
	for name, c := range map[string]struct {
		attributes Attributes
		operations []string
		allowed    []string
		kind       Kind // for the others
	}{
		"usual":              {Attributes{}, all, all, 0},
		"disabled":           {Attributes{Enabled: new(bool)}, nil, nil, Disabled},
		"disabled and gone":  {Attributes{Enabled: new(bool), Expires: new(int64(1))}, []string{}, nil, Disabled},
		"valid from now":     {Attributes{NotBefore: new(now)}, nil, all, 0},
		"valid within slack": {Attributes{NotBefore: new(now + leeway)}, nil, all, 0},
		"not yet valid":      {Attributes{NotBefore: new(now + leeway + 1)}, nil, old, NotYetValid},
		"expires soon":       {Attributes{Expires: new(now + 1)}, nil, all, 0},
		"within slack":       {Attributes{Expires: new(now - leeway + 1)}, nil, all, 0},
		"expired":            {Attributes{Expires: new(now - leeway)}, nil, old, Expired},
		"both times":         {Attributes{NotBefore: new(now + 1000), Expires: new(now - 1000)}, nil, old, NotYetValid},
		"signs":              {Attributes{}, []string{"sign"}, []string{"sign"}, OperationForbidden},
		"undoes":             {Attributes{}, old, old, OperationForbidden},
		"wraps":              {Attributes{}, []string{"wrapKey", "unwrapKey"}, []string{"wrapKey", "unwrapKey"}, OperationForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			k := b.take(t, "premium", "k", ImportKeyParams{Type: "oct-HSM", Private: PrivateKey{K: octKey}, Attributes: c.attributes})
			if c.operations == nil {
				c.operations = all
			}
			if _, err := b.UpdateKey(ctx, admin, "premium", "k", "", UpdateKeyParams{Operations: c.operations}); err != nil {
				t.Fatal(err)
			}
			for _, operation := range all {
				used, err := b.use(t, "premium", k.Version, operation)
				if want := (Used{Name: "k", Version: k.Version, Vault: k.Vault}); used != want {
					t.Errorf("%s used %+v, want %+v", operation, used, want)
				}
				if slices.Contains(c.allowed, operation) {
					if err != nil {
						t.Errorf("%s: %v", operation, err)
					}
				} else if wantKind(t, err, c.kind); err != nil && !strings.Contains(err.Error(), operation+" is not ") {
					t.Errorf("%s: %v", operation, err)
				}
			}
		})
	}
}

// TestUsedVersion uses versions by name and the current one without.
func TestUsedVersion(t *testing.T) {
	t.Parallel()
	b := newKeyBench(t)
	all := []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}
	again := func() Key {
		return b.take(t, "premium", "k", ImportKeyParams{Type: "oct-HSM", Private: PrivateKey{K: octKey}, Operations: all})
	}
	first := again()
	second := again()
	for _, operation := range all {
		for version, want := range map[string]string{
			"": second.Version, first.Version: first.Version, strings.ToUpper(second.Version): second.Version,
		} {
			if used, err := b.use(t, "premium", version, operation); err != nil || used.Version != want {
				t.Errorf("%s with %q used %q, want %q; %v", operation, version, used.Version, want, err)
			}
		}
		for _, version := range []string{"x", record.NewID()} {
			_, err := b.use(t, "premium", version, operation)
			wantKind(t, err, NotFound)
		}
	}
}

// TestUseSeesChanges: an opened key stays in memory, and its use nevertheless depends on what is stored now.
func TestUseSeesChanges(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	digest := make([]byte, 32)
	sign := func() ([]byte, Used, error) { return b.Sign(ctx, admin, "vault", "k", "", "ES256", digest) }
	first := b.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
	signature, _, err := sign()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.UpdateKey(ctx, admin, "vault", "k", "", UpdateKeyParams{Attributes: Attributes{Enabled: new(bool)}}); err != nil {
		t.Fatal(err)
	}
	_, _, err = sign()
	wantKind(t, err, Disabled)
	if _, err := b.DeleteKey(ctx, admin, "vault", "k"); err != nil {
		t.Fatal(err)
	}
	_, _, err = sign()
	wantKind(t, err, NotFound)
	if err := b.PurgeKey(ctx, admin, "vault", "k"); err != nil {
		t.Fatal(err)
	}
	second := b.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
	if _, used, err := sign(); err != nil || used.Version != second.Version {
		t.Errorf("signed with %q, %v", used.Version, err)
	}
	if ok, _, err := b.Verify(ctx, admin, "vault", "k", "", "ES256", digest, signature); ok || err != nil {
		t.Errorf("a purged key's signature verifies: %v, %v", ok, err)
	}
	_, _, err = b.Verify(ctx, admin, "vault", "k", first.Version, "ES256", digest, signature)
	wantKind(t, err, NotFound)
	// Rights too.
	changeVault(t, b, "administrators", nil)
	_, _, err = sign()
	wantKind(t, err, AccessDenied)
}

// TestSignaturesOutside verifies with the public key alone what the vault signs, and signs outside what it verifies.
func TestSignaturesOutside(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	k := b.take(t, "premium", "r", ImportKeyParams{Type: "RSA", Private: rsaMembers(rsaKey())})
	hashes := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}
	digest := func(h crypto.Hash) []byte { d := h.New(); d.Write([]byte("m")); return d.Sum(nil) }
	check := func(name, alg string, digest, theirs []byte, verify func(signature []byte) bool) {
		t.Helper()
		signature, _, err := b.Sign(ctx, admin, "premium", name, "", alg, digest)
		if err != nil || !verify(signature) {
			t.Errorf("%s: the signature is wrong: %v", alg, err)
		}
		for _, s := range [][]byte{signature, theirs} {
			if ok, _, err := b.Verify(ctx, admin, "premium", name, "", alg, digest, s); !ok || err != nil {
				t.Errorf("%s does not verify: %v, %v", alg, ok, err)
			}
		}
		for _, wrong := range [][]byte{nil, {0}, signature[1:], append(bytes.Clone(signature), 0), make([]byte, len(signature)), make([]byte, 1<<16)} {
			if ok, _, err := b.Verify(ctx, admin, "premium", name, "", alg, digest, wrong); ok || err != nil {
				t.Errorf("%s: %d wrong bytes: %v, %v", alg, len(wrong), ok, err)
			}
		}
		_, _, err = b.Sign(ctx, admin, "premium", name, "", alg, nil)
		wantKind(t, err, BadParameter)
		if alg[:2] != "HS" {
			_, _, err = b.Sign(ctx, admin, "premium", name, "", alg, digest[1:])
			wantKind(t, err, BadParameter)
			_, _, err = b.Verify(ctx, admin, "premium", name, "", alg, append(digest, 0), signature)
			wantKind(t, err, BadParameter)
		}
	}
	for size, h := range hashes {
		d := digest(h)
		theirs, err := rsa.SignPKCS1v15(rand.Reader, rsaKey(), h, d)
		if err != nil {
			t.Fatal(err)
		}
		check("r", "RS"+size, d, theirs, func(s []byte) bool { return rsa.VerifyPKCS1v15(publicRSA(k), h, d, s) == nil })
		opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash}
		if theirs, err = rsa.SignPSS(rand.Reader, rsaKey(), h, d, opts); err != nil {
			t.Fatal(err)
		}
		check("r", "PS"+size, d, theirs, func(s []byte) bool { return rsa.VerifyPSS(publicRSA(k), h, d, s, opts) == nil })
	}
	for alg, c := range map[string]struct {
		curve elliptic.Curve
		hash  crypto.Hash
	}{
		"ES256": {elliptic.P256(), crypto.SHA256}, "ES384": {elliptic.P384(), crypto.SHA384}, "ES512": {elliptic.P521(), crypto.SHA512},
	} {
		private := makeEC(t, c.curve)
		b.take(t, "premium", "e", ImportKeyParams{Type: "EC", Curve: c.curve.Params().Name, Private: ecMembers(t, private)})
		d := digest(c.hash)
		r, s, err := ecdsa.Sign(rand.Reader, private, d)
		if err != nil {
			t.Fatal(err)
		}
		half := (c.curve.Params().BitSize + 7) / 8
		theirs := append(r.FillBytes(make([]byte, half)), s.FillBytes(make([]byte, half))...)
		check("e", alg, d, theirs, func(raw []byte) bool {
			r, s := new(big.Int).SetBytes(raw[:half]), new(big.Int).SetBytes(raw[half:])
			return len(raw) == 2*half && ecdsa.Verify(&private.PublicKey, d, r, s)
		})
	}
	secret := make([]byte, 64)
	rand.Read(secret)
	b.take(t, "premium", "o", ImportKeyParams{Type: "oct-HSM", Private: PrivateKey{K: secret}, Operations: []string{"sign", "verify"}})
	for size, h := range hashes {
		d := digest(h)
		mac := hmac.New(h.New, secret)
		mac.Write(d)
		check("o", "HS"+size, d, mac.Sum(nil), func(s []byte) bool { return hmac.Equal(s, mac.Sum(nil)) })
	}
}

// TestEncryptionOutside decrypts with the key itself what the vault encrypts, and the other way round.
func TestEncryptionOutside(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	k := b.take(t, "premium", "r", ImportKeyParams{Type: "RSA-HSM", Private: rsaMembers(rsaKey())})
	text := []byte("sixteen bytes or a multiple of it")[:32]
	for alg, c := range map[string]struct {
		open func([]byte) ([]byte, error)
		seal func([]byte) ([]byte, error)
	}{
		"RSA-OAEP": {
			func(v []byte) ([]byte, error) { return rsa.DecryptOAEP(sha1.New(), nil, rsaKey(), v, nil) },
			func(v []byte) ([]byte, error) { return rsa.EncryptOAEP(sha1.New(), rand.Reader, publicRSA(k), v, nil) },
		},
		"RSA-OAEP-256": {
			func(v []byte) ([]byte, error) { return rsa.DecryptOAEP(sha256.New(), nil, rsaKey(), v, nil) },
			func(v []byte) ([]byte, error) {
				return rsa.EncryptOAEP(sha256.New(), rand.Reader, publicRSA(k), v, nil)
			},
		},
	} {
		for _, pair := range b.pairs() {
			sealed, _, err := pair.do(ctx, admin, "premium", "r", "", alg, Message{Value: text})
			if err != nil {
				t.Fatal(err)
			}
			if opened, err := c.open(sealed.Value); err != nil || !bytes.Equal(opened, text) {
				t.Errorf("%s: %q, %v", alg, opened, err)
			}
			theirs, err := c.seal(text)
			if err != nil {
				t.Fatal(err)
			}
			if opened, _, err := pair.undo(ctx, admin, "premium", "r", "", alg, Message{Value: theirs}); err != nil || !bytes.Equal(opened, text) {
				t.Errorf("%s: %q, %v", alg, opened, err)
			}
			theirs[9] ^= 1
			_, _, err = pair.undo(ctx, admin, "premium", "r", "", alg, Message{Value: theirs})
			wantKind(t, err, BadParameter)
		}
	}
	for _, bits := range []int{128, 192, 256} {
		key := make([]byte, bits/8)
		rand.Read(key)
		b.take(t, "premium", "o", ImportKeyParams{Type: "oct-HSM", Private: PrivateKey{K: key}})
		sealed, _, err := b.Encrypt(ctx, admin, "premium", "o", "", fmt.Sprintf("A%dGCM", bits), Message{Value: text, AAD: text[:5]})
		if err != nil {
			t.Fatal(err)
		}
		if opened := openGCM(t, key, sealed); !bytes.Equal(opened, text) {
			t.Errorf("A%dGCM: %q", bits, opened)
		}
		for part, garble := range map[string]func(*Message){
			"value": func(m *Message) { m.Value[0] ^= 1 }, "tag": func(m *Message) { m.Tag[0] ^= 1 }, "short tag": func(m *Message) { m.Tag = m.Tag[:12] },
			"iv": func(m *Message) { m.IV[0] ^= 1 }, "aad": func(m *Message) { m.AAD = nil }, "no iv": func(m *Message) { m.IV = nil },
		} {
			m := Message{Value: bytes.Clone(sealed.Value), Tag: bytes.Clone(sealed.Tag), IV: bytes.Clone(sealed.IV), AAD: text[:5]}
			if opened, _, err := b.Decrypt(ctx, admin, "premium", "o", "", fmt.Sprintf("A%dGCM", bits), m); err != nil || !bytes.Equal(opened, text) {
				t.Errorf("A%dGCM: %q, %v", bits, opened, err)
			}
			garble(&m)
			_, _, err := b.Decrypt(ctx, admin, "premium", "o", "", fmt.Sprintf("A%dGCM", bits), m)
			if wantKind(t, err, BadParameter); err == nil {
				t.Errorf("%s", part)
			}
		}
		for _, alg := range []string{"A%dKW", "A%dKWPAD"} {
			alg = fmt.Sprintf(alg, bits)
			wrapped, _, err := b.Wrap(ctx, admin, "premium", "o", "", alg, Message{Value: text})
			if err != nil {
				t.Fatal(err)
			}
			if opened, _, err := b.Unwrap(ctx, admin, "premium", "o", "", alg, wrapped); err != nil || !bytes.Equal(opened, text) {
				t.Errorf("%s: %q, %v", alg, opened, err)
			}
			_, _, err = b.Encrypt(ctx, admin, "premium", "o", "", alg, Message{Value: text})
			wantKind(t, err, BadParameter)
		}
	}
}

// TestAlgorithmsFit tries every algorithm with every kind of key for every use: it fits or is refused as the request's
// fault, and what fits nothing is refused everywhere.
func TestAlgorithmsFit(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	b.take(t, "premium", "RSA", ImportKeyParams{Type: "RSA", Private: rsaMembers(rsaKey())})
	for _, curve := range []string{"P-256", "P-256K", "P-384", "P-521"} {
		b.create(t, "premium", curve, CreateKeyParams{Type: "EC", Curve: curve})
	}
	for _, bits := range []int64{128, 192, 256} {
		b.create(t, "premium", fmt.Sprint("oct", bits), CreateKeyParams{Type: "oct-HSM", Bits: bits, Operations: []string{
			"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}})
	}
	rsaOnly := []string{"RSA"}
	fits := map[string][]string{ // contract §4
		"RSA1_5": rsaOnly, "RSA-OAEP": rsaOnly, "RSA-OAEP-256": rsaOnly,
		"RS256": rsaOnly, "RS384": rsaOnly, "RS512": rsaOnly, "PS256": rsaOnly, "PS384": rsaOnly, "PS512": rsaOnly, "RSNULL": rsaOnly,
		"ES256": {"P-256"}, "ES256K": {"P-256K"}, "ES384": {"P-384"}, "ES512": {"P-521"},
		"A128GCM": {"oct128"}, "A192GCM": {"oct192"}, "A256GCM": {"oct256"},
		"A128CBC": {"oct128"}, "A192CBC": {"oct192"}, "A256CBC": {"oct256"},
		"A128CBCPAD": {"oct128"}, "A192CBCPAD": {"oct192"}, "A256CBCPAD": {"oct256"},
		"A128KW": {"oct128"}, "A192KW": {"oct192"}, "A256KW": {"oct256"},
		"A128KWPAD": {"oct128"}, "A192KWPAD": {"oct192"}, "A256KWPAD": {"oct256"},
		"CKM_AES_KEY_WRAP": {"oct128", "oct192", "oct256"}, "CKM_AES_KEY_WRAP_PAD": {"oct128", "oct192", "oct256"},
		"HS256": {"oct256"}, "HS384": nil, "HS512": nil,
		"": nil, "none": nil, "es256": nil, "RSA-OAEP-512": nil, strings.Repeat("x", 10_000): nil,
	}
	digests := map[string]int{"256": 32, "384": 48, "512": 64, "56K": 32, "ULL": 32}
	names := []string{"RSA", "P-256", "P-256K", "P-384", "P-521", "oct128", "oct192", "oct256"}
	for _, alg := range slices.Sorted(maps.Keys(fits)) {
		for _, name := range names {
			digest := make([]byte, 32)
			if n := digests[alg[max(0, len(alg)-3):]]; n != 0 {
				digest = make([]byte, n)
			}
			m := Message{Value: make([]byte, 32)}
			if strings.Contains(alg, "CBC") {
				m.IV = make([]byte, 16)
			}
			attempts := map[string]error{}
			_, _, attempts["sign"] = b.Sign(ctx, admin, "premium", name, "", alg, digest)
			_, _, attempts["verify"] = b.Verify(ctx, admin, "premium", name, "", alg, digest, digest)
			_, _, attempts["encrypt"] = b.Encrypt(ctx, admin, "premium", name, "", alg, m)
			_, _, attempts["wrap"] = b.Wrap(ctx, admin, "premium", name, "", alg, m)
			done := 0
			for what, err := range attempts {
				var refused *Error
				switch {
				case err == nil:
					done++
				case !errors.As(err, &refused) || refused.Kind != BadParameter && refused.Kind != OperationForbidden || len(err.Error()) > 500:
					t.Errorf("%s with %.20q and %s: %v", what, alg, name, err)
				}
			}
			if should := slices.Contains(fits[alg], name); should != (done > 0) {
				t.Errorf("%.20q with %s: %v", alg, name, attempts)
			}
		}
	}
}

// TestLongMessages: a message longer than any key takes is refused.
func TestLongMessages(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	b.take(t, "premium", "r", ImportKeyParams{Type: "RSA", Private: rsaMembers(rsaKey())})
	b.create(t, "premium", "o", CreateKeyParams{Type: "oct-HSM"})
	for _, c := range []struct {
		name, alg string
		m         Message
	}{
		{"r", "RSA-OAEP-256", Message{Value: make([]byte, 256-2*sha256.Size-1)}},
		{"r", "RSA-OAEP", Message{Value: make([]byte, 256-2*sha1.Size-1)}},
		{"r", "RSA1_5", Message{Value: make([]byte, 256-10)}},
		{"o", "A256GCM", Message{Value: make([]byte, 1<<20)}},
		{"o", "A256GCM", Message{AAD: make([]byte, 1<<20)}},
		{"o", "A256CBC", Message{Value: make([]byte, 17), IV: make([]byte, 16)}},
		{"o", "A256CBC", Message{Value: make([]byte, 16), IV: make([]byte, 12)}},
		{"o", "A256CBCPAD", Message{Value: make([]byte, 16)}},
	} {
		_, _, err := b.Encrypt(ctx, admin, "premium", c.name, "", c.alg, c.m)
		wantKind(t, err, BadParameter)
		_, _, err = b.Decrypt(ctx, admin, "premium", c.name, "", c.alg, c.m)
		wantKind(t, err, BadParameter)
	}
	_, _, err := b.Sign(ctx, admin, "premium", "r", "", "RS512", make([]byte, sha512.Size+1))
	wantKind(t, err, BadParameter)
}

// A pair encrypts and decrypts, or wraps and unwraps.
type pair struct {
	do   func(ctx context.Context, caller *identity.Caller, vault, name, version, alg string, m Message) (Message, Used, error)
	undo func(ctx context.Context, caller *identity.Caller, vault, name, version, alg string, m Message) ([]byte, Used, error)
}

func (b *bench) pairs() []pair { return []pair{{b.Encrypt, b.Decrypt}, {b.Wrap, b.Unwrap}} }
