package server

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// CheckStart tells what of a checked configuration would keep a server from starting, as far as can be told without
// starting one and beside one that runs: it makes, takes and locks nothing. In particular it does not connect the root
// key to the database, and does not read a passphrase from a pipe, which gives it only once.
func (c *Config) CheckStart() error {
	errs := []error{checkFolder(c.Data), c.RootKey.check(), c.checkKeyPlace(resolved), c.checkAuditFolder()}
	if c.TLS.Certificate != "" {
		_, err := c.TLS.load(time.Now())
		errs = append(errs, err)
	}
	for i, issuer := range c.Issuers {
		if _, err := authoritiesOf(issuer.CA); err != nil {
			errs = append(errs, fmt.Errorf("issuers[%d]: ca: %w", i, err))
		}
	}
	if _, err := authoritiesOf(c.ReleaseCA); err != nil {
		errs = append(errs, fmt.Errorf("releaseCA: %w", err))
	}
	if _, err := authoritiesOf(c.Backup.CA); err != nil {
		errs = append(errs, fmt.Errorf("backup.ca: %w", err))
	}
	if _, err := c.Backup.credential(); err != nil {
		errs = append(errs, fmt.Errorf("backup.managedIdentity: %w", err))
	}
	return errors.Join(errs...)
}

// check reads the root key and leaves it where it is.
func (r RootKeyConfig) check() error {
	if r.PassphraseFile != "" {
		info, err := os.Stat(r.PassphraseFile)
		if err != nil {
			return fmt.Errorf("root key: %w", err)
		}
		if !info.Mode().IsRegular() {
			return checkPassphraseMode(r.PassphraseFile, info)
		}
	}
	_, err := r.read(readVariable)
	return err
}

// checkAuditFolder wants the folder of a log whose place was configured: one that is not there may be a volume that is not
// mounted, and a log in its place would not be found. The default place is ours to make.
func (c *Config) checkAuditFolder() error {
	if c.Audit.File == "-" || c.Audit.File == c.defaultAuditFile() {
		return nil
	}
	info, err := os.Stat(filepath.Dir(c.Audit.File))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("audit.file: the folder %s does not exist: make it first, or mount it", filepath.Dir(c.Audit.File))
	case err != nil:
		return fmt.Errorf("audit.file: %w", err)
	case !info.IsDir():
		return fmt.Errorf("audit.file: %s is not a folder", filepath.Dir(c.Audit.File))
	}
	return nil
}

func (c *Config) defaultAuditFile() string { return filepath.Join(c.Data, "audit", "audit.jsonl") }

// checkKeyPlace refuses a root key that lies in the data folder, and so in every copy of it.
func (c *Config) checkKeyPlace(path func(string) string) error {
	if c.dev || c.Data == "" {
		return nil
	}
	for name, file := range map[string]string{"file": c.RootKey.File, "passphraseFile": c.RootKey.PassphraseFile} {
		if file == "" {
			continue
		}
		rel, err := filepath.Rel(path(c.Data), path(file))
		if err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
			return fmt.Errorf("rootKey.%s: %s lies in the data folder %s, so that whoever gets a copy of the one has the other too: "+
				"move it elsewhere", name, file, c.Data)
		}
	}
	return nil
}

// resolved is where a path leads, as far as that can be told.
func resolved(path string) string {
	if target, err := filepath.EvalSymlinks(path); err == nil {
		return target
	}
	return path
}

// authoritiesOf reads a file of authorities; nil stands for the system's.
func authoritiesOf(file string) (*x509.CertPool, error) {
	if file == "" {
		return nil, nil
	}
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", file)
	}
	return pool, nil
}

// checkAddresses refuses addresses that keep each other from being listened on. Port 0 is a free one each time.
func (c *Config) checkAddresses(bad func(format string, args ...any)) {
	type place struct {
		setting string
		address netip.AddrPort
	}
	var taken []place
	add := func(setting, address string) {
		a, err := parseListen(address)
		if err != nil || a.Port() == 0 {
			return // told elsewhere, if it is wrong
		}
		for _, other := range taken {
			if clash(a, other.address) {
				bad("%s: %s cannot be listened on beside %s of %s", setting, a, other.address, other.setting)
				return
			}
		}
		taken = append(taken, place{setting, a})
	}
	for _, address := range c.Listen {
		add("listen", address)
	}
	add("managedIdentity.listen", c.ManagedIdentity.Listen)
	add("operations.listen", c.Operations.Listen)
}

func clash(a, b netip.AddrPort) bool {
	if a.Port() != b.Port() || a.Addr().Is4() != b.Addr().Is4() {
		return false
	}
	return a.Addr() == b.Addr() || a.Addr().IsUnspecified() || b.Addr().IsUnspecified()
}
