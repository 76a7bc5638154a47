package authz

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseIPRule(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"124.56.78.91":             "124.56.78.91/32",
		"124.56.78.0/24":           "124.56.78.0/24",
		"10.0.0.0/8":               "10.0.0.0/8",
		"192.168.1.1/32":           "192.168.1.1/32",
		"0.0.0.0/0":                "0.0.0.0/0",
		"2001:db8::1":              "2001:db8::1/128",
		"2001:DB8::/32":            "2001:db8::/32",
		"::ffff:10.0.0.1":          "10.0.0.1/32",
		"::ffff:10.0.0.0/104":      "10.0.0.0/8",
		"::ffff:0.0.0.0/96":        "0.0.0.0/0",
		"::/0":                     "::/0",
		"":                         "",
		" 10.0.0.1":                "",
		"10.0.0.1/24":              "",
		"::ffff:10.0.0.1/104":      "",
		"::ffff:0.0.0.0/95":        "",
		"10.0.0":                   "",
		"10.0.0.256":               "",
		"010.0.0.1":                "",
		"10.0.0.0/33":              "",
		"10.0.0.0/08":              "",
		"10.0.0.0/-1":              "",
		"10.0.0.0/":                "",
		"10.0.0.0/8/8":             "",
		"10.0.0.1-10.0.0.9":        "",
		"10.0.0.0/255.0.0.0":       "",
		"fe80::1%eth0":             "",
		"fe80::%eth0/10":           "",
		"example.org":              "",
		"2001:db8::1/32":           "",
		strings.Repeat("1", 10000): "",
	} {
		got, err := ParseIPRule(value)
		switch {
		case want == "" && (!isInvalid(err) || got.IsValid()):
			t.Errorf("%.50q was read as %s, %v", value, got, err)
		case want != "" && (err != nil || got.String() != want):
			t.Errorf("%q was read as %s, %v, not as %s", value, got, err, want)
		}
	}
}

func TestAllows(t *testing.T) {
	t.Parallel()
	rules := func(action NetworkAction, values ...string) *NetworkRules {
		n := &NetworkRules{DefaultAction: action, Bypass: BypassAzureServices, VirtualNetworks: []string{vaultA}}
		for _, v := range values {
			p, err := ParseIPRule(v)
			if err != nil {
				t.Fatal(err)
			}
			n.IPRules = append(n.IPRules, p)
		}
		if action != "" {
			if err := n.Validate(); err != nil {
				t.Fatal(err)
			}
		}
		return n
	}
	for name, c := range map[string]struct {
		rules  *NetworkRules
		from   string
		allows bool
	}{
		"without rules":            {nil, "192.0.2.1", true},
		"open":                     {rules(AllowAddresses), "192.0.2.1", true},
		"open but for":             {rules(AllowAddresses, "10.0.0.0/8"), "192.0.2.1", true}, // rules only ever let in
		"closed":                   {rules(DenyAddresses), "192.0.2.1", false},
		"closed, loopback":         {rules(DenyAddresses), "127.0.0.1", false},
		"in range":                 {rules(DenyAddresses, "198.51.100.7", "10.0.0.0/8"), "10.255.0.1", true},
		"the address":              {rules(DenyAddresses, "198.51.100.7"), "198.51.100.7", true},
		"beside the address":       {rules(DenyAddresses, "198.51.100.7"), "198.51.100.8", false},
		"IPv4 as IPv6":             {rules(DenyAddresses, "10.0.0.0/8"), "::ffff:10.0.0.1", true},
		"rule as IPv6":             {rules(DenyAddresses, "::ffff:10.0.0.1"), "10.0.0.1", true},
		"IPv6":                     {rules(DenyAddresses, "2001:db8::/32"), "2001:db8::1", true},
		"IPv6 with a zone":         {rules(DenyAddresses, "fe80::/10"), "fe80::1%eth0", true},
		"other IPv6":               {rules(DenyAddresses, "2001:db8::/32"), "2001:db9::1", false},
		"all of IPv4, from IPv6":   {rules(DenyAddresses, "0.0.0.0/0"), "2001:db8::1", false},
		"all of IPv6, from IPv4":   {rules(DenyAddresses, "::/0"), "::ffff:10.0.0.1", false},
		"default action not known": {rules("", "10.0.0.1"), "192.0.2.1", false},
		"and an address in range":  {rules("", "10.0.0.1"), "10.0.0.1", true},
	} {
		if got := c.rules.Allows(netip.MustParseAddr(c.from)); got != c.allows {
			t.Errorf("%s: %v", name, got)
		}
	}
	if rules(DenyAddresses, "0.0.0.0/0", "::/0").Allows(netip.Addr{}) {
		t.Error("an address that is none gets in")
	}
}

func TestValidateNetworkRules(t *testing.T) {
	t.Parallel()
	prefix := netip.MustParsePrefix("10.0.0.0/8")
	for name, change := range map[string]func(n *NetworkRules){
		"":                       func(*NetworkRules) {},
		" most":                  func(n *NetworkRules) { n.IPRules = slices.Repeat(n.IPRules, MaxIPRules) },
		" no bypass":             func(n *NetworkRules) { n.Bypass = BypassNone },
		"bypass not said":        func(n *NetworkRules) { n.Bypass = "" },
		"other bypass":           func(n *NetworkRules) { n.Bypass = "azureservices" },
		"action not said":        func(n *NetworkRules) { n.DefaultAction = "" },
		"other action":           func(n *NetworkRules) { n.DefaultAction = "deny" },
		"too many ranges":        func(n *NetworkRules) { n.IPRules = slices.Repeat(n.IPRules, MaxIPRules+1) },
		"too many networks":      func(n *NetworkRules) { n.VirtualNetworks = slices.Repeat([]string{vaultA}, MaxVirtualNetworkRules+1) },
		"network without a name": func(n *NetworkRules) { n.VirtualNetworks = []string{""} },
		"network of two lines":   func(n *NetworkRules) { n.VirtualNetworks = []string{"/a\nb"} },
		"network too long":       func(n *NetworkRules) { n.VirtualNetworks = []string{"/" + strings.Repeat("a", maxVirtualNetworkID)} },
		"no range":               func(n *NetworkRules) { n.IPRules[0] = netip.Prefix{} },
		"range with bits":        func(n *NetworkRules) { n.IPRules[0] = netip.MustParsePrefix("10.0.0.1/8") },
		"range of two kinds":     func(n *NetworkRules) { n.IPRules[0] = netip.MustParsePrefix("::ffff:10.0.0.0/104") },
	} {
		n := NetworkRules{Bypass: BypassAzureServices, DefaultAction: DenyAddresses, IPRules: []netip.Prefix{prefix}}
		change(&n)
		if err := n.Validate(); (err == nil) != (name == "" || name[0] == ' ') || err != nil && !isInvalid(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzParseIPRule(f *testing.F) {
	for _, s := range []string{"10.0.0.1", "10.0.0.0/8", "::ffff:10.0.0.1/128", "fe80::1%a", "2001:db8::/32"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		p, err := ParseIPRule(value)
		if err != nil {
			return
		}
		again, err := ParseIPRule(p.String())
		n := NetworkRules{Bypass: BypassNone, DefaultAction: DenyAddresses, IPRules: []netip.Prefix{p}}
		if err != nil || again != p || n.Validate() != nil || !n.Allows(p.Addr()) {
			t.Fatalf("%q: %s, read again %s, %v", value, p, again, err)
		}
		if p.Addr().Is4() && !n.Allows(netip.AddrFrom16(p.Addr().As16())) {
			t.Fatalf("%s does not let in its first address when written as IPv6", p)
		}
	})
}
