//go:build client

package goclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/google/go-cmp/cmp"
)

func newCredential(t *testing.T) azcore.TokenCredential {
	t.Helper()
	credential, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		t.Fatal(err)
	}
	return credential
}

func newClient(t *testing.T, vault string, credential azcore.TokenCredential) *azsecrets.Client {
	t.Helper()
	client, err := azsecrets.NewClient(vault, credential, nil)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// must returns the answer of a call that has to succeed.
func must[T any](answer T, err error) func(*testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
}

// wireError is the body of a refusal.
type wireError struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Inner   struct {
			Code string `json:"code"`
		} `json:"innererror"`
	} `json:"error"`
}

// refused checks status, code and inner code of err.
func refused(t *testing.T, err error, status int, code, inner string) wireError {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		t.Fatalf("error is %v, want %d %s", err, status, code)
	}
	var body wireError
	if err := json.NewDecoder(response.RawResponse.Body).Decode(&body); err != nil {
		t.Fatalf("body of the refusal: %v", err)
	}
	got := []any{response.StatusCode, body.Error.Code, body.Error.Inner.Code}
	if diff := cmp.Diff([]any{status, code, inner}, got); diff != "" {
		t.Fatalf("refusal (-want +got):\n%s%v", diff, err)
	}
	return body
}

func set(t *testing.T, c *azsecrets.Client, name, value string) azsecrets.ID {
	t.Helper()
	return *must(c.SetSecret(t.Context(), name, azsecrets.SetSecretParameters{Value: &value}, nil))(t).ID
}

func get(t *testing.T, c *azsecrets.Client, name, version string) azsecrets.Secret {
	t.Helper()
	return must(c.GetSecret(t.Context(), name, version, nil))(t).Secret
}

func remove(t *testing.T, c *azsecrets.Client, name string) azsecrets.DeletedSecret {
	t.Helper()
	return must(c.DeleteSecret(t.Context(), name, nil))(t).DeletedSecret
}

// TestCredential is run with every credential: whatever the environment offers opens the vault.
func TestCredential(t *testing.T) {
	c, name := newClient(t, os.Getenv("E2E_VAULT"), newCredential(t)), os.Getenv("E2E_SECRET_NAME")
	id := set(t, c, name, "from Go")
	if got := get(t, c, name, ""); *got.ID != id || *got.Value != "from Go" {
		t.Errorf("got %v %q, want %v", *got.ID, *got.Value, id)
	}
}

// TestSecrets goes through every operation.
func TestSecrets(t *testing.T) {
	credential := newCredential(t)
	vault, other := os.Getenv("E2E_VAULT"), os.Getenv("E2E_OTHER_VAULT")
	s := &secrets{vault: vault, otherVault: other, credential: credential}
	s.client, s.other = newClient(t, vault, credential), newClient(t, other, credential)
	for name, test := range map[string]func(*testing.T){
		"RoundTrip":     s.roundTrip,
		"AnyText":       s.anyText,
		"Versions":      s.versions,
		"Update":        s.update,
		"Paging":        s.paging,
		"Recover":       s.recover,
		"Purge":         s.purge,
		"Backup":        s.backup,
		"Missing":       s.missing,
		"UnknownVault":  s.unknownVault,
		"WithoutRights": s.withoutRights,
	} {
		t.Run(name, test)
	}
}

// secrets is a vault of this program's own, and a second one.
type secrets struct {
	vault, otherVault string
	credential        azcore.TokenCredential
	client, other     *azsecrets.Client
}

func ptr[T any](v T) *T { return &v }

func (s *secrets) roundTrip(t *testing.T) {
	want := azsecrets.SetSecretParameters{
		Value:       ptr("first"),
		ContentType: ptr("text/plain; charset=utf-8"),
		Tags:        map[string]*string{"owner": ptr("someone"), "Größe": ptr("naïve"), "empty": ptr("")},
		SecretAttributes: &azsecrets.SecretAttributes{
			Expires:   ptr(time.Date(2041, 2, 3, 4, 5, 6, 0, time.UTC)),
			NotBefore: ptr(time.Date(2031, 2, 3, 4, 5, 6, 0, time.UTC)), // informational: it can be read before
		},
	}
	stored := must(s.client.SetSecret(t.Context(), "round-trip", want, nil))(t).Secret
	got := get(t, s.client, "round-trip", "")
	if diff := cmp.Diff(stored, got); diff != "" {
		t.Errorf("set and get differ (-set +get):\n%s", diff)
	}
	if !regexp.MustCompile(`^` + regexp.QuoteMeta(s.vault) + `/secrets/round-trip/[0-9a-f]{32}$`).MatchString(string(*got.ID)) {
		t.Errorf("id is %s", *got.ID)
	}
	a := got.Attributes
	if !a.Expires.Equal(*want.SecretAttributes.Expires) || !a.NotBefore.Equal(*want.SecretAttributes.NotBefore) {
		t.Errorf("times are %v and %v", a.Expires, a.NotBefore)
	}
	if !*a.Enabled || *a.RecoveryLevel != "CustomizedRecoverable+Purgeable" || *a.RecoverableDays != 7 {
		t.Errorf("attributes are %v %v %v", *a.Enabled, *a.RecoveryLevel, *a.RecoverableDays)
	}
	if diff := cmp.Diff(want.Tags, got.Tags); diff != "" || *got.ContentType != *want.ContentType {
		t.Errorf("content type %q, tags (-want +got):\n%s", *got.ContentType, diff)
	}
}

func (s *secrets) anyText(t *testing.T) {
	for _, value := range []string{
		"", "naïve \u2603 \U0001f511 \x00 \r\n\t \"quoted\" \\ </script> \u2028", strings.Repeat("x", 25600),
	} {
		set(t, s.client, "text", value)
		if got := get(t, s.client, "text", ""); *got.Value != value {
			t.Errorf("got %.40q, want %.40q", *got.Value, value)
		}
	}
	_, err := s.client.SetSecret(t.Context(), "text", azsecrets.SetSecretParameters{Value: ptr(strings.Repeat("x", 25601))}, nil)
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
}

func (s *secrets) versionIDs(t *testing.T, c *azsecrets.Client, name string) (ids []azsecrets.ID) {
	t.Helper()
	for pager := c.NewListSecretPropertiesVersionsPager(name, nil); pager.More(); {
		for _, p := range must(pager.NextPage(t.Context()))(t).Value {
			ids = append(ids, *p.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

func (s *secrets) versions(t *testing.T) {
	var stored []azsecrets.ID
	for n := range 30 {
		stored = append(stored, set(t, s.client, "versions", fmt.Sprint(n)))
	}
	for n, id := range stored {
		if got := get(t, s.client, "versions", id.Version()); *got.Value != fmt.Sprint(n) {
			t.Errorf("version %d holds %q", n, *got.Value)
		}
	}
	if got := get(t, s.client, "versions", ""); *got.ID != stored[29] {
		t.Errorf("latest is %s, want %s", *got.ID, stored[29])
	}
	slices.Sort(stored)
	if diff := cmp.Diff(stored, s.versionIDs(t, s.client, "versions")); diff != "" {
		t.Errorf("listed versions (-want +got):\n%s", diff)
	}
}

func (s *secrets) update(t *testing.T) {
	first := set(t, s.client, "update", "v1")
	set(t, s.client, "update", "v2")
	change := func(enabled bool) azsecrets.Secret {
		return must(s.client.UpdateSecretProperties(t.Context(), "update", first.Version(), azsecrets.UpdateSecretPropertiesParameters{
			ContentType:      ptr("x/y"),
			Tags:             map[string]*string{"b": ptr("2")},
			SecretAttributes: &azsecrets.SecretAttributes{Enabled: &enabled},
		}, nil))(t).Secret
	}
	if got := change(false); got.Value != nil || *got.ContentType != "x/y" || *got.Attributes.Enabled {
		t.Errorf("update answered %+v", got)
	}
	_, err := s.client.GetSecret(t.Context(), "update", first.Version(), nil)
	body := refused(t, err, http.StatusForbidden, "Forbidden", "SecretDisabled")
	if want := "Operation get is not allowed on a disabled secret."; body.Error.Message != want {
		t.Errorf("message is %q, want %q", body.Error.Message, want)
	}
	change(true)
	if got := get(t, s.client, "update", first.Version()); *got.Value != "v1" || *got.Tags["b"] != "2" {
		t.Errorf("got %q with tags %v", *got.Value, got.Tags)
	}
	if got := get(t, s.client, "update", ""); *got.Value != "v2" || got.ContentType != nil {
		t.Errorf("the other version changed: %q %v", *got.Value, got.ContentType)
	}
}

func (s *secrets) paging(t *testing.T) {
	for n := range 60 {
		set(t, s.client, fmt.Sprintf("page-%02d", n), "v")
	}
	seen := make(map[string]bool)
	pages := 0
	for pager := s.client.NewListSecretPropertiesPager(nil); pager.More(); pages++ {
		page := must(pager.NextPage(t.Context()))(t)
		if len(page.Value) > 25 {
			t.Errorf("a page has %d entries", len(page.Value))
		}
		for _, p := range page.Value {
			if seen[p.ID.Name()] || p.ID.Version() != "" {
				t.Errorf("%s is listed twice, or with a version", *p.ID)
			}
			seen[p.ID.Name()] = true
		}
	}
	if pages < 3 {
		t.Errorf("%d pages", pages)
	}
	for n := range 60 {
		if name := fmt.Sprintf("page-%02d", n); !seen[name] {
			t.Errorf("%s is not listed", name)
		}
	}
}

func (s *secrets) deletedNames(t *testing.T) (names []string) {
	t.Helper()
	for pager := s.client.NewListDeletedSecretPropertiesPager(nil); pager.More(); {
		for _, p := range must(pager.NextPage(t.Context()))(t).Value {
			names = append(names, p.ID.Name())
		}
	}
	return names
}

func (s *secrets) recover(t *testing.T) {
	want := []azsecrets.ID{set(t, s.client, "recover", "one"), set(t, s.client, "recover", "two")}
	slices.Sort(want)
	deleted := remove(t, s.client, "recover")
	if got := *deleted.RecoveryID; got != s.vault+"/deletedsecrets/recover" {
		t.Errorf("recovery id is %s", got)
	}
	if got := deleted.ScheduledPurgeDate.Sub(*deleted.DeletedDate); got != 7*24*time.Hour {
		t.Errorf("kept for %v, want seven days", got)
	}
	_, err := s.client.GetSecret(t.Context(), "recover", "", nil)
	refused(t, err, http.StatusNotFound, "SecretNotFound", "")
	_, err = s.client.SetSecret(t.Context(), "recover", azsecrets.SetSecretParameters{Value: ptr("x")}, nil)
	refused(t, err, http.StatusConflict, "Conflict", "ObjectIsDeletedButRecoverable")
	must(s.client.GetDeletedSecret(t.Context(), "recover", nil))(t)
	if got := s.deletedNames(t); !slices.Contains(got, "recover") {
		t.Errorf("deleted are %v", got)
	}
	must(s.client.RecoverDeletedSecret(t.Context(), "recover", nil))(t)
	if got := get(t, s.client, "recover", ""); *got.Value != "two" {
		t.Errorf("recovered %q", *got.Value)
	}
	if diff := cmp.Diff(want, s.versionIDs(t, s.client, "recover")); diff != "" {
		t.Errorf("recovered versions (-want +got):\n%s", diff)
	}
	_, err = s.client.RecoverDeletedSecret(t.Context(), "recover", nil)
	refused(t, err, http.StatusBadRequest, "MethodNotAllowed", "RequestNotAllowedOnNonDeletedObject")
}

func (s *secrets) purge(t *testing.T) {
	set(t, s.client, "purge", "v")
	remove(t, s.client, "purge")
	must(s.client.PurgeDeletedSecret(t.Context(), "purge", nil))(t)
	_, err := s.client.GetDeletedSecret(t.Context(), "purge", nil)
	refused(t, err, http.StatusNotFound, "SecretNotFound", "")
	_, err = s.client.RecoverDeletedSecret(t.Context(), "purge", nil)
	refused(t, err, http.StatusNotFound, "SecretNotFound", "")
	id := set(t, s.client, "purge", "again")
	if diff := cmp.Diff([]azsecrets.ID{id}, s.versionIDs(t, s.client, "purge")); diff != "" {
		t.Errorf("versions after the purge (-want +got):\n%s", diff)
	}
}

func restore(ctx context.Context, c *azsecrets.Client, blob []byte) (azsecrets.RestoreSecretResponse, error) {
	return c.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: blob}, nil)
}

func (s *secrets) backup(t *testing.T) {
	first, second := set(t, s.client, "backup", "value 0"), set(t, s.client, "backup", "value 1")
	before := get(t, s.client, "backup", first.Version())
	blob := must(s.client.BackupSecret(t.Context(), "backup", nil))(t).Value
	_, err := restore(t.Context(), s.client, blob)
	refused(t, err, http.StatusConflict, "Conflict", "")
	remove(t, s.client, "backup")
	must(s.client.PurgeDeletedSecret(t.Context(), "backup", nil))(t)
	for _, at := range []int{0, len(blob) / 2, len(blob) - 1} {
		altered := bytes.Clone(blob)
		altered[at] ^= 1
		_, err := restore(t.Context(), s.client, altered)
		refused(t, err, http.StatusBadRequest, "BadParameter", "")
	}
	if got := *must(restore(t.Context(), s.client, blob))(t).ID; got != second {
		t.Errorf("restored %s, want %s", got, second)
	}
	if diff := cmp.Diff(before, get(t, s.client, "backup", first.Version())); diff != "" {
		t.Errorf("restored first version (-before +after):\n%s", diff)
	}
	want := azsecrets.ID(s.otherVault + "/secrets/backup/" + second.Version())
	if got := *must(restore(t.Context(), s.other, blob))(t).ID; got != want {
		t.Errorf("restored %s, want %s", got, want)
	}
}

func (s *secrets) missing(t *testing.T) {
	known := set(t, s.client, "known", "v")
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"get":       func() error { _, err := s.client.GetSecret(ctx, "never-set", "", nil); return err },
		"version":   func() error { _, err := s.client.GetSecret(ctx, "known", strings.Repeat("0", 32), nil); return err },
		"delete":    func() error { _, err := s.client.DeleteSecret(ctx, "never-set", nil); return err },
		"backup":    func() error { _, err := s.client.BackupSecret(ctx, "never-set", nil); return err },
		"purge":     func() error { _, err := s.client.PurgeDeletedSecret(ctx, "never-set", nil); return err },
		"elsewhere": func() error { _, err := s.other.GetSecret(ctx, "known", known.Version(), nil); return err },
		"update": func() error {
			_, err := s.client.UpdateSecretProperties(ctx, "never-set", "", azsecrets.UpdateSecretPropertiesParameters{}, nil)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, call(), http.StatusNotFound, "SecretNotFound", "")
		})
	}
	_, err := s.client.GetSecret(ctx, "never-set", "", nil)
	if body := refused(t, err, http.StatusNotFound, "SecretNotFound", ""); !strings.Contains(body.Error.Message, "was not found in this key vault") {
		t.Errorf("message is %q", body.Error.Message)
	}
}

func (s *secrets) unknownVault(t *testing.T) {
	_, err := newClient(t, os.Getenv("E2E_UNKNOWN_VAULT"), s.credential).GetSecret(t.Context(), "any", "", nil)
	var response *azcore.ResponseError
	if !errors.As(err, &response) || response.StatusCode != http.StatusNotFound {
		t.Errorf("error is %v, want 404", err)
	}
}

func (s *secrets) withoutRights(t *testing.T) {
	id := os.Getenv("E2E_STRANGER_ID")
	credential, err := azidentity.NewClientSecretCredential(os.Getenv("AZURE_TENANT_ID"), id, os.Getenv("E2E_STRANGER_SECRET"), nil)
	if err != nil {
		t.Fatal(err)
	}
	set(t, s.client, "not-yours", "v")
	stranger := newClient(t, s.vault, credential)
	_, err = stranger.GetSecret(t.Context(), "not-yours", "", nil)
	if body := refused(t, err, http.StatusForbidden, "Forbidden", "ForbiddenByRbac"); !strings.Contains(body.Error.Message, id) {
		t.Errorf("the message does not name the caller %s: %s", id, body.Error.Message)
	}
	_, err = stranger.SetSecret(t.Context(), "not-yours", azsecrets.SetSecretParameters{Value: ptr("mine")}, nil)
	refused(t, err, http.StatusForbidden, "Forbidden", "ForbiddenByRbac")
	_, err = stranger.NewListSecretPropertiesPager(nil).NextPage(t.Context())
	refused(t, err, http.StatusForbidden, "Forbidden", "ForbiddenByRbac")
	if got := get(t, s.client, "not-yours", ""); *got.Value != "v" {
		t.Errorf("the value changed to %q", *got.Value)
	}
}
