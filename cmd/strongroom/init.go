package main

import (
	"crypto/tls"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"text/template"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/server"
)

// configTemplate is the configuration that init writes. The comments of server.Config are the whole manual.
//
//go:embed strongroom.yaml.tmpl
var configTemplate string

type initCommand struct {
	config, domain, data, tenant, vault, sku, region string
	rootKeyFile, rootKeyEnv, passphrase, passEnv     string
	listen                                           []string
	certificate, key, audit, identityAt, operations  string
}

func newInitCommand() *cobra.Command {
	i := new(initCommand)
	cmd := &cobra.Command{
		Use:   "init --domain DOMAIN",
		Short: "Make a new installation and its configuration file",
		Long: `Init writes a configuration file and makes the installation that it describes: root key, database, tenant, an administrator
with a client secret, a managed identity and, with --vault, a first vault. It overwrites nothing.`,
		Example: `  strongroom init --domain corp.example --data /var/lib/strongroom --root-key-file /etc/strongroom/root.key --vault main
  strongroom init --domain corp.example --passphrase-file /run/secrets/strongroom`,
		RunE: i.run,
	}
	f := cmd.Flags()
	f.StringVar(&i.config, "config", "strongroom.yaml", "configuration file to write")
	f.StringVar(&i.domain, "domain", "", "domain below which everything answers (required)")
	f.StringVar(&i.data, "data", defaultData, "data folder")
	f.StringVar(&i.tenant, "tenant", "", "id of the tenant, a GUID (default a new one)")
	f.StringVar(&i.vault, "vault", "", "name of a first vault")
	f.StringVar(&i.sku, "sku", "standard", "of the first vault: standard or premium")
	f.StringVar(&i.region, "region", "local", "location that vaults report")
	f.StringArrayVar(&i.listen, "listen", []string{"0.0.0.0:443", "[::]:443"}, "address for HTTPS; may be given more than once")
	f.StringVar(&i.rootKeyFile, "root-key-file", "", "root key, made if missing (default strongroom-root.key beside the configuration)")
	f.StringVar(&i.rootKeyEnv, "root-key-env", "", "variable that holds the root key (strongroom seal generate-key makes one)")
	f.StringVar(&i.passphrase, "passphrase-file", "", "file whose first line is a passphrase that protects instead of a root key")
	f.StringVar(&i.passEnv, "passphrase-env", "", "variable that holds such a passphrase")
	f.StringVar(&i.certificate, "tls-certificate", "", "PEM file with the server's certificate and chain (default one of the local authority)")
	f.StringVar(&i.key, "tls-key", "", "PEM file with its private key")
	f.StringVar(&i.audit, "audit-file", "", "audit log (default audit/audit.jsonl in the data folder)")
	f.StringVar(&i.identityAt, "identity-listen", "", "loopback address of the managed-identity endpoint (default none)")
	f.StringVar(&i.operations, "operations-listen", "127.0.0.1:9443", `loopback address of health and metrics, "-" for none`)
	cmd.MarkFlagsMutuallyExclusive("root-key-file", "root-key-env", "passphrase-file", "passphrase-env")
	cmd.MarkFlagsRequiredTogether("tls-certificate", "tls-key")
	return cmd
}

func (i *initCommand) run(cmd *cobra.Command, _ []string) error {
	if i.domain == "" {
		return usagef("--domain is missing: the domain below which vaults answer, such as corp.example")
	}
	if err := i.check(); err != nil {
		return err
	}
	if _, err := os.Lstat(i.config); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists already and is kept: serve it, or name another file with --config", i.config)
	}
	text, err := i.text()
	if err != nil {
		return err
	}
	draft, cfg, err := writeDraft(i.config, text)
	if err != nil {
		return err
	}
	defer os.Remove(draft) // fails once it has its name
	if _, err := os.Lstat(cfg.RootKey.File); cfg.RootKey.File != "" && i.rootKeyFile == "" && err == nil {
		return fmt.Errorf("there is a root key %s already, perhaps of another installation: name another file with --root-key-file, or "+
			"that one if both shall have the same", cfg.RootKey.File)
	}
	_, err = os.Lstat(cfg.Data)
	made := errors.Is(err, fs.ErrNotExist)
	fresh, err := server.Init(cmd.Context(), cfg, server.Options{TenantID: i.tenant, SKU: i.sku}, i.vault)
	if err != nil {
		if made {
			os.Remove(cfg.Data) // only if nothing is in it: the root key is opened first
		}
		return i.explainRootKey(err)
	}
	if !fresh {
		return fmt.Errorf("%s holds an installation already and is kept: choose another folder with --data", cfg.Data)
	}
	// A link, not a rename, because that never overwrites.
	if err := os.Link(draft, i.config); err != nil {
		return err
	}
	i.report(cmd, cfg)
	return nil
}

// newVaultName is what a vault may be called: Azure's rule, but for its length of 3 to 24.
var newVaultName = regexp.MustCompile(`^[a-zA-Z](?:-?[a-zA-Z0-9])+$`)

// check finds what would fail only after something was made.
func (i *initCommand) check() error {
	const guid = 36 // bytes in the only form that the wire has
	if i.tenant != "" && (len(i.tenant) != guid || uuid.Validate(i.tenant) != nil) {
		return usagef("--tenant %s is not a GUID", i.tenant)
	}
	if i.sku != "standard" && i.sku != "premium" {
		return usagef("--sku must be standard or premium, not %q", i.sku)
	}
	if i.vault != "" && (len(i.vault) < 3 || len(i.vault) > 24 || !newVaultName.MatchString(i.vault)) {
		return usagef("--vault %q is not the name of a vault: 3 to 24 letters, digits and single hyphens, beginning with a letter and "+
			"not ending with a hyphen", i.vault)
	}
	if i.certificate != "" {
		if _, err := tls.LoadX509KeyPair(i.certificate, i.key); err != nil {
			return fmt.Errorf("--tls-certificate and --tls-key: %w", err)
		}
	}
	switch {
	case i.rootKeyEnv != "" && os.Getenv(i.rootKeyEnv) == "":
		return usagef("--root-key-env: the variable %s is not set; strongroom seal generate-key makes a root key", i.rootKeyEnv)
	case i.passEnv != "" && os.Getenv(i.passEnv) == "":
		return usagef("--passphrase-env: the variable %s is not set", i.passEnv)
	}
	return nil
}

// explainRootKey says where a good root key comes from.
func (i *initCommand) explainRootKey(err error) error {
	if i.rootKeyEnv != "" && strings.Contains(err.Error(), "root key") {
		return fmt.Errorf("the variable %s: %w; strongroom seal generate-key makes a root key", i.rootKeyEnv, err)
	}
	return err
}

// writeDraft writes the configuration under another name and reads it as the server would.
func writeDraft(path, text string) (draft string, cfg *server.Config, err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // has mode 0600
	if err != nil {
		return "", nil, err
	}
	_, err = f.WriteString(text)
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		cfg, err = server.ReadConfig(f.Name())
	}
	if err != nil {
		err = errors.New(strings.ReplaceAll(err.Error(), f.Name()+": ", ""))
		return "", nil, errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), cfg, nil
}

// text fills in the configuration, with absolute paths.
func (i *initCommand) text() (string, error) {
	values := map[string]any{
		"Domain": strings.ToLower(i.domain), "Listen": i.listen, "Region": i.region, "Identity": i.identityAt, "Operations": i.operations,
	}
	kind, value := "file", i.rootKeyFile
	switch {
	case i.rootKeyEnv != "":
		kind, value = "environment", i.rootKeyEnv
	case i.passphrase != "":
		kind, value = "passphraseFile", i.passphrase
	case i.passEnv != "":
		kind, value = "passphraseEnvironment", i.passEnv
	case value == "":
		value = filepath.Join(filepath.Dir(i.config), "strongroom-root.key")
	}
	paths := map[string]string{
		"Path": i.config, "Data": i.data, "Certificate": i.certificate, "Key": i.key, "Audit": i.audit,
	}
	if strings.HasSuffix(strings.ToLower(kind), "file") {
		paths["RootValue"] = value
	}
	values["RootKind"], values["RootValue"] = kind, value
	for name, path := range paths {
		if path != "" {
			var err error
			if path, err = filepath.Abs(path); err != nil {
				return "", err
			}
		}
		values[name] = path
	}
	if kind == "file" && within(values["Data"].(string), values["RootValue"].(string)) {
		return "", fmt.Errorf("%s: name another place with --root-key-file", keyBesideData)
	}
	var b strings.Builder
	t, err := template.New("config").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(configTemplate)
	if err == nil {
		err = t.Execute(&b, values)
	}
	return b.String(), err
}

// keyBesideData is why a root key is refused.
const keyBesideData = "the root key must not lie in the data folder, or whoever gets a copy of that has everything"

func within(folder, path string) bool {
	rel, err := filepath.Rel(folder, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}

func (i *initCommand) report(cmd *cobra.Command, cfg *server.Config) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "The installation is in %s, its configuration in %s.\n\n", cfg.Data, i.config)
	root := "The root key is " + cfg.RootKey.File
	switch r := cfg.RootKey; {
	case r.Environment != "":
		root = "The root key is in the variable " + r.Environment
	case r.PassphraseFile != "":
		root = "The passphrase is the first line of " + r.PassphraseFile
	case r.PassphraseEnvironment != "":
		root = "The passphrase is in the variable " + r.PassphraseEnvironment
	}
	fmt.Fprintf(w, "%s. Copy it to a safe place that is not this machine:\nwithout it nothing can be read again.\n\n", root)
	fmt.Fprintf(w, `The administrator's client secret is in
  %s
Move it to where you keep such things; the server does not need it. Whoever has it may do everything in the vaults
that it administers. The managed identity's is in
  %s

Start the server with
  %s serve --config %s
`, filepath.Join(cfg.Data, server.AdministratorFile), filepath.Join(cfg.Data, server.ManagedIdentityFile),
		programName(), shellQuote(i.config))
}
