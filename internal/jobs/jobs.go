// Package jobs runs the work that nobody asked for right now: purging what is due, removing what is nobody's, rotating
// keys. What is due is a property of the data and not of a queue here, and each job re-checks it in the transaction
// in which it acts, so any number of servers may run the same jobs on one store.
package jobs

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"
)

// A Job does what is due and says when it wants to run again. A zero time means after Every; Every is also the longest
// that it sleeps, however far away the time that it named, because another server may add something that is due earlier.
type Job struct {
	Name  string
	Every time.Duration
	Do    func(ctx context.Context) (next time.Time, err error)
}

// Run runs the jobs until ctx ends, each on its own. An error is logged and the job tried again at its next time.
func Run(ctx context.Context, log *slog.Logger, jobs []Job) {
	var wg sync.WaitGroup
	for _, j := range jobs {
		wg.Go(func() { j.run(ctx, log) })
	}
	wg.Wait()
}

func (j Job) run(ctx context.Context, log *slog.Logger) {
	// Servers that start together should not all try at the same instant.
	wait := time.Duration(rand.Int64N(int64(j.Every)/10 + 1))
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		next, err := j.Do(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			log.Error("a job failed and will be tried again", "job", j.Name, "error", err)
		}
		timer.Reset(j.sleep(next, err))
	}
}

func (j Job) sleep(next time.Time, err error) time.Duration {
	if err != nil || next.IsZero() {
		return j.Every
	}
	// The floor keeps a job that cannot do what is due from spinning.
	return min(max(time.Until(next), 100*time.Millisecond), j.Every)
}
