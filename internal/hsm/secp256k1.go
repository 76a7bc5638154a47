package hsm

import (
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/strongroom/strongroom/internal/pkcs8"
)

// P-256K is secp256k1, which the standard library does not have. The library that has it multiplies and inverts in a time
// that depends on the number, and takes table entries by its bytes. Whoever may sign may ask as often as he likes, and must
// not learn the key from how long it takes, so what goes into those functions is split or multiplied by random numbers
// first, anew each time (Coron's countermeasures). The rest of its arithmetic modulo the order takes constant time.

func generateP256K() (New, error) {
	d := randomScalar()
	defer d.Zero()
	return newP256K(&d)
}

// randomScalar returns a number from 1 to the order less 1.
func randomScalar() secp256k1.ModNScalar {
	var b [32]byte
	defer clear(b[:])
	for {
		rand.Read(b[:])
		var k secp256k1.ModNScalar
		if overflow := k.SetBytes(&b); overflow == 0 && !k.IsZero() {
			return k
		}
	}
}

// multiplyBase returns k·G, as the sum of two multiples that say nothing about k by themselves.
func multiplyBase(k *secp256k1.ModNScalar) secp256k1.JacobianPoint {
	share := randomScalar()
	rest := new(secp256k1.ModNScalar).NegateVal(&share).Add(k)
	var a, b, sum secp256k1.JacobianPoint
	secp256k1.ScalarBaseMultNonConst(&share, &a)
	secp256k1.ScalarBaseMultNonConst(rest, &b)
	secp256k1.AddNonConst(&a, &b, &sum)
	sum.ToAffine()
	return sum
}

// invert returns 1/k, by way of the inverse of a random multiple.
func invert(k *secp256k1.ModNScalar) *secp256k1.ModNScalar {
	factor := randomScalar()
	return new(secp256k1.ModNScalar).Mul2(k, &factor).InverseNonConst().Mul(&factor)
}

func publicP256K(d *secp256k1.ModNScalar) *secp256k1.PublicKey {
	p := multiplyBase(d)
	return secp256k1.NewPublicKey(&p.X, &p.Y)
}

func newP256K(d *secp256k1.ModNScalar) (New, error) {
	point := publicP256K(d).SerializeUncompressed()
	encoded, err := encodeP256K(d, point)
	if err != nil {
		return New{}, err
	}
	return newPoint(P256K, point, encoded), nil
}

func encodeP256K(d *secp256k1.ModNScalar, point []byte) ([]byte, error) {
	b := d.Bytes()
	defer clear(b[:])
	return pkcs8.MarshalEC(pkcs8.P256K, b[:], point)
}

func importP256K(key *PrivateKey, publicRequired bool) (New, error) {
	m, err := readEC(key, publicRequired)
	if err != nil {
		return New{}, err
	}
	defer clear(m.d)
	var d secp256k1.ModNScalar
	defer d.Zero()
	if overflow := d.SetByteSlice(m.d); overflow || d.IsZero() {
		return New{}, notInOrder(P256K)
	}
	if m.point != nil {
		public, err := secp256k1.ParsePubKey(m.point)
		if err != nil {
			return New{}, notOnCurve(P256K)
		}
		if !publicP256K(&d).IsEqual(public) {
			return New{}, halvesDiffer()
		}
	}
	return newP256K(&d)
}

// p256kMaterial is a key on secp256k1.
type p256kMaterial struct {
	signsOnly
	d      secp256k1.ModNScalar
	public *secp256k1.PublicKey
}

var _ material = (*p256kMaterial)(nil)

func openP256K(der []byte) (material, error) {
	key, err := pkcs8.Parse(der)
	if err != nil {
		return nil, fmt.Errorf("hsm: the key in the blob %w", err)
	}
	if key.Curve != pkcs8.P256K {
		return nil, errors.New("hsm: the blob holds no EC key on P-256K")
	}
	m := &p256kMaterial{}
	if overflow := m.d.SetByteSlice(key.D); overflow || len(key.D) != 32 || m.d.IsZero() {
		return nil, errors.New("hsm: the blob holds a key out of the order of P-256K")
	}
	m.public = publicP256K(&m.d)
	if !key.HasPoint(m.public.SerializeUncompressed()) {
		return nil, errors.New("hsm: the blob holds two halves that are not one key's")
	}
	return m, nil
}

func (m *p256kMaterial) spec() Spec { return Spec{Type: EC, Curve: P256K} }

func (m *p256kMaterial) encode() ([]byte, error) {
	return encodeP256K(&m.d, m.public.SerializeUncompressed())
}

// sign makes the nonce from the key, the digest and random bytes (RFC 6979, 3.6): without a random generator it would
// still be secret, and unlike that of RFC 6979 alone it differs each time, so that a fault in one of two signatures over the
// same digest does not give the key away.
func (m *p256kMaterial) sign(_ *algorithm, digest []byte) ([]byte, error) {
	var extra [32]byte
	rand.Read(extra[:])
	return signP256K(&m.d, digest, extra[:]), nil
}

// signP256K signs a digest of 32 bytes (SEC 1, 4.1.3). Of the two values of s it returns the lower, as the blockchains that
// use this curve demand.
func signP256K(d *secp256k1.ModNScalar, digest, extra []byte) []byte {
	secret := d.Bytes()
	defer clear(secret[:])
	var e secp256k1.ModNScalar
	e.SetByteSlice(digest)
	for attempt := uint32(0); ; attempt++ {
		k := secp256k1.NonceRFC6979(secret[:], digest, extra, nil, attempt)
		point := multiplyBase(k)
		var r secp256k1.ModNScalar
		r.SetBytes(point.X.Bytes())
		s := new(secp256k1.ModNScalar).Mul2(d, &r).Add(&e).Mul(invert(k))
		k.Zero()
		if r.IsZero() || s.IsZero() {
			continue
		}
		if s.IsOverHalfOrder() {
			s.Negate()
		}
		out := make([]byte, 64)
		r.PutBytesUnchecked(out)
		s.PutBytesUnchecked(out[32:])
		return out
	}
}

func (m *p256kMaterial) verify(_ *algorithm, digest, signature []byte) (bool, error) {
	return verifyP256K(m.public, digest, signature), nil
}

// verifyP256K takes either value of s.
func verifyP256K(key *secp256k1.PublicKey, digest, signature []byte) bool {
	if len(signature) != 64 {
		return false
	}
	var r, s secp256k1.ModNScalar
	if r.SetByteSlice(signature[:32]) || s.SetByteSlice(signature[32:]) {
		return false
	}
	return ecdsa.NewSignature(&r, &s).Verify(digest, key)
}
