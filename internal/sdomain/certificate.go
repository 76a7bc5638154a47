package sdomain

import (
	"bytes"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
)

// A JWK is a certificate as it goes over the wire. The members are in the order of the service.
type JWK struct {
	Alg     string   `json:"alg,omitempty"`
	E       string   `json:"e,omitempty"`
	KeyOps  []string `json:"key_ops,omitempty"`
	KID     string   `json:"kid,omitempty"`
	Kty     string   `json:"kty,omitempty"`
	N       string   `json:"n,omitempty"`
	Use     string   `json:"use,omitempty"`
	X5C     []string `json:"x5c,omitempty"`
	X5T     string   `json:"x5t,omitempty"`
	X5TS256 string   `json:"x5t#S256,omitempty"`
}

const maxCertificate = 32 << 10

// A Certificate is one that something can be wrapped for. Who issued it, and for how long, does not matter: it only carries a key that
// its owner has chosen.
type Certificate struct {
	x509   *x509.Certificate
	public *rsa.PublicKey
}

// NewCertificate takes a certificate of an RSA key.
func NewCertificate(c *x509.Certificate) (Certificate, error) {
	if c == nil || len(c.Raw) == 0 {
		return Certificate{}, ErrCertificate
	}
	public, err := publicRSA(c.PublicKey)
	if err != nil {
		return Certificate{}, fmt.Errorf("%w: its key %w", ErrCertificate, err)
	}
	// There are RSA keys that are not good for anything, and some that FIPS 140 does not allow: such as with the exponent 3.
	if _, err := rsa.EncryptOAEP(sha256.New(), rand.Reader, public, nil, nil); err != nil {
		return Certificate{}, fmt.Errorf("%w: nothing can be encrypted to its key: %w", ErrCertificate, err)
	}
	return Certificate{c, public}, nil
}

// ParseCertificate reads a file with a certificate, in PEM or in DER. Of several in PEM it takes the first.
func ParseCertificate(file []byte) (Certificate, error) {
	if len(file) > maxCertificate {
		return Certificate{}, fmt.Errorf("%w: it is longer than %d bytes", ErrCertificate, maxCertificate)
	}
	der := file
	if bytes.Contains(file, []byte("-----BEGIN ")) {
		var block *pem.Block
		for rest := file; ; {
			if block, rest = pem.Decode(rest); block == nil {
				return Certificate{}, fmt.Errorf("%w: there is no CERTIFICATE in the PEM", ErrCertificate)
			} else if block.Type == "CERTIFICATE" {
				break
			}
		}
		der = block.Bytes
	}
	return parseDER(der)
}

func parseDER(der []byte) (Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return Certificate{}, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	return NewCertificate(c)
}

// CertificateFromJWK takes the certificate in a JWK. What else the JWK says of the key must be true.
func CertificateFromJWK(k JWK) (Certificate, error) {
	if len(k.X5C) == 0 {
		return Certificate{}, fmt.Errorf("%w: x5c is missing", ErrCertificate)
	}
	if len(k.X5C[0]) > base64.StdEncoding.EncodedLen(maxCertificate) {
		return Certificate{}, fmt.Errorf("%w: it is longer than %d bytes", ErrCertificate, maxCertificate)
	}
	der, err := base64.StdEncoding.DecodeString(k.X5C[0])
	if err != nil {
		return Certificate{}, fmt.Errorf("%w: x5c[0] is not in base64", ErrCertificate)
	}
	c, err := parseDER(der)
	if err != nil {
		return Certificate{}, err
	}
	if member := c.contradiction(k); member != "" {
		return Certificate{}, fmt.Errorf("%w: %s is not that of the certificate in x5c[0]", ErrCertificate, member)
	}
	return c, nil
}

// contradiction is the first member of the JWK that is not as in the certificate.
func (c Certificate) contradiction(k JWK) string {
	for _, m := range []struct {
		name, value string
		want        []byte
		number      bool
	}{
		{"n", k.N, c.public.N.Bytes(), true},
		{"e", k.E, big.NewInt(int64(c.public.E)).Bytes(), true},
		{"x5t", k.X5T, c.sha1(), false},
		{"x5t#S256", k.X5TS256, c.SHA256(), false},
	} {
		if m.value == "" {
			continue
		}
		got, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(m.value, "="))
		if m.number {
			got = bytes.TrimLeft(got, "\x00")
		}
		if err != nil || !bytes.Equal(got, m.want) {
			return m.name
		}
	}
	if k.Kty != "" && k.Kty != "RSA" && k.Kty != "RSA-HSM" {
		return "kty"
	}
	return ""
}

// JWK is the certificate as a request for a security domain has it.
func (c Certificate) JWK() JWK {
	return JWK{
		Kty: "RSA", KeyOps: []string{"verify", "encrypt", "wrapKey"}, Alg: algRSA,
		N: encodeBase64URL(c.public.N.Bytes()), E: encodeBase64URL(big.NewInt(int64(c.public.E)).Bytes()),
		X5C: []string{base64.StdEncoding.EncodeToString(c.x509.Raw)}, X5T: encodeBase64URL(c.sha1()), X5TS256: c.Thumbprint(),
	}
}

// X509 is the certificate itself.
func (c Certificate) X509() *x509.Certificate { return c.x509 }

// Thumbprint is the SHA-256 of the certificate in base64url, by which files name it.
func (c Certificate) Thumbprint() string { return thumbprint(c.x509) }

// sha1 is only a name of the certificate, which the wire wants, so it is no matter of FIPS 140.
func (c Certificate) sha1() (sum []byte) {
	fips140.WithoutEnforcement(func() {
		s := sha1.Sum(c.x509.Raw)
		sum = s[:]
	})
	return sum
}

// SHA256 is that of the certificate.
func (c Certificate) SHA256() []byte {
	sum := sha256.Sum256(c.x509.Raw)
	return sum[:]
}

func thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return encodeBase64URL(sum[:])
}

// Limits on who holds a security domain.
const (
	MinCertificates = 3
	MaxCertificates = 10
	MinQuorum       = 2
	MaxQuorum       = 10
)

// CheckQuorum says what is wrong with a request for a domain that any required of the holders of certs can open.
func CheckQuorum(certs []Certificate, required int) error {
	n := len(certs)
	switch {
	case n < MinCertificates || n > MaxCertificates:
		return fmt.Errorf("%d %w: there must be %d to %d certificates", n, ErrQuorum, MinCertificates, MaxCertificates)
	case required < MinQuorum || required > MaxQuorum:
		return fmt.Errorf("%d of %d %w: it must be from %d to %d", required, n, ErrQuorum, MinQuorum, MaxQuorum)
	case required > n:
		return fmt.Errorf("%d of %d %w: it must not be larger than the number of certificates", required, n, ErrQuorum)
	}
	for i, c := range certs {
		if c.x509 == nil {
			return fmt.Errorf("certificate %d %w", i+1, ErrCertificate)
		}
		for j, other := range certs[:i] {
			if bytes.Equal(c.x509.Raw, other.x509.Raw) {
				return fmt.Errorf("certificate %d %w: it is number %d, too", i+1, ErrDuplicate, j+1)
			}
			if c.public.Equal(other.public) {
				return fmt.Errorf("the key of certificate %d %w: it is that of number %d, so one holder would have two shares", i+1, ErrDuplicate, j+1)
			}
		}
	}
	return nil
}
