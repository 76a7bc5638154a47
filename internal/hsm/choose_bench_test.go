//go:build unix

package hsm

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkRSA measures the engines of this build. The time of the processor does not depend on what else is running.
func BenchmarkRSA(b *testing.B) {
	digest := sha256.Sum256(nil)
	for _, e := range engines() {
		for _, p := range measuringPrimes {
			key := p.key()
			k, err := e.open(key)
			if err != nil {
				b.Fatal(err)
			}
			ciphertext, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, &key.PublicKey, digest[:], nil)
			if err != nil {
				b.Fatal(err)
			}
			engine := strings.ReplaceAll(e.name(), " ", "-")
			run := func(op string, f func() ([]byte, error)) {
				b.Run(fmt.Sprintf("%s/%d/%s", op, p.bits, engine), func(b *testing.B) { benchmarkCPU(b, f) })
			}
			run("PKCS1v15", func() ([]byte, error) { return k.signPKCS1v15(crypto.SHA256, digest[:]) })
			run("PSS", func() ([]byte, error) { return k.signPSS(crypto.SHA256, digest[:]) })
			run("OAEP", func() ([]byte, error) { return k.decryptOAEP(crypto.SHA1, ciphertext) })
			run("open", func() ([]byte, error) { _, err := e.open(key); return nil, err })
		}
	}
}

func benchmarkCPU(b *testing.B, f func() ([]byte, error)) {
	before := cpuTime(b)
	for b.Loop() {
		if _, err := f(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what the process has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
