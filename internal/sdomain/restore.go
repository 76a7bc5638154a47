package sdomain

import (
	"encoding/json"
	"errors"
	"fmt"
)

// blobJSON is what an HSM is restored from: the data under a new master key, and that wrapped for the HSM's transfer key.
type blobJSON struct {
	EncData    *encData `json:"EncData"`
	WrappedKey *encKey  `json:"WrappedKey"`
}

// restoreKID is what the service's tools write where a key has no name.
const restoreKID = "not used"

// Rewrap makes the blob that restores a security domain in the HSM that has the transfer key.
func Rewrap(data []Datum, transfer Certificate) ([]byte, error) {
	if transfer.x509 == nil {
		return nil, fmt.Errorf("the transfer key %w", ErrCertificate)
	}
	master := randomBytes(masterLen)
	defer clear(master)
	enc, err := sealData(data, master)
	if err != nil {
		return nil, err
	}
	wrapped, err := sealRSA(restoreKID, transfer.public, master)
	if err != nil {
		return nil, err
	}
	return json.Marshal(blobJSON{enc, &encKey{wrapped, transfer.Thumbprint()}})
}

// OpenRestoreBlob opens what Rewrap has made, in JSON or base64url.
func OpenRestoreBlob(blob []byte, tk *TransferKey) ([]Datum, error) {
	data, err := openRestoreBlob(blob, tk)
	if err != nil {
		return nil, fmt.Errorf("the blob %w", err)
	}
	return data, nil
}

func openRestoreBlob(blob []byte, tk *TransferKey) ([]Datum, error) {
	if tk == nil || tk.key == nil {
		return nil, errors.New("cannot be opened without a transfer key")
	}
	var raw blobJSON
	if err := decodeBlob(blob, &raw); err != nil {
		return nil, err
	}
	if err := raw.EncData.check(); err != nil {
		return nil, err
	}
	if raw.WrappedKey == nil {
		return nil, fmt.Errorf("%w to upload: WrappedKey is missing. Has it been wrapped for a transfer key?", ErrMalformed)
	}
	if !raw.WrappedKey.isFor(tk.certificate.x509) {
		return nil, fmt.Errorf("%w: get this HSM's, and make the blob anew", ErrOtherTransfer)
	}
	master, err := openRSA(raw.WrappedKey.JWE, tk.key)
	if err != nil || len(master) != masterLen {
		// Which part does not fit must not be told to one who tries.
		return nil, fmt.Errorf("%w: its WrappedKey does not open", ErrAltered)
	}
	defer clear(master)
	data, _, err := openData(raw.EncData.Data, master)
	return data, err
}
