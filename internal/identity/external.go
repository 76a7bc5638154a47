package identity

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/strongroom/strongroom/internal/fetch"
)

// Bounds of what is fetched from an outside issuer.
const (
	maxDiscovery     = 256 << 10
	maxKeySet        = 1 << 20
	maxKeys          = 200
	issuerRedirects  = 3
	defaultKeysTTL   = time.Hour
	defaultMaxStale  = 24 * time.Hour
	defaultFetchTime = 10 * time.Second
	defaultRefresh   = 30 * time.Second
	defaultMaxLife   = 28 * time.Hour // Entra's tokens with continuous access evaluation live that long
)

// ExternalIssuerConfig describes an OpenID issuer outside of this server.
type ExternalIssuerConfig struct {
	Issuer     string     // exactly the iss of its tokens and the issuer of its discovery document; https
	TenantID   string     // GUID of the tenant that its principals belong to here
	Audiences  *Audiences // what its bearer tokens may be for; nil means that it serves federated credentials only
	Algorithms []string   // of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384; empty means RS256

	// ObjectIDFromSubject is for issuers other than Entra (Keycloak, Kubernetes): object ids are derived from the claims
	// sub and groups (OutsideObjectID, OutsideGroupID), the claim oid is not looked at and tid may be missing. Otherwise
	// tid and oid are required, and oid and groups are object ids of that tenant.
	ObjectIDFromSubject bool

	RootCAs      *x509.CertPool // nil means those of the system
	KeysTTL      time.Duration  // age at which the key set is fetched again; 0 means an hour
	MaxStale     time.Duration  // how long a key set is used while the issuer is down; 0 means a day
	RefreshEvery time.Duration  // least time between fetches, whatever tokens ask for; 0 means 30 s
	Timeout      time.Duration  // of a fetch; 0 means 10 s
	MaxLifetime  time.Duration  // longest life of a token; 0 means 28 h

	Now func() time.Time // nil means time.Now
}

// An ExternalIssuer verifies the tokens of one outside issuer. It owns the memory of that issuer's keys.
type ExternalIssuer struct {
	cfg        ExternalIssuerConfig
	algorithms []jose.SignatureAlgorithm
	client     *http.Client
	keys       fetch.Latest[keySet]
}

type keySet struct{ byID map[string][]jose.JSONWebKey }

// NewExternalIssuer checks the configuration. It does not contact the issuer; the first token does.
func NewExternalIssuer(cfg ExternalIssuerConfig) (*ExternalIssuer, error) {
	u, err := url.Parse(cfg.Issuer)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errorf(Invalid, "an issuer must be an https URL without query")
	}
	if cfg.TenantID, err = parseGUID("tenant id", cfg.TenantID); err != nil {
		return nil, err
	}
	if min(cfg.KeysTTL, cfg.MaxStale, cfg.RefreshEvery, cfg.Timeout, cfg.MaxLifetime) < 0 {
		return nil, errorf(Invalid, "the times of an issuer must not be negative")
	}
	cfg.KeysTTL = cmp.Or(cfg.KeysTTL, defaultKeysTTL)
	cfg.MaxStale = cmp.Or(cfg.MaxStale, defaultMaxStale)
	cfg.RefreshEvery = cmp.Or(cfg.RefreshEvery, defaultRefresh)
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultFetchTime)
	cfg.MaxLifetime = cmp.Or(cfg.MaxLifetime, defaultMaxLife)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	e := &ExternalIssuer{cfg: cfg}
	if e.algorithms, err = pinnedAlgorithms(cfg.Algorithms); err != nil {
		return nil, err
	}
	e.client = newIssuerClient(cfg)
	e.keys.Every, e.keys.Timeout = cfg.RefreshEvery, cfg.Timeout
	return e, nil
}

func pinnedAlgorithms(names []string) ([]jose.SignatureAlgorithm, error) {
	if len(names) == 0 {
		return []jose.SignatureAlgorithm{jose.RS256}, nil
	}
	known := append(rsaAlgorithms(), jose.ES256, jose.ES384)
	var list []jose.SignatureAlgorithm
	for _, name := range names {
		if !slices.Contains(known, jose.SignatureAlgorithm(name)) {
			return nil, errorf(Invalid, "signature algorithm %s is not among %v", echo(name), known)
		}
		list = append(list, jose.SignatureAlgorithm(name))
	}
	return list, nil
}

// newIssuerClient follows redirects only within the host that was asked: another host could answer for the issuer.
func newIssuerClient(cfg ExternalIssuerConfig) *http.Client {
	return fetch.NewClient(cfg.RootCAs, cfg.Timeout, func(req *http.Request, via []*http.Request) error {
		first := via[0].URL
		if len(via) > issuerRedirects || req.URL.Scheme != "https" || req.URL.Host != first.Host {
			return errors.New("identity: the issuer redirects elsewhere")
		}
		return nil
	})
}

// Issuer returns the issuer's name.
func (e *ExternalIssuer) Issuer() string { return e.cfg.Issuer }

// checkSignature verifies t with the one key of the issuer that its header names.
func (e *ExternalIssuer) checkSignature(ctx context.Context, t *signedToken) error {
	if !slices.Contains(e.algorithms, jose.SignatureAlgorithm(t.alg)) {
		return tokenErrorf(CodeSignature, "The signature algorithm of the token is not accepted for its issuer.")
	}
	if t.kid == "" {
		return tokenErrorf(CodeSignature, "The token names no signing key of its issuer.")
	}
	key, err := e.key(ctx, t.kid)
	if err != nil {
		return err
	}
	if key.Algorithm != "" && key.Algorithm != t.alg {
		return tokenErrorf(CodeSignature, "The signing key is not meant for the algorithm of the token.")
	}
	if err := t.verify(key.Key, e.algorithms); err != nil {
		return tokenErrorf(CodeSignature, "The signature of the token is not valid.")
	}
	return nil
}

// key returns the issuer's key with this id. A set that has grown old is fetched again in the background while the old
// one serves; an unknown id waits for one fetch, at most one every RefreshEvery, so that forged ids cost the issuer nothing.
func (e *ExternalIssuer) key(ctx context.Context, kid string) (*jose.JSONWebKey, error) {
	now := e.cfg.Now()
	set, fetched := e.usable(now)
	if set != nil && set.only(kid) != nil {
		if now.Sub(fetched) >= e.cfg.KeysTTL {
			e.refresh(now)
		}
		return set.only(kid), nil
	}
	if done := e.refresh(now); done != nil {
		select {
		case <-done:
		case <-ctx.Done():
			return nil, fmt.Errorf("identity: wait for the keys of an issuer: %w", ctx.Err())
		}
		set, _ = e.usable(now)
	}
	if set == nil {
		return nil, fmt.Errorf("identity: no keys of issuer %s: %w", e.cfg.Issuer, e.failure())
	}
	if key := set.only(kid); key != nil {
		return key, nil
	}
	return nil, tokenErrorf(CodeSignature, "The token names no signing key of its issuer.")
}

// usable returns the last good key set, and when it was fetched, unless it is too old to trust.
func (e *ExternalIssuer) usable(now time.Time) (set *keySet, fetched time.Time) {
	set, fetched = e.keys.Value()
	if now.Sub(fetched) >= e.cfg.KeysTTL+e.cfg.MaxStale {
		return nil, time.Time{}
	}
	return set, fetched
}

func (e *ExternalIssuer) failure() error {
	if err := e.keys.Failure(); err != nil {
		return err
	}
	return errors.New("not fetched")
}

// refresh joins the running fetch or starts one; nil means that the last one is too recent.
func (e *ExternalIssuer) refresh(now time.Time) <-chan struct{} {
	done, _ := e.keys.Refresh(now, nil, e.fetchKeys) // nothing is there to refuse it
	return done
}

// only returns the key with this id if there is exactly one.
func (s *keySet) only(kid string) *jose.JSONWebKey {
	if keys := s.byID[kid]; len(keys) == 1 {
		return &keys[0]
	}
	return nil
}

// fetchKeys follows OpenID Connect Discovery 1.0 section 4: the document must name the very issuer that was asked.
func (e *ExternalIssuer) fetchKeys(ctx context.Context) (*keySet, error) {
	raw, err := e.get(ctx, strings.TrimSuffix(e.cfg.Issuer, "/")+"/.well-known/openid-configuration", maxDiscovery)
	if err != nil {
		return nil, err
	}
	doc, err := decodeDiscovery(raw)
	if err != nil {
		return nil, err
	}
	if doc.issuer != e.cfg.Issuer {
		return nil, fmt.Errorf("identity: the discovery document is that of issuer %q", echo(doc.issuer))
	}
	u, err := url.Parse(doc.jwksURI)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("identity: the discovery document names no https jwks_uri")
	}
	if raw, err = e.get(ctx, doc.jwksURI, maxKeySet); err != nil {
		return nil, err
	}
	return decodeKeySet(raw)
}

type discovery struct{ issuer, jwksURI string }

func decodeDiscovery(raw []byte) (d discovery, err error) {
	var m members
	if err := json.Unmarshal(raw, &m); err != nil {
		return d, errors.New("identity: the discovery document is not a JSON object")
	}
	if d.issuer, err = m.text("issuer"); err != nil {
		return d, err
	}
	d.jwksURI, err = m.text("jwks_uri")
	return d, err
}

// decodeKeySet keeps the public signature keys of known kinds. Others are ignored, as RFC 7517 section 5 asks; a short
// RSA key is treated like an unknown kind.
func decodeKeySet(raw []byte) (*keySet, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil || len(doc.Keys) > maxKeys {
		return nil, fmt.Errorf("identity: not a JWK set of at most %d keys", maxKeys)
	}
	set := &keySet{byID: make(map[string][]jose.JSONWebKey)}
	for _, item := range doc.Keys {
		var key jose.JSONWebKey
		if key.UnmarshalJSON(item) == nil && acceptableKey(&key) {
			set.byID[key.KeyID] = append(set.byID[key.KeyID], key)
		}
	}
	if len(set.byID) == 0 {
		return nil, errors.New("identity: the JWK set holds no usable signature key")
	}
	return set, nil
}

func acceptableKey(key *jose.JSONWebKey) bool {
	if key.KeyID == "" || len(key.KeyID) > maxKeyID || key.Use != "" && key.Use != "sig" {
		return false
	}
	switch k := key.Key.(type) {
	case *rsa.PublicKey:
		return usableRSA(k)
	case *ecdsa.PublicKey:
		return keyFits(crypto.PublicKey(k), jose.ES256) || keyFits(crypto.PublicKey(k), jose.ES384)
	}
	return false
}

func (e *ExternalIssuer) get(ctx context.Context, address string, limit int64) ([]byte, error) {
	raw, err := fetch.Get(ctx, e.client, address, limit)
	if err != nil {
		return nil, fmt.Errorf("identity: ask issuer %s: %w", e.cfg.Issuer, err)
	}
	return raw, nil
}

// mapClaims turns the claims of an outside issuer into the names used here.
func (e *ExternalIssuer) mapClaims(t *signedToken, c *Caller) error {
	if c.TenantID == "" && e.cfg.ObjectIDFromSubject {
		c.TenantID = e.cfg.TenantID
	}
	if !strings.EqualFold(c.TenantID, e.cfg.TenantID) {
		return tokenErrorf(CodeTenant, "Invalid tenant. Expected %s, found %s.", e.cfg.TenantID, echo(c.TenantID))
	}
	c.TenantID = e.cfg.TenantID
	if err := e.nameObjects(c); err != nil {
		return err
	}
	switch c.IdentityType {
	case "app", "user":
	case "":
		c.IdentityType = "app"
		if c.UPN != "" {
			c.IdentityType = "user"
		}
	default:
		return tokenErrorf(CodeClaims, "The claim idtyp is neither app nor user.")
	}
	// Entra leaves groups out when there are too many and points elsewhere instead. Taking that for "no groups" can only
	// deny, never grant, so it is accepted.
	return nil
}

// nameObjects sets the object ids by which the vaults know the principal and its groups. An issuer that brings its own
// must not bring derived ones, which belong to the principals of other issuers.
func (e *ExternalIssuer) nameObjects(c *Caller) error {
	if e.cfg.ObjectIDFromSubject {
		c.ObjectID = OutsideObjectID(e.cfg.Issuer, c.Subject)
		for i, group := range c.Groups {
			c.Groups[i] = OutsideGroupID(e.cfg.Issuer, group)
		}
		return nil
	}
	if c.ObjectID == "" {
		return tokenErrorf(CodeClaims, "The claim oid is missing.")
	}
	id, err := parseGUID("oid", c.ObjectID)
	if err != nil {
		return tokenErrorf(CodeClaims, "The claim oid is not a GUID.")
	}
	if c.ObjectID = id; isDerived(id) || slices.ContainsFunc(c.Groups, isDerived) {
		return tokenErrorf(CodePrincipal, "The issuer of the token may not speak for this principal.")
	}
	return nil
}

// A federatedAssertion is a verified token of an outside issuer that an application presents instead of a secret.
type federatedAssertion struct {
	issuer    string
	subject   string
	audiences []string // to be compared with that of the credential
}

// verifyAssertion verifies a federated assertion (RFC 7523 section 3) but for its audience. The bearer audiences of the
// issuer play no part.
func (e *ExternalIssuer) verifyAssertion(ctx context.Context, assertion string) (*federatedAssertion, error) {
	t, err := parseToken(assertion)
	if err != nil {
		return nil, tokenErrorf(CodeMalformed, "The assertion is not a well-formed signed JWT.")
	}
	if iss, err := t.claims.text("iss"); err != nil || iss != e.cfg.Issuer {
		return nil, tokenErrorf(CodeIssuer, "The assertion is not of the expected issuer.")
	}
	if err := e.checkSignature(ctx, t); err != nil {
		return nil, err
	}
	a := &federatedAssertion{issuer: e.cfg.Issuer}
	if a.subject, err = t.claims.text("sub"); err != nil || a.subject == "" || len(a.subject) > maxFederatedURL {
		return nil, tokenErrorf(CodeClaims, "The claim sub is missing or not a string.")
	}
	const most = 16
	if a.audiences, err = t.claims.texts("aud", most); err != nil || len(a.audiences) == 0 {
		return nil, tokenErrorf(CodeClaims, "The claim aud is missing or is neither a string nor a list of strings.")
	}
	life, err := t.claims.validity()
	if err != nil {
		return nil, tokenErrorf(CodeClaims, "The claim exp is missing, or one of exp, nbf and iat is not a date.")
	}
	if err := life.check(e.cfg.Now(), e.cfg.MaxLifetime); err != nil {
		return nil, tokenErrorf(CodeExpired, "Lifetime validation failed: %s.", err)
	}
	return a, nil
}
