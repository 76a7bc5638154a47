package sts

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/identity"
)

// claimsOf reads the claims of a token without verifying it.
func claimsOf(t testing.TB, token string) map[string]any {
	t.Helper()
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		t.Fatalf("a token with %d segments", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

func TestTokenVersion2(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, secret := s.appWithSecret(t)
	w := s.post("/"+tenant+"/oauth2/v2.0/token", secretForm(app, secret))
	answer := decode[map[string]any](t, w)
	token, _ := answer["access_token"].(string)
	want := map[string]any{
		"token_type": "Bearer", "expires_in": 3599.0, "ext_expires_in": 3599.0, "access_token": token,
	}
	if diff := cmp.Diff(want, answer); w.Code != 200 || diff != "" {
		t.Fatalf("status %d, answer (-want +got):\n%s", w.Code, diff)
	}
	if w.Header().Get("Cache-Control") != "no-store, no-cache" || w.Header().Get("Pragma") != "no-cache" {
		t.Errorf("header %v", w.Header())
	}
	now := float64(s.clock.Now().Unix())
	claims := claimsOf(t, token)
	wantClaims := map[string]any{
		"aud": vault, "iss": "https://login.example.org:8443/" + tenant + "/v2.0", "iat": now, "nbf": now, "exp": now + 3599,
		"azp": app.ClientID, "azpacr": "1", "idtyp": "app", "oid": app.ObjectID, "sub": app.ObjectID, "tid": tenant,
		"uti": claims["uti"], "ver": "2.0",
	}
	if diff := cmp.Diff(wantClaims, claims); diff != "" {
		t.Errorf("claims (-want +got):\n%s", diff)
	}
	caller, err := s.verifier.Verify(t.Context(), token)
	if err != nil || caller.ObjectID != app.ObjectID || caller.Audience != vault {
		t.Errorf("caller %+v, %v", caller, err)
	}
	e := s.observer.last(t)
	wantEvent := Event{
		Time: s.clock.Now(), Operation: OpTokenIssue, Endpoint: "v2", Result: ResultSuccess, ClientID: app.ClientID,
		ObjectID: app.ObjectID, TokenID: claims["uti"].(string), Resource: vault,
	}
	if diff := cmp.Diff(wantEvent, e, cmpopts.IgnoreFields(Event{}, "Address", "CorrelationID", "CredentialID")); diff != "" {
		t.Errorf("event (-want +got):\n%s", diff)
	}
	if e.CredentialID == "" || e.CorrelationID == "" || e.Address.String() != "192.0.2.1" {
		t.Errorf("event %+v", e)
	}
}

func TestTokenVersion1(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, secret := s.appWithSecret(t)
	form := secretForm(app, secret)
	form.Del("scope")
	form.Set("resource", "https://vault.azure.net")
	answer := decode[map[string]any](t, s.post("/"+tenant+"/oauth2/token?api-version=1.0", form))
	token, _ := answer["access_token"].(string)
	now := s.clock.Now().Unix()
	want := map[string]any{
		"token_type": "Bearer", "expires_in": 3599.0, "ext_expires_in": 3599.0, "access_token": token,
		"expires_on": strconv.FormatInt(now+3599, 10), "not_before": strconv.FormatInt(now, 10), "resource": "https://vault.azure.net",
	}
	if diff := cmp.Diff(want, answer); diff != "" {
		t.Fatalf("answer (-want +got):\n%s", diff)
	}
	claims := claimsOf(t, token)
	for name, want := range map[string]any{
		"aud": "https://vault.azure.net", "iss": "https://login.example.org:8443/" + tenant + "/", "ver": "1.0", "appid": app.ClientID, "appidacr": "1",
	} {
		if claims[name] != want {
			t.Errorf("%s is %v, want %v", name, claims[name], want)
		}
	}
	if _, err := s.verifier.Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestTokenEndpointSpellings(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, secret := s.appWithSecret(t)
	for _, path := range []string{
		"/" + tenant + "/oauth2/v2.0/token", "/" + strings.ToUpper(tenant) + "/oauth2/v2.0/token/",
		"/" + tenant + "/oauth2/v2.0/token?client-request-id=x&slice=y&grant_type=password", "/" + tenant + "/oauth2/token",
		"/adfs/oauth2/token", "/adfs/oauth2/token/", "/common/oauth2/v2.0/token", "/organizations/oauth2/v2.0/token",
		"/shop.example.org/oauth2/v2.0/token", "/dstsv2/" + tenantDSTS + "/oauth2/v2.0/token", "/dstsv2/oauth2/v2.0/token",
	} {
		form := secretForm(app, secret)
		form.Set("client_info", "1")
		form.Set("claims", `{"access_token":{"xms_cc":{"values":["CP1"]}}}`)
		form.Set("x-client-SKU", "MSAL.Go")
		w := s.post(path, form)
		answer := decode[map[string]any](t, w)
		token, _ := answer["access_token"].(string)
		if w.Code != 200 {
			t.Errorf("%s: status %d, %v", path, w.Code, answer)
			continue
		}
		if _, err := s.verifier.Verify(t.Context(), token); err != nil {
			t.Errorf("%s: %v", path, err)
		}
	}
	// Regional and foreign names of the service, but always the central issuer.
	for host, issuer := range map[string]string{
		"west.login.example.org": "https://login.example.org/" + tenant + "/v2.0", "login.microsoftonline.com": "https://login.example.org:8443/" + tenant + "/v2.0",
	} {
		r := tokenRequest("/"+tenant+"/oauth2/v2.0/token", secretForm(app, secret).Encode())
		r.Host = host
		answer := decode[map[string]any](t, do(s, r))
		if got := claimsOf(t, answer["access_token"].(string))["iss"]; got != issuer {
			t.Errorf("%s: issuer %v, want %s", host, got, issuer)
		}
	}
}

func TestAudiences(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		version         int
		scope, resource string
		want            string
		number          int
	}{
		{2, vault + "/.default", "", vault, 0},
		{2, vault + "/.default openid offline_access profile", "", vault, 0},
		{2, "openid " + vault + "//.default", "", vault + "/", 0},
		{2, "  " + vault + "/.default\t" + vault + "/.default ", "", vault, 0},
		{2, "", vault, vault, 0},
		{1, "", vault + "/", vault + "/", 0},
		{1, vault + "/.default", "", vault, 0},
		{1, "openid", vault, vault, 0},
		{2, "", "", "", 900144},
		{1, "", "", "", 900144},
		{2, vault, "", "", 1002012},
		{2, "/.default", "", "", 1002012},
		{2, ".default", "", "", 1002012},
		{2, vault + "/.default https://management.example.org/.default", "", "", 1002012},
		{2, vault + "/user_impersonation", "", "", 1002012},
		{2, strings.Repeat("x", maxScope+1), "", "", 9000411},
		{2, strings.Repeat("x", maxResource+1) + "/.default", "", "", 1002012},
		{1, "", strings.Repeat("x", maxResource+1), "", 9000411},
	} {
		form := tokenForm{scope: c.scope, resource: c.resource}
		got, refused := form.audience(c.version)
		number := 0
		if refused != nil {
			number = refused.number
		}
		if got != c.want || number != c.number {
			t.Errorf("version %d, scope %.60q, resource %.60q: got %q and %d, want %q and %d",
				c.version, c.scope, c.resource, got, number, c.want, c.number)
		}
	}
}

func TestTokenRefusals(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, secret := s.appWithSecret(t)
	const nobody = "11111111-2222-4333-8444-555555555555"
	asserted := func(text string) url.Values {
		return url.Values{"client_secret": nil, "client_assertion": {text}, "client_assertion_type": {assertionType}}
	}
	for _, c := range []struct {
		name   string
		change url.Values // nil removes
		status int
		code   string
		number int
	}{
		{"wrong secret", url.Values{"client_secret": {secret + "x"}}, 401, "invalid_client", 7000215},
		{"no secret", url.Values{"client_secret": nil}, 401, "invalid_client", 7000218},
		{"unknown application", url.Values{"client_id": {nobody}}, 400, "unauthorized_client", 700016},
		{"client id is a path", url.Values{"client_id": {"../../tenant"}}, 400, "unauthorized_client", 700016},
		{"no client id", url.Values{"client_id": nil}, 400, "invalid_request", 900144},
		{"no grant", url.Values{"grant_type": nil}, 400, "invalid_request", 900144},
		{"password grant", url.Values{"grant_type": {"password"}}, 400, "unsupported_grant_type", 70003},
		{"no scope", url.Values{"scope": nil}, 400, "invalid_request", 900144},
		{"scope without default", url.Values{"scope": {vault}}, 400, "invalid_scope", 1002012},
		{"unknown resource", url.Values{"scope": {"https://evil.example.org/.default"}}, 400, "invalid_resource", 500011},
		{"resource by plain http", url.Values{"scope": {"http://vault.example.org/.default"}}, 400, "invalid_resource", 500011},
		{"two secrets", url.Values{"client_secret": {secret, secret}}, 400, "invalid_request", 9000411},
		{"secret and assertion", url.Values{"client_assertion": {"x"}, "client_assertion_type": {assertionType}}, 400, "invalid_request", 9000411},
		{"assertion of no type", url.Values{"client_secret": nil, "client_assertion": {"x"}}, 400, "invalid_request", 900144},
		{"garbage assertion", asserted("x.y.z"), 401, "invalid_client", 700027},
		{"huge assertion", asserted(strings.Repeat("x", maxAssertion+1)), 401, "invalid_client", 700027},
		{"huge body", url.Values{"x": {strings.Repeat("x", maxBody)}}, 400, "invalid_request", 9000411},
		{"many fields", url.Values{"x": make([]string, maxFields)}, 400, "invalid_request", 9000411},
	} {
		form := secretForm(app, secret)
		for name, values := range c.change {
			if form[name] = values; values == nil {
				form.Del(name)
			}
		}
		w := s.post("/"+tenant+"/oauth2/v2.0/token", form)
		t.Log(c.name)
		wantRefusal(t, w, c.status, c.code, c.number)
		if strings.Contains(w.Body.String(), secret) {
			t.Errorf("%s: the answer repeats the secret", c.name)
		}
		e := s.observer.last(t)
		if e.Result != ResultRefused || e.Code != c.number || e.TokenID != "" || strings.Contains(e.Reason, secret) {
			t.Errorf("%s: event %+v", c.name, e)
		}
	}
	wantRefusal(t, s.post("/"+nobody+"/oauth2/v2.0/token", secretForm(app, secret)), 400, "invalid_request", 90002)
	if e := s.observer.last(t); e.Code != 90002 {
		t.Errorf("an unknown tenant left event %+v", e)
	}
	wantRefusal(t, s.get("/"+tenant+"/oauth2/v2.0/token"), 405, "invalid_request", 900561)
	r := tokenRequest("/"+tenant+"/oauth2/v2.0/token", secretForm(app, secret).Encode())
	r.Header.Set("Content-Type", "application/json")
	wantRefusal(t, do(s, r), 400, "invalid_request", 9000411)
	wantRefusal(t, do(s, tokenRequest("/"+tenant+"/oauth2/v2.0/token", "grant_type=%zz")), 400, "invalid_request", 9000411)

	s.clock.Advance(25 * time.Hour)
	wantRefusal(t, s.post("/"+tenant+"/oauth2/v2.0/token", secretForm(app, secret)), 401, "invalid_client", 7000222)
}

func TestErrorShape(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, secret := s.appWithSecret(t)
	r := tokenRequest("/"+tenant+"/oauth2/v2.0/token", secretForm(app, secret+"x").Encode())
	id := uuid.NewString()
	r.Header.Set("client-request-id", id)
	w := do(s, r)
	got := decode[oauthError](t, w)
	stamp := s.clock.Now().UTC().Format("2006-01-02 15:04:05Z")
	want := oauthError{
		Error: "invalid_client", Codes: []int{7000215}, Timestamp: stamp, TraceID: w.Header().Get("X-Ms-Request-Id"), CorrelationID: id,
		Description: "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client secret " +
			"value, not the client secret ID, for a secret added to app '" + app.ClientID + "'. Trace ID: " + got.TraceID +
			" Correlation ID: " + id + " Timestamp: " + stamp,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("error (-want +got):\n%s", diff)
	}
	// What a client writes into parameters comes back bounded and harmless.
	form := secretForm(app, secret)
	form.Set("client_id", "<script>\"\n"+strings.Repeat("x", 1000))
	if body := s.post("/"+tenant+"/oauth2/v2.0/token", form).Body.String(); strings.Contains(body, "script>") || len(body) > 1000 {
		t.Errorf("body %s", body)
	}
}

func TestBasicAuthentication(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, secret := s.appWithSecret(t)
	form := secretForm(app, secret)
	form.Del("client_id")
	form.Del("client_secret")
	request := func(form url.Values, user, password string) *http.Request {
		r := tokenRequest("/"+tenant+"/oauth2/v2.0/token", form.Encode())
		r.SetBasicAuth(url.QueryEscape(user), url.QueryEscape(password))
		return r
	}
	if w := do(s, request(form, app.ClientID, secret)); w.Code != 200 {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	w := do(s, request(form, app.ClientID, secret+"+"))
	wantRefusal(t, w, 401, "invalid_client", 7000215)
	if w.Header().Get("WWW-Authenticate") == "" {
		t.Error("no challenge for a client that used HTTP authentication")
	}
	wantRefusal(t, do(s, request(secretForm(app, secret), app.ClientID, secret)), 400, "invalid_request", 9000411)
	form.Set("client_id", tenant)
	wantRefusal(t, do(s, request(form, app.ClientID, secret)), 400, "invalid_request", 9000411)
	r := tokenRequest("/"+tenant+"/oauth2/v2.0/token", secretForm(app, secret).Encode())
	r.Header.Set("Authorization", "Bearer x")
	wantRefusal(t, do(s, r), 400, "invalid_request", 9000411)
}

// No outcome recorded, no token.
func TestNoTokenWithoutRecord(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, secret := s.appWithSecret(t)
	s.observer.setFailure(errors.New("the log is full"))
	w := s.post("/"+tenant+"/oauth2/v2.0/token", secretForm(app, secret))
	wantRefusal(t, w, 503, "temporarily_unavailable", 90033)
	if w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "the log is full") {
		t.Errorf("header %v, body %s", w.Header(), w.Body)
	}
	s.observer.setFailure(nil)
	if w := s.post("/"+tenant+"/oauth2/v2.0/token", secretForm(app, secret)); w.Code != 200 {
		t.Errorf("status %d", w.Code)
	}
}

func TestLimiter(t *testing.T) {
	t.Parallel()
	s := newService(t, func(c *Config) { c.FailuresPerMinute = 3 })
	app, secret := s.appWithSecret(t)
	from := func(address, secret string) *httptest.ResponseRecorder {
		r := tokenRequest("/"+tenant+"/oauth2/v2.0/token", secretForm(app, secret).Encode())
		r.RemoteAddr = address
		return do(s, r)
	}
	for range 3 {
		wantRefusal(t, from("[2001:db8::1]:1000", "wrong"), 401, "invalid_client", 7000215)
	}
	s.clock.Advance(20 * time.Second)
	w := from("[2001:db8::ffff]:1001", "wrong") // the same subscriber
	wantRefusal(t, w, 429, "temporarily_unavailable", 90055)
	if got := w.Header().Get("Retry-After"); got != "40" {
		t.Errorf("Retry-After %q, want 40", got)
	}
	if e := s.observer.last(t); e.Result != ResultThrottled {
		t.Errorf("event %+v", e)
	}
	if w := from("[2001:db8::1]:1000", secret); w.Code != 200 {
		t.Errorf("a good secret from there: status %d", w.Code)
	}
	wantRefusal(t, from("[2001:db8:0:1::1]:1000", "wrong"), 401, "invalid_client", 7000215) // another subscriber
	s.clock.Advance(60 * time.Second)
	wantRefusal(t, from("[2001:db8::1]:1000", "wrong"), 401, "invalid_client", 7000215) // after the wait
}

func TestLimiterIsBounded(t *testing.T) {
	t.Parallel()
	c := &clock{now: time.Unix(1_800_000_000, 0)}
	l := newLimiter(1, time.Minute, c.Now)
	for i := range 2 * maxTracked {
		l.failed(clientAddress(&http.Request{RemoteAddr: "10." + strconv.Itoa(i>>16) + "." + strconv.Itoa(i>>8&255) + "." + strconv.Itoa(i&255) + ":1"}))
		if len(l.tracked) > maxTracked {
			t.Fatalf("%d addresses tracked", len(l.tracked))
		}
	}
	c.Advance(time.Minute)
	l.failed(clientAddress(&http.Request{RemoteAddr: "192.0.2.77:1"}))
	if len(l.tracked) != 1 {
		t.Errorf("%d addresses tracked after their windows ended", len(l.tracked))
	}
}

func TestCertificateAssertion(t *testing.T) {
	t.Parallel()
	s := newService(t)
	app, certificate, key := s.appWithCertificate(t)
	sum := sha256.Sum256(certificate.Raw)
	assert := func(audience string) url.Values {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.PS256, Key: key},
			(&jose.SignerOptions{}).WithType("JWT").WithHeader("x5t#S256", base64.StdEncoding.EncodeToString(sum[:])))
		if err != nil {
			t.Fatal(err)
		}
		now := s.clock.Now()
		payload, err := json.Marshal(map[string]any{
			"aud": audience, "iss": app.ClientID, "sub": app.ClientID, "jti": uuid.NewString(), "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
		})
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return url.Values{
			"grant_type": {"client_credentials"}, "client_id": {app.ClientID}, "scope": {vault + "/.default"},
			"client_assertion": {text}, "client_assertion_type": {assertionType},
		}
	}
	for _, audience := range []string{
		"https://login.example.org:8443/" + tenant + "/oauth2/v2.0/token", "https://login.example.org/" + tenant + "/oauth2/token",
		"https://west.login.example.org:8443/" + tenant + "/oauth2/v2.0/token/", "https://login.example.org:8443/adfs/oauth2/token/",
		"https://login.example.org:8443/" + tenant + "/v2.0", "https://login.example.org:8443/" + tenant + "/", "https://login.example.org/" + tenant,
		"https://login.microsoftonline.com/common/oauth2/v2.0/token",
	} {
		w := s.post("/"+tenant+"/oauth2/v2.0/token", assert(audience))
		if w.Code != 200 {
			t.Errorf("%s: status %d, %s", audience, w.Code, w.Body)
			continue
		}
		if acr := claimsOf(t, decode[tokenAnswer](t, w).AccessToken)["azpacr"]; acr != "2" {
			t.Errorf("azpacr %v, want 2", acr)
		}
	}
	for _, audience := range []string{
		"", "https://login.example.org:8443/", "https://evil.example.org/" + tenant + "/oauth2/v2.0/token",
		"http://login.example.org/" + tenant + "/oauth2/v2.0/token", "https://login.example.org/11111111-2222-4333-8444-555555555555/oauth2/v2.0/token",
		"https://login.example.org/" + tenant + "/discovery/keys", "https://vault.example.org", "api://AzureADTokenExchange",
	} {
		wantRefusal(t, s.post("/"+tenant+"/oauth2/v2.0/token", assert(audience)), 401, "invalid_client", 700027)
	}
	form := assert("https://login.example.org:8443/" + tenant + "/oauth2/v2.0/token")
	form.Set("client_id", s.app(t, identity.KindApplication).ClientID)
	wantRefusal(t, s.post("/"+tenant+"/oauth2/v2.0/token", form), 400, "invalid_request", 70021)
}

func TestFederatedAssertion(t *testing.T) {
	t.Parallel()
	_, _, key := newService(t).appWithCertificate(t) // for its key
	var issuer *httptest.Server
	issuer = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_ = json.NewEncoder(w).Encode(map[string]string{"issuer": issuer.URL, "jwks_uri": issuer.URL + "/keys"})
		case "/keys":
			_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k1", Use: "sig"}}})
		}
	}))
	t.Cleanup(issuer.Close)
	pool := x509.NewCertPool()
	pool.AddCert(issuer.Certificate())
	external, err := identity.NewExternalIssuer(identity.ExternalIssuerConfig{Issuer: issuer.URL, TenantID: tenant, RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, func(c *Config) { c.Issuers = []*identity.ExternalIssuer{external} })
	app := s.app(t, identity.KindApplication)
	const subject = "system:serviceaccount:shop:web"
	if _, err := s.dir.AddFederatedCredential(t.Context(), app.ClientID, "", issuer.URL, subject, ""); err != nil {
		t.Fatal(err)
	}
	form := func(iss, subject string) url.Values {
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k1"}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		now := time.Now()
		payload, err := json.Marshal(map[string]any{
			"iss": iss, "sub": subject, "aud": []string{identity.DefaultFederatedAudience}, "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(),
		})
		if err != nil {
			t.Fatal(err)
		}
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Fatal(err)
		}
		text, err := signed.CompactSerialize()
		if err != nil {
			t.Fatal(err)
		}
		return url.Values{
			"grant_type": {"client_credentials"}, "client_id": {app.ClientID}, "scope": {vault + "/.default"},
			"client_assertion": {text}, "client_assertion_type": {assertionType},
		}
	}
	if w := s.post("/"+tenant+"/oauth2/v2.0/token", form(issuer.URL, subject)); w.Code != 200 {
		t.Errorf("status %d: %s", w.Code, w.Body)
	}
	wantRefusal(t, s.post("/"+tenant+"/oauth2/v2.0/token", form(issuer.URL, "somebody else")), 400, "invalid_request", 70021)
	wantRefusal(t, s.post("/"+tenant+"/oauth2/v2.0/token", form("https://unknown.example.org", subject)), 400, "invalid_request", 70021)
}
