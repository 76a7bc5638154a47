package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/spf13/cobra"
)

// releasePolicyType is the content type that az and Azure's SDKs give to release policies.
const releasePolicyType = "application/json; charset=utf-8"

// releasePolicyTemplate is what a release policy looks like, as az shows it.
func releasePolicyTemplate() any {
	type condition struct {
		Claim  string `json:"claim"`
		Equals string `json:"equals"`
	}
	type authority struct {
		Authority string      `json:"authority"`
		AllOf     []condition `json:"allOf"`
	}
	return struct {
		Version string      `json:"version"`
		AnyOf   []authority `json:"anyOf"`
	}{
		Version: "1.0.0",
		AnyOf: []authority{{
			Authority: "<issuer>",
			AllOf:     []condition{{Claim: "<claim name>", Equals: "<value to match>"}},
		}},
	}
}

// readPolicy reads JSON from an argument as az takes it: the path of a file, or the JSON itself. @FILE and @- are known too.
func readPolicy(cmd *cobra.Command, flag, argument string) (json.RawMessage, error) {
	if _, err := os.Stat(argument); err == nil {
		argument = "@" + argument
	}
	in := inputs{cmd: cmd}
	raw, err := in.read(flag, argument)
	if err != nil {
		return nil, err
	}
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || raw[0] != '{' || !json.Valid(raw) {
		return nil, usagef("--%s is neither a file nor a JSON object", flag)
	}
	var compact bytes.Buffer
	err = json.Compact(&compact, raw)
	return compact.Bytes(), err
}

// rotationPolicyIn is a rotation policy as people write it. There are three spellings, all of which az takes: that of the
// wire, with the trigger and the action's type in objects of their own; that of az's output, without; and names with
// underscores instead of capitals, which are removed before (capitals do not matter to encoding/json).
type rotationPolicyIn struct {
	LifetimeActions []struct {
		Action  rotationActionIn
		Trigger rotationTriggerIn
		rotationTriggerIn
	}
	Attributes rotationAttributesIn
	rotationAttributesIn

	ID any // the service's, not to be changed
}

type rotationTriggerIn struct {
	TimeAfterCreate  *string
	TimeBeforeExpiry *string
}

type rotationAttributesIn struct {
	ExpiresIn, ExpiryTime                  *string
	Created, CreatedOn, Updated, UpdatedOn any // the service's, not to be changed
}

// A rotationActionIn is "Rotate" or {"type":"Rotate"}.
type rotationActionIn struct {
	Type azkeys.KeyRotationPolicyAction
}

// UnmarshalJSON implements json.Unmarshaler.
func (a *rotationActionIn) UnmarshalJSON(raw []byte) error {
	if json.Unmarshal(raw, &a.Type) == nil {
		return nil
	}
	type object rotationActionIn
	return strictJSON(raw, (*object)(a))
}

func strictJSON(raw []byte, into any) error {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(into); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something comes after the JSON object")
	}
	return nil
}

// parseRotationPolicy reads a rotation policy. Unlike az it refuses names that it does not know: a policy in which one is
// misspelt would rotate nothing.
func parseRotationPolicy(raw json.RawMessage) (azkeys.KeyRotationPolicy, error) {
	var plain any
	if err := json.Unmarshal(raw, &plain); err != nil {
		return azkeys.KeyRotationPolicy{}, err
	}
	plain, err := withoutUnderscores(plain)
	if err != nil {
		return azkeys.KeyRotationPolicy{}, usagef("--value: %v", err)
	}
	if raw, err = json.Marshal(plain); err != nil {
		return azkeys.KeyRotationPolicy{}, err
	}
	var in rotationPolicyIn
	if err := strictJSON(raw, &in); err != nil {
		return azkeys.KeyRotationPolicy{}, usagef("--value is not a rotation policy: %v", err)
	}
	out := azkeys.KeyRotationPolicy{Attributes: &azkeys.KeyRotationPolicyAttributes{
		ExpiryTime: first(in.Attributes.ExpiryTime, in.Attributes.ExpiresIn, in.ExpiryTime, in.ExpiresIn),
	}}
	for _, l := range in.LifetimeActions {
		action, err := choice("value", string(l.Action.Type), azkeys.PossibleKeyRotationPolicyActionValues())
		if err != nil {
			return azkeys.KeyRotationPolicy{}, usagef("--value: the action %q is neither Rotate nor Notify", l.Action.Type)
		}
		out.LifetimeActions = append(out.LifetimeActions, &azkeys.LifetimeAction{
			Action: &azkeys.LifetimeActionType{Type: &action},
			Trigger: &azkeys.LifetimeActionTrigger{
				TimeAfterCreate:  first(l.Trigger.TimeAfterCreate, l.TimeAfterCreate),
				TimeBeforeExpiry: first(l.Trigger.TimeBeforeExpiry, l.TimeBeforeExpiry),
			},
		})
	}
	return out, nil
}

// first is the first that is there.
func first(texts ...*string) *string {
	for _, t := range texts {
		if t != nil {
			return t
		}
	}
	return nil
}

// withoutUnderscores removes them from the names of members, and refuses two spellings of one name side by side.
func withoutUnderscores(v any) (any, error) {
	var err error
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for name, member := range v {
			folded := strings.ToLower(strings.ReplaceAll(name, "_", ""))
			if _, twice := out[folded]; twice {
				return nil, fmt.Errorf("%s is there twice", name)
			}
			if out[folded], err = withoutUnderscores(member); err != nil {
				return nil, err
			}
		}
		return out, nil
	case []any:
		for i := range v {
			if v[i], err = withoutUnderscores(v[i]); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}
