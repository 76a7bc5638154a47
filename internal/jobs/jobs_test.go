package jobs_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strongroom/strongroom/internal/jobs"
)

// TestTimes checks when a job runs: at the time that it names, at most Every later, and again after an error.
func TestTimes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		var ran []time.Duration
		answers := []struct {
			in  time.Duration // from now; 0 for no time
			err error
		}{{in: 10 * time.Second}, {in: time.Hour}, {}, {err: errors.New("no")}, {in: -time.Hour}, {in: -time.Hour}}
		done := make(chan struct{})
		go func() {
			defer close(done)
			jobs.Run(ctx, slog.New(slog.DiscardHandler), []jobs.Job{{Name: "test", Every: time.Minute, Do: func(context.Context) (time.Time, error) {
				ran = append(ran, time.Since(start))
				if len(ran) > len(answers) {
					cancel()
					return time.Time{}, nil
				}
				a := answers[len(ran)-1]
				if a.in == 0 {
					return time.Time{}, a.err
				}
				return time.Now().Add(a.in), a.err
			}}})
		}()
		<-done
		if ran[0] > 6*time.Second {
			t.Errorf("first run after %v", ran[0])
		}
		want := []time.Duration{10 * time.Second, time.Minute, time.Minute, time.Minute, 100 * time.Millisecond, 100 * time.Millisecond}
		for i, w := range want {
			if got := ran[i+1] - ran[i]; got != w {
				t.Errorf("pause %d was %v, want %v", i, got, w)
			}
		}
	})
}

func TestStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		begun := make(chan struct{})
		ended := false
		done := make(chan struct{})
		go func() {
			defer close(done)
			jobs.Run(ctx, slog.New(slog.DiscardHandler), []jobs.Job{{Name: "test", Every: time.Minute, Do: func(ctx context.Context) (time.Time, error) {
				close(begun)
				<-ctx.Done()
				ended = true
				return time.Time{}, ctx.Err()
			}}})
		}()
		<-begun
		cancel()
		<-done
		if !ended {
			t.Error("Run did not wait for its job")
		}
	})
}
