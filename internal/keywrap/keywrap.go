// Package keywrap encrypts keys with keys.
//
// Wrap and Unwrap are the AES key wrap of RFC 3394 (KW in NIST SP 800-38F), WrapPadded and UnwrapPadded that of RFC 5649
// (KWP), which takes keys of any length. WrapRSAAES and UnwrapRSAAES are PKCS#11's CKM_RSA_AES_KEY_WRAP: a fresh AES key
// under an RSA key, and then the key itself under the AES key. A TransferBlob is the file in which Azure's clients carry a
// key that was wrapped so (bring your own key).
//
// All of it stands on one function and its inverse, W of SP 800-38F; docs/design/007-keys-that-move.md says why it is
// here. Nothing that is returned shows why a wrapped key did not open, other than its length, which everybody sees.
package keywrap

import (
	"bytes"
	"crypto/cipher"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	semiblock = 8 // bytes; both formats work on halves of AES's block

	// MaxLen is how many bytes a key has at most, far more than any. SP 800-38F allows 2⁵⁷ or 2³², of which each takes six
	// steps for every eight bytes.
	MaxLen = 32 << 10
)

var (
	// ErrLength is wrapped by errors about an input of a length that no key or wrapped key has.
	ErrLength = errors.New("keywrap: wrong length")

	// ErrIntegrity says that a wrapped key was made with another key, or changed since.
	ErrIntegrity = errors.New("keywrap: not a key that was wrapped with this one")
)

// Integrity values: RFC 3394, 2.2.3.1, and the first half of RFC 5649, 3.
const (
	wholeIV  = 0xA6A6A6A6A6A6A6A6
	paddedIV = 0xA65959A6
)

// Wrap wraps key with an AES cipher as RFC 3394 says. A key has at least 16 bytes and a multiple of 8.
func Wrap(block cipher.Block, key []byte) ([]byte, error) {
	if len(key)%semiblock != 0 || len(key) < 2*semiblock || len(key) > MaxLen {
		return nil, fmt.Errorf("%w: a key of %d bytes; it must be a multiple of 8, from 16 to %d", ErrLength, len(key), MaxLen)
	}
	s := make([]byte, semiblock+len(key))
	binary.BigEndian.PutUint64(s, wholeIV)
	copy(s[semiblock:], key)
	w(block, s)
	return s, nil
}

// Unwrap reverses Wrap.
func Unwrap(block cipher.Block, wrapped []byte) ([]byte, error) {
	if len(wrapped)%semiblock != 0 || len(wrapped) < 3*semiblock || len(wrapped) > semiblock+MaxLen {
		return nil, fmt.Errorf("%w: a wrapped key of %d bytes; it must be a multiple of 8, from 24 to %d",
			ErrLength, len(wrapped), semiblock+MaxLen)
	}
	s := bytes.Clone(wrapped)
	wInverse(block, s)
	var want [semiblock]byte
	binary.BigEndian.PutUint64(want[:], wholeIV)
	if subtle.ConstantTimeCompare(s[:semiblock], want[:]) != 1 {
		clear(s)
		return nil, ErrIntegrity
	}
	return s[semiblock:], nil
}

// WrapPadded wraps key with an AES cipher as RFC 5649 says. A key has at least one byte.
func WrapPadded(block cipher.Block, key []byte) ([]byte, error) {
	if len(key) < 1 || len(key) > MaxLen {
		return nil, fmt.Errorf("%w: a key of %d bytes; it must have from 1 to %d", ErrLength, len(key), MaxLen)
	}
	n := (len(key) + semiblock - 1) / semiblock
	s := make([]byte, semiblock*(1+n))
	binary.BigEndian.PutUint32(s, paddedIV)
	binary.BigEndian.PutUint32(s[4:], uint32(len(key)))
	copy(s[semiblock:], key)
	w(block, s)
	return s, nil
}

// UnwrapPadded reverses WrapPadded.
func UnwrapPadded(block cipher.Block, wrapped []byte) ([]byte, error) {
	if len(wrapped)%semiblock != 0 || len(wrapped) < 2*semiblock || len(wrapped) > semiblock+MaxLen {
		return nil, fmt.Errorf("%w: a wrapped key of %d bytes; it must be a multiple of 8, from 16 to %d",
			ErrLength, len(wrapped), semiblock+MaxLen)
	}
	s := bytes.Clone(wrapped)
	wInverse(block, s)
	padding, ok := checkPadded(s)
	if ok != 1 {
		clear(s)
		return nil, ErrIntegrity
	}
	return s[semiblock : len(s)-padding], nil
}

// checkPadded makes the three checks of RFC 5649, 3, and tells only whether all hold: ok is 1 or 0. It takes the same time
// for every s of a length.
func checkPadded(s []byte) (padding, ok int) {
	prefix := int32(binary.BigEndian.Uint32(s) ^ paddedIV)
	// A stated length above that of the data makes this wrap around to a great number, one that is too small makes it 8 or
	// more.
	pad := uint32(len(s)-semiblock) - binary.BigEndian.Uint32(s[4:])
	bad := byte(0)
	for i := range uint32(semiblock) {
		inPadding := byte((int64(i)-int64(pad))>>63) & 1 // 1 if i < pad
		bad |= s[len(s)-1-int(i)] & -inPadding
	}
	ok = subtle.ConstantTimeEq(prefix, 0) & subtle.ConstantTimeEq(int32(pad&^7), 0) & subtle.ConstantTimeByteEq(bad, 0)
	return int(pad & 7), ok
}

// w is the function W of SP 800-38F, 6.1, in place: s is the integrity value and then the key. For one block of AES it is
// that block's encryption (KWP's short case, 6.3).
func w(block cipher.Block, s []byte) {
	if len(s) == 2*semiblock {
		block.Encrypt(s, s)
		return
	}
	b := make([]byte, 2*semiblock)
	a := b[:semiblock]
	copy(a, s)
	step := uint64(0)
	for range 6 {
		for i := semiblock; i < len(s); i += semiblock {
			copy(b[semiblock:], s[i:])
			block.Encrypt(b, b)
			step++
			binary.BigEndian.PutUint64(a, binary.BigEndian.Uint64(a)^step)
			copy(s[i:], b[semiblock:])
		}
	}
	copy(s, a)
}

// wInverse reverses w (SP 800-38F, 6.1, algorithm 2).
func wInverse(block cipher.Block, s []byte) {
	if len(s) == 2*semiblock {
		block.Decrypt(s, s)
		return
	}
	b := make([]byte, 2*semiblock)
	defer clear(b)
	a := b[:semiblock]
	copy(a, s)
	step := uint64(6 * (len(s)/semiblock - 1))
	for range 6 {
		for i := len(s) - semiblock; i > 0; i -= semiblock {
			binary.BigEndian.PutUint64(a, binary.BigEndian.Uint64(a)^step)
			copy(b[semiblock:], s[i:])
			block.Decrypt(b, b)
			step--
			copy(s[i:], b[semiblock:])
		}
	}
	copy(s, a)
}
