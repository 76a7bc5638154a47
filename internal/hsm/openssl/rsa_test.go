//go:build openssl && cgo

package openssl_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/strongroom/strongroom/internal/hsm/openssl"
)

// library is the one that all tests share, as a program's keys do.
var library = sync.OnceValues(openssl.Open)

func open(t *testing.T, key *rsa.PrivateKey) *openssl.RSA {
	t.Helper()
	l, err := library()
	if err != nil {
		t.Fatal(err)
	}
	k, err := l.NewRSA(key)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// keys have the sizes that are in use, a small exponent, a modulus that is no whole number of bytes and primes of
// unequal lengths. Primes of the larger ones are the first below a power of two or three quarters of one: finding some of their size takes seconds.
var keys = sync.OnceValue(func() map[string]*rsa.PrivateKey {
	random, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return map[string]*rsa.PrivateKey{
		"2048":   random,
		"3072":   makeKey(below(1, 1536, 3453), below(3, 1534, 721), 65537),
		"4096":   makeKey(below(3, 2046, 43), below(1, 2048, 1557), 65537), // p < q
		"2047":   makeKey(prime(1024, 65537), prime(1023, 65537), 65537),
		"uneven": makeKey(prime(1000, 65537), prime(1048, 65537), 65537),
		"e=3":    makeKey(prime(1024, 3), prime(1024, 3), 3),
	}
})

// below is m·2^n - c.
func below(m int64, n uint, c int64) *big.Int {
	p := new(big.Int).Lsh(big.NewInt(m), n)
	return p.Sub(p, big.NewInt(c))
}

// prime goes with the exponent e.
func prime(bits int, e int64) *big.Int {
	for {
		p, err := rand.Prime(rand.Reader, bits)
		if err != nil {
			panic(err)
		}
		if new(big.Int).Mod(p, big.NewInt(e)).Int64() != 1 {
			return p
		}
	}
}

func makeKey(p, q *big.Int, e int64) *rsa.PrivateKey {
	one := big.NewInt(1)
	phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: int(e)},
		D:         new(big.Int).ModInverse(big.NewInt(e), phi),
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	return key
}

var signatureHashes = []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func TestSignPKCS1v15IsGos(t *testing.T) {
	t.Parallel()
	for name, key := range keys() {
		k := open(t, key)
		for _, hash := range signatureHashes {
			checkPKCS1v15(t, name, key, k, hash, hash.Size())
		}
		for _, n := range []int{0, 1, 20, key.Size() - 11} {
			checkPKCS1v15(t, name, key, k, 0, n)
		}
	}
}

func checkPKCS1v15(t *testing.T, name string, key *rsa.PrivateKey, k *openssl.RSA, hash crypto.Hash, n int) {
	t.Helper()
	digest := randomBytes(n)
	want, err := rsa.SignPKCS1v15(nil, key, hash, digest)
	if err != nil {
		t.Fatal(err)
	}
	got, err := k.SignPKCS1v15(hash, digest)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s, hash %d, %d bytes: %x, %v; Go has %x", name, hash, n, got, err, want)
	}
}

func TestGoVerifiesPSS(t *testing.T) {
	t.Parallel()
	for name, key := range keys() {
		k := open(t, key)
		for _, hash := range signatureHashes {
			digest := randomBytes(hash.Size())
			first, err := k.SignPSS(hash, digest)
			if err != nil {
				t.Fatalf("%s, %v: %v", name, hash, err)
			}
			exactly := &rsa.PSSOptions{SaltLength: hash.Size()}
			if err := rsa.VerifyPSS(&key.PublicKey, hash, digest, first, exactly); err != nil {
				t.Errorf("%s, %v: %v", name, hash, err)
			}
			if second, err := k.SignPSS(hash, digest); err != nil || bytes.Equal(first, second) {
				t.Errorf("%s, %v: a second signature has the same salt, or fails (%v)", name, hash, err)
			}
		}
	}
}

var oaepHashes = append([]crypto.Hash{crypto.SHA1}, signatureHashes...)

func TestDecryptOAEPWhatGoEncrypts(t *testing.T) {
	t.Parallel()
	for name, key := range keys() {
		k := open(t, key)
		for _, hash := range oaepHashes {
			for _, n := range []int{0, 1, 32, key.Size() - 2*hash.Size() - 2} {
				want := randomBytes(n)
				got, err := k.DecryptOAEP(hash, encrypt(t, key, hash, want, nil))
				if err != nil || !bytes.Equal(got, want) {
					t.Errorf("%s, %v, %d bytes: %x, %v; want %x", name, hash, n, got, err, want)
				}
			}
		}
	}
}

func encrypt(t *testing.T, key *rsa.PrivateKey, hash crypto.Hash, plaintext, label []byte) []byte {
	t.Helper()
	ciphertext, err := rsa.EncryptOAEP(hash.New(), rand.Reader, &key.PublicKey, plaintext, label)
	if err != nil {
		t.Fatal(err)
	}
	return ciphertext
}

// TestUndecryptable wants the one error for everything that can be wrong with a ciphertext, as Go has it.
func TestUndecryptable(t *testing.T) {
	t.Parallel()
	key := keys()["2048"]
	right := encrypt(t, key, crypto.SHA256, []byte("plaintext"), nil)
	padded, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, []byte("plaintext")) //lint:ignore SA1019 what an attacker would send
	if err != nil {
		t.Fatal(err)
	}
	wrong := map[string][]byte{
		"none":            nil,
		"empty":           {},
		"one byte":        {1},
		"too short":       right[1:],
		"too long":        append([]byte{0}, right...),
		"zero":            make([]byte, key.Size()),
		"one":             append(make([]byte, key.Size()-1), 1),
		"the modulus":     key.N.Bytes(),
		"all ones":        bytes.Repeat([]byte{0xff}, key.Size()),
		"PKCS#1 v1.5":     padded,
		"another's":       encrypt(t, keys()["e=3"], crypto.SHA256, []byte("plaintext"), nil),
		"with SHA-1":      encrypt(t, key, crypto.SHA1, []byte("plaintext"), nil),
		"with a label":    encrypt(t, key, crypto.SHA256, []byte("plaintext"), []byte("label")),
		"a signature":     must(open(t, key).SignPKCS1v15(0, []byte("plaintext"))),
		"not OAEP's zero": raw(key, append([]byte{1}, randomBytes(key.Size()-1)...)),
		"not OAEP's hash": raw(key, append([]byte{0}, randomBytes(key.Size()-1)...)),
	}
	for bit := range 16 {
		flipped := slices.Clone(right)
		flipped[bit*15] ^= 1 << (bit % 8)
		wrong[fmt.Sprintf("bit %d flipped", bit)] = flipped
	}
	k := open(t, key)
	for name, ciphertext := range wrong {
		if plaintext, err := k.DecryptOAEP(crypto.SHA256, ciphertext); err != rsa.ErrDecryption || plaintext != nil {
			t.Errorf("%s: %x, %v; want rsa.ErrDecryption", name, plaintext, err)
		}
	}
	if plaintext, err := k.DecryptOAEP(crypto.SHA256, right); err != nil || string(plaintext) != "plaintext" {
		t.Errorf("the right one, after the wrong ones: %q, %v", plaintext, err)
	}
}

// raw is the public-key operation by itself. Of the block only the first byte matters; it has to be below the modulus.
func raw(key *rsa.PrivateKey, block []byte) []byte {
	m := new(big.Int).SetBytes(block)
	m.Mod(m, key.N)
	return m.Exp(m, big.NewInt(int64(key.E)), key.N).FillBytes(make([]byte, key.Size()))
}

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

// TestErrors makes each error after another one on the same thread: what the first left behind would be told as the
// reason of the second.
func TestErrors(t *testing.T) {
	t.Parallel()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	k := open(t, keys()["2048"])
	tooLong := func() ([]byte, error) { return k.SignPKCS1v15(0, make([]byte, 246)) }
	for _, test := range []struct {
		name, want string
		do         func() ([]byte, error)
	}{
		{"raw and too long", "data too large", tooLong},
		{"short digest", "invalid digest", func() ([]byte, error) { return k.SignPKCS1v15(crypto.SHA256, make([]byte, 31)) }},
		{"long digest", "invalid digest", func() ([]byte, error) { return k.SignPKCS1v15(crypto.SHA256, make([]byte, 33)) }},
		{"short digest for PSS", "invalid digest", func() ([]byte, error) { return k.SignPSS(crypto.SHA512, nil) }},
		{"no hash for PSS", "hash", func() ([]byte, error) { return k.SignPSS(0, make([]byte, 32)) }},
		{"another hash", "hash MD5", func() ([]byte, error) { return k.SignPKCS1v15(crypto.MD5, make([]byte, 16)) }},
		{"another hash for PSS", "hash MD5", func() ([]byte, error) { return k.SignPSS(crypto.MD5, make([]byte, 16)) }},
		{"another hash for OAEP", "hash MD5", func() ([]byte, error) { return k.DecryptOAEP(crypto.MD5, make([]byte, 256)) }},
		{"no hash for OAEP", "hash", func() ([]byte, error) { return k.DecryptOAEP(0, make([]byte, 256)) }},
		{"decryption", "decryption error", func() ([]byte, error) { return k.DecryptOAEP(crypto.SHA256, make([]byte, 256)) }},
		{"raw and too long after it", "data too large", tooLong},
	} {
		out, err := test.do()
		if err == nil || !strings.Contains(err.Error(), test.want) || out != nil {
			t.Errorf("%s: %x, %v; want an error with %q", test.name, out, err, test.want)
		}
	}
}

func TestNewRSARefuses(t *testing.T) {
	t.Parallel()
	l, err := library()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*rsa.PrivateKey){
		"three primes":      func(k *rsa.PrivateKey) { k.Primes = append(slices.Clone(k.Primes), big.NewInt(3)) },
		"no primes":         func(k *rsa.PrivateKey) { k.Primes = nil },
		"nothing computed":  func(k *rsa.PrivateKey) { k.Precomputed = rsa.PrecomputedValues{} },
		"no exponent":       func(k *rsa.PrivateKey) { k.D = nil },
		"negative":          func(k *rsa.PrivateKey) { k.D = new(big.Int).Neg(k.D) },
		"zero":              func(k *rsa.PrivateKey) { k.E = 0 },
		"above the modulus": func(k *rsa.PrivateKey) { k.D = new(big.Int).Lsh(k.D, 16) },
	} {
		key := *keys()["2048"]
		change(&key)
		if k, err := l.NewRSA(&key); err == nil || k != nil || !strings.HasPrefix(err.Error(), "openssl: ") {
			t.Errorf("%s: %v, %v; want an error", name, k, err)
		}
	}
}

// TestFault opens keys with one number that a fault has changed, which is as if each signature were computed wrongly. A wrong one
// must not come out, because it gives the factors of the modulus away.
func TestFault(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*rsa.PrivateKey){
		"dP":   func(k *rsa.PrivateKey) { k.Precomputed.Dp = flipped(k.Precomputed.Dp) },
		"dQ":   func(k *rsa.PrivateKey) { k.Precomputed.Dq = flipped(k.Precomputed.Dq) },
		"qInv": func(k *rsa.PrivateKey) { k.Precomputed.Qinv = flipped(k.Precomputed.Qinv) },
	} {
		for size, whole := range keys() {
			key := *whole
			change(&key)
			k := open(t, &key)
			digest := randomBytes(32)
			signature, err := k.SignPKCS1v15(crypto.SHA256, digest)
			if err == nil && rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest, signature) != nil {
				t.Errorf("%s, wrong %s: a wrong signature came out", size, name)
			}
			signature, err = k.SignPSS(crypto.SHA256, digest)
			if err == nil && rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, digest, signature, nil) != nil {
				t.Errorf("%s, wrong %s: a wrong PSS signature came out", size, name)
			}
		}
	}
}

func flipped(n *big.Int) *big.Int { return new(big.Int).Xor(n, new(big.Int).Lsh(big.NewInt(1), 77)) }

// TestConcurrently uses some keys from many goroutines, among them ones that nobody holds any longer but a running
// call, while the collector runs.
func TestConcurrently(t *testing.T) {
	t.Parallel()
	key := keys()["2048"]
	shared := open(t, key)
	digest := randomBytes(32)
	want := must(rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest))
	ciphertext := encrypt(t, key, crypto.SHA1, digest, nil)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for i := range 30 {
				k := shared
				if i%2 == 0 {
					k = open(t, key)
				}
				if i%5 == 0 {
					runtime.GC()
				}
				if got, err := k.DecryptOAEP(crypto.SHA1, ciphertext); err != nil || !bytes.Equal(got, digest) {
					t.Errorf("decrypted %x, %v; want %x", got, err, digest)
				}
				if got, err := k.DecryptOAEP(crypto.SHA256, ciphertext); err != rsa.ErrDecryption {
					t.Errorf("decrypted with another hash: %x, %v", got, err)
				}
				if got, err := k.SignPKCS1v15(crypto.SHA256, digest); err != nil || !bytes.Equal(got, want) {
					t.Errorf("signed %x, %v; want %x", got, err, want)
				}
			}
		})
	}
	group.Wait()
}

// TestThreads lets far more goroutines sign than there are processors. They must not have a thread each.
func TestThreads(t *testing.T) {
	k := open(t, keys()["4096"]) // whose calls last
	threads := pprof.Lookup("threadcreate")
	before := threads.Count()
	const callers = 200
	var group sync.WaitGroup
	for range callers {
		group.Go(func() {
			if _, err := k.SignPKCS1v15(0, nil); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if more := threads.Count() - before; more > 2*runtime.GOMAXPROCS(0)+4 {
		t.Errorf("%d callers at a time made %d more threads", callers, more)
	}
}

// TestIgnoresConfiguration runs a test again with a configuration of OpenSSL's that leaves no algorithm usable.
func TestIgnoresConfiguration(t *testing.T) {
	t.Parallel()
	const config = `openssl_conf = init
config_diagnostics = 1
[init]
providers = providers
alg_section = algorithms
[providers]
missing = missing
[missing]
module = /nonexistent/missing.so
activate = 1
[algorithms]
default_properties = provider=missing
`
	file := filepath.Join(t.TempDir(), "openssl.cnf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestGoVerifiesPSS$", "-test.v")
	cmd.Env = append(os.Environ(), "OPENSSL_CONF="+file)
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: TestGoVerifiesPSS")) {
		t.Errorf("with OPENSSL_CONF: %v\n%s", err, out)
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	l, err := library()
	if err != nil {
		t.Fatal(err)
	}
	if v := l.Version(); !strings.HasPrefix(v, "3.") && !strings.HasPrefix(v, "4.") {
		t.Errorf("version %q", v)
	}
}
