// Package pkcs8 reads private keys that somebody else wrote, and writes those that crypto/x509 does not: in PKCS#8 (RFC 5958, also encrypted), RSA keys
// of PKCS#1 (RFC 8017, A.1.2) and EC keys of SEC 1 (RFC 5915), on the NIST curves and on secp256k1.
//
// It reads DER alone, and nothing that the formats do not have: two readers of a key must not differ about what it is. It looks at the
// form only. Whether the numbers are a key's is for its callers to find out, who know how to compute with them.
//
// Errors are what can be said of a key: "is not in PKCS#8", and hold nothing secret.
package pkcs8

import (
	"bytes"
	"encoding/asn1"
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"
	asn1tag "golang.org/x/crypto/cryptobyte/asn1"
)

// A Curve is named as in a JWK's "crv".
type Curve string

// The curves that are known.
const (
	P256  Curve = "P-256"
	P256K Curve = "P-256K" // secp256k1
	P384  Curve = "P-384"
	P521  Curve = "P-521"
)

// A Key is a private key, RSA if it has no curve. Its numbers are unsigned and big-endian.
type Key struct {
	Curve Curve

	N, E, P, Q, DP, DQ, QI []byte // RSA

	D []byte // of both kinds; EC's may have zeros in front

	points [][]byte // EC: what is written as the public half
}

// MaxLen is how many bytes a key has at most: an RSA key of 4096 bits takes some 2400.
const MaxLen = 4 << 10

// ErrNotPKCS8 says that something is not in the format at all.
var ErrNotPKCS8 = errors.New("is not in PKCS#8")

var (
	errNotPKCS1 = errors.New("is not that of PKCS#1, with two primes")
	errNotSEC1  = errors.New("is not that of SEC 1")
	errNoCurve  = errors.New("does not name its curve")
	errTooLong  = errors.New("is longer than any key that is accepted")
	errPublic   = errors.New("has another key's public half")
)

func oidRSA() asn1.ObjectIdentifier { return asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1} } // RFC 8017, A.1
func oidEC() asn1.ObjectIdentifier  { return asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1} }     // RFC 5480, 2.1.1

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

func curveOf(oid asn1.ObjectIdentifier) (Curve, error) {
	for _, c := range []Curve{P256, P256K, P384, P521} {
		if oid.Equal(oidOf(c)) {
			return c, nil
		}
	}
	return "", fmt.Errorf("is on the curve %.60s, and not on P-256, P-256K, P-384 or P-521", oid)
}

// tag is the tag of the n-th optional part of something.
func tag(n uint8) asn1tag.Tag { return asn1tag.Tag(n).ContextSpecific() }

// Parse reads a key in PKCS#8, which is not encrypted. The key shares der's memory.
func Parse(der []byte) (*Key, error) {
	if len(der) > MaxLen {
		return nil, errTooLong
	}
	var (
		in                               = cryptobyte.String(der)
		info, algorithm, private, public cryptobyte.String
		version                          int64
		hasPublic                        bool
	)
	if !in.ReadASN1(&info, asn1tag.SEQUENCE) || !in.Empty() ||
		!info.ReadASN1Integer(&version) || version < 0 || version > 1 ||
		!info.ReadASN1(&algorithm, asn1tag.SEQUENCE) ||
		!info.ReadASN1(&private, asn1tag.OCTET_STRING) ||
		!info.SkipOptionalASN1(tag(0).Constructed()) || // attributes, which change nothing about the key
		!info.ReadOptionalASN1(&public, &hasPublic, tag(1)) ||
		!info.Empty() || hasPublic && version == 0 {
		return nil, ErrNotPKCS8
	}
	key, err := parsePrivate(private, algorithm)
	if err != nil || !hasPublic {
		return key, err
	}
	var unusedBits uint8
	if !public.ReadUint8(&unusedBits) || unusedBits != 0 {
		return nil, ErrNotPKCS8
	}
	if key.Curve != "" {
		key.points = append(key.points, public)
		return key, nil
	}
	if err := key.checkPublicRSA(public); err != nil {
		return nil, err
	}
	return key, nil
}

// parsePrivate reads what a key in PKCS#8 has inside.
func parsePrivate(der, algorithm cryptobyte.String) (*Key, error) {
	var oid asn1.ObjectIdentifier
	if !algorithm.ReadASN1ObjectIdentifier(&oid) {
		return nil, ErrNotPKCS8
	}
	switch {
	case oid.Equal(oidRSA()):
		// RFC 8017 wants NULL; some write nothing.
		if null := []byte{0x05, 0x00}; !algorithm.Empty() && !bytes.Equal(algorithm, null) {
			return nil, ErrNotPKCS8
		}
		return ParsePKCS1(der)
	case oid.Equal(oidEC()):
		curve, err := parseCurve(algorithm)
		if err != nil {
			return nil, err
		}
		return parseSEC1(der, curve)
	default:
		return nil, errors.New("is neither an RSA nor an EC key")
	}
}

// ParsePKCS1 reads an RSA key in PKCS#1. The key shares der's memory.
func ParsePKCS1(der []byte) (*Key, error) {
	if len(der) > MaxLen {
		return nil, errTooLong
	}
	var (
		in      = cryptobyte.String(der)
		numbers cryptobyte.String
		version int64
		k       Key
	)
	if !in.ReadASN1(&numbers, asn1tag.SEQUENCE) || !in.Empty() || !numbers.ReadASN1Integer(&version) || version != 0 {
		return nil, errNotPKCS1
	}
	for _, n := range []*[]byte{&k.N, &k.E, &k.D, &k.P, &k.Q, &k.DP, &k.DQ, &k.QI} {
		if !numbers.ReadASN1Integer(n) { // which refuses negative ones
			return nil, errNotPKCS1
		}
	}
	if !numbers.Empty() {
		return nil, errNotPKCS1
	}
	return &k, nil
}

// checkPublicRSA compares with an RSAPublicKey (RFC 8017, A.1.1).
func (k *Key) checkPublicRSA(der cryptobyte.String) error {
	var (
		numbers cryptobyte.String
		n, e    []byte
	)
	if !der.ReadASN1(&numbers, asn1tag.SEQUENCE) || !der.Empty() ||
		!numbers.ReadASN1Integer(&n) || !numbers.ReadASN1Integer(&e) || !numbers.Empty() ||
		!bytes.Equal(n, k.N) || !bytes.Equal(e, k.E) {
		return errPublic
	}
	return nil
}

// ParseSEC1 reads an EC key in SEC 1 that names its curve. The key shares der's memory.
func ParseSEC1(der []byte) (*Key, error) { return parseSEC1(der, "") }

// parseSEC1 reads a key that must be on curve, unless that is empty.
func parseSEC1(der []byte, curve Curve) (*Key, error) {
	if len(der) > MaxLen {
		return nil, errTooLong
	}
	var (
		in                       = cryptobyte.String(der)
		inner, d, params, public cryptobyte.String
		version                  int64
		hasParams, hasPublic     bool
	)
	if !in.ReadASN1(&inner, asn1tag.SEQUENCE) || !in.Empty() ||
		!inner.ReadASN1Integer(&version) || version != 1 ||
		!inner.ReadASN1(&d, asn1tag.OCTET_STRING) ||
		!inner.ReadOptionalASN1(&params, &hasParams, tag(0).Constructed()) ||
		!inner.ReadOptionalASN1(&public, &hasPublic, tag(1).Constructed()) ||
		!inner.Empty() {
		return nil, errNotSEC1
	}
	key := &Key{Curve: curve, D: d}
	if hasParams {
		named, err := parseCurve(params)
		if err != nil {
			return nil, err
		}
		if curve != "" && named != curve {
			return nil, errors.New("names two curves")
		}
		key.Curve = named
	}
	if key.Curve == "" {
		return nil, errNoCurve
	}
	if hasPublic {
		var point []byte
		if !public.ReadASN1BitStringAsBytes(&point) || !public.Empty() {
			return nil, errNotSEC1
		}
		key.points = append(key.points, point)
	}
	return key, nil
}

// parseCurve reads the parameters of an EC key, of which only the name of a curve is allowed (RFC 5480, 2.1.1).
func parseCurve(params cryptobyte.String) (Curve, error) {
	var oid asn1.ObjectIdentifier
	if !params.ReadASN1ObjectIdentifier(&oid) || !params.Empty() {
		return "", errNoCurve
	}
	return curveOf(oid)
}

// HasPoint tells whether an EC key that says its public half, compressed or not, says this one. Who has computed the public half of a
// key must ask, since otherwise nobody has compared. The point is uncompressed (SEC 1, 2.3.3).
func (k *Key) HasPoint(point []byte) bool {
	n := (len(point) - 1) / 2
	compressed := append([]byte{2 | point[2*n]&1}, point[1:1+n]...)
	for _, stated := range k.points {
		if !bytes.Equal(stated, point) && !bytes.Equal(stated, compressed) {
			return false
		}
	}
	return true
}

// MarshalEC writes an EC key in PKCS#8 as crypto/x509 does: with its public half, and the curve named outside only. D is as long as the
// curve's order, point uncompressed.
func MarshalEC(c Curve, d, point []byte) ([]byte, error) {
	// The buffer has room enough that nothing secret is left in a smaller one.
	b := cryptobyte.NewBuilder(make([]byte, 0, 512))
	b.AddASN1(asn1tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(0)
		addAlgorithm(b, c)
		b.AddASN1(asn1tag.OCTET_STRING, func(b *cryptobyte.Builder) {
			b.AddASN1(asn1tag.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1Int64(1)
				b.AddASN1OctetString(d)
				b.AddASN1(tag(1).Constructed(), func(b *cryptobyte.Builder) { b.AddASN1BitString(point) })
			})
		})
	})
	return b.Bytes()
}

// MarshalPublicEC writes the public half of an EC key as a SubjectPublicKeyInfo (RFC 5480, 2). The point is uncompressed.
func MarshalPublicEC(c Curve, point []byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(asn1tag.SEQUENCE, func(b *cryptobyte.Builder) {
		addAlgorithm(b, c)
		b.AddASN1BitString(point)
	})
	return b.Bytes()
}

func addAlgorithm(b *cryptobyte.Builder, c Curve) {
	b.AddASN1(asn1tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oidEC())
		b.AddASN1ObjectIdentifier(oidOf(c)) // an unknown one makes Bytes return an error
	})
}
