package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// What an operator does with strongroom's own commands before the clients come.

// createVault makes a vault that keeps what was deleted for seven days, for the administrator and the managed identity.
func (s *server) createVault(t *testing.T, name, sku string) {
	t.Helper()
	s.command(t, "vault", "create", "--name", name, "--sku", sku, "--retention-days", "7")
	for _, who := range []string{"administrator", "managed identity"} {
		s.command(t, "role", "assignment", "create", "--vault-name", name, "--role", "Key Vault Administrator", "--assignee", who)
	}
}

// createStranger makes an application with a client secret and no rights.
func (s *server) createStranger(t *testing.T) stranger {
	t.Helper()
	var app struct {
		ClientID string `json:"appId"`
		ObjectID string `json:"objectId"`
	}
	s.decode(t, &app, "app", "create", "--display-name", "stranger")
	var credential struct {
		Secret string `json:"secretText"`
	}
	s.decode(t, &credential, "app", "credential", "add", "--id", app.ClientID, "--type", "secret")
	return stranger{clientID: app.ClientID, objectID: app.ObjectID, secret: credential.Secret}
}

// decode runs a command and decodes what it prints.
func (s *server) decode(t *testing.T, into any, args ...string) {
	t.Helper()
	if err := json.Unmarshal(s.command(t, append(args, "--output", "json")...), into); err != nil {
		t.Fatalf("strongroom %s: %v", args[0], err)
	}
}

// addCertificate makes a key with a certificate, registers the certificate and returns the file with both.
func (s *server) addCertificate(t *testing.T, clientID string) string {
	t.Helper()
	combined, certificate := clientCertificate(t)
	s.command(t, "app", "credential", "add", "--id", clientID, "--type", "certificate", "--cert", certificate)
	return combined
}

// addFederated registers a workload of the cluster and returns the file with its token.
func (s *configuredServer) addFederated(t *testing.T, clientID string) string {
	t.Helper()
	s.command(t, "app", "credential", "add", "--id", clientID, "--type", "federated",
		"--issuer", s.issuer.url, "--subject", workload, "--audience", workloadAudience)
	path := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(path, []byte(s.issuer.token(t)), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
