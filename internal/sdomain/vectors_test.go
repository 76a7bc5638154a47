package sdomain

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const vectors = "testdata/vectors/"

// load reads vectors in JSON.
func load(t testing.TB, path string, v any) {
	t.Helper()
	if err := json.Unmarshal(read(t, vectors+path), v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.FromSlash(path))
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// hexBytes are in hex in the vectors.
type hexBytes []byte

func (h *hexBytes) UnmarshalText(text []byte) (err error) {
	*h, err = hex.DecodeString(string(text))
	return err
}

func TestKDF(t *testing.T) {
	t.Parallel()
	var file struct {
		Vectors []struct {
			Key     hexBytes `json:"key_hex"`
			Label   string
			Context string
			Bits    int
			Out     hexBytes `json:"out_hex"`
		}
		Long struct {
			Key     hexBytes `json:"key_hex"`
			Label   string
			Context string
			Bits    int
			Out     hexBytes `json:"standard_out_hex"`
		} `json:"over_512_bits"`
	}
	load(t, "kdf.json", &file)
	if len(file.Vectors) != 32 {
		t.Errorf("%d vectors", len(file.Vectors))
	}
	if long := file.Long; !bytes.Equal(counterKDF(long.Key, long.Label, long.Context, long.Bits), long.Out) {
		t.Errorf("%d bits: another key", long.Bits)
	}
	for _, v := range file.Vectors {
		if got := counterKDF(v.Key, v.Label, v.Context, v.Bits); !bytes.Equal(got, v.Out) {
			t.Errorf("label %q, %d bits: %x, want %x", v.Label, v.Bits, got, v.Out)
		}
	}
}

func TestField(t *testing.T) {
	t.Parallel()
	var file struct {
		Inverses map[string]uint32 `json:"inverse_of"`
		Products string            `json:"products_sha256_hex"`
	}
	load(t, "gf257.json", &file)
	if len(file.Inverses) != 256 {
		t.Errorf("%d inverses", len(file.Inverses))
	}
	for text, want := range file.Inverses {
		a, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := inverse(uint32(a)); got != want {
			t.Errorf("1/%d = %d, want %d", a, got, want)
		}
	}
	var products []byte
	for a := range uint32(prime) {
		for b := range uint32(prime) {
			products = binary.LittleEndian.AppendUint16(products, uint16(a*b%prime))
		}
	}
	if sum := sha256.Sum256(products); hex.EncodeToString(sum[:]) != file.Products {
		t.Error("the products differ")
	}
}

func TestShamirVectors(t *testing.T) {
	t.Parallel()
	var file struct {
		Sets []struct {
			Name         string
			Required     int
			Total        int
			Secret       hexBytes   `json:"secret_hex"`
			Coefficients [][]uint32 `json:"coefficients_high_degree_first_per_byte"`
			Shares       []struct {
				X     uint32
				Bytes hexBytes `json:"bytes_hex"`
			}
			Subsets [][]int `json:"subsets_that_give_the_secret_by_x_in_order"`
		}
		Negative []struct {
			Name     string
			Required int
			Words    [][]uint16
		}
	}
	load(t, "shamir.json", &file)
	if len(file.Sets) != 15 || len(file.Negative) != 7 {
		t.Errorf("%d sets, %d negative", len(file.Sets), len(file.Negative))
	}
	subsets := 0
	for _, set := range file.Sets {
		raw := make(map[int][]byte)
		for _, s := range set.Shares {
			raw[int(s.X)] = s.Bytes
			for k, b := range set.Secret {
				word := uint32(binary.LittleEndian.Uint16(s.Bytes[2*k:]))
				coefficients := append([]uint32{uint32(b)}, reversed(set.Coefficients[k])...)
				if got := s.X<<valueBits | evaluate(coefficients, s.X); got != word {
					t.Errorf("%s: place %d, byte %d: %d, want %d", set.Name, s.X, k, got, word)
				}
			}
		}
		for _, places := range set.Subsets {
			subsets++
			var given [][]byte
			for _, x := range places {
				given = append(given, raw[x])
			}
			if got, err := reconstruct(given, set.Required, len(set.Secret)); err != nil || !bytes.Equal(got, set.Secret) {
				t.Errorf("%s, %v: %x, %v", set.Name, places, got, err)
			}
		}
	}
	if subsets != 99 {
		t.Errorf("%d subsets", subsets)
	}
	for _, n := range file.Negative {
		var given [][]byte
		for _, words := range n.Words {
			var b []byte
			for _, w := range words {
				b = binary.LittleEndian.AppendUint16(b, w)
			}
			given = append(given, b)
		}
		if got, err := reconstruct(given, n.Required, len(n.Words[0])); err == nil {
			t.Errorf("%s: %x", n.Name, got)
		}
	}
}

func reversed(in []uint32) []uint32 {
	var out []uint32
	for i := len(in) - 1; i >= 0; i-- {
		out = append(out, in[i])
	}
	return out
}

// reconstruct gives a secret of n bytes back from the first required shares.
func reconstruct(raw [][]byte, required, n int) ([]byte, error) {
	if len(raw) < required {
		return nil, ErrTooFewKeys
	}
	var shares []share
	for _, r := range raw[:required] {
		s, err := parseShare(r, n)
		if err != nil {
			return nil, err
		}
		shares = append(shares, s)
	}
	return combine(shares)
}

// owner is a certificate of the vectors with its key.
type owner struct {
	ID          string
	File        string   `json:"certificate_file"`
	KeyFile     string   `json:"private_key_file"`
	Password    string   `json:"password"`
	Bits        int      `json:"rsa_bits"`
	JWK         JWK      `json:"expected_jwk"`
	Subject     string   `json:"subject_rfc4514"`
	SHA256      hexBytes `json:"sha256_hex"`
	key         *rsa.PrivateKey
	certificate Certificate
}

// owners are all of the vectors, by their ids. Reading their keys takes a while.
var owners = sync.OnceValues(func() (map[string]*owner, error) {
	raw, err := os.ReadFile(vectors + "certs/index.json")
	if err != nil {
		return nil, err
	}
	var file struct {
		Certificates []*owner
		Exchange     []*owner `json:"exchange_certificates"`
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, err
	}
	all := make(map[string]*owner)
	for _, o := range append(file.Certificates, file.Exchange...) {
		key, err := os.ReadFile(vectors + o.KeyFile)
		if err != nil {
			return nil, err
		}
		if o.key, err = ParsePrivateKey(key, o.Password); err != nil {
			return nil, err
		}
		certificate, err := os.ReadFile(vectors + o.File)
		if err != nil {
			return nil, err
		}
		if o.certificate, err = ParseCertificate(certificate); err != nil {
			return nil, err
		}
		all[o.ID] = o
	}
	return all, nil
})

func allOwners(t testing.TB) map[string]*owner {
	t.Helper()
	all, err := owners()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// holders have the keys with these ids, with or without their certificates.
func holders(t testing.TB, ids []string, certificates bool) []Holder {
	t.Helper()
	var out []Holder
	for _, id := range ids {
		o := allOwners(t)[id]
		h := Holder{Key: o.key}
		if certificates {
			h.Certificate = o.certificate.X509()
		}
		out = append(out, h)
	}
	return out
}

// TestCertificates: each certificate becomes the JWK that other tools send, and the JWK becomes the certificate.
func TestCertificates(t *testing.T) {
	t.Parallel()
	for id, o := range allOwners(t) {
		if !o.certificate.public.Equal(o.key.Public()) {
			t.Errorf("%s: the key is another", id)
		}
		if strings.HasPrefix(id, "exchange") {
			continue
		}
		if o.key.N.BitLen() != o.Bits {
			t.Errorf("%s: %d bits", id, o.key.N.BitLen())
		}
		if diff := cmp.Diff(o.JWK, o.certificate.JWK()); diff != "" {
			t.Errorf("%s: JWK (-want +got):\n%s", id, diff)
		}
		back, err := CertificateFromJWK(o.JWK)
		if err != nil || back.Thumbprint() != o.certificate.Thumbprint() {
			t.Errorf("%s: %v", id, err)
		}
	}
	der, err := ParseCertificate(read(t, vectors+"certs/wk-01.der"))
	if err != nil || der.Thumbprint() != allOwners(t)["wk-01"].certificate.Thumbprint() {
		t.Errorf("DER: %v", err)
	}
}

func TestJWEVectors(t *testing.T) {
	t.Parallel()
	var file struct {
		Direct []struct {
			KID       string
			CEK       hexBytes `json:"cek_hex"`
			IV        hexBytes `json:"iv_hex"`
			Plaintext hexBytes `json:"plaintext_hex"`
			Compact   string
		}
		RSA []struct {
			Alg, Key  string
			Plaintext hexBytes `json:"plaintext_hex"`
			Compact   string
		}
		Edge struct {
			CEK       hexBytes `json:"cek_hex"`
			Plaintext hexBytes `json:"plaintext_hex"`
			Cases     []struct {
				Name    string
				Compact string
				Should  string `json:"go_should"`
			}
		} `json:"edge_cases"`
	}
	load(t, "jwe.json", &file)
	if len(file.Direct) != 10 || len(file.RSA) != 16 || len(file.Edge.Cases) != 20 {
		t.Errorf("%d, %d, %d cases", len(file.Direct), len(file.RSA), len(file.Edge.Cases))
	}
	for i, d := range file.Direct {
		text, err := sealJWE(header{Alg: algDirect, Enc: encContent, KID: d.KID}, nil, d.CEK, d.IV, d.Plaintext)
		if err != nil || text != d.Compact {
			t.Errorf("direct %d: %s, %v", i, text, err)
		}
		if got, err := openDirect(d.Compact, maxDatumJWE, d.CEK); err != nil || !bytes.Equal(got, d.Plaintext) {
			t.Errorf("direct %d: %x, %v", i, got, err)
		}
	}
	for _, r := range file.RSA {
		got, err := openRSA(r.Compact, allOwners(t)[r.Key].key)
		if r.Alg == "RSA1_5" {
			if err == nil {
				t.Errorf("%s, %s: was taken", r.Alg, r.Key)
			}
		} else if err != nil || !bytes.Equal(got, r.Plaintext) {
			t.Errorf("%s, %s: %x, %v", r.Alg, r.Key, got, err)
		}
	}
	for _, c := range file.Edge.Cases {
		got, err := openDirect(c.Compact, maxDatumJWE, file.Edge.CEK)
		switch opened := err == nil && bytes.Equal(got, file.Edge.Plaintext); {
		case c.Should == "accept" && !opened, c.Should == "refuse" && err == nil:
			t.Errorf("%s: %x, %v, should %s", c.Name, got, err, c.Should)
		}
	}
}

// expected is what is in a file of the vectors.
type expected struct {
	Required     int
	Certificates []string `json:"certificates_in_order"`
	Master       hexBytes `json:"master_key_hex"`
	Shares       []struct {
		Certificate string
		Plaintext   hexBytes `json:"plaintext_hex"`
	}
	Data []struct {
		Tag       string
		Plaintext hexBytes `json:"plaintext_hex"`
	}
	Exchange string `json:"exchange_key"`
	Blobs    []struct {
		File   string
		Keys   []string `json:"made_with_keys"`
		Master hexBytes `json:"wrapped_master_key_hex"`
	} `json:"restore_blobs"`
}

func (e *expected) check(t *testing.T, what string, data []Datum, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
		return
	}
	if len(data) != len(e.Data) {
		t.Errorf("%s: %d data, want %d", what, len(data), len(e.Data))
		return
	}
	for i, d := range data {
		if d.Tag != e.Data[i].Tag || !bytes.Equal(d.Value, e.Data[i].Plaintext) {
			t.Errorf("%s: datum %d is %q with %d bytes", what, i, d.Tag, len(d.Value))
		}
	}
}

func (e *expected) transferKey(t *testing.T) *TransferKey {
	t.Helper()
	o := allOwners(t)[e.Exchange]
	return &TransferKey{o.key, o.certificate}
}

// TestFiles opens every whole file with every quorum of its owners, and every restore blob that was made of it.
func TestFiles(t *testing.T) {
	t.Parallel()
	var names []string
	load(t, "files/manifest.json", &names)
	if len(names) != 5 {
		t.Errorf("%d files", len(names))
	}
	for _, name := range names {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			folder := "files/" + name + "/"
			var want expected
			load(t, folder+"expected.json", &want)
			f, err := Parse(read(t, vectors+folder+"security-domain.json"))
			if err != nil {
				t.Fatal(err)
			}
			if f.Version() != 2 || f.Required() != want.Required || len(f.Thumbprints()) != len(want.Certificates) || len(f.Tags()) != len(want.Data) {
				t.Errorf("version %d, %d of %v, tags %v", f.Version(), f.Required(), f.Thumbprints(), f.Tags())
			}
			for _, certificates := range []bool{true, false} {
				data, err := f.Open(holders(t, want.Certificates, certificates))
				want.check(t, "with all keys", data, err)
				for _, ids := range quorums(want.Certificates, want.Required) {
					data, err := f.Open(holders(t, ids, certificates))
					want.check(t, strings.Join(ids, ", "), data, err)
				}
			}
			checkShares(t, f, &want)
			for _, blob := range want.Blobs {
				data, err := OpenRestoreBlob(read(t, vectors+folder+blob.File), want.transferKey(t))
				want.check(t, blob.File, data, err)
			}
			checkWire(t, folder, &want)
		})
	}
}

func checkShares(t *testing.T, f *File, want *expected) {
	t.Helper()
	for i, s := range want.Shares {
		part, err := openRSA(f.shares[i].JWE, allOwners(t)[s.Certificate].key)
		if err != nil || !bytes.Equal(part, s.Plaintext) {
			t.Errorf("share %d: %v", i, err)
		}
	}
}

// checkWire reads what goes over the wire around the file.
func checkWire(t *testing.T, folder string, want *expected) {
	t.Helper()
	var request struct {
		Certificates []JWK
		Required     int
	}
	load(t, folder+"download-request.json", &request)
	var certs []Certificate
	for _, k := range request.Certificates {
		c, err := CertificateFromJWK(k)
		if err != nil {
			t.Error(err)
		}
		certs = append(certs, c)
	}
	if err := CheckQuorum(certs, request.Required); err != nil || request.Required != want.Required {
		t.Errorf("request: %v", err)
	}
	var transfer struct {
		Format string `json:"key_format"`
		Key    string `json:"transfer_key"`
	}
	load(t, folder+"transfer-key-response.json", &transfer)
	tk := want.transferKey(t)
	if c, err := ParseTransferKey(transfer.Format, transfer.Key); err != nil || c.Thumbprint() != tk.certificate.Thumbprint() {
		t.Errorf("transfer key: %v", err)
	}
	if own, err := tk.JWK(); err != nil || own != transfer.Key {
		t.Errorf("transfer key: %s, want %s (%v)", own, transfer.Key, err)
	}
	// Other tools write the certificate in lines of 65 characters.
	pemFile := read(t, vectors+folder+"exchange-key.pem.txt")
	if c, err := ParseCertificate(pemFile); err != nil || c.Thumbprint() != tk.certificate.Thumbprint() || len(strings.Split(string(pemFile), "\n")[1]) != 65 {
		t.Errorf("transfer key in PEM: %v", err)
	}
	var upload struct{ Value string }
	load(t, folder+"upload-request.json", &upload)
	for _, blob := range []string{upload.Value, base64.URLEncoding.EncodeToString([]byte(upload.Value)), encodeBase64URL([]byte(upload.Value))} {
		data, err := OpenRestoreBlob([]byte(blob), tk)
		want.check(t, "upload", data, err)
	}
}

// quorums are all choices of n ids.
func quorums(ids []string, n int) [][]string {
	if n == 0 {
		return [][]string{nil}
	}
	var all [][]string
	for i := range ids {
		for _, rest := range quorums(ids[i+1:], n-1) {
			all = append(all, append([]string{ids[i]}, rest...))
		}
	}
	return all
}

// TestVersion1 opens a file of the first version with each pair of keys.
func TestVersion1(t *testing.T) {
	t.Parallel()
	var want expected
	load(t, "files/v1-xor-split/expected.json", &want)
	f, err := Parse(read(t, vectors+"files/v1-xor-split/security-domain.json"))
	if err != nil {
		t.Fatal(err)
	}
	if f.Version() != 1 || f.Required() != 2 {
		t.Errorf("version %d, required %d", f.Version(), f.Required())
	}
	ids := []string{"wk-01", "wk-02", "wk-04"}
	for _, pair := range append(quorums(ids, 2), ids) {
		for _, certificates := range []bool{true, false} {
			data, err := f.Open(holders(t, pair, certificates))
			want.check(t, strings.Join(pair, ", "), data, err)
		}
	}
	if _, err := f.Open(holders(t, ids[:1], true)); err == nil {
		t.Error("one key opens it")
	}
}

// TestVariants opens a file that was changed in many ways.
func TestVariants(t *testing.T) {
	t.Parallel()
	var file struct {
		Variants []struct {
			Name, File string
			Keys       []string
			Passwords  []string
			Should     string `json:"go_should"`
		}
	}
	load(t, "files/variants.json", &file)
	if len(file.Variants) != 27 {
		t.Errorf("%d variants", len(file.Variants))
	}
	var want expected
	load(t, "files/2of3-plain-keys/expected.json", &want)
	accept := map[string]bool{ // of what may be accepted or refused
		"no-kdf": true, "share-1-tampered": false, "share-duplicated-in-file": false, "password-for-plain-key": true,
	}
	for _, v := range file.Variants {
		accepted, either := accept[v.Name]
		if !either {
			accepted = strings.HasPrefix(v.Should, "accept")
		}
		data, err := openVariant(t, v.File, v.Keys, v.Passwords)
		switch {
		case !accepted && err == nil:
			t.Errorf("%s: is accepted", v.Name)
		case v.Name == "datum-tampered" && !strings.Contains(err.Error(), `its datum "hsm_backup" was altered`):
			t.Errorf("%s: %v", v.Name, err)
		case !accepted:
			t.Logf("%s: %v", v.Name, err)
		case v.Name == "data-reversed":
			if err != nil || data[0].Tag != want.Data[2].Tag || data[2].Tag != want.Data[0].Tag {
				t.Errorf("%s: %v", v.Name, err)
			}
		default:
			want.check(t, v.Name, data, err)
		}
	}
}

func openVariant(t *testing.T, path string, ids, passwords []string) ([]Datum, error) {
	t.Helper()
	f, err := Parse(read(t, vectors+path))
	if err != nil {
		return nil, err
	}
	var hs []Holder
	for i, id := range ids {
		var password string
		if i < len(passwords) {
			password = passwords[i]
		}
		key, err := ParsePrivateKey(read(t, vectors+allOwners(t)[id].KeyFile), password)
		if err != nil {
			return nil, err
		}
		hs = append(hs, Holder{Key: key, Certificate: allOwners(t)[id].certificate.X509()})
	}
	return f.Open(hs)
}

// TestRecorded opens the domains of Azure's own HSMs, and the backups of single keys made in them.
func TestRecorded(t *testing.T) {
	t.Parallel()
	const root = "../../../shared/vectors/security-domain/recorded/"
	if _, err := os.Stat(root); os.IsNotExist(err) {
		t.Log("left out: the recordings are not on this machine")
		return
	}
	var hs []Holder
	for _, id := range []string{"sd1", "sd2", "sd3"} {
		key, err := ParsePrivateKey(read(t, root+"keys/"+id+".pem"), "")
		if err != nil {
			t.Fatal(err)
		}
		c, err := ParseCertificate(read(t, root+"keys/"+id+".cer"))
		if err != nil {
			t.Fatal(err)
		}
		hs = append(hs, Holder{key, c.X509()})
	}
	for _, name := range []string{"2020-09-preview", "2023-11"} {
		var want struct {
			Required int
			Master   string `json:"master_key_sha256_hex"`
			Data     []struct {
				Tag    string
				SHA256 string `json:"plaintext_sha256_hex"`
			}
			Backup struct {
				SHA256 string `json:"plaintext_sha256_hex"`
			} `json:"key_backup"`
		}
		if err := json.Unmarshal(read(t, root+name+"/expected.json"), &want); err != nil {
			t.Fatal(err)
		}
		f, err := Parse(read(t, root+name+"/security-domain.json"))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for _, some := range [][]Holder{hs[:2], hs[1:], {hs[0], hs[2]}, hs} {
			data, err := f.Open(some)
			if err != nil || f.Required() != want.Required || len(data) != len(want.Data) {
				t.Errorf("%s: %v", name, err)
				continue
			}
			for i, d := range data {
				if sum := sha256.Sum256(d.Value); d.Tag != want.Data[i].Tag || hex.EncodeToString(sum[:]) != want.Data[i].SHA256 {
					t.Errorf("%s: datum %d is another", name, i)
				}
			}
			if _, err := ParseDomainKeys(data); err == nil {
				t.Errorf("%s: is taken for a domain of ours", name)
			}
			backup, err := openKeyBackup(t, root+name+"/key-backup-response.json", data[2].Value)
			if sum := sha256.Sum256(backup); err != nil || hex.EncodeToString(sum[:]) != want.Backup.SHA256 {
				t.Errorf("%s: backup of a key: %v", name, err)
			}
		}
	}
}

// openKeyBackup opens Azure's backup of a key with the key in a BSON document.
func openKeyBackup(t *testing.T, path string, document []byte) ([]byte, error) {
	t.Helper()
	var response struct{ Value string }
	if err := json.Unmarshal(read(t, path), &response); err != nil {
		return nil, err
	}
	text, err := decodeBase64URL(response.Value)
	if err != nil {
		return nil, err
	}
	_, k, ok := bytes.Cut(document, []byte("\x02k\x00\x57\x00\x00\x00")) // a string of 86 characters
	if !ok {
		return nil, errors.New("the document has no k")
	}
	cek, err := decodeBase64URL(string(k[:86]))
	if err != nil {
		return nil, err
	}
	return openDirect(string(text), MaxKeyBackup, cek)
}

func TestRejectedCertificates(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]error{"certs/rejected-rsa1024.cer": ErrShortRSA, "certs/rejected-ec256.cer": ErrNotRSA} {
		_, err := ParseCertificate(read(t, vectors+path))
		wantErr(t, path, err, want)
		block, _ := pem.Decode(read(t, vectors+path))
		_, err = CertificateFromJWK(JWK{X5C: []string{base64.StdEncoding.EncodeToString(block.Bytes)}})
		wantErr(t, path, err, want)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want: %v", what, err, want)
	}
}
