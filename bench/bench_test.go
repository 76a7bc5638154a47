package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
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
	if got := shares[0]; got < 33.25 || got > 33.27 {
		t.Errorf("TLS has %v %%", got)
	}
	if got := shares[1]; got != 0 {
		t.Errorf("the token check has %v %%", got)
	}
	if _, err := sumShares("nothing"); err == nil {
		t.Error("no table was accepted")
	}
}

func TestParseSpeed(t *testing.T) {
	t.Parallel()
	const rsa = "+H:16:64\n+F2:2:2048:3801.075269:57370.212766\n"
	const ecdsa = "+F4:3:256:58092.9:20996.0\n"
	for out, want := range map[string]speedSums{rsa: {3801.075269, 57370.212766}, ecdsa: {58092.9, 20996}} {
		if got, err := parseSpeed(out); err != nil || got != want {
			t.Errorf("%q: %v, %v", out, got, err)
		}
	}
	for _, bad := range []string{"", rsa + ecdsa, "+F2:2:2048:1.2.3:4\n", "+F3:0:1024:1.0:2.0\n"} {
		if got, err := parseSpeed(bad); err == nil {
			t.Errorf("%q was read as %v", bad, got)
		}
	}
}

func TestMissingForOpenSSL(t *testing.T) {
	for _, c := range []struct{ cgo, cc, want string }{
		{"0", "cc", "cgo is switched off"}, {"1", "no-such-compiler -m64", `there is no C compiler "no-such-compiler"`},
		{"1", "false", "OpenSSL's header files are not there"}, {"1", "true", ""},
	} {
		t.Setenv("CGO_ENABLED", c.cgo)
		t.Setenv("CC", c.cc)
		if got, err := missingForOpenSSL(t.Context()); err != nil || got != c.want {
			t.Errorf("%+v: %q, %v", c, got, err)
		}
	}
}

func TestKeyRequests(t *testing.T) {
	t.Parallel()
	v := &keyVault{&installation{count: 12, token: "T"}, map[string]string{"P-256": "v1"}}
	sign := using("P-256", "sign", "ES256", []byte{1, 2, 3}, nil).request(v)
	if got := sign.path(); got != "/keys/P-256/v1/sign" {
		t.Errorf("the path is %q", got)
	}
	if body := `{"alg":"ES256","value":"AQID"}`; !bytes.HasSuffix(sign.raw, []byte("\r\n\r\n"+body)) {
		t.Errorf("the body is not %s: %q", body, sign.raw)
	}
	for name, r := range map[string]template{"get": v.keyRequest(), "create": v.createRequest(keyNumber(0), ecKind)} {
		raw := bytes.Clone(r.raw)
		r.fill(raw)
		if r.path() != "" || !bytes.Contains(raw, []byte(" /keys/key-00000")) {
			t.Errorf("%s: the path is %q, and the request %q", name, r.path(), raw)
		}
	}
}

func TestPossible(t *testing.T) {
	t.Parallel()
	p := &primitive{native: figure{perCPUSecond: 1000}, openssl: figure{perCPUSecond: 4000}, shared: true}
	bare := &figure{perCPUSecond: 4000}
	ours, tagged := build{}, build{tagged: true}
	for _, c := range []struct {
		name string
		row  keyRow
		want float64
	}{
		{"Go's library", keyRow{keyUse: keyUse{alone: p, bare: bare}, build: ours}, 800},
		{"the faster one", keyRow{keyUse: keyUse{alone: p, bare: bare}, build: tagged}, 2000},
		{"Go's only", keyRow{keyUse: keyUse{alone: &primitive{native: p.native, openssl: p.openssl}, bare: bare}, build: tagged}, 800},
		{"nothing computed", keyRow{keyUse: keyUse{bare: bare}}, 4000},
		{"no bare handler", keyRow{keyUse: keyUse{alone: p}}, 0},
	} {
		if got := c.row.possible(); got != c.want {
			t.Errorf("%s: %v is possible, want %v", c.name, got, c.want)
		}
	}
	if got := p.fastest(); got != 4000 {
		t.Errorf("the fastest does %v", got)
	}
}

// TestPaced counts the wait of a request that could not be sent in time because the answer before it was late.
func TestPaced(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		took := []time.Duration{1, 12, 1, 1, 1} // of which the second makes the third and the fourth late
		n := 0
		x := &exchange{do: func() error { time.Sleep(took[n] * time.Millisecond); n++; return nil }, close: func() error { return nil }}
		dial := func(context.Context) (*exchange, error) { return x, nil }
		got, err := paced(t.Context(), dial, time.Now().Add(5*pace))
		// The requests are due at 0, 5, 10, 15 and 20 ms, and answered at 1, 17, 18, 19 and 21.
		if want := (waits{4 * time.Millisecond, 12 * time.Millisecond, 12 * time.Millisecond}); err != nil || got != want || n != 5 {
			t.Errorf("%+v, %v after %d requests, want %+v", got, err, n, want)
		}
		if _, err := paced(t.Context(), dial, time.Now()); !errors.Is(err, errTooShort) {
			t.Errorf("no time: %v", err)
		}
	})
}

func TestPlainSignature(t *testing.T) {
	t.Parallel()
	got, err := plainSignature([]byte{0x30, 7, 2, 2, 0, 0xff, 2, 1, 5}, 4)
	if want := []byte{0, 0, 0, 0xff, 0, 0, 0, 5}; err != nil || !bytes.Equal(got, want) {
		t.Errorf("%x, %v", got, err)
	}
	if _, err := plainSignature([]byte{0x30}, 4); err == nil {
		t.Error("no signature was accepted")
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

func TestHSMReport(t *testing.T) {
	t.Parallel()
	job := func(wall time.Duration, resident int64) jobFigure {
		return jobFigure{wall: wall, cpu: wall / 2, peak: memory{resident: resident, anonymous: resident / 2}}
	}
	got := medianJob([]jobFigure{job(3*time.Second, 1e6), job(time.Second, 9e6), job(2*time.Second, 4e6)})
	if diff := cmp.Diff(jobFigure{2 * time.Second, time.Second, memory{9e6, 4.5e6}}, got, cmp.AllowUnexported(jobFigure{}, memory{})); diff != "" {
		t.Errorf("median of the times, and the most memory (-want +got):\n%s", diff)
	}

	var w strings.Builder
	h := &hsmBench{keys: 100, versions: 20}
	h.report(&w)
	if w.Len() != 0 {
		t.Errorf("without figures: %s", &w)
	}
	h.bytes, h.blobs, h.filled = 8e6, 3, time.Second
	h.backup, h.restore = got, got
	h.upload, h.download = jobFigure{wall: time.Second}, jobFigure{wall: time.Second / 2}
	h.report(&w)
	for _, want := range []string{
		"| full backup | 2.00 s | 1,000 | 4.0 MB/s | 1.00 s | 9.0 MB | 4.5 MB | 0.500 |",
		"| · plain upload of the same bytes | 1.00 s | 2,000 | 8.0 MB/s |  |  |  |  |",
		"| full restore | 2.00 s | 1,000 | 4.0 MB/s | 1.00 s | 9.0 MB | 4.5 MB | 0.250 |",
	} {
		if !strings.Contains(w.String(), want) {
			t.Errorf("no line %q in\n%s", want, &w)
		}
	}
}
