package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/strongroom/strongroom/internal/server"
)

// installed makes an installation on free ports.
func installed(t *testing.T) *server.Config {
	t.Helper()
	cfg := initConfig(t, filepath.Join(t.TempDir(), "data"))
	cfg.Operations.Listen, cfg.ManagedIdentity.Listen = "127.0.0.1:0", ""
	if _, err := server.Init(t.Context(), cfg, server.Options{}, ""); err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestBusyAddress: the error names the setting, and is still that of the system.
func TestBusyAddress(t *testing.T) { // not parallel: see reopens
	busy, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	cfg := installed(t)
	for setting, change := range map[string]func(c *server.Config, address string){
		"listen":                 func(c *server.Config, address string) { c.Listen = []string{"127.0.0.1:0", address} },
		"operations.listen":      func(c *server.Config, address string) { c.Operations.Listen = address },
		"managedIdentity.listen": func(c *server.Config, address string) { c.ManagedIdentity.Listen = address },
	} {
		wrong := *cfg
		change(&wrong, busy.Addr().String())
		s, err := server.Open(t.Context(), &wrong, server.Options{})
		if err == nil {
			s.Close()
		}
		var op *net.OpError
		if err == nil || !strings.HasPrefix(err.Error(), setting+": ") || !errors.Is(err, syscall.EADDRINUSE) || !errors.As(err, &op) {
			t.Errorf("%s: %v", setting, err)
		}
	}
}

// TestRequestLine reads the line of a request in the operational log.
func TestRequestLine(t *testing.T) { // not parallel: see reopens
	cfg := installed(t)
	var log lines
	s, err := server.Open(t.Context(), cfg, server.Options{Log: slog.New(slog.NewJSONHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx) }()
	pool := x509.NewCertPool()
	if raw, err := os.ReadFile(s.CAFile()); err != nil || !pool.AppendCertsFromPEM(raw) {
		t.Fatal("no authority", err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "login.localhost"}}}
	resp, err := client.Get("https://127.0.0.1:" + s.Port())
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	client.CloseIdleConnections()
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	var found []float64
	for line := range strings.Lines(log.String()) {
		var told struct {
			Operation  string   `json:"operation"`
			DurationMs *float64 `json:"duration_ms"`
		}
		if err := json.Unmarshal([]byte(line), &told); err != nil {
			t.Fatal(err)
		}
		if told.Operation == "Misdirected" && told.DurationMs != nil {
			found = append(found, *told.DurationMs)
		}
	}
	if len(found) != 1 || found[0] <= 0 || found[0] > 10_000 {
		t.Errorf("durations %v in:\n%s", found, &log)
	}
}
