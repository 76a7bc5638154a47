package sts

import (
	"context"
	"crypto/x509"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/strongroom/strongroom/internal/identity"
)

// The tests here run Azure's own identity library, unmodified, against the service over TLS. Only its dialler is ours,
// so that the service's names lead to loopback. Those that set variables of the environment cannot run in parallel.

func (s *service) clientOptions(t testing.TB) azcore.ClientOptions {
	t.Helper()
	return azcore.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: "https://login.example.org:8443/"},
		Transport: serveTLS(t, s),
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}
}

func (s *service) wantToken(t *testing.T, credential azcore.TokenCredential, app *identity.Application) {
	t.Helper()
	s.wantTokenFor(t, credential, app, vault)
}

func (s *service) wantTokenFor(t *testing.T, credential azcore.TokenCredential, app *identity.Application, resource string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{resource + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	caller, err := s.verifier.Verify(ctx, token.Token)
	if err != nil || caller.ObjectID != app.ObjectID || caller.Audience != resource {
		t.Errorf("caller %+v, %v", caller, err)
	}
	if left := token.ExpiresOn.Sub(s.clock.Now()); left < 58*time.Minute || left > 61*time.Minute {
		t.Errorf("the client believes that the token lives for %v", left)
	}
}

// reach is a way in which programs find a token service of their own: by variable, by tenant, or in code.
type reach struct {
	name    string
	tenant  string
	region  string
	disable bool
}

func reaches() []reach {
	return []reach{
		{name: "instance discovery off", tenant: tenant, disable: true},
		{name: "regional", tenant: tenant, region: "west"},
		{name: "AD FS", tenant: "adfs"},
		{name: "tenant domain", tenant: "shop.example.org", disable: true},
	}
}

func TestAzureClientSecret(t *testing.T) {
	s := newService(t)
	app, secret := s.appWithSecret(t)
	for _, way := range reaches() {
		t.Run(way.name, func(t *testing.T) {
			t.Setenv("AZURE_REGIONAL_AUTHORITY_NAME", way.region)
			credential, err := azidentity.NewClientSecretCredential(way.tenant, app.ClientID, secret, &azidentity.ClientSecretCredentialOptions{
				ClientOptions: s.clientOptions(t), DisableInstanceDiscovery: way.disable,
			})
			if err != nil {
				t.Fatal(err)
			}
			s.wantToken(t, credential, app)
		})
	}
}

func TestAzureClientCertificate(t *testing.T) {
	s := newService(t)
	app, certificate, key := s.appWithCertificate(t)
	for _, way := range reaches() {
		for _, chain := range []bool{false, true} {
			t.Run(way.name, func(t *testing.T) {
				t.Setenv("AZURE_REGIONAL_AUTHORITY_NAME", way.region)
				credential, err := azidentity.NewClientCertificateCredential(way.tenant, app.ClientID, []*x509.Certificate{certificate}, key,
					&azidentity.ClientCertificateCredentialOptions{
						ClientOptions: s.clientOptions(t), DisableInstanceDiscovery: way.disable, SendCertificateChain: chain,
					})
				if err != nil {
					t.Fatal(err)
				}
				s.wantToken(t, credential, app)
			})
		}
	}
}

// The authority is a name of the public cloud that DNS leads here.
func TestAzureTakeover(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, secret := s.appWithSecret(t)
	options := s.clientOptions(t)
	options.Cloud = cloud.AzurePublic
	credential, err := azidentity.NewClientSecretCredential(tenant, app.ClientID, secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	s.wantToken(t, credential, app)
}

// The authority is ours, and the client asks the public cloud whether it is known; DNS leads that question here.
func TestAzureInstanceDiscovery(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, secret := s.appWithSecret(t)
	credential, err := azidentity.NewClientSecretCredential(tenant, app.ClientID, secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: s.clientOptions(t)})
	if err != nil {
		t.Fatal(err)
	}
	s.wantToken(t, credential, app)
}

func TestAzureDSTS(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, secret := s.appWithSecret(t)
	options := s.clientOptions(t)
	options.Cloud.ActiveDirectoryAuthorityHost = "https://login.example.org:8443/dstsv2"
	credential, err := azidentity.NewClientSecretCredential(tenantDSTS, app.ClientID, secret,
		&azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	s.wantToken(t, credential, app)
}

func TestAzureRefusal(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, secret := s.appWithSecret(t)
	credential, err := azidentity.NewClientSecretCredential(tenant, app.ClientID, secret+"x", &azidentity.ClientSecretCredentialOptions{
		ClientOptions: s.clientOptions(t), DisableInstanceDiscovery: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{vault + "/.default"}})
	if err == nil || !strings.Contains(err.Error(), "AADSTS7000215") {
		t.Errorf("got %v", err)
	}
}

// The library keeps tokens of managed identities for the whole process, so each case asks for another resource, and the
// service's own record shows that it was asked.
func TestAzureManagedIdentity(t *testing.T) {
	const variables = "IDENTITY_ENDPOINT IDENTITY_HEADER MSI_ENDPOINT MSI_SECRET IMDS_ENDPOINT DEFAULT_IDENTITY_CLIENT_ID"
	s, app, other := newIdentities(t, func(c *ManagedIdentityConfig) { c.IMDS = true })
	_, secret, err := s.dir.AddIdentityHeader(t.Context(), app.ClientID, "")
	if err != nil {
		t.Fatal(err)
	}
	listener := httptest.NewServer(s.ManagedIdentityHandler())
	t.Cleanup(listener.Close)
	// The address of IMDS leads to the listener too, as a route would do it.
	transport := &http.Transport{DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, listener.Listener.Addr().String())
	}}
	t.Cleanup(transport.CloseIdleConnections)
	service := map[string]string{"IDENTITY_ENDPOINT": listener.URL + "/msi/token", "IDENTITY_HEADER": secret.Reveal()}
	learning := map[string]string{
		"MSI_ENDPOINT": listener.URL + "/msi/token", "MSI_SECRET": secret.Reveal(), "DEFAULT_IDENTITY_CLIENT_ID": app.ClientID,
	}
	first := 1 + rand.IntN(60_000)
	for i, c := range []struct {
		name        string
		environment map[string]string
		id          azidentity.ManagedIDKind
		endpoint    string
		want        *identity.Application
	}{
		{"App Service", service, nil, "appservice", app},
		{"App Service, by client id", service, azidentity.ClientID(app.ClientID), "appservice", app},
		{"App Service, by resource id", service, azidentity.ResourceID(app.ResourceID), "appservice", app},
		{"Azure ML", learning, nil, "appservice", app},
		{"Cloud Shell", map[string]string{"MSI_ENDPOINT": listener.URL + "/oauth2/token"}, nil, "cloudshell", app},
		{"IMDS", nil, nil, "imds", app},
		{"IMDS, by client id", nil, azidentity.ClientID(other.ClientID), "imds", other},
		{"IMDS, by object id", nil, azidentity.ObjectID(other.ObjectID), "imds", other},
		{"IMDS, by resource id", nil, azidentity.ResourceID(other.ResourceID), "imds", other},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, variable := range strings.Fields(variables) {
				t.Setenv(variable, c.environment[variable])
				if c.environment[variable] == "" {
					if err := os.Unsetenv(variable); err != nil { // Setenv puts it back
						t.Fatal(err)
					}
				}
			}
			credential, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
				ID: c.id,
				ClientOptions: azcore.ClientOptions{
					Transport: &http.Client{Transport: transport}, Retry: policy.RetryOptions{MaxRetries: -1},
				},
			})
			if err != nil {
				t.Fatal(err)
			}
			// The client remembers tokens by resource for as long as the process lives, also for another run of this test.
			resource := fmt.Sprintf("https://vault.example.org:%d", first+i)
			s.wantTokenFor(t, credential, c.want, resource)
			if e := s.observer.last(t); e.Endpoint != c.endpoint || e.Resource != resource || e.Result != ResultSuccess {
				t.Errorf("event %+v", e)
			}
		})
	}
}
