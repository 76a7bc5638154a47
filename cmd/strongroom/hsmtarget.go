package main

import (
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/administration"
	"github.com/strongroom/strongroom/internal/admin"
)

// hsmText says how commands about what governs a managed HSM find it.
const hsmText = `With --hsm-name these commands work on a managed HSM of the server on this machine: the data folder tells where it is and holds the
administrator's credentials, who may do there what his roles in that HSM allow. With --id they work on any managed HSM, with the
credentials that the environment offers to every Azure SDK.`

// An hsmTarget is a managed HSM and how to reach it, and how a command about it prints its result.
type hsmTarget struct {
	reach
	name, id string
	url      string
	out      output
}

func (h *hsmTarget) register(cmd *cobra.Command, members string, timeout time.Duration) {
	f := cmd.Flags()
	f.StringVar(&h.name, "hsm-name", "", "name of a managed HSM of the server on this machine")
	f.StringVar(&h.id, "id", "", "URL of any managed HSM; credentials then come from the environment, as for every Azure SDK")
	h.reach.register(cmd, timeout)
	cmd.MarkFlagsMutuallyExclusive("id", "hsm-name")
	if members != "" {
		h.out.members = members
		h.out.register(cmd)
	}
}

// check reads --id, which az takes with a path too.
func (h *hsmTarget) check() error {
	switch {
	case h.id == "" && h.name == "":
		return usagef("which managed HSM? Give --hsm-name, or --id with its URL")
	case h.id == "" && !vaultLabel.MatchString(h.name):
		return usagef("--hsm-name %q is not the name of a managed HSM: 3 to 24 letters, digits and hyphens", h.name)
	case h.id == "":
		return nil
	}
	u, err := url.Parse(h.id)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return usagef("--id %s is not the https URL of a managed HSM", h.id)
	}
	h.url = "https://" + u.Host
	return nil
}

// connect finds the managed HSM and the credentials for it. Nothing is sent to it yet.
func (h *hsmTarget) connect(ctx context.Context) (*connection, error) {
	dir, err := h.where.folder()
	if err != nil {
		return nil, err
	}
	status, err := readStatus(ctx, admin.NewClient(dir))
	switch {
	case err != nil && h.id == "":
		return nil, err
	case err != nil || h.id != "" && !h.isLocal(status):
		credential, options, err := h.remote() // that no server runs here does not matter to an HSM elsewhere
		return &connection{h.url, credential, options}, err
	}
	transport, err := h.transport(status)
	if err != nil {
		return nil, err
	}
	options := clientOptions(status, transport)
	credential, err := h.localCredential(dir, options, h.id != "")
	if err != nil {
		return nil, err
	}
	if h.id == "" {
		h.url = "https://" + withPort(h.name+"."+status.HSMSuffix, status)
	}
	return &connection{h.url, credential, options}, nil
}

func (h *hsmTarget) isLocal(status *admin.Status) bool {
	_, suffix, _ := strings.Cut(strings.TrimPrefix(h.url, "https://"), ".")
	return strings.EqualFold(suffix, withPort(status.HSMSuffix, status))
}

// directory asks who is who, if the managed HSM was named as one of the server on this machine. Else it is nil.
func (h *hsmTarget) directory(cmd *cobra.Command) (*manager, error) {
	if h.id != "" {
		return nil, nil
	}
	m, err := (&plane{reach: h.reach}).connect(cmd.Context())
	if err == nil {
		m.notes = cmd.ErrOrStderr()
	}
	return m, err
}

// An hsmClient is a constructor of one of the clients for managed HSMs.
type hsmClient[C any] func(c *connection, options *administration.ClientOptions) (C, error)

func openAccess(c *connection, o *administration.ClientOptions) (*administration.AccessControlClient, error) {
	return administration.NewAccessControlClient(c.vaultURL, c.credential, o)
}

func openBackup(c *connection, o *administration.ClientOptions) (*administration.BackupClient, error) {
	return administration.NewBackupClient(c.vaultURL, c.credential, o)
}

func openSettings(c *connection, o *administration.ClientOptions) (*administration.SettingsClient, error) {
	return administration.NewSettingsClient(c.vaultURL, c.credential, o)
}

// onHSM does the work of a command within the time that it may take.
func onHSM[C any](cmd *cobra.Command, h *hsmTarget, open hsmClient[C], work func(ctx context.Context, client C) error) error {
	if h.out.format != "" {
		if err := h.out.check(); err != nil {
			return err
		}
	}
	if err := h.check(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), h.timeout)
	defer cancel()
	c, err := h.connect(ctx)
	if err != nil {
		return err
	}
	client, err := open(c, &administration.ClientOptions{ClientOptions: c.options})
	if err != nil {
		return err
	}
	return work(ctx, client)
}

// showHSM is onHSM for a command that prints what it gets.
func showHSM[C any](
	cmd *cobra.Command, h *hsmTarget, open hsmClient[C], get func(ctx context.Context, client C) (any, error), columns ...string,
) error {
	return onHSM(cmd, h, open, func(ctx context.Context, client C) error {
		v, err := get(ctx, client)
		if err != nil {
			return err
		}
		return h.out.print(cmd.OutOrStdout(), v, columns...)
	})
}
