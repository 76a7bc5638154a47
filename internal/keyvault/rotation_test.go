package keyvault

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

const day = 24 * time.Hour

func rotateAfter(period string) RotationPolicy {
	return RotationPolicy{Actions: []LifetimeAction{{Action: ActionRotate, AfterCreate: period}}}
}

func rotateBefore(period, life string) RotationPolicy {
	return RotationPolicy{ExpiryTime: life, Actions: []LifetimeAction{{Action: ActionRotate, BeforeExpiry: period}}}
}

func (b *bench) setPolicy(t testing.TB, vault, name string, p RotationPolicy) RotationPolicy {
	t.Helper()
	got, err := b.of(vault).SetRotationPolicy(t.Context(), admin, vault, name, p)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// act does what is due until nothing is, and returns how much it was.
func (b *bench) act(t testing.TB) (total int) {
	t.Helper()
	for range 100 {
		n, err := b.ActOnDue(t.Context(), everything)
		if err != nil {
			t.Fatal(err)
		}
		if total += n; n == 0 {
			return total
		}
	}
	t.Fatal("there is no end to what is due")
	return 0
}

// due returns when what is due for the key k, in days from the bench's start, from the index.
func (b *bench) due(t testing.TB) map[string]float64 {
	t.Helper()
	out := make(map[string]float64)
	err := b.db.View(t.Context(), func(r store.Reader) error {
		for key, err := range seal.Keys(r, "due/", store.PrefixEnd("due/")) {
			if err != nil {
				return err
			}
			at, rest, err := parseDue(key)
			if err != nil {
				return err
			}
			if rest[len(rest)-1] == "k" {
				out[rest[0]] = float64(at-1_700_000_000) / secondsPerDay
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func (b *bench) wantDue(t testing.TB, want map[string]float64) {
	t.Helper()
	if diff := gocmp.Diff(want, b.due(t)); diff != "" {
		t.Errorf("due, in days (-want +got):\n%s", diff)
	}
	b.consistent(t)
}

// an auditLine is what the tests look at in a record of the audit log.
type auditLine struct {
	OperationName, Category, ResultType, ResultDescription, CorrelationID, ResourceID string

	Properties struct{ ID string }
}

func (b *bench) auditLines(t testing.TB, operation string) (out []auditLine) {
	t.Helper()
	raw, err := os.ReadFile(b.auditPath)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(raw) {
		var l auditLine
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if l.OperationName == operation {
			out = append(out, l)
		}
	}
	return out
}

func (b *bench) events(t testing.TB) (out []eventRecord) {
	t.Helper()
	err := b.db.View(t.Context(), func(r store.Reader) error {
		out = nil
		for e, err := range r.Scan("event/", store.PrefixEnd("event/")) {
			if err != nil {
				return err
			}
			rec, err := record.Decode[eventRecord](e.Value)
			if err != nil {
				return err
			}
			out = append(out, *rec)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPolicyRules has each rule of the contract (§5) at its edge.
func TestPolicyRules(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
	notify := LifetimeAction{Action: ActionNotify, BeforeExpiry: "P30D"}
	after := func(p string) LifetimeAction { return LifetimeAction{Action: ActionRotate, AfterCreate: p} }
	before := func(p string) LifetimeAction { return LifetimeAction{Action: ActionRotate, BeforeExpiry: p} }
	for _, c := range []struct {
		expiry  string
		actions []LifetimeAction
		ok      bool
	}{
		{"", nil, true},
		{"", []LifetimeAction{notify}, true},
		{"", []LifetimeAction{after("P2M")}, true},
		{"", []LifetimeAction{after("P7D"), notify}, true},
		{"", []LifetimeAction{notify, after("P7D")}, true},
		{"P30D", []LifetimeAction{after("P15D"), {Action: ActionNotify, BeforeExpiry: "P7D"}}, true}, // as recorded
		{"P28D", nil, true},
		{"P27D", nil, false},
		{"P4W", nil, true},
		{"P1M", nil, true},
		{"P0D", nil, false},
		{"P100Y", nil, true},
		{"P101Y", nil, false},
		{"a year", nil, false},
		{"PT672H", nil, false},
		{"", []LifetimeAction{after("P6D")}, false},
		{"", []LifetimeAction{after("P1W")}, true},
		{"", []LifetimeAction{after("P100Y")}, true},
		{"P28D", []LifetimeAction{after("P21D")}, true},
		{"P28D", []LifetimeAction{after("P22D")}, false},
		{"P28D", []LifetimeAction{after("P6D")}, false},
		{"P28D", []LifetimeAction{before("P7D")}, true},
		{"P28D", []LifetimeAction{before("P6D")}, false},
		{"P28D", []LifetimeAction{before("P21D")}, true},
		{"P28D", []LifetimeAction{before("P22D")}, false},
		{"P2Y", []LifetimeAction{before("P24M")}, false}, // the same length
		{"P2Y", []LifetimeAction{after("P24M")}, false},
		{"P2Y", []LifetimeAction{before("P23M")}, true},
		{"", []LifetimeAction{before("P30D")}, false},
		{"", []LifetimeAction{{Action: ActionNotify, AfterCreate: "P30D"}}, false},
		{"", []LifetimeAction{{Action: ActionNotify}}, false},
		{"", []LifetimeAction{{Action: ActionRotate}}, false},
		{"P1Y", []LifetimeAction{{Action: ActionRotate, AfterCreate: "P30D", BeforeExpiry: "P30D"}}, false},
		{"", []LifetimeAction{{Action: ActionNotify, BeforeExpiry: "soon"}}, false},
		{"", []LifetimeAction{{Action: ActionNotify, BeforeExpiry: "P0D"}}, true},
		{"", []LifetimeAction{after("")}, false},
		{"", []LifetimeAction{{Action: "Explode", AfterCreate: "P30D"}}, false},
		{"", []LifetimeAction{{Action: strings.Repeat("\xff", 1<<16), AfterCreate: "P30D"}}, false},
		{"", []LifetimeAction{{AfterCreate: "P30D"}}, false},
		{"", []LifetimeAction{notify, notify}, false},
		{"", []LifetimeAction{after("P7D"), after("P8D")}, false},
		{"", []LifetimeAction{after("P7D"), notify, after("P8D")}, false},
		{"", slices.Repeat([]LifetimeAction{notify}, 10_000), false},
		{"", []LifetimeAction{{Action: "rotate", AfterCreate: "P7D"}, {Action: "NOTIFY", BeforeExpiry: "P1D"}}, true},
		{"", []LifetimeAction{{Action: "rotate", AfterCreate: "P7D"}, {Action: "ROTATE", AfterCreate: "P7D"}}, false},
	} {
		p := RotationPolicy{ExpiryTime: c.expiry, Actions: c.actions}
		name := fmt.Sprintf("%.200v", p)
		if !c.ok {
			b.refused(t, BadParameter, func() error {
				_, err := b.SetRotationPolicy(ctx, admin, "vault", "k", p)
				if err == nil || len(err.Error()) > 1000 {
					t.Errorf("%s: error %.200v", name, err)
				}
				return err
			})
			continue
		}
		got, err := b.SetRotationPolicy(ctx, admin, "vault", "k", p)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := slices.Clone(c.actions)
		for i := range want {
			want[i].Action = map[string]string{"rotate": ActionRotate, "notify": ActionNotify}[strings.ToLower(want[i].Action)]
		}
		if !slices.ContainsFunc(want, func(a LifetimeAction) bool { return a.Action == ActionNotify }) {
			want = append(want, notify)
		}
		if got.ExpiryTime != c.expiry || !slices.Equal(got.Actions, want) {
			t.Errorf("%s became %+v", name, got)
		}
		again, err := b.GetRotationPolicy(ctx, admin, "vault", "k")
		if err != nil || !gocmp.Equal(got, again) {
			t.Errorf("%s is stored as %+v, %v", name, again, err)
		}
	}
	for _, name := range []string{"none", "a/b"} {
		_, err := b.SetRotationPolicy(ctx, admin, "vault", name, RotationPolicy{})
		wantKind(t, err, map[string]Kind{"none": NotFound, "a/b": BadParameter}[name])
		_, err = b.GetRotationPolicy(ctx, admin, "vault", name)
		wantKind(t, err, map[string]Kind{"none": NotFound, "a/b": BadParameter}[name])
	}
}

// TestPolicyTimes looks at when a policy was made and changed; a key that never got one has Azure's.
func TestPolicyTimes(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	k := b.create(t, "vault", "K", CreateKeyParams{Type: "EC"})
	want := RotationPolicy{Name: "K", Vault: k.Vault, Actions: []LifetimeAction{{Action: ActionNotify, BeforeExpiry: "P30D"}}}
	check := func(got RotationPolicy, err error) {
		t.Helper()
		if diff := gocmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
	check(b.GetRotationPolicy(ctx, admin, "vault", "k"))
	want.Created, want.Updated = k.Created, k.Created
	check(b.SetRotationPolicy(ctx, admin, "vault", "k", RotationPolicy{Created: 5, Updated: 6, Name: "x", Vault: "y"}))
	b.advance(time.Second)
	want.ExpiryTime, want.Updated = "P1Y", k.Created+1
	check(b.SetRotationPolicy(ctx, admin, "vault", "k", RotationPolicy{ExpiryTime: "P1Y"}))
	b.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
	check(b.GetRotationPolicy(ctx, admin, "vault", "k"))
}

// TestRotateKey rotates a key of each kind by hand.
func TestRotateKey(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	enabled, policy := false, &ReleasePolicy{Data: []byte(anyPolicy)}
	for name, p := range map[string]CreateKeyParams{
		"oct":    {Type: "oct-HSM", Bits: 192, Operations: []string{"wrapKey"}},
		"ec":     {Type: "EC", Curve: "P-521"},
		"curvek": {Type: "EC-HSM", Curve: "P-256K", Exportable: true, ReleasePolicy: policy},
		"kek":    {Type: "RSA-HSM", Operations: []string{"import"}},
	} {
		p.Tags = map[string]string{"a": "b"}
		p.Attributes = Attributes{Enabled: &enabled, NotBefore: new(int64(1)), Expires: new(int64(2_000_000_000))}
		old := b.create(t, "premium", name, p)
		got, err := b.RotateKey(ctx, admin, "premium", strings.ToUpper(name))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		want := old
		want.Version, want.NotBefore, want.Expires = got.Version, nil, nil
		if got.Version == old.Version || p.Type != "oct-HSM" && gocmp.Equal(got.Public, old.Public) {
			t.Errorf("%s: %+v is the old key", name, got)
		}
		want.Public = got.Public
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if again, err := b.GetKey(ctx, admin, "premium", name, ""); err != nil || !gocmp.Equal(got, again) {
			t.Errorf("%s is stored as %+v, %v", name, again, err)
		}
	}
	b.setPolicy(t, "premium", "ec", RotationPolicy{ExpiryTime: "P1Y"})
	k, err := b.RotateKey(ctx, admin, "premium", "ec")
	if at := time.Unix(k.Created, 0).UTC().AddDate(1, 0, 0).Unix(); err != nil || k.Expires == nil || *k.Expires != at {
		t.Errorf("expires at %v, want %d; %v", k.Expires, at, err)
	}
	_, err = b.RotateKey(ctx, admin, "premium", "none")
	wantKind(t, err, NotFound)
	b.take(t, "premium", "long", ImportKeyParams{Type: "oct-HSM", Private: PrivateKey{K: make([]byte, 64)}})
	b.refused(t, BadParameter, func() error { // such keys are imported and not made
		_, err := b.RotateKey(ctx, admin, "premium", "long")
		return err
	})
}

// TestPlan follows the due entries of a key through whatever can change them.
func TestPlan(t *testing.T) {
	t.Parallel()
	type due = map[string]float64
	at := func(b *bench, days int64) *int64 { return new(int64(1_700_000_000) + days*secondsPerDay) }
	create := func(t *testing.T, b *bench, expires int64) Key {
		p := CreateKeyParams{Type: "EC"}
		if expires != 0 {
			p.Attributes.Expires = at(b, expires)
		}
		return b.create(t, "vault", "k", p)
	}
	for name, steps := range map[string][]struct {
		do   func(t *testing.T, b *bench)
		want due
	}{
		"no policy": {
			{func(t *testing.T, b *bench) { create(t, b, 0) }, due{}},
			{func(t *testing.T, b *bench) { create(t, b, 100) }, due{"notify": 70}},
			{func(t *testing.T, b *bench) { create(t, b, 0) }, due{}},
			{func(t *testing.T, b *bench) { create(t, b, 20) }, due{"notify": -10}}, // its time has come already
			{func(t *testing.T, b *bench) { create(t, b, -20) }, due{}},             // too late
		},
		"after creation": {
			{func(t *testing.T, b *bench) { create(t, b, 0); b.setPolicy(t, "vault", "k", rotateAfter("P10D")) }, due{"rotate": 10}},
			{func(t *testing.T, b *bench) { b.advance(4 * day); create(t, b, 0) }, due{"rotate": 14}},
			{func(t *testing.T, b *bench) { b.setPolicy(t, "vault", "k", rotateAfter("P20D")) }, due{"rotate": 24}},
			{func(t *testing.T, b *bench) { b.setPolicy(t, "vault", "k", RotationPolicy{}) }, due{}},
			{func(t *testing.T, b *bench) { b.advance(20 * day); b.setPolicy(t, "vault", "k", rotateAfter("P10D")) }, due{"rotate": 14}},
			{func(t *testing.T, b *bench) { b.act(t) }, due{"rotate": 34}},
		},
		"before expiry": {
			{func(t *testing.T, b *bench) {
				create(t, b, 0)
				b.setPolicy(t, "vault", "k", rotateBefore("P10D", "P60D"))
			}, due{}},
			{func(t *testing.T, b *bench) { create(t, b, 200) }, due{"rotate": 190, "notify": 170}},
			{func(t *testing.T, b *bench) {
				if _, err := b.RotateKey(t.Context(), admin, "vault", "k"); err != nil {
					t.Fatal(err)
				}
			}, due{"rotate": 50, "notify": 30}},
			{func(t *testing.T, b *bench) {
				b.setPolicy(t, "vault", "k", RotationPolicy{ExpiryTime: "P60D", Actions: []LifetimeAction{
					{Action: ActionNotify, BeforeExpiry: "P1D"}}})
			}, due{"notify": 59}},
		},
		"updates": {
			{func(t *testing.T, b *bench) {
				create(t, b, 100)
				b.setPolicy(t, "vault", "k", rotateBefore("P10D", "P60D"))
			}, due{"rotate": 90, "notify": 70}},
			{func(t *testing.T, b *bench) {
				if _, err := b.UpdateKey(t.Context(), admin, "vault", "k", "", UpdateKeyParams{Attributes: Attributes{Expires: at(b, 40)}}); err != nil {
					t.Fatal(err)
				}
			}, due{"rotate": 30, "notify": 10}},
			{func(t *testing.T, b *bench) { // of an old version
				old := create(t, b, 50)
				create(t, b, 80)
				if _, err := b.UpdateKey(t.Context(), admin, "vault", "k", old.Version, UpdateKeyParams{Attributes: Attributes{Expires: at(b, 1)}}); err != nil {
					t.Fatal(err)
				}
			}, due{"rotate": 70, "notify": 50}},
			{func(t *testing.T, b *bench) { // of something else
				if _, err := b.UpdateKey(t.Context(), admin, "vault", "k", "", UpdateKeyParams{Attributes: Attributes{Enabled: new(bool)}}); err != nil {
					t.Fatal(err)
				}
			}, due{"rotate": 70, "notify": 50}},
			{func(t *testing.T, b *bench) { b.advance(70 * day); b.act(t) }, due{"rotate": 120, "notify": 100}},
		},
		"deleted and recovered": {
			{func(t *testing.T, b *bench) {
				create(t, b, 100)
				b.setPolicy(t, "vault", "k", rotateAfter("P10D"))
			}, due{"rotate": 10, "notify": 70}},
			{func(t *testing.T, b *bench) {
				b.advance(9 * day)
				if _, err := b.DeleteKey(t.Context(), admin, "vault", "k"); err != nil {
					t.Fatal(err)
				}
			}, due{"purge": 16}},
			{func(t *testing.T, b *bench) {
				b.advance(5 * day)
				if n := b.act(t); n != 0 {
					t.Errorf("%d things were done to a deleted key", n)
				}
				if _, err := b.RecoverKey(t.Context(), admin, "vault", "k"); err != nil {
					t.Fatal(err)
				}
			}, due{"rotate": 10, "notify": 70}},
			{func(t *testing.T, b *bench) {
				if n := b.act(t); n != 1 || b.records(t, "version/") != 2 {
					t.Errorf("%d things were done", n)
				}
			}, due{"rotate": 24}},
		},
		"deleted and purged": {
			{func(t *testing.T, b *bench) {
				create(t, b, 100)
				b.setPolicy(t, "vault", "k", rotateAfter("P10D"))
			}, due{"rotate": 10, "notify": 70}},
			{func(t *testing.T, b *bench) {
				if _, err := b.DeleteKey(t.Context(), admin, "vault", "k"); err != nil {
					t.Fatal(err)
				}
				if err := b.PurgeKey(t.Context(), admin, "vault", "k"); err != nil {
					t.Fatal(err)
				}
			}, due{}},
			{func(t *testing.T, b *bench) { create(t, b, 0) }, due{}}, // another key of the name, without the policy
		},
		"restored": {
			{func(t *testing.T, b *bench) {
				create(t, b, 100)
				b.setPolicy(t, "vault", "k", rotateBefore("P10D", "P60D"))
				blob, err := b.BackupKey(t.Context(), admin, "vault", "k")
				if err == nil {
					_, err = b.DeleteKey(t.Context(), admin, "vault", "k")
				}
				if err == nil {
					err = b.PurgeKey(t.Context(), admin, "vault", "k")
				}
				if b.advance(30 * day); err == nil {
					_, err = b.RestoreKey(t.Context(), admin, "vault", blob)
				}
				if err != nil {
					t.Fatal(err)
				}
			}, due{"rotate": 90, "notify": 70}},
			{func(t *testing.T, b *bench) {
				b.advance(60 * day)
				if n := b.act(t); n != 2 || b.records(t, "version/") != 3 { // with the purged one
					t.Errorf("%d things were done", n)
				}
			}, due{"rotate": 140, "notify": 120}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			for i, step := range steps {
				step.do(t, b)
				if b.wantDue(t, step.want); t.Failed() {
					t.Fatalf("after step %d", i)
				}
			}
		})
	}
}

// TestRotatedInTime lets a policy rotate a key, a second too early and in time, and looks at all that remains of it.
func TestRotatedInTime(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	old := b.create(t, "vault", "K", CreateKeyParams{Type: "EC", Tags: map[string]string{"a": "b"}})
	b.setPolicy(t, "vault", "k", rotateBefore("P7D", "P28D"))
	first, err := b.RotateKey(ctx, admin, "vault", "k") // only now it expires
	if err != nil {
		t.Fatal(err)
	}
	b.act(t) // notice is given at once: the default is 30 days before
	if at, ok, err := b.NextDue(ctx, everything); ok || err != nil {
		t.Errorf("due at %v, which is soon; %v", at, err)
	}
	b.advance(21*day - time.Second)
	at, ok, err := b.NextDue(ctx, DueRotations)
	if want := b.clock().Add(time.Second); !ok || err != nil || !at.Equal(want) {
		t.Errorf("due at %v, want %v; %v", at, want, err)
	}
	if at, ok, err := b.NextDue(ctx, DueOthers); ok || err != nil {
		t.Errorf("something else is due at %v; %v", at, err)
	}
	b.without(t, func() {
		if n, err := b.ActOnDue(ctx, everything); n != 0 || err != nil {
			t.Errorf("a second early: %d, %v", n, err)
		}
	})
	b.advance(time.Second)
	if n, err := b.ActOnDue(ctx, everything); n != 1 || err != nil {
		t.Errorf("in time: %d, %v", n, err)
	}
	k, err := b.GetKey(ctx, admin, "vault", "k", "")
	if err != nil {
		t.Fatal(err)
	}
	want := first
	want.Version, want.Public, want.Created, want.Updated = k.Version, k.Public, b.clock().Unix(), b.clock().Unix()
	want.Expires = new(b.clock().Add(28 * day).Unix())
	if diff := gocmp.Diff(want, k); diff != "" {
		t.Errorf("rotated (-want +got):\n%s", diff)
	}
	if k.Version == first.Version || gocmp.Equal(k.Public, first.Public) || gocmp.Equal(first.Public, old.Public) {
		t.Error("the new version is the old one")
	}
	lines := b.auditLines(t, "KeyRotateIfDue")
	if len(lines) != 2 || lines[0].Category != "AuditIntent" || lines[1].Category != "AuditEvent" || lines[1].ResultType != "Success" ||
		lines[0].Properties.ID != "K/"+k.Version || lines[0].ResourceID != k.Vault || lines[0].CorrelationID == "" ||
		lines[0].CorrelationID != lines[1].CorrelationID {
		t.Errorf("on record: %+v", lines)
	}
	// However long nobody looked, there is one new version and not one for each that was missed.
	b.advance(1000 * day)
	b.act(t)
	if n := b.records(t, "version/"); n != 4 {
		t.Errorf("%d versions, want 4", n)
	}
	b.consistent(t)
}

// TestRotationInDeletedVault: nothing happens in a deleted vault, and what was missed happens soon after its recovery.
func TestRotationInDeletedVault(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	b.create(t, "vault", "k", CreateKeyParams{Type: "EC", Attributes: Attributes{Expires: new(b.clock().Add(31 * day).Unix())}})
	b.setPolicy(t, "vault", "k", rotateAfter("P10D"))
	b.deleteVault(t, "vault")
	b.advance(10 * day)
	changeVault(t, b, "purgeAt", b.clock().Add(1000*day).Unix()) // stays for the test
	for range 3 {
		if n, err := b.ActOnDue(ctx, everything); n != 0 || err != nil {
			t.Errorf("%d things were done, %v", n, err)
		}
		b.consistentBut(t, "is deleted, and nothing will purge it") // of the vault, by the line above
		if at, ok, err := b.NextDue(ctx, everything); ok && !at.After(b.clock()) || err != nil {
			t.Errorf("due at %v, %v, %v: somebody would try without end", at, ok, err)
		}
	}
	if n := len(b.auditLines(t, "KeyRotateIfDue")) + len(b.events(t)); n != 0 {
		t.Errorf("%d records of what did not happen", n)
	}
	b.recoverVault(t, "vault")
	b.advance(day)
	if n := b.act(t); n != 2 && n != 1 { // the notice is lost if the rotation is first
		t.Errorf("%d things were done", n)
	}
	if n := b.records(t, "version/"); n != 2 {
		t.Errorf("%d versions, want 2", n)
	}
	// A vault that was purged: nothing is due, nothing is left.
	b.deleteVault(t, "vault")
	b.purgeVault(t, "vault")
	b.vault(t, "vault", 7, false) // another of the name
	b.advance(100 * day)
	if n, err := b.ActOnDue(ctx, everything); n != 0 || err != nil {
		t.Errorf("%d things were done in a purged vault, %v", n, err)
	}
	for range 2 {
		if err := b.CollectGarbage(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if n := b.records(t, "due/") + b.records(t, "object/") + b.records(t, "version/") + b.records(t, "value/"); n != 0 {
		t.Errorf("%d records are left", n)
	}
}

// consistentBut is consistent with a problem that the test has made.
func (b *bench) consistentBut(t testing.TB, known string) {
	t.Helper()
	err := b.CheckReferences(t.Context(), func(key, problem string) {
		if problem != known {
			t.Errorf("%s %s", key, problem)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestRotationAmongManyVaults: a transaction may read only so much.
func TestRotationAmongManyVaults(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	err := b.db.Update(ctx, func(tx store.Tx) error {
		raw, err := tx.Get("vault/vault")
		if err != nil {
			return err
		}
		for i := range store.MaxReads - 2 {
			other := strings.Replace(string(raw), `"name":"vault"`, fmt.Sprintf(`"name":"other%d"`, i), 1)
			if err := tx.Put(fmt.Sprint("vault/other", i), []byte(other)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	b.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
	b.setPolicy(t, "vault", "k", rotateAfter("P7D"))
	b.advance(7 * day)
	if n := b.act(t); n != 1 || b.records(t, "version/") != 2 {
		t.Errorf("%d things were done", n)
	}
}

// TestSeveralServersRotate brings some servers on one store to the same point: each has seen what is due and has made a
// key. One of the keys becomes the new version.
func TestSeveralServersRotate(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	const servers = 4
	b.create(t, "vault", "k", CreateKeyParams{Type: "EC", Attributes: Attributes{Expires: new(b.clock().Add(37 * day).Unix())}})
	b.setPolicy(t, "vault", "k", rotateAfter("P7D"))
	b.advance(7 * day)
	making := newGate()
	counts := make([]int, servers)
	var wg sync.WaitGroup
	for i := range servers {
		s := b.another(t, &puppet{b.hsm, func(ctx context.Context, call string) error { return making.pass(ctx) }})
		wg.Go(func() {
			var err error
			if counts[i], err = s.ActOnDue(ctx, everything); err != nil {
				t.Error(err)
			}
		})
	}
	for range servers {
		<-making.arrived
	}
	close(making.open)
	wg.Wait()
	total := 0
	for _, n := range counts {
		total += n
	}
	if total += b.act(t); total != 2 {
		t.Errorf("%d things were done, want the notice and the rotation", total)
	}
	for operation := range map[string]int{"KeyRotateIfDue": 0, "KeyNearExpiryEventGridNotification": 0} {
		done := 0
		for _, l := range b.auditLines(t, operation) {
			if l.ResultType == "Success" {
				done++
			}
		}
		if done != 1 {
			t.Errorf("%s: %d successes are on record: %+v", operation, done, b.auditLines(t, operation))
		}
	}
	if n := len(b.events(t)); n != 1 || b.records(t, "version/") != 2 {
		t.Errorf("%d events, %d versions", n, b.records(t, "version/"))
	}
	b.consistent(t)
}

// TestSeveralServersNotify races for many notices, without an order.
func TestSeveralServersNotify(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	const keys = 10
	for i := range keys {
		b.create(t, "vault", fmt.Sprint("k", i), CreateKeyParams{Type: "EC", Attributes: Attributes{Expires: new(b.clock().Add(20 * day).Unix())}})
	}
	var wg sync.WaitGroup
	for _, s := range []*Service{b.Service, b.another(t, b.hsm), b.another(t, b.hsm)} {
		wg.Go(func() {
			if _, err := s.ActOnDue(ctx, everything); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	versions := make(map[string]bool)
	for _, e := range b.events(t) {
		versions[e.Version] = true
	}
	if len(versions) != keys || len(b.events(t)) != keys || b.records(t, "due/") != 0 {
		t.Errorf("%d events about %d versions; %d records are due", len(b.events(t)), len(versions), b.records(t, "due/"))
	}
	b.consistent(t)
}

// TestRotationFaults makes each transaction of a rotation and of a notice fail in each way, and tries again until nothing is
// due: there is one new version and one event, and index and key agree at every time.
func TestRotationFaults(t *testing.T) {
	t.Parallel()
	for _, fault := range []storetest.Fault{storetest.Fail, storetest.Lost, storetest.Unknown, storetest.Twice} {
		for step := range 5 {
			t.Run(fmt.Sprint("fault ", fault, " at ", step), func(t *testing.T) {
				t.Parallel()
				b, ctx := newBench(t), t.Context()
				b.create(t, "vault", "k", CreateKeyParams{Type: "EC", Attributes: Attributes{Expires: new(b.clock().Add(37 * day).Unix())}})
				b.setPolicy(t, "vault", "k", rotateAfter("P10D"))
				b.advance(20 * day)
				b.faulty.Schedule(append(slices.Repeat([]storetest.Fault{storetest.None}, step), fault)...)
				done := false
				for range 4 {
					n, err := b.ActOnDue(ctx, everything)
					if err != nil && !errors.Is(err, storetest.ErrInjected) {
						t.Fatal(err)
					}
					b.consistent(t)
					if versions := b.records(t, "version/"); versions != b.records(t, "value/") || versions > 2 {
						t.Fatalf("%d versions, %d values", versions, b.records(t, "value/"))
					}
					done = done || n == 0 && err == nil
				}
				if b.faulty.Count(fault) == 0 {
					t.Fatal("nothing failed, so the test is about nothing")
				}
				// If the notice fails at first, the rotation comes before it, and there is nothing to notice any more.
				if !done || b.records(t, "version/") != 2 || len(b.events(t)) > 1 || fault == storetest.Twice && len(b.events(t)) != 1 {
					t.Errorf("done %v: %d versions, %d events", done, b.records(t, "version/"), len(b.events(t)))
				}
			})
		}
	}
}

// TestRotationPoison spoils a record of each kind that a rotation reads, of one key each. The others are rotated.
func TestRotationPoison(t *testing.T) {
	t.Parallel()
	for _, prefix := range []string{"due/", "object/", "version/"} {
		b, ctx := newBench(t), t.Context()
		for i := range 3 {
			b.create(t, "vault", fmt.Sprint("k", i), CreateKeyParams{Type: "EC"})
			b.setPolicy(t, "vault", fmt.Sprint("k", i), rotateAfter("P7D"))
		}
		b.spoil(t, prefix, 1)
		b.advance(7 * day)
		n, err := b.ActOnDue(ctx, everything)
		if n != 2 || err == nil || !strings.Contains(err.Error(), prefix) {
			t.Errorf("%s: rotated %d, %v", prefix, n, err)
		}
		if n := b.countKeys(t, "version/"); n != 5 {
			t.Errorf("%s: %d versions, want 5", prefix, n)
		}
	}
	// A vault's record concerns all keys in it, and is named.
	b, ctx := newBench(t), t.Context()
	b.create(t, "vault", "k", CreateKeyParams{Type: "EC"})
	b.setPolicy(t, "vault", "k", rotateAfter("P7D"))
	b.spoil(t, "vault/", 0)
	b.advance(7 * day)
	if n, err := b.ActOnDue(ctx, everything); n != 0 || err == nil || !strings.Contains(err.Error(), "vault/vault") {
		t.Errorf("rotated %d, %v", n, err)
	}
}

// countKeys is records where some do not open.
func (b *bench) countKeys(t testing.TB, prefix string) (n int) {
	t.Helper()
	err := b.db.View(t.Context(), func(r store.Reader) error {
		n = 0
		for _, err := range seal.Keys(r, prefix, store.PrefixEnd(prefix)) {
			if err != nil {
				return err
			}
			n++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestStaleRotation leaves due entries whose reason has gone. They vanish without a word in the audit log.
func TestStaleRotation(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	for _, name := range []string{"moved", "gone"} {
		b.create(t, "vault", name, CreateKeyParams{Type: "EC", Attributes: Attributes{Expires: new(b.clock().Add(35 * day).Unix())}})
		b.setPolicy(t, "vault", name, rotateAfter("P7D"))
	}
	later := func(o *objectRecord) { o.RotateAt++; o.NotifyAt++ }
	change(t, b, func(v *resource.Vault) string { return objectKey(v, KeyKind, "moved") }, later)
	err := b.db.Update(ctx, func(tx store.Tx) error {
		v, err := b.liveVault(tx, "vault")
		if err != nil {
			return err
		}
		return tx.Delete(objectKey(v, KeyKind, "gone"))
	})
	if err != nil {
		t.Fatal(err)
	}
	b.advance(7 * day)
	head := b.audit.Head().Seq
	if n, err := b.ActOnDue(ctx, everything); n != 0 || err != nil {
		t.Errorf("did %d things, %v", n, err)
	}
	if n := b.records(t, "due/"); n != 0 || b.records(t, "version/") != 2 || b.audit.Head().Seq != head {
		t.Errorf("%d entries are left, %d versions, %d records in the log", n, b.records(t, "version/"), b.audit.Head().Seq-head)
	}
}

// TestRotationOvertaken gives the key a version of another kind, which is due at the same time, while a new version of the
// old kind is made.
func TestRotationOvertaken(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	expires := Attributes{Expires: new(b.clock().Add(60 * day).Unix())}
	b.create(t, "vault", "k", CreateKeyParams{Type: "EC", Attributes: expires})
	b.setPolicy(t, "vault", "k", rotateBefore("P20D", "P60D"))
	b.advance(35 * day)
	b.act(t) // notice is given
	b.advance(5 * day)
	overtaken := false
	s := b.another(t, &puppet{b.hsm, func(context.Context, string) error {
		if !overtaken {
			overtaken = true
			b.create(t, "vault", "k", CreateKeyParams{Type: "EC", Curve: "P-384", Attributes: expires})
		}
		return nil
	}})
	if n, err := s.ActOnDue(ctx, everything); n != 0 || err != nil || !overtaken || b.records(t, "version/") != 2 {
		t.Errorf("did %d things, %v; %d versions", n, err, b.records(t, "version/"))
	}
	b.consistent(t)
	if n := b.act(t); n != 2 || b.records(t, "version/") != 3 { // notice of the second version, and its rotation
		t.Errorf("did %d things, %d versions", n, b.records(t, "version/"))
	}
	if k, err := b.GetKey(ctx, admin, "vault", "k", ""); err != nil || k.Curve != "P-384" {
		t.Errorf("rotated to %+v, %v", k, err)
	}
}

// TestRotationCannotBeMade: a provider that fails for one key does not keep the others from being rotated, and the key is
// rotated as soon as it works again.
func TestRotationCannotBeMade(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	for i := range 3 {
		b.create(t, "vault", fmt.Sprint("k", i), CreateKeyParams{Type: "EC"})
		b.setPolicy(t, "vault", fmt.Sprint("k", i), rotateAfter("P7D"))
	}
	b.advance(7 * day)
	calls, fault := 0, errors.New("out of order")
	s := b.another(t, &puppet{b.hsm, func(context.Context, string) error {
		if calls++; calls == 2 {
			return fault
		}
		return nil
	}})
	if n, err := s.ActOnDue(ctx, everything); n != 2 || !errors.Is(err, fault) {
		t.Errorf("rotated %d, %v", n, err)
	}
	b.consistent(t)
	if n, err := s.ActOnDue(ctx, everything); n != 1 || err != nil {
		t.Errorf("rotated %d, %v", n, err)
	}
	if n := b.records(t, "version/"); n != 6 {
		t.Errorf("%d versions", n)
	}
}

// TestNotice follows the events of a key.
func TestNotice(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	expires, begins := b.clock().Add(31*day).Unix(), b.clock().Unix()
	first := b.create(t, "vault", "Key", CreateKeyParams{Type: "EC", Attributes: Attributes{NotBefore: &begins, Expires: &expires}})
	if n := b.act(t); n != 0 {
		t.Errorf("%d notices a day early", n)
	}
	b.advance(day)
	if n := b.act(t); n != 1 {
		t.Errorf("%d notices", n)
	}
	want := []eventRecord{{
		Format: record.Current(), Type: "Microsoft.KeyVault.KeyNearExpiry", Time: b.clock().Unix(), VaultID: first.Vault, Vault: "vault",
		Kind: KeyKind, Name: "Key", Version: first.Version, NBF: &begins, EXP: &expires,
	}}
	check := func() {
		t.Helper()
		got := b.events(t)
		slices.SortStableFunc(got, func(x, y eventRecord) int { return cmp.Or(cmp.Compare(x.Time, y.Time), cmp.Compare(*x.EXP, *y.EXP)) })
		if diff := gocmp.Diff(want, got, gocmp.AllowUnexported(eventRecord{})); diff != "" {
			t.Errorf("events (-want +got):\n%s", diff)
		}
	}
	check()
	// Once for an expiry, whatever becomes of the key; another expiry is another notice.
	if _, err := b.UpdateKey(ctx, admin, "vault", "key", "", UpdateKeyParams{Attributes: Attributes{Expires: &expires}}); err != nil {
		t.Fatal(err)
	}
	if n := b.act(t); n != 0 {
		t.Errorf("%d notices of the same expiry", n)
	}
	later := expires + 5*secondsPerDay
	if _, err := b.UpdateKey(ctx, admin, "vault", "key", "", UpdateKeyParams{Attributes: Attributes{Expires: &later}}); err != nil {
		t.Fatal(err)
	}
	b.setPolicy(t, "vault", "key", RotationPolicy{Actions: []LifetimeAction{{Action: ActionNotify, BeforeExpiry: "P40D"}}})
	if _, err := b.DeleteKey(ctx, admin, "vault", "key"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.RecoverKey(ctx, admin, "vault", "key"); err != nil {
		t.Fatal(err)
	}
	if n := b.act(t); n != 1 {
		t.Errorf("%d notices of the later expiry", n)
	}
	want = append(want, want[0])
	want[1].EXP = &later
	check()
	// Another version, another notice.
	b.advance(day)
	second := b.create(t, "vault", "key", CreateKeyParams{Type: "EC", Attributes: Attributes{Expires: &expires}})
	if n := b.act(t); n != 1 {
		t.Errorf("%d notices of the second version", n)
	}
	want = append(want, want[0])
	want[2].Time, want[2].Version, want[2].NBF = b.clock().Unix(), second.Version, nil
	check()
	// Nobody takes them.
	b.advance(29 * day)
	b.act(t)
	check()
	b.advance(time.Second)
	b.act(t)
	want = want[2:]
	check()
	b.advance(day)
	b.act(t)
	want = []eventRecord{}
	if n := b.records(t, "event/"); n != 0 {
		t.Errorf("%d events are left", n)
	}
}

// TestManyOldEvents drops more events than fit into a transaction.
func TestManyOldEvents(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	const old, young = 350, 3
	for start := 0; start < old+young; start += 100 {
		err := b.db.Update(ctx, func(tx store.Tx) error {
			for i := start; i < min(start+100, old+young); i++ {
				at := b.clock().Unix() - eventLife
				if i < old {
					at--
				}
				if err := record.Put(tx, eventKey(at, record.NewID()), eventRecord{Format: record.Current()}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	b.spoil(t, "event/", 5)
	b.act(t)
	if n := b.records(t, "event/"); n != young {
		t.Errorf("%d events are left, want %d", n, young)
	}
}

// TestKeyReferences removes or changes what a key refers to.
func TestKeyReferences(t *testing.T) {
	t.Parallel()
	b, ctx := newBench(t), t.Context()
	for i := range 3 {
		name := fmt.Sprint("k", i)
		b.create(t, "vault", name, CreateKeyParams{Type: "EC", Attributes: Attributes{Expires: new(b.clock().Add(90 * day).Unix())}})
		b.setPolicy(t, "vault", name, rotateAfter("P7D"))
	}
	b.consistent(t)
	err := b.db.Update(ctx, func(tx store.Tx) error {
		v, err := b.liveVault(tx, "vault")
		if err != nil {
			return err
		}
		load := func(name string) *objectRecord {
			o, loading := b.loadObject(tx, v, KeyKind, name)
			err = errors.Join(err, loading)
			return o
		}
		k0, k1, k2 := load("k0"), load("k1"), load("k2")
		if err != nil {
			return err
		}
		other, err := tx.Get(valueKey(k0.ID, k0.Current))
		if err != nil {
			return err
		}
		return errors.Join(
			tx.Delete(dueKeyKey(k0.RotateAt, dueRotate, v, "k0")),
			tx.Delete(dueKeyKey(k1.NotifyAt, dueNotify, v, "k1")),
			tx.Put(valueKey(k2.ID, k2.Current), other[:len(other)-1]),
		)
	})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := b.CheckReferences(ctx, func(key, problem string) {
		kind, _, _ := strings.Cut(key, "/")
		problem, _, _ = strings.Cut(problem, ":") // the provider's words
		got = append(got, kind+" "+problem)
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(got)
	want := []string{
		"object expires, and nothing will give notice of it", "object has a rotation policy, and nothing will rotate it",
		"value holds a key that does not open",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
