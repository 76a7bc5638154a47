package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

func newStatusCommand() *cobra.Command {
	var (
		where place
		out   output
		wait  time.Duration
	)
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Show what the running server says about itself",
		Example: "  strongroom status --output table\n  strongroom status --wait 30s   # for scripts that have just started it",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			socket, err := where.socket()
			if err != nil {
				return err
			}
			status, err := waitForStatus(cmd.Context(), socket, wait)
			if err != nil {
				return err
			}
			return out.print(cmd.OutOrStdout(), status, "version", "domain", "suffix", "port", "listen", "tenantId",
				"identityEndpoint", "operations")
		},
	}
	where.register(cmd)
	out.register(cmd)
	cmd.Flags().DurationVar(&wait, "wait", 0, "wait so long for a server to answer")
	return cmd
}

// waitForStatus asks until there is an answer or the time is over.
func waitForStatus(ctx context.Context, socket *admin.Client, wait time.Duration) (*admin.Status, error) {
	deadline := time.Now().Add(wait)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		status, err := readStatus(ctx, socket)
		if !errors.Is(err, admin.ErrNotRunning) || !time.Now().Before(deadline) {
			return status, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func readStatus(ctx context.Context, socket *admin.Client) (*admin.Status, error) {
	status := new(admin.Status)
	if err := socket.Do(ctx, http.MethodGet, "/status", nil, status); err != nil {
		return nil, err
	}
	return status, nil
}

// withPort adds the server's port to a host, unless it is the usual one.
func withPort(host string, status *admin.Status) string {
	if status.Port == "" {
		return host
	}
	return host + ":" + status.Port
}

func loginURL(status admin.Status) string {
	return "https://" + withPort("login."+status.Domain, &status)
}

func vaultURL(status *admin.Status, name string) string {
	return "https://" + withPort(name+"."+status.Suffix, status)
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the program's version",
		Example: "  strongroom version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), "strongroom", server.Version())
			return err
		},
	}
}
