// Package server wires everything together and is the only package that knows all others: configuration, the data
// folder, listeners, hosts, jobs, health and metrics.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/api"
	"github.com/strongroom/strongroom/internal/arm"
	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/jobs"
	"github.com/strongroom/strongroom/internal/sts"
	"github.com/strongroom/strongroom/internal/wire"
)

// Options are what a program gives a server beside its configuration. The zero value is ready to use.
type Options struct {
	Log      *slog.Logger     // nil: nothing is logged
	Now      func() time.Time // nil: time.Now
	TenantID string           // for Init: the tenant's id; empty: a new one
	SKU      string           // for Init: of the first vault, "standard" or "premium"; empty: standard

	step func() error // for tests: see installer
}

// A Server is an open data folder with its listeners bound.
type Server struct {
	*state
	api       *api.Handler
	arm       *arm.Handler
	tokens    *sts.Server
	metrics   *metrics
	flood     *flood // bounds the records of requests without a token
	forgeries *flood // bounds those of bad tokens and failed sign-ins, so that the former do not hide the latter
	certs     certificates

	https     []net.Listener
	identity  net.Listener // nil: no managed-identity endpoints
	ops       net.Listener // nil: none
	adminSock net.Listener
}

// Open opens the data folder and binds all listeners. Nothing is served before Serve.
func Open(ctx context.Context, cfg *Config, opts Options) (_ *Server, err error) {
	st, err := openState(ctx, cfg, opts)
	if err != nil {
		return nil, err
	}
	s := &Server{state: st, flood: newFlood(), forgeries: newFlood()}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	s.metrics = newMetrics(st)
	if err := s.listen(); err != nil {
		return nil, err
	}
	s.api = api.New(api.Config{
		Service:        s.vaults,
		HSMs:           s.hsms,
		Resources:      s.resources,
		Verifier:       s.verifier,
		OtherPlane:     s.managementAudiences(),
		VaultAudiences: identity.NewAudiences(cfg.suffixes(), vaultAudiences),
		HSMAudiences:   identity.NewAudiences(cfg.hsmSuffixes(), hsmAudiences),
		Suffixes:       cfg.suffixes(),
		HSMSuffixes:    cfg.hsmSuffixes(),
		Authority:      s.authorityURL,
		Region:         cfg.Region,
		Observe:        s.observeRequest,
		MaxInFlight:    cfg.Limits.RequestsPerPrincipal,
		Logger:         s.log,
		Now:            s.now,
	})
	if err := s.openManagement(); err != nil {
		return nil, err
	}
	if err := s.openTokens(ctx); err != nil {
		return nil, err
	}
	return s, s.openCertificates()
}

// openManagement makes the management plane. It has a verifier of its own: a token for the vaults is none for it, and the
// other way round.
func (s *Server) openManagement() error {
	audiences := s.managementAudiences()
	verifier, err := identity.NewVerifier(identity.VerifierConfig{Authority: s.authority, Audiences: audiences, External: s.external})
	if err != nil {
		return err
	}
	s.arm = arm.New(arm.Config{
		Resources:   s.resources,
		Vaults:      s.vaults,
		Directory:   s.directory,
		Verifier:    verifier,
		Audiences:   audiences,
		Graph:       identity.NewAudiences([]string{"graph." + s.cfg.Domain}, graphAudiences),
		Domain:      s.cfg.Domain,
		Login:       func(port string) string { return "https://" + withPort("login."+s.cfg.Domain, port) },
		Observe:     s.observeRequest,
		MaxInFlight: s.cfg.Limits.RequestsPerPrincipal,
		Logger:      s.log,
		Now:         s.now,
	})
	return nil
}

func (s *Server) managementAudiences() *identity.Audiences {
	return identity.NewAudiences(s.managementHosts(), managementAudiences)
}

// managementHosts are the hosts whose tokens the management plane accepts. It answers the directory's questions, too.
func (s *Server) managementHosts() []string {
	return []string{"management." + s.cfg.Domain, "graph." + s.cfg.Domain}
}

// managementAudiences are its names in the public cloud, as vaultAudiences are those of vaults.
var managementAudiences = []string{
	"https://management.azure.com", "https://management.azure.com/",
	"https://management.core.windows.net", "https://management.core.windows.net/",
	"https://graph.microsoft.com", "https://graph.microsoft.com/",
}

// graphAudiences are those of them whose tokens are good for the directory's questions alone.
var graphAudiences = []string{"https://graph.microsoft.com", "https://graph.microsoft.com/"}

func (s *Server) openTokens(ctx context.Context) error {
	identities, err := s.machineIdentities(ctx)
	if err != nil {
		return err
	}
	resources := append(s.resourceHosts(), s.managementHosts()...)
	literals := slices.Concat(managementAudiences, vaultAudiences, hsmAudiences)
	s.tokens, err = sts.New(sts.Config{
		Directory:      s.directory,
		Authority:      s.authority,
		LoginAuthority: withPort("login."+s.cfg.Domain, s.Port()),
		Resources:      identity.NewAudiences(resources, literals),
		Issuers:        s.external,
		ManagedIdentity: sts.ManagedIdentityConfig{
			Identities:   identities,
			IMDS:         s.cfg.ManagedIdentity.InsecureIMDS,
			ArcDirectory: s.cfg.ManagedIdentity.ArcTokenDirectory,
		},
		Observe: s.observeToken,
		Now:     s.now,
	})
	if err == nil {
		s.closers = append(s.closers, s.tokens.Close)
	}
	return err
}

// machineIdentities are the managed identities that programs on this machine may become through IMDS and Arc, the oldest
// first: it is what a program gets that names none, and does not change when another one is made.
func (s *Server) machineIdentities(ctx context.Context) (ids []string, err error) {
	if !s.cfg.ManagedIdentity.InsecureIMDS && s.cfg.ManagedIdentity.ArcTokenDirectory == "" {
		return nil, nil
	}
	var found []*identity.Application
	for next := ""; ; {
		var page []*identity.Application
		page, next, err = s.directory.Applications(ctx, next, identity.MaxPage)
		if err != nil {
			return nil, err
		}
		for _, app := range page {
			if app.Kind == identity.KindManagedIdentity {
				found = append(found, app)
			}
		}
		if next == "" {
			break
		}
	}
	slices.SortStableFunc(found, func(a, b *identity.Application) int { return a.Created.Compare(b.Created) })
	for _, app := range found {
		ids = append(ids, app.ClientID)
	}
	return ids, nil
}

func (s *Server) openCertificates() error {
	s.certs = &issuedCertificates{ca: s.ca, names: serverNames(s.cfg), now: s.now}
	if s.cfg.TLS.Certificate != "" {
		s.certs = &fileCertificates{cfg: s.cfg, log: s.log, now: s.now}
	}
	_, err := s.certs.current()
	return err
}

// listen binds everything, so that a wrong address is told before anything is served.
func (s *Server) listen() error {
	conns := &connections{
		max:           s.cfg.Limits.Connections,
		maxPerAddress: s.cfg.Limits.ConnectionsPerAddress,
		byAddress:     make(map[string]int),
		refused:       s.metrics.refused.Inc,
	}
	for _, address := range s.cfg.Listen {
		l, err := s.bind("listen", address)
		if err != nil {
			return err
		}
		s.https = append(s.https, limitListener{l, conns})
	}
	var err error
	if s.cfg.ManagedIdentity.Listen != "" {
		if s.identity, err = s.bind("managedIdentity.listen", s.cfg.ManagedIdentity.Listen); err != nil {
			return err
		}
	}
	if s.cfg.Operations.Listen != "-" {
		if s.ops, err = s.bind("operations.listen", s.cfg.Operations.Listen); err != nil {
			return err
		}
	}
	s.adminSock, err = admin.Listen(s.cfg.Data)
	if err == nil {
		s.closers = append(s.closers, ignoreClosed(s.adminSock.Close))
	}
	return err
}

// bind listens on one address of a setting, which its errors name. An IPv6 address does not stand for IPv4 as well: each is
// listed by itself.
func (s *Server) bind(setting, address string) (net.Listener, error) {
	a, err := parseListen(address)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	network := "tcp4"
	if a.Addr().Is6() {
		network = "tcp6"
	}
	l, err := net.Listen(network, a.String())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	s.closers = append(s.closers, ignoreClosed(l.Close))
	return l, nil
}

// ignoreClosed makes a second Close harmless: http.Server closes its listeners too.
func ignoreClosed(close func() error) func() error {
	return func() error {
		if err := close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// Port returns the port of the first HTTPS listener, "" for 443.
func (s *Server) Port() string { return portOf(s.https[0]) }

func portOf(l net.Listener) string {
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil || port == "443" {
		return ""
	}
	return port
}

func withPort(host, port string) string {
	if port == "" {
		return host
	}
	return host + ":" + port
}

// authorityURL is what the challenge names, with the port that the caller used.
func (s *Server) authorityURL(port string) string {
	tenant := s.directory.TenantID()
	if s.cfg.ChallengeTenant == "adfs" {
		tenant = "adfs"
	}
	return "https://" + withPort("login."+s.cfg.Domain, port) + "/" + tenant
}

// Serve serves until ctx ends, then finishes what is in flight and closes everything. It may be called once.
func (s *Server) Serve(ctx context.Context) error {
	background, stopJobs := context.WithCancel(context.WithoutCancel(ctx))
	defer stopJobs()
	var work sync.WaitGroup
	work.Go(func() { jobs.Run(background, s.log, s.jobs()) })
	work.Go(func() {
		s.hsms.Run(background, func(err error) { s.log.Error("a backup or a restore failed", "error", err) })
	})
	work.Go(func() { s.log.Info("RSA", "engines", s.hsm.Engines()) }) // they may have to be measured first
	work.Go(func() { s.summarizeFlood(background, s.flood, "without a token") })
	work.Go(func() { s.summarizeFlood(background, s.forgeries, "with a bad token or a bad credential") })

	// Each listener can fail once.
	failed := make(chan error, len(s.https)+3)
	public := s.newHTTP(s.correlated(http.HandlerFunc(s.dispatch)))
	servers := []*http.Server{public}
	for _, l := range s.https {
		go func() { failed <- public.ServeTLS(l, "", "") }()
	}
	plain := func(srv *http.Server, l net.Listener) {
		servers = append(servers, srv)
		go func() { failed <- srv.Serve(l) }()
	}
	if s.identity != nil {
		plain(s.newHTTP(s.correlated(s.tokens.ManagedIdentityHandler())), s.identity)
	}
	if s.ops != nil {
		plain(s.newHTTP(s.operations()), s.ops)
	}
	operators := s.newHTTP(s.adminHandler())
	operators.WriteTimeout = 0 // a verification of the whole store may take long
	plain(operators, s.adminSock)
	s.log.Info("serving", "domain", s.cfg.Domain, "addresses", addresses(s.https), "tenant", s.directory.TenantID(),
		"fips140", fipsMode())

	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	s.log.Info("shutting down")
	err = errors.Join(err, s.shutdown(servers))
	stopJobs()
	work.Wait()
	return errors.Join(err, s.Close())
}

func addresses(ls []net.Listener) (out []string) {
	for _, l := range ls {
		out = append(out, l.Addr().String())
	}
	return out
}

// newHTTP returns an HTTP server with bounds on what a slow client can hold.
func (s *Server) newHTTP(h http.Handler) *http.Server {
	return &http.Server{
		Handler:           h,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       s.cfg.Limits.RequestTime,
		WriteTimeout:      s.cfg.Limits.RequestTime + 10*time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    32 << 10,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100},
		TLSConfig:         tlsConfig(s.certs),
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelDebug),
	}
}

func (s *Server) shutdown(servers []*http.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Limits.ShutdownTime)
	defer cancel()
	var errs []error
	for _, srv := range servers {
		if err := srv.Shutdown(ctx); err != nil {
			errs = append(errs, fmt.Errorf("some requests did not end in time: %w", err), srv.Close())
		}
	}
	return errors.Join(errs...)
}

// Close closes a server that was not served, or whose Serve has ended.
func (s *Server) Close() error { return s.close() }

// ReopenAudit opens the audit log's file anew, after it was renamed.
func (s *Server) ReopenAudit() error {
	if err := s.audit.Reopen(); err != nil {
		return err
	}
	s.log.Info("audit log reopened", "record", s.audit.Head().Seq)
	return nil
}

// correlated gives each request an id and a deadline, and makes a panic the end of one connection.
func (s *Server) correlated(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id := uuid.NewString()
		w.Header().Set("X-Ms-Request-Id", id)
		ctx, cancel := context.WithTimeout(audit.WithCorrelationID(r.Context(), id), s.cfg.Limits.RequestTime)
		defer cancel()
		defer func() {
			switch p := recover(); p {
			case nil:
			case http.ErrAbortHandler:
				panic(p)
			default:
				// The value of a panic may hold anything, so it is not logged; the stack names the place.
				s.log.ErrorContext(ctx, "a request panicked", "request", id, "type", fmt.Sprintf("%T", p), "stack", string(debug.Stack()))
				panic(http.ErrAbortHandler)
			}
		}()
		next.ServeHTTP(w, r.WithContext(ctx))
		takeBody(w, r)
	})
}

// takeBody reads what was left of a short body. Over HTTP/2 the library resets a stream whose body was not read to the end, and some
// clients (curl 7.88) then throw the answer away; over HTTP/1.1 it does the same as this. A body that is long, or of no known length,
// is left, and nobody holds his answer up for long by sending none.
func takeBody(w http.ResponseWriter, r *http.Request) {
	const short, patience = 64 << 10, time.Second
	if r.ProtoMajor != 2 || r.ContentLength < 1 || r.ContentLength > short {
		return
	}
	if http.NewResponseController(w).SetReadDeadline(time.Now().Add(patience)) == nil {
		_, _ = io.Copy(io.Discard, r.Body)
	}
}

// dispatch finds out by the host who answers.
func (s *Server) dispatch(w http.ResponseWriter, r *http.Request) {
	switch {
	case s.api.Serves(r.Host):
		if !s.throttled(w, r) {
			s.api.ServeHTTP(w, r)
		}
	case s.arm.Serves(r.Host):
		if !s.throttled(w, r) {
			s.arm.ServeHTTP(w, r)
		}
	case s.isLogin(r.Host):
		s.tokens.ServeHTTP(w, r)
	case !s.throttled(w, r):
		s.misdirected(w, r)
	}
}

// isLogin tells whether host is login.<domain> or <word>.login.<domain>.
func (s *Server) isLogin(hostport string) bool {
	host, ok := identity.SplitHostPort(hostport)
	if !ok {
		return false
	}
	host = strings.ToLower(host)
	login := "login." + s.cfg.Domain
	if host == login {
		return true
	}
	word, found := strings.CutSuffix(host, "."+login)
	return found && !strings.Contains(word, ".")
}

// misdirected answers a request for a host that nothing here answers for.
func (s *Server) misdirected(w http.ResponseWriter, r *http.Request) {
	status := http.StatusMisdirectedRequest
	err := s.observeRequest(r.Context(), &wire.Outcome{
		Start: s.now(), Operation: "Misdirected", Address: wire.AddressOf(r.RemoteAddr), UserAgent: r.UserAgent(),
		URI: "https://" + r.Host + r.URL.RequestURI(), Status: status,
	})
	if err != nil {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"code":"HostNotFound","message":"No vault and no service of this server has the name in the `+
		`Host header. Vaults are at <name>.vault.%[1]s, managed HSMs at <name>.managedhsm.%[1]s."}}`, s.cfg.Domain)
}

// CAFile is the path of the local certificate authority's certificate.
func (s *Server) CAFile() string { return filepath.Join(s.cfg.Data, caFile) }
