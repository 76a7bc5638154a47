package api_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/api"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/store"
)

// pathOf fills in a pattern.
func pathOf(pattern string) string {
	return strings.NewReplacer("{name}", "k", "{version}", strings.Repeat("0", 32), "{id}", uuid.NewString()).Replace(pattern)
}

// refusal reads an error's codes and text.
func refusal(t *testing.T, answer string) (code, inner, message string) {
	t.Helper()
	var out struct {
		Error struct {
			Code, Message string
			Inner         struct{ Code string } `json:"innererror"`
		}
	}
	if err := json.Unmarshal([]byte(answer), &out); err != nil {
		t.Fatalf("%s: %v", answer, err)
	}
	return out.Error.Code, out.Error.Inner.Code, out.Error.Message
}

// TestOtherFamily asks for everything at the host of the other family: it is refused as a bad request, and says why.
func TestOtherFamily(t *testing.T) {
	t.Parallel()
	for tier, c := range map[resource.Tier]struct{ family, text string }{
		resource.Premium:    {"managed HSM", "This is the host of a vault"},
		resource.ManagedHSM: {"vault", "This is the host of a managed HSM"},
	} {
		h, asked := newHandler(t, tier), 0
		for _, rt := range api.Routes() {
			if rt.Family != c.family {
				continue
			}
			asked++
			status, answer := h.do(t, rt.Method, pathOf(rt.Pattern), "{}")
			if code, _, message := refusal(t, answer); status != http.StatusBadRequest || code != "BadParameter" || !strings.Contains(message, c.text) {
				t.Errorf("%s %s: %d %s", rt.Method, rt.Pattern, status, answer)
			}
		}
		if asked == 0 {
			t.Errorf("no route is for the family %s alone", c.family)
		}
	}
}

// setHSM alters the record of the handler's managed HSM, as nobody but a test may.
func (h *testHandler) setHSM(t *testing.T, member, value string) {
	t.Helper()
	err := h.db.Update(t.Context(), func(tx store.Tx) error {
		raw, err := tx.Get("hsm/test")
		if err != nil {
			return err
		}
		var rec map[string]any
		if err := json.Unmarshal(raw, &rec); err != nil {
			return err
		}
		rec[member] = value
		return record.Put(tx, "hsm/test", rec)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// TestHSMGate asks for everything of a managed HSM that has no security domain, and of one that is being restored, and then again
// when it can be used. What leads out of either state is not refused.
func TestHSMGate(t *testing.T) {
	t.Parallel()
	h := newHandler(t, resource.ManagedHSM)
	for _, c := range []struct {
		member, value, code, inner, text string
		status                           int
	}{
		{"activation", resource.NotActivated, "Forbidden", "HsmNotActivated", "is not activated", http.StatusForbidden},
		{"restoring", "job-7", "Conflict", "", "job-7", http.StatusConflict},
		{"restoring", "", "", "", "", 0},
	} {
		h.setHSM(t, "activation", resource.Active)
		h.setHSM(t, c.member, c.value)
		for _, rt := range api.Routes() {
			if rt.Family == "vault" || leadsOut(rt.Pattern) {
				continue
			}
			status, answer := h.do(t, rt.Method, pathOf(rt.Pattern), "{}")
			if c.status == 0 {
				if status >= 500 || strings.Contains(answer, "HsmNotActivated") || strings.Contains(answer, "being restored") {
					t.Errorf("%s %s in use: %d %s", rt.Method, rt.Pattern, status, answer)
				}
				continue
			}
			code, inner, message := refusal(t, answer)
			if status != c.status || code != c.code || inner != c.inner || !strings.Contains(message, c.text) {
				t.Errorf("%s %s, %s %q: %d %s", rt.Method, rt.Pattern, c.member, c.value, status, answer)
			}
		}
	}
}

// leadsOut tells what is possible although the managed HSM cannot be used: its security domain, and how a restore goes on, have
// states of their own, which their own tests go through.
func leadsOut(pattern string) bool {
	return strings.HasPrefix(pattern, "/securitydomain/") || strings.HasSuffix(pattern, "/pending")
}
