package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

const (
	// makers ask for RSA keys, one after the other: enough that there is always one to be made on a machine with few processors.
	makers = 4

	// pace is how often the requests come whose latency is measured while keys are made: seldom enough that they do not
	// queue behind each other.
	pace = 5 * time.Millisecond

	// makingRounds is how many times as long this takes as other figures, for keys take seconds each, and some take
	// many times as long as others.
	makingRounds = 5
)

// A making is what requests met while RSA keys were made.
type making struct {
	bits            int     // of the keys; 0 while none were made
	perSecond       float64 // keys
	sign, get, bare waits   // of ES256, of secret GET, and of the bare handler, which makes no keys: what the machine causes
}

// waits are latencies.
type waits struct{ p50, p99, longest time.Duration }

// making measures whether requests wait for the making of keys.
func (b *benchmark) making(ctx context.Context) error {
	k, err := b.keys(ctx)
	if err != nil {
		return err
	}
	for _, bits := range []int{0, 2048, 4096} {
		b.say("requests while RSA keys are made: %d bits", bits)
		m, err := b.whileMaking(ctx, k, bits)
		if err != nil {
			return err
		}
		k.making = append(k.making, m)
	}
	return nil
}

func (b *benchmark) whileMaking(ctx context.Context, k *keyBench, bits int) (making, error) {
	v, m := k.vault, making{bits: bits}
	digest := digestOf(32)
	sign := using("P-256", "sign", "ES256", digest, nil).request(v)
	var wg sync.WaitGroup
	errs := make([]error, 4)
	end := time.Now().Add(b.duration * makingRounds)
	if bits > 0 {
		wg.Go(func() { m.perSecond, errs[0] = makeKeys(ctx, v, bits, end) })
	}
	wg.Go(func() { m.sign, errs[1] = paced(ctx, dialRaw(v.server, sign), end) })
	wg.Go(func() { m.get, errs[2] = paced(ctx, dialRaw(v.server, v.getRequest()), end) })
	wg.Go(func() { m.bare, errs[3] = paced(ctx, dialRaw(b.bare, v.getRequest()), end) })
	wg.Wait()
	return m, errors.Join(errs...)
}

// makeKeys returns how many keys were made a second.
func makeKeys(ctx context.Context, v *keyVault, bits int, end time.Time) (float64, error) {
	create := v.createRequest(fmt.Sprintf("made-%d", bits), fmt.Sprintf(`{"kty":"RSA","key_size":%d}`, bits))
	exchanges := make([]*exchange, 0, makers)
	defer func() {
		for _, x := range exchanges {
			_ = x.close() // what was asked for has been answered
		}
	}()
	for range makers {
		x, err := dialRaw(v.server, create)(ctx)
		if err != nil {
			return 0, err
		}
		exchanges = append(exchanges, x)
	}
	began := time.Now()
	made, err := drive(ctx, exchanges, end)
	return float64(len(made)) / time.Since(began).Seconds(), err
}

// paced sends a request each time that pace has passed, or at once if the answer before came too late for that. It counts
// from when the request should have been sent, except that the timer's own lateness is not counted.
func paced(ctx context.Context, dial dialer, end time.Time) (waits, error) {
	x, err := dial(ctx)
	if err != nil {
		return waits{}, err
	}
	defer x.close()
	defer guard(ctx, x, end)()
	var latencies []time.Duration
	timer := time.NewTimer(0)
	defer timer.Stop()
	for due := time.Now(); due.Before(end); due = due.Add(pace) {
		began := due
		if wait := time.Until(due); wait > 0 {
			timer.Reset(wait)
			select {
			case <-timer.C:
				began = time.Now()
			case <-ctx.Done():
				return waits{}, ctx.Err()
			}
		}
		if err := x.do(); err != nil {
			return waits{}, cmp.Or(ctx.Err(), err)
		}
		latencies = append(latencies, time.Since(began))
	}
	if len(latencies) == 0 {
		return waits{}, errTooShort
	}
	slices.Sort(latencies)
	return waits{quantile(latencies, 50), quantile(latencies, 99), quantile(latencies, 100)}, nil
}
