// Package strongroomtest starts a real Strongroom inside a Go test: real storage in a temporary folder, real TLS on
// loopback, a real token service, and clients that are ready to use.
//
//	func TestMyProgram(t *testing.T) {
//		s := strongroomtest.Start(t, nil)
//		client, err := azsecrets.NewClient(s.VaultURL, s.Credential, &azsecrets.ClientOptions{ClientOptions: s.ClientOptions()})
//		…
//	}
//
// Nothing outlives the test. Names such as test.vault.localhost need no resolver: the clients dial loopback themselves.
package strongroomtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

// Options change what Start starts. A nil *Options is the default.
type Options struct {
	Vault string // name of the vault; default "test"
	Dir   string // data folder; default a new temporary one. A folder of an earlier Start is opened again

	// HSMs are names of managed HSMs, each activated with a security domain of its own. Server.CreateHSM makes others.
	HSMs []string

	// Now is the server's clock, by which HTTPClient judges certificates too; default time.Now. Azure's own clients keep
	// tokens by the real time.
	Now func() time.Time

	// Config changes the configuration before the server starts, by its YAML form: "limits: {requestsPerPrincipal: 2}".
	Config string
}

// A Server is a running Strongroom.
type Server struct {
	VaultURL   string // https://test.vault.localhost:12345
	Authority  string // https://login.localhost:12345
	TenantID   string
	ClientID   string // of the administrator of the vault
	ObjectID   string
	Secret     string
	Dir        string // the data folder
	Credential azcore.TokenCredential

	identityEndpoint string
	identityHeader   string
	operations       string
	domain           string
	port             string
	pool             *x509.CertPool
	now              func() time.Time
	log              *syncBuffer
	client           *http.Client
	server           *server.Server
	admin            *admin.Client
	stop             func() error
}

// Start starts a server with one vault and stops it when the test ends. The test fails if the server does not start, or
// does not stop cleanly.
func Start(t testing.TB, opts *Options) *Server {
	t.Helper()
	if opts == nil {
		opts = &Options{}
	}
	s, err := start(t, *opts)
	if err != nil {
		t.Fatalf("strongroomtest: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(); err != nil {
			t.Errorf("strongroomtest: %v", err)
		}
		if t.Failed() {
			t.Logf("the server's log:\n%s", s.log)
		}
	})
	return s
}

func start(t testing.TB, opts Options) (*Server, error) {
	if opts.Vault == "" {
		opts.Vault = "test"
	}
	if opts.Dir == "" {
		opts.Dir = filepath.Join(t.TempDir(), "data")
	}
	cfg, err := server.DevConfig(opts.Dir, []string{"127.0.0.1:0"})
	if err != nil {
		return nil, err
	}
	cfg.ManagedIdentity.Listen = "127.0.0.1:0"
	cfg.Operations.Listen = "127.0.0.1:0"
	if err := cfg.Merge([]byte(opts.Config)); err != nil {
		return nil, err
	}
	log := new(syncBuffer)
	ctx := context.Background()
	sopts := server.Options{Log: slog.New(slog.NewJSONHandler(log, nil)), Now: opts.Now, SKU: "premium"}
	if _, err := server.Init(ctx, cfg, sopts, opts.Vault); err != nil {
		return nil, err
	}
	srv, err := server.Open(ctx, cfg, sopts)
	if err != nil {
		return nil, err
	}
	serving, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(serving) }()

	s := &Server{log: log, Dir: cfg.Data, domain: cfg.Domain, now: opts.Now}
	s.stop = sync.OnceValue(func() error {
		cancel()
		s.client.CloseIdleConnections()
		return <-ended
	})
	if err := s.prepare(srv, opts); err != nil {
		s.client = new(http.Client)
		return nil, fmt.Errorf("%w (stopping: %v)", err, s.stop())
	}
	return s, nil
}

// prepare fills in what a client needs to know.
func (s *Server) prepare(srv *server.Server, opts Options) error {
	st := srv.Status()
	s.port = st.Port
	s.server = srv
	s.VaultURL = srv.VaultURL(opts.Vault)
	s.VaultURL = s.VaultURL[:len(s.VaultURL)-1]
	s.Authority = "https://login." + st.Domain + ":" + st.Port
	s.TenantID = st.TenantID
	s.identityEndpoint, s.operations = st.IdentityEndpoint, st.Operations
	s.admin = admin.NewClient(s.Dir)

	administrator, err := server.ReadCredentials(filepath.Join(s.Dir, server.AdministratorFile))
	if err != nil {
		return err
	}
	s.ClientID, s.ObjectID, s.Secret = administrator.ClientID, administrator.ObjectID, administrator.Secret
	machine, err := server.ReadCredentials(filepath.Join(s.Dir, server.ManagedIdentityFile))
	if err != nil {
		return err
	}
	s.identityHeader = machine.Secret

	ca, err := os.ReadFile(srv.CAFile())
	if err != nil {
		return err
	}
	s.pool = x509.NewCertPool()
	s.pool.AppendCertsFromPEM(ca)
	s.client = &http.Client{Transport: s.transport()}
	s.Credential, err = azidentity.NewClientSecretCredential(s.TenantID, s.ClientID, s.Secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: s.ClientOptions(), DisableInstanceDiscovery: true})
	for _, name := range opts.HSMs {
		if err == nil {
			_, err = srv.CreateHSM(context.Background(), server.NewHSM{Name: name, Administrators: []string{s.ObjectID}})
		}
	}
	return err
}

// transport dials loopback whatever the name, and trusts the server's authority and no other.
func (s *Server) transport() *http.Transport {
	var d net.Dialer
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			_, port, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			return d.DialContext(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
		},
		TLSClientConfig:     &tls.Config{RootCAs: s.pool, Time: s.now},
		ForceAttemptHTTP2:   true,
		MaxIdleConnsPerHost: 64,
	}
}

// Stop stops the server before the test ends. It may be called more than once.
func (s *Server) Stop() error { return s.stop() }

// HTTPClient is a client that reaches the server by its names and trusts it.
func (s *Server) HTTPClient() *http.Client { return s.client }

// ClientOptions are options for Azure clients and credentials that reach the server.
func (s *Server) ClientOptions() azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: s.Authority},
		Transport: s.client,
	}
}

// Secrets returns a client for the vault's secrets.
func (s *Server) Secrets(t testing.TB) *azsecrets.Client {
	t.Helper()
	client, err := azsecrets.NewClient(s.VaultURL, s.Credential, &azsecrets.ClientOptions{ClientOptions: s.ClientOptions()})
	if err != nil {
		t.Fatalf("strongroomtest: %v", err)
	}
	return client
}

// Keys returns a client for the vault's keys. The vault is of the tier premium, so it has all types of keys.
func (s *Server) Keys(t testing.TB) *azkeys.Client {
	t.Helper()
	client, err := azkeys.NewClient(s.VaultURL, s.Credential, &azkeys.ClientOptions{ClientOptions: s.ClientOptions()})
	if err != nil {
		t.Fatalf("strongroomtest: %v", err)
	}
	return client
}

// HSMURL is the URL of a managed HSM: https://pool.managedhsm.localhost:12345.
func (s *Server) HSMURL(name string) string { return strings.TrimSuffix(s.server.HSMURL(name), "/") }

// HSMKeys is Keys for a managed HSM.
func (s *Server) HSMKeys(t testing.TB, name string) *azkeys.Client {
	t.Helper()
	client, err := azkeys.NewClient(s.HSMURL(name), s.Credential, &azkeys.ClientOptions{ClientOptions: s.ClientOptions()})
	if err != nil {
		t.Fatalf("strongroomtest: %v", err)
	}
	return client
}

// HSMOptions say how CreateHSM makes a managed HSM. The zero value is one that is activated with a security domain of its own.
type HSMOptions struct {
	NotActivated   bool     // leave the activation to the test: by a security domain's download or upload
	DomainOf       string   // the managed HSM whose security domain it has; empty: a new one
	Administrators []string // object ids, beside the server's administrator
}

// CreateHSM makes a managed HSM and returns its URL. Its administrators may do everything in it.
func (s *Server) CreateHSM(t testing.TB, name string, opts HSMOptions) string {
	t.Helper()
	url, err := s.server.CreateHSM(context.Background(), server.NewHSM{
		Name: name, NotActivated: opts.NotActivated, DomainOf: opts.DomainOf, Administrators: append(opts.Administrators, s.ObjectID),
	})
	if err != nil {
		t.Fatalf("strongroomtest: %v", err)
	}
	return strings.TrimSuffix(url, "/")
}

// GiveHSMRole gives a principal (object id) one of a managed HSM's own roles (the id of its definition), at "/", "/keys" or
// "/keys/<name>".
func (s *Server) GiveHSMRole(t testing.TB, hsm, scope, role, principal string) {
	t.Helper()
	if err := s.server.GiveHSMRole(context.Background(), hsm, scope, role, principal); err != nil {
		t.Fatalf("strongroomtest: %v", err)
	}
}

// ManagedIdentity returns the two variables from which programs get tokens of the managed identity without a credential:
// IDENTITY_ENDPOINT and IDENTITY_HEADER.
func (s *Server) ManagedIdentity() (endpoint, header string) {
	return s.identityEndpoint, s.identityHeader
}

// OperationsURL is where health and metrics are.
func (s *Server) OperationsURL() string { return s.operations }

// CAFile is the PEM file of the authority that signed the server's certificate.
func (s *Server) CAFile() string { return filepath.Join(s.Dir, "ca.pem") }

// CreateVault makes another vault, which the administrator and the given principals (object ids) may administer, and
// returns its URL.
func (s *Server) CreateVault(t testing.TB, name string, administrators ...string) string {
	t.Helper()
	url, err := s.server.CreateVault(context.Background(),
		server.NewVault{Name: name, RetentionDays: 7, Administrators: append(administrators, s.ObjectID)})
	if err != nil {
		t.Fatalf("strongroomtest: %v", err)
	}
	return strings.TrimSuffix(url, "/")
}

// Token returns an access token for the vaults, straight from the token service.
func (s *Server) Token(t testing.TB, clientID, secret string) string {
	t.Helper()
	return s.token(t, "vault", clientID, secret)
}

// HSMToken is Token for the managed HSMs.
func (s *Server) HSMToken(t testing.TB, clientID, secret string) string {
	t.Helper()
	return s.token(t, "managedhsm", clientID, secret)
}

func (s *Server) token(t testing.TB, resource, clientID, secret string) string {
	t.Helper()
	resp, err := s.client.PostForm(s.Authority+"/"+s.TenantID+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {clientID}, "client_secret": {secret},
		"scope": {"https://" + resource + "." + s.domain + ":" + s.port + "/.default"},
	})
	if err != nil {
		t.Fatalf("strongroomtest: %v", err)
	}
	defer resp.Body.Close()
	var out struct {
		AccessToken string `json:"access_token"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.AccessToken == "" {
		t.Fatalf("strongroomtest: no token: %v %s", err, out.Description)
	}
	return out.AccessToken
}

// A Principal is an application with a client secret.
type Principal struct {
	ClientID, ObjectID, Secret string
	Credential                 azcore.TokenCredential
}

// CreatePrincipal makes an application that may do nothing yet.
func (s *Server) CreatePrincipal(t testing.TB, name string) Principal {
	t.Helper()
	ctx := context.Background()
	var app admin.App
	var secret admin.Credential
	err := s.admin.Do(ctx, http.MethodPost, "/apps", admin.App{DisplayName: name}, &app)
	if err == nil {
		err = s.admin.Do(ctx, http.MethodPost, "/apps/"+app.ClientID+"/credentials", admin.NewCredential{Type: "secret"}, &secret)
	}
	p := Principal{ClientID: app.ClientID, ObjectID: app.ObjectID, Secret: secret.Secret}
	if err == nil {
		p.Credential, err = azidentity.NewClientSecretCredential(s.TenantID, p.ClientID, p.Secret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: s.ClientOptions(), DisableInstanceDiscovery: true})
	}
	if err != nil {
		t.Fatalf("strongroomtest: %v", err)
	}
	return p
}

// AuditLog returns the records of the audit log so far.
func (s *Server) AuditLog(t testing.TB) []map[string]any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(s.Dir, "audit", "audit.jsonl"))
	if err != nil {
		t.Fatalf("strongroomtest: %v", err)
	}
	var out []map[string]any
	for line := range bytes.Lines(raw) {
		var rec map[string]any
		if err := json.Unmarshal(line, &rec); err != nil {
			t.Fatalf("strongroomtest: audit log: %v", err)
		}
		out = append(out, rec)
	}
	return out
}

// Log returns what the server has logged so far, a JSON object a line.
func (s *Server) Log() string { return s.log.String() }

// syncBuffer collects the server's log.
type syncBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
