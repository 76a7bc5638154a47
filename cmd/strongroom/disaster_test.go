package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path"
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
		"openssl req -x509 -newkey rsa:4096 ", "openssl req -noenc -x509 -newkey rsa:2048 ", // no password is asked, and no time lost
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

// newRecovery makes the folder and the container.
func newRecovery(t *testing.T) *recovery {
	t.Helper()
	if _, err := exec.LookPath("openssl"); err != nil {
		t.Fatal("owners make their keys with openssl, which is not there; on Debian, as root: apt-get install openssl")
	}
	storage, err := localblob.Start(time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := storage.Close(); err != nil {
			t.Error(err)
		}
	})
	r := &recovery{t.TempDir(), storage}
	r.write(t, "storage-ca.pem", storage.CA())
	r.write(t, "sas.txt", []byte(storage.SAS()))
	return r
}

func readRecoveryPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(recoveryPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
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
	r, code := newRecovery(t), shellCode(readRecoveryPage(t))
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

// loseBlob deletes a blob of the backup whose folder stands in a file.
func (r *recovery) loseBlob(t *testing.T) {
	t.Helper()
	folder, err := os.ReadFile(filepath.Join(r.dir, "folder"))
	if err != nil {
		t.Fatal(err)
	}
	container, err := url.Parse(r.storage.URL())
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, name, query string) string {
		w := httptest.NewRecorder()
		r.storage.ServeHTTP(w, httptest.NewRequest(method, name+"?"+r.storage.SAS()+query, nil))
		return w.Body.String()
	}
	prefix := path.Base(strings.TrimSpace(string(folder))) + "/"
	names := regexp.MustCompile("<Name>(.*?)</Name>").FindAllStringSubmatch(ask(http.MethodGet, container.Path, "&comp=list&prefix="+prefix), -1)
	if len(names) < 2 {
		t.Fatalf("the backup has the blobs %v", names)
	}
	if answer := ask(http.MethodDelete, container.Path+"/"+names[0][1], ""); answer != "" {
		t.Fatal(answer)
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

// troubles are commands that have to fail, on a server that has just been made.
const troubles = `
for owner in 1 2 3; do openssl req -noenc -x509 -newkey rsa:2048 -keyout owner$owner.key -out owner$owner.cer -subj /CN=owner 2> openssl.log; done
ADMINISTRATOR=$(strongroom app create --display-name hsm-administrator --query objectId -o tsv)
RESCUE=$(strongroom app create --display-name rescue --query objectId -o tsv)
for app in hsm-administrator rescue; do strongroom app credential add --id $app --credentials-file $app.json > made.txt; done
AS="--credentials hsm-administrator.json"
TO="--storage-resource-uri https://account.blob.core.windows.net/hsm-backups -t @sas.txt --query folderUrl -o tsv"
fails() { # prints the last line of what a command says that has to fail
	what=$1; shift
	if "$@" > answer.txt 2>&1; then echo "$what did not fail"; exit 1; fi
	echo "$what: $(tail -n 1 answer.txt)"
}
again() { # makes an HSM anew that nobody has activated
	strongroom hsm delete --hsm-name $1; strongroom hsm purge --hsm-name $1; strongroom hsm create --hsm-name $1 --administrators $ADMINISTRATOR > made.txt
}
activate() { # with a domain of its own
	strongroom security-domain download --hsm-name $1 $AS --sd-wrapping-keys owner1.cer owner2.cer owner3.cer --sd-quorum 2 --security-domain-file $1.json > made.txt
}
strongroom hsm create --hsm-name payments --administrators $ADMINISTRATOR > made.txt
activate payments
FOLDER=$(strongroom backup start --hsm-name payments $AS $TO)
fails conflict strongroom security-domain upload --hsm-name payments $AS --sd-file payments.json --sd-wrapping-keys owner1.key owner2.key
fails folder strongroom restore start --hsm-name payments $AS -t @sas.txt --backup-folder "${FOLDER}9"
fails expired strongroom restore start --hsm-name payments $AS -t "se=2020-01-01&sig=x" --backup-folder "$FOLDER"
fails host strongroom backup start --hsm-name payments $AS -t @sas.txt --storage-resource-uri https://storage.example/account/backups

strongroom hsm create --hsm-name other --administrators $ADMINISTRATOR > made.txt
strongroom security-domain init-recovery --hsm-name other $AS --sd-exchange-key exchange.cer
strongroom security-domain restore-blob --sd-file payments.json --sd-exchange-key exchange.cer --sd-wrapping-keys owner1.key owner2.key --sd-file-restore-blob blob.json
again other
strongroom security-domain init-recovery --hsm-name other $AS --sd-exchange-key exchange2.cer
fails transfer strongroom security-domain upload --hsm-name other $AS --sd-file blob.json --restore-blob
activate other
fails recent strongroom restore start --hsm-name other $AS -t @sas.txt --backup-folder "$FOLDER"
strongroom backup start --hsm-name other $AS $TO
fails domain strongroom restore start --hsm-name other $AS -t @sas.txt --backup-folder "$FOLDER"

# Nobody knows the object ids of those who had roles.
strongroom hsm create --hsm-name rescued --administrators $RESCUE > made.txt
AS="--credentials rescue.json"
strongroom security-domain upload --hsm-name rescued $AS --sd-file payments.json --sd-wrapping-keys owner3.key owner2.key
strongroom backup start --hsm-name rescued $AS $TO
strongroom restore start --hsm-name rescued $AS -t @sas.txt --backup-folder "$FOLDER"
fails rights strongroom role definition list --hsm-name rescued $AS
strongroom administrator add --hsm-name rescued --assignee rescue
strongroom role definition list --hsm-name rescued $AS > roles.json
echo "$FOLDER" > folder`

// damagedBackup is a restore of a backup in which something is missing. It changes nothing.
const damagedBackup = `
strongroom serve --config strongroom.yaml 2>> server.log &
SERVER=$!
strongroom status --wait 60s > status.json
AS="--hsm-name payments --credentials hsm-administrator.json"
strongroom role assignment list $AS > before.json
if strongroom restore start $AS -t @sas.txt --backup-folder "$(cat folder)" > answer.txt 2>&1; then exit 1; fi
echo "damaged: $(tail -n 1 answer.txt)"
strongroom role assignment list $AS > after.json
cmp before.json after.json`

// TestRecoveryTroubles provokes what the page says that can go wrong, and looks whether the page has it in the words that people see.
func TestRecoveryTroubles(t *testing.T) {
	t.Parallel()
	r := newRecovery(t)
	page := readRecoveryPage(t)
	day := shellCode(page)["The day"]
	out := r.run(t, "first", day[:strings.Index(day, "ADMINISTRATOR=")], troubles)
	r.loseBlob(t)
	out += r.run(t, "first", day[:strings.Index(day, "strongroom init")], damagedBackup)
	for what, said := range map[string]string{
		"conflict": "is active: it has its security domain, which nothing replaces",
		"folder":   "ResourceNotFound",
		"expired":  "The SAS token expired",
		"host":     "The server may not use the storage host",
		"transfer": "The blob was made for another transfer key",
		"recent":   "at least one full backup of it must have been taken within the last 30 minutes",
		"domain":   "WrongSecurityDomain",
		"rights":   "(AccessDenied)",
		"damaged":  "BackupDamaged",
	} {
		_, rest, _ := strings.Cut(out, "\n"+what+": ")
		if answer, _, _ := strings.Cut(rest, "\n"); !strings.Contains(answer, said) || !strings.Contains(page, said) {
			t.Errorf("%s: want %q in the answer and on the page:\n%s", what, said, out)
		}
	}
}
