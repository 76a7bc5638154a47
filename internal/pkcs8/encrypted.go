package pkcs8

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/pbkdf2"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/asn1"
	"errors"
	"fmt"
	"hash"

	"golang.org/x/crypto/cryptobyte"
	asn1tag "golang.org/x/crypto/cryptobyte/asn1"
	"golang.org/x/crypto/scrypt"
)

// What is wrong with an encrypted key.
var (
	ErrPassword  = errors.New("is encrypted with another password")
	ErrEncrypted = errors.New("is not in a form of encrypted PKCS#8 that is known here")
)

// Bounds on what a file may make us compute.
const (
	maxIterations = 10_000_000
	maxScrypt     = 256 << 20 // bytes of memory
	maxScryptP    = 16
)

var errCost = fmt.Errorf("%w: deriving the key from the password would take too long", ErrEncrypted)

// An algorithm is named and has parameters.
type algorithm struct {
	name   string // its object identifier
	params cryptobyte.String
}

func readAlgorithm(in *cryptobyte.String) (a algorithm, ok bool) {
	var (
		sequence cryptobyte.String
		oid      asn1.ObjectIdentifier
	)
	if !in.ReadASN1(&sequence, asn1tag.SEQUENCE) || !sequence.ReadASN1ObjectIdentifier(&oid) {
		return a, false
	}
	return algorithm{oid.String(), sequence}, true
}

// Decrypt opens an EncryptedPrivateKeyInfo (RFC 5958) with PBES2 (RFC 8018), which crypto/x509 does not have. One in 256 wrong passwords
// goes unnoticed, and gives something that is no key. The time it takes tells nobody anything: who waits has the password.
func Decrypt(der []byte, password string) ([]byte, error) {
	var info, content, schemes cryptobyte.String
	in := cryptobyte.String(der)
	if !in.ReadASN1(&info, asn1tag.SEQUENCE) || !in.Empty() {
		return nil, ErrEncrypted
	}
	outer, ok := readAlgorithm(&info)
	if !ok || !info.ReadASN1(&content, asn1tag.OCTET_STRING) || !info.Empty() {
		return nil, ErrEncrypted
	}
	if outer.name != "1.2.840.113549.1.5.13" {
		return nil, fmt.Errorf("%w: it is encrypted with %.60s, and not with PBES2; openssl pkcs8 -topk8 converts it", ErrEncrypted, outer.name)
	}
	if !outer.params.ReadASN1(&schemes, asn1tag.SEQUENCE) || !outer.params.Empty() {
		return nil, ErrEncrypted
	}
	kdf, ok := readAlgorithm(&schemes)
	encryption, ok2 := readAlgorithm(&schemes)
	if !ok || !ok2 || !schemes.Empty() {
		return nil, ErrEncrypted
	}
	return decryptPBES2(kdf, encryption, content, password)
}

func decryptPBES2(kdf, encryption algorithm, content []byte, password string) ([]byte, error) {
	keyLen, newCipher := blockCipher(encryption.name)
	var iv cryptobyte.String
	if newCipher == nil {
		return nil, fmt.Errorf("%w: it is encrypted with %.60s, which is not AES or 3DES with CBC", ErrEncrypted, encryption.name)
	}
	if !encryption.params.ReadASN1(&iv, asn1tag.OCTET_STRING) || !encryption.params.Empty() {
		return nil, ErrEncrypted
	}
	key, err := kdf.derive(password, keyLen)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := newCipher(key)
	if err != nil {
		return nil, err
	}
	size := block.BlockSize()
	if len(iv) != size || len(content) == 0 || len(content)%size != 0 {
		return nil, ErrEncrypted
	}
	plaintext := make([]byte, len(content))
	cipher.NewCBCDecrypter(block, iv).CryptBlocks(plaintext, content)
	return unpad(plaintext, size)
}

// unpad takes off the padding of PKCS#7.
func unpad(b []byte, size int) ([]byte, error) {
	n := int(b[len(b)-1])
	if n == 0 || n > size {
		return nil, ErrPassword
	}
	for _, c := range b[len(b)-n:] {
		if int(c) != n {
			return nil, ErrPassword
		}
	}
	return b[:len(b)-n], nil
}

func blockCipher(oid string) (keyLen int, newCipher func([]byte) (cipher.Block, error)) {
	switch oid {
	case "2.16.840.1.101.3.4.1.2":
		return 16, aes.NewCipher
	case "2.16.840.1.101.3.4.1.22":
		return 24, aes.NewCipher
	case "2.16.840.1.101.3.4.1.42":
		return 32, aes.NewCipher
	case "1.2.840.113549.3.7":
		return 24, des.NewTripleDESCipher
	default:
		return 0, nil
	}
}

// derive makes a key of keyLen bytes from a password.
func (a algorithm) derive(password string, keyLen int) ([]byte, error) {
	var params, salt cryptobyte.String
	if !a.params.ReadASN1(&params, asn1tag.SEQUENCE) || !a.params.Empty() || !params.ReadASN1(&salt, asn1tag.OCTET_STRING) {
		return nil, ErrEncrypted
	}
	switch a.name {
	case "1.2.840.113549.1.5.12":
		return derivePBKDF2(params, salt, password, keyLen)
	case "1.3.6.1.4.1.11591.4.11":
		return deriveScrypt(params, salt, password, keyLen)
	default:
		return nil, fmt.Errorf("%w: its key is derived with %.60s, which is neither PBKDF2 nor scrypt", ErrEncrypted, a.name)
	}
}

// readInt reads a positive number, or leaves out one that is optional.
func readInt(in *cryptobyte.String, optional bool) (n int, err error) {
	if optional && !in.PeekASN1Tag(asn1tag.INTEGER) {
		return 0, nil
	}
	if !in.ReadASN1Integer(&n) || n < 1 {
		return 0, ErrEncrypted
	}
	return n, nil
}

func derivePBKDF2(params cryptobyte.String, salt []byte, password string, keyLen int) ([]byte, error) {
	iterations, err := readInt(&params, false)
	stated, err2 := readInt(&params, true)
	if err := errors.Join(err, err2); err != nil || stated != 0 && stated != keyLen {
		return nil, ErrEncrypted
	}
	prf := algorithm{name: "1.2.840.113549.2.7"} // the default
	if !params.Empty() {
		var ok bool
		if prf, ok = readAlgorithm(&params); !ok || !params.Empty() {
			return nil, ErrEncrypted
		}
	}
	if iterations > maxIterations {
		return nil, errCost
	}
	newHash := hashOf(prf.name)
	if newHash == nil {
		return nil, fmt.Errorf("%w: its key is derived with %.60s, which is not known", ErrEncrypted, prf.name)
	}
	return pbkdf2.Key(newHash, password, salt, iterations, keyLen)
}

// hashOf is the hash of a HMAC.
func hashOf(oid string) func() hash.Hash {
	switch oid {
	case "1.2.840.113549.2.7":
		return sha1.New
	case "1.2.840.113549.2.8":
		return sha256.New224
	case "1.2.840.113549.2.9":
		return sha256.New
	case "1.2.840.113549.2.10":
		return sha512.New384
	case "1.2.840.113549.2.11":
		return sha512.New
	default:
		return nil
	}
}

// deriveScrypt: RFC 7914, 7.1.
func deriveScrypt(params cryptobyte.String, salt []byte, password string, keyLen int) ([]byte, error) {
	n, err := readInt(&params, false)
	r, err2 := readInt(&params, false)
	p, err3 := readInt(&params, false)
	stated, err4 := readInt(&params, true)
	if err := errors.Join(err, err2, err3, err4); err != nil || !params.Empty() || stated != 0 && stated != keyLen {
		return nil, ErrEncrypted
	}
	if n > maxScrypt || r > maxScrypt || p > maxScryptP || int64(n)*int64(r)*int64(p) > maxScrypt/128 {
		return nil, errCost
	}
	key, err := scrypt.Key([]byte(password), salt, n, r, p, keyLen)
	if err != nil {
		return nil, ErrEncrypted
	}
	return key, nil
}
