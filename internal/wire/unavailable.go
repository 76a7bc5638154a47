package wire

import (
	"context"
	"errors"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/store"
)

// What is answered if the audit log fails, before and after the work was done.
const (
	NotRecorded        = "The request could not be put on record in the audit log, and nothing is done without a record. Try again later."
	OutcomeNotRecorded = "The change was made, but its outcome could not be put on record in the audit log. Look before you try again."
)

// Unavailable says of an error that is not the request's fault, and that may pass, what the answer 503 tells about it.
func Unavailable(err error) (message string, ok bool) {
	var unjudged *UnjudgedError
	switch {
	case errors.As(err, &unjudged):
		return "The access token could not be checked at this time. Try again later.", true
	case errors.Is(err, audit.ErrUnavailable):
		return NotRecorded, true
	case errors.Is(err, store.ErrFull):
		return "The service's storage is full. Nothing was changed. Free space on it and try again.", true
	case errors.Is(err, store.ErrUnknown):
		return "The service's storage failed and it is not known whether the change was made. Look before you try again.", true
	case errors.Is(err, store.ErrBroken):
		return "The service's storage failed and takes no changes until the operator has restarted it. Nothing was changed.", true
	case errors.Is(err, store.ErrClosed):
		return "The service is shutting down. Try again.", true
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return "The service could not answer in time. Try again later.", true
	}
	return "", false
}
