package main

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/strongroom/strongroom/securitydomain"
)

// domainKeys are the files of the private keys that a security domain was wrapped for.
type domainKeys struct {
	files, passwords []string
}

func (k *domainKeys) register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&k.files, "sd-wrapping-keys", nil, "files with the owners' private keys in PEM, as many as the quorum or more")
	f.StringArrayVar(&k.passwords, "passwords", nil, "passwords of encrypted keys, in the order of the keys, '' for one without; without the flag they are asked for"+visibleHelp)
	azWords(cmd, "sd-wrapping-keys", "passwords")
}

// read reads all keys. No certificates are needed beside them, as az needs them: each key is tried on each share.
func (k *domainKeys) read(in *inputs) ([]securitydomain.Key, error) {
	switch {
	case len(k.files) == 0:
		return nil, usagef("--sd-wrapping-keys is missing: the files with the owners' private keys")
	case len(k.passwords) > len(k.files):
		return nil, usagef("%d --passwords are too many for %d keys", len(k.passwords), len(k.files))
	}
	var keys []securitydomain.Key
	for i, path := range k.files {
		var password string
		if i < len(k.passwords) {
			raw, err := in.private("passwords", k.passwords[i])
			if err != nil {
				return nil, err
			}
			password = string(raw)
		}
		key, err := readDomainKey(in, path, password)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, shorten(err))
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// readDomainKey reads one key, and asks for its password if it needs one that was not given.
func readDomainKey(in *inputs, path, password string) (securitydomain.Key, error) {
	content, err := in.privateFile("sd-wrapping-keys", path)
	if err != nil {
		return securitydomain.Key{}, err
	}
	defer clear(content)
	key, err := securitydomain.ParsePrivateKey(content, password)
	const tries = 3
	for n := 0; n < tries && password == "" && asksForPassword(err); n++ {
		typed, asked := askPassword(in.cmd, path)
		if !asked {
			return securitydomain.Key{}, fmt.Errorf("%w: give it with --passwords @FILE", err)
		}
		if key, err = securitydomain.ParsePrivateKey(content, typed); err != nil {
			fmt.Fprintf(in.cmd.ErrOrStderr(), "strongroom: %s: %v\n", path, shorten(err))
		}
	}
	return securitydomain.Key{Decrypter: key}, err
}

func asksForPassword(err error) bool {
	return errors.Is(err, securitydomain.ErrPasswordMissing) || errors.Is(err, securitydomain.ErrPassword)
}

// askPassword asks for the password of a key without showing it, if somebody is there to be asked.
func askPassword(cmd *cobra.Command, path string) (password string, asked bool) {
	terminal, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(terminal.Fd())) {
		return "", false
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "Password of %s (not shown): ", path)
	line, err := term.ReadPassword(int(terminal.Fd()))
	fmt.Fprintln(cmd.ErrOrStderr())
	return string(line), err == nil
}

// explained says by their files which keys an error means that numbers them.
func (k *domainKeys) explained(err error) error {
	if err == nil {
		return nil
	}
	var names []string
	for i, path := range k.files {
		names = append(names, fmt.Sprintf("key %d is %s", i+1, path))
	}
	return fmt.Errorf("%w (%s)", shorten(err), strings.Join(names, ", "))
}

// A shortError leaves the name of the package out of an error's text.
type shortError struct{ error }

func shorten(err error) error      { return shortError{err} }
func (e shortError) Unwrap() error { return e.error }
func (e shortError) Error() string {
	return strings.ReplaceAll(e.error.Error(), "securitydomain: ", "")
}

// readable is a fingerprint as openssl prints it.
func readable(sha256 []byte) string { return strings.ReplaceAll(fmt.Sprintf("% X", sha256), " ", ":") }

// readThumbprint makes of a thumbprint in a security domain what openssl prints.
func readThumbprint(text string) string {
	sum, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
	if err != nil {
		return text
	}
	return readable(sum)
}

// parseSHA256 reads a fingerprint with or without colons. An empty text is none.
func parseSHA256(flag, text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	sum, err := hex.DecodeString(strings.NewReplacer(":", "", " ", "").Replace(text))
	if err != nil || len(sum) != 32 {
		return nil, usagef("--%s %q is not a SHA-256: 64 hexadecimal digits, with colons or without", flag, text)
	}
	return sum, nil
}

// readDomain reads a security domain, or the blob that was made of one.
func readDomain(in *inputs, flag, path string) (securitydomain.SecurityDomain, error) {
	if path == "" {
		return securitydomain.SecurityDomain{}, usagef("--%s is missing: which file?", flag)
	}
	content, err := in.file(flag, path)
	return securitydomain.SecurityDomain{Value: string(content)}, err
}

// A checkedDomain is what a security domain is, and whether keys open it.
type checkedDomain struct {
	Version      int          `json:"version"`
	Quorum       int          `json:"quorum"`
	Certificates []string     `json:"certificates"` // SHA-256, as openssl prints it
	Keys         []checkedKey `json:"keys"`
	Opened       bool         `json:"opened"` // the domain, by all keys together
}

type checkedKey struct {
	File       string `json:"file"`
	OpensShare bool   `json:"opensShare"`
}

func newDomainCheck() *cobra.Command {
	var (
		keys domainKeys
		path string
		out  = output{members: "opened or quorum"}
	)
	cmd := &cobra.Command{
		Use:   "check --sd-file FILE --sd-wrapping-keys KEY…",
		Short: "Tell whether keys open a security domain, offline",
		Long: `Check tells whether private keys open a security domain, before the day on which they must. It needs no network and no HSM, and keeps
nothing. Every key that is given must open its share. With at least as many keys as the quorum the domain itself is opened too; a single owner
can check his own share alone.`,
		Example: `  strongroom security-domain check --sd-file hsm-a.json --sd-wrapping-keys owner1.key owner3.key
  strongroom security-domain check --sd-file hsm-a.json --sd-wrapping-keys owner1.key --passwords @password.txt`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			in := &inputs{cmd: cmd}
			sd, err := readDomain(in, "sd-file", path)
			if err != nil {
				return err
			}
			checked, err := keys.check(in, path, sd)
			if err != nil {
				return err
			}
			if !checked.Opened {
				fmt.Fprintf(cmd.ErrOrStderr(), "strongroom: every key opens its share; to open the security domain it takes %d, and %d came\n",
					checked.Quorum, len(keys.files))
			}
			return out.print(cmd.OutOrStdout(), checked, "version", "quorum", "opened")
		},
	}
	out.register(cmd)
	keys.register(cmd)
	cmd.Flags().StringVar(&path, "sd-file", "", "file with the security domain")
	return cmd
}

func (k *domainKeys) check(in *inputs, path string, sd securitydomain.SecurityDomain) (*checkedDomain, error) {
	file, err := securitydomain.Parse(sd)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, shorten(err))
	}
	keys, err := k.read(in)
	if err != nil {
		return nil, err
	}
	if err := file.CheckShares(keys...); err != nil {
		return nil, k.explained(err)
	}
	checked := &checkedDomain{Version: file.Version(), Quorum: file.Required()}
	for _, t := range file.Thumbprints() {
		checked.Certificates = append(checked.Certificates, readThumbprint(t))
	}
	for _, f := range k.files {
		checked.Keys = append(checked.Keys, checkedKey{f, true})
	}
	if len(keys) < file.Required() {
		return checked, nil
	}
	checked.Opened = true
	return checked, k.explained(file.Check(keys...))
}

// A rewrapping makes of a security domain what an HSM takes.
type rewrapping struct {
	keys     domainKeys
	exchange string // file
	pin      string
}

func (r *rewrapping) register(cmd *cobra.Command, exchange string) {
	r.keys.register(cmd)
	f := cmd.Flags()
	f.StringVar(&r.exchange, "sd-exchange-key", "", exchange)
	f.StringVar(&r.pin, "sd-exchange-key-sha256", "", `SHA-256 that its certificate must have, as "init-recovery" printed it`)
}

// blob opens the domain and wraps it for the exchange key.
func (r *rewrapping) blob(in *inputs, path string, sd securitydomain.SecurityDomain, to securitydomain.TransferKey) (securitydomain.SecurityDomain, error) {
	pin, err := parseSHA256("sd-exchange-key-sha256", r.pin)
	if err != nil {
		return sd, err
	}
	if isBlob(sd) {
		return sd, usagef("%s is no security domain but what restore-blob made of one for an HSM", path)
	}
	if _, err := securitydomain.Parse(sd); err != nil {
		return sd, fmt.Errorf("%s: %w", path, shorten(err))
	}
	keys, err := r.keys.read(in)
	if err != nil {
		return sd, err
	}
	blob, err := securitydomain.Rewrap(sd, to, keys, &securitydomain.RewrapOptions{TransferKeySHA256: pin})
	return blob, r.keys.explained(err)
}

func (r *rewrapping) readExchangeKey(in *inputs) (securitydomain.TransferKey, error) {
	content, err := in.file("sd-exchange-key", r.exchange)
	if err != nil {
		return securitydomain.TransferKey{}, err
	}
	key, err := securitydomain.ParseTransferKey(content)
	if err != nil {
		return key, fmt.Errorf("%s: %w", r.exchange, shorten(err))
	}
	return key, nil
}

func newDomainRestoreBlob() *cobra.Command {
	var (
		r          rewrapping
		path, blob string
	)
	cmd := &cobra.Command{
		Use:   "restore-blob --sd-file FILE --sd-exchange-key FILE --sd-wrapping-keys KEY… --sd-file-restore-blob NEWFILE",
		Short: "Open a security domain with the owners' keys and wrap it for an HSM, offline",
		Long: `Restore-blob opens a security domain with the private keys of a quorum of its owners and wraps it for the exchange key of the HSM that is
to have it. It needs no network: run it where the keys are. What it writes, only that HSM opens; "upload --restore-blob" brings it there.

Whoever can put another exchange key in the place of the HSM's gets the security domain. Let somebody at the HSM read out the SHA-256 that
"init-recovery" printed, and give it with --sd-exchange-key-sha256.`,
		Example: `  strongroom security-domain restore-blob --sd-file hsm-a.json --sd-exchange-key exchange.cer --sd-wrapping-keys owner1.key owner3.key \
    --sd-exchange-key-sha256 4A:0F:… --sd-file-restore-blob blob.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needed(cmd, "sd-file", "sd-exchange-key", "sd-wrapping-keys", "sd-file-restore-blob"); err != nil {
				return err
			}
			if _, err := os.Lstat(blob); err == nil {
				return keptFile(blob)
			}
			in := &inputs{cmd: cmd}
			sd, err := readDomain(in, "sd-file", path)
			if err != nil {
				return err
			}
			to, err := r.readExchangeKey(in)
			if err != nil {
				return err
			}
			made, err := r.blob(in, path, sd, to)
			if err != nil {
				return err
			}
			return writeNewFile(blob, []byte(made.Value))
		},
	}
	r.register(cmd, `file with the exchange key, which "init-recovery" wrote`)
	f := cmd.Flags()
	f.StringVar(&path, "sd-file", "", "file with the security domain")
	f.StringVar(&blob, "sd-file-restore-blob", "", "file that is made, for the upload; never overwritten")
	return cmd
}
