package identity

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/store"
)

const (
	secretKeySize   = 32
	secretBytes     = 32
	secretPrefix    = "srs_"
	headerPrefix    = "srh_"
	hintLength      = 3
	maxSecretText   = 256
	maxCertificate  = 16 << 10
	maxFederatedURL = 512

	// DefaultFederatedAudience is what Azure's clients put into the assertions of workload identities.
	DefaultFederatedAudience = "api://AzureADTokenExchange"
)

// Why a secret was refused. The token service has a code for each; which of the first two it was is told to the client
// as Azure does, and costs the same work.
var (
	ErrUnknownApplication = errors.New("identity: application not found")
	ErrWrongSecret        = errors.New("identity: client secret is wrong")
	ErrExpiredSecret      = errors.New("identity: client secret has expired")
)

// AddClientSecret makes a secret for an application. The text is returned here and never again; the store keeps its
// HMAC. A lifetime of zero means DefaultSecretLife.
func (d *Directory) AddClientSecret(
	ctx context.Context, clientID, displayName string, lifetime time.Duration,
) (*Credential, Secret, error) {
	if lifetime == 0 {
		lifetime = DefaultSecretLife
	}
	if lifetime < 0 || lifetime > MaxSecretLife {
		return nil, Secret{}, errorf(Invalid, "the lifetime of a secret is at most %d days", MaxSecretLife/(24*time.Hour))
	}
	text, c := d.newSecret(CredentialSecret, secretPrefix)
	c.DisplayName, c.Expires = displayName, c.Created.Add(lifetime)
	added, err := d.addCredential(ctx, clientID, c, KindApplication)
	if err != nil {
		return nil, Secret{}, err
	}
	return added, NewSecret(text), nil
}

// AddIdentityHeader makes the secret that a workload sends as X-IDENTITY-HEADER to get tokens of a managed identity.
// It is bound to that one identity.
func (d *Directory) AddIdentityHeader(ctx context.Context, clientID, displayName string) (*Credential, Secret, error) {
	text, c := d.newSecret(CredentialHeader, headerPrefix)
	c.DisplayName = displayName
	added, err := d.addCredential(ctx, clientID, c, KindManagedIdentity)
	if err != nil {
		return nil, Secret{}, err
	}
	return added, NewSecret(text), nil
}

func (d *Directory) newSecret(kind CredentialType, prefix string) (string, credentialRecord) {
	raw := make([]byte, secretBytes)
	_, _ = rand.Read(raw) // never fails
	text := prefix + base64.RawURLEncoding.EncodeToString(raw)
	c := d.newCredential(kind)
	c.Hint = text[len(prefix) : len(prefix)+hintLength]
	c.Hash = d.hash(kind, text)
	return text, c
}

func (d *Directory) newCredential(kind CredentialType) credentialRecord {
	return credentialRecord{ID: uuid.NewString(), Type: kind, Created: d.now().UTC().Truncate(time.Second)}
}

// hash is what the store keeps of a secret. A fast function is right here: the secrets are 256 random bits, so there is
// nothing to guess, and the key keeps a stolen index useless without the rest of the store.
func (d *Directory) hash(kind CredentialType, text string) []byte {
	mac := hmac.New(sha256.New, d.hashKey)
	mac.Write([]byte(string(kind) + "\x00" + text))
	return mac.Sum(nil)
}

func hashKey(hash []byte) string { return prefixHash + hex.EncodeToString(hash) }

// AddCertificate registers a certificate, in PEM or DER, whose RSA key of at least 2048 bits signs client assertions.
// Only the end-entity certificate counts; no chain is built, the registration itself is the trust.
func (d *Directory) AddCertificate(
	ctx context.Context, clientID, displayName string, certificate []byte,
) (*Credential, error) {
	parsed, err := parseCertificate(certificate)
	if err != nil {
		return nil, err
	}
	if !d.now().Before(parsed.NotAfter) {
		return nil, errorf(Invalid, "the certificate has expired")
	}
	c := d.newCredential(CredentialCertificate)
	c.DisplayName, c.Certificate, c.Expires = displayName, parsed.Raw, parsed.NotAfter.UTC()
	return d.addCredential(ctx, clientID, c, KindApplication)
}

func parseCertificate(data []byte) (*x509.Certificate, error) {
	if len(data) > maxCertificate {
		return nil, errorf(Invalid, "a certificate has at most %d bytes", maxCertificate)
	}
	der := data
	if block, _ := pem.Decode(data); block != nil {
		if block.Type != "CERTIFICATE" {
			return nil, errorf(Invalid, "expected a PEM block CERTIFICATE; a private key does not belong here")
		}
		der = block.Bytes
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, errorf(Invalid, "not a certificate in PEM or DER")
	}
	key, ok := parsed.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, errorf(Invalid, "the certificate's key is %s; client assertions need an RSA key of at least %d bits",
			parsed.PublicKeyAlgorithm, minRSABits)
	}
	if !usableRSA(key) {
		return nil, errorf(Invalid, "the certificate's RSA key must have %d to %d bits", minRSABits, maxRSABits)
	}
	return parsed, nil
}

// AddFederatedCredential lets a token of an outside issuer stand in for a secret: one whose iss, sub and aud are exactly
// these. The issuer must be configured; an empty audience means DefaultFederatedAudience.
func (d *Directory) AddFederatedCredential(
	ctx context.Context, clientID, displayName, issuer, subject, audience string,
) (*Credential, error) {
	if audience == "" {
		audience = DefaultFederatedAudience
	}
	if u, err := url.Parse(issuer); err != nil || u.Scheme != "https" || u.Host == "" || len(issuer) > maxFederatedURL {
		return nil, errorf(Invalid, "the issuer must be an https URL")
	}
	if !slices.Contains(d.issuers, issuer) {
		return nil, errorf(Invalid, "the issuer is not among the configured federation issuers")
	}
	for what, text := range map[string]string{"subject": subject, "audience": audience} {
		if err := checkText(what, text, 1, maxFederatedURL); err != nil {
			return nil, err
		}
	}
	c := d.newCredential(CredentialFederated)
	c.DisplayName, c.Issuer, c.Subject, c.Audience = displayName, issuer, subject, audience
	return d.addCredential(ctx, clientID, c, "")
}

// addCredential appends c to an application of the given kind ("" for any).
func (d *Directory) addCredential(
	ctx context.Context, clientID string, c credentialRecord, kind ApplicationKind,
) (*Credential, error) {
	id, err := parseGUID("client id", clientID)
	if err != nil {
		return nil, err
	}
	if err := checkText("display name", c.DisplayName, 0, MaxDisplayName); err != nil {
		return nil, err
	}
	err = d.db.Update(ctx, func(tx store.Tx) error {
		var record appRecord
		if err := readApplication(tx, id, &record); err != nil {
			return err
		}
		if err := record.admits(&c, kind); err != nil {
			return err
		}
		record.Credentials = append(record.Credentials, c)
		if c.Type == CredentialHeader {
			if err := writeRecord(tx, hashKey(c.Hash), indexRecord{recordVersion, id}); err != nil {
				return err
			}
		}
		return writeRecord(tx, prefixApp+id, record)
	})
	if err != nil {
		return nil, err
	}
	public := c.public()
	return &public, nil
}

func (r *appRecord) admits(c *credentialRecord, kind ApplicationKind) error {
	if kind != "" && r.Kind != kind {
		return errorf(Invalid, "a credential of type %s is not for a principal of kind %s", c.Type, r.Kind)
	}
	if len(r.Credentials) >= MaxCredentials {
		return errorf(Conflict, "an application has at most %d credentials", MaxCredentials)
	}
	for i := range r.Credentials {
		if r.Credentials[i].duplicates(c) {
			return errorf(Conflict, "the application has this credential already")
		}
	}
	return nil
}

func (c *credentialRecord) duplicates(o *credentialRecord) bool {
	switch {
	case c.Type != o.Type:
		return false
	case c.Type == CredentialCertificate:
		return bytes.Equal(c.Certificate, o.Certificate)
	case c.Type == CredentialFederated:
		return c.Issuer == o.Issuer && c.Subject == o.Subject && c.Audience == o.Audience
	}
	return false
}

// RemoveCredential takes a credential away from an application. Tokens that it has obtained stay valid until they
// expire; to end them delete the application.
func (d *Directory) RemoveCredential(ctx context.Context, clientID, credentialID string) error {
	id, err := parseGUID("client id", clientID)
	if err != nil {
		return err
	}
	return d.db.Update(ctx, func(tx store.Tx) error {
		var record appRecord
		if err := readApplication(tx, id, &record); err != nil {
			return err
		}
		i := slices.IndexFunc(record.Credentials, func(c credentialRecord) bool { return c.ID == credentialID })
		if i < 0 {
			return errorf(NotFound, "the application has no such credential")
		}
		if c := record.Credentials[i]; c.Type == CredentialHeader {
			if err := tx.Delete(hashKey(c.Hash)); err != nil {
				return fmt.Errorf("identity: delete the index of a credential: %w", err)
			}
		}
		record.Credentials = slices.Delete(record.Credentials, i, i+1)
		return writeRecord(tx, prefixApp+id, record)
	})
}

// VerifyClientSecret returns the application and the id of the credential whose secret this is. Its refusals are
// ErrUnknownApplication, ErrWrongSecret and ErrExpiredSecret; the same hash is computed for each of them.
func (d *Directory) VerifyClientSecret(
	ctx context.Context, clientID, secret string,
) (app *Application, credentialID string, err error) {
	if len(secret) > maxSecretText {
		secret = ""
	}
	hash := d.hash(CredentialSecret, secret)
	record, err := d.find(ctx, clientID)
	unknown := isKind(err, NotFound) || isKind(err, Invalid)
	if err != nil && !unknown {
		return nil, "", err
	}
	if unknown {
		record = &appRecord{Credentials: []credentialRecord{{Type: CredentialSecret, Hash: make([]byte, sha256.Size)}}}
	}
	match := record.matchSecret(hash)
	switch {
	case unknown:
		return nil, "", ErrUnknownApplication
	case match == nil:
		return nil, "", ErrWrongSecret
	case !d.now().Before(match.Expires):
		return nil, "", ErrExpiredSecret
	}
	return record.public(), match.ID, nil
}

// matchSecret compares with every secret of the application, so that time does not tell which one was close.
func (r *appRecord) matchSecret(hash []byte) (match *credentialRecord) {
	for i := range r.Credentials {
		c := &r.Credentials[i]
		if c.Type == CredentialSecret && hmac.Equal(c.Hash, hash) {
			match = c
		}
	}
	return match
}

// VerifyIdentityHeader returns the managed identity that this header secret belongs to, or ErrWrongSecret. It is found
// by its keyed hash, so no comparison depends on the secret.
func (d *Directory) VerifyIdentityHeader(
	ctx context.Context, header string,
) (app *Application, credentialID string, err error) {
	if len(header) > maxSecretText {
		return nil, "", ErrWrongSecret
	}
	hash := d.hash(CredentialHeader, header)
	var record appRecord
	err = d.db.View(ctx, func(r store.Reader) error {
		record = appRecord{}
		var index indexRecord
		found, err := readRecord(r, hashKey(hash), &index)
		if err != nil {
			return err
		}
		if !found {
			return ErrWrongSecret
		}
		return readApplication(r, index.ClientID, &record)
	})
	if err != nil {
		return nil, "", err
	}
	for _, c := range record.Credentials {
		if c.Type == CredentialHeader && hmac.Equal(c.Hash, hash) {
			return record.public(), c.ID, nil
		}
	}
	return nil, "", ErrWrongSecret
}

func (c *credentialRecord) public() Credential {
	p := Credential{
		ID: c.ID, Type: c.Type, DisplayName: c.DisplayName, Hint: c.Hint, Created: c.Created, Expires: c.Expires,
		Certificate: slices.Clone(c.Certificate), Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience,
	}
	if len(c.Certificate) > 0 {
		sum := sha256.Sum256(c.Certificate)
		p.Thumbprint = hex.EncodeToString(sum[:])
	}
	return p
}
