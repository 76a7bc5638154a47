package keyvault

import (
	"cmp"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

// model is what a vault should do, said as simply as possible: maps, no store, no cryptography.
type model struct {
	now     int64
	objects map[string]*modelObject // by name in lower case
	backups []modelBackup
}

type modelObject struct {
	name     string // as first used
	versions []modelVersion
	deleted  int64 // 0: live
}

type modelVersion struct {
	id, value, contentType string
	enabled                bool
	created, updated       int64
	tags                   map[string]string
	previous               string
}

type modelBackup struct {
	blob   []byte
	object modelObject
}

func (o *modelObject) current() *modelVersion { return &o.versions[len(o.versions)-1] }

func (o *modelObject) clone() modelObject {
	c := *o
	c.versions = slices.Clone(o.versions)
	return c
}

const modelRetention = 7 * secondsPerDay

// live and gone return the object if it is in that state.
func (m *model) live(name string) *modelObject {
	if o := m.objects[strings.ToLower(name)]; o != nil && o.deleted == 0 {
		return o
	}
	return nil
}

func (m *model) gone(name string) *modelObject {
	if o := m.objects[strings.ToLower(name)]; o != nil && o.deleted != 0 {
		return o
	}
	return nil
}

func (m *model) purgeDue() {
	for name, o := range m.objects {
		if o.deleted != 0 && o.deleted+modelRetention <= m.now {
			delete(m.objects, name)
		}
	}
}

// shown is what a caller should see of a version.
func (o *modelObject) shown(v *modelVersion, withValue bool) Secret {
	s := Secret{
		Properties: Properties{
			Name: o.name, Version: v.id, Enabled: v.enabled, Created: v.created, Updated: v.updated,
			Tags: v.tags, RecoveryLevel: "CustomizedRecoverable+Purgeable", RecoverableDays: 7,
		},
		ContentType: v.contentType, PreviousVersion: v.previous,
	}
	if withValue {
		s.Value = NewSecretValue(v.value)
	}
	return s
}

// A player plays random operations on a service.
type player struct {
	*testing.T
	*bench
	rng *rand.Rand
}

func newPlayer(t *testing.T, b *bench, seed uint64) *player {
	return &player{T: t, bench: b, rng: rand.New(rand.NewPCG(seed, 7))}
}

// history plays operations on secrets on the service and the model and compares every result.
type history struct {
	*player
	model
}

func TestRandomHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(12) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			h := &history{player: newPlayer(t, newBench(t), seed)}
			h.model = model{now: h.clock().Unix(), objects: make(map[string]*modelObject)}
			if seed%2 == 1 {
				h.faulty.SetPlan(storetest.Plan{Fail: 0.1, Twice: 0.2})
			}
			for range 400 {
				h.step()
			}
			h.faulty.SetPlan(storetest.Plan{})
			h.compareLists()
			h.checkNothingLeft()
		})
	}
}

var modelNames = []string{"a", "A", "b", "Bee", "bee", "c-1"}

func (h *player) pick() string { return modelNames[h.rng.IntN(len(modelNames))] }

// failed tells whether an injected fault has spoiled the operation, which then must have had no effect.
func failed(err error) bool { return errors.Is(err, storetest.ErrInjected) }

func (h *history) step() {
	name := h.pick()
	switch h.rng.IntN(13) {
	case 0, 1, 2:
		h.stepSet(name)
	case 3, 4:
		h.stepGet(name)
	case 5:
		h.stepUpdate(name)
	case 6:
		h.stepDelete(name)
	case 7:
		h.stepGetDeleted(name)
	case 8:
		h.stepRecover(name)
	case 9:
		h.stepPurge(name)
	case 10:
		h.stepBackup(name)
	case 11:
		h.stepRestore()
	case 12:
		h.stepTime()
	}
	if h.rng.IntN(20) == 0 {
		h.compareLists()
	}
}

// refused checks a refusal: kind 0 stands for success. It reports whether the operation took place.
func (h *player) refused(what string, err error, want Kind) bool {
	h.Helper()
	if failed(err) {
		return false
	}
	var e *Error
	switch {
	case err == nil && want == 0:
		return true
	case errors.As(err, &e) && e.Kind == want:
		return false
	}
	h.Fatalf("%s: %v, want kind %d", what, err, want)
	return false
}

func (h *player) same(what string, got, want any) {
	h.Helper()
	if reflect.DeepEqual(want, got) {
		return
	}
	compare := gocmp.Comparer(func(a, b SecretValue) bool { return a == b })
	ignored := gocmp.FilterPath(func(p gocmp.Path) bool { return p.Last().String() == ".Vault" }, gocmp.Ignore())
	empty := gocmp.FilterValues(func(a, b map[string]string) bool { return len(a) == 0 && len(b) == 0 }, gocmp.Ignore())
	if diff := gocmp.Diff(want, got, compare, ignored, empty); diff != "" {
		h.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

func (h *history) stepSet(name string) {
	enabled := h.rng.IntN(4) > 0
	p := SetSecretParams{
		Value: NewSecretValue(fmt.Sprint("value ", h.rng.Uint64())), Tags: map[string]string{"n": fmt.Sprint(h.rng.IntN(9))},
		ContentType: []string{"", "text/plain"}[h.rng.IntN(2)], Attributes: Attributes{Enabled: &enabled},
	}
	got, err := h.SetSecret(h.Context(), admin, "vault", name, p)
	want := Kind(0)
	if h.gone(name) != nil {
		want = DeletedButRecoverable
	}
	if !h.refused("set", err, want) {
		return
	}
	o := h.live(name)
	if o == nil {
		o = &modelObject{name: name}
		h.model.objects[strings.ToLower(name)] = o
	}
	v := modelVersion{
		id: got.Version, value: p.Value.text, contentType: p.ContentType, enabled: enabled,
		created: h.model.now, updated: h.model.now, tags: p.Tags,
	}
	if len(o.versions) > 0 {
		v.previous = o.current().id
	}
	o.versions = append(o.versions, v)
	h.same("set", got, o.shown(o.current(), true))
}

// version picks one of the object's versions, the current one by "", or one that does not exist.
func (h *history) version(o *modelObject) (string, *modelVersion) {
	switch n := h.rng.IntN(5); {
	case o == nil || n == 0:
		id := record.NewID()
		return id, nil
	case n < 3:
		return "", o.current()
	default:
		v := &o.versions[h.rng.IntN(len(o.versions))]
		return strings.ToUpper(v.id), v
	}
}

func (h *history) stepGet(name string) {
	o := h.live(name)
	id, v := h.version(o)
	got, err := h.GetSecret(h.Context(), admin, "vault", name, id)
	want := Kind(0)
	switch {
	case v == nil:
		want = NotFound
	case !v.enabled:
		want = Disabled
	}
	if h.refused("get", err, want) {
		h.same("get", got, o.shown(v, true))
	}
}

func (h *history) stepUpdate(name string) {
	o := h.live(name)
	id, v := h.version(o)
	enabled, contentType := h.rng.IntN(2) == 0, fmt.Sprint("type", h.rng.IntN(3))
	p := UpdateSecretParams{Attributes: Attributes{Enabled: &enabled}}
	if h.rng.IntN(2) == 0 {
		p.ContentType = &contentType
	}
	if h.rng.IntN(2) == 0 {
		p.Tags = map[string]string{"u": "1"}
	}
	got, err := h.UpdateSecret(h.Context(), admin, "vault", name, id, p)
	want := Kind(0)
	if v == nil {
		want = NotFound
	}
	if !h.refused("update", err, want) {
		return
	}
	v.enabled, v.updated = enabled, h.model.now
	if p.ContentType != nil {
		v.contentType = contentType
	}
	if p.Tags != nil {
		v.tags = p.Tags
	}
	h.same("update", got, o.shown(v, false))
}

func (h *history) shownDeleted(o *modelObject) DeletedSecret {
	return DeletedSecret{Secret: o.shown(o.current(), false), Deleted: o.deleted, ScheduledPurge: o.deleted + modelRetention}
}

func (h *history) stepDelete(name string) {
	got, err := h.DeleteSecret(h.Context(), admin, "vault", name)
	o, want := h.live(name), Kind(0)
	if o == nil {
		want = NotFound
	}
	if h.refused("delete", err, want) {
		o.deleted = h.model.now
		h.same("delete", got, h.shownDeleted(o))
	}
}

func (h *history) stepGetDeleted(name string) {
	got, err := h.GetDeletedSecret(h.Context(), admin, "vault", name)
	o, want := h.gone(name), Kind(0)
	switch {
	case o == nil:
		want = NotFound
	case !o.current().enabled:
		want = Disabled
	}
	if h.refused("get deleted", err, want) {
		h.same("get deleted", got, h.shownDeleted(o))
	}
}

func (h *history) stepRecover(name string) {
	got, err := h.RecoverSecret(h.Context(), admin, "vault", name)
	o, want := h.gone(name), Kind(0)
	switch {
	case h.live(name) != nil:
		want = NotDeleted
	case o == nil:
		want = NotFound
	}
	if h.refused("recover", err, want) {
		o.deleted = 0
		h.same("recover", got, o.shown(o.current(), false))
	}
}

func (h *history) stepPurge(name string) {
	err := h.PurgeSecret(h.Context(), admin, "vault", name)
	want := Kind(0)
	if h.gone(name) == nil {
		want = NotFound
	}
	if h.refused("purge", err, want) {
		delete(h.model.objects, strings.ToLower(name))
	}
}

func (h *history) stepBackup(name string) {
	blob, err := h.BackupSecret(h.Context(), admin, "vault", name)
	o, want := h.live(name), Kind(0)
	if o == nil {
		want = NotFound
	}
	if h.refused("backup", err, want) {
		h.model.backups = append(h.model.backups, modelBackup{blob, o.clone()})
	}
}

func (h *history) stepRestore() {
	if len(h.model.backups) == 0 {
		return
	}
	b := h.model.backups[h.rng.IntN(len(h.model.backups))]
	got, err := h.RestoreSecret(h.Context(), admin, "vault", b.blob)
	want := Kind(0)
	if h.model.objects[strings.ToLower(b.object.name)] != nil {
		want = Conflict
	}
	if h.refused("restore", err, want) {
		o := b.object.clone()
		h.model.objects[strings.ToLower(o.name)] = &o
		h.same("restore", got, o.shown(o.current(), false))
	}
}

// stepTime lets up to two days pass and then does what the server's jobs do.
func (h *history) stepTime() {
	h.advance(time.Duration(h.rng.IntN(48)) * time.Hour)
	h.model.now = h.clock().Unix()
	for {
		if _, err := h.ActOnDue(h.Context(), everything); err == nil {
			break
		} else if !failed(err) {
			h.Fatal(err)
		}
	}
	h.purgeDue()
	if err := h.CollectGarbage(h.Context()); err != nil && !failed(err) {
		h.Fatal(err)
	}
}

// compareLists walks all lists in pages of random size.
func (h *history) compareLists() {
	ctx := h.Context()
	var live, gone []string
	for _, o := range h.model.objects {
		if o.deleted != 0 {
			gone = append(gone, o.name)
			continue
		}
		live = append(live, o.name)
		versions := walkPages(h.player, func(from string, max int) (Page[Secret], error) {
			return h.ListSecretVersions(ctx, admin, "vault", o.name, from, max)
		})
		var want []Secret
		for i := range o.versions {
			want = append(want, o.shown(&o.versions[i], false))
		}
		slices.SortFunc(want, func(a, b Secret) int { return cmp.Compare(a.Version, b.Version) })
		h.same("versions", versions, want)
	}
	folded := func(a, b string) int { return cmp.Compare(strings.ToLower(a), strings.ToLower(b)) }
	slices.SortFunc(live, folded)
	slices.SortFunc(gone, folded)
	var wantLive []Secret
	for _, name := range live {
		o := h.live(name)
		wantLive = append(wantLive, o.shown(o.current(), false))
	}
	h.same("list", walkPages(h.player, func(from string, max int) (Page[Secret], error) {
		return h.ListSecrets(ctx, admin, "vault", from, max)
	}), wantLive)
	var wantGone []DeletedSecret
	for _, name := range gone {
		wantGone = append(wantGone, h.shownDeleted(h.gone(name)))
	}
	h.same("deleted list", walkPages(h.player, func(from string, max int) (Page[DeletedSecret], error) {
		return h.ListDeletedSecrets(ctx, admin, "vault", from, max)
	}), wantGone)
}

func walkPages[T any](h *player, fetch func(from string, max int) (Page[T], error)) (all []T) {
	h.Helper()
	for from := ""; ; {
		page, err := fetch(from, 1+h.rng.IntN(3))
		if err != nil {
			h.Fatal(err)
		}
		all = append(all, page.Items...)
		if from = page.Next; from == "" {
			return all
		}
	}
}

// checkNothingLeft counts the stored records: those of the model and no others.
func (h *history) checkNothingLeft() {
	h.advance(restoreTime)
	if err := h.CollectGarbage(h.Context()); err != nil {
		h.Fatal(err)
	}
	versions := 0
	for _, o := range h.model.objects {
		versions += len(o.versions)
	}
	if n, values := h.records(h.T, "version/"), h.records(h.T, "value/"); n != versions || values != versions {
		h.Errorf("%d versions and %d values are stored, want %d", n, values, versions)
	}
	if n := h.records(h.T, "object/") + h.records(h.T, "deleted/"); n != len(h.model.objects) {
		h.Errorf("%d objects are stored, want %d", n, len(h.model.objects))
	}
	if h.records(h.T, "due/") != h.records(h.T, "deleted/") {
		h.Error("what is due and what is deleted differ")
	}
}
