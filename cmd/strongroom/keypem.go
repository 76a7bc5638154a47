package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/strongroom/strongroom/internal/pkcs8"
)

// A privateKey is an *rsa.PrivateKey, an *ecdsa.PrivateKey or a *secp256k1.PrivateKey.
type privateKey any

// parsePrivatePEM reads the first private key in PEM: PKCS#8, which may be encrypted, PKCS#1 or SEC 1. It does not look at what follows.
func parsePrivatePEM(content, password []byte) (privateKey, error) {
	var found []string
	for rest := content; ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, noPrivateKey(content, found)
		}
		found = append(found, block.Type)
		if block.Headers["DEK-Info"] != "" {
			return nil, errors.New("the key is encrypted in the old manner of PEM, which is weak: " +
				`let "openssl pkey -in FILE" decrypt it, and give its output with --pem-file -`)
		}
		switch block.Type {
		case "PRIVATE KEY":
			return newPrivateKey(pkcs8.Parse(block.Bytes))
		case "RSA PRIVATE KEY":
			return newPrivateKey(pkcs8.ParsePKCS1(block.Bytes))
		case "EC PRIVATE KEY":
			return newPrivateKey(pkcs8.ParseSEC1(block.Bytes))
		case "ENCRYPTED PRIVATE KEY":
			return parseEncrypted(block.Bytes, password)
		case "OPENSSH PRIVATE KEY":
			return nil, errors.New(`the key is in OpenSSH's own format: "ssh-keygen -p -m PKCS8 -f FILE" changes that`)
		}
	}
}

// noPrivateKey says what there is in the place of a private key.
func noPrivateKey(content []byte, found []string) error {
	switch {
	case len(bytes.TrimSpace(content)) == 0:
		return errors.New("there is no private key: the input is empty")
	case len(found) == 0:
		return errors.New(`there is no private key in PEM, and no PEM at all: "openssl pkey -inform DER -in FILE" reads the binary form`)
	}
	const shown = 3
	return fmt.Errorf("there is no private key, but PEM of the type %s", strings.Join(found[:min(len(found), shown)], ", "))
}

// newPrivateKey makes a key of what was read, and refuses what no vault takes: it is a shorter way to learn it from here.
func newPrivateKey(k *pkcs8.Key, err error) (privateKey, error) {
	switch {
	case err != nil:
		return nil, fmt.Errorf("the key %w", err)
	case k.Curve == "":
		return newPrivateRSA(k)
	case k.Curve == pkcs8.P256K:
		return newSecp256k1(k)
	default:
		return newPrivateEC(k)
	}
}

func newPrivateRSA(k *pkcs8.Key) (privateKey, error) {
	public, err := newPublicRSA(k.N, k.E)
	if err != nil {
		return nil, fmt.Errorf("the RSA key is wrong: %w", err)
	}
	if err := checkRSA(public); err != nil {
		return nil, fmt.Errorf("the RSA key %w", err)
	}
	number := func(b []byte) *big.Int { return new(big.Int).SetBytes(b) }
	key := &rsa.PrivateKey{PublicKey: *public, D: number(k.D), Primes: []*big.Int{number(k.P), number(k.Q)}}
	if err := key.Validate(); err != nil {
		return nil, fmt.Errorf("the RSA key is wrong: %w", err)
	}
	key.Precompute()
	pre := key.Precomputed
	if pre.Dp.Cmp(number(k.DP)) != 0 || pre.Dq.Cmp(number(k.DQ)) != 0 || pre.Qinv.Cmp(number(k.QI)) != 0 {
		return nil, errors.New("the RSA key is wrong: its numbers do not belong together")
	}
	return key, nil
}

// rsaSizes are how many bits RSA keys of vaults have.
func rsaSizes() []int { return []int{2048, 3072, 4096} }

// checkRSA refuses what vaults refuse. Its errors say something of a key.
func checkRSA(key *rsa.PublicKey) error {
	switch bits := key.N.BitLen(); {
	case !slices.Contains(rsaSizes(), bits):
		return fmt.Errorf("has %d bits: vaults have those of 2048, 3072 and 4096", bits)
	case key.N.Bit(0) == 0:
		return errors.New("has an even modulus, which is the product of no two large primes")
	case key.E < 65537 || key.E%2 == 0:
		return fmt.Errorf("has the public exponent %d: vaults take odd ones from 65537", key.E)
	}
	return nil
}

func newPrivateEC(k *pkcs8.Key) (privateKey, error) {
	curve := curves()[azkeys.CurveName(k.Curve)]
	d := bytes.TrimLeft(k.D, "\x00")
	size := (curve.Params().BitSize + 7) / 8
	if len(d) > size {
		return nil, errOrder(k)
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, append(make([]byte, size-len(d)), d...))
	if err != nil {
		return nil, errOrder(k)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return nil, err
	}
	if !k.HasPoint(point) {
		return nil, errHalves(k)
	}
	return key, nil
}

func newSecp256k1(k *pkcs8.Key) (privateKey, error) {
	var d secp256k1.ModNScalar
	if len(k.D) > secp256k1.PrivKeyBytesLen || d.SetByteSlice(k.D) || d.IsZero() {
		return nil, errOrder(k)
	}
	key := secp256k1.NewPrivateKey(&d)
	if !k.HasPoint(key.PubKey().SerializeUncompressed()) {
		return nil, errHalves(k)
	}
	return key, nil
}

func errOrder(k *pkcs8.Key) error {
	return fmt.Errorf("the %s key's number is not within its curve's order", k.Curve)
}

func errHalves(k *pkcs8.Key) error {
	return fmt.Errorf("the %s key's public part is not that of its private one", k.Curve)
}

func curves() map[azkeys.CurveName]elliptic.Curve {
	return map[azkeys.CurveName]elliptic.Curve{
		azkeys.CurveNameP256: elliptic.P256(), azkeys.CurveNameP384: elliptic.P384(), azkeys.CurveNameP521: elliptic.P521(),
	}
}

func curveName(curve elliptic.Curve) (azkeys.CurveName, error) {
	for name, c := range curves() {
		if c == curve {
			return name, nil
		}
	}
	return "", fmt.Errorf("the EC key is on the curve %s: vaults take P-256, P-256K, P-384 and P-521", curve.Params().Name)
}

// privateJWK is a key as a vault imports it.
func privateJWK(key privateKey) (*azkeys.JSONWebKey, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return &azkeys.JSONWebKey{
			Kty: new(azkeys.KeyTypeRSA),
			N:   key.N.Bytes(), E: big.NewInt(int64(key.E)).Bytes(), D: key.D.Bytes(),
			P: key.Primes[0].Bytes(), Q: key.Primes[1].Bytes(),
			DP: key.Precomputed.Dp.Bytes(), DQ: key.Precomputed.Dq.Bytes(), QI: key.Precomputed.Qinv.Bytes(),
		}, nil
	case *ecdsa.PrivateKey:
		curve, err := curveName(key.Curve)
		if err != nil {
			return nil, err
		}
		d, err := key.Bytes()
		if err != nil {
			return nil, err
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			return nil, err
		}
		return ecJWK(curve, d, point), nil
	case *secp256k1.PrivateKey:
		return ecJWK(azkeys.CurveNameP256K, key.Serialize(), key.PubKey().SerializeUncompressed()), nil
	}
	return nil, fmt.Errorf("a %T is no key for a vault", key)
}

// ecJWK takes a point apart that is written as 4, x and y.
func ecJWK(curve azkeys.CurveName, d, point []byte) *azkeys.JSONWebKey {
	half := (len(point) - 1) / 2
	return &azkeys.JSONWebKey{Kty: new(azkeys.KeyTypeEC), Crv: &curve, D: d, X: point[1 : 1+half], Y: point[1+half:]}
}

// marshalPKCS8 writes a key as PKCS#8.
func marshalPKCS8(key privateKey) ([]byte, error) {
	k, ok := key.(*secp256k1.PrivateKey)
	if !ok {
		return x509.MarshalPKCS8PrivateKey(key)
	}
	return pkcs8.MarshalEC(pkcs8.P256K, k.Serialize(), k.PubKey().SerializeUncompressed())
}

// marshalPublic writes the public part of a vault's key as SubjectPublicKeyInfo.
func marshalPublic(k *azkeys.JSONWebKey) ([]byte, error) {
	if k == nil || k.Kty == nil {
		return nil, errors.New("the service sent no key")
	}
	switch *k.Kty {
	case azkeys.KeyTypeRSA, azkeys.KeyTypeRSAHSM:
		key, err := newPublicRSA(k.N, k.E)
		if err != nil {
			return nil, err
		}
		return x509.MarshalPKIXPublicKey(key)
	case azkeys.KeyTypeEC, azkeys.KeyTypeECHSM:
		return marshalPublicEC(k)
	}
	return nil, fmt.Errorf("the key is of type %s and has no public part: only those of types RSA and EC have one", *k.Kty)
}

func newPublicRSA(n, e []byte) (*rsa.PublicKey, error) {
	exponent := new(big.Int).SetBytes(e)
	if len(n) == 0 || exponent.BitLen() < 2 || exponent.BitLen() > 31 {
		return nil, errors.New("its n or e is missing or wrong")
	}
	return &rsa.PublicKey{N: new(big.Int).SetBytes(n), E: int(exponent.Int64())}, nil
}

func marshalPublicEC(k *azkeys.JSONWebKey) ([]byte, error) {
	if k.Crv == nil {
		return nil, errors.New("the key is of type EC, but its curve is missing")
	}
	if *k.Crv == azkeys.CurveNameP256K {
		point := uncompressed(k, secp256k1.PrivKeyBytesLen)
		if _, err := secp256k1.ParsePubKey(point); err != nil {
			return nil, fmt.Errorf("the key is not a point on P-256K: %w", err)
		}
		return pkcs8.MarshalPublicEC(pkcs8.P256K, point)
	}
	curve, ok := curves()[*k.Crv]
	if !ok {
		return nil, fmt.Errorf("the key is on the curve %s, which is not known here", *k.Crv)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(curve, uncompressed(k, (curve.Params().BitSize+7)/8))
	if err != nil {
		return nil, fmt.Errorf("the key is not a point on %s: %w", *k.Crv, err)
	}
	return x509.MarshalPKIXPublicKey(key)
}

// uncompressed is 4, x and y, with zeros in front of short coordinates. Long ones make it too long for a point.
func uncompressed(k *azkeys.JSONWebKey, size int) []byte {
	point := []byte{4}
	for _, coordinate := range [][]byte{k.X, k.Y} {
		point = append(point, make([]byte, max(0, size-len(coordinate)))...)
		point = append(point, coordinate...)
	}
	return point
}

var errWrongPassword = errors.New("the password of the PEM is wrong")

func parseEncrypted(der, password []byte) (privateKey, error) {
	if len(password) == 0 {
		return nil, usagef("the key is encrypted: give its password with --pem-password @FILE (or @- for standard input)")
	}
	plain, err := pkcs8.Decrypt(der, string(password))
	switch {
	case errors.Is(err, pkcs8.ErrPassword):
		return nil, errWrongPassword
	case err != nil:
		return nil, fmt.Errorf("the key %w: let \"openssl pkey -in FILE\" decrypt it, and give its output with --pem-file -", err)
	}
	defer clear(plain)
	key, err := pkcs8.Parse(plain)
	if errors.Is(err, pkcs8.ErrNotPKCS8) {
		return nil, errWrongPassword // one of 256 wrong ones leaves what looks like padding
	}
	return newPrivateKey(key, err)
}
