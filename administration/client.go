// Package administration is a client for what governs a managed HSM: who may do what in it (AccessControlClient), backups of all
// of it (BackupClient) and its settings (SettingsClient). It works with Strongroom and with Azure Key Vault Managed HSM; ordinary
// vaults have none of this.
//
// Calls follow the conventions of azcore: a nil *XOptions is the default, a Begin method returns a poller, a New…Pager method a
// pager. What the service refuses is an *azcore.ResponseError, whose ErrorCode is the service's code. What is wrong before
// anything is sent, and answers that make no sense, are plain errors.
//
// A client is safe for use by several goroutines. The first request of each learns from the service's challenge where tokens
// come from; it carries neither a token nor a body.
package administration

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/strongroom/strongroom/internal/challenge"
)

// defaultVersion is the api-version that is asked for unless ClientOptions.APIVersion names another.
const defaultVersion = "2025-07-01"

const (
	moduleName    = "github.com/strongroom/strongroom/administration"
	moduleVersion = "v0.1.0"
)

// ClientOptions are the options of all clients of this package.
type ClientOptions struct {
	azcore.ClientOptions

	// DisableChallengeResourceVerification lets the service ask for a token for a resource that is not a parent domain of its
	// own host. A service that is not to be trusted could then ask for tokens that open other services.
	DisableChallengeResourceVerification bool
}

// A client sends requests to one managed HSM.
type client struct {
	inner   *azcore.Client
	base    url.URL // scheme and host
	version string
}

func newClient(vaultURL string, cred azcore.TokenCredential, options *ClientOptions) (*client, error) {
	base, err := url.Parse(vaultURL)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.User != nil || strings.Trim(base.Path, "/") != "" || base.RawQuery != "" {
		return nil, fmt.Errorf("administration: %q is not the URL of a managed HSM, such as https://name.managedhsm.azure.net", vaultURL)
	}
	if cred == nil {
		return nil, errors.New("administration: a credential is missing")
	}
	if options == nil {
		options = &ClientOptions{}
	}
	o := options.ClientOptions
	version := defaultVersion
	if o.APIVersion != "" {
		version, o.APIVersion = o.APIVersion, "" // azcore would add it to the URLs of jobs too, which are taken as they are
	}
	o.Logging.IncludeBody = false // the bodies of backups and restores hold SAS tokens
	o.Transport = challenge.Transport(o.Transport)
	inner, err := azcore.NewClient(moduleName, moduleVersion, runtime.PipelineOptions{
		AllowedQueryParameters: []string{"api-version"},
		PerRetry:               []policy.Policy{challenge.New(cred, options.DisableChallengeResourceVerification)},
		Tracing:                runtime.TracingOptions{Namespace: "Microsoft.KeyVault"},
	}, &o)
	if err != nil {
		return nil, err
	}
	return &client{inner: inner, base: url.URL{Scheme: base.Scheme, Host: base.Host}, version: version}, nil
}

// request makes a request to a path of the HSM. The body is sent as JSON unless it is nil.
func (c *client) request(ctx context.Context, method, path string, query url.Values, body any) (*policy.Request, error) {
	u := c.base
	u.Path = path
	if query == nil {
		query = make(url.Values)
	}
	query.Set("api-version", c.version)
	u.RawQuery = query.Encode()
	req, err := runtime.NewRequest(ctx, method, u.String())
	if err != nil {
		return nil, err
	}
	req.Raw().Header.Set("Accept", "application/json")
	if body == nil {
		return req, nil
	}
	return req, runtime.MarshalAsJSON(req, body)
}

// send sends a request. An answer with another status than those expected is an error.
func (c *client) send(req *policy.Request, expected ...int) (*http.Response, error) {
	resp, err := c.inner.Pipeline().Do(req)
	if err != nil {
		return nil, err
	}
	if runtime.HasStatusCode(resp, expected...) {
		return resp, nil
	}
	body, err := runtime.Payload(resp)
	if err != nil {
		return nil, err
	}
	resp.Body = io.NopCloser(bytes.NewReader(withoutSignatures(body)))
	return nil, runtime.NewResponseError(resp)
}

// call does all of an operation that is one request.
func call[T any](ctx context.Context, c *client, operation, method, path string, body any) (out T, err error) {
	ctx, end := runtime.StartSpan(ctx, operation, c.inner.Tracer(), nil)
	defer func() { end(err) }()
	req, err := c.request(ctx, method, path, nil, body)
	if err != nil {
		return out, err
	}
	resp, err := c.send(req, http.StatusOK, http.StatusCreated)
	if err != nil {
		return out, err
	}
	return decode[T](resp)
}

func decode[T any](resp *http.Response) (out T, err error) {
	body, err := runtime.Payload(resp)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(body, &out); err != nil {
		return out, fmt.Errorf("administration: the answer to %s %s is not the JSON that was expected: %w",
			resp.Request.Method, resp.Request.URL.Path, err)
	}
	return out, nil
}

// signature is what makes a SAS token valid.
var signature = regexp.MustCompile(`(?i)(sig(?:=|%3d|\\u003d))[^&"\s\\]+`)

// withoutSignatures makes an answer fit for an error, should the service repeat in it what it was sent.
func withoutSignatures(text []byte) []byte { return signature.ReplaceAll(text, []byte("${1}REDACTED")) }

// own reads a URL that the service gave. It refuses those of other hosts, because each request carries the bearer token.
func (c *client) own(what, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || !u.IsAbs() || u.Host == "" {
		return nil, fmt.Errorf("administration: %s of the service is not an absolute URL", what)
	}
	if u.Scheme != "https" || u.User != nil || hostPort(u) != hostPort(&c.base) {
		return nil, fmt.Errorf("administration: %s of the service leads to %s://%s, not to %s: it is not followed, because it would be given the token",
			what, u.Scheme, u.Host, c.base.Host)
	}
	return u, nil
}

func hostPort(u *url.URL) string {
	port := u.Port()
	if port == "" {
		port = "443"
	}
	return net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// maxPages bounds a list. The service has at most a few pages of anything here, so that more are a loop.
const maxPages = 1000

// A list is what a pager reads.
type list struct {
	client *client
	path   func() (string, error)
	query  url.Values
}

// request asks for the first page, or for the one that a link of the page before leads to.
func (l *list) request(ctx context.Context, link string) (*policy.Request, error) {
	if link == "" {
		path, err := l.path()
		if err != nil {
			return nil, err
		}
		return l.client.request(ctx, http.MethodGet, path, l.query, nil)
	}
	if _, err := l.client.own("a nextLink", link); err != nil {
		return nil, err
	}
	link, err := runtime.EncodeQueryParams(link)
	if err != nil {
		return nil, err
	}
	req, err := runtime.NewRequest(ctx, http.MethodGet, link)
	if err != nil {
		return nil, err
	}
	req.Raw().Header.Set("Accept", "application/json")
	return req, nil
}

// newPager reads a list whose pages come as W and are handed out as P. The function next returns a page's link to the next.
func newPager[W, P any](l *list, convert func(W) P, next func(P) string) *runtime.Pager[P] {
	pages := 0
	return runtime.NewPager(runtime.PagingHandler[P]{
		More: func(p P) bool { return next(p) != "" },
		Fetcher: func(ctx context.Context, current *P) (page P, err error) {
			if pages++; pages > maxPages {
				return page, fmt.Errorf("administration: a list has more than %d pages: its links seem to go round in a circle", maxPages)
			}
			link := ""
			if current != nil {
				link = next(*current)
			}
			req, err := l.request(ctx, link)
			if err != nil {
				return page, err
			}
			resp, err := l.client.send(req, http.StatusOK)
			if err != nil {
				return page, err
			}
			got, err := decode[W](resp)
			if err != nil {
				return page, err
			}
			return convert(got), nil
		},
		Tracer: l.client.inner.Tracer(),
	})
}

// nameForm is what names of roles, keys and settings are made of. It keeps a name from becoming another path.
var nameForm = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z._-]{0,126}$`)

func checkName(what, text string) error {
	if nameForm.MatchString(text) {
		return nil
	}
	return fmt.Errorf("administration: %q is not the name of a %s: letters, digits and hyphens", text, what)
}
