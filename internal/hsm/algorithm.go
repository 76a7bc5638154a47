package hsm

import (
	"crypto"
	_ "crypto/sha1" // of RSA-OAEP
	_ "crypto/sha256"
	_ "crypto/sha512"
	"fmt"
	"strings"
)

// An Algorithm is a JWK's "alg" as Azure Key Vault has it.
type Algorithm string

// The algorithms that there are.
const (
	RSA15      Algorithm = "RSA1_5"
	RSAOAEP    Algorithm = "RSA-OAEP" // SHA-1
	RSAOAEP256 Algorithm = "RSA-OAEP-256"

	A128GCM    Algorithm = "A128GCM"
	A192GCM    Algorithm = "A192GCM"
	A256GCM    Algorithm = "A256GCM"
	A128CBC    Algorithm = "A128CBC" // without padding
	A192CBC    Algorithm = "A192CBC"
	A256CBC    Algorithm = "A256CBC"
	A128CBCPAD Algorithm = "A128CBCPAD" // PKCS#7 padding
	A192CBCPAD Algorithm = "A192CBCPAD"
	A256CBCPAD Algorithm = "A256CBCPAD"

	A128KW           Algorithm = "A128KW" // RFC 3394
	A192KW           Algorithm = "A192KW"
	A256KW           Algorithm = "A256KW"
	A128KWPAD        Algorithm = "A128KWPAD" // RFC 5649
	A192KWPAD        Algorithm = "A192KWPAD"
	A256KWPAD        Algorithm = "A256KWPAD"
	CKMAESKeyWrap    Algorithm = "CKM_AES_KEY_WRAP"     // RFC 3394 with a key of any size
	CKMAESKeyWrapPad Algorithm = "CKM_AES_KEY_WRAP_PAD" // RFC 5649 with a key of any size

	RS256  Algorithm = "RS256"
	RS384  Algorithm = "RS384"
	RS512  Algorithm = "RS512"
	PS256  Algorithm = "PS256"
	PS384  Algorithm = "PS384"
	PS512  Algorithm = "PS512"
	RSNULL Algorithm = "RSNULL" // PKCS#1 v1.5 over the caller's bytes, without DigestInfo

	ES256  Algorithm = "ES256"
	ES256K Algorithm = "ES256K"
	ES384  Algorithm = "ES384"
	ES512  Algorithm = "ES512"

	HS256 Algorithm = "HS256"
	HS384 Algorithm = "HS384"
	HS512 Algorithm = "HS512"
)

// A Use is what an algorithm is for. Some are for encryption and for wrapping keys.
type Use int

// The uses of algorithms.
const (
	Encryption Use = 1 << iota
	Wrapping
	Signature
)

// String names the uses for people.
func (u Use) String() string {
	var names []string
	for _, n := range []struct {
		use  Use
		name string
	}{{Encryption, "encryption"}, {Wrapping, "wrapping keys"}, {Signature, "signatures"}} {
		if u&n.use != 0 {
			names = append(names, n.name)
		}
	}
	return strings.Join(names, " and ")
}

// A scheme is what an algorithm does, whatever its sizes.
type scheme int

const (
	encryptPKCS1v15 scheme = iota + 1
	encryptOAEP
	encryptGCM
	encryptCBC
	encryptCBCPadded
	wrapWhole  // RFC 3394
	wrapPadded // RFC 5649
	signPKCS1v15
	signPSS
	signRaw // PKCS#1 v1.5 without DigestInfo
	signECDSA
	signHMAC
)

// An algorithm is what is known of an Algorithm.
type algorithm struct {
	name     Algorithm
	uses     Use
	scheme   scheme
	hash     crypto.Hash // of OAEP or of the signature, which is of a digest by it
	keyType  KeyType
	bits     int   // of an oct key: exactly so many; if 0, any that the scheme can
	curve    Curve // of an EC key
	approved bool  // allowed under GODEBUG=fips140=only
}

const both = Encryption | Wrapping

// algorithms is never changed.
var algorithms = map[Algorithm]*algorithm{
	RSA15:      {RSA15, both, encryptPKCS1v15, 0, RSA, 0, "", false},
	RSAOAEP:    {RSAOAEP, both, encryptOAEP, crypto.SHA1, RSA, 0, "", false},
	RSAOAEP256: {RSAOAEP256, both, encryptOAEP, crypto.SHA256, RSA, 0, "", true},

	A128GCM:    {A128GCM, both, encryptGCM, 0, Oct, 128, "", true},
	A192GCM:    {A192GCM, both, encryptGCM, 0, Oct, 192, "", true},
	A256GCM:    {A256GCM, both, encryptGCM, 0, Oct, 256, "", true},
	A128CBC:    {A128CBC, Encryption, encryptCBC, 0, Oct, 128, "", true},
	A192CBC:    {A192CBC, Encryption, encryptCBC, 0, Oct, 192, "", true},
	A256CBC:    {A256CBC, Encryption, encryptCBC, 0, Oct, 256, "", true},
	A128CBCPAD: {A128CBCPAD, Encryption, encryptCBCPadded, 0, Oct, 128, "", true},
	A192CBCPAD: {A192CBCPAD, Encryption, encryptCBCPadded, 0, Oct, 192, "", true},
	A256CBCPAD: {A256CBCPAD, Encryption, encryptCBCPadded, 0, Oct, 256, "", true},

	A128KW:           {A128KW, Wrapping, wrapWhole, 0, Oct, 128, "", true},
	A192KW:           {A192KW, Wrapping, wrapWhole, 0, Oct, 192, "", true},
	A256KW:           {A256KW, Wrapping, wrapWhole, 0, Oct, 256, "", true},
	A128KWPAD:        {A128KWPAD, Wrapping, wrapPadded, 0, Oct, 128, "", true},
	A192KWPAD:        {A192KWPAD, Wrapping, wrapPadded, 0, Oct, 192, "", true},
	A256KWPAD:        {A256KWPAD, Wrapping, wrapPadded, 0, Oct, 256, "", true},
	CKMAESKeyWrap:    {CKMAESKeyWrap, Wrapping, wrapWhole, 0, Oct, 0, "", true},
	CKMAESKeyWrapPad: {CKMAESKeyWrapPad, Wrapping, wrapPadded, 0, Oct, 0, "", true},

	RS256:  {RS256, Signature, signPKCS1v15, crypto.SHA256, RSA, 0, "", true},
	RS384:  {RS384, Signature, signPKCS1v15, crypto.SHA384, RSA, 0, "", true},
	RS512:  {RS512, Signature, signPKCS1v15, crypto.SHA512, RSA, 0, "", true},
	PS256:  {PS256, Signature, signPSS, crypto.SHA256, RSA, 0, "", true},
	PS384:  {PS384, Signature, signPSS, crypto.SHA384, RSA, 0, "", true},
	PS512:  {PS512, Signature, signPSS, crypto.SHA512, RSA, 0, "", true},
	RSNULL: {RSNULL, Signature, signRaw, 0, RSA, 0, "", false},

	ES256:  {ES256, Signature, signECDSA, crypto.SHA256, EC, 0, P256, true},
	ES256K: {ES256K, Signature, signECDSA, crypto.SHA256, EC, 0, P256K, false},
	ES384:  {ES384, Signature, signECDSA, crypto.SHA384, EC, 0, P384, true},
	ES512:  {ES512, Signature, signECDSA, crypto.SHA512, EC, 0, P521, true},

	HS256: {HS256, Signature, signHMAC, crypto.SHA256, Oct, 0, "", true},
	HS384: {HS384, Signature, signHMAC, crypto.SHA384, Oct, 0, "", true},
	HS512: {HS512, Signature, signHMAC, crypto.SHA512, Oct, 0, "", true},
}

// Check tells whether keys of a kind do an algorithm for one of the uses. If not, the error is an *Error.
func Check(alg Algorithm, use Use, spec Spec) error {
	_, err := findAlgorithm(alg, use, spec)
	return err
}

func findAlgorithm(alg Algorithm, use Use, spec Spec) (*algorithm, error) {
	a := algorithms[alg]
	switch {
	case a == nil:
		return nil, badInput("The algorithm %.40q is unknown.", string(alg))
	case a.uses&use == 0:
		return nil, badInput("The algorithm %s is for %s, not for %s.", alg, a.uses, use)
	case !a.fits(spec):
		return nil, badInput("The algorithm %s is for %s, not for %s.", alg, a.keys(), spec)
	}
	return a, nil
}

func (a *algorithm) fits(spec Spec) bool {
	switch {
	case spec.Type != a.keyType || spec.Curve != a.curve:
		return false
	case a.keyType != Oct:
		return true
	case a.bits != 0:
		return spec.Bits == a.bits
	case a.scheme == signHMAC:
		return spec.Bits >= a.minHMACBits()
	default:
		return isAES(spec.Bits)
	}
}

// minHMACBits is how long a key of HMAC must be: as long as the hash, which RFC 7518, 3.2 demands. (The wire says only that
// there are wrong sizes.) So keys that are made here do HS256, and those for the longer hashes are imported.
func (a *algorithm) minHMACBits() int { return a.hash.Size() * 8 }

// keys says for which keys the algorithm is.
func (a *algorithm) keys() string {
	switch {
	case a.scheme == signHMAC:
		return fmt.Sprintf("an oct key of at least %d bits", a.minHMACBits())
	case a.keyType == Oct && a.bits == 0:
		return "an oct key of 128, 192 or 256 bits"
	default:
		return Spec{Type: a.keyType, Bits: a.bits, Curve: a.curve}.String()
	}
}

// maxHMACInput is how many bytes HMAC takes. They are meant to be a digest, but no rule is known about its length; HMAC
// does not care.
const maxHMACInput = 1024

// checkDigest tells whether a digest has a length that the algorithm signs with a modulus (of RSA) of so many bytes.
func (a *algorithm) checkDigest(digest []byte, modulusLen int) error {
	var least, most int
	switch a.scheme {
	case signHMAC:
		least, most = 1, maxHMACInput
	case signRaw:
		least, most = 1, modulusLen-pkcs1v15Overhead
	default:
		least, most = a.hash.Size(), a.hash.Size()
	}
	switch n := len(digest); {
	case n >= least && n <= most:
		return nil
	case least == most:
		return badInput("A digest for %s has %d bytes, not %d.", a.name, least, n)
	default:
		return badInput("A digest for %s with this key has from %d to %d bytes, not %d.", a.name, least, most, n)
	}
}

func isAES(bits int) bool { return bits == 128 || bits == 192 || bits == 256 }
