package audit

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// ErrBroken is wrapped by Verify's error when the log is not what was written.
var ErrBroken = errors.New("audit: the log is not what was written")

// maxProblems bounds Report.Problems if Options.MaxProblems is zero.
const maxProblems = 100

// Options for Verify. The zero value checks the lines against each other only: that cannot tell whether lines at the
// end are missing, nor whether the last line is unchanged.
type Options struct {
	Anchor      *Head // a line that must be there, kept outside the log; usually the newest known
	After       *Head // the line before the first one, such as the last head of the files archived earlier
	MaxProblems int   // how many problems are listed; 100 if zero. The others are only counted
}

// A Kind says what is wrong with a line or with its place.
type Kind string

const (
	Malformed Kind = "malformed" // no whole record: cut, not JSON, too long, no chain
	Changed   Kind = "changed"   // this line's prev is not the hash of the line before it: either of them was changed
	Missing   Kind = "missing"   // lines before this one were removed, or come later
	Misplaced Kind = "misplaced" // the line's number was passed already: inserted, duplicated or moved
	Anchored  Kind = "anchor"    // the chain does not hold the line that Options.Anchor names
)

// A Problem is one thing that is wrong.
type Problem struct {
	File   int    // which of the readers, from 0; the last one for what is missing at the end
	Line   int64  // line in that reader, from 1; one past the last line for what is missing at the end
	Seq    uint64 // the line's number in the chain, 0 if it tells none
	Kind   Kind
	Detail string
}

// Report is what Verify found.
type Report struct {
	Lines     int64 // all lines, good or not
	Events    int64 // records of outcome, those of the log about itself included
	Intents   int64 // records of intent
	First     Head  // the first record's place in the chain
	Last      Head  // the last record's
	Start     time.Time
	End       time.Time // earliest and latest time of a record; requests overlap, so times need not rise
	Earlier   bool      // the first line is not number 1 and Options.After was not given: older files are elsewhere
	Beyond    Beyond    // what lies after the line of Options.Anchor, if that was given
	Problems  []Problem
	NProblems int64 // all of them, listed or not
}

// Verify reads the files of a log in their order and checks every line and its place in the chain. It needs memory for
// one line. The error wraps ErrBroken if there is any problem, or the reader's error if reading failed; the report is
// valid in both cases, for what was read.
func Verify(opts Options, readers ...io.Reader) (Report, error) {
	v := verifier{max: opts.MaxProblems}
	if v.max <= 0 {
		v.max = maxProblems
	}
	if err := v.prepare(opts); err != nil {
		return v.report, err
	}
	buffered := bufio.NewReaderSize(nil, MaxLine+1)
	for i, r := range readers {
		v.file, v.line = i, 0
		buffered.Reset(r)
		if err := v.read(buffered); err != nil {
			return v.report, fmt.Errorf("audit: file %d, line %d: %w", i+1, v.line+1, err)
		}
	}
	v.finish()
	if v.report.NProblems > 0 {
		return v.report, fmt.Errorf("%w: %d problems", ErrBroken, v.report.NProblems)
	}
	return v.report, nil
}

// A verifier is the state of one Verify.
type verifier struct {
	report Report
	max    int

	file  int   // index of the reader
	line  int64 // lines of it so far
	known bool  // head is set: there is a line to continue from
	head  position
	hash  []byte // head.sum as a line names it

	anchor position
	after  [2][]byte // the first and the last line after the anchor
	met    bool      // a line with the anchor's number was there; if it was another line that is a problem already
}

// prepare takes over the heads of the options.
func (v *verifier) prepare(opts Options) error {
	if a := opts.Anchor; a != nil {
		s, err := a.sum()
		if err != nil {
			return err
		}
		v.anchor = position{a.Seq, s}
	}
	if a := opts.After; a != nil {
		s, err := a.sum()
		if err != nil {
			return err
		}
		v.advance(position{a.Seq, s})
		v.meetAnchor(v.head)
	}
	return nil
}

// read checks the lines of one reader.
func (v *verifier) read(r *bufio.Reader) error {
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case err == nil:
			v.line++
			v.check(line[:len(line)-1])
		case errors.Is(err, bufio.ErrBufferFull):
			v.line++
			if err := v.skip(r); err != nil {
				return err
			}
		case !errors.Is(err, io.EOF):
			return err
		case len(line) == 0:
			return nil
		default:
			v.line++
			v.report.Lines++
			v.problem(0, Malformed, "the last line is cut: it has no end")
			return nil
		}
	}
}

// skip passes over the rest of a line that is too long.
func (v *verifier) skip(r *bufio.Reader) error {
	v.report.Lines++
	v.problem(0, Malformed, fmt.Sprintf("longer than %d bytes", MaxLine))
	for {
		_, err := r.ReadSlice('\n')
		switch {
		case err == nil || errors.Is(err, io.EOF):
			return nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// check looks at one line.
func (v *verifier) check(line []byte) {
	v.report.Lines++
	seq, prev, ok := parseLine(line)
	at, timed := parseTime(line)
	switch {
	case !utf8.Valid(line) || !ok:
		v.problem(0, Malformed, "not a record")
		return
	case !timed:
		v.problem(seq, Malformed, "the time is malformed")
	default:
		v.span(at)
	}
	if intent := []byte(`,"category":"` + Intent + `"`); bytes.Contains(line, intent) {
		v.report.Intents++
	} else {
		v.report.Events++
	}
	v.goBeyond(seq, line)
	v.place(position{seq, sha256.Sum256(line)}, prev)
}

// goBeyond counts a line that comes after the anchor.
func (v *verifier) goBeyond(seq uint64, line []byte) {
	if v.anchor.seq == 0 || seq <= v.anchor.seq {
		return
	}
	if v.report.Beyond.Lines == 0 {
		v.after[0] = append(v.after[0], line...)
	}
	v.report.Beyond.Lines++
	v.after[1] = append(v.after[1][:0], line...)
}

// place checks a line against the one before it. After a problem it goes on from where most of what follows fits.
func (v *verifier) place(p position, prev []byte) {
	if v.report.First.Seq == 0 {
		v.report.First = p.head()
		v.report.Earlier = p.seq != 1 && !v.known
	}
	switch want := v.head.seq + 1; {
	case !v.known: // nothing to compare the first line with
	case p.seq < want:
		v.problem(p.seq, Misplaced, fmt.Sprintf("line %d was expected: inserted, duplicated or moved", want))
		v.meetAnchor(p)
		return
	case p.seq > want:
		v.problem(p.seq, Missing, fmt.Sprintf("lines %d to %d are not here", want, p.seq-1))
	case !bytes.Equal(prev, v.hash):
		v.problem(p.seq, Changed, fmt.Sprintf("its prev is not the hash of line %d: one of the two was changed", v.head.seq))
	}
	v.advance(p)
	v.meetAnchor(p)
}

// advance makes p the line to continue from.
func (v *verifier) advance(p position) {
	v.known, v.head = true, p
	v.hash = v.hash[:0]
	if p.seq > 0 {
		v.hash = base64.RawURLEncoding.AppendEncode(v.hash, p.sum[:])
	}
}

// meetAnchor compares a line with the anchor, if it has its number.
func (v *verifier) meetAnchor(p position) {
	if p.seq != v.anchor.seq || p.seq == 0 {
		return
	}
	v.met = true
	if p.sum != v.anchor.sum {
		v.problem(p.seq, Anchored, "the line is not the one that the anchor names")
	}
}

// finish says what is missing at the end.
func (v *verifier) finish() {
	v.report.Last = v.head.head()
	v.report.Beyond.Span = spanOf(v.after[0], v.after[1])
	v.line++
	switch {
	case v.anchor.seq == 0 || v.met:
	case v.head.seq < v.anchor.seq:
		v.problem(0, Anchored, fmt.Sprintf("the log ends at line %d but line %d was written: lines at the end are missing",
			v.head.seq, v.anchor.seq))
	default:
		v.problem(0, Anchored, fmt.Sprintf("line %d, which the anchor names, is not here", v.anchor.seq))
	}
}

// span widens the range of times.
func (v *verifier) span(at time.Time) {
	if v.report.Start.IsZero() || at.Before(v.report.Start) {
		v.report.Start = at
	}
	if at.After(v.report.End) {
		v.report.End = at
	}
}

// problem lists a problem of the current line.
func (v *verifier) problem(seq uint64, kind Kind, detail string) {
	v.report.NProblems++
	if len(v.report.Problems) < v.max {
		v.report.Problems = append(v.report.Problems, Problem{v.file, v.line, seq, kind, detail})
	}
}

// parseTime returns the time of a line.
func parseTime(line []byte) (time.Time, bool) {
	if len(line) < len(linePrefix)+len(timeLayout) {
		return time.Time{}, false
	}
	t, err := time.Parse(timeLayout, string(line[len(linePrefix):len(linePrefix)+len(timeLayout)]))
	return t, err == nil
}
