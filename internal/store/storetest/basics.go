package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/store"
)

func testReadYourWrites(t *testing.T, s suite) {
	s.put(t, "a", "1", "b", "2")
	s.update(t, func(tx store.Tx) error {
		if err := putPairs(tx, "a", "3", "c", "4"); err != nil {
			return err
		}
		if err := tx.Delete("b"); err != nil {
			return err
		}
		if err := tx.Delete("absent"); err != nil {
			t.Errorf("deleting what does not exist: %v", err)
		}
		if _, err := tx.Get("b"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("Get of a key just deleted: %v", err)
		}
		wantScan(t, tx, "", "", "a", "3", "c", "4")
		return putPairs(tx, "b", "5")
	})
	s.want(t, "a", "3", "b", "5", "c", "4")
	s.update(t, func(tx store.Tx) error { // put and delete, delete and put
		return errors.Join(tx.Put("d", []byte("6")), tx.Delete("d"), tx.Delete("a"), tx.Put("a", []byte("7")))
	})
	s.want(t, "a", "7", "b", "5", "c", "4")
}

func testValues(t *testing.T, s suite) {
	big := make([]byte, store.MaxValue)
	for i := range big {
		big[i] = byte(i * i >> 8)
	}
	values := map[string][]byte{"nil": nil, "empty": {}, "zero": {0}, "big": big, "page": big[:4096], "long": big[:5000]}
	for k, v := range values {
		s.update(t, func(tx store.Tx) error {
			if err := tx.Put(k, v); err != nil {
				return err
			}
			wantValue(t, tx, k, v)
			return nil
		})
	}
	s.view(t, func(r store.Reader) error {
		for k, v := range values {
			wantValue(t, r, k, v)
		}
		return nil
	})
	s.update(t, func(tx store.Tx) error { // as seen under an overlay that has other keys
		if err := tx.Put("other", nil); err != nil {
			return err
		}
		for k, v := range values {
			wantValue(t, tx, k, v)
		}
		return nil
	})
}

func wantValue(t *testing.T, r store.Reader, key string, want []byte) {
	t.Helper()
	got, err := r.Get(key)
	if err != nil || got == nil || !bytes.Equal(got, want) {
		t.Errorf("Get(%q): %d bytes (nil: %t), %v; want %d bytes", key, len(got), got == nil, err, len(want))
	}
}

func testAliasing(t *testing.T, s suite) {
	s.put(t, "filler", strings.Repeat("x", 10_000)) // a store that is almost empty may be kept in another way
	value := []byte("value")
	s.update(t, func(tx store.Tx) error {
		copy(value, "value")
		if err := tx.Put("k", value); err != nil {
			return err
		}
		copy(value, "VALUE")
		wantScan(t, tx, "k", "", "k", "value")
		return nil
	})
	var kept [][]byte
	keep := func(r store.Reader) error {
		v, err := r.Get("k")
		kept = append(kept, v)
		for e := range r.Scan("k", "") {
			kept = append(kept, e.Value)
		}
		return err
	}
	s.view(t, keep)
	s.update(t, func(tx store.Tx) error { return keep(tx) })
	s.update(t, func(tx store.Tx) error {
		if err := tx.Put("k", []byte("value")); err != nil {
			return err
		}
		return keep(tx)
	})
	// Enough changes, of all sizes, to use the pages of old values again.
	for i := range 100 {
		s.put(t, "k", fmt.Sprint("other", i), fmt.Sprint("k", i%20), strings.Repeat("x", 50*i))
	}
	for i, v := range kept {
		if string(v) != "value" {
			t.Errorf("value %d that the caller kept has changed to %q", i, v)
		}
	}
}

func testKeys(t *testing.T, s suite) {
	long := strings.Repeat("k", store.MaxKey)
	s.put(t, long, "1", "\x00", "2", "\xff", "3", "/", "4")
	s.want(t, "\x00", "2", "/", "4", long, "1", "\xff", "3")
	for _, key := range []string{"", long + "k"} {
		s.view(t, func(r store.Reader) error {
			if _, err := r.Get(key); !errors.Is(err, store.ErrKey) {
				t.Errorf("Get of a key of %d bytes in a View: %v", len(key), err)
			}
			return nil
		})
	}
	s.view(t, func(r store.Reader) error { // bounds are not keys
		wantScan(t, r, long+"\x00", "\xff", []string{}...)
		wantScan(t, r, "\x00", long+"\x00", "\x00", "2", "/", "4", long, "1")
		return nil
	})
}

func testKeyErrorIsSticky(t *testing.T, s suite) {
	long := strings.Repeat("k", store.MaxKey+1)
	ops := map[string]func(store.Tx) error{
		"get empty":    func(tx store.Tx) error { _, err := tx.Get(""); return err },
		"get long":     func(tx store.Tx) error { _, err := tx.Get(long); return err },
		"put empty":    func(tx store.Tx) error { return tx.Put("", nil) },
		"put long":     func(tx store.Tx) error { return tx.Put(long, nil) },
		"delete empty": func(tx store.Tx) error { return tx.Delete("") },
		"delete long":  func(tx store.Tx) error { return tx.Delete(long) },
	}
	for name, op := range ops {
		wantSticky(t, s, name, store.ErrKey, func(tx store.Tx) error { return op(tx) })
	}
	s.want(t)
}

// wantSticky checks that op fails, that Update fails although fn ignores that, and that nothing was written.
func wantSticky(t *testing.T, s suite, name string, want error, op func(store.Tx) error) {
	t.Helper()
	err := s.db.Update(t.Context(), func(tx store.Tx) error {
		if err := tx.Put("sticky", []byte("before")); err != nil {
			return err
		}
		if err := op(tx); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		_ = tx.Put("sticky", []byte("after"))
		return nil
	})
	if !errors.Is(err, want) {
		t.Errorf("%s, then Update: %v, want %v", name, err, want)
	}
	s.view(t, func(r store.Reader) error {
		if _, err := r.Get("sticky"); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("%s left something: %v", name, err)
		}
		return nil
	})
}

func testLimits(t *testing.T, s suite) {
	wantSticky(t, s, "value", store.ErrTooLarge, func(tx store.Tx) error {
		return tx.Put("v", make([]byte, store.MaxValue+1))
	})
	wantSticky(t, s, "bytes", store.ErrTooLarge, func(tx store.Tx) error {
		if err := tx.Put("v", make([]byte, store.MaxValue)); err != nil {
			return err
		}
		return tx.Put("w", make([]byte, store.MaxBytes-store.MaxValue))
	})
	wantSticky(t, s, "writes", store.ErrTooLarge, func(tx store.Tx) error {
		return writeKeys(tx, store.MaxWrites) // one more than allowed, with the key of wantSticky
	})
	wantSticky(t, s, "gets", store.ErrTooLarge, func(tx store.Tx) error { return readTimes(tx, store.MaxReads+1) })
	wantSticky(t, s, "scans", store.ErrTooLarge, func(tx store.Tx) error {
		if err := readTimes(tx, store.MaxReads); err != nil {
			return fmt.Errorf("too early: %w", errors.New(err.Error()))
		}
		_, err := collect(tx, "", "")
		return err
	})
	s.want(t)
	// The last that is allowed is allowed.
	s.update(t, func(tx store.Tx) error { return writeKeys(tx, store.MaxWrites) })
	s.update(t, func(tx store.Tx) error { // the same keys again count once, so does the last value alone
		big := make([]byte, store.MaxValue)
		for range 3 {
			if err := errors.Join(writeKeys(tx, store.MaxWrites-1), tx.Put("big", big)); err != nil {
				return err
			}
		}
		return tx.Put("big", nil)
	})
	s.update(t, func(tx store.Tx) error {
		rest := make([]byte, store.MaxBytes-store.MaxValue-2)
		return errors.Join(tx.Put("v", make([]byte, store.MaxValue)), tx.Put("w", rest))
	})
	s.update(t, func(tx store.Tx) error { return readTimes(tx, store.MaxReads) })
	s.view(t, func(r store.Reader) error { return readTimes(r, 2*store.MaxReads) })
}

func writeKeys(tx store.Tx, n int) error {
	for i := range n {
		write := func() error { return tx.Put(fmt.Sprint("key", i), nil) }
		if i%3 == 0 {
			write = func() error { return tx.Delete(fmt.Sprint("key", i)) }
		}
		if err := write(); err != nil {
			return err
		}
	}
	return nil
}

func readTimes(r store.Reader, n int) error {
	for range n {
		if _, err := r.Get("absent"); !errors.Is(err, store.ErrNotFound) {
			return err
		}
	}
	return nil
}

func testScanBounds(t *testing.T, s suite) {
	all := []string{"\x00", "\x00\x00", "a", "a\x00", "a\xff", "a\xff\xff", "b", "b/c", "b0", "\xff", "\xff\xff"}
	var pairs []string
	for _, k := range all {
		pairs = append(pairs, k, "v"+k)
	}
	shuffled := append([]string{}, all...)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(all), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for _, k := range shuffled {
		s.put(t, k, "v"+k)
	}
	bounds := append([]string{"", "\x01", "aa", "a0", "c", "b/", store.PrefixEnd("b/"), "\xff\xff\xff"}, all...)
	check := func(r store.Reader, start, end string) {
		var want []string
		for i, k := range all {
			if k >= start && (end == "" || k < end) {
				want = append(want, pairs[2*i:2*i+2]...)
			}
		}
		wantScan(t, r, start, end, want...)
	}
	s.view(t, func(r store.Reader) error {
		for _, start := range bounds {
			for _, end := range bounds {
				check(r, start, end)
			}
			check(r, start, store.PrefixEnd(start))
		}
		return nil
	})
	s.update(t, func(tx store.Tx) error {
		check(tx, "a", store.PrefixEnd("a"))
		check(tx, "\xff", store.PrefixEnd("\xff"))
		check(tx, "b", "a")
		check(tx, "", "")
		return nil
	})
}

func testScanMerge(t *testing.T, s suite) {
	s.put(t, "b", "1", "d", "2", "f", "3", "h", "4")
	writes := func(tx store.Tx) error { // before, between, instead of, and after what is there
		return errors.Join(putPairs(tx, "a", "A", "c", "C", "d", "D", "i", "I"), tx.Delete("f"), tx.Delete("g"), tx.Delete("z"))
	}
	s.update(t, func(tx store.Tx) error {
		before := tx.Scan("", "") // must not see what is written after it
		if err := writes(tx); err != nil {
			return err
		}
		var keys string
		for e, err := range before {
			if err != nil {
				return err
			}
			keys += e.Key + string(e.Value)
		}
		if keys != "b1d2f3h4" {
			t.Errorf("a Scan called before the writes yields %s", keys)
		}
		wantScan(t, tx, "", "", "a", "A", "b", "1", "c", "C", "d", "D", "h", "4", "i", "I")
		wantScan(t, tx, "c", "i", "c", "C", "d", "D", "h", "4")
		wantScan(t, tx, "d", "d\x00", "d", "D")
		wantScan(t, tx, "f", "g")
		wantScan(t, tx, "z", "")
		return nil
	})
	s.want(t, "a", "A", "b", "1", "c", "C", "d", "D", "h", "4", "i", "I")
	s.update(t, func(tx store.Tx) error { // nothing left but own writes
		for _, k := range []string{"a", "b", "c", "d", "h", "i"} {
			if err := tx.Delete(k); err != nil {
				return err
			}
		}
		wantScan(t, tx, "", "")
		return putPairs(tx, "x", "X")
	})
	s.want(t, "x", "X")
}

func testScanTwiceAndBreak(t *testing.T, s suite) {
	s.put(t, "a", "1", "b", "2", "c", "3")
	check := func(r store.Reader) error {
		seq := r.Scan("", "")
		for range 2 { // a sequence can be ranged over again
			n := 0
			for e, err := range seq {
				if err != nil {
					return err
				}
				if n++; e.Key == "b" {
					break
				}
				for f, err := range r.Scan("c", "") { // one inside another
					if err != nil || f.Key != "c" {
						t.Errorf("nested: %q, %v", f.Key, err)
					}
				}
			}
			if n != 2 {
				t.Errorf("%d entries up to b", n)
			}
		}
		return nil
	}
	s.view(t, check)
	s.update(t, func(tx store.Tx) error {
		if err := putPairs(tx, "a", "x", "bb", "y"); err != nil {
			return err
		}
		return check(tx)
	})
}

func testEnded(t *testing.T, s suite) {
	s.put(t, "k", "v")
	var r store.Reader
	s.view(t, func(in store.Reader) error { r = in; return nil })
	var tx store.Tx
	s.update(t, func(in store.Tx) error { tx = in; return nil })
	for _, r := range []store.Reader{r, tx} {
		if _, err := r.Get("k"); err == nil {
			t.Errorf("%T: Get after the end succeeds", r)
		}
		if _, err := collect(r, "", ""); err == nil {
			t.Errorf("%T: Scan after the end succeeds", r)
		}
	}
	if tx.Put("k", nil) == nil || tx.Delete("k") == nil {
		t.Error("writing after the end succeeds")
	}
	s.want(t, "k", "v")
}

func testClosed(t *testing.T, open func() store.DB) {
	db := open()
	suite{db}.put(t, "k", "v")
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	ran := false
	if err := db.View(t.Context(), func(store.Reader) error { ran = true; return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("View: %v", err)
	}
	if err := db.Update(t.Context(), func(store.Tx) error { ran = true; return nil }); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Update: %v", err)
	}
	if err := db.Close(); !errors.Is(err, store.ErrClosed) {
		t.Errorf("Close: %v", err)
	}
	if ran {
		t.Error("a function ran on a closed store")
	}
}

func testReopen(t *testing.T, open func() store.DB) {
	var want []string
	for round := range 4 {
		db := open()
		s := suite{db}
		s.want(t, want...)
		key := fmt.Sprint("k", round)
		s.put(t, key, strings.Repeat("v", 3000*round), "gone", "x")
		s.update(t, func(tx store.Tx) error { return tx.Delete("gone") })
		want = append(want, key, strings.Repeat("v", 3000*round))
		s.want(t, want...)
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
