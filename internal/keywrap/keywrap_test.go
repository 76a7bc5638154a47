package keywrap_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	mathrand "math/rand/v2"
	"strings"
	"testing"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
	tink "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/strongroom/strongroom/internal/hsm/hsmtest"
	"github.com/strongroom/strongroom/internal/keywrap"
)

func unhex(t testing.TB, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newBlock(t testing.TB, key []byte) cipher.Block {
	t.Helper()
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	return block
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// A format is one of the two ways to wrap, for tests that hold for both.
type format struct {
	name    string
	wrap    func(cipher.Block, []byte) ([]byte, error)
	unwrap  func(cipher.Block, []byte) ([]byte, error)
	lengths []int // of keys
}

func formats() []format {
	return []format{
		{"RFC 3394", keywrap.Wrap, keywrap.Unwrap, []int{16, 24, 32, 40, 256, 1024, keywrap.MaxLen}},
		{"RFC 5649", keywrap.WrapPadded, keywrap.UnwrapPadded, []int{1, 7, 8, 9, 15, 16, 17, 31, 32, 1217, 2375, keywrap.MaxLen}},
	}
}

func TestRFC(t *testing.T) {
	t.Parallel()
	const (
		kek256  = "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
		data    = "00112233445566778899AABBCCDDEEFF"
		data192 = data + "0001020304050607"
		data256 = data + "000102030405060708090A0B0C0D0E0F"
		kek5649 = "5840df6e29b02af1ab493b705bf16ea1ae8338f4dcc176a8"
	)
	for _, v := range []struct {
		section        string
		format         int
		kek, key, want string
	}{
		{"3394 4.1", 0, kek256[:32], data, "1FA68B0A8112B447 AEF34BD8FB5A7B82 9D3E862371D2CFE5"},
		{"3394 4.2", 0, kek256[:48], data, "96778B25AE6CA435 F92B5B97C050AED2 468AB8A17AD84E5D"},
		{"3394 4.3", 0, kek256, data, "64E8C3F9CE0F5BA2 63E9777905818A2A 93C8191E7D6E8AE7"},
		{"3394 4.4", 0, kek256[:48], data192, "031D33264E15D332 68F24EC260743EDC E1C6C7DDEE725A93 6BA814915C6762D2"},
		{"3394 4.5", 0, kek256, data192, "A8F9BC1612C68B3F F6E6F4FBE30E71E4 769C8B80A32CB895 8CD5D17D6B254DA1"},
		{"3394 4.6", 0, kek256, data256, "28C9F404C4B810F4 CBCCB35CFB87F826 3F5786E2D80ED326 CBC7F0E71A99F43B FB988B9B7A02DD21"},
		{"5649 6, 20 octets", 1, kek5649, "c37b7e6492584340bed12207808941155068f738",
			"138bdeaa9b8fa7fc61f97742e72248ee5ae6ae5360d1ae6a5f54f373fa543b6a"},
		{"5649 6, 7 octets", 1, kek5649, "466f7250617369", "afbeb0f07dfbf5419200f2ccb50bb24f"},
	} {
		f, block := formats()[v.format], newBlock(t, unhex(t, v.kek))
		key, want := unhex(t, v.key), unhex(t, v.want)
		if got, err := f.wrap(block, key); err != nil || !bytes.Equal(got, want) {
			t.Errorf("RFC %s: wrapped to %x, %v", v.section, got, err)
		}
		if got, err := f.unwrap(block, want); err != nil || !bytes.Equal(got, key) {
			t.Errorf("RFC %s: unwrapped to %x, %v", v.section, got, err)
		}
	}
}

func TestWycheproof(t *testing.T) {
	t.Parallel()
	for i, file := range []string{"aes_wrap_test.json", "aes_kwp_test.json"} {
		f, valid, invalid := formats()[i], 0, 0
		for _, g := range hsmtest.Vectors(t, file) {
			for _, c := range g.Tests {
				block := newBlock(t, c.Key)
				got, err := f.unwrap(block, c.CT)
				if !c.Valid() {
					// The acceptable ones are keys that RFC 3394 allows to refuse: of eight bytes, or none.
					if invalid++; err == nil {
						t.Errorf("%s %d (%s, %s): unwrapped", file, c.ID, c.Result, c.Comment)
					}
					continue
				}
				if valid++; err != nil || !bytes.Equal(got, c.Msg) {
					t.Errorf("%s %d (%s): unwrapped to %x, %v", file, c.ID, c.Comment, got, err)
				}
				if got, err := f.wrap(block, c.Msg); err != nil || !bytes.Equal(got, c.CT) {
					t.Errorf("%s %d (%s): wrapped to %x, %v", file, c.ID, c.Comment, got, err)
				}
			}
		}
		if valid < 25 || invalid < 80 {
			t.Errorf("%s: only %d valid and %d other vectors", file, valid, invalid)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	for _, f := range formats() {
		for _, bits := range []int{128, 192, 256} {
			block := newBlock(t, random(bits/8))
			for _, n := range f.lengths {
				key := random(n)
				before := bytes.Clone(key)
				wrapped, err := f.wrap(block, key)
				if err != nil {
					t.Fatalf("%s, AES-%d: %d bytes: %v", f.name, bits, n, err)
				}
				copyOf := bytes.Clone(wrapped)
				got, err := f.unwrap(block, wrapped)
				if err != nil || !bytes.Equal(got, key) {
					t.Errorf("%s, AES-%d: %d bytes came back as %d, %v", f.name, bits, n, len(got), err)
				}
				if !bytes.Equal(key, before) || !bytes.Equal(wrapped, copyOf) {
					t.Errorf("%s: an input was changed", f.name)
				}
			}
		}
	}
}

// Every bit matters, and every place of a whole block.
func TestTampered(t *testing.T) {
	t.Parallel()
	for _, f := range formats() {
		for _, n := range f.lengths {
			if n > 64 {
				continue
			}
			block := newBlock(t, random(32))
			wrapped, err := f.wrap(block, random(n))
			if err != nil {
				t.Fatal(err)
			}
			for bit := range len(wrapped) * 8 {
				wrapped[bit/8] ^= 1 << (bit % 8)
				if _, err := f.unwrap(block, wrapped); !errors.Is(err, keywrap.ErrIntegrity) {
					t.Fatalf("%s, %d bytes, bit %d: %v", f.name, n, bit, err)
				}
				wrapped[bit/8] ^= 1 << (bit % 8)
			}
			if _, err := f.unwrap(newBlock(t, random(32)), wrapped); !errors.Is(err, keywrap.ErrIntegrity) {
				t.Errorf("%s, %d bytes: with another key: %v", f.name, n, err)
			}
		}
	}
}

// A wrapped key of one format is none of the other, although both are the same permutation.
func TestFormatsApart(t *testing.T) {
	t.Parallel()
	block := newBlock(t, random(32))
	whole, err := keywrap.Wrap(block, random(32))
	if err != nil {
		t.Fatal(err)
	}
	padded, err := keywrap.WrapPadded(block, random(32))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keywrap.UnwrapPadded(block, whole); !errors.Is(err, keywrap.ErrIntegrity) {
		t.Errorf("whole as padded: %v", err)
	}
	if _, err := keywrap.Unwrap(block, padded); !errors.Is(err, keywrap.ErrIntegrity) {
		t.Errorf("padded as whole: %v", err)
	}
}

func TestLengths(t *testing.T) {
	t.Parallel()
	block := newBlock(t, random(16))
	for _, v := range []struct {
		name string
		call func(cipher.Block, []byte) ([]byte, error)
		bad  []int
	}{
		{"Wrap", keywrap.Wrap, []int{0, 1, 8, 15, 17, 23, keywrap.MaxLen + 8}},
		{"Unwrap", keywrap.Unwrap, []int{0, 8, 16, 23, 25, keywrap.MaxLen + 16}},
		{"WrapPadded", keywrap.WrapPadded, []int{0, keywrap.MaxLen + 1}},
		{"UnwrapPadded", keywrap.UnwrapPadded, []int{0, 8, 15, 17, 23, keywrap.MaxLen + 16}},
	} {
		for _, n := range v.bad {
			if got, err := v.call(block, make([]byte, n)); !errors.Is(err, keywrap.ErrLength) || got != nil {
				t.Errorf("%s of %d bytes: %v", v.name, n, err)
			}
		}
	}
}

// Two kept libraries do parts of this: RFC 3394 in go-jose; RFC 5649 from 16 bytes up, without AES-192, in Tink.
func TestAgainstOthers(t *testing.T) {
	t.Parallel()
	for range 300 {
		kek := random([]int{16, 24, 32}[mathrand.IntN(3)])
		block := newBlock(t, kek)

		key := random(16 + 8*mathrand.IntN(40))
		ours, err := keywrap.Wrap(block, key)
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := josecipher.KeyWrap(block, key)
		if err != nil || !bytes.Equal(ours, theirs) {
			t.Fatalf("go-jose wraps %x with %x to %x, %v; we to %x", key, kek, theirs, err, ours)
		}

		if len(kek) == 24 {
			continue
		}
		other, err := tink.NewKWP(kek)
		if err != nil {
			t.Fatal(err)
		}
		key = random(16 + mathrand.IntN(400))
		ours, err = keywrap.WrapPadded(block, key)
		if err != nil {
			t.Fatal(err)
		}
		if theirs, err = other.Wrap(key); err != nil || !bytes.Equal(ours, theirs) {
			t.Fatalf("tink wraps %x with %x to %x, %v; we to %x", key, kek, theirs, err, ours)
		}
	}
}

// FuzzUnwrap compares with the other libraries: what they open we open to the same bytes, and what they refuse we refuse.
// The inputs are unwrapped as they are, and after a part of the key has been wrapped without its integrity value being
// right, which random inputs never reach.
func FuzzUnwrap(f *testing.F) {
	f.Add([]byte("0123456789abcdef"), []byte("the wrapped key, with 40 bytes in total."), false)
	f.Add([]byte("0123456789abcdef0123456789abcdef"), []byte("\xa6\x59\x59\xa6\x00\x00\x00\x11a key of 17 bytes\x00\x00\x00\x00\x00\x00\x00"), true)
	f.Add([]byte("0123456789abcdef"), []byte("\xa6\x59\x59\xa6\x00\x00\x00\x10a key of 17 bytes\x00\x00\x00\x00\x00\x00\x00"), true)
	f.Add([]byte("0123456789abcdef"), []byte("\xa6\xa6\xa6\xa6\xa6\xa6\xa6\xa6a key of 16 byte"), true)
	f.Add([]byte("0123456789abcdef01234567"), []byte("\xa6\x59\x59\xa6\x00\x00\x00\x07seven..\x00"), true)
	f.Add([]byte("0123456789abcdef01234567"), []byte("\xa6\x59\x59\xa6\xff\xff\xff\xffeight..."), true)
	f.Fuzz(func(t *testing.T, kek, input []byte, permute bool) {
		block, err := aes.NewCipher(kek)
		if err != nil || len(input) > 4096 {
			return
		}
		if permute && len(input) >= 16 && len(input)%8 == 0 {
			keywrap.W(block, input)
		}
		whole, err := keywrap.Unwrap(block, input)
		agree(t, "go-jose", whole, err, func() ([]byte, error) {
			if len(input) < 24 {
				return nil, errors.New("shorter than RFC 3394 has it")
			}
			return josecipher.KeyUnwrap(block, input)
		})
		padded, err := keywrap.UnwrapPadded(block, input)
		if other, kwpErr := tink.NewKWP(kek); kwpErr == nil && len(input) >= 24 {
			agree(t, "tink", padded, err, func() ([]byte, error) { return other.Unwrap(input) })
		}
		if err == nil {
			again, err := keywrap.WrapPadded(block, padded)
			if err != nil || !bytes.Equal(again, input) {
				t.Fatalf("%x unwraps to %x, which wraps to %x, %v", input, padded, again, err)
			}
		}
	})
}

func agree(t *testing.T, name string, ours []byte, err error, other func() ([]byte, error)) {
	t.Helper()
	theirs, otherErr := other()
	if (err == nil) != (otherErr == nil) || err == nil && !bytes.Equal(ours, theirs) {
		t.Fatalf("we: %x, %v; %s: %x, %v", ours, err, name, theirs, otherErr)
	}
}

func BenchmarkWrapPadded(b *testing.B) {
	for _, n := range []int{32, 2375} { // an AES key and an RSA-4096 one
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			block, key := newBlock(b, random(32)), random(n)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := keywrap.WrapPadded(block, key); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
