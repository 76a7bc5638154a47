package identity

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

func TestCertificateAssertions(t *testing.T) {
	t.Parallel()
	in := install(t)
	app := in.app(t)
	now := in.clock.Now()
	key, foreign := newRSA(t, 2048), newRSA(t, 2048)
	der := selfSigned(t, key, now.Add(-time.Hour), now.Add(48*time.Hour))
	foreignDER := selfSigned(t, foreign, now.Add(-time.Hour), now.Add(48*time.Hour))
	credential, err := in.dir.AddCertificate(t.Context(), app.ClientID, "", der)
	if err != nil {
		t.Fatal(err)
	}
	long, short := sha256.Sum256(der), sha1.Sum(der)
	x5c := []string{base64.StdEncoding.EncodeToString(der)}
	const aud = "https://login.example.org/t/oauth2/v2.0/token"
	claims := object{
		"aud": aud, "iss": app.ClientID, "sub": app.ClientID, "jti": "j1", "nbf": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}
	verify := func(alg string, header, claims object, signer ...any) error {
		header = with(header, object{"alg": alg, "typ": "JWT"})
		signing := key
		if len(signer) > 0 {
			signing = foreign
		}
		token := mint(t, signing, alg, header, claims)
		got, id, err := in.dir.VerifyCertificateAssertion(t.Context(), app.ClientID, token, func(a string) bool { return a == aud })
		if err == nil && (got.ClientID != app.ClientID || id != credential.ID) {
			t.Errorf("got %v and %s", got, id)
		}
		return err
	}

	fractions := with(claims, object{"nbf": nil, "iat": float64(now.Unix()) + 0.25, "exp": float64(now.Unix()) + 600.75})
	texts := with(claims, object{"nbf": fmt.Sprint(now.Unix()), "exp": fmt.Sprint(now.Unix() + 600)})
	for name, c := range map[string]struct {
		alg    string
		header object
		claims object
	}{
		"Go":                {"PS256", object{"x5t#S256": base64.StdEncoding.EncodeToString(long[:])}, claims},
		"Go, AD FS":         {"RS256", object{"x5t": base64.StdEncoding.EncodeToString(short[:]), "x5c": x5c}, claims},
		"JavaScript":        {"PS256", object{"x5t#S256": base64.RawURLEncoding.EncodeToString(long[:])}, claims},
		"Python":            {"RS256", object{"x5t": base64.URLEncoding.EncodeToString(short[:])}, fractions},
		".NET, AD FS":       {"RS256", object{"x5t": base64.RawURLEncoding.EncodeToString(short[:])}, texts},
		"only x5c":          {"RS256", object{"x5c": x5c}, claims},
		"x5t standard":      {"RS256", object{"x5t": base64.StdEncoding.EncodeToString(short[:])}, claims},
		"kid hex":           {"RS256", object{"kid": strings.ToUpper(hex.EncodeToString(short[:]))}, claims},
		"kid base64":        {"RS256", object{"kid": base64.RawURLEncoding.EncodeToString(long[:])}, claims},
		"client id in caps": {"RS256", object{"x5c": x5c}, with(claims, object{"iss": strings.ToUpper(app.ClientID)})},
		"list of audiences": {"RS256", object{"x5c": x5c}, with(claims, object{"aud": []string{"x", aud}})},
		"a day ahead":       {"RS256", object{"x5c": x5c}, with(claims, object{"exp": now.Add(24 * time.Hour).Unix()})},
	} {
		// Twice, since a client whose connection broke sends the very same assertion again.
		for range 2 {
			if err := verify(c.alg, c.header, c.claims); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
	good := object{"x5t#S256": base64.StdEncoding.EncodeToString(long[:])}
	for name, c := range map[string]struct {
		alg    string
		header object
		claims object
	}{
		"no name":           {"PS256", object{}, claims},
		"other certificate": {"PS256", object{"x5t#S256": base64.StdEncoding.EncodeToString(make([]byte, 32))}, claims},
		"names disagree":    {"PS256", with(good, object{"x5t": base64.StdEncoding.EncodeToString(make([]byte, 20))}), claims},
		"x5c disagrees":     {"PS256", with(good, object{"x5c": []string{base64.StdEncoding.EncodeToString(foreignDER)}}), claims},
		"short thumbprint":  {"PS256", object{"x5t#S256": "AAAA"}, claims},
		"RS512":             {"RS512", good, claims},
		"other iss":         {"PS256", good, with(claims, object{"iss": foreignTenant})},
		"other sub":         {"PS256", good, with(claims, object{"sub": foreignTenant})},
		"other aud":         {"PS256", good, with(claims, object{"aud": aud + "x"})},
		"no aud":            {"PS256", good, with(claims, object{"aud": nil})},
		"no exp":            {"PS256", good, with(claims, object{"exp": nil})},
		"exp is a word":     {"PS256", good, with(claims, object{"exp": "never"})},
		"exp is empty":      {"PS256", good, with(claims, object{"exp": ""})},
		"expired, as text":  {"PS256", good, with(claims, object{"nbf": nil, "exp": fmt.Sprint(now.Unix() - 60)})},
		"expired":           {"PS256", good, with(claims, object{"nbf": nil, "exp": now.Add(-time.Minute).Unix()})},
		"far ahead":         {"PS256", good, with(claims, object{"exp": now.Add(25 * time.Hour).Unix()})},
		"not yet":           {"PS256", good, with(claims, object{"nbf": now.Add(2 * time.Minute).Unix()})},
	} {
		if err := verify(c.alg, c.header, c.claims); !errors.Is(err, ErrBadAssertion) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if err := verify("PS256", good, claims, "foreign"); !errors.Is(err, ErrBadAssertion) {
		t.Errorf("foreign key under the registered name: %v", err)
	}
	own := object{"x5c": []string{base64.StdEncoding.EncodeToString(foreignDER)}}
	if err := verify("RS256", own, claims, "foreign"); !errors.Is(err, ErrBadAssertion) {
		t.Errorf("foreign key with its own certificate: %v", err)
	}
	ec := newEC(t, elliptic.P256())
	token := mint(t, ec, "ES256", with(good, object{"alg": "ES256"}), claims)
	anywhere := func(string) bool { return true }
	if _, _, err := in.dir.VerifyCertificateAssertion(t.Context(), app.ClientID, token, anywhere); !errors.Is(err, ErrBadAssertion) {
		t.Errorf("ES256: %v", err)
	}
	in.clock.Advance(48 * time.Hour)
	if err := verify("PS256", good, with(claims, object{"nbf": nil, "exp": in.clock.Now().Add(time.Minute).Unix()})); !errors.Is(err, ErrBadAssertion) {
		t.Errorf("expired certificate: %v", err)
	}
}

// TestPaddedAssertion signs as Python's asynchronous clients do: the segments keep their padding, which is signed too.
func TestPaddedAssertion(t *testing.T) {
	t.Parallel()
	in := install(t)
	app := in.app(t)
	now := in.clock.Now()
	key := newRSA(t, 2048)
	der := selfSigned(t, key, now.Add(-time.Hour), now.Add(48*time.Hour))
	if _, err := in.dir.AddCertificate(t.Context(), app.ClientID, "", der); err != nil {
		t.Fatal(err)
	}
	long := sha256.Sum256(der)
	const aud = "https://login.example.org/t/oauth2/token"
	encode := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		for len(raw)%3 != 1 { // two characters of padding
			raw = append(raw, ' ')
		}
		return base64.URLEncoding.EncodeToString(raw)
	}
	signed := encode(object{"alg": "RS256", "typ": "JWT", "x5t#S256": base64.RawURLEncoding.EncodeToString(long[:])}) + "." +
		encode(object{"aud": aud, "iss": app.ClientID, "sub": app.ClientID, "exp": now.Add(10 * time.Minute).Unix()})
	sum := sha256.Sum256([]byte(signed))
	raw, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	good := signed + "." + base64.URLEncoding.EncodeToString(raw)
	verify := func(assertion string) error {
		_, _, err := in.dir.VerifyCertificateAssertion(t.Context(), app.ClientID, assertion, func(a string) bool { return a == aud })
		return err
	}
	if !strings.Contains(signed, "==.") {
		t.Fatal("the assertion has no padding, so the test is about nothing")
	}
	if err := verify(good); err != nil {
		t.Error(err)
	}
	for name, bad := range map[string]string{
		"other padding than was signed": strings.ReplaceAll(good, "=", ""),
		"too much padding":              strings.Replace(good, "==.", "====.", 1),
		"padding in the middle":         "=" + good,
		"altered claims":                strings.Replace(good, "==.", "AA==.", 1),
		"a fourth segment":              good + ".",
		"nothing but padding":           "==.==.==",
	} {
		if err := verify(bad); !errors.Is(err, ErrBadAssertion) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
