package hsm

import (
	"bytes"
	"testing"
)

// The constant-time check says what the plain one says, for every length that a padding may claim and every place of a wrong
// byte in it.
func TestPaddingLen(t *testing.T) {
	t.Parallel()
	plain := func(b []byte) (int, bool) {
		n := int(b[len(b)-1])
		return n, n >= 1 && n <= 16 && bytes.Equal(b[len(b)-n:], bytes.Repeat([]byte{byte(n)}, n))
	}
	for claimed := range 256 {
		for wrong := -1; wrong < 32; wrong++ {
			blocks := bytes.Repeat([]byte{byte(claimed)}, 32)
			if wrong >= 0 {
				blocks[wrong] ^= 0x55
			}
			n, ok := paddingLen(blocks)
			wantN, wantOK := plain(blocks)
			if (ok == 1) != wantOK || wantOK && n != wantN || ok != 0 && ok != 1 {
				t.Fatalf("%x: %d, %d; want %d, %v", blocks, n, ok, wantN, wantOK)
			}
		}
	}
}
