package storetest_test

import (
	"errors"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/bolt"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

func open(t *testing.T) store.DB {
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func get(t *testing.T, db store.DB, key string) string {
	var value []byte
	err := db.View(t.Context(), func(r store.Reader) (err error) {
		value, err = r.Get(key)
		return err
	})
	if err != nil {
		return err.Error()
	}
	return string(value)
}

func TestFaultySchedule(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		fault   storetest.Fault
		runs    int
		written bool
		err     error
		unknown bool
	}{
		{"none", storetest.None, 1, true, nil, false},
		{"fail", storetest.Fail, 1, false, storetest.ErrInjected, false},
		{"unknown", storetest.Unknown, 1, true, storetest.ErrInjected, true},
		{"lost", storetest.Lost, 1, false, storetest.ErrInjected, true},
		{"twice", storetest.Twice, 2, true, nil, false},
	}
	for _, tc := range tests {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			f := storetest.NewFaulty(open(t), 1)
			f.Schedule(tc.fault)
			runs := 0
			err := f.Update(t.Context(), func(tx store.Tx) error {
				runs++
				if _, err := tx.Get("k"); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("run %d sees another run's write", runs)
				}
				return tx.Put("k", []byte("v"))
			})
			if !errors.Is(err, tc.err) || errors.Is(err, store.ErrUnknown) != tc.unknown {
				t.Errorf("Update: %v", err)
			}
			want := store.ErrNotFound.Error()
			if tc.written {
				want = "v"
			}
			if got := get(t, f, "k"); got != want {
				t.Errorf("afterwards: %q, want %q", got, want)
			}
			if runs != tc.runs || f.Count(tc.fault) != 1 {
				t.Errorf("%d runs and %d faults, want %d and 1", runs, f.Count(tc.fault), tc.runs)
			}
			if err := f.Update(t.Context(), func(tx store.Tx) error { return tx.Put("k", []byte("w")) }); err != nil {
				t.Errorf("after the schedule: %v", err)
			}
		})
	}
}

func TestFaultyKeepsRealErrors(t *testing.T) {
	t.Parallel()
	f := storetest.NewFaulty(open(t), 1)
	mine := errors.New("mine")
	for _, fault := range []storetest.Fault{storetest.Fail, storetest.Unknown, storetest.Lost, storetest.Twice} {
		f.Schedule(fault)
		if err := f.Update(t.Context(), func(store.Tx) error { return mine }); err != mine {
			t.Errorf("fault %d: %v", fault, err)
		}
	}
}

func TestFaultyPlanFollowsItsSeed(t *testing.T) {
	t.Parallel()
	run := func(seed uint64) []int {
		f := storetest.NewFaulty(open(t), seed)
		f.SetPlan(storetest.Plan{Fail: 0.2, Unknown: 0.2, Lost: 0.1, Twice: 0.3})
		var history []int
		for range 200 {
			runs := 0
			err := f.Update(t.Context(), func(store.Tx) error { runs++; return nil })
			if errors.Is(err, store.ErrUnknown) {
				runs += 10
			} else if err != nil {
				runs += 20
			}
			history = append(history, runs)
		}
		for fault, want := range map[storetest.Fault]int{0: 40, storetest.Fail: 40, storetest.Unknown: 40, storetest.Lost: 20, storetest.Twice: 60} {
			if n := f.Count(fault); n < want/2 || n > want*2 {
				t.Errorf("fault %d: %d times in 200, want about %d", fault, n, want)
			}
		}
		return history
	}
	if diff := cmp.Diff(run(7), run(7)); diff != "" {
		t.Errorf("the same seed, another history:\n%s", diff)
	}
	if cmp.Equal(run(7), run(8)) {
		t.Error("another seed, the same history")
	}
}
