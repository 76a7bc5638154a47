package identity

import (
	"crypto/sha256"
	"sync"
	"time"
)

const (
	cacheShards      = 64
	defaultCacheSize = 16384
	evictionLook     = 8 // entries looked at to find one worth evicting
)

// A tokenCache remembers verified tokens by their SHA-256, never by their text. It is sharded by the first byte of the
// hash, which a caller cannot steer into one shard without as much work as it takes to be refused by it.
type tokenCache struct {
	shards   [cacheShards]cacheShard
	perShard int
}

type cacheShard struct {
	mu      sync.RWMutex // guards entries; held for a map access
	entries map[[sha256.Size]byte]cacheEntry
}

type cacheEntry struct {
	caller     *Caller
	generation uint64    // the revocation count under which the token was verified
	until      time.Time // when it must be verified again
}

func newTokenCache(size int) *tokenCache {
	if size <= 0 {
		size = defaultCacheSize
	}
	c := &tokenCache{perShard: max(size/cacheShards, 1)}
	for i := range c.shards {
		c.shards[i].entries = make(map[[sha256.Size]byte]cacheEntry)
	}
	return c
}

func (c *tokenCache) shard(sum *[sha256.Size]byte) *cacheShard { return &c.shards[sum[0]%cacheShards] }

func (c *tokenCache) get(sum *[sha256.Size]byte, generation uint64, now time.Time) *Caller {
	s := c.shard(sum)
	s.mu.RLock()
	e, found := s.entries[*sum]
	s.mu.RUnlock()
	if !found || e.generation != generation || !now.Before(e.until) {
		return nil
	}
	return e.caller
}

func (c *tokenCache) put(sum *[sha256.Size]byte, e cacheEntry, now time.Time) {
	s := c.shard(sum)
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, found := s.entries[*sum]; !found && len(s.entries) >= c.perShard {
		s.evict(now)
	}
	s.entries[*sum] = e
}

// evict removes the expired among a few entries in the map's random order, and at least one.
func (s *cacheShard) evict(now time.Time) {
	var victim [sha256.Size]byte
	looked, removed := 0, false
	for sum, e := range s.entries {
		if !now.Before(e.until) {
			delete(s.entries, sum)
			removed = true
		}
		victim = sum
		if looked++; looked == evictionLook {
			break
		}
	}
	if !removed {
		delete(s.entries, victim)
	}
}
