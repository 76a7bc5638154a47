package keyvault

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/store"
)

// clockLeeway is how far the clocks of this server and of whoever set a key's not-before and expiry times may differ.
const clockLeeway = time.Minute

// A Used is the version of a key that did something. Clients remember it: it is the one that can undo what it did.
type Used struct {
	Name    string
	Version string
	Vault   string // ARM resource id of its vault
}

// A cryptoUse is what a caller does with a key.
type cryptoUse struct {
	op    Operation
	keyOp string  // as in key_ops
	use   hsm.Use // what the algorithm must be for
	old   bool    // allowed outside of not-before and expiry: it undoes or checks what the key did when it was valid
}

var (
	encrypting = cryptoUse{op: KeyEncrypt, keyOp: "encrypt", use: hsm.Encryption}
	decrypting = cryptoUse{op: KeyDecrypt, keyOp: "decrypt", use: hsm.Encryption, old: true}
	wrapping   = cryptoUse{op: KeyWrap, keyOp: "wrapKey", use: hsm.Wrapping}
	unwrapping = cryptoUse{op: KeyUnwrap, keyOp: "unwrapKey", use: hsm.Wrapping, old: true}
	signing    = cryptoUse{op: KeySign, keyOp: "sign", use: hsm.Signature}
	verifying  = cryptoUse{op: KeyVerify, keyOp: "verify", use: hsm.Signature, old: true}
)

// useKey returns the opened key of a version if the caller may use it so, and it may be used so.
func (s *Service) useKey(ctx context.Context, caller *identity.Caller, vault, name, version string, alg hsm.Algorithm,
	how cryptoUse) (hsm.Key, Used, error) {
	if err := checkName(name); err != nil {
		return nil, Used{}, err
	}
	var (
		key  hsm.Key
		used Used
	)
	err := s.db.View(ctx, func(r store.Reader) error {
		v, d, err := s.decide(r, caller, vault, how.op, name)
		if err != nil {
			return err
		}
		if !d.Allowed && !d.IfAsymmetric {
			return denied(v, caller, how.op, name, d.Reason)
		}
		f, err := s.find(r, v, KeyKind, name, version)
		if err != nil {
			return err
		}
		if !d.Allowed && f.rec.Key.Type == hsm.Oct {
			return denied(v, caller, how.op, name, "the right holds for asymmetric keys only")
		}
		used = Used{Name: f.o.Name, Version: f.rec.Version, Vault: v.Resource()}
		if err := s.mayUse(f.rec, how); err != nil {
			return err
		}
		if err := hsm.Check(alg, how.use, f.rec.Key.spec()); err != nil {
			return refusedKey(err)
		}
		key, err = s.openKey(ctx, r, f)
		return err
	})
	return key, used, err
}

// mayUse applies the rules of use of a version (contract §3.4).
func (s *Service) mayUse(rec *versionRecord, how cryptoUse) error {
	if rec.Disabled {
		return disabled(KeyKind, how.keyOp)
	}
	now := s.now()
	if !how.old {
		if rec.NotBefore != nil && now.Add(clockLeeway).Unix() < *rec.NotBefore {
			return &Error{Kind: NotYetValid, Object: KeyKind, Message: fmt.Sprintf("Operation %s is not allowed on a key that is "+
				"not yet valid.", how.keyOp)}
		}
		if rec.Expires != nil && now.Add(-clockLeeway).Unix() >= *rec.Expires {
			return &Error{Kind: Expired, Object: KeyKind, Message: fmt.Sprintf("Operation %s is not allowed on an expired key.",
				how.keyOp)}
		}
	}
	if !slices.Contains(rec.Key.Operations, how.keyOp) {
		return &Error{Kind: OperationForbidden, Object: KeyKind, Message: fmt.Sprintf("Operation %s is not permitted on this key.",
			how.keyOp)}
	}
	return nil
}

// Encrypt encrypts m.Value. For AES-GCM the answer has the IV that was made, and the tag.
func (s *Service) Encrypt(ctx context.Context, caller *identity.Caller, vault, name, version, alg string, m Message) (Message, Used, error) {
	return s.encrypt(ctx, caller, vault, name, version, alg, m, encrypting)
}

// Wrap is Encrypt for a key, as a right of its own.
func (s *Service) Wrap(ctx context.Context, caller *identity.Caller, vault, name, version, alg string, m Message) (Message, Used, error) {
	return s.encrypt(ctx, caller, vault, name, version, alg, m, wrapping)
}

func (s *Service) encrypt(ctx context.Context, caller *identity.Caller, vault, name, version, alg string, m Message,
	how cryptoUse) (Message, Used, error) {
	key, used, err := s.useKey(ctx, caller, vault, name, version, hsm.Algorithm(alg), how)
	if err != nil {
		return Message{}, used, err
	}
	out, err := key.Encrypt(ctx, hsm.Algorithm(alg), m)
	return out, used, refusedKey(err)
}

// Decrypt reverses Encrypt.
func (s *Service) Decrypt(ctx context.Context, caller *identity.Caller, vault, name, version, alg string, m Message) ([]byte, Used, error) {
	return s.decrypt(ctx, caller, vault, name, version, alg, m, decrypting)
}

// Unwrap reverses Wrap.
func (s *Service) Unwrap(ctx context.Context, caller *identity.Caller, vault, name, version, alg string, m Message) ([]byte, Used, error) {
	return s.decrypt(ctx, caller, vault, name, version, alg, m, unwrapping)
}

func (s *Service) decrypt(ctx context.Context, caller *identity.Caller, vault, name, version, alg string, m Message,
	how cryptoUse) ([]byte, Used, error) {
	key, used, err := s.useKey(ctx, caller, vault, name, version, hsm.Algorithm(alg), how)
	if err != nil {
		return nil, used, err
	}
	out, err := key.Decrypt(ctx, hsm.Algorithm(alg), m)
	return out, used, refusedKey(err)
}

// Sign signs a digest that the caller has made.
func (s *Service) Sign(ctx context.Context, caller *identity.Caller, vault, name, version, alg string, digest []byte) ([]byte, Used, error) {
	key, used, err := s.useKey(ctx, caller, vault, name, version, hsm.Algorithm(alg), signing)
	if err != nil {
		return nil, used, err
	}
	out, err := key.Sign(ctx, hsm.Algorithm(alg), digest)
	return out, used, refusedKey(err)
}

// Verify tells whether a signature of a digest is right.
func (s *Service) Verify(ctx context.Context, caller *identity.Caller, vault, name, version, alg string, digest, signature []byte) (bool, Used, error) {
	key, used, err := s.useKey(ctx, caller, vault, name, version, hsm.Algorithm(alg), verifying)
	if err != nil {
		return false, used, err
	}
	ok, err := key.Verify(ctx, hsm.Algorithm(alg), digest, signature)
	return ok, used, refusedKey(err)
}
