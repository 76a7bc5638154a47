package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
)

// hsmDomain are the managed HSMs' hosts below the server's domain.
const hsmDomain = ".managedhsm"

// createHSMs makes managed HSMs for the administrator, and publishes their names.
func (s *server) createHSMs(t *testing.T, names ...string) {
	t.Helper()
	who := s.credentials(t, "administrator.json")
	for _, name := range names {
		s.command(t, "hsm", "create", "--hsm-name", name, "--administrators", who.ObjectID, "--retention-days", "7")
		s.publishHSM(t, name)
	}
}

func (s *server) publishHSM(t *testing.T, name string) {
	t.Helper()
	addHosts(t, fmt.Appendf(nil, "127.0.0.1 %s.managedhsm.%s\n", name, s.status.Domain))
}

// activate activates a managed HSM, and another with its security domain unless there is none, by strongroom's own package. What
// belongs to the owners is in the folder afterwards.
func (s *server) activate(t *testing.T, folder, name, other string) {
	t.Helper()
	set := map[string]string{"E2E_FOLDER": folder, "E2E_HSM": s.urlOf(name + hsmDomain)}
	if other != "" {
		set["E2E_OTHER_HSM"] = s.urlOf(other + hsmDomain)
	}
	clientRun{server: s, language: "go", credential: "secret", set: set, program: goClient("TestActivate")}.do(t)
}

// TestHSM: keys, roles and settings of managed HSMs by the official clients and by strongroom's packages.
func TestHSM(t *testing.T) {
	t.Parallel()
	s := start(t, []string{"--data", filepath.Join(t.TempDir(), "data")}, "dev", "--listen", "127.0.0.1:0")
	s.publishHosts(t)
	who, other := s.credentials(t, "administrator.json"), s.createStranger(t)
	for _, suite := range suites(t, "HSM") {
		t.Run(suite.name, func(t *testing.T) {
			t.Parallel()
			one, second := "for-"+suite.name, "for-"+suite.name+"-other"
			s.createHSMs(t, one, second)
			s.activate(t, t.TempDir(), one, second)
			set := map[string]string{
				"E2E_VAULT": s.url("demo"), "E2E_HSM": s.urlOf(one + hsmDomain), "E2E_OTHER_HSM": s.urlOf(second + hsmDomain), "E2E_OBJECT": who.ObjectID,
				"E2E_STRANGER_ID": other.clientID, "E2E_STRANGER_OBJECT": other.objectID, "E2E_STRANGER_SECRET": other.secret,
			}
			clientRun{server: s, language: suite.language, credential: "secret", program: suite.program, set: set}.do(t)
			done := s.operations(t, one)
			for _, operation := range []string{
				"KeyCreate", "KeySign", "KeyDecrypt", "RandomBytesGet", "KeyBackup", "KeyDelete", "KeyRecover", "KeyPurge",
			} {
				if done[operation] == 0 {
					t.Errorf("the audit log has no success of %s, only %v", operation, done)
				}
			}
		})
	}
}
