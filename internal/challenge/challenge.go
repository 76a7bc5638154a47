// Package challenge sends requests to vaults and managed HSMs, authorised as they want it: they say in the challenge of a 401 answer which
// tenant and which resource the token must be for.
package challenge

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// New returns a policy that adds a token of cred to each request. The first request goes out without a token, and without its body, to
// learn which token is wanted. Requests go to servers of one vault, so what the last one wanted is remembered for its host.
//
// The resource must be a parent domain of the host, port included, so that no server asks for a token that is good elsewhere, unless
// disableResourceVerification is set.
func New(cred azcore.TokenCredential, disableResourceVerification bool) policy.Policy {
	a := &authorizer{verify: !disableResourceVerification}
	return runtime.NewBearerTokenPolicy(cred, nil, &policy.BearerTokenOptions{
		AuthorizationHandler: policy.AuthorizationHandler{OnRequest: a.request, OnChallenge: a.challenged},
	})
}

type authorizer struct {
	verify bool
	known  atomic.Pointer[demand]
}

// A demand is the token that a host wants.
type demand struct {
	host string
	policy.TokenRequestOptions
}

// body is what request has taken off.
type body struct {
	content     io.ReadSeekCloser
	contentType string
}

// authorize gets a token and adds it to the request.
type authorize = func(policy.TokenRequestOptions) error

func (a *authorizer) request(req *policy.Request, authorize authorize) error {
	if known := a.known.Load(); known != nil && known.host == req.Raw().URL.Host {
		return authorize(known.TokenRequestOptions)
	}
	if content := req.Body(); content != nil {
		req.SetOperationValue(body{content, req.Raw().Header.Get("Content-Type")})
		return req.SetBody(nil, "")
	}
	return nil
}

func (a *authorizer) challenged(req *policy.Request, resp *http.Response, authorize authorize) error {
	wanted, err := a.parse(req.Raw().URL, resp.Header.Values("WWW-Authenticate"))
	if err != nil {
		return err
	}
	a.known.Store(wanted)
	var taken body
	if req.OperationValue(&taken) {
		if err := req.SetBody(taken.content, taken.contentType); err != nil {
			return err
		}
	}
	return authorize(wanted.TokenRequestOptions)
}

// parse reads what a server at u wants.
func (a *authorizer) parse(u *url.URL, headers []string) (*demand, error) {
	params := bearer(headers)
	resource := params["scope"]
	if resource == "" {
		resource = params["resource"]
	}
	if resource == "" {
		return nil, fmt.Errorf("%s refuses the request and does not say for which resource it wants a token: is it a vault or a managed HSM?", u.Host)
	}
	if a.verify {
		if err := checkResource(u, resource); err != nil {
			return nil, err
		}
	}
	wanted := &demand{host: u.Host}
	wanted.Scopes = []string{strings.TrimSuffix(resource, "/.default") + "/.default"}
	if authority, err := url.Parse(params["authorization"]); err == nil {
		wanted.TenantID, _, _ = strings.Cut(strings.TrimPrefix(authority.Path, "/"), "/")
	}
	return wanted, nil
}

// checkResource refuses a resource that is no parent domain of the server.
func checkResource(server *url.URL, resource string) error {
	r, err := url.Parse(resource)
	if err == nil && r.Host == "" {
		err = errors.New("it has no host")
	}
	if err != nil {
		return fmt.Errorf("%s wants a token for %.200q, which is not a resource: %w", server.Host, resource, err)
	}
	if !strings.HasSuffix(hostPort(server), "."+hostPort(r)) {
		return fmt.Errorf("%s wants a token for %.200q, which is not its parent domain: is the address right? "+
			"DisableChallengeResourceVerification in the client's options allows it", server.Host, resource)
	}
	return nil
}

// hostPort is how two addresses compare: in lower case, without the port that goes without saying.
func hostPort(u *url.URL) string {
	host := strings.ToLower(u.Host)
	if u.Scheme == "https" {
		host = strings.TrimSuffix(host, ":443")
	}
	return host
}

var param = regexp.MustCompile(`([A-Za-z_]+)=(?:"([^"]*)"|([^\s,"]+))`)

// bearer returns the parameters of the first Bearer challenge. Some servers leave out the commas between them.
func bearer(headers []string) map[string]string {
	params := make(map[string]string)
	for _, h := range headers {
		scheme, rest, _ := strings.Cut(strings.TrimSpace(h), " ")
		if !strings.EqualFold(scheme, "Bearer") {
			continue
		}
		for _, m := range param.FindAllStringSubmatch(rest, -1) {
			if _, ok := params[m[1]]; !ok {
				params[m[1]] = m[2] + m[3]
			}
		}
		break
	}
	return params
}
