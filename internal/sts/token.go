package sts

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/strongroom/strongroom/internal/identity"
)

const assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"

// tokenAnswer is the success of a token request. expires_in is a number even in version 1, where Azure sends text:
// clients that were written against either accept it, and some add to it.
type tokenAnswer struct {
	TokenType    string `json:"token_type"`
	ExpiresIn    int64  `json:"expires_in"`
	ExtExpiresIn int64  `json:"ext_expires_in"`
	ExpiresOn    string `json:"expires_on,omitempty"`
	NotBefore    string `json:"not_before,omitempty"`
	Resource     string `json:"resource,omitempty"`
	AccessToken  string `json:"access_token"`
}

// A proof is an application that has shown that it is itself.
type proof struct {
	app          *identity.Application
	credentialID string
	method       string // identity.ProofSecret or identity.ProofCertificate
}

// serveToken answers one token request. Whatever comes of it is recorded before the answer is written.
func (s *Server) serveToken(w http.ResponseWriter, r *http.Request, at place, rt route) {
	event := s.newEvent(r, "v"+strconv.Itoa(rt.version))
	token, refused := s.grant(w, r, at, rt, &event)
	// Only failures are limited: a client with a good credential is served, whatever others at its address do.
	if refused != nil && refused.guess {
		if wait := s.limiter.blocked(event.Address); wait > 0 {
			refused = errThrottled(wait)
		}
		s.limiter.failed(event.Address)
	}
	noteRecorded(w)
	if err := s.record(r.Context(), &event, token, refused); err != nil {
		s.writeError(w, r, errUnavailable(err))
		return
	}
	if refused != nil {
		s.writeError(w, r, refused)
		return
	}
	life := int64(token.Expires.Sub(token.Issued).Seconds())
	answer := tokenAnswer{
		TokenType: "Bearer", ExpiresIn: life, ExtExpiresIn: life, AccessToken: token.Text.Reveal(),
	}
	if rt.version == 1 {
		answer.ExpiresOn = strconv.FormatInt(token.Expires.Unix(), 10)
		answer.NotBefore = strconv.FormatInt(token.Issued.Unix(), 10)
		answer.Resource = event.Resource
	}
	s.writeAnswer(w, r, answer)
}

func (s *Server) writeAnswer(w http.ResponseWriter, r *http.Request, answer any) {
	raw, err := json.Marshal(answer)
	if err != nil {
		s.writeError(w, r, errUnavailable(err))
		return
	}
	writeJSON(w, http.StatusOK, raw)
}

func (s *Server) newEvent(r *http.Request, endpoint string) Event {
	const longestAgent = 256
	return Event{
		Time: s.cfg.Now(), Operation: OpTokenIssue, Endpoint: endpoint, Result: ResultSuccess,
		Address: clientAddress(r), CorrelationID: correlationID(r), UserAgent: printable(r.UserAgent(), longestAgent),
	}
}

// record completes the event and hands it to the observer.
func (s *Server) record(ctx context.Context, event *Event, token *identity.Token, refused *refusal) error {
	if token != nil {
		event.TokenID = token.ID
	}
	if refused != nil {
		event.Result, event.Code, event.Reason, event.Err = refused.result(), refused.number, refused.text, refused.cause
	}
	return s.cfg.Observe(ctx, *event)
}

// grant does what the request asks, filling in the event as it learns more.
func (s *Server) grant(
	w http.ResponseWriter, r *http.Request, at place, rt route, event *Event,
) (*identity.Token, *refusal) {
	if r.Method != http.MethodPost {
		return nil, errMethod()
	}
	if !s.knownTenant(rt) {
		return nil, errTenant(rt.tenant)
	}
	form, refused := readForm(w, r)
	if refused != nil {
		return nil, refused
	}
	event.ClientID = printable(form.clientID, maxClientText)
	if form.grant == "" {
		return nil, errMissing("grant_type")
	}
	if form.grant != "client_credentials" {
		return nil, errGrant(form.grant)
	}
	if form.clientID == "" {
		return nil, errMissing("client_id")
	}
	audience, refused := form.audience(rt.version)
	if refused != nil {
		return nil, refused
	}
	event.Resource = printable(audience, maxResource)
	p, refused := s.authenticate(r.Context(), &form)
	if refused != nil {
		return nil, refused
	}
	event.ObjectID, event.CredentialID = p.app.ObjectID, p.credentialID
	if !s.cfg.Resources.Contains(audience) {
		return nil, errResource(audience, s.cfg.Directory.TenantID())
	}
	return s.issue(r.Context(), identity.TokenRequest{
		Application: p.app, Audience: audience, Host: at.central, Version: rt.version, Proof: p.method,
	})
}

func (s *Server) issue(ctx context.Context, req identity.TokenRequest) (*identity.Token, *refusal) {
	token, err := s.cfg.Authority.IssueToken(ctx, req)
	if err != nil {
		return nil, errUnavailable(err)
	}
	return token, nil
}

func (s *Server) authenticate(ctx context.Context, form *tokenForm) (*proof, *refusal) {
	if form.assertion == "" {
		return s.checkSecret(ctx, form)
	}
	if form.secret != "" {
		return nil, errMalformed("It authenticates the client in more than one way.")
	}
	if form.assertionType != assertionType {
		return nil, errMissing("client_assertion_type")
	}
	if len(form.assertion) > maxAssertion {
		return nil, errAssertion("it is too large")
	}
	return s.checkAssertion(ctx, form)
}

func (s *Server) checkSecret(ctx context.Context, form *tokenForm) (*proof, *refusal) {
	if form.secret == "" {
		return nil, errNoCredential()
	}
	app, id, err := s.cfg.Directory.VerifyClientSecret(ctx, form.clientID, form.secret)
	if err != nil {
		return nil, s.refuse(err, form.clientID)
	}
	return &proof{app, id, identity.ProofSecret}, nil
}

// checkAssertion: an assertion that names the client itself was signed with its certificate, any other comes from the
// issuer that it names, if that is configured.
func (s *Server) checkAssertion(ctx context.Context, form *tokenForm) (*proof, *refusal) {
	issuer, _, err := identity.PeekAssertion(form.assertion)
	if err != nil {
		return nil, s.refuse(err, form.clientID)
	}
	var app *identity.Application
	var id string
	if strings.EqualFold(issuer, form.clientID) {
		app, id, err = s.cfg.Directory.VerifyCertificateAssertion(ctx, form.clientID, form.assertion, s.isTokenService)
	} else if external, found := s.issuers[issuer]; found {
		app, id, err = s.cfg.Directory.VerifyFederatedAssertion(ctx, form.clientID, form.assertion, external)
	} else {
		err = identity.ErrNoFederatedCredential
	}
	if err != nil {
		return nil, s.refuse(err, form.clientID)
	}
	return &proof{app, id, identity.ProofCertificate}, nil
}

// refuse is the one place where an identity error gets its number.
func (s *Server) refuse(err error, clientID string) *refusal {
	switch {
	case errors.Is(err, identity.ErrUnknownApplication):
		return errUnknownApp(clientID, s.cfg.Directory.TenantID())
	case errors.Is(err, identity.ErrWrongSecret):
		return errWrongSecret(clientID)
	case errors.Is(err, identity.ErrExpiredSecret):
		return errExpiredSecret(clientID)
	case errors.Is(err, identity.ErrNoFederatedCredential):
		return errNoFederation()
	case errors.Is(err, identity.ErrBadAssertion):
		return errAssertion(strings.TrimPrefix(err.Error(), identity.ErrBadAssertion.Error()+": "))
	}
	return errUnavailable(err)
}

// isTokenService reports whether the audience of an assertion is this service: any spelling of a token endpoint that
// serves the tenant, on any host and port by which it is reached, or the issuer's URL.
func (s *Server) isTokenService(audience string) bool {
	rest, ok := strings.CutPrefix(audience, "https://")
	if !ok {
		return false
	}
	authority, path, _ := strings.Cut(rest, "/")
	if _, ok := s.place(authority); !ok {
		return false
	}
	if rt, ok := parseRoute("/" + path); ok {
		return rt.page == pageToken && s.knownTenant(rt)
	}
	tenant := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(path, "/"), "v2.0"), "/")
	return tenant != "" && s.knownTenant(route{tenant: strings.ToLower(tenant)})
}
