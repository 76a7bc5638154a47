//go:build openssl && cgo

// Package openssl does the private-key operations of RSA with OpenSSL's libcrypto, version 3.0 or newer, to which a program
// is linked dynamically. It is there for speed only (docs/design/008-rsa-by-openssl.md), and so has nothing in which Go's own
// library is as good: no making of keys, no public-key operations, and no decryption with PKCS#1 v1.5, where newer versions
// of OpenSSL answer a wrong ciphertext with a made-up plaintext.
//
// All of the C of this module is here. No pointer leaves the package, and memory that C code allocates is freed when the
// collector finds its owner gone.
package openssl

// #cgo LDFLAGS: -lcrypto
// #include <openssl/err.h>
// #include <openssl/rsa.h>
// #include "rsa.h"
import "C"

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"runtime"
	"unsafe"
)

// A Library is a library context of OpenSSL with its default provider. It does not read OpenSSL's configuration, so nothing
// on the machine can put another provider or engine under its keys; nor is it, then, a FIPS module.
type Library struct {
	ctx *C.OSSL_LIB_CTX

	// turns is full when every processor computes for us. Go starts another thread for whatever waits while a call into C
	// lasts, so without it there would soon be as many threads as callers.
	turns chan struct{}
}

// Open makes a library context, which lives as long as the process.
func Open() (*Library, error) {
	var ctx *C.OSSL_LIB_CTX
	var code C.ulong
	if C.sr_library_new(&ctx, &code) != C.SR_DONE {
		return nil, failed("cannot be initialised", code)
	}
	return &Library{ctx, make(chan struct{}, runtime.GOMAXPROCS(0))}, nil
}

// turn waits for one of as many turns as there are processors, as a goroutine waits for a processor to compute in Go.
func (l *Library) turn() (done func()) {
	l.turns <- struct{}{}
	return func() { <-l.turns }
}

// Version is that of the library which the process has loaded.
func (l *Library) Version() string { return C.GoString(C.OpenSSL_version(C.OPENSSL_VERSION_STRING)) }

// An RSA is a private key in OpenSSL's memory. Its methods may be called concurrently.
//
// OpenSSL compares what it computes with the Chinese remainder theorem with the message, and computes it without the theorem
// should they differ; and it blinds its input. The private numbers are overwritten when the key is freed.
type RSA struct {
	library *Library
	key     *C.EVP_PKEY
	size    int // of the modulus, in bytes
}

// NewRSA copies a key of two primes that has been checked and has its precomputed values.
func (l *Library) NewRSA(key *rsa.PrivateKey) (*RSA, error) {
	size := key.Size()
	numbers, err := flatten(key, size)
	if err != nil {
		return nil, err
	}
	defer clear(numbers)
	var made *C.EVP_PKEY
	var code C.ulong
	if C.sr_rsa_new(l.ctx, bytes(numbers), C.size_t(size), &made, &code) != C.SR_DONE {
		return nil, failed("does not take the RSA key", code)
	}
	k := &RSA{library: l, key: made, size: size}
	runtime.AddCleanup(k, func(key *C.EVP_PKEY) { C.EVP_PKEY_free(key) }, made)
	return k, nil
}

// flatten lays the numbers of a key out as sr_rsa_new reads them. The caller overwrites them.
func flatten(key *rsa.PrivateKey, size int) ([]byte, error) {
	if len(key.Primes) != 2 {
		return nil, errors.New("openssl: an RSA key has two primes here")
	}
	numbers := make([]byte, C.SR_RSA_NUMBERS*size)
	for i, n := range [...]*big.Int{
		C.SR_RSA_N:    key.N,
		C.SR_RSA_E:    big.NewInt(int64(key.E)),
		C.SR_RSA_D:    key.D,
		C.SR_RSA_P:    key.Primes[0],
		C.SR_RSA_Q:    key.Primes[1],
		C.SR_RSA_DP:   key.Precomputed.Dp,
		C.SR_RSA_DQ:   key.Precomputed.Dq,
		C.SR_RSA_QINV: key.Precomputed.Qinv,
	} {
		if n == nil || n.Sign() <= 0 || n.BitLen() > 8*size {
			clear(numbers)
			return nil, errors.New("openssl: an RSA key has a number that is missing or out of range")
		}
		n.FillBytes(numbers[i*size : (i+1)*size])
	}
	return numbers, nil
}

// SignPKCS1v15 signs a digest of hash, or, if hash is 0, the bytes as they are.
func (k *RSA) SignPKCS1v15(hash crypto.Hash, digest []byte) ([]byte, error) {
	if hash == 0 {
		return k.sign(C.RSA_PKCS1_PADDING, nil, digest)
	}
	md, err := messageDigest(hash)
	if err != nil {
		return nil, err
	}
	return k.sign(C.RSA_PKCS1_PADDING, md, digest)
}

// SignPSS signs a digest of hash, with the same hash in MGF1 and a salt as long as it.
func (k *RSA) SignPSS(hash crypto.Hash, digest []byte) ([]byte, error) {
	md, err := messageDigest(hash)
	if err != nil {
		return nil, err
	}
	return k.sign(C.RSA_PKCS1_PSS_PADDING, md, digest)
}

func (k *RSA) sign(padding C.int, md *C.EVP_MD, digest []byte) ([]byte, error) {
	defer runtime.KeepAlive(k)
	defer k.library.turn()()
	signature := make([]byte, k.size)
	n := C.size_t(k.size)
	var code C.ulong
	if C.sr_rsa_sign(k.library.ctx, k.key, padding, md, bytes(digest), C.size_t(len(digest)), bytes(signature), &n, &code) != C.SR_DONE {
		return nil, failed("does not sign", code)
	}
	return signature[:n], nil
}

// DecryptOAEP decrypts with hash in OAEP and in MGF1 and without a label. Whatever the ciphertext can cause is the one error
// rsa.ErrDecryption.
func (k *RSA) DecryptOAEP(hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	md, err := messageDigest(hash)
	if err != nil {
		return nil, err
	}
	defer runtime.KeepAlive(k)
	defer k.library.turn()()
	plaintext := make([]byte, k.size)
	n := C.size_t(k.size)
	var code C.ulong
	switch C.sr_rsa_decrypt_oaep(k.library.ctx, k.key, md, bytes(ciphertext), C.size_t(len(ciphertext)), bytes(plaintext), &n, &code) {
	case C.SR_DONE:
		return plaintext[:n], nil
	case C.SR_UNDECRYPTABLE:
		clear(plaintext)
		return nil, rsa.ErrDecryption
	default:
		return nil, failed("does not decrypt", code)
	}
}

// messageDigest is OpenSSL's name of a hash.
func messageDigest(hash crypto.Hash) (*C.EVP_MD, error) {
	switch hash {
	case crypto.SHA1:
		return C.EVP_sha1(), nil
	case crypto.SHA256:
		return C.EVP_sha256(), nil
	case crypto.SHA384:
		return C.EVP_sha384(), nil
	case crypto.SHA512:
		return C.EVP_sha512(), nil
	}
	return nil, fmt.Errorf("openssl: hash %v is not used with RSA here", hash)
}

// bytes is what C reads and writes of b, during one call.
func bytes(b []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(unsafe.SliceData(b))) }

// failed is an error of OpenSSL's with its code, which names the place and the reason and nothing of what was computed.
func failed(what string, code C.ulong) error {
	var text [256]C.char
	C.ERR_error_string_n(code, &text[0], C.size_t(len(text)))
	return fmt.Errorf("openssl: %s: %s", what, C.GoString(&text[0]))
}
