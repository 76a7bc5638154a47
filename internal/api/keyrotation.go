package api

import (
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/wire"
)

// Shapes of contract §5.

type rotationPolicy struct {
	ID         string             `json:"id"`
	Actions    []lifetimeAction   `json:"lifetimeActions"`
	Attributes rotationAttributes `json:"attributes"`
}

type lifetimeAction struct {
	Trigger lifetimeTrigger `json:"trigger"`
	Action  lifetimeType    `json:"action"`
}

type lifetimeTrigger struct {
	AfterCreate  string `json:"timeAfterCreate,omitempty"`
	BeforeExpiry string `json:"timeBeforeExpiry,omitempty"`
}

type lifetimeType struct {
	Type string `json:"type"`
}

type rotationAttributes struct {
	ExpiryTime string `json:"expiryTime,omitempty"`
	Created    int64  `json:"created,omitempty"`
	Updated    int64  `json:"updated,omitempty"`
}

func (q *request) rotationPolicy(p keyvault.RotationPolicy) rotationPolicy {
	id := q.used(keyvault.Used{Name: p.Name, Vault: p.Vault})
	out := rotationPolicy{
		ID:         id + "/rotationpolicy",
		Actions:    make([]lifetimeAction, 0, len(p.Actions)),
		Attributes: rotationAttributes{p.ExpiryTime, p.Created, p.Updated},
	}
	for _, a := range p.Actions {
		out.Actions = append(out.Actions, lifetimeAction{lifetimeTrigger{a.AfterCreate, a.BeforeExpiry}, lifetimeType{a.Action}})
	}
	return out
}

var (
	rotateKey         = named((*keyvault.Service).RotateKey, (*request).keyBundle)
	getRotationPolicy = named((*keyvault.Service).GetRotationPolicy, (*request).rotationPolicy)
)

func setRotationPolicy(q *request) (response, error) {
	body, err := q.body()
	if err != nil {
		return response{}, err
	}
	p, err := readRotationPolicy(body)
	if err != nil {
		return response{}, err
	}
	p, err = q.service.SetRotationPolicy(q.ctx, q.caller, q.vault, q.params.name, p)
	return reply(q, p, err, (*request).rotationPolicy)
}

func readRotationPolicy(body wire.Object) (p keyvault.RotationPolicy, err error) {
	attributes, _, err := body.Object("attributes")
	if err != nil {
		return p, err
	}
	if p.ExpiryTime, err = attributes.TextOrNone("expiryTime"); err != nil {
		return p, err
	}
	actions, err := body.Objects("lifetimeActions")
	if err != nil {
		return p, err
	}
	for _, o := range actions {
		a, err := readLifetimeAction(o)
		if err != nil {
			return p, err
		}
		p.Actions = append(p.Actions, a)
	}
	return p, nil
}

func readLifetimeAction(o wire.Object) (a keyvault.LifetimeAction, err error) {
	trigger, _, err := o.Object("trigger")
	if err != nil {
		return a, err
	}
	if a.AfterCreate, err = trigger.TextOrNone("timeAfterCreate"); err != nil {
		return a, err
	}
	if a.BeforeExpiry, err = trigger.TextOrNone("timeBeforeExpiry"); err != nil {
		return a, err
	}
	action, ok, err := o.Object("action")
	if err != nil {
		return a, err
	}
	if !ok {
		return a, o.Missing("action")
	}
	a.Action, err = action.Required("type")
	return a, err
}
