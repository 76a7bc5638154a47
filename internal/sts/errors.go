package sts

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"
)

// A refusal is an OAuth error (RFC 6749 section 5.2) with Entra's number and text.
type refusal struct {
	status int
	code   string // OAuth's
	number int    // Entra's
	text   string
	retry  time.Duration // for Retry-After
	guess  bool          // the client failed to prove who it is: counts against its address
	cause  error         // why the server could not decide; not shown
}

func (r *refusal) Error() string { return fmt.Sprintf("AADSTS%d: %s", r.number, r.text) }

func errTenant(tenant string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_request", number: 90002, text: fmt.Sprintf(
		"Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.",
		printable(tenant, maxClientText))}
}

func errMissing(parameter string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_request", number: 900144,
		text: fmt.Sprintf("The request body must contain the following parameter: '%s'.", parameter)}
}

func errMalformed(why string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_request", number: 9000411,
		text: "The request is not properly formatted. " + why}
}

func errGrant(grant string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "unsupported_grant_type", number: 70003, text: fmt.Sprintf(
		"The app requested an unsupported grant type '%s'.", printable(grant, maxClientText))}
}

func errNoCredential() *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "invalid_client", number: 7000218,
		text: "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."}
}

func errUnknownApp(clientID, tenant string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "unauthorized_client", number: 700016, guess: true,
		text: fmt.Sprintf("Application with identifier '%s' was not found in the directory '%s'.",
			printable(clientID, maxClientText), tenant)}
}

func errWrongSecret(clientID string) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "invalid_client", number: 7000215, guess: true,
		text: fmt.Sprintf("Invalid client secret provided. Ensure the secret being sent in the request is the client secret "+
			"value, not the client secret ID, for a secret added to app '%s'.", printable(clientID, maxClientText))}
}

func errExpiredSecret(clientID string) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "invalid_client", number: 7000222, guess: true,
		text: fmt.Sprintf("The provided client secret keys for app '%s' are expired.", printable(clientID, maxClientText))}
}

func errAssertion(why string) *refusal {
	return &refusal{status: http.StatusUnauthorized, code: "invalid_client", number: 700027, guess: true,
		text: "The certificate or assertion could not be verified: " + why + "."}
}

func errNoFederation() *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_request", number: 70021, guess: true,
		text: "No matching federated identity record found for presented assertion."}
}

func errScope(scope string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_scope", number: 1002012, text: fmt.Sprintf(
		"The provided value for scope %s is not valid. Client credential flows must have a scope value with /.default "+
			"suffixed to the resource identifier (application ID URI).", printable(scope, 2*maxClientText))}
}

func errResource(resource, tenant string) *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_resource", number: 500011, text: fmt.Sprintf(
		"The resource principal named %s was not found in the tenant named %s.", printable(resource, 2*maxClientText), tenant)}
}

func errThrottled(retry time.Duration) *refusal {
	return &refusal{status: http.StatusTooManyRequests, code: "temporarily_unavailable", number: 90055, retry: retry,
		text: "Too many failed attempts from this address. Wait and try again."}
}

func errMethod() *refusal {
	return &refusal{status: http.StatusMethodNotAllowed, code: "invalid_request", number: 900561,
		text: "The endpoint only accepts POST requests."}
}

func errUnavailable(cause error) *refusal {
	return &refusal{status: http.StatusServiceUnavailable, code: "temporarily_unavailable", number: 90033, cause: cause,
		retry: time.Second, text: "A transient error has occurred. Please try again."}
}

// result is the event's word for the refusal.
func (r *refusal) result() string {
	switch r.status {
	case http.StatusTooManyRequests:
		return ResultThrottled
	case http.StatusServiceUnavailable:
		return ResultFailed
	}
	return ResultRefused
}

func (s *Server) writeError(w http.ResponseWriter, r *http.Request, e *refusal) {
	stamp := s.cfg.Now().UTC().Format("2006-01-02 15:04:05Z")
	trace, correlation := w.Header().Get("X-Ms-Request-Id"), correlationID(r)
	raw, err := json.Marshal(struct {
		Error         string `json:"error"`
		Description   string `json:"error_description"`
		Codes         []int  `json:"error_codes"`
		Timestamp     string `json:"timestamp"`
		TraceID       string `json:"trace_id"`
		CorrelationID string `json:"correlation_id"`
	}{
		e.code, fmt.Sprintf("%s Trace ID: %s Correlation ID: %s Timestamp: %s", e.Error(), trace, correlation, stamp),
		[]int{e.number}, stamp, trace, correlation,
	})
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	h := w.Header()
	if e.retry > 0 {
		h.Set("Retry-After", strconv.Itoa(int((e.retry+time.Second-1)/time.Second)))
	}
	if e.status == http.StatusMethodNotAllowed {
		h.Set("Allow", http.MethodPost)
	}
	if e.status == http.StatusUnauthorized && r.Header.Get("Authorization") != "" {
		h.Set("WWW-Authenticate", `Basic realm="token"`) // RFC 6749 section 5.2
	}
	writeJSON(w, e.status, raw)
}
