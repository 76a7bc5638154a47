package authz

import (
	"strings"
	"testing"
)

const (
	tenant    = "0a1b2c3d-0000-4000-8000-000000000001"
	principal = "22222222-0000-4000-8000-00000000000a"
	group     = "33333333-0000-4000-8000-00000000000b"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	get := Permission{Object: "secrets", Verb: "get"}
	for name, c := range map[string]struct {
		administrators []string
		subject        Subject
		allowed        bool
	}{
		"principal":                 {[]string{group, principal}, Subject{tenant, principal, nil}, true},
		"principal in capitals":     {[]string{principal}, Subject{strings.ToUpper(tenant), strings.ToUpper(principal), nil}, true},
		"group":                     {[]string{"x", "group:" + group}, Subject{tenant, "y", []string{"z", group}}, true},
		"group in capitals":         {[]string{"GROUP:" + group}, Subject{tenant, "y", []string{strings.ToUpper(group)}}, true},
		"nobody is listed":          {nil, Subject{tenant, principal, []string{group}}, false},
		"somebody else":             {[]string{principal + "0", group}, Subject{tenant, principal, nil}, false},
		"other tenant":              {[]string{principal}, Subject{"t", principal, nil}, false},
		"group of another tenant":   {[]string{"group:" + group}, Subject{"t", "y", []string{group}}, false},
		"principal's id as a group": {[]string{principal}, Subject{tenant, "y", []string{principal}}, false},
		"group's id as a principal": {[]string{"group:" + group}, Subject{tenant, group, nil}, false},
		"whole entry as principal":  {[]string{"group:" + group}, Subject{tenant, "group:" + group, nil}, false},
		"same with a capital":       {[]string{"Group:" + group}, Subject{tenant, "Group:" + group, nil}, false},
		"whole entry as group":      {[]string{"group:" + group}, Subject{tenant, "y", []string{"group:" + group}}, false},
		"empty entry":               {[]string{""}, Subject{tenant, "", []string{""}}, false},
		"empty group":               {[]string{"group:"}, Subject{tenant, "y", []string{""}}, false},
		"nobody":                    {[]string{"group:" + group}, Subject{tenant, "", []string{group}}, false},
	} {
		d := Decide(Policy{TenantID: tenant, Administrators: c.administrators}, c.subject, get)
		if d.Allowed != c.allowed || d.Reason == "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if d := Decide(Policy{TenantID: tenant}, Subject{TenantID: tenant, ObjectID: principal}, get); !strings.Contains(d.Reason, "secrets get") {
		t.Errorf("the reason %q does not name the permission", d.Reason)
	}
	if Decide(Policy{Administrators: []string{principal}}, Subject{TenantID: tenant, ObjectID: principal}, get).Allowed {
		t.Error("allowed in a vault without tenant")
	}
}
