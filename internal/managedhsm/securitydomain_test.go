package managedhsm

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

// States in which an HSM can be.
var states = map[string]func(t *testing.T, b *bench){
	"new":       func(*testing.T, *bench) {},
	"recovery":  func(t *testing.T, b *bench) { b.giveTransferKey(t, "hsm") },
	"active":    func(t *testing.T, b *bench) { b.download(t, "hsm") },
	"uploaded":  func(t *testing.T, b *bench) { b.giveTransferKey(t, "hsm"); must(t, upload(t, b.Service, admin)) },
	"restoring": func(t *testing.T, b *bench) { b.download(t, "hsm"); b.restoring(t, "hsm") },
}

// ops are all operations, by name.
var ops = map[string]func(t testing.TB, s *Service, who *identity.Caller) error{
	"download": func(t testing.TB, s *Service, who *identity.Caller) error {
		_, err := s.Download(t.Context(), who, "hsm", owners(), 2)
		return err
	},
	"upload": upload,
	"transfer key": func(t testing.TB, s *Service, who *identity.Caller) error {
		_, err := s.TransferKey(t.Context(), who, "hsm", "hsm.example")
		return err
	},
	"download status": func(t testing.TB, s *Service, who *identity.Caller) error {
		_, err := s.Status(t.Context(), who, "hsm", DownloadStatus)
		return err
	},
	"upload status": func(t testing.TB, s *Service, who *identity.Caller) error {
		_, err := s.Status(t.Context(), who, "hsm", UploadStatus)
		return err
	},
}

// TestStateMachine does everything in every state, as each kind of caller.
func TestStateMachine(t *testing.T) {
	t.Parallel()
	type outcome struct {
		kind keyvault.Kind // 0: it succeeds
		text string
		next string // the state afterwards, if it is another
	}
	inUse := outcome{keyvault.Conflict, "is active: it has its security domain", ""}
	taken := outcome{keyvault.HSMRestoring, "is being restored by the job job-1", ""}
	expected := map[string]map[string]outcome{
		"new": {
			"download":     {next: "active"},
			"upload":       {keyvault.BadParameter, "has not given out a transfer key", ""},
			"transfer key": {next: "recovery"},
		},
		"recovery":  {"download": {next: "active"}, "upload": {next: "uploaded"}, "transfer key": {}},
		"active":    {"download": {}, "upload": inUse, "transfer key": inUse},
		"uploaded":  {"download": {}, "upload": inUse, "transfer key": inUse},
		"restoring": {"download": taken, "upload": taken, "transfer key": taken},
	}
	for state, enter := range states {
		for op, do := range ops {
			t.Run(state+"/"+op, func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				enter(t, b)
				before := b.dump(t)
				for name, who := range map[string]*identity.Caller{"stranger": stranger, "foreign": foreign, "nobody": {}} {
					wantKind(t, do(t, b.Service, who), keyvault.AccessDeniedInHSM, "Not authorized to access Microsoft.KeyVault/managedHsm/securitydomain/")
					if !maps.Equal(before, b.dump(t)) {
						t.Errorf("%s changed something", name)
					}
				}
				want := expected[state][op]
				wantKind(t, do(t, b.Service, admin), want.kind, want.text)
				if want.next == "" {
					want.next = state
					if !maps.Equal(before, b.dump(t)) {
						t.Error("something has changed")
					}
				}
				if got := b.state(t); got != want.next {
					t.Errorf("the HSM is %s, want %s", got, want.next)
				}
				wantKind(t, do(t, b.Service, member), expected[want.next][op].kind, expected[want.next][op].text)
			})
		}
	}
}

// state is the name of the HSM's state, by what the service says of it and by what is stored.
func (b *bench) state(t *testing.T) string {
	t.Helper()
	v, all := b.vault(t, "hsm"), b.dump(t)
	_, recovering := all["transfer/"+v.ID]
	_, domain := all["domain/"+v.ID]
	done, err := b.Status(t.Context(), admin, "hsm", DownloadStatus)
	must(t, err)
	other, err := b.Status(t.Context(), admin, "hsm", UploadStatus)
	must(t, err)
	if active := v.Activation == resource.Active; active != domain || active != (done == Done) || done != other || active && recovering {
		t.Fatalf("active: %t, domain: %t, status: %v and %v, transfer key: %t", active, domain, done, other, recovering)
	}
	switch {
	case v.Restoring != "":
		return "restoring"
	case domain && b.domain(t).ID() == kitOf().domain.ID():
		return "uploaded"
	case domain:
		return "active"
	case recovering:
		return "recovery"
	}
	return "new"
}

// TestRights: once the HSM is active its roles decide, and the list of initial administrators counts no longer.
func TestRights(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.download(t, "hsm")
	all := b.dump(t)
	must(t, b.db.Update(t.Context(), func(tx store.Tx) (err error) {
		for key := range all {
			if strings.HasPrefix(key, "local/") { // its roles and assignments
				err = errors.Join(err, tx.Delete(key))
			}
		}
		return err
	}))
	for name, do := range ops {
		for _, who := range []*identity.Caller{admin, member} {
			if err := do(t, b.Service, who); !isKind(err, keyvault.AccessDeniedInHSM) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestActions: each operation asks for a data action of its own.
func TestActions(t *testing.T) {
	t.Parallel()
	b, ctx, owner := newBench(t), t.Context(), resource.Actor{Caller: admin}
	b.download(t, "hsm")
	for allowed, op := range map[string]keyvault.Operation{
		"download": Download, "upload": Upload, "transfer key": GetTransferKey, "download status": DownloadStatus, "upload status": UploadStatus,
	} {
		role, assignment := uuid.NewString(), uuid.NewString()
		_, err := b.resources.PutLocalDefinition(ctx, owner, "hsm", role, authz.RoleDefinition{
			Name: allowed, AssignableScopes: []string{"/"}, Permissions: []authz.PermissionSet{{DataActions: []string{op.Permission.HSMAction}}},
		})
		must(t, err)
		_, err = b.resources.CreateLocalAssignment(ctx, owner, "hsm", "/", assignment, strangerID, role)
		must(t, err)
		for name, do := range ops {
			err := do(t, b.Service, stranger)
			if denied := isKind(err, keyvault.AccessDeniedInHSM); denied == (name == allowed) {
				t.Errorf("%s with the right to %s: %v", name, allowed, err)
			}
		}
		_, err = b.resources.DeleteLocalAssignment(ctx, owner, "hsm", "/", assignment)
		must(t, err)
	}
}

// TestUnknown: an HSM that is not there, or is deleted, is told to everybody alike.
func TestUnknown(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	for name, do := range ops {
		if _, err := b.resources.DeleteHSM(t.Context(), operator, "g", "hsm"); err != nil {
			t.Fatal(err)
		}
		for _, who := range []*identity.Caller{admin, stranger} {
			if err := do(t, b.Service, who); !isKind(err, keyvault.VaultNotFound) {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

// TestOvertaken lets each operation be overtaken by another one between its first look and its transaction.
func TestOvertaken(t *testing.T) {
	t.Parallel()
	conflict := func(kind keyvault.Kind) func(*testing.T, error) {
		return func(t *testing.T, err error) { t.Helper(); wantKind(t, err, kind, "") }
	}
	fine := conflict(0)
	for _, test := range []struct {
		first, second string // the second comes to its transaction before the first
		wants         func(t *testing.T, err error)
		state         string
	}{
		{"download", "download", fine, "active"},
		{"download", "upload", fine, "uploaded"},
		{"download", "transfer key", fine, "active"},
		{"upload", "download", conflict(keyvault.Conflict), "active"},
		{"upload", "upload", conflict(keyvault.Conflict), "uploaded"},
		{"upload", "transfer key", fine, "uploaded"},
	} {
		t.Run(test.first+" by "+test.second, func(t *testing.T) {
			t.Parallel()
			b := newBench(t)
			b.giveTransferKey(t, "hsm")
			s := b.hooked(t, func() { must(t, ops[test.second](t, b.Service, admin)) })
			test.wants(t, ops[test.first](t, s, admin))
			if got := b.state(t); got != test.state {
				t.Errorf("the HSM is %s, want %s", got, test.state)
			}
		})
	}
}

// TestOvertakenDownload: both get a file with the domain that the HSM has.
func TestOvertakenDownload(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	var other []byte
	s := b.hooked(t, func() { other = b.download(t, "hsm") })
	file, err := s.Download(t.Context(), admin, "hsm", owners(), 2)
	must(t, err)
	for _, f := range [][]byte{file, other, b.download(t, "hsm")} {
		if got, want := opened(t, f).ID(), b.domain(t).ID(); got != want {
			t.Errorf("the file has the domain %s, and the HSM %s", got, want)
		}
	}
}

// TestReplaced: an upload finds another HSM of the same name, which knows nothing of the transfer key.
func TestReplaced(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.giveTransferKey(t, "hsm")
	s := b.hooked(t, func() { b.recreate(t, "hsm") })
	wantKind(t, upload(t, s, admin), keyvault.BadParameter, "has not given out a transfer key")
	if got := b.state(t); got != "new" {
		t.Errorf("the HSM is %s", got)
	}
}

// TestPurged: nothing of an HSM's transfer key outlives it.
func TestPurged(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.giveTransferKey(t, "hsm")
	b.recreate(t, "hsm")
	for key := range b.dump(t) {
		if strings.HasPrefix(key, "transfer/") {
			t.Errorf("%s is left", key)
		}
	}
}

// TestRace runs everything at once on two servers: one operation makes the HSM active, and all files have its domain.
func TestRace(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.giveTransferKey(t, "hsm")
	servers := []*Service{b.Service, b.serve(t, b.faulty, b.audit)}
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex // guards what follows
		files    [][]byte
		accepted int
	)
	for i := range 8 {
		wg.Go(func() {
			file, err := servers[i%2].Download(t.Context(), admin, "hsm", owners(), 2)
			wantKind(t, err, 0, "")
			mu.Lock()
			defer mu.Unlock()
			files = append(files, file)
		})
		wg.Go(func() {
			err := upload(t, servers[i%2], admin)
			if err != nil {
				wantKind(t, err, keyvault.Conflict, "")
				return
			}
			mu.Lock()
			defer mu.Unlock()
			accepted++
		})
	}
	wg.Wait()
	state := b.state(t)
	if accepted > 1 || (accepted == 1) != (state == "uploaded") {
		t.Errorf("%d uploads were accepted, and the HSM is %s", accepted, state)
	}
	for _, file := range files {
		if got := opened(t, file).ID(); got != b.domain(t).ID() {
			t.Errorf("a file has the domain %s", got)
		}
	}
}

// TestFaults fails the transaction of each operation in each way: all of it happens or nothing, and who tries again gets there.
func TestFaults(t *testing.T) {
	t.Parallel()
	for op, next := range map[string]string{"download": "active", "upload": "uploaded", "transfer key": "recovery"} {
		for _, fault := range []storetest.Fault{storetest.Fail, storetest.Lost, storetest.Unknown, storetest.Twice} {
			t.Run(fmt.Sprint(op, "/", fault), func(t *testing.T) {
				t.Parallel()
				b := newBench(t)
				before := "new"
				if op == "upload" {
					b.giveTransferKey(t, "hsm")
					before = "recovery"
				}
				b.faulty.Schedule(fault)
				err := ops[op](t, b.Service, admin)
				if errors.Is(err, storetest.ErrInjected) == (fault == storetest.Twice) {
					t.Errorf("got %v", err)
				}
				want := before
				if fault == storetest.Unknown || fault == storetest.Twice {
					want = next
				}
				if got := b.state(t); got != want {
					t.Errorf("the HSM is %s, want %s", got, want)
				}
				err = ops[op](t, b.Service, admin)
				if op == "upload" && want == next {
					wantKind(t, err, keyvault.Conflict, "") // as it says: the domain is there
				} else {
					wantKind(t, err, 0, "")
				}
				if got := b.state(t); got != next {
					t.Errorf("at last the HSM is %s", got)
				}
			})
		}
	}
}

// TestLostAnswer: whoever did not get the file of the download that made the HSM active gets the same domain again.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.faulty.Schedule(storetest.Unknown)
	if _, err := b.Download(t.Context(), admin, "hsm", owners(), 2); !errors.Is(err, store.ErrUnknown) {
		t.Fatal(err)
	}
	first := b.domain(t).ID()
	if got := opened(t, b.download(t, "hsm")).ID(); got != first {
		t.Errorf("the domain is %s, and was %s", got, first)
	}
}

// TestNoRecordNoEffect: without an audit log nothing happens.
func TestNoRecordNoEffect(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.giveTransferKey(t, "hsm")
	b.create(t, "other")
	must(t, b.audit.Close())
	before := b.dump(t)
	for _, op := range []string{"download", "upload"} {
		if err := ops[op](t, b.Service, admin); err == nil {
			t.Errorf("%s succeeded", op)
		}
	}
	if _, err := b.TransferKey(t.Context(), admin, "other", "hsm.example"); err == nil {
		t.Error("a transfer key was made")
	}
	if !maps.Equal(before, b.dump(t)) {
		t.Error("something has changed")
	}
}

// TestAudit: the log says for whom a file was made, and which domain was brought.
func TestAudit(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	b.download(t, "hsm")
	lines := b.logged(t, Download)
	if len(lines) != 1 || !strings.Contains(lines[0], "quorum: 2 of 3") || !strings.Contains(lines[0], `"AuditIntent"`) {
		t.Errorf("%q", lines)
	}
	for _, c := range owners() {
		if !strings.Contains(lines[0], c.Thumbprint()) {
			t.Errorf("%s is not in %s", c.Thumbprint(), lines[0])
		}
	}
	b.create(t, "other")
	b.giveTransferKey(t, "other")
	id, err := b.Upload(t.Context(), admin, "other", kitOf().blob)
	must(t, err)
	if id != kitOf().domain.ID() {
		t.Errorf("the domain %s was brought", id)
	}
	lines = b.logged(t, Upload)
	if len(lines) != 1 || !strings.Contains(lines[0], "security domain: "+kitOf().domain.ID()) {
		t.Errorf("%q", lines)
	}
}
