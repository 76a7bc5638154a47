package keyvault

import (
	"bytes"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/hsm"
)

// A secret is bytes that nobody may see, in the forms that somebody could print them in.
type secret struct {
	name  string
	forms [][]byte
}

func newSecret(name string, raw []byte) secret {
	part := raw[len(raw)/4 : len(raw)/4+12] // a part is enough to tell, and too much to show
	forms := [][]byte{
		raw, part, []byte(strings.ToUpper(hex.EncodeToString(part))), []byte(hex.EncodeToString(part)),
		[]byte(base64.StdEncoding.EncodeToString(raw)), []byte(base64.RawURLEncoding.EncodeToString(raw)),
		[]byte(new(big.Int).SetBytes(raw).String()), []byte(strings.Trim(fmt.Sprint(part), "[]")),
		[]byte(strings.Trim(fmt.Sprintf("%#v", part), "[]byte{}")), []byte(strings.Trim(fmt.Sprintf("%q", part), `"`)),
	}
	return secret{name, forms}
}

// secrets are what is secret about keys.
func secrets(keys map[string]PrivateKey) (out []secret) {
	for name, k := range keys {
		for member, raw := range map[string][]byte{"d": k.D, "p": k.P, "q": k.Q, "dp": k.DP, "dq": k.DQ, "qi": k.QI, "k": k.K} {
			if raw != nil {
				out = append(out, newSecret(name+"."+member, raw))
			}
		}
	}
	return out
}

// wantNone checks that a text shows no secret.
func wantNone(t testing.TB, what string, text []byte, secrets []secret) {
	t.Helper()
	for _, s := range secrets {
		for i, form := range s.forms {
			if bytes.Contains(text, form) {
				t.Errorf("%s shows %s, in form %d", what, s.name, i)
			}
		}
	}
}

func secretKeys(t testing.TB) map[string]PrivateKey {
	t.Helper()
	oct := make([]byte, 32)
	rand.Read(oct)
	return map[string]PrivateKey{"RSA": rsaMembers(rsaKey()), "EC": ecMembers(t, makeEC(t, elliptic.P384())), "oct": {K: oct}}
}

// printed is everything that Go's printers make of a value.
func printed(t testing.TB, v any) []byte {
	t.Helper()
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "% x", "%#x", "%o", "%b", "%c", "%U", "%t"} {
		fmt.Fprintf(&out, verb+"\n", v)
	}
	raw, err := json.Marshal(v)
	if err != nil && !strings.Contains(err.Error(), "unsupported type") {
		t.Errorf("%T: %v", v, err)
	}
	out.Write(raw)
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h).Info("m", "v", v, slog.Group("g", "v", v))
	}
	return out.Bytes()
}

// TestNothingPrintsKeys prints every value of this package that holds a key or the plaintext of a message.
func TestNothingPrintsKeys(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	keys := secretKeys(t)
	all := append(secrets(keys), newSecret("backup key", b.backup))
	text := make([]byte, 64)
	rand.Read(text)
	all = append(all, newSecret("message", text))
	show := func(v any) {
		t.Helper()
		wantNone(t, fmt.Sprintf("%T", v), printed(t, v), all)
	}
	// The search itself finds what it is for.
	for _, s := range all {
		for i, form := range s.forms {
			if !bytes.Contains(append([]byte("x"), form...), s.forms[i]) || len(form) < 12 {
				t.Errorf("%s: form %d is none", s.name, i)
			}
		}
	}
	for name, k := range keys {
		p := ImportKeyParams{Type: name, HSM: true, Private: k}
		if name == "EC" {
			p.Curve = "P-384"
		}
		made := b.take(t, "premium", name, p)
		for _, v := range []any{k, &k, p, &p, []ImportKeyParams{p}, map[string]any{"k": k}, []any{&p}, struct{ K PrivateKey }{k}, made, &made} {
			show(v)
		}
	}
	sealed, used, err := b.Encrypt(ctx, admin, "premium", "oct", "", "A256GCM", Message{Value: text})
	if err != nil {
		t.Fatal(err)
	}
	m := Message{Value: text, IV: text, AAD: text, Tag: text}
	deleted, err := b.DeleteKey(ctx, admin, "premium", "RSA")
	if err != nil {
		t.Fatal(err)
	}
	policy, err := b.GetRotationPolicy(ctx, admin, "premium", "EC")
	if err != nil {
		t.Fatal(err)
	}
	page, err := b.ListKeys(ctx, admin, "premium", "", 25)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{m, &m, []Message{m}, sealed, used, deleted, policy, page, b.Service, Config{HSM: b.hsm, DB: b.db}, b.hsm} {
		show(v)
	}
	// What the provider hands to this package, and what this package keeps in memory.
	taken, err := b.hsm.Import(ctx, func() hsm.PrivateKey { k := keys["RSA"]; k.Type = hsm.RSA; return k }())
	if err != nil {
		t.Fatal(err)
	}
	opened, err := b.hsm.Open(ctx, taken.Spec, taken.Blob)
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{taken, &taken, opened, &opened, []any{opened}} {
		show(v)
	}
}

// TestKeysStayInside imports keys of which every byte is known, does everything with them, also what is refused, and looks
// for them in all that is left: errors, the audit log, the store's file, backups.
func TestKeysStayInside(t *testing.T) {
	t.Parallel()
	b, ctx := newKeyBench(t), t.Context()
	keys := secretKeys(t)
	all := secrets(keys)
	var words bytes.Buffer
	hear := func(v any, err error) {
		if err != nil {
			words.WriteString(err.Error())
			words.Write(printed(t, err))
			return
		}
		words.Write(printed(t, v))
	}
	kek := b.create(t, "premium", "kek", CreateKeyParams{Type: "RSA-HSM", Operations: []string{"import"}})
	for name, k := range keys {
		curve := map[string]string{"EC": "P-384"}[name]
		for _, typ := range []string{name + "-HSM", name, "RSA", "EC", "oct-HSM", "nonsense"} {
			for _, curve := range []string{curve, "P-256", "nonsense"} {
				v, err := b.ImportKey(ctx, admin, "premium", name, ImportKeyParams{Type: typ, Curve: curve, Private: k})
				hear(v, err)
			}
		}
		for i, member := range []*[]byte{&k.N, &k.E, &k.D, &k.P, &k.Q, &k.DP, &k.DQ, &k.QI, &k.X, &k.Y, &k.K} {
			if *member == nil {
				continue
			}
			good := *member
			for _, bad := range [][]byte{append(bytes.Clone(good), 1), good[1:], append([]byte{1}, good...), nil} {
				*member = bad
				v, err := b.ImportKey(ctx, admin, "premium", fmt.Sprint("bad", i), ImportKeyParams{Type: name, HSM: true, Curve: curve, Private: k})
				hear(v, err)
			}
			*member = good
		}
		b.take(t, "premium", name, ImportKeyParams{Type: name, HSM: true, Curve: curve, Private: k, ParseKeyID: parseTestID})
		version := b.take(t, "premium", name, ImportKeyParams{Type: name, HSM: true, Curve: curve, Private: k}).Version
		for _, version := range []string{"", version} {
			for _, alg := range []string{"RS256", "ES384", "HS256", "A256GCM", "RSA-OAEP", "A256KW", "nonsense"} {
				m := Message{Value: make([]byte, 48)}
				sealed, _, err := b.Encrypt(ctx, admin, "premium", name, version, alg, m)
				hear(sealed, err)
				_, _, err = b.Unwrap(ctx, admin, "premium", name, version, alg, m)
				hear(nil, err)
				signature, _, err := b.Sign(ctx, admin, "premium", name, version, alg, m.Value)
				hear(signature, err)
			}
		}
		blob := b.backupOf(t, "premium", name)
		hear(blob, nil)
		words.Write(blob)
		hear(b.GetKey(ctx, admin, "premium", name, ""))
		hear(b.DeleteKey(ctx, admin, "premium", name))
		hear(b.of("pool").RestoreKey(ctx, admin, "pool", blob))
		hear(b.RestoreKey(ctx, admin, "vault", blob))
		target := k.K
		if target == nil {
			target = pkcs8(t, rsaKey())
		}
		file := transferFile(t, kek, target)
		for _, typ := range []string{"oct-HSM", "EC-HSM", "RSA-HSM"} {
			hear(b.ImportKey(ctx, admin, "premium", "moved", ImportKeyParams{Type: typ, Transfer: file, ParseKeyID: parseTestID}))
		}
	}
	wantNone(t, "an answer or an error", words.Bytes(), all)
	log, err := os.ReadFile(b.auditPath)
	if err != nil {
		t.Fatal(err)
	}
	wantNone(t, "the audit log", log, all)
	file, err := os.ReadFile(filepath.Join(filepath.Dir(b.auditPath), "store.db"))
	if err != nil {
		t.Fatal(err)
	}
	wantNone(t, "the store's file", file, all)
	// The keys are there, though: sealed.
	if !strings.Contains(fmt.Sprint(b.dump(t)), string(keys["oct"].K)) || len(log) == 0 || !bytes.Contains(file, []byte("version/")) {
		t.Error("the keys are not stored, so the test is about nothing")
	}
}
