package identity

import (
	"cmp"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/store"
)

// Defaults and bounds of the embedded issuer.
const (
	DefaultTokenLifetime  = 3599 * time.Second
	MaxTokenLifetime      = 24 * time.Hour
	DefaultRotationPeriod = 30 * 24 * time.Hour
	DefaultPublishAhead   = time.Hour

	maxSigningKeys = 8
	// retireMargin covers servers whose clocks differ: one that runs behind still signs with the old key for a while.
	retireMargin = 10 * time.Minute
)

// AuthorityConfig configures the embedded issuer.
type AuthorityConfig struct {
	LoginHost      string        // host of the token service without port, such as login.example.org
	KeyBits        int           // size of new RSA keys: 2048 (default) or 3072
	TokenLifetime  time.Duration // 0 means DefaultTokenLifetime
	RotationPeriod time.Duration // age at which Tick replaces the signing key; 0 means DefaultRotationPeriod
	PublishAhead   time.Duration // how long a new key is published before it signs; 0 means DefaultPublishAhead
}

// An Authority is the embedded issuer: it signs access tokens with keys that live in the store, publishes their public
// halves and rotates them. Several servers may have one on the same store: which key signs is decided from the store
// alone, so all of them agree.
type Authority struct {
	dir *Directory
	cfg AuthorityConfig

	mu     sync.Mutex                 // guards parsed
	parsed map[string]*rsa.PrivateKey // private keys by kid; a kid never changes its key
}

// A signingRecord is a key of the embedded issuer.
type signingRecord struct {
	V           int       `json:"v"`
	KeyID       string    `json:"kid"` // RFC 7638 thumbprint
	Created     time.Time `json:"created"`
	ActiveFrom  time.Time `json:"activeFrom"`  // signs from here until the next key's ActiveFrom
	MaxLifetime int64     `json:"maxLifetime"` // seconds; longest life of a token that it signs
	Public      []byte    `json:"public"`      // PKIX DER
	Private     []byte    `json:"private"`     // PKCS #8 DER
}

// NewAuthority opens the embedded issuer over the directory's store and makes the first signing key if there is none.
func NewAuthority(ctx context.Context, dir *Directory, cfg AuthorityConfig) (*Authority, error) {
	if cfg.KeyBits == 0 {
		cfg.KeyBits = minRSABits
	}
	cfg.TokenLifetime = cmp.Or(cfg.TokenLifetime, DefaultTokenLifetime)
	cfg.RotationPeriod = cmp.Or(cfg.RotationPeriod, DefaultRotationPeriod)
	cfg.PublishAhead = cmp.Or(cfg.PublishAhead, DefaultPublishAhead)
	cfg.LoginHost = strings.ToLower(cfg.LoginHost)
	switch {
	case !validHost(cfg.LoginHost):
		return nil, errorf(Invalid, "the login host is not a DNS name")
	case cfg.KeyBits != 2048 && cfg.KeyBits != 3072:
		return nil, errorf(Invalid, "signing keys have 2048 or 3072 bits")
	case cfg.TokenLifetime < time.Minute || cfg.TokenLifetime > MaxTokenLifetime:
		return nil, errorf(Invalid, "the token lifetime must be between a minute and %s", MaxTokenLifetime)
	case cfg.PublishAhead < time.Minute || cfg.RotationPeriod < 2*cfg.PublishAhead:
		return nil, errorf(Invalid, "keys are published at least a minute ahead and rotated at most half as often as that")
	}
	a := &Authority{dir: dir, cfg: cfg, parsed: make(map[string]*rsa.PrivateKey)}
	return a, a.Tick(ctx, dir.now())
}

// LoginHost returns the central host of the token service.
func (a *Authority) LoginHost() string { return a.cfg.LoginHost }

// TenantID returns the tenant whose tokens the authority signs.
func (a *Authority) TenantID() string { return a.dir.tenantID }

// Tick makes the first key, the next key when rotation is due, and removes keys whose last token has expired. It is safe
// to call on several servers at once: what is due is read again in the transaction that does it.
func (a *Authority) Tick(ctx context.Context, now time.Time) error {
	keys, err := a.keys(ctx)
	if err != nil {
		return err
	}
	due, from := a.rotationDue(keys, now)
	if !due && len(retired(keys, now)) == 0 {
		return nil
	}
	var fresh *signingRecord
	if due {
		// Making a key takes long, so it is done before the transaction, which may find that another server was faster.
		if fresh, err = a.newKey(now, from); err != nil {
			return err
		}
	}
	return a.dir.db.Update(ctx, func(tx store.Tx) error {
		keys, err := readKeys(tx)
		if err != nil {
			return err
		}
		for _, k := range retired(keys, now) {
			if err := tx.Delete(prefixSigning + k.KeyID); err != nil {
				return fmt.Errorf("identity: remove a signing key: %w", err)
			}
		}
		if due, _ := a.rotationDue(keys, now); fresh == nil || !due {
			return nil
		}
		return addKey(tx, keys, fresh)
	})
}

// rotationDue says whether a new key is wanted and from when it signs. The first key signs at once; there is nobody yet
// who could hold an older key set.
func (a *Authority) rotationDue(keys []signingRecord, now time.Time) (bool, time.Time) {
	if len(keys) == 0 {
		return true, now
	}
	newest := keys[len(keys)-1]
	next := newest.ActiveFrom.Add(a.cfg.RotationPeriod)
	if now.Before(next.Add(-a.cfg.PublishAhead)) {
		return false, time.Time{}
	}
	return true, now.Add(a.cfg.PublishAhead)
}

// A SigningKey describes a key of the embedded issuer.
type SigningKey struct {
	KeyID     string
	Created   time.Time
	SignsFrom time.Time
	Active    bool // signs now
}

// SigningKeys returns the keys by which tokens are verified, in the order in which they sign.
func (a *Authority) SigningKeys(ctx context.Context) ([]SigningKey, error) {
	keys, err := a.keys(ctx)
	if err != nil {
		return nil, err
	}
	signs := active(keys, a.dir.now())
	out := make([]SigningKey, 0, len(keys))
	for _, k := range keys {
		out = append(out, SigningKey{
			KeyID: k.KeyID, Created: k.Created, SignsFrom: k.ActiveFrom, Active: signs != nil && signs.KeyID == k.KeyID,
		})
	}
	return out, nil
}

// RotateSigningKey publishes a new key that signs after the publishing time. If one is already waiting, that one is it,
// and waiting is true: so two servers that are told at once make one key. Old keys verify until the last token that they
// signed has expired.
func (a *Authority) RotateSigningKey(ctx context.Context) (next SigningKey, waiting bool, err error) {
	now := a.dir.now()
	fresh, err := a.newKey(now, now.Add(a.cfg.PublishAhead))
	if err != nil {
		return SigningKey{}, false, err
	}
	err = a.dir.db.Update(ctx, func(tx store.Tx) error {
		keys, err := readKeys(tx)
		if err != nil {
			return err
		}
		chosen := fresh
		if n := len(keys); n > 0 && keys[n-1].ActiveFrom.After(now) {
			chosen = &keys[n-1]
		}
		waiting = chosen != fresh
		next = SigningKey{KeyID: chosen.KeyID, Created: chosen.Created, SignsFrom: chosen.ActiveFrom}
		if waiting {
			return nil
		}
		return addKey(tx, keys, fresh)
	})
	if err != nil {
		return SigningKey{}, false, err
	}
	return next, waiting, nil
}

// RevokeSigningKey removes a key that must not be trusted any more. All tokens that it signed stop working: at once on
// this server, within a second on others. If it is the one that signs, a new one takes over immediately, without having
// been published before: neither an older one, whose time was over, nor the next one, which may have leaked with it, does.
func (a *Authority) RevokeSigningKey(ctx context.Context, kid string) error {
	if !validKeyID(kid) {
		return errorf(NotFound, "no such signing key")
	}
	now := a.dir.now()
	fresh, err := a.newKey(now, now)
	if err != nil {
		return err
	}
	var count uint64
	err = a.dir.db.Update(ctx, func(tx store.Tx) error {
		keys, err := readKeys(tx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(keys, func(k signingRecord) bool { return k.KeyID == kid })
		if i < 0 {
			return errorf(NotFound, "no such signing key")
		}
		signs := active(keys, now).KeyID == kid
		if err := tx.Delete(prefixSigning + kid); err != nil {
			return fmt.Errorf("identity: remove a signing key: %w", err)
		}
		if signs {
			if err := addKey(tx, slices.Delete(keys, i, i+1), fresh); err != nil {
				return err
			}
		}
		count, err = bump(tx)
		return err
	})
	a.dir.gen.checked.Store(0) // an unknown outcome may be a revocation
	if err != nil {
		return err
	}
	a.dir.gen.raise(count)
	return nil
}

func addKey(tx store.Tx, keys []signingRecord, fresh *signingRecord) error {
	if len(keys) >= maxSigningKeys {
		return errorf(Conflict, "there are %d signing keys; wait until the old ones have expired", len(keys))
	}
	return writeRecord(tx, prefixSigning+fresh.KeyID, fresh)
}

func (a *Authority) newKey(now, from time.Time) (*signingRecord, error) {
	key, err := rsa.GenerateKey(rand.Reader, a.cfg.KeyBits)
	if err != nil {
		return nil, fmt.Errorf("identity: make a signing key: %w", err)
	}
	r := &signingRecord{V: recordVersion, Created: now.UTC(), ActiveFrom: from.UTC()}
	r.MaxLifetime = int64(a.cfg.TokenLifetime / time.Second)
	if r.Private, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return nil, fmt.Errorf("identity: encode a signing key: %w", err)
	}
	if r.Public, err = x509.MarshalPKIXPublicKey(key.Public()); err != nil {
		return nil, fmt.Errorf("identity: encode a signing key: %w", err)
	}
	thumb, err := (&jose.JSONWebKey{Key: key.Public()}).Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("identity: name a signing key: %w", err)
	}
	r.KeyID = base64.RawURLEncoding.EncodeToString(thumb)
	return r, nil
}

func (a *Authority) keys(ctx context.Context) (keys []signingRecord, err error) {
	err = a.dir.db.View(ctx, func(r store.Reader) error {
		keys, err = readKeys(r)
		return err
	})
	return keys, err
}

// readKeys returns the keys in the order in which they sign.
func readKeys(r store.Reader) ([]signingRecord, error) {
	var keys []signingRecord
	for entry, err := range r.Scan(prefixSigning, store.PrefixEnd(prefixSigning)) {
		if err != nil {
			return nil, fmt.Errorf("identity: read the signing keys: %w", err)
		}
		var k signingRecord
		if err := decodeRecord(entry.Key, entry.Value, &k); err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b signingRecord) int {
		if c := a.ActiveFrom.Compare(b.ActiveFrom); c != 0 {
			return c
		}
		return strings.Compare(a.KeyID, b.KeyID)
	})
	return keys, nil
}

// active returns the key that signs at now: the newest of those that have been published long enough. If there is none
// (the clock of this server runs behind that of the one which made the first key, or revoked the only other), the
// oldest signs ahead of its time.
func active(keys []signingRecord, now time.Time) *signingRecord {
	for i := len(keys) - 1; i >= 0; i-- {
		if i == 0 || !keys[i].ActiveFrom.After(now) {
			return &keys[i]
		}
	}
	return nil
}

// retired returns the keys whose last token has expired: they stopped signing when their successor began.
func retired(keys []signingRecord, now time.Time) []signingRecord {
	var old []signingRecord
	for i := range keys[:max(len(keys)-1, 0)] {
		last := keys[i+1].ActiveFrom.Add(time.Duration(keys[i].MaxLifetime)*time.Second + clockLeeway + retireMargin)
		if !now.Before(last) {
			old = append(old, keys[i])
		}
	}
	return old
}

func validKeyID(kid string) bool {
	if len(kid) == 0 || len(kid) > 64 {
		return false
	}
	for _, c := range []byte(kid) {
		ok := c == '-' || c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
		if !ok {
			return false
		}
	}
	return true
}

// verificationKey returns the public key that a token of the embedded issuer names. The kid is checked for form before
// it becomes part of a store key.
func verificationKey(r store.Reader, kid string) (*rsa.PublicKey, error) {
	if !validKeyID(kid) {
		return nil, nil
	}
	var record signingRecord
	found, err := readRecord(r, prefixSigning+kid, &record)
	if err != nil || !found {
		return nil, err
	}
	parsed, err := x509.ParsePKIXPublicKey(record.Public)
	key, ok := parsed.(*rsa.PublicKey)
	if err != nil || !ok {
		return nil, errors.New("identity: a signing key in the store is damaged")
	}
	return key, nil
}

// JWKS returns the public keys as a JWK set, including the one that will sign next.
func (a *Authority) JWKS(ctx context.Context) ([]byte, error) {
	keys, err := a.keys(ctx)
	if err != nil {
		return nil, err
	}
	type jwk struct {
		KeyType   string `json:"kty"`
		Use       string `json:"use"`
		KeyID     string `json:"kid"`
		Algorithm string `json:"alg"`
		N         string `json:"n"`
		E         string `json:"e"`
	}
	set := struct {
		Keys []jwk `json:"keys"`
	}{Keys: []jwk{}}
	for _, k := range keys {
		parsed, err := x509.ParsePKIXPublicKey(k.Public)
		key, ok := parsed.(*rsa.PublicKey)
		if err != nil || !ok {
			return nil, errors.New("identity: a signing key in the store is damaged")
		}
		set.Keys = append(set.Keys, jwk{
			KeyType: "RSA", Use: "sig", KeyID: k.KeyID, Algorithm: "RS256",
			N: base64.RawURLEncoding.EncodeToString(key.N.Bytes()),
			E: base64.RawURLEncoding.EncodeToString(big.NewInt(int64(key.E)).Bytes()),
		})
	}
	return json.Marshal(set)
}

// How the application proved itself, as appidacr and azpacr say it.
const (
	ProofSecret      = "1"
	ProofCertificate = "2"
)

// A TokenRequest says what IssueToken is to sign. The token service has checked that the application may have it.
type TokenRequest struct {
	Application *Application
	Audience    string
	Host        string // the login host, with the port that the client used
	Version     int    // 1 or 2: form of the claims and of the issuer
	Proof       string // ProofSecret or ProofCertificate
}

// A Token is a signed access token.
type Token struct {
	Text    Secret
	ID      string // its uti, for the audit record
	Issued  time.Time
	Expires time.Time
}

// IssueToken signs an access token for an application.
func (a *Authority) IssueToken(ctx context.Context, req TokenRequest) (*Token, error) {
	now := a.dir.now()
	keys, err := a.keys(ctx)
	if err != nil {
		return nil, err
	}
	record := active(keys, now)
	if record == nil {
		return nil, errors.New("identity: no signing key is active")
	}
	key, err := a.private(record, keys)
	if err != nil {
		return nil, err
	}
	// A key's retirement was computed from the lifetime that it was made with, so no token of it may live longer.
	life := min(a.cfg.TokenLifetime, time.Duration(record.MaxLifetime)*time.Second)
	issued := now.Truncate(time.Second) // claims have whole seconds
	t := &Token{ID: newTokenID(), Issued: issued, Expires: issued.Add(life)}
	payload, err := json.Marshal(a.claims(req, t))
	if err != nil {
		return nil, fmt.Errorf("identity: encode claims: %w", err)
	}
	text, err := sign(key, record.KeyID, payload)
	if err != nil {
		return nil, err
	}
	t.Text = NewSecret(text)
	return t, nil
}

// private returns the parsed private key of record and forgets keys that the store no longer has.
func (a *Authority) private(record *signingRecord, keys []signingRecord) (*rsa.PrivateKey, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if key, ok := a.parsed[record.KeyID]; ok {
		return key, nil
	}
	parsed, err := x509.ParsePKCS8PrivateKey(record.Private)
	key, ok := parsed.(*rsa.PrivateKey)
	if err != nil || !ok {
		return nil, errors.New("identity: a signing key in the store is damaged")
	}
	for kid := range a.parsed {
		if !slices.ContainsFunc(keys, func(k signingRecord) bool { return k.KeyID == kid }) {
			delete(a.parsed, kid)
		}
	}
	a.parsed[record.KeyID] = key
	return key, nil
}

// accessClaims are the claims of an access token. Version 1.0 names the application appid, version 2.0 azp.
type accessClaims struct {
	Audience   string `json:"aud"`
	Issuer     string `json:"iss"`
	IssuedAt   int64  `json:"iat"`
	NotBefore  int64  `json:"nbf"`
	Expires    int64  `json:"exp"`
	AppID      string `json:"appid,omitempty"`
	AppIDACR   string `json:"appidacr,omitempty"`
	AZP        string `json:"azp,omitempty"`
	AZPACR     string `json:"azpacr,omitempty"`
	IDType     string `json:"idtyp"`
	ObjectID   string `json:"oid"`
	Subject    string `json:"sub"`
	TenantID   string `json:"tid"`
	TokenID    string `json:"uti"`
	Version    string `json:"ver"`
	ResourceID string `json:"xms_mirid,omitempty"`
}

func (a *Authority) claims(req TokenRequest, t *Token) accessClaims {
	app := req.Application
	c := accessClaims{
		Audience: req.Audience, Issuer: a.Issuer(req.Host, req.Version),
		IssuedAt: t.Issued.Unix(), NotBefore: t.Issued.Unix(), Expires: t.Expires.Unix(),
		IDType: "app", ObjectID: app.ObjectID, Subject: app.ObjectID, TenantID: a.dir.tenantID, TokenID: t.ID,
		ResourceID: app.ResourceID,
	}
	if req.Version == 1 {
		c.Version, c.AppID, c.AppIDACR = "1.0", app.ClientID, req.Proof
	} else {
		c.Version, c.AZP, c.AZPACR = "2.0", app.ClientID, req.Proof
	}
	return c
}

// Issuer returns the iss claim of tokens issued at host (with port) in the given version.
func (a *Authority) Issuer(host string, version int) string {
	issuer := "https://" + host + "/" + a.dir.tenantID + "/"
	if version == 1 {
		return issuer
	}
	return issuer + "v2.0"
}

// ownIssuer reports whether iss is one of the forms that Issuer returns for the login host with any port.
func (a *Authority) ownIssuer(iss string) bool {
	rest, ok := strings.CutPrefix(iss, "https://")
	if !ok {
		return false
	}
	authority, path, ok := strings.Cut(rest, "/")
	if !ok || path != a.dir.tenantID+"/" && path != a.dir.tenantID+"/v2.0" {
		return false
	}
	host, ok := SplitHostPort(authority)
	return ok && host == a.cfg.LoginHost
}

func sign(key *rsa.PrivateKey, kid string, payload []byte) (string, error) {
	opts := (&jose.SignerOptions{}).WithType("JWT")
	signer, err := jose.NewSigner(jose.SigningKey{
		Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: kid},
	}, opts)
	if err != nil {
		return "", fmt.Errorf("identity: sign a token: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("identity: sign a token: %w", err)
	}
	text, err := signed.CompactSerialize()
	if err != nil {
		return "", fmt.Errorf("identity: sign a token: %w", err)
	}
	return text, nil
}

// newTokenID returns a short unique name in the form that Azure uses for uti.
func newTokenID() string {
	id := uuid.New()
	return base64.RawURLEncoding.EncodeToString(id[:])
}
