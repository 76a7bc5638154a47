package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/crypto/argon2"
)

// A RootKey wraps the data keys. It is the one secret that is not in the store: whoever has both reads everything.
// Its methods may be called concurrently.
type RootKey interface {
	// ID names the key in messages and in the key ring. It reveals nothing about the key.
	ID() string
	// Wrap encrypts a data key, bound to context.
	Wrap(dataKey, context []byte) ([]byte, error)
	// Unwrap opens what Wrap made with the same key and context, and nothing else.
	Unwrap(wrapped, context []byte) ([]byte, error)
}

const (
	wrapKey        = 1 // version ‖ nonce ‖ ciphertext
	wrapPassphrase = 2 // version ‖ Argon2id parameters and salt ‖ nonce ‖ ciphertext

	rootKeyPrefix = "strongroom-root-key-v1:"
	rootKeyLen    = 32

	// MinPassphrase is the least number of bytes in a passphrase.
	MinPassphrase = 12
)

var errUnwrap = errors.New("not authentic under this root key")

// keyRoot is a root key of 32 random bytes.
type keyRoot struct {
	id   string
	aead cipher.AEAD
}

var _ RootKey = (*keyRoot)(nil)

// GenerateRootKey returns the text of a new random root key, as ParseRootKey reads it.
func GenerateRootKey() string {
	key := make([]byte, rootKeyLen)
	rand.Read(key)
	return rootKeyPrefix + base64.RawURLEncoding.EncodeToString(key)
}

// ParseRootKey reads the text that GenerateRootKey made. White space around it is ignored. Errors do not show the text.
func ParseRootKey(text string) (RootKey, error) {
	encoded, ok := strings.CutPrefix(strings.TrimSpace(text), rootKeyPrefix)
	if !ok {
		return nil, fmt.Errorf("seal: a root key starts with %q", rootKeyPrefix)
	}
	key, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil || len(key) != rootKeyLen {
		return nil, fmt.Errorf("seal: the root key after %q is not the base64url form of %d bytes", rootKeyPrefix, rootKeyLen)
	}
	// The id is one-way in the key, so that it can be printed.
	id, err := hkdf.Expand(sha256.New, key, "strongroom root key id v1", 4)
	if err != nil {
		return nil, err
	}
	aead, err := newAEAD(key)
	if err != nil {
		return nil, err
	}
	return &keyRoot{id: hex.EncodeToString(id), aead: aead}, nil
}

// ReadRootKeyFile reads a root key from a file that only its owner may read.
func ReadRootKeyFile(path string) (RootKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("seal: root key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("seal: root key: %w", err)
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("seal: root key %s is not a regular file", path)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("seal: root key %s has mode %04o: others than its owner can reach it; run chmod 600",
			path, info.Mode().Perm())
	}
	buf := make([]byte, 256)
	n, err := f.Read(buf)
	if err != nil {
		return nil, fmt.Errorf("seal: root key %s: %w", path, err)
	}
	return ParseRootKey(string(buf[:n]))
}

// WriteRootKeyFile makes a new root key in a new file of mode 0600, durably. It never overwrites. After a crash the file
// is there as a whole or not at all.
func WriteRootKeyFile(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("seal: %s exists already and is kept", path)
	}
	draft, err := writeDraft(filepath.Dir(path), GenerateRootKey()+"\n")
	if err != nil {
		return fmt.Errorf("seal: root key: %w", err)
	}
	defer os.Remove(draft)
	// A link, not a rename, because that never overwrites.
	err = os.Link(draft, path)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("seal: %s exists already and is kept", path)
	}
	if err == nil {
		err = syncFolder(filepath.Dir(path))
	}
	if err != nil {
		return fmt.Errorf("seal: root key: %w", err)
	}
	return nil
}

// writeDraft writes a new file of mode 0600 with a name of its own, durably.
func writeDraft(folder, text string) (path string, err error) {
	f, err := os.CreateTemp(folder, ".root-key-*")
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (k *keyRoot) ID() string { return k.id }

func (k *keyRoot) Wrap(dataKey, context []byte) ([]byte, error) {
	return k.aead.Seal([]byte{wrapKey}, nil, dataKey, append([]byte{wrapKey}, context...)), nil
}

func (k *keyRoot) Unwrap(wrapped, context []byte) ([]byte, error) {
	if len(wrapped) < 1 || wrapped[0] != wrapKey {
		return nil, errors.New("was not wrapped by a root key of this kind (a passphrase, perhaps)")
	}
	key, err := k.aead.Open(nil, nil, wrapped[1:], append([]byte{wrapKey}, context...))
	if err != nil {
		return nil, errUnwrap
	}
	return key, nil
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// argon2Params are the cost of Argon2id (RFC 9106): the second recommended option, with more memory.
type argon2Params struct {
	Time    uint32
	Memory  uint32 // KiB
	Threads uint8
	Salt    [16]byte
}

const argon2HeaderLen = 1 + 4 + 4 + 1 + 16

// passphraseRoot derives the wrapping key from a passphrase. Parameters and salt stand in each wrapped key.
type passphraseRoot struct {
	passphrase []byte

	mu      sync.Mutex // guards derived, and makes concurrent derivations take turns at the memory
	derived map[argon2Params]cipher.AEAD
	wrap    argon2Params
}

var _ RootKey = (*passphraseRoot)(nil)

// NewPassphraseRootKey returns a root key that is derived from a passphrase with Argon2id.
func NewPassphraseRootKey(passphrase string) (RootKey, error) {
	if len(passphrase) < MinPassphrase {
		return nil, fmt.Errorf("seal: a passphrase needs at least %d bytes", MinPassphrase)
	}
	p := &passphraseRoot{
		passphrase: []byte(passphrase),
		derived:    make(map[argon2Params]cipher.AEAD),
		wrap:       argon2Params{Time: 3, Memory: 128 << 10, Threads: 4},
	}
	rand.Read(p.wrap.Salt[:])
	return p, nil
}

// passphraseID is the id of every passphrase: one of its own would tell whether a guess is right.
const passphraseID = "passphrase"

func (p *passphraseRoot) ID() string { return passphraseID }

func (p *passphraseRoot) aead(params argon2Params) (cipher.AEAD, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if a := p.derived[params]; a != nil {
		return a, nil
	}
	a, err := newAEAD(argon2.IDKey(p.passphrase, params.Salt[:], params.Time, params.Memory, params.Threads, 32))
	if err == nil {
		p.derived[params] = a
	}
	return a, err
}

func (p *passphraseRoot) Wrap(dataKey, context []byte) ([]byte, error) {
	out := make([]byte, 0, argon2HeaderLen+12+len(dataKey)+16)
	out = append(out, wrapPassphrase)
	out = binary.BigEndian.AppendUint32(out, p.wrap.Time)
	out = binary.BigEndian.AppendUint32(out, p.wrap.Memory)
	out = append(out, p.wrap.Threads)
	out = append(out, p.wrap.Salt[:]...)
	aead, err := p.aead(p.wrap)
	if err != nil {
		return nil, err
	}
	return aead.Seal(out, nil, dataKey, append(out[:argon2HeaderLen:argon2HeaderLen], context...)), nil
}

func (p *passphraseRoot) Unwrap(wrapped, context []byte) ([]byte, error) {
	if len(wrapped) < argon2HeaderLen || wrapped[0] != wrapPassphrase {
		return nil, errors.New("was not wrapped by a passphrase")
	}
	params := argon2Params{
		Time:    binary.BigEndian.Uint32(wrapped[1:]),
		Memory:  binary.BigEndian.Uint32(wrapped[5:]),
		Threads: wrapped[9],
		Salt:    [16]byte(wrapped[10:argon2HeaderLen]),
	}
	// Whoever can write the store must not make the server spend without bound.
	if params.Time < 1 || params.Time > 64 || params.Memory < 8 || params.Memory > 4<<20 || params.Threads < 1 {
		return nil, fmt.Errorf("Argon2id parameters out of bounds (time %d, memory %d KiB)", params.Time, params.Memory)
	}
	aead, err := p.aead(params)
	if err != nil {
		return nil, err
	}
	header := wrapped[:argon2HeaderLen:argon2HeaderLen]
	key, err := aead.Open(nil, nil, wrapped[argon2HeaderLen:], append(header, context...))
	if err != nil {
		return nil, errUnwrap
	}
	return key, nil
}
