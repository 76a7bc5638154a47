package api

import (
	"context"
	"time"

	"github.com/strongroom/strongroom/internal/admission"
)

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
	principals *admission.Bound
}

func newBulk() *bulk {
	return &bulk{
		places:     make(chan struct{}, bulkPlaces),
		principals: admission.New(bulkPerPrincipal),
	}
}

// enter waits for a place, but not for long.
func (b *bulk) enter(ctx context.Context, principal string) (release func(), err error) {
	leave, err := b.principals.Enter(principal)
	if err != nil {
		return nil, err
	}
	timer := time.NewTimer(bulkWait)
	defer timer.Stop()
	select {
	case b.places <- struct{}{}:
		return func() { <-b.places; leave() }, nil
	case <-timer.C:
		err = admission.ErrThrottled
	case <-ctx.Done():
		err = ctx.Err()
	}
	leave()
	return nil, err
}
