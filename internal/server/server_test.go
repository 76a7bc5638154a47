package server_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/pki"
	"github.com/strongroom/strongroom/internal/server"
	"github.com/strongroom/strongroom/internal/store/bolt"
	"github.com/strongroom/strongroom/strongroomtest"
)

// call makes one request with a token and returns status and body.
func call(t testing.TB, s *strongroomtest.Server, token, method, path, body string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, s.VaultURL+path+"?api-version=7.6", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := s.HTTPClient().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

func adminToken(t testing.TB, s *strongroomtest.Server) string {
	return s.Token(t, s.ClientID, s.Secret)
}

// until repeats check until it is true; the test's deadline bounds it.
func until(t testing.TB, what string, check func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !check() {
		if time.Now().After(deadline) {
			t.Fatalf("%s did not happen", what)
		}
	}
}

func ready(t testing.TB, s *strongroomtest.Server) (int, string) {
	t.Helper()
	resp, err := http.Get(s.OperationsURL() + "/readyz")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// TestAuditBlocked stops reading the pipe to which the audit log goes. Requests are refused in bounded time, health says
// why, and all is well again once somebody reads.
func TestAuditBlocked(t *testing.T) {
	t.Parallel()
	pipe := filepath.Join(t.TempDir(), "audit")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	s := strongroomtest.Start(t, &strongroomtest.Options{Config: "audit: {file: " + pipe + ", timeout: 300ms}"})
	token := adminToken(t, s)
	if status, body := call(t, s, token, "PUT", "/secrets/a", `{"value":"1"}`); status != 200 {
		t.Fatal(status, body)
	}
	asked := 0
	var refused string
	until(t, "a refusal", func() bool {
		status, body := call(t, s, token, "GET", "/secrets/a", "")
		refused = body
		return status == http.StatusServiceUnavailable
	})
	if !strings.Contains(refused, "audit log") {
		t.Errorf("the refusal is %s", refused)
	}
	if status, body := ready(t, s); status != http.StatusServiceUnavailable || !strings.Contains(body, "audit") {
		t.Errorf("health is %d %s", status, body)
	}
	if status, _ := call(t, s, token, "PUT", "/secrets/a", `{"value":"2"}`); status != http.StatusServiceUnavailable {
		t.Errorf("a write without a record was answered %d", status)
	}
	// Also what is not put on record one by one is not answered as if it were.
	until(t, "a throttled refusal", func() bool {
		for _, path := range []string{s.VaultURL + "/secrets", s.Authority + "/x/oauth2/v2.0/token"} {
			resp, err := s.HTTPClient().Get(path)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusServiceUnavailable {
				t.Fatalf("%s was answered %s while the audit log was blocked", path, resp.Status)
			}
		}
		asked++
		return asked > 600 // beyond the bucket
	})
	go io.Copy(io.Discard, reader) // until the pipe is closed
	until(t, "recovery", func() bool {
		status, _ := ready(t, s)
		return status == http.StatusOK
	})
	if status, body := call(t, s, token, "GET", "/secrets/a", ""); status != 200 || !strings.Contains(body, `"value":"1"`) {
		t.Errorf("after recovery: %d %s", status, body)
	}
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
}

func TestMisdirected(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, nil)
	for _, host := range []string{"example.org", "vault.localhost", "a.b.vault.localhost", "test.vault.localhost.evil.org", "localhost", "login.localhost.evil.org", "a.b.login.localhost"} {
		req, err := http.NewRequest("GET", s.VaultURL+"/secrets?api-version=7.4", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host
		resp, err := s.HTTPClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusMisdirectedRequest {
			t.Errorf("%s: %s", host, resp.Status)
		}
	}
	n := 0
	for _, rec := range s.AuditLog(t) {
		if rec["operationName"] == "Misdirected" {
			n++
		}
	}
	if n != 7 {
		t.Errorf("%d records of misdirected requests", n)
	}
}

// TestAuditRecords checks that every request leaves exactly one outcome, writes an intent before it, and no secret.
func TestAuditRecords(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, nil)
	token := adminToken(t, s)
	before := len(s.AuditLog(t))
	call(t, s, "", "GET", "/secrets/a", "")
	call(t, s, "not.a.token", "GET", "/secrets/a", "")
	call(t, s, token, "PUT", "/secrets/a", `{"value":"the-secret-value"}`)
	call(t, s, token, "GET", "/secrets/a", "")
	call(t, s, token, "GET", "/nothing", "")
	call(t, s, token, "PUT", "/secrets/b", `{"value":`)
	records := s.AuditLog(t)[before:]
	var got []string
	for _, rec := range records {
		properties, _ := rec["properties"].(map[string]any)
		got = append(got, fmt.Sprintf("%v %v %v", rec["category"], rec["operationName"], properties["httpStatusCode"]))
	}
	want := []string{
		"AuditEvent Authentication 401",
		"AuditEvent Authentication 401",
		"AuditIntent SecretSet <nil>",
		"AuditEvent SecretSet 200",
		"AuditEvent SecretGet 200",
		"AuditEvent Unrecognized 404",
		"AuditEvent SecretSet 400",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("records:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if records[2]["correlationId"] != records[3]["correlationId"] || records[2]["correlationId"] == "" {
		t.Error("intent and outcome do not belong together")
	}
	raw, err := os.ReadFile(filepath.Join(s.Dir, "audit", "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	for what, secret := range map[string]string{"value": "the-secret-value", "token": token, "client secret": s.Secret} {
		if strings.Contains(string(raw), secret) {
			t.Errorf("the audit log holds the %s", what)
		}
		for _, file := range []string{"strongroom.db"} {
			db, err := os.ReadFile(filepath.Join(s.Dir, file))
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(db), secret) {
				t.Errorf("%s holds the %s", file, what)
			}
		}
	}
}

func TestOperations(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, nil)
	token := adminToken(t, s)
	call(t, s, token, "GET", "/secrets", "")
	if status, body := ready(t, s); status != 200 {
		t.Errorf("ready: %d %s", status, body)
	}
	for path, want := range map[string]string{
		"/healthz":              `"ok"`,
		"/metrics":              `strongroom_service_api_results_total{activity_name="SecretList",activity_type="secret",status_code="200",status_code_class="2xx"} 1`,
		"/debug/pprof/cmdline":  "",
		"/debug/pprof/?debug=1": "goroutine",
	} {
		resp, err := http.Get(s.OperationsURL() + path)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || !strings.Contains(string(raw), want) {
			t.Errorf("%s: %v\n%s", path, err, raw)
		}
	}
}

// TestOperationsIsNotForPages asks as pages of other sites would make a browser ask.
func TestOperationsIsNotForPages(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, &strongroomtest.Options{Config: "operations: {hosts: [Monitor.example]}"})
	for _, c := range []struct {
		host, site string
		want       int
	}{
		{"", "", 200},
		{"localhost", "none", 200},
		{"LOCALHOST:9443", "same-origin", 200},
		{"127.0.0.1", "", 200},
		{"[::1]:9443", "", 200},
		{"[::1]", "", 200},
		{"monitor.example:9443", "", 200},
		{"evil.example:9443", "", 421},
		{"localhost.evil.example", "", 421},
		{"127.0.0.1.evil.example", "", 421},
		{"192.0.2.1", "", 421},
		{"[::ffff:192.0.2.1]:1", "", 421},
		{"localhost", "cross-site", 403},
		{"localhost", "same-site", 403},
	} {
		req, err := http.NewRequest("GET", s.OperationsURL()+"/healthz", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = c.host
		if c.site != "" {
			req.Header.Set("Sec-Fetch-Site", c.site)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != c.want {
			t.Errorf("host %q, site %q: %s", c.host, c.site, resp.Status)
		}
	}
}

func TestProfilesAreAsked(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, &strongroomtest.Options{Config: "operations: {pprof: false}"})
	resp, err := http.Get(s.OperationsURL() + "/debug/pprof/profile?seconds=1")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNotFound {
		t.Errorf("a profile that nobody switched on: %s", resp.Status)
	}
}

// TestConnectionLimit opens one connection too many.
func TestConnectionLimit(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, &strongroomtest.Options{Config: "limits: {connectionsPerAddress: 3}"})
	s.HTTPClient().CloseIdleConnections()
	address := strings.TrimPrefix(s.Authority, "https://login.localhost")
	var open []net.Conn
	defer func() {
		for _, c := range open {
			c.Close()
		}
	}()
	alive := func(c net.Conn) bool { // the server closes a connection that it refuses at once
		c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err := c.Read(make([]byte, 1))
		var timeout net.Error
		return errors.As(err, &timeout) && timeout.Timeout()
	}
	for len(open) < 3 {
		c, err := net.Dial("tcp", "127.0.0.1"+address)
		if err != nil {
			t.Fatal(err)
		}
		if !alive(c) { // the client's idle connections may not have gone yet
			c.Close()
			continue
		}
		open = append(open, c)
	}
	c, err := net.Dial("tcp", "127.0.0.1"+address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if alive(c) {
		t.Error("a fourth connection was accepted")
	}
	open[0].Close()
	until(t, "a place", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1"+address)
		if err != nil {
			return false
		}
		defer c.Close()
		return alive(c)
	})
}

// slowPut begins a PUT and leaves its body unfinished. When it returns, the server waits for the body, as its 100 Continue says.
func slowPut(t *testing.T, s *strongroomtest.Server, token string) (finish func() *http.Response) {
	t.Helper()
	pool := x509.NewCertPool()
	ca, err := os.ReadFile(s.CAFile())
	if err != nil || !pool.AppendCertsFromPEM(ca) {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(s.VaultURL, "https://")
	name, port, _ := strings.Cut(host, ":")
	c, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{RootCAs: pool, ServerName: name})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	body := `{"value":"slow"}`
	fmt.Fprintf(c, "PUT /secrets/slow?api-version=7.4 HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n"+
		"Expect: 100-continue\r\n\r\n", host, token, len(body))
	answers := bufio.NewReader(c)
	if resp, err := http.ReadResponse(answers, nil); err != nil || resp.StatusCode != http.StatusContinue {
		t.Fatalf("the server does not wait for the body: %v, %v", resp, err)
	}
	return func() *http.Response {
		fmt.Fprint(c, body)
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
}

// TestInFlightLimit lets one principal take all of its places; another one is not concerned.
func TestInFlightLimit(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, &strongroomtest.Options{Config: "limits: {requestsPerPrincipal: 1}"})
	other := s.CreatePrincipal(t, "other")
	token := adminToken(t, s)
	finish := slowPut(t, s, token)
	if status, _ := call(t, s, token, "GET", "/secrets", ""); status != http.StatusTooManyRequests {
		t.Errorf("a second request was answered %d", status)
	}
	if status, _ := call(t, s, s.Token(t, other.ClientID, other.Secret), "GET", "/secrets", ""); status != http.StatusForbidden {
		t.Errorf("another principal was answered %d", status)
	}
	if resp := finish(); resp.StatusCode != 200 {
		t.Errorf("the slow request was answered %s", resp.Status)
	}
	until(t, "a place", func() bool {
		status, _ := call(t, s, token, "GET", "/secrets", "")
		return status == 200
	})
}

// TestShutdown stops the server while a request is in flight: it is finished and durable.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, nil)
	token := adminToken(t, s)
	finish := slowPut(t, s, token)
	stopped := make(chan error, 1)
	go func() { stopped <- s.Stop() }()
	address := strings.TrimPrefix(s.Authority, "https://login.localhost")
	until(t, "the listener's end", func() bool {
		c, err := net.Dial("tcp", "127.0.0.1"+address)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	if resp := finish(); resp.StatusCode != 200 {
		t.Errorf("the request in flight was answered %s", resp.Status)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	again := strongroomtest.Start(t, &strongroomtest.Options{Dir: s.Dir})
	if status, body := call(t, again, adminToken(t, again), "GET", "/secrets/slow", ""); status != 200 || !strings.Contains(body, `"slow"`) {
		t.Errorf("after a restart: %d %s", status, body)
	}
}

func TestSecondProcess(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, nil)
	cfg, err := server.DevConfig(s.Dir, []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Operations.Listen, cfg.ManagedIdentity.Listen = "-", ""
	if _, err := server.Open(t.Context(), cfg, server.Options{}); !errors.Is(err, bolt.ErrLocked) {
		t.Errorf("a second server on the folder: %v", err)
	}
}

// TestCertificateReload replaces the certificate's files under a running server.
func TestCertificateReload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newCA(t, "localhost")
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write := func(names ...string) *x509.Certificate {
		t.Helper()
		pair, err := ca.IssueServer(append(names, "*.vault.localhost"))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(os.WriteFile(cert, certPEM(pair), 0o600), os.WriteFile(key, keyPEM(t, pair), 0o600)); err != nil {
			t.Fatal(err)
		}
		return pair.Leaf
	}
	first := write("login.localhost")
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate())
	cfg, err := server.DevConfig(filepath.Join(dir, "data"), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Operations.Listen, cfg.ManagedIdentity.Listen = "127.0.0.1:0", ""
	cfg.TLS = server.TLSConfig{Certificate: cert, Key: key}
	var mu sync.Mutex
	now := time.Now()
	opts := server.Options{Log: slog.New(slog.DiscardHandler), Now: func() time.Time {
		mu.Lock()
		defer mu.Unlock()
		return now
	}}
	if _, err := server.Init(t.Context(), cfg, opts, ""); err != nil {
		t.Fatal(err)
	}
	srv, err := server.Open(t.Context(), cfg, opts)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	served := func() *x509.Certificate {
		t.Helper()
		mu.Lock()
		now = now.Add(2 * time.Second) // past the interval in which the files are not looked at
		mu.Unlock()
		c, err := tls.Dial("tcp", "127.0.0.1:"+srv.Port(), &tls.Config{RootCAs: pool, ServerName: "a.vault.localhost"})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.ConnectionState().PeerCertificates[0]
	}
	warned := func() bool {
		t.Helper()
		resp, err := http.Get(srv.Status().Operations + "/readyz")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s, %v: %s", resp.Status, err, raw)
		}
		return strings.Contains(string(raw), "does not cover login.localhost:")
	}
	if !served().Equal(first) {
		t.Error("the first certificate is not served")
	}
	if warned() {
		t.Error("health misses a name that is there")
	}
	second := write()
	if !served().Equal(second) {
		t.Error("the new certificate is not served")
	}
	if !warned() {
		t.Error("health does not name the name that is missing")
	}
	if err := os.WriteFile(key, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if !served().Equal(second) {
		t.Error("a bad pair replaced the good one")
	}
	third := write("login.localhost")
	if !served().Equal(third) {
		t.Error("after a bad pair the good one is not served")
	}
}

func TestTLSVersions(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, nil)
	port := s.VaultURL[strings.LastIndex(s.VaultURL, ":"):]
	for _, c := range []struct {
		config *tls.Config
		ok     bool
	}{
		{&tls.Config{MaxVersion: tls.VersionTLS11, MinVersion: tls.VersionTLS10}, false},
		{&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_GCM_SHA256}}, false},
		{&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}}, false},
		{&tls.Config{MaxVersion: tls.VersionTLS12}, true},
		{&tls.Config{MinVersion: tls.VersionTLS13}, true},
	} {
		c.config.InsecureSkipVerify = true // the handshake is what is tested
		conn, err := tls.Dial("tcp", "127.0.0.1"+port, c.config)
		if (err == nil) != c.ok {
			t.Errorf("%+v: %v", c.config.CipherSuites, err)
		}
		if err == nil {
			conn.Close()
		}
	}
}

// TestLongHeader checks that a header that is too long costs its own connection only.
func TestLongHeader(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, nil)
	req, err := http.NewRequest("GET", s.VaultURL+"/secrets?api-version=7.4", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Long", strings.Repeat("x", 1<<20))
	resp, err := s.HTTPClient().Do(req)
	if err == nil {
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("a header of a megabyte was answered %s", resp.Status)
		}
	}
	if status, _ := call(t, s, adminToken(t, s), "GET", "/secrets", ""); status != 200 {
		t.Errorf("the next request was answered %d", status)
	}
}

func newCA(t *testing.T, domains ...string) *pki.LocalCA {
	t.Helper()
	db, err := bolt.Open(filepath.Join(t.TempDir(), "ca.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	ca, err := pki.OpenLocalCA(t.Context(), db, domains, time.Now)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestStatusHoldsNoSecret(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, nil)
	_, header := s.ManagedIdentity()
	for _, path := range []string{"/status", "/apps", "/vaults", "/hsms", "/owners", "/seal"} {
		var raw json.RawMessage
		if err := admin.NewClient(s.Dir).Do(t.Context(), http.MethodGet, path, nil, &raw); err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{s.Secret, header} {
			if strings.Contains(string(raw), secret) {
				t.Errorf("%s shows a secret", path)
			}
		}
	}
}
