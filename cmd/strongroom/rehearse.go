package main

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/internal/backup/localblob"
	"github.com/strongroom/strongroom/internal/server"
)

// A rehearsal is a whole disaster recovery, by the commands that people give on the day itself.
type rehearsal struct {
	owners, quorum int
	storage        container
	storageCA      string
	keep           bool
	timeout        time.Duration

	out, notes io.Writer
	dir        string
	containers []string      // the flags that say where backups go
	hosts      []string      // of the storage
	server     *rehearsalHSM // nil: none runs

	// What survives the disaster.
	administrator string // object id
	backup        string // URL of the folder
	keyVersion    string
	digest        string
	signature     string
}

func newDomainRehearse() *cobra.Command {
	r := new(rehearsal)
	cmd := &cobra.Command{
		Use:   "rehearse",
		Short: "Walk through a whole disaster recovery on this machine, and leave nothing behind",
		Long: `Rehearse walks through a whole disaster recovery, so that people can practise it before the day. A managed HSM is activated, used, backed
up and destroyed together with its server; then a second, empty server gets a new one, a quorum of the owners brings the security domain to
it, the backup is restored, and a signature from before is verified with the key that came back. Each step is printed with the commands that
do it: they are those of the day itself.

Everything happens in a new folder for temporary files and on loopback addresses. No other installation is touched, and the folder is removed at the end,
unless --keep is given. Backups go to a small blob container within this process, in memory; with --storage-resource-uri (or the other flags of
"backup start") they go to yours, and stay there.

The exit code is 0 only if all of it worked.`,
		Example: `  strongroom security-domain rehearse
  strongroom security-domain rehearse --owners 5 --quorum 3
  strongroom security-domain rehearse --storage-resource-uri https://account.blob.core.windows.net/rehearsals -t @sas.txt`,
		RunE: r.run,
	}
	f := cmd.Flags()
	f.IntVar(&r.owners, "owners", 3, "how many owners the security domain has, 3 to 10")
	f.IntVar(&r.quorum, "quorum", 2, "how many of them it takes to open it, from 2")
	f.BoolVar(&r.keep, "keep", false, "keep the folder, with the keys, the security domain and the data of the second server")
	f.StringVar(&r.storageCA, "storage-ca-file", "", "PEM file with the authorities to trust at your storage (default the system's)")
	f.DurationVar(&r.timeout, "timeout", 15*time.Minute, "how long all of it may take")
	r.storage.register(cmd)
	return cmd
}

// A rehearsalStep is what somebody does on the day, or before it.
type rehearsalStep struct {
	title string
	do    func(r *rehearsal, ctx context.Context) error
}

func rehearsalSteps() []rehearsalStep {
	return []rehearsalStep{
		{"A server, and in it a managed HSM that is not activated", (*rehearsal).create},
		{"Each owner makes a key, keeps it, and gives away its certificate", (*rehearsal).makeOwners},
		{"The security domain is downloaded, which activates the HSM, and every owner tries his key", (*rehearsal).activate},
		{"The HSM gets a key, and signs something", (*rehearsal).use},
		{"All of the HSM is backed up", (*rehearsal).saveAll},
		{"The disaster: the HSM is purged, and its server is destroyed", (*rehearsal).destroy},
		{"A second server, empty, with the same administrator, and a new HSM", (*rehearsal).createAgain},
		{"The owners bring the security domain to the new HSM", (*rehearsal).recover},
		{"The new HSM is backed up, because a restore replaces all that is in it", (*rehearsal).saveNew},
		{"The backup of the lost HSM is restored", (*rehearsal).restore},
		{"The key is back: it verifies what it signed before the disaster, and signs anew", (*rehearsal).prove},
	}
}

func (r *rehearsal) run(cmd *cobra.Command, _ []string) (err error) {
	if r.owners < 3 || r.owners > 10 || r.quorum < 2 || r.quorum > r.owners {
		return usagef("--owners %d --quorum %d: there are 3 to 10 owners, and it takes 2 or more of them", r.owners, r.quorum)
	}
	defer interruptible(cmd)()
	ctx, cancel := context.WithTimeout(cmd.Context(), r.timeout)
	defer cancel()
	r.out, r.notes = cmd.OutOrStdout(), cmd.ErrOrStderr()
	if r.dir, err = os.MkdirTemp("", "strongroom-rehearsal-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.clean()) }()
	stop, err := r.openStorage(cmd)
	if err != nil {
		return err
	}
	defer stop()
	r.printf("A disaster recovery is rehearsed: %d owners, and any %d of them open the security domain.\n", r.owners, r.quorum)
	r.printf("Everything happens in %s, which the names of files below count from, and on this machine.\n", r.dir)
	return r.walk(ctx)
}

// walk takes the steps until one fails.
func (r *rehearsal) walk(ctx context.Context) error {
	begin := time.Now()
	for i, step := range rehearsalSteps() {
		r.printf("\n%d. %s\n", i+1, step.title)
		start := time.Now()
		if err := step.do(r, ctx); err != nil {
			text := r.short(oneLine(explain(err)))
			if ctx.Err() != nil {
				text = "it was interrupted, or took longer than --timeout: " + text
			}
			r.printf("   FAILED after %s\n\n", spent(start))
			return fmt.Errorf("the rehearsal failed at step %d: %s", i+1, text)
		}
		r.printf("   done in %s\n", spent(start))
	}
	r.printf("\nThe rehearsal succeeded in %s.\n", spent(begin))
	r.printf("What it took: the security domain, the keys of %d of %d owners, the backup, and the administrator's object id.\n", r.quorum, r.owners)
	if r.storage.given() {
		r.printf("Two backups are left in your container, one of them %s: remove them.\n", r.backup)
	}
	return nil
}

func spent(start time.Time) time.Duration { return time.Since(start).Round(10 * time.Millisecond) }

func (r *rehearsal) printf(format string, args ...any) { fmt.Fprintf(r.out, format, args...) }

func (r *rehearsal) file(name string) string { return filepath.Join(r.dir, name) }

// clean stops what runs, and removes everything.
func (r *rehearsal) clean() error {
	err := r.stopServer()
	if r.keep {
		r.printf("Kept, with the owners' keys: %s\n", r.dir)
		return err
	}
	return errors.Join(err, os.RemoveAll(r.dir))
}

func (c *container) given() bool { return c.uri+c.account+c.name+c.token != "" || c.managedIdentity }

// openStorage finds out where backups go: to a container of this process, unless another was named.
func (r *rehearsal) openStorage(cmd *cobra.Command) (stop func(), err error) {
	stop = func() {}
	token := ""
	if r.storage.given() {
		if r.storage.uri, err = r.storage.url(); err != nil {
			return nil, err
		}
		sas, err := r.storage.access(cmd)
		if err != nil {
			return nil, err
		}
		token = string(sas)
	} else {
		local, err := localblob.Start(r.timeout + time.Hour)
		if err != nil {
			return nil, err
		}
		stop = func() { _ = local.Close() } // it holds nothing that somebody needs
		r.storageCA, token = r.file("storage-ca.pem"), local.SAS()
		if err := writeNewFile(r.storageCA, local.CA()); err != nil {
			return nil, errors.Join(err, local.Close())
		}
		r.containers = []string{"--storage-resource-uri", local.URL()}
		r.hosts = []string{local.Host()}
	}
	if r.storage.given() {
		u, err := url.Parse(r.storage.uri)
		if err != nil {
			return nil, err
		}
		r.containers, r.hosts = []string{"--storage-resource-uri", r.storage.uri}, []string{u.Host}
	}
	if r.storage.managedIdentity {
		r.containers = append(r.containers, "--use-managed-identity")
		return stop, nil
	}
	r.containers = append(r.containers, "-t", "@"+r.file("sas.txt"))
	return stop, writeNewFile(r.file("sas.txt"), []byte(token))
}

// A rehearsalHSM is a server of the rehearsal.
type rehearsalHSM struct {
	data string
	stop func() error
}

// startServer makes an installation in a folder, as init does, and serves it within this process.
func (r *rehearsal) startServer(ctx context.Context, name string) error {
	cfg, err := server.DevConfig(r.file(name), []string{"127.0.0.1:0"})
	if err != nil {
		return err
	}
	cfg.ManagedIdentity.Listen, cfg.Operations.Listen = "", "-"
	cfg.Backup = server.BackupConfig{Hosts: r.hosts, CA: r.storageCA, ManagedIdentity: r.storage.managedIdentity}
	log, flush := server.NewLogger(r.notes, server.Level("error"))
	opts := server.Options{Log: log}
	if _, err := server.Init(ctx, cfg, opts, ""); err != nil {
		return err
	}
	srv, err := server.Open(ctx, cfg, opts)
	if err != nil {
		return err
	}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx)) // clean ends it
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(serving) }()
	r.server = &rehearsalHSM{cfg.Data, func() error {
		cancel()
		defer flush()
		return <-ended
	}}
	r.printf("   A server runs with the data folder %s.\n", name)
	return nil
}

func (r *rehearsal) stopServer() error {
	if r.server == nil {
		return nil
	}
	s := r.server
	r.server = nil
	return s.stop()
}

// strongroom gives a command to the server that runs, as a person does, and returns what it prints.
func (r *rehearsal) strongroom(ctx context.Context, args ...string) (string, error) {
	return r.command(ctx, append(args, "--data", r.server.data)...)
}

// inHSM is strongroom as the administrator of the HSM.
func (r *rehearsal) inHSM(ctx context.Context, args ...string) (string, error) {
	return r.strongroom(ctx, append(args, "--hsm-name", rehearsedHSM, "--credentials", r.file("administrator.json"))...)
}

// command runs a command of this program in this process.
func (r *rehearsal) command(ctx context.Context, args ...string) (string, error) {
	r.printf("   $ %s\n", r.shown(args))
	var out bytes.Buffer
	root := newRoot()
	root.SetArgs(azArguments(root, args))
	root.SetIn(strings.NewReader(""))
	root.SetOut(&out)
	root.SetErr(r.notes)
	err := root.ExecuteContext(ctx)
	text := strings.TrimSpace(out.String())
	if text != "" && !strings.Contains(text, "\n") { // what people look at
		r.printf("   %s\n", text)
	}
	return text, err
}

// shown is a command as one types it, over several lines if it is long.
func (r *rehearsal) shown(args []string) string {
	const width = 110
	line, lines := "strongroom", ""
	for _, a := range args {
		word := shellQuote(r.short(a))
		if len(line)+len(word) > width && strings.HasPrefix(a, "-") {
			lines += line + " \\\n"
			line = "       " + word
			continue
		}
		line += " " + word
	}
	return lines + line
}

// short leaves the rehearsal's folder out of a text.
func (r *rehearsal) short(text string) string {
	return strings.ReplaceAll(text, r.dir+string(filepath.Separator), "")
}

const (
	rehearsedHSM = "rehearsal"
	rehearsedKey = "signing"
)

func (r *rehearsal) create(ctx context.Context) error {
	if err := r.startServer(ctx, "first"); err != nil {
		return err
	}
	id, err := r.strongroom(ctx, "app", "create", "--display-name", "hsm-administrator", "--query", "objectId", "-o", "tsv")
	if err != nil {
		return err
	}
	r.administrator = id
	return r.createHSM(ctx)
}

// createHSM makes an HSM whose administrator is there already.
func (r *rehearsal) createHSM(ctx context.Context) error {
	if _, err := r.strongroom(ctx, "app", "credential", "add", "--id", "hsm-administrator", "--credentials-file", r.file("administrator.json")); err != nil {
		return err
	}
	_, err := r.strongroom(ctx, "hsm", "create", "--hsm-name", rehearsedHSM, "--administrators", r.administrator, "--retention-days", "7")
	return err
}

// makeOwners does what each owner does elsewhere with openssl.
func (r *rehearsal) makeOwners(context.Context) error {
	for i := range r.owners {
		name := fmt.Sprintf("owner%d", i+1)
		r.printf("   %s.key and %[1]s.cer, as by: openssl req -x509 -newkey rsa:2048 -keyout %[1]s.key -out %[1]s.cer -days 3650 -subj /CN=%[1]s\n", name)
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return err
		}
		now := time.Now()
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name}, NotBefore: now, NotAfter: now.AddDate(10, 0, 0),
		}
		certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			return err
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return err
		}
		if err := writeNewFile(r.file(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})); err != nil {
			return err
		}
		if err := writeNewFile(r.file(name+".cer"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})); err != nil {
			return err
		}
	}
	return nil
}

// ownersFiles are files of the owners from a number on.
func (r *rehearsal) ownersFiles(from int, extension string) (files []string) {
	for i := from; i <= r.owners; i++ {
		files = append(files, r.file("owner"+strconv.Itoa(i)+extension))
	}
	return files
}

func (r *rehearsal) activate(ctx context.Context) error {
	args := append([]string{"security-domain", "download", "--sd-wrapping-keys"}, r.ownersFiles(1, ".cer")...)
	args = append(args, "--sd-quorum", strconv.Itoa(r.quorum), "--security-domain-file", r.file("security-domain.json"))
	if _, err := r.inHSM(ctx, args...); err != nil {
		return err
	}
	check := []string{"security-domain", "check", "--sd-file", r.file("security-domain.json"), "--sd-wrapping-keys"}
	opened, err := r.command(ctx, append(append(check, r.ownersFiles(1, ".key")...), "--query", "opened", "-o", "tsv")...)
	if err == nil && opened != "true" {
		err = errors.New("the owners' keys do not open the security domain")
	}
	return err
}

func (r *rehearsal) use(ctx context.Context) error {
	_, err := r.inHSM(ctx, "role", "assignment", "create", "--role", "Managed HSM Crypto User", "--assignee", r.administrator, "--scope", "/keys")
	if err != nil {
		return err
	}
	id, err := r.inHSM(ctx, "key", "create", "--name", rehearsedKey, "--kty", "EC-HSM", "--curve", "P-256", "--query", "key.kid", "-o", "tsv")
	if err != nil {
		return err
	}
	r.keyVersion = lastSegment(id)
	digest := sha256.Sum256([]byte("signed before the disaster"))
	r.digest = base64.StdEncoding.EncodeToString(digest[:])
	r.signature, err = r.sign(ctx, r.digest)
	return err
}

func (r *rehearsal) sign(ctx context.Context, digest string) (signature string, err error) {
	return r.inHSM(ctx, "key", "sign", "--name", rehearsedKey, "--version", r.keyVersion, "--algorithm", "ES256", "--digest", digest,
		"--query", "signature", "-o", "tsv")
}

// verify fails unless a signature is that of the key.
func (r *rehearsal) verify(ctx context.Context, digest, signature string) error {
	valid, err := r.inHSM(ctx, "key", "verify", "--name", rehearsedKey, "--version", r.keyVersion, "--algorithm", "ES256", "--digest", digest,
		"--signature", signature, "--query", "isValid", "-o", "tsv")
	if err == nil && valid != "true" {
		err = errors.New("the signature is not that of the key")
	}
	return err
}

// save backs the HSM up, and returns the URL of the folder.
func (r *rehearsal) save(ctx context.Context) (string, error) {
	return r.inHSM(ctx, append(append([]string{"backup", "start"}, r.containers...), "--query", "folderUrl", "-o", "tsv")...)
}

func (r *rehearsal) saveAll(ctx context.Context) (err error) {
	r.backup, err = r.save(ctx)
	return err
}

func (r *rehearsal) saveNew(ctx context.Context) error {
	_, err := r.save(ctx)
	return err
}

func (r *rehearsal) destroy(ctx context.Context) error {
	for _, what := range []string{"delete", "purge"} {
		if _, err := r.strongroom(ctx, "hsm", what, "--hsm-name", rehearsedHSM); err != nil {
			return err
		}
	}
	if err := r.stopServer(); err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(r.file("first")), os.Remove(r.file("administrator.json"))); err != nil {
		return err
	}
	r.printf("   The server is stopped, its data folder, its root key and all credentials are removed. What is left: the owners' keys,\n" +
		"   the security domain, the backup in the container, and on paper where it is, and the object id of the administrator.\n")
	return nil
}

// createAgain gives the new administrator the object id of the lost one, whom the roles in the backup name.
func (r *rehearsal) createAgain(ctx context.Context) error {
	if err := r.startServer(ctx, "second"); err != nil {
		return err
	}
	if _, err := r.strongroom(ctx, "app", "create", "--display-name", "hsm-administrator", "--object-id", r.administrator); err != nil {
		return err
	}
	return r.createHSM(ctx)
}

func (r *rehearsal) recover(ctx context.Context) error {
	if _, err := r.inHSM(ctx, "security-domain", "init-recovery", "--sd-exchange-key", r.file("exchange.cer")); err != nil {
		return err
	}
	pin, err := certificateSHA256(r.file("exchange.cer"))
	if err != nil {
		return err
	}
	r.printf("   One owner too few must not open it:\n")
	if err := r.tooFew(ctx); err != nil {
		return err
	}
	r.printf("   The quorum does:\n")
	args := append([]string{"security-domain", "restore-blob", "--sd-file", r.file("security-domain.json"), "--sd-exchange-key", r.file("exchange.cer"),
		"--sd-exchange-key-sha256", pin, "--sd-wrapping-keys"}, r.ownersFiles(r.owners-r.quorum+1, ".key")...)
	if _, err := r.command(ctx, append(args, "--sd-file-restore-blob", r.file("blob.json"))...); err != nil {
		return err
	}
	_, err = r.inHSM(ctx, "security-domain", "upload", "--sd-file", r.file("blob.json"), "--restore-blob")
	return err
}

// tooFew fails if fewer owners than the quorum open the security domain.
func (r *rehearsal) tooFew(ctx context.Context) error {
	args := append([]string{"security-domain", "restore-blob", "--sd-file", r.file("security-domain.json"), "--sd-exchange-key", r.file("exchange.cer"),
		"--sd-wrapping-keys"}, r.ownersFiles(r.owners-r.quorum+2, ".key")...)
	_, err := r.command(ctx, append(args, "--sd-file-restore-blob", r.file("too-few.json"))...)
	if err == nil {
		return errors.New("fewer keys than the quorum opened the security domain")
	}
	r.printf("   refused: %s\n", r.short(oneLine(explain(err))))
	return nil
}

// certificateSHA256 is the fingerprint of a certificate in a file, as init-recovery prints it.
func certificateSHA256(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	block, _ := pem.Decode(raw)
	if block == nil {
		return "", fmt.Errorf("%s holds no certificate", path)
	}
	sum := sha256.Sum256(block.Bytes)
	return readable(sum[:]), nil
}

func (r *rehearsal) restore(ctx context.Context) error {
	access := r.containers[2:]
	status, err := r.inHSM(ctx, append(append([]string{"restore", "start"}, access...), "--backup-folder", r.backup, "--query", "status", "-o", "tsv")...)
	if err == nil && status != "Succeeded" {
		err = fmt.Errorf("the restore ended as %s", status)
	}
	return err
}

func (r *rehearsal) prove(ctx context.Context) error {
	if err := r.verify(ctx, r.digest, r.signature); err != nil {
		return err
	}
	digest := sha256.Sum256([]byte("signed after the recovery"))
	again := base64.StdEncoding.EncodeToString(digest[:])
	signature, err := r.sign(ctx, again)
	if err != nil {
		return err
	}
	if err := r.verify(ctx, again, signature); err != nil {
		return err
	}
	return r.rolesAreBack(ctx)
}

// rolesAreBack looks for what was assigned in the lost HSM, and never in the new one.
func (r *rehearsal) rolesAreBack(ctx context.Context) error {
	out, err := r.inHSM(ctx, "role", "assignment", "list", "--query", "[].roleName")
	if err != nil {
		return err
	}
	var roles []string
	if err := json.Unmarshal([]byte(out), &roles); err != nil {
		return err
	}
	if !slices.Contains(roles, "Managed HSM Crypto User") {
		return fmt.Errorf("the roles of the lost HSM are not back, there are only %s", strings.Join(roles, ", "))
	}
	return nil
}
