package sts

import "testing"

func TestDefaultResources(t *testing.T) {
	t.Parallel()
	set := DefaultResources("example.org", []string{"vault.azure.cn"})
	for resource, want := range map[string]bool{
		"https://vault.example.org:8443": true, "https://managedhsm.example.org": true, "https://management.example.org/": true,
		"https://graph.example.org": true, "https://vault.azure.cn:8443": true, "https://vault.azure.net": true,
		"https://managedhsm.azure.net/": true, "https://management.core.windows.net/": true, "https://graph.microsoft.com": true,
		"https://example.org": false, "https://login.example.org": false, "https://v1.vault.example.org": false,
		"https://vault.azure.net:8443": false, "http://vault.example.org": false, "": false,
	} {
		if set.Contains(resource) != want {
			t.Errorf("%q: accepted is %t", resource, !want)
		}
	}
}
