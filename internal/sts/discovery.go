package sts

import (
	"net/http"
	"net/url"
	"strings"

	"github.com/strongroom/strongroom/internal/identity"
)

// An openIDDocument is the discovery document. The clients ask for more members than OpenID does; those that name pages
// which this service does not have (authorize, device code) are required by MSAL but never used for applications.
type openIDDocument struct {
	TokenEndpoint       string   `json:"token_endpoint"`
	AuthMethods         []string `json:"token_endpoint_auth_methods_supported"`
	JWKSURI             string   `json:"jwks_uri"`
	ResponseModes       []string `json:"response_modes_supported"`
	SubjectTypes        []string `json:"subject_types_supported"`
	SigningAlgorithms   []string `json:"id_token_signing_alg_values_supported"`
	ResponseTypes       []string `json:"response_types_supported"`
	GrantTypes          []string `json:"grant_types_supported"`
	Scopes              []string `json:"scopes_supported"`
	Issuer              string   `json:"issuer"`
	AuthorizeEndpoint   string   `json:"authorization_endpoint"`
	DeviceEndpoint      string   `json:"device_authorization_endpoint"`
	EndSessionEndpoint  string   `json:"end_session_endpoint"`
	Claims              []string `json:"claims_supported"`
	TenantRegionScope   *string  `json:"tenant_region_scope"`
	CloudInstanceName   string   `json:"cloud_instance_name"`
	RequestURISupported bool     `json:"request_uri_parameter_supported"`
}

// openIDDocument gives URLs with the host and port that the client used, so that they work from where it is. The scheme
// is always https: no client speaks to a token service without.
func (s *Server) openIDDocument(at place, rt route) openIDDocument {
	base := "https://" + at.used + rt.base
	oauth, keys := base+"/oauth2/v2.0", base+"/discovery/v2.0/keys"
	if rt.version == 1 {
		oauth, keys = base+"/oauth2", base+"/discovery/keys"
	}
	return openIDDocument{
		TokenEndpoint:      oauth + "/token",
		AuthMethods:        []string{"client_secret_post", "private_key_jwt", "client_secret_basic"},
		JWKSURI:            keys,
		ResponseModes:      []string{"query", "fragment", "form_post"},
		SubjectTypes:       []string{"pairwise"},
		SigningAlgorithms:  []string{"RS256"},
		ResponseTypes:      []string{"token"},
		GrantTypes:         []string{"client_credentials"},
		Scopes:             []string{"openid"},
		Issuer:             s.cfg.Authority.Issuer(at.issuer, rt.version),
		AuthorizeEndpoint:  oauth + "/authorize",
		DeviceEndpoint:     oauth + "/devicecode",
		EndSessionEndpoint: oauth + "/logout",
		Claims:             []string{"sub", "iss", "aud", "exp", "iat", "nbf", "tid", "oid", "ver", "uti"},
		CloudInstanceName:  at.used,
	}
}

type instanceDocument struct {
	TenantDiscoveryEndpoint string             `json:"tenant_discovery_endpoint"`
	APIVersion              string             `json:"api-version"`
	Metadata                []instanceMetadata `json:"metadata"`
}

type instanceMetadata struct {
	PreferredNetwork string   `json:"preferred_network"`
	PreferredCache   string   `json:"preferred_cache"`
	Aliases          []string `json:"aliases"`
}

// instanceDocument answers "is this authority known?" with yes. The host in the question is not used, because some
// clients drop the port from it; only its tenant is, if it is one of ours.
func (s *Server) instanceDocument(at place, r *http.Request) instanceDocument {
	tenant := s.cfg.Directory.TenantID()
	query := r.URL.Query()
	if u, err := url.Parse(query.Get("authorization_endpoint")); err == nil {
		asked, _, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
		if s.knownTenant(route{tenant: strings.ToLower(asked)}) {
			tenant = strings.ToLower(asked)
		}
	}
	authority := at.central
	host, _ := identity.SplitHostPort(authority)
	aliases := []string{authority}
	if host != authority {
		aliases = append(aliases, host)
	}
	version := "1.1"
	if query.Get("api-version") == "1.0" {
		version = "1.0"
	}
	path := "/v2.0/.well-known/openid-configuration"
	if tenant == tenantADFS {
		path = "/.well-known/openid-configuration"
	}
	return instanceDocument{
		TenantDiscoveryEndpoint: "https://" + authority + "/" + tenant + path,
		APIVersion:              version,
		Metadata: []instanceMetadata{{
			PreferredNetwork: authority, PreferredCache: authority, Aliases: aliases,
		}},
	}
}

// MSAL.NET trusts an authority of AD FS only if that says at this path, which is for the whole host, that the host is one.
const (
	pathWebFinger = "/.well-known/webfinger"
	trustedRealm  = "http://schemas.microsoft.com/rel/trusted-realm"
)

type webFingerDocument struct {
	Subject string          `json:"subject"`
	Links   []webFingerLink `json:"links"`
}

type webFingerLink struct {
	Rel  string `json:"rel"`
	Href string `json:"href"`
}

// webFinger confirms that the host is an authority, and speaks of no other host. The client leaves the port out of the question and
// wants it answered as it was put.
func webFinger(at place, r *http.Request) (webFingerDocument, bool) {
	resource := r.URL.Query().Get("resource")
	host, _ := identity.SplitHostPort(at.used)
	if !strings.EqualFold(resource, "https://"+host) {
		return webFingerDocument{}, false
	}
	return webFingerDocument{Subject: resource, Links: []webFingerLink{{Rel: trustedRealm, Href: resource}}}, true
}
