// Package sdomain is the security domain of a managed HSM: what makes its keys usable, in a file that only a quorum of its owners
// can open. Bytes go in and bytes come out; the package knows no store and no network.
//
// DomainKeys is what a domain holds of ours. The rest is the format of the file, which Azure's tools read and write, too.
package sdomain

import (
	"fmt"
	"io"
	"log/slog"
)

// A Datum is one of the secrets in a security domain. It prints without its value.
type Datum struct {
	Tag   string
	Value []byte
}

// The tags that the service gives to what is in a security domain, in its order.
const (
	tagHSM       = "hsm_backup"
	tagBase      = "base_enclave_backup"
	tagPartition = "partition_enclave_backup"
)

// Bounds on a security domain. The service's has three data, the longest of some 8 kB.
const (
	MaxData   = 16        // data in a domain
	maxDatum  = 256 << 10 // bytes of one
	maxTagLen = 128
)

const redacted = "REDACTED"

// Format, LogValue and MarshalJSON keep the value out of whatever prints or encodes it.
func (Datum) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Datum) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Datum) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// checkData refuses data that cannot be told apart or are out of bounds.
func checkData(data []Datum) error {
	if len(data) > MaxData {
		return fmt.Errorf("has %d data, and not at most %d", len(data), MaxData)
	}
	seen := make(map[string]bool, len(data))
	for _, d := range data {
		switch {
		case d.Tag == "" || len(d.Tag) > maxTagLen:
			return fmt.Errorf("has a datum whose tag is not of 1 to %d bytes", maxTagLen)
		case seen[d.Tag]:
			return fmt.Errorf("has the datum %q twice", d.Tag)
		case len(d.Value) > maxDatum:
			return fmt.Errorf("has more than %d bytes in its datum %q", maxDatum, d.Tag)
		}
		seen[d.Tag] = true
	}
	return nil
}
