package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A server is a strongroom process.
type server struct {
	place  []string // the flags that name its installation to other commands
	status status
	log    *log
}

// status is what `strongroom status` prints, as far as it is needed here.
type status struct {
	Domain           string `json:"domain"`
	Port             string `json:"port"`
	TenantID         string `json:"tenantId"`
	IdentityEndpoint string `json:"identityEndpoint"`
}

// log collects what a process prints.
type log struct {
	mu  sync.Mutex // guards buf
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// program is the path of a program that the outer process built.
func program(name string) string { return filepath.Join(os.Getenv(insideVar), name) }

// start starts the server and stops it when the test and its subtests have ended. It has to stop cleanly.
func start(t *testing.T, place []string, args ...string) *server {
	t.Helper()
	s := &server{place: place, log: new(log)}
	cmd := exec.Command(program(strongroomProgram), append(args, place...)...)
	cmd.Stdout, cmd.Stderr = s.log, s.log
	cmd.Env = cleanEnvironment(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- cmd.Wait() }()
	t.Cleanup(func() { s.stop(t, cmd.Process, exited) })

	raw := s.command(t, "status", "--wait", "30s", "--output", "json")
	if err := json.Unmarshal(raw, &s.status); err != nil {
		t.Fatalf("strongroom status: %v\n%s", err, raw)
	}
	return s
}

func (s *server) stop(t *testing.T, process *os.Process, exited <-chan error) {
	if err := process.Signal(syscall.SIGTERM); err != nil {
		t.Errorf("the server is gone: %v", err)
	}
	select {
	case err := <-exited:
		if err != nil {
			t.Errorf("the server stopped with: %v", err)
		}
	case <-time.After(40 * time.Second):
		t.Errorf("the server did not stop: %v", process.Kill())
		<-exited
	}
	if t.Failed() {
		t.Logf("the server said:\n%s", s.log)
	}
}

// command runs a strongroom command on the server's installation and returns what it prints.
func (s *server) command(t *testing.T, args ...string) []byte {
	t.Helper()
	return strongroom(t, append(args, s.place...)...)
}

func strongroom(t *testing.T, args ...string) []byte {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(strongroomProgram), args...)
	cmd.Env = cleanEnvironment(t)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("strongroom %s: %v\n%s", strings.Join(args, " "), err, &stderr)
	}
	return out
}

// url is the address of a vault.
func (s *server) url(vault string) string {
	host := vault + ".vault." + s.status.Domain
	if s.status.Port != "" {
		host += ":" + s.status.Port
	}
	return "https://" + host
}

// unknownVault is a name that resolves and that no vault has.
const unknownVault = "nowhere"

// publishHosts writes the lines of `strongroom hosts` into the hosts file of this namespace.
func (s *server) publishHosts(t *testing.T) {
	t.Helper()
	lines := s.command(t, "hosts")
	lines = fmt.Appendf(lines, "127.0.0.1 %s.vault.%s\n", unknownVault, s.status.Domain)
	addHosts(t, lines)
}

// addHosts appends in one write, since several tests do it.
func addHosts(t *testing.T, lines []byte) {
	t.Helper()
	f, err := os.OpenFile(program(hostsFile), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(lines); err != nil {
		t.Fatal(err)
	}
}

// cleanEnvironment is that of a new shell: the authorities that this machine trusts, and nothing of Azure.
func cleanEnvironment(t *testing.T) []string {
	env := []string{"HOME=" + t.TempDir(), "LANG=C.UTF-8", "PYTHONDONTWRITEBYTECODE=1"}
	for _, name := range []string{
		"PATH", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS",
	} {
		if value, found := os.LookupEnv(name); found {
			env = append(env, name+"="+value)
		}
	}
	return env
}
