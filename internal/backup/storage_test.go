package backup_test

import (
	"cmp"
	"crypto/sha256"
	"crypto/x509"
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

// signature is what opens the storage of the tests, and must show up nowhere.
const signature = "c2VjcmV0IHNpZ25hdHVyZQ=="

func tokenUntil(expiry string) string {
	return "sv=2022-11-02&sr=c&sp=rcwdl&se=" + expiry + "&sig=c2VjcmV0IHNpZ25hdHVyZQ%3D%3D"
}

const goodSAS = "?sv=2022-11-02&sr=c&sp=rcwdl&se=2999-01-01T00:00:00Z&sig=c2VjcmV0IHNpZ25hdHVyZQ%3D%3D"

// A fakeStorage speaks as much of the wire of blob storage as this package uses, for one container, from memory.
type fakeStorage struct {
	*httptest.Server
	dir string // where blobs are kept, if not in memory; then nothing else of the below is done

	mu    sync.Mutex // guards the rest
	gone  bool       // the container
	blobs map[string][]byte
	log   []string // methods and names of blobs

	// fault is asked before each request is served, with the number of it, and answers it itself if it returns true.
	fault func(n int, w http.ResponseWriter, r *http.Request) bool
	// served is called after each request that was served, before the answer leaves.
	served func(n int, w http.ResponseWriter, r *http.Request)
}

func newFakeStorage(t testing.TB) *fakeStorage {
	f := &fakeStorage{blobs: make(map[string][]byte)}
	f.Server = httptest.NewTLSServer(f)
	t.Cleanup(f.Close)
	return f
}

// open returns the container.
func (f *fakeStorage) open(t testing.TB) *backup.Container {
	t.Helper()
	return f.openAt(t, func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 670_000_000, time.UTC) }, goodSAS)
}

func (f *fakeStorage) openAt(t testing.TB, now func() time.Time, token string) *backup.Container {
	t.Helper()
	c, err := f.storage(t, now).Container(f.URL+"/account/container", backup.Access{SAS: token})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (f *fakeStorage) storage(t testing.TB, now func() time.Time) *backup.Storage {
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

// change replaces a blob, or takes it away if the new content is nil.
func (f *fakeStorage) change(name string, change func([]byte) []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	content := change(slices.Clone(f.blobs[name]))
	if content == nil {
		delete(f.blobs, name)
		return
	}
	f.blobs[name] = content
}

// names are those of the blobs, sorted.
func (f *fakeStorage) names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.blobs))
}

// named returns the only blob whose name contains part.
func (f *fakeStorage) named(t testing.TB, part string) string {
	t.Helper()
	for _, name := range f.names() {
		if strings.Contains(name, part) {
			return name
		}
	}
	t.Fatalf("no blob %s", part)
	return ""
}

func (f *fakeStorage) requests() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.log)
}

func (f *fakeStorage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/account/container")
	name = strings.TrimPrefix(name, "/")
	if f.dir != "" {
		f.serveFile(w, r, filepath.Join(f.dir, url.PathEscape(name)))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the client has gone
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.log = append(f.log, r.Method+" "+name)
	n := len(f.log)
	if f.fault != nil && f.fault(n, w, r) {
		return
	}
	switch {
	case r.URL.Query().Get("sig") != signature:
		refuse(w, http.StatusForbidden, "AuthenticationFailed")
	case !slices.Equal(r.Header.Values("x-ms-version"), []string{"2019-07-07"}):
		refuse(w, http.StatusBadRequest, "InvalidHeaderValue")
	case f.gone:
		refuse(w, http.StatusNotFound, "ContainerNotFound")
	default:
		f.serve(w, r, name, body)
	}
	if f.served != nil {
		f.served(n, w, r)
	}
}

// serveFile keeps no blob in memory.
func (f *fakeStorage) serveFile(w http.ResponseWriter, r *http.Request, path string) {
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

func (f *fakeStorage) serve(w http.ResponseWriter, r *http.Request, name string, body []byte) {
	content, exists := f.blobs[name]
	switch {
	case r.Method == http.MethodGet && r.URL.Query().Get("comp") == "list":
		f.list(w, r)
	case r.Method == http.MethodPut && r.Header.Get("If-None-Match") == "*" && exists:
		refuse(w, http.StatusConflict, "BlobAlreadyExists")
	case r.Method == http.MethodPut && r.Header.Get("x-ms-blob-type") == "BlockBlob":
		f.blobs[name] = body
		w.WriteHeader(http.StatusCreated)
	case !exists:
		refuse(w, http.StatusNotFound, "BlobNotFound")
	case r.Method == http.MethodGet:
		f.get(w, r, content)
	case r.Method == http.MethodDelete:
		delete(f.blobs, name)
		w.WriteHeader(http.StatusAccepted)
	default:
		refuse(w, http.StatusBadRequest, "UnsupportedHttpVerb")
	}
}

func (f *fakeStorage) get(w http.ResponseWriter, r *http.Request, content []byte) {
	from := 0
	if text := r.Header.Get("x-ms-range"); text != "" {
		if _, err := fmt.Sscanf(text, "bytes=%d-", &from); err != nil || from > len(content) {
			refuse(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
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

func (f *fakeStorage) list(w http.ResponseWriter, r *http.Request) {
	type blob struct{ Name string }
	type results struct {
		XMLName xml.Name `xml:"EnumerationResults"`
		Blobs   []blob   `xml:"Blobs>Blob"`
		Next    string   `xml:"NextMarker"`
	}
	const pageSize = 3 // far fewer than asked for, as storage may
	var found results
	for _, name := range slices.Sorted(maps.Keys(f.blobs)) {
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

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("x-ms-error-code", code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<?xml version=\"1.0\"?><Error><Code>%s</Code><Message>%s</Message></Error>", code, signature)
}

// domain is a security domain for tests.
type domain string

func (d domain) ID() string { return string(d) }

func (d domain) BackupKey(salt []byte) ([]byte, error) {
	key := sha256.Sum256(append([]byte(d), salt...))
	return key[:], nil
}

// wantCode checks that err is an Error with this code, and that no SAS token is in it.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var e *backup.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error %v, want the code %s", err, code)
	}
	wantNoSecret(t, err)
}

func wantNoSecret(t testing.TB, err error) {
	t.Helper()
	if text := fmt.Sprintf("%v %+v %#v", err, err, err); strings.Contains(text, "sig=") || strings.Contains(text, "c2VjcmV0") {
		t.Errorf("the error shows the token: %s", text)
	}
}

// failing serves requests, from the first that matches, with an error, so many times; 0 means for ever.
func failing(match string, times int, status int, code string) func(int, http.ResponseWriter, *http.Request) bool {
	failed := 0
	return func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.Method+" "+r.URL.Path+"?"+cmp.Or(r.URL.Query().Get("comp"), "-"), match) || times > 0 && failed >= times {
			return false
		}
		failed++
		refuse(w, status, code)
		return true
	}
}
