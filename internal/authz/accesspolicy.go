package authz

import (
	"slices"

	"github.com/google/uuid"
)

// MaxAccessPolicies is how many entries a vault has at most.
const MaxAccessPolicies = 1024

// allVerbs stands for every verb of its list but purge.
const allVerbs = "all"

// maxVerbs bounds one list of an entry, which may repeat itself.
const maxVerbs = 64

// An AccessPolicy is one entry of the list by which a vault without role-based access control says who may do what. It
// holds for the vault as a whole: there is none for a single object.
type AccessPolicy struct {
	TenantID string // that of the vault
	ObjectID string // of a principal or of a group

	// ApplicationID makes the entry one for a principal that asks through this application (a compound identity). Such an
	// entry never means a group.
	ApplicationID string

	// Verbs, in any case, or "all" for all of them but purge.
	Keys         []string
	Secrets      []string
	Certificates []string
	Storage      []string // managed storage accounts, of which there are none: kept and without effect
}

// What access policies speak of.
const (
	keyObjects = iota
	secretObjects
	certificateObjects
	storageObjects
	objectKinds
)

var objectNames = [objectKinds]string{"keys", "secrets", "certificates", "storage"}

// verbs are those of each kind of object. An index is a bit of a verbSet, which never leaves memory.
var verbs = [objectKinds][]string{
	keyObjects: {
		"encrypt", "decrypt", "wrapKey", "unwrapKey", "sign", "verify", "get", "list", "create", "update", "import", "delete",
		"backup", "restore", "recover", "purge", "release", "rotate", "getrotationpolicy", "setrotationpolicy",
	},
	secretObjects: {"get", "list", "set", "delete", "backup", "restore", "recover", "purge"},
	certificateObjects: {
		"get", "list", "delete", "create", "import", "update", "managecontacts", "getissuers", "listissuers", "setissuers",
		"deleteissuers", "manageissuers", "recover", "purge", "backup", "restore",
	},
	storageObjects: {
		"get", "list", "delete", "set", "update", "regeneratekey", "recover", "purge", "backup", "restore", "setsas",
		"listsas", "getsas", "deletesas",
	},
}

// managedByIssuers are the verbs that the older manageissuers includes: all of issuers' but writing one, which Azure's
// reference asks setissuers for.
var managedByIssuers = []string{"getissuers", "listissuers", "deleteissuers"}

type verbSet uint32

// indexFold returns the place of s in a list, or -1.
func indexFold(list []string, s string) int {
	for i, t := range list {
		if equalFold(s, t) {
			return i
		}
	}
	return -1
}

// verbBit returns no bit for a verb that the kind of object does not have.
func verbBit(kind int, verb string) verbSet {
	if i := indexFold(verbs[kind], verb); i >= 0 {
		return 1 << i
	}
	return 0
}

// parseVerbs reads a list of an access policy.
//
// "all" leaves out purge. Azure's own command line writes "all" and "purge" side by side, so there purge was left out at
// least once; and what cannot be undone should not come with a word that does not name it.
func parseVerbs(kind int, list []string) (verbSet, error) {
	if len(list) > maxVerbs {
		return 0, invalid("access policy", "it has more than %d permissions on %s", maxVerbs, objectNames[kind])
	}
	var set verbSet
	for _, verb := range list {
		bits := verbBit(kind, verb)
		if equalFold(verb, allVerbs) {
			bits = (1<<len(verbs[kind]) - 1) &^ verbBit(kind, "purge")
		}
		if bits == 0 {
			return 0, invalid("access policy", "%s is no permission on %s", quoted(verb), objectNames[kind])
		}
		set |= bits
	}
	return set, nil
}

// sufficient returns the kind of object of p, and the verbs of which each is enough for it: none if there is no such right.
func sufficient(p Permission) (kind int, enough verbSet) {
	kind = indexFold(objectNames[:], p.Object)
	if kind < 0 {
		return 0, 0
	}
	enough = verbBit(kind, p.Verb)
	if kind == certificateObjects && indexFold(managedByIssuers, p.Verb) >= 0 {
		enough |= verbBit(kind, "manageissuers")
	}
	return kind, enough
}

// AccessPolicies is the list of a vault, made ready to be asked by any number of goroutines. A nil *AccessPolicies grants
// nothing.
type AccessPolicies struct {
	entries map[uuid.UUID][]accessPolicy // by object id
}

type accessPolicy struct {
	application uuid.UUID // Nil for any
	verbs       [objectKinds]verbSet
}

// CompileAccessPolicies checks the access policies of a vault of that tenant and makes them ready.
func CompileAccessPolicies(tenantID string, list []AccessPolicy) (*AccessPolicies, error) {
	if len(list) > MaxAccessPolicies {
		return nil, invalid("list of access policies", "it has more than %d entries", MaxAccessPolicies)
	}
	out := &AccessPolicies{entries: make(map[uuid.UUID][]accessPolicy, len(list))}
	for i := range list {
		id, entry, err := list[i].compile(tenantID)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out.entries[id], func(e accessPolicy) bool { return e.application == entry.application }) {
			return nil, invalid("list of access policies", "there are two for the object id %s and the same application", id)
		}
		out.entries[id] = append(out.entries[id], entry)
	}
	return out, nil
}

func (a *AccessPolicy) compile(tenantID string) (id uuid.UUID, entry accessPolicy, err error) {
	if !sameTenant(a.TenantID, tenantID) {
		return id, entry, invalid("access policy", "its tenant %s is not that of the vault", quoted(a.TenantID))
	}
	id, ok := parseID(a.ObjectID)
	if !ok {
		return id, entry, invalid("access policy", "its object id %s is no GUID", quoted(a.ObjectID))
	}
	if a.ApplicationID != "" {
		if entry.application, ok = parseID(a.ApplicationID); !ok {
			return id, entry, invalid("access policy", "its application id %s is no GUID", quoted(a.ApplicationID))
		}
	}
	for kind, list := range [objectKinds][]string{a.Keys, a.Secrets, a.Certificates, a.Storage} {
		if entry.verbs[kind], err = parseVerbs(kind, list); err != nil {
			return id, entry, err
		}
	}
	return id, entry, nil
}

// decide is asked about subjects of the vault's tenant only.
//
// An entry does not say whether its object id is that of a principal or of a group, so both are looked at. That is safe
// because the two never have the same id: a directory draws them at random from one space, and those of issuers without a
// directory are derived in a name space for principals and another for groups (package identity).
func (a *AccessPolicies) decide(s Subject, p Permission) Decision {
	kind, enough := sufficient(p)
	if a == nil || enough == 0 {
		return Decision{Reason: "no access policy grants " + p.String()}
	}
	if id, ok := parseID(s.ObjectID); ok {
		app, _ := parseID(s.AppID)
		for _, e := range a.entries[id] {
			if (e.application == uuid.Nil || e.application == app) && e.verbs[kind]&enough != 0 {
				return Decision{Allowed: true, Reason: "granted by an access policy"}
			}
		}
	}
	for _, group := range s.Groups {
		id, _ := parseID(group)
		for _, e := range a.entries[id] {
			if e.application == uuid.Nil && e.verbs[kind]&enough != 0 {
				return Decision{Allowed: true, Reason: "granted by the access policy of a group"}
			}
		}
	}
	return Decision{Reason: "no access policy grants " + p.String()}
}
