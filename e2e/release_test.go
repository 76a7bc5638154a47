package e2e

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// The server of TestRelease.
const (
	releaseDomain = "release.test"
	releaseListen = "127.0.0.1:8453"
)

// TestRelease: keys leave the vault, wrapped for a program for which an authority vouches.
func TestRelease(t *testing.T) {
	t.Parallel()
	s := startConfigured(t, releaseDomain, trustAuthority, "--listen", releaseListen)
	target, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	set := map[string]string{
		"E2E_AUTHORITY":              s.issuer.url,
		"E2E_TARGET_KEY":             writePrivateKey(t, target),
		"E2E_ATTESTATION":            s.issuer.attestation(t, &target.PublicKey, "false"),
		"E2E_DEBUGGABLE_ATTESTATION": s.issuer.attestation(t, &target.PublicKey, "true"),
	}
	runSuites(t, s.server, "Release", set, "KeyRelease")
}

// trustAuthority lets the issuer say to whom keys may be released.
func trustAuthority(config string, issuer *issuer) string {
	return config + fmt.Sprintf("\nreleaseAuthorities:\n  - %s\nreleaseCA: %s\n", issuer.url, issuer.caFile)
}

func writePrivateKey(t *testing.T, key any) (path string) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
