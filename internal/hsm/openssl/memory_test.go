//go:build openssl && cgo

package openssl_test

import (
	"crypto"
	"crypto/rsa"
	"fmt"
	"os"
	"runtime"
	"testing"

	"github.com/strongroom/strongroom/internal/hsm/openssl/blocks"
)

func TestMain(m *testing.M) {
	if err := blocks.Count(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// TestMemory opens and uses keys and looks whether OpenSSL holds more than before. Each key is dozens of blocks, and each use
// at least one. The keys are small, so that it is quick. It runs by itself.
func TestMemory(t *testing.T) {
	key := makeKey(below(1, 256, 189), below(3, 254, 43), 65537)
	useSome := func() {
		k := open(t, key)
		if _, err := k.SignPKCS1v15(crypto.SHA256, make([]byte, 32)); err != nil {
			t.Fatal(err)
		}
		if _, err := k.SignPSS(crypto.SHA512, make([]byte, 64)); err == nil {
			t.Fatal("signed, though the modulus is too short")
		}
		if _, err := k.DecryptOAEP(crypto.SHA1, make([]byte, 64)); err != rsa.ErrDecryption {
			t.Fatal(err)
		}
	}
	useSome() // and what is held from then on
	before := blocks.Held()
	const uses = 1000
	for range uses {
		useSome()
	}
	// Some is held for each thread, and goroutines change threads.
	for tries := 0; blocks.Held() > before+uses/2; tries++ {
		if tries == 1000 {
			t.Fatalf("%d keys opened, used and dropped: OpenSSL holds %d more blocks", uses, blocks.Held()-before)
		}
		runtime.GC() // and frees what was dropped, some time soon
	}
}
