package administration

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// A SASToken is a shared access signature for a blob container, with or without the leading question mark. It prints as REDACTED.
type SASToken string

const redacted = "REDACTED"

func (SASToken) String() string               { return redacted }
func (SASToken) GoString() string             { return redacted }
func (SASToken) Format(f fmt.State, _ rune)   { _, _ = f.Write([]byte(redacted)) }
func (SASToken) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (SASToken) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// A BackupClient backs up a managed HSM as a whole, and restores all of it or one key.
type BackupClient struct{ client *client }

// NewBackupClient makes a client for the managed HSM at vaultURL, such as https://name.managedhsm.azure.net. It never logs bodies,
// whatever options.Logging says, because they hold SAS tokens.
func NewBackupClient(vaultURL string, cred azcore.TokenCredential, options *ClientOptions) (*BackupClient, error) {
	c, err := newClient(vaultURL, cred, options)
	if err != nil {
		return nil, err
	}
	return &BackupClient{c}, nil
}

// BeginBackupOptions are the options of BeginBackup and BeginPreBackup. Give a SASToken or UseManagedIdentity.
type BeginBackupOptions struct {
	SASToken           SASToken // with the rights to create, read, write, delete and list, and an expiry
	UseManagedIdentity bool     // the HSM uses its own identity at the container, not a SAS token
	ResumeToken        string   // of an earlier poller: nothing is started, the job is followed further
}

// BeginRestoreOptions are the options of BeginRestore and BeginPreRestore. Give a SASToken or UseManagedIdentity.
type BeginRestoreOptions struct {
	KeyName            string   // restore this key alone; BeginPreRestore has no use for it and refuses it
	ContainerURL       string   // of the container in which the folder is, if the folder's URL does not tell: see BeginRestore
	SASToken           SASToken // with the rights to read and list, and an expiry
	UseManagedIdentity bool     // the HSM uses its own identity at the container, not a SAS token
	ResumeToken        string   // of an earlier poller: nothing is started, the job is followed further
}

// A Status says how far a job is.
type Status string

// The statuses of jobs. A service may have others for a job that is not done.
const (
	StatusInProgress Status = "InProgress"
	StatusSucceeded  Status = "Succeeded"
	StatusFailed     Status = "Failed"
	StatusCanceled   Status = "Canceled"
)

// is compares statuses as clients do, in any case.
func (s Status) is(other Status) bool { return strings.EqualFold(string(s), string(other)) }

func (s Status) done() bool {
	return s.is(StatusSucceeded) || s.is(StatusFailed) || s.is(StatusCanceled)
}

// ErrorInfo is why a job failed.
type ErrorInfo struct {
	Code       string     `json:"code"`
	Message    string     `json:"message"`
	InnerError *ErrorInfo `json:"innererror"`
}

// An Operation is a job of the service and how far it is. It reads the JSON of the answers that a poller's Poll returns.
type Operation struct {
	JobID         string
	Status        Status
	StatusDetails string     // a text for people, empty for most jobs
	Error         *ErrorInfo // nil unless the service says what went wrong
	StartTime     time.Time
	EndTime       time.Time // zero while the job runs
}

// A BackupResponse is a backup that is complete.
type BackupResponse struct {
	Operation
	FolderURL string // where the backup is, for BeginRestore; without meaning after BeginPreBackup
}

// A RestoreResponse is a restore that is complete.
type RestoreResponse struct{ Operation }

// wireOperation has the times in seconds since 1970.
type wireOperation struct {
	JobID         string     `json:"jobId"`
	Status        Status     `json:"status"`
	StatusDetails string     `json:"statusDetails"`
	Error         *ErrorInfo `json:"error"`
	StartTime     int64      `json:"startTime"`
	EndTime       int64      `json:"endTime"`
	FolderURL     string     `json:"azureStorageBlobContainerUri"`
}

func (w wireOperation) model() Operation {
	if w.Error != nil && *w.Error == (ErrorInfo{}) {
		w.Error = nil // an error of which nothing is known is how old services say that there is none
	}
	return Operation{w.JobID, w.Status, w.StatusDetails, w.Error, fromUnix(w.StartTime), fromUnix(w.EndTime)}
}

func fromUnix(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// UnmarshalJSON reads the service's form of a job.
func (o *Operation) UnmarshalJSON(text []byte) error {
	var w wireOperation
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	*o = w.model()
	return nil
}

// UnmarshalJSON reads the service's form of a backup.
func (r *BackupResponse) UnmarshalJSON(text []byte) error {
	var w wireOperation
	if err := json.Unmarshal(text, &w); err != nil {
		return err
	}
	r.Operation, r.FolderURL = w.model(), w.FolderURL
	return nil
}

// storage is how the wire names a container and what opens it.
type storage struct {
	URI                string `json:"storageResourceUri"`
	Token              string `json:"token,omitempty"`
	UseManagedIdentity bool   `json:"useManagedIdentity"`
}

// The operations that have pollers. A resume token names one.
const (
	backup     = "backup"
	preBackup  = "pre-backup check"
	restore    = "restore"
	preRestore = "pre-restore check"
)

// spans are their names in traces.
var spans = map[string]string{
	backup: "BackupClient.BeginBackup", preBackup: "BackupClient.BeginPreBackup",
	restore: "BackupClient.BeginRestore", preRestore: "BackupClient.BeginPreRestore",
}

// BeginBackup backs up the whole HSM, its keys and its roles, to a new folder of the blob container at containerURL, such as
// https://account.blob.core.windows.net/container. A query in the URL is dropped: the SAS token goes into the options. The result
// has the FolderURL that BeginRestore takes. Poll asks how the job is; between two polls PollUntilDone waits as long as the
// service says with Retry-After, at most a minute, or five seconds. PollUntilDoneOptions.Frequency has no effect.
//
// A job that fails is an *azcore.ResponseError whose ErrorCode and text are those of the job, with StatusCode 200. If polling
// itself fails, for example because the network is away, the same poller can go on later; so can one made from its ResumeToken,
// which holds no SAS token.
func (c *BackupClient) BeginBackup(ctx context.Context, containerURL string, options *BeginBackupOptions) (*runtime.Poller[BackupResponse], error) {
	return c.beginBackup(ctx, backup, "/backup", containerURL, options)
}

// BeginPreBackup asks whether a backup with the same parameters could be made, and makes none.
func (c *BackupClient) BeginPreBackup(ctx context.Context, containerURL string, options *BeginBackupOptions) (*runtime.Poller[BackupResponse], error) {
	return c.beginBackup(ctx, preBackup, "/prebackup", containerURL, options)
}

func (c *BackupClient) beginBackup(
	ctx context.Context, operation, path, containerURL string, options *BeginBackupOptions,
) (*runtime.Poller[BackupResponse], error) {
	if options == nil {
		options = &BeginBackupOptions{}
	}
	if options.ResumeToken != "" {
		return resume[BackupResponse](c.client, operation, options.ResumeToken)
	}
	container, err := blobURL("containerURL", containerURL)
	if err != nil {
		return nil, err
	}
	return begin[BackupResponse](ctx, c.client, operation, http.MethodPost, path,
		storage{container.String(), string(options.SASToken), options.UseManagedIdentity})
}

// BeginRestore brings back a backup, BackupResponse.FolderURL, into an HSM of the same security domain: everything, or the one
// key that options.KeyName names. A full restore replaces what is in the HSM and needs a backup made within the last half hour;
// of a key that exists no version is overwritten. Polling and failures are as with BeginBackup.
//
// The first segment of folderURL's path is taken for the container and the rest for the folder, as by Microsoft's clients. Where
// the host does not name the storage account, because it is an address, a single label or below localhost, and there are at
// least three segments, the first two are account and container: https://127.0.0.1:10000/devstoreaccount1/container/folder. A
// host with ".blob." in its name always names the account. For other services options.ContainerURL says where the container's
// part ends. A query is dropped: the SAS token goes into the options.
func (c *BackupClient) BeginRestore(ctx context.Context, folderURL string, options *BeginRestoreOptions) (*runtime.Poller[RestoreResponse], error) {
	path := "/restore"
	if options != nil && options.KeyName != "" {
		if err := checkName("key", options.KeyName); err != nil {
			return nil, err
		}
		path = "/keys/" + options.KeyName + "/restore"
	}
	return c.beginRestore(ctx, restore, path, folderURL, options)
}

// BeginPreRestore asks whether a full restore with the same parameters could be done, and does none.
func (c *BackupClient) BeginPreRestore(ctx context.Context, folderURL string, options *BeginRestoreOptions) (*runtime.Poller[RestoreResponse], error) {
	if options != nil && options.KeyName != "" {
		return nil, errors.New("administration: the service checks full restores only: BeginPreRestore takes no KeyName")
	}
	return c.beginRestore(ctx, preRestore, "/prerestore", folderURL, options)
}

func (c *BackupClient) beginRestore(
	ctx context.Context, operation, path, folderURL string, options *BeginRestoreOptions,
) (*runtime.Poller[RestoreResponse], error) {
	if options == nil {
		options = &BeginRestoreOptions{}
	}
	if options.ResumeToken != "" {
		return resume[RestoreResponse](c.client, operation, options.ResumeToken)
	}
	container, folder, err := splitFolder(folderURL, options.ContainerURL)
	if err != nil {
		return nil, err
	}
	body := struct {
		Storage         storage `json:"sasTokenParameters"`
		FolderToRestore string  `json:"folderToRestore,omitempty"`
		Folder          string  `json:"folder,omitempty"` // how a restore of one key spells it
	}{Storage: storage{container, string(options.SASToken), options.UseManagedIdentity}}
	if options.KeyName == "" {
		body.FolderToRestore = folder
	} else {
		body.Folder = folder
	}
	return begin[RestoreResponse](ctx, c.client, operation, http.MethodPut, path, body)
}

// blobURL reads a URL of blob storage, without what could be a SAS token. Errors do not repeat it, for the same reason.
func blobURL(what, text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") == "" {
		return nil, fmt.Errorf("administration: %s is not a URL such as https://account.blob.core.windows.net/container", what)
	}
	u.RawQuery, u.ForceQuery, u.Fragment, u.RawFragment = "", false, "", ""
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

// splitFolder cuts the URL of a backup into that of its container, which may be known, and the folder in it.
func splitFolder(folderURL, containerURL string) (container, folder string, err error) {
	u, err := blobURL("folderURL", folderURL)
	if err != nil {
		return "", "", err
	}
	if containerURL != "" {
		c, err := blobURL("ContainerURL", containerURL)
		if err != nil {
			return "", "", err
		}
		folder, ok := strings.CutPrefix(u.String(), c.String()+"/")
		if folder = strings.Trim(folder, "/"); !ok || folder == "" {
			return "", "", errors.New("administration: folderURL is no folder in the container at ContainerURL")
		}
		return c.String(), folder, nil
	}
	segments := strings.Split(strings.Trim(u.EscapedPath(), "/"), "/")
	n := 1
	if !namesAccount(u.Hostname()) && len(segments) > 2 {
		n = 2
	}
	if len(segments) <= n {
		return "", "", errors.New("administration: folderURL has no folder behind the container: it is BackupResponse.FolderURL, " +
			"such as https://account.blob.core.windows.net/container/mhsm-name-2026010112000000")
	}
	return u.Scheme + "://" + u.Host + "/" + strings.Join(segments[:n], "/"), strings.Join(segments[n:], "/"), nil
}

// namesAccount reports whether the storage account is in the name of the host and not in the path, where emulators have it.
func namesAccount(host string) bool {
	host = strings.ToLower(host)
	if strings.Contains(host, ".blob.") {
		return true
	}
	_, err := netip.ParseAddr(host)
	return err != nil && strings.Contains(host, ".") && !strings.HasSuffix(host, ".localhost")
}
