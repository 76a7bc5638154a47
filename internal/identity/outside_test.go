package identity

import (
	"crypto"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
)

// Administrator lists hold such ids, so no release may derive others.
func TestOutsideIDsNeverChange(t *testing.T) {
	t.Parallel()
	const issuer = "https://kubernetes.example"
	for _, c := range []struct{ got, want string }{
		{OutsideObjectID(issuer, "system:serviceaccount:prod:api"), "b957c402-f2ae-8d96-b621-2609dace7d80"},
		{OutsideGroupID(issuer, "vault-admins"), "bf5bdb51-43b8-8e10-9187-bb834be7d576"},
		{OutsideObjectID(issuer, "Zoë"), "e1c1b9c3-21e3-8b90-a02c-6145898e7a08"},
	} {
		if c.got != c.want {
			t.Errorf("got %s, want %s", c.got, c.want)
		}
	}
}

func TestOutsideIDsDiffer(t *testing.T) {
	t.Parallel()
	seen := make(map[string]string)
	for name, id := range map[string]string{
		"principal":             OutsideObjectID("https://a.example", "x"),
		"of another issuer":     OutsideObjectID("https://b.example", "x"),
		"issuer with slash":     OutsideObjectID("https://a.example/", "x"),
		"other case":            OutsideObjectID("https://a.example", "X"),
		"group":                 OutsideGroupID("https://a.example", "x"),
		"group of another":      OutsideGroupID("https://b.example", "x"),
		"moved border":          OutsideObjectID("https://a.examplex", ""),
		"border in the subject": OutsideObjectID("https://a.example", "\nx"),
		"looks like a group":    OutsideObjectID("https://a.example", "group\nx"),
		"looks like an id":      OutsideObjectID("https://a.example", OutsideObjectID("https://a.example", "x")),
	} {
		if other, found := seen[id]; found {
			t.Errorf("%s and %s are both %s", name, other, id)
		}
		seen[id] = name
		if !isDerived(id) || !isDerived(strings.ToUpper(id)) || id != strings.ToLower(id) {
			t.Errorf("%s: %s is not of the derived form", name, id)
		}
	}
	for _, id := range []string{
		uuid.NewString(), foreignTenant, "", "x", strings.Repeat("8", 36), "22222222-0000-8000-c000-000000000001",
		"22222222-0000-5000-8000-000000000001",
	} {
		if isDerived(id) {
			t.Errorf("%q is taken for a derived id", id)
		}
	}
}

func TestDerivedIDsAreNotGivenAway(t *testing.T) {
	t.Parallel()
	in := install(t)
	for _, id := range []string{OutsideObjectID("https://a.example", "x"), strings.ToUpper(OutsideGroupID("https://a.example", "x"))} {
		_, err := in.dir.CreateApplication(t.Context(), NewApplication{DisplayName: "x", ObjectID: id})
		wantKind(t, err, Invalid)
	}
}

// An outsider is an issuer with the means to sign whatever its users, or whoever took it over, like.
type outsider struct {
	server *issuerServer
	key    crypto.Signer
}

func newOutsider(t testing.TB) *outsider {
	t.Helper()
	o := &outsider{newIssuerServer(t), newRSA(t, 2048)}
	o.server.publish(publicKey(o.key, "k"))
	return o
}

func (o *outsider) open(t testing.TB, c *clock, tenant string, derived bool) *ExternalIssuer {
	t.Helper()
	cfg := o.server.config(c)
	cfg.TenantID, cfg.ObjectIDFromSubject = tenant, derived
	return newExternal(t, cfg)
}

func (o *outsider) verify(t testing.TB, in *installation, claims object) (*Caller, error) {
	t.Helper()
	base := object{
		"iss": o.server.URL, "aud": "https://vault.example.org", "sub": "mallory",
		"iat": in.clock.Now().Unix(), "exp": in.clock.Now().Add(time.Hour).Unix(),
	}
	return in.verifier.Verify(t.Context(), mint(t, o.key, "RS256", object{"alg": "RS256", "kid": "k"}, with(base, claims)))
}

// Whatever the tokens of issuers without a tenant say, the ids of their principals and groups are theirs alone.
func TestOutsidePrincipalsAreBoundToTheirIssuer(t *testing.T) {
	t.Parallel()
	db, c := openStore(t), newClock()
	tenant := join(t, db, c).dir.TenantID()
	a, b := newOutsider(t), newOutsider(t)
	in := join(t, db, c, a.open(t, c, tenant, true), b.open(t, c, tenant, true))
	const subject = "system:serviceaccount:default:app"
	for name, claims := range map[string]object{
		"plain":                           {},
		"oid":                             {"oid": "22222222-0000-4000-8000-000000000001"},
		"oid of the other's":              {"oid": OutsideObjectID(a.server.URL, subject)},
		"oid of the other's, in capitals": {"oid": strings.ToUpper(OutsideObjectID(a.server.URL, subject))},
		"no GUID":                         {"oid": "group:x"},
		"tid":                             {"tid": tenant},
		"user":                            {"upn": "x@example.org", "appid": "x", "idtyp": "user"},
	} {
		claims = with(claims, object{"sub": subject, "groups": []string{"admins", OutsideObjectID(a.server.URL, subject)}})
		for _, o := range []*outsider{a, b} {
			got, err := o.verify(t, in, claims)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if want := OutsideObjectID(o.server.URL, subject); got.ObjectID != want || got.TenantID != tenant || got.Subject != subject {
				t.Errorf("%s: caller %+v, want object id %s", name, got, want)
			}
			want := []string{
				OutsideGroupID(o.server.URL, "admins"), OutsideGroupID(o.server.URL, OutsideObjectID(a.server.URL, subject)),
			}
			if diff := cmp.Diff(want, got.Groups); diff != "" {
				t.Errorf("%s: groups (-want +got):\n%s", name, diff)
			}
		}
	}
	_, err := b.verify(t, in, object{"tid": foreignTenant})
	wantCode(t, err, CodeTenant)
	_, err = b.verify(t, in, object{"sub": subject + "\n"})
	wantCode(t, err, CodeClaims)
}

// The directory's principals, alive and deleted, are its own: no issuer may use their ids, as principal or as group.
func TestOutsideIssuersDoNotSpeakForTheDirectory(t *testing.T) {
	t.Parallel()
	db, c := openStore(t), newClock()
	first := join(t, db, c)
	entra, cluster := newOutsider(t), newOutsider(t)
	in := join(t, db, c, entra.open(t, c, first.dir.TenantID(), false), cluster.open(t, c, first.dir.TenantID(), true))
	live, deleted := in.app(t), in.app(t)
	if err := in.dir.DeleteApplication(t.Context(), deleted.ClientID); err != nil {
		t.Fatal(err)
	}
	const own = "22222222-0000-4000-8000-000000000001"
	genuine := object{"tid": in.dir.TenantID(), "oid": own, "groups": []string{"33333333-0000-4000-8000-000000000001"}}
	got, err := entra.verify(t, in, genuine)
	if err != nil {
		t.Fatal(err)
	}
	if got.ObjectID != own || got.TenantID != in.dir.TenantID() || len(got.Groups) != 1 || got.Groups[0] != "33333333-0000-4000-8000-000000000001" {
		t.Errorf("caller %+v", got)
	}
	for name, id := range map[string]string{
		"alive": live.ObjectID, "deleted": deleted.ObjectID, "alive, in capitals": strings.ToUpper(live.ObjectID),
		"deleted, in capitals": strings.ToUpper(deleted.ObjectID),
	} {
		for claim, change := range map[string]object{
			"oid": {"oid": id}, "sub": {"sub": id}, "group": {"groups": id}, "last group": {"groups": []string{"a", own, id}},
		} {
			_, err := entra.verify(t, in, with(genuine, change))
			if wantCode(t, err, CodePrincipal); t.Failed() {
				t.Fatalf("%s: %s", name, claim)
			}
			_, err = cluster.verify(t, in, change)
			if wantCode(t, err, CodePrincipal); t.Failed() {
				t.Fatalf("%s: %s of an issuer without tenant", name, claim)
			}
		}
	}
	derived := OutsideObjectID(cluster.server.URL, "mallory")
	for name, c := range map[string]struct {
		change object
		code   string
	}{
		"oid derived from another issuer": {object{"oid": derived}, CodePrincipal},
		"same, in capitals":               {object{"oid": strings.ToUpper(derived)}, CodePrincipal},
		"group derived":                   {object{"groups": []string{own, strings.ToUpper(derived)}}, CodePrincipal},
		"oid of an entry for a group":     {object{"oid": "group:" + own}, CodeClaims},
		"oid in braces":                   {object{"oid": "{" + own + "}"}, CodeClaims},
		"oid is a name":                   {object{"oid": "root"}, CodeClaims},
		"no oid":                          {object{"oid": nil}, CodeClaims},
	} {
		_, err := entra.verify(t, in, with(genuine, c.change))
		if wantCode(t, err, c.code); t.Failed() {
			t.Fatal(name)
		}
	}
}

// The mark of a deleted application is in the store, so every server honours it, and it stays for ever.
func TestDeletionLeavesAMark(t *testing.T) {
	t.Parallel()
	db, c := openStore(t), newClock()
	first := join(t, db, c)
	entra := newOutsider(t)
	second := join(t, db, c, entra.open(t, c, first.dir.TenantID(), false))
	app := first.app(t)
	if err := first.dir.DeleteApplication(t.Context(), app.ClientID); err != nil {
		t.Fatal(err)
	}
	_, err := entra.verify(t, second, object{"tid": first.dir.TenantID(), "oid": app.ObjectID})
	wantCode(t, err, CodePrincipal)

	// Its own directory may give the id again, and take it away again.
	again, err := first.dir.CreateApplication(t.Context(), NewApplication{DisplayName: "again", ObjectID: app.ObjectID})
	if err != nil {
		t.Fatal(err)
	}
	if err := first.dir.DeleteApplication(t.Context(), again.ClientID); err != nil {
		t.Fatal(err)
	}
	_, err = entra.verify(t, second, object{"tid": first.dir.TenantID(), "oid": app.ObjectID})
	wantCode(t, err, CodePrincipal)
}
