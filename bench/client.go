package main

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// An exchange sends one request and reads its answer. It is used by one goroutine.
type exchange struct {
	do    func() error
	close func() error
}

// A dialer connects one client.
type dialer func(ctx context.Context) (*exchange, error)

// A template is a request ready to be sent, in which only a number of fixed width changes.
type template struct {
	raw   []byte
	at    int // where the number stands; -1 for none
	count int // numbers are below it
}

const digits = 7

// fill writes a random number into a copy of the template.
func (t *template) fill(raw []byte) {
	if t.at < 0 {
		return
	}
	n := rand.IntN(t.count)
	for i := t.at + digits - 1; i >= t.at; i-- {
		raw[i] = byte('0' + n%10)
		n /= 10
	}
}

// path is the request's, without query, or "" if it differs from one time to the next.
func (t template) path() string {
	if t.at >= 0 {
		return ""
	}
	_, rest, _ := bytes.Cut(t.raw, []byte(" "))
	return string(rest[:bytes.IndexAny(rest, "? ")])
}

// maxAnswer bounds what the raw client reads of one answer.
const maxAnswer = 64 << 10

// dialRaw connects a client that costs as little as can be: one keep-alive connection, one write of bytes that were made
// beforehand, and of the answer only status and length are looked at. net/http's client takes more processor time than the
// server that it measures.
func dialRaw(p *process, t template) dialer {
	return func(ctx context.Context) (*exchange, error) {
		conn, err := p.connect(ctx)
		if err != nil {
			return nil, err
		}
		c := &rawClient{conn: conn, template: t, request: bytes.Clone(t.raw), buf: make([]byte, maxAnswer)}
		return &exchange{do: c.do, close: conn.Close}, nil
	}
}

// connect opens a TLS connection for HTTP/1.1.
func (p *process) connect(ctx context.Context) (net.Conn, error) {
	d := tls.Dialer{Config: p.tls}
	return d.DialContext(ctx, "tcp", p.Address)
}

type rawClient struct {
	conn     net.Conn
	template template
	request  []byte
	buf      []byte
}

// maxWait is how long an answer may take before the run is given up.
const maxWait = 30 * time.Second

func (c *rawClient) do() error {
	c.template.fill(c.request)
	if _, err := c.conn.Write(c.request); err != nil {
		return err
	}
	_, err := readAnswer(c.conn, c.buf)
	return err
}

// readAnswer reads one answer with a Content-Length and returns its body. Anything but 200 is an error.
func readAnswer(r io.Reader, buf []byte) ([]byte, error) {
	have, want, header := 0, -1, 0
	for want < 0 || have < want {
		if have == len(buf) {
			return nil, errors.New("an answer is too long")
		}
		n, err := r.Read(buf[have:])
		have += n
		if err != nil && (want < 0 || have < want) {
			return nil, fmt.Errorf("reading an answer: %w", err)
		}
		if want >= 0 {
			continue
		}
		if header = bytes.Index(buf[:have], []byte("\r\n\r\n")); header < 0 {
			continue
		}
		header += 4
		length, err := parseHeader(buf[:header])
		if err != nil {
			return nil, err
		}
		want = header + length
		if want > len(buf) {
			return nil, errors.New("an answer is too long")
		}
	}
	if have > want {
		return nil, errors.New("something follows the answer")
	}
	return buf[header:want], nil
}

// parseHeader checks the status and returns the length of the body. Names are spelled as Go's server spells them.
func parseHeader(header []byte) (int, error) {
	if !bytes.HasPrefix(header, []byte("HTTP/1.1 200 ")) {
		line, _, _ := bytes.Cut(header, []byte("\r\n"))
		return 0, fmt.Errorf("the answer is %.64q", line)
	}
	name := []byte("\r\nContent-Length: ")
	i := bytes.Index(header, name)
	if i < 0 {
		return 0, errors.New("the answer has no Content-Length")
	}
	value, _, _ := bytes.Cut(header[i+len(name):], []byte("\r\n"))
	n, err := strconv.ParseUint(string(value), 10, 31)
	return int(n), err
}

// http2Client is a client with one HTTP/2 connection, which all exchanges of a measurement share.
func http2Client(p *process) *http.Client {
	var d net.Dialer
	return &http.Client{Timeout: maxWait, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return d.DialContext(ctx, "tcp", p.Address)
		},
		TLSClientConfig:   p.tls.Clone(),
		ForceAttemptHTTP2: true,
	}}
}

// dialHTTP2 is dialRaw over HTTP/2. Its clients cost more than the server, so only the server's processor time tells
// something.
func dialHTTP2(client *http.Client, token string, count int) dialer {
	return func(ctx context.Context) (*exchange, error) {
		do := func() error {
			url := fmt.Sprintf("https://%s%s", vaultHost, secretPath(rand.IntN(count)))
			r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
			if err != nil {
				return err
			}
			r.Header.Set("Authorization", "Bearer "+token)
			resp, err := client.Do(r)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			if _, err := io.Copy(io.Discard, resp.Body); err != nil {
				return err
			}
			if resp.StatusCode != http.StatusOK || resp.ProtoMajor != 2 {
				return fmt.Errorf("the answer is %s in %s", resp.Status, resp.Proto)
			}
			return nil
		}
		return &exchange{do: do, close: func() error { return nil }}, nil
	}
}

// A sample is what one round has given.
type sample struct {
	count    int
	wall     time.Duration
	cpu      time.Duration // of the measured process
	p50, p99 time.Duration
}

func (s sample) perSecond() float64    { return float64(s.count) / s.wall.Seconds() }
func (s sample) perCPUSecond() float64 { return float64(s.count) / s.cpu.Seconds() }

// load runs clients against p for d. Connecting and a first request each are not measured.
func load(ctx context.Context, p *process, dial dialer, clients int, d time.Duration) (_ sample, err error) {
	exchanges := make([]*exchange, 0, clients)
	defer func() {
		for _, x := range exchanges {
			_ = x.close() // what was measured has been answered
		}
	}()
	for range clients {
		x, err := dial(ctx)
		if err != nil {
			return sample{}, err
		}
		exchanges = append(exchanges, x)
		if err := x.do(); err != nil {
			return sample{}, err
		}
	}
	before, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	began := time.Now()
	latencies, err := drive(ctx, exchanges, began.Add(d))
	if err != nil {
		return sample{}, err
	}
	wall := time.Since(began)
	after, err := p.cpu()
	if err != nil {
		return sample{}, err
	}
	return summarize(latencies, wall, after-before), nil
}

// drive lets every client send one request after the other until the end.
func drive(ctx context.Context, exchanges []*exchange, end time.Time) ([]time.Duration, error) {
	var wg sync.WaitGroup
	each := make([][]time.Duration, len(exchanges))
	errs := make([]error, len(exchanges))
	for i, x := range exchanges {
		wg.Go(func() { each[i], errs[i] = driveOne(ctx, x, end) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err // the first one will do: they fail alike
		}
	}
	return slices.Concat(each...), nil
}

func driveOne(ctx context.Context, x *exchange, end time.Time) ([]time.Duration, error) {
	defer guard(ctx, x, end)()
	latencies := make([]time.Duration, 0, 1<<12)
	for now := time.Now(); now.Before(end); {
		if err := x.do(); err != nil {
			return nil, cmp.Or(ctx.Err(), err)
		}
		then := time.Now()
		latencies = append(latencies, then.Sub(now))
		now = then
	}
	return latencies, ctx.Err()
}

// guard closes x once ctx has ended, or if an answer is still missing long after the end, until the returned function is
// called.
func guard(ctx context.Context, x *exchange, end time.Time) func() {
	disarm := context.AfterFunc(ctx, func() { _ = x.close() })
	watchdog := time.AfterFunc(time.Until(end)+maxWait, func() { _ = x.close() })
	return func() {
		disarm()
		watchdog.Stop()
	}
}

func summarize(latencies []time.Duration, wall, cpu time.Duration) sample {
	slices.Sort(latencies)
	s := sample{count: len(latencies), wall: wall, cpu: cpu}
	if len(latencies) > 0 {
		s.p50, s.p99 = quantile(latencies, 50), quantile(latencies, 99)
	}
	return s
}

// quantile returns the value that percent of the sorted values do not exceed.
func quantile(sorted []time.Duration, percent int) time.Duration {
	return sorted[(len(sorted)*percent+99)/100-1]
}
