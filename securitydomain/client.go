package securitydomain

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/strongroom/strongroom/internal/challenge"
)

const (
	moduleName    = "github.com/strongroom/strongroom/securitydomain"
	moduleVersion = "v0.1.0"
	apiVersion    = "7.6" // the default; ClientOptions.APIVersion changes it

	downloadPath = "/securitydomain/download"
	uploadPath   = "/securitydomain/upload"
	pending      = "/pending"
)

// ClientOptions are the optional parameters of NewClient.
type ClientOptions struct {
	azcore.ClientOptions

	// DisableChallengeResourceVerification allows that the HSM asks for a token for another resource than its parent domain.
	DisableChallengeResourceVerification bool
}

// A Client speaks to one managed HSM. Its methods return *azcore.ResponseError for what the HSM refuses. They may be called concurrently.
type Client struct {
	internal *azcore.Client
	endpoint *url.URL
}

// NewClient makes a client of the managed HSM at vaultURL, such as https://contoso.managedhsm.azure.net. Before the HSM is activated, the
// credential must be that of one of its initial administrators.
func NewClient(vaultURL string, credential azcore.TokenCredential, options *ClientOptions) (*Client, error) {
	if options == nil {
		options = &ClientOptions{}
	}
	endpoint, err := url.Parse(vaultURL)
	if err != nil || endpoint.Host == "" {
		return nil, fmt.Errorf("securitydomain: %q is not the address of a managed HSM, such as https://contoso.managedhsm.azure.net", vaultURL)
	}
	azure := options.ClientOptions
	azure.Transport = challenge.Transport(azure.Transport)
	client, err := azcore.NewClient(moduleName, moduleVersion, runtime.PipelineOptions{
		APIVersion: runtime.APIVersionOptions{Location: runtime.APIVersionLocationQueryParam, Name: "api-version"},
		PerRetry:   []policy.Policy{challenge.New(credential, options.DisableChallengeResourceVerification)},
		Tracing:    runtime.TracingOptions{Namespace: "Microsoft.KeyVault"},
	}, &azure)
	if err != nil {
		return nil, err
	}
	return &Client{client, endpoint}, nil
}

// BeginDownload asks for the security domain, wrapped for the owners in info. The first download activates the HSM. Later ones wrap the
// same domain for other owners and leave the earlier files good.
//
// The poller waits for the activation; its result is the domain, which the HSM has sent at once. A process that dies in between has to
// download again. If that matters, set SkipActivationPolling, keep the result, and ask GetDownloadStatus. A managed HSM in the cloud is
// active after one or two minutes; PollUntilDone looks every 30 seconds unless its options say otherwise.
func (c *Client) BeginDownload(
	ctx context.Context, info CertificateInfo, options *BeginDownloadOptions,
) (poller *runtime.Poller[DownloadResponse], err error) {
	ctx, endSpan := c.start(ctx, "BeginDownload")
	defer func() { endSpan(err) }()
	resp, err := c.do(ctx, http.MethodPost, downloadPath, info, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return nil, err
	}
	var domain SecurityDomain
	if err := runtime.UnmarshalAsJSON(resp, &domain); err != nil {
		return nil, err
	}
	if domain.Value = decodeValue(domain.Value); domain.Value == "" {
		return nil, errors.New("securitydomain: the HSM's answer holds no security domain")
	}
	op := &download{operation: c.operation(resp, downloadPath), domain: domain}
	if resp.StatusCode == http.StatusOK || options != nil && options.SkipActivationPolling {
		op.Status.Status = StatusSuccess
	}
	return runtime.NewPoller(resp, c.internal.Pipeline(), &runtime.NewPollerOptions[DownloadResponse]{Handler: op, Tracer: c.internal.Tracer()})
}

// decodeValue takes a domain that came in base64url out of it. JSON, which the service sends, stays as it is.
func decodeValue(value string) string {
	if !strings.HasPrefix(strings.TrimSpace(value), "{") {
		if raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(value, "=")); err == nil {
			return string(raw)
		}
	}
	return value
}

// GetDownloadStatus tells how far the activation is.
func (c *Client) GetDownloadStatus(ctx context.Context, _ *GetDownloadStatusOptions) (result GetDownloadStatusResponse, err error) {
	ctx, endSpan := c.start(ctx, "GetDownloadStatus")
	defer func() { endSpan(err) }()
	err = c.get(ctx, downloadPath+pending, &result.OperationStatus)
	return result, err
}

// GetTransferKey prepares an HSM that is not yet activated for the domain of another, and returns the key that Rewrap needs.
func (c *Client) GetTransferKey(ctx context.Context, _ *GetTransferKeyOptions) (result GetTransferKeyResponse, err error) {
	ctx, endSpan := c.start(ctx, "GetTransferKey")
	defer func() { endSpan(err) }()
	err = c.get(ctx, uploadPath, &result.TransferKey)
	return result, err
}

// BeginUpload gives the HSM a security domain that was rewrapped for its transfer key, and so activates it. The poller waits for that.
func (c *Client) BeginUpload(
	ctx context.Context, sd SecurityDomain, options *BeginUploadOptions,
) (poller *runtime.Poller[UploadResponse], err error) {
	ctx, endSpan := c.start(ctx, "BeginUpload")
	defer func() { endSpan(err) }()
	if options == nil {
		options = &BeginUploadOptions{}
	}
	if options.ResumeToken != "" {
		return c.resumeUpload(options.ResumeToken)
	}
	resp, err := c.do(ctx, http.MethodPost, uploadPath, sd, http.StatusOK, http.StatusAccepted, http.StatusNoContent)
	if err != nil {
		return nil, err
	}
	op := &upload{operation: c.operation(resp, uploadPath)}
	var first OperationStatus
	if runtime.UnmarshalAsJSON(resp, &first) == nil && first.Status != "" { // otherwise the first poll tells
		op.Status = first
	}
	if resp.StatusCode != http.StatusAccepted || options.SkipActivationPolling {
		op.Status.Status = StatusSuccess
	}
	return runtime.NewPoller(resp, c.internal.Pipeline(), &runtime.NewPollerOptions[UploadResponse]{Handler: op, Tracer: c.internal.Tracer()})
}

// GetUploadStatus tells how far the activation is.
func (c *Client) GetUploadStatus(ctx context.Context, _ *GetUploadStatusOptions) (result GetUploadStatusResponse, err error) {
	ctx, endSpan := c.start(ctx, "GetUploadStatus")
	defer func() { endSpan(err) }()
	err = c.get(ctx, uploadPath+pending, &result.OperationStatus)
	return result, err
}

func (c *Client) start(ctx context.Context, operation string) (context.Context, func(error)) {
	name := "Client." + operation
	return runtime.StartSpan(context.WithValue(ctx, runtime.CtxAPINameKey{}, name), name, c.internal.Tracer(), nil)
}

func (c *Client) get(ctx context.Context, path string, result any) error {
	resp, err := c.do(ctx, http.MethodGet, path, nil, http.StatusOK)
	if err != nil {
		return err
	}
	return runtime.UnmarshalAsJSON(resp, result)
}

// do sends a request and returns the answer if its status is one of good.
func (c *Client) do(ctx context.Context, method, path string, body any, good ...int) (*http.Response, error) {
	req, err := runtime.NewRequest(ctx, method, c.address(path))
	if err != nil {
		return nil, err
	}
	req.Raw().Header.Set("Accept", "application/json")
	if body != nil {
		if err := runtime.MarshalAsJSON(req, body); err != nil {
			return nil, err
		}
	}
	return c.send(req, good...)
}

func (c *Client) send(req *policy.Request, good ...int) (*http.Response, error) {
	resp, err := c.internal.Pipeline().Do(req)
	if err != nil {
		return nil, err
	}
	if !runtime.HasStatusCode(resp, good...) {
		return nil, runtime.NewResponseError(resp)
	}
	return resp, nil
}

func (c *Client) address(path string) string {
	u := url.URL{Scheme: c.endpoint.Scheme, Host: c.endpoint.Host, Path: path, RawQuery: "api-version=" + apiVersion}
	return u.String()
}
