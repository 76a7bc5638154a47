package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"
	"github.com/spf13/cobra"
)

func newSecretCommand() *cobra.Command {
	c := group("secret", "Manage secrets, with the flags and the output of az keyvault secret",
		newSecretSet(), newSecretShow(), newSecretList(), newSecretListVersions(), newSecretSetAttributes(), newSecretDelete(),
		newSecretListDeleted(), newSecretShowDeleted(), newSecretRecover(), newSecretPurge(), newSecretBackup(), newSecretRestore(),
		newSecretDownload())
	c.Long = reachText("secret")
	return c
}

// secrets is a client for a vault's secrets.
type secrets = *azsecrets.Client

func newSecretRef() *ref[secrets] {
	return &ref[secrets]{kind: kind[secrets]{
		noun: "secret", path: "secrets", example: "db-password",
		open: func(c *connection) (secrets, error) {
			return azsecrets.NewClient(c.vaultURL, c.credential, &azsecrets.ClientOptions{ClientOptions: c.options})
		},
	}}
}

func secretColumns() []string {
	return []string{"name", "id", "contentType", "attributes.enabled", "attributes.expires"}
}

func newSecretSet() *cobra.Command {
	var (
		when                               period
		value, file, encoding, contentType string
		tags                               []string
		disabled                           bool
	)
	r := newSecretRef()
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
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("value") == cmd.Flags().Changed("file") {
				return usagef("give the value with either --file (- is standard input) or --value")
			}
			if err := checkEncoding(encoding); err != nil {
				return err
			}
			p := azsecrets.SetSecretParameters{Value: &value, SecretAttributes: &azsecrets.SecretAttributes{}}
			var err error
			if p.SecretAttributes.Expires, p.SecretAttributes.NotBefore, err = when.parse(); err != nil {
				return err
			}
			if p.Tags, err = parseTags(tags); err != nil {
				return err
			}
			p.Tags[encodingTag] = &encoding
			if cmd.Flags().Changed("content-type") || cmd.Flags().Changed("description") {
				p.ContentType = &contentType
			}
			if cmd.Flags().Changed("disabled") {
				p.SecretAttributes.Enabled = new(!disabled)
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
			return r.named(cmd, r.printed(func(ctx context.Context, c secrets) (any, error) {
				got, err := c.SetSecret(ctx, r.name, p, nil)
				return newSecretOut(&got.Secret), err
			}, secretColumns()...))
		},
	}
	r.registerNamed(cmd, false)
	r.out.register(cmd)
	when.register(cmd, r.noun)
	registerTags(cmd, &tags, "tags, each key=value; '' for none")
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "file with the value; - is standard input")
	f.StringVar(&value, "value", "", "the value itself; others can see it, so better use --file -")
	f.StringVarP(&encoding, "encoding", "e", "utf-8", "encoding of the file: utf-8, utf-16le, utf-16be, ascii, base64, hex")
	f.StringVar(&contentType, "content-type", "", "type of the content")
	f.StringVar(&contentType, "description", "", "the same as --content-type")
	f.BoolVar(&disabled, "disabled", false, "create the secret disabled")
	azWords(cmd, "disabled")
	cmd.MarkFlagsMutuallyExclusive("value", "file")
	return cmd
}

func newSecretShow() *cobra.Command {
	r := newSecretRef()
	cmd := &cobra.Command{
		Use:   "show --name NAME",
		Short: "Show a secret with its value",
		Example: `  strongroom secret show --name db-password
  password="$(strongroom secret show --name db-password --query value --output tsv)"
  strongroom secret show --id https://demo.vault.localhost:8443/secrets/db-password`,
	}
	r.out.members = "value, id or name"
	return r.showing(cmd, true, func(ctx context.Context, c secrets) (any, error) {
		got, err := c.GetSecret(ctx, r.name, r.version, nil)
		return newSecretOut(&got.Secret), err
	}, append(secretColumns(), "value")...)
}

func newSecretList() *cobra.Command {
	var l listing
	r := newSecretRef()
	r.out.members = "[].name"
	return r.listing(&cobra.Command{
		Use:     "list",
		Short:   "List the secrets of a vault, without their values",
		Example: "  strongroom secret list --output table\n  strongroom secret list --vault-name demo --maxresults 5",
	}, &l, func(ctx context.Context, c secrets) (any, error) {
		return collect(ctx, &l, c.NewListSecretPropertiesPager(nil),
			func(p azsecrets.ListSecretPropertiesResponse) []*azsecrets.SecretProperties { return p.Value },
			func(p *azsecrets.SecretProperties) *bool { return p.Managed }, newPropertiesOut)
	}, secretColumns()...)
}

func newSecretListVersions() *cobra.Command {
	l := listing{managed: true}
	r := newSecretRef()
	return r.listingVersions(&cobra.Command{
		Use:     "list-versions --name NAME",
		Short:   "List the versions of a secret, without their values",
		Example: "  strongroom secret list-versions --name db-password --output table",
	}, &l, func(ctx context.Context, c secrets) (any, error) {
		return collect(ctx, &l, c.NewListSecretPropertiesVersionsPager(r.name, nil),
			func(p azsecrets.ListSecretPropertiesVersionsResponse) []*azsecrets.SecretProperties { return p.Value },
			func(p *azsecrets.SecretProperties) *bool { return p.Managed }, newPropertiesOut)
	}, secretColumns()...)
}

func newSecretListDeleted() *cobra.Command {
	l := listing{managed: true}
	r := newSecretRef()
	return r.listing(&cobra.Command{
		Use:     "list-deleted",
		Short:   "List the deleted secrets of a vault",
		Example: "  strongroom secret list-deleted --output table",
	}, &l, func(ctx context.Context, c secrets) (any, error) {
		return collect(ctx, &l, c.NewListDeletedSecretPropertiesPager(nil),
			func(p azsecrets.ListDeletedSecretPropertiesResponse) []*azsecrets.DeletedSecretProperties {
				return p.Value
			},
			func(p *azsecrets.DeletedSecretProperties) *bool { return p.Managed }, newDeletedPropertiesOut)
	}, deletedColumns("name")...)
}

func newSecretSetAttributes() *cobra.Command {
	var (
		when        period
		contentType string
		enabled     bool
		tags        []string
		p           azsecrets.UpdateSecretPropertiesParameters
	)
	r := newSecretRef()
	cmd := &cobra.Command{
		Use:   "set-attributes --name NAME",
		Short: "Change the attributes of a secret",
		Example: `  strongroom secret set-attributes --name db-password --enabled false
  strongroom secret set-attributes --name db-password --expires 2030-01-01T00:00:00Z --tags owner=team-b`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			changed := cmd.Flags().Changed
			p.SecretAttributes = new(azsecrets.SecretAttributes)
			var err error
			if p.SecretAttributes.Expires, p.SecretAttributes.NotBefore, err = when.parse(); err != nil {
				return err
			}
			if changed("enabled") {
				p.SecretAttributes.Enabled = &enabled
			}
			if changed("tags") {
				if p.Tags, err = parseTags(tags); err != nil {
					return err
				}
			}
			if changed("content-type") {
				p.ContentType = &contentType
			}
			if err := anyChanged(cmd, "enabled", "expires", "not-before", "content-type", "tags"); err != nil {
				return err
			}
			return r.named(cmd, r.printed(func(ctx context.Context, c secrets) (any, error) {
				got, err := c.UpdateSecretProperties(ctx, r.name, r.version, p, nil)
				return newSecretOut(&got.Secret), err
			}, secretColumns()...))
		},
	}
	r.registerNamed(cmd, true)
	r.out.register(cmd)
	when.register(cmd, r.noun)
	registerTags(cmd, &tags, "tags, each key=value, instead of the present ones; '' for none")
	f := cmd.Flags()
	f.StringVar(&contentType, "content-type", "", "type of the content")
	f.BoolVar(&enabled, "enabled", true, "true or false")
	azWords(cmd, "enabled")
	return cmd
}

func newSecretDelete() *cobra.Command {
	r := newSecretRef()
	return r.showing(&cobra.Command{
		Use:     "delete --name NAME",
		Short:   "Delete a secret; it can be recovered until it is purged",
		Example: "  strongroom secret delete --name db-password",
	}, false, func(ctx context.Context, c secrets) (any, error) {
		got, err := c.DeleteSecret(ctx, r.name, nil)
		if err != nil {
			return nil, err
		}
		return newDeletedOut(&got.DeletedSecret), settle(ctx, func() error {
			_, err := c.GetDeletedSecret(ctx, r.name, nil)
			return err
		})
	}, deletedColumns("name")...)
}

func newSecretShowDeleted() *cobra.Command {
	r := newSecretRef()
	return r.showing(&cobra.Command{
		Use:     "show-deleted --name NAME",
		Short:   "Show a deleted secret, without its value",
		Example: "  strongroom secret show-deleted --name db-password",
	}, false, func(ctx context.Context, c secrets) (any, error) {
		got, err := c.GetDeletedSecret(ctx, r.name, nil)
		return newDeletedOut(&got.DeletedSecret), err
	}, deletedColumns("name")...)
}

func newSecretRecover() *cobra.Command {
	r := newSecretRef()
	return r.showing(&cobra.Command{
		Use:     "recover --name NAME",
		Short:   "Recover a deleted secret with all its versions",
		Example: "  strongroom secret recover --name db-password",
	}, false, func(ctx context.Context, c secrets) (any, error) {
		got, err := c.RecoverDeletedSecret(ctx, r.name, nil)
		if err != nil {
			return nil, err
		}
		return newSecretOut(&got.Secret), settle(ctx, func() error {
			_, err := c.GetSecret(ctx, r.name, "", nil)
			return err
		})
	}, secretColumns()...)
}

func newSecretPurge() *cobra.Command {
	r := newSecretRef()
	return r.purging(func(ctx context.Context, c secrets) error {
		_, err := c.PurgeDeletedSecret(ctx, r.name, nil)
		return err
	})
}

func newSecretBackup() *cobra.Command {
	r := newSecretRef()
	return r.backing(func(ctx context.Context, c secrets) ([]byte, error) {
		got, err := c.BackupSecret(ctx, r.name, nil)
		return got.Value, err
	})
}

func newSecretRestore() *cobra.Command {
	r := newSecretRef()
	return r.restoring(func(ctx context.Context, c secrets, blob []byte) (any, error) {
		got, err := c.RestoreSecret(ctx, azsecrets.RestoreSecretParameters{SecretBackup: blob}, nil)
		return newSecretOut(&got.Secret), err
	}, secretColumns()...)
}

func newSecretDownload() *cobra.Command {
	var file, encoding string
	r := newSecretRef()
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
			return r.named(cmd, func(ctx context.Context, c secrets, w io.Writer) error {
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
