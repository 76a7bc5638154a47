package identity

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/strongroom/strongroom/internal/store"
)

// VerifierConfig says whose tokens are accepted.
type VerifierConfig struct {
	Authority *Authority // the embedded issuer
	Audiences *Audiences // what its tokens may be for

	// External issuers, each with its own audiences. An audience of the public cloud belongs in such a set only on
	// purpose: with it, any token that the real cloud issued for that service opens this one.
	External []*ExternalIssuer

	CacheSize int // remembered tokens; 0 means 16,384
}

// A Verifier turns bearer tokens into Callers. Its methods may be called concurrently.
type Verifier struct {
	cfg      VerifierConfig
	external map[string]*ExternalIssuer
	cache    *tokenCache
	buffers  sync.Pool // of *[maxBearer]byte
}

// NewVerifier makes a verifier.
func NewVerifier(cfg VerifierConfig) (*Verifier, error) {
	v := &Verifier{cfg: cfg, external: make(map[string]*ExternalIssuer), cache: newTokenCache(cfg.CacheSize)}
	v.buffers.New = func() any { return new([maxBearer]byte) }
	for _, e := range cfg.External {
		if _, found := v.external[e.cfg.Issuer]; found || cfg.Authority.ownIssuer(e.cfg.Issuer) {
			return nil, errorf(Invalid, "issuer %s is configured twice", e.cfg.Issuer)
		}
		v.external[e.cfg.Issuer] = e
	}
	return v, nil
}

// Verify returns the caller whose token this is. A refusal is a *TokenError; any other error means that the token could
// not be judged (the store failed, the context ended) and must not be taken for either answer.
//
// A token that was accepted is remembered until it expires, or until anything is revoked: on this server at once, on
// others within a second. Refusals are not remembered.
func (v *Verifier) Verify(ctx context.Context, bearer string) (*Caller, error) {
	if len(bearer) == 0 || len(bearer) > maxBearer {
		return nil, tokenErrorf(CodeMalformed, "The token is empty or larger than %d bytes.", maxBearer)
	}
	dir := v.cfg.Authority.dir
	// The count is read before the token is judged: a revocation in between makes the entry that is written useless.
	count, err := dir.gen.value(ctx)
	if err != nil {
		return nil, err
	}
	now := dir.now()
	sum := v.hash(bearer)
	if caller := v.cache.get(&sum, count, now); caller != nil {
		return caller, nil
	}
	caller, until, err := v.judge(ctx, bearer, now)
	if err != nil {
		return nil, err
	}
	v.cache.put(&sum, cacheEntry{caller, count, until}, now)
	return caller, nil
}

// hash returns the token's SHA-256. The token's bytes go through a buffer that is used again, since a copy of each token
// would be a tenth of what the hot path allocates; it is cleared, because a token is a secret.
func (v *Verifier) hash(bearer string) [sha256.Size]byte {
	buf := v.buffers.Get().(*[maxBearer]byte)
	n := copy(buf[:], bearer)
	sum := sha256.Sum256(buf[:n])
	clear(buf[:n])
	v.buffers.Put(buf)
	return sum
}

// judge verifies a token that is not remembered and says how long the answer holds.
func (v *Verifier) judge(ctx context.Context, bearer string, now time.Time) (*Caller, time.Time, error) {
	t, err := parseToken(bearer)
	if err != nil {
		return nil, time.Time{}, tokenErrorf(CodeMalformed, "The token is not a well-formed signed JWT.")
	}
	iss, err := t.claims.text("iss")
	if err != nil {
		return nil, time.Time{}, tokenErrorf(CodeClaims, "The claim iss is not a string.")
	}
	if v.cfg.Authority.ownIssuer(iss) {
		caller, err := v.judgeOwn(ctx, t, iss, now)
		if err != nil {
			return nil, time.Time{}, err
		}
		return caller, caller.Expires, nil
	}
	e, found := v.external[iss]
	if !found {
		return nil, time.Time{}, v.issuerError(iss)
	}
	caller, err := v.judgeExternal(ctx, e, t, now)
	if err != nil {
		return nil, time.Time{}, err
	}
	// A key that the issuer withdrew must not live on in the memory of tokens for longer than in that of keys.
	return caller, earlier(caller.Expires, now.Add(e.cfg.KeysTTL)), nil
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func (v *Verifier) issuerError(iss string) *TokenError {
	a := v.cfg.Authority
	expected := []string{a.Issuer(a.cfg.LoginHost, 2), a.Issuer(a.cfg.LoginHost, 1)}
	for _, e := range v.cfg.External {
		expected = append(expected, e.cfg.Issuer)
	}
	const most = 4
	expected = expected[:min(len(expected), most)]
	return tokenErrorf(CodeIssuer, "Invalid issuer. Expected one of %s, found %s.", strings.Join(expected, ", "), echo(iss))
}

// judgeOwn verifies a token of the embedded issuer: signature, claims, and that its principal still exists.
func (v *Verifier) judgeOwn(ctx context.Context, t *signedToken, iss string, now time.Time) (*Caller, error) {
	dir := v.cfg.Authority.dir
	c, err := readCommonClaims(t, v.cfg.Audiences, now, MaxTokenLifetime)
	// The claims are read first because that is cheap, but a forger learns nothing from them: signature errors win.
	var refusal error
	view := dir.db.View(ctx, func(r store.Reader) error {
		refusal = v.judgeOwnIn(r, t, c, err)
		return nil
	})
	if view != nil {
		return nil, fmt.Errorf("identity: verify a token: %w", view)
	}
	if refusal != nil {
		return nil, refusal
	}
	c.Issuer = iss
	return c, nil
}

func (v *Verifier) judgeOwnIn(r store.Reader, t *signedToken, c *Caller, claims error) error {
	key, err := verificationKey(r, t.kid)
	if err != nil {
		return err
	}
	if key == nil {
		return tokenErrorf(CodeSignature, "The token names no signing key of its issuer.")
	}
	if err := t.verify(key, []jose.SignatureAlgorithm{jose.RS256}); err != nil {
		return tokenErrorf(CodeSignature, "The signature of the token is not valid.")
	}
	if claims != nil {
		return claims
	}
	if c.TenantID != v.cfg.Authority.dir.tenantID {
		return tokenErrorf(CodeTenant, "Invalid tenant. Expected %s, found %s.", v.cfg.Authority.dir.tenantID, echo(c.TenantID))
	}
	return checkPrincipal(r, c)
}

// checkPrincipal makes the deletion of an application end its tokens. The object id and the time are compared too, since
// an application that was made anew under old ids is another principal.
func checkPrincipal(r store.Reader, c *Caller) error {
	gone := tokenErrorf(CodePrincipal, "The principal of the token does not exist.")
	id, err := parseGUID("appid", c.AppID)
	if err != nil {
		return gone
	}
	var record appRecord
	found, err := readRecord(r, prefixApp+id, &record)
	if err != nil {
		return err
	}
	if !found || record.ObjectID != c.ObjectID || c.IssuedAt.Before(record.Created.Add(-clockLeeway)) {
		return gone
	}
	return nil
}

// judgeExternal verifies a token of an outside issuer and refuses it the ids of principals that the directory holds.
func (v *Verifier) judgeExternal(
	ctx context.Context, e *ExternalIssuer, t *signedToken, now time.Time,
) (*Caller, error) {
	if err := e.checkSignature(ctx, t); err != nil {
		return nil, err
	}
	c, err := readCommonClaims(t, e.cfg.Audiences, now, e.cfg.MaxLifetime)
	if err != nil {
		return nil, err
	}
	claimed := claimedIDs(c) // before they are replaced: the attempt is refused even where it would not succeed
	if err := e.mapClaims(t, c); err != nil {
		return nil, err
	}
	if c.TenantID == v.cfg.Authority.dir.tenantID {
		if err := v.refuseImpersonation(ctx, claimed); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// claimedIDs returns what in the claims could be meant as the object id of a principal of the directory, in lower case.
func claimedIDs(c *Caller) []string {
	var ids []string
	for _, claim := range append([]string{c.ObjectID, c.Subject}, c.Groups...) {
		if id, err := parseGUID("object id", claim); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// refuseImpersonation: in a tenant that both serve, an outside issuer must not speak for a principal of the directory, nor
// for one that was deleted, which may still stand in the administrator list of a vault.
func (v *Verifier) refuseImpersonation(ctx context.Context, claimed []string) error {
	if len(claimed) == 0 {
		return nil
	}
	var taken bool
	err := v.cfg.Authority.dir.db.View(ctx, func(r store.Reader) (err error) {
		taken, err = heldOrGone(r, claimed)
		return err
	})
	if err != nil {
		return fmt.Errorf("identity: verify a token: %w", err)
	}
	if taken {
		return tokenErrorf(CodePrincipal, "The issuer of the token may not speak for this principal.")
	}
	return nil
}

// heldOrGone tells whether one of the object ids is or was that of an application of the directory.
func heldOrGone(r store.Reader, ids []string) (bool, error) {
	for _, id := range ids {
		held, err := readRecord(r, prefixObject+id, &indexRecord{})
		if err != nil || held {
			return held, err
		}
		gone, err := readRecord(r, prefixGone+id, &goneRecord{})
		if err != nil || gone {
			return gone, err
		}
	}
	return false, nil
}

// readCommonClaims checks the claims that all issuers share and fills in the caller as the token describes it.
func readCommonClaims(
	t *signedToken, audiences *Audiences, now time.Time, longest time.Duration,
) (*Caller, error) {
	c := &Caller{}
	const most = 16
	list, err := t.claims.texts("aud", most)
	if err != nil || len(list) == 0 {
		return nil, tokenErrorf(CodeClaims, "The claim aud is missing or is neither a string nor a list of strings.")
	}
	for _, aud := range list {
		if audiences.Contains(aud) {
			c.Audience = aud
			break
		}
	}
	if c.Audience == "" {
		return nil, tokenErrorf(CodeAudience, "Invalid audience. Expected %s, found: %s.", audiences.expected(), echo(list[0]))
	}
	life, err := t.claims.validity()
	if err != nil {
		return nil, tokenErrorf(CodeClaims, "The claim exp is missing, or one of exp, nbf and iat is not a date.")
	}
	if err := life.check(now, longest); err != nil {
		return nil, tokenErrorf(CodeExpired, "Lifetime validation failed: %s.", err)
	}
	c.Expires, c.IssuedAt = life.expires, life.issued
	return c, fillIdentity(t, c)
}

// fillIdentity copies the identifying claims. An empty string counts as absent.
func fillIdentity(t *signedToken, c *Caller) error {
	for _, f := range []struct {
		into  *string
		names []string // the first that is present wins
	}{
		{&c.TenantID, []string{"tid"}},
		{&c.ObjectID, []string{"oid"}},
		{&c.Subject, []string{"sub"}},
		{&c.Issuer, []string{"iss"}},
		{&c.AppID, []string{"appid", "azp", "client_id"}},
		{&c.UPN, []string{"upn", "preferred_username"}},
		{&c.IdentityType, []string{"idtyp"}},
		{&c.TokenID, []string{"uti", "jti"}},
		{&c.ResourceID, []string{"xms_mirid"}},
	} {
		if err := firstText(t.claims, f.into, f.names); err != nil {
			return err
		}
	}
	if c.Subject == "" {
		return tokenErrorf(CodeClaims, "The claim sub is missing.")
	}
	groups, err := t.claims.texts("groups", MaxGroups)
	if err != nil {
		return tokenErrorf(CodeClaims, "The claim groups is not a list of at most %d strings.", MaxGroups)
	}
	c.Groups = groups
	return nil
}

func firstText(m members, into *string, names []string) error {
	for _, name := range names {
		s, err := m.text(name)
		if err != nil {
			return tokenErrorf(CodeClaims, "The claim %s is not a string.", name)
		}
		if checkText(name, s, 0, longestClaim(name)) != nil {
			return tokenErrorf(CodeClaims, "The claim %s is too long or not printable.", name)
		}
		if *into == "" {
			*into = s
		}
	}
	return nil
}

func longestClaim(name string) int {
	if name == "iss" || name == "xms_mirid" {
		return maxResourceID
	}
	return maxIdentifier
}
