package e2e

import (
	"path/filepath"
	"testing"
)

// TestKeys: every operation of the keys clients. Each program has its language's own cryptography beside the server's, and that
// of the client where it has some: what one encrypts, wraps or signs, the others have to decrypt, unwrap or accept.
func TestKeys(t *testing.T) {
	t.Parallel()
	s := start(t, []string{"--data", filepath.Join(t.TempDir(), "data")}, "dev", "--listen", "127.0.0.1:0")
	runSuites(t, s, "Keys", nil,
		"KeyCreate", "KeyImport", "KeyGet", "KeyUpdate", "KeyList", "KeyListVersions",
		"KeyEncrypt", "KeyDecrypt", "KeyWrap", "KeyUnwrap", "KeySign", "KeyVerify",
		"KeyRotate", "KeyRotationPolicyGet", "KeyRotationPolicySet", "KeyBackup", "KeyRestore",
		"KeyDelete", "KeyGetDeleted", "KeyListDeleted", "KeyRecover", "KeyPurge",
	)
}
