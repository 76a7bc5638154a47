package managedhsm

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/bolt"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

const (
	tenant     = "7f2c5d0e-1b7a-4c38-9d0f-3a6c1e5b9d42"
	adminID    = "0a11ce00-0000-4000-8000-00000000000a"
	crewID     = "c4e30000-0000-4000-8000-00000000000c"
	strangerID = "0b0b0000-0000-4000-8000-00000000000b"
)

var (
	admin    = &identity.Caller{TenantID: tenant, ObjectID: adminID, AppID: "app", Issuer: "iss"}
	member   = &identity.Caller{TenantID: tenant, ObjectID: strangerID, Groups: []string{strings.ToUpper(crewID)}}
	stranger = &identity.Caller{TenantID: tenant, ObjectID: strangerID, AppID: "app2", Issuer: "iss"}
	foreign  = &identity.Caller{TenantID: "another", ObjectID: adminID, Groups: []string{crewID}}
	operator = resource.Actor{Operator: "tester"}
	now      = time.Unix(1_700_000_000, 0)
)

func clock() time.Time { return now }

// bench is a service over a real store, with an HSM named hsm that is not activated.
type bench struct {
	*Service
	faulty *storetest.Faulty
	root   seal.RootKey
	trail  string
}

func newBench(t testing.TB) *bench {
	t.Helper()
	dir := t.TempDir()
	file, err := bolt.Open(filepath.Join(dir, "store.db"), nil)
	must(t, err)
	b := &bench{faulty: storetest.NewFaulty(file, 1), trail: filepath.Join(dir, "audit.jsonl")}
	b.root, err = seal.ParseRootKey(seal.GenerateRootKey())
	must(t, err)
	must(t, seal.Init(t.Context(), file, b.root))
	log, err := audit.Open(audit.Config{Path: b.trail, SyncEvery: time.Second})
	must(t, err)
	t.Cleanup(func() {
		_ = log.Close() // closed already by a test
		must(t, b.faulty.Close())
	})
	b.Service = b.serve(t, b.faulty, log)
	b.create(t, "hsm")
	return b
}

// serve returns a service on a store, as one server runs it.
func (b *bench) serve(t testing.TB, file store.DB, log *audit.Log) *Service {
	t.Helper()
	db, err := seal.Open(t.Context(), file, b.root)
	must(t, err)
	resources, err := resource.Open(t.Context(), resource.Config{
		DB: db, Audit: log, Now: clock, TenantID: tenant, Locations: []string{"local"}, Purged: keyvault.Purged, PurgedHSM: Purged,
	})
	must(t, err)
	service := New(Config{DB: db, Audit: log, Resources: resources, Now: clock})
	service.newTransferKey = func(string, time.Time) (*sdomain.TransferKey, error) { return kitOf().key, nil }
	return service
}

// hooked returns another service on the same store that calls before ahead of its first Update.
func (b *bench) hooked(t testing.TB, before func()) *Service {
	t.Helper()
	h := &hookedStore{DB: b.faulty}
	s := b.serve(t, h, b.audit)
	h.before = before
	return s
}

type hookedStore struct {
	store.DB
	before func()
}

func (h *hookedStore) Update(ctx context.Context, fn func(store.Tx) error) error {
	if before := h.before; before != nil {
		h.before = nil
		before()
	}
	return h.DB.Update(ctx, fn)
}

func (b *bench) create(t testing.TB, name string) {
	t.Helper()
	_, _, err := b.resources.PutHSM(t.Context(), operator, "g", name, resource.PutHSMParams{
		Location: "local", SKUName: "Standard_B1", TenantID: tenant, Administrators: []string{strings.ToUpper(adminID), crewID},
	})
	must(t, err)
}

// vault returns the HSM as it is now.
func (b *bench) vault(t testing.TB, name string) (v *resource.Vault) {
	t.Helper()
	must(t, b.db.View(t.Context(), func(r store.Reader) (err error) {
		v, err = b.resources.LoadHSM(r, name)
		return err
	}))
	return v
}

// restoring puts the HSM where a restore has taken it.
func (b *bench) restoring(t testing.TB, name string) {
	t.Helper()
	must(t, b.db.Update(t.Context(), func(tx store.Tx) error {
		raw, err := tx.Get("hsm/" + name)
		if err != nil {
			return err
		}
		var rec map[string]any
		if err := json.Unmarshal(raw, &rec); err != nil {
			return err
		}
		rec["restoring"] = "job-1"
		if raw, err = json.Marshal(rec); err != nil {
			return err
		}
		return tx.Put("hsm/"+name, raw)
	}))
}

// dump returns all records, opened.
func (b *bench) dump(t testing.TB) map[string]string {
	t.Helper()
	out := make(map[string]string)
	must(t, b.db.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("", "") {
			if err != nil {
				return err
			}
			out[e.Key] = string(e.Value)
		}
		return nil
	}))
	return out
}

// logged returns the audit log's lines of an operation.
func (b *bench) logged(t testing.TB, op keyvault.Operation) []string {
	t.Helper()
	raw, err := os.ReadFile(b.trail)
	must(t, err)
	return slices.DeleteFunc(strings.Split(string(raw), "\n"), func(line string) bool {
		return !strings.Contains(line, `"`+op.Name+`"`)
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind keyvault.Kind, text string) {
	t.Helper()
	var e *keyvault.Error
	switch {
	case kind == 0:
		if err != nil {
			t.Errorf("got %v, want no error", err)
		}
	case !errors.As(err, &e) || e.Kind != kind || !strings.Contains(e.Message, text):
		t.Errorf("got %v, want kind %d and %q", err, kind, text)
	}
}

// An owner of the security domain.
type owner struct {
	key         *rsa.PrivateKey
	certificate sdomain.Certificate
}

// everyOwner makes three, once.
var everyOwner = sync.OnceValue(func() (all []owner) {
	for range 3 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: now}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			panic(err)
		}
		c, err := sdomain.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		all = append(all, owner{key, c})
	}
	return all
})

func owners() (certs []sdomain.Certificate) {
	for _, o := range everyOwner() {
		certs = append(certs, o.certificate)
	}
	return certs
}

// opened is what is in a file, as two of the owners read it.
func opened(t testing.TB, file []byte) *sdomain.DomainKeys {
	t.Helper()
	f, err := sdomain.Parse(file)
	must(t, err)
	data, err := f.Open([]sdomain.Holder{{Key: everyOwner()[2].key}, {Key: everyOwner()[0].key}})
	must(t, err)
	keys, err := sdomain.ParseDomainKeys(data)
	must(t, err)
	return keys
}

// A kit is what uploads are made of. Making a transfer key takes seconds.
type kit struct {
	key    *sdomain.TransferKey
	domain *sdomain.DomainKeys
	data   []sdomain.Datum
	blob   []byte // of the domain, for the key
}

var kitOf = sync.OnceValue(func() (k kit) {
	var err error
	if k.key, err = sdomain.NewTransferKey("hsm", now); err != nil {
		panic(err)
	}
	if k.domain, err = sdomain.NewDomainKeys(); err != nil {
		panic(err)
	}
	if k.data, err = k.domain.Data(); err != nil {
		panic(err)
	}
	if k.blob, err = sdomain.Rewrap(k.data, k.key.Certificate()); err != nil {
		panic(err)
	}
	return k
})

// giveTransferKey gives an HSM the kit's, as if it had been asked for.
func (b *bench) giveTransferKey(t testing.TB, name string) {
	t.Helper()
	raw, err := kitOf().key.MarshalBinary()
	must(t, err)
	id := b.vault(t, name).ID
	must(t, b.db.Update(t.Context(), func(tx store.Tx) error {
		return record.Put(tx, transferKey(id), transferRecord{record.Current(), raw})
	}))
}

func (b *bench) download(t testing.TB, name string) []byte {
	t.Helper()
	file, err := b.Download(t.Context(), admin, name, owners(), 2)
	must(t, err)
	return file
}

func upload(t testing.TB, s *Service, who *identity.Caller) error {
	t.Helper()
	_, err := s.Upload(t.Context(), who, "hsm", kitOf().blob)
	return err
}

// recreate puts another HSM in the place of one.
func (b *bench) recreate(t testing.TB, name string) {
	t.Helper()
	_, err := b.resources.DeleteHSM(t.Context(), operator, "g", name)
	must(t, err)
	must(t, b.resources.PurgeHSM(t.Context(), operator, "local", name))
	b.create(t, name)
}

// domain is what the HSM named hsm has.
func (b *bench) domain(t testing.TB) (keys *sdomain.DomainKeys) {
	t.Helper()
	v := b.vault(t, "hsm")
	must(t, b.db.View(t.Context(), func(r store.Reader) (err error) {
		keys, err = b.resources.Domain(r, v)
		return err
	}))
	return keys
}

func isKind(err error, kind keyvault.Kind) bool {
	var e *keyvault.Error
	return errors.As(err, &e) && e.Kind == kind
}
