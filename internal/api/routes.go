package api

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/managedhsm"
)

// A route is one row of the table: what the wire calls, what it means, and who answers.
type route struct {
	Operation keyvault.Operation
	Method    string
	Pattern   string // literals in lower case; {name}, {version}, {id} and {job} take a segment
	Success   int
	MaxBody   int64 // 0: the body is not read
	Asks      bool  // changes nothing, although its method is POST
	Family    family

	// AnyVersion: may be asked without an api-version, since we give out its URL without one.
	AnyVersion bool

	handle handler

	segments  []string // Pattern split; filled by newTable
	variables int      // how many of them are variable
}

// A family is whose hosts have a route.
type family int

const (
	all    family = iota // vaults and managed HSMs
	vaults               // vaults alone
	hsms                 // managed HSMs alone
)

// String returns what the documentation says.
func (f family) String() string { return [...]string{"both", "vault", "managed HSM"}[f] }

// checkFamily refuses what the other family has.
func (q *request) checkFamily() error {
	switch f := q.route.Family; {
	case f == vaults && q.hsm:
		return badParameter("This is the host of a managed HSM, which has keys only. Secrets and certificates are for vaults.")
	case f == hsms && !q.hsm:
		return badParameter("This is the host of a vault, and the operation is one of managed HSMs, which have hosts of their own.")
	}
	return nil
}

// collection is the first segment: what kind of thing the route is about.
func (rt *route) collection() string { return rt.segments[0] }

// changes tells whether a success of the route has changed something.
func (rt *route) changes() bool {
	return rt != nil && rt.Method != http.MethodGet && !rt.Asks
}

// Bodies, by the largest of their members: with all tags of full length, each character of them escaped as six; bytes in
// base64. A secret's value of full size, with each byte escaped as six, fits into maxSecret.
const (
	maxSecret   = 256 << 10
	maxRestore  = keyvault.MaxBackup/3*4 + 4<<10
	maxTags     = keyvault.MaxTags * 2 * keyvault.MaxTagText * 6
	maxKey      = maxTags + keyvault.MaxReleasePolicy/3*4 + 4<<10
	maxImport   = maxKey + keyvault.MaxTransferBlob/3*4 + 8<<10
	maxEncrypt  = 64 << 10
	maxCrypto   = 16 << 10 // what is signed or wrapped is short: an RSA key in PKCS#8 is the longest
	maxRotation = 4 << 10
	maxRelease  = keyvault.MaxAttestation + 8<<10
	maxRandom   = 1 << 10

	// Ten certificates, of which each is there twice; a security domain of three data, some of which its HSM does not know.
	maxOwners = 512 << 10
	maxDomain = 512 << 10
)

// table is the data plane. docs/wire.md is generated from it.
var table = newTable(slices.Concat([]route{
	{Operation: keyvault.SecretSet, Method: "PUT", Pattern: "/secrets/{name}", Success: 200, Family: vaults, MaxBody: maxSecret, handle: setSecret},
	{Operation: keyvault.SecretGet, Method: "GET", Pattern: "/secrets/{name}/{version}", Success: 200, Family: vaults, handle: getSecret},
	{Operation: keyvault.SecretGet, Method: "GET", Pattern: "/secrets/{name}", Success: 200, Family: vaults, handle: getSecret},
	{Operation: keyvault.SecretUpdate, Method: "PATCH", Pattern: "/secrets/{name}/{version}", Success: 200, Family: vaults, MaxBody: maxSecret, handle: updateSecret},
	{Operation: keyvault.SecretUpdate, Method: "PATCH", Pattern: "/secrets/{name}", Success: 200, Family: vaults, MaxBody: maxSecret, handle: updateSecret},
	{Operation: keyvault.SecretDelete, Method: "DELETE", Pattern: "/secrets/{name}", Success: 200, Family: vaults, handle: deleteSecret},
	{Operation: keyvault.SecretList, Method: "GET", Pattern: "/secrets", Success: 200, Family: vaults, handle: listSecrets},
	{Operation: keyvault.SecretListVersions, Method: "GET", Pattern: "/secrets/{name}/versions", Success: 200, Family: vaults, handle: listSecretVersions},
	{Operation: keyvault.SecretBackup, Method: "POST", Pattern: "/secrets/{name}/backup", Success: 200, Family: vaults, Asks: true, handle: backupSecret},
	{Operation: keyvault.SecretRestore, Method: "POST", Pattern: "/secrets/restore", Success: 200, Family: vaults, MaxBody: maxRestore, handle: restoreSecret},
	{Operation: keyvault.SecretListDeleted, Method: "GET", Pattern: "/deletedsecrets", Success: 200, Family: vaults, handle: listDeletedSecrets},
	{Operation: keyvault.SecretGetDeleted, Method: "GET", Pattern: "/deletedsecrets/{name}", Success: 200, Family: vaults, handle: getDeletedSecret},
	{Operation: keyvault.SecretPurge, Method: "DELETE", Pattern: "/deletedsecrets/{name}", Success: 204, Family: vaults, handle: purgeSecret},
	{Operation: keyvault.SecretRecover, Method: "POST", Pattern: "/deletedsecrets/{name}/recover", Success: 200, Family: vaults, handle: recoverSecret},

	{Operation: keyvault.KeyCreate, Method: "POST", Pattern: "/keys/{name}/create", Success: 200, MaxBody: maxKey, handle: createKey},
	{Operation: keyvault.KeyImport, Method: "PUT", Pattern: "/keys/{name}", Success: 200, MaxBody: maxImport, handle: importKey},
	{Operation: keyvault.KeyGet, Method: "GET", Pattern: "/keys/{name}/{version}", Success: 200, handle: getKey},
	{Operation: keyvault.KeyGet, Method: "GET", Pattern: "/keys/{name}", Success: 200, handle: getKey},
	{Operation: keyvault.KeyUpdate, Method: "PATCH", Pattern: "/keys/{name}/{version}", Success: 200, MaxBody: maxKey, handle: updateKey},
	{Operation: keyvault.KeyUpdate, Method: "PATCH", Pattern: "/keys/{name}", Success: 200, MaxBody: maxKey, handle: updateKey},
	{Operation: keyvault.KeyDelete, Method: "DELETE", Pattern: "/keys/{name}", Success: 200, handle: deleteKey},
	{Operation: keyvault.KeyList, Method: "GET", Pattern: "/keys", Success: 200, handle: listKeys},
	{Operation: keyvault.KeyListVersions, Method: "GET", Pattern: "/keys/{name}/versions", Success: 200, handle: listKeyVersions},
	{Operation: keyvault.KeyBackup, Method: "POST", Pattern: "/keys/{name}/backup", Success: 200, Asks: true, handle: backupKey},
	{Operation: keyvault.KeyRestore, Method: "POST", Pattern: "/keys/restore", Success: 200, MaxBody: maxRestore, handle: restoreKey},
	{Operation: keyvault.KeyRotate, Method: "POST", Pattern: "/keys/{name}/rotate", Success: 200, handle: rotateKey},
	{Operation: keyvault.KeyRotationPolicyGet, Method: "GET", Pattern: "/keys/{name}/rotationpolicy", Success: 200, handle: getRotationPolicy},
	{Operation: keyvault.KeyRotationPolicySet, Method: "PUT", Pattern: "/keys/{name}/rotationpolicy", Success: 200, MaxBody: maxRotation, handle: setRotationPolicy},
	{Operation: keyvault.KeyListDeleted, Method: "GET", Pattern: "/deletedkeys", Success: 200, handle: listDeletedKeys},
	{Operation: keyvault.KeyGetDeleted, Method: "GET", Pattern: "/deletedkeys/{name}", Success: 200, handle: getDeletedKey},
	{Operation: keyvault.KeyPurge, Method: "DELETE", Pattern: "/deletedkeys/{name}", Success: 204, handle: purgeKey},
	{Operation: keyvault.KeyRecover, Method: "POST", Pattern: "/deletedkeys/{name}/recover", Success: 200, handle: recoverKey},

	{Operation: keyvault.KeyEncrypt, Method: "POST", Pattern: "/keys/{name}/{version}/encrypt", Success: 200, MaxBody: maxEncrypt, Asks: true, handle: encryptKey},
	{Operation: keyvault.KeyEncrypt, Method: "POST", Pattern: "/keys/{name}/encrypt", Success: 200, MaxBody: maxEncrypt, Asks: true, handle: encryptKey},
	{Operation: keyvault.KeyDecrypt, Method: "POST", Pattern: "/keys/{name}/{version}/decrypt", Success: 200, MaxBody: maxEncrypt, Asks: true, handle: decryptKey},
	{Operation: keyvault.KeyDecrypt, Method: "POST", Pattern: "/keys/{name}/decrypt", Success: 200, MaxBody: maxEncrypt, Asks: true, handle: decryptKey},
	{Operation: keyvault.KeyWrap, Method: "POST", Pattern: "/keys/{name}/{version}/wrapkey", Success: 200, MaxBody: maxCrypto, Asks: true, handle: wrapKey},
	{Operation: keyvault.KeyWrap, Method: "POST", Pattern: "/keys/{name}/wrapkey", Success: 200, MaxBody: maxCrypto, Asks: true, handle: wrapKey},
	{Operation: keyvault.KeyUnwrap, Method: "POST", Pattern: "/keys/{name}/{version}/unwrapkey", Success: 200, MaxBody: maxCrypto, Asks: true, handle: unwrapKey},
	{Operation: keyvault.KeyUnwrap, Method: "POST", Pattern: "/keys/{name}/unwrapkey", Success: 200, MaxBody: maxCrypto, Asks: true, handle: unwrapKey},
	{Operation: keyvault.KeySign, Method: "POST", Pattern: "/keys/{name}/{version}/sign", Success: 200, MaxBody: maxCrypto, Asks: true, handle: signWithKey},
	{Operation: keyvault.KeySign, Method: "POST", Pattern: "/keys/{name}/sign", Success: 200, MaxBody: maxCrypto, Asks: true, handle: signWithKey},
	{Operation: keyvault.KeyVerify, Method: "POST", Pattern: "/keys/{name}/{version}/verify", Success: 200, MaxBody: maxCrypto, Asks: true, handle: verifyWithKey},
	{Operation: keyvault.KeyVerify, Method: "POST", Pattern: "/keys/{name}/verify", Success: 200, MaxBody: maxCrypto, Asks: true, handle: verifyWithKey},
	{Operation: keyvault.KeyRelease, Method: "POST", Pattern: "/keys/{name}/{version}/release", Success: 200, MaxBody: maxRelease, Asks: true, handle: releaseKey},
	{Operation: keyvault.KeyRelease, Method: "POST", Pattern: "/keys/{name}/release", Success: 200, MaxBody: maxRelease, Asks: true, handle: releaseKey},

	{Operation: keyvault.KeyAttestationGet, Method: "GET", Pattern: "/keys/{name}/{version}/attestation", Success: 200, Family: hsms, handle: getKeyAttestation},
	{Operation: keyvault.KeyAttestationGet, Method: "GET", Pattern: "/keys/{name}/attestation", Success: 200, Family: hsms, handle: getKeyAttestation},
	{Operation: keyvault.RandomBytes, Method: "POST", Pattern: "/rng", Success: 200, MaxBody: maxRandom, Asks: true, Family: hsms, handle: getRandomBytes},

	{Operation: managedhsm.Download, Method: "POST", Pattern: "/securitydomain/download", Success: 202, Family: hsms, MaxBody: maxOwners, handle: downloadSecurityDomain},
	{Operation: managedhsm.DownloadStatus, Method: "GET", Pattern: "/securitydomain/download/pending", Success: 200, Family: hsms, handle: securityDomainStatus(downloadPending)},
	{Operation: managedhsm.GetTransferKey, Method: "GET", Pattern: "/securitydomain/upload", Success: 200, Family: hsms, handle: getTransferKey},
	{Operation: managedhsm.Upload, Method: "POST", Pattern: "/securitydomain/upload", Success: 202, Family: hsms, MaxBody: maxDomain, handle: uploadSecurityDomain},
	{Operation: managedhsm.UploadStatus, Method: "GET", Pattern: "/securitydomain/upload/pending", Success: 200, Family: hsms, handle: securityDomainStatus(uploadPending)},
}, backupRoutes(), localRoutes(), settingRoutes()))

// A shape is what a path has without looking into its segments. candidates has the rows of each, the more literal ones
// first: a request is compared with a few rows only, however long the table is.
type shape struct {
	method   string
	segments int
}

var candidates = byShape(table)

func byShape(rows []route) map[shape][]*route {
	out := make(map[shape][]*route)
	for i := range rows {
		s := shape{rows[i].Method, len(rows[i].segments)}
		out[s] = append(out[s], &rows[i])
	}
	for _, rows := range out {
		slices.SortStableFunc(rows, func(a, b *route) int { return a.variables - b.variables })
	}
	return out
}

func newTable(rows []route) []route {
	for i := range rows {
		rows[i].segments = strings.Split(rows[i].Pattern[1:], "/")
		rows[i].variables = strings.Count(rows[i].Pattern, "{")
	}
	return rows
}

// A RouteDoc is a row of the table as the documentation shows it.
type RouteDoc struct {
	Operation, Method, Pattern, Permission, DataAction string
	HSMAction, Family                                  string
	Success                                            int
	MaxBody                                            int64
}

// Routes returns the table for the documentation.
func Routes() []RouteDoc {
	var out []RouteDoc
	for _, rt := range table {
		permission := ""
		if rt.Family != hsms {
			permission = rt.Operation.Permission.String()
		}
		out = append(out, RouteDoc{
			Operation: rt.Operation.Name, Method: rt.Method, Pattern: rt.Pattern,
			Permission: permission, DataAction: rt.Operation.Permission.DataAction,
			HSMAction: rt.Operation.Permission.HSMAction, Family: rt.Family.String(),
			Success: rt.Success, MaxBody: rt.MaxBody,
		})
	}
	return out
}

// params are the variable segments of a path, percent-decoded.
type params struct{ name, version, id, job string }

// maxSegments is more than the longest path of the API has. A longer path is not looked at further: it matches nothing.
const maxSegments = 12

// match finds the route of a raw path. Several slashes in front count as one, and one at the end is an empty last
// segment, which clients send for "no version".
func match(method, escapedPath string) (*route, params, error) {
	var room [maxSegments + 1]string
	segments := room[:0]
	for rest, more := strings.TrimLeft(escapedPath, "/"), true; more && len(segments) <= maxSegments; {
		var s string
		s, rest, more = strings.Cut(rest, "/")
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return nil, params{}, &wireError{http.StatusBadRequest, "BadParameter", "", "The request URI is not encoded correctly."}
		}
		segments = append(segments, decoded)
	}
	segments = inScope(segments)
	if rt, p := find(method, segments); rt != nil {
		return rt, p, nil
	}
	var allowed []string
	for i := range table {
		if _, ok := table[i].matches(segments); ok && !slices.Contains(allowed, table[i].Method) {
			allowed = append(allowed, table[i].Method)
		}
	}
	if allowed != nil {
		return nil, params{}, &methodError{method: method, allowed: allowed}
	}
	return nil, params{}, errNoRoute
}

var (
	errNoRoute      = &wireError{http.StatusNotFound, "ResourceNotFound", "", "The request URI does not name anything that this service has."}
	errNoRouteInHSM = &wireError{http.StatusNotFound, "ResourceNotFound", "", "The request URI does not name anything that a managed HSM has. " +
		"It has keys; secrets and certificates are for vaults."}
)

// find returns the row of a method and a path. A literal segment is more to the point than a variable: "versions" is no
// version.
func find(method string, segments []string) (best *route, found params) {
	lengths := []int{len(segments)}
	if n := len(segments) - 1; segments[n] == "" {
		lengths = []int{n, len(segments)}
	}
	for _, n := range lengths {
		for _, rt := range candidates[shape{method, n}] {
			if best != nil && rt.variables >= best.variables {
				break
			}
			if p, ok := rt.matches(segments); ok {
				best, found = rt, p
			}
		}
	}
	return best, found
}

func (rt *route) matches(segments []string) (params, bool) {
	var p params
	if n := len(rt.segments); len(segments) == n+1 && segments[n] == "" {
		segments = segments[:n]
	}
	if len(segments) != len(rt.segments) {
		return p, false
	}
	for i, want := range rt.segments {
		switch want {
		case "{name}":
			p.name = segments[i]
		case "{version}":
			p.version = segments[i]
		case "{id}":
			p.id = segments[i]
		case "{job}":
			p.job = segments[i]
		default:
			if !strings.EqualFold(want, segments[i]) {
				return p, false
			}
		}
	}
	return p, true
}

// A methodError is a request to an existing path with a method that it does not have.
type methodError struct {
	method  string
	allowed []string
}

func (e *methodError) Error() string {
	return fmt.Sprintf("The method %.16q is not allowed here; use %s.", e.method, strings.Join(e.allowed, " or "))
}
