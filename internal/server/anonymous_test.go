package server_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/strongroomtest"
)

// TestAnonymousFlood asks without a token, with a bad one and for a foreign host, more often than is put on record one by
// one. Every request is on record all the same, in a count; and who has a token does not notice.
func TestAnonymousFlood(t *testing.T) {
	t.Parallel()
	now := time.Now() // stands still, so that no bucket fills again
	s := strongroomtest.Start(t, &strongroomtest.Options{Now: func() time.Time { return now }, Config: "log: {requests: false}"})
	token := adminToken(t, s)
	answers := make(map[int]int)
	retry := make(map[string]int)
	ask := func(n int, host, authorization string) {
		t.Helper()
		for range n {
			req, err := http.NewRequest("GET", s.VaultURL+"/"+strings.Repeat("a", 1000), nil)
			if err != nil {
				t.Fatal(err)
			}
			if req.Host = host; authorization != "" {
				req.Header.Set("Authorization", authorization)
			}
			req.Header.Set("User-Agent", strings.Repeat("u", 1000))
			resp, err := s.HTTPClient().Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, err = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if err != nil {
				t.Fatal(err)
			}
			answers[resp.StatusCode]++
			if resp.StatusCode == http.StatusTooManyRequests {
				retry[resp.Header.Get("Retry-After")]++
			}
		}
	}
	ask(300, "", "")
	ask(200, "example.org", "")        // exhausts the bucket of those without a token
	ask(500, "", "Bearer not.a.token") // and the one of those with a bad one
	ask(20, "", "")
	ask(20, "example.org", "")
	ask(20, "", "Bearer not.a.token")
	ask(20, "example.org", "Bearer x")
	if diff := cmp.Diff(map[int]int{401: 300 + 500 + 20, 421: 200 + 20, 429: 40}, answers); diff != "" {
		t.Errorf("answers (-want +got):\n%s", diff)
	}
	if retry["1"] != 40 {
		t.Errorf("Retry-After: %v", retry)
	}
	for _, c := range []struct{ method, body string }{{"PUT", `{"value":"1"}`}, {"GET", ""}} {
		if status, body := call(t, s, token, c.method, "/secrets/a", c.body); status != 200 {
			t.Errorf("%s with a token: %d %s", c.method, status, body)
		}
	}
	adminToken(t, s) // and tokens are to be had
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	single, counted := 0, 0
	for _, rec := range s.AuditLog(t) {
		switch rec["operationName"] {
		case "Authentication", "Misdirected":
			single++
			if raw := fmt.Sprint(rec); len(raw) > 2000 {
				t.Fatalf("a record of %d bytes", len(raw))
			}
		case "Throttled":
			n := 0
			if _, err := fmt.Sscanf(fmt.Sprint(rec["resultDescription"]), "%d requests", &n); err != nil {
				t.Errorf("%v: %v", rec["resultDescription"], err)
			}
			counted += n
			if rec["callerIpAddress"] != "127.0.0.1" {
				t.Errorf("the address is %v", rec["callerIpAddress"])
			}
		}
	}
	if single != 1000 || counted != 80 {
		t.Errorf("%d requests have a record of their own, %d are counted", single, counted)
	}
}
