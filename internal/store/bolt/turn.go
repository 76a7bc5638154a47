package bolt

import (
	"container/list"
	"context"
	"sync"
)

// A turn is a mutex that is handed on in the order of arrival, whose waiters can give up, and that tells its holder
// whether anybody waits. The zero value is free.
type turn struct {
	mu      sync.Mutex
	taken   bool      // guarded by mu
	waiting list.List // of chan struct{}, oldest first; guarded by mu; empty unless taken
}

// take waits for the turn. If ctx ends first it returns ctx's error and the caller does not have the turn; if both happen
// at once the caller may have it and has to look at ctx himself.
func (t *turn) take(ctx context.Context) error {
	t.mu.Lock()
	if !t.taken {
		t.taken = true
		t.mu.Unlock()
		return nil
	}
	ready := make(chan struct{})
	place := t.waiting.PushBack(ready)
	t.mu.Unlock()

	select {
	case <-ready:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	select {
	case <-ready: // handed over at the last moment
		return nil
	default:
		t.waiting.Remove(place)
		return ctx.Err()
	}
}

// pass hands the turn to the next who waits. If nobody does it returns false and the caller keeps the turn.
func (t *turn) pass() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.next()
}

// release gives the turn up.
func (t *turn) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.next() {
		t.taken = false
	}
}

// next wakes the oldest waiter, who owns the turn from then on. The caller holds mu.
func (t *turn) next() bool {
	first := t.waiting.Front()
	if first == nil {
		return false
	}
	close(t.waiting.Remove(first).(chan struct{}))
	return true
}
