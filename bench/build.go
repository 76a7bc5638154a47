package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// A build is a program that can be a child.
type build struct {
	name    string // as in the tables
	program string
	tagged  bool // with openssl
}

// opensslTag is the build tag under which the server can compute with OpenSSL's library.
const opensslTag = "openssl"

func newBuild(program string, tagged bool) build {
	if tagged {
		return build{"tag " + opensslTag, program, true}
	}
	return build{"default", program, false}
}

// thisBuild is the program that runs. With the tag, it measures such a server only.
func thisBuild() (build, error) {
	self, err := os.Executable()
	if err != nil {
		return build{}, err
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return build{}, errors.New("the program does not know how it was built")
	}
	return newBuild(self, slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool {
		return s.Key == "-tags" && slices.Contains(strings.Split(s.Value, ","), opensslTag)
	})), nil
}

// buildWithOpenSSL compiles this program again, with the tag. It needs the folder of the sources, which is where `go run
// ./bench` is called. If the machine does not have what such a build needs, there is a reason and no error.
func buildWithOpenSSL(ctx context.Context, dir string) (b build, missing string, err error) {
	if missing, err = missingForOpenSSL(ctx); missing != "" || err != nil {
		return build{}, missing, err
	}
	program := filepath.Join(dir, "bench-"+opensslTag)
	_, err = output(exec.CommandContext(ctx, "go", "build", "-tags", opensslTag, "-o", program, "github.com/strongroom/strongroom/bench"))
	return newBuild(program, true), "", err
}

// missingForOpenSSL says what a build with the tag lacks here.
func missingForOpenSSL(ctx context.Context) (string, error) {
	out, err := output(exec.CommandContext(ctx, "go", "env", "CGO_ENABLED", "CC"))
	if err != nil {
		return "", err
	}
	cgo, cc, _ := strings.Cut(strings.TrimSpace(out), "\n")
	compiler := strings.Fields(cc)
	if cgo != "1" || len(compiler) == 0 {
		return "cgo is switched off", nil
	}
	if _, err := exec.LookPath(compiler[0]); err != nil {
		return fmt.Sprintf("there is no C compiler %q", compiler[0]), nil
	}
	args := append(compiler[1:], "-E", "-include", "openssl/evp.h", "-x", "c", os.DevNull)
	if _, err := output(exec.CommandContext(ctx, compiler[0], args...)); err != nil {
		return "OpenSSL's header files are not there", nil
	}
	return "", nil
}

// output is what a command prints. What it complains of is in the error.
func output(cmd *exec.Cmd) (string, error) {
	out, err := cmd.Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		err = fmt.Errorf("%w: %s", err, failed.Stderr)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", strings.Join(cmd.Args, " "), err)
	}
	return string(out), nil
}
