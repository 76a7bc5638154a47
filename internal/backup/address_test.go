package backup_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/backup/backuptest"
)

func newStorage(t *testing.T, hosts ...string) *backup.Storage {
	t.Helper()
	s, err := backup.NewStorage(backup.Config{Hosts: hosts, Now: func() time.Time { return time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC) }})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAddresses(t *testing.T) {
	t.Parallel()
	s := newStorage(t, "storage.example.org", "127.0.0.1:10000", "[::1]:10000", "*.blob.example.net", "*.blob.example.net:8443")
	for address, want := range map[string]string{
		"https://acct.blob.core.windows.net/backups":                      "",
		"https://ACCT.Blob.core.windows.net:443/backups/":                 "https://acct.blob.core.windows.net/backups",
		"https://acct.z01.blob.storage.azure.net/backups":                 "",
		"https://acct.blob.core.chinacloudapi.cn/backups":                 "",
		"https://acct.blob.core.usgovcloudapi.net/backups":                "",
		"https://storage.example.org/backups":                             "",
		"https://storage.example.org/acct/backups":                        "",
		"https://127.0.0.1:10000/devstoreaccount1/backups":                "",
		"https://[::1]:10000/devstoreaccount1/backups":                    "",
		"https://acct.blob.example.net/backups":                           "",
		"https://acct.blob.example.net:8443/backups":                      "",
		"https://acct.blob.core.windows.net:8443/backups":                 "may not use",
		"https://acct.blob.core.windows.net.:443/backups":                 "may not use",
		"https://blob.core.windows.net/backups":                           "may not use",
		"https://acctblob.core.windows.net/backups":                       "may not use",
		"https://acct.blob.core.windows.net.evil.org/x":                   "may not use",
		"https://storage.example.org:444/backups":                         "may not use",
		"https://127.0.0.1/devstoreaccount1/backups":                      "may not use",
		"https://169.254.169.254/metadata/instance":                       "may not use",
		"https://localhost/backups":                                       "may not use",
		"https://blob.example.net/backups":                                "may not use",
		"http://acct.blob.core.windows.net/backups":                       "begin with https",
		"https://acct.blob.core.windows.net/backups?sig=x":                "has a query",
		"https://acct.blob.core.windows.net/backups?":                     "has a query",
		"https://acct.blob.core.windows.net/backups#x":                    "fragment",
		"https://me:sig@acct.blob.core.windows.net/backups":               "not a URL",
		"https:acct.blob.core.windows.net/backups":                        "not a URL",
		"acct.blob.core.windows.net/backups":                              "not a URL",
		"https://acct.blob.core.windows.net/%zz?sig=x":                    "not a URL",
		"https://acct.blob.core.windows.net/":                             "does not name a container",
		"https://acct.blob.core.windows.net/a/backups":                    "does not name a container",
		"https://acct.blob.core.windows.net/$root":                        "does not name a container",
		"https://acct.blob.core.windows.net/back%75ps":                    "does not name a container",
		"https://acct.blob.core.windows.net/Backups":                      "does not name a container",
		"https://acct.blob.core.windows.net/ab":                           "does not name a container",
		"https://acct.blob.core.windows.net/-abc":                         "does not name a container",
		"https://acct.blob.core.windows.net/../backups":                   "does not name a container",
		"https://storage.example.org/a/b/backups":                         "does not name a container",
		"https://acct.blob.core.windows.net/" + strings.Repeat("a", 64):   "does not name a container",
		"https://acct.blob.core.windows.net/" + strings.Repeat("a", 2000): "1024 are allowed",
		"": "not a URL",
	} {
		c, err := s.Container(address, backup.Access{SAS: backuptest.SAS})
		switch {
		case err == nil && !strings.HasPrefix(want, "https") && want != "":
			t.Errorf("%s: accepted, want an error with %q", address, want)
		case err == nil && c.String() != want && want != "":
			t.Errorf("%s: %s, want %s", address, c, want)
		case err == nil && want == "" && c.String() != address:
			t.Errorf("%s: became %s", address, c)
		case err != nil:
			wantCode(t, err, backup.BadParameter)
			if want == "" || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", address, err, want)
			}
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	for _, entry := range []string{"", "https://example.org", "a/b", "a b", "*", "*.", "example.org:", "a@b", "example.org:https", "*.*.org"} {
		if _, err := backup.NewStorage(backup.Config{Hosts: []string{entry}}); err == nil {
			t.Errorf("%q: accepted", entry)
		}
	}
}

func TestSAS(t *testing.T) {
	t.Parallel()
	s := newStorage(t)
	const noExpiry = "The customer provided SAS token is malformed. The SAS token does not contain the expiry field"
	for token, want := range map[string]struct{ code, text string }{
		backuptest.SAS:                                      {},
		backuptest.SAS[1:]:                                  {},
		backuptest.SASUntil("2026-01-02T00:01Z"):            {},
		backuptest.SASUntil("2026-01-02T00:00:00.1000000Z"): {},
		backuptest.SASUntil("2026-01-03"):                   {},
		backuptest.SASUntil("2026-01-01T23:59:00-01:00"):    {},
		"sig=a+b&se=2999-01-01T00:00:00+00:00":              {},
		"sv=2022-11-02&sig=abc":                             {backup.BadSAS, noExpiry},
		"sv=2022-11-02&sig=abc&se=":                         {backup.BadSAS, noExpiry},
		"se=2999-01-01":                                     {backup.BadSAS, "the signature field"},
		"nonsense":                                          {backup.BadSAS, "unknown or repeated"},
		"%zz":                                               {backup.BadSAS, "not a query string"},
		"a;b":                                               {backup.BadSAS, "not a query string"},
		backuptest.SAS + "&comp=list":                       {backup.BadSAS, "unknown or repeated"},
		backuptest.SAS + "&restype=container":               {backup.BadSAS, "unknown or repeated"},
		backuptest.SAS + "&snapshot=x":                      {backup.BadSAS, "unknown or repeated"},
		backuptest.SAS + "&se=2998-01-01":                   {backup.BadSAS, "unknown or repeated"},
		backuptest.SASUntil("tomorrow"):                     {backup.BadSAS, "not a time"},
		backuptest.SASUntil("2026-01-01"):                   {backup.Denied, "expired at 2026-01-01T00:00:00Z"},
		backuptest.SASUntil("2026-01-02T00:00:00Z"):         {backup.Denied, "expired"},
		backuptest.SAS + strings.Repeat("x", 5000):          {backup.BadSAS, "4096 are allowed"},
		"": {backup.BadParameter, "Nothing opens"},
	} {
		_, err := s.Container("https://acct.blob.core.windows.net/backups", backup.Access{SAS: token})
		if want.code == "" {
			if err != nil {
				t.Errorf("%s: %v", token, err)
			}
			continue
		}
		wantCode(t, err, want.code)
		if err == nil || !strings.Contains(err.Error(), want.text) {
			t.Errorf("%s: %v, want %q", token, err, want.text)
		}
	}
}

func TestAccessIsSecret(t *testing.T) {
	t.Parallel()
	a := backup.Access{SAS: backuptest.SAS}
	raw, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	var logged strings.Builder
	slog.New(slog.NewTextHandler(&logged, nil)).Info("x", "access", a)
	for _, text := range []string{fmt.Sprint(a), fmt.Sprintf("%+v %#v %s", a, a, &a), string(raw), logged.String()} {
		if strings.Contains(text, "c2VjcmV0") || !strings.Contains(text, "REDACTED") {
			t.Error(text)
		}
	}
	r := backup.Record{Kind: "key", Name: "a", Data: []byte("secret")}
	if text := fmt.Sprintf("%v %+v %#v", r, r, r); strings.Contains(text, "secret") || strings.Contains(text, fmt.Sprint(r.Data)) {
		t.Error(text)
	}
}

func TestFolder(t *testing.T) {
	t.Parallel()
	c, err := newStorage(t).Container("https://acct.blob.core.windows.net/backups", backup.Access{SAS: backuptest.SAS})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"mhsm-x-2024061904300987":                                     "mhsm-x-2024061904300987",
		"/mhsm-x-2024061904300987":                                    "mhsm-x-2024061904300987",
		"of-2025/mhsm-x-1/":                                           "of-2025/mhsm-x-1",
		"https://acct.blob.core.windows.net/backups/mhsm-x-1":         "mhsm-x-1",
		"https://acct.blob.core.windows.net/backups/mhsm-x-1?sv=2022": "mhsm-x-1",
		"https://ACCT.blob.core.windows.net/backups/mhsm-x-1":         "mhsm-x-1",
		"https://acct.blob.core.windows.net/other/mhsm-x-1":           "",
		"https://other.blob.core.windows.net/backups/mhsm-x-1":        "",
		"https://acct.blob.core.windows.net/backups/":                 "",
		"https://acct.blob.core.windows.net/backups/a%2fb":            "",
		"":                        "",
		"..":                      "",
		"a/../b":                  "",
		"a//b":                    "",
		"a?x=1":                   "",
		"a b":                     "",
		strings.Repeat("a", 2000): "",
	} {
		got, err := c.Folder(name)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %s, %v, want %q", name, got, err, want)
		}
	}
	if got := c.URI("mhsm-x-1"); got != "https://acct.blob.core.windows.net/backups/mhsm-x-1" {
		t.Error(got)
	}
}

// TestLoopback: this machine's own addresses with any port, where that is allowed, and no others.
func TestLoopback(t *testing.T) {
	t.Parallel()
	for _, allowed := range []bool{false, true} {
		s, err := backup.NewStorage(backup.Config{Loopback: allowed})
		if err != nil {
			t.Fatal(err)
		}
		for address, local := range map[string]bool{
			"https://127.0.0.1:10000/account/backups": true, "https://[::1]/account/backups": true, "https://LocalHost:1/backups": true,
			"https://127.1.2.3:8/account/backups": true, "https://localhost.example:1/account/backups": false, "https://10.0.0.1:1/account/backups": false,
			"https://0.0.0.0:1/account/backups": false, "https://[::]:1/account/backups": false,
		} {
			_, err := s.Container(address, backup.Access{SAS: backuptest.SAS})
			if (err == nil) != (local && allowed) {
				t.Errorf("%s, loopback allowed: %t: %v", address, allowed, err)
			}
		}
	}
}
