// Package admission bounds how much is done for one principal at a time, so that a noisy one leaves room for the others.
package admission

import (
	"errors"
	"sync"
)

// ErrThrottled is a principal with too much in flight.
var ErrThrottled = errors.New("too many requests of the principal are being worked on")

// A Bound is how much of something each principal may have in flight.
type Bound struct {
	limit int

	mu       sync.Mutex     // guards inFlight
	inFlight map[string]int // holds only principals with something in flight
}

// New returns a Bound that gives each principal limit places.
func New(limit int) *Bound {
	return &Bound{limit: limit, inFlight: make(map[string]int)}
}

// Enter takes a place for the principal, who must give it back, or fails with ErrThrottled.
func (b *Bound) Enter(principal string) (release func(), err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.inFlight[principal] >= b.limit {
		return nil, ErrThrottled
	}
	b.inFlight[principal]++
	return func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.inFlight[principal]--; b.inFlight[principal] == 0 {
			delete(b.inFlight, principal)
		}
	}, nil
}
