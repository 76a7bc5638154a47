package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io/fs"
	"maps"
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

	// private is what may be nowhere in what the server leaves, beside what is known anyway: set before the clients run.
	private map[string]string
}

// status is what `strongroom status` prints, as far as it is needed here.
type status struct {
	Domain           string `json:"domain"`
	Port             string `json:"port"`
	TenantID         string `json:"tenantId"`
	SubscriptionID   string `json:"subscriptionId"`
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
	s := &server{place: place, log: new(log), private: make(map[string]string)}
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
	t.Cleanup(func() { s.inspect(t) })

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
	// Not the test's context: that is over when the test cleans up.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
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

// dataDir is the data folder, which startConfigured puts beside the configuration.
func (s *server) dataDir() string {
	if s.place[0] == "--data" {
		return s.place[1]
	}
	return filepath.Join(filepath.Dir(s.place[1]), "data")
}

// inspect looks at what the clients left: every record opens, the audit log is whole, and neither it nor the database
// nor the server's output shows a value, a client secret or a token.
func (s *server) inspect(t *testing.T) {
	s.command(t, "verify")
	s.command(t, "audit", "verify")

	secrets := map[string]string{
		"a secret's value": largeValue, "a token": "eyJhbGciOi",
		"an imported key": importedKey, "an imported key in base64": base64.RawURLEncoding.EncodeToString([]byte(importedKey)),
		"a plaintext": plaintext, "a plaintext in base64": base64.RawURLEncoding.EncodeToString([]byte(plaintext)),
	}
	maps.Copy(secrets, s.private)
	for _, file := range []string{"administrator.json", "managed-identity.json"} {
		secrets["the secret in "+file] = s.credentials(t, file).Secret
	}
	files := map[string][]byte{"the server's output": []byte(s.log.String())}
	err := filepath.WalkDir(s.dataDir(), func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
		case d.IsDir() && (d.Name() == "credentials" || d.Name() == "az"): // az keeps what it was given in the latter
			err = fs.SkipDir
		case d.Type().IsRegular():
			files[d.Name()], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	for file, content := range files {
		for what, secret := range secrets {
			if bytes.Contains(content, []byte(secret)) {
				t.Errorf("%s contains %s", file, what)
			}
		}
	}
}

// largeValue is the beginning of the largest value that the clients store.
const largeValue = "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"

// What the clients of keys know too: the AES key that they import, and what they encrypt with all keys.
const (
	importedKey = "strongroom-e2e-imported-oct-key!"
	plaintext   = "32 bytes of nobody else's affair"
)

// credentials are what the installation left in a file.
type credentials struct {
	TenantID string `json:"tenantId"`
	ClientID string `json:"clientId"`
	ObjectID string `json:"objectId"`
	Secret   string `json:"secret"`
}

func (s *server) credentials(t *testing.T, file string) (c credentials) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.dataDir(), "credentials", file))
	if err == nil {
		err = json.Unmarshal(raw, &c)
	}
	if err != nil || c.Secret == "" {
		t.Fatalf("%s: %v", file, err)
	}
	return c
}

// An auditEvent is a line of the audit log, as far as it is needed here. A line is in it before the client has its answer,
// unlike in the server's output.
type auditEvent struct{ ResourceID, OperationName, OperationVersion, ResultType string }

func (s *server) audit(t *testing.T) (events []auditEvent) {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.dataDir(), "audit", "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		var event auditEvent
		if err := json.Unmarshal([]byte(line), &event); err != nil {
			t.Fatalf("the audit log: %v: %s", err, line)
		}
		events = append(events, event)
	}
	return events
}

// tokens counts the tokens that were issued, by the endpoint that the audit log names.
func (s *server) tokens(t *testing.T) map[string]int {
	t.Helper()
	issued := make(map[string]int)
	for _, event := range s.audit(t) {
		if event.OperationName == "TokenIssue" && event.ResultType == "Success" {
			issued[event.OperationVersion]++
		}
	}
	return issued
}

// operations counts what was done in a vault, by the name that the audit log has for it.
func (s *server) operations(t *testing.T, vault string) map[string]int {
	t.Helper()
	done := make(map[string]int)
	for _, event := range s.audit(t) {
		if event.ResultType == "Success" && strings.HasSuffix(event.ResourceID, "/"+strings.ToUpper(vault)) {
			done[event.OperationName]++
		}
	}
	return done
}

// url is the address of a vault.
func (s *server) url(vault string) string { return s.urlOf(vault + ".vault") }

// urlOf is the address of a service below the domain.
func (s *server) urlOf(service string) string {
	host := service + "." + s.status.Domain
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
