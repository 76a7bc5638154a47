package audit

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// cpu is the processor time that this process has used.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure reports the processor time of each of b.N operations beside what the testing package reports.
func measure(b *testing.B, run func()) {
	b.ReportAllocs()
	before := cpu(b)
	b.ResetTimer()
	run()
	b.StopTimer()
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
}

// parallel runs fn on 32 goroutines, whatever the number of processors.
func parallel(b *testing.B, fn func() error) {
	work := make(chan int, 32)
	for i := range 32 {
		work <- b.N/32 + min(1, max(0, b.N%32-i))
	}
	done := make(chan error)
	for range 32 {
		go func() {
			for range <-work {
				if err := fn(); err != nil {
					done <- err
					return
				}
			}
			done <- nil
		}()
	}
	for range 32 {
		if err := <-done; err != nil {
			b.Error(err)
		}
	}
}

// BenchmarkWrite measures the log beside a bare write(2) of the same bytes.
func BenchmarkWrite(b *testing.B) {
	r := sample()
	var prev sum
	bytes := append(appendChain(appendRecord(nil, &r, r.Time), 1e6, &prev), '\n')
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	for _, mode := range []struct {
		name  string
		every time.Duration
	}{{"killsafe", time.Minute}, {"durable", 0}} {
		logged := func(b *testing.B) func() error {
			l, err := Open(Config{Path: filepath.Join(b.TempDir(), "audit.log"), SyncEvery: mode.every})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { l.Close() })
			return func() error { return l.Write(ctx, &r) }
		}
		bare := func(b *testing.B) func() error {
			f, err := os.OpenFile(filepath.Join(b.TempDir(), "bare"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(func() { f.Close() })
			return func() error {
				if _, err := f.Write(bytes); err != nil || mode.every > 0 {
					return err
				}
				return dataSync(f)
			}
		}
		for _, subject := range []struct {
			name string
			make func(*testing.B) func() error
		}{{"log", logged}, {"bare", bare}} {
			b.Run(mode.name+"/lone/"+subject.name, func(b *testing.B) {
				fn := subject.make(b)
				measure(b, func() {
					for range b.N {
						if err := fn(); err != nil {
							b.Fatal(err)
						}
					}
				})
			})
			b.Run(mode.name+"/32/"+subject.name, func(b *testing.B) {
				fn := subject.make(b)
				measure(b, func() { parallel(b, fn) })
			})
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	r := sample()
	buf := appendRecord(nil, &r, r.Time)
	b.SetBytes(int64(len(buf)))
	b.ReportAllocs()
	for range b.N {
		buf = appendRecord(buf[:0], &r, r.Time)
	}
}

func BenchmarkChain(b *testing.B) {
	r := sample()
	body := appendRecord(nil, &r, r.Time)
	b.SetBytes(int64(len(body)))
	var c chunk
	var p position
	for range b.N {
		c.buf, c.ends, c.sums = c.buf[:0], c.ends[:0], c.sums[:0]
		p = c.add(body, p)
	}
}

func BenchmarkVerify(b *testing.B) {
	r := sample()
	var c chunk
	var p position
	for range 1000 {
		p = c.add(appendRecord(nil, &r, r.Time), p)
	}
	b.SetBytes(int64(len(c.buf)))
	for range b.N {
		if _, err := Verify(Options{Anchor: ptr(p.head())}, bytes.NewReader(c.buf)); err != nil {
			b.Fatal(err)
		}
	}
}
