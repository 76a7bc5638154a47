package e2e

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"
)

// storageVersion is of the storage's wire.
const storageVersion = "2021-12-02"

// sign makes a SAS token of values and of what stands among them in the text that is signed.
func (a azurite) sign(t *testing.T, values url.Values, text ...string) string {
	t.Helper()
	key, err := base64.StdEncoding.DecodeString(a.key)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(strings.Join(text, "\n")))
	values.Set("sig", base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	return values.Encode()
}

// token opens a container for all that a backup and a restore need.
func (a azurite) token(t *testing.T, container string, expires time.Time) string {
	t.Helper()
	const permissions = "rcwdl"
	start, end := time.Now().Add(-2*time.Hour).UTC().Format(time.RFC3339), expires.UTC().Format(time.RFC3339)
	values := url.Values{"sp": {permissions}, "st": {start}, "se": {end}, "spr": {"https"}, "sv": {storageVersion}, "sr": {"c"}}
	return a.sign(t, values, permissions, start, end, "/blob/"+a.account+"/"+container, "", "", "https", storageVersion, "c",
		"", "", "", "", "", "", "")
}

// createContainer makes a container and returns its address.
func (a azurite) createContainer(t *testing.T, name string) string {
	t.Helper()
	end := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	values := url.Values{"sp": {"c"}, "ss": {"b"}, "srt": {"c"}, "se": {end}, "spr": {"https"}, "sv": {storageVersion}}
	all := a.sign(t, values, a.account, "c", "b", "c", "", end, "", "https", storageVersion, "", "")

	authority, err := os.ReadFile(a.ca)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: time.Minute}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPut, a.containerURL(name)+"?restype=container&"+all, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("x-ms-version", storageVersion)
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		body, _ := io.ReadAll(resp.Body)
		t.Fatalf("the container %s: %s: %s", name, resp.Status, body)
	}
	return a.containerURL(name)
}

func (a azurite) containerURL(name string) string { return "https://" + a.host + "/" + name }

// signature is the part of a SAS token that opens something.
func signature(t *testing.T, token string) string {
	t.Helper()
	values, err := url.ParseQuery(token)
	if err != nil || len(values.Get("sig")) < 40 {
		t.Fatalf("a SAS token without a signature: %v", err)
	}
	return values.Get("sig")
}

// variables makes a container and tells a program of it, of tokens for it, and of a container that there is not.
func (a azurite) variables(t *testing.T, name string) map[string]string {
	t.Helper()
	missing := name + "-missing"
	return map[string]string{
		"E2E_CONTAINER":         a.createContainer(t, name),
		"E2E_SAS":               a.token(t, name, time.Now().Add(time.Hour)),
		"E2E_EXPIRED_SAS":       a.token(t, name, time.Now().Add(-time.Hour)),
		"E2E_MISSING_CONTAINER": a.containerURL(missing),
		"E2E_MISSING_SAS":       a.token(t, missing, time.Now().Add(time.Hour)),
	}
}

// backupSuites are the programs that back up and restore managed HSMs. There is none in JavaScript: its client for administration is not
// to be had.
func backupSuites(t *testing.T) []suite {
	return []suite{
		{"go", "go", goClient("TestHSMBackup")},
		{"package", "go", goClient("TestHSMBackupByPackage")},
		{"python", "python", pythonClient(t, "test_hsmbackup.py")},
		{"python-async", "python", pythonClient(t, "test_hsmbackup_async.py")},
		{"java", "java", javaClient(t, "HSMBackup")},
	}
}

// startWithStorage starts a storage, and a server that may put backups there.
func startWithStorage(t *testing.T, domain, listen string) (*configuredServer, azurite) {
	t.Helper()
	storage := startAzurite(t)
	port := storage.host[strings.LastIndex(storage.host, ":"):]
	return startConfigured(t, domain, func(config string, _ *issuer) string {
		return config + fmt.Sprintf("\nbackup:\n  hosts: [%q]\n  ca: %s\n", "*"+storageDomain+port, storage.ca)
	}, "--listen", listen), storage
}

// TestHSMBackup: managed HSMs are backed up, restored as a whole and key by key, with Azurite as the storage, over HTTPS.
func TestHSMBackup(t *testing.T) {
	t.Parallel()
	s, storage := startWithStorage(t, "backup.test", "127.0.0.1:8454")
	s.publishHosts(t)
	who, other := s.credentials(t, "administrator.json"), s.createStranger(t)
	variables := make(map[string]map[string]string)
	for _, suite := range backupSuites(t) {
		variables[suite.name] = storage.variables(t, "for-"+suite.name)
		s.private["a SAS token for "+suite.name] = signature(t, variables[suite.name]["E2E_SAS"])
	}
	for _, suite := range backupSuites(t) {
		t.Run(suite.name, func(t *testing.T) {
			t.Parallel()
			one, second, third := "from-"+suite.name, "to-"+suite.name, "foreign-"+suite.name
			s.createHSMs(t, one, second, third)
			s.activate(t, t.TempDir(), one, second)
			s.activate(t, t.TempDir(), third, "") // with a domain of its own
			set := map[string]string{
				"E2E_HSM": s.urlOf(one + hsmDomain), "E2E_OTHER_HSM": s.urlOf(second + hsmDomain), "E2E_FOREIGN_HSM": s.urlOf(third + hsmDomain),
				"E2E_OBJECT": who.ObjectID, "E2E_STRANGER_OBJECT": other.objectID,
			}
			maps.Copy(set, variables[suite.name])
			clientRun{server: s.server, language: suite.language, credential: "secret", program: suite.program, set: set}.do(t)
			for name, operations := range map[string][]string{
				one:    {"BackupStart", "BackupStatusGet", "SelectiveKeyRestoreStart"},
				second: {"BackupStart", "RestoreStart", "RestoreStatusGet"},
			} {
				done := s.operations(t, name)
				for _, operation := range operations {
					if done[operation] == 0 {
						t.Errorf("the audit log has no success of %s in %s, only %v", operation, name, done)
					}
				}
			}
		})
	}
}
