package main

import (
	"bytes"
	"encoding/pem"
	"errors"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

// What Python's base64.encodebytes gives, which az stores.
func TestMIMEBase64(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		content, want string
	}{
		{"", ""},
		{"a", "YQ==\n"},
		{strings.Repeat("x", 57), strings.Repeat("eHh4", 19) + "\n"},
		{strings.Repeat("x", 58), strings.Repeat("eHh4", 19) + "\neA==\n"},
	} {
		if got, err := encodeFile([]byte(tc.content), "base64"); err != nil || got != tc.want {
			t.Errorf("%d bytes: %q, %v, want %q", len(tc.content), got, err, tc.want)
		}
	}
}

func TestEncodeFileRefuses(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ content, encoding string }{
		{"\xff\xfe", "utf-8"}, {"\xff\xfe", "utf-16le"}, {"grün", "ascii"},
	} {
		if got, err := encodeFile([]byte(tc.content), tc.encoding); err == nil {
			t.Errorf("%q as %s: %q", tc.content, tc.encoding, got)
		}
	}
	for _, tc := range []struct{ value, encoding string }{{"!", "base64"}, {"abc", "hex"}} {
		if got, err := decodeValue(tc.value, tc.encoding); err == nil {
			t.Errorf("%q as %s: %q", tc.value, tc.encoding, got)
		}
	}
}

func FuzzEncoding(f *testing.F) {
	f.Add([]byte("a\r\n\x00\xff"))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, encoding := range append(textEncodings(), binaryEncodings()...) {
			value, err := encodeFile(content, encoding)
			if err != nil {
				continue
			}
			back, err := decodeValue(value, encoding)
			if err != nil || !bytes.Equal(back, content) {
				t.Errorf("%s: %q became %q, %v", encoding, content, back, err)
			}
		}
	})
}

// A real shell gives back what was quoted.
func TestShellQuote(t *testing.T) {
	t.Parallel()
	words := []string{"", "plain", "a b", "it's", `\`, "$HOME", "`id`", "$(id)", "\n", `"`, "a;b", "*", "~", "-n", "ü", "''", "!x", "#"}
	var script strings.Builder
	for _, w := range words {
		script.WriteString("printf '%s\\0' " + shellQuote(w) + "\n")
	}
	out, err := exec.CommandContext(t.Context(), "sh", "-c", script.String()).Output()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(words, strings.Split(strings.TrimSuffix(string(out), "\x00"), "\x00")); diff != "" {
		t.Error(diff)
	}
}

// No command is without an example, and each can be asked for help.
func TestHelp(t *testing.T) {
	t.Parallel()
	var visit func(c *cobra.Command)
	visit = func(c *cobra.Command) {
		if c.Short == "" || !c.HasSubCommands() && !strings.Contains(c.Example, c.CommandPath()) {
			t.Errorf("%s: no description, or no example of itself", c.CommandPath())
		}
		for _, child := range c.Commands() {
			visit(child)
		}
		code, stdout, stderr := runHere(t.Context(), append(strings.Fields(c.CommandPath())[1:], "--help")...)
		if code != exitOK || stdout == "" || stderr != "" {
			t.Errorf("%s --help: exit code %d, %q", c.CommandPath(), code, stderr)
		}
	}
	visit(newRoot())
}

func TestExplainListen(t *testing.T) {
	t.Parallel()
	settings := configSettings(&server.Config{
		Listen:          []string{"127.0.0.1:443", "[::1]:443"},
		ManagedIdentity: server.ManagedIdentityConfig{Listen: "127.0.0.1:1"},
		Operations:      server.OperationsConfig{Listen: "-"},
	})
	four, six := net.IPv4(127, 0, 0, 1), net.IPv6loopback
	for _, tc := range []struct {
		ip      net.IP
		port    int
		err     syscall.Errno
		want    string
		setting string
	}{
		{four, 443, syscall.EADDRINUSE, "in use by another program", "choose another with listen in"},
		{six, 443, syscall.EACCES, "cap_net_bind_service", "choose another with listen in"},
		{four, 1, syscall.EADDRNOTAVAIL, "does not belong to this machine", "choose another with managedIdentity.listen in"},
		{four, 2, syscall.EADDRINUSE, "in use by another program", "choose another"},
	} {
		err := &net.OpError{Op: "listen", Addr: &net.TCPAddr{IP: tc.ip, Port: tc.port}, Err: os.NewSyscallError("bind", tc.err)}
		if got := explainListen(err, settings).Error(); !strings.Contains(got, tc.want) || !strings.Contains(got, tc.setting) {
			t.Errorf("%v: %s", tc.err, got)
		}
	}
	other := errors.New("other")
	if got := explainListen(other, settings); got != other {
		t.Errorf("%v became %v", other, got)
	}
}

// The trust store that Java reads holds the same authorities as the bundle.
func TestTrustStore(t *testing.T) {
	t.Parallel()
	system := systemBundle()
	if system == "" {
		t.Fatal("this machine has no bundle of authorities: install ca-certificates")
	}
	bundle, err := os.ReadFile(system)
	if err != nil {
		t.Fatal(err)
	}
	store, err := encodeTrustStore(bundle)
	if err != nil {
		t.Fatal(err)
	}
	certs, err := pkcs12.DecodeTrustStore(store, pkcs12.DefaultPassword)
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(bundle)
	if len(certs) == 0 || !bytes.Equal(certs[0].Raw, block.Bytes) {
		t.Errorf("the store holds %d authorities, and the first is another", len(certs))
	}
}

func TestGiveWay(t *testing.T) {
	t.Parallel()
	d := &devCommand{identity: "127.0.0.1:8442", operations: "127.0.0.1:9443", listen: []string{"127.0.0.1:8443", "[::1]:8443"}, data: t.TempDir()}
	d.free = map[string]*string{d.identity: &d.identity}
	cfg, err := d.config()
	if err != nil {
		t.Fatal(err)
	}
	var notes strings.Builder
	for _, tc := range []struct {
		address string
		err     error
		want    bool
	}{
		{"127.0.0.1:8442", syscall.EADDRINUSE, true},
		{"127.0.0.1:8442", syscall.EADDRINUSE, false}, // once
		{"127.0.0.1:9443", syscall.EADDRINUSE, false}, // somebody chose it
		{"127.0.0.1:8443", syscall.EADDRINUSE, false}, // its URL is what people know
		{"[::1]:8443", syscall.EADDRINUSE, false},
		{"[::1]:8443", syscall.EADDRNOTAVAIL, true},
		{"127.0.0.1:8443", syscall.EADDRNOTAVAIL, false},
	} {
		if got := d.giveWay(cfg, tc.address, tc.err, &notes); got != tc.want {
			t.Errorf("%s, %v: %v", tc.address, tc.err, got)
		}
	}
	if diff := cmp.Diff([]string{"127.0.0.1:8443"}, cfg.Listen); diff != "" || cfg.ManagedIdentity.Listen != "127.0.0.1:0" {
		t.Errorf("%s, %s", diff, cfg.ManagedIdentity.Listen)
	}
	if !strings.Contains(notes.String(), "8442 is busy") || !strings.Contains(notes.String(), "no IPv6") {
		t.Error(notes.String())
	}
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		err  error
		want int
	}{
		{errors.New("unknown flag"), exitUsage},
		{&workError{usagef("x")}, exitUsage},
		{&workError{errors.New("x")}, exitFailed},
		{&workError{&admin.Error{Status: http.StatusNotFound}}, exitNotFound},
		{&workError{&admin.Error{Status: http.StatusConflict}}, exitFailed},
		{&workError{&notFoundError{"x"}}, exitNotFound},
	} {
		if got := exitCode(tc.err); got != tc.want {
			t.Errorf("%v: %d, want %d", tc.err, got, tc.want)
		}
	}
}

// A file that was not written whole is not left behind, and one that exists is not touched.
func TestWriteNewFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "f")
	if err := writeNewFile(path, []byte("first")); err != nil {
		t.Fatal(err)
	}
	if err := writeNewFile(path, []byte("second")); err == nil {
		t.Error("the file was overwritten")
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != "first" {
		t.Errorf("%q, %v", raw, err)
	}
	if err := writeNewFile(filepath.Join(path, "x"), nil); err == nil {
		t.Error("a file below a file")
	}
}
