package hsm_test

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/hsm/hsmtest"
)

// TestFIPSOnly runs itself under GODEBUG=fips140=only, which is read when a process starts. There, Go's cryptography answers what
// is not approved with errors of many kinds and with panics; the provider has to refuse it before, and do everything else.
func TestFIPSOnly(t *testing.T) {
	t.Parallel()
	if !fips140.Enforced() {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestFIPSOnly$", "-test.v")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestFIPSOnly/Provider/Use/RSA-4096") {
			t.Errorf("under fips140=only: %v\n%s", err, out)
		}
		return
	}
	unsupported := []string{
		string(hsm.RSA15), string(hsm.RSAOAEP), string(hsm.RSNULL), string(hsm.ES256K), string(hsm.P256K),
		hsmtest.ImportWrapped, hsmtest.ExportSHA1,
	}
	s := hsm.NewSoftware(hsm.SoftwareConfig{Workers: 2, Queue: 100})
	t.Run("Provider", func(t *testing.T) { hsmtest.Run(t, s, unsupported...) })
	t.Run("Wycheproof", func(t *testing.T) { hsmtest.Wycheproof(t, s, unsupported...) })
	t.Run("P-256K from before", func(t *testing.T) {
		spec := hsm.Spec{Type: hsm.EC, Curve: hsm.P256K}
		for _, b := range blobs(t) {
			if b.Spec != spec {
				continue
			}
			_, err := s.Open(t.Context(), spec, b.Blob)
			if want := "The curve P-256K is not allowed while the service runs with fips140=only."; err == nil || err.Error() != want {
				t.Errorf("%v; want: %s", err, want)
			}
		}
	})
}
