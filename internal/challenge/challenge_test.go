package challenge_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/challenge"
)

// credential's tokens say what they are for.
type credential struct{}

func (credential) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: o.TenantID + " " + strings.Join(o.Scopes, " "), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// server answers 401 to what has no token, and notes each request.
type server struct {
	challenge []string
	seen      []string
}

func (s *server) Do(req *http.Request) (*http.Response, error) {
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	token := req.Header.Get("Authorization")
	s.seen = append(s.seen, strings.TrimSpace(token+" | "+req.Header.Get("Content-Type")+" | "+string(body)))
	status := http.StatusOK
	if token == "" {
		status = http.StatusUnauthorized
	}
	return &http.Response{
		StatusCode: status, Request: req, Body: http.NoBody, Header: http.Header{"Www-Authenticate": s.challenge},
	}, nil
}

func send(t *testing.T, pl runtime.Pipeline, url string) error {
	t.Helper()
	req, err := runtime.NewRequest(t.Context(), http.MethodPost, url)
	if err != nil {
		t.Fatal(err)
	}
	if err := req.SetBody(readSeekNopCloser{strings.NewReader("secret")}, "text/plain"); err != nil {
		t.Fatal(err)
	}
	_, err = pl.Do(req)
	return err
}

type readSeekNopCloser struct{ *strings.Reader }

func (readSeekNopCloser) Close() error { return nil }

func pipeline(s *server, unverified bool) runtime.Pipeline {
	return runtime.NewPipeline("test", "v1", runtime.PipelineOptions{
		PerRetry: []policy.Policy{challenge.New(credential{}, unverified)},
	}, &policy.ClientOptions{Transport: s})
}

// TestNew: the body goes out only with a token, and the challenge is needed once for each host.
func TestNew(t *testing.T) {
	t.Parallel()
	s := &server{challenge: []string{`Bearer authorization="https://login.example.org/tenant", resource="https://managedhsm.example.org"`}}
	pl := pipeline(s, false)
	for _, url := range []string{"https://a.managedhsm.example.org", "https://a.managedhsm.example.org", "https://b.managedhsm.example.org"} {
		if err := send(t, pl, url); err != nil {
			t.Fatal(err)
		}
	}
	with := "Bearer tenant https://managedhsm.example.org/.default | text/plain | secret"
	if diff := cmp.Diff([]string{"|  |", with, with, "|  |", with}, s.seen); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
}

func TestChallenges(t *testing.T) {
	t.Parallel()
	const authority = `authorization="https://login.example.org/tenant/more"`
	for name, tt := range map[string]struct {
		url        string
		challenge  []string
		unverified bool
		token, err string
	}{
		"without commas": {
			challenge: []string{"Bearer " + authority + ` resource="https://hsm.example.org"`}, token: "tenant https://hsm.example.org/.default",
		},
		"a scope wins": {
			challenge: []string{`bearer resource="https://elsewhere", scope="https://hsm.example.org/.default", ` + authority},
			token:     "tenant https://hsm.example.org/.default",
		},
		"behind another scheme": {
			challenge: []string{`Basic realm="x"`, `Bearer resource=https://hsm.example.org`}, token: " https://hsm.example.org/.default",
		},
		"letter case and the usual port": {
			url: "https://A.hsm.Example.org:443", challenge: []string{`Bearer resource="https://HSM.example.org"`}, token: " https://HSM.example.org/.default",
		},
		"the same port": {
			url: "https://a.hsm.example.org:8443", challenge: []string{`Bearer resource="https://hsm.example.org:8443"`},
			token: " https://hsm.example.org:8443/.default",
		},
		"another port":      {challenge: []string{`Bearer resource="https://hsm.example.org:8443"`}, err: "not its parent domain"},
		"another domain":    {challenge: []string{`Bearer resource="https://vault.example.org"`}, err: "not its parent domain"},
		"half a label":      {challenge: []string{`Bearer resource="https://m.example.org"`}, err: "not its parent domain"},
		"the host itself":   {challenge: []string{`Bearer resource="https://a.hsm.example.org"`}, err: "not its parent domain"},
		"no host":           {challenge: []string{`Bearer resource="hsm"`}, err: "it has no host"},
		"no address":        {challenge: []string{`Bearer resource="https://[:"`}, err: "is not a resource"},
		"no resource":       {challenge: []string{`Bearer ` + authority}, err: "does not say for which resource"},
		"no Bearer":         {challenge: []string{`Basic realm="x"`}, err: "does not say for which resource"},
		"verification off":  {challenge: []string{`Bearer resource="https://other.example.net"`}, unverified: true, token: " https://other.example.net/.default"},
		"not a secure host": {url: "http://a.hsm.example.org", err: "not permitted"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &server{challenge: tt.challenge}
			url := tt.url
			if url == "" {
				url = "https://a.hsm.example.org"
			}
			err := send(t, pipeline(s, tt.unverified), url)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("%v, want %q", err, tt.err)
				}
				for _, seen := range s.seen {
					if strings.Contains(seen, "Bearer") || strings.Contains(seen, "secret") {
						t.Errorf("sent %q", seen)
					}
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, want := s.seen[len(s.seen)-1], "Bearer "+tt.token+" | text/plain | secret"; got != want {
				t.Errorf("sent %q, want %q", got, want)
			}
		})
	}
}
