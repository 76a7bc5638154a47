package sts

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/strongroom/strongroom/internal/identity"
)

// ManagedIdentityConfig configures the endpoints for workloads on the same machine. App Service needs no configuration:
// the header secret that a workload holds says which identity it is.
type ManagedIdentityConfig struct {
	// Identities are the client ids of the managed identities that any process which reaches the listener may become,
	// through IMDS, Cloud Shell or Arc. The first is the default. Empty switches these three off.
	Identities []string

	// IMDS serves the instance metadata service and Cloud Shell, where reaching the address is the only proof.
	IMDS bool

	// ArcDirectory is where one-time secrets are written for a client to read, so that the permission to read there is
	// the proof. Clients on Linux insist on /var/opt/azcmagent/tokens. Empty switches Arc off.
	ArcDirectory string

	// ArcMode is the mode of these files: 0600 (0 means that) or 0640.
	ArcMode fs.FileMode
}

// Paths of the listener. IDENTITY_ENDPOINT for App Service is its address and pathMSI.
const (
	pathMSI      = "/msi/token"
	pathIMDS     = "/metadata/identity/oauth2/token"
	pathShell    = "/oauth2/token"
	imdsAddress  = "169.254.169.254"
	maxIMDSQuery = 8 << 10
)

// ManagedIdentityHandler serves a plain-http listener that must be bound to loopback (or to the address of IMDS). It
// checks again what the listener should guarantee, and that no browser or proxy speaks for somebody else.
func (s *Server) ManagedIdentityHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.recorded(w, r, func(w http.ResponseWriter) { s.serveIdentity(w, r) })
	})
}

func (s *Server) serveIdentity(w http.ResponseWriter, r *http.Request) {
	if !s.localRequest(r) || len(r.URL.RawQuery) > maxIMDSQuery {
		writeMetadataError(w, http.StatusForbidden, "forbidden", "Only programs on this machine may ask here.")
		return
	}
	switch strings.TrimSuffix(r.URL.EscapedPath(), "/") {
	case pathMSI:
		s.serveAppService(w, r)
	case pathIMDS:
		s.serveMetadata(w, r)
	case pathShell:
		s.serveShell(w, r)
	default:
		// This includes /metadata/instance: some clients take any body for the name of a region.
		w.WriteHeader(http.StatusNotFound)
	}
}

// localRequest refuses what a web page could send through a browser on this machine (a name that was rebound to
// loopback shows in Host, a script in Origin) and what a proxy passes on.
func (s *Server) localRequest(r *http.Request) bool {
	for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Host", "Forwarded", "Via", "Origin"} {
		if _, found := r.Header[name]; found {
			return false
		}
	}
	// What the client connected to, if the server says so: a listener that was bound too widely must not serve a network.
	if to, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && !s.localAddress(to) {
		return false
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if s.cfg.ManagedIdentity.IMDS && host == imdsAddress {
		return true
	}
	if !clientAddress(r).IsLoopback() {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil && addr.Unmap().IsLoopback()
}

func (s *Server) localAddress(a net.Addr) bool {
	to, err := netip.ParseAddrPort(a.String())
	if err != nil {
		return false
	}
	addr := to.Addr().Unmap()
	return addr.IsLoopback() || s.cfg.ManagedIdentity.IMDS && addr.String() == imdsAddress
}

// A metadataRequest is what the endpoints have in common.
type metadataRequest struct {
	resource  string
	clientID  string
	objectID  string
	arm       string
	malformed bool // a parameter occurs twice
}

// readMetadata reads the parameters in all spellings in use.
func readMetadata(values url.Values) metadataRequest {
	var m metadataRequest
	for name, into := range map[string]*string{
		"resource":     &m.resource,
		"client_id":    &m.clientID,
		"clientid":     &m.clientID, // 2017-09-01
		"object_id":    &m.objectID,
		"principal_id": &m.objectID,
		"mi_res_id":    &m.arm,
		"msi_res_id":   &m.arm,
	} {
		for _, v := range values[name] {
			if *into != "" && *into != v || len(v) > maxResource {
				m.malformed = true
			}
			*into = v
		}
	}
	return m
}

// selects reports whether app is the one that the request names; without a name any is.
func (m *metadataRequest) selects(app *identity.Application) bool {
	return (m.clientID == "" || strings.EqualFold(m.clientID, app.ClientID)) &&
		(m.objectID == "" || strings.EqualFold(m.objectID, app.ObjectID)) &&
		(m.arm == "" || strings.EqualFold(m.arm, app.ResourceID))
}

// serveAppService answers api-versions 2019-08-01 (X-IDENTITY-HEADER) and 2017-09-01 (secret).
func (s *Server) serveAppService(w http.ResponseWriter, r *http.Request) {
	header := ""
	switch r.URL.Query().Get("api-version") {
	case "2019-08-01":
		header = r.Header.Get("X-Identity-Header")
	case "2017-09-01":
		header = r.Header.Get("Secret")
	default:
		writeServiceError(w, http.StatusBadRequest, "The api-version is missing or not supported.")
		return
	}
	if r.Method != http.MethodGet {
		writeServiceError(w, http.StatusMethodNotAllowed, "Use GET.")
		return
	}
	s.answerMetadata(w, r, "appservice", readMetadata(r.URL.Query()), func(m *metadataRequest) (*proof, *refusal) {
		app, id, err := s.cfg.Directory.VerifyIdentityHeader(r.Context(), header)
		if errors.Is(err, identity.ErrWrongSecret) {
			return nil, &refusal{status: http.StatusUnauthorized, code: "unauthorized", text: "The identity header is wrong."}
		}
		if err != nil {
			return nil, errUnavailable(err)
		}
		if !m.selects(app) {
			return nil, errNoIdentity()
		}
		return &proof{app, id, identity.ProofCertificate}, nil
	})
}

// serveMetadata answers IMDS and Arc, which share a path and differ in the api-version.
func (s *Server) serveMetadata(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Metadata") != "true" {
		// Clients probe without the header and expect this answer at once.
		writeMetadataError(w, http.StatusBadRequest, "invalid_request", "Required metadata header not specified")
		return
	}
	if r.Method != http.MethodGet {
		writeMetadataError(w, http.StatusMethodNotAllowed, "invalid_request", "Use GET.")
		return
	}
	query := r.URL.Query()
	switch query.Get("api-version") {
	case "2018-02-01", "2019-08-01", "2021-02-01":
		if s.cfg.ManagedIdentity.IMDS {
			s.answerMetadata(w, r, "imds", readMetadata(query), s.listedIdentity(r))
			return
		}
	case "2019-11-01", "2020-06-01":
		if s.arc != nil {
			s.serveArc(w, r, readMetadata(query))
			return
		}
	}
	writeMetadataError(w, http.StatusBadRequest, "invalid_request", "The api-version is missing or not supported.")
}

// serveShell answers Cloud Shell: POST with the resource in a form.
func (s *Server) serveShell(w http.ResponseWriter, r *http.Request) {
	if !s.cfg.ManagedIdentity.IMDS || r.Method != http.MethodPost {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	if r.Header.Get("Metadata") != "true" {
		writeMetadataError(w, http.StatusBadRequest, "invalid_request", "Required metadata header not specified")
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxIMDSQuery)
	if err := r.ParseForm(); err != nil {
		writeMetadataError(w, http.StatusBadRequest, "invalid_request", "The body is not a form.")
		return
	}
	s.answerMetadata(w, r, "cloudshell", readMetadata(r.PostForm), s.listedIdentity(r))
}

// serveArc makes the client prove that it may read the directory: the first request is answered with the name of a file,
// the second brings its content.
func (s *Server) serveArc(w http.ResponseWriter, r *http.Request, m metadataRequest) {
	secret, found := strings.CutPrefix(r.Header.Get("Authorization"), "Basic ")
	if !found {
		file, err := s.arc.issue()
		if err != nil {
			w.Header().Set("Retry-After", "5")
			writeMetadataError(w, http.StatusTooManyRequests, "temporarily_unavailable", "Too many challenges are open.")
			return
		}
		w.Header().Set("Www-Authenticate", "Basic realm="+file)
		writeMetadataError(w, http.StatusUnauthorized, "unauthorized", "Read the file named in the challenge.")
		return
	}
	s.answerMetadata(w, r, "arc", m, func(m *metadataRequest) (*proof, *refusal) {
		if !s.arc.redeem(secret) {
			return nil, &refusal{status: http.StatusUnauthorized, code: "unauthorized", text: "The one-time secret is wrong."}
		}
		return s.listedIdentity(r)(m)
	})
}

func errNoIdentity() *refusal {
	return &refusal{status: http.StatusBadRequest, code: "invalid_request", text: "Identity not found"}
}

// listedIdentity selects among the configured identities; the first one stands in if the request names none.
func (s *Server) listedIdentity(r *http.Request) func(*metadataRequest) (*proof, *refusal) {
	return func(m *metadataRequest) (*proof, *refusal) {
		for _, id := range s.cfg.ManagedIdentity.Identities {
			app, err := s.cfg.Directory.Application(r.Context(), id)
			if identity.IsNotFound(err) {
				continue
			}
			if err != nil {
				return nil, errUnavailable(err)
			}
			if app.Kind == identity.KindManagedIdentity && m.selects(app) {
				return &proof{app, "", identity.ProofCertificate}, nil
			}
		}
		return nil, errNoIdentity()
	}
}

// metadataAnswer has numbers as text, as these endpoints send them.
type metadataAnswer struct {
	AccessToken  string `json:"access_token"`
	ClientID     string `json:"client_id"`
	ExpiresIn    string `json:"expires_in"`
	ExpiresOn    string `json:"expires_on"`
	ExtExpiresIn string `json:"ext_expires_in"`
	NotBefore    string `json:"not_before"`
	Resource     string `json:"resource"`
	TokenType    string `json:"token_type"`
}

// answerMetadata finds the identity with prove, issues a token of version 1, records the outcome and answers.
func (s *Server) answerMetadata(
	w http.ResponseWriter, r *http.Request, endpoint string, m metadataRequest,
	prove func(*metadataRequest) (*proof, *refusal),
) {
	noteRecorded(w)
	event := s.newEvent(r, endpoint)
	event.ClientID, event.Resource = printable(m.clientID, maxClientText), printable(m.resource, maxResource)
	token, refused := s.grantMetadata(r, &event, &m, prove)
	if err := s.record(r.Context(), &event, token, refused); err != nil {
		refused = errUnavailable(err)
	}
	if refused != nil {
		writeRefusal(w, endpoint, refused)
		return
	}
	life := strconv.FormatInt(int64(token.Expires.Sub(token.Issued).Seconds()), 10)
	s.writeAnswer(w, r, metadataAnswer{
		AccessToken: token.Text.Reveal(), ClientID: event.ClientID, ExpiresIn: life, ExtExpiresIn: life,
		ExpiresOn: strconv.FormatInt(token.Expires.Unix(), 10), NotBefore: strconv.FormatInt(token.Issued.Unix(), 10),
		Resource: m.resource, TokenType: "Bearer",
	})
}

func (s *Server) grantMetadata(
	r *http.Request, event *Event, m *metadataRequest, prove func(*metadataRequest) (*proof, *refusal),
) (*identity.Token, *refusal) {
	if m.malformed || m.resource == "" {
		return nil, &refusal{status: http.StatusBadRequest, code: "invalid_request",
			text: "The parameter resource is missing, or a parameter is too long or repeated."}
	}
	p, refused := prove(m)
	if refused != nil {
		return nil, refused
	}
	event.ClientID, event.ObjectID, event.CredentialID = p.app.ClientID, p.app.ObjectID, p.credentialID
	if !s.cfg.Resources.Contains(m.resource) {
		return nil, errResource(m.resource, s.cfg.Directory.TenantID())
	}
	return s.issue(r.Context(), identity.TokenRequest{
		Application: p.app, Audience: m.resource, Host: s.cfg.LoginAuthority, Version: 1, Proof: p.method,
	})
}

func writeRefusal(w http.ResponseWriter, endpoint string, e *refusal) {
	if endpoint == "appservice" {
		writeServiceError(w, e.status, e.text)
		return
	}
	writeMetadataError(w, e.status, e.code, e.text)
}

func writeMetadataError(w http.ResponseWriter, status int, code, text string) {
	raw, _ := json.Marshal(map[string]string{"error": code, "error_description": text}) // strings always encode
	writeJSON(w, status, raw)
}

// writeServiceError has App Service's shape.
func writeServiceError(w http.ResponseWriter, status int, text string) {
	raw, _ := json.Marshal(struct {
		StatusCode int    `json:"statusCode"`
		Message    string `json:"message"`
	}{status, text}) // always encodes
	writeJSON(w, status, raw)
}

const (
	arcLife   = time.Minute
	maxArc    = 16
	arcPrefix = "strongroom-"
	arcSuffix = ".key" // clients insist on it
)

// arcSecrets are the one-time secrets that lie in a directory. A nil *arcSecrets means that Arc is off.
type arcSecrets struct {
	dir  string
	mode fs.FileMode
	now  func() time.Time

	mu   sync.Mutex // guards open
	open map[[sha256.Size]byte]arcSecret
}

type arcSecret struct {
	file    string
	expires time.Time
	timer   *time.Timer
}

func newArcSecrets(cfg ManagedIdentityConfig, now func() time.Time) (*arcSecrets, error) {
	if cfg.ArcDirectory == "" {
		return nil, nil
	}
	mode := cfg.ArcMode
	if mode == 0 {
		mode = 0o600
	}
	if mode != 0o600 && mode != 0o640 {
		return nil, fmt.Errorf("sts: mode %o of Arc secrets is neither 0600 nor 0640", mode)
	}
	dir, err := filepath.Abs(cfg.ArcDirectory)
	if err != nil {
		return nil, fmt.Errorf("sts: Arc directory: %w", err)
	}
	// Files of a server that was killed hold secrets that nobody accepts any more.
	old, err := filepath.Glob(filepath.Join(dir, arcPrefix+"*"+arcSuffix))
	if err != nil {
		return nil, fmt.Errorf("sts: Arc directory: %w", err)
	}
	for _, file := range old {
		if err := os.Remove(file); err != nil {
			return nil, fmt.Errorf("sts: remove an old Arc secret: %w", err)
		}
	}
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return nil, fmt.Errorf("sts: Arc directory %s is not a directory", dir)
	}
	return &arcSecrets{dir: dir, mode: mode, now: now, open: make(map[[sha256.Size]byte]arcSecret)}, nil
}

// issue writes a new secret and returns the name of its file.
func (a *arcSecrets) issue() (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.open) >= maxArc {
		return "", errors.New("sts: too many open Arc challenges")
	}
	secret, file := rand.Text(), filepath.Join(a.dir, arcPrefix+rand.Text()+arcSuffix)
	if err := writeNew(file, secret, a.mode); err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(secret))
	a.open[sum] = arcSecret{
		file: file, expires: a.now().Add(arcLife), timer: time.AfterFunc(arcLife, func() { a.take(sum) }),
	}
	return file, nil
}

// writeNew refuses a file that exists: somebody else might have it open.
func writeNew(file, text string, mode fs.FileMode) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("sts: write an Arc secret: %w", err)
	}
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chmod(mode), f.Close()) // the mode counts, whatever the umask
	if err != nil {
		return errors.Join(fmt.Errorf("sts: write an Arc secret: %w", err), os.Remove(file))
	}
	return nil
}

// redeem reports whether the secret is open, and closes it. Clients send the file's content as it is; others encode it.
func (a *arcSecrets) redeem(secret string) bool {
	const longest = 256
	if len(secret) > longest {
		return false
	}
	if a.take(sha256.Sum256([]byte(secret))) {
		return true
	}
	raw, err := base64.StdEncoding.DecodeString(secret)
	return err == nil && a.take(sha256.Sum256(raw))
}

// take removes a secret and its file and reports whether it was still good. Looking it up by its hash tells nothing by
// its timing.
func (a *arcSecrets) take(sum [sha256.Size]byte) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	s, found := a.open[sum]
	if !found {
		return false
	}
	delete(a.open, sum)
	s.timer.Stop()
	_ = os.Remove(s.file) // its content is worthless from here on
	return a.now().Before(s.expires)
}

func (a *arcSecrets) close() error {
	if a == nil {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	var failed error
	for sum, s := range a.open {
		s.timer.Stop()
		failed = errors.Join(failed, os.Remove(s.file))
		delete(a.open, sum)
	}
	return failed
}
