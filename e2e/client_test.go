package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A language is one in which the official clients are run.
type language struct {
	name       string   // as `strongroom env --for` knows it
	secrets    []string // programs that go through all operations
	credential []string // the program that only opens the vault
}

func languages(t *testing.T) []language {
	t.Helper()
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	python := func(script string) []string {
		return []string{filepath.Join(root, ".tools/python/bin/python"), filepath.Join(root, "e2e/clients/python", script)}
	}
	node := func(script string) []string {
		return []string{"node", "--test-reporter=spec", filepath.Join(program(nodeFolder), script)}
	}
	return []language{
		{"go", goClient("TestSecrets"), goClient("TestCredential")},
		{"python", python("test_secrets.py"), python("test_credential.py")},
		{"node", node("secrets.test.js"), node("credential.test.js")},
	}
}

func goClient(test string) []string {
	return []string{program(goClientProgram), "-test.v", "-test.count=1", "-test.run=^" + test + "$"}
}

// A clientRun is one client program in the environment that `strongroom env` makes, changed as a user would change it.
type clientRun struct {
	server     *server
	language   string
	credential string            // for strongroom env --credential
	set        map[string]string // exported after that; an empty value unsets
	program    []string
}

// do runs the program in a shell and fails if it fails.
func (r clientRun) do(t *testing.T) {
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

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script.String())
	cmd.Env = cleanEnvironment(t)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%s: %v", filepath.Base(r.program[len(r.program)-1]), err)
	}
	t.Logf("%s", out)
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
type stranger struct{ clientID, secret string }

// runSecrets makes two vaults for the program and lets it go through all operations.
func runSecrets(t *testing.T, s *server, vault string, language string, who stranger, program []string) {
	t.Helper()
	other := vault + "-other"
	clientRun{
		server: s, language: language, credential: "secret", program: program,
		set: map[string]string{
			"E2E_VAULT": s.url(vault), "E2E_OTHER_VAULT": s.url(other), "E2E_UNKNOWN_VAULT": s.url(unknownVault),
			"E2E_STRANGER_ID": who.clientID, "E2E_STRANGER_SECRET": who.secret,
			"E2E_CREDENTIAL": "EnvironmentCredential", "E2E_SECRET_NAME": "plain",
		},
	}.do(t)
}

// TestSecrets: every operation of the secrets clients, with a client secret, against the server that `strongroom dev`
// starts on its usual ports.
func TestSecrets(t *testing.T) {
	t.Parallel()
	s := start(t, []string{"--data", filepath.Join(t.TempDir(), "data")}, "dev")
	who := s.createStranger(t)

	programs := make(map[string]language)
	for _, l := range languages(t) {
		programs[l.name] = l
	}
	aio := programs["python"]
	aio.secrets = slices.Clone(aio.secrets)
	aio.secrets[1] = filepath.Join(filepath.Dir(aio.secrets[1]), "test_secrets_async.py")
	programs["python-async"] = aio
	for name := range programs {
		s.createVault(t, "for-"+name)
		s.createVault(t, "for-"+name+"-other")
	}
	s.publishHosts(t)
	for name, l := range programs {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runSecrets(t, s, "for-"+name, l.name, who, l.secrets)
		})
	}
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
	s := startConfigured(t)
	forwardMetadata(t, s)
	s.publishHosts(t)
	for _, c := range s.credentials(t) {
		for _, l := range languages(t) {
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
}
