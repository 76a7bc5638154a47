package server_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/server"
)

// childVariable makes the test binary a server on the folder that it names; fileLimit bounds the size of its files.
const (
	childVariable = "STRONGROOM_TEST_SERVE"
	fileLimit     = "STRONGROOM_TEST_FILE_LIMIT"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childVariable); dir != "" {
		if err := serveChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func serveChild(dir string) error {
	cfg, err := server.DevConfig(dir, []string{"127.0.0.1:0"})
	if err != nil {
		return err
	}
	cfg.Operations.Listen, cfg.ManagedIdentity.Listen = "-", ""
	ctx := context.Background()
	if _, err := server.Init(ctx, cfg, server.Options{}, "test"); err != nil {
		return err
	}
	if text := os.Getenv(fileLimit); text != "" {
		var limit uint64
		if _, err := fmt.Sscan(text, &limit); err != nil {
			return err
		}
		// The default action of SIGXFSZ is death; the Go runtime takes it, and writing then fails with EFBIG.
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	srv, err := server.Open(ctx, cfg, server.Options{})
	if err != nil {
		return err
	}
	fmt.Println(srv.Port())
	go func() { // the parent's end is ours
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return srv.Serve(ctx)
}

// A child is a server in a process of its own.
type child struct {
	*exec.Cmd
	base   string // https://test.vault.localhost:port
	client *http.Client
	token  string
}

func startChild(t *testing.T, dir string, env ...string) *child {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childVariable+"="+dir), env...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stdin.Close(); cmd.Process.Kill(); cmd.Wait() })
	port, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatalf("the child did not start: %v", err)
	}
	port = strings.TrimSpace(port)
	ca, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	c := &child{Cmd: cmd, base: "https://test.vault.localhost:" + port, client: &http.Client{
		Timeout: 20 * time.Second,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{RootCAs: pool},
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, "127.0.0.1:"+port)
			},
			MaxIdleConnsPerHost: 32,
		},
	}}
	credentials, err := server.ReadCredentials(filepath.Join(dir, server.AdministratorFile))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.client.PostForm("https://login.localhost:"+port+"/"+credentials.TenantID+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {credentials.ClientID}, "client_secret": {credentials.Secret},
		"scope": {"https://vault.localhost:" + port + "/.default"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out struct {
		Token string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.Token == "" {
		t.Fatalf("no token: %s %v", resp.Status, err)
	}
	c.token = out.Token
	return c
}

// kill ends the child at once, as the power would.
func (c *child) kill(t *testing.T) {
	t.Helper()
	if err := c.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	c.Wait()
	c.client.CloseIdleConnections()
}

// do returns status 0 when there was no answer.
func (c *child) do(method, path, body string) (int, string) {
	req, err := http.NewRequest(method, c.base+path+"?api-version=7.6", strings.NewReader(body))
	if err != nil {
		return 0, err.Error()
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(raw)
}

func verifyAudit(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Open(filepath.Join(dir, "audit", "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var read bytes.Buffer
	if report, err := audit.Verify(audit.Options{}, io.TeeReader(f, &read)); err != nil {
		t.Errorf("the audit log: %v %+v", err, report.Problems)
	}
	if strings.Contains(read.String(), "StoreRolledBack") {
		t.Error("the store of a killed server was taken for an old copy")
	}
}

// TestKill kills a server again and again while clients write to it. Every write that was acknowledged must be there
// after the restart, with its record in the audit log, and no other value than one that was sent.
func TestKill(t *testing.T) {
	t.Parallel()
	const rounds, writers = 8, 8
	dir := filepath.Join(t.TempDir(), "data")
	rng := rand.New(rand.NewPCG(1, 2))
	acknowledged := make(map[string]int) // name → newest number that was acknowledged
	attempted := make(map[string]int)    // name → newest number that was sent
	ids := make(map[string]bool)         // versions that were acknowledged
	for round := range rounds {
		c := startChild(t, dir)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for w := range writers {
			name := fmt.Sprint("secret", w)
			wg.Go(func() {
				for {
					mu.Lock()
					attempted[name]++
					n := attempted[name]
					mu.Unlock()
					status, body := c.do("PUT", "/secrets/"+name, fmt.Sprintf(`{"value":"%d"}`, n))
					if status == 0 {
						return
					}
					if status != 200 {
						t.Errorf("set: %d %s", status, body)
						return
					}
					var s struct{ ID string }
					if err := json.Unmarshal([]byte(body), &s); err != nil {
						t.Error(err)
					}
					mu.Lock()
					acknowledged[name] = n
					ids[s.ID[strings.LastIndex(s.ID, "/")+1:]] = true
					mu.Unlock()
				}
			})
		}
		// The moment is random; what is tested does not depend on it.
		<-time.After(time.Duration(20+rng.IntN(150)) * time.Millisecond)
		c.kill(t)
		wg.Wait()

		c = startChild(t, dir)
		for w := range writers {
			name := fmt.Sprint("secret", w)
			status, body := c.do("GET", "/secrets/"+name, "")
			if status == 404 && acknowledged[name] == 0 {
				continue
			}
			var s struct{ Value string }
			var n int
			if status != 200 || json.Unmarshal([]byte(body), &s) != nil {
				t.Fatalf("round %d: %s: %d %s", round, name, status, body)
			}
			if _, err := fmt.Sscan(s.Value, &n); err != nil || n < acknowledged[name] || n > attempted[name] {
				t.Errorf("round %d: %s is %q; acknowledged up to %d, sent up to %d", round, name, s.Value, acknowledged[name], attempted[name])
			}
		}
		c.kill(t)
		verifyAudit(t, dir)
	}
	if len(ids) < rounds*writers {
		t.Errorf("only %d writes were acknowledged", len(ids))
	}
	// Each acknowledged write has its outcome on record.
	raw, err := os.ReadFile(filepath.Join(dir, "audit", "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	outcomes := strings.Count(string(raw), `"category":"AuditEvent","resultType":"Success","resultSignature":"OK"`) -
		strings.Count(string(raw), `"operationName":"SecretGet"`)
	if outcomes < len(ids) {
		t.Errorf("%d outcomes are on record, %d writes were acknowledged", outcomes, len(ids))
	}
	check := startChild(t, dir)
	for id := range ids {
		for w := range writers {
			if status, _ := check.do("GET", fmt.Sprintf("/secrets/secret%d/%s", w, id), ""); status == 200 {
				delete(ids, id)
				break
			}
		}
	}
	if len(ids) > 0 {
		t.Errorf("%d acknowledged versions are gone", len(ids))
	}
}

// TestFullDisk lets the server's files reach a limit. Writes are refused with a clear error, nothing is lost, and with
// room everything goes on.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	startChild(t, dir).kill(t) // the files exist before the limit
	c := startChild(t, dir, fileLimit+"=1500000")
	acknowledged := 0
	var refused string
	value := strings.Repeat("v", 20_000)
	for n := range 1000 {
		status, body := c.do("PUT", fmt.Sprint("/secrets/s", n), fmt.Sprintf(`{"value":"%d %s"}`, n, value))
		if status != 200 {
			if status != http.StatusServiceUnavailable {
				t.Fatalf("the refusal is %d %s", status, body)
			}
			refused = body
			break
		}
		acknowledged++
	}
	if acknowledged < 10 || !strings.Contains(refused, "storage is full") {
		t.Fatalf("after %d writes: %q", acknowledged, refused)
	}
	if status, body := c.do("GET", "/secrets/s0", ""); status != 200 {
		t.Errorf("reading on a full disk: %d %s", status, body)
	}
	c.kill(t)
	c = startChild(t, dir)
	for n := range acknowledged {
		status, body := c.do("GET", fmt.Sprint("/secrets/s", n), "")
		if status != 200 || !strings.Contains(body, fmt.Sprintf(`"value":"%d %s"`, n, value)) {
			t.Fatalf("secret %d of %d: %d", n, acknowledged, status)
		}
	}
	if status, _ := c.do("GET", fmt.Sprint("/secrets/s", acknowledged), ""); status != 404 {
		t.Errorf("the refused write is there: %d", status)
	}
	if status, body := c.do("PUT", "/secrets/more", `{"value":"x"}`); status != 200 {
		t.Errorf("with room again: %d %s", status, body)
	}
	c.kill(t)
	verifyAudit(t, dir)
}
