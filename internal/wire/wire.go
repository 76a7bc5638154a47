// Package wire is what the wires of the planes have in common: requests in JSON that are read strictly, queries, and bytes in
// base64. What it refuses, it refuses with a text for whoever sent it.
package wire

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
)

// An Error says what is wrong with a request, in words for whoever sent it.
type Error struct{ Message string }

func (e *Error) Error() string { return e.Message }

// Errorf returns an *Error.
func Errorf(format string, args ...any) error { return &Error{fmt.Sprintf(format, args...)} }

// Marshal encodes an answer. As the real service does, it leaves <, > and & as they are.
func Marshal(v any) ([]byte, error) {
	const usual = 1024 // bytes of an answer, so that the buffer seldom grows
	buf := bytes.NewBuffer(make([]byte, 0, usual))
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// ParseQuery decodes a query. Clients send parameter names percent-encoded too ("api%2Dversion").
func ParseQuery(raw string) (url.Values, error) {
	if len(raw) > 4096 {
		return nil, Errorf("The query of the request URI is too long.")
	}
	q, err := url.ParseQuery(raw)
	if err != nil {
		return nil, Errorf("The query of the request URI is not encoded correctly.")
	}
	for name, values := range q {
		if len(values) > 1 {
			return nil, Errorf("The query parameter %.64q is given more than once.", name)
		}
	}
	return q, nil
}
