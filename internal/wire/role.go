package wire

import (
	"strings"

	"github.com/strongroom/strongroom/internal/authz"
)

// RoleDefinition reads the properties of a role definition, which both planes have in the same shape. The name may be missing.
func (o Object) RoleDefinition() (d authz.RoleDefinition, err error) {
	if d.Name, err = o.TextOrNone("roleName"); err != nil {
		return d, err
	}
	if d.Description, err = o.TextOrNone("description"); err != nil {
		return d, err
	}
	kind, err := o.TextOrNone("type")
	if err != nil {
		return d, err
	}
	if kind != "" && !strings.EqualFold(kind, "CustomRole") {
		return d, o.WrongType("type", "CustomRole")
	}
	if d.AssignableScopes, err = o.Strings("assignableScopes"); err != nil {
		return d, err
	}
	sets, err := o.Objects("permissions")
	if err != nil {
		return d, err
	}
	for _, s := range sets {
		p, err := s.permissionSet()
		if err != nil {
			return d, err
		}
		d.Permissions = append(d.Permissions, p)
	}
	return d, nil
}

func (o Object) permissionSet() (p authz.PermissionSet, err error) {
	for _, m := range []struct {
		name string
		list *[]string
	}{
		{"actions", &p.Actions}, {"notActions", &p.NotActions}, {"dataActions", &p.DataActions}, {"notDataActions", &p.NotDataActions},
	} {
		if *m.list, err = o.Strings(m.name); err != nil {
			return p, err
		}
	}
	if p.Condition, err = o.TextOrNone("condition"); err != nil {
		return p, err
	}
	p.ConditionVersion, err = o.TextOrNone("conditionVersion")
	return p, err
}
