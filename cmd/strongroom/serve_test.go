package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

// A child is a server in a process of its own.
type child struct {
	*exec.Cmd
	dir    string
	status *admin.Status
	stderr *transcript
}

// transcript collects what a process prints and tells when a text has come.
type transcript struct {
	mu   sync.Mutex // guards what follows
	buf  bytes.Buffer
	more *sync.Cond
}

func newTranscript() *transcript {
	o := new(transcript)
	o.more = sync.NewCond(&o.mu)
	return o
}

func (o *transcript) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.more.Broadcast()
	return o.buf.Write(p)
}

// await waits until text has come.
func (o *transcript) await(text string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for !strings.Contains(o.buf.String(), text) {
		o.more.Wait()
	}
}

func startChild(t *testing.T) *child {
	t.Helper()
	c := &child{dir: filepath.Join(t.TempDir(), "data"), stderr: newTranscript()}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	c.Cmd = exec.CommandContext(ctx, "strongroom", "dev", "--data", c.dir, "--listen", "127.0.0.1:0",
		"--identity-listen", "127.0.0.1:0", "--operations-listen", "127.0.0.1:0")
	c.Stderr = c.stderr
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if c.ProcessState == nil {
			c.Process.Kill()
			c.Wait()
		}
	})
	var err error
	if c.status, err = waitForStatus(ctx, admin.NewClient(c.dir), 30*time.Second); err != nil {
		t.Fatal(err)
	}
	return c
}

// client returns a client that reaches the child by its names, and a token of its administrator.
func (c *child) client(t *testing.T) (*http.Client, string) {
	t.Helper()
	transport, err := new(target).transport(c.status)
	if err != nil {
		t.Fatal(err)
	}
	// With "Expect: 100-continue" a body is sent only when the server has begun to read it.
	transport.ExpectContinueTimeout = time.Minute
	t.Cleanup(transport.CloseIdleConnections)
	options := clientOptions(c.status, transport)
	credential, err := new(target).localCredential(c.dir, options, false)
	if err != nil {
		t.Fatal(err)
	}
	token, err := credential.GetToken(t.Context(), policy.TokenRequestOptions{
		Scopes: []string{"https://" + withPort(c.status.Suffix, c.status) + "/.default"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return &http.Client{Transport: transport}, token.Token
}

// TestGracefulShutdown holds a request back in its middle, stops the server, and finishes the request: it is answered, and
// its effect is there at the next start.
func TestGracefulShutdown(t *testing.T) {
	t.Parallel()
	c := startChild(t)
	client, token := c.client(t)
	body, write := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut,
		vaultURL(c.status, devVault)+"/secrets/late?api-version=7.5", body)
	if err != nil {
		t.Fatal(err)
	}
	const whole = `{"value":"in flight"}`
	req.ContentLength = int64(len(whole))
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Expect", "100-continue")
	answered := make(chan error, 1)
	go func() {
		resp, err := client.Do(req)
		if err == nil {
			defer resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				err = errors.New(resp.Status)
			}
		}
		answered <- err
	}()
	// The pipe has no buffer: when the first half is taken, the server works on the request.
	if _, err := io.WriteString(write, whole[:10]); err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	c.stderr.await("finishing what is in flight")
	if _, err := io.WriteString(write, whole[10:]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(write.Close(), <-answered); err != nil {
		t.Fatalf("the request in flight: %v", err)
	}
	if err := c.Wait(); err != nil {
		t.Fatalf("the server: %v", err)
	}
	cfg, err := server.DevConfig(c.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	if found, err := server.Verify(t.Context(), cfg); err != nil || found.Bad != 0 {
		t.Errorf("verification: %+v, %v", found, err)
	}
	raw, err := os.ReadFile(filepath.Join(c.dir, "audit", "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(raw), `"operationName":"SecretSet"`); n == 0 {
		t.Error("the request in flight is not in the audit log")
	}
}

// TestSecondSignal leaves a request hanging: the first signal waits for it, the second does not.
func TestSecondSignal(t *testing.T) {
	t.Parallel()
	c := startChild(t)
	client, token := c.client(t)
	body, write := io.Pipe()
	defer write.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut,
		vaultURL(c.status, devVault)+"/secrets/late?api-version=7.5", body)
	if err != nil {
		t.Fatal(err)
	}
	req.ContentLength = 1000
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Expect", "100-continue")
	go func() {
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
	}()
	if _, err := io.WriteString(write, `{"value":"`); err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	c.stderr.await("a second signal ends it at once")
	if err := c.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != exitFailed {
		t.Errorf("the server ended with %v, want exit code %d", err, exitFailed)
	}
}

// TestHangup renames the audit log: after SIGHUP the server writes to a new file, and both together are whole.
func TestHangup(t *testing.T) {
	t.Parallel()
	c := startChild(t)
	log := filepath.Join(c.dir, "audit", "audit.jsonl")
	if err := os.Rename(log, log+".1"); err != nil {
		t.Fatal(err)
	}
	if err := c.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		if info, err := os.Stat(log); err == nil && info.Size() > 0 {
			tick.Stop()
			break
		}
		// Each request puts a line into whichever file is open.
		if code, _, stderr := runHere(ctx, "secret", "list", "--data", c.dir); code != exitOK {
			t.Fatal(stderr)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("the log was not opened anew")
		}
	}
	code, stdout, stderr := runHere(ctx, "audit", "verify", "--data", c.dir)
	var out auditOut
	if err := json.Unmarshal([]byte(stdout), &out); err != nil || code != exitOK || len(out.Files) != 2 || !out.Complete {
		t.Errorf("verification: exit code %d, %s %s", code, stdout, stderr)
	}
}

// TestAuditVerifyWhileServing checks the log again and again while it grows.
func TestAuditVerifyWhileServing(t *testing.T) {
	t.Parallel()
	c := startChild(t)
	client, token := c.client(t)
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet,
					fmt.Sprintf("%s/secrets/n%d?api-version=7.5", vaultURL(c.status, devVault), i), nil)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Authorization", "Bearer "+token)
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	for range 20 {
		if code, stdout, stderr := runHere(t.Context(), "audit", "verify", "--data", c.dir); code != exitOK {
			t.Errorf("exit code %d: %s %s", code, stdout, stderr)
			break
		}
	}
	close(stop)
	writers.Wait()
}

// runHere runs a command in this process.
func runHere(ctx context.Context, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(ctx, args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}
