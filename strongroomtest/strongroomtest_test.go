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
