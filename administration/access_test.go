package administration_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/strongroom/strongroom/administration"
)

func definitionsOf(p administration.ListRoleDefinitionsResponse) []administration.RoleDefinition {
	return p.Value
}

func assignmentsOf(p administration.ListRoleAssignmentsResponse) []administration.RoleAssignment {
	return p.Value
}

func TestWireOfRoles(t *testing.T) {
	t.Parallel()
	r := newReplay(t, exchanges(t, 25, 36))
	a := newClients(t, r.srv.URL, options(r.srv), credential{}).access
	ctx := t.Context()
	for _, scope := range []administration.Scope{administration.ScopeGlobal, administration.ScopeKeys, administration.KeyScope("k1")} {
		created, err := a.CreateRoleAssignment(ctx, scope, "d", "p", &administration.CreateRoleAssignmentOptions{Name: "name1"})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(administration.RoleAssignment{ID: "x", Name: "n"}, created.RoleAssignment); diff != "" {
			t.Error(diff)
		}
		pager := a.NewListRoleAssignmentsPager(scope, &administration.ListRoleAssignmentsOptions{Filter: "principalId eq 'x'"})
		if all, err := collect(t, pager, assignmentsOf); err != nil || len(all) != 0 {
			t.Errorf("got %v, %v", all, err)
		}
		if _, err := a.DeleteRoleAssignment(ctx, scope, "name1", nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err := a.SetRoleDefinition(ctx, administration.ScopeGlobal, administration.RoleDefinition{
		Name: "g", RoleName: "r", AssignableScopes: []administration.Scope{administration.ScopeGlobal},
		Permissions: []administration.Permission{{DataActions: []administration.DataAction{administration.DataActionBackupKey}}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.finish()
}

const builtIn = `{"id":"Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/g","name":"g","type":"t",
"properties":{"assignableScopes":["/"],"description":"d","roleName":"Managed HSM Backup User","type":"AKVBuiltInRole",
"permissions":[{"actions":[],"dataActions":["Microsoft.KeyVault/managedHsm/keys/backup/action"],"notActions":[],"notDataActions":[]}]}}`

func TestRoleDefinition(t *testing.T) {
	t.Parallel()
	_, c := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, builtIn) })
	want := administration.RoleDefinition{
		ID: "Microsoft.KeyVault/providers/Microsoft.Authorization/roleDefinitions/g", Name: "g",
		RoleName: "Managed HSM Backup User", Type: administration.RoleTypeBuiltIn, Description: "d",
		AssignableScopes: []administration.Scope{"/"},
		Permissions: []administration.Permission{{
			Actions: []string{}, NotActions: []string{}, NotDataActions: []administration.DataAction{},
			DataActions: []administration.DataAction{administration.DataActionBackupKey},
		}},
	}
	got, err := c.access.GetRoleDefinition(t.Context(), administration.ScopeGlobal, "g", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.RoleDefinition); diff != "" {
		t.Error(diff)
	}
	deleted, err := c.access.DeleteRoleDefinition(t.Context(), administration.ScopeGlobal, "g", nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, deleted.RoleDefinition); diff != "" {
		t.Error(diff)
	}
}

func TestNamesAreMadeUp(t *testing.T) {
	t.Parallel()
	seen := make(map[string]bool)
	_, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		name := path.Base(r.URL.Path)
		if err := uuid.Validate(name); err != nil || seen[name] {
			t.Errorf("%s is no new GUID: %v", name, err)
		}
		seen[name] = true
		_, _ = fmt.Fprintf(w, `{"name":%q}`, name)
	})
	for range 2 {
		d, err := c.access.SetRoleDefinition(t.Context(), administration.ScopeGlobal, administration.RoleDefinition{RoleName: "r"}, nil)
		if err != nil || !seen[d.Name] {
			t.Errorf("got %v, %v", d, err)
		}
		a, err := c.access.CreateRoleAssignment(t.Context(), administration.ScopeKeys, "d", "p", nil)
		if err != nil || !seen[a.Name] {
			t.Errorf("got %v, %v", a, err)
		}
	}
	if len(seen) != 4 {
		t.Errorf("the names are %v", seen)
	}
}

// What is not there is an error when it is deleted, as with every other call.
func TestErrorsOfRoles(t *testing.T) {
	t.Parallel()
	const body = `{"error":{"code":"%s","message":"Requested role not found (Activity ID: x)"}}`
	_, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		code := "RoleDefinitionNotFound"
		if strings.Contains(r.URL.Path, "roleAssignments") {
			code = "RoleAssignmentNotFound"
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = fmt.Fprintf(w, body, code)
	})
	ctx, a := t.Context(), c.access
	_, err := a.DeleteRoleAssignment(ctx, administration.ScopeGlobal, "a", nil)
	wantError(t, err, 404, "RoleAssignmentNotFound")
	_, err = a.GetRoleAssignment(ctx, administration.ScopeGlobal, "a", nil)
	wantError(t, err, 404, "RoleAssignmentNotFound")
	_, err = a.DeleteRoleDefinition(ctx, administration.ScopeGlobal, "a", nil)
	wantError(t, err, 404, "RoleDefinitionNotFound")
	_, err = collect(t, a.NewListRoleDefinitionsPager(administration.ScopeGlobal, nil), definitionsOf)
	wantError(t, err, 404, "RoleDefinitionNotFound")
}

func TestPages(t *testing.T) {
	t.Parallel()
	var srv *httptest.Server
	srv, c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("skip") {
		case "":
			_, _ = fmt.Fprintf(w, `{"value":[{"name":"a"}],"nextLink":"%s/next?skip=1&why=a b"}`, srv.URL)
		case "1":
			if got := r.URL.Query().Get("why"); got != "a b" {
				t.Errorf("why is %q", got)
			}
			_, _ = fmt.Fprintf(w, `{"value":[],"nextLink":"%s/next?skip=2"}`, srv.URL)
		default:
			_, _ = io.WriteString(w, `{"value":[{"name":"b"},{"name":"c"}],"nextLink":null}`)
		}
	})
	all, err := collect(t, c.access.NewListRoleDefinitionsPager(administration.ScopeGlobal, nil), definitionsOf)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]administration.RoleDefinition{{Name: "a"}, {Name: "b"}, {Name: "c"}}, all); diff != "" {
		t.Error(diff)
	}
}

func TestPagesEnd(t *testing.T) {
	t.Parallel()
	requests := 0
	var srv *httptest.Server
	srv, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		requests++
		_, _ = fmt.Fprintf(w, `{"value":[],"nextLink":"%s/again"}`, srv.URL)
	})
	_, err := collect(t, c.access.NewListRoleAssignmentsPager(administration.ScopeGlobal, nil), assignmentsOf)
	wantText(t, err, "go round in a circle")
	if requests != 1000 {
		t.Errorf("%d requests were sent, want 1000", requests)
	}
}

func TestForeignPages(t *testing.T) {
	t.Parallel()
	for link, want := range map[string]string{
		"https://elsewhere.example/": "leads to https://elsewhere.example",
		"/relative":                  "is not an absolute URL",
		"https://%zz/":               "is not an absolute URL",
	} {
		_, c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			_, _ = fmt.Fprintf(w, `{"value":[],"nextLink":%q}`, link)
		})
		_, err := collect(t, c.access.NewListRoleAssignmentsPager(administration.ScopeGlobal, nil), assignmentsOf)
		wantText(t, err, want)
	}
}
