package sts

import "github.com/strongroom/strongroom/internal/identity"

// DefaultResources returns what tokens may be asked for in a deployment: the planes under its domain, alias hosts such as
// vault.azure.net behind DNS takeover, and the names of the public cloud that some clients ask for without a challenge.
// Of the last only the exact names count, since with a port they would be somebody else's.
//
// The same set is right for the embedded issuer's side of a Verifier. It is wrong for an outside issuer, whose tokens for
// the public names were meant for the public cloud.
func DefaultResources(domain string, aliases []string) *identity.Audiences {
	hosts := append([]string{
		"vault." + domain, "managedhsm." + domain, "management." + domain, "graph." + domain,
	}, aliases...)
	var literals []string
	for _, name := range []string{
		"https://vault.azure.net", "https://managedhsm.azure.net", "https://management.azure.com",
		"https://management.core.windows.net", "https://graph.microsoft.com",
	} {
		literals = append(literals, name, name+"/")
	}
	return identity.NewAudiences(hosts, literals)
}
