package hsm

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"math/big"
)

// pointUncompressed is the first byte of a point as SEC 1, 2.3.3 encodes it: then follow both coordinates.
const pointUncompressed = 4

// nistCurve is nil for a curve that the standard library does not have.
func nistCurve(c Curve) elliptic.Curve {
	switch c {
	case P256:
		return elliptic.P256()
	case P384:
		return elliptic.P384()
	case P521:
		return elliptic.P521()
	default:
		return nil
	}
}

func curveOf(c elliptic.Curve) Curve {
	for _, name := range []Curve{P256, P384, P521} {
		if nistCurve(name) == c {
			return name
		}
	}
	return ""
}

// coordinateLen is how many bytes a coordinate on a curve has, and a number modulo its order.
func coordinateLen(c Curve) int {
	if c == P256K {
		return 32
	}
	return (nistCurve(c).Params().BitSize + 7) / 8
}

func generateEC(c Curve) (New, error) {
	key, err := ecdsa.GenerateKey(nistCurve(c), rand.Reader)
	if err != nil {
		return New{}, err
	}
	return newEC(c, key)
}

// newEC describes a key on one of the NIST curves.
func newEC(c Curve, key *ecdsa.PrivateKey) (New, error) {
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return New{}, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return New{}, err
	}
	return newPoint(c, point, der), nil
}

// newPoint describes a key by its uncompressed public point. It takes the encoded key over.
func newPoint(c Curve, point, encoded []byte) New {
	n := coordinateLen(c)
	return New{
		Spec:   Spec{Type: EC, Curve: c},
		Public: PublicKey{X: point[1 : 1+n], Y: point[1+n:]},
		Blob:   newBlob(encoded),
	}
}

// ecMembers are an EC key's as fixed lengths.
type ecMembers struct {
	d     []byte // as long as a coordinate
	point []byte // uncompressed; nil if the key came without
}

// readEC checks the lengths of an EC key's members, and that they are there.
func readEC(key *PrivateKey, publicRequired bool) (ecMembers, error) {
	n := coordinateLen(key.Curve)
	point := make([]byte, 1+2*n)
	point[0] = pointUncompressed
	m := ecMembers{d: make([]byte, n), point: point}
	for _, member := range []struct {
		name string
		from []byte
		to   []byte
		need bool
	}{
		{"d", key.D, m.d, true},
		{"x", key.X, point[1 : 1+n], publicRequired || len(key.Y) > 0},
		{"y", key.Y, point[1+n:], publicRequired || len(key.X) > 0},
	} {
		if len(member.from) == 0 && member.need {
			return ecMembers{}, badInput("The key's %q is missing.", member.name)
		}
		from := trimZeros(member.from)
		if len(from) > n {
			return ecMembers{}, badInput("The key's %q has more bytes than the %d of a coordinate on %s.", member.name, n, key.Curve)
		}
		copy(member.to[n-len(from):], from)
	}
	if len(key.X) == 0 && len(key.Y) == 0 {
		m.point = nil
	}
	return m, nil
}

// What importEC and importP256K say of a key.
func notOnCurve(c Curve) error {
	return badInput("The key's %q and %q are not a point on %s.", "x", "y", c)
}

func notInOrder(c Curve) error {
	return badInput("The key's %q is zero, or not less than the order of %s.", "d", c)
}

func halvesDiffer() error {
	return badInput("The key's %q does not belong to its %q and %q.", "d", "x", "y")
}

// importEC takes in a key on one of the NIST curves.
func importEC(key *PrivateKey, publicRequired bool) (New, error) {
	m, err := readEC(key, publicRequired)
	if err != nil {
		return New{}, err
	}
	defer clear(m.d)
	private, err := ecdsa.ParseRawPrivateKey(nistCurve(key.Curve), m.d)
	if err != nil {
		return New{}, notInOrder(key.Curve)
	}
	if m.point != nil {
		public, err := ecdsa.ParseUncompressedPublicKey(nistCurve(key.Curve), m.point)
		if err != nil {
			return New{}, notOnCurve(key.Curve)
		}
		if !private.PublicKey.Equal(public) {
			return New{}, halvesDiffer()
		}
	}
	return newEC(key.Curve, private)
}

// ecMaterial is a key on one of the NIST curves.
type ecMaterial struct {
	signsOnly
	key   *ecdsa.PrivateKey
	curve Curve
}

var _ material = (*ecMaterial)(nil)

func openEC(der []byte) (material, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, fmt.Errorf("hsm: the blob holds no EC key: %w", err)
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok || curveOf(key.Curve) == "" {
		return nil, fmt.Errorf("hsm: the blob holds a %T and no EC key on a curve of ours", parsed)
	}
	return &ecMaterial{key: key, curve: curveOf(key.Curve)}, nil
}

func (m *ecMaterial) spec() Spec { return Spec{Type: EC, Curve: m.curve} }

func (m *ecMaterial) encode() ([]byte, error) { return x509.MarshalPKCS8PrivateKey(m.key) }

func (m *ecMaterial) sign(_ *algorithm, digest []byte) ([]byte, error) {
	r, s, err := ecdsa.Sign(rand.Reader, m.key, digest)
	if err != nil {
		return nil, err
	}
	n := coordinateLen(m.curve)
	out := make([]byte, 2*n)
	r.FillBytes(out[:n])
	s.FillBytes(out[n:])
	return out, nil
}

func (m *ecMaterial) verify(_ *algorithm, digest, signature []byte) (bool, error) {
	return verifyEC(&m.key.PublicKey, m.curve, digest, signature), nil
}

func verifyEC(key *ecdsa.PublicKey, c Curve, digest, signature []byte) bool {
	n := coordinateLen(c)
	if len(signature) != 2*n {
		return false
	}
	r, s := new(big.Int).SetBytes(signature[:n]), new(big.Int).SetBytes(signature[n:])
	return ecdsa.Verify(key, digest, r, s)
}

// signsOnly is for material that no algorithm encrypts with.
type signsOnly struct{}

var errSignsOnly = errors.New("hsm: an algorithm for encryption has got past its check to a key that only signs")

func (signsOnly) encrypt(*algorithm, Message) (Message, error) { return Message{}, errSignsOnly }
func (signsOnly) decrypt(*algorithm, Message) ([]byte, error)  { return nil, errSignsOnly }
