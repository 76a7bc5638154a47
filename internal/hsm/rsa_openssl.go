//go:build openssl

package hsm

import (
	"crypto"
	"crypto/rsa"
	"sync"

	"github.com/strongroom/strongroom/internal/hsm/openssl"
)

// opensslRSA is OpenSSL's libcrypto, which is several times faster than Go's library on some processors. Decryption with
// PKCS#1 v1.5 stays with Go's: whether OpenSSL answers a wrong ciphertext with an error or with a made-up plaintext depends
// on its version.
type opensslRSA struct{}

var _ rsaEngine = opensslRSA{}

// openLibrary makes the one library context that all keys share.
var openLibrary = sync.OnceValues(openssl.Open)

// name has the version in it, for whoever reads of a hole in OpenSSL.
func (opensslRSA) name() string {
	library, err := openLibrary()
	if err != nil {
		return "openssl"
	}
	return "openssl " + library.Version()
}

func (opensslRSA) open(key *rsa.PrivateKey) (rsaKey, error) {
	library, err := openLibrary()
	if err != nil {
		return nil, err
	}
	withGo, err := goRSA{}.open(key) // which validates it, too
	if err != nil {
		return nil, err
	}
	k, err := library.NewRSA(key)
	if err != nil {
		return nil, err
	}
	return opensslRSAKey{k, withGo}, nil
}

type opensslRSAKey struct {
	key    *openssl.RSA
	withGo rsaKey
}

func (k opensslRSAKey) signPKCS1v15(hash crypto.Hash, digest []byte) ([]byte, error) {
	return k.key.SignPKCS1v15(hash, digest)
}

func (k opensslRSAKey) signPSS(hash crypto.Hash, digest []byte) ([]byte, error) {
	return k.key.SignPSS(hash, digest)
}

func (k opensslRSAKey) decryptOAEP(hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	return k.key.DecryptOAEP(hash, ciphertext)
}

func (k opensslRSAKey) decryptPKCS1v15(ciphertext []byte) ([]byte, error) {
	return k.withGo.decryptPKCS1v15(ciphertext)
}
