package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestRehearse loses a managed HSM with its server and brings it back on an empty one, with Azurite as the storage.
func TestRehearse(t *testing.T) {
	t.Parallel()
	storage := startAzurite(t)
	container := storage.createContainer(t, "rehearsals")
	token := storage.token(t, "rehearsals", time.Now().Add(time.Hour))
	dir := t.TempDir()
	sas := filepath.Join(dir, "sas.txt")
	if err := os.WriteFile(sas, []byte(token), 0o600); err != nil {
		t.Fatal(err)
	}
	temporary := filepath.Join(dir, "tmp")
	if err := os.Mkdir(temporary, 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(strongroomProgram), "security-domain", "rehearse", "--owners", "5", "--quorum", "3",
		"--storage-resource-uri", container, "--storage-ca-file", storage.ca, "-t", "@"+sas)
	cmd.Env = append(cleanEnvironment(t), "TMPDIR="+temporary)
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "\nThe rehearsal succeeded in ") || !strings.Contains(string(out), container+"/mhsm-rehearsal-") {
		t.Errorf("%v\n%s", err, out)
	}
	if strings.Contains(string(out), signature(t, token)) || strings.Contains(string(out), "sig=") {
		t.Errorf("it shows the SAS token:\n%s", out)
	}
	if left, err := os.ReadDir(temporary); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v behind, %v", left, err)
	}
}
