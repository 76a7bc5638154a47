package e2e

import (
	"path/filepath"
	"testing"
)

// ownGroup is the resource group of the vaults that strongroom's own commands make.
const ownGroup = "strongroom"

// TestResources: the official clients of the management plane make, change and remove vaults, and wait for it in their own way.
func TestResources(t *testing.T) {
	t.Parallel()
	s := start(t, []string{"--data", filepath.Join(t.TempDir(), "data")}, "dev", "--listen", "127.0.0.1:0")
	s.publishHosts(t)
	who, other := s.credentials(t, "administrator.json"), s.createStranger(t)
	set := map[string]string{
		"E2E_MANAGEMENT":      s.urlOf("management"),
		"E2E_SUBSCRIPTION":    s.status.SubscriptionID,
		"E2E_GROUP":           ownGroup,
		"E2E_TENANT":          who.TenantID,
		"E2E_OBJECT":          who.ObjectID,
		"E2E_STRANGER_ID":     other.clientID,
		"E2E_STRANGER_SECRET": other.secret,
	}
	for language, program := range map[string][]string{
		"go": goClient("TestResources"), "python": pythonClient(t, "test_resources.py"),
	} {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			clientRun{server: s, language: language, credential: "secret", set: set, program: program}.do(t)
		})
	}
}
