package administration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// A job follows a job of the service. It is the handler of the pollers here, because azcore's own asks the original URL for the
// result of a PUT, waits half a minute where the service says nothing, and would send the bearer token to any host.
type job[T any] struct {
	client    *client
	operation string
	at        *url.URL
	last      *http.Response
	state     Operation
}

// begin starts a job and returns the poller for it.
func begin[T any](ctx context.Context, c *client, operation, method, path string, body any) (p *runtime.Poller[T], err error) {
	ctx, end := runtime.StartSpan(ctx, spans[operation], c.inner.Tracer(), nil)
	defer func() { end(err) }()
	req, err := c.request(ctx, method, path, nil, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.send(req, http.StatusAccepted)
	if err != nil {
		return nil, err
	}
	where := resp.Header.Get("Azure-AsyncOperation")
	if where == "" {
		return nil, fmt.Errorf("administration: the service has accepted the %s, but its answer has no Azure-AsyncOperation to follow it by", operation)
	}
	at, err := c.own("Azure-AsyncOperation", where)
	if err != nil {
		return nil, fmt.Errorf("the %s has begun: %w", operation, err)
	}
	if resp.Header.Get("Retry-After") != "" { // without it the first question is asked at once
		pace(resp.Header)
	}
	return newPoller(resp, &job[T]{client: c, operation: operation, at: at})
}

func newPoller[T any](resp *http.Response, j *job[T]) (*runtime.Poller[T], error) {
	return runtime.NewPoller(resp, j.client.inner.Pipeline(), &runtime.NewPollerOptions[T]{Handler: j, Tracer: j.client.inner.Tracer()})
}

// A jobToken is what a resume token holds of a job. azcore wraps it as a resumeToken.
type jobToken struct {
	Operation string `json:"operation"`
	URL       string `json:"url"`
}

type resumeToken struct {
	Type  string   `json:"type"`
	Token jobToken `json:"token"`
}

// MarshalJSON makes the inner part of a resume token.
func (j *job[T]) MarshalJSON() ([]byte, error) {
	return json.Marshal(jobToken{j.operation, j.at.String()})
}

// resume makes a poller for a job that another poller followed. It reads the token itself: to azcore a token may also name a kind
// of poller that goes wherever the token says.
func resume[T any](c *client, operation, text string) (*runtime.Poller[T], error) {
	var token resumeToken
	if err := json.Unmarshal([]byte(text), &token); err != nil || token.Token.URL == "" {
		return nil, errors.New("administration: the resume token is not one of a backup or restore")
	}
	if token.Token.Operation != operation {
		return nil, fmt.Errorf("administration: the resume token is that of a %s, not of a %s", token.Token.Operation, operation)
	}
	at, err := c.own("the resume token", token.Token.URL)
	if err != nil {
		return nil, err
	}
	return newPoller(nil, &job[T]{client: c, operation: operation, at: at})
}

// Done implements runtime.PollingHandler.
func (j *job[T]) Done() bool { return j.state.Status.done() }

// Poll implements runtime.PollingHandler.
func (j *job[T]) Poll(ctx context.Context) (*http.Response, error) {
	req, err := runtime.NewRequest(ctx, http.MethodGet, j.at.String())
	if err != nil {
		return nil, err
	}
	req.Raw().Header.Set("Accept", "application/json")
	resp, err := j.client.send(req, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return nil, err
	}
	state, err := decode[Operation](resp)
	if err != nil {
		return nil, err
	}
	if state.Status == "" {
		return nil, fmt.Errorf("administration: the service's answer does not say how the %s is: it has no status", j.operation)
	}
	j.state, j.last = state, resp
	pace(resp.Header)
	return resp, nil
}

// Result implements runtime.PollingHandler.
func (j *job[T]) Result(_ context.Context, out *T) error {
	if !j.state.Status.is(StatusSucceeded) {
		return j.failure()
	}
	got, err := decode[T](j.last)
	if err != nil {
		return err
	}
	*out = got
	return nil
}

// failure is the error of a job that did not succeed. azcore's text of it would be the whole answer.
func (j *job[T]) failure() error {
	var code string
	said := []string{j.state.StatusDetails}
	for e := j.state.Error; e != nil; e = e.InnerError {
		if code == "" {
			code = e.Code
		}
		said = append(said, e.Code, e.Message)
	}
	if code == "" && codeForm.MatchString(j.state.StatusDetails) {
		code = j.state.StatusDetails // where some jobs have it
	}
	text := fmt.Sprintf("the %s %s: job %s", j.operation, strings.ToLower(string(j.state.Status)), j.state.JobID)
	for _, s := range said {
		if s != "" && !strings.Contains(text, s) {
			text += ": " + s
		}
	}
	text = strings.ToValidUTF8(text[:min(len(text), maxFailure)], "")
	return jobError(j.last, code, string(withoutSignatures([]byte(text))))
}

// maxFailure bounds the text of an error that the service wrote.
const maxFailure = 4000

// codeForm tells a code from a text.
var codeForm = regexp.MustCompile(`^[A-Z][A-Za-z]{1,63}$`)

// jobError makes an azcore.ResponseError with a text, which it takes only in the form of JSON.
func jobError(resp *http.Response, code, text string) error {
	raw, err := json.Marshal(map[string]any{"errorCode": code, "statusCode": resp.StatusCode, "errorMessage": text})
	if err != nil {
		return err
	}
	e := new(azcore.ResponseError)
	if err := json.Unmarshal(raw, e); err != nil {
		return err
	}
	e.RawResponse = resp
	return e
}

// How long PollUntilDone waits between two polls if the service does not say, and at most.
const (
	defaultWait = 5 * time.Second
	maxWait     = time.Minute
)

// pace writes into an answer how long azcore's poller is to wait.
func pace(h http.Header) {
	wait := min(max(retryAfter(h), time.Millisecond), maxWait)
	h.Set("Retry-After-Ms", strconv.FormatInt(wait.Milliseconds(), 10))
}

func retryAfter(h http.Header) time.Duration {
	text := h.Get("Retry-After")
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return time.Duration(seconds) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return time.Until(at)
	}
	return defaultWait
}
