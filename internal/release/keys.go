package release

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/strongroom/strongroom/internal/fetch"
)

// Bounds of what is fetched from an authority, and of how many are remembered.
const (
	maxDocument = 256 << 10
	maxKeySet   = 1 << 20
	maxKeys     = 200
	maxSources  = 64 // of authorities that only a wildcard lists
	maxFetches  = 8  // under way at a time from those
)

// A keySource is the memory of one authority's keys.
type keySource struct {
	authority string
	cfg       *Config
	client    *http.Client
	fetches   chan struct{} // holds one for each fetch from an authority that only a wildcard lists; nil if it is listed itself
	used      time.Time     // guarded by the Verifier
	keys      fetch.Latest[keySet]
}

type keySet struct{ byID map[string]*signingKey }

// A signingKey is an authority's public key. It is nil in a set that has two different ones of the same id.
type signingKey struct {
	public crypto.PublicKey
	alg    jose.SignatureAlgorithm // the only one, if it says so
}

// newClient follows no redirect: another host could answer for the authority.
func newClient(cfg Config) *http.Client {
	return fetch.NewClient(cfg.RootCAs, cfg.Timeout, func(*http.Request, []*http.Request) error {
		return errors.New("the authority redirects, which is not followed")
	})
}

// source returns the memory of a listed authority's keys. Those that are listed themselves are as many as the operator wrote, and
// are never forgotten. A wildcard lists any number of authorities, and who makes up tokens of them makes up sources.
func (v *Verifier) source(authority string, exact bool) (*keySource, error) {
	now := v.cfg.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.sources[authority]
	if s == nil {
		s = &keySource{authority: authority, cfg: &v.cfg, client: v.client}
		s.keys.Every, s.keys.Timeout = v.cfg.RefreshEvery, v.cfg.Timeout
		if !exact {
			s.fetches = v.fetches
			if !v.makeRoom(now) {
				return nil, errorf(Unreachable, "Too many attestation authorities are being asked for their keys; try again.")
			}
		}
		v.sources[authority] = s
	}
	s.used = now
	return s, nil
}

// makeRoom sees to it that another source may be remembered that only a wildcard lists. It forgets one without usable keys, and one
// with keys only if all have some; of these the one that was not asked for longest. None is forgotten that was used within
// RefreshEvery: else it could be made anew at once, and its authority asked sooner than that.
func (v *Verifier) makeRoom(now time.Time) bool {
	var (
		count     int
		oldest    *keySource
		allUsable = true
	)
	for _, s := range v.sources {
		if s.fetches == nil {
			continue
		}
		count++
		usable := s.usable(now) != nil
		if allUsable && !usable {
			allUsable, oldest = false, nil
		}
		if usable == allUsable && (oldest == nil || s.used.Before(oldest.used)) {
			oldest = s
		}
	}
	if count < maxSources {
		return true
	}
	if now.Sub(oldest.used) < v.cfg.RefreshEvery || oldest.keys.Busy() {
		return false
	}
	delete(v.sources, oldest.authority)
	return true
}

// usable returns the keys unless they are too old.
func (s *keySource) usable(now time.Time) *keySet {
	keys, fetched := s.keys.Value()
	if now.Sub(fetched) >= s.cfg.KeysTTL {
		return nil
	}
	return keys
}

// key returns the authority's key of this id. A set that has grown old is not used: an authority that cannot be asked
// could have withdrawn a key. An unknown id waits for one fetch, at most one every RefreshEvery, so that forged ids cost
// the authority nothing.
func (s *keySource) key(ctx context.Context, kid string) (*signingKey, error) {
	now := s.cfg.Now()
	if key := s.known(now, kid); key != nil {
		return key, nil
	}
	fetched, err := s.keys.Refresh(now, s.admit, s.fetchKeys)
	if err != nil {
		return nil, s.unreachable(err)
	}
	if fetched != nil {
		select {
		case <-fetched:
		case <-ctx.Done():
			return nil, s.unreachable(ctx.Err())
		}
	}
	if key := s.known(s.cfg.Now(), kid); key != nil {
		return key, nil
	}
	if err := s.keys.Failure(); err != nil {
		return nil, s.unreachable(err)
	}
	return nil, badToken("It names no signing key of its authority.")
}

func (s *keySource) unreachable(cause error) *Error {
	err := errorf(Unreachable, "The keys of the attestation authority '%s' cannot be had now; try again.", echo(s.authority))
	err.cause = cause
	return err
}

func (s *keySource) known(now time.Time, kid string) *signingKey {
	if keys := s.usable(now); keys != nil {
		return keys.byID[kid]
	}
	return nil
}

var errManyFetches = errors.New("too many authorities are being asked for their keys")

// admit bounds the fetches under way from authorities that only a wildcard lists.
func (s *keySource) admit() (after func(), err error) {
	if s.fetches == nil {
		return func() {}, nil
	}
	select {
	case s.fetches <- struct{}{}:
		return func() { <-s.fetches }, nil
	default:
		return nil, errManyFetches
	}
}

// fetchKeys follows OpenID Connect Discovery 1.0 section 4. The metadata of attestation services often names no issuer;
// if it names one, it must be the one that was asked. The keys must be on the same host.
func (s *keySource) fetchKeys(ctx context.Context) (*keySet, error) {
	raw, err := fetch.Get(ctx, s.client, s.authority+".well-known/openid-configuration", maxDocument)
	if err != nil {
		return nil, err
	}
	var doc struct {
		Issuer *string `json:"issuer"`
		Keys   string  `json:"jwks_uri"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil {
		return nil, errors.New("its metadata are not those of OpenID")
	}
	if doc.Issuer != nil {
		if issuer, err := canonicalURL(*doc.Issuer); err != nil || issuer != s.authority {
			return nil, fmt.Errorf("its metadata are those of '%s'", echo(*doc.Issuer))
		}
	}
	if !s.sameHost(doc.Keys) {
		return nil, errors.New("its metadata name no jwks_uri on its own host")
	}
	if raw, err = fetch.Get(ctx, s.client, doc.Keys, maxKeySet); err != nil {
		return nil, err
	}
	return decodeKeySet(raw)
}

func (s *keySource) sameHost(address string) bool {
	u, err := url.Parse(address)
	if err != nil || !isASCII(address) || u.Scheme != "https" || u.User != nil || u.Fragment != "" {
		return false
	}
	own, err := url.Parse(s.authority)
	return err == nil && strings.TrimSuffix(strings.ToLower(u.Host), ":443") == own.Host
}

// decodeKeySet keeps the public signature keys of known kinds. Others are ignored, as RFC 7517 section 5 asks.
func decodeKeySet(raw []byte) (*keySet, error) {
	var doc struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(raw, &doc); err != nil || len(doc.Keys) > maxKeys {
		return nil, fmt.Errorf("its keys are no JWK set of at most %d", maxKeys)
	}
	set := &keySet{byID: make(map[string]*signingKey)}
	for _, item := range doc.Keys {
		kid, key := decodeKey(item)
		if key == nil {
			continue
		}
		if other, twice := set.byID[kid]; twice && (other == nil || !sameKey(other, key)) {
			key = nil
		}
		set.byID[kid] = key
	}
	if len(set.byID) == 0 {
		return nil, errors.New("its JWK set has no usable signature key")
	}
	return set, nil
}

func sameKey(a, b *signingKey) bool {
	public, ok := a.public.(interface{ Equal(crypto.PublicKey) bool })
	return ok && public.Equal(b.public) && a.alg == b.alg
}

// decodeKey returns nil for a key that is of no use here.
func decodeKey(raw json.RawMessage) (kid string, key *signingKey) {
	var jwk struct {
		Kid string                  `json:"kid"`
		Use string                  `json:"use"`
		Alg jose.SignatureAlgorithm `json:"alg"`
		N   string                  `json:"n"`
		X   string                  `json:"x"`
		X5C []string                `json:"x5c"`
	}
	if json.Unmarshal(raw, &jwk) != nil || jwk.Kid == "" || len(jwk.Kid) > maxKeyID || jwk.Use != "" && jwk.Use != "sig" {
		return "", nil
	}
	var public crypto.PublicKey
	switch {
	case jwk.N != "" || jwk.X != "":
		var key jose.JSONWebKey
		if key.UnmarshalJSON(raw) != nil { // it also compares with the certificate, if there is one
			return "", nil
		}
		public = key.Key
	case len(jwk.X5C) > 0:
		public = certifiedKey(jwk.X5C[0])
	}
	for _, alg := range algorithms() {
		if keyFits(public, alg) {
			return jwk.Kid, &signingKey{public: public, alg: jwk.Alg}
		}
	}
	return "", nil
}

// certifiedKey returns the key of a certificate, for JWKs that have nothing else, as those of Azure's attestation
// service. The certificate is but the key's container: it may be self-signed, and its dates are not looked at. What
// makes the key the authority's is the TLS connection over which it came.
func certifiedKey(text string) crypto.PublicKey {
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil
	}
	switch cert.PublicKey.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey:
		return cert.PublicKey
	}
	return nil
}
