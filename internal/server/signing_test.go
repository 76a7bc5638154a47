package server_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/strongroomtest"
)

// TestSigningKeysOfOperators lists, rotates and revokes the keys of the token service through the socket.
func TestSigningKeysOfOperators(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, nil)
	client := admin.NewClient(s.Dir)
	type key struct {
		KeyID     string    `json:"kid"`
		Created   time.Time `json:"created"`
		SignsFrom time.Time `json:"signsFrom"`
		Active    bool      `json:"active"`
	}
	list := func() (keys []key) {
		t.Helper()
		if err := client.Do(t.Context(), http.MethodGet, "/tokens/keys", nil, &keys); err != nil {
			t.Fatal(err)
		}
		return keys
	}
	var next, again struct {
		KeyID     string    `json:"kid"`
		SignsFrom time.Time `json:"signsFrom"`
		Waiting   bool      `json:"waiting"`
	}
	before := list()
	if len(before) != 1 || !before[0].Active || before[0].KeyID == "" {
		t.Fatalf("keys: %+v", before)
	}
	for _, out := range []any{&next, &again} {
		if err := client.Do(t.Context(), http.MethodPost, "/tokens/rotate", nil, out); err != nil {
			t.Fatal(err)
		}
	}
	if next.Waiting || !again.Waiting || next.KeyID != again.KeyID || !next.SignsFrom.Equal(again.SignsFrom) ||
		time.Until(next.SignsFrom) < 50*time.Minute {
		t.Errorf("rotated: %+v, then %+v", next, again)
	}
	if keys := list(); len(keys) != 2 || keys[0] != before[0] || keys[1].KeyID != next.KeyID || keys[1].Active {
		t.Errorf("keys: %+v", keys)
	}
	token := adminToken(t, s)
	if status, body := call(t, s, token, "GET", "/secrets", ""); status != 200 {
		t.Fatal(status, body)
	}
	revoke := func(kid string) error {
		return client.Do(t.Context(), http.MethodPost, "/tokens/revoke", map[string]string{"kid": kid}, nil)
	}
	if err := revoke(before[0].KeyID); err != nil {
		t.Fatal(err)
	}
	if status, _ := call(t, s, token, "GET", "/secrets", ""); status != http.StatusUnauthorized {
		t.Errorf("a token of the revoked key was answered %d", status)
	}
	if keys := list(); len(keys) != 2 || !keys[0].Active || keys[0].KeyID == before[0].KeyID || keys[1].KeyID != next.KeyID {
		t.Errorf("keys: %+v", keys)
	}
	if status, body := call(t, s, adminToken(t, s), "GET", "/secrets", ""); status != 200 {
		t.Errorf("a token of the new key was answered %d %s", status, body)
	}
	var refused *admin.Error
	if err := revoke(before[0].KeyID); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
		t.Errorf("revoking it again: %v", err)
	}
	seen := make(map[any]int)
	for _, rec := range s.AuditLog(t) {
		seen[rec["operationName"]]++
	}
	if seen["TokenSigningKeyRotate"] != 4 || seen["TokenSigningKeyRevoke"] != 4 { // intent and outcome
		t.Errorf("records: %v", seen)
	}
}
