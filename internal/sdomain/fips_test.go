package sdomain

import (
	"crypto/fips140"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// TestFIPS: with GODEBUG=fips140=only everything works that is allowed, and nothing panics.
func TestFIPS(t *testing.T) {
	t.Parallel()
	if !fips140.Enforced() { // GODEBUG is read when a process starts
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestFIPS$", "-test.v")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestFIPS") {
			t.Errorf("under fips140=only: %v\n%s", err, out)
		}
		return
	}
	var certs []Certificate
	var hs []Holder
	for _, id := range []string{"wk-01", "wk-02", "wk-04"} {
		file, err := ParseCertificate(read(t, vectors+"certs/"+id+".cer"))
		if err != nil {
			t.Fatal(err)
		}
		c, err := CertificateFromJWK(file.JWK())
		if err != nil {
			t.Fatal(err)
		}
		key, err := ParsePrivateKey(read(t, vectors+"certs/"+id+".pem"), "")
		if err != nil {
			t.Fatal(err)
		}
		certs, hs = append(certs, c), append(hs, Holder{Key: key})
	}
	raw, err := Seal(someData(), certs, 2)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	data, err := f.Open(hs[1:])
	checkSome(t, "file", data, err)

	tk, err := NewTransferKey("one.managedhsm.example.org", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	blob, err := Rewrap(data, tk.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	data, err = OpenRestoreBlob(blob, tk)
	checkSome(t, "blob", data, err)
	k, err := NewDomainKeys()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := k.SealKeyBackup([]byte("key")); err != nil {
		t.Error(err)
	}

	_, err = ParseCertificate(read(t, vectors+"certs/wk-06.cer")) // with the exponent 3
	wantErr(t, "a small exponent", err, ErrCertificate)
	for file, password := range map[string]string{"wk-07": "pässwörd-07", "wk-10": "wk-10-passphrase"} {
		if _, err := ParsePrivateKey(read(t, vectors+"certs/"+file+".pem"), password); err == nil {
			t.Errorf("%s is opened", file)
		}
	}
}
