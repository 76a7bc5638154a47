package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"path/filepath"
	"slices"
	"time"
)

const (
	readers = 32
	writers = 32
)

// results are all figures of a run.
type results struct {
	get, getHTTP2 pair
	setOne        figure
	setMany       figure
	sync          figure // one write and fdatasync at a time
	token, sign   figure
	scale         [2]scaled // with few and with many secrets
	bareStart     started
	shares        []shares
}

// A pair is a figure beside its limit.
type pair struct{ server, limit figure }

// scaled is what may depend on how many secrets there are.
type scaled struct {
	get   figure // of any of the secrets
	same  figure // of the same thousand of them
	list  figure
	start started
}

// started is what a fresh process needs.
type started struct {
	first  time.Duration // from exec to the first answer
	memory memory        // right after it
}

// A figure is the medians of a contender's rounds. A limit without a process of its own leaves perCPUSecond as the
// processor time of this one.
type figure struct {
	perSecond    float64
	perCPUSecond float64
	p50, p99     time.Duration
}

// A contender is measured in turns with the others of its case.
type contender struct {
	into    *figure
	measure func(ctx context.Context, d time.Duration) (sample, error)
}

// against is a contender that loads a process.
func against(into *figure, p *process, dial dialer, clients int) contender {
	return contender{into, func(ctx context.Context, d time.Duration) (sample, error) {
		return load(ctx, p, dial, clients, d)
	}}
}

var errTooShort = errors.New("nothing was done in a round; make -duration longer")

// compare measures the contenders of a case in rounds.
func (b *benchmark) compare(ctx context.Context, name string, contenders ...contender) error {
	b.say("%s", name)
	samples := make([][]sample, len(contenders))
	for range rounds {
		for i, c := range contenders {
			s, err := c.measure(ctx, b.duration/rounds)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			if s.count == 0 {
				return fmt.Errorf("%s: %w", name, errTooShort)
			}
			samples[i] = append(samples[i], s)
		}
	}
	for i, c := range contenders {
		*c.into = medians(samples[i])
	}
	return nil
}

func medians(samples []sample) figure {
	return figure{
		perSecond:    median(samples, sample.perSecond),
		perCPUSecond: median(samples, sample.perCPUSecond),
		p50:          median(samples, func(s sample) time.Duration { return s.p50 }),
		p99:          median(samples, func(s sample) time.Duration { return s.p99 }),
	}
}

func median[T any, V float64 | time.Duration | int64](samples []T, value func(T) V) V {
	values := make([]V, 0, len(samples))
	for _, s := range samples {
		values = append(values, value(s))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// measure runs the cases that were asked for. Processes that are not measured are idle meanwhile.
func (b *benchmark) measure(ctx context.Context) error {
	for _, step := range []struct {
		name string
		run  func(context.Context) error
	}{
		{"get", b.reads}, {"scale", b.scaling}, {"set", b.writes}, {"token", b.tokens},
		{"rsa", b.rsaCases}, {"ec", b.ecCases}, {"oct", b.octCases}, {"key", b.objectCases}, {"generate", b.making},
		{"profile", b.profiles}, {"start", b.starts}, {"hsm", b.hsms},
	} {
		if !b.only.MatchString(step.name) {
			continue
		}
		if err := step.run(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *benchmark) reads(ctx context.Context) error {
	r, get := &b.results, b.few.getRequest()
	err := b.compare(ctx, "secret GET, HTTP/1.1",
		against(&r.get.server, b.few.server, dialRaw(b.few.server, get), readers),
		against(&r.get.limit, b.bare, dialRaw(b.bare, get), readers))
	if err != nil {
		return err
	}
	server, bare := http2Client(b.few.server), http2Client(b.bare)
	defer server.CloseIdleConnections()
	defer bare.CloseIdleConnections()
	return b.compare(ctx, "secret GET, HTTP/2",
		against(&r.getHTTP2.server, b.few.server, dialHTTP2(server, b.few.token, b.few.count), readers),
		against(&r.getHTTP2.limit, b.bare, dialHTTP2(bare, b.few.token, b.few.count), readers))
}

func (b *benchmark) scaling(ctx context.Context) error {
	if err := b.fillMany(ctx); err != nil {
		return err
	}
	few, many := &b.results.scale[0], &b.results.scale[1]
	same := b.many.getRequest()
	same.count = b.few.count
	err := b.compare(ctx, "secret GET by number of secrets",
		against(&few.get, b.few.server, dialRaw(b.few.server, b.few.getRequest()), readers),
		against(&many.same, b.many.server, dialRaw(b.many.server, same), readers),
		against(&many.get, b.many.server, dialRaw(b.many.server, b.many.getRequest()), readers))
	if err != nil {
		return err
	}
	return b.compare(ctx, "first page of the list by number of secrets",
		against(&few.list, b.few.server, dialRaw(b.few.server, b.few.listRequest()), readers),
		against(&many.list, b.many.server, dialRaw(b.many.server, b.many.listRequest()), readers))
}

func (b *benchmark) writes(ctx context.Context) error {
	r, p := &b.results, b.few.server
	set := dialRaw(p, b.few.setRequest())
	disk, err := newDisk(filepath.Join(b.dir, "plain"))
	if err != nil {
		return err
	}
	err = b.compare(ctx, "secret SET and plain fdatasync",
		against(&r.setOne, p, set, 1),
		against(&r.setMany, p, set, writers),
		contender{&r.sync, disk.measure})
	if err != nil {
		return err
	}
	return disk.close()
}

func (b *benchmark) tokens(ctx context.Context) error {
	p := b.few.server
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte("a token"))
	return b.compare(ctx, "token and RSA signature",
		against(&b.results.token, p, dialRaw(p, b.few.tokenRequest()), readers),
		alone(&b.results.sign, func() error {
			_, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, sum[:])
			return err
		}))
}

// startBare starts the limit with the answers that the server gives.
func (b *benchmark) startBare(ctx context.Context) (*process, error) {
	get, err := b.few.sampleAnswer(ctx, b.few.getRequest())
	if err != nil {
		return nil, err
	}
	return startProcess(ctx, b.build, "bare", task{Answers: map[string]answer{"": get}})
}

// sampleAnswer is one answer of the server, without what net/http adds by itself.
func (i *installation) sampleAnswer(ctx context.Context, t template) (answer, error) {
	conn, err := i.server.connect(ctx)
	if err != nil {
		return answer{}, err
	}
	defer conn.Close()
	if _, err := conn.Write(t.raw); err != nil {
		return answer{}, err
	}
	buf := make([]byte, maxAnswer)
	body, err := readAnswer(conn, buf)
	if err != nil {
		return answer{}, err
	}
	lines := textproto.NewReader(bufio.NewReader(bytes.NewReader(buf)))
	if _, err := lines.ReadLine(); err != nil { // the status
		return answer{}, err
	}
	header, err := lines.ReadMIMEHeader()
	if err != nil {
		return answer{}, err
	}
	header.Del("Date")
	header.Del("Content-Length")
	return answer{Header: http.Header(header), Body: body}, nil
}

const starts = 5

// starts measures fresh processes. The caches of the operating system are warm.
func (b *benchmark) starts(ctx context.Context) error {
	if err := b.fillMany(ctx); err != nil {
		return err
	}
	b.say("start")
	for n, i := range []*installation{b.few, b.many} {
		if err := i.stop(); err != nil {
			return err
		}
		s, err := repeatStart(ctx, func() (*process, dialer, error) {
			if err := i.start(ctx); err != nil {
				return nil, nil, err
			}
			return i.server, dialRaw(i.server, i.getRequest()), nil
		}, i.stop)
		if err != nil {
			return err
		}
		b.results.scale[n].start = s
	}
	var p *process
	s, err := repeatStart(ctx, func() (_ *process, _ dialer, err error) {
		if p, err = startProcess(ctx, b.build, "bare", task{}); err != nil {
			return nil, nil, err
		}
		return p, dialRaw(p, b.few.getRequest()), nil
	}, func() error { return p.stop() })
	b.results.bareStart = s
	return err
}

func repeatStart(ctx context.Context, start func() (*process, dialer, error), stop func() error) (started, error) {
	var all []started
	for range starts {
		one, err := startOnce(ctx, start)
		if err != nil {
			return started{}, err
		}
		if err := stop(); err != nil {
			return started{}, err
		}
		all = append(all, one)
	}
	return started{
		first: median(all, func(s started) time.Duration { return s.first }),
		memory: memory{
			resident:  median(all, func(s started) int64 { return s.memory.resident }),
			anonymous: median(all, func(s started) int64 { return s.memory.anonymous }),
		},
	}, nil
}

func startOnce(ctx context.Context, start func() (*process, dialer, error)) (s started, err error) {
	began := time.Now()
	p, dial, err := start()
	if err != nil {
		return s, err
	}
	x, err := dial(ctx)
	if err != nil {
		return s, err
	}
	if err := x.do(); err != nil {
		return s, err
	}
	s.first = time.Since(began)
	if s.memory, err = p.memory(); err != nil {
		return s, err
	}
	return s, x.close()
}
