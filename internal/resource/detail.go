package resource

import (
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/authz"
)

// What the audit log tells of changes of rights: who gets or loses which, and where. A change may be as long as a request, its
// detail may not.

const maxDetail = 2000

// A detail is a text that stops growing.
type detail struct{ strings.Builder }

// add appends a text, unless it is too much.
func (d *detail) add(format string, args ...any) {
	switch {
	case d.full():
	case d.Len() > maxDetail:
		d.WriteString(" …")
	default:
		_, _ = fmt.Fprintf(d, format, args...)
	}
}

func (d *detail) full() bool { return strings.HasSuffix(d.String(), " …") }

// list appends a name and a list, unless that is empty.
func (d *detail) list(name string, list []string) {
	if len(list) == 0 {
		return
	}
	d.add(" %s", name)
	for _, s := range list {
		d.add(" %.500s", s)
	}
}

// detail tells whom the assignment gives what; "" for nil.
func (a *RoleAssignment) detail() string {
	if a == nil {
		return ""
	}
	var d detail
	d.add("principal %s", a.PrincipalID)
	if a.PrincipalType != authz.AnyPrincipal {
		d.add(" (%s)", bounded(string(a.PrincipalType)))
	}
	d.add(" role %s scope %s", a.RoleID, a.Scope)
	if a.Condition != "" {
		d.add(" condition %.1000q", a.Condition)
	}
	return d.String()
}

// definitionDetail tells what a role allows, and where.
func definitionDetail(def authz.RoleDefinition) string {
	var d detail
	d.add("role %q", bounded(def.Name))
	d.list("at", def.AssignableScopes)
	for _, p := range def.Permissions {
		d.list("actions", p.Actions)
		d.list("notActions", p.NotActions)
		d.list("dataActions", p.DataActions)
		d.list("notDataActions", p.NotDataActions)
	}
	return d.String()
}

// policiesDetail tells who has which permissions in a vault.
func policiesDetail(list []authz.AccessPolicy) string {
	var d detail
	d.add("%d access policies", len(list))
	for _, p := range list {
		d.add("; principal %s", p.ObjectID)
		if p.ApplicationID != "" {
			d.add(" application %s", p.ApplicationID)
		}
		d.list("keys", p.Keys)
		d.list("secrets", p.Secrets)
		d.list("certificates", p.Certificates)
		d.list("storage", p.Storage)
	}
	return d.String()
}

// administratorsDetail tells who begins and who ceases to be an administrator of a vault.
func administratorsDetail(add, remove []string) string {
	var d detail
	d.add("administrators")
	d.list("add", add)
	d.list("remove", remove)
	return d.String()
}

// detail tells what of the settings decides who gets in.
func (in *settings) detail() string {
	if in.recover {
		return ""
	}
	var parts []string
	if in.RBAC != nil {
		parts = append(parts, fmt.Sprintf("roles decide: %t", *in.RBAC))
	}
	if in.PublicNetworkAccess != nil {
		parts = append(parts, "public network access: "+bounded(*in.PublicNetworkAccess))
	}
	if n := in.Network; n != nil {
		if n.DefaultAction != "" {
			parts = append(parts, "network's default action: "+bounded(string(n.DefaultAction)))
		}
		if n.IPRules != nil {
			parts = append(parts, fmt.Sprintf("network's address ranges: %d", len(n.IPRules)))
		}
	}
	if in.administrators != nil { // which only a new one takes
		parts = append(parts, "if it is new, "+administratorsDetail(in.administrators, nil))
	}
	if in.AccessPolicies != nil {
		parts = append(parts, policiesDetail(in.AccessPolicies))
	}
	return strings.Join(parts, ", ")
}
