package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

const (
	wireKID        = `https://v.vault.localhost:8443/keys/k/0123456789abcdef0123456789abcdef`
	wireAttributes = `"attributes":{"enabled":true,"created":1700000000,"updated":1700000001,"exp":1900000000,"nbf":1600000000,
		"recoveryLevel":"Recoverable+Purgeable","recoverableDays":90,"exportable":false,"hsmPlatform":"0"}`
	wireDeletion = `"recoveryId":"https://v/deletedkeys/k","deletedDate":1700000002,"scheduledPurgeDate":1707776002`
	wireRSA      = `"key":{"kid":"` + wireKID + `","kty":"RSA","key_ops":["encrypt","sign"],"n":"AAECAw","e":"AQAB"},` + wireAttributes + `,"tags":{"a":"b"}`

	azAttributes = `"attributes": {
    "created": "2023-11-14T22:13:20+00:00",
    "enabled": true,
    "expires": "2030-03-17T17:46:40+00:00",
    "exportable": false,
    "hsmPlatform": "0",
    "notBefore": "2020-09-13T12:26:40+00:00",
    "recoverableDays": 90,
    "recoveryLevel": "Recoverable+Purgeable",
    "updated": "2023-11-14T22:13:21+00:00"
  }`
	azRSA = `"key": {
    "crv": null,
    "d": null,
    "dp": null,
    "dq": null,
    "e": "AQAB",
    "k": null,
    "keyOps": [
      "encrypt",
      "sign"
    ],
    "kid": "` + wireKID + `",
    "kty": "RSA",
    "n": "AAECAw==",
    "p": null,
    "q": null,
    "qi": null,
    "t": null,
    "x": null,
    "y": null
  },
  "managed": null`
)

// What az 2.65 prints for the same answers of a service.
func TestKeyShapes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, wire string
		shape      func(t *testing.T, wire string) any
		want       string
	}{
		{"RSA", `{` + wireRSA + `}`, shape(newKeyOut), `{
  ` + azAttributes + `,
  ` + azRSA + `,
  "releasePolicy": null,
  "tags": {
    "a": "b"
  }
}`},
		{"deleted", `{` + wireRSA + `,` + wireDeletion + `}`, shape(newDeletedKeyOut), `{
  ` + azAttributes + `,
  "deletedDate": "2023-11-14T22:13:22+00:00",
  ` + azRSA + `,
  "recoveryId": "https://v/deletedkeys/k",
  "releasePolicy": null,
  "scheduledPurgeDate": "2024-02-12T22:13:22+00:00",
  "tags": {
    "a": "b"
  }
}`},
		{"EC", `{"key":{"kid":"` + wireKID + `","kty":"EC","key_ops":["sign"],"crv":"P-256","x":"_-8","y":"AQ"},
			"attributes":{"enabled":true,"exportable":true},"managed":true,
			"release_policy":{"contentType":"application/json; charset=utf-8","data":"e30","immutable":false}}`, shape(newKeyOut), `{
  "attributes": {
    "created": null,
    "enabled": true,
    "expires": null,
    "exportable": true,
    "hsmPlatform": null,
    "notBefore": null,
    "recoverableDays": null,
    "recoveryLevel": null,
    "updated": null
  },
  "key": {
    "crv": "P-256",
    "d": null,
    "dp": null,
    "dq": null,
    "e": null,
    "k": null,
    "keyOps": [
      "sign"
    ],
    "kid": "` + wireKID + `",
    "kty": "EC",
    "n": null,
    "p": null,
    "q": null,
    "qi": null,
    "t": null,
    "x": "/+8=",
    "y": "AQ=="
  },
  "managed": true,
  "releasePolicy": {
    "contentType": "application/json; charset=utf-8",
    "encodedPolicy": "{}",
    "immutable": false
  },
  "tags": null
}`},
		{"list", `{"kid":"` + wireKID[:len(wireKID)-33] + `",` + wireAttributes + `}`, shape(newKeyItemOut), `{
  ` + azAttributes + `,
  "kid": "https://v.vault.localhost:8443/keys/k",
  "managed": null,
  "name": "k",
  "releasePolicy": null,
  "tags": null
}`},
		{"list of deleted", `{"kid":"` + wireKID[:len(wireKID)-33] + `",` + wireAttributes + `,` + wireDeletion + `}`, shape(newDeletedKeyItemOut), `{
  ` + azAttributes + `,
  "deletedDate": "2023-11-14T22:13:22+00:00",
  "kid": "https://v.vault.localhost:8443/keys/k",
  "managed": null,
  "name": "k",
  "recoveryId": "https://v/deletedkeys/k",
  "releasePolicy": null,
  "scheduledPurgeDate": "2024-02-12T22:13:22+00:00",
  "tags": null
}`},
		{"encryption", `{"kid":"kid","value":"YWJj","iv":"MTI","tag":"_w","aad":"AQI"}`, shape(func(r *azkeys.KeyOperationResult) any {
			return newEncryptionOut(azkeys.EncryptionAlgorithmA256GCM, r)
		}), `{
  "aad": "0102",
  "algorithm": "A256GCM",
  "iv": "3132",
  "kid": "kid",
  "result": "YWJj",
  "tag": "ff"
}`},
		{"encryption with RSA", `{"kid":"kid","value":"YWJj"}`, shape(func(r *azkeys.KeyOperationResult) any {
			return newEncryptionOut(azkeys.EncryptionAlgorithmRSAOAEP, r)
		}), `{
  "aad": null,
  "algorithm": "RSA-OAEP",
  "iv": null,
  "kid": "kid",
  "result": "YWJj",
  "tag": null
}`},
		{"rotation policy", `{"id":"https://v/keys/k/rotationpolicy","lifetimeActions":[{"trigger":{"timeAfterCreate":"P90D"},"action":{"type":"Rotate"}}],
			"attributes":{"expiryTime":"P2Y","created":1700000000,"updated":1700000001}}`, shape(newRotationPolicyOut), `{
  "createdOn": "2023-11-14T22:13:20+00:00",
  "expiresIn": "P2Y",
  "id": "https://v/keys/k/rotationpolicy",
  "lifetimeActions": [
    {
      "action": "Rotate",
      "timeAfterCreate": "P90D",
      "timeBeforeExpiry": null
    }
  ],
  "updatedOn": "2023-11-14T22:13:21+00:00"
}`},
		{"empty rotation policy", `{"id":"i","attributes":{}}`, shape(newRotationPolicyOut), `{
  "createdOn": null,
  "expiresIn": null,
  "id": "i",
  "lifetimeActions": [],
  "updatedOn": null
}`},
	} {
		var got strings.Builder
		if err := printJSON(&got, tc.shape(t, tc.wire)); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tc.want+"\n", got.String()); diff != "" {
			t.Errorf("%s:\n%s", tc.name, diff)
		}
	}
}

// shape decodes an answer as the client does.
func shape[In, Out any](out func(*In) Out) func(t *testing.T, wire string) any {
	return func(t *testing.T, wire string) any {
		t.Helper()
		in := new(In)
		if err := json.Unmarshal([]byte(wire), in); err != nil {
			t.Fatal(err)
		}
		return out(in)
	}
}

func TestCreatedType(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		kty, curve, protection string
		want                   azkeys.KeyType // empty: refused
	}{
		{"", "", "", "RSA"},
		{"", "P-256", "", "EC"},
		{"", "", "hsm", "RSA-HSM"},
		{"", "P-521", "hsm", "EC-HSM"},
		{"rsa-hsm", "", "hsm", "RSA-HSM"},
		{"OCT", "", "", "oct"},
		{"oct", "", "hsm", "oct-HSM"},
		{"EC", "", "software", "EC"},
		{"EC-HSM", "", "software", ""},
		{"DSA", "", "", ""},
	} {
		if got, err := createdType(tc.kty, tc.curve, tc.protection); got != tc.want || (err == nil) != (tc.want != "") {
			t.Errorf("%+v: %q, %v", tc, got, err)
		}
	}
}

// One policy in each spelling that az takes.
func TestRotationPolicy(t *testing.T) {
	t.Parallel()
	want := azkeys.KeyRotationPolicy{
		Attributes: &azkeys.KeyRotationPolicyAttributes{ExpiryTime: new("P2Y")},
		LifetimeActions: []*azkeys.LifetimeAction{
			{
				Action:  &azkeys.LifetimeActionType{Type: new(azkeys.KeyRotationPolicyActionRotate)},
				Trigger: &azkeys.LifetimeActionTrigger{TimeAfterCreate: new("P90D")},
			},
			{
				Action:  &azkeys.LifetimeActionType{Type: new(azkeys.KeyRotationPolicyActionNotify)},
				Trigger: &azkeys.LifetimeActionTrigger{TimeBeforeExpiry: new("P30D")},
			},
		},
	}
	for name, text := range map[string]string{
		"as on the wire": `{"id":"x","lifetimeActions":[{"trigger":{"timeAfterCreate":"P90D","timeBeforeExpiry":null},"action":{"type":"Rotate"}},
			{"trigger":{"timeBeforeExpiry":"P30D"},"action":{"type":"Notify"}}],"attributes":{"expiryTime":"P2Y","created":1,"updated":2}}`,
		"as az prints": `{"createdOn":"2023-11-14T22:13:20+00:00","expiresIn":"P2Y","id":"x","updatedOn":null,"lifetimeActions":[
			{"action":"Rotate","timeAfterCreate":"P90D","timeBeforeExpiry":null},{"action":"Notify","timeAfterCreate":null,"timeBeforeExpiry":"P30D"}]}`,
		"with underscores": `{"lifetime_actions":[{"trigger":{"time_after_create":"P90D"},"action":{"type":"rotate"}},
			{"time_before_expiry":"P30D","action":"notify"}],"attributes":{"expires_in":"P2Y"}}`,
		"without attributes": `{"expiry_time":"P2Y","lifetimeActions":[{"timeAfterCreate":"P90D","action":{"type":"Rotate"}},
			{"timeBeforeExpiry":"P30D","action":{"type":"Notify"}}]}`,
	} {
		got, err := parseRotationPolicy(json.RawMessage(text))
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v\n%s", name, err, diff)
		}
	}
	for _, text := range []string{
		`{"lifetimeAction":[]}`,
		`{"lifetimeActions":[{"tigger":{"timeAfterCreate":"P90D"},"action":{"type":"Rotate"}}]}`,
		`{"lifetimeActions":[{"trigger":{"timeAfter":"P90D"},"action":{"type":"Rotate"}}]}`,
		`{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P90D"},"action":{"typ":"Rotate"}}]}`,
		`{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P90D"},"action":{"type":"Burn"}}]}`,
		`{"lifetimeActions":[{"trigger":{"timeAfterCreate":"P90D"}}]}`,
		`{"lifetimeActions":[{"trigger":{"timeAfterCreate":90},"action":"Rotate"}]}`,
		`{"expiresIn":"P2Y","expires_in":"P3Y"}`,
		`{"attributes":{"expiry":"P2Y"}}`,
	} {
		if got, err := parseRotationPolicy(json.RawMessage(text)); err == nil {
			t.Errorf("%s: %+v", text, got)
		}
	}
}

// A command that reads from here.
func commandWith(t *testing.T, stdin string) *cobra.Command {
	t.Helper()
	cmd := &cobra.Command{}
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetErr(new(bytes.Buffer))
	return cmd
}

func TestInputs(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("content\n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ argument, want string }{
		{"plain", "plain"},
		{"", ""},
		{"plain\n", "plain\n"},
		{"@" + file, "content\n"},
		{"@-", "from here"},
	} {
		in := inputs{cmd: commandWith(t, "from here\n")}
		if got, err := in.read("value", tc.argument); err != nil || string(got) != tc.want {
			t.Errorf("%q: %q, %v", tc.argument, got, err)
		}
	}

	in := inputs{cmd: commandWith(t, "AAEC")}
	if got := in.bytes("digest", "@-", fromBase64); !bytes.Equal(got, []byte{0, 1, 2}) || in.err != nil {
		t.Errorf("%x, %v", got, in.err)
	}
	if got := in.bytes("signature", "@-", fromBase64); got != nil || in.err == nil || !strings.Contains(in.err.Error(), "--digest and --signature") {
		t.Errorf("standard input was read twice: %x, %v", got, in.err)
	}
	if got := in.bytes("iv", "00", fromHex); got != nil {
		t.Errorf("read on after an error: %x", got)
	}
	in = inputs{cmd: commandWith(t, "")}
	if in.bytes("value", "@"+file+".not", asIs); in.err == nil {
		t.Error("a file that is not there was read")
	}
}

func TestFromBase64(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"+/8AAA==", "-_8AAA", "-_8AAA==", "+/8A\r\nAA==\n"} {
		if got, err := fromBase64([]byte(text)); err != nil || !bytes.Equal(got, []byte{0xfb, 0xff, 0, 0}) {
			t.Errorf("%q: %x, %v", text, got, err)
		}
	}
	for _, text := range []string{"A", "A=A=", "grün", "AA AA"} {
		if got, err := fromBase64([]byte(text)); err == nil {
			t.Errorf("%q: %x", text, got)
		}
	}
}

func TestReadPolicy(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(file, []byte("{\n  \"version\": \"1.0.0\"\n}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const want = `{"version":"1.0.0"}`
	for _, argument := range []string{file, "@" + file, "@-", `{"version": "1.0.0"}`, ` {"version":"1.0.0"} `} {
		got, err := readPolicy(commandWith(t, want), "policy", argument)
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v", argument, got, err)
		}
	}
	for _, argument := range []string{"", file + ".not", "[]", `{"version":}`, `"x"`, dir} {
		if got, err := readPolicy(commandWith(t, ""), "policy", argument); err == nil {
			t.Errorf("%s: %s", argument, got)
		}
	}
}

// Wrong usage is told before anything is asked of a server: none runs here.
func TestKeyUsage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pem := filepath.Join(dir, "key.pem")
	if err := os.WriteFile(pem, []byte(koblitzPKCS8), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ args, want string }{
		{"create", "--name is missing: which key?"},
		{"create -n k --kty DSA", "--kty DSA: there are EC, EC-HSM, oct"},
		{"create -n k --curve P-224", "--curve P-224: there are"},
		{"create -n k --kty EC-HSM --protection software", "is the hardware's"},
		{"create -n k --protection steel", "--protection steel: there are software, hsm"},
		{"create -n k --ops sing", "--ops sing: there are encrypt"},
		{"create -n k --immutable", "give --policy too"},
		{"create -n k --policy nothing.json", "neither a file nor a JSON object"},
		{"create -n k --expires tomorrow", "not a time in UTC"},
		{"create -n k --output yaml", "there are json, table and tsv"},
		{"create k", `did you mean --name k?`},
		{"import -n k", "exactly one of --pem-file"},
		{"import -n k --pem-file a --byok-file b", "exactly one of --pem-file"},
		{"import -n k --byok-file a --pem-password b", "--pem-password goes with PEM"},
		{"import -n k --byok-file a --protection software", "is the hardware's"},
		{"import -n k --byok-file a --kty EC", "--curve is for --kty EC"},
		{"import -n k --byok-file a --curve P-256", "--curve is for --kty EC"},
		{"import -n k --byok-file a --kty DSA", "there are RSA, EC, oct"},
		{"import -n k --kty RSA --pem-file " + pem, "the PEM holds a key of type EC"},
		{"import -n k --curve P-256 --pem-file " + pem, "the PEM holds another key"},
		{"set-attributes -n k --immutable", "give --policy too"},
		{"set-attributes -n k", "nothing is to be changed: give --enabled, --expires"},
		{"show --id https://v.example/secrets/k", "is not the URL of a key: https://<vault>/keys/"},
		{"download -n k", "--file is missing"},
		{"download -n k --file f --encoding JWK", "--encoding JWK: there are PEM, DER"},
		{"encrypt -n k --value YQ==", "--algorithm is missing"},
		{"encrypt -n k -a RSA-OAEP", "--value is missing"},
		{"encrypt -n k -a ROT13 --value YQ==", "--algorithm ROT13: there are"},
		{"encrypt -n k -a RSA-OAEP --value !", "--value: not base64"},
		{"encrypt -n k -a A256CBC --value YQ== --iv xy", "--iv: not hexadecimal"},
		{"encrypt -n k -a RSA-OAEP --value x --data-type hex", "--data-type hex: there are base64, plaintext"},
		{"decrypt -n k -a RSA-OAEP --value !", "--value: not base64"},
		{"sign -n k -a ES256", "--digest is missing"},
		{"sign -n k -a XS256 --digest YQ==", "--algorithm XS256: there are ES256"},
		{"verify -n k -a ES256 --digest YQ==", "--signature is missing"},
		{"verify -n k -a ES256 --digest YQ== --signature !", "--signature: not base64"},
		{"backup -n k", "--file is missing"},
		{"restore", "--file is missing"},
		{"random", "--count is missing"},
		{"rotation-policy update -n k", "--value is missing"},
		{"rotation-policy update -n k --value {}x", "neither a file nor a JSON object"},
		{`rotation-policy update -n k --value {"lifetimeAction":[]}`, "not a rotation policy"},
		{"rotation-policy", ""},
		{"byok-wrap --out x", "--kek-file is missing"},
		{"list --maxresults -1", "is not a number of results"},
	} {
		args := append([]string{"key"}, strings.Fields(tc.args)...)
		if !strings.Contains(tc.args, "byok-wrap") && tc.want != "" {
			args = append(args, "--data", dir)
		}
		var stdout, stderr strings.Builder
		code := run(context.Background(), args, strings.NewReader(""), &stdout, &stderr)
		want := exitUsage
		if tc.want == "" {
			want = exitOK
		}
		if code != want || !strings.Contains(stderr.String(), tc.want) {
			t.Errorf("%s: exit code %d, %s", tc.args, code, &stderr)
		}
	}
}

func TestPolicyTemplate(t *testing.T) {
	t.Parallel()
	code, stdout, _ := runHere(t.Context(), "key", "get-policy-template")
	const want = `{
  "anyOf": [
    {
      "allOf": [
        {
          "claim": "<claim name>",
          "equals": "<value to match>"
        }
      ],
      "authority": "<issuer>"
    }
  ],
  "version": "1.0.0"
}
`
	if diff := cmp.Diff(want, stdout); code != exitOK || diff != "" {
		t.Errorf("exit code %d\n%s", code, diff)
	}
}
