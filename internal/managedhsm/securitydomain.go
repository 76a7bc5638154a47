package managedhsm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/authz"
	"github.com/strongroom/strongroom/internal/identity"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/store"
)

// The operations of the security domain.
var (
	Download       = operation("SecurityDomainDownload", "download", "action")
	DownloadStatus = operation("SecurityDomainDownloadStatus", "download", "read")
	GetTransferKey = operation("SecurityDomainTransferKeyGet", "transferkey", "read")
	Upload         = operation("SecurityDomainUpload", "upload", "action")
	UploadStatus   = operation("SecurityDomainUploadStatus", "upload", "read")
)

func operation(name, object, verb string) keyvault.Operation {
	return keyvault.Operation{Name: name, Permission: authz.Permission{
		HSMAction: "Microsoft.KeyVault/managedHsm/securitydomain/" + object + "/" + verb,
	}}
}

// open returns the HSM in the snapshot in which the caller may perform op in it, unless a restore has taken it.
func (s *Service) open(r store.Reader, caller *identity.Caller, hsm string, op keyvault.Operation) (*resource.Vault, error) {
	v, err := s.authorize(r, caller, hsm, op)
	if err == nil && v.Restoring != "" {
		return nil, &keyvault.Error{Kind: keyvault.HSMRestoring, Message: v.InUse().Error()}
	}
	return v, err
}

// openInactive is open for what only an HSM without a domain can do.
func (s *Service) openInactive(r store.Reader, caller *identity.Caller, hsm string, op keyvault.Operation) (*resource.Vault, error) {
	v, err := s.open(r, caller, hsm, op)
	if err == nil && v.Activation == resource.Active {
		return nil, &keyvault.Error{Kind: keyvault.Conflict, Message: fmt.Sprintf("The managed HSM '%s' is active: it has its security domain, "+
			"which nothing replaces. To bring the domain of another HSM, make a new managed HSM and upload it there before that one is activated.", v.Name)}
	}
	return v, err
}

// Download returns the security domain in a file that required of the certificates' owners open together. It makes an HSM active that
// is not yet; whoever activated it first, the file has the domain that the HSM has.
func (s *Service) Download(ctx context.Context, caller *identity.Caller, hsm string, certs []sdomain.Certificate, required int) (file []byte, err error) {
	var v *resource.Vault
	err = s.db.View(ctx, func(r store.Reader) (err error) {
		v, err = s.open(r, caller, hsm, Download)
		return err
	})
	if err != nil {
		return nil, err
	}
	if err := sdomain.CheckQuorum(certs, required); err != nil {
		return nil, refused(err)
	}
	// A file with a new domain is made in any case. So if one cannot be made for these certificates, nothing has happened yet.
	made, err := sdomain.NewDomainKeys()
	if err != nil {
		return nil, err
	}
	if file, err = sealed(made, certs, required); err != nil {
		return nil, err
	}
	if err := s.announce(ctx, caller, v, Download, DescribeDownload(certs, required)); err != nil {
		return nil, err
	}
	var held *sdomain.DomainKeys
	err = s.db.Update(ctx, func(tx store.Tx) error {
		v, err := s.open(tx, caller, hsm, Download)
		if err != nil {
			return err
		}
		if v.Activation == resource.Active {
			held, err = s.resources.Domain(tx, v)
			return err
		}
		held = made
		return s.activate(tx, v, made)
	})
	if err != nil {
		return nil, err
	}
	if held != made {
		return sealed(held, certs, required)
	}
	return file, nil
}

// activate makes an HSM active with a domain. Its transfer key is of no more use.
func (s *Service) activate(tx store.Tx, v *resource.Vault, keys *sdomain.DomainKeys) error {
	err := s.resources.Activate(tx, v, keys)
	var conflict *resource.Error
	if errors.As(err, &conflict) {
		return &keyvault.Error{Kind: keyvault.Conflict, Message: conflict.Message}
	}
	return errors.Join(err, tx.Delete(transferKey(v.ID)))
}

func sealed(keys *sdomain.DomainKeys, certs []sdomain.Certificate, required int) ([]byte, error) {
	data, err := keys.Data()
	if err != nil {
		return nil, err
	}
	return sdomain.Seal(data, certs, required)
}

// DescribeDownload is what the audit log has of a download: who will be able to open the file.
func DescribeDownload(certs []sdomain.Certificate, required int) string {
	thumbprints := make([]string, min(len(certs), sdomain.MaxCertificates))
	for i := range thumbprints {
		thumbprints[i] = certs[i].Thumbprint()
	}
	return fmt.Sprintf("quorum: %d of %d; certificates by SHA-256: %s", required, len(certs), strings.Join(thumbprints, " "))
}

// DescribeUpload is what the audit log has of an upload: which domain was brought.
func DescribeUpload(domainID string) string { return "security domain: " + domainID }

// Upload makes an HSM active with the domain in a restore blob, which was made for the HSM's transfer key. It returns the domain's id.
func (s *Service) Upload(ctx context.Context, caller *identity.Caller, hsm string, blob []byte) (domainID string, err error) {
	var v *resource.Vault
	var key *sdomain.TransferKey
	err = s.db.View(ctx, func(r store.Reader) (err error) {
		if v, err = s.openInactive(r, caller, hsm, Upload); err == nil {
			key, err = loadTransferKey(r, v)
		}
		return err
	})
	if err != nil {
		return "", err
	}
	if key == nil {
		return "", noTransferKey(v)
	}
	data, err := sdomain.OpenRestoreBlob(blob, key)
	if err != nil {
		return "", refused(err)
	}
	keys, err := sdomain.ParseDomainKeys(data)
	if err != nil {
		return "", refused(err)
	}
	if err := s.announce(ctx, caller, v, Upload, DescribeUpload(keys.ID())); err != nil {
		return "", err
	}
	err = s.db.Update(ctx, func(tx store.Tx) error {
		v, err := s.openInactive(tx, caller, hsm, Upload)
		if err != nil {
			return err
		}
		// It may be another HSM of the same name by now.
		now, err := loadTransferKey(tx, v)
		if err != nil {
			return err
		}
		if now == nil || now.Certificate().Thumbprint() != key.Certificate().Thumbprint() {
			return noTransferKey(v)
		}
		return s.activate(tx, v, keys)
	})
	if errors.Is(err, store.ErrTooLarge) { // what is in it under tags that are not ours
		return "", &keyvault.Error{Kind: keyvault.BadParameter, Message: "The security domain is larger than can be stored."}
	}
	return keys.ID(), err
}

func noTransferKey(v *resource.Vault) error {
	return &keyvault.Error{Kind: keyvault.BadParameter, Message: fmt.Sprintf("The managed HSM '%s' has not given out a transfer key, so nothing "+
		"can have been made for it. Get the key first (init-recovery), and make the restore blob for that one.", v.Name)}
}

// refused is what package sdomain found wrong with what a caller sent.
func refused(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	return &keyvault.Error{Kind: keyvault.BadParameter, Message: strings.ToUpper(text[:1]) + text[1:] + "."}
}

// A State is how far an HSM's way to its security domain is. There is no state of failure: what fails is refused at once, and leaves
// everything as it was.
type State int

// The states.
const (
	NotStarted State = iota // neither a download nor an upload has been accepted
	Done                    // the HSM is active
)

// Status says whether the HSM is active, for op DownloadStatus or UploadStatus. Which of the two made it active makes no difference.
func (s *Service) Status(ctx context.Context, caller *identity.Caller, hsm string, op keyvault.Operation) (state State, err error) {
	err = s.db.View(ctx, func(r store.Reader) error {
		v, err := s.authorize(r, caller, hsm, op)
		if err == nil && v.Activation == resource.Active {
			state = Done
		}
		return err
	})
	return state, err
}
