package api

import (
	"context"
	"sync"
	"time"
)

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

// Bounds of the operations that hold a whole backup in memory.
const (
	bulkPlaces       = 4
	bulkPerPrincipal = 2
	bulkWait         = 5 * time.Second
)

// bulk gives places to restores and backups, each of which has some ten megabytes in memory until it is answered. One
// principal cannot take all of them, however slowly it sends or reads.
type bulk struct {
	places     chan struct{}
	principals admission
}

func newBulk() *bulk {
	return &bulk{
		places:     make(chan struct{}, bulkPlaces),
		principals: admission{limit: bulkPerPrincipal, inFlight: make(map[string]int)},
	}
}

// enter waits for a place, but not for long.
func (b *bulk) enter(ctx context.Context, principal string) (release func(), err error) {
	leave, err := b.principals.enter(principal)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(bulkWait)
	defer timer.Stop()
	select {
	case b.places <- struct{}{}:
		return func() { <-b.places; leave() }, nil
	case <-timer.C:
		err = errThrottled
	case <-ctx.Done():
		err = ctx.Err()
	}
	leave()
	return nil, err
}
