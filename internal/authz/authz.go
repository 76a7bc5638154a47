// Package authz decides who may do what. It consists of pure functions over values that the caller has read in the same
// snapshot as the object, so that a decision is never older than the data it protects.
//
// This release knows one rule: an administrator of a vault may do everything in it, everybody else nothing. Access
// policies and role assignments will take its place behind Decide.
package authz

import (
	"slices"
	"strings"
)

// A Permission is one right, under the name that an access policy gives it and under that of its Azure RBAC data action.
type Permission struct {
	Object     string // "secrets", "keys", "certificates"
	Verb       string // "get", "list", …
	DataAction string // "Microsoft.KeyVault/vaults/secrets/getSecret/action"
}

// String returns the permission as Azure's messages write it: "secrets get".
func (p Permission) String() string { return p.Object + " " + p.Verb }

// A Subject is who asks, as far as it matters for the decision.
type Subject struct {
	TenantID string
	ObjectID string
	Groups   []string // object ids
}

// GroupPrefix marks an entry of a vault's administrator list as the object id of a group. Ids of groups and of principals
// come from different claims of a token, so an entry says which of them it means and is compared with that one only.
const GroupPrefix = "group:"

// A Policy is what a vault says about access to it.
type Policy struct {
	TenantID       string
	Administrators []string // object ids of principals, and of groups after GroupPrefix
}

// A Decision is the answer, with the reason for the log.
type Decision struct {
	Allowed bool
	Reason  string
}

// Decide says whether s may use permission p in the vault that has the policy. Everything that is not granted is denied.
func Decide(policy Policy, s Subject, p Permission) Decision {
	if s.ObjectID == "" || !strings.EqualFold(s.TenantID, policy.TenantID) {
		return Decision{Reason: "the caller is not of the vault's tenant"}
	}
	for _, admin := range policy.Administrators {
		if group, found := cutGroupPrefix(admin); found {
			if s.memberOf(group) {
				return Decision{Allowed: true, Reason: "member of a group that administers the vault"}
			}
			continue
		}
		if strings.EqualFold(admin, s.ObjectID) {
			return Decision{Allowed: true, Reason: "administrator of the vault"}
		}
	}
	return Decision{Reason: "no assignment grants " + p.String()}
}

// cutGroupPrefix takes the prefix in any case, as ids are compared: else "Group:x" would be the id of a principal.
func cutGroupPrefix(entry string) (id string, found bool) {
	if len(entry) < len(GroupPrefix) || !strings.EqualFold(entry[:len(GroupPrefix)], GroupPrefix) {
		return "", false
	}
	return entry[len(GroupPrefix):], true
}

func (s Subject) memberOf(group string) bool {
	return group != "" && slices.ContainsFunc(s.Groups, func(g string) bool { return strings.EqualFold(g, group) })
}
