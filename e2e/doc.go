// Package e2e runs the official Azure Key Vault clients, unmodified, against the real strongroom program: Go, Python,
// JavaScript, Java, the command line az and a program made with those for .NET, with the verification of certificates and
// challenges left on, and with nothing changed in the clients' code. The code in docs/clients.md is run as it is printed there.
//
// The tests run in a mount and network namespace of their own (see namespace_linux_test.go). So the names of vaults resolve,
// the ports are those that a person would use, the metadata address 169.254.169.254 exists, and no client can reach
// anything but what the tests started.
//
// Strongroom's own client packages run beside them, against the same server.
//
// Full backups are tested against Azurite, the emulator of Azure's storage, in the same way.
//
// `make tools` installs the pinned clients and Azurite; `make test` does that and runs everything.
package e2e
