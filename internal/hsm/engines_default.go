//go:build !openssl

package hsm

// moreEngines are those beside Go's: none, unless built with the tag openssl.
func moreEngines() []rsaEngine { return nil }
