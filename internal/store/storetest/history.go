package storetest

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/store"
)

// testRandomHistory compares random transactions with a map. The seed is in the name of the test.
func testRandomHistory(t *testing.T, open func() store.DB) {
	seed := rand.Uint64()
	t.Run(fmt.Sprintf("seed=%#x", seed), func(t *testing.T) {
		RandomHistory(t, open, rand.NewPCG(seed, 0), 120)
	})
}

// RandomHistory makes n random transactions, drawn from src, on the empty store that open opens, closing and opening it now
// and then, and compares everything that it reads with what a map holds.
func RandomHistory(t *testing.T, open func() store.DB, src rand.Source, n int) {
	h := &history{t: t, rng: rand.New(src), model: map[string]string{}}
	db := open()
	defer func() { _ = db.Close() }()
	for range n {
		switch h.rng.IntN(20) {
		case 0:
			if err := db.Close(); err != nil {
				t.Fatalf("Close: %v", err)
			}
			db = open()
		case 1, 2, 3:
			suite{db}.view(t, func(r store.Reader) error {
				h.read(r, h.model)
				return nil
			})
		default:
			h.update(db)
		}
	}
	suite{db}.want(t, pairs(h.model, "", "")...)
}

type history struct {
	t     *testing.T
	rng   *rand.Rand
	model map[string]string
}

// key picks from few short keys, so that they meet often, with bytes at both ends of the order.
func (h *history) key() string {
	const alphabet = "\x00ab/\xff"
	k := make([]byte, 1+h.rng.IntN(3))
	for i := range k {
		k[i] = alphabet[h.rng.IntN(len(alphabet))]
	}
	return string(k)
}

func (h *history) value() string {
	v := fmt.Sprint(h.rng.Uint32())
	switch h.rng.IntN(8) {
	case 0:
		return ""
	case 1:
		return strings.Repeat(v, 1+h.rng.IntN(2000))
	}
	return v
}

func (h *history) bound() string {
	if h.rng.IntN(5) == 0 {
		return ""
	}
	return h.key()
}

func (h *history) read(r store.Reader, model map[string]string) {
	if h.rng.IntN(2) == 0 {
		start, end := h.bound(), h.bound()
		got, err := collect(r, start, end)
		if want := pairs(model, start, end); err != nil || !slices.Equal(got, want) {
			h.t.Errorf("Scan(%q, %q) = %.200q, %v; want %.200q", start, end, got, err, want)
		}
		return
	}
	key := h.key()
	got, err := r.Get(key)
	want, ok := model[key]
	if ok && (err != nil || string(got) != want) || !ok && !errors.Is(err, store.ErrNotFound) {
		h.t.Errorf("Get(%q) = %.50q, %v; want %.50q, %t", key, got, err, want, ok)
	}
}

func (h *history) update(db store.DB) {
	// What fn does is drawn once, so that a second run does the same.
	a, b := h.rng.Uint64(), h.rng.Uint64()
	fails := h.rng.IntN(5) == 0
	var after map[string]string
	err := db.Update(h.t.Context(), func(tx store.Tx) error {
		run := &history{t: h.t, rng: rand.New(rand.NewPCG(a, b)), model: maps.Clone(h.model)}
		for range run.rng.IntN(12) {
			if err := run.step(tx); err != nil {
				return err
			}
		}
		after = run.model
		if fails {
			return errMine
		}
		return nil
	})
	switch {
	case fails && err == errMine:
	case !fails && err == nil:
		h.model = after
	default:
		h.t.Fatalf("Update: %v", err)
	}
}

func (h *history) step(tx store.Tx) error {
	key := h.key()
	switch h.rng.IntN(5) {
	case 0, 1:
		value := h.value()
		h.model[key] = value
		return tx.Put(key, []byte(value))
	case 2:
		delete(h.model, key)
		return tx.Delete(key)
	}
	h.read(tx, h.model)
	return nil
}

// pairs returns the keys and values of model between start and end, in order.
func pairs(model map[string]string, start, end string) []string {
	var all []string
	for _, k := range slices.Sorted(maps.Keys(model)) {
		if k >= start && (end == "" || k < end) {
			all = append(all, k, model[k])
		}
	}
	return all
}
