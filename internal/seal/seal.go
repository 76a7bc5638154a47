// Package seal encrypts everything at rest.
//
// A DB wraps a store.DB and is one itself: what is put through it is sealed, what is read through it is opened, so the
// packages above cannot write plaintext by mistake. Keys of the store stay clear, because listing needs their order.
//
// A sealed value is
//
//	format version (1) ‖ data-key id (8) ‖ nonce (12) ‖ AES-256-GCM ciphertext and tag (16)
//
// under a key derived for the record with HKDF-SHA-256 (RFC 5869) from the data key and the record's storage key. The
// associated data is the format version, the data-key id and the storage key, so a value that was moved to another
// storage key, or altered anywhere, does not open. Because each record has its own key, the bound on random nonces
// (NIST SP 800-38D, 8.3) counts the versions of one record and not the writes of the installation.
//
// Data keys lie in the store, wrapped by the root key, which never does. Rotate makes a new data key; Reseal moves the
// records to it and then forgets the older ones. ChangeRoot wraps the data keys anew. All of this happens while
// serving, with any number of servers on one store: every Update reads the key ring in its own transaction, so no write
// can commit under a data key that is no longer the primary one.
package seal

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/strongroom/strongroom/internal/store"
)

const (
	prefix     = "seal/" // the part of the store that belongs to this package and is not sealed
	ringKey    = prefix + "keyring"
	ringFormat = 1

	formatV1   = 1
	idSize     = 8
	headerSize = 1 + idSize
	dataKeyLen = 32

	// Overhead is how many bytes a sealed value is longer than the plaintext.
	Overhead = headerSize + 12 + 16
)

var (
	// ErrNotInitialized is returned by Open for a store that holds no key ring.
	ErrNotInitialized = errors.New("seal: the store is not initialized")

	// ErrRootKey is wrapped by the error for a root key that does not open the key ring.
	ErrRootKey = errors.New("seal: the root key does not fit this store")
)

// A RecordError says which record did not open, and why.
type RecordError struct {
	Key    string // storage key; holds no secret
	Reason string
}

func (e *RecordError) Error() string { return fmt.Sprintf("seal: record %q: %s", e.Key, e.Reason) }

// A DB is a store.DB that seals. Storage keys below "seal/" are refused.
type DB struct {
	store store.DB
	now   func() time.Time

	mu    sync.Mutex // guards roots; never held during a transaction
	roots []RootKey  // the present root key; while ChangeRoot runs also the one to come

	ring atomic.Pointer[ring] // the newest that this process has seen
}

var _ store.DB = (*DB)(nil)

// ring is the key ring in memory, immutable once published.
type ring struct {
	raw     []byte // as stored; equal bytes mean the same ring
	primary [idSize]byte
	keys    map[[idSize]byte]*dataKey
}

type dataKey struct {
	id     [idSize]byte
	secret []byte

	mu    sync.RWMutex           // guards aeads
	aeads map[string]cipher.AEAD // of records that were opened lately, by storage key
}

// maxAEADs bounds the ciphers that a data key remembers: deriving one costs as much as opening a small record. Each takes
// about a kilobyte.
const maxAEADs = 4096

// ringRecord is the key ring as stored, in JSON. It is not sealed itself: each data key in it is wrapped, bound to its id.
type ringRecord struct {
	Format  int          `json:"v"`
	Root    string       `json:"root"` // RootKey.ID, to say what is wrong before trying
	Primary string       `json:"primary"`
	Keys    []ringMember `json:"keys"`
}

type ringMember struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
	Wrapped []byte    `json:"wrapped"`
}

// Init makes the key ring of a new store and wraps its first data key with root. It fails if the store has one already.
func Init(ctx context.Context, db store.DB, root RootKey) error {
	member, _, err := newDataKey(root, time.Now())
	if err != nil {
		return err
	}
	raw, err := json.Marshal(ringRecord{Format: ringFormat, Root: root.ID(), Primary: member.ID, Keys: []ringMember{member}})
	if err != nil {
		return err
	}
	return db.Update(ctx, func(tx store.Tx) error {
		for e, err := range tx.Scan("", "") {
			if err != nil {
				return err
			}
			return fmt.Errorf("seal: the store is in use already (it holds %q)", e.Key)
		}
		return tx.Put(ringKey, raw)
	})
}

// Open opens the key ring with root. The error wraps ErrNotInitialized for a store without one and ErrRootKey for the
// wrong root key. Closing the DB closes db.
func Open(ctx context.Context, db store.DB, root RootKey) (*DB, error) {
	d := &DB{store: db, now: time.Now, roots: []RootKey{root}}
	err := db.View(ctx, func(r store.Reader) error {
		_, err := d.currentRing(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// View is store.DB's View over opened records.
func (d *DB) View(ctx context.Context, fn func(store.Reader) error) error {
	return d.store.View(ctx, func(r store.Reader) error {
		return fn(&reader{db: d, r: r, ring: d.ring.Load()})
	})
}

// Update is store.DB's Update over opened and sealed records. One of the transaction's reads is the key ring's.
func (d *DB) Update(ctx context.Context, fn func(store.Tx) error) error {
	return d.store.Update(ctx, func(tx store.Tx) error {
		ring, err := d.currentRing(tx)
		if err != nil {
			return err
		}
		return fn(&txn{reader: reader{db: d, r: tx, ring: ring}, tx: tx})
	})
}

// Close closes the store.
func (d *DB) Close() error { return d.store.Close() }

// currentRing returns the key ring that r's snapshot holds, from memory when that is the same.
func (d *DB) currentRing(r store.Reader) (*ring, error) {
	raw, err := r.Get(ringKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil, ErrNotInitialized
	}
	if err != nil {
		return nil, err
	}
	if known := d.ring.Load(); known != nil && bytes.Equal(known.raw, raw) {
		return known, nil
	}
	var failed error
	for _, root := range d.rootKeys() {
		ring, err := openRing(raw, root)
		if err == nil {
			d.ring.Store(ring)
			return ring, nil
		}
		failed = err
	}
	return nil, failed
}

func (d *DB) rootKeys() []RootKey {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.roots)
}

func openRing(raw []byte, root RootKey) (*ring, error) {
	rec, err := decodeRing(raw)
	if err != nil {
		return nil, err
	}
	out := &ring{raw: bytes.Clone(raw), keys: make(map[[idSize]byte]*dataKey, len(rec.Keys))}
	if out.primary, err = parseID(rec.Primary); err != nil {
		return nil, err
	}
	for _, m := range rec.Keys {
		id, err := parseID(m.ID)
		if err != nil {
			return nil, err
		}
		secret, err := root.Unwrap(m.Wrapped, wrapContext(m.ID))
		if err != nil {
			if rec.Root == passphraseID && root.ID() == passphraseID {
				return nil, fmt.Errorf("%w: the passphrase is not the one that it was last put under", ErrRootKey)
			}
			return nil, fmt.Errorf("%w: data key %s was wrapped by root key %s, and the one given is %s: %w",
				ErrRootKey, m.ID, rec.Root, root.ID(), err)
		}
		if len(secret) != dataKeyLen {
			return nil, fmt.Errorf("seal: data key %s has %d bytes", m.ID, len(secret))
		}
		out.keys[id] = &dataKey{id: id, secret: secret}
	}
	if out.keys[out.primary] == nil {
		return nil, errors.New("seal: the key ring lacks its primary data key")
	}
	return out, nil
}

func decodeRing(raw []byte) (ringRecord, error) {
	var rec ringRecord
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rec); err != nil {
		return rec, fmt.Errorf("seal: key ring: %w", err)
	}
	if rec.Format != ringFormat {
		return rec, fmt.Errorf("seal: key ring has format %d, this release knows %d: use a newer release", rec.Format, ringFormat)
	}
	return rec, nil
}

func newDataKey(root RootKey, now time.Time) (ringMember, *dataKey, error) {
	key := &dataKey{secret: make([]byte, dataKeyLen)}
	rand.Read(key.secret)
	rand.Read(key.id[:])
	id := hex.EncodeToString(key.id[:])
	wrapped, err := root.Wrap(key.secret, wrapContext(id))
	if err != nil {
		return ringMember{}, nil, fmt.Errorf("seal: wrap a data key: %w", err)
	}
	return ringMember{ID: id, Created: now.UTC().Truncate(time.Second), Wrapped: wrapped}, key, nil
}

func wrapContext(id string) []byte { return []byte("strongroom data key v1\x00" + id) }

func parseID(s string) (id [idSize]byte, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || len(b) != idSize {
		return id, fmt.Errorf("seal: key ring: bad data-key id %.32q", s)
	}
	return [idSize]byte(b), nil
}

// known returns the cipher for the record at key, and remembers it. It has no state, as nonces are random, so it can be
// shared.
func (k *dataKey) known(key string) (cipher.AEAD, error) {
	k.mu.RLock()
	known := k.aeads[key]
	k.mu.RUnlock()
	if known != nil {
		return known, nil
	}
	derived, err := k.derive(key)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.aeads == nil {
		k.aeads = make(map[string]cipher.AEAD)
	}
	if len(k.aeads) >= maxAEADs {
		for other := range k.aeads { // a random one
			delete(k.aeads, other)
			break
		}
	}
	k.aeads[key] = derived
	return derived, nil
}

// derive makes the cipher for the record at key.
func (k *dataKey) derive(key string) (cipher.AEAD, error) {
	derived, err := hkdf.Expand(sha256.New, k.secret, "strongroom record v1\x00"+key, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(derived)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

func associatedData(header []byte, key string) []byte {
	return append(append(make([]byte, 0, headerSize+len(key)), header...), key...)
}

func (k *dataKey) seal(key string, plaintext []byte) ([]byte, error) {
	aead, err := k.derive(key)
	if err != nil {
		return nil, err
	}
	out := make([]byte, headerSize, len(plaintext)+Overhead)
	out[0] = formatV1
	copy(out[1:], k.id[:])
	return aead.Seal(out, nil, plaintext, associatedData(out[:headerSize], key)), nil
}

// header splits a sealed value's data-key id off.
func header(key string, sealed []byte) (id [idSize]byte, err error) {
	if len(sealed) < Overhead {
		return id, &RecordError{key, fmt.Sprintf("is too short (%d bytes)", len(sealed))}
	}
	if sealed[0] != formatV1 {
		return id, &RecordError{key, fmt.Sprintf("has the unknown format version %d", sealed[0])}
	}
	return [idSize]byte(sealed[1:headerSize]), nil
}

// open opens a sealed value with what cipher, known or derive, gives for its key.
func (k *dataKey) open(key string, sealed []byte, cipher func(key string) (cipher.AEAD, error)) ([]byte, error) {
	aead, err := cipher(key)
	if err != nil {
		return nil, err
	}
	plaintext, err := aead.Open(nil, nil, sealed[headerSize:], associatedData(sealed[:headerSize], key))
	if err != nil {
		return nil, &RecordError{key, "is not authentic: it was altered, moved or sealed by another installation"}
	}
	return plaintext, nil
}

// reader opens what it reads. Its ring is at least as new as the process knew when the transaction began.
type reader struct {
	db   *DB
	r    store.Reader
	ring *ring
}

func (r *reader) Get(key string) ([]byte, error) {
	sealed, err := r.peek(key)
	if err != nil {
		return nil, err
	}
	k, err := r.dataKey(key, sealed)
	if err != nil {
		return nil, err
	}
	return k.open(key, sealed, k.known) // what is got again is not cached above, or it would not be got
}

// peek returns the sealed value, which is valid only until the transaction ends and may not be modified.
func (r *reader) peek(key string) ([]byte, error) {
	if strings.HasPrefix(key, prefix) {
		return nil, fmt.Errorf("%w: %q belongs to the seal", store.ErrKey, key)
	}
	if p, ok := r.r.(store.Peeker); ok {
		return p.Peek(key)
	}
	return r.r.Get(key)
}

// open opens a record that is read once: in a walk, or for a cache.
func (r *reader) open(key string, sealed []byte) ([]byte, error) {
	k, err := r.dataKey(key, sealed)
	if err != nil {
		return nil, err
	}
	return k.open(key, sealed, k.derive)
}

// dataKey returns the data key that sealed names.
func (r *reader) dataKey(key string, sealed []byte) (*dataKey, error) {
	id, err := header(key, sealed)
	if err != nil {
		return nil, err
	}
	k := r.ring.keys[id]
	if k == nil {
		// Another server may have rotated since; its ring is in this snapshot.
		if r.ring, err = r.db.currentRing(r.r); err != nil {
			return nil, err
		}
		if k = r.ring.keys[id]; k == nil {
			return nil, &RecordError{key, fmt.Sprintf("names the unknown data key %x", id)}
		}
	}
	return k, nil
}

func (r *reader) Scan(start, end string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for e, err := range r.r.Scan(start, end) {
			if err == nil && strings.HasPrefix(e.Key, prefix) {
				continue
			}
			if err == nil {
				e.Value, err = r.open(e.Key, e.Value)
			}
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// Keys is Scan without the values, which are not opened: for records that will be deleted, whether they are good or not. r
// must come from a DB's View or Update.
func Keys(r store.Reader, start, end string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		sealed, ok := r.(interface{ below() store.Reader })
		if !ok {
			yield("", fmt.Errorf("seal: Keys needs a reader of a seal.DB, not %T", r))
			return
		}
		for e, err := range sealed.below().Scan(start, end) {
			if err == nil && strings.HasPrefix(e.Key, prefix) {
				continue
			}
			if !yield(e.Key, err) || err != nil {
				return
			}
		}
	}
}

func (r *reader) below() store.Reader { return r.r }

type txn struct {
	reader
	tx store.Tx
}

func (t *txn) Put(key string, value []byte) error {
	if strings.HasPrefix(key, prefix) {
		return fmt.Errorf("%w: %q belongs to the seal", store.ErrKey, key)
	}
	sealed, err := t.ring.keys[t.ring.primary].seal(key, value)
	if err != nil {
		return err
	}
	return t.tx.Put(key, sealed)
}

func (t *txn) Delete(key string) error {
	if strings.HasPrefix(key, prefix) {
		return fmt.Errorf("%w: %q belongs to the seal", store.ErrKey, key)
	}
	return t.tx.Delete(key)
}
