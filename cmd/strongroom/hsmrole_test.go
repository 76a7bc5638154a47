package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"

	"github.com/strongroom/strongroom/administration"
)

type testCredential struct{}

func (testCredential) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "token", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// serveHSM starts a server that demands a token and then answers by handler, and returns a client's options for it.
func serveHSM(t *testing.T, handler http.HandlerFunc) (url string, options *administration.ClientOptions) {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") == "" {
			w.Header().Set("WWW-Authenticate", `Bearer authorization="https://login.example/tenant", resource="https://managedhsm.example"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler(w, r)
	}))
	t.Cleanup(srv.Close)
	return srv.URL, &administration.ClientOptions{
		ClientOptions:                        azcore.ClientOptions{Transport: srv.Client(), Retry: policy.RetryOptions{MaxRetries: -1}},
		DisableChallengeResourceVerification: true,
	}
}

// hsmRoles starts a server that keeps role definitions and assignments as a managed HSM does.
func hsmRoles(t *testing.T) accessControl {
	t.Helper()
	kept := map[string]map[string]any{}
	url, options := serveHSM(t, func(w http.ResponseWriter, r *http.Request) {
		scope, rest, _ := strings.Cut(r.URL.Path, "/providers/Microsoft.Authorization/")
		collection, name, one := strings.Cut(rest, "/")
		switch {
		case r.Method == http.MethodPut:
			object := map[string]any{}
			if err := json.NewDecoder(r.Body).Decode(&object); err != nil {
				t.Error(err)
			}
			object["name"], object["id"] = name, "Microsoft.KeyVault/providers/Microsoft.Authorization/"+rest
			if collection == "roleAssignments" {
				object["properties"].(map[string]any)["scope"] = path.Join("/", scope)
			}
			kept[rest] = object
			w.WriteHeader(http.StatusCreated)
		case one && kept[rest] == nil:
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `{"error":{"code":"NotFound","message":"not found"}}`)
			return
		case !one:
			all := []any{}
			for path, object := range kept {
				if strings.HasPrefix(path, collection) {
					all = append(all, object)
				}
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"value": all})
			return
		}
		_ = json.NewEncoder(w).Encode(kept[rest])
		if r.Method == http.MethodDelete {
			delete(kept, rest)
		}
	})
	c, err := administration.NewAccessControlClient(url, testCredential{}, options)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	guid1 = "00000000-0000-4000-8000-000000000001"
	guid2 = "00000000-0000-4000-8000-000000000002"
	alice = "00000000-0000-4000-8000-00000000000a"
	bob   = "00000000-0000-4000-8000-00000000000b"
)

func TestHSMAssignments(t *testing.T) {
	t.Parallel()
	c, ctx := hsmRoles(t), t.Context()
	for name, role := range map[string]string{guid1: "Signer", guid2: "Reader"} {
		if _, err := c.SetRoleDefinition(ctx, administration.ScopeGlobal, administration.RoleDefinition{Name: name, RoleName: role}, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range []hsmQuery{
		{role: "signer", assignee: alice, scope: "keys/box"}, {role: guid1, assignee: bob, scope: "/keys"}, {role: "x/" + guid2, objectID: alice, scope: "/"},
	} {
		if err := q.check(); err != nil {
			t.Fatal(err)
		}
		if _, err := q.create(ctx, c, nil, ""); err != nil {
			t.Fatal(err)
		}
	}
	count := func(q hsmQuery) int {
		if err := q.check(); err != nil {
			t.Fatal(err)
		}
		found, err := q.find(ctx, c, nil)
		if err != nil {
			t.Fatal(err)
		}
		return len(found)
	}
	for want, queries := range map[int][]hsmQuery{
		3: {{}},
		2: {{assignee: alice}, {objectID: strings.ToUpper(alice)}, {role: "Signer"}},
		1: {{scope: "/"}, {scope: "/keys"}, {scope: "/keys/BOX"}, {assignee: alice, role: guid1}},
		0: {{scope: "/keys/other"}, {assignee: bob, role: "Reader"}},
	} {
		for _, q := range queries {
			if got := count(q); got != want {
				t.Errorf("%+v: %d assignments, want %d", q, got, want)
			}
		}
	}
	shown, err := (&hsmQuery{}).describe(ctx, c, nil, administration.RoleAssignment{RoleDefinitionID: "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/" + guid1, PrincipalID: bob, Scope: "/keys"})
	if err != nil || shown[0].RoleName != "Signer" || shown[0].PrincipalID != bob || shown[0].Scope != "/keys" {
		t.Errorf("got %v, %v", shown, err)
	}
	if err := (&hsmQuery{assignee: alice}).deleteAll(ctx, c, nil); err != nil || count(hsmQuery{}) != 1 {
		t.Errorf("%d are left, %v", count(hsmQuery{}), err)
	}
	if err := (&hsmQuery{assignee: alice}).deleteAll(ctx, c, nil); exitCode(&workError{err}) != exitNotFound {
		t.Errorf("got %v", err)
	}
	if err := (&hsmQuery{}).delete(ctx, c, []string{"/roleAssignments/" + guid1}); exitCode(&workError{err}) != exitNotFound {
		t.Errorf("got %v", err)
	}
	if _, err := findHSMRole(ctx, c, administration.ScopeGlobal, "Painter"); exitCode(&workError{err}) != exitNotFound {
		t.Errorf("got %v", err)
	}
}

func TestHSMQueryRefuses(t *testing.T) {
	t.Parallel()
	for _, q := range []hsmQuery{{objectID: "bob"}, {scope: "/secrets"}, {scope: "/keys/"}, {scope: "/keys/a/b"}, {scope: "/keys/.."}} {
		if err := q.check(); exitCode(&workError{err}) != exitUsage {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if err := (&hsmQuery{assignee: "bob"}).principal(t.Context(), nil); exitCode(&workError{err}) != exitUsage {
		t.Errorf("got %v", err)
	}
}

// What is shown can be sent back.
func TestReadHSMRole(t *testing.T) {
	t.Parallel()
	role := administration.RoleDefinition{
		ID: "x/" + guid1, Name: guid1, RoleName: "Signer", Description: "d", AssignableScopes: []administration.Scope{"/"},
		Permissions: []administration.Permission{{DataActions: []administration.DataAction{administration.DataActionSign}}},
	}
	shown, err := json.Marshal(newHSMRole(role))
	if err != nil {
		t.Fatal(err)
	}
	short := `{"RoleName":"Signer","name":"` + guid1 + `","id":"x/` + guid1 + `","Description":"d","assignableScopes":["/"],"DataActions":["` +
		string(administration.DataActionSign) + `"]}`
	for _, text := range []string{string(shown), short} {
		got, err := readHSMRole(&cobra.Command{}, text)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(role, got); diff != "" {
			t.Error(diff)
		}
	}
	for _, text := range []string{"", "{", "[]", `{"roleName":""}`, `{"roleName":"a","nonsense":1}`, `{"roleName":1}`} {
		if _, err := readHSMRole(&cobra.Command{}, text); exitCode(&workError{err}) != exitUsage {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestEither(t *testing.T) {
	t.Parallel()
	run := func(args ...string) (string, error) {
		var done string
		var scope, hsmScope, name, roleID, hsmName, hsmID, group string
		var ids, hsmIDs []string
		plane := &cobra.Command{Use: "x", RunE: func(*cobra.Command, []string) error {
			done = fmt.Sprint("plane ", scope, name, group, ids)
			return nil
		}}
		plane.Flags().StringVar(&scope, "scope", "", "")
		plane.Flags().StringVar(&name, "id", "", "")
		plane.Flags().StringVar(&group, "group", "", "")
		plane.Flags().StringArrayVar(&ids, "ids", nil, "")
		hsm := &cobra.Command{RunE: func(*cobra.Command, []string) error {
			done = fmt.Sprint("hsm ", hsmScope, hsmName, hsmID, roleID, hsmIDs)
			return nil
		}}
		hsm.Flags().StringVar(&hsmScope, "scope", "/", "")
		hsm.Flags().StringVar(&hsmID, "id", "", "")
		hsm.Flags().StringVar(&hsmName, "hsm-name", "", "")
		hsm.Flags().StringVar(&roleID, "role-id", "", "")
		hsm.Flags().StringArrayVar(&hsmIDs, "ids", nil, "")
		cmd := either(plane, hsm)
		cmd.SetArgs(args)
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		err := cmd.Execute()
		return done, err
	}
	for args, want := range map[string]string{
		"":                                 "plane []",
		"--scope a --id b --group c":       "plane abc[]",
		"--ids a --ids b":                  "plane [a b]",
		"--hsm-name h":                     "hsm /h[]",
		"--hsm-name h --scope s --ids a":   "hsm sh[a]",
		"--id https://h --role-id r":       "hsm /https://hr[]",
		"--hsm-name h --group g":           "--group does not go with a managed HSM",
		"--role-id r":                      "--role-id goes with --hsm-name, or --id with the URL of a managed HSM",
		"--id path --role-id r --scope /x": "--role-id goes with --hsm-name, or --id with the URL of a managed HSM",
	} {
		done, err := run(strings.Fields(args)...)
		if err != nil {
			done = err.Error()
		}
		if done != want {
			t.Errorf("%s: got %q, want %q", args, done, want)
		}
	}
}
