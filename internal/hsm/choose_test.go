package hsm

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// aClock is moved by the engines that it measures.
type aClock struct{ now time.Time }

func (c *aClock) Now() time.Time { return c.now }

// A fakeEngine signs as Go does, but takes as long as it is told.
type fakeEngine struct {
	called    string
	clock     *aClock
	took      []time.Duration // the n-th signature; the last of them from then on
	openErr   error
	signErr   error
	wrong     bool
	signCount *int
}

func (e fakeEngine) name() string { return e.called }

func (e fakeEngine) open(key *rsa.PrivateKey) (rsaKey, error) {
	if e.openErr != nil {
		return nil, e.openErr
	}
	k, err := goRSA{}.open(key)
	return fakeKey{k, e}, err
}

type fakeKey struct {
	rsaKey
	engine fakeEngine
}

func (k fakeKey) signPKCS1v15(hash crypto.Hash, digest []byte) ([]byte, error) {
	e := k.engine
	e.clock.now = e.clock.now.Add(e.took[min(*e.signCount, len(e.took)-1)])
	*e.signCount++
	signature, err := k.rsaKey.signPKCS1v15(hash, digest)
	if e.wrong {
		signature[0] ^= 1
	}
	if e.signErr != nil {
		return nil, e.signErr
	}
	return signature, err
}

func TestChooseRSA(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, test := range []struct {
		name   string
		others []fakeEngine // beside one that takes 10 ms
		want   string
		report string
	}{
		{"faster", []fakeEngine{{took: []time.Duration{4 * ms}}},
			"1", "RSA-2048: 1 in 4ms (go in 10ms)"},
		{"slower", []fakeEngine{{took: []time.Duration{11 * ms}}},
			"go", "RSA-2048: go in 10ms (1 in 11ms)"},
		{"not worth it", []fakeEngine{{took: []time.Duration{9 * ms}}},
			"go", "RSA-2048: go in 10ms (1 in 9ms)"},
		{"fast after the first", []fakeEngine{{took: []time.Duration{20 * ms, 20 * ms, 5 * ms}}},
			"1", "RSA-2048: 1 in 5ms (go in 10ms)"},
		{"disturbed", []fakeEngine{{took: []time.Duration{5 * ms, 500 * ms, 20 * ms}}},
			"1", "RSA-2048: 1 in 5ms (go in 10ms)"},
		{"the faster of two", []fakeEngine{{took: []time.Duration{5 * ms}}, {took: []time.Duration{4900 * time.Microsecond}}},
			"2", "RSA-2048: 2 in 4.9ms (go in 10ms; 1 in 5ms)"},
		{"does not open", []fakeEngine{{took: []time.Duration{ms}, openErr: errors.New("no library")}},
			"go", "RSA-2048: go in 10ms (1: no library)"},
		{"does not sign", []fakeEngine{{took: []time.Duration{ms}, signErr: errors.New("no luck")}},
			"go", "RSA-2048: go in 10ms (1: no luck)"},
		{"signs wrongly", []fakeEngine{{took: []time.Duration{ms}, wrong: true}},
			"go", "RSA-2048: go in 10ms (1: its signature is not Go's)"},
	} {
		clock := &aClock{}
		all := []rsaEngine{fakeEngine{called: "go", clock: clock, took: []time.Duration{10 * ms}, signCount: new(int)}}
		for i, e := range test.others {
			e.called, e.clock, e.signCount = fmt.Sprint(i+1), clock, new(int)
			all = append(all, e)
		}
		c := newRSAChooser(all, clock.Now)
		for _, op := range []rsaOp{rsaSignPKCS1v15, rsaSignPSS, rsaDecryptOAEP} {
			if got := c.choose(2048, op).name(); got != test.want {
				t.Errorf("%s: chose %s for operation %d, want %s", test.name, got, op, test.want)
			}
		}
		if got := c.choose(2048, rsaDecryptPKCS1v15).name(); got != "go" {
			t.Errorf("%s: chose %s for RSA1_5", test.name, got)
		}
		if got := c.report()[0]; got != test.report {
			t.Errorf("%s: %s\nwant %s", test.name, got, test.report)
		}
	}
}

// TestChooseRSASizes wants each size measured by itself, once, and only when somebody asks.
func TestChooseRSASizes(t *testing.T) {
	t.Parallel()
	clock, signed := &aClock{}, new(int)
	slow := fakeEngine{called: "go", clock: clock, took: []time.Duration{10}, signCount: new(int)}
	// Fast for the first size that is measured, slow for the second and again fast for the third.
	took := slices.Concat(slices.Repeat([]time.Duration{5}, rsaRounds), slices.Repeat([]time.Duration{20}, rsaRounds), []time.Duration{5})
	c := newRSAChooser([]rsaEngine{slow, fakeEngine{called: "other", clock: clock, took: took, signCount: signed}}, clock.Now)
	if *signed != 0 {
		t.Fatal("measured before anybody asked")
	}
	for _, test := range []struct {
		bits   int
		want   string
		signed int
	}{
		{3072, "other", rsaRounds},
		{2048, "go", 2 * rsaRounds},
		{2047, "go", 2 * rsaRounds},
		{2049, "other", 2 * rsaRounds},
		{3072, "other", 2 * rsaRounds},
		{3080, "other", 3 * rsaRounds}, // 4096
		{8192, "other", 3 * rsaRounds},
	} {
		if got := c.choose(test.bits, rsaSignPSS).name(); got != test.want || *signed != test.signed {
			t.Errorf("%d bits: %s after %d signatures, want %s after %d", test.bits, got, *signed, test.want, test.signed)
		}
	}
	if got := len(c.report()); got != 3 || *signed != 3*rsaRounds {
		t.Errorf("the report has %d lines, after %d signatures", got, *signed)
	}
}

func TestChooseRSAAlone(t *testing.T) {
	t.Parallel()
	alone := fakeEngine{called: "go", openErr: errors.New("opened")}
	c := newRSAChooser([]rsaEngine{alone}, func() time.Time { t.Error("measured"); return time.Time{} })
	for op := range rsaOps {
		if got := c.choose(4096, op).name(); got != "go" {
			t.Errorf("chose %s", got)
		}
	}
	if got := c.report(); !slices.Equal(got, []string{"RSA: go"}) {
		t.Errorf("report %q", got)
	}
}

// TestChooseAmongOurs measures the engines of this build, each of which has to agree with Go's.
func TestChooseAmongOurs(t *testing.T) {
	t.Parallel()
	c := newRSAChooser(engines(), time.Now)
	for _, line := range c.report() {
		t.Log(line)
		if len(c.engines) > 1 && strings.Count(line, " in ") != len(c.engines) {
			t.Errorf("an engine was not measured: %s", line)
		}
	}
}

func TestMeasuringKeys(t *testing.T) {
	t.Parallel()
	for _, p := range measuringPrimes {
		key := p.key()
		if err := key.Validate(); err != nil || key.N.BitLen() != p.bits {
			t.Errorf("%d bits: %v, %d bits", p.bits, err, key.N.BitLen())
		}
		for i, limit := range []*big.Int{
			new(big.Int).Lsh(big.NewInt(1), uint(p.bits/2)), new(big.Int).Lsh(big.NewInt(3), uint(p.bits/2-2)),
		} {
			if prime := key.Primes[i]; !prime.ProbablyPrime(1) || prime.Cmp(limit) >= 0 {
				t.Errorf("%d bits: number %d is no prime below its limit", p.bits, i)
			}
		}
	}
}

// The keys for measurements are in the source, so nobody may mean to keep a secret with one.
func TestMeasuringKeysAreRefused(t *testing.T) {
	t.Parallel()
	s := NewSoftware(SoftwareConfig{})
	for _, m := range measuringPrimes {
		p, q := m.primes()
		d := m.key().D
		_, err := s.Import(t.Context(), PrivateKey{
			Type: RSA, N: new(big.Int).Mul(p, q).Bytes(), E: []byte{1, 0, 1}, D: d.Bytes(), P: p.Bytes(), Q: q.Bytes(),
		})
		var refused *Error
		if !errors.As(err, &refused) || refused.Kind != BadInput || !strings.Contains(refused.Message, "everybody knows") {
			t.Errorf("%d bits: %v", m.bits, err)
		}
	}
}
