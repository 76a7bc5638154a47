package hsm_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"math/big"
	"testing"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/hsm/hsmtest"
	"github.com/strongroom/strongroom/internal/keywrap"
)

// signsWith are an algorithm and a length of a digest for keys of a kind.
func signsWith(spec hsm.Spec) (hsm.Algorithm, int) {
	switch {
	case spec.Type == hsm.RSA:
		return hsm.PS256, 32
	case spec.Type == hsm.Oct:
		return hsm.HS256, 32
	}
	switch spec.Curve {
	case hsm.P256K:
		return hsm.ES256K, 32
	case hsm.P384:
		return hsm.ES384, 48
	case hsm.P521:
		return hsm.ES512, 64
	default:
		return hsm.ES256, 32
	}
}

// usable opens what a provider has taken in and lets it sign. Whatever is taken in must be a whole key.
func usable(t *testing.T, s *hsm.Software, taken hsm.New) {
	t.Helper()
	key, err := s.Open(t.Context(), taken.Spec, taken.Blob)
	if err != nil {
		t.Fatalf("%v was taken in and does not open: %v", taken.Spec, err)
	}
	if taken.Spec.Type == hsm.Oct {
		return
	}
	alg, n := signsWith(taken.Spec)
	digest := make([]byte, n)
	signature, err := key.Sign(t.Context(), alg, digest)
	if err != nil {
		t.Fatalf("%v was taken in and does not sign: %v", taken.Spec, err)
	}
	if ok, err := hsm.VerifyPublic(taken.Spec, taken.Public, alg, digest, signature); err != nil || !ok {
		t.Fatalf("%v was taken in and its signature is wrong: %v", taken.Spec, err)
	}
}

// refused expects the input to be blamed.
func refused(t *testing.T, err error) {
	t.Helper()
	var e *hsm.Error
	if !errors.As(err, &e) || e.Kind != hsm.BadInput && e.Kind != hsm.Undecryptable {
		t.Fatal(err)
	}
}

func FuzzImportRSA(f *testing.F) {
	s := hsm.NewSoftware(hsm.SoftwareConfig{})
	b := blobs(f)[0]
	parsed, err := x509.ParsePKCS8PrivateKey(b.Blob[1:])
	if err != nil {
		f.Fatal(err)
	}
	k := hsmtest.RSAMembers(parsed.(*rsa.PrivateKey))
	f.Add(k.N, k.E, k.D, k.P, k.Q, k.DP, k.DQ, k.QI)
	f.Add(k.N, k.E, k.D, k.P, k.Q, []byte(nil), []byte(nil), []byte(nil))
	f.Add(k.N, k.E, k.D, k.Q, k.P, k.DQ, k.DP, k.QI)
	f.Add(k.N, []byte{1, 0, 0}, k.D, k.P, k.Q, k.DP, k.DQ, k.QI)
	f.Add(k.N, []byte{0, 0, 0, 0, 0x80, 0, 0, 1}, k.D, k.P, k.Q, k.DP, k.DQ, k.QI)
	f.Add([]byte{0xff}, []byte{3}, []byte{}, []byte{2}, []byte{0}, []byte{0}, []byte{1}, []byte{1})
	f.Fuzz(func(t *testing.T, n, e, d, p, q, dp, dq, qi []byte) {
		taken, err := s.Import(t.Context(), hsm.PrivateKey{Type: hsm.RSA, N: n, E: e, D: d, P: p, Q: q, DP: dp, DQ: dq, QI: qi})
		if err != nil {
			refused(t, err)
			return
		}
		if !bytes.Equal(taken.Public.N, bytes.TrimLeft(n, "\x00")) || !bytes.Equal(taken.Public.E, bytes.TrimLeft(e, "\x00")) {
			t.Fatal("another key was taken in")
		}
		usable(t, s, taken)
	})
}

func FuzzImportEC(f *testing.F) {
	s := hsm.NewSoftware(hsm.SoftwareConfig{})
	for _, b := range blobs(f) {
		if b.Spec.Type == hsm.EC {
			f.Add(string(b.Spec.Curve), []byte{1}, b.Public.X, b.Public.Y)
		}
	}
	// The private number one, whose point is the generator.
	g := func(text string) []byte {
		n, ok := new(big.Int).SetString(text, 16)
		if !ok {
			f.Fatal(text)
		}
		return n.Bytes()
	}
	f.Add("P-256K", []byte{1}, g("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"),
		g("483ada7726a3c4655da4fbfc0e1108a8fd17b448a68554199c47d08ffb10d4b8"))
	f.Add("P-256", []byte{0, 0, 1}, g("6b17d1f2e12c4247f8bce6e563a440f277037d812deb33a0f4a13945d898c296"),
		g("4fe342e2fe1a7f9b8ee7eb4a7c0f9e162bce33576b315ececbb6406837bf51f5"))
	f.Add("P-521", bytes.Repeat([]byte{0xff}, 66), []byte{1}, []byte{2})
	f.Fuzz(func(t *testing.T, curve string, d, x, y []byte) {
		taken, err := s.Import(t.Context(), hsm.PrivateKey{Type: hsm.EC, Curve: hsm.Curve(curve), D: d, X: x, Y: y})
		if err != nil {
			refused(t, err)
			return
		}
		if !bytes.Equal(bytes.TrimLeft(taken.Public.X, "\x00"), bytes.TrimLeft(x, "\x00")) {
			t.Fatal("another key was taken in")
		}
		usable(t, s, taken)
	})
}

// FuzzOpen opens blobs that nobody wrote. The store is at fault then, not the caller.
func FuzzOpen(f *testing.F) {
	s := hsm.NewSoftware(hsm.SoftwareConfig{})
	var specs []hsm.Spec
	for i, b := range blobs(f) {
		specs = append(specs, b.Spec)
		f.Add(uint8(i), b.Blob)
		f.Add(uint8(i), b.Blob[:len(b.Blob)-1])
		f.Add(uint8(i+1), b.Blob)
	}
	f.Fuzz(func(t *testing.T, which uint8, blob []byte) {
		spec := specs[int(which)%len(specs)]
		key, err := s.Open(t.Context(), spec, blob)
		if err != nil {
			if key != nil || errors.As(err, new(*hsm.Error)) {
				t.Fatal(err)
			}
			return
		}
		if spec.Type == hsm.RSA || spec.Type == hsm.Oct && spec.Bits < 256 {
			return // an RSA key of any numbers may not sign; Import is there to see that they are primes
		}
		alg, n := signsWith(spec)
		digest := make([]byte, n)
		signature, err := key.Sign(t.Context(), alg, digest)
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := key.Verify(t.Context(), alg, digest, signature); err != nil || !ok {
			t.Fatalf("its own signature is wrong: %v", err)
		}
	})
}

// FuzzImportWrapped feeds both sides of the wrapping: bytes as they came, and bytes that somebody wrapped as a key.
func FuzzImportWrapped(f *testing.F) {
	s := hsm.NewSoftware(hsm.SoftwareConfig{Queue: 1000})
	b := blobs(f)[0]
	kek, err := s.Open(f.Context(), b.Spec, b.Blob)
	if err != nil {
		f.Fatal(err)
	}
	recipient := &rsa.PublicKey{N: new(big.Int).SetBytes(b.Public.N), E: int(binary.BigEndian.Uint32(append([]byte{0}, b.Public.E...)))}
	types := []hsm.KeyType{hsm.RSA, hsm.EC, hsm.Oct, "none"}
	for i, b := range blobs(f) {
		f.Add(uint8(i), true, b.Blob[1:])
		f.Add(map[hsm.KeyType]uint8{hsm.RSA: 0, hsm.EC: 1, hsm.Oct: 2}[b.Spec.Type], true, b.Blob[1:])
	}
	raw := make([]byte, 256+40)
	rand.Read(raw)
	f.Add(uint8(2), false, raw)
	f.Fuzz(func(t *testing.T, which uint8, wrap bool, input []byte) {
		if wrap {
			wrapped, err := keywrap.WrapRSAAES(recipient, crypto.SHA1, input)
			if err != nil {
				return
			}
			input = wrapped
		}
		taken, err := s.ImportWrapped(t.Context(), kek, types[int(which)%len(types)], input)
		if err != nil {
			refused(t, err)
			return
		}
		usable(t, s, taken)
	})
}
