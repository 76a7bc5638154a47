package release

import (
	"encoding/json"
	"fmt"
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"
)

const authorityA = "https://a.example.org/"

func mustClaims(t testing.TB, claims string) map[string]any {
	t.Helper()
	m, err := decodeObject([]byte(claims))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestEvaluateComparison has for each kind of value in a policy which claims it equals.
func TestEvaluateComparison(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		equals      string
		same, other []string
	}{
		{`"text"`, []string{`"text"`, `"\u0074ext"`}, []string{`"Text"`, `"text "`, `""`, `null`, `["text"]`, `{"text":"text"}`, `true`}},
		{`""`, []string{`""`}, []string{`null`, `false`, `0`, `[]`, `{}`}},

		// As the real service's own policies are written.
		{`"true"`, []string{`true`, `"true"`}, []string{`false`, `"True"`, `1`, `"1"`, `[true]`}},
		{`"false"`, []string{`false`, `"false"`}, []string{`true`, `0`, `null`, `""`}},
		{`"0"`, []string{`0`, `"0"`, `0.0`, `-0`}, []string{`1`, `false`, `null`, `""`, `"0.0"`}},
		{`"1.50"`, []string{`1.5`, `15e-1`, `"1.50"`}, []string{`1.51`, `"1.5"`}},
		{`"01"`, []string{`"01"`}, []string{`1`}},
		{`"+1"`, []string{`"+1"`}, []string{`1`}},
		{`" 1"`, []string{`" 1"`}, []string{`1`}},
		{`"0x1"`, []string{`"0x1"`}, []string{`1`}},

		// The reverse does not hold.
		{`true`, []string{`true`}, []string{`false`, `"true"`, `1`, `null`}},
		{`false`, []string{`false`}, []string{`true`, `"false"`, `0`, `null`, `""`}},
		{`1`, []string{`1`, `1.0`, `1e0`, `10E-1`, `0.1e+1`}, []string{`"1"`, `true`, `1.0000000000000000000001`, `-1`, `[1]`}},
		{`0`, []string{`0`, `-0`, `0e5`, `0.00`}, []string{`"0"`, `false`, `null`, `1e-999999999`}},

		// Exactly: a float64 could not tell these apart.
		{`9007199254740993`, []string{`9007199254740993`, `9007199254740993.0`}, []string{`9007199254740992`, `9007199254740994`}},
		{`1e999999999`, []string{`1e999999999`, `10e999999998`}, []string{`1e999999998`, `1e9999999999`, `1e99999999999999999999`}},
		{`0.1`, []string{`0.1`, `1e-1`}, []string{`0.10000000000000000555`}},
	} {
		p := mustParse(t, one(`{"claim":"c","equals":`+c.equals+`}`))
		for _, claim := range c.same {
			if err := p.Evaluate(authorityA, mustClaims(t, `{"c":`+claim+`}`)); err != nil {
				t.Errorf("%s does not equal the claim %s", c.equals, claim)
			}
		}
		for _, claim := range c.other {
			if err := p.Evaluate(authorityA, mustClaims(t, `{"c":`+claim+`}`)); err == nil {
				t.Errorf("%s equals the claim %s", c.equals, claim)
			}
		}
	}
}

func TestEvaluatePaths(t *testing.T) {
	t.Parallel()
	p := mustParse(t, one(`{"claim":"x-ms-isolation-tee.x-ms-compliance-status","equals":"ok"}`))
	for claims, want := range map[string]bool{
		`{"x-ms-isolation-tee":{"x-ms-compliance-status":"ok"}}`:                                          true,
		`{"x-ms-isolation-tee":{"x-ms-compliance-status":"no"},"x-ms-compliance-status":"ok"}`:            false,
		`{"x-ms-isolation-tee.x-ms-compliance-status":"ok"}`:                                              false, // a name with a dot
		`{"x-ms-isolation-tee.x-ms-compliance-status":"ok","x-ms-isolation-tee":{}}`:                      false,
		`{"x-ms-isolation-tee":{"X-MS-compliance-status":"ok"}}`:                                          false,
		`{"x-ms-isolation-tee":[{"x-ms-compliance-status":"ok"}]}`:                                        false,
		`{"x-ms-isolation-tee":"{\"x-ms-compliance-status\":\"ok\"}"}`:                                    false,
		`{"x-ms-isolation-tee":null}`:                                                                     false,
		`{"x-ms-isolation-tee":{"x-ms-compliance-status":{"x-ms-isolation-tee":"ok"}}}`:                   false,
		`{"claims":{"x-ms-isolation-tee":{"x-ms-compliance-status":"ok"}},"x-ms-compliance-status":"ok"}`: false,
		`{}`: false,
	} {
		if err := p.Evaluate(authorityA, mustClaims(t, claims)); (err == nil) != want {
			t.Errorf("%s: got %v", claims, err)
		}
	}
}

func TestEvaluateLists(t *testing.T) {
	t.Parallel()
	const a, b, c = `{"claim":"a","equals":1}`, `{"claim":"b","equals":1}`, `{"claim":"c","equals":1}`
	claims := func(names string) map[string]any {
		m := make(map[string]any)
		for _, name := range strings.Split(names, "") {
			m[name] = json.Number("1")
		}
		return m
	}
	for _, tc := range []struct {
		condition string
		met       []string
		not       []string
	}{
		{a + `,` + b, []string{"ab", "abc"}, []string{"", "a", "b", "c"}},
		{`{"anyOf":[` + a + `,` + b + `]}`, []string{"a", "b", "ab"}, []string{"", "c"}},
		{a + `,{"anyOf":[` + b + `,` + c + `]}`, []string{"ab", "ac", "abc"}, []string{"", "a", "bc"}},
		{`{"anyOf":[` + a + `,{"allOf":[` + b + `,` + c + `]}]}`, []string{"a", "bc"}, []string{"", "b", "c"}},
	} {
		p := mustParse(t, one(tc.condition))
		for _, names := range tc.met {
			if err := p.Evaluate(authorityA, claims(names)); err != nil {
				t.Errorf("%s is not met by %q", tc.condition, names)
			}
		}
		for _, names := range tc.not {
			wantKind(t, p.Evaluate(authorityA, claims(names)), NotMet)
		}
	}
}

// Each authority speaks under its own rules only.
func TestEvaluateAuthorities(t *testing.T) {
	t.Parallel()
	p := mustParse(t, `{"version":"1.0.0","anyOf":[
		{"authority":"https://a.example.org","allOf":[{"claim":"c","equals":1}]},
		{"authority":"https://b.example.org","allOf":[{"claim":"c","equals":2}]},
		{"authority":"https://a.example.org","allOf":[{"claim":"c","equals":3}]}]}`)
	for _, c := range []struct {
		authority, claim string
		want             bool
	}{
		{"https://a.example.org/", "1", true},
		{"https://a.example.org", "1", true},
		{"https://a.example.org", "3", true},
		{"https://a.example.org", "2", false},
		{"https://b.example.org", "2", true},
		{"https://b.example.org", "1", false},
		{"https://c.example.org", "1", false},
		{"", "1", false},
		{"https://a.example.org/x", "1", false},
	} {
		err := p.Evaluate(c.authority, mustClaims(t, `{"c":`+c.claim+`}`))
		if (err == nil) != c.want {
			t.Errorf("%s claims %s: got %v", c.authority, c.claim, err)
		}
	}
}

func TestEvaluateTellsNothing(t *testing.T) {
	t.Parallel()
	p := mustParse(t, one(`{"claim":"c","equals":"expected-value"}`))
	err := p.Evaluate(authorityA, mustClaims(t, `{"c":"actual-value"}`))
	refusal := wantKind(t, err, NotMet)
	if strings.Contains(err.Error()+refusal.Message, "value") {
		t.Errorf("the error tells a value: %v", err)
	}
}

func TestEvaluateForeignTypes(t *testing.T) {
	t.Parallel()
	p := mustParse(t, one(`{"anyOf":[{"claim":"c","equals":1},{"claim":"c","equals":"1"}]}`))
	for _, v := range []any{1, 1.0, int64(1), json.Number("one"), json.Number(""), json.Number("1e"), []byte("1"), nil} {
		if err := p.Evaluate(authorityA, map[string]any{"c": v}); err == nil {
			t.Errorf("a claim of type %T was compared", v)
		}
	}
	if err := p.Evaluate(authorityA, nil); err == nil {
		t.Error("no claims at all are enough")
	}
}

// TestDecimal compares with big.Rat, whose numbers are exact too but can be made too big.
func TestDecimal(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	number := func() string {
		s := []string{"", "-"}[random.IntN(2)] + []string{"0", "1", "10", "200", "12"}[random.IntN(5)]
		s += []string{"", ".0", ".10", ".05", ".00"}[random.IntN(5)]
		return s + []string{"", "e0", "E+2", "e-2", "e1", "e-0"}[random.IntN(6)]
	}
	same := 0
	for range 20_000 {
		a, b := number(), number()
		x, ok := new(big.Rat).SetString(a)
		y, ok2 := new(big.Rat).SetString(b)
		if !ok || !ok2 {
			t.Fatalf("%s or %s is no number", a, b)
		}
		want := x.Cmp(y) == 0
		if got := sameNumber(a, b); got != want {
			t.Fatalf("%s and %s: got %v", a, b, got)
		}
		if want {
			same++
		}
	}
	if same < 100 {
		t.Errorf("only %d of the pairs were equal", same)
	}
	for _, bad := range []string{
		"", "-", ".", "1.", ".1", "01", "-01", "+1", "1e", "1e+", "e1", "1e1.0", "1e++1", "1e+-1", "1 ", "1_0", "0x1", "Inf", "NaN",
		"1e2147483648", "1e-2147483649", "--1", "1.-1", "1e 1", fmt.Sprint("1e", strings.Repeat("0", 20)),
	} {
		if _, ok := parseDecimal(bad); ok {
			t.Errorf("%q is taken for a number", bad)
		}
	}
}
