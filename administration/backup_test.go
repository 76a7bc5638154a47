package administration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/log"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/administration"
)

const (
	container = "https://a.blob.core.windows.net/c"
	sas       = "?se=2030&sp=rl&sig=the-signature"
)

func TestWireOfBackups(t *testing.T) {
	t.Parallel()
	r := newReplay(t, exchanges(t, 0, 25))
	c := newClients(t, r.srv.URL, options(r.srv), credential{}).backup
	ctx := t.Context()
	job := administration.Operation{
		JobID: "0fb37c079d75440bb079f91ae8796538", Status: administration.StatusSucceeded,
		StartTime: time.Unix(1718771409, 0).UTC(), EndTime: time.Unix(1718771418, 0).UTC(),
	}
	made := administration.BackupResponse{Operation: job, FolderURL: container + "/mhsm-x-2024061904300987"}
	withSAS := &administration.BeginBackupOptions{SASToken: "?se=1"}

	backup, err := c.BeginBackup(ctx, container, withSAS)
	wantResult(t, backup, err, made)
	restore, err := c.BeginRestore(ctx, container+"/f", &administration.BeginRestoreOptions{SASToken: "?se=1"})
	wantResult(t, restore, err, administration.RestoreResponse{Operation: job})
	restore, err = c.BeginRestore(ctx, container+"/f", &administration.BeginRestoreOptions{SASToken: "?se=1", KeyName: "k1"})
	wantResult(t, restore, err, administration.RestoreResponse{Operation: job})
	backup, err = c.BeginPreBackup(ctx, container, &administration.BeginBackupOptions{UseManagedIdentity: true})
	wantResult(t, backup, err, made)
	restore, err = c.BeginPreRestore(ctx, container+"/f", &administration.BeginRestoreOptions{SASToken: "?se=1"})
	wantResult(t, restore, err, administration.RestoreResponse{Operation: job})

	for _, want := range []struct{ code, text string }{
		{"ResourceNotFound", "the backup failed: job j: ResourceNotFound: m"},
		{"ResourceNotFound", "the backup failed: job j: ResourceNotFound"},
		{"", "the backup canceled: job j"},
	} {
		p, err := c.BeginBackup(ctx, container, withSAS)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.PollUntilDone(ctx, nil)
		wantError(t, err, 200, want.code)
		if err.Error() != want.text {
			t.Errorf("got %q, want %q", err, want.text)
		}
	}
	r.finish()
}

func wantResult[T any](t *testing.T, p *runtime.Poller[T], err error, want T) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.PollUntilDone(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// serveJob starts a server whose job is at each poll as the next of states says.
func serveJob(t *testing.T, states ...string) (*httptest.Server, *administration.BackupClient) {
	t.Helper()
	var srv *httptest.Server
	srv, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Azure-AsyncOperation", srv.URL+"/backup/j/pending")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		if len(states) == 0 {
			t.Error("asked once too often")
			return
		}
		w.Header().Set("Retry-After", "0")
		_, _ = io.WriteString(w, states[0])
		states = states[1:]
	})
	return srv, c.backup
}

func TestStatusesInAnyCase(t *testing.T) {
	t.Parallel()
	_, c := serveJob(t, `{"status":"NotStarted"}`, `{"status":"inprogress","error":{"code":null,"message":null,"innererror":null}}`,
		`{"status":"SUCCEEDED","azureStorageBlobContainerUri":"https://a/b/c"}`)
	p, err := c.BeginBackup(t.Context(), container, nil)
	wantResult(t, p, err, administration.BackupResponse{
		Operation: administration.Operation{Status: "SUCCEEDED"}, FolderURL: "https://a/b/c",
	})
}

// Between polls a caller can see how the job is.
func TestProgress(t *testing.T) {
	t.Parallel()
	_, c := serveJob(t, `{"status":"InProgress","statusDetails":"10 keys","jobId":"j"}`, `{"status":"Succeeded"}`)
	p, err := c.BeginRestore(t.Context(), container+"/f", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := p.Poll(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var state administration.Operation
	if err := json.NewDecoder(resp.Body).Decode(&state); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(administration.Operation{JobID: "j", Status: "InProgress", StatusDetails: "10 keys"}, state); diff != "" {
		t.Error(diff)
	}
	if _, err := p.Poll(t.Context()); err != nil || !p.Done() {
		t.Errorf("not done: %v", err)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ state, code, text string }{
		"inner errors": {
			`{"status":"failed","jobId":"j","statusDetails":"no room left","error":{"code":"Quota","message":"full","innererror":{"code":"Disk"}}}`,
			"Quota", "the backup failed: job j: no room left: Quota: full: Disk",
		},
		"details alone": {`{"status":"Failed","jobId":"j","statusDetails":"it broke"}`, "", "the backup failed: job j: it broke"},
		"an echo of the token": {
			`{"status":"Failed","jobId":"j","statusDetails":"no access with ` + sas + `&x=y"}`, "",
			"the backup failed: job j: no access with ?se=2030&sp=rl&sig=REDACTED&x=y",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, c := serveJob(t, tt.state)
			p, err := c.BeginBackup(t.Context(), container, &administration.BeginBackupOptions{SASToken: sas})
			if err != nil {
				t.Fatal(err)
			}
			_, err = p.PollUntilDone(t.Context(), nil)
			wantError(t, err, 200, tt.code)
			if err.Error() != tt.text {
				t.Errorf("got %q, want %q", err, tt.text)
			}
		})
	}
}

func TestMalformedJobs(t *testing.T) {
	t.Parallel()
	for state, want := range map[string]string{
		"":                         "is not the JSON that was expected",
		"OK":                       "is not the JSON that was expected",
		"{}":                       "it has no status",
		`{"status":1}`:             "is not the JSON that was expected",
		strings.Repeat(" ", 9<<20): "is longer than",
	} {
		_, c := serveJob(t, state)
		p, err := c.BeginBackup(t.Context(), container, nil)
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.PollUntilDone(t.Context(), nil)
		wantText(t, err, want)
	}
}

// A refused start, and a refused poll after which the job can be followed further.
func TestRefusals(t *testing.T) {
	t.Parallel()
	refuse := true
	var srv *httptest.Server
	srv, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if refuse {
			w.WriteHeader(http.StatusBadRequest)
			body, _ := io.ReadAll(r.Body)
			_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]string{"code": "BadRequest", "message": "you sent " + string(body)}})
			return
		}
		w.Header().Set("Azure-AsyncOperation", srv.URL+"/backup/j/pending")
		if r.Method == http.MethodPost {
			w.WriteHeader(http.StatusAccepted)
		}
		_, _ = io.WriteString(w, `{"status":"Succeeded"}`)
	})
	o := &administration.BeginBackupOptions{SASToken: sas}
	_, err := c.backup.BeginBackup(t.Context(), container, o)
	wantError(t, err, 400, "BadRequest")
	if strings.Contains(err.Error(), "the-signature") || !strings.Contains(err.Error(), "REDACTED") {
		t.Errorf("the error holds the signature: %v", err)
	}
	refuse = false
	p, err := c.backup.BeginBackup(t.Context(), container, o)
	if err != nil {
		t.Fatal(err)
	}
	refuse = true
	_, err = p.PollUntilDone(t.Context(), nil)
	wantError(t, err, 400, "BadRequest")
	refuse = false
	wantResult(t, p, nil, administration.BackupResponse{Operation: administration.Operation{Status: "Succeeded"}})
}

func TestWhereTheJobIs(t *testing.T) {
	t.Parallel()
	for header, want := range map[string]string{
		"":                                "has no Azure-AsyncOperation",
		"/backup/j/pending":               "is not an absolute URL",
		"https://%zz/":                    "is not an absolute URL",
		"https://elsewhere.example/b":     "leads to https://elsewhere.example, not to 127.0.0.1",
		"https://127.0.0.1/backup/j":      "leads to https://127.0.0.1, not to",
		"http://HOST/backup/j/pending":    "leads to http://",
		"https://u:pw@HOST/backup/j":      "leads to https://127.0.0.1",
		"https://HOST.example/backup/j/p": "is not an absolute URL", // the port is no number
	} {
		var srv *httptest.Server
		srv, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				t.Errorf("%s was followed", header)
			}
			w.Header().Set("Azure-AsyncOperation", strings.Replace(header, "HOST", srv.Listener.Addr().String(), 1))
			w.WriteHeader(http.StatusAccepted)
		})
		_, err := c.backup.BeginBackup(t.Context(), container, nil)
		wantText(t, err, want)
		if strings.Contains(err.Error(), "u:pw") {
			t.Errorf("the error repeats a password: %v", err)
		}
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	srv, c := serveJob(t, `{"status":"InProgress"}`, `{"status":"Succeeded","azureStorageBlobContainerUri":"https://a/b/c"}`)
	first, err := c.BeginBackup(t.Context(), container, &administration.BeginBackupOptions{SASToken: sas})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := first.Poll(t.Context()); err != nil {
		t.Fatal(err)
	}
	token, err := first.ResumeToken()
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(token, "sig") || strings.Contains(token, "se=") {
		t.Errorf("the resume token holds the SAS token: %s", token)
	}
	second, err := c.BeginBackup(t.Context(), "", &administration.BeginBackupOptions{ResumeToken: token})
	if err != nil {
		t.Fatal(err)
	}
	if again, err := second.ResumeToken(); err != nil || again != token {
		t.Errorf("the token of the resumed poller is %s, %v; want %s", again, err, token)
	}
	wantResult(t, second, nil, administration.BackupResponse{Operation: administration.Operation{Status: "Succeeded"}, FolderURL: "https://a/b/c"})

	_, err = c.BeginPreBackup(t.Context(), "", &administration.BeginBackupOptions{ResumeToken: token})
	wantText(t, err, "is that of a backup, not of a pre-backup check")
	_, err = c.BeginRestore(t.Context(), "", &administration.BeginRestoreOptions{ResumeToken: token})
	wantText(t, err, "is that of a backup, not of a restore")
	for _, bad := range []string{
		"x", "{}", `{"type":"BackupResponse","token":{"fakeURL":"https://elsewhere.example"}}`, `{"token":"x"}`, `{"token":{"operation":"backup"}}`,
	} {
		_, err = c.BeginBackup(t.Context(), "", &administration.BeginBackupOptions{ResumeToken: bad})
		wantText(t, err, "is not one of a backup or restore")
	}
	moved := strings.Replace(token, srv.URL, "https://elsewhere.example", 1)
	_, err = c.BeginBackup(t.Context(), "", &administration.BeginBackupOptions{ResumeToken: moved})
	wantText(t, err, "leads to https://elsewhere.example")
}

func TestURLsOfContainers(t *testing.T) {
	t.Parallel()
	_, c := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("sent: %s %s", r.Method, r.URL) })
	for _, url := range []string{"", "a/b", "ftp://a/b", "https:///b", "https://a", "https://a/?sig=the-signature", "https://u:the-signature@a/b", "https://a/%zz?sig=the-signature"} {
		_, err := c.backup.BeginBackup(t.Context(), url, nil)
		wantText(t, err, "containerURL is not a URL such as")
		_, err2 := c.backup.BeginPreRestore(t.Context(), url, nil)
		wantText(t, err2, "folderURL is not a URL such as")
		if strings.Contains(err.Error()+err2.Error(), "the-signature") {
			t.Errorf("the error holds the signature: %v, %v", err, err2)
		}
	}
	_, err := c.backup.BeginRestore(t.Context(), container, nil)
	wantText(t, err, "has no folder behind the container")
	_, err = c.backup.BeginPreRestore(t.Context(), container+"/f", &administration.BeginRestoreOptions{KeyName: "k"})
	wantText(t, err, "takes no KeyName")
}

// What a backup gives is what a restore takes, wherever the container is.
func TestFolderURLFits(t *testing.T) {
	t.Parallel()
	for _, container := range []string{
		"https://a.blob.core.windows.net/c", "https://storage.example.org/c", "https://127.0.0.1:10000/devstoreaccount1/c",
		"https://[::1]:10000/devstoreaccount1/c", "https://localhost:10000/devstoreaccount1/c", "https://azurite:10000/devstoreaccount1/c",
		"https://azurite.localhost:10000/devstoreaccount1/c", "https://devstoreaccount1.blob.localhost:10000/c",
		"https://127.0.0.1:9000/c", // a server without accounts in its paths
	} {
		var backupBody, restoreBody struct {
			URI     string `json:"storageResourceUri"`
			Storage struct {
				URI string `json:"storageResourceUri"`
			} `json:"sasTokenParameters"`
			Folder string `json:"folderToRestore"`
		}
		var srv *httptest.Server
		srv, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
			var err error
			switch r.Method {
			case http.MethodPost:
				err = json.NewDecoder(r.Body).Decode(&backupBody)
			case http.MethodPut:
				err = json.NewDecoder(r.Body).Decode(&restoreBody)
			}
			if err != nil {
				t.Error(err)
			}
			if r.Method != http.MethodGet {
				w.Header().Set("Azure-AsyncOperation", srv.URL+"/job")
				w.WriteHeader(http.StatusAccepted)
			}
			_, _ = fmt.Fprintf(w, `{"status":"Succeeded","azureStorageBlobContainerUri":%q}`, backupBody.URI+"/mhsm-x-2024061904300987")
		})
		p, err := c.backup.BeginBackup(t.Context(), container+"/"+sas, nil)
		if err != nil {
			t.Fatal(err)
		}
		made, err := p.PollUntilDone(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.backup.BeginRestore(t.Context(), made.FolderURL, nil); err != nil {
			t.Fatal(err)
		}
		if backupBody.URI != container || restoreBody.Storage.URI != container || restoreBody.Folder != "mhsm-x-2024061904300987" {
			t.Errorf("%s: backed up to %s, restored from %s, folder %s", container, backupBody.URI, restoreBody.Storage.URI, restoreBody.Folder)
		}
	}
}

func TestSASTokenIsNotPrinted(t *testing.T) {
	t.Parallel()
	o := administration.BeginRestoreOptions{SASToken: sas}
	raw, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{fmt.Sprint(o), fmt.Sprintf("%+v", &o), fmt.Sprintf("%#v", o), fmt.Sprintf("%q %x %d", o.SASToken, o.SASToken, o.SASToken), string(raw), o.SASToken.LogValue().String()} {
		if strings.Contains(text, "signature") || !strings.Contains(text, "REDACTED") {
			t.Errorf("printed as %s", text)
		}
	}
}

// azcore can log bodies, but not these. The listener is of the whole program, so this test runs alone.
func TestSASTokenIsNotLogged(t *testing.T) {
	var lines strings.Builder
	log.SetListener(func(_ log.Event, line string) { lines.WriteString(line) })
	defer log.SetListener(nil)
	srv, _ := serveJob(t, `{"status":"Failed","statusDetails":"no access with `+sas+`"}`)
	o := options(srv)
	o.Logging.IncludeBody = true
	p, err := newClients(t, srv.URL, o, credential{}).backup.BeginBackup(t.Context(), container+sas, &administration.BeginBackupOptions{SASToken: sas})
	if err != nil {
		t.Fatal(err)
	}
	_, err = p.PollUntilDone(t.Context(), nil)
	wantError(t, err, 200, "")
	if lines.Len() == 0 || strings.Contains(lines.String(), "the-signature") || strings.Contains(lines.String(), bearer) {
		t.Errorf("logged:\n%s", lines.String())
	}
}
