package securitydomain

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/sdomain"
)

// CertificateInfo says for whom a security domain is wrapped. NewCertificateInfo makes one.
type CertificateInfo struct {
	// Certificates of the owners, 3 to 10. Each gets one share.
	Certificates []JSONWebKey `json:"certificates"`

	// Required is how many owners it takes to open the domain, 2 to 10. Zero means the service's default, which is 2.
	Required int `json:"required,omitempty"`
}

// JSONWebKey is a certificate on the wire: the public half of an RSA key (RFC 7517).
type JSONWebKey struct {
	Alg     string   `json:"alg,omitempty"`
	E       string   `json:"e,omitempty"`
	KeyOps  []string `json:"key_ops,omitempty"`
	KID     string   `json:"kid,omitempty"`
	Kty     string   `json:"kty,omitempty"`
	N       string   `json:"n,omitempty"`
	Use     string   `json:"use,omitempty"`
	X5C     []string `json:"x5c,omitempty"` // the certificate in DER and base64
	X5T     string   `json:"x5t,omitempty"`
	X5TS256 string   `json:"x5t#S256,omitempty"`
}

// SecurityDomain is the text of a file: a security domain as it was downloaded, or as Rewrap made it for an upload. Both are encrypted.
type SecurityDomain struct {
	Value string `json:"value"`
}

// TransferKey is what a security domain must be wrapped for before an HSM takes it.
type TransferKey struct {
	KeyFormat string // "jwk" or "pem", as the service said
	Key       JSONWebKey
}

// UnmarshalJSON reads the service's form, in which the key is a string with JSON or PEM in it, or an object.
func (k *TransferKey) UnmarshalJSON(raw []byte) error {
	var wire struct {
		Format string          `json:"key_format"`
		Key    json.RawMessage `json:"transfer_key"`
	}
	if err := json.Unmarshal(raw, &wire); err != nil {
		return err
	}
	text := string(wire.Key)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(wire.Key, &text); err != nil {
			return err
		}
	}
	c, err := sdomain.ParseTransferKey(strings.ToLower(wire.Format), text)
	if err != nil {
		return wrap(err)
	}
	*k = TransferKey{KeyFormat: wire.Format, Key: JSONWebKey(c.JWK())}
	if strings.HasPrefix(text, "{") {
		return json.Unmarshal([]byte(text), &k.Key)
	}
	return nil
}

// MarshalJSON writes the service's form.
func (k TransferKey) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(k.Key)
	if strings.EqualFold(k.KeyFormat, "pem") {
		text, err = k.PEM()
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]string{"key_format": k.KeyFormat, "transfer_key": string(text)})
}

// OperationStatus is how far an activation is.
type OperationStatus struct {
	Status        Status `json:"status"`
	StatusDetails string `json:"status_details"` // a sentence
}

// UnmarshalJSON reads the status in the service's spellings.
func (s *OperationStatus) UnmarshalJSON(raw []byte) error {
	var wire struct {
		Status  string `json:"status"`
		Details string `json:"status_details"`
		Older   string `json:"statusDetails"` // of a preview
	}
	if err := json.Unmarshal(raw, &wire); err != nil {
		return err
	}
	if wire.Status == "" {
		return fmt.Errorf("securitydomain: the HSM's answer has no status")
	}
	*s = OperationStatus{statusOf(wire.Status), wire.Details + wire.Older}
	return nil
}

// Status is one word for how far an activation is.
type Status string

// The statuses.
const (
	StatusInProgress Status = "InProgress"
	StatusSuccess    Status = "Success"
	StatusFailed     Status = "Failed"
)

// PossibleStatusValues returns all of them.
func PossibleStatusValues() []Status { return []Status{StatusFailed, StatusInProgress, StatusSuccess} }

// statusOf passes over letter case and takes the other words for the same.
func statusOf(text string) Status {
	switch strings.ToLower(text) {
	case "success", "succeeded":
		return StatusSuccess
	case "failed", "canceled", "cancelled":
		return StatusFailed
	case "inprogress":
		return StatusInProgress
	default:
		return Status(text)
	}
}

func (s Status) terminal() bool { return s == StatusSuccess || s == StatusFailed }
