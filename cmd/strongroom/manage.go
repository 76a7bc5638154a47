package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

// What the commands about vaults, managed HSMs, groups and roles share: they ask the management plane, as az does.

// manageText says how these commands find the management plane.
const manageText = `These commands ask the management plane of the server on this machine without any setting: the data folder tells where it is and
holds the administrator's credentials. With --management-url they ask that of any server, with the credentials that the environment
offers to every Azure SDK: for a server of this kind those that "strongroom env --for go" prints. What somebody may do is decided by
his roles.`

// Versions of the management plane that these commands speak.
const (
	vaultsVersion = "2026-02-01"
	rolesVersion  = "2022-04-01"
	groupsVersion = "2021-04-01"
)

// A plane is the management plane of a server, and how its answers are printed.
type plane struct {
	reach
	url, subscription string
	out               output
}

// register adds the flags of all these commands. Members are what scripts take out of the result.
func (p *plane) register(cmd *cobra.Command, members string, timeout time.Duration) {
	f := cmd.Flags()
	f.StringVar(&p.url, "management-url", "", "URL of any management plane; credentials then come from the environment, as for every Azure SDK")
	f.StringVar(&p.subscription, "subscription", "", "id of the subscription (default the server's)")
	p.reach.register(cmd, timeout)
	p.out.members = members
	p.out.register(cmd)
}

// usual is how long a command may take that waits for nothing.
const usual = 2 * time.Minute

// A document is what the management plane answers. It is printed as it is, so that nothing of it is lost.
type document = map[string]any

// do runs the work of a command within the time that it may take.
func (p *plane) do(cmd *cobra.Command, work func(ctx context.Context, m *manager) error) error {
	if err := p.out.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), p.timeout)
	defer cancel()
	m, err := p.connect(ctx)
	if err != nil {
		return err
	}
	m.notes = cmd.ErrOrStderr()
	return work(ctx, m)
}

// show is do for a command that prints one answer.
func (p *plane) show(cmd *cobra.Command, ask func(ctx context.Context, m *manager) (any, error), columns ...string) error {
	return p.do(cmd, func(ctx context.Context, m *manager) error {
		answer, err := ask(ctx, m)
		if err != nil {
			return err
		}
		return p.out.print(cmd.OutOrStdout(), answer, columns...)
	})
}

// A manager asks the management plane.
type manager struct {
	endpoint     string // without a slash at the end
	subscription string // its id as a path
	credential   azcore.TokenCredential
	pipeline     runtime.Pipeline
	notes        io.Writer     // for a person who waits
	pause        time.Duration // between questions about a long operation, where the server does not say
}

// connect finds the management plane and the credentials for it.
func (p *plane) connect(ctx context.Context) (*manager, error) {
	if err := p.checkURL(); err != nil {
		return nil, err
	}
	status, dir, err := p.local(ctx)
	if err != nil {
		return nil, err
	}
	var (
		credential azcore.TokenCredential
		options    azcore.ClientOptions
	)
	if status == nil {
		credential, options, err = p.remote()
	} else {
		var transport *http.Transport
		if transport, err = p.transport(status); err != nil {
			return nil, err
		}
		options = clientOptions(status, transport)
		credential, err = p.localCredential(dir, options, p.url != "")
	}
	if err != nil {
		return nil, err
	}
	endpoint, subscription := p.url, p.subscription
	if status != nil {
		endpoint = managementURL(status)
		if subscription == "" {
			subscription = status.SubscriptionID
		}
	}
	m := newManager(endpoint, credential, options)
	if subscription == "" {
		if subscription, err = m.onlySubscription(ctx); err != nil {
			return nil, err
		}
	}
	m.subscription = "/subscriptions/" + url.PathEscape(subscription)
	return m, nil
}

func managementURL(status *admin.Status) string {
	return "https://" + withPort("management."+status.Domain, status)
}

func newManager(endpoint string, credential azcore.TokenCredential, options azcore.ClientOptions) *manager {
	bearer := runtime.NewBearerTokenPolicy(credential, []string{endpoint + "/.default"}, nil)
	return &manager{
		endpoint: endpoint, credential: credential, notes: io.Discard, pause: 5 * time.Second,
		pipeline: runtime.NewPipeline("strongroom", server.Version(), runtime.PipelineOptions{PerRetry: []policy.Policy{bearer}}, &options),
	}
}

func (p *plane) checkURL() error {
	if p.url == "" {
		return nil
	}
	u, err := url.Parse(p.url)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
		return usagef("--management-url %s is not the https URL of a management plane", p.url)
	}
	p.url = "https://" + u.Host
	return nil
}

// local returns the status of the server on this machine if it is the one that is meant, and nil if it is not.
func (p *plane) local(ctx context.Context) (*admin.Status, string, error) {
	dir, err := p.where.folder()
	if err != nil {
		return nil, "", err
	}
	status, err := readStatus(ctx, admin.NewClient(dir))
	switch {
	case p.url == "":
		return status, dir, err
	case err != nil || !strings.EqualFold(p.url, managementURL(status)):
		return nil, dir, nil // what runs here does not matter to a server elsewhere
	}
	return status, dir, nil
}

// onlySubscription is for servers elsewhere: one of this kind has one subscription.
func (m *manager) onlySubscription(ctx context.Context) (string, error) {
	all, err := m.list(ctx, "/subscriptions", groupsVersion, "")
	if err != nil {
		return "", err
	}
	if len(all) != 1 {
		return "", usagef("which subscription? --subscription is needed: %d can be seen", len(all))
	}
	return text(all[0], "subscriptionId"), nil
}

// An answer is what the server says to one request.
type answer struct {
	status   int
	document document // nil if there is none
	location string
	after    time.Duration // to wait before asking again
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 16 << 20

// send sends one request. Path is one below the endpoint, in which names are escaped already, or a URL that the server gave. In is the
// body, nil for none.
func (m *manager) send(ctx context.Context, method, path, version, filter string, in any) (*answer, error) {
	address, err := m.address(path, version, filter)
	if err != nil {
		return nil, err
	}
	req, err := runtime.NewRequest(ctx, method, address)
	if err != nil {
		return nil, err
	}
	req.Raw().Header.Set("Accept", "application/json")
	if in != nil {
		if err := runtime.MarshalAsJSON(req, in); err != nil {
			return nil, err
		}
	}
	runtime.SkipBodyDownload(req) // which has no bound
	resp, err := m.pipeline.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		resp.Body = io.NopCloser(bytes.NewReader(raw))
		return nil, runtime.NewResponseError(resp)
	}
	a := &answer{status: resp.StatusCode, location: resp.Header.Get("Location"), after: m.pause}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds >= 0 {
		a.after = min(time.Duration(seconds), 60) * time.Second
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return a, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(&a.document); err != nil {
		return nil, fmt.Errorf("the management plane's answer is not what it should be: %w", err)
	}
	return a, nil
}

// address makes the URL of a request. One that the server gave must be its own, or the token would go elsewhere.
func (m *manager) address(path, version, filter string) (string, error) {
	if !strings.HasPrefix(path, "/") {
		u, err := url.Parse(path)
		if err != nil || !strings.EqualFold(u.Scheme+"://"+u.Host, m.endpoint) {
			return "", fmt.Errorf("the management plane refers to another server, %.200q: not followed", path)
		}
		return path, nil
	}
	query := url.Values{"api-version": {version}}
	if filter != "" {
		query.Set("$filter", filter)
	}
	return m.endpoint + path + "?" + strings.ReplaceAll(query.Encode(), "+", "%20"), nil
}

// get asks for one document.
func (m *manager) get(ctx context.Context, path, version string) (document, error) {
	a, err := m.send(ctx, http.MethodGet, path, version, "", nil)
	if err != nil {
		return nil, err
	}
	return a.document, nil
}

// list asks for all pages of a list.
func (m *manager) list(ctx context.Context, path, version, filter string) ([]document, error) {
	const maxPages = 1000
	all := []document{}
	for range maxPages {
		a, err := m.send(ctx, http.MethodGet, path, version, filter, nil)
		if err != nil {
			return nil, err
		}
		items, _ := a.document["value"].([]any)
		for _, item := range items {
			if d, ok := item.(document); ok {
				all = append(all, d)
			}
		}
		if path = text(a.document, "nextLink"); path == "" {
			return all, nil
		}
	}
	return nil, errors.New("the management plane's list does not end")
}

// await asks at the Location of a long operation until it is done, and returns what there is then. Doing is told to who waits.
func (m *manager) await(ctx context.Context, a *answer, doing string) (document, error) {
	start := time.Now()
	for a.status == http.StatusAccepted && a.location != "" {
		location := a.location
		next, err := m.send(ctx, http.MethodGet, location, "", "", nil)
		if err != nil {
			return nil, waiting(ctx, err)
		}
		if a = next; a.status != http.StatusAccepted {
			break
		}
		if a.location == "" {
			a.location = location
		}
		fmt.Fprintf(m.notes, "strongroom: %s: waiting for %s\n", doing, time.Since(start).Round(time.Second))
		select {
		case <-ctx.Done():
			return nil, waiting(ctx, ctx.Err())
		case <-time.After(a.after):
		}
	}
	return a.document, nil
}

// waiting says of an operation whose time was too short that it goes on.
func waiting(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return fmt.Errorf("the server has accepted it and goes on, but it was not done within --timeout: %w", ctx.Err())
}

// itself is whom the token names: the object id and the tenant. It is asked for like any other, and nothing is decided by it here.
func (m *manager) itself(ctx context.Context) (objectID, tenantID string, err error) {
	token, err := m.credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{m.endpoint + "/.default"}, EnableCAE: true})
	if err != nil {
		return "", "", err
	}
	var claims struct{ OID, TID string }
	parts := strings.Split(token.Token, ".")
	if len(parts) == 3 {
		raw, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil {
			err = json.Unmarshal(raw, &claims)
		}
		if err == nil && claims.OID != "" && claims.TID != "" {
			return claims.OID, claims.TID, nil
		}
	}
	return "", "", errors.New("the token does not say for whom it is")
}

// text is a member of a document as text, "" if it is none. Inner members stand after a dot.
func text(d document, path string) string {
	s, _ := inner(d, strings.Split(path, ".")).(string)
	return s
}

// withGroup adds the member that az adds: the group in the id.
func withGroup(d document) document {
	parts := strings.Split(text(d, "id"), "/")
	for i := range len(parts) - 1 {
		if strings.EqualFold(parts[i], "resourceGroups") {
			d["resourceGroup"] = parts[i+1]
		}
	}
	return d
}
