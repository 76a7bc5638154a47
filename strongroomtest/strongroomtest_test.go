package strongroomtest_test

import (
	"context"
	"crypto/sha256"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azkeys"
	"github.com/Azure/azure-sdk-for-go/sdk/security/keyvault/azsecrets"

	"github.com/strongroom/strongroom/strongroomtest"
)

func TestStart(t *testing.T) {
	t.Parallel()
	s := strongroomtest.Start(t, nil)
	client := s.Secrets(t)
	ctx := context.Background()
	value := "correct horse"
	set, err := client.SetSecret(ctx, "hello", azsecrets.SetSecretParameters{Value: &value}, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, err := client.GetSecret(ctx, "hello", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	if *got.Value != value || got.ID.Version() != set.ID.Version() {
		t.Errorf("got %q version %s, want %q version %s", *got.Value, got.ID.Version(), value, set.ID.Version())
	}
}

func TestKeys(t *testing.T) {
	t.Parallel()
	client, ctx := strongroomtest.Start(t, nil).Keys(t), context.Background()
	if _, err := client.CreateKey(ctx, "signer", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeECHSM)}, nil); err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256([]byte("correct horse"))
	signed, err := client.Sign(ctx, "signer", "", azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: digest[:]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	verified, err := client.Verify(ctx, "signer", "", azkeys.VerifyParameters{
		Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Digest: digest[:], Signature: signed.Result,
	}, nil)
	if err != nil || !*verified.Value {
		t.Errorf("the signature: %v, %v", verified.Value, err)
	}
}

// TestHSMKeys uses managed HSMs by Azure's own client, which finds out by the challenge what it needs a token for, and carries a key
// from one to the other.
func TestHSMKeys(t *testing.T) {
	t.Parallel()
	s, ctx := strongroomtest.Start(t, &strongroomtest.Options{HSMs: []string{"pool"}}), context.Background()
	s.CreateHSM(t, "twin", strongroomtest.HSMOptions{DomainOf: "pool"})
	s.CreateHSM(t, "stranger", strongroomtest.HSMOptions{})
	s.CreateHSM(t, "fresh", strongroomtest.HSMOptions{NotActivated: true})
	client := s.HSMKeys(t, "pool")
	made, err := client.CreateKey(ctx, "k", azkeys.CreateKeyParameters{Kty: to.Ptr(azkeys.KeyTypeEC)}, nil)
	if err != nil || *made.Key.Kty != azkeys.KeyTypeECHSM || made.Attributes.HSMPlatform != nil {
		t.Fatalf("%+v, %v", made.Key, err)
	}
	digest := sha256.Sum256([]byte("correct horse"))
	signed, err := client.Sign(ctx, "k", "", azkeys.SignParameters{Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Value: digest[:]}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if random, err := client.GetRandomBytes(ctx, azkeys.GetRandomBytesParameters{Count: to.Ptr[int32](16)}, nil); err != nil || len(random.Value) != 16 {
		t.Errorf("random bytes: %x, %v", random.Value, err)
	}
	backup, err := client.BackupKey(ctx, "k", nil)
	if err != nil {
		t.Fatal(err)
	}
	restore := azkeys.RestoreKeyParameters{KeyBackup: backup.Value}
	for _, name := range []string{"stranger", "fresh"} {
		if _, err := s.HSMKeys(t, name).RestoreKey(ctx, restore, nil); err == nil {
			t.Errorf("%s takes the key", name)
		}
	}
	twin := s.HSMKeys(t, "twin")
	restored, err := twin.RestoreKey(ctx, restore, nil)
	if err != nil || restored.Key.KID.Version() != made.Key.KID.Version() {
		t.Fatal(restored.Key, err)
	}
	verified, err := twin.Verify(ctx, "k", "", azkeys.VerifyParameters{
		Algorithm: to.Ptr(azkeys.SignatureAlgorithmES256), Digest: digest[:], Signature: signed.Result,
	}, nil)
	if err != nil || !*verified.Value {
		t.Errorf("the signature: %v, %v", verified.Value, err)
	}
}
