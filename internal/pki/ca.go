// Package pki makes and checks certificates (RFC 5280).
//
// This release holds the installation's local certificate authority, which signs the server's own certificate wherever
// the operator brings none.
package pki

import (
	"bytes"
	"context"
	"crypto"
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
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/store"
)

const (
	caKey      = "pki/localca"
	caFormat   = 2 // 1 held a single authority
	caLife     = 10 * 365 * 24 * time.Hour
	serverLife = 90 * 24 * time.Hour

	// maxAuthorities bounds how many authorities an installation remembers.
	maxAuthorities = 8

	// RenewBefore is how long before its end a server certificate should be replaced.
	RenewBefore = 30 * 24 * time.Hour

	// Clocks of clients may be slow.
	backdate = 10 * time.Minute
)

// A LocalCA signs the installation's own server certificates. Its key lies sealed in the store and nowhere else. The
// certificate is constrained to the installation's domains and to loopback addresses, so whoever adds it to a trust
// store does not trust it for anything else.
//
// The constraint cannot be changed afterwards. An installation that gets another domain therefore gets another
// authority, and remembers the older ones: it returns to one of them when its domains do, and clients are given all of
// them to trust, so that those that have read the file lately follow a change.
type LocalCA struct {
	cert     *x509.Certificate
	key      *ecdsa.PrivateKey
	bundle   []*x509.Certificate // cert, and the others that have not ended
	replaced bool
	now      func() time.Time
}

type caRecord struct {
	Format      int         `json:"v"`
	Authorities []authority `json:"authorities"` // the newest first
}

type authority struct {
	Certificate []byte `json:"certificate"`
	Key         []byte `json:"key"` // PKCS #8
}

// OpenLocalCA returns the certificate authority for domains: of those in db the newest that may sign for them all, or, if
// none may, a new one.
func OpenLocalCA(ctx context.Context, db store.DB, domains []string, now func() time.Time) (*LocalCA, error) {
	var found *LocalCA
	err := db.View(ctx, func(r store.Reader) error {
		rec, err := readCA(r)
		if err == nil {
			found, err = rec.find(domains, now)
		}
		return err
	})
	if err == nil && found == nil {
		found, err = makeLocalCA(ctx, db, domains, now)
	}
	if err != nil {
		return nil, fmt.Errorf("pki: local certificate authority: %w", err)
	}
	return found, nil
}

// makeLocalCA adds an authority, unless another server on the same store was faster.
func makeLocalCA(ctx context.Context, db store.DB, domains []string, now func() time.Time) (*LocalCA, error) {
	fresh, err := newCA(domains, now())
	if err != nil {
		return nil, err
	}
	var found *LocalCA
	err = db.Update(ctx, func(tx store.Tx) error {
		rec, err := readCA(tx)
		if err != nil {
			return err
		}
		if found, err = rec.find(domains, now); err != nil || found != nil {
			return err
		}
		replaced := len(rec.Authorities) > 0
		rec.add(*fresh)
		if found, err = rec.find(domains, now); err != nil {
			return err
		}
		found.replaced = replaced
		raw, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		return tx.Put(caKey, raw)
	})
	return found, err
}

// readCA returns the record, an empty one if there is none.
func readCA(r store.Reader) (*caRecord, error) {
	raw, err := r.Get(caKey)
	if errors.Is(err, store.ErrNotFound) {
		return new(caRecord), nil
	}
	if err != nil {
		return nil, err
	}
	return decodeCA(raw)
}

func decodeCA(raw []byte) (*caRecord, error) {
	var head struct {
		Format int `json:"v"`
	}
	if err := json.Unmarshal(raw, &head); err != nil {
		return nil, err
	}
	switch head.Format {
	case 1:
		var old struct {
			Format int `json:"v"`
			authority
			Domains []string `json:"domains"`
		}
		err := decodeStrictly(raw, &old)
		return &caRecord{Authorities: []authority{old.authority}}, err
	case caFormat:
		var rec caRecord
		err := decodeStrictly(raw, &rec)
		return &rec, err
	}
	return nil, fmt.Errorf("its record has format %d, this release knows %d: use a newer release", head.Format, caFormat)
}

func decodeStrictly(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	return dec.Decode(into)
}

// add puts an authority first and forgets the oldest one if there are too many.
func (r *caRecord) add(a authority) {
	r.Format = caFormat
	r.Authorities = slices.Insert(r.Authorities, 0, a)
	r.Authorities = r.Authorities[:min(len(r.Authorities), maxAuthorities)]
}

// find returns the newest authority that may sign for all of domains and outlives what it signs, or nil.
func (r *caRecord) find(domains []string, now func() time.Time) (ca *LocalCA, err error) {
	var bundle []*x509.Certificate
	for _, a := range r.Authorities {
		cert, err := x509.ParseCertificate(a.Certificate)
		if err != nil {
			return nil, err
		}
		if ca == nil && covers(cert, domains) && cert.NotAfter.After(now().Add(serverLife)) {
			if ca, err = a.open(cert, now); err != nil {
				return nil, err
			}
			bundle = slices.Insert(bundle, 0, cert)
			continue
		}
		if cert.NotAfter.After(now()) {
			bundle = append(bundle, cert)
		}
	}
	if ca != nil {
		ca.bundle = bundle
	}
	return ca, nil
}

// covers tells whether an authority's constraint allows all of domains. It allows what lies below a domain too.
func covers(cert *x509.Certificate, domains []string) bool {
	allowed := func(domain string) bool {
		return slices.ContainsFunc(cert.PermittedDNSDomains, func(permitted string) bool {
			return domain == permitted || strings.HasSuffix(domain, "."+permitted)
		})
	}
	for _, domain := range domains {
		if !allowed(domain) {
			return false
		}
	}
	return true
}

func (a *authority) open(cert *x509.Certificate, now func() time.Time) (*LocalCA, error) {
	key, err := x509.ParsePKCS8PrivateKey(a.Key)
	if err != nil {
		return nil, err
	}
	ec, ok := key.(*ecdsa.PrivateKey)
	if !ok || !ec.PublicKey.Equal(cert.PublicKey) {
		return nil, errors.New("its key does not belong to its certificate")
	}
	return &LocalCA{cert: cert, key: ec, now: now}, nil
}

var loopback = []*net.IPNet{
	{IP: net.IPv4(127, 0, 0, 0).To4(), Mask: net.CIDRMask(8, 32)},
	{IP: net.IPv6loopback, Mask: net.CIDRMask(128, 128)},
}

func newCA(domains []string, now time.Time) (*authority, error) {
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
	return &authority{Certificate: der, Key: pkcs8}, nil
}

// serial returns 127 random bits, positive.
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

// PEM returns what clients should trust: the authority's certificate first, then those of the installation's older and
// newer authorities that have not ended.
func (ca *LocalCA) PEM() (out []byte) {
	for _, cert := range ca.bundle {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	}
	return out
}

// Replaced tells that this authority is new and that the installation had others before, which clients trust and which
// could not be used any more.
func (ca *LocalCA) Replaced() bool { return ca.replaced }

// Certificate returns the authority's certificate. It must not be modified.
func (ca *LocalCA) Certificate() *x509.Certificate { return ca.cert }

// IssueServer makes a new key and a server certificate for names, and for loopback addresses too. The key lives only in memory.
func (ca *LocalCA) IssueServer(names []string) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := ca.template("Strongroom", append(slices.Clone(names), "localhost"), serverLife)
	template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	template.IPAddresses = []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
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

// signerLife is how long a signer's certificate is valid: long, since what it signed may be looked at much later.
const signerLife = 365 * 24 * time.Hour

// IssueSigner makes a certificate for somebody's key that signs documents in the name of the hosts, and returns it with the
// authority's own behind it.
func (ca *LocalCA) IssueSigner(subject string, names []string, public crypto.PublicKey) (chain [][]byte, err error) {
	template := ca.template(subject, names, min(signerLife, ca.cert.NotAfter.Sub(ca.now())))
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("pki: issue a signer's certificate: %w", err)
	}
	return [][]byte{der, ca.cert.Raw}, nil
}

// template is what the certificates of an authority have in common.
func (ca *LocalCA) template(subject string, names []string, life time.Duration) *x509.Certificate {
	now := ca.now()
	return &x509.Certificate{
		SerialNumber: serial(),
		Subject:      pkix.Name{CommonName: subject},
		NotBefore:    now.Add(-backdate),
		NotAfter:     now.Add(life),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		DNSNames:     names,
	}
}
