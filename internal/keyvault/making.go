package keyvault

import (
	"context"
	"sync"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
)

// making counts the RSA keys that are being made or checked for each principal. They share few places and take seconds, so
// one principal must not take all of them.
type making struct {
	mu       sync.Mutex     // guards inFlight
	inFlight map[string]int // holds only principals with keys in the making
}

const makingPerPrincipal = 8

func (m *making) enter(caller *identity.Caller) (leave func(), err error) {
	principal := caller.TenantID + "/" + caller.ObjectID
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.inFlight[principal] >= makingPerPrincipal {
		return nil, refusedKey(hsm.ErrBusy)
	}
	m.inFlight[principal]++
	return func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.inFlight[principal]--; m.inFlight[principal] == 0 {
			delete(m.inFlight, principal)
		}
	}, nil
}

// generate has the provider make a key for a caller.
func (s *Service) generate(ctx context.Context, caller *identity.Caller, spec hsm.Spec) (hsm.New, error) {
	return s.make(caller, spec.Type, func() (hsm.New, error) { return s.hsm.Generate(ctx, spec) })
}

// make runs what makes a key of that type, or takes one in, within the caller's share.
func (s *Service) make(caller *identity.Caller, kty hsm.KeyType, do func() (hsm.New, error)) (hsm.New, error) {
	if kty == hsm.RSA {
		leave, err := s.making.enter(caller)
		if err != nil {
			return hsm.New{}, err
		}
		defer leave()
	}
	made, err := do()
	return made, refusedKey(err)
}
