package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
	"github.com/strongroom/strongroom/internal/server"
)

func newServeCommand() *cobra.Command {
	var (
		config string
		check  bool
	)
	cmd := &cobra.Command{
		Use:   "serve --config FILE",
		Short: "Run the server of an installation",
		Long: `Serve runs the server that a configuration describes, until it gets SIGTERM or Ctrl-C. Then it finishes what is in flight; a
second signal ends it at once. SIGHUP opens the audit log's file anew, after it was renamed.`,
		Example: `  strongroom serve --config strongroom.yaml
  strongroom serve --config strongroom.yaml --check`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := server.ReadConfig(config)
			if err != nil {
				return err
			}
			if check {
				if err := errors.Join(reachable(cfg.Data), cfg.CheckStart()); err != nil {
					return err
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s is a good configuration.\n", config)
				return nil
			}
			if err := server.Harden(); err != nil {
				return err
			}
			server.Tune()
			return serve(cmd, cfg)
		},
	}
	cmd.Flags().StringVar(&config, "config", "strongroom.yaml", "configuration file")
	cmd.Flags().BoolVar(&check, "check", false, "only check the configuration and what it names, without starting")
	return cmd
}

func serve(cmd *cobra.Command, cfg *server.Config) error {
	if err := errors.Join(reachable(cfg.Data), refuseSecond(cmd.Context(), cfg.Data)); err != nil {
		return err
	}
	log, flush := server.NewLogger(cmd.ErrOrStderr(), server.Level(cfg.Log.Level))
	defer flush()
	srv, err := server.Open(cmd.Context(), cfg, server.Options{Log: log})
	if err != nil {
		return explainListen(err, configSettings(cfg))
	}
	return serveUntilSignal(cmd, srv, log)
}

// refuseSecond tells plainly that a server runs already. The lock on the store is what prevents it; this is for the message.
func refuseSecond(ctx context.Context, data string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if admin.NewClient(data).Do(ctx, "GET", "/status", nil, nil) == nil {
		return fmt.Errorf("a server is running on %s already: stop it first, or use another data folder", data)
	}
	return nil
}

// configSettings tells where a configuration has each address.
func configSettings(cfg *server.Config) map[string]string {
	settings := map[string]string{
		cfg.ManagedIdentity.Listen: "managedIdentity.listen in the configuration",
		cfg.Operations.Listen:      "operations.listen in the configuration",
	}
	for _, address := range cfg.Listen {
		settings[address] = "listen in the configuration"
	}
	return settings
}

// explainListen says what to do about an address that cannot be had. settings are where each address is set.
func explainListen(err error, settings map[string]string) error {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "listen" || op.Addr == nil {
		return err
	}
	setting := "another"
	for address, name := range settings {
		if a, err := netip.ParseAddrPort(address); err == nil && a.String() == op.Addr.String() {
			setting = "another with " + name
		}
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("the address %s is in use by another program: stop that, or choose %s", op.Addr, setting)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("the address %s may not be used by this user: give the program the capability cap_net_bind_service, "+
			"or choose %s, with a port from 1024 up", op.Addr, setting)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EAFNOSUPPORT):
		return fmt.Errorf("the address %s does not belong to this machine: choose %s", op.Addr, setting)
	}
	return err
}

// reachable tells of a data folder that belongs to another user. One that is not there is for others to tell.
func reachable(dir string) error {
	if _, err := os.ReadDir(dir); errors.Is(err, fs.ErrPermission) {
		return foreignFolder(dir)
	}
	return nil
}

func foreignFolder(dir string) error {
	return fmt.Errorf("the data folder %s belongs to another user: run this as that user (sudo -u USER …)", dir)
}

// serveUntilSignal serves until the context ends or the process is told to stop.
func serveUntilSignal(cmd *cobra.Command, srv *server.Server, log *slog.Logger) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer signal.Stop(signals)
	done := make(chan struct{})
	defer close(done)
	go obey(signals, done, cancel, srv, log, cmd.ErrOrStderr())
	return srv.Serve(ctx)
}

// obey does what signals say, until done.
func obey(signals <-chan os.Signal, done <-chan struct{}, stop func(), srv *server.Server, log *slog.Logger, stderr io.Writer) {
	stopping := false
	for {
		select {
		case <-done:
			return
		case s := <-signals:
			switch {
			case s == syscall.SIGHUP:
				if err := srv.ReopenAudit(); err != nil {
					log.Error("the audit log could not be opened anew", "error", err)
				}
			case stopping:
				// Whoever asks twice does not want to wait. The store survives this as it survives a power loss.
				os.Exit(exitFailed)
			default:
				stopping = true
				stop()
				// Standard error may be a pipe that nobody reads, and the second signal must be heard all the same.
				go fmt.Fprintln(stderr, "strongroom: finishing what is in flight; a second signal ends it at once")
			}
		}
	}
}
