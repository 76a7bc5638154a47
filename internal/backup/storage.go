package backup

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// azureHosts end the names of Azure's blob storage, of the public cloud and the sovereign ones.
var azureHosts = []string{
	".blob.core.windows.net", ".blob.storage.azure.net", ".blob.core.chinacloudapi.cn", ".blob.core.usgovcloudapi.net",
}

// Config says which storage may be used, and how. Callers name the address, so without a list they could have the server
// send requests anywhere.
type Config struct {
	// Hosts are allowed beside Azure's: "host" or "host:port", or "*.domain" with or without a port for all hosts below a
	// domain. Without a port 443 is meant.
	Hosts []string

	// Loopback allows this machine's own addresses and localhost, with any port.
	Loopback bool

	// RootCAs verify the storage's certificate; nil means those of the system.
	RootCAs *x509.CertPool

	// TryTimeout bounds one try of one request; 0 means a minute.
	TryTimeout time.Duration

	// RetryDelay is the pause before the first of at most four repetitions; it doubles each time. 0 means a second.
	RetryDelay time.Duration

	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// Storage opens containers. It is safe for concurrent use.
type Storage struct {
	hosts   []string // as in Config, in lower case, with port
	local   bool     // Loopback
	client  *http.Client
	options policy.ClientOptions
	now     func() time.Time
}

// NewStorage returns the door to the storage that cfg allows.
func NewStorage(cfg Config) (*Storage, error) {
	s := &Storage{local: cfg.Loopback, now: cfg.Now, client: newClient(cfg.RootCAs)}
	if s.now == nil {
		s.now = time.Now
	}
	for _, entry := range cfg.Hosts {
		host, err := parseHost(entry)
		if err != nil {
			return nil, err
		}
		s.hosts = append(s.hosts, host)
	}
	delay := cfg.RetryDelay
	if delay == 0 {
		delay = time.Second
	}
	try := cfg.TryTimeout
	if try == 0 {
		try = time.Minute
	}
	s.options = policy.ClientOptions{
		Retry:           policy.RetryOptions{MaxRetries: 4, TryTimeout: try, RetryDelay: delay, MaxRetryDelay: 16 * delay},
		Telemetry:       policy.TelemetryOptions{Disabled: true},
		PerCallPolicies: []policy.Policy{wireVersion{}},
	}
	return s, nil
}

var hostPattern = regexp.MustCompile(`^(\*\.)?[a-z0-9.-]+$`)

func parseHost(entry string) (string, error) {
	host, port, err := net.SplitHostPort(strings.ToLower(entry))
	if err != nil {
		host, port = strings.ToLower(entry), "443"
	}
	_, err = strconv.ParseUint(port, 10, 16)
	if !hostPattern.MatchString(host) && net.ParseIP(host) == nil || err != nil {
		return "", fmt.Errorf("backup: %q is no host: give host, host:port or *.domain", entry)
	}
	return net.JoinHostPort(host, port), nil
}

// newClient returns a client that goes to nobody but who it is told: it follows no redirect.
func newClient(roots *x509.CertPool) *http.Client {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	return &http.Client{
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    10 * time.Second,
			IdleConnTimeout:        90 * time.Second,
			MaxIdleConnsPerHost:    4,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
			ForceAttemptHTTP2:      true,
		},
	}
}

// wireVersion asks for the oldest version of the wire that has all we use, since storage outside of Azure's public
// cloud is years behind the library.
type wireVersion struct{}

func (wireVersion) Do(req *policy.Request) (*http.Response, error) {
	req.Raw().Header["x-ms-version"] = []string{"2019-07-07"} // as the library spells it, else there would be two
	return req.Next()
}

// A Container is a blob container with what opens it. It is safe for concurrent use.
type Container struct {
	storage    *Storage
	base       string // its address
	host       string
	expires    time.Time // of the SAS token; zero without
	credential azcore.TokenCredential
	options    policy.ClientOptions
	pipeline   runtime.Pipeline
}

// Container returns the container at an address, https://<account>.<host>/<container> or, at a host from the
// configuration, https://<host>/<account>/<container>. It checks address and token without a request.
func (s *Storage) Container(address string, access Access) (*Container, error) {
	u, err := s.checkAddress(address)
	if err != nil {
		return nil, err
	}
	c := &Container{storage: s, base: u.String(), host: u.Host, options: s.options}
	door := &transport{client: s.client, authority: u.Host}
	switch {
	case access.SAS != "":
		if door.query, c.expires, err = parseSAS(access.SAS); err != nil {
			return nil, err
		}
		if err := c.checkExpiry(); err != nil {
			return nil, err
		}
	case access.Credential != nil:
		c.credential = credential{access.Credential}
	default:
		return nil, newError(BadParameter, "Nothing opens the container: give a SAS token, or use a managed identity.")
	}
	c.options.Transport = door
	c.pipeline = c.listPipeline()
	return c, nil
}

// String is the address.
func (c *Container) String() string { return c.base }

// URI is the address of a folder.
func (c *Container) URI(folder string) string { return c.base + "/" + folder }

func (c *Container) checkExpiry() error {
	if !c.expires.IsZero() && !c.storage.now().Before(c.expires) {
		return expired(c.expires)
	}
	return nil
}

var (
	containerPattern = regexp.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,62}$`)
	accountPattern   = regexp.MustCompile(`^[a-z0-9-]{1,63}$`)
)

const maxAddress = 1024

// checkAddress returns an address without what it need not have.
func (s *Storage) checkAddress(address string) (*url.URL, error) {
	if len(address) > maxAddress {
		return nil, newError(BadParameter, "The container's address has %d characters; %d are allowed.", len(address), maxAddress)
	}
	// What does not parse is not shown: a token may be in it.
	u, err := url.Parse(address)
	switch {
	case err != nil || u.Host == "" || u.Opaque != "" || u.User != nil:
		return nil, newError(BadParameter, "The container's address is not a URL. Give https://<account>.blob.core.windows.net/<container>.")
	case u.Scheme != "https":
		return nil, newError(BadParameter, "The container's address has to begin with https://.")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return nil, newError(BadParameter, "The container's address has a query or fragment. Give the SAS token in its own member.")
	}
	hostPort := net.JoinHostPort(strings.ToLower(u.Hostname()), "443")
	if u.Port() != "" {
		hostPort = net.JoinHostPort(strings.ToLower(u.Hostname()), u.Port())
	}
	ours := slices.ContainsFunc(s.hosts, func(allowed string) bool { return matchHost(allowed, hostPort) }) || s.local && isLoopback(u.Hostname())
	if !ours && !isAzure(hostPort) {
		return nil, newError(BadParameter, "The server may not use the storage host %.260s. Its operator can allow it in the configuration.", u.Host)
	}
	path := strings.Split(strings.Trim(u.EscapedPath(), "/"), "/")
	name := path[len(path)-1]
	style := len(path) == 1 || ours && len(path) == 2 && accountPattern.MatchString(path[0])
	if !style || len(name) > 63 || !containerPattern.MatchString(name) {
		return nil, newError(BadParameter, "The address does not name a container and nothing else. Give https://<account>.blob.core.windows.net/<container>.")
	}
	return &url.URL{Scheme: "https", Host: strings.TrimSuffix(hostPort, ":443"), Path: "/" + strings.Join(path, "/")}, nil
}

func matchHost(allowed, hostPort string) bool {
	if suffix, ok := strings.CutPrefix(allowed, "*"); ok {
		return strings.HasSuffix(hostPort, suffix) && len(hostPort) > len(suffix)
	}
	return allowed == hostPort
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

func isAzure(hostPort string) bool {
	host, ok := strings.CutSuffix(hostPort, ":443")
	return ok && slices.ContainsFunc(azureHosts, func(suffix string) bool {
		return strings.HasSuffix(host, suffix) && len(host) > len(suffix)
	})
}

var folderPattern = regexp.MustCompile(`^[A-Za-z0-9_-][A-Za-z0-9._-]*(/[A-Za-z0-9_-][A-Za-z0-9._-]*)*$`)

// Folder reads the name of a folder to restore. Some clients send its whole address instead; then that has to be in the
// container.
func (c *Container) Folder(name string) (string, error) {
	if len(name) > maxAddress {
		return "", newError(BadParameter, "The folder's name has %d characters; %d are allowed.", len(name), maxAddress)
	}
	folder := name
	if u, err := url.Parse(name); err == nil && u.Scheme != "" {
		base, err := url.Parse(c.base)
		if err != nil {
			return "", err
		}
		inside, ok := strings.CutPrefix(u.EscapedPath(), base.Path+"/")
		if !ok || !strings.EqualFold(u.Host, base.Host) {
			return "", newError(BadParameter, "The folder's address is not in the container %s.", c.base)
		}
		folder = inside
	}
	folder = strings.Trim(folder, "/")
	if !folderPattern.MatchString(folder) {
		return "", newError(BadParameter, "That is not the name of a backup's folder. Give the last part of the address that the backup answered with, mhsm-….")
	}
	return folder, nil
}

// transport adds the SAS token to a request at the last moment, so that no address with a token in it gets into the
// library, whose errors show addresses.
type transport struct {
	client    *http.Client
	authority string
	query     string // of the SAS token
}

// A connectionError is a request that got no answer. It does not tell the request's address.
type connectionError struct{ err error }

func (e *connectionError) Error() string { return e.err.Error() }
func (e *connectionError) Unwrap() error { return e.err }

// maxAnswer bounds an answer. A page of a list is the largest: 5,000 names of a kilobyte.
const maxAnswer = 8 << 20

func (t *transport) Do(req *http.Request) (*http.Response, error) {
	if req.URL.Host != t.authority {
		return nil, errors.New("backup: request to another host")
	}
	sent := req.Clone(req.Context())
	if t.query != "" {
		sent.URL.RawQuery = strings.TrimPrefix(sent.URL.RawQuery+"&"+t.query, "&")
	}
	resp, err := t.client.Do(sent)
	if err != nil {
		var hidden *url.Error
		if errors.As(err, &hidden) {
			err = hidden.Err
		}
		return nil, &connectionError{err}
	}
	resp.Request = req
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	return resp, nil
}
