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
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// What the commands about secrets and those about keys share: how az names an object, writes flags and lists.

// reachText says how commands about a vault's objects find the vault.
func reachText(noun string) string {
	return fmt.Sprintf(`The %s commands work on a vault of the server on this machine without any setting: the data folder tells where it is and
holds the administrator's credentials. With --vault-url, or the URL of a %[1]s as --id, they work on any vault, with the
credentials that the environment offers to every Azure SDK. For a vault of this server those are what "strongroom env" or
"strongroom env --for go" prints: what it prints for other programs does not serve these commands.`, noun)
}

// A kind is a sort of object that vaults keep. C is the client for it.
type kind[C any] struct {
	noun    string // as people say it
	path    string // in URLs
	inHSMs  bool   // managed HSMs keep them too
	example string // a name in examples
	open    func(*connection) (C, error)
}

// A ref names an object of a vault, or a vault.
type ref[C any] struct {
	kind[C]
	target
	out output

	name, id, version string
	versions          bool // the command takes a version
}

// registerNamed adds the flags that name one object.
func (r *ref[C]) registerNamed(cmd *cobra.Command, versions bool) {
	r.target.register(cmd)
	r.versions = versions
	f := cmd.Flags()
	f.StringVarP(&r.name, "name", "n", "", "name of the "+r.noun)
	f.StringVar(&r.id, "id", "", "URL of the "+r.noun+", instead of --name and the vault")
	if versions {
		f.StringVarP(&r.version, "version", "v", "", "version (default the latest)")
	}
	for _, other := range []string{"name", "vault-name", "vault-url"} {
		cmd.MarkFlagsMutuallyExclusive("id", other)
	}
	if r.inHSMs {
		r.registerHSM(cmd)
	}
}

// registerVault adds the flags of commands about a whole vault.
func (r *ref[C]) registerVault(cmd *cobra.Command) {
	r.target.register(cmd)
	cmd.Flags().StringVar(&r.id, "id", "", "URL of the vault, as az takes it")
	cmd.MarkFlagsMutuallyExclusive("id", "vault-name")
	cmd.MarkFlagsMutuallyExclusive("id", "vault-url")
	if r.inHSMs {
		r.registerHSM(cmd)
	}
}

// parse reads --id, which has the form https://<vault>/secrets/<name>[/<version>] or …/deletedsecrets/<name>.
func (r *ref[C]) parse() error {
	if r.id == "" {
		if r.name == "" {
			return usagef("--name is missing: which %s? (or --id with its URL)", r.noun)
		}
		return nil
	}
	u, err := url.Parse(r.id)
	if err != nil {
		return usagef("--id %s is not a URL", r.id)
	}
	parts := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(parts) < 2 || len(parts) > 3 || parts[0] != r.path && parts[0] != "deleted"+r.path {
		return usagef("--id %s is not the URL of a %s: https://<vault>/%s/<name>/<version>", r.id, r.noun, r.path)
	}
	r.vaultURL, r.name = u.Scheme+"://"+u.Host, parts[1]
	if len(parts) == 3 && r.version == "" && r.versions {
		r.version = parts[2]
	}
	return nil
}

// parseVault reads the --id of commands about a whole vault.
func (r *ref[C]) parseVault() error {
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

// objectURL is the object's URL, with the version if one was given.
func (r *ref[C]) objectURL() *string {
	parts := []string{strings.TrimSuffix(r.vaultURL, "/"), r.path, r.name}
	if r.version != "" {
		parts = append(parts, r.version)
	}
	return new(strings.Join(parts, "/"))
}

// A work is what a command does with a client.
type work[C any] func(ctx context.Context, client C, w io.Writer) error

// do prepares the client and does the work within the time that the command may take.
func (r *ref[C]) do(cmd *cobra.Command, work work[C]) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), r.timeout)
	defer cancel()
	connection, err := r.connect(ctx)
	if err != nil {
		return err
	}
	r.vaultURL = connection.vaultURL
	client, err := r.open(connection)
	if err != nil {
		return err
	}
	return work(ctx, client, cmd.OutOrStdout())
}

// named is do for a command about one object.
func (r *ref[C]) named(cmd *cobra.Command, work work[C]) error {
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

// A get asks the service for what a command prints.
type get[C any] func(ctx context.Context, client C) (any, error)

// printed is the work of a command that prints what it gets.
func (r *ref[C]) printed(get get[C], columns ...string) work[C] {
	return func(ctx context.Context, c C, w io.Writer) error {
		v, err := get(ctx, c)
		if err != nil {
			return err
		}
		return r.out.print(w, v, columns...)
	}
}

// showing makes a command about one object out of what it says of itself. It prints what it gets.
func (r *ref[C]) showing(cmd *cobra.Command, versions bool, get get[C], columns ...string) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return r.named(cmd, r.printed(get, columns...)) }
	r.registerNamed(cmd, versions)
	r.out.register(cmd)
	return cmd
}

// listing makes a command that lists what is in a vault.
func (r *ref[C]) listing(cmd *cobra.Command, l *listing, get get[C], columns ...string) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := errors.Join(r.out.check(), l.check(), r.parseVault()); err != nil {
			return err
		}
		return r.do(cmd, r.printed(get, columns...))
	}
	r.registerVault(cmd)
	r.out.register(cmd)
	l.register(cmd, r.noun)
	return cmd
}

// listingVersions makes the command that lists the versions of an object.
func (r *ref[C]) listingVersions(cmd *cobra.Command, l *listing, get get[C], columns ...string) *cobra.Command {
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := l.check(); err != nil {
			return err
		}
		return r.named(cmd, r.printed(get, columns...))
	}
	r.registerNamed(cmd, false)
	r.out.register(cmd)
	l.register(cmd, r.noun)
	return cmd
}

// A listing bounds a list and says what belongs to it.
type listing struct {
	max     int
	managed bool // also what a certificate governs
}

func (l *listing) register(cmd *cobra.Command, noun string) {
	cmd.Flags().IntVar(&l.max, "maxresults", 0, "print at most so many (default all)")
	if l.managed {
		return
	}
	cmd.Flags().BoolVar(&l.managed, "include-managed", false, "include "+noun+"s whose life a certificate governs")
	azWords(cmd, "include-managed")
}

func (l *listing) check() error {
	if l.max < 0 {
		return usagef("--maxresults %d is not a number of results", l.max)
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

// deletedColumns are those of a table of what is deleted. The name is that of the object's member.
func deletedColumns(name string) []string {
	return []string{name, "recoveryId", "deletedDate", "scheduledPurgeDate"}
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

// purging makes the command that removes a deleted object for ever.
func (r *ref[C]) purging(purge func(ctx context.Context, client C) error) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "purge --name NAME",
		Short:   "Remove a deleted " + r.noun + " for ever",
		Example: fmt.Sprintf("  strongroom %s purge --name %s", r.noun, r.example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return r.named(cmd, func(ctx context.Context, c C, _ io.Writer) error { return purge(ctx, c) })
		},
	}
	r.registerNamed(cmd, false)
	return cmd
}

// maxBackupFile bounds a backup, which holds up to 500 versions.
const maxBackupFile = 64 << 20

// backing makes the command that saves an object.
func (r *ref[C]) backing(backup func(ctx context.Context, client C) ([]byte, error)) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "backup --name NAME --file FILE",
		Short: fmt.Sprintf("Save a %s with all its versions to a new file", r.noun),
		Long: fmt.Sprintf(`Backup saves a %s with all its versions to a new file of mode 0600. Only the installation that made it can restore it: what
it holds is encrypted.`, r.noun),
		Example: fmt.Sprintf("  strongroom %s backup --name %s --file %[2]s.backup", r.noun, r.example),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("--file is missing: where to?")
			}
			return r.named(cmd, func(ctx context.Context, c C, _ io.Writer) error {
				blob, err := backup(ctx, c)
				if err != nil {
					return err
				}
				return writeNewFile(file, blob)
			})
		},
	}
	r.registerNamed(cmd, false)
	cmd.Flags().StringVarP(&file, "file", "f", "", "new file")
	return cmd
}

// restoring makes the command that brings back what backing saved.
func (r *ref[C]) restoring(restore func(ctx context.Context, client C, blob []byte) (any, error), columns ...string) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:     "restore --file FILE",
		Short:   fmt.Sprintf("Restore a %s with all its versions from a backup", r.noun),
		Example: fmt.Sprintf("  strongroom %s restore --file %s.backup", r.noun, r.example),
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
			return r.do(cmd, r.printed(func(ctx context.Context, c C) (any, error) { return restore(ctx, c, blob) }, columns...))
		},
	}
	r.registerVault(cmd)
	r.out.register(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "file that backup made; - is standard input")
	return cmd
}

// A period is when an object may be used, as flags say it.
type period struct {
	expires, from string
}

func (p *period) register(cmd *cobra.Command, noun string) {
	f := cmd.Flags()
	f.StringVar(&p.expires, "expires", "", fmt.Sprintf("UTC time after which the %s should not be used (Y-m-d'T'H:M:S'Z')", noun))
	f.StringVar(&p.from, "not-before", "", fmt.Sprintf("UTC time before which the %s should not be used (Y-m-d'T'H:M:S'Z')", noun))
}

func (p *period) parse() (expires, from *time.Time, err error) {
	expires, err1 := parseTime("expires", p.expires)
	from, err2 := parseTime("not-before", p.from)
	return expires, from, errors.Join(err1, err2)
}

// parseTime reads a time in UTC as az takes it.
func parseTime(flag, text string) (*time.Time, error) {
	if text == "" {
		return nil, nil
	}
	for _, layout := range []string{"2006-01-02T15:04:05Z", "2006-01-02T15:04Z", "2006-01-02T15Z", "2006-01-02"} {
		if t, err := time.Parse(layout, text); err == nil {
			return &t, nil
		}
	}
	return nil, usagef("--%s %s is not a time in UTC such as 2030-12-31T23:59:59Z", flag, text)
}

func registerTags(cmd *cobra.Command, tags *[]string, usage string) {
	cmd.Flags().StringArrayVar(tags, "tags", nil, usage)
	azWords(cmd, "tags")
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

// anyChanged refuses a change that changes nothing.
func anyChanged(cmd *cobra.Command, flags ...string) error {
	if slices.ContainsFunc(flags, cmd.Flags().Changed) {
		return nil
	}
	last := len(flags) - 1
	return usagef("nothing is to be changed: give --%s or --%s", strings.Join(flags[:last], ", --"), flags[last])
}

// maxValueFile bounds what is read of a file that holds a value or a key. A secret's value has at most 25 kB.
const maxValueFile = 1 << 20

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

// azWordsMark is the annotation of flags that azWords names.
const azWordsMark = "az-words"

// azWords says that a flag is written as az has it, which pflag does not know: a list with several words behind the flag, a
// switch with true or false. azArguments puts it into pflag's way.
func azWords(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		f := cmd.Flags().Lookup(name)
		if f.Annotations == nil {
			f.Annotations = make(map[string][]string)
		}
		f.Annotations[azWordsMark] = []string{"true"}
	}
}

// azArguments makes "--tags=a=b --tags=c=d" of "--tags a=b c=d", and "--enabled=false" of "--enabled false".
func azArguments(root *cobra.Command, args []string) []string {
	cmd, _, err := root.Find(args)
	if err != nil {
		return args // cobra will say so
	}
	var out []string
	for len(args) > 0 {
		word, rest := args[0], args[1:]
		if word == "--" {
			return append(out, args...)
		}
		f := writtenFlag(cmd.Flags(), word)
		n := 0 // how many of the rest belong to the flag
		switch {
		case f == nil:
			out = append(out, word)
		case f.NoOptDefVal != "":
			if f.Annotations[azWordsMark] != nil && len(rest) > 0 && (rest[0] == "true" || rest[0] == "false") {
				word, n = word+"="+rest[0], 1
			}
			out = append(out, word)
		case f.Annotations[azWordsMark] != nil:
			for n < len(rest) && (n == 0 || !strings.HasPrefix(rest[n], "-")) {
				out = append(out, "--"+f.Name+"="+rest[n])
				n++
			}
			if n == 0 {
				out = append(out, word)
			}
		default:
			n = min(1, len(rest))
			out = append(append(out, word), rest[:n]...)
		}
		args = rest[n:]
	}
	return out
}

// writtenFlag is the flag that a word names, without a value in the same word.
func writtenFlag(flags *pflag.FlagSet, word string) *pflag.Flag {
	name, long := strings.CutPrefix(word, "--")
	switch {
	case long:
		return flags.Lookup(name)
	case len(word) == 2 && word[0] == '-':
		return flags.ShorthandLookup(word[1:])
	}
	return nil
}
