package e2e

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// An azurite is a blob storage of one account, over HTTPS with a certificate of its own.
type azurite struct {
	url     string // of the account
	host    string // of the account, with port, as in Azure; the name is published
	account string
	key     string
	ca      string // file with the certificate
}

// storageDomain has the accounts of the storage below it.
const storageDomain = ".blob.storage.test"

// startAzurite starts the storage and ends it with the test.
func startAzurite(t *testing.T) azurite {
	t.Helper()
	dir := t.TempDir()
	key := make([]byte, 64)
	rand.Read(key)
	a := azurite{account: "devstoreaccount1", key: base64.StdEncoding.EncodeToString(key), ca: filepath.Join(dir, "certificate.pem")}
	writeCertificate(t, a.ca, filepath.Join(dir, "key.pem"))

	program, err := filepath.Abs("../.tools/azurite/node_modules/azurite/dist/src/blob/main.js")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("node", program, "--blobPort", "0", "--cert", a.ca, "--key", filepath.Join(dir, "key.pem"),
		"--oauth", "basic", "--inMemoryPersistence", "--disableTelemetry", "--silent")
	cmd.Env = append(cleanEnvironment(t), "AZURITE_ACCOUNTS="+a.account+":"+a.key)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output := new(log)
	cmd.Stderr = output
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// It has nothing to keep.
		if err := cmd.Process.Kill(); err != nil {
			t.Errorf("the storage is gone: %v\n%s", err, output)
		}
		cmd.Wait() // says that it was killed
	})
	address := awaitAzurite(t, bufio.NewScanner(stdout), output)
	a.url, a.host = address+"/"+a.account, a.account+storageDomain+address[strings.LastIndex(address, ":"):]
	addHosts(t, fmt.Appendf(nil, "127.0.0.1 %s%s\n", a.account, storageDomain))
	return a
}

var azuriteAddress = regexp.MustCompile(`https://127\.0\.0\.1:[0-9]+`)

// awaitAzurite reads what the storage prints until it says where it listens, and the rest afterwards.
func awaitAzurite(t *testing.T, lines *bufio.Scanner, output *log) string {
	t.Helper()
	address := make(chan string, 1)
	go func() {
		defer close(address)
		for lines.Scan() {
			output.Write(append(lines.Bytes(), '\n'))
			if found := azuriteAddress.FindString(lines.Text()); found != "" && cap(address) > len(address) {
				address <- found
			}
		}
	}()
	select {
	case found, ok := <-address:
		if ok {
			return found
		}
	case <-time.After(time.Minute):
	}
	t.Fatalf("the storage did not start:\n%s", output)
	return ""
}

// writeCertificate writes a certificate for the storage on the loopback address, signed by itself, and its key.
func writeCertificate(t *testing.T, certificateFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"*" + storageDomain}, IsCA: true, BasicConstraintsValid: true,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		certificateFile: {Type: "CERTIFICATE", Bytes: certificate}, keyFile: {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAzurite runs the tests of internal/backup that need a storage, which were compiled with the tag azurite.
func TestAzurite(t *testing.T) {
	t.Parallel()
	a := startAzurite(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program(backupProgram), "-test.v", "-test.count=1", "-test.run=^TestAzurite")
	cmd.Env = append(cleanEnvironment(t), "STRONGROOM_AZURITE_URL="+a.url, "STRONGROOM_AZURITE_CA="+a.ca,
		"STRONGROOM_AZURITE_ACCOUNT="+a.account, "STRONGROOM_AZURITE_KEY="+a.key)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("%s", out)
}
