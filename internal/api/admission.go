package api

import "sync"

// admission bounds how many requests of one principal are worked on at a time, so that a noisy one leaves room for the
// others.
type admission struct {
	limit int

	mu       sync.Mutex     // guards inFlight
	inFlight map[string]int // holds only principals with requests in flight
}

func (a *admission) enter(principal string) (release func(), err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.inFlight[principal] >= a.limit {
		return nil, errThrottled
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
