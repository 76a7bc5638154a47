package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/administration"
)

func newBackupCommand() *cobra.Command {
	c := group("backup", "Back up a managed HSM as a whole, with the flags of az keyvault backup", newBackupStart())
	c.Long = "Backup saves a managed HSM as a whole, with the flags of az keyvault backup. Single keys are saved by \"key backup\".\n\n" + hsmText
	return c
}

func newRestoreCommand() *cobra.Command {
	c := group("restore", "Restore a managed HSM or one of its keys, with the flags of az keyvault restore", newRestoreStart())
	c.Long = "Restore brings back what \"backup start\" has saved, with the flags of az keyvault restore.\n\n" + hsmText
	return c
}

// jobTime is how long backups and restores may take unless --timeout says otherwise.
const jobTime = time.Hour

// A container is where backups are, as az names it.
type container struct {
	uri, account, name string
	token              string
	managedIdentity    bool
}

func (c *container) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.uri, "storage-resource-uri", "", "URL of the blob container")
	f.StringVar(&c.account, "storage-account-name", "", "Azure storage account with the container, instead of --storage-resource-uri")
	f.StringVar(&c.name, "blob-container-name", "", "the container in that account")
	f.StringVarP(&c.token, "storage-container-SAS-token", "t", "", "shared access signature for the container"+visibleHelp)
	f.BoolVar(&c.managedIdentity, "use-managed-identity", false, "the HSM uses its own identity at the container, not a token")
	azWords(cmd, "use-managed-identity")
	cmd.MarkFlagsMutuallyExclusive("storage-resource-uri", "storage-account-name")
	cmd.MarkFlagsMutuallyExclusive("storage-resource-uri", "blob-container-name")
}

// accountName and containerName are how Azure has them. They keep a name from becoming another host or path.
var (
	accountName   = regexp.MustCompile(`^[a-z0-9]{3,24}$`)
	containerName = regexp.MustCompile(`^(\$root|[a-z0-9][a-z0-9-]{2,62})$`)
)

// url is the URL of the container.
func (c *container) url() (string, error) {
	switch {
	case c.uri != "":
		if u, err := url.Parse(c.uri); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || strings.Trim(u.Path, "/") == "" {
			return "", usagef("--storage-resource-uri is not the URL of a container, such as https://account.blob.core.windows.net/container")
		}
		return c.uri, nil
	case c.account == "" || c.name == "":
		return "", usagef("where is the container? Give --storage-resource-uri, or --storage-account-name and --blob-container-name")
	case !accountName.MatchString(c.account):
		return "", usagef("--storage-account-name %q is not the name of an account: 3 to 24 lower-case letters and digits", c.account)
	case !containerName.MatchString(c.name):
		return "", usagef("--blob-container-name %q is not the name of a container: 3 to 63 lower-case letters, digits and hyphens", c.name)
	}
	return "https://" + c.account + ".blob.core.windows.net/" + c.name, nil
}

// access reads what opens the container.
func (c *container) access(cmd *cobra.Command) (administration.SASToken, error) {
	if (c.token != "") == c.managedIdentity {
		return "", usagef("give either --storage-container-SAS-token or --use-managed-identity")
	}
	in := inputs{cmd: cmd}
	raw, err := in.private("storage-container-SAS-token", c.token)
	token := strings.TrimSpace(string(raw))
	if err == nil && c.token != "" && token == "" {
		return "", usagef("--storage-container-SAS-token holds nothing")
	}
	return administration.SASToken(token), err
}

// A jobOut is a backup or a restore that is done.
type jobOut struct {
	FolderURL     string                `json:"folderUrl,omitempty"`
	JobID         string                `json:"jobId"`
	Status        administration.Status `json:"status"`
	StatusDetails string                `json:"statusDetails,omitempty"`
	StartTime     *time.Time            `json:"startTime"`
	EndTime       *time.Time            `json:"endTime"`
}

func newJobOut(o administration.Operation, folderURL string) jobOut {
	out := jobOut{FolderURL: folderURL, JobID: o.JobID, Status: o.Status, StatusDetails: o.StatusDetails}
	if !o.StartTime.IsZero() {
		out.StartTime = &o.StartTime
	}
	if !o.EndTime.IsZero() {
		out.EndTime = &o.EndTime
	}
	return out
}

func newBackupStart() *cobra.Command {
	var (
		h hsmTarget
		c container
	)
	cmd := &cobra.Command{
		Use:   "start --hsm-name NAME --storage-resource-uri URL {--storage-container-SAS-token @FILE | --use-managed-identity}",
		Short: "Save all keys and roles of a managed HSM in a blob container",
		Long: `Start saves all keys and roles of a managed HSM in a new folder of a blob container, and waits until that is done. What it saves is
encrypted: only a managed HSM of the same security domain can restore it.`,
		Example: `  strongroom backup start --hsm-name hsm-a --storage-resource-uri https://account.blob.core.windows.net/backups -t @sas.txt
  strongroom backup start --hsm-name hsm-a --storage-account-name account --blob-container-name backups -t @sas.txt --query folderUrl -o tsv`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			containerURL, err := c.url()
			if err != nil {
				return err
			}
			token, err := c.access(cmd)
			if err != nil {
				return err
			}
			return showHSM(cmd, &h, openBackup, func(ctx context.Context, client *administration.BackupClient) (any, error) {
				poller, err := client.BeginBackup(ctx, containerURL, &administration.BeginBackupOptions{
					SASToken: token, UseManagedIdentity: c.managedIdentity,
				})
				if err != nil {
					return nil, err
				}
				got, err := follow(ctx, poller, cmd.ErrOrStderr(), "backup")
				return newJobOut(got.Operation, got.FolderURL), err
			}, "folderUrl", "status")
		},
	}
	h.register(cmd, "folderUrl", jobTime)
	c.register(cmd)
	return cmd
}

func newRestoreStart() *cobra.Command {
	var (
		h           hsmTarget
		c           container
		folder, key string
	)
	cmd := &cobra.Command{
		Use:   "start --hsm-name NAME --storage-resource-uri URL --backup-folder FOLDER {--storage-container-SAS-token @FILE | --use-managed-identity}",
		Short: "Restore a managed HSM, or one key, from a backup",
		Long: `Start restores a managed HSM from a backup, and waits until that is done. Everything in the HSM is replaced by what the backup holds; a
backup of it must have been made within the last half hour. With --key-name only that key is restored, of which nothing that is there is
overwritten.`,
		Example: `  strongroom restore start --hsm-name hsm-a --backup-folder https://account.blob.core.windows.net/backups/mhsm-hsm-a-2026010112000000 -t @sas.txt
  strongroom restore start --hsm-name hsm-a --storage-resource-uri https://account.blob.core.windows.net/backups \
    --backup-folder mhsm-hsm-a-2026010112000000 -t @sas.txt --key-name signing`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			folderURL, containerURL, err := c.folder(folder)
			if err != nil {
				return err
			}
			// An empty name must not become a restore of everything.
			if (cmd.Flags().Changed("key-name") || cmd.Flags().Changed("key")) && !vaultLabel.MatchString(key) {
				return usagef("--key-name %q is not the name of a key", key)
			}
			token, err := c.access(cmd)
			if err != nil {
				return err
			}
			return showHSM(cmd, &h, openBackup, func(ctx context.Context, client *administration.BackupClient) (any, error) {
				poller, err := client.BeginRestore(ctx, folderURL, &administration.BeginRestoreOptions{
					KeyName: key, ContainerURL: containerURL, SASToken: token, UseManagedIdentity: c.managedIdentity,
				})
				if err != nil {
					return nil, err
				}
				got, err := follow(ctx, poller, cmd.ErrOrStderr(), "restore")
				return newJobOut(got.Operation, ""), err
			}, "jobId", "status", "statusDetails")
		},
	}
	h.register(cmd, "status or statusDetails", jobTime)
	c.register(cmd)
	f := cmd.Flags()
	f.StringVar(&folder, "backup-folder", "", `folder in the container, or its whole URL: the folderUrl that "backup start" prints`)
	f.StringVar(&key, "key-name", "", "restore this key alone")
	f.StringVar(&key, "key", "", "the same as --key-name")
	return cmd
}

// folder is the URL of a backup, and that of its container if that was named by itself.
func (c *container) folder(folder string) (folderURL, containerURL string, err error) {
	switch {
	case folder == "":
		return "", "", usagef("--backup-folder is missing: which backup?")
	case strings.Contains(folder, "://"):
		if c.uri+c.account+c.name != "" {
			return "", "", usagef("--backup-folder is a whole URL: nothing else says where the container is")
		}
		return folder, "", nil
	case strings.ContainsAny(folder, "%?#"):
		return "", "", usagef("--backup-folder %q is not the name of a folder", folder)
	}
	containerURL, err = c.url()
	containerURL, _, _ = strings.Cut(containerURL, "?")
	return strings.TrimRight(containerURL, "/") + "/" + folder, containerURL, err
}

// follow waits for a job and tells how it is, unlike PollUntilDone.
func follow[T any](ctx context.Context, poller *runtime.Poller[T], notes io.Writer, what string) (T, error) {
	start := time.Now()
	for {
		resp, err := poller.Poll(ctx)
		if err != nil {
			var none T
			return none, waiting(ctx, err)
		}
		if poller.Done() {
			return poller.Result(ctx)
		}
		var job administration.Operation
		if err := json.NewDecoder(resp.Body).Decode(&job); err != nil {
			var none T
			return none, err
		}
		note := fmt.Sprintf("strongroom: %s %s: %s", what, job.JobID, job.Status)
		if job.StatusDetails != "" {
			note += ", " + job.StatusDetails
		}
		fmt.Fprintf(notes, "%s, waiting for %s\n", cell(note, nil), time.Since(start).Round(time.Second)) // cell: nothing of it drives a terminal
		select {
		case <-ctx.Done():
			var none T
			return none, waiting(ctx, ctx.Err())
		case <-time.After(pollWait(resp)):
		}
	}
}

// pollWait is how long the poller says that one is to wait.
func pollWait(resp *http.Response) time.Duration {
	ms, err := strconv.Atoi(resp.Header.Get("Retry-After-Ms"))
	if err != nil {
		return 5 * time.Second
	}
	return time.Duration(ms) * time.Millisecond
}
