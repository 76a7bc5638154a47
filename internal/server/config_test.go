package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const goodConfig = `
domain: Example.ORG
data: data
rootKey: {file: /keys/root.key}
`

func readConfig(t *testing.T, text string) (*Config, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "strongroom.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return ReadConfig(path)
}

func TestConfigDefaults(t *testing.T) {
	t.Parallel()
	cfg, err := readConfig(t, goodConfig)
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Domain != "example.org" || !filepath.IsAbs(cfg.Data) || cfg.Audit.File != filepath.Join(cfg.Data, "audit", "audit.jsonl") ||
		*cfg.Audit.Sync != time.Second || len(cfg.Listen) != 2 || cfg.ManagedIdentity.Listen != "" || !*cfg.Log.Requests || cfg.Operations.Pprof {
		t.Errorf("defaults: %+v", cfg)
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"", "empty"},
		{"a: [", "line"},
		{goodConfig + "lissten: []", `line 5: unknown key "lissten"; did you mean "listen"?`},
		{goodConfig + "tls: {cert: x}", `unknown key "cert"; did you mean "certificate"?`},
		{goodConfig + "issuers:\n- isuer: x", `line 6: unknown key "isuer"; did you mean "issuer"?`},
		{goodConfig + "zzzzzzzz: 1", `unknown key "zzzzzzzz"; known are aliases, audit`},
		{goodConfig + "---\ndomain: x", "more than one document"},
		{goodConfig + "domain: again", "line 5: domain was given already, in line 2"},
		{goodConfig + "log: {requests: perhaps}", "line 5: log.requests: give true or false"},
		{goodConfig + "limits: {requestTime: 30}", "line 5: limits.requestTime: give a duration such as 30s"},
		{goodConfig + "limits:\n  requestTime: 0", "line 6: limits.requestTime: give a duration"},
		{goodConfig + "audit: {sync: soon}", "line 5: audit.sync: give a duration such as 30s"},
		{goodConfig + "limits: {connections: many}", "line 5: limits.connections: give a whole number"},
		{goodConfig + "limits: {connections: 1.5}", "line 5: limits.connections: give a whole number"},
		{goodConfig + "listen: 127.0.0.1:8443", `line 5: listen: give a list of texts, such as ["one", "two"]`},
		{goodConfig + "listen: [[a]]", "line 5: listen[0]: give a text"},
		{goodConfig + "issuers: {issuer: x}", "line 5: issuers: give a list"},
		{goodConfig + "issuers: [x]", "line 5: issuers[0]: give settings by their names, such as algorithms"},
		{goodConfig + "issuers:\n- {issuer: 'https://x', federationOnly: 1}", "line 6: issuers[0].federationOnly: give true or false"},
		{goodConfig + "region: {a: b}", "line 5: region: give a text"},
		{goodConfig + "tls: /etc/cert.pem", "line 5: tls: give settings by their names, such as certificate"},
		{"- domain", "line 1: give settings by their names"},
		{"domain: a_b\ndata: d\nrootKey: {file: f}", `domain: "a_b" is not a domain name`},
		{"domain: x\nrootKey: {file: f}", "data: the folder is missing"},
		{"domain: x\ndata: d", "rootKey: exactly one"},
		{"domain: x\ndata: d\nrootKey: {file: f, environment: E}", "not 2"},
		{goodConfig + "listen: ['localhost:1']", "is not an IP address and a port"},
		{goodConfig + "aliases: ['*.x']", "aliases"},
		{goodConfig + "hsmAliases: ['*.x']", `hsmAliases: "*.x" is not a domain name`},
		{goodConfig + "aliases: [a.b]\nhsmAliases: [c.d, A.B]", "hsmAliases: a.b is where vaults answer"},
		{"domain: x.org\ndata: d\nrootKey: {file: f}\naliases: [managedhsm.x.org]", "hsmAliases: managedhsm.x.org is where vaults answer"},
		{goodConfig + "tls: {certificate: x}", "belong together"},
		{goodConfig + "backup: {hosts: ['https://storage.example']}", "backup.hosts: "},
		{goodConfig + "backup: {hosts: ['storage.example:x']}", "is no host"},
		{goodConfig + "audit: {sync: 2m}", "audit.sync"},
		{goodConfig + "audit: {timeout: 1ms}", "audit.timeout"},
		{goodConfig + "issuers: [{issuer: 'http://x', audiences: [a]}]", "not an https URL"},
		{goodConfig + "issuers: [{issuer: 'https://x'}]", "audiences: at least one"},
		{goodConfig + "issuers: [{issuer: 'https://x', audiences: [a], algorithms: [HS256]}]", "not a signature algorithm with public keys"},
		{goodConfig + "issuers: [{issuer: 'https://x', audiences: [a], algorithms: [none]}]", "not a signature algorithm with public keys"},
		{goodConfig + "issuers: [{issuer: 'https://x', audiences: [a], tenant: contoso}]", `tenant: "contoso" is not a GUID`},
		{goodConfig + "issuers: [{issuer: 'https://x', audiences: [a], tenant: '{5f0e7a86-7d42-4a0f-9a5f-6f1a5f8b3c11}'}]", "is not a GUID"},
		{"domain: x\ndata: d\nrootKey: {file: d/root.key}", "rootKey.file: "},
		{"domain: x\ndata: d\nrootKey: {file: d/../d/keys/root.key}", "lies in the data folder"},
		{"domain: x\ndata: d\nrootKey: {passphraseFile: d/phrase}", "rootKey.passphraseFile: "},
		{goodConfig + "listen: ['127.0.0.1:1', '127.0.0.1:1']", "listen: 127.0.0.1:1 cannot be listened on beside 127.0.0.1:1 of listen"},
		{goodConfig + "listen: ['0.0.0.0:9443']", "operations.listen: 127.0.0.1:9443 cannot be listened on beside 0.0.0.0:9443 of listen"},
		{goodConfig + "managedIdentity: {listen: '127.0.0.1:9443'}", "beside 127.0.0.1:9443 of managedIdentity.listen"},
		{goodConfig + "managedIdentity: {listen: '0.0.0.0:1'}", "not a loopback address"},
		{goodConfig + "managedIdentity: {listen: '169.254.169.254:80'}", "not a loopback address"},
		{goodConfig + "operations: {listen: '0.0.0.0:1'}", "insecureRemote"},
		{goodConfig + "operations: {hosts: ['a b']}", "operations.hosts"},
		{goodConfig + "#" + strings.Repeat("x", maxConfig), "larger than 1048576 bytes"},
		{goodConfig + "limits: {connections: -1}", "limits.connections"},
		{goodConfig + "limits: {requestTime: 1ms}", "limits.requestTime"},
		{goodConfig + "log: {level: loud}", "log.level"},
		{goodConfig + "challengeTenant: x", "challengeTenant"},
		{goodConfig + "region: \"a\\nb\"", "region"},
	} {
		_, err := readConfig(t, c.text)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q:\n got %v\nwant …%s…", c.text, err, c.want)
		}
	}
}

func TestConfigIMDSAddress(t *testing.T) {
	t.Parallel()
	if _, err := readConfig(t, goodConfig+"managedIdentity: {listen: '169.254.169.254:80', insecureIMDS: true}"); err != nil {
		t.Error(err)
	}
}

// TestConfigEmptyValues: a key without a value has its default, and aliases stand for what they name.
func TestConfigEmptyValues(t *testing.T) {
	t.Parallel()
	cfg, err := readConfig(t, goodConfig+"listen:\ntls:\nlimits: {requestTime: &time 20s, shutdownTime: *time, connections: ~}\naudit: {sync: }")
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Listen) != 2 || cfg.Limits.ShutdownTime != 20*time.Second || cfg.Limits.Connections != 10000 || *cfg.Audit.Sync != time.Second {
		t.Errorf("%+v", cfg)
	}
	if _, err := readConfig(t, goodConfig+"region: &a x\nlimits: {requestTime: *a}"); err == nil {
		t.Error("an alias brought in what is no duration")
	}
	if _, err := readConfig(t, goodConfig+"tls: &a {certificate: *a}"); err == nil {
		t.Error("an alias within itself was taken")
	}
}

// TestConfigOfDevMode: its own choices do not get in the way of an address that somebody chose, and the root key lies
// beside the data.
func TestConfigOfDevMode(t *testing.T) {
	t.Parallel()
	if _, err := DevConfig(t.TempDir(), []string{"127.0.0.1:9443"}); err != nil {
		t.Error(err)
	}
}

// TestConfigComplete checks that every key of the configuration can be written, and that its manual is there.
func TestConfigComplete(t *testing.T) {
	t.Parallel()
	_, err := readConfig(t, `
domain: example.org
data: /d
listen: ["127.0.0.1:8443", "[::1]:8443"]
aliases: [vault.azure.net]
hsmAliases: [managedhsm.azure.net]
tls: {certificate: /c, key: /k}
rootKey: {passphraseEnvironment: P}
audit: {file: "-", sync: 0s, timeout: 1s}
issuers:
- {issuer: "https://i/", tenant: 5f0e7a86-7d42-4a0f-9a5f-6f1a5f8b3c11, audiences: [a], algorithms: [ES256], ca: /ca, federationOnly: true}
managedIdentity: {listen: "127.0.0.1:2", insecureIMDS: true, arcTokenDirectory: /a}
operations: {listen: "0.0.0.0:1", insecureRemote: true, hosts: [monitor], pprof: true}
limits: {connections: 1, connectionsPerAddress: 1, requestsPerPrincipal: 1, requestTime: 1s, shutdownTime: 1s}
log: {level: debug, requests: false}
challengeTenant: adfs
region: westeurope
`)
	if err != nil {
		t.Error(err)
	}
}
