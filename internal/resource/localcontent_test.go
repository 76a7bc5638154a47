package resource

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/store"
)

// TestReplaceContent: roles, assignments and settings move into another content, and hold with the swap.
func TestReplaceContent(t *testing.T) {
	t.Parallel()
	b := newBench(t)
	_, _, err := b.PutHSM(t.Context(), owner, "g", "pool", PutHSMParams{
		Location: "local", SKUName: "Standard_B1", RetentionDays: new(7), Administrators: []string{ownerID},
	})
	must(t, err)
	v := b.activate(t, "pool")
	_, err = b.CreateLocalAssignment(t.Context(), owner, "pool", "/keys/Mine", uuid.NewString(), otherID, authz.RoleHSMCryptoUser)
	must(t, err)
	_, err = b.UpdateSetting(t.Context(), owner, "pool", AllowKeyManagementThroughARM, "true")
	must(t, err)
	saved, err := b.LocalRecords(t.Context(), v)
	must(t, err)
	if len(saved) != 3 {
		t.Fatalf("%d records: %v", len(saved), saved)
	}

	stage := func(records []LocalRecord) (string, error) {
		content := record.NewID()
		return content, b.db.Update(t.Context(), func(tx store.Tx) error {
			for _, r := range records {
				if err := PutLocalRecord(tx, content, r); err != nil {
					return err
				}
			}
			now, err := b.LoadHSM(tx, "pool")
			if err != nil {
				return err
			}
			return b.ReplaceContent(tx, now, content)
		})
	}
	// Nothing of it holds if nobody could assign roles, or if a record is none.
	_, err = stage(nil)
	wantKind(t, err, ConflictError)
	for _, bad := range []LocalRecord{
		{"generation", []byte(`{"v":1,"value":"x"}`)}, {"assignment/x", []byte(`{`)}, {"other/x", []byte(`{"v":1}`)}, {"", nil},
		{"assignment/x", saved[0].Data}, {"definition/x", []byte(`{"v":1,"id":"y"}`)}, {"settings/x", []byte(`{"v":1}`)}, // which nobody could remove
	} {
		_, err = stage(append(saved, bad))
		wantKind(t, err, InvalidProperty)
	}
	content, err := stage(saved)
	must(t, err)
	must(t, b.db.View(t.Context(), func(r store.Reader) (err error) {
		v, err = b.LoadHSM(r, "pool")
		return err
	}))
	if v.ContentID() != content {
		t.Fatalf("the content is %s, want %s", v.ContentID(), content)
	}
	again, err := b.LocalRecords(t.Context(), v)
	must(t, err)
	if diff := cmp.Diff(saved, again); diff != "" {
		t.Errorf("records (-before +after):\n%s", diff)
	}
	allowed, err := b.mayLocally(t.Context(), "pool", person(otherID), "keys/sign/action", "mine")
	must(t, err)
	if !allowed {
		t.Error("the role is lost")
	}

	must(t, b.db.Update(t.Context(), func(tx store.Tx) error {
		now, err := b.LoadHSM(tx, "pool")
		if err != nil {
			return err
		}
		return now.SetRestoring(tx, "job")
	}))
	_, err = b.ListSettings(t.Context(), owner, "pool")
	wantKind(t, err, HSMRestoring)
}
