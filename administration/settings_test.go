package administration_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/strongroom/strongroom/administration"
)

func TestWireOfSettings(t *testing.T) {
	t.Parallel()
	all := exchanges(t, 36, 39)
	one := all[1]
	one.URI = "/settings/AllowKeyManagementOperationsThroughARM?api-version=2025-07-01"
	one.Response = `{"name":"AllowKeyManagementOperationsThroughARM","type":"boolean","value":"true"}`
	r := newReplay(t, append(all, one))
	s := newClients(t, r.srv.URL, options(r.srv), credential{}).settings
	got, err := s.GetSettings(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := administration.Setting{Name: "AllowKeyManagementOperationsThroughARM", Type: administration.SettingTypeBoolean, Value: "false"}
	if diff := cmp.Diff([]administration.Setting{want}, got.Settings); diff != "" {
		t.Error(diff)
	}
	want.Value = "true"
	updated, err := s.UpdateSetting(t.Context(), want.Name, "true", nil)
	if err != nil || updated.Setting != want {
		t.Errorf("got %v, %v", updated, err)
	}
	now, err := s.GetSetting(t.Context(), want.Name, nil)
	if err != nil || now.Setting != want {
		t.Errorf("got %v, %v", now, err)
	}
	r.finish()
}

func TestBool(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		setting  administration.Setting
		want, ok bool
	}{
		{administration.Setting{Type: "boolean", Value: "true"}, true, true},
		{administration.Setting{Type: "Boolean", Value: "False"}, false, true},
		{administration.Setting{Value: "true"}, true, true},
		{administration.Setting{Type: "boolean", Value: "yes"}, false, false},
		{administration.Setting{Type: "number", Value: "1"}, false, false},
	} {
		got, err := tt.setting.Bool()
		if got != tt.want || (err == nil) != tt.ok {
			t.Errorf("%v: got %v, %v", tt.setting, got, err)
		}
	}
}
