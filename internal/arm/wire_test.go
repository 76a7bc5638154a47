package arm_test

import (
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/arm"
	"github.com/strongroom/strongroom/internal/wire/wiretest"
	"github.com/strongroom/strongroom/strongroomtest"
)

// TestWire plays the scripts in testdata/wire against a real server and compares every answer. A script is a list of
// exchanges:
//
//	> GET /subscriptions/<sub>?api-version=2022-12-01   the request line; the path goes out as it stands
//	> @nobody                            who asks: @admin (default, Owner of the subscription), @nobody (a principal without
//	                                     rights), @none, or @token TEXT; @graph and @vaults are @admin
//	                                     with a token for the directory and for the vaults
//	> Header: value
//	> {"location":"local"}               the body, if a line starts with { or [
//	> +24h                               moves the server's clock before the request
//	< 200                                the answer: status, the headers that the script names, body
//	< Header: value
//	< {"value":[]}
//
// <sub>, <tenant>, <port>, <version1>, …, and <admin app>, <admin oid>, <nobody app> and <nobody oid> stand for what differs
// from run to run, <location> for the path of the last Location. `go test ./internal/arm -run Wire -update` writes the answers.
func TestWire(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/wire/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var mu sync.Mutex
	seen := make(map[outcome]bool)
	t.Run("scripts", func(t *testing.T) {
		for _, path := range scripts {
			t.Run(filepath.Base(path), func(t *testing.T) {
				t.Parallel()
				p := newPlayer(t)
				wiretest.Play(t, path, p.exchange)
				p.checkRecords()
				mu.Lock()
				defer mu.Unlock()
				maps.Copy(seen, p.outcomes)
			})
		}
	})
	for _, rt := range arm.Routes() {
		route := rt.Method + " " + rt.Pattern
		if seen[outcome{route, true}] == slices.Contains(neverSucceed, rt.Operation) {
			t.Errorf("the scripts have no success of %s, or one that should not be", route)
		}
		if !seen[outcome{route, false}] && !slices.Contains(neverFail, rt.Operation) {
			t.Errorf("the scripts have no failure of %s", route)
		}
	}
}

// Operations that nothing can be found for, since there are neither private endpoints nor people.
var neverSucceed = []string{
	"VaultPrivateEndpointGet", "VaultPrivateEndpointPut", "ManagedHsmPrivateEndpointGet", "ManagedHsmPrivateEndpointPut",
	"GraphMe", "GraphUserGet",
}

// neverFail is empty: without a token, everything does, and what needs none fails without an api-version.
var neverFail []string

// An outcome is that the requests of a route succeeded or failed.
type outcome struct {
	route     string
	succeeded bool
}

// player plays one script.
type player struct {
	t      *testing.T
	server *strongroomtest.Server

	mu  sync.Mutex // guards now, which the server reads
	now time.Time

	nobody   strongroomtest.Principal
	base     *url.URL
	tokens   map[string]string
	names    []string // pairs of what differs from run to run, and what stands for it
	location string
	versions []string
	outcomes map[outcome]bool
}

func newPlayer(t *testing.T) *player {
	p := &player{t: t, now: time.Unix(1_800_000_000, 0), tokens: make(map[string]string), outcomes: make(map[outcome]bool)}
	p.server = strongroomtest.Start(t, &strongroomtest.Options{Vault: "Golden", Now: p.clock})
	p.nobody = p.server.CreatePrincipal(t, "nobody")
	var err error
	if p.base, err = url.Parse(p.server.Authority); err != nil {
		t.Fatal(err)
	}
	p.base.Host = "management.localhost:" + p.base.Port()
	p.names = []string{
		":" + p.base.Port(), ":<port>", p.server.TenantID, "<tenant>", p.server.ClientID, "<admin app>", p.server.ObjectID, "<admin oid>",
		p.nobody.ClientID, "<nobody app>", p.nobody.ObjectID, "<nobody oid>",
	}
	sub := p.subscription()
	p.names = append(p.names, sub, "<sub>", strings.ToUpper(sub), "<SUB>")
	return p
}

func (p *player) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

// subscription asks for the subscription's id, as a client does first.
func (p *player) subscription() string {
	p.t.Helper()
	req := &http.Request{Method: "GET", Header: http.Header{}, URL: p.target("/subscriptions?api-version=2022-12-01")}
	p.authorize(req, "@admin")
	_, body := p.send(req)
	var list struct {
		Value []struct{ SubscriptionID string }
	}
	if err := json.Unmarshal([]byte(body), &list); err != nil || len(list.Value) != 1 {
		p.t.Fatalf("no subscription: %s", body)
	}
	return list.Value[0].SubscriptionID
}

func (p *player) send(req *http.Request) (*http.Response, string) {
	p.t.Helper()
	resp, err := p.server.HTTPClient().Transport.RoundTrip(req)
	if err != nil {
		p.t.Fatalf("%s: %v", req.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s: %v", req.URL, err)
	}
	return resp, string(body)
}

// exchange makes a request and returns the lines of its answer.
func (p *player) exchange(request, said []string) []string {
	method, target, _ := strings.Cut(request[0], " ")
	req := &http.Request{Method: method, Header: http.Header{}, URL: p.target(target)}
	who := "@admin"
	for _, l := range request[1:] {
		switch {
		case strings.HasPrefix(l, "@"):
			who = l
		case strings.HasPrefix(l, "+"):
			p.wait(l[1:])
		case strings.ContainsAny(l[:1], `{[x`):
			body := p.known(l)
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			req.Header.Set("Content-Type", "application/json")
		default:
			name, value, _ := strings.Cut(l, ": ")
			req.Header.Set(name, value)
		}
	}
	p.authorize(req, who)
	resp, body := p.send(req)
	p.outcomes[outcome{method + " " + arm.PatternOf(method, req.URL.EscapedPath()), resp.StatusCode < 300}] = true
	if l, err := url.Parse(resp.Header.Get("Location")); err == nil && l.Path != "" {
		p.location = l.RequestURI()
	}
	answer := []string{strconv.Itoa(resp.StatusCode)}
	for _, l := range said {
		if name, _, ok := strings.Cut(l, ": "); ok && !strings.HasPrefix(l, "{") {
			answer = append(answer, name+": "+p.masked(strings.Join(resp.Header.Values(name), " | ")))
		}
	}
	if body != "" {
		answer = append(answer, p.masked(body))
	}
	return answer
}

func (p *player) wait(text string) {
	d, err := time.ParseDuration(text)
	if err != nil {
		p.t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(d)
}

// target makes a URL whose path is sent exactly as it stands in the script.
func (p *player) target(target string) *url.URL {
	raw, query, _ := strings.Cut(p.known(target), "?")
	path, err := url.PathUnescape(raw)
	if err != nil {
		p.t.Fatal(err)
	}
	return &url.URL{Scheme: "https", Host: p.base.Host, Path: path, RawPath: raw, RawQuery: query}
}

func (p *player) authorize(req *http.Request, who string) {
	id, secret := p.server.ClientID, p.server.Secret
	switch {
	case who == "@none":
		return
	case strings.HasPrefix(who, "@token "):
		req.Header.Set("Authorization", strings.TrimPrefix(who, "@token "))
		return
	case who == "@nobody":
		id, secret = p.nobody.ClientID, p.nobody.Secret
	case who == "@graph": // a token for the directory
		req.Header.Set("Authorization", "Bearer "+token(p.t, p.server, id, secret, "https://graph.microsoft.com/.default"))
		return
	case who == "@vaults": // a token for another plane
		req.Header.Set("Authorization", "Bearer "+p.server.Token(p.t, id, secret))
		return
	}
	// Tokens live for an hour of the script's clock.
	key := who + p.clock().Truncate(30*time.Minute).String()
	if p.tokens[key] == "" {
		p.tokens[key] = token(p.t, p.server, id, secret, "https://management.azure.com//.default")
	}
	req.Header.Set("Authorization", "Bearer "+p.tokens[key])
}

// token returns an access token.
func token(t *testing.T, s *strongroomtest.Server, id, secret, scope string) string {
	t.Helper()
	resp, err := s.HTTPClient().PostForm(s.Authority+"/"+s.TenantID+"/oauth2/v2.0/token", url.Values{
		"grant_type": {"client_credentials"}, "client_id": {id}, "client_secret": {secret}, "scope": {scope},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var out struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil || out.AccessToken == "" {
		t.Fatalf("no token: %v", err)
	}
	return out.AccessToken
}

// version is that of a key or a secret.
var version = regexp.MustCompile(`\b[0-9a-f]{32}\b`)

// masked replaces what differs from run to run.
func (p *player) masked(s string) string {
	return version.ReplaceAllStringFunc(strings.NewReplacer(p.names...).Replace(s), func(v string) string {
		if strings.Trim(v, "0") == "" { // a script's own
			return v
		}
		if !slices.Contains(p.versions, v) {
			p.versions = append(p.versions, v)
			p.names = append(p.names, v, "<version"+strconv.Itoa(len(p.versions))+">")
		}
		return "<version" + strconv.Itoa(slices.Index(p.versions, v)+1) + ">"
	})
}

var repeated = regexp.MustCompile(`<(.)\*([0-9]+)>`)

// known puts in what a script has placeholders for.
func (p *player) known(s string) string {
	var back []string
	for i := 0; i < len(p.names); i += 2 {
		back = append(back, p.names[i+1], p.names[i])
	}
	s = strings.ReplaceAll(strings.NewReplacer(back...).Replace(s), "<location>", p.location)
	return repeated.ReplaceAllStringFunc(s, func(text string) string {
		m := repeated.FindStringSubmatch(text)
		n, err := strconv.Atoi(m[2])
		if err != nil {
			p.t.Fatal(err)
		}
		return strings.Repeat(m[1], n)
	})
}
