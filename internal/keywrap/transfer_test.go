package keywrap_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/keywrap"
)

const transferBlob = `{"schema_version":"1.0.0","header":{"kid":"https://v.vault.example/keys/kek/1?a&b","alg":"dir",` +
	`"enc":"CKM_RSA_AES_KEY_WRAP"},"ciphertext":"AQID","generator":"a tool 1.0"}` + "\n"

func TestTransferBlob(t *testing.T) {
	t.Parallel()
	want := keywrap.TransferBlob{
		KeyID: "https://v.vault.example/keys/kek/1?a&b", Generator: "a tool 1.0", Ciphertext: []byte{1, 2, 3},
	}
	raw, err := want.Marshal()
	if err != nil || string(raw) != transferBlob {
		t.Errorf("marshalled to %s, %v", raw, err)
	}
	for name, text := range map[string]string{
		"as we write it": transferBlob,
		"members of others": strings.NewReplacer(`{"schema`, `{"x":{"y":[1,{"kid":2}]},"schema`, `{"kid"`, `{"z":null,"kid"`).
			Replace(transferBlob),
		"another order": `{"generator":"a tool 1.0","ciphertext":"AQID","header":{"enc":"CKM_RSA_AES_KEY_WRAP","alg":"dir",` +
			`"kid":"https://v.vault.example/keys/kek/1?a&b"},"schema_version":"1.0.0"}`,
	} {
		if got, err := keywrap.ParseTransferBlob([]byte(text)); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// With padding, as some write it, it has to be the right one.
func TestPaddedTransferBlob(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"AQ": "\x01", "AQ==": "\x01", "AQI": "\x01\x02", "AQI=": "\x01\x02", "AQID": "\x01\x02\x03"} {
		got, err := keywrap.ParseTransferBlob([]byte(strings.Replace(transferBlob, "AQID", text, 1)))
		if err != nil || string(got.Ciphertext) != want {
			t.Errorf("%s: %q, %v", text, got.Ciphertext, err)
		}
	}
}

func TestParseTransferBlobRefuses(t *testing.T) {
	t.Parallel()
	swap := func(from, to string) string {
		if !strings.Contains(transferBlob, from) {
			t.Fatalf("the blob has no %s", from)
		}
		return strings.Replace(transferBlob, from, to, 1)
	}
	for name, text := range map[string]string{
		"nothing":                "",
		"null":                   "null",
		"a list":                 "[]",
		"half":                   transferBlob[:len(transferBlob)/2],
		"something after it":     transferBlob + "{}",
		"a byte that is no UTF8": swap("a tool", "a \xfftool"),
		"half a surrogate pair":  swap("a tool", `a \ud800tool`),
		"another schema":         swap("1.0.0", "1.0.1"),
		"no schema":              swap("schema_version", "schema"),
		"another alg":            swap(`"dir"`, `"RSA-OAEP"`),
		"another enc":            swap("CKM_RSA_AES_KEY_WRAP", "RSA_AES_KEY_WRAP_256"),
		"no header":              swap("header", "head"),
		"a header that is null":  `{"schema_version":"1.0.0","header":null,"ciphertext":"AQID"}`,
		"no kid":                 swap(`"kid"`, `"keyid"`),
		"a kid in capitals":      swap(`"kid"`, `"KID"`),
		"an empty kid":           swap("https://v.vault.example/keys/kek/1?a&b", ""),
		"a kid of a number":      swap(`"https://v.vault.example/keys/kek/1?a&b"`, "1"),
		"a kid beyond all need":  swap("https", strings.Repeat("k", 1025)),
		"kid twice":              swap(`"kid"`, `"kid":"x","kid"`),
		"kid in two cases":       swap(`"kid"`, `"KID":"x","kid"`),
		"header twice":           swap(`"ciphertext"`, `"header":{},"ciphertext"`),
		"no ciphertext":          swap(`"AQID"`, `""`),
		"base64 of other signs":  swap("AQID", "AQ+/"),
		"base64 with a rest":     swap("AQID", "AQJ"),
		"padding for nothing":    swap("AQID", "AQID="),
		"half of the padding":    swap("AQID", "AQ="),
		"too much padding":       swap("AQID", "AQI=="),
		"padding in the middle":  swap("AQID", "AQ==AQID"),
		"a line feed in base64":  swap("AQID", `AQ\nID`),
		"a return in base64":     swap("AQID", `AQID\r`),
		"both behind padding":    swap("AQID", `AQ==\r\n`),
		"too large":              swap("AQID", strings.Repeat("AQID", 1<<14)),
	} {
		if got, err := keywrap.ParseTransferBlob([]byte(text)); err == nil || !reflect.DeepEqual(got, keywrap.TransferBlob{}) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

func TestMarshalTransferBlobRefuses(t *testing.T) {
	t.Parallel()
	for name, b := range map[string]keywrap.TransferBlob{
		"no kid":        {Ciphertext: []byte{1}},
		"no ciphertext": {KeyID: "k"},
		"no UTF-8":      {KeyID: "\xff", Ciphertext: []byte{1}},
		"too large":     {KeyID: "k", Ciphertext: make([]byte, 64<<10)},
	} {
		if raw, err := b.Marshal(); err == nil {
			t.Errorf("%s: %s", name, raw)
		}
	}
}

// FuzzParseTransferBlob: what is read is written so that it reads the same.
func FuzzParseTransferBlob(f *testing.F) {
	f.Add([]byte(transferBlob))
	f.Add([]byte(`{"header":{"kid":"\ud83d\ude00","alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP"},"ciphertext":"AA","schema_version":"1.0.0"}`))
	f.Add([]byte(`{"header":{"header":{}},"x":[[[[]]]]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		b, err := keywrap.ParseTransferBlob(raw)
		if err != nil {
			return
		}
		again, err := b.Marshal()
		if err != nil {
			t.Fatalf("%+v is read but not written: %v", b, err)
		}
		if same, err := keywrap.ParseTransferBlob(again); err != nil || !reflect.DeepEqual(same, b) {
			t.Fatalf("%+v became %+v, %v", b, same, err)
		}
	})
}
