package arm

import (
	"net/http"
)

// metadataEndpoints tells whoever asks where the services of this cloud are, before there is a token. It has three forms,
// told apart by their versions (contract §20.1).
func metadataEndpoints(q *request) (response, error) {
	switch version := q.query.Get("api-version"); {
	case version == "":
		return response{}, &wireError{status: http.StatusBadRequest, code: "MissingApiVersionParameter",
			message: "The api-version query parameter (?api-version=) is required for all requests."}
	case datedVersion.FindStringSubmatch(version) == nil:
		return response{}, &wireError{status: http.StatusBadRequest, code: "InvalidApiVersionParameter",
			message: sprintf("The api-version '%s' is invalid.", clip(version))}
	case version < "2018":
		return reply(http.StatusOK, q.oldCloud())
	case version < "2022":
		return reply(http.StatusOK, []cloud{q.cloud()})
	}
	return reply(http.StatusOK, q.cloud())
}

type oldCloud struct {
	Gallery        string            `json:"galleryEndpoint"`
	Graph          string            `json:"graphEndpoint"`
	Portal         string            `json:"portalEndpoint"`
	Authentication oldAuthentication `json:"authentication"`
}

type oldAuthentication struct {
	Login     string   `json:"loginEndpoint"`
	Audiences []string `json:"audiences"`
}

type cloud struct {
	Portal           string         `json:"portal"`
	Authentication   authentication `json:"authentication"`
	GraphAudience    string         `json:"graphAudience"`
	Graph            string         `json:"graph"`
	Name             string         `json:"name"`
	Suffixes         suffixes       `json:"suffixes"`
	ResourceManager  string         `json:"resourceManager"`
	MicrosoftGraphID string         `json:"microsoftGraphResourceId"`
	Gallery          string         `json:"gallery"`
}

type authentication struct {
	Login            string   `json:"loginEndpoint"`
	Audiences        []string `json:"audiences"`
	Tenant           string   `json:"tenant"`
	IdentityProvider string   `json:"identityProvider"`
}

// suffixes have no dot in front; with a port other than 443 they have it behind, because clients make URLs of them. There is
// no storage here, but some clients need the member.
type suffixes struct {
	KeyVault string `json:"keyVaultDns"`
	HSM      string `json:"mhsmDns"`
	Storage  string `json:"storage"`
}

// host is the URL of a host of the installation, without a slash at the end.
func (q *request) host(name string) string { return "https://" + q.suffix(name) }

func (q *request) suffix(name string) string {
	suffix := name + "." + q.h.cfg.Domain
	if q.port != "" {
		suffix += ":" + q.port
	}
	return suffix
}

func (q *request) oldCloud() oldCloud {
	return oldCloud{
		Gallery: q.host("management"), Graph: q.host("management"), Portal: q.host("portal"),
		Authentication: oldAuthentication{q.h.cfg.Login(q.port), []string{q.host("management")}},
	}
}

func (q *request) cloud() cloud {
	management := q.host("management")
	return cloud{
		Portal: q.host("portal"),
		Authentication: authentication{
			q.h.cfg.Login(q.port), []string{management, management + "/"}, q.resources().TenantID(), "AAD",
		},
		GraphAudience: management, Graph: management, MicrosoftGraphID: management,
		Name:            "Strongroom",
		Suffixes:        suffixes{q.suffix("vault"), q.suffix("managedhsm"), q.suffix("blob")},
		ResourceManager: management,
		Gallery:         management,
	}
}
