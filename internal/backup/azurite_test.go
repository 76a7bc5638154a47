//go:build azurite

package backup_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"

	"github.com/strongroom/strongroom/internal/backup"
)

// azurite is the storage that the e2e tests start. These tests are compiled and run by them: `make test`, or after
// `make tools`, in the folder e2e, `go test -run Azurite`.
type azurite struct {
	url     string // with the account
	roots   *x509.CertPool
	account string
	key     *blob.SharedKeyCredential
}

func useAzurite(t *testing.T) *azurite {
	t.Helper()
	a := &azurite{url: os.Getenv("STRONGROOM_AZURITE_URL"), account: os.Getenv("STRONGROOM_AZURITE_ACCOUNT"), roots: x509.NewCertPool()}
	authority, err := os.ReadFile(os.Getenv("STRONGROOM_AZURITE_CA"))
	if err != nil || !a.roots.AppendCertsFromPEM(authority) {
		t.Fatalf("STRONGROOM_AZURITE_CA: %v: run these tests by way of e2e, after `make tools`", err)
	}
	if a.key, err = blob.NewSharedKeyCredential(a.account, os.Getenv("STRONGROOM_AZURITE_KEY")); err != nil {
		t.Fatal(err)
	}
	return a
}

// newContainer makes a container and returns a function that deletes it.
func (a *azurite) newContainer(t *testing.T, name string) (remove func()) {
	t.Helper()
	token, err := sas.AccountSignatureValues{
		Protocol: sas.ProtocolHTTPS, ExpiryTime: time.Now().Add(time.Hour), Permissions: "rwdlc", ResourceTypes: "co",
	}.SignWithSharedKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: a.roots}}, Timeout: time.Minute}
	request := func(method string, want int) {
		t.Helper()
		req, err := http.NewRequest(method, a.url+"/"+name+"?restype=container&"+token.Encode(), nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("x-ms-version", "2022-11-02")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Fatalf("%s %s: %s", method, name, resp.Status)
		}
	}
	request(http.MethodPut, http.StatusCreated)
	return func() { request(http.MethodDelete, http.StatusAccepted) }
}

// token is a SAS token for a container.
func (a *azurite) token(t *testing.T, container, permissions string, expires time.Time) string {
	t.Helper()
	token, err := sas.BlobSignatureValues{
		Protocol: sas.ProtocolHTTPS, ExpiryTime: expires, Permissions: permissions, ContainerName: container,
	}.SignWithSharedKey(a.key)
	if err != nil {
		t.Fatal(err)
	}
	return token.Encode()
}

func (a *azurite) open(t *testing.T, container string, access backup.Access, now func() time.Time) *backup.Container {
	t.Helper()
	host := strings.Split(strings.TrimPrefix(a.url, "https://"), "/")[0]
	s, err := backup.NewStorage(backup.Config{Hosts: []string{host}, RootCAs: a.roots, RetryDelay: time.Millisecond, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Container(a.url+"/"+container, access)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (a *azurite) full(t *testing.T, container string) *backup.Container {
	t.Helper()
	return a.open(t, container, backup.Access{SAS: "?" + a.token(t, container, "rwdlc", time.Now().Add(time.Hour))}, nil)
}

func TestAzuriteRoundTrip(t *testing.T) {
	t.Parallel()
	a := useAzurite(t)
	a.newContainer(t, "round-trip")
	c := a.full(t, "round-trip")
	for _, all := range [][]backup.Record{nil, records(300, 3, 300), records(3, 3, backup.ChunkSize-100)} {
		w, err := backup.Begin(t.Context(), c, domain("d1"), "pool", keepNothing)
		if err != nil {
			t.Fatal(err)
		}
		if len(all) > 100 {
			w.SetChunkSize(1000)
		}
		m, err := finish(t.Context(), w, all)
		if err != nil {
			t.Fatal(err)
		}
		got, err := read(t, c, w.Folder(), "")
		if err != nil {
			t.Fatal(err)
		}
		wantRecords(t, got, all)
		if err := c.CheckRestore(t.Context(), w.Folder(), domain("d1")); err != nil {
			t.Error(err)
		}
		wantCode(t, c.CheckRestore(t.Context(), w.Folder(), domain("d2")), backup.WrongDomain)
		t.Logf("%d records in %d blobs and %d indexes", m.Records, m.Chunks, len(m.Indexes))
	}
	if err := c.CheckBackup(t.Context()); err != nil {
		t.Error(err)
	}
	wantCode(t, c.CheckRestore(t.Context(), "mhsm-pool-1", domain("d1")), backup.NotFound)
}

// TestAzuriteResume goes on with a backup that was ended, while the one that was thought dead goes on too.
func TestAzuriteResume(t *testing.T) {
	t.Parallel()
	a := useAzurite(t)
	a.newContainer(t, "resume")
	c := a.full(t, "resume")
	all := records(30, 3, 300)
	var s backup.State
	dead, err := backup.Begin(t.Context(), c, domain("d1"), "pool", func(_ context.Context, kept backup.State) error { s = kept; return nil })
	if err != nil {
		t.Fatal(err)
	}
	dead.SetChunkSize(1000)
	for _, r := range all[:50] {
		if err := dead.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	w, err := backup.Resume(c, domain("d1"), s, keepNothing)
	if err != nil {
		t.Fatal(err)
	}
	w.SetChunkSize(1000)
	m, err := finish(t.Context(), w, all[slices.IndexFunc(all, func(r backup.Record) bool { return r.Name > s.Last }):])
	if err != nil {
		t.Fatal(err)
	}
	if again, err := finish(t.Context(), dead, all[50:]); err != nil || again.ID != m.ID || !again.Finished.Equal(m.Finished) {
		t.Errorf("%+v, %v", again, err)
	}
	got, err := read(t, c, s.Folder, "")
	if err != nil {
		t.Fatal(err)
	}
	wantRecords(t, got, all)
}

func TestAzuriteDiscard(t *testing.T) {
	t.Parallel()
	a := useAzurite(t)
	a.newContainer(t, "discard")
	c := a.full(t, "discard")
	var s backup.State
	w, err := backup.Begin(t.Context(), c, domain("d1"), "pool", func(_ context.Context, kept backup.State) error { s = kept; return nil })
	if err != nil {
		t.Fatal(err)
	}
	w.SetChunkSize(1000)
	for _, r := range records(20, 3, 300) {
		if err := w.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.Discard(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Finish(t.Context()); err != nil { // its manifest names blobs that are gone
		t.Fatal(err)
	}
	_, err = read(t, c, s.Folder, "")
	wantCode(t, err, backup.Damaged)
}

// TestAzuriteRefusals is about what the storage itself refuses.
func TestAzuriteRefusals(t *testing.T) {
	t.Parallel()
	a := useAzurite(t)
	remove := a.newContainer(t, "refusals")
	c := a.full(t, "refusals")
	all := records(9, 1, 900)
	folder, _ := write(t, c, all, 1000)
	later := time.Now().Add(time.Hour)

	reader := a.open(t, "refusals", backup.Access{SAS: a.token(t, "refusals", "rl", later)}, nil)
	if err := reader.CheckRestore(t.Context(), folder, domain("d1")); err != nil {
		t.Error(err)
	}
	got, err := read(t, reader, folder, "")
	if err != nil {
		t.Fatal(err)
	}
	wantRecords(t, got, all)
	past := func() time.Time { return time.Now().Add(-2 * time.Hour) }
	strangers := map[string]*backup.Container{
		"may only read":   reader,
		"may not list":    a.open(t, "refusals", backup.Access{SAS: a.token(t, "refusals", "rwdc", later)}, nil),
		"may not delete":  a.open(t, "refusals", backup.Access{SAS: a.token(t, "refusals", "rwlc", later)}, nil),
		"other container": a.open(t, "refusals", backup.Access{SAS: a.token(t, "elsewhere", "rwdlc", later)}, nil),
		"wrong signature": a.open(t, "refusals", backup.Access{SAS: a.token(t, "refusals", "rwdlc", later) + "AAAA"}, nil),
		// Expired for the storage, whose clock is not ours.
		"expired": a.open(t, "refusals", backup.Access{SAS: a.token(t, "refusals", "rwdlc", time.Now().Add(-time.Hour))}, past),
	}
	for name, stranger := range strangers {
		err := stranger.CheckBackup(t.Context())
		t.Logf("%s: %v", name, err)
		wantCode(t, err, backup.Denied)
	}
	_, err = read(t, strangers["expired"], folder, "")
	wantCode(t, err, backup.Denied)

	none := a.full(t, "no-such-container")
	wantCode(t, none.CheckBackup(t.Context()), backup.NotFound)
	wantCode(t, none.CheckRestore(t.Context(), "", domain("d1")), backup.NotFound)
	_, err = backup.Open(t.Context(), none, "mhsm-pool-1", domain("d1"))
	wantCode(t, err, backup.NotFound)

	w, err := backup.Begin(t.Context(), c, domain("d1"), "pool", keepNothing)
	if err != nil {
		t.Fatal(err)
	}
	w.SetChunkSize(1000)
	for _, r := range all[:5] {
		if err := w.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	remove()
	_, err = finish(t.Context(), w, all[5:])
	wantCode(t, err, backup.NotFound)
	_, err = read(t, c, folder, "")
	wantCode(t, err, backup.NotFound)
}

// identity is a credential with tokens as Azurite wants them. It looks at their claims, and at no signature.
type identity struct{ audience string }

func (i identity) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	now := time.Now()
	claims, err := json.Marshal(map[string]any{
		"aud": i.audience, "iss": "https://sts.windows.net/ab1f708d-50f6-404c-a006-d71b2ac7a606/", "ver": "1.0",
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(time.Hour).Unix(),
	})
	encode := base64.RawURLEncoding.EncodeToString
	token := fmt.Sprintf("%s.%s.%s", encode([]byte(`{"alg":"RS256","typ":"JWT"}`)), encode(claims), encode([]byte("x")))
	return azcore.AccessToken{Token: token, ExpiresOn: now.Add(time.Hour)}, err
}

func TestAzuriteCredential(t *testing.T) {
	t.Parallel()
	a := useAzurite(t)
	a.newContainer(t, "credential")
	c := a.open(t, "credential", backup.Access{Credential: identity{"https://storage.azure.com"}}, nil)
	all := records(20, 3, 300)
	folder, _ := write(t, c, all, 1000)
	got, err := read(t, c, folder, "")
	if err != nil {
		t.Fatal(err)
	}
	wantRecords(t, got, all)
	if err := c.CheckBackup(t.Context()); err != nil {
		t.Error(err)
	}
	stranger := a.open(t, "credential", backup.Access{Credential: identity{"https://vault.azure.net"}}, nil)
	wantCode(t, stranger.CheckBackup(t.Context()), backup.Denied)
	wantCode(t, stranger.CheckRestore(t.Context(), folder, domain("d1")), backup.Denied)
}
