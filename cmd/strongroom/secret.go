package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// Bounds on files that are read. A secret's value has at most 25 kB; a backup holds up to 500 versions of one.
const (
	maxValueFile  = 1 << 20
	maxBackupFile = 64 << 20
)

func newSecretCommand() *cobra.Command {
	c := group("secret", "Manage secrets, with the flags and the output of az keyvault secret",
		newSecretSet(), newSecretShow(), newSecretList(), newSecretListVersions(), newSecretSetAttributes(), newSecretDelete(),
		newSecretListDeleted(), newSecretShowDeleted(), newSecretRecover(), newSecretPurge(), newSecretBackup(), newSecretRestore(),
		newSecretDownload())
	c.Long = `The secret commands work on a vault of the server on this machine without any setting: the data folder tells where it is and
holds the administrator's credentials. With --vault-url, or the URL of a secret as --id, they work on any vault, with the
credentials that the environment offers to every Azure SDK. For a vault of this server those are what "strongroom env" or
"strongroom env --for go" prints: what it prints for other programs does not serve these commands.`
	return c
}

// A secretRef names a secret.
type secretRef struct {
	target
	out output

	name, id, version string
	versions          bool // the command takes a version
}

// registerNamed adds the flags that name one secret.
func (r *secretRef) registerNamed(cmd *cobra.Command, versions bool) {
	r.target.register(cmd)
	r.versions = versions
	f := cmd.Flags()
	f.StringVarP(&r.name, "name", "n", "", "name of the secret")
	f.StringVar(&r.id, "id", "", "URL of the secret, instead of --name and the vault")
	if versions {
		f.StringVarP(&r.version, "version", "v", "", "version (default the latest)")
	}
	for _, other := range []string{"name", "vault-name", "vault-url"} {
		cmd.MarkFlagsMutuallyExclusive("id", other)
	}
}

// registerVault adds the flags of commands about a whole vault.
func (r *secretRef) registerVault(cmd *cobra.Command) {
	r.target.register(cmd)
	cmd.Flags().StringVar(&r.id, "id", "", "URL of the vault, as az takes it")
	cmd.MarkFlagsMutuallyExclusive("id", "vault-name")
	cmd.MarkFlagsMutuallyExclusive("id", "vault-url")
}

// parse reads --id, which has the form https://<vault>/secrets/<name>[/<version>] or …/deletedsecrets/<name>.
func (r *secretRef) parse() error {
	if r.id == "" {
		if r.name == "" {
			return usagef("--name is missing: which secret? (or --id with its URL)")
		}
		return nil
	}
	u, err := url.Parse(r.id)
	if err != nil {
		return usagef("--id %s is not a URL", r.id)
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != "secrets" && parts[0] != "deletedsecrets" {
		return usagef("--id %s is not the URL of a secret: https://<vault>/secrets/<name>/<version>", r.id)
	}
	r.vaultURL, r.name = u.Scheme+"://"+u.Host, parts[1]
	if len(parts) == 3 && r.version == "" && r.versions {
		r.version = parts[2]
	}
	return nil
}

// A secretWork is what a command does with a client.
type secretWork func(ctx context.Context, client *azsecrets.Client, w io.Writer) error

// do prepares the client and does the work within the time that the command may take.
func (r *secretRef) do(cmd *cobra.Command, work secretWork) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), r.timeout)
	defer cancel()
	client, err := r.secrets(ctx)
	if err != nil {
		return err
	}
	return work(ctx, client, cmd.OutOrStdout())
}

// named is do for a command about one secret.
func (r *secretRef) named(cmd *cobra.Command, work secretWork) error {
	if r.out.format != "" {
		if err := r.out.check(); err != nil {
			return err
		}
	}
	if err := r.parse(); err != nil {
		return err
	}
	return r.do(cmd, work)
}

func secretColumns() []string {
	return []string{"name", "id", "contentType", "attributes.enabled", "attributes.expires"}
}

func newSecretSet() *cobra.Command {
	var (
		r                          secretRef
		value, file, encoding      string
		contentType, expires, from string
		tags                       []string
		disabled                   bool
	)
	cmd := &cobra.Command{
		Use:   "set --name NAME --file FILE",
		Short: "Create a secret, or a new version of one",
		Long: `Set creates a secret, or a new version of one. Give the value with --file, or on standard input with --file -: what stands on
a command line is seen by every program of the machine and is kept in the shell's history. At a terminal --file - asks for one line
and does not show it. An empty value is only taken as --value ''.

With --encoding base64 or hex the file's bytes are stored in that form and "secret download" restores them.`,
		Example: `  strongroom secret set --name db-password --file -
  strongroom secret set --name keystore --file keystore.p12 --encoding base64 --tags owner=team-a stage=prod
  openssl rand -base64 32 | strongroom secret set -n api-key -f - --expires 2030-01-01T00:00:00Z`,
		Args: wordsOf("disabled"),
		RunE: func(cmd *cobra.Command, args []string) error {
			args = takeSwitch(args, &disabled)
			if cmd.Flags().Changed("value") == cmd.Flags().Changed("file") {
				return usagef("give the value with either --file (- is standard input) or --value")
			}
			if err := checkEncoding(encoding); err != nil {
				return err
			}
			p := azsecrets.SetSecretParameters{Value: &value, SecretAttributes: &azsecrets.SecretAttributes{}}
			var err error
			if p.SecretAttributes.Expires, err = parseTime("expires", expires); err != nil {
				return err
			}
			if p.SecretAttributes.NotBefore, err = parseTime("not-before", from); err != nil {
				return err
			}
			if p.Tags, err = parseTags(append(tags, args...)); err != nil {
				return err
			}
			p.Tags[encodingTag] = &encoding
			if cmd.Flags().Changed("content-type") || cmd.Flags().Changed("description") {
				p.ContentType = &contentType
			}
			if cmd.Flags().Changed("disabled") {
				enabled := !disabled
				p.SecretAttributes.Enabled = &enabled
			}
			if cmd.Flags().Changed("file") {
				content, err := readValue(cmd, file)
				if err != nil {
					return err
				}
				if len(content) == 0 {
					// What should have written it has probably failed, and the version would hide the good one before.
					return fmt.Errorf("--file %s holds nothing, and nothing is set: give --value '' for an empty value", file)
				}
				if value, err = encodeFile(content, encoding); err != nil {
					return err
				}
			}
			return r.named(cmd, func(ctx context.Context, c *azsecrets.Client, w io.Writer) error {
				got, err := c.SetSecret(ctx, r.name, p, nil)
				if err != nil {
					return err
				}
				return r.out.print(w, newSecretOut(&got.Secret), secretColumns()...)
			})
		},
	}
	r.registerNamed(cmd, false)
	r.out.register(cmd)
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "file with the value; - is standard input")
	f.StringVar(&value, "value", "", "the value itself; others can see it, so better use --file -")
	f.StringVarP(&encoding, "encoding", "e", "utf-8", "encoding of the file: utf-8, utf-16le, utf-16be, ascii, base64, hex")
	f.StringVar(&contentType, "content-type", "", "type of the content")
	f.StringVar(&contentType, "description", "", "the same as --content-type")
	f.StringArrayVar(&tags, "tags", nil, "tags, each key=value; '' for none")
	f.StringVar(&expires, "expires", "", "UTC time after which the secret should not be used (Y-m-d'T'H:M:S'Z')")
	f.StringVar(&from, "not-before", "", "UTC time before which the secret should not be used (Y-m-d'T'H:M:S'Z')")
	f.BoolVar(&disabled, "disabled", false, "create the secret disabled")
	cmd.MarkFlagsMutuallyExclusive("value", "file")
	return cmd
}

// wordsOf allows the words that az takes behind a flag and that are arguments to us: further tags in "--tags a=b c=d", and
// true or false behind the switch.
func wordsOf(name string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		for _, a := range args {
			state := (a == "true" || a == "false") && cmd.Flags().Changed(name)
			tag := strings.Contains(a, "=") && cmd.Flags().Changed("tags")
			if !state && !tag {
				return strayArgument(cmd, a)
			}
		}
		return nil
	}
}

// takeSwitch takes true and false from the words and returns the tags.
func takeSwitch(words []string, state *bool) (tags []string) {
	for _, w := range words {
		switch w {
		case "true", "false":
			*state = w == "true"
		default:
			tags = append(tags, w)
		}
	}
	return tags
}

func parseTags(words []string) (map[string]*string, error) {
	tags := make(map[string]*string)
	for _, w := range words {
		if w == "" {
			continue
		}
		key, value, _ := strings.Cut(w, "=")
		if key == "" {
			return nil, usagef("tag %q has no name", w)
		}
		tags[key] = &value
	}
	return tags, nil
}

// parseTime reads a time in UTC as az takes it.
func parseTime(flag, text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05Z", "2006-01-02T15:04Z", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return &t, nil
		}
	}
	return nil, usagef("--%s %s is not a time in UTC such as 2030-12-31T23:59:59Z", flag, text)
}

// readValue reads a file, or asks for one line without showing it if standard input is a terminal.
func readValue(cmd *cobra.Command, path string) ([]byte, error) {
	in, ok := cmd.InOrStdin().(*os.File)
	if path != "-" || !ok || !term.IsTerminal(int(in.Fd())) {
		return readInput(cmd, path, maxValueFile)
	}
	fmt.Fprint(cmd.ErrOrStderr(), "Value (one line, not shown): ")
	line, err := term.ReadPassword(int(in.Fd()))
	fmt.Fprintln(cmd.ErrOrStderr())
	return line, err
}

// readInput reads a file, or standard input for "-".
func readInput(cmd *cobra.Command, path string, limit int64) ([]byte, error) {
	in := cmd.InOrStdin()
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in = f
	}
	content, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(content)) > limit {
		return nil, fmt.Errorf("%s holds more than %d bytes", path, limit)
	}
	return content, nil
}

func newSecretShow() *cobra.Command {
	var r secretRef
	cmd := &cobra.Command{
		Use:   "show --name NAME",
		Short: "Show a secret with its value",
		Example: `  strongroom secret show --name db-password
  password="$(strongroom secret show --name db-password --query value --output tsv)"
  strongroom secret show --id https://demo.vault.localhost:8443/secrets/db-password`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.named(cmd, func(ctx context.Context, c *azsecrets.Client, w io.Writer) error {
				got, err := c.GetSecret(ctx, r.name, r.version, nil)
				if err != nil {
					return err
				}
				return r.out.print(w, newSecretOut(&got.Secret), append(secretColumns(), "value")...)
			})
		},
	}
	r.registerNamed(cmd, true)
	r.out.registerQuery(cmd, "value, id or name")
	return cmd
}

// A listing bounds a list and says what belongs to it.
type listing struct {
	max     int
	managed bool
}

func (l *listing) register(cmd *cobra.Command, managed bool) {
	cmd.Flags().IntVar(&l.max, "maxresults", 0, "print at most so many (default all)")
	l.managed = true
	if managed {
		cmd.Flags().BoolVar(&l.managed, "include-managed", false, "include secrets whose life a certificate governs")
	}
}

func (l *listing) check() error {
	if l.max < 0 {
		return usagef("--maxresults %d is not a number of secrets", l.max)
	}
	return nil
}

// collect reads pages until there is enough.
func collect[P, I, O any](ctx context.Context, l *listing, pager *runtime.Pager[P], items func(P) []*I, managed func(*I) *bool, out func(*I) O) ([]O, error) {
	all := []O{}
	for pager.More() {
		page, err := pager.NextPage(ctx)
		if err != nil {
			return nil, err
		}
		for _, item := range items(page) {
			if m := managed(item); m != nil && *m && !l.managed {
				continue
			}
			all = append(all, out(item))
			if len(all) == l.max {
				return all, nil
			}
		}
	}
	return all, nil
}

func newSecretList() *cobra.Command {
	var (
		r secretRef
		l listing
	)
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List the secrets of a vault, without their values",
		Example: "  strongroom secret list --output table\n  strongroom secret list --vault-name demo --maxresults 5",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(r.out.check(), l.check(), r.parseVault()); err != nil {
				return err
			}
			return r.do(cmd, func(ctx context.Context, c *azsecrets.Client, w io.Writer) error {
				all, err := collect(ctx, &l, c.NewListSecretPropertiesPager(nil),
					func(p azsecrets.ListSecretPropertiesResponse) []*azsecrets.SecretProperties { return p.Value },
					func(p *azsecrets.SecretProperties) *bool { return p.Managed }, newPropertiesOut)
				if err != nil {
					return err
				}
				return r.out.print(w, all, secretColumns()...)
			})
		},
	}
	r.registerVault(cmd)
	r.out.registerQuery(cmd, "[].name")
	l.register(cmd, true)
	return cmd
}

// parseVault reads the --id of commands about a whole vault.
func (r *secretRef) parseVault() error {
	if r.id == "" {
		return nil
	}
	u, err := url.Parse(r.id)
	if err != nil || u.Host == "" {
		return usagef("--id %s is not the URL of a vault", r.id)
	}
	r.vaultURL = u.Scheme + "://" + u.Host
	return nil
}

func newSecretListVersions() *cobra.Command {
	var (
		r secretRef
		l listing
	)
	cmd := &cobra.Command{
		Use:     "list-versions --name NAME",
		Short:   "List the versions of a secret, without their values",
		Example: "  strongroom secret list-versions --name db-password --output table",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := l.check(); err != nil {
				return err
			}
			return r.named(cmd, func(ctx context.Context, c *azsecrets.Client, w io.Writer) error {
				all, err := collect(ctx, &l, c.NewListSecretPropertiesVersionsPager(r.name, nil),
					func(p azsecrets.ListSecretPropertiesVersionsResponse) []*azsecrets.SecretProperties { return p.Value },
					func(p *azsecrets.SecretProperties) *bool { return p.Managed }, newPropertiesOut)
				if err != nil {
					return err
				}
				return r.out.print(w, all, secretColumns()...)
			})
		},
	}
	r.registerNamed(cmd, false)
	r.out.register(cmd)
	l.register(cmd, false)
	return cmd
}

func newSecretListDeleted() *cobra.Command {
	var (
		r secretRef
		l listing
	)
	cmd := &cobra.Command{
		Use:     "list-deleted",
		Short:   "List the deleted secrets of a vault",
		Example: "  strongroom secret list-deleted --output table",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(r.out.check(), l.check(), r.parseVault()); err != nil {
				return err
			}
			return r.do(cmd, func(ctx context.Context, c *azsecrets.Client, w io.Writer) error {
				all, err := collect(ctx, &l, c.NewListDeletedSecretPropertiesPager(nil),
					func(p azsecrets.ListDeletedSecretPropertiesResponse) []*azsecrets.DeletedSecretProperties {
						return p.Value
					},
					func(p *azsecrets.DeletedSecretProperties) *bool { return p.Managed }, newDeletedPropertiesOut)
				if err != nil {
					return err
				}
				return r.out.print(w, all, "name", "recoveryId", "deletedDate", "scheduledPurgeDate")
			})
		},
	}
	r.registerVault(cmd)
	r.out.register(cmd)
	l.register(cmd, false)
	return cmd
}

func newSecretSetAttributes() *cobra.Command {
	var (
		r             secretRef
		contentType   string
		expires, from string
		enabled       bool
		tags          []string
		p             azsecrets.UpdateSecretPropertiesParameters
	)
	cmd := &cobra.Command{
		Use:   "set-attributes --name NAME",
		Short: "Change the attributes of a secret",
		Example: `  strongroom secret set-attributes --name db-password --enabled false
  strongroom secret set-attributes --name db-password --expires 2030-01-01T00:00:00Z --tags owner=team-b`,
		Args: wordsOf("enabled"),
		RunE: func(cmd *cobra.Command, args []string) error {
			args = takeSwitch(args, &enabled)
			changed := cmd.Flags().Changed
			p.SecretAttributes = new(azsecrets.SecretAttributes)
			var err error
			if p.SecretAttributes.Expires, err = parseTime("expires", expires); err != nil {
				return err
			}
			if p.SecretAttributes.NotBefore, err = parseTime("not-before", from); err != nil {
				return err
			}
			if changed("enabled") {
				p.SecretAttributes.Enabled = &enabled
			}
			if changed("tags") {
				if p.Tags, err = parseTags(append(tags, args...)); err != nil {
					return err
				}
			}
			if changed("content-type") {
				p.ContentType = &contentType
			}
			if !slices.ContainsFunc([]string{"expires", "not-before", "enabled", "tags", "content-type"}, changed) {
				return usagef("nothing is to be changed: give --enabled, --expires, --not-before, --content-type or --tags")
			}
			return r.named(cmd, func(ctx context.Context, c *azsecrets.Client, w io.Writer) error {
				got, err := c.UpdateSecretProperties(ctx, r.name, r.version, p, nil)
				if err != nil {
					return err
				}
				return r.out.print(w, newSecretOut(&got.Secret), secretColumns()...)
			})
		},
	}
	r.registerNamed(cmd, true)
	r.out.register(cmd)
	f := cmd.Flags()
	f.StringVar(&contentType, "content-type", "", "type of the content")
	f.StringArrayVar(&tags, "tags", nil, "tags, each key=value, instead of the present ones; '' for none")
	f.StringVar(&expires, "expires", "", "UTC time after which the secret should not be used (Y-m-d'T'H:M:S'Z')")
	f.StringVar(&from, "not-before", "", "UTC time before which the secret should not be used (Y-m-d'T'H:M:S'Z')")
	f.BoolVar(&enabled, "enabled", true, "true or false")
	return cmd
}

func newSecretDelete() *cobra.Command {
	var r secretRef
	cmd := &cobra.Command{
		Use:     "delete --name NAME",
		Short:   "Delete a secret; it can be recovered until it is purged",
		Example: "  strongroom secret delete --name db-password",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.named(cmd, func(ctx context.Context, c *azsecrets.Client, w io.Writer) error {
				got, err := c.DeleteSecret(ctx, r.name, nil)
				if err != nil {
					return err
				}
				err = settle(ctx, func() error {
					_, err := c.GetDeletedSecret(ctx, r.name, nil)
					return err
				})
				if err != nil {
					return err
				}
				return r.out.print(w, newDeletedOut(&got.DeletedSecret), "name", "recoveryId", "deletedDate", "scheduledPurgeDate")
			})
		},
	}
	r.registerNamed(cmd, false)
	r.out.register(cmd)
	return cmd
}

// settle asks until the effect of a deletion or a recovery is there. Strongroom has it at once; Azure takes seconds. A
// caller who may not look takes the service's word.
func settle(ctx context.Context, look func() error) error {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		err := look()
		var refused *azcore.ResponseError
		switch {
		case err == nil || errors.As(err, &refused) && refused.StatusCode == http.StatusForbidden:
			return nil
		case refused == nil || refused.StatusCode != http.StatusNotFound:
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the service has accepted it, but the effect is not there yet: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

func newSecretShowDeleted() *cobra.Command {
	var r secretRef
	cmd := &cobra.Command{
		Use:     "show-deleted --name NAME",
		Short:   "Show a deleted secret, without its value",
		Example: "  strongroom secret show-deleted --name db-password",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.named(cmd, func(ctx context.Context, c *azsecrets.Client, w io.Writer) error {
				got, err := c.GetDeletedSecret(ctx, r.name, nil)
				if err != nil {
					return err
				}
				return r.out.print(w, newDeletedOut(&got.DeletedSecret), "name", "recoveryId", "deletedDate", "scheduledPurgeDate")
			})
		},
	}
	r.registerNamed(cmd, false)
	r.out.register(cmd)
	return cmd
}

func newSecretRecover() *cobra.Command {
	var r secretRef
	cmd := &cobra.Command{
		Use:     "recover --name NAME",
		Short:   "Recover a deleted secret with all its versions",
		Example: "  strongroom secret recover --name db-password",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.named(cmd, func(ctx context.Context, c *azsecrets.Client, w io.Writer) error {
				got, err := c.RecoverDeletedSecret(ctx, r.name, nil)
				if err != nil {
					return err
				}
				err = settle(ctx, func() error {
					_, err := c.GetSecret(ctx, r.name, "", nil)
					return err
				})
				if err != nil {
					return err
				}
				return r.out.print(w, newSecretOut(&got.Secret), secretColumns()...)
			})
		},
	}
	r.registerNamed(cmd, false)
	r.out.register(cmd)
	return cmd
}

func newSecretPurge() *cobra.Command {
	var r secretRef
	cmd := &cobra.Command{
		Use:     "purge --name NAME",
		Short:   "Remove a deleted secret for ever",
		Example: "  strongroom secret purge --name db-password",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.named(cmd, func(ctx context.Context, c *azsecrets.Client, _ io.Writer) error {
				_, err := c.PurgeDeletedSecret(ctx, r.name, nil)
				return err
			})
		},
	}
	r.registerNamed(cmd, false)
	return cmd
}

func newSecretBackup() *cobra.Command {
	var (
		r    secretRef
		file string
	)
	cmd := &cobra.Command{
		Use:   "backup --name NAME --file FILE",
		Short: "Save a secret with all its versions to a new file",
		Long: `Backup saves a secret with all its versions to a new file of mode 0600. Only the installation that made it can restore it: what
it holds is encrypted.`,
		Example: "  strongroom secret backup --name db-password --file db-password.backup",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("--file is missing: where to?")
			}
			return r.named(cmd, func(ctx context.Context, c *azsecrets.Client, _ io.Writer) error {
				got, err := c.BackupSecret(ctx, r.name, nil)
				if err != nil {
					return err
				}
				return writeNewFile(file, got.Value)
			})
		},
	}
	r.registerNamed(cmd, false)
	cmd.Flags().StringVarP(&file, "file", "f", "", "new file")
	return cmd
}

func newSecretRestore() *cobra.Command {
	var (
		r    secretRef
		file string
	)
	cmd := &cobra.Command{
		Use:     "restore --file FILE",
		Short:   "Restore a secret with all its versions from a backup",
		Example: "  strongroom secret restore --file db-password.backup",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("--file is missing: which backup?")
			}
			if err := errors.Join(r.out.check(), r.parseVault()); err != nil {
				return err
			}
			blob, err := readInput(cmd, file, maxBackupFile)
			if err != nil {
				return err
			}
			return r.do(cmd, func(ctx context.Context, c *azsecrets.Client, w io.Writer) error {
				got, err := c.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: blob}, nil)
				if err != nil {
					return err
				}
				return r.out.print(w, newSecretOut(&got.Secret), secretColumns()...)
			})
		},
	}
	r.registerVault(cmd)
	r.out.register(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "file that backup made; - is standard input")
	return cmd
}

func newSecretDownload() *cobra.Command {
	var (
		r              secretRef
		file, encoding string
	)
	cmd := &cobra.Command{
		Use:   "download --name NAME --file FILE",
		Short: "Save a secret's value to a new file",
		Long: `Download saves a secret's value to a new file of mode 0600 and never overwrites one; --file - is standard output. Bytes that were set with --encoding
base64 or hex are restored: the tag "file-encoding" tells, unless --encoding does.`,
		Example: "  strongroom secret download --name keystore --file keystore.p12",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("--file is missing: where to?")
			}
			if encoding != "" {
				if err := checkEncoding(encoding); err != nil {
					return err
				}
			}
			return r.named(cmd, func(ctx context.Context, c *azsecrets.Client, w io.Writer) error {
				got, err := c.GetSecret(ctx, r.name, r.version, nil)
				if err != nil {
					return err
				}
				if tag := got.Tags[encodingTag]; encoding == "" && tag != nil {
					encoding = *tag
				}
				if got.Value == nil {
					return errors.New("the service sent no value")
				}
				content, err := decodeValue(*got.Value, encoding)
				if err != nil {
					return err
				}
				if file == "-" {
					_, err := w.Write(content)
					return err
				}
				return writeNewFile(file, content)
			})
		},
	}
	r.registerNamed(cmd, true)
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "new file; - is standard output")
	f.StringVarP(&encoding, "encoding", "e", "", "encoding of the value (default what the tag file-encoding says)")
	return cmd
}
