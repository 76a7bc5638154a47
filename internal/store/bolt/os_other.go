//go:build !linux

package bolt

import "os"

// reserve extends f, whose size is off, by n bytes for which the blocks are reserved.
func reserve(f *os.File, off, n int64) error {
	return fill(f, off, n)
}

// unlock does nothing: what is left of the lock goes with the process.
func unlock(*os.File) error {
	return nil
}
