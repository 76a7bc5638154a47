package api

import (
	"context"
	"encoding/base64"
	"net/http"

	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/wire"
)

// What secrets and keys have in common on the wire, and in how their requests are answered.

// objectAttributes are the attributes that objects of all kinds have, in the order in which the real service writes them.
type objectAttributes struct {
	Enabled         bool   `json:"enabled"`
	NotBefore       *int64 `json:"nbf,omitempty"`
	Expires         *int64 `json:"exp,omitempty"`
	Created         int64  `json:"created"`
	Updated         int64  `json:"updated"`
	RecoveryLevel   string `json:"recoveryLevel"`
	RecoverableDays int    `json:"recoverableDays"`
}

func attributesOf(p keyvault.Properties) objectAttributes {
	return objectAttributes{
		Enabled:         p.Enabled,
		NotBefore:       p.NotBefore,
		Expires:         p.Expires,
		Created:         p.Created,
		Updated:         p.Updated,
		RecoveryLevel:   p.RecoveryLevel,
		RecoverableDays: p.RecoverableDays,
	}
}

// deletion stands in front of what a deleted object is.
type deletion struct {
	RecoveryID     string `json:"recoveryId"`
	Deleted        int64  `json:"deletedDate"`
	ScheduledPurge int64  `json:"scheduledPurgeDate"`
}

// A list of a vault always has a nextLink, null at the end; that of a managed HSM leaves it out then (recorded).
type list[T any] struct {
	Value    []T     `json:"value"`
	NextLink *string `json:"nextLink"`
}

type listOfHSM[T any] struct {
	Value    []T     `json:"value"`
	NextLink *string `json:"nextLink,omitempty"`
}

type blob struct {
	Value base64url `json:"value"`
}

// base64url is bytes as the wire has them: base64url without padding.
type base64url []byte

// MarshalText implements encoding.TextMarshaler.
func (b base64url) MarshalText() ([]byte, error) {
	return base64.RawURLEncoding.AppendEncode(nil, b), nil
}

// url returns the id of an object, or of a version of it, in a collection such as "secrets".
func (q *request) url(collection, name, version string) string {
	id := q.base + "/" + collection + "/" + name
	if version != "" {
		id += "/" + version
	}
	return id
}

// attributes reads what a caller may set about an object of any kind.
func attributes(body wire.Object) (keyvault.Attributes, error) {
	a, err := body.Attributes()
	return keyvault.Attributes(a), err
}

// A handler answers the requests of a route.
type handler = func(*request) (response, error)

// A show makes the JSON shape of what an operation returned.
type show[T, W any] = func(*request, T) W

// The forms of keyvault.Service's methods, as method expressions.
type (
	byName[T any]    = func(s *keyvault.Service, ctx context.Context, caller *identity.Caller, vault, name string) (T, error)
	byVersion[T any] = func(s *keyvault.Service, ctx context.Context, caller *identity.Caller, vault, name, version string) (T, error)
	byPage[T any]    = func(s *keyvault.Service, ctx context.Context, caller *identity.Caller, vault, from string, max int) (keyvault.Page[T], error)

	byNameAndPage[T any] = func(s *keyvault.Service, ctx context.Context, caller *identity.Caller, vault, name, from string, max int) (keyvault.Page[T], error)
)

// reply answers with what an operation returned.
func reply[T, W any](q *request, result T, err error, show show[T, W]) (response, error) {
	if err != nil {
		return response{}, err
	}
	return jsonResponse(http.StatusOK, show(q, result))
}

// named handles an operation that is asked for with a name alone.
func named[T, W any](do byName[T], show show[T, W]) handler {
	return func(q *request) (response, error) {
		result, err := do(q.service, q.ctx, q.caller, q.vault, q.params.name)
		return reply(q, result, err, show)
	}
}

// versioned handles an operation that is asked for with a name and a version, or the name alone for the current one.
func versioned[T, W any](do byVersion[T], show show[T, W]) handler {
	return func(q *request) (response, error) {
		result, err := do(q.service, q.ctx, q.caller, q.vault, q.params.name, q.params.version)
		return reply(q, result, err, show)
	}
}

// purged handles the purge of an object, of which nothing is left to be shown.
func purged(do func(s *keyvault.Service, ctx context.Context, caller *identity.Caller, vault, name string) error) handler {
	return func(q *request) (response, error) {
		err := do(q.service, q.ctx, q.caller, q.vault, q.params.name)
		return response{status: http.StatusNoContent}, err
	}
}

// listed handles a list of objects, versionsListed one of the versions of an object.
func listed[T, W any](fetch byPage[T], show show[T, W]) handler {
	return func(q *request) (response, error) {
		return listPage(q, func(from string, max int) (keyvault.Page[T], error) {
			return fetch(q.service, q.ctx, q.caller, q.vault, from, max)
		}, show)
	}
}

func versionsListed[T, W any](fetch byNameAndPage[T], show show[T, W]) handler {
	return func(q *request) (response, error) {
		return listPage(q, func(from string, max int) (keyvault.Page[T], error) {
			return fetch(q.service, q.ctx, q.caller, q.vault, q.params.name, from, max)
		}, show)
	}
}

// listPage answers with a page of a list, each item shown by show.
func listPage[T, W any](q *request, fetch func(from string, max int) (keyvault.Page[T], error), show show[T, W]) (response, error) {
	from, max, err := q.page()
	if err != nil {
		return response{}, err
	}
	page, err := fetch(from, max)
	if err != nil {
		return response{}, err
	}
	out := list[W]{Value: make([]W, 0, len(page.Items)), NextLink: q.nextLink(page.Next, max)}
	for _, item := range page.Items {
		out.Value = append(out.Value, show(q, item))
	}
	if q.hsm {
		return jsonResponse(http.StatusOK, listOfHSM[W](out))
	}
	return jsonResponse(http.StatusOK, out)
}

// enterBulk takes a place for an operation that holds a whole backup in memory; only who may perform it gets one.
func (q *request) enterBulk() error {
	if err := q.service.Authorize(q.ctx, q.caller, q.vault, q.route.Operation, q.params.name); err != nil {
		return err
	}
	return q.hold(q.h.bulk.enter(q.ctx, q.caller.Principal()))
}

// backedUp handles the backup of an object.
func backedUp(do byName[[]byte]) handler {
	return func(q *request) (response, error) {
		if err := q.enterBulk(); err != nil {
			return response{}, err
		}
		b, err := do(q.service, q.ctx, q.caller, q.vault, q.params.name)
		return reply(q, b, err, func(_ *request, b []byte) blob { return blob{b} })
	}
}

// restored handles a restore. The path of one names no object, so what the backup holds goes on record, of a restore that
// failed too.
func restored[T, W any](do func(s *keyvault.Service, ctx context.Context, caller *identity.Caller, vault string, blob []byte) (T, error),
	properties func(T) keyvault.Properties, show show[T, W]) handler {
	return func(q *request) (response, error) {
		if err := q.enterBulk(); err != nil {
			return response{}, err
		}
		body, err := q.body()
		if err != nil {
			return response{}, err
		}
		backup, err := body.RequiredBytes("value")
		if err != nil {
			return response{}, err
		}
		result, err := do(q.service, q.ctx, q.caller, q.vault, backup)
		if p := properties(result); p.Name != "" {
			q.outcome.Object = q.url(q.route.collection(), p.Name, p.Version)
		}
		return reply(q, result, err, show)
	}
}
