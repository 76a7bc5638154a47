// Package backuptest is the storage of tests that have to do with backups: it speaks the wire of blob storage, and breaks on demand.
package backuptest

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/backup"
)

// Signature opens the storage, and must show up nowhere. SAS has it, percent-encoded.
const Signature = "c2VjcmV0IHNpZ25hdHVyZQ=="

// SAS is a token that opens the storage.
const SAS = "?sv=2022-11-02&sr=c&sp=rcwdl&se=2999-01-01T00:00:00Z&sig=c2VjcmV0IHNpZ25hdHVyZQ%3D%3D"

// SASUntil is one that expires.
func SASUntil(expiry string) string {
	return "sv=2022-11-02&sr=c&sp=rcwdl&se=" + expiry + "&sig=c2VjcmV0IHNpZ25hdHVyZQ%3D%3D"
}

// Shows tells whether a text has the signature in it, however it is written.
func Shows(text string) bool {
	return strings.Contains(text, "sig=") || strings.Contains(text, "c2VjcmV0")
}

// A Storage speaks as much of the wire of blob storage as package backup uses, for one container.
type Storage struct {
	*httptest.Server
	Dir string // where blobs are kept, if not in memory; then nothing else of the below is done

	sync.Mutex      // guards the rest
	Gone       bool // the container
	Blobs      map[string][]byte
	log        []string // methods and names of blobs

	// Fault is asked before each request is served, with the number of it, and answers it itself if it returns true.
	Fault func(n int, w http.ResponseWriter, r *http.Request) bool
	// Served is called after each request that was served, before the answer leaves. Both hold the lock.
	Served func(n int, w http.ResponseWriter, r *http.Request)
}

// OnRequest sets Fault, also while requests are served.
func (f *Storage) OnRequest(fault func(n int, w http.ResponseWriter, r *http.Request) bool) {
	f.Lock()
	defer f.Unlock()
	f.Fault = fault
}

// OnServed sets Served, also while requests are served.
func (f *Storage) OnServed(served func(n int, w http.ResponseWriter, r *http.Request)) {
	f.Lock()
	defer f.Unlock()
	f.Served = served
}

// Vanish takes the container away, or brings it back.
func (f *Storage) Vanish(gone bool) {
	f.Lock()
	defer f.Unlock()
	f.Gone = gone
}

// New starts one that ends with the test.
func New(t testing.TB) *Storage {
	f := &Storage{Blobs: make(map[string][]byte)}
	f.Server = httptest.NewTLSServer(f)
	t.Cleanup(f.Close)
	return f
}

// Address is that of the container.
func (f *Storage) Address() string { return f.URL + "/account/container" }

// Authority is the certificate to trust, in PEM.
func (f *Storage) Authority() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: f.Certificate().Raw})
}

// Open returns the door to this storage and no other.
func (f *Storage) Open(t testing.TB, now func() time.Time) *backup.Storage {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(f.Certificate())
	s, err := backup.NewStorage(backup.Config{
		Hosts: []string{f.Listener.Addr().String()}, RootCAs: roots, RetryDelay: time.Microsecond, TryTimeout: 20 * time.Second, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Change replaces a blob, or takes it away if the new content is nil.
func (f *Storage) Change(name string, change func([]byte) []byte) {
	f.Lock()
	defer f.Unlock()
	content := change(slices.Clone(f.Blobs[name]))
	if content == nil {
		delete(f.Blobs, name)
		return
	}
	f.Blobs[name] = content
}

// Names are those of the blobs, sorted.
func (f *Storage) Names() []string {
	f.Lock()
	defer f.Unlock()
	return slices.Sorted(maps.Keys(f.Blobs))
}

// Named returns the only blob whose name contains part.
func (f *Storage) Named(t testing.TB, part string) string {
	t.Helper()
	for _, name := range f.Names() {
		if strings.Contains(name, part) {
			return name
		}
	}
	t.Fatalf("no blob %s", part)
	return ""
}

// Requests is how many there were.
func (f *Storage) Requests() int {
	f.Lock()
	defer f.Unlock()
	return len(f.log)
}

// ServeHTTP serves the wire.
func (f *Storage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/account/container")
	name = strings.TrimPrefix(name, "/")
	if f.Dir != "" {
		f.serveFile(w, r, filepath.Join(f.Dir, url.PathEscape(name)))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	f.Lock()
	defer f.Unlock()
	f.log = append(f.log, r.Method+" "+name)
	n := len(f.log)
	if f.Fault != nil && f.Fault(n, w, r) {
		return
	}
	switch {
	case r.URL.Query().Get("sig") != Signature:
		Refuse(w, http.StatusForbidden, "AuthenticationFailed")
	case !slices.Equal(r.Header.Values("x-ms-version"), []string{"2019-07-07"}):
		Refuse(w, http.StatusBadRequest, "InvalidHeaderValue")
	case f.Gone:
		Refuse(w, http.StatusNotFound, "ContainerNotFound")
	default:
		f.serve(w, r, name, body)
	}
	if f.Served != nil {
		f.Served(n, w, r)
	}
}

// serveFile keeps no blob in memory.
func (f *Storage) serveFile(w http.ResponseWriter, r *http.Request, path string) {
	if r.Method == http.MethodGet {
		http.ServeFile(w, r, path)
		return
	}
	file, err := os.Create(path)
	if err == nil {
		_, err = io.Copy(file, r.Body)
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	w.WriteHeader(http.StatusCreated)
}

func (f *Storage) serve(w http.ResponseWriter, r *http.Request, name string, body []byte) {
	content, exists := f.Blobs[name]
	switch {
	case r.Method == http.MethodGet && r.URL.Query().Get("comp") == "list":
		f.list(w, r)
	case r.Method == http.MethodPut && r.Header.Get("If-None-Match") == "*" && exists:
		Refuse(w, http.StatusConflict, "BlobAlreadyExists")
	case r.Method == http.MethodPut && r.Header.Get("x-ms-blob-type") == "BlockBlob":
		f.Blobs[name] = body
		w.WriteHeader(http.StatusCreated)
	case !exists:
		Refuse(w, http.StatusNotFound, "BlobNotFound")
	case r.Method == http.MethodGet:
		f.get(w, r, content)
	case r.Method == http.MethodDelete:
		delete(f.Blobs, name)
		w.WriteHeader(http.StatusAccepted)
	default:
		Refuse(w, http.StatusBadRequest, "UnsupportedHttpVerb")
	}
}

func (f *Storage) get(w http.ResponseWriter, r *http.Request, content []byte) {
	from := 0
	if text := r.Header.Get("x-ms-range"); text != "" {
		if _, err := fmt.Sscanf(text, "bytes=%d-", &from); err != nil || from > len(content) {
			Refuse(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
			return
		}
	}
	w.Header().Set("ETag", fmt.Sprintf("%q", fmt.Sprintf("%x", sha256.Sum256(content))))
	w.Header().Set("Content-Length", strconv.Itoa(len(content)-from))
	if from > 0 {
		w.WriteHeader(http.StatusPartialContent)
	}
	w.Write(content[from:])
}

func (f *Storage) list(w http.ResponseWriter, r *http.Request) {
	type blob struct{ Name string }
	type results struct {
		XMLName xml.Name `xml:"EnumerationResults"`
		Blobs   []blob   `xml:"Blobs>Blob"`
		Next    string   `xml:"NextMarker"`
	}
	const pageSize = 3 // far fewer than asked for, as storage may
	var found results
	for _, name := range slices.Sorted(maps.Keys(f.Blobs)) {
		if !strings.HasPrefix(name, r.URL.Query().Get("prefix")) || name < r.URL.Query().Get("marker") {
			continue
		}
		if len(found.Blobs) == pageSize {
			found.Next = name
			break
		}
		found.Blobs = append(found.Blobs, blob{name})
	}
	w.Header().Set("Content-Type", "application/xml")
	io.WriteString(w, "\ufeff"+xml.Header)
	xml.NewEncoder(w).Encode(found)
}

// Refuse answers as blob storage does.
func Refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("x-ms-error-code", code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, Signature)
}
