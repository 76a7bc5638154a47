package store_test

import (
	"strings"
	"testing"

	"github.com/strongroom/strongroom/internal/store"
)

func TestPrefixEnd(t *testing.T) {
	t.Parallel()
	for prefix, want := range map[string]string{
		"": "", "a": "b", "a/": "a0", "a\x00": "a\x01", "a\xff": "b", "a\xff\xff": "b", "\xff": "", "\xff\xff": "", "\xfe\xff": "\xff",
	} {
		if got := store.PrefixEnd(prefix); got != want {
			t.Errorf("PrefixEnd(%q) = %q, want %q", prefix, got, want)
		}
	}
}

func FuzzPrefixEnd(f *testing.F) {
	f.Add("a/", "a/b")
	f.Add("a\xff", "b")
	f.Add("\xff", "\xff\xff")
	f.Fuzz(func(t *testing.T, prefix, key string) {
		end := store.PrefixEnd(prefix)
		inRange := key >= prefix && (end == "" || key < end)
		if inRange != strings.HasPrefix(key, prefix) {
			t.Errorf("%q, prefix %q: in range up to %q is %t", key, prefix, end, inRange)
		}
	})
}
