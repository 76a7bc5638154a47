package hsm

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"math/big"
	"strings"
	"testing"
)

// opensslP256K is a key on secp256k1 in PKCS#8, as OpenSSL 3.0 writes it.
const opensslP256K = "308184020100301006072a8648ce3d020106052b8104000a046d306b02010104201f518c2227c87fc45bab4bcf01e31e8a" +
	"0ec223d3052ebe077f1fe1fbc3831a17a14403420004a2a7c67fa3361b65be22c67202098c2b444c2eb5bff7dd5240888b6b9ed2f9fbee0d5b0f" +
	"da6dc6a2cbc84f5c8671d2f2615732dd9009c22e6ced98ef65023693"

func TestPKCS8OfOpenSSL(t *testing.T) {
	t.Parallel()
	der, err := hex.DecodeString(opensslP256K)
	if err != nil {
		t.Fatal(err)
	}
	key, err := parsePKCS8(der)
	if err != nil {
		t.Fatal(err)
	}
	if key.Type != EC || key.Curve != P256K || len(key.D) != 32 || key.D[0] != 0x1f || key.X[0] != 0xa2 || key.Y[31] != 0x93 {
		t.Errorf("another key: %s, %s", key.Type, key.Curve)
	}
	if got, err := encodeEC(P256K, key.D, append([]byte{4}, append(key.X, key.Y...)...)); err != nil || !bytes.Equal(got, der) {
		t.Errorf("we write %x, %v", got, err)
	}
	if m, err := openP256K(der); err != nil || m.spec() != (Spec{Type: EC, Curve: P256K}) {
		t.Errorf("%v, %v", m, err)
	}
}

// What crypto/x509 writes we read, to the same numbers; and EC keys we write as it does.
func TestPKCS8OfX509(t *testing.T) {
	t.Parallel()
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		der := mustMarshal(t, key)
		d, err := key.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		point, err := key.PublicKey.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if got, err := encodeEC(curveOf(c), d, point); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %x, %v; want %x", c.Params().Name, got, err, der)
		}
		parsed, err := parsePKCS8(der)
		if err != nil || !bytes.Equal(parsed.D, d) || !bytes.Equal(append(parsed.X, parsed.Y...), point[1:]) {
			t.Errorf("%s: another key, %v", c.Params().Name, err)
		}
	}
	key := newTestRSA(t)
	parsed, err := parsePKCS8(mustMarshal(t, key))
	if err != nil {
		t.Fatal(err)
	}
	for name, pair := range map[string][2][]byte{
		"n": {parsed.N, key.N.Bytes()}, "d": {parsed.D, key.D.Bytes()}, "e": {parsed.E, big.NewInt(int64(key.E)).Bytes()},
		"p": {parsed.P, key.Primes[0].Bytes()}, "q": {parsed.Q, key.Primes[1].Bytes()},
		"dp": {parsed.DP, key.Precomputed.Dp.Bytes()}, "dq": {parsed.DQ, key.Precomputed.Dq.Bytes()},
		"qi": {parsed.QI, key.Precomputed.Qinv.Bytes()},
	} {
		if !bytes.Equal(pair[0], pair[1]) {
			t.Errorf("another %s", name)
		}
	}
}

func newTestRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustMarshal(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func TestPKCS8Refuses(t *testing.T) {
	t.Parallel()
	asDER := func(v any) []byte {
		t.Helper()
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	d, point := bytes.Repeat([]byte{1}, 32), append([]byte{4}, make([]byte, 64)...)
	ec := func(oid asn1.ObjectIdentifier, inner sec1Key) []byte {
		return asDER(pkcs8{
			Algorithm:  pkix.AlgorithmIdentifier{Algorithm: oidEC(), Parameters: asn1.RawValue{FullBytes: asDER(oid)}},
			PrivateKey: asDER(inner),
		})
	}
	rsaKey := func(inner pkcs1Key) []byte {
		return asDER(pkcs8{Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidRSA()}, PrivateKey: asDER(inner)})
	}
	bits := func(b []byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }
	one := big.NewInt(1)
	good := ec(oidOf(P256), sec1Key{Version: 1, PrivateKey: d, PublicKey: bits(point)})
	if _, err := parsePKCS8(good); err != nil {
		t.Fatal(err)
	}
	if key, err := parsePKCS8(ec(oidOf(P256), sec1Key{Version: 1, PrivateKey: d})); err != nil || key.X != nil {
		t.Errorf("without a public half: %v", err)
	}
	for _, v := range []struct {
		name string
		der  []byte
		want string
	}{
		{"nothing", nil, "not in PKCS#8"},
		{"more behind it", append(bytes.Clone(good), 0), "not in PKCS#8"},
		{"too much", make([]byte, maxPKCS8+1), "longer"},
		{"another algorithm", asDER(pkcs8{Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 101, 112}}}), "neither"},
		{"another curve", ec(asn1.ObjectIdentifier{1, 3, 132, 0, 33}, sec1Key{Version: 1, PrivateKey: d}), "1.3.132.0.33"},
		{"no curve", asDER(pkcs8{Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidEC(), Parameters: asn1.NullRawValue}}), "name its curve"},
		{"two curves", ec(oidOf(P256), sec1Key{Version: 1, PrivateKey: d, Curve: oidOf(P384)}), "two curves"},
		{"another version", ec(oidOf(P256), sec1Key{Version: 2, PrivateKey: d}), "RFC 5915"},
		{"a compressed point", ec(oidOf(P256), sec1Key{Version: 1, PrivateKey: d, PublicKey: bits(append([]byte{2}, make([]byte, 32)...))}), "uncompressed"},
		{"half a byte", ec(oidOf(P256), sec1Key{Version: 1, PrivateKey: d, PublicKey: asn1.BitString{Bytes: point, BitLength: 8*len(point) - 1}}), "uncompressed"},
		{"the point at infinity", ec(oidOf(P256), sec1Key{Version: 1, PrivateKey: d, PublicKey: bits([]byte{4})}), "uncompressed"},
		{"three primes", rsaKey(pkcs1Key{1, one, one, one, one, one, one, one, one}), "two primes"},
		{"a negative number", rsaKey(pkcs1Key{0, one, one, one, one, big.NewInt(-1), one, one, one}), "not positive"},
		{"zero", rsaKey(pkcs1Key{0, one, one, one, one, one, one, one, new(big.Int)}), "not positive"},
		{"no PKCS#1", asDER(pkcs8{Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidRSA()}, PrivateKey: d}), "PKCS#1"},
	} {
		if key, err := parsePKCS8(v.der); err == nil || !strings.Contains(err.Error(), v.want) || key != nil {
			t.Errorf("%s: %v; want: %s", v.name, err, v.want)
		}
	}
}

// FuzzParsePKCS8 compares with crypto/x509 where both read a key.
func FuzzParsePKCS8(f *testing.F) {
	der, err := hex.DecodeString(opensslP256K)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P521()} {
		key, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(mustMarshal(f, key))
	}
	f.Add(mustMarshal(f, newTestRSA(f)))
	f.Fuzz(func(t *testing.T, der []byte) {
		key, err := parsePKCS8(der)
		if err != nil {
			return
		}
		other, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return
		}
		switch other := other.(type) {
		case *rsa.PrivateKey:
			if !bytes.Equal(other.N.Bytes(), key.N) || !bytes.Equal(other.D.Bytes(), key.D) {
				t.Fatal("another RSA key than x509 reads")
			}
		case *ecdsa.PrivateKey:
			// x509 ignores the public half that is written.
			d, err := other.Bytes()
			if err != nil || curveOf(other.Curve) != key.Curve || !bytes.Equal(trimZeros(d), trimZeros(key.D)) {
				t.Fatal("another EC key than x509 reads")
			}
		}
	})
}
