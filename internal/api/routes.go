package api

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/strongroom/strongroom/internal/keyvault"
)

// A route is one row of the table: what the wire calls, what it means, and who answers.
type route struct {
	Operation keyvault.Operation
	Method    string
	Pattern   string // literals in lower case; {name} and {version} take a segment
	Success   int
	MaxBody   int64 // 0: the body is not read
	handle    func(*request) (response, error)

	segments  []string // Pattern split; filled by newTable
	variables int      // how many of them are variable
}

// collection is the first segment: what kind of thing the route is about.
func (rt *route) collection() string { return rt.segments[0] }

// changes tells whether a success of the route has changed something. A backup is asked for by POST and changes nothing.
func (rt *route) changes() bool {
	return rt != nil && rt.Method != http.MethodGet && rt.Operation != keyvault.SecretBackup
}

// Bodies. A secret's value of full size, with each byte escaped as six, fits into maxBody.
const (
	maxBody    = 256 << 10
	maxRestore = keyvault.MaxBackup/3*4 + 4<<10
)

// table is the data plane. docs/wire.md is generated from it.
var table = newTable([]route{
	{Operation: keyvault.SecretSet, Method: "PUT", Pattern: "/secrets/{name}", Success: 200, MaxBody: maxBody, handle: setSecret},
	{Operation: keyvault.SecretGet, Method: "GET", Pattern: "/secrets/{name}/{version}", Success: 200, handle: getSecret},
	{Operation: keyvault.SecretGet, Method: "GET", Pattern: "/secrets/{name}", Success: 200, handle: getSecret},
	{Operation: keyvault.SecretUpdate, Method: "PATCH", Pattern: "/secrets/{name}/{version}", Success: 200, MaxBody: maxBody, handle: updateSecret},
	{Operation: keyvault.SecretUpdate, Method: "PATCH", Pattern: "/secrets/{name}", Success: 200, MaxBody: maxBody, handle: updateSecret},
	{Operation: keyvault.SecretDelete, Method: "DELETE", Pattern: "/secrets/{name}", Success: 200, handle: deleteSecret},
	{Operation: keyvault.SecretList, Method: "GET", Pattern: "/secrets", Success: 200, handle: listSecrets},
	{Operation: keyvault.SecretListVersions, Method: "GET", Pattern: "/secrets/{name}/versions", Success: 200, handle: listSecretVersions},
	{Operation: keyvault.SecretBackup, Method: "POST", Pattern: "/secrets/{name}/backup", Success: 200, handle: backupSecret},
	{Operation: keyvault.SecretRestore, Method: "POST", Pattern: "/secrets/restore", Success: 200, MaxBody: maxRestore, handle: restoreSecret},
	{Operation: keyvault.SecretListDeleted, Method: "GET", Pattern: "/deletedsecrets", Success: 200, handle: listDeletedSecrets},
	{Operation: keyvault.SecretGetDeleted, Method: "GET", Pattern: "/deletedsecrets/{name}", Success: 200, handle: getDeletedSecret},
	{Operation: keyvault.SecretPurge, Method: "DELETE", Pattern: "/deletedsecrets/{name}", Success: 204, handle: purgeSecret},
	{Operation: keyvault.SecretRecover, Method: "POST", Pattern: "/deletedsecrets/{name}/recover", Success: 200, handle: recoverSecret},
})

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
	Success                                            int
	MaxBody                                            int64
}

// Routes returns the table for the documentation.
func Routes() []RouteDoc {
	var out []RouteDoc
	for _, rt := range table {
		out = append(out, RouteDoc{
			Operation: rt.Operation.Name, Method: rt.Method, Pattern: rt.Pattern,
			Permission: rt.Operation.Permission.String(), DataAction: rt.Operation.Permission.DataAction,
			Success: rt.Success, MaxBody: rt.MaxBody,
		})
	}
	return out
}

// params are the variable segments of a path, percent-decoded.
type params struct{ name, version string }

// maxSegments is more than the longest path of the API has. A longer path is not looked at further: it matches nothing.
const maxSegments = 8

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
	var allowed []string
	var best *route
	var found params
	for i := range table {
		rt := &table[i]
		p, ok := rt.matches(segments)
		if !ok {
			continue
		}
		if rt.Method != method {
			allowed = append(allowed, rt.Method)
			continue
		}
		// A literal segment is more to the point than a variable: "versions" is no version.
		if best == nil || rt.variables < best.variables {
			best, found = rt, p
		}
	}
	switch {
	case best != nil:
		return best, found, nil
	case allowed != nil:
		return nil, params{}, &methodError{method: method, allowed: allowed}
	default:
		return nil, params{}, &wireError{http.StatusNotFound, "ResourceNotFound", "",
			"The request URI does not name anything that this service has."}
	}
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
