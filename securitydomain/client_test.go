package securitydomain_test

import (
	"encoding/base64"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/securitydomain"
)

const (
	confirming = `{"status":"InProgress","status_details":"The Security Domain is being confirmed."}`
	success    = `{"status":"Success","status_details":"The resource is active."}`
	failed     = `{"status":"Failed","status_details":"The lid is open."}`
)

func often() *runtime.PollUntilDoneOptions {
	return &runtime.PollUntilDoneOptions{Frequency: time.Microsecond}
}

func TestDownload(t *testing.T) {
	t.Parallel()
	domain := `{"EncData":{}}`
	const post, get = `POST /securitydomain/download?api-version=7.6 {"certificates":null,"required":2}`, "GET /securitydomain/download/pending?api-version=7.5"
	for name, tt := range map[string]struct {
		service  service
		skip     bool
		requests []string
		err      string
	}{
		"at once":            {service: service{statuses: []string{success}}, requests: []string{post, get}},
		"later":              {service: service{statuses: []string{confirming, confirming, success}}, requests: []string{post, get, get, get}},
		"with another word":  {service: service{statuses: []string{`{"status":"succeeded"}`}}, requests: []string{post, get}},
		"after a bad moment": {service: service{statuses: []string{"503", "503", success}}, requests: []string{post, get, get, get}},
		"in base64url":       {service: service{domain: base64.RawURLEncoding.EncodeToString([]byte(domain)), statuses: []string{success}}, requests: []string{post, get}},
		"with padding":       {service: service{domain: base64.URLEncoding.EncodeToString([]byte(domain)), statuses: []string{success}}, requests: []string{post, get}},
		"without polling":    {skip: true, requests: []string{post}},
		"with a 200":         {service: service{download: http.StatusOK}, requests: []string{post}},
		"without an address": {service: service{operation: "none", statuses: []string{success}}, requests: []string{post, "GET /securitydomain/download/pending?api-version=7.6"}},
		"failed":             {service: service{statuses: []string{confirming, failed}}, requests: []string{post, get, get}, err: "The lid is open."},
		"without a status":   {service: service{statuses: []string{`{}`}}, requests: []string{post, get}, err: "has no status"},
		"at another server":  {service: service{operation: "https://evil.example.org/"}, requests: []string{post}, err: "is said to be at evil.example.org"},
		"without encryption": {service: service{operation: "http://contoso.managedhsm.example.org/"}, requests: []string{post}, err: "is said to be at"},
		"at no address":      {service: service{operation: "https://["}, requests: []string{post}, err: "the address of the operation"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &tt.service
			if s.domain == "" {
				s.domain = domain
			}
			poller, err := s.client().BeginDownload(t.Context(), securitydomain.CertificateInfo{Required: 2},
				&securitydomain.BeginDownloadOptions{SkipActivationPolling: tt.skip})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := poller.ResumeToken(); err == nil {
				t.Error("there is a resume token")
			}
			got, err := poller.PollUntilDone(t.Context(), often())
			checkOutcome(t, err, tt.err)
			if err == nil && got.Value != domain {
				t.Errorf("domain %s", got.Value)
			}
			if diff := cmp.Diff(tt.requests, s.requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEndlessDomain(t *testing.T) {
	t.Parallel()
	s := &service{domain: strings.Repeat("x", 9<<20)}
	_, err := s.client().BeginDownload(t.Context(), securitydomain.CertificateInfo{Required: 2}, nil)
	checkOutcome(t, err, "is longer than")
}

func checkOutcome(t *testing.T, err error, want string) {
	t.Helper()
	if want == "" {
		if err != nil {
			t.Error(err)
		}
		return
	}
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
	if strings.HasPrefix(want, "The lid") {
		if resp, ok := errors.AsType[*azcore.ResponseError](err); !ok || resp.ErrorCode != "Failed" {
			t.Errorf("%T", err)
		}
	}
}

func TestUpload(t *testing.T) {
	t.Parallel()
	const post, get = `POST /securitydomain/upload?api-version=7.6 {"value":"{}"}`, "GET /securitydomain/upload/pending?api-version=7.5"
	for name, tt := range map[string]struct {
		service  service
		skip     bool
		requests []string
		err      string
	}{
		"done already":      {service: service{first: success}, requests: []string{post}},
		"later":             {service: service{first: confirming, statuses: []string{confirming, success}}, requests: []string{post, get, get}},
		"without a body":    {service: service{statuses: []string{success}}, requests: []string{post, get}},
		"without polling":   {service: service{first: confirming}, skip: true, requests: []string{post}},
		"with a 204":        {service: service{upload: http.StatusNoContent}, requests: []string{post}},
		"failed at once":    {service: service{first: failed}, requests: []string{post}, err: "The lid is open."},
		"failed":            {service: service{first: confirming, statuses: []string{failed}}, requests: []string{post, get}, err: "The lid is open."},
		"canceled":          {service: service{first: confirming, statuses: []string{`{"status":"Canceled"}`}}, requests: []string{post, get}, err: "Failed"},
		"at another server": {service: service{first: confirming, operation: "https://evil.example.org/"}, requests: []string{post}, err: "evil.example.org"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			poller, err := tt.service.client().BeginUpload(t.Context(), securitydomain.SecurityDomain{Value: "{}"},
				&securitydomain.BeginUploadOptions{SkipActivationPolling: tt.skip})
			if err != nil {
				t.Fatal(err)
			}
			_, err = poller.PollUntilDone(t.Context(), often())
			checkOutcome(t, err, tt.err)
			if diff := cmp.Diff(tt.requests, tt.service.requests); diff != "" {
				t.Errorf("requests (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUploadIsResumed(t *testing.T) {
	t.Parallel()
	s := &service{first: confirming, statuses: []string{success}}
	poller, err := s.client().BeginUpload(t.Context(), securitydomain.SecurityDomain{Value: "{}"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	resume, err := poller.ResumeToken()
	if err != nil {
		t.Fatal(err)
	}
	again, err := s.client().BeginUpload(t.Context(), securitydomain.SecurityDomain{}, &securitydomain.BeginUploadOptions{ResumeToken: resume})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := again.PollUntilDone(t.Context(), often()); err != nil {
		t.Error(err)
	}
	if len(s.requests) != 2 {
		t.Errorf("requests: %v", s.requests)
	}
	// A token from elsewhere does not lead to another server.
	for _, evil := range []string{
		strings.Replace(resume, "contoso", "evil", 1),
		`{"type":"UploadResponse","token":{"fakeURL":"https://evil.example.org/","status":"InProgress"}}`, // a poller that azcore has for tests
		"{}", "null", "x",
	} {
		poller, err := s.client().BeginUpload(t.Context(), securitydomain.SecurityDomain{}, &securitydomain.BeginUploadOptions{ResumeToken: evil})
		if err == nil {
			_, err = poller.PollUntilDone(t.Context(), often())
		}
		if len(s.hosts) != 1 || !s.hosts["contoso.managedhsm.example.org"] {
			t.Errorf("%s: %v, servers: %v", evil, err, s.hosts)
		}
	}
}

func TestStatusAndTransferKey(t *testing.T) {
	t.Parallel()
	s := &service{statuses: []string{confirming, `{"status":"success","statusDetails":"older"}`, "{}"}}
	c := s.client()
	down, err := c.GetDownloadStatus(t.Context(), nil)
	if err != nil || down.Status != securitydomain.StatusInProgress || down.StatusDetails != "The Security Domain is being confirmed." {
		t.Errorf("%+v, %v", down, err)
	}
	up, err := c.GetUploadStatus(t.Context(), nil)
	if err != nil || up.Status != securitydomain.StatusSuccess || up.StatusDetails != "older" {
		t.Errorf("%+v, %v", up, err)
	}
	if _, err := c.GetUploadStatus(t.Context(), nil); err == nil {
		t.Error("no status is taken")
	}
	key, err := c.GetTransferKey(t.Context(), nil)
	if err != nil || key.KeyFormat != "jwk" || len(key.Key.X5C) != 1 {
		t.Errorf("%+v, %v", key, err)
	}
	kept, err := key.PEM()
	if err != nil {
		t.Fatal(err)
	}
	again, err := securitydomain.ParseTransferKey(kept)
	if err != nil || again.Key.X5TS256 != key.Key.X5TS256 {
		t.Errorf("%+v, %v", again, err)
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	s := &service{download: http.StatusForbidden, upload: http.StatusConflict, domain: "x"}
	_, err := s.client().BeginDownload(t.Context(), securitydomain.CertificateInfo{}, nil)
	if resp, ok := errors.AsType[*azcore.ResponseError](err); !ok || resp.StatusCode != http.StatusForbidden {
		t.Errorf("%v", err)
	}
	_, err = s.client().BeginUpload(t.Context(), securitydomain.SecurityDomain{}, nil)
	if resp, ok := errors.AsType[*azcore.ResponseError](err); !ok || resp.StatusCode != http.StatusConflict {
		t.Errorf("%v", err)
	}
	empty := &service{}
	if _, err := empty.client().BeginDownload(t.Context(), securitydomain.CertificateInfo{}, nil); err == nil {
		t.Error("an empty domain is taken")
	}
	for _, bad := range []string{"", "contoso", "https://", "https://[", "/path"} {
		if _, err := securitydomain.NewClient(bad, token{}, nil); err == nil {
			t.Errorf("%q is taken for an address", bad)
		}
	}
}
