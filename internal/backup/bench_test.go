package backup_test

import (
	"fmt"
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/backup/backuptest"
)

// BenchmarkGiB writes and reads a backup of a gibibyte, in records of 100 KiB. The peak of the heap counts what garbage
// lies there too, and the storage, which runs in the same process.
func BenchmarkGiB(b *testing.B) {
	const size, count = 100 << 10, 1 << 30 / (100 << 10)
	all := records(1, 1, size)
	for range b.N {
		f := backuptest.New(b)
		f.Dir = b.TempDir()
		c := open(b, f)
		peak := watchHeap()
		begun := time.Now()
		w, err := backup.Begin(b.Context(), c, domain("d1"), "pool", keepNothing)
		if err != nil {
			b.Fatal(err)
		}
		for i := range count {
			all[0].Name = fmt.Sprintf("key/%06d", i)
			if err := w.Add(b.Context(), all[0]); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := w.Finish(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(1024/time.Since(begun).Seconds(), "write-MiB/s")
		b.ReportMetric(float64(peak())/(1<<20), "write-heap-MiB")

		peak, begun = watchHeap(), time.Now()
		backed, err := backup.Open(b.Context(), c, w.Folder(), domain("d1"))
		if err != nil {
			b.Fatal(err)
		}
		read := 0
		for _, err := range backed.Records(b.Context(), "") {
			if err != nil {
				b.Fatal(err)
			}
			read++
		}
		if read != count {
			b.Fatalf("%d records", read)
		}
		b.ReportMetric(1024/time.Since(begun).Seconds(), "read-MiB/s")
		b.ReportMetric(float64(peak())/(1<<20), "read-heap-MiB")
	}
}

// watchHeap returns a function that ends the watch and returns the most bytes that were in the heap.
func watchHeap() func() uint64 {
	runtime.GC()
	done, result := make(chan struct{}), make(chan uint64)
	go func() {
		sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		peak := uint64(0)
		for tick := time.NewTicker(time.Millisecond); ; {
			select {
			case <-tick.C:
				metrics.Read(sample)
				peak = max(peak, sample[0].Value.Uint64())
			case <-done:
				tick.Stop()
				result <- peak
				return
			}
		}
	}()
	return func() uint64 {
		close(done)
		return <-result
	}
}
