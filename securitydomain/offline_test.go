package securitydomain_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/securitydomain"
)

// owner reads a person's key, with the certificate.
func owner(t testing.TB, name string) securitydomain.Key {
	t.Helper()
	key, err := securitydomain.ParsePrivateKey(file(t, name+".pem"), "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := securitydomain.ParseCertificate(file(t, name+".cer"))
	if err != nil {
		t.Fatal(err)
	}
	return securitydomain.Key{Decrypter: key, Certificate: c}
}

func transferKey(t testing.TB) securitydomain.TransferKey {
	t.Helper()
	k, err := securitydomain.ParseTransferKey(file(t, "transfer-key.cer"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func domain(t testing.TB) securitydomain.SecurityDomain {
	t.Helper()
	return securitydomain.SecurityDomain{Value: string(file(t, "security-domain.json"))}
}

// card is a key on a smart card, which is only a crypto.Decrypter.
type card struct{ key crypto.Decrypter }

func (c card) Public() crypto.PublicKey { return c.key.Public() }
func (c card) Decrypt(r io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	return c.key.Decrypt(r, ciphertext, opts)
}

func TestCheck(t *testing.T) {
	t.Parallel()
	alice, bob, carol := owner(t, "alice"), owner(t, "bob"), owner(t, "carol")
	f, err := securitydomain.Parse(domain(t))
	if err != nil {
		t.Fatal(err)
	}
	if f.Version() != 2 || f.Required() != 2 || len(f.Thumbprints()) != 3 || len(f.Tags()) != 1 {
		t.Errorf("version %d, %d of %v, %v", f.Version(), f.Required(), f.Thumbprints(), f.Tags())
	}
	for _, keys := range [][]securitydomain.Key{{alice, bob}, {carol, alice}, {alice, bob, carol}, {{Decrypter: card{bob.Decrypter}}, carol}} {
		if err := f.Check(keys...); err != nil {
			t.Error(err)
		}
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	short, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	only := func(k crypto.Decrypter) securitydomain.Key { return securitydomain.Key{Decrypter: k} }
	for what, tt := range map[string]struct {
		keys []securitydomain.Key
		want error
	}{
		"one key":           {[]securitydomain.Key{alice}, securitydomain.ErrTooFewKeys},
		"no key":            {nil, securitydomain.ErrTooFewKeys},
		"a stranger's":      {[]securitydomain.Key{alice, only(stranger)}, securitydomain.ErrNoShare},
		"the same twice":    {[]securitydomain.Key{alice, only(alice.Decrypter)}, securitydomain.ErrDuplicate},
		"short":             {[]securitydomain.Key{alice, only(short)}, securitydomain.ErrShortRSA},
		"of a curve":        {[]securitydomain.Key{alice, only(ecCard{curve})}, securitydomain.ErrNotRSA},
		"with another name": {[]securitydomain.Key{alice, {Decrypter: bob.Decrypter, Certificate: carol.Certificate}}, securitydomain.ErrKeyMismatch},
	} {
		if err := f.Check(tt.keys...); !errors.Is(err, tt.want) || !strings.HasPrefix(fmt.Sprint(err), "securitydomain: ") {
			t.Errorf("%s: %v", what, err)
		}
	}
	for _, keys := range [][]securitydomain.Key{{alice}, {bob, carol}, {alice, bob, carol}} {
		if err := f.CheckShares(keys...); err != nil {
			t.Error(err)
		}
	}
	err = f.CheckShares(alice, only(stranger), carol)
	if !errors.Is(err, securitydomain.ErrNoShare) || fmt.Sprint(err) != "securitydomain: key 2 has no share in this security domain" {
		t.Errorf("a stranger's among others: %v", err)
	}
	if err := f.CheckShares(alice, alice); !errors.Is(err, securitydomain.ErrDuplicate) {
		t.Errorf("the same twice: %v", err)
	}
	keys, ok := errors.AsType[*securitydomain.KeysError](f.Check(alice, only(stranger)))
	if !ok || keys.Required != 2 || keys.Opened != 1 || keys.Keys[0] != nil || keys.Keys[1] == nil || !errors.Is(keys, securitydomain.ErrTooFewKeys) {
		t.Errorf("%+v", keys)
	}
}

type ecCard struct{ *ecdsa.PrivateKey }

func (ecCard) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) { return nil, nil }

func TestNewCertificateInfo(t *testing.T) {
	t.Parallel()
	a, b, c := owner(t, "alice").Certificate, owner(t, "bob").Certificate, owner(t, "carol").Certificate
	info, err := securitydomain.NewCertificateInfo(2, a, b, c)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(info)
	if err != nil || !strings.HasPrefix(string(raw), `{"certificates":[{"alg":"RSA-OAEP-256","e":"AQAB","key_ops":["verify","encrypt","wrapKey"],"kty":"RSA","n":"`) ||
		!strings.HasSuffix(string(raw), `"}],"required":2}`) {
		t.Errorf("%s, %v", raw, err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, tt := range map[string]struct {
		quorum int
		certs  []*x509.Certificate
		want   error
	}{
		"two owners":            {2, []*x509.Certificate{a, b}, securitydomain.ErrQuorum},
		"more than owners":      {4, []*x509.Certificate{a, b, c}, securitydomain.ErrQuorum},
		"one is enough":         {1, []*x509.Certificate{a, b, c}, securitydomain.ErrQuorum},
		"one owner twice":       {2, []*x509.Certificate{a, b, a}, securitydomain.ErrDuplicate},
		"none where one belong": {2, []*x509.Certificate{a, nil, c}, securitydomain.ErrCertificate},
		"a curve":               {2, []*x509.Certificate{a, {Raw: []byte{1}, PublicKey: curve.Public()}, c}, securitydomain.ErrNotRSA},
	} {
		if _, err := securitydomain.NewCertificateInfo(tt.quorum, tt.certs...); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestRewrap(t *testing.T) {
	t.Parallel()
	keys := []securitydomain.Key{owner(t, "alice"), owner(t, "carol")}
	to := transferKey(t)
	certificate, err := to.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	pin := sha256.Sum256(certificate.Raw)
	asked := 0
	verify := func(c *x509.Certificate) error { asked++; return nil }
	blob, err := securitydomain.Rewrap(domain(t), to, keys, &securitydomain.RewrapOptions{TransferKeySHA256: pin[:], VerifyTransferKey: verify})
	if err != nil || asked == 0 || !strings.HasPrefix(blob.Value, `{"EncData":{"data":[{"compact_jwe":"`) || !strings.Contains(blob.Value, to.Key.X5TS256) {
		t.Errorf("%s, %v", blob.Value, err)
	}
	refused := errors.New("no evidence")
	altered := domain(t)
	altered.Value = strings.Replace(altered.Value, `"tag":"`, `"tag":"other`, 1)
	for what, tt := range map[string]struct {
		sd      securitydomain.SecurityDomain
		to      securitydomain.TransferKey
		options *securitydomain.RewrapOptions
		want    error
	}{
		"another pin":      {domain(t), to, &securitydomain.RewrapOptions{TransferKeySHA256: make([]byte, 32)}, securitydomain.ErrTransferKey},
		"an empty pin":     {domain(t), to, &securitydomain.RewrapOptions{TransferKeySHA256: []byte{}}, securitydomain.ErrTransferKey},
		"refused":          {domain(t), to, &securitydomain.RewrapOptions{VerifyTransferKey: func(*x509.Certificate) error { return refused }}, refused},
		"no transfer key":  {domain(t), securitydomain.TransferKey{}, nil, securitydomain.ErrCertificate},
		"altered":          {altered, to, nil, securitydomain.ErrAltered},
		"not a domain":     {securitydomain.SecurityDomain{Value: "{}"}, to, nil, securitydomain.ErrMalformed},
		"a blob once more": {blob, to, nil, securitydomain.ErrMalformed},
		"another version":  {securitydomain.SecurityDomain{Value: strings.Replace(domain(t).Value, `"version":2`, `"version":3`, 1)}, to, nil, securitydomain.ErrVersion},
	} {
		if _, err := securitydomain.Rewrap(tt.sd, tt.to, keys, tt.options); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestTransferKeyForms(t *testing.T) {
	t.Parallel()
	want := transferKey(t)
	certificate, err := want.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	inPEM, err := want.PEM()
	if err != nil {
		t.Fatal(err)
	}
	wire, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	jwk := want
	jwk.KeyFormat, jwk.Key.KID = "jwk", "not used"
	asJWK, err := json.Marshal(jwk)
	if err != nil {
		t.Fatal(err)
	}
	object, err := json.Marshal(map[string]any{"key_format": "jwk", "transfer_key": want.Key})
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range [][]byte{inPEM, certificate.Raw, wire, asJWK, object} {
		got, err := securitydomain.ParseTransferKey(form)
		if err != nil || got.Key.X5TS256 != want.Key.X5TS256 {
			t.Errorf("%.60s: %v", form, err)
		}
	}
	if got, err := securitydomain.ParseTransferKey(asJWK); err != nil || got.Key.KID != "not used" {
		t.Errorf("kid %q, %v", got.Key.KID, err)
	}
	for _, bad := range []string{"", "{}", `{"key_format":"der"}`, `{"key_format":1}`, `{"key_format":"jwk","transfer_key":"{\"x5c\":[]}"}`, "x"} {
		if _, err := securitydomain.ParseTransferKey([]byte(bad)); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestContentsPrintNothing(t *testing.T) {
	t.Parallel()
	f, err := securitydomain.Parse(domain(t))
	if err != nil {
		t.Fatal(err)
	}
	contents, err := f.Open(owner(t, "alice"), owner(t, "bob"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(contents)
	if err != nil {
		t.Fatal(err)
	}
	if printed := fmt.Sprintf("%v %+v %#v %x %s", contents, *contents, contents, contents, raw); strings.Trim(printed, `REDACT" `) != "" {
		t.Errorf("printed %s", printed)
	}
}
