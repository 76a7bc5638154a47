package server

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/pki"
	"github.com/strongroom/strongroom/internal/store/bolt"
)

// pairFiles writes a certificate for names of example.org, and its key, and returns their paths.
func pairFiles(t *testing.T, names ...string) (cert, key string) {
	t.Helper()
	dir := t.TempDir()
	db, err := bolt.Open(filepath.Join(dir, "db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ca, err := pki.OpenLocalCA(t.Context(), db, []string{"example.org"}, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.IssueServer(names)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	err = errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

// TestCertificateReports checks that what is wrong with the files is told once for each change, not each second.
func TestCertificateReports(t *testing.T) {
	t.Parallel()
	cert, key := pairFiles(t, "login.example.org")
	var log bytes.Buffer
	now := time.Now()
	cfg := &Config{Domain: "example.org", TLS: TLSConfig{Certificate: cert, Key: key}}
	c := &fileCertificates{cfg: cfg, log: slog.New(slog.NewTextHandler(&log, nil)), now: func() time.Time { return now }}
	reports := 0
	look := func(what string, wantNew int) {
		t.Helper()
		for range 3 {
			now = now.Add(2 * recheck)
			if _, err := c.current(); err != nil {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if n := strings.Count(log.String(), "cannot be used"); n != reports+wantNew {
			t.Errorf("%s: %d reports, want %d", what, n-reports, wantNew)
		}
		reports = strings.Count(log.String(), "cannot be used")
	}
	change := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	look("good", 0)
	change(os.Rename(key, key+".away"))
	look("no key", 1)
	change(os.Rename(key+".away", key))
	look("back", 0)
	change(os.Chmod(key, 0o640))
	look("readable by the group", 0)
	change(os.Chmod(key, 0o660))
	look("writable by the group", 1)
	change(os.Chmod(key, 0o644))
	look("readable by everybody", 1)
	change(os.Chmod(key, 0o600))
	look("good again", 0)
}

// TestCertificateNames loads certificates that cover some of the names, one after the other.
func TestCertificateNames(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	now := time.Now()
	cfg := &Config{Domain: "example.org", Aliases: []string{"keys.example.org"}, HSMAliases: []string{"hsms.example.org"}}
	c := &fileCertificates{cfg: cfg, log: slog.New(slog.NewTextHandler(&log, nil)), now: func() time.Time { return now }}
	for _, test := range []struct {
		names []string
		want  string
	}{
		{[]string{"login.example.org"}, "does not cover *.vault.example.org, *.keys.example.org, *.hsms.example.org:"},
		{[]string{"login.example.org", "*.vault.example.org", "*.keys.example.org", "*.hsms.example.org"}, ""},
		{[]string{"*.example.org", "*.keys.example.org", "*.hsms.example.org"}, "does not cover *.vault.example.org:"},
		{[]string{"*.vault.example.org", "*.keys.example.org", "*.hsms.example.org"}, "does not cover login.example.org:"},
		{[]string{"login.example.org", "a.vault.example.org", "*.keys.example.org", "*.hsms.example.org"}, "does not cover *.vault.example.org:"},
	} {
		cfg.TLS.Certificate, cfg.TLS.Key = pairFiles(t, test.names...)
		log.Reset()
		for range 3 {
			now = now.Add(2 * recheck)
			pair, err := c.current()
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.names, pair.Leaf.DNSNames[:len(test.names)]); diff != "" {
				t.Errorf("not the newest certificate is served: %s", diff)
			}
			if got := uncovered(pair.Leaf, cfg); !strings.Contains(got, test.want) || (got == "") != (test.want == "") {
				t.Errorf("%v: %q", test.names, got)
			}
		}
		reports := 0
		if test.want != "" {
			reports = 1
		}
		if strings.Count(log.String(), "does not cover") != reports || !strings.Contains(log.String(), test.want) {
			t.Errorf("%v: the log says %s", test.names, &log)
		}
	}
}
