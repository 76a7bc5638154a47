// Command strongroom is the Strongroom server, the tool of its operator and a client for its secrets and keys, in one binary.
//
// The secret and key commands have the flags and the output of `az keyvault secret` and `az keyvault key`; those for vaults, managed
// HSMs, groups and roles have those of `az` too, and ask the management plane. Those for security domains, and for what governs a managed HSM,
// have those of `az keyvault`. Everything that manages the installation itself goes
// through the administration socket in the data folder, so it works for whoever owns that folder and for nobody else.
package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/admin"
)

// Exit codes. They are part of the program's interface and stand in its help.
const (
	exitOK       = 0
	exitFailed   = 1
	exitUsage    = 2
	exitNotFound = 3 // as az: what was asked for is not there
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run runs one command and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(azArguments(root, args))
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "strongroom: %s\n", oneLine(explain(err)))
	return exitCode(err)
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "strongroom",
		Short: "A key vault of your own, compatible with Azure Key Vault",
		Long: `Strongroom is a self-hosted key vault that speaks the protocol of Azure Key Vault, so that unmodified clients work with it.

"strongroom dev" starts a working vault on this machine; "strongroom init" and "strongroom serve" set up and run a real one.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 what was asked for does not exist.`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(
		newDevCommand(), newInitCommand(), newServeCommand(),
		newEnvCommand(), newHostsCommand(), newStatusCommand(), newVersionCommand(),
		newSecretCommand(), newKeyCommand(), newVaultCommand(), newHSMCommand(), newGroupCommand(), newRoleCommand(),
		newBackupCommand(), newRestoreCommand(), newSettingCommand(), newSecurityDomainCommand(),
		newAppCommand(), newAdministratorCommand(), newSealCommand(), newTokenCommand(),
		newVerifyCommand(), newAuditCommand(),
	)
	root.SetFlagErrorFunc(suggestFlag)
	finish(root)
	return root
}

// group makes the parent of subcommands.
func group(use, short string, children ...*cobra.Command) *cobra.Command {
	c := &cobra.Command{Use: use, Short: short}
	c.AddCommand(children...)
	return c
}

// finish completes a tree of commands: parents refuse what is not among their children, and errors of a command's own
// work are told from those of its usage, which cobra finds before it.
func finish(c *cobra.Command) {
	for _, child := range c.Commands() {
		finish(child)
	}
	if c.RunE == nil {
		c.Args = knownChild
		c.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
		return
	}
	if c.Args == nil {
		c.Args = noArguments
	}
	work := c.RunE
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if err := work(cmd, args); err != nil {
			return &workError{err}
		}
		return nil
	}
}

func knownChild(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := ""
	cmd.SuggestionsMinimumDistance = 2
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = fmt.Sprintf(" (did you mean %s?)", strings.Join(near, ", "))
	}
	return usagef("there is no command %q%s; see %s --help", cmd.CommandPath()+" "+args[0], hint, cmd.CommandPath())
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return strayArgument(cmd, args[0])
	}
	return nil
}

// strayArgument is for who leaves out --name.
func strayArgument(cmd *cobra.Command, word string) error {
	if name := cmd.Flags().Lookup("name"); name != nil && !name.Changed {
		return usagef("unexpected argument %q: did you mean --name %s?", word, shellQuote(word))
	}
	return usagef("unexpected argument %q; see %s --help", word, cmd.CommandPath())
}

// flagName is a flag in its command's help.
var flagName = regexp.MustCompile(`(?m)^ +(?:-., )?--([a-z-]+)`)

// suggestFlag adds the flags that somebody may have meant, found as cobra finds commands.
func suggestFlag(cmd *cobra.Command, err error) error {
	name, ok := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !ok {
		return err
	}
	names := &cobra.Command{SuggestionsMinimumDistance: 2}
	for _, f := range flagName.FindAllStringSubmatch(cmd.Flags().FlagUsages(), -1) {
		names.AddCommand(&cobra.Command{Use: f[1], Run: func(*cobra.Command, []string) {}})
	}
	near := names.SuggestionsFor(name)
	if len(near) == 0 {
		return fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())
	}
	return fmt.Errorf("%w (did you mean --%s?)", err, strings.Join(near, ", --"))
}

// A workError is an error of a command that was used rightly.
type workError struct{ err error }

func (e *workError) Error() string { return e.err.Error() }
func (e *workError) Unwrap() error { return e.err }

// A usageError is wrong usage that only the command itself could find.
type usageError struct{ text string }

func (e *usageError) Error() string { return e.text }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// A notFoundError says that what was asked for does not exist.
type notFoundError struct{ text string }

func (e *notFoundError) Error() string { return e.text }

func exitCode(err error) int {
	var (
		work    *workError
		usage   *usageError
		missing *notFoundError
		refused *admin.Error
		service *azcore.ResponseError
	)
	switch {
	case !errors.As(err, &work) || errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &missing):
		return exitNotFound
	case errors.As(err, &refused) && refused.Status == http.StatusNotFound:
		return exitNotFound
	case errors.As(err, &service) && service.StatusCode == http.StatusNotFound:
		return exitNotFound
	}
	return exitFailed
}

// explain turns an error into what a person can act on.
func explain(err error) string {
	var (
		text    string
		service *azcore.ResponseError
		failed  *azidentity.AuthenticationFailedError
	)
	switch {
	case errors.As(err, &service):
		text = explainService(service)
	case errors.As(err, &failed):
		text = explainCredential(failed)
	default:
		text = err.Error()
	}
	// By its text, because the library for credentials does not hand on the error itself.
	if strings.Contains(text, x509.UnknownAuthorityError{}.Error()) {
		text += "; give its authority with --ca-file (or SSL_CERT_FILE)"
	}
	return text
}

// oneLine keeps an error on one line, whatever libraries put into it.
func oneLine(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "; ")
}
