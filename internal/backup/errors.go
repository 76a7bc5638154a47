package backup

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// Codes of an Error. The first three are Azure's own.
const (
	NotFound     = "ResourceNotFound"    // no such container, folder, or no manifest in it
	BadSAS       = "BadRequest"          // a SAS token that cannot be used
	BadParameter = "BadParameter"        // an address or a folder that cannot be used
	Denied       = "Forbidden"           // the storage refuses
	Conflict     = "Conflict"            // another writer has finished this backup
	Full         = "InsufficientStorage" // a quota of the storage
	Timeout      = "Timeout"             // the storage did not answer in time
	Unavailable  = "StorageUnavailable"  // the storage fails or cannot be reached
	Damaged      = "BackupDamaged"       // a blob is missing or altered
	WrongDomain  = "WrongSecurityDomain" // made with another security domain
	Unsupported  = "UnsupportedFormat"   // made by a later release
)

// An Error is a failure that somebody can do something about: the text says what. It holds no secret.
type Error struct {
	Code    string
	Message string

	// Temporary: the same may succeed later.
	Temporary bool
}

func (e *Error) Error() string { return e.Message }

func newError(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

func damaged(format string, args ...any) *Error {
	return newError(Damaged, "The backup is damaged: "+format+". Restore another backup, or bring the folder back as it was written.", args...)
}

// errNoBlob tells that the container is there and the blob is not.
var errNoBlob = errors.New("backup: no such blob")

// errBlobExists tells that a blob that should be new is there.
var errBlobExists = errors.New("backup: the blob exists")

var storageCode = regexp.MustCompile(`^[A-Za-z0-9]{1,64}$`)

// failure says what an error of the client library means. Texts of the library and of the storage are left out: they hold
// addresses and whatever the other side wishes.
func (c *Container) failure(ctx context.Context, doing string, err error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var refused *azcore.ResponseError
	if errors.As(err, &refused) {
		return c.refusal(doing, refused.StatusCode, refused.ErrorCode)
	}
	var timeout interface{ Timeout() bool }
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		e := newError(Timeout, "The storage %s did not answer in time (%s). Check that it can be reached, and try again.", c.host, doing)
		e.Temporary = true
		return e
	}
	if errors.As(err, new(*tokenError)) {
		return newError(Denied, "There is no token for the storage (%s): the managed identity gave none. Check that an identity is assigned "+
			"and that it may have tokens for %s.", doing, tokenScope)
	}
	e := newError(Unavailable, "The storage %s cannot be reached (%s): %s. Check the address and the network, and try again.",
		c.host, doing, reason(err))
	e.Temporary = true
	return e
}

// reason names the cause of a failed connection, as far as it is one of ours to tell.
func reason(err error) string {
	var authority x509.UnknownAuthorityError
	var certificate *tls.CertificateVerificationError
	var name *net.DNSError
	var op *net.OpError
	switch {
	case errors.As(err, &authority):
		return "its certificate is from an unknown authority; name the authority in the configuration"
	case errors.As(err, &certificate):
		return "its certificate is not valid for that name or not valid now"
	case errors.As(err, &name):
		return "its name does not resolve"
	case errors.As(err, &op) && op.Op == "dial":
		return "no connection"
	}
	return "the connection broke"
}

// refusal says what an answer means.
func (c *Container) refusal(doing string, status int, code string) error {
	if !storageCode.MatchString(code) {
		code = "no code"
	}
	said := fmt.Sprintf("%s: status %d, %s", doing, status, code)
	switch {
	case code == "ContainerNotFound", code == "ContainerBeingDeleted", code == "ResourceNotFound", code == "ContainerDisabled":
		return c.noContainer()
	case status == http.StatusNotFound:
		return errNoBlob
	case code == "BlobAlreadyExists", code == "ConditionNotMet":
		return errBlobExists
	case status == http.StatusInsufficientStorage, strings.Contains(code, "Quota"), strings.Contains(code, "Capacity"):
		return newError(Full, "The storage is full or a limit of the account is reached (%s). Free space or raise the limit, and start again.", said)
	case strings.Contains(code, "Immutab"), code == "BlobImmutableDueToPolicy":
		return newError(Denied, "The container has an immutability policy (%s). Name one without.", said)
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return newError(Denied, "The storage refuses access (%s). %s", said, c.advice())
	case status >= 300 && status < 400:
		return newError(Unavailable, "The storage %s answers with a redirect (%s), and none is followed. Name the container's own address.", c.host, said)
	case status == http.StatusRequestTimeout, status == http.StatusTooManyRequests, status >= 500:
		e := newError(Unavailable, "The storage %s fails or is busy (%s). Try again later.", c.host, said)
		e.Temporary = true
		return e
	}
	return newError(Unavailable, "The storage %s did not accept the request (%s). Check that the address is that of a blob container.", c.host, said)
}

func (c *Container) noContainer() *Error {
	return newError(NotFound, "The container %s does not exist. Make it, or name another one.", c.base)
}

func (c *Container) advice() string {
	if c.credential != nil {
		return "Assign the managed identity the role Storage Blob Data Contributor at the storage account, and let its firewall admit this server."
	}
	return "The SAS token may be expired, revoked, for something else, or lack a permission: a backup needs create, read, write, delete and list " +
		"(sp=rcwdl), a restore read and list (sp=rl). Also let the account's firewall admit this server."
}
