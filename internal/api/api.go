// Package api is the data plane's wire: the part of Azure Key Vault's REST API that the host of a vault, or of a managed HSM, answers. It knows
// routes, JSON shapes, api-versions, paging, the challenge and how a refusal looks, and decides nothing: who may do what,
// and what happens, is internal/keyvault's, or internal/resource's for the roles and settings of a managed HSM itself.
//
// It follows Azure's OpenAPI files up to version 2026-04-01 and what the real service was seen to answer. Requests are
// routed on the raw path by one table (routes.go), because clients send paths that http.ServeMux would clean or redirect.
package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/admission"
	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/managedhsm"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire"
)

// ServiceVersion is what x-ms-keyvault-service-version says. Clients only store it.
const ServiceVersion = "1.9.0.0"

// unrecognized is the operation of a request that no route takes.
const unrecognized = "Unrecognized"

// Config is what a Handler needs. All fields but Logger are required.
type Config struct {
	Service   *keyvault.Service
	HSMs      *managedhsm.Service
	Resources *resource.Service // has the managed HSMs' own roles and settings
	Verifier  *identity.Verifier

	// OtherPlane are the audiences of the management plane, which open no vault even if an outside issuer is trusted for both.
	// Nil is none. VaultAudiences open no managed HSM, HSMAudiences no vault.
	OtherPlane, VaultAudiences, HSMAudiences *identity.Audiences

	// Suffixes are the host names below which vaults live ("vault.localhost"), in lower case, and HSMSuffixes those below which
	// managed HSMs do. The first label in front of one is the vault's name.
	Suffixes, HSMSuffixes []string

	// Authority returns the URL of the token service's tenant for the challenge, given the port that the caller used ("" for
	// 443): "https://login.localhost:8443/3f1c…".
	Authority func(port string) string

	// Region is what x-ms-keyvault-region says.
	Region string

	// Observe takes the outcome of every request, before the answer leaves. If it fails, the answer is 503 instead: nothing
	// succeeds without being on record.
	Observe func(ctx context.Context, o *wire.Outcome) error

	// MaxInFlight is how many requests of one principal may be worked on at a time; more are answered 429.
	MaxInFlight int

	Logger *slog.Logger
	Now    func() time.Time
}

// A Handler answers the requests to vaults' hosts. It is safe for concurrent use.
type Handler struct {
	cfg       Config
	hsms      *keyvault.Service
	admission *admission.Bound
	region    []string // header value
	bulk      *bulk
}

// New returns a Handler.
func New(cfg Config) *Handler {
	return &Handler{
		cfg:       cfg,
		hsms:      cfg.Service.ManagedHSMs(),
		region:    []string{cfg.Region},
		admission: admission.New(cfg.MaxInFlight),
		bulk:      newBulk(),
	}
}

// A request is one HTTP request on its way through the handler.
type request struct {
	h       *Handler
	w       http.ResponseWriter
	r       *http.Request
	ctx     context.Context
	outcome wire.Outcome

	base    string // scheme, host and port as the caller used them; begins every URL that is handed out
	host           // whose host it is
	service *keyvault.Service
	route   *route
	params  params
	query   url.Values
	caller  *identity.Caller

	releases []func() // places that are held until the answer has been written, however slowly it is read
}

// hold takes a place, until the answer has been written.
func (q *request) hold(release func(), err error) error {
	if err == nil {
		q.releases = append(q.releases, release)
	}
	return err
}

// Serves tells whether host (with or without port) is that of a vault or a managed HSM.
func (h *Handler) Serves(host string) bool {
	_, ok := h.hostOf(host)
	return ok
}

// A host is what a Host header says.
type host struct {
	vault  string // name of a vault, or of a managed HSM
	hsm    bool
	suffix string
	port   string // "" for the default
}

// hostOf reads a Host header.
func (h *Handler) hostOf(hostport string) (host, bool) {
	vault, suffix, port, ok := splitHost(hostport, h.cfg.Suffixes)
	if ok {
		return host{vault, false, suffix, port}, true
	}
	vault, suffix, port, ok = splitHost(hostport, h.cfg.HSMSuffixes)
	return host{vault, true, suffix, port}, ok
}

// ServeHTTP answers one request: token first, then the route, then the api-version, and only then the body.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	q := &request{h: h, w: w, r: r, ctx: r.Context()}
	q.outcome = wire.Outcome{
		Start:     h.cfg.Now(),
		Operation: "Authentication",
		Address:   wire.AddressOf(r.RemoteAddr),
		UserAgent: r.UserAgent(),
	}
	defer func() {
		for _, release := range q.releases {
			release()
		}
	}()
	known := false
	if q.host, known = h.hostOf(r.Host); !known {
		q.host = host{suffix: h.cfg.Suffixes[0]}
	}
	q.service = h.cfg.Service
	if q.hsm {
		q.service = h.hsms
	}
	q.setHeaders()
	q.answer(q.serveSafely())
}

// serveSafely makes a panic the 500 of one request, on record like any other.
func (q *request) serveSafely() (resp response, err error) {
	defer func() {
		if p := recover(); p != nil {
			// The value of a panic may hold anything, so it is not logged; the stack names the place.
			err = fmt.Errorf("a panic of type %T at %s", p, debug.Stack())
		}
	}()
	return q.serve()
}

// serve does everything up to the answer.
func (q *request) serve() (response, error) {
	if q.vault == "" {
		return response{}, &wireError{http.StatusBadRequest, "BadRequest", "", "The Host header does not name a vault of this server."}
	}
	q.base = "https://" + strings.ToLower(q.r.Host)
	q.outcome.Vault, q.outcome.HSM = q.vault, q.hsm
	q.outcome.URI = q.base + q.r.URL.RequestURI()

	var err error
	if q.caller, err = wire.Authenticate(q.ctx, q.h.cfg.Verifier, q.r); err != nil {
		return response{}, err
	}
	if err := q.checkAudience(); err != nil {
		return response{}, err
	}
	q.outcome.Caller, q.outcome.Operation = q.caller, unrecognized

	if err := q.hold(q.h.admission.Enter(q.caller.Principal())); err != nil {
		return response{}, err
	}

	if q.route, q.params, err = match(methodOf(q.r), q.r.URL.EscapedPath()); err != nil {
		if q.hsm && errors.Is(err, errNoRoute) {
			err = errNoRouteInHSM
		}
		return response{}, err
	}
	q.outcome.Operation = q.route.Operation.Name
	q.outcome.Object = q.objectURL()
	if err := q.checkFamily(); err != nil {
		return response{}, err
	}
	from, _ := netip.ParseAddr(q.outcome.Address) // an address that is none is in no rule
	if err := q.service.Reachable(q.ctx, q.vault, from); err != nil {
		return response{}, err
	}
	if q.query, err = wire.ParseQuery(q.r.URL.RawQuery); err != nil {
		return response{}, err
	}
	if !q.route.AnyVersion || q.query.Has("api-version") {
		if q.outcome.APIVersion, err = apiVersion(q.query); err != nil {
			return response{}, err
		}
	}
	return q.route.handle(q)
}

// checkAudience refuses a token that is for something else than what the host belongs to.
func (q *request) checkAudience() error {
	found := ""
	switch audience := q.caller.Audience; {
	case q.h.cfg.OtherPlane.Contains(audience):
		found = "the management plane"
	case q.hsm && q.h.cfg.VaultAudiences.Contains(audience):
		found = "vaults"
	case !q.hsm && q.h.cfg.HSMAudiences.Contains(audience):
		found = "managed HSMs"
	default:
		return nil
	}
	return &identity.TokenError{Code: identity.CodeAudience,
		Message: "Invalid audience. Expected https://" + q.suffix + ", found one of " + found + "."}
}

// splitHost finds the vault's name in a Host header. suffix and port are what is left.
func splitHost(hostport string, suffixes []string) (vault, suffix, port string, ok bool) {
	host := hostport
	if i := strings.LastIndexByte(hostport, ':'); i >= 0 {
		host, port = hostport[:i], hostport[i+1:]
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return "", "", "", false
		}
	}
	if port == "443" {
		port = ""
	}
	if len(host) > 253 {
		return "", "", "", false
	}
	host = strings.ToLower(host)
	vault, rest, found := strings.Cut(host, ".")
	if !found || vault == "" {
		return "", "", "", false
	}
	for _, s := range suffixes {
		if rest == s {
			return vault, s, port, true
		}
	}
	return "", "", "", false
}

// methodOf honours the verb override of Azure's documentation, for clients behind proxies that only let POST through.
func methodOf(r *http.Request) string {
	if r.Method == http.MethodPost {
		for _, header := range []string{"X-HTTP-Method", "X-HTTP-Request"} {
			switch m := strings.ToUpper(r.Header.Get(header)); m {
			case http.MethodDelete, http.MethodPatch, http.MethodPut:
				return m
			}
		}
	}
	return r.Method
}

// Header values that do not change; nobody may modify them.
var (
	noCache         = []string{"no-cache"}
	minusOne        = []string{"-1"}
	noSniff         = []string{"nosniff"}
	strictTransport = []string{"max-age=31536000;includeSubDomains"}
	serviceVersion  = []string{ServiceVersion}
	jsonType        = []string{"application/json; charset=utf-8"}

	// Of managed HSMs only.
	ownSource          = []string{"default-src 'self'"}
	sameOrigin         = []string{"SAMEORIGIN"}
	strictTransportHSM = []string{"max-age=31536000; includeSubDomains"}
)

// setHeaders sets what every answer of a vault, or of a managed HSM, carries (contract §2). It writes the map directly: the names are
// canonical already.
func (q *request) setHeaders() {
	h := q.w.Header()
	h["Cache-Control"] = noCache
	h["X-Content-Type-Options"] = noSniff
	h["X-Ms-Keyvault-Region"] = q.h.region
	h["X-Ms-Request-Id"] = []string{audit.CorrelationID(q.ctx)}
	if q.hsm {
		h["Content-Security-Policy"] = ownSource
		h["X-Frame-Options"] = sameOrigin
		h["Strict-Transport-Security"] = strictTransportHSM
		h["X-Ms-Keyvault-Network-Info"] = []string{networkInfo(q.outcome.Address, "Ipv4", "Ipv6")}
	} else {
		h["Pragma"] = noCache
		h["Expires"] = minusOne
		h["Strict-Transport-Security"] = strictTransport
		h["X-Ms-Keyvault-Service-Version"] = serviceVersion
		h["X-Ms-Keyvault-Network-Info"] = []string{networkInfo(q.outcome.Address, "InterNetwork", "InterNetworkV6")}
	}
	if id := q.r.Header.Get("X-Ms-Client-Request-Id"); wire.Echoable(id) {
		h["X-Ms-Client-Request-Id"] = []string{id}
	}
}

// networkInfo tells how a caller came; the names of the address families differ.
func networkInfo(address, family4, family6 string) string {
	if a, err := netip.ParseAddr(address); err == nil && !a.Unmap().Is4() {
		return "conn_type=Ipv6;addr=" + address + ";act_addr_fam=" + family6 + ";"
	}
	return "conn_type=Ipv4;addr=" + address + ";act_addr_fam=" + family4 + ";"
}

// answer puts the outcome on record and then sends the answer, or the refusal.
func (q *request) answer(resp response, err error) {
	if err != nil {
		resp = q.refusal(err)
	}
	q.outcome.Status, q.outcome.Err = resp.status, err
	if err := q.h.cfg.Observe(q.ctx, &q.outcome); err != nil {
		q.h.cfg.Logger.ErrorContext(q.ctx, "a request could not be put on record", "error", err)
		refusal := errNotRecorded
		if q.outcome.Err == nil && q.route.changes() {
			refusal = errOutcomeNotRecorded // it is done, and its intent is on record
		}
		resp = q.refusal(refusal)
	}
	h := q.w.Header()
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

// objectURL is the URL of the object that the path names, for the record.
func (q *request) objectURL() string {
	switch {
	case q.params.id != "":
		return q.localURL()
	case q.params.job != "":
		return q.base + "/" + q.route.collection() + "/" + url.PathEscape(q.params.job)
	case q.params.name == "":
		return ""
	}
	return q.url(q.route.collection(), q.params.name, q.params.version)
}
