package keywrap_test

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"errors"
	"math/big"
	"sync"
	"testing"

	tink "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/strongroom/strongroom/internal/keywrap"
)

// recipient is one RSA key for all tests, because making it takes long.
var recipient = sync.OnceValue(func() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
})

func decryptWith(key *rsa.PrivateKey, hash crypto.Hash) func([]byte) ([]byte, error) {
	return func(ciphertext []byte) ([]byte, error) {
		return rsa.DecryptOAEP(hash.New(), nil, key, ciphertext, nil)
	}
}

func TestRSAAES(t *testing.T) {
	t.Parallel()
	key := recipient()
	for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		for _, n := range []int{1, 16, 32, 138, 1217, 2375} {
			target := random(n)
			wrapped, err := keywrap.WrapRSAAES(&key.PublicKey, hash, target)
			if err != nil {
				t.Fatal(err)
			}
			got, err := keywrap.UnwrapRSAAES(decryptWith(key, hash), key.Size(), wrapped)
			if err != nil || !bytes.Equal(got, target) {
				t.Errorf("%v: %d bytes came back as %d, %v", hash, n, len(got), err)
			}
		}
	}
}

// The parts, made and taken apart by other libraries.
func TestRSAAESAgainstOthers(t *testing.T) {
	t.Parallel()
	key, target := recipient(), random(1217)
	for _, n := range []int{16, 32} {
		aesKey := random(n)
		encrypted, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &key.PublicKey, aesKey, nil)
		if err != nil {
			t.Fatal(err)
		}
		kwp, err := tink.NewKWP(aesKey)
		if err != nil {
			t.Fatal(err)
		}
		wrapped, err := kwp.Wrap(target)
		if err != nil {
			t.Fatal(err)
		}
		got, err := keywrap.UnwrapRSAAES(decryptWith(key, crypto.SHA1), key.Size(), append(encrypted, wrapped...))
		if err != nil || !bytes.Equal(got, target) {
			t.Errorf("a key wrapped with AES-%d: %d bytes, %v", n*8, len(got), err)
		}
	}

	ours, err := keywrap.WrapRSAAES(&key.PublicKey, crypto.SHA1, target)
	if err != nil {
		t.Fatal(err)
	}
	aesKey, err := rsa.DecryptOAEP(sha1.New(), nil, key, ours[:key.Size()], nil)
	if err != nil || len(aesKey) != 32 {
		t.Fatalf("an AES key of %d bytes, %v", len(aesKey), err)
	}
	kwp, err := tink.NewKWP(aesKey)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := kwp.Unwrap(ours[key.Size():]); err != nil || !bytes.Equal(got, target) {
		t.Errorf("tink unwraps to %d bytes, %v", len(got), err)
	}
	again, err := keywrap.WrapRSAAES(&key.PublicKey, crypto.SHA1, target)
	if err != nil || bytes.Equal(again[key.Size():], ours[key.Size():]) {
		t.Errorf("the same AES key twice (%v)", err)
	}
}

func TestUnwrapRSAAESRefuses(t *testing.T) {
	t.Parallel()
	key := recipient()
	decrypt, size := decryptWith(key, crypto.SHA256), key.Size()
	wrapped, err := keywrap.WrapRSAAES(&key.PublicKey, crypto.SHA256, random(32))
	if err != nil {
		t.Fatal(err)
	}
	changed := bytes.Clone(wrapped)
	changed[len(changed)-1] ^= 1
	if _, err := keywrap.UnwrapRSAAES(decrypt, size, changed); !errors.Is(err, keywrap.ErrIntegrity) {
		t.Errorf("a changed last byte: %v", err)
	}
	changed = bytes.Clone(wrapped)
	changed[size-1] ^= 1
	if _, err := keywrap.UnwrapRSAAES(decrypt, size, changed); !errors.Is(err, rsa.ErrDecryption) {
		t.Errorf("a changed RSA part: %v", err)
	}
	if _, err := keywrap.UnwrapRSAAES(decryptWith(key, crypto.SHA1), size, wrapped); !errors.Is(err, rsa.ErrDecryption) {
		t.Errorf("another hash: %v", err)
	}
	for _, n := range []int{0, size, size + 8, len(wrapped) - 1, len(wrapped) + 1, size + keywrap.MaxLen + 16} {
		input := append(bytes.Clone(wrapped), make([]byte, keywrap.MaxLen)...)[:n]
		if _, err := keywrap.UnwrapRSAAES(decrypt, size, input); !errors.Is(err, keywrap.ErrLength) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := keywrap.UnwrapRSAAES(decrypt, 0, wrapped); err == nil {
		t.Error("a modulus without length")
	}

	// Something that is no AES key under the RSA key: its owner must not get the rest unwrapped with it.
	encrypted, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, &key.PublicKey, random(20), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keywrap.UnwrapRSAAES(decrypt, size, append(encrypted, wrapped[size:]...)); !errors.Is(err, keywrap.ErrIntegrity) {
		t.Errorf("an AES key of 20 bytes: %v", err)
	}
}

func TestWrapRSAAESRefuses(t *testing.T) {
	t.Parallel()
	key := recipient()
	if _, err := keywrap.WrapRSAAES(&key.PublicKey, crypto.MD5, random(32)); err == nil {
		t.Error("wrapped with MD5")
	}
	for name, recipient := range map[string]*rsa.PublicKey{
		"nobody":       nil,
		"no key":       {},
		"2047 bits":    {N: new(big.Int).Rsh(key.N, 1), E: key.E},
		"4097 bits":    {N: new(big.Int).SetBit(key.N, 4096, 1), E: key.E},
		"an even N":    {N: new(big.Int).SetBit(key.N, 0, 0), E: key.E},
		"an even E":    {N: key.N, E: 65536},
		"the E one":    {N: key.N, E: 1},
		"a negative E": {N: key.N, E: -3},
		"a large E":    {N: key.N, E: 1<<31 + 1},
		"a negative N": {N: new(big.Int).Neg(key.N), E: key.E},
	} {
		if _, err := keywrap.WrapRSAAES(recipient, crypto.SHA256, random(32)); !errors.Is(err, keywrap.ErrRecipient) {
			t.Errorf("wrapped for %s: %v", name, err)
		}
	}
	for _, n := range []int{0, keywrap.MaxLen + 1} {
		if _, err := keywrap.WrapRSAAES(&key.PublicKey, crypto.SHA256, make([]byte, n)); !errors.Is(err, keywrap.ErrLength) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// FuzzUnwrapRSAAES starts behind RSA: whatever AES key comes out of it, and whatever follows, is opened or refused.
func FuzzUnwrapRSAAES(f *testing.F) {
	kek := []byte("0123456789abcdef0123456789abcdef")
	block, err := aes.NewCipher(kek)
	if err != nil {
		f.Fatal(err)
	}
	wrapped, err := keywrap.WrapPadded(block, []byte("a key"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(kek, wrapped)
	f.Add(kek[:24], wrapped)
	f.Add(kek[:5], wrapped)
	f.Add(kek, wrapped[:8])
	f.Fuzz(func(t *testing.T, kek, wrapped []byte) {
		decrypt := func([]byte) ([]byte, error) { return bytes.Clone(kek), nil }
		got, err := keywrap.UnwrapRSAAES(decrypt, 256, append(make([]byte, 256), wrapped...))
		if err != nil {
			if !errors.Is(err, keywrap.ErrIntegrity) && !errors.Is(err, keywrap.ErrLength) {
				t.Fatal(err)
			}
			return
		}
		block, err := aes.NewCipher(kek)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := keywrap.WrapPadded(block, got); err != nil || !bytes.Equal(again, wrapped) {
			t.Fatalf("%x came of %x, which it does not wrap to (%v)", got, wrapped, err)
		}
	})
}
