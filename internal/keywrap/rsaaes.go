package keywrap

import (
	"crypto"
	"crypto/aes"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // OAEP's hash in BYOK
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
)

// An RSA key that keys are wrapped for has from MinRSABits to MaxRSABits: with less, the wrapping would be the weakest part; the bound
// above keeps the work bounded.
const (
	MinRSABits = 2048
	MaxRSABits = 4096
)

// ErrRecipient says that keys are not wrapped for such a recipient; see IsRecipient.
var ErrRecipient = errors.New("keywrap: the recipient's key is none that keys are wrapped for")

const aesKeyLen = 32

// WrapRSAAES wraps target for the owner of an RSA key, as PKCS#11 defines CKM_RSA_AES_KEY_WRAP (PKCS #11 Mechanisms v2.40,
// 2.1.21): a fresh AES-256 key, encrypted with OAEP, then target, wrapped with the AES key (RFC 5649). OAEP and its MGF1
// use hash, which is SHA-1, SHA-256, SHA-384 or SHA-512, and the empty label. An asymmetric target is PKCS#8, any other is
// its bytes.
func WrapRSAAES(recipient *rsa.PublicKey, hash crypto.Hash, target []byte) ([]byte, error) {
	if !hashAllowed(hash) {
		return nil, fmt.Errorf("keywrap: wrapping with OAEP does not use %v", hash)
	}
	if !IsRecipient(recipient) {
		return nil, ErrRecipient
	}
	key := make([]byte, aesKeyLen)
	defer clear(key)
	rand.Read(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	wrapped, err := WrapPadded(block, target)
	if err != nil {
		return nil, err
	}
	encrypted, err := rsa.EncryptOAEP(hash.New(), rand.Reader, recipient, key, nil)
	if err != nil {
		return nil, fmt.Errorf("keywrap: %w", err)
	}
	return append(encrypted, wrapped...), nil
}

// IsRecipient tells whether keys are wrapped for key, as far as anybody can tell who did not make it: it may be made up. Under
// GODEBUG=fips140=only, Go's module encrypts for fewer.
func IsRecipient(key *rsa.PublicKey) bool {
	if key == nil || key.N == nil || key.N.Sign() <= 0 {
		return false
	}
	bits := key.N.BitLen()
	if fips140.Enforced() && (bits%2 == 1 || key.E <= 1<<16) {
		return false
	}
	return bits >= MinRSABits && bits <= MaxRSABits && key.N.Bit(0) == 1 && key.E >= 3 && key.E%2 == 1 && key.E <= 1<<31-1
}

// RecipientRule says for people what IsRecipient accepts: an RSA key of so many bits.
func RecipientRule() string {
	rule := fmt.Sprintf("an RSA key of %d to %d bits", MinRSABits, MaxRSABits)
	if fips140.Enforced() {
		rule += ", an even number, with a public exponent above 65536 (fips140=only)"
	}
	return rule
}

func hashAllowed(hash crypto.Hash) bool {
	switch hash {
	case crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512:
		return true
	default:
		return false
	}
}

// UnwrapRSAAES reverses WrapRSAAES: decryptOAEP decrypts with the RSA key, whose modulus has modulusLen bytes, and the hash
// that was used; its errors are passed on. The AES key may have any of the three sizes.
//
// It gives up at the first part that does not decrypt. The time that this takes tells whether it was the first, and so
// whether decryptOAEP succeeded, which OAEP is made to bear.
func UnwrapRSAAES(decryptOAEP func([]byte) ([]byte, error), modulusLen int, wrapped []byte) ([]byte, error) {
	if modulusLen <= 0 {
		return nil, errors.New("keywrap: the length of a modulus must be positive")
	}
	rest := len(wrapped) - modulusLen
	if rest < 2*semiblock || rest%semiblock != 0 || rest > semiblock+MaxLen {
		return nil, fmt.Errorf("%w: %d bytes; with an RSA key of %d bytes it must be a multiple of 8 more, from 16 to %d",
			ErrLength, len(wrapped), modulusLen, semiblock+MaxLen)
	}
	key, err := decryptOAEP(wrapped[:modulusLen])
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, ErrIntegrity // not as long as an AES key
	}
	return UnwrapPadded(block, wrapped[modulusLen:])
}
