package hsm

import (
	"context"
	"fmt"
	"runtime/debug"
	"time"
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

// patience is the part of the time that a caller has left which it spends waiting, so that its turn is not wasted on an answer
// that comes too late.
const patience = 4

// compute returns what f does, or ctx's error once it has ended. A caller whose ctx has a deadline is told ErrBusy if there
// is no place left or it would wait for too long; one without, which is a job, waits for its turn. f cannot be stopped: if
// ctx ends while it runs, it keeps its place until it is done, and its result is dropped.
func compute[T any](ctx context.Context, p *pool, f func() (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, err
	}
	if err := p.enter(ctx); err != nil {
		return none, err
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

// enter takes a place and then a worker.
func (p *pool) enter(ctx context.Context) error {
	var tooLong <-chan time.Time
	if deadline, ok := ctx.Deadline(); ok {
		select {
		case p.places <- struct{}{}:
		default:
			return ErrBusy
		}
		timer := time.NewTimer(time.Until(deadline) / patience)
		defer timer.Stop()
		tooLong = timer.C
	} else {
		select {
		case p.places <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var err error
	select {
	case p.running <- struct{}{}:
		return nil
	case <-tooLong:
		err = ErrBusy
	case <-ctx.Done():
		err = ctx.Err()
	}
	<-p.places
	return err
}
