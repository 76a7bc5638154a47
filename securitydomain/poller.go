package securitydomain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// An operation is an activation that runs in the HSM. The pollers of azcore do not know the service's word for its end. The exported
// members are what a resume token holds.
type operation struct {
	client *Client
	last   *http.Response

	URL    string          `json:"url"`
	Status OperationStatus `json:"status"`
}

// operation follows the operation that resp has begun, at the address that it names or else at the one that is documented.
func (c *Client) operation(resp *http.Response, path string) operation {
	op := operation{client: c, last: resp, URL: c.address(path + pending), Status: OperationStatus{Status: StatusInProgress}}
	if resp != nil {
		if address := resp.Header.Get("Azure-AsyncOperation"); address != "" {
			op.URL = address
		}
	}
	return op
}

// Done tells whether the operation has ended.
func (o *operation) Done() bool { return o.Status.Status.terminal() }

// Poll asks the HSM. Errors that pass by are retried by the pipeline, as in every request.
func (o *operation) Poll(ctx context.Context) (*http.Response, error) {
	address, err := o.address()
	if err != nil {
		return nil, err
	}
	req, err := runtime.NewRequest(ctx, http.MethodGet, address)
	if err != nil {
		return nil, err
	}
	req.Raw().Header.Set("Accept", "application/json")
	resp, err := o.client.send(req, http.StatusOK, http.StatusCreated, http.StatusAccepted)
	if err != nil {
		return nil, err
	}
	var status OperationStatus
	if err := runtime.UnmarshalAsJSON(resp, &status); err != nil {
		return nil, err
	}
	o.Status, o.last = status, resp
	return resp, nil
}

// address refuses to follow the operation to another server, which would get a token.
func (o *operation) address() (string, error) {
	u, err := url.Parse(o.URL)
	if err != nil {
		return "", fmt.Errorf("securitydomain: the address of the operation: %w", err)
	}
	if end := o.client.endpoint; u.Scheme != end.Scheme || !strings.EqualFold(u.Host, end.Host) {
		return "", fmt.Errorf("securitydomain: the operation is said to be at %s, and not at %s", u.Host, end.Host)
	}
	if u.RawQuery == "" {
		u.RawQuery = "api-version=" + apiVersion
	}
	return u.String(), nil
}

// failure is nil unless the operation has failed. It prints what the HSM said.
func (o *operation) failure() error {
	if o.Status.Status != StatusFailed {
		return nil
	}
	if o.last == nil {
		return fmt.Errorf("securitydomain: the operation failed: %s", o.Status.StatusDetails)
	}
	return runtime.NewResponseErrorWithErrorCode(o.last, string(StatusFailed))
}

// download is the operation of BeginDownload.
type download struct {
	operation
	domain SecurityDomain
}

// Result is the domain that came with the first answer.
func (d *download) Result(_ context.Context, out *DownloadResponse) error {
	if err := d.failure(); err != nil {
		return err
	}
	out.SecurityDomain = d.domain
	return nil
}

// MarshalJSON refuses to make a resume token: it would have to hold the domain.
func (*download) MarshalJSON() ([]byte, error) {
	return nil, errors.New("securitydomain: a download cannot be resumed; set SkipActivationPolling, keep the result, and ask GetDownloadStatus")
}

// upload is the operation of BeginUpload.
type upload struct{ operation }

// Result is empty.
func (u *upload) Result(context.Context, *UploadResponse) error { return u.failure() }

// A resumeToken is how azcore wraps what an operation holds.
type resumeToken struct {
	Token *operation `json:"token"`
}

// resumeUpload makes a poller for an upload that another poller followed. It reads the token itself: to azcore a token may also name a
// kind of poller that goes wherever the token says.
func (c *Client) resumeUpload(text string) (*runtime.Poller[UploadResponse], error) {
	op := &upload{operation: c.operation(nil, uploadPath)}
	if err := json.Unmarshal([]byte(text), &resumeToken{&op.operation}); err != nil {
		return nil, errors.New("securitydomain: the resume token is not one of an upload")
	}
	if _, err := op.address(); err != nil {
		return nil, err
	}
	return runtime.NewPoller(nil, c.internal.Pipeline(), &runtime.NewPollerOptions[UploadResponse]{Handler: op, Tracer: c.internal.Tracer()})
}
