package strongroomtest_test

import (
	"context"
	"testing"

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
