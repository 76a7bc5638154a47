package pkcs8

import (
	"errors"
	"testing"

	"golang.org/x/crypto/cryptobyte"
)

func wantRefused(t *testing.T, err, want error, what any) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%v: got %v, want %v", what, err, want)
	}
}

// TestDeriveBounds: a file must not make us compute for hours.
func TestDeriveBounds(t *testing.T) {
	t.Parallel()
	numbers := func(numbers ...int64) cryptobyte.String {
		b := cryptobyte.NewBuilder(nil)
		for _, n := range numbers {
			b.AddASN1Int64(n)
		}
		return b.BytesOrPanic()
	}
	for _, iterations := range []int64{maxIterations + 1, 1 << 62} {
		_, err := derivePBKDF2(numbers(iterations), nil, "", 32)
		wantRefused(t, err, errCost, iterations)
	}
	for _, nrp := range [][]int64{{1 << 20, 8, 1}, {2, 1 << 20, 16}, {1 << 40, 1, 1}, {1 << 28, 1 << 28, 1}, {2, 8, 17}, {1 << 62, 1 << 62, 1 << 62}} {
		_, err := deriveScrypt(numbers(nrp...), nil, "", 32)
		wantRefused(t, err, errCost, nrp)
	}
	for _, bad := range [][]int64{nil, {0}, {-1}, {1000, 16}, {1000, 32, 1}} {
		_, err := derivePBKDF2(numbers(bad...), nil, "", 32)
		wantRefused(t, err, ErrEncrypted, bad)
	}
	for _, bad := range [][]int64{nil, {16384, 8}, {16384, 8, 1, 16}, {3, 8, 1}, {16384, 8, 1, 32, 1}} {
		_, err := deriveScrypt(numbers(bad...), nil, "", 32)
		wantRefused(t, err, ErrEncrypted, bad)
	}
}
