package arm

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/url"
	"time"

	"github.com/strongroom/strongroom/internal/resource"
)

// Long operations. Everything here is done when the answer leaves, but clients expect 202 with a Location and ask there until
// it answers 200. Nothing is remembered for them: the Location names what was asked for, and is answered from what there is
// now, to whoever may look at it. So any server of a cluster can answer it, whenever it is asked, and one that somebody
// made up tells nothing that could not be asked for directly.

// What an operation was.
const (
	opPut    = "put"
	opDelete = "delete"
	opPurge  = "purge"
)

// An operation is what a Location names.
type operation struct {
	Kind  string `json:"k"`
	Group string `json:"g,omitempty"`
	Name  string `json:"n"`
	Start int64  `json:"t"`
}

// Collections of operations' results.
const (
	vaultOperations = "operationResults"
	hsmOperations   = "managedHsmOperationResults"
)

// accepted answers 202.
func (q *request) accepted(collection string, op operation, location string) (response, error) {
	op.Start = q.outcome.Start.Unix()
	token, err := json.Marshal(op)
	if err != nil {
		return response{}, err
	}
	return response{
		status: http.StatusAccepted,
		location: q.base + q.subscriptionID() + "/providers/Microsoft.KeyVault/locations/" + url.PathEscape(locationName(location)) + "/" +
			collection + "/" + base64.RawURLEncoding.EncodeToString(token) + "?api-version=" + url.QueryEscape(q.outcome.APIVersion),
	}, nil
}

var errNoOperation = &wireError{status: http.StatusNotFound, code: "OperationNotFound", message: "There is no such operation."}

// operation reads the token in the path.
func (q *request) operation() (op operation, err error) {
	token, err := base64.RawURLEncoding.DecodeString(q.params.id)
	if err != nil {
		return op, errNoOperation
	}
	if err := json.Unmarshal(token, &op); err != nil || !plain(op.Name) || op.Group != "" && !plain(op.Group) {
		return op, errNoOperation
	}
	return op, nil
}

type operationStatus struct {
	Created    string `json:"createdDateTime"`
	LastAction string `json:"lastActionDateTime,omitempty"`
	Status     string `json:"status"`
}

// vaultOperationResult answers for the purge of a vault: it has succeeded when the vault is deleted no longer.
func vaultOperationResult(q *request) (response, error) {
	op, err := q.operation()
	if err != nil {
		return response{}, err
	}
	if op.Kind != opPurge {
		return response{}, errNoOperation
	}
	done, err := gone(q.resources().GetDeletedVault(q.ctx, q.actor(), q.params.location, op.Name))
	if err != nil {
		return response{}, err
	}
	began := time.Unix(op.Start, 0).UTC().Format("2006-01-02 15:04:05Z")
	if !done {
		resp, err := reply(http.StatusAccepted, operationStatus{Created: began, Status: "NotStarted"})
		resp.location = q.base + q.r.URL.RequestURI()
		return resp, err
	}
	return reply(http.StatusOK, operationStatus{began, began, "Succeeded"})
}

// hsmOperationResult answers with the HSM that was made, or without a body when the HSM has gone.
func hsmOperationResult(q *request) (response, error) {
	op, err := q.operation()
	if err != nil {
		return response{}, err
	}
	var done bool
	switch op.Kind {
	case opPut:
		v, err := q.resources().GetHSM(q.ctx, q.actor(), op.Group, op.Name)
		if err != nil {
			return response{}, err
		}
		return reply(http.StatusOK, q.hsmResource(v))
	case opDelete:
		done, err = gone(q.resources().GetHSM(q.ctx, q.actor(), op.Group, op.Name))
	case opPurge:
		done, err = gone(q.resources().GetDeletedHSM(q.ctx, q.actor(), q.params.location, op.Name))
	default:
		err = errNoOperation
	}
	if err != nil {
		return response{}, err
	}
	if !done {
		return response{status: http.StatusAccepted, location: q.base + q.r.URL.RequestURI()}, nil
	}
	return response{status: http.StatusOK}, nil
}

// gone tells whether looking at something has found that it is not there.
func gone(_ *resource.Vault, err error) (bool, error) {
	for _, kind := range []resource.Kind{resource.ResourceNotFound, resource.SoftDeletedVaultDoesNotExist, resource.ResourceGroupNotFound} {
		if resource.IsKind(err, kind) {
			return true, nil
		}
	}
	return false, err
}
