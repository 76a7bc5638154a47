package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/bolt"
	"github.com/strongroom/strongroom/strongroomtest"
)

func initConfig(t *testing.T, dir string) *server.Config {
	t.Helper()
	cfg, err := server.DevConfig(dir, []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// reopens: tests that close a data folder and open it again at once do not run beside those that start processes. Between
// fork and exec a new process holds copies of all descriptors, and with them the locks on files that this one has closed.

var errCrash = errors.New("broken off")

// breakOff runs Init and ends it after n steps. It reports whether that came to the end, now or before.
func breakOff(t *testing.T, cfg *server.Config, n int) (complete bool) {
	t.Helper()
	var opts server.Options
	opts.BreakOff(func() error {
		if n--; n == 0 {
			return errCrash
		}
		return nil
	})
	fresh, err := server.Init(t.Context(), cfg, opts, "test")
	if err != nil && !errors.Is(err, errCrash) || err != nil && fresh {
		t.Fatalf("fresh %v, %v", fresh, err)
	}
	return err == nil
}

// TestInitCrash breaks Init off after each step, once and twice, and carries on: there are the two principals with one
// credential each, and both may use the vault.
func TestInitCrash(t *testing.T) { // not parallel: see reopens
	steps := 0
	for complete := false; !complete; {
		steps++
		n := steps
		dir := filepath.Join(t.TempDir(), "data")
		cfg := initConfig(t, dir)
		complete = breakOff(t, cfg, n)
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			for again := 1; !complete && again < 3; again++ {
				if breakOff(t, cfg, 1) {
					break
				}
			}
			checkInstalled(t, dir)
		})
	}
	if steps < 9 {
		t.Errorf("Init has only %d steps", steps-1)
	}
}

// checkInstalled starts a server on an installation, which carries on if Init was broken off.
func checkInstalled(t *testing.T, dir string) {
	t.Helper()
	s := strongroomtest.Start(t, &strongroomtest.Options{Dir: dir})
	if status, body := call(t, s, adminToken(t, s), "PUT", "/secrets/a", `{"value":"1"}`); status != 200 {
		t.Errorf("the administrator was answered %d %s", status, body)
	}
	if status, body := call(t, s, machineToken(t, s), "GET", "/secrets/a", ""); status != 200 {
		t.Errorf("the managed identity was answered %d %s", status, body)
	}
	apps := principals(t, s)
	if len(apps) != 2 {
		t.Fatalf("the principals are %v", apps)
	}
	for _, app := range apps {
		if len(app.Credentials) != 1 {
			t.Errorf("%v", app)
		}
	}
	// What was made is on record, and each intent has its outcome.
	open := make(map[string]int)
	done := make(map[string]int)
	for _, rec := range s.AuditLog(t) {
		operation, _ := rec["operationName"].(string)
		switch {
		case rec["category"] == "AuditIntent":
			open[operation]++
		case open[operation] > 0:
			open[operation]--
			done[operation]++
		}
	}
	for operation, n := range open {
		if n != 0 {
			t.Errorf("%s has %d intents without outcome", operation, n)
		}
	}
	if done["SetupBegin"] != 1 || done["SetupComplete"] != 1 || done["AppCreate"] != 2 || done["VaultPut"] != 1 ||
		done["AppCredentialAdd"]-done["AppCredentialDelete"] != 2 {
		t.Errorf("on record are %v", done)
	}
}

func principals(t *testing.T, s *strongroomtest.Server) (apps []admin.App) {
	t.Helper()
	if err := admin.NewClient(s.Dir).Do(t.Context(), http.MethodGet, "/apps", nil, &apps); err != nil {
		t.Fatal(err)
	}
	return apps
}

// machineToken gets a token as a program on this machine does.
func machineToken(t *testing.T, s *strongroomtest.Server) string {
	t.Helper()
	endpoint, header := s.ManagedIdentity()
	query := url.Values{"api-version": {"2019-08-01"}, "resource": {"https://vault.localhost"}}
	req, err := http.NewRequest("GET", endpoint+"?"+query.Encode(), nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-IDENTITY-HEADER", header)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var token struct {
		AccessToken string `json:"access_token"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&token); err != nil || token.AccessToken == "" {
		t.Fatalf("no token: %s, %v", resp.Status, err)
	}
	return token.AccessToken
}

// TestInitIsOnce runs Init over a complete installation whose files are not all there.
func TestInitIsOnce(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	cfg := initConfig(t, dir)
	if fresh, err := server.Init(t.Context(), cfg, server.Options{}, "test"); err != nil || !fresh {
		t.Fatalf("fresh %v, %v", fresh, err)
	}
	again := func() (log string) {
		t.Helper()
		var b strings.Builder
		before := sums(t, dir)
		fresh, err := server.Init(t.Context(), cfg, server.Options{Log: slog.New(slog.NewTextHandler(&b, nil))}, "another")
		if err != nil || fresh {
			t.Errorf("fresh %v, %v", fresh, err)
		}
		if diff := cmp.Diff(before, sums(t, dir)); diff != "" {
			t.Errorf("changed (-before +after):\n%s", diff)
		}
		return b.String()
	}
	if log := again(); log != "" {
		t.Errorf("nothing is missing: %s", log)
	}
	for _, file := range []string{server.ManagedIdentityFile, server.AdministratorFile} {
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Fatal(err)
		}
		if log := again(); !strings.Contains(log, filepath.Base(file)) {
			t.Errorf("%s is missing, and the log says %q", file, log)
		}
	}
	// A database without its root key is not given a new one.
	if err := os.Remove(filepath.Join(dir, "root.key")); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Init(t.Context(), cfg, server.Options{}, "test"); err == nil || !strings.Contains(err.Error(), "bring the key back") {
		t.Errorf("a lost root key: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "root.key")); err == nil {
		t.Error("a new root key was made beside the old database")
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Init(t.Context(), cfg, server.Options{}, "test"); err == nil || !strings.Contains(err.Error(), "chmod 700") {
		t.Errorf("an open folder: %v", err)
	}
}

// TestInitBefore runs Init over an installation that was made before setups were on record.
func TestInitBefore(t *testing.T) { // not parallel: see reopens
	dir := filepath.Join(t.TempDir(), "data")
	s := strongroomtest.Start(t, &strongroomtest.Options{Dir: dir})
	client := s.ClientID
	if err := s.Stop(); err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, "strongroom.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(t.Context(), func(tx store.Tx) error {
		if _, err := tx.Get("server/setup"); err != nil {
			return err
		}
		return tx.Delete("server/setup")
	})
	if err := errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	s = strongroomtest.Start(t, &strongroomtest.Options{Dir: dir})
	if status, body := call(t, s, adminToken(t, s), "GET", "/secrets", ""); status != 200 || s.ClientID != client {
		t.Errorf("the administrator %s was answered %d %s", s.ClientID, status, body)
	}
	if apps := principals(t, s); len(apps) != 2 {
		t.Errorf("the principals are %v", apps)
	}
}

// TestInitForeignCredentials finds credentials of another installation where it would leave its own.
func TestInitForeignCredentials(t *testing.T) { // not parallel: see reopens
	dir := filepath.Join(t.TempDir(), "data")
	cfg := initConfig(t, dir)
	path := filepath.Join(dir, server.AdministratorFile)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	foreign := []byte(`{"clientId":"11111111-1111-4111-8111-111111111111","secret":"x"}`)
	if err := os.WriteFile(path, foreign, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := server.Init(t.Context(), cfg, server.Options{}, "test"); err == nil || !strings.Contains(err.Error(), "another installation") {
		t.Errorf("foreign credentials: %v", err)
	}
	if raw, err := os.ReadFile(path); err != nil || string(raw) != string(foreign) {
		t.Errorf("the foreign file was changed: %v", err)
	}
	if err := os.Rename(path, path+".away"); err != nil {
		t.Fatal(err)
	}
	checkInstalled(t, dir)
}
