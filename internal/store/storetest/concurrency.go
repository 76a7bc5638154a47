package storetest

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/strongroom/strongroom/internal/store"
)

// testSnapshot moves amounts between accounts while readers add them up, by Get and by Scan.
func testSnapshot(t *testing.T, s suite) {
	const accounts, amount, moves = 10, 100, 25
	name := func(i int) string { return fmt.Sprint("account", i) }
	s.update(t, func(tx store.Tx) error {
		for i := range accounts {
			if err := putInt(tx, name(i), amount); err != nil {
				return err
			}
		}
		return nil
	})
	var writers, readers sync.WaitGroup
	done := make(chan struct{})
	for w := range 4 {
		rng := rand.New(rand.NewPCG(uint64(w), 1))
		writers.Go(func() {
			for range moves {
				from, to, n := name(rng.IntN(accounts)), name(rng.IntN(accounts)), rng.IntN(20)
				err := s.db.Update(t.Context(), func(tx store.Tx) error { return errors.Join(add(tx, from, -n), add(tx, to, n)) })
				if err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	for range 2 {
		readers.Go(func() {
			for {
				s.view(t, func(r store.Reader) error { return checkSum(t, r, name, accounts, amount) })
				select {
				case <-done:
					return
				default:
				}
			}
		})
	}
	writers.Wait()
	close(done)
	readers.Wait()
}

func add(tx store.Tx, key string, n int) error {
	old, err := getInt(tx, key)
	if err != nil {
		return err
	}
	return putInt(tx, key, old+n)
}

func checkSum(t *testing.T, r store.Reader, name func(int) string, accounts, amount int) error {
	byGet, byScan := 0, 0
	for i := range accounts {
		n, err := getInt(r, name(i))
		if err != nil {
			return err
		}
		byGet += n
	}
	for e, err := range r.Scan("", "") {
		if err != nil {
			return err
		}
		var n int
		if _, err := fmt.Sscan(string(e.Value), &n); err != nil {
			return err
		}
		byScan += n
	}
	if byGet != accounts*amount || byScan != byGet {
		t.Errorf("a snapshot holds %d by Get and %d by Scan, want %d", byGet, byScan, accounts*amount)
	}
	return nil
}

// testSeesAcknowledged checks that what begins after an Update has returned sees it.
func testSeesAcknowledged(t *testing.T, s suite) {
	var wg sync.WaitGroup
	for w := range 6 {
		key := fmt.Sprint("k", w)
		wg.Go(func() {
			for i := 1; i <= 30; i++ {
				if err := s.db.Update(t.Context(), func(tx store.Tx) error { return putInt(tx, key, i) }); err != nil {
					t.Errorf("Update: %v", err)
					return
				}
				check := func(r store.Reader) error {
					if n, err := getInt(r, key); err != nil || n != i {
						t.Errorf("after writing %d: %d, %v", i, n, err)
					}
					return nil
				}
				if err := s.db.View(t.Context(), check); err != nil {
					t.Errorf("View: %v", err)
				}
			}
		})
	}
	wg.Wait()
}

func testLostUpdate(t *testing.T, s suite) {
	const workers, each = 8, 40
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				if err := s.db.Update(t.Context(), func(tx store.Tx) error { return add(tx, "n", 1) }); err != nil {
					t.Errorf("Update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	s.want(t, "n", fmt.Sprint(workers*each))
}

// race runs two functions at once, many times, and after each round check on what they left. Both are told the round.
func race(t *testing.T, s suite, one, two func(tx store.Tx, round int) error, check func(r store.Reader, round int) error) {
	t.Helper()
	for round := range 40 {
		var wg sync.WaitGroup
		start := make(chan struct{})
		for _, fn := range []func(store.Tx, int) error{one, two} {
			wg.Go(func() {
				<-start
				if err := s.db.Update(t.Context(), func(tx store.Tx) error { return fn(tx, round) }); err != nil {
					t.Errorf("Update: %v", err)
				}
			})
		}
		close(start)
		wg.Wait()
		s.view(t, func(r store.Reader) error { return check(r, round) })
	}
}

// testWriteSkew: each goes off duty if the other is on, so one must stay.
func testWriteSkew(t *testing.T, s suite) {
	off := func(me, other string) func(store.Tx, int) error {
		return func(tx store.Tx, round int) error {
			n, err := getInt(tx, fmt.Sprint(other, round))
			if err != nil || n != 0 {
				return err
			}
			return putInt(tx, fmt.Sprint(me, round), 1)
		}
	}
	race(t, s, off("alpha", "beta"), off("beta", "alpha"), func(r store.Reader, round int) error {
		a, errA := getInt(r, fmt.Sprint("alpha", round))
		b, errB := getInt(r, fmt.Sprint("beta", round))
		if a+b != 1 {
			t.Errorf("round %d: %d are off duty, want 1", round, a+b)
		}
		return errors.Join(errA, errB)
	})
}

// testPhantomInsert: each adds an entry to the range if it is empty.
func testPhantomInsert(t *testing.T, s suite) {
	insert := func(me string) func(store.Tx, int) error {
		return func(tx store.Tx, round int) error {
			prefix := fmt.Sprintf("%03d/", round)
			got, err := collect(tx, prefix, store.PrefixEnd(prefix))
			if err != nil || len(got) > 0 {
				return err
			}
			return tx.Put(prefix+me, nil)
		}
	}
	race(t, s, insert("a"), insert("b"), func(r store.Reader, round int) error {
		prefix := fmt.Sprintf("%03d/", round)
		got, err := collect(r, prefix, store.PrefixEnd(prefix))
		if len(got) != 2 {
			t.Errorf("round %d: %q, want one entry", round, got)
		}
		return err
	})
}

// testPhantomDelete: a range has two entries; each deletes his own if the range is still whole, so one must stay.
func testPhantomDelete(t *testing.T, s suite) {
	for round := range 40 {
		s.put(t, fmt.Sprintf("%03d/a", round), "", fmt.Sprintf("%03d/b", round), "")
	}
	remove := func(me string) func(store.Tx, int) error {
		return func(tx store.Tx, round int) error {
			prefix := fmt.Sprintf("%03d/", round)
			got, err := collect(tx, prefix, store.PrefixEnd(prefix))
			if err != nil || len(got) < 4 {
				return err
			}
			return tx.Delete(prefix + me)
		}
	}
	race(t, s, remove("a"), remove("b"), func(r store.Reader, round int) error {
		prefix := fmt.Sprintf("%03d/", round)
		got, err := collect(r, prefix, store.PrefixEnd(prefix))
		if len(got) != 2 {
			t.Errorf("round %d: %q, want one entry", round, got)
		}
		return err
	})
}

const counters = 5

// A record is what one transaction saw of each counter (-1: it did not look), and which it made one larger.
type record struct {
	saw  [counters]int
	incr [counters]bool
}

// testSerialisable lets many workers read and increment counters at random and checks that there is an order of all
// transactions in which each would have seen what it saw.
func testSerialisable(t *testing.T, s suite) {
	const workers, each = 8, 40
	var mu sync.Mutex
	var history []record
	var wg sync.WaitGroup
	for w := range workers {
		rng := rand.New(rand.NewPCG(uint64(w), 2))
		wg.Go(func() {
			for range each {
				rec, err := countAtRandom(t, s, rng)
				if err != nil {
					t.Errorf("Update: %v", err)
					return
				}
				mu.Lock()
				history = append(history, rec)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if err := serialisable(history); err != nil {
		t.Error(err)
	}
}

func countAtRandom(t *testing.T, s suite, rng *rand.Rand) (record, error) {
	look, incr := rng.Uint32(), rng.Uint32()&rng.Uint32()
	if rng.IntN(4) == 0 {
		incr = 0
	}
	var rec record
	read := func(r store.Reader) error {
		for i := range counters {
			rec.saw[i], rec.incr[i] = -1, incr>>i&1 == 1
			if look>>i&1 == 0 && !rec.incr[i] {
				continue
			}
			var err error
			if rec.saw[i], err = getInt(r, fmt.Sprint("counter", i)); err != nil {
				return err
			}
		}
		return nil
	}
	if incr<<(32-counters) == 0 {
		return rec, s.db.View(t.Context(), read)
	}
	return rec, s.db.Update(t.Context(), func(tx store.Tx) error {
		if err := read(tx); err != nil {
			return err
		}
		for i, yes := range rec.incr {
			if yes {
				if err := putInt(tx, fmt.Sprint("counter", i), rec.saw[i]+1); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// serialisable looks for a cycle in "must come before": who made a counter n comes before all who saw n, and those before
// who made it n+1.
func serialisable(history []record) error {
	var made [counters]map[int]int // value → who made it
	for i := range made {
		made[i] = map[int]int{}
		for who, rec := range history {
			if !rec.incr[i] {
				continue
			}
			if other, twice := made[i][rec.saw[i]+1]; twice {
				return fmt.Errorf("lost update: %v and %v both made counter %d %d", history[other], rec, i, rec.saw[i]+1)
			}
			made[i][rec.saw[i]+1] = who
		}
	}
	after := make([][]int, len(history))
	waits := make([]int, len(history))
	edge := func(from, to int) {
		if from != to {
			after[from] = append(after[from], to)
			waits[to]++
		}
	}
	for who, rec := range history {
		for i, n := range rec.saw {
			if n < 0 {
				continue
			}
			maker, ok := made[i][n]
			if n > 0 && !ok {
				return fmt.Errorf("dirty read: %v saw counter %d at %d, which nobody made", rec, i, n)
			}
			if ok {
				edge(maker, who)
			}
			if next, ok := made[i][n+1]; ok {
				edge(who, next)
			}
		}
	}
	return acyclic(after, waits, history)
}

// acyclic takes away, again and again, what waits for nothing.
func acyclic(after [][]int, waits []int, history []record) error {
	var free []int
	for who, n := range waits {
		if n == 0 {
			free = append(free, who)
		}
	}
	placed := 0
	for len(free) > 0 {
		who := free[len(free)-1]
		free = free[:len(free)-1]
		placed++
		for _, next := range after[who] {
			if waits[next]--; waits[next] == 0 {
				free = append(free, next)
			}
		}
	}
	if placed == len(history) {
		return nil
	}
	stuck := slices.IndexFunc(waits, func(n int) bool { return n > 0 })
	return fmt.Errorf("%d of %d transactions fit into no order, among them %v", len(history)-placed, len(history), history[stuck])
}
