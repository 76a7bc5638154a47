package hsm

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strongroom/strongroom/internal/pkcs8"
)

// A job is a computation that ends when the test says so.
type job struct {
	started chan struct{}
	end     chan int
}

func newJob() job { return job{make(chan struct{}), make(chan int)} }

func (j job) run() (int, error) {
	close(j.started)
	return <-j.end, nil
}

// start computes j in the background. The channel gets what compute returns.
func start(ctx context.Context, p *pool, j job) chan error {
	done := make(chan error, 1)
	go func() {
		_, err := compute(ctx, p, j.run)
		done <- err
	}()
	return done
}

func isOpen(c <-chan struct{}) bool {
	select {
	case <-c:
		return false
	default:
		return true
	}
}

func TestPool(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 1)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		first, second := newJob(), newJob()
		firstDone := start(ctx, p, first)
		<-first.started
		secondDone := start(ctx, p, second)
		synctest.Wait()
		if !isOpen(second.started) {
			t.Fatal("two at a time with one worker")
		}
		if _, err := compute(ctx, p, newJob().run); !errors.Is(err, ErrBusy) {
			t.Errorf("no place left: %v", err)
		}
		first.end <- 1
		if err := <-firstDone; err != nil {
			t.Error(err)
		}
		<-second.started
		second.end <- 2
		if err := <-secondDone; err != nil {
			t.Error(err)
		}
		want := errors.New("what f returns")
		if n, err := compute(ctx, p, func() (int, error) { return 3, want }); n != 3 || !errors.Is(err, want) {
			t.Errorf("%d, %v", n, err)
		}
	})
}

// A request waits for a part of its time and is told to come back; a job waits for its turn, even if there is no place left.
func TestPoolPatience(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 1)
		running, patient := newJob(), newJob()
		runningDone := start(t.Context(), p, running)
		<-running.started
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		hasty := start(ctx, p, newJob())
		synctest.Wait()
		patientDone := start(t.Context(), p, patient)
		if err := <-hasty; !errors.Is(err, ErrBusy) {
			t.Errorf("a request that waited got %v", err)
		}
		if waited := time.Since(begin); waited != time.Minute/patience {
			t.Errorf("it waited for %v", waited)
		}
		running.end <- 1
		<-patient.started
		patient.end <- 2
		if err := errors.Join(<-runningDone, <-patientDone); err != nil {
			t.Error(err)
		}
	})
}

// Who stops waiting gives its place to another at once.
func TestPoolLeave(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 1)
		running, waiting := newJob(), newJob()
		runningDone := start(t.Context(), p, running)
		<-running.started
		ctx, cancel := context.WithCancel(t.Context())
		waitingDone := start(ctx, p, waiting)
		synctest.Wait()
		cancel()
		if err := <-waitingDone; !errors.Is(err, context.Canceled) {
			t.Errorf("who left got %v", err)
		}
		another := newJob()
		anotherDone := start(t.Context(), p, another)
		synctest.Wait()
		running.end <- 1
		<-another.started
		another.end <- 2
		if err := errors.Join(<-runningDone, <-anotherDone); err != nil {
			t.Error(err)
		}
		if !isOpen(waiting.started) {
			t.Error("what nobody waited for was computed")
		}
		if _, err := compute(ctx, p, newJob().run); !errors.Is(err, context.Canceled) {
			t.Errorf("who came too late got %v", err)
		}
	})
}

// What runs cannot be stopped: its caller is told at once, and its place stays taken until it is done.
func TestPoolAbandoned(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPool(1, 1)
		abandoned, next := newJob(), newJob()
		ctx, cancel := context.WithCancel(t.Context())
		abandonedDone := start(ctx, p, abandoned)
		<-abandoned.started
		nextDone := start(t.Context(), p, next)
		synctest.Wait()
		cancel()
		if err := <-abandonedDone; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller got %v", err)
		}
		synctest.Wait()
		if !isOpen(next.started) {
			t.Error("two at a time with one worker")
		}
		hasty, cancelHasty := context.WithTimeout(t.Context(), time.Hour)
		defer cancelHasty()
		if _, err := compute(hasty, p, newJob().run); !errors.Is(err, ErrBusy) {
			t.Errorf("with one running and one waiting: %v", err)
		}
		abandoned.end <- 1
		<-next.started
		next.end <- 2
		if err := <-nextDone; err != nil {
			t.Error(err)
		}
	}) // fails if a goroutine is left
}

// While all workers make RSA keys and the queue is full, everything else goes on.
func TestBusy(t *testing.T) {
	t.Parallel()
	s := NewSoftware(SoftwareConfig{Workers: 1, Queue: 1})
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	made, err := s.Generate(ctx, Spec{Type: RSA, Bits: 2048})
	if err != nil {
		t.Fatal(err)
	}
	private, err := pkcs8.Parse(made.Blob[1:])
	if err != nil {
		t.Fatal(err)
	}
	jobs := []job{newJob(), newJob()}
	ended := []chan error{start(ctx, s.primes, jobs[0])}
	<-jobs[0].started
	s.primes.places <- struct{}{} // somebody waits

	if _, err := s.Generate(ctx, Spec{Type: RSA, Bits: 2048}); !errors.Is(err, ErrBusy) {
		t.Errorf("generating: %v", err)
	}
	if _, err := s.Import(ctx, *fromPKCS8(private)); !errors.Is(err, ErrBusy) {
		t.Errorf("importing: %v", err)
	}
	for _, spec := range []Spec{{Type: EC, Curve: P256}, {Type: EC, Curve: P256K}, {Type: Oct, Bits: 256}} {
		if _, err := s.Generate(ctx, spec); err != nil {
			t.Errorf("%v: %v", spec, err)
		}
	}
	key, err := s.Open(ctx, made.Spec, made.Blob)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := key.Sign(ctx, PS256, make([]byte, 32)); err != nil {
		t.Error(err)
	}
	<-s.primes.places
	jobs[0].end <- 0
	if err := <-ended[0]; err != nil {
		t.Error(err)
	}
}

func TestDefaults(t *testing.T) {
	t.Parallel()
	p := NewSoftware(SoftwareConfig{}).primes
	if workers := cap(p.running); workers < 1 || cap(p.places) != workers+32 {
		t.Errorf("%d workers, %d places", workers, cap(p.places))
	}
}

// TestPoolPanic lets a computation panic, which must be one caller's failure.
func TestPoolPanic(t *testing.T) {
	t.Parallel()
	p := newPool(1, 1)
	for range 3 { // each gives its place back
		_, err := compute(t.Context(), p, func() (int, error) { panic("a private key") })
		if err == nil || strings.Contains(err.Error(), "a private key") {
			t.Fatalf("a panic: %v", err)
		}
	}
}
