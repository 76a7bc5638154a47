package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/server"
)

// devVault is the vault that dev mode makes.
const devVault = "demo"

// databaseFile is the server's, in the data folder.
const databaseFile = "strongroom.db"

type devCommand struct {
	data       string
	listen     []string
	identity   string
	operations string
	rootKey    string
	requests   bool
	insecure   bool

	free         map[string]*string // addresses that may be replaced if they are busy: nobody asked for them
	listenChosen bool
}

func newDevCommand() *cobra.Command {
	d := new(devCommand)
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Start a working vault on this machine, for development and tests",
		Long: `Dev makes an installation in a folder of its own, if there is none, and serves it on loopback: a certificate authority, a
tenant, an administrator, a managed identity and the vault "demo". Started again it finds everything as it was.

Dev mode keeps its root key beside the data: whoever gets the folder can read every secret. For real secrets there are
"strongroom init" and "strongroom serve".`,
		Example: `  strongroom dev
  strongroom dev --data /tmp/vault --listen 127.0.0.1:9000`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			d.listenChosen = cmd.Flags().Changed("listen")
			d.free = make(map[string]*string)
			if !cmd.Flags().Changed("identity-listen") {
				d.free[d.identity] = &d.identity
			}
			if !cmd.Flags().Changed("operations-listen") {
				d.free[d.operations] = &d.operations
			}
			if err := server.Harden(); err != nil {
				return err
			}
			server.Tune()
			return d.run(cmd)
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.data, "data", "", `data folder (default $STRONGROOM_DATA, or "`+defaultData+`")`)
	f.StringArrayVar(&d.listen, "listen", []string{"127.0.0.1:8443", "[::1]:8443"}, "address for HTTPS; may be given more than once; port 0 takes a free one")
	f.StringVar(&d.identity, "identity-listen", "127.0.0.1:8442", "address of the managed-identity endpoint (a free port if this default is busy)")
	f.StringVar(&d.operations, "operations-listen", "127.0.0.1:9443", "address of health and metrics (a free port if this default is busy)")
	f.StringVar(&d.rootKey, "root-key-file", "", "root key, made if missing (default root.key in the data folder)")
	f.BoolVar(&d.insecure, "insecure-listen", false, "allow --listen with an address that other machines reach")
	f.BoolVar(&d.requests, "log-requests", false, "log each request on standard error")
	return cmd
}

func (d *devCommand) run(cmd *cobra.Command) error {
	where := place{data: d.data}
	d.data = where.dataOrDefault()
	where.data = d.data // it may come from the environment, which another terminal has not
	cfg, err := d.config()
	if err != nil {
		return err
	}
	if err := d.refuse(cmd.Context(), cfg); err != nil {
		return err
	}
	log, flush := server.NewLogger(cmd.ErrOrStderr(), server.Level(cfg.Log.Level))
	defer flush()
	opts := server.Options{Log: log, SKU: "premium"}
	fresh, err := server.Init(cmd.Context(), cfg, opts, devVault)
	if err != nil {
		return err
	}
	srv, err := d.open(cmd.Context(), cfg, opts, cmd.ErrOrStderr())
	if err != nil {
		return err
	}
	d.greet(cmd.OutOrStdout(), cfg, srv, fresh, &where)
	return serveUntilSignal(cmd, srv, log)
}

// refuse tells what dev mode does not do, before it makes anything.
func (d *devCommand) refuse(ctx context.Context, cfg *server.Config) error {
	for _, address := range cfg.Listen {
		if a, err := netip.ParseAddrPort(address); err == nil && !a.Addr().IsLoopback() && !d.insecure {
			return usagef("--listen %s: other machines may reach that, and dev mode does not protect its root key; use strongroom init and "+
				"serve, or give --insecure-listen if you really want that", address)
		}
	}
	if err := reachable(cfg.Data); err != nil {
		return err
	}
	_, key := os.Lstat(cfg.RootKey.File)
	if _, err := os.Lstat(filepath.Join(cfg.Data, databaseFile)); err == nil && d.rootKey == "" && errors.Is(key, fs.ErrNotExist) {
		return fmt.Errorf("%s holds an installation, but not its root key %s: if strongroom init made it, start it with "+
			"strongroom serve --config FILE, or choose another folder with --data; if dev mode made it, bring the root key back, or name "+
			"it with --root-key-file", cfg.Data, filepath.Base(cfg.RootKey.File))
	}
	return refuseSecond(ctx, cfg.Data)
}

func (d *devCommand) config() (*server.Config, error) {
	cfg, err := server.DevConfig(d.data, slices.Clone(d.listen))
	if err != nil {
		return nil, err
	}
	cfg.ManagedIdentity.Listen = d.identity
	cfg.Operations.Listen = d.operations
	cfg.Log.Requests = &d.requests
	cfg.Log.Level = "warn"
	if d.requests {
		cfg.Log.Level = "info"
	}
	if d.rootKey != "" {
		if cfg.RootKey.File, err = filepath.Abs(d.rootKey); err != nil {
			return nil, err
		}
	}
	return cfg, cfg.Check()
}

// open opens the server. Addresses that nobody asked for give way: a busy port of the secondary listeners becomes a free
// one, and a machine without IPv6 does without.
func (d *devCommand) open(ctx context.Context, cfg *server.Config, opts server.Options, notes io.Writer) (*server.Server, error) {
	for {
		srv, err := server.Open(ctx, cfg, opts)
		if err == nil {
			return srv, nil
		}
		var op *net.OpError
		if !errors.As(err, &op) || op.Addr == nil || !d.giveWay(cfg, op.Addr.String(), err, notes) {
			return nil, explainListen(err, d.settings(cfg))
		}
	}
}

// settings tells by which flag each address is set.
func (d *devCommand) settings(cfg *server.Config) map[string]string {
	flags := map[string]string{cfg.ManagedIdentity.Listen: "--identity-listen", cfg.Operations.Listen: "--operations-listen"}
	for _, address := range cfg.Listen {
		flags[address] = "--listen"
	}
	return flags
}

// giveWay changes the configuration so that it does without an address that cannot be had. It is false if that may not be.
func (d *devCommand) giveWay(cfg *server.Config, address string, err error, notes io.Writer) bool {
	if _, ok := d.free[address]; ok && errors.Is(err, syscall.EADDRINUSE) {
		delete(d.free, address)
		for _, field := range []*string{&cfg.ManagedIdentity.Listen, &cfg.Operations.Listen} {
			if *field == address {
				*field = "127.0.0.1:0"
			}
		}
		fmt.Fprintf(notes, "strongroom: %s is busy; a free port is used instead (strongroom status tells it)\n", address)
		return true
	}
	noIPv6 := errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EAFNOSUPPORT)
	if i := slices.Index(cfg.Listen, address); i >= 0 && !d.listenChosen && noIPv6 && strings.HasPrefix(address, "[::1]") {
		cfg.Listen = slices.Delete(cfg.Listen, i, i+1)
		fmt.Fprintln(notes, "strongroom: this machine has no IPv6; only 127.0.0.1 is served")
		return true
	}
	return false
}

// greet says what there is and what to type next.
func (d *devCommand) greet(w io.Writer, cfg *server.Config, srv *server.Server, fresh bool, where *place) {
	state := "as it was"
	if fresh {
		state = "new"
	}
	status := srv.Status()
	name := programName()
	fmt.Fprintf(w, `Strongroom is ready.

  vault             %s
  data              %s (%s)
  authority         %s
  managed identity  %s
  health, metrics   %s

%s

Next, in another terminal in the same folder:

  echo -n 'correct horse' | %[8]s secret set --name hello --file -%[9]s
  %[8]s secret show --name hello%[9]s
  eval "$(%[8]s env%[9]s)"     # for programs with an Azure SDK; %[8]s env --help tells more

Ctrl-C stops it.
`, srv.VaultURL(devVault), cfg.Data, state, loginURL(status), status.IdentityEndpoint, status.Operations,
		rootKeyNotice(cfg), name, where.args())
}

func rootKeyNotice(cfg *server.Config) string {
	if !within(cfg.Data, cfg.RootKey.File) {
		return "DEV MODE. The root key is " + cfg.RootKey.File + "."
	}
	return "DEV MODE: the root key lies beside the data (" + cfg.RootKey.File + ").\n" +
		`Whoever gets the folder can read every secret. For real secrets use "strongroom init" and "strongroom serve".`
}

// programName is how a person can start this program again from the same folder.
func programName() string {
	self, err := os.Executable()
	if err != nil {
		return "strongroom"
	}
	// `go run` builds into a folder that is gone when it ends.
	if strings.Contains(self, string(filepath.Separator)+"go-build") {
		return "go run ./cmd/strongroom"
	}
	if onPath, err := exec.LookPath("strongroom"); err == nil && sameFile(onPath, self) {
		return "strongroom"
	}
	return shellQuote(self)
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}
