//go:build !linux

package server

// Harden does nothing here: only Linux offers what it does.
func Harden() error { return nil }
