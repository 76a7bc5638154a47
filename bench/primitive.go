package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// A primitive is what a server computes with a key, by itself: one operation after the other on one processor.
type primitive struct {
	name    string
	native  figure // by Go's library
	openssl figure // by OpenSSL's; zero if it was not measured

	// shared says that a server with the tag openssl has it computed by whichever library is faster.
	shared bool
}

// fastest is per second of processor time.
func (p *primitive) fastest() float64 { return max(p.native.perCPUSecond, p.openssl.perCPUSecond) }

// of is what a build of the server has, per second of processor time.
func (p *primitive) of(b build) float64 {
	if p.shared && b.tagged {
		return p.fastest()
	}
	return p.native.perCPUSecond
}

// alone is the contender that does something in this process.
func alone(into *figure, do func() error) contender {
	return contender{into, func(ctx context.Context, d time.Duration) (sample, error) { return repeat(ctx, d, do) }}
}

// A speed is OpenSSL's own benchmark of one algorithm. It measures signatures and verifications in the same run.
type speed struct {
	program   string
	algorithm string // as `openssl speed` calls it
	sums      speedSums
}

// findOpenSSL returns the path of the openssl program and its version, or "" if there is none.
func findOpenSSL(ctx context.Context) (path, version string, err error) {
	path, err = exec.LookPath("openssl")
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return "", "", nil
	}
	if err != nil {
		return "", "", err
	}
	version, err = output(exec.CommandContext(ctx, path, "version"))
	fields := strings.Fields(version)
	if err == nil && len(fields) < 2 {
		err = fmt.Errorf("openssl version printed %q", version)
	}
	if err != nil {
		return "", "", err
	}
	return path, strings.Join(fields[:2], " "), nil
}

// signatures lets the program measure for d, in whole seconds, and as long again for verifications.
func (s *speed) signatures(ctx context.Context, d time.Duration) (sample, error) {
	seconds := max(1, int(d.Round(time.Second).Seconds()))
	out, err := output(exec.CommandContext(ctx, s.program, "speed", "-mr", "-seconds", strconv.Itoa(seconds), s.algorithm))
	if err != nil {
		return sample{}, err
	}
	s.sums, err = parseSpeed(out)
	return perSecond(s.sums.sign), err
}

// verifications are known from the run for signatures, which has just been.
func (s *speed) verifications(context.Context, time.Duration) (sample, error) {
	return perSecond(s.sums.verify), nil
}

// perSecond is a sample of a rate of which nothing else is known.
func perSecond(rate float64) sample {
	return sample{count: int(rate), wall: time.Second, cpu: time.Second}
}

// speedSums are operations per second of processor time.
type speedSums struct{ sign, verify float64 }

// speedLine is the line with the sums of RSA (F2) or ECDSA (F4), as `openssl speed -mr` prints it for machines.
var speedLine = regexp.MustCompile(`(?m)^\+F[24]:.*:([0-9.]+):([0-9.]+)$`)

func parseSpeed(out string) (sums speedSums, err error) {
	lines := speedLine.FindAllStringSubmatch(out, -1)
	if len(lines) != 1 {
		return speedSums{}, fmt.Errorf("openssl speed printed %d lines with sums, not one: %.200q", len(lines), out)
	}
	sign, err1 := strconv.ParseFloat(lines[0][1], 64)
	verify, err2 := strconv.ParseFloat(lines[0][2], 64)
	return speedSums{sign, verify}, errors.Join(err1, err2)
}
