package authz

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestParseScope(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 91)
	for text, kind := range map[string]ScopeKind{
		"/":                                  RootScope,
		sub:                                  SubscriptionScope,
		groupA:                               GroupScope,
		sub + "/resourcegroups/a_.(b)":       GroupScope,
		sub + "/resourceGroups/" + long[:90]: GroupScope,
		vaultA:                               ResourceScope,
		vaultA + "/keys/" + strings.Repeat("k", 127): ObjectScope,
		vaultA + "/Secrets/S-1":                      ObjectScope,
		vaultA + "/certificates/c":                   ObjectScope,
		pool:                                         ResourceScope,
		pool + "/keys":                               CollectionScope,
		pool + "/keys/k":                             ObjectScope,
		strings.ToUpper(vaultA):                      ResourceScope,
		"":                                           NoScope,
		"//":                                         NoScope,
		"subscriptions/11111111-0000-4000-8000-000000000001": NoScope,
		sub + "/":        NoScope,
		"/" + sub:        NoScope,
		sub[:len(sub)-1]: NoScope,
		sub + "1":        NoScope,
		"/subscriptions/00000000-0000-0000-0000-000000000000":      NoScope,
		"/subscriptions/{11111111-0000-4000-8000-00000000000}":     NoScope,
		"/subscriptions/urn:uuid:11111111-0000-4000-8000-00000000": NoScope,
		"/subscriptions":                                    NoScope,
		"/subscriptions/":                                   NoScope,
		sub + "/resourceGroups":                             NoScope,
		sub + "/resourceGroups/":                            NoScope,
		sub + "//resourceGroups/app":                        NoScope,
		sub + "/resourceGroups//app":                        NoScope,
		sub + "/resourceGroups/.":                           NoScope,
		sub + "/resourceGroups/..":                          NoScope,
		sub + "/resourceGroups/app.":                        NoScope,
		sub + "/resourceGroups/" + long:                     NoScope,
		sub + "/resourceGroups/a%70p":                       NoScope,
		sub + "/resourceGroups/\u212a":                      NoScope, // would be k
		sub + "/re\u017fourceGroups/app":                    NoScope, // would be s
		sub + "/resourceGroups/a b":                         NoScope,
		sub + "/resourceGroups/app\x00":                     NoScope,
		sub + "/resourceGroups/app?x":                       NoScope,
		groupA + "/":                                        NoScope,
		groupA + "/providers":                               NoScope,
		groupA + "/providers/Microsoft.KeyVault":            NoScope,
		groupA + "/providers/Microsoft.KeyVault/vaults":     NoScope,
		groupA + "/providers/Microsoft.KeyVault/vaults/":    NoScope,
		groupA + "/providers/Microsoft.KeyVault/vaults/ab":  NoScope,
		groupA + "/providers/Microsoft.KeyVault/vaults/a.b": NoScope,
		groupA + "/providers/Microsoft.Storage/vaults/web":  NoScope,
		groupA + "/providers/Microsoft.KeyVault/pools/web":  NoScope,
		sub + "/providers/Microsoft.KeyVault/vaults/web":    NoScope,
		vaultA + "/":                                 NoScope,
		vaultA + "/secrets":                          NoScope,
		vaultA + "/secrets/":                         NoScope,
		vaultA + "/secrets/a/":                       NoScope,
		vaultA + "/secrets/a/b":                      NoScope,
		vaultA + "/secrets/..":                       NoScope,
		vaultA + "/secrets/a_b":                      NoScope,
		vaultA + "/secrets//a":                       NoScope,
		vaultA + "/storage/a":                        NoScope,
		vaultA + "/keys/" + strings.Repeat("k", 128): NoScope,
		pool + "/secrets/a":                          NoScope,
		pool + "/certificates/a":                     NoScope,
		pool + "/certificates":                       NoScope,
		pool + "/":                                   NoScope,
		"/providers/Microsoft.Management/managementGroups/a": NoScope,
		strings.Repeat("/", 513):                             NoScope,
	} {
		s, err := ParseScope(text)
		if s.Kind() != kind || (err == nil) != (kind != NoScope) || err != nil && !isInvalid(err) {
			t.Errorf("%.300q is of kind %d (%v), not %d", text, s.Kind(), err, kind)
		}
		if s != (Scope{}) && s.String() != strings.ToLower(text) {
			t.Errorf("%s became %s", text, s)
		}
	}
}

// TestLongScope: nothing is looked at that is longer than any scope.
func TestLongScope(t *testing.T) {
	t.Parallel()
	if _, err := ParseScope(strings.Repeat("/", maxScope+1)); err == nil || !strings.Contains(err.Error(), "512 characters") {
		t.Error(err)
	}
}

// TestBuiltScopes compares scopes that are made from others with those that are read.
func TestBuiltScopes(t *testing.T) {
	t.Parallel()
	vault, hsm := mustParseScope(t, vaultA), mustParseScope(t, pool)
	object := mustParseScope(t, vaultA+"/secrets/s")
	for name, c := range map[string]struct{ got, want Scope }{
		"a secret":                     {vault.Object("Secrets", "S"), object},
		"a key of a managed HSM":       {hsm.Object("keys", "k"), mustParseScope(t, pool+"/keys/k")},
		"keys of a managed HSM":        {hsm.Collection("KEYS"), mustParseScope(t, pool+"/keys")},
		"its vault":                    {object.In(ResourceScope), vault},
		"its group":                    {object.In(GroupScope), mustParseScope(t, groupA)},
		"its subscription":             {object.In(SubscriptionScope), mustParseScope(t, sub)},
		"the root":                     {object.In(RootScope), Root},
		"itself":                       {object.In(ObjectScope), object},
		"a key's collection":           {hsm.Object("keys", "k").In(CollectionScope), hsm.Collection("keys")},
		"a secret's collection":        {object.In(CollectionScope), Scope{}},
		"keys of a vault":              {vault.Collection("keys"), Scope{}},
		"secrets of a managed HSM":     {hsm.Collection("secrets"), Scope{}},
		"a secret of a managed HSM":    {hsm.Object("secrets", "s"), Scope{}},
		"an object of an object":       {object.Object("secrets", "s"), Scope{}},
		"an object of a group":         {vault.In(GroupScope).Object("secrets", "s"), Scope{}},
		"an object of no scope":        {Scope{}.Object("secrets", "s"), Scope{}},
		"an object without name":       {vault.Object("secrets", ""), Scope{}},
		"an object of two names":       {vault.Object("secrets", "a/b"), Scope{}},
		"an object of an odd name":     {vault.Object("secrets", "\u017f"), Scope{}},
		"an object of an odd kind":     {vault.Object("certificateſ", "s"), Scope{}},
		"what lies below":              {vault.In(ObjectScope), Scope{}},
		"the object of a subscription": {mustParseScope(t, sub).In(GroupScope), Scope{}},
		"a kind that there is not":     {object.In(99), Scope{}},
		"no kind":                      {object.In(NoScope), Scope{}},
	} {
		if c.got != c.want {
			t.Errorf("%s: %q, not %q", name, c.got, c.want)
		}
	}
}

func TestContains(t *testing.T) {
	t.Parallel()
	chain := []string{"/", sub, groupA, vaultA, vaultA + "/secrets/a"}
	others := []string{otherSub, groupB, vaultB, vaultA + "/secrets/ab", vaultA + "/keys/a", pool, pool + "/keys"}
	for i, outer := range chain {
		for j, inner := range chain {
			if got := mustParseScope(t, outer).Contains(mustParseScope(t, inner)); got != (i <= j) {
				t.Errorf("%s contains %s: %v", outer, inner, got)
			}
		}
		for _, other := range others {
			if mustParseScope(t, other).Contains(mustParseScope(t, outer)) {
				t.Errorf("%s contains %s", other, outer)
			}
		}
	}
	for _, s := range []Scope{{}, Root} {
		if (Scope{}).Contains(s) || s.Contains(Scope{}) {
			t.Error("no scope contains, or is contained")
		}
	}
}

// TestContainsIsAnOrder holds random scopes against the definition, and against what a partial order is.
func TestContainsIsAnOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(1)
	segments := func(s Scope) []string {
		if s == Root {
			return nil
		}
		return strings.Split(s.String(), "/")[1:]
	}
	related := 0
	for range 20000 {
		a, b, c := mustParseScope(t, w.scope()), mustParseScope(t, w.scope()), mustParseScope(t, w.scope())
		outer, inner := segments(a), segments(b)
		want := len(outer) <= len(inner) && slices.Equal(outer, inner[:len(outer)])
		if a.Contains(b) != want {
			t.Fatalf("%s contains %s: %v", a, b, !want)
		}
		switch {
		case !a.Contains(a):
			t.Fatalf("%s does not contain itself", a)
		case a.Contains(b) && b.Contains(a) && a != b:
			t.Fatalf("%s and %s contain each other", a, b)
		case a.Contains(b) && b.Contains(c) && !a.Contains(c):
			t.Fatalf("%s contains %s, that contains %s, but the first does not contain the last", a, b, c)
		}
		if want {
			related++
		}
	}
	if related < 1000 {
		t.Fatalf("only %d pairs were related", related)
	}
}

// TestSpellings: one scope has one value however its letters are written, and what is no other spelling is refused.
func TestSpellings(t *testing.T) {
	t.Parallel()
	w := newWorld(2)
	for range 5000 {
		text := w.scope()
		s := mustParseScope(t, text)
		if got := mustParseScope(t, w.spelling(text)); got != s {
			t.Fatalf("%s is not %s", got, s)
		}
		if again := mustParseScope(t, s.String()); again != s {
			t.Fatalf("%s became %s", s, again)
		}
		if text == "/" {
			continue
		}
		at := 1 + w.IntN(len(text)-1)
		for _, bad := range []string{
			text + "/", "/" + text, text[:at] + "%2f" + text[at:], text[:at] + "\u212a" + text[at:], text[:at] + "//" + text[at:],
			text[:at] + "/../" + text[at:], text[:at] + "/./" + text[at:], text[:at] + "\\" + text[at:], text + " ", text + "\x00",
		} {
			if got, err := ParseScope(bad); err == nil {
				t.Fatalf("%q was read as %s", bad, got)
			}
		}
	}
}

// scopeGrammar is an independent statement of what ParseScope reads.
var scopeGrammar = regexp.MustCompile(`^(?:/|/subscriptions/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}` +
	`(?:/resourcegroups/[-a-z0-9_.()]{0,89}[-a-z0-9_()](?:/providers/microsoft\.keyvault/` +
	`(?:vaults/[-a-z0-9]{3,24}(?:/(?:keys|secrets|certificates)/[-a-z0-9]{1,127})?|` +
	`managedhsms/[-a-z0-9]{3,24}(?:/keys(?:/[-a-z0-9]{1,127})?)?))?)?)$`)

func FuzzParseScope(f *testing.F) {
	for _, s := range []string{
		"/", sub, groupA, vaultA, vaultA + "/secrets/s", pool, pool + "/keys", pool + "/keys/k", groupB + ".", vaultA + "/", "//",
		sub + "/resourceGroups/%41", "/subscriptions/00000000-0000-0000-0000-000000000000", vaultA + "/\u017fecrets/s",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseScope(text)
		ascii := strings.Map(func(c rune) rune { // lower case without Unicode's foldings
			if 'A' <= c && c <= 'Z' {
				c += 'a' - 'A'
			}
			return c
		}, text)
		want := scopeGrammar.MatchString(ascii) && !strings.HasPrefix(ascii, "/subscriptions/00000000-0000-0000-0000-000000000000")
		if (err == nil) != want {
			t.Fatalf("%q: %v", text, err)
		}
		if err != nil {
			if s != (Scope{}) || !isInvalid(err) || len(err.Error()) > 1000 {
				t.Fatalf("%q: %q, %v", text, s, err)
			}
			return
		}
		if s.String() != ascii {
			t.Fatalf("%q became %s", text, s)
		}
		if again, err := ParseScope(s.String()); err != nil || again != s {
			t.Fatalf("%q: read again as %s, %v", text, again, err)
		}
		above := 0
		for kind := RootScope; kind <= ObjectScope; kind++ {
			in := s.In(kind)
			if in == (Scope{}) {
				continue
			}
			above++
			if !in.Contains(s) || s.Contains(in) != (in == s) {
				t.Fatalf("%s and %s", in, s)
			}
			if again, err := ParseScope(in.String()); err != nil || again != in {
				t.Fatalf("%s, above %s, is read as %s, %v", in, s, again, err)
			}
		}
		if above == 0 {
			t.Fatalf("%s lies in nothing", s)
		}
	})
}
