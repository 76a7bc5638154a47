package server

import (
	"bytes"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// TestAdministratorOwns: the administrator that init made owns the subscription, also in an installation of a release without roles
// and groups, but not once his role was taken away.
func TestAdministratorOwns(t *testing.T) { // not parallel: see reopens
	dir := filepath.Join(t.TempDir(), "data")
	cfg, err := DevConfig(dir, []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	_, err = Init(ctx, cfg, Options{}, "demo")
	must(err)
	administrator, err := ReadCredentials(filepath.Join(dir, AdministratorFile))
	must(err)
	var log bytes.Buffer // of the last opening
	within := func(do func(st *state)) {
		t.Helper()
		log.Reset()
		st, err := openState(ctx, cfg, Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
		must(err)
		do(st)
		must(st.close())
	}
	owners := func(st *state) (out []*resource.RoleAssignment) {
		t.Helper()
		out, err := st.resources.ListRoleAssignments(ctx, operator, st.resources.SubscriptionScope(), resource.AssignmentFilter{})
		must(err)
		return out
	}
	check := func(st *state) {
		t.Helper()
		list := owners(st)
		if len(list) != 1 || list[0].RoleID != authz.RoleOwner || list[0].PrincipalID != administrator.ObjectID {
			t.Errorf("assignments: %+v", list)
		}
		if there, err := st.resources.GroupExists(ctx, operator, resourceGroup); !there || err != nil {
			t.Errorf("the group is there: %v, %v", there, err)
		}
	}
	told := func() bool {
		return strings.Contains(log.String(), "now Owner of the subscription") && strings.Contains(log.String(), "objectId="+administrator.ObjectID)
	}
	within(check)
	if told() {
		t.Error("told without an upgrade")
	}
	within(func(st *state) { // as a release without them left it
		must(st.db.Update(ctx, func(tx store.Tx) error {
			var old []string
			for key, err := range seal.Keys(tx, "", "") {
				if err != nil {
					return err
				}
				if strings.HasPrefix(key, "role/") || strings.HasPrefix(key, "group/") {
					old = append(old, key)
				}
			}
			for _, key := range old {
				if err := tx.Delete(key); err != nil {
					return err
				}
			}
			return nil
		}))
	})
	within(func(st *state) {
		check(st)
		if !told() {
			t.Errorf("an upgrade made somebody Owner and did not say so: %s", &log)
		}
		_, err := st.resources.DeleteRoleAssignment(ctx, operator, st.resources.SubscriptionScope(), owners(st)[0].ID)
		must(err)
	})
	within(func(st *state) {
		if list := owners(st); len(list) != 0 {
			t.Errorf("the role came back: %+v", list)
		}
		if told() {
			t.Error("told again")
		}
	})
	if found, err := Verify(ctx, cfg); err != nil || found.Bad != 0 {
		t.Errorf("verify: %+v, %v", found, err)
	}
}
