package backup

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"
)

// A blobKind is the folder of a blob inside of a backup's.
type blobKind string

const (
	dataBlob  blobKind = "data"
	indexBlob blobKind = "index"

	manifestName = "manifest.json"
	version      = 1
	overhead     = 12 + 16 // of a sealed blob
)

var (
	blobPattern = regexp.MustCompile(`^[0-9]{6}-[0-9a-f]{16}$`)
	runPattern  = regexp.MustCompile(`^[0-9a-f]{16}$`)
	idPattern   = regexp.MustCompile(`^[0-9a-f]{32}$`)
)

// keys are the derived keys of one backup.
type keys struct {
	id    string // of the backup
	blobs cipher.AEAD
	mac   []byte
}

// deriveKeys returns the keys of the backup with this id and salt.
func deriveKeys(domain Keys, id string, salt []byte) (*keys, error) {
	secret, err := domain.BackupKey(salt)
	if err != nil {
		return nil, err
	}
	if len(secret) != 32 {
		return nil, fmt.Errorf("backup: the key has %d bytes, not 32", len(secret))
	}
	blobs, err := hkdf.Expand(sha256.New, secret, "strongroom backup blobs v1", 32)
	if err != nil {
		return nil, err
	}
	mac, err := hkdf.Expand(sha256.New, secret, "strongroom backup manifest v1", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(blobs)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	if err != nil {
		return nil, err
	}
	return &keys{id: id, blobs: aead, mac: mac}, nil
}

func (k *keys) context(kind blobKind, number int) []byte {
	b := []byte("strongroom backup v1\x00" + string(kind) + "\x00" + k.id + "\x00")
	return binary.BigEndian.AppendUint64(b, uint64(number))
}

// seal appends the sealed plaintext to dst.
func (k *keys) seal(dst []byte, kind blobKind, number int, plaintext []byte) []byte {
	return k.blobs.Seal(dst, nil, plaintext, k.context(kind, number))
}

// open returns the plaintext of a blob, if it is the one that ref names.
func (k *keys) open(kind blobKind, ref blobRef, sealed []byte) ([]byte, error) {
	if sum := sha256.Sum256(sealed); len(sealed) != ref.Size || !bytes.Equal(sum[:], ref.SHA256) {
		return nil, damaged("%s was altered", ref.name(kind))
	}
	plaintext, err := k.blobs.Open(nil, nil, sealed, k.context(kind, ref.Number))
	if err != nil {
		return nil, damaged("%s does not open", ref.name(kind))
	}
	return plaintext, nil
}

// A blobRef says which blob is meant.
type blobRef struct {
	Number int    `json:"n"`
	Run    string `json:"run"`
	Size   int    `json:"size"`
	SHA256 []byte `json:"sha256"`
}

func (r blobRef) name(kind blobKind) string { return fmt.Sprintf("%s/%06d-%s", kind, r.Number, r.Run) }

func (r blobRef) check(limit int) error {
	if r.Number < 1 || r.Number > maxIndexes*chunksInIndex || !runPattern.MatchString(r.Run) ||
		r.Size <= overhead || r.Size > limit+overhead || len(r.SHA256) != sha256.Size {
		return errors.New("a blob's description makes no sense")
	}
	return nil
}

// A chunk is a data blob in an index.
type chunk struct {
	blobRef
	Records int    `json:"records"`
	First   string `json:"first"`
	Last    string `json:"last"`
}

// index is the content of an index blob.
type index struct {
	Version int     `json:"v"`
	Chunks  []chunk `json:"chunks"`
}

// parseIndex reads the index blob with this number of a backup with so many data blobs.
func parseIndex(raw []byte, number, chunks int) ([]chunk, error) {
	var ix index
	if err := decode(raw, &ix); err != nil {
		return nil, err
	}
	first := (number-1)*chunksInIndex + 1
	if ix.Version != version || len(ix.Chunks) != min(chunksInIndex, chunks-first+1) {
		return nil, errors.New("wrong version or count")
	}
	last := ""
	for i, c := range ix.Chunks {
		if err := c.check(chunkSize); err != nil {
			return nil, err
		}
		if c.Number != first+i || c.Records < 1 || c.First == "" || c.First < last || c.Last < c.First {
			return nil, errors.New("wrong order")
		}
		last = c.Last
	}
	return ix.Chunks, nil
}

// A Manifest says what a backup is.
type Manifest struct {
	Version  int       `json:"v"`
	ID       string    `json:"id"`
	Domain   string    `json:"domain"` // Keys.ID
	Salt     []byte    `json:"salt"`
	HSM      string    `json:"hsm"`
	Folder   string    `json:"folder"` // so that no older backup can be passed off as this one
	Started  time.Time `json:"started"`
	Finished time.Time `json:"finished"`
	Records  int64     `json:"records"`
	Chunks   int       `json:"chunks"` // data blobs
	Bytes    int64     `json:"bytes"`  // of them
	Indexes  []blobRef `json:"indexes"`
}

// signed is the manifest as it is stored. The authenticator is over the bytes as they stand there, so that it does not
// depend on how JSON is written.
type signed struct {
	Manifest json.RawMessage `json:"manifest"`
	MAC      []byte          `json:"mac"`
}

func (k *keys) authenticator(manifest []byte) []byte {
	h := hmac.New(sha256.New, k.mac)
	h.Write(manifest)
	return h.Sum(nil)
}

func (k *keys) marshalManifest(m *Manifest) ([]byte, error) {
	body, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	return json.Marshal(signed{Manifest: body, MAC: k.authenticator(body)})
}

// openManifest reads a manifest, finds its key and verifies it.
func openManifest(raw []byte, domain Keys) (*Manifest, *keys, error) {
	var file signed
	if err := decode(raw, &file); err != nil {
		return nil, nil, damaged("%s cannot be read", manifestName)
	}
	var format struct {
		Version int `json:"v"`
	}
	if err := json.Unmarshal(file.Manifest, &format); err != nil {
		return nil, nil, damaged("%s cannot be read", manifestName)
	}
	if format.Version > version {
		return nil, nil, newError(Unsupported, "The backup has format %d, this release knows %d: use a newer release.", format.Version, version)
	}
	var m Manifest
	if err := decode(file.Manifest, &m); err != nil || m.check() != nil {
		return nil, nil, damaged("%s makes no sense", manifestName)
	}
	if m.Domain != domain.ID() {
		return nil, nil, newError(WrongDomain, "The backup was made with the security domain %.64q, and this one is %s. Restore it into an HSM "+
			"to which the security domain of the backup's HSM was uploaded.", m.Domain, domain.ID())
	}
	k, err := deriveKeys(domain, m.ID, m.Salt)
	if err != nil {
		return nil, nil, err
	}
	if !hmac.Equal(file.MAC, k.authenticator(file.Manifest)) {
		return nil, nil, damaged("%s was altered", manifestName)
	}
	return &m, k, nil
}

func (m *Manifest) check() error {
	wrong := m.Version != version || !idPattern.MatchString(m.ID) || len(m.Salt) != saltSize || m.Records < 0 || m.Bytes < 0 ||
		m.Chunks < 0 || len(m.Indexes) > maxIndexes || len(m.Indexes) != (m.Chunks+chunksInIndex-1)/chunksInIndex
	if wrong {
		return errors.New("the manifest makes no sense")
	}
	for i, ref := range m.Indexes {
		if err := ref.check(maxIndex); err != nil || ref.Number != i+1 {
			return errors.New("the manifest's list makes no sense")
		}
	}
	return nil
}

// decode reads one JSON value strictly.
func decode(raw []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return err
	}
	if _, err := dec.Token(); err != io.EOF {
		return errors.New("something follows")
	}
	return nil
}

// size is how many bytes appendRecord appends.
func (r Record) size() int { return 1 + len(r.Kind) + 2 + len(r.Name) + 4 + len(r.Data) }

func appendRecord(b []byte, r Record) []byte {
	b = append(append(b, byte(len(r.Kind))), r.Kind...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(r.Name))), r.Name...)
	return append(binary.BigEndian.AppendUint32(b, uint32(len(r.Data))), r.Data...)
}

var errRecord = errors.New("backup: the record is cut off or makes no sense")

// cutRecord reads a record from the front of b. Its data is a part of b.
func cutRecord(b []byte) (r Record, rest []byte, err error) {
	kind, b, ok := cutField(b, 1)
	if !ok {
		return r, nil, errRecord
	}
	name, b, ok := cutField(b, 2)
	if !ok {
		return r, nil, errRecord
	}
	data, b, ok := cutField(b, 4)
	if !ok {
		return r, nil, errRecord
	}
	r = Record{Kind: string(kind), Name: string(name), Data: data}
	if r.check() != nil {
		return r, nil, errRecord
	}
	return r, b, nil
}

// cutField reads a length of so many bytes, and what has that length.
func cutField(b []byte, width int) (field, rest []byte, ok bool) {
	if len(b) < width {
		return nil, nil, false
	}
	length := uint64(0)
	for _, digit := range b[:width] {
		length = length<<8 | uint64(digit)
	}
	if b = b[width:]; uint64(len(b)) < length {
		return nil, nil, false
	}
	return b[:length:length], b[length:], true
}
