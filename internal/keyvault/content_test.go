package keyvault

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/store"
)

// hsmOf returns a managed HSM as it is now.
func (b *bench) hsmOf(t testing.TB, name string) (v *resource.Vault) {
	t.Helper()
	err := b.db.View(t.Context(), func(r store.Reader) (err error) {
		v, err = b.resources.LoadHSM(r, name)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// contents returns all keys of a managed HSM.
func (b *bench) contents(t testing.TB, v *resource.Vault) (all []*KeyContent) {
	t.Helper()
	for after := ""; ; after = all[len(all)-1].Name {
		k, err := b.NextKey(t.Context(), v, after)
		if err != nil {
			t.Fatal(err)
		}
		if k == nil {
			return all
		}
		all = append(all, k)
	}
}

// fill makes keys of several versions, one of them deleted, one with a policy, and returns what the managed HSM then shows.
func (b *bench) fill(t testing.TB, name string) {
	t.Helper()
	hsm, ctx := b.ManagedHSMs(), context.WithoutCancel(t.Context())
	for _, key := range []string{"a", "B-Mixed", "c", "gone"} {
		for range 3 {
			_, err := hsm.CreateKey(ctx, admin, name, key, CreateKeyParams{Type: "EC-HSM", Tags: map[string]string{"of": key}})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	_, err := hsm.SetRotationPolicy(ctx, admin, name, "c", RotationPolicy{
		ExpiryTime: "P90D", Actions: []LifetimeAction{{Action: ActionRotate, AfterCreate: "P60D"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := hsm.DeleteKey(ctx, admin, name, "gone"); err != nil {
		t.Fatal(err)
	}
}

// shown is what a managed HSM shows of its keys to who may see all.
func (b *bench) shown(t testing.TB, name string) []string {
	t.Helper()
	hsm := b.ManagedHSMs()
	var out []string
	live, err := hsm.ListKeys(t.Context(), admin, name, "", MaxPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range live.Items {
		versions, err := hsm.ListKeyVersions(t.Context(), admin, name, k.Name, "", MaxPage)
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range versions.Items {
			v.Vault = ""
			out = append(out, fmt.Sprintf("%+v", v))
		}
		if _, _, err := hsm.Sign(t.Context(), admin, name, k.Name, "", "ES256", make([]byte, 32)); err != nil {
			t.Errorf("sign with %s: %v", k.Name, err)
		}
	}
	deleted, err := hsm.ListDeletedKeys(t.Context(), admin, name, "", MaxPage)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range deleted.Items {
		k.Vault = ""
		out = append(out, fmt.Sprintf("%+v", k))
	}
	return out
}

// dueIn are the due entries of a content, without its id.
func (b *bench) dueIn(t testing.TB, content string) (out []string) {
	t.Helper()
	err := b.db.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("due/", store.PrefixEnd("due/")) {
			if err != nil {
				return err
			}
			if strings.Contains(e.Key, content) {
				out = append(out, strings.ReplaceAll(e.Key, content, "")+" "+string(e.Value))
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func freely(store.Tx) error { return nil }

// replaceContent does to a managed HSM what a full restore does.
func (b *bench) replaceContent(t testing.TB, name string, keys []*KeyContent) {
	t.Helper()
	content := record.NewID()
	v := b.hsmOf(t, name)
	update := func(fn func(store.Tx) error) {
		if err := b.db.Update(t.Context(), fn); err != nil {
			t.Fatal(err)
		}
	}
	update(func(tx store.Tx) error { return StageContent(tx, content, b.now.Add(time.Hour)) })
	for _, k := range keys {
		for range 2 { // as if the first attempt had been interrupted
			if err := b.StageKey(t.Context(), v.WithContent(content), k, freely); err != nil {
				t.Fatal(err)
			}
		}
	}
	if due := b.dueIn(t, content); len(due) != 0 {
		t.Errorf("something is due for keys that nobody sees yet: %v", due)
	}
	update(func(tx store.Tx) error { return KeepContent(tx, content, b.now.Add(2*time.Hour)) })
	update(func(tx store.Tx) error {
		// The roles belong to the content, and stay what they are here.
		for e, err := range tx.Scan(resource.LocalPrefix(v.ContentID()), store.PrefixEnd(resource.LocalPrefix(v.ContentID()))) {
			if err != nil {
				return err
			}
			if err := tx.Put(strings.Replace(e.Key, v.ContentID(), content, 1), e.Value); err != nil {
				return err
			}
		}
		return errors.Join(TakeContent(tx, content), Purged(tx, v.ContentID()))
	})
	b.changePool(t, name, "content", content)
	for after := ""; ; {
		next, err := b.ScheduleKeys(t.Context(), b.hsmOf(t, name), after)
		if err != nil {
			t.Fatal(err)
		}
		if next == "" {
			return
		}
		after = next
	}
}

func TestContentMoves(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	domain := newDomain(t)
	b.pool(t, "from", domain)
	b.pool(t, "twin", domain)
	b.pool(t, "alien", newDomain(t))
	b.fill(t, "from")
	want, due := b.shown(t, "from"), b.dueIn(t, b.hsmOf(t, "from").ContentID())
	if len(due) != 2 { // a rotation and a purge
		t.Fatalf("due is %v", due)
	}
	saved := b.contents(t, b.hsmOf(t, "from"))
	if len(saved) != 4 {
		t.Fatalf("%d keys", len(saved))
	}

	// Into another HSM with the domain, whose own keys are gone then, and back over what they are a copy of.
	if _, err := b.ManagedHSMs().CreateKey(t.Context(), admin, "twin", "other", CreateKeyParams{Type: "EC-HSM"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"twin", "from"} {
		b.replaceContent(t, name, saved)
		if diff := gocmp.Diff(want, b.shown(t, name)); diff != "" {
			t.Errorf("%s (-before +after):\n%s", name, diff)
		}
		v := b.hsmOf(t, name)
		got := b.dueIn(t, v.ContentID())
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], v.Resource(), b.hsmOf(t, "from").Resource())
		}
		if diff := gocmp.Diff(due, got); diff != "" {
			t.Errorf("due in %s (-before +after):\n%s", name, diff)
		}
	}
	for range 3 { // the contents that were replaced, then their objects
		if err := b.CollectGarbage(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	b.nothingElse(t, "twin", "from", "alien")

	// The domain decides, not who asks.
	alien := b.hsmOf(t, "alien")
	wantKind(t, b.StageKey(t.Context(), alien.WithContent(record.NewID()), saved[0], freely), BadParameter)
	err := b.RestoreKeyContent(t.Context(), alien, saved[0], nothing)
	wantKind(t, err, BadParameter)
	if left := b.contents(t, alien); len(left) != 0 {
		t.Errorf("%d keys came into the HSM of another domain", len(left))
	}
}

// TestContentIsOdd: only who holds the security domain can make these.
func TestContentIsOdd(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.pool(t, "from", newDomain(t))
	b.fill(t, "from")
	v := b.hsmOf(t, "from")
	saved := b.contents(t, v)[0]
	if _, _, err := b.decode(t.Context(), v, saved); err != nil {
		t.Fatal(err)
	}
	last := saved.Records[len(saved.Records)-1]
	named := bytes.Replace(last.Data, []byte(`"version":"`), []byte(`"version":"x/`), 1)
	for what, k := range map[string]*KeyContent{
		"a version twice":      {saved.Name, append(slices.Clone(saved.Records), last)},
		"a version of no name": {saved.Name, append(slices.Clone(saved.Records), ContentRecord{contentVersion, named})},
	} {
		_, _, err := b.decode(t.Context(), v, k)
		if wantKind(t, err, BadParameter); err != nil && !strings.Contains(err.Error(), "a version twice, or one that is none") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, odd := range []func(o *objectRecord){
		func(o *objectRecord) { o.Managed = true },
		func(o *objectRecord) { o.Deleted, o.PurgeAt = -2, -1 },
		func(o *objectRecord) { o.Deleted, o.PurgeAt = 2, 1 },
		func(o *objectRecord) { o.Deleted, o.PurgeAt = 1, maxTime+1 },
	} {
		o, err := record.Decode[objectRecord](saved.Records[0].Data)
		if err != nil {
			t.Fatal(err)
		}
		odd(o)
		raw, err := json.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = b.decode(t.Context(), v, &KeyContent{saved.Name, append([]ContentRecord{{contentKey, raw}}, saved.Records[1:]...)})
		wantKind(t, err, BadParameter)
	}
}

// nothingElse checks that all objects, versions and values in the store belong to what those managed HSMs have.
func (b *bench) nothingElse(t testing.TB, names ...string) {
	t.Helper()
	belongs := make(map[string]bool)
	for _, name := range names {
		v := b.hsmOf(t, name)
		belongs[v.ContentID()] = true
		for _, k := range b.contents(t, v) {
			o, err := record.Decode[objectRecord](k.Records[0].Data)
			if err != nil {
				t.Fatal(err)
			}
			belongs[o.ID] = true
		}
	}
	err := b.db.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			kind, rest, _ := strings.Cut(e.Key, "/")
			id, _, _ := strings.Cut(rest, "/")
			switch kind {
			case "object", "deleted", "version", "value", "local", "garbage":
				if !belongs[id] {
					t.Errorf("%s was left behind", e.Key)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func nothing(store.Tx) error { return nil }

func TestRestoreOfOneKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.pool(t, "from", newDomain(t))
	b.fill(t, "from")
	hsm, v := b.ManagedHSMs(), b.hsmOf(t, "from")
	saved := b.contents(t, v)
	for _, k := range saved {
		err := b.RestoreKeyContent(t.Context(), v, k, nothing)
		wantKind(t, err, Conflict)
		if k.Name != "gone" {
			if _, err := hsm.DeleteKey(t.Context(), admin, "from", k.Name); err != nil {
				t.Fatal(err)
			}
		}
		err = b.RestoreKeyContent(t.Context(), v, k, nothing)
		wantKind(t, err, Conflict)
		if err := hsm.PurgeKey(t.Context(), admin, "from", k.Name); err != nil {
			t.Fatal(err)
		}
		if err := b.RestoreKeyContent(t.Context(), v, k, nothing); err != nil {
			t.Fatalf("%s: %v", k.Name, err)
		}
		if _, err := hsm.GetKey(t.Context(), admin, "from", k.Name, ""); err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
	}
	due := b.dueIn(t, v.ContentID())
	if len(due) != 1 || !strings.Contains(due[0], "rotate") {
		t.Errorf("due is %v", due)
	}

	// What is spoiled changes nothing.
	for name, spoil := range map[string]func(k *KeyContent){
		"no key":          func(k *KeyContent) { k.Records = k.Records[1:] },
		"no records":      func(k *KeyContent) { k.Records = nil },
		"no versions":     func(k *KeyContent) { k.Records = k.Records[:1] },
		"another name":    func(k *KeyContent) { k.Name = "b-mixed" },
		"an unknown kind": func(k *KeyContent) { k.Records[1].Kind = "secret" },
		"material swapped": func(k *KeyContent) {
			k.Records[1].Data, k.Records[2].Data = swapped(t, k.Records[1].Data, k.Records[2].Data)
		},
	} {
		t.Run(name, func(t *testing.T) {
			k := &KeyContent{Name: saved[0].Name, Records: append([]ContentRecord(nil), saved[0].Records...)}
			spoil(k)
			err := b.RestoreKeyContent(t.Context(), v, k, nothing)
			wantKind(t, err, BadParameter)
		})
	}
	if text := fmt.Sprintf("%v %+v %#v %s", *saved[0], *saved[0], saved[0], saved[0].Records); strings.Contains(text, "value") {
		t.Errorf("a key prints as %s", text)
	}
}

// swapped exchanges the material of two versions.
func swapped(t testing.TB, a, b []byte) (x, y []byte) {
	t.Helper()
	var v, w backupVersion
	err := errors.Join(json.Unmarshal(a, &v), json.Unmarshal(b, &w))
	v.Value, w.Value = w.Value, v.Value
	x, errX := json.Marshal(v)
	y, errY := json.Marshal(w)
	if err = errors.Join(err, errX, errY); err != nil {
		t.Fatal(err)
	}
	return x, y
}

// TestContentGone: a job does not go on with an HSM that is not the same any more.
func TestContentGone(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.pool(t, "from", newDomain(t))
	b.fill(t, "from")
	v := b.hsmOf(t, "from")
	b.changePool(t, "from", "content", record.NewID())
	_, err := b.NextKey(t.Context(), v, "")
	wantKind(t, err, VaultNotFound)
	_, err = b.ScheduleKeys(t.Context(), v, "")
	wantKind(t, err, VaultNotFound)

	// A content that nobody goes on making is collected, and can be made no more.
	staged := record.NewID()
	mark := func(fn func(tx store.Tx) error) error { return b.db.Update(t.Context(), fn) }
	if err := mark(func(tx store.Tx) error { return StageContent(tx, staged, b.now) }); err != nil {
		t.Fatal(err)
	}
	if err := b.CollectGarbage(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantKind(t, mark(func(tx store.Tx) error { return KeepContent(tx, staged, b.now.Add(time.Hour)) }), Conflict)
	wantKind(t, mark(func(tx store.Tx) error { return TakeContent(tx, staged) }), Conflict)
}
