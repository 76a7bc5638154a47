package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/backup/localblob"
)

// recoveryPage is what people follow on the day itself.
const recoveryPage = "../../docs/disaster-recovery.md"

// shellCode is the code for the shell under each heading of a page.
func shellCode(page string) map[string]string {
	code := make(map[string]string)
	heading, inside := "", false
	for line := range strings.Lines(page) {
		switch title, isTitle := strings.CutPrefix(line, "## "); {
		case strings.HasPrefix(line, "```"):
			inside = line == "```sh\n"
		case inside:
			code[heading] += line
		case isTitle:
			heading = strings.TrimSpace(title)
		}
	}
	return code
}

// A recovery is a folder in which the page's commands are run.
type recovery struct {
	dir     string
	storage *localblob.Container
}

// serverLine is what the page's line that serves becomes: in the background, with the storage of the test.
const serverLine = `cat >> strongroom.yaml <<END
backup:
  hosts: [%q]
  ca: %q
END
strongroom serve --config strongroom.yaml 2>> server.log &
SERVER=$!
strongroom status --wait 60s > status.json
`

// run runs commands of the page on the server with a data folder, and ends the server.
func (r *recovery) run(t *testing.T, data string, commands ...string) string {
	t.Helper()
	names := strings.NewReplacer(
		"/var/lib/strongroom", filepath.Join(r.dir, data),
		"/etc/strongroom/", r.dir+"/keys-"+data+"/",
		"https://account.blob.core.windows.net/hsm-backups", r.storage.URL(),
		"openssl req ", "openssl req -noenc ",
		"--domain example.org ", "--domain example.org --listen 127.0.0.1:0 --identity-listen 127.0.0.1:0 --operations-listen - ",
		"strongroom serve --config strongroom.yaml\n", fmt.Sprintf(serverLine, r.storage.Host(), filepath.Join(r.dir, "storage-ca.pem")),
	)
	script := "set -eu\nSERVER=\ntrap 'test -z \"$SERVER\" || { kill $SERVER; wait $SERVER; }' EXIT\n" + names.Replace(strings.Join(commands, "\n"))
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(r.dir, "server.log"))
		t.Fatalf("%v\n%s\n%s", err, out, log)
	}
	return string(out)
}

func (r *recovery) write(t *testing.T, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestRecoveryPage runs every command of the page: the ceremony and the years, then the disaster, then the day.
func TestRecoveryPage(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Skip("the commands of the page were not run: there is no openssl, with which owners make their keys")
	}
	page, err := os.ReadFile(recoveryPage)
	if err != nil {
		t.Fatal(err)
	}
	storage, err := localblob.Start(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	defer storage.Close()
	r := &recovery{t.TempDir(), storage}
	r.write(t, "storage-ca.pem", storage.CA())
	r.write(t, "sas.txt", []byte(storage.SAS()))

	code := shellCode(string(page))
	take := func(heading string) string {
		t.Helper()
		text, there := code[heading]
		if !there {
			t.Fatalf("the page has no commands under %q", heading)
		}
		delete(code, heading)
		return text
	}
	day := take("The day")
	install := day[:strings.Index(day, "ADMINISTRATOR=")] // the same as for the first server
	recoverKey, restoreKey, _ := strings.Cut(take("Only one key is lost"), "strongroom restore start ")
	nightly := take("Every day")
	const service = " --hsm-name payments --credentials payment-service.json --name signing "
	digest := " --algorithm ES256 --digest " + strings.Repeat("A", 43) + "= "
	r.run(t, "first", take(""), install, take("Before: the ceremony"), nightly, take("The sheet"), take("Every year"), take("When an owner leaves"),
		`strongroom role assignment create --hsm-name payments --credentials hsm-administrator.json --role "Managed HSM Crypto Officer" --assignee "$ADMINISTRATOR" --scope /`,
		"strongroom key delete"+service, recoverKey,
		"strongroom key delete"+service, "strongroom key purge --hsm-name payments --credentials hsm-administrator.json --name signing",
		"strongroom restore start "+restoreKey, nightly,
		"strongroom key sign"+service+digest+"--query signature -o tsv > signature",
		`echo "ADMINISTRATOR=$ADMINISTRATOR SERVICE=$SERVICE FOLDER=$(tail -n 1 backups.txt)" > sheet`)

	// The disaster. What is left is what the page says that is needed.
	r.leave(t, "owner1.key", "owner3.key", "payments-domain.json", "sas.txt", "sheet", "signature", "storage-ca.pem")

	fromSheet := regexp.MustCompile(`(?m)^(ADMINISTRATOR|SERVICE|FOLDER)=.*$`)
	readOut := regexp.MustCompile(`(?m)^SHA256=.*$`)
	day = fromSheet.ReplaceAllString(day, ". ./sheet")
	day = readOut.ReplaceAllString(day, `SHA256=$$(openssl x509 -in exchange.cer -noout -fingerprint -sha256 | cut -d= -f2)`)
	out := r.run(t, "second", day, "echo valid $(strongroom key verify"+service+digest+"--signature @signature --query isValid -o tsv)")
	for _, want := range []string{`"status": "Success"`, `"status": "Succeeded"`, "Managed HSM Backup User", "Managed HSM Crypto Officer", "valid true\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("the day did not end with %s:\n%s", want, out)
		}
	}
	for heading := range code {
		t.Errorf("nothing runs the commands under %q", heading)
	}
}

// leave removes everything else.
func (r *recovery) leave(t *testing.T, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(r.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if slices.Contains(names, e.Name()) {
			continue
		}
		if err := os.RemoveAll(filepath.Join(r.dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
}
