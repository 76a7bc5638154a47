package audit

import (
	"os"
	"testing"
)

// TestMain lets the test binary be its own child: see child.
func TestMain(m *testing.M) {
	if mode := os.Getenv("AUDIT_TEST_CHILD"); mode != "" {
		os.Exit(child(mode, os.Args[1:]))
	}
	os.Exit(m.Run())
}
