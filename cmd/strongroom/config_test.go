package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/strongroom/strongroom/internal/server"
)

// TestConfigurationIsComplete uncomments what init writes behind a #: then every setting must be there, and be a good one.
func TestConfigurationIsComplete(t *testing.T) {
	t.Parallel()
	setting := regexp.MustCompile(`(?m)^( *)# ((?: *(?:- )?)[a-zA-Z]+:(?: .*)?)$`)
	for name, i := range map[string]*initCommand{
		"everything named": {audit: "a.jsonl", identityAt: "127.0.0.1:1", certificate: "c.pem", key: "k.pem"},
		"nothing named":    {},
	} {
		i.config, i.data, i.domain, i.region = filepath.Join(t.TempDir(), "strongroom.yaml"), t.TempDir(), "corp.example", "local"
		i.listen, i.operations = []string{"127.0.0.1:0"}, "127.0.0.1:9443"
		text, err := i.text()
		if err != nil {
			t.Fatal(err)
		}
		plain, err := server.ParseConfig([]byte(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(plain.Issuers) != 0 || len(plain.Aliases) != 0 {
			t.Errorf("%s: an example is in force: %+v", name, plain)
		}
		all := setting.ReplaceAllString(text, "$1$2")
		if err := os.WriteFile(i.config, []byte(all), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := server.ReadConfig(i.config); err != nil {
			t.Errorf("%s: uncommented: %v", name, err)
		}
		var got map[string]any
		if err := yaml.Unmarshal([]byte(all), &got); err != nil {
			t.Fatal(err)
		}
		checkSettings(t, name, text, "", reflect.TypeFor[server.Config](), got)
	}
}

// checkSettings demands a value for each field of t. The kinds of root key exclude each other, so their names in text do.
func checkSettings(t *testing.T, name, text, path string, typ reflect.Type, got map[string]any) {
	t.Helper()
	for f := range typ.Fields() {
		if !f.IsExported() {
			continue
		}
		key := f.Tag.Get("yaml")
		value, ok := got[key]
		switch {
		case path == "rootKey.":
			if !strings.Contains(text, key) {
				t.Errorf("%s: rootKey.%s is not mentioned", name, key)
			}
		case !ok:
			t.Errorf("%s: %s%s is not there", name, path, key)
		case f.Type.Kind() == reflect.Struct:
			checkSettings(t, name, text, path+key+".", f.Type, value.(map[string]any))
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			merged := make(map[string]any) // the examples show it together
			tenants := 0
			for _, element := range value.([]any) {
				for k, v := range element.(map[string]any) {
					merged[k] = v
					if k == "tenant" {
						tenants++
					}
				}
			}
			if tenants != len(value.([]any))-1 {
				t.Errorf("%s: %s%s needs examples with and without a tenant", name, path, key)
			}
			checkSettings(t, name, text, path+key+"[].", f.Type.Elem(), merged)
		}
	}
}
