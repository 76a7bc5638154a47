package sdomain

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fastIDs have keys of 2048 bits, with which opening is fast.
func fastIDs() []string {
	return []string{"wk-01", "wk-02", "wk-03", "wk-06", "wk-07", "wk-08", "wk-09", "wk-10"}
}

func certificatesOf(t testing.TB, ids []string) []Certificate {
	t.Helper()
	var certs []Certificate
	for _, id := range ids {
		certs = append(certs, allOwners(t)[id].certificate)
	}
	return certs
}

func someData() []Datum {
	return []Datum{{tagHSM, []byte("one")}, {"größe <&>", nil}, {tagPartition, bytes.Repeat([]byte("long "), 5000)}}
}

func sealFile(t testing.TB, ids []string, required int) *File {
	t.Helper()
	raw, err := Seal(someData(), certificatesOf(t, ids), required)
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func checkSome(t *testing.T, what string, got []Datum, err error) {
	t.Helper()
	same := func(a, b Datum) bool { return a.Tag == b.Tag && bytes.Equal(a.Value, b.Value) }
	if err != nil || !slices.EqualFunc(got, someData(), same) {
		t.Errorf("%s: %d data, %v", what, len(got), err)
	}
}

// TestSeal: every quorum opens the file, and nothing smaller does. Shares of two files of the same data do not go together.
func TestSeal(t *testing.T) {
	t.Parallel()
	ids := fastIDs()[:5]
	f, again := sealFile(t, ids, 3), sealFile(t, ids, 3)
	for _, some := range quorums(ids, 3) {
		data, err := f.Open(holders(t, some, true))
		checkSome(t, fmt.Sprint(some), data, err)
	}
	for _, some := range quorums(ids, 2) {
		_, err := f.Open(holders(t, some, true))
		wantErr(t, fmt.Sprint(some), err, ErrTooFewKeys)
	}
	f.shares[0], f.shares[1] = again.shares[0], again.shares[1]
	_, err := f.Open(holders(t, ids[:3], true))
	wantErr(t, "shares of two files", err, ErrAltered)
	// With more keys the good shares are found, though two of five are from elsewhere.
	data, err := f.Open(holders(t, ids, true))
	checkSome(t, "with all keys", data, err)
}

// TestSealedForm: the text is that of the service.
func TestSealedForm(t *testing.T) {
	t.Parallel()
	ids := fastIDs()[:3]
	raw, err := Seal(someData()[:1], certificatesOf(t, ids), 2)
	if err != nil {
		t.Fatal(err)
	}
	text := string(raw)
	for _, want := range []string{
		`{"EncData":{"data":[{"compact_jwe":"eyJhbGciOiJkaXIiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIiwia2lkIjoiaHNtX2JhY2t1cCJ9..`,
		`","tag":"hsm_backup"}],"kdf":"sp108_kdf"},"SharedKeys":{"enc_shares":[{"enc_key":"eyJhbGciOiJSU0EtT0FFUC0yNTYiLCJlbmMiOiJBMjU2Q0JDLUhTNTEyIiwia2lkIjoi`,
		`","x5t_256":"` + certificatesOf(t, ids)[0].Thumbprint() + `"},{"enc_key":"`,
		`"}],"key_algorithm":"shamir_share","required":2},"version":2}`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%s is not in %.3000s", want, text)
		}
	}
	f, err := Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		part, err := openRSA(f.shares[i].JWE, allOwners(t)[id].key)
		if err != nil {
			t.Fatal(err)
		}
		if s, err := parseShare(part, masterLen); err != nil || int(s.place) != i+1 {
			t.Errorf("share %d is at place %d (%v)", i, s.place, err)
		}
	}
}

// TestFewerSharesTellNothing: for each byte that a secret could have there is a polynomial through the shares of k-1 holders, as many for
// one as for another.
func TestFewerSharesTellNothing(t *testing.T) {
	t.Parallel()
	for range 20 {
		b := byte(mathrand.Uint32())
		shares, err := split([]byte{b}, 3, 5)
		if err != nil {
			t.Fatal(err)
		}
		var known []share
		for _, raw := range shares[:2] {
			s, err := parseShare(raw, 1)
			if err != nil {
				t.Fatal(err)
			}
			known = append(known, s)
		}
		possible := make(map[byte]bool)
		for v := range uint32(prime) {
			if secret, err := combine(append(slices.Clip(known), share{3, []uint32{v}})); err == nil {
				possible[secret[0]] = true
			}
		}
		if len(possible) != 256 {
			t.Fatalf("two shares of three leave %d values possible", len(possible))
		}
	}
}

// TestSplit: any choice of enough shares gives a random secret back; fewer, taken for enough, do not.
func TestSplit(t *testing.T) {
	t.Parallel()
	r := mathrand.New(mathrand.NewPCG(1, 2))
	for range 200 {
		required := 2 + r.IntN(9)
		total := required + r.IntN(11-required)
		secret := randomBytes(masterLen)
		raw, err := split(secret, required, total)
		if err != nil {
			t.Fatal(err)
		}
		r.Shuffle(len(raw), func(i, j int) { raw[i], raw[j] = raw[j], raw[i] })
		if got, err := reconstruct(raw, required, masterLen); err != nil || !bytes.Equal(got, secret) {
			t.Fatalf("%d of %d: %x, %v", required, total, got, err)
		}
		if required == 2 {
			continue
		}
		if got, err := reconstruct(raw, required-1, masterLen); err == nil && bytes.Equal(got, secret) {
			t.Fatalf("%d of %d: one fewer is enough", required, total)
		}
	}
	for _, bad := range [][2]int{{1, 3}, {4, 3}, {2, 127}} {
		if _, err := split([]byte{1}, bad[0], bad[1]); err == nil {
			t.Errorf("%v is split", bad)
		}
	}
}

func TestRandomElementIsUniform(t *testing.T) {
	t.Parallel()
	var seen [prime]int
	const rounds = 400
	for range rounds * prime {
		seen[randomElement()]++
	}
	for v, n := range seen {
		if n < rounds/2 || n > rounds*2 { // ten deviations away
			t.Errorf("%d came %d times, not about %d", v, n, rounds)
		}
	}
}

// device is a key on a smart card: no more than a crypto.Decrypter, which may be out of order, and counts.
type device struct {
	key   *rsa.PrivateKey
	err   error
	calls *int
}

func (d device) Public() crypto.PublicKey { return d.key.Public() }

func (d device) Decrypt(r io.Reader, ciphertext []byte, opts crypto.DecrypterOpts) ([]byte, error) {
	if d.calls != nil {
		*d.calls++
	}
	if d.err != nil {
		return nil, d.err
	}
	return d.key.Decrypt(r, ciphertext, opts)
}

func TestOpenErrors(t *testing.T) {
	t.Parallel()
	ids := fastIDs()
	f := sealFile(t, ids[:3], 2)
	all := allOwners(t)
	holder := func(id string) Holder { return Holder{Key: all[id].key, Certificate: all[id].certificate.X509()} }
	first, second, stranger := holder(ids[0]), holder(ids[1]), holder(ids[5])
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	noCard := errors.New("the card was taken out")
	damaged := *f
	damaged.shares = slices.Clone(f.shares)
	damaged.shares[0].JWE = damaged.shares[0].JWE[:len(damaged.shares[0].JWE)-4] + "AAAA"
	for what, tt := range map[string]struct {
		f       *File
		holders []Holder
		want    error
		text    string
	}{
		"none":                  {f, nil, ErrTooFewKeys, "it takes 2, and 0 came"},
		"one too few":           {f, []Holder{first}, ErrTooFewKeys, "it takes 2, and 1 came"},
		"a wrong one":           {f, []Holder{first, stranger}, ErrNoShare, "it takes 2, and 1 opened a share; key 2 has no share"},
		"a wrong one, untold":   {f, []Holder{first, {Key: stranger.Key}}, ErrNoShare, "key 2 has no share"},
		"wrong ones":            {f, []Holder{stranger, {Key: all[ids[6]].key}}, ErrTooFewKeys, "0 opened a share"},
		"one twice":             {f, []Holder{first, first}, ErrDuplicate, "key 2 is there twice: it is number 1, too"},
		"one twice, untold":     {f, []Holder{first, {Key: first.Key}}, ErrDuplicate, ""},
		"a key of an EC curve":  {f, []Holder{first, {Key: ecDecrypter{ecKey}}}, ErrNotRSA, "key 2"},
		"a short key":           {f, []Holder{{Key: shortKey(t)}, first}, ErrShortRSA, "key 1"},
		"no key":                {f, []Holder{first, {}}, nil, "key 2 is missing"},
		"another's certificate": {f, []Holder{first, {second.Key, first.Certificate}}, ErrKeyMismatch, "key 2"},
		"too many":              {f, make([]Holder, MaxHolders+1), nil, "too many"},
		"a damaged share":       {&damaged, []Holder{first, second}, ErrAltered, "key 1 has a share that was altered"},
		"a broken device":       {f, []Holder{{Key: device{key: all[ids[0]].key, err: noCard}}, second}, noCard, "key 1 does not open a share: the card was taken out"},
	} {
		data, err := tt.f.Open(tt.holders)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %d data, %v, want %v, %q", what, len(data), err, tt.want, tt.text)
		}
	}
	data, err := f.Open([]Holder{{Key: device{key: all[ids[0]].key}}, second})
	checkSome(t, "with a device", data, err)
	data, err = damaged.Open([]Holder{first, second, holder(ids[2])})
	checkSome(t, "with one more than necessary", data, err)
}

// TestDevicesAreAskedSeldom: each time somebody may have to enter a PIN.
func TestDevicesAreAskedSeldom(t *testing.T) {
	t.Parallel()
	ids := fastIDs()[:3]
	f := sealFile(t, ids, 2)
	var calls [3]int
	var hs []Holder
	for i, id := range []string{ids[0], ids[1], "wk-04"} { // the last is longer than any that has a share
		hs = append(hs, Holder{Key: device{key: allOwners(t)[id].key, calls: &calls[i]}})
	}
	data, err := f.Open(hs)
	checkSome(t, "with devices", data, err)
	if want := [3]int{1, 1, 0}; calls != want {
		t.Errorf("they were asked %v times, want %v", calls, want)
	}
}

type ecDecrypter struct{ *ecdsa.PrivateKey }

func (ecDecrypter) Decrypt(io.Reader, []byte, crypto.DecrypterOpts) ([]byte, error) { return nil, nil }

func shortKey(t *testing.T) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestCheckQuorum(t *testing.T) {
	t.Parallel()
	ids := fastIDs()
	certs := certificatesOf(t, ids)
	sameKey := certs[0]
	sameKey.x509 = renewed(t, allOwners(t)[ids[0]].key)
	for want, tt := range map[string]struct {
		certs    []Certificate
		required int
		err      error
	}{
		"must be 3 to 10 certificates":   {certs[:2], 2, ErrQuorum},
		"11 is not a quorum":             {append(slices.Clone(certs), certs[:3]...), 2, ErrQuorum},
		"1 of 3":                         {certs[:3], 1, ErrQuorum},
		"11 of 3":                        {certs[:3], 11, ErrQuorum},
		"larger than the number":         {certs[:3], 4, ErrQuorum},
		"certificate 3 is there twice":   {[]Certificate{certs[0], certs[1], certs[0]}, 2, ErrDuplicate},
		"one holder would have two":      {[]Certificate{certs[0], certs[1], sameKey}, 2, ErrDuplicate},
		"certificate 2 is not a usable ": {[]Certificate{certs[0], {}, certs[1]}, 2, ErrCertificate},
	} {
		err := CheckQuorum(tt.certs, tt.required)
		if !errors.Is(err, tt.err) || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if _, err := Seal(someData(), tt.certs, tt.required); !errors.Is(err, tt.err) {
			t.Errorf("Seal: %v", err)
		}
	}
	for _, n := range []int{3, 8} {
		if err := CheckQuorum(certs[:n], n); err != nil {
			t.Errorf("%d of %d: %v", n, n, err)
		}
	}
	if _, err := Seal([]Datum{{"a", nil}, {"a", nil}}, certs[:3], 2); err == nil {
		t.Error("two data with one tag are sealed")
	}
}

// renewed is another certificate of a key.
func renewed(t *testing.T, key *rsa.PrivateKey) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(2), NotAfter: time.Now()}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestCertificateFromJWK(t *testing.T) {
	t.Parallel()
	good := allOwners(t)["wk-06"].certificate.JWK()
	other := allOwners(t)["wk-01"].certificate.JWK()
	if _, err := CertificateFromJWK(JWK{X5C: good.X5C}); err != nil {
		t.Errorf("with x5c alone: %v", err)
	}
	padded := good
	padded.X5T += "="
	padded.N = encodeBase64URL(append([]byte{0}, allOwners(t)["wk-06"].key.N.Bytes()...))
	if _, err := CertificateFromJWK(padded); err != nil {
		t.Errorf("with padding and a leading zero: %v", err)
	}
	for want, change := range map[string]func(*JWK){
		"x5c is missing":        func(k *JWK) { k.X5C = nil },
		"is not in base64":      func(k *JWK) { k.X5C = []string{"!"} },
		"x509:":                 func(k *JWK) { k.X5C = []string{"AAAA"} },
		"longer than 32768":     func(k *JWK) { k.X5C = []string{strings.Repeat("A", 50000)} },
		"n is not that of":      func(k *JWK) { k.N = other.N },
		"e is not that of":      func(k *JWK) { k.E = other.E },
		"x5t is not that of":    func(k *JWK) { k.X5T = other.X5T },
		"x5t#S256 is not that ": func(k *JWK) { k.X5TS256 = other.X5TS256 },
		"kty is not that of":    func(k *JWK) { k.Kty = "EC" },
	} {
		k := good
		change(&k)
		_, err := CertificateFromJWK(k)
		if !errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	even := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(3), 2047), E: 65537}
	if _, err := NewCertificate(&x509.Certificate{Raw: []byte{1}, PublicKey: even}); !errors.Is(err, ErrCertificate) {
		t.Errorf("an even modulus: %v", err)
	}
	for want, file := range map[string]string{
		"no CERTIFICATE in the PEM": "-----BEGIN X-----\n-----END X-----\n",
		"longer than":               strings.Repeat("x", maxCertificate+1),
		"x509":                      "text",
	} {
		if _, err := ParseCertificate([]byte(file)); !errors.Is(err, ErrCertificate) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// transferKey is one of the vectors' keys: making one takes seconds.
func transferKey(t testing.TB, id string) *TransferKey {
	t.Helper()
	o := allOwners(t)[id]
	return &TransferKey{o.key, o.certificate}
}

func TestRewrap(t *testing.T) {
	t.Parallel()
	tk := transferKey(t, "exchange-4096")
	blob, err := Rewrap(someData(), tk.Certificate())
	if err != nil {
		t.Fatal(err)
	}
	data, err := OpenRestoreBlob(blob, tk)
	checkSome(t, "blob", data, err)
	data, err = OpenRestoreBlob(append([]byte("\ufeff \n"), blob...), tk)
	checkSome(t, "blob with a mark of its encoding", data, err)

	var raw blobJSON
	if err := json.Unmarshal(blob, &raw); err != nil {
		t.Fatal(err)
	}
	changed := func(change func(*blobJSON)) []byte {
		var copied blobJSON
		if err := json.Unmarshal(blob, &copied); err != nil {
			t.Fatal(err)
		}
		change(&copied)
		out, err := json.Marshal(copied)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	short, err := sealRSA("", tk.certificate.public, []byte("short"))
	if err != nil {
		t.Fatal(err)
	}
	otherTK := transferKey(t, "exchange-2048")
	for what, tt := range map[string]struct {
		blob []byte
		tk   *TransferKey
		want error
		text string
	}{
		"another transfer key":   {blob, otherTK, ErrOtherTransfer, "made for another transfer key: get this HSM's"},
		"the same, under a lie":  {changed(func(b *blobJSON) { b.WrappedKey.Thumbprint = otherTK.certificate.Thumbprint() }), otherTK, ErrAltered, ""},
		"a datum of another tag": {changed(func(b *blobJSON) { b.EncData.Data[0].Tag = "x" }), tk, ErrAltered, `datum "x"`},
		"altered datum":          {changed(func(b *blobJSON) { b.EncData.Data[2].JWE += "A" }), tk, ErrAltered, tagPartition},
		"altered key":            {changed(func(b *blobJSON) { b.WrappedKey.JWE = raw.EncData.Data[0].JWE }), tk, ErrAltered, "WrappedKey"},
		"short key":              {changed(func(b *blobJSON) { b.WrappedKey.JWE = short }), tk, ErrAltered, "WrappedKey"},
		"no key":                 {changed(func(b *blobJSON) { b.WrappedKey = nil }), tk, ErrMalformed, "Has it been wrapped"},
		"no data":                {changed(func(b *blobJSON) { b.EncData = nil }), tk, ErrMalformed, "EncData"},
		"not JSON":               {[]byte("{"), tk, ErrMalformed, "not JSON"},
		"another type":           {[]byte(`{"EncData":1}`), tk, ErrMalformed, "another type"},
		"too long":               {make([]byte, MaxFile+1), tk, ErrMalformed, "longer than"},
		"no transfer key":        {blob, nil, nil, "without a transfer key"},
	} {
		_, err := OpenRestoreBlob(tt.blob, tt.tk)
		if err == nil || tt.want != nil && !errors.Is(err, tt.want) || !strings.Contains(err.Error(), tt.text) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := Rewrap(someData(), Certificate{}); !errors.Is(err, ErrCertificate) {
		t.Errorf("without a certificate: %v", err)
	}
}

var madeTransferKey = sync.OnceValues(func() (*TransferKey, error) { return NewTransferKey("one.managedhsm.example.org", time.Now()) })

func TestTransferKey(t *testing.T) {
	t.Parallel()
	tk, err := madeTransferKey()
	if err != nil {
		t.Fatal(err)
	}
	c := tk.Certificate().X509()
	if c.Subject.CommonName != "one.managedhsm.example.org" || c.KeyUsage != x509.KeyUsageKeyEncipherment || c.IsCA || !c.BasicConstraintsValid ||
		tk.key.N.BitLen() != 4096 || c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature) != nil || c.SerialNumber.Sign() <= 0 {
		t.Errorf("certificate: %v, usage %v, serial %v", c.Subject, c.KeyUsage, c.SerialNumber)
	}
	raw, err := tk.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	var stored TransferKey
	if err := stored.UnmarshalBinary(raw); err != nil {
		t.Fatal(err)
	}
	text, err := stored.JWK()
	if err != nil || !strings.Contains(text, `"key_ops":["wrapKey","verify","encrypt"],"kid":"not used","kty":"RSA"`) || strings.Contains(text, `"alg"`) {
		t.Errorf("%s, %v", text, err)
	}
	given, err := ParseTransferKey("jwk", text)
	if err != nil {
		t.Fatal(err)
	}
	blob, err := Rewrap(someData(), given)
	if err != nil {
		t.Fatal(err)
	}
	data, err := OpenRestoreBlob(blob, &stored)
	checkSome(t, "with the stored key", data, err)

	inPEM, err := ParseTransferKey("pem", string(given.PEM()))
	if err != nil || inPEM.Thumbprint() != given.Thumbprint() {
		t.Errorf("in PEM: %v", err)
	}
	for format, text := range map[string]string{"der": "x", "jwk": "{", "": `{"x5c":[]}`, "pem": "x"} {
		if _, err := ParseTransferKey(format, text); err == nil {
			t.Errorf("%s %q is taken", format, text)
		}
	}
	if printed := fmt.Sprintf("%v %+v %#v %x", tk, *tk, tk, tk); strings.Trim(printed, "REDACT ") != "" {
		t.Errorf("printed %s", printed)
	}
	other, err := (transferKey(t, "exchange-2048")).MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	swapped := bytes.Replace(other, []byte(`"certificate":"`), []byte(`"certificate":"AAAA`), 1)
	var mixed storedTransferKey
	if err := json.Unmarshal(other, &mixed); err != nil {
		t.Fatal(err)
	}
	mixed.Certificate = c.Raw
	notItsOwn, err := json.Marshal(mixed)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte(`{"v":1}`), []byte(`{"v":2}`), swapped, notItsOwn} {
		if err := new(TransferKey).UnmarshalBinary(bad); err == nil {
			t.Errorf("%.30s is taken", bad)
		}
	}
	if _, err := new(TransferKey).MarshalBinary(); err == nil {
		t.Error("the zero value is stored")
	}
}

func TestParseErrors(t *testing.T) {
	t.Parallel()
	share := `{"enc_key":"a","x5t_256":"b"}`
	file := func(keys, rest string) string { return `{"EncData":{"data":[]},` + keys + rest + `}` }
	for text, want := range map[string]string{
		`{"EncData":{"data":[{"tag":"a"},{"tag":"a"}]}}`:                                                          "twice",
		`{"EncData":{"data":[{"tag":""}]}}`:                                                                       "whose tag",
		file(`"SplitKeys":{"key_algorithm":"x"}`, ``):                                                             "xor_split",
		file(`"SplitKeys":{"key_algorithm":"xor_split"}`, `,"version":1`):                                         "0 pairs",
		file(`"SharedKeys":{}`, `,"version":1`):                                                                   "SplitKeys is missing",
		file(`"SplitKeys":{}`, `,"version":2`):                                                                    "SharedKeys is missing",
		file(`"SharedKeys":{"key_algorithm":"shamir_share","required":2,"enc_shares":[`+share+`]}`, ``):           "1 shares",
		file(`"SharedKeys":{"key_algorithm":"shamir_share","required":"2"}`, ``):                                  "another type",
		file(`"SharedKeys":{"key_algorithm":"shamir_share","required":2,"enc_shares":[`+share+`,`+share+`]}`, ``): "twice",
	} {
		_, err := Parse([]byte(text))
		if !errors.Is(err, ErrMalformed) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestJWEErrors: what a reader must not overlook.
func TestJWEErrors(t *testing.T) {
	t.Parallel()
	cek := randomBytes(cekLen)
	make1 := func(head string) string {
		parts := strings.Split(mustSeal(t, cek), ".")
		parts[0] = encodeBase64URL([]byte(head))
		return strings.Join(parts, ".")
	}
	good := mustSeal(t, cek)
	for text, want := range map[string]string{
		make1(`{"alg":"dir","enc":"A256CBC-HS512","zip":"DEF"}`):              "zip or crit",
		make1(`{"alg":"dir","enc":"A256CBC-HS512","crit":["a"]}`):             "zip or crit",
		make1(`{"alg":"dir","enc":"A256CBC-HS512","kid":"` + "\u00e4" + `"}`): "not in ASCII",
		make1(`{"alg":"RSA-OAEP-256","enc":"A256CBC-HS512"}`):                 "with alg",
		make1(`["dir"]`):                         "not a JSON object",
		strings.Replace(good, "..", ".AA.", 1):   "with alg",
		good + "\n":                              "not a JWE",
		good + strings.Repeat("A", 4096):         "longer than",
		strings.Replace(good, "..", "..AAAA", 1): "not a JWE",
		"....":                                   "JSON object",
	} {
		if _, err := openDirect(text, len(good)+100, cek); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
	// The same bytes with the border between content and tag elsewhere, and the same tag with unused bits set, are other texts.
	parts := strings.Split(good, ".")
	content, _ := decodeBase64URL(parts[3])
	tag, _ := decodeBase64URL(parts[4])
	moved := append(slices.Clip(parts[:3]), "", encodeBase64URL(append(content, tag...)))
	long := mustSealText(t, cek, strings.Repeat("long ", 10))
	longParts := strings.Split(long, ".")
	content, _ = decodeBase64URL(longParts[3])
	tag, _ = decodeBase64URL(longParts[4])
	border := append(slices.Clip(longParts[:3]), encodeBase64URL(content[:16]), encodeBase64URL(append(content[16:], tag...)))
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, good[len(good)-1])
	for _, text := range []string{strings.Join(moved, "."), strings.Join(border, "."), good[:len(good)-1] + alphabet[last|1:last|1+1]} {
		if _, err := openDirect(text, 1000, cek); err == nil {
			t.Errorf("%s opens as %s does", text, good)
		}
	}
	if _, err := openDirect(good, 1000, cek[1:]); !errors.Is(err, errSealed) {
		t.Errorf("a short key: %v", err)
	}
}

func mustSeal(t *testing.T, cek []byte) string {
	t.Helper()
	return mustSealText(t, cek, "text")
}

func mustSealText(t *testing.T, cek []byte, plaintext string) string {
	t.Helper()
	text, err := sealDirect("kid", cek, []byte(plaintext))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestParsePrivateKey(t *testing.T) {
	t.Parallel()
	all := allOwners(t)
	file := func(id string) []byte { return read(t, vectors+all[id].KeyFile) }
	both := append(read(t, vectors+"certs/wk-01.cer"), file("wk-01")...)
	if key, err := ParsePrivateKey(both, "superfluous"); err != nil || !key.Equal(all["wk-01"].key) {
		t.Errorf("behind a certificate: %v", err)
	}
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	asPEM := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	for what, tt := range map[string]struct {
		file     []byte
		password string
		want     error
	}{
		"PKCS#8, no password":    {file("wk-03"), "", ErrPasswordMissing},
		"PKCS#8, wrong password": {file("wk-03"), "x", ErrPassword},
		"scrypt, wrong password": {file("wk-09"), "x", ErrPassword},
		"3DES, wrong password":   {file("wk-10"), "x", ErrPassword},
		"PKCS#1, no password":    {file("wk-07"), "", ErrPasswordMissing},
		"PKCS#1, wrong password": {file("wk-07"), "x", ErrPassword},
		"EC in SEC 1":            {asPEM("EC PRIVATE KEY", sec1), "", ErrNotRSA},
		"EC in PKCS#8":           {asPEM("PRIVATE KEY", pkcs8), "", ErrNotRSA},
		"a short key":            {asPEM("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(shortKey(t))), "", ErrShortRSA},
		"a certificate":          {read(t, vectors+"certs/wk-01.cer"), "", ErrPrivateKey},
		"nothing":                {nil, "", ErrPrivateKey},
		"too long":               {make([]byte, maxKeyFile+1), "", ErrPrivateKey},
		"not PKCS#8":             {asPEM("PRIVATE KEY", []byte("x")), "", ErrPrivateKey},
		"not PKCS#1":             {asPEM("RSA PRIVATE KEY", []byte("x")), "", ErrPrivateKey},
		"not encrypted PKCS#8":   {asPEM("ENCRYPTED PRIVATE KEY", []byte("x")), "x", ErrPrivateKey},
	} {
		_, err := ParsePrivateKey(tt.file, tt.password)
		wantErr(t, what, err, tt.want)
	}
}
