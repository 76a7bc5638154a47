package sdomain

import (
	"bytes"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/google/uuid"
)

const (
	// MaxFile is how many bytes a security domain, or a blob that restores one, has at most.
	MaxFile = 2 << 20

	maxDatumJWE = 96 << 10 // of maxDatum bytes in base64, and a header
	maxPairs    = MaxCertificates * (MaxCertificates - 1) / 2

	algorithmShamir = "shamir_share"
	algorithmXOR    = "xor_split"
)

// fileJSON is a security domain as it is written. The members are in the order of the service. Version 2 has SharedKeys, version 1, which
// is only read, SplitKeys.
type fileJSON struct {
	EncData    *encData    `json:"EncData"`
	SharedKeys *sharedKeys `json:"SharedKeys,omitempty"`
	SplitKeys  *splitKeys  `json:"SplitKeys,omitempty"`
	Version    *int        `json:"version,omitempty"`
}

type encData struct {
	Data []encDatum `json:"data"`
	KDF  string     `json:"kdf"`
}

type encDatum struct {
	JWE string `json:"compact_jwe"`
	Tag string `json:"tag"`
}

type sharedKeys struct {
	Shares    []encKey `json:"enc_shares"`
	Algorithm string   `json:"key_algorithm"`
	Required  int      `json:"required"`
}

type splitKeys struct {
	Algorithm string    `json:"key_algorithm"`
	Keys      []keyPair `json:"keys"`
}

type keyPair struct {
	Key1 encKey `json:"key1"`
	Key2 encKey `json:"key2"`
}

// An encKey is a part of the master key, or all of it, wrapped for a certificate.
type encKey struct {
	JWE        string `json:"enc_key"`
	Thumbprint string `json:"x5t_256"`
}

// A File is a security domain that was read but not opened.
type File struct {
	version  int
	required int
	data     []encDatum
	shares   []encKey  // version 2
	pairs    []keyPair // version 1
}

// Parse reads a security domain of version 2 or 1. Members that are not known are passed over.
func Parse(file []byte) (*File, error) {
	var raw fileJSON
	if err := decodeBlob(file, &raw); err != nil {
		return nil, fmt.Errorf("the file %w", err)
	}
	f, err := raw.file()
	if err != nil {
		return nil, fmt.Errorf("the file %w", err)
	}
	return f, nil
}

func (raw *fileJSON) file() (*File, error) {
	if err := raw.EncData.check(); err != nil {
		return nil, err
	}
	f := &File{version: 2, required: MinQuorum, data: raw.EncData.Data}
	if raw.Version != nil {
		f.version = *raw.Version
	} else if raw.SharedKeys == nil && raw.SplitKeys != nil {
		f.version = 1
	}
	switch {
	case f.version == 2 && raw.SharedKeys != nil:
		f.required, f.shares = raw.SharedKeys.Required, raw.SharedKeys.Shares
		return f, raw.SharedKeys.check()
	case f.version == 1 && raw.SplitKeys != nil:
		f.pairs = raw.SplitKeys.Keys
		return f, raw.SplitKeys.check()
	case f.version == 1:
		return nil, fmt.Errorf("%w: SplitKeys is missing", ErrMalformed)
	case f.version == 2:
		return nil, fmt.Errorf("%w: SharedKeys is missing", ErrMalformed)
	default:
		return nil, fmt.Errorf("%w: %d, and not 2 or 1", ErrVersion, f.version)
	}
}

// check looks at what both versions and the restore blob have. JWEs are looked at when they are opened.
func (e *encData) check() error {
	if e == nil {
		return fmt.Errorf("%w: EncData is missing", ErrMalformed)
	}
	if e.KDF != "" && e.KDF != kdfName { // some writers leave it out
		return fmt.Errorf("%w: kdf is %.40q, and not %s", ErrMalformed, e.KDF, kdfName)
	}
	data := make([]Datum, len(e.Data))
	for i, d := range e.Data {
		data[i].Tag = d.Tag
	}
	if err := checkData(data); err != nil {
		return fmt.Errorf("%w: it %w", ErrMalformed, err)
	}
	return nil
}

func (s *sharedKeys) check() error {
	switch n := len(s.Shares); {
	case s.Algorithm != algorithmShamir:
		return fmt.Errorf("%w: key_algorithm is %.40q, and not %s", ErrMalformed, s.Algorithm, algorithmShamir)
	case s.Required < MinQuorum || s.Required > MaxQuorum:
		return fmt.Errorf("%w: required is %d, and not from %d to %d", ErrMalformed, s.Required, MinQuorum, MaxQuorum)
	case n < s.Required || n > MaxCertificates:
		return fmt.Errorf("%w: there are %d shares, and not %d to %d", ErrMalformed, n, s.Required, MaxCertificates)
	}
	for i, share := range s.Shares {
		for _, other := range s.Shares[:i] {
			if share.Thumbprint == other.Thumbprint {
				return fmt.Errorf("%w: the share of certificate %.50q %w", ErrMalformed, share.Thumbprint, ErrDuplicate)
			}
		}
	}
	return nil
}

func (s *splitKeys) check() error {
	switch n := len(s.Keys); {
	case s.Algorithm != algorithmXOR:
		return fmt.Errorf("%w: key_algorithm is %.40q, and not %s", ErrMalformed, s.Algorithm, algorithmXOR)
	case n == 0 || n > maxPairs:
		return fmt.Errorf("%w: there are %d pairs of keys, and not 1 to %d", ErrMalformed, n, maxPairs)
	}
	return nil
}

// decodeBlob reads the JSON of a file that may have been saved in base64url, or with a mark of its encoding.
func decodeBlob(blob []byte, v any) error {
	if len(blob) > MaxFile {
		return fmt.Errorf("%w: it is longer than %d bytes", ErrMalformed, MaxFile)
	}
	blob = bytes.TrimSpace(bytes.TrimPrefix(blob, []byte("\ufeff")))
	if len(blob) > 0 && blob[0] != '{' {
		raw, err := decodeBase64URL(strings.TrimRight(string(blob), "="))
		if err != nil {
			return fmt.Errorf("%w: it is neither JSON nor base64url", ErrMalformed)
		}
		blob = raw
	}
	if !json.Valid(blob) {
		return fmt.Errorf("%w: it is not JSON", ErrMalformed)
	}
	if json.Unmarshal(blob, v) != nil {
		return fmt.Errorf("%w: one of its members has another type", ErrMalformed)
	}
	return nil
}

// Version is the format's.
func (f *File) Version() int { return f.version }

// Required is how many keys open the domain.
func (f *File) Required() int { return f.required }

// Tags are the names of what is in it.
func (f *File) Tags() []string {
	tags := make([]string, len(f.data))
	for i, d := range f.data {
		tags[i] = d.Tag
	}
	return tags
}

// Thumbprints name the certificates whose holders have shares, by their SHA-256 in base64url.
func (f *File) Thumbprints() []string {
	var all []string
	for _, k := range f.encKeys() {
		all = append(all, k.Thumbprint)
	}
	return all
}

// Seal makes the file of a security domain that any required of the certificates' holders can open. Each is sealed under a new master
// key, so shares of two files do not go together.
func Seal(data []Datum, certs []Certificate, required int) ([]byte, error) {
	if err := CheckQuorum(certs, required); err != nil {
		return nil, err
	}
	master := randomBytes(masterLen)
	defer clear(master)
	enc, err := sealData(data, master)
	if err != nil {
		return nil, err
	}
	shares, err := split(master, required, len(certs))
	if err != nil {
		return nil, err
	}
	keys := &sharedKeys{Algorithm: algorithmShamir, Required: required}
	for i, c := range certs {
		wrapped, err := sealRSA(uuid.NewString(), c.public, shares[i])
		if err != nil {
			return nil, err
		}
		clear(shares[i])
		keys.Shares = append(keys.Shares, encKey{wrapped, c.Thumbprint()})
	}
	version := 2
	return json.Marshal(fileJSON{EncData: enc, SharedKeys: keys, Version: &version})
}

// sealData encrypts each datum under a key of its own.
func sealData(data []Datum, master []byte) (*encData, error) {
	if err := checkData(data); err != nil {
		return nil, fmt.Errorf("the security domain %w", err)
	}
	enc := &encData{KDF: kdfName, Data: []encDatum{}}
	for _, d := range data {
		text, err := sealDirect(d.Tag, deriveKey(master, d.Tag), d.Value)
		if err != nil {
			return nil, err
		}
		enc.Data = append(enc.Data, encDatum{text, d.Tag})
	}
	return enc, nil
}

// openData opens the data, in their order. If it fails, opened tells whether the master key is the right one nevertheless.
func openData(enc []encDatum, master []byte) (data []Datum, opened bool, err error) {
	for _, d := range enc {
		value, openErr := openDirect(d.JWE, maxDatumJWE, deriveKey(master, d.Tag))
		switch {
		case errors.Is(openErr, errSealed):
			err = fmt.Errorf("its datum %q %w", d.Tag, ErrAltered)
			continue
		case openErr != nil:
			err = fmt.Errorf("its datum %q %w: it %w", d.Tag, ErrAltered, openErr)
			continue
		}
		opened = true
		data = append(data, Datum{d.Tag, value})
	}
	if err != nil {
		return nil, opened, err
	}
	return data, true, checkData(data)
}

func xor(a, b []byte) ([]byte, bool) {
	if len(a) != masterLen || len(b) != masterLen {
		return nil, false
	}
	out := make([]byte, masterLen)
	subtle.XORBytes(out, a, b)
	return out, true
}
