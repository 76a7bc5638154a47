package seal

import (
	"bytes"
	"fmt"
	"strings"
	"sync"

	"github.com/strongroom/strongroom/internal/store"
)

// A Cache remembers decoded records, so that the hot path neither decrypts nor parses a record again that has not
// changed. It needs no invalidation: an entry is used only if the sealed bytes that it was made from are the very bytes
// that the caller's snapshot holds. Sealing is randomised, so every write changes them, also a write by another server.
//
// What is cached is plaintext in memory. Use it for records without secrets, or with keys that are in use.
type Cache[T any] struct {
	max int

	mu      sync.RWMutex // guards what follows
	entries map[string]cached[T]
	size    int // bytes of keys and sealed values in entries
}

type cached[T any] struct {
	sealed []byte
	value  *T
}

func (c cached[T]) cost(key string) int { return len(key) + len(c.sealed) }

// NewCache returns a cache of records whose sealed form takes max bytes together. A record that would take more than
// a sixteenth of it is not remembered.
func NewCache[T any](max int) *Cache[T] {
	return &Cache[T]{max: max, entries: make(map[string]cached[T])}
}

// Load returns the record at key, decoded. r must come from a DB's View or Update. The value is shared: nobody may
// modify it. A missing record is store.ErrNotFound.
func (c *Cache[T]) Load(r store.Reader, key string, decode func(plaintext []byte) (*T, error)) (*T, error) {
	opener, ok := r.(interface {
		peek(key string) ([]byte, error)
		open(key string, sealed []byte) ([]byte, error)
	})
	if !ok {
		return nil, fmt.Errorf("seal: Cache.Load needs a reader of a seal.DB, not %T", r)
	}
	sealed, err := opener.peek(key)
	if err != nil {
		return nil, err
	}
	c.mu.RLock()
	known, ok := c.entries[key]
	c.mu.RUnlock()
	if ok && bytes.Equal(known.sealed, sealed) {
		return known.value, nil
	}
	plaintext, err := opener.open(key, sealed)
	if err != nil {
		return nil, err
	}
	value, err := decode(plaintext)
	if err != nil {
		return nil, &RecordError{key, err.Error()}
	}
	c.put(key, cached[T]{bytes.Clone(sealed), value})
	return value, nil
}

func (c *Cache[T]) put(key string, entry cached[T]) {
	cost := entry.cost(key)
	if cost > c.max/16 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if old, ok := c.entries[key]; ok {
		c.size -= old.cost(key)
		delete(c.entries, key)
	}
	for other, old := range c.entries { // at random: cheap, and no pattern of requests makes it the worst choice
		if c.size+cost <= c.max {
			break
		}
		c.size -= old.cost(other)
		delete(c.entries, other)
	}
	c.entries[key] = entry
	c.size += cost
}

// Forget drops what is remembered of the records whose keys begin with prefix.
func (c *Cache[T]) Forget(prefix string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, old := range c.entries {
		if strings.HasPrefix(key, prefix) {
			c.size -= old.cost(key)
			delete(c.entries, key)
		}
	}
}
