package sdomain

import (
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// A Holder has a key that a share was wrapped for, on a device or in memory. Without the certificate, the key is tried on each share.
type Holder struct {
	Key         crypto.Decrypter
	Certificate *x509.Certificate
}

// MaxHolders is how many keys can be tried at once.
const MaxHolders = 2 * MaxCertificates

// A KeysError is for keys that do not open a security domain together.
type KeysError struct {
	Required int     // how many it takes
	Opened   int     // how many have opened a share
	Keys     []error // what became of each key, nil if it has opened one
}

func (e *KeysError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: it takes %d, and %d opened a share", ErrTooFewKeys, e.Required, e.Opened)
	for i, err := range e.Keys {
		if err != nil {
			fmt.Fprintf(&b, "; key %d %s", i+1, err)
		}
	}
	return b.String()
}

// Unwrap gives what is wrong with the keys, and ErrTooFewKeys.
func (e *KeysError) Unwrap() []error {
	return append([]error{ErrTooFewKeys}, slices.DeleteFunc(slices.Clone(e.Keys), func(err error) bool { return err == nil })...)
}

// Open opens the domain with the keys of a quorum. More keys than necessary help if shares are damaged.
func (f *File) Open(holders []Holder) ([]Datum, error) {
	if err := checkHolders(holders); err != nil {
		return nil, err
	}
	if len(holders) < f.required {
		return nil, fmt.Errorf("%w: it takes %d, and %d came", ErrTooFewKeys, f.required, len(holders))
	}
	parts, problem := f.parts(holders)
	defer clearParts(parts)
	if problem.Opened < f.required {
		return nil, problem
	}
	last := fmt.Errorf("no quorum among these keys gives the master key: a share or pair of the file %w", ErrAltered)
	for master := range f.masters(parts) {
		data, right, err := openData(f.data, master)
		clear(master)
		if right {
			return data, err
		}
		if len(f.data) == 0 {
			return []Datum{}, nil // nothing that the master key could be tried on
		}
		last = fmt.Errorf("the shares do not fit the data: the file %w", ErrAltered)
	}
	return nil, last
}

// CheckShares tells whether each of the keys opens a share, however few they are. Whether the shares fit together takes a quorum to find
// out.
func (f *File) CheckShares(holders []Holder) error {
	if err := checkHolders(holders); err != nil {
		return err
	}
	parts, problem := f.parts(holders)
	clearParts(parts)
	var errs []error
	for i, err := range problem.Keys {
		if err != nil {
			errs = append(errs, fmt.Errorf("key %d %w", i+1, err))
		}
	}
	return errors.Join(errs...)
}

func checkHolders(holders []Holder) error {
	if len(holders) > MaxHolders {
		return fmt.Errorf("%d keys are too many: at most %d can be tried", len(holders), MaxHolders)
	}
	var seen []*rsa.PublicKey
	for i, h := range holders {
		if h.Key == nil {
			return fmt.Errorf("key %d is missing", i+1)
		}
		public, err := publicRSA(h.Key.Public())
		if err != nil {
			return fmt.Errorf("key %d %w", i+1, err)
		}
		if h.Certificate != nil && !public.Equal(h.Certificate.PublicKey) {
			return fmt.Errorf("key %d %w", i+1, ErrKeyMismatch)
		}
		if j := slices.IndexFunc(seen, func(other *rsa.PublicKey) bool { return public.Equal(other) }); j >= 0 {
			return fmt.Errorf("key %d %w: it is number %d, too", i+1, ErrDuplicate, j+1)
		}
		seen = append(seen, public)
	}
	return nil
}

// encKeys are all wrapped parts of the file, those of pairs one after the other.
func (f *File) encKeys() []encKey {
	keys := f.shares
	for _, p := range f.pairs {
		keys = append(keys, p.Key1, p.Key2)
	}
	return keys
}

// parts are the parts of the master key that the holders can open, nil where they cannot.
func (f *File) parts(holders []Holder) ([][]byte, *KeysError) {
	keys := f.encKeys()
	parts := make([][]byte, len(keys))
	problem := &KeysError{Required: f.required, Keys: make([]error, len(holders))}
	for i, h := range holders {
		if problem.Keys[i] = h.open(keys, parts, f.version != 1); problem.Keys[i] == nil {
			problem.Opened++
		}
	}
	return parts, problem
}

func clearParts(parts [][]byte) {
	for _, p := range parts {
		clear(p)
	}
}

// open adds what the holder can open: one part, or as many as there are.
func (h Holder) open(keys []encKey, parts [][]byte, one bool) error {
	var opened bool
	problem := ErrNoShare
	for i, k := range keys {
		if one && opened {
			break
		}
		if parts[i] != nil || h.Certificate != nil && !k.isFor(h.Certificate) {
			continue
		}
		part, err := openRSA(k.JWE, h.Key)
		switch {
		case err == nil:
			parts[i], opened = part, true
		case errors.Is(err, errOtherRSA) && h.Certificate == nil:
			// The next one, perhaps.
		case errors.Is(err, errOtherRSA) || errors.Is(err, errSealed):
			problem = fmt.Errorf("has a share that %w", ErrAltered)
		case h.Certificate != nil:
			problem = fmt.Errorf("does not open its share, which %w", err)
		default:
			problem = fmt.Errorf("does not open a share: %w", err)
		}
	}
	if opened {
		return nil
	}
	return problem
}

func (k encKey) isFor(c *x509.Certificate) bool {
	return strings.TrimRight(k.Thumbprint, "=") == thumbprint(c)
}

// masters are the master keys that the parts may give.
func (f *File) masters(parts [][]byte) iter.Seq[[]byte] {
	if f.version == 1 {
		return pairMasters(parts)
	}
	var shares []share
	for _, p := range parts {
		if s, err := parseShare(p, masterLen); err == nil {
			shares = append(shares, s)
		}
	}
	return func(yield func([]byte) bool) {
		for chosen := range choices(shares, f.required) {
			if master, err := combine(chosen); err == nil && !yield(master) {
				return
			}
		}
	}
}

// pairMasters are the master keys of version 1: each pair of parts gives it.
func pairMasters(parts [][]byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for i := 0; i+1 < len(parts); i += 2 {
			if master, ok := xor(parts[i], parts[i+1]); ok && !yield(master) {
				return
			}
		}
	}
}

// choices are the ways to choose n of all, at most 252 of 10.
func choices(all []share, n int) iter.Seq[[]share] {
	return func(yield func([]share) bool) { choose(nil, all, n, yield) }
}

func choose(chosen, rest []share, n int, yield func([]share) bool) bool {
	if n == 0 {
		return yield(chosen)
	}
	for i := range rest {
		if !choose(append(slices.Clip(chosen), rest[i]), rest[i+1:], n-1, yield) {
			return false
		}
	}
	return true
}
