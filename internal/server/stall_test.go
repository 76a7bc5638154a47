package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/server"
)

// unread is a pipe that nobody reads.
type unread struct {
	begun chan struct{} // gets a message for each Write
	until chan struct{} // closed: all Writes return
}

func (u unread) Write(p []byte) (int, error) {
	select {
	case u.begun <- struct{}{}:
	default:
	}
	<-u.until
	return len(p), nil
}

// TestLogStalled serves with a log that takes nothing: requests are answered, health warns, the server stops.
func TestLogStalled(t *testing.T) {
	t.Parallel()
	w := unread{make(chan struct{}, 1), make(chan struct{})}
	log, flush := server.NewLogger(w, slog.LevelInfo)
	defer flush()
	defer close(w.until)
	cfg, err := server.DevConfig(filepath.Join(t.TempDir(), "data"), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Operations.Listen, cfg.ManagedIdentity.Listen = "127.0.0.1:0", ""
	if _, err := server.Init(t.Context(), cfg, server.Options{}, "demo"); err != nil {
		t.Fatal(err)
	}
	srv, err := server.Open(t.Context(), cfg, server.Options{Log: log})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(ctx) }()
	<-w.begun

	get := func(client *http.Client, url string) (int, string) {
		t.Helper()
		resp, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	pem, err := os.ReadFile(srv.CAFile())
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool},
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, srv.Status().Listen[0])
		},
	}}
	defer client.CloseIdleConnections()
	for range 3 {
		log.Info("filler", "text", strings.Repeat("x", 512<<10))
	}
	if status, _ := get(client, srv.VaultURL("demo")+"secrets?api-version=7.4"); status != http.StatusUnauthorized {
		t.Errorf("a request was answered %d", status)
	}
	operations := srv.Status().Operations
	if status, body := get(http.DefaultClient, operations+"/readyz"); status != 200 || !strings.Contains(body, "the operational log takes nothing") {
		t.Errorf("health: %d %s", status, body)
	}
	if _, body := get(http.DefaultClient, operations+"/metrics"); strings.Contains(body, "strongroom_log_lines_dropped_total 0\n") ||
		!strings.Contains(body, "strongroom_log_lines_dropped_total ") {
		t.Error("the metric counts no dropped line")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("stopping: %v", err)
	}
}
