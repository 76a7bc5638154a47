package wire

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxDepth bounds the nesting of a request's JSON. The deepest document of any plane has a depth of six.
const maxDepth = 16

// An Object is a JSON object of a request. Its members are found without regard to case, as the real service finds them,
// and are read with their type, so that what is wrong is said by name.
type Object struct {
	path    string // where it stands in the document, for messages
	members map[string]any
}

// ParseObject parses strictly: valid UTF-8 and surrogate pairs, no duplicate members, nothing behind the object, bounded
// depth and no more than maxMembers members and elements. encoding/json alone would let these pass or, worse, quietly change a value.
func ParseObject(raw []byte, maxMembers int) (Object, error) {
	bad := func(format string, args ...any) (Object, error) {
		return Object{}, Errorf("The request's body is not valid JSON: "+format, args...)
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
	p := parser{dec: dec, max: maxMembers}
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
	return Object{members: members}, nil
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
	max     int
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
	if p.members++; p.members > p.max {
		return &structureError{fmt.Sprintf("it has more than %d members.", p.max)}
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
func (o Object) member(name string) (any, error) {
	var found any
	times := 0
	for k, v := range o.members {
		if strings.EqualFold(k, name) {
			found = v
			times++
		}
	}
	if times > 1 {
		return nil, Errorf("The member %q is given twice, in different spellings.", o.path+name)
	}
	return found, nil
}

// Path returns where a member stands in the document.
func (o Object) Path(name string) string { return o.path + name }

// WrongType says that a member is not what it must be.
func (o Object) WrongType(name, want string) error {
	return Errorf("The member %q must be %s.", o.path+name, want)
}

// Text returns a string member, nil if it is absent.
func (o Object) Text(name string) (*string, error) {
	v, err := o.member(name)
	if v == nil || err != nil {
		return nil, err
	}
	s, ok := v.(string)
	if !ok {
		return nil, o.WrongType(name, "a string")
	}
	return &s, nil
}

// TextOrNone returns a string member, "" if it is absent.
func (o Object) TextOrNone(name string) (string, error) {
	s, err := o.Text(name)
	if s == nil || err != nil {
		return "", err
	}
	return *s, nil
}

// Required returns a string member that must be there.
func (o Object) Required(name string) (string, error) {
	s, err := o.Text(name)
	if err != nil {
		return "", err
	}
	if s == nil {
		return "", o.Missing(name)
	}
	return *s, nil
}

// Missing says that a member must be there.
func (o Object) Missing(name string) error {
	return Errorf("The member %q is missing.", o.path+name)
}

// Bytes returns a member of bytes in base64, nil if it is absent.
func (o Object) Bytes(name string) ([]byte, error) {
	s, err := o.Text(name)
	if s == nil || err != nil {
		return nil, err
	}
	b, err := DecodeBase64(*s)
	if err != nil { // whose text would quote from the member, which may be secret
		return nil, o.WrongType(name, "base64url")
	}
	return b, nil
}

// RequiredBytes is bytes for a member that must be there; it may be empty.
func (o Object) RequiredBytes(name string) ([]byte, error) {
	b, err := o.Bytes(name)
	if b == nil && err == nil {
		err = o.Missing(name)
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

// DecodeBase64 accepts base64url with or without padding, and standard base64, which some clients send. The result is not
// nil unless there is an error.
func DecodeBase64(s string) ([]byte, error) {
	if strings.ContainsAny(s, "\r\n") { // the decoder would skip them
		return nil, base64.CorruptInputError(strings.IndexAny(s, "\r\n"))
	}
	encodings := urlEncodings
	if strings.ContainsAny(s, "+/") {
		encodings = standardEncodings
	}
	return encodings[strings.HasSuffix(s, "=")].DecodeString(s)
}

// Boolean returns a true/false member, nil if it is absent.
func (o Object) Boolean(name string) (*bool, error) {
	v, err := o.member(name)
	if v == nil || err != nil {
		return nil, err
	}
	b, ok := v.(bool)
	if !ok {
		return nil, o.WrongType(name, "true or false")
	}
	return &b, nil
}

// Integer returns a whole-number member, nil if it is absent.
func (o Object) Integer(name string) (*int64, error) {
	v, err := o.member(name)
	if v == nil || err != nil {
		return nil, err
	}
	number, ok := v.(json.Number)
	if !ok {
		return nil, o.WrongType(name, "a number")
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil {
		return nil, o.WrongType(name, "a whole number of reasonable size")
	}
	return &n, nil
}

// Number is integer with 0 for one that is absent.
func (o Object) Number(name string) (int64, error) {
	n, err := o.Integer(name)
	if n == nil || err != nil {
		return 0, err
	}
	return *n, nil
}

// Object returns an object member; ok is false if it is absent.
func (o Object) Object(name string) (inner Object, ok bool, err error) {
	v, err := o.member(name)
	if v == nil || err != nil {
		return Object{}, false, err
	}
	members, ok := v.(map[string]any)
	if !ok {
		return Object{}, false, o.WrongType(name, "an object")
	}
	return Object{path: o.path + name + ".", members: members}, true, nil
}

// Names returns the names of what a member holds, in order, without those that are null; nil if the member is absent.
func (o Object) Names(name string) ([]string, error) {
	inner, ok, err := o.Object(name)
	if !ok || err != nil {
		return nil, err
	}
	names := []string{}
	for k, v := range inner.members {
		if v != nil {
			names = append(names, k)
		}
	}
	slices.Sort(names)
	return names, nil
}

// Strings returns a member that is a list of strings, nil if it is absent.
func (o Object) Strings(name string) ([]string, error) {
	elements, err := o.array(name)
	if elements == nil || err != nil {
		return nil, err
	}
	out := make([]string, len(elements))
	for i, v := range elements {
		var ok bool
		if out[i], ok = v.(string); !ok {
			return nil, o.WrongType(name, "a list of strings")
		}
	}
	return out, nil
}

// Objects returns a member that is a list of objects, nil if it is absent.
func (o Object) Objects(name string) ([]Object, error) {
	elements, err := o.array(name)
	if elements == nil || err != nil {
		return nil, err
	}
	out := make([]Object, len(elements))
	for i, v := range elements {
		members, ok := v.(map[string]any)
		if !ok {
			return nil, o.WrongType(name, "a list of objects")
		}
		out[i] = Object{path: fmt.Sprintf("%s[%d].", o.Path(name), i), members: members}
	}
	return out, nil
}

func (o Object) array(name string) ([]any, error) {
	v, err := o.member(name)
	if v == nil || err != nil {
		return nil, err
	}
	elements, ok := v.([]any)
	if !ok {
		return nil, o.WrongType(name, "a list")
	}
	return elements, nil
}

// Texts returns a member that maps names to strings, nil if it is absent. Its names keep their case.
func (o Object) Texts(name string) (map[string]string, error) {
	inner, ok, err := o.Object(name)
	if !ok || err != nil {
		return nil, err
	}
	out := make(map[string]string, len(inner.members))
	for k, v := range inner.members {
		s, ok := v.(string)
		if !ok {
			return nil, inner.WrongType(k, "a string")
		}
		out[k] = s
	}
	return out, nil
}

// Attributes are what a caller may set about an object of any kind; nil is what is not said. Times are Unix seconds.
type Attributes struct {
	Enabled   *bool
	NotBefore *int64
	Expires   *int64
}

// Attributes returns the member "attributes".
func (o Object) Attributes() (a Attributes, err error) {
	inner, ok, err := o.Object("attributes")
	if !ok || err != nil {
		return a, err
	}
	if a.Enabled, err = inner.Boolean("enabled"); err != nil {
		return a, err
	}
	if a.NotBefore, err = inner.Integer("nbf"); err != nil {
		return a, err
	}
	a.Expires, err = inner.Integer("exp")
	return a, err
}
