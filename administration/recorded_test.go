package administration_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/administration"
)

// recorded reads exchanges of Azure's own service, which stand outside of this repository.
func recorded(t *testing.T, file string) (all []recordedExchange) {
	t.Helper()
	raw, err := os.ReadFile("../../shared/vectors/security-domain/admin/recorded-" + file + ".json")
	if errors.Is(err, fs.ErrNotExist) {
		t.Log("left out: the recorded exchanges are not on this machine")
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var content struct{ Exchanges []recordedExchange }
	if err := json.Unmarshal(raw, &content); err != nil {
		t.Fatal(err)
	}
	for _, e := range content.Exchanges {
		if e.Status < 300 {
			all = append(all, e)
		}
	}
	return all
}

type recordedExchange struct {
	Method, Host, Path, Query string
	RequestBody               string            `json:"request_body"`
	Status                    int               `json:"status"`
	ResponseHeaders           map[string]string `json:"response_headers"`
	ResponseBody              string            `json:"response_body"`
}

// exchange is what our client's part must be: az spells a scope's slash as it comes and names an older version.
func (e recordedExchange) exchange() exchange {
	x := exchange{Method: e.Method, URI: e.Path, Body: e.RequestBody, Status: e.Status, Response: e.ResponseBody}
	if !strings.HasSuffix(e.Path, "/pending") {
		x.URI += "?api-version=2025-07-01"
	}
	if e.RequestBody != "" {
		x.ContentType = "application/json"
	}
	if at := e.ResponseHeaders["azure-asyncoperation"]; at != "" {
		x.ResponseHeaders = map[string]string{"Azure-AsyncOperation": strings.Replace(at, "https://"+e.Host, "https://hsm.example", 1)}
	}
	return x
}

// challenged puts the request before the others that has neither a token nor a body.
func challenged(all ...exchange) []exchange {
	first := exchange{Method: all[0].Method, URI: all[0].URI, Status: 401, ResponseHeaders: map[string]string{
		"WWW-Authenticate": `Bearer authorization="https://login.example/tenant", resource="https://managedhsm.example"`,
	}}
	return append([]exchange{first}, all...)
}

// edited changes a JSON object.
func edited(t *testing.T, text string, edit func(object map[string]any)) string {
	t.Helper()
	var object map[string]any
	if err := json.Unmarshal([]byte(text), &object); err != nil {
		t.Fatal(err)
	}
	edit(object)
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestRecordedRoles(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"role-definitions", "role-assignments"} {
		for _, e := range recorded(t, file) {
			x := e.exchange()
			if e.Method == "PUT" && file == "role-definitions" {
				x.Body = edited(t, x.Body, func(o map[string]any) {
					p := o["properties"].(map[string]any)
					p["type"] = "CustomRole" // az leaves it to the service
					permission := p["permissions"].([]any)[0].(map[string]any)
					maps.DeleteFunc(permission, func(_ string, v any) bool { return len(v.([]any)) == 0 })
				})
			}
			r := newReplay(t, challenged(x))
			a := newClients(t, r.srv.URL, options(r.srv), credential{}).access
			got := callRecorded(t, a, e)
			var answer any
			if err := json.Unmarshal([]byte(e.ResponseBody), &answer); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(namesIn(answer), got); diff != "" {
				t.Errorf("%s %s: %s", e.Method, e.Path, diff)
			}
			r.finish()
		}
	}
}

// callRecorded makes the call that a recorded request is of, and returns some members of what came back.
func callRecorded(t *testing.T, a *administration.AccessControlClient, e recordedExchange) (got []string) {
	t.Helper()
	ctx := t.Context()
	prefix, rest, _ := strings.Cut(e.Path, "/providers/Microsoft.Authorization/")
	scope, name := administration.Scope(prefix), ""
	if scope == "" {
		scope = administration.ScopeGlobal
	}
	if strings.Contains(rest, "/") {
		name = path.Base(rest)
	}
	definition := func(d administration.RoleDefinition, err error) {
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range d.Permissions {
			for _, action := range p.DataActions {
				got = append(got, string(action))
			}
		}
		got = append(got, d.ID, d.Name, d.RoleName, string(d.Type), string(d.AssignableScopes[0]))
	}
	assignment := func(m administration.RoleAssignment, err error) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, m.ID, m.Name, m.PrincipalID, m.RoleDefinitionID, string(m.Scope))
	}
	switch isDefinition := strings.HasPrefix(rest, "roleDefinitions"); {
	case isDefinition && e.Method == "PUT":
		d, err := a.SetRoleDefinition(ctx, scope, definitionOf(t, name, e.RequestBody), nil)
		definition(d.RoleDefinition, err)
	case isDefinition && e.Method == "DELETE":
		d, err := a.DeleteRoleDefinition(ctx, scope, name, nil)
		definition(d.RoleDefinition, err)
	case isDefinition && name != "":
		d, err := a.GetRoleDefinition(ctx, scope, name, nil)
		definition(d.RoleDefinition, err)
	case isDefinition:
		all, err := collect(t, a.NewListRoleDefinitionsPager(scope, nil), definitionsOf)
		for _, d := range all {
			definition(d, err)
		}
	case e.Method == "PUT":
		p := assignmentOf(t, e.RequestBody)
		m, err := a.CreateRoleAssignment(ctx, scope, p.RoleDefinitionID, p.PrincipalID, &administration.CreateRoleAssignmentOptions{Name: name})
		assignment(m.RoleAssignment, err)
	case e.Method == "DELETE":
		m, err := a.DeleteRoleAssignment(ctx, scope, name, nil)
		assignment(m.RoleAssignment, err)
	default:
		all, err := collect(t, a.NewListRoleAssignmentsPager(scope, nil), assignmentsOf)
		for _, m := range all {
			assignment(m, err)
		}
	}
	slices.Sort(got)
	return got
}

func definitionOf(t *testing.T, name, body string) administration.RoleDefinition {
	t.Helper()
	var put struct{ Properties administration.RoleDefinition }
	if err := json.Unmarshal([]byte(body), &put); err != nil {
		t.Fatal(err)
	}
	put.Properties.Name = name
	return put.Properties
}

func assignmentOf(t *testing.T, body string) administration.RoleAssignment {
	t.Helper()
	var put struct{ Properties administration.RoleAssignment }
	if err := json.Unmarshal([]byte(body), &put); err != nil {
		t.Fatal(err)
	}
	return put.Properties
}

// namesIn are the texts of an answer, without those that the models leave out.
func namesIn(v any) []string {
	var all []string
	var walk func(key string, v any)
	walk = func(key string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, inner := range v {
				if k == "type" && inner != "CustomRole" && inner != "AKVBuiltInRole" {
					continue
				}
				walk(k, inner)
			}
		case []any:
			for _, inner := range v {
				walk(key, inner)
			}
		case string:
			if key != "description" {
				all = append(all, v)
			}
		}
	}
	walk("", v)
	slices.Sort(all)
	return all
}

func TestRecordedSettings(t *testing.T) {
	t.Parallel()
	for _, e := range recorded(t, "settings") {
		r := newReplay(t, challenged(e.exchange()))
		s := newClients(t, r.srv.URL, options(r.srv), credential{}).settings
		name := path.Base(e.Path)
		var got []administration.Setting
		var err error
		switch {
		case e.Method == "PATCH":
			var body struct{ Value string }
			if err := json.Unmarshal([]byte(e.RequestBody), &body); err != nil {
				t.Fatal(err)
			}
			var updated administration.UpdateSettingResponse
			updated, err = s.UpdateSetting(t.Context(), name, body.Value, nil)
			got = append(got, updated.Setting)
		case name == "settings":
			var all administration.GetSettingsResponse
			all, err = s.GetSettings(t.Context(), nil)
			got = all.Settings
		default:
			var one administration.GetSettingResponse
			one, err = s.GetSetting(t.Context(), name, nil)
			got = append(got, one.Setting)
		}
		if err != nil {
			t.Fatal(err)
		}
		value, typeErr := got[0].Bool()
		if got[0].Name != "AllowKeyManagementOperationsThroughARM" || typeErr != nil || value != strings.Contains(e.ResponseBody, `"true"`) {
			t.Errorf("got %v of %s", got, e.ResponseBody)
		}
		r.finish()
	}
}

func TestRecordedBackups(t *testing.T) {
	t.Parallel()
	for file, jobs := range map[string]int{"full-backup-restore": 3, "selective-key-restore": 2} {
		var all []exchange
		for _, e := range recorded(t, file) {
			x := e.exchange()
			switch {
			case strings.HasSuffix(e.Path, "/pending"):
				x.ResponseHeaders = map[string]string{"Retry-After": "0"} // do not wait in a test
			case e.Path == "/backup":
				x.Body = edited(t, x.Body, func(o map[string]any) { o["useManagedIdentity"] = false })
			case strings.HasSuffix(e.Path, "/restore"):
				x.Body = edited(t, x.Body, func(o map[string]any) { o["sasTokenParameters"].(map[string]any)["useManagedIdentity"] = false })
			default:
				continue // a key that is made or deleted between the jobs
			}
			all = append(all, x)
		}
		if len(all) == 0 {
			continue
		}
		r := newReplay(t, challenged(all...))
		b := newClients(t, r.srv.URL, options(r.srv), credential{}).backup
		for _, x := range all {
			if x.Method != "GET" {
				followRecorded(t, b, x)
				jobs--
			}
		}
		if jobs != 0 {
			t.Errorf("%s: %d jobs are missing", file, jobs)
		}
		r.finish()
	}
}

// followRecorded starts a job as a recorded request did, and waits for it.
func followRecorded(t *testing.T, b *administration.BackupClient, x exchange) {
	t.Helper()
	type place struct{ StorageResourceURI, Token string }
	var body struct {
		place
		SASTokenParameters      place
		FolderToRestore, Folder string
	}
	if err := json.Unmarshal([]byte(x.Body), &body); err != nil {
		t.Fatal(err)
	}
	if x.Method == "POST" {
		p, err := b.BeginBackup(t.Context(), body.StorageResourceURI, &administration.BeginBackupOptions{SASToken: administration.SASToken(body.Token)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.PollUntilDone(t.Context(), nil)
		if err != nil || !strings.HasPrefix(got.FolderURL, body.StorageResourceURI+"/mhsm-") || got.EndTime.Before(got.StartTime) {
			t.Errorf("got %v, %v", got, err)
		}
		return
	}
	from := body.SASTokenParameters
	o := &administration.BeginRestoreOptions{SASToken: administration.SASToken(from.Token)}
	if keyPath, ok := strings.CutPrefix(x.URI, "/keys/"); ok {
		o.KeyName, _, _ = strings.Cut(keyPath, "/")
	}
	p, err := b.BeginRestore(t.Context(), from.StorageResourceURI+"/"+body.FolderToRestore+body.Folder, o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.PollUntilDone(t.Context(), nil)
	if err != nil || got.Status != administration.StatusSucceeded || got.EndTime.Before(got.StartTime) || got.Error != nil {
		t.Errorf("got %v, %v", got, err)
	}
}
