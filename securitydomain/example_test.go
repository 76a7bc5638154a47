package securitydomain_test

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"

	"github.com/strongroom/strongroom/securitydomain"
)

// connect gives the examples a client of an HSM that runs in this process. Elsewhere it would be
//
//	cred, err := azidentity.NewDefaultAzureCredential(nil)
//	client, err := securitydomain.NewClient("https://contoso.managedhsm.azure.net", cred, nil)
func connect() *securitydomain.Client {
	domain, err := os.ReadFile("testdata/security-domain.json")
	if err != nil {
		panic(err)
	}
	return (&service{domain: string(domain), first: confirming, statuses: []string{success}}).client()
}

// readKeys reads the keys of owners who are there. A smart card's crypto.Decrypter would do as well.
func readKeys(names ...string) (keys []securitydomain.Key) {
	for _, name := range names {
		file, err := os.ReadFile("testdata/" + name + ".pem")
		if err != nil {
			panic(err)
		}
		key, err := securitydomain.ParsePrivateKey(file, "")
		if err != nil {
			panic(err)
		}
		keys = append(keys, securitydomain.Key{Decrypter: key})
	}
	return keys
}

func readTransferKey() securitydomain.TransferKey {
	file, err := os.ReadFile("testdata/transfer-key.cer")
	if err != nil {
		panic(err)
	}
	key, err := securitydomain.ParseTransferKey(file)
	if err != nil {
		panic(err)
	}
	return key
}

// Download the security domain for three owners, of whom any two can open it. The HSM is active afterwards.
func ExampleClient_BeginDownload() {
	client := connect()
	var certs []*x509.Certificate
	for _, name := range []string{"alice", "bob", "carol"} {
		file, err := os.ReadFile("testdata/" + name + ".cer")
		if err != nil {
			panic(err)
		}
		cert, err := securitydomain.ParseCertificate(file)
		if err != nil {
			panic(err)
		}
		certs = append(certs, cert)
	}
	info, err := securitydomain.NewCertificateInfo(2, certs...)
	if err != nil {
		panic(err)
	}
	poller, err := client.BeginDownload(context.Background(), info, nil)
	if err != nil {
		panic(err)
	}
	domain, err := poller.PollUntilDone(context.Background(), nil)
	if err != nil {
		panic(err)
	}
	file, err := securitydomain.Parse(domain.SecurityDomain) // and keep domain.Value
	if err != nil {
		panic(err)
	}
	fmt.Printf("any %d of %d owners\n", file.Required(), len(file.Thumbprints()))
	// Output: any 2 of 3 owners
}

func ExampleClient_GetDownloadStatus() {
	status, err := connect().GetDownloadStatus(context.Background(), nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(status.Status, status.StatusDetails)
	// Output: Success The resource is active.
}

func ExampleClient_GetUploadStatus() {
	status, err := connect().GetUploadStatus(context.Background(), nil)
	if err != nil {
		panic(err)
	}
	fmt.Println(status.Status)
	// Output: Success
}

func ExampleClient_GetTransferKey() {
	key, err := connect().GetTransferKey(context.Background(), nil)
	if err != nil {
		panic(err)
	}
	file, err := key.PEM() // to carry to where the owners are
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", file[:27])
	// Output: -----BEGIN CERTIFICATE-----
}

// Bring a new HSM to the security domain of another.
func ExampleClient_BeginUpload() {
	client, ctx := connect(), context.Background()
	domain, err := os.ReadFile("testdata/security-domain.json")
	if err != nil {
		panic(err)
	}
	key, err := client.GetTransferKey(ctx, nil)
	if err != nil {
		panic(err)
	}
	blob, err := securitydomain.Rewrap(securitydomain.SecurityDomain{Value: string(domain)}, key.TransferKey, readKeys("bob", "carol"), nil)
	if err != nil {
		panic(err)
	}
	poller, err := client.BeginUpload(ctx, blob, nil)
	if err != nil {
		panic(err)
	}
	if _, err := poller.PollUntilDone(ctx, nil); err != nil {
		panic(err)
	}
	fmt.Println("active")
	// Output: active
}

// See whether the keys at hand open a file, before it is needed.
func ExampleFile_Check() {
	domain, err := os.ReadFile("testdata/security-domain.json")
	if err != nil {
		panic(err)
	}
	file, err := securitydomain.Parse(securitydomain.SecurityDomain{Value: string(domain)})
	if err != nil {
		panic(err)
	}
	fmt.Println(file.Check(readKeys("alice", "carol")...))
	fmt.Println(file.Check(readKeys("alice")...))
	// Output:
	// <nil>
	// securitydomain: too few keys: it takes 2, and 1 came
}

// Only a transfer key that somebody has verified gets the domain.
func ExampleRewrap() {
	domain, err := os.ReadFile("testdata/security-domain.json")
	if err != nil {
		panic(err)
	}
	options := &securitydomain.RewrapOptions{VerifyTransferKey: func(c *x509.Certificate) error {
		if c.Subject.CommonName != "contoso.managedhsm.example.org" {
			return fmt.Errorf("it is that of %s", c.Subject.CommonName)
		}
		return nil
	}}
	_, err = securitydomain.Rewrap(securitydomain.SecurityDomain{Value: string(domain)}, readTransferKey(), readKeys("alice", "bob"), options)
	fmt.Println(err)
	// Output: securitydomain: the key is not the expected transfer key: it is that of testhsm.managedhsm.example
}
