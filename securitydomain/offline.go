package securitydomain

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"

	"github.com/strongroom/strongroom/internal/sdomain"
)

// NewCertificateInfo asks for a security domain that any quorum of the certificates' owners can open. The certificates must be of
// different RSA keys of at least 2048 bits. Who issued them, and whether they have expired, does not matter.
func NewCertificateInfo(quorum int, certs ...*x509.Certificate) (CertificateInfo, error) {
	info := CertificateInfo{Required: quorum}
	var checked []sdomain.Certificate
	for i, cert := range certs {
		c, err := sdomain.NewCertificate(cert)
		if err != nil {
			return CertificateInfo{}, fmt.Errorf("securitydomain: certificate %d %w", i+1, err)
		}
		checked = append(checked, c)
		info.Certificates = append(info.Certificates, JSONWebKey(c.JWK()))
	}
	if err := sdomain.CheckQuorum(checked, quorum); err != nil {
		return CertificateInfo{}, wrap(err)
	}
	return info, nil
}

// ParseCertificate reads a file with a certificate, in PEM or DER.
func ParseCertificate(file []byte) (*x509.Certificate, error) {
	c, err := sdomain.ParseCertificate(file)
	if err != nil {
		return nil, fmt.Errorf("securitydomain: the file %w", err)
	}
	return c.X509(), nil
}

// ParsePrivateKey reads an RSA key from a file in PEM: PKCS#8, with or without a password (PBES2 with PBKDF2 or scrypt, AES or 3DES), or
// PKCS#1, with or without OpenSSL's traditional encryption. A password that is not needed is passed over.
func ParsePrivateKey(file []byte, password string) (*rsa.PrivateKey, error) {
	key, err := sdomain.ParsePrivateKey(file, password)
	return key, wrap(err)
}

// A Key is the key of an owner. It may be on a device: Decrypt is called with *rsa.OAEPOptions, for SHA-256. A decrypter for which the
// ciphertext is not should return rsa.ErrDecryption; other errors are reported as they are.
type Key struct {
	Decrypter crypto.Decrypter

	// Certificate tells which share is the key's. Without it the key is tried on each.
	Certificate *x509.Certificate
}

func holders(keys []Key) []sdomain.Holder {
	var hs []sdomain.Holder
	for _, k := range keys {
		hs = append(hs, sdomain.Holder{Key: k.Decrypter, Certificate: k.Certificate})
	}
	return hs
}

// A File is a security domain that was read and not yet opened.
type File struct{ file *sdomain.File }

// Parse reads a security domain of version 2, or of version 1, which only old HSMs have made. Its form is checked, and every part of it
// is authenticated when it is opened. Members that are not known are passed over.
//
// Azure's command line takes a file in which the tag of an encrypted part was cut off, which lets anybody change that part, or whose
// version it does not know. This package refuses both.
func Parse(sd SecurityDomain) (*File, error) {
	file, err := sdomain.Parse([]byte(sd.Value))
	if err != nil {
		return nil, wrap(err)
	}
	return &File{file}, nil
}

// Version is that of the form, 1 or 2.
func (f *File) Version() int { return f.file.Version() }

// Required is how many owners it takes.
func (f *File) Required() int { return f.file.Required() }

// Thumbprints name the owners' certificates, in the order of the request: SHA-256 in base64url, as in JSONWebKey.X5TS256. In version 1
// a certificate is named for each pair that it is in.
func (f *File) Thumbprints() []string { return f.file.Thumbprints() }

// Tags name what is in the domain.
func (f *File) Tags() []string { return f.file.Tags() }

// Check tells whether the keys open the domain, and forgets what was in it. Owners should do this with new files, and once a year with
// old ones. The error is that of Open.
func (f *File) Check(keys ...Key) error {
	contents, err := f.Open(keys...)
	if err != nil {
		return err
	}
	contents.Forget()
	return nil
}

// CheckShares tells whether each of the keys opens a share, however few they are: an owner can do this alone. Whether the shares fit
// together only Check tells, which takes a quorum.
func (f *File) CheckShares(keys ...Key) error { return wrap(f.file.CheckShares(holders(keys))) }

// Open opens the domain with the keys of a quorum. Keys beyond that are used if a share is damaged. Each key must be there once.
func (f *File) Open(keys ...Key) (*Contents, error) {
	data, err := f.file.Open(holders(keys))
	if err != nil {
		return nil, wrap(err)
	}
	return &Contents{data}, nil
}

// Contents are what is in a security domain: an HSM's most secret keys, in the clear. They print as REDACTED.
type Contents struct{ data []sdomain.Datum }

// RewrapOptions are the optional parameters of Rewrap.
type RewrapOptions struct {
	// TransferKeySHA256 is what the SHA-256 of the transfer key's certificate must be, as somebody has read it from the HSM itself. Who
	// can put another key in its place gets the domain.
	TransferKeySHA256 []byte

	// VerifyTransferKey is asked whether the transfer key is that of the HSM; an error stops everything.
	VerifyTransferKey func(*x509.Certificate) error
}

// Rewrap makes of the contents what the HSM with that transfer key takes. They are under new keys in it.
func (c *Contents) Rewrap(to TransferKey, options *RewrapOptions) (SecurityDomain, error) {
	certificate, err := to.verified(options)
	if err != nil {
		return SecurityDomain{}, err
	}
	blob, err := sdomain.Rewrap(c.data, certificate)
	if err != nil {
		return SecurityDomain{}, wrap(err)
	}
	return SecurityDomain{string(blob)}, nil
}

// Forget overwrites the contents, as far as Go allows.
func (c *Contents) Forget() {
	for _, d := range c.data {
		clear(d.Value)
	}
	c.data = nil
}

const redacted = "REDACTED"

// Format, LogValue and MarshalJSON keep the contents out of whatever prints or encodes them.
func (Contents) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Contents) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Contents) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Rewrap opens a security domain with the keys of a quorum and wraps it for an HSM's transfer key: what BeginUpload needs. Nothing leaves
// the process.
func Rewrap(sd SecurityDomain, to TransferKey, keys []Key, options *RewrapOptions) (SecurityDomain, error) {
	if _, err := to.verified(options); err != nil { // before any device is asked
		return SecurityDomain{}, err
	}
	file, err := Parse(sd)
	if err != nil {
		return SecurityDomain{}, err
	}
	contents, err := file.Open(keys...)
	if err != nil {
		return SecurityDomain{}, err
	}
	defer contents.Forget()
	return contents.Rewrap(to, options)
}

// ParseTransferKey reads a transfer key that was kept in a file: its certificate in PEM or DER, or the service's answer in JSON.
func ParseTransferKey(file []byte) (TransferKey, error) {
	if bytes.HasPrefix(bytes.TrimSpace(file), []byte("{")) {
		var k TransferKey
		if err := k.UnmarshalJSON(file); err != nil {
			return TransferKey{}, err
		}
		return k, nil
	}
	c, err := sdomain.ParseCertificate(file)
	if err != nil {
		return TransferKey{}, fmt.Errorf("securitydomain: the transfer key %w", err)
	}
	return TransferKey{KeyFormat: "pem", Key: JSONWebKey(c.JWK())}, nil
}

// Certificate is the key's certificate. The HSM has signed it itself.
func (k TransferKey) Certificate() (*x509.Certificate, error) {
	c, err := k.certificate()
	if err != nil {
		return nil, err
	}
	return c.X509(), nil
}

// PEM is the key's certificate as a file, which Azure's tools read, too.
func (k TransferKey) PEM() ([]byte, error) {
	c, err := k.certificate()
	if err != nil {
		return nil, err
	}
	return c.PEM(), nil
}

func (k TransferKey) certificate() (sdomain.Certificate, error) {
	c, err := sdomain.CertificateFromJWK(sdomain.JWK(k.Key))
	if err != nil {
		return c, fmt.Errorf("securitydomain: the transfer key %w", err)
	}
	return c, nil
}

// verified is the certificate, if it is what the options want.
func (k TransferKey) verified(options *RewrapOptions) (sdomain.Certificate, error) {
	c, err := k.certificate()
	if err != nil || options == nil {
		return c, err
	}
	if pin := options.TransferKeySHA256; pin != nil && !bytes.Equal(pin, c.SHA256()) {
		return c, fmt.Errorf("securitydomain: the key %w: the SHA-256 of its certificate is %x, and not %x", ErrTransferKey, c.SHA256(), pin)
	}
	if options.VerifyTransferKey != nil {
		if err := options.VerifyTransferKey(c.X509()); err != nil {
			return c, fmt.Errorf("securitydomain: the key %w: %w", ErrTransferKey, err)
		}
	}
	return c, nil
}
