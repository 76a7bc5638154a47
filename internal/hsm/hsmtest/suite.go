package hsmtest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha1" // hashes of algorithms
	_ "crypto/sha256"
	_ "crypto/sha512"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"
	secpecdsa "github.com/decred/dcrd/dcrec/secp256k1/v4/ecdsa"

	"github.com/strongroom/strongroom/internal/hsm"
)

// Names of what is neither an algorithm nor a curve, for Run's list of what a provider does not support.
const (
	ImportWrapped = "ImportWrapped"
	ExportSHA1    = "Export with SHA-1"
)

// Run holds p to the contract of hsm.Provider. Unsupported is what p refuses as hsm.Unsupported: algorithms, curves and the
// names above. It refuses all of that, always, and nothing else.
func Run(t *testing.T, p hsm.Provider, unsupported ...string) {
	s := &suite{p: p, unsupported: unsupported}
	_, s.recipient = NewRSA(t, 2048)
	t.Run("Random", s.random)
	t.Run("Generate", s.generate)
	if t.Failed() {
		return
	}
	s.addImported(t)
	t.Run("Open", s.open)
	for _, k := range s.keys {
		t.Run("Use/"+k.name, func(t *testing.T) { t.Parallel(); s.use(t, k) })
	}
	t.Run("Concurrent", func(t *testing.T) { t.Parallel(); s.concurrent(t) })
	t.Run("Import", func(t *testing.T) { t.Parallel(); s.imports(t) })
	t.Run("ImportRefuses", func(t *testing.T) { t.Parallel(); s.importRefuses(t) })
	t.Run("ImportWrapped", func(t *testing.T) { t.Parallel(); s.importWrapped(t) })
	t.Run("Export", func(t *testing.T) { t.Parallel(); s.export(t) })
}

type suite struct {
	p           hsm.Provider
	unsupported []string
	keys        []*key          // one of each kind
	recipient   *rsa.PrivateKey // of what is exported
}

type key struct {
	name string
	hsm.New
	hsm.Key
	raw []byte // of an oct key that was imported
}

// key returns nil if the provider has none of that name.
func (s *suite) key(name string) *key {
	for _, k := range s.keys {
		if k.name == name {
			return k
		}
	}
	return nil
}

// supported tells whether the provider did what has one of the names: if not, it had to refuse it.
func (s *suite) supported(t *testing.T, err error, names ...string) bool {
	t.Helper()
	for _, name := range names {
		if slices.Contains(s.unsupported, name) {
			wantKind(t, name, err, hsm.Unsupported)
			return false
		}
	}
	if err != nil {
		t.Errorf("%s: %v", strings.Join(names, ", "), err)
	}
	return err == nil
}

// wantKind expects an *hsm.Error.
func wantKind(t *testing.T, what string, err error, kind hsm.Kind) {
	t.Helper()
	var refused *hsm.Error
	switch {
	case !errors.As(err, &refused):
		t.Errorf("%s: %v; want a refusal", what, err)
	case refused.Kind != kind || refused.Message == "":
		t.Errorf("%s: refused as kind %d: %q; want kind %d", what, refused.Kind, refused.Message, kind)
	}
}

func specs() map[string]hsm.Spec {
	out := make(map[string]hsm.Spec)
	for _, bits := range []int{2048, 3072, 4096} {
		out[fmt.Sprintf("RSA-%d", bits)] = hsm.Spec{Type: hsm.RSA, Bits: bits}
	}
	for _, c := range []hsm.Curve{hsm.P256, hsm.P256K, hsm.P384, hsm.P521} {
		out[string(c)] = hsm.Spec{Type: hsm.EC, Curve: c}
	}
	for _, bits := range []int{128, 192, 256} {
		out[fmt.Sprintf("oct-%d", bits)] = hsm.Spec{Type: hsm.Oct, Bits: bits}
	}
	return out
}

func (s *suite) random(t *testing.T) {
	seen := make(map[string]bool)
	for range 10 {
		b, err := s.p.Random(t.Context(), 128)
		if err != nil || len(b) != 128 || seen[string(b)] {
			t.Fatalf("%d bytes, seen before: %v, %v", len(b), seen[string(b)], err)
		}
		seen[string(b)] = true
	}
	for _, n := range []int{-1, 0, hsm.MaxMessage + 1} {
		_, err := s.p.Random(t.Context(), n)
		wantKind(t, fmt.Sprintf("%d bytes", n), err, hsm.BadInput)
	}
}

func (s *suite) generate(t *testing.T) {
	ctx := t.Context()
	for name, spec := range specs() {
		made, err := s.p.Generate(ctx, spec)
		if !s.supported(t, err, name) {
			continue
		}
		s.add(t, name, made, nil)
		if again := s.remake(t, spec); bytes.Equal(again.Blob, made.Blob) || again.Public.N != nil && bytes.Equal(again.Public.N, made.Public.N) {
			t.Errorf("%s: the same key twice", name)
		}
	}
	for name, spec := range map[string]hsm.Spec{
		"no type":             {},
		"an unknown type":     {Type: "OKP", Curve: "Ed25519"},
		"RSA of 1024 bits":    {Type: hsm.RSA, Bits: 1024},
		"RSA of 2047 bits":    {Type: hsm.RSA, Bits: 2047},
		"RSA of 16384 bits":   {Type: hsm.RSA, Bits: 16384},
		"RSA of no bits":      {Type: hsm.RSA},
		"RSA of -1 bits":      {Type: hsm.RSA, Bits: -1},
		"EC on no curve":      {Type: hsm.EC},
		"EC on P-224":         {Type: hsm.EC, Curve: "P-224"},
		"oct of 129 bits":     {Type: hsm.Oct, Bits: 129},
		"oct of 512 bits":     {Type: hsm.Oct, Bits: 512},
		"oct of no bits":      {Type: hsm.Oct},
		"oct of a whole heap": {Type: hsm.Oct, Bits: 1 << 40},
	} {
		_, err := s.p.Generate(ctx, spec)
		wantKind(t, name, err, hsm.BadInput)
	}
	for _, e := range []int{-1, 1, 3, 65536} {
		if _, err := s.p.Generate(ctx, hsm.Spec{Type: hsm.RSA, Bits: 2048, Exponent: e}); !errors.As(err, new(*hsm.Error)) {
			t.Errorf("the exponent %d: %v", e, err)
		}
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := s.p.Generate(ended, hsm.Spec{Type: hsm.RSA, Bits: 4096}); !errors.Is(err, context.Canceled) {
		t.Errorf("in a context that has ended: %v", err)
	}
}

// remake makes a second key, unless that takes long.
func (s *suite) remake(t *testing.T, spec hsm.Spec) hsm.New {
	t.Helper()
	if spec.Bits > 2048 {
		return hsm.New{}
	}
	made, err := s.p.Generate(t.Context(), spec)
	if err != nil {
		t.Error(err)
	}
	return made
}

// addImported adds oct keys of known bytes: those made by Generate show none to compare with, and some sizes are for HMAC
// alone.
func (s *suite) addImported(t *testing.T) {
	t.Helper()
	for _, n := range []int{16, 24, 32, 48, 64} {
		raw := make([]byte, n)
		rand.Read(raw)
		taken, err := s.p.Import(t.Context(), hsm.PrivateKey{Type: hsm.Oct, K: bytes.Clone(raw)})
		if err != nil {
			t.Fatal(err)
		}
		s.add(t, fmt.Sprintf("imported oct-%d", n*8), taken, raw)
	}
}

func (s *suite) add(t *testing.T, name string, made hsm.New, raw []byte) {
	t.Helper()
	opened, err := s.p.Open(t.Context(), made.Spec, made.Blob)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	s.keys = append(s.keys, &key{name: name, New: made, Key: opened, raw: raw})
	checkPublic(t, name, made)
}

// checkPublic checks the form of a public key.
func checkPublic(t *testing.T, name string, made hsm.New) {
	t.Helper()
	pub := made.Public
	switch made.Spec.Type {
	case hsm.RSA:
		n := new(big.Int).SetBytes(pub.N)
		if n.BitLen() != made.Spec.Bits || len(pub.N) != made.Spec.Bits/8 || !bytes.Equal(pub.E, []byte{1, 0, 1}) || pub.X != nil || pub.Y != nil {
			t.Errorf("%s: modulus of %d bits, exponent %x", name, n.BitLen(), pub.E)
		}
	case hsm.EC:
		if size := coordinateLen(made.Spec.Curve); len(pub.X) != size || len(pub.Y) != size || pub.N != nil || pub.E != nil {
			t.Errorf("%s: coordinates of %d and %d bytes", name, len(pub.X), len(pub.Y))
		}
	default:
		if pub.N != nil || pub.E != nil || pub.X != nil || pub.Y != nil {
			t.Errorf("%s: a public key", name)
		}
	}
}

func coordinateLen(c hsm.Curve) int {
	return map[hsm.Curve]int{hsm.P256: 32, hsm.P256K: 32, hsm.P384: 48, hsm.P521: 66}[c]
}

// open gives blobs that are not right: no key comes of them, and the caller is not blamed.
func (s *suite) open(t *testing.T) {
	for _, k := range s.keys {
		if _, err := s.p.Open(t.Context(), k.Spec, k.Blob); err != nil {
			t.Errorf("%s: a second time: %v", k.name, err)
		}
		blobs := map[string][]byte{"no blob": nil, "an empty blob": {}, "half of it": k.Blob[:len(k.Blob)/2], "its first byte": k.Blob[:1]}
		other := bytes.Clone(k.Blob)
		other[0] ^= 0x80
		blobs["another format"] = other
		for name, blob := range blobs {
			if opened, err := s.p.Open(t.Context(), k.Spec, blob); err == nil || errors.As(err, new(*hsm.Error)) || opened != nil {
				t.Errorf("%s: %s: %v", k.name, name, err)
			}
		}
		for _, other := range s.keys {
			if other.Spec == k.Spec {
				continue
			}
			if _, err := s.p.Open(t.Context(), other.Spec, k.Blob); err == nil {
				t.Errorf("a blob of %v opens as %v", k.Spec, other.Spec)
			}
		}
	}
}

// An algorithm is what the wire says about it (RFC 7518 and Azure's documentation).
type algorithm struct {
	name   hsm.Algorithm
	uses   hsm.Use
	hash   crypto.Hash
	digest int      // bytes that are signed
	keys   []string // prefixes of names
}

func algorithms() []algorithm {
	const both = hsm.Encryption | hsm.Wrapping
	rsaKeys := []string{"RSA-"}
	oct := func(bits ...int) (names []string) {
		for _, b := range bits {
			names = append(names, fmt.Sprintf("oct-%d", b), fmt.Sprintf("imported oct-%d", b))
		}
		return names
	}
	out := []algorithm{
		{hsm.RSA15, both, 0, 0, rsaKeys},
		{hsm.RSAOAEP, both, crypto.SHA1, 0, rsaKeys},
		{hsm.RSAOAEP256, both, crypto.SHA256, 0, rsaKeys},
		{hsm.RS256, hsm.Signature, crypto.SHA256, 32, rsaKeys},
		{hsm.RS384, hsm.Signature, crypto.SHA384, 48, rsaKeys},
		{hsm.RS512, hsm.Signature, crypto.SHA512, 64, rsaKeys},
		{hsm.PS256, hsm.Signature, crypto.SHA256, 32, rsaKeys},
		{hsm.PS384, hsm.Signature, crypto.SHA384, 48, rsaKeys},
		{hsm.PS512, hsm.Signature, crypto.SHA512, 64, rsaKeys},
		{hsm.RSNULL, hsm.Signature, 0, 51, rsaKeys}, // as a DigestInfo of SHA-256
		{hsm.ES256, hsm.Signature, 0, 32, []string{"P-256"}},
		{hsm.ES256K, hsm.Signature, 0, 32, []string{"P-256K"}},
		{hsm.ES384, hsm.Signature, 0, 48, []string{"P-384"}},
		{hsm.ES512, hsm.Signature, 0, 64, []string{"P-521"}},
		{hsm.HS256, hsm.Signature, crypto.SHA256, 32, oct(256, 384, 512)},
		{hsm.HS384, hsm.Signature, crypto.SHA384, 48, oct(384, 512)},
		{hsm.HS512, hsm.Signature, crypto.SHA512, 64, oct(512)},
		{hsm.CKMAESKeyWrap, hsm.Wrapping, 0, 0, oct(128, 192, 256)},
		{hsm.CKMAESKeyWrapPad, hsm.Wrapping, 0, 0, oct(128, 192, 256)},
	}
	for bits, names := range map[int][5]hsm.Algorithm{
		128: {hsm.A128GCM, hsm.A128CBC, hsm.A128CBCPAD, hsm.A128KW, hsm.A128KWPAD},
		192: {hsm.A192GCM, hsm.A192CBC, hsm.A192CBCPAD, hsm.A192KW, hsm.A192KWPAD},
		256: {hsm.A256GCM, hsm.A256CBC, hsm.A256CBCPAD, hsm.A256KW, hsm.A256KWPAD},
	} {
		for i, use := range []hsm.Use{both, hsm.Encryption, hsm.Encryption, hsm.Wrapping, hsm.Wrapping} {
			out = append(out, algorithm{names[i], use, 0, 0, oct(bits)})
		}
	}
	return out
}

func (a algorithm) fits(k *key) bool {
	return slices.ContainsFunc(a.keys, func(name string) bool {
		return k.name == name || strings.HasSuffix(name, "-") && strings.HasPrefix(k.name, name)
	})
}

// use tries every algorithm with a key, for everything.
func (s *suite) use(t *testing.T, k *key) {
	unknown := algorithm{name: "none", uses: hsm.Encryption | hsm.Wrapping | hsm.Signature, digest: 32}
	for _, a := range append(algorithms(), unknown) {
		digest := make([]byte, a.digest)
		rand.Read(digest)
		if a.uses&hsm.Signature == 0 || !a.fits(k) {
			if _, err := k.Sign(t.Context(), a.name, digest); true {
				wantKind(t, fmt.Sprintf("Sign %s", a.name), err, hsm.BadInput)
			}
			_, err := k.Verify(t.Context(), a.name, digest, digest)
			wantKind(t, fmt.Sprintf("Verify %s", a.name), err, hsm.BadInput)
		} else {
			s.signature(t, k, a, digest)
		}
		m := hsm.Message{Value: make([]byte, 32)}
		if a.uses&^hsm.Signature == 0 || !a.fits(k) {
			_, err := k.Encrypt(t.Context(), a.name, m)
			wantKind(t, fmt.Sprintf("Encrypt %s", a.name), err, hsm.BadInput)
			_, err = k.Decrypt(t.Context(), a.name, m)
			wantKind(t, fmt.Sprintf("Decrypt %s", a.name), err, hsm.BadInput)
		} else {
			s.encryption(t, k, a)
		}
		for _, use := range []hsm.Use{hsm.Encryption, hsm.Wrapping, hsm.Signature} {
			want := a.uses&use != 0 && a.fits(k)
			if err := hsm.Check(a.name, use, k.Spec); (err == nil) != want {
				t.Errorf("Check(%s, %v, %v): %v", a.name, use, k.Spec, err)
			} else if err != nil {
				wantKind(t, "Check "+string(a.name), err, hsm.BadInput)
			}
		}
	}
}

func (s *suite) signature(t *testing.T, k *key, a algorithm, digest []byte) {
	ctx, before := t.Context(), bytes.Clone(digest)
	signature, err := k.Sign(ctx, a.name, digest)
	if !s.supported(t, err, string(a.name)) {
		_, err := k.Verify(ctx, a.name, digest, make([]byte, 256))
		s.supported(t, err, string(a.name))
		return
	}
	if !bytes.Equal(digest, before) {
		t.Errorf("%s changed the digest", a.name)
	}
	if !verifyElsewhere(k, a, digest, signature) {
		t.Errorf("%s: the signature is wrong", a.name)
	}
	verify := func(what string, digest, signature []byte, want bool) {
		t.Helper()
		if ok, err := k.Verify(ctx, a.name, digest, signature); err != nil || ok != want {
			t.Errorf("%s: %s is right: %v, %v", a.name, what, ok, err)
		}
	}
	verify("the signature", digest, signature, true)
	other := bytes.Clone(digest)
	other[0] ^= 1
	verify("another digest's", other, signature, false)
	for _, i := range []int{0, len(signature) / 2, len(signature) - 1} {
		other := bytes.Clone(signature)
		other[i] ^= 1
		verify("a changed signature", digest, other, false)
	}
	verify("no signature", digest, nil, false)
	verify("zeros", digest, make([]byte, len(signature)), false)
	verify("a signature less a byte", digest, signature[1:], false)
	verify("a signature and a byte", digest, append(bytes.Clone(signature), 0), false)
	verify("a signature after a byte", digest, append([]byte{0}, signature...), false)

	lengths := []int{0, 1, a.digest - 1, a.digest + 1, 2 * a.digest, 1 << 16}
	switch a.name {
	case hsm.HS256, hsm.HS384, hsm.HS512:
		lengths = []int{0, 1 << 16}
	case hsm.RSNULL:
		lengths = []int{0, k.Spec.Bits/8 - 10, 1 << 16}
	}
	for _, n := range lengths {
		_, err := k.Sign(ctx, a.name, make([]byte, n))
		wantKind(t, fmt.Sprintf("%s signs %d bytes", a.name, n), err, hsm.BadInput)
		_, err = k.Verify(ctx, a.name, make([]byte, n), signature)
		wantKind(t, fmt.Sprintf("%s verifies %d bytes", a.name, n), err, hsm.BadInput)
	}
}

// verifyElsewhere verifies with a library and the public key, or makes the same HMAC.
func verifyElsewhere(k *key, a algorithm, digest, signature []byte) bool {
	switch {
	case k.Spec.Type == hsm.Oct:
		if k.raw == nil {
			return len(signature) == a.hash.Size()
		}
		mac := hmac.New(a.hash.New, k.raw)
		mac.Write(digest)
		return hmac.Equal(mac.Sum(nil), signature)
	case strings.HasPrefix(string(a.name), "PS"):
		return rsa.VerifyPSS(rsaPublic(k.Public), a.hash, digest, signature, &rsa.PSSOptions{SaltLength: a.hash.Size()}) == nil
	case k.Spec.Type == hsm.RSA:
		return rsa.VerifyPKCS1v15(rsaPublic(k.Public), a.hash, digest, signature) == nil
	case len(signature) != 2*coordinateLen(k.Spec.Curve):
		return false
	}
	r, s := signature[:len(signature)/2], signature[len(signature)/2:]
	if k.Spec.Curve == hsm.P256K {
		return verifyP256K(k.Public, digest, r, s)
	}
	public, err := ecdsa.ParseUncompressedPublicKey(curve(k.Spec.Curve), point(k.Public))
	return err == nil && ecdsa.Verify(public, digest, new(big.Int).SetBytes(r), new(big.Int).SetBytes(s))
}

func rsaPublic(p hsm.PublicKey) *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBytes(p.N), E: int(new(big.Int).SetBytes(p.E).Int64())}
}

func curve(c hsm.Curve) elliptic.Curve {
	return map[hsm.Curve]elliptic.Curve{hsm.P256: elliptic.P256(), hsm.P384: elliptic.P384(), hsm.P521: elliptic.P521()}[c]
}

func point(p hsm.PublicKey) []byte { return slices.Concat([]byte{4}, p.X, p.Y) }

func verifyP256K(p hsm.PublicKey, digest, r, s []byte) bool {
	public, err := secp256k1.ParsePubKey(point(p))
	if err != nil {
		return false
	}
	var rr, ss secp256k1.ModNScalar
	if rr.SetByteSlice(r) || ss.SetByteSlice(s) {
		return false
	}
	return secpecdsa.NewSignature(&rr, &ss).Verify(digest, public)
}

// plaintexts are lengths that an algorithm encrypts, and that it does not.
func (a algorithm) plaintexts(k *key) (good, bad []int) {
	name := string(a.name)
	switch {
	case strings.Contains(name, "GCM"), strings.HasSuffix(name, "CBCPAD"):
		return []int{0, 1, 15, 16, 17, 1000, hsm.MaxMessage}, []int{hsm.MaxMessage + 1}
	case strings.HasSuffix(name, "CBC"):
		return []int{16, 32, 1008, hsm.MaxMessage}, []int{0, 1, 15, 17, hsm.MaxMessage + 16}
	case strings.HasSuffix(name, "PAD"):
		return []int{1, 7, 8, 9, 16, 1217, hsm.MaxMessage}, []int{0, hsm.MaxMessage + 1}
	case k.Spec.Type == hsm.Oct:
		return []int{16, 24, 32, 256}, []int{0, 8, 15, 17, hsm.MaxMessage + 8}
	}
	limit := k.Spec.Bits/8 - 11
	if a.hash != 0 {
		limit = k.Spec.Bits/8 - 2*a.hash.Size() - 2
	}
	return []int{0, 1, 32, limit}, []int{limit + 1, k.Spec.Bits / 8, hsm.MaxMessage}
}

func (s *suite) encryption(t *testing.T, k *key, a algorithm) {
	ctx, name := t.Context(), string(a.name)
	input := hsm.Message{Value: make([]byte, 32)}
	cbc := strings.Contains(name, "CBC")
	if cbc {
		input.IV = make([]byte, 16)
		rand.Read(input.IV)
	}
	if _, err := k.Encrypt(ctx, a.name, input); !s.supported(t, err, name) {
		_, err := k.Decrypt(ctx, a.name, hsm.Message{Value: make([]byte, k.Spec.Bits/8)})
		s.supported(t, err, name)
		return
	}
	good, bad := a.plaintexts(k)
	for _, n := range good {
		input.Value = make([]byte, n)
		rand.Read(input.Value)
		if strings.Contains(name, "GCM") {
			input.AAD = []byte("additional data")[:n%16%15]
		}
		s.roundTrip(t, k, a, input)
	}
	for _, n := range bad {
		input.Value = make([]byte, n)
		_, err := k.Encrypt(ctx, a.name, input)
		wantKind(t, fmt.Sprintf("%s encrypts %d bytes", name, n), err, hsm.BadInput)
	}
	s.surplus(t, k, a)
}

func (s *suite) roundTrip(t *testing.T, k *key, a algorithm, input hsm.Message) {
	t.Helper()
	ctx, before := t.Context(), clone(input)
	out, err := k.Encrypt(ctx, a.name, input)
	if err != nil {
		t.Errorf("%s encrypts %d bytes: %v", a.name, len(input.Value), err)
		return
	}
	sealed := clone(out)
	if strings.Contains(string(a.name), "CBC") {
		out.IV = input.IV
	}
	got, err := k.Decrypt(ctx, a.name, out)
	if err != nil || !bytes.Equal(got, before.Value) {
		t.Errorf("%s: %d bytes came back as %d, %v", a.name, len(input.Value), len(got), err)
	}
	if !equal(input, before) || !bytes.Equal(out.Value, sealed.Value) {
		t.Errorf("%s changed its input", a.name)
	}
	if len(input.Value) > 64 {
		return
	}
	s.tamper(t, k, a, input, out)
}

// authentic algorithms notice any change.
func (a algorithm) authentic() bool {
	return !strings.Contains(string(a.name), "CBC") && a.name != hsm.RSA15
}

// tamper changes each part of a ciphertext. All failures must be the same.
func (s *suite) tamper(t *testing.T, k *key, a algorithm, input, sealed hsm.Message) {
	t.Helper()
	for _, part := range []func(*hsm.Message) *[]byte{
		func(m *hsm.Message) *[]byte { return &m.Value },
		func(m *hsm.Message) *[]byte { return &m.Tag },
		func(m *hsm.Message) *[]byte { return &m.AAD },
		func(m *hsm.Message) *[]byte { return &m.IV },
	} {
		for i := range *part(&sealed) {
			if k.Spec.Type == hsm.RSA && i%67 != 0 {
				continue // each takes long
			}
			changed := clone(sealed)
			(*part(&changed))[i] ^= 1 << (i % 8)
			got, err := k.Decrypt(t.Context(), a.name, changed)
			if err == nil {
				if a.authentic() || bytes.Equal(got, input.Value) {
					t.Errorf("%s: a changed ciphertext of %d bytes decrypts", a.name, len(input.Value))
				}
				continue
			}
			var refused *hsm.Error
			if !errors.As(err, &refused) || *refused != (hsm.Error{Kind: hsm.Undecryptable, Message: "The parameter is incorrect.\r\n"}) || got != nil {
				t.Errorf("%s: a changed ciphertext: %v", a.name, err)
			}
		}
		longer := clone(sealed)
		if value := part(&longer); len(*value) > 0 {
			*value = append(*value, 0)
			if _, err := k.Decrypt(t.Context(), a.name, longer); !errors.As(err, new(*hsm.Error)) {
				t.Errorf("%s: a byte more: %v", a.name, err)
			}
		}
	}
	if _, err := k.Decrypt(t.Context(), a.name, hsm.Message{}); !errors.As(err, new(*hsm.Error)) {
		t.Errorf("%s decrypts nothing: %v", a.name, err)
	}
}

// surplus gives parts that an algorithm has no use for: a caller must not believe that they matter.
func (s *suite) surplus(t *testing.T, k *key, a algorithm) {
	t.Helper()
	gcm, cbc := strings.Contains(string(a.name), "GCM"), strings.Contains(string(a.name), "CBC")
	value := make([]byte, 16)
	for what, m := range map[string]hsm.Message{
		"an iv":                   {Value: value, IV: make([]byte, 12)},
		"an iv of 15 bytes":       {Value: value, IV: make([]byte, 15)},
		"a tag":                   {Value: value, IV: make([]byte, 16), Tag: make([]byte, 16)},
		"too much of anything":    {Value: value, AAD: make([]byte, hsm.MaxMessage+1)},
		"additional data and iv":  {Value: value, IV: make([]byte, 16), AAD: value},
		"a tag alone":             {Value: value, Tag: make([]byte, 16)},
		"a tag and an iv for GCM": {Value: value, IV: make([]byte, 12), Tag: make([]byte, 16)},
	} {
		_, err := k.Encrypt(t.Context(), a.name, m)
		wantKind(t, fmt.Sprintf("%s encrypts with %s", a.name, what), err, hsm.BadInput)
	}
	if gcm || cbc {
		_, err := k.Decrypt(t.Context(), a.name, hsm.Message{Value: value})
		wantKind(t, fmt.Sprintf("%s decrypts without iv", a.name), err, hsm.BadInput)
	}
	if gcm {
		for _, n := range []int{0, 4, 12, 15, 17} {
			_, err := k.Decrypt(t.Context(), a.name, hsm.Message{Value: value, IV: make([]byte, 12), Tag: make([]byte, n)})
			wantKind(t, fmt.Sprintf("%s decrypts with a tag of %d bytes", a.name, n), err, hsm.BadInput)
		}
	}
}

func clone(m hsm.Message) hsm.Message {
	return hsm.Message{Value: bytes.Clone(m.Value), IV: bytes.Clone(m.IV), AAD: bytes.Clone(m.AAD), Tag: bytes.Clone(m.Tag)}
}

func equal(a, b hsm.Message) bool {
	return bytes.Equal(a.Value, b.Value) && bytes.Equal(a.IV, b.IV) && bytes.Equal(a.AAD, b.AAD) && bytes.Equal(a.Tag, b.Tag)
}

// concurrent uses each key from several goroutines, which -race watches.
func (s *suite) concurrent(t *testing.T) {
	for _, k := range s.keys {
		for _, a := range algorithms() {
			if !a.fits(k) || !slices.Contains([]hsm.Algorithm{
				hsm.PS256, hsm.ES256, hsm.ES256K, hsm.ES384, hsm.ES512, hsm.HS256, hsm.RSAOAEP256, hsm.A128GCM, hsm.A192GCM, hsm.A256GCM,
			}, a.name) {
				continue
			}
			var wg sync.WaitGroup
			for range 4 {
				wg.Go(func() { useOnce(t, k, a) })
			}
			wg.Wait()
		}
	}
}

func useOnce(t *testing.T, k *key, a algorithm) {
	if a.uses == hsm.Signature {
		digest := make([]byte, a.digest)
		signature, err := k.Sign(t.Context(), a.name, digest)
		if ok, verr := k.Verify(t.Context(), a.name, digest, signature); !ok {
			t.Errorf("%s: %v, %v", a.name, err, verr)
		}
		return
	}
	m, err := k.Encrypt(t.Context(), a.name, hsm.Message{Value: make([]byte, 16)})
	if got, derr := k.Decrypt(t.Context(), a.name, m); len(got) != 16 {
		t.Errorf("%s: %v, %v", a.name, err, derr)
	}
}
