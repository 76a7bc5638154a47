//go:build openssl

package hsm

import "crypto/fips140"

// moreEngines are those beside Go's: OpenSSL's, unless the program is to use Go's FIPS 140-3 module, which OpenSSL is no
// part of.
func moreEngines() []rsaEngine {
	if fips140.Enabled() {
		return nil
	}
	return []rsaEngine{opensslRSA{}}
}
