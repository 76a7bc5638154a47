package wire

import (
	"errors"
	"sync"
)

// ErrThrottled is a principal with too many requests at a time.
var ErrThrottled = errors.New("too many requests of the principal are being worked on")

// An Admission bounds how many requests of one principal are worked on at a time, so that a noisy one leaves room for the
// others.
type Admission struct {
	limit int

	mu       sync.Mutex     // guards inFlight
	inFlight map[string]int // holds only principals with requests in flight
}

// NewAdmission returns one that lets each principal have limit requests at a time.
func NewAdmission(limit int) *Admission {
	return &Admission{limit: limit, inFlight: make(map[string]int)}
}

// Enter takes a place for a request of the principal, who must give it back, or fails with ErrThrottled.
func (a *Admission) Enter(principal string) (release func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inFlight[principal] >= a.limit {
		return nil, ErrThrottled
	}
	a.inFlight[principal]++
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if a.inFlight[principal]--; a.inFlight[principal] == 0 {
			delete(a.inFlight, principal)
		}
	}, nil
}
