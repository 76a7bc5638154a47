package sts

import (
	"errors"
	"net/http"
	"testing"
)

// TestEverythingIsRecorded: also what no token can come of has an outcome on record, and is not answered without.
func TestEverythingIsRecorded(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for path, status := range map[string]int{
		"/" + tenant + "/v2.0/.well-known/openid-configuration": http.StatusOK,
		"/" + tenant + "/discovery/v2.0/keys":                   http.StatusOK,
		"/nothing":                                              http.StatusNotFound,
		"/11111111-2222-4333-8444-555555555555/v2.0/.well-known/openid-configuration": http.StatusBadRequest,
	} {
		if w := s.get(path); w.Code != status {
			t.Errorf("%s: status %d, want %d", path, w.Code, status)
		}
		if e := s.observer.last(t); e.Operation != OpPublic || e.Status != status || e.Endpoint != path {
			t.Errorf("%s: event %+v", path, e)
		}
		s.observer.setFailure(errors.New("no"))
		if w := s.get(path); w.Code != http.StatusServiceUnavailable {
			t.Errorf("%s without a record: status %d", path, w.Code)
		}
		s.observer.setFailure(nil)
	}
	if w := do(s.ManagedIdentityHandler(), local("GET", "/metadata/instance/compute", nil)); w.Code != http.StatusNotFound || w.Body.Len() > 0 {
		t.Errorf("metadata: status %d %q", w.Code, w.Body)
	}
	if e := s.observer.last(t); e.Operation != OpPublic || e.Status != http.StatusNotFound {
		t.Errorf("event %+v", e)
	}
}
