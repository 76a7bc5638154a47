package backup_test

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/backup/backuptest"
)

// TestDamage changes one thing in a finished backup. Nothing of what was changed is handed out.
func TestDamage(t *testing.T) {
	t.Parallel()
	flip := func(at int) func([]byte) []byte {
		return func(b []byte) []byte { b[(at+len(b))%len(b)] ^= 1; return b }
	}
	missing := func([]byte) []byte { return nil }
	for name, damage := range map[string]func(f *backuptest.Storage, manifest, index, first, second string){
		"altered manifest": func(f *backuptest.Storage, m, _, _, _ string) { f.Change(m, flip(20)) },
		"altered mac":      func(f *backuptest.Storage, m, _, _, _ string) { f.Change(m, flip(-10)) },
		"manifest cut off": func(f *backuptest.Storage, m, _, _, _ string) {
			f.Change(m, func(b []byte) []byte { return b[:len(b)/2] })
		},
		"manifest with more": func(f *backuptest.Storage, m, _, _, _ string) {
			f.Change(m, func(b []byte) []byte { return append(b, "{}"...) })
		},
		"empty manifest": func(f *backuptest.Storage, m, _, _, _ string) { f.Change(m, func([]byte) []byte { return []byte{} }) },
		"large manifest": func(f *backuptest.Storage, m, _, _, _ string) {
			f.Change(m, func([]byte) []byte { return make([]byte, 2<<20) })
		},
		"missing index": func(f *backuptest.Storage, _, ix, _, _ string) { f.Change(ix, missing) },
		"altered index": func(f *backuptest.Storage, _, ix, _, _ string) { f.Change(ix, flip(30)) },
		"index cut off": func(f *backuptest.Storage, _, ix, _, _ string) {
			f.Change(ix, func(b []byte) []byte { return b[:len(b)-1] })
		},
		"missing blob":      func(f *backuptest.Storage, _, _, first, _ string) { f.Change(first, missing) },
		"missing last blob": func(f *backuptest.Storage, _, _, _, second string) { f.Change(second, missing) },
		"altered nonce":     func(f *backuptest.Storage, _, _, first, _ string) { f.Change(first, flip(0)) },
		"altered blob":      func(f *backuptest.Storage, _, _, first, _ string) { f.Change(first, flip(100)) },
		"altered tag":       func(f *backuptest.Storage, _, _, first, _ string) { f.Change(first, flip(-1)) },
		"blob cut off": func(f *backuptest.Storage, _, _, first, _ string) {
			f.Change(first, func(b []byte) []byte { return b[:len(b)-20] })
		},
		"blob with more": func(f *backuptest.Storage, _, _, first, _ string) {
			f.Change(first, func(b []byte) []byte { return append(b, 1) })
		},
		"empty blob": func(f *backuptest.Storage, _, _, first, _ string) {
			f.Change(first, func([]byte) []byte { return []byte{} })
		},
		"large blob": func(f *backuptest.Storage, _, _, first, _ string) {
			f.Change(first, func([]byte) []byte { return make([]byte, 5<<20) })
		},
		"blob twice":       func(f *backuptest.Storage, _, _, a, b string) { f.Blobs[b] = f.Blobs[a] },
		"blobs swapped":    func(f *backuptest.Storage, _, _, a, b string) { f.Blobs[a], f.Blobs[b] = f.Blobs[b], f.Blobs[a] },
		"index for a blob": func(f *backuptest.Storage, _, ix, a, _ string) { f.Blobs[a] = f.Blobs[ix] },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := backuptest.New(t)
			c := open(t, f)
			all := records(4, 2, 200)
			folder, _ := write(t, c, all, 1000)
			damage(f, folder+"/manifest.json", f.Named(t, "/index/"), f.Named(t, "/data/000001"), f.Named(t, "/data/000002"))
			got, err := read(t, c, folder, "")
			wantCode(t, err, backup.Damaged)
			if len(got) > 0 {
				wantRecords(t, got, all[:len(got)])
			}
		})
	}
}

// TestOtherBackup puts blobs of another backup of the same HSM into their places.
func TestOtherBackup(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	all := records(4, 2, 200)
	folder, _ := write(t, open(t, f), all, 1000)
	ours := f.Names()
	c := openAt(t, f, func() time.Time { return time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC) }, backuptest.SAS)
	other, _ := write(t, c, all, 1000)
	theirs := slices.DeleteFunc(f.Names(), func(name string) bool { return slices.Contains(ours, name) })
	for _, part := range []string{"/data/000001", "/index/", "manifest.json"} {
		i := slices.IndexFunc(ours, func(name string) bool { return strings.Contains(name, part) })
		before := f.Blobs[ours[i]]
		f.Blobs[ours[i]] = f.Blobs[theirs[i]]
		_, err := read(t, c, folder, "")
		wantCode(t, err, backup.Damaged)
		f.Blobs[ours[i]] = before
	}
	for _, name := range []string{folder, other} {
		if _, err := read(t, c, name, ""); err != nil {
			t.Error(err)
		}
	}
}

// TestOtherRun puts a blob that an interrupted run left behind, sealed under the same key for the same number, in the place of the
// one that counts.
func TestOtherRun(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	var s backup.State
	w, err := backup.Begin(t.Context(), c, domain("d1"), "pool", func(_ context.Context, kept backup.State) error { s = kept; return nil })
	if err != nil {
		t.Fatal(err)
	}
	begun := s
	w.SetChunkSize(1000)
	for _, r := range records(10, 2, 220) {
		if err := w.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	stale := f.Named(t, "/data/000001")
	if w, err = backup.Resume(c, domain("d1"), begun, keepNothing); err != nil {
		t.Fatal(err)
	}
	w.SetChunkSize(1000)
	all := records(10, 2, 200)
	if _, err := finish(t.Context(), w, all); err != nil {
		t.Fatal(err)
	}
	// What nobody names does no harm.
	got, err := read(t, c, s.Folder, "")
	if err != nil {
		t.Fatal(err)
	}
	wantRecords(t, got, all)

	for _, name := range f.Names() {
		if strings.Contains(name, "/data/000001") && name != stale {
			f.Blobs[name] = f.Blobs[stale]
		}
	}
	_, err = read(t, c, s.Folder, "")
	wantCode(t, err, backup.Damaged)
}

func TestWrongDomain(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	folder, _ := write(t, c, records(1, 1, 1), 1000)
	_, err := backup.Open(t.Context(), c, folder, domain("d2"))
	wantCode(t, err, backup.WrongDomain)
	wantCode(t, c.CheckRestore(t.Context(), folder, domain("d2")), backup.WrongDomain)

	// Who claims another domain's backup for this one does not get it opened.
	f.Change(folder+"/manifest.json", func(b []byte) []byte {
		return []byte(strings.Replace(string(b), `"domain":"d1"`, `"domain":"d2"`, 1))
	})
	_, err = backup.Open(t.Context(), c, folder, domain("d2"))
	wantCode(t, err, backup.Damaged)
}

// TestOtherFolder passes an older backup off as a newer one.
func TestOtherFolder(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	all := records(4, 2, 200)
	folder, _ := write(t, c, all, 1000)
	for _, name := range f.Names() {
		rest := strings.TrimPrefix(name, folder)
		f.Blobs["mhsm-pool-2026020203040567"+rest] = f.Blobs[name]
		f.Blobs["archive/of-2025/"+folder+rest] = f.Blobs[name]
	}
	_, err := read(t, c, "mhsm-pool-2026020203040567", "")
	wantCode(t, err, backup.Damaged)
	got, err := read(t, c, "archive/of-2025/"+folder, "")
	if err != nil {
		t.Fatal(err)
	}
	wantRecords(t, got, all)
}

func TestLaterFormat(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	f.Change("mhsm-x-1/manifest.json", func([]byte) []byte { return []byte(`{"manifest":{"v":2,"more":true},"mac":""}`) })
	_, err := backup.Open(t.Context(), open(t, f), "mhsm-x-1", domain("d1"))
	wantCode(t, err, backup.Unsupported)
}

// TestRefusals checks what a backup and a restore report when the storage refuses or fails, from the beginning or
// in the middle.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		status     int
		storage    string
		code       string
		text       string
		temporary  bool
		restoreToo bool
	}{
		"no container":     {status: 404, storage: "ContainerNotFound", code: backup.NotFound, text: "does not exist", restoreToo: true},
		"being deleted":    {status: 409, storage: "ContainerBeingDeleted", code: backup.NotFound, text: "does not exist", restoreToo: true},
		"wrong signature":  {status: 403, storage: "AuthenticationFailed", code: backup.Denied, text: "sp=rcwdl", restoreToo: true},
		"no permission":    {status: 403, storage: "AuthorizationPermissionMismatch", code: backup.Denied, text: "sp=rl", restoreToo: true},
		"firewall":         {status: 403, storage: "AuthorizationFailure", code: backup.Denied, text: "firewall", restoreToo: true},
		"immutable":        {status: 409, storage: "BlobImmutableDueToPolicy", code: backup.Denied, text: "immutability policy"},
		"full":             {status: 507, storage: "", code: backup.Full, text: "Free space"},
		"quota":            {status: 409, storage: "AccountQuotaExceeded", code: backup.Full, text: "raise the limit"},
		"busy":             {status: 503, storage: "ServerBusy", code: backup.Unavailable, text: "ServerBusy", temporary: true, restoreToo: true},
		"internal":         {status: 500, storage: "InternalError", code: backup.Unavailable, text: "Try again", temporary: true, restoreToo: true},
		"throttled":        {status: 429, storage: "TooManyRequests", code: backup.Unavailable, text: "Try again", temporary: true, restoreToo: true},
		"no blob storage":  {status: 400, storage: "InvalidUri", code: backup.Unavailable, text: "address", restoreToo: true},
		"nonsense in code": {status: 400, storage: "sig=<c2VjcmV0>", code: backup.Unavailable, text: "no code", restoreToo: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := backuptest.New(t)
			c := open(t, f)
			all := records(9, 1, 900)
			check := func(doing string, err error) {
				t.Helper()
				wantCode(t, err, test.code)
				var e *backup.Error
				if errors.As(err, &e) && (!strings.Contains(e.Message, test.text) || e.Temporary != test.temporary) {
					t.Errorf("%s: %+v, want %q", doing, e, test.text)
				}
			}
			for _, match := range []string{"PUT", "PUT /account/container/mhsm-pool-2026010203040567/data/000005", "/index/", "manifest.json"} {
				f.Fault = failing(match, 0, test.status, test.storage)
				w, err := backup.Begin(t.Context(), c, domain("d1"), "pool", keepNothing)
				if err != nil {
					t.Fatal(err)
				}
				w.SetChunkSize(1000)
				_, err = finish(t.Context(), w, all)
				check("writing "+match, err)
			}
			f.Fault = failing("PUT", 0, test.status, test.storage)
			check("check of backup", c.CheckBackup(t.Context()))
			if !test.restoreToo {
				return
			}
			f.Fault = nil
			folder, _ := write(t, c, all, 1000)
			for _, match := range []string{"GET", "/data/000005", "/index/", "manifest.json"} {
				f.Fault = failing(match, 0, test.status, test.storage)
				_, err := read(t, c, folder, "")
				check("reading "+match, err)
			}
			f.Fault = failing("?list", 0, test.status, test.storage)
			check("listing", c.CheckRestore(t.Context(), "", domain("d1")))
			check("listing", c.CheckBackup(t.Context()))
		})
	}
}

// TestRetries lets each request fail a few times.
func TestRetries(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	tries := make(map[string]int)
	f.Fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		key := r.Method + r.URL.Path
		if tries[key]++; tries[key]%3 == 0 {
			return false
		}
		backuptest.Refuse(w, http.StatusServiceUnavailable, "ServerBusy")
		return true
	}
	all := records(9, 1, 900)
	folder, _ := write(t, c, all, 1000)
	got, err := read(t, c, folder, "")
	if err != nil {
		t.Fatal(err)
	}
	wantRecords(t, got, all)
}

// TestLostAnswer loses the answer to the manifest: the repetition finds it there, and that is a success.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	lost := false
	f.Served = func(_ int, _ http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut && strings.HasSuffix(r.URL.Path, "manifest.json") && !lost {
			lost = true
			panic(http.ErrAbortHandler)
		}
	}
	folder, m := write(t, c, records(3, 1, 10), 1000)
	b, err := backup.Open(t.Context(), c, folder, domain("d1"))
	if err != nil || b.Manifest.ID != m.ID || !lost {
		t.Errorf("%v, lost %v", err, lost)
	}
}

// TestBrokenBody breaks an answer in the middle of a blob; the rest is asked for.
func TestBrokenBody(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	all := records(3, 1, 100_000)
	folder, _ := write(t, c, all, backup.ChunkSize)
	broken := 0
	f.Fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/data/") || r.Header.Get("x-ms-range") != "" {
			return false
		}
		broken++
		content := f.Blobs[strings.TrimPrefix(r.URL.Path, "/account/container/")]
		w.Header().Set("ETag", `"x"`)
		w.Header().Set("Content-Length", "300050") // more than comes
		w.Write(content[:len(content)/2])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	got, err := read(t, c, folder, "")
	if err != nil || broken == 0 {
		t.Fatalf("%v, broken %d times", err, broken)
	}
	wantRecords(t, got, all)
}

// TestContainerVanishes takes the container away in the middle.
func TestContainerVanishes(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	all := records(9, 1, 900)
	folder, _ := write(t, c, all, 1000)
	w, err := backup.Begin(t.Context(), c, domain("d1"), "pool", keepNothing)
	if err != nil {
		t.Fatal(err)
	}
	w.SetChunkSize(1000)
	b, err := backup.Open(t.Context(), c, folder, domain("d1"))
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range b.Records(t.Context(), "") {
		if r.Name >= all[5].Name || err != nil {
			wantCode(t, err, backup.NotFound)
			break
		}
		if r.Name == all[4].Name {
			f.Lock()
			f.Gone = true
			f.Unlock()
		}
	}
	_, err = finish(t.Context(), w, all)
	wantCode(t, err, backup.NotFound)
}

// TestExpiresMeanwhile lets the token's time pass in the middle: the storage is not even asked.
func TestExpiresMeanwhile(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	var late atomic.Bool
	now := func() time.Time {
		if late.Load() {
			return time.Date(2026, 1, 2, 1, 0, 0, 0, time.UTC)
		}
		return time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC)
	}
	c := openAt(t, f, now, backuptest.SASUntil("2026-01-02T00:30:00Z"))
	all := records(9, 1, 900)
	folder, _ := write(t, c, all, 1000)
	w, err := backup.Begin(t.Context(), c, domain("d1"), "pool", keepNothing)
	if err != nil {
		t.Fatal(err)
	}
	w.SetChunkSize(1000)
	for _, r := range all[:5] {
		if err := w.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	late.Store(true)
	before := f.Requests()
	_, err = finish(t.Context(), w, all[5:])
	wantCode(t, err, backup.Denied)
	if _, err = read(t, c, folder, ""); err == nil || !strings.Contains(err.Error(), "expired at 2026-01-02T00:30:00Z") {
		t.Error(err)
	}
	wantCode(t, err, backup.Denied)
	wantCode(t, c.CheckBackup(t.Context()), backup.Denied)
	wantCode(t, c.CheckRestore(t.Context(), "", domain("d1")), backup.Denied)
	if n := f.Requests() - before; n != 0 {
		t.Errorf("%d requests with an expired token", n)
	}
}

// TestCheck goes through the checks' requests, and takes each right away.
func TestCheck(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	folder, _ := write(t, c, records(1, 1, 1), 1000)
	before := f.Names()
	if err := c.CheckBackup(t.Context()); err != nil {
		t.Error(err)
	}
	if err := c.CheckRestore(t.Context(), folder, domain("d1")); err != nil {
		t.Error(err)
	}
	if err := c.CheckRestore(t.Context(), "", domain("d1")); err != nil {
		t.Error(err)
	}
	wantCode(t, c.CheckRestore(t.Context(), "mhsm-x-1", domain("d1")), backup.NotFound)
	for _, match := range []string{"PUT", "GET /account/container/strongroom-probe", "?list", "DELETE"} {
		f.Fault = failing(match, 0, http.StatusForbidden, "AuthorizationPermissionMismatch")
		wantCode(t, c.CheckBackup(t.Context()), backup.Denied)
		f.Fault = nil
	}
	left := slices.DeleteFunc(f.Names(), func(name string) bool { return slices.Contains(before, name) })
	if len(left) != 1 { // of the check that may not delete
		t.Errorf("left: %v", left)
	}
}

// TestRedirect sends the client elsewhere. It does not go.
func TestRedirect(t *testing.T) {
	t.Parallel()
	asked := false
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked = true }))
	defer other.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		f := backuptest.New(t)
		f.Fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
			http.Redirect(w, r, other.URL+"/account/container?"+r.URL.RawQuery, status)
			return true
		}
		c := open(t, f)
		wantCode(t, c.CheckBackup(t.Context()), backup.Unavailable)
		wantCode(t, c.CheckRestore(t.Context(), "mhsm-x-1", domain("d1")), backup.Unavailable)
		_, err := backup.Open(t.Context(), c, "mhsm-x-1", domain("d1"))
		wantCode(t, err, backup.Unavailable)
	}
	if asked {
		t.Error("a redirect was followed")
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	f.Close()
	err := c.CheckBackup(t.Context())
	wantCode(t, err, backup.Unavailable)
	var e *backup.Error
	if errors.As(err, &e) && !e.Temporary {
		t.Error("not temporary")
	}
}

func TestUnknownAuthority(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	f.Config.ErrorLog = nil
	s, err := backup.NewStorage(backup.Config{Hosts: []string{f.Listener.Addr().String()}, RootCAs: x509.NewCertPool(), RetryDelay: time.Microsecond})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Container(f.URL+"/account/container", backup.Access{SAS: backuptest.SAS})
	if err != nil {
		t.Fatal(err)
	}
	err = c.CheckBackup(t.Context())
	wantCode(t, err, backup.Unavailable)
	if err == nil || !strings.Contains(err.Error(), "unknown authority") {
		t.Error(err)
	}
	if f.Requests() > 0 {
		t.Error("the token went to a stranger")
	}
}

// TestTimeout lets the storage not answer.
func TestTimeout(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	f.Fault = func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		<-r.Context().Done()
		return true
	}
	roots := x509.NewCertPool()
	roots.AddCert(f.Certificate())
	s, err := backup.NewStorage(backup.Config{
		Hosts: []string{f.Listener.Addr().String()}, RootCAs: roots, RetryDelay: time.Microsecond, TryTimeout: 20 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := s.Container(f.URL+"/account/container", backup.Access{SAS: backuptest.SAS})
	if err != nil {
		t.Fatal(err)
	}
	wantCode(t, c.CheckBackup(t.Context()), backup.Timeout)
	wantCode(t, c.CheckRestore(t.Context(), "", domain("d1")), backup.Timeout)
}

// TestCancelled hands the caller's own reason back, not a complaint about the storage.
func TestCancelled(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	c := open(t, f)
	stopping := errors.New("the server stops")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(stopping)
	if err := c.CheckBackup(ctx); !errors.Is(err, stopping) {
		t.Error(err)
	}
}

// token is a credential with a fixed answer.
type token struct {
	text  string
	err   error
	scope atomic.Pointer[[]string]
}

func (c *token) GetToken(_ context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	c.scope.Store(&options.Scopes)
	return azcore.AccessToken{Token: c.text, ExpiresOn: time.Now().Add(time.Hour)}, c.err
}

// TestCredential opens a container with a token instead of a SAS.
func TestCredential(t *testing.T) {
	t.Parallel()
	f := backuptest.New(t)
	authorized := 0
	f.Fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") != "Bearer t0ken" || r.URL.Query().Get("sig") != "" {
			backuptest.Refuse(w, http.StatusUnauthorized, "InvalidAuthenticationInfo")
			return true
		}
		authorized++
		query := r.URL.Query()
		query.Set("sig", backuptest.Signature) // what the rest of the fake wants
		r.URL.RawQuery = query.Encode()
		return false
	}
	good := &token{text: "t0ken"}
	open := func(cred azcore.TokenCredential) *backup.Container {
		c, err := f.Open(t, time.Now).Container(f.URL+"/account/container", backup.Access{Credential: cred})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if err := open(good).CheckBackup(t.Context()); err != nil || authorized != 4 {
		t.Errorf("%v after %d requests", err, authorized)
	}
	if scope := *good.scope.Load(); len(scope) != 1 || scope[0] != "https://storage.azure.com/.default" {
		t.Errorf("token for %v", scope)
	}
	err := open(&token{text: "other"}).CheckBackup(t.Context())
	wantCode(t, err, backup.Denied)
	if err == nil || !strings.Contains(err.Error(), "Storage Blob Data Contributor") {
		t.Error(err)
	}
	for _, check := range []func(c *backup.Container) error{
		func(c *backup.Container) error { return c.CheckBackup(t.Context()) },
		func(c *backup.Container) error { return c.CheckRestore(t.Context(), "", domain("d1")) },
	} {
		err = check(open(&token{err: errors.New("no identity, sig=c2VjcmV0")}))
		wantCode(t, err, backup.Denied)
		if err == nil || !strings.Contains(err.Error(), "managed identity gave none") {
			t.Error(err)
		}
	}
}

// TestEndlessAnswer bounds what is read of an answer that does not end.
func TestEndlessAnswer(t *testing.T) {
	t.Parallel()
	for _, status := range []int{200, 403} {
		f := backuptest.New(t)
		var sent atomic.Int64
		f.Fault = func(_ int, w http.ResponseWriter, r *http.Request) bool {
			w.WriteHeader(status)
			block := make([]byte, 64<<10)
			for r.Context().Err() == nil {
				n, err := w.Write(block)
				if sent.Add(int64(n)); err != nil {
					break
				}
			}
			return true
		}
		c := open(t, f)
		if err := c.CheckRestore(t.Context(), "", domain("d1")); err == nil {
			t.Errorf("status %d: accepted", status)
		}
		if _, err := backup.Open(t.Context(), c, "mhsm-x-1", domain("d1")); err == nil {
			t.Errorf("status %d: accepted", status)
		}
		if n := sent.Load(); n > 100<<20 {
			t.Errorf("status %d: %d bytes were taken", status, n)
		}
	}
}
