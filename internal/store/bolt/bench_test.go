package bolt

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/strongroom/strongroom/internal/store"
)

// recordSize is about what a sealed secret takes.
const recordSize = 300

func benchKey(n uint64) string {
	return fmt.Sprintf("vault/0123456789abcdef/secret/%012d", n)
}

// BenchmarkUpdate measures durable writes beside what the disk gives: a file that is synced after each write, one write at
// a time. updates/commit shows how many writes share a commit, of two syncs.
func BenchmarkUpdate(b *testing.B) {
	b.Run("baseline-fdatasync", func(b *testing.B) {
		f, err := os.OpenFile(filepath.Join(b.TempDir(), "log"), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		if err := reserve(f, 0, 64<<20); err != nil {
			b.Fatal(err)
		}
		if err := f.Sync(); err != nil {
			b.Fatal(err)
		}
		page := make([]byte, pageSize)
		for n := range int64(b.N) {
			if _, err := f.WriteAt(page, n*pageSize%(64<<20)); err != nil {
				b.Fatal(err)
			}
			if err := datasync(f); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
	})
	for _, writers := range []int{1, 2, 8, 32, 128} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) { benchUpdate(b, writers) })
	}
}

func benchUpdate(b *testing.B, writers int) {
	db := mustOpen(b, filepath.Join(b.TempDir(), "db"))
	defer db.Close()
	var next atomic.Int64
	b.ReportAllocs()
	b.ResetTimer()
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			value := make([]byte, recordSize)
			for n := next.Add(1); n <= int64(b.N); n = next.Add(1) {
				err := db.Update(b.Context(), func(tx store.Tx) error {
					key := benchKey(uint64(n) * 0x9e3779b9 % 100_000) // all over the tree
					if _, err := tx.Get(key); err != nil && err != store.ErrNotFound {
						return err
					}
					return tx.Put(key, value)
				})
				if err != nil {
					b.Errorf("Update: %v", err)
				}
			}
		})
	}
	wg.Wait()
	s := db.Stats()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "writes/s")
	b.ReportMetric(float64(s.Updates)/float64(s.Commits), "updates/commit")
}

// millionKeys makes a store with a million records in dir, not durably, and returns its path.
func millionKeys(b *testing.B, dir string) string {
	path := filepath.Join(dir, "million")
	mustClose(b, mustOpen(b, path))
	raw, err := bbolt.Open(path, fileMode, &bbolt.Options{NoSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		b.Fatal(err)
	}
	for n := uint64(0); n < 1_000_000; {
		err := raw.Update(func(tx *bbolt.Tx) error {
			data := tx.Bucket(dataBucket)
			data.FillPercent = 0.9
			for range 50_000 {
				value := binary.BigEndian.AppendUint64(make([]byte, recordSize-8), n)
				if err := data.Put([]byte(benchKey(n)), value); err != nil {
					return err
				}
				n++
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	if err := raw.Sync(); err != nil {
		b.Fatal(err)
	}
	if err := raw.Close(); err != nil {
		b.Fatal(err)
	}
	return path
}

// BenchmarkMillion measures opening a store with a million keys, and reading from it: one record, the first page of a list.
func BenchmarkMillion(b *testing.B) {
	path := millionKeys(b, b.TempDir())
	b.Run("open", func(b *testing.B) {
		for b.Loop() {
			mustClose(b, mustOpen(b, path))
		}
	})
	b.Run("get", func(b *testing.B) { benchGet(b, path, 1_000_000) })
	b.Run("page", func(b *testing.B) {
		db := mustOpen(b, path)
		defer db.Close()
		for b.Loop() {
			n := 0
			err := db.View(b.Context(), func(r store.Reader) error {
				for _, err := range r.Scan("vault/", "vault0") {
					if err != nil {
						return err
					}
					if n++; n == 25 {
						break
					}
				}
				return nil
			})
			if err != nil || n != 25 {
				b.Fatal(n, err)
			}
		}
	})
}

// BenchmarkGet measures a View with one Get in a store of a thousand records, alone and on all processors.
func BenchmarkGet(b *testing.B) {
	path := filepath.Join(b.TempDir(), "db")
	db := mustOpen(b, path)
	for n := range uint64(1000) {
		if n%100 != 0 {
			continue
		}
		err := db.Update(b.Context(), func(tx store.Tx) error {
			for i := range uint64(100) {
				if err := tx.Put(benchKey(n+i), make([]byte, recordSize)); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	mustClose(b, db)
	benchGet(b, path, 1000)
}

func benchGet(b *testing.B, path string, keys uint64) {
	db := mustOpen(b, path)
	defer db.Close()
	get := func(n uint64) {
		key := benchKey(n * 0x9e3779b9 % keys)
		err := db.View(b.Context(), func(r store.Reader) error {
			_, err := r.Get(key)
			return err
		})
		if err != nil {
			b.Error(err)
		}
	}
	b.Run("alone", func(b *testing.B) {
		b.ReportAllocs()
		for n := uint64(0); b.Loop(); n++ {
			get(n)
		}
	})
	b.Run("parallel", func(b *testing.B) {
		var next atomic.Uint64
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				get(next.Add(1))
			}
		})
	})
}
