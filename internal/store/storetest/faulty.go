package storetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"

	"github.com/strongroom/strongroom/internal/store"
)

// ErrInjected is wrapped by every error that Faulty makes up.
var ErrInjected = errors.New("storetest: injected failure")

// A Fault is what Faulty does to one Update.
type Fault int

const (
	None    Fault = iota
	Fail          // runs fn, writes nothing, returns ErrInjected
	Unknown       // commits, and returns an error that wraps ErrInjected and store.ErrUnknown all the same
	Lost          // runs fn, writes nothing, and returns such an error
	Twice         // runs fn, throws what it did and returned away, and runs it again on what is then the state
	numFaults
)

// A Plan gives the probability of each fault for an Update. What is left of 1 is the probability of None.
type Plan struct {
	Fail, Unknown, Lost, Twice float64
}

// Faulty is a store.DB that passes everything to another one and spoils Updates, by schedule or at random. The faults are
// those that the contract of store.DB allows, so that code above it can be tested against them. Its methods may be called
// concurrently; the random choices depend on the seed and on the order of the calls alone.
type Faulty struct {
	db store.DB

	mu       sync.Mutex // guards what follows
	rng      *rand.Rand
	plan     Plan
	schedule []Fault
	counts   [numFaults]int
}

var _ store.DB = (*Faulty)(nil)

// NewFaulty returns a Faulty over db that injects nothing until told to. Closing it closes db.
func NewFaulty(db store.DB, seed uint64) *Faulty {
	return &Faulty{db: db, rng: rand.New(rand.NewPCG(seed, 0))}
}

// SetPlan sets what happens at random from now on.
func (f *Faulty) SetPlan(p Plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan = p
}

// Schedule says what happens to the next Updates, one each, before the plan applies again. It adds to an earlier schedule.
func (f *Faulty) Schedule(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.schedule = append(f.schedule, faults...)
}

// Count returns how many Updates have been chosen for the fault.
func (f *Faulty) Count(fault Fault) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[fault]
}

func (f *Faulty) next() Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	fault := f.choose()
	f.counts[fault]++
	return fault
}

// choose picks the next fault. The caller holds mu.
func (f *Faulty) choose() Fault {
	if len(f.schedule) > 0 {
		fault := f.schedule[0]
		f.schedule = f.schedule[1:]
		return fault
	}
	x := f.rng.Float64()
	for fault, p := range [numFaults]float64{Fail: f.plan.Fail, Unknown: f.plan.Unknown, Lost: f.plan.Lost, Twice: f.plan.Twice} {
		if x < p {
			return Fault(fault)
		}
		x -= p
	}
	return None
}

// View implements store.DB.
func (f *Faulty) View(ctx context.Context, fn func(store.Reader) error) error {
	return f.db.View(ctx, fn)
}

// Update implements store.DB. If fn fails, or the store does, that is what Update returns.
func (f *Faulty) Update(ctx context.Context, fn func(store.Tx) error) error {
	unknown := fmt.Errorf("%w: %w", ErrInjected, store.ErrUnknown)
	switch f.next() {
	case Fail:
		return f.discard(ctx, fn, ErrInjected)
	case Lost:
		return f.discard(ctx, fn, unknown)
	case Unknown:
		if err := f.db.Update(ctx, fn); err != nil {
			return err
		}
		return unknown
	case Twice:
		again := errors.New("storetest: run again")
		err := f.discard(ctx, func(tx store.Tx) error {
			_ = fn(tx)
			return nil
		}, again)
		if !errors.Is(err, again) {
			return err
		}
	}
	return f.db.Update(ctx, fn)
}

// discard runs fn in a transaction that comes to nothing and returns fn's error, or instead if there is none.
func (f *Faulty) discard(ctx context.Context, fn func(store.Tx) error, instead error) error {
	return f.db.Update(ctx, func(tx store.Tx) error {
		if err := fn(tx); err != nil {
			return err
		}
		return instead
	})
}

// Close implements store.DB.
func (f *Faulty) Close() error {
	return f.db.Close()
}
