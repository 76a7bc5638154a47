package e2e

import (
	"context"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A language is one in which the official clients are run.
type language struct {
	name       string   // as `strongroom env --for` knows it
	credential []string // the program that only opens the vault
}

func languages(t *testing.T) []language {
	t.Helper()
	return []language{
		{"go", goClient("TestCredential")},
		{"python", pythonClient(t, "test_credential.py")},
		{"node", nodeClient("credential.test.js")},
		{"java", javaClient(t, "Credential")},
	}
}

// A suite is a program that goes through many operations.
type suite struct {
	name     string
	language string // as `strongroom env --for` knows it
	program  []string
}

// suites are the programs of a kind, such as "Secrets" or "Keys": one for each official client that we run. Python has two, and
// Java none for releases.
func suites(t *testing.T, kind string) []suite {
	t.Helper()
	file := strings.ToLower(kind)
	all := []suite{
		{"go", "go", goClient("Test" + kind)},
		{"python", "python", pythonClient(t, "test_"+file+".py")},
		{"python-async", "python", pythonClient(t, "test_"+file+"_async.py")},
		{"node", "node", nodeClient(file + ".test.js")},
	}
	if _, err := os.Stat(filepath.Join("clients/java", kind+".java")); err == nil {
		all = append(all, suite{"java", "java", javaClient(t, kind)})
	}
	return all
}

func goClient(test string) []string {
	return []string{program(goClientProgram), "-test.v", "-test.count=1", "-test.run=^" + test + "$"}
}

func pythonClient(t *testing.T, script string) []string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("clients/python", script))
	if err != nil {
		t.Fatal(err)
	}
	return []string{toolProgram(t, "python", "python"), path}
}

// toolProgram is a program of what was installed as a tool.
func toolProgram(t *testing.T, tool, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../.tools", tool, "bin", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func javaClient(t *testing.T, class string) []string {
	t.Helper()
	packages, err := javaPackages()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"java", "-cp", packages + ":" + program(javaFolder), class}
}

// dotnetSuffix is where the client for .NET looks for vaults, which cannot be changed.
const dotnetSuffix = "vault.azure.net"

// dotnetClient is a program of Microsoft's, made with the official clients for .NET, that only opens a vault.
func dotnetClient(t *testing.T, vault string) []string {
	t.Helper()
	found, err := filepath.Glob("../.tools/dotnet/node_modules/@azure/mcp-linux-*/dist/azmcp")
	if err != nil || len(found) != 1 {
		t.Fatalf("the program made with the clients for .NET: %q, %v", found, err)
	}
	path, err := filepath.Abs(found[0])
	if err != nil {
		t.Fatal(err)
	}
	const script = `export AZURE_TOKEN_CREDENTIALS="$E2E_CREDENTIAL" AZURE_MCP_COLLECT_TELEMETRY=false
exec "$0" keyvault secret create --subscription "$1" --vault "$2" --secret "$E2E_SECRET_NAME" --value 'from .NET'`
	return []string{"sh", "-c", script, path, "00000000-0000-0000-0000-000000000000", vault} // it asks for a subscription and does not use it
}

func nodeClient(script string) []string {
	return []string{"node", "--test-reporter=spec", filepath.Join(program(nodeFolder), script)}
}

// A clientRun is one client program in the environment that `strongroom env` makes, changed as a user would change it.
type clientRun struct {
	server     *server
	language   string
	credential string            // for strongroom env --credential
	set        map[string]string // exported after that; an empty value unsets
	program    []string
}

// do runs the program and fails if it fails.
func (r clientRun) do(t *testing.T) {
	t.Helper()
	out, err := r.output(t)
	if err != nil {
		t.Errorf("%s: %v", filepath.Base(r.program[len(r.program)-1]), err)
	}
	t.Logf("%s", out)
}

// output runs the program in a shell.
func (r clientRun) output(t *testing.T) ([]byte, error) {
	t.Helper()
	script := new(strings.Builder)
	// A failure inside eval "$(…)" would go unseen.
	fmt.Fprintf(script, "set -eu\nvars=$(%s)\neval \"$vars\"\n", shellWords(append([]string{
		program(strongroomProgram), "env", "--for", r.language, "--credential", r.credential,
	}, r.server.place...)))
	for name, value := range r.set {
		if value == "" {
			fmt.Fprintf(script, "unset %s\n", name)
		} else {
			fmt.Fprintf(script, "export %s\n", shellWords([]string{name + "=" + value}))
		}
	}
	fmt.Fprintf(script, "exec %s\n", shellWords(r.program))
	return shell(t, "", script.String())
}

// shell runs a script in a new shell in a folder.
func shell(t *testing.T, dir, script string) ([]byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = dir
	cmd.Env = cleanEnvironment(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd.CombinedOutput()
}

// shellWords quotes for sh.
func shellWords(words []string) string {
	quoted := make([]string, len(words))
	for i, word := range words {
		quoted[i] = "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
	}
	return strings.Join(quoted, " ")
}

// stranger is an application that no vault knows.
type stranger struct{ clientID, objectID, secret string }

// runSuites lets the official clients go through the operations of a kind, each with two vaults of its own and with set in
// its environment. What clients do locally shows nothing about the server, so each operation has to be in the audit
// log as one that succeeded.
func runSuites(t *testing.T, s *server, kind string, set map[string]string, operations ...string) {
	t.Helper()
	who := s.createStranger(t)
	all := suites(t, kind)
	for _, suite := range all {
		s.createVault(t, "for-"+suite.name, "premium")
		s.createVault(t, "for-"+suite.name+"-other", "standard")
	}
	s.publishHosts(t)
	for _, suite := range all {
		t.Run(suite.name, func(t *testing.T) {
			t.Parallel()
			vault := "for-" + suite.name
			env := map[string]string{
				"E2E_VAULT": s.url(vault), "E2E_OTHER_VAULT": s.url(vault + "-other"), "E2E_UNKNOWN_VAULT": s.url(unknownVault),
				"E2E_STRANGER_ID": who.clientID, "E2E_STRANGER_SECRET": who.secret,
			}
			maps.Copy(env, set)
			clientRun{server: s, language: suite.language, credential: "secret", program: suite.program, set: env}.do(t)
			done := s.operations(t, vault)
			for _, operation := range operations {
				if done[operation] == 0 {
					t.Errorf("the audit log has no success of %s", operation)
				}
			}
		})
	}
}

// TestSecrets: every operation of the secrets clients, with a client secret, against the server that `strongroom dev`
// starts on its usual ports.
func TestSecrets(t *testing.T) {
	t.Parallel()
	s := start(t, []string{"--data", filepath.Join(t.TempDir(), "data")}, "dev")
	runSuites(t, s, "Secrets", nil,
		"SecretSet", "SecretGet", "SecretUpdate", "SecretList", "SecretListVersions", "SecretBackup", "SecretRestore",
		"SecretDelete", "SecretGetDeleted", "SecretListDeleted", "SecretRecover", "SecretPurge",
	)
}

// A credentialTest is a credential that needs no change in a program's code.
type credentialTest struct {
	name       string
	credential string // for strongroom env
	class      string // of azidentity, which must be the one that gave the token
	set        func(language string) map[string]string
}

// TestCredentials: every kind of credential in every language, against a server that an operator set up, on port 443 of a
// domain of its own.
func TestCredentials(t *testing.T) {
	t.Parallel()
	s := startConfigured(t, configuredDomain, trustCluster, "--vault", configuredVault, "--identity-listen", identityListen)
	forwardMetadata(t, s)
	s.publishHosts(t)
	addHosts(t, fmt.Appendf(nil, "127.0.0.1 %s.%s\n", configuredVault, dotnetSuffix))
	all := append(languages(t), language{"dotnet", dotnetClient(t, configuredVault)})
	t.Run("with", func(t *testing.T) {
		for _, c := range s.allCredentials(t) {
			for _, l := range all {
				if l.name == "dotnet" && c.name == "workload-identity" {
					continue // the program takes no authority but Microsoft's with this one
				}
				t.Run(c.name+"/"+l.name, func(t *testing.T) {
					t.Parallel()
					set := c.set(l.name)
					set["E2E_VAULT"] = s.url(configuredVault)
					set["E2E_CREDENTIAL"] = c.class
					set["E2E_SECRET_NAME"] = c.name + "-" + l.name
					clientRun{server: s.server, language: l.name, credential: c.credential, set: set, program: l.credential}.do(t)
				})
			}
		}
	})
	// Each of these was used by each client (Python has two), and no other stood in for it.
	issued := s.tokens(t)
	for _, endpoint := range []string{"appservice", "imds", "arc"} {
		if issued[endpoint] != len(all)+1 {
			t.Errorf("tokens by endpoint are %v, want %d by %s", issued, len(all)+1, endpoint)
		}
	}
}

// untrusted is what the clients say then: Go, Python, JavaScript, Java.
const untrusted = `certificate signed by unknown authority|CERTIFICATE_VERIFY_FAILED|SELF_SIGNED_CERT_IN_CHAIN|PKIX path building failed`

// TestUntrustedAuthority: a client that was not told of the server's authority refuses to talk to it. So the
// verification of certificates is on in all others.
func TestUntrustedAuthority(t *testing.T) {
	t.Parallel()
	s := start(t, []string{"--data", filepath.Join(t.TempDir(), "data")}, "dev", "--listen", "127.0.0.1:0")
	s.publishHosts(t)
	for _, l := range languages(t) {
		t.Run(l.name, func(t *testing.T) {
			t.Parallel()
			set := map[string]string{"E2E_VAULT": s.url("demo"), "E2E_CREDENTIAL": "EnvironmentCredential", "E2E_SECRET_NAME": "never"}
			for _, name := range []string{"SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "JAVA_TOOL_OPTIONS"} {
				set[name] = os.Getenv(name)
			}
			out, err := clientRun{server: s, language: l.name, credential: "secret", set: set, program: l.credential}.output(t)
			if err == nil || !regexp.MustCompile(untrusted).Match(out) {
				t.Errorf("the client did not complain about the certificate (%v):\n%s", err, out)
			}
		})
	}
}
