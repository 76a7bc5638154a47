package keyvault

import (
	"fmt"
	"strings"
)

// CheckRecord reads a record of this package with the code that would use it, for a verification of the whole store.
// Records of other packages are none of its business.
func CheckRecord(key string, value []byte) error {
	kind, _, _ := strings.Cut(key, "/")
	var err error
	switch kind {
	case "vault":
		_, err = decode[vaultRecord](value)
	case "object", "deleted":
		_, err = decode[objectRecord](value)
	case "version":
		_, err = decode[secretRecord](value)
	case "garbage":
		_, err = decode[garbageRecord](value)
	case "due":
		_, _, err = parseDue(key)
	case installKey:
		_, err = decode[installRecord](value)
	case "value", "audit", "identity", "pki":
	default:
		err = fmt.Errorf("belongs to nothing that this release knows")
	}
	return err
}
