package hsmtest

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/keywrap"
)

// NewRSA makes a key outside of a provider and returns its members. Under fips140=only, too, the size may be any.
func NewRSA(t testing.TB, bits int) (hsm.PrivateKey, *rsa.PrivateKey) {
	t.Helper()
	var (
		key *rsa.PrivateKey
		err error
	)
	fips140.WithoutEnforcement(func() { key, err = rsa.GenerateKey(rand.Reader, bits) })
	if err != nil {
		t.Fatal(err)
	}
	return RSAMembers(key), key
}

// RSAMembers returns the members of a key.
func RSAMembers(key *rsa.PrivateKey) hsm.PrivateKey {
	return hsm.PrivateKey{
		Type: hsm.RSA,
		N:    key.N.Bytes(), E: big.NewInt(int64(key.E)).Bytes(), D: key.D.Bytes(),
		P: key.Primes[0].Bytes(), Q: key.Primes[1].Bytes(),
		DP: key.Precomputed.Dp.Bytes(), DQ: key.Precomputed.Dq.Bytes(), QI: key.Precomputed.Qinv.Bytes(),
	}
}

// NewEC makes a key outside of a provider and returns its members.
func NewEC(t testing.TB, c hsm.Curve) hsm.PrivateKey {
	t.Helper()
	if c == hsm.P256K {
		key, err := secp256k1.GeneratePrivateKey()
		if err != nil {
			t.Fatal(err)
		}
		point := key.PubKey().SerializeUncompressed()
		return hsm.PrivateKey{Type: hsm.EC, Curve: c, D: key.Serialize(), X: point[1:33], Y: point[33:]}
	}
	key, err := ecdsa.GenerateKey(curve(c), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	d, err := key.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	n := coordinateLen(c)
	return hsm.PrivateKey{Type: hsm.EC, Curve: c, D: d, X: point[1 : 1+n], Y: point[1+n:]}
}

func curves() []hsm.Curve { return []hsm.Curve{hsm.P256, hsm.P256K, hsm.P384, hsm.P521} }

// edit changes one copy of a key.
type edit func(*hsm.PrivateKey)

func copyOf(k hsm.PrivateKey) hsm.PrivateKey {
	for _, m := range membersOf(&k) {
		*m = bytes.Clone(*m)
	}
	return k
}

func membersOf(k *hsm.PrivateKey) map[string]*[]byte {
	return map[string]*[]byte{
		"n": &k.N, "e": &k.E, "d": &k.D, "p": &k.P, "q": &k.Q, "dp": &k.DP, "dq": &k.DQ, "qi": &k.QI,
		"x": &k.X, "y": &k.Y, "k": &k.K,
	}
}

// imports takes in keys in all the forms that are right.
func (s *suite) imports(t *testing.T) {
	withZeros := func(k *hsm.PrivateKey) {
		for _, m := range membersOf(k) {
			if len(*m) > 0 {
				*m = append(make([]byte, 5), *m...)
			}
		}
	}
	rsaKey, _ := NewRSA(t, 2048)
	for name, change := range map[string]edit{
		"as it is":         func(*hsm.PrivateKey) {},
		"zeros in front":   withZeros,
		"no dp, dq and qi": func(k *hsm.PrivateKey) { k.DP, k.DQ, k.QI = nil, nil, nil },
		"more than it has": func(k *hsm.PrivateKey) { k.K, k.X, k.Curve = []byte{1}, []byte{2}, hsm.P256 },
		"p and q swapped": func(k *hsm.PrivateKey) {
			k.P, k.Q, k.DP, k.DQ = k.Q, k.P, k.DQ, k.DP
			k.QI = new(big.Int).ModInverse(new(big.Int).SetBytes(k.Q), new(big.Int).SetBytes(k.P)).Bytes()
		},
		"d plus λ(n), or less it": func(k *hsm.PrivateKey) { // both do; the tools differ
			lambda := lambda(new(big.Int).SetBytes(k.P), new(big.Int).SetBytes(k.Q))
			d, n := new(big.Int).SetBytes(k.D), new(big.Int).SetBytes(k.N)
			if d.Add(d, lambda); d.Cmp(n) >= 0 {
				d.Sub(d, lambda).Sub(d, lambda)
			}
			if d.Sign() > 0 {
				k.D = d.Bytes()
			}
		},
	} {
		k := copyOf(rsaKey)
		change(&k)
		s.importAndSign(t, "RSA, "+name, k, hsm.PS256, 32)
	}
	for _, c := range curves() {
		k := NewEC(t, c)
		a := algorithms()[slices.IndexFunc(algorithms(), func(a algorithm) bool { return a.keys[0] == string(c) })]
		s.importAndSign(t, string(c), k, a.name, a.digest)
		k = copyOf(k)
		withZeros(&k)
		s.importAndSign(t, string(c)+", zeros in front", k, a.name, a.digest)
		k = copyOf(k)
		for _, m := range membersOf(&k) {
			*m = bytes.TrimLeft(*m, "\x00")
		}
		s.importAndSign(t, string(c)+", no zeros in front", k, a.name, a.digest)
	}
}

func lambda(p, q *big.Int) *big.Int {
	one := big.NewInt(1)
	p1, q1 := new(big.Int).Sub(p, one), new(big.Int).Sub(q, one)
	product := new(big.Int).Mul(p1, q1)
	return product.Div(product, new(big.Int).GCD(nil, nil, p1, q1))
}

// importAndSign takes a key in, checks that it is the same one, and lets it sign. It checks that the provider keeps no part
// of what it was given.
func (s *suite) importAndSign(t *testing.T, name string, k hsm.PrivateKey, alg hsm.Algorithm, digestLen int) {
	t.Helper()
	given := copyOf(k)
	taken, err := s.p.Import(t.Context(), given)
	for _, m := range membersOf(&given) {
		clear(*m)
	}
	curve := string(k.Curve)
	if k.Type != hsm.EC {
		curve = "no curve"
	}
	if !s.supported(t, err, curve) {
		return
	}
	for m, same := range map[string]bool{
		"n": sameNumber(taken.Public.N, k.N), "e": sameNumber(taken.Public.E, k.E),
		"x": k.Type != hsm.EC || sameNumber(taken.Public.X, k.X), "y": k.Type != hsm.EC || sameNumber(taken.Public.Y, k.Y),
	} {
		if !same {
			t.Errorf("%s: another %s", name, m)
		}
	}
	opened, err := s.p.Open(t.Context(), taken.Spec, taken.Blob)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	checkPublic(t, name, taken)
	digest := make([]byte, digestLen)
	signature, err := opened.Sign(t.Context(), alg, digest)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	i := slices.IndexFunc(algorithms(), func(a algorithm) bool { return a.name == alg })
	if !verifyElsewhere(&key{name: name, New: taken}, algorithms()[i], digest, signature) {
		t.Errorf("%s: the signature is wrong", name)
	}
}

func sameNumber(a, b []byte) bool {
	return bytes.Equal(bytes.TrimLeft(a, "\x00"), bytes.TrimLeft(b, "\x00"))
}

// importRefuses gives keys that are wrong in one way each.
func (s *suite) importRefuses(t *testing.T) {
	whole, key := NewRSA(t, 2048)
	other, _ := NewRSA(t, 2048)
	small, _ := NewRSA(t, 1024)
	one := big.NewInt(1)
	refuse := func(name string, k hsm.PrivateKey) {
		t.Helper()
		_, err := s.p.Import(t.Context(), k)
		wantKind(t, name, err, hsm.BadInput)
		checkSilent(t, name, err, k)
	}
	for name := range membersOf(&whole) {
		if name == "x" || name == "y" || name == "k" {
			continue
		}
		for what, change := range map[string]func([]byte) []byte{
			"missing":       func([]byte) []byte { return nil },
			"zero":          func(b []byte) []byte { return make([]byte, len(b)) },
			"one":           func([]byte) []byte { return []byte{1} },
			"one more":      func(b []byte) []byte { return new(big.Int).Add(new(big.Int).SetBytes(b), one).Bytes() },
			"two more":      func(b []byte) []byte { return new(big.Int).Add(new(big.Int).SetBytes(b), big.NewInt(2)).Bytes() },
			"a byte longer": func(b []byte) []byte { return append([]byte{1}, b...) },
			"a megabyte":    func(b []byte) []byte { return bytes.Repeat([]byte{0xA5}, 1<<20) },
			"all ones":      func(b []byte) []byte { return bytes.Repeat([]byte{0xFF}, len(b)) },
		} {
			k := copyOf(whole)
			m := membersOf(&k)[name]
			*m = change(*m)
			refuse(fmt.Sprintf("RSA with its %s %s", name, what), k)
		}
		k := copyOf(whole)
		*membersOf(&k)[name] = *membersOf(&other)[name]
		if name != "e" {
			refuse(fmt.Sprintf("RSA with the %s of another key", name), k)
		}
	}
	refuse("RSA of 1024 bits", small)
	refuse("RSA with an exponent of 3", withExponent3(t))
	refuse("RSA with a composite p", composite(t, key.Primes[1]))
	refuse("RSA with one prime twice", fromPrimes(key.Primes[0], key.Primes[0]))
	refuse("RSA with two neighbours", neighbours(t, key.Primes[0]))
	refuse("RSA with primes of different lengths", uneven(t))
	refuse("RSA with a divisor of p-1 and q-1", sharedDivisor(t))
	refuse("RSA as of CVE-2017-15361", roca(t))
	refuse("RSA of no members", hsm.PrivateKey{Type: hsm.RSA})
	swapped := copyOf(whole)
	swapped.P, swapped.Q = swapped.Q, swapped.P
	refuse("RSA with p and q swapped alone", swapped)

	s.importRefusesEC(t, refuse)

	for _, n := range []int{0, 1, 8, 15, 17, 20, 31, 33, 40, 56, 63, 65, 128, 1 << 20} {
		refuse(fmt.Sprintf("oct of %d bytes", n), hsm.PrivateKey{Type: hsm.Oct, K: make([]byte, n)})
	}
	refuse("no type", hsm.PrivateKey{K: make([]byte, 16)})
	refuse("an unknown type", hsm.PrivateKey{Type: "OKP", D: make([]byte, 32)})
}

func (s *suite) importRefusesEC(t *testing.T, refuse func(string, hsm.PrivateKey)) {
	for _, c := range curves() {
		if slices.Contains(s.unsupported, string(c)) {
			continue
		}
		whole, other := NewEC(t, c), NewEC(t, c)
		order, field := secp256k1.Params().N, secp256k1.Params().P
		if c != hsm.P256K {
			order, field = curve(c).Params().N, curve(c).Params().P
		}
		size := coordinateLen(c)
		for name, change := range map[string]edit{
			"no d":                func(k *hsm.PrivateKey) { k.D = nil },
			"no x":                func(k *hsm.PrivateKey) { k.X = nil },
			"no y":                func(k *hsm.PrivateKey) { k.Y = nil },
			"neither x nor y":     func(k *hsm.PrivateKey) { k.X, k.Y = nil, nil },
			"d zero":              func(k *hsm.PrivateKey) { k.D = make([]byte, size) },
			"d the order":         func(k *hsm.PrivateKey) { k.D = order.Bytes() },
			"d the order and one": func(k *hsm.PrivateKey) { k.D = new(big.Int).Add(order, big.NewInt(1)).Bytes() },
			"d plus the order": func(k *hsm.PrivateKey) {
				k.D = new(big.Int).Add(new(big.Int).SetBytes(k.D), order).Bytes()
			},
			"d all ones":       func(k *hsm.PrivateKey) { k.D = bytes.Repeat([]byte{0xFF}, size) },
			"a longer d":       func(k *hsm.PrivateKey) { k.D = append([]byte{1}, append(make([]byte, size-len(k.D)), k.D...)...) },
			"a longer x":       func(k *hsm.PrivateKey) { k.X = append([]byte{1}, k.X...) },
			"a longer y":       func(k *hsm.PrivateKey) { k.Y = append([]byte{1}, k.Y...) },
			"a megabyte of x":  func(k *hsm.PrivateKey) { k.X = bytes.Repeat([]byte{1}, 1<<20) },
			"a point off":      func(k *hsm.PrivateKey) { k.Y[size-1] ^= 1 },
			"the point zero":   func(k *hsm.PrivateKey) { k.X, k.Y = make([]byte, size), make([]byte, size) },
			"x and y swapped":  func(k *hsm.PrivateKey) { k.X, k.Y = k.Y, k.X },
			"another's point":  func(k *hsm.PrivateKey) { k.X, k.Y = other.X, other.Y },
			"another's d":      func(k *hsm.PrivateKey) { k.D = other.D },
			"an unknown curve": func(k *hsm.PrivateKey) { k.Curve = "P-224" },
			"no curve":         func(k *hsm.PrivateKey) { k.Curve = "" },
			"the wrong curve":  func(k *hsm.PrivateKey) { k.Curve = map[bool]hsm.Curve{true: hsm.P384, false: hsm.P256}[c == hsm.P256] },
			"the point negated": func(k *hsm.PrivateKey) {
				k.Y = new(big.Int).Sub(field, new(big.Int).SetBytes(k.Y)).FillBytes(make([]byte, size))
			},
			"x plus the field": func(k *hsm.PrivateKey) { k.X = new(big.Int).Add(field, new(big.Int).SetBytes(k.X)).Bytes() },
		} {
			k := copyOf(whole)
			change(&k)
			refuse(string(c)+" with "+name, k)
		}
	}
}

// checkSilent looks for members of a key in what an error says.
func checkSilent(t *testing.T, name string, err error, k hsm.PrivateKey) {
	t.Helper()
	text := strings.ToLower(fmt.Sprintf("%v %+v %#v", err, err, err))
	for member, value := range membersOf(&k) {
		if len(*value) < 4 || len(*value) > 1024 {
			continue
		}
		part := (*value)[len(*value)-4:] // the part that no leading zeros hide
		for _, form := range []string{
			hex.EncodeToString(part), base64.RawURLEncoding.EncodeToString((*value)[:min(len(*value), 6)]),
			new(big.Int).SetBytes(*value).String(), string(part),
		} {
			if len(form) >= 4 && strings.Contains(text, strings.ToLower(form)) {
				t.Errorf("%s: the error shows %q: %v", name, member, err)
			}
		}
	}
}

// fromPrimes makes a key of any two numbers.
func fromPrimes(p, q *big.Int) hsm.PrivateKey {
	e := big.NewInt(65537)
	d := new(big.Int).ModInverse(e, lambda(p, q))
	if d == nil {
		d = big.NewInt(1)
	}
	return hsm.PrivateKey{
		Type: hsm.RSA, N: new(big.Int).Mul(p, q).Bytes(), E: e.Bytes(), D: d.Bytes(), P: p.Bytes(), Q: q.Bytes(),
	}
}

func prime(t testing.TB, bits int) *big.Int {
	t.Helper()
	var (
		p   *big.Int
		err error
	)
	fips140.WithoutEnforcement(func() { p, err = rand.Prime(rand.Reader, bits) })
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// withExponent3 makes a key of which everything is right but that its exponent is tiny.
func withExponent3(t testing.TB) hsm.PrivateKey {
	t.Helper()
	three := big.NewInt(3)
	var primes []*big.Int // 2 modulo 3, so that 3 has an inverse modulo λ(n)
	for len(primes) < 2 {
		if p := prime(t, 1024); new(big.Int).Mod(p, three).Cmp(big.NewInt(2)) == 0 {
			primes = append(primes, p)
		}
	}
	k := fromPrimes(primes[0], primes[1])
	k.E, k.D = three.Bytes(), new(big.Int).ModInverse(three, lambda(primes[0], primes[1])).Bytes()
	return k
}

// composite makes a key of which everything is right but that p is no prime.
func composite(t testing.TB, q *big.Int) hsm.PrivateKey {
	t.Helper()
	for {
		p := new(big.Int).Mul(prime(t, 512), prime(t, 512))
		k := fromPrimes(p, q)
		if p.BitLen() == 1024 && len(k.D) > 8 && new(big.Int).SetBytes(k.N).BitLen() == 2048 {
			return k
		}
	}
}

func neighbours(t testing.TB, p *big.Int) hsm.PrivateKey {
	t.Helper()
	q := new(big.Int).Set(p)
	for {
		if q.Add(q, big.NewInt(2)); q.ProbablyPrime(0) {
			if k := fromPrimes(p, q); len(k.D) > 8 {
				return k
			}
		}
	}
}

func uneven(t testing.TB) hsm.PrivateKey {
	t.Helper()
	for {
		k := fromPrimes(prime(t, 1040), prime(t, 1008))
		if new(big.Int).SetBytes(k.N).BitLen() == 2048 && len(k.D) > 8 {
			return k
		}
	}
}

// sharedDivisor makes a key of which everything is right but that p-1 and q-1 have a large common divisor: p is 2ga+1 and q is 2gb+1.
func sharedDivisor(t testing.TB) hsm.PrivateKey {
	t.Helper()
	step := prime(t, 900)
	step.Lsh(step, 1)
	return fromCraftedPrimes(t, func(random *big.Int) *big.Int {
		random.Rsh(random, 901)
		p := new(big.Int).Mul(step, random)
		return p.Add(p, big.NewInt(1))
	})
}

// roca makes a key as the library did that CVE-2017-15361 is about: p and q are k·M + (65537^a mod M), where M is the product of the
// first 126 primes.
func roca(t testing.TB) hsm.PrivateKey {
	t.Helper()
	m := big.NewInt(1)
	for n, found := int64(2), 0; found < 126; n++ {
		if candidate := big.NewInt(n); candidate.ProbablyPrime(0) {
			m.Mul(m, candidate)
			found++
		}
	}
	return fromCraftedPrimes(t, func(random *big.Int) *big.Int {
		p := new(big.Int).Div(random, m)
		p.Mul(p, m)
		return p.Add(p, new(big.Int).Exp(big.NewInt(65537), random, m))
	})
}

// fromCraftedPrimes makes a key of 2048 bits of the first primes that craft makes of random numbers of 1024 bits.
func fromCraftedPrimes(t testing.TB, craft func(*big.Int) *big.Int) hsm.PrivateKey {
	t.Helper()
	var primes []*big.Int
	for len(primes) < 2 {
		b := make([]byte, 128)
		rand.Read(b)
		b[0] |= 0xC0
		if p := craft(new(big.Int).SetBytes(b)); p.BitLen() == 1024 && p.ProbablyPrime(0) {
			primes = append(primes, p)
		}
	}
	k := fromPrimes(primes[0], primes[1])
	if len(k.N) != 256 || len(k.D) < 8 {
		return fromCraftedPrimes(t, craft)
	}
	return k
}

// pkcs8 encodes a key as other software does.
func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// importWrapped brings keys in that are wrapped for one of the provider's.
func (s *suite) importWrapped(t *testing.T) {
	kek := s.key("RSA-2048")
	wrap := func(target []byte) []byte {
		t.Helper()
		wrapped, err := keywrap.WrapRSAAES(rsaPublic(kek.Public), crypto.SHA1, target)
		if err != nil {
			t.Fatal(err)
		}
		return wrapped
	}
	if slices.Contains(s.unsupported, ImportWrapped) {
		_, err := s.p.ImportWrapped(t.Context(), kek.Key, hsm.Oct, make([]byte, 256+24))
		wantKind(t, ImportWrapped, err, hsm.Unsupported)
		return
	}

	raw := make([]byte, 32)
	rand.Read(raw)
	_, rsaKey := NewRSA(t, 2048)
	targets := []struct {
		kind hsm.KeyType
		der  []byte
		spec hsm.Spec
	}{
		{hsm.Oct, raw, hsm.Spec{Type: hsm.Oct, Bits: 256}},
		{hsm.RSA, pkcs8(t, rsaKey), hsm.Spec{Type: hsm.RSA, Bits: 2048, Exponent: 65537}},
	}
	for _, c := range []hsm.Curve{hsm.P256, hsm.P384, hsm.P521} {
		key, err := ecdsa.GenerateKey(curve(c), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		targets = append(targets, struct {
			kind hsm.KeyType
			der  []byte
			spec hsm.Spec
		}{hsm.EC, pkcs8(t, key), hsm.Spec{Type: hsm.EC, Curve: c}})
	}
	for _, target := range targets {
		taken, err := s.p.ImportWrapped(t.Context(), kek.Key, target.kind, wrap(target.der))
		if err != nil || taken.Spec != target.spec {
			t.Errorf("%v: %v, %v", target.spec, taken, err)
			continue
		}
		opened, err := s.p.Open(t.Context(), taken.Spec, taken.Blob)
		if err != nil {
			t.Errorf("%v: %v", target.spec, err)
			continue
		}
		// What comes out again is what went in.
		if got := s.exported(t, opened, crypto.SHA256); !bytes.Equal(got, target.der) {
			t.Errorf("%v changed on the way", target.spec)
		}
		for _, kind := range []hsm.KeyType{hsm.RSA, hsm.EC, "OKP", ""} {
			if kind != target.kind {
				_, err := s.p.ImportWrapped(t.Context(), kek.Key, kind, wrap(target.der))
				wantKind(t, fmt.Sprintf("%v as %q", target.spec, kind), err, hsm.BadInput)
			}
		}
	}
	_, err := s.p.ImportWrapped(t.Context(), kek.Key, hsm.Oct, wrap(targets[1].der))
	wantKind(t, "RSA as oct", err, hsm.BadInput)
	s.importWrappedRefuses(t, kek, wrap, raw)
}

func (s *suite) importWrappedRefuses(t *testing.T, kek *key, wrap func([]byte) []byte, raw []byte) {
	ctx, wrapped := t.Context(), wrap(raw)
	for _, i := range []int{0, 100, 255, 256, 270, len(wrapped) - 1} {
		changed := bytes.Clone(wrapped)
		changed[i] ^= 1
		_, err := s.p.ImportWrapped(ctx, kek.Key, hsm.Oct, changed)
		wantKind(t, fmt.Sprintf("byte %d changed", i), err, hsm.Undecryptable)
	}
	for _, n := range []int{0, 1, 255, 256, 264, len(wrapped) - 1, len(wrapped) + 1, 1 << 20} {
		_, err := s.p.ImportWrapped(ctx, kek.Key, hsm.Oct, append(bytes.Clone(wrapped), make([]byte, 1<<20)...)[:n])
		wantKind(t, fmt.Sprintf("%d bytes", n), err, hsm.BadInput)
	}
	_, small := NewRSA(t, 1024)
	_, large := NewRSA(t, 2560)
	for name, der := range map[string][]byte{
		"nothing of a key": []byte("nothing of a key"), "RSA of 1024 bits": pkcs8(t, small), "RSA of 2560 bits": pkcs8(t, large),
		"PKCS#1": x509.MarshalPKCS1PrivateKey(small), "zeros": make([]byte, 1000), "much": make([]byte, 30000),
	} {
		for _, kind := range []hsm.KeyType{hsm.RSA, hsm.EC} {
			_, err := s.p.ImportWrapped(ctx, kek.Key, kind, wrap(der))
			wantKind(t, fmt.Sprintf("%s as %s", name, kind), err, hsm.BadInput)
		}
	}
	_, err := s.p.ImportWrapped(ctx, kek.Key, hsm.Oct, wrap(make([]byte, 17)))
	wantKind(t, "oct of 17 bytes", err, hsm.BadInput)
	for _, name := range []string{"P-256", "oct-256"} {
		_, err := s.p.ImportWrapped(ctx, s.key(name).Key, hsm.Oct, wrapped)
		wantKind(t, "under "+name, err, hsm.BadInput)
	}
}

// exported lets a key out and unwraps it.
func (s *suite) exported(t *testing.T, k hsm.Key, hash crypto.Hash) []byte {
	t.Helper()
	to := s.recipient
	wrapped, err := k.Export(t.Context(), &to.PublicKey, hash)
	if err != nil {
		t.Errorf("Export with %v: %v", hash, err)
		return nil
	}
	got, err := keywrap.UnwrapRSAAES(func(c []byte) ([]byte, error) { return rsa.DecryptOAEP(hash.New(), nil, to, c, nil) }, 256, wrapped)
	if err != nil {
		t.Errorf("Export with %v: %v", hash, err)
	}
	return got
}

func (s *suite) export(t *testing.T) {
	for _, k := range s.keys {
		for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384} {
			if hash == crypto.SHA1 && slices.Contains(s.unsupported, ExportSHA1) {
				_, err := k.Export(t.Context(), &s.recipient.PublicKey, hash)
				wantKind(t, ExportSHA1, err, hsm.Unsupported)
				continue
			}
			checkExported(t, k, s.exported(t, k.Key, hash))
		}
	}
	k, e := s.key("P-256"), 65537
	odd := func(bits int) *big.Int {
		n := new(big.Int).Lsh(big.NewInt(1), uint(bits-1))
		return n.Add(n, big.NewInt(1))
	}
	recipients := map[string]*rsa.PublicKey{
		"nobody":    nil,
		"nothing":   {},
		"1024 bits": {N: odd(1024), E: e},
		"4098 bits": {N: odd(4098), E: e},
		"even":      {N: new(big.Int).Lsh(big.NewInt(3), 2046), E: e},
	}
	if fips140.Enforced() { // Go's module encrypts for neither
		recipients["exponent 3"] = &rsa.PublicKey{N: odd(2048), E: 3}
		recipients["2049 bits"] = &rsa.PublicKey{N: odd(2049), E: e}
	}
	for name, to := range recipients {
		_, err := k.Export(t.Context(), to, crypto.SHA256)
		wantKind(t, "Export to "+name, err, hsm.BadInput)
	}
}

// checkExported reads what came out of a key with other software.
func checkExported(t *testing.T, k *key, got []byte) {
	t.Helper()
	if k.Spec.Type == hsm.Oct {
		if len(got)*8 != k.Spec.Bits || k.raw != nil && !bytes.Equal(got, k.raw) {
			t.Errorf("%s: another key came out", k.name)
		}
		return
	}
	if k.Spec.Curve == hsm.P256K {
		return // no other software here reads it; the software provider has a test of its own
	}
	parsed, err := x509.ParsePKCS8PrivateKey(got)
	if err != nil {
		t.Errorf("%s: %v", k.name, err)
		return
	}
	switch key := parsed.(type) {
	case *rsa.PrivateKey:
		if !key.PublicKey.Equal(rsaPublic(k.Public)) {
			t.Errorf("%s: another key came out", k.name)
		}
	case *ecdsa.PrivateKey:
		if public, err := key.PublicKey.Bytes(); err != nil || !bytes.Equal(public, point(k.Public)) {
			t.Errorf("%s: another key came out", k.name)
		}
	}
}
