package hsm

// An Algorithm is a JWK's "alg" as Azure Key Vault has it.
type Algorithm string

// The algorithms (contract §4).
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
