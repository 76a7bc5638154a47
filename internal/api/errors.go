package api

import (
	"errors"
	"net/http"
	"strings"

	"github.com/strongroom/strongroom/internal/admission"
	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire"
)

// A wireError is a refusal that the wire itself makes, as it is answered.
type wireError struct {
	status      int
	code, inner string
	message     string
}

func (e *wireError) Error() string { return e.message }

var (
	errUnauthorized = &wireError{http.StatusUnauthorized, "Unauthorized", "",
		"AKV10000: Request is missing a Bearer or PoP token."}
	errThrottled = &wireError{http.StatusTooManyRequests, "Throttled", "", "Request was not processed because too many " +
		"requests were received. Reason: VaultRequestTypeLimitReached"}
	errNotRecorded        = &wireError{http.StatusServiceUnavailable, "ServiceUnavailable", "", wire.NotRecorded}
	errOutcomeNotRecorded = &wireError{http.StatusServiceUnavailable, "ServiceUnavailable", "", wire.OutcomeNotRecorded}
	errInternal           = &wireError{http.StatusInternalServerError, "InternalServerError", "",
		"The service failed. The operator finds the cause in the log under the request id of this answer."}
)

// kinds is the one table from a refusal's kind to its answer (contract §14).
var kinds = map[keyvault.Kind]wireError{
	keyvault.BadParameter:          {status: http.StatusBadRequest, code: "BadParameter"},
	keyvault.VaultNotFound:         {status: http.StatusNotFound, code: "VaultNotFound"},
	keyvault.NotFound:              {status: http.StatusNotFound, code: "NotFound"}, // with the kind of object in front
	keyvault.AccessDenied:          {status: http.StatusForbidden, code: "Forbidden", inner: "ForbiddenByPolicy"},
	keyvault.AccessDeniedByRole:    {status: http.StatusForbidden, code: "Forbidden", inner: "ForbiddenByRbac"},
	keyvault.AccessDeniedInHSM:     {status: http.StatusForbidden, code: "AccessDenied"},
	keyvault.ForbiddenByFirewall:   {status: http.StatusForbidden, code: "Forbidden", inner: "ForbiddenByFirewall"},
	keyvault.ForbiddenByConnection: {status: http.StatusForbidden, code: "Forbidden", inner: "ForbiddenByConnection"},
	keyvault.Disabled:              {status: http.StatusForbidden, code: "Forbidden", inner: "Disabled"},
	keyvault.Managed:               {status: http.StatusForbidden, code: "Forbidden", inner: "ManagedByKeyVault"},
	keyvault.PurgeProtected:        {status: http.StatusForbidden, code: "Forbidden"},
	keyvault.NotDeleted:            {status: http.StatusBadRequest, code: "MethodNotAllowed", inner: "RequestNotAllowedOnNonDeletedObject"},
	keyvault.DeletedButRecoverable: {status: http.StatusConflict, code: "Conflict", inner: "ObjectIsDeletedButRecoverable"},
	keyvault.Conflict:              {status: http.StatusConflict, code: "Conflict"},
	keyvault.OperationForbidden:    {status: http.StatusForbidden, code: "Forbidden", inner: "OperationForbidden"},
	keyvault.NotYetValid:           {status: http.StatusForbidden, code: "Forbidden", inner: "NotYetValid"},
	keyvault.Expired:               {status: http.StatusForbidden, code: "Forbidden", inner: "Expired"},
	keyvault.Busy:                  {status: http.StatusTooManyRequests, code: "Throttled"},
	keyvault.NotAttested:           {status: http.StatusForbidden, code: "Forbidden", inner: "AccessDenied"},
	keyvault.Unreachable:           {status: http.StatusServiceUnavailable, code: "ServiceUnavailable"},
	keyvault.HSMNotActivated:       {status: http.StatusForbidden, code: "Forbidden", inner: "HsmNotActivated"},
	keyvault.HSMRestoring:          {status: http.StatusConflict, code: "Conflict"},
}

// localKinds is the same for refusals about the roles and settings of a managed HSM itself.
var localKinds = map[resource.Kind]wireError{
	resource.BadRequest:                       {status: http.StatusBadRequest, code: "BadParameter"},
	resource.InvalidProperty:                  {status: http.StatusBadRequest, code: "BadParameter"},
	resource.BuiltInRole:                      {status: http.StatusBadRequest, code: "BadParameter"},
	resource.LimitExceeded:                    {status: http.StatusBadRequest, code: "BadParameter"},
	resource.RoleAssignmentExists:             {status: http.StatusBadRequest, code: "RoleAssignmentExists"},
	resource.HSMNotFound:                      {status: http.StatusNotFound, code: "VaultNotFound"},
	resource.RoleAssignmentNotFound:           {status: http.StatusNotFound, code: "RoleAssignmentNotFound"},
	resource.RoleDefinitionDoesNotExist:       {status: http.StatusNotFound, code: "RoleDefinitionNotFound"},
	resource.SettingNotFound:                  {status: http.StatusNotFound, code: "SettingNotFound"},
	resource.RoleDefinitionWithSameNameExists: {status: http.StatusConflict, code: "Conflict"},
	resource.RoleDefinitionHasAssignments:     {status: http.StatusConflict, code: "Conflict"},
	resource.ConflictError:                    {status: http.StatusConflict, code: "Conflict"},
	resource.LocalAccessDenied:                {status: http.StatusForbidden, code: "AccessDenied"},
	resource.HSMNotActivated:                  {status: http.StatusForbidden, code: "Forbidden", inner: "HsmNotActivated"},
	resource.HSMRestoring:                     {status: http.StatusConflict, code: "Conflict"},
}

// objectWords are the kinds of objects as codes spell them: SecretNotFound, SecretDisabled, SecretManagedByKeyVault.
var objectWords = map[keyvault.ObjectKind]string{keyvault.SecretKind: "Secret", keyvault.KeyKind: "Key"}

// onWire maps any error to its answer. What nobody classified is a bare 500 whose cause is only in the log.
func onWire(err error) *wireError {
	var (
		answer  *wireError
		request *wire.Error
		refused *keyvault.Error
		local   *resource.Error
		token   *identity.TokenError
		method  *methodError
	)
	switch {
	case errors.Is(err, wire.ErrNoToken):
		return errUnauthorized
	case errors.Is(err, admission.ErrThrottled):
		return errThrottled
	case errors.As(err, &answer):
		return answer
	case errors.As(err, &request):
		return &wireError{http.StatusBadRequest, "BadParameter", "", request.Message}
	case errors.As(err, &refused):
		e, ok := kinds[refused.Kind]
		if !ok {
			return errInternal
		}
		word := objectWords[refused.Object]
		switch refused.Kind {
		case keyvault.NotFound:
			e.code = word + e.code
		case keyvault.Disabled, keyvault.Managed, keyvault.OperationForbidden, keyvault.NotYetValid, keyvault.Expired:
			e.inner = word + e.inner
		}
		e.message = refused.Message
		return &e
	case errors.As(err, &local):
		e, ok := localKinds[local.Kind]
		if !ok {
			return errInternal
		}
		e.message = local.Message
		return &e
	case errors.As(err, &token):
		return &wireError{http.StatusUnauthorized, "Unauthorized", "", token.Error()}
	case errors.As(err, &method):
		return &wireError{http.StatusMethodNotAllowed, "MethodNotAllowed", "", method.Error()}
	}
	if message, ok := wire.Unavailable(err); ok {
		return &wireError{http.StatusServiceUnavailable, "ServiceUnavailable", "", message}
	}
	return errInternal
}

// retryAfter is when a throttled request may succeed, in seconds. Making a key takes some.
func retryAfter(err error) string {
	var refused *keyvault.Error
	if errors.As(err, &refused) && refused.Kind == keyvault.Busy {
		return "5"
	}
	return "1"
}

// refusal is the answer to an error, with the headers that belong to its status.
func (q *request) refusal(err error) response {
	e := onWire(err)
	h := q.w.Header()
	switch e.status {
	case http.StatusUnauthorized:
		h["WWW-Authenticate"] = []string{q.challenge()}
	case http.StatusTooManyRequests:
		h["Retry-After"] = []string{retryAfter(err)}
	case http.StatusMethodNotAllowed:
		var method *methodError
		if errors.As(err, &method) {
			h["Allow"] = []string{strings.Join(method.allowed, ", ")}
		}
	case http.StatusInternalServerError:
		q.h.cfg.Logger.ErrorContext(q.ctx, "a request failed", "operation", q.outcome.Operation, "error", err)
	}
	body := errorBody{Error: errorDetail{Code: e.code, Message: e.message}}
	if q.hsm { // recorded
		body.Error.Message += " (Activity ID: " + audit.CorrelationID(q.ctx) + ")"
	}
	if e.inner != "" {
		body.Error.Inner = &innerError{e.inner}
	}
	resp, err := jsonResponse(e.status, body)
	if err != nil {
		panic(err) // strings only
	}
	return resp
}

type errorBody struct {
	Error errorDetail `json:"error"`
}

type errorDetail struct {
	Code    string      `json:"code"`
	Message string      `json:"message"`
	Inner   *innerError `json:"innererror,omitempty"`
}

type innerError struct {
	Code string `json:"code"`
}

// A Refusal is a row of the documentation's table of errors.
type Refusal struct {
	Status            int
	Code, Inner, When string
}

// Refusals lists what can be answered instead of a success, for the documentation.
func Refusals() []Refusal {
	objects := []keyvault.ObjectKind{keyvault.SecretKind, keyvault.KeyKind}
	keys := []keyvault.ObjectKind{keyvault.KeyKind}
	none := []keyvault.ObjectKind{""}
	when := []struct {
		kind    keyvault.Kind
		objects []keyvault.ObjectKind // whose kinds are in the code
		text    string
	}{
		{keyvault.BadParameter, none, "the request is wrong; the message says how"},
		{keyvault.NotDeleted, none, "recover of an object that is not deleted"},
		{keyvault.AccessDenied, none, "the caller may not, by the vault's access policies"},
		{keyvault.AccessDeniedByRole, none, "the caller may not, by role assignments"},
		{keyvault.AccessDeniedInHSM, none, "the caller may not, by the local roles of the managed HSM"},
		{keyvault.HSMNotActivated, none, "the managed HSM has no security domain yet"},
		{keyvault.ForbiddenByFirewall, none, "the vault's network rules do not let the caller's address in"},
		{keyvault.ForbiddenByConnection, none, "the vault's public network access is disabled"},
		{keyvault.Disabled, objects, "the version is disabled"},
		{keyvault.NotYetValid, keys, "encrypt, wrap or sign before the version's `nbf`"},
		{keyvault.Expired, keys, "encrypt, wrap or sign after the version's `exp`"},
		{keyvault.OperationForbidden, keys, "the operation is not in `key_ops`, or the key is not exportable"},
		{keyvault.NotAttested, none, "the target of a release is not what the key's policy wants"},
		{keyvault.Managed, objects, "the object belongs to a certificate"},
		{keyvault.PurgeProtected, none, "purge in a vault with purge protection"},
		{keyvault.NotFound, objects, "no such object or version"},
		{keyvault.VaultNotFound, none, "no such vault or managed HSM"},
		{keyvault.DeletedButRecoverable, none, "the name belongs to a soft-deleted object"},
		{keyvault.Conflict, none, "restore over a name that is in use, the object was changed meanwhile, or the managed HSM has its security domain already"},
		{keyvault.HSMRestoring, none, "the managed HSM is being restored; the message names the job"},
		{keyvault.Busy, none, "too many keys are being made; `Retry-After` says when"},
		{keyvault.Unreachable, none, "an attestation authority cannot be reached"},
	}
	out := []Refusal{
		{errUnauthorized.status, errUnauthorized.code, "", "no token, or one that is refused; always with a challenge"},
	}
	for _, w := range when {
		for _, object := range w.objects {
			e := onWire(&keyvault.Error{Kind: w.kind, Object: object})
			out = append(out, Refusal{e.status, e.code, e.inner, w.text})
		}
	}
	for _, w := range []struct {
		kind resource.Kind
		text string
	}{
		{resource.RoleAssignmentExists, "the principal has that role of the managed HSM at that scope"},
		{resource.RoleAssignmentNotFound, "no such role assignment of the managed HSM, or none that the caller may see"},
		{resource.RoleDefinitionDoesNotExist, "no such role of the managed HSM"},
		{resource.SettingNotFound, "no such setting of the managed HSM"},
		{resource.ConflictError, "a role that is assigned, a name that is in use, or a change after which nobody could assign roles"},
	} {
		e := onWire(&resource.Error{Kind: w.kind})
		out = append(out, Refusal{e.status, e.code, e.inner, w.text})
	}
	return append(out,
		Refusal{errNoDomain.status, errNoDomain.code, "", "the status of a download or an upload before there was one"},
		Refusal{http.StatusNotFound, "ResourceNotFound", "", "no such path"},
		Refusal{http.StatusMethodNotAllowed, "MethodNotAllowed", "", "the path has no such method; `Allow` names those it has"},
		Refusal{http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "", "the body is longer than allowed"},
		Refusal{http.StatusMisdirectedRequest, "HostNotFound", "", "the host is none of this server"},
		Refusal{errThrottled.status, errThrottled.code, "", "too many requests of one principal at a time, or too many without a token from one address; `Retry-After` says when"},
		Refusal{errInternal.status, errInternal.code, "", "a fault of the server, whose cause is in its log under `x-ms-request-id`"},
		Refusal{errNotRecorded.status, errNotRecorded.code, "", "audit log, storage or token issuer cannot be reached; nothing was changed unless the message says otherwise"},
	)
}
