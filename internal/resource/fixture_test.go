package resource

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/bolt"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

const (
	tenant  = "7f2c5d0e-1b7a-4c38-9d0f-3a6c1e5b9d42"
	ownerID = "0a11ce00-0000-4000-8000-00000000000a"
	otherID = "0b0b0000-0000-4000-8000-00000000000b"
	thirdID = "0ca70100-0000-4000-8000-00000000000c"
)

var (
	operator = Actor{Operator: "tester"}
	owner    = person(ownerID)
	nobody   = person(otherID)
	third    = person(thirdID)
)

func person(id string, groups ...string) Actor {
	return Actor{Caller: &identity.Caller{TenantID: tenant, ObjectID: id, AppID: "app-" + id[:min(4, len(id))], IdentityType: "app", Groups: groups}}
}

// bench is a service over a real store with a clock of its own. ownerID owns the subscription, and there is a group g.
type bench struct {
	*Service
	faulty *storetest.Faulty
	root   seal.RootKey
	log    *audit.Log
	trail  string

	mu  sync.Mutex // guards now
	now time.Time
}

func (b *bench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bench) advance(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

// newStore returns a bench without a service.
func newStore(t testing.TB) *bench {
	t.Helper()
	dir := t.TempDir()
	file, err := bolt.Open(filepath.Join(dir, "store.db"), nil)
	must(t, err)
	b := &bench{now: time.Unix(1_700_000_000, 0), faulty: storetest.NewFaulty(file, 1), trail: filepath.Join(dir, "audit.jsonl")}
	b.root, err = seal.ParseRootKey(seal.GenerateRootKey())
	must(t, err)
	must(t, seal.Init(t.Context(), file, b.root))
	b.log, err = audit.Open(audit.Config{Path: b.trail, SyncEvery: time.Second})
	must(t, err)
	t.Cleanup(func() {
		if err := errors.Join(b.log.Close(), b.faulty.Close()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// serve returns a service on the store, as one server runs it.
func (b *bench) serve(t testing.TB) *Service { return b.serveOn(t, b.faulty) }

// hooked returns another service on the same store that calls before ahead of its next Update, once.
func (b *bench) hooked(t testing.TB, before func()) *Service {
	t.Helper()
	h := &hookedStore{DB: b.faulty}
	s := b.serveOn(t, h)
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

func (b *bench) serveOn(t testing.TB, file store.DB) *Service {
	t.Helper()
	db, err := seal.Open(t.Context(), file, b.root)
	must(t, err)
	s, err := Open(t.Context(), Config{
		DB: db, Audit: b.log, Now: b.clock, TenantID: tenant, Locations: []string{"local", "West Europe"},
		Purged: func(tx store.Tx, id string) error { return tx.Put("garbage/"+id, nil) },
	})
	must(t, err)
	return s
}

func newBench(t testing.TB) *bench {
	t.Helper()
	b := newStore(t)
	b.Service = b.serve(t)
	b.bootstrap(t, "tester")
	_, _, err := b.PutGroup(t.Context(), owner, Group{Name: "g", Location: "local"})
	must(t, err)
	return b
}

// bootstrap reports whether ownerID has become Owner.
func (b *bench) bootstrap(t testing.TB, operator string) bool {
	t.Helper()
	made, err := b.Bootstrap(t.Context(), operator, ownerID)
	must(t, err)
	return made
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantKind(t testing.TB, err error, kind Kind) {
	t.Helper()
	if !IsKind(err, kind) {
		t.Errorf("error %v, want kind %d", err, kind)
	}
}

func (b *bench) vault(t testing.TB, name string, change ...func(*PutVaultParams)) *Vault {
	t.Helper()
	p := PutVaultParams{Location: "local", RetentionDays: new(7)}
	for _, f := range change {
		f(&p)
	}
	v, created, err := b.PutVault(t.Context(), owner, "g", name, p)
	must(t, err)
	if !created {
		t.Fatalf("the vault %s was there", name)
	}
	return v
}

func (b *bench) scope(t testing.TB, below string) authz.Scope {
	t.Helper()
	s, err := authz.ParseScope("/subscriptions/" + b.SubscriptionID() + below)
	must(t, err)
	return s
}

const vaultPath = "/resourceGroups/g/providers/Microsoft.KeyVault/vaults/"

var assignmentNumber int
var numbering sync.Mutex

// guid returns a new id.
func guid() string {
	numbering.Lock()
	defer numbering.Unlock()
	assignmentNumber++
	return "a5516e00-0000-4000-8000-" + leftPad(assignmentNumber)
}

func leftPad(n int) string {
	digits := []byte("000000000000")
	for i := len(digits) - 1; n > 0; i-- {
		digits[i] = byte('0' + n%10)
		n /= 10
	}
	return string(digits)
}

func (b *bench) assign(t testing.TB, scope authz.Scope, role, principal string) *RoleAssignment {
	t.Helper()
	a, _, err := b.PutRoleAssignment(t.Context(), owner, scope, guid(), AssignmentParams{
		RoleDefinitionID: role, PrincipalID: principal, PrincipalType: authz.ServicePrincipal,
	})
	must(t, err)
	return a
}

// keys returns the keys of the store.
func (s *Service) keys(t testing.TB, prefix string) (out []string) {
	t.Helper()
	must(t, s.db.View(t.Context(), func(r store.Reader) error {
		out = nil
		for key, err := range seal.Keys(r, prefix, store.PrefixEnd(prefix)) {
			if err != nil {
				return err
			}
			out = append(out, key)
		}
		return nil
	}))
	return out
}

// consistent checks that the records of the store fit together.
func (b *bench) consistent(t testing.TB) {
	t.Helper()
	must(t, b.CheckReferences(t.Context(), func(key, problem string) { t.Errorf("%s %s", key, problem) }))
	must(t, b.db.Walk(t.Context(), func(key string, value []byte, err error) error {
		if err == nil {
			_, err = CheckRecord(key, value)
		}
		return err
	}))
}

type auditLine struct {
	Category, OperationName, ResultType, ResourceID string
	Properties                                      struct{ ID, Detail string }
}

// lines returns the records of the audit log about an operation.
func (b *bench) lines(t testing.TB, operation string) (out []auditLine) {
	t.Helper()
	raw, err := os.ReadFile(b.trail)
	must(t, err)
	for line := range bytes.Lines(raw) {
		var l auditLine
		must(t, json.Unmarshal(line, &l))
		if strings.EqualFold(l.OperationName, operation) {
			out = append(out, l)
		}
	}
	return out
}

// load puts records of a file into a new store.
func (b *bench) load(t testing.TB, path string) {
	t.Helper()
	raw, err := os.ReadFile(path)
	must(t, err)
	var records map[string]string
	must(t, json.Unmarshal(raw, &records))
	db, err := seal.Open(t.Context(), b.faulty, b.root)
	must(t, err)
	must(t, db.Update(t.Context(), func(tx store.Tx) error {
		for key, value := range records {
			if err := tx.Put(key, []byte(value)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// may tells whether the subject may read a secret of the vault.
func (s *Service) mayGet(ctx context.Context, vault, secret string, who Actor) (ok bool, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		v, err := s.Load(r, vault)
		if err != nil {
			return err
		}
		d, err := s.Decide(r, v, who.subject(), getSecret, "secrets", secret)
		ok = d.Allowed
		return err
	})
	return ok, err
}

var getSecret = authz.Permission{Object: "secrets", Verb: "get", DataAction: "Microsoft.KeyVault/vaults/secrets/getSecret/action"}
