package hsm_test

import (
	"testing"

	"github.com/strongroom/strongroom/internal/hsm"
)

// openBlob opens the key of a kind among the blobs of before.
func openBlob(b *testing.B, spec hsm.Spec) hsm.Key {
	b.Helper()
	s := hsm.NewSoftware(hsm.SoftwareConfig{})
	for _, blob := range blobs(b) {
		if blob.Spec.Type == spec.Type && blob.Spec.Bits == spec.Bits && blob.Spec.Curve == spec.Curve {
			key, err := s.Open(b.Context(), blob.Spec, blob.Blob)
			if err != nil {
				b.Fatal(err)
			}
			return key
		}
	}
	b.Fatalf("no blob of %v", spec)
	return nil
}

func rsaSpec(bits int) hsm.Spec       { return hsm.Spec{Type: hsm.RSA, Bits: bits} }
func ecSpec(curve hsm.Curve) hsm.Spec { return hsm.Spec{Type: hsm.EC, Curve: curve} }
func octSpec(bits int) hsm.Spec       { return hsm.Spec{Type: hsm.Oct, Bits: bits} }

func BenchmarkSign(b *testing.B)   { benchmarkSignature(b, false) }
func BenchmarkVerify(b *testing.B) { benchmarkSignature(b, true) }

func benchmarkSignature(b *testing.B, verify bool) {
	for _, v := range []struct {
		alg    hsm.Algorithm
		spec   hsm.Spec
		digest int
	}{
		{hsm.RS256, rsaSpec(2048), 32}, {hsm.RS256, rsaSpec(3072), 32}, {hsm.RS256, rsaSpec(4096), 32}, {hsm.PS256, rsaSpec(2048), 32},
		{hsm.ES256, ecSpec(hsm.P256), 32}, {hsm.ES256K, ecSpec(hsm.P256K), 32}, {hsm.ES384, ecSpec(hsm.P384), 48},
		{hsm.ES512, ecSpec(hsm.P521), 64}, {hsm.HS256, octSpec(256), 32},
	} {
		b.Run(string(v.alg)+"/"+v.spec.String(), func(b *testing.B) {
			key, digest := openBlob(b, v.spec), make([]byte, v.digest)
			signature, err := key.Sign(b.Context(), v.alg, digest)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				if verify {
					_, err = key.Verify(b.Context(), v.alg, digest, signature)
				} else {
					_, err = key.Sign(b.Context(), v.alg, digest)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkEncrypt(b *testing.B) { benchmarkEncryption(b, false) }
func BenchmarkDecrypt(b *testing.B) { benchmarkEncryption(b, true) }

func benchmarkEncryption(b *testing.B, decrypt bool) {
	for _, v := range []struct {
		alg  hsm.Algorithm
		spec hsm.Spec
	}{
		{hsm.RSAOAEP256, rsaSpec(2048)}, {hsm.RSAOAEP256, rsaSpec(4096)}, {hsm.RSA15, rsaSpec(2048)}, {hsm.A256GCM, octSpec(256)},
		{hsm.A256CBCPAD, octSpec(256)}, {hsm.A256KW, octSpec(256)},
	} {
		b.Run(string(v.alg)+"/"+v.spec.String(), func(b *testing.B) {
			key, m := openBlob(b, v.spec), hsm.Message{Value: make([]byte, 32)}
			if v.alg == hsm.A256CBCPAD {
				m.IV = make([]byte, 16)
			}
			sealed, err := key.Encrypt(b.Context(), v.alg, m)
			if err != nil {
				b.Fatal(err)
			}
			if sealed.IV == nil {
				sealed.IV = m.IV
			}
			b.ReportAllocs()
			for b.Loop() {
				if decrypt {
					_, err = key.Decrypt(b.Context(), v.alg, sealed)
				} else {
					_, err = key.Encrypt(b.Context(), v.alg, m)
				}
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// Opening is what a key costs that is not in the caller's cache.
func BenchmarkOpen(b *testing.B) {
	s := hsm.NewSoftware(hsm.SoftwareConfig{})
	for _, blob := range blobs(b) {
		b.Run(blob.Spec.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Open(b.Context(), blob.Spec, blob.Blob); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkGenerate(b *testing.B) {
	s := hsm.NewSoftware(hsm.SoftwareConfig{})
	for _, spec := range []hsm.Spec{rsaSpec(2048), rsaSpec(3072), rsaSpec(4096), ecSpec(hsm.P256), ecSpec(hsm.P256K), ecSpec(hsm.P521), octSpec(256)} {
		b.Run(spec.String(), func(b *testing.B) {
			for b.Loop() {
				if _, err := s.Generate(b.Context(), spec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
