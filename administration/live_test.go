package administration_test

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/administration"
	"github.com/strongroom/strongroom/strongroomtest"
)

// realHSM starts a server with a managed HSM whose administrator is the server's.
func realHSM(t *testing.T) (*strongroomtest.Server, clients) {
	t.Helper()
	s := strongroomtest.Start(t, &strongroomtest.Options{HSMs: []string{"pool"}})
	return s, newClients(t, s.HSMURL("pool"), &administration.ClientOptions{ClientOptions: s.ClientOptions()}, s.Credential)
}

func TestRolesOfServer(t *testing.T) {
	t.Parallel()
	s, c := realHSM(t)
	ctx, a := t.Context(), c.access
	made, err := a.SetRoleDefinition(ctx, administration.ScopeGlobal, administration.RoleDefinition{
		RoleName: "Signer", Description: "signs",
		Permissions:      []administration.Permission{{DataActions: []administration.DataAction{administration.DataActionSign}}},
		AssignableScopes: []administration.Scope{administration.ScopeGlobal},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := a.GetRoleDefinition(ctx, administration.ScopeGlobal, made.Name, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(made.RoleDefinition, got.RoleDefinition); diff != "" || got.RoleName != "Signer" || got.Type != administration.RoleTypeCustom {
		t.Errorf("got %v: %s", got, diff)
	}
	all, err := collect(t, a.NewListRoleDefinitionsPager(administration.ScopeGlobal, nil), definitionsOf)
	if err != nil || !slices.ContainsFunc(all, func(d administration.RoleDefinition) bool { return d.ID == made.ID }) {
		t.Errorf("the list of roles is %v, %v", all, err)
	}
	_, err = a.SetRoleDefinition(ctx, administration.ScopeGlobal, administration.RoleDefinition{Name: "no-guid", RoleName: "x"}, nil)
	wantError(t, err, 400, "BadParameter")

	for _, scope := range []administration.Scope{administration.ScopeGlobal, administration.ScopeKeys, administration.KeyScope("signing")} {
		created, err := a.CreateRoleAssignment(ctx, scope, made.ID, s.ObjectID, nil)
		if err != nil {
			t.Fatal(err)
		}
		if created.Scope != scope || created.PrincipalID != s.ObjectID || created.RoleDefinitionID != made.ID {
			t.Errorf("created %v", created)
		}
		_, err = a.CreateRoleAssignment(ctx, scope, made.ID, s.ObjectID, nil)
		if scope == administration.ScopeGlobal {
			wantError(t, err, 400, "RoleAssignmentExists")
		}
		found, err := a.GetRoleAssignment(ctx, scope, created.Name, nil)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(created.RoleAssignment, found.RoleAssignment); diff != "" {
			t.Error(diff)
		}
		own, err := collect(t, a.NewListRoleAssignmentsPager(scope,
			&administration.ListRoleAssignmentsOptions{Filter: "principalId eq '" + s.ObjectID + "'"}), assignmentsOf)
		if err != nil || !slices.Contains(own, created.RoleAssignment) {
			t.Errorf("the list of assignments is %v, %v", own, err)
		}
		if _, err := a.DeleteRoleAssignment(ctx, scope, created.Name, nil); err != nil {
			t.Fatal(err)
		}
		_, err = a.DeleteRoleAssignment(ctx, scope, created.Name, nil)
		wantError(t, err, 404, "RoleAssignmentNotFound")
	}
	if _, err := a.DeleteRoleDefinition(ctx, administration.ScopeGlobal, made.Name, nil); err != nil {
		t.Fatal(err)
	}
	_, err = a.GetRoleDefinition(ctx, administration.ScopeGlobal, made.Name, nil)
	wantError(t, err, 404, "RoleDefinitionNotFound")
}

// The server knows every data action that there is a constant for.
func TestDataActionsOfServer(t *testing.T) {
	t.Parallel()
	_, c := realHSM(t)
	all := []administration.DataAction{
		administration.DataActionReadKey, administration.DataActionWriteKey, administration.DataActionCreateKey, administration.DataActionDeleteKey,
		administration.DataActionRotateKey, administration.DataActionImportKey, administration.DataActionExportKey, administration.DataActionReleaseKey,
		administration.DataActionBackupKey, administration.DataActionRestoreKey, administration.DataActionEncrypt, administration.DataActionDecrypt,
		administration.DataActionWrapKey, administration.DataActionUnwrapKey, administration.DataActionSign, administration.DataActionVerify,
		administration.DataActionDerive, administration.DataActionReadDeletedKey, administration.DataActionRecoverDeletedKey,
		administration.DataActionPurgeDeletedKey, administration.DataActionRandomNumbers, administration.DataActionReadAssignment,
		administration.DataActionWriteAssignment, administration.DataActionDeleteAssignment, administration.DataActionReadDefinition,
		administration.DataActionWriteDefinition, administration.DataActionDeleteDefinition, administration.DataActionDownloadDomain,
		administration.DataActionReadDomainDownload, administration.DataActionUploadDomain, administration.DataActionReadDomainUpload,
		administration.DataActionReadTransferKey, administration.DataActionStartBackup, administration.DataActionReadBackupStatus,
		administration.DataActionStartRestore, administration.DataActionReadRestoreStatus, administration.DataActionReadSettings,
		administration.DataActionWriteSettings,
	}
	made, err := c.access.SetRoleDefinition(t.Context(), administration.ScopeGlobal, administration.RoleDefinition{
		RoleName: "All", Permissions: []administration.Permission{{DataActions: all}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(all, made.Permissions[0].DataActions); diff != "" {
		t.Error(diff)
	}
}

func TestSettingsOfServer(t *testing.T) {
	t.Parallel()
	_, c := realHSM(t)
	ctx := t.Context()
	const name = "AllowKeyManagementOperationsThroughARM"
	value := func() bool {
		got, err := c.settings.GetSetting(ctx, name, nil)
		if err != nil {
			t.Fatal(err)
		}
		b, err := got.Bool()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if value() {
		t.Errorf("%s is true in a new managed HSM", name)
	}
	if _, err := c.settings.UpdateSetting(ctx, name, "true", nil); err != nil || !value() {
		t.Errorf("%s was not changed: %v", name, err)
	}
	all, err := c.settings.GetSettings(ctx, nil)
	if err != nil || len(all.Settings) != 1 || all.Settings[0].Value != "true" {
		t.Errorf("got %v, %v", all, err)
	}
	_, err = c.settings.GetSetting(context.Background(), "Nothing", nil)
	wantStatus(t, err, 404)
	_, err = c.settings.UpdateSetting(ctx, name, "perhaps", nil)
	wantStatus(t, err, 400)
}
