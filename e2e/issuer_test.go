package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// An issuer is an OpenID Connect issuer as a Kubernetes cluster is one: discovery, keys, and tokens for its workloads.
type issuer struct {
	url    string
	caFile string
	signer jose.Signer
}

const (
	issuerHost       = "issuer.cluster.test"
	workload         = "system:serviceaccount:apps:web"
	workloadAudience = "api://AzureADTokenExchange"
)

func startIssuer(t *testing.T) *issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "one", Algorithm: "RS256", Use: "sig"}}}
	signing := jose.SigningKey{Algorithm: jose.RS256, Key: jose.JSONWebKey{Key: key, KeyID: "one"}}
	signer, err := jose.NewSigner(signing, new(jose.SignerOptions).WithType("JWT"))
	if err != nil {
		t.Fatal(err)
	}
	certificate, chain := selfSigned(t, issuerHost)
	i := &issuer{signer: signer, caFile: filepath.Join(t.TempDir(), "issuer-ca.pem")}
	if err := os.WriteFile(i.caFile, chain, 0o600); err != nil {
		t.Fatal(err)
	}

	mux := http.NewServeMux()
	answer := func(path string, document func() any) {
		mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_ = json.NewEncoder(w).Encode(document()) // a broken connection is the client's to notice
		})
	}
	answer("/keys", func() any { return keys })
	answer("/.well-known/openid-configuration", func() any {
		return map[string]any{"issuer": i.url, "jwks_uri": i.url + "/keys", "id_token_signing_alg_values_supported": []string{"RS256"}}
	})
	srv := httptest.NewUnstartedServer(mux)
	srv.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	srv.StartTLS()
	t.Cleanup(srv.Close)
	i.url = fmt.Sprintf("https://%s:%d", issuerHost, srv.Listener.Addr().(*net.TCPAddr).Port)
	addHosts(t, []byte("127.0.0.1 "+issuerHost+"\n"))
	return i
}

// token is what a cluster projects into a pod.
func (i *issuer) token(t *testing.T) string {
	t.Helper()
	return i.sign(t, jwt.Claims{Subject: workload, Audience: jwt.Audience{workloadAudience}})
}

// attestation is what an attestation authority says about a program: which key was made where the program runs, and
// whether somebody can look into it.
func (i *issuer) attestation(t *testing.T, key *rsa.PublicKey, debuggable string) string {
	t.Helper()
	keys := []any{jose.JSONWebKey{Key: key, KeyID: "target", Use: "enc"}}
	return i.sign(t, jwt.Claims{}, map[string]any{
		"x-ms-runtime": map[string]any{"keys": keys}, "x-ms-sgx-is-debuggable": debuggable,
	})
}

// sign makes a token for an hour.
func (i *issuer) sign(t *testing.T, claims jwt.Claims, more ...any) string {
	t.Helper()
	now := time.Now()
	claims.Issuer, claims.Expiry = i.url, jwt.NewNumericDate(now.Add(time.Hour))
	claims.IssuedAt, claims.NotBefore = jwt.NewNumericDate(now), jwt.NewNumericDate(now)
	builder := jwt.Signed(i.signer).Claims(claims)
	for _, c := range more {
		builder = builder.Claims(c)
	}
	text, err := builder.Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// selfSigned makes a certificate for a host, as a server and as the authority to trust.
func selfSigned(t *testing.T, host string) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der := certificateFor(t, host, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func certificateFor(t *testing.T, name string, public, private any) []byte {
	t.Helper()
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(24 * time.Hour),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true, IsCA: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// clientCertificate makes the PEM file that the clients read: key and certificate.
func clientCertificate(t *testing.T) (combined, certificate string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der := certificateFor(t, "web", key.Public(), key)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	both := append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), public...)
	dir := t.TempDir()
	combined, certificate = filepath.Join(dir, "client.pem"), filepath.Join(dir, "certificate.pem")
	for path, text := range map[string][]byte{combined: both, certificate: public} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return combined, certificate
}
