package identity

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/internal/store"
)

// Keys of the store that belong to this package. Every value is a JSON object with a format version "v".
const (
	keyTenant     = "identity/tenant"     // tenantRecord
	keySecretKey  = "identity/secretkey"  // secretKeyRecord: the HMAC key of all secret hashes
	keyGeneration = "identity/generation" // generationRecord: moves whenever something is revoked
	prefixApp     = "identity/app/"       // + client id → appRecord
	prefixObject  = "identity/oid/"       // + object id → indexRecord
	prefixGone    = "identity/gone/"      // + object id of a deleted application → goneRecord
	prefixHash    = "identity/secrethash/"
	prefixSigning = "identity/signing/" // + kid → signingRecord
)

const recordVersion = 1

type tenantRecord struct {
	V        int       `json:"v"`
	TenantID string    `json:"tenantId"`
	Created  time.Time `json:"created"`
}

type secretKeyRecord struct {
	V   int    `json:"v"`
	Key []byte `json:"key"`
}

type generationRecord struct {
	V int    `json:"v"`
	N uint64 `json:"n"`
}

// An indexRecord leads from an object id or from the hash of a managed identity's header to its application.
type indexRecord struct {
	V        int    `json:"v"`
	ClientID string `json:"clientId"`
}

// A goneRecord stays when an application is deleted, because its object id may stay in the administrator lists of vaults:
// nobody outside may ever claim that id.
type goneRecord struct {
	V        int       `json:"v"`
	ClientID string    `json:"clientId"`
	Deleted  time.Time `json:"deleted"`
}

// readRecord decodes the value of key into into and reports whether there is one. A member that this version does not
// know is an error: acting on half of a record could drop a restriction that a newer version wrote.
func readRecord(r store.Reader, key string, into any) (bool, error) {
	raw, err := r.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("identity: read %s: %w", key, err)
	}
	return true, decodeRecord(key, raw, into)
}

func decodeRecord(key string, raw []byte, into any) error {
	var head struct {
		V int `json:"v"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return fmt.Errorf("identity: record %s is damaged", key)
	}
	if head.V != recordVersion {
		return fmt.Errorf("identity: record %s has format version %d, which this release does not know", key, head.V)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	// The decoder's error may quote the record, which may hold a key; so it is not wrapped.
	if d.Decode(into) != nil {
		return fmt.Errorf("identity: record %s is damaged", key)
	}
	if _, err := d.Token(); err != io.EOF {
		return fmt.Errorf("identity: record %s is damaged", key)
	}
	return nil
}

func writeRecord(tx store.Tx, key string, record any) error {
	raw, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("identity: encode %s: %w", key, err)
	}
	if err := tx.Put(key, raw); err != nil {
		return fmt.Errorf("identity: write %s: %w", key, err)
	}
	return nil
}

// generationMaxAge is how long a server may go on believing remembered tokens before it asks the store whether another
// server has revoked something. On the server that revokes, the effect is immediate.
const generationMaxAge = time.Second

// A generation follows the revocation counter in the store. Tokens remembered under an older count are checked anew.
type generation struct {
	db  store.DB
	now func() time.Time

	current atomic.Uint64
	checked atomic.Int64 // unix nanoseconds of the last successful read; 0 if none

	mu sync.Mutex // held by the one goroutine that reads the store
}

// value returns the count, at most generationMaxAge old as a rule: one goroutine a second reads the store while others
// go on with the count they have, for as long again; after that everybody waits for the store, and a failure refuses.
func (g *generation) value(ctx context.Context) (uint64, error) {
	age := g.age()
	if age < generationMaxAge {
		return g.current.Load(), nil
	}
	if !g.mu.TryLock() {
		if age < 2*generationMaxAge {
			return g.current.Load(), nil
		}
		g.mu.Lock()
	}
	defer g.mu.Unlock()
	if g.age() < generationMaxAge {
		return g.current.Load(), nil
	}
	return g.read(ctx)
}

// age is how old the count is. A clock that was set back counts as infinitely old.
func (g *generation) age() time.Duration {
	checked := g.checked.Load()
	age := g.now().UnixNano() - checked
	if checked == 0 || age < 0 {
		return 1 << 62
	}
	return time.Duration(age)
}

func (g *generation) read(ctx context.Context) (uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	started := g.now()
	var record generationRecord
	err := g.db.View(ctx, func(r store.Reader) error {
		record = generationRecord{}
		_, err := readRecord(r, keyGeneration, &record)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("identity: read the revocation count: %w", err)
	}
	g.raise(record.N)
	g.checked.Store(started.UnixNano())
	return g.current.Load(), nil
}

// raise lets the count only grow: a slow reader must not undo what a revocation on this server has just set.
func (g *generation) raise(n uint64) {
	for {
		old := g.current.Load()
		if n <= old || g.current.CompareAndSwap(old, n) {
			return
		}
	}
}

// bump counts a revocation inside the transaction that makes it. After the commit the caller passes the result to raise.
func bump(tx store.Tx) (uint64, error) {
	var record generationRecord
	if _, err := readRecord(tx, keyGeneration, &record); err != nil {
		return 0, err
	}
	record.V, record.N = recordVersion, record.N+1
	return record.N, writeRecord(tx, keyGeneration, record)
}
