// Package record is the form in which records are stored: JSON, read strictly, with the version of its format in it. A
// package that stores something says what is in a record and at which key it lies; this one says how it is written.
package record

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// current is the version that every record carries.
const current = 1

// A Format is embedded in each record. A record of a later release is refused by name instead of being misread.
type Format struct {
	V int `json:"v"`
}

// Current is the format of what this release writes.
func Current() Format { return Format{current} }

func (f Format) check() error {
	if f.V != current {
		return fmt.Errorf("has format %d, this release knows %d: use a newer release", f.V, current)
	}
	return nil
}

// A Record is a pointer to a type that embeds a Format.
type Record[T any] interface {
	*T
	check() error
}

// Decode reads a record strictly: what this release does not know it must not silently drop when it writes it back.
func Decode[T any, P Record[T]](plaintext []byte) (*T, error) {
	v := P(new(T))
	dec := json.NewDecoder(bytes.NewReader(plaintext))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return nil, err
	}
	if err := v.check(); err != nil {
		return nil, err
	}
	return (*T)(v), nil
}

// Get reads and decodes the record at key.
func Get[T any, P Record[T]](r store.Reader, key string) (*T, error) {
	plaintext, err := r.Get(key)
	if err != nil {
		return nil, err
	}
	v, err := Decode[T, P](plaintext)
	if err != nil {
		return nil, &seal.RecordError{Key: key, Reason: err.Error()}
	}
	return v, nil
}

// Put writes a record.
func Put(tx store.Tx, key string, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Put(key, raw)
}

// Exists tells whether key holds a record, without opening it twice for the caller.
func Exists(r store.Reader, key string) (bool, error) {
	_, err := r.Get(key)
	if errors.Is(err, store.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// NewID returns 128 random bits in hex: Azure's form of a version, and our form of an object's id.
func NewID() string {
	var b [16]byte
	rand.Read(b[:])
	return hex.EncodeToString(b[:])
}
