package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func (s *server) dataDir() string {
	if s.place[0] == "--data" {
		return s.place[1]
	}
	return filepath.Join(filepath.Dir(s.place[1]), "data")
}

func (s *server) admin(t *testing.T, path string, in any, out any) {
	t.Helper()
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", filepath.Join(s.dataDir(), "admin.sock"))
	}}}
	raw, _ := json.Marshal(in)
	resp, err := c.Post("http://admin"+path, "application/json", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode >= 300 {
		t.Fatalf("%s: %s", resp.Status, body)
	}
	if out != nil {
		if err := json.Unmarshal(body, out); err != nil {
			t.Fatal(err)
		}
	}
}

func (s *server) createVault(t *testing.T, name string) {
	t.Helper()
	var a struct{ ObjectID string }
	raw, _ := os.ReadFile(filepath.Join(s.dataDir(), "credentials/administrator.json"))
	json.Unmarshal(raw, &a)
	s.admin(t, "/vaults", map[string]any{"name": name, "softDeleteRetentionInDays": 7, "administrators": []string{a.ObjectID}}, nil)
}

func (s *server) createStranger(t *testing.T) stranger {
	t.Helper()
	var app struct {
		ClientID string `json:"appId"`
	}
	s.admin(t, "/apps", map[string]any{"displayName": "stranger"}, &app)
	var credential struct {
		Secret string `json:"secretText"`
	}
	s.admin(t, "/apps/"+app.ClientID+"/credentials", map[string]any{"type": "secret"}, &credential)
	return stranger{clientID: app.ClientID, secret: credential.Secret}
}

func (s *server) addCertificate(t *testing.T, clientID string) string {
	t.Helper()
	combined, certificate := clientCertificate(t)
	raw, _ := os.ReadFile(certificate)
	s.admin(t, "/apps/"+clientID+"/credentials", map[string]any{"type": "certificate", "certificate": string(raw)}, nil)
	return combined
}

func (s *configuredServer) addFederated(t *testing.T, clientID string) string {
	t.Helper()
	s.admin(t, "/apps/"+clientID+"/credentials", map[string]any{"type": "federated", "issuer": s.issuer.url, "subject": workload, "audience": workloadAudience}, nil)
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(strings.TrimSpace(s.issuer.token(t))), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
