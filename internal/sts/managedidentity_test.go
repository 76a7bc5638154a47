package sts

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/identity"
)

// local builds a request as a program on this machine sends it.
func local(method, target string, header map[string]string) *http.Request {
	r := httptest.NewRequest(method, "http://127.0.0.1:4711"+target, nil)
	r.RemoteAddr = "127.0.0.1:50000"
	for name, value := range header {
		r.Header.Set(name, value)
	}
	return r
}

// newIdentities is a service with two managed identities, of which IMDS and Arc may give out both.
func newIdentities(t testing.TB, change func(*ManagedIdentityConfig)) (s *service, first, second *identity.Application) {
	t.Helper()
	const one, two = "aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002"
	s = newService(t, func(c *Config) {
		c.ManagedIdentity.Identities = []string{one, two}
		change(&c.ManagedIdentity)
	})
	apps := make([]*identity.Application, 0, 2)
	for i, id := range []string{one, two} {
		app, err := s.dir.CreateApplication(t.Context(), identity.NewApplication{
			ClientID: id, DisplayName: "vm", Kind: identity.KindManagedIdentity,
			ResourceID: "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/i" + strconv.Itoa(i),
		})
		if err != nil {
			t.Fatal(err)
		}
		apps = append(apps, app)
	}
	return s, apps[0], apps[1]
}

func (s *service) wantMetadataToken(t testing.TB, w *httptest.ResponseRecorder, app *identity.Application) {
	t.Helper()
	if w.Code != http.StatusOK {
		t.Errorf("status %d: %s", w.Code, w.Body)
		return
	}
	got := decode[map[string]any](t, w)
	token, _ := got["access_token"].(string)
	now := s.clock.Now().Unix()
	want := map[string]any{
		"access_token": token, "client_id": app.ClientID, "expires_in": "3599", "ext_expires_in": "3599",
		"expires_on": strconv.FormatInt(now+3599, 10), "not_before": strconv.FormatInt(now, 10), "resource": vault, "token_type": "Bearer",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
	caller, err := s.verifier.Verify(t.Context(), token)
	if err != nil || caller.ObjectID != app.ObjectID || caller.ResourceID != app.ResourceID || caller.AppID != app.ClientID {
		t.Errorf("caller %+v, %v", caller, err)
	}
}

func TestAppService(t *testing.T) {
	t.Parallel()
	s, app, other := newIdentities(t, func(*ManagedIdentityConfig) {})
	_, secret, err := s.dir.AddIdentityHeader(t.Context(), app.ClientID, "")
	if err != nil {
		t.Fatal(err)
	}
	h, header := s.ManagedIdentityHandler(), secret.Reveal()
	modern := map[string]string{"X-IDENTITY-HEADER": header}
	const msi = "/msi/token?api-version=2019-08-01"
	escaped := "&resource=" + url.QueryEscape(vault)
	for name, r := range map[string]*http.Request{
		"2019-08-01":   local("GET", msi+escaped, modern),
		"unescaped":    local("GET", msi+"&resource="+vault, modern),
		"slash":        local("GET", "/msi/token/?api-version=2019-08-01"+escaped, modern),
		"2017-09-01":   local("GET", "/msi/token?api-version=2017-09-01"+escaped+"&clientid="+app.ClientID, map[string]string{"secret": header}),
		"client id":    local("GET", msi+"&client_id="+strings.ToUpper(app.ClientID)+escaped, modern),
		"principal id": local("GET", msi+"&principal_id="+app.ObjectID+escaped, modern),
		"resource id":  local("GET", msi+"&mi_res_id="+url.QueryEscape(app.ResourceID)+escaped, modern),
	} {
		t.Log(name)
		s.wantMetadataToken(t, do(h, r), app)
	}
	for name, c := range map[string]struct {
		r      *http.Request
		status int
	}{
		"no header":     {local("GET", msi+escaped, nil), 401},
		"wrong header":  {local("GET", msi+escaped, map[string]string{"X-IDENTITY-HEADER": header + "x"}), 401},
		"old header":    {local("GET", msi+escaped, map[string]string{"secret": header}), 401},
		"other client":  {local("GET", msi+"&client_id="+other.ClientID+escaped, modern), 400},
		"two clients":   {local("GET", msi+"&client_id="+app.ClientID+"&client_id="+other.ClientID+escaped, modern), 400},
		"no resource":   {local("GET", msi, modern), 400},
		"bad resource":  {local("GET", msi+"&resource=https://evil.example.org", modern), 400},
		"no version":    {local("GET", "/msi/token?resource=x", modern), 400},
		"POST":          {local("POST", msi+escaped, modern), 405},
		"huge":          {local("GET", msi+"&x="+strings.Repeat("x", maxIMDSQuery), modern), 403},
		"other path":    {local("GET", "/msi/token/x?api-version=2019-08-01"+escaped, modern), 404},
		"IMDS is off":   {local("GET", "/metadata/identity/oauth2/token?api-version=2018-02-01"+escaped, map[string]string{"Metadata": "true"}), 400},
		"Arc is off":    {local("GET", "/metadata/identity/oauth2/token?api-version=2020-06-01"+escaped, map[string]string{"Metadata": "true"}), 400},
		"shell is off":  {local("POST", "/oauth2/token", map[string]string{"Metadata": "true"}), 404},
		"token service": {local("GET", "/"+tenant+"/v2.0/.well-known/openid-configuration", nil), 404},
	} {
		w := do(h, c.r)
		if w.Code != c.status || strings.Contains(w.Body.String(), "access_token") {
			t.Errorf("%s: status %d, want %d; %s", name, w.Code, c.status, w.Body)
		}
	}
	do(h, local("GET", msi+escaped, modern))
	if e := s.observer.last(t); e.Operation != "TokenIssue" || e.Endpoint != "appservice" {
		t.Errorf("event %+v", e)
	}
}

func TestIMDS(t *testing.T) {
	t.Parallel()
	s, first, second := newIdentities(t, func(c *ManagedIdentityConfig) { c.IMDS = true })
	h := s.ManagedIdentityHandler()
	path := "/metadata/identity/oauth2/token?api-version=2018-02-01&resource=" + url.QueryEscape(vault)
	metadata := map[string]string{"Metadata": "true"}
	s.wantMetadataToken(t, do(h, local("GET", path, metadata)), first)
	s.wantMetadataToken(t, do(h, local("GET", path+"&client_id="+second.ClientID, metadata)), second)
	s.wantMetadataToken(t, do(h, local("GET", path+"&object_id="+second.ObjectID, metadata)), second)
	s.wantMetadataToken(t, do(h, local("GET", path+"&msi_res_id="+strings.ToUpper(second.ResourceID), metadata)), second)

	form := local("POST", "/oauth2/token", map[string]string{"Metadata": "true", "Content-Type": "application/x-www-form-urlencoded"})
	form.Body = http.NoBody
	shell := httptest.NewRequest("POST", "http://localhost/oauth2/token", strings.NewReader("resource="+url.QueryEscape(vault)))
	shell.Header, shell.RemoteAddr = form.Header, "[::1]:9"
	s.wantMetadataToken(t, do(h, shell), first)

	routed := local("GET", path, metadata)
	routed.Host, routed.RemoteAddr = imdsAddress, "10.0.0.7:1"
	s.wantMetadataToken(t, do(h, routed), first)

	unlisted, err := s.dir.CreateApplication(t.Context(), identity.NewApplication{DisplayName: "x", Kind: identity.KindManagedIdentity})
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		r      *http.Request
		status int
	}{
		"probe":         {local("GET", "/metadata/identity/oauth2/token", nil), 400},
		"probe, full":   {local("GET", path, nil), 400},
		"header false":  {local("GET", path, map[string]string{"Metadata": "false"}), 400},
		"version":       {local("GET", "/metadata/identity/oauth2/token?api-version=2000-01-01&resource="+vault, metadata), 400},
		"unlisted":      {local("GET", path+"&client_id="+unlisted.ClientID, metadata), 400},
		"contradiction": {local("GET", path+"&client_id="+first.ClientID+"&object_id="+second.ObjectID, metadata), 400},
		"compute":       {local("GET", "/metadata/instance/compute/location?api-version=2021-01-01&format=text", metadata), 404},
		"instance":      {local("GET", "/metadata/instance", metadata), 404},
	} {
		w := do(h, c.r)
		if w.Code != c.status || strings.Contains(w.Body.String(), "access_token") {
			t.Errorf("%s: status %d, want %d; %s", name, w.Code, c.status, w.Body)
		}
		if c.status == 404 && w.Body.Len() > 0 {
			t.Errorf("%s: a body that some clients take for a region: %s", name, w.Body)
		}
	}
	if err := s.dir.DeleteApplication(t.Context(), first.ClientID); err != nil {
		t.Fatal(err)
	}
	s.wantMetadataToken(t, do(h, local("GET", path, metadata)), second)
}

// A web page must not get tokens through the browser of somebody on this machine.
func TestManagedIdentityIsLocal(t *testing.T) {
	t.Parallel()
	s, app, _ := newIdentities(t, func(c *ManagedIdentityConfig) { c.IMDS = true })
	h := s.ManagedIdentityHandler()
	request := func() *http.Request {
		return local("GET", "/metadata/identity/oauth2/token?api-version=2018-02-01&resource="+vault, map[string]string{"Metadata": "true"})
	}
	for _, host := range []string{"127.0.0.1:4711", "localhost:4711", "LOCALHOST", "[::1]:4711", "127.8.8.8", "::1"} {
		r := request()
		r.Host = host
		s.wantMetadataToken(t, do(h, r), app)
	}
	for _, host := range []string{
		"evil.example.org", "localhost.evil.org:4711", "127.0.0.1.evil.org", "10.0.0.1", "0.0.0.0", "[::]", "",
		"169.254.169.254.evil.org",
	} {
		r := request()
		r.Host = host
		if w := do(h, r); w.Code != http.StatusForbidden {
			t.Errorf("host %q: status %d", host, w.Code)
		}
	}
	for _, name := range []string{"X-Forwarded-For", "Forwarded", "X-Forwarded-Host", "Via", "Origin"} {
		r := request()
		r.Header.Set(name, "")
		if w := do(h, r); w.Code != http.StatusForbidden {
			t.Errorf("%s: status %d", name, w.Code)
		}
	}
	for address, status := range map[string]int{"127.0.0.1": 200, "169.254.169.254": 200, "192.0.2.1": 403, "::1": 200, "fe80::1": 403} {
		r := request()
		r.Host = imdsAddress
		to := &net.TCPAddr{IP: net.ParseIP(address), Port: 80}
		if w := do(h, r.WithContext(context.WithValue(t.Context(), http.LocalAddrContextKey, to))); w.Code != status {
			t.Errorf("to %s: status %d, want %d", address, w.Code, status)
		}
	}
	r := request()
	r.RemoteAddr = "192.0.2.1:1"
	if w := do(h, r); w.Code != http.StatusForbidden {
		t.Errorf("from another machine: status %d", w.Code)
	}
}

func arcFiles(t testing.TB, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// challenge makes the first request of Arc's round and returns the file's name.
func challenge(t testing.TB, h http.Handler, path string) string {
	t.Helper()
	w := do(h, local("GET", path, map[string]string{"Metadata": "true"}))
	file, ok := strings.CutPrefix(w.Header().Get("Www-Authenticate"), "Basic realm=")
	if w.Code != http.StatusUnauthorized || !ok {
		t.Fatalf("status %d, header %v", w.Code, w.Header())
	}
	return file
}

func TestArc(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	stale := filepath.Join(dir, arcPrefix+"OLD"+arcSuffix)
	if err := os.WriteFile(stale, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	s, first, second := newIdentities(t, func(c *ManagedIdentityConfig) { c.ArcDirectory, c.ArcMode = dir, 0o640 })
	if files := arcFiles(t, dir); len(files) != 0 {
		t.Errorf("files of a former server are left: %v", files)
	}
	h := s.ManagedIdentityHandler()
	for _, version := range []string{"2019-11-01", "2020-06-01"} {
		path := "/metadata/identity/oauth2/token?api-version=" + version + "&resource=" + url.QueryEscape(vault)
		file := challenge(t, h, path)
		info, err := os.Stat(file)
		if err != nil || filepath.Dir(file) != dir || filepath.Ext(file) != ".key" || info.Mode() != 0o640 || info.Size() > 4096 {
			t.Fatalf("file %s: %v, %v", file, info, err)
		}
		secret, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		answer := func(secret string) *httptest.ResponseRecorder {
			return do(h, local("GET", path, map[string]string{"Metadata": "true", "Authorization": "Basic " + secret}))
		}
		if w := answer("wrong"); w.Code != http.StatusUnauthorized {
			t.Errorf("wrong secret: status %d", w.Code)
		}
		s.wantMetadataToken(t, answer(string(secret)), first)
		if w := answer(string(secret)); w.Code != http.StatusUnauthorized {
			t.Errorf("used secret: status %d", w.Code)
		}
		if files := arcFiles(t, dir); len(files) != 0 {
			t.Errorf("files are left: %v", files)
		}
		file = challenge(t, h, path)
		if secret, err = os.ReadFile(file); err != nil {
			t.Fatal(err)
		}
		path += "&client_id=" + second.ClientID
		s.wantMetadataToken(t, answer(string(secret)), second)
	}
	// Challenges that nobody answers are bounded.
	path := "/metadata/identity/oauth2/token?api-version=2020-06-01&resource=" + vault
	for range maxArc {
		challenge(t, h, path)
	}
	if w := do(h, local("GET", path, map[string]string{"Metadata": "true"})); w.Code != http.StatusTooManyRequests {
		t.Errorf("challenge %d: status %d", maxArc+1, w.Code)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if files := arcFiles(t, dir); len(files) != 0 {
		t.Errorf("files are left after Close: %v", files)
	}
}

func TestArcSecretExpires(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		secrets, err := newArcSecrets(ManagedIdentityConfig{ArcDirectory: dir}, time.Now)
		if err != nil {
			t.Fatal(err)
		}
		file, err := secrets.issue()
		if err != nil {
			t.Fatal(err)
		}
		secret, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		<-time.NewTimer(arcLife).C // on the clock of the bubble
		synctest.Wait()
		if secrets.redeem(string(secret)) {
			t.Error("a secret works after its minute")
		}
		if files := arcFiles(t, dir); len(files) != 0 {
			t.Errorf("files are left: %v", files)
		}
	})
}

func TestArcConfig(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, cfg := range map[string]ManagedIdentityConfig{
		"mode":      {ArcDirectory: dir, ArcMode: 0o644},
		"directory": {ArcDirectory: filepath.Join(dir, "none")},
	} {
		if _, err := newArcSecrets(cfg, time.Now); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
