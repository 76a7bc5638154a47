package hsm

import (
	"bytes"
	"context"
	"crypto"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/strongroom/strongroom/internal/keywrap"
)

// SoftwareConfig is for NewSoftware.
type SoftwareConfig struct {
	// Workers is how many RSA keys are made, or checked when they are imported, at the same time, each by one processor: half of
	// the processors if 0, so that the other half does everything else.
	Workers int

	// Queue is how many callers may wait for one of them to be free before further ones get ErrBusy: 32 if 0. Nobody whose
	// context has a deadline waits for longer than a quarter of what is left; callers without one wait for their turn.
	Queue int
}

// Software is a Provider that keeps keys in this process's memory while they are used, and in its caller's store else: its
// blobs are the keys themselves. It computes with Go's standard library, apart from secp256k1, and from RSA where a faster
// library is built in.
//
// Under GODEBUG=fips140=only it refuses, as Unsupported, what Go's FIPS 140-3 module would: SHA-1 in OAEP and with it
// CKM_RSA_AES_KEY_WRAP as BYOK has it, encryption with PKCS#1 v1.5, signatures over anything but a digest, and secp256k1.
type Software struct {
	primes   *pool // for whatever makes or tests primes
	rsa      *rsaChooser
	fipsOnly bool
}

var _ Provider = (*Software)(nil)

// NewSoftware returns a provider that needs no closing.
func NewSoftware(c SoftwareConfig) *Software {
	if c.Workers <= 0 {
		c.Workers = max(1, runtime.GOMAXPROCS(0)/2)
	}
	if c.Queue <= 0 {
		c.Queue = 32
	}
	return &Software{
		primes:   newPool(c.Workers, c.Queue),
		rsa:      newRSAChooser(engines(), time.Now),
		fipsOnly: fips140.Enforced(),
	}
}

// Engines says, a line for each size of RSA keys, which library computes with them and what it was measured beside. Where
// there is more than one, it takes some 100 ms the first time.
func (s *Software) Engines() []string { return s.rsa.report() }

// Platform implements Provider.
func (s *Software) Platform() string { return "0" }

// Random implements Provider. It returns at most MaxMessage bytes at a time.
func (s *Software) Random(_ context.Context, n int) ([]byte, error) {
	if n < 1 || n > MaxMessage {
		return nil, badInput("From 1 to %d random bytes can be had at a time, not %d.", MaxMessage, n)
	}
	b := make([]byte, n)
	rand.Read(b)
	return b, nil
}

// Generate implements Provider. Keys other than RSA's are made at once and wait for nobody.
func (s *Software) Generate(ctx context.Context, spec Spec) (New, error) {
	if err := s.checkSpec(spec); err != nil {
		return New{}, err
	}
	switch {
	case spec.Type == RSA:
		key, err := compute(ctx, s.primes, func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, spec.Bits) })
		if err != nil {
			return New{}, err
		}
		return newRSA(key)
	case spec.Type == Oct:
		raw := make([]byte, spec.Bits/8)
		defer clear(raw)
		rand.Read(raw)
		return newOct(raw), nil
	case spec.Curve == P256K:
		return generateP256K()
	default:
		return generateEC(spec.Curve)
	}
}

// checkSpec tells whether such keys are made here.
func (s *Software) checkSpec(spec Spec) error {
	switch spec.Type {
	case RSA:
		if !isRSASize(spec.Bits) {
			return badInput("An RSA key has 2048, 3072 or 4096 bits, not %d.", spec.Bits)
		}
		if spec.Exponent != 0 && spec.Exponent != usualExponent {
			return &Error{Kind: Unsupported, Message: fmt.Sprintf("RSA keys are made with the public exponent %d only, not with %d.",
				usualExponent, spec.Exponent)}
		}
		return nil
	case EC:
		return s.checkCurve(spec.Curve)
	case Oct:
		if !isAES(spec.Bits) {
			return badInput("An oct key is made with 128, 192 or 256 bits, not %d.", spec.Bits)
		}
		return nil
	default:
		return unknownType(spec.Type)
	}
}

func (s *Software) checkCurve(c Curve) error {
	switch {
	case c == P256K && s.fipsOnly:
		return notApproved("The curve " + string(c))
	case c == P256K || nistCurve(c) != nil:
		return nil
	default:
		return badInput("The curve %.40q is unknown. The curves are P-256, P-256K, P-384 and P-521.", string(c))
	}
}

func unknownType(t KeyType) error {
	return badInput("The type of key %.40q is unknown. The types are RSA, EC and oct.", string(t))
}

// notApproved refuses what Go's FIPS 140-3 module would refuse with an error of its own, or with a panic.
func notApproved(what string) error {
	return &Error{Kind: Unsupported, Message: what + " is not allowed while the service runs with fips140=only."}
}

// Import implements Provider. It compares and divides with math/big, whose time depends on the numbers: they come from a
// caller who knows them, once each.
func (s *Software) Import(ctx context.Context, key PrivateKey) (New, error) {
	return s.take(ctx, &key, true)
}

// take checks a key and takes it in.
func (s *Software) take(ctx context.Context, key *PrivateKey, publicRequired bool) (New, error) {
	switch key.Type {
	case RSA:
		numbers, err := readRSA(key)
		if err != nil {
			return New{}, err
		}
		k, err := compute(ctx, s.primes, numbers.check)
		if err != nil {
			return New{}, err
		}
		return newRSA(k)
	case EC:
		if err := s.checkCurve(key.Curve); err != nil {
			return New{}, err
		}
		if key.Curve == P256K {
			return importP256K(key, publicRequired)
		}
		return importEC(key, publicRequired)
	case Oct:
		return importOct(key.K)
	default:
		return New{}, unknownType(key.Type)
	}
}

// ImportWrapped implements Provider.
func (s *Software) ImportWrapped(ctx context.Context, kek Key, target KeyType, wrapped []byte) (New, error) {
	if s.fipsOnly {
		return New{}, notApproved("CKM_RSA_AES_KEY_WRAP with SHA-1")
	}
	k, ok := kek.(*softwareKey)
	if !ok {
		return New{}, fmt.Errorf("hsm: a %T does not unwrap keys for the software provider", kek)
	}
	plain, err := k.unwrapRSAAES(crypto.SHA1, wrapped)
	if err != nil {
		return New{}, err
	}
	defer clear(plain)
	if target == Oct {
		return importOct(plain)
	}
	return s.takePKCS8(ctx, plain, target)
}

// A blob is its format and then the key: PKCS#8 (RFC 5958) in DER for RSA and EC, the bytes of an oct key. Formats are
// never used anew for something else.
const (
	blobV1  = 1
	maxBlob = 8 << 10
)

// newBlob takes the encoded key over.
func newBlob(encoded []byte) []byte {
	defer clear(encoded)
	return append([]byte{blobV1}, encoded...)
}

// Open implements Provider. The blob comes from a store that authenticates it, so what Import checks at length is not checked
// again, only that the numbers of the key belong together and that it is of the kind that it should be. A spec without
// Exponent fits keys of any.
func (s *Software) Open(_ context.Context, spec Spec, blob []byte) (Key, error) {
	if spec.Type == EC {
		if err := s.checkCurve(spec.Curve); err != nil {
			return nil, err
		}
	}
	if spec.Type == RSA && !isRSASize(spec.Bits) { // from a backup that somebody made up
		return nil, &Error{Unsupported, fmt.Sprintf("An RSA key has 2048, 3072 or 4096 bits, not %d.", spec.Bits)}
	}
	if len(blob) < 2 || len(blob) > maxBlob {
		return nil, fmt.Errorf("hsm: a blob of %d bytes holds no key", len(blob))
	}
	if blob[0] != blobV1 {
		return nil, fmt.Errorf("hsm: the key's blob has the format %d, which this version does not know", blob[0])
	}
	m, err := s.openMaterial(spec, blob[1:])
	if err != nil {
		return nil, err
	}
	if got := m.spec(); got.Type != spec.Type || got.Bits != spec.Bits && spec.Type != EC || got.Curve != spec.Curve ||
		spec.Exponent != 0 && got.Exponent != spec.Exponent {
		return nil, fmt.Errorf("hsm: the blob holds %v and not %v", got, spec)
	}
	return &softwareKey{m, s.fipsOnly}, nil
}

func (s *Software) openMaterial(spec Spec, encoded []byte) (material, error) {
	switch {
	case spec.Type == RSA:
		return openRSA(encoded, s.rsa.choose)
	case spec.Type == EC && spec.Curve == P256K:
		return openP256K(encoded)
	case spec.Type == EC:
		return openEC(encoded)
	case spec.Type == Oct:
		return openOct(encoded)
	default:
		return nil, fmt.Errorf("hsm: a key of the unknown type %.40q", string(spec.Type))
	}
}

// material is a key in memory. What its methods get has been checked: the algorithm fits the key, a digest has a length that
// the algorithm signs, and a message is not too long.
type material interface {
	spec() Spec
	encode() ([]byte, error) // as in a blob, without the format; the caller clears it

	encrypt(a *algorithm, m Message) (Message, error)
	decrypt(a *algorithm, m Message) ([]byte, error)
	sign(a *algorithm, digest []byte) ([]byte, error)
	verify(a *algorithm, digest, signature []byte) (bool, error)
}

// softwareKey is the Key over any material.
type softwareKey struct {
	material
	fipsOnly bool
}

var _ Key = (*softwareKey)(nil)

// Format keeps the key out of whatever prints it.
func (k *softwareKey) Format(f fmt.State, _ rune) { _, _ = fmt.Fprint(f, k.spec().String()) }

// errUndecryptable is every failure that depends on the key or the plaintext. The text is Azure's.
var errUndecryptable = &Error{Kind: Undecryptable, Message: "The parameter is incorrect.\r\n"}

func (k *softwareKey) find(alg Algorithm, use Use) (*algorithm, error) {
	a, err := findAlgorithm(alg, use, k.spec())
	if err != nil {
		return nil, err
	}
	if k.fipsOnly && !a.approved {
		return nil, notApproved("The algorithm " + string(alg))
	}
	return a, nil
}

// findFor also checks what does not depend on the key.
func (k *softwareKey) findFor(alg Algorithm, m Message, maxValue int) (*algorithm, error) {
	a, err := k.find(alg, Encryption|Wrapping)
	if err != nil {
		return nil, err
	}
	if len(m.Value) > maxValue || len(m.AAD) > MaxMessage {
		return nil, badInput("A value or additional data has at most %d bytes.", MaxMessage)
	}
	// To ignore one would let its sender believe that it matters.
	if name := a.surplus(m); name != "" {
		return nil, badInput("The algorithm %s takes no %s.", alg, name)
	}
	return a, nil
}

// surplus names a part of a message that the algorithm has no use for.
func (a *algorithm) surplus(m Message) string {
	gcm := a.scheme == encryptGCM
	switch {
	case len(m.IV) > 0 && !gcm && a.scheme != encryptCBC && a.scheme != encryptCBCPadded:
		return "iv"
	case len(m.AAD) > 0 && !gcm:
		return "additional data"
	case len(m.Tag) > 0 && !gcm:
		return "tag"
	default:
		return ""
	}
}

// Encrypt implements Key.
func (k *softwareKey) Encrypt(_ context.Context, alg Algorithm, m Message) (Message, error) {
	a, err := k.findFor(alg, m, MaxMessage)
	if err != nil {
		return Message{}, err
	}
	return k.encrypt(a, m)
}

// maxOverhead is by how many bytes a ciphertext, without iv and tag, is longer than its plaintext: RFC 5649 adds most. RSA has
// its own lengths.
const maxOverhead = 16

// Decrypt implements Key.
func (k *softwareKey) Decrypt(_ context.Context, alg Algorithm, m Message) ([]byte, error) {
	a, err := k.findFor(alg, m, MaxMessage+maxOverhead)
	if err != nil {
		return nil, err
	}
	return k.decrypt(a, m)
}

// Sign implements Key.
func (k *softwareKey) Sign(_ context.Context, alg Algorithm, digest []byte) ([]byte, error) {
	a, err := k.findForDigest(alg, digest)
	if err != nil {
		return nil, err
	}
	return k.sign(a, digest)
}

// Verify implements Key.
func (k *softwareKey) Verify(_ context.Context, alg Algorithm, digest, signature []byte) (bool, error) {
	a, err := k.findForDigest(alg, digest)
	if err != nil {
		return false, err
	}
	return k.verify(a, digest, signature)
}

func (k *softwareKey) findForDigest(alg Algorithm, digest []byte) (*algorithm, error) {
	a, err := k.find(alg, Signature)
	if err != nil {
		return nil, err
	}
	return a, a.checkDigest(digest, k.spec().Bits/8)
}

// Export implements Key.
func (k *softwareKey) Export(_ context.Context, recipient *rsa.PublicKey, hash crypto.Hash) ([]byte, error) {
	if k.fipsOnly && hash == crypto.SHA1 {
		return nil, notApproved("CKM_RSA_AES_KEY_WRAP with SHA-1")
	}
	encoded, err := k.encode()
	if err != nil {
		return nil, err
	}
	defer clear(encoded)
	wrapped, err := keywrap.WrapRSAAES(recipient, hash, encoded)
	if errors.Is(err, keywrap.ErrRecipient) {
		return nil, badInput("The key to export to must be %s.", keywrap.RecipientRule())
	}
	return wrapped, err
}

// unwrapRSAAES returns the bytes of a key that somebody wrapped for k.
func (k *softwareKey) unwrapRSAAES(hash crypto.Hash, wrapped []byte) ([]byte, error) {
	m, ok := k.material.(*rsaMaterial)
	if !ok {
		return nil, badInput("A key is imported with an RSA key, not with %v.", k.spec())
	}
	plain, err := keywrap.UnwrapRSAAES(func(ciphertext []byte) ([]byte, error) { return m.decryptOAEP(hash, ciphertext) },
		m.key.Size(), wrapped)
	switch {
	case errors.Is(err, keywrap.ErrLength):
		return nil, badInput("The wrapped key has %d bytes, which is no length of one that was wrapped with %v.", len(wrapped), k.spec())
	case errors.Is(err, keywrap.ErrIntegrity):
		return nil, errUndecryptable
	}
	return plain, err
}

// trimZeros leaves out zeros in front of a number.
func trimZeros(number []byte) []byte { return bytes.TrimLeft(number, "\x00") }
