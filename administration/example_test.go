package administration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/strongroom/strongroom/administration"
)

// The clients of the examples.
var (
	access   *administration.AccessControlClient
	backups  *administration.BackupClient
	settings *administration.SettingsClient
)

const cryptoUser = "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/21dbd100-6940-42c2-9190-5d6cb909625b"

func ExampleNewAccessControlClient() {
	cred, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	access, err = administration.NewAccessControlClient("https://name.managedhsm.azure.net", cred, nil)
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleNewBackupClient() {
	cred, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	backups, err = administration.NewBackupClient("https://name.managedhsm.azure.net", cred, nil)
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleNewSettingsClient() {
	cred, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		log.Fatal(err)
	}
	settings, err = administration.NewSettingsClient("https://name.managedhsm.azure.net", cred, nil)
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleKeyScope() {
	fmt.Println(administration.KeyScope("signing"))
	// Output: /keys/signing
}

func ExampleAccessControlClient_NewListRoleDefinitionsPager() {
	pager := access.NewListRoleDefinitionsPager(administration.ScopeGlobal, nil)
	for pager.More() {
		page, err := pager.NextPage(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		for _, role := range page.Value {
			fmt.Println(role.Name, role.RoleName)
		}
	}
}

func ExampleAccessControlClient_GetRoleDefinition() {
	role, err := access.GetRoleDefinition(context.Background(), administration.ScopeGlobal, "21dbd100-6940-42c2-9190-5d6cb909625b", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(role.RoleName, role.Permissions)
}

func ExampleAccessControlClient_SetRoleDefinition() {
	role, err := access.SetRoleDefinition(context.Background(), administration.ScopeGlobal, administration.RoleDefinition{
		RoleName:    "Signer",
		Description: "may sign and verify, and see the keys",
		Permissions: []administration.Permission{{DataActions: []administration.DataAction{
			administration.DataActionReadKey, administration.DataActionSign, administration.DataActionVerify,
		}}},
		AssignableScopes: []administration.Scope{administration.ScopeGlobal},
	}, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(role.ID)
}

func ExampleAccessControlClient_DeleteRoleDefinition() {
	_, err := access.DeleteRoleDefinition(context.Background(), administration.ScopeGlobal, "00000000-0000-0000-0000-000000000001", nil)
	if refused, ok := errors.AsType[*azcore.ResponseError](err); ok && refused.StatusCode == http.StatusNotFound {
		return // there is no such role
	}
	if err != nil {
		log.Fatal(err)
	}
}

func ExampleAccessControlClient_NewListRoleAssignmentsPager() {
	pager := access.NewListRoleAssignmentsPager(administration.ScopeGlobal, &administration.ListRoleAssignmentsOptions{
		Filter: "principalId eq '00000000-0000-0000-0000-000000000002'",
	})
	for pager.More() {
		page, err := pager.NextPage(context.Background())
		if err != nil {
			log.Fatal(err)
		}
		for _, a := range page.Value {
			fmt.Println(a.RoleDefinitionID, a.Scope)
		}
	}
}

func ExampleAccessControlClient_GetRoleAssignment() {
	a, err := access.GetRoleAssignment(context.Background(), administration.ScopeKeys, "00000000-0000-0000-0000-000000000003", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.PrincipalID, a.Scope)
}

func ExampleAccessControlClient_CreateRoleAssignment() {
	const principal = "00000000-0000-0000-0000-000000000002"
	a, err := access.CreateRoleAssignment(context.Background(), administration.KeyScope("signing"), cryptoUser, principal, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.Name)
}

func ExampleAccessControlClient_DeleteRoleAssignment() {
	a, err := access.DeleteRoleAssignment(context.Background(), administration.ScopeKeys, "00000000-0000-0000-0000-000000000003", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(a.PrincipalID)
}

func ExampleBackupClient_BeginBackup() {
	ctx := context.Background()
	poller, err := backups.BeginBackup(ctx, "https://account.blob.core.windows.net/container", &administration.BeginBackupOptions{
		SASToken: administration.SASToken(os.Getenv("SAS_TOKEN")),
	})
	if err != nil {
		log.Fatal(err)
	}
	backup, err := poller.PollUntilDone(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(backup.FolderURL)
}

// What the poller's answers hold shows how far the job is. Its resume token lets another program wait for it.
func ExampleBackupClient_BeginBackup_progress() {
	ctx := context.Background()
	poller, err := backups.BeginBackup(ctx, "https://account.blob.core.windows.net/container", &administration.BeginBackupOptions{
		UseManagedIdentity: true,
	})
	if err != nil {
		log.Fatal(err)
	}
	token, err := poller.ResumeToken()
	if err != nil {
		log.Fatal(err)
	}
	poller, err = backups.BeginBackup(ctx, "", &administration.BeginBackupOptions{ResumeToken: token})
	if err != nil {
		log.Fatal(err)
	}
	for !poller.Done() {
		resp, err := poller.Poll(ctx)
		if err != nil {
			log.Fatal(err)
		}
		var job administration.Operation
		if err := json.NewDecoder(resp.Body).Decode(&job); err != nil {
			log.Fatal(err)
		}
		fmt.Println(job.Status, job.StatusDetails)
		time.Sleep(5 * time.Second)
	}
}

func ExampleBackupClient_BeginPreBackup() {
	ctx := context.Background()
	poller, err := backups.BeginPreBackup(ctx, "https://account.blob.core.windows.net/container", &administration.BeginBackupOptions{
		SASToken: administration.SASToken(os.Getenv("SAS_TOKEN")),
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := poller.PollUntilDone(ctx, nil); err != nil {
		log.Fatal(err) // a backup would fail for the same reason
	}
}

func ExampleBackupClient_BeginRestore() {
	ctx := context.Background()
	const folder = "https://account.blob.core.windows.net/container/mhsm-name-2026010112000000" // BackupResponse.FolderURL
	poller, err := backups.BeginRestore(ctx, folder, &administration.BeginRestoreOptions{
		SASToken: administration.SASToken(os.Getenv("SAS_TOKEN")),
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := poller.PollUntilDone(ctx, nil); err != nil {
		log.Fatal(err)
	}
}

func ExampleBackupClient_BeginRestore_oneKey() {
	ctx := context.Background()
	const folder = "https://account.blob.core.windows.net/container/mhsm-name-2026010112000000"
	poller, err := backups.BeginRestore(ctx, folder, &administration.BeginRestoreOptions{
		KeyName:  "signing",
		SASToken: administration.SASToken(os.Getenv("SAS_TOKEN")),
	})
	if err != nil {
		log.Fatal(err)
	}
	restored, err := poller.PollUntilDone(ctx, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(restored.StatusDetails) // how many versions were restored
}

func ExampleBackupClient_BeginPreRestore() {
	ctx := context.Background()
	const folder = "https://account.blob.core.windows.net/container/mhsm-name-2026010112000000"
	poller, err := backups.BeginPreRestore(ctx, folder, &administration.BeginRestoreOptions{UseManagedIdentity: true})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := poller.PollUntilDone(ctx, nil); err != nil {
		log.Fatal(err) // a restore would fail for the same reason
	}
}

func ExampleSASToken() {
	options := administration.BeginBackupOptions{SASToken: "?se=2030-01-01&sig=secret"}
	fmt.Println(options.SASToken)
	// Output: REDACTED
}

func ExampleSettingsClient_GetSettings() {
	all, err := settings.GetSettings(context.Background(), nil)
	if err != nil {
		log.Fatal(err)
	}
	for _, s := range all.Settings {
		fmt.Println(s.Name, s.Value)
	}
}

func ExampleSettingsClient_GetSetting() {
	s, err := settings.GetSetting(context.Background(), "AllowKeyManagementOperationsThroughARM", nil)
	if err != nil {
		log.Fatal(err)
	}
	allowed, err := s.Bool()
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(allowed)
}

func ExampleSettingsClient_UpdateSetting() {
	s, err := settings.UpdateSetting(context.Background(), "AllowKeyManagementOperationsThroughARM", "true", nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(s.Value)
}

func ExampleSetting_Bool() {
	fmt.Println(administration.Setting{Type: administration.SettingTypeBoolean, Value: "true"}.Bool())
	// Output: true <nil>
}
