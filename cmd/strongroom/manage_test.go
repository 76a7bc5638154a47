package main

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"
)

// aToken is a credential that is always the same token.
type aToken string

func (t aToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(t), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// managing makes a manager for a server that answers so.
func managing(t *testing.T, handle http.HandlerFunc) (*manager, *strings.Builder) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := r.Header.Get("Authorization"); got != "Bearer token" {
			t.Errorf("%s %s: Authorization %q", r.Method, r.URL, got)
		}
		handle(w, r)
	}))
	t.Cleanup(server.Close)
	m := newManager(server.URL, aToken("token"), azcore.ClientOptions{
		Transport: server.Client(), Retry: policy.RetryOptions{MaxRetries: -1},
	})
	m.subscription, m.pause = "/subscriptions/s", 0
	notes := new(strings.Builder)
	m.notes = notes
	return m, notes
}

// A long operation is asked for until it is done, at whatever Location was said last, and who waits is told.
func TestAwait(t *testing.T) {
	t.Parallel()
	var asked []string
	m, notes := managing(t, func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.RequestURI())
		switch len(asked) {
		case 1:
			w.Header().Set("Location", "https://"+r.Host+"/first?api-version=1")
			w.WriteHeader(http.StatusAccepted)
		case 2:
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusAccepted)
		case 3:
			w.Header().Set("Location", "https://"+r.Host+"/second?api-version=1")
			w.WriteHeader(http.StatusAccepted)
		default:
			fmt.Fprint(w, `{"name": "done"}`)
		}
	})
	a, err := m.send(t.Context(), http.MethodPut, "/thing", "1", "", document{"a": "b"})
	if err != nil {
		t.Fatal(err)
	}
	d, err := m.await(t.Context(), a, "making the thing")
	if err != nil || text(d, "name") != "done" {
		t.Errorf("%v, %v", d, err)
	}
	want := []string{"PUT /thing?api-version=1", "GET /first?api-version=1", "GET /first?api-version=1", "GET /second?api-version=1"}
	if diff := cmp.Diff(want, asked); diff != "" {
		t.Error(diff)
	}
	if got := strings.Count(notes.String(), "strongroom: making the thing: waiting for "); got != 2 {
		t.Errorf("who waits was told: %s", notes)
	}
}

func TestAwaitEnds(t *testing.T) {
	t.Parallel()
	m, _ := managing(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "https://"+r.Host+"/again")
		w.WriteHeader(http.StatusAccepted)
	})
	m.pause = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err := m.await(ctx, &answer{status: http.StatusAccepted, location: m.endpoint + "/again"}, "x")
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "goes on, but it was not done within --timeout") {
		t.Error(err)
	}
}

// The token is for this server: it does not follow where an answer points.
func TestOtherServersAreNotAsked(t *testing.T) {
	t.Parallel()
	other := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked: %s", r.URL) }))
	defer other.Close()
	for _, elsewhere := range []string{other.URL + "/x", strings.Replace(other.URL, "https", "http", 1), "//evil.example/x", "x", "https://%zz"} {
		m, _ := managing(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", elsewhere)
			if r.Method == http.MethodGet {
				fmt.Fprintf(w, `{"value": [], "nextLink": %q}`, elsewhere)
				return
			}
			w.WriteHeader(http.StatusAccepted)
		})
		if _, err := m.list(t.Context(), "/things", "1", ""); elsewhere[0] != '/' && err == nil {
			t.Errorf("the list goes on at %s", elsewhere)
		}
		a, err := m.send(t.Context(), http.MethodDelete, "/thing", "1", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.await(t.Context(), a, "x"); elsewhere[0] != '/' && err == nil {
			t.Errorf("waited at %s", elsewhere)
		}
	}
}

func TestListEnds(t *testing.T) {
	t.Parallel()
	pages := 0
	m, _ := managing(t, func(w http.ResponseWriter, r *http.Request) {
		if pages++; pages == 1 && r.URL.Query().Get("$filter") != "name eq 'a b'" {
			t.Errorf("filter %q", r.URL.Query().Get("$filter"))
		}
		fmt.Fprintf(w, `{"value": [{"n": %d}, null, 7], "nextLink": "https://%s/more"}`, pages, r.Host)
	})
	if _, err := m.list(t.Context(), "/things", "1", "name eq 'a b'"); err == nil || !strings.Contains(err.Error(), "does not end") {
		t.Errorf("%v after %d pages", err, pages)
	}
}

func TestMalformedAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		status int
		body   string
		want   string // in the error, "" for none
	}{
		{200, "", ""},
		{200, " \n", ""},
		{200, "{}", ""},
		{200, "<html>", "is not what it should be"},
		{200, "[]", "is not what it should be"},
		{200, `{"a":`, "is not what it should be"},
		{404, "<html>", "the service answered 404"},
		{403, `{"error":{"code":"AuthorizationFailed","message":"no"}}`, "(AuthorizationFailed) no"},
		{500, "", "the service answered 500"},
	} {
		m, _ := managing(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(c.status)
			fmt.Fprint(w, c.body)
		})
		_, err := m.get(t.Context(), "/x", "1")
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(explain(err), c.want) {
			t.Errorf("%d %q: %v", c.status, c.body, err)
		}
	}
}

func TestItself(t *testing.T) {
	t.Parallel()
	claims := func(text string) string { return "h." + base64.RawURLEncoding.EncodeToString([]byte(text)) + ".s" }
	for _, c := range []struct {
		token string
		ok    bool
	}{
		{claims(`{"oid": "o", "tid": "t"}`), true},
		{claims(`{"oid": "o"}`), false},
		{claims(`{"oid": 7, "tid": "t"}`), false},
		{claims(`[]`), false},
		{"h.!.s", false},
		{"opaque", false},
		{"", false},
	} {
		m := newManager("https://management.example", aToken(c.token), azcore.ClientOptions{})
		o, tenant, err := m.itself(t.Context())
		if (err == nil) != c.ok || c.ok && (o != "o" || tenant != "t") {
			t.Errorf("%s: %s, %s, %v", c.token, o, tenant, err)
		}
		if err != nil && c.token != "" && strings.Contains(err.Error(), c.token) {
			t.Errorf("the token is in the error: %v", err)
		}
	}
}

// Which assignments of the service's list, which holds those above and below, are meant.
func TestAssignmentsWanted(t *testing.T) {
	t.Parallel()
	const sub, vault = "/subscriptions/s", "/subscriptions/S/resourceGroups/g/providers/Microsoft.KeyVault/vaults/a"
	for _, c := range []struct {
		asked, scope                 string
		plain, withAll, andInherited bool
	}{
		{vault, strings.ToLower(vault), true, true, true},
		{vault, vault + "/secrets/x", false, true, false},
		{vault, vault + "b", false, false, true}, // the service does not list such
		{vault, sub, false, false, true},
		{vault, "/", false, false, true},
		{sub, vault, false, true, false},
		{"", vault, false, true, false},
	} {
		got := []bool{
			(&assignmentQuery{}).wanted(c.asked, c.scope), (&assignmentQuery{all: true}).wanted(c.asked, c.scope),
			(&assignmentQuery{inherited: true}).wanted(c.asked, c.scope),
		}
		if diff := cmp.Diff([]bool{c.plain, c.withAll, c.andInherited}, got); diff != "" {
			t.Errorf("%s in %s: %s", c.scope, c.asked, diff)
		}
	}
}

func TestNetworkSettings(t *testing.T) {
	t.Parallel()
	rules := networkRules(nil)
	for _, addresses := range [][]string{{"10.0.0.0/8", "10.0.0.1/8"}, {"10.1.2.3/8", "::1", "0:0::1", "192.0.2.1"}, {"192.0.2.1/32"}} {
		if _, err := addAddresses(rules, addresses); err != nil {
			t.Fatal(err)
		}
	}
	want := []any{document{"value": "10.0.0.0/8"}, document{"value": "::1"}, document{"value": "192.0.2.1"}}
	if diff := cmp.Diff(want, rules["ipRules"]); diff != "" {
		t.Error(diff)
	}
	for _, wrong := range []string{"", "x", "1.2.3", "10.0.0.0/33", "fe80::1%eth0/64"} {
		if _, err := addAddresses(rules, []string{wrong}); err == nil {
			t.Errorf("%q became a rule", wrong)
		}
	}
}
