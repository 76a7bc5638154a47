package hsm

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
)

// PKCS#8 (RFC 5958), for what crypto/x509 does not do: secp256k1, and RSA keys whose sizes have to be looked at before
// anything is computed with them.

type pkcs8 struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
	// Attributes and a public key may follow.
}

// pkcs1Key is RSAPrivateKey (RFC 8017, A.1.2).
type pkcs1Key struct {
	Version                      int // 0: two primes
	N, E, D, P, Q, DP, DQ, Coeff *big.Int
}

// sec1Key is ECPrivateKey (RFC 5915).
type sec1Key struct {
	Version    int
	PrivateKey []byte
	Curve      asn1.ObjectIdentifier `asn1:"optional,explicit,tag:0"`
	PublicKey  asn1.BitString        `asn1:"optional,explicit,tag:1"`
}

func oidRSA() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} }
func oidEC() asn1.ObjectIdentifier  { return asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} }

// oidOf is nil for an unknown curve.
func oidOf(c Curve) asn1.ObjectIdentifier {
	switch c {
	case P256:
		return asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}
	case P256K:
		return asn1.ObjectIdentifier{1, 3, 132, 0, 10}
	case P384:
		return asn1.ObjectIdentifier{1, 3, 132, 0, 34}
	case P521:
		return asn1.ObjectIdentifier{1, 3, 132, 0, 35}
	default:
		return nil
	}
}

// maxPKCS8 is more than an RSA key of 4096 bits takes. What is larger is not parsed.
const maxPKCS8 = 4 << 10

// parsePKCS8 reads a key that somebody sends. The result has not been checked, other than for its form.
func parsePKCS8(der []byte) (*PrivateKey, error) {
	if len(der) > maxPKCS8 {
		return nil, badInput("The wrapped key is longer than any key that is accepted.")
	}
	var p pkcs8
	if rest, err := asn1.Unmarshal(der, &p); err != nil || len(rest) > 0 {
		return nil, badInput("The wrapped key is not in PKCS#8.")
	}
	defer clear(p.PrivateKey)
	switch {
	case p.Algorithm.Algorithm.Equal(oidRSA()):
		return parsePKCS1(p.PrivateKey)
	case p.Algorithm.Algorithm.Equal(oidEC()):
		return parseSEC1(p.PrivateKey, p.Algorithm.Parameters.FullBytes)
	default:
		return nil, badInput("The wrapped key is neither an RSA nor an EC key.")
	}
}

func parsePKCS1(der []byte) (*PrivateKey, error) {
	var k pkcs1Key
	if rest, err := asn1.Unmarshal(der, &k); err != nil || len(rest) > 0 {
		return nil, badInput("The wrapped RSA key is not in PKCS#1.")
	}
	if k.Version != 0 {
		return nil, badInput("The wrapped RSA key has more than two primes.")
	}
	for _, number := range []*big.Int{k.N, k.E, k.D, k.P, k.Q, k.DP, k.DQ, k.Coeff} {
		if number.Sign() <= 0 {
			return nil, badInput("The wrapped RSA key has a number that is not positive.")
		}
	}
	return &PrivateKey{
		Type: RSA,
		N:    k.N.Bytes(), E: k.E.Bytes(), D: k.D.Bytes(), P: k.P.Bytes(), Q: k.Q.Bytes(),
		DP: k.DP.Bytes(), DQ: k.DQ.Bytes(), QI: k.Coeff.Bytes(),
	}, nil
}

// parseSEC1 reads an EC key on the curve that params, the algorithm's parameters, name.
func parseSEC1(der, params []byte) (*PrivateKey, error) {
	var oid asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(params, &oid); err != nil || len(rest) > 0 {
		return nil, badInput("The wrapped EC key does not name its curve.")
	}
	key := &PrivateKey{Type: EC}
	for _, c := range []Curve{P256, P256K, P384, P521} {
		if oid.Equal(oidOf(c)) {
			key.Curve = c
		}
	}
	if key.Curve == "" {
		return nil, badInput("The wrapped EC key is on the curve %v. The curves are P-256, P-256K, P-384 and P-521.", oid)
	}
	var k sec1Key
	if rest, err := asn1.Unmarshal(der, &k); err != nil || len(rest) > 0 || k.Version != 1 {
		return nil, badInput("The wrapped EC key is not in the form of RFC 5915.")
	}
	if k.Curve != nil && !k.Curve.Equal(oid) {
		return nil, badInput("The wrapped EC key names two curves.")
	}
	key.D = k.PrivateKey
	if point := k.PublicKey.RightAlign(); len(point) > 0 {
		n := (len(point) - 1) / 2
		if k.PublicKey.BitLength%8 != 0 || point[0] != pointUncompressed || len(point) != 1+2*n || n == 0 {
			return nil, badInput("The public half of the wrapped EC key is not an uncompressed point.")
		}
		key.X, key.Y = bytes.Clone(point[1:1+n]), bytes.Clone(point[1+n:]) // point is a part of der
	}
	return key, nil
}

// encodeEC returns an EC key in PKCS#8: d is as long as the curve's order, point uncompressed.
func encodeEC(c Curve, d, point []byte) ([]byte, error) {
	inner, err := asn1.Marshal(sec1Key{
		Version: 1, PrivateKey: d, PublicKey: asn1.BitString{Bytes: point, BitLength: 8 * len(point)},
	})
	if err != nil {
		return nil, err
	}
	defer clear(inner)
	params, err := asn1.Marshal(oidOf(c))
	if err != nil {
		return nil, err
	}
	return asn1.Marshal(pkcs8{
		Algorithm:  pkix.AlgorithmIdentifier{Algorithm: oidEC(), Parameters: asn1.RawValue{FullBytes: params}},
		PrivateKey: inner,
	})
}

// clear overwrites the private members.
func (k *PrivateKey) clear() {
	for _, member := range [][]byte{k.D, k.DP, k.DQ, k.QI, k.P, k.Q, k.K} {
		clear(member)
	}
}
