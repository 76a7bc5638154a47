package keyvault

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"testing"

	"github.com/decred/dcrd/dcrec/secp256k1/v4"

	"github.com/strongroom/strongroom/internal/keywrap"
	"github.com/strongroom/strongroom/internal/record"
)

// publicRSA is the key that a vault shows.
func publicRSA(k Key) *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBytes(k.Public.N), E: int(new(big.Int).SetBytes(k.Public.E).Int64())}
}

// transferFile wraps a key for a key-exchange key, as its owner does who has nothing but the public key.
func transferFile(t testing.TB, kek Key, target []byte) []byte {
	t.Helper()
	ciphertext, err := keywrap.WrapRSAAES(publicRSA(kek), crypto.SHA1, target)
	if err != nil {
		t.Fatal(err)
	}
	return transferOf(t, kek.Name+"/"+kek.Version, ciphertext)
}

func transferOf(t testing.TB, id string, ciphertext []byte) []byte {
	t.Helper()
	file, err := keywrap.TransferBlob{
		KeyID: "https://vault.example/keys/" + id, Generator: "a test", Ciphertext: ciphertext,
	}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func pkcs8(t testing.TB, key any) []byte {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// pkcs8K is pkcs8 for secp256k1, which crypto/x509 does not know (RFC 5958, RFC 5915, SEC 2).
func pkcs8K(t testing.TB, key *secp256k1.PrivateKey) []byte {
	t.Helper()
	marshal := func(v any) []byte {
		der, err := asn1.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	return marshal(struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}{
		0, pkix.AlgorithmIdentifier{
			Algorithm:  asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1},
			Parameters: asn1.RawValue{FullBytes: marshal(asn1.ObjectIdentifier{1, 3, 132, 0, 10})},
		},
		marshal(struct {
			Version int
			Private []byte
		}{1, key.Serialize()}),
	})
}

// importer has a key-exchange key and imports transfer files.
func importer(t testing.TB, b *bench) (Key, func(typ string, file []byte) (Key, error)) {
	t.Helper()
	kek := b.take(t, "premium", "kek", ImportKeyParams{Type: "RSA-HSM", Private: rsaMembers(rsaKey()), Operations: []string{"import"}})
	return kek, func(typ string, file []byte) (Key, error) {
		return b.ImportKey(t.Context(), admin, "premium", "k", ImportKeyParams{Type: typ, Transfer: file, ParseKeyID: parseTestID})
	}
}

// TestTransfer wraps a key of each type for a key-exchange key that the vault has made, and uses what was imported.
func TestTransfer(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	kek := b.create(t, "premium", "kek", CreateKeyParams{Type: "RSA-HSM", Operations: []string{"import"}})
	digest := sha256.Sum256([]byte("m"))
	long := bytes.Repeat(digest[:], 2)

	curveK, err := secp256k1.GeneratePrivateKey()
	if err != nil {
		t.Fatal(err)
	}
	oct := make([]byte, 32)
	rand.Read(oct)
	ec := func(c elliptic.Curve) *ecdsa.PrivateKey { return makeEC(t, c) }
	p256, p384, p521 := ec(elliptic.P256()), ec(elliptic.P384()), ec(elliptic.P521())
	point := func(k *ecdsa.PrivateKey) PublicKey { m := ecMembers(t, k); return PublicKey{X: m.X, Y: m.Y} }
	pointK := curveK.PubKey().SerializeUncompressed()
	for _, c := range []struct {
		typ, alg, curve string
		bits            int
		target          []byte
		digest          []byte
		public          PublicKey
	}{
		{"RSA-HSM", "RS256", "", 2048, pkcs8(t, otherRSA()), digest[:], PublicKey{N: otherRSA().N.Bytes(), E: []byte{1, 0, 1}}},
		{"EC-HSM", "ES256", "P-256", 0, pkcs8(t, p256), digest[:], point(p256)},
		{"EC-HSM", "ES384", "P-384", 0, pkcs8(t, p384), long[:48], point(p384)},
		{"EC-HSM", "ES512", "P-521", 0, pkcs8(t, p521), long, point(p521)},
		{"EC-HSM", "ES256K", "P-256K", 0, pkcs8K(t, curveK), digest[:], PublicKey{X: pointK[1:33], Y: pointK[33:]}},
	} {
		k, err := b.ImportKey(ctx, admin, "premium", "k", ImportKeyParams{
			Type: c.typ, Curve: c.curve, Transfer: transferFile(t, kek, c.target), ParseKeyID: parseTestID,
		})
		if err != nil {
			t.Errorf("%s %s: %v", c.typ, c.curve, err)
			continue
		}
		if k.Type != c.typ || k.Curve != c.curve || k.Bits != c.bits || !bytes.Equal(k.Public.X, c.public.X) ||
			!bytes.Equal(k.Public.Y, c.public.Y) || !bytes.Equal(k.Public.N, c.public.N) || !bytes.Equal(k.Public.E, c.public.E) {
			t.Errorf("%s %s: %+v, want the public key %x", c.typ, c.curve, k, c.public)
		}
		signature, used, err := b.Sign(ctx, admin, "premium", "k", k.Version, c.alg, c.digest)
		if err != nil {
			t.Errorf("%s: %v", c.alg, err)
			continue
		}
		if ok, _, err := b.Verify(ctx, admin, "premium", "k", used.Version, c.alg, c.digest, signature); !ok || err != nil {
			t.Errorf("%s: %v, %v", c.alg, ok, err)
		}
	}
	if _, err := b.ImportKey(ctx, admin, "premium", "o", ImportKeyParams{
		Type: "oct-HSM", Transfer: transferFile(t, kek, oct), ParseKeyID: parseTestID,
	}); err != nil {
		t.Fatal(err)
	}
	sealed, _, err := b.Encrypt(ctx, admin, "premium", "o", "", "A256GCM", Message{Value: long, AAD: oct[:3]})
	if err != nil {
		t.Fatal(err)
	}
	if opened := openGCM(t, oct, sealed); !bytes.Equal(opened, long) {
		t.Errorf("the imported key is another: %x", opened)
	}
}

// TestTransferRefused has key-exchange keys that may not be used, or are none.
func TestTransferRefused(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	target := pkcs8(t, makeEC(t, elliptic.P256()))
	public := rsaMembers(rsaKey())
	exchange := func(vault, name string, operations ...string) Key {
		return b.take(t, vault, name, ImportKeyParams{Type: "RSA-HSM", Private: public, Operations: operations})
	}
	old := exchange("premium", "kek", "import")
	kek := b.take(t, "premium", "kek", ImportKeyParams{Type: "RSA-HSM", Private: rsaMembers(otherRSA()), Operations: []string{"import"}})
	unwraps := exchange("premium", "unwraps", "unwrapKey", "decrypt")
	elsewhere := exchange("pool", "elsewhere", "import")
	deleted := exchange("premium", "deleted", "import")
	if _, err := b.DeleteKey(ctx, admin, "premium", "deleted"); err != nil {
		t.Fatal(err)
	}
	off := exchange("premium", "off", "import")
	if _, err := b.UpdateKey(ctx, admin, "premium", "off", "", UpdateKeyParams{Attributes: Attributes{Enabled: new(bool)}}); err != nil {
		t.Fatal(err)
	}
	soft := b.take(t, "premium", "soft", ImportKeyParams{Type: "RSA", Private: public})
	curve := b.create(t, "premium", "curve", CreateKeyParams{Type: "EC-HSM"})
	wrapped, err := keywrap.WrapRSAAES(publicRSA(old), crypto.SHA1, target)
	if err != nil {
		t.Fatal(err)
	}
	newest, err := keywrap.WrapRSAAES(publicRSA(kek), crypto.SHA256, target)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		file []byte
		want Kind
	}{
		"unwraps by hand":  {transferFile(t, unwraps, target), BadParameter},
		"software":         {transferFile(t, soft, target), BadParameter},
		"no RSA":           {transferOf(t, "curve/"+curve.Version, wrapped), BadParameter},
		"disabled":         {transferFile(t, off, target), Disabled},
		"deleted":          {transferFile(t, deleted, target), NotFound},
		"other vault":      {transferFile(t, elsewhere, target), NotFound},
		"unknown key":      {transferOf(t, "nobody/"+record.NewID(), wrapped), NotFound},
		"unknown version":  {transferOf(t, "kek/"+record.NewID(), wrapped), NotFound},
		"no version":       {transferOf(t, "kek", wrapped), BadParameter}, // the current one, which is another
		"another version":  {transferOf(t, "kek/"+kek.Version, wrapped), BadParameter},
		"hostile version":  {transferOf(t, "kek/../../"+old.Version, wrapped), NotFound},
		"other address":    {bytes.Replace(transferFile(t, old, target), []byte("vault.example"), []byte("thief.example"), 1), BadParameter},
		"SHA-256":          {transferOf(t, "kek/"+kek.Version, newest), BadParameter},
		"longer than ever": {append(transferFile(t, old, target), bytes.Repeat([]byte(" "), MaxTransferBlob)...), BadParameter},
		"long ciphertext":  {transferOf(t, "kek/"+old.Version, append(wrapped, make([]byte, 8<<10)...)), BadParameter},
	} {
		t.Run(name, func(t *testing.T) {
			b.refused(t, c.want, func() error {
				_, err := b.ImportKey(ctx, admin, "premium", "k", ImportKeyParams{Type: "EC-HSM", Transfer: c.file, ParseKeyID: parseTestID})
				return err
			})
		})
	}
	// What is refused is what is wrong with each, and nothing else.
	for _, file := range [][]byte{transferFile(t, old, target), transferFile(t, kek, target)} {
		if _, err := b.ImportKey(ctx, admin, "premium", "k", ImportKeyParams{Type: "EC-HSM", Transfer: file, ParseKeyID: parseTestID}); err != nil {
			t.Error(err)
		}
	}
	// A key-exchange key is for nothing else.
	b.take(t, "premium", "k", ImportKeyParams{Type: "RSA-HSM", Private: public, Operations: []string{"import"}})
	acts := keyActs(ctx, b.Service, admin, "premium", nil)
	for _, name := range []string{"sign", "verify", "encrypt", "decrypt", "wrap", "unwrap"} {
		wantKind(t, acts[name](), OperationForbidden)
	}
}

// TestTransferType wraps one type of key and asks for another.
func TestTransferType(t *testing.T) {
	t.Parallel()
	b := newKeyBench(t)
	kek, take := importer(t, b)
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	targets := map[string][]byte{
		"RSA-HSM": pkcs8(t, otherRSA()), "EC-HSM": pkcs8(t, makeEC(t, elliptic.P384())), "oct-HSM": make([]byte, 32),
		"P-224": pkcs8(t, makeEC(t, elliptic.P224())), "RSA of 1024 bits": pkcs8(t, weak),
		"SEC 1": sec1(t, makeEC(t, elliptic.P256())), "trailing": append(pkcs8(t, makeEC(t, elliptic.P256())), 0),
	}
	for is, target := range targets {
		file := transferFile(t, kek, target)
		for _, asked := range []string{"RSA-HSM", "EC-HSM"} {
			if is == asked {
				continue
			}
			b.refused(t, BadParameter, func() error { _, err := take(asked, file); return err })
		}
		if is != "oct-HSM" { // longer than any oct key
			b.refused(t, BadParameter, func() error { _, err := take("oct-HSM", file); return err })
		}
		b.refused(t, BadParameter, func() error { _, err := take("EC", file); return err })
	}
	b.refused(t, BadParameter, func() error {
		_, err := b.ImportKey(t.Context(), admin, "premium", "k", ImportKeyParams{
			Type: "EC-HSM", Curve: "P-256", Transfer: transferFile(t, kek, targets["EC-HSM"]), ParseKeyID: parseTestID,
		})
		return err
	})
}

func sec1(t testing.TB, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// TestTransferGarbled cuts a file at every byte, and changes bytes of every part of what it wraps.
func TestTransferGarbled(t *testing.T) {
	t.Parallel()
	b := newKeyBench(t)
	kek, take := importer(t, b)
	target := pkcs8(t, makeEC(t, elliptic.P256()))
	file := bytes.TrimSpace(transferFile(t, kek, target))
	for n := range file {
		_, err := take("EC-HSM", file[:n])
		wantKind(t, err, BadParameter)
	}
	ciphertext, err := keywrap.WrapRSAAES(publicRSA(kek), crypto.SHA1, target)
	if err != nil {
		t.Fatal(err)
	}
	const modulus = 256
	bad := map[string][]byte{"empty second part": ciphertext[:modulus], "first part twice": append(ciphertext[:modulus:modulus], ciphertext[:modulus]...)}
	for i := 0; i < len(ciphertext); i += 7 {
		garbled := bytes.Clone(ciphertext)
		garbled[i] ^= 1 << (i % 8)
		bad[fmt.Sprint("changed at ", i)] = garbled
	}
	for _, n := range []int{1, modulus - 1, modulus + 1, modulus + 8, modulus + 16, len(ciphertext) - 8, len(ciphertext) - 1} {
		bad[fmt.Sprint("cut at ", n)] = ciphertext[:n]
	}
	for _, n := range []int{1, 8, 16, modulus} {
		bad[fmt.Sprint("longer by ", n)] = append(bytes.Clone(ciphertext), make([]byte, n)...)
	}
	before := b.dump(t)
	seen := make(map[string]bool)
	for name, raw := range bad {
		_, err := take("EC-HSM", transferOf(t, "kek/"+kek.Version, raw))
		var refused *Error
		if !errors.As(err, &refused) || refused.Kind != BadParameter {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if len(raw) == len(ciphertext) {
			seen[refused.Message] = true
		}
	}
	if len(seen) != 1 { // which part was wrong is nobody's business
		t.Errorf("the refusals differ: %v", seen)
	}
	if len(before) != len(b.dump(t)) {
		t.Error("a garbled file left something")
	}
	if _, err := take("EC-HSM", transferOf(t, "kek/"+kek.Version, ciphertext)); err != nil {
		t.Error(err)
	}
}
