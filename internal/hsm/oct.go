package hsm

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/subtle"
	"errors"
	"fmt"

	"github.com/strongroom/strongroom/internal/keywrap"
)

const (
	gcmIVLen  = 12
	gcmTagLen = 16
)

// newOct describes a key by its bytes, which it copies.
func newOct(raw []byte) New {
	return New{Spec: Spec{Type: Oct, Bits: len(raw) * 8}, Blob: newBlob(bytes.Clone(raw))}
}

// isOctSize tells whether an oct key may have so many bytes: AES's sizes, and two for HMAC with the longer hashes.
func isOctSize(n int) bool { return isAES(n*8) || n == 48 || n == 64 }

func importOct(raw []byte) (New, error) {
	switch {
	case len(raw) == 0:
		return New{}, badInput("The key's %q is missing.", "k")
	case !isOctSize(len(raw)):
		return New{}, badInput("An oct key has 128, 192, 256, 384 or 512 bits; the %q of this one has %d bytes.", "k", len(raw))
	}
	return newOct(raw), nil
}

// octMaterial is a key for AES, HMAC or both.
type octMaterial struct {
	raw   []byte
	block cipher.Block // nil if the key is too long for AES, like gcm
	gcm   cipher.AEAD  // makes its nonces itself and puts them in front
}

var _ material = (*octMaterial)(nil)

func openOct(raw []byte) (material, error) {
	if !isOctSize(len(raw)) {
		return nil, fmt.Errorf("hsm: the blob holds an oct key of %d bytes, which none has", len(raw))
	}
	m := &octMaterial{raw: bytes.Clone(raw)}
	if !isAES(len(raw) * 8) {
		return m, nil
	}
	var err error
	if m.block, err = aes.NewCipher(m.raw); err != nil {
		return nil, err
	}
	m.gcm, err = cipher.NewGCMWithRandomNonce(m.block)
	return m, err
}

func (m *octMaterial) spec() Spec { return Spec{Type: Oct, Bits: len(m.raw) * 8} }

func (m *octMaterial) encode() ([]byte, error) { return bytes.Clone(m.raw), nil }

func (m *octMaterial) encrypt(a *algorithm, msg Message) (Message, error) {
	switch a.scheme {
	case encryptGCM:
		return m.sealGCM(a, msg)
	case encryptCBC, encryptCBCPadded:
		out, err := m.encryptCBC(a, msg)
		return Message{Value: out}, err
	default:
		wrap := keywrap.Wrap
		if a.scheme == wrapPadded {
			wrap = keywrap.WrapPadded
		}
		out, err := wrap(m.block, msg.Value)
		return Message{Value: out}, wrapError(a, msg, err)
	}
}

func (m *octMaterial) decrypt(a *algorithm, msg Message) ([]byte, error) {
	switch a.scheme {
	case encryptGCM:
		return m.openGCM(a, msg)
	case encryptCBC, encryptCBCPadded:
		return m.decryptCBC(a, msg)
	default:
		unwrap := keywrap.Unwrap
		if a.scheme == wrapPadded {
			unwrap = keywrap.UnwrapPadded
		}
		out, err := unwrap(m.block, msg.Value)
		return out, wrapError(a, msg, err)
	}
}

// wrapError makes an error of keywrap one for the caller.
func wrapError(a *algorithm, msg Message, err error) error {
	switch {
	case errors.Is(err, keywrap.ErrIntegrity):
		return errUndecryptable
	case !errors.Is(err, keywrap.ErrLength):
		return err
	case a.scheme == wrapWhole:
		return badInput("A key for %s has a multiple of 8 bytes, from 16 to %d, and a wrapped one 8 more; %d bytes are neither.",
			a.name, keywrap.MaxLen, len(msg.Value))
	default:
		return badInput("A key for %s has from 1 to %d bytes, and a wrapped one a multiple of 8, from 16; %d bytes are neither.",
			a.name, keywrap.MaxLen, len(msg.Value))
	}
}

// sealGCM lets the library make the iv, 12 random bytes, so that no caller can make one come twice. Chance can: a key should
// not encrypt more than 2³² values (SP 800-38D, 8.3). Nobody counts them here; who encrypts that much wraps keys instead.
func (m *octMaterial) sealGCM(a *algorithm, msg Message) (Message, error) {
	if len(msg.IV) > 0 || len(msg.Tag) > 0 {
		return Message{}, badInput("The iv and the tag of %s are made when a value is encrypted; the request must not have any.", a.name)
	}
	out := m.gcm.Seal(nil, nil, msg.Value, msg.AAD)
	end := len(out) - gcmTagLen
	return Message{Value: out[gcmIVLen:end:end], IV: out[:gcmIVLen:gcmIVLen], AAD: msg.AAD, Tag: out[end:]}, nil
}

func (m *octMaterial) openGCM(a *algorithm, msg Message) ([]byte, error) {
	if len(msg.IV) != gcmIVLen || len(msg.Tag) != gcmTagLen {
		return nil, badInput("The algorithm %s has an iv of %d bytes and a tag of %d, not %d and %d.",
			a.name, gcmIVLen, gcmTagLen, len(msg.IV), len(msg.Tag))
	}
	out, err := m.gcm.Open(nil, nil, bytes.Join([][]byte{msg.IV, msg.Value, msg.Tag}, nil), msg.AAD)
	if err != nil {
		return nil, errUndecryptable
	}
	return out, nil
}

func checkCBC(a *algorithm, msg Message) error {
	if len(msg.IV) != aes.BlockSize {
		return badInput("The algorithm %s needs an iv of %d bytes, not %d.", a.name, aes.BlockSize, len(msg.IV))
	}
	return nil
}

func notBlocks(a *algorithm, n int) error {
	return badInput("A value for %s has a multiple of %d bytes and is not empty; %d bytes are neither.", a.name, aes.BlockSize, n)
}

func (m *octMaterial) encryptCBC(a *algorithm, msg Message) ([]byte, error) {
	if err := checkCBC(a, msg); err != nil {
		return nil, err
	}
	var padding []byte
	if a.scheme == encryptCBCPadded {
		n := aes.BlockSize - len(msg.Value)%aes.BlockSize
		padding = bytes.Repeat([]byte{byte(n)}, n)
	} else if len(msg.Value) == 0 || len(msg.Value)%aes.BlockSize != 0 {
		return nil, notBlocks(a, len(msg.Value))
	}
	out := bytes.Join([][]byte{msg.Value, padding}, nil)
	cipher.NewCBCEncrypter(m.block, msg.IV).CryptBlocks(out, out)
	return out, nil
}

// decryptCBC cannot tell whether a ciphertext was changed: CBC authenticates nothing. With padding, who may ask whether a
// ciphertext decrypts can find out its plaintext (Vaudenay, 2002); those who may decrypt have that anyway.
func (m *octMaterial) decryptCBC(a *algorithm, msg Message) ([]byte, error) {
	if err := checkCBC(a, msg); err != nil {
		return nil, err
	}
	if len(msg.Value) == 0 || len(msg.Value)%aes.BlockSize != 0 {
		return nil, notBlocks(a, len(msg.Value))
	}
	out := make([]byte, len(msg.Value))
	cipher.NewCBCDecrypter(m.block, msg.IV).CryptBlocks(out, msg.Value)
	if a.scheme == encryptCBC {
		return out, nil
	}
	n, ok := paddingLen(out)
	if ok != 1 {
		clear(out)
		return nil, errUndecryptable
	}
	return out[:len(out)-n], nil
}

// paddingLen returns the length of the padding of PKCS#7 (RFC 5652, 6.3) and 1 if it is right, or 0. It takes the same time
// for every content of a length.
func paddingLen(blocks []byte) (n, ok int) {
	last := blocks[len(blocks)-aes.BlockSize:]
	n = int(last[aes.BlockSize-1])
	ok = subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, aes.BlockSize)
	for i, b := range last {
		outside := subtle.ConstantTimeLessOrEq(n, aes.BlockSize-1-i) // in front of the padding
		ok &= outside | subtle.ConstantTimeByteEq(b, byte(n))
	}
	return n, ok
}

func (m *octMaterial) sign(a *algorithm, digest []byte) ([]byte, error) {
	mac := hmac.New(a.hash.New, m.raw)
	mac.Write(digest)
	return mac.Sum(nil), nil
}

func (m *octMaterial) verify(a *algorithm, digest, signature []byte) (bool, error) {
	want, err := m.sign(a, digest)
	return err == nil && hmac.Equal(signature, want), err
}
