package pkcs8

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
	"errors"
	"math/big"
	"strings"
	"testing"
)

// Keys on secp256k1, as OpenSSL 3.0 writes them.
const (
	opensslP256K = "308184020100301006072a8648ce3d020106052b8104000a046d306b02010104201f518c2227c87fc45bab4bcf01e31e8a" +
		"0ec223d3052ebe077f1fe1fbc3831a17a14403420004a2a7c67fa3361b65be22c67202098c2b444c2eb5bff7dd5240888b6b9ed2f9fbee0d5b0f" +
		"da6dc6a2cbc84f5c8671d2f2615732dd9009c22e6ced98ef65023693"

	// In SEC 1, with a compressed point.
	opensslSEC1 = "3054020101042012b2326e9a414067555576590b4181b0aca1528efc926dd4301a0315bc4fcba8a00706052b8104000aa124032200" +
		"021d6f84f6ccd9a10610074e2eb30324382312cf775317dedbd80ad6e035ace9dc"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestOpenSSL(t *testing.T) {
	t.Parallel()
	der := unhex(t, opensslP256K)
	key, err := Parse(der)
	if err != nil {
		t.Fatal(err)
	}
	point := der[len(der)-65:]
	if key.Curve != P256K || len(key.D) != 32 || key.D[0] != 0x1f || !key.HasPoint(point) || len(key.points) != 1 {
		t.Errorf("another key: %s", key.Curve)
	}
	if got, err := MarshalEC(P256K, key.D, point); err != nil || !bytes.Equal(got, der) {
		t.Errorf("we write %x, %v", got, err)
	}
	if key, err := ParseSEC1(unhex(t, opensslSEC1)); err != nil || key.Curve != P256K || key.D[0] != 0x12 || len(key.points[0]) != 33 {
		t.Errorf("in SEC 1: %v", err)
	}
}

// What crypto/x509 writes we read, to the same numbers; and EC keys we write as it does.
func TestX509(t *testing.T) {
	t.Parallel()
	for name, c := range map[Curve]elliptic.Curve{P256: elliptic.P256(), P384: elliptic.P384(), P521: elliptic.P521()} {
		private, d, point := newEC(t, c)
		der := mustMarshal(t, private)
		if got, err := MarshalEC(name, d, point); err != nil || !bytes.Equal(got, der) {
			t.Errorf("%s: %x, %v; want %x", name, got, err, der)
		}
		public, err := x509.MarshalPKIXPublicKey(private.Public())
		if err != nil {
			t.Fatal(err)
		}
		if got, err := MarshalPublicEC(name, point); err != nil || !bytes.Equal(got, public) {
			t.Errorf("%s: %x, %v; want %x", name, got, err, public)
		}
		sec1, err := x509.MarshalECPrivateKey(private)
		if err != nil {
			t.Fatal(err)
		}
		key, err := Parse(der)
		key2, err2 := ParseSEC1(sec1)
		if err := errors.Join(err, err2); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, key := range []*Key{key, key2} {
			if key.Curve != name || !bytes.Equal(key.D, d) || !key.HasPoint(point) || len(key.points) != 1 {
				t.Errorf("%s: another key, on %s", name, key.Curve)
			}
		}
	}
	private := newRSA(t)
	for name, parse := range map[string]func() (*Key, error){
		"PKCS#8": func() (*Key, error) { return Parse(mustMarshal(t, private)) },
		"PKCS#1": func() (*Key, error) { return ParsePKCS1(x509.MarshalPKCS1PrivateKey(private)) },
	} {
		key, err := parse()
		if err != nil {
			t.Fatal(name, err)
		}
		for member, pair := range map[string][2][]byte{
			"n": {key.N, private.N.Bytes()}, "d": {key.D, private.D.Bytes()}, "e": {key.E, big.NewInt(int64(private.E)).Bytes()},
			"p": {key.P, private.Primes[0].Bytes()}, "q": {key.Q, private.Primes[1].Bytes()},
			"dp": {key.DP, private.Precomputed.Dp.Bytes()}, "dq": {key.DQ, private.Precomputed.Dq.Bytes()},
			"qi": {key.QI, private.Precomputed.Qinv.Bytes()},
		} {
			if !bytes.Equal(pair[0], pair[1]) {
				t.Errorf("%s: another %s", name, member)
			}
		}
		if key.Curve != "" {
			t.Errorf("%s: an RSA key on %s", name, key.Curve)
		}
	}
}

func newEC(t testing.TB, c elliptic.Curve) (key *ecdsa.PrivateKey, d, point []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, err = key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	point, err = key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return key, d, point
}

func newRSA(t testing.TB) *rsa.PrivateKey {
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

// The formats as encoding/asn1 writes them, with what they may have and with what they may not.

type oneKey struct {
	Version    int
	Algorithm  pkix.AlgorithmIdentifier
	PrivateKey []byte
	Attributes []asn1.RawValue `asn1:"optional,set,tag:0"`
	PublicKey  asn1.BitString  `asn1:"optional,tag:1"`
	More       []asn1.RawValue `asn1:"optional,tag:2"`
}

type rsaKey struct {
	Version                   int
	N, E, D, P, Q, DP, DQ, QI *big.Int
	Others                    []asn1.RawValue `asn1:"optional"`
}

type ecKey struct {
	Version    int
	PrivateKey []byte
	Curve      asn1.RawValue  `asn1:"optional"`
	PublicKey  asn1.BitString `asn1:"optional,explicit,tag:1"`
	More       int            `asn1:"optional"`
}

func asDER(t testing.TB, v any) []byte {
	t.Helper()
	der, err := asn1.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func bitString(b []byte) asn1.BitString { return asn1.BitString{Bytes: b, BitLength: 8 * len(b)} }

func ecAlgorithm(t testing.TB, curve any) pkix.AlgorithmIdentifier {
	t.Helper()
	return pkix.AlgorithmIdentifier{Algorithm: oidEC(), Parameters: asn1.RawValue{FullBytes: asDER(t, curve)}}
}

func rsaAlgorithm() pkix.AlgorithmIdentifier {
	return pkix.AlgorithmIdentifier{Algorithm: oidRSA(), Parameters: asn1.NullRawValue}
}

// someRSA has numbers that are no key's.
func someRSA() rsaKey {
	n := func(n int64) *big.Int { return big.NewInt(n) }
	return rsaKey{N: n(1001), E: n(3), D: n(5), P: n(7), Q: n(11), DP: n(13), DQ: n(17), QI: n(19)}
}

func TestForms(t *testing.T) {
	t.Parallel()
	d, point := bytes.Repeat([]byte{1}, 32), append([]byte{4}, bytes.Repeat([]byte{3}, 64)...)
	compressed := append([]byte{3}, point[1:33]...)
	attribute := []asn1.RawValue{{FullBytes: asDER(t, pkix.AttributeTypeAndValue{Type: oidEC(), Value: "x"})}}
	explicit := func(params any) asn1.RawValue {
		return asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: asDER(t, params)}
	}
	curve := explicit(oidOf(P256))
	inner := asDER(t, ecKey{Version: 1, PrivateKey: d})
	public := func(n, e int64) asn1.BitString { return bitString(asDER(t, []*big.Int{big.NewInt(n), big.NewInt(e)})) }
	for _, tc := range []struct {
		name string
		key  oneKey
	}{
		{"no public half", oneKey{PrivateKey: inner}},
		{"version 1", oneKey{Version: 1, PrivateKey: inner}},
		{"attributes", oneKey{PrivateKey: inner, Attributes: attribute}},
		{"the curve twice", oneKey{PrivateKey: asDER(t, ecKey{Version: 1, PrivateKey: d, Curve: curve})}},
		{"a public half inside", oneKey{PrivateKey: asDER(t, ecKey{Version: 1, PrivateKey: d, PublicKey: bitString(point)})}},
		{"a compressed one", oneKey{PrivateKey: asDER(t, ecKey{Version: 1, PrivateKey: d, PublicKey: bitString(compressed)})}},
		{"one outside", oneKey{Version: 1, PrivateKey: inner, PublicKey: bitString(point)}},
		{"a compressed one outside, and attributes", oneKey{Version: 1, PrivateKey: inner, Attributes: attribute, PublicKey: bitString(compressed)}},
		{"RSA", oneKey{Algorithm: rsaAlgorithm(), PrivateKey: asDER(t, someRSA())}},
		{"RSA without NULL", oneKey{Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidRSA()}, PrivateKey: asDER(t, someRSA())}},
		{"RSA with its public half", oneKey{Version: 1, Algorithm: rsaAlgorithm(), PrivateKey: asDER(t, someRSA()), PublicKey: public(1001, 3)}},
	} {
		if tc.key.Algorithm.Algorithm == nil {
			tc.key.Algorithm = ecAlgorithm(t, oidOf(P256))
		}
		key, err := Parse(asDER(t, tc.key))
		if err != nil || !key.HasPoint(point) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
	for _, tc := range []struct {
		name string
		key  oneKey
		want string
	}{
		{"version 2", oneKey{Version: 2, PrivateKey: inner}, "not in PKCS#8"},
		{"version 7", oneKey{Version: 7, PrivateKey: inner}, "not in PKCS#8"},
		{"version -1", oneKey{Version: -1, PrivateKey: inner}, "not in PKCS#8"},
		{"a public half in version 0", oneKey{PrivateKey: inner, PublicKey: bitString(point)}, "not in PKCS#8"},
		{"a part too many", oneKey{PrivateKey: inner, More: attribute}, "not in PKCS#8"},
		{"half a byte", oneKey{Version: 1, PrivateKey: inner, PublicKey: asn1.BitString{Bytes: point, BitLength: 8*len(point) - 1}}, "not in PKCS#8"},
		{"another algorithm", oneKey{Algorithm: pkix.AlgorithmIdentifier{Algorithm: asn1.ObjectIdentifier{1, 3, 101, 112}}}, "neither"},
		{"another curve", oneKey{Algorithm: ecAlgorithm(t, asn1.ObjectIdentifier{1, 3, 132, 0, 33}), PrivateKey: inner}, "1.3.132.0.33,"},
		{"no curve", oneKey{Algorithm: ecAlgorithm(t, asn1.NullRawValue), PrivateKey: inner}, "name its curve"},
		{"two curves", oneKey{Algorithm: ecAlgorithm(t, oidOf(P384)), PrivateKey: asDER(t, ecKey{Version: 1, PrivateKey: d, Curve: curve})}, "two curves"},
		{"other parameters", oneKey{PrivateKey: asDER(t, ecKey{Version: 1, PrivateKey: d, Curve: explicit(asn1.NullRawValue)})}, "name its curve"},
		{"another version of SEC 1", oneKey{PrivateKey: asDER(t, ecKey{Version: 2, PrivateKey: d})}, "not that of SEC 1"},
		{"a part too many in SEC 1", oneKey{PrivateKey: asDER(t, ecKey{Version: 1, PrivateKey: d, More: 5})}, "not that of SEC 1"},
		{"more behind SEC 1", oneKey{PrivateKey: append(bytes.Clone(inner), 0)}, "not that of SEC 1"},
		{"half a byte in SEC 1", oneKey{PrivateKey: asDER(t, ecKey{
			Version: 1, PrivateKey: d, PublicKey: asn1.BitString{Bytes: point, BitLength: 8*len(point) - 1}})}, "not that of SEC 1"},
		{"parameters of RSA", oneKey{Algorithm: pkix.AlgorithmIdentifier{Algorithm: oidRSA(), Parameters: curve}, PrivateKey: asDER(t, someRSA())},
			"not in PKCS#8"},
		{"no PKCS#1", oneKey{Algorithm: rsaAlgorithm(), PrivateKey: d}, "PKCS#1"},
		{"more behind PKCS#1", oneKey{Algorithm: rsaAlgorithm(), PrivateKey: append(asDER(t, someRSA()), 0)}, "PKCS#1"},
		{"three primes", oneKey{Algorithm: rsaAlgorithm(), PrivateKey: asDER(t, changed(func(k *rsaKey) { k.Version = 1; k.Others = attribute }))}, "two primes"},
		{"three primes in version 0", oneKey{Algorithm: rsaAlgorithm(), PrivateKey: asDER(t, changed(func(k *rsaKey) { k.Others = attribute }))}, "two primes"},
		{"a negative number", oneKey{Algorithm: rsaAlgorithm(), PrivateKey: asDER(t, changed(func(k *rsaKey) { k.Q = big.NewInt(-1) }))}, "PKCS#1"},
		{"another n", oneKey{Version: 1, Algorithm: rsaAlgorithm(), PrivateKey: asDER(t, someRSA()), PublicKey: public(1003, 3)}, "another key's public half"},
		{"another e", oneKey{Version: 1, Algorithm: rsaAlgorithm(), PrivateKey: asDER(t, someRSA()), PublicKey: public(1001, 5)}, "another key's public half"},
		{"a point with RSA", oneKey{Version: 1, Algorithm: rsaAlgorithm(), PrivateKey: asDER(t, someRSA()), PublicKey: bitString(point)}, "another key's public half"},
	} {
		if tc.key.Algorithm.Algorithm == nil {
			tc.key.Algorithm = ecAlgorithm(t, oidOf(P256))
		}
		if key, err := Parse(asDER(t, tc.key)); err == nil || !strings.Contains(err.Error(), tc.want) || key != nil {
			t.Errorf("%s: %v; want: %s", tc.name, err, tc.want)
		}
	}
}

func changed(change func(*rsaKey)) rsaKey {
	k := someRSA()
	change(&k)
	return k
}

func TestBounds(t *testing.T) {
	t.Parallel()
	good := asDER(t, oneKey{Algorithm: rsaAlgorithm(), PrivateKey: asDER(t, someRSA())})
	for name, parse := range map[string]func([]byte) (*Key, error){"PKCS#8": Parse, "PKCS#1": ParsePKCS1, "SEC 1": ParseSEC1} {
		for what, der := range map[string][]byte{
			"nothing": nil, "more behind it": append(bytes.Clone(good), 0), "too much": make([]byte, MaxLen+1), "indefinite": {0x30, 0x80, 0, 0},
		} {
			if key, err := parse(der); err == nil || key != nil {
				t.Errorf("%s of %s: %v", name, what, key)
			}
		}
	}
	long := make(asn1.ObjectIdentifier, 1000)
	long[0], long[999] = 1, 1<<30
	_, err := Parse(asDER(t, oneKey{Algorithm: ecAlgorithm(t, long)}))
	if err == nil || len(err.Error()) > 200 {
		t.Errorf("of a long name of a curve: %v", err)
	}
	if _, err := ParseSEC1(asDER(t, ecKey{Version: 1, PrivateKey: []byte{1}})); err == nil || !strings.Contains(err.Error(), "name its curve") {
		t.Errorf("SEC 1 without a curve: %v", err)
	}
	for name, marshal := range map[string]func() ([]byte, error){
		"private": func() ([]byte, error) { return MarshalEC("P-224", []byte{1}, []byte{4, 1, 2}) },
		"public":  func() ([]byte, error) { return MarshalPublicEC("", []byte{4, 1, 2}) },
	} {
		if der, err := marshal(); err == nil {
			t.Errorf("%s key on an unknown curve: %x", name, der)
		}
	}
}

func TestHasPoint(t *testing.T) {
	t.Parallel()
	even, odd := []byte{4, 7, 8, 9, 10}, []byte{4, 7, 8, 9, 11}
	for _, tc := range []struct {
		stated [][]byte
		point  []byte
		want   bool
	}{
		{nil, even, true},
		{[][]byte{even}, even, true},
		{[][]byte{even}, odd, false},
		{[][]byte{{2, 7, 8}}, even, true},
		{[][]byte{{3, 7, 8}}, even, false},
		{[][]byte{{3, 7, 8}}, odd, true},
		{[][]byte{{2, 7, 8}}, odd, false},
		{[][]byte{{2, 7, 9}}, even, false},
		{[][]byte{{6, 7, 8, 9, 10}}, even, false},
		{[][]byte{{}}, even, false},
		{[][]byte{even, {2, 7, 8}}, even, true},
		{[][]byte{even, odd}, even, false},
		{[][]byte{odd, even}, even, false},
	} {
		if got := (&Key{points: tc.stated}).HasPoint(tc.point); got != tc.want {
			t.Errorf("%v is %v: %v", tc.stated, tc.point, got)
		}
	}
}

// FuzzParse compares with crypto/x509 where both read a key, and sees to it that what is read can be read in one way only.
func FuzzParse(f *testing.F) {
	f.Add(unhex(f, opensslP256K))
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P521()} {
		key, _, _ := newEC(f, c)
		f.Add(mustMarshal(f, key))
	}
	f.Add(mustMarshal(f, newRSA(f)))
	f.Add(asDER(f, oneKey{Version: 1, Algorithm: rsaAlgorithm(), PrivateKey: asDER(f, someRSA()), Attributes: []asn1.RawValue{}}))
	f.Fuzz(func(t *testing.T, der []byte) {
		key, err := Parse(der)
		if err != nil {
			return
		}
		// A reader that forgives more reads the same.
		var lenient struct {
			Version    int
			Algorithm  pkix.AlgorithmIdentifier
			PrivateKey []byte
		}
		if rest, err := asn1.Unmarshal(der, &lenient); err != nil || len(rest) > 0 {
			t.Fatalf("read by us alone: %v", err)
		}
		other, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return
		}
		switch other := other.(type) {
		case *rsa.PrivateKey:
			if !bytes.Equal(other.N.Bytes(), key.N) || !bytes.Equal(other.D.Bytes(), key.D) || key.Curve != "" {
				t.Fatal("another RSA key than x509 reads")
			}
		case *ecdsa.PrivateKey:
			d, err := other.Bytes()
			if err != nil || other.Curve.Params().Name != string(key.Curve) || !bytes.Equal(bytes.TrimLeft(d, "\x00"), bytes.TrimLeft(key.D, "\x00")) {
				t.Fatal("another EC key than x509 reads")
			}
		}
	})
}
