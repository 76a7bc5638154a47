package sdomain

import (
	"crypto/fips140"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"github.com/strongroom/strongroom/internal/pkcs8"
)

const maxKeyFile = 64 << 10

// ParsePrivateKey reads an RSA key from a file in PEM: PKCS#8, PKCS#1, and both encrypted. A password that is not needed does no harm.
// Of several keys in the file the first is taken; certificates beside it are passed over.
func ParsePrivateKey(file []byte, password string) (*rsa.PrivateKey, error) {
	if len(file) > maxKeyFile {
		return nil, fmt.Errorf("the file %w: it is longer than %d bytes", ErrPrivateKey, maxKeyFile)
	}
	key, err := parsePEM(file, password)
	if err != nil {
		return nil, fmt.Errorf("the file %w", err)
	}
	if _, err := publicRSA(key.Public()); err != nil {
		return nil, fmt.Errorf("the key %w", err)
	}
	return key, nil
}

func parsePEM(file []byte, password string) (*rsa.PrivateKey, error) {
	for {
		block, rest := pem.Decode(file)
		if block == nil {
			return nil, ErrPrivateKey
		}
		switch block.Type {
		case "PRIVATE KEY":
			return parsePKCS8(block.Bytes)
		case "RSA PRIVATE KEY":
			return parsePKCS1(block, password)
		case "ENCRYPTED PRIVATE KEY":
			if password == "" {
				return nil, ErrPasswordMissing
			}
			der, err := pkcs8.Decrypt(block.Bytes, password)
			switch {
			case errors.Is(err, pkcs8.ErrPassword):
				return nil, ErrPassword
			case err != nil:
				return nil, fmt.Errorf("%w: its key %w", ErrPrivateKey, err)
			}
			defer clear(der)
			key, err := parsePKCS8(der)
			if errors.Is(err, ErrPrivateKey) { // as the padding of a wrong key may be right by chance
				return nil, ErrPassword
			}
			return key, err
		case "EC PRIVATE KEY":
			return nil, fmt.Errorf("%w: its key %w", ErrPrivateKey, ErrNotRSA)
		}
		file = rest
	}
}

func parsePKCS8(der []byte) (*rsa.PrivateKey, error) {
	parsed, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		return nil, ErrPrivateKey
	}
	key, ok := parsed.(*rsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("holds a key that %w", ErrNotRSA)
	}
	return key, nil
}

// parsePKCS1 reads a key that may be encrypted as OpenSSL did it before PKCS#8, with its headers in the PEM.
func parsePKCS1(block *pem.Block, password string) (*rsa.PrivateKey, error) {
	der := block.Bytes
	encrypted := x509.IsEncryptedPEMBlock(block) //lint:ignore SA1019 owners have such files; it is only read
	if encrypted {
		if password == "" {
			return nil, ErrPasswordMissing
		}
		if fips140.Enforced() {
			return nil, fmt.Errorf("%w: it is encrypted with MD5, which GODEBUG=fips140=only forbids; openssl pkcs8 -topk8 converts it", ErrPrivateKey)
		}
		var err error
		der, err = x509.DecryptPEMBlock(block, []byte(password)) //lint:ignore SA1019 as above
		if err != nil {
			return nil, ErrPassword
		}
		defer clear(der)
	}
	key, err := x509.ParsePKCS1PrivateKey(der)
	switch {
	case err == nil:
		return key, nil
	case encrypted:
		return nil, ErrPassword
	default:
		return nil, ErrPrivateKey
	}
}
