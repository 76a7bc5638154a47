package keyvault

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/strongroom/strongroom/internal/identity"
)

// benchSecrets is how many secrets the benchmarks' vault has: more than a page, all of them in the cache of objects.
const benchSecrets = 100

func newFilledBench(b *testing.B) *bench {
	s := newBench(b)
	for i := range benchSecrets {
		s.set(b, "vault", fmt.Sprintf("s%d", i), "a value of some length, as a password or a token has")
	}
	b.ReportAllocs()
	b.ResetTimer()
	return s
}

func BenchmarkGetSecret(b *testing.B) {
	s := newFilledBench(b)
	for i := 0; b.Loop(); i++ {
		if _, err := s.GetSecret(b.Context(), admin, "vault", fmt.Sprintf("s%d", i%benchSecrets), ""); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkListSecrets(b *testing.B) {
	s := newFilledBench(b)
	for b.Loop() {
		page, err := s.ListSecrets(b.Context(), admin, "vault", "", MaxPage)
		if err != nil || len(page.Items) != MaxPage {
			b.Fatalf("%d items, %v", len(page.Items), err)
		}
	}
}

// BenchmarkSetSecret has one writer.
func BenchmarkSetSecret(b *testing.B) {
	s := newFilledBench(b)
	for i := 0; b.Loop(); i++ {
		s.set(b, "vault", fmt.Sprintf("s%d", i%benchSecrets), "v")
	}
}

// BenchmarkSetSecretParallel has 32 writers or a few less, who share fdatasyncs.
func BenchmarkSetSecretParallel(b *testing.B) {
	s := newFilledBench(b)
	b.SetParallelism(max(1, 32/runtime.GOMAXPROCS(0)))
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			name := fmt.Sprintf("s%d", n.Add(1)%benchSecrets)
			p := SetSecretParams{Value: NewSecretValue("v")}
			if _, err := s.SetSecret(b.Context(), admin, "vault", name, p); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkRefused is what somebody without rights costs.
func BenchmarkRefused(b *testing.B) {
	s := newFilledBench(b)
	other := &identity.Caller{TenantID: "t", ObjectID: "other", AppID: "app", Issuer: "iss"}
	for b.Loop() {
		if _, err := s.GetSecret(b.Context(), other, "vault", "s0", ""); err == nil {
			b.Fatal("it was not refused")
		}
	}
}
