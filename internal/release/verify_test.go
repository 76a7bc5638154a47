package release

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/fetch"
)

func header() object {
	return object{"kid": "k1", "typ": "JWT", "jku": "https://elsewhere.example.org/certs"}
}

// TestRelease goes the whole way: policy, token, claims, key.
func TestRelease(t *testing.T) {
	t.Parallel()
	server, c := newAuthority(t), newClock()
	v := server.verifier(t, c)
	p := mustParse(t, `{"version":"1.0.0","anyOf":[{"authority":"`+server.URL+`","allOf":[
		{"claim":"secureboot","equals":true},
		{"claim":"x-ms-isolation-tee.x-ms-compliance-status","equals":"azure-compliant-cvm"},
		{"claim":"x-ms-isolation-tee.x-ms-sevsnpvm-is-debuggable","equals":"false"},
		{"claim":"x-ms-isolation-tee.x-ms-sevsnpvm-vmpl","equals":"0"}]}]}`)
	token := mint(t, signKey(), jose.RS256, header(), claimsOf(server.URL, c.Now()))
	a, err := v.Verify(t.Context(), token, p.Authorities())
	if err != nil {
		t.Fatal(err)
	}
	if a.Authority != server.name() || !a.Expires.Equal(c.Now().Add(8*time.Hour)) {
		t.Errorf("authority %s, expires %v", a.Authority, a.Expires)
	}
	if err := p.Evaluate(a.Authority, a.Claims); err != nil {
		t.Error(err)
	}
	key, kid, err := a.EncryptionKey()
	if err != nil || kid != "TpmEphemeralEncryptionKey" || !key.Equal(targetKey().Public()) {
		t.Errorf("encryption key %q, %v", kid, err)
	}

	debuggable := claimsOf(server.URL, c.Now())
	debuggable["x-ms-isolation-tee"].(object)["x-ms-sevsnpvm-is-debuggable"] = true
	if a, err = v.Verify(t.Context(), mint(t, signKey(), jose.RS256, header(), debuggable), p.Authorities()); err != nil {
		t.Fatal(err)
	}
	wantKind(t, p.Evaluate(a.Authority, a.Claims), NotMet)
}

func TestAlgorithms(t *testing.T) {
	t.Parallel()
	server, c := newAuthority(t), newClock()
	server.set(func(s *authorityServer) {
		s.keys = append(s.keys, jose.JSONWebKey{Key: ecKey().Public(), KeyID: "ec", Use: "sig"},
			jose.JSONWebKey{Key: ec384Key().Public(), KeyID: "ec384"},
			jose.JSONWebKey{Key: otherKey().Public(), KeyID: "only PS256", Algorithm: "PS256"})
	})
	v := server.verifier(t, c)
	claims := claimsOf(server.URL, c.Now())
	for _, k := range []struct {
		key crypto.Signer
		alg jose.SignatureAlgorithm
		kid string
	}{
		{signKey(), jose.RS256, "k1"}, {signKey(), jose.RS384, "k1"}, {signKey(), jose.RS512, "k1"}, {signKey(), jose.PS256, "k1"},
		{signKey(), jose.PS384, "k1"}, {signKey(), jose.PS512, "k1"}, {ecKey(), jose.ES256, "ec"}, {ec384Key(), jose.ES384, "ec384"},
		{otherKey(), jose.PS256, "only PS256"},
	} {
		token := mint(t, k.key, k.alg, with(header(), object{"kid": k.kid}), claims)
		if _, err := v.Verify(t.Context(), token, []string{server.name()}); err != nil {
			t.Errorf("%s with %s: %v", k.alg, k.kid, err)
		}
	}
	for _, k := range []struct {
		key crypto.Signer
		alg jose.SignatureAlgorithm
		kid string
	}{
		{ecKey(), jose.ES256, "k1"}, {signKey(), jose.RS256, "ec"}, {otherKey(), jose.RS256, "only PS256"},
		{ec384Key(), jose.ES384, "ec"}, {ecKey(), jose.ES256, "ec384"},
	} {
		token := mint(t, k.key, k.alg, with(header(), object{"kid": k.kid}), claims)
		_, err := v.Verify(t.Context(), token, []string{server.name()})
		wantKind(t, err, BadToken)
	}
}

// unsigned joins a header and claims with a signature that somebody made otherwise.
func unsigned(t *testing.T, header, claims object, signature func(input string) []byte) string {
	t.Helper()
	input := b64(string(mustJSON(t, header))) + "." + b64(string(mustJSON(t, claims)))
	return input + "." + base64.RawURLEncoding.EncodeToString(signature(input))
}

func TestForgedTokens(t *testing.T) {
	t.Parallel()
	server, c := newAuthority(t), newClock()
	claims, now := claimsOf(server.URL, c.Now()), c.Now()
	good := mint(t, signKey(), jose.RS256, header(), claims)
	sign := func(h, changes object) string {
		return mint(t, signKey(), jose.RS256, with(header(), h), with(claims, changes))
	}
	parts := strings.Split(good, ".")
	hs256 := func(input string) []byte {
		der, err := x509.MarshalPKIXPublicKey(signKey().Public())
		if err != nil {
			t.Fatal(err)
		}
		mac := hmac.New(sha256.New, der)
		mac.Write([]byte(input))
		return mac.Sum(nil)
	}
	rs256 := func(input string) []byte {
		digest := sha256.Sum256([]byte(input))
		signature, err := rsa.SignPKCS1v15(nil, signKey(), crypto.SHA256, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		return signature
	}
	raw := func(header, claims string) string {
		input := b64(header) + "." + b64(claims)
		return input + "." + base64.RawURLEncoding.EncodeToString(rs256(input))
	}
	const plainHeader = `{"alg":"RS256","kid":"k1"}`
	plainClaims := string(mustJSON(t, claims))

	for _, f := range []struct{ name, token string }{
		{"empty", ""},
		{"two parts", parts[0] + "." + parts[1]},
		{"four parts", good + "."},
		{"no signature", parts[0] + "." + parts[1] + "."},
		{"padding", parts[0] + "=." + parts[1] + "." + parts[2]},
		{"line break in the signature", good[:len(good)-10] + "\n" + good[len(good)-10:]},
		{"space behind", good + " "},
		{"standard alphabet", parts[0] + "." + parts[1] + "." + strings.ReplaceAll(strings.ReplaceAll(parts[2], "_", "/"), "-", "+") + "/"},
		{"huge", sign(nil, object{"filler": strings.Repeat("a", MaxToken)})},
		{"deep", raw(plainHeader, strings.TrimSuffix(plainClaims, "}")+`,"a":`+strings.Repeat("[", maxDepth)+strings.Repeat("]", maxDepth)+`}`)},
		{"alg none", unsigned(t, object{"alg": "none", "kid": "k1"}, claims, func(string) []byte { return nil })},
		{"alg none with a signature", unsigned(t, object{"alg": "none", "kid": "k1"}, claims, rs256)},
		{"alg None", unsigned(t, object{"alg": "None", "kid": "k1"}, claims, rs256)},
		{"no alg", unsigned(t, object{"kid": "k1"}, claims, rs256)},
		{"HS256 with the public key", unsigned(t, object{"alg": "HS256", "kid": "k1"}, claims, hs256)},
		{"ES512", unsigned(t, object{"alg": "ES512", "kid": "k1"}, claims, rs256)},
		{"alg of another type", unsigned(t, object{"alg": []string{"RS256"}, "kid": "k1"}, claims, rs256)},
		{"algorithm changed", unsigned(t, object{"alg": "RS384", "kid": "k1"}, claims, rs256)},
		{"claims changed", parts[0] + "." + b64(plainClaims+" ") + "." + parts[2]},
		{"header changed", b64(plainHeader) + "." + parts[1] + "." + parts[2]},
		{"signature of other claims", parts[0] + "." + parts[1] + "." + strings.Split(sign(nil, object{"jti": "2"}), ".")[2]},
		{"signed by another key", mint(t, otherKey(), jose.RS256, header(), claims)},
		{"no kid", sign(object{"kid": nil}, nil)},
		{"empty kid", sign(object{"kid": ""}, nil)},
		{"kid of another key", sign(object{"kid": "k2"}, nil)},
		{"kid of another type", raw(`{"alg":"RS256","kid":["k1"]}`, plainClaims)},
		{"long kid", sign(object{"kid": strings.Repeat("k", maxKeyID+1)}, nil)},
		{"own key in the header", mint(t, otherKey(), jose.RS256,
			object{"kid": "k1", "jwk": jose.JSONWebKey{Key: otherKey().Public(), KeyID: "k1"}}, claims)},
		{"critical extension", raw(`{"alg":"RS256","kid":"k1","crit":["exp"]}`, plainClaims)},
		{"unencoded payload", raw(`{"alg":"RS256","kid":"k1","b64":false}`, plainClaims)},
		{"compressed", raw(`{"alg":"RS256","kid":"k1","zip":"DEF"}`, plainClaims)},
		{"nested", raw(`{"alg":"RS256","kid":"k1","cty":"JWT"}`, plainClaims)},
		{"another type of token", sign(object{"typ": "secevent+jwt"}, nil)},
		{"typ of another type", raw(`{"alg":"RS256","kid":"k1","typ":1}`, plainClaims)},
		{"alg twice", raw(`{"alg":"RS256","alg":"RS256","kid":"k1"}`, plainClaims)},
		{"claim twice", raw(plainHeader, strings.TrimSuffix(plainClaims, "}")+`,"secureboot":true}`)},
		{"claim twice inside", raw(plainHeader, strings.TrimSuffix(plainClaims, "}")+`,"a":{"b":1,"b":2}}`)},
		{"claims are a list", raw(plainHeader, `[]`)},
		{"claims not UTF-8", raw(plainHeader, strings.TrimSuffix(plainClaims, "}")+",\"a\":\"\xff\"}")},
		{"header is a string", raw(`"RS256"`, plainClaims)},
		{"another issuer", sign(nil, object{"iss": "https://b.example.org/"})},
		{"issuer with a path", sign(nil, object{"iss": server.URL + "/x"})},
		{"no issuer", sign(nil, object{"iss": nil})},
		{"issuer of another type", sign(nil, object{"iss": []string{server.URL}})},
		{"no expiry", sign(nil, object{"exp": nil})},
		{"expiry of another type", sign(nil, object{"exp": "9999999999"})},
		{"expiry out of reason", sign(nil, object{"exp": 1e300})},
		{"expired", sign(nil, object{"exp": now.Add(-clockLeeway).Unix()})},
		{"expired long ago", sign(nil, object{"exp": 1, "nbf": nil, "iat": nil})},
		{"negative expiry", sign(nil, object{"exp": -1, "nbf": nil, "iat": nil})},
		{"not valid yet", sign(nil, object{"nbf": now.Add(clockLeeway + time.Second).Unix()})},
		{"issued in the future", sign(nil, object{"iat": now.Add(clockLeeway + time.Second).Unix()})},
		{"valid from its end", sign(nil, object{"nbf": now.Unix(), "exp": now.Unix()})},
		{"nbf of another type", sign(nil, object{"nbf": "now"})},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			v := server.verifier(t, c)
			_, err := v.Verify(t.Context(), f.token, []string{server.name()})
			refusal := wantKind(t, err, BadToken)
			if !strings.HasPrefix(refusal.Message, "Target environment attestation statement cannot be verified. ") {
				t.Errorf("got %q", refusal.Message)
			}
			if len(f.token) > 40 && strings.Contains(err.Error(), f.token[:40]) {
				t.Error("the error holds the token")
			}
		})
	}
	for _, f := range []struct{ name, token string }{
		{"good", good},
		{"issuer with a slash", sign(nil, object{"iss": server.name()})},
		{"expired within the leeway", sign(nil, object{"exp": now.Add(time.Second - clockLeeway).Unix(), "nbf": nil, "iat": nil})},
		{"valid within the leeway", sign(nil, object{"nbf": now.Add(clockLeeway).Unix()})},
		{"no nbf and iat", sign(nil, object{"nbf": nil, "iat": nil})},
		{"ten years", sign(nil, object{"exp": now.Add(10 * 365 * 24 * time.Hour).Unix()})},
		{"fraction", sign(nil, object{"exp": json.Number("1800000000.5"), "nbf": 1, "iat": 1.5e9})},
		{"no typ", sign(object{"typ": nil}, nil)},
	} {
		if _, err := server.verifier(t, c).Verify(t.Context(), f.token, []string{server.name()}); err != nil {
			t.Errorf("%s: %v", f.name, err)
		}
	}
}

// Nothing is ever fetched from an authority that is not on the list, nor for a token that could not be good.
func TestNoConnection(t *testing.T) {
	t.Parallel()
	server, c := newAuthority(t), newClock()
	listed := newAuthority(t)
	good := mint(t, signKey(), jose.RS256, header(), claimsOf(server.URL, c.Now()))
	old := mint(t, signKey(), jose.RS256, header(), with(claimsOf(server.URL, c.Now()), object{"exp": 1}))
	only := func(entries ...string) func(*Config) { return func(cfg *Config) { cfg.Authorities = entries } }
	for _, f := range []struct {
		name, token string
		list        func(*Config)
		policy      []string
		want        Kind
		message     string
	}{
		{"empty list", good, only(), []string{server.name()}, NotListed, "lists no attestation authority under releaseAuthorities"},
		{"not on the list", good, only(listed.URL), []string{server.name()}, NotListed, server.name() + "' is not listed under releaseAuthorities"},
		{"other port on the list", good, only("https://127.0.0.1/"), []string{server.name()}, NotListed, "is not listed"},
		{"other path on the list", good, only(server.URL + "/x"), []string{server.name()}, NotListed, "is not listed"},
		{"not in the policy", good, only(server.URL), []string{listed.name()}, BadToken, "not an authority of the key's release policy"},
		{"no policy", good, only(server.URL), nil, BadToken, "not an authority of the key's release policy"},
		{"expired", old, only(server.URL), []string{server.name()}, BadToken, "expired"},
		{"malformed", good + ".", only(server.URL), []string{server.name()}, BadToken, "well-formed"},
	} {
		v := server.verifier(t, c, f.list)
		_, err := v.Verify(t.Context(), f.token, f.policy)
		if refusal := wantKind(t, err, f.want); !strings.Contains(refusal.Message, f.message) {
			t.Errorf("%s: got %q, want it to say %q", f.name, refusal.Message, f.message)
		}
	}
	if n := server.connections.Load() + listed.connections.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

func TestKeySets(t *testing.T) {
	t.Parallel()
	self := certificate(t, &x509.Certificate{}, signKey().Public(), nil, signKey())
	ended := certificate(t, &x509.Certificate{NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0)}, signKey().Public(), nil, signKey())
	foreign := certificate(t, &x509.Certificate{}, otherKey().Public(), nil, otherKey())
	plain := jose.JSONWebKey{Key: signKey().Public(), KeyID: "k1"}
	certified := func(der []byte, changes object) object {
		return with(object{"kty": "RSA", "kid": "k1", "x5c": [][]byte{der}}, changes)
	}
	numbers := targetJWK(&signKey().PublicKey, "k1")
	delete(numbers, "key_ops")
	weak := makeRSA(1024)

	for _, c := range []struct {
		name string
		keys []any
		want Kind // 0 means that the token is good
	}{
		{"numbers", []any{numbers}, 0},
		{"certificate only", []any{certified(self, nil)}, 0},
		{"certificate whose time is over", []any{certified(ended, nil)}, 0},
		{"certificate and numbers", []any{certified(self, numbers)}, 0},
		{"certificate of another key beside the numbers", []any{certified(foreign, numbers)}, Unreachable},
		{"certificate of another key", []any{certified(foreign, nil)}, BadToken},
		{"broken certificate", []any{certified([]byte("x"), nil)}, Unreachable},
		{"broken certificate, but also a good key", []any{certified([]byte("x"), object{"kid": "k0"}), plain}, 0},
		{"chain that is no list", []any{with(numbers, object{"x5c": "x"}), plain}, 0},
		{"for encryption", []any{certified(self, object{"use": "enc"})}, Unreachable},
		{"for another algorithm", []any{certified(self, object{"alg": "PS256"})}, BadToken},
		{"the same key twice", []any{plain, certified(self, nil)}, 0},
		{"two keys of one id", []any{plain, jose.JSONWebKey{Key: otherKey().Public(), KeyID: "k1"}}, BadToken},
		{"two keys of one id, and the first again", []any{plain, jose.JSONWebKey{Key: otherKey().Public(), KeyID: "k1"}, plain}, BadToken},
		{"no id", []any{jose.JSONWebKey{Key: signKey().Public()}}, Unreachable},
		{"weak", []any{jose.JSONWebKey{Key: weak.Public(), KeyID: "k1"}}, Unreachable},
		{"symmetric", []any{jose.JSONWebKey{Key: []byte("0123456789abcdef"), KeyID: "k1"}}, Unreachable},
		{"private", []any{jose.JSONWebKey{Key: signKey(), KeyID: "k1"}}, Unreachable},
		{"no numbers", []any{object{"kty": "RSA", "kid": "k1"}}, Unreachable},
		{"not objects", []any{1, "k1", nil, []any{}}, Unreachable},
		{"none", []any{}, Unreachable},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server, clock := newAuthority(t), newClock()
			server.set(func(s *authorityServer) { s.keys = c.keys })
			token := mint(t, signKey(), jose.RS256, header(), claimsOf(server.URL, clock.Now()))
			_, err := server.verifier(t, clock).Verify(t.Context(), token, []string{server.name()})
			if c.want != 0 {
				wantKind(t, err, c.want)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestHostileAuthorities(t *testing.T) {
	t.Parallel()
	const metadata, certs = "/.well-known/openid-configuration", "/certs"
	other := newAuthority(t)
	keys := mustJSON(t, object{"keys": []any{jose.JSONWebKey{Key: signKey().Public(), KeyID: "k1"}}})
	many := make([]any, maxKeys+1)
	for i := range many {
		many[i] = jose.JSONWebKey{Key: signKey().Public(), KeyID: "k1"}
	}
	write := func(body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(body) }
	}
	redirect := func(to string) http.HandlerFunc { return http.RedirectHandler(to, http.StatusFound).ServeHTTP }
	for _, c := range []struct {
		name   string
		change func(*authorityServer)
		want   string
	}{
		{"metadata redirect to another host", func(s *authorityServer) { s.answer[metadata] = redirect(other.URL + metadata) }, "redirects"},
		{"keys redirect to another host", func(s *authorityServer) { s.answer[certs] = redirect(other.URL + certs) }, "redirects"},
		{"keys redirect to the same host", func(s *authorityServer) { s.answer[certs] = redirect("/more") }, "redirects"},
		{"keys of another host", func(s *authorityServer) { s.metadata = object{"jwks_uri": other.URL + certs} }, "no jwks_uri on its own host"},
		{"keys over plain HTTP", func(s *authorityServer) {
			s.metadata = object{"jwks_uri": strings.Replace(s.URL, "https", "http", 1) + certs}
		}, "no jwks_uri on its own host"},
		{"keys at an address with a user", func(s *authorityServer) {
			s.metadata = object{"jwks_uri": strings.Replace(s.URL, "https://", "https://u@", 1) + certs}
		}, "no jwks_uri on its own host"},
		{"no jwks_uri", func(s *authorityServer) { s.metadata = object{"issuer": s.URL} }, "no jwks_uri on its own host"},
		{"jwks_uri of another type", func(s *authorityServer) { s.metadata = object{"jwks_uri": 1} }, "not those of OpenID"},
		{"metadata of another issuer", func(s *authorityServer) {
			s.metadata = object{"issuer": other.URL, "jwks_uri": s.URL + certs}
		}, "metadata are those of"},
		{"issuer that is no address", func(s *authorityServer) {
			s.metadata = object{"issuer": "", "jwks_uri": s.URL + certs}
		}, "metadata are those of"},
		{"metadata not JSON", func(s *authorityServer) { s.answer[metadata] = write([]byte("<html>")) }, "not those of OpenID"},
		{"keys not JSON", func(s *authorityServer) { s.answer[certs] = write([]byte("<html>")) }, "no JWK set"},
		{"keys are a list", func(s *authorityServer) { s.answer[certs] = write([]byte("[]")) }, "no JWK set"},
		{"no metadata", func(s *authorityServer) { s.answer[metadata] = http.NotFound }, "status 404"},
		{"no keys", func(s *authorityServer) { s.answer[certs] = http.NotFound }, "status 404"},
		{"too many keys", func(s *authorityServer) { s.keys = many }, "no JWK set of at most"},
		{"metadata too long", func(s *authorityServer) { s.answer[metadata] = write(make([]byte, maxDocument+1)) }, "more than"},
		{"keys too long", func(s *authorityServer) {
			s.answer[certs] = write(append(keys, strings.Repeat(" ", maxKeySet)...))
		}, "more than"},
		{"endless header", func(s *authorityServer) {
			s.answer[metadata] = func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X-Filler", strings.Repeat("a", 2*fetch.MaxHeader))
				_, _ = w.Write([]byte("{}"))
			}
		}, "header"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server, clock := newAuthority(t), newClock()
			server.set(c.change)
			token := mint(t, signKey(), jose.RS256, header(), claimsOf(server.URL, clock.Now()))
			before := other.connections.Load()
			_, err := server.verifier(t, clock).Verify(t.Context(), token, []string{server.name()})
			wantKind(t, err, Unreachable)
			if !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %q, want it to say %q", err, c.want)
			}
			if other.connections.Load() != before {
				t.Error("another host was contacted")
			}
		})
	}
}

func TestIssuerInMetadata(t *testing.T) {
	t.Parallel()
	server, c := newAuthority(t), newClock()
	server.set(func(s *authorityServer) {
		s.metadata = object{"issuer": s.URL, "jwks_uri": s.URL + "/certs?api-version=1"}
	})
	token := mint(t, signKey(), jose.RS256, header(), claimsOf(server.URL, c.Now()))
	if _, err := server.verifier(t, c).Verify(t.Context(), token, []string{server.name()}); err != nil {
		t.Error(err)
	}
}

func TestUntrustedTLS(t *testing.T) {
	t.Parallel()
	server, c := newAuthority(t), newClock()
	token := mint(t, signKey(), jose.RS256, header(), claimsOf(server.URL, c.Now()))
	v := server.verifier(t, c, func(cfg *Config) { cfg.RootCAs = x509.NewCertPool() })
	_, err := v.Verify(t.Context(), token, []string{server.name()})
	wantKind(t, err, Unreachable)
	var unknown x509.UnknownAuthorityError
	if !errors.As(err, &unknown) || server.fetches.Load() != 0 {
		t.Errorf("got %v after %d fetches", err, server.fetches.Load())
	}
}

// A slow authority costs one fetch, whoever waits, and the wait is bounded twice.
func TestSlowAuthority(t *testing.T) {
	t.Parallel()
	server, c := newAuthority(t), newClock()
	entered, release := make(chan struct{}, 10), make(chan struct{})
	t.Cleanup(func() { close(release) }) // before the server is closed, which waits for its handlers
	server.set(func(s *authorityServer) {
		s.answer["/certs"] = func(w http.ResponseWriter, r *http.Request) {
			entered <- struct{}{}
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
	})
	token := mint(t, signKey(), jose.RS256, header(), claimsOf(server.URL, c.Now()))

	// The caller gives up.
	v := server.verifier(t, c, func(cfg *Config) { cfg.Timeout = time.Minute })
	ctx, cancel := context.WithCancel(t.Context())
	errs := make(chan error)
	for range 5 {
		go func() {
			_, err := v.Verify(ctx, token, []string{server.name()})
			errs <- err
		}()
	}
	<-entered
	cancel()
	for range 5 {
		err := <-errs
		if wantKind(t, err, Unreachable); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	if n := server.fetches.Load(); n != 1 {
		t.Errorf("%d fetches", n)
	}

	// The time of the fetch is over.
	v = server.verifier(t, c, func(cfg *Config) { cfg.Timeout = 50 * time.Millisecond })
	_, err := v.Verify(t.Context(), token, []string{server.name()})
	wantKind(t, err, Unreachable)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestKeysAreCached(t *testing.T) {
	t.Parallel()
	server, c := newAuthority(t), newClock()
	v := server.verifier(t, c)
	verify := func(key crypto.Signer, kid string) error {
		token := mint(t, key, jose.RS256, with(header(), object{"kid": kid}), claimsOf(server.URL, c.Now()))
		_, err := v.Verify(t.Context(), token, []string{server.name()})
		return err
	}
	fetches := func(want int64) {
		t.Helper()
		if got := server.fetches.Load(); got != want {
			t.Fatalf("%d fetches, want %d", got, want)
		}
	}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			if err := verify(signKey(), "k1"); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	fetches(1)

	// Unknown ids ask again, but not more often than every RefreshEvery.
	for range 3 {
		wantKind(t, verify(otherKey(), "k2"), BadToken)
	}
	fetches(1)
	c.Advance(defaultRefresh)
	for range 3 {
		wantKind(t, verify(otherKey(), "k2"), BadToken)
	}
	fetches(2)

	// A new key is found, once that may be.
	server.set(func(s *authorityServer) {
		s.keys = []any{jose.JSONWebKey{Key: otherKey().Public(), KeyID: "k2"}}
	})
	wantKind(t, verify(otherKey(), "k2"), BadToken)
	c.Advance(defaultRefresh)
	if err := verify(otherKey(), "k2"); err != nil {
		t.Fatal(err)
	}
	fetches(3)

	// A key that was withdrawn is gone with the next fetch.
	wantKind(t, verify(signKey(), "k1"), BadToken)

	// When the keys are old and the authority is down, nothing is released; nor is it asked at once again.
	server.set(func(s *authorityServer) { s.answer["/certs"] = http.NotFound })
	if err := verify(otherKey(), "k2"); err != nil {
		t.Fatal(err)
	}
	c.Advance(defaultKeysTTL)
	for range 3 {
		wantKind(t, verify(otherKey(), "k2"), Unreachable)
	}
	fetches(4)
	server.set(func(s *authorityServer) { delete(s.answer, "/certs") })
	c.Advance(defaultRefresh)
	if err := verify(otherKey(), "k2"); err != nil {
		t.Fatal(err)
	}
	fetches(5)
}

// manyHosts is a Verifier that lists one authority itself and any number by a wildcard. Instead of the network, answer is asked.
func manyHosts(t *testing.T, c *clock, answer func(*http.Request) (*http.Response, error)) *Verifier {
	t.Helper()
	v, err := NewVerifier(Config{Authorities: []string{"https://*.example.org", listedHost}, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	v.client = &http.Client{Transport: roundTripper(answer)}
	return v
}

const listedHost = "https://listed.example.org/"

func host(i int) string { return fmt.Sprintf("https://a%d.example.org/", i) }

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestSourcesAreBounded(t *testing.T) {
	t.Parallel()
	c := newClock()
	v := manyHosts(t, c, nil)
	source := func(name string) *keySource {
		t.Helper()
		s, err := v.source(name, name == listedHost)
		if err != nil {
			t.Fatal(name, err)
		}
		return s
	}
	// Nothing is asked for longer than the one that is listed itself, and one with keys.
	listed, good := source(listedHost), source(host(0))
	give(t, good, c.Now(), new(keySet))
	for i := 1; i < maxSources; i++ {
		c.Advance(time.Second)
		source(host(i))
	}
	for i := maxSources; i < 3*maxSources; i++ {
		c.Advance(time.Second)
		source(host(i)) // in the place of the oldest without keys
	}
	if n := len(v.sources); n != maxSources+1 {
		t.Errorf("%d sources are remembered", n)
	}
	if source(listedHost) != listed || source(host(0)) != good {
		t.Error("forgotten: the one that is listed itself, or one that has keys")
	}
	// Those that are listed themselves take nobody's place and are not in anybody's way.
	for i := range 10 {
		if _, err := v.source(fmt.Sprintf("https://b%d.example.org/", i), true); err != nil {
			t.Fatal(err)
		}
	}

	// None is forgotten that was used a moment ago.
	c.Advance(defaultRefresh)
	for i := range maxSources - 1 {
		source(host(1000 + i))
	}
	_, err := v.source(host(2000), false)
	wantKind(t, err, Unreachable)
	c.Advance(defaultRefresh - 1)
	_, err = v.source(host(2000), false)
	wantKind(t, err, Unreachable)
	c.Advance(1)
	source(host(2000))

	// If all have keys, it is the one that was not asked for longest; one with old keys has none.
	for _, s := range v.sources {
		give(t, s, c.Now(), new(keySet))
	}
	c.Advance(defaultRefresh)
	source(host(2000))
	source(host(3000))
	if v.sources[host(0)] != nil || v.sources[host(2000)] == nil {
		t.Error("not the oldest was forgotten")
	}
	c.Advance(defaultKeysTTL)
	for i := range maxSources {
		source(host(4000 + i))
	}
	if len(v.sources) != maxSources+11 {
		t.Errorf("%d sources are remembered", len(v.sources))
	}
	c.Advance(defaultRefresh)
	end := make(chan struct{})
	for _, s := range v.sources {
		done := ask(t, s, c.Now(), func(context.Context) (*keySet, error) { <-end; return new(keySet), nil })
		defer func() { <-done }()
	}
	defer close(end)
	_, err = v.source(host(5000), false)
	wantKind(t, err, Unreachable)
}

// give has the source fetch a set of keys.
func give(t testing.TB, s *keySource, now time.Time, keys *keySet) {
	t.Helper()
	<-ask(t, s, now, func(context.Context) (*keySet, error) { return keys, nil })
}

// ask has the source fetch by get, and returns what is closed when it has.
func ask(t testing.TB, s *keySource, now time.Time, get func(context.Context) (*keySet, error)) <-chan struct{} {
	t.Helper()
	done, err := s.keys.Refresh(now, nil, get)
	if done == nil || err != nil {
		t.Fatal("no fetch has begun", err)
	}
	return done
}

// Whoever makes up tokens of many authorities has each asked as rarely as one, and few at a time.
func TestForgedAuthorities(t *testing.T) {
	t.Parallel()
	c := newClock()
	token := func(authority string) string {
		return mint(t, signKey(), jose.RS256, header(), claimsOf(authority, c.Now()))
	}
	verify := func(v *Verifier, token, authority string) error {
		_, err := v.Verify(t.Context(), token, []string{authority})
		return err
	}
	forge := func(v *Verifier, authority string) error { return verify(v, token(authority), authority) }
	var asked atomic.Int64
	v := manyHosts(t, c, func(*http.Request) (*http.Response, error) {
		asked.Add(1)
		return nil, errors.New("nobody is there")
	})
	for range 2 {
		for i := range 3 * maxSources {
			wantKind(t, forge(v, host(i)), Unreachable)
		}
	}
	if n := asked.Load(); n != maxSources {
		t.Errorf("%d fetches at once", n)
	}
	wantKind(t, forge(v, listedHost), Unreachable)
	if n := asked.Load(); n != maxSources+1 {
		t.Error("the authority that is listed itself was not asked")
	}

	// Slow ones do not keep others waiting that are listed themselves.
	entered, end := make(chan string), make(chan struct{})
	v = manyHosts(t, c, func(r *http.Request) (*http.Response, error) {
		entered <- r.URL.Host
		<-end
		return nil, errors.New("nobody is there")
	})
	results := make(chan error)
	start := func(authority string) {
		made := token(authority)
		go func() { results <- verify(v, made, authority) }()
	}
	for i := range maxFetches {
		start(host(i))
	}
	for range maxFetches {
		<-entered
	}
	if err := wantKind(t, forge(v, host(maxFetches)), Unreachable); !errors.Is(err, errManyFetches) {
		t.Errorf("one fetch more: %v", err)
	}
	start(listedHost)
	if got := <-entered; got != "listed.example.org" {
		t.Errorf("%s was asked", got)
	}
	close(end)
	for range maxFetches + 1 {
		wantKind(t, <-results, Unreachable)
	}
	start(host(maxFetches)) // refused above, it has not been asked yet
	if got := "https://" + <-entered + "/"; got != host(maxFetches) {
		t.Errorf("%s was asked", got)
	}
	wantKind(t, <-results, Unreachable)
}

func TestEncryptionKey(t *testing.T) {
	t.Parallel()
	good := targetJWK(&targetKey().PublicKey, "good")
	other := targetJWK(&otherKey().PublicKey, "other")
	weak, weakest := targetJWK(&makeRSA(1024).PublicKey, "weak"), object{"kty": "RSA", "use": "enc", "n": "AQ", "e": "AQAB"}
	list := func(keys ...any) object { return object{"x-ms-runtime": object{"keys": keys}} }
	for _, c := range []struct {
		name   string
		claims object
		want   string // the kid, or "" for a refusal
	}{
		{"encrypt", list(good), "good"},
		{"wrapKey", list(with(good, object{"key_ops": []string{"verify", "wrapKey"}})), "good"},
		{"use", list(with(good, object{"key_ops": nil, "use": "enc"})), "good"},
		{"the first", list(good, other), "good"},
		{"the first, whatever its name", list(other, with(good, object{"kid": "TpmEphemeralEncryptionKey"})), "other"},
		{"the first for encryption", list(with(other, object{"key_ops": []string{"sign"}}), with(other, object{"use": "sig"}),
			with(other, object{"key_ops": nil}), object{"kty": "EC", "use": "enc"}, "other", nil, good), "good"},
		{"padding", list(with(good, object{"n": good["n"].(string) + "=="})), "good"},
		{"with the private part", list(with(good, object{"d": "AQAB"})), "good"},

		{"nothing", object{}, ""},
		{"no list", object{"x-ms-runtime": object{}}, ""},
		{"empty list", list(), ""},
		{"list of another type", object{"x-ms-runtime": object{"keys": good}}, ""},
		{"at another place", object{"keys": []any{good}, "x-ms-isolation-tee": list(good), "x-ms-runtime.keys": []any{good}}, ""},
		{"for signatures", list(with(good, object{"use": "sig"})), ""},
		{"no purpose", list(with(good, object{"key_ops": nil})), ""},
		{"key_ops that are no list", list(with(good, object{"key_ops": "encrypt"})), ""},
		{"weak", list(weak), ""},
		{"weak, then good", list(weak, good), ""},
		{"weakest", list(weakest), ""},
		{"even modulus", list(with(good, object{"n": b64("\xff" + strings.Repeat("\x00", 255))})), ""},
		{"too long", list(with(good, object{"n": b64("\xff" + strings.Repeat("\x01", 512))})), ""},
		{"much too long", list(with(good, object{"n": b64("\xff" + strings.Repeat("\x01", 5000))})), ""},
		{"no modulus", list(with(good, object{"n": nil})), ""},
		{"modulus of another type", list(with(good, object{"n": 1})), ""},
		{"modulus not base64", list(with(good, object{"n": "/+*"})), ""},
		{"exponent 1", list(with(good, object{"e": "AQ"})), ""},
		{"exponent 4", list(with(good, object{"e": "BA"})), ""},
		{"exponent 0", list(with(good, object{"e": "AA"})), ""},
		{"long exponent", list(with(good, object{"e": "AQAAAAE"})), ""},
		{"no exponent", list(with(good, object{"e": nil})), ""},
		{"kid of another type", list(with(good, object{"kid": 1})), ""},
		{"long kid", list(with(good, object{"kid": strings.Repeat("k", maxKeyID+1)})), ""},
		{"too many", list(append(make([]any, maxTargetKeys), good)...), ""},
	} {
		a := &Attestation{Claims: mustClaims(t, string(mustJSON(t, c.claims)))}
		key, kid, err := a.EncryptionKey()
		if c.want == "" {
			if wantKind(t, err, BadKey); key != nil {
				t.Errorf("%s: a key beside the error", c.name)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(c.want, kid); diff != "" || key.N.BitLen() != 2048 || key.E != 65537 {
			t.Errorf("%s: got key %s", c.name, kid)
		}
	}
	a := &Attestation{Claims: mustClaims(t, string(mustJSON(t, list(with(good, object{"kid": nil})))))}
	if _, kid, err := a.EncryptionKey(); err != nil || kid != "" {
		t.Errorf("a key without a kid: %q, %v", kid, err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for _, cfg := range []Config{{KeysTTL: -1}, {RefreshEvery: -1}, {Timeout: -1}} {
		if _, err := NewVerifier(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
