package server

import (
	"context"
	"crypto/fips140"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/managedhsm"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// operator is who the audit log names for what comes through the administration socket. The file system has decided
// that he may.
var operator = resource.Actor{Operator: "local operator"}

// resourceGroup holds the vault that init makes. The command line's defaultGroup is the same.
const resourceGroup = "strongroom"

// maxAdminBody bounds a message to the administration socket.
const maxAdminBody = 256 << 10

// adminHandler serves the administration socket.
func (s *Server) adminHandler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, f func(r *http.Request) (any, error)) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			r = r.WithContext(audit.WithCorrelationID(r.Context(), newRequestID()))
			r.Body = http.MaxBytesReader(w, r.Body, maxAdminBody)
			out, err := f(r)
			if err != nil {
				writeJSON(w, adminStatus(err), admin.Error{Message: err.Error()})
				return
			}
			writeJSON(w, http.StatusOK, out)
		})
	}
	handle("GET /status", func(*http.Request) (any, error) { return s.Status(), nil })

	handle("GET /vaults", s.listVaults)
	handle("GET /hsms", s.listHSMs)
	handle("PATCH /vaults/{name}/administrators", func(r *http.Request) (any, error) {
		var in admin.VaultChange
		if err := decodeAdmin(r, &in); err != nil {
			return nil, err
		}
		v, err := s.resources.ChangeAdministrators(r.Context(), operator, r.PathValue("name"), in.AddAdministrators, in.RemoveAdministrators)
		return s.vaultOut(v), err
	})
	handle("GET /owners", s.listOwners)
	handle("POST /owners", s.addOwner)
	handle("POST /hsms/{name}/administrators", s.addHSMAdministrator)

	handle("GET /apps", s.listApps)
	handle("POST /apps", s.createApp)
	handle("GET /apps/{id}", func(r *http.Request) (any, error) {
		app, err := s.directory.Application(r.Context(), r.PathValue("id"))
		return appOut(app), err
	})
	handle("DELETE /apps/{id}", func(r *http.Request) (any, error) {
		return nil, s.operated(r.Context(), "AppDelete", r.PathValue("id"), func() error {
			return s.directory.DeleteApplication(r.Context(), r.PathValue("id"))
		})
	})
	handle("POST /apps/{id}/credentials", s.addCredential)
	handle("DELETE /apps/{id}/credentials/{credential}", func(r *http.Request) (any, error) {
		return nil, s.operated(r.Context(), "AppCredentialDelete", r.PathValue("id"), func() error {
			return s.directory.RemoveCredential(r.Context(), r.PathValue("id"), r.PathValue("credential"))
		})
	})
	handle("GET /tokens/keys", s.listSigningKeys)
	handle("POST /tokens/rotate", s.rotateSigningKey)
	handle("POST /tokens/revoke", s.revokeSigningKey)

	handle("GET /seal", func(r *http.Request) (any, error) { return s.sealStatus(r.Context()) })
	handle("POST /seal/rotate", func(r *http.Request) (any, error) {
		err := s.operated(r.Context(), "SealRotate", "", func() error {
			_, err := s.db.Rotate(r.Context())
			return err
		})
		if err != nil {
			return nil, err
		}
		return s.sealStatus(r.Context())
	})
	handle("POST /seal/reseal", func(r *http.Request) (any, error) {
		err := s.operated(r.Context(), "SealReseal", "", func() error { return s.db.Reseal(r.Context(), nil) })
		if err != nil {
			return nil, err
		}
		return s.sealStatus(r.Context())
	})
	handle("POST /seal/root", s.changeRoot)
	handle("POST /verify", func(r *http.Request) (any, error) { return s.verifyStore(r.Context()) })
	handle("GET /audit/head", func(r *http.Request) (any, error) {
		h := s.audit.Head()
		return admin.Head{Seq: h.Seq, Hash: h.Hash, File: s.cfg.Audit.File}, nil
	})
	return mux
}

// badRequest is a message to the socket that makes no sense.
type badRequest struct{ text string }

func (e *badRequest) Error() string { return e.text }

func adminStatus(err error) int {
	var (
		vault *resource.Error
		ident *identity.Error
		bad   *badRequest
	)
	switch {
	case errors.As(err, &bad):
		return http.StatusBadRequest
	case errors.As(err, &vault):
		switch vault.Kind {
		case resource.ResourceNotFound:
			return http.StatusNotFound
		case resource.ConflictError, resource.RoleAssignmentExists:
			return http.StatusConflict
		}
		return http.StatusBadRequest
	case errors.As(err, &ident):
		if identity.IsNotFound(err) {
			return http.StatusNotFound
		}
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

func decodeAdmin(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil && !errors.Is(err, io.EOF) {
		return &badRequest{"the message is malformed: " + err.Error()}
	}
	return nil
}

// Status returns what the server says about itself.
func (s *Server) Status() admin.Status {
	st := admin.Status{
		Version:        Version(),
		Domain:         s.cfg.Domain,
		Listen:         addresses(s.https),
		Port:           s.Port(),
		Suffix:         s.cfg.suffixes()[0],
		HSMSuffix:      s.cfg.hsmSuffixes()[0],
		TenantID:       s.directory.TenantID(),
		SubscriptionID: s.resources.SubscriptionID(),
		FIPS:           fips140.Enabled(),
		FIPSOnly:       fips140.Enforced(),
	}
	if s.cfg.TLS.Certificate == "" {
		st.CAFile = s.CAFile()
	}
	if s.identity != nil {
		st.IdentityEndpoint = "http://" + s.identity.Addr().String() + "/msi/token"
	}
	if s.ops != nil {
		st.Operations = "http://" + s.ops.Addr().String()
	}
	return st
}

// VaultURL is the URL of a vault, with a trailing slash as Azure writes it.
func (s *Server) VaultURL(name string) string {
	return "https://" + withPort(strings.ToLower(name)+"."+s.cfg.suffixes()[0], s.Port()) + "/"
}

// HSMURL is VaultURL for a managed HSM.
func (s *Server) HSMURL(name string) string {
	return "https://" + withPort(strings.ToLower(name)+"."+s.cfg.hsmSuffixes()[0], s.Port()) + "/"
}

func (s *Server) vaultOut(v *resource.Vault) admin.Vault {
	if v == nil {
		return admin.Vault{}
	}
	return admin.Vault{Name: v.Name, URL: s.VaultURL(v.Name), Administrators: append([]string{}, v.Administrators...)}
}

func (s *Server) listVaults(r *http.Request) (any, error) {
	live, err := s.resources.ListVaults(r.Context(), operator, "")
	out := make([]admin.Vault, 0, len(live))
	for _, v := range live {
		out = append(out, s.vaultOut(v))
	}
	slices.SortFunc(out, func(a, b admin.Vault) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return out, err
}

// listHSMs returns the names of the live managed HSMs.
func (s *Server) listHSMs(r *http.Request) (any, error) {
	live, err := s.resources.ListHSMs(r.Context(), operator, "")
	out := make([]string, 0, len(live))
	for _, v := range live {
		out = append(out, strings.ToLower(v.Name))
	}
	slices.Sort(out)
	return out, err
}

func ownerOut(a *resource.RoleAssignment) admin.Owner {
	return admin.Owner{PrincipalID: a.PrincipalID, PrincipalType: string(a.PrincipalType), Created: time.Unix(a.Created, 0).UTC()}
}

// listOwners tells who owns the subscription.
func (s *Server) listOwners(r *http.Request) (any, error) {
	all, err := s.resources.ListRoleAssignments(r.Context(), operator, s.resources.SubscriptionScope(), resource.AssignmentFilter{AtScope: true})
	out := []admin.Owner{}
	for _, a := range all {
		if a.RoleID == authz.RoleOwner {
			out = append(out, ownerOut(a))
		}
	}
	return out, err
}

// addOwner makes a principal an Owner of the subscription, if he is none: the way back when nobody with rights is left. The management
// plane takes it away.
func (s *Server) addOwner(r *http.Request) (any, error) {
	var in admin.Owner
	if err := decodeAdmin(r, &in); err != nil {
		return nil, err
	}
	owner := resource.AssignmentParams{
		RoleDefinitionID: authz.RoleOwner, PrincipalID: in.PrincipalID, PrincipalType: authz.PrincipalType(in.PrincipalType),
	}
	subscription := s.resources.SubscriptionScope()
	a, _, err := s.resources.PutRoleAssignment(r.Context(), operator, subscription, uuid.NewString(), owner)
	if there, ok := errors.AsType[*resource.Error](err); ok && there.Kind == resource.RoleAssignmentExists {
		a, _, err = s.resources.PutRoleAssignment(r.Context(), operator, subscription, there.Target, owner) // takes its condition away
	}
	if err != nil {
		return nil, err
	}
	return ownerOut(a), nil
}

// addHSMAdministrator gives a principal the role Managed HSM Administrator in a managed HSM that is active, if he does not have it: the
// way back when nobody is left who may assign roles there. The HSM's own door takes it away.
func (s *Server) addHSMAdministrator(r *http.Request) (any, error) {
	var in admin.Owner
	if err := decodeAdmin(r, &in); err != nil {
		return nil, err
	}
	_, err := s.resources.CreateLocalAssignment(r.Context(), operator, r.PathValue("name"), "/", uuid.NewString(), in.PrincipalID,
		authz.RoleHSMAdministrator)
	if there, ok := errors.AsType[*resource.Error](err); ok && there.Kind == resource.RoleAssignmentExists {
		err = nil
	}
	return in, err
}

// A NewVault is a vault to be made by who starts the server: init, or a test.
type NewVault struct {
	Name           string
	SKU            string // "standard" or "premium"; empty: standard
	RetentionDays  int    // 0: the default
	Administrators []string
}

// CreateVault makes a vault whose administrators may do everything in it, and returns its URL.
func (s *Server) CreateVault(ctx context.Context, in NewVault) (string, error) {
	v, err := s.newVault(ctx, in)
	if err != nil {
		return "", err
	}
	return s.VaultURL(v.Name), nil
}

func (s *state) newVault(ctx context.Context, in NewVault) (*resource.Vault, error) {
	p := resource.PutVaultParams{Location: s.cfg.Region, Tier: resource.Tier(in.SKU), Administrators: in.Administrators}
	if in.RetentionDays != 0 {
		p.RetentionDays = &in.RetentionDays
	}
	return s.resources.CreateVault(ctx, operator, resourceGroup, in.Name, p)
}

// A NewHSM is a managed HSM to be made by a test.
type NewHSM struct {
	Name           string
	Administrators []string // object ids: they get Managed HSM Administrator, Crypto Officer and Crypto User when it is activated
	NotActivated   bool     // leave that to the test
	DomainOf       string   // the managed HSM whose security domain it shares; empty: a new one
}

// CreateHSM makes a managed HSM, unless there is one of that name, activates it and returns its URL. Nobody has a copy of its security domain before it is downloaded.
func (s *Server) CreateHSM(ctx context.Context, in NewHSM) (string, error) {
	_, created, err := s.resources.PutHSM(ctx, operator, resourceGroup, in.Name, resource.PutHSMParams{
		Location: s.cfg.Region, SKUName: "Standard_B1", TenantID: s.directory.TenantID(), Administrators: in.Administrators,
		RetentionDays: new(resource.MinRetentionDays),
	})
	if err != nil || in.NotActivated || !created {
		return s.HSMURL(in.Name), err
	}
	fresh, err := sdomain.NewDomainKeys()
	if err != nil {
		return "", err
	}
	err = s.db.Update(ctx, func(tx store.Tx) error {
		domain := fresh
		if in.DomainOf != "" {
			other, err := s.resources.LoadHSM(tx, in.DomainOf)
			if err != nil {
				return err
			}
			if domain, err = s.resources.Domain(tx, other); err != nil {
				return err
			}
		}
		v, err := s.resources.LoadHSM(tx, in.Name)
		if err != nil {
			return err
		}
		return s.resources.Activate(tx, v, domain)
	})
	if err != nil {
		return "", err
	}
	for _, principal := range in.Administrators {
		for _, role := range []string{authz.RoleHSMCryptoOfficer, authz.RoleHSMCryptoUser} {
			if err := s.GiveHSMRole(ctx, in.Name, "/", role, principal); err != nil {
				return "", err
			}
		}
	}
	return s.HSMURL(in.Name), nil
}

// GiveHSMRole gives a principal one of a managed HSM's own roles.
func (s *Server) GiveHSMRole(ctx context.Context, hsm, scope, role, principal string) error {
	_, err := s.resources.CreateLocalAssignment(ctx, operator, hsm, scope, uuid.NewString(), principal, role)
	return err
}

// operated puts an operator's act on principals or keys on record, before and after.
func (s *state) operated(ctx context.Context, operation, id string, act func() error) error {
	return s.resources.Recorded(ctx, audit.Record{
		Time:          s.now(),
		Category:      audit.Intent,
		ResourceID:    "/tenants/" + s.directory.TenantID(),
		Operation:     operation,
		UPN:           operator.Operator,
		CorrelationID: audit.CorrelationID(ctx),
		ID:            id,
	}, act)
}

func appOut(app *identity.Application) admin.App {
	if app == nil {
		return admin.App{}
	}
	out := admin.App{
		ClientID: app.ClientID, ObjectID: app.ObjectID, DisplayName: app.DisplayName,
		Kind: string(app.Kind), Created: app.Created,
	}
	for _, c := range app.Credentials {
		out.Credentials = append(out.Credentials, credentialOut(&c))
	}
	return out
}

func credentialOut(c *identity.Credential) admin.Credential {
	out := admin.Credential{
		ID: c.ID, Type: string(c.Type), DisplayName: c.DisplayName, Hint: c.Hint, Created: c.Created,
		Thumbprint: c.Thumbprint, Issuer: c.Issuer, Subject: c.Subject, Audience: c.Audience,
	}
	if !c.Expires.IsZero() {
		out.Expires = &c.Expires
	}
	return out
}

func (s *Server) listApps(r *http.Request) (any, error) {
	out := []admin.App{}
	for next := ""; ; {
		page, after, err := s.directory.Applications(r.Context(), next, identity.MaxPage)
		if err != nil {
			return nil, err
		}
		for _, app := range page {
			out = append(out, appOut(app))
		}
		if next = after; next == "" {
			return out, nil
		}
	}
}

func (s *Server) createApp(r *http.Request) (any, error) {
	var in admin.App
	if err := decodeAdmin(r, &in); err != nil {
		return nil, err
	}
	var app *identity.Application
	err := s.operated(r.Context(), "AppCreate", in.DisplayName, func() (err error) {
		app, err = s.directory.CreateApplication(r.Context(), identity.NewApplication{
			ClientID: in.ClientID, ObjectID: in.ObjectID, DisplayName: in.DisplayName, Kind: identity.ApplicationKind(in.Kind),
		})
		return err
	})
	return appOut(app), err
}

func (s *Server) addCredential(r *http.Request) (any, error) {
	var in admin.NewCredential
	if err := decodeAdmin(r, &in); err != nil {
		return nil, err
	}
	var out admin.Credential
	err := s.operated(r.Context(), "AppCredentialAdd", r.PathValue("id"), func() (err error) {
		out, err = s.newCredential(r.Context(), r.PathValue("id"), in)
		return err
	})
	return out, err
}

func (s *state) newCredential(ctx context.Context, clientID string, in admin.NewCredential) (admin.Credential, error) {
	var (
		c      *identity.Credential
		secret identity.Secret
		err    error
	)
	switch identity.CredentialType(in.Type) {
	case identity.CredentialSecret:
		if in.Days < 0 || in.Days > int(identity.MaxSecretLife/(24*time.Hour)) {
			return admin.Credential{}, &badRequest{fmt.Sprintf("a secret lives for %d days at most", identity.MaxSecretLife/(24*time.Hour))}
		}
		c, secret, err = s.directory.AddClientSecret(ctx, clientID, in.DisplayName, time.Duration(in.Days)*24*time.Hour)
	case identity.CredentialHeader:
		c, secret, err = s.directory.AddIdentityHeader(ctx, clientID, in.DisplayName)
	case identity.CredentialCertificate:
		block, _ := pem.Decode([]byte(in.Certificate))
		if block == nil || block.Type != "CERTIFICATE" {
			return admin.Credential{}, &badRequest{"the certificate is not PEM"}
		}
		c, err = s.directory.AddCertificate(ctx, clientID, in.DisplayName, pem.EncodeToMemory(block))
	case identity.CredentialFederated:
		c, err = s.directory.AddFederatedCredential(ctx, clientID, in.DisplayName, in.Issuer, in.Subject, in.Audience)
	default:
		return admin.Credential{}, &badRequest{fmt.Sprintf("there is no credential of type %.32q", in.Type)}
	}
	if err != nil {
		return admin.Credential{}, err
	}
	out := credentialOut(c)
	out.Secret = secret.Reveal()
	return out, nil
}

func (s *state) sealStatus(ctx context.Context) (admin.Seal, error) {
	st, err := s.db.Status(ctx)
	out := admin.Seal{Root: st.Root, Primary: st.Primary}
	for _, k := range st.Keys {
		out.Keys = append(out.Keys, admin.SealKey(k))
	}
	return out, err
}

func (s *Server) changeRoot(r *http.Request) (any, error) {
	var in admin.NewRoot
	if err := decodeAdmin(r, &in); err != nil {
		return nil, err
	}
	source := RootKeyConfig{File: in.File, PassphraseFile: in.PassphraseFile}
	if source.sources() != 1 {
		return nil, &badRequest{"exactly one new root key is needed"}
	}
	root, err := source.open()
	if err != nil {
		return nil, &badRequest{err.Error()}
	}
	// Once the root key is changed the operator must hear of it, whatever becomes of the rest or of his connection.
	ctx := context.WithoutCancel(r.Context())
	if err := s.operated(ctx, "SealChangeRoot", root.ID(), func() error { return s.db.ChangeRoot(ctx, root) }); err != nil {
		return nil, err
	}
	var rotating error
	if in.Rotate {
		rotating = s.operated(ctx, "SealRotate", "", func() error {
			if _, err := s.db.Rotate(ctx); err != nil {
				return err
			}
			return s.db.Reseal(ctx, nil)
		})
	}
	out, err := s.sealStatus(ctx)
	if err = errors.Join(rotating, err); err != nil {
		out.Warning = "The root key IS changed: configure the new one. But not every record could be moved to a new data key: " + err.Error()
	}
	return out, nil
}

// verifyStore opens every record of the store, reads it with the code that would use it, and checks that records which
// belong together are all there.
func (s *state) verifyStore(ctx context.Context) (out admin.Verification, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer catchDamage(&err)
	var spoiled []*seal.RecordError // the first of them
	bad := func(key, problem string) {
		const listed = 100
		if out.Bad++; len(spoiled) < listed {
			spoiled = append(spoiled, &seal.RecordError{Key: key, Reason: problem})
		}
	}
	err = s.db.Walk(ctx, func(key string, value []byte, err error) error {
		out.Records++
		var record *seal.RecordError
		if errors.As(err, &record) {
			bad(key, record.Reason)
		} else if err != nil {
			bad(key, err.Error())
		} else if err := checkRecord(key, value); err != nil {
			bad(key, err.Error())
		}
		return nil
	})
	if err == nil {
		err = errors.Join(s.vaults.CheckReferences(ctx, bad), s.hsms.CheckReferences(ctx, bad))
	}
	if len(spoiled) == 0 {
		return out, err
	}
	keys := make([]string, len(spoiled))
	for i, record := range spoiled {
		keys[i] = record.Key
	}
	places, locating := s.vaults.Locate(ctx, keys)
	for _, record := range spoiled {
		text := record.Error()
		if place := places[record.Key]; place != "" {
			text += " (" + place + ")"
		}
		out.Errors = append(out.Errors, text)
	}
	return out, errors.Join(err, locating)
}

// checkRecord reads a record with the code of the package that it is of.
func checkRecord(key string, value []byte) error {
	if known, err := managedhsm.CheckRecord(key, value); known {
		return err
	}
	return keyvault.CheckRecord(key, value)
}

// catchDamage is deferred around a check of the store. A page of the file that is damaged in its structure makes the
// database's code panic, or touch memory that is not there; to a check that is a finding and no fault of the program.
func catchDamage(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("the database file is damaged in its structure, not only in records (%v): restore a backup of it", p)
	}
}
