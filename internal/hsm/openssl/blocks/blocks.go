//go:build openssl && cgo

// Package blocks counts the blocks of memory that OpenSSL holds, for tests that look for leaks. Neither the size of the process
// nor that of C's heap tells: both change for reasons of their own.
package blocks

// #cgo LDFLAGS: -lcrypto
// int sr_blocks_count(void);
// long sr_blocks_held(void);
import "C"

import "errors"

// Count starts to count. It has to come before anything else of OpenSSL's.
func Count() error {
	if C.sr_blocks_count() != 1 {
		return errors.New("blocks: OpenSSL is in use already")
	}
	return nil
}

// Held is how many blocks have been allocated and not freed.
func Held() int { return int(C.sr_blocks_held()) }
