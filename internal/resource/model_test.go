package resource

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

// A modelVault is what a name should be.
type modelVault struct {
	id        string
	group     string
	hsm       bool
	protected bool
	purgeAt   int64 // 0 for a live one
}

// history plays random operations on the lives of a few vaults and managed HSMs on two services over one store, and compares every
// result with a model.
type history struct {
	*bench
	t       *testing.T
	rng     *rand.Rand
	servers []*Service
	model   map[string]*modelVault // by family and name
	did     map[string]int
}

func TestRandomLives(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			_, _, err := b.PutGroup(t.Context(), owner, Group{Name: "h", Location: "local"})
			must(t, err)
			h := &history{
				bench: b, t: t, rng: rand.New(rand.NewPCG(seed, 1)), servers: []*Service{b.Service, b.serve(t)},
				model: make(map[string]*modelVault), did: make(map[string]int),
			}
			for range 400 {
				if seed%2 == 1 {
					b.faulty.SetPlan(storetest.Plan{Fail: 0.1, Twice: 0.2})
				}
				h.step()
				b.faulty.SetPlan(storetest.Plan{})
				h.compare()
			}
			b.consistent(t)
			for _, what := range []string{"create", "recover", "delete", "purge", "due", "refused"} {
				if h.did[what] == 0 {
					t.Errorf("nothing came of %s: the test tests nothing", what)
				}
			}
		})
	}
}

// result compares the outcome of an operation with what the model says. It reports whether the operation took place.
func (h *history) result(what string, err error, want Kind) bool {
	h.t.Helper()
	switch {
	case errors.Is(err, storetest.ErrInjected):
		return false
	case want == 0 && err != nil:
		h.t.Fatalf("%s: %v", what, err)
	case want != 0 && !IsKind(err, want):
		h.t.Fatalf("%s: %v, want kind %d", what, err, want)
	case want != 0:
		h.did["refused"]++
		return false
	}
	h.did[what]++
	return true
}

func (h *history) step() {
	ctx := h.t.Context()
	s := h.servers[h.rng.IntN(2)]
	hsm := h.rng.IntN(3) == 0
	f := &vaultFamily
	if hsm {
		f = &hsmFamily
	}
	name := []string{"aaa", "bbb"}[h.rng.IntN(2)]
	spelled := []string{name, strings.ToUpper(name)}[h.rng.IntN(2)]
	group := []string{"g", "h"}[h.rng.IntN(2)]
	key := f.key(name)
	m := h.model[key]
	in := settings{location: "local", administrators: []string{ownerID}, skuName: hsmSKUs[0]}
	if !hsm {
		in.administrators, in.skuName = nil, ""
	}
	in.RetentionDays = new(7)
	switch h.rng.IntN(6) {
	case 0: // create or replace
		if h.rng.IntN(4) == 0 {
			in.PurgeProtection = new(true)
		}
		want := Kind(0)
		switch {
		case m == nil:
		case m.group != group:
			want = VaultAlreadyExists
		case m.purgeAt != 0:
			want = ConflictError
		}
		v, created, err := s.put(ctx, owner, f, group, spelled, in)
		if h.result("create", err, want) {
			if created != (m == nil) {
				h.t.Fatalf("created: %v", created)
			}
			if m == nil {
				m = &modelVault{id: v.ID, group: group, hsm: hsm}
				h.model[key] = m
			}
			m.protected = m.protected || in.PurgeProtection != nil
		}
	case 1: // recover
		in.recover = true
		want := Kind(0)
		switch {
		case m == nil || m.group != group:
			want = SoftDeletedVaultDoesNotExist
		case m.purgeAt == 0:
			want = ConflictError
		}
		if _, _, err := s.put(ctx, owner, f, group, spelled, in); h.result("recover", err, want) {
			m.purgeAt = 0
		}
	case 2: // delete
		existed, err := s.remove(ctx, owner, f, group, spelled)
		there := m != nil && m.group == group && m.purgeAt == 0
		if h.result("delete", err, 0) {
			if existed != there {
				h.t.Fatalf("existed: %v", existed)
			}
			if there {
				m.purgeAt = h.clock().Unix() + 7*secondsPerDay
			}
		}
	case 3: // purge
		want := Kind(0)
		switch {
		case m == nil || m.purgeAt == 0:
			want = SoftDeletedVaultDoesNotExist
		case m.protected:
			want = PurgeProtected
		}
		if h.result("purge", s.purgeOne(ctx, owner, f, "local", spelled), want) {
			delete(h.model, key)
		}
	case 4:
		h.advance(time.Duration(h.rng.IntN(3*24)) * time.Hour)
	case 5:
		h.stepDue(s)
	}
}

// stepDue purges what is due.
func (h *history) stepDue(s *Service) {
	var entries []store.Entry
	must(h.t, h.db.View(h.t.Context(), func(r store.Reader) error {
		entries = nil
		for e, err := range r.Scan("due/", record.DueTime(h.clock().Unix()+1)) {
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return nil
	}))
	for _, e := range entries {
		var at int64
		parts := strings.Split(e.Key, "/")
		if _, err := fmt.Sscan(strings.TrimLeft(parts[1], "0"), &at); err != nil {
			h.t.Fatal(err)
		}
		var did bool
		err := h.db.Update(h.t.Context(), func(tx store.Tx) (err error) {
			did, err = s.PurgeDue(tx, parts[2], e.Key, parts[3], at)
			return err
		})
		if !h.result("due", err, 0) {
			continue
		}
		key := map[string]string{"purgevault": "vault/", "purgehsm": "hsm/"}[parts[2]] + parts[3]
		if m := h.model[key]; !did || m == nil || m.purgeAt != at {
			h.t.Fatalf("%s was due, and purged: %v", e.Key, did)
		}
		delete(h.model, key)
	}
}

// compare holds every list against the model.
func (h *history) compare() {
	got := make(map[string]modelVault)
	for _, f := range []*family{&vaultFamily, &hsmFamily} {
		live, err := h.list(h.t.Context(), owner, f, "")
		must(h.t, err)
		deleted, err := h.listDeleted(h.t.Context(), owner, f)
		must(h.t, err)
		for _, v := range append(live, deleted...) {
			got[f.key(v.Name)] = modelVault{v.ID, v.ResourceGroup, v.Tier == ManagedHSM, v.PurgeProtection, v.PurgeAt}
		}
	}
	for key, m := range h.model {
		if got[key] != *m {
			h.t.Fatalf("%s is %+v, want %+v", key, got[key], *m)
		}
	}
	if len(got) != len(h.model) {
		h.t.Fatalf("there are %d, want %d", len(got), len(h.model))
	}
}
