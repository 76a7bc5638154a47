package resource

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/strongroom/strongroom/internal/store"
)

// This file moves a managed HSM's own roles, assignments and settings out into a full backup and back in. Nobody is authorised
// here: who asks does it for a job that somebody was authorised to start.

// A LocalRecord is one of them.
type LocalRecord struct {
	Name string // "assignment/<id>", "definition/<id>", "settings"
	Data []byte
}

// LocalRecords returns all of them, in the order of their names.
func (s *Service) LocalRecords(ctx context.Context, v *Vault) (out []LocalRecord, err error) {
	prefix := LocalPrefix(v.ContentID())
	err = s.db.View(ctx, func(r store.Reader) error {
		out = nil
		for e, err := range r.Scan(prefix, store.PrefixEnd(prefix)) {
			if err != nil {
				return err
			}
			if e.Key != localGenerationKey(v.ContentID()) {
				out = append(out, LocalRecord{strings.TrimPrefix(e.Key, prefix), e.Value})
			}
		}
		return nil
	})
	return out, err
}

// PutLocalRecord writes one of them into a content that is being made.
func PutLocalRecord(tx store.Tx, contentID string, r LocalRecord) error {
	key := LocalPrefix(contentID) + r.Name
	if err := checkLocalRecord(key, r.Data); err != nil || key == localGenerationKey(contentID) {
		return &Error{Kind: InvalidProperty, Message: fmt.Sprintf("The record %.100q cannot be restored: it is not of a form that this "+
			"release knows.", r.Name)}
	}
	return tx.Put(key, r.Data)
}

// SetRestoring notes which job replaces all that is in a managed HSM; "" is none. v must be what the transaction has read.
func (v *Vault) SetRestoring(tx store.Tx, job string) error {
	changed := *v
	changed.Restoring = job
	return changed.store(tx)
}

// ReplaceContent gives a managed HSM another content, and leaves the one that it has to the collector. v must be what the
// transaction has read. A content in which nobody could assign roles is refused: no other door would be left.
func (s *Service) ReplaceContent(tx store.Tx, v *Vault, contentID string) error {
	changed := v.WithContent(contentID)
	state, err := s.compileLocal(tx, changed, "")
	if err != nil {
		return err
	}
	writes := func(as *LocalAssignment) bool { return as.Scope == wholeHSM && state.grantsWriting(as.RoleID) }
	if !slices.ContainsFunc(state.assignments, writes) {
		return &Error{Kind: ConflictError, Message: "Nobody could assign roles in the managed HSM after this restore: the backup has no such " +
			"role assignment at the scope /."}
	}
	return errors.Join(newLocalGeneration(tx, contentID), changed.store(tx), s.cfg.Purged(tx, v.ContentID()))
}
