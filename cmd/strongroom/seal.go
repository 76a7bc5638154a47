package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

func newSealGenerateKey() *cobra.Command {
	return &cobra.Command{
		Use:   "generate-key",
		Short: "Print a new root key, for init --root-key-env",
		Example: `  export STRONGROOM_ROOT_KEY="$(strongroom seal generate-key)"
  strongroom init --domain corp.example --root-key-env STRONGROOM_ROOT_KEY`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), server.NewRootKey())
			return err
		},
	}
}

func newSealKeyID() *cobra.Command {
	return &cobra.Command{
		Use:     "key-id FILE",
		Short:   "Print the id of a root key, as errors and \"seal status\" name it",
		Example: "  strongroom seal key-id /etc/strongroom/root.key",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			id, err := server.RootKeyID(args[0])
			if err == nil {
				_, err = fmt.Fprintln(cmd.OutOrStdout(), id)
			}
			return err
		},
	}
}

func newSealChangeRoot() *cobra.Command {
	var (
		o               operation
		key, passphrase string
		rotate          bool
	)
	cmd := &cobra.Command{
		Use:   "change-root-key --new-key-file FILE",
		Short: "Put the data keys under another root key, while the server runs",
		Long: `Change-root-key puts the data keys under another root key, while the server runs. A key file that does not exist is made. From
then on only the new root key opens the data, so change the server's configuration before its next start. Copies of the database from
before still open with the old one: keep it as long as you keep them.

The data keys themselves stay. If the old root key may be known to others, so may the data keys be to whoever has an old copy of the
database: then give --rotate, which also makes a new data key, moves every record to it and forgets the older ones.`,
		Example: `  strongroom seal change-root-key --config strongroom.yaml --new-key-file /etc/strongroom/root-2.key
  strongroom seal change-root-key --new-passphrase-file /run/secrets/strongroom`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (key == "") == (passphrase == "") {
				return usagef("give the new root key with either --new-key-file or --new-passphrase-file")
			}
			if err := o.where.checkNewRoot(key + passphrase); err != nil {
				return err
			}
			in, err := prepareRoot(key, passphrase)
			if err != nil {
				return err
			}
			in.Rotate = rotate
			var answer admin.Seal
			if err := o.ask(cmd, http.MethodPost, "/seal/root", in, &answer, "rootKey", "primary"); err != nil {
				return err
			}
			fmt.Fprintln(cmd.ErrOrStderr(), afterRootChange(in, &o.where))
			if answer.Warning != "" {
				return errors.New(answer.Warning)
			}
			return nil
		},
	}
	o.register(cmd)
	cmd.Flags().StringVar(&key, "new-key-file", "", "file with the new root key, made if missing")
	cmd.Flags().BoolVar(&rotate, "rotate", false, "also move every record to a new data key, for an old root key that others may know")
	cmd.Flags().StringVar(&passphrase, "new-passphrase-file", "", "file whose first line is the new passphrase")
	return cmd
}

// checkNewRoot refuses a root key or passphrase in the data folder, as init does, unless the present one lies there too, as in dev mode.
func (p *place) checkNewRoot(file string) error {
	dir, err := p.folder()
	if err != nil {
		return err
	}
	path, err := filepath.Abs(file)
	if err != nil || !within(dir, path) {
		return err
	}
	cfg, err := p.configuration()
	if err == nil && cfg.RootKey.File != "" && within(dir, cfg.RootKey.File) {
		return nil
	}
	return usagef("%s: name another place", keyBesideData)
}

// prepareRoot names the new root key by an absolute path, because the server's folder is another, and makes it if it is missing.
func prepareRoot(key, passphrase string) (*admin.NewRoot, error) {
	path := key + passphrase // one of them is empty
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if passphrase != "" {
		return &admin.NewRoot{PassphraseFile: path}, nil
	}
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		if err := server.NewRootKeyFile(path); err != nil {
			return nil, err
		}
	}
	return &admin.NewRoot{File: path}, nil
}

func afterRootChange(in *admin.NewRoot, where *place) string {
	setting := "rootKey.file: " + in.File
	if in.PassphraseFile != "" {
		setting = "rootKey.passphraseFile: " + in.PassphraseFile
	}
	text := "strongroom: the server needs the new root key at its next start: set " + setting
	if where.config != "" {
		return text + " in " + where.config + " now."
	}
	if in.File != "" {
		return text + " in its configuration now; dev mode takes it with --root-key-file."
	}
	return text + " in its configuration now."
}
