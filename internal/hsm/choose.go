package hsm

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"
)

// An rsaChooser chooses the engine for keys of a size by measuring them all on this machine: which is the fastest, and by how
// much, depends on the processor and on the versions of the libraries. It measures a size when somebody first asks for it, and
// not at all if there is only one engine.
//
// Only signatures with PKCS#1 v1.5 are measured. Those of PSS and decryption with OAEP are assumed to take as long: what costs is the one
// private-key operation that all have.
type rsaChooser struct {
	engines []rsaEngine // Go's first
	sizes   []rsaSize   // ascending
}

type rsaSize struct {
	bits   int
	chosen func() rsaChosen // measures once
}

type rsaChosen struct {
	engine rsaEngine
	report string
}

// Another engine than Go's has to take this much less time. A second library of cryptography, written in C, has to be
// worth having; a few per cent do not make it so, and change from one measurement to the next.
const worthwhile = 0.8

// rsaRounds is how often each engine signs for a measurement, of which the fastest counts: what disturbs only slows down.
const rsaRounds = 6

// newRSAChooser measures with now. The engines' first is Go's.
func newRSAChooser(engines []rsaEngine, now func() time.Time) *rsaChooser {
	c := &rsaChooser{engines: engines}
	for _, p := range measuringPrimes {
		chosen := func() rsaChosen { return measureRSA(engines, p.key(), now) }
		c.sizes = append(c.sizes, rsaSize{p.bits, sync.OnceValue(chosen)})
	}
	return c
}

// choose is the rsaChoice. The first time for a size takes from about 8 ms for 2048 bits to about 60 for 4096.
func (c *rsaChooser) choose(bits int, op rsaOp) rsaEngine {
	// Decryption with PKCS#1 v1.5 stays with Go's: what a library does with a wrong ciphertext matters more than speed.
	if len(c.engines) == 1 || op == rsaDecryptPKCS1v15 {
		return c.engines[0]
	}
	i := slices.IndexFunc(c.sizes, func(s rsaSize) bool { return bits <= s.bits })
	if i < 0 {
		i = len(c.sizes) - 1
	}
	return c.sizes[i].chosen().engine
}

// report says in a line for each size which engine is used and why, for a log. It measures what has not been measured yet.
func (c *rsaChooser) report() []string {
	if len(c.engines) == 1 {
		return []string{"RSA: " + c.engines[0].name()}
	}
	var lines []string
	for _, s := range c.sizes {
		lines = append(lines, fmt.Sprintf("RSA-%d: %s", s.bits, s.chosen().report))
	}
	return lines
}

// measureRSA times signatures of each engine, in turns. Signatures with PKCS#1 v1.5 have no randomness, so they tell, too, whether
// an engine computes what Go's does; one that does not, or fails, is not chosen.
func measureRSA(engines []rsaEngine, key *rsa.PrivateKey, now func() time.Time) rsaChosen {
	runners := make([]rsaRunner, len(engines))
	for i, e := range engines {
		runners[i].engine = e
		runners[i].key, runners[i].err = e.open(key)
	}
	digest := sha256.Sum256([]byte("a measurement"))
	var want []byte
	for range rsaRounds {
		for i := range runners {
			signature := runners[i].sign(digest[:], now)
			if i == 0 {
				want = signature
			}
			if runners[i].err == nil && !bytes.Equal(signature, want) {
				runners[i].err = errors.New("its signature is not Go's")
			}
		}
	}
	return fastest(runners)
}

type rsaRunner struct {
	engine rsaEngine
	key    rsaKey
	took   time.Duration // for the fastest signature
	err    error
}

func (r *rsaRunner) sign(digest []byte, now func() time.Time) []byte {
	if r.err != nil {
		return nil
	}
	start := now()
	signature, err := r.key.signPKCS1v15(crypto.SHA256, digest)
	took := now().Sub(start)
	if r.took == 0 || took < r.took {
		r.took = took
	}
	r.err = err
	return signature
}

func (r *rsaRunner) String() string {
	if r.err != nil {
		return fmt.Sprintf("%s: %v", r.engine.name(), r.err)
	}
	return fmt.Sprintf("%s in %v", r.engine.name(), r.took.Round(time.Microsecond))
}

// fastest chooses among what has been measured. The first stays if it fails: so will whoever uses it, with its error.
func fastest(runners []rsaRunner) rsaChosen {
	best := 0
	for i, r := range runners[1:] {
		limit := float64(runners[best].took)
		if best == 0 {
			limit *= worthwhile
		}
		if runners[0].err == nil && r.err == nil && float64(r.took) < limit {
			best = i + 1
		}
	}
	var others []string
	for i := range runners {
		if i != best {
			others = append(others, runners[i].String())
		}
	}
	return rsaChosen{runners[best].engine, fmt.Sprintf("%v (%s)", &runners[best], strings.Join(others, "; "))}
}

// measuringPrimes make keys for measurements only. Each is the first prime below 2^n or ¾·2^n, where n is half of the bits:
// anybody can tell these keys, so they protect nothing and are not imported, but computing with them takes as long as with any other.
var measuringPrimes = []rsaPrimes{{2048, 105, 91}, {3072, 3453, 721}, {4096, 1557, 43}}

// rsaPrimes are 2^(bits/2)-p and 3·2^(bits/2-2)-q.
type rsaPrimes struct {
	bits int
	p, q int64
}

func (r rsaPrimes) primes() (p, q *big.Int) {
	p = new(big.Int).Lsh(big.NewInt(1), uint(r.bits/2))
	q = new(big.Int).Lsh(big.NewInt(3), uint(r.bits/2-2))
	return p.Sub(p, big.NewInt(r.p)), q.Sub(q, big.NewInt(r.q))
}

func (r rsaPrimes) key() *rsa.PrivateKey {
	p, q := r.primes()
	e := big.NewInt(usualExponent)
	phi := new(big.Int).Mul(minusOne(p), minusOne(q))
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: int(e.Int64())},
		D:         new(big.Int).ModInverse(e, phi),
		Primes:    []*big.Int{p, q},
	}
	key.Precompute()
	return key
}
