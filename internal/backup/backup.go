// Package backup keeps full backups in a container of a blob storage that speaks the wire of Azure Blob Storage. It knows
// nothing of what it keeps: a backup is a sequence of named records, sealed so that whoever can read or write the container
// neither learns nor changes anything unnoticed.
//
// # Format, version 1
//
// A backup is a folder, mhsm-<hsm>-<yyyyMMddHHmmss><2 digits of a second>, with
//
//	data/<number>-<run>     records, up to 4 MiB of them
//	index/<number>-<run>    what the next 128 of those blobs are
//	manifest.json           what the index blobs are; written last
//
// where numbers count from 1 and have six digits, and a run is 16 hex digits. A folder without manifest is no backup.
//
// Everything is under one key of 32 bytes, which the domain's keys and the random salt in the manifest give. From it
// HKDF-Expand with SHA-256 (RFC 5869) derives a key for blobs (info "strongroom backup blobs v1") and one for the manifest (info
// "strongroom backup manifest v1").
//
// A blob is
//
//	nonce (12) ‖ AES-256-GCM ciphertext and tag (16)
//
// with the associated data "strongroom backup v1" ‖ 0 ‖ "data" or "index" ‖ 0 ‖ id of the backup ‖ 0 ‖ number (8 bytes, big-endian).
// What is in a data blob is
//
//	length of kind (1) ‖ kind ‖ length of name (2) ‖ name ‖ length of data (4) ‖ data
//
// for each record. Names do not decrease in a backup; records of one name are a group. An index blob holds JSON: number, run,
// size, SHA-256, number of records, first and last name of each of its data blobs. So the names are as secret as the data.
//
// The manifest is the JSON object {"manifest": M, "mac": A}, where A is the HMAC-SHA-256 of M's bytes as they stand there. M is
// in the clear: version, id of the backup, id of the domain, salt, HSM, folder, times, counts, and number, run, size and
// SHA-256 of each index blob.
//
// # One truth
//
// A writer that was interrupted is resumed from the State that it last handed out, and the blobs after that are written again.
// Each attempt is a run with blobs of its own, so none overwrites what another relies on, even if one that was thought dead is
// still at work. The manifest is written on condition that there is none: of several runs exactly one finishes, and
// what the others left behind is named nowhere. Because the manifest gives the index blobs by their hash, and these the data
// blobs, no blob can be lost, exchanged or taken from another run or another backup.
package backup

import (
	"fmt"
	"regexp"
)

// Limits.
const (
	MaxName = 256 // bytes in a record's name

	chunkSize     = 4 << 20 // bytes of records in a data blob
	chunksInIndex = 128
	maxIndexes    = 4096 // so a backup has 2 TiB at most
	maxIndex      = 256 << 10
	maxManifest   = 1 << 20
)

// A Record is a piece of a backup. Records of one name belong together: they are found together, and an interrupted writer
// begins with the first of them again.
type Record struct {
	Kind string // what the data is, in lower-case letters and hyphens
	Name string // of letters, digits and -_./:
	Data []byte
}

// String shows nothing of the data, which is secret.
func (r Record) String() string { return fmt.Sprintf("{%s %s REDACTED}", r.Kind, r.Name) }

// GoString is String.
func (r Record) GoString() string { return r.String() }

// Keys gives the keys of backups. It stands for a security domain: backups of one domain open with no other.
type Keys interface {
	// ID names the domain. It is no secret.
	ID() string

	// BackupKey derives the key of one backup, of 32 bytes, from its salt.
	BackupKey(salt []byte) ([]byte, error)
}

var (
	kindPattern = regexp.MustCompile(`^[a-z-]{1,32}$`)
	namePattern = regexp.MustCompile(`^[A-Za-z0-9_./:-]+$`)
)

func (r Record) check() error {
	switch {
	case !kindPattern.MatchString(r.Kind):
		return fmt.Errorf("backup: bad kind of a record: %.40q", r.Kind)
	case len(r.Name) > MaxName || !namePattern.MatchString(r.Name):
		return fmt.Errorf("backup: bad name of a record: %.300q", r.Name)
	case r.size() > chunkSize:
		return fmt.Errorf("backup: record %s has %d bytes; %d are allowed", r.Name, r.size(), chunkSize)
	}
	return nil
}
