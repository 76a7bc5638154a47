package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"

	"github.com/strongroom/strongroom/internal/keyvault"
)

// Versions of the data plane in their order (contract §1). All of them get the newest behaviour, but members that a
// version did not have are left out of its answers.
var apiVersions = []string{
	"2015-06-01", "2016-10-01", "7.0", "7.1",
	"7.2-preview", "7.2", "7.3-preview", "7.3", "7.4-preview.1", "7.4", "7.5-preview.1", "7.5",
	"7.6-preview.1", "7.6-preview.2", "7.6", "2025-06-01-preview", "2025-07-01",
	"2026-01-01-preview", "2026-03-01-preview", "2026-04-01", "2026-05-01-preview", "2026-07-01-preview",
}

const latestVersion = "2026-04-01"

// APIVersions returns the versions of the data plane that are accepted, oldest first.
func APIVersions() []string { return slices.Clone(apiVersions) }

func badParameter(format string, args ...any) error {
	return &wireError{http.StatusBadRequest, "BadParameter", "", fmt.Sprintf(format, args...)}
}

func apiVersion(q url.Values) (string, error) {
	version := q.Get("api-version")
	if version == "" {
		return "", badParameter("The query parameter api-version is missing. Consider using the latest supported version (%s).",
			latestVersion)
	}
	if !slices.Contains(apiVersions, version) {
		return "", badParameter("The specified version (%.32s) is not recognized. Consider using the latest supported version (%s).",
			version, latestVersion)
	}
	return version, nil
}

// atLeast tells whether the request asks for version or a later one.
func (q *request) atLeast(version string) bool {
	return slices.Index(apiVersions, q.outcome.APIVersion) >= slices.Index(apiVersions, version)
}

// A skipToken is where the next page of a list begins. It is no secret and needs no protection: it only names a position
// among the names that the caller may list anyway.
type skipToken struct {
	NextMarker string `json:"NextMarker"`
}

var marker = regexp.MustCompile(`^[0-9a-z-]{1,127}$`)

// page reads the paging parameters: from which name or version on, and how many.
func (q *request) page() (from string, max int, err error) {
	max = keyvault.MaxPage
	if text := q.query.Get("maxresults"); q.query.Has("maxresults") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > keyvault.MaxPage {
			return "", 0, badParameter("The query parameter maxresults must be a number from 1 to %d.", keyvault.MaxPage)
		}
		max = n
	}
	if q.query.Has("$skiptoken") {
		raw, err := base64.RawURLEncoding.DecodeString(q.query.Get("$skiptoken"))
		var t skipToken
		if err == nil {
			err = json.Unmarshal(raw, &t)
		}
		if err != nil || !marker.MatchString(t.NextMarker) {
			return "", 0, badParameter("The query parameter $skiptoken was not made by this service.")
		}
		from = t.NextMarker
	}
	return from, max, nil
}

// nextLink is the URL of the page that begins at next, or nil at the end of the list.
func (q *request) nextLink(next string, max int) *string {
	if next == "" {
		return nil
	}
	token, err := json.Marshal(skipToken{next})
	if err != nil {
		panic(err) // a struct of one string
	}
	link := q.base + q.r.URL.EscapedPath() + "?api-version=" + url.QueryEscape(q.outcome.APIVersion) +
		"&$skiptoken=" + base64.RawURLEncoding.EncodeToString(token)
	if q.query.Has("maxresults") {
		link += "&maxresults=" + strconv.Itoa(max)
	}
	return &link
}
