package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
)

// clientsPage tells people how to point each client here. Its code is run as it is printed.
const clientsPage = "../docs/clients.md"

// sections is the code of a page by its heading, and there by its language: one text for each code block.
type sections map[string]map[string][]string

func readSections(path string) (sections, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	page := make(sections)
	var heading, language string
	var code *strings.Builder // nil outside of code
	for line := range strings.Lines(string(raw)) {
		switch title, isTitle := strings.CutPrefix(line, "## "); {
		case code != nil && line == "```\n":
			page.add(heading, language, code.String())
			code = nil
		case code != nil:
			code.WriteString(line)
		case isTitle:
			heading = strings.TrimSpace(title)
		case strings.HasPrefix(line, "```"):
			language, code = strings.TrimSpace(line[3:]), new(strings.Builder)
		}
	}
	if code != nil {
		return nil, fmt.Errorf("%s: the last code block has no end", path)
	}
	return page, nil
}

func (s sections) add(heading, language, code string) {
	if s[heading] == nil {
		s[heading] = make(map[string][]string)
	}
	s[heading][language] = append(s[heading][language], code)
}

// Programs that are made of the code for Go.
const (
	documentedProgram    = "documented"
	documentedHSMProgram = "documentedhsm"
)

// buildDocumented makes programs of the code for Go. They need the main module and its packages.
func buildDocumented(dir string) error {
	page, err := readSections(clientsPage)
	if err != nil {
		return err
	}
	code := page["Go"]["go"]
	if len(code) != 3 {
		return fmt.Errorf("%s has %d code blocks for Go, want a program, and the lines for security domains and for roles", clientsPage, len(code))
	}
	frame, err := template.ParseFiles("clients/go/documented.go.tmpl")
	if err != nil {
		return err
	}
	hsm := new(strings.Builder)
	if err := frame.Execute(hsm, code); err != nil {
		return err
	}
	for name, text := range map[string]string{documentedProgram: code[0], documentedHSMProgram: hsm.String()} {
		source := filepath.Join(dir, name+".go")
		if err := os.WriteFile(source, []byte(text), 0o600); err != nil {
			return err
		}
		if err := goCommand("..", "build", "-o", filepath.Join(dir, name), source); err != nil {
			return fmt.Errorf("the code for Go in %s: %w", clientsPage, err)
		}
	}
	return nil
}

// documented is how the code of a section is run: the lines for the shell, then a program.
type documented struct {
	language string   // that of the program; empty if there are lines for the shell only
	source   string   // where its code is put; empty if it was built before
	program  []string // how it is run
	prints   string
}

// documentedClients are the sections of the page.
func documentedClients(t *testing.T, dir string) map[string]documented {
	t.Helper()
	packages, err := javaPackages()
	if err != nil {
		t.Fatal(err)
	}
	python, java := filepath.Join(dir, "hello.py"), filepath.Join(dir, "Hello.java")
	node := filepath.Join(program(nodeFolder), "hello.js") // beside the packages
	return map[string]documented{
		"Go":         {"go", "", []string{program(documentedProgram)}, "world\n"},
		"Python":     {"python", python, []string{toolProgram(t, "python", "python"), python}, "world\n"},
		"JavaScript": {"js", node, []string{"node", node}, "world\n"},
		"Java":       {"java", java, []string{"java", "-cp", packages, java}, "world\n"},
		"az":         {"", "", nil, `"value": "world"`},
		"curl":       {"", "", nil, `"value":"world"`},
	}
}

// TestDocumented runs the code of the page about clients where the page supposes it: in the folder in which a server's data is.
func TestDocumented(t *testing.T) {
	t.Parallel()
	page, err := readSections(clientsPage)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := start(t, []string{"--data", filepath.Join(dir, "strongroom-data")}, "dev", "--listen", "127.0.0.1:0")
	administrator := s.credentials(t, "administrator.json").ObjectID
	s.command(t, "secret", "set", "--vault-name", "demo", "--name", "hello", "--value", "world")
	s.command(t, "hsm", "create", "--hsm-name", "for-go", "--administrators", administrator, "--retention-days", "7")
	s.publishHosts(t)
	addHosts(t, fmt.Appendf(nil, "127.0.0.1 team-a.vault.%s team-h.managedhsm.%[1]s\n", s.status.Domain))
	writeOwners(t, dir, "owner1", "owner2", "owner3")

	programs := filepath.Dir(program(strongroomProgram)) + ":" + filepath.Dir(toolProgram(t, "az", "az"))
	begin := "set -eu\nPATH=" + shellWords([]string{programs}) + ":$PATH\n"
	run := func(t *testing.T, script, prints string) {
		t.Helper()
		out, err := shell(t, dir, begin+script)
		if err != nil || !strings.Contains(string(out), prints) {
			t.Errorf("%v, want %q in the output:\n%s", err, prints, out)
		}
	}
	clients := documentedClients(t, dir)
	for heading, code := range page {
		if heading == "" {
			continue // before the sections: that is for who runs the server
		}
		c, known := clients[heading]
		for language := range code {
			if !known || language != "sh" && language != c.language {
				t.Errorf("nothing runs the code in %q of the section %s", language, heading)
			}
		}
		delete(clients, heading)
		t.Run(heading, func(t *testing.T) {
			t.Parallel()
			if c.source != "" {
				if err := os.WriteFile(c.source, []byte(strings.Join(code[c.language], "")), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			run(t, strings.Join(code["sh"], "")+shellWords(c.program)+"\n", c.prints)
		})
	}
	for heading := range clients {
		t.Errorf("the page has no code in a section %s", heading)
	}
	t.Run("managed HSM", func(t *testing.T) {
		t.Parallel()
		set := shellWords([]string{"HSM_URL=" + s.urlOf("for-go.managedhsm"), "E2E_OBJECT=" + administrator})
		run(t, page["Go"]["sh"][0]+"export "+set+"\n"+shellWords([]string{program(documentedHSMProgram)})+"\n", "given to "+administrator)
	})
}

// writeOwners writes the certificates of a managed HSM's owners, and their keys.
func writeOwners(t *testing.T, dir string, names ...string) {
	t.Helper()
	for _, name := range names {
		key, certificate := clientCertificate(t)
		for from, to := range map[string]string{key: ".pem", certificate: ".cer"} {
			if err := os.Rename(from, filepath.Join(dir, name+to)); err != nil {
				t.Fatal(err)
			}
		}
	}
}
