package release

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"math/big"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// FuzzParsePolicy: what is accepted is stable, names plain authorities, and is met by nobody without claims.
func FuzzParsePolicy(f *testing.F) {
	f.Add([]byte(one(`{"claim":"a.b","equals":"false"}`)))
	f.Add([]byte(one(`{"anyOf":[{"claim":"c","equals":1.5e1},{"allOf":[{"claim":"d","equals":true}]}]}`)))
	f.Add([]byte(separators(3)))
	f.Add([]byte(separators(MaxPolicy / 4)))
	f.Add([]byte(strings.Replace(one(`{"claim":"\u2029","equals":"<&\u0001\u007f>"}`), "https://a.example.org/", filled(maxURL-1), 1)))
	f.Add([]byte(strings.Replace(one(`{"claim":"c","equals":1}`), "https://a.example.org/", filled(maxURL), 1)))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePolicy("", data)
		if err != nil {
			wantKind(t, err, BadPolicy)
			return
		}
		canonical := p.Canonical()
		again, err := ParsePolicy(ContentType, canonical)
		if err != nil || !bytes.Equal(again.Canonical(), canonical) || !reflect.DeepEqual(again, p) {
			t.Fatalf("%s is parsed again as %v", canonical, err)
		}
		for _, authority := range p.Authorities() {
			if same, err := canonicalURL(authority); err != nil || same != authority {
				t.Fatalf("authority %q", authority)
			}
			if p.Evaluate(authority, nil) == nil || p.Evaluate(authority, map[string]any{}) == nil {
				t.Fatalf("%s is met without claims", canonical)
			}
		}
	})
}

// hugeExponent is what big.Rat would take at its word and fill the memory with.
var hugeExponent = regexp.MustCompile(`[eE][+-]?[0-9]{4}`)

// FuzzEvaluate compares with a second evaluation, written from the grammar over the policy's JSON.
func FuzzEvaluate(f *testing.F) {
	f.Add(one(`{"claim":"a.b","equals":"false"}`), `{"a":{"b":false}}`)
	f.Add(one(`{"claim":"c","equals":15}`), `{"c":1.5e1}`)
	f.Fuzz(func(t *testing.T, policy, claims string) {
		p, err := ParsePolicy("", []byte(policy))
		if err != nil {
			return
		}
		m, err := decodeObject([]byte(claims))
		if err != nil || hugeExponent.MatchString(policy+claims) {
			return
		}
		var tree object
		dec := json.NewDecoder(bytes.NewReader(p.Canonical()))
		dec.UseNumber()
		if err := dec.Decode(&tree); err != nil {
			t.Fatal(err)
		}
		for _, authority := range append(p.Authorities(), "https://nobody.example.org/") {
			want := slices.ContainsFunc(tree["anyOf"].([]any), func(rule any) bool {
				return rule.(object)["authority"] == authority && holds(rule.(object), m)
			})
			if got := p.Evaluate(authority, m) == nil; got != want {
				t.Fatalf("%s claims %s: got %v, want %v", authority, claims, got, want)
			}
		}
	})
}

func holds(c object, claims any) bool {
	each := func(v any) bool { return holds(v.(object), claims) }
	if list, ok := c["allOf"].([]any); ok {
		return !slices.ContainsFunc(list, func(v any) bool { return !each(v) })
	}
	if list, ok := c["anyOf"].([]any); ok {
		return slices.ContainsFunc(list, each)
	}
	for _, step := range strings.Split(c["claim"].(string), ".") {
		m, _ := claims.(object)
		claims = m[step]
	}
	want := c["equals"]
	if text, ok := want.(string); ok {
		if b, ok := claims.(bool); ok {
			return b && text == "true" || !b && text == "false"
		}
		if _, isNumber := claims.(json.Number); isNumber && json.Valid([]byte(text)) && strings.TrimSpace(text) == text {
			want = json.Number(text)
		}
	}
	x, isNumber := want.(json.Number)
	y, isNumber2 := claims.(json.Number)
	if isNumber && isNumber2 {
		a, ok := new(big.Rat).SetString(x.String())
		b, ok2 := new(big.Rat).SetString(y.String())
		return ok && ok2 && a.Cmp(b) == 0
	}
	switch claims.(type) {
	case string, bool:
		return want == claims
	}
	return false
}

// FuzzParseToken: a token that is taken apart has one reading only.
func FuzzParseToken(f *testing.F) {
	f.Add(b64(`{"alg":"RS256","kid":"k1","typ":"JWT"}`) + "." + b64(`{"iss":"https://a.example.org/","exp":1800000100}`) + ".c2ln")
	f.Add(b64(`{"alg":"none","kid":"k1"}`) + "." + b64(`{"iss":1,"iss":2}`) + ".")
	f.Fuzz(func(t *testing.T, token string) {
		parsed, err := parseToken(token)
		if err != nil {
			return
		}
		for _, segment := range strings.Split(token, ".") {
			raw, err := base64.RawURLEncoding.DecodeString(segment)
			if err != nil || base64.RawURLEncoding.EncodeToString(raw) != segment {
				t.Fatalf("segment %q is not canonical", segment)
			}
		}
		other, err := jose.ParseSignedCompact(token, algorithms())
		if err == nil && (other.Signatures[0].Header.Algorithm != string(parsed.alg) || other.Signatures[0].Header.KeyID != parsed.kid) {
			t.Fatalf("go-jose reads alg %q and kid %q", other.Signatures[0].Header.Algorithm, other.Signatures[0].Header.KeyID)
		}
	})
}

// FuzzVerify: a token is good only if the authority signed it, names itself as the issuer, and has not let it expire. An
// empty signature stands for a good one.
func FuzzVerify(f *testing.F) {
	c := newClock()
	const authority = "https://a.example.org/"
	v, err := NewVerifier(Config{Authorities: []string{authority}, Now: c.Now, RefreshEvery: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	source, err := v.source(authority, true)
	if err != nil {
		f.Fatal(err)
	}
	// The keys are there, and it is too early to ask for others, so nothing is ever contacted.
	give(f, source, c.Now(), &keySet{byID: map[string]*signingKey{"k1": {public: signKey().Public()}}})
	f.Add(`{"alg":"RS256","kid":"k1"}`, string(mustJSON(f, claimsOf(authority, c.Now()))), []byte{})
	f.Add(`{"alg":"none","kid":"k1"}`, `{"iss":"https://a.example.org/","exp":1800000100}`, []byte("signature"))
	f.Fuzz(func(t *testing.T, header, claims string, signature []byte) {
		input := b64(header) + "." + b64(claims)
		signed := len(signature) == 0
		if signed {
			digest := sha256.Sum256([]byte(input))
			if signature, err = rsa.SignPKCS1v15(nil, signKey(), crypto.SHA256, digest[:]); err != nil {
				t.Fatal(err)
			}
		}
		a, err := v.Verify(t.Context(), input+"."+base64.RawURLEncoding.EncodeToString(signature), []string{authority})
		if err != nil {
			wantKind(t, err, BadToken)
			return
		}
		var head, body object
		if json.Unmarshal([]byte(header), &head) != nil || json.Unmarshal([]byte(claims), &body) != nil {
			t.Fatal("accepted what is not JSON")
		}
		if issuer, err := canonicalURL(body["iss"].(string)); err != nil || issuer != authority || a.Authority != authority {
			t.Fatalf("accepted for %s", a.Authority)
		}
		oldest := float64(c.Now().Add(-clockLeeway).Unix())
		if !signed || head["alg"] != "RS256" || head["kid"] != "k1" || body["exp"].(float64) < oldest {
			t.Fatalf("accepted %s, %s", header, claims)
		}
		if key, kid, err := a.EncryptionKey(); err == nil && (key.N.BitLen() < 2048 || key.N.BitLen() > 4096 || len(kid) > maxKeyID) {
			t.Fatalf("key of %d bits", key.N.BitLen())
		}
	})
}
