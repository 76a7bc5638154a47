//go:build openssl

package hsm

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"os"
	"os/exec"
	"strings"
	"testing"
)

func TestEngines(t *testing.T) {
	t.Parallel()
	var names []string
	for _, e := range engines() {
		names = append(names, strings.Fields(e.name())[0])
	}
	if got := strings.Join(names, " "); got != "go openssl" {
		t.Errorf("engines %q", got)
	}
}

// TestEnginesFIPS runs itself again as a program that is to use Go's FIPS 140-3 module.
func TestEnginesFIPS(t *testing.T) {
	t.Parallel()
	if os.Getenv("STRONGROOM_TEST_FIPS") != "" {
		if all := engines(); len(all) != 1 || all[0].name() != "go" {
			t.Errorf("%d engines", len(all))
		}
		return
	}
	for _, mode := range []string{"on", "only"} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestEnginesFIPS$", "-test.v")
		cmd.Env = append(os.Environ(), "STRONGROOM_TEST_FIPS=1", "GODEBUG=fips140="+mode)
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: TestEnginesFIPS")) {
			t.Errorf("fips140=%s: %v\n%s", mode, err, out)
		}
	}
}

// TestOpenSSLKey does each operation of an engine's key.
func TestOpenSSLKey(t *testing.T) {
	t.Parallel()
	key := measuringPrimes[0].key()
	k, err := opensslRSA{}.open(key)
	if err != nil {
		t.Fatal(err)
	}
	digest := make([]byte, 32)
	signature, err := k.signPKCS1v15(crypto.SHA256, digest)
	if err != nil || rsa.VerifyPKCS1v15(&key.PublicKey, crypto.SHA256, digest, signature) != nil {
		t.Errorf("PKCS#1 v1.5: %v, or wrong", err)
	}
	signature, err = k.signPKCS1v15(0, digest)
	if err != nil || rsa.VerifyPKCS1v15(&key.PublicKey, 0, digest, signature) != nil {
		t.Errorf("PKCS#1 v1.5 without a hash: %v, or wrong", err)
	}
	signature, err = k.signPSS(crypto.SHA256, digest)
	if err != nil || rsa.VerifyPSS(&key.PublicKey, crypto.SHA256, digest, signature, nil) != nil {
		t.Errorf("PSS: %v, or wrong", err)
	}
	ciphertext, err := rsa.EncryptOAEP(crypto.SHA256.New(), rand.Reader, &key.PublicKey, digest, nil)
	if err != nil {
		t.Fatal(err)
	}
	if plaintext, err := k.decryptOAEP(crypto.SHA256, ciphertext); err != nil || !bytes.Equal(plaintext, digest) {
		t.Errorf("OAEP: %x, %v", plaintext, err)
	}
	padded, err := rsa.EncryptPKCS1v15(rand.Reader, &key.PublicKey, digest) //lint:ignore SA1019 the wire has RSA1_5
	if err != nil {
		t.Fatal(err)
	}
	if plaintext, err := k.decryptPKCS1v15(padded); err != nil || !bytes.Equal(plaintext, digest) {
		t.Errorf("RSA1_5: %x, %v", plaintext, err)
	}
	// Not made-up plaintexts, whatever OpenSSL's version does.
	if plaintext, err := k.decryptPKCS1v15(ciphertext); err != rsa.ErrDecryption {
		t.Errorf("RSA1_5 of something else: %x, %v", plaintext, err)
	}
	if plaintext, err := k.decryptOAEP(crypto.SHA256, padded); err != rsa.ErrDecryption {
		t.Errorf("OAEP of something else: %x, %v", plaintext, err)
	}
}

// TestOpenSSLRefusesKeys that contradict themselves: OpenSSL looks at nothing.
func TestOpenSSLRefusesKeys(t *testing.T) {
	t.Parallel()
	key := measuringPrimes[0].key()
	wrong := &rsa.PrivateKey{PublicKey: rsa.PublicKey{N: measuringPrimes[1].key().N, E: key.E}, D: key.D, Primes: key.Primes}
	if _, err := (opensslRSA{}).open(wrong); err == nil {
		t.Error("opened a key whose primes are not of its modulus")
	}
}
