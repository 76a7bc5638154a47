package main

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/administration"
	"github.com/strongroom/strongroom/securitydomain"
)

func newSecurityDomainCommand() *cobra.Command {
	c := group("security-domain", "Keep and bring back the security domain of a managed HSM, with the flags of az keyvault security-domain",
		newDomainDownload(), newDomainCheck(), newDomainInitRecovery(), newDomainRestoreBlob(), newDomainUpload(), newDomainWait(),
		newDomainRehearse())
	c.Long = `Security-domain is about the keys under which all of a managed HSM is encrypted: whoever has lost them can restore no backup of it. A file
with the security domain opens only with the private keys of several people.

"download" activates a new HSM and writes that file; "check" tells whether the keys open it. To bring back an HSM that is lost, a new one
gives its exchange key with "init-recovery", "restore-blob" opens the file where the private keys are and wraps it for that key, and
"upload" activates the new HSM with it.

` + hsmText
	return c
}

// domainTime is how long an activation may take unless --timeout says otherwise. In Azure it takes minutes.
const domainTime = 10 * time.Minute

func openDomain(c *connection, o *administration.ClientOptions) (*securitydomain.Client, error) {
	return securitydomain.NewClient(c.vaultURL, c.credential, &securitydomain.ClientOptions{ClientOptions: o.ClientOptions})
}

// interruptible lets a command remove the file that it is making when it is interrupted.
func interruptible(cmd *cobra.Command) (stop func()) {
	ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
	cmd.SetContext(ctx)
	return stop
}

// activation is how an activation ended, as az shows it.
type activation struct {
	Status        securitydomain.Status `json:"status"`
	StatusDetails string                `json:"statusDetails"`
}

func activationColumns() []string { return []string{"status", "statusDetails"} }

// statusOf asks for the status of a download or an upload.
type statusOf func(ctx context.Context) (securitydomain.OperationStatus, error)

func downloadStatus(c *securitydomain.Client) statusOf {
	return func(ctx context.Context) (securitydomain.OperationStatus, error) {
		got, err := c.GetDownloadStatus(ctx, nil)
		return got.OperationStatus, err
	}
}

func uploadStatus(c *securitydomain.Client) statusOf {
	return func(ctx context.Context) (securitydomain.OperationStatus, error) {
		got, err := c.GetUploadStatus(ctx, nil)
		return got.OperationStatus, err
	}
}

// statusPause is between two questions, as az makes it.
const statusPause = 5 * time.Second

// awaitActivation asks until the HSM is active, and tells who waits how it is.
func awaitActivation(ctx context.Context, ask statusOf, pause time.Duration, notes io.Writer) (activation, error) {
	start := time.Now()
	for {
		s, err := ask(ctx)
		if err != nil {
			return activation{}, waiting(ctx, err)
		}
		switch s.Status {
		case securitydomain.StatusSuccess:
			return activation(s), nil
		case securitydomain.StatusFailed:
			return activation{}, fmt.Errorf("the activation failed: %s", s.StatusDetails)
		}
		note := cell(fmt.Sprintf("%s, %s", s.Status, s.StatusDetails), nil) // cell: nothing of it drives a terminal
		fmt.Fprintf(notes, "strongroom: activating: %s Waiting for %s\n", note, time.Since(start).Round(time.Second))
		select {
		case <-ctx.Done():
			return activation{}, waiting(ctx, ctx.Err())
		case <-time.After(pause):
		}
	}
}

func newDomainDownload() *cobra.Command {
	var (
		h      hsmTarget
		owners []string
		quorum int
		path   string
		noWait bool
	)
	cmd := &cobra.Command{
		Use:   "download --hsm-name NAME --sd-wrapping-keys CERTIFICATE… --sd-quorum N --security-domain-file NEWFILE",
		Short: "Activate a managed HSM, and get its security domain wrapped for its owners",
		Long: `Download activates a managed HSM and writes its security domain to a file that opens only with the private keys of a quorum of the owners,
whose certificates are given: 3 to 10, each of another RSA key of at least 2048 bits. Of an active HSM it writes the same security domain anew,
perhaps for other owners; earlier files stay good.

The HSM is of no use to anybody who loses the file or too many of the keys: try them with "check" before there is anything in the HSM.`,
		Example: `  openssl req -x509 -newkey rsa:4096 -keyout owner1.key -out owner1.cer -days 3650 -subj "/CN=owner 1"   # each owner
  strongroom security-domain download --hsm-name hsm-a --sd-wrapping-keys owner1.cer owner2.cer owner3.cer --sd-quorum 2 \
    --security-domain-file hsm-a.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needed(cmd, "sd-wrapping-keys", "sd-quorum", "security-domain-file"); err != nil {
				return err
			}
			info, err := readOwners(&inputs{cmd: cmd}, owners, quorum)
			if err != nil {
				return err
			}
			defer interruptible(cmd)()
			return onHSM(cmd, &h, openDomain, func(ctx context.Context, client *securitydomain.Client) error {
				if err := fillNewFile(path, func() ([]byte, error) { return downloadDomain(ctx, client, info) }); err != nil {
					return err
				}
				fmt.Fprintf(cmd.ErrOrStderr(), "strongroom: any %d of the %d owners open %s: let them try, with strongroom security-domain check\n",
					quorum, len(owners), path)
				if noWait {
					return nil
				}
				done, err := awaitActivation(ctx, downloadStatus(client), statusPause, cmd.ErrOrStderr())
				if err != nil {
					return fmt.Errorf("%s is written, and good once the HSM is active, but: %w", path, err)
				}
				return h.out.print(cmd.OutOrStdout(), done, activationColumns()...)
			})
		},
	}
	h.register(cmd, "status", domainTime)
	f := cmd.Flags()
	f.StringArrayVar(&owners, "sd-wrapping-keys", nil, "files with the owners' certificates, in PEM or DER")
	f.IntVar(&quorum, "sd-quorum", 0, "how many owners it takes to open the security domain, at least 2")
	f.StringVar(&path, "security-domain-file", "", "file that is made; never overwritten")
	registerDomainNoWait(cmd, &noWait)
	azWords(cmd, "sd-wrapping-keys")
	return cmd
}

func registerDomainNoWait(cmd *cobra.Command, noWait *bool) {
	cmd.Flags().BoolVar(noWait, "no-wait", false, "do not wait until the HSM is active")
	azWords(cmd, "no-wait")
}

// readOwners reads the certificates of those who are to have a share.
func readOwners(in *inputs, paths []string, quorum int) (info securitydomain.CertificateInfo, err error) {
	var all []*x509.Certificate
	for _, path := range paths {
		content, err := in.file("sd-wrapping-keys", path)
		if err != nil {
			return info, err
		}
		c, err := securitydomain.ParseCertificate(content)
		if err != nil {
			return info, fmt.Errorf("%s: %w", path, shorten(err))
		}
		all = append(all, c)
	}
	if info, err = securitydomain.NewCertificateInfo(quorum, all...); err != nil {
		return info, usagef("%v", shorten(err))
	}
	return info, nil
}

// downloadDomain gets the domain, and looks whether it is for those who were named and for nobody else.
func downloadDomain(ctx context.Context, client *securitydomain.Client, info securitydomain.CertificateInfo) ([]byte, error) {
	poller, err := client.BeginDownload(ctx, info, &securitydomain.BeginDownloadOptions{SkipActivationPolling: true})
	if err != nil {
		return nil, err
	}
	got, err := poller.Result(ctx)
	if err != nil {
		return nil, err
	}
	file, err := securitydomain.Parse(got.SecurityDomain)
	if err != nil {
		return nil, fmt.Errorf("what the HSM sent is not kept: it %w", shorten(err))
	}
	shares := file.Thumbprints()
	same := file.Required() == info.Required && len(shares) == len(info.Certificates)
	for i := 0; same && i < len(shares); i++ {
		same = readThumbprint(shares[i]) == readThumbprint(info.Certificates[i].X5TS256)
	}
	if !same {
		return nil, errors.New("what the HSM sent is not kept: it is for other owners or another quorum than it was asked for")
	}
	return []byte(got.Value), nil
}

func newDomainInitRecovery() *cobra.Command {
	var (
		h    hsmTarget
		path string
	)
	cmd := &cobra.Command{
		Use:   "init-recovery --hsm-name NAME --sd-exchange-key NEWFILE",
		Short: "Get the key for which another HSM's security domain is wrapped to bring it to this HSM",
		Long: `Init-recovery prepares a managed HSM that is not activated for the security domain of another, and writes the certificate of its exchange
key to a file. It prints the SHA-256 of that certificate, which "restore-blob" can check.`,
		Example: "  strongroom security-domain init-recovery --hsm-name hsm-b --sd-exchange-key exchange.cer",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needed(cmd, "sd-exchange-key"); err != nil {
				return err
			}
			defer interruptible(cmd)()
			return onHSM(cmd, &h, openDomain, func(ctx context.Context, client *securitydomain.Client) error {
				var c *x509.Certificate
				err := fillNewFile(path, func() ([]byte, error) {
					got, err := client.GetTransferKey(ctx, nil)
					if err != nil {
						return nil, err
					}
					if c, err = got.Certificate(); err != nil {
						return nil, err
					}
					return got.PEM()
				})
				if err != nil {
					return err
				}
				sum := sha256.Sum256(c.Raw)
				fmt.Fprintf(cmd.ErrOrStderr(), "strongroom: the SHA-256 of the exchange key's certificate is %s\n", readable(sum[:]))
				return nil
			})
		},
	}
	h.register(cmd, "", domainTime)
	cmd.Flags().StringVar(&path, "sd-exchange-key", "", "file that is made; never overwritten")
	return cmd
}

func newDomainUpload() *cobra.Command {
	var (
		h            hsmTarget
		r            rewrapping
		path         string
		blob, noWait bool
	)
	cmd := &cobra.Command{
		Use:   "upload --hsm-name NAME --sd-file FILE {--restore-blob | --sd-wrapping-keys KEY…}",
		Short: "Activate a managed HSM with the security domain of another",
		Long: `Upload brings a security domain to a managed HSM that is not activated, which activates it. With --restore-blob the file is what
"restore-blob" made. Without it the file is the security domain itself, and is opened and wrapped here with the owners' private keys; what is
sent is the same.`,
		Example: `  strongroom security-domain upload --hsm-name hsm-b --sd-file blob.json --restore-blob
  strongroom security-domain upload --hsm-name hsm-b --sd-file hsm-a.json --sd-wrapping-keys owner1.key owner3.key`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			in := &inputs{cmd: cmd}
			sd, err := readDomain(in, "sd-file", path)
			if err != nil {
				return err
			}
			if err := checkUploaded(&r, path, sd, blob); err != nil {
				return err
			}
			return onHSM(cmd, &h, openDomain, func(ctx context.Context, client *securitydomain.Client) error {
				if !blob {
					if sd, err = r.forHSM(ctx, in, client, path, sd); err != nil {
						return err
					}
				}
				if _, err := client.BeginUpload(ctx, sd, &securitydomain.BeginUploadOptions{SkipActivationPolling: true}); err != nil || noWait {
					return err
				}
				done, err := awaitActivation(ctx, uploadStatus(client), statusPause, cmd.ErrOrStderr())
				if err != nil {
					return err
				}
				return h.out.print(cmd.OutOrStdout(), done, activationColumns()...)
			})
		},
	}
	h.register(cmd, "status", domainTime)
	r.register(cmd, "without --restore-blob: file with the exchange key (default: the HSM is asked for it)")
	f := cmd.Flags()
	f.StringVar(&path, "sd-file", "", "file with the security domain, or with what was made of it")
	f.BoolVar(&blob, "restore-blob", false, `the file is what "restore-blob" made`)
	registerDomainNoWait(cmd, &noWait)
	azWords(cmd, "restore-blob")
	return cmd
}

// checkUploaded refuses one kind of file in the place of the other.
func checkUploaded(r *rewrapping, path string, sd securitydomain.SecurityDomain, blob bool) error {
	switch {
	case !blob && isBlob(sd):
		return usagef("%s is what restore-blob made: give --restore-blob", path)
	case blob && len(r.keys.files)+len(r.keys.passwords)+len(r.exchange)+len(r.pin) > 0:
		return usagef("--restore-blob: the file is wrapped already; keys and passwords do not go with it")
	case blob && !isBlob(sd):
		return usagef("%s is not what restore-blob made; for a security domain leave --restore-blob out and give --sd-wrapping-keys", path)
	}
	return nil
}

// isBlob tells what restore-blob made from a security domain.
func isBlob(sd securitydomain.SecurityDomain) bool {
	var members struct{ WrappedKey json.RawMessage }
	return json.Unmarshal([]byte(sd.Value), &members) == nil && members.WrappedKey != nil
}

// forHSM wraps the domain for the exchange key in a file, or else for the HSM's own.
func (r *rewrapping) forHSM(ctx context.Context, in *inputs, client *securitydomain.Client, path string, sd securitydomain.SecurityDomain) (securitydomain.SecurityDomain, error) {
	if r.exchange != "" {
		to, err := r.readExchangeKey(in)
		if err != nil {
			return sd, err
		}
		return r.blob(in, path, sd, to)
	}
	got, err := client.GetTransferKey(ctx, nil)
	if err != nil {
		return sd, err
	}
	return r.blob(in, path, sd, got.TransferKey)
}

func newDomainWait() *cobra.Command {
	var (
		h  hsmTarget
		of string
	)
	cmd := &cobra.Command{
		Use:     "wait --hsm-name NAME",
		Short:   "Wait until a managed HSM is active",
		Example: "  strongroom security-domain wait --hsm-name hsm-a --target-operation download",
		RunE: func(cmd *cobra.Command, _ []string) error {
			what, err := choice("target-operation", of, []string{"upload", "download"})
			if err != nil {
				return err
			}
			return showHSM(cmd, &h, openDomain, func(ctx context.Context, client *securitydomain.Client) (any, error) {
				ask := uploadStatus(client)
				if what == "download" {
					ask = downloadStatus(client)
				}
				return awaitActivation(ctx, ask, statusPause, cmd.ErrOrStderr())
			}, activationColumns()...)
		},
	}
	h.register(cmd, "status", domainTime)
	cmd.Flags().StringVar(&of, "target-operation", "upload", "upload or download")
	return cmd
}
