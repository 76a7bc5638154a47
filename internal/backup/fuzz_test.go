package backup_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/backup"
)

func someManifest() backup.Manifest {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := backup.Manifest{
		Version: 1, ID: strings.Repeat("0a", 16), Domain: "d1", Salt: bytes.Repeat([]byte{1}, 32), HSM: "pool", Started: at, Finished: at,
		Records: 129, Chunks: 129, Bytes: 1 << 20,
	}
	list := `[{"n":1,"run":"0123456789abcdef","size":100,"sha256":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="},
		{"n":2,"run":"0123456789abcdef","size":100,"sha256":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]`
	if err := json.Unmarshal([]byte(list), &m.Indexes); err != nil {
		panic(err)
	}
	return m
}

// TestManifest reads what a domain's owner could have written, and refuses what makes no sense although it is authentic.
func TestManifest(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		change func(*backup.Manifest)
		code   string
	}{
		"good":            {func(*backup.Manifest) {}, ""},
		"empty":           {func(m *backup.Manifest) { m.Records, m.Chunks, m.Bytes, m.Indexes = 0, 0, 0, nil }, ""},
		"other domain":    {func(m *backup.Manifest) { m.Domain = "d2" }, backup.WrongDomain},
		"later":           {func(m *backup.Manifest) { m.Version = 2 }, backup.Unsupported},
		"no version":      {func(m *backup.Manifest) { m.Version = 0 }, backup.Damaged},
		"bad id":          {func(m *backup.Manifest) { m.ID = "../x" }, backup.Damaged},
		"short salt":      {func(m *backup.Manifest) { m.Salt = m.Salt[1:] }, backup.Damaged},
		"negative":        {func(m *backup.Manifest) { m.Chunks = -1 }, backup.Damaged},
		"index missing":   {func(m *backup.Manifest) { m.Indexes = m.Indexes[:1] }, backup.Damaged},
		"index too many":  {func(m *backup.Manifest) { m.Chunks = 128 }, backup.Damaged},
		"indexes swapped": {func(m *backup.Manifest) { slices.Reverse(m.Indexes) }, backup.Damaged},
		"a path as run":   {func(m *backup.Manifest) { m.Indexes[0].Run = "../../../other" }, backup.Damaged},
		"large index":     {func(m *backup.Manifest) { m.Indexes[0].Size = 1 << 30 }, backup.Damaged},
		"short hash":      {func(m *backup.Manifest) { m.Indexes[0].SHA256 = []byte{1} }, backup.Damaged},
	} {
		m := someManifest()
		test.change(&m)
		raw, err := backup.SealManifest(m, domain("d1"))
		if err != nil {
			t.Fatal(err)
		}
		got, err := backup.OpenManifest(raw, domain("d1"))
		if test.code != "" {
			var e *backup.Error
			if !errors.As(err, &e) || e.Code != test.code {
				t.Errorf("%s: %v, want %s", name, err, test.code)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if diff := cmp.Diff(&m, got); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

// FuzzManifest: nothing but what was sealed opens, and what does not open is an Error.
func FuzzManifest(f *testing.F) {
	m := someManifest()
	good, err := backup.SealManifest(m, domain("d1"))
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{good, good[:len(good)/2], []byte(`{}`), []byte(`{"manifest":{"v":1},"mac":""}`), []byte(`{"manifest":null}`), nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := backup.OpenManifest(raw, domain("d1"))
		if err != nil {
			var e *backup.Error
			if !errors.As(err, &e) || got != nil {
				t.Errorf("error %T, manifest %v", err, got)
			}
			return
		}
		if diff := cmp.Diff(&m, got); diff != "" {
			t.Errorf("a manifest that was never sealed: %s", diff)
		}
	})
}

// FuzzChunk: what is read as records is written back the same, and in order.
func FuzzChunk(f *testing.F) {
	var several []byte
	for _, r := range records(3, 2, 10) {
		several = backup.AppendRecord(several, r)
	}
	for _, seed := range [][]byte{several, several[:len(several)-1], append(several, 0), nil, {3, 'k', 'e', 'y', 0, 1, 'a', 0xff, 0xff, 0xff, 0xff}} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		all, err := backup.ParseChunk(plaintext)
		if err != nil {
			return
		}
		var back []byte
		for _, r := range all {
			back = backup.AppendRecord(back, r)
		}
		if !bytes.Equal(back, plaintext) || len(all) == 0 {
			t.Errorf("%d records are written as %x", len(all), back)
		}
		if !slices.IsSortedFunc(all, func(a, b backup.Record) int { return strings.Compare(a.Name, b.Name) }) {
			t.Error("out of order")
		}
	})
}

// FuzzIndex: an index that is accepted names blobs of its backup only, one for each number.
func FuzzIndex(f *testing.F) {
	const entry = `{"n":129,"run":"0123456789abcdef","size":100,"sha256":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","records":1,"first":"a","last":"b"}`
	f.Add([]byte(`{"v":1,"chunks":[`+entry+`]}`), 129)
	f.Add([]byte(`{"v":1,"chunks":[`+entry+`,`+entry+`]}`), 130)
	f.Add([]byte(`{"v":1,"chunks":[]}`), 129)
	name := regexp.MustCompile(`^data/[0-9]{6}-[0-9a-f]{16}$`)
	f.Fuzz(func(t *testing.T, raw []byte, chunks int) {
		if chunks <= backup.ChunksInIndex { // then there is no second index
			return
		}
		names, err := backup.ParseIndex(raw, 2, chunks)
		if err != nil {
			return
		}
		if len(names) != min(chunks-backup.ChunksInIndex, backup.ChunksInIndex) {
			t.Errorf("%d names of %d blobs", len(names), chunks)
		}
		for i, got := range names {
			if !name.MatchString(got) || !strings.HasPrefix(got, fmt.Sprintf("data/%06d-", backup.ChunksInIndex+1+i)) {
				t.Errorf("name %d: %s", i, got)
			}
		}
	})
}
