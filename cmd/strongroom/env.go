package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

// regionLabel is what the clients of Go and Java are told as their region: then they ask <label>.login.<domain> about the authority
// instead of Microsoft. Any label works, because the token service answers on all of them.
const regionLabel = "local"

const envHelp = `Env prints what programs with an Azure SDK need in their environment to use this server unchanged, for

  eval "$(strongroom env)"

Programs differ, so --for says which it is:

  all     (default) the certificate authority for every runtime but Java, and the managed identity as credential: the only
          credential that all SDKs read from the same variables. DefaultAzureCredential and ManagedIdentityCredential find it.
  go      a client secret, and AZURE_REGIONAL_AUTHORITY_NAME so that the client asks this server about its authority.
  python  a client secret with the tenant "adfs", which is how MSAL is kept from asking Microsoft.
  node    the same, with NODE_EXTRA_CA_CERTS.
  java    as go, with a trust store in JAVA_TOOL_OPTIONS.
  dotnet  a client secret with the tenant "adfs", if the server is on port 443. Otherwise MSAL.NET first asks Microsoft whether the
          authority is one: it goes on after some 20 seconds where it reaches nobody, but takes no for an answer. Use the managed
          identity then.
  az      the certificate authority, settings of its own, and a file with this server as a cloud: register and choose that, and
          sign in, with the lines that are printed as comments. SECRET is in credentials/administrator.json.

A client secret with "all" is refused: what keeps Go from asking Microsoft misleads Python, and the other way round.

The bundle of authorities that is written into the data folder holds the system's authorities (or those that SSL_CERT_FILE
or REQUESTS_CA_BUNDLE name now) and the server's. The output holds a secret; do not log it. Names below localhost
need no setting in some programs and a line in /etc/hosts in others: see "strongroom hosts".`

type envCommand struct {
	where       place
	program     string
	credential  string
	shell       string
	vault       string
	credentials string
}

func newEnvCommand() *cobra.Command {
	e := new(envCommand)
	cmd := &cobra.Command{
		Use:   "env",
		Short: "Print the environment that programs with an Azure SDK need",
		Long:  envHelp,
		Example: `  eval "$(strongroom env)"
  eval "$(strongroom env --for python)"
  strongroom env --for go --credential managed --shell fish | source`,
		RunE: e.run,
	}
	e.where.register(cmd)
	f := cmd.Flags()
	f.StringVar(&e.program, "for", "all", "all, go, python, node, java, dotnet or az")
	f.StringVar(&e.credential, "credential", "", "secret or managed (default secret; for all: managed)")
	f.StringVar(&e.shell, "shell", "sh", "sh, fish or powershell")
	f.StringVar(&e.vault, "vault-name", "", "vault for AZURE_KEYVAULT_URL (default demo, or the only one)")
	f.StringVar(&e.credentials, "credentials", "", "file with the credentials (default the one that init made in the data folder)")
	return cmd
}

func (e *envCommand) run(cmd *cobra.Command, _ []string) error {
	if err := e.check(); err != nil {
		return err
	}
	sh := shells()[slices.IndexFunc(shells(), func(s shell) bool { return s.name == e.shell })]
	dir, err := e.where.folder()
	if err != nil {
		return err
	}
	socket := admin.NewClient(dir)
	status, err := readStatus(cmd.Context(), socket)
	if err != nil {
		return err
	}
	var b strings.Builder
	vault, note, err := e.vaultVariables(cmd.Context(), socket)
	if err != nil {
		return err
	}
	if note != "" {
		fmt.Fprintln(&b, "#", note)
		fmt.Fprintln(cmd.ErrOrStderr(), "strongroom: note:", note)
	}
	sh.write(&b, vault)
	trust, err := e.trust(dir, status)
	if err != nil {
		return err
	}
	sh.write(&b, trust)
	credential, err := e.credentialVariables(dir, status)
	if err != nil {
		return err
	}
	sh.write(&b, credential)
	if e.program == "az" {
		vars, next, err := e.azVariables(dir, status)
		if err != nil {
			return err
		}
		sh.write(&b, vars)
		for _, line := range next {
			fmt.Fprintln(&b, "#", line)
		}
	}
	_, err = fmt.Fprint(cmd.OutOrStdout(), b.String())
	return err
}

func (e *envCommand) check() error {
	if !slices.Contains([]string{"all", "go", "python", "node", "java", "dotnet", "az"}, e.program) {
		return usagef("--for %s: there are all, go, python, node, java, dotnet and az", e.program)
	}
	if !slices.ContainsFunc(shells(), func(s shell) bool { return s.name == e.shell }) {
		return usagef("--shell %s: there are sh, fish and powershell", e.shell)
	}
	if e.credential == "" {
		e.credential = "secret"
		if e.program == "all" {
			e.credential = "managed"
		}
	}
	if e.credential != "secret" && e.credential != "managed" {
		return usagef("--credential %s: there are secret and managed", e.credential)
	}
	if e.program == "all" && e.credential == "secret" {
		return usagef("--credential secret needs --for go, python, node, java or dotnet: what one of them needs misleads another")
	}
	return nil
}

// vaultVariables name a vault: the one that was asked for, that of dev mode, or the only one. If there is none of these, note
// says so.
func (e *envCommand) vaultVariables(ctx context.Context, socket *admin.Client) (vars []variable, note string, err error) {
	vaults, err := liveVaults(ctx, socket)
	if err != nil {
		return nil, "", err
	}
	v := meantVault(vaults)
	if e.vault != "" {
		i := slices.IndexFunc(vaults, func(v admin.Vault) bool { return strings.EqualFold(v.Name, e.vault) })
		if i < 0 {
			return nil, "", &notFoundError{fmt.Sprintf("there is no vault %q; strongroom vault list shows them", e.vault)}
		}
		v = &vaults[i]
	}
	if v == nil {
		return nil, "AZURE_KEYVAULT_URL is not set: " + vaultChoice(vaults), nil
	}
	// Without the slash at the end: programs put paths behind it.
	url := strings.TrimSuffix(v.URL, "/")
	return []variable{{name: "AZURE_KEYVAULT_URL", value: url}, {name: "VAULT_URL", value: url}}, "", nil
}

// liveVaults are the vaults that are not deleted.
func liveVaults(ctx context.Context, socket *admin.Client) ([]admin.Vault, error) {
	var vaults []admin.Vault
	err := socket.Do(ctx, http.MethodGet, "/vaults", nil, &vaults)
	return vaults, err
}

// meantVault is the vault that is meant by who names none: that of dev mode, or the only one. Nil if there is no such.
func meantVault(vaults []admin.Vault) *admin.Vault {
	if i := slices.IndexFunc(vaults, func(v admin.Vault) bool { return strings.EqualFold(v.Name, devVault) }); i >= 0 {
		return &vaults[i]
	}
	if len(vaults) == 1 {
		return &vaults[0]
	}
	return nil
}

// vaultChoice tells what can be said where no vault is meant by itself.
func vaultChoice(vaults []admin.Vault) string {
	if len(vaults) == 0 {
		return "there is none yet; strongroom vault create makes one"
	}
	const shown = 10 // of what may be many
	var names []string
	for _, v := range vaults[:min(len(vaults), shown)] {
		names = append(names, v.Name)
	}
	if len(vaults) > shown {
		names = append(names, "…")
	}
	return "--vault-name " + strings.Join(names, "|")
}

// trust makes the programs trust the server's authority beside the others. With a certificate of the operator's own
// there is nothing to add.
func (e *envCommand) trust(dir string, status *admin.Status) ([]variable, error) {
	if status.CAFile == "" {
		return nil, nil
	}
	var vars []variable
	wants := func(programs ...string) bool { return e.program == "all" || slices.Contains(programs, e.program) }
	if wants("go", "python", "java", "dotnet", "az") {
		bundle := filepath.Join(dir, bundleFile)
		base := firstSet("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
		if base == "" {
			base = systemBundle()
		}
		if err := writeBundle(bundle, base, status.CAFile); err != nil {
			return nil, err
		}
		if wants("go", "python", "dotnet", "az") {
			vars = append(vars, variable{name: "SSL_CERT_FILE", value: bundle})
		}
		if wants("python", "az") {
			vars = append(vars, variable{name: "REQUESTS_CA_BUNDLE", value: bundle})
		}
		if wants() {
			vars = append(vars, variable{name: "CURL_CA_BUNDLE", value: bundle})
		}
		if e.program == "java" {
			java, err := javaTrust(dir, bundle)
			if err != nil {
				return nil, err
			}
			vars = append(vars, java)
		}
	}
	if wants("node") {
		node, err := nodeTrust(dir, status.CAFile)
		if err != nil {
			return nil, err
		}
		vars = append(vars, node)
	}
	return vars, nil
}

// nodeTrust keeps what NODE_EXTRA_CA_CERTS names already: the variable takes one file only.
func nodeTrust(dir, ca string) (variable, error) {
	v := variable{name: "NODE_EXTRA_CA_CERTS", value: ca}
	old := os.Getenv(v.name)
	if old == "" || old == ca {
		return v, nil
	}
	v.value = filepath.Join(dir, nodeFile)
	return v, writeBundle(v.value, old, ca)
}

func firstSet(names ...string) string {
	for _, name := range names {
		if value := os.Getenv(name); value != "" {
			return value
		}
	}
	return ""
}

func (e *envCommand) credentialVariables(dir string, status *admin.Status) ([]variable, error) {
	vars := []variable{{name: "AZURE_AUTHORITY_HOST", value: loginURL(*status)}}
	if e.program == "az" {
		return nil, nil // az takes credentials from its own login only
	}
	if e.credential == "managed" {
		if status.IdentityEndpoint == "" {
			return nil, errors.New("the server has no managed-identity endpoint: set managedIdentity.listen in its configuration, " +
				"or name the program with --for to get a client secret")
		}
		c, err := readCredentials(e.credentials, dir, server.ManagedIdentityFile)
		if err != nil {
			return nil, err
		}
		return append(vars,
			variable{name: "IDENTITY_ENDPOINT", value: status.IdentityEndpoint},
			variable{name: "IDENTITY_HEADER", value: c.Secret},
			variable{name: "AZURE_CLIENT_ID", unset: true},
			variable{name: "AZURE_CLIENT_SECRET", unset: true},
			variable{name: "AZURE_TENANT_ID", unset: true},
			variable{name: "AZURE_CLIENT_CERTIFICATE_PATH", unset: true},
			variable{name: "AZURE_FEDERATED_TOKEN_FILE", unset: true},
			variable{name: "AZURE_REGIONAL_AUTHORITY_NAME", unset: true},
		), nil
	}
	c, err := readCredentials(e.credentials, dir, server.AdministratorFile)
	if err != nil {
		return nil, err
	}
	region := variable{name: "AZURE_REGIONAL_AUTHORITY_NAME", unset: true}
	tenant := c.TenantID
	switch e.program {
	case "go", "java":
		region = variable{name: region.name, value: regionLabel}
	case "python", "node":
		tenant = "adfs"
	case "dotnet":
		if status.Port == "" { // MSAL.NET forgets any other when it asks the authority whether it is one
			tenant = "adfs"
		}
	}
	return append(vars,
		variable{name: "AZURE_TENANT_ID", value: tenant},
		variable{name: "AZURE_CLIENT_ID", value: c.ClientID},
		variable{name: "AZURE_CLIENT_SECRET", value: c.Secret},
		region,
		variable{name: "AZURE_CLIENT_CERTIFICATE_PATH", unset: true},
		variable{name: "AZURE_FEDERATED_TOKEN_FILE", unset: true},
		variable{name: "IDENTITY_ENDPOINT", unset: true},
		variable{name: "IDENTITY_HEADER", unset: true},
	), nil
}

// readCredentials reads the credentials in the file path, or if that is empty those that init made in the data folder.
func readCredentials(path, dir, file string) (*server.Credentials, error) {
	if path == "" {
		path = filepath.Join(dir, file)
	}
	c, err := server.ReadCredentials(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &missingCredentials{path}
	}
	return c, err
}

// missingCredentials are not where they were looked for.
type missingCredentials struct{ path string }

func (e *missingCredentials) Error() string {
	return fmt.Sprintf("the credentials %s are not there: if they were moved away, name the file with --credentials", e.path)
}

func (e *missingCredentials) Is(target error) bool { return target == fs.ErrNotExist }
