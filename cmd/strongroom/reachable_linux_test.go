package main

import (
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/strongroom/strongroom/internal/server"
)

// TestForeignFolder takes the rights of another user for one thread: a folder that is closed to him is told from one that
// holds nothing.
func TestForeignFolder(t *testing.T) {
	t.Parallel()
	cfg, err := server.DevConfig(t.TempDir(), []string{"127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	d := &devCommand{data: cfg.Data}
	if err := d.refuse(t.Context(), cfg); err != nil {
		t.Errorf("a folder of one's own: %v", err)
	}
	if err := os.Chmod(cfg.Data, 0); err != nil {
		t.Fatal(err)
	}
	refused := asNobody(func() error { return d.refuse(t.Context(), cfg) })
	offline := asNobody(func() error { _, err := (&place{data: cfg.Data}).configuration(); return err })
	for what, err := range map[string]error{"dev": refused, "verify": offline} {
		if err == nil || !strings.Contains(err.Error(), "belongs to another user") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// asNobody runs f on a thread that then ends, so that nothing else gets its user.
func asNobody(f func() error) error {
	const nobody = 65534
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		unix.SetfsuidRetUid(nobody)
		done <- f()
	}()
	return <-done
}
