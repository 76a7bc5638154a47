package keyvault

import (
	"bytes"
	"crypto/elliptic"
	"encoding/json"
	"errors"
	"math/big"
	"strings"
	"testing"
)

// wantRefused checks that an error is a refusal of the request, of a length that can be shown.
func wantRefused(t *testing.T, err error) {
	t.Helper()
	var refused *Error
	if !errors.As(err, &refused) || refused.Kind != BadParameter || len(refused.Message) > 2000 {
		t.Fatalf("error %v", err)
	}
}

// FuzzOpenKeyBackup starts behind the encryption, as FuzzOpenBackup does: what is accepted is a key with its versions, and
// nothing that a secret's backup could be.
func FuzzOpenKeyBackup(f *testing.F) {
	const version = `{"v":1,"version":"0123456789abcdef0123456789abcdef","created":1,"updated":1,"value":"AQ"`
	const key = `,"key":{"kty":"EC","crv":"P-256","x":"AQ","y":"Ag","ops":["sign"],"platform":"0"}}`
	begin := `{"v":1,"tenantId":"t","name":"k","current":"0123456789abcdef0123456789abcdef","versions":[`
	f.Add([]byte(begin + version + key + `]}`))
	f.Add([]byte(begin + version + key + `],"rotation":{"expiryTime":"P28D","actions":[],"created":1,"updated":1}}`))
	f.Add([]byte(begin + version + `}]}`))
	f.Add([]byte(begin + version + key + `,` + version + `}]}`))
	f.Add([]byte(begin + `]}`))
	f.Add([]byte(`{"v":2}`))
	f.Add([]byte(`null`))
	s := &Service{installation: &installation{backup: make(backupKey, 32)}}
	f.Fuzz(func(t *testing.T, plaintext []byte) {
		blob, err := s.backup.seal(backupMagic(KeyKind), plaintext)
		if err != nil {
			t.Fatal(err)
		}
		b, err := s.openBackup(nil, KeyKind, blob)
		if err != nil {
			wantRefused(t, err)
			return
		}
		if checkName(b.Name) != nil || len(b.Versions) == 0 {
			t.Fatalf("%q was accepted as %+v", plaintext, b)
		}
		for _, v := range b.Versions {
			if v.Key == nil {
				t.Fatalf("%q was accepted with a version that is none of a key", plaintext)
			}
		}
		secret, err := s.backup.seal(backupMagic(SecretKind), plaintext)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := s.openBackup(nil, SecretKind, secret); err == nil {
			t.Fatalf("%q is a secret too: %+v", plaintext, b)
		}
	})
}

// FuzzRestoreKey feeds blobs to a restore: all but the one that was made here are refused.
func FuzzRestoreKey(f *testing.F) {
	b := newBench(f)
	b.create(f, "vault", "k", CreateKeyParams{Type: "EC"})
	blob := b.backupOf(f, "vault", "k")
	b.vault(f, "target", 7, false)
	f.Add(blob)
	f.Add(blob[:len(blob)-1])
	f.Add([]byte(backupMagic(KeyKind)))
	f.Add([]byte(backupMagic(SecretKind)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if bytes.Equal(raw, blob) {
			return
		}
		_, err := b.RestoreKey(t.Context(), admin, "target", raw)
		wantRefused(t, err)
	})
}

// FuzzPeriod: what is read as a period has a bounded length, moves forth and back by about the same, and keeps every time
// within what can be shown.
func FuzzPeriod(f *testing.F) {
	for _, text := range []string{"P1Y", "P18M", "P90D", "P2W", "P1Y2M3W4D", "P0D", "P100Y", "P", "", "PT1H", "p1d", "P-1D", "P00000000001D"} {
		f.Add(text, int64(1_700_000_000))
	}
	f.Add("P36600D", int64(maxTime))
	f.Add("P1M", int64(0))
	f.Fuzz(func(t *testing.T, text string, from int64) {
		p, err := parsePeriod(text)
		if err != nil {
			if len(err.Error()) > 200 || strings.Contains(err.Error(), "\n") {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		days := int64(p.nominalDays())
		if p.years < 0 || p.months < 0 || p.days < 0 || days > maxPeriodDays {
			t.Fatalf("%q is %+v", text, p)
		}
		from = min(max(from, 0), maxTime)
		after, before := p.after(from), p.before(from)
		if after < min(from, 1) || after > maxTime || before < 1 || before > max(from, 1) {
			t.Fatalf("%q from %d: %d and %d", text, from, before, after)
		}
		const slack = 8 * secondsPerDay // months are not alike
		if after < maxTime && abs(after-from-days*secondsPerDay) > slack || before > 1 && abs(from-before-days*secondsPerDay) > slack {
			t.Fatalf("%q from %d: %d and %d; it counts as %d days", text, from, before, after, days)
		}
	})
}

func abs(n int64) int64 { return max(n, -n) }

// FuzzPolicy: a policy is refused or made whole; then it stays as it is, and what it plans is never about now.
func FuzzPolicy(f *testing.F) {
	f.Add("P30D", "Rotate", "P15D", "", "Notify", "", "P7D")
	f.Add("", "rotate", "P2M", "", "", "", "")
	f.Add("P2Y", "Rotate", "", "P24M", "", "", "")
	f.Add("P2Y", "Rotate", "", "P23M", "NOTIFY", "", "P0D")
	f.Add("P28D", "Notify", "P1D", "P1D", "Notify", "", "")
	f.Add("x", "", "", "", "", "", "")
	f.Fuzz(func(t *testing.T, expiry, action1, after1, before1, action2, after2, before2 string) {
		p := RotationPolicy{ExpiryTime: expiry}
		for _, a := range []LifetimeAction{{action1, after1, before1}, {action2, after2, before2}} {
			if a.Action != "" {
				p.Actions = append(p.Actions, a)
			}
		}
		if err := p.normalize(); err != nil {
			wantRefused(t, err)
			return
		}
		again := p
		if err := again.normalize(); err != nil {
			t.Fatalf("%+v is refused the second time: %v", p, err)
		}
		first, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := json.Marshal(again); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%s became %s, %v", first, second, err)
		}
		kinds := make(map[string]int)
		for _, a := range p.Actions {
			kinds[a.Action]++
		}
		if kinds[ActionNotify] != 1 || kinds[ActionRotate] > 1 || len(p.Actions) > 2 {
			t.Fatalf("%s has other actions", first)
		}
		now := int64(1_700_000_000)
		v := versionRecord{Created: now}
		if expiry != "" {
			life, err := parsePeriod(expiry)
			if err != nil {
				t.Fatalf("%s: %v", first, err)
			}
			v.Expires = new(life.after(now))
		}
		for _, a := range p.Actions {
			if at := a.at(&v); a.Action == ActionRotate && at < now+2*secondsPerDay {
				t.Fatalf("%s rotates a version of %d at %d", first, now, at)
			}
		}
	})
}

// FuzzImportKey: whatever members somebody sends, a key is whole and can be used, or is refused as his fault.
func FuzzImportKey(f *testing.F) {
	b := newKeyBench(f)
	// Numbers that are an RSA key's as far as can be told without looking for primes: a real one would differ in each run.
	one := big.NewInt(1)
	p := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(3), 1022), one)
	q := new(big.Int).Add(new(big.Int).Lsh(big.NewInt(7), 1021), one)
	order := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	d := new(big.Int).ModInverse(big.NewInt(65537), order)
	n := new(big.Int).Mul(p, q).Bytes()
	var none []byte
	f.Add("RSA", false, "", "", n, []byte{1, 0, 1}, d.Bytes(), p.Bytes(), q.Bytes(), none, none, none, none, none, none)
	f.Add("RSA-HSM", true, "", "import", n, []byte{3}, d.Bytes(), p.Bytes(), q.Bytes(), []byte{1}, []byte{2}, []byte{3}, none, none, none)
	g := elliptic.P256().Params() // 1 times its generator
	f.Add("EC", false, "P-256", "sign", none, none, one.FillBytes(make([]byte, 32)), none, none, none, none, none, g.Gx.Bytes(), g.Gy.Bytes(), none)
	f.Add("EC", false, "P-256K", "sign", none, none, []byte{1}, none, none, none, none, none, []byte{1}, []byte{2}, none)
	f.Add("oct-HSM", false, "", "encrypt", none, none, none, none, none, none, none, none, none, none, []byte("0123456789abcdef"))
	f.Fuzz(func(t *testing.T, typ string, inHSM bool, curve, operation string, n, e, d, p, q, dp, dq, qi, x, y, k []byte) {
		params := ImportKeyParams{Type: typ, HSM: inHSM, Curve: curve, Private: PrivateKey{
			N: n, E: e, D: d, P: p, Q: q, DP: dp, DQ: dq, QI: qi, X: x, Y: y, K: k,
		}}
		if operation != "" {
			params.Operations = []string{operation}
		}
		key, err := b.ImportKey(t.Context(), admin, "premium", "k", params)
		if err != nil {
			wantRefused(t, err)
			return
		}
		if len(key.Operations) == 0 || key.Type != strings.TrimSuffix(typ, "-HSM") && key.Type != strings.TrimSuffix(typ, "-HSM")+"-HSM" {
			t.Fatalf("imported %+v", key)
		}
		v := modelKeyVersion{Key: key}
		if _, _, err := b.Sign(t.Context(), admin, "premium", "k", key.Version, v.algorithm("sign"), make([]byte, 32)); err != nil {
			var refused *Error
			if !errors.As(err, &refused) {
				t.Fatalf("an imported key does not sign: %v", err)
			}
		}
		b.drop(t, "premium", "k")
	})
}

// FuzzTransferFile: a transfer file is taken in, or refused as its sender's fault.
func FuzzTransferFile(f *testing.F) {
	b := newKeyBench(f)
	kek, _ := importer(f, b)
	good := transferFile(f, kek, make([]byte, 32))
	f.Add(good)
	f.Add(good[:len(good)/2])
	f.Add(bytes.Replace(good, []byte("kek/"), []byte("other/"), 1))
	f.Add([]byte(`{"schema_version":"1.0.0","header":{"kid":"https://vault.example/keys/kek","alg":"dir","enc":"CKM_RSA_AES_KEY_WRAP"},"ciphertext":"AA"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, file []byte) {
		if file == nil {
			return // no file is another request
		}
		_, err := b.ImportKey(t.Context(), admin, "premium", "k", ImportKeyParams{Type: "oct-HSM", Transfer: file, ParseKeyID: parseTestID})
		if err == nil {
			b.drop(t, "premium", "k")
			return
		}
		var refused *Error
		if !errors.As(err, &refused) || refused.Kind != BadParameter && refused.Kind != NotFound || len(refused.Message) > 2000 {
			t.Fatalf("error %v", err)
		}
	})
}
