// Package hsm holds keys that can be used but not seen. A Provider makes keys, takes them in and opens them; what it
// hands out is a public key, a sealed-away blob that only the same kind of provider understands, and a handle that does
// cryptography. Nothing above this package sees a private key, except where somebody imports one.
//
// The interface fits a PKCS#11 token as well as software: keys are used by handle, a key that moves between keys (BYOK,
// secure key release) is wrapped and unwrapped inside the provider, and a provider that keeps no keys of its own returns
// them wrapped, for the caller to store.
//
// The names of algorithms, curves and key types are those of RFC 7518 and of Azure Key Vault (JsonWebKeyType,
// JsonWebKeyEncryptionAlgorithm, JsonWebKeySignatureAlgorithm).
package hsm

import (
	"context"
	"crypto"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
)

// A KeyType is the family of a key, as in a JWK's "kty" without the suffix -HSM: where a key is kept is its provider's
// business, not the key's.
type KeyType string

// The types of keys.
const (
	RSA KeyType = "RSA"
	EC  KeyType = "EC"
	Oct KeyType = "oct" // AES and HMAC
)

// A Curve is a JWK's "crv".
type Curve string

// The curves of EC keys.
const (
	P256  Curve = "P-256"
	P256K Curve = "P-256K" // secp256k1
	P384  Curve = "P-384"
	P521  Curve = "P-521"
)

// A Spec says what kind of key it is.
type Spec struct {
	Type     KeyType
	Bits     int   // length of an RSA modulus or of an oct key
	Curve    Curve // of an EC key
	Exponent int   // of an RSA key; 0 means 65537
}

// String names the kind for people: an RSA key of 2048 bits.
func (s Spec) String() string {
	switch {
	case s.Type == RSA && s.Bits == 0:
		return "an RSA key"
	case s.Type == EC:
		return fmt.Sprintf("an EC key on %s", s.Curve)
	case s.Type == RSA, s.Type == Oct:
		return fmt.Sprintf("an %s key of %d bits", s.Type, s.Bits)
	default:
		return "a key of an unknown type"
	}
}

// A PublicKey is the public part of a key: unsigned big-endian numbers, those of EC padded to the length of the curve's
// field. An oct key has none.
type PublicKey struct {
	N, E []byte // RSA
	X, Y []byte // EC
}

// A PrivateKey is a key as its owner hands it in: the members of a JWK as they came. It prints as REDACTED.
type PrivateKey struct {
	Type  KeyType
	Curve Curve

	N, E, D, DP, DQ, QI, P, Q []byte // RSA; D also is EC's
	X, Y                      []byte // EC
	K                         []byte // oct
}

const redacted = "REDACTED"

// String, GoString, LogValue and MarshalJSON keep the key out of whatever prints or encodes it.
func (PrivateKey) String() string               { return redacted }
func (PrivateKey) GoString() string             { return redacted }
func (PrivateKey) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (PrivateKey) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// Format keeps the key out of every verb of fmt, those for numbers and bytes too.
func (PrivateKey) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// A New is a key that a provider has made or taken in. It prints without its blob.
type New struct {
	Spec   Spec
	Public PublicKey
	Blob   []byte // for Open; secret unless the provider protects it itself
}

// Format, LogValue and MarshalJSON keep the blob out of whatever prints or encodes the key.
func (n New) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, n.Spec.String()) }
func (n New) LogValue() slog.Value         { return slog.StringValue(n.Spec.String()) }
func (n New) MarshalJSON() ([]byte, error) { return json.Marshal(n.Spec.String()) }

// MaxMessage is how many bytes of plaintext a message has at most, and of additional data. RSA takes far less.
const MaxMessage = 32 << 10

// A Message is the input and the output of Encrypt and Decrypt. Algorithms other than AES use Value alone. It prints as
// REDACTED.
type Message struct {
	Value []byte
	IV    []byte // AES-GCM (made by Encrypt) and AES-CBC (given by the caller)
	AAD   []byte // AES-GCM
	Tag   []byte // AES-GCM
}

// Format, LogValue and MarshalJSON keep the message out of whatever prints or encodes it.
func (Message) Format(f fmt.State, _ rune)   { _, _ = io.WriteString(f, redacted) }
func (Message) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (Message) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// A Provider makes and opens keys. Its methods may be called concurrently. An error is an *Error if it is the input's
// fault, ErrBusy if the provider has too much to do at this time, or else a fault of the provider.
type Provider interface {
	// Platform is what Azure's attribute hsmPlatform says of the provider's keys: "0" is software.
	Platform() string

	// Generate makes a key.
	Generate(ctx context.Context, spec Spec) (New, error)

	// Import takes a key in. It refuses weak keys and keys whose members contradict each other.
	Import(ctx context.Context, key PrivateKey) (New, error)

	// ImportWrapped takes in a key of the given type that is wrapped as PKCS#11's CKM_RSA_AES_KEY_WRAP defines, with
	// SHA-1 in OAEP: an AES key under kek's public key, then the key under the AES key (RFC 5649), as PKCS#8 if it is
	// asymmetric and as its bytes if not.
	ImportWrapped(ctx context.Context, kek Key, target KeyType, wrapped []byte) (New, error)

	// Open returns the key of a blob. It needs no closing.
	Open(ctx context.Context, spec Spec, blob []byte) (Key, error)

	// Random returns n random bytes.
	Random(ctx context.Context, n int) ([]byte, error)
}

// A Key is an opened key. Its methods may be called concurrently; errors are as Provider's. An algorithm that does not fit
// the key is an *Error.
type Key interface {
	// Encrypt encrypts or wraps m.Value.
	Encrypt(ctx context.Context, alg Algorithm, m Message) (Message, error)

	// Decrypt reverses Encrypt. All failures that depend on the key or the plaintext are the same *Error of kind
	// Undecryptable, and take the same time as far as the libraries below allow.
	Decrypt(ctx context.Context, alg Algorithm, m Message) ([]byte, error)

	// Sign signs a digest. ECDSA signatures are r‖s, each as long as the curve's order.
	Sign(ctx context.Context, alg Algorithm, digest []byte) ([]byte, error)

	// Verify tells whether a signature is right. One of a wrong length or form is not.
	Verify(ctx context.Context, alg Algorithm, digest, signature []byte) (bool, error)

	// Export returns the key wrapped for recipient as in ImportWrapped, with hash in OAEP.
	Export(ctx context.Context, recipient *rsa.PublicKey, hash crypto.Hash) ([]byte, error)
}

// A Kind is why a provider refused an input.
type Kind int

// The kinds of refusal.
const (
	BadInput      Kind = iota + 1 // the input is wrong; Message says how
	Unsupported                   // the provider, as it runs, does not have it: an algorithm outside FIPS 140-3, for example
	Undecryptable                 // the ciphertext does not decrypt with this key
)

// An Error is a refusal of an input. Its message is for the caller and holds nothing secret.
type Error struct {
	Kind    Kind
	Message string
}

func (e *Error) Error() string { return e.Message }

func badInput(format string, args ...any) error {
	return &Error{Kind: BadInput, Message: fmt.Sprintf(format, args...)}
}

// ErrBusy says that the provider has too much to do; the same call may succeed later.
var ErrBusy = busyError{}

type busyError struct{}

func (busyError) Error() string { return "hsm: too many keys are being made at this time" }
