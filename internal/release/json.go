package release

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

// Bounds of the JSON of a policy and of a token. Azure's default policy for confidential VMs has a depth of 7 and some
// 700 values; a token of its attestation service is smaller, but may hold what the target put into it.
const (
	maxDepth  = 24
	maxValues = 8192
	maxNumber = 128 // characters; each condition of a policy reads the claim's anew
)

// decodeObject reads one JSON object strictly: valid UTF-8, bounded depth and number of values, no name twice in one
// object, nothing behind it. Two readers of {"iss":1,"iss":2} may disagree about what was signed, and encoding/json would
// let it pass. Numbers keep their text.
func decodeObject(raw []byte) (map[string]any, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("it is not UTF-8")
	}
	d := decoder{Decoder: json.NewDecoder(bytes.NewReader(raw))}
	d.UseNumber()
	v, err := d.value(0)
	var structure structureError
	if err != nil && !errors.As(err, &structure) {
		return nil, fmt.Errorf("it is not valid JSON near byte %d", d.InputOffset())
	}
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("something follows the JSON document")
	}
	m, ok := v.(map[string]any)
	if !ok {
		return nil, errors.New("it is not a JSON object")
	}
	return m, nil
}

type structureError string

func (e structureError) Error() string { return string(e) }

type decoder struct {
	*json.Decoder
	values int
}

func (d *decoder) value(depth int) (any, error) {
	if d.values++; d.values > maxValues {
		return nil, structureError(fmt.Sprintf("it has more than %d values", maxValues))
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	if n, ok := t.(json.Number); ok && len(n) > maxNumber {
		return nil, structureError(fmt.Sprintf("it has a number of more than %d characters", maxNumber))
	}
	delim, nested := t.(json.Delim)
	if nested && depth == maxDepth {
		return nil, structureError(fmt.Sprintf("it is nested deeper than %d", maxDepth))
	}
	switch delim {
	case '{':
		return d.object(depth + 1)
	case '[':
		return d.array(depth + 1)
	}
	return t, nil
}

func (d *decoder) object(depth int) (any, error) {
	m := make(map[string]any)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, err
		}
		name, _ := t.(string) // the decoder accepts nothing else here
		if _, twice := m[name]; twice {
			return nil, structureError(fmt.Sprintf("the member '%s' is given twice", echo(name)))
		}
		if m[name], err = d.value(depth); err != nil {
			return nil, err
		}
	}
	_, err := d.Token()
	return m, err
}

func (d *decoder) array(depth int) (any, error) {
	list := []any{}
	for d.More() {
		v, err := d.value(depth)
		if err != nil {
			return nil, err
		}
		list = append(list, v)
	}
	_, err := d.Token()
	return list, err
}

// decodeBase64 accepts the one canonical spelling of base64url without padding. The standard decoder skips line breaks
// even when strict, hence the look for them.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") {
		return nil, errors.New("a line break in base64")
	}
	return base64.RawURLEncoding.Strict().DecodeString(s)
}

func encodeBase64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
