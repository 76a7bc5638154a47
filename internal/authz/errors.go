package authz

import (
	"fmt"

	"github.com/google/uuid"
)

// An InvalidError says why a scope, a role, an assignment, an access policy or a network rule cannot be stored. Its text is
// meant for whoever sent it, and holds a bounded part of that.
type InvalidError struct {
	What   string // "scope", "role definition", …
	Reason string
}

func (e *InvalidError) Error() string { return "the " + e.What + " is invalid: " + e.Reason }

func invalid(what, format string, args ...any) error {
	return &InvalidError{What: what, Reason: fmt.Sprintf(format, args...)}
}

// A DeniedError says what a caller lacks to do something in the management plane.
type DeniedError struct {
	Action string // that must be allowed and is not
	Scope  Scope  // where
	Reason string // for the log
}

func (e *DeniedError) Error() string {
	return fmt.Sprintf("not authorized to perform %s over %s: %s", e.Action, e.Scope, e.Reason)
}

// parseID reads an id in the only form of a GUID that Azure's wire has, 36 characters. The id of nobody is none.
func parseID(s string) (id uuid.UUID, ok bool) {
	const length = 36
	if len(s) != length {
		return uuid.Nil, false
	}
	id, err := uuid.Parse(s)
	return id, err == nil && id != uuid.Nil
}

// quoted bounds what of a caller's text stands in an error.
func quoted(s string) string { return fmt.Sprintf("%.64q", s) }
