package sdomain

import (
	"crypto/hmac"
	"crypto/sha512"
	"encoding/binary"
)

const (
	kdfName   = "sp108_kdf"
	masterLen = 32
)

// deriveKey is the key of the datum with this tag.
func deriveKey(master []byte, tag string) []byte { return counterKDF(master, tag, "", 8*cekLen) }

// counterKDF is the KDF in counter mode of NIST SP 800-108 on HMAC-SHA-512, with counter and length in 32 bits. The number of bits is a
// multiple of 8 and is derived from, too: a shorter key does not begin a longer one.
func counterKDF(key []byte, label, context string, bits int) []byte {
	var out []byte
	for i := uint32(1); 8*len(out) < bits; i++ {
		input := binary.BigEndian.AppendUint32(nil, i)
		input = append(append(input, label...), 0)
		input = append(input, context...)
		input = binary.BigEndian.AppendUint32(input, uint32(bits))
		mac := hmac.New(sha512.New, key)
		mac.Write(input)
		out = mac.Sum(out)
	}
	return out[:bits/8]
}
