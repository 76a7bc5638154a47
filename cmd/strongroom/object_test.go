package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What az takes behind a flag becomes what pflag takes; whatever else stands on the command line is left alone.
func TestAzArguments(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ given, want string }{
		{"secret set --tags a=b c=d -n x", "secret set --tags=a=b --tags=c=d -n x"},
		{"secret set -n x --tags a=b --value v", "secret set -n x --tags=a=b --value v"},
		{"secret set --disabled true --tags a=b c", "secret set --disabled=true --tags=a=b --tags=c"},
		{"secret set --disabled --value true", "secret set --disabled --value true"},
		{"secret set --value --disabled true", "secret set --value --disabled true"},
		{"secret set -n --tags a b", "secret set -n --tags a b"},
		{"secret set --tags=a=b c=d", "secret set --tags=a=b c=d"},
		{"secret set --tags", "secret set --tags"},
		{"secret set -- --tags a b", "secret set -- --tags a b"},
		{"secret set tags a b", "secret set tags a b"},
		{"secret list --include-managed false", "secret list --include-managed=false"},
		{"secret list --include-managed maybe", "secret list --include-managed maybe"},
		{"serve --check true", "serve --check true"}, // is no flag of az
		{"nothing --tags a b", "nothing --tags a b"},
		{"secret set --nothing a --tags a b", "secret set --nothing a --tags=a --tags=b"},
		{"secret set --name", "secret set --name"},
	} {
		got := azArguments(newRoot(), strings.Fields(tc.given))
		if diff := cmp.Diff(strings.Fields(tc.want), got); diff != "" {
			t.Errorf("%s:\n%s", tc.given, diff)
		}
	}
	if diff := cmp.Diff([]string{"secret", "set", "--tags="}, azArguments(newRoot(), []string{"secret", "set", "--tags", ""})); diff != "" {
		t.Error(diff)
	}
}
