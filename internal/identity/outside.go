package identity

import (
	"crypto/sha256"

	"github.com/google/uuid"
)

// Name spaces of derived object ids. They are written into administrator lists through what is derived from them, so
// they never change.
const (
	outsidePrincipals = "17084c99-ee93-42ee-a62b-0d48d518d81f"
	outsideGroups     = "631f3213-061b-460e-bd27-efba44ef917a"
)

// outsideVersion is the UUID version of derived object ids (RFC 9562 section 5.8). Directories, this one and Entra's,
// make random ids of version 4, so an id tells by itself of which kind it is.
const outsideVersion = 8

// OutsideObjectID returns the object id of a principal of an issuer that has no directory of its own tenant, such as a
// Kubernetes cluster or Keycloak. Both arguments are exactly as in the token. The id is a name-based UUID over SHA-256
// as in appendix B.2 of RFC 9562, so it differs from that of every other issuer, of every group, and from random ids.
func OutsideObjectID(issuer, subject string) string {
	return deriveID(outsidePrincipals, issuer, subject)
}

// OutsideGroupID is to an entry of the groups claim what OutsideObjectID is to the sub claim.
func OutsideGroupID(issuer, group string) string {
	return deriveID(outsideGroups, issuer, group)
}

// deriveID needs no length prefix: an issuer is a URL, which holds no line break.
func deriveID(space, issuer, name string) string {
	return uuid.NewHash(sha256.New(), uuid.MustParse(space), []byte(issuer+"\n"+name), outsideVersion).String()
}

// isDerived tells whether id, in any case, is of the form that deriveID gives.
func isDerived(id string) bool {
	if len(id) != guidLength {
		return false
	}
	u, err := uuid.Parse(id)
	return err == nil && u.Version() == outsideVersion && u.Variant() == uuid.RFC4122
}
