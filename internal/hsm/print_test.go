package hsm_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/hsm/hsmtest"
)

// marker is what a secret is made of, in all forms in which something might print it.
var marker = []byte("SecretSecretSecretSecretSecretSe")

func shown(text string) bool {
	for _, form := range []string{
		"SecretSecret", "5365637265745365", "U2VjcmV0U2Vj", "83 101 99 114 101 116", "83,101,99,114,101,116", "0x53, 0x65, 0x63", "53 65 63 72",
		`S", "e`, "1010011 1100101", "123 145 143", "U+0053 U+0065",
	} {
		if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
			return true
		}
	}
	return false
}

// Nothing that holds a secret shows it, whatever prints it, by itself or inside something else.
func TestPrinting(t *testing.T) {
	t.Parallel()
	s := hsm.NewSoftware(hsm.SoftwareConfig{})
	taken, err := s.Import(t.Context(), hsm.PrivateKey{Type: hsm.Oct, K: marker})
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(taken.Blob, marker) {
		t.Fatal("the blob does not hold the key, so this test finds nothing")
	}
	opened, err := s.Open(t.Context(), taken.Spec, taken.Blob)
	if err != nil {
		t.Fatal(err)
	}
	private := hsm.PrivateKey{
		Type: hsm.RSA, N: marker, E: marker, D: marker, P: marker, Q: marker, DP: marker, DQ: marker, QI: marker, X: marker, Y: marker, K: marker,
	}
	message := hsm.Message{Value: marker, IV: marker, AAD: marker, Tag: marker}
	for name, v := range map[string]any{
		"PrivateKey": private, "*PrivateKey": &private, "New": taken, "*New": &taken, "Message": message, "*Message": &message, "Key": opened,
		"in a struct": struct{ A, B, C, D any }{private, &taken, message, opened}, "in a slice": []any{private, taken, message, opened},
		"in a map": map[string]any{"x": private, "y": taken, "z": &message, "k": opened},
		"typed":    struct{ P hsm.PrivateKey }{private}, "a slice of it": []hsm.PrivateKey{private}, "messages": []*hsm.Message{&message},
	} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "% x", "%d", "%b", "%o", "%c", "%U", "%08v"} {
			if text := fmt.Sprintf(verb, v); shown(text) {
				t.Errorf("%s prints as %s with %s", name, text, verb)
			}
		}
		if text, err := json.Marshal(v); shown(string(text)) {
			t.Errorf("%s in JSON is %s, %v", name, text, err)
		}
		var buf bytes.Buffer
		for _, h := range []slog.Handler{slog.NewTextHandler(&buf, nil), slog.NewJSONHandler(&buf, nil)} {
			slog.New(h).Info("m", "v", v, slog.Group("g", "v", v))
		}
		if shown(buf.String()) {
			t.Errorf("%s in a log is %s", name, &buf)
		}
	}
	if !shown(fmt.Sprint(marker)) || !shown(fmt.Sprintf("%x", marker)) || !shown(fmt.Sprintf("%#v", marker)) {
		t.Error("the test does not see what it looks for")
	}
}

// An error about a secret input does not show it.
func TestErrorsAreSilent(t *testing.T) {
	t.Parallel()
	s, ctx := hsm.NewSoftware(hsm.SoftwareConfig{}), t.Context()
	whole, _ := hsmtest.NewRSA(t, 2048)
	var errs []error
	collect := func(_ any, err error) {
		t.Helper()
		if err == nil {
			t.Error("no error")
		}
		errs = append(errs, err)
	}
	long := bytes.Repeat(marker, 100)
	collect(s.Import(ctx, hsm.PrivateKey{Type: hsm.Oct, K: marker[:20]}))
	for _, change := range []func(*hsm.PrivateKey){
		func(k *hsm.PrivateKey) { k.D = marker },
		func(k *hsm.PrivateKey) { k.P = marker },
		func(k *hsm.PrivateKey) { k.DP = marker },
		func(k *hsm.PrivateKey) { k.QI = long },
		func(k *hsm.PrivateKey) { k.N = long },
	} {
		k := whole
		change(&k)
		collect(s.Import(ctx, k))
	}
	collect(s.Import(ctx, hsm.PrivateKey{Type: hsm.EC, Curve: hsm.P256, D: marker, X: marker, Y: marker}))
	collect(s.Import(ctx, hsm.PrivateKey{Type: hsm.EC, Curve: hsm.P256K, D: marker, X: marker, Y: marker}))
	collect(s.Open(ctx, hsm.Spec{Type: hsm.Oct, Bits: 256}, append([]byte{9}, marker...)))
	collect(s.Open(ctx, hsm.Spec{Type: hsm.Oct, Bits: 128}, append([]byte{1}, marker...)))
	for _, spec := range []hsm.Spec{{Type: hsm.RSA, Bits: 2048}, {Type: hsm.EC, Curve: hsm.P256}, {Type: hsm.EC, Curve: hsm.P256K}} {
		collect(s.Open(ctx, spec, append([]byte{1}, marker...)))
	}
	taken, err := s.Import(ctx, whole)
	if err != nil {
		t.Fatal(err)
	}
	key, err := s.Open(ctx, taken.Spec, taken.Blob)
	if err != nil {
		t.Fatal(err)
	}
	collect(key.Encrypt(ctx, hsm.RSAOAEP256, hsm.Message{Value: long}))
	collect(key.Decrypt(ctx, hsm.RSAOAEP256, hsm.Message{Value: append(bytes.Clone(marker), make([]byte, 224)...)}))
	collect(key.Sign(ctx, hsm.RS256, marker[:31]))
	for _, err := range errs {
		if shown(fmt.Sprintf("%v %+v %#v", err, err, err)) {
			t.Errorf("shows its input: %v", err)
		}
	}
}
