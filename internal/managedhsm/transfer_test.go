package managedhsm

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// TestTransferKey: all who ask get the same key, from any server, and its intent is on record once.
func TestTransferKey(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	servers := []*Service{b.Service, b.serve(t, b.faulty, b.audit)}
	for _, s := range servers {
		s.newTransferKey = sdomain.NewTransferKey
	}
	var wg sync.WaitGroup
	got := make([]string, 4)
	for i := range got {
		wg.Go(func() {
			var err error
			if got[i], err = servers[i%2].TransferKey(t.Context(), admin, "hsm", "hsm.example"); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, jwk := range got {
		if jwk == "" || jwk != got[0] {
			t.Errorf("got %.40s and %.40s", jwk, got[0])
		}
	}
	if c, err := sdomain.ParseTransferKey("jwk", got[0]); err != nil || c.X509().Subject.CommonName != "hsm.example" {
		t.Errorf("the certificate is of %s (%v)", c.X509().Subject, err)
	}
	if n := len(b.logged(t, GetTransferKey)); n < 1 || n > len(servers) {
		t.Errorf("%d intents are on record", n)
	}
}

// TestTransferKeyOvertaken: the HSM has a key of another server's by the time that this one has made its own, or is active.
func TestTransferKeyOvertaken(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	s := b.hooked(t, func() { b.giveTransferKey(t, "hsm") })
	got, err := s.TransferKey(t.Context(), admin, "hsm", "hsm.example")
	must(t, err)
	want, err := kitOf().key.JWK()
	if err != nil || got != want {
		t.Errorf("got another key than is kept (%v)", err)
	}
	b.create(t, "other")
	s = b.hooked(t, func() { b.download(t, "other") })
	_, err = s.TransferKey(t.Context(), admin, "other", "hsm.example")
	wantKind(t, err, keyvault.Conflict, "is active: it has its security domain")
	if _, kept := b.dump(t)[transferKey(b.vault(t, "other").ID)]; kept {
		t.Error("the key was kept")
	}
}

// TestMakingIsBounded: keys are made one at a time, and nobody waits for ever.
func TestMakingIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Config{})
		leave, err := s.enterMaking(t.Context())
		must(t, err)
		start := time.Now()
		_, err = s.enterMaking(t.Context())
		wantKind(t, err, keyvault.Busy, "Try again")
		if waited := time.Since(start); waited != makingWait {
			t.Errorf("it waited %s", waited)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.enterMaking(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		leave()
		if leave, err = s.enterMaking(t.Context()); err != nil {
			t.Fatal(err)
		}
		leave()
	})
}

// TestTransferRecord: a record that cannot be read is a fault of the store's, and not of who asks.
func TestTransferRecord(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.giveTransferKey(t, "hsm")
	at := transferKey(b.vault(t, "hsm").ID)
	good := b.dump(t)[at]
	if known, err := CheckRecord(at, []byte(good)); !known || err != nil {
		t.Errorf("the record: %t, %v", known, err)
	}
	if known, _ := CheckRecord("object/x", nil); known {
		t.Error("another package's record is taken for one of this")
	}
	for _, bad := range []string{"{}", `{"v":2,"key":""}`, strings.Replace(good, `"key":"`, `"key":"AAAA`, 1)} {
		if _, err := CheckRecord(at, []byte(bad)); err == nil {
			t.Errorf("%.40s is good", bad)
		}
		must(t, b.db.Update(t.Context(), func(tx store.Tx) error { return tx.Put(at, []byte(bad)) }))
		var spoiled *seal.RecordError
		if _, err := b.TransferKey(t.Context(), admin, "hsm", "hsm.example"); !errors.As(err, &spoiled) {
			t.Errorf("the key: %v", err)
		}
		if err := upload(t, b.Service, admin); !errors.As(err, &spoiled) {
			t.Errorf("upload: %v", err)
		}
	}
	// It can be activated with a domain of its own all the same.
	b.download(t, "hsm")
}

// TestCheckReferences: nothing is found in any state, and what does not fit together is.
func TestCheckReferences(t *testing.T) {
	t.Parallel()
	found := func(b *bench) (out []string) {
		must(t, b.CheckReferences(t.Context(), func(key, problem string) { out = append(out, key+" "+problem) }))
		return out
	}
	for state, enter := range states {
		b := newBench(t)
		enter(t, b)
		if got := found(b); got != nil && state != "restoring" { // by no job: see TestStuckHSM
			t.Errorf("%s: %q", state, got)
		}
	}
	b := newBench(t)
	b.download(t, "hsm")
	b.giveTransferKey(t, "hsm")
	id := b.vault(t, "hsm").ID
	want := "transfer/" + id + " belongs to no managed HSM that waits for a security domain"
	if got := found(b); !slices.Equal(got, []string{want}) {
		t.Errorf("got %q", got)
	}
}
