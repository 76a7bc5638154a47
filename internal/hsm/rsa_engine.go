package hsm

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
)

// An rsaEngine does the private-key operations of RSA. Go's standard library is always there; a build may have others,
// because RSA is where libraries differ most in speed. An engine and its keys may be used concurrently.
type rsaEngine interface {
	name() string

	// open prepares a key, which has been checked and has its precomputed values. The prepared key needs no closing: an
	// engine with memory of its own frees it when the collector finds the key gone.
	open(key *rsa.PrivateKey) (rsaKey, error)
}

// An rsaKey is a key that an engine has prepared. Lengths have been checked by the caller: a digest is as long as its hash,
// or at most the modulus less 11 bytes if there is no hash; a ciphertext is as long as the modulus.
//
// A signature is verified with the public key before it is returned, by the engine itself: a single wrong one made with the
// Chinese remainder theorem, after a fault in the processor or its memory, gives the factors of the modulus away.
//
// The decryptions return rsa.ErrDecryption, and nothing else, for whatever the ciphertext can cause.
type rsaKey interface {
	signPKCS1v15(hash crypto.Hash, digest []byte) ([]byte, error) // hash 0: the bytes as they are, without DigestInfo
	signPSS(hash crypto.Hash, digest []byte) ([]byte, error)      // MGF1 with the same hash, salt as long as the hash
	decryptOAEP(hash crypto.Hash, ciphertext []byte) ([]byte, error)
	decryptPKCS1v15(ciphertext []byte) ([]byte, error)
}

// An rsaOp is one of rsaKey's methods, for a choice by operation.
type rsaOp int

const (
	rsaSignPKCS1v15 rsaOp = iota
	rsaSignPSS
	rsaDecryptOAEP
	rsaDecryptPKCS1v15
	rsaOps // how many there are
)

// engines are those that this build has, Go's first.
func engines() []rsaEngine { return append([]rsaEngine{goRSA{}}, moreEngines()...) }

// An rsaChoice says which engine does op with keys of a size.
type rsaChoice func(bits int, op rsaOp) rsaEngine

// goRSA is the standard library. It compares each signature with the message before it returns it.
type goRSA struct{}

var _ rsaEngine = goRSA{}

func (goRSA) name() string { return "go" }

func (goRSA) open(key *rsa.PrivateKey) (rsaKey, error) {
	if err := key.Validate(); err != nil {
		return nil, err
	}
	return goRSAKey{key}, nil
}

type goRSAKey struct{ key *rsa.PrivateKey }

func (k goRSAKey) signPKCS1v15(hash crypto.Hash, digest []byte) ([]byte, error) {
	return rsa.SignPKCS1v15(nil, k.key, hash, digest)
}

func (k goRSAKey) signPSS(hash crypto.Hash, digest []byte) ([]byte, error) {
	return rsa.SignPSS(rand.Reader, k.key, hash, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
}

func (k goRSAKey) decryptOAEP(hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	return rsa.DecryptOAEP(hash.New(), nil, k.key, ciphertext, nil)
}

func (k goRSAKey) decryptPKCS1v15(ciphertext []byte) ([]byte, error) {
	return rsa.DecryptPKCS1v15(nil, k.key, ciphertext) //lint:ignore SA1019 the wire has RSA1_5; see decryptPKCS1v15
}
