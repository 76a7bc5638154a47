package wire

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
)

// FuzzParseObject checks that what is accepted is JSON that encoding/json reads in the same way, so that no two parties
// can understand one body differently, and that nothing panics.
func FuzzParseObject(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"value":"v","tags":{"a":"b"}}`, `{"a":[1,2.5e3,true,null,{"b":"\u00e9\ud83d\ude00"}]}`, `{"a":"\ud800"}`,
		`{"a":"\\ud800"}`, `{"a":1,"a":2}`, `[]`, `{"a":1}x`, "{\"a\":\"\xff\"}", `{"a":"\uD83D\u0041"}`, `{"a":-0}`, ` {"a" : 1 } `,
		strings.Repeat(`{"a":`, 20) + "1" + strings.Repeat("}", 20),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := ParseObject(raw, 1024)
		if err != nil {
			return
		}
		dec := json.NewDecoder(strings.NewReader(string(raw)))
		dec.UseNumber()
		var want map[string]any
		if err := dec.Decode(&want); err != nil {
			t.Fatalf("accepted %q, which encoding/json refuses: %v", raw, err)
		}
		if !reflect.DeepEqual(got.members, want) {
			t.Fatalf("%q was read as %v, by encoding/json as %v", raw, got.members, want)
		}
		// The original text must survive: a replacement character may only be there if it was sent.
		again, err := json.Marshal(got.members)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(again), "\uFFFD") &&
			!strings.Contains(string(raw), "\uFFFD") && !strings.Contains(strings.ToLower(string(raw)), `\ufffd`) {
			t.Fatalf("%q lost a character", raw)
		}
	})
}

func TestDecodeBase64(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "YQ": "a", "YQ==": "a", "YWI": "ab", "YWI=": "ab", "YWJj": "abc", "-_8": "\xfb\xff", "-_8=": "\xfb\xff", "+/8": "\xfb\xff",
		"+/8=": "\xfb\xff",
	} {
		if got, err := DecodeBase64(in); err != nil || got == nil || string(got) != want {
			t.Errorf("%q: %q, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"YR", "YR==", "YQ=", "YQ===", "=", "====", "Y", "YQ==YQ==", "YWI==", "YWJj=", "+_8", "-/8=", "YW\nI", "YWI\r", "\n", " YWI", "YWI ", "YWI=\n", "Y.I",
	} {
		if got, err := DecodeBase64(in); err == nil {
			t.Errorf("%q was read as %q", in, got)
		}
	}
}
