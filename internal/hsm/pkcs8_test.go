package hsm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/keywrap"
)

// A key on secp256k1 in PKCS#8, as OpenSSL 3.0 writes it.
const (
	opensslP256K = "308184020100301006072a8648ce3d020106052b8104000a046d306b02010104201f518c2227c87fc45bab4bcf01e31e8a" +
		"0ec223d3052ebe077f1fe1fbc3831a17a14403420004a2a7c67fa3361b65be22c67202098c2b444c2eb5bff7dd5240888b6b9ed2f9fbee0d5b0f" +
		"da6dc6a2cbc84f5c8671d2f2615732dd9009c22e6ced98ef65023693"

	// Another, with its point compressed.
	opensslCompressed = "3064020100301006072a8648ce3d020106052b8104000a044d304b020101042068c90f7a855dadcb100673ce47af6e35" +
		"e75e04d9875581832cd2f7a611ec8263a12403220002217a1fcfbf2016cfcbf626c46aafad5b7941d186df9c42af09544eb270bdd0ef"
)

func TestOpenP256KOfOpenSSL(t *testing.T) {
	t.Parallel()
	for _, text := range []string{opensslP256K, opensslCompressed} {
		der, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		m, err := openP256K(der)
		if err != nil || m.spec() != (Spec{Type: EC, Curve: P256K}) {
			t.Errorf("%v, %v", m, err)
			continue
		}
		if got, err := m.encode(); err != nil || text == opensslP256K && !bytes.Equal(got, der) {
			t.Errorf("we write %x, %v", got, err)
		}
		der[len(der)-1] ^= 1
		if m, err := openP256K(der); err == nil {
			t.Errorf("%v with another point", m.spec())
		}
	}
}

// A wrapped key may say its public half, in two places and in two ways; each must be right.
func TestPublicHalfOfWrappedKey(t *testing.T) {
	t.Parallel()
	s, ctx := NewSoftware(SoftwareConfig{}), t.Context()
	made, err := s.Generate(ctx, Spec{Type: RSA, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	kek, err := s.Open(ctx, made.Spec, made.Blob)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(made.Blob[1:])
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		curve Curve
		oid   asn1.ObjectIdentifier
	}{
		{P256, asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7}}, {P256K, asn1.ObjectIdentifier{1, 3, 132, 0, 10}},
		{P384, asn1.ObjectIdentifier{1, 3, 132, 0, 34}}, {P521, asn1.ObjectIdentifier{1, 3, 132, 0, 35}},
	} {
		d := make([]byte, coordinateLen(c.curve))
		rand.Read(d[2:]) // below every order
		taken, err := s.take(ctx, &PrivateKey{Type: EC, Curve: c.curve, D: d}, false)
		if err != nil {
			t.Fatal(err)
		}
		point := append([]byte{4}, append(bytes.Clone(taken.Public.X), taken.Public.Y...)...)
		compressed := append([]byte{2 | point[len(point)-1]&1}, taken.Public.X...)
		negated := append([]byte{3 ^ point[len(point)-1]&1}, taken.Public.X...)
		hybrid := append([]byte{6 | point[len(point)-1]&1}, point[1:]...)
		other := bytes.Clone(point)
		other[5] ^= 1
		for _, v := range []struct {
			name            string
			inside, outside []byte
			want            bool
		}{
			{"none", nil, nil, true},
			{"inside", point, nil, true},
			{"compressed", compressed, nil, true},
			{"outside", nil, point, true},
			{"compressed outside", nil, compressed, true},
			{"both", point, compressed, true},
			{"another inside", other, nil, false},
			{"the negated inside", negated, nil, false},
			{"a hybrid form", hybrid, nil, false},
			{"another outside", nil, other, false},
			{"the negated outside", point, negated, false},
			{"half of it", point[:len(point)-1], nil, false},
			{"infinity", []byte{0}, nil, false},
		} {
			wrapped, err := keywrap.WrapRSAAES(&parsed.(*rsa.PrivateKey).PublicKey, crypto.SHA1, writeEC(t, c.oid, d, v.inside, v.outside))
			if err != nil {
				t.Fatal(err)
			}
			got, err := s.ImportWrapped(ctx, kek, EC, wrapped)
			if v.want {
				if err != nil || !bytes.Equal(got.Public.X, taken.Public.X) {
					t.Errorf("%s, %s: %v", c.curve, v.name, err)
				}
				continue
			}
			var refused *Error
			if !errors.As(err, &refused) || refused.Kind != BadInput || !strings.Contains(refused.Message, "public half") || got.Blob != nil {
				t.Errorf("%s, %s: %v", c.curve, v.name, err)
			}
		}
	}
}

// writeEC writes PKCS#8 with a public half inside SEC 1, outside of it, or both.
func writeEC(t *testing.T, curve asn1.ObjectIdentifier, d, inside, outside []byte) []byte {
	t.Helper()
	marshal := func(v any) []byte {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	bits := func(b []byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }
	version := 0
	if outside != nil {
		version = 1
	}
	return marshal(struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Private   []byte
		Public    asn1.BitString `asn1:"optional,tag:1"`
	}{
		version,
		pkix.AlgorithmIdentifier{
			Algorithm: asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}, Parameters: asn1.RawValue{FullBytes: marshal(curve)},
		},
		marshal(struct {
			Version int
			D       []byte
			Public  asn1.BitString `asn1:"optional,explicit,tag:1"`
		}{1, d, bits(inside)}),
		bits(outside),
	})
}
