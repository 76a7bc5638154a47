package main

import (
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
)

func newHostsCommand() *cobra.Command {
	var where place
	cmd := &cobra.Command{
		Use:   "hosts",
		Short: "Print the lines for /etc/hosts that give every name of the server an address",
		Long: `Hosts prints lines for /etc/hosts, for programs on this machine that cannot resolve the server's names. With a domain of your
own that is in the DNS they are not needed.

Names below localhost resolve to loopback by themselves in curl, Chromium and Firefox, and in everything that asks the C
library on a machine with libnss-myhostname (Fedora, Arch; a package on Debian and Ubuntu) or systemd-resolved. The lines
are needed on other machines for Python, Node, Java and Go, and everywhere for Go programs that were built without cgo.
Strongroom's own commands need none.`,
		Example: "  strongroom hosts | sudo tee -a /etc/hosts",
		RunE: func(cmd *cobra.Command, _ []string) error {
			socket, err := where.socket()
			if err != nil {
				return err
			}
			status, err := readStatus(cmd.Context(), socket)
			if err != nil {
				return err
			}
			vaults, err := liveVaults(cmd.Context(), socket)
			if err != nil {
				return err
			}
			var hsms []string
			if err := socket.Do(cmd.Context(), http.MethodGet, "/hsms", nil, &hsms); err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), hostsLines(status, vaults, hsms))
			return err
		},
	}
	where.register(cmd)
	return cmd
}

// hostsLines are one line for each protocol that the server listens on.
func hostsLines(status *admin.Status, vaults []admin.Vault, hsms []string) string {
	names := []string{"login." + status.Domain, regionLabel + ".login." + status.Domain}
	for _, v := range vaults {
		names = append(names, strings.ToLower(v.Name)+"."+status.Suffix)
	}
	for _, name := range hsms {
		names = append(names, name+"."+status.HSMSuffix)
	}
	names = append(names, "management."+status.Domain, "portal."+status.Domain)
	var b strings.Builder
	b.WriteString("# Strongroom. Needed by programs that do not resolve these names themselves: Go without cgo always; Python,\n" +
		"# Node, Java and others where the machine has no libnss-myhostname or the names are not in the DNS. Not needed by curl.\n")
	for _, family := range []struct{ address, other string }{{"127.0.0.1", "0.0.0.0"}, {"::1", "::"}} {
		if listensOn(status.Listen, family.address, family.other) {
			fmt.Fprintf(&b, "%s %s\n", family.address, strings.Join(names, " "))
		}
	}
	return b.String()
}

func listensOn(addresses []string, hosts ...string) bool {
	for _, a := range addresses {
		host, _, err := net.SplitHostPort(a)
		for _, h := range hosts {
			if err == nil && host == h {
				return true
			}
		}
	}
	return false
}
