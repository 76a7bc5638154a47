package hsm

import (
	"context"
	"slices"

	"github.com/strongroom/strongroom/internal/pkcs8"
)

// takePKCS8 takes in a key that somebody wrapped, which shares der's memory until then.
func (s *Software) takePKCS8(ctx context.Context, der []byte, target KeyType) (New, error) {
	written, err := pkcs8.Parse(der)
	if err != nil {
		return New{}, badInput("The wrapped key %v.", err)
	}
	key := fromPKCS8(written)
	if key.Type != target {
		return New{}, badInput("The wrapped key is of the type %s, not %.40s.", key.Type, string(target))
	}
	taken, err := s.take(ctx, key, false)
	if err != nil {
		return New{}, err
	}
	if key.Type == EC && !written.HasPoint(slices.Concat([]byte{pointUncompressed}, taken.Public.X, taken.Public.Y)) {
		clear(taken.Blob)
		return New{}, badInput("The public half of the wrapped key does not belong to its private one.")
	}
	return taken, nil
}

func fromPKCS8(k *pkcs8.Key) *PrivateKey {
	if k.Curve == "" {
		return &PrivateKey{Type: RSA, N: k.N, E: k.E, D: k.D, P: k.P, Q: k.Q, DP: k.DP, DQ: k.DQ, QI: k.QI}
	}
	return &PrivateKey{Type: EC, Curve: Curve(k.Curve), D: k.D}
}
