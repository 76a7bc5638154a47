package sdomain

import (
	"crypto/aes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// The profile of JWE (RFC 7516) in a security domain: compact, A256CBC-HS512, under a key that both sides have ("dir") or one that is
// encrypted with RSA.
const (
	algDirect  = "dir"
	algRSA     = "RSA-OAEP-256"
	algRSASHA1 = "RSA-OAEP" // only read
	encContent = "A256CBC-HS512"

	cekLen = 64
	ivLen  = 16
	tagLen = 32 // any other length has been taken for "no tag" by other readers
)

var (
	errNotJWE = errors.New("is not a JWE in compact form: five parts in base64url, with dots between them")

	// errSealed is all that may be said of a JWE that does not open.
	errSealed = errors.New("was altered, or was made for another key")
)

// A header is what of a JWE's header decides how it is read.
type header struct {
	Alg  string          `json:"alg"`
	Enc  string          `json:"enc"`
	KID  string          `json:"kid,omitempty"`
	Zip  json.RawMessage `json:"zip,omitempty"`
	Crit json.RawMessage `json:"crit,omitempty"`
}

// A jwe is one that was read but not opened.
type jwe struct {
	header
	protected             string // the header as it was written, which is authenticated
	key, iv, content, tag []byte
}

// parseJWE reads a JWE of at most limit bytes.
func parseJWE(text string, limit int) (*jwe, error) {
	if len(text) > limit {
		return nil, fmt.Errorf("is longer than %d bytes", limit)
	}
	parts := strings.Split(text, ".")
	if len(parts) != 5 {
		return nil, errNotJWE
	}
	var raw [5][]byte
	for i, part := range parts {
		var err error
		if raw[i], err = decodeBase64URL(part); err != nil {
			return nil, errNotJWE
		}
	}
	j := &jwe{protected: parts[0], key: raw[1], iv: raw[2], content: raw[3], tag: raw[4]}
	return j, j.check(raw[0])
}

// check reads the header and looks at the parts' lengths.
func (j *jwe) check(head []byte) error {
	for _, c := range head {
		if c >= utf8.RuneSelf {
			return errors.New("is a JWE whose header is not in ASCII")
		}
	}
	if err := json.Unmarshal(head, &j.header); err != nil {
		return errors.New("is a JWE whose header is not a JSON object")
	}
	switch {
	case j.Enc != encContent:
		return fmt.Errorf("is a JWE with enc %.40q, and not %s", j.Enc, encContent)
	case j.Zip != nil || j.Crit != nil:
		return errors.New("is a JWE with zip or crit, which a security domain does not have")
	case len(j.iv) != ivLen || len(j.content) == 0 || len(j.content)%aes.BlockSize != 0:
		return errNotJWE
	case len(j.tag) != tagLen:
		return fmt.Errorf("is a JWE whose tag has %d bytes, and not %d", len(j.tag), tagLen)
	}
	return nil
}

// open decrypts the content with the key that it is encrypted under.
func (j *jwe) open(cek []byte) ([]byte, error) {
	if len(cek) != cekLen {
		return nil, errSealed
	}
	aead, err := josecipher.NewCBCHMAC(cek, aes.NewCipher)
	if err != nil {
		return nil, err
	}
	sealed := make([]byte, 0, len(j.content)+len(j.tag))
	sealed = append(append(sealed, j.content...), j.tag...)
	plaintext, err := aead.Open(nil, j.iv, sealed, []byte(j.protected))
	if err != nil {
		return nil, errSealed
	}
	return plaintext, nil
}

// openDirect opens a JWE that is encrypted under a key which both sides have.
func openDirect(text string, limit int, cek []byte) ([]byte, error) {
	j, err := parseJWE(text, limit)
	if err != nil {
		return nil, err
	}
	if j.Alg != algDirect || len(j.key) != 0 {
		return nil, fmt.Errorf("is a JWE with alg %.40q, and not %s", j.Alg, algDirect)
	}
	return j.open(cek)
}

// sealDirect is the counterpart of openDirect.
func sealDirect(kid string, cek, plaintext []byte) (string, error) {
	return sealJWE(header{Alg: algDirect, Enc: encContent, KID: kid}, nil, cek, randomBytes(ivLen), plaintext)
}

// sealJWE writes a JWE whose encrypted key is key.
func sealJWE(h header, key, cek, iv, plaintext []byte) (string, error) {
	head, err := json.Marshal(h)
	if err != nil {
		return "", err
	}
	aead, err := josecipher.NewCBCHMAC(cek, aes.NewCipher)
	if err != nil {
		return "", err
	}
	protected := encodeBase64URL(inASCII(head))
	sealed := aead.Seal(nil, iv, plaintext, []byte(protected))
	content, tag := sealed[:len(sealed)-tagLen], sealed[len(sealed)-tagLen:]
	return strings.Join([]string{protected, encodeBase64URL(key), encodeBase64URL(iv), encodeBase64URL(content), encodeBase64URL(tag)}, "."), nil
}

// inASCII writes JSON without other characters, which some readers of a JWE's header do not take.
func inASCII(in []byte) []byte {
	out := make([]byte, 0, len(in))
	for _, r := range string(in) {
		switch {
		case r < utf8.RuneSelf:
			out = append(out, byte(r))
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
	}
	return out
}

func encodeBase64URL(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// decodeBase64URL takes only what encodeBase64URL writes.
func decodeBase64URL(text string) ([]byte, error) {
	if strings.ContainsAny(text, "\r\n") { // which encoding/base64 passes over
		return nil, errors.New("is not base64url")
	}
	return base64.RawURLEncoding.Strict().DecodeString(text)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	rand.Read(b) // never fails
	return b
}
