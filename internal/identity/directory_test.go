package identity

import (
	"crypto/elliptic"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/store"
)

func TestApplications(t *testing.T) {
	t.Parallel()
	in := install(t)
	made := make(map[string]*Application)
	for i := range 7 {
		n := NewApplication{DisplayName: fmt.Sprintf("app %d", i)}
		if i%2 == 1 {
			n.Kind, n.ResourceID = KindManagedIdentity, fmt.Sprintf("/subscriptions/x/identities/%d", i)
		}
		app, err := in.dir.CreateApplication(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		made[app.ClientID] = app
	}
	listed := make(map[string]*Application)
	for after := ""; ; {
		page, next, err := in.dir.Applications(t.Context(), after, 3)
		if err != nil {
			t.Fatal(err)
		}
		for _, app := range page {
			listed[app.ClientID] = app
		}
		if after = next; next == "" {
			break
		}
	}
	if diff := cmp.Diff(made, listed); diff != "" {
		t.Errorf("listed (-made +listed):\n%s", diff)
	}
	for id, app := range made {
		byID, err := in.dir.Application(t.Context(), strings.ToUpper(id))
		if err != nil {
			t.Fatal(err)
		}
		byObject, err := in.dir.ApplicationByObjectID(t.Context(), app.ObjectID)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(byID, byObject); diff != "" {
			t.Error(diff)
		}
		if err := in.dir.DeleteApplication(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		_, err = in.dir.Application(t.Context(), id)
		wantKind(t, err, NotFound)
		_, err = in.dir.ApplicationByObjectID(t.Context(), app.ObjectID)
		wantKind(t, err, NotFound)
		wantKind(t, in.dir.DeleteApplication(t.Context(), id), NotFound)
	}
}

func TestCreateApplicationRefuses(t *testing.T) {
	t.Parallel()
	in := install(t)
	app := in.app(t)
	for name, c := range map[string]struct {
		n    NewApplication
		kind Kind
	}{
		"client id taken":    {NewApplication{DisplayName: "x", ClientID: app.ClientID}, Conflict},
		"object id taken":    {NewApplication{DisplayName: "x", ObjectID: strings.ToUpper(app.ObjectID)}, Conflict},
		"no name":            {NewApplication{}, Invalid},
		"long name":          {NewApplication{DisplayName: strings.Repeat("x", MaxDisplayName+1)}, Invalid},
		"control character":  {NewApplication{DisplayName: "a\x1b[2J"}, Invalid},
		"client id in brace": {NewApplication{DisplayName: "x", ClientID: "{" + app.ClientID + "}"}, Invalid},
		"client id is path":  {NewApplication{DisplayName: "x", ClientID: "../tenant"}, Invalid},
		"kind":               {NewApplication{DisplayName: "x", Kind: "user"}, Invalid},
		"resource id":        {NewApplication{DisplayName: "x", ResourceID: "/x"}, Invalid},
	} {
		_, err := in.dir.CreateApplication(t.Context(), c.n)
		if !isKind(err, c.kind) {
			t.Errorf("%s: got %v, want kind %q", name, err, c.kind)
		}
	}
}

func TestTenantIsFixed(t *testing.T) {
	t.Parallel()
	const id = "0A1B2C3D-0000-4000-8000-000000000001"
	db := openStore(t)
	dir, err := Open(t.Context(), Config{DB: db, TenantID: id})
	if err != nil {
		t.Fatal(err)
	}
	if got := dir.TenantID(); got != strings.ToLower(id) {
		t.Errorf("tenant %s", got)
	}
	_, err = Open(t.Context(), Config{DB: db, TenantID: "11111111-0000-4000-8000-000000000001"})
	wantKind(t, err, Conflict)
	again, err := Open(t.Context(), Config{DB: db})
	if err != nil || again.TenantID() != dir.TenantID() {
		t.Errorf("reopened: %v, tenant %s", err, again.TenantID())
	}
}

func TestRecordsOfANewerReleaseAreRefused(t *testing.T) {
	t.Parallel()
	in := install(t)
	app := in.app(t)
	const head = `{"v":1,"clientId":"x","objectId":"x","displayName":"x","kind":"application","created":"2027-01-01T00:00:00Z"`
	for name, raw := range map[string]string{
		"version": `{"v":2,"clientId":"` + app.ClientID + `"}`,
		"member":  head + `,"disabled":true}`,
		"damaged": `{"v":1,`,
		"garbage": head + `}x`,
	} {
		err := in.db.Update(t.Context(), func(tx store.Tx) error { return tx.Put(prefixApp+app.ClientID, []byte(raw)) })
		if err != nil {
			t.Fatal(err)
		}
		if _, err := in.dir.Application(t.Context(), app.ClientID); err == nil || isKind(err, NotFound) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestClientSecrets(t *testing.T) {
	t.Parallel()
	in := install(t)
	app, other := in.app(t), in.app(t)
	credential, secret, err := in.dir.AddClientSecret(t.Context(), app.ClientID, "ci", 24*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	text := secret.Reveal()
	if !strings.HasPrefix(text, "srs_") || len(text) != 4+43 || credential.Hint != text[4:7] {
		t.Errorf("secret has %d bytes, hint %q", len(text), credential.Hint)
	}
	got, id, err := in.dir.VerifyClientSecret(t.Context(), app.ClientID, text)
	if err != nil || got.ClientID != app.ClientID || id != credential.ID {
		t.Fatalf("got %v, %s, %v", got, id, err)
	}
	for name, c := range map[string]struct {
		client, secret string
		want           error
	}{
		"wrong":             {app.ClientID, text + "x", ErrWrongSecret},
		"empty":             {app.ClientID, "", ErrWrongSecret},
		"huge":              {app.ClientID, strings.Repeat(text, 1000), ErrWrongSecret},
		"of another":        {other.ClientID, text, ErrWrongSecret},
		"unknown":           {"11111111-2222-4333-8444-555555555555", text, ErrUnknownApplication},
		"client id no GUID": {"../tenant", text, ErrUnknownApplication},
	} {
		if _, _, err := in.dir.VerifyClientSecret(t.Context(), c.client, c.secret); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v, want %v", name, err, c.want)
		}
	}
	if _, _, err := in.dir.VerifyIdentityHeader(t.Context(), text); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("a client secret as identity header: %v", err)
	}
	wantNowhere(t, in.db, text)

	in.clock.Advance(24 * time.Hour)
	if _, _, err := in.dir.VerifyClientSecret(t.Context(), app.ClientID, text); !errors.Is(err, ErrExpiredSecret) {
		t.Errorf("expired: %v", err)
	}
	if err := in.dir.RemoveCredential(t.Context(), app.ClientID, credential.ID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.dir.VerifyClientSecret(t.Context(), app.ClientID, text); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("removed: %v", err)
	}
	wantKind(t, in.dir.RemoveCredential(t.Context(), app.ClientID, credential.ID), NotFound)
	_, _, err = in.dir.AddClientSecret(t.Context(), app.ClientID, "", MaxSecretLife+1)
	wantKind(t, err, Invalid)
}

// wantNowhere looks for a secret in every value of the store.
func wantNowhere(t *testing.T, db store.DB, secret string) {
	t.Helper()
	err := db.View(t.Context(), func(r store.Reader) error {
		for e, err := range r.Scan("a", "") {
			if err != nil {
				return err
			}
			if strings.Contains(e.Key+string(e.Value), secret[4:]) {
				t.Errorf("the secret is in the store under %s", e.Key)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCredentialsAreBounded(t *testing.T) {
	t.Parallel()
	in := install(t)
	app := in.app(t)
	for range MaxCredentials {
		if _, _, err := in.dir.AddClientSecret(t.Context(), app.ClientID, "", 0); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := in.dir.AddClientSecret(t.Context(), app.ClientID, "", 0)
	wantKind(t, err, Conflict)
}

func TestIdentityHeader(t *testing.T) {
	t.Parallel()
	in := install(t)
	mi, err := in.dir.CreateApplication(t.Context(), NewApplication{DisplayName: "vm", Kind: KindManagedIdentity})
	if err != nil {
		t.Fatal(err)
	}
	credential, secret, err := in.dir.AddIdentityHeader(t.Context(), mi.ClientID, "")
	if err != nil {
		t.Fatal(err)
	}
	app, id, err := in.dir.VerifyIdentityHeader(t.Context(), secret.Reveal())
	if err != nil || app.ClientID != mi.ClientID || id != credential.ID {
		t.Errorf("got %v, %s, %v", app, id, err)
	}
	wantNowhere(t, in.db, secret.Reveal())
	if err := in.dir.RemoveCredential(t.Context(), mi.ClientID, id); err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.dir.VerifyIdentityHeader(t.Context(), secret.Reveal()); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("removed: %v", err)
	}
	_, secret, err = in.dir.AddIdentityHeader(t.Context(), mi.ClientID, "")
	if err != nil {
		t.Fatal(err)
	}
	if err := in.dir.DeleteApplication(t.Context(), mi.ClientID); err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.dir.VerifyIdentityHeader(t.Context(), secret.Reveal()); !errors.Is(err, ErrWrongSecret) {
		t.Errorf("deleted: %v", err)
	}
	_, _, err = in.dir.AddIdentityHeader(t.Context(), in.app(t).ClientID, "")
	wantKind(t, err, Invalid)
}

func TestAddCertificate(t *testing.T) {
	t.Parallel()
	in := install(t)
	app := in.app(t)
	now := in.clock.Now()
	key := newRSA(t, 2048)
	der := selfSigned(t, key, now.Add(-time.Hour), now.Add(time.Hour))
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	c, err := in.dir.AddCertificate(t.Context(), app.ClientID, "ci", block)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Thumbprint) != 64 || !c.Expires.Equal(now.Add(time.Hour)) {
		t.Errorf("thumbprint %q, expires %v", c.Thumbprint, c.Expires)
	}
	_, err = in.dir.AddCertificate(t.Context(), app.ClientID, "again", der)
	wantKind(t, err, Conflict)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{
		"EC":          selfSigned(t, newEC(t, elliptic.P256()), now.Add(-time.Hour), now.Add(time.Hour)),
		"RSA-1024":    selfSigned(t, newRSA(t, 1024), now.Add(-time.Hour), now.Add(time.Hour)),
		"expired":     selfSigned(t, key, now.Add(-time.Hour), now),
		"private key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		"garbage":     []byte("garbage"),
		"empty":       nil,
		"huge":        make([]byte, maxCertificate+1),
	} {
		_, err := in.dir.AddCertificate(t.Context(), app.ClientID, "", data)
		if !isKind(err, Invalid) {
			t.Errorf("%s: got %v", name, err)
		}
		if name == "EC" && (err == nil || !strings.Contains(err.Error(), "ECDSA")) {
			t.Errorf("the refusal of an EC key does not say so: %v", err)
		}
	}
}

func TestAddFederatedCredential(t *testing.T) {
	t.Parallel()
	const issuer = "https://issuer.example.org"
	dir, err := Open(t.Context(), Config{DB: openStore(t), FederationIssuers: []string{issuer}})
	if err != nil {
		t.Fatal(err)
	}
	app, err := dir.CreateApplication(t.Context(), NewApplication{DisplayName: "x"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := dir.AddFederatedCredential(t.Context(), app.ClientID, "", issuer, "system:serviceaccount:ns:web", "")
	if err != nil || c.Audience != DefaultFederatedAudience {
		t.Errorf("got %+v, %v", c, err)
	}
	for name, c := range map[string]struct{ issuer, subject string }{
		"unknown issuer": {"https://other.example.org", "x"},
		"slash":          {issuer + "/", "x"},
		"plain http":     {"http://issuer.example.org", "x"},
		"no subject":     {issuer, ""},
	} {
		if _, err := dir.AddFederatedCredential(t.Context(), app.ClientID, "", c.issuer, c.subject, ""); !isKind(err, Invalid) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	_, err = dir.AddFederatedCredential(t.Context(), app.ClientID, "", issuer, "system:serviceaccount:ns:web", "")
	wantKind(t, err, Conflict)
}

func TestSecretPrintsRedacted(t *testing.T) {
	t.Parallel()
	const text = "srs_open-sesame"
	s := NewSecret(text)
	raw, err := json.Marshal(map[string]any{"s": s})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", s, "token", &Token{Text: s})
	for _, out := range []string{
		string(raw), log.String(), fmt.Sprint(s), fmt.Sprintf("%s %q %v %+v %#v %x %d", s, s, s, s, s, s, s),
		fmt.Sprintf("%+v %#v", Token{Text: s}, struct{ S Secret }{s}),
	} {
		if strings.Contains(out, "sesame") || strings.Contains(out, fmt.Sprintf("%x", text)) || !strings.Contains(out, redacted) {
			t.Errorf("printed as %s", out)
		}
	}
}
