package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/strongroom/strongroom/internal/backup/backuptest"
	"github.com/strongroom/strongroom/securitydomain"
)

// The scripts start the program itself: this test binary under the name strongroom.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"strongroom": main})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("STRONGROOM_DATA", filepath.Join(env.WorkDir, "data"))
			env.Setenv("GORACE", "atexit_sleep_ms=0") // or each of the many processes waits a second to end
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"activate":    activate,
			"capture":     capture,
			"certificate": certificate,
			"damage":      damage,
			"damagepages": damagePages,
			"edit":        edit,
			"mode":        mode,
			"member":      member,
			"owner":       owner,
			"storage":     func(ts *testscript.TestScript, _ bool, _ []string) { storage(t, ts) },
		},
	})
}

// activate HSM activates a managed HSM of the server by the download of its security domain, which nobody keeps.
func activate(ts *testscript.TestScript, _ bool, args []string) {
	h := hsmTarget{name: args[0], reach: reach{where: place{data: ts.Getenv("STRONGROOM_DATA")}}}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := h.connect(ctx)
	ts.Check(err)
	var certificates []*x509.Certificate
	for range 3 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		ts.Check(err)
		template := &x509.Certificate{SerialNumber: big.NewInt(1)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		ts.Check(err)
		certificate, err := x509.ParseCertificate(der)
		ts.Check(err)
		certificates = append(certificates, certificate)
	}
	info, err := securitydomain.NewCertificateInfo(2, certificates...)
	ts.Check(err)
	client, err := securitydomain.NewClient(c.vaultURL, c.credential, &securitydomain.ClientOptions{ClientOptions: c.options})
	ts.Check(err)
	_, err = client.BeginDownload(ctx, info, nil)
	ts.Check(err)
}

// capture VARIABLE REGEXP sets a variable to the first submatch in the last standard output.
func capture(ts *testscript.TestScript, _ bool, args []string) {
	m := regexp.MustCompile(`(?m)` + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if m == nil {
		ts.Fatalf("%s does not match the output", args[1])
	}
	ts.Setenv(args[0], m[1])
}

// certificate FILE [NAME...] makes an RSA key and a certificate for it, as PEM in one file.
func certificate(ts *testscript.TestScript, _ bool, args []string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour), DNSNames: args[1:],
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	ts.Check(err)
	content := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), content, 0o600))
}

// owner NAME [PASSWORD] makes the key of an owner of a security domain, NAME.key, and its certificate, NAME.cer.
func owner(ts *testscript.TestScript, _ bool, args []string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	block := &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}
	if len(args) > 1 {
		block, err = x509.EncryptPEMBlock(rand.Reader, block.Type, block.Bytes, []byte(args[1]), x509.PEMCipherAES256) //lint:ignore SA1019 owners have such files
		ts.Check(err)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".key"), pem.EncodeToMemory(block), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".cer"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
}

// storage starts a storage for backups: STORAGE is the address of a container, sas.txt holds what opens it, and storage.yaml is what
// a server's configuration says of it.
func storage(t *testing.T, ts *testscript.TestScript) {
	f := backuptest.New(t)
	ts.Setenv("STORAGE", f.Address())
	ts.Check(os.WriteFile(ts.MkAbs("sas.txt"), []byte(backuptest.SAS+"\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("storage-ca.pem"), f.Authority(), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs("storage.yaml"), []byte("backup:\n  hosts: [\""+f.Listener.Addr().String()+"\"]\n  ca: storage-ca.pem\n"), 0o600))
}

// member FILE PATH WANT compares a member of a JSON file (or stdout), as JSON text. PATH is "a.b"; a number is an index.
func member(ts *testscript.TestScript, neg bool, args []string) {
	var v any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile(args[0])), &v))
	for name := range strings.SplitSeq(args[1], ".") {
		switch in := v.(type) {
		case map[string]any:
			inner, ok := in[name]
			if !ok {
				ts.Fatalf("there is no member %s in %v", name, in)
			}
			v = inner
		case []any:
			var i int
			_, err := fmt.Sscan(name, &i)
			ts.Check(err)
			v = in[i]
		default:
			ts.Fatalf("%v has no members", v)
		}
	}
	got, err := json.Marshal(v)
	ts.Check(err)
	if (string(got) == args[2]) == neg {
		ts.Fatalf("%s is %s, want %s (negated: %v)", args[1], got, args[2], neg)
	}
}

// mode WANT FILE... compares permissions.
func mode(ts *testscript.TestScript, _ bool, args []string) {
	for _, file := range args[1:] {
		info, err := os.Stat(ts.MkAbs(file))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
			ts.Fatalf("%s has mode %s, want %s", file, got, args[0])
		}
	}
}

// edit FILE OLD NEW replaces the first occurrence, which must exist.
func edit(ts *testscript.TestScript, _ bool, args []string) {
	content := ts.ReadFile(args[0])
	if !strings.Contains(content, args[1]) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	path := ts.MkAbs(args[0])
	info, err := os.Stat(path)
	ts.Check(err)
	ts.Check(os.WriteFile(path, []byte(strings.Replace(content, args[1], args[2], 1)), info.Mode()))
}

// damage FILE KEY flips one bit of the sealed value behind each copy of a key that ends in KEY: the database keeps key and
// value side by side, and old copies until their pages are used again.
func damage(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	raw, err := os.ReadFile(path)
	ts.Check(err)
	found := 0
	for at := 0; ; {
		i := bytes.Index(raw[at:], []byte(args[1]))
		if i < 0 {
			break
		}
		at += i + len(args[1])
		raw[min(at+80, len(raw)-1)] ^= 0x10
		found++
	}
	if found == 0 {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(path, raw, 0o600))
}

// damagePages FILE makes every page of a database but the two that describe it one of a kind that there is not.
func damagePages(ts *testscript.TestScript, _ bool, args []string) {
	const kind = 8 // where a page's kind is in its header
	path := ts.MkAbs(args[0])
	raw, err := os.ReadFile(path)
	ts.Check(err)
	page := os.Getpagesize()
	for at := 2*page + kind; at < len(raw); at += page {
		raw[at] |= 0x40
	}
	ts.Check(os.WriteFile(path, raw, 0o600))
}
