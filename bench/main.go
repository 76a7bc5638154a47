// Command bench measures the whole server over real HTTPS, with token check, audit and request log on, and beside each
// figure a limit that is taken in the same run: a bare Go HTTPS handler that returns the same bytes, one fdatasync at a
// time, one RSA signature at a time.
//
//	go run ./bench                            some minutes; prints the tables
//	go run ./bench -quick                     20,000 secrets in place of a million
//	go run ./bench -out docs/benchmarks.md    writes them into the page, between its markers
//
// The server and the bare handler are this program again, started with -child, so that each has a process of its own
// whose processor time can be told from that of the load. What is judged is the ratio of operations per second of that
// time: on a shared machine it is steadier than operations per second. Server and limit take turns in rounds, and each
// figure is the median of the rounds, so a disturbance hits both.
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
}

func main() {
	var o options
	child := flag.String("child", "", "internal: be the server or the bare handler")
	flag.DurationVar(&o.duration, "duration", 5*time.Second, "time for each figure")
	flag.BoolVar(&o.quick, "quick", false, "fill the large vault with 20,000 secrets, not 1,000,000")
	flag.StringVar(&o.out, "out", "", "page whose generated part is replaced; empty: print only")
	flag.StringVar(&o.cpuProfile, "cpuprofile", "", "file for a CPU profile of the server under secret GET")
	flag.StringVar(&o.dir, "dir", "", "folder for the temporary data, on the file system to be measured (default: the system's)")
	flag.BoolVar(&o.requests, "log-requests", true, "let the server log each request, as it does by default")
	only := flag.String("only", "", "regular expression for the cases: get, scale, set, token, profile, start")
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

	few, many *installation
	bare      *process
	loaded    time.Duration // how long it took to fill the large vault
	results   results
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

// prepare makes two installations, fills their vaults and starts the server on each, and the bare handler.
func (b *benchmark) prepare(ctx context.Context) error {
	var err error
	if b.few, err = newInstallation(ctx, filepath.Join(b.dir, "few"), fewSecrets, b.requests); err != nil {
		return err
	}
	if b.many, err = newInstallation(ctx, filepath.Join(b.dir, "many"), b.manyCount(), b.requests); err != nil {
		return err
	}
	for _, i := range []*installation{b.few, b.many} {
		b.say("filling a vault with %d secrets", i.count)
		began := time.Now()
		if err := i.fill(ctx); err != nil {
			return fmt.Errorf("filling: %w", err)
		}
		b.loaded = time.Since(began)
		if err := i.start(ctx); err != nil {
			return err
		}
		if err := i.signIn(ctx); err != nil {
			return err
		}
	}
	b.bare, err = b.startBare(ctx)
	return err
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
	return errors.Join(errs...)
}
