package localblob_test

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/backup/localblob"
)

func start(t *testing.T, life time.Duration) *localblob.Container {
	t.Helper()
	c, err := localblob.Start(life)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func roots(c *localblob.Container) *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(c.CA())
	return pool
}

func open(t *testing.T, c *localblob.Container) *backup.Container {
	t.Helper()
	s, err := backup.NewStorage(backup.Config{Hosts: []string{c.Host()}, RootCAs: roots(c), RetryDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	opened, err := s.Container(c.URL(), backup.Access{SAS: c.SAS()})
	if err != nil {
		t.Fatal(err)
	}
	return opened
}

type domain string

func (d domain) ID() string { return string(d) }

func (d domain) BackupKey(salt []byte) ([]byte, error) {
	key := sha256.Sum256(append([]byte(d), salt...))
	return key[:], nil
}

// TestBackup writes a backup with package backup, and reads it again.
func TestBackup(t *testing.T) {
	t.Parallel()
	c := start(t, time.Hour)
	opened := open(t, c)
	if err := opened.CheckBackup(t.Context()); err != nil {
		t.Error(err)
	}
	if blobs, bytes := c.Size(); blobs != 0 || bytes != 0 {
		t.Errorf("%d blobs, %d bytes are left of the check", blobs, bytes)
	}
	var state backup.State
	w, err := backup.Begin(t.Context(), opened, domain("d"), "pool", func(_ context.Context, s backup.State) error { state = s; return nil })
	if err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		r := backup.Record{Kind: "key", Name: fmt.Sprintf("key-%d", i), Data: make([]byte, 1<<20)}
		if err := w.Add(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Finish(t.Context()); err != nil {
		t.Fatal(err)
	}
	if blobs, bytes := c.Size(); blobs < 3 || bytes < 5<<20 {
		t.Errorf("%d blobs, %d bytes", blobs, bytes)
	}
	if err := opened.CheckRestore(t.Context(), w.Folder(), domain("d")); err != nil {
		t.Error(err)
	}
	if err := opened.Discard(t.Context(), state); err != nil { // does nothing, but looks
		t.Error(err)
	}
	var e *backup.Error
	if err := opened.CheckRestore(t.Context(), "nothing", domain("d")); !errors.As(err, &e) || e.Code != backup.NotFound {
		t.Errorf("another folder: %v", err)
	}
}

// TestWire is about what package backup does not do in a test of a second.
func TestWire(t *testing.T) {
	t.Parallel()
	c, late := start(t, time.Hour), start(t, -time.Second)
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots(c)}}, Timeout: time.Minute}
	ask := func(c *localblob.Container, method, name, query string, body io.Reader, header ...string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, c.URL()+name+"?"+query, body)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(header); i += 2 {
			req.Header.Set(header[i], header[i+1])
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(text)
	}
	const kind, block = "x-ms-blob-type", "BlockBlob"
	sas := c.SAS()
	for _, step := range []struct {
		method, name, query, body string
		header                    []string
		status                    int
		text                      string
	}{
		{"PUT", "/f/a", sas, "hello", []string{kind, block, "If-None-Match", "*"}, 201, ""},
		{"PUT", "/f/a", sas, "other", []string{kind, block, "If-None-Match", "*"}, 409, "BlobAlreadyExists"},
		{"PUT", "/f/b", sas, "b", []string{kind, block}, 201, ""},
		{"PUT", "/g", sas, "g", []string{kind, block}, 201, ""},
		{"PUT", "/g", sas, "g", []string{kind, "PageBlob"}, 400, "UnsupportedHttpVerb"},
		{"PUT", "/g", sas + "&comp=block", "g", []string{kind, block}, 400, "UnsupportedHttpVerb"},
		{"PUT", "/big", sas, strings.Repeat("x", 16<<20+1), []string{kind, block}, 413, "RequestBodyTooLarge"},
		{"GET", "/f/a", sas, "", nil, 200, "hello"},
		{"GET", "/f/a", sas, "", []string{"x-ms-range", "bytes=2-"}, 206, "llo"},
		{"GET", "/f/a", sas, "", []string{"x-ms-range", "bytes=6-"}, 416, "InvalidRange"},
		{"GET", "/f/a", sas, "", []string{"x-ms-range", "bytes=-2"}, 416, "InvalidRange"},
		{"GET", "/f/c", sas, "", nil, 404, "BlobNotFound"},
		{"GET", "", sas + "&restype=container&comp=list&prefix=f/&maxresults=1", "", nil, 200, "<Blob><Name>f/a</Name></Blob></Blobs><NextMarker>f/b</NextMarker>"},
		{"GET", "", sas + "&restype=container&comp=list&prefix=f/&marker=f/b", "", nil, 200, "<Blobs><Blob><Name>f/b</Name></Blob></Blobs><NextMarker></NextMarker>"},
		{"GET", "", sas, "", nil, 400, "UnsupportedHttpVerb"},
		{"DELETE", "/f/a", sas, "", nil, 202, ""},
		{"DELETE", "/f/a", sas, "", nil, 404, "BlobNotFound"},
		{"GET", "/f/b", "", "", nil, 403, "AuthenticationFailed"},
		{"GET", "/f/b", strings.Replace(sas, "sig=", "sig=A", 1), "", nil, 403, "AuthenticationFailed"},
	} {
		status, text := ask(c, step.method, step.name, step.query, strings.NewReader(step.body), step.header...)
		if status != step.status || !strings.Contains(text, step.text) {
			t.Errorf("%s %s: %d %s, want %d %s", step.method, step.name, status, text, step.status, step.text)
		}
	}
	if blobs, bytes := c.Size(); blobs != 2 || bytes != 2 {
		t.Errorf("%d blobs, %d bytes are left", blobs, bytes)
	}
	if status, text := ask(late, "GET", "/f/b", late.SAS(), nil); status != 0 {
		t.Errorf("a container of the past: %d %s", status, text) // its certificate has expired, too
	}
}
