package keyvault

import (
	"context"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
)

// makingPerPrincipal is how many RSA keys of one principal may be made or checked at a time. They share few places and take
// seconds, so one principal must not take all of them.
const makingPerPrincipal = 8

// generate has the provider make a key for a caller.
func (s *Service) generate(ctx context.Context, caller *identity.Caller, spec hsm.Spec) (hsm.New, error) {
	return s.make(caller, spec.Type, func() (hsm.New, error) { return s.hsm.Generate(ctx, spec) })
}

// make runs what makes a key of that type, or takes one in, within the caller's share.
func (s *Service) make(caller *identity.Caller, kty hsm.KeyType, do func() (hsm.New, error)) (hsm.New, error) {
	if kty == hsm.RSA {
		leave, err := s.making.Enter(caller.Principal())
		if err != nil {
			return hsm.New{}, refusedKey(hsm.ErrBusy)
		}
		defer leave()
	}
	made, err := do()
	return made, refusedKey(err)
}
