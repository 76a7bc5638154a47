package administration_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/administration"
)

const bearer = "the-bearer-token"

type credential struct{}

func (credential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: bearer, ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// options trust a test's server, whose name is no subdomain of anything, and try nothing twice.
func options(srv *httptest.Server) *administration.ClientOptions {
	return &administration.ClientOptions{
		ClientOptions: azcore.ClientOptions{
			Transport: srv.Client(), Retry: policy.RetryOptions{MaxRetries: -1},
		},
		DisableChallengeResourceVerification: true,
	}
}

type clients struct {
	access   *administration.AccessControlClient
	backup   *administration.BackupClient
	settings *administration.SettingsClient
}

func newClients(t *testing.T, url string, options *administration.ClientOptions, cred azcore.TokenCredential) clients {
	t.Helper()
	access, err1 := administration.NewAccessControlClient(url, cred, options)
	backup, err2 := administration.NewBackupClient(url, cred, options)
	settings, err3 := administration.NewSettingsClient(url, cred, options)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	return clients{access, backup, settings}
}

// serve starts a server that demands a token and then answers by handler.
func serve(t *testing.T, handler http.HandlerFunc) (*httptest.Server, clients) {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Header.Get("Authorization") {
		case "Bearer " + bearer:
			handler(w, r)
		case "":
			if body, _ := io.ReadAll(r.Body); len(body) > 0 {
				t.Errorf("%s %s has a body before there is a token", r.Method, r.URL)
			}
			w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.example/tenant", resource="https://managedhsm.example"`)
			w.WriteHeader(http.StatusUnauthorized)
		default:
			t.Errorf("unknown token in %s %s", r.Method, r.URL)
		}
	}))
	t.Cleanup(srv.Close)
	return srv, newClients(t, srv.URL, options(srv), credential{})
}

// An exchange is a request and its answer as the files of exchanges have them.
type exchange struct {
	Method, URI, Body, ContentType string
	Status                         int
	Response                       string
	ResponseHeaders                map[string]string
}

// A replay plays the server's part of exchanges and compares the requests with the client's part.
type replay struct {
	t    *testing.T
	srv  *httptest.Server
	mu   sync.Mutex
	left []exchange
}

func newReplay(t *testing.T, exchanges []exchange) *replay {
	r := &replay{t: t, left: exchanges}
	r.srv = httptest.NewTLSServer(r)
	t.Cleanup(r.srv.Close)
	return r
}

func (r *replay) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	defer r.mu.Unlock()
	body, _ := io.ReadAll(req.Body)
	if len(r.left) == 0 {
		r.t.Errorf("one request too many: %s %s", req.Method, req.URL)
		return
	}
	e := r.left[0]
	r.left = r.left[1:]
	want := exchange{Method: e.Method, URI: e.URI, Body: e.Body, ContentType: e.ContentType}
	got := exchange{Method: req.Method, URI: req.URL.RequestURI(), Body: string(body), ContentType: req.Header.Get("Content-Type")}
	if diff := cmp.Diff(want, got, cmp.FilterPath(func(p cmp.Path) bool { return p.String() == "Body" }, cmp.Comparer(sameJSON))); diff != "" {
		r.t.Errorf("request differs (-want +got):\n%s", diff)
	}
	for k, v := range e.ResponseHeaders {
		w.Header().Set(k, strings.Replace(v, "https://hsm.example", r.srv.URL, 1))
	}
	w.WriteHeader(e.Status)
	_, _ = io.WriteString(w, e.Response)
}

func (r *replay) finish() {
	r.t.Helper()
	if len(r.left) > 0 {
		r.t.Errorf("%d requests were not sent, first %s %s", len(r.left), r.left[0].Method, r.left[0].URI)
	}
}

func sameJSON(a, b string) bool {
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
		return a == b
	}
	return cmp.Equal(x, y)
}

func exchanges(t *testing.T, from, to int) []exchange {
	t.Helper()
	var file struct{ Exchanges []exchange }
	raw, err := os.ReadFile("testdata/wire.json")
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	return file.Exchanges[from:to]
}

func collect[P, E any](t *testing.T, pager *runtime.Pager[P], elements func(P) []E) (all []E, err error) {
	t.Helper()
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			return all, err
		}
		all = append(all, elements(page)...)
	}
	return all, nil
}

// wantError checks that an error has a status and a code and holds no secret.
func wantError(t *testing.T, err error, status int, code string) {
	t.Helper()
	var refused *azcore.ResponseError
	if !errors.As(err, &refused) {
		t.Fatalf("got %v, want an azcore.ResponseError", err)
	}
	if refused.StatusCode != status || refused.ErrorCode != code {
		t.Errorf("got status %d and code %q, want %d and %q: %v", refused.StatusCode, refused.ErrorCode, status, code, err)
	}
}

func wantStatus(t *testing.T, err error, status int) {
	t.Helper()
	if refused, ok := errors.AsType[*azcore.ResponseError](err); !ok || refused.StatusCode != status {
		t.Errorf("got %v, want status %d", err, status)
	}
}

// wantText checks an error that is none of the service's.
func wantText(t *testing.T, err error, text string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), text) {
		t.Errorf("got error %v, want one with %q", err, text)
	}
}

func TestNewClientRefuses(t *testing.T) {
	t.Parallel()
	for _, url := range []string{
		"", "hsm.example", "http://hsm.example", "https://", "https://user:pw@hsm.example", "https://hsm.example/keys", "https://hsm.example?a=b", "https://[",
	} {
		_, err := administration.NewSettingsClient(url, credential{}, nil)
		wantText(t, err, "is not the URL of a managed HSM")
	}
	_, err := administration.NewBackupClient("https://hsm.example", nil, nil)
	wantText(t, err, "credential is missing")
	if _, err := administration.NewAccessControlClient("https://hsm.example/", credential{}, nil); err != nil {
		t.Error(err)
	}
}

// A server may not ask for tokens of others unless the caller has said so.
func TestForeignResource(t *testing.T) {
	t.Parallel()
	srv, _ := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the server was given a token") })
	o := options(srv)
	o.DisableChallengeResourceVerification = false
	_, err := newClients(t, srv.URL, o, credential{}).settings.GetSettings(t.Context(), nil)
	wantText(t, err, "parent domain")
}

func TestAPIVersion(t *testing.T) {
	t.Parallel()
	srv, _ := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.RawQuery; got != "api-version=7.4" {
			t.Errorf("query is %s", got)
		}
		_, _ = io.WriteString(w, `{"settings":[]}`)
	})
	o := options(srv)
	o.APIVersion = "7.4"
	if _, err := newClients(t, srv.URL, o, credential{}).settings.GetSettings(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
}

func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"empty":      {200, "", "is not the JSON that was expected"},
		"not JSON":   {200, "<html>", "is not the JSON that was expected"},
		"wrong type": {200, `{"name":1}`, "is not the JSON that was expected"},
		"endless":    {200, `{"name":"` + strings.Repeat("x", 9<<20), "is longer than"},
		"redirect":   {307, "", "307"},
		"refusal":    {403, "no", "403"},
		"long no":    {403, strings.Repeat("x", 9<<20), "is longer than"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			})
			_, err := c.settings.GetSetting(t.Context(), "a", nil)
			wantText(t, err, tt.want)
		})
	}
}

func TestNothingIsSentForBadNames(t *testing.T) {
	t.Parallel()
	_, c := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("sent: %s %s", r.Method, r.URL) })
	ctx, a := t.Context(), c.access
	for _, name := range []string{"", ".", "..", "a/b", "a?b", "a%2fb", strings.Repeat("a", 200)} {
		_, err1 := a.GetRoleDefinition(ctx, administration.ScopeGlobal, name, nil)
		_, err2 := a.DeleteRoleDefinition(ctx, administration.ScopeGlobal, name, nil)
		_, err3 := a.GetRoleAssignment(ctx, administration.ScopeGlobal, name, nil)
		_, err4 := a.DeleteRoleAssignment(ctx, administration.ScopeGlobal, name, nil)
		_, err5 := c.settings.GetSetting(ctx, name, nil)
		_, err6 := c.settings.UpdateSetting(ctx, name, "true", nil)
		for _, err := range []error{err1, err2, err3, err4, err5, err6} {
			wantText(t, err, "is not the name of a")
		}
	}
	_, err := c.backup.BeginRestore(ctx, "https://a.blob.example/c/f", &administration.BeginRestoreOptions{KeyName: "a/b"})
	wantText(t, err, "is not the name of a key")
	for _, scope := range []administration.Scope{"", "keys", "/keys/", "//", "/keys/../x", "/keys/a b", "/keys/a/b/c/d", administration.KeyScope("")} {
		_, err := a.GetRoleDefinition(ctx, scope, "a", nil)
		wantText(t, err, "is not a scope")
		_, err = a.NewListRoleAssignmentsPager(scope, nil).NextPage(ctx)
		wantText(t, err, "is not a scope")
	}
}
