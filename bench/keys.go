package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// A keyVault is an installation whose vault has the keys of the run, and as many keys on P-256 as secrets.
type keyVault struct {
	*installation
	versions map[string]string // by the name of a key
}

// newKeyVault starts a server of a build and gives it the keys.
func (b *benchmark) newKeyVault(ctx context.Context, by build, name string, m *material) (*keyVault, error) {
	i, err := b.filled(ctx, by, name, fewSecrets)
	if err != nil {
		return nil, err
	}
	v := &keyVault{i, make(map[string]string)}
	if err = v.importAll(ctx, m); err == nil {
		err = v.createMany(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, i.stop())
	}
	return v, nil
}

func (v *keyVault) importAll(ctx context.Context, m *material) error {
	keys, err := m.all()
	if err != nil {
		return err
	}
	for name, key := range keys {
		body, err := json.Marshal(map[string]any{"key": key})
		if err != nil {
			return err
		}
		a, err := v.sampleAnswer(ctx, v.request(http.MethodPut, keyPath(name), string(body)))
		if err != nil {
			return fmt.Errorf("importing %s: %w", name, err)
		}
		var bundle keyAnswer
		if err := json.Unmarshal(a.Body, &bundle); err != nil {
			return err
		}
		v.versions[name] = bundle.Key.ID[strings.LastIndexByte(bundle.Key.ID, '/')+1:]
	}
	return nil
}

func (v *keyVault) createMany(ctx context.Context) error {
	conn, err := v.server.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	buf := make([]byte, maxAnswer)
	for n := range v.count {
		if _, err := conn.Write(v.createRequest(keyNumber(n), ecKind).raw); err != nil {
			return err
		}
		if _, err := readAnswer(conn, buf); err != nil {
			return fmt.Errorf("creating keys: %w", err)
		}
	}
	return nil
}

// keyNumber is one of many keys on P-256.
func keyNumber(n int) string { return fmt.Sprintf("key-%0*d", digits, n) }

// ecKind asks for such a key.
const ecKind = `{"kty":"EC","crv":"P-256"}`

// keyPath joins the segments behind /keys/.
func keyPath(segments ...string) string {
	return "/keys/" + strings.Join(segments, "/") + "?api-version=" + apiVersion
}

func (v *keyVault) createRequest(name, kind string) template {
	return v.request(http.MethodPost, keyPath(name, "create"), kind)
}

func (v *keyVault) keyRequest() template { return v.request(http.MethodGet, keyPath(keyNumber(0)), "") }

// A keyUse is a request about a key.
type keyUse struct {
	name    string // for people
	request func(*keyVault) template
	check   func(keyAnswer) error // whether an answer is right

	alone   *primitive // what the server computes with the key; nil if that hardly costs anything
	bare    *figure    // of the bare handler with answers of about this length, or nil
	measure bool       // the bare handler is measured with this very answer
}

// using is a use of one key. It names the key's version, as clients do who have seen the key or its use once.
func using(key, verb, alg string, value []byte, check func(keyAnswer) error) keyUse {
	return usingBody(key, verb, alg, fmt.Sprintf(`{"alg":%q,"value":%q}`, alg, encode(value)), check)
}

func verifying(key, alg string, digest, signature []byte) keyUse {
	body := fmt.Sprintf(`{"alg":%q,"digest":%q,"value":%q}`, alg, encode(digest), encode(signature))
	return usingBody(key, "verify", alg, body, isTrue)
}

func usingBody(key, verb, alg, body string, check func(keyAnswer) error) keyUse {
	return keyUse{name: fmt.Sprintf("%s %s, %s", verb, alg, key), check: check, request: func(v *keyVault) template {
		return v.request(http.MethodPost, keyPath(key, v.versions[key], verb), body)
	}}
}

// A keyAnswer is what the server returns: a key, or what a key has computed. The value is base64url, but with verify a truth.
type keyAnswer struct {
	Key struct {
		ID string `json:"kid"`
	} `json:"key"`
	Value json.RawMessage `json:"value"`
	IV    octets          `json:"iv"`
	Tag   octets          `json:"tag"`
}

func (a keyAnswer) bytes() ([]byte, error) {
	var value octets
	err := json.Unmarshal(a.Value, &value)
	return value, err
}

// checked applies check to the value.
func checked(check func(value []byte) error) func(keyAnswer) error {
	return func(a keyAnswer) error {
		value, err := a.bytes()
		if err != nil {
			return err
		}
		return check(value)
	}
}

func isTrue(a keyAnswer) error {
	if string(a.Value) != "true" {
		return fmt.Errorf("the signature is said to be %s", a.Value)
	}
	return nil
}

func isKey(a keyAnswer) error {
	if a.Key.ID == "" {
		return errors.New("there is no key in it")
	}
	return nil
}

func equal(got, want []byte) error {
	if !bytes.Equal(got, want) {
		return fmt.Errorf("it has %d bytes, and not the %d that were expected", len(got), len(want))
	}
	return nil
}

// try sends the request of a use and looks at the answer as the load does not.
func (v *keyVault) try(ctx context.Context, u keyUse) (answer, error) {
	a, err := v.sampleAnswer(ctx, u.request(v))
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", u.name, err)
	}
	var got keyAnswer
	if err := json.Unmarshal(a.Body, &got); err != nil {
		return answer{}, fmt.Errorf("%s: %w", u.name, err)
	}
	if err := u.check(got); err != nil {
		return answer{}, fmt.Errorf("%s: the answer is wrong: %w", u.name, err)
	}
	return a, nil
}

// A keyRow is what a use has given on one build of the server.
type keyRow struct {
	keyUse
	build  build
	figure figure
}

// keyBench is what the cases of keys share, and what they give.
type keyBench struct {
	*material
	vault  *keyVault // on the server as it is by default
	tagged *keyVault // on one with the tag openssl, or nil

	program string // openssl's path, or ""
	version string // its own name for itself
	missing string // what a server with the tag openssl lacks here

	rows       []*keyRow
	primitives []*primitive
	sync       figure // one write and fdatasync at a time
	making     []making

	// Of the bare handler, with the answers of RS256 by RSA-2048, ES256, A256KW, A256GCM, and key GET.
	bareRSA, bareEC, bareWrap, bareEncrypt, bareGet figure
}

// keys prepares what the cases of keys need, when the first of them runs.
func (b *benchmark) keys(ctx context.Context) (*keyBench, error) {
	if b.keyBench != nil {
		return b.keyBench, nil
	}
	k := new(keyBench)
	var err error
	if k.material, err = newMaterial(); err != nil {
		return nil, err
	}
	if k.program, k.version, err = findOpenSSL(ctx); err != nil {
		return nil, err
	}
	if k.vault, err = b.newKeyVault(ctx, b.build, "keys", k.material); err != nil {
		return nil, err
	}
	b.keyBench = k
	return k, nil
}

// tag starts a server with the tag openssl, too, if this machine can build one.
func (b *benchmark) tag(ctx context.Context, k *keyBench) error {
	if b.build.tagged {
		return nil
	}
	b.say("building a server with the tag %s", opensslTag)
	tagged, missing, err := buildWithOpenSSL(ctx, b.dir)
	if k.missing = missing; missing != "" {
		b.say("left out: %s", missing)
	}
	if missing != "" || err != nil {
		return err
	}
	k.tagged, err = b.newKeyVault(ctx, tagged, "keys-"+opensslTag, k.material)
	return err
}

// stop ends the servers.
func (k *keyBench) stop() error {
	var errs []error
	for _, v := range []*keyVault{k.vault, k.tagged} {
		if v != nil {
			errs = append(errs, v.stop())
		}
	}
	return errors.Join(errs...)
}

// compareKeys measures a case: its uses on each build on which they may differ, the bare handler and the other limits.
func (b *benchmark) compareKeys(ctx context.Context, c *keyCase) (err error) {
	contenders, answers := c.limits, make(map[string]answer)
	for _, v := range []*keyVault{c.vault, c.tagged} {
		for _, u := range c.uses {
			if v == nil || v == c.tagged && (u.alone == nil || !u.alone.shared) {
				continue
			}
			a, err := v.try(ctx, u)
			if err != nil {
				return err
			}
			if v == c.vault && u.measure {
				answers[u.request(v).path()] = a
			}
			row := &keyRow{keyUse: u, build: v.build}
			c.rows = append(c.rows, row)
			contenders = append(contenders, against(&row.figure, v.server, dialRaw(v.server, u.request(v)), readers))
		}
	}
	bare, err := startProcess(ctx, b.build, "bare", task{Answers: answers})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, bare.stop()) }()
	for _, u := range c.uses {
		if u.measure {
			contenders = append(contenders, against(u.bare, bare, dialRaw(bare, u.request(c.vault)), readers))
		}
	}
	return b.compare(ctx, c.name, contenders...)
}
