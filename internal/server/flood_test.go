package server

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// take lets an address be refused n times at once, and returns how many of these get a record of their own.
func take(f *flood, address string, n int, now time.Time) (recorded int) {
	for range n {
		if f.refused(address, now) {
			recorded++
		}
	}
	return recorded
}

func TestFloodOfOneAddress(t *testing.T) {
	t.Parallel()
	f, now := newFlood(), time.Now()
	if f.blocked("192.0.2.1", now) {
		t.Error("an address that nobody knows is blocked")
	}
	if n := take(f, "192.0.2.1", 2*floodBurst, now); n != floodBurst {
		t.Errorf("%d records at once", n)
	}
	if !f.blocked("192.0.2.1", now) || !f.blocked("::ffff:192.0.2.1", now) {
		t.Error("the address is not blocked")
	}
	if f.blocked("192.0.2.2", now) || take(f, "192.0.2.2", 1, now) != 1 {
		t.Error("its neighbour is blocked")
	}
	now = now.Add(time.Second)
	if f.blocked("192.0.2.1", now) {
		t.Error("a second later it is still blocked")
	}
	if n := take(f, "192.0.2.1", 1000, now); n != floodRate {
		t.Errorf("%d records a second", n)
	}
	now = now.Add(-time.Hour)
	take(f, "192.0.2.1", 1, now)
	if n := take(f, "192.0.2.1", 1000, now.Add(time.Second)); n != floodRate {
		t.Errorf("%d records a second after the clock was put back", n)
	}
}

// TestFloodOfNetwork: who has an IPv6 network has 2^64 addresses.
func TestFloodOfNetwork(t *testing.T) {
	t.Parallel()
	f, now := newFlood(), time.Now()
	recorded := 0
	for i := range 2 * floodBurst {
		recorded += take(f, fmt.Sprintf("2001:db8::%x", i), 1, now)
	}
	if recorded != floodBurst {
		t.Errorf("%d records", recorded)
	}
	if f.blocked("2001:db8:0:1::1", now) {
		t.Error("another network is blocked")
	}
}

// TestFloodOfMany lets more addresses come than have a place: what they write and what is remembered is bounded.
func TestFloodOfMany(t *testing.T) {
	t.Parallel()
	f, now := newFlood(), time.Now()
	address := func(i int) string { return fmt.Sprintf("10.%d.%d.%d", i>>16, i>>8&0xff, i&0xff) }
	recorded := 0
	const n = 3 * floodSources
	for i := range n {
		recorded += take(f, address(i), 1, now)
	}
	if len(f.known) != floodSources {
		t.Errorf("%d addresses are remembered", len(f.known))
	}
	if want := floodSources + floodBurst; recorded != want {
		t.Errorf("%d records, want %d", recorded, want)
	}
	if f.blocked(address(n), now) || f.blocked(address(0), now) {
		t.Error("an address is blocked for what others did")
	}
	// All that have a place: the bound for all together.
	for i := range floodSources {
		recorded += take(f, address(i), 10, now)
	}
	if recorded != floodTotalBurst {
		t.Errorf("%d records of all", recorded)
	}
	if f.blocked(address(0), now) {
		t.Error("an address is blocked because all together are many")
	}
	total := 0
	sums := f.summaries()
	for _, s := range sums {
		total += s.held
	}
	if len(sums) != floodSummaries+1 || total != n+10*floodSources-recorded {
		t.Errorf("%d summaries of %d requests", len(sums), total)
	}
	if again := f.summaries(); len(again) != 0 {
		t.Errorf("summed up twice: %v", again)
	}
	// Once they are quiet they are forgotten.
	now = now.Add(time.Hour)
	if take(f, address(n), 1, now) != 1 || len(f.known) != 1 {
		t.Errorf("an hour later %d addresses are remembered", len(f.known))
	}
}

func TestFloodSummaries(t *testing.T) {
	t.Parallel()
	f, now := newFlood(), time.Now()
	take(f, "192.0.2.1", floodBurst+1, now)
	f.held("192.0.2.1", now.Add(time.Second))
	take(f, "2001:db8::1", floodBurst+3, now)
	take(f, "192.0.2.3", floodBurst, now)
	want := []summary{{"2001:db8::/64", 3, now}, {"192.0.2.1", 2, now}}
	got := f.summaries()
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(summary{})); diff != "" {
		t.Errorf("summaries (-want +got):\n%s", diff)
	}
	for _, s := range got {
		f.putBack(s)
	}
	want = []summary{{"", 5, now}}
	if diff := cmp.Diff(want, f.summaries(), cmp.AllowUnexported(summary{})); diff != "" {
		t.Errorf("put back (-want +got):\n%s", diff)
	}
	select {
	case <-f.wake:
	default:
		t.Error("nobody is told that there is something to sum up")
	}
}

func TestCutRefused(t *testing.T) {
	t.Parallel()
	long := ""
	for len(long) <= maxRefusedText {
		long += "aé"
	}
	if got := cutRefused(long); len(got) > maxRefusedText+len("…[cut]") || got[len(got)-len("…[cut]"):] != "…[cut]" {
		t.Errorf("cut to %q", got)
	}
	if got := cutRefused("short"); got != "short" {
		t.Errorf("cut to %q", got)
	}
}
