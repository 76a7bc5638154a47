package main

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/strongroom/strongroom/administration"
)

func TestContainer(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		container
		folder                  string
		folderURL, containerURL string // empty: refused
	}{
		{container{uri: "https://a.example/c/"}, "f", "https://a.example/c/f", "https://a.example/c/"},
		{container{uri: "https://a.example/c?sig=x"}, "f/g", "https://a.example/c/f/g", "https://a.example/c"},
		{container{account: "acct", name: "backups"}, "f", "https://acct.blob.core.windows.net/backups/f", "https://acct.blob.core.windows.net/backups"},
		{container{}, "https://a.example/c/f", "https://a.example/c/f", ""},
		{container{uri: "https://a.example/c"}, "https://a.example/c/f", "", ""},
		{container{}, "f", "", ""},
		{container{}, "", "", ""},
		{container{uri: "a/c"}, "f", "", ""},
		{container{uri: "https://a.example/"}, "f", "", ""},
		{container{uri: "https://a.example/c"}, "f?g", "", ""},
		{container{account: "evil.example/", name: "backups"}, "f", "", ""},
		{container{account: "acct", name: "../x"}, "f", "", ""},
	} {
		folderURL, containerURL, err := tt.container.folder(tt.folder)
		switch {
		case tt.folderURL == "" && exitCode(&workError{err}) != exitUsage:
			t.Errorf("%+v: got %v, want wrong usage", tt, err)
		case tt.folderURL != "" && (err != nil || folderURL != tt.folderURL || containerURL != tt.containerURL):
			t.Errorf("%+v: got %s, %s, %v", tt, folderURL, containerURL, err)
		}
	}
}

func TestFollowFailure(t *testing.T) {
	t.Parallel()
	var base string
	base, options := serveHSM(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Azure-AsyncOperation", base+"/restore/j1/pending")
		if r.Method == http.MethodPut {
			w.WriteHeader(http.StatusAccepted)
		}
		_, _ = io.WriteString(w, `{"status":"Failed","statusDetails":"ResourceNotFound","jobId":"j1"}`)
	})
	client, err := administration.NewBackupClient(base, testCredential{}, options)
	if err != nil {
		t.Fatal(err)
	}
	poller, err := client.BeginRestore(t.Context(), "https://a/c/f", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = follow(t.Context(), poller, io.Discard, "restore")
	if got := explain(err); got != "the restore failed: job j1: ResourceNotFound" {
		t.Errorf("explained as %q", got)
	}
}

// Who waits for a job sees how it is.
func TestFollow(t *testing.T) {
	t.Parallel()
	states := []string{
		`{"status":"InProgress","jobId":"j1"}`, `{"status":"InProgress","statusDetails":"12\nkeys","jobId":"j1"}`,
		`{"status":"Succeeded","jobId":"j1","startTime":1,"endTime":2,"azureStorageBlobContainerUri":"https://a/c/f"}`,
	}
	var base string
	base, options := serveHSM(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			w.Header().Set("Azure-AsyncOperation", base+"/backup/j1/pending")
			w.WriteHeader(http.StatusAccepted)
			return
		}
		w.Header().Set("Retry-After", "0")
		_, _ = io.WriteString(w, states[0])
		states = states[1:]
	})
	client, err := administration.NewBackupClient(base, testCredential{}, options)
	if err != nil {
		t.Fatal(err)
	}
	poller, err := client.BeginBackup(t.Context(), "https://a/c", nil)
	if err != nil {
		t.Fatal(err)
	}
	var notes strings.Builder
	got, err := follow(t.Context(), poller, &notes, "backup")
	if err != nil || got.FolderURL != "https://a/c/f" {
		t.Errorf("got %v, %v", got, err)
	}
	want := "strongroom: backup j1: InProgress, waiting for 0s\nstrongroom: backup j1: InProgress, 12 keys, waiting for 0s\n"
	if notes.String() != want {
		t.Errorf("noted:\n%s", notes.String())
	}
	out := newJobOut(got.Operation, got.FolderURL)
	if !out.StartTime.Equal(time.Unix(1, 0)) || !out.EndTime.Equal(time.Unix(2, 0)) || out.JobID != "j1" || out.FolderURL != "https://a/c/f" {
		t.Errorf("shown as %+v", out)
	}
}

func TestHSMTarget(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		hsmTarget
		url string // "" is wrong usage, "-" is made of the name later
	}{
		{hsmTarget{name: "hsm-a"}, "-"},
		{hsmTarget{id: "https://hsm-a.managedhsm.azure.net/keys/x"}, "https://hsm-a.managedhsm.azure.net"},
		{hsmTarget{}, ""},
		{hsmTarget{name: "evil.example/"}, ""},
		{hsmTarget{id: "http://hsm-a.managedhsm.azure.net"}, ""},
		{hsmTarget{id: (&url.URL{Scheme: "https", Host: "h", User: url.User("u")}).String()}, ""},
	} {
		err := tt.check()
		if tt.url == "" && exitCode(&workError{err}) != exitUsage || tt.url != "" && (err != nil || tt.hsmTarget.url != strings.TrimPrefix(tt.url, "-")) {
			t.Errorf("%s%s: got %s, %v", tt.name, tt.id, tt.hsmTarget.url, err)
		}
	}
}
