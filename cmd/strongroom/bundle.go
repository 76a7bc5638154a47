package main

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"io"
	"os"

	"github.com/strongroom/strongroom/internal/server"
)

// Files that this program writes into the data folder for clients.
const (
	bundleFile = "ca-bundle.pem" // the system's authorities and ours
	nodeFile   = "ca-node.pem"   // what NODE_EXTRA_CA_CERTS named before, and ours
)

// maxBundle bounds a bundle of authorities that is read.
const maxBundle = 16 << 20

// systemBundles are where systems keep their authorities; the same places in which Go looks.
func systemBundles() []string {
	return []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Alpine, Arch
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Fedora, RHEL
		"/etc/ssl/ca-bundle.pem",                            // openSUSE
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL 7
		"/etc/ssl/cert.pem",                                 // macOS, BSD, Alpine
	}
}

// systemBundle returns the first bundle that the system has, "" for none.
func systemBundle() string {
	for _, path := range systemBundles() {
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}

// writeBundle writes to path what is in base (if that is not empty) and in the file ca, each certificate once. base may be
// path itself.
func writeBundle(path, base, ca string) error {
	var out bytes.Buffer
	seen := make(map[string]bool)
	for _, file := range []string{base, ca} {
		if file == "" {
			continue
		}
		if err := appendCertificates(&out, file, seen); err != nil {
			return err
		}
	}
	return server.ReplaceFile(path, out.Bytes(), 0o644)
}

func appendCertificates(out *bytes.Buffer, file string, seen map[string]bool) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxBundle))
	if err != nil {
		return err
	}
	found := false
	for block, rest := pem.Decode(raw); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" {
			continue
		}
		found = true
		if key := string(block.Bytes); !seen[key] {
			seen[key] = true
			if err := pem.Encode(out, block); err != nil {
				return err
			}
		}
	}
	if !found {
		return fmt.Errorf("%s holds no certificate", file)
	}
	return nil
}
