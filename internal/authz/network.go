package authz

import (
	"net/netip"
	"slices"
	"strings"
)

// Bounds of network rules, Azure's.
const (
	MaxIPRules             = 1000
	MaxVirtualNetworkRules = 200
	maxVirtualNetworkID    = 1024
)

// A NetworkAction is what network rules do with an address that no rule is about.
type NetworkAction string

// The actions.
const (
	AllowAddresses NetworkAction = "Allow"
	DenyAddresses  NetworkAction = "Deny"
)

// A NetworkBypass is who gets in besides.
type NetworkBypass string

// The bypasses. They are kept and have no effect: there are no services of Azure here that could be trusted.
const (
	BypassAzureServices NetworkBypass = "AzureServices"
	BypassNone          NetworkBypass = "None"
)

// NetworkRules say from which addresses a vault can be reached. A nil *NetworkRules is a vault without rules, which can be
// reached from everywhere. Rules whose default action is none of the two deny.
type NetworkRules struct {
	Bypass          NetworkBypass
	DefaultAction   NetworkAction
	IPRules         []netip.Prefix // as ParseIPRule returns them
	VirtualNetworks []string       // ids of subnets: kept and never matched, as there are none here
}

// Allows tells whether a request from that address gets in.
func (n *NetworkRules) Allows(from netip.Addr) bool {
	if n == nil || n.DefaultAction == AllowAddresses {
		return true
	}
	from = from.Unmap().WithZone("")
	return slices.ContainsFunc(n.IPRules, func(p netip.Prefix) bool { return p.Contains(from) })
}

// Validate says whether the rules can be stored.
func (n *NetworkRules) Validate() error {
	switch {
	case n.DefaultAction != AllowAddresses && n.DefaultAction != DenyAddresses:
		return invalid("set of network rules", "its default action must be %s or %s, not %s",
			AllowAddresses, DenyAddresses, quoted(string(n.DefaultAction)))
	case n.Bypass != BypassAzureServices && n.Bypass != BypassNone:
		return invalid("set of network rules", "its bypass must be %s or %s, not %s",
			BypassAzureServices, BypassNone, quoted(string(n.Bypass)))
	case len(n.IPRules) > MaxIPRules:
		return invalid("set of network rules", "it has more than %d address ranges", MaxIPRules)
	case len(n.VirtualNetworks) > MaxVirtualNetworkRules:
		return invalid("set of network rules", "it has more than %d virtual networks", MaxVirtualNetworkRules)
	}
	for _, p := range n.IPRules {
		if !p.IsValid() || p != p.Masked() || p.Addr().Is4In6() {
			return invalid("set of network rules", "it holds the address range %s, which ParseIPRule does not return", p)
		}
	}
	for _, id := range n.VirtualNetworks {
		if len(id) > maxVirtualNetworkID || !isLabel(id, maxVirtualNetworkID) || !strings.HasPrefix(id, "/") {
			return invalid("set of network rules", "%s is no id of a virtual network's subnet", quoted(id))
		}
	}
	return nil
}

// ParseIPRule reads the value of an IP rule: an address or a range in CIDR notation, of IPv4 or IPv6. Unlike Azure's, our
// vaults stand in private networks, so private ranges are as good as public ones. IPv4 addresses that are written as IPv6
// ones become what they are. Bits behind the prefix are refused, because only who wrote them knows what he meant.
func ParseIPRule(value string) (netip.Prefix, error) {
	p, err := parsePrefix(value)
	if err != nil {
		return netip.Prefix{}, invalid("network rule", "%s is neither an address nor a range such as 192.0.2.0/24", quoted(value))
	}
	if p.Addr().Is4In6() {
		const mapped = 128 - 32 // bits before those of the IPv4 address
		if p.Bits() < mapped {
			return netip.Prefix{}, invalid("network rule", "%s is partly IPv4: write it as such", quoted(value))
		}
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped)
	}
	if p != p.Masked() {
		return netip.Prefix{}, invalid("network rule", "%s has bits behind its prefix: write %s, or %s for that address alone",
			quoted(value), p.Masked(), p.Addr())
	}
	return p, nil
}

// parsePrefix takes no zone: netip drops it from an address that becomes a prefix, and refuses it in a range.
func parsePrefix(value string) (netip.Prefix, error) {
	if strings.ContainsAny(value, "/%") {
		return netip.ParsePrefix(value)
	}
	a, err := netip.ParseAddr(value)
	if err != nil {
		return netip.Prefix{}, err
	}
	return netip.PrefixFrom(a, a.BitLen()), nil
}
