package sdomain

import "errors"

// What can be wrong with what an owner of a security domain hands in. The errors of this package wrap these, and their texts are for
// the one who asked.
var (
	ErrMalformed       = errors.New("is not in the form of a security domain")
	ErrVersion         = errors.New("has a version that is not known")
	ErrCertificate     = errors.New("is not a usable certificate")
	ErrNotRSA          = errors.New("is not an RSA key")
	ErrShortRSA        = errors.New("is an RSA key of fewer than 2048 bits")
	ErrDuplicate       = errors.New("is there twice")
	ErrQuorum          = errors.New("is not a quorum")
	ErrTooFewKeys      = errors.New("too few keys")
	ErrNoShare         = errors.New("has no share in this security domain")
	ErrKeyMismatch     = errors.New("does not belong to its certificate")
	ErrAltered         = errors.New("was altered")
	ErrOtherTransfer   = errors.New("was made for another transfer key")
	ErrPasswordMissing = errors.New("is encrypted and needs a password")
	ErrPassword        = errors.New("does not open with this password, or is damaged")
	ErrPrivateKey      = errors.New("is not a private key in PEM that can be read")
)
