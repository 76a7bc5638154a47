package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/strongroom/strongroom/internal/server"
)

// A child is told what to do in its first line of input and answers, once it can be connected to, with a ready line. After
// that each line of input is answered with the processor time used so far, and the end of input ends the child. So no
// child outlives its parent, however that dies. Signals, which a terminal sends to children too, are the parent's business.

// A task is a child's first line of input.
type task struct {
	Data    string            `json:"data,omitempty"`    // server: the data folder
	Listen  string            `json:"listen,omitempty"`  // server: the address
	Log     bool              `json:"log,omitempty"`     // server: log requests
	Answers map[string]answer `json:"answers,omitempty"` // bare: by path, "" for all others

	StorageCA string `json:"storageCA,omitempty"` // server: file with the authority of the storage for backups
}

// An answer is what the bare handler returns.
type answer struct {
	Header http.Header `json:"header"`
	Body   []byte      `json:"body"`
}

// ready is a child's first line of output.
type ready struct {
	Address    string `json:"address"`
	CA         []byte `json:"ca"` // PEM
	Operations string `json:"operations,omitempty"`
	TenantID   string `json:"tenantId,omitempty"`

	// Of the storage: the address of its container, and what opens it.
	Container string `json:"container,omitempty"`
	SAS       string `json:"sas,omitempty"`
}

// runChild is the whole life of a child.
func runChild(kind string) error {
	in := json.NewDecoder(os.Stdin)
	var t task
	if err := in.Decode(&t); err != nil {
		return fmt.Errorf("reading the task: %w", err)
	}
	serve := serveBare
	switch kind {
	case "server":
		serve = serveReal
	case "storage":
		serve = serveStorage
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	out := json.NewEncoder(os.Stdout)
	ended := make(chan error, 1)
	r, err := serve(ctx, t, ended)
	if err != nil {
		return err
	}
	if err := out.Encode(r); err != nil {
		return err
	}
	lines := bufio.NewScanner(io.MultiReader(in.Buffered(), os.Stdin))
	for lines.Scan() {
		if lines.Text() == "" {
			continue // the rest of the first line
		}
		used, err := processorTime()
		if err != nil {
			return err
		}
		if err := out.Encode(used); err != nil {
			return err
		}
	}
	cancel()
	return <-ended
}

// processorTime is what this process has used, in user and in system mode.
func processorTime() (time.Duration, error) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0, err
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}

// serveReal runs the product as `strongroom dev` does, apart from free ports and the log, which goes to a file.
func serveReal(ctx context.Context, t task, ended chan<- error) (*ready, error) {
	cfg, err := configuration(t.Data, t.Listen, t.Log)
	if err != nil {
		return nil, err
	}
	cfg.Backup.CA = t.StorageCA
	file, err := os.OpenFile(filepath.Join(t.Data, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	log, flush := server.NewLogger(file, slog.LevelInfo)
	server.Tune()
	s, err := server.Open(ctx, cfg, server.Options{Log: log})
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	go func() {
		err := s.Serve(ctx)
		flush()
		ended <- errors.Join(err, file.Close())
	}()
	ca, err := os.ReadFile(s.CAFile())
	if err != nil {
		return nil, err
	}
	st := s.Status()
	return &ready{Address: st.Listen[0], CA: ca, Operations: st.Operations, TenantID: st.TenantID}, nil
}

// configuration is the default one, on loopback and with free ports.
func configuration(data, listen string, requests bool) (*server.Config, error) {
	cfg, err := server.DevConfig(data, []string{listen})
	if err != nil {
		return nil, err
	}
	cfg.ManagedIdentity.Listen = "127.0.0.1:0"
	cfg.Operations.Listen = "127.0.0.1:0"
	cfg.Log.Requests = &requests
	return cfg, cfg.Check()
}

// serveBare is the limit: net/http and crypto/tls with nothing behind them but bytes in memory. Unlike the server it sets
// no timeouts, counts no connections and reads no query.
func serveBare(ctx context.Context, t task, ended chan<- error) (*ready, error) {
	cert, ca, err := selfSigned()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	srv := &http.Server{
		Handler:   bareHandler(t.Answers),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*cert}},
	}
	go func() {
		<-ctx.Done()
		srv.Close()
	}()
	go func() {
		err := srv.ServeTLS(l, "", "")
		if errors.Is(err, http.ErrServerClosed) {
			err = nil
		}
		ended <- err
	}()
	return &ready{Address: l.Addr().String(), CA: ca}, nil
}

func bareHandler(answers map[string]answer) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a, ok := answers[r.URL.Path]
		if !ok {
			a = answers[""]
		}
		h := w.Header()
		for name, values := range a.Header {
			h[name] = values
		}
		h["Content-Length"] = []string{strconv.Itoa(len(a.Body))}
		w.WriteHeader(http.StatusOK)
		_, _ = w.Write(a.Body) // a client that has gone is not measured
	})
}

// selfSigned makes a certificate of the kind that the server's own authority issues: ECDSA on P-256.
func selfSigned() (*tls.Certificate, []byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bare handler"}, DNSNames: []string{vaultHost},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, ca, nil
}

// A process is a running child.
type process struct {
	ready
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
	tls *tls.Config // for its clients
}

// startProcess starts a child and waits until it can be connected to.
func startProcess(ctx context.Context, by build, kind string, t task) (*process, error) {
	// Not CommandContext: that would kill the child, and a server is to end in its own way.
	p := &process{cmd: exec.Command(by.program, "-child", kind)}
	p.cmd.Stderr = os.Stderr
	var err error
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	disarm := context.AfterFunc(ctx, func() { _ = p.cmd.Process.Kill() }) // one that does not get ready must not hang the run
	defer disarm()
	p.out = json.NewDecoder(stdout)
	if err := json.NewEncoder(p.in).Encode(t); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	if err := p.out.Decode(&p.ready); err != nil {
		return nil, errors.Join(fmt.Errorf("the %s child did not start: %w", kind, err), p.stop())
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(p.CA) {
		return nil, errors.Join(errors.New("the child has no certificate"), p.stop())
	}
	p.tls = &tls.Config{RootCAs: pool, ServerName: vaultHost, MinVersion: tls.VersionTLS13}
	return p, nil
}

// cpu is the processor time that the child has used.
func (p *process) cpu() (time.Duration, error) {
	if _, err := io.WriteString(p.in, "cpu\n"); err != nil {
		return 0, err
	}
	var used time.Duration
	err := p.out.Decode(&used)
	return used, err
}

// stop lets the child end by itself. One that does not is killed.
func (p *process) stop() error {
	err := p.in.Close()
	watchdog := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() })
	defer watchdog.Stop()
	return errors.Join(err, p.cmd.Wait())
}
