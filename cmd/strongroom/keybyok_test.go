package main

import (
	"bytes"
	"crypto/fips140"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	tink "github.com/tink-crypto/tink-go/v2/kwp/subtle"
)

const kekID = "https://v.vault.localhost:8443/keys/kek/0123456789abcdef0123456789abcdef"

// A target that was wrapped is unwrapped with what others wrote: OAEP of crypto/rsa and KWP of Tink.
func TestBYOKWrap(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kek, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(kek.Public())
	if err != nil {
		t.Fatal(err)
	}
	n, e := kek.N.Bytes(), []byte{1, 0, 1}
	keks := map[string]string{
		"PEM":   pemOf("PUBLIC KEY", spki),
		"PKCS1": pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&kek.PublicKey)),
		"JWK": fmt.Sprintf(`{"kty":"RSA","kid":%q,"n":%q,"e":"AQAB","use":"enc"}`,
			kekID, base64.RawURLEncoding.EncodeToString(n)),
		"shown": fmt.Sprintf(`{"attributes":{},"key":{"kty":"RSA-HSM","kid":%q,"n":%q,"e":%q,"x":null,"keyOps":["import"]},"tags":null}`,
			kekID, base64.StdEncoding.EncodeToString(n), base64.StdEncoding.EncodeToString(e)),
	}
	target, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	targetPEM := pkcs8Of(t, target)
	block, _ := pem.Decode([]byte(targetPEM))
	koblitz, _ := pem.Decode([]byte(koblitzPKCS8))
	raw := make([]byte, 32)
	rand.Read(raw)
	for name, text := range keks {
		kekFile := file("kek", text)
		for _, tc := range []struct {
			flag, content string
			want          []byte
			more          []string
		}{
			{"--key-file", targetPEM, block.Bytes, nil},
			{"--key-file", pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(target)), block.Bytes, nil},
			{"--key-file", koblitzSEC1, koblitz.Bytes, nil},
			{"--key-file", koblitzAES256, koblitz.Bytes, []string{"--pem-password", "correct"}},
			{"--oct-file", string(raw), raw, nil},
		} {
			args := append([]string{"key", "byok-wrap", "--kek-file", kekFile, tc.flag, file("target", tc.content), "--out", "-"}, tc.more...)
			if name == "PEM" || name == "PKCS1" {
				args = append(args, "--kek-id", kekID)
			}
			code, stdout, stderr := runHere(t.Context(), args...)
			if code != exitOK || stderr != "" {
				t.Fatalf("%s, %s: exit code %d, %s", name, tc.flag, code, stderr)
			}
			if got := unwrapByHand(t, kek, stdout); !bytes.Equal(got, tc.want) {
				t.Errorf("%s, %s: another key", name, tc.flag)
			}
		}
	}
}

func unwrapByHand(t *testing.T, kek *rsa.PrivateKey, file string) []byte {
	t.Helper()
	var blob struct {
		Schema string `json:"schema_version"`
		Header struct {
			Kid, Alg, Enc string
		}
		Ciphertext, Generator string
	}
	if err := json.Unmarshal([]byte(file), &blob); err != nil {
		t.Fatal(err)
	}
	if h := blob.Header; blob.Schema != "1.0.0" || h.Kid != kekID || h.Alg != "dir" || h.Enc != "CKM_RSA_AES_KEY_WRAP" || !strings.HasPrefix(blob.Generator, "strongroom ") {
		t.Errorf("%+v", blob)
	}
	wrapped, err := base64.RawURLEncoding.DecodeString(blob.Ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	key, err := rsa.DecryptOAEP(sha1.New(), nil, kek, wrapped[:kek.Size()], nil)
	if err != nil || len(key) != 32 {
		t.Fatalf("%d bytes, %v", len(key), err)
	}
	kwp, err := tink.NewKWP(key)
	if err != nil {
		t.Fatal(err)
	}
	target, err := kwp.Unwrap(wrapped[kek.Size():])
	if err != nil {
		t.Fatal(err)
	}
	return target
}

func TestBYOKWrapRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func(name, content string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	kek, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	odd, err := rsa.GenerateKey(rand.Reader, 2056)
	if err != nil {
		t.Fatal(err)
	}
	kekJSON := func(more string) string {
		return fmt.Sprintf(`{"key":{"kty":"RSA-HSM","kid":%q,"n":%q,"e":"AQAB"%s}}`, kekID, base64.RawURLEncoding.EncodeToString(kek.N.Bytes()), more)
	}
	even := rsa.PublicKey{N: new(big.Int).SetBit(kek.N, 0, 0), E: 65537}
	three := rsa.PublicKey{N: kek.N, E: 3}
	public := func(key *rsa.PrivateKey) string {
		return pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&key.PublicKey))
	}
	good, pemKey, oct := file("kek.pem", public(kek)), file("key.pem", koblitzPKCS8), file("oct", strings.Repeat("k", 32))
	for _, tc := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--kek-file", good, "--key-file", pemKey}, exitUsage, "--kek-id is missing"},
		{[]string{"--kek-file", "-", "--key-file", "-"}, exitFailed, "neither PEM nor JSON"},
		{[]string{"--kek-file", good, "--kek-id", kekID, "--key-file", "-", "--pem-password", "@-"}, exitUsage, "--key-file and --pem-password cannot both"},
		{[]string{"--kek-file", good, "--kek-id", "http://v/keys/k/1", "--key-file", pemKey}, exitUsage, "not the https URL"},
		{[]string{"--kek-file", good, "--kek-id", "https://v/keys/k", "--key-file", pemKey}, exitUsage, "a version of a key"},
		{[]string{"--kek-file", good, "--kek-id", "https://v/secrets/k/1", "--key-file", pemKey}, exitUsage, "a version of a key"},
		{[]string{"--kek-file", good, "--kek-id", kekID}, exitUsage, "give --key-file or --oct-file"},
		{[]string{"--kek-file", good, "--kek-id", kekID, "--key-file", pemKey, "--oct-file", oct}, exitUsage, "none of the others can be"},
		{[]string{"--kek-file", file("a", public(odd)), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, "has 2056 bits"},
		{[]string{"--kek-file", file("i", pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&even))), "--kek-id", kekID, "--key-file", pemKey},
			exitFailed, "even modulus"},
		{[]string{"--kek-file", file("j", pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&three))), "--kek-id", kekID, "--key-file", pemKey},
			exitFailed, "exponent 3"},
		{[]string{"--kek-file", file("k", kekJSON(`,"keyOps":["wrapKey"]`)), "--key-file", pemKey}, exitFailed, "--ops import"},
		{[]string{"--kek-file", file("l", kekJSON(`,"key_ops":[]`)), "--key-file", pemKey}, exitFailed, "--ops import"},
		{[]string{"--kek-file", file("m", kekJSON("")), "--kek-id", kekID[:len(kekID)-1] + "0", "--key-file", pemKey}, exitUsage, "the file has the key " + kekID},
		{[]string{"--kek-file", good, "--kek-id", kekID, "--key-file", file("n", pkcs8Of(t, odd))}, exitFailed, "the RSA key has 2056 bits"},
		{[]string{"--kek-file", file("b", koblitzPublic), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, "--kek-file"},
		{[]string{"--kek-file", file("c", koblitzPKCS8), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, "the public part is needed"},
		{[]string{"--kek-file", file("d", `{"kty":"EC"}`), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, `a key of type "EC"`},
		{[]string{"--kek-file", file("e", `{"kty":"RSA","n":"!","e":"AQAB"}`), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, "not base64"},
		{[]string{"--kek-file", file("f", `{"kty":"RSA"}`), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, "n or e is missing"},
		{[]string{"--kek-file", file("g", "x"), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, "neither PEM nor JSON"},
		{[]string{"--kek-file", good, "--kek-id", kekID, "--oct-file", file("h", strings.Repeat("k", 33))}, exitFailed, "holds 33 bytes"},
		{[]string{"--kek-file", good, "--kek-id", kekID, "--key-file", good}, exitFailed, "no private key, but PEM of the type RSA PUBLIC KEY"},
		{[]string{"--kek-file", good, "--kek-id", kekID, "--key-file", pemKey, "--out", pemKey}, exitFailed, "exists already"},
	} {
		args := append([]string{"key", "byok-wrap", "--out", filepath.Join(dir, "out")}, tc.args...)
		code, stdout, stderr := runHere(t.Context(), args...)
		if code != tc.code || stdout != "" || !strings.Contains(stderr, tc.want) {
			t.Errorf("%v: exit code %d, %s", tc.args, code, stderr)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "out")); err == nil {
		t.Error("a refused wrapping left a file")
	}
}

// The vault's rule on SHA-1 is the wrapper's, too. GODEBUG is read when a process starts.
func TestBYOKWrapUnderFIPS(t *testing.T) {
	t.Parallel()
	if !fips140.Enforced() {
		self, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestBYOKWrapUnderFIPS$", "-test.v")
		cmd.Env = append(os.Environ(), "GODEBUG=fips140=only")
		if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS: TestBYOKWrapUnderFIPS") {
			t.Errorf("under fips140=only: %v\n%s", err, out)
		}
		return
	}
	code, stdout, stderr := runHere(t.Context(), "key", "byok-wrap", "--kek-file", "none", "--oct-file", "none", "--out", "-")
	if code != exitFailed || stdout != "" || !strings.Contains(stderr, "SHA-1") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// Others' eyes on a private key are worth a word.
func TestPrivateFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		cmd := commandWith(t, "")
		in := inputs{cmd: cmd}
		if _, err := in.privateFile("key-file", path); err != nil {
			t.Fatal(err)
		}
		if got := cmd.ErrOrStderr().(*bytes.Buffer).String(); strings.Contains(got, "chmod 600 "+path) != want || !want && got != "" {
			t.Errorf("%04o: %q", mode, got)
		}
		cmd = commandWith(t, "")
		in = inputs{cmd: cmd}
		if _, err := in.private("pem-string", "@"+path); err != nil {
			t.Fatal(err)
		}
		if got := cmd.ErrOrStderr().(*bytes.Buffer).String(); strings.Contains(got, "chmod 600 "+path) != want || !want && got != "" {
			t.Errorf("%04o, with @: %q", mode, got)
		}
	}
}
