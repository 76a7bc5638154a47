package sdomain

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
)

// ErrWrongDomain is wrapped by the error for something that the domain's keys do not open. Whether it belongs to another domain or was
// altered cannot be told.
var ErrWrongDomain = errors.New("belongs to another security domain, or was altered")

const (
	domainFormat = 1 // of the data and of the stored form
	wrapFormat   = 1 // of a wrapped key

	domainIDLen = 16
	minSalt     = 16

	// keyBackupKID is the kid in the service's backups of single keys.
	keyBackupKID = "backup-protection-key"

	// MaxKeyBackup is how many bytes a key's backup has at most.
	MaxKeyBackup = 32 << 20
)

// DomainKeys are the keys that a security domain holds: every HSM with this domain has them, and no other. Key material of such an HSM,
// backups of its keys and full backups are encrypted under them. They print as REDACTED and may be used concurrently.
type DomainKeys struct {
	id string

	// One key for each purpose, each in a datum of its own.
	wrapping   []byte // of key material, 32 bytes
	fullBackup []byte // of full backups, 32 bytes
	keyBackup  []byte // of single keys' backups, the key of a JWE

	extra []Datum // under tags that are not ours, kept as they came

	wrap cipher.AEAD
}

// NewDomainKeys makes a new security domain.
func NewDomainKeys() (*DomainKeys, error) {
	k := &DomainKeys{id: hex.EncodeToString(randomBytes(domainIDLen))}
	for _, p := range k.parts() {
		*p.key = randomBytes(p.size)
	}
	return k, k.init()
}

// A part is one of the keys and where it lies.
type part struct {
	tag, use string
	size     int
	key      *[]byte
}

func (k *DomainKeys) parts() []part {
	return []part{
		{tagHSM, "key-wrapping", 32, &k.wrapping},
		{tagBase, "full-backup", 32, &k.fullBackup},
		{tagPartition, keyBackupKID, cekLen, &k.keyBackup},
	}
}

// init derives what is derived once.
func (k *DomainKeys) init() error {
	key, err := hkdf.Expand(sha256.New, k.wrapping, "strongroom managed hsm key v1", 32)
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	// Random nonces are good for 2^32 wrapped keys (NIST SP 800-38D, 8.3).
	k.wrap, err = cipher.NewGCMWithRandomNonce(block)
	return err
}

// ID names the domain. It is not secret.
func (k *DomainKeys) ID() string { return k.id }

// datum is the form of the data that are ours, in JSON. The use guards against values that have changed places.
type datum struct {
	Format int    `json:"v"`
	Domain string `json:"domain"`
	Use    string `json:"use"`
	Key    []byte `json:"key"`
}

// Data returns what goes into a security-domain file.
func (k *DomainKeys) Data() ([]Datum, error) {
	if k.wrap == nil {
		return nil, errNoKeys
	}
	var data []Datum
	for _, p := range k.parts() {
		raw, err := json.Marshal(datum{domainFormat, k.id, p.use, *p.key})
		if err != nil {
			return nil, err
		}
		data = append(data, Datum{p.tag, raw})
	}
	return append(data, k.extra...), nil
}

// errNoKeys guards against the zero value, whose keys everybody knows.
var errNoKeys = errors.New("sdomain: the domain has no keys")

// ParseDomainKeys reads what Data returned, in any order. Data under other tags are kept.
func ParseDomainKeys(data []Datum) (*DomainKeys, error) {
	if err := checkData(data); err != nil {
		return nil, fmt.Errorf("the security domain %w", err)
	}
	k := new(DomainKeys)
	for _, p := range k.parts() {
		i := slices.IndexFunc(data, func(d Datum) bool { return d.Tag == p.tag })
		if i < 0 {
			return nil, fmt.Errorf("the security domain has no datum %q", p.tag)
		}
		if err := k.take(p, data[i].Value); err != nil {
			return nil, fmt.Errorf("the security domain's datum %q %w", p.tag, err)
		}
	}
	for _, d := range data {
		if !slices.ContainsFunc(k.parts(), func(p part) bool { return p.tag == d.Tag }) {
			k.extra = append(k.extra, Datum{d.Tag, bytes.Clone(d.Value)})
		}
	}
	return k, k.init()
}

// take reads one of the keys.
func (k *DomainKeys) take(p part, raw []byte) error {
	var d datum
	if err := decodeRecord(raw, &d); errors.Is(err, errNotOurs) {
		return fmt.Errorf("%w: only security domains of its own managed HSMs can be used", err)
	} else if err != nil {
		return err
	}
	switch id, err := hex.DecodeString(d.Domain); {
	case err != nil || len(id) != domainIDLen || d.Domain != strings.ToLower(d.Domain):
		return errors.New("does not name its domain")
	case k.id != "" && k.id != d.Domain:
		return errors.New("is of another domain than the data before it")
	case d.Use != p.use || len(d.Key) != p.size:
		return fmt.Errorf("does not hold a key of %d bytes for %s", p.size, p.use)
	}
	k.id, *p.key = d.Domain, d.Key
	return nil
}

// stored is the form in which a store keeps the keys. The data carry the versions of their own formats.
type stored struct {
	Format int           `json:"v"`
	Data   []storedDatum `json:"data"`
}

type storedDatum struct {
	Tag   string `json:"tag"`
	Value []byte `json:"value"`
}

// MarshalBinary returns the keys as UnmarshalBinary reads them. The result is secret.
func (k *DomainKeys) MarshalBinary() ([]byte, error) {
	data, err := k.Data()
	if err != nil {
		return nil, err
	}
	s := stored{Format: domainFormat}
	for _, d := range data {
		s.Data = append(s.Data, storedDatum(d))
	}
	return json.Marshal(s)
}

// UnmarshalBinary reads what MarshalBinary returned.
func (k *DomainKeys) UnmarshalBinary(raw []byte) error {
	var s stored
	if err := decodeRecord(raw, &s); err != nil {
		return fmt.Errorf("sdomain: the record of a security domain %w", err)
	}
	var data []Datum
	for _, d := range s.Data {
		data = append(data, Datum(d))
	}
	parsed, err := ParseDomainKeys(data)
	if err != nil {
		return err
	}
	*k = *parsed
	return nil
}

// WrapKey encrypts the material of one version of a key. The name's letter case does not matter.
func (k *DomainKeys) WrapKey(name, version string, blob []byte) ([]byte, error) {
	if k.wrap == nil {
		return nil, errNoKeys
	}
	return k.wrap.Seal([]byte{wrapFormat}, nil, blob, wrapContext(name, version)), nil
}

// UnwrapKey opens what WrapKey returned for the same version of the same key. The error wraps ErrWrongDomain if it does not open.
func (k *DomainKeys) UnwrapKey(name, version string, wrapped []byte) ([]byte, error) {
	if k.wrap == nil {
		return nil, errNoKeys
	}
	if len(wrapped) == 0 || wrapped[0] != wrapFormat {
		return nil, errors.New("sdomain: the key's material is not of a form that this release knows")
	}
	blob, err := k.wrap.Open(nil, nil, wrapped[1:], wrapContext(name, version))
	if err != nil {
		return nil, fmt.Errorf("sdomain: the key's material %w", ErrWrongDomain)
	}
	return blob, nil
}

// wrapContext is authenticated with a key's material.
func wrapContext(name, version string) []byte {
	name = strings.ToLower(name)
	context := binary.BigEndian.AppendUint32([]byte{wrapFormat}, uint32(len(name)))
	return append(append(context, name...), version...)
}

// SealKeyBackup encrypts the backup of a single key as the service does.
func (k *DomainKeys) SealKeyBackup(plaintext []byte) (string, error) {
	if k.wrap == nil {
		return "", errNoKeys
	}
	return sealDirect(keyBackupKID, k.keyBackup, plaintext)
}

// OpenKeyBackup opens what SealKeyBackup returned. The error wraps ErrWrongDomain if it is in the right form and does not open; another
// error's text goes after "the backup".
func (k *DomainKeys) OpenKeyBackup(text string) ([]byte, error) {
	if k.wrap == nil {
		return nil, errNoKeys
	}
	plaintext, err := openDirect(text, MaxKeyBackup, k.keyBackup)
	if errors.Is(err, errSealed) {
		return nil, ErrWrongDomain
	}
	return plaintext, err
}

// BackupKey derives the key of 32 bytes of one full backup, whose salt is random and not secret.
func (k *DomainKeys) BackupKey(salt []byte) ([]byte, error) {
	if k.wrap == nil {
		return nil, errNoKeys
	}
	if len(salt) < minSalt {
		return nil, fmt.Errorf("sdomain: a backup's salt has %d bytes, and not at least %d", len(salt), minSalt)
	}
	return hkdf.Key(sha256.New, k.fullBackup, salt, "strongroom managed hsm backup v1", 32)
}

// Format, LogValue and MarshalJSON keep the keys out of whatever prints or encodes them.
func (DomainKeys) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (DomainKeys) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (DomainKeys) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

var errNotOurs = errors.New("is not of a form that Strongroom writes")

// decodeRecord reads JSON that DomainKeys has written. Errors leave out what encoding/json says, which might quote what is secret.
func decodeRecord(raw []byte, v any) error {
	var head struct {
		Format int `json:"v"`
	}
	if err := json.Unmarshal(raw, &head); err != nil || head.Format < 1 {
		return errNotOurs
	}
	if head.Format > domainFormat {
		return fmt.Errorf("has format %d, this release knows %d: use a newer release", head.Format, domainFormat)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if dec.Decode(v) != nil {
		return errors.New("has members that this release does not know")
	}
	return nil
}
