package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/server"
)

func newVerifyCommand() *cobra.Command {
	var o operation
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Open every record of the store and check it",
		Long: `Verify walks the whole store and opens every record, so that a changed or misplaced one is found. It asks the running server, or
opens the data folder itself if none runs. A bad record is named, and the exit code is 1.`,
		Example: "  strongroom verify\n  strongroom verify --config strongroom.yaml",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			found, err := o.where.verify(cmd.Context())
			if err != nil {
				return err
			}
			if err := o.out.print(cmd.OutOrStdout(), found, "records", "bad", "errors"); err != nil {
				return err
			}
			if found.Bad > 0 {
				return fmt.Errorf("%d of %d records are bad: restore a backup of the database", found.Bad, found.Records)
			}
			return nil
		},
	}
	o.register(cmd)
	return cmd
}

// verify asks the server, or opens the folder if there is none.
func (p *place) verify(ctx context.Context) (found admin.Verification, err error) {
	socket, err := p.socket()
	if err != nil {
		return found, err
	}
	err = socket.Do(ctx, http.MethodPost, "/verify", nil, &found)
	if !errors.Is(err, admin.ErrNotRunning) {
		return found, err
	}
	cfg, err := p.configuration()
	if err != nil {
		return found, err
	}
	return server.Verify(ctx, cfg)
}

func newAuditCommand() *cobra.Command {
	return group("audit", "Work with the audit log", newAuditVerify())
}

func newAuditVerify() *cobra.Command {
	var (
		o    operation
		from uint64
	)
	cmd := &cobra.Command{
		Use:   "verify [FILE...]",
		Short: "Check that the audit log is what was written",
		Long: `Verify checks the chain that binds the lines of the audit log together, against the newest line that the store remembers: a line
that was changed, removed, inserted or moved is found, also at the end. Without files it checks the log of the
configuration and the files beside it that were rotated away from it (named like it, with something behind). Files are
read in the order of their first lines; compressed ones must be unpacked first, and the present one must be among them. Exit
code 1 tells of a problem, also if the lines do not begin with number 1: where earlier files are archived elsewhere, say with --from
with which number these begin.`,
		Example: `  strongroom audit verify
  strongroom audit verify --config strongroom.yaml /archive/audit-2026-*.jsonl /var/log/strongroom/audit.jsonl`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, files []string) error {
			if err := o.out.check(); err != nil {
				return err
			}
			// The head first: the log grows while it is read, but what the head names is in it already.
			head, err := o.where.head(cmd.Context())
			if err != nil {
				return err
			}
			if len(files) == 0 {
				if files, err = rotated(head.File); err != nil {
					return err
				}
			}
			return verifyLog(cmd, &o.out, head, files, from)
		},
	}
	o.register(cmd)
	cmd.Flags().Uint64Var(&from, "from", 1, "number of the first line that must be there; what was before is archived elsewhere")
	return cmd
}

// head is the newest line that the server, or else the store, remembers.
func (p *place) head(ctx context.Context) (head admin.Head, err error) {
	socket, err := p.socket()
	if err != nil {
		return head, err
	}
	err = socket.Do(ctx, http.MethodGet, "/audit/head", nil, &head)
	if !errors.Is(err, admin.ErrNotRunning) {
		return head, err
	}
	cfg, err := p.configuration()
	if err != nil {
		return head, err
	}
	return server.AuditHead(ctx, cfg)
}

// rotated returns the log and the files beside it that were rotated away: its name with a dot or hyphen and something behind.
func rotated(log string) ([]string, error) {
	if log == "-" {
		return nil, usagef("the audit log goes to standard output: name the files that it was saved to")
	}
	entries, err := os.ReadDir(filepath.Dir(log))
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		rest, ok := strings.CutPrefix(e.Name(), filepath.Base(log))
		if ok && e.Type().IsRegular() && (rest == "" || rest[0] == '.' || rest[0] == '-') {
			files = append(files, filepath.Join(filepath.Dir(log), e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("the audit log %s is not there", log)
	}
	return files, nil
}

// A logFile is a file of the audit log, of the length that it had when it was opened.
type logFile struct {
	path  string
	file  *os.File
	size  int64
	first uint64 // number of its first line that tells one
}

// openLog opens the files and puts them in order. Lines that a running server appends later are not read.
func openLog(paths []string) (files []logFile, err error) {
	for _, path := range paths {
		f, err := os.Open(path)
		if err != nil {
			return files, err
		}
		files = append(files, logFile{path: path, file: f})
		l := &files[len(files)-1]
		if l.size, err = wholeLines(f); err != nil {
			return files, fmt.Errorf("%s: %w", path, err)
		}
		l.first = firstLine(io.NewSectionReader(f, 0, l.size))
	}
	slices.SortStableFunc(files, func(a, b logFile) int { return cmp.Compare(a.first, b.first) })
	return files, nil
}

// A line that a running server is just writing is whole soon; one that stays without end is cut, and that is a problem.
const (
	lineWait  = time.Second
	lineCheck = 50 * time.Millisecond
)

// wholeLines is the size of a file without a last line that is just being written.
func wholeLines(f *os.File) (int64, error) {
	info, err := f.Stat()
	if err != nil || info.Size() == 0 {
		return 0, err
	}
	size := info.Size()
	tail := make([]byte, min(size, audit.MaxLine+1))
	if _, err := f.ReadAt(tail, size-int64(len(tail))); err != nil {
		return 0, err
	}
	end := bytes.LastIndexByte(tail, '\n')
	if end == len(tail)-1 || end < 0 {
		return size, nil
	}
	grown, err := grows(f, size)
	if err != nil || !grown {
		return size, err
	}
	return size - int64(len(tail)-end-1), nil
}

// grows tells whether somebody goes on writing to a file.
func grows(f *os.File, size int64) (bool, error) {
	tick := time.NewTicker(lineCheck)
	defer tick.Stop()
	for range lineWait / lineCheck {
		<-tick.C
		info, err := f.Stat()
		if err != nil || info.Size() > size {
			return err == nil, err
		}
	}
	return false, nil
}

// firstLine returns the number of the first line that tells one, 0 for none. Damaged lines at the start do not matter for
// the order of the files.
func firstLine(r io.Reader) uint64 {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, audit.MaxLine+1)
	for lines.Scan() {
		var record struct {
			Chain struct {
				Seq uint64 `json:"seq"`
			} `json:"chain"`
		}
		if json.Unmarshal(lines.Bytes(), &record) == nil && record.Chain.Seq > 0 {
			return record.Chain.Seq
		}
	}
	return 0
}

// auditOut is what a verification of the log prints.
type auditOut struct {
	Files    []string  `json:"files"`
	Lines    int64     `json:"lines"`
	Events   int64     `json:"events"`
	First    uint64    `json:"first"`
	Last     uint64    `json:"last"`
	Start    time.Time `json:"start,omitzero"`
	End      time.Time `json:"end,omitzero"`
	Complete bool      `json:"complete"` // from the first line that was ever written
	Bad      int64     `json:"bad"`
	Problems []string  `json:"problems,omitempty"`
}

// verifyLog demands every line from number from on.
func verifyLog(cmd *cobra.Command, out *output, head admin.Head, paths []string, from uint64) error {
	files, err := openLog(paths)
	defer func() {
		for _, f := range files {
			f.file.Close()
		}
	}()
	if err != nil {
		return err
	}
	var opts audit.Options
	if head.Seq > 0 {
		opts.Anchor = &audit.Head{Seq: head.Seq, Hash: head.Hash}
	}
	readers := make([]io.Reader, len(files))
	for i, f := range files {
		readers[i] = io.NewSectionReader(f.file, 0, f.size)
	}
	report, err := audit.Verify(opts, readers...)
	if err != nil && !errors.Is(err, audit.ErrBroken) {
		return err
	}
	result := auditOut{
		Lines: report.Lines, Events: report.Events, First: report.First.Seq, Last: report.Last.Seq, Start: report.Start,
		End: report.End, Complete: report.First.Seq == 1, Bad: report.NProblems,
	}
	for _, f := range files {
		result.Files = append(result.Files, f.path)
	}
	for _, p := range report.Problems {
		result.Problems = append(result.Problems, fmt.Sprintf("%s:%d: %s: %s", files[p.File].path, p.Line, p.Kind, p.Detail))
	}
	if err := out.print(cmd.OutOrStdout(), result, "lines", "events", "first", "last", "complete", "bad", "problems"); err != nil {
		return err
	}
	if report.NProblems > 0 {
		return fmt.Errorf("the audit log is not what was written: %d problems", report.NProblems)
	}
	if result.First > from {
		return fmt.Errorf("the first line is number %d: what was written before it is missing here; name the files that hold it too, or "+
			"say with --from %[1]d that they are archived elsewhere", result.First)
	}
	return nil
}
