// Package sts is the token service's HTTP dialect: OAuth 2.0 client credentials (RFC 6749 section 4.4) with a secret, a
// signed assertion (RFC 7523) or a federated assertion, in the spellings of Microsoft Entra v1 and v2, of AD FS and of
// dSTS; OpenID Connect Discovery 1.0 and instance discovery; and the managed-identity endpoints of App Service, IMDS and
// Azure Arc on a loopback listener of their own.
//
// It decides nothing about identities: package identity holds principals, verifies credentials and signs tokens. Here are
// routes, parameters, bounds and error texts. No token leaves before the outcome was recorded.
package sts

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/identity"
)

// Bounds of a request.
const (
	maxBody       = 64 << 10
	maxFields     = 64
	maxPath       = 1 << 10
	maxResource   = 512
	maxScope      = 2 << 10
	maxAssertion  = 16 << 10
	maxClientText = 64 // of a client id, in events and errors
)

// Config configures a Server.
type Config struct {
	Directory *identity.Directory
	Authority *identity.Authority

	// LoginAuthority is the host of the token service with its public port if that is not 443, such as
	// login.example.org:8443. It names the issuer where the request does not: for managed identities, and in instance
	// discovery under an alias. Its host is that of Authority.
	LoginAuthority string

	// AliasHosts are other hosts that reach this token service, such as login.microsoftonline.com behind DNS takeover.
	AliasHosts []string

	// TenantDomains are names that may stand for the tenant's GUID in a path.
	TenantDomains []string

	// Resources are what tokens may be asked for.
	Resources *identity.Audiences

	// Issuers whose assertions are accepted where an application has a federated credential for them.
	Issuers []*identity.ExternalIssuer

	// FailuresPerMinute is how many failed attempts an address has in a minute before it is told to wait; 0 means 60.
	FailuresPerMinute int

	ManagedIdentity ManagedIdentityConfig

	// Observe records an outcome. If it fails, the client gets 503 and no token. It is called once for every request, before
	// the answer is written, possibly by many goroutines at once.
	Observe func(ctx context.Context, e Event) error

	Now func() time.Time // nil means time.Now
}

// Results of an Event.
const (
	ResultSuccess   = "Success"
	ResultRefused   = "Refused"
	ResultThrottled = "Throttled"
	ResultFailed    = "Failed" // the server could not decide
)

// An Event is the outcome of one attempt to get a token. It holds no secret. Texts that came from the client are bounded
// and printable.
type Event struct {
	Time          time.Time
	Operation     string // OpTokenIssue or OpPublic
	Status        int    // of the answer to an OpPublic
	Endpoint      string // such as v2, v1, appservice, imds, arc
	Result        string
	Code          int    // AADSTS number of a refusal
	Reason        string // one line
	ClientID      string // as claimed; proved only if the result is Success
	ObjectID      string // of the application that was proved
	CredentialID  string // what proved it
	TokenID       string // the token's uti
	Resource      string
	Address       netip.Addr
	UserAgent     string
	CorrelationID string
	Err           error // why the result is Failed; for the log, not for the client
}

// Server is the token service. Its methods may be called concurrently.
type Server struct {
	cfg     Config
	issuers map[string]*identity.ExternalIssuer
	limiter *limiter
	arc     *arcSecrets // nil if Arc is off
}

// New checks the configuration and makes a server.
func New(cfg Config) (*Server, error) {
	if cfg.Observe == nil || cfg.Directory == nil || cfg.Authority == nil || cfg.Resources == nil {
		return nil, errors.New("sts: directory, authority, resources and observer are required")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.LoginAuthority = strings.ToLower(cfg.LoginAuthority)
	host, ok := identity.SplitHostPort(cfg.LoginAuthority)
	if !ok || host != cfg.Authority.LoginHost() {
		return nil, errors.New("sts: the login authority is not the login host with an optional port")
	}
	s := &Server{cfg: cfg, issuers: make(map[string]*identity.ExternalIssuer)}
	for _, e := range cfg.Issuers {
		s.issuers[e.Issuer()] = e
	}
	const defaultFailures = 60
	if cfg.FailuresPerMinute <= 0 {
		cfg.FailuresPerMinute = defaultFailures
	}
	s.limiter = newLimiter(cfg.FailuresPerMinute, time.Minute, cfg.Now)
	var err error
	s.arc, err = newArcSecrets(cfg.ManagedIdentity, cfg.Now)
	return s, err
}

// Close removes the one-time secrets that lie in the Arc directory.
func (s *Server) Close() error { return s.arc.close() }

// ServeHTTP answers for the login hosts. Paths are taken as they were sent: cleaning or redirecting them would break
// clients that do not follow redirects of a POST.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	if h.Get("X-Ms-Request-Id") == "" { // the server may have given the request an id
		h.Set("X-Ms-Request-Id", uuid.NewString())
	}
	s.recorded(w, r, func(w http.ResponseWriter) { s.serve(w, r) })
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	at, ok := s.place(r.Host)
	if !ok {
		http.Error(w, "This host is not a token service.", http.StatusMisdirectedRequest)
		return
	}
	rt, ok := parseRoute(r.URL.EscapedPath())
	if !ok {
		http.NotFound(w, r)
		return
	}
	if rt.page == pageToken {
		s.serveToken(w, r, at, rt) // records every refusal, so it looks at the tenant itself
		return
	}
	if !s.knownTenant(rt) {
		s.writeError(w, r, errTenant(rt.tenant))
		return
	}
	switch rt.page {
	case pageOpenID:
		s.serveDocument(w, r, s.openIDDocument(at, rt))
	case pageInstance:
		s.serveDocument(w, r, s.instanceDocument(at, r))
	case pageKeys:
		s.serveKeys(w, r)
	case pageWebFinger:
		doc, ok := webFinger(at, r)
		if !ok {
			http.NotFound(w, r)
			return
		}
		s.serveDocument(w, r, doc)
	}
}

// A place is where a request came in.
type place struct {
	used    string // host and port in the request, lower case
	central string // the login host with that port: in the issuer of tokens
	issuer  string // host and port of the issuer in discovery documents
}

// place resolves the Host header. A regional name (<word>.login…) shows the central issuer, since clients accept an
// issuer whose host is a suffix of theirs; an alias shows itself, since they accept no other.
func (s *Server) place(hostport string) (place, bool) {
	hostport = strings.TrimSuffix(strings.ToLower(hostport), ":443")
	host, ok := identity.SplitHostPort(hostport)
	if !ok {
		return place{}, false
	}
	login := s.cfg.Authority.LoginHost()
	port := hostport[len(host):]
	at := place{used: hostport, central: login + port, issuer: login + port}
	if word, regional := strings.CutSuffix(host, "."+login); regional {
		return at, word != "" && !strings.Contains(word, ".")
	}
	if host == login {
		return at, true
	}
	if !slices.ContainsFunc(s.cfg.AliasHosts, func(a string) bool { return strings.EqualFold(a, host) }) {
		return place{}, false
	}
	at.issuer, at.central = hostport, s.cfg.LoginAuthority
	return at, true
}

type page int

const (
	pageToken page = iota + 1
	pageOpenID
	pageKeys
	pageInstance
	pageWebFinger
)

// A route is what a path means.
type route struct {
	page    page
	base    string // path up to the page, with the client's spelling of the tenant
	tenant  string
	version int  // of tokens and issuer
	dsts    bool // under /dstsv2
}

// tenantADFS makes clients speak to the service as to AD FS: no instance discovery, version 1 tokens.
const (
	tenantADFS = "adfs"
	pathDSTS   = "dstsv2"
	// tenantDSTS is the only tenant for which clients take an authority for dSTS.
	tenantDSTS = "7a433bfc-2514-4697-b467-e0933190487f"
)

func parseRoute(path string) (route, bool) {
	if len(path) > maxPath || !strings.HasPrefix(path, "/") {
		return route{}, false
	}
	if path == pathWebFinger {
		return route{page: pageWebFinger, tenant: tenantADFS}, true
	}
	rt := route{}
	first, rest, _ := strings.Cut(path[1:], "/")
	rt.tenant, rt.base = strings.ToLower(first), "/"+first
	if rt.tenant == pathDSTS {
		rt.dsts = true
		rt.tenant = tenantDSTS
		// Clients that derive the token URL drop the tenant.
		if second, after, ok := strings.Cut(rest, "/"); ok && looksLikeTenant(second) {
			rt.tenant, rt.base, rest = strings.ToLower(second), rt.base+"/"+second, after
		}
	}
	switch strings.TrimSuffix(rest, "/") {
	case "v2.0/.well-known/openid-configuration":
		rt.page, rt.version = pageOpenID, 2
	case ".well-known/openid-configuration":
		rt.page, rt.version = pageOpenID, 1
	case "oauth2/v2.0/token":
		rt.page, rt.version = pageToken, 2
	case "oauth2/token":
		rt.page, rt.version = pageToken, 1
	case "discovery/v2.0/keys", "discovery/keys":
		rt.page = pageKeys
	case "discovery/instance":
		rt.page = pageInstance
	}
	if rt.tenant == tenantADFS {
		rt.version = 1
	}
	return rt, rt.page != 0
}

// looksLikeTenant tells a tenant's GUID from the next word of a path.
func looksLikeTenant(s string) bool { return len(s) == len(tenantDSTS) }

func (s *Server) knownTenant(rt route) bool {
	own := s.cfg.Directory.TenantID()
	if rt.dsts {
		return rt.tenant == tenantDSTS || rt.tenant == own
	}
	switch rt.tenant {
	case own, tenantADFS, "common", "organizations":
		return true
	}
	return slices.ContainsFunc(s.cfg.TenantDomains, func(d string) bool { return strings.EqualFold(d, rt.tenant) })
}

// serveDocument writes a public document that changes with configuration only.
func (s *Server) serveDocument(w http.ResponseWriter, r *http.Request, doc any) {
	raw, err := json.Marshal(doc)
	if err != nil {
		s.writeError(w, r, errUnavailable(err))
		return
	}
	s.servePublic(w, r, raw)
}

func (s *Server) serveKeys(w http.ResponseWriter, r *http.Request) {
	raw, err := s.cfg.Authority.JWKS(r.Context())
	if err != nil {
		s.writeError(w, r, errUnavailable(err))
		return
	}
	s.servePublic(w, r, raw)
}

func (s *Server) servePublic(w http.ResponseWriter, r *http.Request, raw []byte) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	w.Header().Set("Access-Control-Allow-Origin", "*") // public documents without credentials
	writeJSON(w, http.StatusOK, raw)
}

// writeJSON writes an answer that no cache may keep.
func writeJSON(w http.ResponseWriter, status int, raw []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Cache-Control", "no-store, no-cache")
	h.Set("Pragma", "no-cache")
	w.WriteHeader(status)
	_, _ = w.Write(raw) // the client may have gone; there is nobody else to tell
}

// clientAddress is the address of the peer. Headers that name another are not trusted here.
func clientAddress(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return addr.Unmap()
}

// correlationID takes over the client's request id if it is a GUID, as clients that log it expect.
func correlationID(r *http.Request) string {
	for _, name := range []string{"Client-Request-Id", "X-Ms-Client-Request-Id"} {
		if v := r.Header.Get(name); len(v) == 36 {
			if id, err := uuid.Parse(v); err == nil {
				return id.String()
			}
		}
	}
	return uuid.NewString()
}

// printable bounds text from a client for events and errors.
func printable(s string, longest int) string {
	if len(s) > longest {
		s = s[:longest]
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' || strings.ContainsRune(`"\<>'`, r) {
			return '?'
		}
		return r
	}, s)
}
