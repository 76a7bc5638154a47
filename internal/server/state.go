package server

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/managedhsm"
	"github.com/strongroom/strongroom/internal/pki"
	"github.com/strongroom/strongroom/internal/release"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store/bolt"
)

// Files in the data folder.
const (
	databaseFile = "strongroom.db"
	caFile       = "ca.pem"
)

// state is everything below the network: what Init fills, what `strongroom verify` walks and what a Server serves.
type state struct {
	cfg       *Config
	log       *slog.Logger
	now       func() time.Time
	bolt      *bolt.DB
	db        *seal.DB
	audit     *audit.Log
	hsm       *hsm.Software
	resources *resource.Service
	vaults    *keyvault.Service
	hsms      *managedhsm.Service
	directory *identity.Directory
	authority *identity.Authority
	external  []*identity.ExternalIssuer
	verifier  *identity.Verifier
	ca        *pki.LocalCA
	// rolledBack says that the store was found to be older than the audit log; set before anything is served.
	rolledBack string

	closers []func() error // in the order of opening
}

// newState is a state with nothing open.
func newState(cfg *Config, opts Options) *state {
	s := &state{cfg: cfg, log: opts.Log, now: opts.Now, hsm: hsm.NewSoftware(hsm.SoftwareConfig{})}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s
}

// openState opens the data folder of an installation, to serve it.
func openState(ctx context.Context, cfg *Config, opts Options) (_ *state, err error) {
	s := newState(cfg, opts)
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	if err := s.openStore(ctx, false); err != nil {
		return nil, err
	}
	if err := s.openServices(ctx, opts.TenantID); err != nil {
		return nil, err
	}
	if err := s.bootstrap(ctx); err != nil {
		return nil, err
	}
	return s, s.openCA(ctx)
}

// openServices opens what stands on the store, apart from the certificate authority.
func (s *state) openServices(ctx context.Context, tenantID string) (err error) {
	if err := s.openAudit(ctx); err != nil {
		return err
	}
	releases, err := s.releases()
	if err != nil {
		return err
	}
	if err := s.openIdentity(ctx, tenantID); err != nil {
		return err
	}
	if err := s.openResources(ctx); err != nil {
		return err
	}
	storage, err := s.openStorage()
	if err != nil {
		return err
	}
	credential, err := s.cfg.Backup.credential()
	if err != nil {
		return err
	}
	s.openVaults(releases, managedhsm.Config{Storage: storage, Credential: credential})
	return nil
}

// openResources opens the management plane.
func (s *state) openResources(ctx context.Context) (err error) {
	cfg := resource.Config{DB: s.db, Audit: s.audit, Now: s.now, Locations: []string{s.cfg.Region}, Purged: keyvault.Purged,
		PurgedHSM: managedhsm.Purged, Logger: s.log}
	if s.directory != nil {
		cfg.TenantID, cfg.Principals = s.directory.TenantID(), principals{s.directory}
	}
	s.resources, err = resource.Open(ctx, cfg)
	return err
}

// openVaults opens the two data planes; hsms says what storage managed HSMs can use.
func (s *state) openVaults(releases keyvault.ReleaseConfig, hsms managedhsm.Config) {
	s.vaults = keyvault.New(keyvault.Config{
		DB: s.db, Audit: s.audit, Resources: s.resources, HSM: s.hsm, Now: s.now, Release: releases,
	})
	hsms.DB, hsms.Audit, hsms.Resources, hsms.Keys, hsms.Now = s.db, s.audit, s.resources, s.vaults.ManagedHSMs(), s.now
	s.hsms = managedhsm.New(hsms)
}

// bootstrap makes the administrator of the setup Owner of the subscription, if there has never been a role assignment, as in an
// installation of a release that knew none.
func (s *state) bootstrap(ctx context.Context) error {
	rec, err := s.setup(ctx)
	if err != nil {
		return err
	}
	owner := ""
	if rec != nil {
		app, err := s.directory.Application(ctx, rec.Administrator)
		if err != nil && !identity.IsNotFound(err) {
			return err
		}
		if err == nil {
			owner = app.ObjectID
		}
	}
	made, err := s.resources.Bootstrap(ctx, operator.Operator, owner)
	if made {
		s.log.Warn("the administrator of the setup is now Owner of the subscription, because this installation had no roles yet: whoever has "+
			"his credentials can manage every vault, and take the role away", "application", rec.Administrator, "objectId", owner,
			"scope", "/subscriptions/"+s.resources.SubscriptionID())
	}
	return err
}

// principals tells the management plane of what type a principal is. All of the directory are applications.
type principals struct{ *identity.Directory }

// PrincipalType is that of resource.PrincipalDirectory.
func (p principals) PrincipalType(ctx context.Context, objectID string) (authz.PrincipalType, error) {
	_, err := p.ApplicationByObjectID(ctx, objectID)
	if identity.IsNotFound(err) {
		return authz.AnyPrincipal, nil
	}
	return authz.ServicePrincipal, err
}

// releases is who may be believed about the targets of key releases, and how the answers are signed.
func (s *state) releases() (cfg keyvault.ReleaseConfig, err error) {
	for _, suffix := range append(s.cfg.suffixes(), s.cfg.hsmSuffixes()...) {
		cfg.Names = append(cfg.Names, "*."+suffix)
	}
	cfg.Certify = func(public crypto.PublicKey, names []string) ([][]byte, error) {
		return s.ca.IssueSigner("Strongroom key release", names, public)
	}
	if len(s.cfg.ReleaseAuthorities) == 0 {
		return cfg, nil
	}
	roots, err := authoritiesOf(s.cfg.ReleaseCA)
	if err != nil {
		return cfg, err
	}
	cfg.Verifier, err = release.NewVerifier(release.Config{Authorities: s.cfg.ReleaseAuthorities, RootCAs: roots, Now: s.now})
	return cfg, err
}

// openCA opens the local certificate authority and writes what clients need of it. It makes one if none fits, so it is
// for who goes on to serve.
func (s *state) openCA(ctx context.Context) (err error) {
	domains := slices.Concat([]string{s.cfg.Domain}, s.cfg.Aliases, s.cfg.HSMAliases)
	if s.ca, err = pki.OpenLocalCA(ctx, s.db, domains, s.now); err != nil {
		return err
	}
	path := filepath.Join(s.cfg.Data, caFile)
	if s.ca.Replaced() && s.cfg.TLS.Certificate == "" {
		s.log.Warn("a new local certificate authority was made, because none that there was may sign for all domains: "+
			"clients must trust it too", "domains", domains, "file", path)
	}
	pem := s.ca.PEM()
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, pem) {
		return nil
	}
	return ReplaceFile(path, pem, 0o644)
}

func (s *state) openStore(ctx context.Context, create bool) error {
	path := filepath.Join(s.cfg.Data, databaseFile)
	if _, err := os.Stat(path); err != nil && !create {
		return fmt.Errorf("%s holds no Strongroom data: run `strongroom init` first (%w)", s.cfg.Data, err)
	}
	if err := checkFolder(s.cfg.Data); err != nil {
		return err
	}
	root, err := s.cfg.RootKey.open()
	if err != nil {
		return err
	}
	if s.bolt, err = bolt.Open(path, nil); err != nil {
		return err
	}
	s.closers = append(s.closers, s.bolt.Close)
	s.db, err = seal.Open(ctx, s.bolt, root)
	if create && errors.Is(err, seal.ErrNotInitialized) {
		if err := seal.Init(ctx, s.bolt, root); err != nil {
			return err
		}
		s.db, err = seal.Open(ctx, s.bolt, root)
	}
	return err
}

func (s *state) openIdentity(ctx context.Context, tenantID string) error {
	var federation []string
	for _, i := range s.cfg.Issuers {
		federation = append(federation, i.Issuer)
	}
	var err error
	s.directory, err = identity.Open(ctx, identity.Config{
		DB: s.db, TenantID: tenantID, FederationIssuers: federation, Now: s.now,
	})
	if err != nil {
		return err
	}
	s.authority, err = identity.NewAuthority(ctx, s.directory, identity.AuthorityConfig{LoginHost: "login." + s.cfg.Domain})
	if err != nil {
		return err
	}
	for _, i := range s.cfg.Issuers {
		issuer, err := s.openIssuer(i)
		if err != nil {
			return fmt.Errorf("issuer %s: %w", i.Issuer, err)
		}
		s.external = append(s.external, issuer)
	}
	s.verifier, err = identity.NewVerifier(identity.VerifierConfig{
		Authority: s.authority,
		Audiences: identity.NewAudiences(s.resourceHosts(), slices.Concat(vaultAudiences, hsmAudiences)),
		External:  s.external,
	})
	return err
}

func (s *state) openIssuer(i IssuerConfig) (*identity.ExternalIssuer, error) {
	cfg := identity.ExternalIssuerConfig{
		Issuer:     i.Issuer,
		TenantID:   i.Tenant,
		Algorithms: i.Algorithms,
		Now:        s.now,
	}
	if i.Tenant == "" {
		cfg.TenantID, cfg.ObjectIDFromSubject = s.directory.TenantID(), true
	}
	if !i.FederationOnly {
		cfg.Audiences = identity.NewAudiences(nil, i.Audiences)
	}
	var err error
	if cfg.RootCAs, err = authoritiesOf(i.CA); err != nil {
		return nil, err
	}
	issuer, err := identity.NewExternalIssuer(cfg)
	if err != nil {
		return nil, err
	}
	// Vaults belong to the installation's tenant. Principals of another would pass every check of their tokens and then
	// be denied everything, which nobody would find the cause of.
	if tenant := s.directory.TenantID(); !i.FederationOnly && !strings.EqualFold(cfg.TenantID, tenant) {
		return nil, fmt.Errorf("tenant: %s is not the tenant of this installation, %s, so its principals could use no vault; "+
			"make the installation with `strongroom init --tenant %[1]s`, or set federationOnly", i.Tenant, tenant)
	}
	return issuer, nil
}

// vaultAudiences and hsmAudiences are the resources of the public cloud that some clients ask the embedded token service for, whatever
// the challenge says. They are accepted from the embedded issuer only, whose tokens nobody else could have obtained.
var (
	vaultAudiences = []string{"https://vault.azure.net", "https://vault.azure.net/"}
	hsmAudiences   = []string{"https://managedhsm.azure.net", "https://managedhsm.azure.net/"}
)

// resourceHosts are the hosts whose tokens a vault or a managed HSM accepts.
func (s *state) resourceHosts() []string {
	return append(s.cfg.suffixes(), s.cfg.hsmSuffixes()...)
}

func (s *state) close() error {
	var errs []error
	for i := len(s.closers) - 1; i >= 0; i-- {
		errs = append(errs, s.closers[i]())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// ReplaceFile writes a file in one step, so that a reader sees the old content or the new, also after a power loss.
func ReplaceFile(path string, content []byte, mode os.FileMode) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it was renamed
	_, err = f.Write(content)
	if err == nil {
		err = f.Chmod(mode)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(path))
}

// syncFolder makes the names in a folder durable.
func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// makeFolder makes the data folder, or checks that an existing one is private.
func makeFolder(path string) error {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return err
	}
	return checkFolder(path)
}

// checkFolder refuses a data folder that others than its owner can reach.
func checkFolder(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("the data folder %s has mode %04o: others than its owner can reach it; run chmod 700", path, info.Mode().Perm())
	}
	return nil
}
