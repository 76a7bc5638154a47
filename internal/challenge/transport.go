package challenge

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Transport returns what a client sends its requests with: next, or if that is nil a client of its own that follows no redirects. Its
// answers are bounded.
func Transport(next policy.Transporter) policy.Transporter {
	if next == nil {
		next = defaultTransport
	}
	return boundedTransport{next}
}

// defaultTransport follows no redirects: what is sent may hold a SAS token, or a security domain, and is for the one server alone.
var defaultTransport policy.Transporter = &http.Client{
	CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	Transport: &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          100,
		MaxIdleConnsPerHost:   10,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		TLSClientConfig:       &tls.Config{MinVersion: tls.VersionTLS12},
	},
}

// maxAnswer bounds what is read of an answer. The longest are security domains of 2 MiB.
const maxAnswer = 8 << 20

// A boundedTransport hands out answers that end in an error after maxAnswer bytes. It has to be a transport, because azcore reads
// answers whole before any policy sees them.
type boundedTransport struct{ next policy.Transporter }

func (t boundedTransport) Do(req *http.Request) (*http.Response, error) {
	resp, err := t.next.Do(req)
	if err == nil && resp.Body != nil {
		resp.Body = &boundedBody{resp.Body, maxAnswer}
	}
	return resp, err
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, tooLongError{}
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	b.left -= int64(n)
	return n, err
}

// A tooLongError says that an answer is too long. It is not worth another try, which is what NonRetriable tells azcore.
type tooLongError struct{}

func (tooLongError) Error() string {
	return fmt.Sprintf("the service's answer is longer than %d bytes", maxAnswer)
}

func (tooLongError) NonRetriable() {}
