package arm

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"github.com/strongroom/strongroom/internal/identity"
)

// The little of Microsoft Graph that clients ask on their way: which principal has that name, and which name has that
// principal. Whoever has a token may ask for one that he can name already; nobody gets a list of all.

type servicePrincipal struct {
	DataType    string   `json:"@odata.type,omitempty"`
	ID          string   `json:"id"`
	AppID       string   `json:"appId"`
	DisplayName string   `json:"displayName"`
	AppName     string   `json:"appDisplayName"`
	Type        string   `json:"servicePrincipalType"`
	Enabled     bool     `json:"accountEnabled"`
	Names       []string `json:"servicePrincipalNames"`
}

func servicePrincipalOf(app *identity.Application) servicePrincipal {
	kind := "Application"
	if app.Kind == identity.KindManagedIdentity {
		kind = "ManagedIdentity"
	}
	return servicePrincipal{
		ID: app.ObjectID, AppID: app.ClientID, DisplayName: app.DisplayName, AppName: app.DisplayName, Type: kind, Enabled: true,
		Names: []string{app.ClientID},
	}
}

type user struct {
	ID          string `json:"id"`
	DisplayName string `json:"displayName"`
	UPN         string `json:"userPrincipalName"`
}

// graphMe answers people, who have tokens of an outside issuer. Of the directory here there are only applications, and those
// get the real service's refusal, upon which clients look for the service principal.
func graphMe(q *request) (response, error) {
	if q.caller.IdentityType != "user" {
		return response{}, &wireError{status: http.StatusBadRequest, code: "BadRequest",
			message: "/me request is only valid with delegated authentication flow."}
	}
	return reply(http.StatusOK, user{q.caller.ObjectID, q.caller.UPN, q.caller.UPN})
}

// graphUsers answers that there is none of that name: people and groups are the outside issuers', who do not tell.
func graphUsers(*request) (response, error) { return reply(http.StatusOK, list[user]{Value: []user{}}) }

func notInDirectory(id string) error {
	return &wireError{status: http.StatusNotFound, code: "Request_ResourceNotFound",
		message: sprintf("Resource '%s' does not exist or one of its queried reference-property objects are not present.", clip(id))}
}

func graphNothing(q *request) (response, error) { return response{}, notInDirectory(q.params.id) }

// lookUp asks the directory for a principal by one of its ids. What can be no id is that of nobody.
func (q *request) lookUp(find func(context.Context, string) (*identity.Application, error), id string) (*identity.Application, error) {
	const length = 36 // of the only form of a GUID that Azure's wire has
	if len(id) != length || uuid.Validate(id) != nil {
		return nil, &identity.Error{Kind: identity.NotFound, Message: "that is no id"}
	}
	return find(q.ctx, asciiLower(id))
}

func graphServicePrincipal(q *request) (response, error) {
	app, err := q.lookUp(q.h.cfg.Directory.ApplicationByObjectID, q.params.id)
	if identity.IsNotFound(err) {
		err = notInDirectory(q.params.id)
	}
	if err != nil {
		return response{}, err
	}
	return reply(http.StatusOK, servicePrincipalOf(app))
}

// graphServicePrincipals finds by appId, by servicePrincipalNames or by displayName.
func graphServicePrincipals(q *request) (response, error) {
	clauses, err := parseFilter(q.query.Get("$filter"))
	if err != nil {
		return response{}, err
	}
	if len(clauses) != 1 {
		return response{}, badFilter("service principals can be found by one test.")
	}
	var found []*identity.Application
	switch c := clauses[0]; {
	case c.is("", "appId"), c.is("any", "servicePrincipalNames"):
		found, err = q.one(q.lookUp(q.h.cfg.Directory.Application, c.value))
	case c.is("", "id"):
		found, err = q.one(q.lookUp(q.h.cfg.Directory.ApplicationByObjectID, c.value))
	case c.is("", "displayName"), c.is("startswith", "displayName") && len(c.value) >= minPrefix:
		found, err = q.named(c)
	default:
		err = badFilter("service principals can be found by id, appId, servicePrincipalNames/any(c:c eq '…'), displayName eq '…' and "+
			"startswith(displayName, '…') with %d letters or more.", minPrefix)
	}
	if err != nil {
		return response{}, err
	}
	out := list[servicePrincipal]{Value: []servicePrincipal{}}
	for _, app := range found {
		out.Value = append(out.Value, servicePrincipalOf(app))
	}
	return reply(http.StatusOK, out)
}

// one makes a list of a look-up.
func (*request) one(app *identity.Application, err error) ([]*identity.Application, error) {
	if identity.IsNotFound(err) {
		return nil, nil
	}
	return []*identity.Application{app}, err
}

// Bounds of a search by name.
const (
	minPrefix = 3
	maxFound  = 100
)

// named looks at every application.
func (q *request) named(c clause) (found []*identity.Application, err error) {
	matches := func(name string) bool { return equalFold(name, c.value) }
	if c.function != "" {
		matches = func(name string) bool { return len(name) >= len(c.value) && equalFold(name[:len(c.value)], c.value) }
	}
	for next := ""; ; {
		var apps []*identity.Application
		if apps, next, err = q.h.cfg.Directory.Applications(q.ctx, next, identity.MaxPage); err != nil {
			return nil, err
		}
		for _, app := range apps {
			if matches(app.DisplayName) && len(found) < maxFound {
				found = append(found, app)
			}
		}
		if next == "" || len(found) == maxFound {
			return found, nil
		}
	}
}

// maxIDs bounds how many principals are looked up at a time, as the real service does.
const maxIDs = 1000

// graphGetByIDs names principals; of those that are not known here it says nothing.
func graphGetByIDs(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	ids, err := body.Strings("ids")
	if err != nil {
		return response{}, err
	}
	if len(ids) > maxIDs {
		return response{}, body.WrongType("ids", sprintf("a list of %d ids at most", maxIDs))
	}
	out := list[servicePrincipal]{Value: []servicePrincipal{}}
	for _, id := range ids {
		app, err := q.lookUp(q.h.cfg.Directory.ApplicationByObjectID, id)
		if identity.IsNotFound(err) {
			continue
		}
		if err != nil {
			return response{}, err
		}
		p := servicePrincipalOf(app)
		p.DataType = "#microsoft.graph.servicePrincipal"
		out.Value = append(out.Value, p)
	}
	return reply(http.StatusOK, out)
}
