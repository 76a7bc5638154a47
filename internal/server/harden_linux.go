package server

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Harden keeps the process's memory out of core files and of other processes' debuggers. It concerns the whole process.
func Harden() error {
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &unix.Rlimit{}); err != nil {
		return fmt.Errorf("forbid core files: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("forbid debugging: %w", err)
	}
	return nil
}
