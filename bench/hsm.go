package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/strongroom/strongroom/administration"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/backup/localblob"
	"github.com/strongroom/strongroom/securitydomain"
)

const (
	hsmName   = "bench-hsm"
	hsmRounds = 3
	hsmLife   = time.Hour // of the storage's token

	blobSize = 4 << 20 // of the limit, as of a backup
)

// An hsmBench is a managed HSM on a server of its own, with a storage in a third process, and what was measured.
type hsmBench struct {
	keys, versions int
	storage        *process
	hsm            *installation

	filled          time.Duration // how long it took to make the keys
	blobs           int           // of the backup
	bytes           int64
	idle            memory
	backup, restore jobFigure
	upload          jobFigure // of as many bytes as the backup has, by this process
	download        jobFigure // of the backup
}

// A jobFigure is what a job has needed: the median of the rounds, and the most memory that was seen in any.
type jobFigure struct {
	wall time.Duration
	cpu  time.Duration // of the measured process; 0 for limits
	peak memory
}

// hsms backs up and restores a managed HSM with many keys.
func (b *benchmark) hsms(ctx context.Context) error {
	h := &hsmBench{keys: b.hsmKeys, versions: b.hsmVersions}
	b.hsmBench = h
	if err := h.start(ctx, b); err != nil {
		return err
	}
	c, err := h.connect(ctx)
	if err != nil {
		return err
	}
	b.say("making %d keys with %d versions each", h.keys, h.versions)
	if err := h.fill(ctx, c); err != nil {
		return err
	}
	b.say("backup and restore")
	return h.measure(ctx, c)
}

// start starts the storage and a server that trusts it.
func (h *hsmBench) start(ctx context.Context, b *benchmark) (err error) {
	if h.storage, err = startProcess(ctx, b.build, "storage", task{}); err != nil {
		return err
	}
	ca := filepath.Join(b.dir, "storage.pem")
	if err := os.WriteFile(ca, h.storage.CA, 0o600); err != nil {
		return err
	}
	if h.hsm, err = newInstallation(ctx, b.build, filepath.Join(b.dir, "hsm"), 0, b.requests); err != nil {
		return err
	}
	h.hsm.storageCA = ca
	return h.hsm.start(ctx)
}

func (h *hsmBench) stop() error {
	var errs []error
	if h.hsm != nil {
		errs = append(errs, h.hsm.stop())
	}
	if h.storage != nil {
		errs = append(errs, h.storage.stop())
	}
	return errors.Join(errs...)
}

// serveStorage is a blob container in the memory of a process of its own.
func serveStorage(ctx context.Context, _ task, ended chan<- error) (*ready, error) {
	c, err := localblob.Start(hsmLife)
	if err != nil {
		return nil, err
	}
	go func() {
		<-ctx.Done()
		ended <- c.Close()
	}()
	return &ready{Address: c.Host(), CA: c.CA(), Container: c.URL(), SAS: c.SAS()}, nil
}

// hsmClients speak to the server as programs do.
type hsmClients struct {
	url    string
	http   *http.Client
	token  string // for keys
	backup *administration.BackupClient
}

// connect makes and activates the managed HSM, lets the administrator use keys in it, and returns what speaks to it.
func (h *hsmBench) connect(ctx context.Context) (*hsmClients, error) {
	_, port, err := net.SplitHostPort(h.hsm.address)
	if err != nil {
		return nil, err
	}
	s := &signer{h.hsm, h.hsm.server.client(), port}
	if err := s.createHSM(ctx); err != nil {
		return nil, err
	}
	c := &hsmClients{url: "https://" + hsmName + ".managedhsm.localhost:" + port, http: s.http}
	options := azcore.ClientOptions{Transport: s.http}
	domains, err := securitydomain.NewClient(c.url, s, &securitydomain.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, err
	}
	if err := activate(ctx, domains); err != nil {
		return nil, err
	}
	access, err := administration.NewAccessControlClient(c.url, s, &administration.ClientOptions{ClientOptions: options})
	if err != nil {
		return nil, err
	}
	role := "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/" + authz.RoleHSMCryptoUser
	if _, err := access.CreateRoleAssignment(ctx, administration.ScopeGlobal, role, h.hsm.operator.ObjectID, nil); err != nil {
		return nil, err
	}
	token, err := s.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{"https://managedhsm.localhost:" + port + "/.default"}})
	if err != nil {
		return nil, err
	}
	c.token = token.Token
	c.backup, err = administration.NewBackupClient(c.url, s, &administration.ClientOptions{ClientOptions: options})
	return c, err
}

// client is one whose names all lead to the process.
func (p *process) client() *http.Client {
	var d net.Dialer
	config := p.tls.Clone()
	config.ServerName = ""
	return &http.Client{Timeout: maxWait, Transport: &http.Transport{
		DialContext:     func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "tcp", p.Address) },
		TLSClientConfig: config, MaxIdleConnsPerHost: writers,
	}}
}

// A signer gets tokens as the operator.
type signer struct {
	installation *installation
	http         *http.Client
	port         string
}

// GetToken is azcore.TokenCredential's.
func (s *signer) GetToken(ctx context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	who := s.installation.operator
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {who.ClientID}, "client_secret": {who.Secret}, "scope": {strings.Join(o.Scopes, " ")},
	}.Encode()
	var answer struct {
		Token string `json:"access_token"`
	}
	err := send(ctx, s.http, http.MethodPost, "https://"+loginHost+":"+s.port+"/"+who.TenantID+"/oauth2/v2.0/token",
		http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, form, &answer)
	return azcore.AccessToken{Token: answer.Token, ExpiresOn: time.Now().Add(30 * time.Minute)}, err
}

// send sends a request that has to succeed.
func send(ctx context.Context, c *http.Client, method, url string, header http.Header, body string, into any) error {
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = header
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode >= http.StatusMultipleChoices:
		return fmt.Errorf("%s %s: %s", method, req.URL.Path, resp.Status)
	case into == nil:
		return nil
	}
	return json.Unmarshal(raw, into)
}

func (s *signer) createHSM(ctx context.Context) error {
	management := "https://management.localhost:" + s.port
	token, err := s.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{management + "/.default"}})
	if err != nil {
		return err
	}
	header := http.Header{"Authorization": {"Bearer " + token.Token}, "Content-Type": {"application/json"}}
	var list struct {
		Value []struct {
			SubscriptionID string `json:"subscriptionId"`
		}
	}
	if err := send(ctx, s.http, http.MethodGet, management+"/subscriptions?api-version=2022-12-01", header, "", &list); err != nil {
		return err
	}
	if len(list.Value) != 1 {
		return fmt.Errorf("there are %d subscriptions", len(list.Value))
	}
	who := s.installation.operator
	group := management + "/subscriptions/" + list.Value[0].SubscriptionID + "/resourceGroups/bench"
	return errors.Join(
		send(ctx, s.http, http.MethodPut, group+"?api-version=2021-04-01", header, `{"location":"local"}`, nil),
		send(ctx, s.http, http.MethodPut, group+"/providers/Microsoft.KeyVault/managedHSMs/"+hsmName+"?api-version=2023-07-01", header, fmt.Sprintf(
			`{"location":"local","sku":{"family":"B","name":"Standard_B1"},"properties":{"tenantId":%q,"initialAdminObjectIds":[%q]}}`,
			who.TenantID, who.ObjectID), nil))
}

// activate downloads the security domain for owners that nobody will ask.
func activate(ctx context.Context, c *securitydomain.Client) error {
	var certificates []*x509.Certificate
	for n := range 3 {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return err
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(n + 1)), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return err
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		certificates = append(certificates, certificate)
	}
	info, err := securitydomain.NewCertificateInfo(2, certificates...)
	if err != nil {
		return err
	}
	poller, err := c.BeginDownload(ctx, info, nil)
	if err != nil {
		return err
	}
	_, err = poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: time.Second})
	return err
}

// fill makes the keys, on P-256, by as many clients as the other cases have.
func (h *hsmBench) fill(ctx context.Context, c *hsmClients) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	began := time.Now()
	var wg sync.WaitGroup
	for n := range writers {
		wg.Go(func() {
			if err := h.fillPart(ctx, c, n); err != nil {
				cancel(err)
			}
		})
	}
	wg.Wait()
	h.filled = time.Since(began)
	return context.Cause(ctx)
}

// fillPart makes every writers-th key.
func (h *hsmBench) fillPart(ctx context.Context, c *hsmClients, part int) error {
	conn, err := h.hsm.server.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	const body = `{"kty":"EC-HSM","crv":"P-256"}`
	host, buf := strings.TrimPrefix(c.url, "https://"), make([]byte, maxAnswer)
	for n := part; n < h.keys; n += writers {
		request := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nUser-Agent: strongroom-bench\r\n"+
			"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", keyPath(keyNumber(n), "create"), host, c.token, len(body), body)
		for range h.versions {
			if _, err := conn.Write(request); err != nil {
				return err
			}
			if _, err := readAnswer(conn, buf); err != nil {
				return fmt.Errorf("creating keys of the managed HSM: %w", err)
			}
		}
	}
	return ctx.Err()
}

// measure does everything in rounds, in turns.
func (h *hsmBench) measure(ctx context.Context, c *hsmClients) (err error) {
	if h.idle, err = h.hsm.server.memory(); err != nil {
		return err
	}
	server, limits := h.hsm.server, h.storage.client()
	sas := administration.SASToken(h.storage.SAS)
	var backups, restores, uploads, downloads []jobFigure
	for range hsmRounds {
		var folder string
		f, err := watched(server, func() error {
			poller, err := c.backup.BeginBackup(ctx, h.storage.Container, &administration.BeginBackupOptions{SASToken: sas})
			if err != nil {
				return err
			}
			got, err := awaitJob(ctx, poller)
			folder = got.FolderURL
			return err
		})
		if err != nil {
			return fmt.Errorf("backup: %w", err)
		}
		backups = append(backups, f)
		f, err = watched(server, func() error {
			poller, err := c.backup.BeginRestore(ctx, folder, &administration.BeginRestoreOptions{SASToken: sas})
			if err != nil {
				return err
			}
			_, err = awaitJob(ctx, poller)
			return err
		})
		if err != nil {
			return fmt.Errorf("restore: %w", err)
		}
		restores = append(restores, f)
		up, down, err := h.plain(ctx, limits)
		if err != nil {
			return fmt.Errorf("the storage alone: %w", err)
		}
		uploads, downloads = append(uploads, up), append(downloads, down)
	}
	h.backup, h.restore = medianJob(backups), medianJob(restores)
	h.upload, h.download = medianJob(uploads), medianJob(downloads)
	return nil
}

func medianJob(all []jobFigure) jobFigure {
	out := jobFigure{
		wall: median(all, func(f jobFigure) time.Duration { return f.wall }),
		cpu:  median(all, func(f jobFigure) time.Duration { return f.cpu }),
	}
	for _, f := range all {
		out.peak.resident = max(out.peak.resident, f.peak.resident)
		out.peak.anonymous = max(out.peak.anonymous, f.peak.anonymous)
	}
	return out
}

// awaitJob asks more often than clients do, so that the time is that of the job.
func awaitJob[T any](ctx context.Context, p *runtime.Poller[T]) (T, error) {
	for !p.Done() {
		if _, err := p.Poll(ctx); err != nil {
			var none T
			return none, err
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
	return p.Result(ctx)
}

// watched does something and looks at a process meanwhile.
func watched(p *process, do func() error) (f jobFigure, err error) {
	before, err := p.cpu()
	if err != nil {
		return f, err
	}
	end, done := make(chan struct{}), make(chan error, 1)
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		for {
			m, err := p.memory()
			if err != nil {
				done <- err
				return
			}
			f.peak.resident, f.peak.anonymous = max(f.peak.resident, m.resident), max(f.peak.anonymous, m.anonymous)
			select {
			case <-tick.C:
			case <-end:
				done <- nil
				return
			}
		}
	}()
	began := time.Now()
	err = do()
	f.wall = time.Since(began)
	close(end)
	if err = errors.Join(err, <-done); err != nil {
		return f, err
	}
	after, err := p.cpu()
	f.cpu = after - before
	return f, err
}

// plain reads the blobs of the backup, removes them, and writes and removes as many of the same sizes, one after the other: what the
// storage alone allows.
func (h *hsmBench) plain(ctx context.Context, c *http.Client) (up, down jobFigure, err error) {
	var names []string
	if names, err = h.list(ctx, c); err != nil {
		return up, down, err
	}
	sizes := make([]int64, len(names))
	began := time.Now()
	h.blobs, h.bytes = len(names), 0
	for i, name := range names {
		if sizes[i], err = h.blob(ctx, c, http.MethodGet, name, nil); err != nil {
			return up, down, err
		}
		h.bytes += sizes[i]
	}
	down.wall = time.Since(began)
	for _, name := range names {
		if _, err = h.blob(ctx, c, http.MethodDelete, name, nil); err != nil {
			return up, down, err
		}
	}
	content := make([]byte, blobSize)
	rand.Read(content)
	began = time.Now()
	for i, name := range names {
		if _, err = h.blob(ctx, c, http.MethodPut, name, content[:min(sizes[i], blobSize)]); err != nil {
			return up, down, err
		}
	}
	up.wall = time.Since(began)
	for _, name := range names {
		if _, err = h.blob(ctx, c, http.MethodDelete, name, nil); err != nil {
			return up, down, err
		}
	}
	return up, down, nil
}

// list returns the names of the blobs, of which there are fewer than a page has.
func (h *hsmBench) list(ctx context.Context, c *http.Client) (names []string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, h.storage.Container+"?restype=container&comp=list&"+h.storage.SAS, nil)
	if err != nil {
		return nil, err
	}
	resp, err := c.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var page struct {
		Names []string `xml:"Blobs>Blob>Name"`
		Next  string   `xml:"NextMarker"`
	}
	if err := xml.NewDecoder(resp.Body).Decode(&page); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || page.Next != "" || len(page.Names) == 0 {
		return nil, fmt.Errorf("listing blobs: %s, %d blobs", resp.Status, len(page.Names))
	}
	return page.Names, nil
}

// blob reads, writes or removes a blob and returns its size.
func (h *hsmBench) blob(ctx context.Context, c *http.Client, method, name string, content []byte) (int64, error) {
	req, err := http.NewRequestWithContext(ctx, method, h.storage.Container+"/"+name+"?"+h.storage.SAS, bytes.NewReader(content))
	if err != nil {
		return 0, err
	}
	if method == http.MethodPut {
		req.Header.Set("x-ms-blob-type", "BlockBlob")
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= http.StatusMultipleChoices {
		return 0, fmt.Errorf("%s of a blob: %s", method, resp.Status)
	}
	return io.Copy(io.Discard, resp.Body)
}

// report is the table of backups and restores.
func (h *hsmBench) report(w *strings.Builder) {
	if h.backup.wall == 0 {
		return
	}
	versions := float64(h.keys * h.versions)
	fmt.Fprintf(w, "The managed HSM has %s keys on P-256 with %d versions each, which were made in %.0f seconds. A backup of it has %s in %d blobs. "+
		"Idle, the server held %s, %s of it anonymous.\n\n", thousands(float64(h.keys)), h.versions, h.filled.Seconds(),
		megabytes(h.bytes), h.blobs, megabytes(h.idle.resident), megabytes(h.idle.anonymous))
	row := func(name string, f, limit jobFigure) []string {
		cells := []string{name, seconds(f.wall), thousands(versions / f.wall.Seconds()), fmt.Sprintf("%.1f MB/s", float64(h.bytes)/1e6/f.wall.Seconds()),
			"", "", "", ""}
		if f.cpu > 0 {
			cells = append(cells[:4], seconds(f.cpu), megabytes(f.peak.resident), megabytes(f.peak.anonymous),
				fmt.Sprintf("%.3f", limit.wall.Seconds()/f.wall.Seconds()))
		}
		return cells
	}
	table(w, []string{"job", "time", "versions per second", "of the backup", "CPU time", "resident at most", "of it anonymous", "to the storage alone"},
		[][]string{
			row("full backup", h.backup, h.upload),
			row("· plain upload of the same bytes", h.upload, jobFigure{}),
			row("full restore", h.restore, h.download),
			row("· plain download of the same bytes", h.download, jobFigure{}),
		})
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }
