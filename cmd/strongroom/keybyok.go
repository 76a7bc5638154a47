package main

import (
	"crypto"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/keywrap"
	"github.com/strongroom/strongroom/internal/server"
)

func newKeyBYOKWrap() *cobra.Command {
	var (
		w   byokWrapping
		out string
	)
	cmd := &cobra.Command{
		Use:   "byok-wrap --kek-file FILE --kek-id URL --key-file FILE --out FILE",
		Short: "Wrap a key of your own for one vault, without reaching it",
		Long: `Byok-wrap wraps a private key so that one vault can take it in and nobody else can read it, as Azure's "bring your own key" does:
with CKM_RSA_AES_KEY_WRAP of PKCS#11, for a key exchange key of the vault. It needs no network, so that the key never has to be
on a machine that has one:

  strongroom key create --name kek --kty RSA-HSM --size 4096 --ops import
  strongroom key show --name kek > kek.json         # to be carried to the other machine
  strongroom key byok-wrap --kek-file kek.json --key-file own.pem --out own.byok
  strongroom key import --name own --byok-file own.byok --kty RSA

What it writes is not secret. But who can swap the file of the key exchange key for one with a key of his own can read what is wrapped with
it: see to it that the file is the vault's.`,
		Example: `  strongroom key byok-wrap --kek-file kek.pem --kek-id https://demo.vault.localhost:8443/keys/kek/0123456789abcdef0123456789abcdef --key-file own.pem --out own.byok
  strongroom key byok-wrap --kek-file kek.json --oct-file aes.key --out aes.byok`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needed(cmd, "kek-file", "out"); err != nil {
				return err
			}
			blob, err := w.wrap(cmd)
			if err != nil {
				return err
			}
			if out == "-" {
				_, err := cmd.OutOrStdout().Write(blob)
				return err
			}
			return writeNewFile(out, blob)
		},
	}
	f := cmd.Flags()
	f.StringVar(&w.kekFile, "kek-file", "", `public part of the key exchange key: PEM from "key download", a JWK, or what "key show" prints`)
	f.StringVar(&w.kekID, "kek-id", "", "URL of the key exchange key with its version (default what the file says)")
	f.StringVar(&w.keyFile, "key-file", "", "file with the private key in PEM: PKCS#8, PKCS#1 or SEC 1; - is standard input")
	f.StringVar(&w.octFile, "oct-file", "", "file with the bytes of a symmetric key; - is standard input")
	registerPassword(cmd, &w.password)
	f.StringVar(&out, "out", "", "new file; - is standard output")
	cmd.MarkFlagsMutuallyExclusive("key-file", "oct-file")
	cmd.MarkFlagsMutuallyExclusive("pem-password", "oct-file")
	return cmd
}

type byokWrapping struct {
	kekFile, kekID             string
	keyFile, octFile, password string
}

// wrap returns the transfer file.
func (w *byokWrapping) wrap(cmd *cobra.Command) ([]byte, error) {
	if fips140.Enforced() {
		return nil, errors.New("bring your own key is wrapped with SHA-1 in OAEP, which GODEBUG=fips140=only forbids: run the command " +
			`without; a vault that runs with it does not take such files either, but "strongroom key import --pem-file"`)
	}
	in := inputs{cmd: cmd}
	kek, err := w.kek(&in)
	if err != nil {
		return nil, err
	}
	target, err := w.target(&in)
	if err != nil {
		return nil, err
	}
	defer clear(target)
	wrapped, err := keywrap.WrapRSAAES(kek.key, crypto.SHA1, target)
	if err != nil {
		return nil, err
	}
	return keywrap.TransferBlob{KeyID: kek.id, Generator: "strongroom " + server.Version(), Ciphertext: wrapped}.Marshal()
}

// An exchangeKey is the public part of a key exchange key.
type exchangeKey struct {
	key *rsa.PublicKey
	id  string   // "" if the file does not say
	ops []string // nil if the file does not say
}

// kek reads the key exchange key and refuses one that the vault would not unwrap with, or could not find.
func (w *byokWrapping) kek(in *inputs) (*exchangeKey, error) {
	raw, err := in.file("kek-file", w.kekFile)
	if err != nil {
		return nil, err
	}
	kek, err := parseKEK(raw)
	if err != nil {
		return nil, fmt.Errorf("--kek-file %s: %w", w.kekFile, err)
	}
	if err := checkRSA(kek.key); err != nil {
		return nil, fmt.Errorf("the key exchange key %w", err)
	}
	if kek.ops != nil && !slices.Contains(kek.ops, string(azkeys.KeyOperationImport)) {
		return nil, fmt.Errorf("--kek-file %s: the key is not for keys to be imported with: create one with --ops import", w.kekFile)
	}
	switch {
	case kek.id == "":
		kek.id = w.kekID
	case w.kekID != "" && !strings.EqualFold(strings.TrimSuffix(w.kekID, "/"), strings.TrimSuffix(kek.id, "/")):
		return nil, usagef("--kek-id %s: the file has the key %s", w.kekID, kek.id)
	}
	return kek, checkKEKID(kek.id)
}

// checkKEKID refuses what is not the URL of a version of a key.
func checkKEKID(id string) error {
	if id == "" {
		return usagef("--kek-id is missing: what is the key exchange key's URL? (key.kid in what key show prints)")
	}
	u, err := url.Parse(id)
	if err != nil || u.Scheme != "https" || u.Host == "" || u.RawQuery != "" {
		return usagef("--kek-id %s is not the https URL of a key", id)
	}
	if parts := strings.Split(strings.Trim(u.Path, "/"), "/"); len(parts) != 3 || parts[0] != "keys" {
		return usagef("--kek-id %s is not the URL of a version of a key: https://<vault>/keys/<name>/<version>", id)
	}
	return nil
}

// octSizes are how many bytes symmetric keys of vaults have.
func octSizes() []int { return []int{16, 24, 32, 48, 64} }

// target is the key that is wrapped: PKCS#8, or the bytes of a symmetric one.
func (w *byokWrapping) target(in *inputs) ([]byte, error) {
	switch {
	case w.octFile != "":
		return w.symmetric(in)
	case w.keyFile == "":
		return nil, usagef("which key? give --key-file or --oct-file")
	}
	content, err := in.privateFile("key-file", w.keyFile)
	if err != nil {
		return nil, err
	}
	key, err := in.privatePEM(content, w.password)
	if err != nil {
		return nil, fmt.Errorf("--key-file %s: %w", w.keyFile, err)
	}
	return marshalPKCS8(key)
}

func (w *byokWrapping) symmetric(in *inputs) ([]byte, error) {
	key, err := in.privateFile("oct-file", w.octFile)
	if err != nil {
		return nil, err
	}
	if !slices.Contains(octSizes(), len(key)) {
		return nil, fmt.Errorf("--oct-file %s holds %d bytes: a symmetric key has %v, as they are and not as text", w.octFile, len(key), octSizes())
	}
	return key, nil
}

// parseKEK reads an RSA public key: PEM, a JWK, or a JWK in what the key commands print. JSON may say its URL and its operations.
func parseKEK(raw []byte) (*exchangeKey, error) {
	if block, _ := pem.Decode(raw); block != nil {
		key, err := parsePublicRSA(block)
		return &exchangeKey{key: key}, err
	}
	type jwk struct {
		Kty, Kid, N, E string
		Ops            []string `json:"key_ops"`
		OpsOut         []string `json:"keyOps"` // as the key commands print it
	}
	var file struct {
		jwk
		Key *jwk
	}
	if err := json.Unmarshal(raw, &file); err != nil {
		return nil, errors.New("neither PEM nor JSON")
	}
	k := &file.jwk
	if file.Key != nil {
		k = file.Key
	}
	if strings.TrimSuffix(k.Kty, hsmSuffix) != "RSA" {
		return nil, fmt.Errorf("a key of type %q: a key exchange key is of type RSA-HSM", k.Kty)
	}
	n, err1 := fromBase64([]byte(k.N))
	e, err2 := fromBase64([]byte(k.E))
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("its n or e is %w", err)
	}
	key, err := newPublicRSA(n, e)
	if k.Ops == nil {
		k.Ops = k.OpsOut
	}
	return &exchangeKey{key, k.Kid, k.Ops}, err
}

func parsePublicRSA(block *pem.Block) (*rsa.PublicKey, error) {
	switch block.Type {
	case "PUBLIC KEY":
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if key, ok := key.(*rsa.PublicKey); ok {
			return key, nil
		}
		return nil, fmt.Errorf("a key exchange key is an RSA key, not a %T", key)
	case "RSA PUBLIC KEY":
		return x509.ParsePKCS1PublicKey(block.Bytes)
	}
	return nil, fmt.Errorf("PEM of type %s: the public part is needed, as key download writes it", block.Type)
}
