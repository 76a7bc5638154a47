package managedhsm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/backup/backuptest"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

// A jobBench is a bench with storage and a clock that can be moved. The HSMs hsm and twin have one security domain, alien has another.
type jobBench struct {
	*bench
	storage *backuptest.Storage
	log     *audit.Log

	mu sync.Mutex // guards at
	at time.Time
}

func newJobBench(t testing.TB) *jobBench {
	t.Helper()
	b := &jobBench{bench: newBench(t), storage: backuptest.New(t), at: now}
	b.log = b.audit
	b.Service = b.serveJobs(t, b.faulty)
	b.create(t, "twin")
	b.create(t, "alien")
	for _, name := range []string{"hsm", "twin"} {
		b.giveTransferKey(t, name)
		_, err := b.Upload(t.Context(), admin, name, kitOf().blob)
		must(t, err)
	}
	b.download(t, "alien")
	for _, name := range []string{"hsm", "twin", "alien"} {
		for _, role := range []string{authz.RoleHSMCryptoUser, authz.RoleHSMCryptoOfficer} {
			_, err := b.resources.CreateLocalAssignment(t.Context(), operator, name, "/", uuid.NewString(), adminID, role)
			must(t, err)
		}
	}
	return b
}

func (b *jobBench) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.at
}

func (b *jobBench) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = b.at.Add(d)
}

// serveJobs returns a service on a store, as one server runs it.
func (b *jobBench) serveJobs(t testing.TB, file store.DB) *Service {
	t.Helper()
	db, err := seal.Open(t.Context(), file, b.root)
	must(t, err)
	resources, err := resource.Open(t.Context(), resource.Config{
		DB: db, Audit: b.log, Now: b.clock, TenantID: tenant, Locations: []string{"local"}, Purged: keyvault.Purged, PurgedHSM: Purged,
	})
	must(t, err)
	keys := keyvault.New(keyvault.Config{DB: db, Audit: b.log, Resources: resources, HSM: hsm.NewSoftware(hsm.SoftwareConfig{}), Now: b.clock})
	return New(Config{DB: db, Audit: b.log, Resources: resources, Keys: keys.ManagedHSMs(), Now: b.clock, Storage: b.storage.Open(t, b.clock)})
}

func (b *jobBench) params(folder string) StartParams {
	return StartParams{Container: b.storage.Address(), SAS: backuptest.SAS, Folder: folder}
}

func (b *jobBench) start(t testing.TB, name string, kind JobKind, p StartParams) Job {
	t.Helper()
	j, err := b.Start(t.Context(), admin, name, kind, p)
	must(t, err)
	if j.State != Running || j.Kind != kind || j.Started != b.clock().Unix() {
		t.Errorf("a started job is %+v", j)
	}
	return j
}

// drain works on jobs until none is waiting.
func drain(t testing.TB, s *Service) (all error) {
	t.Helper()
	for {
		l, err := s.take(t.Context())
		if err != nil || l == nil {
			return errors.Join(all, err)
		}
		all = errors.Join(all, l.run(t.Context()))
	}
}

// ended is a job as it is after another server has gone on with it for as long as it takes.
func (b *jobBench) ended(t testing.TB, name string, j Job) Job {
	t.Helper()
	for range 3 * maxAttempts {
		must(t, drain(t, b.Service))
		if j = b.job(t, name, j); j.State != Running {
			return j
		}
		b.pass(maxAttempts * retryAfter)
	}
	t.Fatalf("the job does not end: %+v", j)
	return j
}

func (b *jobBench) job(t testing.TB, name string, j Job) Job {
	t.Helper()
	op := RestoreStatus
	if j.Kind.backs() {
		op = BackupStatus
	}
	j, err := b.JobStatus(t.Context(), admin, name, j.ID, op)
	must(t, err)
	return j
}

// do does a job that has to succeed.
func (b *jobBench) do(t testing.TB, name string, kind JobKind, p StartParams) Job {
	t.Helper()
	j := b.ended(t, name, b.start(t, name, kind, p))
	if j.State != Succeeded || j.Code != "" || j.Ended == 0 {
		t.Fatalf("%s of %s: %+v", kind, name, j)
	}
	return j
}

// backedUp is the folder of a new backup.
func (b *jobBench) backedUp(t testing.TB, name string) string {
	t.Helper()
	b.pass(time.Second) // a folder has the time in its name
	j := b.do(t, name, FullBackup, b.params(""))
	folder, ok := strings.CutPrefix(j.Folder, b.storage.Address()+"/")
	if !ok {
		t.Fatalf("the folder is %q", j.Folder)
	}
	return folder
}

// wantFailed wants a job that failed and left no trace of what opens the storage.
func (b *jobBench) wantFailed(t testing.TB, j Job, code, text string) {
	t.Helper()
	if j.State != Failed || j.Code != code || !strings.Contains(j.Details, text) || j.Folder != "" {
		t.Errorf("the job is %+v, want %s and %q", j, code, text)
	}
	b.wantNoSAS(t)
}

// wantNoSAS looks for the token in all that lasts, when no job runs.
func (b *jobBench) wantNoSAS(t testing.TB) {
	t.Helper()
	for key, value := range b.dump(t) {
		if backuptest.Shows(value) || strings.HasPrefix(key, runningPrefix) {
			t.Errorf("%s is left: %s", key, value)
		}
	}
	trail, err := os.ReadFile(b.trail)
	must(t, err)
	if backuptest.Shows(string(trail)) {
		t.Error("the audit log shows the token")
	}
}

func (b *jobBench) key(t testing.TB, hsm, name string) {
	t.Helper()
	_, err := b.keys.CreateKey(t.Context(), admin, hsm, name, keyvault.CreateKeyParams{Type: "EC-HSM", Tags: map[string]string{"of": name}})
	must(t, err)
}

// fill makes keys of several versions, one of them deleted, and a role.
func (b *jobBench) fill(t testing.TB, hsm string) {
	t.Helper()
	for _, name := range []string{"a", "B-Mixed", "c", "d", "gone"} {
		b.key(t, hsm, name)
		b.key(t, hsm, name)
	}
	_, err := b.keys.DeleteKey(t.Context(), admin, hsm, "gone")
	must(t, err)
	_, err = b.resources.CreateLocalAssignment(t.Context(), operator, hsm, "/keys/a", uuid.NewString(), strangerID, authz.RoleHSMCryptoUser)
	must(t, err)
}

// content is all that is in an HSM, but for ids that a restore gives anew.
func (b *jobBench) content(t testing.TB, name string) map[string]any {
	t.Helper()
	v := b.vault(t, name)
	out := make(map[string]any)
	put := func(name string, data []byte) {
		var doc map[string]any
		must(t, json.Unmarshal(data, &doc))
		if strings.HasPrefix(name, keyGroup) {
			delete(doc, "id")
		}
		out[name] = doc
	}
	for after := ""; ; {
		k, err := b.keys.NextKey(t.Context(), v, after)
		must(t, err)
		if k == nil {
			break
		}
		for i, r := range k.Records {
			put(fmt.Sprintf("%s%s/%d", keyGroup, k.Name, i), r.Data)
		}
		after = k.Name
	}
	local, err := b.resources.LocalRecords(t.Context(), v)
	must(t, err)
	for _, r := range local {
		put(localGroup+r.Name, r.Data)
	}
	return out
}

func (b *jobBench) wantContent(t testing.TB, name string, want map[string]any) {
	t.Helper()
	if diff := cmp.Diff(want, b.content(t, name)); diff != "" {
		t.Errorf("in %s (-want +got):\n%s", name, diff)
	}
}

// wantSound wants nothing to report.
func (b *jobBench) wantSound(t testing.TB) {
	t.Helper()
	report := func(key, problem string) { t.Errorf("%s %s", key, problem) }
	must(t, errors.Join(b.keys.CheckReferences(t.Context(), report), b.CheckReferences(t.Context(), report)))
}

// collect has what is nobody's removed.
func (b *jobBench) collect(t testing.TB) {
	t.Helper()
	b.pass(2 * stageTime)
	for range 4 { // what one round finds can be the next one's to remove
		must(t, b.keys.CollectGarbage(t.Context()))
	}
}

// lasting is a dump without what tells of jobs.
func (b *jobBench) lasting(t testing.TB) map[string]string {
	t.Helper()
	b.collect(t)
	out := b.dump(t)
	for key := range out {
		if strings.HasPrefix(key, jobPrefix) {
			delete(out, key)
		}
	}
	return out
}

// TestJobs takes a backup from one HSM to another with the same domain, as a whole and by one key.
func TestJobs(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	b.fill(t, "hsm")
	want := b.content(t, "hsm")
	b.do(t, "hsm", PreBackup, b.params(""))
	folder := b.backedUp(t, "hsm")

	b.key(t, "twin", "other")
	b.do(t, "twin", PreRestore, b.params(folder))
	if j := b.do(t, "twin", KeyRestore, StartParams{Container: b.storage.Address(), SAS: backuptest.SAS, Folder: folder, Key: "b-mixed"}); j.Details !=
		"Number of successful key versions restored: 2, Number of key versions could not overwrite: 0" {
		t.Errorf("a key: %s", j.Details)
	}
	_, _, err := b.keys.Sign(t.Context(), admin, "twin", "B-Mixed", "", "ES256", make([]byte, 32))
	must(t, err)
	j := b.ended(t, "twin", b.start(t, "twin", KeyRestore, StartParams{Container: b.storage.Address(), SAS: backuptest.SAS, Folder: folder, Key: "B-Mixed"}))
	b.wantFailed(t, j, backup.Conflict, "delete and purge it first")

	_, err = b.Start(t.Context(), admin, "twin", FullRestore, b.params(folder))
	wantKind(t, err, keyvault.BadParameter, "within the last 30 minutes")
	b.backedUp(t, "twin")
	b.pass(backupBefore + time.Second)
	_, err = b.Start(t.Context(), admin, "twin", FullRestore, b.params(folder))
	wantKind(t, err, keyvault.BadParameter, "within the last 30 minutes")
	b.backedUp(t, "twin")
	b.do(t, "twin", FullRestore, b.params(b.storage.Address()+"/"+folder))
	b.wantContent(t, "twin", want)
	b.wantContent(t, "hsm", want)
	_, _, err = b.keys.Sign(t.Context(), admin, "twin", "a", "", "ES256", make([]byte, 32))
	must(t, err)
	_, err = b.keys.RecoverKey(t.Context(), admin, "twin", "gone")
	must(t, err)
	b.wantNoSAS(t)
	b.collect(t)
	b.wantSound(t)
	for key, value := range b.dump(t) {
		if known, err := CheckRecord(key, []byte(value)); known && err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
	for _, op := range []keyvault.Operation{BackupStart, RestoreStart, KeyRestoreStart, PreBackupStart, PreRestoreStart} {
		var intents, events int
		for _, line := range b.logged(t, op) {
			intents += strings.Count(line, `"AuditIntent"`)
			events += strings.Count(line, `"AuditEvent"`)
		}
		if intents == 0 || intents != events {
			t.Errorf("%s: %d intents and %d ends are on record", op.Name, intents, events)
		}
	}
}

// TestFailedRestores: whatever is wrong with a backup or its storage, everything stays as it was.
func TestFailedRestores(t *testing.T) {
	t.Parallel()
	flip := func(content []byte) []byte { content[len(content)/2] ^= 1; return content }
	for name, c := range map[string]struct {
		into   string
		spoil  func(t *testing.T, b *jobBench, p *StartParams)
		code   string
		detail string
	}{
		"another domain": {"alien", func(*testing.T, *jobBench, *StartParams) {}, backup.WrongDomain, "Restore it into an HSM"},
		"altered": {"twin", func(t *testing.T, b *jobBench, p *StartParams) {
			b.storage.Change(b.storage.Named(t, p.Folder+"/data/"), flip)
		}, backup.Damaged, "damaged"},
		"altered manifest": {"twin", func(t *testing.T, b *jobBench, p *StartParams) {
			b.storage.Change(p.Folder+"/manifest.json", flip)
		}, backup.Damaged, "damaged"},
		"no folder":    {"twin", func(_ *testing.T, _ *jobBench, p *StartParams) { p.Folder = "mhsm-x" }, backup.NotFound, "no backup in the folder"},
		"no container": {"twin", func(_ *testing.T, b *jobBench, _ *StartParams) { b.storage.Vanish(true) }, backup.NotFound, "does not exist"},
		"refused": {"twin", func(_ *testing.T, _ *jobBench, p *StartParams) {
			p.SAS = "sv=2022-11-02&sr=c&sp=rl&se=2999-01-01T00:00:00Z&sig=c2VjcmV0"
		}, backup.Denied, "refuses access"},
		"expires in the middle": {"twin", func(_ *testing.T, b *jobBench, p *StartParams) {
			p.SAS = SAS(backuptest.SASUntil(b.clock().Add(time.Hour).UTC().Format(time.RFC3339)))
			b.storage.OnServed(func(int, http.ResponseWriter, *http.Request) { b.pass(2 * time.Hour) })
		}, backup.Denied, "expired"},
		"the storage fails for good": {"twin", func(_ *testing.T, b *jobBench, _ *StartParams) {
			b.storage.OnRequest(func(_ int, w http.ResponseWriter, _ *http.Request) bool {
				backuptest.Refuse(w, http.StatusServiceUnavailable, "ServerBusy")
				return true
			})
		}, backup.Unavailable, "busy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newJobBench(t)
			b.fill(t, "hsm")
			b.key(t, c.into, "mine")
			p := b.params(b.backedUp(t, "hsm"))
			for _, kind := range []JobKind{FullRestore, PreRestore, KeyRestore} {
				if name == "altered" && kind == PreRestore { // which looks at the manifest alone
					continue
				}
				q := p
				if kind == KeyRestore {
					q.Key = "a"
				}
				b.backedUp(t, c.into)
				before := b.lasting(t)
				b.pass(-2 * stageTime)
				c.spoil(t, b, &q)
				j := b.ended(t, c.into, b.start(t, c.into, kind, q))
				b.wantFailed(t, j, c.code, c.detail)
				if diff := cmp.Diff(before, b.lasting(t)); diff != "" {
					t.Errorf("after the %s (-before +after):\n%s", kind, diff)
				}
				b.key(t, c.into, "after-"+string(kind)) // it is in use again
				b.storage.Vanish(false)
				b.storage.OnRequest(nil)
				b.storage.OnServed(nil)
				if name == "altered" || name == "altered manifest" {
					c.spoil(t, b, &q) // twice is not at all
				}
			}
		})
	}
}

// TestOneJobAtATime starts several at once, and looks what an HSM refuses in the meantime.
func TestOneJobAtATime(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	folder := b.backedUp(t, "hsm")
	var wg sync.WaitGroup
	errs := make([]error, 8)
	jobs := make([]Job, len(errs))
	for i := range errs {
		kinds := []JobKind{FullRestore, FullBackup}
		wg.Go(func() { jobs[i], errs[i] = b.Start(t.Context(), admin, "hsm", kinds[i%2], b.params(folder)) })
	}
	wg.Wait()
	started := 0
	for i, err := range errs {
		switch {
		case err == nil:
			started++
			b.ended(t, "hsm", jobs[i])
		case !isKind(err, keyvault.Conflict) && !isKind(err, keyvault.HSMRestoring):
			t.Error(err)
		}
	}
	if started != 1 {
		t.Errorf("%d jobs were started at once", started)
	}

	j := b.start(t, "hsm", FullRestore, b.params(folder))
	for what, err := range map[string]error{
		"create": func() error {
			_, err := b.keys.CreateKey(t.Context(), admin, "hsm", "k", keyvault.CreateKeyParams{Type: "EC-HSM"})
			return err
		}(),
		"backup": func() error {
			_, err := b.Start(t.Context(), admin, "hsm", FullBackup, b.params(""))
			return err
		}(),
		"download": func() error { _, err := b.Download(t.Context(), admin, "hsm", owners(), 2); return err }(),
	} {
		if !isKind(err, keyvault.HSMRestoring) {
			t.Errorf("%s while the HSM is restored: %v", what, err)
		}
	}
	if _, err := b.resources.ListSettings(t.Context(), operator, "hsm"); !resource.IsKind(err, resource.HSMRestoring) {
		t.Errorf("settings while the HSM is restored: %v", err)
	}
	if got := b.job(t, "hsm", j); got.State != Running {
		t.Errorf("the status is %+v", got)
	}
	_, err := b.JobStatus(t.Context(), stranger, "hsm", j.ID, RestoreStatus)
	wantKind(t, err, keyvault.AccessDeniedInHSM, "restore/status")
	_, err = b.JobStatus(t.Context(), foreign, "hsm", j.ID, RestoreStatus)
	wantKind(t, err, keyvault.AccessDeniedInHSM, "restore/status")
	b.key(t, "twin", "k") // others go on
	b.ended(t, "hsm", j)
	b.key(t, "hsm", "k")
}

// errDead is what a server that was killed gets from its store.
var errDead = errors.New("killed")

// A mortal is the store of a server that is killed at one of its writes, before it or after it.
type mortal struct {
	store.DB
	mu    sync.Mutex
	left  int // writes until then; negative: none
	after bool
	dead  bool
}

func (m *mortal) killed(write bool) (dead, last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return true, false
	}
	if write && m.left >= 0 {
		m.left--
		m.dead = m.left < 0
	}
	return m.dead && !m.after, m.dead
}

func (m *mortal) kill() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.dead = true
}

func (m *mortal) View(ctx context.Context, fn func(store.Reader) error) error {
	if dead, _ := m.killed(false); dead {
		return errDead
	}
	return m.DB.View(ctx, fn)
}

func (m *mortal) Update(ctx context.Context, fn func(store.Tx) error) error {
	dead, last := m.killed(true)
	if dead {
		return errDead
	}
	err := m.DB.Update(ctx, fn)
	if last {
		return errDead
	}
	return err
}

// TestKilled kills the server at each of its writes, and at each request to the storage, and lets another go on.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, kind := range []JobKind{FullBackup, FullRestore, KeyRestore} {
		for how, after := range map[string]bool{"before": false, "after": true} {
			for _, where := range []string{"write", "request"} {
				t.Run(fmt.Sprintf("%s/%s/%s", kind, how, where), func(t *testing.T) {
					t.Parallel()
					killEverywhere(t, kind, where, after)
				})
			}
		}
	}
}

func killEverywhere(t *testing.T, kind JobKind, where string, after bool) {
	b := newJobBench(t)
	b.fill(t, "hsm")
	for range 60 { // more versions than one transaction restores
		b.key(t, "hsm", "a")
	}
	want := b.content(t, "hsm")
	p := b.params(b.backedUp(t, "hsm"))
	name := "twin"
	switch kind {
	case FullBackup:
		name, p.Folder = "hsm", ""
	case KeyRestore:
		p.Key = "a"
	}
	const most = 200
	for n := range most {
		if kind == FullRestore {
			b.backedUp(t, name)
			b.key(t, name, fmt.Sprintf("own-%d", n))
		}
		file := &mortal{DB: b.faulty, left: -1, after: after}
		doomed := b.serveJobs(t, file)
		doomed.saveEvery = 2
		b.pass(time.Second)
		j := b.start(t, name, kind, p)
		if where == "write" {
			file.left = n
		} else {
			b.killAtRequest(n, after, file)
		}
		_ = drain(t, doomed)
		b.storage.OnRequest(nil)
		b.storage.OnServed(nil)
		died := file.dead
		b.pass(leaseTime + time.Second)
		if j = b.ended(t, name, j); j.State != Succeeded {
			t.Fatalf("killed at %d: %+v", n, j)
		}
		b.wantNoSAS(t)
		switch kind {
		case FullRestore:
			b.wantContent(t, name, want)
		case FullBackup:
			if _, err := backup.Open(t.Context(), b.container(t), strings.TrimPrefix(j.Folder, b.storage.Address()+"/"), kitOf().domain); err != nil {
				t.Fatal(err)
			}
		case KeyRestore:
			_, _, err := b.keys.Sign(t.Context(), admin, name, "a", "", "ES256", make([]byte, 32))
			must(t, err)
			_, err = b.keys.DeleteKey(t.Context(), admin, name, "a")
			must(t, err)
			must(t, b.keys.PurgeKey(t.Context(), admin, name, "a"))
		}
		if !died {
			if n < 3 {
				t.Errorf("%d places only", n)
			}
			b.collect(t)
			b.wantSound(t)
			return
		}
	}
	t.Errorf("more than %d places", most)
}

func (b *jobBench) container(t testing.TB) *backup.Container {
	t.Helper()
	c, err := b.storage.Open(t, b.clock).Container(b.storage.Address(), backup.Access{SAS: backuptest.SAS})
	must(t, err)
	return c
}

// killAtRequest kills a server at its nth request to the storage, before that is served or after it.
func (b *jobBench) killAtRequest(n int, after bool, file *mortal) {
	first := b.storage.Requests() + 1
	if after {
		b.storage.OnServed(func(number int, _ http.ResponseWriter, _ *http.Request) {
			if number-first >= n {
				file.kill()
			}
		})
		return
	}
	b.storage.OnRequest(func(number int, w http.ResponseWriter, _ *http.Request) bool {
		if number-first < n {
			return false
		}
		file.kill()
		backuptest.Refuse(w, http.StatusForbidden, "AuthenticationFailed")
		return true
	})
}

// TestLateServer lets a server that was thought dead wake up when another one has ended its job and the HSM has changed since.
func TestLateServer(t *testing.T) {
	t.Parallel()
	for _, kind := range []JobKind{FullBackup, FullRestore, KeyRestore} {
		for n := range 4 {
			t.Run(fmt.Sprintf("%s/%d", kind, n), func(t *testing.T) {
				t.Parallel()
				b := newJobBench(t)
				b.fill(t, "hsm")
				p := b.params(b.backedUp(t, "hsm"))
				b.backedUp(t, "twin")
				p.Key = "a"
				if kind == FullBackup {
					p.Folder = ""
				}
				late := b.serveJobs(t, b.faulty)
				late.saveEvery = 1
				b.pass(time.Second)
				j := b.start(t, "twin", kind, p)
				var want map[string]any
				first := b.storage.Requests() + 1
				b.storage.OnServed(func(number int, _ http.ResponseWriter, _ *http.Request) {
					if number-first != n {
						return
					}
					b.storage.Served = nil
					b.storage.Unlock()
					defer b.storage.Lock()
					b.pass(leaseTime + time.Second)
					if j = b.ended(t, "twin", j); j.State != Succeeded {
						t.Errorf("the other server: %+v", j)
					}
					b.key(t, "twin", "a") // a new version, or a new key
					b.key(t, "twin", "new")
					want = b.content(t, "twin")
				})
				must(t, drain(t, late))
				if want == nil {
					return // it does not have that many requests
				}
				b.storage.OnServed(nil)
				b.wantContent(t, "twin", want)
				if again := b.job(t, "twin", j); again != j {
					t.Errorf("the job was %+v and is %+v", j, again)
				}
			})
		}
	}
}

// TestTwoServers has two servers work on the jobs of several HSMs, which each does once.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	b.fill(t, "hsm")
	other := b.serveJobs(t, b.faulty)
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for _, s := range []*Service{b.Service, other} {
		wg.Go(func() { s.Run(ctx, func(err error) { t.Errorf("reported: %v", err) }) })
	}
	names := []string{"hsm", "twin", "alien"}
	const rounds = 5
	for range rounds {
		b.pass(time.Second)
		jobs := make(map[string]Job)
		for _, name := range names {
			jobs[name] = b.start(t, name, FullBackup, b.params(""))
			other.wake()
		}
		for deadline := time.Now().Add(time.Minute); len(jobs) > 0; {
			for name, j := range jobs {
				if j = b.job(t, name, j); j.State == Succeeded {
					delete(jobs, name)
				} else if j.State == Failed || time.Now().After(deadline) {
					t.Fatalf("%+v", j)
				}
			}
		}
	}
	stop()
	wg.Wait()
	ends := 0
	for _, line := range b.logged(t, BackupStart) {
		ends += strings.Count(line, `"AuditEvent"`)
	}
	if ends != rounds*len(names) {
		t.Errorf("%d ends are on record, want %d", ends, rounds*len(names))
	}
	b.wantNoSAS(t)
}

// TestStop stops a server in the middle of a job, which another one takes at once.
func TestStop(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	b.fill(t, "hsm")
	ctx, stop := context.WithCancel(t.Context())
	j := b.start(t, "hsm", FullBackup, b.params(""))
	b.storage.OnServed(func(int, http.ResponseWriter, *http.Request) { stop() })
	b.Run(ctx, func(err error) { t.Errorf("reported: %v", err) })
	b.storage.OnServed(nil)
	must(t, drain(t, b.serveJobs(t, b.faulty)))
	if j = b.job(t, "hsm", j); j.State != Succeeded {
		t.Errorf("the job is %+v", j)
	}
}

// TestDeletedHSM deletes or purges an HSM in the middle of a restore.
func TestDeletedHSM(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	b.fill(t, "hsm")
	want := b.content(t, "twin")
	p := b.params(b.backedUp(t, "hsm"))
	b.backedUp(t, "twin")
	b.deleteAtRequest(t, "twin")
	j := b.start(t, "twin", FullRestore, p)
	must(t, drain(t, b.Service))
	b.wantNoSAS(t)
	b.recover(t, "twin")
	b.wantFailed(t, b.job(t, "twin", j), backup.NotFound, "deleted in the meantime")
	b.wantContent(t, "twin", want)
	b.key(t, "twin", "works")

	// After the exchange the restore waits for the HSM.
	b.backedUp(t, "twin")
	file := &mortal{DB: b.faulty, left: -1}
	doomed := b.serveJobs(t, file)
	j = b.start(t, "twin", FullRestore, p)
	old := b.vault(t, "twin").ContentID()
	for n := 1; b.vault(t, "twin").ContentID() == old; n++ {
		file.left, file.dead, file.after = n, false, true
		_ = drain(t, doomed)
		b.pass(leaseTime + time.Second)
	}
	_, err := b.resources.DeleteHSM(t.Context(), operator, "g", "twin")
	must(t, err)
	for range 3 * maxAttempts {
		must(t, drain(t, b.Service))
		b.pass(maxAttempts * retryAfter)
	}
	b.recover(t, "twin")
	if j = b.ended(t, "twin", j); j.State != Succeeded {
		t.Errorf("after the recovery: %+v", j)
	}
	b.wantContent(t, "twin", b.content(t, "hsm"))

	// A purge takes the jobs along.
	b.backedUp(t, "twin")
	id := b.vault(t, "twin").ID
	b.storage.OnServed(func(int, http.ResponseWriter, *http.Request) {
		b.storage.Served = nil
		b.recreate(t, "twin")
	})
	b.start(t, "twin", FullRestore, p)
	must(t, drain(t, b.Service))
	b.wantNoSAS(t)
	for key := range b.dump(t) {
		if key == runningKey(id) || key == lastBackupKey(id) {
			t.Errorf("%s is left", key)
		}
	}
}

func (b *jobBench) deleteAtRequest(t *testing.T, name string) {
	b.storage.OnServed(func(int, http.ResponseWriter, *http.Request) {
		b.storage.Served = nil
		_, err := b.resources.DeleteHSM(t.Context(), operator, "g", name)
		must(t, err)
	})
}

func (b *jobBench) recover(t testing.TB, name string) {
	t.Helper()
	_, _, err := b.resources.PutHSM(t.Context(), operator, "g", name, resource.PutHSMParams{Location: "local", TenantID: tenant, Recover: true})
	must(t, err)
}

// TestHistories: whatever has happened to an HSM before a backup and since, a restore brings back what was in it then.
func TestHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b := newJobBench(t)
			rng := rand.New(rand.NewPCG(seed, 0))
			type saved struct {
				folder  string
				content map[string]any
			}
			var all []saved
			for range 12 {
				for range rng.IntN(10) {
					b.step(t, rng, "hsm")
				}
				content := b.content(t, "hsm")
				all = append(all, saved{b.backedUp(t, "hsm"), content})
				b.wantContent(t, "hsm", content)
				if rng.IntN(3) == 0 {
					from := all[rng.IntN(len(all))]
					b.do(t, "hsm", FullRestore, b.params(from.folder))
					b.wantContent(t, "hsm", from.content)
				}
				b.pass(time.Duration(rng.IntN(1000)) * time.Second)
			}
			b.collect(t)
			b.wantSound(t)
		})
	}
}

// step changes something, or is refused.
func (b *jobBench) step(t *testing.T, rng *rand.Rand, name string) {
	t.Helper()
	key := []string{"a", "B", "c-c", "d1"}[rng.IntN(4)]
	var err error
	switch rng.IntN(7) {
	default:
		_, err = b.keys.CreateKey(t.Context(), admin, name, key, keyvault.CreateKeyParams{Type: "EC-HSM"})
	case 3:
		_, err = b.keys.DeleteKey(t.Context(), admin, name, key)
	case 4:
		err = b.keys.PurgeKey(t.Context(), admin, name, key)
	case 5:
		_, err = b.keys.RecoverKey(t.Context(), admin, name, key)
	case 6:
		_, err = b.resources.CreateLocalAssignment(t.Context(), operator, name, "/keys/"+key, uuid.NewString(), uuid.NewString(), authz.RoleHSMCryptoUser)
	}
	var refused *keyvault.Error
	if err != nil && !errors.As(err, &refused) {
		t.Fatal(err)
	}
}

// TestSweep drops jobs a while after their end, and no others.
func TestSweep(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	j := b.do(t, "hsm", PreBackup, StartParams{})
	b.pass(keepJobs / 2)
	kept := b.do(t, "hsm", PreRestore, StartParams{})
	b.pass(keepJobs/2 + time.Second)
	must(t, b.sweep(t.Context()))
	_, err := b.JobStatus(t.Context(), admin, "hsm", j.ID, BackupStatus)
	wantKind(t, err, keyvault.NotFound, "no job")
	b.job(t, "hsm", kept)
}

// TestSASIsNotPrinted: what holds a token does not show it.
func TestSASIsNotPrinted(t *testing.T) {
	t.Parallel()
	p := StartParams{SAS: backuptest.SAS}
	rec := &jobRecord{Work: &jobWork{SAS: backuptest.SAS}}
	for _, v := range []any{p, &p, rec.Work, *rec.Work, p.SAS} {
		if text := fmt.Sprintf("%v %+v %#v %s", v, v, v, v); backuptest.Shows(text) {
			t.Errorf("%T shows the token: %s", v, text)
		}
	}
}

// TestStuckHSM: an HSM that waits for a job that nobody does is reported.
func TestStuckHSM(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	b.wantSound(t)
	b.backedUp(t, "hsm")
	b.start(t, "hsm", FullBackup, b.params(""))
	b.wantSound(t)
	b.restoring(t, "hsm") // by another job
	b.restoring(t, "twin")
	j := b.start(t, "alien", FullBackup, b.params(""))
	must(t, b.db.Update(t.Context(), func(tx store.Tx) error { return tx.Delete(jobKey(b.vault(t, "alien").ID, j.ID)) }))
	found := make(map[string]string)
	must(t, b.CheckReferences(t.Context(), func(key, problem string) { found[key] = problem }))
	for name, text := range map[string]string{"hsm": "names another job", "twin": "is missing", "alien": "names a job that is not there"} {
		if problem := found[runningKey(b.vault(t, name).ID)]; !strings.HasPrefix(problem, text) {
			t.Errorf("of %s is reported %q", name, problem)
		}
	}
	if len(found) != 3 {
		t.Errorf("reported is %v", found)
	}
}

// TestAboutChecks: a check without a container keeps nothing of what else was sent.
func TestAboutChecks(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	b.do(t, "hsm", PreRestore, StartParams{SAS: backuptest.SAS, Folder: b.storage.Address() + "/mhsm-x" + backuptest.SAS})
	b.do(t, "hsm", PreRestore, StartParams{Container: b.storage.Address(), SAS: backuptest.SAS})
	b.wantNoSAS(t)
	for name, p := range map[string]StartParams{
		"folder of another container": {Container: b.storage.Address(), SAS: backuptest.SAS, Folder: "https://storage.example/c/mhsm-x" + backuptest.SAS},
		"token in the address":        {Container: b.storage.Address() + backuptest.SAS, SAS: backuptest.SAS, Folder: "mhsm-x"},
		"long token":                  {Container: b.storage.Address(), SAS: SAS(strings.Repeat("x", maxSAS+1)), Folder: "mhsm-x"},
		"long address":                {Container: b.storage.Address() + strings.Repeat("x", maxAddress), SAS: backuptest.SAS, Folder: "mhsm-x"},
		"long folder":                 {Container: b.storage.Address(), SAS: backuptest.SAS, Folder: strings.Repeat("x", maxAddress+1)},
	} {
		_, err := b.Start(t.Context(), admin, "hsm", PreRestore, p)
		if !isKind(err, keyvault.BadParameter) || backuptest.Shows(err.Error()) {
			t.Errorf("%s: %v", name, err)
		}
	}
	b.wantNoSAS(t)
}

// TestUnreliableStore: a store whose writes fail, or fail to say that they did not, delays jobs or makes them fail. It makes nothing
// out of order.
func TestUnreliableStore(t *testing.T) {
	t.Parallel()
	for seed := range 4 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			b := newJobBench(t)
			b.fill(t, "hsm")
			want := b.content(t, "hsm")
			p := b.params(b.backedUp(t, "hsm"))
			b.saveEvery = 1
			succeeded := 0
			for n := range 6 {
				b.key(t, "twin", fmt.Sprintf("own-%d-%d", seed, n))
				before := b.content(t, "twin")
				b.backedUp(t, "twin")
				j := b.start(t, "twin", FullRestore, p)
				b.faulty.SetPlan(storetest.Plan{Fail: .05, Unknown: .05, Lost: .05, Twice: .2})
				for range 10 * maxAttempts {
					_ = drain(t, b.Service)
					b.pass(maxAttempts * retryAfter)
				}
				b.faulty.SetPlan(storetest.Plan{})
				b.pass(-10 * maxAttempts * maxAttempts * retryAfter)
				switch j = b.ended(t, "twin", j); {
				case j.State == Succeeded:
					succeeded++
					before = want
				case j.Code != "InternalError":
					t.Errorf("the job is %+v", j)
				}
				b.wantContent(t, "twin", before)
				b.wantNoSAS(t)
			}
			if succeeded == 0 {
				t.Error("no restore succeeded")
			}
			b.collect(t)
			b.wantSound(t)
		})
	}
}

// An ownIdentity is the server's own at the storage.
type ownIdentity struct{}

func (ownIdentity) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "own", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// TestOwnIdentity: the server uses its own identity when it has one, is asked to and has no SAS token.
func TestOwnIdentity(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	p := StartParams{Container: b.storage.Address(), Identity: true}
	_, err := b.Start(t.Context(), admin, "hsm", FullBackup, p)
	wantKind(t, err, keyvault.BadParameter, "no managed identity")
	b.credential = ownIdentity{}
	_, err = b.Start(t.Context(), admin, "hsm", FullBackup, StartParams{Container: b.storage.Address()})
	wantKind(t, err, keyvault.BadParameter, "useManagedIdentity")
	own := 0
	b.storage.OnRequest(func(_ int, _ http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Authorization") == "Bearer own" && !r.URL.Query().Has("sig") {
			own++
			query := r.URL.Query()
			query.Set("sig", backuptest.Signature) // which the storage asks for
			r.URL.RawQuery = query.Encode()
		}
		return false
	})
	b.do(t, "hsm", FullBackup, p)
	used := own
	b.pass(time.Second)
	p.SAS = backuptest.SAS
	b.do(t, "hsm", FullBackup, p)
	if used == 0 || own != used {
		t.Errorf("the identity was used %d times, and %d times beside a SAS token", used, own-used)
	}
}

// TestCollected: a restore that nobody went on with for so long that what it had written was collected fails, and leaves nothing.
func TestCollected(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 4, 8, 12} {
		b := newJobBench(t)
		b.fill(t, "hsm")
		p := b.params(b.backedUp(t, "hsm"))
		b.backedUp(t, "twin")
		before := b.lasting(t)
		b.pass(-2 * stageTime)
		j := b.start(t, "twin", FullRestore, p)
		_ = drain(t, b.serveJobs(t, &mortal{DB: b.faulty, left: n}))
		b.collect(t)
		b.wantFailed(t, b.ended(t, "twin", j), backup.Conflict, "took too long")
		if diff := cmp.Diff(before, b.lasting(t)); diff != "" {
			t.Errorf("killed at write %d (-before +after):\n%s", n, diff)
		}
	}
}

// TestOverdue: storage that keeps a job waiting does not keep its place for ever.
func TestOverdue(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	j := b.start(t, "hsm", FullBackup, b.params(""))
	b.pass(maxJobTime + time.Second)
	must(t, drain(t, b.Service))
	b.wantFailed(t, b.job(t, "hsm", j), backup.Timeout, "longer than a day")
	b.backedUp(t, "hsm")
}

// TestOldestFirst: nobody waits because of whoever comes after him.
func TestOldestFirst(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	var want, got []string
	for _, name := range []string{"twin", "alien", "hsm"} {
		want = append(want, b.start(t, name, PreBackup, StartParams{}).ID)
		b.pass(time.Second)
	}
	for range want {
		l, err := b.take(t.Context())
		must(t, err)
		got = append(got, l.job)
	}
	if !slices.Equal(got, want) {
		t.Errorf("jobs were taken as %v, want %v", got, want)
	}
}

// A panicking credential stands for a fault of ours that a job runs into.
type panicking struct{}

func (panicking) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	panic("a secret in a panic")
}

func TestPanic(t *testing.T) {
	t.Parallel()
	b := newJobBench(t)
	b.credential = panicking{}
	j := b.start(t, "hsm", FullBackup, StartParams{Container: b.storage.Address(), Identity: true})
	var faults error
	for range maxAttempts {
		faults = errors.Join(faults, drain(t, b.Service))
		b.pass(maxAttempts * retryAfter)
	}
	j = b.job(t, "hsm", j)
	if j.State != Failed || j.Code != "InternalError" {
		t.Errorf("the job is %+v", j)
	}
	if text := fmt.Sprint(faults); !strings.Contains(text, "a panic of type string") || strings.Contains(text, "a secret in a panic") {
		t.Errorf("told is: %s", text)
	}
}
