package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A share is the part of the server's processor time that is spent in a function and what it calls.
type share struct {
	what    string
	percent float64
}

// parts are the rows of the table of shares. A part counts the functions that a pattern names, of which none calls another.
func parts() []struct{ what, pattern string } {
	const module = `github\.com/strongroom/strongroom/internal/`
	return []struct{ what, pattern string }{
		{"TLS records, with the system calls below them", `crypto/tls\.\(\*Conn\)\.(Read|Write)$`},
		{"token check", module + `identity\.\(\*Verifier\)\.Verify$`},
		{"audit: building the record and waiting", module + `audit\.\(\*Log\)\.Write$`},
		{"audit: chaining and writing", module + `audit\.\(\*Log\)\.run$`},
		{"secret from the store, opened", module + `keyvault\.\(\*Service\)\.GetSecret$`},
		{"JSON of the answer", module + `api\.jsonResponse$`},
		{"request log", `log/slog\.\(\*Logger\)\.LogAttrs$`},
		{"metrics", module + `server\.\(\*metrics\)\.observe$`},
		{"garbage collector, in the background", `runtime\.gcBgMarkWorker$`},
	}
}

// profile takes a CPU profile of the server under secret GET, from the listener that operators have for that.
func (b *benchmark) profile(ctx context.Context) error {
	b.say("profile of secret GET")
	path := b.cpuProfile
	if path == "" {
		path = filepath.Join(b.dir, "cpu.pprof")
	}
	seconds := max(1, int(b.duration.Seconds()))
	p := b.few.server
	taken := make(chan error, 1)
	go func() { taken <- fetchProfile(ctx, p.Operations, seconds, path) }()
	length := time.Duration(seconds) * time.Second
	_, err := load(ctx, p, dialRaw(p, b.few.getRequest()), readers, length+length/10)
	if err = errors.Join(err, <-taken); err != nil {
		return err
	}
	b.results.shares, err = readShares(ctx, path)
	return err
}

func fetchProfile(ctx context.Context, operations string, seconds int, path string) error {
	url := fmt.Sprintf("%s/debug/pprof/profile?seconds=%d", operations, seconds)
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("profile: %s", resp.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}

// readShares lets `go tool pprof` read the profile.
func readShares(ctx context.Context, path string) ([]share, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-cum", "-nodecount=100000", "-nodefraction=0", path)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go tool pprof: %w: %s", err, stderr.Bytes())
	}
	return sumShares(string(out))
}

// sumShares adds up the cumulative percentages in pprof's table: flat flat% sum% cum cum% name.
func sumShares(table string) ([]share, error) {
	rows := regexp.MustCompile(`(?m)^\s*\S+\s+[0-9.]+%\s+[0-9.]+%\s+\S+\s+([0-9.]+)%\s+(\S+)(?: \((?:partial-)?inline\))?$`).
		FindAllStringSubmatch(table, -1)
	if rows == nil {
		return nil, errors.New("go tool pprof printed no table")
	}
	var out []share
	for _, p := range parts() {
		pattern := regexp.MustCompile("^" + strings.TrimPrefix(p.pattern, "^"))
		sum := 0.0
		for _, row := range rows {
			if pattern.MatchString(row[2]) {
				percent, err := strconv.ParseFloat(row[1], 64)
				if err != nil {
					return nil, err
				}
				sum += percent
			}
		}
		out = append(out, share{p.what, sum})
	}
	return out, nil
}
