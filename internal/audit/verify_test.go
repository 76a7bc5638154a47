package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// chainOf makes a log of n lines, and the head after each line, the zero Head first.
func chainOf(n int) (lines []string, heads []Head) {
	var c chunk
	p := position{}
	heads = append(heads, Head{})
	for i := range n {
		r := Record{Time: time.Unix(int64(1000+i), 0), Operation: "SecretGet", CorrelationID: fmt.Sprint(i)}
		if i%2 == 1 {
			r.Category = Intent
		}
		p = c.add(appendRecord(nil, &r, r.Time), p)
		heads = append(heads, p.head())
	}
	return strings.SplitAfter(string(c.buf), "\n")[:n], heads
}

// verify runs Verify on whole files and checks that error and report agree.
func verify(t *testing.T, opts Options, files ...string) Report {
	t.Helper()
	var readers []io.Reader
	for _, f := range files {
		readers = append(readers, iotest.HalfReader(strings.NewReader(f)))
	}
	report, err := Verify(opts, readers...)
	if errors.Is(err, ErrBroken) != (report.NProblems > 0) || err != nil && report.NProblems == 0 {
		t.Fatalf("error %v with %d problems", err, report.NProblems)
	}
	return report
}

func TestVerifyAcceptsWhatWasWritten(t *testing.T) {
	t.Parallel()
	lines, heads := chainOf(9)
	all := strings.Join(lines, "")
	want := Report{
		Lines: 9, Events: 5, Intents: 4, First: heads[1], Last: heads[9],
		Start: time.Unix(1000, 0).UTC(), End: time.Unix(1008, 0).UTC(),
	}
	for _, h := range heads {
		want := want
		if h.Seq > 0 && h.Seq < 9 {
			want.Beyond = Beyond{Lines: 9 - h.Seq, Span: time.Duration(8-h.Seq) * time.Second}
		}
		if diff := cmp.Diff(want, verify(t, Options{Anchor: &h}, all)); diff != "" {
			t.Errorf("anchor %v (-want +got)\n%s", h, diff)
		}
	}
	for i := range lines {
		split := verify(t, Options{Anchor: &heads[9]}, strings.Join(lines[:i], ""), strings.Join(lines[i:], ""))
		if diff := cmp.Diff(want, split); diff != "" {
			t.Errorf("split at %d (-want +got)\n%s", i, diff)
		}
	}
	later := verify(t, Options{}, strings.Join(lines[4:], ""))
	if !later.Earlier || later.First != heads[5] || later.NProblems != 0 {
		t.Errorf("later file alone: %+v", later)
	}
	after := verify(t, Options{After: &heads[4]}, strings.Join(lines[4:], ""))
	if after.Earlier || after.NProblems != 0 {
		t.Errorf("later file after its predecessor: %+v", after)
	}
}

func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	t.Parallel()
	lines, heads := chainOf(4)
	all := []byte(strings.Join(lines, ""))
	for i := range all {
		for _, mask := range []byte{0x01, 0x20, 0x80, 0xff, all[i] ^ '\n', all[i]} {
			if mask == 0 {
				continue
			}
			bad := slices.Clone(all)
			bad[i] ^= mask
			if r := verify(t, Options{Anchor: &heads[4]}, string(bad)); r.NProblems == 0 {
				t.Fatalf("byte %d as %q was not found", i, bad[i])
			}
		}
	}
}

func TestVerifyFindsEveryTruncation(t *testing.T) {
	t.Parallel()
	lines, heads := chainOf(3)
	all := strings.Join(lines, "")
	for n := range all {
		r := verify(t, Options{Anchor: &heads[3]}, all[:n])
		if r.NProblems == 0 || r.Problems[len(r.Problems)-1].Kind != Anchored {
			t.Fatalf("cut to %d bytes: %+v", n, r)
		}
	}
}

func TestVerifySaysWhatIsWrongAndWhere(t *testing.T) {
	t.Parallel()
	const n = 6
	lines, heads := chainOf(n)
	join := func(l []string) string { return strings.Join(l, "") }
	kinds := func(r Report) (k []Kind) {
		for _, p := range r.Problems {
			k = append(k, p.Kind)
		}
		return k
	}
	expect := func(what string, r Report, line int64, seq uint64, want ...Kind) {
		t.Helper()
		if diff := cmp.Diff(want, kinds(r)); diff != "" || r.Problems[0].Line != line || r.Problems[0].Seq != seq {
			t.Errorf("%s: %+v\n%s", what, r.Problems, diff)
		}
	}
	for i := 1; i < n-1; i++ { // an inner line
		at, seq := int64(i+1), uint64(i+1)
		opts := Options{Anchor: &heads[n]}
		expect("removed", verify(t, opts, join(slices.Delete(slices.Clone(lines), i, i+1))), at, seq+1, Missing)
		expect("duplicated", verify(t, opts, join(slices.Insert(slices.Clone(lines), i, lines[i]))), at+1, seq, Misplaced)
		swapped := slices.Clone(lines)
		swapped[i], swapped[i+1] = swapped[i+1], swapped[i]
		if i+1 < n-1 {
			expect("swapped", verify(t, opts, join(swapped)), at, seq+1, Missing, Misplaced)
		}
		changed := slices.Clone(lines)
		changed[i] = strings.Replace(changed[i], "SecretGet", "SecretSet", 1)
		expect("changed", verify(t, opts, join(changed)), at+1, seq+1, Changed)
		rechained := slices.Clone(lines) // inserted with a right prev, the numbers after it left alone
		own := Record{Time: time.Unix(1, 0), Operation: "SecretGet"}
		var c chunk
		prev, _ := heads[i].sum()
		c.add(appendRecord(nil, &own, own.Time), position{heads[i].Seq, prev})
		expect("inserted", verify(t, opts, join(slices.Insert(rechained, i, string(c.buf)))), at+1, seq, Misplaced, Changed)
		expect("junk", verify(t, opts, join(slices.Insert(slices.Clone(lines), i, "{}\n"))), at, 0, Malformed)
		long := strings.Repeat("x", 3*MaxLine) + "\n"
		expect("long", verify(t, opts, join(slices.Insert(slices.Clone(lines), i, long))), at, 0, Malformed)
	}
	expect("first removed", verify(t, Options{After: &Head{}}, join(lines[1:])), 1, 2, Missing)
	expect("cut", verify(t, Options{}, join(lines)[:len(join(lines))-1]), n, 0, Malformed)
	expect("no JSON", verify(t, Options{}, join(lines[:5])+strings.Replace(lines[5], `Get"`, "Get", 1)), n, 0, Malformed)
	expect("files swapped", verify(t, Options{Anchor: &heads[n]}, join(lines[3:]), join(lines[:3])), 1, 1,
		Misplaced, Misplaced, Misplaced)
	expect("rewritten", verify(t, Options{Anchor: &Head{3, heads[2].Hash}}, join(lines)), 3, 3, Anchored)
	expect("anchor before", verify(t, Options{Anchor: &heads[1]}, join(lines[3:])), 4, 0, Anchored)
}

func TestVerifyIsBounded(t *testing.T) {
	t.Parallel()
	r := verify(t, Options{MaxProblems: 3}, strings.Repeat("junk\n", 1000))
	if len(r.Problems) != 3 || r.NProblems != 1000 || r.Lines != 1000 {
		t.Errorf("%d problems listed of %d in %d lines", len(r.Problems), r.NProblems, r.Lines)
	}
	_, err := Verify(Options{}, iotest.ErrReader(io.ErrClosedPipe))
	if !errors.Is(err, io.ErrClosedPipe) || errors.Is(err, ErrBroken) {
		t.Errorf("a reader's error came back as %v", err)
	}
	for _, h := range []Head{{1, ""}, {1, "x"}, {0, "x"}, {1, strings.Repeat("!", 43)}, {1, strings.Repeat("A", 42) + "B"}} {
		if _, err := Verify(Options{Anchor: &h}); err == nil {
			t.Errorf("anchor %+v was accepted", h)
		}
	}
}

func FuzzVerify(f *testing.F) {
	lines, _ := chainOf(3)
	all := strings.Join(lines, "")
	f.Add([]byte(all), uint16(0), byte(0))
	f.Add([]byte(all), uint16(400), byte(1))
	f.Add([]byte(`{"time":"","chain":{"seq":+1,"prev":""}}`+"\n"), uint16(3), byte(2))
	f.Fuzz(func(t *testing.T, b []byte, cut uint16, flip byte) {
		n := min(int(cut), len(b))
		two, err := Verify(Options{}, bytes.NewReader(b[:n]), bytes.NewReader(b[n:]))
		if (err == nil) != (two.NProblems == 0) || two.Events+two.Intents > two.Lines {
			t.Fatalf("%v with %+v", err, two)
		}
		one, _ := Verify(Options{}, bytes.NewReader(b))
		if one.NProblems > 0 || one.Lines == 0 {
			return
		}
		// What passes must not pass with any byte changed once its end is anchored.
		bad := slices.Clone(b)
		bad[n%len(b)] ^= max(flip, 1)
		if _, err := Verify(Options{Anchor: &one.Last, After: after(b)}, bytes.NewReader(bad)); err == nil {
			t.Fatalf("byte %d of %q may be changed", n%len(b), b)
		}
	})
}

// after is the head before the first line of a log, so far as that line tells.
func after(b []byte) *Head {
	first, _, _ := bytes.Cut(b, []byte("\n"))
	seq, prev, _ := parseChain(first)
	return &Head{Seq: seq - 1, Hash: string(prev)}
}
