package securitydomain

import (
	"errors"
	"fmt"

	"github.com/strongroom/strongroom/internal/sdomain"
)

// What the functions that need no network refuse. Their errors wrap these and say which key, share or datum is meant.
var (
	// ErrMalformed is for what is no security domain.
	ErrMalformed = sdomain.ErrMalformed
	// ErrVersion is for a security domain of a version that is not known.
	ErrVersion = sdomain.ErrVersion
	// ErrCertificate is for what is no certificate of an RSA key.
	ErrCertificate = sdomain.ErrCertificate
	// ErrNotRSA is for keys of other kinds, such as EC.
	ErrNotRSA = sdomain.ErrNotRSA
	// ErrShortRSA is for RSA keys of fewer than 2048 bits.
	ErrShortRSA = sdomain.ErrShortRSA
	// ErrDuplicate is for a key or certificate that is there twice: one owner would have two shares.
	ErrDuplicate = sdomain.ErrDuplicate
	// ErrQuorum is for a number of owners, or of those that it takes, that is not allowed.
	ErrQuorum = sdomain.ErrQuorum
	// ErrTooFewKeys is for fewer keys than it takes. Keys that do not open a share do not count; see KeysError.
	ErrTooFewKeys = sdomain.ErrTooFewKeys
	// ErrNoShare is for a key that the security domain was not wrapped for.
	ErrNoShare = sdomain.ErrNoShare
	// ErrKeyMismatch is for a key with the certificate of another.
	ErrKeyMismatch = sdomain.ErrKeyMismatch
	// ErrAltered is for a security domain that is not as it was made.
	ErrAltered = sdomain.ErrAltered
	// ErrTransferKey is for a transfer key that is not the expected one.
	ErrTransferKey = errors.New("is not the expected transfer key")
	// ErrPrivateKey is for a file that holds no private key.
	ErrPrivateKey = sdomain.ErrPrivateKey
	// ErrPasswordMissing is for a private key that is encrypted, without a password.
	ErrPasswordMissing = sdomain.ErrPasswordMissing
	// ErrPassword is for a private key that the password does not open.
	ErrPassword = sdomain.ErrPassword
)

// A KeysError is for keys that do not open a security domain together, although there are enough of them. It wraps ErrTooFewKeys.
type KeysError struct {
	Required int     // how many it takes
	Opened   int     // how many have opened a share
	Keys     []error // what became of each key, nil if it has opened one
}

func (e *KeysError) Error() string { return "securitydomain: " + (*sdomain.KeysError)(e).Error() }

// Unwrap gives ErrTooFewKeys and the errors of the keys.
func (e *KeysError) Unwrap() []error { return (*sdomain.KeysError)(e).Unwrap() }

// wrap makes an error of the package below one of this.
func wrap(err error) error {
	if keys, ok := errors.AsType[*sdomain.KeysError](err); ok {
		return (*KeysError)(keys)
	}
	if err != nil {
		return fmt.Errorf("securitydomain: %w", err)
	}
	return nil
}
