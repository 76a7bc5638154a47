package arm

import (
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// A provider is whose api-versions a route has.
type provider int

const (
	none          provider = iota // the route needs none and looks at none
	keyVault                      // Microsoft.KeyVault
	resourcesAPI                  // Microsoft.Resources, to which subscriptions, groups and locations belong
	authorization                 // Microsoft.Authorization
)

// Versions of Microsoft.KeyVault in their order. All of them get the newest behaviour, but for what a vault is that does not
// say by which model it decides.
var apiVersions = []string{
	"2015-06-01", "2016-10-01", "2018-02-14-preview", "2018-02-14", "2019-09-01", "2020-04-01-preview", "2021-04-01-preview",
	"2021-06-01-preview", "2021-10-01", "2021-11-01-preview", "2022-02-01-preview", "2022-07-01", "2022-11-01", "2023-02-01",
	"2023-07-01", "2024-04-01-preview", "2024-11-01", "2024-12-01-preview", "2025-05-01", "2026-02-01", "2026-05-15",
}

// rolesByDefault is the first version in which a vault that does not say by which model it decides goes by roles.
const rolesByDefault = "2026-02-01"

// APIVersions returns the versions of Microsoft.KeyVault that are accepted, oldest first.
func APIVersions() []string { return slices.Clone(apiVersions) }

var datedVersion = regexp.MustCompile(`^(20[0-9]{2}-[0-9]{2}-[0-9]{2})(-preview|-alpha|-beta|-privatepreview)?$`)

// version returns the api-version of a request. The other providers have had dozens of versions that differ in nothing that
// is here, so of them every date is accepted.
func (p provider) version(q url.Values) (string, error) {
	v := q.Get("api-version")
	switch {
	case p == none:
		return v, nil
	case v == "":
		return "", &wireError{status: http.StatusBadRequest, code: "MissingApiVersionParameter",
			message: "The api-version query parameter (?api-version=) is required for all requests."}
	}
	date := datedVersion.FindStringSubmatch(v)
	if date == nil || !isDate(date[1]) {
		return "", &wireError{status: http.StatusBadRequest, code: "InvalidApiVersionParameter",
			message: sprintf("The api-version '%s' is invalid. The supported versions are '%s'.", clip(v), strings.Join(apiVersions, ","))}
	}
	if p == keyVault && !slices.Contains(apiVersions, v) {
		return "", &wireError{status: http.StatusBadRequest, code: "NoRegisteredProviderFound",
			message: sprintf("No registered resource provider found for API version '%s' of namespace 'Microsoft.KeyVault'. "+
				"The supported api-versions are '%s'.", v, strings.Join(apiVersions, ", "))}
	}
	return v, nil
}

func isDate(text string) bool {
	_, err := time.Parse(time.DateOnly, text)
	return err == nil
}

// atLeast tells whether the request asks for version of Microsoft.KeyVault or a later one.
func (q *request) atLeast(version string) bool {
	return slices.Index(apiVersions, q.outcome.APIVersion) >= slices.Index(apiVersions, version)
}
