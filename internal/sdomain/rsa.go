package sdomain

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
)

// Bounds on RSA keys, in bits.
const (
	minRSA = 2048
	maxRSA = 8192 // more costs whoever wraps for it much, and nobody has it

	maxShareJWE = 4 << 10 // with a key of maxRSA bits it has some 1600
)

// errOtherRSA is for a JWE whose key is encrypted to another RSA key.
var errOtherRSA = errors.New("was made for another key")

// sealRSA encrypts plaintext to a public key.
func sealRSA(kid string, to *rsa.PublicKey, plaintext []byte) (string, error) {
	cek := randomBytes(cekLen)
	defer clear(cek)
	key, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, to, cek, nil)
	if err != nil {
		return "", err
	}
	return sealJWE(header{Alg: algRSA, Enc: encContent, KID: kid}, key, cek, randomBytes(ivLen), plaintext)
}

// openRSA opens what sealRSA made. The error is errOtherRSA, errSealed, or what a device says.
func openRSA(text string, key crypto.Decrypter) ([]byte, error) {
	j, err := parseJWE(text, maxShareJWE)
	if err != nil {
		return nil, err
	}
	var hash crypto.Hash
	switch j.Alg {
	case algRSA:
		hash = crypto.SHA256
	case algRSASHA1:
		hash = crypto.SHA1
	default:
		return nil, fmt.Errorf("is a JWE with alg %.40q, and not %s", j.Alg, algRSA)
	}
	public, err := publicRSA(key.Public())
	if err != nil {
		return nil, err
	}
	if len(j.key) != public.Size() {
		return nil, errOtherRSA
	}
	cek, err := key.Decrypt(rand.Reader, j.key, &rsa.OAEPOptions{Hash: hash})
	if errors.Is(err, rsa.ErrDecryption) {
		return nil, errOtherRSA
	}
	if err != nil {
		return nil, err
	}
	defer clear(cek)
	return j.open(cek)
}

// publicRSA refuses keys that a security domain cannot be wrapped for.
func publicRSA(key crypto.PublicKey) (*rsa.PublicKey, error) {
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return nil, ErrNotRSA
	}
	switch bits := public.N.BitLen(); {
	case bits < minRSA:
		return nil, fmt.Errorf("%w: it has %d", ErrShortRSA, bits)
	case bits > maxRSA:
		return nil, fmt.Errorf("is an RSA key of %d bits, and at most %d can be used", bits, maxRSA)
	}
	return public, nil
}
