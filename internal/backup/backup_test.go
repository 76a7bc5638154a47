package backup_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/backup/backuptest"
	"github.com/strongroom/strongroom/internal/sdomain"
)

// records makes so many groups with this many records each, every record with so many bytes of data.
func records(groups, each, size int) (all []backup.Record) {
	for g := range groups {
		for i := range each {
			kind := "key"
			if i > 0 {
				kind = "version"
			}
			data := bytes.Repeat([]byte{byte(g), byte(i)}, size/2)
			all = append(all, backup.Record{Kind: kind, Name: fmt.Sprintf("key/%05d", g), Data: data})
		}
	}
	return all
}

func keepNothing(context.Context, backup.State) error { return nil }

// write writes a backup with small data blobs and returns its manifest.
func write(t testing.TB, c *backup.Container, all []backup.Record, chunkSize int) (string, backup.Manifest) {
	t.Helper()
	w, err := backup.Begin(t.Context(), c, domain("d1"), "pool", keepNothing)
	if err != nil {
		t.Fatal(err)
	}
	w.SetChunkSize(chunkSize)
	m, err := finish(t.Context(), w, all)
	if err != nil {
		t.Fatal(err)
	}
	return w.Folder(), m
}

func finish(ctx context.Context, w *backup.Writer, all []backup.Record) (backup.Manifest, error) {
	for _, r := range all {
		if err := w.Add(ctx, r); err != nil {
			return backup.Manifest{}, err
		}
	}
	return w.Finish(ctx)
}

func read(t testing.TB, c *backup.Container, folder, from string) (all []backup.Record, err error) {
	t.Helper()
	b, err := backup.Open(t.Context(), c, folder, domain("d1"))
	if err != nil {
		return nil, err
	}
	for r, err := range b.Records(t.Context(), from) {
		if err != nil {
			return all, err
		}
		all = append(all, r)
	}
	return all, nil
}

// wantRecords compares without printing data.
func wantRecords(t testing.TB, got, want []backup.Record) {
	t.Helper()
	if !slices.EqualFunc(got, want, func(a, b backup.Record) bool {
		return a.Kind == b.Kind && a.Name == b.Name && bytes.Equal(a.Data, b.Data)
	}) {
		t.Errorf("%d records differ from the %d wanted", len(got), len(want))
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	big := records(1, 3, backup.ChunkSize-100)
	for name, test := range map[string]struct {
		all       []backup.Record
		chunkSize int
		chunks    int
	}{
		"nothing":      {nil, backup.ChunkSize, 0},
		"one":          {records(1, 1, 0), backup.ChunkSize, 1},
		"one blob":     {records(50, 4, 100), backup.ChunkSize, 1},
		"whole groups": {records(9, 2, 200), 1000, 5}, // two groups fit, a third not
		"torn groups":  {records(3, 9, 200), 1000, 9},
		"full size":    {big, backup.ChunkSize, 3},
		"one index":    {records(backup.ChunksInIndex, 1, 900), 1000, backup.ChunksInIndex},
		"two indexes":  {records(backup.ChunksInIndex+1, 1, 900), 1000, backup.ChunksInIndex + 1},
		"five indexes": {records(600, 1, 900), 1000, 600},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := backuptest.New(t)
			c := open(t, f)
			folder, m := write(t, c, test.all, test.chunkSize)
			if folder != "mhsm-pool-2026010203040567" {
				t.Errorf("folder %s", folder)
			}
			if m.Chunks != test.chunks || m.Records != int64(len(test.all)) || m.HSM != "pool" {
				t.Errorf("manifest %+v, want %d blobs", m, test.chunks)
			}
			if got := len(f.Names()); got != m.Chunks+len(m.Indexes)+1 {
				t.Errorf("%d blobs for %d chunks and %d indexes", got, m.Chunks, len(m.Indexes))
			}
			got, err := read(t, c, folder, "")
			if err != nil {
				t.Fatal(err)
			}
			wantRecords(t, got, test.all)
			for name, content := range f.Blobs {
				if strings.Contains(string(content), "key/0") {
					t.Errorf("%s shows names of records", name)
				}
			}
		})
	}
}

// TestSecurityDomain uses the keys of real security domains.
func TestSecurityDomain(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	ours, err := sdomain.NewDomainKeys()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := sdomain.NewDomainKeys()
	if err != nil {
		t.Fatal(err)
	}
	w, err := backup.Begin(t.Context(), c, ours, "pool", keepNothing)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := finish(t.Context(), w, records(3, 2, 100)); err != nil {
		t.Fatal(err)
	}
	if err := c.CheckRestore(t.Context(), w.Folder(), ours); err != nil {
		t.Error(err)
	}
	wantCode(t, c.CheckRestore(t.Context(), w.Folder(), theirs), backup.WrongDomain)
}

// TestFrom checks both ways into the middle of a backup, and what they read.
func TestFrom(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	all := records(500, 3, 300) // a data blob each
	folder, m := write(t, c, all, 1000)
	if m.Chunks != 500 || len(m.Indexes) != 4 {
		t.Fatalf("%d blobs, %d indexes", m.Chunks, len(m.Indexes))
	}
	b, err := backup.Open(t.Context(), c, folder, domain("d1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"key/00000", "key/00001", "key/00127", "key/00128", "key/00255", "key/00300", "key/00499", "a", "key/00127a", "z"} {
		want := slices.DeleteFunc(slices.Clone(all), func(r backup.Record) bool { return r.Name != name })
		before := f.Requests()
		var got []backup.Record
		for r, err := range b.Find(t.Context(), name) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		wantRecords(t, got, want)
		if n := f.Requests() - before; n > 6 {
			t.Errorf("%s: %d requests", name, n)
		}
		want = slices.DeleteFunc(slices.Clone(all), func(r backup.Record) bool { return r.Name < name })
		if got, err = read(t, c, folder, name); err != nil {
			t.Fatal(err)
		}
		wantRecords(t, got, want)
	}
}

// TestTornGroup finds a group that lies in several data blobs, and in several indexes.
func TestTornGroup(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	all := slices.Concat(records(2, 200, 400), []backup.Record{{Kind: "role", Name: "role/1"}})
	folder, m := write(t, c, all, 1000)
	if len(m.Indexes) < 2 {
		t.Fatalf("%d indexes", len(m.Indexes))
	}
	b, err := backup.Open(t.Context(), c, folder, domain("d1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"key/00000", "key/00001", "role/1"} {
		var got []backup.Record
		for r, err := range b.Find(t.Context(), name) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		wantRecords(t, got, slices.DeleteFunc(slices.Clone(all), func(r backup.Record) bool { return r.Name != name }))
	}
}

func TestBadRecords(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	good := backup.Record{Kind: "key", Name: "key/m", Data: []byte("x")}
	for name, r := range map[string]backup.Record{
		"no kind":     {Name: "key/n"},
		"bad kind":    {Kind: "Key", Name: "key/n"},
		"no name":     {Kind: "key"},
		"bad name":    {Kind: "key", Name: "key/ü"},
		"long name":   {Kind: "key", Name: strings.Repeat("n", backup.MaxName+1)},
		"large":       {Kind: "key", Name: "key/n", Data: make([]byte, backup.ChunkSize)},
		"disordered":  {Kind: "key", Name: "key/a"},
		"one earlier": {Kind: "key", Name: "key/l"},
	} {
		w, err := backup.Begin(t.Context(), open(t, f), domain("d1"), "pool", keepNothing)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Add(t.Context(), good); err != nil {
			t.Fatal(err)
		}
		if err := w.Add(t.Context(), r); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if _, err := w.Finish(t.Context()); err == nil {
			t.Errorf("%s: finished nevertheless", name)
		}
	}
	if _, err := backup.Begin(t.Context(), open(t, f), domain("d1"), "a/b", keepNothing); err == nil {
		t.Error("a bad name of an HSM was accepted")
	}
	if names := f.Names(); len(names) > 0 {
		t.Errorf("blobs %v", names)
	}
}

// TestInterrupted ends a writer at every request, before the storage has done it and after, and resumes it. Whatever the
// moment, the backup is whole and there is one.
func TestInterrupted(t *testing.T) {
	t.Parallel()
	all := slices.Concat(records(20, 2, 200), records(21, 9, 200)[20*9:], []backup.Record{{Kind: "role", Name: "role/1"}, {Kind: "role", Name: "role/2"}})
	for _, after := range []bool{false, true} {
		for at := 1; ; at++ {
			f := backuptest.New(t)
			interrupted := interrupt(t, f, all, at, after)
			if !interrupted {
				if at < 15 {
					t.Errorf("only %d requests", at)
				}
				break
			}
		}
	}
}

// interrupt writes a backup and interrupts it at a request; it returns false if there are not so many.
func interrupt(t *testing.T, f *backuptest.Storage, all []backup.Record, at int, after bool) bool {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stop := func(n int, _ http.ResponseWriter, r *http.Request) bool {
		if n == at {
			cancel()
			<-r.Context().Done() // the client has gone: no answer reaches it
		}
		return n == at
	}
	if after {
		f.Served = func(n int, w http.ResponseWriter, r *http.Request) { stop(n, w, r) }
	} else {
		f.Fault = stop
	}
	c := open(t, f)
	var kept []byte
	keep := func(_ context.Context, s backup.State) (err error) {
		kept, err = json.Marshal(s)
		return err
	}
	w, err := backup.Begin(ctx, c, domain("d1"), "pool", keep)
	if err != nil {
		t.Fatal(err)
	}
	w.SetChunkSize(1000)
	if _, err = finish(ctx, w, all); err == nil {
		return false
	}
	if !errors.Is(err, context.Canceled) {
		t.Errorf("request %d: %v", at, err)
	}
	f.Lock()
	f.Fault, f.Served = nil, nil
	f.Unlock()

	var s backup.State
	if err := json.Unmarshal(kept, &s); err != nil {
		t.Fatal(err)
	}
	if _, err := backup.Open(t.Context(), c, s.Folder, domain("d1")); err != nil {
		wantCode(t, err, backup.NotFound)
	}
	if w, err = backup.Resume(c, domain("d1"), s, keep); err != nil {
		t.Fatal(err)
	}
	w.SetChunkSize(1000)
	rest := all[slices.IndexFunc(all, func(r backup.Record) bool { return r.Name > s.Last }):]
	m, err := finish(t.Context(), w, rest)
	if err != nil {
		t.Fatalf("request %d: %v", at, err)
	}
	got, err := read(t, c, s.Folder, "")
	if err != nil {
		t.Fatalf("request %d: %v", at, err)
	}
	wantRecords(t, got, all)
	if m.Records != int64(len(all)) {
		t.Errorf("request %d: the manifest counts %d records", at, m.Records)
	}
	return true
}

// TestTwoWriters lets two writers of one backup work at once, in any order, with different content. The one that finishes
// first has made the backup, whole; the other is told so.
func TestTwoWriters(t *testing.T) {
	t.Parallel()
	for first := range 2 {
		f := backuptest.New(t)
		c := open(t, f)
		var s backup.State
		a, err := backup.Begin(t.Context(), c, domain("d1"), "pool", func(_ context.Context, kept backup.State) error { s = kept; return nil })
		if err != nil {
			t.Fatal(err)
		}
		a.SetChunkSize(1000)
		sets := [2][]backup.Record{records(10, 2, 200), records(10, 2, 220)}
		for _, r := range sets[0][:10] {
			if err := a.Add(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		b, err := backup.Resume(c, domain("d1"), s, keepNothing)
		if err != nil {
			t.Fatal(err)
		}
		b.SetChunkSize(1000)
		common := slices.IndexFunc(sets[0], func(r backup.Record) bool { return r.Name > s.Last })
		if common == 0 {
			t.Fatal("nothing is common")
		}
		writers, rest := [2]*backup.Writer{a, b}, [2][]backup.Record{sets[0][10:], sets[1][common:]}
		for len(rest[0]) > 0 || len(rest[1]) > 0 {
			for i, w := range writers {
				if len(rest[i]) > 0 {
					if err := w.Add(t.Context(), rest[i][0]); err != nil {
						t.Fatal(err)
					}
					rest[i] = rest[i][1:]
				}
			}
		}
		want, err := writers[first].Finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := writers[1-first].Finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("two truths: %s", diff)
		}
		all, err := read(t, c, s.Folder, "")
		if err != nil {
			t.Fatal(err)
		}
		wantRecords(t, all, slices.Concat(sets[0][:common], sets[first][common:]))
	}
}

// TestTwoBackups begins two backups of one HSM in the same hundredth of a second.
func TestTwoBackups(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	var writers [2]*backup.Writer
	for i := range writers {
		w, err := backup.Begin(t.Context(), c, domain("d1"), "pool", keepNothing)
		if err != nil {
			t.Fatal(err)
		}
		writers[i] = w
	}
	if _, err := finish(t.Context(), writers[0], records(1, 1, 10)); err != nil {
		t.Fatal(err)
	}
	_, err := finish(t.Context(), writers[1], records(1, 1, 20))
	wantCode(t, err, backup.Conflict)
	got, err := read(t, c, writers[0].Folder(), "")
	if err != nil {
		t.Fatal(err)
	}
	wantRecords(t, got, records(1, 1, 10))
}

// TestSaveFails ends a writer whose caller has lost its lease.
func TestSaveFails(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	lost := errors.New("the lease is lost")
	saves := 0
	w, err := backup.Begin(t.Context(), open(t, f), domain("d1"), "pool", func(context.Context, backup.State) error {
		if saves++; saves > 2 {
			return lost
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	w.SetChunkSize(1000)
	if _, err := finish(t.Context(), w, records(20, 1, 400)); !errors.Is(err, lost) {
		t.Error(err)
	}
	if _, err := w.Finish(t.Context()); !errors.Is(err, lost) {
		t.Errorf("finished after that: %v", err)
	}
	if slices.ContainsFunc(f.Names(), func(name string) bool { return strings.HasSuffix(name, "manifest.json") }) {
		t.Error("there is a manifest")
	}
}

func TestResumeRefuses(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	var s backup.State
	if _, err := backup.Begin(t.Context(), c, domain("d1"), "pool", func(_ context.Context, kept backup.State) error { s = kept; return nil }); err != nil {
		t.Fatal(err)
	}
	_, err := backup.Resume(c, domain("d2"), s, keepNothing)
	wantCode(t, err, backup.WrongDomain)
	s.Version = 2
	if _, err := backup.Resume(c, domain("d1"), s, keepNothing); err == nil {
		t.Error("the state of another release was accepted")
	}
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	var s backup.State
	w, err := backup.Begin(t.Context(), c, domain("d1"), "pool", func(_ context.Context, kept backup.State) error { s = kept; return nil })
	if err != nil {
		t.Fatal(err)
	}
	w.SetChunkSize(1000)
	for _, r := range records(20, 1, 400) {
		if err := w.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	stranger := s.Folder + "/data/not-ours"
	f.Change(stranger, func([]byte) []byte { return []byte("x") })
	if err := c.Discard(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if names := f.Names(); len(names) != 1 || names[0] != stranger {
		t.Errorf("left: %v", names)
	}
	folder, _ := write(t, openAt(t, f, func() time.Time { return time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC) }, backuptest.SAS), records(3, 1, 10), 1000)
	s.Folder = folder
	before := len(f.Names())
	if err := c.Discard(t.Context(), s); err != nil || len(f.Names()) != before {
		t.Errorf("a finished backup lost blobs: %v", err)
	}
}
