package api

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of a request's JSON. The deepest document of the API has a depth of four.
const (
	maxDepth   = 16
	maxMembers = 1024
)

// A response is an answer ready to be sent; a nil body is none.
type response struct {
	status int
	body   []byte
}

func jsonResponse(status int, v any) (response, error) {
	const usual = 1024 // bytes of an answer, so that the buffer seldom grows
	buf := bytes.NewBuffer(make([]byte, 0, usual))
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false) // as the real service
	if err := enc.Encode(v); err != nil {
		return response{}, err
	}
	return response{status, bytes.TrimSuffix(buf.Bytes(), []byte("\n"))}, nil
}

// body reads and parses the request's body, which must be one JSON object.
func (q *request) body() (object, error) {
	// Nothing is read of who may not ask. The operation itself decides again.
	if err := q.h.cfg.Service.Authorize(q.ctx, q.caller, q.vault, q.route.Operation); err != nil {
		return object{}, err
	}
	raw, err := io.ReadAll(http.MaxBytesReader(q.w, q.r.Body, q.route.MaxBody))
	var tooLong *http.MaxBytesError
	if errors.As(err, &tooLong) {
		return object{}, &wireError{http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "",
			fmt.Sprintf("The request's body is longer than the %d bytes that are allowed here.", q.route.MaxBody)}
	}
	if err != nil {
		return object{}, &wireError{http.StatusBadRequest, "BadParameter", "", "The request's body did not arrive completely."}
	}
	return parseObject(raw)
}

// An object is a JSON object of a request. Its members are found without regard to case, as the real service finds them,
// and are read with their type, so that what is wrong is said by name.
type object struct {
	path    string // where it stands in the document, for messages
	members map[string]any
}

// parseObject parses strictly: valid UTF-8 and surrogate pairs, no duplicate members, nothing behind the object, bounded
// depth and size. encoding/json alone would let these pass or, worse, quietly change a value.
func parseObject(raw []byte) (object, error) {
	bad := func(format string, args ...any) (object, error) {
		return object{}, badParameter("The request's body is not valid JSON: "+format, args...)
	}
	if len(raw) == 0 {
		return bad("it is empty.")
	}
	if !utf8.Valid(raw) {
		return bad("it is not UTF-8.")
	}
	if loneSurrogate(raw) {
		return bad("it has half of a surrogate pair.")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	p := parser{dec: dec}
	v, err := p.value(0)
	if err != nil {
		var structure *structureError
		if errors.As(err, &structure) {
			return bad("%s", structure.text)
		}
		return bad("it is malformed near byte %d.", dec.InputOffset())
	}
	members, ok := v.(map[string]any)
	if !ok {
		return bad("it must be an object.")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return bad("something follows the object.")
	}
	return object{members: members}, nil
}

// loneSurrogate finds a \u escape of half a surrogate pair, which encoding/json would replace by U+FFFD.
func loneSurrogate(raw []byte) bool {
	unit := func(b []byte) (uint64, bool) {
		if len(b) < 6 || b[0] != '\\' || b[1] != 'u' {
			return 0, false
		}
		u, err := strconv.ParseUint(string(b[2:6]), 16, 16)
		return u, err == nil
	}
	for i := bytes.IndexByte(raw, '\\'); i >= 0 && i < len(raw); {
		u, ok := unit(raw[i:])
		switch {
		case !ok:
			i += 2 // an escape of another kind
		case u >= 0xd800 && u < 0xdc00:
			low, ok := unit(raw[i+6:])
			if !ok || low < 0xdc00 || low > 0xdfff {
				return true
			}
			i += 12
		case u >= 0xdc00 && u <= 0xdfff:
			return true
		default:
			i += 6
		}
		if i >= len(raw) {
			return false
		}
		next := bytes.IndexByte(raw[i:], '\\')
		if next < 0 {
			return false
		}
		i += next
	}
	return false
}

type structureError struct{ text string }

func (e *structureError) Error() string { return e.text }

type parser struct {
	dec     *json.Decoder
	members int
}

func (p *parser) value(depth int) (any, error) {
	t, err := p.dec.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		return p.object(depth + 1)
	case json.Delim('['):
		return p.array(depth + 1)
	}
	return t, nil
}

func (p *parser) enter(depth int) error {
	if depth > maxDepth {
		return &structureError{fmt.Sprintf("it is nested deeper than %d.", maxDepth)}
	}
	return nil
}

func (p *parser) count() error {
	if p.members++; p.members > maxMembers {
		return &structureError{fmt.Sprintf("it has more than %d members.", maxMembers)}
	}
	return nil
}

func (p *parser) object(depth int) (any, error) {
	if err := p.enter(depth); err != nil {
		return nil, err
	}
	members := make(map[string]any)
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return nil, err
		}
		name := t.(string) // the decoder accepts nothing else here
		if _, twice := members[name]; twice {
			return nil, &structureError{fmt.Sprintf("the member %.64q is given twice.", name)}
		}
		if err := p.count(); err != nil {
			return nil, err
		}
		if members[name], err = p.value(depth); err != nil {
			return nil, err
		}
	}
	_, err := p.dec.Token()
	return members, err
}

func (p *parser) array(depth int) (any, error) {
	if err := p.enter(depth); err != nil {
		return nil, err
	}
	elements := []any{}
	for p.dec.More() {
		if err := p.count(); err != nil {
			return nil, err
		}
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		elements = append(elements, v)
	}
	_, err := p.dec.Token()
	return elements, err
}

// member returns a member's value; null counts as absent.
func (o object) member(name string) (any, error) {
	var found any
	times := 0
	for k, v := range o.members {
		if strings.EqualFold(k, name) {
			found = v
			times++
		}
	}
	if times > 1 {
		return nil, badParameter("The member %q is given twice, in different spellings.", o.path+name)
	}
	return found, nil
}

func (o object) wrongType(name, want string) error {
	return badParameter("The member %q must be %s.", o.path+name, want)
}

// text returns a string member, nil if it is absent.
func (o object) text(name string) (*string, error) {
	v, err := o.member(name)
	if v == nil || err != nil {
		return nil, err
	}
	s, ok := v.(string)
	if !ok {
		return nil, o.wrongType(name, "a string")
	}
	return &s, nil
}

// textOrNone returns a string member, "" if it is absent.
func (o object) textOrNone(name string) (string, error) {
	s, err := o.text(name)
	if s == nil || err != nil {
		return "", err
	}
	return *s, nil
}

// required returns a string member that must be there.
func (o object) required(name string) (string, error) {
	s, err := o.text(name)
	if err != nil {
		return "", err
	}
	if s == nil {
		return "", o.missing(name)
	}
	return *s, nil
}

func (o object) missing(name string) error {
	return badParameter("The member %q is missing.", o.path+name)
}

// bytes returns a member of bytes in base64, nil if it is absent.
func (o object) bytes(name string) ([]byte, error) {
	s, err := o.text(name)
	if s == nil || err != nil {
		return nil, err
	}
	b, err := decodeBase64(*s)
	if err != nil { // whose text would quote from the member, which may be secret
		return nil, o.wrongType(name, "base64url")
	}
	return b, nil
}

// requiredBytes is bytes for a member that must be there; it may be empty.
func (o object) requiredBytes(name string) ([]byte, error) {
	b, err := o.bytes(name)
	if b == nil && err == nil {
		err = o.missing(name)
	}
	return b, err
}

// The spellings of base64 that are accepted, by whether they are padded. Strict means that each value has one spelling
// in each of them, so that no two requests differ only in bits that nobody reads.
var (
	urlEncodings = map[bool]*base64.Encoding{
		false: base64.RawURLEncoding.Strict(), true: base64.URLEncoding.Strict(),
	}
	standardEncodings = map[bool]*base64.Encoding{
		false: base64.RawStdEncoding.Strict(), true: base64.StdEncoding.Strict(),
	}
)

// decodeBase64 accepts base64url with or without padding, and standard base64, which some clients send. The result is not
// nil unless there is an error.
func decodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") { // the decoder would skip them
		return nil, base64.CorruptInputError(strings.IndexAny(s, "\r\n"))
	}
	encodings := urlEncodings
	if strings.ContainsAny(s, "+/") {
		encodings = standardEncodings
	}
	return encodings[strings.HasSuffix(s, "=")].DecodeString(s)
}

// boolean returns a true/false member, nil if it is absent.
func (o object) boolean(name string) (*bool, error) {
	v, err := o.member(name)
	if v == nil || err != nil {
		return nil, err
	}
	b, ok := v.(bool)
	if !ok {
		return nil, o.wrongType(name, "true or false")
	}
	return &b, nil
}

// integer returns a whole-number member, nil if it is absent.
func (o object) integer(name string) (*int64, error) {
	v, err := o.member(name)
	if v == nil || err != nil {
		return nil, err
	}
	number, ok := v.(json.Number)
	if !ok {
		return nil, o.wrongType(name, "a number")
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil {
		return nil, o.wrongType(name, "a whole number of reasonable size")
	}
	return &n, nil
}

// number is integer with 0 for one that is absent.
func (o object) number(name string) (int64, error) {
	n, err := o.integer(name)
	if n == nil || err != nil {
		return 0, err
	}
	return *n, nil
}

// object returns an object member; ok is false if it is absent.
func (o object) object(name string) (inner object, ok bool, err error) {
	v, err := o.member(name)
	if v == nil || err != nil {
		return object{}, false, err
	}
	members, ok := v.(map[string]any)
	if !ok {
		return object{}, false, o.wrongType(name, "an object")
	}
	return object{path: o.path + name + ".", members: members}, true, nil
}

// strings returns a member that is a list of strings, nil if it is absent.
func (o object) strings(name string) ([]string, error) {
	elements, err := o.array(name)
	if elements == nil || err != nil {
		return nil, err
	}
	out := make([]string, len(elements))
	for i, v := range elements {
		var ok bool
		if out[i], ok = v.(string); !ok {
			return nil, o.wrongType(name, "a list of strings")
		}
	}
	return out, nil
}

// objects returns a member that is a list of objects, nil if it is absent.
func (o object) objects(name string) ([]object, error) {
	elements, err := o.array(name)
	if elements == nil || err != nil {
		return nil, err
	}
	out := make([]object, len(elements))
	for i, v := range elements {
		members, ok := v.(map[string]any)
		if !ok {
			return nil, o.wrongType(name, "a list of objects")
		}
		out[i] = object{path: fmt.Sprintf("%s%s[%d].", o.path, name, i), members: members}
	}
	return out, nil
}

func (o object) array(name string) ([]any, error) {
	v, err := o.member(name)
	if v == nil || err != nil {
		return nil, err
	}
	elements, ok := v.([]any)
	if !ok {
		return nil, o.wrongType(name, "a list")
	}
	return elements, nil
}

// texts returns a member that maps names to strings, nil if it is absent. Its names keep their case.
func (o object) texts(name string) (map[string]string, error) {
	inner, ok, err := o.object(name)
	if !ok || err != nil {
		return nil, err
	}
	out := make(map[string]string, len(inner.members))
	for k, v := range inner.members {
		s, ok := v.(string)
		if !ok {
			return nil, inner.wrongType(k, "a string")
		}
		out[k] = s
	}
	return out, nil
}
