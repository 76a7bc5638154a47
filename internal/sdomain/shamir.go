package sdomain

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
)

// Shamir's secret sharing over GF(257), byte by byte. A share has 16 bits, little-endian, for each byte of the secret: 7 for the place
// at which the polynomial was evaluated, the same throughout, and 9 for its value there.
const (
	prime     = 257
	valueBits = 9
	maxPlace  = 126 // as in the service's scheme
)

var (
	errShare     = errors.New("is not a share")
	errSamePlace = errors.New("two shares are the same")
	errCombine   = errors.New("the shares do not belong together")
)

// split makes total shares of which any required give the secret.
func split(secret []byte, required, total int) ([][]byte, error) {
	if required < 2 || total < required || total > maxPlace {
		return nil, errors.New("sdomain: a secret cannot be shared so")
	}
	shares := make([][]byte, total)
	coefficients := make([]uint32, required) // that of degree 0 is the secret
	for _, b := range secret {
		coefficients[0] = uint32(b)
		for i := 1; i < required; i++ {
			coefficients[i] = randomElement()
		}
		for i := range shares {
			place := uint32(i) + 1
			word := place<<valueBits | evaluate(coefficients, place)
			shares[i] = binary.LittleEndian.AppendUint16(shares[i], uint16(word))
		}
	}
	clear(coefficients)
	return shares, nil
}

// randomElement is uniform in the field: 65535 is 255 times 257, and what is above would favour 0.
func randomElement() uint32 {
	for {
		var b [2]byte
		rand.Read(b[:]) // never fails
		if n := uint32(binary.LittleEndian.Uint16(b[:])); n < 65535 {
			return n % prime
		}
	}
}

// evaluate is the polynomial's value at x, by Horner's rule.
func evaluate(coefficients []uint32, x uint32) uint32 {
	var value uint32
	for i := len(coefficients) - 1; i >= 0; i-- {
		value = (value*x + coefficients[i]) % prime
	}
	return value
}

// A share was read and is well formed.
type share struct {
	place  uint32
	values []uint32
}

// parseShare reads the share of a secret of n bytes.
func parseShare(raw []byte, n int) (share, error) {
	if len(raw) != 2*n || n == 0 {
		return share{}, errShare
	}
	var s share
	for i := range n {
		word := uint32(binary.LittleEndian.Uint16(raw[2*i:]))
		place, value := word>>valueBits, word&(1<<valueBits-1)
		if i == 0 {
			s.place = place
		}
		if place == 0 || place > maxPlace || place != s.place || value >= prime {
			return share{}, errShare
		}
		s.values = append(s.values, value)
	}
	return s, nil
}

// combine gives the secret back, from exactly as many shares as it needs. Shares of another secret give another secret, or an error.
func combine(shares []share) ([]byte, error) {
	weights := make([]uint32, len(shares))
	for i, s := range shares {
		weights[i] = 1
		for j, other := range shares {
			if i == j {
				continue
			}
			if s.place == other.place {
				return nil, errSamePlace
			}
			weights[i] = weights[i] * other.place % prime * inverse(other.place+prime-s.place) % prime
		}
	}
	var secret []byte
	for k := range shares[0].values {
		var b uint32
		for i, s := range shares {
			if len(s.values) != len(shares[0].values) {
				return nil, errCombine
			}
			b += weights[i] * s.values[k] % prime
		}
		if b %= prime; b > 255 {
			return nil, errCombine
		}
		secret = append(secret, byte(b))
	}
	return secret, nil
}

// inverse is a^255, which is 1/a in a field of 257 elements.
func inverse(a uint32) uint32 {
	result, square := uint32(1), a%prime
	for range 8 { // 255 has eight bits, all of them set
		result = result * square % prime
		square = square * square % prime
	}
	return result
}
