package arm

import (
	"net/http"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/wire"
)

type accessPolicy struct {
	TenantID      string      `json:"tenantId"`
	ObjectID      string      `json:"objectId"`
	ApplicationID string      `json:"applicationId,omitempty"`
	Permissions   permissions `json:"permissions"`
}

type permissions struct {
	Keys         []string `json:"keys,omitzero"`
	Secrets      []string `json:"secrets,omitzero"`
	Certificates []string `json:"certificates,omitzero"`
	Storage      []string `json:"storage,omitzero"`
}

func accessPoliciesOf(list []authz.AccessPolicy) []accessPolicy {
	out := make([]accessPolicy, len(list))
	for i, p := range list {
		out[i] = accessPolicy{p.TenantID, p.ObjectID, p.ApplicationID, permissions{p.Keys, p.Secrets, p.Certificates, p.Storage}}
	}
	return out
}

// readAccessPolicies reads the list; nil if there is none, and not nil if it is empty.
func readAccessPolicies(o wire.Object) ([]authz.AccessPolicy, error) {
	const name = "accessPolicies"
	entries, err := o.Objects(name)
	if entries == nil || err != nil {
		return nil, err
	}
	if len(entries) > authz.MaxAccessPolicies {
		return nil, o.WrongType(name, sprintf("a list of %d entries at most", authz.MaxAccessPolicies))
	}
	out := make([]authz.AccessPolicy, len(entries))
	for i, e := range entries {
		if out[i], err = readAccessPolicy(e); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func readAccessPolicy(o wire.Object) (p authz.AccessPolicy, err error) {
	if p.TenantID, err = o.Required("tenantId"); err != nil {
		return p, err
	}
	if p.ObjectID, err = o.Required("objectId"); err != nil {
		return p, err
	}
	if p.ApplicationID, err = o.TextOrNone("applicationId"); err != nil {
		return p, err
	}
	granted, ok, err := o.Object("permissions")
	if err != nil {
		return p, err
	}
	if !ok {
		return p, o.Missing("permissions")
	}
	for _, m := range []struct {
		name string
		list *[]string
	}{{"keys", &p.Keys}, {"secrets", &p.Secrets}, {"certificates", &p.Certificates}, {"storage", &p.Storage}} {
		if *m.list, err = granted.Strings(m.name); err != nil {
			return p, err
		}
	}
	return p, nil
}

// accessPolicyChanges are the last segments of the path.
var accessPolicyChanges = map[string]resource.AccessPolicyChange{
	"add": resource.AddPolicies, "replace": resource.ReplacePolicies, "remove": resource.RemovePolicies,
}

type accessPolicyResource struct {
	ID         string                   `json:"id"`
	Type       string                   `json:"type"`
	Location   string                   `json:"location,omitempty"`
	Properties accessPolicyResourceList `json:"properties"`
}

type accessPolicyResourceList struct {
	AccessPolicies []accessPolicy `json:"accessPolicies"`
}

func changeAccessPolicies(q *request) (response, error) {
	change, ok := accessPolicyChanges[asciiLower(q.params.kind)]
	if !ok {
		return response{}, badRequest("Access policies can be changed by add, replace and remove, not by %q.", clip(q.params.kind))
	}
	_, properties, err := q.properties()
	if err != nil {
		return response{}, err
	}
	policies, err := readAccessPolicies(properties)
	if err != nil {
		return response{}, err
	}
	if policies == nil {
		return response{}, properties.Missing("accessPolicies")
	}
	v, err := q.resources().ChangeAccessPolicies(q.ctx, q.actor(), q.params.group, q.params.name, change, policies)
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, accessPolicyResource{
		ID: v.ARMID() + "/accessPolicies/", Type: "Microsoft.KeyVault/vaults/accessPolicies",
		Properties: accessPolicyResourceList{accessPoliciesOf(v.AccessPolicies)},
	})
}
