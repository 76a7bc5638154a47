package managedhsm

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/sdomain"
)

// blobs are restore blobs that are refused, with what is said of them.
func blobs(t *testing.T) map[string]struct {
	blob []byte
	text string
} {
	t.Helper()
	k := kitOf()
	rewrap := func(data []sdomain.Datum) []byte {
		blob, err := sdomain.Rewrap(data, k.key.Certificate())
		must(t, err)
		return blob
	}
	changed := func(from, to string) []byte {
		if !bytes.Contains(k.blob, []byte(from)) {
			t.Fatalf("%s is not in the blob", from)
		}
		return bytes.Replace(k.blob, []byte(from), []byte(to), 1)
	}
	other, err := sdomain.NewDomainKeys()
	must(t, err)
	mixed, err := other.Data()
	must(t, err)
	stranger, err := sdomain.Rewrap(k.data, owners()[0])
	must(t, err)
	file, err := sealed(k.domain, owners(), 2)
	must(t, err)
	return map[string]struct {
		blob []byte
		text string
	}{
		"nothing":              {nil, "The blob"},
		"no JSON":              {[]byte("{"), "The blob"},
		"neither JSON nor b64": {[]byte("!"), "neither JSON nor base64url"},
		"the file itself":      {file, "WrappedKey is missing"},
		"of another key":       {stranger, "another transfer key"},
		"altered key":          {altered(t, "WrappedKey"), "was altered"},
		"altered datum":        {altered(t, "EncData"), "was altered"},
		"renamed datum":        {changed(`"tag":"hsm_backup"`, `"tag":"other"`), "was altered"},
		"missing tag":          {rewrap(k.data[1:]), `has no datum "hsm_backup"`},
		"no data":              {rewrap(nil), "has no datum"},
		"swapped":              {rewrap([]sdomain.Datum{{Tag: k.data[0].Tag, Value: k.data[1].Value}, k.data[1], k.data[2]}), "does not hold a key"},
		"mixed":                {rewrap([]sdomain.Datum{k.data[0], mixed[1], k.data[2]}), "another domain"},
		"of another service":   {rewrap([]sdomain.Datum{{Tag: k.data[0].Tag, Value: []byte("\x01\xe8\x01\x00")}, k.data[1], k.data[2]}), "Strongroom"},
	}
}

// altered changes one character in the middle of a JWE of the kit's blob.
func altered(t *testing.T, member string) []byte {
	t.Helper()
	var blob struct {
		EncData struct {
			Data []map[string]string `json:"data"`
			KDF  string              `json:"kdf"`
		}
		WrappedKey map[string]string
	}
	must(t, json.Unmarshal(kitOf().blob, &blob))
	change := func(m map[string]string, name string) {
		parts := strings.Split(m[name], ".")
		content := []byte(parts[3])
		if content[3] == 'A' {
			content[3] = 'B'
		} else {
			content[3] = 'A'
		}
		parts[3] = string(content)
		m[name] = strings.Join(parts, ".")
	}
	if member == "WrappedKey" {
		change(blob.WrappedKey, "enc_key")
	} else {
		change(blob.EncData.Data[1], "compact_jwe")
	}
	out, err := json.Marshal(blob)
	must(t, err)
	return out
}

// TestRefusedBlobs: what is wrong with a blob is said, nothing changes or is announced, and the right one is taken afterwards.
func TestRefusedBlobs(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.giveTransferKey(t, "hsm")
	before := b.dump(t)
	for name, bad := range blobs(t) {
		_, err := b.Upload(t.Context(), admin, "hsm", bad.blob)
		var e *keyvault.Error
		if !errors.As(err, &e) || e.Kind != keyvault.BadParameter || !strings.Contains(e.Message, bad.text) || !strings.HasSuffix(e.Message, ".") {
			t.Errorf("%s: %v, want %q", name, err, bad.text)
		}
	}
	if !maps.Equal(before, b.dump(t)) || len(b.logged(t, Upload)) != 0 {
		t.Error("a blob that was refused left something")
	}
	must(t, upload(t, b.Service, admin))
}

// TestUnknownData: what a domain has under tags that are not ours is kept.
func TestUnknownData(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.giveTransferKey(t, "hsm")
	want := sdomain.Datum{Tag: "of a later release", Value: []byte("x")}
	blob, err := sdomain.Rewrap(append([]sdomain.Datum{want}, kitOf().data...), kitOf().key.Certificate())
	must(t, err)
	_, err = b.Upload(t.Context(), admin, "hsm", blob)
	must(t, err)
	data, err := opened(t, b.download(t, "hsm")).Data()
	must(t, err)
	kept := slices.ContainsFunc(data, func(d sdomain.Datum) bool { return d.Tag == want.Tag && bytes.Equal(d.Value, want.Value) })
	if len(data) != len(kitOf().data)+1 || !kept {
		t.Errorf("it is not among the %d data", len(data))
	}
}

// TestTooLarge: a domain that cannot be stored is refused as one.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.giveTransferKey(t, "hsm")
	data := slices.Clone(kitOf().data)
	for _, tag := range strings.Split("a b c d e f g h i j k l m", " ") {
		data = append(data, sdomain.Datum{Tag: tag, Value: make([]byte, 60<<10)})
	}
	blob, err := sdomain.Rewrap(data, kitOf().key.Certificate())
	must(t, err)
	before := b.dump(t)
	_, err = b.Upload(t.Context(), admin, "hsm", blob)
	wantKind(t, err, keyvault.BadParameter, "larger than can be stored")
	if !maps.Equal(before, b.dump(t)) {
		t.Error("something has changed")
	}
}

// TestRefusedOwners: what is wrong with the quorum is said, and activates nothing.
func TestRefusedOwners(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	before := b.dump(t)
	all := owners()
	for name, test := range map[string]struct {
		certs    []sdomain.Certificate
		required int
	}{
		"none":         {nil, 2},
		"two":          {all[:2], 2},
		"eleven":       {slices.Repeat(all, 4)[:11], 2},
		"twice":        {[]sdomain.Certificate{all[0], all[1], all[0]}, 2},
		"empty":        {make([]sdomain.Certificate, 3), 2},
		"one of three": {all, 1},
		"four":         {all, 4},
		"negative":     {all, -1},
	} {
		if _, err := b.Download(t.Context(), admin, "hsm", test.certs, test.required); !isKind(err, keyvault.BadParameter) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !maps.Equal(before, b.dump(t)) || len(b.logged(t, Download)) != 0 {
		t.Error("something has changed")
	}
}
