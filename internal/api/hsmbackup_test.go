package api_test

import (
	"encoding/json"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/backup/backuptest"
	"github.com/strongroom/strongroom/strongroomtest"
)

// A recordedJob is an exchange about a backup or a restore that was made with the real service.
type recordedJob struct {
	Method, Path, Query string
	Status              int
	Request             string            `json:"request_body"`
	Headers             map[string]string `json:"response_headers"`
	Response            string            `json:"response_body"`
}

// TestRecordedBackups plays what clients did with the real service, and compares the answers: members, their order, and the headers
// that clients go by.
func TestRecordedBackups(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"full-backup-restore", "selective-key-restore"} {
		raw, err := os.ReadFile("../../../shared/vectors/security-domain/admin/recorded-" + file + ".json")
		if os.IsNotExist(err) {
			t.Log("left out: the recorded exchanges are not on this machine")
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var recorded struct{ Exchanges []recordedJob }
		if err := json.Unmarshal(raw, &recorded); err != nil || len(recorded.Exchanges) == 0 {
			t.Fatal(err)
		}
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			playJobs(t, recorded.Exchanges)
		})
	}
}

var (
	recordedAddress = regexp.MustCompile(`https://[a-z0-9]+\.blob\.core\.windows\.net/[a-z0-9]+`)
	recordedToken   = regexp.MustCompile(`"token": "[^"]*"`)
	recordedFolder  = regexp.MustCompile(`mhsm-[a-z0-9-]+-\d{16}`)
	recordedJobID   = regexp.MustCompile(`/(backup|restore)/[0-9a-f]{32}/pending`)

	// What a value is, once what differs from run to run is out of it.
	jobValues = strings.NewReplacer(`{"code":null,"message":null,"innererror":null}`, "null", `{"code":null,"innererror":null,"message":null}`, "null")
	jobNumber = regexp.MustCompile(`\b\d{10}\b|\b[0-9a-f]{32}\b|restored: \d+`)
)

// shapeOfJob is an answer without what differs from run to run.
func shapeOfJob(body string) string {
	body = recordedFolder.ReplaceAllString(jobValues.Replace(body), "<folder>")
	body = regexp.MustCompile(`"https://[^"]*/<folder>"`).ReplaceAllString(body, `"<address>"`)
	return jobNumber.ReplaceAllString(body, "<n>")
}

func playJobs(t *testing.T, exchanges []recordedJob) {
	storage := backuptest.New(t)
	c := &hsmClient{t: t, server: strongroomtest.Start(t, &strongroomtest.Options{HSMs: []string{"pool"}, Config: storageConfig(t, storage)})}
	c.token = c.server.HSMToken(t, c.server.ClientID, c.server.Secret)
	pool := c.server.HSMURL("pool")
	folder, pending, jobs := "", "", 0
	for _, e := range exchanges {
		body := recordedAddress.ReplaceAllString(e.Request, storage.Address())
		body = recordedToken.ReplaceAllString(body, `"token": "`+backuptest.SAS+`"`)
		body = recordedFolder.ReplaceAllString(body, folder)
		path := e.Path
		if strings.HasSuffix(path, "/pending") {
			path = pending
		}
		target := pool + path
		if e.Query != "" {
			target += "?" + e.Query
		}
		token := c.token
		if e.Status == http.StatusUnauthorized {
			token = ""
		}
		resp, got := c.send(e.Method, target, body, token)
		ended := strings.Contains(e.Response, `"endTime":1`)
		for deadline := time.Now().Add(time.Minute); ended && strings.Contains(got, `"InProgress"`); {
			if time.Now().After(deadline) {
				t.Fatalf("the job does not end: %s", got)
			}
			resp, got = c.send(e.Method, target, body, token)
		}
		if resp.StatusCode != e.Status {
			t.Fatalf("%s %s: %d %s, and %d was recorded", e.Method, path, resp.StatusCode, got, e.Status)
		}
		if !strings.Contains(e.Response, `"jobId"`) {
			continue
		}
		if at := e.Headers["azure-asyncoperation"]; at != "" {
			jobs++
			pending = strings.TrimPrefix(resp.Header.Get("Azure-AsyncOperation"), pool)
			want := recordedJobID.FindStringSubmatch(at)
			if found := recordedJobID.FindStringSubmatch(pending); found == nil || found[0] != pending || found[1] != want[1] {
				t.Fatalf("%s %s: Azure-AsyncOperation %q, recorded %q", e.Method, path, pending, at)
			}
		}
		if found := recordedFolder.FindString(got); found != "" {
			folder = found
		}
		progress := e.Method == http.MethodGet && !ended // ours may have ended already
		if ours, theirs := shapeOfJob(got), shapeOfJob(e.Response); ours != theirs && !progress {
			t.Errorf("%s %s: got %s, recorded %s", e.Method, path, ours, theirs)
		}
	}
	if jobs < 2 {
		t.Errorf("%d jobs are recorded", jobs)
	}
}
