package securitydomain_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/strongroom/strongroom/securitydomain"
)

const address = "https://contoso.managedhsm.example.org"

// A service is a managed HSM as a client sees it, without a network. Its members are what it says.
type service struct {
	domain    string   // of a download
	download  int      // its HTTP status; 0 is 202
	first     string   // the body of an upload's first answer
	upload    int      // its HTTP status; 0 is 202
	operation string   // the header with the address of the operation; "none" leaves it out
	statuses  []string // bodies of the polls, in turn; the last one stays

	requests []string        // what came with a token: method, path and query, body
	hosts    map[string]bool // where any came
}

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// Do answers as an HTTP transport.
func (s *service) Do(req *http.Request) (*http.Response, error) {
	if s.hosts == nil {
		s.hosts = make(map[string]bool)
	}
	s.hosts[req.URL.Host] = true
	rec := httptest.NewRecorder()
	rec.Header().Set("Content-Type", "application/json; charset=utf-8")
	s.answer(rec, req)
	resp := rec.Result()
	resp.Request = req
	return resp, nil
}

func (s *service) answer(w http.ResponseWriter, req *http.Request) {
	if req.Header.Get("Authorization") == "" {
		w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.example.org/tenant", resource="https://managedhsm.example.org"`)
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	var body []byte
	if req.Body != nil {
		body, _ = io.ReadAll(req.Body)
	}
	s.requests = append(s.requests, strings.TrimSpace(fmt.Sprintf("%s %s %s", req.Method, req.URL.RequestURI(), body)))
	path := strings.TrimPrefix(req.URL.Path, "/securitydomain")
	switch req.Method + " " + path {
	case "POST /download":
		s.begin(w, path, s.download, fmt.Sprintf(`{"value":%s}`, quoted(s.domain)))
	case "POST /upload":
		s.begin(w, path, s.upload, s.first)
	case "GET /download/pending", "GET /upload/pending":
		status := s.statuses[0]
		if len(s.statuses) > 1 {
			s.statuses = s.statuses[1:]
		}
		if strings.HasPrefix(status, "5") {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(w, status)
	case "GET /upload":
		raw, _ := os.ReadFile("testdata/transfer-key.cer")
		key, _ := securitydomain.ParseTransferKey(raw)
		key.KeyFormat = "jwk"
		answer, _ := json.Marshal(key)
		_, _ = w.Write(answer)
	default:
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"error":{"code":"NotFound","message":"there is no such thing"}}`)
	}
}

func (s *service) begin(w http.ResponseWriter, path string, status int, body string) {
	if status == 0 {
		status = http.StatusAccepted
	}
	switch s.operation {
	case "":
		w.Header().Set("Azure-AsyncOperation", address+"/securitydomain"+path+"/pending?api-version=7.5")
	case "none":
	default:
		w.Header().Set("Azure-AsyncOperation", s.operation)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

func quoted(text string) string {
	raw, _ := json.Marshal(text)
	return string(raw)
}

// client speaks to the service.
func (s *service) client() *securitydomain.Client {
	c, err := securitydomain.NewClient(address+"/", token{}, &securitydomain.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: s, Retry: policy.RetryOptions{RetryDelay: time.Microsecond, MaxRetryDelay: time.Millisecond},
	}})
	if err != nil {
		panic(err)
	}
	return c
}

func file(t testing.TB, name string) []byte {
	t.Helper()
	raw, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}
