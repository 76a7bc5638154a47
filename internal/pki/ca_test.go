package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"path/filepath"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/bolt"
)

func open(t *testing.T) store.DB {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	return db
}

func TestIssueServer(t *testing.T) {
	t.Parallel()
	ca, err := OpenLocalCA(t.Context(), open(t), []string{"example.org"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.IssueServer([]string{"vault.example.org", "*.vault.example.org"})
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca.PEM()) {
		t.Fatal("the authority's PEM cannot be read")
	}
	for name, good := range map[string]bool{
		"vault.example.org": true, "demo.vault.example.org": true, "127.0.0.1": true, "::1": true, "localhost": true,
		"a.b.vault.example.org": false, "example.org": false, "192.0.2.1": false,
	} {
		_, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name})
		if (err == nil) != good {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestConstraints: whoever trusts the authority for one installation must not trust it for the rest of the world.
func TestConstraints(t *testing.T) {
	t.Parallel()
	ca, err := OpenLocalCA(t.Context(), open(t), []string{"example.org"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Certificate())
	pair, err := ca.IssueServer([]string{"login.microsoftonline.com"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "login.microsoftonline.com"}); err == nil {
		t.Error("a certificate for a foreign name is trusted")
	}
	// Nor may what it signs sign in turn.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	below := &x509.Certificate{
		SerialNumber: serial(), NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, below, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	intermediate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: serial(), NotBefore: below.NotBefore, NotAfter: below.NotAfter, DNSNames: []string{"x.example.org"},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err = x509.CreateCertificate(rand.Reader, leaf, intermediate, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(intermediate)
	if _, err := cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: pool, DNSName: "x.example.org"}); err == nil {
		t.Error("an authority below the authority is trusted")
	}
}

func TestReopen(t *testing.T) {
	t.Parallel()
	db := open(t)
	now := time.Now()
	clock := func() time.Time { return now }
	first, err := OpenLocalCA(t.Context(), db, []string{"a"}, clock)
	if err != nil {
		t.Fatal(err)
	}
	again, err := OpenLocalCA(t.Context(), db, []string{"a"}, clock)
	if err != nil || !again.Certificate().Equal(first.Certificate()) {
		t.Errorf("opened again it is another one: %v", err)
	}
	other, err := OpenLocalCA(t.Context(), db, []string{"a", "b"}, clock)
	if err != nil || other.Certificate().Equal(first.Certificate()) {
		t.Errorf("for other domains it is the same: %v", err)
	}
	now = now.Add(caLife - serverLife + time.Hour)
	late, err := OpenLocalCA(t.Context(), db, []string{"a", "b"}, clock)
	if err != nil || late.Certificate().Equal(other.Certificate()) {
		t.Errorf("near its end it is not replaced: %v", err)
	}
}
