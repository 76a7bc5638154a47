// Package hsmtest has what tests of providers of keys share: a suite that every hsm.Provider must pass, and the vectors of
// Project Wycheproof. Only tests import it, because the vectors take a hundred megabytes.
package hsmtest
