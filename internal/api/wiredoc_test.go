package api_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/api"
	"github.com/strongroom/strongroom/internal/wire/wiretest"
)

// TestWireDocument compares docs/wire.md with the route table. `go test ./internal/api -run WireDocument -update` writes it.
func TestWireDocument(t *testing.T) {
	t.Parallel()
	const path = "../../docs/wire.md"
	var b strings.Builder
	b.WriteString(`# The wire

Generated from the route table in ` + "`internal/api/routes.go`" + `; do not edit. To renew it:
` + "`go test ./internal/api -run WireDocument -update`" + `. What each answer looks like, success and failure, is in
` + "`internal/api/testdata/wire/`" + `.

Paths are taken as they are sent: several slashes in front count as one, a slash at the end is an empty version, literals and names
are compared without case, and nothing is redirected. Every request needs a bearer token and, except for the token
itself, nothing of it is looked at before that is checked. Every request needs ` + "`api-version`" + `, percent-encoded or not; those
for the state of a backup or a restore can do without.

The host says whose the request is: a vault at ` + "`<name>.vault.<domain>`" + ` or a managed HSM at ` + "`<name>.managedhsm.<domain>`" + `. What only the other of them has is
refused with 400. Messages of a managed HSM end in ` + "`(Activity ID: <x-ms-request-id>)`" + `; until it is activated, and while it is being restored, all but what leads out of
that is refused.

## Operations

| operation | request | of | success | body up to | access-policy permission | data action in vaults | data action in managed HSMs |
|---|---|---|---|---|---|---|---|
`)
	for _, rt := range api.Routes() {
		body := ""
		if rt.MaxBody > 0 {
			body = fmt.Sprintf("%d KiB", rt.MaxBody>>10)
		}
		fmt.Fprintf(&b, "| %s | `%s %s` | %s | %d | %s | %s | %s | %s |\n", rt.Operation, rt.Method, rt.Pattern, rt.Family, rt.Success, dash(body),
			dash(rt.Permission), code(rt.DataAction), code(rt.HSMAction))
	}
	b.WriteString("\n## Versions\n\nEach of these is accepted and gets the newest behaviour; members that a version did not have are left out of its answers.\n\n")
	for _, v := range api.APIVersions() {
		fmt.Fprintf(&b, "- `%s`\n", v)
	}
	b.WriteString("\n## Refusals\n\n| status | code | inner code | when |\n|---|---|---|---|\n")
	for _, e := range api.Refusals() {
		fmt.Fprintf(&b, "| %d | %s | %s | %s |\n", e.Status, e.Code, e.Inner, e.When)
	}
	wiretest.Document(t, path, b.String())
}

// dash stands where there is nothing.
func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

func code(s string) string {
	if s == "" {
		return "–"
	}
	return "`" + s + "`"
}
