package hsm

import (
	"crypto/ecdsa"
	"crypto/rsa"
	"math/big"
	"slices"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
)

// VerifyPublic is Key.Verify of the software provider for vectors that have only a public key. It returns false for a key that
// is none.
func VerifyPublic(spec Spec, key PublicKey, alg Algorithm, digest, signature []byte) (bool, error) {
	a, err := findAlgorithm(alg, Signature, spec)
	if err != nil {
		return false, err
	}
	if err := a.checkDigest(digest, spec.Bits/8); err != nil {
		return false, err
	}
	point := slices.Concat([]byte{pointUncompressed}, key.X, key.Y)
	switch {
	case spec.Type == RSA:
		k := &rsa.PublicKey{N: new(big.Int).SetBytes(key.N), E: int(new(big.Int).SetBytes(key.E).Int64())}
		return verifyRSA(k, a, digest, signature)
	case spec.Curve == P256K:
		k, err := secp256k1.ParsePubKey(point)
		return err == nil && verifyP256K(k, digest, signature), nil
	default:
		k, err := ecdsa.ParseUncompressedPublicKey(nistCurve(spec.Curve), point)
		return err == nil && verifyEC(k, spec.Curve, digest, signature), nil
	}
}
