package identity

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/store"
)

// Bounds of the directory.
const (
	MaxCredentials    = 20
	MaxDisplayName    = 120
	MaxPage           = 100
	maxResourceID     = 512
	DefaultSecretLife = 365 * 24 * time.Hour
	MaxSecretLife     = 5 * 365 * 24 * time.Hour
)

// Config says where a directory is kept and whom it trusts.
type Config struct {
	DB store.DB

	// TenantID is the GUID of the tenant. Empty means: the one in the store, or a new one if the store is new. Opening a
	// store that holds another tenant is a Conflict.
	TenantID string

	// FederationIssuers are the outside issuers whose tokens a federated credential may name. Each must also be configured
	// as an ExternalIssuer of the token service, which verifies them.
	FederationIssuers []string

	Now func() time.Time // nil means time.Now
}

// A Directory holds the tenant, its applications and their credentials. Its methods may be called concurrently, and
// several servers may have one open on the same store.
type Directory struct {
	db       store.DB
	now      func() time.Time
	tenantID string
	issuers  []string
	hashKey  []byte // from the store, made with the tenant, never changed
	gen      *generation
}

// ApplicationKind tells what sort of principal an application is.
type ApplicationKind string

// Kinds of applications.
const (
	KindApplication     ApplicationKind = "application"
	KindManagedIdentity ApplicationKind = "managedIdentity"
)

// An Application is an app registration together with its service principal, or a managed identity.
type Application struct {
	ClientID    string // GUID in lower case
	ObjectID    string // GUID in lower case: the principal that gets roles
	DisplayName string
	Kind        ApplicationKind
	ResourceID  string // ARM id of a managed identity, may be empty
	Created     time.Time
	Credentials []Credential
}

// CredentialType tells how a credential proves its application.
type CredentialType string

// Types of credentials.
const (
	CredentialSecret      CredentialType = "secret"
	CredentialCertificate CredentialType = "certificate"
	CredentialFederated   CredentialType = "federated"
	CredentialHeader      CredentialType = "identityHeader" // the IDENTITY_HEADER of a managed identity
)

// A Credential is what may be known about a credential; secrets are not part of it.
type Credential struct {
	ID          string // GUID
	Type        CredentialType
	DisplayName string
	Hint        string // first characters of a secret
	Created     time.Time
	Expires     time.Time // zero: does not expire by itself

	Certificate []byte // DER
	Thumbprint  string // SHA-256 of the certificate, hex

	Issuer   string // of a federated credential
	Subject  string
	Audience string
}

type appRecord struct {
	V           int                `json:"v"`
	ClientID    string             `json:"clientId"`
	ObjectID    string             `json:"objectId"`
	DisplayName string             `json:"displayName"`
	Kind        ApplicationKind    `json:"kind"`
	ResourceID  string             `json:"resourceId,omitempty"`
	Created     time.Time          `json:"created"`
	Credentials []credentialRecord `json:"credentials,omitempty"`
}

type credentialRecord struct {
	ID          string         `json:"id"`
	Type        CredentialType `json:"type"`
	DisplayName string         `json:"displayName,omitempty"`
	Hint        string         `json:"hint,omitempty"`
	Created     time.Time      `json:"created"`
	Expires     time.Time      `json:"expires,omitzero"`
	Hash        []byte         `json:"hash,omitempty"` // HMAC-SHA-256 of a secret
	Certificate []byte         `json:"certificate,omitempty"`
	Issuer      string         `json:"issuer,omitempty"`
	Subject     string         `json:"subject,omitempty"`
	Audience    string         `json:"audience,omitempty"`
}

// Open opens the directory in cfg.DB and makes tenant and keys if the store is new.
func Open(ctx context.Context, cfg Config) (*Directory, error) {
	now := cfg.Now
	if now == nil {
		now = time.Now
	}
	d := &Directory{
		db:      cfg.DB,
		now:     now,
		issuers: slices.Clone(cfg.FederationIssuers),
		gen:     &generation{db: cfg.DB, now: now},
	}
	wanted := ""
	if cfg.TenantID != "" {
		var err error
		if wanted, err = parseGUID("tenant id", cfg.TenantID); err != nil {
			return nil, err
		}
	}
	if err := d.load(ctx, wanted); err != nil {
		return nil, err
	}
	return d, nil
}

// load reads tenant and key, and makes them in one transaction if they are missing, so that of two servers that start
// on a new store one wins and the other takes over what it wrote.
func (d *Directory) load(ctx context.Context, wanted string) error {
	var tenant tenantRecord
	var key secretKeyRecord
	err := d.db.Update(ctx, func(tx store.Tx) error {
		tenant, key = tenantRecord{}, secretKeyRecord{}
		found, err := readRecord(tx, keyTenant, &tenant)
		if err != nil {
			return err
		}
		if !found {
			return d.initialise(tx, wanted, &tenant, &key)
		}
		if found, err = readRecord(tx, keySecretKey, &key); err != nil {
			return err
		}
		if !found || len(key.Key) != secretKeySize {
			return errors.New("identity: the key of the secret hashes is missing from the store")
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("identity: open the directory: %w", err)
	}
	if wanted != "" && wanted != tenant.TenantID {
		return errorf(Conflict, "the store belongs to tenant %s, not to the configured %s", tenant.TenantID, wanted)
	}
	d.tenantID, d.hashKey = tenant.TenantID, key.Key
	return nil
}

func (d *Directory) initialise(tx store.Tx, wanted string, tenant *tenantRecord, key *secretKeyRecord) error {
	if wanted == "" {
		wanted = uuid.NewString()
	}
	*tenant = tenantRecord{V: recordVersion, TenantID: wanted, Created: d.now().UTC()}
	*key = secretKeyRecord{V: recordVersion, Key: make([]byte, secretKeySize)}
	_, _ = rand.Read(key.Key) // crypto/rand.Read never fails; it ends the program instead
	if err := writeRecord(tx, keyTenant, tenant); err != nil {
		return err
	}
	return writeRecord(tx, keySecretKey, key)
}

// TenantID returns the GUID of the tenant in lower case.
func (d *Directory) TenantID() string { return d.tenantID }

// NewApplication describes an application to be made. Empty ids are chosen at random.
type NewApplication struct {
	ClientID    string
	ObjectID    string
	DisplayName string
	Kind        ApplicationKind // empty means KindApplication
	ResourceID  string          // only for a managed identity
}

// CreateApplication adds an application. An id that is taken is a Conflict.
func (d *Directory) CreateApplication(ctx context.Context, n NewApplication) (*Application, error) {
	record, err := d.newRecord(n)
	if err != nil {
		return nil, err
	}
	err = d.db.Update(ctx, func(tx store.Tx) error {
		for _, key := range []string{prefixApp + record.ClientID, prefixObject + record.ObjectID} {
			if _, err := tx.Get(key); !errors.Is(err, store.ErrNotFound) {
				if err != nil {
					return fmt.Errorf("identity: read %s: %w", key, err)
				}
				return errorf(Conflict, "an application with this client id or object id exists")
			}
		}
		if err := writeRecord(tx, prefixApp+record.ClientID, record); err != nil {
			return err
		}
		return writeRecord(tx, prefixObject+record.ObjectID, indexRecord{recordVersion, record.ClientID})
	})
	if err != nil {
		return nil, err
	}
	return record.public(), nil
}

func (d *Directory) newRecord(n NewApplication) (*appRecord, error) {
	r := &appRecord{V: recordVersion, DisplayName: n.DisplayName, Kind: n.Kind, ResourceID: n.ResourceID}
	r.Created = d.now().UTC().Truncate(time.Second)
	if r.Kind == "" {
		r.Kind = KindApplication
	}
	var err error
	if r.ClientID, err = guidOrNew("client id", n.ClientID); err != nil {
		return nil, err
	}
	if r.ObjectID, err = guidOrNew("object id", n.ObjectID); err != nil {
		return nil, err
	}
	if isDerived(r.ObjectID) {
		return nil, errorf(Invalid, "object ids of UUID version %d are those of principals of outside issuers", outsideVersion)
	}
	if err := checkText("display name", r.DisplayName, 1, MaxDisplayName); err != nil {
		return nil, err
	}
	switch {
	case r.Kind != KindApplication && r.Kind != KindManagedIdentity:
		return nil, errorf(Invalid, "kind must be %s or %s", KindApplication, KindManagedIdentity)
	case r.Kind == KindApplication && r.ResourceID != "":
		return nil, errorf(Invalid, "only a managed identity has a resource id")
	}
	return r, checkText("resource id", r.ResourceID, 0, maxResourceID)
}

// Application returns the application with this client id.
func (d *Directory) Application(ctx context.Context, clientID string) (*Application, error) {
	record, err := d.find(ctx, clientID)
	if err != nil {
		return nil, err
	}
	return record.public(), nil
}

// ApplicationByObjectID returns the application whose service principal has this object id.
func (d *Directory) ApplicationByObjectID(ctx context.Context, objectID string) (*Application, error) {
	id, err := parseGUID("object id", objectID)
	if err != nil {
		return nil, err
	}
	var record appRecord
	err = d.db.View(ctx, func(r store.Reader) error {
		record = appRecord{}
		var index indexRecord
		found, err := readRecord(r, prefixObject+id, &index)
		if err != nil {
			return err
		}
		if !found {
			return errorf(NotFound, "no application has object id %s", id)
		}
		return readApplication(r, index.ClientID, &record)
	})
	if err != nil {
		return nil, err
	}
	return record.public(), nil
}

// Applications lists applications in order of client id, starting after the given one ("" for the first page). The
// limit is MaxPage at most. next is "" on the last page, else what to pass as after.
func (d *Directory) Applications(ctx context.Context, after string, limit int) (page []*Application, next string, err error) {
	start := prefixApp
	if after != "" {
		if after, err = parseGUID("client id", after); err != nil {
			return nil, "", err
		}
		start = prefixApp + after + "\x00"
	}
	if limit <= 0 || limit > MaxPage {
		limit = MaxPage
	}
	err = d.db.View(ctx, func(r store.Reader) error {
		page, next = nil, ""
		for entry, err := range r.Scan(start, store.PrefixEnd(prefixApp)) {
			if err != nil {
				return fmt.Errorf("identity: list applications: %w", err)
			}
			if len(page) == limit {
				next = page[limit-1].ClientID
				return nil
			}
			var record appRecord
			if err := decodeRecord(entry.Key, entry.Value, &record); err != nil {
				return err
			}
			page = append(page, record.public())
		}
		return nil
	})
	if err != nil {
		return nil, "", err
	}
	return page, next, nil
}

// DeleteApplication removes an application, its credentials and, at once on this server and within a second on others,
// the validity of its tokens. What stays is a mark that its object id was given away.
func (d *Directory) DeleteApplication(ctx context.Context, clientID string) error {
	id, err := parseGUID("client id", clientID)
	if err != nil {
		return err
	}
	var count uint64
	err = d.db.Update(ctx, func(tx store.Tx) error {
		var record appRecord
		if err := readApplication(tx, id, &record); err != nil {
			return err
		}
		doomed := []string{prefixApp + id, prefixObject + record.ObjectID}
		for _, c := range record.Credentials {
			if c.Type == CredentialHeader {
				doomed = append(doomed, hashKey(c.Hash))
			}
		}
		for _, key := range doomed {
			if err := tx.Delete(key); err != nil {
				return fmt.Errorf("identity: delete %s: %w", key, err)
			}
		}
		gone := goneRecord{V: recordVersion, ClientID: id, Deleted: d.now().UTC().Truncate(time.Second)}
		if err := writeRecord(tx, prefixGone+record.ObjectID, gone); err != nil {
			return err
		}
		count, err = bump(tx)
		return err
	})
	// An unknown outcome may be a deletion: what is remembered must be checked again either way.
	d.gen.checked.Store(0)
	if err != nil {
		return err
	}
	d.gen.raise(count)
	return nil
}

// find reads an application outside a transaction.
func (d *Directory) find(ctx context.Context, clientID string) (*appRecord, error) {
	id, err := parseGUID("client id", clientID)
	if err != nil {
		return nil, err
	}
	var record appRecord
	err = d.db.View(ctx, func(r store.Reader) error {
		record = appRecord{}
		return readApplication(r, id, &record)
	})
	if err != nil {
		return nil, err
	}
	return &record, nil
}

func readApplication(r store.Reader, id string, into *appRecord) error {
	found, err := readRecord(r, prefixApp+id, into)
	if err != nil {
		return err
	}
	if !found {
		return errorf(NotFound, "no application has client id %s", id)
	}
	return nil
}

func (r *appRecord) public() *Application {
	app := &Application{
		ClientID: r.ClientID, ObjectID: r.ObjectID, DisplayName: r.DisplayName,
		Kind: r.Kind, ResourceID: r.ResourceID, Created: r.Created,
	}
	for i := range r.Credentials {
		app.Credentials = append(app.Credentials, r.Credentials[i].public())
	}
	return app
}

// guidLength is that of the one accepted form.
const guidLength = 36

// parseGUID accepts the 36-character form in any case and returns it in lower case. uuid.Parse alone would also take
// braces and URNs, which would make two spellings of one store key.
func parseGUID(what, s string) (string, error) {
	if len(s) != guidLength {
		return "", errorf(Invalid, "%s must be a GUID", what)
	}
	id, err := uuid.Parse(s)
	if err != nil {
		return "", errorf(Invalid, "%s must be a GUID", what)
	}
	return id.String(), nil
}

func guidOrNew(what, s string) (string, error) {
	if s == "" {
		return uuid.NewString(), nil
	}
	return parseGUID(what, s)
}

func checkText(what, s string, shortest, longest int) error {
	if !utf8.ValidString(s) || len(s) < shortest || len(s) > longest {
		return errorf(Invalid, "%s must have %d to %d bytes of text", what, shortest, longest)
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return errorf(Invalid, "%s must not hold control characters", what)
		}
	}
	return nil
}
