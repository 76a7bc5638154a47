package sdomain

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"time"
)

const (
	transferBits     = 4096
	transferLifetime = 365 * 24 * time.Hour
	maxCommonName    = 64 // RFC 5280, ub-common-name
)

// A TransferKey is what an HSM that waits for a security domain has it wrapped for. It prints as REDACTED.
type TransferKey struct {
	key         *rsa.PrivateKey
	certificate Certificate
}

// NewTransferKey makes a transfer key for the HSM with this host name. It computes for seconds.
func NewTransferKey(host string, now time.Time) (*TransferKey, error) {
	key, err := rsa.GenerateKey(rand.Reader, transferBits)
	if err != nil {
		return nil, err
	}
	name := host
	if name == "" || len(name) > maxCommonName {
		name = "transfer-key"
	}
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(append([]byte{0x40}, randomBytes(15)...)),
		Subject:      pkix.Name{CommonName: name}, NotBefore: now.Add(-time.Hour), NotAfter: now.Add(transferLifetime),
		KeyUsage: x509.KeyUsageKeyEncipherment, BasicConstraintsValid: true, SignatureAlgorithm: x509.SHA256WithRSA,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	c, err := parseDER(der)
	if err != nil {
		return nil, err
	}
	return &TransferKey{key, c}, nil
}

// Certificate is what the key is known by.
func (tk *TransferKey) Certificate() Certificate { return tk.certificate }

// JWK is the certificate as the service gives it out: JSON, which goes into a JSON string.
func (tk *TransferKey) JWK() (string, error) {
	k := tk.certificate.JWK()
	k.Alg, k.KID, k.KeyOps = "", restoreKID, []string{"wrapKey", "verify", "encrypt"}
	raw, err := json.Marshal(k)
	return string(raw), err
}

const transferFormat = 1

type storedTransferKey struct {
	Format      int    `json:"v"`
	Key         []byte `json:"key"` // PKCS#8
	Certificate []byte `json:"certificate"`
}

// MarshalBinary returns the key as UnmarshalBinary reads it. The result is secret.
func (tk *TransferKey) MarshalBinary() ([]byte, error) {
	if tk.key == nil {
		return nil, errors.New("sdomain: there is no transfer key")
	}
	der, err := x509.MarshalPKCS8PrivateKey(tk.key)
	if err != nil {
		return nil, err
	}
	return json.Marshal(storedTransferKey{transferFormat, der, tk.certificate.x509.Raw})
}

// UnmarshalBinary reads what MarshalBinary returned.
func (tk *TransferKey) UnmarshalBinary(raw []byte) error {
	var s storedTransferKey
	if err := decodeRecord(raw, &s); err != nil {
		return fmt.Errorf("sdomain: the record of a transfer key %w", err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(s.Key)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return errors.New("sdomain: the record of a transfer key holds no RSA key")
	}
	c, err := parseDER(s.Certificate)
	if err != nil || !c.public.Equal(key.Public()) {
		return errors.New("sdomain: the record of a transfer key holds no certificate of the key")
	}
	*tk = TransferKey{key, c}
	return nil
}

// Format, LogValue and MarshalJSON keep the key out of whatever prints or encodes it.
func (TransferKey) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (TransferKey) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (TransferKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// ParseTransferKey takes the certificate out of what the service gives out as a transfer key, in its formats "jwk" and "pem".
func ParseTransferKey(format, text string) (Certificate, error) {
	c, err := parseTransferKey(format, text)
	if err != nil {
		return Certificate{}, fmt.Errorf("the transfer key %w", err)
	}
	return c, nil
}

func parseTransferKey(format, text string) (Certificate, error) {
	switch {
	case format == "pem":
		return ParseCertificate([]byte(text))
	case format != "jwk" && format != "":
		return Certificate{}, fmt.Errorf("is in the format %.40q, and not jwk or pem", format)
	case len(text) > 2*base64.StdEncoding.EncodedLen(maxCertificate):
		return Certificate{}, fmt.Errorf("%w: it is too long", ErrCertificate)
	}
	var k JWK
	if err := json.Unmarshal([]byte(text), &k); err != nil {
		return Certificate{}, fmt.Errorf("%w: it is not a JWK", ErrCertificate)
	}
	return CertificateFromJWK(k)
}

// PEM is the certificate as a file.
func (c Certificate) PEM() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.x509.Raw})
}
