package authz

import "strings"

// A ScopeKind is how far down a scope lies.
type ScopeKind uint8

// The kinds, each inside of the one before. Collections are the keys of a managed HSM, as local RBAC has them; vaults have
// none between themselves and an object.
const (
	NoScope ScopeKind = iota
	RootScope
	SubscriptionScope
	GroupScope
	ResourceScope // a vault or a managed HSM
	CollectionScope
	ObjectScope
)

// A Scope is where in the tree of Azure's resources a right holds or is asked for. Equal scopes are equal values, since
// there is one spelling: lower case. The zero Scope is none: it contains nothing and nothing contains it.
type Scope struct {
	// path is the id of the subscription, the group or the resource, "" for the root. The object is kept apart, so that the
	// scope of an object is made from that of its vault without a copy.
	path       string
	collection string
	object     string
	groupEnd   int32 // the length of path down to the group
	kind       ScopeKind
}

// Bounds of a scope's text and of its parts. Names of objects are those of keys, secrets and certificates.
const (
	maxScope     = 512
	maxGroup     = 90
	minResource  = 3
	maxResource  = 24
	maxObject    = 127
	guidLength   = 36
	subscription = "/subscriptions/"
	objectMarks  = "-"
	groupMarks   = "-_.()"
)

// Root is the scope that contains all others.
var Root = Scope{kind: RootScope}

// ParseScope reads a scope:
//
//	/
//	/subscriptions/<guid>
//	…/resourceGroups/<name>
//	…/providers/Microsoft.KeyVault/vaults/<name>
//	…/vaults/<name>/keys/<name>               also secrets and certificates
//	…/providers/Microsoft.KeyVault/managedHSMs/<name>
//	…/managedHSMs/<name>/keys                 and
//	…/managedHSMs/<name>/keys/<name>
//
// Case does not matter. Everything else does: an empty segment, one of dots, a slash at the end, an escape and a letter
// outside of ASCII are refused, so that no two texts that somebody could take for different scopes are the same one, nor
// the other way round. Escapes are for the caller to decode, once.
func ParseScope(text string) (Scope, error) {
	if len(text) > maxScope {
		return Scope{}, invalid("scope", "it has more than %d characters", maxScope)
	}
	if text == "/" {
		return Root, nil
	}
	if !onlyHas(text, "/"+groupMarks) {
		return Scope{}, invalid("scope", "%s has characters that no scope has; a scope is not escaped", quoted(text))
	}
	s, rest, ok := cutSubscription(strings.ToLower(text))
	if ok && rest != "" {
		rest, ok = s.cutGroup(rest)
	}
	if ok && rest != "" {
		rest, ok = s.cutResource(rest)
	}
	if ok && rest != "" {
		s, ok = s.cutObject(rest)
	}
	if !ok {
		return Scope{}, invalid("scope", "%s is none of /, /subscriptions/<id>, …/resourceGroups/<name>, "+
			"…/providers/Microsoft.KeyVault/vaults/<name> and one object of a vault", quoted(text))
	}
	return s, nil
}

func cutSubscription(text string) (s Scope, rest string, ok bool) {
	id, found := strings.CutPrefix(text, subscription)
	if !found || len(id) < guidLength {
		return Scope{}, "", false
	}
	if _, ok = parseID(id[:guidLength]); !ok {
		return Scope{}, "", false
	}
	end := len(subscription) + guidLength
	return Scope{path: text[:end], kind: SubscriptionScope}, text[end:], true
}

// cutGroup and cutResource extend s by what rest begins with. rest is what follows s in the same text.
func (s *Scope) cutGroup(rest string) (string, bool) {
	name, tail, ok := cutName(rest, "/resourcegroups/")
	if !ok || len(name) > maxGroup || strings.HasSuffix(name, ".") {
		return "", false
	}
	s.path += rest[:len(rest)-len(tail)]
	s.groupEnd, s.kind = int32(len(s.path)), GroupScope
	return tail, true
}

const (
	vaultsPath = "/providers/microsoft.keyvault/vaults/"
	hsmsPath   = "/providers/microsoft.keyvault/managedhsms/"
)

func (s *Scope) cutResource(rest string) (string, bool) {
	name, tail, ok := cutName(rest, vaultsPath)
	if !ok {
		name, tail, ok = cutName(rest, hsmsPath)
	}
	if !ok || len(name) < minResource || len(name) > maxResource || !onlyHas(name, objectMarks) {
		return "", false
	}
	s.path += rest[:len(rest)-len(tail)]
	s.kind = ResourceScope
	return tail, true
}

func (s Scope) cutObject(rest string) (Scope, bool) {
	collection, object, found := strings.Cut(rest[1:], "/")
	if !found {
		s = s.Collection(collection)
	} else {
		s = s.Object(collection, object)
	}
	return s, s.kind != NoScope
}

// cutName cuts "<prefix><name>" from text and returns what follows: "" or something that begins with a slash.
func cutName(text, prefix string) (name, rest string, ok bool) {
	tail, found := strings.CutPrefix(text, prefix)
	if !found {
		return "", "", false
	}
	end := strings.IndexByte(tail, '/')
	if end < 0 {
		end = len(tail)
	}
	return tail[:end], tail[end:], end > 0
}

// ofHSM tells whether the resource is a managed HSM.
func (s Scope) ofHSM() bool { return strings.HasPrefix(s.path[s.groupEnd:], hsmsPath) }

// Collection returns the scope of all keys of a managed HSM. It returns none if s is no managed HSM.
func (s Scope) Collection(collection string) Scope {
	if s.kind != ResourceScope || !s.ofHSM() || !equalFold(collection, "keys") {
		return Scope{}
	}
	s.kind, s.collection = CollectionScope, "keys"
	return s
}

// Object returns the scope of an object in s, a vault or a managed HSM. It returns none if there can be no object of that
// collection and name. A name in lower case costs no memory.
func (s Scope) Object(collection, name string) Scope {
	if s.kind != ResourceScope || name == "" || len(name) > maxObject || !onlyHas(name, objectMarks) {
		return Scope{}
	}
	switch {
	case equalFold(collection, "keys"):
		s.collection = "keys"
	case equalFold(collection, "secrets") && !s.ofHSM():
		s.collection = "secrets"
	case equalFold(collection, "certificates") && !s.ofHSM():
		s.collection = "certificates"
	default:
		return Scope{}
	}
	s.kind, s.object = ObjectScope, strings.ToLower(name)
	return s
}

// Kind returns how far down s lies.
func (s Scope) Kind() ScopeKind { return s.kind }

// String returns the scope in lower case, in the form that ParseScope reads, or "" if it is none.
func (s Scope) String() string {
	switch s.kind {
	case NoScope:
		return ""
	case RootScope:
		return "/"
	case CollectionScope:
		return s.path + "/" + s.collection
	case ObjectScope:
		return s.path + "/" + s.collection + "/" + s.object
	}
	return s.path
}

// In returns the scope of a kind in which s lies, s itself if it is of that kind, and none if s lies above.
func (s Scope) In(kind ScopeKind) Scope {
	if kind > s.kind || kind == CollectionScope && s.kind > kind && !s.ofHSM() {
		return Scope{}
	}
	switch kind {
	case s.kind:
		return s
	case RootScope:
		return Root
	case SubscriptionScope:
		return Scope{path: s.path[:len(subscription)+guidLength], kind: kind}
	case GroupScope:
		return Scope{path: s.path[:s.groupEnd], groupEnd: s.groupEnd, kind: kind}
	case ResourceScope:
		return Scope{path: s.path, groupEnd: s.groupEnd, kind: kind}
	case CollectionScope:
		return Scope{path: s.path, groupEnd: s.groupEnd, collection: s.collection, kind: kind}
	}
	return Scope{}
}

// Contains tells whether what holds at s holds at inner: whether they are the same, or inner lies in s.
func (s Scope) Contains(inner Scope) bool { return s.kind != NoScope && inner.In(s.kind) == s }
