package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

// A target is a vault and how to reach it: one of the server on this machine, known by its data folder, or any other by its URL.
type target struct {
	reach
	vaultName string
	vaultURL  string
	hsmName   string // a managed HSM in the place of the vault
}

func (t *target) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&t.vaultName, "vault-name", "", "name of a vault of the server on this machine (default demo, or the only one)")
	f.StringVar(&t.vaultURL, "vault-url", "", "URL of any vault; credentials then come from the environment, as for every Azure SDK")
	t.reach.register(cmd, 2*time.Minute)
	cmd.MarkFlagsMutuallyExclusive("vault-name", "vault-url")
}

// registerHSM lets a managed HSM be named in the place of the vault.
func (t *target) registerHSM(cmd *cobra.Command) {
	cmd.Flags().StringVar(&t.hsmName, "hsm-name", "", "name of a managed HSM of the server on this machine, instead of a vault")
	for _, other := range []string{"id", "vault-name", "vault-url"} {
		cmd.MarkFlagsMutuallyExclusive("hsm-name", other)
	}
}

// A reach is how a server is reached, and as whom.
type reach struct {
	where       place
	credentials string
	caFile      string
	timeout     time.Duration
}

func (r *reach) register(cmd *cobra.Command, timeout time.Duration) {
	f := cmd.Flags()
	f.StringVar(&r.credentials, "credentials", "", "file with the credentials (default the administrator's in the data folder)")
	f.StringVar(&r.caFile, "ca-file", "", "PEM file with the authorities to trust")
	f.DurationVar(&r.timeout, "timeout", timeout, "how long the command may take")
	r.where.register(cmd)
}

// A connection is what the clients of Azure's SDK for Go are made of.
type connection struct {
	vaultURL   string
	credential azcore.TokenCredential
	options    azcore.ClientOptions
}

// connect finds the vault and the credentials for it. Nothing is sent to the vault yet.
func (t *target) connect(ctx context.Context) (*connection, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	status, dir, err := t.local(ctx)
	if err != nil {
		return nil, err
	}
	if status == nil {
		credential, options, err := t.remote()
		return &connection{t.vaultURL, credential, options}, err
	}
	transport, err := t.transport(status)
	if err != nil {
		return nil, err
	}
	options := clientOptions(status, transport)
	credential, err := t.localCredential(dir, options, t.vaultURL != "")
	if err != nil {
		return nil, err
	}
	address := t.vaultURL
	switch {
	case t.hsmName != "":
		address = "https://" + withPort(t.hsmName+"."+status.HSMSuffix, status)
	case address == "":
		if t.vaultName, err = chosenVault(ctx, admin.NewClient(dir), t.vaultName); err != nil {
			return nil, err
		}
		address = vaultURL(status, t.vaultName)
	}
	return &connection{address, credential, options}, nil
}

// clientOptions are those for the server on this machine, whose token service is the authority.
func clientOptions(status *admin.Status, transport *http.Transport) azcore.ClientOptions {
	return azcore.ClientOptions{
		Cloud:     cloud.Configuration{ActiveDirectoryAuthorityHost: loginURL(*status)},
		Transport: &http.Client{Transport: transport},
		Telemetry: policy.TelemetryOptions{Disabled: true},
	}
}

// vaultLabel keeps a name from becoming another host.
var vaultLabel = regexp.MustCompile(`^[a-zA-Z0-9-]{1,127}$`)

func (t *target) check() error {
	if t.vaultURL != "" {
		u, err := url.Parse(t.vaultURL)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return usagef("--vault-url %s is not the https URL of a vault", t.vaultURL)
		}
		t.vaultURL = "https://" + u.Host
		return nil
	}
	if t.vaultName != "" && !vaultLabel.MatchString(t.vaultName) {
		return usagef("--vault-name %q is not the name of a vault: 3 to 24 letters, digits and hyphens", t.vaultName)
	}
	if t.hsmName != "" && !vaultLabel.MatchString(t.hsmName) {
		return usagef("--hsm-name %q is not the name of a managed HSM: 3 to 24 letters, digits and hyphens", t.hsmName)
	}
	return nil
}

// local returns the status of the server on this machine if the vault is one of its own, and nil if it is not.
func (t *target) local(ctx context.Context) (status *admin.Status, dir string, err error) {
	if dir, err = t.where.folder(); err != nil {
		return nil, "", err
	}
	status, err = readStatus(ctx, admin.NewClient(dir))
	if t.vaultURL == "" {
		return status, dir, err
	}
	if err != nil {
		return nil, dir, nil // that no server runs here does not matter to a vault elsewhere
	}
	_, suffix, _ := strings.Cut(strings.TrimPrefix(t.vaultURL, "https://"), ".")
	if !strings.EqualFold(suffix, withPort(status.Suffix, status)) && !strings.EqualFold(suffix, withPort(status.HSMSuffix, status)) {
		return nil, dir, nil
	}
	return status, dir, nil
}

// remote uses what the environment says, as every Azure SDK does.
func (r *reach) remote() (azcore.TokenCredential, azcore.ClientOptions, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	pool, err := r.pool("")
	if err != nil {
		return nil, azcore.ClientOptions{}, err
	}
	transport.TLSClientConfig = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	transport.DialContext = dialLocalhost
	options := azcore.ClientOptions{Transport: &http.Client{Transport: transport}, Telemetry: policy.TelemetryOptions{Disabled: true}}
	credential, err := r.remoteCredential(options)
	return credential, options, err
}

// remoteCredential takes the credentials from a file, if one was named, and from the environment otherwise.
func (r *reach) remoteCredential(options azcore.ClientOptions) (azcore.TokenCredential, error) {
	if r.credentials == "" {
		return environmentCredential(options)
	}
	if os.Getenv("AZURE_AUTHORITY_HOST") == "" {
		return nil, usagef("--credentials for a server elsewhere: set AZURE_AUTHORITY_HOST to its token service, such as https://login.example.org, " +
			"or the secret would be sent to Microsoft")
	}
	c, err := server.ReadCredentials(r.credentials)
	if err != nil {
		return nil, err
	}
	return azidentity.NewClientSecretCredential(c.TenantID, c.ClientID, c.Secret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: options, DisableInstanceDiscovery: true,
	})
}

// environmentCredential asks Microsoft about the authority only if nobody named another authority.
func environmentCredential(options azcore.ClientOptions) (azcore.TokenCredential, error) {
	named := os.Getenv("AZURE_AUTHORITY_HOST") != "" || options.Cloud.ActiveDirectoryAuthorityHost != ""
	return azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions: options, DisableInstanceDiscovery: named,
	})
}

// chosenVault is the vault that was named, or else the one that is meant without a name.
func chosenVault(ctx context.Context, socket *admin.Client, name string) (string, error) {
	if name != "" {
		return name, nil
	}
	vaults, err := liveVaults(ctx, socket)
	if err != nil {
		return "", err
	}
	v := meantVault(vaults)
	if v == nil {
		return "", usagef("which vault? %s", vaultChoice(vaults))
	}
	return v.Name, nil
}

// localCredential takes the administrator's credentials from the data folder. If they were moved away, the environment's are
// taken only for a server that was named by its URL: others than the administrator are meant by nobody who does not say so.
func (r *reach) localCredential(dir string, options azcore.ClientOptions, byURL bool) (azcore.TokenCredential, error) {
	c, err := readCredentials(r.credentials, dir, server.AdministratorFile)
	if errors.Is(err, fs.ErrNotExist) && r.credentials == "" && byURL {
		return environmentCredential(options)
	}
	if err != nil {
		return nil, err
	}
	return azidentity.NewClientSecretCredential(c.TenantID, c.ClientID, c.Secret, &azidentity.ClientSecretCredentialOptions{
		ClientOptions: options, DisableInstanceDiscovery: true,
	})
}

// pool returns the authorities to trust; nil are the system's.
func (r *reach) pool(local string) (*x509.CertPool, error) {
	path := r.caFile
	if path == "" {
		path = local
	}
	if path == "" {
		return nil, nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(raw) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}

// transport reaches the server on this machine by its names without a resolver, and trusts its authority and no other.
func (r *reach) transport(status *admin.Status) (*http.Transport, error) {
	pool, err := r.pool(status.CAFile)
	if err != nil {
		return nil, err
	}
	addresses := localAddresses(status.Listen)
	var d net.Dialer
	return &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			host, _, err := net.SplitHostPort(address)
			if err != nil {
				return nil, err
			}
			if host != status.Domain && !strings.HasSuffix(host, "."+status.Domain) && !strings.HasSuffix(host, "."+status.Suffix) {
				return d.DialContext(ctx, network, address)
			}
			return dialFirst(ctx, &d, addresses)
		},
		TLSClientConfig:   &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2: true,
	}, nil
}

// localAddresses are where a server's listeners are reached from this machine.
func localAddresses(listen []string) (out []string) {
	for _, l := range listen {
		a, err := netip.ParseAddrPort(l)
		if err != nil {
			continue
		}
		if a.Addr().IsUnspecified() {
			loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
			if a.Addr().Is6() {
				loopback = netip.IPv6Loopback()
			}
			a = netip.AddrPortFrom(loopback, a.Port())
		}
		out = append(out, a.String())
	}
	return out
}

// dialLocalhost takes names below localhost for loopback, as RFC 6761 section 6.3 says; many resolvers do not.
func dialLocalhost(ctx context.Context, network, address string) (net.Conn, error) {
	var d net.Dialer
	host, port, err := net.SplitHostPort(address)
	if err != nil || !strings.HasSuffix(strings.ToLower(host), ".localhost") {
		return d.DialContext(ctx, network, address)
	}
	return dialFirst(ctx, &d, []string{net.JoinHostPort("127.0.0.1", port), net.JoinHostPort("::1", port)})
}

func dialFirst(ctx context.Context, d *net.Dialer, addresses []string) (net.Conn, error) {
	errs := []error{errors.New("no server answers on this machine")}
	for _, a := range addresses {
		c, err := d.DialContext(ctx, "tcp", a)
		if err == nil {
			return c, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// maxServiceError bounds what is read of an error's body, and what is shown of it.
const (
	maxServiceError = 64 << 10
	maxShownError   = 2000
)

// explainService shows a refusal of the service as az does: the code, and the message.
func explainService(e *azcore.ResponseError) string {
	if e.StatusCode < http.StatusBadRequest {
		return e.Error() // of a job that failed, not of a request: the text says which and why
	}
	var body struct {
		Error struct {
			Code, Message string
			InnerError    struct{ Code string } `json:"innererror"`
		} `json:"error"`
	}
	if e.RawResponse != nil && e.RawResponse.Body != nil {
		raw, err := io.ReadAll(io.LimitReader(e.RawResponse.Body, maxServiceError))
		if err == nil && json.Unmarshal(raw, &body) == nil && body.Error.Message != "" {
			code := body.Error.Code
			if inner := body.Error.InnerError.Code; inner != "" {
				code += "/" + inner
			}
			return fmt.Sprintf("(%s) %s", code, body.Error.Message[:min(len(body.Error.Message), maxShownError)])
		}
	}
	if e.ErrorCode != "" {
		return fmt.Sprintf("(%s) the service answered %d", e.ErrorCode, e.StatusCode)
	}
	return fmt.Sprintf("the service answered %d", e.StatusCode)
}

// explainCredential shows a refusal of the token service: the code, and the description. The library's own text repeats
// the whole answer.
func explainCredential(e *azidentity.AuthenticationFailedError) string {
	var body struct {
		Code        string `json:"error"`
		Description string `json:"error_description"`
	}
	if e.RawResponse != nil && e.RawResponse.Body != nil {
		raw, err := io.ReadAll(io.LimitReader(e.RawResponse.Body, maxServiceError))
		if err == nil && json.Unmarshal(raw, &body) == nil && body.Description != "" {
			return fmt.Sprintf("no token: (%s) %s", body.Code, body.Description[:min(len(body.Description), maxShownError)])
		}
	}
	return e.Error()
}
