package resource

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
	"github.com/strongroom/strongroom/internal/store/storetest"
)

// active returns a bench with the managed HSM "pool", which is in use; ownerID administers it.
func active(t testing.TB) (*bench, *Vault) {
	b := newBench(t)
	b.pool(t, "pool")
	return b, b.activate(t, "pool")
}

func (b *bench) give(t testing.TB, who, role, scope string) *LocalAssignment {
	t.Helper()
	a, err := b.CreateLocalAssignment(t.Context(), owner, "pool", scope, guid(), who, role)
	must(t, err)
	return a
}

func customRole(name string, actions ...string) authz.RoleDefinition {
	var set authz.PermissionSet
	for _, a := range actions {
		set.DataActions = append(set.DataActions, hsmAction+a)
	}
	return authz.RoleDefinition{Name: name, Permissions: []authz.PermissionSet{set}}
}

const (
	writesRoles = "roleAssignments/write/action"
	signs       = "keys/sign/action"
	someGroup   = "60000000-0000-4000-8000-000000000001"
)

// TestLocalAdministration asks for everything as each built-in role at each scope.
func TestLocalAdministration(t *testing.T) {
	t.Parallel()
	b, _ := active(t)
	ctx := t.Context()
	mine := b.give(t, ownerID, authz.RoleHSMCryptoUser, "/keys/mine")
	role, err := b.PutLocalDefinition(ctx, owner, "pool", guid(), customRole("Signer", signs))
	must(t, err)
	ops := map[string]func(a Actor, scope string) error{
		"read": func(a Actor, scope string) error {
			_, err1 := b.ListLocalDefinitions(ctx, a, "pool", scope)
			_, err2 := b.GetLocalDefinition(ctx, a, "pool", scope, role.ID)
			_, err3 := b.ListLocalAssignments(ctx, a, "pool", scope, LocalAssignmentFilter{})
			return allOrNone(t, err1, err2, err3)
		},
		"assign": func(a Actor, scope string) error {
			made, err := b.CreateLocalAssignment(ctx, a, "pool", scope, guid(), thirdID, role.ID)
			if err != nil {
				_, err2 := b.DeleteLocalAssignment(ctx, a, "pool", scope, mine.ID)
				return allOrNone(t, err, err2)
			}
			_, err = b.DeleteLocalAssignment(ctx, a, "pool", scope, made.ID)
			return err
		},
		"define": func(a Actor, scope string) error {
			made, err := b.PutLocalDefinition(ctx, a, "pool", guid(), customRole("Made", signs))
			if err != nil {
				_, err2 := b.DeleteLocalDefinition(ctx, a, "pool", role.ID)
				return allOrNone(t, err, err2)
			}
			_, err = b.DeleteLocalDefinition(ctx, a, "pool", made.ID)
			return err
		},
		"settings": func(a Actor, _ string) error {
			_, err1 := b.ListSettings(ctx, a, "pool")
			_, err2 := b.GetSetting(ctx, a, "pool", AllowKeyManagementThroughARM)
			_, err3 := b.UpdateSetting(ctx, a, "pool", AllowKeyManagementThroughARM, "true")
			return allOrNone(t, err1, err2, err3)
		},
	}
	can := map[string]string{
		authz.RoleHSMAdministrator: "read assign define settings", authz.RoleHSMCryptoOfficer: "read assign define",
		authz.RoleHSMPolicyAdministrator: "read assign define", authz.RoleHSMCryptoUser: "read", authz.RoleHSMCryptoAuditor: "read",
	}
	order := []string{"/", "/keys", "/keys/one"}
	for _, d := range authz.LocalRoles() {
		for i, at := range order {
			given := b.give(t, otherID, d.ID, at)
			for j, scope := range order {
				for what, do := range ops {
					want := j >= i && slices.Contains(strings.Fields(can[d.ID]), what)
					if what == "define" || what == "settings" { // these are the HSM's as a whole
						want = want && i == 0
					}
					err := do(nobody, scope)
					if want && err != nil || !want && !IsKind(err, LocalAccessDenied) {
						t.Errorf("%s at %s: %s at %s: %v, want allowed %v", d.Name, at, what, scope, err, want)
					}
				}
			}
			_, err := b.DeleteLocalAssignment(ctx, owner, "pool", "/", given.ID)
			must(t, err)
		}
	}
	b.consistent(t)
}

// allOrNone returns one of the errors, which must be all nil or none.
func allOrNone(t testing.TB, errs ...error) error {
	t.Helper()
	failed := slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	if len(failed) != 0 && len(failed) != len(errs) {
		t.Errorf("some are allowed and some are not: %v", errs)
	}
	return errors.Join(failed...)
}

func TestLocalAssignments(t *testing.T) {
	t.Parallel()
	b, v := active(t)
	ctx := t.Context()
	made := b.give(t, otherID, authz.RoleHSMCryptoUser, "/KEYS/One")
	if made.Scope != "/keys/One" || made.Created == 0 || made.CreatedBy == "" {
		t.Errorf("made %+v", made)
	}
	create := func(scope, id, who, role string) error {
		_, err := b.CreateLocalAssignment(ctx, owner, "pool", scope, id, who, role)
		return err
	}
	for name, tt := range map[string]struct {
		err  error
		want Kind
	}{
		"again":            {create("/keys/one", made.ID, otherID, authz.RoleHSMCryptoUser), RoleAssignmentExists},
		"another name":     {create("/keys/ONE", guid(), strings.ToUpper(otherID), authz.RoleHSMCryptoUser), RoleAssignmentExists},
		"another content":  {create("/keys", made.ID, otherID, authz.RoleHSMCryptoUser), ConflictError},
		"no GUID":          {create("/", "x", otherID, authz.RoleHSMCryptoUser), BadRequest},
		"braces":           {create("/", "{"+guid()+"}", otherID, authz.RoleHSMCryptoUser), BadRequest},
		"no principal":     {create("/", guid(), "", authz.RoleHSMCryptoUser), InvalidProperty},
		"nobody":           {create("/", guid(), "00000000-0000-0000-0000-000000000000", authz.RoleHSMCryptoUser), InvalidProperty},
		"no role":          {create("/", guid(), otherID, ""), InvalidProperty},
		"unknown role":     {create("/", guid(), otherID, guid()), RoleDefinitionDoesNotExist},
		"a role of vaults": {create("/", guid(), otherID, authz.RoleOwner), RoleDefinitionDoesNotExist},
		"scope of secrets": {create("/secrets", guid(), otherID, authz.RoleHSMCryptoUser), InvalidProperty},
		"scope of a key's": {create("/keys/one/x", guid(), otherID, authz.RoleHSMCryptoUser), InvalidProperty},
		"no scope":         {create("", guid(), otherID, authz.RoleHSMCryptoUser), InvalidProperty},
		"ARM scope":        {create(v.Scope().String(), guid(), otherID, authz.RoleHSMCryptoUser), InvalidProperty},
	} {
		if !IsKind(tt.err, tt.want) {
			t.Errorf("%s: %v, want kind %d", name, tt.err, tt.want)
		}
	}
	_, err := b.CreateLocalAssignment(ctx, owner, "nopool", "/", guid(), otherID, authz.RoleHSMCryptoUser)
	wantKind(t, err, HSMNotFound)
	b.pool(t, "fresh")
	_, err = b.CreateLocalAssignment(ctx, owner, "fresh", "/", guid(), otherID, authz.RoleHSMCryptoUser)
	wantKind(t, err, HSMNotActivated)
	_, err = b.GetLocalAssignment(ctx, owner, "pool", "/keys", strings.ToUpper(made.ID)) // found by its name
	must(t, err)
	_, err = b.GetLocalAssignment(ctx, owner, "pool", "/", guid())
	wantKind(t, err, RoleAssignmentNotFound)

	for name, tt := range map[string]struct {
		scope  string
		filter LocalAssignmentFilter
		want   int
	}{
		"all":              {"/", LocalAssignmentFilter{}, 2},
		"all, asked below": {"/keys/two", LocalAssignmentFilter{}, 2},
		"at the whole":     {"/", LocalAssignmentFilter{AtScope: true}, 1},
		"at all keys":      {"/keys", LocalAssignmentFilter{AtScope: true}, 1},
		"at the key":       {"/keys/one", LocalAssignmentFilter{AtScope: true}, 2},
		"of one":           {"/", LocalAssignmentFilter{PrincipalID: strings.ToUpper(otherID)}, 1},
		"of none":          {"/", LocalAssignmentFilter{PrincipalID: thirdID}, 0},
	} {
		list, err := b.ListLocalAssignments(ctx, owner, "pool", tt.scope, tt.filter)
		if err != nil || len(list) != tt.want {
			t.Errorf("%s: %d, %v, want %d", name, len(list), err, tt.want)
		}
	}
	// Who reads at one key sees what holds at that key only, and learns of nothing else.
	list, err := b.ListLocalAssignments(ctx, nobody, "pool", "/keys/one", LocalAssignmentFilter{})
	if err != nil || len(list) != 1 || list[0].ID != made.ID {
		t.Errorf("a user of one key sees %d assignments, %v", len(list), err)
	}
	all, err := b.ListLocalAssignments(ctx, owner, "pool", "/", LocalAssignmentFilter{PrincipalID: ownerID})
	must(t, err)
	_, err = b.GetLocalAssignment(ctx, nobody, "pool", "/keys/one", all[0].ID)
	wantKind(t, err, RoleAssignmentNotFound)
	_, err = b.ListLocalAssignments(ctx, third, "pool", "/", LocalAssignmentFilter{})
	wantKind(t, err, LocalAccessDenied)

	detail := "principal " + otherID + " role " + authz.RoleHSMCryptoUser + " scope /keys/One"
	gone, err := b.DeleteLocalAssignment(ctx, owner, "pool", "/", made.ID)
	must(t, err)
	if gone.ID != made.ID {
		t.Errorf("deleted %+v", gone)
	}
	lines := b.lines(t, "RoleAssignmentDelete")
	if len(lines) != 1 || lines[0].Category != "AuditIntent" || lines[0].ResourceID != v.Resource() || lines[0].Properties.ID != made.ID ||
		lines[0].Properties.Detail != detail {
		t.Errorf("recorded: %+v", lines)
	}
	_, err = b.DeleteLocalAssignment(ctx, owner, "pool", "/", made.ID)
	wantKind(t, err, RoleAssignmentNotFound)
	b.consistent(t)
}

func TestLocalDefinitions(t *testing.T) {
	t.Parallel()
	b, _ := active(t)
	ctx := t.Context()
	put := func(id string, d authz.RoleDefinition) error {
		_, err := b.PutLocalDefinition(ctx, owner, "pool", id, d)
		return err
	}
	signer, err := b.PutLocalDefinition(ctx, owner, "pool", strings.ToUpper(guid()), customRole("Signer", signs))
	must(t, err)
	if signer.ID != strings.ToLower(signer.ID) || len(signer.AssignableScopes) != 1 || signer.AssignableScopes[0] != "/" {
		t.Errorf("made %+v", signer)
	}
	scoped := customRole("Scoped", signs)
	scoped.AssignableScopes = []string{"/Keys/one"}
	scopedID := guid()
	must(t, put(scopedID, scoped))
	if scoped.AssignableScopes[0] != "/Keys/one" {
		t.Error("the caller's role was changed")
	}
	bad := customRole("Bad", signs)
	bad.AssignableScopes = []string{"/secrets"}
	for name, tt := range map[string]struct {
		err  error
		want Kind
	}{
		"no GUID":        {put("x", customRole("X", signs)), BadRequest},
		"built-in id":    {put(authz.RoleHSMCryptoUser, customRole("X", signs)), BadRequest},
		"built-in name":  {put(guid(), customRole("managed hsm crypto user", signs)), BadRequest},
		"same name":      {put(guid(), customRole("SIGNER", signs)), RoleDefinitionWithSameNameExists},
		"unknown action": {put(guid(), customRole("X", "keys/paint/action")), InvalidProperty},
		"scope":          {put(guid(), bad), InvalidProperty},
		"assign the role elsewhere": {func() error {
			_, err := b.CreateLocalAssignment(ctx, owner, "pool", "/keys", guid(), otherID, scopedID)
			return err
		}(), InvalidProperty},
		"delete built-in": {func() error {
			_, err := b.DeleteLocalDefinition(ctx, owner, "pool", authz.RoleHSMCryptoUser)
			return err
		}(), BuiltInRole},
		"delete none": {func() error { _, err := b.DeleteLocalDefinition(ctx, owner, "pool", guid()); return err }(), RoleDefinitionDoesNotExist},
		"get none":    {func() error { _, err := b.GetLocalDefinition(ctx, owner, "pool", "/", guid()); return err }(), RoleDefinitionDoesNotExist},
	} {
		if !IsKind(tt.err, tt.want) {
			t.Errorf("%s: %v, want kind %d", name, tt.err, tt.want)
		}
	}

	given := b.give(t, otherID, scopedID, "/keys/ONE")
	if ok, err := b.mayLocally(ctx, "pool", nobody, signs, "one"); err != nil || !ok {
		t.Errorf("the custom role does not let him sign: %v", err)
	}
	moved := scoped
	moved.AssignableScopes = []string{"/keys/two"}
	wantKind(t, put(scopedID, moved), RoleDefinitionHasAssignments)
	_, err = b.DeleteLocalDefinition(ctx, owner, "pool", scopedID)
	wantKind(t, err, RoleDefinitionHasAssignments)
	changed := customRole("Scoped", "keys/verify/action")
	must(t, put(scopedID, changed))
	if ok, err := b.mayLocally(ctx, "pool", nobody, signs, "one"); err != nil || ok {
		t.Errorf("the role lets him sign still: %v", err)
	}
	_, err = b.DeleteLocalAssignment(ctx, owner, "pool", "/", given.ID)
	must(t, err)
	_, err = b.DeleteLocalDefinition(ctx, owner, "pool", scopedID)
	must(t, err)

	// Who may write roles, but not assign them, could otherwise write into his own what he likes.
	authorID := guid()
	must(t, put(authorID, customRole("Author", "roleDefinitions/write/action")))
	b.give(t, thirdID, authorID, "/")
	_, err = b.PutLocalDefinition(ctx, third, "pool", authorID, customRole("Author", "roleDefinitions/write/action", signs))
	wantKind(t, err, LocalAccessDenied)

	for i := len(authz.LocalRoles()) + 2; i < len(authz.LocalRoles())+maxLocalDefinitions; i++ {
		must(t, put(guid(), customRole(fmt.Sprint("Role ", i), signs)))
	}
	wantKind(t, put(guid(), customRole("One too many", signs)), LimitExceeded)
	must(t, put(signer.ID, customRole("Signer", signs, "keys/verify/action"))) // that is none more
	list, err := b.ListLocalDefinitions(ctx, owner, "pool", "/keys")
	if err != nil || len(list) != len(authz.LocalRoles())+maxLocalDefinitions {
		t.Errorf("%d roles, %v", len(list), err)
	}
	b.consistent(t)
}

// TestLocalLastWriter tries in every way to leave nobody who may assign roles.
func TestLocalLastWriter(t *testing.T) {
	t.Parallel()
	b, _ := active(t)
	ctx := t.Context()
	first, err := b.ListLocalAssignments(ctx, owner, "pool", "/", LocalAssignmentFilter{})
	must(t, err)
	remove := func(a *LocalAssignment) error {
		_, err := b.DeleteLocalAssignment(ctx, owner, "pool", "/", a.ID)
		return err
	}
	b.give(t, otherID, authz.RoleHSMCryptoUser, "/")              // assigns nothing
	b.give(t, otherID, authz.RoleHSMPolicyAdministrator, "/keys") // but not at "/"
	wantKind(t, remove(first[0]), ConflictError)
	writer := customRole("Writer", writesRoles, "roleAssignments/delete/action", "roleAssignments/read/action", "roleDefinitions/write/action")
	id := guid()
	_, err = b.PutLocalDefinition(ctx, owner, "pool", id, writer)
	must(t, err)
	second := b.give(t, ownerID, id, "/")
	must(t, remove(first[0])) // there is another one
	wantKind(t, remove(second), ConflictError)
	_, err = b.PutLocalDefinition(ctx, owner, "pool", id, customRole("Writer", "roleDefinitions/write/action"))
	wantKind(t, err, ConflictError)
	writer.Permissions[0].NotDataActions = []string{hsmAction + writesRoles}
	_, err = b.PutLocalDefinition(ctx, owner, "pool", id, writer)
	wantKind(t, err, ConflictError)
	group := b.give(t, someGroup, authz.RoleHSMAdministrator, "/")
	must(t, remove(second))
	_, err = b.DeleteLocalAssignment(ctx, person(thirdID, someGroup), "pool", "/", group.ID)
	wantKind(t, err, ConflictError)
	b.consistent(t)
}

func TestLocalSettings(t *testing.T) {
	t.Parallel()
	b, _ := active(t)
	ctx := t.Context()
	get := func() bool {
		setting, err := b.GetSetting(ctx, owner, "pool", strings.ToLower(AllowKeyManagementThroughARM))
		must(t, err)
		list, err := b.ListSettings(ctx, owner, "pool")
		if err != nil || len(list) != 1 || list[0] != setting {
			t.Errorf("settings %v, %v", list, err)
		}
		return setting.Value
	}
	if get() {
		t.Error("it is on at the beginning")
	}
	for _, value := range []string{"true", "False", "TRUE"} {
		_, err := b.UpdateSetting(ctx, owner, "pool", AllowKeyManagementThroughARM, value)
		must(t, err)
		if get() != strings.EqualFold(value, "true") {
			t.Errorf("it is not %s", value)
		}
	}
	_, err := b.UpdateSetting(ctx, owner, "pool", AllowKeyManagementThroughARM, "yes")
	wantKind(t, err, InvalidProperty)
	_, err = b.UpdateSetting(ctx, owner, "pool", "Other", "true")
	wantKind(t, err, SettingNotFound)
	_, err = b.GetSetting(ctx, owner, "pool", "Other")
	wantKind(t, err, SettingNotFound)
	b.consistent(t)
}

// TestLocalCreatedAtOnce lets many make the same assignment, and roles of one name, on two servers at a time.
func TestLocalCreatedAtOnce(t *testing.T) {
	t.Parallel()
	b, _ := active(t)
	servers := []*Service{b.Service, b.serve(t)}
	id := guid()
	for what, do := range map[string]func(*Service) error{
		"same name": func(s *Service) error {
			_, err := s.CreateLocalAssignment(t.Context(), owner, "pool", "/", id, otherID, authz.RoleHSMBackup)
			return err
		},
		"other names": func(s *Service) error {
			_, err := s.CreateLocalAssignment(t.Context(), owner, "pool", "/", guid(), otherID, authz.RoleHSMRestore)
			return err
		},
		"roles": func(s *Service) error {
			_, err := s.PutLocalDefinition(t.Context(), owner, "pool", guid(), customRole("Same", signs))
			return err
		},
	} {
		var wg sync.WaitGroup
		errs := make([]error, 8)
		for i := range errs {
			wg.Go(func() { errs[i] = do(servers[i%2]) })
		}
		wg.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
			} else if !IsKind(err, RoleAssignmentExists) && !IsKind(err, RoleDefinitionWithSameNameExists) {
				t.Errorf("%s: %v", what, err)
			}
		}
		if made != 1 {
			t.Errorf("%s: %d made", what, made)
		}
	}
	// Both see at once what either does.
	for i, s := range servers {
		a, err := s.CreateLocalAssignment(t.Context(), owner, "pool", "/keys", guid(), thirdID, authz.RoleHSMCryptoUser)
		must(t, err)
		for _, other := range servers {
			if ok, err := other.mayLocally(t.Context(), "pool", third, signs, "k"); !ok || err != nil {
				t.Errorf("server %d: not seen by the other: %v", i, err)
			}
		}
		_, err = servers[1-i].DeleteLocalAssignment(t.Context(), owner, "pool", "/", a.ID)
		must(t, err)
		if ok, err := s.mayLocally(t.Context(), "pool", third, signs, "k"); ok || err != nil {
			t.Errorf("server %d: still seen after the other took it away: %v", i, err)
		}
	}
}

// TestLocalHistories plays random assignments of random roles on two servers over a store that fails, and compares every decision
// with a model that knows nothing but lists. Taking something away must never give anybody anything.
func TestLocalHistories(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed", seed), func(t *testing.T) {
			t.Parallel()
			b, _ := active(t)
			h := &localHistory{bench: b, t: t, rng: rand.New(rand.NewPCG(seed, 7)), servers: []*Service{b.Service, b.serve(t)}}
			h.model = append(h.model, localGrant{ownerID, authz.RoleHSMAdministrator, "/", ""})
			for range 120 {
				b.faulty.SetPlan(storetest.Plan{Fail: 0.1, Twice: 0.2})
				h.step()
				b.faulty.SetPlan(storetest.Plan{})
				h.compare()
			}
			if h.added < 10 || h.removed < 10 {
				t.Errorf("%d added, %d removed: the test tests nothing", h.added, h.removed)
			}
			b.consistent(t)
		})
	}
}

type localGrant struct{ who, role, scope, id string }

type localHistory struct {
	*bench
	t              *testing.T
	rng            *rand.Rand
	servers        []*Service
	model          []localGrant
	added, removed int
}

var historyActions = []string{signs, "keys/read/action", writesRoles, "backup/start/action", "keys/deletedKeys/delete", "settings/write/action"}

func (h *localHistory) step() {
	h.t.Helper()
	s := h.servers[h.rng.IntN(2)]
	ctx := h.t.Context()
	if h.rng.IntN(2) == 0 || len(h.model) < 2 {
		roles := authz.LocalRoles()
		g := localGrant{
			[]string{otherID, thirdID, someGroup}[h.rng.IntN(3)], roles[h.rng.IntN(len(roles))].ID,
			[]string{"/", "/keys", "/keys/a", "/keys/b"}[h.rng.IntN(4)], guid(),
		}
		there := slices.ContainsFunc(h.model, func(m localGrant) bool { return m.who == g.who && m.role == g.role && m.scope == g.scope })
		_, err := s.CreateLocalAssignment(ctx, owner, "pool", g.scope, g.id, g.who, g.role)
		switch {
		case errors.Is(err, storetest.ErrInjected):
		case there:
			wantKind(h.t, err, RoleAssignmentExists)
		default:
			must(h.t, err)
			h.model, h.added = append(h.model, g), h.added+1
		}
		return
	}
	i := 1 + h.rng.IntN(len(h.model)-1)
	_, err := s.DeleteLocalAssignment(ctx, owner, "pool", "/keys", h.model[i].id)
	if errors.Is(err, storetest.ErrInjected) {
		return
	}
	must(h.t, err)
	h.model, h.removed = slices.Delete(h.model, i, i+1), h.removed+1
}

func (h *localHistory) compare() {
	h.t.Helper()
	for _, who := range []Actor{owner, nobody, third, person(otherID, someGroup)} {
		for _, action := range historyActions {
			for _, key := range []string{"", "a", "B"} {
				if key != "" && !strings.HasPrefix(action, "keys/") {
					continue
				}
				want := slices.ContainsFunc(h.model, func(g localGrant) bool { return g.covers(who, action, key) })
				for i, s := range h.servers {
					got, err := s.mayLocally(h.t.Context(), "pool", who, action, key)
					must(h.t, err)
					if got != want {
						h.t.Fatalf("server %d: %s %v: %s %q: %v, the model says %v", i, who.Caller.ObjectID, who.Caller.Groups, action, key, got, want)
					}
				}
			}
		}
	}
}

func (g localGrant) covers(who Actor, action, key string) bool {
	if g.who != who.Caller.ObjectID && !slices.Contains(who.Caller.Groups, g.who) {
		return false
	}
	asked := "/"
	if strings.HasPrefix(action, "keys/") {
		asked = strings.TrimSuffix("/keys/"+strings.ToLower(key), "/")
	}
	i := slices.IndexFunc(authz.LocalRoles(), func(d authz.RoleDefinition) bool { return d.ID == g.role })
	return (g.scope == "/" || g.scope == asked || strings.HasPrefix(asked, g.scope+"/")) &&
		slices.Contains(authz.LocalRoles()[i].Permissions[0].DataActions, hsmAction+action)
}

// TestLocalRecordsThatMakeNoSense: they grant nothing and hinder nothing, and a check names them.
func TestLocalRecordsThatMakeNoSense(t *testing.T) {
	t.Parallel()
	b, v := active(t)
	must(t, b.db.Update(t.Context(), func(tx store.Tx) error {
		bad := localAssignmentKey(v.ContentID(), "b")
		return errors.Join(tx.Put(bad, []byte(`{"v":1,"id":"b","scope":"/attic","principalId":"`+otherID+`","roleId":"`+authz.RoleHSMCryptoUser+`","created":1}`)),
			newLocalGeneration(tx, v.ContentID()))
	}))
	for _, key := range []string{"", "k"} {
		if ok, err := b.mayLocally(t.Context(), "pool", nobody, signs, key); ok || err != nil {
			t.Errorf("an assignment nowhere lets him sign: %v", err)
		}
	}
	if ok, err := b.mayLocally(t.Context(), "pool", owner, writesRoles, ""); !ok || err != nil {
		t.Errorf("it hinders the administrator: %v", err)
	}
	found := ""
	must(t, b.CheckReferences(t.Context(), func(key, problem string) { found += key + " " + problem + "\n" }))
	if !strings.Contains(found, localAssignmentKey(v.ContentID(), "b")) {
		t.Errorf("the check found: %s", found)
	}
}

// TestLocalContent: what is in a managed HSM goes with its content, and its name starts anew after a purge.
func TestLocalContent(t *testing.T) {
	t.Parallel()
	b, v := active(t)
	b.give(t, otherID, authz.RoleHSMCryptoUser, "/")
	replaced := *v
	replaced.Content = "another"
	must(t, b.db.Update(t.Context(), replaced.store))
	for _, who := range []Actor{owner, nobody} {
		if ok, err := b.mayLocally(t.Context(), "pool", who, "roleAssignments/read/action", ""); ok || err != nil {
			t.Errorf("the old content's roles hold in the new one: %v", err)
		}
	}
	must(t, b.db.Update(t.Context(), v.store))
	if ok, err := b.mayLocally(t.Context(), "pool", nobody, signs, "k"); !ok || err != nil {
		t.Errorf("the old content's roles are gone: %v", err)
	}
	_, err := b.DeleteHSM(t.Context(), owner, "g", "pool")
	must(t, err)
	must(t, b.PurgeHSM(t.Context(), owner, "local", "pool"))
	b.pool(t, "pool")
	b.activate(t, "pool")
	if ok, err := b.mayLocally(t.Context(), "pool", nobody, signs, "k"); ok || err != nil {
		t.Errorf("a role in a purged managed HSM holds in its successor: %v", err)
	}
}

// BenchmarkLocalDecide decides in a managed HSM with as many assignments as it can have.
func BenchmarkLocalDecide(b *testing.B) {
	s, v := active(b)
	for i := range maxLocalAssignments / 50 {
		must(b, s.db.Update(b.Context(), func(tx store.Tx) error {
			for j := range 50 {
				a := LocalAssignment{ID: guid(), Scope: fmt.Sprintf("/keys/k%d-%d", i, j), PrincipalID: thirdID, RoleID: authz.RoleHSMCryptoUser}
				if err := record.Put(tx, localAssignmentKey(v.ContentID(), a.ID), a.record()); err != nil {
					return err
				}
			}
			return newLocalGeneration(tx, v.ContentID())
		}))
	}
	p := authz.Permission{HSMAction: hsmAction + signs}
	must(b, s.db.View(b.Context(), func(r store.Reader) error {
		b.ReportAllocs()
		for b.Loop() {
			hsm, err := s.LoadHSM(r, "pool")
			if err != nil {
				return err
			}
			if d, err := s.Decide(r, hsm, third.subject(), p, "keys", "k3-7"); err != nil || !d.Allowed {
				b.Fatal(d, err)
			}
		}
		return nil
	}))
}
