package arm_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/arm"
	"github.com/strongroom/strongroom/internal/wire/wiretest"
)

// TestWireDocument compares docs/arm.md with the route table. `go test ./internal/arm -run WireDocument -update` writes it.
func TestWireDocument(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(`# The management plane's wire

Generated from the route table in ` + "`internal/arm/routes.go`" + `; do not edit. To renew it:
` + "`go test ./internal/arm -run WireDocument -update`" + `. What each answer looks like, success and failure, is in
` + "`internal/arm/testdata/wire/`" + `. Everything is at ` + "`https://management.<domain>`" + `.

Literals and names in paths are compared without case, within ASCII. Several slashes in front count as one, one at the end as none. Each
segment is decoded once; one that is then empty, consists of dots, or holds a slash, a backslash, a percent sign or a character outside of ASCII is
answered 400 before anything else is done with it. Every request but those marked *public* needs a bearer token for this plane; a token for
the vaults is refused. There is one subscription.

What an answer of 202 announces is done already; its ` + "`Location`" + ` is answered from what there is, by any server. Private endpoints do not exist:
lists of them are empty, and looking one up or approving one is answered 404. Keys and secrets that are made through this plane need the action of this plane and the
permission in the vault, from an address that its network rules let in; a secret's value is never returned.

## Operations

` + "`{scope}`" + ` is ` + "`/`" + `, a subscription, a resource group, a vault, a managed HSM, or one object of them.

| operation | request | success | body up to |
|---|---|---|---|
`)
	for _, rt := range arm.Routes() {
		body := "–"
		if rt.MaxBody > 0 {
			body = fmt.Sprintf("%d KiB", rt.MaxBody>>10)
		}
		operation := rt.Operation
		if rt.Public {
			operation += " (*public*)"
		}
		fmt.Fprintf(&b, "| %s | `%s %s` | %d | %s |\n", operation, rt.Method, rt.Pattern, rt.Success, body)
	}
	b.WriteString("\n## Versions\n\nOf Microsoft.KeyVault each of these is accepted and gets the newest behaviour. A vault that is made by " +
		"`2026-02-01` or later and does not say by\nwhich model it decides goes by roles, one that is made by an earlier version by access policies. " +
		"Of the other providers every date is accepted.\n\n")
	for _, v := range arm.APIVersions() {
		fmt.Fprintf(&b, "- `%s`\n", v)
	}
	b.WriteString("\n## Filters\n\n| of | `$filter` |\n|---|---|\n" +
		"| resources | `resourceType eq '…'`, `name eq '…'`, `resourceGroup eq '…'`, joined by `and` |\n" +
		"| role definitions | `roleName eq '…'`, `type eq 'BuiltInRole'`, `type eq 'CustomRole'`, `atScopeAndBelow()` |\n" +
		"| role assignments | `atScope()`, `principalId eq '…'`, `assignedTo('…')` |\n" +
		"| service principals | one of `id eq '…'`, `appId eq '…'`, `servicePrincipalNames/any(c:c eq '…')`, `displayName eq '…'`, `startswith(displayName,'…')` |\n" +
		"\n## Refusals\n\n| status | code | when |\n|---|---|---|\n")
	for _, e := range arm.Refusals() {
		fmt.Fprintf(&b, "| %d | %s | %s |\n", e.Status, e.Code, e.When)
	}
	wiretest.Document(t, "../../docs/arm.md", b.String())
}
