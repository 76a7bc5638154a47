package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Markers around what rewrite replaces.
const (
	beginMarker = "<!-- results: written by go run ./bench, do not edit -->"
	endMarker   = "<!-- end of results -->"
)

// rewrite replaces the generated part of a page.
func rewrite(path, generated string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	page, err := between(string(old), generated)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".bench-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	_, err = f.WriteString(page)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func between(page, generated string) (string, error) {
	head, rest, found := strings.Cut(page, beginMarker)
	_, tail, ended := strings.Cut(rest, endMarker)
	if !found || !ended {
		return "", errors.New("the markers of the generated part are missing")
	}
	return head + beginMarker + "\n\n" + generated + "\n" + endMarker + tail, nil
}

// report is the generated part: ratios first, then the figures that they come from.
func (b *benchmark) report() string {
	var w strings.Builder
	fmt.Fprintf(&w, "Measured on %s, %d cores, %s, on %s. Each figure is the median of %d rounds of %v.\n\n",
		processor(), runtime.NumCPU(), runtime.Version(), time.Now().UTC().Format(time.DateOnly), rounds, b.duration/rounds)
	if b.loaded > 0 {
		fmt.Fprintf(&w, "The larger vault was filled with %s secrets in %.0f seconds.\n\n", b.manyWords(), b.loaded.Seconds())
	}
	b.reportRatios(&w)
	b.reportFigures(&w)
	if b.keyBench != nil {
		b.keyBench.report(&w)
	}
	if b.hsmBench != nil {
		b.hsmBench.report(&w)
	}
	b.reportStarts(&w)
	b.reportShares(&w)
	return w.String()
}

func (b *benchmark) reportRatios(w *strings.Builder) {
	r, few, many := &b.results, &b.results.scale[0], &b.results.scale[1]
	var rows [][]string
	add := func(name, what string, a, b float64) {
		if a > 0 && b > 0 { // measured, that is
			rows = append(rows, []string{name, what, fmt.Sprintf("%.2f", a/b)})
		}
	}
	size := b.manyWords() + " secrets to 1,000, "
	add("secret GET, HTTP/1.1", "per CPU second, to the bare handler", r.get.server.perCPUSecond, r.get.limit.perCPUSecond)
	add("secret GET, HTTP/2", "per CPU second, to the bare handler", r.getHTTP2.server.perCPUSecond, r.getHTTP2.limit.perCPUSecond)
	add("secret SET, 1 client", "per second, to one fdatasync at a time", r.setOne.perSecond, r.sync.perSecond)
	add("secret SET, 32 clients", "per second, to one fdatasync at a time", r.setMany.perSecond, r.sync.perSecond)
	add("token", "per CPU second, to one RSA-2048 signature", r.token.perCPUSecond, r.sign.perCPUSecond)
	add("secret GET, the same thousand", size+"per CPU second", many.same.perCPUSecond, few.get.perCPUSecond)
	add("secret GET, any of all", size+"per CPU second", many.get.perCPUSecond, few.get.perCPUSecond)
	add("first page of the list", size+"per CPU second", many.list.perCPUSecond, few.list.perCPUSecond)
	add("start to first answer", "time, to the bare handler", few.start.first.Seconds(), r.bareStart.first.Seconds())
	add("start to first answer", size+"time", many.start.first.Seconds(), few.start.first.Seconds())
	add("idle memory", "resident, to the bare handler", float64(few.start.memory.resident), float64(r.bareStart.memory.resident))
	if k := b.keyBench; k != nil {
		add("EC key create, 32 clients", "per second, to one fdatasync at a time", k.create().perSecond, k.sync.perSecond)
	}
	table(w, []string{"ratio", "what to what", "value"}, rows)
}

func (b *benchmark) manyWords() string { return thousands(float64(b.manyCount())) }

func (b *benchmark) reportFigures(w *strings.Builder) {
	r, few, many := &b.results, &b.results.scale[0], &b.results.scale[1]
	row := func(name string, f figure) []string {
		if f.perSecond == 0 {
			return nil
		}
		return []string{name, thousands(f.perSecond), thousands(f.perCPUSecond), milliseconds(f.p50), milliseconds(f.p99)}
	}
	table(w, []string{"figure", "per second", "per CPU second", "p50", "p99"}, [][]string{
		row("secret GET, HTTP/1.1, 32 connections", r.get.server),
		row("· bare handler", r.get.limit),
		row("secret GET, HTTP/2, 1 connection, 32 streams", r.getHTTP2.server),
		row("· bare handler", r.getHTTP2.limit),
		row("secret SET, 1 client", r.setOne),
		row("secret SET, 32 clients", r.setMany),
		row("· one write and fdatasync at a time", r.sync),
		row("token by client secret, 32 connections", r.token),
		row("· one RSA-2048 signature at a time", r.sign),
		row("secret GET, 1,000 secrets", few.get),
		row("secret GET, 1,000 of "+b.manyWords()+" secrets", many.same),
		row("secret GET, any of "+b.manyWords()+" secrets", many.get),
		row("first page of the list, 1,000 secrets", few.list),
		row("first page of the list, "+b.manyWords()+" secrets", many.list),
	})
}

func (b *benchmark) reportStarts(w *strings.Builder) {
	row := func(name string, s started) []string {
		if s.first == 0 {
			return nil
		}
		return []string{name, milliseconds(s.first), megabytes(s.memory.resident), megabytes(s.memory.anonymous)}
	}
	table(w, []string{"process", "exec to first answer", "resident", "of it anonymous"}, [][]string{
		row("server, 1,000 secrets", b.results.scale[0].start),
		row("server, "+b.manyWords()+" secrets", b.results.scale[1].start),
		row("bare handler", b.results.bareStart),
	})
}

func (b *benchmark) reportShares(w *strings.Builder) {
	if b.results.shares == nil {
		return
	}
	head := []string{"part of the server's CPU time"}
	rows := make([][]string, len(parts()))
	for i, p := range parts() {
		rows[i] = []string{p.what}
	}
	for _, s := range b.results.shares {
		head = append(head, s.of)
		for i, percent := range s.percent {
			rows[i] = append(rows[i], fmt.Sprintf("%.1f %%", percent))
		}
	}
	table(w, head, rows)
}

// table writes a table in Markdown, its first column to the left. Rows that were not measured (nil) are left out.
func table(w *strings.Builder, head []string, rows [][]string) {
	rows = slices.DeleteFunc(rows, func(row []string) bool { return row == nil })
	if len(rows) == 0 {
		return
	}
	line := func(cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	rule := make([]string, len(head))
	for i := range rule {
		rule[i] = "--:"
	}
	rule[0] = "---"
	line(rule)
	for _, cells := range rows {
		line(cells)
	}
	w.WriteString("\n")
}

// thousands prints a whole number with commas.
func thousands(f float64) string {
	digits := fmt.Sprintf("%.0f", f)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}

func milliseconds(d time.Duration) string {
	return fmt.Sprintf("%.2f ms", float64(d)/float64(time.Millisecond))
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

// processor is its model's name, as Linux knows it.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ":")
		if strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
