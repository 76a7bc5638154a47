package hsm

import (
	"context"
	"fmt"
	"runtime/debug"
)

// A pool bounds how many long computations run at the same time, and how many callers wait for one. Nothing of it runs while
// nobody computes.
type pool struct {
	places  chan struct{} // holds one for each caller that computes or waits
	running chan struct{} // holds one for each computation
}

func newPool(workers, queue int) *pool {
	return &pool{places: make(chan struct{}, workers+queue), running: make(chan struct{}, workers)}
}

// compute returns what f does, ErrBusy if there is no place left, or ctx's error once it has ended. f cannot be stopped: if ctx
// ends while it runs, it keeps its place until it is done, and its result is dropped.
func compute[T any](ctx context.Context, p *pool, f func() (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	select {
	case p.places <- struct{}{}:
	default:
		return none, ErrBusy
	}
	select {
	case p.running <- struct{}{}:
	case <-ctx.Done():
		<-p.places
		return none, ctx.Err()
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		var r result
		defer func() {
			if v := recover(); v != nil { // in a goroutine of its own it would take the process with it
				r.err = fmt.Errorf("hsm: a panic of type %T at %s", v, debug.Stack()) // its value may hold anything
			}
			<-p.running
			<-p.places
			done <- r
		}()
		r.value, r.err = f()
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}
