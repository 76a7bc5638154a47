package api_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/strongroom/strongroom/internal/api"
	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/keywrap"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/strongroomtest"
)

// TestRandomBytes plays a managed HSM, which alone gives random bytes. Its keys are all kept in it.
func TestRandomBytes(t *testing.T) {
	t.Parallel()
	h := newHandler(t, resource.ManagedHSM)
	seen := make(map[string]bool)
	for count, ok := range map[int]bool{-1: false, 0: false, 1: true, 16: true, 128: true, 129: false} {
		status, answer := h.do(t, "POST", "/rng", fmt.Sprintf(`{"count":%d}`, count))
		var out struct{ Value string }
		if err := json.Unmarshal([]byte(answer), &out); err != nil {
			t.Fatalf("%d: %s", count, answer)
		}
		random, err := base64.RawURLEncoding.DecodeString(out.Value)
		switch {
		case !ok && (status != http.StatusBadRequest || !strings.Contains(answer, "count cannot be greater than 128 or less than 1")):
			t.Errorf("%d bytes: %d %s", count, status, answer)
		case ok && (status != http.StatusOK || err != nil || len(random) != count || seen[out.Value]):
			t.Errorf("%d bytes: %d %s", count, status, answer)
		}
		seen[out.Value] = true
	}
	if status, answer := h.do(t, "POST", "/keys/k/create", `{"kty":"EC"}`); status != http.StatusOK || !strings.Contains(answer, `"kty":"EC-HSM"`) {
		t.Errorf("a key of a managed HSM: %d %s", status, answer)
	}
}

// A failing provider makes no keys, and those that it has do not sign.
type failing struct {
	*hsm.Software
	err error
}

func (f failing) Generate(context.Context, hsm.Spec) (hsm.New, error) { return hsm.New{}, f.err }

func (f failing) Open(ctx context.Context, spec hsm.Spec, blob []byte) (hsm.Key, error) {
	key, err := f.Software.Open(ctx, spec, blob)
	return failingKey{key, f.err}, err
}

type failingKey struct {
	hsm.Key
	err error
}

func (k failingKey) Sign(context.Context, hsm.Algorithm, []byte) ([]byte, error) { return nil, k.err }

// TestProviderFails: what goes wrong inside is nobody's business outside, and who comes when it is busy may come again.
func TestProviderFails(t *testing.T) {
	t.Parallel()
	sign := `{"alg":"ES256","value":"` + encode(make([]byte, 32)) + `"}`
	for _, e := range []struct {
		err    error
		status int
		text   string
	}{
		{errors.New("slot 4 with the PIN 1234 is gone"), http.StatusInternalServerError, "InternalServerError"},
		{fmt.Errorf("in slot 4: %w", hsm.ErrBusy), http.StatusTooManyRequests, "Throttled"},
		{context.DeadlineExceeded, http.StatusServiceUnavailable, "in time"},
	} {
		h := newHandlerOn(t, resource.Standard, failing{hsm.NewSoftware(hsm.SoftwareConfig{}), e.err})
		h.importKey(t, "P-256", "EC")
		for path, body := range map[string]string{"/keys/k/create": `{"kty":"EC"}`, "/keys/P-256/sign": sign, "/keys/P-256/rotate": ""} {
			w := h.send(t, "POST", path, h.token, body)
			if w.Code != e.status || !strings.Contains(w.Body.String(), e.text) || strings.Contains(w.Body.String(), "slot") {
				t.Errorf("%s, %v: %d %s", path, e.err, w.Code, w.Body)
			}
			if again := w.Header().Get("Retry-After"); (again != "") != (w.Code == http.StatusTooManyRequests) {
				t.Errorf("%s, %v: Retry-After: %q", path, e.err, again)
			}
		}
	}
}

// A client sends requests to a vault as its administrator and keeps all answers.
type client struct {
	*strongroomtest.Server
	t       *testing.T
	bearer  string
	answers bytes.Buffer
}

func newClient(t *testing.T, opts *strongroomtest.Options) *client {
	s := strongroomtest.Start(t, opts)
	return &client{Server: s, t: t, bearer: "Bearer " + s.Token(t, s.ClientID, s.Secret)}
}

// do returns the status and the answer, nil unless it is a JSON object.
func (c *client) do(method, path, body string) (int, map[string]any) {
	c.t.Helper()
	req, err := http.NewRequest(method, c.VaultURL+path+"?api-version=2026-04-01", strings.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", c.bearer)
	resp, err := c.HTTPClient().Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	fmt.Fprintf(&c.answers, "%s %s: %d %v %s\n", method, path, resp.StatusCode, resp.Header, raw)
	var doc map[string]any
	if len(raw) > 0 && json.Unmarshal(raw, &doc) != nil {
		c.t.Fatalf("%s %s: %s", method, path, raw)
	}
	return resp.StatusCode, doc
}

// must is do for a request that has to succeed.
func (c *client) must(method, path, body string) map[string]any {
	c.t.Helper()
	status, doc := c.do(method, path, body)
	if status >= 300 {
		c.t.Fatalf("%s %s: %d %v", method, path, status, doc)
	}
	return doc
}

// version returns the version of the key in an answer.
func version(doc map[string]any) string {
	kid := doc["key"].(map[string]any)["kid"].(string)
	return kid[strings.LastIndexByte(kid, '/')+1:]
}

// TestKeyOnRecord: the record of a request says which version of the key it came to, whatever its path says.
func TestKeyOnRecord(t *testing.T) {
	t.Parallel()
	c := newClient(t, nil)
	created := c.must("POST", "/keys/K/create", `{"kty":"EC"}`)
	id := c.VaultURL + "/keys/K/" + version(created)
	const sign = `{"alg":"ES256","value":"ZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGQ"}`
	for _, e := range []struct{ method, path, body, id string }{
		{"POST", "/keys/k/sign", sign, id},
		{"POST", "/keys/k//verify", `{"alg":"ES256","digest":"ZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGRkZGQ","value":""}`, id},
		{"POST", "/keys/k/encrypt", `{"alg":"RSA-OAEP","value":"AAAA"}`, id}, // refused
		{"POST", "/keys/k/release", `{"target":"x"}`, id},                    // refused
		{"GET", "/keys/k", "", id},
		{"PATCH", "/keys/k", "{}", id},
		{"GET", "/keys/k/rotationpolicy", "", c.VaultURL + "/keys/K"},
		{"POST", "/keys/none/sign", sign, c.VaultURL + "/keys/none"},
		{"DELETE", "/keys/k", "", id},
		{"GET", "/deletedkeys/k", "", id},
		{"POST", "/deletedkeys/k/recover", "", id},
	} {
		_, _ = c.do(e.method, e.path, e.body)
		log := c.AuditLog(t)
		last := log[len(log)-1]
		if got := last["properties"].(map[string]any)["id"]; got != e.id {
			t.Errorf("%s %s is on record with the id %v, want %s", e.method, e.path, got, e.id)
		}
		if resource, _ := last["resourceId"].(string); !strings.HasSuffix(resource, "/VAULTS/TEST") {
			t.Errorf("%s %s is on record with the resource %s", e.method, e.path, resource)
		}
	}
}

// TestRelease takes a release apart as its recipient would.
func TestRelease(t *testing.T) {
	t.Parallel()
	a := startAuthority(t)
	c := newClient(t, &strongroomtest.Options{Config: a.config()})
	key := testKeys()["P-256"]
	imported := c.must("PUT", "/keys/k", fmt.Sprintf(
		`{"key":{"kty":"EC-HSM",%s},"attributes":{"exportable":true},"release_policy":{"data":%q}}`, key.members(), encode([]byte(a.policy()))))
	for enc, hash := range map[string]crypto.Hash{
		"": crypto.SHA1, "CKM_RSA_AES_KEY_WRAP": crypto.SHA1, "RSA_AES_KEY_WRAP_256": crypto.SHA256, "RSA_AES_KEY_WRAP_384": crypto.SHA384,
	} {
		body := fmt.Sprintf(`{"target":%q,"nonce":"n-1","enc":%q}`, a.token(t, time.Now(), true), enc)
		released := c.must("POST", "/keys/K/release", body)
		var answer struct {
			Request struct {
				APIVersion      string `json:"api-version"`
				Enc, Kid, Nonce string
			}
			Response struct {
				Key struct {
					Key struct {
						Kid, Kty, X, Y string
						KeyHSM         string `json:"key_hsm"`
					}
					Attributes struct{ Exportable bool }
				}
			}
		}
		payload := c.verifyAnswer(released["value"].(string))
		if err := json.Unmarshal(payload, &answer); err != nil {
			t.Fatalf("%v: %s", err, payload)
		}
		said, told := answer.Request, answer.Response.Key
		if said.APIVersion != "2026-04-01" || said.Nonce != "n-1" || said.Kid != c.VaultURL+"/keys/K" || enc != "" && said.Enc != enc {
			t.Errorf("%s: the request is told as %+v", enc, said)
		}
		if told.Key.Kid != c.VaultURL+"/keys/k/"+version(imported) || told.Key.Kty != "EC-HSM" || told.Key.X != key["x"] || told.Key.Y != key["y"] ||
			!told.Attributes.Exportable {
			t.Errorf("%s: the key is told as %+v", enc, told)
		}
		if got := unwrapReleased(t, told.Key.KeyHSM, a.target.rsa(), hash); !bytes.Equal(got, key.pkcs8(t)) {
			t.Errorf("%s: another key was released", enc)
		}
	}
}

// verifyAnswer checks the signature of a release's answer and who made it, and returns its payload.
func (c *client) verifyAnswer(signed string) []byte {
	c.t.Helper()
	jws, err := jose.ParseSignedCompact(signed, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		c.t.Fatal(err)
	}
	pem, err := os.ReadFile(c.CAFile())
	if err != nil {
		c.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	chain, err := jws.Signatures[0].Protected.Certificates(x509.VerifyOptions{Roots: roots, DNSName: "test.vault.localhost"})
	if err != nil {
		c.t.Fatal(err)
	}
	payload, err := jws.Verify(chain[0][0].PublicKey)
	if err != nil {
		c.t.Fatal(err)
	}
	return payload
}

func unwrapReleased(t *testing.T, keyHSM string, target *rsa.PrivateKey, hash crypto.Hash) []byte {
	t.Helper()
	var file struct{ Ciphertext string }
	raw, err := base64.RawURLEncoding.DecodeString(keyHSM)
	if err == nil {
		err = json.Unmarshal(raw, &file)
	}
	if err != nil {
		t.Fatalf("key_hsm: %v", err)
	}
	wrapped, err := base64.RawURLEncoding.DecodeString(file.Ciphertext)
	if err != nil {
		t.Fatal(err)
	}
	out, err := keywrap.UnwrapRSAAES(func(b []byte) ([]byte, error) {
		return target.Decrypt(nil, b, &rsa.OAEPOptions{Hash: hash})
	}, target.Size(), wrapped)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestPrivateMembersStayInside imports keys, has every route work on each of them, sends bodies that are wrong around the
// private members, and looks for these members in all that comes out: answers, audit log, server log.
func TestPrivateMembersStayInside(t *testing.T) {
	t.Parallel()
	a := startAuthority(t)
	c := newClient(t, &strongroomtest.Options{Config: a.config()})
	oct := bytes.Repeat([]byte("A secret key! "), 4)[:32]
	keys := map[string]struct{ kty, members, alg, signAlg, value string }{
		"rsa2048": {"RSA-HSM", testKeys()["rsa2048"].members(), "RSA-OAEP", "RS256", "AAAA"},
		"P-256":   {"EC-HSM", testKeys()["P-256"].members(), "ES256", "ES256", "AAAA"},
		"P-256K":  {"EC-HSM", testKeys()["P-256K"].members(), "ES256K", "ES256K", "AAAA"},
		"oct":     {"oct-HSM", `"k":"` + encode(oct) + `"`, "A256GCM", "HS256", "AAAA"},
	}
	covered := make(map[string]bool)
	for _, name := range []string{"rsa2048", "P-256", "P-256K", "oct"} {
		k := keys[name]
		policy := fmt.Sprintf(`"attributes":{"exportable":true},"release_policy":{"data":%q}`, encode([]byte(a.policy())))
		imported := fmt.Sprintf(`{"key":{"kty":%q,%s},%s}`, k.kty, k.members, policy)
		v := version(c.must("PUT", "/keys/"+name, imported))
		backup := c.must("POST", "/keys/"+name+"/backup", "")["value"].(string)
		use := fmt.Sprintf(`{"alg":%q,"value":%q}`, k.alg, k.value)
		digest := encode(make([]byte, 32))
		bodies := map[keyvault.Operation]string{
			keyvault.KeyCreate: `{"kty":"EC"}`, keyvault.KeyImport: imported, keyvault.KeyUpdate: `{"tags":{"a":"b"}}`,
			keyvault.KeyEncrypt: use, keyvault.KeyDecrypt: use, keyvault.KeyWrap: use, keyvault.KeyUnwrap: use,
			keyvault.KeySign:    fmt.Sprintf(`{"alg":%q,"value":%q}`, k.signAlg, digest),
			keyvault.KeyVerify:  fmt.Sprintf(`{"alg":%q,"digest":%q,"value":%q}`, k.signAlg, digest, digest),
			keyvault.KeyRelease: fmt.Sprintf(`{"target":%q}`, a.token(t, time.Now(), true)),
			keyvault.KeyRestore: fmt.Sprintf(`{"value":%q}`, backup), keyvault.RandomBytes: `{"count":32}`,
			keyvault.KeyRotationPolicySet: `{}`,
		}
		last := []keyvault.Operation{
			keyvault.KeyCreate, keyvault.KeyRotate, keyvault.KeyDelete, keyvault.KeyListDeleted, keyvault.KeyGetDeleted, keyvault.KeyRecover,
			keyvault.KeyDelete, keyvault.KeyPurge, keyvault.KeyRestore,
		}
		run := func(rt api.RouteDoc) {
			path := strings.NewReplacer("{name}", name, "{version}", v).Replace(rt.Pattern)
			for op, body := range bodies {
				if op.Name == rt.Operation {
					_, _ = c.do(rt.Method, path, body)
					return
				}
			}
			_, _ = c.do(rt.Method, path, "")
		}
		routes := slices.DeleteFunc(api.Routes(), func(rt api.RouteDoc) bool { return strings.Contains(rt.Pattern, "secrets") })
		for _, rt := range routes {
			covered[rt.Operation] = true
			if !slices.ContainsFunc(last, func(op keyvault.Operation) bool { return op.Name == rt.Operation }) {
				run(rt)
			}
		}
		for _, op := range last { // what would take the key away
			for _, rt := range routes {
				if rt.Operation == op.Name {
					run(rt)
				}
			}
		}
		c.must("GET", "/keys/"+name+"/"+v, "") // restored
		for _, wrong := range []string{
			imported[:len(imported)-1], imported + imported, strings.Replace(imported, `"kty"`, `"kty":"","kty"`, 1),
			strings.Replace(imported, k.kty, "DSA", 1), strings.Replace(imported, `"d":"`, `"d":"=`, 1), strings.Replace(imported, `"k":"`, `"k":"=`, 1),
			strings.Replace(imported, `"d":`, `"d":5,"D":`, 1), strings.Replace(imported, `"e":"AQAB"`, `"e":"AQ"`, 1),
			strings.Replace(imported, `"d":`, `"key_hsm":"AAAA","d":`, 1), strings.Replace(imported, `"x":"`, `"x":"A`, 1),
			strings.Replace(imported, `"kty"`, `"key_hsm":`+fmt.Sprintf("%q", encode([]byte(imported)))+`,"kty"`, 1),
			fmt.Sprintf(`{"key":{"kty":%q,"key_ops":[%s]}}`, k.kty, strings.ReplaceAll(k.members, `":"`, `","`)),
		} {
			if wrong == imported {
				continue
			}
			if status, doc := c.do("PUT", "/keys/wrong", wrong); status != http.StatusBadRequest {
				t.Errorf("a wrong import was answered with %d %v", status, doc)
			}
		}
	}
	if len(covered) < 20 {
		t.Fatalf("only %d operations on keys are covered", len(covered))
	}
	record, err := os.ReadFile(filepath.Join(c.Dir, "audit", "audit.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	places := map[string]string{"an answer": c.answers.String(), "the audit log": string(record), "the server's log": c.Log()}
	for where, text := range places {
		if len(text) < 1000 {
			t.Fatalf("%s is too short to be searched: %s", where, text)
		}
	}
	secrets := map[string][]byte{"oct k": oct}
	for _, name := range []string{"rsa2048", "P-256", "P-256K"} {
		for _, member := range []string{"d", "p", "q", "dp", "dq", "qi"} {
			if value := testKeys()[name].bytes(member); len(value) > 0 {
				secrets[name+" "+member] = value
			}
		}
	}
	for what, secret := range secrets {
		for _, form := range forms(secret) {
			for where, text := range places {
				if strings.Contains(strings.ToLower(text), strings.ToLower(form)) {
					t.Errorf("%s of a key is in %s", what, where)
				}
			}
		}
	}
	// The search finds what is there.
	public := testKeys()["rsa2048"].bytes("n")
	if !slices.ContainsFunc(forms(public), func(form string) bool { return strings.Contains(places["an answer"], form) }) {
		t.Error("the search does not find the public key")
	}
}

// forms are the ways in which bytes may stand in a text: as they are, as a number, in hex, and in base64, also within
// something longer.
func forms(b []byte) []string {
	out := []string{string(b), hex.EncodeToString(b), new(big.Int).SetBytes(b).String()}
	for _, enc := range []*base64.Encoding{base64.RawURLEncoding, base64.RawStdEncoding} {
		for shift := range 3 {
			text := enc.EncodeToString(append(make([]byte, shift), b...))
			out = append(out, text[2*shift:len(text)-2]) // without the characters that the neighbours share
		}
	}
	return out
}
