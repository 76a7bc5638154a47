package main

import (
	"cmp"
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
	"time"
)

// shares are the parts of the server's processor time under one kind of request, in per cent, in the order of parts.
type shares struct {
	of      string
	percent []float64
}

// A part is functions with what they call. None of them calls another.
type part struct{ what, pattern string }

// parts are the rows of the table of shares.
func parts() []part {
	const module = `github\.com/strongroom/strongroom/internal/`
	return []part{
		{"TLS records, with the system calls below them", `crypto/tls\.\(\*Conn\)\.(Read|Write)$`},
		{"token check", module + `identity\.\(\*Verifier\)\.Verify$`},
		{"audit: building the record and waiting", module + `audit\.\(\*Log\)\.Write$`},
		{"audit: chaining and writing", module + `audit\.\(\*Log\)\.run$`},
		{"secret or key from the store, opened", module + `keyvault\.\(\*Service\)\.(GetSecret|useKey)$`},
		{"signature", module + `hsm\.\(\*softwareKey\)\.Sign$`},
		{"JSON of the answer", module + `api\.jsonResponse$`},
		{"request log", `log/slog\.\(\*Logger\)\.LogAttrs$`},
		{"metrics", module + `server\.\(\*metrics\)\.observe$`},
		{"garbage collector, in the background", `runtime\.gcBgMarkWorker$`},
	}
}

// profiles takes CPU profiles of the server, from the listener that operators have for that.
func (b *benchmark) profiles(ctx context.Context) error {
	k, err := b.keys(ctx)
	if err != nil {
		return err
	}
	sign := func(key, alg string) template { return using(key, "sign", alg, digestOf(32), nil).request(k.vault) }
	for _, p := range []struct {
		of, file string
		server   *process
		request  template
	}{
		{"secret GET", "get.pprof", b.few.server, b.few.getRequest()},
		{"sign ES256", "es256.pprof", k.vault.server, sign("P-256", "ES256")},
		{"sign RS256", "rs256.pprof", k.vault.server, sign(rsaKey(2048), "RS256")},
	} {
		b.say("profile of %s", p.of)
		path := filepath.Join(cmp.Or(b.cpuProfile, b.dir), p.file)
		s, err := b.profile(ctx, p.server, p.request, path)
		if err != nil {
			return err
		}
		b.results.shares = append(b.results.shares, shares{p.of, s})
	}
	return nil
}

func (b *benchmark) profile(ctx context.Context, p *process, request template, path string) ([]float64, error) {
	seconds := max(1, int(b.duration.Seconds()))
	taken := make(chan error, 1)
	go func() { taken <- fetchProfile(ctx, p.Operations, seconds, path) }()
	length := time.Duration(seconds) * time.Second
	_, err := load(ctx, p, dialRaw(p, request), readers, length+length/10)
	if err = errors.Join(err, <-taken); err != nil {
		return nil, err
	}
	return readShares(ctx, path)
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
func readShares(ctx context.Context, path string) ([]float64, error) {
	table, err := output(exec.CommandContext(ctx, "go", "tool", "pprof", "-top", "-cum", "-nodecount=100000", "-nodefraction=0", path))
	if err != nil {
		return nil, err
	}
	return sumShares(table)
}

// sumShares adds up the cumulative percentages in pprof's table: flat flat% sum% cum cum% name.
func sumShares(table string) ([]float64, error) {
	rows := regexp.MustCompile(`(?m)^\s*\S+\s+[0-9.]+%\s+[0-9.]+%\s+\S+\s+([0-9.]+)%\s+(\S+)(?: \((?:partial-)?inline\))?$`).
		FindAllStringSubmatch(table, -1)
	if rows == nil {
		return nil, errors.New("go tool pprof printed no table")
	}
	var out []float64
	for _, p := range parts() {
		pattern := regexp.MustCompile("^" + p.pattern)
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
		out = append(out, sum)
	}
	return out, nil
}
