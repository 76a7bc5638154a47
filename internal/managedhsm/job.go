package managedhsm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/store"
)

// The operations of full backups and restores.
var (
	BackupStart     = jobOperation("BackupStart", "backup/start/action")
	BackupStatus    = jobOperation("BackupStatusGet", "backup/status/action")
	PreBackupStart  = jobOperation("PreBackupStart", "backup/start/action")
	RestoreStart    = jobOperation("RestoreStart", "restore/start/action")
	RestoreStatus   = jobOperation("RestoreStatusGet", "restore/status/action")
	PreRestoreStart = jobOperation("PreRestoreStart", "restore/start/action")
	KeyRestoreStart = jobOperation("SelectiveKeyRestoreStart", "restore/start/action")
)

func jobOperation(name, action string) keyvault.Operation {
	return keyvault.Operation{Name: name, Permission: authz.Permission{HSMAction: "Microsoft.KeyVault/managedHsm/" + action}}
}

// A JobKind is what a job does.
type JobKind string

// The kinds of jobs.
const (
	FullBackup  JobKind = "backup"
	PreBackup   JobKind = "prebackup"   // finds out whether a backup could be written
	FullRestore JobKind = "restore"     // replaces all that is in the HSM
	PreRestore  JobKind = "prerestore"  // finds out whether a backup could be read
	KeyRestore  JobKind = "key-restore" // brings one key back
)

// OperationOf is the operation that starts a job of a kind.
func OperationOf(kind JobKind) keyvault.Operation { return operations[kind] }

// operations start the jobs of a kind.
var operations = map[JobKind]keyvault.Operation{
	FullBackup: BackupStart, PreBackup: PreBackupStart, FullRestore: RestoreStart, PreRestore: PreRestoreStart, KeyRestore: KeyRestoreStart,
}

// backs tells whether the kind is one of BackupStatus; the others are of RestoreStatus.
func (k JobKind) backs() bool { return k == FullBackup || k == PreBackup }

// checks tells whether the kind only finds something out, which is to be said at once.
func (k JobKind) checks() bool { return k == PreBackup || k == PreRestore }

// A JobState is how a job is.
type JobState string

// The states of jobs. Only the first is followed by another one.
const (
	Running   JobState = "running"
	Succeeded JobState = "succeeded"
	Failed    JobState = "failed"
)

// A Job is a backup or a restore, or the check whether there could be one. It takes its time and survives the server that runs it.
type Job struct {
	ID      string // 32 hexadecimal digits
	Kind    JobKind
	State   JobState
	Details string // for people
	Code    string // of a failed one, in the words of package backup
	Started int64
	Ended   int64  // 0: not yet
	Folder  string // address of a backup that has succeeded
}

// A SAS is a token that opens a container. It prints as REDACTED.
type SAS string

// Format keeps the token out of whatever prints it.
func (SAS) Format(f fmt.State, _ rune) { fmt.Fprint(f, "REDACTED") }

// StartParams says what a job is to work on.
type StartParams struct {
	Container string // address
	SAS       SAS    // opens it; or
	Identity  bool   // the server's own identity does
	Folder    string // of a restore: name or address; may be empty for a check
	Key       string // of a restore of one key
}

// Limits of jobs.
const (
	// backupBefore is how old the last full backup of an HSM may be when all that is in it is replaced (contract §11).
	backupBefore = 30 * time.Minute

	keepJobs    = 7 * 24 * time.Hour // after their end
	maxAddress  = 2 << 10
	maxSAS      = 4 << 10
	maxAttempts = 6 // that get no further than the one before
)

// jobRecord is a job as it is stored. What is needed while it runs only is gone when it has ended.
type jobRecord struct {
	record.Format
	ID      string   `json:"id"`
	Kind    JobKind  `json:"kind"`
	HSM     string   `json:"hsm"` // its name
	State   JobState `json:"state"`
	Details string   `json:"details,omitempty"`
	Code    string   `json:"code,omitempty"`
	Started int64    `json:"started"`
	Ended   int64    `json:"ended,omitempty"`
	Address string   `json:"address,omitempty"` // of the folder, when a backup has ended

	// Who started it, for the record of how it ended. He may always ask how it goes on.
	ObjectID    string `json:"objectId,omitempty"`
	UPN         string `json:"upn,omitempty"`
	AppID       string `json:"appId,omitempty"`
	Correlation string `json:"correlationId,omitempty"`

	Work *jobWork `json:"work,omitempty"` // while it runs
}

// jobWork is what a job needs while it runs.
type jobWork struct {
	Container string `json:"container,omitempty"`
	SAS       SAS    `json:"sas,omitempty"`
	Identity  bool   `json:"identity,omitempty"`
	Folder    string `json:"folder,omitempty"`
	Key       string `json:"key,omitempty"`

	Owner    string `json:"owner,omitempty"` // the server that runs it
	Until    int64  `json:"until"`           // until when; another one may take it then
	Attempts int    `json:"attempts,omitempty"`

	Writer  *backup.State `json:"writer,omitempty"`  // of a backup
	Content string        `json:"content,omitempty"` // of a full restore: the new content
	Last    string        `json:"last,omitempty"`    // of a full restore: the last name that is in it, or that is scheduled
	Swapped bool          `json:"swapped,omitempty"` // of a full restore: the new content is the HSM's
}

// runningRecord names the one job that an HSM may have at a time.
type runningRecord struct {
	record.Format
	Job string `json:"job"`
}

// lastBackupRecord is when the last full backup of an HSM ended.
type lastBackupRecord struct {
	record.Format
	Ended int64 `json:"ended"`
}

const (
	jobPrefix        = "job/"
	jobRecordPrefix  = jobPrefix + "record/"
	runningPrefix    = jobPrefix + "running/"
	lastBackupPrefix = jobPrefix + "backup/"
)

func jobKey(vaultID, job string) string   { return jobRecordPrefix + vaultID + "/" + job }
func runningKey(vaultID string) string    { return runningPrefix + vaultID }
func lastBackupKey(vaultID string) string { return lastBackupPrefix + vaultID }

// startedBy tells whether the caller has started the job.
func (r *jobRecord) startedBy(caller *identity.Caller, v *resource.Vault) bool {
	return r.ObjectID != "" && r.ObjectID == caller.ObjectID && strings.EqualFold(caller.TenantID, v.TenantID)
}

func (r *jobRecord) job() Job {
	return Job{ID: r.ID, Kind: r.Kind, State: r.State, Details: r.Details, Code: r.Code, Started: r.Started, Ended: r.Ended, Folder: r.Address}
}

// Start starts a job and returns it as it then is. An HSM has one at a time.
func (s *Service) Start(ctx context.Context, caller *identity.Caller, hsm string, kind JobKind, p StartParams) (Job, error) {
	op := operations[kind]
	v, err := s.mayStart(ctx, caller, hsm, op)
	if err != nil {
		return Job{}, err
	}
	rec := &jobRecord{
		Format: record.Current(), ID: record.NewID(), Kind: kind, HSM: v.Name, State: Running, Started: s.now().Unix(),
		ObjectID: caller.ObjectID, UPN: caller.UPN, AppID: caller.AppID, Correlation: audit.CorrelationID(ctx),
		Work: &jobWork{Container: p.Container, SAS: p.SAS, Identity: p.Identity, Folder: p.Folder, Key: strings.ToLower(p.Key)},
	}
	if err := s.checkWork(rec); err != nil {
		return Job{}, err
	}
	if kind == FullRestore {
		rec.Work.Content = record.NewID()
	}
	err = s.db.View(ctx, func(r store.Reader) error { return s.checkStart(r, v, kind) }) // asked again when it counts
	if err == nil {
		err = s.announce(ctx, caller, v, op, rec.about())
	}
	if err != nil {
		return Job{}, err
	}
	err = s.db.Update(ctx, func(tx store.Tx) error {
		v, err := s.inUse(tx, caller, hsm, op)
		if err == nil {
			err = s.checkStart(tx, v, kind)
		}
		if err != nil {
			return err
		}
		return s.enqueue(tx, v, rec)
	})
	if err != nil {
		return Job{}, err
	}
	s.wake()
	return rec.job(), nil
}

// AuthorizeStart is Authorize for Start.
func (s *Service) AuthorizeStart(ctx context.Context, caller *identity.Caller, hsm string, kind JobKind) error {
	_, err := s.mayStart(ctx, caller, hsm, operations[kind])
	return err
}

func (s *Service) mayStart(ctx context.Context, caller *identity.Caller, hsm string, op keyvault.Operation) (v *resource.Vault, err error) {
	err = s.db.View(ctx, func(r store.Reader) (err error) {
		v, err = s.inUse(r, caller, hsm, op)
		return err
	})
	return v, err
}

// inUse is authorize for an HSM that is active.
func (s *Service) inUse(r store.Reader, caller *identity.Caller, hsm string, op keyvault.Operation) (*resource.Vault, error) {
	v, err := s.authorize(r, caller, hsm, op)
	if err == nil {
		err = refusal(v.InUse())
	}
	return v, err
}

// refusal turns a refusal of package resource into one of this package.
func refusal(err error) error {
	var e *resource.Error
	if !errors.As(err, &e) {
		return err
	}
	kinds := map[resource.Kind]keyvault.Kind{resource.HSMNotActivated: keyvault.HSMNotActivated, resource.HSMRestoring: keyvault.HSMRestoring,
		resource.InvalidProperty: keyvault.BadParameter}
	kind, ok := kinds[e.Kind]
	if !ok {
		kind = keyvault.Conflict
	}
	return &keyvault.Error{Kind: kind, Message: e.Message}
}

// checkWork refuses what could not be done whatever the storage answers.
func (s *Service) checkWork(rec *jobRecord) error {
	bad := func(text string) error { return &keyvault.Error{Kind: keyvault.BadParameter, Message: text} }
	w := rec.Work
	switch {
	case len(w.Container) > maxAddress || len(w.Folder) > maxAddress:
		return bad(fmt.Sprintf("The address of the container, and that of the folder, can have %d bytes.", maxAddress))
	case len(w.SAS) > maxSAS:
		return bad(fmt.Sprintf("A SAS token can have %d bytes.", maxSAS))
	case rec.Kind == KeyRestore && keyvault.CheckKeyName(w.Key) != nil:
		return keyvault.CheckKeyName(w.Key)
	case w.Container == "" && rec.Kind.checks():
		w.SAS, w.Folder = "", "" // whether a job could start at all
		return nil
	case w.Container == "":
		return bad("The address of the storage container (storageResourceUri) is missing.")
	case w.SAS == "" && !w.Identity:
		return bad("Neither a SAS token (token) nor useManagedIdentity says how the server gets into the storage container.")
	case w.Folder == "" && (rec.Kind == FullRestore || rec.Kind == KeyRestore):
		return bad("The folder of the backup is missing.")
	}
	c, err := s.container(w)
	if err == nil && w.Folder != "" {
		w.Folder, err = c.Folder(w.Folder)
	}
	var refused *backup.Error
	if errors.As(err, &refused) {
		return bad(refused.Message)
	}
	return err
}

// container opens the container of a job.
func (s *Service) container(w *jobWork) (*backup.Container, error) {
	access := backup.Access{SAS: string(w.SAS)}
	if w.Identity && w.SAS == "" {
		if s.credential == nil {
			return nil, &backup.Error{Code: backup.BadParameter, Message: "This server has no managed identity to use for storage " +
				"(backup.managedIdentity in its configuration). Give a SAS token."}
		}
		access.Credential = s.credential
	}
	return s.storage.Container(w.Container, access)
}

// about is what the audit log has of a job: no secret.
func (r *jobRecord) about() string {
	text := fmt.Sprintf("job: %s; container: %.300s", r.ID, r.Work.Container)
	if r.Work.Folder != "" {
		text += fmt.Sprintf("; folder: %.300s", r.Work.Folder)
	}
	if r.Work.Key != "" {
		text += "; key: " + r.Work.Key
	}
	return text
}

// checkStart refuses a job that the HSM cannot have now: it has one at a time.
func (s *Service) checkStart(r store.Reader, v *resource.Vault, kind JobKind) error {
	other, err := record.Get[runningRecord](r, runningKey(v.ID))
	if err == nil {
		return &keyvault.Error{Kind: keyvault.Conflict, Message: fmt.Sprintf("The managed HSM '%s' has a backup or restore under way, the job "+
			"%s. Wait until it has ended.", v.Name, other.Job)}
	}
	if !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if kind == FullRestore {
		return s.checkRecentBackup(r, v)
	}
	return nil
}

// enqueue stores a new job. That of a full restore takes the HSM.
func (s *Service) enqueue(tx store.Tx, v *resource.Vault, rec *jobRecord) error {
	err := errors.Join(record.Put(tx, jobKey(v.ID, rec.ID), rec), record.Put(tx, runningKey(v.ID), runningRecord{record.Current(), rec.ID}))
	if err == nil && rec.Kind == FullRestore {
		err = errors.Join(keyvault.StageContent(tx, rec.Work.Content, s.now().Add(stageTime)), v.SetRestoring(tx, rec.ID))
	}
	return err
}

// checkRecentBackup demands that what a full restore replaces is not lost.
func (s *Service) checkRecentBackup(r store.Reader, v *resource.Vault) error {
	last, err := record.Get[lastBackupRecord](r, lastBackupKey(v.ID))
	if err == nil && s.now().Unix()-last.Ended <= int64(backupBefore/time.Second) {
		return nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	return &keyvault.Error{Kind: keyvault.BadParameter, Message: fmt.Sprintf("A full restore replaces everything in the managed HSM '%s', so "+
		"at least one full backup of it must have been taken within the last %d minutes. Take one, and start the restore again.", v.Name,
		int(backupBefore/time.Minute))}
}

// JobStatus returns a job, for op BackupStatus or RestoreStatus.
func (s *Service) JobStatus(ctx context.Context, caller *identity.Caller, hsm, id string, op keyvault.Operation) (Job, error) {
	var job Job
	err := s.db.View(ctx, func(r store.Reader) error {
		v, denial := s.authorize(r, caller, hsm, op)
		if v == nil {
			var err error
			if v, err = s.resources.LoadHSM(r, hsm); err != nil {
				return denial
			}
		}
		rec, err := record.Get[jobRecord](r, jobKey(v.ID, strings.ToLower(id)))
		found := err == nil && rec.Kind.backs() == (op == BackupStatus)
		switch {
		case err != nil && !errors.Is(err, store.ErrNotFound):
			return err
		case denial != nil && !(found && rec.startedBy(caller, v)): // whose roles the restore may have replaced
			return denial
		case !found:
			return &keyvault.Error{Kind: keyvault.NotFound, Message: fmt.Sprintf("There is no job %.64q in the managed HSM '%s'. Jobs are kept for "+
				"%d days after their end.", id, v.Name, int(keepJobs/(24*time.Hour)))}
		}
		job = rec.job()
		return nil
	})
	return job, err
}

// purgedJobs removes what the jobs of an HSM need while it is there. What is left of those that ended is dropped when it is old.
func purgedJobs(tx store.Tx, vaultID string) error {
	running, err := record.Get[runningRecord](tx, runningKey(vaultID))
	switch {
	case errors.Is(err, store.ErrNotFound):
		return tx.Delete(lastBackupKey(vaultID))
	case err != nil: // damaged; a purge is no less one for that
		return errors.Join(tx.Delete(runningKey(vaultID)), tx.Delete(lastBackupKey(vaultID)))
	}
	return errors.Join(tx.Delete(jobKey(vaultID, running.Job)), tx.Delete(runningKey(vaultID)), tx.Delete(lastBackupKey(vaultID)))
}

// checkJobRecord reads a record of a job with the code that would use it.
func checkJobRecord(key string, value []byte) (err error) {
	switch {
	case strings.HasPrefix(key, jobRecordPrefix):
		var rec *jobRecord
		if rec, err = record.Decode[jobRecord](value); err == nil && !strings.HasSuffix(key, "/"+rec.ID) {
			err = errors.New("has the id of another job in it")
		}
	case strings.HasPrefix(key, runningPrefix):
		_, err = record.Decode[runningRecord](value)
	case strings.HasPrefix(key, lastBackupPrefix):
		_, err = record.Decode[lastBackupRecord](value)
	default:
		err = errors.New("is not a record of this release")
	}
	return err
}
