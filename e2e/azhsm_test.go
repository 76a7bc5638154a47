package e2e

import (
	"maps"
	"path/filepath"
	"testing"
)

// azVariables are what the programs with az need, signed in as the administrator.
func (s *server) azVariables(t *testing.T, other stranger) map[string]string {
	t.Helper()
	who := s.credentials(t, "administrator.json")
	return map[string]string{
		"E2E_CLOUD":                filepath.Join(s.dataDir(), "az-cloud.json"),
		"E2E_TENANT":               who.TenantID,
		"E2E_ADMINISTRATOR_ID":     who.ClientID,
		"E2E_ADMINISTRATOR_SECRET": who.Secret,
		"E2E_ADMINISTRATOR_OBJECT": who.ObjectID,
		"E2E_STRANGER_ID":          other.clientID,
		"E2E_STRANGER_OBJECT":      other.objectID,
		"E2E_STRANGER_SECRET":      other.secret,
		"AZURE_CONFIG_DIR":         t.TempDir(), // az keeps tokens and secrets there
	}
}

// TestAzHSM: az with --hsm-name, for keys, roles, settings, backups and restores; and security domains that az and strongroom's
// package hand to each other.
func TestAzHSM(t *testing.T) {
	t.Parallel()
	s, storage := startWithStorage(t, "az.test", "127.0.0.1:8455")
	s.publishHosts(t)
	other := s.createStranger(t)
	variables := storage.variables(t, "for-az")
	s.private["a SAS token for az"] = signature(t, variables["E2E_SAS"])
	t.Run("Pools", func(t *testing.T) {
		t.Parallel()
		s.createHSMs(t, "az-one", "az-other")
		s.activate(t, t.TempDir(), "az-one", "az-other")
		set := s.azVariables(t, other)
		maps.Copy(set, variables)
		set["E2E_HSM_NAME"], set["E2E_OTHER_HSM_NAME"] = "az-one", "az-other"
		clientRun{server: s.server, language: "az", credential: "secret", set: set, program: azClient(t, "Pools")}.do(t)
	})
	t.Run("Interoperation", func(t *testing.T) {
		t.Parallel()
		folder := t.TempDir()
		s.createHSMs(t, "by-az", "by-package", "by-az-blob", "of-az", "of-package")
		s.activate(t, folder, "of-package", "")
		set := s.azVariables(t, other)
		set["E2E_FOLDER"] = folder
		clientRun{server: s.server, language: "az", credential: "secret", set: set, program: azClient(t, "Interoperation")}.do(t)
		clientRun{server: s.server, language: "go", credential: "secret", program: goClient("TestInteroperate"), set: map[string]string{
			"E2E_FOLDER": folder, "E2E_OBJECT": set["E2E_ADMINISTRATOR_OBJECT"],
			"E2E_HSM": s.urlOf("of-package" + hsmDomain), "E2E_AZ_HSM": s.urlOf("of-az" + hsmDomain),
			"E2E_HSM_BY_AZ": s.urlOf("by-az" + hsmDomain), "E2E_HSM_BY_PACKAGE": s.urlOf("by-package" + hsmDomain),
			"E2E_HSM_BY_AZ_BLOB": s.urlOf("by-az-blob" + hsmDomain),
		}}.do(t)
	})
}
