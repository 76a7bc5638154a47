package administration

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

type anyCredential struct{}

func (anyCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, nil
}

func TestPace(t *testing.T) {
	t.Parallel()
	for retryAfter, want := range map[string]string{
		"": "5000", "x": "5000", "-1": "5000", "0": "1", "10": "10000", "99999": "60000", "99999999999999999999": "5000",
		time.Now().Add(time.Hour).UTC().Format(http.TimeFormat):  "60000",
		time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat): "1",
	} {
		h := http.Header{}
		h.Set("Retry-After", retryAfter)
		pace(h)
		if got := h.Get("Retry-After-Ms"); got != want {
			t.Errorf("Retry-After %q: %s ms, want %s", retryAfter, got, want)
		}
	}
}

func TestOwn(t *testing.T) {
	t.Parallel()
	c, err := newClient("https://Name.Managedhsm.example:443/", anyCredential{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for text, ok := range map[string]bool{
		"https://name.managedhsm.example/backup/j/pending": true, "https://NAME.managedhsm.example:443/x": true,
		"https://name.managedhsm.example:444/x": false, "https://other.managedhsm.example/x": false, "https://name.managedhsm.example.evil/x": false,
	} {
		if _, err := c.own("it", text); (err == nil) != ok {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestSplitFolder(t *testing.T) {
	t.Parallel()
	for url, want := range map[string][2]string{
		"https://a.blob.core.windows.net/c/f":        {"https://a.blob.core.windows.net/c", "f"},
		"https://a.blob.core.windows.net/c/f/g/?x=y": {"https://a.blob.core.windows.net/c", "f/g"},
		"https://a.blob.core.windows.net/c/f%20g#h":  {"https://a.blob.core.windows.net/c", "f%20g"},
		"https://10.0.0.1:10000/acct/c/f/g":          {"https://10.0.0.1:10000/acct/c", "f/g"},
		"https://10.0.0.1:10000/c/f":                 {"https://10.0.0.1:10000/c", "f"},
		"https://acct.blob.localhost:10000/c/f/g":    {"https://acct.blob.localhost:10000/c", "f/g"},
	} {
		container, folder, err := splitFolder(url, "")
		if err != nil || container != want[0] || folder != want[1] {
			t.Errorf("%s: %s, %s, %v", url, container, folder, err)
		}
	}
	for _, tt := range []struct {
		folderURL, containerURL string
		folder                  string // "" is an error
	}{
		{"https://blobs.example.org/acct/c/f/g?x=y", "https://blobs.example.org/acct/c/?x=y", "f/g"},
		{"https://blobs.example.org/acct/c/f", "https://blobs.example.org/acct/d", ""},
		{"https://blobs.example.org/acct/cd/f", "https://blobs.example.org/acct/c", ""},
		{"https://blobs.example.org/acct/c", "https://blobs.example.org/acct/c", ""},
		{"https://blobs.example.org/acct/c/f", "acct/c", ""},
	} {
		container, folder, err := splitFolder(tt.folderURL, tt.containerURL)
		if (err == nil) != (tt.folder != "") || folder != tt.folder || err == nil && container != "https://blobs.example.org/acct/c" {
			t.Errorf("%s in %s: %s, %s, %v", tt.folderURL, tt.containerURL, container, folder, err)
		}
	}
}
