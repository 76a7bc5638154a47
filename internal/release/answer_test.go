package release

import (
	"bytes"
	"crypto"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var signer = sync.OnceValues(func() (*Signer, error) {
	return NewSigner([]string{"*.vault.example.org", "*.managedhsm.example.org"}, time.Now())
})

func newTestSigner(t testing.TB) *Signer {
	t.Helper()
	s, err := signer()
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func answer(t testing.TB) Answer {
	return Answer{
		APIVersion: "7.6", KeyAsked: "https://v1.vault.example.org/keys/k", Enc: WrapSHA256, Nonce: "n1",
		KeyID: "https://v1.vault.example.org/keys/k/0123", KeyType: "RSA-HSM", Operations: []string{"encrypt", "decrypt"},
		N: []byte{1, 2, 3}, E: []byte{1, 0, 1}, Attributes: json.RawMessage(`{"enabled":true,"exportable":true}`),
		Policy: mustParse(t, one(`{"claim":"c","equals":"<&>"}`)), Immutable: true,
		Recipient: "TpmEphemeralEncryptionKey", Wrapped: []byte("wrapped \xff\xfe"),
	}
}

// open checks an answer as the targets do that check most: the chain leads to a trusted root and is for the host that was
// asked, the signature is RS256 by the leaf's key. It returns the payload.
func open(t *testing.T, jws, host string, roots *x509.CertPool) []byte {
	t.Helper()
	parts := strings.Split(jws, ".")
	if len(parts) != 3 {
		t.Fatalf("not a compact JWS: %s", jws)
	}
	decode := func(s string) []byte {
		raw, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	var header struct {
		Alg        string   `json:"alg"`
		Kid        string   `json:"kid"`
		Typ        string   `json:"typ"`
		X5C        []string `json:"x5c"`
		Thumbprint string   `json:"x5t#S256"`
	}
	if err := json.Unmarshal(decode(parts[0]), &header); err != nil {
		t.Fatal(err)
	}
	var chain []*x509.Certificate
	intermediates := x509.NewCertPool()
	for i, text := range header.X5C {
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		if chain = append(chain, cert); i > 0 {
			intermediates.AddCert(cert)
		}
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: host, Roots: roots, Intermediates: intermediates}); err != nil {
		t.Fatal(err)
	}
	thumbprint := sha256.Sum256(chain[0].Raw)
	if want := base64.RawURLEncoding.EncodeToString(thumbprint[:]); header.Kid != want || header.Thumbprint != want {
		t.Errorf("kid %s, x5t#S256 %s, want %s", header.Kid, header.Thumbprint, want)
	}
	digest := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	key, ok := chain[0].PublicKey.(*rsa.PublicKey)
	if !ok || header.Alg != "RS256" || header.Typ != "JWT" {
		t.Fatalf("alg %s, typ %s, key %T", header.Alg, header.Typ, chain[0].PublicKey)
	}
	if err := rsa.VerifyPKCS1v15(key, crypto.SHA256, digest[:], decode(parts[2])); err != nil {
		t.Fatal(err)
	}
	return decode(parts[1])
}

func rootsOf(certs ...*x509.Certificate) *x509.CertPool {
	pool := x509.NewCertPool()
	for _, cert := range certs {
		pool.AddCert(cert)
	}
	return pool
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	s := newTestSigner(t)
	a := answer(t)
	jws, err := s.Sign(a)
	if err != nil {
		t.Fatal(err)
	}
	got := open(t, jws, "v1.vault.example.org", rootsOf(s.chain[0]))
	want := `{"request":{"api-version":"7.6","enc":"RSA_AES_KEY_WRAP_256","kid":"https://v1.vault.example.org/keys/k","nonce":"n1"},` +
		`"response":{"key":{"key":{"kid":"https://v1.vault.example.org/keys/k/0123","kty":"RSA-HSM","key_ops":["encrypt","decrypt"],` +
		`"n":"AQID","e":"AQAB","key_hsm":"` + b64(`{"schema_version":"1.0","header":{"kid":"TpmEphemeralEncryptionKey","alg":"dir",`+
		`"enc":"RSA_AES_KEY_WRAP_256"},"ciphertext":"`+b64("wrapped \xff\xfe")+`"}`) + `"},` +
		`"attributes":{"enabled":true,"exportable":true},"release_policy":{"contentType":"application/json; charset=utf-8",` +
		`"data":"` + b64(string(a.Policy.Canonical())) + `","immutable":true}}}}`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("payload (-want +got):\n%s", diff)
	}
}

func TestAnswerOfOtherKeys(t *testing.T) {
	t.Parallel()
	s := newTestSigner(t)
	key := func(change func(*Answer)) object {
		a := answer(t)
		change(&a)
		jws, err := s.Sign(a)
		if err != nil {
			t.Fatal(err)
		}
		var payload struct {
			Request  object
			Response struct{ Key struct{ Key object } }
		}
		if err := json.Unmarshal(open(t, jws, "v1.vault.example.org", rootsOf(s.chain[0])), &payload); err != nil {
			t.Fatal(err)
		}
		if _, found := payload.Request["nonce"]; found {
			t.Error("a nonce that was not asked for")
		}
		delete(payload.Response.Key.Key, "key_hsm")
		return payload.Response.Key.Key
	}
	ec := key(func(a *Answer) {
		a.Nonce, a.KeyType, a.Curve, a.N, a.E, a.X, a.Y = "", "EC-HSM", "P-256", nil, nil, []byte{4}, []byte{5}
	})
	want := object{"kid": answer(t).KeyID, "kty": "EC-HSM", "crv": "P-256", "x": "BA", "y": "BQ", "key_ops": []any{"encrypt", "decrypt"}}
	if diff := cmp.Diff(want, ec); diff != "" {
		t.Errorf("EC key (-want +got):\n%s", diff)
	}
	oct := key(func(a *Answer) { a.Nonce, a.KeyType, a.Operations, a.N, a.E = "", "oct-HSM", nil, nil, nil })
	if diff := cmp.Diff(object{"kid": answer(t).KeyID, "kty": "oct-HSM", "key_ops": []any{}}, oct); diff != "" {
		t.Errorf("oct key (-want +got):\n%s", diff)
	}
}

func TestAnswerRefusesBrokenAttributes(t *testing.T) {
	t.Parallel()
	a := answer(t)
	a.Attributes = json.RawMessage(`{"enabled":`)
	if jws, err := newTestSigner(t).Sign(a); err == nil {
		t.Errorf("signed: %s", jws)
	}
}

func TestSignerRecord(t *testing.T) {
	t.Parallel()
	s := newTestSigner(t)
	record, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseSigner(record)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := again.Sign(answer(t))
	if err != nil {
		t.Fatal(err)
	}
	open(t, jws, "hsm1.managedhsm.example.org", rootsOf(s.chain[0]))

	change := func(name string, v any) []byte {
		var m object
		if err := json.Unmarshal(record, &m); err != nil {
			t.Fatal(err)
		}
		return mustJSON(t, with(m, object{name: v}))
	}
	pkcs8 := func(key any) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	for _, c := range []struct {
		name   string
		record []byte
		want   string
	}{
		{"empty", nil, "damaged"},
		{"cut", record[:len(record)-2], "damaged"},
		{"no format", change("v", nil), "format 0"},
		{"format of the future", change("v", 2), "format 2, this release knows 1: use a newer release"},
		{"unknown member", change("more", 1), "damaged"},
		{"no key", change("key", nil), "no RSA key"},
		{"EC key", change("key", pkcs8(ecKey())), "no RSA key"},
		{"another key", change("key", pkcs8(otherKey())), "not that of the signer's key"},
		{"no certificate", change("chain", nil), "1 to 8 certificates"},
		{"broken certificate", change("chain", []string{"AQID"}), "certificate of the signer"},
	} {
		s, err := ParseSigner(c.record)
		if err == nil || s != nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want it to say %q", c.name, err, c.want)
		}
		if err != nil && bytes.Contains([]byte(err.Error()), record[10:60]) {
			t.Errorf("%s: the error holds the record", c.name)
		}
	}
}

// An authority's certificates take the place of the self-signed one.
func TestSignerChain(t *testing.T) {
	t.Parallel()
	s := newTestSigner(t)
	root := &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	rootDER := certificate(t, root, ecKey().Public(), nil, ecKey())
	leaf := &x509.Certificate{DNSNames: []string{"*.vault.example.org"}}
	leafDER := certificate(t, leaf, s.Public(), root, ecKey())
	issued, err := s.WithChain([][]byte{leafDER, rootDER})
	if err != nil {
		t.Fatal(err)
	}
	record, err := issued.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if issued, err = ParseSigner(record); err != nil {
		t.Fatal(err)
	}
	jws, err := issued.Sign(answer(t))
	if err != nil {
		t.Fatal(err)
	}
	trusted, err := x509.ParseCertificate(rootDER)
	if err != nil {
		t.Fatal(err)
	}
	open(t, jws, "v1.vault.example.org", rootsOf(trusted))

	foreign := certificate(t, leaf, otherKey().Public(), root, ecKey())
	unrelated := certificate(t, leaf, s.Public(), root, ec384Key())
	for name, chain := range map[string][][]byte{
		"none": nil, "of another key": {foreign, rootDER}, "root first": {rootDER, leafDER}, "not signed by the next": {unrelated, rootDER},
		"too many": {leafDER, rootDER, rootDER, rootDER, rootDER, rootDER, rootDER, rootDER, rootDER},
	} {
		if _, err := s.WithChain(chain); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSignerFits(t *testing.T) {
	t.Parallel()
	s, now := newTestSigner(t), time.Now()
	for _, c := range []struct {
		host string
		at   time.Time
		want bool
	}{
		{"v1.vault.example.org", now, true},
		{"H1.managedhsm.example.org", now, true},
		{"vault.example.org", now, false},
		{"v1.vault.elsewhere.org", now, false},
		{"", now, false},
		{"v1.vault.example.org", now.Add(-time.Hour), false},
		{"v1.vault.example.org", now.Add(signerLife - time.Minute), true},
		{"v1.vault.example.org", now.Add(signerLife + time.Minute), false},
	} {
		if got := s.Fits(c.host, c.at); got != c.want {
			t.Errorf("%s at %v: got %v", c.host, c.at, got)
		}
	}
	if bits := s.Public().(*rsa.PublicKey).N.BitLen(); bits != signerBits || s.chain[0].IsCA {
		t.Errorf("a key of %d bits, CA %v", bits, s.chain[0].IsCA)
	}
}

func TestSignerPrintsNothing(t *testing.T) {
	t.Parallel()
	s := newTestSigner(t)
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("signer", "s", s)
	raw, err := json.Marshal(struct{ S *Signer }{s})
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		fmt.Sprint(s), fmt.Sprintf("%+v", s), fmt.Sprintf("%#v", s), fmt.Sprintf("%x", s), fmt.Sprintf("%d", s),
		fmt.Sprintf("%v", struct{ S *Signer }{s}), log.String(), string(raw),
	} {
		if len(text) > 150 || strings.Contains(text, s.key.D.String()) {
			t.Errorf("printed: %.200s", text)
		}
	}
}

func TestWrapping(t *testing.T) {
	t.Parallel()
	for enc, want := range map[string]crypto.Hash{
		"": crypto.SHA1, WrapSHA1: crypto.SHA1, WrapSHA256: crypto.SHA256, WrapSHA384: crypto.SHA384,
	} {
		name, hash, err := Wrapping(enc)
		if err != nil || hash != want || !hash.Available() || enc != "" && name != enc || name == "" {
			t.Errorf("%q: got %s, %v, %v", enc, name, hash, err)
		}
	}
	for _, bad := range []string{"RSA-OAEP", "ckm_rsa_aes_key_wrap", "RSA_AES_KEY_WRAP_512", " "} {
		_, _, err := Wrapping(bad)
		wantKind(t, err, BadInput)
	}
}
