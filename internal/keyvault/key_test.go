package keyvault

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"
	"sync"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
)

// RSA keys are slow to make, so the tests share two.
var (
	rsaKey   = sync.OnceValue(makeRSA)
	otherRSA = sync.OnceValue(makeRSA)
)

func makeRSA() *rsa.PrivateKey {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return key
}

// rsaMembers are the members of a JWK.
func rsaMembers(k *rsa.PrivateKey) PrivateKey {
	return PrivateKey{
		N: k.N.Bytes(), E: big.NewInt(int64(k.E)).Bytes(), D: k.D.Bytes(), P: k.Primes[0].Bytes(), Q: k.Primes[1].Bytes(),
		DP: k.Precomputed.Dp.Bytes(), DQ: k.Precomputed.Dq.Bytes(), QI: k.Precomputed.Qinv.Bytes(),
	}
}

func makeEC(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func ecMembers(t testing.TB, k *ecdsa.PrivateKey) PrivateKey {
	t.Helper()
	d, err := k.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	point, err := k.PublicKey.Bytes() // 4, x, y
	if err != nil {
		t.Fatal(err)
	}
	half := (len(point) - 1) / 2
	return PrivateKey{D: d, X: point[1 : 1+half], Y: point[1+half:]}
}

// newKeyBench is a bench with a vault of each tier, vault and premium, and a managed HSM, pool.
func newKeyBench(t testing.TB) *bench {
	t.Helper()
	b := newBench(t)
	b.tiered(t, "premium", resource.Premium)
	b.pool(t, "pool", newDomain(t))
	return b
}

func (b *bench) tiered(t testing.TB, name string, tier resource.Tier) {
	t.Helper()
	_, _, err := b.resources.PutVault(t.Context(), someone, "g", name, resource.PutVaultParams{
		Location: "here", Tier: tier, RetentionDays: new(7), Administrators: []string{adminID},
	})
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) create(t testing.TB, vault, name string, p CreateKeyParams) Key {
	t.Helper()
	k, err := b.of(vault).CreateKey(t.Context(), admin, vault, name, p)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func (b *bench) take(t testing.TB, vault, name string, p ImportKeyParams) Key {
	t.Helper()
	k, err := b.of(vault).ImportKey(t.Context(), admin, vault, name, p)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// dump returns every record of the store, opened.
func (b *bench) dump(t testing.TB) map[string]string {
	t.Helper()
	all := make(map[string]string)
	err := b.db.Walk(t.Context(), func(key string, value []byte, err error) error {
		all[key] = string(value)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// without checks that act changes nothing in the store.
func (b *bench) without(t testing.TB, act func()) {
	t.Helper()
	before := b.dump(t)
	act()
	if diff := gocmp.Diff(slices.Sorted(maps.Keys(before)), slices.Sorted(maps.Keys(b.dump(t)))); diff != "" {
		t.Errorf("records came or went (-before +after):\n%s", diff)
	} else if after := b.dump(t); !maps.Equal(before, after) {
		t.Error("records were changed")
	}
}

// refused checks that act is refused before it changes anything, and before anything is announced.
func (b *bench) refused(t testing.TB, kind Kind, act func() error) {
	t.Helper()
	head := b.audit.Head().Seq
	b.without(t, func() { wantKind(t, act(), kind) })
	if n := b.audit.Head().Seq - head; n != 0 {
		t.Errorf("%d intents are on record", n)
	}
}

// consistent checks that the records of the store fit together.
func (b *bench) consistent(t testing.TB) {
	t.Helper()
	err := b.CheckReferences(t.Context(), func(key, problem string) { t.Errorf("%s %s", key, problem) })
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range b.dump(t) {
		if err := CheckRecord(key, []byte(value)); err != nil {
			t.Errorf("%s: %v", key, err)
		}
	}
}

func TestKeyDefaults(t *testing.T) {
	t.Parallel()
	b := newKeyBench(t)
	for _, c := range []struct {
		typ, curve string
		bits       int
		operations []string
	}{
		{"RSA", "", 2048, []string{"encrypt", "decrypt", "sign", "verify", "wrapKey", "unwrapKey"}},
		{"EC", "P-256", 0, []string{"sign", "verify"}},
		{"EC-HSM", "P-256", 0, []string{"sign", "verify"}},
		{"oct-HSM", "", 256, []string{"encrypt", "decrypt", "wrapKey", "unwrapKey"}},
	} {
		got := b.create(t, "premium", "k", CreateKeyParams{Type: c.typ})
		if len(got.Public.N)*8 != c.bits && c.typ == "RSA" || len(got.Public.X) != len(got.Public.Y) {
			t.Errorf("%s: public key %+v", c.typ, got.Public)
		}
		got.Public = PublicKey{}
		want := Key{
			Properties: Properties{
				Name: "k", Version: got.Version, Enabled: true, Created: 1_700_000_000, Updated: 1_700_000_000,
				RecoveryLevel: "CustomizedRecoverable+Purgeable", RecoverableDays: 7, Vault: got.Vault,
			},
			Type: c.typ, Bits: c.bits, Curve: c.curve, Operations: c.operations, Platform: "0",
		}
		if diff := gocmp.Diff(want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.typ, diff)
		}
		if !objectVersion.MatchString(got.Version) || !strings.HasSuffix(got.Vault, "/VAULTS/PREMIUM") {
			t.Errorf("%s: version %q in %q", c.typ, got.Version, got.Vault)
		}
	}
	if n := b.records(t, "version/"); n != 4 {
		t.Errorf("%d versions", n)
	}
}

// TestTiers makes and takes in each type in each tier.
func TestTiers(t *testing.T) {
	t.Parallel()
	b := newKeyBench(t)
	oct := PrivateKey{K: make([]byte, 32)}
	rand.Read(oct.K)
	members := map[string]PrivateKey{"RSA": rsaMembers(rsaKey()), "EC": ecMembers(t, makeEC(t, elliptic.P256())), "oct": oct}
	for _, c := range []struct {
		typ                    string
		hsm                    bool
		standard, premium, hsa string // the type that is made in each tier; "" means that it is refused
	}{
		{"RSA", false, "RSA", "RSA", "RSA-HSM"},
		{"EC", false, "EC", "EC", "EC-HSM"},
		{"oct", false, "", "", "oct-HSM"},
		{"RSA-HSM", false, "", "RSA-HSM", "RSA-HSM"},
		{"EC-HSM", false, "", "EC-HSM", "EC-HSM"},
		{"oct-HSM", false, "", "oct-HSM", "oct-HSM"},
		{"RSA", true, "", "RSA-HSM", "RSA-HSM"},
		{"EC", true, "", "EC-HSM", "EC-HSM"},
		{"oct", true, "", "oct-HSM", "oct-HSM"},
		{"EC-HSM", true, "", "EC-HSM", "EC-HSM"},
	} {
		for vault, want := range map[string]string{"vault": c.standard, "premium": c.premium, "pool": c.hsa} {
			family := strings.TrimSuffix(c.typ, "-HSM")
			p := ImportKeyParams{Type: c.typ, HSM: c.hsm, Private: members[family]}
			if family == "EC" {
				p.Curve = "P-256"
			}
			acts := map[string]func() (Key, error){
				"import": func() (Key, error) { return b.of(vault).ImportKey(t.Context(), admin, vault, "k", p) },
			}
			if !c.hsm && family != "RSA" { // made nowhere else than here, and slow
				acts["create"] = func() (Key, error) {
					return b.of(vault).CreateKey(t.Context(), admin, vault, "k", CreateKeyParams{Type: c.typ})
				}
			}
			for name, act := range acts {
				if want == "" {
					b.refused(t, BadParameter, func() error { _, err := act(); return err })
				} else if got, err := act(); err != nil || got.Type != want {
					t.Errorf("%s of %s (Hsm %v) in %s made %q, want %q; %v", name, c.typ, c.hsm, vault, got.Type, want, err)
				}
			}
		}
	}
}

// TestCreateKeyRefuses has one wrong thing in each request.
func TestCreateKeyRefuses(t *testing.T) {
	t.Parallel()
	b := newKeyBench(t)
	policy := &ReleasePolicy{Data: []byte(anyPolicy)}
	many := make(map[string]string)
	for i := range MaxTags + 1 {
		many[fmt.Sprint(i)] = ""
	}
	long := strings.Repeat("ä", MaxTagText+1)
	for name, p := range map[string]CreateKeyParams{
		"no type":               {},
		"lower case":            {Type: "ec"},
		"unknown type":          {Type: "OKP"},
		"suffix alone":          {Type: "-HSM"},
		"suffix twice":          {Type: "EC-HSM-HSM"},
		"hostile type":          {Type: strings.Repeat("\xff", 10_000)},
		"soft oct":              {Type: "oct"},
		"negative size":         {Type: "RSA", Bits: -1},
		"small RSA":             {Type: "RSA", Bits: 1024},
		"odd RSA":               {Type: "RSA", Bits: 2049},
		"large RSA":             {Type: "RSA", Bits: 8192},
		"huge RSA":              {Type: "RSA", Bits: 1 << 40},
		"exponent 3":            {Type: "RSA", Exponent: 3},
		"negative exponent":     {Type: "RSA", Exponent: -65537},
		"huge exponent":         {Type: "RSA", Exponent: 1<<32 + 65537},
		"oct of 64 bits":        {Type: "oct-HSM", Bits: 64},
		"oct of 1 bit":          {Type: "oct-HSM", Bits: 1},
		"oct of 2^32 + 256":     {Type: "oct-HSM", Bits: 1<<32 + 256},
		"unknown curve":         {Type: "EC", Curve: "P-224"},
		"curve in lower case":   {Type: "EC", Curve: "p-256"},
		"RSA with a curve":      {Type: "RSA", Curve: "P-256"},
		"oct with a curve":      {Type: "oct-HSM", Curve: "P-256"},
		"unknown operation":     {Type: "EC", Operations: []string{"sign", "dance"}},
		"operation's case":      {Type: "RSA", Operations: []string{"wrapkey"}},
		"EC that encrypts":      {Type: "EC", Operations: []string{"encrypt"}},
		"import of EC":          {Type: "EC-HSM", Operations: []string{"import"}},
		"import of oct":         {Type: "oct-HSM", Operations: []string{"import"}},
		"import of soft RSA":    {Type: "RSA", Operations: []string{"import"}},
		"import and more":       {Type: "RSA-HSM", Operations: []string{"import", "unwrapKey"}},
		"more and import":       {Type: "RSA-HSM", Operations: []string{"decrypt", "import"}},
		"too many tags":         {Type: "EC", Tags: many},
		"long tag":              {Type: "EC", Tags: map[string]string{long: ""}},
		"long tag value":        {Type: "EC", Tags: map[string]string{"a": long}},
		"negative expiry":       {Type: "EC", Attributes: Attributes{Expires: new(int64(-1))}},
		"not before year 10000": {Type: "EC", Attributes: Attributes{NotBefore: new(int64(maxTime + 1))}},
		"exportable, no policy": {Type: "EC-HSM", Exportable: true},
		"exportable, software":  {Type: "EC", Exportable: true, ReleasePolicy: policy},
		"policy, no export":     {Type: "EC-HSM", ReleasePolicy: policy},
		"policy that is none":   {Type: "EC-HSM", Exportable: true, ReleasePolicy: &ReleasePolicy{Data: []byte("{}")}},
	} {
		t.Run(name, func(t *testing.T) {
			b.refused(t, BadParameter, func() error {
				_, err := b.CreateKey(t.Context(), admin, "premium", "k", p)
				return err
			})
		})
	}
	for _, name := range []string{"", "a b", "a/b", "ä", "a\n", "a.b", strings.Repeat("a", MaxName+1)} {
		b.refused(t, BadParameter, func() error {
			_, err := b.CreateKey(t.Context(), admin, "premium", name, CreateKeyParams{Type: "EC"})
			return err
		})
	}
	// What is just allowed.
	delete(many, "0")
	b.create(t, "premium", strings.Repeat("a", MaxName), CreateKeyParams{
		Type: "EC", Tags: many, Attributes: Attributes{NotBefore: new(int64(0)), Expires: new(int64(maxTime))},
	})
	b.create(t, "premium", "k", CreateKeyParams{Type: "EC", Tags: map[string]string{long[2:]: long[2:]}})
	b.create(t, "premium", "k", CreateKeyParams{Type: "EC-HSM", Exportable: true, ReleasePolicy: policy})
	b.refused(t, BadParameter, func() error { // the tier standard exports nothing
		_, err := b.CreateKey(t.Context(), admin, "vault", "k", CreateKeyParams{Type: "EC", Exportable: true, ReleasePolicy: policy})
		return err
	})
}

const anyPolicy = `{"version":"1.0.0","anyOf":[{"authority":"https://authority.example/","allOf":[{"claim":"c","equals":"x"}]}]}`

func TestImportKeyRefuses(t *testing.T) {
	t.Parallel()
	b := newKeyBench(t)
	good, ec := rsaMembers(rsaKey()), ecMembers(t, makeEC(t, elliptic.P256()))
	with := func(k PrivateKey, change func(*PrivateKey)) PrivateKey { change(&k); return k }
	other := rsaMembers(otherRSA())
	for name, p := range map[string]ImportKeyParams{
		"nothing":               {Type: "RSA"},
		"members of another":    {Type: "EC", Curve: "P-256", Private: good},
		"other type":            {Type: "RSA", Private: ec},
		"public key alone":      {Type: "RSA", Private: PrivateKey{N: good.N, E: good.E}},
		"another's d":           {Type: "RSA", Private: with(good, func(k *PrivateKey) { k.D = other.D })},
		"another's n":           {Type: "RSA", Private: with(good, func(k *PrivateKey) { k.N = other.N })},
		"curve of RSA":          {Type: "RSA", Private: good, Curve: "P-256"},
		"EC without a curve":    {Type: "EC", Private: ec},
		"another curve":         {Type: "EC", Curve: "P-384", Private: ec},
		"point off the curve":   {Type: "EC", Curve: "P-256", Private: with(ec, func(k *PrivateKey) { k.X = k.Y })},
		"another point":         {Type: "EC", Curve: "P-256", Private: with(ec, func(k *PrivateKey) { k.D = ecMembers(t, makeEC(t, elliptic.P256())).D })},
		"empty oct":             {Type: "oct-HSM"},
		"long oct":              {Type: "oct-HSM", Private: PrivateKey{K: make([]byte, 10_000)}},
		"import-only in soft":   {Type: "RSA", Private: good, Operations: []string{"import"}},
		"import-only of EC":     {Type: "EC-HSM", Curve: "P-256", Private: ec, Operations: []string{"import"}},
		"transfer into soft":    {Type: "RSA", Transfer: []byte("{}"), ParseKeyID: parseTestID},
		"empty transfer":        {Type: "RSA-HSM", Transfer: []byte{}, ParseKeyID: parseTestID},
		"exportable, no policy": {Type: "EC-HSM", Curve: "P-256", Private: ec, Exportable: true},
	} {
		t.Run(name, func(t *testing.T) {
			b.refused(t, BadParameter, func() error {
				_, err := b.ImportKey(t.Context(), admin, "premium", "k", p)
				return err
			})
		})
	}
}

// parseTestID takes an id as the API writes it apart, whatever its host.
func parseTestID(id string) (name, version string, err error) {
	rest, ok := strings.CutPrefix(id, "https://vault.example/keys/")
	if !ok {
		return "", "", fmt.Errorf("another vault's: %s", id)
	}
	name, version, _ = strings.Cut(rest, "/")
	return name, version, nil
}

func TestKeyOperations(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	k := b.create(t, "premium", "k", CreateKeyParams{Type: "oct-HSM", Operations: []string{"verify", "sign", "verify", "sign"}})
	if want := []string{"verify", "sign"}; !slices.Equal(k.Operations, want) {
		t.Errorf("operations %q, want %q", k.Operations, want)
	}
	digest := make([]byte, 32)
	_, _, err := b.Encrypt(ctx, admin, "premium", "k", "", "A256GCM", Message{Value: digest})
	wantKind(t, err, OperationForbidden)
	if _, _, err := b.Sign(ctx, admin, "premium", "k", "", "HS256", digest); err != nil {
		t.Error(err)
	}
	for _, c := range []struct {
		operations []string
		kind       Kind
	}{
		{[]string{"decrypt"}, 0},
		{[]string{}, 0}, // a key that does nothing
		{[]string{"import"}, BadParameter},
		{[]string{"fly"}, BadParameter},
		{[]string{"sign"}, 0},
		{nil, 0}, // as it is
	} {
		got, err := b.UpdateKey(ctx, admin, "premium", "k", "", UpdateKeyParams{Operations: c.operations})
		if c.kind != 0 {
			wantKind(t, err, c.kind)
			continue
		}
		want := c.operations
		if want == nil {
			want = []string{"sign"}
		}
		if err != nil || !slices.Equal(got.Operations, want) {
			t.Errorf("operations %q, want %q; %v", got.Operations, want, err)
		}
	}
}

// TestExchangeKeyStays: with the operation import and another one, now or later, somebody could unwrap by hand what was
// wrapped for a vault only.
func TestExchangeKeyStays(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	b.take(t, "premium", "kek", ImportKeyParams{Type: "RSA-HSM", Private: rsaMembers(rsaKey()), Operations: []string{"import"}})
	b.take(t, "premium", "k", ImportKeyParams{Type: "RSA-HSM", Private: rsaMembers(otherRSA())})
	for name, operations := range map[string][][]string{"kek": {{"decrypt"}, {"import", "decrypt"}, {"unwrapKey"}}, "k": {{"import"}}} {
		for _, operations := range operations {
			_, err := b.UpdateKey(ctx, admin, "premium", name, "", UpdateKeyParams{Operations: operations})
			wantKind(t, err, BadParameter)
		}
	}
	for _, operations := range [][]string{nil, {"import"}, {"import", "import"}} {
		k, err := b.UpdateKey(ctx, admin, "premium", "kek", "", UpdateKeyParams{Operations: operations})
		if err != nil || !slices.Equal(k.Operations, []string{"import"}) {
			t.Errorf("operations %q, %v", k.Operations, err)
		}
	}
}

// TestKeyNames has one name in several spellings, live and deleted, beside a secret of the same name.
func TestKeyNames(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	first := b.create(t, "vault", "Key-1", CreateKeyParams{Type: "EC"})
	second := b.create(t, "vault", "kEY-1", CreateKeyParams{Type: "EC", Curve: "P-384"})
	if second.Name != "Key-1" {
		t.Errorf("the second version's name is %q", second.Name)
	}
	for _, version := range []string{first.Version, strings.ToUpper(first.Version)} {
		if k, err := b.GetKey(ctx, admin, "VAULT", "KEY-1", version); err != nil || k.Curve != "P-256" || k.Name != "Key-1" {
			t.Errorf("%+v, %v", k, err)
		}
	}
	for _, version := range []string{"x", record.NewID(), strings.Repeat("0", 33), "../" + first.Version} {
		_, err := b.GetKey(ctx, admin, "vault", "key-1", version)
		wantKind(t, err, NotFound)
	}
	_, err := b.GetSecret(ctx, admin, "vault", "key-1", "")
	wantKind(t, err, NotFound)
	b.set(t, "vault", "key-1", "v")

	blob, err := b.BackupKey(ctx, admin, "vault", "key-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.DeleteKey(ctx, admin, "vault", "KEY-1"); err != nil {
		t.Fatal(err)
	}
	if _, err := b.GetSecret(ctx, admin, "vault", "key-1", ""); err != nil {
		t.Errorf("the secret of the same name: %v", err)
	}
	b.refused(t, DeletedButRecoverable, func() error {
		_, err := b.CreateKey(ctx, admin, "vault", "key-1", CreateKeyParams{Type: "EC"})
		return err
	})
	b.refused(t, DeletedButRecoverable, func() error {
		_, err := b.ImportKey(ctx, admin, "vault", "key-1", ImportKeyParams{Type: "RSA", Private: rsaMembers(rsaKey())})
		return err
	})
	b.without(t, func() {
		_, err = b.RestoreKey(ctx, admin, "vault", blob)
		wantKind(t, err, Conflict)
	})
	if got, err := b.RecoverKey(ctx, admin, "vault", "key-1"); err != nil || got.Name != "Key-1" || got.Version != second.Version {
		t.Errorf("recovered %+v, %v", got, err)
	}
	_, err = b.RecoverKey(ctx, admin, "vault", "key-1")
	wantKind(t, err, NotDeleted)
}

// TestManagedKey marks keys as a certificate's, as the certificates' own code will: whatever would change them is refused,
// and they can be used.
func TestManagedKey(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	for _, name := range []string{"cert", "gone"} {
		b.create(t, "vault", name, CreateKeyParams{Type: "EC"})
	}
	if _, err := b.DeleteKey(ctx, admin, "vault", "gone"); err != nil {
		t.Fatal(err)
	}
	mark := func(o *objectRecord) { o.Managed = true }
	change(t, b, func(v *resource.Vault) string { return objectKey(v, KeyKind, "cert") }, mark)
	change(t, b, func(v *resource.Vault) string { return deletedKey(v, KeyKind, "gone") }, mark)
	for name, act := range map[string]func() error{
		"create": func() error {
			_, err := b.CreateKey(ctx, admin, "vault", "cert", CreateKeyParams{Type: "EC"})
			return err
		},
		"import": func() error {
			_, err := b.ImportKey(ctx, admin, "vault", "cert", ImportKeyParams{Type: "RSA", Private: rsaMembers(rsaKey())})
			return err
		},
		"update": func() error { _, err := b.UpdateKey(ctx, admin, "vault", "cert", "", UpdateKeyParams{}); return err },
		"delete": func() error { _, err := b.DeleteKey(ctx, admin, "vault", "cert"); return err },
		"backup": func() error { _, err := b.BackupKey(ctx, admin, "vault", "cert"); return err },
		"rotate": func() error { _, err := b.RotateKey(ctx, admin, "vault", "cert"); return err },
		"policy": func() error {
			_, err := b.SetRotationPolicy(ctx, admin, "vault", "cert", RotationPolicy{})
			return err
		},
		"recover": func() error { _, err := b.RecoverKey(ctx, admin, "vault", "gone"); return err },
		"purge":   func() error { return b.PurgeKey(ctx, admin, "vault", "gone") },
	} {
		t.Run(name, func(t *testing.T) {
			b.without(t, func() { wantKind(t, act(), Managed) })
		})
	}
	if k, err := b.GetKey(ctx, admin, "vault", "cert", ""); err != nil || !k.Managed {
		t.Errorf("managed %v, %v", k.Managed, err)
	}
	if _, _, err := b.Sign(ctx, admin, "vault", "cert", "", "ES256", make([]byte, 32)); err != nil {
		t.Error(err)
	}
	b.advance(modelRetention * 1e9)
	if n, err := b.ActOnDue(ctx, everything); n != 1 || err != nil { // what the certificate's owner deletes is purged in time
		t.Errorf("purged %d, %v", n, err)
	}
}

func TestUpdateKey(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	first := b.create(t, "premium", "k", CreateKeyParams{Type: "EC", Tags: map[string]string{"a": "1"}})
	second := b.create(t, "premium", "k", CreateKeyParams{Type: "EC"})
	b.advance(1e9)
	got, err := b.UpdateKey(ctx, admin, "premium", "k", first.Version, UpdateKeyParams{
		Operations: []string{"verify"}, Tags: map[string]string{"b": "2"}, Exportable: new(bool),
		Attributes: Attributes{Enabled: new(bool), NotBefore: new(int64(5)), Expires: new(int64(6))},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := first
	want.Operations, want.Tags, want.Enabled, want.Updated = []string{"verify"}, map[string]string{"b": "2"}, false, first.Updated+1
	want.NotBefore, want.Expires = new(int64(5)), new(int64(6))
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("updated (-want +got):\n%s", diff)
	}
	for version, want := range map[string]Key{first.Version: want, second.Version: second, "": second} {
		if got, err := b.GetKey(ctx, admin, "premium", "k", version); err != nil || !gocmp.Equal(want, got) {
			t.Errorf("version %q is %+v, want %+v; %v", version, got, want, err)
		}
	}
	policy := &ReleasePolicy{Data: []byte(anyPolicy)}
	for name, c := range map[string]struct {
		version string
		p       UpdateKeyParams
		text    string
	}{
		"exportable":          {"", UpdateKeyParams{Exportable: new(true)}, "AKV.SKR.1003"},
		"policy of a version": {first.Version, UpdateKeyParams{ReleasePolicy: policy}, "AKV.SKR.1016"},
		"policy, no export":   {"", UpdateKeyParams{ReleasePolicy: policy}, "AKV.SKR.1005"},
		"attributes":          {"", UpdateKeyParams{Attributes: Attributes{Expires: new(int64(-1))}}, "exp"},
		"tags":                {"", UpdateKeyParams{Tags: map[string]string{"a": strings.Repeat("x", 513)}}, "tag"},
	} {
		b.without(t, func() {
			_, err := b.UpdateKey(ctx, admin, "premium", "k", c.version, c.p)
			wantKind(t, err, BadParameter)
			if err != nil && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	_, err = b.UpdateKey(ctx, admin, "premium", "k", record.NewID(), UpdateKeyParams{})
	wantKind(t, err, NotFound)
	_, err = b.UpdateKey(ctx, admin, "premium", "none", "", UpdateKeyParams{})
	wantKind(t, err, NotFound)
}

// TestReleasePolicyOfKey: the policy belongs to the key, and its exportable versions show it.
func TestReleasePolicyOfKey(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	first := b.create(t, "premium", "k", CreateKeyParams{Type: "EC-HSM", Exportable: true, ReleasePolicy: &ReleasePolicy{Data: []byte(anyPolicy)}})
	second := b.create(t, "premium", "k", CreateKeyParams{Type: "EC"})
	if first.ReleasePolicy == nil || second.ReleasePolicy != nil || second.Exportable {
		t.Errorf("policies %+v, %+v", first.ReleasePolicy, second.ReleasePolicy)
	}
	other := &ReleasePolicy{Data: bytes.Replace([]byte(anyPolicy), []byte(`"x"`), []byte(`"y"`), 1), Immutable: true}
	third := b.create(t, "premium", "k", CreateKeyParams{Type: "EC-HSM", Exportable: true, ReleasePolicy: other})
	got, err := b.GetKey(ctx, admin, "premium", "k", first.Version)
	if err != nil || !gocmp.Equal(got.ReleasePolicy, third.ReleasePolicy) || !bytes.Contains(got.ReleasePolicy.Data, []byte(`"y"`)) {
		t.Errorf("the first version's policy is %+v, %v", got.ReleasePolicy, err)
	}
	b.refused(t, BadParameter, func() error { // it is immutable now
		_, err := b.CreateKey(ctx, admin, "premium", "k", CreateKeyParams{Type: "EC-HSM", Exportable: true, ReleasePolicy: &ReleasePolicy{Data: []byte(anyPolicy)}})
		return err
	})
	other.Immutable = false
	b.without(t, func() {
		_, err := b.UpdateKey(ctx, admin, "premium", "k", "", UpdateKeyParams{ReleasePolicy: other})
		wantKind(t, err, BadParameter)
	})
}

// keyActs is one call of each method for keys, on the key "k" of a vault.
func keyActs(ctx context.Context, b *Service, caller *identity.Caller, vault string, blob []byte) map[string]func() error {
	digest := make([]byte, 32)
	return map[string]func() error{
		"create": func() error {
			_, err := b.CreateKey(ctx, caller, vault, "k", CreateKeyParams{Type: "EC-HSM"})
			return err
		},
		"import": func() error {
			_, err := b.ImportKey(ctx, caller, vault, "k", ImportKeyParams{Type: "oct-HSM", Private: PrivateKey{K: make([]byte, 32)}})
			return err
		},
		"get":              func() error { _, err := b.GetKey(ctx, caller, vault, "k", ""); return err },
		"update":           func() error { _, err := b.UpdateKey(ctx, caller, vault, "k", "", UpdateKeyParams{}); return err },
		"delete":           func() error { _, err := b.DeleteKey(ctx, caller, vault, "k"); return err },
		"get deleted":      func() error { _, err := b.GetDeletedKey(ctx, caller, vault, "k"); return err },
		"recover":          func() error { _, err := b.RecoverKey(ctx, caller, vault, "k"); return err },
		"purge":            func() error { return b.PurgeKey(ctx, caller, vault, "k") },
		"list":             func() error { _, err := b.ListKeys(ctx, caller, vault, "", 25); return err },
		"list deleted":     func() error { _, err := b.ListDeletedKeys(ctx, caller, vault, "", 25); return err },
		"list versions":    func() error { _, err := b.ListKeyVersions(ctx, caller, vault, "k", "", 25); return err },
		"backup":           func() error { _, err := b.BackupKey(ctx, caller, vault, "k"); return err },
		"restore":          func() error { _, err := b.RestoreKey(ctx, caller, vault, blob); return err },
		"rotate":           func() error { _, err := b.RotateKey(ctx, caller, vault, "k"); return err },
		"get policy":       func() error { _, err := b.GetRotationPolicy(ctx, caller, vault, "k"); return err },
		"set policy":       func() error { _, err := b.SetRotationPolicy(ctx, caller, vault, "k", RotationPolicy{}); return err },
		"sign":             func() error { _, _, err := b.Sign(ctx, caller, vault, "k", "", "ES256", digest); return err },
		"verify":           func() error { _, _, err := b.Verify(ctx, caller, vault, "k", "", "ES256", digest, digest); return err },
		"encrypt":          func() error { _, _, err := b.Encrypt(ctx, caller, vault, "k", "", "A256GCM", Message{}); return err },
		"decrypt":          func() error { _, _, err := b.Decrypt(ctx, caller, vault, "k", "", "A256GCM", Message{}); return err },
		"wrap":             func() error { _, _, err := b.Wrap(ctx, caller, vault, "k", "", "A256KW", Message{}); return err },
		"unwrap":           func() error { _, _, err := b.Unwrap(ctx, caller, vault, "k", "", "A256KW", Message{}); return err },
		"random":           func() error { _, _, err := b.GetRandomBytes(ctx, caller, vault, 1); return err },
		"release":          func() error { _, _, err := b.ReleaseKey(ctx, caller, vault, "k", "", ReleaseParams{}); return err },
		"restore of trash": func() error { _, err := b.RestoreKey(ctx, caller, vault, []byte("trash")); return err },
	}
}

// TestKeyStrangerIsRefused: who may not do anything learns nothing, changes nothing and keeps no provider busy.
func TestKeyStrangerIsRefused(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	b.create(t, "pool", "k", CreateKeyParams{Type: "EC-HSM"})
	blob, err := b.of("pool").BackupKey(ctx, admin, "pool", "k")
	if err != nil {
		t.Fatal(err)
	}
	unused := b.another(t, &puppet{Provider: b.hsm, before: func(_ context.Context, call string) error {
		t.Errorf("the provider was asked to %s", call)
		return nil
	}})
	for _, caller := range []*identity.Caller{stranger, {TenantID: "other", ObjectID: adminID}} {
		for name, act := range keyActs(ctx, unused.ManagedHSMs(), caller, "pool", blob) {
			t.Run(name, func(t *testing.T) { b.refused(t, AccessDeniedInHSM, act) })
		}
		for name, act := range keyActs(ctx, unused, caller, "premium", blob) {
			t.Run(name, func(t *testing.T) { b.refused(t, AccessDenied, act) })
		}
	}
	for _, s := range []*Service{unused, unused.ManagedHSMs()} {
		for name, act := range keyActs(ctx, s, admin, "nowhere", blob) {
			t.Run(name, func(t *testing.T) { b.refused(t, VaultNotFound, act) })
		}
	}
}

func TestRandomBytes(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	for _, vault := range []string{"vault", "premium"} {
		_, _, err := b.GetRandomBytes(ctx, admin, vault, 16)
		wantKind(t, err, BadParameter)
	}
	for _, count := range []int64{-1, 0, MaxRandomBytes + 1, 1 << 40} {
		_, _, err := b.of("pool").GetRandomBytes(ctx, admin, "pool", count)
		wantKind(t, err, BadParameter)
	}
	seen := make(map[string]bool)
	for range 100 {
		raw, resource, err := b.of("pool").GetRandomBytes(ctx, admin, "pool", MaxRandomBytes)
		if err != nil || len(raw) != MaxRandomBytes || seen[string(raw)] || !strings.HasSuffix(resource, "/POOL") {
			t.Fatalf("%x of %q, %v", raw, resource, err)
		}
		seen[string(raw)] = true
	}
	if raw, _, err := b.of("pool").GetRandomBytes(ctx, admin, "pool", 1); err != nil || len(raw) != 1 {
		t.Errorf("%x, %v", raw, err)
	}
}

var _ hsm.Provider = (*puppet)(nil)

// TestPolicyOfOlderVersions: the policy is the whole key's, so it can be changed while the current version is not exportable.
func TestPolicyOfOlderVersions(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	first := b.create(t, "premium", "k", CreateKeyParams{Type: "EC-HSM", Exportable: true, ReleasePolicy: &ReleasePolicy{Data: []byte(anyPolicy)}})
	b.create(t, "premium", "k", CreateKeyParams{Type: "EC"})
	other := &ReleasePolicy{Data: bytes.Replace([]byte(anyPolicy), []byte(`"x"`), []byte(`"y"`), 1)}
	k, err := b.UpdateKey(ctx, admin, "premium", "k", "", UpdateKeyParams{ReleasePolicy: other})
	if err != nil || k.ReleasePolicy != nil {
		t.Fatalf("a new policy for the older version: %v, %v", k.ReleasePolicy, err)
	}
	k, err = b.GetKey(ctx, admin, "premium", "k", first.Version)
	if err != nil || !bytes.Contains(k.ReleasePolicy.Data, []byte(`"y"`)) {
		t.Errorf("%v, %v", k.ReleasePolicy, err)
	}
}
