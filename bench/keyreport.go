package main

import (
	"fmt"
	"strings"
)

// report writes the tables of keys.
func (k *keyBench) report(w *strings.Builder) {
	if k.missing != "" {
		fmt.Fprintf(w, "There is no server with the tag %s here: %s.\n\n", opensslTag, k.missing)
	}
	if k.program == "" && len(k.primitives) > 0 {
		fmt.Fprintf(w, "OpenSSL's library was not measured by itself: its program is not there.\n\n")
	}
	k.reportUses(w)
	k.reportPrimitives(w)
	k.reportMaking(w)
}

func (k *keyBench) reportUses(w *strings.Builder) {
	var rows [][]string
	for _, r := range k.rows {
		f := r.figure
		rows = append(rows, []string{
			r.name, r.build.name, thousands(f.perSecond), thousands(f.perCPUSecond), milliseconds(f.p50), milliseconds(f.p99),
			ratio(f.perCPUSecond, r.fastest()), ratio(f.perCPUSecond, r.possible()),
		})
	}
	for _, bare := range []struct {
		name   string
		figure figure
	}{
		{"sign RS256, RSA-2048", k.bareRSA}, {"sign ES256, P-256", k.bareEC}, {"wrapkey A256KW, oct-256", k.bareWrap},
		{"encrypt A256GCM, oct-256", k.bareEncrypt}, {"GET", k.bareGet},
	} {
		if f := bare.figure; f.perSecond > 0 {
			rows = append(rows, []string{
				"· bare handler, " + bare.name, "", thousands(f.perSecond), thousands(f.perCPUSecond), milliseconds(f.p50), milliseconds(f.p99), "", "",
			})
		}
	}
	table(w, []string{"use of a key, 32 connections", "build", "per second", "per CPU second", "p50", "p99", "to the fastest library", "to what is possible"}, rows)
}

// fastest is what the fastest library does with the key by itself, or 0.
func (r *keyRow) fastest() float64 {
	if r.alone == nil {
		return 0
	}
	return r.alone.fastest()
}

// possible is what the library of the build and the bare handler allow together, for each of which a request needs its time.
func (r *keyRow) possible() float64 {
	if r.bare == nil || r.bare.perCPUSecond == 0 {
		return 0
	}
	seconds := 1 / r.bare.perCPUSecond
	if r.alone != nil {
		seconds += 1 / r.alone.of(r.build)
	}
	return 1 / seconds
}

// ratio is empty if there is nothing to compare with.
func ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

func (k *keyBench) reportPrimitives(w *strings.Builder) {
	head := []string{"library by itself, per CPU second", "Go"}
	if k.program != "" {
		head = append(head, k.version)
	}
	var rows [][]string
	for _, p := range k.primitives {
		row := []string{p.name, thousands(p.native.perCPUSecond)}
		switch {
		case p.openssl.perCPUSecond > 0:
			row = append(row, thousands(p.openssl.perCPUSecond))
		case k.program != "":
			row = append(row, "")
		}
		rows = append(rows, row)
	}
	table(w, head, rows)
}

func (k *keyBench) reportMaking(w *strings.Builder) {
	var rows [][]string
	for _, m := range k.making {
		meanwhile := "no keys are made"
		if m.bits > 0 {
			meanwhile = fmt.Sprintf("%.1f RSA-%d keys a second are made", m.perSecond, m.bits)
		}
		for _, r := range []struct {
			name string
			waits
		}{{"sign ES256", m.sign}, {"secret GET", m.get}, {"· bare handler", m.bare}} {
			rows = append(rows, []string{r.name, meanwhile, milliseconds(r.p50), milliseconds(r.p99), milliseconds(r.longest)})
		}
	}
	table(w, []string{"latency, each 200 a second", "while", "p50", "p99", "longest"}, rows)
}

// create is the figure of the making of EC keys.
func (k *keyBench) create() figure {
	for _, r := range k.rows {
		if r.name == createUse {
			return r.figure
		}
	}
	return figure{}
}
