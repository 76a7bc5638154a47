package hsm_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"testing"

	"github.com/strongroom/strongroom/internal/hsm"
)

// blob is a key as a store may still hold it: in a format that was written once, with a signature that it made. They are keys
// of this test alone.
type blob struct {
	Spec      hsm.Spec
	Public    hsm.PublicKey
	Blob      []byte
	Algorithm hsm.Algorithm
	Digest    []byte
	Signature []byte
}

func blobs(t testing.TB) []blob {
	t.Helper()
	raw, err := os.ReadFile("testdata/blobs.json")
	if err != nil {
		t.Fatal(err)
	}
	var out []blob
	if err := json.Unmarshal(raw, &out); err != nil || len(out) == 0 {
		t.Fatalf("%d blobs, %v", len(out), err)
	}
	return out
}

// What is written stays readable.
func TestBlobsOfBefore(t *testing.T) {
	t.Parallel()
	s := hsm.NewSoftware(hsm.SoftwareConfig{})
	for _, b := range blobs(t) {
		key, err := s.Open(t.Context(), b.Spec, b.Blob)
		if err != nil {
			t.Errorf("%v: %v", b.Spec, err)
			continue
		}
		if b.Algorithm == "" {
			continue
		}
		if ok, err := key.Verify(t.Context(), b.Algorithm, b.Digest, b.Signature); err != nil || !ok {
			t.Errorf("%v: its signature is not right: %v", b.Spec, err)
		}
		if b.Spec.Type != hsm.Oct {
			if ok, err := hsm.VerifyPublic(b.Spec, b.Public, b.Algorithm, b.Digest, b.Signature); err != nil || !ok {
				t.Errorf("%v: its signature is not right with its public key: %v", b.Spec, err)
			}
		}
		again, err := key.Sign(t.Context(), b.Algorithm, b.Digest)
		if err != nil {
			t.Errorf("%v: %v", b.Spec, err)
			continue
		}
		if ok, err := key.Verify(t.Context(), b.Algorithm, b.Digest, again); err != nil || !ok {
			t.Errorf("%v: a new signature is not right: %v", b.Spec, err)
		}
		if b.Spec.Type == hsm.EC {
			continue
		}
		if !bytes.Equal(again, b.Signature) {
			t.Errorf("%v: another signature than before", b.Spec)
		}
	}
}

// TestOpenRSASizes: a size that is never made or imported is refused before the numbers are looked at.
func TestOpenRSASizes(t *testing.T) {
	t.Parallel()
	s := hsm.NewSoftware(hsm.SoftwareConfig{})
	for _, bits := range []int{0, 1024, 2056, 8192, 14000} {
		_, err := s.Open(t.Context(), hsm.Spec{Type: hsm.RSA, Bits: bits}, make([]byte, 4<<10))
		if refused, ok := errors.AsType[*hsm.Error](err); !ok || refused.Kind != hsm.Unsupported {
			t.Errorf("%d bits: %v", bits, err)
		}
	}
}
