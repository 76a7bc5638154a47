// Package pki makes and checks certificates (RFC 5280).
//
// This release holds the installation's local certificate authority, which signs the server's own certificate wherever
// the operator brings none.
package pki

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"

	"github.com/strongroom/strongroom/internal/store"
)

const (
	caKey      = "pki/localca"
	caFormat   = 1
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 90 * 24 * time.Hour

	// RenewBefore is how long before its end a server certificate should be replaced.
	RenewBefore = 30 * 24 * time.Hour

	// Clocks of clients may be slow.
	backdate = 10 * time.Minute
)

// A LocalCA signs the installation's own server certificates. Its key lies sealed in the store and nowhere else. The
// certificate is constrained to the installation's domains and to loopback addresses, so whoever adds it to a trust
// store does not trust it for anything else.
type LocalCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	now  func() time.Time
}

type caRecord struct {
	Format      int      `json:"v"`
	Certificate []byte   `json:"certificate"`
	Key         []byte   `json:"key"` // PKCS #8
	Domains     []string `json:"domains"`
}

// OpenLocalCA returns the certificate authority for domains, from db or, if there is none for these domains, newly made.
func OpenLocalCA(ctx context.Context, db store.DB, domains []string, now func() time.Time) (*LocalCA, error) {
	fresh, err := newCA(domains, now())
	if err != nil {
		return nil, err
	}
	var rec *caRecord
	err = db.Update(ctx, func(tx store.Tx) error {
		raw, err := tx.Get(caKey)
		switch {
		case errors.Is(err, store.ErrNotFound):
			rec = nil
		case err != nil:
			return err
		default:
			if rec, err = decodeCA(raw); err != nil {
				return err
			}
		}
		if rec != nil && slices.Equal(rec.Domains, domains) && rec.endsAfter(now().Add(serverLife)) {
			return nil
		}
		rec = fresh
		raw, err = json.Marshal(rec)
		if err != nil {
			return err
		}
		return tx.Put(caKey, raw)
	})
	if err != nil {
		return nil, fmt.Errorf("pki: local certificate authority: %w", err)
	}
	return rec.open(now)
}

func decodeCA(raw []byte) (*caRecord, error) {
	var rec caRecord
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rec); err != nil {
		return nil, err
	}
	if rec.Format != caFormat {
		return nil, fmt.Errorf("its record has format %d, this release knows %d: use a newer release", rec.Format, caFormat)
	}
	return &rec, nil
}

func (r *caRecord) endsAfter(t time.Time) bool {
	cert, err := x509.ParseCertificate(r.Certificate)
	return err == nil && cert.NotAfter.After(t)
}

func (r *caRecord) open(now func() time.Time) (*LocalCA, error) {
	cert, err := x509.ParseCertificate(r.Certificate)
	if err != nil {
		return nil, fmt.Errorf("pki: local certificate authority: %w", err)
	}
	key, err := x509.ParsePKCS8PrivateKey(r.Key)
	if err != nil {
		return nil, fmt.Errorf("pki: local certificate authority: %w", err)
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || !ec.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("pki: local certificate authority: its key does not belong to its certificate")
	}
	return &LocalCA{cert: cert, key: ec, now: now}, nil
}

var loopback = []*net.IPNet{
	{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
	{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
}

func newCA(domains []string, now time.Time) (*caRecord, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:                serial(),
		Subject:                     pkix.Name{CommonName: "Strongroom local CA", Organization: []string{"Strongroom"}},
		NotBefore:                   now.Add(-backdate),
		NotAfter:                    now.Add(caLife),
		IsCA:                        true,
		BasicConstraintsValid:       true,
		MaxPathLenZero:              true,
		KeyUsage:                    x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		PermittedDNSDomainsCritical: true,
		PermittedDNSDomains:         append(slices.Clone(domains), "localhost"),
		PermittedIPRanges:           loopback,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return &caRecord{Format: caFormat, Certificate: der, Key: pkcs8, Domains: domains}, nil
}

// serial returns 127 random bits, positive.
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

// PEM returns the authority's certificate.
func (ca *LocalCA) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.cert.Raw})
}

// Certificate returns the authority's certificate. It must not be modified.
func (ca *LocalCA) Certificate() *x509.Certificate { return ca.cert }

// IssueServer makes a new key and a server certificate for names, and for loopback addresses too. The key lives only in memory.
func (ca *LocalCA) IssueServer(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	now := ca.now()
	template := &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: "Strongroom"},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(serverLife),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames:     append(slices.Clone(names), "localhost"),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, &key.PublicKey, ca.key)
	if err != nil {
		return nil, fmt.Errorf("pki: issue a server certificate: %w", err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, ca.cert.Raw}, PrivateKey: key, Leaf: leaf}, nil
}
