package managedhsm

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/strongroom/strongroom/internal/audit"
	"github.com/strongroom/strongroom/internal/backup"
	"github.com/strongroom/strongroom/internal/keyvault"
	"github.com/strongroom/strongroom/internal/record"
	"github.com/strongroom/strongroom/internal/resource"
	"github.com/strongroom/strongroom/internal/sdomain"
	"github.com/strongroom/strongroom/internal/store"
)

// Names of records in a backup. All keys come first: the groups are in the order of their names.
const (
	keyGroup   = "key/"
	localGroup = "local/"
)

// work does what the job is for. It returns nil when the job has ended.
func (l *lease) work(ctx context.Context) error {
	var (
		rec    *jobRecord
		v      *resource.Vault
		domain *sdomain.DomainKeys
	)
	err := l.s.db.View(ctx, func(r store.Reader) (err error) {
		if rec, v, err = l.loadLive(r); err == nil {
			domain, err = l.s.resources.Domain(r, v)
		}
		return err
	})
	if err != nil {
		return err
	}
	if rec.Work.Swapped {
		return l.schedule(ctx, v, rec.Work.Last)
	}
	if l.s.overdue(rec) {
		return errTooLong
	}
	if rec.Work.Container == "" {
		return l.succeed(ctx, v, nil)
	}
	c, err := l.s.container(rec.Work)
	if err != nil {
		return err
	}
	switch rec.Kind {
	case PreBackup:
		if err := c.CheckBackup(ctx); err != nil {
			return err
		}
		return l.succeed(ctx, v, nil)
	case PreRestore:
		if err := c.CheckRestore(ctx, rec.Work.Folder, domain); err != nil {
			return err
		}
		return l.succeed(ctx, v, nil)
	case FullBackup:
		return l.backUp(ctx, v, rec, c, domain)
	case KeyRestore:
		return l.restoreKey(ctx, v, rec, c, domain)
	case FullRestore:
		return l.restore(ctx, v, rec, c, domain)
	}
	return fmt.Errorf("a job of the unknown kind %q", rec.Kind)
}

// succeed ends the job well. also, if not nil, runs in the transaction.
func (l *lease) succeed(ctx context.Context, v *resource.Vault, also func(tx store.Tx, rec *jobRecord, v *resource.Vault) error) error {
	err := l.update(ctx, func(tx store.Tx, rec *jobRecord, v *resource.Vault) error {
		if also != nil {
			if err := also(tx, rec, v); err != nil {
				return err
			}
		}
		rec.Details = ""
		return l.end(tx, rec, Succeeded)
	})
	if err != nil {
		return err
	}
	return l.put(ctx, v, audit.Success, "")
}

// backUp writes all that is in the HSM into the container.
func (l *lease) backUp(ctx context.Context, v *resource.Vault, rec *jobRecord, c *backup.Container, domain *sdomain.DomainKeys) error {
	save := func(ctx context.Context, state backup.State) error {
		return l.update(ctx, func(_ store.Tx, rec *jobRecord, _ *resource.Vault) error {
			rec.Work.Writer, rec.Work.Attempts, rec.Details = &state, 0, ""
			return nil
		})
	}
	var (
		w    *backup.Writer
		last string
		err  error
	)
	if rec.Work.Writer == nil {
		w, err = backup.Begin(ctx, c, domain, v.Name, save)
	} else {
		last = rec.Work.Writer.Last
		w, err = backup.Resume(c, domain, *rec.Work.Writer, save)
	}
	if err == nil && last < localGroup {
		err = l.addKeys(ctx, v, w, strings.TrimPrefix(last, keyGroup))
	}
	if err == nil {
		err = l.addLocal(ctx, v, w, last)
	}
	if err != nil {
		return err
	}
	if _, err := w.Finish(ctx); err != nil {
		return err
	}
	return l.succeed(ctx, v, func(tx store.Tx, rec *jobRecord, v *resource.Vault) error {
		rec.Address = c.URI(w.Folder())
		return record.Put(tx, lastBackupKey(v.ID), lastBackupRecord{record.Current(), l.s.now().Unix()})
	})
}

func (l *lease) addKeys(ctx context.Context, v *resource.Vault, w *backup.Writer, after string) error {
	for {
		k, err := l.s.keys.NextKey(ctx, v, after)
		if err != nil || k == nil {
			return err
		}
		for _, r := range k.Records {
			if err := w.Add(ctx, backup.Record{Kind: r.Kind, Name: keyGroup + k.Name, Data: r.Data}); err != nil {
				return err
			}
		}
		after = k.Name
	}
}

func (l *lease) addLocal(ctx context.Context, v *resource.Vault, w *backup.Writer, last string) error {
	records, err := l.s.resources.LocalRecords(ctx, v)
	if err != nil {
		return err
	}
	for _, r := range records {
		name := localGroup + r.Name
		if name <= last {
			continue
		}
		if err := w.Add(ctx, backup.Record{Kind: "local", Name: name, Data: r.Data}); err != nil {
			return err
		}
	}
	return nil
}

// restoreKey brings one key back with all its versions.
func (l *lease) restoreKey(ctx context.Context, v *resource.Vault, rec *jobRecord, c *backup.Container, domain *sdomain.DomainKeys) error {
	b, err := backup.Open(ctx, c, rec.Work.Folder, domain)
	if err != nil {
		return err
	}
	k := &keyvault.KeyContent{Name: rec.Work.Key}
	for r, err := range b.Find(ctx, keyGroup+rec.Work.Key) {
		if err != nil {
			return err
		}
		k.Records = append(k.Records, keyvault.ContentRecord{Kind: r.Kind, Data: append([]byte(nil), r.Data...)})
	}
	if len(k.Records) == 0 {
		return &backup.Error{Code: backup.NotFound, Message: fmt.Sprintf("The backup has no key named %.127q.", rec.Work.Key)}
	}
	details := fmt.Sprintf("Number of successful key versions restored: %d, Number of key versions could not overwrite: 0", len(k.Records)-1)
	// The key is there and the job is done in one step, so that no second attempt finds the name taken by the first.
	err = l.s.keys.RestoreKeyContent(ctx, v, k, func(tx store.Tx) error {
		rec, _, err := l.loadLive(tx)
		if err != nil {
			return err
		}
		rec.Details = details
		return errors.Join(l.end(tx, rec, Succeeded), record.Put(tx, jobKey(l.vaultID, l.job), rec))
	})
	if err != nil {
		return err
	}
	return l.put(ctx, v, audit.Success, "")
}

// restore replaces all that is in the HSM by what is in a backup: it writes a new content beside the one that the HSM has, and
// exchanges them in one step.
func (l *lease) restore(ctx context.Context, v *resource.Vault, rec *jobRecord, c *backup.Container, domain *sdomain.DomainKeys) error {
	b, err := backup.Open(ctx, c, rec.Work.Folder, domain)
	if err != nil {
		return err
	}
	st := &staging{lease: l, v: v.WithContent(rec.Work.Content)}
	from := ""
	if rec.Work.Last != "" {
		from = rec.Work.Last + "\x00"
	}
	for r, err := range b.Records(ctx, from) {
		if err == nil {
			err = st.add(ctx, r)
		}
		if err != nil {
			return err
		}
	}
	if err := st.flush(ctx); err != nil {
		return err
	}
	err = l.update(ctx, func(tx store.Tx, rec *jobRecord, v *resource.Vault) error {
		if v.Restoring != rec.ID {
			return errLeaseLost
		}
		rec.Work.Swapped, rec.Work.Last, rec.Work.SAS = true, "", ""
		return errors.Join(keyvault.TakeContent(tx, rec.Work.Content), l.s.resources.ReplaceContent(tx, v, rec.Work.Content))
	})
	if err != nil {
		return err
	}
	return l.schedule(ctx, st.v, "")
}

// staging writes records of a backup into a new content.
type staging struct {
	*lease
	v       *resource.Vault // with the new content
	key     *keyvault.KeyContent
	written int // keys since the progress was stored
}

func (st *staging) add(ctx context.Context, r backup.Record) error {
	name, isKey := strings.CutPrefix(r.Name, keyGroup)
	if st.key != nil && (!isKey || name != st.key.Name) {
		if err := st.flush(ctx); err != nil {
			return err
		}
	}
	if isKey {
		if st.key == nil {
			st.key = &keyvault.KeyContent{Name: name}
		}
		st.key.Records = append(st.key.Records, keyvault.ContentRecord{Kind: r.Kind, Data: append([]byte(nil), r.Data...)})
		return nil
	}
	local, isLocal := strings.CutPrefix(r.Name, localGroup)
	if !isLocal {
		return &backup.Error{Code: backup.Unsupported, Message: "The backup has records that this release does not know. Use a newer one."}
	}
	return st.progress(ctx, r.Name, func(tx store.Tx) error {
		return resource.PutLocalRecord(tx, st.v.ContentID(), resource.LocalRecord{Name: local, Data: r.Data})
	})
}

// flush writes the key whose records have all been read.
func (st *staging) flush(ctx context.Context) error {
	if st.key == nil {
		return nil
	}
	k := st.key
	st.key = nil
	err := st.s.keys.StageKey(ctx, st.v, k, func(tx store.Tx) error {
		rec, _, err := st.loadLive(tx)
		if err == nil {
			err = st.keepContent(tx, rec)
		}
		return err
	})
	if err != nil {
		return err
	}
	if st.written++; st.written%st.s.saveEvery != 0 {
		return nil
	}
	return st.progress(ctx, keyGroup+k.Name, nil)
}

// progress stores up to which name all is written, with what else is to be written.
func (st *staging) progress(ctx context.Context, last string, also func(store.Tx) error) error {
	return st.update(ctx, func(tx store.Tx, rec *jobRecord, _ *resource.Vault) error {
		rec.Work.Last, rec.Work.Attempts, rec.Details = last, 0, ""
		err := st.keepContent(tx, rec)
		if also != nil {
			err = errors.Join(err, also(tx))
		}
		return err
	})
}

// schedule puts in place what is due for the keys that were restored, and gives the HSM back to its users. From here on nothing leads
// back, so the job goes on until it is done.
func (l *lease) schedule(ctx context.Context, v *resource.Vault, after string) error {
	for {
		next, err := l.s.keys.ScheduleKeys(ctx, v, after)
		if err != nil {
			return err
		}
		if next == "" {
			break
		}
		after = next
		err = l.update(ctx, func(_ store.Tx, rec *jobRecord, _ *resource.Vault) error {
			rec.Work.Last = after
			return nil
		})
		if err != nil {
			return err
		}
	}
	return l.succeed(ctx, v, func(tx store.Tx, _ *jobRecord, v *resource.Vault) error { return v.SetRestoring(tx, "") })
}
