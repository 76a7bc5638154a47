package api_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/api"
	"github.com/strongroom/strongroom/strongroomtest"
)

var update = flag.Bool("update", false, "rewrite the expected answers in testdata/wire")

// TestWire plays the scripts in testdata/wire against a real server and compares every answer. A script is a list of
// exchanges:
//
//	> GET /secrets/n?api-version=7.4     the request line; the path goes out as it stands
//	> @nobody                            who asks: @admin (default), @nobody (a principal without rights), @none, or
//	                                     @token TEXT
//	> Header: value
//	> {"value":"v"}                      the body, if a line starts with { or [ or "
//	> +24h                               moves the server's clock before the request
//	< 200                                the answer: status, the headers that the script names, body
//	< Header: value
//	< {"value":"v"}
//
// Ids that the server makes up appear as <id1>, <id2>, …; a script can use them in later requests. <blob1> is the value
// of the first backup. `go test ./internal/api -run Wire -update` writes the answers.
func TestWire(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/wire/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var mu sync.Mutex
	seen := make(map[string]map[bool]bool) // operation → succeeded, failed
	t.Run("scripts", func(t *testing.T) {
		for _, path := range scripts {
			t.Run(filepath.Base(path), func(t *testing.T) {
				t.Parallel()
				for _, rec := range play(t, path) {
					if rec["category"] != "AuditEvent" {
						continue
					}
					mu.Lock()
					op := rec["operationName"].(string)
					if seen[op] == nil {
						seen[op] = make(map[bool]bool)
					}
					seen[op][rec["resultType"] == "Success"] = true
					mu.Unlock()
				}
			})
		}
	})
	for _, rt := range api.Routes() {
		if !seen[rt.Operation][true] || !seen[rt.Operation][false] {
			t.Errorf("the scripts have no success and failure of %s", rt.Operation)
		}
	}
}

// player plays one script.
type player struct {
	t       *testing.T
	server  *strongroomtest.Server
	now     time.Time
	mu      sync.Mutex // guards now, which the server reads
	tokens  map[string]string
	ids     []string
	blobs   []string
	out     bytes.Buffer
	nobody  strongroomtest.Principal
	baseURL string
}

func (p *player) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func play(t *testing.T, path string) []map[string]any {
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{t: t, now: time.Unix(1_800_000_000, 0), tokens: make(map[string]string)}
	p.server = strongroomtest.Start(t, &strongroomtest.Options{Vault: "Golden", Now: p.clock})
	p.baseURL = p.server.VaultURL
	p.nobody = p.server.CreatePrincipal(t, "nobody")
	p.server.CreateVault(t, "other")

	lines := strings.Split(strings.TrimRight(string(script), "\n"), "\n")
	for len(lines) > 0 {
		n := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, ">") })
		if n < 0 {
			n = len(lines)
		}
		for _, l := range lines[:n] { // comments and blank lines
			fmt.Fprintln(&p.out, l)
		}
		lines = lines[n:]
		request := take(&lines, "> ")
		answer := take(&lines, "< ")
		if len(request) > 0 {
			p.exchange(request, answer)
		}
	}
	if *update {
		if err := os.WriteFile(path, p.out.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(string(script), p.out.String()); diff != "" {
		t.Errorf("%s: answers differ (-want +got):\n%s", path, diff)
	}
	return p.server.AuditLog(t)
}

// take removes the leading lines with the prefix and returns them without it.
func take(lines *[]string, prefix string) (out []string) {
	for len(*lines) > 0 && strings.HasPrefix((*lines)[0], prefix) {
		out = append(out, strings.TrimPrefix((*lines)[0], prefix))
		*lines = (*lines)[1:]
	}
	return out
}

func (p *player) exchange(request, answer []string) {
	for _, l := range request {
		fmt.Fprintln(&p.out, ">", l)
	}
	method, target, _ := strings.Cut(request[0], " ")
	req := &http.Request{Method: method, Header: http.Header{}, URL: p.target(target), Host: ""}
	who := "@admin"
	for _, l := range request[1:] {
		switch {
		case strings.HasPrefix(l, "@"):
			who = l
		case strings.HasPrefix(l, "+"):
			d, err := time.ParseDuration(l[1:])
			if err != nil {
				p.t.Fatal(err)
			}
			p.mu.Lock()
			p.now = p.now.Add(d)
			p.mu.Unlock()
		case strings.ContainsAny(l[:1], `{["x`) || !strings.Contains(l, ": "):
			body := p.known(l)
			req.Body, req.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
			if req.Header.Get("Content-Type") == "" {
				req.Header.Set("Content-Type", "application/json")
			}
		default:
			name, value, _ := strings.Cut(l, ": ")
			if name == "Host" {
				req.Host = strings.ReplaceAll(value, "<port>", req.URL.Port())
			} else {
				req.Header.Set(name, value)
			}
		}
	}
	p.authorize(req, who)
	resp, err := p.server.HTTPClient().Transport.RoundTrip(req)
	if err != nil {
		p.t.Fatalf("%s: %v", request[0], err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s: %v", request[0], err)
	}
	fmt.Fprintln(&p.out, "<", resp.StatusCode)
	for _, l := range answer {
		if name, _, ok := strings.Cut(l, ": "); ok && !strings.HasPrefix(l, "{") {
			fmt.Fprintf(&p.out, "< %s: %s\n", name, p.masked(strings.Join(resp.Header.Values(name), " | ")))
		}
	}
	if len(body) > 0 {
		fmt.Fprintln(&p.out, "<", p.masked(string(body)))
	}
}

// target makes a URL whose path is sent exactly as it stands in the script.
func (p *player) target(target string) *url.URL {
	base, err := url.Parse(p.baseURL)
	if err != nil {
		p.t.Fatal(err)
	}
	raw, query, _ := strings.Cut(p.known(target), "?")
	path, err := url.PathUnescape(raw)
	if err != nil {
		p.t.Fatal(err)
	}
	return &url.URL{Scheme: "https", Host: base.Host, Path: path, RawPath: raw, RawQuery: query}
}

func (p *player) authorize(req *http.Request, who string) {
	switch {
	case who == "@none":
		return
	case strings.HasPrefix(who, "@token "):
		req.Header.Set("Authorization", strings.TrimPrefix(who, "@token "))
		return
	}
	// Tokens live for an hour of the script's clock.
	key := who + p.clock().Truncate(30*time.Minute).String()
	if p.tokens[key] == "" {
		id, secret := p.server.ClientID, p.server.Secret
		if who == "@nobody" {
			id, secret = p.nobody.ClientID, p.nobody.Secret
		}
		p.tokens[key] = p.server.Token(p.t, id, secret)
	}
	req.Header.Set("Authorization", "Bearer "+p.tokens[key])
}

var (
	hexID  = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
	blobIn = regexp.MustCompile(`^\{"value":"(GVN0[A-Za-z0-9_-]{40,})"\}$`)
)

// masked replaces what differs from run to run.
func (p *player) masked(s string) string {
	if m := blobIn.FindStringSubmatch(s); m != nil {
		p.blobs = append(p.blobs, m[1])
		return fmt.Sprintf(`{"value":"<blob%d>"}`, len(p.blobs))
	}
	base, err := url.Parse(p.baseURL)
	if err != nil {
		p.t.Fatal(err)
	}
	s = strings.ReplaceAll(s, ":"+base.Port(), ":<port>")
	s = strings.ReplaceAll(s, p.server.TenantID, "<tenant>")
	s = strings.ReplaceAll(s, p.nobody.ClientID, "<nobody app>")
	s = strings.ReplaceAll(s, p.nobody.ObjectID, "<nobody oid>")
	return hexID.ReplaceAllStringFunc(s, func(id string) string {
		n := slices.Index(p.ids, id)
		if n < 0 {
			n = len(p.ids)
			p.ids = append(p.ids, id)
		}
		return fmt.Sprintf("<id%d>", n+1)
	})
}

// known is the reverse of masked, for requests. <x*N> stands for N times x.
func (p *player) known(s string) string {
	for i, id := range p.ids {
		s = strings.ReplaceAll(s, fmt.Sprintf("<id%d>", i+1), id)
	}
	for i, blob := range p.blobs {
		s = strings.ReplaceAll(s, fmt.Sprintf("<blob%d>", i+1), blob)
		altered := []byte(blob)
		if i := len(blob) / 2; altered[i] == 'A' {
			altered[i] = 'B'
		} else {
			altered[i] = 'A'
		}
		s = strings.ReplaceAll(s, fmt.Sprintf("<altered blob%d>", i+1), string(altered))
	}
	return regexp.MustCompile(`<(.[^*<>]*)\*(\d+)>`).ReplaceAllStringFunc(s, func(m string) string {
		text, count, _ := strings.Cut(m[1:len(m)-1], "*")
		n := 0
		fmt.Sscan(count, &n)
		return strings.Repeat(text, n)
	})
}

// TestRecordedShapes compares the members of our answers with those that the real service was seen to send.
func TestRecordedShapes(t *testing.T) {
	t.Parallel()
	const path = "../../../shared/contract/wire-samples.json"
	raw, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Log("left out: the recorded exchanges are not on this machine")
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	var samples []struct {
		Service  string
		Request  struct{ Method, Path, Query string }
		Response struct {
			Status  int
			Headers map[string]string
			Body    json.RawMessage
		}
	}
	if err := json.Unmarshal(raw, &samples); err != nil {
		t.Fatal(err)
	}
	ours := secretAnswers(t)
	compared := 0
	for _, s := range samples {
		key := shapeKey(s.Request.Method, s.Request.Path, s.Response.Status)
		mine, ok := ours[key]
		if s.Service != "vault" || !ok {
			continue
		}
		compared++
		var theirs any
		if err := json.Unmarshal(s.Response.Body, &theirs); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(members("", theirs), members("", mine)); diff != "" {
			t.Errorf("%s: members differ (-recorded +ours):\n%s", key, diff)
		}
	}
	if compared < 10 {
		t.Errorf("only %d recorded exchanges were compared", compared)
	}
}

// shapeKey names a kind of exchange, whatever the names and versions in it.
func shapeKey(method, path string, status int) string {
	segments := strings.Split(strings.Trim(path, "/"), "/")
	for i := 1; i < len(segments); i++ {
		switch segments[i] {
		case "versions", "backup", "restore", "recover":
		default:
			if len(segments[i]) == 32 {
				segments = slices.Delete(segments, i, i+1)
				i--
			} else {
				segments[i] = "n"
			}
		}
	}
	return fmt.Sprintf("%s /%s %d", method, strings.Join(segments, "/"), status)
}

// optional are members that depend on what was stored.
var optional = []string{"contentType", "tags", "managed", "kid", "attributes.nbf", "attributes.exp"}

// members lists the paths of a document's members and the types of their values.
func members(path string, v any) (out []string) {
	switch v := v.(type) {
	case map[string]any:
		for k, inner := range v {
			name := strings.TrimPrefix(path+"."+k, ".")
			if slices.Contains(optional, strings.TrimPrefix(strings.TrimPrefix(name, "value[]"), ".")) {
				continue
			}
			out = append(out, members(name, inner)...)
		}
		slices.Sort(out)
		return slices.Compact(out)
	case []any:
		for _, inner := range v {
			out = append(out, members(path+"[]", inner)...)
		}
		slices.Sort(out)
		return slices.Compact(out)
	default:
		return []string{fmt.Sprintf("%s %T", path, v)}
	}
}

// secretAnswers makes one exchange of each kind with our server.
func secretAnswers(t *testing.T) map[string]any {
	s := strongroomtest.Start(t, nil)
	token := s.Token(t, s.ClientID, s.Secret)
	out := make(map[string]any)
	do := func(method, path, body, authorization string) map[string]any {
		req, err := http.NewRequest(method, s.VaultURL+path+"?api-version=7.4", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", authorization)
		resp, err := s.HTTPClient().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var doc any = "" // as the recorder writes an empty body
		if err := json.NewDecoder(resp.Body).Decode(&doc); err != nil && err != io.EOF {
			t.Fatal(err)
		}
		out[shapeKey(method, path, resp.StatusCode)] = doc
		m, _ := doc.(map[string]any)
		return m
	}
	bearer := "Bearer " + token
	do("PUT", "/secrets/n", "", "")
	do("GET", "/secrets", "", "")
	do("GET", "/secrets/n", "", "")
	do("GET", "/deletedsecrets", "", bearer)
	do("PUT", "/secrets/n", `{"value":"v"}`, bearer)
	do("GET", "/secrets/n/", "", bearer)
	do("PATCH", "/secrets/n", `{"attributes":{"enabled":true}}`, bearer)
	do("GET", "/secrets/n/versions", "", bearer)
	do("GET", "/secrets", "", bearer)
	backup := do("POST", "/secrets/n/backup", "", bearer)
	do("DELETE", "/secrets/n", "", bearer)
	do("PUT", "/secrets/n", `{"value":"v"}`, bearer)
	do("POST", "/deletedsecrets/n/recover", "", bearer)
	do("DELETE", "/secrets/n", "", bearer)
	do("DELETE", "/deletedsecrets/n", "", bearer)
	do("POST", "/secrets/restore", fmt.Sprintf(`{"value":%q}`, backup["value"]), bearer)
	return out
}
