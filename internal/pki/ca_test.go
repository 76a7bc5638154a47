package pki

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
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

// TestReopen follows an authority through changes of the installation's domains.
func TestReopen(t *testing.T) {
	t.Parallel()
	db := open(t)
	now := time.Now()
	seen := make(map[string]*LocalCA)
	step := func(name string, wantReplaced bool, wantPEM int, domains ...string) {
		t.Helper()
		ca, err := OpenLocalCA(t.Context(), db, domains, func() time.Time { return now })
		if err != nil {
			t.Fatal(err)
		}
		first, again := seen[name]
		if !again {
			for other, old := range seen {
				if old.Certificate().Equal(ca.Certificate()) {
					t.Errorf("for %q it is still %s", domains, other)
				}
			}
			seen[name] = ca
		} else if !ca.Certificate().Equal(first.Certificate()) {
			t.Errorf("for %q it is not %s", domains, name)
		}
		if ca.Replaced() != wantReplaced {
			t.Errorf("for %q: replaced is %v", domains, ca.Replaced())
		}
		block, rest := pem.Decode(ca.PEM())
		if block == nil || !bytes.Equal(block.Bytes, ca.Certificate().Raw) {
			t.Errorf("for %q: its certificate is not the first one in the PEM", domains)
		}
		n := 1
		for ; len(rest) > 0; n++ {
			_, rest = pem.Decode(rest)
		}
		if n != wantPEM {
			t.Errorf("for %q: %d certificates in the PEM, want %d", domains, n, wantPEM)
		}
		checkIssues(t, ca, now, domains)
	}
	step("A", false, 1, "a", "b")
	step("A", false, 1, "a", "b")
	step("A", false, 1, "b", "a")
	step("A", false, 1, "b")
	step("A", false, 1, "a", "vault.b", "b", "b")
	step("A", false, 1, "localhost")
	step("B", true, 2, "a", "c")
	step("B", false, 2, "c", "a")
	step("A", false, 2, "a", "b")
	step("B", false, 2, "a")
	step("C", true, 3, "ab")
	now = now.Add(caLife - serverLife + time.Hour)
	step("D", true, 4, "a", "b")
	now = now.Add(serverLife)
	step("D", false, 1, "a", "b")
}

// checkIssues checks that what ca issues for domains is accepted by who trusts its PEM.
func checkIssues(t *testing.T, ca *LocalCA, now time.Time, domains []string) {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	pair, err := ca.IssueServer(domains)
	if err != nil {
		t.Fatal(err)
	}
	for _, domain := range domains {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: domain, CurrentTime: now}); err != nil {
			t.Errorf("%s: %v", domain, err)
		}
	}
}

// TestManyAuthorities changes the domain more often than authorities are remembered.
func TestManyAuthorities(t *testing.T) {
	t.Parallel()
	db := open(t)
	var first, last *LocalCA
	for i := range maxAuthorities + 1 {
		ca, err := OpenLocalCA(t.Context(), db, []string{fmt.Sprintf("d%d.example", i)}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = ca
		}
		last = ca
	}
	if n := bytes.Count(last.PEM(), []byte("BEGIN")); n != maxAuthorities {
		t.Errorf("%d authorities are remembered", n)
	}
	again, err := OpenLocalCA(t.Context(), db, []string{"d0.example"}, time.Now)
	if err != nil || again.Certificate().Equal(first.Certificate()) || !again.Replaced() {
		t.Errorf("the oldest one was not forgotten: %v", err)
	}
}

// TestFirstFormat opens a record as the first release wrote it.
func TestFirstFormat(t *testing.T) {
	t.Parallel()
	db := open(t)
	old, err := newCA([]string{"a"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(map[string]any{"v": 1, "certificate": old.Certificate, "key": old.Key, "domains": []string{"a"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Put(caKey, raw) }); err != nil {
		t.Fatal(err)
	}
	for _, domains := range [][]string{{"a"}, {"b"}, {"a"}} {
		ca, err := OpenLocalCA(t.Context(), db, domains, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Equal(ca.Certificate().Raw, old.Certificate) != (domains[0] == "a") {
			t.Errorf("%q: the wrong authority", domains)
		}
	}
}

// TestDamage: a record that cannot be read is told, never replaced.
func TestDamage(t *testing.T) {
	t.Parallel()
	a, err := newCA([]string{"a"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	b, err := newCA([]string{"a"}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for what, rec := range map[string]any{
		"no object":             "x",
		"a newer format":        map[string]any{"v": 3},
		"an unknown field":      map[string]any{"v": 2, "x": 1},
		"no certificate":        caRecord{caFormat, []authority{{Certificate: []byte("x"), Key: a.Key}}},
		"no key":                caRecord{caFormat, []authority{{Certificate: a.Certificate, Key: []byte("x")}}},
		"another one's key":     caRecord{caFormat, []authority{{Certificate: a.Certificate, Key: b.Key}}},
		"a damaged second one":  caRecord{caFormat, []authority{*a, {Certificate: []byte("x")}}},
		"the first one, no key": map[string]any{"v": 1, "certificate": a.Certificate},
	} {
		raw, err := json.Marshal(rec)
		if err != nil {
			t.Fatal(err)
		}
		db := open(t)
		if err := db.Update(t.Context(), func(tx store.Tx) error { return tx.Put(caKey, raw) }); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenLocalCA(t.Context(), db, []string{"a"}, time.Now); err == nil {
			t.Errorf("%s: no error", what)
		}
		err = db.View(t.Context(), func(r store.Reader) error {
			got, err := r.Get(caKey)
			if !bytes.Equal(got, raw) {
				t.Errorf("%s: the record was replaced", what)
			}
			return err
		})
		if err != nil {
			t.Error(err)
		}
	}
}
