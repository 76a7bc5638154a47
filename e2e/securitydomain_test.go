package e2e

import (
	"fmt"
	"maps"
	"path/filepath"
	"testing"
)

// hsms are the managed HSMs that each client makes. Only the clients know of them before they are there, so their names have to be
// published here.
var hsms = map[string][2]string{
	"python": {"for-python", "for-python-other"},
	"az":     {"domains-one", "domains-other"},
}

// TestSecurityDomain: the official clients activate one managed HSM, bring its security domain to another, and restore there what was
// backed up here.
func TestSecurityDomain(t *testing.T) {
	t.Parallel()
	s := start(t, []string{"--data", filepath.Join(t.TempDir(), "data")}, "dev", "--listen", "127.0.0.1:0")
	s.publishHosts(t)
	who, other := s.credentials(t, "administrator.json"), s.createStranger(t)
	common := map[string]string{
		"E2E_MANAGEMENT":      s.urlOf("management"),
		"E2E_SUBSCRIPTION":    s.status.SubscriptionID,
		"E2E_GROUP":           ownGroup,
		"E2E_TENANT":          who.TenantID,
		"E2E_OBJECT":          who.ObjectID,
		"E2E_STRANGER_ID":     other.clientID,
		"E2E_STRANGER_SECRET": other.secret,
	}
	own := map[string]map[string]string{
		"python": {
			"E2E_HSM":       s.urlOf(hsms["python"][0] + ".managedhsm"),
			"E2E_OTHER_HSM": s.urlOf(hsms["python"][1] + ".managedhsm"),
		},
		"az": {
			"E2E_CLOUD":                filepath.Join(s.dataDir(), "az-cloud.json"),
			"E2E_ADMINISTRATOR_ID":     who.ClientID,
			"E2E_ADMINISTRATOR_SECRET": who.Secret,
			"E2E_ADMINISTRATOR_OBJECT": who.ObjectID,
			"AZURE_CONFIG_DIR":         t.TempDir(), // az keeps tokens and secrets there
		},
	}
	for language, program := range map[string][]string{
		"python": pythonClient(t, "test_securitydomain.py"), "az": azClient(t, "Domains"),
	} {
		for _, name := range hsms[language] {
			addHosts(t, fmt.Appendf(nil, "127.0.0.1 %s.managedhsm.%s\n", name, s.status.Domain))
		}
		maps.Copy(own[language], common)
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			clientRun{server: s, language: language, credential: "secret", set: own[language], program: program}.do(t)
		})
	}
}
