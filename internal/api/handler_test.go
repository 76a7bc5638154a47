package api_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/api"
	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/managedhsm"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/bolt"
	"github.com/strongroom/strongroom/internal/wire"
)

// A testHandler is a handler over a real store, without a network, and a token that its vault accepts.
type testHandler struct {
	*api.Handler
	db        *seal.DB
	resources *resource.Service
	service   *keyvault.Service
	token     string
	caller    *identity.Caller
	host      string
	principal func(name string) (token, objectID string) // makes another one
}

// newHandler returns a handler with one vault, named "test", or of that tier one managed HSM.
func newHandler(tb testing.TB, tier resource.Tier) *testHandler {
	tb.Helper()
	return newHandlerOn(tb, tier, hsm.NewSoftware(hsm.SoftwareConfig{}))
}

func newHandlerOn(tb testing.TB, tier resource.Tier, provider hsm.Provider) *testHandler {
	tb.Helper()
	ctx, dir := tb.Context(), tb.TempDir()
	must := func(err error) {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
	}
	file, err := bolt.Open(filepath.Join(dir, "store.db"), nil)
	must(err)
	root, err := seal.ParseRootKey(seal.GenerateRootKey())
	must(err)
	must(seal.Init(ctx, file, root))
	db, err := seal.Open(ctx, file, root)
	must(err)
	log, err := audit.Open(audit.Config{Writer: io.Discard, SyncEvery: time.Second})
	must(err)
	tb.Cleanup(func() {
		if err := errors.Join(log.Close(), db.Close()); err != nil {
			tb.Error(err)
		}
	})
	h := &testHandler{db: db}
	directory, err := identity.Open(ctx, identity.Config{DB: db})
	must(err)
	h.resources, err = resource.Open(ctx, resource.Config{DB: db, Audit: log, TenantID: directory.TenantID(), Purged: keyvault.Purged})
	must(err)
	h.service = keyvault.New(keyvault.Config{DB: db, Audit: log, Resources: h.resources, HSM: provider})
	authority, err := identity.NewAuthority(ctx, directory, identity.AuthorityConfig{LoginHost: "login.localhost"})
	must(err)
	h.principal = func(name string) (token, objectID string) {
		app, err := directory.CreateApplication(ctx, identity.NewApplication{DisplayName: name, Kind: identity.KindApplication})
		must(err)
		issued, err := authority.IssueToken(ctx, identity.TokenRequest{
			Application: app, Audience: "https://vault.localhost", Host: "login.localhost", Version: 2, Proof: identity.ProofSecret,
		})
		must(err)
		return issued.Text.Reveal(), app.ObjectID
	}
	token, objectID := h.principal("test")
	verifier, err := identity.NewVerifier(identity.VerifierConfig{
		Authority: authority, Audiences: identity.NewAudiences([]string{"vault.localhost", "managedhsm.localhost"}, nil),
	})
	must(err)
	h.token = token
	h.caller, err = verifier.Verify(ctx, h.token)
	must(err)
	if tier == resource.ManagedHSM {
		h.host = "test.managedhsm.localhost"
		must(h.makeHSM(ctx, db, directory.TenantID(), objectID))
	} else {
		h.host = "test.vault.localhost"
		_, err = h.resources.CreateVault(ctx, resource.Actor{Operator: "test"}, "g", "test", resource.PutVaultParams{
			Location: "here", Tier: tier, RetentionDays: new(7), Administrators: []string{objectID},
		})
		must(err)
	}
	h.Handler = api.New(api.Config{
		Service: h.service, HSMs: managedhsm.New(managedhsm.Config{DB: db, Audit: log, Resources: h.resources}),
		Resources: h.resources, Verifier: verifier, Suffixes: []string{"vault.localhost"}, HSMSuffixes: []string{"managedhsm.localhost"},
		Authority: func(string) string { return "https://login.localhost/tenant" }, Region: "here",
		Observe:     func(context.Context, *wire.Outcome) error { return nil },
		MaxInFlight: 100, Logger: slog.New(slog.DiscardHandler), Now: time.Now,
	})
	return h
}

// makeHSM makes an activated managed HSM, with all of whose keys a principal may do everything.
func (h *testHandler) makeHSM(ctx context.Context, db *seal.DB, tenant, principal string) error {
	_, _, err := h.resources.PutHSM(ctx, resource.Actor{Operator: "test"}, "g", "test", resource.PutHSMParams{
		Location: "here", SKUName: "Standard_B1", TenantID: tenant, RetentionDays: new(7), Administrators: []string{principal},
	})
	if err != nil {
		return err
	}
	domain, err := sdomain.NewDomainKeys()
	if err != nil {
		return err
	}
	return db.Update(ctx, func(tx store.Tx) error {
		v, err := h.resources.LoadHSM(tx, "test")
		if err != nil {
			return err
		}
		if err := h.resources.Activate(tx, v, domain); err != nil {
			return err
		}
		for _, role := range []string{authz.RoleHSMCryptoUser, authz.RoleHSMCryptoOfficer} {
			err = errors.Join(err, record.Put(tx, resource.LocalPrefix(v.ContentID())+"assignment/"+role, map[string]any{
				"v": 1, "id": role, "scope": "/", "principalId": principal, "roleId": role, "created": 1,
			}))
		}
		return err
	})
}

// send sends one request past the network.
func (h *testHandler) send(tb testing.TB, method, path, token, body string) *httptest.ResponseRecorder {
	url := "https://" + h.host + path + "?api-version=7.6"
	r, err := http.NewRequestWithContext(tb.Context(), method, url, strings.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	r.RemoteAddr = "127.0.0.1:40000"
	r.Header.Set("Authorization", "Bearer "+token)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// do sends a request of the vault's administrator and returns the answer.
func (h *testHandler) do(tb testing.TB, method, path, body string) (status int, answer string) {
	w := h.send(tb, method, path, h.token, body)
	return w.Code, w.Body.String()
}
