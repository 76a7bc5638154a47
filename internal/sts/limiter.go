package sts

import (
	"net/netip"
	"sync"
	"time"
)

const maxTracked = 8192

// A limiter counts failed attempts by address in fixed windows. The secrets here cannot be guessed; it is there so that
// guessing costs the guesser more than it costs the server and its audit log.
type limiter struct {
	most   int
	window time.Duration
	now    func() time.Time

	mu      sync.Mutex // guards both
	tracked map[netip.Prefix]attempts
	swept   time.Time // when ended windows were last looked for
}

type attempts struct {
	count int
	since time.Time
}

func newLimiter(most int, window time.Duration, now func() time.Time) *limiter {
	return &limiter{most: most, window: window, now: now, tracked: make(map[netip.Prefix]attempts)}
}

// network is what counts as one client: an IPv4 address, or the IPv6 network that one subscriber gets.
func network(a netip.Addr) netip.Prefix {
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // all unknown addresses share one count
	}
	return p
}

// blocked says how long the address has to wait; 0 if it may go on.
func (l *limiter) blocked(a netip.Addr) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := l.tracked[network(a)]
	left := l.window - l.now().Sub(t.since)
	if t.count < l.most || left <= 0 {
		return 0
	}
	return min(left, l.window)
}

func (l *limiter) failed(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key, now := network(a), l.now()
	t, found := l.tracked[key]
	if !found && len(l.tracked) >= maxTracked {
		l.makeRoom(now)
	}
	if !found || now.Sub(t.since) >= l.window {
		t = attempts{since: now}
	}
	t.count++
	l.tracked[key] = t
}

// makeRoom forgets windows that have ended, looking through all of them once per window only, and otherwise any one
// address: who has thousands of addresses is not stopped by counting them, and must not make the others wait.
func (l *limiter) makeRoom(now time.Time) {
	if now.Sub(l.swept) >= l.window {
		l.swept = now
		for key, t := range l.tracked {
			if now.Sub(t.since) >= l.window {
				delete(l.tracked, key)
			}
		}
	}
	for key := range l.tracked {
		if len(l.tracked) < maxTracked {
			return
		}
		delete(l.tracked, key)
	}
}
