package keyvault

import (
	"bytes"
	"cmp"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

// keyModel is what a vault should do with keys, said as simply as possible: maps, no store, no cryptography, a calendar of
// days.
type keyModel struct {
	keys    map[string]*modelKey // by name in lower case
	backups []modelKeyBackup
	events  []modelEvent
}

type modelKey struct {
	name               string // as first used
	versions           []*modelKeyVersion
	deleted            int64 // 0: live
	policy             RotationPolicy
	notified           notice // the last one that was given
	rotateAt, notifyAt int64  // 0: never
}

type modelKeyVersion struct {
	Key
	proofs []proof
}

// A proof is something that a version did and that it, and no other, must be able to undo or confirm.
type proof struct {
	undo, alg string
	text      []byte
	sealed    Message // or a signature in Value
}

type modelKeyBackup struct {
	blob []byte
	key  *modelKey
}

type modelEvent struct {
	at      int64
	version string
}

func (k *modelKey) current() *modelKeyVersion { return k.versions[len(k.versions)-1] }

func (k *modelKey) clone() *modelKey {
	c := *k
	c.versions = nil
	for _, v := range k.versions {
		c.versions = append(c.versions, new(*v))
	}
	return &c
}

// days reads the periods that the model uses.
func days(period string) int64 {
	n, err := strconv.Atoi(strings.Trim(period, "PD"))
	if err != nil {
		panic(err)
	}
	return int64(n) * secondsPerDay
}

// plan says when something is due for the key, decided at a time.
func (k *modelKey) plan(now int64) {
	k.rotateAt, k.notifyAt = 0, 0
	v, actions := k.current(), k.policy.Actions
	if len(actions) == 0 {
		actions = []LifetimeAction{{Action: ActionNotify, BeforeExpiry: "P30D"}}
	}
	for _, a := range actions {
		switch {
		case a.AfterCreate != "":
			k.rotateAt = v.Created + days(a.AfterCreate)
		case v.Expires == nil:
		case a.Action == ActionRotate:
			k.rotateAt = *v.Expires - days(a.BeforeExpiry)
		case k.notified != notice{v.Version, *v.Expires} && *v.Expires > now:
			k.notifyAt = *v.Expires - days(a.BeforeExpiry)
		}
	}
}

// A keyView is what can be seen of a key.
type keyView struct {
	Deleted, Purge int64
	Current        string
	Versions       []Key // of a deleted key the current one
	Policy         RotationPolicy
}

func (k *modelKey) view() *keyView {
	if k == nil {
		return nil
	}
	if k.deleted != 0 {
		return &keyView{Deleted: k.deleted, Purge: k.deleted + modelRetention, Current: k.current().Version, Versions: []Key{k.current().Key}}
	}
	v := &keyView{Current: k.current().Version, Policy: k.policy}
	for _, version := range k.versions {
		v.Versions = append(v.Versions, version.Key)
	}
	slices.SortFunc(v.Versions, func(a, b Key) int { return cmp.Compare(a.Version, b.Version) })
	if len(v.Policy.Actions) == 0 {
		v.Policy = RotationPolicy{Name: k.name, Vault: k.current().Vault, Actions: []LifetimeAction{
			{Action: ActionNotify, BeforeExpiry: "P30D"}}}
	}
	return v
}

// keyHistory plays operations on keys on the service and the model and compares every result.
type keyHistory struct {
	*player
	keyModel
	vault, id string
	tier      resource.Tier
	faulty    bool
	uses      int // that succeeded
}

func TestRandomKeyHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		tier := []resource.Tier{resource.Premium, resource.ManagedHSM, resource.Standard}[seed/2]
		t.Run(fmt.Sprint("seed", seed, " ", tier), func(t *testing.T) {
			t.Parallel()
			h := &keyHistory{player: newPlayer(t, newBench(t), seed), vault: "keys", tier: tier, faulty: seed%2 == 1}
			if tier == resource.ManagedHSM {
				h.pool(t, h.vault, newDomain(t))
				h.pool(t, "stranger", newDomain(t))
				h.Service = h.ManagedHSMs()
			} else {
				h.tiered(t, h.vault, tier)
			}
			var err error
			if h.id, err = h.VaultResource(t.Context(), h.vault); err != nil {
				t.Fatal(err)
			}
			h.keys = make(map[string]*modelKey)
			if h.faulty {
				h.bench.faulty.SetPlan(storetest.Plan{Fail: 0.08, Unknown: 0.06, Lost: 0.06, Twice: 0.2})
			}
			for range 400 {
				h.step()
			}
			h.bench.faulty.SetPlan(storetest.Plan{})
			h.compare()
			h.proveAll()
			h.checkNothingLeft()
		})
	}
}

func (h *keyHistory) step() {
	isLive := func(name string) bool { return h.live(name) != nil }
	isGone := func(name string) bool { return h.gone(name) != nil }
	steps := []struct {
		weight int
		do     func(name string)
		wants  func(name string) bool // a name that it probably has work with
	}{
		{5, h.stepCreate, isLive}, {3, h.stepImport, isLive}, {3, h.stepGet, isLive}, {4, h.stepUpdate, isLive},
		{1, h.stepDelete, isLive}, {1, h.stepGetDeleted, isGone}, {2, h.stepRecover, isGone}, {1, h.stepPurge, isGone},
		{3, h.stepBackup, isLive}, {4, h.stepRestore, nil}, {2, h.stepRotate, isLive}, {4, h.stepPolicy, isLive},
		{10, h.stepUse, isLive}, {10, h.stepProve, isLive}, {4, h.stepTime, nil},
	}
	total := 0
	for _, s := range steps {
		total += s.weight
	}
	n := h.rng.IntN(total)
	for _, s := range steps {
		if n -= s.weight; n < 0 {
			name := h.pick()
			for range 3 {
				if s.wants != nil && !s.wants(name) {
					name = h.pick()
				}
			}
			s.do(name)
			break
		}
	}
	if h.rng.IntN(20) == 0 {
		h.compare()
	}
}

func (h *keyHistory) unix() int64 { return h.clock().Unix() }

func (h *keyHistory) key(name string) *modelKey { return h.keys[strings.ToLower(name)] }

// live and gone return the key if it is in that state.
func (h *keyHistory) live(name string) *modelKey {
	if k := h.key(name); k != nil && k.deleted == 0 {
		return k
	}
	return nil
}

func (h *keyHistory) gone(name string) *modelKey {
	if k := h.key(name); k != nil && k.deleted != 0 {
		return k
	}
	return nil
}

// observe looks at a key through the service.
func (h *keyHistory) observe(name string) *keyView {
	h.Helper()
	ctx := h.Context()
	current, err := h.GetKey(ctx, admin, h.vault, name, "")
	if isKind(err, NotFound) {
		deleted, err := h.GetDeletedKey(ctx, admin, h.vault, name)
		if isKind(err, NotFound) {
			return nil
		}
		if err != nil {
			h.Fatal(err)
		}
		return &keyView{Deleted: deleted.Deleted, Purge: deleted.ScheduledPurge, Current: deleted.Version, Versions: []Key{deleted.Key}}
	}
	if err != nil {
		h.Fatal(err)
	}
	versions := walkPages(h.player, func(from string, max int) (Page[Key], error) {
		return h.ListKeyVersions(ctx, admin, h.vault, name, from, max)
	})
	policy, err := h.GetRotationPolicy(ctx, admin, h.vault, name)
	if err != nil {
		h.Fatal(err)
	}
	return &keyView{Current: current.Version, Versions: versions, Policy: policy}
}

// change plays an operation on a key: call does it, and after makes the model do it, of a copy. made is what call returned.
// If nobody knows whether it was done, it was done or not, and nothing in between.
func (h *keyHistory) change(what, name string, want Kind, call func() (Key, error), after func(k *modelKey, made Key) *modelKey) {
	h.Helper()
	before := h.key(name)
	made, err := call()
	unknown := errors.Is(err, store.ErrUnknown)
	switch {
	case unknown && want != 0:
		// The refusal came too late, or the fault too early.
		h.same(what+" of unknown outcome", h.observe(name), before.view())
		return
	case unknown:
		got := h.observe(name)
		if reflect.DeepEqual(before.view(), got) {
			return
		}
		made = got.added(before)
	case !h.refused(what, err, want):
		return
	}
	var next *modelKey
	if before != nil {
		next = before.clone()
	}
	if next = after(next, made); next == nil {
		delete(h.keys, strings.ToLower(name))
	} else {
		h.keys[strings.ToLower(name)] = next
	}
	if unknown {
		h.same(what+" of unknown outcome", h.observe(name), next.view())
	}
}

// added returns the version that the model does not have.
func (v *keyView) added(k *modelKey) Key {
	if v == nil {
		return Key{}
	}
	for _, version := range v.Versions {
		known := func(have *modelKeyVersion) bool { return have.Version == version.Version }
		if k == nil || !slices.ContainsFunc(k.versions, known) {
			return version
		}
	}
	return Key{}
}

// kinds are the types of keys that the histories make.
var kinds = []CreateKeyParams{
	{Type: "EC"}, {Type: "EC", Curve: "P-384"}, {Type: "EC-HSM", Curve: "P-256K"}, {Type: "EC-HSM", Curve: "P-521"},
	{Type: "oct-HSM"}, {Type: "oct-HSM", Bits: 128}, {Type: "oct"},
}

// madeIn returns the type that a type becomes in the history's vault, or "".
func (h *keyHistory) madeIn(typ string) string {
	inHSM := strings.HasSuffix(typ, "-HSM")
	switch {
	case h.tier == resource.ManagedHSM && !inHSM:
		return typ + "-HSM"
	case h.tier == resource.Standard && inHSM, typ == "oct":
		return ""
	}
	return typ
}

var operationsOfFamily = map[string][]string{
	"EC":  {"sign", "verify"},
	"oct": {"encrypt", "decrypt", "wrapKey", "unwrapKey"},
	"RSA": {"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"},
}

// attributes are times around now, at the edges of what is allowed too.
func (h *keyHistory) attributes() (a Attributes) {
	if h.rng.IntN(3) == 0 {
		a.Enabled = new(h.rng.IntN(3) > 0)
	}
	pick := func(offsets ...int64) *int64 {
		if n := h.rng.IntN(3 * len(offsets)); n < len(offsets) {
			return new(h.unix() + offsets[n])
		}
		return nil
	}
	a.NotBefore = pick(-100, 0, 60, 61, 2*secondsPerDay)
	a.Expires = pick(-61, -60, -59, 1, secondsPerDay, 10*secondsPerDay, 31*secondsPerDay, 50*secondsPerDay)
	return a
}

func (h *keyHistory) operations(family string) (ops []string) {
	all := operationsOfFamily[family]
	if family == "oct" {
		all = append(slices.Clone(all), "sign", "verify")
	}
	for _, op := range all {
		if h.rng.IntN(3) > 0 {
			ops = append(ops, op)
		}
	}
	return ops
}

func (h *keyHistory) tags() map[string]string {
	if h.rng.IntN(2) == 0 {
		return nil
	}
	return map[string]string{"n": fmt.Sprint(h.rng.IntN(9))}
}

// newVersion is what a new version should look like; made gives what is random about it.
func (h *keyHistory) newVersion(name, typ string, a Attributes, ops []string, tags map[string]string, made Key) *modelKeyVersion {
	family, _, _ := strings.Cut(typ, "-")
	if len(ops) == 0 {
		if ops = operationsOfFamily[family]; family == "EC" && h.tier == resource.ManagedHSM {
			ops = append(slices.Clone(ops), "deriveKey")
		}
	}
	return &modelKeyVersion{Key: Key{
		Properties: Properties{
			Name: name, Version: made.Version, Enabled: a.Enabled == nil || *a.Enabled, NotBefore: a.NotBefore, Expires: a.Expires,
			Created: h.unix(), Updated: h.unix(), Tags: tags, RecoveryLevel: "CustomizedRecoverable+Purgeable", RecoverableDays: 7, Vault: h.id,
		},
		Type: typ, Public: made.Public, Operations: ops, Platform: "0",
	}}
}

// add plays the making of a version of a type that has a size or a curve.
func (h *keyHistory) add(what, name, typ string, bits int, curve string, a Attributes, ops []string, tags map[string]string,
	call func() (Key, error)) {
	h.Helper()
	want, madeType := Kind(0), h.madeIn(typ)
	switch {
	case madeType == "":
		want = BadParameter
	case h.gone(name) != nil:
		want = DeletedButRecoverable
	}
	h.change(what, name, want, call, func(k *modelKey, made Key) *modelKey {
		if k == nil {
			k = &modelKey{name: name}
		}
		v := h.newVersion(k.name, madeType, a, ops, tags, made)
		v.Bits, v.Curve = bits, curve
		h.same(what, made, v.Key)
		k.versions = append(k.versions, v)
		k.plan(h.unix())
		return k
	})
}

// forRSA tells whether a name has RSA keys only. They are imported: making one takes too long for a history.
func forRSA(name string) bool { return name == "c-1" }

func (h *keyHistory) stepCreate(name string) {
	if forRSA(name) {
		return
	}
	p := kinds[h.rng.IntN(len(kinds))]
	family, _, _ := strings.Cut(p.Type, "-")
	p.Attributes, p.Operations, p.Tags = h.attributes(), h.operations(family), h.tags()
	bits, curve := int(p.Bits), p.Curve
	switch {
	case family == "EC" && curve == "":
		curve = "P-256"
	case family == "oct" && bits == 0:
		bits = 256
	}
	h.add("create", name, p.Type, bits, curve, p.Attributes, p.Operations, p.Tags, func() (Key, error) {
		return h.CreateKey(h.Context(), admin, h.vault, name, p)
	})
}

func (h *keyHistory) stepImport(name string) {
	p := ImportKeyParams{Type: "EC", Curve: "P-256", Attributes: h.attributes(), Operations: h.operations("EC"), Tags: h.tags()}
	bits := 0
	var public PublicKey
	switch {
	case forRSA(name):
		p.Type, p.Curve, p.Private, p.Operations, bits = "RSA", "", rsaMembers(rsaKey()), h.operations("RSA"), 2048
		public = PublicKey{N: p.Private.N, E: p.Private.E}
	case h.rng.IntN(2) == 0:
		p.Type, p.Curve, p.Private, p.Operations, bits = "oct-HSM", "", PrivateKey{K: make([]byte, 24)}, h.operations("oct"), 192
		rand.Read(p.Private.K)
	default:
		p.Private = ecMembers(h, makeEC(h, elliptic.P256()))
		public = PublicKey{X: p.Private.X, Y: p.Private.Y}
	}
	h.add("import", name, p.Type, bits, p.Curve, p.Attributes, p.Operations, p.Tags, func() (Key, error) {
		k, err := h.ImportKey(h.Context(), admin, h.vault, name, p)
		if err == nil {
			h.same("imported public key", k.Public, public)
		}
		return k, err
	})
}

// version picks one of the key's versions, the current one by "", or one that does not exist.
func (h *keyHistory) version(k *modelKey) (string, *modelKeyVersion) {
	switch n := h.rng.IntN(6); {
	case k == nil || n == 0:
		return record.NewID(), nil
	case n < 3:
		return "", k.current()
	default:
		v := k.versions[h.rng.IntN(len(k.versions))]
		return strings.ToUpper(v.Version), v
	}
}

func (h *keyHistory) stepGet(name string) {
	id, v := h.version(h.live(name))
	got, err := h.GetKey(h.Context(), admin, h.vault, name, id)
	want := Kind(0)
	if v == nil {
		want = NotFound
	}
	if h.refused("get", err, want) {
		h.same("get", got, v.Key)
	}
}

func (h *keyHistory) stepUpdate(name string) {
	id, v := h.version(h.live(name))
	p, want := UpdateKeyParams{Attributes: h.attributes(), Tags: h.tags()}, NotFound
	if v != nil {
		want = 0
		if family, _, _ := strings.Cut(v.Type, "-"); h.rng.IntN(2) == 0 {
			p.Operations = h.operations(family)
		}
		if h.rng.IntN(10) == 0 {
			p.Operations, want = []string{"import"}, BadParameter
		}
	}
	h.change("update", name, want, func() (Key, error) {
		return h.UpdateKey(h.Context(), admin, h.vault, name, id, p)
	}, func(k *modelKey, made Key) *modelKey {
		i := slices.IndexFunc(k.versions, func(have *modelKeyVersion) bool { return have.Version == v.Version })
		next := k.versions[i]
		if p.Attributes.Enabled != nil {
			next.Enabled = *p.Attributes.Enabled
		}
		next.NotBefore = cmp.Or(p.Attributes.NotBefore, next.NotBefore)
		next.Expires = cmp.Or(p.Attributes.Expires, next.Expires)
		if next.Updated = h.unix(); p.Operations != nil {
			next.Operations = p.Operations
		}
		if p.Tags != nil {
			next.Tags = p.Tags
		}
		if made.Version != "" {
			h.same("update", made, next.Key)
		}
		if next == k.current() {
			k.plan(h.unix())
		}
		return k
	})
}

func (h *keyHistory) shownDeleted(k *modelKey) DeletedKey {
	return DeletedKey{Key: k.current().Key, Deleted: k.deleted, ScheduledPurge: k.deleted + modelRetention}
}

func (h *keyHistory) stepDelete(name string) {
	want := Kind(0)
	if h.live(name) == nil {
		want = NotFound
	}
	var got DeletedKey
	h.change("delete", name, want, func() (_ Key, err error) {
		got, err = h.DeleteKey(h.Context(), admin, h.vault, name)
		return got.Key, err
	}, func(k *modelKey, made Key) *modelKey {
		if k.deleted = h.unix(); made.Version != "" {
			h.same("delete", got, h.shownDeleted(k))
		}
		return k
	})
}

func (h *keyHistory) stepGetDeleted(name string) {
	got, err := h.GetDeletedKey(h.Context(), admin, h.vault, name)
	k, want := h.gone(name), Kind(0)
	if k == nil {
		want = NotFound
	}
	if h.refused("get deleted", err, want) {
		h.same("get deleted", got, h.shownDeleted(k))
	}
}

func (h *keyHistory) stepRecover(name string) {
	want := Kind(0)
	switch {
	case h.live(name) != nil:
		want = NotDeleted
	case h.gone(name) == nil:
		want = NotFound
	}
	h.change("recover", name, want, func() (Key, error) {
		return h.RecoverKey(h.Context(), admin, h.vault, name)
	}, func(k *modelKey, made Key) *modelKey {
		if k.deleted = 0; made.Version != "" {
			h.same("recover", made, k.current().Key)
		}
		return k
	})
}

func (h *keyHistory) stepPurge(name string) {
	want := Kind(0)
	if h.gone(name) == nil {
		want = NotFound
	}
	h.change("purge", name, want, func() (Key, error) {
		return Key{}, h.PurgeKey(h.Context(), admin, h.vault, name)
	}, func(*modelKey, Key) *modelKey { return nil })
}

func (h *keyHistory) stepBackup(name string) {
	blob, err := h.BackupKey(h.Context(), admin, h.vault, name)
	k, want := h.live(name), Kind(0)
	if k == nil {
		want = NotFound
	}
	if h.refused("backup", err, want) {
		h.backups = append(h.backups, modelKeyBackup{blob, k.clone()})
	}
}

func (h *keyHistory) stepRestore(string) {
	if len(h.backups) == 0 {
		return
	}
	b := h.backups[h.rng.IntN(len(h.backups))]
	for range 5 {
		if h.key(b.key.name) != nil {
			b = h.backups[h.rng.IntN(len(h.backups))]
		}
	}
	if h.tier == resource.ManagedHSM && h.rng.IntN(4) == 0 {
		_, err := h.RestoreKey(h.Context(), admin, "stranger", b.blob)
		wantKind(h, err, BadParameter)
	}
	want := Kind(0)
	if h.key(b.key.name) != nil {
		want = Conflict
	}
	h.change("restore", b.key.name, want, func() (Key, error) {
		return h.RestoreKey(h.Context(), admin, h.vault, b.blob)
	}, func(_ *modelKey, made Key) *modelKey {
		k := b.key.clone()
		if k.notified = (notice{}); made.Version != "" && made.Version == k.current().Version {
			h.same("restore", made, k.current().Key)
		}
		k.plan(h.unix())
		return k
	})
}

// rotated makes the model's next version.
func (h *keyHistory) rotated(k *modelKey, made Key) {
	v := new(*k.current())
	v.proofs, v.Version, v.Public, v.Created, v.Updated = nil, made.Version, made.Public, h.unix(), h.unix()
	if v.NotBefore, v.Expires = nil, nil; k.policy.ExpiryTime != "" {
		v.Expires = new(h.unix() + days(k.policy.ExpiryTime))
	}
	h.same("rotated", made, v.Key)
	if old := k.current(); !strings.HasPrefix(v.Type, "oct") && gocmp.Equal(old.Public, v.Public) {
		h.Fatal("the new version is the old key")
	}
	k.versions = append(k.versions, v)
	k.plan(h.unix())
}

func (h *keyHistory) stepRotate(name string) {
	k, want := h.live(name), Kind(0)
	switch {
	case forRSA(name):
		return
	case k == nil:
		want = NotFound
	case k.current().Bits == 192 && h.rng.IntN(2) == 0:
		return // for no reason
	}
	h.change("rotate", name, want, func() (Key, error) {
		return h.RotateKey(h.Context(), admin, h.vault, name)
	}, func(k *modelKey, made Key) *modelKey {
		h.rotated(k, made)
		return k
	})
}

var modelPolicies = []RotationPolicy{
	{},
	rotateAfter("P10D"),
	rotateBefore("P8D", "P40D"),
	{ExpiryTime: "P28D", Actions: []LifetimeAction{{Action: "notify", BeforeExpiry: "P10D"}}},
	{ExpiryTime: "P35D", Actions: []LifetimeAction{{Action: "Notify", BeforeExpiry: "P20D"}, {Action: "rotate", AfterCreate: "P14D"}}},
	{ExpiryTime: "P27D"},
	{Actions: []LifetimeAction{{Action: ActionRotate, BeforeExpiry: "P10D"}}},
}

func (h *keyHistory) stepPolicy(name string) {
	n, want := h.rng.IntN(len(modelPolicies)), Kind(0)
	p := modelPolicies[n]
	switch {
	case forRSA(name):
		return
	case n >= 5:
		want = BadParameter
	case h.live(name) == nil:
		want = NotFound
	}
	h.change("set policy", name, want, func() (Key, error) {
		_, err := h.SetRotationPolicy(h.Context(), admin, h.vault, name, p)
		return Key{}, err
	}, func(k *modelKey, _ Key) *modelKey {
		p.Actions = slices.Clone(p.Actions)
		notifies := false
		for i := range p.Actions {
			a := &p.Actions[i]
			a.Action = strings.ToUpper(a.Action[:1]) + a.Action[1:]
			notifies = notifies || a.Action == ActionNotify
		}
		if !notifies {
			p.Actions = append(p.Actions, LifetimeAction{Action: ActionNotify, BeforeExpiry: "P30D"})
		}
		p.Name, p.Vault = k.name, h.id
		p.Created, p.Updated = cmp.Or(k.policy.Created, h.unix()), h.unix()
		k.policy = p
		k.plan(h.unix())
		return k
	})
}

// algorithm returns one that fits a version and an operation, or "" if there is none.
func (v *modelKeyVersion) algorithm(operation string) string {
	signs := operation == "sign" || operation == "verify"
	wraps := operation == "wrapKey" || operation == "unwrapKey"
	switch family, _, _ := strings.Cut(v.Type, "-"); {
	case family == "EC":
		return map[string]string{"P-256": "ES256", "P-256K": "ES256K", "P-384": "ES384", "P-521": "ES512"}[v.Curve]
	case family == "RSA" && signs:
		return "PS256"
	case family == "RSA":
		return "RSA-OAEP-256"
	case signs && v.Bits == 256:
		return "HS256"
	case signs:
		return ""
	case wraps:
		return fmt.Sprintf("A%dKW", v.Bits)
	}
	return fmt.Sprintf("A%dGCM", v.Bits)
}

// mayUse says what should become of an operation with a version.
func (h *keyHistory) mayUse(v *modelKeyVersion, operation string) Kind {
	undoes := operation == "verify" || operation == "decrypt" || operation == "unwrapKey"
	switch {
	case v == nil:
		return NotFound
	case !v.Enabled:
		return Disabled
	case !undoes && v.NotBefore != nil && *v.NotBefore > h.unix()+60:
		return NotYetValid
	case !undoes && v.Expires != nil && *v.Expires <= h.unix()-60:
		return Expired
	case !slices.Contains(v.Operations, operation):
		return OperationForbidden
	case v.algorithm(operation) == "":
		return BadParameter
	}
	return 0
}

func (h *keyHistory) stepUse(name string) {
	id, v := h.version(h.live(name))
	operation := []string{"sign", "encrypt", "wrapKey"}[h.rng.IntN(3)]
	p := proof{undo: map[string]string{"sign": "verify", "encrypt": "decrypt", "wrapKey": "unwrapKey"}[operation]}
	if v != nil {
		p.alg = v.algorithm(operation)
	}
	size := map[string]int{"ES384": 48, "ES512": 64}[p.alg]
	p.text = bytes.Repeat([]byte{byte(h.rng.IntN(256))}, cmp.Or(size, 32))
	ctx := h.Context()
	var (
		used Used
		err  error
	)
	switch operation {
	case "sign":
		p.sealed.Value, used, err = h.Sign(ctx, admin, h.vault, name, id, p.alg, p.text)
	case "encrypt":
		p.sealed, used, err = h.Encrypt(ctx, admin, h.vault, name, id, p.alg, Message{Value: p.text})
	default:
		p.sealed, used, err = h.Wrap(ctx, admin, h.vault, name, id, p.alg, Message{Value: p.text})
	}
	if h.refused(operation, err, h.mayUse(v, operation)) {
		h.same("used version", used.Version, v.Version)
		if h.uses++; len(v.proofs) < 4 {
			v.proofs = append(v.proofs, p)
		}
	}
}

// prove lets a version of the key undo what p says that it did, and reports whether it can.
func (h *keyHistory) prove(name, version string, p proof) (bool, error) {
	ctx := h.Context()
	switch p.undo {
	case "verify":
		ok, _, err := h.Verify(ctx, admin, h.vault, name, version, p.alg, p.text, p.sealed.Value)
		return ok, err
	case "decrypt":
		text, _, err := h.Decrypt(ctx, admin, h.vault, name, version, p.alg, p.sealed)
		return bytes.Equal(text, p.text), err
	default:
		text, _, err := h.Unwrap(ctx, admin, h.vault, name, version, p.alg, p.sealed)
		return bytes.Equal(text, p.text), err
	}
}

// stepProve has a version undo what it did, and another version fail to.
func (h *keyHistory) stepProve(name string) {
	k := h.live(name)
	if k == nil {
		return
	}
	v, other := k.versions[h.rng.IntN(len(k.versions))], k.versions[h.rng.IntN(len(k.versions))]
	if len(v.proofs) == 0 {
		return
	}
	p := v.proofs[h.rng.IntN(len(v.proofs))]
	ok, err := h.prove(name, v.Version, p)
	if h.refused(p.undo, err, h.mayUse(v, p.undo)) && !ok {
		h.Fatalf("version %s of %s does not %s what it did", v.Version, name, p.undo)
	}
	if other == v || forRSA(name) { // those are all the same key
		return
	}
	if ok, err := h.prove(name, other.Version, p); ok && err == nil {
		h.Fatalf("version %s of %s can %s what %s did", other.Version, name, p.undo, v.Version)
	}
}

// proveAll allows every version everything and has it undo all that it ever did.
func (h *keyHistory) proveAll() {
	for name, k := range h.keys {
		if k.deleted != 0 {
			continue
		}
		for _, v := range k.versions {
			family, _, _ := strings.Cut(v.Type, "-")
			ops := slices.Compact(append(slices.Clone(operationsOfFamily[family]), "sign", "verify"))
			if _, err := h.UpdateKey(h.Context(), admin, h.vault, name, v.Version, UpdateKeyParams{
				Operations: ops, Attributes: Attributes{Enabled: new(true)},
			}); err != nil {
				h.Fatal(err)
			}
			for _, p := range v.proofs {
				if ok, err := h.prove(name, v.Version, p); !ok || err != nil {
					h.Errorf("version %s of %s cannot %s with %s what it did: %v", v.Version, name, p.undo, p.alg, err)
				}
			}
		}
	}
	if h.uses == 0 {
		h.Error("no key has done anything, so the test is about nothing")
	}
}

// A modelDue is something that is due.
type modelDue struct {
	at         int64
	what, name string
}

// dueNow lists what is due, in the order of the index.
func (h *keyHistory) dueNow() (out []modelDue) {
	for name, k := range h.keys {
		if k.deleted != 0 {
			out = append(out, modelDue{k.deleted + modelRetention, "purge", name})
			continue
		}
		out = append(out, modelDue{k.rotateAt, "rotate", name}, modelDue{k.notifyAt, "notify", name})
	}
	out = slices.DeleteFunc(out, func(d modelDue) bool { return d.at == 0 || d.at > h.unix() })
	slices.SortFunc(out, func(a, b modelDue) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.what, b.what), cmp.Compare(a.name, b.name))
	})
	return out
}

// stepTime lets up to some days pass and then does what the server's jobs do, on the model afterwards.
func (h *keyHistory) stepTime(string) {
	h.advance([]time.Duration{time.Second, time.Minute, time.Hour, day, 3 * day, 9 * day}[h.rng.IntN(6)])
	for {
		n, err := h.ActOnDue(h.Context(), everything)
		if err != nil && !failed(err) {
			h.Fatal(err)
		}
		if n == 0 && err == nil {
			break
		}
	}
	if err := h.CollectGarbage(h.Context()); err != nil && !failed(err) {
		h.Fatal(err)
	}
	for due := h.dueNow(); len(due) > 0; due = h.dueNow() {
		for _, d := range due {
			switch k := h.keys[d.name]; {
			case d.what == "purge":
				delete(h.keys, d.name)
			case d.what == "rotate" && k.rotateAt == d.at:
				made := h.observe(d.name).added(k)
				if made.Version == "" {
					h.Fatalf("%s was not rotated", d.name)
				}
				h.rotated(k, made)
			case d.what == "notify" && k.notifyAt == d.at:
				v := k.current()
				k.notified = notice{v.Version, *v.Expires}
				if *v.Expires > h.unix() {
					h.events = append(h.events, modelEvent{h.unix(), v.Version})
				}
				k.plan(h.unix())
			}
		}
	}
	h.events = slices.DeleteFunc(h.events, func(e modelEvent) bool { return e.at < h.unix()-30*secondsPerDay })
}

// compare looks at everything, in pages of random size.
func (h *keyHistory) compare() {
	h.Helper()
	ctx := h.Context()
	var live []Key
	var gone []DeletedKey
	due := 0
	for _, name := range slices.Sorted(maps.Keys(h.keys)) {
		k := h.keys[name]
		h.same("key "+name, h.observe(name), k.view())
		if k.deleted != 0 {
			gone = append(gone, h.shownDeleted(k))
			due++
			continue
		}
		live = append(live, k.current().Key)
		for _, at := range []int64{k.rotateAt, k.notifyAt} {
			if at != 0 {
				due++
			}
		}
	}
	h.same("list", walkPages(h.player, func(from string, max int) (Page[Key], error) {
		return h.ListKeys(ctx, admin, h.vault, from, max)
	}), live)
	h.same("deleted list", walkPages(h.player, func(from string, max int) (Page[DeletedKey], error) {
		return h.ListDeletedKeys(ctx, admin, h.vault, from, max)
	}), gone)
	if n := h.records(h, "due/"); n != due {
		h.Fatalf("%d entries are due, want %d", n, due)
	}
	if !h.faulty { // where a notice fails, a rotation can come before it
		var got []modelEvent
		for _, e := range h.bench.events(h) {
			got = append(got, modelEvent{e.Time, e.Version})
		}
		order := func(a, b modelEvent) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.version, b.version)) }
		slices.SortFunc(got, order)
		slices.SortFunc(h.events, order)
		if !slices.Equal(got, h.events) {
			h.Fatalf("events %v, want %v", got, h.events)
		}
	}
	h.consistent(h)
}

// checkNothingLeft counts the stored records: those of the model and no others.
func (h *keyHistory) checkNothingLeft() {
	h.advance(restoreTime)
	if err := h.CollectGarbage(h.Context()); err != nil {
		h.Fatal(err)
	}
	versions := 0
	for _, k := range h.keys {
		versions += len(k.versions)
	}
	if n, values := h.records(h, "version/"), h.records(h, "value/"); n != versions || values != versions {
		h.Errorf("%d versions and %d values are stored, want %d", n, values, versions)
	}
	if n := h.records(h, "object/") + h.records(h, "deleted/"); n != len(h.keys) {
		h.Errorf("%d keys are stored, want %d", n, len(h.keys))
	}
	if n := h.records(h, "garbage/"); n != 0 {
		h.Errorf("%d marks of garbage are left", n)
	}
}
