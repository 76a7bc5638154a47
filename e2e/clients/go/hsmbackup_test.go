//go:build client

package goclient

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azadmin/backup"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/strongroom/strongroom/administration"
)

// A backupClient backs up and restores one HSM. An empty key means all of it. Each method waits until the job has ended.
type backupClient interface {
	backup(ctx context.Context, container, sas string) (folder string, err error)
	checkBackup(ctx context.Context, container, sas string) error
	restore(ctx context.Context, folder, sas, key string) error
	checkRestore(ctx context.Context, folder, sas string) error
}

// TestHSMBackup is with Microsoft's client.
func TestHSMBackup(t *testing.T) {
	testBackups(t, func(url string) backupClient {
		return azadminBackups{must(backup.NewClient(url, newCredential(t), nil))(t)}
	})
}

// TestHSMBackupByPackage is with strongroom's.
func TestHSMBackupByPackage(t *testing.T) {
	testBackups(t, func(url string) backupClient {
		return packageBackups{must(administration.NewBackupClient(url, newCredential(t), nil))(t)}
	})
}

type azadminBackups struct{ c *backup.Client }

// ended waits for a job. The poller goes on from its token in the middle, as after a restart.
func ended[T any](ctx context.Context, poller *runtime.Poller[T], err error, resume func(token string) (*runtime.Poller[T], error)) (T, error) {
	var none T
	if err != nil {
		return none, err
	}
	token, err := poller.ResumeToken()
	if err != nil {
		return none, err
	}
	if poller, err = resume(token); err != nil {
		return none, err
	}
	return poller.PollUntilDone(ctx, &runtime.PollUntilDoneOptions{Frequency: time.Second})
}

func (a azadminBackups) backup(ctx context.Context, container, sas string) (string, error) {
	p := backup.SASTokenParameters{StorageResourceURI: &container, Token: &sas}
	poller, err := a.c.BeginFullBackup(ctx, p, nil)
	got, err := ended(ctx, poller, err, func(token string) (*runtime.Poller[backup.FullBackupResponse], error) {
		return a.c.BeginFullBackup(ctx, p, &backup.BeginFullBackupOptions{ResumeToken: token})
	})
	if err != nil {
		return "", err
	}
	return *got.AzureStorageBlobContainerURI, nil
}

func (a azadminBackups) checkBackup(ctx context.Context, container, sas string) error {
	p := backup.PreBackupOperationParameters{StorageResourceURI: &container, Token: &sas}
	poller, err := a.c.BeginPreFullBackup(ctx, p, nil)
	_, err = ended(ctx, poller, err, func(token string) (*runtime.Poller[backup.PreFullBackupResponse], error) {
		return a.c.BeginPreFullBackup(ctx, p, &backup.BeginPreFullBackupOptions{ResumeToken: token})
	})
	return err
}

// split takes the address of a folder apart as this client's callers have to.
func split(address, sas string) (*backup.SASTokenParameters, *string) {
	i := strings.LastIndex(address, "/")
	return &backup.SASTokenParameters{StorageResourceURI: ptr(address[:i]), Token: &sas}, ptr(address[i+1:])
}

func (a azadminBackups) restore(ctx context.Context, address, sas, key string) error {
	storage, name := split(address, sas)
	if key != "" {
		p := backup.SelectiveKeyRestoreOperationParameters{SASTokenParameters: storage, Folder: name}
		poller, err := a.c.BeginSelectiveKeyRestore(ctx, key, p, nil)
		_, err = ended(ctx, poller, err, func(token string) (*runtime.Poller[backup.SelectiveKeyRestoreResponse], error) {
			return a.c.BeginSelectiveKeyRestore(ctx, key, p, &backup.BeginSelectiveKeyRestoreOptions{ResumeToken: token})
		})
		return err
	}
	p := backup.RestoreOperationParameters{SASTokenParameters: storage, FolderToRestore: name}
	poller, err := a.c.BeginFullRestore(ctx, p, nil)
	_, err = ended(ctx, poller, err, func(token string) (*runtime.Poller[backup.FullRestoreResponse], error) {
		return a.c.BeginFullRestore(ctx, p, &backup.BeginFullRestoreOptions{ResumeToken: token})
	})
	return err
}

func (a azadminBackups) checkRestore(ctx context.Context, address, sas string) error {
	storage, name := split(address, sas)
	p := backup.PreRestoreOperationParameters{SASTokenParameters: storage, FolderToRestore: name}
	poller, err := a.c.BeginPreFullRestore(ctx, p, nil)
	_, err = ended(ctx, poller, err, func(token string) (*runtime.Poller[backup.PreFullRestoreResponse], error) {
		return a.c.BeginPreFullRestore(ctx, p, &backup.BeginPreFullRestoreOptions{ResumeToken: token})
	})
	return err
}

type packageBackups struct{ c *administration.BackupClient }

func (p packageBackups) backup(ctx context.Context, container, sas string) (string, error) {
	poller, err := p.c.BeginBackup(ctx, container, &administration.BeginBackupOptions{SASToken: administration.SASToken(sas)})
	got, err := ended(ctx, poller, err, func(token string) (*runtime.Poller[administration.BackupResponse], error) {
		return p.c.BeginBackup(ctx, container, &administration.BeginBackupOptions{ResumeToken: token})
	})
	return got.FolderURL, err
}

func (p packageBackups) checkBackup(ctx context.Context, container, sas string) error {
	poller, err := p.c.BeginPreBackup(ctx, container, &administration.BeginBackupOptions{SASToken: administration.SASToken(sas)})
	_, err = ended(ctx, poller, err, func(token string) (*runtime.Poller[administration.BackupResponse], error) {
		return p.c.BeginPreBackup(ctx, container, &administration.BeginBackupOptions{ResumeToken: token})
	})
	return err
}

func (p packageBackups) restore(ctx context.Context, address, sas, key string) error {
	poller, err := p.c.BeginRestore(ctx, address, &administration.BeginRestoreOptions{SASToken: administration.SASToken(sas), KeyName: key})
	_, err = ended(ctx, poller, err, func(token string) (*runtime.Poller[administration.RestoreResponse], error) {
		return p.c.BeginRestore(ctx, address, &administration.BeginRestoreOptions{ResumeToken: token, KeyName: key})
	})
	return err
}

func (p packageBackups) checkRestore(ctx context.Context, address, sas string) error {
	poller, err := p.c.BeginPreRestore(ctx, address, &administration.BeginRestoreOptions{SASToken: administration.SASToken(sas)})
	_, err = ended(ctx, poller, err, func(token string) (*runtime.Poller[administration.RestoreResponse], error) {
		return p.c.BeginPreRestore(ctx, address, &administration.BeginRestoreOptions{ResumeToken: token})
	})
	return err
}

// testBackups backs up one HSM and restores all of it in another one, and one key in the first.
func testBackups(t *testing.T, open func(url string) backupClient) {
	ctx, container, sas := t.Context(), os.Getenv("E2E_CONTAINER"), os.Getenv("E2E_SAS")
	h := openHSM(t, os.Getenv("E2E_HSM"), os.Getenv("E2E_OTHER_HSM"))
	here, there, foreign := open(h.vault), open(h.otherVault), open(os.Getenv("E2E_FOREIGN_HSM"))
	key := *h.create(t, "kept", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)}).Key.KID
	h.create(t, "kept", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)})
	h.create(t, "oct", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeOctHSM), KeySize: ptr[int32](256)})
	signature := h.sign(t, key, azkeys.SignatureAlgorithmES256, h.digest)

	if err := here.checkBackup(ctx, container, sas); err != nil {
		t.Fatal(err)
	}
	address := must(here.backup(ctx, container, sas))(t)
	if !strings.HasPrefix(address, container+"/mhsm-") {
		t.Errorf("the backup is at %s", address)
	}
	fails(t, here.checkBackup(ctx, container, os.Getenv("E2E_EXPIRED_SAS")), "expired")
	_, err := here.backup(ctx, os.Getenv("E2E_MISSING_CONTAINER"), os.Getenv("E2E_MISSING_SAS"))
	fails(t, err, "ResourceNotFound")
	fails(t, here.checkRestore(ctx, container+"/mhsm-nothing-2026010100000000", sas), "ResourceNotFound")
	fails(t, foreign.checkRestore(ctx, address, sas), "WrongSecurityDomain")
	fails(t, foreign.restore(ctx, address, sas, "kept"), "WrongSecurityDomain")
	fails(t, there.restore(ctx, address, sas, ""), "full backup") // before which there has to be one of what is lost by it

	must(h.other.CreateKey(ctx, "goes", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)}, nil))(t)
	own := must(there.backup(ctx, container, sas))(t)
	if err := errors.Join(there.checkRestore(ctx, address, sas), there.restore(ctx, address, sas, "")); err != nil {
		t.Fatal(err)
	}
	if got := keyNames(t, h.other); !slices.Equal(got, []string{"kept", "oct"}) {
		t.Errorf("after the restore there are %v", got)
	}
	accepts(t, h.other, key, h.digest, signature)

	h.remove(t, "kept")
	fails(t, here.restore(ctx, address, sas, "kept"), "kept") // it can still be recovered
	must(h.client.PurgeDeletedKey(ctx, "kept", nil))(t)
	if err := errors.Join(here.restore(ctx, address, sas, "kept"), here.restore(ctx, own, sas, "goes")); err != nil {
		t.Fatal(err)
	}
	accepts(t, h.client, key, h.digest, signature)
	if got := keyNames(t, h.client); !slices.Equal(got, []string{"goes", "kept", "oct"}) {
		t.Errorf("after the restore of keys there are %v", got)
	}
}

// fails wants a job to be refused or to fail with something in the error.
func fails(t *testing.T, err error, want string) {
	t.Helper()
	var response *azcore.ResponseError
	if !errors.As(err, &response) || !strings.Contains(err.Error(), want) {
		t.Errorf("error is %v, want something about %q", err, want)
	}
}

func keyNames(t *testing.T, c *azkeys.Client) (names []string) {
	t.Helper()
	for pager := c.NewListKeyPropertiesPager(nil); pager.More(); {
		for _, p := range must(pager.NextPage(t.Context()))(t).Value {
			names = append(names, p.KID.Name())
		}
	}
	slices.Sort(names)
	return names
}

func accepts(t *testing.T, c *azkeys.Client, key azkeys.ID, digest, signature []byte) {
	t.Helper()
	got := must(c.Verify(t.Context(), key.Name(), key.Version(), azkeys.VerifyParameters{
		Algorithm: ptr(azkeys.SignatureAlgorithmES256), Digest: digest, Signature: signature,
	}, nil))(t)
	if !*got.Value {
		t.Errorf("the signature by %s is not accepted", key)
	}
}
