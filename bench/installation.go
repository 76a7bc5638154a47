package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/server"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/bolt"
)

const (
	vaultName  = "bench"
	vaultHost  = vaultName + ".vault.localhost"
	loginHost  = "login.localhost"
	apiVersion = "7.6"
)

func secretName(n int) string { return fmt.Sprintf("secret-%0*d", digits, n) }

func secretPath(n int) string { return "/secrets/" + secretName(n) + "?api-version=" + apiVersion }

// secretValue is as long as a password or a token that programs make: 64 characters.
func secretValue(n int) string { return fmt.Sprintf("%064d", n) }

// An installation is a data folder with one vault, and the server on it while it runs.
type installation struct {
	build    build
	data     string
	count    int // secrets in the vault
	log      bool
	server   *process // nil while stopped
	operator *server.Credentials
	token    string
	address  string // stays the same over restarts, as the issuer of the token does

	storageCA string // file with the authority of the storage for backups; empty for none
}

func newInstallation(ctx context.Context, by build, data string, count int, log bool) (*installation, error) {
	i := &installation{build: by, data: data, count: count, log: log, address: "127.0.0.1:0"}
	cfg, err := configuration(data, i.address, log)
	if err != nil {
		return nil, err
	}
	if _, err := server.Init(ctx, cfg, server.Options{SKU: "premium"}, vaultName); err != nil {
		return nil, err
	}
	i.operator, err = server.ReadCredentials(filepath.Join(data, server.AdministratorFile))
	return i, err
}

func (i *installation) start(ctx context.Context) error {
	p, err := startProcess(ctx, i.build, "server", task{Data: i.data, Listen: i.address, Log: i.log, StorageCA: i.storageCA})
	if err != nil {
		return err
	}
	i.server, i.address = p, p.Address
	return nil
}

func (i *installation) stop() error {
	p := i.server
	i.server = nil
	if p == nil {
		return nil
	}
	return p.stop()
}

// signIn gets a token, as every client does.
func (i *installation) signIn(ctx context.Context) error {
	conn, err := i.server.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.Write(i.tokenRequest().raw); err != nil {
		return err
	}
	body, err := readAnswer(conn, make([]byte, maxAnswer))
	if err != nil {
		return fmt.Errorf("signing in: %w", err)
	}
	var answer struct {
		Token string `json:"access_token"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || answer.Token == "" {
		return errors.Join(errors.New("signing in: there is no token in the answer"), err)
	}
	i.token = answer.Token
	return nil
}

func (i *installation) tokenRequest() template {
	form := url.Values{
		"grant_type": {"client_credentials"}, "client_id": {i.operator.ClientID}, "client_secret": {i.operator.Secret},
		"scope": {"https://vault.localhost/.default"},
	}.Encode()
	raw := fmt.Sprintf("POST /%s/oauth2/v2.0/token HTTP/1.1\r\nHost: %s\r\nContent-Type: application/x-www-form-urlencoded\r\n"+
		"User-Agent: strongroom-bench\r\nContent-Length: %d\r\n\r\n%s", i.operator.TenantID, loginHost, len(form), form)
	return template{raw: []byte(raw), at: -1}
}

// request is one to the vault. In the path "-0000000" stands for the number of a secret or key.
func (i *installation) request(method, path, body string) template {
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nUser-Agent: strongroom-bench\r\n"+
		"Accept: application/json\r\n", method, path, vaultHost, i.token)
	if body != "" {
		head += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
	}
	t := template{raw: []byte(head + "\r\n" + body), at: -1, count: i.count}
	if at := strings.Index(path, fmt.Sprintf("-%0*d", digits, 0)); at >= 0 {
		t.at = len(method) + 1 + at + len("-")
	}
	return t
}

func (i *installation) getRequest() template { return i.request(http.MethodGet, secretPath(0), "") }

func (i *installation) listRequest() template {
	return i.request(http.MethodGet, "/secrets?api-version="+apiVersion, "")
}

func (i *installation) setRequest() template {
	return i.request(http.MethodPut, secretPath(0), `{"value":"`+secretValue(0)+`"}`)
}

// fill stores the secrets while no server runs, through the same service, seal and store, so that the folder is what that
// many requests would have left. Only the audit records are not kept and commits are shared by more writers.
func (i *installation) fill(ctx context.Context) (err error) {
	cfg, err := configuration(i.data, i.address, i.log)
	if err != nil {
		return err
	}
	root, err := seal.ReadRootKeyFile(cfg.RootKey.File)
	if err != nil {
		return err
	}
	file, err := bolt.Open(filepath.Join(i.data, "strongroom.db"), nil)
	if err != nil {
		return err
	}
	shared := newSharedStore(file)
	defer func() { err = errors.Join(err, shared.Close()) }()
	db, err := seal.Open(ctx, shared, root)
	if err != nil {
		return err
	}
	log, err := audit.Open(audit.Config{Writer: io.Discard, SyncEvery: time.Second})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	resources, err := resource.Open(ctx, resource.Config{DB: db, Audit: log, TenantID: i.operator.TenantID})
	if err != nil {
		return err
	}
	service := keyvault.New(keyvault.Config{DB: db, Audit: log, Resources: resources, HSM: hsm.NewSoftware(hsm.SoftwareConfig{})})
	caller := &identity.Caller{TenantID: i.operator.TenantID, ObjectID: i.operator.ObjectID, AppID: i.operator.ClientID}
	return i.setAll(ctx, service, caller)
}

// setAll stores the secrets in a random order, as they would come, by many writers at once.
func (i *installation) setAll(ctx context.Context, service *keyvault.Service, caller *identity.Caller) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	numbers := make(chan int)
	go func() {
		defer close(numbers)
		for _, n := range rand.Perm(i.count) {
			select {
			case numbers <- n:
			case <-ctx.Done():
				return
			}
		}
	}()
	var wg sync.WaitGroup
	for range sharedWriters * sharedRun {
		wg.Go(func() {
			for n := range numbers {
				p := keyvault.SetSecretParams{Value: keyvault.NewSecretValue(secretValue(n))}
				if _, err := service.SetSecret(ctx, caller, vaultName, secretName(n), p); err != nil {
					cancel(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

const (
	sharedWriters = 256 // as many as the store takes into one commit
	sharedRun     = 24  // Updates of SetSecret that together stay within the limits of one transaction
)

// A sharedStore runs several Updates in one transaction of the store below, so that filling a large vault takes one
// fdatasync for thousands of secrets. It suits nothing but that: if one Update fails, so do those beside it.
type sharedStore struct {
	store.DB
	queue chan *sharedUpdate
	wg    sync.WaitGroup
}

type sharedUpdate struct {
	fn   func(store.Tx) error
	done chan error // capacity 1
}

func newSharedStore(db store.DB) *sharedStore {
	s := &sharedStore{DB: db, queue: make(chan *sharedUpdate, sharedWriters*sharedRun)}
	for range sharedWriters {
		s.wg.Go(s.work)
	}
	return s
}

// Update is store.DB's.
func (s *sharedStore) Update(_ context.Context, fn func(store.Tx) error) error {
	u := &sharedUpdate{fn: fn, done: make(chan error, 1)}
	s.queue <- u
	return <-u.done
}

// Close ends the workers; nobody may be in Update any more.
func (s *sharedStore) Close() error {
	close(s.queue)
	s.wg.Wait()
	return s.DB.Close()
}

func (s *sharedStore) work() {
	for first := range s.queue {
		run := s.more([]*sharedUpdate{first})
		err := s.DB.Update(context.Background(), func(tx store.Tx) error {
			for _, u := range run {
				if err := u.fn(tx); err != nil {
					return err
				}
			}
			return nil
		})
		for _, u := range run {
			u.done <- err
		}
	}
}

// more adds what waits already.
func (s *sharedStore) more(run []*sharedUpdate) []*sharedUpdate {
	for len(run) < sharedRun {
		select {
		case u, ok := <-s.queue:
			if !ok {
				return run
			}
			run = append(run, u)
		default:
			return run
		}
	}
	return run
}
