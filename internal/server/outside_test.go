package server_test

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
	"github.com/strongroom/strongroom/strongroomtest"
)

type claims = map[string]any

// An outsideIssuer is a real OpenID issuer on loopback that signs whatever a test likes.
type outsideIssuer struct {
	url, caFile string
	signer      jose.Signer
}

func newOutsideIssuer(t *testing.T) *outsideIssuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	o := &outsideIssuer{caFile: filepath.Join(t.TempDir(), "ca.pem")}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": o.url, "jwks_uri": o.url + "/keys"})
	})
	mux.HandleFunc("GET /keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: &key.PublicKey, KeyID: "k", Use: "sig"}}})
	})
	srv := httptest.NewTLSServer(mux)
	t.Cleanup(srv.Close)
	o.url = srv.URL
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})
	if err := os.WriteFile(o.caFile, block, 0o600); err != nil {
		t.Fatal(err)
	}
	o.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// config is the issuer's entry in the configuration.
func (o *outsideIssuer) config(more string) string {
	return fmt.Sprintf("{issuer: '%s', audiences: [strongroom, 'https://management.localhost'], ca: '%s'%s}", o.url, o.caFile, more)
}

func (o *outsideIssuer) token(t *testing.T, c claims) string {
	t.Helper()
	now := time.Now().Unix()
	all := claims{"iss": o.url, "aud": "strongroom", "iat": now - 5, "exp": now + 600, "sub": "mallory"}
	for name, v := range c {
		all[name] = v
	}
	raw, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := o.signer.Sign(raw)
	if err != nil {
		t.Fatal(err)
	}
	token, err := signed.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// administrator is what `strongroom app outside-id` prints for --administrator.
func (o *outsideIssuer) administrator(t *testing.T, subject, group string) string {
	t.Helper()
	id, err := server.OutsideID(o.url, subject, group)
	if err != nil {
		t.Fatal(err)
	}
	return id.Administrator
}

type attempt struct {
	name string
	by   *outsideIssuer
	say  claims
	want int
}

func tryAll(t *testing.T, s *strongroomtest.Server, attempts []attempt) {
	t.Helper()
	for _, a := range attempts {
		if status, body := call(t, s, a.by.token(t, a.say), "GET", "/secrets", ""); status != a.want {
			t.Errorf("%s: status %d, want %d: %s", a.name, status, a.want, body)
		}
	}
}

// TestOutsidePrincipals: of two issuers without a tenant, only the principal and the group that were meant get in.
func TestOutsidePrincipals(t *testing.T) {
	t.Parallel()
	const subject = "system:serviceaccount:default:app"
	a, b := newOutsideIssuer(t), newOutsideIssuer(t)
	s := strongroomtest.Start(t, &strongroomtest.Options{Config: "issuers: [" + a.config("") + ", " + b.config("") + "]"})
	deleted := s.CreatePrincipal(t, "leaver")
	principal, group := a.administrator(t, subject, ""), a.administrator(t, "", "admins")
	s.VaultURL = s.CreateVault(t, "outside", principal, group, deleted.ObjectID)
	deleteApp(t, s, deleted.ClientID)

	tryAll(t, s, []attempt{
		{"the administrator", a, claims{"sub": subject}, http.StatusOK},
		{"a member of the group", a, claims{"groups": []string{"others", "admins"}}, http.StatusOK},
		{"the administrator, with a token for the management plane", a, claims{"sub": subject, "aud": "https://management.localhost"},
			http.StatusUnauthorized},
		{"nobody", a, nil, http.StatusForbidden},
		{"the same subject at another issuer", b, claims{"sub": subject}, http.StatusForbidden},
		{"the same group at another issuer", b, claims{"groups": []string{"admins"}}, http.StatusForbidden},
		{"the group's name as subject", a, claims{"sub": "admins"}, http.StatusForbidden},
		{"the subject as group", a, claims{"groups": []string{subject}}, http.StatusForbidden},
		{"a claimed object id", b, claims{"oid": principal}, http.StatusForbidden},
		{"a claimed group id", b, claims{"groups": []string{strings.TrimPrefix(group, "group:")}}, http.StatusForbidden},
		{"the group's entry as object id", b, claims{"oid": group, "sub": group}, http.StatusForbidden},
		{"the group's entry as group", b, claims{"groups": []string{group}}, http.StatusForbidden},
		{"the principal's object id as group", b, claims{"groups": []string{principal}}, http.StatusForbidden},
		{"the object id of the directory's administrator", a, claims{"oid": s.ObjectID}, http.StatusUnauthorized},
		{"the same as subject", a, claims{"sub": strings.ToUpper(s.ObjectID)}, http.StatusUnauthorized},
		{"the same as group", a, claims{"groups": []string{s.ObjectID}}, http.StatusUnauthorized},
		{"the object id of a deleted application", a, claims{"oid": deleted.ObjectID}, http.StatusUnauthorized},
		{"the same as group", a, claims{"groups": []string{deleted.ObjectID}}, http.StatusUnauthorized},
	})
}

// TestIssuerOfTheTenant: an issuer with the tenant of the installation brings object ids of its own, but not the
// directory's, and no group is taken for a principal or the other way round.
func TestIssuerOfTheTenant(t *testing.T) {
	t.Parallel()
	const user, group = "22222222-0000-4000-8000-000000000001", "33333333-0000-4000-8000-000000000001"
	dir := filepath.Join(t.TempDir(), "data")
	first := strongroomtest.Start(t, &strongroomtest.Options{Dir: dir})
	tenant := first.TenantID
	if err := first.Stop(); err != nil {
		t.Fatal(err)
	}
	entra, cluster := newOutsideIssuer(t), newOutsideIssuer(t)
	s := strongroomtest.Start(t, &strongroomtest.Options{Dir: dir, Config: "issuers: [" +
		entra.config(", tenant: "+strings.ToUpper(tenant)) + ", " + cluster.config("") + "]"})
	deleted := s.CreatePrincipal(t, "leaver")
	ofCluster := cluster.administrator(t, "app", "")
	s.VaultURL = s.CreateVault(t, "outside", user, "group:"+group, deleted.ObjectID, ofCluster)
	deleteApp(t, s, deleted.ClientID)

	const other = "44444444-0000-4000-8000-000000000001"
	say := func(oid string, groups ...string) claims {
		return claims{"tid": tenant, "oid": oid, "groups": append([]string{}, groups...)}
	}
	tryAll(t, s, []attempt{
		{"the administrator", entra, say(user), http.StatusOK},
		{"a member of the group", entra, say(other, "x", strings.ToUpper(group)), http.StatusOK},
		{"nobody", entra, say(other), http.StatusForbidden},
		{"the administrator's object id as group", entra, say(other, user), http.StatusForbidden},
		{"the group's object id as principal", entra, say(group), http.StatusForbidden},
		{"the group's entry as principal", entra, say("group:" + group), http.StatusUnauthorized},
		{"the directory's administrator", entra, say(s.ObjectID), http.StatusUnauthorized},
		{"the same as group", entra, say(other, s.ObjectID), http.StatusUnauthorized},
		{"a deleted application", entra, say(deleted.ObjectID), http.StatusUnauthorized},
		{"the same as group", entra, say(other, strings.ToUpper(deleted.ObjectID)), http.StatusUnauthorized},
		{"a principal of the other issuer", entra, say(ofCluster), http.StatusUnauthorized},
		{"the same as group", entra, say(other, ofCluster), http.StatusUnauthorized},
		{"no tenant", entra, claims{"oid": user}, http.StatusUnauthorized},
		{"other tenant", entra, claims{"oid": user, "tid": other}, http.StatusUnauthorized},
		{"the other issuer's own", cluster, claims{"sub": "app"}, http.StatusOK},
		{"the other issuer with this one's ids", cluster, claims{"oid": user, "sub": user, "groups": []string{group}}, http.StatusForbidden},
	})
}

// deleteApp deletes an application as the operator does.
func deleteApp(t *testing.T, s *strongroomtest.Server, clientID string) {
	t.Helper()
	if err := admin.NewClient(s.Dir).Do(t.Context(), http.MethodDelete, "/apps/"+clientID, nil, nil); err != nil {
		t.Fatal(err)
	}
}

// TestIssuerOfAnotherTenant: an issuer whose principals could use no vault is an error of the configuration, unless it is
// there for federated credentials.
func TestIssuerOfAnotherTenant(t *testing.T) {
	t.Parallel()
	const foreign = "0a1b2c3d-0000-4000-8000-00000000000f"
	open := func(more string) error {
		dir := filepath.Join(t.TempDir(), "data")
		cfg, err := server.DevConfig(dir, []string{"127.0.0.1:0"})
		if err != nil {
			t.Fatal(err)
		}
		cfg.Operations.Listen, cfg.ManagedIdentity.Listen = "-", ""
		if _, err := server.Init(t.Context(), cfg, server.Options{}, ""); err != nil {
			t.Fatal(err)
		}
		if err := cfg.Merge([]byte("issuers: [{issuer: 'https://i.example', audiences: [a], tenant: " + more + "}]")); err != nil {
			return err
		}
		srv, err := server.Open(context.WithoutCancel(t.Context()), cfg, server.Options{})
		if err == nil {
			err = srv.Close()
		}
		return err
	}
	for more, want := range map[string]string{
		foreign: "strongroom init --tenant " + foreign, "contoso": `tenant: "contoso" is not a GUID`,
		"contoso, federationOnly: true": `tenant: "contoso" is not a GUID`,
	} {
		if err := open(more); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("tenant: %s: got %v, want …%s…", more, err, want)
		}
	}
	if err := open(foreign + ", federationOnly: true"); err != nil {
		t.Error(err)
	}
}
