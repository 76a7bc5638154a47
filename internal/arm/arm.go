// Package arm is the management plane's wire: the part of Azure Resource Manager that clients of Key Vault need. It makes,
// shows and removes vaults and managed HSMs, resource groups, role definitions and role assignments, and answers the few
// questions about subscriptions, providers, locations, the cloud's endpoints and the directory that clients ask on their way.
// It knows routes, JSON shapes, api-versions, filters, long operations and how a refusal looks, and decides nothing: who may
// do what, and what happens, is internal/resource's.
//
// It follows Azure's OpenAPI files of Microsoft.KeyVault up to version 2026-02-01, those of Microsoft.Authorization and
// Microsoft.Resources as far as it goes, and what the real service was seen to answer. Requests are routed on the raw path by
// one table (routes.go). A path is decoded once, and one that could be taken for two things is refused (path.go).
package arm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/admission"
	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire"
)

// unrecognized is the operation of a request that no route takes.
const unrecognized = "Unrecognized"

// Config is what a Handler needs. All fields are required.
type Config struct {
	Resources *resource.Service
	Vaults    *keyvault.Service // for the keys and secrets that are made through this plane
	Directory Directory
	Verifier  *identity.Verifier

	// Audiences are what tokens for this plane are for. Outside issuers have sets of their own, from which a token for the
	// vaults may come as well: it is refused here.
	Audiences *identity.Audiences

	// Graph are those of them whose tokens may ask about the directory and do nothing else. Those of the others may ask about it,
	// too: the clouds that clients are told of name this plane as that of the directory.
	Graph *identity.Audiences

	// Domain is what all hosts of the installation end in. This plane's is management.<domain>.
	Domain string

	// Login returns the URL of the token service, given the port that the caller used ("" for 443), without a tenant or a
	// slash at the end: "https://login.localhost:8443".
	Login func(port string) string

	// Observe takes the outcome of every request, before the answer leaves. If it fails, the answer is 503 instead: nothing
	// succeeds without being on record.
	Observe func(ctx context.Context, o *wire.Outcome) error

	// MaxInFlight is how many requests of one principal may be worked on at a time; more are answered 429.
	MaxInFlight int

	Logger *slog.Logger
	Now    func() time.Time
}

// A Directory knows the names of principals.
type Directory interface {
	Application(ctx context.Context, clientID string) (*identity.Application, error)
	ApplicationByObjectID(ctx context.Context, objectID string) (*identity.Application, error)
	Applications(ctx context.Context, after string, limit int) (page []*identity.Application, next string, err error)
}

var _ Directory = (*identity.Directory)(nil)

// A Handler answers the requests to management.<domain>. It is safe for concurrent use.
type Handler struct {
	cfg       Config
	admission *admission.Bound
	host      string
}

// New returns a Handler.
func New(cfg Config) *Handler {
	return &Handler{
		cfg:       cfg,
		admission: admission.New(cfg.MaxInFlight),
		host:      "management." + strings.ToLower(cfg.Domain),
	}
}

// Serves tells whether host (with or without port) is that of this plane.
func (h *Handler) Serves(host string) bool {
	_, ok := h.portOf(host)
	return ok
}

// portOf returns the port in a Host header, "" for 443, and whether the host is this plane's.
func (h *Handler) portOf(hostport string) (port string, ok bool) {
	host, ok := identity.SplitHostPort(hostport)
	if !ok || !strings.EqualFold(host, h.host) {
		return "", false
	}
	if port = strings.TrimPrefix(hostport[len(host):], ":"); port == "443" {
		port = ""
	}
	return port, true
}

// A request is one HTTP request on its way through the handler.
type request struct {
	h       *Handler
	w       http.ResponseWriter
	r       *http.Request
	ctx     context.Context
	outcome wire.Outcome

	base   string // scheme, host and port as the caller used them; begins every URL that is handed out
	port   string // "" for the default
	route  *route
	params params
	query  url.Values
	caller *identity.Caller
}

// actor is who asks, for internal/resource.
func (q *request) actor() resource.Actor {
	return resource.Actor{Caller: q.caller, Note: func(operation, detail string) {
		q.outcome.Operation, q.outcome.Detail = operation, detail
	}}
}

func (q *request) resources() *resource.Service { return q.h.cfg.Resources }

// ServeHTTP answers one request: token first, then the route, then the api-version, and only then the body.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &request{h: h, w: w, r: r, ctx: r.Context()}
	q.outcome = wire.Outcome{
		Start:     h.cfg.Now(),
		Operation: "Authentication",
		Resource:  "/tenants/" + h.cfg.Resources.TenantID(),
		Address:   wire.AddressOf(r.RemoteAddr),
		UserAgent: r.UserAgent(),
	}
	release := func() {}
	defer func() { release() }()
	q.setHeaders()
	resp, err := q.serveSafely(&release)
	q.answer(resp, err)
}

// serveSafely makes a panic the 500 of one request, on record like any other.
func (q *request) serveSafely(release *func()) (resp response, err error) {
	defer func() {
		if p := recover(); p != nil {
			// The value of a panic may hold anything, so it is not logged; the stack names the place.
			err = fmt.Errorf("a panic of type %T at %s", p, debug.Stack())
		}
	}()
	return q.serve(release)
}

// serve does everything up to the answer.
func (q *request) serve(release *func()) (response, error) {
	var ok bool
	if q.port, ok = q.h.portOf(q.r.Host); !ok {
		return response{}, badRequest("The Host header does not name the management service of this server.")
	}
	q.base = "https://" + strings.ToLower(q.r.Host)
	q.outcome.URI = q.base + q.r.URL.RequestURI()

	var routed error
	q.route, q.params, routed = match(q.r.Method, q.r.URL.EscapedPath())
	if routed != nil || !q.route.Public {
		if err := q.authenticate(release); err != nil {
			return response{}, err
		}
	}
	if routed != nil {
		q.outcome.Operation = unrecognized
		return response{}, routed
	}
	q.outcome.Operation = q.route.Operation
	if err := q.locate(); err != nil {
		return response{}, err
	}
	var err error
	if q.query, err = wire.ParseQuery(q.r.URL.RawQuery); err != nil {
		return response{}, err
	}
	if q.outcome.APIVersion, err = q.route.Provider.version(q.query); err != nil {
		return response{}, err
	}
	return q.route.handle(q)
}

// authenticate finds out who asks, and gives him a place.
func (q *request) authenticate(release *func()) (err error) {
	if q.caller, err = wire.Authenticate(q.ctx, q.h.cfg.Verifier, q.r); err != nil {
		return err
	}
	if !q.h.cfg.Audiences.Contains(q.caller.Audience) || !q.route.graph() && q.h.cfg.Graph.Contains(q.caller.Audience) {
		return &identity.TokenError{Code: identity.CodeAudience,
			Message: sprintf("Invalid audience. Expected https://%s, found: %s.", q.h.host, clip(q.caller.Audience))}
	}
	q.outcome.Caller = q.caller
	leave, err := q.h.admission.Enter(q.caller.Principal())
	if err == nil {
		*release = leave
	}
	return err
}

// locate notes what the request is about, and refuses subscriptions that are not the installation's.
func (q *request) locate() error {
	if q.params.subscription == "" {
		return nil
	}
	own := q.resources().SubscriptionID()
	if !strings.EqualFold(q.params.subscription, own) {
		return &wireError{status: http.StatusNotFound, code: "SubscriptionNotFound",
			message: fmt.Sprintf("The subscription '%.64s' could not be found.", q.params.subscription)}
	}
	id := q.subscriptionID()
	if q.params.group != "" {
		id = q.groupID(q.params.group)
	}
	if q.params.name != "" && q.route.Type != "" {
		id += "/providers/Microsoft.KeyVault/" + q.route.Type + "/" + q.params.name
		q.outcome.Vault = q.params.name
	}
	q.outcome.Resource = strings.ToUpper(id)
	return nil
}

// Header values that do not change; nobody may modify them.
var (
	noCache         = []string{"no-cache"}
	minusOne        = []string{"-1"}
	noSniff         = []string{"nosniff"}
	strictTransport = []string{"max-age=31536000; includeSubDomains"}
	jsonType        = []string{"application/json; charset=utf-8"}
)

// setHeaders sets what every answer of this plane carries. It writes the map directly: the names are canonical already.
func (q *request) setHeaders() {
	h := q.w.Header()
	h["Cache-Control"] = noCache
	h["Pragma"] = noCache
	h["Expires"] = minusOne
	h["X-Content-Type-Options"] = noSniff
	h["Strict-Transport-Security"] = strictTransport
	id := audit.CorrelationID(q.ctx)
	h["X-Ms-Request-Id"] = []string{id}
	h["X-Ms-Correlation-Request-Id"] = []string{id}
	if id := q.r.Header.Get("X-Ms-Client-Request-Id"); wire.Echoable(id) {
		h["X-Ms-Client-Request-Id"] = []string{id}
	}
}

// answer puts the outcome on record and then sends the answer, or the refusal.
func (q *request) answer(resp response, err error) {
	if err != nil {
		resp = q.refusal(err)
	}
	q.outcome.Status, q.outcome.Err = resp.status, err
	if err := q.h.cfg.Observe(q.ctx, &q.outcome); err != nil {
		q.h.cfg.Logger.ErrorContext(q.ctx, "a request could not be put on record", "error", err)
		text := wire.NotRecorded
		if q.outcome.Err == nil && q.route.changes() {
			text = wire.OutcomeNotRecorded // it is done, and its intent is on record
		}
		resp = q.refusal(&wireError{status: http.StatusServiceUnavailable, code: "ServiceUnavailable", message: text})
	}
	h := q.w.Header()
	if resp.location != "" {
		h["Location"] = []string{resp.location}
		h["Retry-After"] = []string{"1"} // what was asked for is done already; without this, clients come back after half a minute
	}
	if resp.body == nil {
		q.w.WriteHeader(resp.status)
		return
	}
	h["Content-Type"] = jsonType
	h["Content-Length"] = []string{strconv.Itoa(len(resp.body))}
	q.w.WriteHeader(resp.status)
	if _, err := q.w.Write(resp.body); err != nil && !errors.Is(err, context.Canceled) {
		q.h.cfg.Logger.DebugContext(q.ctx, "the client did not take its answer", "error", err)
	}
}

// challenge tells the client where to get a token, in the form in which Resource Manager does.
func (q *request) challenge(description string) string {
	return `Bearer authorization_uri="` + q.h.cfg.Login(q.port) + "/" + q.resources().TenantID() +
		`", error="invalid_token", error_description="` + strings.NewReplacer(`"`, "'", `\`, "/").Replace(description) + `"`
}
