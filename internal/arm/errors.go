package arm

import (
	"cmp"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/admission"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire"
)

// A wireError is a refusal as it is answered.
type wireError struct {
	status                int
	code, message, target string
}

func (e *wireError) Error() string { return e.message }

func badRequest(format string, args ...any) error {
	return &wireError{status: http.StatusBadRequest, code: "BadRequest", message: sprintf(format, args...)}
}

var (
	errNoToken = &wireError{status: http.StatusUnauthorized, code: "AuthenticationFailed",
		message: "Authentication failed. The 'Authorization' header is missing."}
	errThrottled = &wireError{status: http.StatusTooManyRequests, code: "TooManyRequests",
		message: "Too many requests of this principal are being worked on. Try again later."}
	errInternal = &wireError{status: http.StatusInternalServerError, code: "InternalServerError",
		message: "The service failed. The operator finds the cause in the log under the request id of this answer."}
)

// An answer is how a kind of refusal looks, and when it comes, for the documentation.
type answer struct {
	status     int
	code, when string
}

// kinds is the one table from a refusal's kind to its answer (contract §14).
var kinds = map[resource.Kind]answer{
	resource.BadRequest:                       {400, "BadRequest", "the request is wrong; the message says how"},
	resource.InvalidName:                      {400, "VaultNameNotValid", "no vault and no managed HSM can have that name"},
	resource.InvalidProperty:                  {400, "InvalidRequestContent", "a property cannot have that value; `target` names it"},
	resource.SubscriptionNotFound:             {404, "SubscriptionNotFound", "it is not the installation's subscription"},
	resource.ResourceGroupNotFound:            {404, "ResourceGroupNotFound", "no such resource group"},
	resource.ResourceNotFound:                 {404, "ResourceNotFound", "no such vault or managed HSM in that group"},
	resource.RoleAssignmentNotFound:           {404, "RoleAssignmentNotFound", "no such role assignment"},
	resource.RoleDefinitionDoesNotExist:       {404, "RoleDefinitionDoesNotExist", "no such role"},
	resource.SoftDeletedVaultDoesNotExist:     {404, "DeletedVaultNotFound", "nothing of that name is deleted and recoverable"},
	resource.AuthorizationFailed:              {403, "AuthorizationFailed", "the caller may not"},
	resource.VaultAlreadyExists:               {409, "VaultAlreadyExists", "the name is in use, in another group or by something that is soft-deleted"},
	resource.ConflictError:                    {409, "ConflictError", "the resource is in another state than the request needs"},
	resource.GroupNotEmpty:                    {409, "ResourceGroupNotEmpty", "something was made in the group while it was being deleted"},
	resource.PurgeProtected:                   {409, "DeletedVaultPurge", "purge protection: only time purges it"},
	resource.RoleAssignmentExists:             {409, "RoleAssignmentExists", "the principal has that role at that scope"},
	resource.RoleAssignmentUpdateNotPermitted: {400, "RoleAssignmentUpdateNotPermitted", "role, principal and scope of an assignment do not change"},
	resource.RoleDefinitionWithSameNameExists: {409, "RoleDefinitionWithSameNameExists", "another role has that name"},
	resource.RoleDefinitionHasAssignments:     {400, "RoleDefinitionHasAssignments", "the role is assigned"},
	resource.BuiltInRole:                      {400, "InvalidRoleDefinitionId", "built-in roles do not change"},
	resource.LimitExceeded:                    {400, "RoleAssignmentLimitExceeded", "there are as many as there can be"},
	resource.SkuNotSupported:                  {400, "SkuNotSupported", "there is no such SKU"},
	resource.LocationNotAvailable:             {400, "LocationNotAvailableForResourceType", "the installation has no such location"},
}

// objectKinds is the same for refusals about what is in a vault.
var objectKinds = map[keyvault.Kind]answer{
	keyvault.BadParameter:          {400, "BadRequest", "the key or secret cannot be as it is asked for"},
	keyvault.VaultNotFound:         {404, "ResourceNotFound", "the vault has been deleted meanwhile"},
	keyvault.NotFound:              {404, "NotFound", "no such key or secret, or no such version"},
	keyvault.AccessDenied:          {403, "Forbidden", "the caller may not do that in the vault"},
	keyvault.ForbiddenByFirewall:   {403, "Forbidden", "the vault's network rules do not let that address in"},
	keyvault.ForbiddenByConnection: {403, "Forbidden", "the vault's `publicNetworkAccess` is Disabled"},
	keyvault.Disabled:              {403, "Forbidden", "the version is disabled"},
	keyvault.Managed:               {403, "Forbidden", "the object belongs to a certificate"},
	keyvault.DeletedButRecoverable: {409, "ConflictError", "the name belongs to a soft-deleted object"},
	keyvault.Conflict:              {409, "ConflictError", "the object was changed meanwhile"},
	keyvault.Busy:                  {429, "TooManyRequests", "too many keys are being made; `Retry-After` says when"},
}

// onWire maps any error to its answer. What nobody classified is a bare 500 whose cause is only in the log.
func onWire(err error) *wireError {
	var (
		answered *wireError
		request  *wire.Error
		refused  *resource.Error
		object   *keyvault.Error
		token    *identity.TokenError
		method   *methodError
	)
	switch {
	case errors.Is(err, wire.ErrNoToken):
		return errNoToken
	case errors.Is(err, admission.ErrThrottled):
		return errThrottled
	case errors.As(err, &answered):
		return answered
	case errors.As(err, &request):
		return &wireError{http.StatusBadRequest, "InvalidRequestContent", request.Message, ""}
	case errors.As(err, &refused):
		if a, ok := kinds[refused.Kind]; ok {
			return &wireError{a.status, a.code, refused.Message, refused.Target}
		}
	case errors.As(err, &object):
		if a, ok := objectKinds[object.Kind]; ok {
			return &wireError{a.status, a.code, object.Message, ""}
		}
	case errors.As(err, &token):
		return &wireError{http.StatusUnauthorized, tokenCode(token), token.Error(), ""}
	case errors.As(err, &method):
		return &wireError{http.StatusMethodNotAllowed, "MethodNotAllowed", method.Error(), ""}
	}
	if message, ok := wire.Unavailable(err); ok {
		return &wireError{http.StatusServiceUnavailable, "ServiceUnavailable", message, ""}
	}
	return errInternal
}

// tokenCode is Resource Manager's word for why a token is refused.
func tokenCode(err *identity.TokenError) string {
	switch err.Code {
	case identity.CodeExpired:
		return "ExpiredAuthenticationToken"
	case identity.CodeAudience:
		return "InvalidAuthenticationTokenAudience"
	case identity.CodeTenant, identity.CodeIssuer:
		return "InvalidAuthenticationTokenTenant"
	}
	return "InvalidAuthenticationToken"
}

// refusal is the answer to an error, with the headers that belong to its status.
func (q *request) refusal(err error) response {
	e := onWire(err)
	h := q.w.Header()
	switch e.status {
	case http.StatusUnauthorized:
		h["WWW-Authenticate"] = []string{q.challenge(e.message)}
	case http.StatusTooManyRequests:
		h["Retry-After"] = []string{"5"}
	case http.StatusMethodNotAllowed:
		var method *methodError
		if errors.As(err, &method) {
			h["Allow"] = []string{strings.Join(method.allowed, ", ")}
		}
	case http.StatusInternalServerError:
		q.h.cfg.Logger.ErrorContext(q.ctx, "a request failed", "operation", q.outcome.Operation, "error", err)
	}
	if q.r != nil && q.r.Method == http.MethodHead {
		return response{status: e.status}
	}
	var body errorBody
	body.Error.Code, body.Error.Message, body.Error.Target = e.code, e.message, e.target
	resp, err := reply(e.status, body)
	if err != nil {
		panic(err) // strings only
	}
	return resp
}

type errorBody struct {
	Error struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Target  string `json:"target,omitempty"`
	} `json:"error"`
}

// A Refusal is a row of the documentation's table of errors.
type Refusal struct {
	Status     int
	Code, When string
}

// Refusals lists what can be answered instead of a success, for the documentation.
func Refusals() []Refusal {
	out := []Refusal{
		{http.StatusUnauthorized, errNoToken.code, "no token; always with a challenge"},
		{http.StatusUnauthorized, "InvalidAuthenticationToken", "a token that is refused, with a suffix that says why; always with a challenge"},
		{http.StatusBadRequest, "MissingApiVersionParameter", "no `api-version`"},
		{http.StatusBadRequest, "InvalidApiVersionParameter", "an `api-version` that is none"},
		{http.StatusBadRequest, "NoRegisteredProviderFound", "a version that Microsoft.KeyVault does not have"},
		{http.StatusBadRequest, "InvalidFilterInQueryString", "a `$filter` that is not understood; the message says which are"},
		{http.StatusBadRequest, "InvalidScope", "a path in front of `providers/Microsoft.Authorization` that is no scope"},
		{http.StatusNotFound, "InvalidResourceType", "no such path"},
		{http.StatusNotFound, "InvalidResourceNamespace", "no such provider"},
		{http.StatusNotFound, errNoOperation.code, "a Location that was not handed out"},
		{http.StatusNotFound, "Request_ResourceNotFound", "the directory does not know the principal"},
		{http.StatusMethodNotAllowed, "MethodNotAllowed", "the path has no such method; `Allow` names those it has"},
		{http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "the body is longer than allowed"},
		{http.StatusTooManyRequests, errThrottled.code, "too many requests of one principal at a time; `Retry-After` says when"},
		{http.StatusInternalServerError, errInternal.code, "a fault of the server, whose cause is in its log under `x-ms-request-id`"},
		{http.StatusServiceUnavailable, "ServiceUnavailable", "audit log, storage or token issuer cannot be reached; nothing was changed unless the message says otherwise"},
	}
	for _, a := range kinds {
		out = append(out, Refusal{a.status, a.code, a.when})
	}
	for _, a := range objectKinds {
		out = append(out, Refusal{a.status, a.code, a.when})
	}
	slices.SortFunc(out, func(a, b Refusal) int {
		return cmp.Or(cmp.Compare(a.Status, b.Status), cmp.Compare(a.Code, b.Code), cmp.Compare(a.When, b.When))
	})
	return out
}
