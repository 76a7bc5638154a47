package e2e

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// The server of TestCredentials.
const (
	configuredDomain = "strongroom.test"
	configuredVault  = "apps"
	identityListen   = "127.0.0.1:8452"
)

// A configuredServer is one that was set up with `strongroom init` and an edited configuration, and the issuer that it trusts
// with something.
type configuredServer struct {
	*server
	issuer *issuer
}

// A configEdit changes the text of a configuration so that the server trusts the issuer with something.
type configEdit func(config string, issuer *issuer) string

// startConfigured makes an installation with further flags of init, edits its configuration and starts it.
func startConfigured(t *testing.T, domain string, edit configEdit, flags ...string) *configuredServer {
	t.Helper()
	dir := t.TempDir()
	config, issuer := filepath.Join(dir, "strongroom.yaml"), startIssuer(t)
	strongroom(t, append([]string{
		"init", "--config", config, "--domain", domain, "--data", filepath.Join(dir, "data"),
		"--root-key-file", filepath.Join(dir, "root.key"), "--operations-listen", "-",
	}, flags...)...)
	raw, err := os.ReadFile(config)
	if err == nil {
		err = os.WriteFile(config, []byte(edit(string(raw), issuer)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	strongroom(t, "serve", "--check", "--config", config)
	return &configuredServer{server: start(t, []string{"--config", config}, "serve"), issuer: issuer}
}

// trustCluster adds the issuer, the managed-identity endpoints that are off by default, and the only names of vaults that the client for
// .NET has.
func trustCluster(config string, issuer *issuer) string {
	const section = "managedIdentity:\n"
	more := fmt.Sprintf("  insecureIMDS: true\n  arcTokenDirectory: %s\n", arcTokens)
	config = strings.Replace(config, "\n"+section, "\n"+section+more, 1)
	return config + fmt.Sprintf("\nissuers:\n  - issuer: %s\n    ca: %s\n    federationOnly: true\naliases:\n  - %s\n",
		issuer.url, issuer.caFile, dotnetSuffix)
}

// allCredentials gives the administrator more credentials and returns all kinds.
func (s *configuredServer) allCredentials(t *testing.T) []credentialTest {
	t.Helper()
	who := s.credentials(t, "administrator.json")
	certificate := s.addCertificate(t, who.ClientID)
	token := s.addFederated(t, who.ClientID)
	identity, err := url.Parse(s.status.IdentityEndpoint)
	if err != nil {
		t.Fatal(err)
	}

	// with returns what to set beside what `strongroom env` says.
	with := func(set map[string]string) func(string) map[string]string {
		return func(string) map[string]string { return maps.Clone(set) }
	}
	federated := func(language string) map[string]string {
		set := map[string]string{"AZURE_CLIENT_SECRET": "", "AZURE_FEDERATED_TOKEN_FILE": token}
		if language == "python" {
			set["AZURE_TENANT_ID"] = who.TenantID // asks for no discovery with this credential
		}
		return set
	}
	arc := map[string]string{
		"IDENTITY_HEADER": "", "IDENTITY_ENDPOINT": "http://" + identity.Host + "/metadata/identity/oauth2/token",
		"IMDS_ENDPOINT": "http://" + identity.Host,
	}
	return []credentialTest{
		{"client-secret", "secret", "EnvironmentCredential", with(map[string]string{})},
		{"certificate", "secret", "EnvironmentCredential", with(map[string]string{
			"AZURE_CLIENT_SECRET": "", "AZURE_CLIENT_CERTIFICATE_PATH": certificate,
		})},
		{"workload-identity", "secret", "WorkloadIdentityCredential", federated},
		{"app-service", "managed", "ManagedIdentityCredential", with(map[string]string{})},
		{"imds", "managed", "ManagedIdentityCredential", with(map[string]string{"IDENTITY_ENDPOINT": "", "IDENTITY_HEADER": ""})},
		{"arc", "managed", "ManagedIdentityCredential", with(arc)},
	}
}

// forwardMetadata makes the managed-identity endpoint answer at the metadata address, as an operator's packet filter does.
func forwardMetadata(t *testing.T, s *configuredServer) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(metadataAddress, "80"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				go forward(c, identityListen)
			}
		}
	}()
}

// forward copies bytes both ways until either side is done.
func forward(client net.Conn, address string) {
	defer client.Close()
	upstream, err := net.Dial("tcp", address)
	if err != nil {
		return
	}
	defer upstream.Close()
	go func() {
		_, _ = io.Copy(upstream, client)
		_ = upstream.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, upstream)
}
