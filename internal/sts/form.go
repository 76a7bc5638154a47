package sts

import (
	"bytes"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

// A tokenForm holds the parameters of a token request that mean something here. All others are ignored: clients send
// telemetry and wishes (client_info, claims, x-client-SKU, …).
type tokenForm struct {
	grant         string
	clientID      string
	secret        string
	assertion     string
	assertionType string
	scope         string
	resource      string
}

// parseForm decodes a body. A parameter that occurs twice is refused (RFC 6749 section 3.2): which one counts would be
// a matter of taste, and an intermediary may have another.
func parseForm(body []byte) (tokenForm, *refusal) {
	var f tokenForm
	if len(body) > maxBody || bytes.Count(body, []byte("&")) >= maxFields {
		return f, errMalformed("It is too large or has too many parameters.")
	}
	values, err := url.ParseQuery(string(body))
	if err != nil {
		return f, errMalformed("The body is not a form.")
	}
	for name, into := range map[string]*string{
		"grant_type":            &f.grant,
		"client_id":             &f.clientID,
		"client_secret":         &f.secret,
		"client_assertion":      &f.assertion,
		"client_assertion_type": &f.assertionType,
		"scope":                 &f.scope,
		"resource":              &f.resource,
	} {
		list := values[name]
		if len(list) > 1 {
			return tokenForm{}, errMalformed("The parameter '" + name + "' is duplicated.")
		}
		if len(list) == 1 {
			*into = list[0]
		}
		if !utf8.ValidString(*into) {
			return tokenForm{}, errMalformed("The parameter '" + name + "' is not text.")
		}
	}
	return f, nil
}

// readForm reads the body and adds what HTTP Basic says.
func readForm(w http.ResponseWriter, r *http.Request) (tokenForm, *refusal) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "application/x-www-form-urlencoded" {
		return tokenForm{}, errMalformed("The content type must be application/x-www-form-urlencoded.")
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return tokenForm{}, errMalformed("The body is too large or was cut off.")
	}
	f, refused := parseForm(body)
	if refused != nil {
		return f, refused
	}
	return f, f.addBasic(r)
}

// addBasic takes client id and secret from HTTP Basic, where each is form-encoded (RFC 6749 section 2.3.1).
func (f *tokenForm) addBasic(r *http.Request) *refusal {
	if r.Header.Get("Authorization") == "" {
		return nil
	}
	user, password, ok := r.BasicAuth()
	id, err1 := url.QueryUnescape(user)
	secret, err2 := url.QueryUnescape(password)
	if !ok || err1 != nil || err2 != nil || len(r.Header.Values("Authorization")) != 1 {
		return errMalformed("The Authorization header is not HTTP Basic.")
	}
	if f.secret != "" || f.assertion != "" || f.clientID != "" && !strings.EqualFold(f.clientID, id) {
		return errMalformed("It authenticates the client in more than one way.")
	}
	f.clientID, f.secret = id, secret
	return nil
}

// audience finds what the token is to be for. In scope it is the one word that ends in /.default, less that ending; a
// double slash before it belongs to the audience. Without scope it is resource, verbatim.
func (f *tokenForm) audience(version int) (string, *refusal) {
	if f.scope == "" && f.resource == "" {
		if version == 1 {
			return "", errMissing("resource")
		}
		return "", errMissing("scope")
	}
	if f.scope == "" || f.resource != "" && version == 1 {
		if len(f.resource) > maxResource {
			return "", errMalformed("The parameter 'resource' is too long.")
		}
		return f.resource, nil
	}
	if len(f.scope) > maxScope {
		return "", errMalformed("The parameter 'scope' is too long.")
	}
	audience := ""
	for _, word := range strings.Fields(f.scope) {
		found, ok := strings.CutSuffix(word, "/.default")
		if !ok {
			continue
		}
		if found == "" || audience != "" && audience != found {
			return "", errScope(f.scope)
		}
		audience = found
	}
	if audience == "" || len(audience) > maxResource {
		return "", errScope(f.scope)
	}
	return audience, nil
}
