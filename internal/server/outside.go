package server

import "github.com/strongroom/strongroom/internal/identity"

// An OutsidePrincipal is a principal or a group of an issuer without a tenant, as this server knows it.
type OutsidePrincipal struct {
	ObjectID      string `json:"objectId"`
	Administrator string `json:"administrator"` // the entry for it in the administrator list of a vault
}

// OutsideID names the group if there is one, else the subject. The issuer must be one that could be configured.
func OutsideID(issuer, subject, group string) (*OutsidePrincipal, error) {
	if err := (IssuerConfig{Issuer: issuer, FederationOnly: true}).check(); err != nil {
		return nil, err
	}
	if group != "" {
		id := identity.OutsideGroupID(issuer, group)
		return &OutsidePrincipal{ObjectID: id, Administrator: "group:" + id}, nil // as package authz reads it
	}
	id := identity.OutsideObjectID(issuer, subject)
	return &OutsidePrincipal{ObjectID: id, Administrator: id}, nil
}
