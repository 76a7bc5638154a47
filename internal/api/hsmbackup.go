package api

import (
	"net/http"
	"strings"

	"github.com/strongroom/strongroom/internal/managedhsm"
	"github.com/strongroom/strongroom/internal/wire"
)

// Full backups and restores of managed HSMs (contract §11). A request starts a job, and the client asks for its state until it has ended.

// maxStorage is for an address and a SAS token, with each byte escaped as six.
const maxStorage = 64 << 10

// askAgain is after how many seconds a client should ask for a job that has not ended.
const askAgain = "1"

func backupRoutes() []route {
	starts := func(kind managedhsm.JobKind, method, pattern string, handle handler) route {
		return route{Operation: managedhsm.OperationOf(kind), Method: method, Pattern: pattern, Success: 202, MaxBody: maxStorage, Family: hsms, handle: handle}
	}
	return []route{
		starts(managedhsm.FullBackup, "POST", "/backup", startBackup(managedhsm.FullBackup)),
		starts(managedhsm.PreBackup, "POST", "/prebackup", startBackup(managedhsm.PreBackup)),
		{Operation: managedhsm.BackupStatus, Method: "GET", Pattern: "/backup/{job}/pending", Success: 200, Family: hsms, AnyVersion: true, handle: jobStatus},
		starts(managedhsm.FullRestore, "PUT", "/restore", startRestore(managedhsm.FullRestore, "folderToRestore")),
		starts(managedhsm.PreRestore, "PUT", "/prerestore", startRestore(managedhsm.PreRestore, "folderToRestore")),
		starts(managedhsm.KeyRestore, "PUT", "/keys/{name}/restore", startRestore(managedhsm.KeyRestore, "folder")),
		{Operation: managedhsm.RestoreStatus, Method: "GET", Pattern: "/restore/{job}/pending", Success: 200, Family: hsms, AnyVersion: true, handle: jobStatus},
	}
}

// The members stand in the order in which the service sends them, which is another one when a backup is started.

type startedBackup struct {
	Status       string    `json:"status"`
	Details      *string   `json:"statusDetails"`
	Error        *jobError `json:"error"`
	Start        int64     `json:"startTime"`
	End          *int64    `json:"endTime"`
	Job          string    `json:"jobId"`
	ContainerURI *string   `json:"azureStorageBlobContainerUri"`
}

type backupState struct {
	ContainerURI *string `json:"azureStorageBlobContainerUri"`
	restoreState
}

type restoreState struct {
	End     *int64    `json:"endTime"`
	Error   *jobError `json:"error"`
	Job     string    `json:"jobId"`
	Start   int64     `json:"startTime"`
	Status  string    `json:"status"`
	Details *string   `json:"statusDetails"`
}

type jobError struct {
	Code    string    `json:"code"`
	Inner   *struct{} `json:"innererror"`
	Message string    `json:"message"`
}

var jobStates = map[managedhsm.JobState]string{managedhsm.Running: "InProgress", managedhsm.Succeeded: "Succeeded", managedhsm.Failed: "Failed"}

func showRestore(j managedhsm.Job) restoreState {
	out := restoreState{Job: j.ID, Start: j.Started, Status: jobStates[j.State], Details: textOrNull(j.Details)}
	if j.Ended != 0 {
		out.End = &j.Ended
	}
	if j.State == managedhsm.Failed {
		out.Error, out.Details = &jobError{Code: j.Code, Message: j.Details}, &j.Code
	}
	return out
}

func showBackup(j managedhsm.Job) backupState {
	return backupState{textOrNull(j.Folder), showRestore(j)}
}

func textOrNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// startBackup answers for /backup and /prebackup.
func startBackup(kind managedhsm.JobKind) handler {
	return func(q *request) (response, error) {
		body, err := q.storageBody(kind)
		if err != nil {
			return response{}, err
		}
		p, err := readStorage(body)
		if err != nil {
			return response{}, err
		}
		j, err := q.start(kind, p, "/backup/")
		if err != nil {
			return response{}, err
		}
		s := showBackup(j)
		return jsonResponse(http.StatusAccepted, startedBackup{s.Status, s.Details, s.Error, s.Start, s.End, s.Job, s.ContainerURI})
	}
}

// startRestore answers for /restore, /prerestore and the restore of one key. They differ in the name of the member for the folder.
func startRestore(kind managedhsm.JobKind, folder string) handler {
	return func(q *request) (response, error) {
		body, err := q.storageBody(kind)
		if err != nil {
			return response{}, err
		}
		const storage = "sasTokenParameters"
		inner, ok, err := body.Object(storage)
		if err == nil && !ok && kind != managedhsm.PreRestore {
			err = body.Missing(storage)
		}
		var p managedhsm.StartParams
		if err == nil && ok {
			p, err = readStorage(inner)
		}
		if err != nil {
			return response{}, err
		}
		if p.Folder, err = body.TextOrNone(folder); err != nil {
			return response{}, err
		}
		p.Key = q.params.name
		j, err := q.start(kind, p, "/restore/")
		return answered(http.StatusAccepted, j, err, showRestore)
	}
}

// storageBody is body for what starts a job. What only checks something may have none.
func (q *request) storageBody(kind managedhsm.JobKind) (wire.Object, error) {
	if err := q.h.cfg.HSMs.AuthorizeStart(q.ctx, q.caller, q.vault, kind); err != nil {
		return wire.Object{}, err
	}
	if q.r.ContentLength == 0 && (kind == managedhsm.PreBackup || kind == managedhsm.PreRestore) {
		return wire.ParseObject([]byte("{}"), maxMembers)
	}
	return q.readBody()
}

// readStorage reads where a backup is, and what opens that.
func readStorage(o wire.Object) (p managedhsm.StartParams, err error) {
	if p.Container, err = o.TextOrNone("storageResourceUri"); err != nil {
		return p, err
	}
	token, err := o.TextOrNone("token")
	if err != nil {
		return p, err
	}
	own, err := o.Boolean("useManagedIdentity")
	if err != nil {
		return p, err
	}
	p.SAS, p.Identity = managedhsm.SAS(token), own != nil && *own
	return p, nil
}

// start starts a job and says where its state is asked for: without an api-version, as recorded.
func (q *request) start(kind managedhsm.JobKind, p managedhsm.StartParams, below string) (managedhsm.Job, error) {
	j, err := q.h.cfg.HSMs.Start(q.ctx, q.caller, q.vault, kind, p)
	if err != nil {
		return j, err
	}
	q.outcome.Detail = "job: " + j.ID
	h := q.w.Header()
	h["Azure-Asyncoperation"] = []string{q.base + below + j.ID + "/pending"}
	h["Retry-After"] = []string{askAgain}
	return j, nil
}

func jobStatus(q *request) (response, error) {
	j, err := q.h.cfg.HSMs.JobStatus(q.ctx, q.caller, q.vault, strings.ToLower(q.params.job), q.route.Operation)
	if err == nil && j.State == managedhsm.Running {
		q.w.Header()["Retry-After"] = []string{askAgain}
	}
	if q.route.Operation.Name == managedhsm.BackupStatus.Name {
		return answered(http.StatusOK, j, err, showBackup)
	}
	return answered(http.StatusOK, j, err, showRestore)
}
