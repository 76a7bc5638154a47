package hsm

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
)

const (
	usualExponent = 65537

	// maxExponentBits is what Go has. Larger exponents are rare, and make verifying slow.
	maxExponentBits = 31

	// maxMember is how many bytes of a member are looked at. With zeros in front, none is as long.
	maxMember = 1 << 10

	pkcs1v15Overhead = 11
)

func isRSASize(bits int) bool { return bits == 2048 || bits == 3072 || bits == 4096 }

// newRSA describes a key that has its precomputed values.
func newRSA(key *rsa.PrivateKey) (New, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return New{}, err
	}
	return New{
		Spec:   rsaSpec(&key.PublicKey),
		Public: PublicKey{N: key.N.Bytes(), E: big.NewInt(int64(key.E)).Bytes()},
		Blob:   newBlob(der),
	}, nil
}

func rsaSpec(key *rsa.PublicKey) Spec { return Spec{Type: RSA, Bits: key.N.BitLen(), Exponent: key.E} }

// rsaNumbers are an RSA key's, as its owner sends them.
type rsaNumbers struct {
	n, e, d, p, q *big.Int
	dp, dq, qi    *big.Int // nil together
}

// check returns the key with its precomputed values if every relation between its numbers holds and none makes it weak. Errors
// name a member and show none. It takes as long as some signatures if the key is wrong, and up to half a second if it is
// right.
func (k *rsaNumbers) check() (*rsa.PrivateKey, error) {
	for _, check := range []func() error{
		k.checkSizes, k.checkProduct, k.checkFactorable, k.checkPublished, k.checkExponents, k.checkCRT, k.checkPrimes,
	} {
		if err := check(); err != nil {
			return nil, err
		}
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: k.n, E: int(k.e.Int64())},
		D:         k.d,
		Primes:    []*big.Int{k.p, k.q},
	}
	key.Precompute()
	if err := key.Validate(); err != nil {
		return nil, badInput("The key's numbers do not make an RSA key.")
	}
	return key, nil
}

// readRSA reads the numbers of a key and bounds each before anything is computed with it. It keeps nothing of key.
func readRSA(key *PrivateKey) (*rsaNumbers, error) {
	var m memberReader
	k := &rsaNumbers{n: m.number("n", key.N, 4096)}
	if m.err != nil {
		return nil, m.err
	}
	bits := k.n.BitLen()
	if !isRSASize(bits) {
		return nil, badInput("An RSA key has 2048, 3072 or 4096 bits; the %q of this one has %d.", "n", bits)
	}
	k.e = m.number("e", key.E, maxExponentBits)
	if m.err == nil && (k.e.Bit(0) == 0 || k.e.Cmp(big.NewInt(usualExponent)) < 0) {
		// Tiny exponents have made mistakes in padding fatal time and again; FIPS 186-5, 5.1 has them no more.
		return nil, badInput("The key's %q is even or less than %d.", "e", usualExponent)
	}
	k.d = m.number("d", key.D, bits)
	k.p = m.number("p", key.P, bits/2)
	k.q = m.number("q", key.Q, bits/2)
	if len(key.DP)+len(key.DQ)+len(key.QI) > 0 {
		k.dp = m.number("dp", key.DP, bits/2)
		k.dq = m.number("dq", key.DQ, bits/2)
		k.qi = m.number("qi", key.QI, bits/2)
	}
	return k, m.err
}

// memberReader reads numbers up to the first that cannot be a key's.
type memberReader struct{ err error }

func (m *memberReader) number(name string, raw []byte, maxBits int) *big.Int {
	n := new(big.Int)
	if m.err != nil {
		return n
	}
	if len(raw) <= maxMember {
		n.SetBytes(raw)
	}
	switch {
	case len(raw) == 0:
		m.err = badInput("The key's %q is missing.", name)
	case len(raw) > maxMember || n.BitLen() > maxBits:
		m.err = badInput("The key's %q has more than %d bits.", name, maxBits)
	case n.Sign() == 0:
		m.err = badInput("The key's %q is zero.", name)
	}
	return n
}

func (k *rsaNumbers) checkSizes() error {
	half := k.n.BitLen() / 2
	switch {
	case k.p.BitLen() != half || k.q.BitLen() != half:
		return badInput("The key's %q and %q must have %d bits each.", "p", "q", half)
	case k.d.Cmp(k.n) >= 0:
		return badInput("The key's %q is not less than its %q.", "d", "n")
	case new(big.Int).Sub(k.p, k.q).BitLen() <= half-100:
		// The product of neighbours is factored by Fermat's method (FIPS 186-5, A.1.1).
		return badInput("The key's %q and %q are too close to each other.", "p", "q")
	}
	return nil
}

func (k *rsaNumbers) checkProduct() error {
	if new(big.Int).Mul(k.p, k.q).Cmp(k.n) != 0 {
		return badInput("The key's %q is not the product of its %q and %q.", "n", "p", "q")
	}
	return nil
}

// maxDivisorBits is how long a common divisor p-1 and q-1 may have. By chance it is longer in about one of 2⁶⁴ keys.
const maxDivisorBits = 64

// checkFactorable refuses keys that somebody can factor who has nothing but n.
func (k *rsaNumbers) checkFactorable() error {
	if common := new(big.Int).GCD(nil, nil, minusOne(k.p), minusOne(k.q)); common.BitLen() > maxDivisorBits {
		// It divides n-1 too, and from there leads to p and q (McKee and Pinch, 1998).
		return badInput("The key's %q less one and %q less one have a large common divisor, which gives them away.", "p", "q")
	}
	if isROCA(k.n) {
		return badInput("The key was made by a device with a known weakness, which gives its %q and %q away (CVE-2017-15361).", "p", "q")
	}
	return nil
}

// rocaPrimes are odd primes that divide M below, whatever the length of the key.
var rocaPrimes = [...]uint64{
	3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109, 113, 127, 131, 137,
	139, 149, 151, 157, 163, 167,
}

// isROCA knows the keys of a library in many smart cards and TPMs, whose primes all are k·M + (65537^a mod M), where M is the product
// of the smallest primes (Nemec and others, 2017). Modulo each of those n is then a power of 65537, as it is for one in 2²⁷ of other keys.
func isROCA(n *big.Int) bool {
	var rest, modulus big.Int
	for _, r := range rocaPrimes {
		if !isPowerOf65537(rest.Mod(n, modulus.SetUint64(r)).Uint64(), r) {
			return false
		}
	}
	return true
}

// isPowerOf65537 tells it modulo a prime.
func isPowerOf65537(n, prime uint64) bool {
	for power := uint64(1); ; {
		if power == n {
			return true
		}
		if power = power * 65537 % prime; power == 1 {
			return false
		}
	}
}

// checkPublished refuses the keys that this program's source makes known to everybody.
func (k *rsaNumbers) checkPublished() error {
	for _, m := range measuringPrimes {
		if p, q := m.primes(); new(big.Int).Mul(p, q).Cmp(k.n) == 0 {
			return badInput("The key is one that everybody knows: it is for measurements.")
		}
	}
	return nil
}

// checkExponents checks that d·e is 1 modulo p-1 and q-1, and so modulo their least common multiple.
func (k *rsaNumbers) checkExponents() error {
	product, rest := new(big.Int).Mul(k.d, k.e), new(big.Int)
	for _, prime := range []*big.Int{k.p, k.q} {
		if rest.Mod(product, minusOne(prime)).Cmp(big.NewInt(1)) != 0 {
			return badInput("The key's %q does not belong to its %q, %q and %q.", "d", "e", "p", "q")
		}
	}
	return nil
}

func minusOne(n *big.Int) *big.Int { return new(big.Int).Sub(n, big.NewInt(1)) }

// checkCRT checks the members that follow from the others, if they are there.
func (k *rsaNumbers) checkCRT() error {
	if k.dp == nil {
		return nil
	}
	qiq := new(big.Int).Mul(k.qi, k.q)
	for _, m := range []struct {
		name string
		ok   bool
	}{
		{"dp", k.dp.Cmp(new(big.Int).Mod(k.d, minusOne(k.p))) == 0},
		{"dq", k.dq.Cmp(new(big.Int).Mod(k.d, minusOne(k.q))) == 0},
		{"qi", k.qi.Cmp(k.p) < 0 && qiq.Mod(qiq, k.p).Cmp(big.NewInt(1)) == 0},
	} {
		if !m.ok {
			return badInput("The key's %q does not belong to its other members.", m.name)
		}
	}
	return nil
}

// primeRounds of Miller and Rabin leave numbers that nobody has crafted a chance of 2⁻¹¹² (FIPS 186-5, table B.1). Crafted ones
// meet the test of Baillie, Pomerance, Selfridge and Wagstaff as well, which no composite number is known to pass; and who
// crafts a key has it already.
const primeRounds = 5

func (k *rsaNumbers) checkPrimes() error {
	if !k.p.ProbablyPrime(primeRounds) {
		return badInput("The key's %q is not a prime.", "p")
	}
	if !k.q.ProbablyPrime(primeRounds) {
		return badInput("The key's %q is not a prime.", "q")
	}
	return nil
}

// rsaMaterial is an RSA key, prepared once for each operation by the engine that does it.
type rsaMaterial struct {
	key *rsa.PrivateKey
	ops [rsaOps]rsaKey
}

var _ material = (*rsaMaterial)(nil)

func openRSA(der []byte, choose rsaChoice) (material, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("hsm: the blob holds no RSA key: %w", err)
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("hsm: the blob holds a %T and no RSA key", parsed)
	}
	m := &rsaMaterial{key: key}
	prepared := make(map[string]rsaKey)
	for op := range rsaOps {
		engine := choose(key.N.BitLen(), op)
		k := prepared[engine.name()]
		if k == nil {
			if k, err = engine.open(key); err != nil {
				return nil, fmt.Errorf("hsm: RSA by %s: %w", engine.name(), err)
			}
			prepared[engine.name()] = k
		}
		m.ops[op] = k
	}
	return m, nil
}

func (m *rsaMaterial) spec() Spec { return rsaSpec(&m.key.PublicKey) }

func (m *rsaMaterial) encode() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(m.key) }

func (m *rsaMaterial) encrypt(a *algorithm, msg Message) (Message, error) {
	limit := m.key.Size() - pkcs1v15Overhead
	if a.scheme == encryptOAEP {
		limit = m.key.Size() - 2*a.hash.Size() - 2
	}
	if len(msg.Value) > limit {
		return Message{}, badInput("A value for %s with this key has at most %d bytes, not %d.", a.name, limit, len(msg.Value))
	}
	var (
		out []byte
		err error
	)
	if a.scheme == encryptOAEP {
		out, err = rsa.EncryptOAEP(a.hash.New(), rand.Reader, &m.key.PublicKey, msg.Value, nil)
	} else {
		//lint:ignore SA1019 the wire has RSA1_5; see decryptPKCS1v15
		out, err = rsa.EncryptPKCS1v15(rand.Reader, &m.key.PublicKey, msg.Value)
	}
	return Message{Value: out}, err
}

func (m *rsaMaterial) decrypt(a *algorithm, msg Message) ([]byte, error) {
	if len(msg.Value) != m.key.Size() {
		return nil, badInput("A ciphertext for this key has %d bytes, not %d.", m.key.Size(), len(msg.Value))
	}
	if a.scheme == encryptOAEP {
		return m.decryptOAEP(a.hash, msg.Value)
	}
	return m.decryptPKCS1v15(msg.Value)
}

// decryptOAEP takes a ciphertext as long as the modulus.
func (m *rsaMaterial) decryptOAEP(hash crypto.Hash, ciphertext []byte) ([]byte, error) {
	out, err := m.ops[rsaDecryptOAEP].decryptOAEP(hash, ciphertext)
	return out, undecryptable(err)
}

// decryptPKCS1v15 is for RSA1_5. Whoever may call it can decrypt and sign with the key anyway, or at least decrypt. But a
// service that passes on whether it succeeded, to somebody who may not, lets him decrypt and sign too, in ten thousands of
// attempts (Bleichenbacher, 1998), and no care here changes that: telling success from failure is what this is for. Inside,
// both take the same time up to that answer. What is left to the layers above is to record every attempt, and to their users to
// take RSA-OAEP.
func (m *rsaMaterial) decryptPKCS1v15(ciphertext []byte) ([]byte, error) {
	out, err := m.ops[rsaDecryptPKCS1v15].decryptPKCS1v15(ciphertext)
	return out, undecryptable(err)
}

func undecryptable(err error) error {
	if errors.Is(err, rsa.ErrDecryption) {
		return errUndecryptable
	}
	return err
}

// sign returns what an engine has checked already; see rsaKey.
func (m *rsaMaterial) sign(a *algorithm, digest []byte) ([]byte, error) {
	if a.scheme == signPSS {
		return m.ops[rsaSignPSS].signPSS(a.hash, digest)
	}
	return m.ops[rsaSignPKCS1v15].signPKCS1v15(a.hash, digest)
}

func (m *rsaMaterial) verify(a *algorithm, digest, signature []byte) (bool, error) {
	return verifyRSA(&m.key.PublicKey, a, digest, signature)
}

func verifyRSA(key *rsa.PublicKey, a *algorithm, digest, signature []byte) (bool, error) {
	var err error
	if a.scheme == signPSS {
		err = rsa.VerifyPSS(key, a.hash, digest, signature, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
	} else {
		err = rsa.VerifyPKCS1v15(key, a.hash, digest, signature)
	}
	if errors.Is(err, rsa.ErrVerification) {
		return false, nil
	}
	return err == nil, err
}
