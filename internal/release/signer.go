package release

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	signerBits   = 3072
	signerLife   = 10 * 365 * 24 * time.Hour
	signerFormat = 1
	maxChain     = 8
	backdate     = 10 * time.Minute // clocks of targets may be slow
)

// A Signer signs the answers to releases. It does not change, and its methods may be called concurrently. It prints as
// REDACTED.
//
// A target finds the Signer's certificates in the answer. The targets that check them, such as Azure's sidecar for
// confidential containers, want the first to be for the host that they asked and the last to be one that they trust.
type Signer struct {
	key   *rsa.PrivateKey
	chain []*x509.Certificate // the signer's own first
	jose  jose.Signer
}

// NewSigner makes a key and a self-signed certificate for names: the host names of the vaults, as a rule with wildcards.
// It takes about half a second.
func NewSigner(names []string, now time.Time) (*Signer, error) {
	key, err := rsa.GenerateKey(rand.Reader, signerBits)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial(),
		Subject:               pkix.Name{CommonName: "Strongroom key release", Organization: []string{"Strongroom"}},
		DNSNames:              names,
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(signerLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		BasicConstraintsValid: true, // and no CA
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("release: certificate of the signer: %w", err)
	}
	return newSigner(key, [][]byte{der})
}

// serial returns 127 random bits, positive.
func serial() *big.Int {
	var b [16]byte
	rand.Read(b[:])
	b[0] &= 0x7f
	return new(big.Int).SetBytes(b[:])
}

func newSigner(key *rsa.PrivateKey, ders [][]byte) (*Signer, error) {
	s := &Signer{key: key}
	if len(ders) == 0 || len(ders) > maxChain {
		return nil, fmt.Errorf("release: a signer has 1 to %d certificates", maxChain)
	}
	for i, der := range ders {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("release: certificate of the signer: %w", err)
		}
		if i > 0 {
			if err := s.chain[i-1].CheckSignatureFrom(cert); err != nil {
				return nil, fmt.Errorf("release: certificates of the signer do not follow each other: %w", err)
			}
		}
		s.chain = append(s.chain, cert)
	}
	if !key.PublicKey.Equal(s.chain[0].PublicKey) {
		return nil, errors.New("release: the certificate is not that of the signer's key")
	}
	var err error
	s.jose, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: key}, s.headers(ders))
	return s, err
}

// headers are those of the real service, whose parsers know RS256 only.
func (s *Signer) headers(ders [][]byte) *jose.SignerOptions {
	thumbprint := sha256.Sum256(ders[0])
	id := encodeBase64(thumbprint[:])
	return new(jose.SignerOptions).WithType("JWT").WithHeader("kid", id).WithHeader("x5t#S256", id).WithHeader("x5c", ders)
}

// WithChain returns a Signer of the same key with certificates that an authority issued for it (see Public): the signer's
// own first, each signed by the next.
func (s *Signer) WithChain(ders [][]byte) (*Signer, error) { return newSigner(s.key, ders) }

// Public returns the public key.
func (s *Signer) Public() crypto.PublicKey { return s.key.Public() }

// Fits tells whether the certificates are valid now and the first is for host. If not, a new Signer is due.
func (s *Signer) Fits(host string, now time.Time) bool {
	for _, cert := range s.chain {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return false
		}
	}
	return s.chain[0].VerifyHostname(host) == nil
}

type signerRecord struct {
	Format int      `json:"v"`
	Key    []byte   `json:"key"`   // PKCS #8
	Chain  [][]byte `json:"chain"` // DER
}

// Marshal returns the signer as a record for ParseSigner. It is secret.
func (s *Signer) Marshal() ([]byte, error) {
	key, err := x509.MarshalPKCS8PrivateKey(s.key)
	if err != nil {
		return nil, err
	}
	rec := signerRecord{Format: signerFormat, Key: key}
	for _, cert := range s.chain {
		rec.Chain = append(rec.Chain, cert.Raw)
	}
	return json.Marshal(rec)
}

// ParseSigner opens a record of Marshal.
func ParseSigner(record []byte) (*Signer, error) {
	var head struct {
		Format int `json:"v"`
	}
	if err := json.Unmarshal(record, &head); err != nil {
		return nil, errors.New("release: the record of the signer is damaged")
	}
	if head.Format != signerFormat {
		return nil, fmt.Errorf("release: the record of the signer has format %d, this release knows %d: use a newer release",
			head.Format, signerFormat)
	}
	var rec signerRecord
	dec := json.NewDecoder(bytes.NewReader(record))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&rec); err != nil {
		return nil, errors.New("release: the record of the signer is damaged")
	}
	key, err := x509.ParsePKCS8PrivateKey(rec.Key)
	rsaKey, ok := key.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("release: the record of the signer holds no RSA key")
	}
	return newSigner(rsaKey, rec.Chain)
}

const redacted = "REDACTED"

// String, GoString, LogValue and MarshalJSON keep the key out of whatever prints or encodes it.
func (*Signer) String() string               { return redacted }
func (*Signer) GoString() string             { return redacted }
func (*Signer) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (*Signer) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Format keeps the key out of every verb of fmt, those for numbers and bytes too.
func (*Signer) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }
