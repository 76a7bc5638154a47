package hsm

import (
	"bytes"
	"crypto/rand"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	"github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"
)

// scalars are random ones and those at the ends.
func scalars() []secp256k1.ModNScalar {
	var one secp256k1.ModNScalar
	one.SetInt(1)
	out := []secp256k1.ModNScalar{one, *new(secp256k1.ModNScalar).NegateVal(&one)}
	for range 200 {
		out = append(out, randomScalar())
	}
	return out
}

// Blinding must not change what comes out.
func TestBlinding(t *testing.T) {
	t.Parallel()
	for _, k := range scalars() {
		before := k
		var want secp256k1.JacobianPoint
		secp256k1.ScalarBaseMultNonConst(&k, &want)
		want.ToAffine()
		if got := multiplyBase(&k); !got.X.Equals(&want.X) || !got.Y.Equals(&want.Y) {
			t.Errorf("%v·G is (%v, %v), not (%v, %v)", k, want.X, want.Y, got.X, got.Y)
		}
		if got, want := invert(&k), new(secp256k1.ModNScalar).InverseValNonConst(&k); !got.Equals(want) {
			t.Errorf("1/%v is %v, not %v", k, want, got)
		}
		if !k.Equals(&before) {
			t.Error("the scalar was changed")
		}
	}
}

// Without random bytes in the nonce, signatures are those of RFC 6979, which the library makes too.
func TestSignP256K(t *testing.T) {
	t.Parallel()
	digest := make([]byte, 32)
	for _, d := range scalars() {
		rand.Read(digest)
		theirs := ecdsa.Sign(secp256k1.NewPrivateKey(&d), digest)
		r, s := theirs.R(), theirs.S()
		rb, sb := r.Bytes(), s.Bytes()
		want := append(rb[:], sb[:]...)
		if got := signP256K(&d, digest, nil); !bytes.Equal(got, want) {
			t.Errorf("signed %x, not %x", got, want)
		}
	}
}

// With them, two signatures over one digest differ, and both are right. The higher value of s is right as well.
func TestHedgedP256K(t *testing.T) {
	t.Parallel()
	d := randomScalar()
	m := &p256kMaterial{d: d, public: publicP256K(&d)}
	digest := make([]byte, 32)
	one, err := m.sign(nil, digest)
	if err != nil {
		t.Fatal(err)
	}
	other, err := m.sign(nil, digest)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(one[:32], other[:32]) {
		t.Error("the same nonce twice")
	}
	for _, signature := range [][]byte{one, other} {
		var s secp256k1.ModNScalar
		s.SetByteSlice(signature[32:])
		if s.IsOverHalfOrder() {
			t.Errorf("the higher s: %x", signature)
		}
		higher := s.Negate().Bytes()
		for _, v := range [][]byte{signature, append(bytes.Clone(signature[:32]), higher[:]...)} {
			if ok, err := m.verify(nil, digest, v); !ok || err != nil {
				t.Errorf("%x is not right: %v", v, err)
			}
		}
	}
}
