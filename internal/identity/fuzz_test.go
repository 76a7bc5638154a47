package identity

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// FuzzParseToken: whatever is accepted has exactly one reading. It is spelled canonically, go-jose (which then checks
// the signature) sees the same algorithm and key id, and no member of it occurs twice.
func FuzzParseToken(f *testing.F) {
	f.Add(b64(`{"alg":"RS256","kid":"k","typ":"JWT"}`) + "." + b64(`{"aud":["a","b"],"exp":1800000000.5}`) + ".c2ln")
	f.Add(b64(`{"alg":"none"}`) + "." + b64(`{"aud":1,"aud":2}`) + ".")
	f.Add("a.b.c.d")
	f.Fuzz(func(t *testing.T, compact string) {
		parsed, err := parseToken(compact)
		if err != nil {
			return
		}
		for _, segment := range strings.Split(compact, ".") {
			raw, err := base64.RawURLEncoding.DecodeString(segment)
			if err != nil || base64.RawURLEncoding.EncodeToString(raw) != segment {
				t.Fatalf("segment %q is not canonical", segment)
			}
		}
		other, err := jose.ParseSignedCompact(compact, []jose.SignatureAlgorithm{jose.SignatureAlgorithm(parsed.alg)})
		if err == nil && (other.Signatures[0].Header.Algorithm != parsed.alg || other.Signatures[0].Header.KeyID != parsed.kid) {
			t.Fatalf("go-jose reads alg %q and kid %q", other.Signatures[0].Header.Algorithm, other.Signatures[0].Header.KeyID)
		}
		again, err := json.Marshal(parsed.claims)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeObject(again); err != nil {
			t.Fatalf("the claims are not accepted again: %v", err)
		}
		life, err := parsed.claims.validity()
		if err == nil && life.check(life.expires.Add(clockLeeway), time.Hour) == nil {
			t.Fatal("accepted after its expiry")
		}
		_, _ = parsed.certificateNames()
		_ = fillIdentity(parsed, &Caller{})
	})
}

// FuzzAudience: an accepted audience is one of the set, however it is spelled.
func FuzzAudience(f *testing.F) {
	set := audiences()
	f.Add("https://vault.example.org:8443/")
	f.Add("https://vault.example.org@evil")
	f.Fuzz(func(t *testing.T, aud string) {
		if !set.Contains(aud) || aud == "https://vault.azure.net" {
			return
		}
		rest := strings.TrimPrefix(strings.ToLower(aud), "https://")
		rest = strings.TrimPrefix(strings.TrimPrefix(rest, "vault"), "managedhsm")
		rest, ok := strings.CutPrefix(rest, ".example.org")
		if !ok || strings.Trim(strings.TrimSuffix(rest, "/"), ":0123456789") != "" {
			t.Fatalf("accepted %q", aud)
		}
	})
}
