// Package localblob is a blob container in memory, on the loopback address, over HTTPS: what a rehearsal puts its backups in. It speaks
// as much of the wire of Azure's blob storage as package backup uses, and keeps nothing when it is closed.
package localblob

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"encoding/xml"
	"fmt"
	"io"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	path = "/rehearsal/backups" // account and container

	maxBlob = 16 << 20  // backups have blobs of 4 MiB
	maxAll  = 256 << 20 // what is refused beyond that would otherwise fill the memory
	maxPage = 1000
)

// A Container is one that is served.
type Container struct {
	server    *http.Server
	address   string
	authority []byte
	signature string
	expires   time.Time

	mu    sync.Mutex
	blobs map[string][]byte
	size  int
}

// Start serves an empty container on a free port until Close. Its SAS token opens it for the given time.
func Start(life time.Duration) (*Container, error) {
	signature := make([]byte, 32)
	rand.Read(signature)
	c := &Container{
		signature: base64.StdEncoding.EncodeToString(signature), expires: time.Now().Add(life).Truncate(time.Second),
		blobs: make(map[string][]byte),
	}
	certificate, err := c.certificate(life)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	c.address = l.Addr().String()
	c.server = &http.Server{
		Handler: c, ReadTimeout: time.Minute, WriteTimeout: time.Minute, IdleTimeout: time.Minute, MaxHeaderBytes: 32 << 10,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12},
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	go c.server.ServeTLS(l, "", "") // ends with Close
	return c, nil
}

// certificate makes one for the loopback address that is its own authority.
func (c *Container) certificate(life time.Duration) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "blob container of a rehearsal"},
		NotBefore: now.Add(-time.Minute), NotAfter: now.Add(life), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	c.authority = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// Host is the address and the port.
func (c *Container) Host() string { return c.address }

// URL is that of the container.
func (c *Container) URL() string { return "https://" + c.address + path }

// CA is the authority of its certificate, in PEM.
func (c *Container) CA() []byte { return c.authority }

// SAS is the token that opens the container. It is a secret.
func (c *Container) SAS() string {
	return url.Values{
		"sv": {"2019-07-07"}, "sr": {"c"}, "sp": {"rcwdl"}, "spr": {"https"},
		"se": {c.expires.UTC().Format(time.RFC3339)}, "sig": {c.signature},
	}.Encode()
}

// Size is how many blobs there are, and of how many bytes.
func (c *Container) Size() (blobs, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.blobs), c.size
}

// Close ends the container, with all that is in it.
func (c *Container) Close() error { return c.server.Close() }

// ServeHTTP answers one request.
func (c *Container) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	name, ours := strings.CutPrefix(r.URL.Path, path)
	name = strings.TrimPrefix(name, "/")
	signed := subtle.ConstantTimeCompare([]byte(query.Get("sig")), []byte(c.signature)) == 1
	switch {
	case !signed || time.Now().After(c.expires):
		refuse(w, http.StatusForbidden, "AuthenticationFailed")
	case !ours:
		refuse(w, http.StatusNotFound, "ContainerNotFound")
	case name == "" && r.Method == http.MethodGet && query.Get("comp") == "list":
		c.list(w, query)
	case name == "":
		refuse(w, http.StatusBadRequest, "UnsupportedHttpVerb")
	case r.Method == http.MethodPut && r.Header.Get("x-ms-blob-type") == "BlockBlob" && query.Get("comp") == "":
		c.put(w, r, name)
	case r.Method == http.MethodGet:
		c.get(w, r, name)
	case r.Method == http.MethodDelete:
		c.remove(w, name)
	default:
		refuse(w, http.StatusBadRequest, "UnsupportedHttpVerb")
	}
}

func (c *Container) put(w http.ResponseWriter, r *http.Request, name string) {
	content, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBlob))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "RequestBodyTooLarge")
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	old, exists := c.blobs[name]
	switch {
	case exists && r.Header.Get("If-None-Match") == "*":
		refuse(w, http.StatusConflict, "BlobAlreadyExists")
		return
	case c.size-len(old)+len(content) > maxAll:
		refuse(w, http.StatusRequestEntityTooLarge, "AccountStorageQuotaExceeded")
		return
	}
	c.blobs[name] = content
	c.size += len(content) - len(old)
	w.Header().Set("ETag", tag(content))
	w.WriteHeader(http.StatusCreated)
}

func (c *Container) get(w http.ResponseWriter, r *http.Request, name string) {
	c.mu.Lock()
	content, exists := c.blobs[name] // never changed, only replaced
	c.mu.Unlock()
	if !exists {
		refuse(w, http.StatusNotFound, "BlobNotFound")
		return
	}
	from, status := 0, http.StatusOK
	if text := r.Header.Get("x-ms-range"); text != "" {
		status = http.StatusPartialContent
		if _, err := fmt.Sscanf(text, "bytes=%d-", &from); err != nil || from < 0 || from > len(content) {
			refuse(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
			return
		}
	}
	w.Header().Set("ETag", tag(content))
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.Itoa(len(content)-from))
	w.WriteHeader(status)
	_, _ = w.Write(content[from:]) // who has gone asks again
}

func tag(content []byte) string { return fmt.Sprintf(`"%x"`, sha256.Sum256(content)) }

func (c *Container) remove(w http.ResponseWriter, name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	content, exists := c.blobs[name]
	if !exists {
		refuse(w, http.StatusNotFound, "BlobNotFound")
		return
	}
	delete(c.blobs, name)
	c.size -= len(content)
	w.WriteHeader(http.StatusAccepted)
}

// list lists names in order, a page at a time. A marker is the name that the next page begins with.
func (c *Container) list(w http.ResponseWriter, query url.Values) {
	type blob struct{ Name string }
	var found struct {
		XMLName xml.Name `xml:"EnumerationResults"`
		Blobs   []blob   `xml:"Blobs>Blob"`
		Next    string   `xml:"NextMarker"`
	}
	size := maxPage
	if n, err := strconv.Atoi(query.Get("maxresults")); err == nil && n > 0 {
		size = min(n, maxPage)
	}
	c.mu.Lock()
	names := slices.Sorted(maps.Keys(c.blobs))
	c.mu.Unlock()
	for _, name := range names {
		if !strings.HasPrefix(name, query.Get("prefix")) || name < query.Get("marker") {
			continue
		}
		if len(found.Blobs) == size {
			found.Next = name
			break
		}
		found.Blobs = append(found.Blobs, blob{name})
	}
	w.Header().Set("Content-Type", "application/xml")
	_, _ = io.WriteString(w, xml.Header)
	_ = xml.NewEncoder(w).Encode(found)
}

func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("x-ms-error-code", code)
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, "%s<Error><Code>%s</Code><Message>%[2]s</Message></Error>", xml.Header, code)
}
