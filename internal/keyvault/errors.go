package keyvault

// A Kind is why an operation was refused. The edge maps each to one answer.
type Kind int

// The kinds of refusal.
const (
	BadParameter          Kind = iota + 1 // the request is wrong; Message says how
	VaultNotFound                         // there is no such vault
	NotFound                              // there is no such object or version
	AccessDenied                          // the caller may not, by the vault's access policies
	AccessDeniedByRole                    // the caller may not, by role assignments
	AccessDeniedInHSM                     // the caller may not, by the roles of the managed HSM itself
	ForbiddenByFirewall                   // the caller's address may not
	ForbiddenByConnection                 // the vault is closed to all networks
	Disabled                              // the version is disabled
	Managed                               // the object belongs to a certificate
	PurgeProtected                        // the vault forbids purging
	NotDeleted                            // recover of an object that is not deleted
	DeletedButRecoverable                 // the name belongs to a soft-deleted object
	Conflict                              // something else exists, or was changed meanwhile
	OperationForbidden                    // the key is not for this operation
	NotYetValid                           // the version's time has not come
	Expired                               // the version's time is over
	NotAttested                           // the target of a release is not, or not provably, what the key's policy wants
	Unreachable                           // somebody else's server that is needed does not answer; the same may succeed later
	Busy                                  // there is too much to do at this time
	HSMNotActivated                       // the managed HSM has no security domain yet
	HSMRestoring                          // the content of the managed HSM is being replaced
)

// An Error is a refusal, with the text for the caller.
type Error struct {
	Kind    Kind
	Object  ObjectKind // which kind of object it is about, if any
	Message string     // for the caller; holds no secret
	Reason  string     // for the log: why access was denied
}

func (e *Error) Error() string { return e.Message }
