package challenge

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func TestTransport(t *testing.T) {
	t.Parallel()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.Path {
		case "/elsewhere":
			http.Redirect(w, req, "/full", http.StatusTemporaryRedirect)
		case "/full":
			_, _ = w.Write(bytes.Repeat([]byte("x"), maxAnswer))
		default:
			_, _ = w.Write(bytes.Repeat([]byte("x"), maxAnswer+1))
		}
	}))
	t.Cleanup(s.Close)
	ask := func(path string) (*http.Response, []byte, error) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := Transport(nil).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return resp, body, err
	}
	if resp, _, err := ask("/elsewhere"); err != nil || resp.StatusCode != http.StatusTemporaryRedirect {
		t.Errorf("a redirect: %v, %v", resp, err)
	}
	if _, body, err := ask("/full"); err != nil || len(body) != maxAnswer {
		t.Errorf("%d bytes, %v", len(body), err)
	}
	if _, body, err := ask("/over"); !errors.As(err, new(tooLongError)) {
		t.Errorf("%d bytes, %v", len(body), err)
	}
}
