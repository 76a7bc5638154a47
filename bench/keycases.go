package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"path/filepath"
	"slices"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secp256k1ecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// A keyCase is what is measured in turns.
type keyCase struct {
	*keyBench
	name   string // with RSA the key's, too
	uses   []keyUse
	limits []contender
}

// primitive adds what Go's library, or the one that the server has for it, does with a key by itself.
func (c *keyCase) primitive(name string, do func() error) *primitive {
	p := &primitive{name: name}
	c.primitives = append(c.primitives, p)
	c.limits = append(c.limits, alone(&p.native, do))
	return p
}

// openssl adds what OpenSSL's library does; verification may be nil. Without the program there is nothing to add.
func (c *keyCase) openssl(algorithm string, signature, verification *primitive) {
	if c.program == "" {
		return
	}
	s := &speed{program: c.program, algorithm: algorithm}
	c.limits = append(c.limits, contender{&signature.openssl, s.signatures})
	if verification != nil {
		c.limits = append(c.limits, contender{&verification.openssl, s.verifications})
	}
}

// use adds a use. The bare handler is measured with the first one that is given for it.
func (c *keyCase) use(u keyUse, alone *primitive, bare *figure) {
	u.alone, u.bare = alone, bare
	u.measure = bare != nil && bare.perSecond == 0 && !slices.ContainsFunc(c.uses, func(other keyUse) bool { return other.bare == bare })
	c.uses = append(c.uses, u)
}

// digestOf is a digest of the given length.
func digestOf(size int) []byte {
	sum := sha256.Sum256([]byte("what is signed"))
	return slices.Concat(sum[:], sum[:])[:size]
}

var errSignature = errors.New("the signature does not verify")

// rsaCases measures each size on all builds, beside Go's library and OpenSSL's.
func (b *benchmark) rsaCases(ctx context.Context) error {
	k, err := b.keys(ctx)
	if err != nil {
		return err
	}
	if err := b.tag(ctx, k); err != nil {
		return err
	}
	for _, bits := range rsaSizes() {
		c := &keyCase{keyBench: k, name: rsaKey(bits)}
		key, digest := k.rsa[bits], digestOf(sha256.Size)
		sign := c.rsaSigning(key, digest)
		var verify *primitive
		if bits == rsaSizes()[0] { // with longer keys they are slower, as signatures are
			if verify, err = c.rsaOthers(key, digest, sign); err != nil {
				return err
			}
		}
		c.openssl(fmt.Sprintf("rsa%d", bits), sign, verify)
		if err := b.compareKeys(ctx, c); err != nil {
			return err
		}
	}
	return nil
}

// rsaSigning adds both schemes. PSS adds next to nothing to the primitive.
func (c *keyCase) rsaSigning(key *rsa.PrivateKey, digest []byte) *primitive {
	sign := c.primitive(c.name+" signature", func() error {
		_, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest)
		return err
	})
	sign.shared = true
	c.use(using(c.name, "sign", "RS256", digest, checked(func(signature []byte) error {
		return rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest, signature)
	})), sign, &c.bareRSA)
	c.use(using(c.name, "sign", "PS256", digest, checked(func(signature []byte) error {
		return rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, digest, signature, nil)
	})), sign, &c.bareRSA)
	return sign
}

// rsaOthers adds what else such keys are used for. Unwrapping is the same computation as signing, and wrapping the same as
// verifying.
func (c *keyCase) rsaOthers(key *rsa.PrivateKey, digest []byte, sign *primitive) (*primitive, error) {
	signature, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest)
	if err != nil {
		return nil, err
	}
	wrapped, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, &key.PublicKey, c.oct, nil)
	if err != nil {
		return nil, err
	}
	verify := c.primitive(c.name+" verification", func() error {
		return rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest, signature)
	})
	c.use(verifying(c.name, "RS256", digest, signature), verify, &c.bareRSA)
	c.use(using(c.name, "wrapkey", "RSA-OAEP-256", c.oct, checked(func(wrapped []byte) error {
		unwrapped, err := rsa.DecryptOAEP(sha256.New(), nil, key, wrapped, nil)
		return errors.Join(err, equal(unwrapped, c.oct))
	})), verify, &c.bareRSA)
	c.use(using(c.name, "unwrapkey", "RSA-OAEP-256", wrapped, checked(func(unwrapped []byte) error {
		return equal(unwrapped, c.oct)
	})), sign, &c.bareRSA)
	return verify, nil
}

// ecCases measures signatures on all curves, and verification on one.
func (b *benchmark) ecCases(ctx context.Context) error {
	k, err := b.keys(ctx)
	if err != nil {
		return err
	}
	c := &keyCase{keyBench: k, name: "EC"}
	p256, digest := k.ec["P-256"], digestOf(32)
	signature, err := ecdsa.SignASN1(rand.Reader, p256, digest)
	if err != nil {
		return err
	}
	sign256 := c.ecSigning("ES256", p256, digest)
	verify256 := c.primitive("P-256 verification", func() error {
		if !ecdsa.VerifyASN1(&p256.PublicKey, digest, signature) {
			return errSignature
		}
		return nil
	})
	plain, err := plainSignature(signature, 32)
	if err != nil {
		return err
	}
	c.use(verifying("P-256", "ES256", digest, plain), verify256, &c.bareEC)
	c.openssl("ecdsap256", sign256, verify256)
	c.openssl("ecdsap384", c.ecSigning("ES384", k.ec["P-384"], digestOf(48)), nil)
	c.ecSigning("ES512", k.ec["P-521"], digestOf(64))
	c.p256kSigning(digest)
	return b.compareKeys(ctx, c)
}

func (c *keyCase) ecSigning(alg string, key *ecdsa.PrivateKey, digest []byte) *primitive {
	curve := key.Params().Name
	sign := c.primitive(curve+" signature", func() error {
		_, err := ecdsa.SignASN1(rand.Reader, key, digest)
		return err
	})
	c.use(using(curve, "sign", alg, digest, checked(func(signature []byte) error {
		r, s := halves(signature)
		if !ecdsa.Verify(&key.PublicKey, digest, new(big.Int).SetBytes(r), new(big.Int).SetBytes(s)) {
			return errSignature
		}
		return nil
	})), sign, &c.bareEC)
	return sign
}

func (c *keyCase) p256kSigning(digest []byte) {
	sign := c.primitive("P-256K signature", func() error {
		secp256k1ecdsa.Sign(c.p256k, digest)
		return nil
	})
	c.use(using(p256kKey, "sign", "ES256K", digest, checked(func(signature []byte) error {
		var r, s secp256k1.ModNScalar
		first, second := halves(signature)
		r.SetByteSlice(first)
		s.SetByteSlice(second)
		if !secp256k1ecdsa.NewSignature(&r, &s).Verify(digest, c.p256k.PubKey()) {
			return errSignature
		}
		return nil
	})), sign, &c.bareEC)
}

// halves are the two numbers of a signature as the wire has it.
func halves(signature []byte) (r, s []byte) {
	return signature[:len(signature)/2], signature[len(signature)/2:]
}

// plainSignature returns the numbers of a signature in DER, each in size bytes.
func plainSignature(der []byte, size int) ([]byte, error) {
	var numbers struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &numbers); err != nil {
		return nil, err
	}
	return append(numbers.R.FillBytes(make([]byte, size)), numbers.S.FillBytes(make([]byte, size))...), nil
}

// messageSize is that of the message which is encrypted.
const messageSize = 1 << 10

// octCases measures an AES key. What it computes takes less than a microsecond, so only the bare handler is a limit.
func (b *benchmark) octCases(ctx context.Context) error {
	k, err := b.keys(ctx)
	if err != nil {
		return err
	}
	c := &keyCase{keyBench: k, name: "AES"}
	gcm, err := k.gcm()
	if err != nil {
		return err
	}
	secret, message := make([]byte, 32), make([]byte, messageSize)
	rand.Read(secret)
	rand.Read(message)
	var wrapped octets
	wrap := using(octKey, "wrapkey", "A256KW", secret, checked(func(value []byte) error {
		if len(value) != len(secret)+8 {
			return fmt.Errorf("it has %d bytes", len(value))
		}
		wrapped = value // unwrapped below
		return nil
	}))
	if _, err := k.vault.try(ctx, wrap); err != nil {
		return err
	}
	c.use(wrap, nil, &k.bareWrap)
	c.use(using(octKey, "unwrapkey", "A256KW", wrapped, checked(func(unwrapped []byte) error {
		return equal(unwrapped, secret)
	})), nil, &k.bareWrap)
	c.use(using(octKey, "encrypt", "A256GCM", message, func(a keyAnswer) error {
		value, err := a.bytes()
		if err != nil {
			return err
		}
		if len(a.IV) != gcm.NonceSize() {
			return fmt.Errorf("its iv has %d bytes", len(a.IV))
		}
		opened, err := gcm.Open(nil, a.IV, append(value, a.Tag...), nil)
		return errors.Join(err, equal(opened, message))
	}), nil, &k.bareEncrypt)
	return b.compareKeys(ctx, c)
}

// createUse is the one whose limit is the disk.
const createUse = "create P-256, durable"

// objectCases measures keys that are read and made.
func (b *benchmark) objectCases(ctx context.Context) error {
	k, err := b.keys(ctx)
	if err != nil {
		return err
	}
	disk, err := newDisk(filepath.Join(b.dir, "plain-keys"))
	if err != nil {
		return err
	}
	c := &keyCase{keyBench: k, name: "key GET, key create and plain fdatasync", limits: []contender{{&k.sync, disk.measure}}}
	c.use(keyUse{name: "GET, one of 1,000 keys", request: (*keyVault).keyRequest, check: isKey}, nil, &k.bareGet)
	c.use(keyUse{name: createUse, request: func(v *keyVault) template {
		return v.createRequest(keyNumber(0), ecKind)
	}, check: isKey}, nil, nil)
	if err := b.compareKeys(ctx, c); err != nil {
		return err
	}
	return disk.close()
}
