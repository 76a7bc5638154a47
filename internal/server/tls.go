package server

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/strongroom/strongroom/internal/pki"
)

// certificates gives the TLS listeners their certificate, and a newer one when there is one.
type certificates interface {
	current() (*tls.Certificate, error)
}

// tlsConfig accepts TLS 1.3, and TLS 1.2 with forward secrecy and authenticated encryption only.
func tlsConfig(certs certificates) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return certs.current() },
	}
}

// issuedCertificates come from the local authority and are renewed in memory.
type issuedCertificates struct {
	ca    *pki.LocalCA
	names []string
	now   func() time.Time

	mu   sync.Mutex // guards cert
	cert *tls.Certificate
}

func (c *issuedCertificates) current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert != nil && c.cert.Leaf.NotAfter.Sub(c.now()) > pki.RenewBefore {
		return c.cert, nil
	}
	fresh, err := c.ca.IssueServer(c.names)
	if err != nil {
		return nil, err
	}
	c.cert = fresh
	return fresh, nil
}

// serverNames are the names of the server's own certificate. A wildcard covers one label, so each kind of host has its own.
func serverNames(cfg *Config) []string {
	d := cfg.Domain
	names := []string{
		"vault." + d, "*.vault." + d, "managedhsm." + d, "*.managedhsm." + d,
		"login." + d, "*.login." + d, "management." + d, "portal." + d,
	}
	for _, alias := range slices.Concat(cfg.Aliases, cfg.HSMAliases) {
		names = append(names, alias, "*."+alias)
	}
	return names
}

// missingNames are those that clients ask for and that cert, which somebody else has made, does not cover: every vault, and
// the token service, without which there is no token for a vault. What else answers has one name in some installations.
func missingNames(cert *x509.Certificate, cfg *Config) (missing []string) {
	for _, name := range neededNames(cfg) {
		if cert.VerifyHostname(name) != nil { // a name with a wildcard is covered by the same only
			missing = append(missing, name)
		}
	}
	return missing
}

func neededNames(cfg *Config) []string {
	names := []string{"login." + cfg.Domain}
	for _, suffix := range append(cfg.suffixes(), cfg.HSMAliases...) {
		names = append(names, "*."+suffix)
	}
	return names
}

// uncovered says which names are missing, "" if none is.
func uncovered(cert *x509.Certificate, cfg *Config) string {
	missing := missingNames(cert, cfg)
	if len(missing) == 0 {
		return ""
	}
	return "the TLS certificate does not cover " + strings.Join(missing, ", ") + ": clients that go there will refuse it"
}

// fileCertificates come from the operator's files and are read again when these change. A pair that cannot be used is
// reported and the present one kept, because files are seldom replaced both at once. It is reported once for each change
// of the files, not each time they are looked at.
//
// One that does not cover all names is used, for the operator decides, and reported.
type fileCertificates struct {
	cfg *Config
	log *slog.Logger
	now func() time.Time

	mu      sync.Mutex // guards what follows
	pair    *tls.Certificate
	stamps  [2]stamp
	checked time.Time
}

// stamp tells whether a file was replaced, or its mode put right.
type stamp struct {
	modified time.Time
	size     int64
	mode     os.FileMode
}

// recheck is how often the files are looked at.
const recheck = time.Second

func (c *fileCertificates) current() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pair != nil && c.now().Sub(c.checked) < recheck {
		return c.pair, nil
	}
	c.checked = c.now()
	stamps, err := c.look()
	if c.pair != nil && stamps == c.stamps {
		return c.pair, nil // also if they are as bad as they were
	}
	if err == nil {
		err = c.load()
	}
	if err != nil && c.pair == nil {
		return nil, err
	}
	c.stamps = stamps
	if err != nil {
		c.log.Error("the new TLS certificate cannot be used; the present one is kept", "error", err)
		return c.pair, nil
	}
	if warning := uncovered(c.pair.Leaf, c.cfg); warning != "" {
		c.log.Warn(warning, "file", c.cfg.TLS.Certificate)
	}
	return c.pair, nil
}

// look returns the files' stamps. One that is not there has the zero stamp.
func (c *fileCertificates) look() (stamps [2]stamp, err error) {
	for i, path := range []string{c.cfg.TLS.Certificate, c.cfg.TLS.Key} {
		info, statErr := os.Stat(path)
		if statErr != nil {
			err = errors.Join(err, fmt.Errorf("tls: %w", statErr))
			continue
		}
		stamps[i] = stamp{info.ModTime(), info.Size(), info.Mode()}
	}
	return stamps, err
}

func (c *fileCertificates) load() error {
	pair, err := c.cfg.TLS.load(c.now())
	if err != nil {
		return err
	}
	c.pair = pair
	return nil
}

// load reads the files and checks whether the pair can be used at all.
func (t TLSConfig) load(now time.Time) (*tls.Certificate, error) {
	info, err := os.Stat(t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	// The group may read: where several services share a certificate, its key belongs to a group of its own (ssl-cert).
	if info.Mode().Perm()&0o027 != 0 {
		return nil, fmt.Errorf("tls: key %s has mode %04o: only its owner may change it and only owner and group may read it; run chmod 600 or 640",
			t.Key, info.Mode().Perm())
	}
	pair, err := tls.LoadX509KeyPair(t.Certificate, t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if now.After(pair.Leaf.NotAfter) {
		return nil, errors.New("tls: the certificate has expired")
	}
	return &pair, nil
}
