package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"testing"
)

// azGroups are the classes of test_az.py, and the vaults that each makes. Only az knows of those before they are there, so
// their names have to be published here.
var azGroups = map[string][]string{
	"Login":   nil,
	"Vaults":  {"vaults-rbac", "vaults-policy", "vaults-kept"},
	"Access":  {"access-vault"},
	"Secrets": {"secrets-vault"},
	"Keys":    {"keys-vault"},
	"HSMs":    nil,
}

// TestAz: Microsoft's own command line, with the cloud and the environment of `strongroom env --for az`, does everything from
// the first login to the purge of what it made.
func TestAz(t *testing.T) {
	t.Parallel()
	s := start(t, []string{"--data", filepath.Join(t.TempDir(), "data")}, "dev", "--listen", "127.0.0.1:0")
	s.publishHosts(t)
	who, managed, other := s.credentials(t, "administrator.json"), s.credentials(t, "managed-identity.json"), s.createStranger(t)
	set := map[string]string{
		"E2E_CLOUD":                     filepath.Join(s.dataDir(), "az-cloud.json"),
		"E2E_TENANT":                    who.TenantID,
		"E2E_ADMINISTRATOR_ID":          who.ClientID,
		"E2E_ADMINISTRATOR_SECRET":      who.Secret,
		"E2E_ADMINISTRATOR_OBJECT":      who.ObjectID,
		"E2E_ADMINISTRATOR_CERTIFICATE": s.addCertificate(t, who.ClientID),
		"E2E_MANAGED_OBJECT":            managed.ObjectID,
		"E2E_STRANGER_ID":               other.clientID,
		"E2E_STRANGER_SECRET":           other.secret,
		"IDENTITY_ENDPOINT":             s.status.IdentityEndpoint,
		"IDENTITY_HEADER":               managed.Secret,
	}
	for group, vaults := range azGroups {
		for _, vault := range vaults {
			addHosts(t, fmt.Appendf(nil, "127.0.0.1 %s.vault.%s\n", vault, s.status.Domain))
		}
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			env := map[string]string{"AZURE_CONFIG_DIR": t.TempDir()} // az keeps tokens and secrets there
			maps.Copy(env, set)
			clientRun{server: s, language: "az", credential: "secret", set: env, program: azClient(t, group)}.do(t)
		})
	}
}

func azClient(t *testing.T, group string) []string {
	t.Helper()
	program := pythonClient(t, "test_az.py")
	program[0] = toolProgram(t, "az", "python")
	return append(program, "-v", group)
}
