package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/seal"
	"github.com/strongroom/strongroom/internal/store"
)

// anchorKey is where the newest head of the audit log is remembered, out of reach of whoever can only write the log's
// file. A cluster will have one for each server.
const anchorKey = "audit/head/server"

type anchorRecord struct {
	Format int    `json:"v"`
	Seq    uint64 `json:"seq"`
	Hash   string `json:"hash"`
	// Closed says that the log was closed after this line, so that it holds none that is not remembered.
	Closed bool `json:"closed,omitempty"`
}

// readAnchor returns the record, nil if there is none.
func readAnchor(r store.Reader) (*anchorRecord, error) {
	raw, err := r.Get(anchorKey)
	if errors.Is(err, store.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rec := new(anchorRecord)
	if err := json.Unmarshal(raw, rec); err != nil {
		return nil, &seal.RecordError{Key: anchorKey, Reason: err.Error()}
	}
	if rec.Format != 1 {
		return nil, &seal.RecordError{Key: anchorKey, Reason: "was written by a newer release"}
	}
	return rec, nil
}

func (rec *anchorRecord) put(tx store.Tx) error {
	raw, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	return tx.Put(anchorKey, raw)
}

// head returns what is remembered in the form of package audit, nil for nothing.
func (rec *anchorRecord) head() *audit.Head {
	if rec == nil {
		return nil
	}
	return &audit.Head{Seq: rec.Seq, Hash: rec.Hash}
}

// A Remembered is what the store of a data folder remembers of the audit log.
type Remembered struct {
	Head   audit.Head // Seq is 0 if nothing is remembered
	Closed bool       // the log was closed after this line

	lag time.Duration // how far what is remembered may lag behind the log of a server that was killed
}

// RolledBack says that the store is older than a log that holds b after the remembered line, or "". Of a server that was
// stopped the log holds no more than is remembered; of one that was killed, no more than it wrote within seconds.
func (m *Remembered) RolledBack(b audit.Beyond) string {
	if b.Lines == 0 || !m.Closed && b.Span <= m.lag {
		return ""
	}
	return fmt.Sprintf("the store is older than the audit log: it remembers line %s, after which the log holds %d more; "+
		"if an old copy was brought back, changes that these lines tell are not in it", m.Head, b.Lines)
}

// remembered makes a Remembered of the store's record.
func (c *Config) remembered(rec *anchorRecord) *Remembered {
	// Lines are remembered once they were synced, and tell when their request began.
	m := &Remembered{lag: *c.Audit.Sync + c.Limits.RequestTime + time.Minute}
	if rec != nil {
		m.Head, m.Closed = *rec.head(), rec.Closed
	}
	return m
}

// AuditMemory returns what the store of a data folder remembers of the audit log, without touching the log. It needs the
// folder for itself.
func AuditMemory(ctx context.Context, cfg *Config) (m *Remembered, err error) {
	s := newState(cfg, Options{})
	defer func() { err = errors.Join(err, s.close()) }()
	if err := s.openStore(ctx, false); err != nil {
		return nil, err
	}
	err = s.db.View(ctx, func(r store.Reader) error {
		rec, err := readAnchor(r)
		m = cfg.remembered(rec)
		return err
	})
	return m, err
}

// remember has the store remember a head of the audit log.
func (s *state) remember(h audit.Head, closed bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	rec := &anchorRecord{Format: 1, Seq: h.Seq, Hash: h.Hash, Closed: closed}
	if err := s.db.Update(ctx, rec.put); err != nil {
		s.log.Error("the head of the audit log could not be remembered", "error", err)
	}
}

// takeAnchor returns what the store remembers. What it remembers from now on is not of a log that was closed, for lines
// are written before they are remembered.
func (s *state) takeAnchor(ctx context.Context) (found *anchorRecord, err error) {
	err = s.db.Update(ctx, func(tx store.Tx) error {
		if found, err = readAnchor(tx); err != nil || found == nil || !found.Closed {
			return err
		}
		open := *found
		open.Closed = false
		return open.put(tx)
	})
	return found, err
}

func (s *state) openAudit(ctx context.Context) error {
	anchor, err := s.takeAnchor(ctx)
	if err != nil {
		return err
	}
	cfg := audit.Config{
		SyncEvery:  *s.cfg.Audit.Sync,
		Timeout:    s.cfg.Audit.Timeout,
		Anchor:     anchor.head(),
		ResourceID: "/providers/Strongroom/audit",
		OnSync:     func(h audit.Head) { s.remember(h, false) },
		OnWarning:  s.auditWarning,
		Now:        s.now,
	}
	if s.cfg.Audit.File == "-" {
		cfg.Writer = os.Stdout
	} else {
		cfg.Path = s.cfg.Audit.File
		if err := s.cfg.checkAuditFolder(); err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(cfg.Path), 0o700); err != nil {
			return fmt.Errorf("audit log: %w", err)
		}
	}
	if s.audit, err = audit.Open(cfg); err != nil {
		return err
	}
	s.closers = append(s.closers, s.closeAudit)
	if w := s.audit.Warning(); w != "" {
		s.log.Error("the audit log is not complete", "warning", w)
	}
	if s.rolledBack = s.cfg.remembered(anchor).RolledBack(s.audit.Beyond()); s.rolledBack != "" {
		s.tellRolledBack(ctx, anchor)
	}
	return nil
}

// closeAudit closes the log and has the store remember that nothing comes after its last line.
func (s *state) closeAudit() error {
	if err := s.audit.Close(); err != nil {
		return err
	}
	s.remember(s.audit.Head(), true)
	return nil
}

// rolledBackOperation is the name of the record of a store that is older than the log.
const rolledBackOperation = "StoreRolledBack"

// tellRolledBack says so in both logs. Health does too. The server goes on: whoever has brought a copy back wants that.
func (s *state) tellRolledBack(ctx context.Context, anchor *anchorRecord) {
	s.log.Error("the store was rolled back", "warning", s.rolledBack)
	var remembered audit.Head
	if anchor != nil {
		remembered = *anchor.head()
	}
	err := s.audit.Write(ctx, &audit.Record{
		ResourceID: "/providers/Strongroom/store",
		Operation:  rolledBackOperation,
		ResultType: audit.Failure,
		ResultDescription: fmt.Sprintf("the store remembers line %s of this log, which went on to line %s or later",
			remembered, s.audit.Head()),
	})
	if err != nil {
		s.log.Error("that the store was rolled back could not be put on record", "error", err)
	}
}

// auditWarning tells what the audit log has found while it is open.
func (s *state) auditWarning(text string) {
	if text == "" {
		s.log.Info("the audit log's file is back in its place")
		return
	}
	s.log.Error("the audit log needs attention", "warning", text)
}
