package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
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
		{[]string{"--kek-file", file("b", koblitzPublic), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, "--kek-file"},
		{[]string{"--kek-file", file("c", koblitzPKCS8), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, "the public part is needed"},
		{[]string{"--kek-file", file("d", `{"kty":"EC"}`), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, `a key of type "EC"`},
		{[]string{"--kek-file", file("e", `{"kty":"RSA","n":"!","e":"AQAB"}`), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, "not base64"},
		{[]string{"--kek-file", file("f", `{"kty":"RSA"}`), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, "n or e is missing"},
		{[]string{"--kek-file", file("g", "x"), "--kek-id", kekID, "--key-file", pemKey}, exitFailed, "neither PEM nor JSON"},
		{[]string{"--kek-file", good, "--kek-id", kekID, "--oct-file", file("h", strings.Repeat("k", 33))}, exitFailed, "holds 33 bytes"},
		{[]string{"--kek-file", good, "--kek-id", kekID, "--key-file", good}, exitFailed, "no private key in PEM"},
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
	}
}
