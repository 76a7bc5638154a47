package securitydomain_test

import (
	"crypto/x509"
	"errors"
	"net/http"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/strongroom/strongroom/securitydomain"
	"github.com/strongroom/strongroom/strongroomtest"
)

const cryptoUser = "21dbd100-6940-42c2-9190-5d6cb909625b"

// TestRecovery loses an HSM: a second one gets its security domain from two of its three owners, and then its key.
func TestRecovery(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, nil)
	domain := download(t, newHSM(t, s, "first"))
	s.GiveHSMRole(t, "first", "/keys", cryptoUser, s.ObjectID)
	keys := s.HSMKeys(t, "first")
	if _, err := keys.CreateKey(t.Context(), "key", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM)}, nil); err != nil {
		t.Fatal(err)
	}
	digest, es256 := make([]byte, 32), to.Ptr(azkeys.SignatureAlgorithmES256)
	signed, err := keys.Sign(t.Context(), "key", "", azkeys.SignParameters{Algorithm: es256, Value: digest}, nil)
	if err != nil {
		t.Fatal(err)
	}
	backup, err := keys.BackupKey(t.Context(), "key", nil)
	if err != nil {
		t.Fatal(err)
	}

	second := newHSM(t, s, "second")
	bringTo(t, second, domain)
	s.GiveHSMRole(t, "second", "/keys", cryptoUser, s.ObjectID)
	restored := s.HSMKeys(t, "second")
	if _, err := restored.RestoreKey(t.Context(), azkeys.RestoreKeyParameters{KeyBackup: backup.Value}, nil); err != nil {
		t.Fatal(err)
	}
	verified, err := restored.Verify(t.Context(), "key", "", azkeys.VerifyParameters{Algorithm: es256, Digest: digest, Signature: signed.Result}, nil)
	if err != nil || !*verified.Value {
		t.Errorf("the restored key is another: %v", err)
	}
	if again := download(t, second); again.Value == domain.Value {
		t.Error("two downloads are the same")
	}

	s.CreateHSM(t, "third", strongroomtest.HSMOptions{})
	if _, err := s.HSMKeys(t, "third").RestoreKey(t.Context(), azkeys.RestoreKeyParameters{KeyBackup: backup.Value}, nil); err == nil {
		t.Error("an HSM of another domain restores the key")
	}
}

// newHSM makes an HSM that is not activated.
func newHSM(t *testing.T, s *strongroomtest.Server, name string) *securitydomain.Client {
	t.Helper()
	url := s.CreateHSM(t, name, strongroomtest.HSMOptions{NotActivated: true})
	c, err := securitydomain.NewClient(url, s.Credential, &securitydomain.ClientOptions{ClientOptions: s.ClientOptions()})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// download gets an HSM's domain for three owners and lets two of them look at it.
func download(t *testing.T, c *securitydomain.Client) securitydomain.SecurityDomain {
	t.Helper()
	alice, bob, carol := owner(t, "alice"), owner(t, "bob"), owner(t, "carol")
	info, err := securitydomain.NewCertificateInfo(2, alice.Certificate, bob.Certificate, carol.Certificate)
	if err != nil {
		t.Fatal(err)
	}
	poller, err := c.BeginDownload(t.Context(), info, nil)
	if err != nil {
		t.Fatal(err)
	}
	domain, err := poller.PollUntilDone(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	file, err := securitydomain.Parse(domain.SecurityDomain)
	if err != nil {
		t.Fatal(err)
	}
	if err := file.Check(alice, carol); err != nil {
		t.Error(err)
	}
	return domain.SecurityDomain
}

// bringTo activates an HSM with the domain of another. That works once.
func bringTo(t *testing.T, c *securitydomain.Client, domain securitydomain.SecurityDomain) {
	t.Helper()
	transfer, err := c.GetTransferKey(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := []securitydomain.Key{{Decrypter: card{owner(t, "bob").Decrypter}}, owner(t, "carol")}
	blob, err := securitydomain.Rewrap(domain, transfer.TransferKey, keys, &securitydomain.RewrapOptions{
		VerifyTransferKey: func(c *x509.Certificate) error {
			return c.CheckSignature(c.SignatureAlgorithm, c.RawTBSCertificate, c.Signature)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	poller, err := c.BeginUpload(t.Context(), blob, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := poller.PollUntilDone(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if status, err := c.GetUploadStatus(t.Context(), nil); err != nil || status.Status != securitydomain.StatusSuccess {
		t.Errorf("%+v, %v", status, err)
	}
	_, err = c.BeginUpload(t.Context(), blob, nil)
	if resp, ok := errors.AsType[*azcore.ResponseError](err); !ok || resp.StatusCode != http.StatusConflict {
		t.Errorf("a second upload: %v", err)
	}
}
