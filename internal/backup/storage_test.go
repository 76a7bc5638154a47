package backup_test

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/backup/backuptest"
)

// open returns the container of a storage.
func open(t testing.TB, f *backuptest.Storage) *backup.Container {
	t.Helper()
	return openAt(t, f, func() time.Time { return time.Date(2026, 1, 2, 3, 4, 5, 670_000_000, time.UTC) }, backuptest.SAS)
}

func openAt(t testing.TB, f *backuptest.Storage, now func() time.Time, token string) *backup.Container {
	t.Helper()
	c, err := f.Open(t, now).Container(f.Address(), backup.Access{SAS: token})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// domain is a security domain for tests.
type domain string

func (d domain) ID() string { return string(d) }

func (d domain) BackupKey(salt []byte) ([]byte, error) {
	key := sha256.Sum256(append([]byte(d), salt...))
	return key[:], nil
}

// wantCode checks that err is an Error with this code, and that no SAS token is in it.
func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	var e *backup.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("error %v, want the code %s", err, code)
	}
	wantNoSecret(t, err)
}

func wantNoSecret(t testing.TB, err error) {
	t.Helper()
	if text := fmt.Sprintf("%v %+v %#v", err, err, err); backuptest.Shows(text) {
		t.Errorf("the error shows the token: %s", text)
	}
}

// failing serves requests, from the first that matches, with an error, so many times; 0 means for ever.
func failing(match string, times int, status int, code string) func(int, http.ResponseWriter, *http.Request) bool {
	failed := 0
	return func(_ int, w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.Method+" "+r.URL.Path+"?"+cmp.Or(r.URL.Query().Get("comp"), "-"), match) || times > 0 && failed >= times {
			return false
		}
		failed++
		backuptest.Refuse(w, status, code)
		return true
	}
}
