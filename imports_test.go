package strongroom_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const modulePath = "github.com/strongroom/strongroom"

// allowedImports says which of our packages may import which others; tests are left out. Arrows only go down: keyvault
// and what is below it know no wire, and nothing above keyvault knows how or where an object is kept. A new line
// here is a new arrow in the picture of the architecture, so it needs a reason that a reviewer sees; a line that is no
// longer true goes.
func allowedImports() map[string][]string {
	return map[string][]string{
		// Programs: commands talk to a running server through internal/admin, or run one.
		"cmd/strongroom": {"administration", "internal/admin", "internal/audit", "internal/backup/localblob", "internal/keywrap", "internal/pkcs8", "internal/server", "securitydomain"},
		// The measurements drive each layer by itself, too.
		"bench": {
			"administration", "internal/audit", "internal/authz", "internal/backup/localblob", "internal/hsm", "internal/identity", "internal/keyvault",
			"internal/resource", "internal/seal", "internal/server", "internal/store", "internal/store/bolt", "securitydomain",
		},

		// Public packages.
		"administration": {"internal/challenge"},
		"securitydomain": {"internal/challenge", "internal/sdomain"},
		"strongroomtest": {"internal/admin", "internal/server"},

		// Wiring: the only package that knows all others.
		"internal/server": {
			"internal/admin", "internal/api", "internal/arm", "internal/audit", "internal/authz", "internal/backup", "internal/hsm", "internal/identity", "internal/jobs",
			"internal/keyvault", "internal/managedhsm",
			"internal/pki", "internal/release", "internal/resource", "internal/sdomain", "internal/seal", "internal/store", "internal/store/bolt", "internal/sts", "internal/wire",
		},
		"internal/admin": {},

		// Who asks: each speaks one wire. wire tells errors of the store from others; api audits what never reaches keyvault.
		"internal/api": {
			"internal/admission", "internal/audit", "internal/identity", "internal/keyvault", "internal/managedhsm",
			"internal/resource", "internal/sdomain", "internal/wire",
		},
		"internal/arm": {
			"internal/admission", "internal/audit", "internal/authz", "internal/identity", "internal/keyvault", "internal/resource",
			"internal/wire",
		},
		"internal/sts":           {"internal/identity"},
		"internal/wire":          {"internal/audit", "internal/authz", "internal/identity", "internal/store"},
		"internal/wire/wiretest": {},
		"internal/jobs":          {},

		// What it means: the only doors to an object and to a security domain.
		"internal/managedhsm": {
			"internal/audit", "internal/authz", "internal/backup", "internal/identity", "internal/keyvault", "internal/record", "internal/resource",
			"internal/sdomain", "internal/seal", "internal/store",
		},
		"internal/keyvault": {
			"internal/admission", "internal/audit", "internal/authz", "internal/hsm", "internal/identity", "internal/keywrap",
			"internal/record", "internal/release", "internal/resource", "internal/sdomain", "internal/seal", "internal/store",
		},
		"internal/resource": {
			"internal/audit", "internal/authz", "internal/identity", "internal/record", "internal/sdomain", "internal/seal", "internal/store",
		},

		// How it is done.
		"internal/admission":        {},
		"internal/challenge":        {}, // of public clients alone
		"internal/fetch":            {},
		"internal/identity":         {"internal/fetch", "internal/store"},
		"internal/authz":            {},
		"internal/hsm":              {"internal/keywrap", "internal/pkcs8"}, // and hsm/openssl with that tag
		"internal/hsm/hsmtest":      {"internal/hsm", "internal/keywrap"},
		"internal/keywrap":          {},
		"internal/pkcs8":            {},
		"internal/release":          {"internal/fetch", "internal/keywrap"}, // whom keys are wrapped for
		"internal/sdomain":          {"internal/pkcs8"},                     // security domains of managed HSMs
		"internal/pki":              {"internal/store"},
		"internal/audit":            {},
		"internal/record":           {"internal/seal", "internal/store"},
		"internal/backup/localblob": {},
		"internal/backup":           {}, // knows storage outside, and nothing of what it keeps

		// For tests.
		"internal/backup/backuptest": {"internal/backup"},

		// Where it is kept.
		"internal/seal":            {"internal/store"},
		"internal/store":           {},
		"internal/store/bolt":      {"internal/store"},
		"internal/store/storetest": {"internal/store"},
	}
}

func TestImports(t *testing.T) {
	t.Parallel()
	lookAtSources(t)
	want := allowedImports()
	for _, imports := range want {
		slices.Sort(imports)
	}
	if diff := cmp.Diff(want, ourImports(t)); diff != "" {
		t.Errorf("imports among our packages differ from the table in imports_test.go (-allowed +found):\n%s", diff)
	}
}

// lookAtSources lists the folders here, because the go command remembers a test's result until something changes that the
// test itself looked at, and what a child process reads does not count.
func lookAtSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && (path == "e2e" || strings.HasPrefix(path, ".") && path != ".") {
			return fs.SkipDir
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ourImports asks the go command.
func ourImports(t *testing.T) map[string][]string {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports,GoFiles", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, &stderr)
	}
	found := make(map[string][]string)
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			ImportPath string
			Imports    []string
			GoFiles    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return found
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		if len(p.GoFiles) > 0 {
			found[strings.TrimPrefix(p.ImportPath, modulePath+"/")] = ours(p.Imports)
		}
	}
}

// ours are the paths within the module, sorted.
func ours(imports []string) []string {
	within := []string{}
	for _, path := range imports {
		if rest, ok := strings.CutPrefix(path, modulePath+"/"); ok {
			within = append(within, rest)
		}
	}
	slices.Sort(within)
	return within
}
