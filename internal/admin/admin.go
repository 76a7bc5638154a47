// Package admin is the door for the operator of this machine: a Unix socket in the data folder, which only the owner of the folder
// can reach. It manages what has no place on the network: principals and their credentials, the keys at rest, and who gets in
// when nobody with rights is left. Vaults and roles are the management plane's. The messages are JSON over HTTP.
//
// The file system is what authenticates: the folder has mode 0700 and the socket 0600.
package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

const socketFile = "admin.sock"

// maxAnswer bounds what a client reads.
const maxAnswer = 16 << 20

// ErrNotRunning is wrapped by a client's error when no server answers at the socket.
var ErrNotRunning = errors.New("no Strongroom server is running on this data folder")

// Listen makes the socket in the data folder. The caller must hold the lock on the folder's store, so a socket that
// exists is left from a process that died.
func Listen(dir string) (net.Listener, error) {
	path, done, err := socketPath(dir)
	if err != nil {
		return nil, err
	}
	defer done()
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("admin: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	// The listener knows the socket by a path that may not outlive this function, so it cannot remove it.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("admin: %w", err), l.Close())
	}
	return l, nil
}

// socketPath returns a path of the socket that fits into the 107 bytes that a socket's address has. done releases what
// the path needs.
func socketPath(dir string) (path string, done func(), err error) {
	path = filepath.Join(dir, socketFile)
	if len(path) <= 100 {
		return path, func() {}, nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return "", nil, fmt.Errorf("admin: %w", err)
	}
	short := fmt.Sprintf("/proc/self/fd/%d/%s", f.Fd(), socketFile)
	if _, err := os.Stat(filepath.Dir(short)); err != nil {
		return "", nil, errors.Join(fmt.Errorf("admin: the path of the data folder %s is too long for a socket; choose a shorter one", dir), f.Close())
	}
	return short, func() { f.Close() }, nil
}

// An Error is a refusal by the server.
type Error struct {
	Status  int    `json:"-"`
	Message string `json:"message"`
}

func (e *Error) Error() string { return e.Message }

// A Client talks to the server on a data folder.
type Client struct {
	dir  string
	http *http.Client
}

// NewClient returns a client for the server on the data folder dir.
func NewClient(dir string) *Client {
	c := &Client{dir: dir}
	c.http = &http.Client{Transport: &http.Transport{DialContext: c.dial, DisableKeepAlives: true}}
	return c
}

func (c *Client) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	path, done, err := socketPath(c.dir)
	if err != nil {
		return nil, c.explain(err)
	}
	defer done()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, c.explain(err)
	}
	return conn, nil
}

// explain says what an error of reaching the socket means.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("admin: the data folder %s belongs to another user, who alone may do this", c.dir)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (%s): start it with `strongroom dev` or `strongroom serve`, or name another folder with --data",
			ErrNotRunning, c.dir)
	}
	return err
}

// Do sends in (nil for none) and decodes the answer into out (nil for none).
func (c *Client) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		raw, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, body)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // its URL says nothing to a person
		}
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return err
	}
	if resp.StatusCode >= 300 {
		refused := &Error{Status: resp.StatusCode}
		if json.Unmarshal(raw, refused) != nil || refused.Message == "" {
			refused.Message = fmt.Sprintf("the server answered %s", resp.Status)
		}
		return refused
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(raw, out)
}

// Status is what a server says about itself.
type Status struct {
	Version          string   `json:"version"`
	Domain           string   `json:"domain"`
	Listen           []string `json:"listen"`    // addresses of the HTTPS listeners
	Port             string   `json:"port"`      // of the first one; "" for 443
	Suffix           string   `json:"suffix"`    // below which vaults answer
	HSMSuffix        string   `json:"hsmSuffix"` // below which managed HSMs answer
	TenantID         string   `json:"tenantId"`
	SubscriptionID   string   `json:"subscriptionId"`
	CAFile           string   `json:"caFile"`           // "" if the operator brought a certificate
	IdentityEndpoint string   `json:"identityEndpoint"` // URL of the App Service endpoint, "" for none
	Operations       string   `json:"operations"`       // URL of the operators' listener, "" for none
	FIPS             bool     `json:"fips"`             // Go's FIPS 140-3 module is in use
	FIPSOnly         bool     `json:"fipsOnly"`         // nothing outside it is offered
}

// A Vault is a vault that is not deleted, as far as the operator's commands need to know it.
type Vault struct {
	Name           string   `json:"name"`
	URL            string   `json:"vaultUri"`
	Administrators []string `json:"administrators"` // object ids; who may do everything in it, whatever roles and policies say
}

// A VaultChange is what changes about who administers a vault.
type VaultChange struct {
	AddAdministrators    []string `json:"addAdministrators,omitempty"`
	RemoveAdministrators []string `json:"removeAdministrators,omitempty"`
}

// An Owner is a principal or a group that may do everything in the management plane, or that gives the roles in a managed HSM.
type Owner struct {
	PrincipalID   string    `json:"principalId"`
	PrincipalType string    `json:"principalType,omitempty"`
	Created       time.Time `json:"createdOn,omitzero"`
}

// An App is an application or a managed identity.
type App struct {
	ClientID    string       `json:"appId"`
	ObjectID    string       `json:"objectId"`
	DisplayName string       `json:"displayName"`
	Kind        string       `json:"kind"`
	Created     time.Time    `json:"created,omitzero"`
	Credentials []Credential `json:"credentials,omitempty"`
}

// A Credential is how an App proves itself, without the secret.
type Credential struct {
	ID          string     `json:"keyId"`
	Type        string     `json:"type"`
	DisplayName string     `json:"displayName,omitempty"`
	Hint        string     `json:"hint,omitempty"`
	Created     time.Time  `json:"startDateTime,omitzero"`
	Expires     *time.Time `json:"endDateTime,omitempty"`
	Thumbprint  string     `json:"thumbprint,omitempty"`
	Issuer      string     `json:"issuer,omitempty"`
	Subject     string     `json:"subject,omitempty"`
	Audience    string     `json:"audience,omitempty"`
	Secret      string     `json:"secretText,omitempty"` // only in the answer that makes it
}

// NewCredential asks for a credential. Exactly one of the kinds is chosen by Type.
type NewCredential struct {
	Type        string `json:"type"` // secret, certificate, federated, identityHeader
	DisplayName string `json:"displayName,omitempty"`
	Days        int    `json:"days,omitempty"`        // life of a secret; 0 for the default
	Certificate string `json:"certificate,omitempty"` // PEM
	Issuer      string `json:"issuer,omitempty"`
	Subject     string `json:"subject,omitempty"`
	Audience    string `json:"audience,omitempty"`
}

// Seal is the state of the keys at rest.
type Seal struct {
	Root    string    `json:"rootKey"`
	Primary string    `json:"primary"`
	Keys    []SealKey `json:"dataKeys"`
	Warning string    `json:"warning,omitempty"` // what of the request was not done
}

// A SealKey is a data key.
type SealKey struct {
	ID      string    `json:"id"`
	Created time.Time `json:"created"`
}

// NewRoot names the root key to change to, by exactly one of the files, which the server reads. Rotate also moves every
// record to a new data key.
type NewRoot struct {
	File           string `json:"file,omitempty"`
	PassphraseFile string `json:"passphraseFile,omitempty"`
	Rotate         bool   `json:"rotate,omitempty"`
}

// A Verification is what a walk over the whole store found.
type Verification struct {
	Records int      `json:"records"`
	Bad     int      `json:"bad"`
	Errors  []string `json:"errors,omitempty"` // the first of them
}

// Head is the newest record of the audit log that the store remembers.
type Head struct {
	Seq  uint64 `json:"seq"`
	Hash string `json:"hash"`
	File string `json:"file"`
}
