//go:build client

package goclient

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"

	"github.com/strongroom/strongroom/securitydomain"
)

// folder holds what the owners of security domains keep. Other programs read and write there too.
func folder(name string) string { return filepath.Join(os.Getenv("E2E_FOLDER"), name) }

// pollOften is for services that need no time.
var pollOften = &runtime.PollUntilDoneOptions{Frequency: time.Second}

func domainClient(t *testing.T, hsm string) *securitydomain.Client {
	t.Helper()
	return must(securitydomain.NewClient(hsm, newCredential(t), nil))(t)
}

// makeOwners makes the keys and certificates of three owners, under the names where az looks for them.
func makeOwners(t *testing.T) (certificates []*x509.Certificate) {
	t.Helper()
	for n := range 3 {
		key := must(rsa.GenerateKey(rand.Reader, 2048))(t)
		template := &x509.Certificate{
			SerialNumber: big.NewInt(int64(n + 1)), Subject: pkix.Name{CommonName: fmt.Sprintf("owner %d", n)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		}
		der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))(t)
		certificates = append(certificates, must(x509.ParseCertificate(der))(t))
		private := must(x509.MarshalPKCS8PrivateKey(key))(t)
		writePEM(t, folder(fmt.Sprintf("owner%d.pem", n)), "PRIVATE KEY", private)
		writePEM(t, folder(fmt.Sprintf("owner%d.cer", n)), "CERTIFICATE", der)
	}
	return certificates
}

func writePEM(t *testing.T, path, kind string, der []byte) {
	t.Helper()
	writeFile(t, path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

func writeFile(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// quorum reads the keys of two owners.
func quorum(t *testing.T) (keys []securitydomain.Key) {
	t.Helper()
	for _, n := range []int{2, 0} {
		file := must(os.ReadFile(folder(fmt.Sprintf("owner%d.pem", n))))(t)
		keys = append(keys, securitydomain.Key{Decrypter: must(securitydomain.ParsePrivateKey(file, ""))(t)})
	}
	return keys
}

// TestActivate activates a managed HSM and brings its security domain to another, with strongroom's own package. It leaves
// the domain and what belongs to its owners in the folder.
func TestActivate(t *testing.T) {
	ctx := t.Context()
	info := must(securitydomain.NewCertificateInfo(2, makeOwners(t)...))(t)
	client := domainClient(t, os.Getenv("E2E_HSM"))
	domain := must(must(client.BeginDownload(ctx, info, nil))(t).PollUntilDone(ctx, pollOften))(t)
	writeFile(t, folder("domain"), []byte(domain.Value))
	if other := os.Getenv("E2E_OTHER_HSM"); other != "" {
		upload(t, other, domain.SecurityDomain)
	}
}

// upload brings a domain to an HSM.
func upload(t *testing.T, hsm string, domain securitydomain.SecurityDomain) {
	t.Helper()
	client := domainClient(t, hsm)
	transfer := must(client.GetTransferKey(t.Context(), nil))(t)
	uploadBlob(t, hsm, must(securitydomain.Rewrap(domain, transfer.TransferKey, quorum(t), nil))(t))
}

func uploadBlob(t *testing.T, hsm string, blob securitydomain.SecurityDomain) {
	t.Helper()
	ctx, client := t.Context(), domainClient(t, hsm)
	must(must(client.BeginUpload(ctx, blob, nil))(t).PollUntilDone(ctx, pollOften))(t)
	if got := must(client.GetUploadStatus(ctx, nil))(t); got.Status != securitydomain.StatusSuccess {
		t.Errorf("%s is %v", hsm, got)
	}
}

// TestInteroperate opens a security domain that az has downloaded, wraps it for the exchange key that az has got, and uploads it,
// and uploads to a third managed HSM what az has wrapped. All four have one domain then: a key goes from one to the others.
func TestInteroperate(t *testing.T) {
	domain := securitydomain.SecurityDomain{Value: string(must(os.ReadFile(folder("az-domain")))(t))}
	file := must(securitydomain.Parse(domain))(t)
	if err := file.Check(quorum(t)...); err != nil || file.Required() != 2 || len(file.Thumbprints()) != 3 {
		t.Errorf("az's file needs %d of %d owners: %v", file.Required(), len(file.Thumbprints()), err)
	}
	if err := file.Check(quorum(t)[:1]...); err == nil {
		t.Error("one owner can open az's file")
	}
	exchange := must(os.ReadFile(folder("az-exchange")))(t)
	transfer := must(securitydomain.ParseTransferKey(exchange))(t)
	block, _ := pem.Decode(exchange)
	if block == nil {
		t.Fatalf("az's exchange key is %s", exchange)
	}
	sum := sha256.Sum256(block.Bytes)
	blob := must(securitydomain.Rewrap(domain, transfer, quorum(t), &securitydomain.RewrapOptions{TransferKeySHA256: sum[:]}))(t)
	uploadBlob(t, os.Getenv("E2E_HSM_BY_PACKAGE"), blob)
	uploadBlob(t, os.Getenv("E2E_HSM_BY_AZ_BLOB"), securitydomain.SecurityDomain{Value: string(must(os.ReadFile(folder("az-blob")))(t))})

	for _, pair := range [][2]string{
		{os.Getenv("E2E_AZ_HSM"), os.Getenv("E2E_HSM_BY_PACKAGE")},
		{os.Getenv("E2E_AZ_HSM"), os.Getenv("E2E_HSM_BY_AZ_BLOB")},
		{os.Getenv("E2E_HSM"), os.Getenv("E2E_HSM_BY_AZ")}, // by az, of a file that strongroom's package has downloaded
	} {
		keyGoesFromTo(t, pair[0], pair[1])
	}
	// The other domain is another.
	_, err := restoreKey(t, os.Getenv("E2E_HSM_BY_PACKAGE"), os.Getenv("E2E_HSM"))
	refused(t, err, http.StatusBadRequest, "BadParameter", "")
}

// keyGoesFromTo restores a key's backup in another HSM, and verifies there what was signed here.
func keyGoesFromTo(t *testing.T, from, to string) {
	t.Helper()
	h := openHSM(t, from, to)
	key := h.create(t, "travels", azkeys.CreateKeyParameters{Kty: ptr(azkeys.KeyTypeECHSM)}).Key
	signature := h.sign(t, *key.KID, azkeys.SignatureAlgorithmES256, h.digest)
	if _, err := restoreKey(t, from, to); err != nil {
		t.Fatal(err)
	}
	verified := must(h.other.Verify(t.Context(), "travels", key.KID.Version(), azkeys.VerifyParameters{
		Algorithm: ptr(azkeys.SignatureAlgorithmES256), Digest: h.digest, Signature: signature,
	}, nil))(t)
	if !*verified.Value {
		t.Errorf("%s does not accept what %s has signed", to, from)
	}
}

// restoreKey restores in one HSM the key's backup from another.
func restoreKey(t *testing.T, from, to string) (azkeys.RestoreKeyResponse, error) {
	t.Helper()
	h := openHSM(t, from, to)
	blob := must(h.client.BackupKey(t.Context(), "travels", nil))(t).Value
	return h.other.RestoreKey(t.Context(), azkeys.RestoreKeyParameters{KeyBackup: blob}, nil)
}
