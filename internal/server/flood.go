package server

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/wire"
)

// Bounds of what those without a valid token can make the server write. A client asks once without a token, to be told
// where to get one, so that thousands of clients behind one address stay below them.
const (
	floodRate       = 20 // records a second for one address
	floodBurst      = 500
	floodTotalRate  = 100 // for all addresses together
	floodTotalBurst = 5000
	floodSources    = 4096 // addresses that have a bucket of their own
	floodSummaries  = 16   // addresses that are named in the summaries of one second
	floodEvery      = time.Second

	// maxRefusedText bounds the texts that a client brings into the record of a refusal.
	maxRefusedText = 512
)

// A flood keeps the audit log from being filled by those who have no token. Each refusal of a request without a valid token
// takes from a token bucket of its address, and from one of all addresses together. While either is empty, refusals are
// not put on record one by one: they are counted, and the count is, once a second. While that of its address is empty, a
// request that brings no token at all is not looked at any further.
//
// Requests with a valid token are never held back, whatever else comes from their address.
type flood struct {
	wake chan struct{} // there is something to sum up

	mu    sync.Mutex // guards what follows
	total bucket
	known map[netip.Prefix]*source
	rest  source // of all addresses that found no place in known; to forget some would give them a new burst
	swept time.Time
}

type source struct {
	bucket
	held  int       // refusals that are not on record yet
	since time.Time // the first of them
}

func newFlood() *flood {
	return &flood{wake: make(chan struct{}, 1), known: make(map[netip.Prefix]*source)}
}

// A bucket holds tokens. The zero bucket is full.
type bucket struct {
	taken float64
	at    time.Time
}

func (b *bucket) refill(now time.Time, rate float64) {
	// A clock that was put back must not leave a bucket empty until it has caught up.
	if d := now.Sub(b.at); d > 0 {
		b.taken = max(0, b.taken-d.Seconds()*rate)
	}
	b.at = now
}

// floodKey is the address, of IPv6 the network that one customer has. Without a valid address it is the zero Prefix.
func floodKey(address string) netip.Prefix {
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return netip.Prefix{}
	}
	bits := 32
	if ip = ip.Unmap().WithZone(""); ip.Is6() {
		bits = 64
	}
	p, _ := ip.Prefix(bits) // fails for another length only
	return p
}

// blocked tells whether this address has used up its bucket, so that its requests without a token are not looked at. What
// others do does not block it: else a few of them could keep everybody from being told where to get a token.
func (f *flood) blocked(address string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.known[floodKey(address)]
	if s == nil {
		return false
	}
	s.refill(now, floodRate)
	return s.empty()
}

func (s *source) empty() bool { return s.taken+1 > floodBurst }

// refused notes that a request of this address was refused. It is true if that should be put on record by itself; else it is
// counted.
func (f *flood) refused(address string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.total.refill(now, floodTotalRate)
	s := f.source(floodKey(address), now)
	s.refill(now, floodRate)
	if !s.empty() && f.total.taken+1 <= floodTotalBurst {
		s.taken++
		f.total.taken++
		return true
	}
	f.hold(s, 1, now)
	return false
}

// held counts a refusal without a record of its own.
func (f *flood) held(address string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold(f.source(floodKey(address), now), 1, now)
}

// hold is called with the mutex.
func (f *flood) hold(s *source, n int, now time.Time) {
	if s.held == 0 {
		s.since = now
	}
	s.held += n
	signal(f.wake)
}

// source returns an address's place. It is called with the mutex.
func (f *flood) source(key netip.Prefix, now time.Time) *source {
	if s := f.known[key]; s != nil {
		return s
	}
	if len(f.known) >= floodSources && now.Sub(f.swept) >= time.Second {
		f.sweep(now)
	}
	if len(f.known) >= floodSources || !key.IsValid() {
		return &f.rest
	}
	s := new(source)
	f.known[key] = s
	return s
}

// sweep forgets the addresses whose buckets are full again. It is called with the mutex.
func (f *flood) sweep(now time.Time) {
	f.swept = now
	for key, s := range f.known {
		if s.refill(now, floodRate); s.taken == 0 && s.held == 0 {
			delete(f.known, key)
		}
	}
}

// A summary is what was held back of one address, or of several.
type summary struct {
	address string // "" for several
	held    int
	since   time.Time
}

// summaries takes what was held back. Only the busiest addresses are named: their number must not be a way around the bound.
func (f *flood) summaries() (out []summary) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key, s := range f.known {
		if s.held > 0 {
			address := key.Addr().String()
			if key.Addr().Is6() {
				address = key.String()
			}
			out = append(out, summary{address, s.held, s.since})
			s.held = 0
		}
	}
	slices.SortFunc(out, func(a, b summary) int { return cmp.Or(b.held-a.held, strings.Compare(a.address, b.address)) })
	others := summary{held: f.rest.held, since: f.rest.since}
	f.rest.held = 0
	for _, s := range out[min(len(out), floodSummaries):] {
		if others.held == 0 || s.since.Before(others.since) {
			others.since = s.since
		}
		others.held += s.held
	}
	out = out[:min(len(out), floodSummaries)]
	if others.held > 0 {
		out = append(out, others)
	}
	return out
}

// putBack holds what could not be put on record, for the next time.
func (f *flood) putBack(s summary) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hold(&f.rest, s.held, s.since)
}

// summarizeFlood puts what was held back on record, once a second at most, until ctx ends, and then once more.
func (s *Server) summarizeFlood(ctx context.Context, f *flood, what string) {
	pause := time.NewTimer(floodEvery)
	defer pause.Stop()
	for ctx.Err() == nil {
		select {
		case <-f.wake:
			pause.Reset(floodEvery)
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
		case <-ctx.Done():
		}
		for _, sum := range f.summaries() {
			if err := s.recordFlood(context.WithoutCancel(ctx), what, sum); err != nil {
				s.log.Error("the count of refused requests could not be put on record yet", "requests", sum.held, "error", err)
				f.putBack(sum)
			}
		}
	}
}

func (s *Server) recordFlood(ctx context.Context, what string, sum summary) error {
	from := "this address"
	if sum.address == "" {
		from = "several addresses"
	}
	return s.audit.Write(ctx, &audit.Record{
		Time:            sum.since,
		Category:        audit.Event,
		ResourceID:      "/tenants/" + s.directory.TenantID(),
		Operation:       throttledOperation,
		ResultType:      audit.Failure,
		ResultSignature: http.StatusText(http.StatusTooManyRequests),
		ResultDescription: fmt.Sprintf("%d requests %s have no record of their own, because there were too many from %s",
			sum.held, what, from),
		Duration:      s.now().Sub(sum.since),
		CallerIP:      sum.address,
		CorrelationID: newRequestID(),
		HTTPStatus:    http.StatusTooManyRequests,
	})
}

// throttledOperation is the name of the records that sum up refusals, and of the answers 429 in the metrics.
const throttledOperation = "Throttled"

// throttled answers a request that brings no token if too many such requests of its address were refused lately.
func (s *Server) throttled(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Authorization") != "" {
		return false // its token decides
	}
	start, address := s.now(), wire.AddressOf(r.RemoteAddr)
	if !s.flood.blocked(address, start) {
		return false
	}
	status, code, message := http.StatusTooManyRequests, "Throttled", "Too many requests without a token came from this address."
	if s.audit.Err() != nil {
		// What cannot be put on record is not answered as if it were.
		status, code, message = http.StatusServiceUnavailable, "ServiceUnavailable", "The request could not be put on record."
	}
	s.flood.held(address, start)
	s.metrics.observe(throttledOperation, status, s.now().Sub(start))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.Header().Set("Retry-After", "1")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":%q,"message":%q}}`, code, message)
	return true
}

// cutRefused shortens a text that a client has sent whose request is refused.
func cutRefused(text string) string {
	if len(text) <= maxRefusedText {
		return text
	}
	return strings.ToValidUTF8(text[:maxRefusedText], "") + "…[cut]"
}
