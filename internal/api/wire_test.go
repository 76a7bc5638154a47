package api_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/api"
	"github.com/strongroom/strongroom/internal/backup/backuptest"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/wire/wiretest"
	"github.com/strongroom/strongroom/strongroomtest"
)

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
// of the first backup, <bytes1> the first long value that comes out of cryptography, unless the script itself has it: what is
// the same in every run stands in the answer as it is. `go test ./internal/api -run Wire -update` writes the answers.
//
// In requests these stand for something long, too:
//
//	<altered blob1>             the blob with one character changed
//	<padded blob1>              the blob as base64 with padding
//	<x*N>                       N times x
//	<b64 TEXT>                  the text in base64url
//	<jwk KEY e=AQ -d …>         the members of a key in testdata/keys.json, with e changed and d left out
//	<KEY.d>                     one member's value
//	<pkcs8 KEY>                 the key in PKCS#8
//	<byok KID KEY KEY2>         a transfer file: KEY2 under KEY, which the vault has as KID; with "cut" behind it half of it
//	<policy>                    a release policy that names a test's own attestation authority
//	<token good>                what that authority says of a target; or bad
//	<owner N>                   the certificate of an owner of security domains, as a JWK
//	<restore domain1 transfer2> a restore blob, as it stands in a string: what is in the first security domain that came,
//	                            for the second transfer key
//
//	<storage>, <sas>            the address of a blob container, and a token that opens it
//
// The state of a backup or a restore is asked for until that has ended.
//
// A script whose name begins with hsm- is for managed HSMs: the usual host is that of one named Golden, which is not activated, and
// there is another one at other.managedhsm.localhost:<port>.
//
// One that begins with pool- is for what an activated managed HSM does: Golden is one, twin has the same security domain, other has
// another one, and fresh has none. @vaults is the administrator with a token for vaults.
func TestWire(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/wire/*.txt")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var mu sync.Mutex
	seen, pools := make(map[outcome]bool), make(map[outcome]bool)
	t.Run("scripts", func(t *testing.T) {
		for _, path := range scripts {
			t.Run(filepath.Base(path), func(t *testing.T) {
				t.Parallel()
				outcomes := playerOf(path)(t, path)
				mu.Lock()
				defer mu.Unlock()
				maps.Copy(seen, outcomes)
				if ofPool(path) {
					maps.Copy(pools, outcomes)
				}
			})
		}
	})
	for _, rt := range api.Routes() {
		route := rt.Method + " " + rt.Pattern
		succeeds := rt.Operation != keyvault.KeyAttestationGet.Name // what keeps keys in software attests none
		if seen[outcome{route, true}] != succeeds || !seen[outcome{route, false}] {
			t.Errorf("the scripts have no success and failure of %s", route)
		}
		key := strings.HasPrefix(rt.Operation, "Key") || rt.Operation == keyvault.RandomBytes.Name
		if key && (pools[outcome{route, true}] != succeeds || !pools[outcome{route, false}]) {
			t.Errorf("the scripts have no success and failure of %s in a managed HSM", route)
		}
	}
}

// playerOf returns what plays a script: those about the roles and settings of a managed HSM need no whole server.
func playerOf(path string) func(*testing.T, string) map[outcome]bool {
	if strings.HasPrefix(filepath.Base(path), "local-") {
		return playHSM
	}
	return play
}

// ofPool tells whether a script is for an activated managed HSM.
func ofPool(path string) bool { return strings.HasPrefix(filepath.Base(path), "pool-") }

// An outcome is that the requests of a route succeeded or failed.
type outcome struct {
	route     string
	succeeded bool
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
	domains []string // files with security domains
	keys    []string // transfer keys
	bytes   []string
	script  string
	sent    strings.Builder // all bodies
	nobody  strongroomtest.Principal
	baseURL string
	tokenOf func(t testing.TB, id, secret string) string

	authority *authority          // if the script has a policy
	storage   *backuptest.Storage // if it has storage
	outcomes  map[outcome]bool
}

func (p *player) clock() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now
}

func play(t *testing.T, path string) map[outcome]bool {
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{t: t, now: time.Unix(1_800_000_000, 0), tokens: make(map[string]string), script: string(script), outcomes: make(map[outcome]bool)}
	opts := &strongroomtest.Options{Vault: "Golden", Now: p.clock}
	if strings.Contains(p.script, "<policy>") {
		p.authority = startAuthority(t)
		opts.Config = p.authority.config()
	}
	if strings.Contains(p.script, "<storage>") {
		p.storage = backuptest.New(t)
		opts.Config += storageConfig(t, p.storage)
	}
	p.server = strongroomtest.Start(t, opts)
	p.baseURL, p.tokenOf = p.server.VaultURL, p.server.Token
	p.nobody = p.server.CreatePrincipal(t, "nobody")
	p.server.CreateVault(t, "other")
	if strings.HasPrefix(filepath.Base(path), "hsm-") {
		p.baseURL = createHSM(t, p.server, "Golden")
		createHSM(t, p.server, "other")
		p.tokenOf = func(t testing.TB, id, secret string) string { return tokenFor(t, p.server, "managedhsm", id, secret) }
	}

	if ofPool(path) {
		p.baseURL, p.tokenOf = p.server.CreateHSM(t, "Golden", strongroomtest.HSMOptions{}), p.server.HSMToken
		p.server.CreateHSM(t, "twin", strongroomtest.HSMOptions{DomainOf: "Golden"})
		p.server.CreateHSM(t, "other", strongroomtest.HSMOptions{})
		p.server.CreateHSM(t, "fresh", strongroomtest.HSMOptions{NotActivated: true})
	}

	wiretest.Play(t, path, p.exchange)
	return p.outcomes
}

// exchange makes a request and returns the lines of its answer.
func (p *player) exchange(request, said []string) []string {
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
			p.sent.WriteString(body)
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
	resp, body := p.send(req)
	for deadline := time.Now().Add(time.Minute); method == http.MethodGet && bytes.Contains(body, []byte(`"InProgress"`)); {
		if time.Now().After(deadline) {
			p.t.Fatalf("%s: the job does not end: %s", request[0], body)
		}
		resp, body = p.send(req)
	}
	p.outcomes[outcome{method + " " + api.PatternOf(method, req.URL.EscapedPath()), resp.StatusCode < 300}] = true
	answer := []string{strconv.Itoa(resp.StatusCode)}
	for _, l := range said {
		if name, _, ok := strings.Cut(l, ": "); ok && !strings.HasPrefix(l, "{") {
			answer = append(answer, name+": "+p.masked(strings.Join(resp.Header.Values(name), " | ")))
		}
	}
	if len(body) > 0 {
		answer = append(answer, p.masked(string(body)))
	}
	return answer
}

// send makes a request and returns its answer.
func (p *player) send(req *http.Request) (*http.Response, []byte) {
	resp, err := p.server.HTTPClient().Transport.RoundTrip(req)
	if err != nil {
		p.t.Fatalf("%s: %v", req.URL, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		p.t.Fatalf("%s: %v", req.URL, err)
	}
	return resp, body
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
		if who == "@vaults" {
			p.tokens[key] = p.server.Token(p.t, id, secret)
		} else {
			p.tokens[key] = p.tokenOf(p.t, id, secret)
		}
	}
	req.Header.Set("Authorization", "Bearer "+p.tokens[key])
}

var (
	hexID      = regexp.MustCompile(`\b[0-9a-f]{32}\b`)
	activityID = regexp.MustCompile(`\(Activity ID: [0-9a-f-]{36}\)`)

	blobIn  = regexp.MustCompile(`^\{"value":"((?:GVN0|FlN0|ZXlK)[A-Za-z0-9_-]{40,})"\}$`)
	bytesIn = regexp.MustCompile(`"(n|x|y|value|iv|tag|data)":"([A-Za-z0-9_.-]{16,})"`)
)

// masked replaces what differs from run to run.
func (p *player) masked(s string) string {
	if m := blobIn.FindStringSubmatch(s); m != nil {
		p.blobs = append(p.blobs, m[1])
		return fmt.Sprintf(`{"value":"<blob%d>"}`, len(p.blobs))
	}
	if masked, ok := p.maskedDomain(s); ok {
		return masked
	}
	base, err := url.Parse(p.baseURL)
	if err != nil {
		p.t.Fatal(err)
	}
	s = bytesIn.ReplaceAllStringFunc(s, func(found string) string {
		m := bytesIn.FindStringSubmatch(found)
		if m[1] == "data" { // a release policy
			return `"data":"` + p.readable(m[2]) + `"`
		}
		return `"` + m[1] + `":"` + p.maskedBytes(m[2]) + `"`
	})
	if p.storage != nil {
		s = strings.ReplaceAll(s, p.storage.Address(), "<storage>")
	}
	s = strings.ReplaceAll(s, ":"+base.Port(), ":<port>")
	s = strings.ReplaceAll(s, p.server.TenantID, "<tenant>")
	s = strings.ReplaceAll(s, p.nobody.ClientID, "<nobody app>")
	s = strings.ReplaceAll(s, p.nobody.ObjectID, "<nobody oid>")
	s = activityID.ReplaceAllString(s, "(Activity ID: <activity>)")
	return hexID.ReplaceAllStringFunc(s, func(id string) string { return "<id" + number(&p.ids, id) + ">" })
}

// maskedBytes names a value that is a test key's or that the script does not have.
func (p *player) maskedBytes(value string) string {
	for name, key := range testKeys() {
		for _, member := range []string{"n", "x", "y"} {
			if key[member] == value {
				return "<" + name + "." + member + ">"
			}
		}
	}
	if strings.Contains(p.script, value) || strings.Contains(p.sent.String(), value) {
		return value
	}
	return "<bytes" + number(&p.bytes, value) + ">"
}

// readable writes a text that came in base64url as a script would.
func (p *player) readable(value string) string {
	text, err := base64.RawURLEncoding.DecodeString(value)
	if err != nil {
		p.t.Errorf("%s: %v", value, err)
	}
	if p.authority != nil {
		text = bytes.ReplaceAll(text, []byte(p.authority.url), []byte("<authority>"))
	}
	return "<b64 " + string(text) + ">"
}

// number returns the place of a value in a list, counted from one, at whose end it is put if it is not there.
func number(list *[]string, value string) string {
	n := slices.Index(*list, value)
	if n < 0 {
		n = len(*list)
		*list = append(*list, value)
	}
	return strconv.Itoa(n + 1)
}

var placeholder = regexp.MustCompile(`<([^<>]*)>`)

// known is the reverse of masked, for requests.
func (p *player) known(s string) string {
	for again := true; again; { // they may stand in each other
		again = false
		s = placeholder.ReplaceAllStringFunc(s, func(m string) string {
			text, ok := p.meaning(m[1 : len(m)-1])
			if !ok {
				return m
			}
			again = true
			return text
		})
	}
	return s
}

// meaning returns what a placeholder stands for; ok is false if it is none.
func (p *player) meaning(s string) (text string, ok bool) {
	verb, rest, _ := strings.Cut(s, " ")
	args := strings.Fields(rest)
	if text, count, ok := strings.Cut(s, "*"); ok {
		n, err := strconv.Atoi(count)
		return strings.Repeat(text, n), err == nil
	}
	if name, member, _ := strings.Cut(s, "."); testKeys()[name] != nil {
		return testKeys()[name][member], true
	}
	for name, list := range map[string][]string{"id": p.ids, "blob": p.blobs, "bytes": p.bytes} {
		place, found := strings.CutPrefix(s[strings.LastIndexByte(s, ' ')+1:], name)
		if n, err := strconv.Atoi(place); found && err == nil {
			return p.variant(verb, list[n-1]), true
		}
	}
	switch verb {
	case "storage":
		return p.storage.Address(), true
	case "sas":
		return backuptest.SAS, true
	case "b64":
		return encode([]byte(rest)), true
	case "jwk":
		return testKeys()[args[0]].members(args[1:]...), true
	case "pkcs8":
		return encode(testKeys()[args[0]].pkcs8(p.t)), true
	case "byok":
		file := transferFile(p.t, args[0], &testKeys()[args[1]].rsa().PublicKey, testKeys()[args[2]].pkcs8(p.t))
		if len(args) > 3 {
			file = file[:len(file)/2]
		}
		return encode(file), true
	case "owner":
		return ownerJWK(p.t, args[0]), true
	case "restore":
		return p.restore(args[0], args[1]), true
	case "policy":
		return encode([]byte(p.authority.policy())), true
	case "token":
		return p.authority.token(p.t, p.clock(), rest == "good"), true
	}
	return "", false
}

// variant is a value as it came, or otherwise if a word says so.
func (p *player) variant(word, value string) string {
	switch word {
	case "altered":
		changed := []byte(value)
		if i := len(value) / 2; changed[i] == 'A' {
			changed[i] = 'B'
		} else {
			changed[i] = 'A'
		}
		return string(changed)
	case "padded":
		return value + strings.Repeat("=", (4-len(value)%4)%4)
	}
	return value
}
