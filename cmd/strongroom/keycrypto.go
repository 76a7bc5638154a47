package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"
)

// inputs read arguments that may stand elsewhere: as for az, "@FILE" is what a file holds and "@-" standard input, without
// a line feed at the end.
type inputs struct {
	cmd *cobra.Command

	stdin string // the flag that has taken it
	err   error  // the first
}

func (in *inputs) read(flag, argument string) ([]byte, error) {
	path, elsewhere := strings.CutPrefix(argument, "@")
	if !elsewhere {
		return []byte(argument), nil
	}
	if err := in.take(flag, path); err != nil {
		return nil, err
	}
	content, err := readValue(in.cmd, path)
	return bytes.TrimSuffix(content, []byte("\n")), err
}

// file reads a file, or standard input for "-". Each byte counts.
func (in *inputs) file(flag, path string) ([]byte, error) {
	if err := in.take(flag, path); err != nil {
		return nil, err
	}
	return readInput(in.cmd, path, maxValueFile)
}

// take sees to it that standard input is read once.
func (in *inputs) take(flag, path string) error {
	switch {
	case path != "-":
		return nil
	case in.stdin != "":
		return usagef("--%s and --%s cannot both be standard input", in.stdin, flag)
	}
	in.stdin = flag
	return nil
}

// privateFile is file for what nobody else should see. It says if others can.
func (in *inputs) privateFile(flag, path string) ([]byte, error) {
	content, err := in.file(flag, path)
	if err == nil {
		in.warn(path)
	}
	return content, err
}

// private is read for what nobody else should see.
func (in *inputs) private(flag, argument string) ([]byte, error) {
	content, err := in.read(flag, argument)
	if path, elsewhere := strings.CutPrefix(argument, "@"); elsewhere && err == nil {
		in.warn(path)
	}
	return content, err
}

// warn says it if other users can reach a file.
func (in *inputs) warn(path string) {
	if path == "-" {
		return
	}
	info, err := os.Stat(path)
	if err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(in.cmd.ErrOrStderr(), "strongroom: %s holds a secret, and other users can reach it (mode %04o): chmod 600 %[1]s\n",
			path, info.Mode().Perm())
	}
}

// privatePEM parses a private key. The password is read only now, after the key.
func (in *inputs) privatePEM(content []byte, password string) (privateKey, error) {
	defer clear(content)
	secret, err := in.private("pem-password", password)
	if err != nil {
		return nil, err
	}
	return parsePrivatePEM(content, secret)
}

// bytes reads an argument and decodes it. The first error is kept; after it nothing is read.
func (in *inputs) bytes(flag, argument string, decode func([]byte) ([]byte, error)) []byte {
	if in.err != nil {
		return nil
	}
	text, err := in.read(flag, argument)
	if err != nil {
		in.err = err
		return nil
	}
	out, err := decode(text)
	if err != nil {
		in.err = usagef("--%s: %v", flag, err)
	}
	return out
}

// fromBase64 reads both alphabets, with and without padding, over any number of lines.
func fromBase64(text []byte) ([]byte, error) {
	plain := strings.NewReplacer("-", "+", "_", "/", "\r", "", "\n", "").Replace(string(text))
	out, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(plain, "="))
	if err != nil {
		return nil, errors.New("not base64")
	}
	return out, nil
}

func fromHex(text []byte) ([]byte, error) {
	out, err := hex.DecodeString(string(text))
	if err != nil {
		return nil, errors.New("not hexadecimal")
	}
	return out, nil
}

func asIs(text []byte) ([]byte, error) { return text, nil }

// dataTypes are how plaintext is written: its bytes in base64, or the text itself.
func dataTypes() []string { return []string{"base64", "plaintext"} }

// needed refuses a command without a flag that it cannot do without.
func needed(cmd *cobra.Command, flags ...string) error {
	for _, f := range flags {
		if !cmd.Flags().Changed(f) {
			return usagef("--%s is missing; see %s --help", f, cmd.CommandPath())
		}
	}
	return nil
}

const (
	elsewhereHelp = "; @FILE is a file, @- standard input"

	// visibleHelp is for what is secret: every program of the machine sees a command line.
	visibleHelp = "; others can see it, so better use @FILE, or @- for standard input"
)

// encryption is what encrypt and decrypt have in common.
type encryption struct {
	algorithm, dataType, value, iv, aad, tag string
}

func (e *encryption) register(cmd *cobra.Command, value string) {
	f := cmd.Flags()
	f.StringVarP(&e.algorithm, "algorithm", "a", "", "algorithm, such as RSA-OAEP-256 or A256GCM")
	f.StringVar(&e.value, "value", "", value+elsewhereHelp)
	f.StringVar(&e.dataType, "data-type", "base64", "how the plaintext is written: base64, or plaintext for text as it is")
	f.StringVar(&e.aad, "aad", "", "with AES-GCM: data that is authenticated and not encrypted, hexadecimal")
}

// parse reads the flags. The value is decoded as is said.
func (e *encryption) parse(cmd *cobra.Command, decode func([]byte) ([]byte, error)) (azkeys.KeyOperationParameters, error) {
	var p azkeys.KeyOperationParameters
	if err := needed(cmd, "algorithm", "value"); err != nil {
		return p, err
	}
	algorithm, err := choice("algorithm", e.algorithm, azkeys.PossibleEncryptionAlgorithmValues())
	if err != nil {
		return p, err
	}
	in := inputs{cmd: cmd}
	p = azkeys.KeyOperationParameters{
		Algorithm:                   &algorithm,
		Value:                       in.bytes("value", e.value, decode),
		IV:                          in.bytes("iv", e.iv, fromHex),
		AdditionalAuthenticatedData: in.bytes("aad", e.aad, fromHex),
		AuthenticationTag:           in.bytes("tag", e.tag, fromHex),
	}
	return p, in.err
}

func newKeyEncrypt() *cobra.Command {
	var e encryption
	r := newKeyRef()
	r.out.members = "result"
	cmd := &cobra.Command{
		Use:   "encrypt --name NAME --algorithm ALGORITHM --value VALUE",
		Short: "Encrypt a value with a key",
		Long: `Encrypt encrypts a value with a key. What stands on a command line is seen by every program of the machine and is kept in the
shell's history: give what is secret with --value @- or --value @FILE. A line feed at its end is left out, as az does; give bytes in
base64 to be sure of each.

The result is base64; iv, aad and tag, which decrypt needs with AES-GCM, are hexadecimal.`,
		Example: `  strongroom key encrypt --name box --algorithm RSA-OAEP-256 --value @message.txt --data-type plaintext
  base64 data.bin | strongroom key encrypt --name box --algorithm RSA-OAEP-256 --value @- --query result -o tsv`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			form, err := choice("data-type", e.dataType, dataTypes())
			if err != nil {
				return err
			}
			decode := fromBase64
			if form == "plaintext" {
				decode = asIs
			}
			p, err := e.parse(cmd, decode)
			if err != nil {
				return err
			}
			return r.named(cmd, r.printed(func(ctx context.Context, c keys) (any, error) {
				got, err := c.Encrypt(ctx, r.name, r.version, p, nil)
				return newEncryptionOut(*p.Algorithm, &got.KeyOperationResult), err
			}, "kid", "algorithm", "result", "iv", "tag", "aad"))
		},
	}
	r.registerNamed(cmd, true)
	r.out.register(cmd)
	e.register(cmd, "what to encrypt")
	cmd.Flags().StringVar(&e.iv, "iv", "", "with AES-CBC: initialization vector, hexadecimal; AES-GCM's is made by the service")
	return cmd
}

func newKeyDecrypt() *cobra.Command {
	var e encryption
	r := newKeyRef()
	r.out.members = "result"
	cmd := &cobra.Command{
		Use:   "decrypt --name NAME --algorithm ALGORITHM --value VALUE",
		Short: "Decrypt what was encrypted with a key",
		Example: `  strongroom key decrypt --name box --algorithm RSA-OAEP-256 --value @message.enc --data-type plaintext --query result -o tsv
  strongroom key decrypt --name aes --algorithm A256GCM --value @message.enc --iv 727b26f78e55cf4cd8d34216 --tag f7207d02cead35a77a1c7e5f8af959e9`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			form, err := choice("data-type", e.dataType, dataTypes())
			if err != nil {
				return err
			}
			p, err := e.parse(cmd, fromBase64)
			if err != nil {
				return err
			}
			return r.named(cmd, r.printed(func(ctx context.Context, c keys) (any, error) {
				got, err := c.Decrypt(ctx, r.name, r.version, p, nil)
				if err != nil {
					return nil, err
				}
				out := decryptionOut{Algorithm: *p.Algorithm, KeyID: idOut(got.KID), Result: base64.StdEncoding.EncodeToString(got.Result)}
				if form == "plaintext" {
					if !utf8.Valid(got.Result) {
						return nil, errors.New("the plaintext is not text in UTF-8: take it as --data-type base64")
					}
					out.Result = string(got.Result)
				}
				return out, nil
			}, "kid", "algorithm", "result"))
		},
	}
	r.registerNamed(cmd, true)
	r.out.register(cmd)
	e.register(cmd, "what to decrypt, in base64")
	f := cmd.Flags()
	f.StringVar(&e.iv, "iv", "", "with AES: initialization vector, hexadecimal")
	f.StringVar(&e.tag, "tag", "", "with AES-GCM: authentication tag, hexadecimal")
	return cmd
}

const digestHelp = "digest in base64, made with the algorithm's hash" + elsewhereHelp

func newKeySign() *cobra.Command {
	var algorithm, digest string
	r := newKeyRef()
	r.out.members = "signature"
	cmd := &cobra.Command{
		Use:     "sign --name NAME --algorithm ALGORITHM --digest DIGEST",
		Short:   "Sign a digest with a key",
		Example: "  openssl dgst -sha256 -binary contract.pdf | base64 | strongroom key sign --name signing --algorithm ES256 --digest @-",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needed(cmd, "algorithm", "digest"); err != nil {
				return err
			}
			alg, err := choice("algorithm", algorithm, azkeys.PossibleSignatureAlgorithmValues())
			if err != nil {
				return err
			}
			in := inputs{cmd: cmd}
			p := azkeys.SignParameters{Algorithm: &alg, Value: in.bytes("digest", digest, fromBase64)}
			if in.err != nil {
				return in.err
			}
			return r.named(cmd, r.printed(func(ctx context.Context, c keys) (any, error) {
				got, err := c.Sign(ctx, r.name, r.version, p, nil)
				return signatureOut{Algorithm: alg, KeyID: idOut(got.KID), Signature: got.Result}, err
			}, "keyId", "algorithm", "signature"))
		},
	}
	r.registerNamed(cmd, true)
	r.out.register(cmd)
	f := cmd.Flags()
	f.StringVarP(&algorithm, "algorithm", "a", "", "algorithm, such as ES256 or PS256")
	f.StringVar(&digest, "digest", "", digestHelp)
	return cmd
}

func newKeyVerify() *cobra.Command {
	var algorithm, digest, signature string
	r := newKeyRef()
	r.out.members = "isValid"
	cmd := &cobra.Command{
		Use:   "verify --name NAME --algorithm ALGORITHM --digest DIGEST --signature SIGNATURE",
		Short: "Verify a signature of a digest",
		Long: `Verify verifies a signature of a digest. The answer is the member isValid and not the exit code, as for az: a wrong signature
is false, and the command has done its work.`,
		Example: `  strongroom key verify --name signing --algorithm ES256 --digest @digest.b64 --signature @signature.b64
  test "$(strongroom key verify -n signing -a ES256 --digest @digest.b64 --signature @signature.b64 --query isValid -o tsv)" = true`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := needed(cmd, "algorithm", "digest", "signature"); err != nil {
				return err
			}
			alg, err := choice("algorithm", algorithm, azkeys.PossibleSignatureAlgorithmValues())
			if err != nil {
				return err
			}
			in := inputs{cmd: cmd}
			p := azkeys.VerifyParameters{
				Algorithm: &alg,
				Digest:    in.bytes("digest", digest, fromBase64),
				Signature: in.bytes("signature", signature, fromBase64),
			}
			if in.err != nil {
				return in.err
			}
			return r.named(cmd, r.printed(func(ctx context.Context, c keys) (any, error) {
				got, err := c.Verify(ctx, r.name, r.version, p, nil)
				return verificationOut{Algorithm: alg, IsValid: got.Value, KeyID: r.objectURL()}, err
			}, "keyId", "algorithm", "isValid"))
		},
	}
	r.registerNamed(cmd, true)
	r.out.register(cmd)
	f := cmd.Flags()
	f.StringVarP(&algorithm, "algorithm", "a", "", "algorithm, such as ES256 or PS256")
	f.StringVar(&digest, "digest", "", digestHelp)
	f.StringVar(&signature, "signature", "", "signature in base64"+elsewhereHelp)
	return cmd
}
