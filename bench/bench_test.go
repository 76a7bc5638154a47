package main

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestReadAnswer(t *testing.T) {
	t.Parallel()
	const head = "HTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n"
	for _, c := range []struct{ name, answer, body, failure string }{
		{"whole", head + "\r\nhello", "hello", ""},
		{"empty", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", ""},
		{"cut in the body", head + "\r\nhell", "", "EOF"},
		{"cut in the header", head, "", "EOF"},
		{"too much", head + "\r\nhello!", "", "follows"},
		{"refused", "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n", "", "401"},
		{"no length", "HTTP/1.1 200 OK\r\n\r\n", "", "no Content-Length"},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", "", "invalid"},
		{"larger than the buffer", "HTTP/1.1 200 OK\r\nContent-Length: 4096\r\n\r\n", "", "too long"},
		{"endless header", strings.Repeat("x", 4096), "", "too long"},
	} {
		for how, r := range map[string]io.Reader{
			"at once":      strings.NewReader(c.answer),
			"byte by byte": iotest.OneByteReader(strings.NewReader(c.answer)),
		} {
			if how == "byte by byte" && c.name == "too much" {
				continue // the next byte is the next answer's
			}
			body, err := readAnswer(r, make([]byte, 1024))
			switch {
			case c.failure == "" && (err != nil || string(body) != c.body):
				t.Errorf("%s, %s: %q, %v", c.name, how, body, err)
			case c.failure != "" && (err == nil || !strings.Contains(err.Error(), c.failure)):
				t.Errorf("%s, %s: error %v, want one with %q", c.name, how, err, c.failure)
			}
		}
	}
}

func TestTemplate(t *testing.T) {
	t.Parallel()
	i := &installation{count: 12, token: "T"}
	get := i.getRequest()
	raw := bytes.Clone(get.raw)
	seen := make(map[string]bool)
	for range 1000 {
		get.fill(raw)
		line, _, _ := bytes.Cut(raw, []byte(" HTTP/1.1\r\n"))
		seen[string(line)] = true
	}
	want := make(map[string]bool)
	for n := range 12 {
		want["GET "+secretPath(n)] = true
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Error(diff)
	}
	list := i.listRequest()
	raw = bytes.Clone(list.raw)
	list.fill(raw)
	if !bytes.Equal(raw, list.raw) {
		t.Errorf("a request without a number was changed: %q", raw)
	}
}

func TestSummarize(t *testing.T) {
	t.Parallel()
	var latencies []time.Duration
	for i := 200; i > 0; i-- {
		latencies = append(latencies, time.Duration(i))
	}
	got := summarize(latencies, 2*time.Second, time.Second/2)
	if got.p50 != 100 || got.p99 != 198 || got.perSecond() != 100 || got.perCPUSecond() != 400 {
		t.Errorf("%+v: %v a second, %v a CPU second", got, got.perSecond(), got.perCPUSecond())
	}
	if one := summarize([]time.Duration{7}, time.Second, time.Second); one.p50 != 7 || one.p99 != 7 {
		t.Errorf("of one: %+v", one)
	}
	m := medians([]sample{{count: 9, wall: time.Second, cpu: time.Second, p50: 3}, {count: 1, wall: time.Second, cpu: time.Second, p50: 1},
		{count: 4, wall: time.Second, cpu: time.Second / 2, p50: 2}})
	if diff := cmp.Diff(figure{perSecond: 4, perCPUSecond: 8, p50: 2}, m, cmp.AllowUnexported(figure{})); diff != "" {
		t.Error(diff)
	}
}

func TestBetween(t *testing.T) {
	t.Parallel()
	page := "above\n" + beginMarker + "\nold\n" + endMarker + "\nbelow\n"
	want := "above\n" + beginMarker + "\n\nnew\n\n" + endMarker + "\nbelow\n"
	for range 2 { // it can be written again
		got, err := between(page, "new\n")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
		page = got
	}
	for _, bad := range []string{"", beginMarker, endMarker, endMarker + beginMarker} {
		if _, err := between(bad, "new"); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestSumShares(t *testing.T) {
	t.Parallel()
	const top = `File: bench
Type: cpu
      flat  flat%   sum%        cum   cum%
         0     0%     0%      4.10s 90.91%  net/http.(*conn).serve
     0.02s  0.44%  0.44%      1.00s 22.17%  crypto/tls.(*Conn).Write
     0.01s  0.22%  0.66%      0.50s 11.09%  crypto/tls.(*Conn).Read (inline)
     0.01s  0.22%  0.88%      0.30s  6.65%  crypto/tls.(*Conn).readRecord
`
	shares, err := sumShares(top)
	if err != nil {
		t.Fatal(err)
	}
	if got := shares[0].percent; got < 33.25 || got > 33.27 {
		t.Errorf("TLS has %v %%", got)
	}
	if got := shares[1].percent; got != 0 {
		t.Errorf("the token check has %v %%", got)
	}
	if _, err := sumShares("nothing"); err == nil {
		t.Error("no table was accepted")
	}
}

func TestThousands(t *testing.T) {
	t.Parallel()
	for n, want := range map[float64]string{0: "0", 999.4: "999", 1000: "1,000", 1234567: "1,234,567"} {
		if got := thousands(n); got != want {
			t.Errorf("thousands(%v) = %q, want %q", n, got, want)
		}
	}
}
