package resource

import (
	"errors"
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/authz"
)

// A Kind is why something was refused. The edge maps each to one answer.
type Kind int

// The kinds of refusal.
const (
	BadRequest                       Kind = iota + 1 // the request makes no sense; Message says how
	InvalidName                                      // of a vault or a managed HSM
	InvalidProperty                                  // a property cannot have that value, or can no longer have it
	SubscriptionNotFound                             // there is one subscription, and it is not that
	ResourceGroupNotFound                            //
	ResourceNotFound                                 // there is no such vault, managed HSM or object
	RoleAssignmentNotFound                           //
	RoleDefinitionDoesNotExist                       //
	SoftDeletedVaultDoesNotExist                     // there is nothing to recover or to purge
	AuthorizationFailed                              // the caller may not
	VaultAlreadyExists                               // the name is somebody else's
	ConflictError                                    // it is in another state than the request needs
	GroupNotEmpty                                    // something was made in the group while that was being deleted
	PurgeProtected                                   // only time purges it
	RoleAssignmentExists                             // the principal has that role there already
	RoleAssignmentUpdateNotPermitted                 // what an assignment is about does not change
	RoleDefinitionWithSameNameExists                 //
	RoleDefinitionHasAssignments                     // it is in use
	BuiltInRole                                      // it cannot be changed
	LimitExceeded                                    // there are as many as there can be
	SkuNotSupported                                  //
	LocationNotAvailable                             //
	HSMNotFound                                      // there is no managed HSM of that name
	SettingNotFound                                  // of a managed HSM
	LocalAccessDenied                                // the caller may not, by the managed HSM's own roles
	HSMNotActivated                                  // the managed HSM has no security domain yet
	HSMRestoring                                     // all that is in the managed HSM is being replaced
)

// An Error is a refusal, with the text for the caller.
type Error struct {
	Kind    Kind
	Message string // for the caller; holds no secret
	Target  string // the property or the resource that it is about, if it is about one
	Reason  string // for the log: why access was denied
}

func (e *Error) Error() string { return e.Message }

// ErrVaultNotFound is what Load returns for a name that no live vault has.
var ErrVaultNotFound = errors.New("resource: there is no such vault")

// IsKind tells whether err is a refusal of that kind.
func IsKind(err error, kind Kind) bool {
	var e *Error
	return errors.As(err, &e) && e.Kind == kind
}

func invalidProperty(target, format string, args ...any) error {
	return &Error{Kind: InvalidProperty, Target: target, Message: fmt.Sprintf(format, args...)}
}

func noGroup(group string) error {
	return &Error{Kind: ResourceGroupNotFound, Message: fmt.Sprintf("Resource group '%.90s' could not be found.", group)}
}

func noResource(f *family, group, name string) error {
	return &Error{
		Kind: ResourceNotFound,
		Message: fmt.Sprintf("The Resource 'Microsoft.KeyVault/%s/%.64s' under resource group '%.90s' was not found. For more details please "+
			"go to https://aka.ms/ARMResourceNotFoundFix", f.collection, name, group),
	}
}

func noRoleAssignment(id string) error {
	return &Error{Kind: RoleAssignmentNotFound, Message: fmt.Sprintf("The role assignment '%.64s' is not found.", id)}
}

func noRoleDefinition(id string) error {
	return &Error{Kind: RoleDefinitionDoesNotExist, Message: fmt.Sprintf("The specified role definition with ID '%.64s' does not exist.", id)}
}

// changedMeanwhile refuses to do to one thing what was put on record for another.
func changedMeanwhile(what string) error {
	return &Error{Kind: ConflictError, Message: "The " + what + " was changed meanwhile. Look at it again."}
}

// sentence makes a message of an error's text.
func sentence(text string) string {
	return strings.ToUpper(text[:1]) + text[1:] + "."
}

// invalidText is the refusal of a value that package authz does not take, on behalf of a property.
func invalidText(target string, err error) error {
	var invalid *authz.InvalidError
	if errors.As(err, &invalid) {
		return &Error{Kind: InvalidProperty, Target: target, Message: sentence(invalid.Error())}
	}
	return err
}
