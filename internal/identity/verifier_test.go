package identity

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

func TestVerifyIssuedTokens(t *testing.T) {
	t.Parallel()
	in := install(t)
	app := in.app(t)
	for version, issuer := range map[int]string{
		1: "https://login.example.org:8443/" + in.dir.TenantID() + "/",
		2: "https://login.example.org:8443/" + in.dir.TenantID() + "/v2.0",
	} {
		got, err := in.verifier.Verify(t.Context(), in.token(t, app, vaultAud, version))
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		if got.TokenID == "" {
			t.Error("the caller has no token id")
		}
		want := &Caller{
			TenantID: in.dir.TenantID(), ObjectID: app.ObjectID, AppID: app.ClientID, Subject: app.ObjectID,
			Issuer: issuer, IdentityType: "app", Audience: vaultAud, TokenID: got.TokenID,
			IssuedAt: in.clock.Now(), Expires: in.clock.Now().Add(DefaultTokenLifetime),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("version %d: caller (-want +got):\n%s", version, diff)
		}
	}
}

// A forgery is a token that must be refused, and the code of the refusal.
type forgery struct {
	name  string
	token string
	code  string
}

// forger makes tokens from a good header and good claims.
type forger struct {
	in     *installation
	kid    string
	header object
	claims object
}

func newForger(t *testing.T, in *installation, app *Application) *forger {
	t.Helper()
	kid, _ := in.signingKey(t)
	now := in.clock.Now().Unix()
	return &forger{in, kid,
		object{"alg": "RS256", "typ": "JWT", "kid": kid},
		object{
			"aud": vaultAud, "iss": "https://login.example.org/" + in.dir.TenantID() + "/v2.0",
			"iat": now, "nbf": now, "exp": now + 3599, "azp": app.ClientID, "oid": app.ObjectID, "sub": app.ObjectID,
			"tid": in.dir.TenantID(), "idtyp": "app", "ver": "2.0",
		},
	}
}

// with returns o with members replaced; nil removes one.
func with(o object, changes object) object {
	o = maps.Clone(o)
	for name, value := range changes {
		if value == nil {
			delete(o, name)
		} else {
			o[name] = value
		}
	}
	return o
}

// sign signs with the real key.
func (f *forger) sign(t *testing.T, header, claims any) string {
	t.Helper()
	_, key := f.in.signingKey(t)
	return mint(t, key, "RS256", header, claims)
}

func hs256(secret []byte, header, claims string) string {
	input := b64(header) + "." + b64(claims)
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(input))
	return input + "." + b64(string(mac.Sum(nil)))
}

func TestVerifyRefusesForgeries(t *testing.T) {
	t.Parallel()
	in := install(t)
	app := in.app(t)
	f := newForger(t, in, app)

	good := f.sign(t, f.header, f.claims)
	if _, err := in.verifier.Verify(t.Context(), good); err != nil {
		t.Fatalf("the token that all forgeries start from: %v", err)
	}
	var all []forgery
	all = append(all, algorithmForgeries(t, f, good)...)
	all = append(all, keyForgeries(t, f)...)
	all = append(all, formForgeries(t, f, good)...)
	all = append(all, claimForgeries(t, f)...)
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			caller, err := in.verifier.Verify(t.Context(), c.token)
			wantCode(t, err, c.code)
			if caller != nil {
				t.Errorf("a caller came with the refusal: %+v", caller)
			}
			if err != nil && len(c.token) > 40 && strings.Contains(err.Error(), c.token[:40]) {
				t.Error("the refusal repeats the token")
			}
			if err != nil && len(err.Error()) > 1000 {
				t.Errorf("the refusal has %d bytes", len(err.Error()))
			}
		})
	}
}

func algorithmForgeries(t *testing.T, f *forger, good string) []forgery {
	t.Helper()
	_, key := f.in.signingKey(t)
	claims := encodeJSON(t, f.claims)
	parts := strings.Split(good, ".")
	pkix, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := json.Marshal(jose.JSONWebKey{Key: key.Public(), KeyID: f.kid, Algorithm: "RS256", Use: "sig"})
	if err != nil {
		t.Fatal(err)
	}
	hsHeader := encodeJSON(t, with(f.header, object{"alg": "HS256"}))
	all := []forgery{
		{"HS256 with the public key in PEM",
			hs256(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: pkix}), hsHeader, claims), CodeSignature},
		{"HS256 with the public key in DER", hs256(pkix, hsHeader, claims), CodeSignature},
		{"HS256 with the JWK", hs256(jwk, hsHeader, claims), CodeSignature},
		{"HS256 with the modulus", hs256(key.N.Bytes(), hsHeader, claims), CodeSignature},
		{"HS256 with an empty key", hs256(nil, hsHeader, claims), CodeSignature},
		{"PS256 with the right key", mint(t, key, "PS256", with(f.header, object{"alg": "PS256"}), f.claims), CodeSignature},
		{"RS384 with the right key", mint(t, key, "RS384", with(f.header, object{"alg": "RS384"}), f.claims), CodeSignature},
		{"RS256 said, PS256 done", mint(t, key, "PS256", f.header, f.claims), CodeSignature},
		{"lower-case alg", f.sign(t, with(f.header, object{"alg": "rs256"}), f.claims), CodeSignature},
		{"no alg", f.sign(t, with(f.header, object{"alg": nil}), f.claims), CodeMalformed},
		{"alg is a number", f.sign(t, with(f.header, object{"alg": 256}), f.claims), CodeMalformed},
	}
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none ", ""} {
		code := CodeSignature
		if none == "" {
			code = CodeMalformed
		}
		header := b64(encodeJSON(t, with(f.header, object{"alg": none})))
		all = append(all,
			forgery{"alg " + none + " with signature", header + "." + parts[1] + "." + parts[2], code},
			forgery{"alg " + none + " without signature", header + "." + parts[1] + ".", CodeMalformed},
		)
	}
	return all
}

func keyForgeries(t *testing.T, f *forger) []forgery {
	t.Helper()
	foreign := newRSA(t, 2048)
	der := selfSigned(t, foreign, f.in.clock.Now().Add(-time.Hour), f.in.clock.Now().Add(time.Hour))
	jwk := jose.JSONWebKey{Key: foreign.Public(), KeyID: f.kid, Algorithm: "RS256", Use: "sig"}
	all := []forgery{
		{"foreign key", mint(t, foreign, "RS256", f.header, f.claims), CodeSignature},
		{"embedded jwk", mint(t, foreign, "RS256", with(f.header, object{"jwk": jwk}), f.claims), CodeSignature},
		{"embedded jwk, no kid",
			mint(t, foreign, "RS256", with(f.header, object{"jwk": jwk, "kid": nil}), f.claims), CodeSignature},
		{"x5c", mint(t, foreign, "RS256", with(f.header, object{"x5c": [][]byte{der}}), f.claims), CodeSignature},
		{"jku", mint(t, foreign, "RS256", with(f.header, object{"jku": "https://127.0.0.1/keys"}), f.claims), CodeSignature},
		{"x5u", mint(t, foreign, "RS256", with(f.header, object{"x5u": "https://127.0.0.1/keys"}), f.claims), CodeSignature},
		{"crit", f.sign(t, with(f.header, object{"crit": []string{"exp"}, "exp": 1}), f.claims), CodeMalformed},
		{"crit b64", f.sign(t, with(f.header, object{"crit": []string{"b64"}, "b64": true}), f.claims), CodeMalformed},
		{"b64 without crit", f.sign(t, with(f.header, object{"b64": false}), f.claims), CodeMalformed},
		{"other typ", f.sign(t, with(f.header, object{"typ": "dpop+jwt"}), f.claims), CodeMalformed},
		{"nested", f.sign(t, with(f.header, object{"cty": "JWT"}), f.claims), CodeMalformed},
	}
	for name, kid := range map[string]any{
		"missing": nil, "path": "../../signing/" + f.kid, "absolute path": "/dev/null", "SQL": "' OR '1'='1",
		"NUL": f.kid + "\x00", "prefix": f.kid[:20], "suffixed": f.kid + "x", "upper case": strings.ToUpper(f.kid),
		"escape": f.kid + "%00", "unicode": "kid\u202e", "long": strings.Repeat("a", 200),
	} {
		all = append(all, forgery{"kid " + name, f.sign(t, with(f.header, object{"kid": kid}), f.claims), CodeSignature})
	}
	return append(all,
		forgery{"kid huge", f.sign(t, with(f.header, object{"kid": strings.Repeat("a", 4000)}), f.claims), CodeMalformed},
		forgery{"kid is a list", f.sign(t, with(f.header, object{"kid": []string{f.kid}}), f.claims), CodeMalformed},
	)
}

func formForgeries(t *testing.T, f *forger, good string) []forgery {
	t.Helper()
	parts := strings.Split(good, ".")
	header, claims := encodeJSON(t, f.header), encodeJSON(t, f.claims)
	encrypter, err := jose.NewEncrypter(jose.A128GCM, jose.Recipient{Algorithm: jose.DIRECT, Key: make([]byte, 16)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	encrypted, err := encrypter.Encrypt([]byte(good))
	if err != nil {
		t.Fatal(err)
	}
	jwe, err := encrypted.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	insert := func(raw, member string) string { return "{" + member + "," + raw[1:] }
	flipped := []byte(parts[2])
	flipped[10] = 'A' + ('B'-flipped[10])&1 // some other letter of the alphabet
	tampered := strings.Replace(claims, `"idtyp":"app"`, `"idtyp":"usr"`, 1)
	all := []forgery{
		{"empty", "", CodeMalformed},
		{"one segment", parts[0], CodeMalformed},
		{"two segments", parts[0] + "." + parts[1], CodeMalformed},
		{"four segments", good + "." + parts[2], CodeMalformed},
		{"trailing dot", good + ".", CodeMalformed},
		{"JWE", jwe, CodeMalformed},
		{"JSON serialisation", `{"payload":"` + parts[1] + `","protected":"` + parts[0] + `","signature":"` + parts[2] + `"}`,
			CodeMalformed},
		{"leading space", " " + good, CodeMalformed},
		{"trailing line feed", good + "\n", CodeMalformed},
		{"line feed inside", parts[0] + "." + parts[1][:8] + "\n" + parts[1][8:] + "." + parts[2], CodeMalformed},
		{"carriage return in signature", parts[0] + "." + parts[1] + "." + parts[2][:8] + "\r" + parts[2][8:], CodeMalformed},
		{"tab in header", parts[0][:8] + "\t" + parts[0][8:] + "." + parts[1] + "." + parts[2], CodeMalformed},
		{"unicode", parts[0] + "\u00a0." + parts[1] + "." + parts[2], CodeMalformed},
		{"full-width dot", strings.ReplaceAll(good, ".", "\uff0e"), CodeMalformed},
		{"padding", parts[0] + "=." + parts[1] + "." + parts[2], CodeMalformed},
		{"standard alphabet", parts[0] + "." + parts[1] + "." + strings.Repeat("+/", 171), CodeMalformed},
		{"stray bits", parts[0] + "." + parts[1] + "." + strayBits(parts[2]), CodeMalformed},
		{"signature flipped", parts[0] + "." + parts[1] + "." + string(flipped), CodeSignature},
		{"signature cut", parts[0] + "." + parts[1] + "." + parts[2][:len(parts[2])-6], CodeSignature},
		{"claims changed", parts[0] + "." + b64(tampered) + "." + parts[2], CodeSignature},
		{"too large", f.sign(t, f.header, with(f.claims, object{"x": strings.Repeat("x", maxBearer)})), CodeMalformed},
		{"trailing garbage in claims", f.sign(t, header, claims+`{}`), CodeMalformed},
		{"trailing garbage in header", f.sign(t, header+`x`, claims), CodeMalformed},
		{"claims are a list", f.sign(t, header, `[`+claims+`]`), CodeMalformed},
		{"claims are null", f.sign(t, header, `null`), CodeMalformed},
		{"claims are not UTF-8", f.sign(t, header, insert(claims, "\"x\":\"\xff\"")), CodeMalformed},
		{"duplicate aud", f.sign(t, header, insert(claims, `"aud":"https://evil.example.org"`)), CodeMalformed},
		{"duplicate by escape", f.sign(t, header, insert(claims, `"\u0061ud":"https://evil.example.org"`)), CodeMalformed},
		{"duplicate alg", f.sign(t, insert(header, `"alg":"none"`), claims), CodeMalformed},
		{"duplicate kid", f.sign(t, insert(header, `"kid":"x"`), claims), CodeMalformed},
		{"duplicate nested", f.sign(t, header, insert(claims, `"x":{"a":1,"a":2}`)), CodeMalformed},
		{"deep", f.sign(t, header, insert(claims, `"x":`+strings.Repeat(`[`, 50)+strings.Repeat(`]`, 50))), CodeMalformed},
		{"many members", f.sign(t, header, insert(claims, manyMembers(maxMembers))), CodeMalformed},
	}
	return all
}

// strayBits changes bits of the last character that decode to nothing.
func strayBits(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + string(alphabet[last|1])
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"m` + strings.Repeat("x", i) + `":0`)
	}
	return b.String()
}

func claimForgeries(t *testing.T, f *forger) []forgery {
	t.Helper()
	now := f.in.clock.Now().Unix()
	const other = "11111111-2222-3333-4444-555555555555"
	changed := func(changes object) string { return f.sign(t, f.header, with(f.claims, changes)) }
	own := "https://login.example.org/" + f.in.dir.TenantID()
	all := []forgery{
		{"no exp", changed(object{"exp": nil}), CodeClaims},
		{"exp is text", changed(object{"exp": "1900000000"}), CodeClaims},
		{"exp is null", f.sign(t, f.header, strings.Replace(encodeJSON(t, with(f.claims, object{"exp": 7})), `"exp":7`, `"exp":null`, 1)), CodeClaims},
		{"exp is negative", changed(object{"exp": -1}), CodeClaims},
		{"exp is huge", changed(object{"exp": 1e300}), CodeClaims},
		{"expired", changed(object{"iat": now - 7200, "nbf": now - 7200, "exp": now - 60}), CodeExpired},
		{"not yet valid", changed(object{"nbf": now + 61}), CodeExpired},
		{"issued in the future", changed(object{"iat": now + 61}), CodeExpired},
		{"lives too long", changed(object{"exp": now + 25*3600}), CodeExpired},
		{"lives too long, no iat", changed(object{"iat": nil, "nbf": nil, "exp": now + 25*3600}), CodeExpired},
		{"expires before issue", changed(object{"exp": now - 10}), CodeExpired},
		{"no aud", changed(object{"aud": nil}), CodeClaims},
		{"aud is a number", changed(object{"aud": 1}), CodeClaims},
		{"aud is a list of numbers", changed(object{"aud": []int{1}}), CodeClaims},
		{"aud is an empty list", changed(object{"aud": []string{}}), CodeClaims},
		{"no tid", changed(object{"tid": nil}), CodeTenant},
		{"other tid", changed(object{"tid": other}), CodeTenant},
		{"tid is a number", changed(object{"tid": 1}), CodeClaims},
		{"oid is a list", changed(object{"oid": []string{"x"}}), CodeClaims},
		{"other oid", changed(object{"oid": other}), CodePrincipal},
		{"unknown application", changed(object{"azp": other}), CodePrincipal},
		{"no application", changed(object{"azp": nil}), CodePrincipal},
		{"older than its application", changed(object{"iat": now - 61, "nbf": now - 61}), CodePrincipal},
		{"no iat", changed(object{"iat": nil, "nbf": nil}), CodePrincipal},
		{"no sub", changed(object{"sub": nil}), CodeClaims},
		{"groups is text within a list of lists", changed(object{"groups": [][]string{{"x"}}}), CodeClaims},
		{"too many groups", changed(object{"groups": make([]string, MaxGroups+1)}), CodeClaims},
		{"control character", changed(object{"upn": "a\nb"}), CodeClaims},
		{"no iss", changed(object{"iss": nil}), CodeIssuer},
		{"iss is a list", changed(object{"iss": []string{own + "/v2.0"}}), CodeClaims},
	}
	for _, aud := range []string{
		"", "https://evil.example.org", "http://vault.example.org", "https://vault.example.org.evil.org",
		"https://evil.org/vault.example.org", "https://x@vault.example.org", "https://vault.example.org//",
		"https://vault.example.org:0x50", "https://vault.example.org:99999", "https://vault.example.org?x",
		"https://managedhsm.azure.net", "vault.example.org", "https://vault.example.org:", "https://vault.azure.net/",
	} {
		all = append(all, forgery{"aud " + aud, changed(object{"aud": aud}), CodeAudience})
	}
	for _, iss := range []string{
		own, own + "/v2.0/", own + "/v1.0", own + "//v2.0", strings.Replace(own, "https", "http", 1) + "/v2.0",
		"https://login.example.org.evil.org/" + f.in.dir.TenantID() + "/v2.0", "https://west.login.example.org/" + f.in.dir.TenantID() + "/v2.0",
		"https://login.example.org/" + other + "/v2.0", "https://LOGIN.example.org/" + f.in.dir.TenantID() + "/v2.0",
		"https://sts.windows.net/" + f.in.dir.TenantID() + "/", "https://login.example.org:/" + f.in.dir.TenantID() + "/", strings.Repeat("x", 5000),
	} {
		all = append(all, forgery{"iss " + iss[:min(len(iss), 60)], changed(object{"iss": iss}), CodeIssuer})
	}
	return all
}

func TestVerifyAcceptsAudienceSpellings(t *testing.T) {
	t.Parallel()
	in := install(t)
	app := in.app(t)
	f := newForger(t, in, app)
	for _, aud := range []any{
		"https://vault.example.org", "https://vault.example.org/", "https://vault.example.org:8443/",
		"https://VAULT.example.org", "https://managedhsm.example.org:443", "https://vault.azure.net",
		[]string{"https://elsewhere.example.org", "https://vault.example.org"},
	} {
		if _, err := in.verifier.Verify(t.Context(), f.sign(t, f.header, with(f.claims, object{"aud": aud}))); err != nil {
			t.Errorf("aud %v: %v", aud, err)
		}
	}
	exact := f.in.clock.Now().Unix()
	for name, changes := range map[string]object{
		"leeway of exp": {"iat": exact - 60, "nbf": exact - 60, "exp": exact - 59},
		"leeway of nbf": {"nbf": exact + 60, "iat": exact + 60},
		"fractions":     {"exp": float64(exact) + 100.5, "iat": float64(exact) - 0.25},
		"no nbf":        {"nbf": nil},
	} {
		if _, err := in.verifier.Verify(t.Context(), f.sign(t, f.header, with(f.claims, changes))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusalTexts(t *testing.T) {
	t.Parallel()
	in := install(t)
	f := newForger(t, in, in.app(t))
	_, err := in.verifier.Verify(t.Context(), f.sign(t, f.header, with(f.claims, object{"aud": "https://x\u0000\"" + strings.Repeat("y", 500)})))
	want := "AKV10022: Invalid audience. Expected https://vault.example.org, found: https://x??" + strings.Repeat("y", maxEcho-11) + "...."
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	_, err = in.verifier.Verify(t.Context(), f.sign(t, f.header, with(f.claims, object{"iss": "https://sts.windows.net/x/"})))
	want = "AKV10032: Invalid issuer. Expected one of https://login.example.org/" + in.dir.TenantID() + "/v2.0, " +
		"https://login.example.org/" + in.dir.TenantID() + "/, found https://sts.windows.net/x/."
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

// Two tenants on two stores must not open each other's doors, even where the login host is the same.
func TestVerifyRefusesAnotherTenant(t *testing.T) {
	t.Parallel()
	ours, theirs := install(t), install(t)
	token := theirs.token(t, theirs.app(t), vaultAud, 2)
	_, err := ours.verifier.Verify(t.Context(), token)
	wantCode(t, err, CodeIssuer)
}

func TestExpiredTokenLeavesTheCache(t *testing.T) {
	t.Parallel()
	in := install(t)
	token := in.token(t, in.app(t), vaultAud, 2)
	if _, err := in.verifier.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	in.clock.Advance(DefaultTokenLifetime + clockLeeway - time.Second)
	if _, err := in.verifier.Verify(t.Context(), token); err != nil {
		t.Fatalf("within the leeway: %v", err)
	}
	in.clock.Advance(time.Second)
	_, err := in.verifier.Verify(t.Context(), token)
	wantCode(t, err, CodeExpired)
}

func TestDeletionRevokesTokens(t *testing.T) {
	t.Parallel()
	here := install(t)
	there := join(t, here.db, here.clock)
	app, bystander := here.app(t), here.app(t)
	token, other := here.token(t, app, vaultAud, 2), here.token(t, bystander, vaultAud, 1)
	for _, in := range []*installation{here, there} {
		for _, text := range []string{token, other} {
			if _, err := in.verifier.Verify(t.Context(), text); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := here.dir.DeleteApplication(t.Context(), app.ClientID); err != nil {
		t.Fatal(err)
	}
	_, err := here.verifier.Verify(t.Context(), token)
	wantCode(t, err, CodePrincipal)
	here.clock.Advance(generationMaxAge)
	_, err = there.verifier.Verify(t.Context(), token)
	wantCode(t, err, CodePrincipal)

	// The same client id again is another principal.
	if _, err := here.dir.CreateApplication(t.Context(), NewApplication{ClientID: app.ClientID, DisplayName: "new"}); err != nil {
		t.Fatal(err)
	}
	_, err = here.verifier.Verify(t.Context(), token)
	wantCode(t, err, CodePrincipal)
	for _, in := range []*installation{here, there} {
		if _, err := in.verifier.Verify(t.Context(), other); err != nil {
			t.Errorf("the token of a bystander: %v", err)
		}
	}
}

// A revocation whose outcome the store cannot tell counts at once if it happened, and not at all if it did not.
func TestRevocationWithUnknownOutcome(t *testing.T) {
	t.Parallel()
	revocations := map[string]func(*installation, *Application, string) error{
		"application": func(in *installation, app *Application, _ string) error {
			return in.dir.DeleteApplication(t.Context(), app.ClientID)
		},
		"signing key": func(in *installation, _ *Application, kid string) error {
			return in.authority.RevokeSigningKey(t.Context(), kid)
		},
	}
	for name, revoke := range revocations {
		for fault, done := range map[storetest.Fault]bool{storetest.Fail: false, storetest.Lost: false, storetest.Unknown: true} {
			db := openStore(t)
			in := join(t, db, newClock())
			app := in.app(t)
			token := in.token(t, app, vaultAud, 2)
			if _, err := in.verifier.Verify(t.Context(), token); err != nil {
				t.Fatal(err)
			}
			kid, _ := in.signingKey(t)
			db.Schedule(fault)
			if err := revoke(in, app, kid); !errors.Is(err, storetest.ErrInjected) {
				t.Errorf("%s, fault %d: got %v", name, fault, err)
			}
			if _, err := in.verifier.Verify(t.Context(), token); (err != nil) != done {
				t.Errorf("%s, fault %d: the token afterwards: %v", name, fault, err)
			}
		}
	}
}

// failingDB fails reads on demand.
type failingDB struct {
	store.DB
	err error
}

func (f *failingDB) View(ctx context.Context, fn func(store.Reader) error) error {
	if f.err != nil {
		return f.err
	}
	return f.DB.View(ctx, fn)
}

// Without the store nobody can say whether a token was revoked, so remembered tokens work for a second only.
func TestVerifyFailsClosedWithoutStore(t *testing.T) {
	t.Parallel()
	db := &failingDB{DB: openStore(t)}
	in := join(t, db, newClock())
	token := in.token(t, in.app(t), vaultAud, 2)
	if _, err := in.verifier.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	db.err = errors.New("the disk is gone")
	if _, err := in.verifier.Verify(t.Context(), token); err != nil {
		t.Errorf("within the second: %v", err)
	}
	in.clock.Advance(generationMaxAge)
	caller, err := in.verifier.Verify(t.Context(), token)
	if _, refused := errors.AsType[*TokenError](err); !errors.Is(err, db.err) || refused || caller != nil {
		t.Errorf("got %v and %v, want only the failure of the store", caller, err)
	}
}

// pausingDB stops a View after it has read, until told to go on.
type pausingDB struct {
	store.DB
	read, resume chan struct{}
}

func (p *pausingDB) View(ctx context.Context, fn func(store.Reader) error) error {
	err := p.DB.View(ctx, fn)
	if p.read != nil {
		p.read <- struct{}{}
		<-p.resume
	}
	return err
}

// A token that was judged while its principal was being deleted must not be remembered as good.
func TestDeletionDuringVerification(t *testing.T) {
	t.Parallel()
	faulty, c := openStore(t), newClock()
	in := join(t, faulty, c)
	app := in.app(t)
	token, other := in.token(t, app, vaultAud, 2), in.token(t, in.app(t), vaultAud, 2)

	if _, err := in.verifier.Verify(t.Context(), other); err != nil { // makes the count fresh
		t.Fatal(err)
	}
	paused := &pausingDB{DB: faulty, read: make(chan struct{}), resume: make(chan struct{})}
	in.dir.db = paused
	done := make(chan error)
	go func() {
		_, err := in.verifier.Verify(t.Context(), token)
		done <- err
	}()
	<-paused.read // the principal was seen alive
	if err := in.dir.DeleteApplication(t.Context(), app.ClientID); err != nil {
		t.Fatal(err)
	}
	close(paused.resume)
	if err := <-done; err != nil {
		t.Fatalf("judged before the deletion: %v", err)
	}
	go func() {
		for range paused.read {
		}
	}()
	_, err := in.verifier.Verify(t.Context(), token)
	wantCode(t, err, CodePrincipal)
	close(paused.read)
}

func TestCacheIsBounded(t *testing.T) {
	t.Parallel()
	c := newTokenCache(2 * cacheShards)
	now := time.Unix(1_800_000_000, 0)
	for i := range 10_000 {
		sum := sha256.Sum256([]byte{byte(i), byte(i >> 8)})
		c.put(&sum, cacheEntry{&Caller{}, 1, now.Add(time.Hour)}, now)
		if c.get(&sum, 1, now) == nil {
			t.Fatal("the newest entry is gone")
		}
		if c.get(&sum, 2, now) != nil || c.get(&sum, 1, now.Add(time.Hour)) != nil {
			t.Fatal("an entry outlived its count or its time")
		}
	}
	for i := range c.shards {
		if n := len(c.shards[i].entries); n > 2 {
			t.Errorf("shard %d holds %d entries", i, n)
		}
	}
}

// realTime is an installation on the machine's clock, whose reading is part of the cost.
func realTime(b *testing.B) *installation {
	b.Helper()
	dir, err := Open(b.Context(), Config{DB: openStore(b)})
	if err != nil {
		b.Fatal(err)
	}
	authority, err := NewAuthority(b.Context(), dir, AuthorityConfig{LoginHost: loginHost})
	if err != nil {
		b.Fatal(err)
	}
	verifier, err := NewVerifier(VerifierConfig{Authority: authority, Audiences: audiences()})
	if err != nil {
		b.Fatal(err)
	}
	return &installation{dir: dir, authority: authority, verifier: verifier}
}

func BenchmarkVerifyRemembered(b *testing.B) {
	in := realTime(b)
	token := in.token(b, in.app(b), vaultAud, 2)
	if _, err := in.verifier.Verify(b.Context(), token); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(token)))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if _, err := in.verifier.Verify(b.Context(), token); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

func BenchmarkVerifyNew(b *testing.B) {
	in := install(b)
	token := in.token(b, in.app(b), vaultAud, 2)
	for b.Loop() {
		if _, _, err := in.verifier.judge(b.Context(), token, in.clock.Now()); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkIssueToken(b *testing.B) {
	in := install(b)
	app := in.app(b)
	for b.Loop() {
		in.token(b, app, vaultAud, 2)
	}
}
