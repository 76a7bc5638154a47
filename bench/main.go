// Command bench measures the whole server over real HTTPS, with token check, audit and request log on, and beside each
// figure a limit that is taken in the same run: a bare Go HTTPS handler that returns the same bytes, one fdatasync at a
// time, one signature at a time by Go's library and by OpenSSL's.
//
//	go run ./bench                            some minutes; prints the tables
//	go run ./bench -quick                     20,000 secrets in place of a million
//	go run ./bench -only 'rsa|ec'             some of the cases
//	go run ./bench -out docs/benchmarks.md    writes them into the page, between its markers
//
// The server, the bare handler and the storage for backups are this program again, started with -child, so that each has a process of its own
// whose processor time can be told from that of the load. For RSA it is also built with the tag openssl, where the machine
// has what that needs. What is judged is the ratio of operations per second of that time: on a shared machine it is steadier
// than operations per second. Server and limit take turns in rounds, and each figure is the median of the rounds, so a
// disturbance hits both.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"
)

const (
	fewSecrets   = 1_000
	manySecrets  = 1_000_000
	quickSecrets = 20_000

	rounds = 5 // in which the contenders of a case take turns
)

// options are the flags.
type options struct {
	duration   time.Duration // for each contender of a case, over all rounds
	quick      bool
	out        string
	cpuProfile string
	dir        string
	requests   bool
	only       *regexp.Regexp

	hsmKeys, hsmVersions int // of the managed HSM that is backed up
}

func main() {
	var o options
	child := flag.String("child", "", "internal: be the server, the bare handler or the storage")
	flag.DurationVar(&o.duration, "duration", 3*time.Second, "time for each figure")
	flag.BoolVar(&o.quick, "quick", false, "fill the large vault with 20,000 secrets, not 1,000,000")
	flag.StringVar(&o.out, "out", "", "page whose generated part is replaced; empty: print only")
	flag.StringVar(&o.cpuProfile, "cpuprofile", "", "folder in which to leave the CPU profiles, as get.pprof and so on")
	flag.StringVar(&o.dir, "dir", "", "folder for the temporary data, on the file system to be measured (default: the system's)")
	flag.BoolVar(&o.requests, "log-requests", true, "let the server log each request, as it does by default")
	flag.IntVar(&o.hsmKeys, "hsm-keys", 5_000, "keys of the managed HSM that is backed up and restored")
	flag.IntVar(&o.hsmVersions, "hsm-versions", 10, "versions of each of them")
	only := flag.String("only", "", "regular expression for the cases: get, scale, set, token, rsa, ec, oct, key, generate, profile, start, hsm")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		err = fmt.Errorf("-only: %w", err)
	}
	switch {
	case err != nil:
	case *child != "":
		err = runChild(*child)
	case *only != "" && o.out != "":
		err = errors.New("-out writes all figures, so it does not go with -only")
	case o.hsmKeys < 1 || o.hsmVersions < 1:
		err = errors.New("-hsm-keys and -hsm-versions are 1 at least")
	case o.duration < rounds*20*time.Millisecond:
		err = errors.New("-duration is too short for five rounds")
	default:
		err = run(ctx, o, os.Stdout, os.Stderr)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// run does everything in a temporary folder, which is removed at the end.
func run(ctx context.Context, o options, out, progress io.Writer) (err error) {
	dir, err := os.MkdirTemp(o.dir, "strongroom-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	b := &benchmark{options: o, dir: dir, progress: progress}
	defer func() { err = errors.Join(err, b.stop()) }()
	if err := b.prepare(ctx); err != nil {
		return err
	}
	if err := b.measure(ctx); err != nil {
		return err
	}
	page := b.report()
	if _, err := io.WriteString(out, page); err != nil {
		return err
	}
	if o.out == "" {
		return nil
	}
	return rewrite(o.out, page)
}

// benchmark is one run. It is used by one goroutine.
type benchmark struct {
	options
	dir      string
	progress io.Writer

	build    build
	few      *installation
	bare     *process
	many     *installation // nil until a case needs it
	loaded   time.Duration // how long it took to fill it
	keyBench *keyBench     // nil until a case needs it
	hsmBench *hsmBench     // as above
	results  results
}

// manyCount is how many secrets the large vault has.
func (b *benchmark) manyCount() int {
	if b.quick {
		return quickSecrets
	}
	return manySecrets
}

func (b *benchmark) say(format string, args ...any) {
	fmt.Fprintf(b.progress, format+"\n", args...)
}

// prepare makes what nearly all cases need: a vault with few secrets on a server, and the bare handler.
func (b *benchmark) prepare(ctx context.Context) error {
	var err error
	if b.build, err = thisBuild(); err != nil {
		return err
	}
	if b.few, err = b.filled(ctx, b.build, "few", fewSecrets); err != nil {
		return err
	}
	b.bare, err = b.startBare(ctx)
	return err
}

// fillMany makes the large vault.
func (b *benchmark) fillMany(ctx context.Context) (err error) {
	if b.many != nil {
		return nil
	}
	began := time.Now()
	b.many, err = b.filled(ctx, b.build, "many", b.manyCount())
	b.loaded = time.Since(began)
	return err
}

// filled returns an installation whose server runs. It is nil if there is an error.
func (b *benchmark) filled(ctx context.Context, by build, name string, count int) (*installation, error) {
	b.say("filling a vault with %d secrets", count)
	i, err := newInstallation(ctx, by, filepath.Join(b.dir, name), count, b.requests)
	if err != nil {
		return nil, err
	}
	if err := i.fill(ctx); err != nil {
		return nil, fmt.Errorf("filling: %w", err)
	}
	if err := i.start(ctx); err != nil {
		return nil, err
	}
	if err := i.signIn(ctx); err != nil {
		return nil, errors.Join(err, i.stop())
	}
	return i, nil
}

// stop ends the children that run.
func (b *benchmark) stop() error {
	var errs []error
	for _, i := range []*installation{b.few, b.many} {
		if i != nil {
			errs = append(errs, i.stop())
		}
	}
	if b.bare != nil {
		errs = append(errs, b.bare.stop())
	}
	if b.keyBench != nil {
		errs = append(errs, b.keyBench.stop())
	}
	if b.hsmBench != nil {
		errs = append(errs, b.hsmBench.stop())
	}
	return errors.Join(errs...)
}
