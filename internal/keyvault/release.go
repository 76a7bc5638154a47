package keyvault

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"

	"github.com/strongroom/strongroom/internal/hsm"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/release"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/store"
)

// ReleaseConfig is what a Service needs to release keys.
type ReleaseConfig struct {
	Verifier *release.Verifier // nil: no key is ever released

	// Names are the host names of the vaults, which the certificate of the answers' signer carries.
	Names []string

	// Certify issues a certificate for names and a public key, the leaf first. Nil means that the signer's is self-signed.
	Certify func(public crypto.PublicKey, names []string) (chain [][]byte, err error)
}

// A ReleasePolicy says to whom an exportable key may be released. It belongs to the key, not to one version.
type ReleasePolicy struct {
	ContentType string // "" means JSON
	Data        []byte // the policy; in answers in its normal form
	Immutable   bool   // it can no longer be changed
}

type releaseRecord struct {
	ContentType string `json:"contentType"`
	Data        []byte `json:"data"`
	Immutable   bool   `json:"immutable,omitempty"`
}

func (r *releaseRecord) same(other *releaseRecord) bool {
	return other != nil && r.Immutable == other.Immutable && bytes.Equal(r.Data, other.Data)
}

func (r *releaseRecord) policy() *ReleasePolicy {
	if r == nil {
		return nil
	}
	return &ReleasePolicy{ContentType: r.ContentType, Data: r.Data, Immutable: r.Immutable}
}

// releaseOf returns the release policy that a key has once a version with these properties is there, and refuses what does
// not fit together. The texts and their codes are Azure's (contract §14).
func releaseOf(v *resource.Vault, o *objectRecord, inHSM, exportable bool, p *ReleasePolicy) (*releaseRecord, error) {
	switch {
	case exportable && v.Tier == resource.Standard:
		return nil, badParameter("AKV.SKR.1001: The exportable attribute is only supported with premium vaults and API version " +
			">= '7.3-preview'.")
	case exportable && !inHSM:
		return nil, badParameter("AKV.SKR.1006: The exportable attribute is not supported for software keys; use a key type with -HSM.")
	case exportable && p == nil && v.Tier == resource.ManagedHSM:
		return nil, badParameter("Exportable keys must have release policy")
	case exportable && p == nil:
		return nil, badParameter("AKV.SKR.1004: Exportable keys must have release policy.")
	case !exportable && p != nil && v.Tier == resource.ManagedHSM:
		return nil, badParameter("Non-exportable keys must not have release policy")
	case !exportable && p != nil:
		return nil, badParameter("AKV.SKR.1005: Non-exportable keys must not have release policy.")
	case !exportable:
		return o.Release, nil
	}
	parsed, err := release.ParsePolicy(p.ContentType, p.Data)
	if err != nil {
		return nil, refusedRelease(err)
	}
	next := &releaseRecord{ContentType: release.ContentType, Data: parsed.Canonical(), Immutable: p.Immutable}
	if old := o.Release; old != nil && old.Immutable && !old.same(next) {
		return nil, badParameter("AKV.SKR.1020: Immutable Key Release Policy cannot be modified.")
	}
	return next, nil
}

// refusedRelease turns a refusal of the release package into one of this package.
func refusedRelease(err error) error {
	var bad *release.Error
	if !errors.As(err, &bad) {
		return err
	}
	kind := BadParameter
	switch bad.Kind {
	case release.BadToken, release.BadKey, release.NotListed, release.NotMet:
		kind = NotAttested
	case release.Unreachable:
		kind = Unreachable
	}
	return &Error{Kind: kind, Object: KeyKind, Message: bad.Message, Reason: bad.Error()}
}

// ReleaseAnswer is what the signed answer to a release says.
type ReleaseAnswer = release.Answer

// ReleaseParams asks for the release of a key.
type ReleaseParams struct {
	Target string // the attestation authority's token
	Nonce  string // comes back in the answer
	Enc    string // how to wrap the key; "" means CKM_RSA_AES_KEY_WRAP
	Host   string // as which the caller knows this server

	// Describe gives the members of the answer that are of the wire: the addresses of the request and of the key, its
	// attributes, the api-version.
	Describe func(Key) (ReleaseAnswer, error)
}

// maxNonce is the length of a release's nonce.
const maxNonce = 1024

// Bounds of what a release is asked with, in bytes.
const (
	MaxReleasePolicy = release.MaxPolicy
	MaxAttestation   = release.MaxToken
)

// ReleaseKey returns an exportable key, wrapped for the target that an attestation token describes, in a signed answer,
// if the key's policy holds for that token. It is allowed outside of the key's not-before and expiry times.
func (s *Service) ReleaseKey(ctx context.Context, caller *identity.Caller, vault, name, version string, p ReleaseParams) (string, Used, error) {
	if err := checkName(name); err != nil {
		return "", Used{}, err
	}
	enc, hash, err := release.Wrapping(p.Enc)
	if err != nil {
		return "", Used{}, refusedRelease(err)
	}
	if len(p.Nonce) > maxNonce {
		return "", Used{}, badParameter("The nonce has %d bytes; %d are allowed.", len(p.Nonce), maxNonce)
	}
	// What the policy demands is asked for first: the token's authority is contacted only for who may release the key.
	f, _, err := s.releasable(ctx, caller, vault, name, version)
	if err != nil {
		return "", f.used(), err
	}
	recipient, recipientID, err := s.attest(ctx, f, p.Target)
	if err != nil {
		return "", f.used(), err
	}
	// Authorities take their time. What was true before need not be true any more.
	now, key, err := s.releasable(ctx, caller, vault, name, f.rec.Version)
	if err != nil {
		return "", f.used(), err
	}
	if !now.o.Release.same(f.o.Release) {
		return "", f.used(), &Error{Kind: Conflict, Object: KeyKind, Message: "The key's release policy was changed meanwhile. Try again."}
	}
	// Nothing is stored, but a key leaves: that is announced like a change.
	if err := s.announce(ctx, caller, vault, KeyRelease, name, f.used().Name+"/"+f.used().Version); err != nil {
		return "", f.used(), err
	}
	wrapped, err := key.Export(ctx, recipient, hash)
	if err != nil {
		return "", f.used(), refusedKey(err)
	}
	shown := now.key()
	answer, err := p.Describe(shown)
	if err != nil {
		return "", f.used(), err
	}
	policy, err := release.ParsePolicy(now.o.Release.ContentType, now.o.Release.Data)
	if err != nil {
		return "", f.used(), fmt.Errorf("keyvault: stored release policy: %w", err)
	}
	answer.Enc, answer.Nonce, answer.Recipient, answer.Wrapped = enc, p.Nonce, recipientID, wrapped
	answer.KeyType, answer.Operations, answer.Curve = shown.Type, shown.Operations, shown.Curve
	answer.N, answer.E, answer.X, answer.Y = shown.Public.N, shown.Public.E, shown.Public.X, shown.Public.Y
	answer.Policy, answer.Immutable = policy, now.o.Release.Immutable
	signer, err := s.signer(ctx, p.Host)
	if err != nil {
		return "", f.used(), err
	}
	signed, err := signer.Sign(answer)
	return signed, f.used(), err
}

func (f found) used() Used {
	if f.rec == nil {
		return Used{}
	}
	return Used{Name: f.o.Name, Version: f.rec.Version, Vault: f.v.Resource()}
}

// releasable returns a version that the caller may release, and its key.
func (s *Service) releasable(ctx context.Context, caller *identity.Caller, vault, name, version string) (found, hsm.Key, error) {
	var (
		f   found
		key hsm.Key
	)
	err := s.read(ctx, caller, vault, KeyRelease, name, func(r store.Reader, v *resource.Vault) error {
		var err error
		if f, err = s.find(r, v, KeyKind, name, version); err != nil {
			return err
		}
		if f.rec.Disabled {
			return disabled(KeyKind, "release")
		}
		if !f.rec.Key.Exportable || f.o.Release == nil {
			return &Error{Kind: OperationForbidden, Object: KeyKind, Message: "Operation release is not permitted on this key: it is " +
				"not exportable."}
		}
		key, err = s.openKey(ctx, r, f)
		return err
	})
	return f, key, err
}

// attest checks the token against the key's policy and returns the target's key.
func (s *Service) attest(ctx context.Context, f found, token string) (*rsa.PublicKey, string, error) {
	if s.release.Verifier == nil {
		return nil, "", &Error{Kind: OperationForbidden, Object: KeyKind, Message: "This server releases no keys: its operator has named no " +
			"attestation authorities (releaseAuthorities in the configuration)."}
	}
	policy, err := release.ParsePolicy(f.o.Release.ContentType, f.o.Release.Data)
	if err != nil {
		return nil, "", fmt.Errorf("keyvault: stored release policy: %w", err)
	}
	attestation, err := s.release.Verifier.Verify(ctx, token, policy.Authorities())
	if err != nil {
		return nil, "", refusedRelease(err)
	}
	if err := policy.Evaluate(attestation.Authority, attestation.Claims); err != nil {
		return nil, "", refusedRelease(err)
	}
	recipient, id, err := attestation.EncryptionKey()
	return recipient, id, refusedRelease(err)
}

// signerKey is where the signer of releases is stored.
const signerKey = "release/signer"

// signer returns what signs answers to host, made when it is first needed.
func (s *Service) signer(ctx context.Context, host string) (*release.Signer, error) {
	if known := s.releaser.Load(); known != nil && known.Fits(host, s.now()) {
		return known, nil
	}
	load := func(r store.Reader) (*release.Signer, error) {
		raw, err := r.Get(signerKey)
		if errors.Is(err, store.ErrNotFound) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		return release.ParseSigner(raw)
	}
	var stored *release.Signer
	err := s.db.View(ctx, func(r store.Reader) (err error) {
		stored, err = load(r)
		return err
	})
	if err != nil {
		return nil, err
	}
	if stored == nil || !stored.Fits(host, s.now()) {
		if stored, err = s.certifySigner(stored); err != nil {
			return nil, err
		}
		if !stored.Fits(host, s.now()) { // or one would be made for each request
			return nil, fmt.Errorf("keyvault: no certificate for the host %q", host)
		}
		raw, err := stored.Marshal()
		if err != nil {
			return nil, err
		}
		mine := stored
		err = s.db.Update(ctx, func(tx store.Tx) error {
			there, err := load(tx)
			if err != nil {
				return err
			}
			if there != nil && there.Fits(host, s.now()) { // another server, or another request, was first
				stored = there
				return nil
			}
			stored = mine
			return tx.Put(signerKey, raw)
		})
		if err != nil {
			return nil, err
		}
	}
	s.releaser.Store(stored)
	return stored, nil
}

// certifySigner makes a signer, or a new certificate for one whose certificate no longer fits.
func (s *Service) certifySigner(old *release.Signer) (*release.Signer, error) {
	signer := old
	if signer == nil || s.release.Certify == nil {
		var err error
		if signer, err = release.NewSigner(s.release.Names, s.now()); err != nil {
			return nil, err
		}
	}
	if s.release.Certify == nil {
		return signer, nil
	}
	chain, err := s.release.Certify(signer.Public(), s.release.Names)
	if err != nil {
		return nil, err
	}
	return signer.WithChain(chain)
}
