package identity

import (
	"encoding/json"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
)

func keyIDs(t *testing.T, in *installation) []string {
	t.Helper()
	raw, err := in.authority.JWKS(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var set jose.JSONWebKeySet
	if err := json.Unmarshal(raw, &set); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, k := range set.Keys {
		if !k.IsPublic() || !k.Valid() || k.Use != "sig" || k.Algorithm != "RS256" {
			t.Errorf("key %s is not a public RS256 signature key", k.KeyID)
		}
		ids = append(ids, k.KeyID)
	}
	slices.Sort(ids)
	return ids
}

func TestRotationKeepsOldTokensValid(t *testing.T) {
	t.Parallel()
	in := install(t)
	app := in.app(t)
	first, _ := in.signingKey(t)

	next, waiting, err := in.authority.RotateSigningKey(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second := next.KeyID
	if waiting || next.Active || !next.SignsFrom.Equal(in.clock.Now().Add(DefaultPublishAhead)) {
		t.Errorf("waiting %v, %+v", waiting, next)
	}
	if again, waiting, err := in.authority.RotateSigningKey(t.Context()); err != nil || !waiting || again != next {
		t.Errorf("once more: %v, waiting %v, %+v", err, waiting, again)
	}
	if ids := keyIDs(t, in); len(ids) != 2 || !slices.Contains(ids, first) || !slices.Contains(ids, second) {
		t.Fatalf("published %v, want %s and %s", ids, first, second)
	}
	in.clock.Advance(DefaultPublishAhead - time.Second)
	if kid, _ := in.signingKey(t); kid != first {
		t.Fatal("the new key signs before it was published long enough")
	}
	last := in.token(t, app, vaultAud, 2) // the last token of the old key
	in.clock.Advance(time.Second)
	if kid, _ := in.signingKey(t); kid != second {
		t.Fatal("the new key does not sign in time")
	}
	in.clock.Advance(DefaultTokenLifetime - 2*time.Second)
	tick(t, in)
	if _, err := in.verifier.Verify(t.Context(), last); err != nil {
		t.Errorf("a token of the old key, just before its expiry: %v", err)
	}
	if _, err := in.verifier.Verify(t.Context(), in.token(t, app, vaultAud, 1)); err != nil {
		t.Errorf("a token of the new key: %v", err)
	}
	in.clock.Advance(clockLeeway + retireMargin + 2*time.Second)
	tick(t, in)
	if ids := keyIDs(t, in); !slices.Equal(ids, []string{second}) {
		t.Errorf("published %v after the last old token expired, want %s", ids, second)
	}
}

func tick(t *testing.T, in *installation) {
	t.Helper()
	if err := in.authority.Tick(t.Context(), in.clock.Now()); err != nil {
		t.Fatal(err)
	}
}

func TestScheduledRotation(t *testing.T) {
	t.Parallel()
	in := install(t)
	in.clock.Advance(DefaultRotationPeriod - DefaultPublishAhead - time.Second)
	tick(t, in)
	if n := len(keyIDs(t, in)); n != 1 {
		t.Fatalf("%d keys before rotation is due", n)
	}
	in.clock.Advance(time.Second)
	tick(t, in)
	tick(t, in)
	if n := len(keyIDs(t, in)); n != 2 {
		t.Fatalf("%d keys when rotation is due, want the old and the next", n)
	}
	// A server that slept for a year finds its way.
	in.clock.Advance(365 * 24 * time.Hour)
	tick(t, in)
	if _, err := in.verifier.Verify(t.Context(), in.token(t, in.app(t), vaultAud, 2)); err != nil {
		t.Error(err)
	}
}

func TestConcurrentRotationMakesOneKey(t *testing.T) {
	t.Parallel()
	one := install(t)
	two := join(t, one.db, one.clock)
	request := func(in *installation) error { _, _, err := in.authority.RotateSigningKey(t.Context()); return err }
	schedule := func(in *installation) error { return in.authority.Tick(t.Context(), in.clock.Now()) }
	for _, rotate := range []func(*installation) error{request, schedule} {
		before := keyIDs(t, one)
		var wg sync.WaitGroup
		start := make(chan struct{})
		for _, in := range []*installation{one, two, one, two} {
			wg.Go(func() {
				<-start
				if err := rotate(in); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		wg.Wait()
		after := slices.DeleteFunc(keyIDs(t, two), func(id string) bool { return slices.Contains(before, id) })
		if len(after) != 1 {
			t.Errorf("%d new keys, want 1", len(after))
		}
		one.clock.Advance(DefaultRotationPeriod + DefaultPublishAhead) // now it is due by schedule
	}
}

func TestServersStartingTogetherShareTenantAndKey(t *testing.T) {
	t.Parallel()
	db, c := openStore(t), newClock()
	var wg sync.WaitGroup
	servers := make([]*installation, 3)
	for i := range servers {
		wg.Go(func() { servers[i] = join(t, db, c) })
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	app := servers[0].app(t)
	for _, in := range servers[1:] {
		if in.dir.TenantID() != servers[0].dir.TenantID() {
			t.Error("two servers on one store have different tenants")
		}
		if _, err := in.verifier.Verify(t.Context(), servers[0].token(t, app, vaultAud, 2)); err != nil {
			t.Error(err)
		}
	}
	if n := len(keyIDs(t, servers[0])); n != 1 {
		t.Errorf("%d signing keys, want 1", n)
	}
}

func TestRevokedSigningKey(t *testing.T) {
	t.Parallel()
	here := install(t)
	there := join(t, here.db, here.clock)
	app := here.app(t)
	token := here.token(t, app, vaultAud, 2)
	for _, in := range []*installation{here, there} {
		if _, err := in.verifier.Verify(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	kid, _ := here.signingKey(t)
	if err := here.authority.RevokeSigningKey(t.Context(), kid); err != nil {
		t.Fatal(err)
	}
	_, err := here.verifier.Verify(t.Context(), token)
	wantCode(t, err, CodeSignature)
	here.clock.Advance(generationMaxAge)
	_, err = there.verifier.Verify(t.Context(), token)
	wantCode(t, err, CodeSignature)
	if _, err := there.verifier.Verify(t.Context(), there.token(t, app, vaultAud, 2)); err != nil {
		t.Errorf("a token of the key that took over: %v", err)
	}
	wantKind(t, here.authority.RevokeSigningKey(t.Context(), kid), NotFound)
	wantKind(t, here.authority.RevokeSigningKey(t.Context(), "../tenant"), NotFound)
}

// TestRevokedSigningKeyHasANewSuccessor revokes the key that signs while an older one and the next one are published:
// neither of them takes its place. To revoke one that does not sign changes nothing about who does.
func TestRevokedSigningKeyHasANewSuccessor(t *testing.T) {
	t.Parallel()
	in := install(t)
	rotate := func() string {
		t.Helper()
		next, _, err := in.authority.RotateSigningKey(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return next.KeyID
	}
	revoke := func(kid string) {
		t.Helper()
		if err := in.authority.RevokeSigningKey(t.Context(), kid); err != nil {
			t.Fatal(err)
		}
	}
	signs := func() (kid string, all []string) {
		t.Helper()
		keys, err := in.authority.SigningKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, k := range keys {
			all = append(all, k.KeyID)
			if k.Active {
				kid += k.KeyID
			}
		}
		return kid, all
	}
	first, _ := signs()
	second := rotate()
	in.clock.Advance(DefaultPublishAhead)
	third := rotate()
	if kid, all := signs(); kid != second || !slices.Equal(all, []string{first, second, third}) {
		t.Fatalf("%s signs of %v", kid, all)
	}
	revoke(second)
	fresh, all := signs()
	if slices.Contains([]string{"", first, second, third}, fresh) || !slices.Equal(all, []string{first, fresh, third}) {
		t.Fatalf("after the revocation %s signs of %v", fresh, all)
	}
	if kid, _ := in.signingKey(t); kid != fresh {
		t.Errorf("%s signs", kid)
	}
	app := in.app(t)
	if _, err := in.verifier.Verify(t.Context(), in.token(t, app, vaultAud, 2)); err != nil {
		t.Errorf("a token of the key that took over: %v", err)
	}
	revoke(first)
	if kid, all := signs(); kid != fresh || !slices.Equal(all, []string{fresh, third}) {
		t.Errorf("%s signs of %v", kid, all)
	}
	revoke(fresh)
	if kid, _ := signs(); kid == "" || kid == third {
		t.Errorf("the next key %s signs before its time", kid)
	}
}

// A new server issues tokens within the second in which it made its first key.
func TestTokenInTheFirstSecond(t *testing.T) {
	t.Parallel()
	c := newClock()
	c.Advance(700 * time.Millisecond)
	in := join(t, openStore(t), c)
	if _, err := in.verifier.Verify(t.Context(), in.token(t, in.app(t), vaultAud, 2)); err != nil {
		t.Error(err)
	}
}

func TestAuthorityConfig(t *testing.T) {
	t.Parallel()
	in := install(t)
	for name, cfg := range map[string]AuthorityConfig{
		"no host":       {},
		"host is a URL": {LoginHost: "https://login.example.org"},
		"small key":     {LoginHost: loginHost, KeyBits: 1024},
		"long tokens":   {LoginHost: loginHost, TokenLifetime: 48 * time.Hour},
		"rotation":      {LoginHost: loginHost, RotationPeriod: time.Minute},
	} {
		if _, err := NewAuthority(t.Context(), in.dir, cfg); !isKind(err, Invalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
