package sdomain_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/sdomain"
)

func newKeys(t *testing.T) *sdomain.DomainKeys {
	t.Helper()
	k, err := sdomain.NewDomainKeys()
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func dataOf(t *testing.T, k *sdomain.DomainKeys) []sdomain.Datum {
	t.Helper()
	data, err := k.Data()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// checkSame looks whether both hold the same keys, in all of their uses.
func checkSame(t *testing.T, a, b *sdomain.DomainKeys) {
	t.Helper()
	if a.ID() != b.ID() {
		t.Errorf("ids %s and %s", a.ID(), b.ID())
	}
	wrapped, err := a.WrapKey("Name", "version", []byte("material"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.UnwrapKey("name", "version", wrapped); err != nil || string(got) != "material" {
		t.Errorf("UnwrapKey: %q, %v", got, err)
	}
	text, err := a.SealKeyBackup([]byte("backup"))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := b.OpenKeyBackup(text); err != nil || string(got) != "backup" {
		t.Errorf("OpenKeyBackup: %q, %v", got, err)
	}
	salt := bytes.Repeat([]byte{7}, 16)
	one, err := a.BackupKey(salt)
	two, err2 := b.BackupKey(salt)
	if err != nil || err2 != nil || len(one) != 32 || !bytes.Equal(one, two) {
		t.Errorf("BackupKey differs (%v, %v)", err, err2)
	}
}

func TestDomainKeys(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	checkSame(t, k, k)

	data := dataOf(t, k)
	var tags []string
	for _, d := range data {
		tags = append(tags, d.Tag)
	}
	if diff := cmp.Diff([]string{"hsm_backup", "base_enclave_backup", "partition_enclave_backup"}, tags); diff != "" {
		t.Errorf("tags: %s", diff)
	}
	data = append([]sdomain.Datum{{Tag: "of_another", Value: []byte{0, 1}}}, data...)
	slices.Reverse(data)
	parsed, err := sdomain.ParseDomainKeys(data)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, k, parsed)

	raw, err := parsed.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var stored sdomain.DomainKeys
	if err := stored.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	checkSame(t, k, &stored)
	if last := dataOf(t, &stored)[3]; last.Tag != "of_another" || !bytes.Equal(last.Value, []byte{0, 1}) {
		t.Errorf("the unknown datum is now %q, %x", last.Tag, last.Value)
	}
}

func TestDomainKeysOfAnotherDomain(t *testing.T) {
	t.Parallel()
	k, other := newKeys(t), newKeys(t)
	if k.ID() == other.ID() {
		t.Error("two domains have the same id")
	}
	wrapped, err := k.WrapKey("name", "version", []byte("material"))
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(wrapped)
	flipped[20] ^= 1
	for what, open := range map[string]func() ([]byte, error){
		"another domain":      func() ([]byte, error) { return other.UnwrapKey("name", "version", wrapped) },
		"another name":        func() ([]byte, error) { return k.UnwrapKey("names", "version", wrapped) },
		"another version":     func() ([]byte, error) { return k.UnwrapKey("name", "versiom", wrapped) },
		"a moved border":      func() ([]byte, error) { return k.UnwrapKey("namev", "ersion", wrapped) },
		"altered":             func() ([]byte, error) { return k.UnwrapKey("name", "version", flipped) },
		"cut":                 func() ([]byte, error) { return k.UnwrapKey("name", "version", wrapped[:5]) },
		"a backup, elsewhere": func() ([]byte, error) { return other.OpenKeyBackup(sealed(t, k)) },
		"a backup, altered":   func() ([]byte, error) { return k.OpenKeyBackup(altered(sealed(t, k))) },
	} {
		if got, err := open(); !errors.Is(err, sdomain.ErrWrongDomain) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	for _, bad := range [][]byte{nil, {}, {2, 3}} {
		if _, err := k.UnwrapKey("name", "version", bad); err == nil || errors.Is(err, sdomain.ErrWrongDomain) {
			t.Errorf("%x: %v", bad, err)
		}
	}
	salts := [][]byte{bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 16)}
	one, _ := k.BackupKey(salts[0])
	two, _ := k.BackupKey(salts[1])
	three, _ := other.BackupKey(salts[0])
	if bytes.Equal(one, two) || bytes.Equal(one, three) {
		t.Error("two backups have the same key")
	}
	if _, err := k.BackupKey(salts[0][1:]); err == nil {
		t.Error("a short salt was taken")
	}
}

func sealed(t *testing.T, k *sdomain.DomainKeys) string {
	t.Helper()
	text, err := k.SealKeyBackup([]byte("a key"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// altered changes one character of a JWE's content.
func altered(text string) string {
	parts := strings.Split(text, ".")
	first := "A"
	if parts[3][0] == 'A' {
		first = "B"
	}
	parts[3] = first + parts[3][1:]
	return strings.Join(parts, ".")
}

func TestParseDomainKeysRefuses(t *testing.T) {
	t.Parallel()
	k, other := newKeys(t), newKeys(t)
	with := func(i int, value string) []sdomain.Datum {
		data := dataOf(t, k)
		data[i].Value = []byte(value)
		return data
	}
	text := string(dataOf(t, k)[0].Value)
	for want, data := range map[string][]sdomain.Datum{
		`no datum "hsm_backup"`:       nil,
		`no datum "base_enclave`:      dataOf(t, k)[:1],
		`"hsm_backup" twice`:          append(dataOf(t, k), dataOf(t, k)[0]),
		`tag is not of 1 to`:          append(dataOf(t, k), sdomain.Datum{}),
		`not at most 16`:              make([]sdomain.Datum, 17),
		`more than 262144 bytes`:      append(dataOf(t, k), sdomain.Datum{Tag: "x", Value: make([]byte, 1<<18+1)}),
		`not of a form`:               with(0, "\x01\xe8\x01\x00"), // as the service's
		`this release knows 1`:        with(0, strings.Replace(text, `"v":1`, `"v":2,"w":1`, 1)),
		`does not know`:               with(0, strings.Replace(text, `"v":1`, `"v":1,"w":1`, 1)),
		`name its domain`:             with(0, strings.Replace(text, k.ID(), "zz", 1)),
		`of another domain`:           with(0, strings.Replace(text, k.ID(), other.ID(), 1)),
		`32 bytes for key-wrapping`:   with(0, strings.Replace(text, "key-wrapping", "full-backup", 1)),
		`key of 32 bytes for key-wra`: with(0, strings.Replace(text, `"key":"`, `"key":"AAAA`, 1)),
	} {
		if _, err := sdomain.ParseDomainKeys(data); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for _, raw := range []string{``, `{}`, `{"v":2}`, `{"v":1}`, `[]`, `{"v":1,"data":[],"more":1}`} {
		if err := new(sdomain.DomainKeys).UnmarshalBinary([]byte(raw)); err == nil {
			t.Errorf("%s was taken", raw)
		}
	}
}

// TestDomainKeysZero: the zero value has keys that everybody knows, so it must do nothing.
func TestDomainKeysZero(t *testing.T) {
	t.Parallel()
	var k sdomain.DomainKeys
	_, dataErr := k.Data()
	_, storeErr := k.MarshalBinary()
	_, wrapErr := k.WrapKey("a", "b", nil)
	_, unwrapErr := k.UnwrapKey("a", "b", nil)
	_, sealErr := k.SealKeyBackup(nil)
	_, openErr := k.OpenKeyBackup("")
	_, keyErr := k.BackupKey(make([]byte, 32))
	if i := slices.Index([]error{dataErr, storeErr, wrapErr, unwrapErr, sealErr, openErr, keyErr}, nil); i >= 0 {
		t.Errorf("method %d works", i)
	}
}

func TestDomainKeysPrintNothing(t *testing.T) {
	t.Parallel()
	k := newKeys(t)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "keys", k, "data", dataOf(t, k)[0])
	asJSON, err := json.Marshal([]any{k, *k, dataOf(t, k)})
	if err != nil {
		t.Fatal(err)
	}
	printed := fmt.Sprintf("%v %+v %#v %x %s %d %v", k, k, k, k, *k, *k, dataOf(t, k)) + log.String() + string(asJSON)
	if rest := strings.ReplaceAll(printed, "REDACTED", ""); len(rest) > 150 || strings.Contains(rest, "key-wrapping") {
		t.Errorf("printed %s", printed)
	}
}
