package keywrap

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// A TransferBlob is the file (*.byok) that carries a wrapped key to a vault. Nothing in it is secret to somebody without
// the key that opens it.
type TransferBlob struct {
	KeyID      string // of the RSA key that opens it, as its vault calls it
	Generator  string // who made the file; for people
	Ciphertext []byte // as of WrapRSAAES with SHA-1
}

const (
	transferSchema = "1.0.0"
	transferAlg    = "dir"
	transferEnc    = "CKM_RSA_AES_KEY_WRAP"

	maxTransferBlob = 64 << 10
	maxTransferText = 1 << 10 // characters in a text, each up to four bytes
)

type transferFile struct {
	Schema     string         `json:"schema_version"`
	Header     transferHeader `json:"header"`
	Ciphertext string         `json:"ciphertext"`
	Generator  string         `json:"generator,omitempty"`
}

type transferHeader struct {
	KeyID string `json:"kid"`
	Alg   string `json:"alg"`
	Enc   string `json:"enc"`
}

// Marshal returns the file.
func (b TransferBlob) Marshal() ([]byte, error) {
	if err := b.check(); err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // a key's id is a URL
	err := enc.Encode(transferFile{
		Schema:     transferSchema,
		Header:     transferHeader{KeyID: b.KeyID, Alg: transferAlg, Enc: transferEnc},
		Ciphertext: base64.RawURLEncoding.EncodeToString(b.Ciphertext),
		Generator:  b.Generator,
	})
	if err != nil {
		return nil, fmt.Errorf("keywrap: transfer blob: %w", err)
	}
	if buf.Len() > maxTransferBlob {
		return nil, fmt.Errorf("keywrap: transfer blob: more than %d bytes", maxTransferBlob)
	}
	return buf.Bytes(), nil
}

// ParseTransferBlob reads a file. It must say what Marshal says, in any order; members of other names are for others and
// are not looked at, but no name may come twice, not even in another case, because readers would differ about it.
func ParseTransferBlob(raw []byte) (TransferBlob, error) {
	b, err := parseTransferBlob(raw)
	if err != nil {
		return TransferBlob{}, fmt.Errorf("keywrap: transfer blob: %w", err)
	}
	return b, nil
}

func parseTransferBlob(raw []byte) (TransferBlob, error) {
	if len(raw) > maxTransferBlob {
		return TransferBlob{}, fmt.Errorf("more than %d bytes", maxTransferBlob)
	}
	if !utf8.Valid(raw) {
		return TransferBlob{}, errors.New("not in UTF-8")
	}
	var f transferFile
	dec := json.NewDecoder(bytes.NewReader(raw))
	err := readObject(dec, map[string]func() error{
		"schema_version": readText(dec, &f.Schema),
		"ciphertext":     readText(dec, &f.Ciphertext),
		"generator":      readText(dec, &f.Generator),
		"header": func() error {
			return readObject(dec, map[string]func() error{
				"kid": readText(dec, &f.Header.KeyID),
				"alg": readText(dec, &f.Header.Alg),
				"enc": readText(dec, &f.Header.Enc),
			})
		},
	})
	if err != nil {
		return TransferBlob{}, err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return TransferBlob{}, errors.New("something comes after the JSON object")
	}
	return f.blob()
}

// readObject reads the JSON object that comes next; members says what to do with the value of a name.
func readObject(dec *json.Decoder, members map[string]func() error) error {
	if t, err := dec.Token(); err != nil {
		return notJSON(err)
	} else if t != json.Delim('{') {
		return errors.New("not a JSON object where there must be one")
	}
	seen := make(map[string]bool)
	for dec.More() {
		t, err := dec.Token()
		if err != nil {
			return notJSON(err)
		}
		name, _ := t.(string)
		if folded := strings.ToLower(name); seen[folded] {
			return fmt.Errorf("the member %.40q comes twice", name)
		} else {
			seen[folded] = true
		}
		read := members[name]
		if read == nil {
			read = func() error { return notJSON(dec.Decode(new(json.RawMessage))) }
		}
		if err := read(); err != nil {
			return fmt.Errorf("its %.40q: %w", name, err)
		}
	}
	_, err := dec.Token()
	return notJSON(err)
}

func readText(dec *json.Decoder, to *string) func() error {
	return func() error {
		if dec.Decode(to) != nil {
			return errors.New("not a text")
		}
		return nil
	}
}

func notJSON(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("not JSON: %w", err)
}

// blob checks what was read.
func (f *transferFile) blob() (TransferBlob, error) {
	for _, m := range []struct{ name, got, want string }{
		{"schema_version", f.Schema, transferSchema},
		{"alg", f.Header.Alg, transferAlg},
		{"enc", f.Header.Enc, transferEnc},
	} {
		if m.got != m.want {
			return TransferBlob{}, fmt.Errorf("its %q is %.40q and must be %q", m.name, m.got, m.want)
		}
	}
	ciphertext, err := decodeBase64(f.Ciphertext)
	if err != nil {
		return TransferBlob{}, errors.New(`its "ciphertext" is not base64url`)
	}
	b := TransferBlob{KeyID: f.Header.KeyID, Generator: f.Generator, Ciphertext: ciphertext}
	return b, b.check()
}

// decodeBase64 reads base64url. Some write padding, although the format has none; if it is there, it is right. The standard library
// skips line breaks even when it is strict.
func decodeBase64(text string) ([]byte, error) {
	encoding := base64.RawURLEncoding
	if strings.HasSuffix(text, "=") {
		encoding = base64.URLEncoding
	}
	if strings.ContainsAny(text, "\r\n") {
		return nil, errors.New("a line break in base64")
	}
	return encoding.Strict().DecodeString(text)
}

func (b TransferBlob) check() error {
	for _, m := range []struct{ name, text string }{{"kid", b.KeyID}, {"generator", b.Generator}} {
		// A replacement character stands for half a surrogate pair: no longer what the file says.
		if utf8.RuneCountInString(m.text) > maxTransferText || !utf8.ValidString(m.text) || strings.ContainsRune(m.text, utf8.RuneError) {
			return fmt.Errorf("its %q is longer than %d characters or not Unicode", m.name, maxTransferText)
		}
	}
	if b.KeyID == "" {
		return errors.New(`its "kid" is missing: nobody knows which key opens it`)
	}
	if len(b.Ciphertext) == 0 {
		return errors.New(`its "ciphertext" is missing`)
	}
	return nil
}
