// Package securitydomain is for the security domain of a managed HSM: the file without which an HSM that was lost cannot be brought back,
// and which opens only with the keys of several people.
//
// It has two halves. A Client asks a managed HSM for its domain, which activates the HSM, and gives a domain to another HSM. Everything
// that needs the owners' keys is done by functions that need no network: they run where the keys are, and the keys may stay on smart cards.
//
// To make a security domain, each owner makes an RSA key and gives away its certificate:
//
//	info, err := securitydomain.NewCertificateInfo(2, alice, bob, carol) // any two of three
//	poller, err := client.BeginDownload(ctx, info, nil)
//	domain, err := poller.PollUntilDone(ctx, nil)                        // keep domain.Value
//
// To bring a new HSM to the same domain, so that it takes backups of the first:
//
//	transfer, err := newHSM.GetTransferKey(ctx, nil)
//	blob, err := securitydomain.Rewrap(domain.SecurityDomain, transfer.TransferKey, keysOfTwoOwners, nil) // offline
//	poller, err := newHSM.BeginUpload(ctx, blob, nil)
//
// A domain that nobody can open shows itself when it is too late. File.Check tries the keys while there is time.
//
// Files and keys of Azure's tools can be read, and they read what this package writes. The package is stricter than they are: see
// Parse.
package securitydomain
